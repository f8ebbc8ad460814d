//! Session descriptions (RFC 8866) and offer/answer (RFC 3264).
//!
//! [`Sdp`] is a description as data, read behind limits of our own.

mod agreed;
pub mod crypto;
mod description;
mod error;
pub mod fmtp;
mod parse;
mod write;

pub use agreed::{
    AgreedDtmf, AgreedFormat, AgreedLine, Encryption, EncryptionPolicy, Feedback, LineRefusal, LocalMedia,
    Offer, OfferedLine, Preference, RemoteMedia, SrtpKeys,
};
pub use description::{
    Attribute, Bandwidth, FeedbackKind, FeedbackLine, MediaLine, Origin, Payload, Profile, RtcpAddress, Sdp,
};
pub use error::{Limit, ParseError};
pub use parse::{MAX_ATTRIBUTES, MAX_FMTP, MAX_FORMATS, MAX_LINE, MAX_MEDIA, MAX_PLAIN_LINES, MAX_SDP};

#[cfg(test)]
mod tests;
