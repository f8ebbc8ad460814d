//! What a message body is to the machine: a session description, or something it does not take.

use super::{Body, Headers, Name, Response, sdp_of};

/// Why a body is not taken; the status is 415 (RFC 3261 section 8.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsupported {
    Type,
    Encoding,
}

impl Unsupported {
    /// Says what would be taken.
    pub(super) fn fill(self, response: &mut Response) {
        match self {
            Self::Type => response.headers.push(Name::Accept, "application/sdp"),
            Self::Encoding => response.headers.push(Name::AcceptEncoding, "identity"),
        }
    }
}

/// The session description of a message: the body, or the part of a multipart one that is it.
/// Nothing when there is no body, or one that may be ignored.
pub(super) fn session_body(headers: &Headers, data: &bytes::Bytes) -> Result<Option<Body>, Unsupported> {
    if data.is_empty() {
        return Ok(None);
    }
    let optional = headers
        .get(&Name::ContentDisposition)
        .is_some_and(|value| value.to_ascii_lowercase().replace(' ', "").contains("handling=optional"));
    let encoded =
        headers.tokens(&Name::ContentEncoding).iter().any(|t| !t.as_str().eq_ignore_ascii_case("identity"));
    if encoded {
        return if optional { Ok(None) } else { Err(Unsupported::Encoding) };
    }
    match sdp_of(headers, data) {
        Some(sdp) => Ok(Some(Body::sdp(sdp))),
        None if optional => Ok(None),
        None => Err(Unsupported::Type),
    }
}

/// Whether the sender takes a session description in the answer (section 20.1).
pub(super) fn takes_sdp(headers: &Headers) -> bool {
    headers.accept().is_none_or(|ranges| ranges.iter().any(|range| range.accepts("application", "sdp")))
}
