//! A telephone as pages have them, by SIP over WebSocket (RFC 7118), and a softphone: each calls the other. The
//! page's end is `tests/websocket/phone.py`, which shares nothing with the gateway.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crosspoint::proof::{SoundReport, Wav};
use serde_json::json;
use support::baresip::{Account, Baresip};
use support::call::invite;
use support::gateway::Gateway;
use support::{PATIENCE, Scratch, free_port, program, wait_for};

/// A telephone in a page.
struct Page {
    child: Child,
    told: Receiver<String>,
    recording: PathBuf,
    _scratch: Scratch,
}

impl Page {
    /// One of the device `user`.
    fn open(port: u16, user: &str, more: &[&str]) -> Self {
        let scratch = Scratch::new("page");
        let recording = scratch.path().join("heard.wav");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/websocket/phone.py");
        let mut child = program("python3")
            .args([script, "127.0.0.1", &port.to_string(), user, &format!("{user}-secret")])
            .args(more)
            .arg("--record")
            .arg(&recording)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, told) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, told, recording, _scratch: scratch }
    }

    /// What it says next.
    fn says(&self) -> String {
        self.told.recv_timeout(PATIENCE).expect("a word of the page")
    }

    fn is_told(&mut self, command: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    fn heard(&self, frequency: f64) {
        heard(&Wav::read(&self.recording).unwrap(), frequency);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn heard(recording: &Wav, frequency: f64) {
    let report = SoundReport::new(&recording.samples, recording.rate, Duration::from_millis(1500));
    assert!((report.tone.frequency - frequency).abs() < 1.0, "{report:?}");
    assert!(report.tone.snr > 25.0, "{report:?}");
    assert!(report.length > Duration::from_secs(2), "{report:?}");
}

/// A gateway that listens for pages, without TLS and with it.
fn gateway(sip_more: &str) -> (Gateway, u16, u16) {
    let (ws, wss) = (free_port(), free_port());
    let listeners = [format!("ws:127.0.0.1:{ws}"), format!("wss:127.0.0.1:{wss}")];
    let listeners: Vec<_> = listeners.iter().map(String::as_str).collect();
    (Gateway::with_listeners(&["alice", "bob"], &listeners, sip_more), ws, wss)
}

fn softphone(gateway: &Gateway) -> Baresip {
    Baresip::start(Account::new("alice", "PCMU/8000/1", 440), gateway.sip)
}

#[test]
fn a_page_registers_takes_a_call_and_places_one_and_both_hear_each_other() {
    let (gateway, _, wss) = gateway("");
    let mut alice = softphone(&gateway);
    let mut bob = Page::open(wss, "bob", &["--tls"]);
    assert_eq!(bob.says(), "registered");
    let status = gateway.status();
    let registered = status["registrations"].as_array().unwrap().iter().find(|it| it["alias"] == "bob");
    let contact = &registered.expect("bob in the status")["contacts"][0];
    assert_eq!(contact["transport"], json!("wss"), "{status}");
    let listening = status["listening"].as_array().unwrap();
    assert!(
        listening.iter().any(|it| it["transport"] == "wss" && it["address"] == format!("127.0.0.1:{wss}")),
        "{status}"
    );

    alice.dial(&format!("sip:bob@127.0.0.1:{}", gateway.sip));
    assert_eq!(bob.says(), "established");
    std::thread::sleep(Duration::from_secs(4));
    alice.hang_up();
    assert_eq!(bob.says(), "ended");
    bob.heard(440.0);
    heard(&alice.heard(), 620.0);

    bob.is_told("dial sip:alice@127.0.0.1");
    assert_eq!(bob.says(), "established");
    std::thread::sleep(Duration::from_secs(4));
    bob.is_told("hangup");
    assert_eq!(bob.says(), "ended");
    alice.event("CALL_CLOSED");
    bob.heard(440.0);
    heard(&alice.heard(), 620.0);
}

#[test]
fn pages_from_elsewhere_and_who_speaks_no_sip_stay_outside() {
    let (gateway, ws, _) = gateway("websocket_origins = [\"https://phones.example\"]");
    let of = |more: &[&str]| Page::open(ws, "bob", more).says();
    assert_eq!(of(&["--origin", "https://evil.example"]), "refused 403");
    assert_eq!(of(&["--origin", "https://phones.example", "--protocol", "chat"]), "refused 400");
    assert_eq!(of(&["--origin", "https://phones.example"]), "registered");
    // No page at all.
    let mut bob = Page::open(ws, "bob", &["--binary"]);
    assert_eq!(bob.says(), "registered");
    bob.is_told("ping");
    let mut answers = [bob.says(), bob.says()];
    answers.sort();
    assert_eq!(answers, ["crlf", "pong"]);
    let told = String::from_utf8(gateway.cli(&["check-config"]).stdout).unwrap();
    assert!(told.contains("websocket_origins = [\"https://phones.example\"]"), "{told}");
    assert!(told.contains(&format!("\"ws:127.0.0.1:{ws}\"")), "{told}");
    // Who stops says so.
    gateway.signal("TERM");
    assert_eq!(bob.says(), "closed 1001");
}

#[test]
fn what_a_page_leaves_behind_is_forgotten_at_once() {
    let (gateway, ws, _) = gateway("");
    let connections = || gateway.status()["signalling"][0]["connections"].as_u64().unwrap();
    // Those that looked whether the gateway listens.
    wait_for("no connection to be left", || (connections() == 0).then_some(()));
    let bob = Page::open(ws, "bob", &[]);
    assert_eq!(bob.says(), "registered");
    wait_for("no other connection than his", || (connections() == 1).then_some(()));
    drop(bob);
    wait_for("the connection to be gone", || (connections() == 0).then_some(()));
    assert_eq!(gateway.status()["registrations"], json!([]), "RFC 5626 section 7");
    assert_eq!(invite(gateway.sip, "bob", 1).status, 480);
}

#[test]
fn a_page_with_two_connections_rings_once_and_on_when_one_is_gone() {
    let (gateway, ws, wss) = gateway("");
    let mut alice = softphone(&gateway);
    let flows = [
        Page::open(ws, "bob", &["--instance", "7", "--reg-id", "1"]),
        Page::open(wss, "bob", &["--instance", "7", "--reg-id", "2", "--tls"]),
    ];
    assert_eq!(flows.each_ref().map(Page::says), ["registered", "registered"]);
    let mut flows = Vec::from(flows);
    while !flows.is_empty() {
        alice.dial(&format!("sip:bob@127.0.0.1:{}", gateway.sip));
        let rings = wait_for("one of them to ring", || {
            flows.iter().position(|flow| flow.told.try_recv().is_ok_and(|word| word == "established"))
        });
        alice.hang_up();
        assert_eq!(flows.remove(rings).says(), "ended");
        alice.event("CALL_CLOSED");
        assert!(flows.iter().all(|flow| flow.told.try_recv().is_err()), "it rings once");
        let contacts = || {
            let status = gateway.status();
            let all = status["registrations"].as_array().unwrap();
            let bob = all.iter().find(|it| it["alias"] == "bob");
            bob.map_or(0, |bob| bob["contacts"].as_array().unwrap().len())
        };
        wait_for("the other to be forgotten", || (contacts() == flows.len()).then_some(()));
    }
}

#[test]
fn a_device_proves_itself_by_the_strongest_hash() {
    let (mut gateway, ws, _) = gateway("");
    let config = gateway.config();
    let three = config.replace("digest = [\"md5\"]", "digest = [\"sha-512-256\", \"sha-256\", \"md5\"]");
    assert_ne!(config, three);
    gateway.set_config(&three);
    gateway.kill_and_restart();
    // It answers the first challenge, and knows all three.
    let bob = Page::open(ws, "bob", &["--algorithm", "SHA-512-256"]);
    assert_eq!(bob.says(), "registered");
}
