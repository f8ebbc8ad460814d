//! Calls that do not get through where they are sent first (RFC 3263 section 4.3).

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_proto::sip::{By, CallId, Command, Destination, Elsewhere, Event, How, Invite, Load};
use crosspoint_proto::{ConnId, Input, Transport};

use crate::solo::{Out, Solo};
use crate::world::{invite, name, sdp, uri};

fn place(last: u8, transport: Transport) -> Destination {
    let address = SocketAddr::from(([192, 0, 2, last], 5060));
    Destination::Address { transport: Some(transport), address, name: None }
}

/// Begins a call that has another place to go.
fn set_out(solo: &mut Solo, transport: Transport) -> Vec<Out> {
    let invite = Invite { elsewhere: true, destination: place(2, transport), ..invite(1) };
    solo.tell(Command::Invite(Box::new(invite)))
}

fn go_on(solo: &mut Solo, last: u8, elsewhere: bool) -> Vec<Out> {
    let destination = place(last, Transport::Udp);
    let body = Some(sdp("offer again"));
    solo.tell(Command::Elsewhere(Box::new(Elsewhere {
        call: CallId(1),
        destination,
        target: None,
        body,
        elsewhere,
    })))
}

fn unreached(solo: &mut Solo) -> (How, Option<Duration>) {
    match solo.event() {
        Event::Unreached { call: CallId(1), how, pause } => (how, pause),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_says_503_is_left_for_the_next_one_with_the_same_request() {
    let mut solo = Solo::new();
    let first = set_out(&mut solo, Transport::Udp).remove(0);
    let sent = solo.hear(first.response("503 Service Unavailable", "x", "Retry-After: 90\r\n", ""));
    assert_eq!((sent.len(), &sent[0].start()[..3]), (1, "ACK"));
    assert_eq!(unreached(&mut solo), (How::Refused, Some(Duration::from_secs(90))));
    let second = go_on(&mut solo, 3, false).remove(0);
    assert_eq!(second.to, Some("192.0.2.3:5060".parse().unwrap()));
    for same in ["Call-ID", "CSeq", "From", "To"] {
        assert_eq!(first.header(same), second.header(same), "RFC 3263 section 4.3: identical");
    }
    assert_ne!(first.header("Via"), second.header("Via"), "but for the branch");
    assert!(second.text.ends_with("offer again"));
    let contact = "Contact: <sip:bob@192.0.2.3>\r\n";
    assert!(
        solo.hear_from("192.0.2.3:5060".parse().unwrap(), second.response("200 OK", "b", contact, "answer"))
            [0]
        .start()
        .starts_with("ACK")
    );
    assert!(matches!(solo.event(), Event::Answered { .. }));
}

#[test]
fn a_server_that_says_nothing_is_left_before_the_caller_gives_up() {
    let mut solo = Solo::new();
    assert_eq!(set_out(&mut solo, Transport::Udp).len(), 1);
    assert_eq!(solo.wait(Duration::from_millis(3_999)).len(), 3, "sent four times in all");
    assert!(solo.events.is_empty());
    solo.wait(Duration::from_millis(1));
    assert_eq!(unreached(&mut solo), (How::NoResponse, None));
    // The last place has all the time of timer B.
    assert_eq!(go_on(&mut solo, 3, false).len(), 1);
    solo.wait(Duration::from_secs(31));
    assert!(solo.events.is_empty());
    solo.wait(Duration::from_secs(2));
    match solo.event() {
        Event::Ended { ending, .. } => assert_eq!((ending.by, ending.how), (By::Network, How::NoResponse)),
        other => panic!("{other:?}"),
    }
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn a_connection_that_is_refused_is_left_for_another_place() {
    let mut solo = Solo::new();
    assert!(set_out(&mut solo, Transport::Tcp).is_empty());
    let (conn, _) = solo.connects[0];
    solo.input(Input::Closed { conn });
    assert_eq!(unreached(&mut solo), (How::Unreachable, None));
    assert_eq!(go_on(&mut solo, 3, true).len(), 1);
    // And hung up on the way: nobody is left waiting.
    solo.wait(Duration::from_secs(4));
    assert_eq!(unreached(&mut solo), (How::NoResponse, None));
    solo.tell(Command::Hangup { call: CallId(1), reason: None });
    assert!(matches!(solo.event(), Event::Ended { .. }));
    assert!(go_on(&mut solo, 4, false).is_empty(), "nobody is called after that");
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn a_server_that_works_on_it_or_rings_keeps_the_call() {
    for (word, tag) in [("100 Trying", ""), ("180 Ringing", "b")] {
        let mut solo = Solo::new();
        let asked = set_out(&mut solo, Transport::Udp).remove(0);
        solo.hear(asked.response(word, tag, "", ""));
        solo.events.clear();
        assert!(solo.wait(Duration::from_secs(60)).is_empty() && solo.events.is_empty(), "{word}");
        solo.hear(asked.response("503 Service Unavailable", "b", "", ""));
        match (tag, solo.event()) {
            ("", Event::Unreached { .. }) => {}
            ("b", Event::Ended { ending, .. }) => assert_eq!(ending.status, Some(503), "a phone rang"),
            (_, other) => panic!("{word}: {other:?}"),
        }
    }
}

#[test]
fn what_the_next_place_would_say_as_well_ends_the_call() {
    for status in ["486 Busy Here", "404 Not Found", "408 Request Timeout", "500 Oops", "603 Decline"] {
        let mut solo = Solo::new();
        let asked = set_out(&mut solo, Transport::Udp).remove(0);
        solo.hear(asked.response(status, "b", "", ""));
        assert!(matches!(solo.event(), Event::Ended { .. }), "{status}");
    }
}

/// A flow over the connection of that number, which stands.
fn flow(solo: &mut Solo, conn: u64) -> Destination {
    let peer = SocketAddr::from(([192, 0, 2, 2], 40_000 + conn as u16));
    solo.accept(conn, peer);
    Destination::Flow(format!("tcp 192.0.2.1:5060 {peer} {conn}").parse().unwrap())
}

fn by_flow(solo: &mut Solo, destination: &Destination, elsewhere: bool) -> Vec<Out> {
    let invite = Invite { elsewhere, destination: destination.clone(), ..invite(1) };
    solo.tell(Command::Invite(Box::new(invite)))
}

#[test]
fn a_flow_that_is_gone_is_left_for_another_of_the_same_device() {
    for case in ["gone before", "gone meanwhile", "430"] {
        let mut solo = Solo::new();
        let (first, second) = (flow(&mut solo, 2), flow(&mut solo, 4));
        if case == "gone before" {
            solo.input(Input::Closed { conn: ConnId(2) });
            solo.events.clear();
        }
        let sent = by_flow(&mut solo, &first, true);
        match case {
            "gone before" => assert!(sent.is_empty()),
            "gone meanwhile" => {
                solo.input(Input::Closed { conn: ConnId(2) });
                solo.events.retain(|event| !matches!(event, Event::FlowClosed { .. }));
            }
            _ => {
                solo.stream(2, sent[0].response("430 Flow Failed", "edge", "", ""));
            }
        }
        assert_eq!(unreached(&mut solo), (How::FlowFailed, None), "{case}");
        let target =
            Some((uri("sip:bob@192.0.2.2:40004;transport=tcp"), vec![name("<sip:edge.example;lr>")]));
        let (destination, body) = (second, Some(sdp("offer again")));
        let next = Elsewhere { call: CallId(1), destination, target, body, elsewhere: false };
        let sent = solo.tell(Command::Elsewhere(Box::new(next)));
        assert_eq!(sent[0].conn, Some(ConnId(4)), "{case}");
        assert_eq!(sent[0].start(), "INVITE sip:bob@192.0.2.2:40004;transport=tcp SIP/2.0");
        assert_eq!(sent[0].header("Route"), Some("<sip:edge.example;lr>"));
        let contact = "Contact: <sip:bob@192.0.2.2>\r\n";
        solo.stream(4, sent[0].response("200 OK", "b", contact, "answer"));
        assert!(matches!(solo.event(), Event::Answered { .. }), "{case}");
    }
}

#[test]
fn a_call_by_a_flow_that_is_gone_ends_and_says_so() {
    let ended = |solo: &mut Solo| match solo.event() {
        Event::Ended { ending, .. } => (ending.by, ending.how, ending.status),
        other => panic!("{other:?}"),
    };
    let mut solo = Solo::new();
    let gone = flow(&mut solo, 2);
    let sent = by_flow(&mut solo, &gone, false);
    solo.stream(2, sent[0].response("430 Flow Failed", "edge", "", ""));
    assert_eq!(ended(&mut solo), (By::Peer, How::Refused, Some(430)));
    solo.input(Input::Closed { conn: ConnId(2) });
    solo.events.clear();
    let again = Invite { destination: gone, ..invite(3) };
    assert!(solo.tell(Command::Invite(Box::new(again))).is_empty());
    assert_eq!(ended(&mut solo), (By::Network, How::FlowFailed, None));
    assert!(solo.connects.is_empty(), "nobody connects to who is behind it");
    assert_eq!(solo.rest(), Load::default());
}
