//! Later exchanges of a session: hold, resume, changes, lines that come and go.

use super::*;

fn exchange(
    offerer: &mut Negotiation,
    answerer: &mut Negotiation,
    offered: &Capabilities,
    answered: &Capabilities,
) -> (Sdp, Sdp) {
    let offer = offerer.create_offer(offered, &local(4000)).unwrap();
    answerer.receive_offer(&offer.to_bytes()).unwrap();
    let (answer, _) = answerer.create_answer(answered, &local(5000), Preference::Theirs).unwrap();
    offerer.receive_answer(&answer.to_bytes()).unwrap();
    (offer, answer)
}

fn av() -> Capabilities {
    of(vec![
        entry(MediaKind::Audio, &[audio(Codec::Opus), audio(Codec::Pcmu)]),
        entry(MediaKind::Main, &[cbp(PacketizationMode::NonInterleaved), cbp(PacketizationMode::SingleNal)]),
    ])
}

#[test]
fn the_version_grows_only_with_a_change() {
    let (mut a, mut b) = (plain(), plain());
    let (offer, answer) = exchange(&mut a, &mut b, &av(), &av());
    assert_eq!((offer.origin.version, answer.origin.version), (1, 1));
    // A session refresh (RFC 4028) repeats the description word for word.
    let (again, answer) = exchange(&mut a, &mut b, &av(), &av());
    assert_eq!((again.origin.version, answer.origin.version), (1, 1));
    assert_eq!(again, offer);
    let held = directed(av(), Direction::SendOnly);
    let (hold, answer) = exchange(&mut a, &mut b, &held, &av());
    assert_eq!((hold.origin.version, answer.origin.version), (2, 2));
    assert_eq!(hold.origin.session_id, offer.origin.session_id);
    let (resume, _) = exchange(&mut a, &mut b, &av(), &av());
    assert_eq!(resume.origin.version, 3);
    assert_eq!(m_lines(&resume), m_lines(&offer));
}

#[test]
fn hold_and_resume_from_both_sides() {
    let (mut a, mut b) = (plain(), plain());
    exchange(&mut a, &mut b, &av(), &av());
    for (direction, ours, theirs) in [
        (Direction::SendOnly, Direction::SendOnly, Direction::RecvOnly),
        (Direction::Inactive, Direction::Inactive, Direction::Inactive),
        (Direction::SendRecv, Direction::SendRecv, Direction::SendRecv),
    ] {
        exchange(&mut a, &mut b, &directed(av(), direction), &av());
        assert!(a.agreed().iter().all(|line| line.direction == ours));
        assert!(b.agreed().iter().all(|line| line.direction == theirs));
        exchange(&mut b, &mut a, &directed(av(), direction), &av());
        assert!(b.agreed().iter().all(|line| line.direction == ours));
        assert!(a.agreed().iter().all(|line| line.direction == theirs));
    }
}

#[test]
fn hold_the_old_way() {
    // RFC 2543: the address says it, the direction does not.
    let mut us = plain();
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\na=sendrecv\r\n";
    let heard = us.receive_offer(offer.as_bytes()).unwrap();
    assert_eq!(heard.lines[0].direction, Direction::SendOnly);
    assert_eq!(heard.capabilities.media[0].direction, Direction::SendOnly);
    let (sdp, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    assert_eq!((agreed[0].direction, agreed[0].remote), (Direction::RecvOnly, None));
    assert!(text(&sdp).contains("a=recvonly\n"));
    us.receive_offer(&body("m=audio 5000 RTP/AVP 0\n")).unwrap();
    let (_, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    assert_eq!(agreed[0].direction, Direction::SendRecv);
    assert!(agreed[0].remote.is_some());
}

#[test]
fn a_line_that_ends_keeps_its_place_and_may_come_back() {
    let (mut a, mut b) = (plain(), plain());
    let (first, _) = exchange(&mut a, &mut b, &av(), &av());
    let audio_only = of(vec![av().media[0].clone()]);
    let (ended, answer) = exchange(&mut a, &mut b, &audio_only, &av());
    assert_eq!(m_lines(&ended)[1], m_lines(&first)[1].replace("4002", "0"));
    assert_eq!(answer.media[1].port, 0);
    assert_eq!((a.agreed().len(), b.agreed().len()), (1, 1));
    // Back again, by the other side: same place, same numbers.
    let (back, _) = exchange(&mut b, &mut a, &av(), &av());
    assert_eq!(back.media.len(), 2);
    assert_eq!(a.agreed()[1].index, 1);
    assert_eq!(
        numbers(&back, 0),
        numbers(&first, 0)[..1]
            .to_vec()
            .into_iter()
            .chain(numbers(&back, 0)[1..].iter().copied())
            .collect::<Vec<_>>()
    );
}

fn numbers(sdp: &Sdp, line: usize) -> Vec<u8> {
    sdp.media[line].payloads.iter().map(|payload| payload.number).collect()
}

#[test]
fn new_lines_take_free_places_of_their_kind_or_come_last() {
    let mut us = plain();
    // The peer began with BFCP and a camera that we refused.
    us.receive_offer(&body(
        "m=application 5070 UDP/BFCP *\nm=audio 5000 RTP/AVP 0\nm=video 5002 RTP/AVP 97\na=rtpmap:97 H264/90000\n\
         a=fmtp:97 profile-level-id=42e01f\n",
    ))
    .unwrap();
    us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    let mut all = av();
    all.media.push(entry(MediaKind::Content, &[cbp(PacketizationMode::SingleNal)]));
    let offer = us.create_offer(&all, &local(4000)).unwrap();
    let kinds: Vec<_> = offer.media.iter().map(|line| (line.role(), line.port)).collect();
    assert_eq!(
        kinds,
        [
            (None, 0),
            (Some(MediaKind::Audio), 4000),
            (Some(MediaKind::Main), 4002),
            (Some(MediaKind::Content), 4004)
        ]
    );
    assert_eq!(m_lines(&offer)[0], "m=application 0 UDP/BFCP *");
}

#[test]
fn a_refused_reoffer_leaves_the_session_as_it_was() {
    let (mut a, mut b) = (plain(), plain());
    exchange(&mut a, &mut b, &sound(&[Codec::Pcmu]), &sound(&[Codec::Pcmu]));
    let before = a.agreed().to_vec();
    let refused = a.create_offer(&av(), &local(4000)).unwrap();
    assert_eq!(refused.media.len(), 2);
    a.withdraw_offer();
    assert_eq!(a.agreed(), before);
    // The session has one line still; the description that was seen has its version used up.
    let (next, _) = exchange(&mut a, &mut b, &sound(&[Codec::Pcmu]), &sound(&[Codec::Pcmu]));
    assert_eq!((next.media.len(), next.origin.version), (1, 3));

    b.receive_offer(&body("m=audio 5000 RTP/AVP 8\n")).unwrap();
    let before = b.agreed().to_vec();
    assert!(b.create_answer(&sound(&[Codec::Pcmu]), &local(5000), Preference::Theirs).is_err());
    b.refuse_offer();
    assert_eq!(b.agreed(), before);
    exchange(&mut b, &mut a, &sound(&[Codec::Pcmu]), &sound(&[Codec::Pcmu]));
}

#[test]
fn numbers_are_stable_and_never_change_their_meaning() {
    let mut us = plain();
    let first = us.create_offer(&sound(&[Codec::Opus, Codec::Pcmu]), &local(4000)).unwrap();
    assert_eq!(numbers(&first, 0), [96, 0, 97, 101]);
    us.receive_answer(&body(
        "m=audio 5000 RTP/AVP 96 101\na=rtpmap:96 opus/48000/2\na=rtpmap:101 telephone-event/8000\n",
    ))
    .unwrap();
    // A re-offer of the peer with numbers of its own, of which 96 collides with our meaning.
    us.receive_offer(&body(
        "m=audio 5000 RTP/AVP 96 111 101\na=rtpmap:96 PCMA/8000\na=rtpmap:111 opus/48000/2\n\
         a=rtpmap:101 telephone-event/8000\n",
    ))
    .unwrap();
    let (answer, agreed) =
        us.create_answer(&sound(&[Codec::Pcma]), &local(4000), Preference::Theirs).unwrap();
    assert_eq!(agreed[0].send.payload, 96, "PCMA is 96 for the peer");
    assert_eq!(agreed[0].receive[0].payload, 8, "but Opus for us, so PCMA has its own number");
    assert_eq!(numbers(&answer, 0), [8, 101]);
    // Opus keeps 96 in what we offer next.
    let next = us.create_offer(&sound(&[Codec::Opus, Codec::Pcma]), &local(4000)).unwrap();
    assert_eq!(numbers(&next, 0), [96, 8, 97, 101]);
}

#[test]
fn the_peers_number_is_used_from_then_on() {
    let mut us = plain();
    us.receive_offer(&body("m=audio 5000 RTP/AVP 111\na=rtpmap:111 opus/48000/2\n")).unwrap();
    us.create_answer(&sound(&[Codec::Opus]), &local(4000), Preference::Theirs).unwrap();
    let offer = us.create_offer(&sound(&[Codec::Opus]), &local(4000)).unwrap();
    assert_eq!(numbers(&offer, 0)[0], 111);
}

#[test]
fn an_answer_may_be_given_twice() {
    let mut us = plain();
    us.receive_offer(&body("m=audio 5000 RTP/AVP 0\n")).unwrap();
    let early = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    let last = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    assert_eq!(early, last);
}

#[test]
fn the_standing_line_keeps_its_role() {
    let mut us = plain();
    us.receive_offer(&body("m=audio 0 RTP/AVP 0\nm=audio 5002 RTP/AVP 0\n")).unwrap();
    us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    us.receive_offer(&body("m=audio 5000 RTP/AVP 0\nm=audio 5002 RTP/AVP 0\n")).unwrap();
    let (_, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    assert_eq!(agreed.iter().map(|line| line.index).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_peer_that_forgets_its_dead_lines_is_borne_with() {
    let (mut a, mut b) = (plain(), plain());
    exchange(&mut a, &mut b, &av(), &av());
    b.receive_offer(&body("m=audio 5000 RTP/AVP 0\n")).unwrap();
    let (answer, _) = b.create_answer(&av(), &local(5000), Preference::Theirs).unwrap();
    assert_eq!(answer.media.len(), 1);
    assert_eq!(b.create_offer(&av(), &local(5000)).unwrap().media.len(), 2);
}

#[test]
fn what_stands_is_offered_again_by_either_side_and_nothing_changes() {
    let (mut a, mut b) = (plain(), plain());
    assert!(!a.repeat_offer(), "nothing stands yet");
    let (offer, answer) = exchange(&mut a, &mut b, &av(), &sound(&[Codec::Pcmu]));
    for ours in [offer, answer] {
        let before = (a.agreed()[0].send.format.clone(), b.agreed()[0].send.format.clone());
        // A refused offer is none that stands.
        a.create_offer(&directed(sound(&[Codec::Pcmu]), Direction::Inactive), &local(4000)).unwrap();
        assert!(!a.repeat_offer(), "an exchange is under way");
        a.withdraw_offer();
        assert!(a.repeat_offer());
        b.receive_offer(&ours.to_bytes()).unwrap();
        let (again, _) = b.create_answer(&sound(&[Codec::Pcmu]), &local(5000), Preference::Theirs).unwrap();
        a.receive_answer(&again.to_bytes()).unwrap();
        let after = (a.agreed()[0].send.format.clone(), b.agreed()[0].send.format.clone());
        assert_eq!(after, before);
        assert!(!a.is_pending() && !b.is_pending());
        // Then who answered offers what it answered with.
        std::mem::swap(&mut a, &mut b);
    }
}
