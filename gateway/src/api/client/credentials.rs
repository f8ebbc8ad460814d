//! How clients prove a device: `x-pexip-basic` in either of two headers. Pure.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Longest value of a header that is looked at: user name and password have some hundred bytes.
const LONGEST: usize = 4_096;

/// Its own scheme, so that nobody takes it for a proxy's `Basic` (S57).
const SCHEME: &str = "x-pexip-basic";

/// The header that proxies pass on; `Authorization` they may keep for themselves.
const OWN: &str = "x-pexip-authorization";

/// With or without padding; old clients leave bits in the last letter that mean nothing.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A user name and the password that is said to be his.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
}

impl Credentials {
    /// Those of a request, if it has any that can be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let named = |name| headers.get_all(name).into_iter();
        let values = named(OWN).chain(headers.get_all(header::AUTHORIZATION));
        values.filter_map(|value| Self::parse(value.to_str().ok()?)).next()
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, encoded) = value.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case(SCHEME) || encoded.len() > LONGEST {
            return None;
        }
        // The alphabet of URLs is one client's, the other that of the rest.
        let encoded: String = encoded
            .trim()
            .chars()
            .map(|it| match it {
                '-' => '+',
                '_' => '/',
                it => it,
            })
            .collect();
        let text = String::from_utf8(LENIENT.decode(encoded).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Self { username: username.to_owned(), password: password.to_owned() })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[(&'static str, &str)]) -> Option<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Credentials::of(&map).map(|it| (it.username, it.password))
    }

    fn bob(password: &str) -> Option<(String, String)> {
        Some(("bob".into(), password.into()))
    }

    #[test]
    fn both_headers_both_alphabets_and_padding_or_none() {
        // "bob:secret", "bob:geheim€" and "bob:?>?" (RFC 4648 sections 4 and 5).
        assert_eq!(found(&[("authorization", "x-pexip-basic Ym9iOnNlY3JldA==")]), bob("secret"));
        assert_eq!(found(&[("x-pexip-authorization", "X-PEXIP-BASIC Ym9iOnNlY3JldA")]), bob("secret"));
        assert_eq!(found(&[("authorization", "x-pexip-basic Ym9iOmdlaGVpbeKCrA==")]), bob("geheim€"));
        for spelled in ["Ym9iOj8+Pw==", "Ym9iOj8-Pw==", "Ym9iOj8-Pw"] {
            assert_eq!(found(&[("authorization", &format!("x-pexip-basic {spelled}"))]), bob("?>?"));
        }
        assert_eq!(found(&[("authorization", "x-pexip-basic Ym9iOmE6Yg==")]), bob("a:b"));
    }

    #[test]
    fn s57_what_a_proxy_wants_for_itself_is_left_alone() {
        let proxy = ("authorization", "Basic cHJveHk6c2VjcmV0");
        assert_eq!(found(&[proxy]), None);
        assert_eq!(
            found(&[proxy, ("x-pexip-authorization", "x-pexip-basic Ym9iOnNlY3JldA==")]),
            bob("secret")
        );
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        for value in
            ["", "x-pexip-basic", "x-pexip-basic !!!", "x-pexip-basic Ym9i", "x-pexip-basic Ym9iOv8="]
        {
            assert_eq!(found(&[("authorization", value)]), None, "{value}");
        }
        let long = format!("x-pexip-basic {}", "Ym9i".repeat(LONGEST));
        assert_eq!(found(&[("authorization", &long)]), None);
        assert_eq!(
            format!("{:?}", Credentials::parse("x-pexip-basic Ym9iOnNlY3JldA==").unwrap()),
            "Credentials { username: \"bob\", .. }"
        );
    }
}
