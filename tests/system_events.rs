//! Events outside of the program: in a file, and by a webhook that is down now and then (promise 50).
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;
use support::call::StandingCall;
use support::gateway::Gateway;
use support::{PATIENCE, free_port, wait_for};

/// Answers each POST to `port` with the next of `answers`, the last for ever; tells what it was sent by
/// those that it answered with 200.
fn receiver(port: u16, answers: &'static [&'static str]) -> Receiver<Value> {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (told, events) = channel();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = answers.get(n).or_else(|| answers.last()).unwrap();
            // In one piece: the gateway is content with the first line, and closes.
            let whole = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
            let arrived = stream.get_mut().write_all(whole.as_bytes()).is_ok();
            if arrived && answer.starts_with("200") {
                for line in std::str::from_utf8(&body).unwrap().lines() {
                    if told.send(serde_json::from_str(line).unwrap()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    events
}

fn until(events: &Receiver<Value>, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut seen = Vec::new();
    loop {
        seen.push(events.recv_timeout(PATIENCE).expect("the event"));
        if is(seen.last().unwrap()) {
            return seen;
        }
    }
}

#[test]
fn promise_50_a_webhook_that_was_down_gets_every_event_once_it_is_up_and_so_does_the_file() {
    let (port, elsewhere) = (free_port(), free_port());
    let mut gateway = Gateway::start(&["bob"], "");
    let file = gateway.scratch.path().join("events.jsonl");
    let base = gateway.config();
    let outlets = format!(
        "[events]\nfile = \"{}\"\nwebhook = \"http://127.0.0.1:{port}/hook?key=k\"\n",
        file.display()
    );
    gateway.set_config(&format!("{base}{outlets}"));
    gateway.signal("TERM");
    gateway.ends();
    gateway.start_again();
    // Nobody listens there, and no call waits for that.
    let call = StandingCall::new(gateway.sip, "bob", "bob-secret");
    let kinds =
        |text: &str| -> Vec<Value> { text.lines().map(|it| serde_json::from_str(it).unwrap()).collect() };
    let written = wait_for("the file to tell of the call", || {
        let events = kinds(&std::fs::read_to_string(&file).unwrap_or_default());
        events.iter().any(|it| it["event"] == "call_answered").then_some(events)
    });
    let names: Vec<&str> = written.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["registration_added", "call_started", "call_answered"]);
    assert_eq!(written[1]["called"].as_str().map(|it| it.contains("bob")), Some(true), "{}", written[1]);
    // What waits outlives the process.
    gateway.kill_and_restart();
    drop(call);
    let trap = TcpListener::bind(("127.0.0.1", elsewhere)).unwrap();
    trap.set_nonblocking(true).unwrap();
    let location: &'static str =
        Box::leak(format!("302 Found\r\nLocation: http://127.0.0.1:{elsewhere}/").into_boxed_str());
    let answers: &'static [&'static str] = Box::leak(Box::new(["500 Later", location, "200 OK"]));
    let events = receiver(port, answers);
    let mut seen = until(&events, |it| it["event"] == "call_answered");
    let call = StandingCall::new(gateway.sip, "bob", "bob-secret");
    drop(call);
    assert_eq!(gateway.order("/process/stop", r#"{"now":true}"#).0, 202);
    gateway.ends();
    gateway.start_again();
    seen.extend(until(&events, |it| it["event"] == "call_ended"));
    assert!(trap.accept().is_err(), "a redirect is not followed");
    // In order, none left out of a life, and the lives are told apart.
    let lives: BTreeSet<&str> = seen.iter().map(|it| it["life"].as_str().unwrap()).collect();
    assert_eq!(lives.len(), 2, "{seen:#?}");
    for life in lives {
        let numbers: BTreeSet<u64> =
            seen.iter().filter(|it| it["life"] == life).map(|it| it["seq"].as_u64().unwrap()).collect();
        let expected: BTreeSet<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "{seen:#?}");
    }
    let in_file = kinds(&std::fs::read_to_string(&file).unwrap());
    for event in &seen {
        assert!(in_file.contains(event), "{event} is not in the file");
    }
}
