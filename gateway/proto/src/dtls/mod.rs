//! What of DTLS 1.2 (RFC 6347) needs no cryptography: certificates as SDP names them, and the
//! datagrams of a handshake put in order before a library sees them.

mod fingerprint;
mod flights;

pub use fingerprint::{Fingerprint, Hash};
pub use flights::{Flights, MAX_HELD, MAX_MESSAGE, Role};

/// What SDP agreed of an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Our side.
    pub role: Role,
    /// The peer's certificate must have one of these; never empty.
    pub fingerprints: Vec<Fingerprint>,
}

/// Whether a datagram on a media port is DTLS, by its first byte (RFC 7983 section 7).
pub fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}
