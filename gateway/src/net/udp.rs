//! Datagram sockets of the driver.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::driver::{Ingress, Stats};
use crate::guard::Gate;

/// Socket buffers that we ask for: 300 registrations a second survive a pause of seconds. The
/// system may give less.
const SOCKET_BUFFER: usize = 4 << 20;

/// Datagrams of one batch: one wake of the driver serves them all.
const BATCH: usize = 32;

/// The largest datagram there is.
const DATAGRAM: usize = 65_535;

/// Reads go into chunks of this size; a chunk is freed when its last datagram was handled.
const CHUNK: usize = 4 * DATAGRAM;

/// Datagrams that wait while the socket's buffer is full. Overflow: the newest is dropped and
/// counted (`datagrams_dropped`); SIP sends it again.
const SEND_QUEUE: usize = 256;

/// After a failing read: the socket is not asked again at once.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// Datagrams of one socket.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) local: SocketAddr,
    pub(super) datagrams: Vec<(SocketAddr, Bytes)>,
}

/// Without `SO_REUSEADDR`: on Linux a second gateway could otherwise take the same port and half
/// of the datagrams.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: the system's maximum may be lower.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket that is read by one task and written by the driver.
#[derive(Debug)]
pub(super) struct Udp {
    socket: Arc<UdpSocket>,
    overflow: mpsc::Sender<(SocketAddr, Bytes)>,
    stats: Arc<Stats>,
}

impl Udp {
    /// Starts its reader among `readers` and its late sender among `senders`.
    pub(super) fn start(
        socket: std::net::UdpSocket,
        ingress: mpsc::Sender<Ingress>,
        gate: Option<Gate>,
        stats: &Arc<Stats>,
        readers: &mut JoinSet<()>,
        senders: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let (overflow, waiting) = mpsc::channel(SEND_QUEUE);
        readers.spawn(read(Arc::clone(&socket), local, ingress, gate, Arc::clone(stats)));
        senders.spawn(send_late(Arc::clone(&socket), waiting, Arc::clone(stats)));
        Ok(Self { socket, overflow, stats: Arc::clone(stats) })
    }

    /// Sends, or queues while the socket is full. Never waits.
    pub(super) fn send(&self, to: SocketAddr, data: Bytes) {
        match self.socket.try_send_to(&data, to) {
            Ok(_) => self.stats.datagrams_sent.add(1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.overflow.try_send((to, data)).is_err() {
                    self.stats.datagrams_dropped.add(1);
                }
            }
            Err(error) => {
                self.stats.datagrams_failed.add(1);
                tracing::debug!(%to, %error, "datagram not sent");
            }
        }
    }
}

async fn read(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    ingress: mpsc::Sender<Ingress>,
    gate: Option<Gate>,
    stats: Arc<Stats>,
) {
    let mut buffer = BytesMut::new();
    loop {
        if let Err(error) = fill(&socket, local, &mut buffer, &ingress, gate.as_ref(), &stats).await {
            tracing::warn!(%local, %error, "datagrams cannot be read");
            tokio::time::sleep(READ_PAUSE).await;
        } else if ingress.is_closed() {
            return;
        }
    }
}

/// Reads what is there, at most [`BATCH`], and hands it over. Waits while the driver is behind: the
/// system's buffer then fills and drops.
async fn fill(
    socket: &UdpSocket,
    local: SocketAddr,
    buffer: &mut BytesMut,
    ingress: &mpsc::Sender<Ingress>,
    gate: Option<&Gate>,
    stats: &Stats,
) -> io::Result<()> {
    socket.readable().await?;
    let mut datagrams = Vec::new();
    let mut fault = None;
    for _ in 0..BATCH {
        if buffer.capacity() - buffer.len() < DATAGRAM {
            buffer.reserve(CHUNK);
        }
        match socket.try_recv_buf_from(buffer) {
            Ok((_, from)) if gate.is_none_or(|gate| gate.reads(from, buffer)) => {
                datagrams.push((from, buffer.split().freeze()));
            }
            // Its place is the next one's.
            Ok(_) => {
                stats.datagrams_unread.add(1);
                buffer.clear();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    if !datagrams.is_empty() {
        stats.datagrams_received.add(datagrams.len() as u64);
        // An error means that the driver has stopped, which the caller sees.
        let _ = ingress.send(Ingress::Datagrams(Batch { local, datagrams })).await;
    }
    fault.map_or(Ok(()), Err)
}

/// Sends what the full socket could not take; ends with the driver, after the last datagram.
async fn send_late(
    socket: Arc<UdpSocket>,
    mut waiting: mpsc::Receiver<(SocketAddr, Bytes)>,
    stats: Arc<Stats>,
) {
    while let Some((to, data)) = waiting.recv().await {
        match socket.send_to(&data, to).await {
            Ok(_) => stats.datagrams_sent.add(1),
            Err(_) => stats.datagrams_failed.add(1),
        }
    }
}
