//! What people and peers get wrong: clear words, and nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use crosspoint_proto::sip::Response;
use support::baresip::{Account, Baresip};
use support::gateway::{Device, Gateway};
use support::register::Registering;
use support::wait_for;

const AUDIO: &str = "PCMU/8000/1";

fn invite(client: &Registering, gateway: &Gateway, called: &str, hops: u8) -> u16 {
    answer(client, gateway, "stranger@elsewhere.example", called, hops).status
}

/// The answer to an INVITE of `caller` without credentials.
fn answer(client: &Registering, gateway: &Gateway, caller: &str, called: &str, hops: u8) -> Response {
    let (port, server) = (client.port(), gateway.sip);
    let tag = caller.len();
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
               m=audio 29000 RTP/AVP 0\r\n";
    let text = format!(
        "INVITE sip:{called}@127.0.0.1:{server} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{called}{port}{tag};rport\r\n\
         Max-Forwards: {hops}\r\nFrom: <sip:{caller}>;tag={tag}\r\n\
         To: <sip:{called}@127.0.0.1>\r\nCall-ID: {called}-{port}-{tag}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:stranger@127.0.0.1:{port}>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    client.send(&text).expect("an answer")
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
fn threat_21_a_call_of_somebody_hostile_is_traced_and_its_words_are_nothing_but_words() {
    let gateway = Gateway::start(&["alice"], "");
    let client = Registering::new(gateway.sip, 11);
    let hostile = "\u{1b}[2J\u{9b}31m\u{202e}";
    let (port, server) = (client.port(), gateway.sip);
    let text = format!(
        "INVITE sip:nobody:hunter2@127.0.0.1:{server} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKhostile;rport\r\n\
         Max-Forwards: 70\r\nFrom: \"Eve{hostile}\r\n 0.0 |\" <sip:eve@elsewhere.example>;tag=1\r\n\
         To: <sip:nobody@127.0.0.1>\r\nCall-ID: hostile\r\nCSeq: 1 INVITE\r\n\
         Subject: {hostile}\r\nContact: <sip:eve@127.0.0.1:{port}>\r\nContent-Length: 0\r\n\r\n"
    );
    let status = client.send(&text).expect("an answer").status;
    assert_eq!(status, 404);
    let told = wait_for("the trace", || {
        let told = String::from_utf8(gateway.cli(&["trace", "1"]).stdout).unwrap();
        told.contains("over: not-found").then_some(told)
    });
    assert!(told.contains("sip:nobody:[redacted]@") && told.contains("404 Not Found (INVITE)"), "{told}");
    assert!(!told.chars().any(|it| it.is_control() && it != '\n' || it == '\u{202e}'), "{told:?}");
    assert!(!told.contains("hunter2"), "{told}");
    let unknown = gateway.cli(&["trace", "99\u{1b}"]);
    let unknown = String::from_utf8(unknown.stderr).unwrap();
    assert!(unknown.contains("see crosspoint status and the call records\n"), "{unknown}");
    assert!(!unknown.contains('\u{1b}'), "{unknown:?}");
}

/// What an answer says, without what differs by the request or by chance.
fn told(response: &Response) -> (u16, String, Vec<(String, String)>) {
    let of_request = ["via", "from", "to", "call-id", "cseq"];
    let headers = response
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_ascii_lowercase(), value.to_owned()))
        .filter(|(name, _)| !of_request.contains(&name.as_str()))
        .map(|(name, value)| match value.split_once("nonce=\"") {
            Some((before, rest)) => {
                let (nonce, after) = rest.split_once('"').unwrap();
                (name, format!("{before}nonce of {}{after}", nonce.len()))
            }
            None => (name, value),
        });
    (response.status, response.reason.clone(), headers.collect())
}

#[test]
fn who_must_authenticate_is_told_the_same_whoever_is_called() {
    let devices = ["alice", "bob"].map(|name| Device { name, more: String::new() });
    let gateway = Gateway::with_sip(&devices, "", "strangers = \"refused\"");
    let mut client = Registering::new(gateway.sip, 12);
    assert_eq!(client.register("bob", "bob-secret"), Some(200));
    let known = told(&answer(&client, &gateway, "stranger@elsewhere.example", "alice", 70));
    assert_eq!(known.0, 401);
    assert!(known.2.iter().any(|(name, _)| name == "www-authenticate"), "{known:?}");
    for (caller, called) in [
        ("stranger@elsewhere.example", "bob"),
        ("stranger@elsewhere.example", "nobody"),
        ("stranger@elsewhere.example", "+4930123456789"),
        ("alice@127.0.0.1", "bob"),
        ("alice@127.0.0.1", "nobody"),
        ("nobody@127.0.0.1", "alice"),
    ] {
        assert_eq!(told(&answer(&client, &gateway, caller, called, 70)), known, "{caller} calls {called}");
    }
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
