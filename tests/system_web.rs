//! The side of the clients from outside: HTTPS, proxies, and what is withstood there.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use support::gateway::Gateway;
use support::web::{Client, Incoming, Web, wait_until_known};
use support::{PATIENCE, free_port};

/// A PIN that nothing else in a log looks like.
const PIN: &str = "90817263";

fn add_room(gateway: &Gateway, name: &str, options: &[&str]) {
    let mut arguments = vec!["conference", "add", name];
    arguments.extend(options);
    let output = gateway.cli(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A gateway with a room `meet.alice` (host PIN [`PIN`], guests without), which clients can enter.
fn with_room(web_more: &str) -> Gateway {
    let gateway = Gateway::with_web(&[], web_more);
    add_room(&gateway, "Alice's room", &["--alias", "meet.alice", "--host-pin", PIN, "--guests"]);
    wait_until_known(&gateway, "meet.alice");
    gateway
}

#[test]
fn s55_s85_two_clients_meet_over_https_by_any_spelling_of_the_alias() {
    let gateway = with_room("");
    let host = Client::join(&gateway, "meet.alice", "Alice", PIN);
    let mut events = host.events();
    assert_eq!(events.next().0, "participant_sync_begin");
    assert_eq!(events.until("conference_update")["started"], json!(true));
    for alias in ["MEET.Alice", "meet.alice@127.0.0.1", "meet.alice%40127.0.0.1"] {
        let guest = Client::join(&gateway, alias, "Bob", "none");
        assert_eq!(guest.granted["role"], "GUEST");
        let came = events.until_that("participant_create", |it| it["uuid"] == guest.uuid.as_str());
        assert_eq!(came["protocol"], "api");
        let said = json!({ "type": "text/plain", "payload": "hello" }).to_string();
        assert_eq!(guest.post("message", &said), (200, json!(true)));
        assert_eq!(events.until("message_received")["payload"], "hello");
        guest.post("release_token", "{}");
        events.until_that("participant_delete", |it| it["uuid"] == guest.uuid.as_str());
    }
    let status = gateway.status();
    let listening = status["listening"].as_array().unwrap();
    let web = listening.iter().find(|it| it["service"] == "web").unwrap();
    assert_eq!(web["address"], format!("127.0.0.1:{}", gateway.web));
    assert_eq!(web["transport"], "tls");
}

#[test]
fn s70_clients_can_be_shut_out() {
    let gateway = with_room("infinity_clients = false\ndisabled_text = \"Closed on Sundays\"");
    let answer = Web::of(&gateway).request_token("meet.alice", "Alice", PIN);
    assert_eq!(
        (answer.code, answer.json()),
        (403, json!({ "status": "failed", "result": "Closed on Sundays" }))
    );
}

#[test]
fn s76_in_maintenance_nobody_is_let_in_and_the_node_says_so() {
    let gateway = Gateway::with_web(&[], "maintenance = true");
    let status = Web::of(&gateway).request("GET /api/client/v2/status", "", "").unwrap();
    assert_eq!((status.code, status.result()), (503, json!("Maintenance mode")));
}

#[test]
fn clients_are_told_that_the_gateway_stops() {
    let mut gateway = with_room("");
    let mut events = Client::join(&gateway, "meet.alice", "Alice", PIN).events();
    events.until("conference_update");
    let begun = Instant::now();
    // A meeting has its time to end, as calls have.
    gateway.stop_at_once();
    assert_eq!(events.until("disconnect"), json!({ "reason": "Signaling node disconnected" }));
    assert_eq!(events.next_or_end(PATIENCE), Some(None));
    assert_eq!(gateway.ends().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

/// A gateway with a room that is also served without TLS, where this machine is a trusted proxy.
fn behind_a_proxy(more: &str) -> (Gateway, Web) {
    let plain = free_port();
    let more = format!("plain_listen = [\"127.0.0.1:{plain}\"]\ntrusted_proxies = [\"127.0.0.1\"]\n{more}");
    (with_room(&more), Web::plain((Ipv4Addr::LOCALHOST, plain).into()))
}

/// Promise 36 in small: `tests/gate_slow.rs` has all of it.
#[test]
fn two_hundred_that_dawdle_are_closed_in_time_and_hold_up_nobody() {
    let (gateway, plain) = behind_a_proxy("");
    let web = Web::of(&gateway).from(Ipv4Addr::new(127, 0, 0, 2));
    let open = |to: SocketAddr, first: &[u8]| {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(first).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let (https, http) = ((Ipv4Addr::LOCALHOST, gateway.web).into(), plain.address());
    let begun = Instant::now();
    // A record of TLS that never ends, a head that never ends, a body that never ends.
    let body = b"POST /api/client/v2/conferences/meet.alice/request_token HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{";
    let mut dawdlers: Vec<(&str, TcpStream, Option<Duration>)> = Vec::new();
    for _ in 0..100 {
        dawdlers.push(("handshake", open(https, &[22, 3, 1, 1, 0, 1]), None));
    }
    for _ in 0..60 {
        dawdlers.push(("head", open(http, b"GET /api/client/v2/status HTTP/1.1\r\nX: "), None));
    }
    for _ in 0..40 {
        dawdlers.push(("body", open(http, body), None));
    }
    let mut waits = Vec::new();
    while dawdlers.iter().any(|(.., ended)| ended.is_none()) && begun.elapsed() < Duration::from_secs(20) {
        for (_, stream, ended) in dawdlers.iter_mut().filter(|(.., ended)| ended.is_none()) {
            let mut answer = [0; 1024];
            let over = stream.write_all(b"1").is_err()
                || match stream.read(&mut answer) {
                    Ok(count) => count == 0 || answer.starts_with(b"HTTP/1.1 408"),
                    Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                };
            if over {
                *ended = Some(begun.elapsed());
            }
        }
        for _ in 0..5 {
            let asked = Instant::now();
            assert_eq!(web.request("GET /api/client/v2/status", "", "").unwrap().code, 200);
            waits.push(asked.elapsed());
        }
        std::thread::sleep(Duration::from_millis(400));
    }
    for (what, most) in [("handshake", 7), ("head", 12), ("body", 12)] {
        let of_it = dawdlers.iter().filter(|(kind, ..)| *kind == what).map(|(.., ended)| *ended);
        let last = of_it.map(|ended| ended.unwrap_or(Duration::MAX)).max().unwrap();
        assert!(last < Duration::from_secs(most), "the last {what} ended after {last:?}");
    }
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(waits.len() >= 50 && p99 <= Duration::from_millis(200), "{} asked, p99 {p99:?}", waits.len());
}

/// Promise 38, its part of JSON.
#[test]
fn bombs_are_refused_at_once_and_unpacked_never() {
    let (gateway, plain) = behind_a_proxy("");
    let alice = Client::over(&plain, "meet.alice", "Alice", PIN);
    let before = resident(&gateway);
    let path = "/api/client/v2/conferences/meet.alice";
    let token = format!("token: {}\r\n", alice.token);
    let endless = "Transfer-Encoding: chunked\r\n";
    for target in ["request_token", "message", "dial", "transform_layout", "lock"] {
        for (what, headers, body, code) in [
            ("deep", format!("Content-Length: {}\r\n", 60_000), "[".repeat(60_000), 400),
            ("packed", "Content-Encoding: gzip\r\nContent-Length: 4\r\n".into(), "\x1f\0\0\0".into(), 415),
            ("a gibibyte", format!("Content-Length: {}\r\n", 1_u32 << 30), String::new(), 413),
            ("endless", endless.into(), format!("FFFF\r\n{}\r\n", "x".repeat(0xFFFF)).repeat(2), 413),
        ] {
            let mut connection = plain.connect().unwrap();
            connection.patience(PATIENCE);
            let begun = Instant::now();
            let head = format!("POST {path}/{target} HTTP/1.1\r\nHost: x\r\n{token}{headers}\r\n");
            connection.write_all(head.as_bytes()).unwrap();
            // It may have been refused before all of it was sent.
            let _ = connection.write_all(body.as_bytes());
            let (found, _) = Incoming::new(connection).head().unwrap();
            let took = begun.elapsed();
            assert_eq!(found, code, "{target}: {what}");
            assert!(took <= Duration::from_millis(200), "{target}: {what} took {took:?}");
        }
    }
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown <= 64 * 1024, "{grown} KiB more resident");
    assert_eq!(alice.get("conference_status").0, 200, "and the others go on");
}

/// Promise 39 in small: 10 000 of the million of `tests/gate_tokens.rs`.
#[test]
fn no_forged_token_is_taken_and_no_log_has_a_token_or_a_pin() {
    let (gateway, plain) = behind_a_proxy("[log]\nlevel = \"debug\"");
    let mut alice = Client::over(&plain, "meet.alice", "Alice", PIN);
    let first = alice.token.clone();
    alice.refresh();
    let guest = Client::over(&plain, "meet.alice", "Bob", "none");
    assert_eq!(plain.request_token("meet.alice", "Eve", "55443322").code, 403);
    drop(alice.events());
    let gone = guest.token.clone();
    guest.post("release_token", "{}");
    let path = "/api/client/v2/conferences/meet.alice/participants";
    let mut incoming = Incoming::new(plain.connect().unwrap());
    incoming.connection().patience(PATIENCE);
    let mut taken = Vec::new();
    for (n, forged) in forgeries(&alice.token, &gone).into_iter().enumerate() {
        assert_ne!(forged, alice.token);
        // Each few hundred from another client: one alone is slowed down.
        let client = format!("X-Forwarded-For: 10.1.{}.{}\r\n", n / 400 / 250, n / 400 % 250 + 1);
        let (head, header) = match n % 2 {
            0 => (format!("GET {path}"), format!("{client}token: {forged}\r\n")),
            _ => (format!("GET {path}?token={forged}"), client),
        };
        plain.ask(incoming.connection(), &head, &header, "").unwrap();
        let (code, head) = incoming.head().unwrap();
        incoming.body(&head).unwrap();
        match code {
            403 => {}
            200 => taken.push(forged),
            other => panic!("{other} for {forged}"),
        }
    }
    assert!(taken.is_empty(), "{taken:?}");
    assert_eq!(alice.get("participants").0, 200);
    let log = gateway.log();
    let line = "method=GET path=\"/api/client/v2/conferences/meet.alice/events\" status=200";
    assert!(log.contains(line), "{log}");
    for secret in [&first, &alice.token, &gone, PIN, "55443322"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// Ten thousand tokens that are none: mutilated ones of `token`, one that was given back, random ones.
fn forgeries(token: &str, gone: &str) -> Vec<String> {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut forged = vec![gone.to_owned(), token.to_ascii_lowercase(), format!("{token}A"), String::new()];
    forged.extend((0..token.len()).map(|end| token[..end].to_owned()));
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |most: usize| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % most as u64).unwrap()
    };
    while forged.len() < 10_000 {
        let mut signs = token.as_bytes().to_vec();
        if forged.len().is_multiple_of(2) {
            // One or two signs changed.
            for _ in 0..=random(2) {
                let at = random(signs.len());
                signs[at] = SIGNS[random(64)];
            }
        } else {
            signs.fill_with(|| SIGNS[random(64)]);
        }
        let signs = String::from_utf8(signs).unwrap();
        if signs != token {
            forged.push(signs);
        }
    }
    forged
}

/// KiB in memory.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
