//! What a stream is: codec, parameters, role, direction; and what fits what.
//!
//! A leg speaks [`Capabilities`] (what it can receive, in order of preference, with limits) and
//! [`Streams`] (what was agreed, each way). SDP offer/answer and H.245 are two spellings of that.

use std::fmt;
use std::time::Duration;

mod level;
mod relay;

pub use level::{H264_LEVELS, H264Level, LEVEL_1B, compare_levels, macroblocks};
pub use relay::{Relay, RelayForm, RelayRefusal, VideoSeen, can_relay, can_relay_seen};

/// The role of a stream in a call. Roles are data: streams come as lists, never as named fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// Speech.
    Audio,
    /// The camera picture.
    Main,
    /// Slides and shared screens.
    Content,
}

impl MediaKind {
    /// Whether streams of this role carry pictures.
    pub const fn is_video(self) -> bool {
        !matches!(self, Self::Audio)
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audio => "audio",
            Self::Main => "main",
            Self::Content => "content",
        })
    }
}

/// Which way media may flow, from the point of view of the one who holds the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// We send only.
    SendOnly,
    /// We receive only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From the two ways.
    pub const fn new(send: bool, receive: bool) -> Self {
        match (send, receive) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether we send.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether we receive.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same agreement seen from the other end.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self::new(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self::new(self.sends() && other.sends(), self.receives() && other.receives())
    }
}

/// The codecs that we name. Whether one can be decoded here is the registry's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// RFC 6716.
    Opus,
    /// ITU-T G.722, 64 kbit/s.
    G722,
    /// ITU-T G.711 mu-law.
    Pcmu,
    /// ITU-T G.711 A-law.
    Pcma,
    /// ITU-T H.264.
    H264,
}

impl Codec {
    /// The media subtype name of the codec (IANA), in its usual spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::G722 => "G722",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::H264 => "H264",
        }
    }

    /// Ticks a second of the RTP time stamp. G.722 says 8000 although it samples at 16 kHz: an
    /// erratum kept for compatibility (RFC 3551 section 4.5.2).
    pub const fn rtp_clock(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::G722 | Self::Pcmu | Self::Pcma => 8_000,
            Self::H264 => 90_000,
        }
    }

    /// Samples a second of the decoded sound; zero for pictures.
    pub const fn sample_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::G722 => 16_000,
            Self::Pcmu | Self::Pcma => 8_000,
            Self::H264 => 0,
        }
    }

    /// Whether the codec carries pictures.
    pub const fn is_video(self) -> bool {
        matches!(self, Self::H264)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Duration of sound in one packet when nobody asks for another (RFC 3551 section 4.2).
pub const DEFAULT_PTIME: Duration = Duration::from_millis(20);

/// How the receiver of an audio stream wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// The codec.
    pub codec: Codec,
    /// Sound in one packet.
    pub ptime: Duration,
    /// Channels that the receiver makes use of (Opus `stereo`); we mix mono.
    pub channels: u8,
    /// The receiver uses in-band forward error correction (Opus `useinbandfec`).
    pub fec: bool,
    /// The receiver allows discontinuous transmission (Opus `usedtx`).
    pub dtx: bool,
    /// Upper limit in bit/s, when the receiver has one.
    pub max_bitrate: Option<u32>,
}

impl AudioFormat {
    /// `codec` in 20 ms packets, mono, no options.
    pub const fn new(codec: Codec) -> Self {
        Self { codec, ptime: DEFAULT_PTIME, channels: 1, fec: false, dtx: false, max_bitrate: None }
    }
}

/// H.264 profiles in the order of what they need from a decoder, as far as we tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum H264Profile {
    /// profile_idc 66 with constraint_set1: every H.264 decoder takes it.
    ConstrainedBaseline,
    /// profile_idc 66.
    Baseline,
    /// profile_idc 77.
    Main,
    /// profile_idc 100 with constraint sets 4 and 5.
    ConstrainedHigh,
    /// profile_idc 100.
    High,
}

/// How NAL units travel in packets (RFC 6184 section 5.4). For FLV and other framings the sink
/// takes whole access units and this is `NonInterleaved`, which has no size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketizationMode {
    /// Mode 0: one NAL unit a packet, nothing else.
    SingleNal,
    /// Mode 1: aggregation (STAP-A) and fragmentation (FU-A) allowed.
    NonInterleaved,
}

/// How the receiver of a video stream wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    /// The codec.
    pub codec: Codec,
    /// Highest profile that the receiver decodes.
    pub profile: H264Profile,
    /// Highest level that the receiver decodes, as `level_idc` (31 = 3.1; 1b is 9 here).
    pub level: u8,
    /// How NAL units travel.
    pub mode: PacketizationMode,
    /// Upper limit in bit/s, when the receiver has one.
    pub max_bitrate: Option<u32>,
    /// Upper limit of the picture in macroblocks (`max-fs`), when raised beyond the level.
    pub max_fs: Option<u32>,
    /// Upper limit of macroblocks a second (`max-mbps`), when raised beyond the level.
    pub max_mbps: Option<u32>,
}

impl VideoFormat {
    /// Macroblocks of the largest picture: the level's, or `max-fs` where that is more.
    pub fn max_fs(&self) -> u32 {
        H264Level::of(self.level).max_fs.max(self.max_fs.unwrap_or(0))
    }

    /// Macroblocks a second at most: the level's, or `max-mbps` where that is more.
    pub fn max_mbps(&self) -> u32 {
        H264Level::of(self.level).max_mbps.max(self.max_mbps.unwrap_or(0))
    }

    /// Bit/s at most: what the receiver said, else the level's.
    pub fn max_bitrate(&self) -> u32 {
        self.max_bitrate.unwrap_or_else(|| H264Level::of(self.level).max_bitrate)
    }

    fn narrowed(&self, other: &Self) -> Self {
        let weaker = |a: u8, b: u8| if compare_levels(a, b).is_gt() { b } else { a };
        let (fs, mbps) = (self.max_fs().min(other.max_fs()), self.max_mbps().min(other.max_mbps()));
        let level = H264Level::of(weaker(self.level, other.level));
        Self {
            codec: self.codec,
            profile: self.profile.shared(other.profile),
            level: level.idc,
            // Mode 0 is what every receiver takes (RFC 6184 section 6.2).
            mode: if self.mode == other.mode { self.mode } else { PacketizationMode::SingleNal },
            max_bitrate: Some(self.max_bitrate().min(other.max_bitrate())),
            max_fs: Some(fs).filter(|fs| *fs > level.max_fs),
            max_mbps: Some(mbps).filter(|mbps| *mbps > level.max_mbps),
        }
    }
}

/// One format of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaFormat {
    /// Sound.
    Audio(AudioFormat),
    /// Pictures.
    Video(VideoFormat),
}

impl MediaFormat {
    /// The codec.
    pub const fn codec(&self) -> Codec {
        match self {
            Self::Audio(audio) => audio.codec,
            Self::Video(video) => video.codec,
        }
    }

    /// What fits both: the same codec within the lower of all limits. `None` when the codecs
    /// differ. The packet time is the longer one, since it is a wish of the receiver whose
    /// link pays for each packet; options that only one asks for are off.
    #[must_use]
    pub fn narrowed(&self, other: &Self) -> Option<Self> {
        if self.codec() != other.codec() {
            return None;
        }
        match (self, other) {
            (Self::Audio(a), Self::Audio(b)) => Some(Self::Audio(AudioFormat {
                codec: a.codec,
                ptime: a.ptime.max(b.ptime),
                channels: a.channels.min(b.channels),
                fec: a.fec && b.fec,
                dtx: a.dtx && b.dtx,
                max_bitrate: lowest(a.max_bitrate, b.max_bitrate),
            })),
            (Self::Video(a), Self::Video(b)) => Some(Self::Video(a.narrowed(b))),
            _ => None,
        }
    }
}

fn lowest(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// The formats of `theirs` that can be sent within one of `ours`, in their order, each within
/// the lower limits. At most one entry for each of theirs.
pub fn negotiate(theirs: &[MediaFormat], ours: &[MediaFormat]) -> Vec<MediaFormat> {
    theirs.iter().filter_map(|theirs| ours.iter().find_map(|ours| theirs.narrowed(ours))).collect()
}

impl fmt::Display for MediaFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audio(audio) => write!(f, "{}/{}ms", audio.codec, audio.ptime.as_millis()),
            Self::Video(video) => {
                let mode = match video.mode {
                    PacketizationMode::SingleNal => 0,
                    PacketizationMode::NonInterleaved => 1,
                };
                write!(f, "{} mode {mode} level {}.{}", video.codec, video.level / 10, video.level % 10)
            }
        }
    }
}

/// What a leg can receive in one role, most wanted first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaCapability {
    /// The role.
    pub role: MediaKind,
    /// What the leg would like to do, from its own point of view.
    pub direction: Direction,
    /// Formats that it can receive, most wanted first. Never empty.
    pub formats: Vec<MediaFormat>,
}

/// What a leg can receive, one entry for each stream, in the order of its offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The entries.
    pub media: Vec<MediaCapability>,
    /// Upper limit for everything that the leg receives, in bit/s.
    pub max_bitrate: Option<u32>,
}

/// One agreed stream, from our point of view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The role.
    pub role: MediaKind,
    /// What we do.
    pub direction: Direction,
    /// How the peer wants what we send.
    pub send: MediaFormat,
    /// What we told the peer to send.
    pub receive: MediaFormat,
}

/// The agreed streams of a leg, in the order of its m-lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// The streams.
    pub streams: Vec<Stream>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation_keeps_their_order_and_the_lower_limits() {
        let mut opus = AudioFormat::new(Codec::Opus);
        opus.fec = true;
        opus.max_bitrate = Some(32_000);
        let theirs = [Codec::G722, Codec::Opus, Codec::Pcmu].map(AudioFormat::new).map(MediaFormat::Audio);
        let ours = [MediaFormat::Audio(AudioFormat::new(Codec::Pcmu)), MediaFormat::Audio(opus)];
        let agreed = negotiate(&theirs, &ours);
        let mut narrow = AudioFormat::new(Codec::Opus);
        narrow.max_bitrate = Some(32_000);
        assert_eq!(agreed, [MediaFormat::Audio(narrow), MediaFormat::Audio(AudioFormat::new(Codec::Pcmu))]);
    }

    #[test]
    fn direction_seen_from_the_other_end() {
        for direction in [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
        {
            assert_eq!(direction.reversed().reversed(), direction);
            assert_eq!(direction.and(Direction::SendRecv), direction);
            assert_eq!(direction.and(Direction::Inactive), Direction::Inactive);
        }
        assert_eq!(Direction::SendOnly.reversed(), Direction::RecvOnly);
    }
}
