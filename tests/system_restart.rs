//! `kill -9` in a meeting: what is there again, for how long, and what is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::wait_for;
use support::web::{Client, Web, wait_until_known};

const PCMA: &str = "PCMA/8000/1";

fn gateway() -> Gateway {
    let gateway = Gateway::start(&[], "");
    let options = ["--alias", "meet.alice", "--host-pin", "271828", "--guests"];
    let output = gateway.cli(&[["conference", "add", "Alice's room"].as_slice(), &options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_until_known(&gateway, "meet.alice");
    gateway
}

fn dial(gateway: &Gateway, phone: &mut Baresip) {
    phone.dial(&format!("sip:meet.alice@127.0.0.1:{}", gateway.sip));
    phone.event("CALL_ESTABLISHED");
}

fn keys(phone: &mut Baresip, keys: &str) {
    for key in keys.chars() {
        phone.command("sndcode", &key.to_string());
        std::thread::sleep(Duration::from_millis(350));
    }
}

#[test]
fn promise_14_after_kill_9_tokens_roles_and_the_lock_are_there_and_the_stream_fills_again() {
    let mut gateway = gateway();
    let mut host = Client::join(&gateway, "meet.alice", "Alice", "271828");
    let guest = Client::join(&gateway, "meet.alice", "Bob", "none");
    let made = format!("participants/{}/role", guest.uuid);
    let mut phone = Baresip::start_unregistered(Account::new("phone", PCMA, 440), None);
    dial(&gateway, &mut phone);
    keys(&mut phone, "271828#");
    wait_for("the phone to be in", || {
        let (_, all) = host.get("participants");
        let all = all.as_array().unwrap().clone();
        all.iter().any(|it| it["protocol"] == "sip" && it["service_type"] == "conference").then_some(())
    });
    assert_eq!(host.post("lock", ""), (200, json!(true)));
    let waiting = Client::join(&gateway, "meet.alice", "Carol", "none");
    assert_eq!(waiting.granted["current_service_type"], "waiting_room");
    assert_eq!(guest.post("lock", "").0, 403, "a guest");
    assert_eq!(host.post(&made, r#"{"role":"chair"}"#), (200, json!(true)));
    let before = host.clone();
    host.refresh();
    // One who has gone before does not come back.
    let dave = Client::join(&gateway, "meet.alice", "Dave", "271828");
    assert_eq!(dave.post("release_token", "{}"), (200, json!(true)));

    gateway.kill_and_restart();
    wait_for("clients to be served", || Web::of(&gateway).connect().ok());
    // The token that was refreshed, and for a while the one before.
    let mut events = host.events();
    assert_eq!(events.next().0, "participant_sync_begin");
    let mut names = Vec::new();
    loop {
        let (name, data) = events.next();
        match name.as_str() {
            "participant_create" => names.push((
                data["display_name"].as_str().unwrap().to_owned(),
                data["uuid"].as_str().unwrap().to_owned(),
                data["role"].as_str().unwrap().to_owned(),
                data["service_type"].as_str().unwrap().to_owned(),
            )),
            "participant_sync_end" => break,
            _ => {}
        }
    }
    names.sort();
    let one = |name: &str, client: &Client, role: &str, place: &str| {
        (name.to_owned(), client.uuid.clone(), role.to_owned(), place.to_owned())
    };
    assert_eq!(
        names,
        [
            one("Alice", &host, "chair", "conference"),
            one("Bob", &guest, "chair", "conference"),
            one("Carol", &waiting, "guest", "waiting_room"),
        ],
        "the same as before, but for the call that was cut off"
    );
    assert_eq!(events.until("conference_update")["locked"], json!(true));
    assert_eq!(before.get("conference_status").0, 200);
    assert_eq!(dave.get("conference_status").0, 403);
    host.refresh();
    // The lock holds: who calls again waits, and is let in.
    let mut other = Baresip::start_unregistered(Account::new("other", PCMA, 640), None);
    dial(&gateway, &mut other);
    keys(&mut other, "#");
    let came = events.until_participant(|it| it["protocol"] == "sip" && it["service_type"] == "waiting_room");
    let caller = came["uuid"].as_str().unwrap().to_owned();
    assert_eq!(guest.post(&format!("participants/{caller}/unlock"), ""), (200, json!(true)), "a host by now");
    events.until_that("participant_update", |it| it["uuid"] == caller && it["service_type"] == "conference");
    // And all goes on as it would have.
    assert_eq!(host.post("unlock", ""), (200, json!(true)));
    events.until_that("participant_update", |it| {
        it["uuid"] == waiting.uuid.as_str() && it["service_type"] == "conference"
    });
    for client in [&host, &guest, &waiting] {
        assert_eq!(client.post("release_token", "{}"), (200, json!(true)));
    }
}

#[test]
fn promise_14_what_was_acknowledged_survives_fifteen_kills() {
    let mut gateway = gateway();
    let mut host = Client::join(&gateway, "meet.alice", "Alice", "271828");
    for round in 0..15 {
        // Killed as soon as the answer is there: it was on disk before.
        let command = if round % 2 == 0 { "lock" } else { "unlock" };
        assert_eq!(host.post(command, ""), (200, json!(true)));
        host.refresh();
        gateway.kill_and_restart();
        wait_for("clients to be served", || Web::of(&gateway).connect().ok());
        let (code, status) = host.get("conference_status");
        assert_eq!((code, &status["locked"]), (200, &json!(round % 2 == 0)), "round {round}");
    }
}

#[test]
fn promise_40_counters_survive_kill_9_and_who_was_in_before_still_enters() {
    let mut gateway = gateway();
    let owner = Web::of(&gateway).from([127, 0, 0, 9].into());
    let first = Client::over(&owner, "meet.alice", "Alice", "271828");
    first.post("release_token", "{}");
    let eve = Web::of(&gateway).from([127, 0, 0, 66].into());
    let guess = |pin: u32| assert_eq!(eve.request_token("meet.alice", "Eve", &format!("{pin:06}")).code, 403);
    for pin in 0..30 {
        guess(100_000 + pin);
        // Each has time to reach the disk.
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = gateway.log().matches("a PIN was wrong").count();
    assert!((6..=8).contains(&before), "five, and one each time that a wait is over: {before}");
    gateway.kill_and_restart();
    wait_for("clients to be served", || Web::of(&gateway).connect().ok());
    // Without the counters five would be read at once.
    for pin in 0..5 {
        guess(200_000 + pin);
    }
    let after = gateway.log().matches("a PIN was wrong").count();
    assert!(after - before <= 2, "{before}, then {after}");
    assert_eq!(Client::over(&owner, "meet.alice", "Alice", "271828").granted["role"], "HOST");
}
