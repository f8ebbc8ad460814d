//! Peers that vanish, by every transport: without a word, or with their connection. Their calls end
//! in time, and nothing is left of them.

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_proto::sip::{CallId, Command, Event, Invite, Load};
use crosspoint_proto::{ConnId, Input, Transport};

use crate::solo::{Ask, Out, Solo};
use crate::world::{config, invite, over};

/// Calls of each kind: half of them ours, half theirs.
const CALLS: usize = 100;

/// When a leg to which no media comes is hung up, in seconds: the default of `media.timeout`.
const MEDIA_TIMEOUT: u64 = 30;

/// How a peer goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// Nothing comes any more, and nobody is told.
    Silent,
    /// Its connection ends, and it takes no other.
    Gone,
}

/// The road to one peer.
#[derive(Clone, Copy, Debug)]
struct Road {
    transport: Transport,
    peer: SocketAddr,
    conn: Option<ConnId>,
}

const fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
        Transport::Ws => "WS",
        Transport::Wss => "WSS",
    }
}

fn ours(transport: Transport) -> SocketAddr {
    let all = config(0).listen;
    all.iter().find(|it| it.transport == transport).unwrap().address
}

impl Road {
    fn connected(&self, solo: &mut Solo) {
        let Self { transport, peer, conn } = *self;
        if let Some(conn) = conn {
            solo.input(Input::Connected { conn, local: ours(transport), peer, transport });
        }
    }

    fn hear(&self, solo: &mut Solo, text: &str) -> Vec<Out> {
        match self.conn {
            Some(conn) => solo.input(Input::Stream { conn, data: text.as_bytes() }),
            None => solo.hear_from(self.peer, text),
        }
    }
}

/// The `n`th peer called us.
fn theirs(solo: &mut Solo, n: usize, transport: Transport, timers: bool) -> (Road, CallId) {
    let peer = SocketAddr::from(([198, 51, 100, n as u8], 5060));
    // Odd numbers are those of connections that it opens itself.
    let conn = (transport != Transport::Udp).then_some(ConnId(10_000 + 2 * n as u64));
    let road = Road { transport, peer, conn };
    road.connected(solo);
    let mut ask = Ask::invite();
    let name = word(transport);
    ask.via = format!("SIP/2.0/{name} {peer}");
    ask.branch = format!("z9hG4bKpeer{n}");
    ask.call_id = format!("call-{n}");
    ask.more = format!("Contact: <sip:bob@{peer};transport={}>\r\n", name.to_lowercase());
    if timers {
        ask.more.push_str("Supported: timer\r\nSession-Expires: 1800;refresher=uac\r\n");
    }
    road.hear(solo, &ask.text());
    let call = solo.events.drain(..).find_map(|event| match event {
        Event::Incoming(incoming) => Some(incoming.call),
        _ => None,
    });
    let call = call.unwrap_or_else(|| panic!("no call {n} by {transport:?}: {:?}", solo.sent.last()));
    let body = crate::world::sdp("v=0\r\nours");
    let ok = solo.tell(Command::Answer { call, body }).remove(0);
    road.hear(solo, &ask.ack(&ok).text());
    (road, call)
}

/// The `n`th peer was called by us.
fn called(solo: &mut Solo, n: usize, transport: Transport, timers: bool) -> (Road, CallId) {
    let call = CallId(1 + n as u64);
    let destination = over(transport, 10 + n);
    let asked = solo.tell(Command::Invite(Box::new(Invite { destination, ..invite(call.0) })));
    let (road, asked) = match solo.connects.pop() {
        Some((conn, peer)) => {
            let road = Road { transport, peer, conn: Some(conn) };
            let before = solo.sent.len();
            road.connected(solo);
            (road, solo.sent[before].clone())
        }
        None => (Road { transport, peer: asked[0].to.unwrap(), conn: None }, asked[0].clone()),
    };
    let contact =
        format!("Contact: <sip:bob@{};transport={}>\r\n", road.peer, word(transport).to_lowercase());
    let more = if timers { "Require: timer\r\nSession-Expires: 1800;refresher=uac\r\n" } else { "" };
    road.hear(solo, &asked.response("200 OK", &format!("b{n}"), &format!("{contact}{more}"), "answer"));
    (road, call)
}

/// Seconds after which each call ended.
fn ends(solo: &mut Solo, seconds: u64, ended: &mut Vec<u64>) {
    for second in 0..seconds {
        solo.wait(Duration::from_secs(1));
        // Nobody takes a connection any more.
        while let Some((conn, _)) = solo.connects.pop() {
            solo.input(Input::Closed { conn });
        }
        let over = solo.events.drain(..).filter(|event| matches!(event, Event::Ended { .. }));
        ended.extend(over.map(|_| second));
    }
}

#[test]
fn promise_13_who_vanishes_by_any_transport_leaves_no_call_and_nothing_else() {
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        for how in [How::Silent, How::Gone] {
            for timers in [true, false] {
                if (transport, how) != (Transport::Udp, How::Gone) {
                    vanish(transport, how, timers);
                }
            }
        }
    }
}

fn vanish(transport: Transport, how: How, timers: bool) {
    let what = format!("{transport:?}, {how:?}, session timers {timers}");
    let mut solo = Solo::new();
    let mut peers = Vec::new();
    for n in 0..CALLS / 2 {
        peers.push(called(&mut solo, n, transport, timers));
        peers.push(theirs(&mut solo, n, transport, timers));
    }
    solo.events.clear();
    assert_eq!(solo.machine.load().calls, CALLS, "{what}");
    if how == How::Gone {
        for (road, _) in &peers {
            solo.input(Input::Closed { conn: road.conn.unwrap() });
        }
    }
    let mut ended = Vec::new();
    if timers {
        ends(&mut solo, 1_800, &mut ended);
        // Ours are refreshed at half time, theirs are not, and end 32 s before the time is over.
        let refreshed = ended.iter().filter(|at| **at <= 900 + 32).count();
        assert_eq!(refreshed, CALLS / 2, "{what}: {ended:?}");
    } else {
        ends(&mut solo, MEDIA_TIMEOUT, &mut ended);
        assert_eq!(ended, [], "{what}: signalling alone cannot know");
        for (_, call) in &peers {
            solo.tell(Command::Hangup { call: *call, reason: None });
        }
        ends(&mut solo, 33, &mut ended);
    }
    assert_eq!(ended.len(), CALLS, "{what}: {ended:?}");
    // The system finds out by itself that nobody is on a silent connection.
    for (road, _) in &peers {
        if let Some(conn) = road.conn.filter(|_| how == How::Silent) {
            solo.input(Input::Closed { conn });
        }
    }
    assert_eq!(solo.rest(), Load::default(), "{what}");
}
