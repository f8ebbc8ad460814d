//! Calls as they go when nothing goes wrong.

use std::time::Duration;

use crosspoint_proto::Transport;
use crosspoint_proto::netem::{Chunking, Conditions};
use crosspoint_proto::sip::{By, Command, Destination, Event, How, Invite, Reason};

use crate::world::{ALICE, BOB, World, invite, over, sdp, text, uri};

#[test]
fn a_call_rings_is_answered_and_hung_up_by_either_side() {
    for (first, second) in [(ALICE, BOB), (BOB, ALICE)] {
        let mut world = World::perfect();
        let call = world.ring(invite(1));
        world.tell(BOB, Command::Ring { call });
        assert!(matches!(world.next(ALICE), Event::Ringing { status: 180, .. }));
        world.run(Duration::from_secs(20));
        world.tell(BOB, Command::Answer { call, body: sdp("answer") });
        match world.next(ALICE) {
            Event::Answered { body: Some(body), fork: 0, .. } => assert_eq!(text(&body), "answer"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(world.next(BOB), Event::Acked { body: None, .. }));
        world.run(Duration::from_secs(60));
        let ids = [crosspoint_proto::sip::CallId(1), call];
        let reason = Some(Reason::sip(200, "enough"));
        world.tell(first, Command::Hangup { call: ids[first], reason: reason.clone() });
        match world.next(first) {
            Event::Ended { ending, .. } => assert_eq!((ending.by, ending.how), (By::Us, How::Hangup)),
            other => panic!("{other:?}"),
        }
        match world.next(second) {
            Event::Ended { ending, .. } => {
                assert_eq!((ending.by, ending.how), (By::Peer, How::Hangup));
                assert_eq!(ending.reason, reason);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(world.count(ALICE, "INVITE") + world.count(ALICE, "ACK"), 2, "{:#?}", world.lines());
        world.settle();
    }
}

#[test]
fn an_invite_that_nobody_answers_at_once_gets_a_100_within_200_ms() {
    let mut world = World::perfect();
    let call = world.ring(invite(1));
    world.run(Duration::from_millis(200));
    assert_eq!(world.count(BOB, "SIP/2.0 100"), 1);
    world.tell(
        BOB,
        Command::Reject { call, status: 486, phrase: String::new(), reason: None, headers: vec![] },
    );
    world.next(BOB);
    match world.next(ALICE) {
        Event::Ended { ending, .. } => {
            assert_eq!((ending.by, ending.how, ending.status), (By::Peer, How::Refused, Some(486)));
            assert_eq!(ending.phrase, "Busy Here");
        }
        other => panic!("{other:?}"),
    }
    world.settle();
}

#[test]
fn media_may_come_before_the_answer() {
    let mut world = World::perfect();
    let call = world.ring(invite(1));
    world.tell(BOB, Command::Progress { call, body: sdp("early") });
    match world.next(ALICE) {
        Event::Progress { status: 183, body, fork: 0, .. } => assert_eq!(text(&body), "early"),
        other => panic!("{other:?}"),
    }
    world.tell(BOB, Command::Answer { call, body: sdp("early") });
    assert!(matches!(world.next(ALICE), Event::Answered { .. }));
    world.next(BOB);
    world.tell(BOB, Command::Hangup { call, reason: None });
    world.next(BOB);
    world.next(ALICE);
    world.settle();
}

#[test]
fn without_an_offer_the_answer_travels_in_the_ack() {
    let mut world = World::perfect();
    let call = world.ring(Invite { body: None, ..invite(1) });
    world.tell(BOB, Command::Answer { call, body: sdp("offer of bob") });
    let out = match world.next(ALICE) {
        Event::Answered { call, body: Some(body), .. } => {
            assert_eq!(text(&body), "offer of bob");
            call
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(world.count(ALICE, "ACK"), 0);
    world.tell(ALICE, Command::Ack { call: out, body: sdp("answer of alice") });
    match world.next(BOB) {
        Event::Acked { body: Some(body), .. } => assert_eq!(text(&body), "answer of alice"),
        other => panic!("{other:?}"),
    }
    world.tell(ALICE, Command::Hangup { call: out, reason: None });
    world.next(ALICE);
    world.next(BOB);
    world.settle();
}

#[test]
fn offers_change_a_call_both_ways_and_a_refusal_leaves_it() {
    let mut world = World::perfect();
    let (out, call) = world.talk(invite(1));
    let ids = [out, call];
    for (us, them) in [(ALICE, BOB), (BOB, ALICE)] {
        world.tell(us, Command::Reinvite { call: ids[us], body: Some(sdp("hold")) });
        match world.next(them) {
            Event::Reinvite { body: Some(body), .. } => assert_eq!(text(&body), "hold"),
            other => panic!("{other:?}"),
        }
        world.tell(them, Command::AnswerReinvite { call: ids[them], body: sdp("held") });
        match world.next(us) {
            Event::ReinviteAnswered { body: Some(body), .. } => assert_eq!(text(&body), "held"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(world.next(them), Event::Acked { .. }));

        world.tell(us, Command::Reinvite { call: ids[us], body: None });
        assert!(matches!(world.next(them), Event::Reinvite { body: None, .. }));
        world.tell(them, Command::AnswerReinvite { call: ids[them], body: sdp("theirs") });
        assert!(matches!(world.next(us), Event::ReinviteAnswered { body: Some(_), .. }));
        world.tell(us, Command::Ack { call: ids[us], body: sdp("ours") });
        assert!(matches!(world.next(them), Event::Acked { body: Some(_), .. }));

        world.tell(us, Command::Reinvite { call: ids[us], body: Some(sdp("nonsense")) });
        assert!(matches!(world.next(them), Event::Reinvite { .. }));
        world.tell(them, Command::RefuseReinvite { call: ids[them], status: 488 });
        assert!(matches!(world.next(us), Event::ReinviteRefused { status: 488, .. }));
    }
    world.tell(ALICE, Command::Hangup { call: out, reason: None });
    world.next(ALICE);
    world.next(BOB);
    world.settle();
}

#[test]
fn info_goes_both_ways_and_unknown_bodies_are_refused() {
    let mut world = World::perfect();
    let (out, call) = world.talk(invite(1));
    let ids = [out, call];
    for (us, them) in [(ALICE, BOB), (BOB, ALICE)] {
        let mut body = sdp("Signal=5\r\nDuration=160\r\n");
        body.content_type = "application/dtmf-relay".into();
        world.tell(us, Command::Info { call: ids[us], body: body.clone() });
        match world.next(them) {
            Event::Info { body: came, .. } => assert_eq!(came, body),
            other => panic!("{other:?}"),
        }
        assert!(matches!(world.next(us), Event::InfoAnswered { status: 200, .. }));
        body.content_type = "text/plain".into();
        world.tell(us, Command::Info { call: ids[us], body });
        assert!(matches!(world.next(us), Event::InfoAnswered { status: 415, .. }));
    }
    world.tell(ALICE, Command::Hangup { call: out, reason: None });
    world.next(ALICE);
    world.next(BOB);
    world.settle();
}

#[test]
fn streams_carry_calls_however_they_are_cut() {
    for transport in [Transport::Tcp, Transport::Tls] {
        for chunking in [Chunking::Every(1), Chunking::Random(700), Chunking::Whole] {
            let mut world = World::perfect();
            world.net.set_chunking(chunking);
            let (out, call) = world.talk(Invite { destination: over(transport, BOB), ..invite(1) });
            world.tell(BOB, Command::Reinvite { call, body: Some(sdp("hold")) });
            assert!(matches!(world.next(ALICE), Event::Reinvite { .. }));
            world.tell(ALICE, Command::AnswerReinvite { call: out, body: sdp("held") });
            assert!(matches!(world.next(BOB), Event::ReinviteAnswered { .. }));
            assert!(matches!(world.next(ALICE), Event::Acked { .. }));
            world.tell(BOB, Command::Hangup { call, reason: None });
            world.next(BOB);
            world.next(ALICE);
            assert!(world.net.log().iter().all(|s| s.stream), "{:#?}", world.lines());
            assert_eq!(world.net.connections(ALICE).len(), 1, "one connection serves both directions");
            world.settle();
        }
    }
}

#[test]
fn a_long_invite_takes_tcp_when_it_may_and_udp_when_nobody_listens_there() {
    let long = "v=0\r\n".repeat(400);
    let any = |address| Destination::Address { transport: None, address, name: None };
    let mut world = World::perfect();
    let destination = any(crate::world::address(BOB));
    world.talk(Invite { body: Some(sdp(&long)), destination: destination.clone(), ..invite(1) });
    assert!(world.net.log().iter().all(|s| s.stream));

    // Told to use UDP, it does.
    let mut world = World::perfect();
    world.talk(Invite { body: Some(sdp(&long)), ..invite(1) });
    assert!(world.net.log().iter().all(|s| !s.stream));
    assert!(world.net.nodes[ALICE].machine.counters().oversize > 0);

    // Nobody listens by TCP.
    let mut world = World::perfect();
    world.net.refuse_streams(BOB);
    let (out, _) = world.talk(Invite { body: Some(sdp(&long)), destination, ..invite(1) });
    assert!(world.net.log().iter().all(|s| !s.stream));
    world.tell(ALICE, Command::Hangup { call: out, reason: None });
    world.next(BOB);
}

#[test]
fn what_cannot_be_reached_ends_at_once_and_what_is_silent_by_timer_b() {
    let mut world = World::perfect();
    world.tell(
        ALICE,
        Command::Invite(Box::new(Invite {
            target: uri("sip:bob@example.com"),
            destination: Destination::Target,
            ..invite(1)
        })),
    );
    match world.next(ALICE) {
        Event::Ended { ending, .. } => assert_eq!(ending.how, How::Unreachable),
        other => panic!("{other:?}"),
    }
    let nobody = Destination::Address {
        transport: Some(Transport::Tcp),
        address: crate::world::address(9),
        name: None,
    };
    world.tell(ALICE, Command::Invite(Box::new(Invite { destination: nobody, ..invite(2) })));
    match world.next(ALICE) {
        Event::Ended { ending, .. } => assert_eq!(ending.how, How::Unreachable),
        other => panic!("{other:?}"),
    }
    let begin = world.net.now().mono;
    let silent = Destination::Address {
        transport: Some(Transport::Udp),
        address: crate::world::address(9),
        name: None,
    };
    world.tell(ALICE, Command::Invite(Box::new(Invite { destination: silent, ..invite(3) })));
    match world.next(ALICE) {
        Event::Ended { ending, .. } => assert_eq!((ending.by, ending.how), (By::Network, How::NoResponse)),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.net.now().mono - begin, Duration::from_secs(32));
    assert_eq!(world.count(ALICE, "INVITE"), 7, "timer A: 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s");
    world.settle();
}

#[test]
fn jitter_and_duplicates_change_nothing() {
    let road = Conditions {
        duplicate: 0.5,
        reorder: 0.3,
        hold: Duration::from_millis(80),
        jitter: Duration::from_millis(30),
        ..Conditions::delay(Duration::from_millis(20))
    };
    for seed in 0..50 {
        let mut world = World::new(seed, road);
        let (out, call) = world.talk(invite(1));
        world.tell(ALICE, Command::Reinvite { call: out, body: Some(sdp("hold")) });
        assert!(matches!(world.next(BOB), Event::Reinvite { .. }));
        world.tell(BOB, Command::AnswerReinvite { call, body: sdp("held") });
        assert!(matches!(world.next(ALICE), Event::ReinviteAnswered { .. }));
        assert!(matches!(world.next(BOB), Event::Acked { .. }));
        world.tell(ALICE, Command::Hangup { call: out, reason: None });
        world.next(ALICE);
        world.next(BOB);
        world.settle();
    }
}
