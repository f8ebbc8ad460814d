//! Promise 44: what was overheard of a digest is good for nothing.

use std::net::IpAddr;
use std::time::Duration;

use crosspoint_proto::Now;
use crosspoint_proto::sip::auth::{Account, Algorithm, Client, Secret, Verdict, Verifier};
use crosspoint_proto::sip::{Message, Name, Request, Response, Uri};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::solo::{Ask, Solo};

const ALICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
const THIEF: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

fn parsed(text: &str) -> Request {
    match Message::parse(text.as_bytes()).unwrap() {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a request was written"),
    }
}

fn register() -> Request {
    parsed(&Ask { uri: "sip:example.com".into(), ..Ask::new("REGISTER") }.text())
}

/// The server, and a client that was challenged once.
struct Rig {
    verifier: Verifier,
    client: Client,
    rng: ChaCha12Rng,
    now: Now,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let account = Account {
            username: "alice".into(),
            secret: Secret::Password("secret".into()),
            realm: Some("example.com".into()),
            peers: vec![ALICE],
        };
        let (verifier, now) = (verifier(7), Solo::new().clock());
        Self { verifier, client: Client::new(account), rng: ChaCha12Rng::seed_from_u64(seed), now }
    }

    /// A request with the digest of whoever has the password.
    fn signed(&mut self, mut request: Request) -> Request {
        let (name, value) = match self.client.next(&request.method, &request.uri, &mut self.rng) {
            Some(header) => header,
            None => {
                let mut challenge = Response::to(&request, 401, Some("t"));
                for it in self.verifier.challenges(self.now, ALICE, false) {
                    challenge.headers.push(Name::WwwAuthenticate, it);
                }
                self.client.answer(&request, &challenge, ALICE, &mut self.rng).unwrap()
            }
        };
        request.headers.set(name, value);
        request
    }

    fn tried(&mut self, from: IpAddr, request: &Request) -> Verdict {
        tried(&mut self.verifier, self.now, from, request)
    }

    fn passes(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono + time, wall: self.now.wall + time };
    }
}

fn verifier(key: u8) -> Verifier {
    Verifier::new("example.com", &[Algorithm::Sha256, Algorithm::Md5], [key; 32])
}

fn tried(verifier: &mut Verifier, now: Now, from: IpAddr, request: &Request) -> Verdict {
    verifier.authenticate(now, from, request, &Name::Authorization, |user| {
        (user == "alice").then(|| Secret::Password("secret".into()))
    })
}

fn accepted() -> Verdict {
    Verdict::Accepted { username: "alice".into() }
}

/// The same credentials in another request.
fn moved(used: &Request, method: &'static str, uri: &str) -> Request {
    let mut request = parsed(&Ask { uri: uri.into(), ..Ask::new(method) }.text());
    request.headers.set(Name::Authorization, used.headers.get(&Name::Authorization).unwrap());
    request
}

#[test]
fn promise_44_credentials_are_good_once_from_where_they_were_asked_for_and_for_what_they_were_made() {
    // Overheard and used before their owner's request arrives: from elsewhere, for another method, target.
    let mut rig = Rig::new(1);
    let used = rig.signed(register());
    assert_eq!(rig.tried(THIEF, &used), Verdict::Stale, "from another address");
    for (method, uri) in
        [("INVITE", "sip:example.com"), ("OPTIONS", "sip:example.com"), ("REGISTER", "sip:other.example")]
    {
        assert_eq!(rig.tried(ALICE, &moved(&used, method, uri)), Verdict::Refused, "{method} {uri}");
    }
    let invite = moved(&used, "INVITE", "sip:+4930123@example.com");
    assert_eq!(rig.tried(ALICE, &invite), Verdict::Refused, "a call elsewhere");
    // None of that has used them up.
    assert_eq!(rig.tried(ALICE, &used), accepted());
    // Used again: told to be stale once, which the thief was, and then refused.
    for _ in 0..3 {
        assert_eq!(rig.tried(ALICE, &used), Verdict::Refused, "the same count");
    }
    let next = rig.signed(register());
    assert!(next.headers.get(&Name::Authorization).unwrap().contains("nc=00000002"));
    assert_eq!(rig.tried(ALICE, &next), accepted(), "the next count of the same nonce");
    assert_eq!(rig.tried(ALICE, &next), Verdict::Stale, "who has lost the answer");
    assert_eq!(rig.tried(THIEF, &next), Verdict::Refused);
    // Kept for later.
    let kept = rig.signed(register());
    rig.passes(Duration::from_secs(301));
    assert_eq!(rig.tried(ALICE, &kept), Verdict::Stale, "an old nonce");
    for used in [&used, &next, &kept] {
        assert_eq!(rig.tried(ALICE, used), Verdict::Refused);
    }
    // After a restart nothing of before is good, used or not.
    let mut rig = Rig::new(2);
    let (used, unused) = (rig.signed(register()), rig.signed(register()));
    assert_eq!(rig.tried(ALICE, &used), accepted());
    let mut restarted = verifier(8);
    for request in [&used, &unused] {
        assert_eq!(tried(&mut restarted, rig.now, ALICE, request), Verdict::Stale);
        assert_eq!(tried(&mut restarted, rig.now, ALICE, request), Verdict::Refused);
    }
}

/// Any request, replayed in any order, with anything of it changed, at any time.
#[test]
fn promise_44_of_any_replays_none_is_accepted() {
    for seed in 0..20 {
        let mut rig = Rig::new(seed);
        let mut sent: Vec<Request> = Vec::new();
        let (mut good, mut replays) = (0, 0);
        for _ in 0..500 {
            let draw = rig.rng.next_u32();
            if draw.is_multiple_of(4) || sent.is_empty() {
                let request = rig.signed(register());
                let verdict = rig.tried(ALICE, &request);
                if verdict == Verdict::Stale {
                    // Its nonce has become too old: it asks for another one.
                    let fresh = Rig::new(seed).client;
                    rig.client = fresh;
                } else {
                    assert_eq!(verdict, accepted());
                    good += 1;
                }
                sent.push(request);
                continue;
            }
            let used = sent[(draw / 4) as usize % sent.len()].clone();
            let value = used.headers.get(&Name::Authorization).unwrap().to_owned();
            let (mut replay, mut from) = (used, ALICE);
            match draw >> 28 {
                0..5 => {}
                5 | 6 => from = THIEF,
                7 => replay.uri = Uri::parse("sip:elsewhere@example.com").unwrap(),
                8 => replay = moved(&replay, "INVITE", "sip:example.com"),
                9 => replay.headers.set(Name::Authorization, value.replace("nc=0000", "nc=0001")),
                10 => replay.headers.set(Name::Authorization, value.replace("nonce=\"", "nonce=\"A")),
                11 => replay.headers.set(Name::Authorization, value.replace("qop=auth", "qop=auth-int")),
                12 => replay.headers.set(Name::Authorization, value.replace("SHA-256", "MD5")),
                _ => rig.passes(Duration::from_secs(u64::from(draw >> 20 & 0xff))),
            }
            let verdict = rig.tried(from, &replay);
            assert!(
                matches!(verdict, Verdict::Stale | Verdict::Refused | Verdict::Missing),
                "{verdict:?}: {value}"
            );
            replays += 1;
        }
        assert!(good > 50 && replays > 300, "{good} {replays}");
    }
}
