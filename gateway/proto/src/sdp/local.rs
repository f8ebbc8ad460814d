//! Our own lines: of an offer, and of the answer to a line.

use std::net::{IpAddr, SocketAddr};

use crosspoint_codecs::format::{MediaCapability, MediaFormat, MediaKind};

use super::agree::{Side, effective_direction, lower_level, media_name};
use super::agreed::{AgreedLine, Encryption, EncryptionPolicy, LineRefusal, LocalMedia, Preference};
use super::crypto::{Crypto, SrtpSecret};
use super::description::{Bandwidth, FeedbackKind, FeedbackLine, MediaLine, Payload, Profile, RtcpAddress};
use super::dtls::{self, Setup};
use super::error::NegotiationError;
use super::fmtp::H264Parameters;
use super::format::{
    COMMON_EVENT_CLOCK, FormatKey, event_clock, events_of, format_of, h264_parameters, payload_of,
};
use super::negotiate::Slot;
use crate::dtls::Fingerprint;
use crate::rtp::srtp::SrtpSuite;

/// The feedback that our RTP side gives and takes for pictures.
const FEEDBACK: [FeedbackKind; 5] =
    [FeedbackKind::Nack, FeedbackKind::Pli, FeedbackKind::Fir, FeedbackKind::Tmmbr, FeedbackKind::Remb];

/// A line of our offer. The slot learns the numbers; those of other lines are in `elsewhere`.
pub(super) fn offer_line(
    capability: &MediaCapability,
    local: &LocalMedia,
    slot: &mut Slot,
    elsewhere: &[u8],
    security: &Securing<'_>,
    address: IpAddr,
) -> Result<MediaLine, NegotiationError> {
    let key = security.key(local);
    let own = security.certificate();
    let usable =
        |profile: Profile| if profile.is_dtls() { own.is_some() } else { key.is_some() || own.is_some() };
    // A line keeps its transport, which the peer may have chosen.
    let standing = slot.last.profile().filter(|_| slot.role.is_some());
    let profile = match (security.encryption.policy, standing) {
        (EncryptionPolicy::Required, _) if key.is_none() && own.is_none() => {
            return Err(NegotiationError::NoEncryption);
        }
        (_, Some(standing)) if standing.is_secure() && usable(standing) => standing,
        (EncryptionPolicy::Required, _) if key.is_some() => Profile::Savp,
        (EncryptionPolicy::Required, _) => Profile::DtlsSavp,
        (_, Some(standing)) if !standing.is_secure() => standing,
        _ => Profile::Avp,
    };
    let mut line = own_line(capability.role, profile, local, address);
    line.direction = Some(capability.direction);
    line.rtcp_mux = local.rtcp_mux || local.rtcp.is_none();
    // What stands is offered alone: an answer could otherwise change the way.
    if let Some(key) = key
        && !profile.is_dtls()
        && !security.dtls_stands()
    {
        line.crypto.extend(offered_crypto(key, security.suite_stands()));
    }
    if own.is_some() && (profile.is_dtls() || security.suite_stands().is_none()) {
        dtls::describe(&mut line, Setup::ActPass);
    }
    let Slot { numbers, theirs, level, .. } = slot;
    let taken = |number: u8| theirs.contains(&number) || elsewhere.contains(&number);
    let mut seen: Vec<FormatKey> = Vec::new();
    for format in &capability.formats {
        let key = FormatKey::of(format);
        if format.codec().is_video() != capability.role.is_video() || seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let number = numbers.for_offer(key, taken);
        line.payloads.extend(number.map(|number| payload_of(format, number)));
    }
    if line.payloads.is_empty() {
        return Err(NegotiationError::NoFormats(capability.role));
    }
    if capability.role.is_video() {
        line.bandwidth = bandwidth(&capability.formats);
        line.feedback = FEEDBACK.map(|kind| FeedbackLine { payload: None, kind }).into();
    } else {
        line.ptime = ptime(&capability.formats);
        // Beside 48 kHz sound both clocks are offered: few peers know the one that is right.
        let mut clocks: Vec<u32> = line.payloads.iter().map(|payload| payload.clock).collect();
        clocks.push(COMMON_EVENT_CLOCK);
        clocks.sort_unstable_by_key(|clock| std::cmp::Reverse(*clock));
        clocks.dedup();
        for clock in clocks {
            let number = numbers.for_offer(FormatKey::Events(clock), taken);
            line.payloads.extend(number.map(|number| events_of(clock, number)));
        }
        level.offer(&mut line);
    }
    line.formats = line.payloads.iter().map(|payload| payload.number.to_string()).collect();
    Ok(line)
}

/// What a line of ours can be encrypted with.
pub(super) struct Securing<'a> {
    pub(super) encryption: Encryption,
    pub(super) certificate: Option<&'a Fingerprint>,
    /// The stream as it stands.
    pub(super) stands: Option<&'a AgreedLine>,
}

impl<'a> Securing<'a> {
    fn key<'l>(&self, local: &'l LocalMedia) -> Option<&'l SrtpSecret> {
        local.key.as_ref().filter(|_| self.encryption.may_exchange_keys())
    }

    fn certificate(&self) -> Option<&'a Fingerprint> {
        self.certificate.filter(|_| self.encryption.policy != EncryptionPolicy::None)
    }

    fn suite_stands(&self) -> Option<SrtpSuite> {
        Some(self.stands?.srtp.as_ref()?.local.suite())
    }

    fn dtls_stands(&self) -> bool {
        self.stands.is_some_and(|line| line.dtls.is_some())
    }
}

/// What an answer is made of.
pub(super) struct Answering<'a> {
    pub(super) capability: &'a MediaCapability,
    pub(super) media: &'a LocalMedia,
    pub(super) security: Securing<'a>,
    pub(super) preference: Preference,
}

/// Our answer to a line. The slot learns the numbers.
pub(super) fn answer_line(
    with: &Answering<'_>,
    offer: Side<'_>,
    slot: &mut Slot,
    address: IpAddr,
) -> Result<MediaLine, LineRefusal> {
    let Answering { capability, media, .. } = with;
    let offered = offer.line;
    let profile = offered.profile().ok_or(LineRefusal::Transport)?;
    let mut line = own_line(capability.role, profile, media, address);
    // Word for word as offered, for an answer may not change it.
    line.protocol.clone_from(&offered.protocol);
    line.media.clone_from(&offered.media);
    line.direction = Some(capability.direction.and(effective_direction(offer).reversed()));
    line.rtcp_mux = offered.rtcp_mux && (media.rtcp_mux || media.rtcp.is_none());
    if line.rtcp_mux {
        line.rtcp = None;
    }
    secure_answer(with, offer, profile, &mut line)?;

    let (ours, theirs, chosen) = choose(with, offer).ok_or(LineRefusal::Format)?;
    let Slot { numbers, theirs: used, level, .. } = slot;
    let taken = |number: u8| used.contains(&number) || offered.payload(number).is_some();
    let key = FormatKey::of(&theirs);
    let number = numbers.for_answer(key, chosen.number, taken).ok_or(LineRefusal::Format)?;
    line.payloads.push(answer_payload(ours, &theirs, chosen, number));
    if capability.role.is_video() {
        line.bandwidth = bandwidth(std::slice::from_ref(ours));
        let kinds = FEEDBACK.into_iter().filter(|kind| offered.allows(kind, chosen.number));
        line.feedback = kinds.map(|kind| FeedbackLine { payload: None, kind }).collect();
    } else {
        line.ptime = ptime(std::slice::from_ref(ours));
        if let Some((clock, offered_number)) = choose_events(offered, ours.codec().rtp_clock()) {
            let number = numbers.for_answer(FormatKey::Events(clock), offered_number, taken);
            line.payloads.extend(number.map(|number| events_of(clock, number)));
        }
        level.answer(&mut line, offer);
    }
    line.formats = line.payloads.iter().map(|payload| payload.number.to_string()).collect();
    Ok(line)
}

fn own_line(role: MediaKind, profile: Profile, local: &LocalMedia, address: IpAddr) -> MediaLine {
    let mut line = MediaLine::disabled(media_name(role), profile.name(), Vec::new());
    line.port = local.rtp.port();
    line.connection = Some(local.rtp.ip()).filter(|ip| *ip != address);
    line.rtcp = local.rtcp.and_then(|rtcp| rtcp_address(local.rtp, rtcp));
    line.content = (role == MediaKind::Content).then(|| "slides".to_owned());
    line
}

/// `a=rtcp` says only what the next port does not.
fn rtcp_address(rtp: SocketAddr, rtcp: SocketAddr) -> Option<RtcpAddress> {
    let address = Some(rtcp.ip()).filter(|ip| *ip != rtp.ip());
    let usual = rtp.port().checked_add(1) == Some(rtcp.port()) && address.is_none();
    (!usual).then_some(RtcpAddress { port: rtcp.port(), address })
}

/// A line for each suite. The one that stands comes first, so that a re-offer does not change it.
fn offered_crypto(key: &SrtpSecret, stands: Option<SrtpSuite>) -> impl Iterator<Item = Crypto> {
    let others = SrtpSuite::ALL.into_iter().filter(move |suite| Some(*suite) != stands);
    (1..)
        .zip(stands.into_iter().chain(others))
        .filter_map(|(tag, suite)| Some(Crypto::new(tag, key.key(suite)?)))
}

/// Puts into our answer what the stream gets its keys by: our key under the offerer's tag, at its
/// first line that we can do; else our certificate. What stands goes on by the same means.
fn secure_answer(
    with: &Answering<'_>,
    offer: Side<'_>,
    profile: Profile,
    line: &mut MediaLine,
) -> Result<(), LineRefusal> {
    let security = &with.security;
    let theirs = offer.line.crypto.iter().find(|line| line.is_supported());
    let crypto = security.key(with.media).zip(theirs).and_then(|(key, theirs)| {
        let key = key.key(theirs.suite())?;
        Some(Crypto::new(theirs.tag, key))
    });
    let stands = security.stands.and_then(|line| Some(line.dtls.as_ref()?.role));
    let setup = security.certificate().and_then(|_| dtls::answer(offer, stands));
    match (crypto, setup) {
        (Some(crypto), None) if !profile.is_dtls() => line.crypto.push(crypto),
        (Some(crypto), Some(_)) if !profile.is_dtls() && stands.is_none() => line.crypto.push(crypto),
        (_, Some(setup)) => dtls::describe(line, setup),
        _ if profile.is_secure() => return Err(LineRefusal::Encryption),
        _ => {}
    }
    Ok(())
}

/// The pair of formats that wins: ours, theirs, and theirs as it was written.
fn choose<'a>(with: &Answering<'a>, offer: Side<'a>) -> Option<(&'a MediaFormat, MediaFormat, &'a Payload)> {
    let ours = &with.capability.formats;
    let theirs: Vec<(MediaFormat, &Payload)> = offer
        .line
        .payloads
        .iter()
        .filter_map(|payload| Some((format_of(offer.sdp, offer.line, payload)?, payload)))
        .collect();
    let pairs =
        || ours.iter().flat_map(|own| theirs.iter().map(move |(format, payload)| (own, format, *payload)));
    let rank = |(own, format, payload): &(&MediaFormat, &MediaFormat, &Payload)| {
        let own_place = ours.iter().position(|other| other == *own);
        let their_place = theirs.iter().position(|(_, other)| other.number == payload.number);
        // Beside each place the format that is exactly the other's, not one that merely suits.
        let inexact = FormatKey::of(own) != FormatKey::of(format);
        match with.preference {
            Preference::Theirs => (their_place, inexact, own_place),
            Preference::Ours => (own_place, inexact, their_place),
        }
    };
    let (own, format, payload) =
        pairs().filter(|(own, format, _)| suits(own, format)).min_by_key(|pair| rank(pair))?;
    Some((own, format.clone(), payload))
}

/// Whether what the offerer calls `offered` can come to us who can receive `own`.
fn suits(own: &MediaFormat, offered: &MediaFormat) -> bool {
    match (own, offered) {
        (MediaFormat::Audio(own), MediaFormat::Audio(offered)) => own.codec == offered.codec,
        (MediaFormat::Video(own), MediaFormat::Video(offered)) => {
            own.codec == offered.codec && own.mode == offered.mode && own.profile.decodes(offered.profile)
        }
        _ => false,
    }
}

/// Our wishes in the configuration of the offer (RFC 6184 section 8.2.2 for pictures).
fn answer_payload(ours: &MediaFormat, theirs: &MediaFormat, chosen: &Payload, number: u8) -> Payload {
    let mut payload = payload_of(ours, number);
    if let (MediaFormat::Video(ours), MediaFormat::Video(theirs)) = (ours, theirs) {
        let parameters = h264_parameters(chosen);
        let asymmetric = parameters.level_asymmetry_allowed;
        let level = if asymmetric { ours.level } else { lower_level(ours, theirs) };
        let own = H264Parameters {
            max_fs: ours.max_fs,
            max_mbps: ours.max_mbps,
            max_br: None,
            sprop_parameter_sets: None,
            ..parameters
        };
        payload.parameters = Some(own.with_level(level).text());
    }
    payload
}

/// The telephone-event of an offer to answer: of the sound's clock, else the common one.
fn choose_events(offered: &MediaLine, clock: u32) -> Option<(u32, u8)> {
    let events: Vec<(u32, u8)> =
        offered.payloads.iter().filter_map(|payload| Some((event_clock(payload)?, payload.number))).collect();
    let of = |clock: u32| events.iter().find(|(other, _)| *other == clock).copied();
    of(clock).or_else(|| of(COMMON_EVENT_CLOCK))
}

fn ptime(formats: &[MediaFormat]) -> Option<std::time::Duration> {
    formats.iter().find_map(|format| match format {
        MediaFormat::Audio(audio) => Some(audio.ptime),
        MediaFormat::Video(_) => None,
    })
}

/// The highest limit of all formats, if each has one.
fn bandwidth(formats: &[MediaFormat]) -> Bandwidth {
    let limits: Option<Vec<u32>> = formats
        .iter()
        .map(|format| match format {
            MediaFormat::Video(video) => video.max_bitrate,
            MediaFormat::Audio(_) => None,
        })
        .collect();
    limits.and_then(|limits| limits.into_iter().max()).map(Bandwidth::of_media).unwrap_or_default()
}
