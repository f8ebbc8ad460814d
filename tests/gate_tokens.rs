//! A million tokens that are none, and how long the answers take (promise 39). Prints its figures; run it
//! alone: `cargo test --release --test gate_tokens -- --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use support::gateway::Gateway;
use support::web::{Client, Incoming, Web};
use support::{PATIENCE, free_port};

const RANDOM: usize = 1_000_000;
const MUTATED: usize = 100_000;
/// Requests that are sent before the first is answered.
const AT_ONCE: usize = 100;
/// Requests of each kind whose answers are timed.
const TIMED: usize = 5_000;
/// A token lives so long without a refresh, and the one that a new one replaced.
const LIFE: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(60);
const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[test]
fn promise_39_a_million_forged_tokens_are_refused_and_their_answers_tell_nothing() {
    let plain = free_port();
    // What is asked is in the log, and no request is refused for being one of many.
    let gateway = Gateway::with_conferences(
        &[],
        &format!(
            "plain_listen = [\"127.0.0.1:{plain}\"]\n[log]\nlevel = \"debug\"\n\
             [limits]\nweb_requests_per_source = 1000000"
        ),
        &[&["Here", "--alias", "here"], &["There", "--alias", "there"]],
    );
    let web = Web::plain((Ipv4Addr::LOCALHOST, plain).into());
    let begun = Instant::now();
    let mut alice = Client::over(&web, "here", "Alice", "");
    let [left, mut refreshed, silent] =
        ["Bob", "Carol", "Dave"].map(|name| Client::over(&web, "here", name, ""));
    let mut elsewhere = Client::over(&web, "there", "Erin", "");
    assert_eq!(left.post("release_token", "{}").0, 200);
    let replaced = refreshed.token.clone();
    refreshed.refresh();
    let mut line = Line::new(&web);
    assert_eq!(line.ask(from_ref(&alice.token)), [200], "a token that is one");
    let mut secrets = vec![alice.token.clone(), left.token.clone(), elsewhere.token.clone()];

    let mut chance = Chance(0x2545_F491_4F6C_DD1D);
    let length = alice.token.len();
    let mut random = |_: usize| chance.token(length);
    let (took, taken) = tried(&mut line, RANDOM, &mut random, || {
        alice.refresh();
        elsewhere.refresh();
    });
    println!("{RANDOM} random ones in {took:.1?}: {taken} taken");
    assert_eq!(taken, 0);
    secrets.extend([alice.token.clone(), elsewhere.token.clone()]);
    let good = alice.token.clone();
    let mut mutated = |n: usize| chance.mutated(&good, n);
    let (took, taken) = tried(&mut line, MUTATED, &mut mutated, || {});
    println!("{MUTATED} mutated ones in {took:.1?}: {taken} taken");
    assert_eq!(taken, 0);
    // Cut off anywhere, continued, in other letters, given back, of another room.
    let mut others: Vec<String> = (0..good.len()).map(|end| good[..end].to_owned()).collect();
    others.extend([format!("{good}A"), good.repeat(2), good.to_ascii_lowercase(), format!("%20{good}")]);
    others.extend([left.token.clone(), elsewhere.token.clone()]);
    assert!(line.ask(&others).iter().all(|code| *code == 403));

    alice.refresh();
    elsewhere.refresh();
    timing(&mut line, &mut chance, [&alice.token, &elsewhere.token, &left.token]);
    assert_eq!(line.ask(from_ref(&alice.token)), [200]);

    // Those that nobody refreshed in time, and the one that was replaced.
    std::thread::sleep((LIFE + Duration::from_secs(2)).saturating_sub(begun.elapsed()));
    assert!(GRACE < LIFE);
    let mut line = Line::new(&web);
    for dead in [&silent.token, &refreshed.token, &replaced] {
        assert_eq!(line.ask(from_ref(dead)), [403], "expired");
    }
    secrets.extend([silent.token, refreshed.token, replaced, alice.token]);
    let log = gateway.log();
    let requests = log.matches("path=\"/api/client/v2/conferences/here/participants\" status=403").count();
    assert!(requests >= RANDOM + MUTATED, "{requests} requests are in the log");
    for secret in secrets {
        assert!(!log.contains(&secret), "a token is in the log");
    }
}

/// Medians of the times that answers to different kinds of tokens take, asked by turns.
fn timing(line: &mut Line<'_>, chance: &mut Chance, [good, elsewhere, left]: [&String; 3]) {
    let changed = |at: usize| {
        let mut signs = good.clone().into_bytes();
        signs[at] = if signs[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(signs).unwrap()
    };
    let mut times: [(&str, Vec<Duration>); 6] =
        ["random", "first sign wrong", "last sign wrong", "half of it", "of another room", "given back"]
            .map(|name| (name, Vec::new()));
    for n in 0..TIMED * times.len() {
        let kind = n % times.len();
        let token = match kind {
            0 => chance.token(good.len()),
            1 => changed(0),
            2 => changed(good.len() - 1),
            3 => good[..good.len() / 2].to_owned(),
            4 => elsewhere.clone(),
            _ => left.clone(),
        };
        let begun = Instant::now();
        assert_eq!(line.ask(&[token]), [403]);
        times[kind].1.push(begun.elapsed());
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let medians = times.map(|(name, mut times)| (name, median(&mut times)));
    println!("medians of {TIMED}: {medians:.1?}");
    let random = medians[0].1;
    // The noise of medians of so many on a machine that does other things as well.
    let noise = Duration::from_micros(3).max(random / 25);
    for (name, median) in medians {
        assert!(median.abs_diff(random) <= noise, "{name}: {median:?}, where random ones take {random:?}");
    }
}

/// Asks with `count` tokens of `forge`; how many were taken, and how long it took.
fn tried(
    line: &mut Line<'_>,
    count: usize,
    forge: &mut dyn FnMut(usize) -> String,
    mut now_and_then: impl FnMut(),
) -> (Duration, usize) {
    let (begun, mut taken, mut refreshed) = (Instant::now(), 0, Instant::now());
    for first in (0..count).step_by(AT_ONCE) {
        let tokens: Vec<String> = (first..first + AT_ONCE).map(&mut *forge).collect();
        for code in line.ask(&tokens) {
            assert!(matches!(code, 200 | 403), "{code}");
            taken += usize::from(code == 200);
        }
        if refreshed.elapsed() > LIFE / 4 {
            refreshed = Instant::now();
            now_and_then();
        }
    }
    (begun.elapsed(), taken)
}

/// A connection that carries one request after the other.
struct Line<'a> {
    web: &'a Web,
    incoming: Incoming,
    asked: usize,
}

impl<'a> Line<'a> {
    fn new(web: &'a Web) -> Self {
        Self { web, incoming: Self::connect(web), asked: 0 }
    }

    fn connect(web: &Web) -> Incoming {
        let connection = web.connect().unwrap();
        connection.patience(PATIENCE);
        Incoming::new(connection)
    }

    /// What the participants of the room are answered with for each token, in its header and in the
    /// query by turns.
    fn ask(&mut self, tokens: &[String]) -> Vec<u16> {
        let path = "/api/client/v2/conferences/here/participants";
        let mut text = String::new();
        for token in tokens {
            self.asked += 1;
            let host = self.web.address();
            text.push_str(&if self.asked.is_multiple_of(2) {
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\ntoken: {token}\r\n\r\n")
            } else {
                format!("GET {path}?token={token} HTTP/1.1\r\nHost: {host}\r\n\r\n")
            });
        }
        self.incoming.connection().write_all(text.as_bytes()).unwrap();
        let answers = tokens.iter().map(|_| {
            let (code, head) = self.incoming.head().unwrap();
            self.incoming.body(&head).unwrap();
            code
        });
        answers.collect()
    }
}

/// xorshift64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }

    fn token(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(SIGNS[self.below(64)])).collect()
    }

    /// One that differs in one, two or three signs.
    fn mutated(&mut self, token: &str, n: usize) -> String {
        loop {
            let mut signs = token.as_bytes().to_vec();
            for _ in 0..=n % 3 {
                let at = self.below(signs.len());
                signs[at] = SIGNS[self.below(64)];
            }
            let signs = String::from_utf8(signs).unwrap();
            if signs != token {
                return signs;
            }
        }
    }
}
