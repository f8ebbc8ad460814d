//! Takes what is secret out of a SIP message and leaves every octet in its place, so that lengths stay
//! right: for captures that others may read.

/// What takes the place of each secret octet.
const MASK: u8 = b'*';

/// Credentials of HTTP authentication are always masked; keys of media (RFC 4568, RFC 8839) unless they
/// were asked for.
pub(super) fn mask(message: &mut [u8], keys: bool) {
    let mut credentials = false;
    for line in message.split_mut(|octet| *octet == b'\n' || *octet == b'\r') {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        if !line.is_empty() {
            credentials = folded && credentials
                || begins(line, b"authorization") && !begins(line, b"authorization-")
                || begins(line, b"proxy-authorization");
        }
        if credentials {
            let value = line.iter().position(|octet| *octet == b':').filter(|_| !folded);
            hide(line, value.map_or(0, |colon| colon + 1), |octet| octet == b' ');
        } else if !keys && begins(line, b"a=crypto:") {
            hide_keys(line);
        } else if !keys
            && let Some(prefix) =
                [&b"a=ice-pwd:"[..], b"a=key-mgmt:", b"k="].into_iter().find(|it| begins(line, it))
        {
            hide(line, prefix.len(), |_| false);
        }
    }
}

/// Everything between "inline:" and the end of the key.
fn hide_keys(line: &mut [u8]) {
    const INLINE: &[u8] = b"inline:";
    let mut from = 0;
    while let Some(rest) = line.get(from..)
        && let Some(at) = rest.windows(INLINE.len()).position(|it| it.eq_ignore_ascii_case(INLINE))
    {
        from += at + INLINE.len();
        let Some(key) = line.get_mut(from..) else { return };
        let end = key.iter().position(|octet| matches!(octet, b'|' | b' ' | b';')).unwrap_or(key.len());
        key.iter_mut().take(end).for_each(|octet| *octet = MASK);
        from += end;
    }
}

fn hide(line: &mut [u8], from: usize, stays: impl Fn(u8) -> bool) {
    line.iter_mut().skip(from).filter(|octet| !stays(**octet)).for_each(|octet| *octet = MASK);
}

fn begins(line: &[u8], with: &[u8]) -> bool {
    line.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "INVITE sip:bob@h SIP/2.0\r\nauthorization: Digest username=\"alice\",\r\n \
        response=\"0123456789abcdef\"\r\nProxy-Authorization : Digest response=\"fedcba98\"\r\nSubject: k=v\r\n\r\n\
        v=0\r\nk=base64:c2VjcmV0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 INLINE:S3cretKeyOne|2^20|1:4;inline:S3cretKeyTwo\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:S3cretPassword\r\na=key-mgmt:mikey S3cretMikey\r\na=sendrecv\r\n";

    fn masked(keys: bool) -> String {
        let mut message = MESSAGE.as_bytes().to_vec();
        mask(&mut message, keys);
        assert_eq!(message.len(), MESSAGE.len());
        String::from_utf8(message).unwrap()
    }

    #[test]
    fn no_secret_is_left_and_everything_else_stands_where_it_stood() {
        let all = masked(false);
        for secret in ["S3cret", "c2VjcmV0", "0123456789abcdef", "fedcba98"] {
            assert!(MESSAGE.contains(secret) && !all.contains(secret), "{secret} in {all}");
        }
        for part in [
            "INVITE sip:bob@h SIP/2.0\r\n",
            "Subject: k=v\r\n",
            "AES_CM_128_HMAC_SHA1_80 INLINE:************|2^20|1:4;inline:************\r\n",
            "a=ice-ufrag:abcd\r\n",
            "a=sendrecv\r\n",
        ] {
            assert!(all.contains(part), "{part} not in {all}");
        }
    }

    #[test]
    fn keys_are_there_when_they_were_asked_for_and_credentials_never() {
        let all = masked(true);
        assert!(all.contains("S3cretKeyOne") && all.contains("S3cretKeyTwo"));
        assert!(!all.contains("0123456789abcdef") && !all.contains("fedcba98"));
    }
}
