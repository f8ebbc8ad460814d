//! Promise 35: who writes somebody else's address on a datagram has at most three times its octets sent
//! there, whatever it says and whatever comes of it. Nothing comes back from that address.

use std::time::Duration;

use crosspoint_proto::sip::{CallId, Command, Event, Load};

use crate::solo::{Ask, Out, Solo};
use crate::world::sdp;

/// Longer than anything is repeated, and than a caller waits.
const LONG: Duration = Duration::from_secs(600);

/// An answer as a room gives it: sound and pictures, some formats each.
fn description() -> String {
    let mut text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 96 0 101\r\n"
        .to_owned();
    for line in [
        "rtpmap:96 opus/48000/2",
        "rtpmap:0 PCMU/8000",
        "rtpmap:101 telephone-event/8000",
        "fmtp:101 0-15",
        "ptime:20",
        "sendrecv",
    ] {
        text.push_str(&format!("a={line}\r\n"));
    }
    text
}

/// An INVITE of a telephone; its offer is as long as the answer.
fn invite() -> Ask {
    let more = "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE\r\nUser-Agent: Telephone 1.0\r\n";
    Ask { body: description(), ..Ask::invite() }.with(more)
}

/// The shortest INVITE with an offer.
fn brief() -> Ask {
    Ask {
        uri: "sip:a@192.0.2.1".into(),
        via: "SIP/2.0/UDP h".into(),
        branch: "z9hG4bK1".into(),
        from: "<sip:b@h>;tag=1".into(),
        to: "<sip:a@h>".into(),
        call_id: "1".into(),
        cseq: 1,
        ..Ask::new("INVITE")
    }
    .with("Contact: <sip:h>\r\n")
}

/// What the owner makes of it.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Nothing,
    Ring,
    RingAndAnswer,
    Answer,
    AnswerAndHangUp,
    Early,
    Refuse(u16),
    RingAndRefuse,
}

const DEEDS: [Deed; 10] = [
    Deed::Nothing,
    Deed::Ring,
    Deed::RingAndAnswer,
    Deed::Answer,
    Deed::AnswerAndHangUp,
    Deed::Early,
    Deed::Refuse(401),
    Deed::Refuse(486),
    Deed::Refuse(302),
    Deed::RingAndRefuse,
];

fn challenges() -> Vec<(String, String)> {
    ["SHA-256", "MD5"]
        .map(|algorithm| {
            let nonce = "0123456789abcdef0123456789abcdef0123456789a";
            let value = format!(
                "Digest realm=\"crosspoint\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\""
            );
            ("WWW-Authenticate".to_owned(), value)
        })
        .to_vec()
}

fn act(solo: &mut Solo, call: CallId, deed: Deed) {
    let answer = |solo: &mut Solo| drop(solo.tell(Command::Answer { call, body: sdp(&description()) }));
    let ring = |solo: &mut Solo| {
        solo.tell(Command::Ring { call });
        solo.wait(Duration::from_secs(1));
    };
    let refuse = |solo: &mut Solo, status| {
        let headers = if status == 401 { challenges() } else { vec![] };
        solo.tell(Command::Reject { call, status, phrase: String::new(), reason: None, headers });
    };
    match deed {
        Deed::Nothing => {}
        Deed::Ring => ring(solo),
        Deed::RingAndAnswer => {
            ring(solo);
            answer(solo);
        }
        Deed::Answer => answer(solo),
        Deed::AnswerAndHangUp => {
            answer(solo);
            solo.tell(Command::Hangup { call, reason: None });
        }
        Deed::Early => {
            solo.tell(Command::Progress { call, body: sdp(&description()) });
            solo.wait(Duration::from_secs(40));
            answer(solo);
        }
        Deed::Refuse(status) => refuse(solo, status),
        Deed::RingAndRefuse => {
            ring(solo);
            refuse(solo, 486);
        }
    }
}

fn octets(sent: &[Out]) -> usize {
    sent.iter().map(|it| it.text.len()).sum()
}

#[test]
fn promise_35_an_invite_from_a_forged_address_sends_it_three_times_its_octets_at_most() {
    let reliable = invite().with("Supported: 100rel\r\n");
    for (name, ask) in
        [("usual", invite()), ("100rel", reliable), ("brief", Ask { body: description(), ..brief() })]
    {
        for deed in DEEDS {
            let mut solo = Solo::new();
            solo.hear(ask.text());
            let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
            act(&mut solo, incoming.call, deed);
            solo.wait(LONG);
            if !matches!(deed, Deed::Nothing | Deed::Ring) {
                assert_eq!(solo.machine.load(), Load::default(), "{name} {deed:?}");
            }
            let (said, heard) = (octets(&solo.sent), ask.text().len());
            let lines: Vec<_> = solo.sent.iter().map(|it| (it.start(), it.text.len())).collect();
            assert!(said <= 3 * heard, "{name} {deed:?}: {said} octets for {heard}: {lines:#?}");
            assert!(!solo.sent.is_empty(), "{name} {deed:?}: a call without a word");
        }
    }
}

/// Who repeats it gets more, never more than three times.
#[test]
fn promise_35_repetitions_and_other_requests_get_three_times_their_octets_at_most() {
    for deed in DEEDS {
        let mut solo = Solo::new();
        let mut heard = 0;
        for n in 0..7 {
            heard += invite().text().len();
            solo.hear(invite().text());
            if n == 0 {
                let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
                act(&mut solo, incoming.call, deed);
            }
            solo.wait(Duration::from_secs(4));
        }
        heard += Ask { branch: "z9hG4bKINVITE1".into(), ..Ask::new("CANCEL") }.text().len();
        solo.hear(Ask { branch: "z9hG4bKINVITE1".into(), ..Ask::new("CANCEL") }.text());
        solo.wait(LONG);
        let said = octets(&solo.sent);
        assert!(said <= 3 * heard, "{deed:?}: {said} octets for {heard}");
    }
    for method in
        ["REGISTER", "OPTIONS", "MESSAGE", "PUBLISH", "REFER", "SUBSCRIBE", "NOTIFY", "BYE", "UPDATE", "JUMP"]
    {
        let mut solo = Solo::new();
        let ask = Ask { method, ..Ask::new("OPTIONS") };
        let text = Ask { method, more: String::new(), body: String::new(), ..brief() }.text();
        for text in [ask.text(), text.clone(), text[..text.len() / 2].to_owned()] {
            let before = octets(&solo.sent);
            solo.hear(&text);
            if let Some(Event::Request { request, .. }) = solo.events.pop() {
                let (status, headers, body) = (401, challenges(), None);
                solo.tell(Command::Respond { request, status, phrase: String::new(), headers, body });
            }
            solo.wait(LONG);
            let said = octets(&solo.sent) - before;
            assert!(said <= 3 * text.len(), "{method}: {said} octets for {}", text.len());
        }
    }
}

/// STUN shares the port.
#[test]
fn promise_35_stun_gets_less_than_three_times_its_octets() {
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    let mut solo = Solo::new();
    let answer = solo.hear(&request);
    assert_eq!(answer.len(), 1);
    assert!(octets(&answer) <= 3 * request.len(), "{}", octets(&answer));
}

/// Who has shown that he hears us is not left without what got lost.
#[test]
fn an_address_that_was_heard_of_gets_every_repetition() {
    let answers = |solo: &mut Solo, ask: &Ask| {
        let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
        act(solo, incoming.call, Deed::Answer);
        let before = solo.sent.len();
        solo.wait(Duration::from_secs(32));
        let sent = &solo.sent[before - 1..];
        let ok = sent.iter().filter(|it| it.status() == 200).count();
        assert!(sent.iter().all(|it| it.header("Call-ID") == Some(&ask.call_id)));
        ok
    };
    let second = || Ask { call_id: "call-2".into(), branch: "z9hG4bKsecond".into(), ..invite() };
    // The ACK of a refusal repeats a tag that was sent there.
    let mut solo = Solo::new();
    solo.hear(invite().text());
    let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
    act(&mut solo, incoming.call, Deed::Refuse(401));
    let refusal = solo.sent.last().unwrap().clone();
    solo.events.clear();
    let ack = Ask { branch: "z9hG4bKINVITE1".into(), ..invite().ack(&refusal) };
    // From elsewhere it proves nothing, nor with another tag.
    let victim = "203.0.113.9:5060".parse().unwrap();
    solo.hear_from(victim, ack.text());
    let guess = Ask { to: "<sip:alice@example.com>;tag=guess".into(), ..ack };
    solo.hear(guess.text());
    let forged = |n: &str| Ask { call_id: n.into(), branch: format!("z9hG4bK{n}"), ..invite() };
    for (from, ask) in [(victim, forged("v")), (crate::solo::far(), forged("g"))] {
        solo.hear_from(from, ask.text());
        assert!(answers(&mut solo, &ask) <= 3);
        solo.wait(LONG);
        solo.events.clear();
    }
    let ask = forged("refused");
    solo.hear(ask.text());
    let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
    act(&mut solo, incoming.call, Deed::Refuse(401));
    solo.events.clear();
    let refusal = solo.sent.last().unwrap().clone();
    solo.hear(Ask { branch: ask.branch.clone(), ..ask.ack(&refusal) }.text());
    solo.hear(second().text());
    assert_eq!(answers(&mut solo, &second()), 11);
    // So does the ACK of an answer, and for an hour.
    let mut solo = Solo::new();
    solo.hear(invite().text());
    let Event::Incoming(incoming) = solo.event() else { panic!("no call") };
    act(&mut solo, incoming.call, Deed::Answer);
    let ok = solo.sent.last().unwrap().clone();
    solo.hear(invite().ack(&ok).text());
    solo.events.clear();
    solo.wait(Duration::from_secs(3_000));
    solo.events.clear();
    solo.hear(second().text());
    assert_eq!(answers(&mut solo, &second()), 11);
    solo.wait(Duration::from_secs(4_000));
    solo.events.clear();
    let third = forged("third");
    solo.hear(third.text());
    assert!(answers(&mut solo, &third) <= 3, "that was long ago");
}
