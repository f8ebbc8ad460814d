//! What fits what: whether a sink can be given a source's stream as it is, and in which form.

use std::fmt;

use super::level::{H264Level, compare_levels};
use super::{AudioFormat, Codec, H264Profile, MediaFormat, PacketizationMode, VideoFormat};

/// How a stream crosses without being decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelayForm {
    /// Packet by packet: both sides carry the same payload.
    Packet,
    /// Access unit by access unit: it is completed, then packetised anew for the sink.
    AccessUnit,
}

/// That a relay is possible, and for as long as what. Its text is the reason shown in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relay {
    /// The form.
    pub form: RelayForm,
    /// It holds only while every NAL unit fits one packet (packetization mode 1 to mode 0).
    pub while_nal_fits: bool,
    /// It holds only while the source keeps to this rate in bit/s: ask the source to.
    pub rate_limit: Option<u32>,
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.form {
            RelayForm::Packet => "both sides carry the same payload",
            RelayForm::AccessUnit => "same codec, packetised anew",
        })?;
        if self.while_nal_fits {
            f.write_str(", while every NAL unit fits a packet")?;
        }
        if let Some(limit) = self.rate_limit {
            write!(f, ", while the source keeps to {} kbit/s", limit / 1000)?;
        }
        Ok(())
    }
}

/// Why a sink cannot be given a source's stream as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayRefusal {
    /// Another codec.
    #[error("the source sends {from}, the sink takes {to}")]
    Codec {
        /// Of the source.
        from: Codec,
        /// Of the sink.
        to: Codec,
    },
    /// A profile that the sink does not decode.
    #[error("the source may send {} profile, the sink takes {}", from.name(), to.name())]
    Profile {
        /// Of the source.
        from: H264Profile,
        /// Of the sink.
        to: H264Profile,
    },
    /// A level above the sink's, where neither `max-fs` nor `max-mbps` makes up for it.
    #[error("the source may send level {}.{}, the sink takes {}.{}", from / 10, from % 10, to / 10, to % 10)]
    Level {
        /// Of the source.
        from: u8,
        /// Of the sink.
        to: u8,
    },
    /// Larger pictures than the sink takes.
    #[error("pictures of {from} macroblocks, the sink takes {to}")]
    Size {
        /// Of the source.
        from: u32,
        /// Of the sink.
        to: u32,
    },
    /// More macroblocks a second than the sink takes.
    #[error("{from} macroblocks a second, the sink takes {to}")]
    FrameRate {
        /// Of the source.
        from: u32,
        /// Of the sink.
        to: u32,
    },
}

/// What is known of a video stream from its own parameter sets and pace: tighter than what its
/// sender said that it may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoSeen {
    /// From the SPS.
    pub profile: H264Profile,
    /// From the SPS, 1b as 9.
    pub level: u8,
    /// Macroblocks of a picture.
    pub fs: u32,
    /// Macroblocks a second as measured, once known.
    pub mbps: Option<u32>,
}

/// Whether `sink` can be given what a source agreed to send as `source`, without decoding.
///
/// `source` is what we told the source's peer to send, `sink` how the sink's peer wants what we
/// send: both say what may come at most. A refusal for profile, level or size may be lifted once
/// the stream itself is known ([`can_relay_seen`]).
///
/// Sound crosses whatever its packet time: a receiver must take any (RFC 3551 section 4.2), and
/// to pack anew would cost the delay that a relay saves.
pub fn can_relay(source: &MediaFormat, sink: &MediaFormat) -> Result<Relay, RelayRefusal> {
    match (source, sink) {
        (MediaFormat::Audio(source), MediaFormat::Audio(sink)) => can_relay_audio(source, sink),
        (MediaFormat::Video(source), MediaFormat::Video(sink)) => {
            let relay = can_relay_video(source, sink)?;
            if !sink.profile.decodes(source.profile) {
                return Err(RelayRefusal::Profile { from: source.profile, to: sink.profile });
            }
            let (fs, mbps) = (source.max_fs(), source.max_mbps());
            if compare_levels(source.level, sink.level).is_gt()
                && (fs > sink.max_fs() || mbps > sink.max_mbps())
            {
                return Err(RelayRefusal::Level { from: source.level, to: sink.level });
            }
            fits(fs, Some(mbps), sink)?;
            Ok(relay)
        }
        _ => Err(RelayRefusal::Codec { from: source.codec(), to: sink.codec() }),
    }
}

/// [`can_relay`] for a video stream whose parameter sets have been read: the stream counts, not
/// what its sender might do.
pub fn can_relay_seen(
    source: &VideoFormat,
    seen: &VideoSeen,
    sink: &VideoFormat,
) -> Result<Relay, RelayRefusal> {
    let relay = can_relay_video(source, sink)?;
    if !sink.profile.decodes(seen.profile) {
        return Err(RelayRefusal::Profile { from: seen.profile, to: sink.profile });
    }
    // Encoders often write a higher level into the SPS than their pictures need. A decoder that
    // takes the pictures shows them, so size and pace decide when the pace is known.
    if seen.mbps.is_none() && compare_levels(seen.level, sink.level).is_gt() {
        let level = H264Level::of(seen.level);
        if level.max_fs > sink.max_fs() || level.max_mbps > sink.max_mbps() {
            return Err(RelayRefusal::Level { from: seen.level, to: sink.level });
        }
    }
    fits(seen.fs, seen.mbps, sink)?;
    Ok(relay)
}

fn can_relay_audio(source: &AudioFormat, sink: &AudioFormat) -> Result<Relay, RelayRefusal> {
    if source.codec != sink.codec {
        return Err(RelayRefusal::Codec { from: source.codec, to: sink.codec });
    }
    let rate_limit = lower_limit(source.max_bitrate, sink.max_bitrate)
        // The codecs of one rate have no other to keep to; a limit below it would have kept the
        // codec out of the agreement.
        .filter(|_| source.codec == Codec::Opus);
    Ok(Relay { form: RelayForm::Packet, while_nal_fits: false, rate_limit })
}

/// The part that no look at the stream can change: codec, form and rate.
fn can_relay_video(source: &VideoFormat, sink: &VideoFormat) -> Result<Relay, RelayRefusal> {
    if source.codec != sink.codec {
        return Err(RelayRefusal::Codec { from: source.codec, to: sink.codec });
    }
    Ok(Relay {
        form: if source.mode == sink.mode { RelayForm::Packet } else { RelayForm::AccessUnit },
        while_nal_fits: source.mode == PacketizationMode::NonInterleaved
            && sink.mode == PacketizationMode::SingleNal,
        rate_limit: lower_limit(Some(source.max_bitrate()), Some(sink.max_bitrate())),
    })
}

fn fits(fs: u32, mbps: Option<u32>, sink: &VideoFormat) -> Result<(), RelayRefusal> {
    if fs > sink.max_fs() {
        return Err(RelayRefusal::Size { from: fs, to: sink.max_fs() });
    }
    match mbps {
        Some(mbps) if mbps > sink.max_mbps() => {
            Err(RelayRefusal::FrameRate { from: mbps, to: sink.max_mbps() })
        }
        _ => Ok(()),
    }
}

/// The sink's limit where the source may exceed it.
fn lower_limit(source: Option<u32>, sink: Option<u32>) -> Option<u32> {
    sink.filter(|sink| source.is_none_or(|source| source > *sink))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::level::H264_LEVELS;
    use super::*;

    fn audio(codec: Codec) -> MediaFormat {
        MediaFormat::Audio(AudioFormat::new(codec))
    }

    fn video(level: u8, mode: PacketizationMode) -> VideoFormat {
        VideoFormat {
            codec: Codec::H264,
            profile: H264Profile::ConstrainedBaseline,
            level,
            mode,
            max_bitrate: None,
            max_fs: None,
            max_mbps: None,
        }
    }

    fn relay(source: &VideoFormat, sink: &VideoFormat) -> Result<Relay, RelayRefusal> {
        can_relay(&MediaFormat::Video(source.clone()), &MediaFormat::Video(sink.clone()))
    }

    #[test]
    fn packet_time_alone_does_not_stop_a_relay() {
        let mut slow = AudioFormat::new(Codec::Pcma);
        slow.ptime = Duration::from_millis(30);
        let relay = can_relay(&MediaFormat::Audio(slow), &audio(Codec::Pcma)).unwrap();
        assert_eq!(relay, Relay { form: RelayForm::Packet, while_nal_fits: false, rate_limit: None });
    }

    #[test]
    fn another_codec_is_refused_with_both_names() {
        let refusal = can_relay(&audio(Codec::Opus), &audio(Codec::Pcmu)).unwrap_err();
        assert_eq!(refusal.to_string(), "the source sends opus, the sink takes PCMU");
        assert!(can_relay(&audio(Codec::Pcma), &audio(Codec::Pcmu)).is_err());
        let picture = MediaFormat::Video(video(31, PacketizationMode::SingleNal));
        assert!(can_relay(&audio(Codec::Opus), &picture).is_err());
    }

    #[test]
    fn an_opus_sink_with_a_lower_rate_gives_a_condition() {
        let mut narrow = AudioFormat::new(Codec::Opus);
        narrow.max_bitrate = Some(24_000);
        let relay = can_relay(&audio(Codec::Opus), &MediaFormat::Audio(narrow)).unwrap();
        assert_eq!(relay.rate_limit, Some(24_000));
        assert_eq!(
            relay.to_string(),
            "both sides carry the same payload, while the source keeps to 24 kbit/s"
        );
    }

    #[test]
    fn packetization_modes_choose_the_form() {
        use PacketizationMode::{NonInterleaved, SingleNal};
        for (from, to, form, while_nal_fits) in [
            (SingleNal, SingleNal, RelayForm::Packet, false),
            (NonInterleaved, NonInterleaved, RelayForm::Packet, false),
            (SingleNal, NonInterleaved, RelayForm::AccessUnit, false),
            (NonInterleaved, SingleNal, RelayForm::AccessUnit, true),
        ] {
            let relay = relay(&video(31, from), &video(31, to)).unwrap();
            assert_eq!((relay.form, relay.while_nal_fits), (form, while_nal_fits), "{from:?} to {to:?}");
        }
    }

    #[test]
    fn beyond_the_sink_is_refused_and_max_fs_makes_up_for_the_level() {
        let mode = PacketizationMode::NonInterleaved;
        let refusal = relay(&video(31, mode), &video(13, mode)).unwrap_err();
        assert_eq!(refusal.to_string(), "the source may send level 3.1, the sink takes 1.3");

        let mut raised = video(13, mode);
        raised.max_fs = Some(3600);
        raised.max_mbps = Some(108_000);
        let relayed = relay(&video(31, mode), &raised).unwrap();
        assert_eq!(relayed.rate_limit, Some(768_000));

        let mut larger = video(13, mode);
        larger.max_fs = Some(3600);
        assert!(matches!(relay(&larger, &video(13, mode)), Err(RelayRefusal::Size { from: 3600, to: 396 })));

        let mut high = video(31, mode);
        high.profile = H264Profile::High;
        assert!(matches!(relay(&high, &video(31, mode)), Err(RelayRefusal::Profile { .. })));
    }

    #[test]
    fn the_stream_itself_lifts_a_refusal() {
        let mode = PacketizationMode::NonInterleaved;
        let (source, sink) = (video(31, mode), video(13, mode));
        let mut seen = VideoSeen { profile: H264Profile::Baseline, level: 13, fs: 396, mbps: Some(396 * 30) };
        assert!(can_relay_seen(&source, &seen, &sink).is_ok());
        seen.level = 31;
        assert!(can_relay_seen(&source, &seen, &sink).is_ok());
        seen.mbps = None;
        assert!(matches!(can_relay_seen(&source, &seen, &sink), Err(RelayRefusal::Level { .. })));
        seen.fs = 920;
        seen.mbps = Some(1000);
        assert!(matches!(can_relay_seen(&source, &seen, &sink), Err(RelayRefusal::Size { .. })));
        seen.fs = 396;
        seen.mbps = Some(396 * 60);
        assert!(matches!(can_relay_seen(&source, &seen, &sink), Err(RelayRefusal::FrameRate { .. })));
    }

    fn any_video() -> impl Strategy<Value = VideoFormat> {
        let profiles = prop::sample::select(vec![
            H264Profile::ConstrainedBaseline,
            H264Profile::Baseline,
            H264Profile::Main,
            H264Profile::ConstrainedHigh,
            H264Profile::High,
        ]);
        let levels = prop_oneof![prop::sample::select(H264_LEVELS.to_vec()).prop_map(|l| l.idc), any::<u8>()];
        let limit = || prop::option::of(1u32..1_000_000);
        (profiles, levels, any::<bool>(), limit(), limit(), limit()).prop_map(
            |(profile, level, single, max_bitrate, max_fs, max_mbps)| VideoFormat {
                codec: Codec::H264,
                profile,
                level,
                mode: if single { PacketizationMode::SingleNal } else { PacketizationMode::NonInterleaved },
                max_bitrate,
                max_fs,
                max_mbps,
            },
        )
    }

    proptest! {
        #[test]
        fn every_format_relays_to_itself_without_conditions(format in any_video()) {
            let relay = relay(&format, &format);
            prop_assert_eq!(relay, Ok(Relay { form: RelayForm::Packet, while_nal_fits: false, rate_limit: None }));
        }

        #[test]
        fn what_is_relayed_never_exceeds_the_sink(source in any_video(), sink in any_video()) {
            if let Ok(relay) = relay(&source, &sink) {
                prop_assert!(source.max_fs() <= sink.max_fs());
                prop_assert!(source.max_mbps() <= sink.max_mbps());
                prop_assert!(sink.profile.decodes(source.profile));
                let rate = relay.rate_limit.unwrap_or_else(|| source.max_bitrate());
                prop_assert!(rate <= sink.max_bitrate());
            }
        }

        #[test]
        fn a_narrowed_format_relays_to_both(a in any_video(), b in any_video()) {
            let (a, b) = (MediaFormat::Video(a), MediaFormat::Video(b));
            if let Some(common) = a.narrowed(&b) {
                for sink in [&a, &b] {
                    let relay = can_relay(&common, sink);
                    prop_assert_eq!(relay.map(|r| r.rate_limit), Ok(None), "{:?} to {:?}", common, sink);
                }
            }
        }
    }
}
