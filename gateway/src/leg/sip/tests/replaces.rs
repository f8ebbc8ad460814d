//! Who may take the place of a call (RFC 3891), and who learns that there is one.

use crosspoint_proto::sip::{Message, Replaced};

use super::*;
use crate::leg::{Proven, Referral};

const ALICE: u64 = 1 << 63;

/// A call of `device` comes in; its leg.
fn incoming(rig: &Rig, number: u64, device: Option<&str>) -> Leg {
    let text = "INVITE sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1\r\n\
                From: <sip:alice@127.0.0.1>;tag=1\r\nTo: <sip:bob@127.0.0.1>\r\nCall-ID: 1\r\n\
                CSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:alice@127.0.0.1:5070>\r\n\r\n";
    let Message::Request(request) = Message::parse(text.as_bytes()).unwrap() else { panic!("a request") };
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (local, remote) = (at("127.0.0.1:5060"), at("127.0.0.1:5070"));
    let flow: Flow = format!("udp {local} {remote}").parse().unwrap();
    let source = Source { transport: Transport::Udp, local, remote, flow, translated: false };
    let (body, replaced, referred_by) = (Some(description("")), None, None);
    let incoming = Incoming { call: CallId(number), request, source, body, replaced, referred_by };
    rig.legs.incoming(incoming, device.map(|it| Proven::Device(it.to_owned()))).unwrap()
}

fn named(number: u64, refusal: Option<u16>) -> Replaced {
    Replaced::Call { call: CallId(number), refusal }
}

#[tokio::test(start_paused = true)]
async fn p42_who_is_no_party_of_a_dialog_learns_nothing_of_it() {
    let rig = Rig::new(LO);
    let leg = incoming(&rig, ALICE, Some("alice"));
    let _stranger = incoming(&rig, ALICE + 1, None);
    let (alice, mallory) = (Proven::Device("alice".into()), Proven::Device("mallory".into()));
    let trunk = Proven::Trunk("alice".into());
    for (refusal, told) in [(None, Ok(leg.id)), (Some(486), Err(486)), (Some(603), Err(603))] {
        let replaced = named(ALICE, refusal);
        assert_eq!(rig.legs.replaceable(Some(&alice), replaced), told);
        // As if it were not there.
        for by in [&mallory, &trunk] {
            assert_eq!(rig.legs.replaceable(Some(by), replaced), Err(481));
            assert_eq!(rig.legs.replaceable(Some(by), Replaced::Nothing), Err(481));
        }
        assert_eq!(rig.legs.replaceable(None, replaced), Err(403));
        assert_eq!(rig.legs.replaceable(None, Replaced::Nothing), Err(403));
    }
    // That of a stranger is nobody's, and one that the machine has forgotten is not there.
    assert_eq!(rig.legs.replaceable(Some(&alice), named(ALICE + 1, None)), Err(481));
    rig.legs.deliver(Event::Released { call: CallId(ALICE) });
    assert_eq!(rig.legs.replaceable(Some(&alice), named(ALICE, Some(603))), Err(481));
}

#[tokio::test(start_paused = true)]
async fn a_refer_to_a_call_of_ones_own_is_told_and_one_to_another_ends_as_its_invite_would() {
    let mut rig = Rig::new(LO);
    let mut leg = incoming(&rig, ALICE, Some("alice"));
    let own = incoming(&rig, ALICE + 1, Some("alice"));
    let _other = incoming(&rig, ALICE + 2, Some("dave"));
    assert!(matches!(leg.events.recv().await, Some(LegEvent::Offered(_))));
    let call = CallId(ALICE);
    let refer = |replaced| Event::Refer {
        call,
        to: Box::new(NameAddr::new(Uri::parse("sip:carol@127.0.0.1?Replaces=x").unwrap())),
        replaced,
        referred_by: Some(Box::new(NameAddr::new(Uri::parse("sip:boss@example.com").unwrap()))),
    };
    rig.legs.deliver(refer(Some(named(ALICE + 1, None))));
    let Some(LegEvent::Referred { to, instead_of, referred_by }) = leg.events.recv().await else {
        panic!("not told")
    };
    assert_eq!((instead_of, referred_by.as_deref()), (Some(own.id), Some("sip:boss@example.com")));
    assert_eq!(to, "sip:carol@127.0.0.1", "what names the dialog is in no record");
    for (replaced, told) in
        [(named(ALICE + 2, None), 481), (Replaced::Nothing, 481), (named(ALICE + 1, Some(603)), 603)]
    {
        rig.legs.deliver(refer(Some(replaced)));
        assert!(
            matches!(rig.asked().await, Command::AnswerRefer { status: 202, .. }),
            "RFC 5057 section 5.1"
        );
        let Command::ReferProgress { status, .. } = rig.asked().await else { panic!("not told") };
        assert_eq!(status, told);
    }
    leg.commands.send(LegCommand::Referral(Referral::NoSuchCall)).await.unwrap();
    assert!(matches!(rig.asked().await, Command::ReferProgress { status: 481, .. }));
    // Who has proven nothing is refused as with every REFER, and learns no more.
    let mut stranger = incoming(&rig, ALICE + 3, None);
    assert!(matches!(stranger.events.recv().await, Some(LegEvent::Offered(_))));
    for replaced in [named(ALICE + 1, None), Replaced::Nothing] {
        let Event::Refer { to, .. } = refer(None) else { unreachable!() };
        let (call, replaced) = (CallId(ALICE + 3), Some(replaced));
        rig.legs.deliver(Event::Refer { call, to, replaced, referred_by: None });
        assert!(matches!(rig.asked().await, Command::AnswerRefer { status: 403, .. }));
    }
}
