//! First exchanges: who offers what, who answers what, and what both then know.

use crosspoint_codecs::format::LEVEL_1B;

use super::*;
use crate::address::PeerTrust;

/// Answers `offer` with `capabilities`; panics when nothing fits.
fn answer(offer: &str, capabilities: &Capabilities) -> (Sdp, Vec<AgreedLine>) {
    let mut us = plain();
    us.receive_offer(&body(offer)).unwrap();
    us.create_answer(capabilities, &local(4000), Preference::Theirs).unwrap()
}

/// Our offer of `capabilities`, answered with `answer`.
fn answered(capabilities: &Capabilities, lines: &str) -> (Sdp, Result<Vec<AgreedLine>, NegotiationError>) {
    let mut us = plain();
    let offer = us.create_offer(capabilities, &local(4000)).unwrap();
    (offer, us.receive_answer(&body(lines)))
}

fn refused(result: Result<Vec<AgreedLine>, NegotiationError>) -> Vec<(usize, LineRefusal)> {
    match result {
        Err(NegotiationError::NothingInCommon(refusals)) => refusals.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rfc_3264_section_10_1() {
    // Alice offers one audio and two video streams; Bob takes PCMU and the second video.
    let offer = "m=audio 62986 RTP/AVP 0 4 18\na=rtpmap:0 PCMU/8000\na=rtpmap:4 G723/8000\na=rtpmap:18 G729/8000\n\
                 m=video 51372 RTP/AVP 31\na=rtpmap:31 H261/90000\nm=video 53000 RTP/AVP 32\na=rtpmap:32 MPV/90000\n";
    let (sdp, agreed) = answer(offer, &sound(&[Codec::Pcmu]));
    assert_eq!(m_lines(&sdp), ["m=audio 4000 RTP/AVP 0", "m=video 0 RTP/AVP 31", "m=video 0 RTP/AVP 32"]);
    assert_eq!(agreed.len(), 1);
    let line = &agreed[0];
    assert_eq!((line.index, line.role, line.direction), (0, MediaKind::Audio, Direction::SendRecv));
    assert_eq!(line.send, AgreedFormat { payload: 0, format: audio(Codec::Pcmu) });
    let remote = line.remote.unwrap();
    assert_eq!(remote.rtp, "192.0.2.9:62986".parse().unwrap());
    assert_eq!(remote.rtcp, Some("192.0.2.9:62987".parse().unwrap()));
    assert_eq!(remote.trust, PeerTrust::Signalling);
    assert_eq!(line.profile, Profile::Avp);
    assert!(line.srtp.is_none() && line.dtmf.is_none() && line.feedback == Feedback::default());
}

#[test]
fn rfc_3264_section_10_2_one_of_n() {
    // An answer with two codecs: what comes first is what we send, and both may come.
    let (_, agreed) =
        answered(&sound(&[Codec::Pcmu, Codec::G722, Codec::Opus]), "m=audio 49172 RTP/AVP 0 9\n");
    let line = &agreed.unwrap()[0];
    assert_eq!(line.send.payload, 0);
    assert_eq!(line.receive.iter().map(|it| it.payload).collect::<Vec<_>>(), [0, 9]);
    assert_eq!(line.received(9), Some(&audio(Codec::G722)));
    assert_eq!(line.received(96), None);
    assert_eq!(line.stream().receive, audio(Codec::Pcmu));
}

#[test]
fn our_offer_says_all_that_a_peer_must_know() {
    let mut opus = AudioFormat::new(Codec::Opus);
    (opus.fec, opus.max_bitrate) = (true, Some(32_000));
    let capabilities = Capabilities {
        media: vec![
            entry(MediaKind::Audio, &[MediaFormat::Audio(opus), audio(Codec::Pcma)]),
            entry(
                MediaKind::Main,
                &[cbp(PacketizationMode::NonInterleaved), cbp(PacketizationMode::SingleNal)],
            ),
            entry(MediaKind::Content, &[cbp(PacketizationMode::NonInterleaved)]),
        ],
        max_bitrate: Some(2_000_000),
    };
    let offer = plain().create_offer(&capabilities, &local(4000)).unwrap();
    assert_eq!(
        text(&offer),
        "v=0\no=- 7 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nb=AS:2106\nb=TIAS:2000000\nt=0 0\n\
         m=audio 4000 RTP/AVP 96 8 97 101\na=rtpmap:96 opus/48000/2\n\
         a=fmtp:96 maxaveragebitrate=32000;useinbandfec=1\na=rtpmap:8 PCMA/8000\n\
         a=rtpmap:97 telephone-event/48000\na=fmtp:97 0-15\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\n\
         a=ptime:20\na=sendrecv\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level vad=off\n\
         m=video 4002 RTP/AVP 98 99\na=rtpmap:98 H264/90000\n\
         a=fmtp:98 profile-level-id=42c01f;packetization-mode=1;level-asymmetry-allowed=1\na=rtpmap:99 H264/90000\n\
         a=fmtp:99 profile-level-id=42c01f;packetization-mode=0;level-asymmetry-allowed=1\na=rtcp-fb:* nack\n\
         a=rtcp-fb:* nack pli\na=rtcp-fb:* ccm fir\na=rtcp-fb:* ccm tmmbr\na=rtcp-fb:* goog-remb\na=sendrecv\n\
         m=video 4004 RTP/AVP 100\na=rtpmap:100 H264/90000\n\
         a=fmtp:100 profile-level-id=42c01f;packetization-mode=1;level-asymmetry-allowed=1\na=rtcp-fb:* nack\n\
         a=rtcp-fb:* nack pli\na=rtcp-fb:* ccm fir\na=rtcp-fb:* ccm tmmbr\na=rtcp-fb:* goog-remb\na=content:slides\na=sendrecv\n"
    );
}

#[test]
fn order_of_the_offer_or_our_own() {
    let offer = body("m=audio 5000 RTP/AVP 0 8 9\n");
    let ours = sound(&[Codec::G722, Codec::Pcma, Codec::Opus]);
    for (preference, chosen) in [(Preference::Theirs, Codec::Pcma), (Preference::Ours, Codec::G722)] {
        let mut us = plain();
        us.receive_offer(&offer).unwrap();
        let (sdp, agreed) = us.create_answer(&ours, &local(4000), preference).unwrap();
        assert_eq!(agreed[0].send.format.codec(), chosen);
        assert_eq!(agreed[0].receive.len(), 1);
        assert_eq!(sdp.media[0].payloads.len(), 1, "one format wins");
    }
}

#[test]
fn unknown_lines_are_refused_in_place_with_their_own_words() {
    let offer = "m=application 5070 TCP/TLS/BFCP *\na=floorctrl:c-s\nm=audio 5000 rtp/avp 0\n\
                 m=message 9 TCP/MSRP *\nm=video 5002 UDP/TLS/RTP/SAVPF 97\na=rtpmap:97 H264/90000\n\
                 m=image 5004 udptl t38\n";
    let mut us = plain();
    let offered = us.receive_offer(&body(offer)).unwrap();
    assert_eq!(
        offered.lines.iter().map(|line| line.refusal).collect::<Vec<_>>(),
        [
            Some(LineRefusal::Media),
            None,
            Some(LineRefusal::Media),
            Some(LineRefusal::Encryption),
            Some(LineRefusal::Media)
        ]
    );
    let (sdp, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
    assert_eq!(
        m_lines(&sdp),
        [
            "m=application 0 TCP/TLS/BFCP *",
            "m=audio 4000 rtp/avp 0",
            "m=message 0 TCP/MSRP *",
            "m=video 0 UDP/TLS/RTP/SAVPF 97",
            "m=image 0 udptl t38"
        ]
    );
    assert_eq!(agreed[0].index, 1);
}

#[test]
fn of_several_lines_of_a_role_one_is_taken() {
    let capabilities = of(vec![
        entry(MediaKind::Audio, &[audio(Codec::Pcma)]),
        entry(MediaKind::Main, &[cbp(PacketizationMode::SingleNal)]),
        entry(MediaKind::Content, &[cbp(PacketizationMode::SingleNal)]),
    ]);
    let h264 =
        |number: u8| format!("a=rtpmap:{number} H264/90000\na=fmtp:{number} profile-level-id=42e01f\n");
    let offer = format!(
        "m=audio 5000 RTP/AVP 0\nm=audio 5002 RTP/AVP 8\nm=audio 5004 RTP/AVP 8\nm=video 5006 RTP/AVP 97\n{}\
         m=video 5008 RTP/AVP 98\n{}a=content:slides\nm=video 5010 RTP/AVP 99\n{}",
        h264(97),
        h264(98),
        h264(99)
    );
    let (sdp, agreed) = answer(&offer, &capabilities);
    // The first audio line has nothing for us, so the second has the role.
    let ports: Vec<u16> = sdp.media.iter().map(|line| line.port).collect();
    assert_eq!(ports, [0, 4000, 0, 4002, 4004, 0]);
    let roles: Vec<_> = agreed.iter().map(|line| (line.index, line.role)).collect();
    assert_eq!(roles, [(1, MediaKind::Audio), (3, MediaKind::Main), (4, MediaKind::Content)]);
    assert_eq!(sdp.media[4].content.as_deref(), Some("slides"));
}

#[test]
fn every_order_of_roles_keeps_its_places() {
    let roles = [MediaKind::Audio, MediaKind::Main, MediaKind::Content];
    let entry_of = |role: MediaKind| match role {
        MediaKind::Audio => entry(role, &[audio(Codec::Opus)]),
        _ => entry(role, &[cbp(PacketizationMode::NonInterleaved)]),
    };
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for count in 1..=3 {
            let wanted: Vec<MediaKind> = order.iter().take(count).map(|place| roles[*place]).collect();
            let capabilities = of(wanted.iter().copied().map(entry_of).collect());
            let (mut a, mut b) = (plain(), plain());
            let offer = a.create_offer(&capabilities, &local(4000)).unwrap();
            let heard = b.receive_offer(&offer.to_bytes()).unwrap();
            assert_eq!(heard.capabilities.media.iter().map(|it| it.role).collect::<Vec<_>>(), wanted);
            // The answerer's order of entries does not matter.
            let all = of(roles.iter().rev().copied().map(entry_of).collect());
            let (answer, theirs) = b.create_answer(&all, &local(5000), Preference::Theirs).unwrap();
            let ours = a.receive_answer(&answer.to_bytes()).unwrap();
            for (place, role) in wanted.iter().enumerate() {
                assert_eq!((ours[place].role, ours[place].index), (*role, place));
                assert_eq!((theirs[place].role, theirs[place].index), (*role, place));
            }
        }
    }
}

#[test]
fn numbers_differ_each_way() {
    // The answerer calls Opus 111 and PCMA 100: so do we when we send, and expect ours.
    let (offer, agreed) = answered(
        &sound(&[Codec::Opus, Codec::Pcma]),
        "m=audio 5000 RTP/AVP 111 100 110\na=rtpmap:111 OPUS/48000/2\na=rtpmap:100 PCMA/8000\n\
         a=rtpmap:110 telephone-event/8000\n",
    );
    assert_eq!(m_lines(&offer), ["m=audio 4000 RTP/AVP 96 8 97 101"]);
    let line = &agreed.unwrap()[0];
    assert_eq!(line.send.payload, 111);
    assert_eq!(line.receive.iter().map(|it| it.payload).collect::<Vec<_>>(), [96, 8]);
    let dtmf = line.dtmf.as_ref().unwrap();
    assert_eq!((dtmf.send, dtmf.clock, dtmf.receive.as_slice()), (110, 8000, [(101, 8000)].as_slice()));
}

#[test]
fn telephone_event_of_the_clock_of_the_sound() {
    let both = "a=rtpmap:97 telephone-event/48000\na=rtpmap:101 telephone-event/8000\n";
    let opus = "a=rtpmap:96 opus/48000/2\n";
    let dtmf = |offer: &str, codec| {
        let (_, agreed) = answer(offer, &sound(&[codec]));
        agreed[0].dtmf.clone().map(|dtmf| (dtmf.send, dtmf.clock, dtmf.receive))
    };
    let offer = format!("m=audio 5000 RTP/AVP 96 0 101 97\n{opus}{both}");
    assert_eq!(dtmf(&offer, Codec::Opus), Some((97, 48_000, vec![(97, 48_000)])));
    assert_eq!(dtmf(&offer, Codec::Pcmu), Some((101, 8000, vec![(101, 8000)])));
    let common = format!("m=audio 5000 RTP/AVP 96 101\n{opus}a=rtpmap:101 telephone-event/8000\n");
    assert_eq!(dtmf(&common, Codec::Opus), Some((101, 8000, vec![(101, 8000)])));
    let wrong = "m=audio 5000 RTP/AVP 0 97\na=rtpmap:97 telephone-event/48000\n";
    assert_eq!(dtmf(wrong, Codec::Pcmu), None);
    let fax = "m=audio 5000 RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\na=fmtp:101 32-36\n";
    assert_eq!(dtmf(fax, Codec::Pcmu), None);
}

#[test]
fn packet_time_is_the_wish_of_who_receives() {
    let mut pcmu = AudioFormat::new(Codec::Pcmu);
    pcmu.ptime = std::time::Duration::from_millis(40);
    let ours = of(vec![entry(MediaKind::Audio, &[MediaFormat::Audio(pcmu)])]);
    let (sdp, agreed) = answer("m=audio 5000 RTP/AVP 0\na=ptime:30\na=maxptime:60\n", &ours);
    assert_eq!(agreed[0].ptime.as_millis(), 30);
    assert_eq!(agreed[0].stream().receive, ours.media[0].formats[0]);
    assert!(text(&sdp).contains("a=ptime:40\n"));
}

fn h264_answer(offer: &str, ours: MediaFormat) -> Result<(String, AgreedLine), NegotiationError> {
    let mut us = plain();
    us.receive_offer(&body(&format!(
        "m=video 5002 RTP/AVP 97\na=rtpmap:97 H264/90000\na=fmtp:97 {offer}\n"
    )))?;
    let capabilities = of(vec![entry(MediaKind::Main, &[ours])]);
    let (sdp, mut agreed) = us.create_answer(&capabilities, &local(4000), Preference::Theirs)?;
    Ok((sdp.media[0].payloads[0].parameters.clone().unwrap(), agreed.remove(0)))
}

fn levels(line: &AgreedLine) -> (u8, u8) {
    match (&line.send.format, &line.receive[0].format) {
        (MediaFormat::Video(send), MediaFormat::Video(receive)) => (send.level, receive.level),
        other => panic!("{other:?}"),
    }
}

#[test]
fn h264_levels_hold_for_both_ways_unless_asymmetry_is_allowed() {
    use PacketizationMode::{NonInterleaved, SingleNal};
    let ours = |level| video(H264Profile::High, level, NonInterleaved);
    let (text, line) =
        h264_answer("profile-level-id=42801f;packetization-mode=1;level-asymmetry-allowed=1", ours(40))
            .unwrap();
    assert_eq!(text, "profile-level-id=428028;packetization-mode=1;level-asymmetry-allowed=1");
    assert_eq!(levels(&line), (31, 40));
    let (text, line) = h264_answer("profile-level-id=42801f;packetization-mode=1", ours(40)).unwrap();
    assert_eq!(text, "profile-level-id=42801f;packetization-mode=1");
    assert_eq!(levels(&line), (31, 31));
    let (text, line) = h264_answer("profile-level-id=640028;packetization-mode=1", ours(31)).unwrap();
    assert_eq!((text.as_str(), levels(&line)), ("profile-level-id=64001f;packetization-mode=1", (31, 31)));
    // Level 1b lies between 1 and 1.1 whatever its number.
    let (text, line) = h264_answer("profile-level-id=42f00b;packetization-mode=1", ours(40)).unwrap();
    assert_eq!(
        (text.as_str(), levels(&line)),
        ("profile-level-id=42f00b;packetization-mode=1", (LEVEL_1B, LEVEL_1B))
    );
    let (_, line) = h264_answer("profile-level-id=42f00b;packetization-mode=1", ours(10)).unwrap();
    assert_eq!(levels(&line), (10, 10));
    // Mode and profile are no matter of degree.
    for offer in ["profile-level-id=42e01f", "profile-level-id=6e001f;packetization-mode=1"] {
        assert_eq!(h264_answer(offer, ours(31)).unwrap_err().status(), 488, "{offer}");
    }
    let cbp = video(H264Profile::ConstrainedBaseline, 31, SingleNal);
    assert!(h264_answer("profile-level-id=64001f", cbp.clone()).is_err());
    assert!(
        h264_answer("profile-level-id=42001f", cbp).is_ok(),
        "Baseline is Constrained Baseline in practice"
    );
}

#[test]
fn h264_answer_keeps_the_offered_configuration_and_says_our_limits() {
    let MediaFormat::Video(mut ours) = cbp(PacketizationMode::SingleNal) else { panic!() };
    (ours.max_fs, ours.max_mbps, ours.max_bitrate) = (Some(8192), Some(245_760), Some(1_000_000));
    let (text, line) = h264_answer(
        "profile-level-id=42801e; max-fs=3600; max-br=2000; sprop-parameter-sets=Z0IACpZTBYmI,aMljiA==",
        MediaFormat::Video(ours),
    )
    .unwrap();
    assert_eq!(text, "profile-level-id=42801e;packetization-mode=0;max-mbps=245760;max-fs=8192");
    let MediaFormat::Video(send) = &line.send.format else { panic!() };
    assert_eq!(
        (send.max_fs, send.max_bitrate, send.profile),
        (Some(3600), Some(2_000_000), H264Profile::Baseline)
    );
    let MediaFormat::Video(receive) = &line.receive[0].format else { panic!() };
    assert_eq!((receive.max_fs, receive.max_bitrate, receive.level), (Some(8192), Some(1_000_000), 30));
    assert_eq!(line.max_bitrate, Some(2_000_000));
}

#[test]
fn h264_modes_are_separate_formats() {
    let offer = "m=video 5002 RTP/AVP 96 97\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=0;profile-level-id=42e01f\n\
                 a=rtpmap:97 H264/90000\na=fmtp:97 packetization-mode=1;profile-level-id=42e01f\n";
    for (mode, number) in [(PacketizationMode::SingleNal, 96), (PacketizationMode::NonInterleaved, 97)] {
        let (_, agreed) = answer(offer, &of(vec![entry(MediaKind::Main, &[cbp(mode)])]));
        assert_eq!((agreed[0].send.payload, &agreed[0].send.format), (number, &cbp(mode)));
    }
    // Who answers mode 0 to our mode 1 gets mode 0, and may send either to us.
    let ours = of(vec![entry(MediaKind::Main, &[cbp(PacketizationMode::NonInterleaved)])]);
    let (_, agreed) = answered(
        &ours,
        "m=video 5002 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 profile-level-id=42e01f\n",
    );
    let line = &agreed.unwrap()[0];
    assert_eq!(line.send.format, cbp(PacketizationMode::SingleNal));
    assert_eq!(line.receive[0].format, cbp(PacketizationMode::NonInterleaved));
}

#[test]
fn feedback_is_what_both_allow() {
    let ours = of(vec![entry(MediaKind::Main, &[cbp(PacketizationMode::SingleNal)])]);
    let h264 = "m=video 5002 RTP/AVPF 97 98\na=rtpmap:97 H264/90000\na=fmtp:97 profile-level-id=42e01f\n";
    let (sdp, agreed) = answer(
        &format!(
            "{h264}a=rtcp-fb:* nack pli\na=rtcp-fb:97 ccm fir\na=rtcp-fb:98 nack\na=rtcp-fb:* goog-remb\n"
        ),
        &ours,
    );
    let expected = Feedback { pli: true, fir: true, remb: true, ..Feedback::default() };
    assert_eq!((agreed[0].feedback, agreed[0].profile), (expected, Profile::Avpf));
    let lines: Vec<String> =
        text(&sdp).lines().filter(|line| line.contains("rtcp-fb")).map(str::to_owned).collect();
    assert_eq!(lines, ["a=rtcp-fb:* nack pli", "a=rtcp-fb:* ccm fir", "a=rtcp-fb:* goog-remb"]);
    let (_, agreed) =
        answered(&ours, &format!("{h264}a=rtcp-fb:97 nack\na=rtcp-fb:* ccm tmmbr smaxpr=120\n"));
    assert_eq!(agreed.unwrap()[0].feedback, Feedback { nack: true, tmmbr: true, ..Feedback::default() });
}

#[test]
fn rates_towards_the_peer() {
    let ours = of(vec![entry(MediaKind::Main, &[cbp(PacketizationMode::SingleNal)])]);
    let rate = |session: &str, line: &str| {
        let mut us = plain();
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\n{session}t=0 0\r\nm=video 5002 RTP/AVP 97\r\n\
             {line}a=rtpmap:97 H264/90000\r\na=fmtp:97 profile-level-id=42e01f\r\n"
        );
        let offered = us.receive_offer(offer.as_bytes()).unwrap();
        let (_, agreed) = us.create_answer(&ours, &local(4000), Preference::Theirs).unwrap();
        (offered.capabilities.max_bitrate, agreed[0].max_bitrate)
    };
    assert_eq!(rate("", ""), (None, None));
    assert_eq!(rate("b=AS:2000\r\n", "b=TIAS:512000\r\n"), (Some(1_900_000), Some(512_000)));
    assert_eq!(rate("b=TIAS:384000\r\n", "b=AS:1000\r\n"), (Some(384_000), Some(384_000)));
}

#[test]
fn rtcp_shares_the_port_only_when_both_say_so() {
    let mut muxing = local(4000);
    muxing[0].rtcp_mux = true;
    let offer = "m=audio 5000 RTP/AVP 0\na=rtcp-mux\n";
    for (ours, muxed) in [(&muxing, true), (&local(4000), false)] {
        let mut us = plain();
        us.receive_offer(&body(offer)).unwrap();
        let (sdp, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), ours, Preference::Theirs).unwrap();
        assert_eq!((agreed[0].rtcp_mux, sdp.media[0].rtcp_mux), (muxed, muxed));
        let port = if muxed { 5000 } else { 5001 };
        assert_eq!(agreed[0].remote.unwrap().rtcp.unwrap().port(), port);
    }
    // RTCP elsewhere than at the next port is said so.
    let mut apart = local(4000);
    apart[0].rtcp = Some("192.0.2.1:4700".parse().unwrap());
    let sdp = plain().create_offer(&sound(&[Codec::Pcmu]), &apart).unwrap();
    assert!(text(&sdp).contains("a=rtcp:4700\n"));
    apart[0].rtcp = Some("[2001:db8::1]:4001".parse().unwrap());
    let sdp = plain().create_offer(&sound(&[Codec::Pcmu]), &apart).unwrap();
    assert!(text(&sdp).contains("a=rtcp:4001 IN IP6 2001:db8::1\n"));
}

#[test]
fn directions_meet() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    for (offered, ours, expected) in [
        (SendRecv, SendRecv, SendRecv),
        (SendOnly, SendRecv, RecvOnly),
        (RecvOnly, SendRecv, SendOnly),
        (Inactive, SendRecv, Inactive),
        (SendRecv, RecvOnly, RecvOnly),
        (SendOnly, SendOnly, Inactive),
        (RecvOnly, SendOnly, SendOnly),
    ] {
        let (mut a, mut b) = (plain(), plain());
        let offer = a.create_offer(&directed(sound(&[Codec::Pcmu]), offered), &local(4000)).unwrap();
        let heard = b.receive_offer(&offer.to_bytes()).unwrap();
        assert_eq!(heard.capabilities.media[0].direction, offered);
        let ours = directed(sound(&[Codec::Pcmu]), ours);
        let (answer, theirs) = b.create_answer(&ours, &local(5000), Preference::Theirs).unwrap();
        assert_eq!(theirs[0].direction, expected);
        assert_eq!(a.receive_answer(&answer.to_bytes()).unwrap()[0].direction, expected.reversed());
    }
}

#[test]
fn version_6_media() {
    let mut us = plain();
    us.set_peer(PeerPolicy::strict(ip("2001:db8::9")));
    us.receive_offer(
        b"v=0\r\no=- 1 1 IN IP6 2001:db8::9\r\ns=-\r\nc=IN IP6 2001:db8::9\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n",
    )
    .unwrap();
    let mut media = local(4000);
    media[0].rtp = "[2001:db8::1]:4000".parse().unwrap();
    media[0].rtcp = Some("[2001:db8::1]:4001".parse().unwrap());
    let (sdp, agreed) = us.create_answer(&sound(&[Codec::Pcmu]), &media, Preference::Theirs).unwrap();
    assert!(text(&sdp).contains("m=audio 4000 RTP/AVP 0\nc=IN IP6 2001:db8::1\n"));
    assert_eq!(agreed[0].remote.unwrap().rtp, "[2001:db8::9]:5000".parse().unwrap());
}

#[test]
fn media_addresses_that_we_do_not_send_to() {
    let refusal = |address: &str| {
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc={address}\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n"
        );
        plain().receive_offer(offer.as_bytes()).map(|offer| offer.lines[0].remote.unwrap().trust)
    };
    for address in [
        "IN IP4 127.0.0.1",
        "IN IP4 169.254.169.254",
        "IN IP4 224.2.1.1/127",
        "IN IP4 255.255.255.255",
        "IN IP4 0.0.0.1",
        "IN IP6 ::1",
        "IN IP6 fe80::1",
        "IN IP6 ff02::1",
        "IN IP6 ::ffff:127.0.0.1",
        "IN IP6 64:ff9b::7f00:1",
        "IN IP6 2002:7f00:1::",
        "IN IP4 media.example.org",
    ] {
        let error = refusal(address).unwrap_err();
        assert_eq!(error.status(), 488, "{address}: {error}");
    }
    assert_eq!(refusal("IN IP4 192.0.2.9").unwrap(), PeerTrust::Signalling);
    assert_eq!(refusal("IN IP4 10.0.0.7").unwrap(), PeerTrust::Foreign);

    // The address of RTCP is judged as well.
    let mut us = plain();
    let offer = body("m=audio 5000 RTP/AVP 0\na=rtcp:53 IN IP4 127.0.0.1\n");
    assert!(matches!(us.receive_offer(&offer), Err(NegotiationError::NothingInCommon(_))));
    let (_, agreed) = answered(&sound(&[Codec::Pcmu]), "m=audio 5000 RTP/AVP 0\nc=IN IP4 127.0.0.1\n");
    assert!(matches!(refused(agreed).as_slice(), [(0, LineRefusal::Address(_))]));
}

#[test]
fn nothing_in_common_says_why() {
    let mut us = plain();
    us.receive_offer(&body("m=audio 5000 RTP/AVP 0\nm=video 5002 RTP/AVP 31\n")).unwrap();
    let error = us.create_answer(&sound(&[Codec::Opus]), &local(4000), Preference::Theirs).unwrap_err();
    assert_eq!(error.status(), 488);
    assert_eq!(
        error.to_string(),
        "nothing in common (m-line 0: no common format, m-line 1: no common format)"
    );
    us.refuse_offer();
    assert!(!us.is_pending());

    assert_eq!(plain().receive_offer(b"v=0\r\nnonsense\r\n").unwrap_err().status(), 400);
    assert_eq!(plain().receive_offer(&body("m=audio 5000 RTP/AVP 18\n")).unwrap_err().status(), 488);
    assert_eq!(
        refused(answered(&sound(&[Codec::Pcmu]), "m=audio 0 RTP/AVP 0\n").1),
        [(0, LineRefusal::Disabled)]
    );
    assert_eq!(refused(answered(&sound(&[Codec::Pcmu]), "").1), [(0, LineRefusal::Disabled)]);
    assert_eq!(
        refused(answered(&sound(&[Codec::Pcmu]), "m=audio 5 RTP/AVP 8\n").1),
        [(0, LineRefusal::Format)]
    );
    assert_eq!(
        refused(answered(&sound(&[Codec::Pcmu]), "m=video 5 RTP/AVP 0\n").1),
        [(0, LineRefusal::Media)]
    );
}

#[test]
fn offers_without_live_lines_are_answered() {
    for lines in ["", "m=audio 0 RTP/AVP 0\n"] {
        let mut us = plain();
        assert!(us.receive_offer(&body(lines)).unwrap().capabilities.media.is_empty());
        let (sdp, agreed) =
            us.create_answer(&sound(&[Codec::Pcmu]), &local(4000), Preference::Theirs).unwrap();
        assert!(agreed.is_empty() && sdp.media.iter().all(|line| line.port == 0));
    }
}

#[test]
fn a_caller_that_asks_wrongly_is_told() {
    let mut us = plain();
    assert!(matches!(us.receive_answer(&body("")), Err(NegotiationError::NoOffer)));
    assert!(us.create_answer(&sound(&[Codec::Pcmu]), &[], Preference::Ours).is_err());
    assert!(matches!(
        us.create_offer(&sound(&[Codec::Pcmu]), &[]),
        Err(NegotiationError::NoLocalMedia(MediaKind::Audio))
    ));
    assert!(matches!(
        us.create_offer(
            &of(vec![entry(MediaKind::Audio, &[cbp(PacketizationMode::SingleNal)])]),
            &local(4000)
        ),
        Err(NegotiationError::NoFormats(MediaKind::Audio))
    ));
    us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)).unwrap();
    assert!(matches!(us.create_offer(&sound(&[Codec::Pcmu]), &local(4000)), Err(NegotiationError::Pending)));
    assert_eq!(us.receive_offer(&body("m=audio 5000 RTP/AVP 0\n")).unwrap_err().status(), 491);
    us.withdraw_offer();
    us.receive_offer(&body("m=audio 5000 RTP/AVP 0\n")).unwrap();
    assert!(us.owes_answer());
    assert_eq!(us.receive_offer(&body("m=audio 5000 RTP/AVP 0\n")).unwrap_err().status(), 500);
}

#[test]
fn each_fork_has_its_own_agreement() {
    let mut first = plain();
    first.create_offer(&sound(&[Codec::Opus, Codec::Pcmu]), &local(4000)).unwrap();
    let mut second = first.clone();
    first.receive_answer(&body("m=audio 5000 RTP/AVP 0\n")).unwrap();
    second.receive_answer(&body("m=audio 6000 RTP/AVP 96\na=rtpmap:96 opus/48000/2\n")).unwrap();
    assert_eq!(first.agreed()[0].send.format.codec(), Codec::Pcmu);
    assert_eq!(second.agreed()[0].send.format.codec(), Codec::Opus);
    // The final response repeats the answer, sometimes with another port.
    let again = first.receive_answer(&body("m=audio 5008 RTP/AVP 0\n")).unwrap();
    assert_eq!(again[0].remote.unwrap().rtp.port(), 5008);
}
