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
    captured(call).both_heard(25.0);
}

/// Captures the end of a call, and has tshark read what was written.
fn captured(mut call: Call) -> Call {
    let number = call.gateway.status()["calls"][0]["call"].to_string();
    let file = call.gateway.scratch.path().join("call.pcapng");
    let Call { gateway, callee, .. } = &mut call;
    let output = std::thread::scope(|scope| {
        let capture = scope.spawn(|| gateway.cli(&["capture", &number, "--out", file.to_str().unwrap()]));
        std::thread::sleep(Duration::from_secs(2));
        let second = gateway.cli(&["capture", &number, "--out", "/dev/null"]);
        let told = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(told.contains("is captured already: end that capture first"), "{told}");
        callee.hang_up();
        capture.join().unwrap()
    });
    call.caller.event("CALL_CLOSED");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.ends_with(" packets\n"), "nothing is left out: {told}");
    let read = |more: &[&str]| {
        let output = support::program("tshark")
            .args(["-n", "--enable-heuristic", "rtp_udp", "--enable-heuristic", "sip_udp", "-r"])
            .arg(&file)
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let sip = read(&["-Y", "sip", "-T", "fields", "-e", "sip.CSeq.method", "-e", "sip.Status-Code"]);
    // BYE comes from one leg, goes out on the other, and both are answered.
    assert_eq!(sip.matches("BYE\t\n").count(), 2, "{sip}");
    assert_eq!(sip.matches("BYE\t200\n").count(), 2, "{sip}");
    // Two seconds of fifty packets each way, on two legs.
    let rtp = read(&["-Y", "rtp", "-T", "fields", "-e", "rtp.p_type", "-e", "udp.checksum.status"]);
    let pcmu = rtp.lines().filter(|line| line.starts_with("0\t")).count();
    assert!(pcmu > 100 && rtp.lines().count() - pcmu > 100, "{rtp}");
    let broken = read(&["-o", "udp.check_checksum:TRUE", "-Y", "udp.checksum.status == 0 || _ws.malformed"]);
    assert_eq!(broken, "");
    let events = gateway_events(&call.gateway);
    assert!(events.contains("\"event\":\"capture_started\""), "{events}");
    let over = call.gateway.cli(&["capture", &number, "--out", "/dev/null"]);
    let told = String::from_utf8_lossy(&over.stderr).into_owned();
    assert!(told.contains("is over: only one that is live can be captured"), "{told}");
    call
}

/// What the management API tells of, as text.
fn gateway_events(gateway: &Gateway) -> String {
    use std::io::{Read as _, Write as _};
    let token = std::fs::read_to_string(gateway.scratch.path().join("data/admin-token")).unwrap();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", gateway.http)).unwrap();
    write!(
        stream,
        "GET /api/admin/v1/events HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n\r\n",
        token.trim_end()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
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
    let call = call.hang_up_by_caller();
    traced(&call.gateway, &status["calls"][0]["call"].to_string());
    call.both_heard(25.0);
}

/// The ladder of a call that is over: both lanes, what was agreed, and no key.
fn traced(gateway: &Gateway, number: &str) {
    let told = support::wait_for("the end of the call", || {
        let output = gateway.cli(&["trace", number, "--width", "120"]);
        let told = String::from_utf8(output.stdout).unwrap();
        told.contains("over: hangup").then_some(told)
    });
    for part in [
        "INVITE sip:bob@127.0.0.1",
        "by tls",
        "SRTP by SDES",
        "* called: agreed audio opus sendrecv, not encrypted",
        "* routed: ",
        "audio: the first packet has come",
        "200 OK (INVITE) [sdp]",
        "(BYE)",
        "audio: in g722, out g722 (",
        "transcode), SRTP; received ",
    ] {
        assert!(told.to_lowercase().contains(&part.to_lowercase()), "{part} is not in\n{told}");
    }
    let lines = String::from_utf8(gateway.cli(&["trace", number, "--json"]).stdout).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!((&lines[0]["kind"], &lines[0]["state"]), (&"call".into(), &"over".into()));
    assert!(lines.iter().any(|it| it["kind"] == "media" && it["packets_received"].as_u64() > Some(50)));
    let all = format!("{told}{lines:?}");
    for secret in ["inline", "-secret", "Digest "] {
        assert!(!all.contains(secret), "{secret} is in\n{all}");
    }
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
