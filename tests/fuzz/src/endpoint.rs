//! The SIP endpoint: a history of inputs and commands, each step cut from the data.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crosspoint_proto::sip::{
    Body, CallId, Command, Config, Destination, Endpoint, Event, Invite, Listen, Load, MAX_FORWARDS,
    NameAddr, Uri,
};
use crosspoint_proto::{ConnId, Input, Instant, Now, Output, SansIo, Transport};

/// Nothing panics, no call is told of after its end, and when all is hung up nothing is left.
///
/// A step is one octet that says what, one for its variant, and for input a length in two octets
/// with that many more. Datagrams and streams may name what the endpoint made itself: `\x01` in
/// their data stands for the branch of its last request, `\x02` for its last tag, `\x03` for its
/// last Call-ID, `\x04` for its last CSeq number.
pub fn history(data: &[u8]) {
    let mut world = World::new();
    let mut rest = data;
    while let [what, variant, tail @ ..] = rest {
        rest = tail;
        match what % 8 {
            0 | 1 => {
                let input = world.named(take(&mut rest));
                let (local, from) = (US, FAR);
                world.input(Input::Datagram { local, from, data: &input });
            }
            2 => {
                let input = world.named(take(&mut rest));
                world.input(Input::Stream { conn: ConnId(u64::from(variant % 8)), data: &input });
            }
            3 => {
                let conn = ConnId(u64::from(variant % 8));
                let transport = if *variant < 128 { Transport::Tcp } else { Transport::Ws };
                world.input(Input::Connected { conn, local: US, peer: FAR, transport });
            }
            4 => world.input(Input::Closed { conn: ConnId(u64::from(variant % 8)) }),
            5 => world.wait(Duration::from_millis(u64::from(*variant).pow(2))),
            6 => world.call(*variant),
            _ => world.command(*variant),
        }
    }
    for call in world.alive.clone() {
        world.tell(Command::Hangup { call, reason: None });
    }
    for conn in 0..200 {
        world.input(Input::Closed { conn: ConnId(conn) });
    }
    world.wait(Duration::from_secs(200));
    assert!(world.alive.is_empty(), "no end: {:?}", world.alive);
    assert_eq!(world.endpoint.load(), Load::default());
}

const US: SocketAddr = address(1);
const FAR: SocketAddr = address(2);

const fn address(last: u8) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, last)), 5060)
}

struct World {
    endpoint: Endpoint,
    now: Instant,
    deadline: Option<Instant>,
    calls: Vec<CallId>,
    alive: BTreeSet<CallId>,
    opened: BTreeSet<ConnId>,
    branch: String,
    tag: String,
    call_id: String,
    number: String,
}

impl World {
    fn new() -> Self {
        let listen = [Transport::Udp, Transport::Tcp, Transport::Ws].map(|it| Listen::new(it, US)).to_vec();
        Self {
            endpoint: Endpoint::from_seed(Config::new(listen), [7; 32]),
            now: Instant::from_millis(1_000),
            deadline: None,
            calls: Vec::new(),
            alive: BTreeSet::new(),
            opened: BTreeSet::new(),
            branch: String::new(),
            tag: String::new(),
            call_id: String::new(),
            number: String::new(),
        }
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall: SystemTime::UNIX_EPOCH }
    }

    fn input(&mut self, input: Input<'_>) {
        if let Input::Connected { conn, .. } = input
            && conn.0 % 2 == 1
            && !self.opened.contains(&conn)
        {
            // The driver tells only of connections that were asked for.
            return;
        }
        self.endpoint.handle_input(self.clock(), input).expect("input is never a fault");
        self.drain();
    }

    fn tell(&mut self, command: Command) {
        let _ = self.endpoint.command(self.clock(), command);
        self.drain();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.deadline.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    fn call(&mut self, variant: u8) {
        let call = CallId(self.calls.len() as u64);
        let party = |text: &str| Uri::parse(text).expect("a URI");
        let transport = [None, Some(Transport::Udp), Some(Transport::Tcp)][usize::from(variant % 3)];
        self.calls.push(call);
        self.alive.insert(call);
        self.tell(Command::Invite(Box::new(Invite {
            call,
            target: party("sip:bob@192.0.2.2"),
            destination: Destination::Address { transport, address: FAR, name: None },
            from: NameAddr::new(party("sip:alice@example.com")),
            to: None,
            body: (variant & 0x40 == 0).then(|| Body::sdp(vec![b'x'; usize::from(variant) * 16])),
            routes: Vec::new(),
            headers: Vec::new(),
            account: None,
            max_forwards: MAX_FORWARDS,
            elsewhere: false,
        })));
    }

    fn command(&mut self, variant: u8) {
        let Some(call) = self.calls.iter().rev().nth(usize::from(variant / 16)).copied() else { return };
        let body = Body::sdp("v=0\r\n");
        let phrase = String::new();
        self.tell(match variant % 12 {
            0 => Command::Ring { call },
            1 => Command::Progress { call, body },
            2 => Command::Answer { call, body },
            3 => Command::Reject { call, status: 486, phrase, reason: None, headers: Vec::new() },
            4 => Command::Ack { call, body },
            5 => Command::Hangup { call, reason: None },
            6 => Command::Reinvite { call, body: Some(body) },
            7 => Command::Reinvite { call, body: None },
            8 => Command::AnswerReinvite { call, body },
            9 => Command::RefuseReinvite { call, status: 488 },
            10 => Command::Info { call, body },
            _ => Command::Drain,
        });
    }

    fn drain(&mut self) {
        loop {
            match self.endpoint.poll_output() {
                Output::Datagram { data, .. } | Output::Stream { data, .. } => self.remember(&data),
                Output::Connect { conn, .. } => {
                    self.opened.insert(conn);
                }
                Output::Close { conn } => {
                    self.opened.remove(&conn);
                }
                Output::Event(event) => self.heard(&event),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return;
                }
            }
        }
    }

    fn heard(&mut self, event: &Event) {
        let call = match event {
            Event::Incoming(incoming) => {
                self.calls.push(incoming.call);
                assert!(self.alive.insert(incoming.call));
                return;
            }
            Event::Ended { call, .. } => {
                assert!(self.alive.remove(call), "{call} ended twice");
                return;
            }
            Event::Ringing { call, .. }
            | Event::Progress { call, .. }
            | Event::Answered { call, .. }
            | Event::Acked { call, .. }
            | Event::Reinvite { call, .. }
            | Event::ReinviteCancelled { call }
            | Event::ReinviteAnswered { call, .. }
            | Event::ReinviteRefused { call, .. }
            | Event::Refreshed { call, .. }
            | Event::Info { call, .. }
            | Event::InfoAnswered { call, .. } => call,
            _ => return,
        };
        assert!(self.alive.contains(call), "{call} lives after its end");
    }

    fn remember(&mut self, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let find = |start: &str, mark: &str| {
            let line = text.lines().find(|line| line.starts_with(start))?;
            let value = line.split_once(mark)?.1;
            Some(value.split(';').next()?.to_owned())
        };
        let ours = if text.starts_with("SIP/2.0") { "To: " } else { "From: " };
        self.tag = find(ours, ";tag=").unwrap_or_else(|| self.tag.clone());
        self.branch = find("Via: ", "branch=").unwrap_or_else(|| self.branch.clone());
        self.call_id = find("Call-ID", ": ").unwrap_or_else(|| self.call_id.clone());
        let number = find("CSeq", ": ").and_then(|value| value.split(' ').next().map(str::to_owned));
        self.number = number.unwrap_or_else(|| self.number.clone());
    }

    /// What the endpoint made itself, in place of its marks.
    fn named(&self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len());
        for octet in data {
            match octet {
                1 => out.extend_from_slice(self.branch.as_bytes()),
                2 => out.extend_from_slice(self.tag.as_bytes()),
                3 => out.extend_from_slice(self.call_id.as_bytes()),
                4 => out.extend_from_slice(self.number.as_bytes()),
                octet => out.push(*octet),
            }
        }
        out
    }
}

/// The octets of one input: their number in two octets, then they.
fn take<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let [high, low, tail @ ..] = *rest else { return b"" };
    let size = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
    let (taken, tail) = tail.split_at(size);
    *rest = tail;
    taken
}
