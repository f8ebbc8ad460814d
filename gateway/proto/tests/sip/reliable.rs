//! Reliable provisional responses (RFC 3262).

use std::time::Duration;

use crosspoint_proto::netem::Conditions;
use crosspoint_proto::sip::{By, CallId, Command, Event, How, Invite, Load};

use crate::races::lose_first;
use crate::solo::{Ask, Out, Solo};
use crate::world::{ALICE, BOB, World, invite, sdp, text};

const CONTACT: &str = "Contact: <sip:bob@192.0.2.2>\r\n";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn incoming(solo: &mut Solo, ask: &Ask) -> CallId {
    assert!(solo.hear(ask.text()).is_empty());
    match solo.event() {
        Event::Incoming(incoming) => incoming.call,
        other => panic!("{other:?}"),
    }
}

fn required() -> Ask {
    Ask::invite().with("Require: 100rel\r\n")
}

/// The PRACK of that response of ours.
fn prack(ask: &Ask, ours: &Out, cseq: u32, body: &str) -> Ask {
    let rack = format!("RAck: {} {}\r\n", ours.header("RSeq").unwrap(), ours.header("CSeq").unwrap());
    Ask { more: rack, body: body.into(), ..ask.within("PRACK", ours, cseq) }
}

fn rseq(ours: &Out) -> u32 {
    ours.header("RSeq").unwrap().parse().unwrap()
}

#[test]
fn who_requires_it_gets_every_provisional_response_until_its_prack() {
    let mut solo = Solo::heard_of();
    let ask = required();
    let call = incoming(&mut solo, &ask);
    let ringing = solo.tell(Command::Ring { call }).remove(0);
    assert_eq!((ringing.status(), ringing.header("Require")), (180, Some("100rel")));
    // Section 3: repeated after T1, which doubles.
    let again = solo.wait(secs(8));
    assert_eq!(again.len(), 4, "0.5, 1.5, 3.5 and 7.5 s");
    assert!(again.iter().all(|o| o.text == ringing.text));
    // One at a time: media waits, and a newer word without media does not push it out.
    assert!(solo.tell(Command::Progress { call, body: sdp("early") }).is_empty());
    assert!(solo.tell(Command::Ring { call }).is_empty());
    let stray = Ask { more: "RAck: 1000000 10 INVITE\r\n".into(), ..prack(&ask, &ringing, 11, "") };
    assert_eq!(solo.hear(stray.text())[0].status(), 481);
    let sent = solo.hear(prack(&ask, &ringing, 12, "").text());
    assert_eq!(sent.iter().map(Out::status).collect::<Vec<_>>(), [200, 183]);
    assert_eq!(rseq(&sent[1]), rseq(&ringing) + 1);
    assert!(sent[1].text.ends_with("early"));
    // Once is enough.
    assert_eq!(solo.hear(prack(&ask, &ringing, 13, "").text())[0].status(), 481);
    // The answer waits until its description has arrived (section 3).
    assert!(solo.tell(Command::Answer { call, body: sdp("early") }).is_empty());
    let ok = solo.hear(prack(&ask, &sent[1], 14, "").text());
    assert_eq!(ok.iter().map(Out::status).collect::<Vec<_>>(), [200, 200]);
    assert_eq!(ok[1].header("CSeq"), Some("10 INVITE"));
    assert!(ok[1].text.ends_with("\r\n\r\n"), "the answer was given: {}", ok[1].text);
    solo.hear(ask.ack(&ok[1]).text());
    assert!(matches!(solo.event(), Event::Acked { body: None, .. }));
    assert_eq!(
        solo.hear(Ask { body: String::new(), ..ask.within("BYE", &ok[1], 15) }.text())[0].status(),
        200
    );
    assert!(matches!(solo.event(), Event::Ended { .. }));
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn who_only_knows_it_gets_descriptions_so() {
    let mut solo = Solo::heard_of();
    let ask = Ask::invite().with("Supported: 100rel\r\n");
    let call = incoming(&mut solo, &ask);
    let ringing = solo.tell(Command::Ring { call }).remove(0);
    assert_eq!((ringing.status(), ringing.header("RSeq")), (180, None));
    let early = solo.tell(Command::Progress { call, body: sdp("early") }).remove(0);
    assert_eq!((early.status(), early.header("Require")), (183, Some("100rel")));
    assert_eq!(solo.hear(prack(&ask, &early, 11, "").text())[0].status(), 200);
    assert!(solo.wait(secs(30)).is_empty());
    // And who does not, gets none.
    let mut solo = Solo::new();
    let call = incoming(&mut solo, &Ask::invite());
    let early = solo.tell(Command::Progress { call, body: sdp("early") }).remove(0);
    assert_eq!((early.header("RSeq"), early.header("Require")), (None, None));
    assert_eq!(solo.tell(Command::Answer { call, body: sdp("early") })[0].status(), 200);
}

#[test]
fn without_a_prack_the_call_ends() {
    let mut solo = Solo::heard_of();
    let call = incoming(&mut solo, &required());
    let early = solo.tell(Command::Progress { call, body: sdp("early") }).remove(0);
    assert!(solo.tell(Command::Answer { call, body: sdp("early") }).is_empty());
    let sent = solo.wait(secs(32));
    // Section 3: 64 times T1, at 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s.
    assert_eq!(sent.iter().filter(|o| o.text == early.text).count(), 6);
    assert_eq!(sent.last().unwrap().status(), 504);
    match solo.event() {
        Event::Ended { ending, .. } => {
            assert_eq!((ending.by, ending.how, ending.status), (By::Network, How::NoAck, Some(504)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn an_answer_overtakes_what_has_no_description_and_a_late_prack_is_answered() {
    let mut solo = Solo::new();
    let ask = required();
    let call = incoming(&mut solo, &ask);
    let ringing = solo.tell(Command::Ring { call }).remove(0);
    let ok = solo.tell(Command::Answer { call, body: sdp("answer") }).remove(0);
    assert_eq!(ok.status(), 200);
    assert!(ok.text.ends_with("answer"));
    assert_eq!(solo.hear(prack(&ask, &ringing, 11, "").text())[0].status(), 200);
    assert!(solo.wait(secs(10)).iter().all(|o| o.status() == 200), "the 180 is not repeated");
    solo.hear(ask.ack(&ok).text());
    assert!(matches!(solo.event(), Event::Acked { .. }));
    assert_eq!(solo.hear(prack(&ask, &ringing, 12, "").text())[0].status(), 481);
}

#[test]
fn an_offer_in_a_prack_is_answered_before_the_call_is() {
    for refuse in [false, true] {
        let mut solo = Solo::new();
        let ask = required();
        let call = incoming(&mut solo, &ask);
        let early = solo.tell(Command::Progress { call, body: sdp("early") }).remove(0);
        assert!(solo.hear(prack(&ask, &early, 11, "v=0\r\nmore").text()).is_empty());
        match solo.event() {
            Event::Reinvite { body: Some(body), .. } => assert_eq!(text(&body), "v=0\r\nmore"),
            other => panic!("{other:?}"),
        }
        assert!(solo.tell(Command::Answer { call, body: sdp("early") }).is_empty(), "one after the other");
        let sent = if refuse {
            solo.tell(Command::RefuseReinvite { call, status: 488 })
        } else {
            solo.tell(Command::AnswerReinvite { call, body: sdp("agreed") })
        };
        let expected = if refuse { [488, 200] } else { [200, 200] };
        assert_eq!(sent.iter().map(Out::status).collect::<Vec<_>>(), expected);
        assert_eq!(sent[0].header("CSeq"), Some("11 PRACK"));
        assert_eq!(sent[0].text.ends_with("agreed"), !refuse);
        assert_eq!(sent[1].header("CSeq"), Some("10 INVITE"));
        // RFC 3311: and so would be one in an UPDATE.
        solo.hear(ask.ack(&sent[1]).text());
        assert!(matches!(solo.event(), Event::Acked { .. }));
        solo.tell(Command::Hangup { call, reason: None });
        solo.event();
        assert_eq!(solo.rest(), Load::default());
    }
    // Before there is an answer it has no place.
    let mut solo = Solo::new();
    let ask = required();
    let call = incoming(&mut solo, &ask);
    let ringing = solo.tell(Command::Ring { call }).remove(0);
    assert_eq!(solo.hear(prack(&ask, &ringing, 11, "v=0\r\n").text())[0].status(), 500);
    assert!(solo.wait(secs(20)).is_empty(), "it is acknowledged all the same");
}

#[test]
fn an_early_answer_may_be_changed_by_update() {
    let mut solo = Solo::new();
    let ask = required();
    let call = incoming(&mut solo, &ask);
    let early = solo.tell(Command::Progress { call, body: sdp("early") }).remove(0);
    let update = |cseq| ask.within("UPDATE", &early, cseq);
    assert_eq!(solo.hear(update(11).text())[0].status(), 500, "RFC 3311 section 5.1: not before its PRACK");
    solo.hear(prack(&ask, &early, 12, "").text());
    solo.hear(update(13).text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }));
    let sent = solo.tell(Command::AnswerReinvite { call, body: sdp("changed") });
    assert_eq!((sent.len(), sent[0].status()), (1, 200));
    assert_eq!(solo.tell(Command::Answer { call, body: sdp("early") })[0].status(), 200);
}

#[test]
fn our_offer_before_the_answer_is_answered_in_the_prack() {
    let mut solo = Solo::new();
    let ask = Ask { body: String::new(), ..required() };
    let call = incoming(&mut solo, &ask);
    assert!(solo.tell(Command::Ring { call }).is_empty(), "section 5: the first must carry an offer");
    let early = solo.tell(Command::Progress { call, body: sdp("offer") }).remove(0);
    assert_eq!(early.status(), 183);
    assert_eq!(solo.hear(prack(&ask, &early, 11, "v=0\r\nanswer").text())[0].status(), 200);
    match solo.event() {
        Event::Acked { body: Some(body), .. } => assert_eq!(text(&body), "v=0\r\nanswer"),
        other => panic!("{other:?}"),
    }
    let ok = solo.tell(Command::Answer { call, body: sdp("offer") }).remove(0);
    assert!(ok.text.ends_with("\r\n\r\n"));
    solo.hear(ask.ack(&ok).text());
    assert!(matches!(solo.event(), Event::Acked { body: None, .. }));
}

#[test]
fn ours_acknowledges_each_phone_in_order_and_once() {
    let mut solo = Solo::new();
    let asked = solo.tell(Command::Invite(Box::new(invite(1)))).remove(0);
    assert_eq!(asked.header("Supported"), Some("100rel, timer, norefersub, replaces"));
    let number = asked.header("CSeq").unwrap().to_owned();
    let says = |status: &str, tag: &str, rseq: u32, body: &str| {
        asked.response(status, tag, &format!("{CONTACT}Require: 100rel\r\nRSeq: {rseq}\r\n"), body)
    };
    let first = solo.hear(says("180 Ringing", "a", 7, ""));
    assert_eq!(first.len(), 1);
    assert!(first[0].start().starts_with("PRACK sip:bob@192.0.2.2"));
    assert_eq!(first[0].header("RAck"), Some(format!("7 {number}").as_str()));
    assert!(first[0].header("To").unwrap().ends_with("tag=a"));
    assert!(matches!(solo.event(), Event::Ringing { status: 180, .. }));
    // Section 4: repetitions, and what is out of order, count for nothing.
    for stray in
        [says("180 Ringing", "a", 7, ""), says("183 Early", "a", 9, "x"), says("183 Old", "a", 6, "x")]
    {
        assert!(solo.hear(stray).is_empty());
    }
    assert!(solo.events.is_empty());
    let second = solo.hear(says("183 Early", "a", 8, "early"));
    let seq = |out: &Out| out.header("CSeq").unwrap().split(' ').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(seq(&second[0]), seq(&first[0]) + 1);
    assert!(matches!(solo.event(), Event::Progress { fork: 0, .. }));
    // Another phone has its own numbers.
    let other = solo.hear(says("183 Early", "b", 100, "other"));
    assert_eq!((other.len(), seq(&other[0])), (1, seq(&first[0])));
    assert!(matches!(solo.event(), Event::Progress { fork: 1, .. }));
    for request in [&first[0], &second[0], &other[0]] {
        assert!(solo.hear(request.response("200 OK", "", "", "")).is_empty());
    }
    // The first one answers. Its description was given already, before that of the other one; the
    // dialog goes on counting.
    let ack = solo.hear(asked.response("200 OK", "a", CONTACT, "again")).remove(0);
    assert!(ack.start().starts_with("ACK"));
    match solo.event() {
        Event::Answered { body: Some(body), fork: 0, .. } => assert_eq!(text(&body), "early"),
        other => panic!("{other:?}"),
    }
    let bye = solo.tell(Command::Hangup { call: CallId(1), reason: None }).remove(0);
    assert_eq!(seq(&bye), seq(&second[0]) + 1);
    solo.hear(bye.response("200 OK", "", "", ""));
    solo.event();
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn an_invite_without_an_offer_does_not_ask_for_one_before_the_answer() {
    let mut solo = Solo::new();
    let asked = solo.tell(Command::Invite(Box::new(Invite { body: None, ..invite(1) }))).remove(0);
    assert_eq!(asked.header("Supported"), Some("timer, norefersub, replaces"));
    let odd = format!("{CONTACT}Require: 100rel\r\nRSeq: 1\r\n");
    assert!(solo.hear(asked.response("183 Early", "a", &odd, "offer")).is_empty());
}

/// Alice calls bob with `Require: 100rel`; bob rings, brings early media, and answers.
fn early_call(world: &mut World) -> CallId {
    let headers = vec![("Require".to_owned(), "100rel".to_owned())];
    let call = world.ring(Invite { headers, ..invite(1) });
    world.tell(BOB, Command::Ring { call });
    world.tell(BOB, Command::Progress { call, body: sdp("early") });
    assert!(matches!(world.next(ALICE), Event::Ringing { .. }));
    assert!(matches!(world.next(ALICE), Event::Progress { .. }));
    world.tell(BOB, Command::Answer { call, body: sdp("early") });
    match world.next(ALICE) {
        Event::Answered { body: Some(body), .. } => assert_eq!(text(&body), "early"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.next(BOB), Event::Acked { .. }));
    call
}

#[test]
fn both_sides_agree_before_the_answer_however_bad_the_road_is() {
    for seed in 0..60 {
        let lossy = Conditions { duplicate: 0.2, ..Conditions::lossy(0.25) };
        let mut world = World::new(seed, Conditions { delay: Duration::from_millis(20), ..lossy });
        early_call(&mut world);
        world.net.set_conditions(ALICE, BOB, Conditions::delay(Duration::from_millis(10)));
        world.net.set_conditions(BOB, ALICE, Conditions::delay(Duration::from_millis(10)));
        world.tell(ALICE, Command::Hangup { call: CallId(1), reason: None });
        world.next(ALICE);
        assert!(matches!(world.next(BOB), Event::Ended { .. }));
        world.settle();
    }
}

#[test]
fn a_lost_prack_and_its_lost_answer_are_repeated() {
    for (side, start) in [(ALICE, "PRACK"), (BOB, "SIP/2.0 180"), (BOB, "SIP/2.0 183"), (BOB, "SIP/2.0 200")]
    {
        let mut world = World::perfect();
        lose_first(&mut world, side, start);
        let call = early_call(&mut world);
        assert!(world.count(side, start) >= 2, "{:#?}", world.lines());
        world.tell(BOB, Command::Hangup { call, reason: None });
        world.next(BOB);
        world.next(ALICE);
        world.settle();
    }
}

#[test]
fn a_cancel_crosses_a_prack_and_an_answer_that_waits() {
    for after in (0..60).step_by(5) {
        let mut world = World::perfect();
        let headers = vec![("Require".to_owned(), "100rel".to_owned())];
        let call = world.ring(Invite { headers, ..invite(1) });
        world.tell(BOB, Command::Progress { call, body: sdp("early") });
        world.tell(BOB, Command::Answer { call, body: sdp("early") });
        world.run(Duration::from_millis(after));
        world.tell(ALICE, Command::Hangup { call: CallId(1), reason: None });
        world.run(secs(100));
        for node in &mut world.net.nodes {
            assert_eq!(node.events.iter().filter(|(_, e)| matches!(e, Event::Ended { .. })).count(), 1);
            node.events.clear();
        }
        world.settle();
    }
}
