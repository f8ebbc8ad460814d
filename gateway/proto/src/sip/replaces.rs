//! Replaces (RFC 3891): the dialog whose place a new call shall take. And who is said to have asked for
//! that (Referred-By, RFC 3892 section 3).

use super::headers::Headers;
use super::params::{LWS, Params, split_outside};
use super::typed::ValueError;
use super::uri::unescape;
use super::{CallId, Name, NameAddr, Uri};

/// What was found of the dialog that a peer names, by the rules of RFC 3891 section 3. Whether that peer
/// may take its place is the owner's to know: to whom it is none of his business it is
/// [`Self::Nothing`], whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// There is no such dialog, or one that rings and was not begun by us: 481.
    Nothing,
    /// A dialog of that call.
    Call {
        /// Which.
        call: CallId,
        /// Why its place cannot be taken: 486 where it is answered and only one that rings was meant,
        /// 603 where it is over.
        refusal: Option<u16>,
    },
}

/// A dialog as the far end names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) call_id: String,
    /// The tag of the end that is asked: ours.
    pub(super) to_tag: String,
    /// That of its far end.
    pub(super) from_tag: String,
    pub(super) early_only: bool,
}

impl Named {
    /// RFC 3891 section 6.1. Both tags must be there, and each parameter once.
    fn parse(text: &str) -> Result<Self, ValueError> {
        let (call_id, params) = match text.find(';').and_then(|at| text.split_at_checked(at)) {
            Some((call_id, params)) => (call_id.trim_matches(LWS), Params::parse(params)?),
            None => return Err(ValueError::Param),
        };
        if call_id.is_empty() || call_id.chars().any(|c| c.is_control() || matches!(c, ' ' | ',')) {
            return Err(ValueError::Token);
        }
        let tag = |name: &str| params.get(name).map(tag_of).ok_or(ValueError::Param);
        let (to_tag, from_tag) = (tag("to-tag")?, tag("from-tag")?);
        Ok(Self { call_id: call_id.to_owned(), to_tag, from_tag, early_only: params.has("early-only") })
    }

    /// The one that a request's Replaces names. Two of them are an error (RFC 3891 section 3).
    pub(super) fn of_request(headers: &Headers) -> Result<Option<Self>, ValueError> {
        only(headers.all(&Name::Replaces), Self::parse)
    }

    /// The one that the URI of a Refer-To names: what an INVITE there would carry (RFC 3891 section 7.2).
    pub(super) fn of_uri(uri: &Uri) -> Result<Option<Self>, ValueError> {
        let all = uri.as_sip().into_iter().flat_map(|uri| &uri.headers);
        let named = all.filter(|(name, _)| Name::parse(&unescape(name)) == Some(Name::Replaces));
        only(named, |(_, value)| Self::parse(&unescape(value)))
    }
}

/// Who is said to have sent somebody here: syntax alone, for nothing in it is proven.
pub(super) fn referred_by(headers: &Headers) -> Result<Option<NameAddr>, ValueError> {
    let one = |value: &str| match split_outside(value, b',')?.as_slice() {
        [only] => NameAddr::parse(only),
        _ => Err(ValueError::TooMany),
    };
    only(headers.all(&Name::ReferredBy), one)
}

fn only<T, U>(
    mut all: impl Iterator<Item = T>,
    read: impl FnOnce(T) -> Result<U, ValueError>,
) -> Result<Option<U>, ValueError> {
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(first), None) => read(first).map(Some),
        (Some(_), Some(_)) => Err(ValueError::TooMany),
    }
}

/// A tag of zero stands for none, as RFC 2543 has it (RFC 3891 section 3).
fn tag_of(text: &str) -> String {
    if text == "0" { String::new() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3891_section_6_1_examples() {
        let named = Named::parse("98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff").unwrap();
        assert_eq!(
            (named.call_id.as_str(), named.to_tag.as_str(), named.from_tag.as_str(), named.early_only),
            ("98732@sip.example.com", "ff87ff", "r33th4x0r", false)
        );
        let early = Named::parse("87134@171.161.34.23 ;to-tag=24796 ; from-tag=0;early-only").unwrap();
        assert!(early.early_only && early.from_tag.is_empty());
        for bad in [
            "",
            "a",
            "a;to-tag=1",
            "a;from-tag=1",
            ";to-tag=1;from-tag=2",
            "a;to-tag=1;from-tag=2;to-tag=1",
            "a b;to-tag=1;from-tag=2",
            "a\r\nVia: x;to-tag=1;from-tag=2",
            "a;to-tag=1;from-tag=2, b;to-tag=1;from-tag=2",
            "a;to-tag;from-tag=2",
        ] {
            assert!(Named::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_stands_in_a_refer_to_and_no_more() {
        let of = |uri: &str| Named::of_uri(&Uri::parse(uri).unwrap());
        let one = "Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2";
        assert_eq!(of(&format!("sip:carol@h?Require=replaces&{one}")).unwrap().unwrap().call_id, "a@b");
        assert_eq!(
            of(&format!("sip:carol@h?{}", one.replace("Repl", "r%65pl"))).unwrap().unwrap().to_tag,
            "1"
        );
        assert_eq!(of("sip:carol@h?Subject=Replaces"), Ok(None));
        assert_eq!(of("tel:+49"), Ok(None));
        assert!(of(&format!("sip:carol@h?{one}&{one}")).is_err());
        assert!(of("sip:carol@h?Replaces=a%0D%0AVia:x%3Bto-tag%3D1%3Bfrom-tag%3D2").is_err());
    }

    #[test]
    fn who_is_said_to_have_sent_is_one_and_readable() {
        let of = |values: &[&str]| {
            let mut headers = Headers::new();
            values.iter().for_each(|value| headers.push(Name::ReferredBy, value));
            referred_by(&headers)
        };
        let said = of(&["\"Bob\" <sip:bob@b.example>;cid=\"2UWQFN309shb3@b.example\""]).unwrap().unwrap();
        assert_eq!(said.uri.to_string(), "sip:bob@b.example");
        assert_eq!(of(&[]), Ok(None));
        for bad in [&["<sip:a@b>", "<sip:a@b>"][..], &["<sip:a@b>, <sip:c@d>"], &["<<x"], &[""]] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
