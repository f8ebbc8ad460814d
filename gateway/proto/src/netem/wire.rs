//! What lies between the machines: a link for each ordered pair, and pipes for streams.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Conditions, Link};
use crate::{ConnId, Instant, Output, Transport};

/// First port of the near ends of connections that machines open.
const EPHEMERAL: u16 = 32_768;

/// How a pipe cuts the bytes that arrive at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// All in one.
    Whole,
    /// Pieces of that many bytes (at least one).
    Every(usize),
    /// Pieces of one to that many bytes.
    Random(usize),
}

/// What a filter decides for one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The link decides.
    Pass,
    /// Lost.
    Drop,
    /// That much later than the link says.
    Delay(Duration),
}

/// Something a machine sent, kept for the test to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// Index of the sender.
    pub from: usize,
    /// Index of the receiver; `None` when nobody is there.
    pub to: Option<usize>,
    /// The bytes.
    pub data: Bytes,
    /// Whether it went by stream.
    pub stream: bool,
}

/// Something that reaches a machine.
#[derive(Clone, Debug)]
pub(super) enum Arrival {
    Datagram { local: SocketAddr, from: SocketAddr, data: Bytes },
    Connected { conn: ConnId, local: SocketAddr, peer: SocketAddr, transport: Transport },
    Stream { conn: ConnId, data: Bytes },
    Closed { conn: ConnId },
}

#[derive(Clone, Debug)]
struct Packet {
    local: SocketAddr,
    from: SocketAddr,
    data: Bytes,
}

/// One end of a pipe, as the other end sees it.
#[derive(Clone, Copy, Debug)]
struct Far {
    station: usize,
    conn: ConnId,
    /// Bytes never overtake bytes.
    latest: Instant,
}

type Filter = Box<dyn FnMut(usize, usize, &[u8]) -> Verdict>;

pub(super) struct Wire {
    pub(super) now: Instant,
    /// How often something happened without time passing.
    pub(super) rounds: u32,
    addresses: Vec<Vec<SocketAddr>>,
    seed: u64,
    conditions: Conditions,
    links: BTreeMap<(usize, usize), Link<Packet>>,
    pub(super) chunking: Chunking,
    rng: ChaCha8Rng,
    far: HashMap<(usize, ConnId), Far>,
    accepted: u64,
    opened: u16,
    /// What pipes and delayed datagrams bring, in order of time, then of making.
    queue: BTreeMap<(Instant, u64), (usize, Arrival)>,
    sequence: u64,
    /// Machines that take no connections.
    pub(super) deaf: Vec<usize>,
    pub(super) filter: Option<Filter>,
    pub(super) log: Option<Vec<Sent>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("now", &self.now)
            .field("links", &self.links)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(seed: u64, conditions: Conditions, addresses: Vec<Vec<SocketAddr>>) -> Self {
        Self {
            // Not zero, so that "before the start" exists.
            now: Instant::from_millis(1_000),
            rounds: 0,
            addresses,
            seed,
            conditions,
            links: BTreeMap::new(),
            chunking: Chunking::Whole,
            rng: ChaCha8Rng::seed_from_u64(seed),
            far: HashMap::new(),
            accepted: 0,
            opened: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            deaf: Vec::new(),
            filter: None,
            log: None,
        }
    }

    pub(super) fn add_station(&mut self, addresses: Vec<SocketAddr>) {
        self.addresses.push(addresses);
    }

    pub(super) fn set_conditions(&mut self, from: usize, to: usize, conditions: Conditions) {
        self.link(from, to).set_conditions(conditions);
    }

    /// Takes what a machine wants done; events and timers are not the wire's.
    pub(super) fn carry<E>(&mut self, station: usize, output: Output<E>) {
        match output {
            Output::Datagram { local, to, data } => self.datagram(station, local, to, data),
            Output::Stream { conn, data } => self.stream(station, conn, data),
            Output::Connect { conn, to, transport, .. } => self.connect(station, conn, to, transport),
            Output::Close { conn } => self.close(station, conn),
            Output::Event(_) | Output::Timeout(_) => {}
        }
    }

    /// Breaks a connection: both ends are told.
    pub(super) fn cut(&mut self, station: usize, conn: ConnId) {
        let now = self.now;
        if self.far.contains_key(&(station, conn)) {
            self.close(station, conn);
            self.enqueue(now, station, Arrival::Closed { conn });
        }
    }

    pub(super) fn connections(&self, station: usize) -> Vec<ConnId> {
        let mut conns: Vec<_> = self.far.keys().filter(|(s, _)| *s == station).map(|(_, c)| *c).collect();
        conns.sort_unstable();
        conns
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
        self.links.values().filter_map(Link::next_arrival).chain(queued).min()
    }

    /// Everything that has come by now for one machine; streams cut as told.
    pub(super) fn arrivals(&mut self) -> Vec<(usize, Arrival)> {
        let now = self.now;
        let mut out = Vec::new();
        for (&(_, to), link) in &mut self.links {
            while let Some(Packet { local, from, data }) = link.receive(now) {
                out.push((to, Arrival::Datagram { local, from, data }));
            }
        }
        let mut streams: Vec<(usize, ConnId, Vec<u8>)> = Vec::new();
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                (to, Arrival::Stream { conn, data }) => {
                    match streams.iter_mut().find(|(s, c, _)| *s == to && *c == conn) {
                        Some((_, _, bytes)) => bytes.extend_from_slice(&data),
                        None => streams.push((to, conn, data.to_vec())),
                    }
                }
                (to, other) => {
                    // What came before on this very pipe stays before.
                    self.flush(&mut streams, &mut out);
                    out.push((to, other));
                }
            }
        }
        self.flush(&mut streams, &mut out);
        out
    }

    fn flush(&mut self, streams: &mut Vec<(usize, ConnId, Vec<u8>)>, out: &mut Vec<(usize, Arrival)>) {
        for (to, conn, bytes) in streams.drain(..) {
            let mut rest = Bytes::from(bytes);
            while !rest.is_empty() {
                let size = match self.chunking {
                    Chunking::Whole => rest.len(),
                    Chunking::Every(n) => n.max(1),
                    Chunking::Random(n) => {
                        let most = u32::try_from(n.max(1)).unwrap_or(u32::MAX);
                        let drawn = self.rng.next_u32().checked_rem(most).unwrap_or(0);
                        usize::try_from(drawn).unwrap_or(0).saturating_add(1)
                    }
                };
                let data = rest.split_to(size.min(rest.len()));
                out.push((to, Arrival::Stream { conn, data }));
            }
        }
    }

    fn datagram(&mut self, station: usize, local: SocketAddr, to: SocketAddr, data: Bytes) {
        let far = self.station_at(to);
        self.note(station, far, &data, false);
        let Some(far) = far else { return };
        let verdict = self.filter.as_mut().map_or(Verdict::Pass, |f| f(station, far, &data));
        let now = self.now;
        match verdict {
            Verdict::Drop => {}
            Verdict::Pass => self.link(station, far).send(now, Packet { local: to, from: local, data }),
            Verdict::Delay(more) => {
                let at = now + self.link(station, far).conditions.delay + more;
                self.enqueue(at, far, Arrival::Datagram { local: to, from: local, data });
            }
        }
    }

    fn stream(&mut self, station: usize, conn: ConnId, data: Bytes) {
        let far = self.far.get(&(station, conn)).map(|f| f.station);
        self.note(station, far, &data, true);
        self.along(station, conn, |conn| Arrival::Stream { conn, data });
    }

    fn connect(&mut self, station: usize, conn: ConnId, to: SocketAddr, transport: Transport) {
        let delay = self.conditions.delay;
        let there = self.now + delay;
        let Some(far) = self.station_at(to).filter(|far| !self.deaf.contains(far)) else {
            return self.enqueue(there + delay, station, Arrival::Closed { conn });
        };
        self.accepted = self.accepted.saturating_add(2);
        self.opened = self.opened.wrapping_add(1) % EPHEMERAL;
        let theirs = ConnId(self.accepted);
        let ip = self.addresses.get(station).and_then(|a| a.first()).map_or_else(|| to.ip(), SocketAddr::ip);
        let local = SocketAddr::new(ip, EPHEMERAL.saturating_add(self.opened));
        self.far.insert((station, conn), Far { station: far, conn: theirs, latest: there });
        self.far.insert((far, theirs), Far { station, conn, latest: there + delay });
        self.enqueue(there, far, Arrival::Connected { conn: theirs, local: to, peer: local, transport });
        self.enqueue(there + delay, station, Arrival::Connected { conn, local, peer: to, transport });
    }

    fn close(&mut self, station: usize, conn: ConnId) {
        self.along(station, conn, |conn| Arrival::Closed { conn });
        if let Some(far) = self.far.remove(&(station, conn)) {
            self.far.remove(&(far.station, far.conn));
        }
    }

    /// Sends along a pipe, behind everything that is already in it.
    fn along(&mut self, station: usize, conn: ConnId, make: impl FnOnce(ConnId) -> Arrival) {
        let due = self.now + self.conditions.delay;
        let Some(far) = self.far.get_mut(&(station, conn)) else { return };
        far.latest = far.latest.max(due);
        let (at, to, conn) = (far.latest, far.station, far.conn);
        self.enqueue(at, to, make(conn));
    }

    fn enqueue(&mut self, at: Instant, station: usize, arrival: Arrival) {
        self.sequence = self.sequence.saturating_add(1);
        self.queue.insert((at, self.sequence), (station, arrival));
    }

    fn note(&mut self, from: usize, to: Option<usize>, data: &Bytes, stream: bool) {
        if let Some(log) = &mut self.log {
            log.push(Sent { at: self.now, from, to, data: data.clone(), stream });
        }
    }

    fn station_at(&self, address: SocketAddr) -> Option<usize> {
        self.addresses.iter().position(|a| a.contains(&address))
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link<Packet> {
        let (seed, conditions) = (self.seed, self.conditions);
        self.links.entry((from, to)).or_insert_with(|| {
            // Any mixing will do that gives each direction a fate of its own.
            let index = (from as u64).wrapping_mul(1_000_003).wrapping_add(to as u64);
            Link::new(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15), conditions)
        })
    }
}
