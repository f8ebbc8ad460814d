//! Offer/answer with a peer that says anything.

use std::net::{IpAddr, Ipv4Addr};

use crosspoint_codecs::format::{
    AudioFormat, Capabilities, Codec, Direction, H264Profile, MediaCapability, MediaFormat, MediaKind,
    PacketizationMode, VideoFormat,
};
use crosspoint_proto::address::PeerPolicy;
use crosspoint_proto::dtls::Fingerprint;
use crosspoint_proto::sdp::crypto::{SRTP_SECRET_LENGTH, SrtpSecret};
use crosspoint_proto::sdp::{
    AgreedLine, Encryption, EncryptionPolicy, LocalMedia, MAX_FORMATS, Negotiation, Preference, Sdp,
    SessionParameters,
};

/// Bodies of a peer, divided by zero octets, each after an octet that says what becomes of it. What
/// we write must parse, in as many lines as were offered; what was agreed must hold together.
pub fn negotiation(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let policy = match first % 3 {
        0 => EncryptionPolicy::None,
        1 => EncryptionPolicy::BestEffort,
        _ => EncryptionPolicy::Required,
    };
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut negotiation = Negotiation::new(SessionParameters {
        session_id: u64::MAX,
        address,
        encryption: Encryption { policy, secure_signalling: first & 4 != 0, allow_insecure: false },
        certificate: (first & 16 != 0).then(|| Fingerprint::of(b"a certificate")),
        peer: PeerPolicy { accept_foreign: first & 8 != 0, ..PeerPolicy::strict(address) },
    });
    for turn in rest.split(|octet| *octet == 0).take(8) {
        let Some((wish, body)) = turn.split_first() else { continue };
        step(&mut negotiation, *wish, body);
        assert!(!negotiation.is_pending());
        check(negotiation.agreed());
    }
}

fn step(negotiation: &mut Negotiation, wish: u8, body: &[u8]) {
    let before = negotiation.agreed().to_vec();
    let capabilities = capabilities(wish);
    if wish & 1 == 0 {
        let preference = if wish & 2 == 0 { Preference::Theirs } else { Preference::Ours };
        let answer = negotiation
            .receive_offer(body)
            .and_then(|_| negotiation.create_answer(&capabilities, &local(), preference));
        match answer {
            Ok((sdp, agreed)) => {
                reads_back(&sdp);
                let offer = Sdp::parse(body).expect("it was read before");
                assert_eq!(sdp.media.len(), offer.media.len());
                assert_eq!(sdp.media.iter().filter(|line| line.port != 0).count(), agreed.len());
            }
            Err(error) => {
                assert!(matches!(error.status(), 400 | 488), "{error}");
                negotiation.refuse_offer();
                assert_eq!(negotiation.agreed(), before);
            }
        }
    } else if let Ok(offer) = negotiation.create_offer(&capabilities, &local()) {
        reads_back(&offer);
        if let Err(error) = negotiation.receive_answer(body) {
            assert!(matches!(error.status(), 400 | 488), "{error}");
            negotiation.withdraw_offer();
            assert_eq!(negotiation.agreed(), before);
        }
    }
}

fn reads_back(sdp: &Sdp) {
    let printed = sdp.to_bytes();
    let again = Sdp::parse(&printed).expect("what we print parses");
    let lines = |sdp: &Sdp| -> Vec<_> {
        sdp.media
            .iter()
            .map(|line| (line.media.clone(), line.port, line.protocol.clone(), line.formats.clone()))
            .collect()
    };
    assert_eq!(lines(&again), lines(sdp));
}

fn check(agreed: &[AgreedLine]) {
    let mut roles: Vec<MediaKind> = agreed.iter().map(|line| line.role).collect();
    roles.sort_unstable();
    roles.dedup();
    assert_eq!(roles.len(), agreed.len(), "one line a role");
    for line in agreed {
        assert!(!line.receive.is_empty() && line.receive.len() <= MAX_FORMATS);
        for format in line.receive.iter().chain([&line.send]) {
            assert!(format.payload <= 127);
            assert_eq!(format.format.codec().is_video(), line.role.is_video());
        }
        if let MediaFormat::Audio(audio) = &line.send.format {
            assert!((10..=60).contains(&audio.ptime.as_millis()));
        }
        if let Some(levels) = &line.levels {
            assert!(
                (1..=14).contains(&levels.id) && (levels.send || levels.receive) && !line.role.is_video()
            );
        }
        assert!(line.srtp.is_some() || !line.profile.is_secure());
        assert!(line.remote.is_some() || !line.direction.sends(), "nobody is sent to nowhere");
    }
}

fn capabilities(wish: u8) -> Capabilities {
    let audio =
        [Codec::Opus, Codec::Pcmu, Codec::G722].map(|codec| MediaFormat::Audio(AudioFormat::new(codec)));
    let video = [PacketizationMode::NonInterleaved, PacketizationMode::SingleNal].map(|mode| {
        MediaFormat::Video(VideoFormat {
            codec: Codec::H264,
            profile: if wish & 4 == 0 { H264Profile::ConstrainedBaseline } else { H264Profile::High },
            level: 31,
            mode,
            max_bitrate: None,
            max_fs: None,
            max_mbps: None,
        })
    });
    let roles = [(8, MediaKind::Audio), (16, MediaKind::Main), (32, MediaKind::Content)];
    let media = roles.into_iter().filter(|(bit, _)| wish & bit == 0).map(|(_, role)| MediaCapability {
        role,
        direction: Direction::new(wish & 64 == 0, wish & 128 == 0),
        formats: if role.is_video() { video.to_vec() } else { audio.to_vec() },
    });
    Capabilities { media: media.collect(), max_bitrate: None }
}

fn local() -> Vec<LocalMedia> {
    [MediaKind::Audio, MediaKind::Main, MediaKind::Content]
        .into_iter()
        .map(|role| LocalMedia {
            role,
            rtp: (Ipv4Addr::LOCALHOST, 4000).into(),
            rtcp: Some((Ipv4Addr::LOCALHOST, 4001).into()),
            rtcp_mux: true,
            key: Some(SrtpSecret::new([7; SRTP_SECRET_LENGTH])),
        })
        .collect()
}
