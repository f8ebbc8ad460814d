//! SIP over WebSocket (RFC 7118), as the machine sees it: each piece of a connection is a message.

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_proto::sip::{Command, Config, Destination, Event, Invite, Listen, RequestId};
use crosspoint_proto::{ConnId, Input, Transport};

use crate::solo::{Ask, Out, Solo};
use crate::world::{address, config, invite, sdp};

/// A browser: neither its name nor its port leads anywhere.
fn browser() -> SocketAddr {
    "192.0.2.2:49152".parse().unwrap()
}

fn listening() -> Config {
    let mut config = config(0);
    for (transport, port) in [(Transport::Ws, 8088), (Transport::Wss, 8089)] {
        config.listen.push(Listen::new(transport, SocketAddr::new(address(0).ip(), port)));
    }
    config
}

fn connected(transport: Transport) -> Solo {
    let mut solo = Solo::with(listening());
    let port = if transport == Transport::Wss { 8089 } else { 8088 };
    let local = SocketAddr::new(address(0).ip(), port);
    solo.input(Input::Connected { conn: ConnId(2), local, peer: browser(), transport });
    solo
}

fn ask(method: &'static str) -> Ask {
    Ask { via: "SIP/2.0/WSS df7jal23ls0d.invalid;rport".into(), ..Ask::new(method) }
}

fn call() -> Ask {
    let more = "Contact: <sip:bob@df7jal23ls0d.invalid;transport=ws>\r\n".into();
    Ask { more, body: "v=0\r\n".into(), ..ask("INVITE") }
}

#[test]
fn a_browser_calls_and_is_called_back_on_its_connection_alone() {
    for transport in [Transport::Ws, Transport::Wss] {
        let mut solo = connected(transport);
        // Without Content-Length: where a message ends is known (RFC 7118 section 5).
        let invited = solo.stream(2, call().text().replace("Content-Length: 5\r\n", ""));
        assert!(invited.is_empty());
        let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
        assert_eq!(incoming.source.transport, transport);
        assert!(incoming.source.translated, "it does not know its address");
        let id = incoming.call;
        let ok = solo.tell(Command::Answer { call: id, body: sdp("v=0\r\nours") }).remove(0);
        assert_eq!((ok.status(), ok.conn), (200, Some(ConnId(2))));
        let via = ok.header("Via").unwrap();
        assert!(via.contains("received=192.0.2.2") && via.contains("rport=49152"), "{via}");
        let contact = ok.header("Contact").unwrap();
        assert!(contact.ends_with(";transport=ws>"), "RFC 7118 section 5.2: {contact}");
        solo.stream(2, call().ack(&ok).text());
        assert!(matches!(solo.event(), Event::Acked { .. }));
        let bye = solo.tell(Command::Hangup { call: id, reason: None }).remove(0);
        assert_eq!(
            (bye.start(), bye.conn),
            ("BYE sip:bob@df7jal23ls0d.invalid;transport=ws SIP/2.0", Some(ConnId(2)))
        );
        let word = if transport == Transport::Wss {
            "SIP/2.0/WSS 192.0.2.1:8089"
        } else {
            "SIP/2.0/WS 192.0.2.1:8088"
        };
        assert!(bye.header("Via").unwrap().starts_with(word), "{bye:?}");
        solo.stream(2, bye.response("200 OK", "", "", ""));
        assert!(solo.connects.is_empty() && solo.closed.is_empty());
    }
}

#[test]
fn nobody_connects_to_a_browser_whose_connection_is_gone() {
    let mut solo = connected(Transport::Wss);
    // Not even where it names an address.
    let named = Ask { via: "SIP/2.0/WSS 192.0.2.2:5060".into(), ..call() };
    let named = Ask { more: "Contact: <sip:bob@192.0.2.2:5060;transport=ws>\r\n".into(), ..named };
    solo.stream(2, named.text());
    let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
    solo.input(Input::Closed { conn: ConnId(2) });
    assert!(matches!(solo.event(), Event::FlowClosed { .. }));
    let sent = solo.tell(Command::Answer { call: incoming.call, body: sdp("v=0\r\nours") });
    assert!(sent.is_empty() && solo.connects.is_empty(), "{sent:?}");
    let destination = Destination::Flow(incoming.source.flow);
    solo.tell(Command::Invite(Box::new(Invite { destination, ..invite(77) })));
    assert!(solo.connects.is_empty());
    solo.rest();
    assert_eq!(solo.machine.load().calls, 0);
}

#[test]
fn each_piece_is_one_message_and_what_is_none_is_answered_by_itself() {
    let mut solo = connected(Transport::Ws);
    let one = |n: u32| Ask { branch: format!("z9hG4bK{n}"), cseq: n, ..ask("OPTIONS") }.text();
    assert_eq!(solo.stream(2, one(1))[0].status(), 200);
    // Half a message is a bad one, and the next is none of it.
    let whole = one(2).replace("Content-Length: 0", "Content-Length: 99");
    assert_eq!(solo.stream(2, whole)[0].status(), 400);
    assert!(solo.stream(2, "nonsense").is_empty());
    assert_eq!(solo.stream(2, one(3))[0].status(), 200);
    assert!(solo.closed.is_empty());
    // A second one behind the first is not looked at (RFC 7118 section 5).
    assert_eq!(solo.stream(2, one(4) + &one(5)).len(), 1);
}

#[test]
fn pings_of_streams_are_answered_there_too() {
    let mut solo = connected(Transport::Ws);
    let pong = Out { to: None, conn: Some(ConnId(2)), text: "\r\n".into() };
    assert_eq!(solo.stream(2, "\r\n\r\n"), [pong]);
    for nothing in ["\r\n", ""] {
        assert!(solo.stream(2, nothing).is_empty());
    }
}

#[test]
fn a_connection_needs_a_message_in_time_and_is_closed_when_nothing_comes_for_long() {
    let mut solo = connected(Transport::Ws);
    solo.stream(2, "nonsense");
    solo.stream(2, "");
    solo.wait(Duration::from_secs(10));
    assert_eq!(solo.closed, [ConnId(2)]);

    let mut solo = connected(Transport::Ws);
    let register = ask("REGISTER").with("Contact: <sip:bob@x.invalid;transport=ws>\r\n").text();
    solo.stream(2, register);
    let Event::Request { request: RequestId(id), .. } = solo.event() else { panic!("no request") };
    let respond = Command::Respond {
        request: RequestId(id),
        status: 200,
        phrase: String::new(),
        headers: vec![("Contact".into(), "<sip:bob@x.invalid;transport=ws>;expires=3600".into())],
        body: None,
    };
    assert_eq!(solo.tell(respond)[0].conn, Some(ConnId(2)));
    solo.wait(Duration::from_secs(3_600));
    assert!(solo.closed.is_empty(), "it is registered for an hour");
    solo.wait(Duration::from_secs(300));
    assert_eq!(solo.closed, [ConnId(2)]);
    assert_eq!(solo.machine.load().connections, 0);
}
