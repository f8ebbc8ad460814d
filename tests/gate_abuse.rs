//! Floods at full rate (promises 28 and 29) beside calls that must not notice. Prints its figures; run it
//! alone: `cargo test --release --test gate_abuse -- --nocapture --test-threads=1`.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::time::{Duration, Instant};

use support::gateway::Gateway;
use support::stranger::{Stranger, resident};
use support::{sipp, wait_for};

/// INVITEs a second.
const RATE: u64 = 5_000;
/// Forged addresses.
const SOURCES: u32 = 50_000;

#[test]
fn promise_28_five_thousand_invites_a_second_of_one_source_beside_calls() {
    let gateway = Gateway::start(&["uas"], "");
    let mut flooder = Stranger::at([127, 9, 9, 9], &gateway);
    let before = resident(&gateway);
    let mut flood = None;
    sipp::calls(&gateway, 20, 600, || flood = Some(flooder.flood(RATE, Duration::from_secs(30))));
    let flood = flood.unwrap();
    let grown = resident(&gateway).saturating_sub(before);
    println!("{} sent, answers in each second {:?}, {grown} KiB more", flood.sent, flood.heard);
    assert!(flood.sent >= 100_000, "{} sent", flood.sent);
    assert!(flood.heard.iter().all(|heard| *heard <= 20), "{:?}", flood.heard);
    assert!(grown <= 64 * 1024, "{grown} KiB more");
    wait_for("the ban", || (gateway.status()["bans"].as_array()?.len() == 1).then_some(()));
    assert_eq!(gateway.log().matches("banned: ").count(), 1);
}

#[test]
fn promise_29_fifty_thousand_forged_sources_beside_calls() {
    let gateway = Gateway::start(&["uas"], "");
    let before = resident(&gateway);
    let mut took = Duration::ZERO;
    sipp::calls(&gateway, 20, 300, || {
        let start = Instant::now();
        for n in 0..SOURCES {
            let [_, a, b, c] = (n + 1).to_be_bytes();
            let mut forged = Stranger::at([127, 100 + a, b, c], &gateway);
            let text = forged.request("INVITE", "uas", "nobody", "");
            forged.send(text);
            let due = Duration::from_micros(u64::from(n) * 1_000_000 / RATE);
            if let Some(early) = due.checked_sub(start.elapsed()) {
                std::thread::sleep(early);
            }
        }
        took = start.elapsed();
    });
    let grown = resident(&gateway).saturating_sub(before);
    println!("{SOURCES} sources in {took:?}, {grown} KiB more");
    assert!(grown <= 64 * 1024, "{grown} KiB more");
    assert!(gateway.status()["bans"].as_array().unwrap().is_empty());
}
