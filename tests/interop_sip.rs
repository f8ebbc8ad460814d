//! Real softphones through the gateway. What each of them recorded is the proof.

mod support;

use std::time::Duration;

use crosspoint::proof::{SoundReport, Wav};
use support::baresip::{Account, Baresip};
use support::gateway::Gateway;

/// The peers alone, so that a failure elsewhere is the gateway's: two softphones call each other
/// directly and hear each other's tone.
#[test]
fn the_oracle_hears_two_softphones_without_a_gateway() {
    let mut caller = Baresip::start_unregistered(Account::new("alone-a", "PCMU/8000/1", 440), None);
    let callee = Baresip::start_unregistered(Account::new("alone-b", "PCMU/8000/1", 620), None);
    caller.dial(&format!("sip:alone-b@127.0.0.1:{}", callee.port));
    caller.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_secs(4));
    caller.hang_up();
    callee.event("CALL_CLOSED");
    heard(&caller.heard(), 620.0, 30.0);
    heard(&callee.heard(), 440.0, 30.0);
}

#[test]
fn pcma_to_pcma_is_relayed() {
    let gateway = Gateway::start(&["alice", "bob"], "");
    let mut alice = Baresip::start(Account::new("alice", "PCMA/8000/1", 440), gateway.sip);
    let bob = Baresip::start(Account::new("bob", "PCMA/8000/1", 620), gateway.sip);
    alice.dial(&format!("sip:bob@127.0.0.1:{}", gateway.sip));
    alice.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_secs(4));
    alice.hang_up();
    bob.event("CALL_CLOSED");
    heard(&alice.heard(), 620.0, 30.0);
    heard(&bob.heard(), 440.0, 30.0);
}

fn heard(recording: &Wav, frequency: f64, snr: f64) {
    let report = SoundReport::new(&recording.samples, recording.rate, Duration::from_millis(1500));
    assert!((report.tone.frequency - frequency).abs() < 1.0, "{report:?}");
    assert!(report.tone.snr > snr, "{report:?}");
    assert!(report.length > Duration::from_secs(2), "{report:?}");
    assert_eq!(report.silent_windows, 0, "{report:?}");
}
