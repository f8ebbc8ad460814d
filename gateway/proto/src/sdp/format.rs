//! Payload types and [`MediaFormat`]s: what a line of a description says about a codec, and how
//! our own wishes are spelled there.

use std::time::Duration;

use crosspoint_codecs::format::{
    AudioFormat, Codec, DEFAULT_PTIME, H264Profile, MediaFormat, PacketizationMode, VideoFormat,
};

use super::description::{MediaLine, Payload, Sdp};
use super::fmtp::{DTMF_EVENTS, H264Parameters, OpusParameters, carries_dtmf};

/// The subtype of RFC 4733.
const TELEPHONE_EVENT: &str = "telephone-event";

/// The clock of telephone-event that every program has, whatever the clock of its sound.
pub(super) const COMMON_EVENT_CLOCK: u32 = 8000;

/// What a payload type number is bound to for the life of a session (RFC 3264 section 8.3.2):
/// everything that a receiver must know to take a packet apart. Limits and wishes may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormatKey {
    /// Sound.
    Audio(Codec),
    /// Pictures.
    H264 {
        /// The profile.
        profile: H264Profile,
        /// How NAL units travel.
        mode: PacketizationMode,
    },
    /// telephone-event of that clock.
    Events(u32),
}

impl FormatKey {
    /// Of one of our formats.
    pub(super) const fn of(format: &MediaFormat) -> Self {
        match format {
            MediaFormat::Audio(audio) => Self::Audio(audio.codec),
            MediaFormat::Video(video) => Self::H264 { profile: video.profile, mode: video.mode },
        }
    }

    /// The number that RFC 3551 gives it.
    pub(super) const fn static_number(self) -> Option<u8> {
        match self {
            Self::Audio(Codec::Pcmu) => Some(0),
            Self::Audio(Codec::Pcma) => Some(8),
            Self::Audio(Codec::G722) => Some(9),
            _ => None,
        }
    }
}

/// What the writer of `line` wants to be sent as `payload`. `None` for formats that we do not
/// know, telephone-event included.
pub(super) fn format_of(sdp: &Sdp, line: &MediaLine, payload: &Payload) -> Option<MediaFormat> {
    let codec = codec_of(payload)?;
    if codec.is_video() != line.role()?.is_video() {
        return None;
    }
    Some(match codec {
        Codec::H264 => MediaFormat::Video(h264_format(sdp, line, payload)?),
        _ => MediaFormat::Audio(audio_format(codec, line, payload)),
    })
}

/// How a format of ours is written.
pub(super) fn payload_of(format: &MediaFormat, number: u8) -> Payload {
    let parameters = match format {
        MediaFormat::Audio(audio) if audio.codec == Codec::Opus => OpusParameters {
            stereo: audio.channels > 1,
            use_inband_fec: audio.fec,
            use_dtx: audio.dtx,
            max_average_bitrate: audio.max_bitrate,
            ..OpusParameters::default()
        }
        .text(),
        MediaFormat::Audio(_) => String::new(),
        MediaFormat::Video(video) => H264Parameters {
            profile_level_id: video.profile.id(video.level),
            packetization_mode: match video.mode {
                PacketizationMode::SingleNal => 0,
                PacketizationMode::NonInterleaved => 1,
            },
            level_asymmetry_allowed: true,
            max_mbps: video.max_mbps,
            max_fs: video.max_fs,
            ..H264Parameters::default()
        }
        .text(),
    };
    let codec = format.codec();
    Payload {
        number,
        encoding: codec.name().to_owned(),
        clock: codec.rtp_clock(),
        // Always two for Opus, whatever is sent (RFC 7587 section 7).
        channels: (codec == Codec::Opus).then_some(2),
        parameters: Some(parameters).filter(|text| !text.is_empty()),
    }
}

/// telephone-event with the digits.
pub(super) fn events_of(clock: u32, number: u8) -> Payload {
    Payload {
        number,
        encoding: TELEPHONE_EVENT.to_owned(),
        clock,
        channels: None,
        parameters: Some(DTMF_EVENTS.to_owned()),
    }
}

/// The clock of a telephone-event format that carries the digits.
pub(super) fn event_clock(payload: &Payload) -> Option<u32> {
    let events = payload.encoding.eq_ignore_ascii_case(TELEPHONE_EVENT);
    (events && carries_dtmf(payload.parameters.as_deref())).then_some(payload.clock)
}

/// The H.264 parameters of a payload type.
pub(super) fn h264_parameters(payload: &Payload) -> H264Parameters {
    H264Parameters::parse(payload.parameters.as_deref().unwrap_or(""))
}

fn codec_of(payload: &Payload) -> Option<Codec> {
    let codec = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma, Codec::H264]
        .into_iter()
        .find(|codec| codec.name().eq_ignore_ascii_case(&payload.encoding))?;
    // Some write the true sample rate of G.722 (RFC 3551 section 4.5.2 has the story).
    let clock = payload.clock == codec.rtp_clock() || codec == Codec::G722 && payload.clock == 16_000;
    let channels = codec == Codec::Opus || payload.channels.unwrap_or(1) == 1;
    (clock && channels).then_some(codec)
}

fn audio_format(codec: Codec, line: &MediaLine, payload: &Payload) -> AudioFormat {
    let mut format = AudioFormat::new(codec);
    let mut shortest = Duration::ZERO;
    if codec == Codec::Opus {
        let opus = OpusParameters::parse(payload.parameters.as_deref().unwrap_or(""));
        format.channels = if opus.stereo { 2 } else { 1 };
        format.fec = opus.use_inband_fec;
        format.dtx = opus.use_dtx;
        let limits = [opus.max_average_bitrate, line.bandwidth.media_bits(false)];
        format.max_bitrate = limits.into_iter().flatten().min();
        shortest = Duration::from_millis(opus.min_ptime.unwrap_or(0).into());
    }
    let wished = line.ptime.unwrap_or(DEFAULT_PTIME).max(shortest);
    format.ptime = packet_time(codec, line.maxptime.map_or(wished, |most| most.min(wished)));
    format
}

/// Packet times that we send, in ms. Sampled codecs can be cut every 10 ms; Opus has frames of
/// these lengths (RFC 6716 section 2.1.4); beyond 60 ms the delay is worse than the headers.
const SAMPLED_PTIMES: [u64; 6] = [60, 50, 40, 30, 20, 10];
const OPUS_PTIMES: [u64; 4] = [60, 40, 20, 10];

/// The longest that we send within the wish, else the shortest of all.
fn packet_time(codec: Codec, wished: Duration) -> Duration {
    let choice: &[u64] = if codec == Codec::Opus { &OPUS_PTIMES } else { &SAMPLED_PTIMES };
    choice
        .iter()
        .map(|millis| Duration::from_millis(*millis))
        .find(|time| *time <= wished)
        .unwrap_or(Duration::from_millis(10))
}

fn h264_format(sdp: &Sdp, line: &MediaLine, payload: &Payload) -> Option<VideoFormat> {
    let parameters = h264_parameters(payload);
    let (profile, level) = parameters.profile_and_level()?;
    let limits = [
        line.bandwidth.media_bits(true),
        sdp.bandwidth.media_bits(true),
        parameters.max_br.filter(|kilobits| *kilobits > 0).map(|kilobits| kilobits.saturating_mul(1000)),
    ];
    Some(VideoFormat {
        codec: Codec::H264,
        profile,
        level,
        mode: mode_of(&parameters)?,
        max_bitrate: limits.into_iter().flatten().min(),
        max_fs: parameters.max_fs,
        max_mbps: parameters.max_mbps,
    })
}

const fn mode_of(parameters: &H264Parameters) -> Option<PacketizationMode> {
    match parameters.packetization_mode {
        0 => Some(PacketizationMode::SingleNal),
        1 => Some(PacketizationMode::NonInterleaved),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(text: &str) -> Vec<MediaFormat> {
        let sdp = Sdp::parse(format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n{text}").as_bytes()).unwrap();
        let line = &sdp.media[0];
        line.payloads.iter().filter_map(|payload| format_of(&sdp, line, payload)).collect()
    }

    fn audio(text: &str) -> AudioFormat {
        match formats(text).as_slice() {
            [MediaFormat::Audio(audio)] => audio.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn ptime(text: &str) -> u128 {
        audio(text).ptime.as_millis()
    }

    #[test]
    fn static_numbers_need_no_map_and_g722_says_8000() {
        let codecs: Vec<Codec> =
            formats("m=audio 4000 RTP/AVP 9 0 18 8 3\r\n").iter().map(MediaFormat::codec).collect();
        assert_eq!(codecs, [Codec::G722, Codec::Pcmu, Codec::Pcma]);
        assert_eq!(audio("m=audio 4000 RTP/AVP 9\r\na=rtpmap:9 G722/16000\r\n").codec, Codec::G722);
        assert_eq!(audio("m=audio 4000 RTP/AVP 100\r\na=rtpmap:100 pcmu/8000/1\r\n").codec, Codec::Pcmu);
        assert!(formats("m=audio 4000 RTP/AVP 100\r\na=rtpmap:100 PCMU/16000\r\n").is_empty());
        assert!(formats("m=audio 4000 RTP/AVP 100\r\na=rtpmap:100 L16/8000\r\n").is_empty());
        // The number means what its map says.
        assert_eq!(audio("m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 opus/48000/2\r\n").codec, Codec::Opus);
    }

    #[test]
    fn packet_times_fit_codec_and_limits() {
        let pcmu = "m=audio 4000 RTP/AVP 0\r\n";
        assert_eq!(ptime(pcmu), 20);
        for (wish, sent) in
            [("30", 30), ("25", 20), ("5", 10), ("200", 60), ("0", 20), ("x", 20), ("20.5", 20)]
        {
            assert_eq!(ptime(&format!("{pcmu}a=ptime:{wish}\r\n")), sent, "{wish}");
        }
        assert_eq!(ptime(&format!("{pcmu}a=ptime:99999999999999999999\r\n")), 20);
        assert_eq!(ptime(&format!("{pcmu}a=ptime:40\r\na=maxptime:30\r\n")), 30);
        assert_eq!(ptime(&format!("{pcmu}a=maxptime:10\r\n")), 10);
        let opus = "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n";
        assert_eq!(ptime(&format!("{opus}a=ptime:30\r\n")), 20);
        assert_eq!(ptime(&format!("{opus}a=fmtp:96 minptime=40\r\n")), 40);
    }

    #[test]
    fn opus_wishes() {
        let format = audio(
            "m=audio 4000 RTP/AVP 96\r\nb=AS:30\r\na=rtpmap:96 opus/48000/2\r\n\
             a=fmtp:96 stereo=1;usedtx=1;useinbandfec=1;maxaveragebitrate=64000\r\n",
        );
        assert_eq!((format.channels, format.dtx, format.fec), (2, true, true));
        assert_eq!(format.max_bitrate, Some(30_000));
    }

    #[test]
    fn h264_limits() {
        let text = "b=TIAS:2000000\r\nm=video 4000 RTP/AVP 97 98 99\r\nb=AS:1000\r\na=rtpmap:97 H264/90000\r\n\
                    a=fmtp:97 profile-level-id=42801f;packetization-mode=1;max-fs=8192;max-br=768\r\n\
                    a=rtpmap:98 H264/90000\r\na=rtpmap:99 H264/90000\r\na=fmtp:99 packetization-mode=2\r\n";
        let formats = formats(text);
        let [MediaFormat::Video(full), MediaFormat::Video(bare)] = formats.as_slice() else {
            panic!("{formats:?}")
        };
        assert_eq!((full.profile, full.level, full.max_fs), (H264Profile::Baseline, 31, Some(8192)));
        assert_eq!((full.mode, full.max_bitrate), (PacketizationMode::NonInterleaved, Some(768_000)));
        assert_eq!((bare.level, bare.mode), (10, PacketizationMode::SingleNal));
        assert_eq!(bare.max_bitrate, Some(950_000));
    }

    #[test]
    fn what_we_write_is_read_as_it_was_meant() {
        let mut opus = AudioFormat::new(Codec::Opus);
        (opus.fec, opus.dtx, opus.channels, opus.max_bitrate) = (true, true, 2, Some(32_000));
        let payload = payload_of(&MediaFormat::Audio(opus.clone()), 96);
        assert_eq!((payload.clock, payload.channels), (48_000, Some(2)));
        let line = MediaLine { payloads: vec![payload], ..MediaLine::disabled("audio", "RTP/AVP", vec![]) };
        assert_eq!(audio_format(Codec::Opus, &line, &line.payloads[0]), opus);
    }
}
