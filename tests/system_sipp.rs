//! sipp against the whole program: registrations and calls at a rate, counted by sipp itself.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::fmt::Write as _;

use support::gateway::Gateway;
use support::{Scratch, fixture, free_port, sipp};

/// Registrations in a CI run, at [`RATE`] a second.
const REGISTRATIONS: usize = 2000;
const RATE: usize = 300;

#[test]
fn two_thousand_digest_registrations_at_300_a_second_all_succeed() {
    let names: Vec<String> = (0..REGISTRATIONS).map(|n| format!("user{n}")).collect();
    let devices: Vec<&str> = names.iter().map(String::as_str).collect();
    let gateway = Gateway::start(&devices, "");
    let scratch = Scratch::new("sipp-register");
    let mut csv = String::from("SEQUENTIAL\n");
    for name in &names {
        writeln!(csv, "{name};[authentication username={name} password={name}-secret]").unwrap();
    }
    std::fs::write(scratch.path().join("users.csv"), csv).unwrap();
    let scenario = fixture("sipp/register.xml");
    let output = sipp::run(
        scratch.path(),
        &[
            &format!("127.0.0.1:{}", gateway.sip),
            "-sf",
            scenario.to_str().unwrap(),
            "-inf",
            "users.csv",
            "-i",
            "127.0.0.1",
            "-p",
            &free_port().to_string(),
            "-r",
            &RATE.to_string(),
            "-m",
            &REGISTRATIONS.to_string(),
            "-timeout",
            "60s",
            "-trace_err",
        ],
    );
    sipp::succeeded(&output, scratch.path());
    assert_eq!(gateway.status()["registrations"].as_array().unwrap().len(), REGISTRATIONS);
}

#[test]
fn fifty_calls_a_second_for_twenty_seconds_none_failed() {
    let gateway = Gateway::start(&["uas"], "");
    sipp::calls(&gateway, 50, 1_000, || {});
}
