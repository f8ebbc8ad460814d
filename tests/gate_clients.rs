//! Two hundred participants without media in one room who write and are muted: what an event costs,
//! and how soon it is there. Prints its figures; run it alone:
//! `cargo test --release --test gate_clients -- --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use support::gateway::Gateway;
use support::wait_for;
use support::web::{Client, Web};

const CLIENTS: usize = 200;
/// Of those who share an address: an office.
const OFFICE: usize = 40;
/// Rounds of a message and of one who is muted or may speak again.
const ROUNDS: usize = 100;
const EACH: Duration = Duration::from_millis(100);

/// What one reader has seen.
#[derive(Default)]
struct Seen {
    /// Round and arrival of each message.
    messages: Vec<(usize, Instant)>,
    events: usize,
    bytes: usize,
}

#[test]
fn two_hundred_in_a_room_who_write_and_are_muted() {
    let gateway = Gateway::with_web(&[], "");
    let added = gateway.cli(&["conference", "add", "Hall", "--alias", "hall", "--limit", "250"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let web = Web::of(&gateway);
    wait_for("the hall", || (web.request_token("hall", "", "").code == 200).then_some(()));
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|n| {
            let office = u8::try_from(n / OFFICE + 2).unwrap();
            let way = web.from(Ipv4Addr::new(127, 0, 0, office));
            Client::over(&way, "hall", &format!("Client {n}"), "")
        })
        .collect();
    let (over, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<JoinHandle<Seen>> = clients
        .iter()
        .map(|client| {
            let (mut events, over, ready) = (client.events(), over.clone(), ready.clone());
            std::thread::spawn(move || {
                events.until("stage");
                ready.fetch_add(1, Ordering::Relaxed);
                let mut seen = Seen::default();
                while !over.load(Ordering::Relaxed) {
                    let Some((name, data)) = events.within(Duration::from_millis(200)) else { continue };
                    let now = Instant::now();
                    seen.events += 1;
                    seen.bytes += data.to_string().len();
                    if name == "message_received" {
                        seen.messages.push((data["payload"].as_str().unwrap().parse().unwrap(), now));
                    }
                }
                seen
            })
        })
        .collect();
    wait_for("all streams", || (ready.load(Ordering::Relaxed) == CLIENTS).then_some(()));
    // What the joining has set off is over.
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu(&gateway);
    let begun = Instant::now();
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        let (writer, muted) = (&clients[round % CLIENTS], &clients[(round / 2 * 7) % CLIENTS]);
        said.push(Instant::now());
        let body = json!({ "payload": round.to_string() }).to_string();
        assert_eq!(writer.post("message", &body).0, 200);
        let deed = if round.is_multiple_of(2) { "mute" } else { "unmute" };
        assert_eq!(clients[0].post(&format!("participants/{}/{deed}", muted.uuid), "").0, 200);
        std::thread::sleep(
            (begun + EACH * u32::try_from(round + 1).unwrap()).saturating_duration_since(Instant::now()),
        );
    }
    // The last ones arrive.
    std::thread::sleep(Duration::from_secs(1));
    let (used, took) = (cpu(&gateway) - used, begun.elapsed());
    over.store(true, Ordering::Relaxed);
    let seen: Vec<Seen> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();

    let events: usize = seen.iter().map(|it| it.events).sum();
    let bytes: usize = seen.iter().map(|it| it.bytes).sum();
    let messages = seen.iter().flat_map(|it| &it.messages);
    let mut waits: Vec<Duration> = messages.map(|(round, at)| at.duration_since(said[*round])).collect();
    waits.sort();
    let of = |hundredths: usize| waits[(waits.len() - 1) * hundredths / 100];
    let each = used / u32::try_from(events).unwrap();
    println!(
        "{CLIENTS} clients, {events} events of {} octets each in {took:.1?}: {used:.2?} of CPU, {each:.1?} an event; \
         a message is there after {:.1?} (median), {:.1?} (p99), {:.1?} (all)",
        bytes / events,
        of(50),
        of(99),
        of(100)
    );
    assert_eq!(waits.len(), ROUNDS * (CLIENTS - 1), "every message comes to everybody else once");
    assert!(events >= ROUNDS * (2 * CLIENTS - 1), "and so does every mute");
    // Bounds for a machine that does other things as well.
    assert!(each <= Duration::from_micros(500), "{each:?} an event");
    assert!(of(99) <= Duration::from_millis(500), "{:?}", of(99));
}

/// CPU time of the gateway so far.
fn cpu(gateway: &Gateway) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Fields 14 and 15 of proc(5), counted from the state: 100 to a second.
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}
