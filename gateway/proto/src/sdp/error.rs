//! What can go wrong, whose fault it is and which SIP status says so.

use std::fmt;

use crosspoint_codecs::format::MediaKind;

use super::agreed::LineRefusal;

/// A limit on what a peer may describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Octets in all.
    Size,
    /// Octets of a line.
    Line,
    /// Lines of a section.
    Lines,
    /// m-lines.
    Media,
    /// Attributes of a section.
    Attributes,
    /// Formats of an m-line.
    Formats,
    /// Octets of an `a=fmtp`.
    FormatParameters,
}

/// Why bytes are not a session description.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Its structure is broken.
    #[error("malformed session description: {0}")]
    Malformed(#[from] sdp_types::ParserError),
    /// Larger than we take.
    #[error("session description beyond a limit: {0:?}")]
    Limit(Limit),
}

/// Why each line of an exchange came to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals(pub Vec<(usize, LineRefusal)>);

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (index, refusal)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}m-line {index}: {refusal}")?;
        }
        Ok(())
    }
}

/// Why a step of a negotiation failed. The session stays as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// The peer's bytes are no description.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// No line is left.
    #[error("nothing in common ({0})")]
    NothingInCommon(Refusals),
    /// Encryption is required, but keys may not be sent over this signalling, or there are none.
    #[error("encryption is required, but keys cannot be exchanged")]
    NoEncryption,
    /// Both sides offered at once (RFC 3264 section 4).
    #[error("an offer of ours is under way")]
    Glare,
    /// An offer waits for its answer; whose it is, [`super::Negotiation::owes_answer`] tells.
    #[error("an earlier offer is not answered yet")]
    Pending,
    /// There is no offer to answer.
    #[error("there is no offer to answer")]
    NoOffer,
    /// The caller named no address for a role.
    #[error("no local media for {0}")]
    NoLocalMedia(MediaKind),
    /// The caller named no format that fits the role.
    #[error("no format for {0}")]
    NoFormats(MediaKind),
}

impl NegotiationError {
    /// The SIP status that says so when the fault came in a request.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Parse(_) | Self::NoOffer => 400,
            Self::NothingInCommon(_) | Self::NoEncryption => 488,
            Self::Glare => 491,
            Self::Pending | Self::NoLocalMedia(_) | Self::NoFormats(_) => 500,
        }
    }
}
