//! The clock on the wall jumps, the other one goes on (promise 17).
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::path::{Path, PathBuf};

use support::call::StandingCall;
use support::gateway::Gateway;
use support::register::Registering;
use support::web::Client;

/// What makes the jumps: a library that is loaded before the program.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = folders.map(|it| it.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|it| it.is_file()).expect("faketime is not installed: run `make setup-test`")
}

/// From now on the gateway lives then: "+1h".
fn jump(clock: &Path, to: &str) {
    // Renamed into its place: whoever reads it never sees half.
    let beside = clock.with_extension("new");
    std::fs::write(&beside, to).unwrap();
    std::fs::rename(beside, clock).unwrap();
}

#[test]
fn promise_17_calls_registrations_and_sessions_survive_every_jump_of_the_clock() {
    let room: &[&str] = &["Room", "--alias", "room"];
    let mut gateway = Gateway::with_conferences(&["bob", "carol"], "", &[room]);
    let clock = gateway.scratch.path().join("clock");
    jump(&clock, "+0");
    gateway.signal("TERM");
    gateway.ends();
    let (library, file) = (library(), clock.clone());
    gateway.start_in(&[
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        // Linux never sets this one.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    let call = StandingCall::new(gateway.sip, "bob", "bob-secret");
    let mut client = Client::join(&gateway, "room", "Client", "");
    let mut seed = 100;
    for to in ["+3600s", "-3600s", "+86400s", "-86400s", "+3650d", "+0"] {
        jump(&clock, to);
        let started = gateway.status();
        // It does see them.
        if to == "+3650d" {
            let year = |line: &str| line.get(..4).and_then(|it| it.parse::<u32>().ok());
            let before = gateway.log().lines().filter_map(year).min().unwrap();
            assert_eq!(gateway.order("/process/log", r#"{"filter":"info"}"#).0, 200);
            let now = gateway.log().lines().filter_map(year).max().unwrap();
            assert!(now >= before + 9, "it lives in {now} after {before}");
        }
        assert_eq!(started["calls"][0]["state"], "answered", "{to}: {started:#}");
        let bob = |status: &serde_json::Value| {
            status["registrations"].as_array().unwrap().iter().any(|it| it["alias"] == "bob")
        };
        assert!(bob(&started), "{to}: {started:#}");
        // Who comes now finds all as it was: challenge, answer and binding, a session and its refresh.
        seed += 1;
        let registered = Registering::new(gateway.sip, seed).register("carol", "carol-secret");
        assert_eq!(registered, Some(200), "{to}");
        client.refresh();
        assert_eq!(client.get("conference_status").0, 200, "{to}");
        // A second of its time, for whatever looks once a second.
        std::thread::sleep(std::time::Duration::from_millis(1200));
        let after = gateway.status();
        assert_eq!(after["calls"][0]["state"], "answered", "{to}: {after:#}");
        assert!(bob(&after), "{to}: {after:#}");
    }
    gateway.stop_at_once();
    call.is_hung_up();
    assert_eq!(gateway.ends().code(), Some(0), "{}", gateway.log());
}
