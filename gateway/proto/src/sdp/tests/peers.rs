//! Offers of real programs. Those in files were captured, the others follow their format.

use super::*;
use crate::address::PeerTrust;

const BARESIP: &[u8] = include_bytes!("../../../../../fixtures/sdp/baresip-srtp.sdp");
const BARESIP_MANDATORY: &[u8] = include_bytes!("../../../../../fixtures/sdp/baresip-srtp-mand.sdp");

const BARESIP_ANSWER: &[u8] = include_bytes!("../../../../../fixtures/sdp/baresip-answer.sdp");
const BARESIP_ANSWER_SRTP: &[u8] = include_bytes!("../../../../../fixtures/sdp/baresip-answer-srtp.sdp");

fn at(address: &str, encryption: Encryption) -> Negotiation {
    let peer = PeerPolicy::strict(ip(address));
    Negotiation::new(SessionParameters {
        session_id: 7,
        address: ip("192.0.2.1"),
        encryption,
        certificate: None,
        peer,
    })
}

fn everything() -> Capabilities {
    of(vec![
        entry(MediaKind::Audio, &[Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma].map(audio)),
        entry(MediaKind::Main, &[cbp(PacketizationMode::NonInterleaved), cbp(PacketizationMode::SingleNal)]),
    ])
}

#[test]
fn baresip_with_optional_and_with_mandatory_encryption() {
    let tls = |policy| Encryption { policy, secure_signalling: true, allow_insecure: false };
    for (offer, policy, encrypted) in [
        (BARESIP, EncryptionPolicy::None, Some(false)),
        (BARESIP, EncryptionPolicy::BestEffort, Some(true)),
        (BARESIP, EncryptionPolicy::Required, None),
        (BARESIP_MANDATORY, EncryptionPolicy::None, None),
        (BARESIP_MANDATORY, EncryptionPolicy::BestEffort, Some(true)),
        (BARESIP_MANDATORY, EncryptionPolicy::Required, Some(true)),
    ] {
        let mut us = at("127.0.0.1", tls(policy));
        let answer = us
            .receive_offer(offer)
            .and_then(|_| us.create_answer(&everything(), &local(4000), Preference::Theirs));
        let srtp = answer.ok().map(|(_, agreed)| {
            assert_eq!(agreed.len(), 2);
            agreed.iter().all(|line| line.srtp.is_some())
        });
        assert_eq!(srtp, encrypted, "{policy:?}");
    }
}

#[test]
fn baresip_offers_both_packetization_modes() {
    let mut us = at("127.0.0.1", Encryption::default());
    let offer = us.receive_offer(BARESIP).unwrap();
    let codecs: Vec<Codec> = offer.capabilities.media[0].formats.iter().map(MediaFormat::codec).collect();
    assert_eq!(codecs, [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma]);
    let modes = [cbp(PacketizationMode::SingleNal), cbp(PacketizationMode::NonInterleaved)];
    assert_eq!(offer.capabilities.media[1].formats, modes);

    let (sdp, agreed) = us.create_answer(&everything(), &local(4000), Preference::Ours).unwrap();
    assert_eq!(m_lines(&sdp), ["m=audio 4000 RTP/AVP 96 101", "m=video 4002 RTP/AVP 97"]);
    let [sound, picture] = agreed.as_slice() else { panic!("{agreed:?}") };
    let MediaFormat::Audio(opus) = &sound.send.format else { panic!() };
    assert_eq!((opus.channels, opus.fec, sound.ptime.as_millis()), (2, false, 20));
    assert_eq!(sound.dtmf.as_ref().map(|dtmf| (dtmf.send, dtmf.clock)), Some((101, 8000)));
    assert_eq!(picture.send.format, cbp(PacketizationMode::NonInterleaved));
    assert_eq!(picture.feedback, Feedback { pli: true, ..Feedback::default() });
    assert_eq!(picture.remote.unwrap().rtp, "127.0.0.1:26038".parse().unwrap());
    assert_eq!(picture.remote.unwrap().trust, PeerTrust::Signalling);
}

#[test]
fn baresip_answers_our_best_effort() {
    // It keeps all formats that it knows and refuses the second picture.
    let mut capabilities = of(vec![
        entry(MediaKind::Audio, &[Codec::Opus, Codec::Pcma].map(audio)),
        entry(MediaKind::Main, &[cbp(PacketizationMode::NonInterleaved), cbp(PacketizationMode::SingleNal)]),
        entry(MediaKind::Content, &[cbp(PacketizationMode::NonInterleaved)]),
    ]);
    capabilities.max_bitrate = Some(2_000_000);
    let encryption = Encryption { secure_signalling: true, ..Encryption::default() };
    for (answer, encrypted) in [(BARESIP_ANSWER, false), (BARESIP_ANSWER_SRTP, true)] {
        let mut us = at("127.0.0.1", encryption);
        let offer = us.create_offer(&capabilities, &local(4000)).unwrap();
        assert_eq!(
            m_lines(&offer),
            ["m=audio 4000 RTP/AVP 96 8 97 101", "m=video 4002 RTP/AVP 98 99", "m=video 4004 RTP/AVP 100"]
        );
        // It was recorded when its suite was the only one that we offered.
        let answer = std::str::from_utf8(answer).unwrap().replace("crypto:1 AES_CM", "crypto:3 AES_CM");
        let agreed = us.receive_answer(answer.as_bytes()).unwrap();
        assert_eq!(
            agreed.iter().map(|line| line.role).collect::<Vec<_>>(),
            [MediaKind::Audio, MediaKind::Main]
        );
        assert!(agreed.iter().all(|line| line.srtp.is_some() == encrypted && line.profile == Profile::Avp));
        let numbers = |line: &AgreedLine| line.receive.iter().map(|it| it.payload).collect::<Vec<_>>();
        assert_eq!((numbers(&agreed[0]), numbers(&agreed[1])), (vec![96, 8], vec![98, 99]));
        assert_eq!(agreed[0].dtmf.as_ref().map(|dtmf| (dtmf.send, dtmf.clock)), Some((101, 8000)));
        assert_eq!(agreed[1].send.format, cbp(PacketizationMode::NonInterleaved));
        assert_eq!(agreed[1].feedback, Feedback { pli: true, ..Feedback::default() });
        // The dead place is there for the next offer of slides.
        assert_eq!(us.create_offer(&capabilities, &local(4000)).unwrap().media.len(), 3);
    }
}

#[test]
fn sipp_default_scenario() {
    let mut us = at("127.0.1.1", Encryption::default());
    us.receive_offer(
        b"v=0\r\no=user1 53655765 2353687637 IN IP4 127.0.1.1\r\ns=-\r\nc=IN IP4 127.0.1.1\r\nt=0 0\r\n\
          m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n",
    )
    .unwrap();
    let (sdp, agreed) = us.create_answer(&everything(), &local(4000), Preference::Ours).unwrap();
    assert_eq!(agreed[0].send.format, audio(Codec::Pcmu));
    assert_eq!(m_lines(&sdp), ["m=audio 4000 RTP/AVP 0"]);
}

#[test]
fn linphone_style() {
    // Session level bandwidth, AVPF, events at both clocks, feedback per payload type.
    let mut us = at("192.0.2.9", Encryption::default());
    let offer = us
        .receive_offer(
            b"v=0\r\no=bob 2345 1234 IN IP4 192.0.2.9\r\ns=Talk\r\nc=IN IP4 192.0.2.9\r\nb=AS:1500\r\nt=0 0\r\n\
              a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics\r\n\
              m=audio 7078 RTP/AVPF 96 97 98 0 8 101 99 100\r\na=rtpmap:96 opus/48000/2\r\n\
              a=fmtp:96 useinbandfec=1\r\na=rtpmap:97 speex/16000\r\na=fmtp:97 vbr=on\r\na=rtpmap:98 speex/8000\r\n\
              a=rtpmap:101 telephone-event/48000\r\na=rtpmap:99 telephone-event/16000\r\n\
              a=rtpmap:100 telephone-event/8000\r\na=rtcp-fb:* trr-int 5000\r\na=rtcp-fb:* ccm tmmbr\r\n\
              m=video 9078 RTP/AVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 H264/90000\r\n\
              a=fmtp:97 profile-level-id=42801F\r\na=rtcp-fb:* trr-int 5000\r\na=rtcp-fb:* ccm tmmbr\r\n\
              a=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:97 nack pli\r\na=rtcp-fb:97 ccm fir\r\n",
        )
        .unwrap();
    assert_eq!(offer.capabilities.max_bitrate, Some(1_425_000));
    let (sdp, agreed) = us.create_answer(&everything(), &local(4000), Preference::Theirs).unwrap();
    assert_eq!(m_lines(&sdp), ["m=audio 4000 RTP/AVPF 96 101", "m=video 4002 RTP/AVPF 97"]);
    assert_eq!(agreed[0].dtmf.as_ref().map(|dtmf| (dtmf.send, dtmf.clock)), Some((101, 48_000)));
    assert!(matches!(&agreed[0].send.format, MediaFormat::Audio(opus) if opus.fec));
    let feedback = Feedback { pli: true, fir: true, tmmbr: true, ..Feedback::default() };
    assert_eq!((agreed[1].feedback, agreed[1].max_bitrate), (feedback, Some(1_425_000)));
    // The profile is repeated as it was spelled.
    assert!(text(&sdp).contains("a=fmtp:97 profile-level-id=42801f;packetization-mode=0\n"));
}

#[test]
fn room_system_style() {
    // A camera, slides, BFCP and far-end camera control; several H.264 profiles; the m-line of
    // the slides comes behind lines that we refuse.
    let fmtp = |number: u8, id: &str, more: &str| {
        format!("a=rtpmap:{number} H264/90000\na=fmtp:{number} profile-level-id={id};{more}\n")
    };
    let offer = format!(
        "b=AS:4096\na=label:none\nm=audio 2326 RTP/AVP 114 9 8 0 101\nb=TIAS:128000\na=rtpmap:114 opus/48000/2\n\
         a=fmtp:114 maxplaybackrate=48000;maxaveragebitrate=64000;stereo=1\na=rtpmap:9 G722/8000\n\
         a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\nm=video 2328 RTP/AVP 97 126\nb=TIAS:4000000\n{}{}\
         a=rtcp-fb:* nack pli\na=rtcp-fb:* ccm fir\na=rtcp-fb:* ccm tmmbr\na=content:main\na=label:11\n\
         m=application 5070 UDP/BFCP *\na=floorctrl:c-s\na=confid:1\na=floorid:2 mstrm:12\na=userid:2\n\
         m=video 2330 RTP/AVP 97\n{}a=content:slides\na=label:12\nm=application 2332 RTP/AVP 100\n\
         a=rtpmap:100 H224/4800\n",
        fmtp(97, "428016", "packetization-mode=1;max-br=5000;max-mbps=245000;max-fs=9000;max-smbps=245000"),
        fmtp(126, "64e016", "packetization-mode=1;max-br=5000;max-mbps=245000;max-fs=9000"),
        fmtp(97, "428016", "packetization-mode=1;max-mbps=108000;max-fs=3600"),
    );
    let mut us = at("192.0.2.9", Encryption::default());
    us.receive_offer(&body(&offer.replacen("b=AS:4096\na=label:none\n", "", 1))).unwrap();
    let mut capabilities = everything();
    capabilities.media.push(entry(MediaKind::Content, &[cbp(PacketizationMode::NonInterleaved)]));
    let (sdp, agreed) = us.create_answer(&capabilities, &local(4000), Preference::Theirs).unwrap();
    assert_eq!(
        m_lines(&sdp),
        [
            "m=audio 4000 RTP/AVP 114 101",
            "m=video 4002 RTP/AVP 97",
            "m=application 0 UDP/BFCP *",
            "m=video 4004 RTP/AVP 97",
            "m=application 0 RTP/AVP 100"
        ]
    );
    assert_eq!(agreed[2].role, MediaKind::Content);
    let MediaFormat::Video(camera) = &agreed[1].send.format else { panic!() };
    assert_eq!((camera.level, camera.max_fs, camera.max_mbps), (22, Some(9000), Some(245_000)));
    assert_eq!(camera.max_bitrate, Some(4_000_000));
    assert_eq!(agreed[0].max_bitrate, Some(64_000));
}
