//! One endpoint alone, and a far end that is nothing but text: what no well-behaved machine sends.

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_proto::sip::{CallId, Command, Config, Endpoint, Event, Load, PingId};
use crosspoint_proto::{ConnId, Input, Instant, Now, Output, SansIo, Transport};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::world::{address, config, over, sdp, uri};

/// Something that the endpoint sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) to: Option<SocketAddr>,
    pub(crate) conn: Option<ConnId>,
    pub(crate) text: String,
}

pub(crate) struct Solo {
    pub(crate) machine: Endpoint,
    now: Instant,
    deadline: Option<Instant>,
    pub(crate) events: Vec<Event>,
    pub(crate) sent: Vec<Out>,
    pub(crate) closed: Vec<ConnId>,
    pub(crate) connects: Vec<(ConnId, SocketAddr)>,
}

/// The address of the far end.
pub(crate) fn far() -> SocketAddr {
    address(1)
}

impl Solo {
    pub(crate) fn new() -> Self {
        Self::with(config(0))
    }

    /// A call that the far end made by `ask` and that stands, and our 200.
    pub(crate) fn standing(&mut self, ask: &Ask) -> (CallId, Out) {
        self.hear(ask.text());
        let Event::Incoming(incoming) = self.event() else { panic!("no call") };
        let call = incoming.call;
        let ok = self.tell(Command::Answer { call, body: sdp("v=0\r\nours") }).remove(0);
        assert_eq!(ok.status(), 200);
        assert!(self.hear(ask.ack(&ok).text()).is_empty());
        assert!(matches!(self.event(), Event::Acked { .. }));
        (call, ok)
    }

    /// One that the far end has shown that it hears it: what gets lost is repeated without end.
    pub(crate) fn heard_of() -> Self {
        let mut solo = Self::new();
        let (target, destination) = (uri("sip:192.0.2.2"), over(Transport::Udp, 1));
        let ping = solo.tell(Command::Ping { ping: PingId(1), target, destination }).remove(0);
        solo.hear(ping.response("200 OK", "p", "", ""));
        assert!(matches!(solo.event(), Event::Pong { status: Some(200), .. }));
        solo.wait(Duration::from_secs(10));
        solo.sent.clear();
        solo
    }

    pub(crate) fn with(config: Config) -> Self {
        Self {
            machine: Endpoint::new(config, ChaCha12Rng::seed_from_u64(5)),
            now: Instant::from_millis(1_000),
            deadline: None,
            events: Vec::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            connects: Vec::new(),
        }
    }

    /// A datagram comes from the far end; what is sent at once.
    pub(crate) fn hear(&mut self, text: impl AsRef<[u8]>) -> Vec<Out> {
        self.hear_from(far(), text)
    }

    pub(crate) fn hear_from(&mut self, from: SocketAddr, text: impl AsRef<[u8]>) -> Vec<Out> {
        self.input(Input::Datagram { local: address(0), from, data: text.as_ref() })
    }

    /// A far end connects.
    pub(crate) fn accept(&mut self, conn: u64, peer: SocketAddr) -> Vec<Out> {
        let conn = ConnId(conn);
        self.input(Input::Connected { conn, local: address(0), peer, transport: Transport::Tcp })
    }

    pub(crate) fn stream(&mut self, conn: u64, data: impl AsRef<[u8]>) -> Vec<Out> {
        self.input(Input::Stream { conn: ConnId(conn), data: data.as_ref() })
    }

    pub(crate) fn input(&mut self, input: Input<'_>) -> Vec<Out> {
        let before = self.sent.len();
        self.machine.handle_input(self.clock(), input).unwrap();
        self.drain();
        self.sent[before..].to_vec()
    }

    pub(crate) fn tell(&mut self, command: Command) -> Vec<Out> {
        let before = self.sent.len();
        self.machine.command(self.clock(), command).unwrap();
        self.drain();
        self.sent[before..].to_vec()
    }

    /// Lets time pass; what is sent meanwhile.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<Out> {
        let before = self.sent.len();
        let end = self.now + time;
        while let Some(at) = self.deadline.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_input(self.clock(), Input::Timeout).unwrap();
            self.drain();
        }
        self.now = end;
        self.sent[before..].to_vec()
    }

    pub(crate) fn event(&mut self) -> Event {
        assert!(!self.events.is_empty(), "nothing was told; sent: {:#?}", self.sent);
        self.events.remove(0)
    }

    /// All timers have fired: what is left.
    pub(crate) fn rest(&mut self) -> Load {
        self.wait(Duration::from_secs(120));
        self.machine.load()
    }

    pub(crate) fn clock(&self) -> Now {
        let wall = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Now { mono: self.now, wall: wall + self.now.saturating_since(Instant::ZERO) }
    }

    fn drain(&mut self) {
        loop {
            match self.machine.poll_output() {
                Output::Datagram { local, to, data } => {
                    assert_eq!(local, address(0));
                    self.sent.push(Out { to: Some(to), conn: None, text: lossy(&data) });
                }
                Output::Stream { conn, data } => {
                    self.sent.push(Out { to: None, conn: Some(conn), text: lossy(&data) });
                }
                Output::Connect { conn, to, .. } => self.connects.push((conn, to)),
                Output::Close { conn } => self.closed.push(conn),
                Output::Event(event) => self.events.push(event),
                Output::Timeout(deadline) => {
                    self.deadline = deadline;
                    return;
                }
            }
        }
    }
}

impl Out {
    /// The first line.
    pub(crate) fn start(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.lines();
        lines.find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        self.start().strip_prefix("SIP/2.0 ").and_then(|s| s.get(..3)?.parse().ok()).unwrap_or(0)
    }

    /// A response of the far end to this request of ours.
    pub(crate) fn response(&self, status: &str, tag: &str, more: &str, body: &str) -> String {
        let copied: String = self
            .text
            .lines()
            .take_while(|l| !l.is_empty())
            .filter(|l| ["Via", "From", "Call-ID", "CSeq"].iter().any(|n| l.starts_with(n)))
            .map(|l| format!("{l}\r\n"))
            .collect();
        let to = self.header("To").unwrap();
        let to =
            if to.contains(";tag=") || tag.is_empty() { to.to_owned() } else { format!("{to};tag={tag}") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "SIP/2.0 {status}\r\n{copied}To: {to}\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

fn lossy(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// A request of the far end's.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) uri: String,
    pub(crate) via: String,
    pub(crate) branch: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    pub(crate) more: String,
    pub(crate) body: String,
}

impl Ask {
    pub(crate) fn new(method: &'static str) -> Self {
        Self {
            method,
            uri: "sip:alice@192.0.2.1".into(),
            via: "SIP/2.0/UDP 192.0.2.2:5060".into(),
            branch: format!("z9hG4bK{method}1"),
            from: "<sip:bob@example.com>;tag=bob1".into(),
            to: "<sip:alice@example.com>".into(),
            call_id: "call-1".into(),
            cseq: 10,
            more: String::new(),
            body: String::new(),
        }
    }

    /// An INVITE with an offer and a Contact.
    pub(crate) fn invite() -> Self {
        let more = "Contact: <sip:bob@192.0.2.2:5060>\r\n".into();
        Self { more, body: "v=0\r\n".into(), ..Self::new("INVITE") }
    }

    pub(crate) fn with(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self
    }

    /// The ACK of our 2xx to it.
    pub(crate) fn ack(&self, ours: &Out) -> Self {
        Self { body: String::new(), ..self.within("ACK", ours, self.cseq) }
    }

    /// The same dialog after our response.
    pub(crate) fn within(&self, method: &'static str, ours: &Out, cseq: u32) -> Self {
        let branch = format!("z9hG4bK{method}{cseq}");
        Self { to: ours.header("To").unwrap().into(), cseq, branch, ..Self { method, ..self.clone() } }
    }

    pub(crate) fn text(&self) -> String {
        let kind = if self.body.is_empty() || self.more.contains("Content-Type") {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        format!(
            "{} {} SIP/2.0\r\nVia: {};branch={}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {}\r\n\
             Max-Forwards: 70\r\n{}{kind}Content-Length: {}\r\n\r\n{}",
            self.method,
            self.uri,
            self.via,
            self.branch,
            self.from,
            self.to,
            self.call_id,
            self.cseq,
            self.method,
            self.more,
            self.body.len(),
            self.body
        )
    }
}
