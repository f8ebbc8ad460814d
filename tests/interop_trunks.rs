//! A trunk to Kamailio, a carrier in small: Crosspoint registers there, calls go out and come in by it, and
//! all of that again after Kamailio was killed. What softphones on both sides recorded is the proof.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::time::Duration;

use crosspoint::proof::{SoundReport, Wav};
use serde_json::Value;
use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::kamailio::Kamailio;
use support::wait_for;

/// How long a call talks before it is judged.
const TALK: Duration = Duration::from_secs(4);

#[test]
fn a_trunk_by_tcp_carries_calls_both_ways_and_outlives_its_registrar() {
    outlives("tcp");
}

#[test]
fn a_trunk_by_udp_carries_calls_both_ways_and_outlives_its_registrar() {
    outlives("udp");
}

fn outlives(transport: &str) {
    let mut kamailio = Kamailio::start(transport);
    let gateway = Gateway::start(&["alice"], &trunk(transport, kamailio.port));
    registered(&gateway);
    let mut alice = Baresip::start(Account::new("alice", "PCMA/8000/1", 440), gateway.sip);
    both_ways(&gateway, &kamailio, &mut alice);

    kamailio.kill();
    wait_for("the gateway to notice", || (trunk_of(&gateway)["state"] == "down").then_some(()));
    // It says so, and calls do not wait for what is not there.
    let explained = gateway.cli(&["status"]);
    assert!(String::from_utf8_lossy(&explained.stdout).contains("down"), "{explained:?}");
    alice.dial(&format!("sip:9phone@127.0.0.1:{}", gateway.sip));
    let ended = alice.event("CALL_CLOSED");
    assert!(ended.to_string().contains("504"), "{ended}");

    kamailio.restart();
    registered(&gateway);
    both_ways(&gateway, &kamailio, &mut alice);
}

/// A softphone at Kamailio, which is called and calls back; each hears the other's tone.
fn both_ways(gateway: &Gateway, kamailio: &Kamailio, alice: &mut Baresip) {
    let mut phone = Baresip::start(Account::new("phone", "PCMU/8000/1", 620), kamailio.port);
    alice.dial(&format!("sip:9phone@127.0.0.1:{}", gateway.sip));
    phone.event("CALL_ESTABLISHED");
    let status = gateway.status();
    let legs = &status["calls"][0]["legs"];
    assert_eq!((&legs[0]["device"], &legs[1]["trunk"]), (&"alice".into(), &"upstream".into()), "{status}");
    std::thread::sleep(TALK);
    alice.hang_up();
    phone.event("CALL_CLOSED");
    alice.event("CALL_CLOSED");
    heard(&alice.heard(), 620.0);
    heard(&phone.heard(), 440.0);

    phone.dial(&format!("sip:crosspoint@127.0.0.1:{}", kamailio.port));
    alice.event("CALL_ESTABLISHED");
    let status = gateway.status();
    let legs = &status["calls"][0]["legs"];
    assert_eq!((&legs[0]["trunk"], &legs[1]["device"]), (&"upstream".into(), &"alice".into()), "{status}");
    std::thread::sleep(TALK);
    phone.hang_up();
    alice.event("CALL_CLOSED");
    phone.event("CALL_CLOSED");
    heard(&alice.heard(), 620.0);
    heard(&phone.heard(), 440.0);
}

fn trunk(transport: &str, port: u16) -> String {
    format!(
        r#"
        [[trunks]]
        name = "upstream"
        host = "127.0.0.1:{port}"
        transport = "{transport}"
        keep_alive = "2s"
        credentials = {{ realm = "upstream.example", username = "crosspoint", password = "upstream-secret" }}
        registration = {{ user = "crosspoint", domain = "upstream.example" }}
        [[rules]]
        name = "out"
        priority = 10
        match = '9(.+)'
        replace = '$1'
        trunk = "upstream"
        [[rules]]
        name = "in"
        priority = 20
        match = 'crosspoint'
        replace = 'alice'
        callers = "trunk upstream"
        "#
    )
}

fn registered(gateway: &Gateway) {
    let is = |trunk: &Value| trunk["state"] == "up" && trunk["registration"] == "registered";
    wait_for("a registration at Kamailio", || Some(trunk_of(gateway)).filter(is));
}

fn trunk_of(gateway: &Gateway) -> Value {
    gateway.status()["trunks"][0].clone()
}

fn heard(recording: &Wav, frequency: f64) {
    let report = SoundReport::new(&recording.samples, recording.rate, Duration::from_millis(1500));
    assert!((report.tone.frequency - frequency).abs() < 1.0, "{report:?}");
    assert!(report.tone.snr > 25.0, "{report:?}");
    assert!(report.length > Duration::from_secs(2), "{report:?}");
    assert_eq!(report.silent_windows, 0, "{report:?}");
}
