//! Machines in virtual time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::wire::{Arrival, Wire};
use super::{Chunking, Conditions, Sent, Verdict};
use crate::{ConnId, Input, Instant, Now, Output, SansIo};

/// Wall time when the monotonic clock shows zero: some day in 2027.
const WALL_AT_ZERO: Duration = Duration::from_secs(1_800_000_000);

/// Rounds without time passing after which a drive gives up: two machines that answer each other
/// for ever are a bug, not a test that hangs.
const ROUNDS_PER_MOMENT: u32 = 10_000;

/// A machine with its addresses, and what it told.
pub struct Node<M: SansIo> {
    /// The machine.
    pub machine: M,
    /// Its events with their time, oldest first; the test takes them out.
    pub events: VecDeque<(Instant, M::Event)>,
    /// Every error that the machine returned. A good test looks that it is empty.
    pub faults: Vec<M::Error>,
    deadline: Option<Instant>,
}

impl<M: SansIo> Node<M> {
    const fn new(machine: M) -> Self {
        Self { machine, events: VecDeque::new(), faults: Vec::new(), deadline: None }
    }

    /// Takes the oldest event.
    pub fn event(&mut self) -> Option<M::Event> {
        self.events.pop_front().map(|(_, event)| event)
    }

    fn keep(&mut self, result: Result<(), M::Error>) {
        if let Err(fault) = result {
            self.faults.push(fault);
        }
    }
}

/// What the loop needs of a node, whatever its machine is.
trait Station {
    fn input(&mut self, now: Now, input: Input<'_>);
    fn drain(&mut self, index: usize, wire: &mut Wire);
    fn deadline(&self) -> Option<Instant>;
}

impl<M: SansIo> Station for Node<M> {
    fn input(&mut self, now: Now, input: Input<'_>) {
        let result = self.machine.handle_input(now, input);
        self.keep(result);
    }

    fn drain(&mut self, index: usize, wire: &mut Wire) {
        loop {
            match self.machine.poll_output() {
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return;
                }
                Output::Event(event) => self.events.push_back((wire.now, event)),
                other => wire.carry(index, other),
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// Any number of machines of one type.
pub struct Net<M: SansIo> {
    /// The machines, in the order in which they were added.
    pub nodes: Vec<Node<M>>,
    wire: Wire,
}

impl<M: SansIo> Net<M> {
    /// An empty network; every link begins with these conditions.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self { nodes: Vec::new(), wire: Wire::new(seed, conditions, Vec::new()) }
    }

    /// Adds a machine that is reached at these addresses; answers its index.
    pub fn add(&mut self, machine: M, addresses: Vec<SocketAddr>) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node::new(machine));
        self.wire.add_station(addresses);
        index
    }

    /// Commands one machine and drains it. An index that does not exist does nothing.
    pub fn command(&mut self, index: usize, command: M::Command) {
        let now = now(&self.wire);
        if let Some(node) = self.nodes.get_mut(index) {
            let result = node.machine.command(now, command);
            node.keep(result);
            node.drain(index, &mut self.wire);
        }
    }

    /// Takes the oldest event of one machine.
    pub fn event(&mut self, index: usize) -> Option<M::Event> {
        self.nodes.get_mut(index)?.event()
    }

    /// Goes on until `done` holds (true) or that much time has passed or nothing is left (false).
    pub fn drive_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.wire.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    /// Lets that much time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.wire.now + time;
        while self.step(end) {}
        self.wire.now = end;
    }

    /// Lets the next thing happen; false when nothing is left to happen by `end`.
    fn step(&mut self, end: Instant) -> bool {
        let mut stations: Vec<&mut dyn Station> =
            self.nodes.iter_mut().map(|n| n as &mut dyn Station).collect();
        step(&mut self.wire, &mut stations, end)
    }
}

/// Two machines, of any two types: `a` has index 0, `b` index 1.
pub struct Pair<A: SansIo, B: SansIo> {
    /// One.
    pub a: Node<A>,
    /// The other.
    pub b: Node<B>,
    wire: Wire,
}

impl<A: SansIo, B: SansIo> Pair<A, B> {
    /// Two machines, each with the addresses at which it is reached.
    pub fn new(seed: u64, conditions: Conditions, a: (A, Vec<SocketAddr>), b: (B, Vec<SocketAddr>)) -> Self {
        let wire = Wire::new(seed, conditions, vec![a.1, b.1]);
        Self { a: Node::new(a.0), b: Node::new(b.0), wire }
    }

    /// Commands the one and drains it.
    pub fn command_a(&mut self, command: A::Command) {
        let result = self.a.machine.command(now(&self.wire), command);
        self.a.keep(result);
        self.a.drain(0, &mut self.wire);
    }

    /// Commands the other and drains it.
    pub fn command_b(&mut self, command: B::Command) {
        let result = self.b.machine.command(now(&self.wire), command);
        self.b.keep(result);
        self.b.drain(1, &mut self.wire);
    }

    /// Goes on until `done` holds (true) or that much time has passed or nothing is left (false).
    pub fn drive_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.wire.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    /// Lets that much time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.wire.now + time;
        while self.step(end) {}
        self.wire.now = end;
    }

    fn step(&mut self, end: Instant) -> bool {
        step(&mut self.wire, &mut [&mut self.a, &mut self.b], end)
    }
}

/// What both kinds of network let a test do with the wire.
macro_rules! wire_access {
    ($($head:tt)*) => {
        $($head)* {
            /// The time.
            pub fn now(&self) -> Now {
                now(&self.wire)
            }

            /// Changes the road from one machine to another.
            pub fn set_conditions(&mut self, from: usize, to: usize, conditions: Conditions) {
                self.wire.set_conditions(from, to, conditions);
            }

            /// How streams are cut from now on.
            pub const fn set_chunking(&mut self, chunking: Chunking) {
                self.wire.chunking = chunking;
            }

            /// Lets a test decide over each datagram before its link does (from, to, bytes).
            pub fn set_filter(&mut self, filter: impl FnMut(usize, usize, &[u8]) -> Verdict + 'static) {
                self.wire.filter = Some(Box::new(filter));
            }

            /// Leaves the datagrams to their links again.
            pub fn clear_filter(&mut self) {
                self.wire.filter = None;
            }

            /// Begins to keep what machines send.
            pub fn keep_log(&mut self) {
                self.wire.log.get_or_insert_default();
            }

            /// What was sent since [`Self::keep_log`].
            pub fn log(&self) -> &[Sent] {
                self.wire.log.as_deref().unwrap_or_default()
            }

            /// The connections of one machine.
            pub fn connections(&self, index: usize) -> Vec<ConnId> {
                self.wire.connections(index)
            }

            /// Breaks a connection of one machine: both ends are told.
            pub fn cut(&mut self, index: usize, conn: ConnId) {
                self.wire.cut(index, conn);
            }

            /// Lets a machine refuse all connections from now on.
            pub fn refuse_streams(&mut self, index: usize) {
                self.wire.deaf.push(index);
            }

            /// Puts a datagram on the road that no machine sent.
            pub fn inject(&mut self, from: usize, local: SocketAddr, to: SocketAddr, data: &[u8]) {
                let data = bytes::Bytes::copy_from_slice(data);
                self.wire.carry::<()>(from, Output::Datagram { local, to, data });
            }
        }
    };
}

wire_access!(impl<M: SansIo> Net<M>);
wire_access!(impl<A: SansIo, B: SansIo> Pair<A, B>);

fn now(wire: &Wire) -> Now {
    let since_zero = wire.now.saturating_since(Instant::ZERO);
    let wall = SystemTime::UNIX_EPOCH.checked_add(WALL_AT_ZERO.saturating_add(since_zero));
    Now { mono: wire.now, wall: wall.unwrap_or(SystemTime::UNIX_EPOCH) }
}

/// One round: the clock goes to the next thing to happen, and all that is due happens.
fn step(wire: &mut Wire, stations: &mut [&mut dyn Station], end: Instant) -> bool {
    let deadline = stations.iter().filter_map(|s| s.deadline()).min();
    let Some(next) = deadline.into_iter().chain(wire.next_arrival()).min() else { return false };
    if next > end {
        return false;
    }
    if next > wire.now {
        wire.now = next;
        wire.rounds = 0;
    }
    wire.rounds = wire.rounds.saturating_add(1);
    if wire.rounds > ROUNDS_PER_MOMENT {
        tracing::error!("machines talk for ever without time passing");
        return false;
    }
    let time = now(wire);
    for (index, arrival) in wire.arrivals() {
        let Some(station) = stations.get_mut(index) else { continue };
        station.input(time, arrival.as_input());
        station.drain(index, wire);
    }
    for (index, station) in stations.iter_mut().enumerate() {
        if station.deadline().is_some_and(|d| d <= wire.now) {
            station.input(time, Input::Timeout);
            station.drain(index, wire);
        }
    }
    true
}

impl Arrival {
    fn as_input(&self) -> Input<'_> {
        match self {
            Self::Datagram { local, from, data } => Input::Datagram { local: *local, from: *from, data },
            Self::Connected { conn, local, peer, transport } => {
                Input::Connected { conn: *conn, local: *local, peer: *peer, transport: *transport }
            }
            Self::Stream { conn, data } => Input::Stream { conn: *conn, data },
            Self::Closed { conn } => Input::Closed { conn: *conn },
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Transport;

    /// Sends what it is told and repeats it every 100 ms until told that it arrived.
    #[derive(Debug)]
    struct Echo {
        me: SocketAddr,
        out: VecDeque<Output<Vec<u8>>>,
        ask: Option<(SocketAddr, u8)>,
        again: Option<Instant>,
    }

    enum Ask {
        Datagram(SocketAddr, u8),
        Stream(SocketAddr),
    }

    #[derive(Debug, thiserror::Error)]
    #[error("never")]
    struct Never;

    impl Echo {
        fn new(me: SocketAddr) -> Self {
            Self { me, out: VecDeque::new(), ask: None, again: None }
        }

        fn send(&mut self, now: Now) {
            if let Some((to, byte)) = self.ask {
                let data = Bytes::copy_from_slice(&[byte]);
                self.out.push_back(Output::Datagram { local: self.me, to, data });
                self.again = Some(now.mono + Duration::from_millis(100));
            }
        }
    }

    impl SansIo for Echo {
        type Command = Ask;
        type Event = Vec<u8>;
        type Error = Never;

        fn handle_input(&mut self, now: Now, input: Input<'_>) -> Result<(), Never> {
            match input {
                Input::Datagram { local, from, data } => {
                    if self.ask.take().is_none() {
                        let data = Bytes::copy_from_slice(data);
                        self.out.push_back(Output::Datagram { local, to: from, data });
                    }
                    self.again = None;
                    self.out.push_back(Output::Event(data.to_vec()));
                }
                Input::Connected { conn, .. } if conn.0 % 2 == 1 => {
                    self.out.push_back(Output::Stream { conn, data: Bytes::from_static(b"hello") });
                    self.out.push_back(Output::Close { conn });
                }
                Input::Connected { .. } => {}
                Input::Stream { data, .. } => self.out.push_back(Output::Event(data.to_vec())),
                Input::Closed { .. } => self.out.push_back(Output::Event(b"closed".to_vec())),
                Input::Timeout => self.send(now),
            }
            Ok(())
        }

        fn command(&mut self, now: Now, command: Ask) -> Result<(), Never> {
            match command {
                Ask::Datagram(to, byte) => {
                    self.ask = Some((to, byte));
                    self.send(now);
                }
                Ask::Stream(to) => self.out.push_back(Output::Connect {
                    conn: ConnId(1),
                    to,
                    transport: Transport::Tcp,
                    name: None,
                }),
            }
            Ok(())
        }

        fn poll_output(&mut self) -> Output<Vec<u8>> {
            self.out.pop_front().unwrap_or(Output::Timeout(self.again))
        }
    }

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 5060))
    }

    fn pair(conditions: Conditions) -> Pair<Echo, Echo> {
        let a = (Echo::new(addr(1)), vec![addr(1)]);
        Pair::new(4, conditions, a, (Echo::new(addr(2)), vec![addr(2)]))
    }

    #[test]
    fn timers_beat_loss_and_no_time_passes_for_real() {
        let mut pair = pair(Conditions::lossy(0.6));
        pair.command_a(Ask::Datagram(addr(2), 7));
        assert!(pair.drive_until(Duration::from_secs(30), |p| !p.a.events.is_empty()));
        assert_eq!(pair.a.event(), Some(vec![7]));
        assert!(pair.now().mono > Instant::from_millis(1_000));
    }

    #[test]
    fn streams_come_in_order_in_pieces_and_end() {
        let mut pair = pair(Conditions::delay(Duration::from_millis(5)));
        pair.set_chunking(Chunking::Every(2));
        pair.command_a(Ask::Stream(addr(2)));
        pair.run(Duration::from_secs(1));
        let got: Vec<_> = pair.b.events.drain(..).map(|(_, e)| e).collect();
        assert_eq!(got, [b"he".to_vec(), b"ll".to_vec(), b"o".to_vec(), b"closed".to_vec()]);
        assert!(pair.connections(0).is_empty());
    }

    #[test]
    fn nobody_there_is_a_closed_connection() {
        let mut pair = pair(Conditions::PERFECT);
        pair.command_a(Ask::Stream(addr(9)));
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.a.event(), Some(b"closed".to_vec()));
    }

    #[test]
    fn a_filter_drops_what_the_test_names() {
        let mut pair = pair(Conditions::PERFECT);
        pair.keep_log();
        let mut first = true;
        pair.set_filter(move |_, _, data| {
            if data == [9] && std::mem::take(&mut first) { Verdict::Drop } else { Verdict::Pass }
        });
        pair.command_a(Ask::Datagram(addr(2), 9));
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.a.event(), Some(vec![9]));
        assert_eq!(pair.log().len(), 3, "once lost, once asked, once answered");
    }

    #[test]
    fn many_machines_share_one_net() {
        let mut net = Net::new(1, Conditions::PERFECT);
        for i in 1..=3 {
            net.add(Echo::new(addr(i)), vec![addr(i)]);
        }
        net.command(0, Ask::Datagram(addr(2), 1));
        net.command(2, Ask::Datagram(addr(2), 3));
        net.run(Duration::from_secs(1));
        assert_eq!((net.event(0), net.event(2)), (Some(vec![1]), Some(vec![3])));
    }
}
