//! Connections of the driver, with or without TLS and WebSocket: accepting, opening, serving, limits.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crosspoint_proto::{ConnId, Transport};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::driver::{Ingress, Stats};
use super::pieces::Pieces;
use super::spare::{BUSY, Spare};
use super::tls::{Tls, server_name};
use super::websocket::{self, WebSocket};
use crate::config::PageOrigin;
use crate::guard::Gate;

/// A TLS handshake must be complete by then, ours and theirs; one of WebSocket as long after it.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);

/// A TCP connect must be complete by then: SIP's Timer B is 32 s, and other addresses want a turn.
const CONNECT: Duration = Duration::from_secs(5);

/// A peer that takes nothing for so long is gone.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(10);

/// How long the peer's last bytes are read and dropped after our last: closing with unread bytes
/// would reset the connection and could destroy our last answer on its way.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The system probes silent peers after this time, every [`KEEPALIVE_INTERVAL`].
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// After accept failed for want of descriptors or memory: it is not asked again at once.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Connections that the system holds for us.
const BACKLOG: i32 = 1024;

/// Who is read slower is looked at again after so long, within these.
pub(super) const SLOWEST_LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Bytes read at once.
const READ: usize = 16 * 1024;

/// Bytes, and pieces, that wait to be written to one connection. Overflow: the connection is closed
/// and counted (`write_overflows`), for a stream with a hole is worth nothing.
const WRITE_QUEUE_BYTES: usize = 512 * 1024;
const WRITE_QUEUE: usize = 512;

/// Who may have how many connections: counted before anything is allocated for one.
#[derive(Debug)]
pub(crate) struct Admission {
    most: usize,
    most_per_source: usize,
    state: Mutex<Admitted>,
}

#[derive(Debug, Default)]
struct Admitted {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Room for one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    admission: Arc<Admission>,
    source: Option<IpAddr>,
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Total,
    Source,
}

impl Admission {
    pub(crate) fn new(most: usize, most_per_source: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_source, state: Mutex::default() })
    }

    /// Room for a connection from `source`, or for one of our own.
    pub(crate) fn admit(self: &Arc<Self>, source: Option<IpAddr>) -> Result<Room, Full> {
        let source = source.map(source_key);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.total >= self.most {
            return Err(Full::Total);
        }
        if let Some(source) = source {
            let count = state.by_source.entry(source).or_insert(0);
            if *count >= self.most_per_source {
                return Err(Full::Source);
            }
            *count += 1;
        }
        state.total += 1;
        Ok(Room { admission: Arc::clone(self), source })
    }
}

impl Room {
    /// A connection that came through a proxy is counted to whom it is for, once that is known.
    pub(crate) fn count_to(&mut self, source: IpAddr) -> Result<(), Full> {
        let source = source_key(source);
        let mut state = self.admission.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.by_source.entry(source).or_insert(0);
        if *count >= self.admission.most_per_source {
            return Err(Full::Source);
        }
        *count += 1;
        drop(state);
        self.source = Some(source);
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.total -= 1;
        if let Some(source) = self.source
            && let Some(count) = state.by_source.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                state.by_source.remove(&source);
            }
        }
    }
}

/// One customer: an IPv4 address, or an IPv6 /64.
pub(crate) fn source_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// A stream that stands.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Ws(Box<WebSocket<TcpStream>>),
    Wss(Box<WebSocket<TlsStream<TcpStream>>>),
}

/// What a listener asks of who connects, before the machine hears of him.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) transport: Transport,
    /// For transports within TLS.
    pub(super) tls: Option<Tls>,
    /// From where pages may come. Empty: from anywhere.
    pub(super) origins: Arc<[PageOrigin]>,
    /// Where what it asks for is worked out.
    pub(super) handshakes: Handle,
}

impl Door {
    async fn open(self, stream: TcpStream) -> Result<Stream, String> {
        let framed = self.transport.is_framed();
        let Some(tls) = self.tls else {
            if framed {
                return websocket::accept(stream, self.origins).await.map(|it| Stream::Ws(Box::new(it)));
            }
            return Ok(Stream::Tcp(stream));
        };
        let handshake = timeout(HANDSHAKE, TlsAcceptor::from(tls.server).accept(stream)).await;
        let stream: TlsStream<TcpStream> = match handshake {
            Ok(Ok(stream)) => stream.into(),
            failed => return Err(why(failed)),
        };
        if framed {
            return websocket::accept(stream, self.origins).await.map(|it| Stream::Wss(Box::new(it)));
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// An accepted connection on its way to the driver.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    pub(super) room: Room,
}

pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the former life to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until it is aborted. A connection over a limit is closed before anything is said, and so is one
/// that the system has no descriptor for.
pub(super) async fn accept(
    listener: TcpListener,
    door: Door,
    gate: Option<Gate>,
    admission: Arc<Admission>,
    ingress: mpsc::Sender<Ingress>,
    stats: Arc<Stats>,
) {
    let mut spare = Spare::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                stats.accept_errors.add(1);
                tracing::warn!(%error, "connections cannot be accepted for the moment");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                // Who comes by WebSocket has begun with HTTP.
                let last_word = if door.transport == Transport::Ws { BUSY } else { b"" };
                stats.connections_refused.add(spare.turn_away(&listener, last_word).await);
                continue;
            }
        };
        if gate.as_ref().is_some_and(|gate| !gate.accepts(peer)) {
            stats.connections_refused.add(1);
            continue;
        }
        let room = match admission.admit(Some(peer.ip())) {
            Ok(room) => room,
            Err(full) => {
                stats.connections_refused.add(1);
                tracing::debug!(%peer, ?full, "connection refused: limit reached");
                continue;
            }
        };
        prepare(&stream);
        // One task each: a slow handshake delays nobody, and all of them are within the limits.
        let greeted = greet(stream, peer, door.clone(), room, ingress.clone(), Arc::clone(&stats));
        door.handshakes.spawn(greeted);
    }
}

/// Faults that concern only the connection that was about to be accepted.
pub(crate) fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn greet(
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    room: Room,
    ingress: mpsc::Sender<Ingress>,
    stats: Arc<Stats>,
) {
    let Ok(local) = stream.local_addr() else { return };
    let transport = door.transport;
    // The driver is gone: so are its connections.
    let opened = tokio::select! {
        opened = door.open(stream) => opened,
        () = ingress.closed() => return,
    };
    let stream = match opened {
        Ok(stream) => stream,
        Err(reason) => {
            stats.handshakes_failed.add(1);
            tracing::debug!(%peer, ?transport, reason, "handshake failed");
            return;
        }
    };
    let _ = ingress.send(Ingress::Accepted(Accepted { stream, local, peer, transport, room })).await;
}

/// Opens a connection.
pub(super) async fn connect(
    to: SocketAddr,
    transport: Transport,
    name: Option<String>,
    tls: Option<Tls>,
) -> io::Result<(Stream, SocketAddr)> {
    let late = |what| io::Error::new(io::ErrorKind::TimedOut, format!("{what} took too long"));
    let stream = timeout(CONNECT, TcpStream::connect(to)).await.map_err(|_| late("TCP connect"))??;
    prepare(&stream);
    let local = stream.local_addr()?;
    if transport != Transport::Tls {
        return Ok((Stream::Tcp(stream), local));
    }
    let tls = tls.ok_or_else(|| io::Error::other("TLS is not set up"))?;
    let client = tls.client_for(name.as_deref(), to);
    let name = server_name(name.as_deref(), to).ok_or_else(|| io::Error::other("not a name for TLS"))?;
    let stream = timeout(HANDSHAKE, TlsConnector::from(client).connect(name, stream))
        .await
        .map_err(|_| late("TLS handshake"))??;
    Ok((Stream::Tls(Box::new(stream.into())), local))
}

/// Small messages leave at once, and a peer that vanished is noticed.
pub(crate) fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

fn why<T>(failed: Result<io::Result<T>, tokio::time::error::Elapsed>) -> String {
    match failed {
        Ok(Ok(_)) => "none".into(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "took too long".into(),
    }
}

/// The driver's end of a connection's write queue. Dropping it closes the connection once what was
/// queued has left.
#[derive(Debug)]
pub(super) struct Outbound {
    queue: mpsc::Sender<Bytes>,
    queued: Arc<AtomicUsize>,
}

/// The connection's end.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: mpsc::Receiver<Bytes>,
    queued: Arc<AtomicUsize>,
}

pub(super) fn write_queue() -> (Outbound, Waiting) {
    let (sender, receiver) = mpsc::channel(WRITE_QUEUE);
    let queued = Arc::new(AtomicUsize::new(0));
    (Outbound { queue: sender, queued: Arc::clone(&queued) }, Waiting { queue: receiver, queued })
}

impl Waiting {
    /// The next piece; `None`: the driver has ended the connection.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.queue.recv().await
    }

    /// So much of it has left.
    pub(super) fn left(&self, octets: usize) {
        self.queued.fetch_sub(octets, Ordering::Relaxed);
    }
}

impl Outbound {
    /// Queues bytes; `false` when there is no room.
    pub(super) fn push(&self, data: Bytes) -> bool {
        let length = data.len();
        // Only this side adds, so that the sum cannot pass the bound between the two steps.
        if self.queued.load(Ordering::Relaxed) + length > WRITE_QUEUE_BYTES {
            return false;
        }
        self.queued.fetch_add(length, Ordering::Relaxed);
        match self.queue.try_send(data) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => false,
            // The connection has ended, and the driver is about to hear it.
            Err(mpsc::error::TrySendError::Closed(_)) => true,
        }
    }
}

/// Moves bytes both ways until one side ends it. Tells the driver, unless the driver ended it.
pub(super) async fn serve(
    stream: Stream,
    conn: ConnId,
    waiting: Waiting,
    ingress: mpsc::Sender<Ingress>,
    gate: Option<(Gate, SocketAddr)>,
) {
    match stream {
        Stream::Tcp(stream) => exchange(stream, conn, waiting, ingress, gate).await,
        Stream::Tls(stream) => exchange(*stream, conn, waiting, ingress, gate).await,
        Stream::Ws(socket) => websocket::exchange(*socket, conn, waiting, ingress, gate).await,
        Stream::Wss(socket) => websocket::exchange(*socket, conn, waiting, ingress, gate).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite,
    conn: ConnId,
    waiting: Waiting,
    ingress: mpsc::Sender<Ingress>,
    gate: Option<(Gate, SocketAddr)>,
) {
    let (mut reader, writer) = tokio::io::split(stream);
    let mut writing = pin!(write(writer, waiting));
    let wrote = {
        let mut reading = pin!(read(&mut reader, conn, &ingress, gate));
        tokio::select! {
            wrote = &mut writing => wrote,
            () = &mut reading => {
                // The peer ended it; the driver drops its end of the queue and the rest is written.
                let _ = ingress.send(Ingress::Closed { conn }).await;
                let _ = writing.await;
                return;
            }
        }
    };
    match wrote {
        Ok(()) => {
            let mut rest = [0; 1024];
            let drain = async { while matches!(reader.read(&mut rest).await, Ok(1..)) {} };
            let _ = timeout(LINGER, drain).await;
        }
        Err(_) => {
            let _ = ingress.send(Ingress::Closed { conn }).await;
        }
    }
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    conn: ConnId,
    ingress: &mpsc::Sender<Ingress>,
    gate: Option<(Gate, SocketAddr)>,
) {
    let (mut buffer, mut pieces) = (BytesMut::with_capacity(READ), Pieces::default());
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        while !buffer.is_empty() {
            let data = buffer.split_to(pieces.next(&buffer)).freeze();
            // A stream loses nothing by waiting: its sender is slowed down.
            while let Some(wait) = gate.as_ref().and_then(|(gate, peer)| gate.slows(*peer, &data)) {
                if gate.as_ref().is_some_and(|(gate, peer)| !gate.accepts(*peer)) {
                    return;
                }
                tokio::time::sleep(wait.clamp(SLOWEST_LOOK.0, SLOWEST_LOOK.1)).await;
            }
            if ingress.send(Ingress::Stream { conn, data }).await.is_err() {
                return;
            }
        }
        buffer.reserve(READ);
    }
}

async fn write(mut stream: impl AsyncWrite + Unpin, mut waiting: Waiting) -> io::Result<()> {
    while let Some(data) = waiting.next().await {
        stall(stream.write_all(&data)).await?;
        waiting.left(data.len());
        if waiting.queue.is_empty() {
            stall(stream.flush()).await?;
        }
    }
    stall(stream.shutdown()).await
}

async fn stall(io: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(WRITE_STALL, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_counted_per_source_and_in_all_and_given_back() {
        let admission = Admission::new(3, 2);
        let source = |text: &str| Some(text.parse().unwrap());
        let first = admission.admit(source("192.0.2.1")).unwrap();
        let _second = admission.admit(source("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.admit(source("192.0.2.1")).unwrap_err(), Full::Source);
        let _third = admission.admit(source("2001:db8::1")).unwrap();
        assert_eq!(admission.admit(None).unwrap_err(), Full::Total);
        drop(first);
        drop(admission.admit(source("192.0.2.1")).unwrap());
        let mut through_a_proxy = admission.admit(None).unwrap();
        through_a_proxy.count_to("192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(admission.admit(source("192.0.2.1")).unwrap_err(), Full::Total);
        drop(through_a_proxy);
        assert_eq!(admission.state.lock().unwrap().by_source.len(), 2, "no source is kept without need");
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let key = |text: &str| source_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:0:1::5"), key("2001:db8:0:1:ffff::1"));
        assert_ne!(key("2001:db8:0:1::5"), key("2001:db8:0:2::5"));
    }

    #[tokio::test]
    async fn a_full_write_queue_says_so() {
        let (outbound, waiting) = write_queue();
        assert!(outbound.push(Bytes::from(vec![0; WRITE_QUEUE_BYTES])));
        assert!(!outbound.push(Bytes::from_static(b"x")));
        drop(waiting);
        let (outbound, _waiting) = write_queue();
        let pushed = (0..2 * WRITE_QUEUE).take_while(|_| outbound.push(Bytes::from_static(b"x"))).count();
        assert_eq!(pushed, WRITE_QUEUE);
    }
}
