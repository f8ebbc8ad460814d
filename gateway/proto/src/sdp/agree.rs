//! What two descriptions of one stream agree on. One function for both sides: who offered and
//! who answered see the same agreement, mirrored.

use crosspoint_codecs::format::{
    Direction, MediaFormat, MediaKind, PacketizationMode, VideoFormat, compare_levels,
};

use super::agreed::{
    AgreedDtmf, AgreedFormat, AgreedLine, EncryptionPolicy, Feedback, LineRefusal, RemoteMedia, SrtpKeys,
};
use super::crypto::Crypto;
use super::description::{FeedbackKind, MediaLine, Payload, Profile, Sdp};
use super::extensions::agree_levels;
use super::format::{COMMON_EVENT_CLOCK, FormatKey, event_clock, format_of, h264_parameters};
use crate::address::{PeerPolicy, PeerTrust};
use crate::dtls;

/// A line and the description that it stands in.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) sdp: &'a Sdp,
    pub(super) line: &'a MediaLine,
}

/// What both sides of an m-line agree on, seen from `local`.
pub(super) fn agree(
    index: usize,
    local: Side<'_>,
    remote: Side<'_>,
    we_offered: bool,
    policy: EncryptionPolicy,
    peer: &PeerPolicy,
) -> Result<AgreedLine, LineRefusal> {
    let role = local.line.role().ok_or(LineRefusal::Media)?;
    let rtcp_mux = local.line.rtcp_mux && remote.line.rtcp_mux;
    let remote_media = remote_media(remote, peer)?;
    let (srtp, dtls, profile) = encryption(local, remote, policy)?;
    let pairs = pairs(local, remote, we_offered);
    let Some((first_local, first_remote)) = pairs.first().copied() else {
        return Err(LineRefusal::Format);
    };
    let (_, send) = level_pair(local, first_local, remote, first_remote).ok_or(LineRefusal::Format)?;
    let receive: Vec<AgreedFormat> = pairs
        .iter()
        .filter_map(|(ours, theirs)| {
            let (format, _) = level_pair(local, ours, remote, theirs)?;
            Some(AgreedFormat { payload: ours.number, format })
        })
        .collect();
    let video = role.is_video();
    let limits = [
        remote.line.bandwidth.media_bits(video),
        remote.sdp.bandwidth.media_bits(video),
        match &send {
            MediaFormat::Audio(audio) => audio.max_bitrate,
            MediaFormat::Video(video) => video.max_bitrate,
        },
    ];
    Ok(AgreedLine {
        index,
        role,
        direction: effective_direction(local).and(effective_direction(remote).reversed()),
        dtmf: dtmf(local.line, remote.line, send.codec().rtp_clock()).filter(|_| !video),
        levels: agree_levels(local, remote).filter(|_| !video),
        remote: remote_media
            .map(|media| RemoteMedia { rtcp: if rtcp_mux { Some(media.rtp) } else { media.rtcp }, ..media }),
        rtcp_mux,
        feedback: feedback(local.line, first_local, remote.line, first_remote),
        srtp,
        dtls,
        profile,
        ptime: match &send {
            MediaFormat::Audio(audio) => audio.ptime,
            MediaFormat::Video(_) => std::time::Duration::ZERO,
        },
        max_bitrate: limits.into_iter().flatten().min(),
        send: AgreedFormat { payload: first_remote.number, format: send },
        receive,
    })
}

/// What the writer of a line would do. A line at the unspecified address is held the old way
/// (RFC 2543, RFC 3264 section 8.4): nothing may be sent to it, whatever it says.
pub(super) fn effective_direction(side: Side<'_>) -> Direction {
    let said = side.sdp.direction_of(side.line);
    match side.sdp.address_of(side.line) {
        Some(ip) if ip.is_unspecified() => said.and(Direction::SendOnly),
        _ => said,
    }
}

/// Where the writer of a line wants media, when that is allowed. `Ok(None)` while it holds.
pub(super) fn remote_media(side: Side<'_>, peer: &PeerPolicy) -> Result<Option<RemoteMedia>, LineRefusal> {
    let Some(rtp) = side.sdp.rtp_of(side.line) else {
        return match side.sdp.address_of(side.line) {
            Some(_) => Ok(None),
            None => Err(LineRefusal::NoAddress),
        };
    };
    let mut trust = peer.judge(rtp)?;
    let rtcp = side.sdp.rtcp_of(side.line);
    if let Some(rtcp) = rtcp {
        trust = trust.max(peer.judge(rtcp)?);
    }
    // Two hosts that are both allowed are still two hosts.
    let split = rtcp.is_some_and(|rtcp| rtcp.ip() != rtp.ip());
    let trust = if split && trust == PeerTrust::Signalling { PeerTrust::Foreign } else { trust };
    Ok(Some(RemoteMedia { rtp, rtcp, trust }))
}

/// The SRTP that both described, and the transport. Keys that stand in both need no handshake.
fn encryption(
    local: Side<'_>,
    remote: Side<'_>,
    policy: EncryptionPolicy,
) -> Result<(Option<SrtpKeys>, Option<dtls::Agreed>, Profile), LineRefusal> {
    let ours = local.line.profile().ok_or(LineRefusal::Transport)?;
    let theirs = remote.line.profile().ok_or(LineRefusal::Transport)?;
    let keys = local.line.crypto.iter().filter(|_| !ours.is_dtls() && !theirs.is_dtls()).find_map(|own| {
        let lines = remote.line.crypto.iter();
        let same = |other: &&Crypto| other.tag == own.tag && other.suite() == own.suite();
        let other = lines.filter(|other| other.is_supported()).find(same)?;
        Some(SrtpKeys { local: own.key.clone(), remote: other.key.clone() })
    });
    let dtls = if keys.is_none() { super::dtls::agree(local, remote) } else { None };
    let needed = ours.is_secure() || theirs.is_secure() || policy == EncryptionPolicy::Required;
    if needed && keys.is_none() && dtls.is_none() {
        return Err(LineRefusal::Encryption);
    }
    Ok((keys, dtls, theirs))
}

/// The formats of both lines that belong together, in the order of the answer.
fn pairs<'a>(local: Side<'a>, remote: Side<'a>, we_offered: bool) -> Vec<(&'a Payload, &'a Payload)> {
    let (offer, answer) = if we_offered { (local, remote) } else { (remote, local) };
    let mut pairs: Vec<(&Payload, &Payload)> = Vec::new();
    for answered in &answer.line.payloads {
        let Some(offered) = counterpart(offer, answer, answered) else { continue };
        pairs.push(if we_offered { (offered, answered) } else { (answered, offered) });
    }
    pairs
}

/// The offered format that an answered one belongs to. An answer repeats the offer's number and
/// configuration; some give it another number (which RFC 3264 section 6.1 allows), others change
/// the configuration under the same number (which RFC 6184 does not).
fn counterpart<'a>(offer: Side<'a>, answer: Side<'_>, answered: &Payload) -> Option<&'a Payload> {
    let format = format_of(answer.sdp, answer.line, answered)?;
    let key = FormatKey::of(&format);
    let mode = |format: &MediaFormat| match format {
        MediaFormat::Video(video) => Some(video.mode),
        MediaFormat::Audio(_) => None,
    };
    let likeness = |offered: &Payload| {
        let candidate = format_of(offer.sdp, offer.line, offered)?;
        if candidate.codec() != format.codec() {
            return None;
        }
        let same_number = offered.number == answered.number;
        let same_key = FormatKey::of(&candidate) == key;
        let same_mode = mode(&candidate) == mode(&format);
        Some((same_key && same_number, same_key, same_number, same_mode))
    };
    offer
        .line
        .payloads
        .iter()
        .rev()
        .filter_map(|offered| Some((likeness(offered)?, offered)))
        .max_by_key(|(likeness, _)| *likeness)
        .map(|(_, offered)| offered)
}

/// The formats of a pair: what we receive and what we send. H.264 levels hold for both ways
/// unless both sides allow asymmetry (RFC 6184 section 8.2.2).
fn level_pair(
    local: Side<'_>,
    ours: &Payload,
    remote: Side<'_>,
    theirs: &Payload,
) -> Option<(MediaFormat, MediaFormat)> {
    let mut receive = format_of(local.sdp, local.line, ours)?;
    let mut send = format_of(remote.sdp, remote.line, theirs)?;
    if let (MediaFormat::Video(receive), MediaFormat::Video(send)) = (&mut receive, &mut send) {
        let asymmetric =
            h264_parameters(ours).level_asymmetry_allowed && h264_parameters(theirs).level_asymmetry_allowed;
        if !asymmetric {
            let level = lower_level(receive, send);
            (receive.level, send.level) = (level, level);
        }
        // Mode 0 is a subset of mode 1: who answers mode 0 to mode 1 gets it.
        if receive.mode != send.mode {
            send.mode = PacketizationMode::SingleNal;
        }
    }
    Some((receive, send))
}

pub(super) fn lower_level(a: &VideoFormat, b: &VideoFormat) -> u8 {
    if compare_levels(a.level, b.level).is_gt() { b.level } else { a.level }
}

fn dtmf(local: &MediaLine, remote: &MediaLine, clock: u32) -> Option<AgreedDtmf> {
    let events = |line: &MediaLine| -> Vec<(u8, u32)> {
        line.payloads.iter().filter_map(|payload| Some((payload.number, event_clock(payload)?))).collect()
    };
    let (ours, theirs) = (events(local), events(remote));
    // The clock of the sound first (RFC 4733 section 2.1), then the common one, then any.
    let rank = |candidate: u32| (candidate == clock, candidate == COMMON_EVENT_CLOCK);
    let mut receive: Vec<(u8, u32)> =
        ours.into_iter().filter(|(_, own)| theirs.iter().any(|(_, other)| other == own)).collect();
    receive.sort_by_key(|(_, own)| std::cmp::Reverse(rank(*own)));
    let (_, clock) = *receive.first()?;
    let (send, _) = theirs.into_iter().find(|(_, other)| *other == clock)?;
    Some(AgreedDtmf { send, clock, receive })
}

fn feedback(local: &MediaLine, ours: &Payload, remote: &MediaLine, theirs: &Payload) -> Feedback {
    let both = |kind: &FeedbackKind| local.allows(kind, ours.number) && remote.allows(kind, theirs.number);
    Feedback {
        nack: both(&FeedbackKind::Nack),
        pli: both(&FeedbackKind::Pli),
        fir: both(&FeedbackKind::Fir),
        tmmbr: both(&FeedbackKind::Tmmbr),
        remb: both(&FeedbackKind::Remb),
    }
}

/// Whether a line could be taken at all: what [`agree`] asks of the remote side alone.
pub(super) fn takeable(side: Side<'_>, means: Means, policy: EncryptionPolicy) -> Result<(), LineRefusal> {
    if side.line.port == 0 {
        return Err(LineRefusal::Disabled);
    }
    if side.line.role().is_none() {
        return Err(LineRefusal::Media);
    }
    let profile = side.line.profile().ok_or(LineRefusal::Transport)?;
    let refused = profile.is_secure() && !means.fit(side);
    if refused || policy == EncryptionPolicy::Required && !profile.is_secure() {
        return Err(LineRefusal::Encryption);
    }
    let known = side.line.payloads.iter().any(|payload| format_of(side.sdp, side.line, payload).is_some());
    if known { Ok(()) } else { Err(LineRefusal::Format) }
}

/// How we could get keys.
#[derive(Clone, Copy)]
pub(super) struct Means {
    /// Keys may be in SDP.
    pub(super) sdes: bool,
    /// We have a certificate, and are to use it.
    pub(super) dtls: bool,
}

impl Means {
    /// Whether a line can be encrypted by one of them.
    pub(super) fn fit(self, side: Side<'_>) -> bool {
        let by_dtls = side.line.profile().is_some_and(Profile::is_dtls);
        let sdes = !by_dtls && side.line.crypto.iter().any(Crypto::is_supported);
        self.sdes && sdes || self.dtls && super::dtls::is_possible(side)
    }
}

/// Roles of streams, told apart on the wire by `a=content`.
pub(super) const fn media_name(role: MediaKind) -> &'static str {
    if role.is_video() { "video" } else { "audio" }
}
