//! Offer/answer of one dialog (RFC 3264): who offered what, which line is which stream, which
//! number means which format, and when the version grows.

use std::net::IpAddr;

use crosspoint_codecs::format::{Capabilities, MediaCapability, MediaKind};

use super::agree::{Means, Side, agree, effective_direction, media_name, remote_media, takeable};
use super::agreed::{
    AgreedLine, Encryption, EncryptionPolicy, LineRefusal, LocalMedia, Offer, OfferedLine, Preference,
};
use super::description::{Bandwidth, MediaLine, Origin, Sdp};
use super::dtls;
use super::error::{NegotiationError, Refusals};
use super::extensions::LevelNumber;
use super::format::format_of;
use super::local::{Answering, Securing, answer_line, offer_line};
use super::numbers::Numbers;
use crate::address::PeerPolicy;
use crate::dtls::Fingerprint;

/// What a negotiation is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// Random; names the session in `o=`.
    pub session_id: u64,
    /// Our media address as peers know it.
    pub address: IpAddr,
    /// Whether media is encrypted.
    pub encryption: Encryption,
    /// The certificate that we show to peers of DTLS; `None`: no keys by DTLS.
    pub certificate: Option<Fingerprint>,
    /// Where the peer may have media sent to.
    pub peer: PeerPolicy,
}

/// Session ids keep to 62 bits: some programs read them into a signed number.
const SESSION_ID_MASK: u64 = u64::MAX >> 2;

/// Offer/answer state of one dialog. Pure: bytes in, descriptions out. Clone it for each dialog
/// that one INVITE forks into.
///
/// A failed call changes nothing, so a refused re-offer leaves the session as it was.
#[derive(Clone, Debug)]
pub struct Negotiation {
    parameters: SessionParameters,
    slots: Vec<Slot>,
    last_sent: Option<Sdp>,
    /// Our description in the last completed exchange.
    standing: Option<Sdp>,
    exchange: Exchange,
    agreed: Vec<AgreedLine>,
    refused: Refusals,
}

/// One place in the list of m-lines, which never changes its order (RFC 3264 section 8).
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Media type, transport and formats of the last line here, to repeat when it is disabled.
    pub(super) last: MediaLine,
    /// The stream here, while there is one.
    pub(super) role: Option<MediaKind>,
    /// What our numbers mean.
    pub(super) numbers: Numbers,
    /// Numbers that the peer used last.
    pub(super) theirs: Vec<u8>,
    /// The number of the item that tells how loud a packet is.
    pub(super) level: LevelNumber,
}

/// What [`Negotiation::create_answer`] is asked for.
struct Wish<'a> {
    capabilities: &'a Capabilities,
    local: &'a [LocalMedia],
    preference: Preference,
}

#[derive(Clone, Debug)]
enum Exchange {
    /// None yet, or the last one was refused.
    None,
    /// We offered. The slots are what they become once it is answered.
    Sent { offer: Box<Sdp>, slots: Vec<Slot>, answered: bool },
    /// The peer offered.
    Received { offer: Box<Sdp>, answered: bool },
}

impl Negotiation {
    /// A dialog in which nothing was offered yet.
    pub const fn new(parameters: SessionParameters) -> Self {
        Self {
            parameters,
            slots: Vec::new(),
            last_sent: None,
            standing: None,
            exchange: Exchange::None,
            agreed: Vec::new(),
            refused: Refusals(Vec::new()),
        }
    }

    /// The streams as they stand: those of the last completed exchange.
    pub fn agreed(&self) -> &[AgreedLine] {
        &self.agreed
    }

    /// The lines that the last completed exchange came to nothing of, and why.
    pub const fn refused(&self) -> &Refusals {
        &self.refused
    }

    /// Whether an offer of either side waits for its answer.
    pub const fn is_pending(&self) -> bool {
        matches!(
            self.exchange,
            Exchange::Sent { answered: false, .. } | Exchange::Received { answered: false, .. }
        )
    }

    /// Whether the peer's offer waits for our answer.
    pub const fn owes_answer(&self) -> bool {
        matches!(self.exchange, Exchange::Received { answered: false, .. })
    }

    /// What the session was made with.
    pub const fn parameters(&self) -> &SessionParameters {
        &self.parameters
    }

    /// Where the peer may have media sent to, once its signalling address is known or changed.
    pub fn set_peer(&mut self, peer: PeerPolicy) {
        self.parameters.peer = peer;
    }

    /// Our media address, once it is known which of ours the peer can reach. Before the first offer
    /// or answer: later ones would say another address than the first.
    pub const fn set_address(&mut self, address: IpAddr) {
        self.parameters.address = address;
    }

    /// Another policy for offers to come; what stands is not touched. No leg offers a second time
    /// by it: our best effort is `RTP/AVP`, which a peer without encryption takes as it is, and one
    /// that insists on `RTP/SAVP` is configured as required.
    pub const fn set_encryption(&mut self, encryption: Encryption) {
        self.parameters.encryption = encryption;
    }

    /// Writes an offer of what we can receive: one line for each entry of `capabilities`, whose
    /// roles differ (of two entries of one role the second is left out). Lines of an earlier exchange keep their places; those of roles that are
    /// missing now get port 0. Hold and resume are directions of the entries.
    pub fn create_offer(
        &mut self,
        capabilities: &Capabilities,
        local: &[LocalMedia],
    ) -> Result<Sdp, NegotiationError> {
        if self.is_pending() {
            return Err(NegotiationError::Pending);
        }
        let mut slots = self.slots.clone();
        let mut lines: Vec<Option<MediaLine>> = vec![None; slots.len()];
        for capability in &capabilities.media {
            let media = local_of(local, capability.role)?;
            let index = place(&slots, &lines, capability.role);
            if lines.get(index).is_some_and(Option::is_some) {
                continue;
            }
            let elsewhere: Vec<u8> = numbers_elsewhere(&slots, index);
            let mut slot = slots.get(index).cloned().unwrap_or_else(|| Slot::new(capability.role));
            let security = self.securing(capability.role);
            let line =
                offer_line(capability, media, &mut slot, &elsewhere, &security, self.parameters.address)?;
            slot.role = Some(capability.role);
            slot.last = line.clone();
            match (slots.get_mut(index), lines.get_mut(index)) {
                (Some(old), Some(free)) => (*old, *free) = (slot, Some(line)),
                _ => {
                    slots.push(slot);
                    lines.push(Some(line));
                }
            }
        }
        let lines = slots.iter_mut().zip(lines).map(|(slot, line)| {
            line.unwrap_or_else(|| {
                slot.role = None;
                slot.disabled()
            })
        });
        let media = lines.collect();
        let sdp = self.describe(media, capabilities.max_bitrate);
        self.exchange = Exchange::Sent { offer: Box::new(sdp.clone()), slots, answered: false };
        self.last_sent = Some(sdp.clone());
        Ok(sdp)
    }

    /// What stands of ours was offered again, unchanged (a refresh of the session, RFC 4028 section
    /// 7.4): its answer is for [`Negotiation::receive_answer`]. False, and nothing changes: nothing
    /// stands, or an exchange is under way that says more.
    pub fn repeat_offer(&mut self) -> bool {
        match &self.standing {
            Some(standing) if !self.is_pending() => {
                let offer = Box::new(standing.clone());
                self.exchange = Exchange::Sent { offer, slots: self.slots.clone(), answered: false };
                true
            }
            _ => false,
        }
    }

    /// Takes the answer to our offer. The same answer may come several times (in provisional
    /// responses and in the final one); each counts, the last one stays.
    pub fn receive_answer(&mut self, body: &[u8]) -> Result<Vec<AgreedLine>, NegotiationError> {
        let Exchange::Sent { offer, slots, .. } = &self.exchange else {
            return Err(NegotiationError::NoOffer);
        };
        let answer = Sdp::parse(body)?;
        let mut slots = slots.clone();
        let (mut agreed, mut refusals) = (Vec::new(), Refusals::default());
        for (index, (line, slot)) in offer.media.iter().zip(&mut slots).enumerate() {
            if line.port == 0 {
                continue;
            }
            match self.answered_line(index, offer, line, &answer) {
                Ok(stream) => {
                    slot.theirs = numbers_of(answer.media.get(index));
                    if let Some(line) = answer.media.get(index) {
                        slot.level.heed(Side { sdp: &answer, line });
                    }
                    agreed.push(stream);
                }
                Err(refusal) => {
                    slot.role = None;
                    refusals.0.push((index, refusal));
                }
            }
        }
        if agreed.is_empty() && !refusals.0.is_empty() {
            return Err(NegotiationError::NothingInCommon(refusals));
        }
        let offer = offer.clone();
        self.standing = Some(Sdp::clone(&offer));
        self.slots.clone_from(&slots);
        self.agreed.clone_from(&agreed);
        self.refused = refusals;
        self.exchange = Exchange::Sent { offer, slots, answered: true };
        Ok(agreed)
    }

    /// Our offer was refused, or its request failed: the session stays as it was.
    pub fn withdraw_offer(&mut self) {
        if matches!(self.exchange, Exchange::Sent { answered: false, .. }) {
            self.exchange = Exchange::None;
        }
    }

    /// Takes an offer of the peer. Answer it with [`Negotiation::create_answer`] or refuse it
    /// with [`Negotiation::refuse_offer`].
    pub fn receive_offer(&mut self, body: &[u8]) -> Result<Offer, NegotiationError> {
        match self.exchange {
            Exchange::Sent { answered: false, .. } => return Err(NegotiationError::Glare),
            Exchange::Received { answered: false, .. } => return Err(NegotiationError::Pending),
            _ => {}
        }
        let sdp = Sdp::parse(body)?;
        let lines: Vec<OfferedLine> =
            sdp.media.iter().enumerate().map(|(index, line)| self.offered_line(index, &sdp, line)).collect();
        let mut media: Vec<MediaCapability> = Vec::new();
        for (line, offered) in sdp.media.iter().zip(&lines) {
            let Some(role) = offered.role.filter(|_| offered.refusal.is_none()) else { continue };
            // Of two lines of one role the first counts here; the answer may take the second
            // when only that fits.
            if media.iter().any(|entry| entry.role == role) {
                continue;
            }
            let mut formats = Vec::new();
            for payload in &line.payloads {
                formats.extend(format_of(&sdp, line, payload).filter(|format| !formats.contains(format)));
            }
            media.push(MediaCapability { role, direction: offered.direction, formats });
        }
        let capabilities = Capabilities { media, max_bitrate: sdp.bandwidth.media_bits(true) };
        let refusals: Vec<_> = lines.iter().filter_map(|line| Some((line.index, line.refusal?))).collect();
        let wanted = refusals.iter().any(|(_, refusal)| *refusal != LineRefusal::Disabled);
        if capabilities.media.is_empty() && wanted {
            return Err(NegotiationError::NothingInCommon(Refusals(refusals)));
        }
        self.exchange = Exchange::Received { offer: Box::new(sdp), answered: false };
        Ok(Offer { capabilities, lines })
    }

    /// Answers the peer's offer with what we can receive; each line carries the one format that
    /// won, and telephone-event. Lines that cannot be taken are refused in their place. The same
    /// offer may be answered again (in a provisional response and in the final one).
    ///
    /// The formats of `capabilities` are ours in our order; `preference` says whose order wins.
    pub fn create_answer(
        &mut self,
        capabilities: &Capabilities,
        local: &[LocalMedia],
        preference: Preference,
    ) -> Result<(Sdp, Vec<AgreedLine>), NegotiationError> {
        let Exchange::Received { offer, .. } = &self.exchange else {
            return Err(NegotiationError::NoOffer);
        };
        let wish = Wish { capabilities, local, preference };
        let mut taken: Vec<(usize, MediaLine, Slot)> = Vec::new();
        let mut refusals = Refusals::default();
        for index in self.by_standing(offer) {
            let Some(line) = offer.media.get(index) else { continue };
            let mut slot = self.slot_for(index, line);
            let role_taken = taken.iter().any(|(_, other, _)| other.role() == line.role());
            let answer = if role_taken { Err(LineRefusal::Role) } else { Ok(()) };
            match answer.and_then(|()| self.answer(Side { sdp: offer, line }, &mut slot, &wish)) {
                Ok(answer) => taken.push((index, answer, slot)),
                Err(refusal) => refusals.0.push((index, refusal)),
            }
        }
        let mut slots: Vec<Slot> = Vec::new();
        for (index, line) in offer.media.iter().enumerate() {
            let slot = match taken.iter().position(|(place, ..)| *place == index) {
                Some(position) => {
                    let (_, answer, slot) = taken.swap_remove(position);
                    Slot { last: answer, role: line.role(), theirs: numbers_of(Some(line)), ..slot }
                }
                None => {
                    let refused = MediaLine::disabled(&line.media, &line.protocol, line.formats.clone());
                    Slot { last: refused, role: None, ..self.slot_for(index, line) }
                }
            };
            slots.push(slot);
        }
        let media = slots.iter().map(|slot| slot.last.clone()).collect();
        let sdp = self.describe(media, capabilities.max_bitrate);
        let agreed = self.agree_all(&sdp, offer);
        refusals.0.sort_by_key(|(index, _)| *index);
        let wanted = refusals.0.iter().any(|(_, refusal)| *refusal != LineRefusal::Disabled);
        if agreed.is_empty() && wanted {
            return Err(NegotiationError::NothingInCommon(refusals));
        }
        self.exchange = Exchange::Received { offer: offer.clone(), answered: true };
        self.slots = slots;
        self.last_sent = Some(sdp.clone());
        self.standing = Some(sdp.clone());
        self.agreed.clone_from(&agreed);
        self.refused = refusals;
        Ok((sdp, agreed))
    }

    /// We refused the peer's offer: the session stays as it was.
    pub fn refuse_offer(&mut self) {
        if self.owes_answer() {
            self.exchange = Exchange::None;
        }
    }

    /// The body, with a version that grows only when something changed (RFC 3264 section 8).
    fn describe(&self, media: Vec<MediaLine>, max_bitrate: Option<u32>) -> Sdp {
        let version = self.last_sent.as_ref().map_or(1, |last| last.origin.version);
        let mut sdp = Sdp {
            origin: Origin {
                username: "-".to_owned(),
                session_id: (self.parameters.session_id & SESSION_ID_MASK).to_string(),
                version,
                address: self.parameters.address.to_string(),
            },
            name: "-".to_owned(),
            connection: Some(self.parameters.address),
            bandwidth: max_bitrate.map(Bandwidth::of_media).unwrap_or_default(),
            direction: None,
            attributes: Vec::new(),
            media,
        };
        dtls::certify(&mut sdp, self.parameters.certificate.as_ref());
        if self.last_sent.as_ref().is_some_and(|last| *last != sdp) {
            sdp.origin.version = version.wrapping_add(1);
        }
        sdp
    }

    /// How keys could be had.
    fn means(&self) -> Means {
        let SessionParameters { encryption, certificate, .. } = &self.parameters;
        let dtls = certificate.is_some() && encryption.policy != EncryptionPolicy::None;
        Means { sdes: encryption.may_exchange_keys(), dtls }
    }

    fn securing(&self, role: MediaKind) -> Securing<'_> {
        Securing {
            encryption: self.parameters.encryption,
            certificate: self.parameters.certificate.as_ref(),
            stands: self.agreed.iter().find(|line| line.role == role),
        }
    }

    fn offered_line(&self, index: usize, sdp: &Sdp, line: &MediaLine) -> OfferedLine {
        let Encryption { policy, .. } = self.parameters.encryption;
        let side = Side { sdp, line };
        let takeable = takeable(side, self.means(), policy);
        let remote = takeable.and_then(|()| remote_media(side, &self.parameters.peer));
        OfferedLine {
            index,
            role: line.role(),
            direction: effective_direction(side),
            remote: remote.ok().flatten(),
            profile: line.profile(),
            encryptable: self.means().fit(side),
            refusal: remote.err(),
        }
    }

    /// Places of an offer's lines in the order in which they may take their role: of two lines
    /// of one role the one that carries it already keeps it, else the one that can be encrypted
    /// has it (some phones offer `RTP/AVP` and `RTP/SAVP` beside each other).
    fn by_standing(&self, offer: &Sdp) -> Vec<usize> {
        let means = self.means();
        let mut places: Vec<(usize, &MediaLine)> = offer.media.iter().enumerate().collect();
        places.sort_by_key(|(index, line)| {
            let role = self.slots.get(*index).and_then(|slot| slot.role);
            let stands = role.is_some() && role == line.role();
            (!stands, !means.fit(Side { sdp: offer, line }))
        });
        places.into_iter().map(|(index, _)| index).collect()
    }

    fn answer(&self, offer: Side<'_>, slot: &mut Slot, wish: &Wish<'_>) -> Result<MediaLine, LineRefusal> {
        let encryption = self.parameters.encryption;
        takeable(offer, self.means(), encryption.policy)?;
        remote_media(offer, &self.parameters.peer)?;
        let role = offer.line.role().ok_or(LineRefusal::Media)?;
        let of_role = |entry: &&MediaCapability| entry.role == role;
        let capability = wish.capabilities.media.iter().find(of_role).ok_or(LineRefusal::NotWanted)?;
        let media = wish.local.iter().find(|media| media.role == role).ok_or(LineRefusal::NotWanted)?;
        let security = self.securing(role);
        let answering = Answering { capability, media, security, preference: wish.preference };
        let answer = answer_line(&answering, offer, slot, self.parameters.address)?;
        // The agreement is computed again for all lines in the end; a line that none can be
        // computed for must not be accepted.
        let own = self.describe(vec![answer.clone()], None);
        let ours = Side { sdp: &own, line: &answer };
        agree(0, ours, offer, false, encryption.policy, &self.parameters.peer)?;
        Ok(answer)
    }

    fn answered_line(
        &self,
        index: usize,
        offer: &Sdp,
        line: &MediaLine,
        answer: &Sdp,
    ) -> Result<AgreedLine, LineRefusal> {
        // Some peers leave out what they refuse at the end of the list.
        let remote =
            answer.media.get(index).filter(|remote| remote.port != 0).ok_or(LineRefusal::Disabled)?;
        if !remote.media.eq_ignore_ascii_case(&line.media) {
            return Err(LineRefusal::Media);
        }
        let (local, remote) = (Side { sdp: offer, line }, Side { sdp: answer, line: remote });
        agree(index, local, remote, true, self.parameters.encryption.policy, &self.parameters.peer)
    }

    fn agree_all(&self, answer: &Sdp, offer: &Sdp) -> Vec<AgreedLine> {
        let lines = answer.media.iter().zip(&offer.media).enumerate();
        lines
            .filter(|(_, (ours, _))| ours.port != 0)
            .filter_map(|(index, (ours, theirs))| {
                let (local, remote) = (Side { sdp: answer, line: ours }, Side { sdp: offer, line: theirs });
                let policy = self.parameters.encryption.policy;
                agree(index, local, remote, false, policy, &self.parameters.peer).ok()
            })
            .collect()
    }

    fn slot_for(&self, index: usize, line: &MediaLine) -> Slot {
        let same_media = |slot: &&Slot| slot.last.media.eq_ignore_ascii_case(&line.media);
        self.slots.get(index).filter(same_media).cloned().unwrap_or_else(|| Slot {
            last: MediaLine::disabled(&line.media, &line.protocol, line.formats.clone()),
            role: None,
            numbers: Numbers::default(),
            theirs: Vec::new(),
            level: LevelNumber::default(),
        })
    }
}

impl Slot {
    fn new(role: MediaKind) -> Self {
        Self {
            last: MediaLine::disabled(media_name(role), "RTP/AVP", vec!["0".to_owned()]),
            role: None,
            numbers: Numbers::default(),
            theirs: Vec::new(),
            level: LevelNumber::default(),
        }
    }

    fn disabled(&self) -> MediaLine {
        MediaLine::disabled(&self.last.media, &self.last.protocol, self.last.formats.clone())
    }
}

/// The place for a role in a new offer: where it stands, else a disabled line of its media type,
/// else a new one at the end (RFC 3264 section 8.1).
fn place(slots: &[Slot], lines: &[Option<MediaLine>], role: MediaKind) -> usize {
    let free = |slot: &Slot, line: &Option<MediaLine>| {
        slot.role.is_none() && line.is_none() && slot.last.media.eq_ignore_ascii_case(media_name(role))
    };
    slots
        .iter()
        .position(|slot| slot.role == Some(role))
        .or_else(|| slots.iter().zip(lines).position(|(slot, line)| free(slot, line)))
        .unwrap_or(slots.len())
}

/// Numbers of the other lines: legal to use again, but it confuses recorders.
fn numbers_elsewhere(slots: &[Slot], index: usize) -> Vec<u8> {
    let others = slots.iter().enumerate().filter(|(place, _)| *place != index);
    others.flat_map(|(_, slot)| slot.last.payloads.iter().map(|payload| payload.number)).collect()
}

fn local_of(local: &[LocalMedia], role: MediaKind) -> Result<&LocalMedia, NegotiationError> {
    local.iter().find(|media| media.role == role).ok_or(NegotiationError::NoLocalMedia(role))
}

fn numbers_of(line: Option<&MediaLine>) -> Vec<u8> {
    line.map(|line| line.formats.iter().filter_map(|format| format.parse().ok()).collect())
        .unwrap_or_default()
}
