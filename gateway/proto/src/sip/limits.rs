//! What a peer may send, at most. Each bound has its reason; past it a message is refused, with 413 or 513
//! where somebody can be told (RFC 3261 sections 21.4.11 and 21.5.7).

/// A whole message, in octets: the largest UDP datagram, which must be taken (RFC 3261 section 18.1.1),
/// and the same on a stream, so that what came in by TLS could have come in by UDP.
pub const MESSAGE: usize = 65_535;

/// Start line and headers together. Chains of 70 Via headers fit; a body never needs this room.
pub const HEAD: usize = 32_768;

/// One header after unfolding, and the start line. Identity and certificate headers reach 2 KiB.
pub const LINE: usize = 8_192;

/// Headers in a message. `Max-Forwards` starts at 70 (RFC 3261 section 8.1.1.6), so an honest message has
/// fewer than 70 Via.
pub const HEADERS: usize = 256;

/// Elements of one comma-separated list (RFC 3261 section 7.3.1), and of all headers of one name together when they are
/// read as a list: Via, Route, Record-Route, Contact.
pub const LIST: usize = 128;

/// Parameters of one element or URI.
pub const PARAMS: usize = 64;

/// Parts of a multipart body (RFC 2046 section 5.1) that are looked at.
pub const PARTS: usize = 16;

/// A stateless answer (RFC 3261 section 8.2.7) to what did not parse, in octets: no larger than one packet
/// (section 18.1.1), since whoever sent it may have lied about its address.
pub const ANSWER: usize = 1_300;
