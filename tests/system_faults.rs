//! What people and peers get wrong: clear words, and nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::register::Registering;
use support::wait_for;

const AUDIO: &str = "PCMU/8000/1";

fn invite(client: &Registering, gateway: &Gateway, called: &str, hops: u8) -> u16 {
    let (port, server) = (client.port(), gateway.sip);
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
               m=audio 29000 RTP/AVP 0\r\n";
    let text = format!(
        "INVITE sip:{called}@127.0.0.1:{server} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{called}{port};rport\r\n\
         Max-Forwards: {hops}\r\nFrom: <sip:stranger@elsewhere.example>;tag=1\r\n\
         To: <sip:{called}@127.0.0.1>\r\nCall-ID: {called}-{port}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:stranger@127.0.0.1:{port}>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    client.send(&text).expect("an answer").status
}

#[test]
fn a_stranger_is_told_404_480_483_and_never_gets_out() {
    let gateway = Gateway::start(&["alice"], "");
    let client = Registering::new(gateway.sip, 11);
    assert_eq!(invite(&client, &gateway, "nobody", 70), 404);
    assert_eq!(invite(&client, &gateway, "alice", 70), 480);
    assert_eq!(invite(&client, &gateway, "alic", 0), 483);
    // Outside: whatever he is told, it is a refusal, and the log says why.
    let told = invite(&client, &gateway, "+4930123456789", 70);
    assert!((400..700).contains(&told) && told != 408, "{told}");
    wait_for("no call to be left", || gateway.status()["calls"].as_array()?.is_empty().then_some(()));
}

#[test]
fn a_device_that_calls_outside_without_a_rule_is_refused_and_the_log_says_so() {
    let gateway = Gateway::start(&["alice"], "");
    let mut alice = Baresip::start(Account::new("alice", AUDIO, 440), gateway.sip);
    alice.dial(&format!("sip:+4930123456789@127.0.0.1:{}", gateway.sip));
    let closed = alice.event("CALL_CLOSED");
    assert!(closed["param"].as_str().unwrap().contains("403"), "{closed}");
    let log = wait_for("the log", || Some(gateway.log()).filter(|log| log.contains("call refused")));
    assert!(log.contains("no rule") || log.contains("rule"), "{log}");
    // The registration and the gateway are as before.
    assert!(gateway.status()["registrations"].to_string().contains("alice"));
    let explained = gateway.cli(&["explain", "+4930123456789", "--from", "alice"]);
    assert_eq!(explained.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&explained.stdout).contains("rule"), "{explained:?}");
}

#[test]
fn a_wrong_password_leaves_no_registration_and_no_hint() {
    let gateway = Gateway::start(&["alice"], "");
    let account = Account { password: "guessed-in-vain".into(), ..Account::new("alice", AUDIO, 440) };
    let phone = Baresip::start_unregistered(account, Some(gateway.sip));
    wait_for("the refusal", || phone.log().contains("401 Unauthorized").then_some(()));
    assert!(gateway.status()["registrations"].as_array().unwrap().is_empty());
    assert!(!gateway.log().contains("guessed-in-vain"), "a password is in the log");
}
