//! Replaces (RFC 3891), in an INVITE and in the Refer-To of a REFER; Referred-By (RFC 3892).

use std::time::Duration;

use crosspoint_proto::Transport;
use crosspoint_proto::sip::{CallId, Command, Event, Incoming, Invite, Load, NameAddr, Replaced};

use crate::solo::{Ask, Out, Solo};
use crate::world::{over, sdp, uri};

/// The tag of a header of ours or theirs.
fn tag(value: &str) -> &str {
    value.split("tag=").nth(1).unwrap().split(';').next().unwrap()
}

/// A new call that shall take a place.
fn another(replaces: &str, n: u32) -> Ask {
    let ask = Ask {
        call_id: format!("other-{n}"),
        branch: format!("z9hG4bKother{n}"),
        from: "<sip:bob@example.com>;tag=other".into(),
        ..Ask::invite()
    };
    ask.with(&format!("Require: replaces\r\nReplaces: {replaces}\r\n"))
}

fn heard(solo: &mut Solo, ask: &Ask) -> Incoming {
    let sent = solo.hear(ask.text());
    assert!(sent.is_empty(), "the owner decides: {sent:?}");
    let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
    *incoming
}

fn of(call: CallId, refusal: Option<u16>) -> Option<Replaced> {
    Some(Replaced::Call { call, refusal })
}

#[test]
fn a_call_that_stands_is_found_by_both_of_its_tags_and_by_nothing_less() {
    let mut solo = Solo::new();
    let (call, ok) = solo.standing(&Ask::invite());
    assert!(ok.header("Supported").unwrap().contains("replaces"));
    let ours = tag(ok.header("To").unwrap()).to_owned();
    for (n, (replaces, found)) in [
        (format!("call-1;to-tag={ours};from-tag=bob1"), of(call, None)),
        // RFC 3891 section 3: it is answered already.
        (format!("call-1;from-tag=bob1;early-only;to-tag={ours}"), of(call, Some(486))),
        (format!("call-1;to-tag=bob1;from-tag={ours}"), Some(Replaced::Nothing)),
        (format!("call-1;to-tag={ours};from-tag=bob2"), Some(Replaced::Nothing)),
        (format!("call-2;to-tag={ours};from-tag=bob1"), Some(Replaced::Nothing)),
    ]
    .into_iter()
    .enumerate()
    {
        let incoming = heard(&mut solo, &another(&replaces, n as u32));
        assert_eq!(incoming.replaced, found, "{replaces}");
    }
    assert!(
        heard(&mut solo, &Ask { call_id: "plain".into(), branch: "z9hG4bKp".into(), ..Ask::invite() })
            .replaced
            .is_none()
    );
}

#[test]
fn one_that_rings_is_found_only_by_whom_it_rings_and_one_that_is_over_is_declined() {
    let mut solo = Solo::new();
    let incoming = heard(&mut solo, &Ask::invite());
    let rings = solo.tell(Command::Ring { call: incoming.call }).remove(0);
    let replaces = format!("call-1;to-tag={};from-tag=bob1", tag(rings.header("To").unwrap()));
    let early = heard(&mut solo, &another(&replaces, 1)).replaced;
    assert_eq!(early, Some(Replaced::Nothing), "only who has begun it can end it (RFC 3891 section 3)");

    let mut solo = Solo::new();
    let asked = solo.tell(Command::Invite(Box::new(invite()))).remove(0);
    assert!(asked.header("Supported").unwrap().contains("replaces"));
    solo.hear(asked.response("180 Ringing", "far", "Contact: <sip:bob@192.0.2.2>\r\n", ""));
    assert!(matches!(solo.event(), Event::Ringing { .. }));
    let (id, ours) = (asked.header("Call-ID").unwrap(), tag(asked.header("From").unwrap()));
    let replaces = format!("{id};to-tag={ours};from-tag=far;early-only");
    let call = CallId(1);
    assert_eq!(heard(&mut solo, &another(&replaces, 2)).replaced, of(call, None));
    solo.tell(Command::Hangup { call, reason: None });
    assert!(matches!(solo.event(), Event::Ended { .. }));
    assert_eq!(heard(&mut solo, &another(&replaces, 3)).replaced, of(call, Some(603)));
}

fn invite() -> Invite {
    Invite {
        call: CallId(1),
        target: uri("sip:bob@192.0.2.2"),
        destination: over(Transport::Udp, 1),
        from: NameAddr::new(uri("sip:alice@192.0.2.1")),
        to: None,
        body: Some(sdp("v=0\r\n")),
        routes: Vec::new(),
        headers: Vec::new(),
        account: None,
        max_forwards: 70,
        elsewhere: false,
    }
}

#[test]
fn what_is_no_proper_replaces_or_referred_by_is_refused() {
    let mut solo = Solo::new();
    let (_, ok) = solo.standing(&Ask::invite());
    let good = "call-1;to-tag=a;from-tag=b";
    for (n, ask) in [
        another("call-1;to-tag=a", 1),
        another("call-1;to-tag=a;from-tag=b;to-tag=a", 2),
        another(&format!("{good}\r\nReplaces: {good}"), 3),
        another(&format!("{good}\r\nReferred-By: <<x"), 4),
        another(&format!("{good}\r\nReferred-By: <sip:a@b>\r\nb: <sip:a@b>"), 5),
        // In nothing but an INVITE (RFC 3891 section 3).
        Ask::new("OPTIONS").with(&format!("Replaces: {good}\r\n")),
        refer(&ok, 20, "<sip:carol@h?Replaces=call-1%3Bto-tag%3Da>", ""),
        refer(&ok, 21, "<sip:carol@h>", "Referred-By: <sip:a@b>, <sip:c@d>\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let sent = solo.hear(ask.text());
        assert_eq!(sent.iter().map(Out::status).collect::<Vec<_>>(), [400], "{n}: {}", ask.text());
    }
    assert!(solo.events.is_empty(), "{:?}", solo.events);
}

fn refer(ok: &Out, cseq: u32, to: &str, more: &str) -> Ask {
    let more = format!("Refer-To: {to}\r\nContact: <sip:bob@192.0.2.2:5060>\r\n{more}");
    Ask { body: String::new(), more, ..Ask::invite().within("REFER", ok, cseq) }
}

/// The call of the same far end that it wants joined with the one on which it says so (RFC 5589 section 7).
#[test]
fn a_refer_tells_which_call_it_names_and_who_is_said_to_have_asked() {
    let mut solo = Solo::new();
    let (first, ok) = solo.standing(&Ask::invite());
    let second = Ask { call_id: "call 2".replace(' ', "-"), branch: "z9hG4bK2".into(), ..Ask::invite() };
    let (second, to_carol) = solo.standing(&second);
    let ours = tag(to_carol.header("To").unwrap()).to_owned();
    let to = format!("<sip:carol@192.0.2.1?Replaces=call-2%3Bto-tag%3D{ours}%3Bfrom-tag%3Dbob1>");
    assert!(solo.hear(refer(&ok, 11, &to, "Referred-By: <sip:bob@example.com>\r\n").text()).is_empty());
    let Event::Refer { call, replaced, referred_by, .. } = solo.event() else { panic!("not told") };
    assert_eq!((call, replaced), (first, of(second, None)));
    assert_eq!(referred_by.unwrap().uri.to_string(), "sip:bob@example.com");
    // What comes of it is told as of any call (RFC 3515 section 2.4.5).
    solo.tell(Command::AnswerRefer { call, status: 202 });
    let told = solo.tell(Command::ReferProgress { call, status: 481 }).remove(0);
    assert!(told.text.ends_with("SIP/2.0 481 Call/Transaction Does Not Exist\r\n"), "{told:?}");
    for call in [first, second] {
        solo.tell(Command::Hangup { call, reason: None });
    }
    solo.wait(Duration::from_secs(64));
    assert_eq!(solo.rest(), Load::default());
}
