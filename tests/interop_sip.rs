//! Real softphones through the gateway. What each of them recorded is the proof.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

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
    let call =
        Call::between(Account::new("alice", "PCMA/8000/1", 440), Account::new("bob", "PCMA/8000/1", 620));
    assert_eq!(call.routes("audio"), ["relay", "relay"]);
    call.hang_up_by_caller().both_heard(30.0);
}

#[test]
fn opus_over_udp_to_pcmu_over_tcp() {
    let mut bob = Account::new("bob", "PCMU/8000/1", 620);
    bob.transport = "tcp";
    let call = Call::between(Account::new("alice", "opus/48000/2", 440), bob);
    assert_eq!(call.routes("audio"), ["transcode", "transcode"]);
    call.hang_up_by_callee().both_heard(25.0);
}

#[test]
fn g722_over_tls_with_sdes_to_opus_over_udp() {
    let mut alice = Account::new("alice", "G722/16000/1", 440);
    alice.transport = "tls";
    alice.encryption = "srtp-mand";
    let call = Call::between(alice, Account::new("bob", "opus/48000/2", 620));
    let status = call.gateway.status();
    assert_eq!(call.routes("audio"), ["transcode", "transcode"]);
    assert!(status.to_string().contains("\"encrypted\":true"), "{status}");
    call.hang_up_by_caller().both_heard(25.0);
}

#[test]
fn pcmu_in_packets_of_30_ms_to_opus_in_packets_of_20() {
    let mut alice = Account::new("alice", "PCMU/8000/1", 440);
    alice.ptime = 30;
    let call = Call::between(alice, Account::new("bob", "opus/48000/2", 620));
    eprintln!("{}", call.gateway.status());
    call.hang_up_by_caller().both_heard(25.0);
}

/// Two softphones in a call through a gateway.
struct Call {
    gateway: Gateway,
    caller: Baresip,
    callee: Baresip,
}

/// How long a call talks before it is judged.
const TALK: Duration = Duration::from_secs(4);

impl Call {
    fn between(caller: Account, callee: Account) -> Self {
        let gateway = Gateway::start(&[&caller.user, &callee.user], "");
        let port = |account: &Account| if account.transport == "tls" { gateway.tls } else { gateway.sip };
        let (caller_port, callee_port) = (port(&caller), port(&callee));
        let mut caller = Baresip::start(caller, caller_port);
        let callee = Baresip::start(callee, callee_port);
        // It adds the transport of its account by itself.
        caller.dial(&format!("sip:{}@127.0.0.1:{caller_port}", callee.account.user));
        caller.event("CALL_ESTABLISHED");
        std::thread::sleep(TALK);
        Self { gateway, caller, callee }
    }

    /// The words of the routes of that kind, the caller's first.
    fn routes(&self, kind: &str) -> Vec<String> {
        let status = self.gateway.status();
        let legs = status["calls"][0]["legs"].as_array().unwrap_or_else(|| panic!("no call in {status}"));
        legs.iter()
            .flat_map(|leg| leg["streams"].as_array().unwrap())
            .filter(|stream| stream["role"] == kind)
            .map(|stream| stream["route"].as_str().unwrap().to_owned())
            .collect()
    }

    fn hang_up_by_caller(mut self) -> Self {
        self.caller.hang_up();
        self.callee.event("CALL_CLOSED");
        self
    }

    fn hang_up_by_callee(mut self) -> Self {
        self.callee.hang_up();
        self.caller.event("CALL_CLOSED");
        self
    }

    fn both_heard(&self, snr: f64) {
        heard(&self.caller.heard(), f64::from(self.callee.account.tone), snr);
        heard(&self.callee.heard(), f64::from(self.caller.account.tone), snr);
    }
}

fn heard(recording: &Wav, frequency: f64, snr: f64) {
    let report = SoundReport::new(&recording.samples, recording.rate, Duration::from_millis(1500));
    assert!((report.tone.frequency - frequency).abs() < 1.0, "{report:?}");
    assert!(report.tone.snr > snr, "{report:?}");
    assert!(report.length > Duration::from_secs(2), "{report:?}");
    assert_eq!(report.silent_windows, 0, "{report:?}");
}
