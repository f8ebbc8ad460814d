//! What the owner of a SIP endpoint asks of it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::auth::Account;
use super::{Flow, NameAddr, Reason, Uri};
use crate::Transport;

/// A call: one INVITE and the dialog that grows from it.
///
/// The owner numbers the calls that it makes, below [`CallId::FIRST_INCOMING`]; the machine numbers
/// those that come in, from there on. A number is used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

impl CallId {
    /// The first number of a call that came in.
    pub const FIRST_INCOMING: u64 = 1 << 63;

    /// Whether the far end made it.
    pub const fn is_incoming(self) -> bool {
        self.0 >= Self::FIRST_INCOMING
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_incoming() {
            write!(f, "in-{}", self.0.saturating_sub(Self::FIRST_INCOMING))
        } else {
            write!(f, "out-{}", self.0)
        }
    }
}

/// A request that was handed to the owner and waits for [`Command::Respond`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A registration that this endpoint keeps at a registrar; numbered by the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistrationId(pub u64);

/// A ping by OPTIONS; numbered by the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PingId(pub u64);

/// A message body. What it means is not the machine's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The whole Content-Type value, with parameters.
    pub content_type: String,
    /// The bytes.
    pub data: Bytes,
}

impl Body {
    /// A body of `application/sdp`.
    pub fn sdp(data: impl Into<Bytes>) -> Self {
        Self { content_type: "application/sdp".to_owned(), data: data.into() }
    }
}

/// Where a request of ours goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Back over the flow that a device registered from, and nowhere else.
    Flow(Flow),
    /// To that address. Names are the owner's to resolve (RFC 3263 section 4).
    Address {
        /// How. `None`: by UDP, and by TCP what is too long for a datagram (RFC 3261 section
        /// 18.1.1), back to UDP when nobody listens there.
        transport: Option<Transport>,
        /// Where.
        address: SocketAddr,
        /// The name that the certificate must carry (TLS).
        name: Option<String>,
    },
    /// Where the target URI points; its host must be an IP address.
    Target,
}

/// An outgoing call.
#[derive(Clone, Debug)]
pub struct Invite {
    /// Its number.
    pub call: CallId,
    /// The Request-URI.
    pub target: Uri,
    /// Where it goes.
    pub destination: Destination,
    /// Who calls. A tag is added; the user part is also that of our Contact.
    pub from: NameAddr,
    /// Who is called; `None`: the target.
    pub to: Option<NameAddr>,
    /// The offer. `None`: the far end shall offer, and our answer goes into [`Command::Ack`].
    pub body: Option<Body>,
    /// Proxies that it has to go by (RFC 3608 section 6.1); loose routers. `destination` leads to the first.
    pub routes: Vec<NameAddr>,
    /// Further headers, name and value. Those that the machine writes itself are left out.
    pub headers: Vec<(String, String)>,
    /// Who we are to a far end that asks, and which far ends may.
    pub account: Option<Account>,
    /// Hops that are left: one less than what the call came in with (RFC 3261 section 16.6).
    pub max_forwards: u8,
    /// There is another place to go if this one cannot take the call (RFC 3263 section 4.3): then
    /// [`Event::Unreached`](super::Event::Unreached) comes instead of the end.
    pub elsewhere: bool,
}

/// Where a call goes that did not get through.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// Which.
    pub call: CallId,
    /// Where it goes now.
    pub destination: Destination,
    /// What the same party calls itself there, and the proxies on the way to it. `None`: as before.
    pub target: Option<(Uri, Vec<NameAddr>)>,
    /// The offer anew, for our own address may be another one towards there.
    pub body: Option<Body>,
    /// Whether there is still another place.
    pub elsewhere: bool,
}

/// Hops that a new call begins with (RFC 3261 section 8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;

/// A registration at somebody else's registrar.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its number.
    pub registration: RegistrationId,
    /// The Request-URI: the domain ("sip:example.com").
    pub registrar: Uri,
    /// Where it goes.
    pub destination: Destination,
    /// The address of record; its user part is that of our Contact.
    pub aor: NameAddr,
    /// How long a binding shall last; refreshed well before.
    pub expires: Duration,
    /// Who we are to the registrar.
    pub account: Option<Account>,
}

/// What the owner asks. A command for a call that is gone does nothing: its
/// [`Event::Ended`](super::Event::Ended) is on its way or was told already.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make a call.
    Invite(Box<Invite>),
    /// The same call to another place, after [`Event::Unreached`](super::Event::Unreached).
    Elsewhere(Box<Elsewhere>),
    /// Incoming: say that it rings (180).
    Ring {
        /// Which.
        call: CallId,
    },
    /// Incoming: media before the answer (183 with a body).
    Progress {
        /// Which.
        call: CallId,
        /// The answer, or the offer when the INVITE had none.
        body: Body,
    },
    /// Incoming: answer (200), repeated until the ACK comes.
    Answer {
        /// Which.
        call: CallId,
        /// The answer, or the offer when the INVITE had none.
        body: Body,
    },
    /// Incoming: refuse with a final response of 300 to 699. A challenge is a refusal with its
    /// header: the INVITE with credentials is a new call.
    Reject {
        /// Which.
        call: CallId,
        /// The status.
        status: u16,
        /// The reason phrase; empty: the usual one.
        phrase: String,
        /// Why, for a Reason header (RFC 3326 section 2).
        reason: Option<Reason>,
        /// Further headers, name and value.
        headers: Vec<(String, String)>,
    },
    /// Outgoing without an offer, or our offerless re-INVITE: the answer to the offer that came
    /// with [`Event::Answered`](super::Event::Answered) or
    /// [`Event::ReinviteAnswered`](super::Event::ReinviteAnswered).
    Ack {
        /// Which.
        call: CallId,
        /// The answer.
        body: Body,
    },
    /// End it in whatever way its state asks for: CANCEL, BYE, or 480 to an unanswered INVITE.
    /// [`Event::Ended`](super::Event::Ended) follows at once; the machine sees to the rest.
    Hangup {
        /// Which.
        call: CallId,
        /// Why, for a Reason header (RFC 3326 section 2).
        reason: Option<Reason>,
    },
    /// Offer anew within the call. Waits for an INVITE under way; repeated after 491.
    Reinvite {
        /// Which.
        call: CallId,
        /// The offer; `None`: the far end shall offer.
        body: Option<Body>,
    },
    /// Accept the far end's [`Event::Reinvite`](super::Event::Reinvite) (200).
    AnswerReinvite {
        /// Which.
        call: CallId,
        /// The answer, or the offer when it had none.
        body: Body,
    },
    /// Refuse it: everything stays as it was.
    RefuseReinvite {
        /// Which.
        call: CallId,
        /// 488 in most cases.
        status: u16,
    },
    /// Send an INFO within the call.
    Info {
        /// Which.
        call: CallId,
        /// Its body.
        body: Body,
    },
    /// Answer an [`Event::Refer`](super::Event::Refer). What is accepted is told of at once (100), until
    /// a final [`Command::ReferProgress`].
    AnswerRefer {
        /// Which.
        call: CallId,
        /// 202, or a refusal of 300 to 699.
        status: u16,
    },
    /// Tell who sent the REFER how the call goes that came of it (NOTIFY, RFC 3515 section 2.4.5).
    ReferProgress {
        /// Which.
        call: CallId,
        /// What a response to that call would say; a final one is the last word.
        status: u16,
    },
    /// Answer a request that was handed over with [`Event::Request`](super::Event::Request).
    Respond {
        /// Which.
        request: RequestId,
        /// A final status.
        status: u16,
        /// The reason phrase; empty: the usual one.
        phrase: String,
        /// Further headers, name and value.
        headers: Vec<(String, String)>,
        /// A body.
        body: Option<Body>,
    },
    /// Register and keep registered until [`Command::Unregister`].
    Register(Box<Registration>),
    /// Register anew now, because the registrar may have forgotten us.
    Refresh {
        /// Which.
        registration: RegistrationId,
    },
    /// Take the binding back and forget the registration.
    Unregister {
        /// Which.
        registration: RegistrationId,
    },
    /// Ask a far end by OPTIONS whether it is there.
    Ping {
        /// Its number.
        ping: PingId,
        /// The Request-URI.
        target: Uri,
        /// Where it goes.
        destination: Destination,
    },
    /// Refuse new calls and requests with 503 from now on; calls that stand go on.
    Drain,
}
