//! Datagram sockets of the driver.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
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
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
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
///
/// It is watched for datagrams alone: who watches for room as well is woken each time that one has left.
#[derive(Debug)]
pub(super) struct Udp {
    socket: Arc<AsyncFd<UdpSocket>>,
    overflow: mpsc::Sender<(SocketAddr, Bytes)>,
    stats: Arc<Stats>,
}

impl Udp {
    /// Starts its reader among `readers` and its late sender among `senders`.
    pub(super) fn start(
        socket: UdpSocket,
        ingress: mpsc::Sender<Ingress>,
        gate: Option<Gate>,
        stats: &Arc<Stats>,
        readers: &mut JoinSet<()>,
        senders: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let late = socket.try_clone()?;
        let socket = Arc::new(watch(socket, Interest::READABLE)?);
        let (overflow, waiting) = mpsc::channel(SEND_QUEUE);
        readers.spawn(read(Arc::clone(&socket), local, ingress, gate, Arc::clone(stats)));
        senders.spawn(send_late(late, waiting, Arc::clone(stats)));
        Ok(Self { socket, overflow, stats: Arc::clone(stats) })
    }

    /// Sends, or queues while the socket is full. Never waits.
    pub(super) fn send(&self, to: SocketAddr, data: Bytes) {
        match self.socket.get_ref().send_to(&data, to) {
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
    socket: Arc<AsyncFd<UdpSocket>>,
    local: SocketAddr,
    ingress: mpsc::Sender<Ingress>,
    gate: Option<Gate>,
    stats: Arc<Stats>,
) {
    let mut buffer = vec![0; DATAGRAM];
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
    socket: &AsyncFd<UdpSocket>,
    local: SocketAddr,
    buffer: &mut [u8],
    ingress: &mpsc::Sender<Ingress>,
    gate: Option<&Gate>,
    stats: &Stats,
) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    let mut datagrams = Vec::new();
    let mut fault = None;
    for _ in 0..BATCH {
        match socket.get_ref().recv_from(buffer) {
            Ok((len, from)) => {
                let data = buffer.get(..len).unwrap_or_default();
                if gate.is_none_or(|gate| gate.reads(from, data)) {
                    datagrams.push((from, Bytes::copy_from_slice(data)));
                } else {
                    stats.datagrams_unread.add(1);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                break;
            }
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    drop(ready);
    if !datagrams.is_empty() {
        stats.datagrams_received.add(datagrams.len() as u64);
        // An error means that the driver has stopped, which the caller sees.
        let _ = ingress.send(Ingress::Datagrams(Batch { local, datagrams })).await;
    }
    fault.map_or(Ok(()), Err)
}

/// Sends what the full socket could not take; ends with the driver, after the last datagram. It watches for room
/// only while there is none.
async fn send_late(socket: UdpSocket, mut waiting: mpsc::Receiver<(SocketAddr, Bytes)>, stats: Arc<Stats>) {
    while let Some((to, data)) = waiting.recv().await {
        match send_with_room(&socket, to, &data).await {
            Ok(_) => stats.datagrams_sent.add(1),
            Err(_) => stats.datagrams_failed.add(1),
        }
    }
}

async fn send_with_room(socket: &UdpSocket, to: SocketAddr, data: &[u8]) -> io::Result<usize> {
    match socket.send_to(data, to) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        sent => return sent,
    }
    let watched = watch(socket.as_fd(), Interest::WRITABLE)?;
    watched.async_io(Interest::WRITABLE, |_| socket.send_to(data, to)).await
}

#[expect(
    deprecated,
    reason = "its successor is not safe code; what is watched here has one descriptor and keeps it"
)]
fn watch<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(socket, interest)
}
