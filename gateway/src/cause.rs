//! Why a leg ended. Each leg's own translation table (SIP status, Q.850 cause, HTTP text) lives
//! in that leg's file; conferences, call records, metrics and the API read only this.

use std::fmt;

/// Who brought the end about, seen from the leg that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// We: policy, limits, faults of our own.
    Local,
    /// The leg's own far end.
    Remote,
    /// The other leg of the call; its cause was carried across.
    Peer,
}

impl Side {
    /// In words, for records and people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Peer => "peer leg",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A normal hang-up of an answered call.
    Hangup,
    /// The caller gave up before an answer.
    Cancelled,
    /// Another device of the same alias answered.
    AnsweredElsewhere,
    /// Busy.
    Busy,
    /// It rang and nobody answered.
    NoAnswer,
    /// The called party refused.
    Rejected,
    /// Nobody has that alias, or nobody is there now.
    NotFound,
    /// The alias exists, but no device is registered for it.
    Unavailable,
    /// Every way by which the device has registered is gone (RFC 5626 section 11.5).
    FlowFailed,
    /// No rule allows the call, or the credentials are wrong.
    Forbidden,
    /// Nothing in common: codecs, encryption policy, media addresses.
    NotAcceptable,
    /// The far end cannot be reached, or stopped answering.
    Unreachable,
    /// Nothing came for too long after the call stood.
    MediaTimeout,
    /// A limit was reached: ports, calls, processor.
    Congestion,
    /// The gateway is shutting down.
    Shutdown,
    /// The far end broke its protocol.
    ProtocolError,
    /// A fault of ours.
    Internal,
}

impl Reason {
    /// One word for metrics and call records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hangup => "hangup",
            Self::Cancelled => "cancelled",
            Self::AnsweredElsewhere => "answered-elsewhere",
            Self::Busy => "busy",
            Self::NoAnswer => "no-answer",
            Self::Rejected => "rejected",
            Self::NotFound => "not-found",
            Self::Unavailable => "unavailable",
            Self::FlowFailed => "flow-failed",
            Self::Forbidden => "forbidden",
            Self::NotAcceptable => "not-acceptable",
            Self::Unreachable => "unreachable",
            Self::MediaTimeout => "media-timeout",
            Self::Congestion => "congestion",
            Self::Shutdown => "shutdown",
            Self::ProtocolError => "protocol-error",
            Self::Internal => "internal",
        }
    }
}

/// Why a leg ended, and who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    /// What happened.
    pub reason: Reason,
    /// Who.
    pub side: Side,
}

impl Cause {
    /// We ended it.
    pub const fn local(reason: Reason) -> Self {
        Self { reason, side: Side::Local }
    }

    /// Its far end ended it.
    pub const fn remote(reason: Reason) -> Self {
        Self { reason, side: Side::Remote }
    }

    /// The same event as the other leg of the call sees it.
    #[must_use]
    pub const fn across(self) -> Self {
        Self { reason: self.reason, side: Side::Peer }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason.word(), self.side.word())
    }
}
