//! What crosses on the road.

use std::time::Duration;

use crosspoint_proto::Transport;
use crosspoint_proto::netem::{Conditions, Verdict};
use crosspoint_proto::sip::{By, CallId, Command, Ending, Event, How, Invite, PingId, Reason};

use crate::world::{ALICE, BOB, LONG, World, invite, over, sdp, uri};

fn ending(event: Event) -> Ending {
    match event {
        Event::Ended { ending, .. } => *ending,
        other => panic!("{other:?}"),
    }
}

fn hang_up(world: &mut World, who: usize, call: CallId) {
    world.tell(who, Command::Hangup { call, reason: Some(Reason::sip(200, "bye bye")) });
    assert_eq!(ending(world.next(who)).by, By::Us);
}

/// The first message of that kind from that side is lost.
pub(crate) fn lose_first(world: &mut World, side: usize, start: &'static str) {
    let mut lost = false;
    world.net.set_filter(move |from, _, data| {
        if !lost && from == side && data.starts_with(start.as_bytes()) {
            lost = true;
            return Verdict::Drop;
        }
        Verdict::Pass
    });
}

#[test]
fn a_cancel_waits_for_the_first_response_and_carries_its_reason() {
    let mut world = World::new(1, Conditions::delay(Duration::from_millis(60)));
    world.tell(ALICE, Command::Invite(Box::new(invite(1))));
    hang_up(&mut world, ALICE, CallId(1));
    let Event::Incoming(incoming) = world.next(BOB) else { panic!("no call") };
    assert_eq!(world.count(ALICE, "CANCEL"), 0);
    let end = ending(world.next(BOB));
    assert_eq!((end.by, end.how), (By::Peer, How::Cancelled));
    assert_eq!(end.reason, Some(Reason::sip(200, "bye bye")));
    // Too late.
    world.tell(BOB, Command::Answer { call: incoming.call, body: sdp("answer") });
    world.settle();
    assert_eq!(world.count(ALICE, "CANCEL"), 1);
    assert_eq!(world.count(BOB, "SIP/2.0 487"), 1, "{:#?}", world.lines());
    assert_eq!(world.count(ALICE, "ACK"), 1);
    assert_eq!(world.count(BOB, "SIP/2.0 200"), 1, "of the CANCEL");
}

#[test]
fn what_nobody_heard_is_not_cancelled_and_ends_by_itself() {
    let mut world = World::new(1, Conditions::lossy(1.0));
    world.tell(ALICE, Command::Invite(Box::new(invite(1))));
    hang_up(&mut world, ALICE, CallId(1));
    world.settle();
    assert_eq!(world.count(ALICE, "CANCEL"), 0);
}

#[test]
fn a_cancel_that_is_never_answered_ends_the_call_all_the_same() {
    let mut world = World::perfect();
    let call = world.ring(invite(1));
    world.tell(BOB, Command::Ring { call });
    world.next(ALICE);
    world.net.set_conditions(ALICE, BOB, Conditions::lossy(1.0));
    hang_up(&mut world, ALICE, CallId(1));
    world.run(Duration::from_secs(40));
    assert_eq!(world.net.nodes[ALICE].machine.load(), crosspoint_proto::sip::Load::default());
}

/// Whatever the moment at which the answer and the CANCEL cross, both sides end, with the same
/// idea of what happened, and nothing is left.
#[test]
fn an_answer_crosses_a_cancel_at_every_moment() {
    let mut seen = [0, 0];
    for offset in (0..200).step_by(4) {
        for there in [5, 40] {
            for back in [5, 40] {
                let mut world = World::perfect();
                world.net.set_conditions(ALICE, BOB, Conditions::delay(Duration::from_millis(there)));
                world.net.set_conditions(BOB, ALICE, Conditions::delay(Duration::from_millis(back)));
                let call = world.ring(invite(1));
                world.tell(BOB, Command::Ring { call });
                if offset < 100 {
                    world.tell(BOB, Command::Answer { call, body: sdp("answer") });
                    world.run(Duration::from_millis(offset));
                    hang_up_maybe_answered(&mut world);
                } else {
                    world.run(Duration::from_millis(100));
                    hang_up_maybe_answered(&mut world);
                    world.run(Duration::from_millis(offset - 100));
                    world.tell(BOB, Command::Answer { call, body: sdp("answer") });
                }
                world.run(LONG);
                let ends: Vec<_> = std::iter::from_fn(|| world.net.event(BOB))
                    .filter_map(|e| if let Event::Ended { ending, .. } = e { Some(ending) } else { None })
                    .collect();
                assert_eq!(ends.len(), 1, "{:#?}", world.lines());
                assert_eq!(ends[0].by, By::Peer);
                match ends[0].how {
                    How::Cancelled => seen[0] += 1,
                    How::Hangup => seen[1] += 1,
                    other => panic!("{other:?}"),
                }
                assert_eq!(ends[0].reason, Some(Reason::sip(200, "bye bye")));
                world.settle();
            }
        }
    }
    assert!(seen[0] > 20 && seen[1] > 20, "both races were seen: {seen:?}");
}

fn hang_up_maybe_answered(world: &mut World) {
    world.tell(ALICE, Command::Hangup { call: CallId(1), reason: Some(Reason::sip(200, "bye bye")) });
    while let Some(event) = world.net.event(ALICE) {
        if let Event::Ended { ending, .. } = event {
            assert_eq!(ending.by, By::Us);
            return;
        }
    }
    panic!("no end");
}

#[test]
fn a_refusal_crosses_a_cancel() {
    let mut world = World::new(1, Conditions::delay(Duration::from_millis(50)));
    let call = world.ring(invite(1));
    world.tell(BOB, Command::Ring { call });
    world.next(ALICE);
    hang_up(&mut world, ALICE, CallId(1));
    world.tell(
        BOB,
        Command::Reject { call, status: 603, phrase: String::new(), reason: None, headers: vec![] },
    );
    assert_eq!(ending(world.next(BOB)).how, How::Refused);
    world.settle();
}

#[test]
fn both_hang_up_at_once() {
    let mut world = World::perfect();
    let (out, call) = world.talk(invite(1));
    hang_up(&mut world, ALICE, out);
    hang_up(&mut world, BOB, call);
    world.settle();
    assert_eq!((world.count(ALICE, "SIP/2.0 200"), world.count(BOB, "SIP/2.0 200")), (1, 2));
}

#[test]
fn offers_that_cross_wait_and_both_come_through() {
    for seed in 0..30 {
        let mut world = World::new(seed, Conditions::delay(Duration::from_millis(25)));
        let (out, call) = world.talk(invite(1));
        let ids = [out, call];
        for who in [ALICE, BOB] {
            world.tell(who, Command::Reinvite { call: ids[who], body: Some(sdp("hold")) });
        }
        let mut done = [(0, 0); 2];
        while done != [(1, 1); 2] {
            let who = usize::from(world.net.nodes[ALICE].events.is_empty());
            let event = if who == ALICE { world.net.event(ALICE) } else { None };
            let (who, event) = match event {
                Some(event) => (ALICE, event),
                None => match world.net.event(BOB) {
                    Some(event) => (BOB, event),
                    None => {
                        assert!(
                            world.net.drive_until(LONG, |n| n.nodes.iter().any(|n| !n.events.is_empty())),
                            "{who}: {:#?}",
                            world.lines()
                        );
                        continue;
                    }
                },
            };
            match event {
                Event::Reinvite { call, .. } => {
                    world.tell(who, Command::AnswerReinvite { call, body: sdp("held") });
                }
                Event::ReinviteAnswered { .. } => done[who].0 += 1,
                Event::Acked { .. } => done[who].1 += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(world.count(ALICE, "SIP/2.0 491") + world.count(BOB, "SIP/2.0 491") >= 2);
        hang_up(&mut world, BOB, call);
        assert_eq!(ending(world.next(ALICE)).how, How::Hangup);
        world.settle();
    }
}

#[test]
fn a_lost_answer_and_a_lost_ack_are_repeated() {
    for (side, start) in [(BOB, "SIP/2.0 200"), (ALICE, "ACK"), (ALICE, "INVITE")] {
        let mut world = World::perfect();
        lose_first(&mut world, side, start);
        let (out, _) = world.talk(invite(1));
        assert_eq!(world.count(side, start), 2, "{:#?}", world.lines());
        hang_up(&mut world, ALICE, out);
        assert_eq!(ending(world.next(BOB)).by, By::Peer);
        world.settle();
    }
}

#[test]
fn an_answer_that_is_never_acknowledged_ends_in_a_bye() {
    let mut world = World::perfect();
    let (target, destination) = (uri("sip:192.0.2.1"), over(Transport::Udp, ALICE));
    world.tell(BOB, Command::Ping { ping: PingId(1), target, destination });
    assert!(matches!(world.next(BOB), Event::Pong { status: Some(200), .. }));
    world.net.set_filter(|_, _, data| if data.starts_with(b"ACK") { Verdict::Drop } else { Verdict::Pass });
    let call = world.ring(invite(1));
    world.tell(BOB, Command::Answer { call, body: sdp("answer") });
    assert!(matches!(world.next(ALICE), Event::Answered { .. }));
    let end = ending(world.next(BOB));
    assert_eq!((end.by, end.how), (By::Network, How::NoAck));
    assert_eq!(ending(world.next(ALICE)).by, By::Peer);
    assert_eq!(world.count(BOB, "SIP/2.0 200"), 11, "0, 0.5, 1.5, 3.5, 7.5 and then every 4 s up to 32 s");
    world.settle();
}

#[test]
fn the_callee_s_bye_waits_for_the_ack() {
    let mut world = World::perfect();
    lose_first(&mut world, ALICE, "ACK");
    let call = world.ring(invite(1));
    world.tell(BOB, Command::Answer { call, body: sdp("answer") });
    hang_up(&mut world, BOB, call);
    assert_eq!(world.count(BOB, "BYE"), 0);
    assert!(matches!(world.next(ALICE), Event::Answered { .. }));
    let end = ending(world.next(ALICE));
    assert_eq!((end.by, end.reason), (By::Peer, Some(Reason::sip(200, "bye bye"))));
    assert_eq!(world.count(ALICE, "ACK"), 2);
    world.settle();
}

#[test]
fn a_call_is_hung_up_while_an_offer_is_open() {
    for who in [ALICE, BOB] {
        for answered in [false, true] {
            let mut world = World::perfect();
            let (out, call) = world.talk(invite(1));
            let ids = [out, call];
            world.tell(ALICE, Command::Reinvite { call: out, body: Some(sdp("hold")) });
            assert!(matches!(world.next(BOB), Event::Reinvite { .. }));
            if answered {
                world.tell(BOB, Command::AnswerReinvite { call, body: sdp("held") });
            }
            hang_up(&mut world, who, ids[who]);
            world.run(LONG);
            for node in &mut world.net.nodes {
                node.events.clear();
            }
            world.settle();
        }
    }
}

#[test]
fn a_call_whose_answer_nobody_acknowledged_yet_is_hung_up_by_its_caller() {
    let mut world = World::perfect();
    let call = world.ring(Invite { body: None, ..invite(1) });
    world.tell(BOB, Command::Answer { call, body: sdp("offer") });
    assert!(matches!(world.next(ALICE), Event::Answered { .. }));
    hang_up(&mut world, ALICE, CallId(1));
    assert!(matches!(world.next(BOB), Event::Acked { body: None, .. }));
    assert_eq!(ending(world.next(BOB)).by, By::Peer);
    world.settle();
}

#[test]
fn a_callee_that_hangs_up_before_its_answer_refuses() {
    let mut world = World::perfect();
    let call = world.ring(invite(1));
    hang_up(&mut world, BOB, call);
    let end = ending(world.next(ALICE));
    assert_eq!((end.how, end.status), (How::Refused, Some(480)));
    assert_eq!(end.reason, Some(Reason::sip(200, "bye bye")));
    world.settle();
}
