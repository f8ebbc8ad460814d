//! SIP (RFC 3261): the wire layer, and the machines on top of it. Where a rule comes from an RFC, its
//! section stands beside it.
//!
//! Bytes become a [`Message`] in one of two ways: [`Message::parse`] takes a whole datagram,
//! [`StreamFramer`] cuts messages out of a stream. A message that parsed has the headers that
//! every machine needs (Via, From, To, Call-ID, CSeq; RFC 3261 section 8.1.1), and their typed
//! readers on [`Headers`] answer; all other headers are text until somebody asks for them. A request
//! that did not parse leaves a [`ParseError`] that can still answer it without state (section 8.2.7).
//! Whatever the peer sent is
//! bounded by the constants of [`limits`], and printing cannot make a line that the caller did
//! not mean: carriage returns and line feeds never reach the wire from a value.

pub mod auth;
mod command;
mod config;
mod content;
mod dialog;
mod endpoint;
mod event;
mod flow;
mod framing;
mod headers;
mod hex;
mod invite;
pub mod limits;
mod loops;
mod message;
mod multipart;
mod name_addr;
mod params;
mod parse;
#[cfg(test)]
mod properties;
mod registration;
mod replaces;
mod rsip_model;
mod schedule;
mod session;
mod stack;
mod stun;
mod tap;
#[cfg(test)]
mod torture;
mod transaction;
mod transport;
mod typed;
mod uri;
mod via;

pub use command::{
    Body, CallId, Command, Destination, Elsewhere, Invite, MAX_FORWARDS, PingId, Registration,
    RegistrationId, RequestId,
};
pub use config::{Config, Limits, Listen, SessionTimer, Timing, Towards};
pub use endpoint::{Endpoint, Error, Load};
pub use event::{By, Ending, Event, How, Incoming, Sighted, Source};
pub use flow::{Flow, FlowError};
pub use framing::{Frame, PONG, StreamFramer};
pub use headers::{Headers, Name};
pub use message::{Message, Method, Request, Response, Token, reason_phrase};
pub use multipart::sdp_of;
pub use name_addr::{Contacts, NameAddr};
pub use params::Params;
pub use parse::{ParseError, ParseErrorKind, is_keep_alive};
pub use replaces::Replaced;
pub use rsip_model::NotModelled;
pub use stack::Counters;
pub use typed::{CSeq, ContentType, Reason, ValueError};
pub use uri::{DEFAULT_PORT, DEFAULT_TLS_PORT, Host, OpaqueUri, SipUri, Uri, UriError};
pub use via::{MAGIC_COOKIE, Via};
