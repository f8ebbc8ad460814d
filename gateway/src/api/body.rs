//! Bodies of requests: read whole and within limits before anybody looks at them.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// Largest body that is no description of media.
pub(crate) const JSON: usize = 64 * 1024;

/// How deep brackets lie in each other. Clients send three levels at most.
pub(crate) const DEPTH: usize = 32;

/// A body must be there by then, counted from its head.
const READ: Duration = Duration::from_secs(10);

/// Passes a request on with its whole body, if that has `most` octets at most.
pub(crate) async fn bounded(most: usize, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let coding = parts.headers.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        // Never unpacked: some octets can become a gigabyte.
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding");
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if length.is_some_and(|length| length.parse().is_ok_and(|length: u64| length > most as u64)) {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large");
    }
    let Ok(read) = tokio::time::timeout(READ, axum::body::to_bytes(body, most)).await else {
        return refused(StatusCode::REQUEST_TIMEOUT, "The body took too long");
    };
    // Without a length beforehand; or the connection broke, and nobody reads the answer.
    let Ok(bytes) = read else { return refused(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large") };
    if is_json(&bytes) && !is_flat(&bytes) {
        return refused(StatusCode::BAD_REQUEST, "The body is nested too deep");
    }
    next.run(Request::from_parts(parts, Body::from(bytes))).await
}

fn refused(code: StatusCode, why: &str) -> Response {
    (code, axum::Json(json!({ "status": "failed", "result": why }))).into_response()
}

fn is_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_some_and(|first| matches!(first, b'{' | b'['))
}

/// Whether brackets lie in each other [`DEPTH`] times at most; those within strings are text.
pub(crate) fn is_flat(json: &[u8]) -> bool {
    let (mut depth, mut within, mut escaped) = (0_usize, false, false);
    for octet in json {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            b'{' | b'[' if !within => depth += 1,
            b'}' | b']' if !within => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted_but_for_those_in_strings() {
        let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(is_flat(&nested(DEPTH)) && !is_flat(&nested(DEPTH + 1)));
        assert!(is_flat(&nested(1).repeat(1000)), "one after another");
        let text = format!(r#"{{"a": "\"{}\\", "b": []}}"#, "[".repeat(100));
        assert!(is_flat(text.as_bytes()));
        assert!(!is_flat(format!(r#""\\"{}"#, "[".repeat(100)).as_bytes()), "the string has ended");
        assert!(is_json(b" \n{") && is_json(b"[]") && !is_json(b"text") && !is_json(b""));
    }
}
