//! Two thousand event streams, a tenth of which nobody reads (promise 37).
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use support::gateway::Gateway;
use support::web::{Client, Events, Web};
use support::{free_port, wait_for};

const ROOMS: u8 = 20;
/// Sessions of a room, each with two streams.
const EACH: u8 = 50;
/// The streams of so many rooms are never read.
const UNREAD: usize = 2;

/// The way to the gateway that the `n`th client of a room takes: every other room is reached through
/// the one proxy, the rest directly; ten clients share an address.
fn way(direct: &Web, proxy: &Web, room: u8, n: u8) -> Web {
    let way = if room.is_multiple_of(2) {
        proxy.header("X-Forwarded-For", &format!("10.0.{room}.{}", n / 10 + 1))
    } else {
        direct.from(Ipv4Addr::new(127, 0, room, n / 10 + 1))
    };
    if usize::from(room) < UNREAD { way.narrow() } else { way }
}

#[test]
fn two_thousand_event_streams_of_which_two_hundred_are_never_read() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let plain = free_port();
    let gateway = Gateway::with_web(
        &[],
        &format!("plain_listen = [\"127.0.0.1:{plain}\"]\ntrusted_proxies = [\"127.0.0.1\"]"),
    );
    let (direct, proxy) = (Web::of(&gateway), Web::plain((Ipv4Addr::LOCALHOST, plain).into()));
    for room in 0..=ROOMS {
        let (name, alias) = (format!("Room {room}"), format!("room.{room}"));
        let added = gateway.cli(&["conference", "add", &name, "--alias", &alias]);
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }
    let last = format!("room.{ROOMS}");
    wait_for("the last room", || (direct.request_token(&last, "Early", "").code == 200).then_some(()));

    let mut rooms: Vec<Vec<Client>> = Vec::new();
    for room in 0..ROOMS {
        let join = |n| {
            Client::over(&way(&direct, &proxy, room, n), &format!("room.{room}"), &format!("Client {n}"), "")
        };
        rooms.push((0..EACH).map(join).collect());
    }
    let joined = resident(&gateway);
    let mut streams: Vec<Vec<Events>> = Vec::new();
    for clients in &rooms {
        streams.push(clients.iter().flat_map(|client| [client.events(), client.events()]).collect());
    }
    let mut read = streams.split_off(UNREAD);
    let unread = streams;
    assert_eq!(read.iter().chain(&unread).map(Vec::len).sum::<usize>(), 2_000);
    // Everybody who reads is told of everybody.
    for events in read.iter_mut().flatten() {
        events.until("stage");
    }
    let opened = resident(&gateway);

    // Beyond the limit of an address, one that the proxy tells of as well.
    for way in [direct.from(Ipv4Addr::new(127, 0, 200, 1)), proxy.header("X-Forwarded-For", "10.9.9.9")] {
        let others: Vec<Client> = (0..33).map(|_| Client::over(&way, &last, "Another", "")).collect();
        let tried: Vec<(u16, Events)> =
            others.iter().flat_map(|client| [client.try_events(), client.try_events()]).flatten().collect();
        let codes: Vec<u16> = tried.iter().map(|(code, _)| *code).collect();
        assert_eq!((&codes[..64], &codes[64..]), (&[200; 64][..], &[429; 2][..]));
    }

    // Much is said where nobody reads.
    let stands = || {
        let status = gateway.status();
        let web = status["signalling"].as_array().unwrap().iter().find(|it| it["protocol"] == "web").unwrap();
        web["connections"].as_u64().unwrap()
    };
    wait_for("the others to be gone", || (stands() == 2_000).then_some(()));
    let quiet = resident(&gateway);
    // Who speaks is told of nothing that it says.
    let speakers: Vec<Client> =
        (0..UNREAD).map(|room| Client::over(&direct, &format!("room.{room}"), "Speaker", "")).collect();
    let said = Instant::now();
    let text = json!({ "payload": "x".repeat(16_000) }).to_string();
    for _ in 0..40 {
        for speaker in &speakers {
            assert_eq!(speaker.post("message", &text).0, 200);
        }
    }
    let flooded = resident(&gateway);
    let closed = wait_for("the stalled streams to be closed", || (stands() == 1_800).then(|| said.elapsed()));
    assert!(closed <= Duration::from_secs(20), "the stalled streams were closed after {closed:?}");
    println!(
        "resident: {joined} KiB joined, {opened} KiB opened, {quiet} KiB quiet, {flooded} KiB flooded; closed after {closed:?}"
    );
    let grown = flooded.saturating_sub(quiet);
    assert!(grown <= 32 * 1024, "200 that do not read hold {grown} KiB");
    let each = opened.saturating_sub(joined) / 2_000;
    // 35 were seen, which leaves a sixth for other allocators: 16 of them are what HTTP reads and writes
    // with, 8 each and no less in that library; the connection's task takes 5, TLS 4 and its keys where
    // it is spoken, and who is in the room and what is on its way the rest.
    assert!(each <= 42, "an open stream holds {each} KiB");

    // Everybody else goes on.
    for (clients, streams) in rooms[UNREAD..].iter().zip(&mut read) {
        assert_eq!(clients[0].post("message", r#"{"payload":"still here?"}"#).0, 200);
        for events in &mut streams[2..] {
            assert_eq!(events.until("message_received")["payload"], "still here?");
        }
    }
    drop(unread);
}

/// KiB in memory.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
