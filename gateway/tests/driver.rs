//! The driver around a machine that tells what it saw and does what it is told, over real loopback
//! sockets. Nothing here waits for time to pass; [`HANG`] only bounds a test that would hang.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use crosspoint_gateway::config::Listen;
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::driver::{Driver, Settings, Sockets};
use crosspoint_gateway::net::tls::{Certificates, Tls, Trust};
use crosspoint_proto::{ConnId, Input, Instant, Now, Output, SansIo, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

const HANG: Duration = Duration::from_secs(20);

#[derive(Debug)]
enum Do {
    Output(Output<Saw>),
    Alarm(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Saw {
    Datagram(SocketAddr, Bytes),
    Connected(ConnId, Transport),
    Stream(ConnId, Bytes),
    Closed(ConnId),
    Alarm,
}

/// Echoes datagrams and streams when told to.
#[derive(Default)]
struct Machine {
    echo: bool,
    outputs: VecDeque<Output<Saw>>,
    alarm: Option<Instant>,
}

impl SansIo for Machine {
    type Command = Do;
    type Event = Saw;
    type Error = Infallible;

    fn handle_input(&mut self, _: Now, input: Input<'_>) -> Result<(), Infallible> {
        let saw = match input {
            Input::Datagram { local, from, data } => {
                let data = Bytes::copy_from_slice(data);
                if self.echo {
                    self.outputs.push_back(Output::Datagram { local, to: from, data: data.clone() });
                }
                Saw::Datagram(from, data)
            }
            Input::Connected { conn, transport, .. } => Saw::Connected(conn, transport),
            Input::Stream { conn, data } => {
                let data = Bytes::copy_from_slice(data);
                if self.echo {
                    self.outputs.push_back(Output::Stream { conn, data: data.clone() });
                }
                Saw::Stream(conn, data)
            }
            Input::Closed { conn } => Saw::Closed(conn),
            Input::Timeout => {
                self.alarm = None;
                Saw::Alarm
            }
        };
        self.outputs.push_back(Output::Event(saw));
        Ok(())
    }

    fn command(&mut self, now: Now, command: Do) -> Result<(), Infallible> {
        match command {
            Do::Output(output) => self.outputs.push_back(output),
            Do::Alarm(after) => self.alarm = Some(now.mono + after),
        }
        Ok(())
    }

    fn poll_output(&mut self) -> Output<Saw> {
        self.outputs.pop_front().unwrap_or(Output::Timeout(self.alarm))
    }
}

struct Node {
    driver: Driver<Do>,
    events: mpsc::Receiver<Saw>,
    listening: Vec<Listen>,
}

impl Node {
    fn start(listen: &[&str], echo: bool) -> Self {
        Self::with(listen, echo, 1024, settings(None))
    }

    fn with(listen: &[&str], echo: bool, events: usize, settings: Settings) -> Self {
        let listen: Vec<Listen> = listen.iter().map(|text| text.parse().unwrap()).collect();
        let sockets = Sockets::bind(&listen, settings).unwrap();
        let listening = sockets.listening().to_vec();
        let (sender, events) = mpsc::channel(events);
        let machine = Machine { echo, ..Machine::default() };
        Self { driver: sockets.drive(machine, Clock::start(), sender).unwrap(), events, listening }
    }

    fn address(&self) -> SocketAddr {
        self.listening[0].address
    }

    async fn tell(&self, output: Output<Saw>) {
        self.driver.commands().send(Do::Output(output)).await.unwrap();
    }

    async fn saw(&mut self) -> Saw {
        tokio::time::timeout(HANG, self.events.recv()).await.expect("hangs").expect("driver ended")
    }

    /// Collects a stream until so many bytes came.
    async fn bytes(&mut self, conn: ConnId, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.saw().await {
                Saw::Stream(from, data) if from == conn => all.extend_from_slice(&data),
                other => panic!("{other:?} after {} bytes", all.len()),
            }
        }
        all
    }
}

fn settings(tls: Option<Tls>) -> Settings {
    let origins = vec!["https://phones.example".parse().unwrap()];
    Settings {
        option: "sip.listen",
        connections: 100,
        connections_per_source: 100,
        origins,
        tls,
        gate: None,
        handshakes: None,
    }
}

fn connect(conn: u64, to: SocketAddr, transport: Transport, name: Option<&str>) -> Output<Saw> {
    Output::Connect { conn: ConnId(conn), to, transport, name: name.map(Into::into) }
}

/// Bytes in which a hole or a swap would show.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// What comes until the far end closes properly: a reset is a failure.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(HANG, stream.read_to_end(&mut all)).await.expect("hangs");
    read.expect("closed, not reset");
    all
}

#[tokio::test]
async fn datagrams_come_and_go() {
    let mut node = Node::start(&["udp:127.0.0.1:0", "udp:[::1]:0"], true);
    for listen in node.listening.clone() {
        let peer = UdpSocket::bind(SocketAddr::new(listen.address.ip(), 0)).await.unwrap();
        peer.send_to(b"hello", listen.address).await.unwrap();
        assert_eq!(node.saw().await, Saw::Datagram(peer.local_addr().unwrap(), Bytes::from_static(b"hello")));
        let mut buffer = [0; 16];
        let (length, from) = peer.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (&b"hello"[..], listen.address));
    }
    assert_eq!(node.driver.stats().datagrams_received.count(), 2);
    node.driver.stop().await;
}

#[tokio::test]
async fn two_machines_talk_over_tcp_and_each_end_is_told_once() {
    let mut server = Node::start(&["tcp:127.0.0.1:0"], true);
    let mut client = Node::start(&[], false);
    client.tell(connect(1, server.address(), Transport::Tcp, None)).await;
    let conn = ConnId(1);
    assert_eq!(client.saw().await, Saw::Connected(conn, Transport::Tcp));
    assert_eq!(server.saw().await, Saw::Connected(ConnId(0), Transport::Tcp));
    let sent = pattern(200_000);
    client.tell(Output::Stream { conn, data: sent.clone().into() }).await;
    assert_eq!(client.bytes(conn, sent.len()).await, sent);
    assert_eq!(server.bytes(ConnId(0), sent.len()).await, sent);
    // What was sent before the close arrives before it; who closed hears nothing more of it.
    client.tell(Output::Stream { conn, data: sent.clone().into() }).await;
    client.tell(Output::Close { conn }).await;
    assert_eq!(server.bytes(ConnId(0), sent.len()).await, sent);
    assert_eq!(server.saw().await, Saw::Closed(ConnId(0)));
    client.tell(connect(3, server.address(), Transport::Tcp, None)).await;
    assert_eq!(client.saw().await, Saw::Connected(ConnId(3), Transport::Tcp));
    assert_eq!(server.saw().await, Saw::Connected(ConnId(2), Transport::Tcp));
    // The listener's port is free once it has stopped, and its peer is told.
    let address = server.address();
    server.driver.stop().await;
    assert_eq!(client.saw().await, Saw::Closed(ConnId(3)));
    let again = Node::start(&[&format!("tcp:{address}")], false);
    again.driver.stop().await;
    client.driver.stop().await;
}

#[tokio::test]
async fn a_connection_that_never_stands_is_told_closed() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = Node::start(&[], false);
    client.tell(connect(1, nobody, Transport::Tcp, None)).await;
    assert_eq!(client.saw().await, Saw::Closed(ConnId(1)));
    assert_eq!(client.driver.stats().connects_failed.count(), 1);
}

#[tokio::test]
async fn tls_checks_the_name_and_takes_a_new_certificate_while_it_runs() {
    let folder = Scratch::new("tls");
    let names = ["gateway.example".to_owned()];
    let certificates = Certificates::load_or_make(&folder.0, &names, &[], SystemTime::now()).unwrap();
    let tls = Tls::new(certificates.clone(), &Trust::File(certificates.path().into())).unwrap();
    let mut server = Node::with(&["tls:127.0.0.1:0"], true, 64, settings(Some(tls.clone())));
    let mut client = Node::with(&[], false, 64, settings(Some(tls)));
    for (conn, name) in [(1, Some("gateway.example")), (3, None)] {
        client.tell(connect(conn, server.address(), Transport::Tls, name)).await;
        assert_eq!(client.saw().await, Saw::Connected(ConnId(conn), Transport::Tls));
        let sent = pattern(100_000);
        client.tell(Output::Stream { conn: ConnId(conn), data: sent.clone().into() }).await;
        assert_eq!(client.bytes(ConnId(conn), sent.len()).await, sent);
        while server.events.try_recv().is_ok() {}
    }
    client.tell(connect(5, server.address(), Transport::Tls, Some("other.example"))).await;
    assert_eq!(client.saw().await, Saw::Closed(ConnId(5)));

    let trusted = folder.0.join("trusted.pem");
    std::fs::copy(certificates.path(), &trusted).unwrap();
    // Another pair of files in its place: new connections get it, and whoever trusted the old one
    // refuses. Connections that stand go on.
    assert!(!certificates.reload().unwrap(), "nothing changed");
    let other = Scratch::new("tls-other");
    let before = certificates.certificate().unwrap();
    Certificates::load_or_make(&other.0, &names, &[], SystemTime::now()).unwrap();
    for file in ["key.pem", "certificate.pem"] {
        std::fs::copy(other.0.join(file), folder.0.join(file)).unwrap();
        touch_later(&folder.0.join(file));
    }
    assert!(certificates.reload().unwrap());
    assert_ne!(certificates.certificate().unwrap(), before);
    let tls = Tls::new(certificates, &Trust::File(trusted)).unwrap();
    let mut stranger = Node::with(&[], false, 64, settings(Some(tls)));
    stranger.tell(connect(1, server.address(), Transport::Tls, Some("gateway.example"))).await;
    assert_eq!(stranger.saw().await, Saw::Closed(ConnId(1)));
    client.tell(Output::Stream { conn: ConnId(1), data: Bytes::from_static(b"still here") }).await;
    assert_eq!(client.bytes(ConnId(1), 10).await, b"still here");
    server.driver.stop().await;
    client.driver.stop().await;
}

#[tokio::test]
async fn a_broken_certificate_is_told_and_the_old_one_stays() {
    let folder = Scratch::new("tls-broken");
    let certificates = Certificates::load_or_make(&folder.0, &[], &[], SystemTime::now()).unwrap();
    let before = certificates.certificate();
    let file = folder.0.join("certificate.pem");
    std::fs::write(&file, "no certificate at all").unwrap();
    let error = Certificates::load(&file, &folder.0.join("key.pem")).unwrap_err();
    assert!(error.to_string().contains("certificate.pem"), "{error}");
    touch_later(&file);
    certificates.reload().unwrap_err();
    assert_eq!(certificates.certificate(), before);
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_has_a_deadline() {
    let folder = Scratch::new("tls-slow");
    let certificates = Certificates::load_or_make(&folder.0, &[], &[], SystemTime::now()).unwrap();
    let tls = Tls::new(certificates, &Trust::Anybody).unwrap();
    let server = Node::with(&["tls:127.0.0.1:0"], false, 64, settings(Some(tls)));
    // Time moves when nobody has anything to do: the peer says nothing and is closed.
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(server.driver.stats().handshakes_failed.count(), 1);
}

#[test]
fn a_port_in_use_names_the_port_and_the_option() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let listen: Listen = format!("udp:127.0.0.1:{port}").parse().unwrap();
    let told = Sockets::bind(&[listen], settings(None)).unwrap_err().to_string();
    let expected = format!(
        "udp:127.0.0.1:{port} is in use: stop the program that has port {port}, or choose another port (option \
         sip.listen)"
    );
    assert_eq!(told, expected);
    let foreign: Listen = "tcp:192.0.2.1:5060".parse().unwrap();
    let told = Sockets::bind(&[foreign], settings(None)).unwrap_err().to_string();
    assert!(told.contains("not one of this machine"), "{told}");
}

#[tokio::test]
async fn connections_over_the_limits_are_closed_at_once() {
    let limits = Settings { connections: 3, connections_per_source: 2, ..settings(None) };
    let mut server = Node::with(&["tcp:127.0.0.1:0"], true, 64, limits);
    let mut first = TcpStream::connect(server.address()).await.unwrap();
    let _second = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(server.saw().await, Saw::Connected(ConnId(0), Transport::Tcp));
    assert_eq!(server.saw().await, Saw::Connected(ConnId(2), Transport::Tcp));
    let mut third = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(until_closed(&mut third).await, b"");
    assert_eq!(server.driver.stats().connections_refused.count(), 1);
    // Another source has room, one more in all; then the total is reached.
    let to = server.address();
    let from = |ip: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
        socket.connect(to)
    };
    let _other = from("127.0.0.2").await.unwrap();
    assert_eq!(server.saw().await, Saw::Connected(ConnId(4), Transport::Tcp));
    let mut fifth = from("127.0.0.3").await.unwrap();
    assert_eq!(until_closed(&mut fifth).await, b"");
    first.write_all(b"x").await.unwrap();
    assert_eq!(first.read(&mut [0; 8]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_and_counted() {
    let mut server = Node::start(&["tcp:127.0.0.1:0"], false);
    let _peer = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(server.saw().await, Saw::Connected(ConnId(0), Transport::Tcp));
    let piece = Bytes::from(vec![0; 256 * 1024]);
    for _ in 0..400 {
        server.tell(Output::Stream { conn: ConnId(0), data: piece.clone() }).await;
    }
    assert_eq!(server.saw().await, Saw::Closed(ConnId(0)));
    assert_eq!(server.driver.stats().write_overflows.count(), 1);
}

#[tokio::test]
async fn timers_fire_and_move() {
    let mut node = Node::start(&[], false);
    node.driver.commands().send(Do::Alarm(Duration::from_secs(3600))).await.unwrap();
    node.driver.commands().send(Do::Alarm(Duration::from_millis(1))).await.unwrap();
    assert_eq!(node.saw().await, Saw::Alarm);
    node.driver.commands().send(Do::Alarm(Duration::ZERO)).await.unwrap();
    assert_eq!(node.saw().await, Saw::Alarm);
}

#[tokio::test]
async fn an_owner_that_takes_no_events_can_still_command() {
    let mut node = Node::with(&["udp:127.0.0.1:0"], true, 1, settings(None));
    let (local, peer) = (node.address(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let to = peer.local_addr().unwrap();
    // More than any queue holds, while nobody takes events.
    for _ in 0..5000 {
        node.tell(Output::Event(Saw::Alarm)).await;
    }
    node.tell(Output::Datagram { local, to, data: Bytes::from_static(b"out") }).await;
    let mut buffer = [0; 8];
    let (length, _) = tokio::time::timeout(HANG, peer.recv_from(&mut buffer)).await.expect("hangs").unwrap();
    assert_eq!(&buffer[..length], b"out");
    assert_eq!(node.driver.stats().event_stalls.count(), 1);
    for _ in 0..5000 {
        assert_eq!(node.saw().await, Saw::Alarm);
    }
    peer.send_to(b"in", local).await.unwrap();
    assert_eq!(node.saw().await, Saw::Datagram(to, Bytes::from_static(b"in")));
}

#[tokio::test]
async fn a_stop_executes_what_waits_and_lets_it_leave() {
    let mut node = Node::start(&["tcp:127.0.0.1:0", "udp:127.0.0.1:0"], false);
    let mut peer = TcpStream::connect(node.address()).await.unwrap();
    assert_eq!(node.saw().await, Saw::Connected(ConnId(0), Transport::Tcp));
    let sent = pattern(300_000);
    node.tell(Output::Stream { conn: ConnId(0), data: sent.clone().into() }).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bye = Bytes::from_static(b"bye");
    let to = udp.local_addr().unwrap();
    node.tell(Output::Datagram { local: node.listening[1].address, to, data: bye }).await;
    let (received, ()) = tokio::join!(until_closed(&mut peer), node.driver.stop());
    assert_eq!(received, sent);
    let mut buffer = [0; 8];
    assert_eq!(udp.recv(&mut buffer).await.unwrap(), 3);
}

#[tokio::test]
async fn our_last_answer_survives_bytes_that_we_did_not_read() {
    let mut server = Node::start(&["tcp:127.0.0.1:0"], false);
    let mut peer = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(server.saw().await, Saw::Connected(ConnId(0), Transport::Tcp));
    server.tell(Output::Stream { conn: ConnId(0), data: Bytes::from_static(b"400") }).await;
    server.tell(Output::Close { conn: ConnId(0) }).await;
    peer.write_all(&vec![0; 100_000]).await.unwrap();
    assert_eq!(until_closed(&mut peer).await, b"400");
}

fn touch_later(file: &std::path::Path) {
    let later = SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().append(true).open(file).unwrap().set_modified(later).unwrap();
}

/// A folder of this test, removed at its end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("crosspoint-driver-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
