//! What goes into a negotiation and what comes out of it, as data.

use std::net::SocketAddr;
use std::time::Duration;

use crosspoint_codecs::format::{Capabilities, Direction, MediaFormat, MediaKind, Stream};

use super::crypto::SrtpSecret;
use super::description::Profile;
use crate::address::{ForbiddenPeer, PeerTrust};
use crate::rtp::srtp::MasterKey;

/// Whether media is encrypted: SRTP with keys by SDES (RFC 4568) or by DTLS (RFC 5763).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EncryptionPolicy {
    /// Never: `RTP/SAVP` is refused, keys and fingerprints on `RTP/AVP` are ignored.
    None,
    /// Where the peer can. We offer `RTP/AVP` with `a=crypto` and `a=fingerprint` (opportunistic
    /// SRTP, RFC 8643): who knows one of them answers with its own, everybody else ignores them and
    /// takes plain RTP. An offer of `RTP/SAVP` alone would fail with the latter, and two m-lines for
    /// one stream confuse more peers than they help; capability negotiation (RFC 5939) is hardly
    /// deployed.
    #[default]
    BestEffort,
    /// Always, for the whole call: we offer `RTP/SAVP`, or where keys may not be in SDP
    /// `UDP/TLS/RTP/SAVP`; `RTP/AVP` is refused, in a re-offer too.
    Required,
}

/// Whether, and whether we may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Encryption {
    /// The wish.
    pub policy: EncryptionPolicy,
    /// The signalling runs over TLS.
    pub secure_signalling: bool,
    /// Keys may be exchanged over signalling that everybody on the path can read.
    pub allow_insecure: bool,
}

impl Encryption {
    /// Whether SDES keys may be offered and answered.
    pub const fn may_exchange_keys(self) -> bool {
        !matches!(self.policy, EncryptionPolicy::None) && (self.secure_signalling || self.allow_insecure)
    }
}

/// Our end of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMedia {
    /// The role; one entry for each.
    pub role: MediaKind,
    /// Where we receive RTP, as the peer must write it.
    pub rtp: SocketAddr,
    /// Where we receive RTCP. `None`: only multiplexed with RTP.
    pub rtcp: Option<SocketAddr>,
    /// Whether RTCP may come to the port of RTP.
    pub rtcp_mux: bool,
    /// Keys of what we send. Keep them for the whole session: new ones restart SRTP. `None`
    /// leaves the stream unencrypted, or refused where encryption is required.
    pub key: Option<SrtpSecret>,
}

/// Whose order of formats decides in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preference {
    /// The offerer's, as RFC 3264 section 6.1 recommends.
    #[default]
    Theirs,
    /// Ours: what allows a relay stands first there.
    Ours,
}

/// What a peer offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What it can receive: one entry for each line that we could take, in its order.
    pub capabilities: Capabilities,
    /// All its lines.
    pub lines: Vec<OfferedLine>,
}

/// One line of a peer's offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedLine {
    /// Its place.
    pub index: usize,
    /// Its role, when it has one for us.
    pub role: Option<MediaKind>,
    /// What the peer would like to do. A line held the old way (`c=0.0.0.0`) counts as not
    /// receiving.
    pub direction: Direction,
    /// Where it wants media.
    pub remote: Option<RemoteMedia>,
    /// Its transport, when that is RTP.
    pub profile: Option<Profile>,
    /// SRTP would be possible.
    pub encryptable: bool,
    /// Why it will be refused whatever we answer.
    pub refusal: Option<LineRefusal>,
}

/// Where a peer wants media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteMedia {
    /// RTP.
    pub rtp: SocketAddr,
    /// RTCP; the same as `rtp` when multiplexed. `None` when the peer wants none.
    pub rtcp: Option<SocketAddr>,
    /// How far both may be believed.
    pub trust: PeerTrust,
}

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineRefusal {
    /// Port 0: its owner does not want it (any more).
    #[error("disabled")]
    Disabled,
    /// Neither audio nor video.
    #[error("media type not supported")]
    Media,
    /// Not RTP over UDP.
    #[error("transport not supported")]
    Transport,
    /// An earlier line has that role.
    #[error("role taken by another line")]
    Role,
    /// The other side of the call has no such stream.
    #[error("nothing to connect it with")]
    NotWanted,
    /// No format that both know.
    #[error("no common format")]
    Format,
    /// Encryption is required by one side and not possible with the other.
    #[error("encryption policy")]
    Encryption,
    /// No IP address.
    #[error("no media address")]
    NoAddress,
    /// A media address that we do not send to.
    #[error("media address is {0}")]
    Address(#[from] ForbiddenPeer),
}

/// An agreed stream, from our point of view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreedLine {
    /// Place of its m-line.
    pub index: usize,
    /// The role.
    pub role: MediaKind,
    /// What we do.
    pub direction: Direction,
    /// What we send, under the peer's number.
    pub send: AgreedFormat,
    /// What the peer may send, under our numbers; the expected one first, never empty.
    pub receive: Vec<AgreedFormat>,
    /// DTMF as RFC 4733 events.
    pub dtmf: Option<AgreedDtmf>,
    /// Packets say how loud their sound is.
    pub levels: Option<AgreedLevels>,
    /// Where the peer wants media. `None` while it holds the stream the old way.
    pub remote: Option<RemoteMedia>,
    /// RTCP shares the ports of RTP.
    pub rtcp_mux: bool,
    /// Feedback that both sides allow.
    pub feedback: Feedback,
    /// SRTP with keys from SDP. `None`: plain RTP, or [`AgreedLine::dtls`].
    pub srtp: Option<SrtpKeys>,
    /// SRTP whose keys a handshake finds.
    pub dtls: Option<crate::dtls::Agreed>,
    /// The transport of the m-line. On `AVP` lines feedback was agreed all the same when
    /// [`AgreedLine::feedback`] says so: phones write it there.
    pub profile: Profile,
    /// Sound that we put into one packet; zero for pictures.
    pub ptime: Duration,
    /// Upper limit in bit/s of what we send, by the peer's `b=` and its format's limit.
    pub max_bitrate: Option<u32>,
}

impl AgreedLine {
    /// Whether media is encrypted.
    pub const fn is_encrypted(&self) -> bool {
        self.srtp.is_some() || self.dtls.is_some()
    }

    /// The part that conferences speak of.
    pub fn stream(&self) -> Stream {
        Stream {
            role: self.role,
            direction: self.direction,
            send: self.send.format.clone(),
            receive: self.receive.first().map_or_else(|| self.send.format.clone(), |it| it.format.clone()),
        }
    }

    /// What a received payload type number means.
    pub fn received(&self, payload: u8) -> Option<&MediaFormat> {
        self.receive.iter().find(|it| it.payload == payload).map(|it| &it.format)
    }
}

/// A format and its payload type number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreedFormat {
    /// The number, 0 to 127.
    pub payload: u8,
    /// The format.
    pub format: MediaFormat,
}

/// telephone-event each way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreedDtmf {
    /// Number that we send under.
    pub send: u8,
    /// Clock of what we send: that of the sound where the peer has it, else 8000.
    pub clock: u32,
    /// Numbers under which events may come, each with its clock; the expected one first.
    pub receive: Vec<(u8, u32)>,
}

/// Levels of sound in the headers of packets (RFC 6464), one way at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgreedLevels {
    /// The number of the item in both directions, 1 to 14.
    pub id: u8,
    /// We may say it.
    pub send: bool,
    /// The peer may.
    pub receive: bool,
}

/// Feedback of RFC 4585 and RFC 5104.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Temporary maximum bit rate.
    pub tmmbr: bool,
    /// Receiver estimated maximum bit rate.
    pub remb: bool,
}

/// SRTP of one stream. Both keys have one suite. A re-offer that repeats the keys goes on with
/// the same SRTP state; only a new key restarts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrtpKeys {
    /// Key of what we send.
    pub local: MasterKey,
    /// Key of what the peer sends.
    pub remote: MasterKey,
}
