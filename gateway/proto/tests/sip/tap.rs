//! What the owner is told of messages, when it wants to know.

use crosspoint_proto::Transport;
use crosspoint_proto::sip::{CallId, Command, Config, Event, Sighted};

use crate::solo::{Solo, far};
use crate::world::{config, invite};

fn tapped() -> Solo {
    Solo::with(Config { tap: true, ..config(0) })
}

/// Start lines with their direction, and the calls that are let go.
fn told(solo: &mut Solo) -> Vec<(CallId, String)> {
    let start = |it: &Sighted| {
        let text = String::from_utf8_lossy(&it.data).into_owned();
        let arrow = if it.sent { "->" } else { "<-" };
        assert_eq!((it.flow.remote(), it.flow.transport()), (far(), Transport::Udp));
        format!("{arrow} {}", text.lines().next().unwrap().trim_end_matches(" SIP/2.0"))
    };
    let told = solo.events.drain(..).filter_map(|event| match event {
        Event::Sighted(it) => Some((it.call, start(&it))),
        Event::Released { call } => Some((call, "released".to_owned())),
        _ => None,
    });
    told.collect()
}

#[test]
fn every_message_of_an_outgoing_call_is_told_until_nothing_is_left_of_it() {
    let mut solo = tapped();
    let first = solo.tell(Command::Invite(Box::new(invite(1)))).remove(0);
    solo.hear(first.response("180 Ringing", "b", "", ""));
    let contact = "Contact: <sip:bob@192.0.2.2>\r\n";
    solo.hear(first.response("200 OK", "b", contact, "answer"));
    solo.hear(first.response("200 OK", "b", contact, "answer"));
    let bye = solo.tell(Command::Hangup { call: CallId(1), reason: None }).remove(0);
    solo.hear(bye.response("200 OK", "b", "", ""));
    let told = told(&mut solo);
    assert!(told.iter().all(|(call, _)| *call == CallId(1)), "{told:?}");
    let lines: Vec<&str> = told.iter().map(|(_, line)| line.split(" sip:").next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "-> INVITE",
            "<- SIP/2.0 180 Ringing",
            "<- SIP/2.0 200 OK",
            "-> ACK",
            "<- SIP/2.0 200 OK",
            "-> ACK",
            "-> BYE",
            "<- SIP/2.0 200 OK",
            "released"
        ]
    );
}

fn request(method: &str, cseq: u32, tag: &str) -> String {
    format!(
        "{method} sip:bob@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{method}{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:eve@192.0.2.2>;tag=eve\r\nTo: <sip:bob@192.0.2.1>{tag}\r\n\
         Call-ID: one\r\nCSeq: {cseq} {method}\r\nContact: <sip:eve@{}>\r\nContent-Length: 0\r\n\r\n",
        far(),
        far()
    )
}

#[test]
fn a_call_that_comes_again_with_credentials_is_told_apart_from_the_first() {
    let mut solo = tapped();
    solo.hear(request("INVITE", 1, ""));
    let Event::Incoming(first) = solo.event() else { panic!("{:?}", solo.events) };
    let headers = vec![("WWW-Authenticate".to_owned(), "Digest realm=\"x\"".to_owned())];
    let reject =
        Command::Reject { call: first.call, status: 401, phrase: String::new(), reason: None, headers };
    let refusal = solo.tell(reject).remove(0);
    let tag =
        refusal.header("To").unwrap().split_once(";tag=").map(|(_, tag)| format!(";tag={tag}")).unwrap();
    solo.hear(request("INVITE", 2, ""));
    let second = solo.events.iter().find_map(|event| match event {
        Event::Incoming(it) => Some(it.call),
        _ => None,
    });
    let second = second.expect("a second call");
    solo.hear(request("ACK", 1, &tag).replace("z9hG4bKACK1", "z9hG4bKINVITE1"));
    let told = told(&mut solo);
    let of = |wanted: CallId| {
        let lines = told.iter().filter(|(call, _)| *call == wanted);
        lines.map(|(_, line)| line.split(" sip:").next().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of(first.call), ["<- INVITE", "-> SIP/2.0 401 Unauthorized", "released"]);
    assert_eq!(of(second)[0], "<- INVITE", "{told:?}");
    assert!(!of(second).iter().any(|line| line.contains("401")), "{told:?}");
    // Repetitions are seen as well: here of an INVITE that nobody has answered yet.
    solo.hear(request("INVITE", 2, ""));
    let again: Vec<_> = self::told(&mut solo);
    assert!(again.iter().any(|(call, line)| *call == second && line.starts_with("<- INVITE")), "{again:?}");
}

#[test]
fn nobody_who_did_not_ask_is_told() {
    let mut solo = Solo::new();
    solo.tell(Command::Invite(Box::new(invite(1))));
    solo.hear(request("INVITE", 1, ""));
    assert!(told(&mut solo).is_empty());
}

#[test]
fn what_is_of_no_call_is_not_told() {
    let mut solo = tapped();
    solo.hear(request("OPTIONS", 1, ""));
    solo.hear(request("BYE", 1, ";tag=none"));
    solo.hear("SIP/2.0 200 OK\r\nnonsense");
    assert!(told(&mut solo).is_empty());
}
