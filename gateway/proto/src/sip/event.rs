//! What a SIP endpoint tells its owner.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{Body, CallId, Flow, NameAddr, PingId, Reason, RegistrationId, Replaced, Request, RequestId};
use crate::{Instant, Transport};

/// Where a request came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// How.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// The far end, as the network sees it.
    pub remote: SocketAddr,
    /// The way back, for as long as it stands.
    pub flow: Flow,
    /// Whether the sender's own view of its address differs from ours: it is behind a NAT.
    pub translated: bool,
}

/// A call that comes in.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its number.
    pub call: CallId,
    /// The whole request: Request-URI, From, To, Max-Forwards, Authorization and the rest.
    pub request: Request,
    /// Where it came from.
    pub source: Source,
    /// Its body; `None`: the caller wants our offer.
    pub body: Option<Body>,
    /// It shall take the place of a dialog (Replaces, RFC 3891 section 3): never to be taken for a call
    /// like others.
    pub replaced: Option<Replaced>,
    /// Who is said to have sent the caller here (Referred-By, RFC 3892 section 3). Nothing of it is proven.
    pub referred_by: Option<NameAddr>,
}

/// A message of a call, as it came or went.
#[derive(Clone, Debug)]
pub struct Sighted {
    /// Whose.
    pub call: CallId,
    /// When.
    pub at: Instant,
    /// On which way.
    pub flow: Flow,
    /// By us, or to us.
    pub sent: bool,
    /// Its octets; one that came over a stream is printed anew from what was understood of it. They
    /// may contain credentials and keys.
    pub data: Bytes,
}

/// Who brought the end of a call about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The owner.
    Us,
    /// The far end.
    Peer,
    /// The machine: the far end was not reached, did not answer, or broke the protocol.
    Network,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// A call that stood was hung up (BYE).
    Hangup,
    /// Cancelled before the answer.
    Cancelled,
    /// A final response other than 2xx.
    Refused,
    /// Nobody answered within the time of the transaction.
    NoResponse,
    /// The message could not be sent: connection refused, no listener of that kind.
    Unreachable,
    /// The way by which the far end reached us, and by which alone it is reached, is gone; or a proxy says so
    /// of the last piece of that way (430, RFC 5626 section 5.3.1).
    FlowFailed,
    /// We answered, and the ACK never came.
    NoAck,
    /// The far end no longer knows the dialog (481, 408 within it).
    Gone,
    /// Nobody refreshed the session in time (RFC 4028 section 10).
    Expired,
    /// The far end sent what makes no sense.
    Protocol,
}

/// The end of a call.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Who.
    pub by: By,
    /// How.
    pub how: How,
    /// The final status, where there was one.
    pub status: Option<u16>,
    /// Its reason phrase.
    pub phrase: String,
    /// The far end's Reason header (RFC 3326 section 2), first of them.
    pub reason: Option<Reason>,
    /// Where a 3xx points. It is not followed.
    pub contacts: Vec<NameAddr>,
}

/// What the owner is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call comes in.
    Incoming(Box<Incoming>),
    /// Outgoing: nobody took the call where it was sent, and nobody rang. The owner said that there
    /// is another place ([`super::Invite::elsewhere`]), and says with [`super::Command::Elsewhere`]
    /// which, or hangs up.
    Unreached {
        /// Which.
        call: CallId,
        /// [`How::NoResponse`], [`How::Unreachable`], [`How::FlowFailed`], or [`How::Refused`] by a 503.
        how: How,
        /// How long that place does not want to be asked again (Retry-After of the 503).
        pause: Option<Duration>,
    },
    /// Outgoing: it rings there (180), or something of that kind without a body.
    Ringing {
        /// Which.
        call: CallId,
        /// 180 to 199.
        status: u16,
    },
    /// Outgoing: media before the answer.
    Progress {
        /// Which.
        call: CallId,
        /// 180 to 199.
        status: u16,
        /// Its body.
        body: Body,
        /// Which of the phones that ring: a proxy may ring several (RFC 3261 section 12.1). They
        /// count from zero; the last one heard of is the one to listen to.
        fork: u32,
    },
    /// Outgoing: answered. When the INVITE had no offer, `body` is one and [`super::Command::Ack`]
    /// must follow; else the ACK is sent already.
    Answered {
        /// Which.
        call: CallId,
        /// The answer that counts: of the 200, or of a reliable response before it (RFC 3261 section
        /// 13.2.1). `None` when an early answer of the same fork was meant to be the last word.
        body: Option<Body>,
        /// Which of those that rang.
        fork: u32,
    },
    /// Incoming, or a re-INVITE that we accepted: the ACK came. The body is the answer to the
    /// offer in our 200. For an offer in our 183 it is the PRACK that came (RFC 3262 section 5), and the ACK
    /// after it has no body.
    Acked {
        /// Which.
        call: CallId,
        /// The answer, if one was due.
        body: Option<Body>,
    },
    /// The far end offers anew, by re-INVITE, UPDATE or in a PRACK, the latter two perhaps before
    /// the call is answered; [`super::Command::AnswerReinvite`] or
    /// [`super::Command::RefuseReinvite`] must follow, for all but a re-INVITE within 10 s.
    Reinvite {
        /// Which.
        call: CallId,
        /// Its offer; `None`: it wants ours.
        body: Option<Body>,
    },
    /// It took its offer back before the answer, or the answer took too long: everything stays as
    /// it was.
    ReinviteCancelled {
        /// Which.
        call: CallId,
    },
    /// Ours was accepted. When it had no offer, `body` is one and [`super::Command::Ack`] must
    /// follow.
    ReinviteAnswered {
        /// Which.
        call: CallId,
        /// The answer or the offer.
        body: Option<Body>,
    },
    /// Ours was refused: everything stays as it was.
    ReinviteRefused {
        /// Which.
        call: CallId,
        /// The final status.
        status: u16,
    },
    /// The session was refreshed (RFC 4028 section 7.4) by our offering again what stood. The body is the
    /// answer, which may differ from the one before. Nothing must follow.
    Refreshed {
        /// Which.
        call: CallId,
        /// The answer.
        body: Body,
    },
    /// An INFO came within the call; it is answered already.
    Info {
        /// Which.
        call: CallId,
        /// Its body.
        body: Body,
    },
    /// Our INFO was answered.
    InfoAnswered {
        /// Which.
        call: CallId,
        /// The final status; 408 when nothing came.
        status: u16,
    },
    /// The far end of a standing call wants us to call somebody (RFC 3515 section 2.4.2);
    /// [`super::Command::AnswerRefer`] must follow within 32 s.
    Refer {
        /// Which.
        call: CallId,
        /// Whom: Refer-To.
        to: Box<NameAddr>,
        /// The Replaces in its URI names a dialog whose other party is meant (RFC 3891 section 7.2).
        replaced: Option<Replaced>,
        /// Who is said to have asked (Referred-By, RFC 3892 section 3). Nothing of it is proven.
        referred_by: Option<Box<NameAddr>>,
    },
    /// It is over; nothing follows for this call.
    Ended {
        /// Which.
        call: CallId,
        /// How and why.
        ending: Box<Ending>,
    },
    /// A REGISTER came; [`super::Command::Respond`] must follow within 32 s.
    Request {
        /// Its number.
        request: RequestId,
        /// The whole request.
        message: Box<Request>,
        /// Where it came from.
        source: Source,
    },
    /// The flow that a device may have registered over is gone.
    FlowClosed {
        /// Which.
        flow: Flow,
    },
    /// The registrar has our binding.
    Registered {
        /// Which.
        registration: RegistrationId,
        /// For how long.
        expires: Duration,
        /// By which proxies our requests have to go (RFC 3608 section 6.1), nearest first.
        service_route: Vec<NameAddr>,
    },
    /// The registrar refused, or is not there. The machine tries again after `retry`; `None`: it
    /// gave up, and the registration is forgotten.
    RegistrationFailed {
        /// Which.
        registration: RegistrationId,
        /// The final status; 408 when nothing came, 503 when it could not be sent.
        status: u16,
        /// When it is tried again.
        retry: Option<Duration>,
    },
    /// The binding is taken back.
    Unregistered {
        /// Which.
        registration: RegistrationId,
    },
    /// With [`super::Config::tap`]: a message of a call came, repetitions too, or goes out. That of an
    /// incoming call's first INVITE follows [`Event::Incoming`].
    Sighted(Box<Sighted>),
    /// With the tap: nothing is left of a call, not even between the two ends.
    Released {
        /// Which.
        call: CallId,
    },
    /// A ping was answered.
    Pong {
        /// Which.
        ping: PingId,
        /// The final status: any of them shows that somebody is there; `None`: nobody.
        status: Option<u16>,
    },
}
