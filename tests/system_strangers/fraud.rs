//! Promise 42 against the whole program: whatever is dialled, whoever dials it and whatever he says of himself,
//! nothing leaves without a rule that is there for him; whom the called side names, and whom a party
//! sends the other to, is asked about as a call of theirs.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::support::gateway::{Device, Gateway};
use crate::support::register::Registering;
use crate::support::stranger::{Stranger, signed};
use crate::support::{free_port, wait_for};
use crosspoint_proto::sip::{Message, Method, Name, Request, Response};
use serde_json::Value;

/// The one number that may be called, by Alice alone.
const NUMBER: &str = "+493012345";
/// Where nothing must ever arrive.
const ELSEWHERE: &str = "127.66.6.6";

/// Whom the rule sends calls to, who refuses them all.
struct Carrier {
    at: String,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    /// Target and caller of each call, by its Call-ID.
    calls: Vec<(String, String, String)>,
    /// Where the next calls are sent on; nowhere: they are told that it is busy.
    named: Option<String>,
}

impl Carrier {
    fn new() -> Self {
        let socket = UdpSocket::bind(("127.66.0.1", free_port())).unwrap();
        let at = socket.local_addr().unwrap().to_string();
        let heard = Arc::<Mutex<Heard>>::default();
        let told = heard.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                let Ok(Message::Request(request)) = Message::parse(&buffer[..count]) else { continue };
                if request.method == Method::Invite {
                    let answer = told.lock().unwrap().call(&request);
                    let _ = socket.send_to(&answer.to_bytes(), from);
                }
            }
        });
        Self { at, heard }
    }

    /// Targets and callers of what has come since the last look.
    fn calls(&self) -> Vec<(String, String)> {
        let calls = std::mem::take(&mut self.heard.lock().unwrap().calls);
        calls.into_iter().map(|(_, target, caller)| (target, caller)).collect()
    }

    fn sends_on_to(&self, place: Option<String>) {
        self.heard.lock().unwrap().named = place;
    }
}

impl Heard {
    fn call(&mut self, invite: &Request) -> Response {
        let id = invite.headers.get(&Name::CallId).unwrap().to_owned();
        if self.calls.iter().all(|(known, ..)| *known != id) {
            let caller = invite.headers.from().unwrap().uri.alias();
            self.calls.push((id, invite.uri.to_string(), caller));
        }
        match &self.named {
            Some(place) => {
                let mut answer = Response::to(invite, 302, Some("carrier"));
                answer.headers.push(Name::Contact, format!("<{place}>"));
                answer
            }
            None => Response::to(invite, 486, Some("carrier")),
        }
    }
}

/// Listens wherever the dial strings lead. One at a time: the ports are the usual ones.
struct Trap {
    _alone: MutexGuard<'static, ()>,
    datagrams: UdpSocket,
    streams: Vec<TcpListener>,
}

impl Trap {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let datagrams = UdpSocket::bind((ELSEWHERE, 5060)).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let streams = [5060, 5061, 5070].map(|port| TcpListener::bind((ELSEWHERE, port)).unwrap());
        streams.iter().for_each(|it| it.set_nonblocking(true).unwrap());
        Self { _alone: alone, datagrams, streams: streams.into() }
    }

    fn is_empty(&self) -> bool {
        self.datagrams.recv(&mut [0; 1]).is_err() && self.streams.iter().all(|it| it.accept().is_err())
    }
}

/// As people, scanners, telephones and those who mean no good spell what they call.
fn dial_strings(carrier: &str) -> Vec<String> {
    let users = [
        NUMBER,
        "+498912345",
        "+4930123456",
        "+49301234",
        "00493012345",
        "0493012345",
        "9011493012345",
        "*72%23+493012345",
        "%2B493012345",
        "%2b%34%39%33%30%31%32%33%34%35",
        "%252B493012345",
        "1-800-FLOWERS",
        "1800flowers",
        "+49-30-12345",
        "+49(30)12345",
        "+49.30.12345",
        "carrier",
        "127.66.6.6",
        "+493012345,123",
        "+493012345%00",
        "+493012345%0d%0aRoute:%20x",
        "%EF%BC%8B493012345",
        "%D9%A0%D9%A0%D9%A4%D9%A9%D9%A3%D9%A0%D9%A1",
        "+493012345%20",
    ];
    let frames = [
        "sip:{}@example.com",
        "sip:{}@127.0.0.1",
        "sips:{}@example.com",
        "sips:{}@127.0.0.1:5061;transport=tls",
        "sip:{}@example.com;user=phone",
        "sip:{};phone-context=+49@example.com;user=phone",
        "sip:{};phone-context=example.com@example.com",
        "sip:{};postd=22@example.com;user=phone",
        "tel:{}",
        "tel:{};phone-context=+49",
        "tel:{};phone-context=example.com",
        "sip:{}@127.66.6.6",
        "sip:{}@127.66.6.6:5070;transport=tcp",
        "sips:{}@127.66.6.6",
        "sip:{}@CARRIER",
        "sip:{}@example.com;maddr=127.66.6.6",
        "sip:{}@example.com;maddr=127.66.6.6;transport=tcp;lr",
        "sip:{}@elsewhere.example",
        "sips:{}@elsewhere.example",
        "sip:{}%40127.66.6.6@example.com",
        "sip:sip%3A{}%40127.66.6.6@example.com",
        "sip:{}:secret@example.com",
        "sip:{}@example.com?Route=%3Csip:127.66.6.6;lr%3E",
        "sip:{}@example.com?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc",
        "sip:{}@example.com;method=REFER?Refer-To=sip:x@127.66.6.6",
        "sip:{}@example.com?Diversion=%3Csip:alice@example.com%3E",
    ];
    let all = users.iter().flat_map(|user| frames.map(|frame| frame.replace("{}", user)));
    all.map(|it| it.replace("CARRIER", carrier)).collect()
}

/// Headers in which somebody says that he is Alice, or where his call shall go.
fn headers() -> [String; 12] {
    [
        String::new(),
        "P-Asserted-Identity: <sip:alice@example.com>\r\n".into(),
        "P-Preferred-Identity: \"Alice\" <sip:alice@example.com>\r\n".into(),
        "Remote-Party-ID: <sip:alice@example.com>;party=calling;screen=yes;privacy=off\r\n".into(),
        "Diversion: <sip:alice@example.com>;reason=unconditional\r\n".into(),
        "History-Info: <sip:alice@example.com>;index=1\r\n".into(),
        "Referred-By: <sip:alice@example.com>\r\n".into(),
        "Replaces: someone;to-tag=a;from-tag=b\r\n".into(),
        format!("Refer-To: <sip:{NUMBER}@{ELSEWHERE}>\r\n"),
        format!("Route: <sip:{ELSEWHERE};lr>\r\n"),
        format!("Route: <sip:alice@{ELSEWHERE};lr>, <sip:{ELSEWHERE}:5070;transport=tcp;lr>\r\n"),
        "Proxy-Authorization: Digest username=\"alice\", realm=\"crosspoint\", nonce=\"n\", uri=\"sip:x\", \
         response=\"00000000000000000000000000000000\"\r\n"
            .into(),
    ]
}

/// Sends a request and waits for its final answer, which is acknowledged as INVITE wants it. What asks
/// something meanwhile is told 200.
fn settle(line: &Stranger, text: &str) -> Response {
    line.send(text);
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    let (call, cseq) = (of("Call-ID: "), of("CSeq: "));
    loop {
        let answer = match line.receive().unwrap_or_else(|| panic!("no answer to {text}")) {
            Message::Response(answer) => answer,
            Message::Request(request) => {
                line.send(Response::to(&request, 200, None).to_bytes());
                continue;
            }
        };
        let is = |name: &Name, value: &str| answer.headers.get(name) == Some(value);
        if answer.status < 200 || !is(&Name::CallId, &call) || !is(&Name::CSeq, &cseq) {
            continue;
        }
        if cseq.ends_with(" INVITE") && answer.status >= 300 {
            let to = answer.headers.get(&Name::To).unwrap();
            let kept = ["Via: ", "From: ", "Call-ID: ", "Max-Forwards: "]
                .map(|name| format!("{name}{}\r\n", of(name)));
            let target = text.split(' ').nth(1).unwrap();
            let number = cseq.split(' ').next().unwrap();
            line.send(format!(
                "ACK {target} SIP/2.0\r\n{}To: {to}\r\nCSeq: {number} ACK\r\nContent-Length: 0\r\n\r\n",
                kept.concat()
            ));
        }
        return answer;
    }
}

/// Calls `target`, as a device if it is one; the status of the answer.
fn dial(line: &mut Stranger, from: &str, device: bool, target: &str, more: &str) -> u16 {
    let text = line.request("INVITE", from, "x", more);
    let (first, rest) = text.split_once("\r\n").unwrap();
    assert!(first.starts_with("INVITE "));
    let text = format!("INVITE {target} SIP/2.0\r\n{rest}");
    // What cannot be read can be signed by nobody.
    let signs = device && Message::parse(text.as_bytes()).is_ok();
    let text = if signs { signed(line, from, &format!("{from}-secret"), &text) } else { text };
    settle(line, &text).status
}

fn gateway(carrier: &Carrier, sip_more: &str) -> Gateway {
    let devices = ["alice", "bob"].map(|name| Device { name, more: String::new() });
    let rules = format!(
        "[[trunks]]\nname = \"peer\"\nhost = \"127.0.0.9\"\nkeep_alive = \"0s\"\n\
         [[rules]]\nname = \"carrier\"\npriority = 10\nmatch = '\\+493012345'\nfrom = \"alice\"\n\
         follow_redirects = true\nproxy = \"{}\"\n",
        carrier.at
    );
    let sip = format!("domains = [\"example.com\"]\ntrusted_sources = [\"127.0.0.0/8\"]\n{sip_more}");
    Gateway::with_sip(&devices, &rules, &sip)
}

/// Registers a device on a port that its calls come from, and go to.
fn line_of(gateway: &Gateway, name: &str) -> Stranger {
    let mut registering = Registering::new(gateway.sip, name.len() as u64);
    assert_eq!(registering.register(name, &format!("{name}-secret")), Some(200));
    let port = registering.port();
    drop(registering);
    Stranger::on([127, 0, 0, 1], port, gateway)
}

/// What was written down of all calls that are over.
fn records(gateway: &Gateway) -> Vec<Value> {
    wait_for("all calls to be over", || gateway.status()["calls"].as_array()?.is_empty().then_some(()));
    let file = gateway.scratch.path().join("data/calls.jsonl");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn promise_42_no_spelling_and_no_header_leads_out_but_by_the_rule_that_is_for_the_caller() {
    let (carrier, trap) = (Carrier::new(), Trap::new());
    let strings = dial_strings(&carrier.at);
    assert!(strings.iter().collect::<BTreeSet<_>>().len() >= 500);
    let (open, closed) = (gateway(&carrier, ""), gateway(&carrier, "strangers = \"refused\""));
    let mut alice = line_of(&open, "alice");
    let mut bob = line_of(&open, "bob");
    let mut guest = Stranger::at([127, 0, 1, 1], &open);
    let mut stranger = Stranger::at([127, 0, 1, 2], &closed);
    let mut trunk = Stranger::at([127, 0, 0, 9], &open);
    let tricks = headers();
    for (n, target) in strings.iter().enumerate() {
        let more = &tricks[n % tricks.len()];
        for (line, from, device) in [
            (&mut stranger, "stranger", false),
            (&mut guest, "guest", false),
            (&mut trunk, "guest", false),
            (&mut bob, "bob", true),
        ] {
            let status = dial(line, from, device, target, more);
            assert!((400..500).contains(&status), "{from} calls {target} with {more:?}: {status}");
        }
    }
    // The number itself, with everything that somebody may say of himself.
    let number = format!("sip:{NUMBER}@example.com");
    for more in &tricks {
        for (line, from, device) in [
            (&mut stranger, "alice", false),
            (&mut guest, "alice", false),
            (&mut trunk, "alice", false),
            (&mut bob, "bob", true),
        ] {
            let status = dial(line, from, device, &number, more);
            assert!(matches!(status, 400..=485 | 487..=499), "{from} with {more:?}: {status}");
        }
    }
    assert_eq!(carrier.calls(), [], "nobody but Alice");

    for (n, target) in strings.iter().enumerate() {
        let status = dial(&mut alice, "alice", true, target, &tricks[n % tricks.len()]);
        assert!((400..500).contains(&status), "alice calls {target}: {status}");
    }
    let calls = carrier.calls();
    assert!(calls.len() >= 40, "the rule lets her out: {}", calls.len());
    let expected = (format!("sip:{NUMBER}@{}", carrier.at), "alice@example.com".to_owned());
    assert!(calls.iter().all(|call| *call == expected), "{calls:?}");

    assert!(trap.is_empty(), "something arrived at {ELSEWHERE}");
    let (mut left, all) = (0, records(&open));
    for record in &all {
        let legs = record["legs"].as_array().unwrap().len();
        match record["rule"].as_str() {
            Some(rule) => {
                assert_eq!((rule, record["caller"].as_str()), ("carrier", Some("alice")), "{record}");
                left += 1;
            }
            None => assert!(legs <= 1, "{record}"),
        }
    }
    assert!(all.len() >= 1_000, "{} calls on record", all.len());
    assert_eq!(left, calls.len());
    assert!(records(&closed).is_empty(), "strangers are no calls");
}

#[test]
fn promise_42_who_is_called_names_no_place_that_the_caller_could_not_call() {
    let carrier = Carrier::new();
    let gateway = gateway(&carrier, "");
    let mut alice = line_of(&gateway, "alice");
    let number = format!("sip:{NUMBER}@example.com");
    let strings = dial_strings(&carrier.at);
    for place in &strings {
        carrier.sends_on_to(Some(place.clone()));
        let status = dial(&mut alice, "alice", true, &number, "");
        assert!((400..500).contains(&status), "{place}: {status}");
        let calls = carrier.calls();
        assert_eq!(calls.len(), 1, "to {place}: {calls:?}");
    }
    for record in records(&gateway) {
        for place in record["redirections"].as_array().unwrap_or(&Vec::new()) {
            assert_ne!(place["outcome"], "called", "{record}");
        }
        assert_eq!(record["rule"], "carrier", "{record}");
    }
}

/// One side of a call that stands.
struct Side<'a> {
    line: &'a Stranger,
    target: String,
    from: String,
    to: String,
    call: String,
    sent: u32,
}

impl Side<'_> {
    /// A request within the call; the status of its answer.
    fn ask(&mut self, method: &str, more: &str) -> u16 {
        self.sent += 1;
        let (here, n) = (self.line.here(), self.sent);
        let Self { target, from, to, call, .. } = self;
        let text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{call}{n};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call}\r\nCSeq: {n} {method}\r\n\
             Contact: <sip:x@{here}>\r\n{more}Content-Length: 0\r\n\r\n"
        );
        settle(self.line, &text).status
    }

    /// Sends the other one there; the status, and when that is 202, what came of it.
    fn refer(&mut self, place: &str) -> (u16, Option<String>) {
        let status = self.ask("REFER", &format!("Refer-To: <{place}>\r\n"));
        let outcome = (status == 202).then(|| {
            loop {
                let Some(Message::Request(notify)) = self.line.receive() else {
                    panic!("nothing of {place}")
                };
                self.line.send(Response::to(&notify, 200, None).to_bytes());
                let told = String::from_utf8_lossy(&notify.body).trim().to_owned();
                if notify.method == Method::Notify && !told.starts_with("SIP/2.0 1") {
                    break told;
                }
            }
        });
        (status, outcome)
    }
}

/// The next message that is wanted.
fn next<T>(line: &Stranger, mut wanted: impl FnMut(Message) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(line.receive().expect("a message")) {
            return found;
        }
    }
}

/// Alice calls Bob, who answers.
fn call<'a>(alice: &'a mut Stranger, bob: &'a Stranger) -> [Side<'a>; 2] {
    let text = alice.request("INVITE", "alice", "bob", "");
    let text = signed(alice, "alice", "alice-secret", &text);
    alice.send(&text);
    let invite = next(bob, |message| match message {
        Message::Request(request) if request.method == Method::Invite => Some(request),
        _ => None,
    });
    let sdp = crate::support::call::sdp_at(29_100, 0);
    let mut answer = Response::to(&invite, 200, Some("bob")).with_body("application/sdp", sdp);
    answer.headers.push(Name::Contact, format!("<sip:bob@{}>", bob.here()));
    bob.send(answer.to_bytes());
    let ok = next(alice, |message| match message {
        Message::Response(response) if response.status >= 200 => Some(response),
        _ => None,
    });
    assert_eq!(ok.status, 200);
    let side = |line, from: &str, to: &str, contact: &str, call: &str| Side {
        line,
        target: contact.trim_matches(['<', '>']).to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        call: call.to_owned(),
        sent: 1,
    };
    let of = |response: &Response, name: Name| response.headers.get(&name).unwrap().to_owned();
    let [from, to, id] = [Name::From, Name::To, Name::CallId].map(|name| of(&ok, name));
    let hers = side(&*alice, &from, &to, &of(&ok, Name::Contact), &id);
    let here = alice.here();
    alice.send(format!(
        "ACK {} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bKack{id};rport\r\nMax-Forwards: 70\r\n\
         From: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
        hers.target
    ));
    let contact = invite.headers.get(&Name::Contact).unwrap();
    let [from, to, id] = [Name::To, Name::From, Name::CallId].map(|name| of(&answer, name));
    let his = side(bob, &from, &to, contact, &id);
    next(bob, |message| matches!(message, Message::Request(it) if it.method == Method::Ack).then_some(()));
    [hers, his]
}

/// Transfers that one call may ask for.
const TRANSFERS: usize = 16;

#[test]
fn promise_42_nobody_is_sent_on_where_who_asks_could_not_call() {
    let (carrier, trap) = (Carrier::new(), Trap::new());
    let gateway = gateway(&carrier, "");
    let mut alice = line_of(&gateway, "alice");
    let bob = line_of(&gateway, "bob");
    let strings = dial_strings(&carrier.at);
    let mut by_alice = 0;
    for some in strings.chunks(TRANSFERS) {
        for asks in [0, 1] {
            let mut sides = call(&mut alice, &bob);
            for place in some {
                let (status, outcome) = sides[asks].refer(place);
                let calls = carrier.calls();
                match outcome {
                    // Asked as any other, and not there.
                    Some(told) if place.contains("Replaces=") => {
                        assert!(told.starts_with("SIP/2.0 481"), "{place}: {told}");
                        assert_eq!(calls, [], "{place}");
                    }
                    // Hers to call, and busy.
                    Some(told) => {
                        assert_eq!((asks, calls.len()), (0, 1), "{place}: {told}");
                        assert!(told.starts_with("SIP/2.0 486"), "{place}: {told}");
                        assert!(calls[0].0.starts_with(&format!("sip:{NUMBER}@")), "{calls:?}");
                        by_alice += 1;
                    }
                    None => {
                        assert!(matches!(status, 400..=499 | 501), "{asks} {place}: {status}");
                        assert_eq!(calls, [], "{place}");
                    }
                }
            }
            assert_eq!(sides[0].ask("BYE", ""), 200);
            let bye = next(&bob, |message| match message {
                Message::Request(request) if request.method == Method::Bye => Some(request),
                _ => None,
            });
            bob.send(Response::to(&bye, 200, None).to_bytes());
        }
    }
    assert!(by_alice >= 40, "{by_alice}");
    assert!(trap.is_empty(), "something arrived at {ELSEWHERE}");
}
