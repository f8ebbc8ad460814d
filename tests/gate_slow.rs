//! A thousand connections of every kind that dawdle (promise 36), all of them at once. Prints its
//! figures; run it alone: `cargo test --release --test gate_slow -- --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use support::free_port;
use support::gateway::Gateway;
use support::web::{Client, Web};

/// Connections of each kind.
const EACH: usize = 1_000;
/// An octet each.
const DRIP: Duration = Duration::from_secs(5);
/// How long who is well-behaved waits, of a hundred times.
const CANARY: Duration = Duration::from_millis(200);
/// Participants, so that their list is long.
const LISTED: usize = 60;
/// Lists that one who does not read asks for: more than the systems of both sides take.
const ASKED: usize = 5;
/// So many of them come at a time.
const AT_ONCE: usize = 20;

/// How somebody dawdles.
#[derive(Clone, Debug)]
struct Kind {
    name: &'static str,
    to: SocketAddr,
    /// What is sent at once.
    first: Vec<u8>,
    /// What is sent octet by octet.
    rest: &'static [u8],
    /// Its answer is read octet by octet.
    unread: bool,
    /// All are closed, or answered 408, by then.
    most: Duration,
}

struct Dawdler {
    kind: usize,
    stream: TcpStream,
    sent: usize,
    ended: Option<Duration>,
}

#[test]
fn promise_36_a_thousand_of_every_kind_that_dawdle_are_closed_in_time_and_hold_up_nobody() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let plain = free_port();
    let gateway = Gateway::with_conferences(
        &[],
        &format!("plain_listen = [\"127.0.0.1:{plain}\"]"),
        &[&["Hall", "--alias", "hall"]],
    );
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let web = Web::plain(at(plain)).from(Ipv4Addr::new(127, 9, 0, 1));
    let members: Vec<Client> =
        (0..LISTED).map(|n| Client::over(&web, "hall", &format!("Member {n}"), "")).collect();
    let list = format!(
        "GET /api/client/v2/conferences/hall/participants HTTP/1.1\r\nHost: x\r\ntoken: {}\r\n\r\n",
        members[0].token
    );
    let seconds = Duration::from_secs;
    let kind = |name, to, first: &[u8], rest, most| Kind {
        name,
        to: at(to),
        first: first.to_vec(),
        rest,
        unread: false,
        most: seconds(most),
    };
    // A record of TLS, a head, a body and a message that never end, and answers that nobody takes.
    let hello = [22, 3, 1, 1, 0, 1];
    let kinds = [
        kind("HTTPS handshake", gateway.web, &hello, b"1", 7),
        kind("HTTP head", plain, b"GET /api/client/v2/status HTTP/1.1\r\n", b"X: y\r\n", 12),
        kind(
            "HTTP body",
            plain,
            b"POST /api/client/v2/conferences/hall/request_token HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n",
            b"{",
            12,
        ),
        kind("SIP TCP", gateway.sip, b"OPTIONS sip:x SIP/2.0\r\n", b"V: y\r\n", 12),
        kind("SIP TLS", gateway.tls, &hello, b"1", 7),
        Kind { unread: true, ..kind("HTTP answer", plain, list.repeat(ASKED).as_bytes(), b"", 25) },
    ];

    let begun = Instant::now();
    let mut dawdlers: Vec<Dawdler> = Vec::new();
    // Each kind is timed from when the last of it had come.
    let mut since = Vec::new();
    for (kind, how) in kinds.iter().enumerate().filter(|(_, how)| !how.unread) {
        dawdlers.extend((0..EACH).map(|n| Dawdler::new(kind, how, n)));
        since.push(Instant::now());
    }
    since.push(Instant::now());
    let opened = begun.elapsed();
    let mut canaries = Canaries::new(&gateway);
    let mut dripped = Instant::now();
    while dawdlers.iter().any(|it| it.ended.is_none()) && begun.elapsed() < seconds(40) {
        // Answers are work: those who ask for them come one after the other.
        let unread = dawdlers.len() - (kinds.len() - 1) * EACH;
        if unread < EACH {
            let (kind, how) = (kinds.len() - 1, &kinds[kinds.len() - 1]);
            dawdlers.extend((unread..unread + AT_ONCE).map(|n| Dawdler::new(kind, how, n)));
            since[kind] = Instant::now();
        }
        let drips = dripped.elapsed() >= DRIP;
        if drips {
            dripped = Instant::now();
        }
        // Who does not read does not see the end.
        let none_left = unread >= EACH && standing(&gateway) == 0;
        for dawdler in dawdlers.iter_mut().filter(|it| it.ended.is_none()) {
            let kind = &kinds[dawdler.kind];
            if dawdler.is_over(kind, drips) || kind.unread && none_left {
                dawdler.ended = Some(since[dawdler.kind].elapsed());
            }
        }
        for _ in 0..4 {
            canaries.sing();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{} connections opened in {opened:.1?}", dawdlers.len());
    let ends = kinds.iter().enumerate().map(|(at, kind)| {
        let of_kind = dawdlers.iter().filter(|it| it.kind == at);
        let mut ends: Vec<Duration> = of_kind.map(|it| it.ended.unwrap_or(Duration::MAX)).collect();
        ends.sort();
        println!(
            "{}: half of {} ended after {:.1?}, the last after {:.1?}",
            kind.name,
            ends.len(),
            ends[EACH / 2],
            ends[EACH - 1]
        );
        (kind, ends[EACH - 1])
    });
    let ends: Vec<(&Kind, Duration)> = ends.collect();
    for (name, waits) in [("HTTPS", &mut canaries.web), ("SIP", &mut canaries.sip)] {
        waits.sort();
        let (p99, longest) = (waits[waits.len() * 99 / 100], waits[waits.len() - 1]);
        println!("{name}: {} asked, p99 {p99:.1?}, all {longest:.1?}", waits.len());
        assert!(waits.len() >= 100 && p99 <= CANARY, "{name}: {} asked, p99 {p99:?}", waits.len());
    }
    for (kind, last) in ends {
        assert!(last <= kind.most, "{}: the last ended after {last:?}", kind.name);
    }
    drop(members);
}

/// Connections to the listeners for clients.
fn standing(gateway: &Gateway) -> u64 {
    let status = gateway.status();
    let web = status["signalling"].as_array().unwrap().iter().find(|it| it["protocol"] == "web").unwrap();
    web["connections"].as_u64().unwrap()
}

/// Each list is some 40 KiB: a narrow reader's system takes none of it.
fn connect(kind: &Kind, from: Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    if kind.unread {
        socket.set_recv_buffer_size(4_096).unwrap();
    }
    socket.connect(&kind.to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(&kind.first).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

impl Dawdler {
    /// The `n`th of a kind; fifty of each share an address.
    fn new(kind: usize, how: &Kind, n: usize) -> Self {
        let from = Ipv4Addr::new(127, 8, 0, u8::try_from(n / 50 + 1).unwrap());
        Self { kind, stream: connect(how, from), sent: 0, ended: None }
    }

    /// Whether it has been closed, or told that it took too long; it does its bit when it `drips`.
    fn is_over(&mut self, kind: &Kind, drips: bool) -> bool {
        let mut answer = [0; 1024];
        if kind.unread {
            let _ = drips.then(|| self.stream.read(&mut answer[..1]));
            return false;
        }
        if drips {
            let octet = kind.rest[self.sent % kind.rest.len()];
            self.sent += 1;
            if self.stream.write_all(&[octet]).is_err() {
                return true;
            }
        }
        let read = self.stream.read(&mut answer);
        closed(read) || answer.starts_with(b"HTTP/1.1 408")
    }
}

fn closed(read: std::io::Result<usize>) -> bool {
    match read {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Those who behave, and how long they wait.
struct Canaries {
    https: Web,
    socket: UdpSocket,
    asked: usize,
    web: Vec<Duration>,
    sip: Vec<Duration>,
}

impl Canaries {
    fn new(gateway: &Gateway) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 9, 0, 2), 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, gateway.sip)).unwrap();
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let https = Web::of(gateway).from(Ipv4Addr::new(127, 9, 0, 3));
        Self { https, socket, asked: 0, web: Vec::new(), sip: Vec::new() }
    }

    fn sing(&mut self) {
        let begun = Instant::now();
        assert_eq!(self.https.request("GET /api/client/v2/status", "", "").unwrap().code, 200);
        self.web.push(begun.elapsed());
        let here = self.socket.local_addr().unwrap();
        self.asked += 1;
        let options = format!(
            "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK-{n};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:canary@{here}>;tag=a\r\nTo: <sip:127.0.0.1>\r\n\
             Call-ID: canary-{n}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            n = self.asked
        );
        let begun = Instant::now();
        self.socket.send(options.as_bytes()).unwrap();
        let mut answer = [0; 2_048];
        let count = self.socket.recv(&mut answer).unwrap();
        assert!(answer[..count].starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&answer[..count]));
        self.sip.push(begun.elapsed());
    }
}
