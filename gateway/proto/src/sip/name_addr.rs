//! `name-addr` and `addr-spec`: From, To, Contact, Route, Record-Route, Path (RFC 3261 section 20.10).

use std::fmt;

use super::params::{
    LWS, Params, behind_quoted, first_outside, quote, saturating_number, split_outside, take_quoted,
};
use super::typed::ValueError;
use super::uri::{SipUri, Uri};

/// A URI with the name to show and the header's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name, its quotes and backslashes removed. Empty ones are none.
    pub display: Option<String>,
    /// The URI.
    pub uri: Uri,
    /// Parameters of the header (`tag`, `expires`, `q`), not of the URI.
    pub params: Params,
}

impl NameAddr {
    /// One without name and parameters.
    pub fn new(uri: impl Into<Uri>) -> Self {
        Self { display: None, uri: uri.into(), params: Params::default() }
    }

    /// With a name to show. Control characters are left out: it may come from another network.
    #[must_use]
    pub fn with_display(mut self, display: &str) -> Self {
        let display: String = display.chars().filter(|c| !c.is_control()).collect();
        self.display = (!display.is_empty()).then_some(display);
        self
    }

    /// With a `tag`.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.params.set("tag", Some(tag));
        self
    }

    /// Parses one element. Without angle brackets all parameters are the header's, and the URI may
    /// hold no comma and no question mark (RFC 3261 section 20).
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim_matches(LWS);
        let (display, rest) = if text.starts_with('"') {
            let (display, rest) = take_quoted(text).ok_or(ValueError::Unbalanced)?;
            (Some(display), rest.trim_start_matches(LWS))
        } else if let Some((display, _)) = text.split_once('<') {
            if display
                .chars()
                .any(|c| matches!(c, ',' | ';' | '"' | '>' | '\\') || c.is_ascii_control() && c != '\t')
            {
                return Err(ValueError::Display);
            }
            let rest = text.strip_prefix(display).unwrap_or_default();
            (Some(display.trim_end_matches(LWS).to_owned()), rest)
        } else {
            return Self::parse_addr_spec(text);
        };
        let (uri, params) =
            rest.strip_prefix('<').and_then(|r| r.split_once('>')).ok_or(ValueError::Unbalanced)?;
        Ok(Self {
            display: display.filter(|d| !d.is_empty()),
            uri: Uri::parse(uri)?,
            params: Params::parse(params)?,
        })
    }

    /// Parses the elements of one header value.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ValueError> {
        split_outside(text, b',')?.into_iter().map(Self::parse).collect()
    }

    /// The `tag`, when there is one that is not empty.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// `expires` of a Contact in seconds; what is no number counts as absent (RFC 3261 section 10.2.1.1).
    pub fn expires(&self) -> Option<u32> {
        saturating_number(self.params.get("expires")?)
    }

    /// `q` of a Contact in thousandths, 1000 when it is absent or malformed.
    pub fn q(&self) -> u16 {
        self.params.get("q").and_then(parse_q).unwrap_or(1000)
    }

    fn parse_addr_spec(text: &str) -> Result<Self, ValueError> {
        let (uri, params) = match text.find(';').and_then(|at| text.split_at_checked(at)) {
            Some((uri, params)) => (uri.trim_end_matches(LWS), params),
            None => (text, ""),
        };
        if uri.contains([',', '?']) {
            return Err(ValueError::Bare);
        }
        Ok(Self { display: None, uri: Uri::parse(uri)?, params: Params::parse(params)? })
    }
}

/// The tag of a value that [`NameAddr::parse`] takes: what [`NameAddr::tag`] says of it, without making anything of
/// the rest. Nothing is promised of other values. Every message is looked at for it several times.
pub(super) fn tag_of(value: &str) -> Option<&str> {
    let text = value.trim_matches(LWS);
    // A display name in quotes may hold anything; one without has no bracket of its own.
    let text = if text.starts_with('"') { behind_quoted(text)? } else { text };
    let params = match text.split_once('<') {
        Some((_, inside)) => inside.split_once('>')?.1,
        None => text.split_once(';')?.1,
    };
    let mut rest = Some(params);
    while let Some(params) = rest {
        let (piece, behind) = first_outside(params, b';').ok()?;
        let (name, tag) = piece.split_once('=').unwrap_or((piece, ""));
        if name.trim_matches(LWS).eq_ignore_ascii_case("tag") {
            return Some(tag.trim_matches(LWS)).filter(|tag| !tag.is_empty());
        }
        rest = behind;
    }
    None
}

impl From<SipUri> for NameAddr {
    fn from(uri: SipUri) -> Self {
        Self::new(uri)
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "{} ", quote(display))?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// What the Contact headers of a message say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts {
    /// `*`: all bindings, in a REGISTER that removes them.
    All,
    /// A list, maybe empty.
    List(Vec<NameAddr>),
}

/// A qvalue: 0 to 1 with at most three digits after the point.
fn parse_q(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" | "" => Some(thousandths),
        "1" => (thousandths == 0).then_some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_same_whether_all_is_read_or_it_alone() {
        for (value, tag) in [
            ("<sip:a@h>;tag=1", Some("1")),
            (" \"x;tag=2 <\\\">\" <sip:a@h;tag=3> ; p = \";tag=4\" ; TAG = 5 ", Some("5")),
            ("Bob <sip:a@h;tag=3>", None),
            ("sip:a@h;user=phone;tag=6;x", Some("6")),
            ("sip:a@h;tag", None),
            ("sip:a@h", None),
        ] {
            assert_eq!(tag_of(value), tag, "{value}");
            assert_eq!(NameAddr::parse(value).unwrap().tag(), tag, "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn and_so_it_is_of_anything_that_reads(value in "[\"]?[ <a\"\\\\;]{0,4}[\"]?[ ]?<?sip:a@h[;=tagé]{0,5}>?([ ]?;[ ]?(tag|Tag|x|lr)([ ]?=[ ]?[1a;\"\\\\]{0,4})?){0,3}") {
            if let Ok(read) = NameAddr::parse(&value) {
                proptest::prop_assert_eq!(tag_of(&value), read.tag());
            }
        }
    }

    #[test]
    fn all_three_forms_parse() {
        let quoted =
            NameAddr::parse("\"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com> ; tag = 98asjd8")
                .unwrap();
        assert_eq!(quoted.display.as_deref(), Some("J Rosenberg \\\""));
        assert_eq!(quoted.tag(), Some("98asjd8"));
        let token = NameAddr::parse("caller<sip:caller@example.com>;tag=323").unwrap();
        assert_eq!((token.display.as_deref(), token.tag()), (Some("caller"), Some("323")));
        let bare = NameAddr::parse("sip:+13035551111@gw;user=phone").unwrap();
        assert_eq!(bare.uri.to_string(), "sip:+13035551111@gw");
        assert_eq!(bare.params.get("user"), Some("phone"));
        let inside = NameAddr::parse("<sip:+13035551111@gw;user=phone>").unwrap();
        assert!(inside.params.is_empty());
    }

    #[test]
    fn printing_quotes_and_parses_back() {
        for text in [
            "\"a \\\"b\\\" <c>, d;\" <sip:x@h;lr?Subject=a>;tag=1;q=0.5",
            "<tel:+1-201-555-0123>",
            "\"тест\" <sips:u:p@[2001:db8::1]:5061>;expires=3600",
        ] {
            let parsed = NameAddr::parse(text).unwrap();
            assert_eq!(parsed.to_string(), text);
        }
        let named = NameAddr::new(Uri::parse("sip:a@b").unwrap()).with_display("x\r\nVia: y\u{1b}[0m");
        assert_eq!(named.to_string(), "\"xVia: y[0m\" <sip:a@b>");
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in [
            "",
            "\"Mr. J. User <sip:j.user@example.com>",
            "Bell, Alexander <sip:a.g.bell@example.com>;tag=43",
            "\"Watson, Thomas\" < sip:t.watson@example.org >",
            "\"Joe\" <sip:joe@example.org>;;;;",
            "sip:user@example.com?Route=%3Csip:sip.example.com%3E",
            "sip:a,b@example.com",
            "<sip:a@b",
            "<sip:a@b> x",
            "\"a\" x <sip:a@b>",
        ] {
            assert!(NameAddr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn q_and_expires_read_as_numbers_or_not_at_all() {
        let of = |params: &str| NameAddr::parse(&format!("<sip:a@b>{params}")).unwrap();
        assert_eq!(of(";q=0.33").q(), 330);
        assert_eq!(of(";q=1.000").q(), 1000);
        assert_eq!(of(";q=0").q(), 0);
        assert_eq!(of(";q=1.5").q(), 1000);
        assert_eq!(of(";q=0.33333").q(), 1000);
        assert_eq!(of("").expires(), None);
        assert_eq!(of(";expires=280297596632815").expires(), Some(u32::MAX));
        assert_eq!(of(";expires=-1").expires(), None);
    }
}
