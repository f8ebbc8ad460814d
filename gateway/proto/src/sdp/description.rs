//! A session description as typed data (RFC 8866): what offer/answer reads and writes, and
//! whatever else stood there as plain attributes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crosspoint_codecs::format::{Direction, MediaKind};

use super::crypto::Crypto;

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdp {
    /// `o=`.
    pub origin: Origin,
    /// `s=`.
    pub name: String,
    /// `c=` of the session, when it is an IP address.
    pub connection: Option<IpAddr>,
    /// `b=` of the session.
    pub bandwidth: Bandwidth,
    /// Direction of m-lines that say none of their own.
    pub direction: Option<Direction>,
    /// Attributes of the session that have no field here (group, setup, fingerprint, ice-ufrag),
    /// in their order.
    pub attributes: Vec<Attribute>,
    /// The m-lines, in their order.
    pub media: Vec<MediaLine>,
}

/// Who made the description, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// User name; `-` for none.
    pub username: String,
    /// Numeric string.
    pub session_id: String,
    /// Grows with each change.
    pub version: u64,
    /// Address or host name.
    pub address: String,
}

/// `b=` (RFC 8866 section 5.8, RFC 3890).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// `AS`: kbit/s with the headers of IP, UDP and RTP.
    pub application: Option<u64>,
    /// `TIAS`: bit/s of media alone.
    pub independent: Option<u64>,
}

/// Of a video stream's `AS` bandwidth, this share is media: 40 octets of headers for packets of
/// about 1200.
const VIDEO_PAYLOAD_PERCENT: u64 = 95;

impl Bandwidth {
    /// `bits` of media a second, as both lines.
    pub fn of_media(bits: u32) -> Self {
        let bits = u64::from(bits);
        let gross = bits.saturating_mul(100).div_ceil(VIDEO_PAYLOAD_PERCENT);
        Self { application: Some(gross.div_ceil(1000)), independent: Some(bits) }
    }

    /// Bit/s of media. `TIAS` counts where both stand; zero counts as not said. `AS` of sound is
    /// taken whole: who writes it for 64 kbit/s codecs rarely adds the headers.
    pub fn media_bits(&self, video: bool) -> Option<u32> {
        let share = if video { VIDEO_PAYLOAD_PERCENT } else { 100 };
        let application =
            || self.application.map(|kbit| kbit.saturating_mul(1000).saturating_mul(share).div_euclid(100));
        let bits = self.independent.or_else(application)?;
        Some(u32::try_from(bits).unwrap_or(u32::MAX)).filter(|bits| *bits > 0)
    }
}

/// An attribute without a field of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// What stands behind the colon.
    pub value: Option<String>,
}

impl Attribute {
    /// A name with a value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// An m-line and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaLine {
    /// The media type as written: "audio", "video", "application", ..
    pub media: String,
    /// Port of RTP; zero refuses or ends the stream.
    pub port: u16,
    /// The transport as written: "RTP/AVP", ..
    pub protocol: String,
    /// The formats as written: payload types for RTP.
    pub formats: Vec<String>,
    /// `c=` of the line, when it is an IP address.
    pub connection: Option<IpAddr>,
    /// `b=` of the line.
    pub bandwidth: Bandwidth,
    /// Payload types whose meaning is known by `a=rtpmap` or by RFC 3551, in the order of the
    /// m-line.
    pub payloads: Vec<Payload>,
    /// Direction, when the line says one.
    pub direction: Option<Direction>,
    /// Wished sound per packet.
    pub ptime: Option<Duration>,
    /// Most sound per packet.
    pub maxptime: Option<Duration>,
    /// `a=rtcp` (RFC 3605).
    pub rtcp: Option<RtcpAddress>,
    /// `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
    /// `a=rtcp-fb` (RFC 4585, RFC 5104).
    pub feedback: Vec<FeedbackLine>,
    /// `a=crypto` of suites that we know.
    pub crypto: Vec<Crypto>,
    /// `a=content` (RFC 4796), comma separated.
    pub content: Option<String>,
    /// `a=label` (RFC 4574).
    pub label: Option<String>,
    /// All other attributes (mid, setup, fingerprint, ice-ufrag, candidate), in their order.
    pub attributes: Vec<Attribute>,
}

/// A payload type and its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// 0 to 127.
    pub number: u8,
    /// Encoding name as written.
    pub encoding: String,
    /// Ticks a second.
    pub clock: u32,
    /// Encoding parameters of `a=rtpmap`: channels of sound.
    pub channels: Option<u8>,
    /// `a=fmtp`, as written.
    pub parameters: Option<String>,
}

/// `a=rtcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpAddress {
    /// Its port.
    pub port: u16,
    /// Its address where it is not the one of RTP.
    pub address: Option<IpAddr>,
}

/// One `a=rtcp-fb`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedbackLine {
    /// The payload type; `None` is all of them (`*`).
    pub payload: Option<u8>,
    /// What is allowed.
    pub kind: FeedbackKind,
}

/// A kind of feedback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedbackKind {
    /// `nack`: generic negative acknowledgement.
    Nack,
    /// `nack pli`: picture loss indication.
    Pli,
    /// `ccm fir`: full intra request.
    Fir,
    /// `ccm tmmbr`: temporary maximum bit rate.
    Tmmbr,
    /// `goog-remb`: what the receiver estimates that it can take (draft-alvestrand-rmcat-remb-03).
    Remb,
    /// Something else, as written.
    Other(String),
}

impl FeedbackKind {
    /// As written behind the payload type. Parameters of `ccm tmmbr` (`smaxpr=`) are dropped.
    pub fn from_text(text: &str) -> Self {
        let words: Vec<String> = text.split_ascii_whitespace().take(3).map(str::to_ascii_lowercase).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["nack"] => Self::Nack,
            ["nack", "pli"] => Self::Pli,
            ["ccm", "fir"] => Self::Fir,
            ["ccm", "tmmbr", ..] => Self::Tmmbr,
            ["goog-remb"] => Self::Remb,
            _ => Self::Other(text.trim().to_owned()),
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            Self::Nack => "nack",
            Self::Pli => "nack pli",
            Self::Fir => "ccm fir",
            Self::Tmmbr => "ccm tmmbr",
            Self::Remb => "goog-remb",
            Self::Other(text) => text,
        }
    }
}

/// The RTP profile of an m-line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// RTP/AVP.
    Avp,
    /// RTP/AVPF.
    Avpf,
    /// RTP/SAVP.
    Savp,
    /// RTP/SAVPF.
    Savpf,
    /// UDP/TLS/RTP/SAVP: keys by DTLS (RFC 5764).
    DtlsSavp,
    /// UDP/TLS/RTP/SAVPF.
    DtlsSavpf,
}

impl Profile {
    const ALL: [Self; 6] = [Self::Avp, Self::Avpf, Self::Savp, Self::Savpf, Self::DtlsSavp, Self::DtlsSavpf];

    /// As it stands on the m-line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avp => "RTP/AVP",
            Self::Avpf => "RTP/AVPF",
            Self::Savp => "RTP/SAVP",
            Self::Savpf => "RTP/SAVPF",
            Self::DtlsSavp => "UDP/TLS/RTP/SAVP",
            Self::DtlsSavpf => "UDP/TLS/RTP/SAVPF",
        }
    }

    /// From the m-line; `None` for what is not RTP over UDP.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(name))
    }

    /// Whether media must be encrypted.
    pub const fn is_secure(self) -> bool {
        !matches!(self, Self::Avp | Self::Avpf)
    }

    /// Whether the keys come by DTLS.
    pub const fn is_dtls(self) -> bool {
        matches!(self, Self::DtlsSavp | Self::DtlsSavpf)
    }
}

impl Sdp {
    /// The value of the first session attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }

    /// The direction of a line: its own, else the session's, else both ways.
    pub fn direction_of(&self, line: &MediaLine) -> Direction {
        line.direction.or(self.direction).unwrap_or(Direction::SendRecv)
    }

    /// The address of a line: its own, else the session's.
    pub fn address_of(&self, line: &MediaLine) -> Option<IpAddr> {
        line.connection.or(self.connection)
    }

    /// Where RTP of a line goes. `None` without an IP address, with port 0 and with the
    /// unspecified address, which holds the stream (RFC 3264 section 8.4).
    pub fn rtp_of(&self, line: &MediaLine) -> Option<SocketAddr> {
        let ip = self.address_of(line)?;
        (line.port != 0 && !ip.is_unspecified()).then(|| SocketAddr::new(ip, line.port))
    }

    /// Where RTCP of a line goes when it is not multiplexed: `a=rtcp`, else the next port.
    pub fn rtcp_of(&self, line: &MediaLine) -> Option<SocketAddr> {
        let rtp = self.rtp_of(line)?;
        match line.rtcp {
            Some(RtcpAddress { port: 0, .. }) => None,
            Some(rtcp) => Some(SocketAddr::new(rtcp.address.unwrap_or_else(|| rtp.ip()), rtcp.port)),
            None => Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)),
        }
        .filter(|rtcp| !rtcp.ip().is_unspecified())
    }
}

impl MediaLine {
    /// A line with nothing on it but the m-line itself and port 0.
    pub fn disabled(media: &str, protocol: &str, formats: Vec<String>) -> Self {
        Self {
            media: media.to_owned(),
            port: 0,
            protocol: protocol.to_owned(),
            formats,
            connection: None,
            bandwidth: Bandwidth::default(),
            payloads: Vec::new(),
            direction: None,
            ptime: None,
            maxptime: None,
            rtcp: None,
            rtcp_mux: false,
            feedback: Vec::new(),
            crypto: Vec::new(),
            content: None,
            label: None,
            attributes: Vec::new(),
        }
    }

    /// The role: sound, slides (`a=content:slides`) or the camera picture. `None` for other media
    /// types.
    pub fn role(&self) -> Option<MediaKind> {
        if self.media.eq_ignore_ascii_case("audio") {
            return Some(MediaKind::Audio);
        }
        let slides = self
            .content
            .as_deref()
            .is_some_and(|content| content.split(',').any(|word| word.trim().eq_ignore_ascii_case("slides")));
        match (self.media.eq_ignore_ascii_case("video"), slides) {
            (true, true) => Some(MediaKind::Content),
            (true, false) => Some(MediaKind::Main),
            (false, _) => None,
        }
    }

    /// The RTP profile, if it is RTP.
    pub fn profile(&self) -> Option<Profile> {
        Profile::from_name(&self.protocol)
    }

    /// The payload type of that number.
    pub fn payload(&self, number: u8) -> Option<&Payload> {
        self.payloads.iter().find(|payload| payload.number == number)
    }

    /// The value of the first attribute of that name that has no field of its own.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }

    /// Whether `kind` is allowed for the payload type.
    pub fn allows(&self, kind: &FeedbackKind, payload: u8) -> bool {
        self.feedback
            .iter()
            .any(|line| line.kind == *kind && line.payload.is_none_or(|number| number == payload))
    }
}

fn find<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes
        .iter()
        .find(|attribute| attribute.name.eq_ignore_ascii_case(name))
        .map(|attribute| attribute.value.as_deref().unwrap_or(""))
}
