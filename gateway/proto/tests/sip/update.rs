//! UPDATE (RFC 3311), and session refreshes by it (RFC 4028).

use std::time::Duration;

use crosspoint_proto::sip::{By, Command, Event, How, Load};

use crate::solo::{Ask, Out, Solo};
use crate::world::{invite, sdp, text};

const CONTACT: &str = "Contact: <sip:bob@192.0.2.2>\r\n";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An UPDATE within it; without a body unless given one.
fn update(ask: &Ask, ours: &Out, cseq: u32, body: &str) -> Ask {
    Ask { body: body.into(), ..ask.within("UPDATE", ours, cseq) }
}

#[test]
fn an_update_without_an_offer_moves_the_target_and_refreshes() {
    let mut solo = Solo::new();
    let ask = Ask::invite().with("Supported: timer\r\nSession-Expires: 300;refresher=uac\r\n");
    let (call, ok) = solo.standing(&ask);
    assert!(ok.header("Allow").unwrap().contains("UPDATE"));
    for n in 0..5 {
        assert!(solo.wait(secs(200)).is_empty());
        let more = format!(
            "Contact: <sip:bob@192.0.2.2:507{n}>\r\nSupported: timer\r\nSession-Expires: 300;refresher=uac\r\n"
        );
        let fresh = Ask { more, ..update(&ask, &ok, 11 + n, "") };
        let answer = solo.hear(fresh.text()).remove(0);
        assert_eq!((answer.status(), answer.header("Session-Expires")), (200, Some("300;refresher=uac")));
        assert!(answer.header("Contact").is_some(), "section 5.2: it is a target refresh for both");
    }
    assert!(solo.events.is_empty(), "nobody need know");
    let brief =
        Ask { more: "Supported: timer\r\nSession-Expires: 30\r\n".into(), ..update(&ask, &ok, 20, "") };
    let refused = solo.hear(brief.text()).remove(0);
    assert_eq!((refused.status(), refused.header("Min-SE")), (422, Some("90")));
    let bye = solo.tell(Command::Hangup { call, reason: None }).remove(0);
    assert!(bye.start().starts_with("BYE sip:bob@192.0.2.2:5074 "), "{}", bye.start());
    let late = solo.hear(update(&ask, &ok, 21, "").text()).remove(0);
    assert_eq!(late.status(), 481);
}

#[test]
fn an_offer_by_update_is_answered_or_refused_as_one_by_reinvite() {
    let mut solo = Solo::new();
    let ask = Ask::invite();
    let (call, ok) = solo.standing(&ask);
    assert!(solo.hear(update(&ask, &ok, 11, "v=0\r\nhold").text()).is_empty());
    match solo.event() {
        Event::Reinvite { body: Some(body), .. } => assert_eq!(text(&body), "v=0\r\nhold"),
        other => panic!("{other:?}"),
    }
    // Section 5.2: the one before it has no answer yet.
    let second = solo.hear(update(&ask, &ok, 12, "v=0\r\n").text()).remove(0);
    assert_eq!(second.status(), 500);
    assert!(second.header("Retry-After").unwrap().parse::<u32>().unwrap() <= 10);
    let reinvite = ask.within("INVITE", &ok, 13);
    assert_eq!(solo.hear(reinvite.text())[0].status(), 500);
    solo.hear(Ask { branch: reinvite.branch.clone(), ..reinvite.ack(&ok) }.text());
    let answer = solo.tell(Command::AnswerReinvite { call, body: sdp("held") }).remove(0);
    assert_eq!((answer.status(), answer.header("CSeq")), (200, Some("11 UPDATE")));
    assert!(answer.text.ends_with("held"));
    assert!(solo.wait(secs(60)).is_empty(), "no ACK is awaited");
    solo.hear(update(&ask, &ok, 14, "v=0\r\n").text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }));
    let refused = solo.tell(Command::RefuseReinvite { call, status: 488 }).remove(0);
    assert_eq!((refused.status(), refused.header("CSeq")), (488, Some("14 UPDATE")));
    // Nobody answers: better a word than none.
    solo.hear(update(&ask, &ok, 15, "v=0\r\n").text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }));
    let sent = solo.wait(secs(11));
    assert_eq!(sent.iter().map(Out::status).collect::<Vec<_>>(), [504]);
    assert!(matches!(solo.event(), Event::ReinviteCancelled { .. }));
    assert!(solo.tell(Command::AnswerReinvite { call, body: sdp("late") }).is_empty());
    let other = Ask { more: "Content-Type: text/plain\r\n".into(), ..update(&ask, &ok, 16, "hello") };
    assert_eq!(solo.hear(other.text())[0].status(), 415);
    // The end comes before the answer.
    solo.hear(update(&ask, &ok, 17, "v=0\r\n").text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }));
    let sent = solo.tell(Command::Hangup { call, reason: None });
    assert_eq!((sent[0].status(), &sent[1].start()[..3]), (487, "BYE"));
    solo.hear(sent[1].response("200 OK", "", "", ""));
    solo.event();
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn an_offer_by_update_gives_way_to_one_of_ours() {
    let mut solo = Solo::new();
    let ask = Ask::invite();
    let (call, ok) = solo.standing(&ask);
    let ours = solo.tell(Command::Reinvite { call, body: Some(sdp("ours")) }).remove(0);
    assert_eq!(solo.hear(update(&ask, &ok, 11, "v=0\r\n").text())[0].status(), 491, "section 5.2");
    assert_eq!(solo.hear(update(&ask, &ok, 12, "").text())[0].status(), 200, "no offer, no glare");
    solo.hear(ours.response("200 OK", "", CONTACT, "answer"));
    assert!(matches!(solo.event(), Event::ReinviteAnswered { .. }));
    // Our own offer waits for theirs.
    solo.hear(update(&ask, &ok, 13, "v=0\r\n").text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }));
    assert!(solo.tell(Command::Reinvite { call, body: Some(sdp("more")) }).is_empty());
    let sent = solo.tell(Command::AnswerReinvite { call, body: sdp("answer") });
    assert_eq!((sent[0].status(), &sent[1].start()[..6]), (200, "INVITE"));
    // In our 200 without an offer of theirs ours is open until the ACK.
    solo.hear(sent[1].response("488 No", "", "", ""));
    solo.event();
    solo.hear(Ask { body: String::new(), ..ask.within("INVITE", &ok, 14) }.text());
    assert!(matches!(solo.event(), Event::Reinvite { body: None, .. }));
    solo.tell(Command::AnswerReinvite { call, body: sdp("offer") });
    assert_eq!(solo.hear(update(&ask, &ok, 15, "v=0\r\n").text())[0].status(), 491);
}

#[test]
fn before_the_answer_an_update_is_taken_without_an_offer_and_put_off_with_one() {
    // Their call.
    let mut solo = Solo::new();
    let ask = Ask::invite();
    solo.hear(ask.text());
    let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
    let ringing = solo.tell(Command::Ring { call: incoming.call }).remove(0);
    let moved = update(&ask, &ringing, 11, "").with("Contact: <sip:bob@192.0.2.2:5099>\r\n");
    let moved = Ask { more: moved.more.replace("Contact: <sip:bob@192.0.2.2:5060>\r\n", ""), ..moved };
    let answer = solo.hear(moved.text()).remove(0);
    assert_eq!((answer.status(), answer.header("Session-Expires")), (200, None));
    let early = solo.hear(update(&ask, &ringing, 12, "v=0\r\n").text()).remove(0);
    assert_eq!(early.status(), 500, "section 5.2: the offer of the INVITE has no answer yet");
    assert!(early.header("Retry-After").is_some());
    assert!(solo.events.is_empty());
    // Ours.
    let mut solo = Solo::new();
    let asked = solo.tell(Command::Invite(Box::new(invite(1)))).remove(0);
    solo.hear(asked.response("180 Ringing", "b", CONTACT, ""));
    assert!(matches!(solo.event(), Event::Ringing { .. }));
    let within = |method, cseq, body: &str| Ask {
        call_id: asked.header("Call-ID").unwrap().into(),
        from: format!("{};tag=b", asked.header("To").unwrap()),
        to: asked.header("From").unwrap().into(),
        branch: format!("z9hG4bKearly{cseq}"),
        cseq,
        body: body.into(),
        ..Ask::new(method)
    };
    assert_eq!(solo.hear(within("UPDATE", 1, "").with(CONTACT).text())[0].status(), 200);
    assert_eq!(solo.hear(within("UPDATE", 2, "v=0\r\n").text())[0].status(), 491, "ours is open");
    solo.hear(asked.response("200 OK", "b", CONTACT, "answer"));
    assert!(matches!(solo.event(), Event::Answered { .. }));
    // The numbers of the early dialog go on.
    let old = Ask { branch: "z9hG4bKold".into(), ..within("UPDATE", 2, "") };
    assert_eq!(solo.hear(old.text())[0].status(), 500);
    solo.hear(within("UPDATE", 3, "v=0\r\n").text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }));
}

/// A call of ours to somebody who takes UPDATE and lets us refresh each 150 s; its first refresh.
fn refreshed(solo: &mut Solo) -> Out {
    let asked = solo.tell(Command::Invite(Box::new(invite(1)))).remove(0);
    let more = format!("{CONTACT}Allow: INVITE, UPDATE\r\nSession-Expires: 300;refresher=uac\r\n");
    solo.hear(asked.response("200 OK", "b", &more, "answer"));
    assert!(matches!(solo.event(), Event::Answered { .. }));
    let refresh = solo.wait(secs(150)).remove(0);
    assert!(refresh.start().starts_with("UPDATE sip:bob@192.0.2.2"), "RFC 4028 section 7.4");
    assert_eq!(refresh.header("Session-Expires"), Some("300;refresher=uac"));
    assert!(refresh.text.ends_with("\r\n\r\n"), "no offer");
    refresh
}

#[test]
fn who_takes_update_is_refreshed_by_it() {
    let mut solo = Solo::new();
    let mut refresh = refreshed(&mut solo);
    for _ in 0..5 {
        let more = format!("{CONTACT}Session-Expires: 300;refresher=uac\r\n");
        assert!(solo.hear(refresh.response("200 OK", "", &more, "")).is_empty());
        assert!(solo.wait(secs(149)).is_empty());
        refresh = solo.wait(secs(1)).remove(0);
        assert!(refresh.start().starts_with("UPDATE"));
    }
    // More is wanted (RFC 4028 section 7.3).
    let again = solo.hear(refresh.response("422 Small", "", "Min-SE: 400\r\n", "")).remove(0);
    assert_eq!(
        (again.header("Session-Expires"), again.header("Min-SE")),
        (Some("400;refresher=uac"), Some("400"))
    );
    solo.hear(again.response("200 OK", "", "Session-Expires: 400;refresher=uas\r\n", ""));
    // From now on it is theirs to do, and they do not.
    let sent = solo.wait(secs(368));
    assert!(sent[0].start().starts_with("BYE"), "{sent:?}");
    match solo.event() {
        Event::Ended { ending, .. } => assert_eq!((ending.by, ending.how), (By::Network, How::Expired)),
        other => panic!("{other:?}"),
    }
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn who_only_says_so_is_refreshed_by_reinvite() {
    let mut solo = Solo::new();
    let refresh = refreshed(&mut solo);
    let reinvite = solo.hear(refresh.response("405 Not allowed", "", "", "")).remove(0);
    assert!(reinvite.start().starts_with("INVITE") && reinvite.text.ends_with("offer"));
    let more = format!("{CONTACT}Session-Expires: 300;refresher=uac\r\n");
    solo.hear(reinvite.response("200 OK", "", &more, "answer"));
    assert!(matches!(solo.event(), Event::Refreshed { .. }));
    assert!(solo.wait(secs(150))[0].start().starts_with("INVITE"));
}

#[test]
fn an_update_that_finds_no_dialog_or_nobody_ends_the_call() {
    let mut solo = Solo::new();
    let refresh = refreshed(&mut solo);
    let sent = solo.hear(refresh.response("481 Gone", "", "", ""));
    assert_eq!(sent.iter().map(|o| &o.start()[..3]).collect::<Vec<_>>(), ["BYE"]);
    assert!(matches!(solo.event(), Event::Ended { .. }));
    assert_eq!(solo.rest(), Load::default());
    let mut solo = Solo::new();
    refreshed(&mut solo);
    let sent = solo.wait(secs(32));
    assert!(sent.last().unwrap().start().starts_with("BYE"));
    match solo.event() {
        Event::Ended { ending, .. } => assert_eq!((ending.by, ending.how), (By::Network, How::NoResponse)),
        other => panic!("{other:?}"),
    }
    assert_eq!(solo.rest(), Load::default());
}
