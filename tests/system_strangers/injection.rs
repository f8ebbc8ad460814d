//! Promise 45 against the whole program: whatever peers write, each line of the log, each event and each record
//! is one line of text, and what the commands print drives no terminal.

use crate::support::gateway::{Device, Gateway};
use crate::support::register::Registering;
use crate::support::stranger::{Stranger, signed};
use crate::support::wait_for;
use crate::support::web::Web;
use crosspoint_gateway::ladder::drives;
use crosspoint_proto::sip::{Message, Method, Request, Response};
use serde_json::{Value, json};

/// Longest text of a peer, in octets.
const FIELD: usize = 256;
/// Longest text of ours, which quotes peers.
const OURS: usize = 4096;

/// What somebody may try. Each says who it is, so that it is found again.
const HOSTILE: [&[u8]; 15] = [
    b"INJECTED\x1b[2J\x1b]0;owned\x07\x1b[31m",
    b"INJECTED\r\n 2026-01-01T00:00:00.000000Z  INFO forged by folding",
    b"INJECTED\r2026-01-01T00:00:00.000000Z  INFO forged",
    b"INJECTED\n{\"timestamp\":\"2026-01-01T00:00:00Z\",\"message\":\"forged\"}",
    b"INJECTED\",\"level\":\"ERROR\",\"forged\":\"yes",
    b"INJECTED<script>alert(1)</script><img src=x onerror=alert(1)>",
    b"INJECTED${jndi:ldap://127.66.6.6/a}{{7*7}}%s%n%x",
    b"INJECTED\0\x01\x08\x7f\t",
    "INJECTED\u{9b}2J\u{85}\u{90}".as_bytes(),
    "INJECTED\u{202e}gnp.exe\u{2066}\u{2069}\u{200f}\u{61c}\u{feff}".as_bytes(),
    "INJECTED\u{2028}2026-01-01\u{2029}forged".as_bytes(),
    b"INJECTED\xff\xfe\xc3\x28\xed\xa0\x80\xf0\x28\x8c\x28",
    b"INJECTED'; DROP TABLE calls; --",
    "INJECTEDмост 👋 الجسر".as_bytes(),
    &[b'I'; 3_000],
];

/// Every octet of it as an escape of a URI.
fn escaped(hostile: &[u8]) -> String {
    hostile.iter().map(|octet| format!("%{octet:02x}")).collect()
}

/// INVITEs with it in one place each.
fn invites(caller: &mut Stranger, called: &str, hostile: &[u8]) -> Vec<Vec<u8>> {
    let escaped = escaped(hostile);
    let in_quotes = [b"\"", hostile, b"\""].concat();
    let places: [(&str, &str, &[u8]); 22] = [
        ("From: <sip:", "From: ! <sip:", &in_quotes),
        ("From: <sip:", "From: ! <sip:", hostile),
        ("From: <sip:guest@", "From: <sip:!@", escaped.as_bytes()),
        ("To: <sip:", "To: ! <sip:", &in_quotes),
        ("To: <sip:", "To: <sip:!x", escaped.as_bytes()),
        ("INVITE sip:", "INVITE sip:!", escaped.as_bytes()),
        ("Call-ID: ", "Call-ID: !", hostile),
        (";rport", ";rport;x=!", hostile),
        ("Contact: <sip:x@", "Contact: ! <sip:x@", &in_quotes),
        ("Contact: <sip:x@", "Contact: <sip:!@", escaped.as_bytes()),
        ("Max-Forwards", "User-Agent: !\r\nMax-Forwards", hostile),
        ("Max-Forwards", "Subject: !\r\nMax-Forwards", hostile),
        ("Max-Forwards", "X-Anything: !\r\nMax-Forwards", hostile),
        ("Max-Forwards", "P-Asserted-Identity: ! <sip:x@y>\r\nMax-Forwards", &in_quotes),
        ("Max-Forwards", "Authorization: Digest username=!, realm=\"r\"\r\nMax-Forwards", &in_quotes),
        ("Max-Forwards", "!: x\r\nMax-Forwards", hostile),
        ("application/sdp", "application/!", hostile),
        ("CSeq: 1 INVITE", "CSeq: 1 !", hostile),
        ("SIP/2.0\r\n", "SIP/!\r\n", hostile),
        ("s=-", "s=!", hostile),
        ("o=- 1", "o=! 1", hostile),
        ("RTP/AVP 0\r\n", "RTP/AVP 0\r\na=rtpmap:0 !/8000\r\na=!\r\n", hostile),
    ];
    let one = |(before, after, with): (&str, &str, &[u8])| {
        let text = caller.request("INVITE", "guest", called, "");
        assert!(text.contains(before), "{before} in {text}");
        let text = text.replacen(before, after, 1);
        let mut octets = Vec::new();
        for (n, part) in text.split('!').enumerate() {
            if n > 0 {
                octets.extend_from_slice(with);
            }
            octets.extend_from_slice(part.as_bytes());
        }
        // The body has become longer.
        let end = octets.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        let length = text.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let (was, is) =
            (format!("Content-Length: {length}"), format!("Content-Length: {}", octets.len() - end));
        let at = octets.windows(was.len()).rposition(|it| it == was.as_bytes()).unwrap();
        octets.splice(at..at + was.len(), is.into_bytes());
        octets
    };
    places.map(one).into()
}

fn gateway(format: &str) -> Gateway {
    let devices = ["alice", "bob"].map(|name| Device { name, more: String::new() });
    let log = format!("[log]\nformat = \"{format}\"\nlevel = \"debug\"\n");
    let sip = "trusted_sources = [\"127.0.0.0/8\"]";
    Gateway::with_sections(&devices, &log, sip, "", &[&["Hall", "--alias", "hall"]])
}

/// Everything that can be written anywhere, in all of it. Gives the calls that stand.
fn attack(gateway: &Gateway) -> Vec<Stranger> {
    let mut standing = Vec::new();
    // Who is called answers so.
    let mut registering = Registering::new(gateway.sip, 2);
    assert_eq!(registering.register("bob", "bob-secret"), Some(200));
    let bob = Stranger::over(registering.into_socket(), gateway);
    let web = Web::of(gateway);
    for (n, hostile) in HOSTILE.into_iter().enumerate() {
        let mut guest = Stranger::at([127, 3, 0, u8::try_from(n).unwrap() + 1], gateway);
        for invite in
            invites(&mut guest, "hall", hostile).into_iter().chain(invites(&mut guest, "nobody", hostile))
        {
            guest.send(&invite);
        }
        standing.push(guest);

        let mut caller = Stranger::at([127, 4, 0, u8::try_from(n).unwrap() + 1], gateway);
        let text = caller.request("INVITE", "guest", "bob", "");
        caller.send(&text);
        let invite = next_invite(&bob);
        let refusal = Response::to(&invite, 486, Some("bob")).to_bytes().to_vec();
        let refusal = String::from_utf8(refusal).unwrap();
        let (_, rest) = refusal.split_once("\r\n").unwrap();
        bob.send(
            [
                b"SIP/2.0 486 ",
                hostile,
                b"\r\nServer: ",
                hostile,
                b"\r\nReason: SIP;cause=486;text=\"",
                hostile,
                b"\"\r\n",
                rest.as_bytes(),
            ]
            .concat(),
        );
        // Where the phrase cannot be read, the call ends by one that can.
        bob.send(refusal.as_bytes());
        assert!(caller.hear().is_some(), "the caller is told");

        let mut alice = Stranger::at([127, 0, 0, 1], gateway);
        for more in ["User-Agent: !\r\n", "X: !\r\n"] {
            let more = more.replace('!', &String::from_utf8_lossy(hostile));
            let text = alice.request("REGISTER", "alice", "alice", &more);
            let text = text.replace("Contact: <sip:x@", &format!("Contact: <sip:{}@", escaped(hostile)));
            if Message::parse(text.as_bytes()).is_ok() {
                let text = signed(&mut alice, "alice", "alice-secret", &text);
                alice.send(text);
                let _ = alice.hear();
            }
        }

        let name = String::from_utf8_lossy(hostile);
        let body = json!({ "display_name": name, "call_tag": name }).to_string();
        let ask = |head: &str, headers: &str, body: &str| web.request(head, headers, body).ok();
        let head = "POST /api/client/v2/conferences/hall/request_token";
        let answer = ask(head, "Content-Type: application/json\r\n", &body);
        if let Some(token) = answer.filter(|it| it.code == 200).map(|it| it.result()["token"].clone()) {
            let headers = format!("token: {}\r\nContent-Type: application/json\r\n", token.as_str().unwrap());
            let body = json!({ "type": "text/plain", "payload": name }).to_string();
            let _ = ask("POST /api/client/v2/conferences/hall/message", &headers, &body);
        }
        let path = escaped(hostile);
        let _ = ask(&format!("GET /api/client/v2/conferences/{path}/participants"), "", "");
        let _ = ask(&format!("POST /api/client/v2/registrations/{path}/request_token"), "", "");
        let agent: String = name.chars().filter(|it| !"\r\n\0".contains(*it)).collect();
        let _ = ask("GET /api/client/v2/status", &format!("User-Agent: {agent}\r\nX: {agent}\r\n"), "");
    }
    standing
}

fn next_invite(line: &Stranger) -> Request {
    loop {
        match line.receive().expect("an INVITE") {
            Message::Request(request) if request.method == Method::Invite => return request,
            _ => {}
        }
    }
}

/// Text that ends no line and drives nothing.
fn is_tame(what: &str, octets: &[u8]) -> String {
    let text = std::str::from_utf8(octets).unwrap_or_else(|error| panic!("{what}: {error}"));
    for line in text.lines() {
        assert!(!line.contains(drives), "{what}: {line:?}");
    }
    text.to_owned()
}

/// No text within is longer than it may be, or drives anything.
fn has_ends(what: &str, value: &Value) {
    match value {
        Value::String(text) => {
            let most = if matches!(what, "message" | "why") { OURS } else { FIELD };
            assert!(text.len() <= most, "{what} has {} octets: {text}", text.len());
        }
        Value::Array(all) => all.iter().for_each(|it| has_ends(what, it)),
        Value::Object(all) => all.iter().for_each(|(name, it)| has_ends(name, it)),
        _ => {}
    }
}

/// What stands in files and comes out of commands, after the attack.
fn examine(gateway: &Gateway, standing: Vec<Stranger>) {
    let calls: Vec<u64> = wait_for("the calls", || {
        let status = gateway.status();
        let calls =
            status["calls"].as_array()?.iter().map(|call| call["call"].as_u64().unwrap()).collect::<Vec<_>>();
        (!calls.is_empty()).then_some(calls)
    });
    let newest = *calls.last().unwrap();
    let mut commands = vec![
        vec!["status".to_owned()],
        vec!["status".into(), "--json".into()],
        vec!["conference".into(), "participants".into(), "Hall".into()],
    ];
    for call in 1..=newest {
        commands.push(vec!["trace".into(), call.to_string()]);
        if call % 10 == 0 {
            commands.push(vec!["trace".into(), call.to_string(), "--json".into()]);
        }
    }
    let mut told = 0;
    for command in commands {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = gateway.cli(&arguments);
        let all = [output.stdout, output.stderr].concat();
        told += is_tame(&command.join(" "), &all).matches("INJECTED").count();
    }
    assert!(told >= 50, "the commands show {told} of it");

    drop(standing);
    let events = gateway.scratch.path().join("data/admin-token");
    let token = std::fs::read_to_string(events).unwrap();
    let (code, page) = gateway.ask(token.trim(), "GET", "/events?limit=1000", "");
    assert_eq!(code, 200, "{page}");
    let page = &page["events"];
    assert!(page.as_array().unwrap().len() >= 50, "{page}");
    has_ends("event", page);
    is_tame("events", page.to_string().as_bytes());

    let file = std::fs::read(gateway.scratch.path().join("data/calls.jsonl")).unwrap();
    let records = is_tame("records", &file);
    assert!(records.lines().count() >= 10 && records.contains("injected"), "{records}");
    records.lines().for_each(|line| has_ends("record", &serde_json::from_str(line).unwrap()));
}

/// Where in the log its events begin: behind what it says of itself for whoever has started it.
fn begun(gateway: &Gateway) -> usize {
    wait_for("its summary", || {
        let log = gateway.log();
        log.contains("\n  rules ").then_some(log.len())
    })
}

fn log_since(gateway: &Gateway, mark: usize) -> String {
    let log = std::fs::read(gateway.scratch.path().join("log")).unwrap();
    let log = is_tame("log", &log[mark..]);
    assert!(log.to_lowercase().matches("injected").count() >= 50, "{log}");
    log
}

#[test]
fn promise_45_what_peers_write_forges_no_line_and_drives_no_terminal() {
    let gateway = gateway("human");
    let mark = begun(&gateway);
    let standing = attack(&gateway);
    examine(&gateway, standing);
    for line in log_since(&gateway, mark).lines() {
        let (time, rest) = line.split_once(' ').unwrap_or_default();
        let level = rest.trim_start().split(' ').next().unwrap_or_default();
        assert!(time.len() == 27 && time.ends_with('Z'), "no event begins so: {line}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&level), "{line}");
        assert!(line.len() <= 2 * OURS, "{}: {line}", line.len());
    }
}

#[test]
fn promise_45_each_line_of_json_is_one_event_with_fields_that_end() {
    let gateway = gateway("json");
    let mark = begun(&gateway);
    let standing = attack(&gateway);
    examine(&gateway, standing);
    for line in log_since(&gateway, mark).lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            event["timestamp"].is_string() && event["forged"].is_null() && event["message"] != "forged",
            "{line}"
        );
        has_ends("event", &event);
    }
}
