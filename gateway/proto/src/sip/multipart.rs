//! The session description of a message, alone or in a multipart body (RFC 2046 section 5.1,
//! RFC 5621).

use bytes::Bytes;

use super::headers::{Headers, Name};
use super::limits;
use super::message::Message;
use super::parse::{find, read_headers};
use super::typed::ContentType;

/// The longest boundary of RFC 2046.
const BOUNDARY: usize = 70;

impl Message {
    /// The session description, if there is one: the body when its type is `application/sdp`, or the
    /// first part of that type of a multipart body. It shares the body's memory.
    pub fn sdp(&self) -> Option<Bytes> {
        sdp_of(self.headers(), self.body())
    }
}

/// As [`Message::sdp`], from the parts of a message.
pub fn sdp_of(headers: &Headers, body: &Bytes) -> Option<Bytes> {
    let content_type = headers.content_type()?;
    if content_type.is("application", "sdp") {
        return (!body.is_empty()).then(|| body.clone());
    }
    let (_, octets) = parts(&content_type, body)?.into_iter().find(|(headers, _)| {
        headers.content_type().is_some_and(|part| part.is("application", "sdp"))
            && is_identity(headers.get(&Name::ContentTransferEncoding))
    })?;
    Some(body.slice_ref(octets))
}

/// Headers and octets of the parts, at most [`limits::PARTS`] of them. Nothing when the type is not
/// multipart, has no usable boundary, or no part begins.
fn parts<'a>(content_type: &ContentType, body: &'a [u8]) -> Option<Vec<(Headers, &'a [u8])>> {
    if !content_type.kind.as_str().eq_ignore_ascii_case("multipart") {
        return None;
    }
    let boundary = content_type.params.text("boundary")?;
    if boundary.is_empty() || boundary.len() > BOUNDARY || boundary.contains(['\r', '\n']) {
        return None;
    }
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = delimiter.as_bytes();
    // The first delimiter may stand at the very start, without the line end before it.
    let mut rest = match body.strip_prefix(delimiter.get(2..)?) {
        Some(rest) => rest,
        None => after(body, delimiter)?.1,
    };
    let mut parts = Vec::new();
    while parts.len() < limits::PARTS && !rest.starts_with(b"--") {
        let (padding, content) = after(rest, b"\r\n")?;
        if !padding.iter().all(|octet| matches!(octet, b' ' | b'\t')) {
            break;
        }
        // A part that no delimiter ends is not complete.
        let Some((part, next)) = after_part(content, delimiter) else { break };
        let (headers, octets) = match part.strip_prefix(b"\r\n") {
            Some(octets) => (Headers::new(), octets),
            None => match after(part, b"\r\n\r\n") {
                Some((lines, octets)) => (read_headers(lines), octets),
                None => (read_headers(part), &b""[..]),
            },
        };
        parts.push((headers, octets));
        rest = next;
    }
    Some(parts)
}

/// What stands before and after the first `mark`.
fn after<'a>(octets: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (before, rest) = octets.split_at_checked(find(octets, mark)?)?;
    Some((before, rest.strip_prefix(mark)?))
}

/// A part and what follows its delimiter; an empty part begins with the delimiter's own line.
fn after_part<'a>(content: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    match content.strip_prefix(delimiter.get(2..)?) {
        Some(next) => Some((b"", next)),
        None => after(content, delimiter),
    }
}

/// SIP bodies are octets; a part in another encoding is not read as text.
fn is_identity(encoding: Option<&str>) -> bool {
    encoding
        .is_none_or(|encoding| ["7bit", "8bit", "binary"].iter().any(|e| e.eq_ignore_ascii_case(encoding)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::torture::torture;

    fn sdp(content_type: &str, body: &str) -> Option<String> {
        let mut headers = Headers::new();
        headers.push(Name::ContentType, content_type);
        let found = sdp_of(&headers, &Bytes::copy_from_slice(body.as_bytes()));
        found.map(|octets| String::from_utf8(octets.to_vec()).unwrap())
    }

    const MIXED: &str = "multipart/mixed;boundary=\"b 1\"";

    #[test]
    fn the_part_is_found_among_others() {
        let body = "preamble\r\n--b 1\r\nContent-Type: text/plain\r\n\r\nv=wrong\r\n\
            --b 1  \r\nc: Application/SDP\r\nContent-Disposition: session\r\n\r\nv=0\r\ns=-\r\n\r\n--b 1--\r\nepilogue";
        assert_eq!(sdp(MIXED, body).as_deref(), Some("v=0\r\ns=-\r\n"));
        assert_eq!(
            sdp(MIXED, "--b 1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b 1--").as_deref(),
            Some("v=0")
        );
        assert_eq!(sdp("application/sdp", "v=0").as_deref(), Some("v=0"));
    }

    #[test]
    fn what_is_no_complete_part_is_nothing() {
        for body in [
            "",
            "--b 1",
            "--b 1--",
            "--b 1\r\n",
            "--b 1\r\nContent-Type: application/sdp\r\n\r\nv=0",
            "--b 12\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b 1--",
            "--b 1\r\n\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b 1--",
            "--b 1\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\n--b 1--",
        ] {
            assert_eq!(sdp(MIXED, body), None, "{body:?}");
        }
        for kind in
            ["multipart/mixed", "multipart/mixed;boundary=\"\"", "text/plain;boundary=b", "application/sdp"]
        {
            assert_eq!(sdp(kind, ""), None, "{kind}");
        }
        let many = "--b\r\n\r\nx\r\n".repeat(limits::PARTS);
        let late = format!("{many}--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--");
        assert_eq!(sdp("multipart/mixed;boundary=b", &late), None);
    }

    #[test]
    fn a_binary_part_is_never_text() {
        let message = Message::parse(&torture("rfc4475", "mpart01")).unwrap();
        assert_eq!(message.sdp(), None);
        let parts = parts(&message.headers().content_type().unwrap(), message.body()).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[0].1, b"Hello");
        assert!(parts[1].1.contains(&0));
    }
}
