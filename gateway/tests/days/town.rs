//! A gateway and telephones, and what their owners do. All of it follows from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crosspoint_gateway::alias::{Alias, Domains};
use crosspoint_gateway::registrar::{self, Binding, Contact, Contacts, Expiry, Register};
use crosspoint_proto::netem::{Conditions, Net};
use crosspoint_proto::sip::auth::{Account, Algorithm, Challenge, Client, Secret, Verdict, Verifier};
use crosspoint_proto::sip::{
    Body, CallId, Command, Config, Contacts as Header, Destination, Endpoint, Event, Invite, Listen,
    MAX_FORWARDS, Method, Name, NameAddr, Registration, RegistrationId, Request, RequestId, Response,
    SessionTimer, Source, Uri,
};
use crosspoint_proto::{Instant, Now, Transport};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(crate) const GATEWAY: usize = 0;

const REALM: &str = "example.com";

/// Telephones register for so long, and again at half of it.
pub(crate) const EXPIRES: Duration = Duration::from_secs(120);

const SESSION: Duration = Duration::from_secs(90);

/// The gateway waits so long for an answer (`sip.ring_timeout`): a machine alone would wait for ever for a
/// telephone that has said that it rings.
const RINGS: Duration = Duration::from_secs(60);

/// A telephone rings no longer, and nobody talks longer.
const PATIENCE: Duration = Duration::from_secs(180);

const EXPIRY: Expiry = Expiry { least: Duration::from_secs(60), default: EXPIRES, most: EXPIRES };

/// The account of a device, on some machine.
pub(crate) struct Phone {
    pub(crate) node: usize,
    transport: Transport,
    /// What it was told: its binding lasts until then.
    pub(crate) registered_until: Option<Instant>,
}

/// What happened, for who looks whether enough did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) registered: u64,
    pub(crate) called: u64,
    pub(crate) talked: u64,
    pub(crate) ended: u64,
    pub(crate) refused: u64,
}

pub(crate) struct Town {
    pub(crate) net: Net<Endpoint>,
    pub(crate) phones: Vec<Phone>,
    pub(crate) tally: Tally,
    rng: ChaCha12Rng,
    seed: u64,
    verifier: Verifier,
    /// How many gateways there were before this one.
    lives: u64,
    /// By how much the gateway's clock has been set forwards.
    pub(crate) ahead: Duration,
    /// Nothing can be written.
    pub(crate) disk_fails: bool,
    /// What was written: all that the next gateway knows.
    disk: BTreeMap<usize, Vec<Binding>>,
    /// Digests that were accepted by this gateway.
    used: BTreeSet<String>,
    /// The two legs of each call through the gateway, both ways.
    bridges: BTreeMap<CallId, CallId>,
    /// Those of the gateway that were not answered yet, and until when it waits.
    ringing: BTreeMap<CallId, Instant>,
    /// Calls of each node that have not ended.
    open: BTreeSet<(usize, CallId)>,
    next: u64,
    later: BTreeMap<(Instant, u64), (usize, Command)>,
}

fn address(node: usize) -> SocketAddr {
    let last = u8::try_from(node + 1).unwrap();
    (Ipv4Addr::new(192, 0, 2, last), 5060).into()
}

fn endpoint(node: usize, seed: u64) -> Endpoint {
    let listen = [Transport::Udp, Transport::Tcp].map(|it| Listen::new(it, address(node)));
    let rng = ChaCha12Rng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(node as u64));
    let mut config = Config::new(listen.to_vec());
    // The shortest there is: whose far end was killed is free after a minute and a half.
    config.session = SessionTimer { expires: SESSION, min_expires: SESSION };
    Endpoint::new(config, rng)
}

fn verifier(seed: u64) -> Verifier {
    let mut key = [0; 32];
    ChaCha12Rng::seed_from_u64(seed).fill_bytes(&mut key);
    Verifier::new(REALM, &[Algorithm::Sha256, Algorithm::Md5], key)
}

fn account(phone: usize) -> Account {
    Account {
        username: format!("p{phone}"),
        secret: Secret::Password("secret".into()),
        realm: Some(REALM.into()),
        peers: vec![address(GATEWAY).ip()],
    }
}

fn aor(phone: usize) -> NameAddr {
    NameAddr::parse(&format!("<sip:p{phone}@{REALM}>")).unwrap()
}

/// Which telephone an address of record is of.
fn phone_of(uri: &Uri) -> Option<usize> {
    uri.as_sip()?.user.as_deref()?.strip_prefix('p')?.parse().ok()
}

impl Town {
    /// `nodes`: how many machines the telephones are on.
    pub(crate) fn new(seed: u64, phones: usize, nodes: usize, road: Conditions) -> Self {
        let mut net = Net::new(seed, road);
        for node in 0..=nodes {
            net.add(endpoint(node, seed), vec![address(node)]);
        }
        let mut town = Self {
            net,
            phones: Vec::new(),
            tally: Tally::default(),
            rng: ChaCha12Rng::seed_from_u64(seed),
            seed,
            verifier: verifier(seed),
            lives: 0,
            ahead: Duration::ZERO,
            disk_fails: false,
            disk: BTreeMap::new(),
            used: BTreeSet::new(),
            bridges: BTreeMap::new(),
            ringing: BTreeMap::new(),
            open: BTreeSet::new(),
            next: 0,
            later: BTreeMap::new(),
        };
        for phone in 0..phones {
            let transport = if phone % 4 == 3 { Transport::Tcp } else { Transport::Udp };
            town.phones.push(Phone { node: 1 + phone % nodes, transport, registered_until: None });
            // One after the other, so that refreshes are spread.
            let after = EXPIRES / 2 * u32::try_from(phone).unwrap() / u32::try_from(phones).unwrap();
            town.register_after(phone, after);
        }
        town
    }

    fn register_after(&mut self, phone: usize, pause: Duration) {
        let registration = Registration {
            registration: RegistrationId(phone as u64),
            registrar: Uri::parse(&format!("sip:{REALM}")).unwrap(),
            destination: self.gateway(phone),
            aor: aor(phone),
            expires: EXPIRES,
            account: Some(account(phone)),
        };
        self.after(pause, self.phones[phone].node, Command::Register(Box::new(registration)));
    }

    fn gateway(&self, phone: usize) -> Destination {
        let transport = Some(self.phones[phone].transport);
        Destination::Address { transport, address: address(GATEWAY), name: None }
    }

    fn after(&mut self, pause: Duration, node: usize, command: Command) {
        self.next += 1;
        self.later.insert((self.now() + pause, self.next), (node, command));
    }

    pub(crate) fn now(&self) -> Instant {
        self.net.now().mono
    }

    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    /// A telephone calls another, and hangs up after a while whatever came of it.
    pub(crate) fn call(&mut self, from: usize, to: usize, lasts: Duration) {
        self.next += 1;
        let (call, node) = (CallId(self.next), self.phones[from].node);
        let invite = Invite {
            call,
            target: aor(to).uri,
            destination: self.gateway(from),
            from: aor(from),
            to: None,
            body: Some(Body::sdp("offer")),
            routes: Vec::new(),
            headers: Vec::new(),
            account: Some(account(from)),
            max_forwards: MAX_FORWARDS,
            elsewhere: false,
        };
        self.tally.called += 1;
        self.open.insert((node, call));
        self.net.command(node, Command::Invite(Box::new(invite)));
        self.after(lasts, node, Command::Hangup { call, reason: None });
    }

    /// Lets that much time pass, in steps in which owners act.
    pub(crate) fn run(&mut self, time: Duration, step: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.net.run(step.min(end - self.now()));
            self.react();
            while let Some(entry) = self.later.first_entry().filter(|it| it.key().0 <= self.net.now().mono) {
                let (node, command) = entry.remove();
                self.net.command(node, command);
            }
            let now = self.now();
            let patient = self.ringing.iter().filter(|(_, until)| **until <= now);
            for call in patient.map(|(call, _)| *call).collect::<Vec<_>>() {
                self.ringing.remove(&call);
                self.net.command(GATEWAY, Command::Hangup { call, reason: None });
            }
            self.react();
        }
    }

    /// The road between the gateway and all telephones, both ways.
    pub(crate) fn set_road(&mut self, road: Conditions) {
        for node in 1..self.net.nodes.len() {
            self.set_road_of(node, road);
        }
    }

    /// The same for one of the machines.
    pub(crate) fn set_road_of(&mut self, node: usize, road: Conditions) {
        self.net.set_conditions(GATEWAY, node, road);
        self.net.set_conditions(node, GATEWAY, road);
    }

    /// Some connection breaks.
    pub(crate) fn cut(&mut self) {
        if let Some(conn) = self.net.connections(GATEWAY).first().copied() {
            self.net.cut(GATEWAY, conn);
        }
    }

    /// The gateway's process is killed, and another one begins with what is on the disk.
    pub(crate) fn kill(&mut self, seed: u64) {
        self.lives += 1;
        for conn in self.net.connections(GATEWAY) {
            self.net.cut(GATEWAY, conn);
        }
        self.net.nodes[GATEWAY].machine = endpoint(GATEWAY, seed + 77 * self.lives);
        self.net.nodes[GATEWAY].events.clear();
        self.verifier = verifier(seed + 77 * self.lives);
        self.used.clear();
        self.bridges.clear();
        self.ringing.clear();
        self.open.retain(|(node, _)| *node != GATEWAY);
        self.later.retain(|_, (node, _)| *node != GATEWAY);
        for binding in self.disk.values_mut().flatten() {
            binding.flow = binding.flow.filter(|flow| flow.transport() == Transport::Udp);
        }
    }

    /// What the gateway has acknowledged, it knows.
    pub(crate) fn check(&self) {
        for (number, phone) in self.phones.iter().enumerate() {
            let Some(until) = phone.registered_until.filter(|until| *until > self.now()) else { continue };
            // What it was told travelled for a while.
            let known = self.disk.get(&number).into_iter().flatten().map(|it| it.expires).max();
            let least = until - Duration::from_secs(40);
            assert!(known.is_some_and(|known| known >= least), "p{number} was told {until:?}, not {known:?}");
        }
    }

    /// Tables of the verifier have an end that an hour does not reach, and their trees are now more, now
    /// less filled: it begins anew with the same full ones. That they end is for its own tests to show.
    fn renew_verifier(&mut self) {
        self.verifier = verifier(self.seed);
        let now = self.net.now();
        let from = address(1).ip();
        let mut request = Request::new(Method::Register, Uri::parse("sip:example.com").unwrap());
        for number in 0..4_200 {
            let challenge = Challenge {
                realm: REALM.into(),
                nonce: format!("old{number}"),
                opaque: None,
                algorithm: Algorithm::Sha256,
                qop_auth: true,
                stale: false,
            };
            let mut refused = Response::to(&request, 401, Some("t"));
            refused.headers.push(Name::WwwAuthenticate, challenge);
            let account = Account { peers: vec![from], ..account(0) };
            let signed = Client::new(account).answer(&request, &refused, from, &mut self.rng);
            let (name, credentials) = signed.unwrap();
            request.headers.set(name, credentials);
            let secret = |_: &str| Some(Secret::Password("secret".into()));
            let verdict = self.verifier.authenticate(now, from, &request, &Name::Authorization, secret);
            assert_eq!(verdict, Verdict::Stale);
            request.headers.remove(&Name::Authorization);
        }
    }

    /// Forgets what only the test remembers, and what has no end.
    pub(crate) fn forget(&mut self) {
        self.used.clear();
        self.renew_verifier();
    }

    /// Nobody calls and nothing is left of any call, with every telephone registered.
    pub(crate) fn assert_quiet(&self) {
        assert!(self.open.is_empty() && self.bridges.is_empty(), "{:?} {:?}", self.open, self.bridges);
        for node in &self.net.nodes {
            let load = node.machine.load();
            assert_eq!((load.calls, load.dialogs), (0, 0), "{load:?}");
            assert!(node.faults.is_empty(), "{:?}", node.faults);
        }
        for (number, phone) in self.phones.iter().enumerate() {
            assert!(
                phone.registered_until.is_some_and(|until| until > self.now()),
                "p{number} is not registered"
            );
        }
        self.check();
    }

    fn react(&mut self) {
        for node in 0..self.net.nodes.len() {
            while let Some(event) = self.net.event(node) {
                self.count(node, &event);
                if node == GATEWAY { self.serve(event) } else { self.answer(node, event) }
            }
        }
    }

    /// Each call ends once, and nothing is told of it afterwards.
    fn count(&mut self, node: usize, event: &Event) {
        let call = match event {
            Event::Incoming(incoming) => {
                assert!(self.open.insert((node, incoming.call)), "{} came twice", incoming.call);
                return;
            }
            Event::Ended { call, .. } => {
                assert!(self.open.remove(&(node, *call)), "{call} ended twice at {node}");
                self.tally.ended += 1;
                return;
            }
            Event::Ringing { call, .. }
            | Event::Progress { call, .. }
            | Event::Answered { call, .. }
            | Event::Acked { call, .. }
            | Event::Reinvite { call, .. }
            | Event::Refreshed { call, .. } => call,
            _ => return,
        };
        assert!(self.open.contains(&(node, *call)), "{call} at {node} told {event:?} after its end");
    }

    /// The gateway's owner.
    fn serve(&mut self, event: Event) {
        match event {
            Event::Request { request, message, source } => self.register(request, &message, &source),
            Event::Incoming(incoming) => {
                let (call, phrase) = (incoming.call, String::new());
                if let Err(headers) = self.prove(&incoming.request, &incoming.source) {
                    let reject = Command::Reject { call, status: 401, phrase, reason: None, headers };
                    return self.net.command(GATEWAY, reject);
                }
                let now = self.now();
                let called = phone_of(&incoming.request.uri).and_then(|it| self.disk.get(&it));
                let binding = called.into_iter().flatten().find(|it| it.expires > now && it.flow.is_some());
                let Some((uri, flow)) = binding.and_then(|it| Some((it.uri.clone(), it.flow?))) else {
                    self.tally.refused += 1;
                    let reject = Command::Reject { call, status: 480, phrase, reason: None, headers: vec![] };
                    return self.net.command(GATEWAY, reject);
                };
                self.next += 1;
                let out = CallId(self.next);
                let invite = Invite {
                    call: out,
                    target: uri,
                    destination: Destination::Flow(flow),
                    from: incoming.request.headers.from().unwrap(),
                    to: None,
                    body: incoming.body,
                    routes: Vec::new(),
                    headers: Vec::new(),
                    account: None,
                    max_forwards: MAX_FORWARDS,
                    elsewhere: false,
                };
                self.bridges.extend([(call, out), (out, call)]);
                self.open.insert((GATEWAY, out));
                self.ringing.insert(out, now + RINGS);
                self.net.command(GATEWAY, Command::Invite(Box::new(invite)));
            }
            Event::Ringing { call, .. } => {
                if let Some(call) = self.bridges.get(&call).copied() {
                    self.net.command(GATEWAY, Command::Ring { call });
                }
            }
            Event::Answered { call, body, .. } => match (self.answered(call), body) {
                (Some(call), Some(body)) => {
                    self.tally.talked += 1;
                    self.net.command(GATEWAY, Command::Answer { call, body });
                }
                _ => self.net.command(GATEWAY, Command::Hangup { call, reason: None }),
            },
            Event::Ended { call, .. } => {
                self.ringing.remove(&call);
                if let Some(other) = self.bridges.remove(&call) {
                    self.bridges.remove(&other);
                    self.net.command(GATEWAY, Command::Hangup { call: other, reason: None });
                }
            }
            Event::Reinvite { call, .. } => {
                self.net.command(GATEWAY, Command::AnswerReinvite { call, body: Body::sdp("answer") });
            }
            Event::FlowClosed { flow } => {
                for binding in self.disk.values_mut().flatten() {
                    binding.flow = binding.flow.filter(|it| *it != flow);
                }
            }
            _ => {}
        }
    }

    /// The other leg of a call that is answered.
    fn answered(&mut self, call: CallId) -> Option<CallId> {
        self.ringing.remove(&call);
        self.bridges.get(&call).copied()
    }

    /// The headers of a challenge for who has not proved that he is the one he says.
    fn prove(&mut self, request: &Request, source: &Source) -> Result<usize, Vec<(String, String)>> {
        let now = Now { wall: self.net.now().wall + self.ahead, ..self.net.now() };
        let claimed = match request.method {
            Method::Register => request.headers.to(),
            _ => request.headers.from(),
        };
        let phone = claimed.and_then(|it| phone_of(&it.uri));
        let from = source.remote.ip();
        let verdict = self.verifier.authenticate(now, from, request, &Name::Authorization, |user| {
            (Some(user) == phone.map(|it| format!("p{it}")).as_deref())
                .then(|| Secret::Password("secret".into()))
        });
        match (verdict, phone) {
            (Verdict::Accepted { .. }, Some(phone)) => {
                let digest = request.headers.get(&Name::Authorization).unwrap().to_owned();
                assert!(self.used.insert(digest.clone()), "accepted twice: {digest}");
                Ok(phone)
            }
            (verdict, _) => {
                let stale = verdict == Verdict::Stale;
                let challenges = self.verifier.challenges(now, from, stale);
                Err(challenges.iter().map(|it| ("WWW-Authenticate".to_owned(), it.to_string())).collect())
            }
        }
    }

    fn register(&mut self, request: RequestId, message: &Request, source: &Source) {
        let (status, headers) = match self.prove(message, source) {
            Err(challenge) => (401, challenge),
            Ok(_) if self.disk_fails => (503, vec![("Retry-After".to_owned(), "5".to_owned())]),
            Ok(phone) => self.bind(phone, message, source),
        };
        let respond = Command::Respond { request, status, phrase: String::new(), headers, body: None };
        self.net.command(GATEWAY, respond);
    }

    fn bind(&mut self, phone: usize, message: &Request, source: &Source) -> (u16, Vec<(String, String)>) {
        let Ok(Header::List(list)) = message.headers.contacts() else { return (400, vec![]) };
        let contact = |it: NameAddr| Contact {
            expires: it.expires(),
            q: Some(it.q()),
            instance: None,
            reg_id: None,
            uri: it.uri,
        };
        let register = Register {
            alias: Alias::parse(&format!("p{phone}"), &Domains::default()).unwrap(),
            contacts: Contacts::List(list.into_iter().map(contact).collect()),
            expires: message.headers.expires(),
            call_id: message.headers.call_id().unwrap_or_default().to_owned(),
            cseq: message.headers.cseq().map_or(0, |it| it.number),
            flow: Some(source.flow),
            translated: source.translated,
            path: Vec::new(),
            user_agent: String::new(),
        };
        let now = self.now();
        let standing = self.disk.entry(phone).or_default();
        match registrar::apply(standing, &register, EXPIRY, now) {
            Ok(applied) => {
                *standing = applied.bindings;
                let told = |it: &Binding| {
                    ("Contact".to_owned(), format!("<{}>;expires={}", it.uri, it.remaining(now).as_secs()))
                };
                (200, standing.iter().map(told).collect())
            }
            Err(refusal) => panic!("p{phone}: {refusal}"),
        }
    }

    /// The owner of telephones.
    fn answer(&mut self, node: usize, event: Event) {
        match event {
            Event::Incoming(incoming) => {
                let call = incoming.call;
                let (kind, pause) = (self.below(20), Duration::from_millis(self.below(5_000).into()));
                if kind < 16 {
                    self.net.command(node, Command::Ring { call });
                    self.after(pause, node, Command::Answer { call, body: Body::sdp("answer") });
                } else if kind < 18 {
                    let phrase = String::new();
                    let busy = Command::Reject { call, status: 486, phrase, reason: None, headers: vec![] };
                    self.net.command(node, busy);
                }
                // Else nobody is at home; the caller gives up, or the telephone does. Some who answered hang up themselves.
                if kind.is_multiple_of(3) {
                    self.after(pause * 3, node, Command::Hangup { call, reason: None });
                }
                self.after(PATIENCE, node, Command::Hangup { call, reason: None });
            }
            Event::Reinvite { call, .. } => {
                self.net.command(node, Command::AnswerReinvite { call, body: Body::sdp("answer") });
            }
            Event::Registered { registration, expires, .. } => {
                self.tally.registered += 1;
                let until = self.now() + expires;
                self.phones[registration.0 as usize].registered_until = Some(until);
            }
            Event::RegistrationFailed { registration, retry: None, .. } => {
                self.register_after(registration.0 as usize, Duration::from_secs(10));
            }
            _ => {}
        }
    }
}
