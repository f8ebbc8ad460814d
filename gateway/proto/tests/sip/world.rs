//! Two endpoints, what their owners say, and what a test waits for.

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_proto::netem::{Conditions, Net, Sent};
use crosspoint_proto::sip::auth::{Account, Algorithm, Secret, Verdict, Verifier};
use crosspoint_proto::sip::{
    Body, CallId, Command, Config, Destination, Endpoint, Event, Invite, Listen, Load, MAX_FORWARDS, Name,
    NameAddr, Request, Source, Uri,
};
use crosspoint_proto::{Now, Transport};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;

/// Longer than any timer of a call that stands.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + index as u8], 5060))
}

/// One that listens everywhere.
pub(crate) fn config(index: usize) -> Config {
    let (plain, tls) = (address(index), SocketAddr::new(address(index).ip(), 5061));
    Config::new(vec![
        Listen::new(Transport::Udp, plain),
        Listen::new(Transport::Tcp, plain),
        Listen::new(Transport::Tls, tls),
    ])
}

pub(crate) fn endpoint(index: usize, seed: u64) -> (Endpoint, Vec<SocketAddr>) {
    made(config(index), index, seed)
}

fn made(config: Config, index: usize, seed: u64) -> (Endpoint, Vec<SocketAddr>) {
    let addresses = config.listen.iter().map(|l| l.address).collect();
    let rng = ChaCha12Rng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(index as u64));
    (Endpoint::new(config, rng), addresses)
}

pub(crate) struct World {
    pub(crate) net: Net<Endpoint>,
}

impl World {
    pub(crate) fn new(seed: u64, conditions: Conditions) -> Self {
        Self::of(2, seed, conditions)
    }

    pub(crate) fn of(count: usize, seed: u64, conditions: Conditions) -> Self {
        let mut net = Net::new(seed, conditions);
        for index in 0..count {
            let (machine, addresses) = endpoint(index, seed);
            net.add(machine, addresses);
        }
        net.keep_log();
        Self { net }
    }

    /// Alice, and a bob who is configured otherwise.
    pub(crate) fn with_bob(change: impl FnOnce(&mut Config)) -> Self {
        let mut bob = config(BOB);
        change(&mut bob);
        let mut net = Net::new(1, Conditions::delay(Duration::from_millis(10)));
        for (machine, addresses) in [endpoint(ALICE, 1), made(bob, BOB, 1)] {
            net.add(machine, addresses);
        }
        net.keep_log();
        Self { net }
    }

    pub(crate) fn perfect() -> Self {
        Self::new(1, Conditions::delay(Duration::from_millis(10)))
    }

    pub(crate) fn tell(&mut self, who: usize, command: Command) {
        self.net.command(who, command);
        assert!(self.net.nodes[who].faults.is_empty(), "{:?}", self.net.nodes[who].faults);
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.net.run(time);
    }

    /// The next event of one side, waiting for it.
    pub(crate) fn next(&mut self, who: usize) -> Event {
        self.next_within(who, LONG)
    }

    pub(crate) fn next_within(&mut self, who: usize, time: Duration) -> Event {
        let came = self.net.drive_until(time, |net| !net.nodes[who].events.is_empty());
        assert!(came, "nothing happened at {who}; {:#?}", self.lines());
        self.net.event(who).unwrap()
    }

    /// Nothing more is told to anybody, and nothing is left anywhere.
    pub(crate) fn settle(&mut self) {
        self.run(Duration::from_secs(200));
        for (who, node) in self.net.nodes.iter_mut().enumerate() {
            node.events.retain(|(_, e)| !matches!(e, Event::FlowClosed { .. }));
            assert!(node.events.is_empty(), "{who}: {:#?}", node.events);
            let mut load = node.machine.load();
            load.connections = 0;
            assert_eq!(load, Load::default(), "{who} keeps something");
            assert!(node.faults.is_empty());
        }
    }

    /// First lines of all that was sent: "0>1 INVITE sip:..".
    pub(crate) fn lines(&self) -> Vec<String> {
        self.net.log().iter().map(line).collect()
    }

    /// How many messages of one side begin so.
    pub(crate) fn count(&self, from: usize, start: &str) -> usize {
        let sent = self.net.log().iter().filter(|s| s.from == from);
        sent.filter(|s| s.data.starts_with(start.as_bytes())).count()
    }

    /// The text of the last message of one side that begins so.
    pub(crate) fn last(&self, from: usize, start: &str) -> String {
        let sent = self.net.log().iter().filter(|s| s.from == from);
        let last = sent.filter(|s| s.data.starts_with(start.as_bytes())).last();
        let last = last.unwrap_or_else(|| panic!("{from} sent no {start}: {:#?}", self.lines()));
        String::from_utf8_lossy(&last.data).into_owned()
    }

    /// Alice calls bob; answers bob's number of the call.
    pub(crate) fn ring(&mut self, invite: Invite) -> CallId {
        self.tell(ALICE, Command::Invite(Box::new(invite)));
        match self.next(BOB) {
            Event::Incoming(incoming) => incoming.call,
            other => panic!("{other:?}"),
        }
    }

    /// Alice has called bob, bob has answered, both are told; answers both numbers.
    pub(crate) fn talk(&mut self, invite: Invite) -> (CallId, CallId) {
        let out = invite.call;
        let call = self.ring(invite);
        self.tell(BOB, Command::Answer { call, body: sdp("answer") });
        assert!(matches!(self.next(ALICE), Event::Answered { body: Some(_), .. }));
        assert!(matches!(self.next(BOB), Event::Acked { body: None, .. }));
        (out, call)
    }
}

pub(crate) fn line(sent: &Sent) -> String {
    let text = String::from_utf8_lossy(&sent.data);
    let first = text.lines().next().unwrap_or_default().to_owned();
    format!("{:?} {}>{:?} {first}", sent.at, sent.from, sent.to)
}

pub(crate) fn sdp(text: &str) -> Body {
    Body::sdp(text.as_bytes().to_vec())
}

pub(crate) fn text(body: &Body) -> &str {
    std::str::from_utf8(&body.data).unwrap()
}

pub(crate) fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap()
}

pub(crate) fn name(text: &str) -> NameAddr {
    NameAddr::parse(text).unwrap()
}

pub(crate) fn over(transport: Transport, to: usize) -> Destination {
    let mut address = address(to);
    if transport == Transport::Tls {
        address.set_port(5061);
    }
    Destination::Address { transport: Some(transport), address, name: None }
}

/// Alice to bob over UDP with an offer.
pub(crate) fn invite(call: u64) -> Invite {
    Invite {
        call: CallId(call),
        target: uri("sip:bob@192.0.2.2"),
        destination: over(Transport::Udp, BOB),
        from: name("\"Alice\" <sip:alice@example.com>"),
        to: None,
        body: Some(sdp("offer")),
        routes: Vec::new(),
        headers: Vec::new(),
        account: None,
        max_forwards: MAX_FORWARDS,
        elsewhere: false,
    }
}

/// Whom bob's registrar and calls know.
pub(crate) fn account(password: &str) -> Account {
    Account {
        username: "alice".into(),
        secret: Secret::Password(password.into()),
        realm: Some("example.com".into()),
        peers: vec![address(BOB).ip()],
    }
}

/// An owner that challenges.
pub(crate) fn verifier() -> Verifier {
    Verifier::new("example.com", &[Algorithm::Sha256, Algorithm::Md5], [7; 32])
}

/// What an owner says to a request: `Ok` to go on, or the headers of its challenge.
pub(crate) fn check(
    verifier: &mut Verifier,
    now: Now,
    request: &Request,
    source: &Source,
) -> Result<(), Vec<(String, String)>> {
    let secret = |user: &str| (user == "alice").then(|| Secret::Password("secret".into()));
    match verifier.authenticate(now, source.remote.ip(), request, &Name::Authorization, secret) {
        Verdict::Accepted { .. } => Ok(()),
        verdict => {
            let challenges = verifier.challenges(now, source.remote.ip(), verdict == Verdict::Stale);
            Err(challenges.iter().map(|c| ("WWW-Authenticate".to_owned(), c.to_string())).collect())
        }
    }
}
