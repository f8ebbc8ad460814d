//! One part of a body of `multipart/form-data` (RFC 7578), without a copy. Pure; what is not in that
//! form has no part.

/// Longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY: usize = 70;
/// Longest head of a part, in bytes.
const HEAD: usize = 4 * 1024;
/// Parts that are looked at.
const PARTS: usize = 16;

/// The content of the part `name`; `kind` is the value of `Content-Type` of the whole.
pub(super) fn part<'a>(body: &'a [u8], kind: &str, name: &str) -> Option<&'a [u8]> {
    let (essence, parameters) = kind.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary").filter(|it| (1..=BOUNDARY).contains(&it.len()))?;
    let delimiter = format!("\r\n--{boundary}");
    // The first one has no line before it.
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..])?;
    for _ in 0..PARTS {
        // After the last one come two hyphens.
        rest = rest.strip_prefix(b"\r\n")?;
        let head = find(rest.get(..rest.len().min(HEAD))?, b"\r\n\r\n")?;
        let (head, content) = rest.split_at_checked(head)?;
        let content = content.get(4..)?;
        let end = find(content, delimiter.as_bytes())?;
        if std::str::from_utf8(head).is_ok_and(|head| is_called(head, name)) {
            return content.get(..end);
        }
        rest = content.get(end + delimiter.len()..)?;
    }
    None
}

/// Whether the head of a part says that it is the field `name`.
fn is_called(head: &str, name: &str) -> bool {
    head.split("\r\n").filter_map(|line| line.split_once(':')).any(|(header, value)| {
        header.trim().eq_ignore_ascii_case("content-disposition")
            && value
                .split_once(';')
                .is_some_and(|(_, parameters)| parameter(parameters, "name") == Some(name))
    })
}

/// `wanted="..."` among parameters, with quotes or without.
fn parameter<'a>(parameters: &'a str, wanted: &str) -> Option<&'a str> {
    parameters.split(';').filter_map(|it| it.split_once('=')).find_map(|(name, value)| {
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        name.trim().eq_ignore_ascii_case(wanted).then_some(quoted.unwrap_or(value))
    })
}

/// Where `needle` begins. Its first byte is looked for alone: pictures have few of them.
fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, last) = (*needle.first()?, hay.len().checked_sub(needle.len())?);
    let mut at = 0;
    while at <= last {
        at += hay.get(at..=last)?.iter().position(|byte| *byte == first)?;
        if hay.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=----Form7x";

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (head, content) in parts {
            body.extend(b"------Form7x\r\n");
            body.extend(head.as_bytes());
            body.extend(b"\r\n\r\n");
            body.extend(*content);
            body.extend(b"\r\n");
        }
        body.extend(b"------Form7x--\r\n");
        body
    }

    #[test]
    fn the_part_of_that_name_is_found_byte_by_byte() {
        let picture = b"\xff\xd8\r\n--\r\n\r\n------Form7\r\n\xff\xd9";
        let head =
            "Content-Disposition: form-data; name=\"frame\"; filename=\"blob\"\r\nContent-Type: image/jpeg";
        let body = form(&[("content-disposition: form-data; name=other", b"x"), (head, picture)]);
        assert_eq!(part(&body, KIND, "frame"), Some(picture.as_slice()));
        assert_eq!(
            part(&body, "Multipart/Form-Data;boundary=\"----Form7x\"", "other"),
            Some(b"x".as_slice())
        );
        assert_eq!(part(&body, KIND, "blob"), None);
        assert_eq!(part(&body, "image/jpeg", "frame"), None);
        assert_eq!(part(&body, "multipart/form-data", "frame"), None);
        assert_eq!(part(&form(&[(head, b"")]), KIND, "frame"), Some(b"".as_slice()));
    }

    #[test]
    fn what_is_cut_or_too_large_has_no_part() {
        let body = form(&[("Content-Disposition: form-data; name=\"frame\"", b"picture")]);
        let whole = body.len() - "--\r\n".len();
        for end in 0..whole {
            assert_eq!(part(&body[..end], KIND, "frame"), None, "{end}");
        }
        let other = ("Content-Disposition: form-data; name=\"x\"", b"".as_slice());
        let mut many = vec![other; PARTS];
        many.push(("Content-Disposition: form-data; name=\"frame\"", b"late"));
        assert_eq!(part(&form(&many), KIND, "frame"), None);
        let long = format!("X: {}\r\nContent-Disposition: form-data; name=\"frame\"", "x".repeat(HEAD));
        assert_eq!(part(&form(&[(&long, b"")]), KIND, "frame"), None);
        let boundary = format!("multipart/form-data; boundary={}", "b".repeat(71));
        assert_eq!(part(&body, &boundary, "frame"), None);
    }
}
