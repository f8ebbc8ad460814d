//! Far ends with habits, faults and bad intentions.

use std::time::Duration;

use crosspoint_proto::sip::{By, CallId, Command, Config, Destination, Event, Flow, How, Invite, Load};
use crosspoint_proto::{ConnId, Input};

use crate::solo::{Ask, Out, Solo, far};
use crate::world::{address, config, invite, sdp, text};

fn incoming(solo: &mut Solo) -> CallId {
    match solo.event() {
        Event::Incoming(incoming) => incoming.call,
        other => panic!("{other:?}"),
    }
}

fn start_call(solo: &mut Solo) -> Out {
    let sent = solo.tell(Command::Invite(Box::new(invite(1))));
    assert_eq!(sent.len(), 1);
    sent[0].clone()
}

#[test]
fn of_several_phones_the_first_to_answer_wins_and_the_others_are_hung_up() {
    let mut solo = Solo::new();
    let asked = start_call(&mut solo);
    let contact = |n: u8| format!("Contact: <sip:phone{n}@192.0.2.{n}>\r\n");
    for (n, (tag, body)) in [("a", "early a"), ("b", "early b"), ("a", "early a")].into_iter().enumerate() {
        solo.hear(asked.response("183 Session Progress", tag, &contact(20), body));
        match solo.event() {
            Event::Progress { fork, body: came, .. } => {
                assert_eq!((fork, text(&came)), ([0, 1, 0][n], body));
            }
            other => panic!("{other:?}"),
        }
    }
    let sent = solo.hear(asked.response("200 OK", "b", &contact(21), "answer b"));
    assert_eq!(sent.len(), 1);
    assert!(sent[0].start().starts_with("ACK sip:phone21@192.0.2.21 "), "{sent:?}");
    assert_eq!(sent[0].to, Some("192.0.2.21:5060".parse().unwrap()));
    assert!(matches!(solo.event(), Event::Answered { fork: 1, .. }));

    let sent = solo.hear(asked.response("200 OK", "a", &contact(20), "answer a"));
    assert_eq!(sent.iter().map(|o| &o.start()[..3]).collect::<Vec<_>>(), ["ACK", "BYE"]);
    assert!(sent[1].header("To").unwrap().ends_with("tag=a"));
    solo.hear(sent[1].response("200 OK", "", "", ""));
    // Both repeat their answers: each gets its own ACK again, and nothing more.
    for tag in ["a", "b", "a"] {
        let sent = solo.hear(asked.response("200 OK", tag, &contact(20), "answer"));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].start().starts_with("ACK"));
        assert!(sent[0].header("To").unwrap().ends_with(&format!("tag={tag}")));
    }
    assert!(solo.events.is_empty());
    let bye = solo.tell(Command::Hangup { call: CallId(1), reason: None });
    assert!(bye[0].header("To").unwrap().ends_with("tag=b"));
    solo.hear(bye[0].response("200 OK", "", "", ""));
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn an_answer_after_the_call_is_gone_is_still_acknowledged_and_hung_up() {
    let mut solo = Solo::new();
    let asked = start_call(&mut solo);
    let contact = "Contact: <sip:phone@192.0.2.20>\r\n";
    solo.hear(asked.response("200 OK", "a", contact, "answer"));
    let bye = solo.tell(Command::Hangup { call: CallId(1), reason: None });
    solo.hear(bye[0].response("200 OK", "", "", ""));
    assert_eq!(solo.machine.load().calls, 0);
    let sent = solo.hear(asked.response("200 OK", "late", contact, "answer"));
    assert_eq!(sent.iter().map(|o| &o.start()[..3]).collect::<Vec<_>>(), ["ACK", "BYE"]);
    solo.hear(sent[1].response("481 Gone", "", "", ""));
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn stray_and_repeated_responses_do_nothing() {
    let mut solo = Solo::new();
    let asked = start_call(&mut solo);
    let busy = asked.response("486 Busy Here", "b", "", "");
    let second_via = busy.replace("\r\nFrom", "\r\nVia: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx\r\nFrom");
    let other_branch = busy.replace("branch=z9hG4bK", "branch=z9hG4bKz");
    for stray in [second_via, other_branch] {
        assert!(solo.hear(stray).is_empty());
    }
    assert_eq!(solo.machine.counters().stray_responses, 2);
    assert!(solo.events.is_empty());
    assert_eq!(solo.hear(&busy).len(), 1);
    assert!(matches!(solo.event(), Event::Ended { .. }));
    for _ in 0..3 {
        let again = solo.hear(&busy);
        assert_eq!((again.len(), &again[0].start()[..3]), (1, "ACK"));
    }
    // A change of mind after a refusal is none.
    assert!(solo.hear(asked.response("200 OK", "b", "", "answer")).is_empty());
    assert!(solo.events.is_empty());
    assert_eq!(solo.rest(), Load::default());
    assert!(solo.hear(&busy).is_empty());
}

#[test]
fn what_is_not_taken_is_refused_by_the_book() {
    let refused = |ask: Ask| {
        let mut solo = Solo::new();
        let sent = solo.hear(ask.text());
        assert_eq!(sent.len(), 1, "{ask:?}");
        assert_eq!(solo.hear(ask.text()), sent, "a repetition gets the same answer");
        assert!(solo.events.is_empty());
        solo.wait(Duration::from_secs(64));
        assert_eq!(solo.rest(), Load::default());
        sent[0].clone()
    };
    for (method, status) in [
        ("MESSAGE", 405),
        ("REFER", 403),
        ("UPDATE", 481),
        ("PRACK", 481),
        ("PUBLISH", 405),
        ("SUBSCRIBE", 489),
        ("NOTIFY", 481),
        ("BYE", 481),
        ("INFO", 481),
        ("CANCEL", 481),
        ("JUMP", 501),
    ] {
        let answer = refused(Ask::new(method));
        assert_eq!(answer.status(), status, "{method}");
        assert_eq!(answer.header("Allow").is_some(), matches!(status, 405 | 501));
        assert!(answer.header("To").unwrap().contains(";tag="));
    }
    let unknown = refused(Ask { to: "<sip:alice@example.com>;tag=never".into(), ..Ask::invite() });
    assert_eq!(unknown.status(), 481);
    let scheme = refused(Ask { uri: "nobodyknows:thisscheme".into(), ..Ask::invite() });
    assert_eq!(scheme.status(), 416);
    let required = refused(Ask::invite().with("Require: 100rel, precondition, nothing\r\n"));
    assert_eq!(required.status(), 420);
    assert!(
        required.text.contains("Unsupported: precondition\r\n")
            && required.text.contains("Unsupported: nothing\r\n")
            && !required.text.contains("Unsupported: 100rel")
    );
    let content = refused(Ask::invite().with("Content-Type: text/plain\r\n"));
    assert_eq!((content.status(), content.header("Accept")), (415, Some("application/sdp")));
    let encoding = refused(Ask::invite().with("Content-Encoding: gzip\r\n"));
    assert_eq!((encoding.status(), encoding.header("Accept-Encoding")), (415, Some("identity")));
    let accept = refused(Ask::invite().with("Accept: text/nobody\r\n"));
    assert_eq!(accept.status(), 406);
    let malformed =
        Solo::new().hear("INVITE nonsense SIP/2.0\r\nVia: SIP/2.0/UDP a.b;branch=z9hG4bK1\r\n\r\n");
    assert_eq!(malformed[0].status(), 400);
}

#[test]
fn options_are_answered_without_and_within_a_dialog() {
    let mut solo = Solo::new();
    let answer = solo.hear(Ask { to: "<sip:alice@example.com>".into(), ..Ask::new("OPTIONS") }.text());
    assert_eq!(answer[0].status(), 200);
    assert!(answer[0].header("Allow").unwrap().contains("INVITE"));
    assert_eq!(answer[0].header("Accept"), Some("application/sdp"));
    let ask = Ask::invite();
    let (_, ok) = solo.standing(&ask);
    let within = Ask { body: String::new(), ..ask.within("OPTIONS", &ok, 11) };
    assert_eq!(solo.hear(within.text())[0].status(), 200);
}

#[test]
fn numbers_that_go_back_and_tags_of_strangers_are_refused() {
    let mut solo = Solo::new();
    let ask = Ask::invite();
    let (call, ok) = solo.standing(&ask);
    let stranger = Ask { from: "<sip:bob@example.com>;tag=other".into(), ..ask.within("BYE", &ok, 20) };
    assert_eq!(solo.hear(stranger.text())[0].status(), 481);
    assert_eq!(solo.hear(ask.within("INVITE", &ok, 9).text())[0].status(), 500);
    assert_eq!(solo.hear(ask.within("BYE", &ok, 10).text())[0].status(), 500);
    assert!(solo.events.is_empty());
    assert_eq!(solo.hear(ask.within("BYE", &ok, 4_000_000_000).text())[0].status(), 200);
    match solo.event() {
        Event::Ended { call: ended, ending } => assert_eq!((ended, ending.by), (call, By::Peer)),
        other => panic!("{other:?}"),
    }
    solo.hear(ask.within("ACK", &ok, 9).text());
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn a_second_offer_before_the_first_is_settled_is_put_off() {
    let mut solo = Solo::new();
    let ask = Ask::invite();
    let (call, ok) = solo.standing(&ask);
    solo.hear(ask.within("INVITE", &ok, 11).text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }));
    let second = solo.hear(ask.within("INVITE", &ok, 12).text());
    assert_eq!(second[0].status(), 500);
    assert!(second[0].header("Retry-After").unwrap().parse::<u32>().unwrap() <= 10);
    // It may take the first back.
    let cancel = Ask { branch: "z9hG4bKINVITE11".into(), ..ask.within("CANCEL", &ok, 11) };
    let sent = solo.hear(Ask { body: String::new(), ..cancel }.text());
    let statuses: Vec<_> = sent.iter().map(Out::status).collect();
    assert_eq!(statuses, [200, 487]);
    assert!(matches!(solo.event(), Event::ReinviteCancelled { .. }));
    // The session is what it was; an offer of ours while theirs is open waits.
    solo.hear(ask.within("INVITE", &ok, 13).text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }));
    assert!(solo.tell(Command::Reinvite { call, body: Some(sdp("ours")) }).is_empty());
    let refused = solo.tell(Command::RefuseReinvite { call, status: 488 });
    assert_eq!(refused[0].status(), 488);
    assert!(refused[1].start().starts_with("INVITE"), "then it is our turn");
    assert_eq!(solo.hear(ask.within("INVITE", &ok, 14).text())[0].status(), 491);
}

#[test]
fn a_caller_may_hang_up_a_call_that_still_rings() {
    let mut solo = Solo::new();
    let ask = Ask::invite();
    solo.hear(ask.text());
    let call = incoming(&mut solo);
    let ringing = solo.tell(Command::Ring { call }).remove(0);
    let sent = solo.hear(Ask { body: String::new(), ..ask.within("BYE", &ringing, 11) }.text());
    assert_eq!(sent.iter().map(Out::status).collect::<Vec<_>>(), [200, 487]);
    assert!(matches!(solo.event(), Event::Ended { .. }));
    solo.hear(
        Ask { branch: ask.branch.clone(), body: String::new(), ..ask.within("ACK", &sent[1], 10) }.text(),
    );
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn ringing_is_said_again_every_minute() {
    let mut solo = Solo::heard_of();
    solo.hear(Ask::invite().text());
    let call = incoming(&mut solo);
    solo.tell(Command::Ring { call });
    let sent = solo.wait(Duration::from_secs(130));
    assert_eq!(sent.iter().map(Out::status).collect::<Vec<_>>(), [180, 180]);
}

#[test]
fn one_request_by_two_ways_is_one() {
    let mut solo = Solo::new();
    solo.hear(Ask::invite().text());
    incoming(&mut solo);
    let merged = solo.hear(Ask { branch: "z9hG4bKother".into(), ..Ask::invite() }.text());
    assert_eq!(merged[0].status(), 482);
    assert!(solo.events.is_empty());
}

#[test]
fn a_call_of_ours_that_comes_back_unchanged_is_a_loop_and_one_for_another_target_is_none() {
    let mut solo = Solo::new();
    let asked = start_call(&mut solo);
    let back = |text: &str| {
        let via = "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKproxy\r\nVia: ";
        text.replacen("Via: ", via, 1).replacen("Max-Forwards: 70", "Max-Forwards: 69", 1)
    };
    let looped = solo.hear(back(&asked.text)).remove(0);
    assert_eq!(looped.status(), 482, "RFC 5393 section 4.2.2");
    assert!(solo.events.is_empty());
    // The proxy looked up where that is, and it is here.
    let spiral = back(&asked.text).replacen("sip:bob@192.0.2.2 SIP", "sip:carol@192.0.2.1 SIP", 1);
    assert!(
        solo.hear(spiral.replace("z9hG4bKproxy", "z9hG4bKspiral").replacen("CSeq: ", "CSeq: 1", 1))
            .is_empty()
    );
    assert!(matches!(solo.event(), Event::Incoming(_)));
    // A mark that somebody else wrote says nothing.
    let branch = asked.header("Via").unwrap().rsplit("branch=").next().unwrap().split(';').next().unwrap();
    let forged = back(&asked.text).replace(branch, &format!("{}0", &branch[..branch.len() - 1]));
    assert!(!branch.ends_with('0'), "another seed for this test");
    assert!(
        solo.hear(forged.replace("z9hG4bKproxy", "z9hG4bKforged").replacen("CSeq: ", "CSeq: 2", 1))
            .is_empty()
    );
    assert!(matches!(solo.event(), Event::Incoming(_)));
}

#[test]
fn devices_of_rfc_2543_have_no_branch_and_no_tags() {
    let mut solo = Solo::new();
    let ask = Ask { from: "<sip:bob@example.com>".into(), branch: "1".into(), ..Ask::invite() };
    let old = |ask: &Ask| ask.text().replace(";branch=1", "");
    solo.hear(old(&ask));
    let call = incoming(&mut solo);
    solo.wait(Duration::from_secs(1));
    assert_eq!(solo.hear(old(&ask))[0].status(), 100, "a repetition is one");
    let busy = solo
        .tell(Command::Reject { call, status: 486, phrase: String::new(), reason: None, headers: vec![] })
        .remove(0);
    solo.event();
    let ack = Ask { branch: "1".into(), body: String::new(), ..ask.within("ACK", &busy, 10) };
    solo.hear(old(&ack));
    assert!(solo.wait(Duration::from_secs(3)).is_empty(), "the ACK was seen");
    // And the whole way to a BYE.
    let ask = Ask { call_id: "call-2".into(), ..ask };
    solo.hear(old(&ask));
    let call = incoming(&mut solo);
    let ok = solo.tell(Command::Answer { call, body: sdp("answer") }).remove(0);
    solo.hear(old(&Ask { branch: "1".into(), body: String::new(), ..ask.within("ACK", &ok, 10) }));
    assert!(matches!(solo.event(), Event::Acked { .. }));
    solo.hear(old(&Ask { branch: "1".into(), body: String::new(), ..ask.within("BYE", &ok, 11) }));
    assert!(matches!(solo.event(), Event::Ended { .. }));
    assert_eq!(solo.rest(), Load::default());
}

#[test]
fn responses_go_where_the_request_came_from() {
    let mut solo = Solo::new();
    let nat = "198.51.100.7:40123".parse().unwrap();
    let ask = Ask { via: "SIP/2.0/UDP 10.0.0.5:5060;rport".into(), ..Ask::new("OPTIONS") };
    let sent = solo.hear_from(nat, ask.text());
    assert_eq!(sent[0].to, Some(nat));
    let via = sent[0].header("Via").unwrap();
    assert!(via.contains("received=198.51.100.7") && via.contains("rport=40123"), "{via}");
    let ask =
        Ask { via: "SIP/2.0/UDP 203.0.113.9;maddr=203.0.113.9".into(), branch: "z9hG4bKo2".into(), ..ask };
    assert_eq!(solo.hear_from(nat, ask.text())[0].to, Some("198.51.100.7:5060".parse().unwrap()));
}

#[test]
fn what_is_behind_a_nat_is_reached_the_way_it_came() {
    let mut solo = Solo::new();
    let nat = "198.51.100.7:40123".parse().unwrap();
    let ask = Ask {
        via: "SIP/2.0/UDP 10.0.0.5:5060;rport".into(),
        more: "Contact: <sip:bob@10.0.0.5:5060>\r\n".into(),
        ..Ask::invite()
    };
    solo.hear_from(nat, ask.text());
    let call = match solo.event() {
        Event::Incoming(incoming) => {
            assert!(incoming.source.translated);
            incoming.call
        }
        other => panic!("{other:?}"),
    };
    let ok = solo.tell(Command::Answer { call, body: sdp("answer") }).remove(0);
    solo.hear_from(nat, Ask { body: String::new(), ..ask.within("ACK", &ok, 10) }.text());
    let bye = solo.tell(Command::Hangup { call, reason: None }).remove(0);
    assert_eq!((bye.start(), bye.to), ("BYE sip:bob@10.0.0.5:5060 SIP/2.0", Some(nat)));
}

#[test]
fn proxies_that_want_to_stay_stay() {
    let mut solo = Solo::new();
    let ask = Ask::invite().with("Record-Route: <sip:192.0.2.30:5070;lr>\r\n");
    let (call, ok) = solo.standing(&ask);
    assert_eq!(ok.header("Record-Route"), Some("<sip:192.0.2.30:5070;lr>"));
    let bye = solo.tell(Command::Hangup { call, reason: None }).remove(0);
    assert_eq!(bye.to, Some("192.0.2.30:5070".parse().unwrap()));
    assert_eq!(bye.header("Route"), Some("<sip:192.0.2.30:5070;lr>"));
    assert!(bye.start().starts_with("BYE sip:bob@192.0.2.2:5060"));
}

#[test]
fn a_redirection_is_told_and_not_followed() {
    let mut solo = Solo::new();
    let asked = start_call(&mut solo);
    let contact = "Contact: <sip:bob@192.0.2.40>, <sip:bob@192.0.2.41>;q=0.5\r\n";
    let sent = solo.hear(asked.response("302 Moved Temporarily", "b", contact, ""));
    assert_eq!((sent.len(), &sent[0].start()[..3]), (1, "ACK"));
    match solo.event() {
        Event::Ended { ending, .. } => {
            assert_eq!((ending.how, ending.status, ending.contacts.len()), (How::Refused, Some(302), 2));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dialog_that_the_far_end_forgot_is_over() {
    for status in ["481 Gone", "408 Request Timeout"] {
        let mut solo = Solo::new();
        let (call, _) = solo.standing(&Ask::invite());
        let reinvite = solo.tell(Command::Reinvite { call, body: Some(sdp("hold")) }).remove(0);
        let sent = solo.hear(reinvite.response(status, "", "", ""));
        assert_eq!(sent.iter().map(|o| &o.start()[..3]).collect::<Vec<_>>(), ["ACK", "BYE"]);
        match solo.event() {
            Event::Ended { ending, .. } => assert_eq!(ending.how, How::Gone),
            other => panic!("{other:?}"),
        }
        assert_eq!(solo.rest(), Load::default());
    }
}

#[test]
fn unknown_trust_headers_are_never_sent_on() {
    let mut solo = Solo::new();
    let headers = vec![
        ("Via".to_owned(), "SIP/2.0/UDP evil".to_owned()),
        ("To".to_owned(), "<sip:evil@example.com>".to_owned()),
        ("Subject".to_owned(), "hello\r\nRoute: <sip:evil>".to_owned()),
        ("Bad Name".to_owned(), "x".to_owned()),
    ];
    let sent = solo.tell(Command::Invite(Box::new(Invite { headers, ..invite(1) })));
    assert!(!sent[0].text.contains("UDP evil") && !sent[0].text.contains("evil@"));
    assert!(!sent[0].text.contains("\r\nRoute:") && !sent[0].text.contains("Bad Name"));
    assert_eq!(sent[0].header("Subject"), Some("hello  Route: <sip:evil>"));
}

#[test]
fn tables_are_bounded_and_say_so() {
    let mut limited = config(0);
    limited.limits.server_transactions = 3;
    limited.limits.calls = 2;
    limited.limits.client_transactions = 1;
    let mut solo = Solo::with(limited);
    let nth = |n: u32| Ask { branch: format!("z9hG4bKn{n}"), call_id: format!("call-{n}"), ..Ask::invite() };
    for n in 0..2 {
        assert!(solo.hear(nth(n).text()).is_empty());
    }
    for n in 2..5 {
        assert_eq!(solo.hear(nth(n).text())[0].status(), 503, "the table of calls is full");
    }
    assert_eq!(solo.machine.load().server_transactions, 2, "of what is refused nothing is kept");
    assert!(solo.hear(Ask { body: String::new(), ..Ask::new("REGISTER") }.text()).is_empty());
    for n in 5..50 {
        let sent = solo.hear(nth(n).text());
        assert_eq!((sent.len(), sent[0].status()), (1, 503), "and that of transactions");
        let pause: u32 = sent[0].header("Retry-After").unwrap().parse().unwrap();
        assert!((5..=30).contains(&pause));
    }
    assert_eq!((solo.machine.load().server_transactions, solo.machine.counters().overload), (3, 45));
    solo.tell(Command::Invite(Box::new(invite(1))));
    let ended = solo.events.iter().filter(|e| matches!(e, Event::Ended { .. })).count();
    assert_eq!(ended, 1, "calls out count as well");
}

#[test]
fn promise_29_35_what_is_refused_is_answered_once_and_leaves_nothing() {
    let mut solo = Solo::new();
    let challenge = vec![("WWW-Authenticate".to_owned(), "Digest realm=\"x\", nonce=\"y\"".to_owned())];
    for n in 0..5_000_u32 {
        let from = format!("10.0.{}.{}:5060", n / 250, n % 250).parse().unwrap();
        let ask = Ask { branch: format!("z9hG4bKf{n}"), call_id: format!("f-{n}"), ..Ask::invite() };
        assert!(solo.hear_from(from, ask.text()).is_empty());
        let call = incoming(&mut solo);
        let status = if n % 2 == 0 { 401 } else { 404 };
        let headers = if n % 2 == 0 { challenge.clone() } else { Vec::new() };
        let reject = Command::Reject { call, status, phrase: String::new(), reason: None, headers };
        let sent = solo.tell(reject);
        assert_eq!((sent.len(), sent[0].status(), sent[0].to), (1, status, Some(from)));
        assert!(matches!(solo.event(), Event::Ended { .. }));
        for method in ["OPTIONS", "MESSAGE", "BYE", "SUBSCRIBE", "CANCEL"] {
            let ask = Ask { body: String::new(), call_id: format!("f-{n}"), ..Ask::new(method) };
            assert_eq!(solo.hear_from(from, ask.text()).len(), 1, "{method}");
        }
        assert_eq!((solo.machine.load(), solo.events.len()), (Load::default(), 0));
    }
    assert!(solo.wait(Duration::from_secs(64)).is_empty(), "a forged address hears nothing more");
}

#[test]
fn a_refusal_that_was_forgotten_comes_again_alike_and_one_after_ringing_is_repeated() {
    let mut solo = Solo::new();
    let refuse = |call, status| Command::Reject {
        call,
        status,
        phrase: String::new(),
        reason: None,
        headers: Vec::new(),
    };
    let ask = Ask::invite();
    let mut refused = || {
        assert!(solo.hear(ask.text()).is_empty());
        let call = incoming(&mut solo);
        let sent = solo.tell(refuse(call, 404));
        solo.event();
        sent
    };
    let first = refused();
    assert_eq!(refused(), first, "its tag too (RFC 3261 section 8.2.7)");
    // The ACK of what is forgotten belongs to nothing.
    let ack = Ask { body: String::new(), ..ask.within("ACK", &first[0], ask.cseq) };
    assert!(solo.hear(ack.text()).is_empty());

    // Who has heard that it rings repeats his INVITE no more: the refusal must come through.
    let ask = Ask { branch: "z9hG4bKsecond".into(), call_id: "second".into(), ..Ask::invite() };
    solo.hear(ask.text());
    let call = incoming(&mut solo);
    assert_eq!(solo.tell(Command::Ring { call })[0].status(), 180);
    assert_eq!(solo.tell(refuse(call, 486))[0].status(), 486);
    let again = solo.wait(Duration::from_secs(2));
    assert!(!again.is_empty() && again.iter().all(|sent| sent.status() == 486), "{again:?}");

    // So must one whose credentials are good once.
    let mut solo = Solo::new();
    let ask = Ask::invite().with("Authorization: Digest username=\"a\"\r\n");
    solo.hear(ask.text());
    let call = incoming(&mut solo);
    assert_eq!(solo.tell(refuse(call, 404)).len(), 1);
    assert!(!solo.wait(Duration::from_secs(2)).is_empty());
}

#[test]
fn connections_are_bounded_in_all_and_by_address() {
    let mut limited = config(0);
    limited.limits.connections = 5;
    limited.limits.connections_per_address = 2;
    let mut solo = Solo::with(limited);
    for (n, ip) in [(2, 2), (4, 2), (6, 2), (8, 3), (10, 4), (12, 5), (14, 6)] {
        solo.accept(n, format!("192.0.2.{ip}:{}", 40_000 + n).parse().unwrap());
    }
    assert_eq!(solo.closed, [ConnId(6), ConnId(14)]);
    solo.input(Input::Closed { conn: ConnId(2) });
    solo.accept(16, "192.0.2.2:41000".parse().unwrap());
    assert_eq!(solo.machine.load().connections, 5);
    assert_eq!(solo.machine.counters().connections_refused, 2);
}

#[test]
fn connections_that_bring_nothing_are_closed_and_good_ones_kept() {
    let mut solo = Solo::new();
    let options = |n: u32| {
        let via = "SIP/2.0/TCP 192.0.2.2:5060".into();
        Ask { via, branch: format!("z9hG4bKc{n}"), cseq: n, ..Ask::new("OPTIONS") }.text()
    };
    for conn in [2, 4, 6, 8] {
        solo.accept(conn, far());
    }
    // One is silent, one says half a message byte by byte, one keeps alive, one is a good client.
    let half = options(1);
    let pong = solo.stream(6, "\r\n\r\n");
    assert_eq!((pong[0].conn, pong[0].text.as_str()), (Some(ConnId(6)), "\r\n"));
    assert_eq!(solo.stream(8, options(2))[0].status(), 200);
    for byte in half.as_bytes()[..12].chunks(1) {
        solo.stream(4, byte);
        solo.wait(Duration::from_secs(1));
    }
    assert_eq!(solo.closed, [ConnId(2), ConnId(4)]);
    solo.wait(Duration::from_secs(1800));
    assert_eq!(solo.closed.len(), 2);
    // A good client that stops in the middle of its second message.
    solo.stream(8, &half[..20]);
    solo.wait(Duration::from_secs(9));
    assert_eq!(solo.closed.len(), 2);
    solo.wait(Duration::from_secs(2));
    assert_eq!(solo.closed[2..], [ConnId(8)]);
    solo.wait(Duration::from_secs(4000));
    assert_eq!(solo.closed[3..], [ConnId(6)]);
    assert_eq!(solo.machine.load(), Load::default());
}

#[test]
fn a_stream_that_lost_its_place_is_answered_and_closed() {
    let mut solo = Solo::new();
    solo.accept(2, far());
    let via = "SIP/2.0/TCP 192.0.2.2:5060".into();
    let bad = Ask { via, ..Ask::new("OPTIONS") }.text().replace("Content-Length: 0", "Content-Length: x");
    let sent = solo.stream(2, bad);
    assert_eq!((sent.len(), sent[0].status(), solo.closed.as_slice()), (1, 400, &[ConnId(2)][..]));
    assert_eq!(solo.machine.load().connections, 0);
}

#[test]
fn the_answer_finds_its_way_when_the_connection_is_gone() {
    let mut solo = Solo::new();
    solo.accept(2, "192.0.2.2:40000".parse().unwrap());
    let ask = Ask { via: "SIP/2.0/TCP 192.0.2.2:5066".into(), ..Ask::invite() };
    solo.stream(2, ask.text());
    let call = incoming(&mut solo);
    solo.input(Input::Closed { conn: ConnId(2) });
    assert!(matches!(solo.event(), Event::FlowClosed { .. }));
    solo.tell(Command::Answer { call, body: sdp("answer") });
    assert_eq!(solo.connects, [(ConnId(1), "192.0.2.2:5066".parse().unwrap())]);
    let flow = Input::Connected {
        conn: ConnId(1),
        local: address(0),
        peer: "192.0.2.2:5066".parse().unwrap(),
        transport: crosspoint_proto::Transport::Tcp,
    };
    let sent = solo.input(flow);
    assert_eq!((sent[0].status(), sent[0].conn), (200, Some(ConnId(1))));
}

#[test]
fn a_flow_of_another_life_leads_nowhere() {
    let mut solo = Solo::new();
    solo.accept(2, "192.0.2.2:40000".parse().unwrap());
    for (flow, stands) in [
        ("tcp 192.0.2.1:5060 192.0.2.2:40000 2", true),
        ("tcp 192.0.2.1:5060 192.0.2.9:40000 2", false),
        ("tcp 192.0.2.1:5060 192.0.2.2:40000 4", false),
        ("udp 192.0.2.1:5060 192.0.2.2:40000", true),
        ("udp 192.0.2.1:9999 192.0.2.2:40000", false),
    ] {
        let call = invite(1 + solo.sent.len() as u64 * 10 + solo.events.len() as u64);
        let destination = Destination::Flow(flow.parse::<Flow>().unwrap());
        let sent = solo.tell(Command::Invite(Box::new(Invite { destination, ..call })));
        assert_eq!(sent.len(), usize::from(stands), "{flow}");
    }
}

#[test]
fn a_draining_endpoint_takes_nothing_new() {
    let mut solo = Solo::new();
    let ask = Ask::invite();
    let (call, ok) = solo.standing(&ask);
    solo.tell(Command::Drain);
    let fresh = Ask { call_id: "call-2".into(), branch: "z9hG4bKnew".into(), ..Ask::invite() };
    let sent = solo.hear(fresh.text());
    assert_eq!(sent[0].status(), 503);
    assert!(sent[0].header("Retry-After").is_some());
    assert_eq!(solo.hear(Ask { call_id: "r".into(), ..Ask::new("REGISTER") }.text())[0].status(), 503);
    solo.hear(ask.within("INVITE", &ok, 11).text());
    assert!(matches!(solo.event(), Event::Reinvite { .. }), "calls that stand go on");
    assert_eq!(solo.tell(Command::AnswerReinvite { call, body: sdp("held") })[0].status(), 200);
}

#[test]
fn keep_alives_and_noise_get_no_answer() {
    let mut solo = Solo::new();
    for noise in [&b"\r\n\r\n"[..], b"\r\n", b"", b"\0\0\0\0", b"\x00\x01\x00\x00\x21\x12\xa4\x42", b"hello"]
    {
        assert!(solo.hear(noise).is_empty(), "{noise:?}");
    }
    assert_eq!(solo.machine.load(), Load::default());
}

#[test]
fn a_phone_on_udp_keeps_its_way_open_by_stun() {
    let mut solo = Solo::new();
    let mut ask = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    ask.extend(*b"transaction!");
    let sent = solo.hear(&ask);
    assert_eq!((sent.len(), sent[0].to), (1, Some(far())), "RFC 5626 section 4.4.2");
    assert_eq!(solo.machine.load(), Load::default());
    assert_eq!(solo.machine.counters().malformed, 0);
}

#[test]
fn configurations_have_defaults() {
    let config = Config::new(vec![]);
    assert_eq!(config.timing.t1, Duration::from_millis(500));
    assert!(config.timing.trying <= Duration::from_millis(200));
}
