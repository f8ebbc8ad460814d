//! REFER within a call (RFC 3515, RFC 4488), and what its sender is told.

use std::time::Duration;

use crosspoint_proto::sip::{Command, Event, Load};

use crate::solo::{Ask, Out, Solo};

const CAROL: &str = "Refer-To: <sip:carol@example.com>\r\nContact: <sip:bob@192.0.2.2:5060>\r\n";

fn refer(ok: &Out, cseq: u32, more: &str) -> String {
    let ask = Ask { body: String::new(), more: more.into(), ..Ask::invite().within("REFER", ok, cseq) };
    ask.text()
}

/// Event, Subscription-State and body of a NOTIFY.
fn told(notify: &Out) -> (&str, &str, &str) {
    assert!(notify.start().starts_with("NOTIFY sip:bob@192.0.2.2:5060 "), "{notify:?}");
    assert_eq!(notify.header("Content-Type"), Some("message/sipfrag;version=2.0"));
    assert!(notify.header("Contact").is_some(), "RFC 6665 section 4.2.1.1");
    let body = notify.text.split("\r\n\r\n").nth(1).unwrap();
    (notify.header("Event").unwrap(), notify.header("Subscription-State").unwrap(), body.trim_end())
}

#[test]
fn who_sends_a_refer_is_told_how_the_call_goes_until_its_answer() {
    let mut solo = Solo::new();
    let (call, ok) = solo.standing(&Ask::invite());
    assert!(ok.header("Allow").unwrap().contains("REFER"));
    assert!(solo.hear(refer(&ok, 11, CAROL)).is_empty(), "the owner decides");
    let Event::Refer { to, call: of, replaced: None, referred_by: None } = solo.event() else {
        panic!("not told")
    };
    assert_eq!((of, to.uri.to_string().as_str()), (call, "sip:carol@example.com"));
    let sent = solo.tell(Command::AnswerRefer { call, status: 202 });
    assert_eq!((sent.len(), sent[0].status()), (2, 202));
    assert!(sent[0].header("Refer-Sub").is_none() && sent[0].header("Contact").is_some());
    assert_eq!(told(&sent[1]), ("refer", "active;expires=600", "SIP/2.0 100 Trying"));
    solo.hear(sent[1].response("200 OK", "", "", ""));
    // Another one at the same time would be told of in the same words.
    assert_eq!(solo.hear(refer(&ok, 12, CAROL))[0].status(), 491);
    let rings = solo.tell(Command::ReferProgress { call, status: 180 }).remove(0);
    assert_eq!(told(&rings), ("refer", "active;expires=600", "SIP/2.0 180 Ringing"));
    solo.hear(rings.response("200 OK", "", "", ""));
    let over = solo.tell(Command::ReferProgress { call, status: 200 }).remove(0);
    assert_eq!(told(&over), ("refer", "terminated;reason=noresource", "SIP/2.0 200 OK"));
    solo.hear(over.response("200 OK", "", "", ""));
    assert!(solo.tell(Command::ReferProgress { call, status: 486 }).is_empty(), "once");
    // The next one has a number (RFC 3515 section 2.4.6).
    solo.hear(refer(&ok, 13, CAROL));
    assert!(matches!(solo.event(), Event::Refer { .. }));
    let sent = solo.tell(Command::AnswerRefer { call, status: 202 });
    assert_eq!(told(&sent[1]).0, "refer;id=13");
    solo.tell(Command::Hangup { call, reason: None });
    assert!(solo.tell(Command::ReferProgress { call, status: 200 }).is_empty());
    assert!(matches!(solo.event(), Event::Ended { .. }));
    solo.wait(Duration::from_secs(64));
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn rfc_4488_who_does_not_want_to_be_told_is_not() {
    let mut solo = Solo::new();
    let (call, ok) = solo.standing(&Ask::invite());
    let more = format!("{CAROL}Refer-Sub: false\r\nRequire: norefersub\r\n");
    solo.hear(refer(&ok, 11, &more));
    let sent = solo.tell(Command::AnswerRefer { call, status: 202 });
    assert_eq!((sent.len(), sent[0].status(), sent[0].header("Refer-Sub")), (1, 202, Some("false")));
    assert!(solo.tell(Command::ReferProgress { call, status: 200 }).is_empty());
}

#[test]
fn who_refuses_a_notify_is_told_nothing_more_and_keeps_the_call() {
    for answer in ["481 Gone", "489 Bad Event"] {
        let mut solo = Solo::new();
        let (call, ok) = solo.standing(&Ask::invite());
        solo.hear(refer(&ok, 11, CAROL));
        let sent = solo.tell(Command::AnswerRefer { call, status: 202 });
        solo.hear(sent[1].response(answer, "", "", ""));
        assert!(solo.tell(Command::ReferProgress { call, status: 200 }).is_empty());
        assert!(matches!(solo.event(), Event::Refer { .. }));
        assert!(solo.events.is_empty(), "the call goes on: {:?}", solo.events);
    }
}

#[test]
fn what_is_no_proper_refer_is_refused_and_a_hang_up_ends_what_was_asked() {
    let mut solo = Solo::new();
    let (call, ok) = solo.standing(&Ask::invite());
    let two = format!("{CAROL}Refer-To: <sip:dave@example.com>\r\n");
    for (cseq, more) in [(11, ""), (12, two.as_str()), (13, "Refer-To: <<sip:carol>\r\n")] {
        assert_eq!(solo.hear(refer(&ok, cseq, more))[0].status(), 400, "{more}");
    }
    assert!(solo.events.is_empty());
    let stranger = Ask { call_id: "other".into(), ..Ask::invite().within("REFER", &ok, 14) };
    assert_eq!(solo.hear(Ask { more: CAROL.into(), ..stranger }.text())[0].status(), 481);
    // Refused by the owner: nobody is told of anything.
    solo.hear(refer(&ok, 15, CAROL));
    let refused = solo.tell(Command::AnswerRefer { call, status: 403 });
    assert_eq!((refused.len(), refused[0].status()), (1, 403));
    assert!(solo.tell(Command::ReferProgress { call, status: 200 }).is_empty());
    // Not answered before the call is over.
    solo.hear(refer(&ok, 16, CAROL));
    let bye = Ask { body: String::new(), ..Ask::invite().within("BYE", &ok, 17) };
    let mut said: Vec<u16> = solo.hear(bye.text()).iter().map(Out::status).collect();
    said.sort_unstable();
    assert_eq!(said, [200, 481]);
    assert!(solo.tell(Command::AnswerRefer { call, status: 202 }).is_empty());
    solo.wait(Duration::from_secs(64));
    assert_eq!(solo.rest(), Load::default());
}
