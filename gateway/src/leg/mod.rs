//! The whole seam for a new kind of leg: a [`Protocol`] makes [`Leg`]s, a leg takes commands and
//! tells events. Legs never know each other; what they have in common is this file.

pub mod connect;
pub mod sip;

use std::fmt;
use std::sync::Arc;

use crosspoint_codecs::format::{Capabilities, MediaFormat, MediaKind, Stream};
use tokio::sync::mpsc;

use crate::cause::{Cause, Reason};
use crate::config::{CodecChoice, Proxy};
use crate::ladder::Ladder;
use crate::media::port::{StreamEvent, StreamPort};

/// One party on one protocol. Never used twice in one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u64);

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leg-{}", self.0)
    }
}

/// Which side began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The far end called us.
    Incoming,
    /// We called it.
    Outgoing,
}

/// Who is on the leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The protocol's word: "sip", "h323", "webrtc", "rtmp"; "api" for a client without media.
    pub protocol: &'static str,
    /// Who began.
    pub origin: Origin,
    /// Alias or address of the far end; the authenticated one where it authenticated itself.
    pub address: String,
    /// Its display name, cleaned of control characters; may be empty.
    pub name: String,
    /// What an incoming leg called; what an outgoing leg was told to call.
    pub called: String,
    /// The same as a URI, where the leg named one: whether it is `sips`, and its port.
    pub uri: Option<String>,
    /// The device alias that it proved to be, if it did.
    pub device: Option<String>,
    /// The trunk that it comes from, or goes to.
    pub trunk: Option<String>,
    /// Address of its signalling, for rules and records.
    pub signalling: Option<std::net::SocketAddr>,
    /// "udp", "tcp", "tls".
    pub transport: &'static str,
    /// Hops that the call may still take: two gateways that point at each other end there.
    pub hops: u8,
}

impl Party {
    /// What it called, as routing wants it: the URI, where there is one.
    pub fn dialled(&self) -> &str {
        self.uri.as_deref().unwrap_or(&self.called)
    }

    /// The same party, as if it had called `to`.
    pub fn calling(&self, to: &str) -> Self {
        Self { called: to.to_owned(), uri: None, ..self.clone() }
    }

    /// Who it has proven to be.
    pub fn proven(&self) -> Option<Proven> {
        match (&self.device, &self.trunk) {
            (Some(alias), _) => Some(Proven::Device(alias.clone())),
            (None, Some(name)) => Some(Proven::Trunk(name.clone())),
            (None, None) => None,
        }
    }
}

/// Hops that a call begins with (RFC 3261 section 8.1.1.6; H.225 has the same number).
pub const HOPS: u8 = 70;

/// Commands that wait for one leg. Overflow: the leg is hung up as congested, for nobody sends in
/// bursts; keys and requests for a keyframe are left out. The sender never waits.
pub const COMMANDS: usize = 16;

/// Events that wait for the conference. Overflow: the leg waits; a peer that floods is limited
/// before (DTMF and keyframe requests are merged where they arise).
pub const EVENTS: usize = 64;

/// A leg in the hands of its conference.
#[derive(Debug)]
pub struct Leg {
    /// Its number.
    pub id: LegId,
    /// Of several that rang as this leg, the number of the one that answered ([`LegEvent::AnswersAs`]).
    pub answers_as: Option<LegId>,
    /// Who it is.
    pub party: Party,
    /// The media thread that its streams live on: legs that shall relay to each other share one.
    pub thread: usize,
    /// Codecs that its device is held to; empty: any.
    pub codecs: Vec<CodecChoice>,
    /// What happened on it, for who looks for a fault.
    pub ladder: Ladder,
    /// What it is told. Dropping it hangs up.
    pub commands: mpsc::Sender<LegCommand>,
    /// What it tells. `Ended` is always the last.
    pub events: mpsc::Receiver<LegEvent>,
}

/// An agreed stream and its port.
#[derive(Clone, Debug)]
pub struct LegStream {
    /// What was agreed.
    pub agreed: Stream,
    /// What else its peer said that it takes: an answer may name several formats.
    pub also: Vec<MediaFormat>,
    /// Its media is encrypted.
    pub encrypted: bool,
    /// Where its media is.
    pub port: Arc<dyn StreamPort>,
}

/// The same port and nothing else agreed.
impl PartialEq for LegStream {
    fn eq(&self, other: &Self) -> bool {
        let Self { agreed, also, encrypted, port } = self;
        let is = (agreed, also, *encrypted, port.id());
        is == (&other.agreed, &other.also, other.encrypted, other.port.id())
    }
}

/// What a leg is told.
#[derive(Clone, Debug)]
pub enum LegCommand {
    /// Tell the caller that it rings.
    Ring,
    /// Open media before the answer, limited to `Capabilities` when given.
    Progress(Capabilities),
    /// Answer. The capabilities say what we want to receive from this leg, most wanted first;
    /// the leg cuts them with what its peer offered.
    Answer(Capabilities),
    /// Offer anew within the call (codec change, hold, resume).
    Reoffer(Capabilities),
    /// Answer a [`LegEvent::Reoffered`].
    AcceptReoffer(Capabilities),
    /// Refuse a [`LegEvent::Reoffered`]: everything stays as it was.
    RefuseReoffer,
    /// What becomes of a [`LegEvent::Referred`].
    Referral(Referral),
    /// Send a key by the leg's negotiated method.
    SendDtmf(char),
    /// Ask the peer for a keyframe by whatever road it has.
    RequestKeyframe(MediaKind),
    /// End it.
    Hangup(Cause),
}

/// How a transfer goes, for who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referral {
    /// Nobody is called.
    Refused(Reason),
    /// Somebody is called.
    Accepted,
    /// It rings there.
    Rings,
    /// The other party talks there now.
    Answered,
    /// It came to nothing: the call goes on as it was.
    Failed(Reason),
    /// The call whose party was meant is not there any more.
    NoSuchCall,
}

/// Who somebody has proven to be, where it matters that it is the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// A device, by its alias.
    Device(String),
    /// Whoever calls from a trunk, by the name of that.
    Trunk(String),
}

/// What a leg tells.
#[derive(Clone, Debug)]
pub enum LegEvent {
    /// Incoming: what the caller can receive. `None`: it made no offer and expects ours.
    Offered(Option<Capabilities>),
    /// Outgoing: the far end rings.
    Ringing,
    /// Outgoing: media flows before the answer. Incoming: [`LegCommand::Progress`] took effect.
    Progress(Vec<LegStream>),
    /// The call stands with these streams.
    Answered(Vec<LegStream>),
    /// Outgoing: the far end says where else the called party may be, the best place first. `Ended`
    /// follows.
    Elsewhere(Vec<String>),
    /// Outgoing: somebody else is called now, as this leg.
    Redirected(Box<Party>),
    /// Outgoing, of several that ring as one leg: that one answers, whose number is known to its peer's protocol.
    /// `Answered` follows.
    AnswersAs(LegId),
    /// A client whom this leg rang has taken the call, and comes into the conference of
    /// [`Caller::venue`] by a request of its own, as this leg. The leg is of no more use then.
    Taken(LegId),
    /// The peer offers anew (hold, resume, codec change); answer it with
    /// [`LegCommand::AcceptReoffer`] or refuse it. `held` when it asks for silence.
    Reoffered {
        /// What the peer can receive from now on; `None` when it wants our offer.
        offer: Option<Capabilities>,
    },
    /// The peer's re-offer came to nothing: it took it back, or no answer could be made. The streams
    /// stay as they were.
    ReofferWithdrawn,
    /// The far end of a standing call wants its other party to talk to somebody else instead
    /// (transfer). Answer it with [`LegCommand::Referral`].
    Referred {
        /// Whom, in the protocol's own spelling.
        to: String,
        /// A leg of his own in another call, whose other party is meant and whose place the other party of
        /// this call takes (RFC 5589 section 7). That it is his was looked at; the call that has it
        /// looks again.
        instead_of: Option<LegId>,
        /// Who is said to have wanted it (RFC 3892). Nothing of it is proven.
        referred_by: Option<String>,
    },
    /// The streams changed: the end of a re-offer of either side.
    Changed(Vec<LegStream>),
    /// Our re-offer was refused; the streams stay as they were.
    ReofferRefused,
    /// A key, by whatever method, once.
    Dtmf(char),
    /// The media side of one of its streams.
    Stream {
        /// Which one.
        role: MediaKind,
        /// What happened.
        event: StreamEvent,
    },
    /// It is over; nothing follows.
    Ended(Cause),
}

/// Where an outgoing leg shall go.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// What to call, in the protocol's own spelling ("sip:bob@192.0.2.7:5062;transport=tcp").
    pub uri: String,
    /// The registered flow to use instead of opening one, in the protocol's own spelling.
    pub flow: Option<String>,
    /// The device alias whose registration this is, if it is one.
    pub device: Option<String>,
    /// The device is behind a NAT.
    pub translated: bool,
    /// Proxies by which its registration came, and by which it goes there, nearest first, in the protocol's
    /// own spelling (Path, RFC 3327 section 5.4).
    pub path: Vec<String>,
    /// The trunk that it goes to, by name.
    pub trunk: Option<String>,
    /// Where it goes first, instead of to the host of `uri`.
    pub proxy: Option<Proxy>,
    /// The same device by other flows of its own, one after the other where this one fails (RFC 5626 section
    /// 7). [`crate::registrar::CONTACTS`] at most.
    pub instead: Vec<Self>,
}

impl Address {
    /// Whoever is at `uri`, with nothing known of him.
    pub fn at(uri: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            flow: None,
            device: None,
            translated: false,
            path: Vec::new(),
            trunk: None,
            proxy: None,
            instead: Vec::new(),
        }
    }
}

/// Who calls, as the called party shall see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Alias or address.
    pub address: String,
    /// Display name; may be empty.
    pub name: String,
    /// Hops that are left for the new leg.
    pub hops: u8,
    /// The conference that the called party shall find itself in, if there is one yet: clients of the
    /// client API join it by name instead of sending media. `None`: a plain call between two legs.
    pub venue: Option<Venue>,
}

impl Caller {
    /// Who calls with `party`'s call, one hop further.
    pub fn of(party: &Party) -> Self {
        let (address, name) = (party.address.clone(), party.name.clone());
        Self { address, name, hops: party.hops.saturating_sub(1), venue: None }
    }
}

/// A conference, as somebody who is called into it is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Venue {
    /// The name of its service.
    pub service: String,
    /// An alias that reaches it.
    pub alias: String,
    /// What it is, in the word of the client API: "conference", "lecture", "gateway".
    pub kind: &'static str,
}

/// A kind of leg.
pub trait Protocol: Send + Sync {
    /// The URI schemes that it dials: "sip", "sips".
    fn schemes(&self) -> &'static [&'static str];

    /// Whether who is dialled comes into a conference instead of sending media by the leg: there must
    /// be one then ([`Caller::venue`]).
    fn needs_venue(&self) -> bool {
        false
    }

    /// Begins an outgoing leg; its events tell the rest. `thread` is the media thread of the leg
    /// that it shall be joined with, so that the two can relay.
    fn dial(
        &self,
        to: &Address,
        from: &Caller,
        offer: Capabilities,
        thread: Option<usize>,
    ) -> Result<Leg, Cause>;
}
