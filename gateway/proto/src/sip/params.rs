//! Parameters, quoted strings and lists: the grammar that all structured headers share
//! (RFC 3261 section 25.1).

use std::borrow::Cow;
use std::fmt;

use super::limits;
use super::typed::ValueError;

/// Linear white space that is left after unfolding. `char::is_whitespace` would also take
/// U+0085 and U+00A0, which are ordinary octets here.
pub(super) const LWS: [char; 2] = [' ', '\t'];

/// Parameters of a header element or of a URI, in order. Names compare without case.
///
/// Values are kept as they stand on the wire: a quoted string with its quotes, a URI parameter
/// with its escapes. A parameter without `=` has no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// The value of the first parameter of that name, as on the wire.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name)?.1.as_deref()
    }

    /// Whether there is one of that name, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value of the first parameter of that name without quotes and backslashes.
    pub fn text(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        Some(unquote(value).unwrap_or_else(|| value.to_owned()))
    }

    /// Sets a header parameter in place of the first of that name and drops further ones. A value
    /// that is not a token or a host is quoted; characters that no name may have are left out.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        self.set_raw(
            name,
            value
                .map(|v| if v.chars().all(is_value_char) && !v.is_empty() { v.to_owned() } else { quote(v) }),
        );
    }

    /// Drops all of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_deref()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a value that is already in wire form.
    pub(super) fn set_raw(&mut self, name: &str, value: Option<String>) {
        let name: String = name.chars().filter(|c| is_token_char(*c)).collect();
        if name.is_empty() {
            return;
        }
        let at = self.0.iter().position(|(n, _)| n.eq_ignore_ascii_case(&name));
        self.remove(&name);
        self.0.insert(at.unwrap_or(self.0.len()).min(self.0.len()), (name, value));
    }

    /// Adds what a parser already checked. No name may stand twice (RFC 3261 sections 7.3.1 and
    /// 19.1.1): of two tags, two readers could believe different ones.
    pub(super) fn push_raw(&mut self, name: String, value: Option<String>) -> Result<(), ValueError> {
        if self.0.len() >= limits::PARAMS {
            return Err(ValueError::TooMany);
        }
        if self.has(&name) {
            return Err(ValueError::Param);
        }
        self.0.push((name, value));
        Ok(())
    }

    /// Parses `;name=value;name` (header grammar). Empty parameters are an error.
    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        let mut params = Self::default();
        let text = text.trim_matches(LWS);
        if text.is_empty() {
            return Ok(params);
        }
        let text = text.strip_prefix(';').ok_or(ValueError::Trailing)?;
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (piece, behind) = first_outside(text, b';')?;
            rest = behind;
            let (name, value) = match piece.split_once('=') {
                Some((name, value)) => (name.trim_matches(LWS), Some(value.trim_matches(LWS))),
                None => (piece.trim_matches(LWS), None),
            };
            let sound = match value {
                None => true,
                Some(v) if v.starts_with('"') => unquote(v).is_some(),
                Some(v) => is_value(v),
            };
            if name.is_empty() || !is_token(name) || !sound {
                return Err(ValueError::Param);
            }
            params.push_raw(name.to_owned(), value.map(str::to_owned))?;
        }
        Ok(params)
    }

    fn find(&self, name: &str) -> Option<&(String, Option<String>)> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            match value {
                Some(value) => write!(f, ";{name}={value}")?,
                None => write!(f, ";{name}")?,
            }
        }
        Ok(())
    }
}

/// `token` characters of RFC 3261 section 25.1.
pub(super) const fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '!' | '%' | '*' | '_' | '+' | '`' | '\'' | '~')
}

/// Whether it is a token, or nothing. No character over 0x7f is one of a token, nor are its octets.
pub(super) fn is_token(text: &str) -> bool {
    text.bytes().all(|octet| is_token_char(char::from(octet)))
}

/// Whether it may stand as the value of a parameter without quotes.
fn is_value(text: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii() && is_value_char(char::from(octet));
    !text.is_empty() && (text.bytes().all(plain) || text.chars().all(is_value_char))
}

/// What an unquoted parameter value may hold: a token, a host (brackets, colons), and what real
/// devices send beside these. Octets over 0x7f pass, as in quoted strings.
fn is_value_char(c: char) -> bool {
    !c.is_control() && !matches!(c, ' ' | ';' | ',' | '"' | '<' | '>' | '@' | '?' | '\\')
}

/// A quoted string. CR and LF become spaces: they can stand in no header.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        match c {
            '\r' | '\n' => out.push(' '),
            // A control character is legal as a quoted pair only.
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_ascii_control() && c != '\t' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What a quoted string means, or nothing when `text` is not one quoted string from end to end.
pub(super) fn unquote(text: &str) -> Option<String> {
    let (inside, rest) = take_quoted(text)?;
    rest.is_empty().then_some(inside)
}

/// What a value means, in quotes or without; nothing when its quotes are not around all of it.
pub(super) fn meaning(value: &str) -> Option<Cow<'_, str>> {
    if !value.starts_with('"') {
        return Some(Cow::Borrowed(value));
    }
    let inside = value.get(1..).and_then(|rest| rest.strip_suffix('"'));
    match inside {
        // What needs no reading: nearly all that there are.
        Some(inside)
            if memchr::memchr3(b'"', b'\\', b'\r', inside.as_bytes()).is_none() && !inside.contains('\n') =>
        {
            Some(Cow::Borrowed(inside))
        }
        _ => unquote(value).map(Cow::Owned),
    }
}

/// Reads a quoted string at the start of `text`: its meaning and what follows it. CR and LF cannot
/// stand in one, not even behind a backslash.
pub(super) fn take_quoted(text: &str) -> Option<(String, &str)> {
    let mut inside = String::new();
    let mut chars = text.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => return Some((inside, chars.as_str())),
            '\\' => match chars.next()? {
                c if c.is_ascii() && !matches!(c, '\r' | '\n') => inside.push(c),
                _ => return None,
            },
            '\r' | '\n' => return None,
            c => inside.push(c),
        }
    }
}

/// What follows the quoted string at the start of `text`, which is not made.
pub(super) fn behind_quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    let end = text.bytes().enumerate().skip(1).find(|(_, octet)| {
        let ends = !escaped && *octet == b'"';
        escaped = !escaped && *octet == b'\\';
        ends
    });
    text.get(end?.0.saturating_add(1)..)
}

/// Splits at `separator` where it stands neither in a quoted string nor in angle brackets.
/// Quotes and brackets that do not close are an error, and so are more pieces than a list may have.
pub(super) fn split_outside(text: &str, separator: u8) -> Result<Vec<&str>, ValueError> {
    let mut pieces = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        if pieces.len() >= limits::LIST {
            return Err(ValueError::TooMany);
        }
        let (piece, behind) = first_outside(text, separator)?;
        pieces.push(piece);
        rest = behind;
    }
    Ok(pieces)
}

/// What stands before the first such separator, and what behind it, if there is one.
pub(super) fn first_outside(text: &str, separator: u8) -> Result<(&str, Option<&str>), ValueError> {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    // What is looked for is ASCII, and no octet of another character is.
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !angle => quoted = !quoted,
            b'<' if !quoted => angle = true,
            b'>' if !quoted => angle = false,
            octet if octet == separator && !quoted && !angle => {
                let behind = at.saturating_add(1);
                return Ok((text.get(..at).unwrap_or_default(), text.get(behind..)));
            }
            _ => {}
        }
    }
    if quoted || angle { Err(ValueError::Unbalanced) } else { Ok((text, None)) }
}

/// A number of digits only. What is too large for a u32 is [`u32::MAX`]: delta seconds are taken as that
/// beyond 2^32 - 1 (RFC 3261 section 20.19).
pub(super) fn saturating_number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_strings_keep_every_character_but_line_ends() {
        for text in ["", "plain", "a \"b\" \\ c", "nul \0 bel \u{7} del \u{7f}", "тест", "\u{85}x"] {
            assert_eq!(unquote(&quote(text)).as_deref(), Some(text));
            assert_eq!(meaning(&quote(text)).as_deref(), Some(text));
        }
        assert_eq!(quote("a\r\nVia: x"), "\"a  Via: x\"");
        for broken in ["\"", "\"a", "\"a\\\"", "\"a\"b", "a\"", "\"\\é\"", "\"a\nb\"", "\"\\\r\""] {
            assert_eq!(unquote(broken), None, "{broken}");
            assert!(meaning(broken).is_none_or(|it| !broken.starts_with('"') && it == broken), "{broken}");
        }
    }

    #[test]
    fn lists_split_outside_quotes_and_brackets() {
        let list = "\"a,\\\",b\" <sip:x,y@h>;q=1, <sip:z@h>;t=\"c,d\"";
        assert_eq!(
            split_outside(list, b',').unwrap(),
            ["\"a,\\\",b\" <sip:x,y@h>;q=1", " <sip:z@h>;t=\"c,d\""]
        );
        assert_eq!(split_outside("\"a, b", b','), Err(ValueError::Unbalanced));
        assert_eq!(split_outside("<a, b", b','), Err(ValueError::Unbalanced));
        assert_eq!(split_outside(&",".repeat(limits::LIST), b','), Err(ValueError::TooMany));
    }

    #[test]
    fn params_parse_print_and_refuse_empty_ones() {
        let params = Params::parse(" ; a = b;c ; d=\"x;y\" ;e=[2001:db8::1]").unwrap();
        assert_eq!(params.to_string(), ";a=b;c;d=\"x;y\";e=[2001:db8::1]");
        assert_eq!(params.get("A"), Some("b"));
        assert_eq!(params.text("d").as_deref(), Some("x;y"));
        assert!(params.has("c") && params.get("c").is_none());
        for bad in [";", ";tag=1;TAG=2", ";;,;,,", ";;;;", ";a=", "a=b", ";a b", ";a=b c", ";=b"] {
            assert!(Params::parse(bad).is_err(), "{bad}");
        }
        let many = |count| (0..count).map(|n| format!(";p{n}")).collect::<String>();
        assert!(Params::parse(&many(limits::PARAMS)).is_ok());
        assert_eq!(Params::parse(&many(limits::PARAMS + 1)), Err(ValueError::TooMany));
    }

    #[test]
    fn set_replaces_in_place_and_cannot_inject() {
        let mut params = Params::parse(";rport;branch=1").unwrap();
        params.set("RPORT", Some("5060"));
        assert_eq!(params.to_string(), ";RPORT=5060;branch=1");
        params.set("te;x\r\ny", Some("a\r\nb;c"));
        assert_eq!(params.to_string(), ";RPORT=5060;branch=1;texy=\"a  b;c\"");
    }
}
