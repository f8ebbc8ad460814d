//! What holds for all exchanges, ours and hostile ones.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

fn any_audio() -> impl Strategy<Value = MediaFormat> {
    let codec = select(vec![Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma]);
    let bitrate = prop::option::of(6_000_u32..510_000);
    (codec, any::<[bool; 3]>(), bitrate).prop_map(|(codec, [fec, dtx, stereo], bitrate)| {
        let mut format = AudioFormat::new(codec);
        if codec == Codec::Opus {
            (format.fec, format.dtx, format.max_bitrate) = (fec, dtx, bitrate);
            format.channels = if stereo { 2 } else { 1 };
        }
        MediaFormat::Audio(format)
    })
}

fn any_video() -> impl Strategy<Value = MediaFormat> {
    use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
    let profile = select(vec![ConstrainedBaseline, Baseline, Main, ConstrainedHigh, High]);
    let level = select(vec![9_u8, 10, 11, 13, 22, 31, 40, 52]);
    let mode = select(vec![PacketizationMode::SingleNal, PacketizationMode::NonInterleaved]);
    let more = || prop::option::of(1_u32..1_000_000);
    (profile, level, mode, more(), more(), prop::option::of(1_000_u32..20_000_000)).prop_map(
        |(profile, level, mode, max_fs, max_mbps, max_bitrate)| {
            MediaFormat::Video(VideoFormat {
                codec: Codec::H264,
                profile,
                level,
                mode,
                max_bitrate,
                max_fs,
                max_mbps,
            })
        },
    )
}

fn any_direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive])
}

fn any_capabilities() -> impl Strategy<Value = Capabilities> {
    let entry = |role: MediaKind| {
        let formats = if role.is_video() {
            prop::collection::vec(any_video(), 1..4).boxed()
        } else {
            let ptime = select(vec![10_u64, 20, 40, 60]);
            (prop::collection::vec(any_audio(), 1..5), ptime)
                .prop_map(|(mut formats, ptime)| {
                    // One m-line has one packet time.
                    for format in &mut formats {
                        if let MediaFormat::Audio(audio) = format {
                            audio.ptime = Duration::from_millis(ptime);
                        }
                    }
                    formats
                })
                .boxed()
        };
        (formats, any_direction()).prop_map(move |(formats, direction)| MediaCapability {
            role,
            direction,
            formats,
        })
    };
    let entries = (entry(MediaKind::Audio), entry(MediaKind::Main), entry(MediaKind::Content));
    (entries, subsequence(vec![0, 1, 2], 1..=3).prop_shuffle(), prop::option::of(64_000_u32..8_000_000))
        .prop_map(|((audio, main, content), places, max_bitrate)| {
            let all = [audio, main, content];
            Capabilities {
                media: places.into_iter().map(|place: usize| all[place].clone()).collect(),
                max_bitrate,
            }
        })
}

fn any_encryption() -> impl Strategy<Value = Encryption> {
    let policy =
        select(vec![EncryptionPolicy::None, EncryptionPolicy::BestEffort, EncryptionPolicy::Required]);
    (policy, any::<bool>()).prop_map(|(policy, secure_signalling)| Encryption {
        policy,
        secure_signalling,
        allow_insecure: false,
    })
}

fn negotiation(encryption: Encryption) -> Negotiation {
    let peer = PeerPolicy::strict(ip("192.0.2.1"));
    Negotiation::new(SessionParameters {
        session_id: 7,
        address: ip("192.0.2.1"),
        encryption,
        certificate: None,
        peer,
    })
}

fn any_local(port: u16) -> impl Strategy<Value = Vec<LocalMedia>> {
    any::<[bool; 3]>().prop_map(move |muxes| {
        let mut media = local(port);
        for (media, mux) in media.iter_mut().zip(muxes) {
            media.rtcp_mux = mux;
        }
        media
    })
}

/// What we write is read as we meant it. Of dead lines the m-line counts: static payload types
/// have a meaning there without being told.
fn reads_back(sdp: &Sdp) -> Result<(), TestCaseError> {
    let mut again = Sdp::parse(&sdp.to_bytes()).unwrap();
    for line in again.media.iter_mut().filter(|line| line.port == 0) {
        *line = MediaLine::disabled(&line.media, &line.protocol, line.formats.clone());
    }
    prop_assert_eq!(&again, sdp);
    Ok(())
}

/// One exchange; what both sides know afterwards must be the same from two ends.
fn mirror(
    a: &mut Negotiation,
    b: &mut Negotiation,
    (offered, at_a): (&Capabilities, &[LocalMedia]),
    (answered, at_b): (&Capabilities, &[LocalMedia]),
    preference: Preference,
) -> Result<(), TestCaseError> {
    let Ok(offer) = a.create_offer(offered, at_a) else {
        prop_assert!(a.parameters().encryption.policy == EncryptionPolicy::Required);
        return Ok(());
    };
    reads_back(&offer)?;
    let before = (a.agreed().to_vec(), b.agreed().to_vec());
    let answer = b.receive_offer(&offer.to_bytes()).and_then(|_| b.create_answer(answered, at_b, preference));
    let (answer, theirs) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            prop_assert_eq!(error.status(), 488);
            b.refuse_offer();
            a.withdraw_offer();
            prop_assert_eq!(before, (a.agreed().to_vec(), b.agreed().to_vec()));
            return Ok(());
        }
    };
    reads_back(&answer)?;
    prop_assert_eq!(answer.media.len(), offer.media.len());
    let ours = a.receive_answer(&answer.to_bytes()).unwrap();
    prop_assert_eq!(ours.len(), theirs.len());
    for (one, other) in ours.iter().zip(&theirs) {
        prop_assert_eq!((one.index, one.role), (other.index, other.role));
        prop_assert_eq!(one.direction, other.direction.reversed());
        prop_assert_eq!(&one.send, &other.receive[0]);
        prop_assert_eq!(&other.send, &one.receive[0]);
        prop_assert_eq!((one.receive.len(), other.receive.len()), (1, 1));
        prop_assert_eq!(
            (one.rtcp_mux, one.feedback, one.profile),
            (other.rtcp_mux, other.feedback, other.profile)
        );
        match (&one.srtp, &other.srtp) {
            (Some(one), Some(other)) => {
                prop_assert_eq!((&one.local, &one.remote), (&other.remote, &other.local));
            }
            (one, other) => prop_assert!(one.is_none() && other.is_none()),
        }
        match (&one.dtmf, &other.dtmf) {
            (Some(one), Some(other)) => {
                prop_assert_eq!((one.send, one.clock), other.receive[0]);
                prop_assert_eq!((other.send, other.clock), one.receive[0]);
            }
            (one, other) => prop_assert!(one.is_none() && other.is_none()),
        }
        prop_assert_eq!(one.dtmf.is_some(), !one.role.is_video());
        // What we send is something that the other side said it can receive.
        let said = answered.media.iter().find(|entry| entry.role == one.role).unwrap();
        prop_assert!(said.formats.iter().any(|format| format.codec() == one.send.format.codec()));
        let at = at_b.iter().find(|media| media.role == one.role).unwrap();
        prop_assert_eq!(one.remote.unwrap().rtp, at.rtp);
        prop_assert_eq!(one.remote.unwrap().rtcp, if one.rtcp_mux { Some(at.rtp) } else { at.rtcp });
    }
    Ok(())
}

fn preference() -> impl Strategy<Value = Preference> {
    select(vec![Preference::Ours, Preference::Theirs])
}

proptest! {
    #[test]
    fn both_sides_agree(
        encryption in (any_encryption(), any_encryption()),
        rounds in prop::collection::vec(
            (any_capabilities(), any_local(4000), any_capabilities(), any_local(5000), preference(), any::<bool>()),
            1..5,
        ),
    ) {
        let (mut a, mut b) = (negotiation(encryption.0), negotiation(encryption.1));
        let mut places: Vec<String> = Vec::new();
        for (offered, at_a, answered, at_b, preference, swap) in &rounds {
            let (one, other) = if *swap { (&mut b, &mut a) } else { (&mut a, &mut b) };
            mirror(one, other, (offered, at_a), (answered, at_b), *preference)?;
            // Lines never change their media type, and never become fewer.
            let now = a.agreed().iter().map(|line| (line.index, line.role)).collect::<Vec<_>>();
            for (index, role) in now {
                let media = if role.is_video() { "video" } else { "audio" };
                while places.len() <= index {
                    places.push(String::new());
                }
                prop_assert!(places[index].is_empty() || places[index] == media);
                places[index] = media.to_owned();
            }
        }
    }

    #[test]
    fn hostile_descriptions_never_panic(
        offer in prop::collection::vec(hostile(), 0..30),
        answer in prop::collection::vec(hostile(), 0..30),
        capabilities in any_capabilities(),
        encryption in any_encryption(),
    ) {
        let mut us = negotiation(encryption);
        let full = |parts: &[&str]| format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n{}", parts.concat());
        if us.receive_offer(full(&offer).as_bytes()).is_ok()
            && let Ok((sdp, agreed)) = us.create_answer(&capabilities, &local(4000), Preference::Theirs)
        {
            prop_assert_eq!(sdp.media.iter().filter(|line| line.port != 0).count(), agreed.len());
            reads_back(&sdp)?;
        }
        us.refuse_offer();
        if us.create_offer(&capabilities, &local(4000)).is_ok() {
            let _ = us.receive_answer(full(&answer).as_bytes());
            us.withdraw_offer();
            let _ = us.create_offer(&capabilities, &local(4000));
        }
    }
}

fn hostile() -> impl Strategy<Value = &'static str> {
    select(vec![
        "m=audio 5000 RTP/AVP 0 96 97\r\n",
        "m=audio 0 RTP/AVP 0\r\n",
        "m=audio 65535 RTP/SAVP 96 8\r\n",
        "m=video 5002 RTP/AVPF 96 97 98\r\n",
        "m=video 5004 RTP/AVP 97\r\n",
        "m=application 9 UDP/BFCP *\r\n",
        "m=audio 1 UDP/TLS/RTP/SAVPF 0\r\n",
        "m=video 5006 RTP/AVP\r\n",
        "a=rtpmap:96 opus/48000/2\r\n",
        "a=rtpmap:97 H264/90000\r\n",
        "a=rtpmap:96 H264/90000\r\n",
        "a=rtpmap:98 h264/90000\r\n",
        "a=rtpmap:97 telephone-event/8000\r\n",
        "a=rtpmap:0 telephone-event/48000\r\n",
        "a=fmtp:97 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1\r\n",
        "a=fmtp:98 profile-level-id=ffffff;max-fs=4294967295;max-br=4294967295\r\n",
        "a=fmtp:96 maxaveragebitrate=4294967295;minptime=4294967295\r\n",
        "a=ptime:0.001\r\n",
        "a=maxptime:1\r\n",
        "a=sendonly\r\n",
        "a=inactive\r\n",
        "a=content:slides\r\n",
        "a=rtcp-mux\r\n",
        "a=rtcp:1 IN IP4 127.0.0.1\r\n",
        "a=rtcp-fb:* nack pli\r\n",
        "b=AS:18446744073709551615\r\n",
        "b=TIAS:0\r\n",
        "c=IN IP4 0.0.0.0\r\n",
        "c=IN IP6 ::1\r\n",
        "c=IN IP4 192.0.2.1\r\n",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n",
    ])
}
