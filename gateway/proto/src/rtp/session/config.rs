//! What a session is told: addresses, payload types, keys and policy, as the offer and the answer
//! left them. A re-offer gives the session a whole new one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crosspoint_codecs::format::{Direction, MediaFormat, MediaKind};

use crate::dtls;
use crate::rtp::srtp::MasterKey;

/// How long nothing may come from a peer that should send before the stream counts as dead
/// (P-13: a vanished SIP peer is gone within 30 s).
pub const MEDIA_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that is agreed for one m-line.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionConfig {
    /// The role of the stream.
    pub kind: MediaKind,
    /// What may flow, from our point of view. RTCP flows in any case.
    pub direction: Direction,
    /// Our own source. A random one, kept through re-offers.
    pub ssrc: u32,
    /// Our canonical name (RFC 3550 section 6.5.1), the same for all streams of a leg: at most
    /// 255 bytes, longer ones are cut.
    pub cname: String,
    /// What the payload types that come from the peer mean; everything else is dropped.
    pub receive: Vec<ReceivePayload>,
    /// How the peer wants its media; `None` while nothing is agreed.
    pub send: Option<SendPayload>,
    /// How we send keys in the media (RFC 4733); `None` when the peer does not take them.
    pub dtmf: Option<DtmfPayload>,
    /// Packets of sound say how loud they are (RFC 6464).
    pub levels: LevelItem,
    /// Where the peer wants its media; `None` while nothing is agreed or the address is 0.0.0.0.
    pub remote: Option<RemoteAddress>,
    /// RTP and RTCP share one port (RFC 5761).
    pub rtcp_mux: bool,
    /// Feedback that the peer takes from us (`a=rtcp-fb`).
    pub feedback: Feedback,
    /// Keys of SDES (RFC 4568); `None` for plain RTP, or [`Self::dtls`].
    pub srtp: Option<SrtpKeys>,
    /// Keys come by a handshake, through [`Session::secure`](super::Session::secure); nothing is
    /// sent or taken before.
    pub dtls: Option<dtls::Agreed>,
    /// From whom packets are taken.
    pub source: SourcePolicy,
    /// The address at which signalling has proven that the peer is: it answered a challenge there
    /// that was sent to no other. Media for that address needs no valid packet back;
    /// [`UNPROVEN_PACKETS`](super::UNPROVEN_PACKETS) holds for every other. `None`: nothing is
    /// proven.
    pub proven: Option<IpAddr>,
    /// Upper limit in bit/s of what the peer takes, when it said one.
    pub max_send_bitrate: Option<u32>,
    /// Silence after which [`Event::MediaTimeout`](super::Event::MediaTimeout) is told, counted
    /// only while the direction receives; RTCP of the peer breaks it too. `None`: never.
    pub media_timeout: Option<Duration>,
}

impl SessionConfig {
    /// A session that sends and receives nothing yet; strict about sources.
    pub const fn new(kind: MediaKind, ssrc: u32, cname: String) -> Self {
        Self {
            kind,
            direction: Direction::SendRecv,
            ssrc,
            cname,
            receive: Vec::new(),
            send: None,
            dtmf: None,
            levels: LevelItem::NONE,
            remote: None,
            rtcp_mux: false,
            feedback: Feedback::NONE,
            srtp: None,
            dtls: None,
            source: SourcePolicy::Strict,
            proven: None,
            max_send_bitrate: None,
            media_timeout: Some(MEDIA_TIMEOUT),
        }
    }
}

/// The meaning of one payload type that the peer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivePayload {
    /// 0 to 127.
    pub payload_type: u8,
    /// What it carries.
    pub payload: Payload,
}

/// What a payload type carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Coded media.
    Media(MediaFormat),
    /// Keys as events (RFC 4733) with this clock in ticks a second.
    TelephoneEvent(u32),
}

/// How our media goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendPayload {
    /// 0 to 127.
    pub payload_type: u8,
    /// The format, as the peer wants it.
    pub format: MediaFormat,
}

/// How our keys go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtmfPayload {
    /// 0 to 127.
    pub payload_type: u8,
    /// Ticks a second: the same as the audio's where the peer offers several.
    pub clock: u32,
}

/// The number of the header item that says how loud a packet is (RFC 6464, RFC 8285), each way: 1 to 14.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelItem {
    /// Of what we send; `None`: we may not say it.
    pub send: Option<u8>,
    /// Of what comes; `None`: what stands there means nothing.
    pub receive: Option<u8>,
}

impl LevelItem {
    /// Nobody says it.
    pub const NONE: Self = Self { send: None, receive: None };
}

/// Where the peer wants its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddress {
    /// RTP.
    pub rtp: SocketAddr,
    /// RTCP: the port above (RFC 3550 section 11), the one of `a=rtcp`, or with `rtcp_mux` the same.
    /// `None`: the peer wants none, and none is sent or taken.
    pub rtcp: Option<SocketAddr>,
}

impl RemoteAddress {
    /// RTCP on the port above that of RTP, if there is one; on the same one with `mux`.
    pub fn new(rtp: SocketAddr, mux: bool) -> Self {
        let above = rtp.port().checked_add(1).map(|port| SocketAddr::new(rtp.ip(), port));
        Self { rtp, rtcp: if mux { Some(rtp) } else { above } }
    }
}

/// RTCP feedback that may be sent (RFC 4585, RFC 5104).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Generic NACK: ask for lost packets.
    pub nack: bool,
    /// Picture loss indication: ask for a keyframe.
    pub pli: bool,
    /// Full intra request: ask for a keyframe.
    pub fir: bool,
    /// Temporary maximum media stream bit rate request: ask for less.
    pub tmmbr: bool,
    /// Receiver estimated maximum bit rate (draft-alvestrand-rmcat-remb-03): the same, where there is no TMMBR.
    pub remb: bool,
}

impl Feedback {
    /// None of it.
    pub const NONE: Self = Self { nack: false, pli: false, fir: false, tmmbr: false, remb: false };

    /// Whether a rate can be asked for.
    pub const fn rates(self) -> bool {
        self.tmmbr || self.remb
    }

    /// Whether a keyframe can be asked for in the media.
    pub const fn keyframes(self) -> bool {
        self.pli || self.fir
    }
}

/// From whom packets are taken. Checked before anything else is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePolicy {
    /// From the negotiated address alone.
    Strict,
    /// From the negotiated address, or from another port of this one, the IP address that the
    /// peer's signalling comes from: the first sender whose five packets in a row agree in SSRC,
    /// payload and sequence, then from that alone until the next configuration. For registered,
    /// authenticated devices behind a NAT.
    Latch(IpAddr),
}

/// Master keys of both ways (RFC 4568).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrtpKeys {
    /// What we protect with: the key in our own SDP.
    pub send: MasterKey,
    /// What we unprotect with: the key in the peer's SDP.
    pub receive: MasterKey,
}
