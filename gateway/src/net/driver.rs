//! The one driver of every protocol machine: datagrams, streams, timers, commands and events
//! around a [`SansIo`].
//!
//! The driver is one task that owns the machine. It never blocks on its owner: while events wait
//! because the owner is slow, it takes no more bytes from the network (which pushes back to the
//! peers) but goes on with commands and timers, so that an owner who sends a command while events
//! are full is never stuck.
//!
//! After [`Output::Close`] the machine hears no more of that connection. A connection that ends in
//! any other way, or that never stood, is told with [`Input::Closed`] exactly once.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crosspoint_proto::{ConnId, Input, Instant, Output, SansIo, Transport};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{sleep_until, timeout};

use super::clock::Clock;
use super::tcp::{self, Accepted, Admission, Door, Outbound, Stream, Waiting};
use super::tls::Tls;
use super::udp::{self, Batch, Udp};
use crate::config::{Listen, PageOrigin};
use crate::guard::Gate;

/// Batches and pieces from the network that wait for the driver. Overflow: readers wait, and with
/// them the system's buffers and the peers.
const INGRESS: usize = 256;

/// Commands that wait. Overflow: who sends them waits.
const COMMANDS: usize = 1024;

/// Pieces of input taken in one go before commands and timers get a look.
const BURST: usize = 64;

/// How long a stop waits for what was sent to leave.
const STOP: Duration = Duration::from_secs(2);

/// What a driver needs to know beside its machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The option that errors name: "sip.listen".
    pub option: &'static str,
    /// Connections at once, accepted and opened.
    pub connections: usize,
    /// Accepted connections of one source address (IPv6: /64).
    pub connections_per_source: usize,
    /// From where pages may come that connect by WebSocket. Empty: from anywhere.
    pub origins: Vec<PageOrigin>,
    /// Needed for TLS listeners and TLS connects.
    pub tls: Option<Tls>,
    /// Whose datagrams and connections are read. `None`: everybody's.
    pub gate: Option<Gate>,
    /// Where handshakes of those who connect are done, each of which computes for a millisecond. `None`:
    /// where the driver runs.
    pub handshakes: Option<Handle>,
}

/// Why a listener cannot be had. Says which, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{listen} {reason} (option {option})", reason = reason(error, listen.address))]
#[non_exhaustive]
pub struct BindError {
    /// The listener.
    pub listen: Listen,
    /// The option that names it.
    pub option: &'static str,
    /// What the system said.
    pub error: io::Error,
}

/// What is wrong with a listener, and what to do.
pub(crate) fn reason(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "is in use: stop the program that has port {}, or choose another port",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => {
            "is not permitted: ports below 1024 need the capability CAP_NET_BIND_SERVICE, or choose a higher one"
                .into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "cannot be used: the address is not one of this machine; choose one that is, or 0.0.0.0".into()
        }
        _ => format!("cannot be opened: {error}"),
    }
}

/// Listeners that are bound and not yet driven.
#[derive(Debug)]
pub struct Sockets {
    udp: Vec<std::net::UdpSocket>,
    streams: Vec<(Transport, std::net::TcpListener)>,
    listening: Vec<Listen>,
    settings: Settings,
}

impl Sockets {
    /// Binds every listener, or none. A TLS listener without `settings.tls` is an error.
    pub fn bind(listen: &[Listen], settings: Settings) -> Result<Self, BindError> {
        let mut sockets = Self { udp: Vec::new(), streams: Vec::new(), listening: Vec::new(), settings };
        for listen in listen {
            let option = sockets.settings.option;
            let address =
                sockets.open(*listen).map_err(|error| BindError { listen: *listen, option, error })?;
            sockets.listening.push(Listen { transport: listen.transport, address });
        }
        Ok(sockets)
    }

    fn open(&mut self, listen: Listen) -> io::Result<SocketAddr> {
        if listen.transport.is_secure() && self.settings.tls.is_none() {
            return Err(io::Error::other("TLS is not set up"));
        }
        if listen.transport == Transport::Udp {
            let socket = udp::bind(listen.address)?;
            let address = socket.local_addr()?;
            self.udp.push(socket);
            Ok(address)
        } else {
            let listener = tcp::bind(listen.address)?;
            let address = listener.local_addr()?;
            self.streams.push((listen.transport, listener));
            Ok(address)
        }
    }

    /// What listens, in the order asked for, with the real port where any was asked for. The
    /// addresses of datagrams are those that [`Output::Datagram`] may send from.
    pub fn listening(&self) -> &[Listen] {
        &self.listening
    }

    /// Starts the driver on the current tokio runtime. Events go to `events` until the driver
    /// stops; while that is full, the network waits.
    pub fn drive<M>(
        self,
        machine: M,
        clock: Clock,
        events: mpsc::Sender<M::Event>,
    ) -> io::Result<Driver<M::Command>>
    where
        M: SansIo + Send + 'static,
        M::Command: Send + 'static,
        M::Event: Send + 'static,
    {
        let stats = Arc::new(Stats::default());
        let (ingress_sender, ingress) = mpsc::channel(INGRESS);
        let (command_sender, commands) = mpsc::channel(COMMANDS);
        let (stop, stopped) = oneshot::channel();
        let admission = Admission::new(self.settings.connections, self.settings.connections_per_source);
        let gate = self.settings.gate;
        let origins: Arc<[PageOrigin]> = self.settings.origins.into();
        let (mut readers, mut senders) = (JoinSet::new(), JoinSet::new());
        let mut udp = HashMap::new();
        for socket in self.udp {
            let local = socket.local_addr()?;
            let socket =
                Udp::start(socket, ingress_sender.clone(), gate.clone(), &stats, &mut readers, &mut senders)?;
            udp.insert(local, socket);
        }
        for (transport, listener) in self.streams {
            let listener = TcpListener::from_std(listener)?;
            let tls = self.settings.tls.clone().filter(|_| transport.is_secure());
            let handshakes = self.settings.handshakes.clone().unwrap_or_else(Handle::current);
            let door = Door { transport, tls, origins: Arc::clone(&origins), handshakes };
            let (admission, ingress) = (Arc::clone(&admission), ingress_sender.clone());
            readers.spawn(tcp::accept(listener, door, gate.clone(), admission, ingress, Arc::clone(&stats)));
        }
        let running = Running {
            machine,
            clock,
            udp,
            tls: self.settings.tls,
            gate,
            admission,
            connections: HashMap::new(),
            next_accepted: 0,
            serving: JoinSet::new(),
            ingress_sender,
            gone: VecDeque::new(),
            pending: VecDeque::new(),
            stalled: false,
            deadline: None,
            stats: Arc::clone(&stats),
        };
        let task = tokio::spawn(running.run(ingress, commands, events, stopped, readers, senders));
        Ok(Driver { commands: command_sender, stop, stats, task })
    }
}

/// A running driver. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Driver<C> {
    commands: mpsc::Sender<C>,
    stop: oneshot::Sender<()>,
    stats: Arc<Stats>,
    task: JoinHandle<()>,
}

impl<C> Driver<C> {
    /// Where commands go. Waits when [`COMMANDS`] wait already.
    pub fn commands(&self) -> mpsc::Sender<C> {
        self.commands.clone()
    }

    /// Its figures.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Stops: commands that wait are executed, what they caused is sent, connections are closed
    /// once their queues are written (2 s at most). When it returns, every port is free.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!("a protocol machine panicked");
        }
    }
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// So many so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Figures of a driver since its start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Datagrams received.
    pub datagrams_received: Counter,
    /// Datagrams that the gate did not let in; they are among those received no more.
    pub datagrams_unread: Counter,
    /// Datagrams sent.
    pub datagrams_sent: Counter,
    /// Datagrams that found the send queue full.
    pub datagrams_dropped: Counter,
    /// Datagrams that the system refused to send.
    pub datagrams_failed: Counter,
    /// Connections that stood, accepted and opened.
    pub connections_opened: Counter,
    /// Connections that ended.
    pub connections_closed: Counter,
    /// Connections refused by a limit.
    pub connections_refused: Counter,
    /// Connections that could not be opened.
    pub connects_failed: Counter,
    /// TLS and WebSocket handshakes of accepted connections that failed or took too long.
    pub handshakes_failed: Counter,
    /// Times that the system could not accept a connection.
    pub accept_errors: Counter,
    /// Connections closed because their write queue was full.
    pub write_overflows: Counter,
    /// Times that the network had to wait because events were not taken.
    pub event_stalls: Counter,
    /// Inputs or commands that the machine refused as a fault of ours.
    pub machine_errors: Counter,
}

impl Stats {
    /// Connections that stand.
    pub fn connections(&self) -> u64 {
        self.connections_opened.count().saturating_sub(self.connections_closed.count())
    }
}

/// What readers bring.
#[derive(Debug)]
pub(super) enum Ingress {
    Datagrams(Batch),
    Accepted(Accepted),
    Connected { conn: ConnId, local: SocketAddr, peer: SocketAddr, transport: Transport },
    Stream { conn: ConnId, data: Bytes },
    Closed { conn: ConnId },
}

struct Connection {
    outbound: Outbound,
    /// Set while it is being opened; closing it then means to give up.
    opening: Option<AbortHandle>,
}

struct Running<M: SansIo> {
    machine: M,
    clock: Clock,
    udp: HashMap<SocketAddr, Udp>,
    tls: Option<Tls>,
    gate: Option<Gate>,
    admission: Arc<Admission>,
    connections: HashMap<ConnId, Connection>,
    next_accepted: u64,
    serving: JoinSet<()>,
    ingress_sender: mpsc::Sender<Ingress>,
    /// Connections that ended while outputs were drained; the machine hears it right after.
    gone: VecDeque<ConnId>,
    /// Events that the owner has no room for. Only commands and timers can add to it while it is
    /// not empty, so that it stays in proportion to what the owner itself asked for.
    pending: VecDeque<M::Event>,
    /// Whether the owner had no room when it was last offered something.
    stalled: bool,
    deadline: Option<Instant>,
    stats: Arc<Stats>,
}

impl<M: SansIo> Running<M> {
    async fn run(
        mut self,
        mut ingress: mpsc::Receiver<Ingress>,
        mut commands: mpsc::Receiver<M::Command>,
        events: mpsc::Sender<M::Event>,
        mut stop: oneshot::Receiver<()>,
        mut readers: JoinSet<()>,
        mut senders: JoinSet<()>,
    ) {
        let mut sleep = std::pin::pin!(sleep_until(tokio::time::Instant::now()));
        let mut armed = None;
        self.drain();
        loop {
            self.hand_over(&events);
            let wake = self.deadline.and_then(|deadline| self.clock.to_std(deadline));
            if let Some(wake) = wake
                && armed != Some(wake)
            {
                sleep.as_mut().reset(wake.into());
                armed = Some(wake);
            }
            tokio::select! {
                _ = &mut stop => break,
                permit = events.reserve(), if !self.pending.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some(event) = self.pending.pop_front() {
                        permit.send(event);
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                () = &mut sleep, if wake.is_some() => {
                    armed = None;
                    self.input(Input::Timeout);
                }
                Some(first) = ingress.recv(), if self.pending.is_empty() => {
                    self.ingress(first);
                    for _ in 1..BURST {
                        let Ok(next) = ingress.try_recv() else { break };
                        self.ingress(next);
                    }
                }
            }
            while self.serving.try_join_next().is_some() {}
        }
        readers.shutdown().await;
        while let Ok(command) = commands.try_recv() {
            self.command(command);
        }
        self.hand_over(&events);
        drop(ingress);
        self.finish(&mut senders).await;
    }

    /// Lets everything that was sent leave, within [`STOP`].
    async fn finish(mut self, senders: &mut JoinSet<()>) {
        for (_, connection) in self.connections.drain() {
            if let Some(opening) = connection.opening {
                opening.abort();
            }
        }
        self.udp.clear();
        let flush = async {
            while senders.join_next().await.is_some() {}
            while self.serving.join_next().await.is_some() {}
        };
        if timeout(STOP, flush).await.is_err() {
            tracing::debug!("some connections did not take their last bytes");
        }
        senders.shutdown().await;
        self.serving.shutdown().await;
    }

    /// Gives the owner what fits, and notes when something must wait.
    fn hand_over(&mut self, events: &mpsc::Sender<M::Event>) {
        while let Some(event) = self.pending.pop_front() {
            match events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.pending.push_front(event);
                    if !self.stalled {
                        self.stats.event_stalls.add(1);
                    }
                    self.stalled = true;
                    return;
                }
                // Nobody listens any more: the loop sees it and stops.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
        self.stalled = false;
    }

    fn ingress(&mut self, ingress: Ingress) {
        match ingress {
            Ingress::Datagrams(Batch { local, datagrams }) => {
                for (from, data) in datagrams {
                    self.input(Input::Datagram { local, from, data: &data });
                }
            }
            Ingress::Accepted(accepted) => self.accepted(accepted),
            Ingress::Connected { conn, local, peer, transport } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.opening = None;
                    self.input(Input::Connected { conn, local, peer, transport });
                }
            }
            Ingress::Stream { conn, data } => {
                if self.connections.contains_key(&conn) {
                    self.input(Input::Stream { conn, data: &data });
                }
            }
            Ingress::Closed { conn } => {
                if self.connections.remove(&conn).is_some() {
                    self.input(Input::Closed { conn });
                }
            }
        }
    }

    fn accepted(&mut self, accepted: Accepted) {
        let Accepted { stream, local, peer, transport, room } = accepted;
        let conn = ConnId(self.next_accepted);
        self.next_accepted += 2;
        let (outbound, waiting) = tcp::write_queue();
        self.connections.insert(conn, Connection { outbound, opening: None });
        let (ingress, stats) = (self.ingress_sender.clone(), Arc::clone(&self.stats));
        let gate = self.gate.clone().map(|gate| (gate, peer));
        self.serving.spawn(async move {
            serve(stream, conn, waiting, ingress, gate, &stats).await;
            drop(room);
        });
        self.input(Input::Connected { conn, local, peer, transport });
    }

    fn connect(&mut self, conn: ConnId, to: SocketAddr, transport: Transport, name: Option<String>) {
        if conn.0.is_multiple_of(2) || self.connections.contains_key(&conn) {
            tracing::error!(conn = conn.0, "a machine asked for a connection number that is not its own");
            self.stats.machine_errors.add(1);
            return;
        }
        let Ok(room) = self.admission.admit(None) else {
            self.stats.connections_refused.add(1);
            self.gone.push_back(conn);
            return;
        };
        let (outbound, waiting) = tcp::write_queue();
        let (ingress, stats, tls) = (self.ingress_sender.clone(), Arc::clone(&self.stats), self.tls.clone());
        let opening = self.serving.spawn(async move {
            match tcp::connect(to, transport, name, tls).await {
                Ok((stream, local)) => {
                    let connected = Ingress::Connected { conn, local, peer: to, transport };
                    if ingress.send(connected).await.is_ok() {
                        // Whom we have called is nobody's flood.
                        serve(stream, conn, waiting, ingress, None, &stats).await;
                    }
                }
                Err(error) => {
                    stats.connects_failed.add(1);
                    tracing::debug!(%to, ?transport, %error, "connect failed");
                    let _ = ingress.send(Ingress::Closed { conn }).await;
                }
            }
            drop(room);
        });
        self.connections.insert(conn, Connection { outbound, opening: Some(opening) });
    }

    fn input(&mut self, input: Input<'_>) {
        if let Err(error) = self.machine.handle_input(self.clock.both(), input) {
            self.fault(&error);
        }
        self.drain();
    }

    fn command(&mut self, command: M::Command) {
        if let Err(error) = self.machine.command(self.clock.both(), command) {
            self.fault(&error);
        }
        self.drain();
    }

    fn fault(&self, error: &M::Error) {
        self.stats.machine_errors.add(1);
        tracing::warn!(%error, "a protocol machine was asked something that it cannot do");
    }

    /// Does what the machine wants, until it wants nothing but time.
    fn drain(&mut self) {
        loop {
            match self.machine.poll_output() {
                Output::Datagram { local, to, data } => match self.udp.get(&local) {
                    Some(socket) => socket.send(to, data),
                    None => {
                        self.stats.machine_errors.add(1);
                        tracing::error!(%local, "a machine sends from an address that it does not have");
                    }
                },
                Output::Stream { conn, data } => self.write(conn, data),
                Output::Connect { conn, to, transport, name } => self.connect(conn, to, transport, name),
                Output::Close { conn } => {
                    if let Some(opening) = self.connections.remove(&conn).and_then(|it| it.opening) {
                        opening.abort();
                    }
                }
                Output::Event(event) => self.pending.push_back(event),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    let Some(conn) = self.gone.pop_front() else { return };
                    if let Err(error) = self.machine.handle_input(self.clock.both(), Input::Closed { conn }) {
                        self.fault(&error);
                    }
                }
            }
        }
    }

    fn write(&mut self, conn: ConnId, data: Bytes) {
        let Some(connection) = self.connections.get(&conn) else { return };
        if connection.outbound.push(data) {
            return;
        }
        self.stats.write_overflows.add(1);
        tracing::debug!(conn = conn.0, "connection closed: its peer does not read");
        self.connections.remove(&conn);
        self.gone.push_back(conn);
    }
}

async fn serve(
    stream: Stream,
    conn: ConnId,
    waiting: Waiting,
    ingress: mpsc::Sender<Ingress>,
    gate: Option<(Gate, SocketAddr)>,
    stats: &Stats,
) {
    stats.connections_opened.add(1);
    tcp::serve(stream, conn, waiting, ingress, gate).await;
    stats.connections_closed.add(1);
}
