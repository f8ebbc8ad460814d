//! Session descriptions (RFC 8866) and offer/answer (RFC 3264).
//!
//! [`Sdp`] is a description as data, read behind limits of our own. [`Negotiation`] is the state
//! of one dialog: it writes our offers and answers and says what was agreed, line by line. Both
//! sides of an exchange come to the same agreement, mirrored:
//!
//! ```
//! # use crosspoint_codecs::format::*;
//! # use crosspoint_proto::address::PeerPolicy;
//! # use crosspoint_proto::sdp::*;
//! # fn main() -> Result<(), NegotiationError> {
//! let ip = "192.0.2.1".parse().unwrap();
//! let make = |session_id| {
//!     let encryption = Encryption { secure_signalling: true, ..Encryption::default() };
//!     Negotiation::new(SessionParameters {
//!         session_id,
//!         address: ip,
//!         encryption,
//!         certificate: None,
//!         peer: PeerPolicy::strict(ip),
//!     })
//! };
//! // What we can receive, most wanted first, and where.
//! let can = |codecs: &[Codec]| Capabilities {
//!     media: vec![MediaCapability {
//!         role: MediaKind::Audio,
//!         direction: Direction::SendRecv,
//!         formats: codecs.iter().map(|codec| MediaFormat::Audio(AudioFormat::new(*codec))).collect(),
//!     }],
//!     max_bitrate: None,
//! };
//! let at = |port, key| LocalMedia {
//!     role: MediaKind::Audio,
//!     rtp: (ip, port).into(),
//!     rtcp: Some((ip, port + 1).into()),
//!     rtcp_mux: true,
//!     key: Some(crypto::SrtpSecret::new([key; crypto::SRTP_SECRET_LENGTH])),
//! };
//! let (mut caller, mut callee) = (make(1), make(2));
//!
//! let offer = caller.create_offer(&can(&[Codec::Opus, Codec::Pcmu]), &[at(4000, 1)])?;
//! let offered = callee.receive_offer(&offer.to_bytes())?;
//! assert_eq!(offered.capabilities.media.len(), 1);
//! let (answer, theirs) =
//!     callee.create_answer(&can(&[Codec::Pcma, Codec::Pcmu]), &[at(5000, 2)], Preference::Theirs)?;
//! let ours = caller.receive_answer(&answer.to_bytes())?;
//!
//! assert_eq!(ours[0].send.format.codec(), Codec::Pcmu);
//! assert_eq!(ours[0].remote.unwrap().rtp, (ip, 5000).into());
//! assert_eq!(ours[0].srtp.as_ref().unwrap().remote, theirs[0].srtp.as_ref().unwrap().local);
//! # Ok(())
//! # }
//! ```
//!
//! A leg runs it so. Incoming: `receive_offer`, tell the capabilities, then `create_answer` for
//! the provisional response that opens media and again, unchanged, for the final one. Outgoing:
//! `create_offer`, then `receive_answer` for each response with a body. Re-offers are the same
//! calls; hold and resume are directions in [`Capabilities`]. When a request fails, `refuse_offer`
//! or `withdraw_offer` leave the session as it was.
//!
//! [`Capabilities`]: crosspoint_codecs::format::Capabilities

mod agree;
mod agreed;
pub mod crypto;
mod description;
mod dtls;
mod error;
mod extensions;
pub mod fmtp;
mod format;
mod local;
mod negotiate;
mod numbers;
mod parse;
mod write;

pub use agreed::{
    AgreedDtmf, AgreedFormat, AgreedLevels, AgreedLine, Encryption, EncryptionPolicy, Feedback, LineRefusal,
    LocalMedia, Offer, OfferedLine, Preference, RemoteMedia, SrtpKeys,
};
pub use description::{
    Attribute, Bandwidth, FeedbackKind, FeedbackLine, MediaLine, Origin, Payload, Profile, RtcpAddress, Sdp,
};
pub use error::{Limit, NegotiationError, ParseError, Refusals};
pub use negotiate::{Negotiation, SessionParameters};
pub use parse::{MAX_ATTRIBUTES, MAX_FMTP, MAX_FORMATS, MAX_LINE, MAX_MEDIA, MAX_PLAIN_LINES, MAX_SDP};

#[cfg(test)]
mod tests;
