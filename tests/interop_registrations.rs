//! Clients that are registered by HTTP, and softphones: each calls the other.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::baresip::{Account, Baresip};
use support::gateway::{Device, Gateway};
use support::registered::{Registered, registration};
use support::room::level;
use support::wait_for;
use support::web::{Incoming, Web};

const PCMA: &str = "PCMA/8000/1";
const TONE: u32 = 620;

fn phone(gateway: &Gateway, name: &str) -> Baresip {
    Baresip::start(Account::new(name, PCMA, TONE), gateway.sip)
}

fn dial_bob(gateway: &Gateway, phone: &mut Baresip) {
    phone.dial(&format!("sip:bob@127.0.0.1:{}", gateway.sip));
}

/// The loudest second of the telephone's own tone in what it has heard, and the softest of the last two.
fn own_tone(phone: &Baresip) -> (f64, f64) {
    let heard = phone.heard();
    let second = heard.rate as usize;
    let levels = heard.samples.chunks_exact(second).map(|part| level(part, heard.rate, f64::from(TONE)));
    let levels: Vec<f64> = levels.collect();
    let last = levels.iter().rev().take(2).copied().fold(f64::INFINITY, f64::min);
    (levels.iter().copied().fold(f64::NEG_INFINITY, f64::max), last)
}

#[test]
fn s52_a_registered_client_sees_who_calls_takes_the_call_mutes_and_ends_it() {
    let gateway = Gateway::start(&["alice", "bob"], "");
    let mut alice = phone(&gateway, "alice");
    let bob = Registered::start(&gateway, "bob");
    let registered = &gateway.status()["registrations"];
    let by = |alias: &str| registered.as_array().unwrap().iter().find(|it| it["alias"] == alias).cloned();
    let contact = by("bob").expect("bob in the status")["contacts"][0].clone();
    assert_eq!((&contact["protocol"], &contact["transport"]), (&json!("api"), &json!("https")));
    let mut events = bob.events();
    dial_bob(&gateway, &mut alice);
    let incoming = events.until("incoming");
    for (member, is) in [("local_alias", "bob"), ("remote_alias", "alice"), ("service_type", "gateway")] {
        assert_eq!(incoming[member], is, "{member}");
    }
    assert!(!incoming["remote_display_name"].as_str().unwrap().is_empty());
    alice.event("CALL_RINGING");
    let call = bob.take(&incoming);
    alice.event("CALL_ESTABLISHED");
    assert_eq!(call.granted["current_service_type"], "gateway");
    let mut roster = call.events();
    let other = wait_for("the caller in the roster", || {
        let all = call.get("participants").1;
        all.as_array().unwrap().iter().find(|it| it["protocol"] == "sip").cloned()
    });
    assert_eq!(other["service_type"], "gateway");
    // The client has no media yet: the caller is on a test leg and hears himself.
    wait_for("the test leg", || {
        let status = gateway.status();
        let stream = &status["calls"][0]["legs"][0]["streams"][0];
        let why = stream["why"].as_str().unwrap_or_default().to_owned();
        (stream["route"] == "transcode" && why.contains("test leg")).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    let mute = format!("participants/{}/mute", other["uuid"].as_str().unwrap());
    assert_eq!(call.post(&mute, "").0, 200);
    let muted =
        roster.until_that("participant_update", |it| it["uuid"] == other["uuid"] && it["is_muted"] == "YES");
    assert_eq!(muted["protocol"], "sip");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(call.post("disconnect", "").0, 200);
    alice.event("CALL_CLOSED");
    roster.until("disconnect");
    let (loudest, last) = own_tone(&alice);
    assert!(loudest > -40.0 && last < -60.0, "heard himself at {loudest:.0} dB, muted at {last:.0} dB");
    // The one-time token was good once.
    assert_eq!(bob.try_take(&incoming).code, 403);
}

#[test]
fn s52_a_call_is_rejected_cancelled_ignored_or_taken_elsewhere() {
    let devices = ["alice", "bob"].map(|name| Device { name, more: String::new() });
    let gateway = Gateway::with_sip(&devices, "", "ring_timeout = \"4s\"");
    let mut alice = phone(&gateway, "alice");
    let bob = Registered::start(&gateway, "bob");
    let mut events = bob.events();
    // Rejected.
    dial_bob(&gateway, &mut alice);
    let incoming = events.until("incoming");
    bob.reject(&incoming);
    let closed = alice.event("CALL_CLOSED");
    assert!(closed["param"].as_str().unwrap_or_default().contains("603"), "{closed}");
    // Cancelled by the caller.
    dial_bob(&gateway, &mut alice);
    let incoming = events.until("incoming");
    alice.hang_up();
    assert_eq!(events.until("incoming_cancelled"), json!({ "token": incoming["token"] }));
    // Ignored.
    dial_bob(&gateway, &mut alice);
    let incoming = events.until("incoming");
    assert_eq!(events.until("incoming_cancelled"), json!({ "token": incoming["token"] }));
    alice.event("CALL_CLOSED");
    assert_eq!(bob.try_take(&incoming).code, 403, "too late");
    // Taken at bob's telephone, which rings as well.
    let account = Account { answer: "manual", ..Account::new("bob", PCMA, 900) };
    let mut desk = Baresip::start(account, gateway.sip);
    dial_bob(&gateway, &mut alice);
    let incoming = events.until("incoming");
    desk.event("CALL_INCOMING");
    desk.command("accept", "");
    assert_eq!(events.until("incoming_cancelled"), json!({ "token": incoming["token"] }));
    alice.event("CALL_ESTABLISHED");
    alice.hang_up();
    desk.event("CALL_CLOSED");
    // And the other way round: taken by the client, the telephone rings no longer.
    dial_bob(&gateway, &mut alice);
    let incoming = events.until("incoming");
    desk.event("CALL_INCOMING");
    let call = bob.take(&incoming);
    desk.event("CALL_CLOSED");
    alice.event("CALL_ESTABLISHED");
    let mut roster = call.events();
    alice.hang_up();
    assert_eq!(roster.until("disconnect")["reason"], "Call disconnected");
}

#[test]
fn s56_a_registered_client_calls_a_softphone() {
    let gateway = Gateway::start(&["bob", "carol"], "");
    let carol =
        Baresip::start(Account { answer: "manual", ..Account::new("carol", PCMA, TONE) }, gateway.sip);
    let mut carol = carol;
    let bob = Registered::start(&gateway, "bob");
    let call = bob.call("carol");
    let mut roster = call.events();
    let rings = roster.until_that("participant_create", |it| it["call_direction"] == "out");
    assert_eq!(rings["service_type"], "connecting");
    carol.event("CALL_INCOMING");
    carol.command("accept", "");
    let answered = roster.until_that("participant_update", |it| it["service_type"] == "gateway");
    assert_eq!(answered["uuid"], rings["uuid"]);
    carol.event("CALL_ESTABLISHED");
    assert_eq!(call.post("release_token", "{}").0, 200);
    carol.event("CALL_CLOSED");
    // Carol does not want to.
    let call = bob.call("carol");
    let mut roster = call.events();
    carol.event("CALL_INCOMING");
    carol.hang_up();
    assert_eq!(roster.until("disconnect")["reason"], "Call rejected");
    // Nobody has that alias, with a registration or without.
    assert_eq!(bob.web.request_token("nobody", "Bob", "").code, 404);
}

#[test]
fn s50_a_wrong_password_and_an_unknown_alias_are_alike_in_words_and_time() {
    const TRIES: usize = 200;
    let gateway = Gateway::start(&["bob"], "");
    let web = Web::of(&gateway);
    let mut incoming = Incoming::new(web.connect().unwrap());
    let mut ask = |alias: &str| {
        let (head, headers) = registration(alias, "bob", "guess");
        let begun = Instant::now();
        web.ask(incoming.connection(), &head, &headers, "").unwrap();
        let (code, head) = incoming.head().unwrap();
        let body = incoming.body(&head).unwrap();
        let took = begun.elapsed();
        assert!(!head.contains("www-authenticate"), "browsers would ask their user");
        let lines = head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned);
        ((code, lines.collect::<Vec<_>>(), body), took)
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..TRIES {
        let (known, unknown) = (ask("bob"), ask("nobody"));
        assert_eq!(known.0, unknown.0);
        assert_eq!(known.0.0, 401);
        times[0].push(known.1);
        times[1].push(unknown.1);
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort();
        times[TRIES / 2]
    });
    let apart = known.abs_diff(unknown);
    assert!(apart < known.max(unknown) / 4 + Duration::from_micros(50), "medians: {known:?} and {unknown:?}");
}
