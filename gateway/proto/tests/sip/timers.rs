//! Session timers (RFC 4028).

use std::time::Duration;

use crosspoint_proto::netem::Conditions;
use crosspoint_proto::sip::{By, CallId, Command, Ending, Event, How, Invite, Load};

use crate::solo::{Ask, Out, Solo};
use crate::world::{ALICE, BOB, World, invite, sdp, text};

const CONTACT: &str = "Contact: <sip:bob@192.0.2.2>\r\n";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ended(event: Event) -> Ending {
    match event {
        Event::Ended { ending, .. } => *ending,
        other => panic!("{other:?}"),
    }
}

/// A call of ours that the far end answered with these headers.
fn answered(solo: &mut Solo, more: &str) -> Out {
    let asked = solo.tell(Command::Invite(Box::new(invite(1)))).remove(0);
    let sent = solo.hear(asked.response("200 OK", "b", &format!("{CONTACT}{more}"), "answer"));
    assert_eq!(&sent[0].start()[..3], "ACK");
    assert!(matches!(solo.event(), Event::Answered { .. }));
    asked
}

/// A call of the far end that we answered: our 200.
fn taken(solo: &mut Solo, ask: &Ask) -> Out {
    solo.hear(ask.text());
    let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
    let ok = solo.tell(Command::Answer { call: incoming.call, body: sdp("v=0\r\nours") }).remove(0);
    solo.hear(ask.ack(&ok).text());
    assert!(matches!(solo.event(), Event::Acked { .. }));
    ok
}

#[test]
fn promise_13_a_call_is_refreshed_at_half_time_for_as_long_as_it_stands() {
    let mut world = World::perfect();
    let (_, call) = world.talk(invite(1));
    world.run(secs(1));
    for n in 1..=8 {
        world.run(secs(898));
        assert_eq!(world.count(BOB, "UPDATE"), n - 1);
        world.run(secs(2));
        // Section 9, table 2: left to the called side, it is the called side that refreshes.
        assert_eq!((world.count(BOB, "UPDATE"), world.count(ALICE, "SIP/2.0 200")), (n, n));
    }
    assert_eq!(world.count(ALICE, "UPDATE"), 0);
    assert!(world.last(BOB, "UPDATE").contains("Session-Expires: 1800;refresher=uac\r\n"));
    world.tell(BOB, Command::Hangup { call, reason: None });
    world.next(BOB);
    world.next(ALICE);
    world.settle();
}

#[test]
fn promise_13_vanish_both_ends_find_out_that_the_road_is_gone() {
    let mut world = World::perfect();
    world.talk(invite(1));
    let begin = world.net.now().mono;
    for (from, to) in [(ALICE, BOB), (BOB, ALICE)] {
        world.net.set_conditions(from, to, Conditions::lossy(1.0));
    }
    // Section 10: who refreshes by the timeout of its request, the other a little before the end.
    let end = ended(world.next_within(BOB, secs(1_000)));
    assert_eq!((end.by, end.how), (By::Network, How::NoResponse));
    assert_eq!((world.net.now().mono - begin).as_secs_f64().round(), 900.0 + 32.0);
    let end = ended(world.next_within(ALICE, secs(1_000)));
    assert_eq!((end.by, end.how), (By::Network, How::Expired));
    assert_eq!((world.net.now().mono - begin).as_secs_f64().round(), 1_800.0 - 32.0);
    assert!(world.last(ALICE, "BYE").contains("Reason: SIP;cause=408;text=\"Session expired\"\r\n"));
    world.settle();
}

#[test]
fn a_422_is_answered_with_the_interval_that_it_names() {
    let mut world = World::with_bob(|bob| {
        bob.session.expires = secs(7_200);
        bob.session.min_expires = secs(3_600);
    });
    let (out, _) = world.talk(invite(1));
    assert_eq!((world.count(ALICE, "INVITE"), world.count(BOB, "SIP/2.0 422")), (2, 1));
    assert!(world.last(BOB, "SIP/2.0 422").contains("Min-SE: 3600\r\n"));
    let again = world.last(ALICE, "INVITE");
    assert!(again.contains("Session-Expires: 3600\r\n") && again.contains("Min-SE: 3600\r\n"), "{again}");
    assert!(world.last(BOB, "SIP/2.0 200").contains("Session-Expires: 3600;refresher=uas\r\n"));
    world.tell(ALICE, Command::Hangup { call: out, reason: None });
    world.next(ALICE);
    world.next(BOB);
    world.settle();
}

#[test]
fn a_422_that_asks_for_nothing_more_is_a_refusal() {
    for least in ["Min-SE: 90\r\n", "", "Min-SE: soon\r\n"] {
        let mut solo = Solo::new();
        let asked = solo.tell(Command::Invite(Box::new(invite(1)))).remove(0);
        assert_eq!(asked.header("Session-Expires"), Some("1800"), "section 7.1: nobody is named yet");
        assert_eq!(
            (asked.header("Min-SE"), asked.header("Supported")),
            (Some("90"), Some("100rel, timer, norefersub, replaces"))
        );
        let sent = solo.hear(asked.response("422 Session Interval Too Small", "b", least, ""));
        assert_eq!((sent.len(), &sent[0].start()[..3]), (1, "ACK"), "{least}");
        assert_eq!(ended(solo.event()).status, Some(422));
        assert_eq!(solo.rest(), Load::default());
    }
}

#[test]
fn who_asks_for_refreshes_too_often_is_told_our_least() {
    let mut solo = Solo::new();
    let ask = Ask::invite().with("Supported: timer\r\nSession-Expires: 60\r\n");
    let refused = solo.hear(ask.text()).remove(0);
    assert_eq!((refused.status(), refused.header("Min-SE")), (422, Some("90")), "section 9");
    assert!(solo.events.is_empty(), "nobody is rung");
    solo.hear(Ask { branch: ask.branch.clone(), ..ask.ack(&refused) }.text());
    // The same call asks again (section 7.3).
    let more = Ask::invite().with("k: timer\r\nx: 90;refresher=uac\r\nMin-SE: 90\r\n");
    let more = Ask { branch: "z9hG4bKmore".into(), cseq: 11, ..more };
    let ok = taken(&mut solo, &more);
    assert_eq!(ok.header("Session-Expires"), Some("90;refresher=uac"));
    assert_eq!(
        (ok.header("Require"), ok.header("Supported")),
        (Some("timer"), Some("100rel, timer, norefersub, replaces"))
    );
    // A re-INVITE is held to the same, and leaves all as it was.
    let within = more.within("INVITE", &ok, 12);
    let brief = Ask { more: more.more.replace("90;", "30;"), ..within };
    assert_eq!(solo.hear(brief.text())[0].status(), 422);
    assert!(solo.events.is_empty());
    // Nobody refreshes: a third early.
    let sent = solo.wait(secs(60));
    assert_eq!(sent.last().unwrap().start(), "BYE sip:bob@192.0.2.2:5060 SIP/2.0");
    assert_eq!(ended(solo.event()).how, How::Expired);
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn a_peer_that_knows_nothing_of_timers_has_none() {
    let mut solo = Solo::new();
    answered(&mut solo, "");
    assert!(solo.wait(secs(20_000)).is_empty(), "section 7.2");
    let mut solo = Solo::new();
    let ok = taken(&mut solo, &Ask::invite());
    assert_eq!(ok.header("Session-Expires"), None);
    assert!(solo.wait(secs(20_000)).is_empty());
    assert!(solo.events.is_empty());
}

#[test]
fn our_refresh_is_proved_repeated_after_a_glare_and_gives_way_to_an_offer() {
    let mut solo = Solo::new();
    answered(&mut solo, "Session-Expires: 300;refresher=uac\r\nRequire: timer\r\n");
    let refresh = solo.wait(secs(150)).remove(0);
    assert!(refresh.start().starts_with("INVITE"), "nobody said that it takes UPDATE");
    assert_eq!(refresh.header("Session-Expires"), Some("300;refresher=uac"), "section 7.4");
    assert!(refresh.text.ends_with("offer"), "what stands: {}", refresh.text);
    assert!(solo.events.is_empty());
    // Glare: both had something to say.
    solo.hear(refresh.response("491 Request Pending", "", "", ""));
    let again = solo.wait(secs(5)).remove(0);
    assert!(again.start().starts_with("INVITE"));
    // An error that says nothing of the dialog: once more, later, and the call goes on.
    solo.hear(again.response("500 Not now", "", "", ""));
    assert!(solo.wait(secs(20)).is_empty());
    assert!(solo.events.is_empty());
    // What the owner offers meanwhile is a refresh as well.
    let call = CallId(1);
    let offer = solo.tell(Command::Reinvite { call, body: Some(sdp("hold")) }).remove(0);
    solo.hear(offer.response(
        "200 OK",
        "",
        &format!("{CONTACT}Session-Expires: 300;refresher=uac\r\n"),
        "held",
    ));
    assert!(matches!(solo.event(), Event::ReinviteAnswered { .. }));
    let more = format!("{CONTACT}Session-Expires: 300;refresher=uac\r\n");
    for _ in 0..3 {
        assert!(solo.wait(secs(149)).is_empty());
        let refresh = solo.wait(secs(1)).remove(0);
        assert!(refresh.text.ends_with("hold"), "the newest that was agreed on");
        solo.hear(refresh.response("200 OK", "", &more, "still"));
        match solo.event() {
            Event::Refreshed { body, .. } => assert_eq!(text(&body), "still"),
            other => panic!("{other:?}"),
        }
    }
    let refresh = solo.wait(secs(150)).remove(0);
    // Forgotten there: section 10 has the BYE sent at once.
    let sent = solo.hear(refresh.response("481 Gone", "", "", ""));
    assert_eq!(sent.iter().map(|o| &o.start()[..3]).collect::<Vec<_>>(), ["ACK", "BYE"]);
    assert_eq!(ended(solo.event()).how, How::Gone);
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn their_refresh_keeps_the_call_and_may_end_the_timer() {
    let mut solo = Solo::new();
    let ask = Ask::invite().with("Supported: timer\r\nSession-Expires: 300;refresher=uac\r\n");
    let ok = taken(&mut solo, &ask);
    let mut cseq = 10;
    let mut again = |solo: &mut Solo, more: &str| {
        cseq += 1;
        let within = Ask { more: format!("{CONTACT}{more}"), ..ask.within("INVITE", &ok, cseq) };
        solo.hear(within.text());
        let Event::Reinvite { call, .. } = solo.event() else { panic!("no re-INVITE") };
        let ok = solo.tell(Command::AnswerReinvite { call, body: sdp("ours") }).remove(0);
        solo.hear(within.ack(&ok).text());
        assert!(matches!(solo.event(), Event::Acked { .. }));
        ok
    };
    for _ in 0..5 {
        assert!(solo.wait(secs(200)).is_empty());
        let ok = again(&mut solo, "Supported: timer\r\nSession-Expires: 300;refresher=uac\r\n");
        assert_eq!(ok.header("Session-Expires"), Some("300;refresher=uac"));
    }
    // They leave the choice to us: it stays as it is.
    let ok = again(&mut solo, "Supported: timer\r\nSession-Expires: 300\r\n");
    assert_eq!(ok.header("Session-Expires"), Some("300;refresher=uac"));
    again(&mut solo, "");
    assert!(solo.wait(secs(20_000)).is_empty(), "the last of them asked for none");
    assert!(solo.events.is_empty());
}

#[test]
fn a_refresh_and_an_end_at_the_same_moment_leave_nothing() {
    for early in [0, 5, 10, 15, 25, 40] {
        let mut world = World::perfect();
        let (out, _) = world.talk(Invite { body: Some(sdp("offer")), ..invite(1) });
        world.run(secs(900) - Duration::from_millis(early));
        world.tell(ALICE, Command::Hangup { call: out, reason: None });
        world.run(secs(100));
        for node in &mut world.net.nodes {
            let ends = node.events.iter().filter(|(_, e)| matches!(e, Event::Ended { .. })).count();
            assert_eq!(ends, 1);
            node.events.clear();
        }
        world.settle();
    }
}
