//! Typed readers of the headers that the machines use.

use std::fmt;

use super::headers::{Headers, Name};
use super::limits;
use super::message::{Method, Token};
use super::name_addr::{Contacts, NameAddr, tag_of};
use super::params::{LWS, Params, first_outside, saturating_number, split_outside};
use super::uri::UriError;
use super::via::Via;

/// Why a header value does not read as what its name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A token is missing or has characters that it cannot have.
    #[error("malformed token")]
    Token,
    /// A quoted string or angle bracket does not close.
    #[error("unbalanced quotes or brackets")]
    Unbalanced,
    /// A display name that needs quotes.
    #[error("display name needs quotes")]
    Display,
    /// A URI that needs angle brackets.
    #[error("URI needs angle brackets")]
    Bare,
    /// An empty or malformed parameter.
    #[error("malformed parameter")]
    Param,
    /// Text after the end of the value.
    #[error("text after the value")]
    Trailing,
    /// Not a number, or one out of range.
    #[error("malformed number")]
    Number,
    /// A protocol version that is not ours.
    #[error("other protocol version")]
    Version,
    /// More elements than [`limits`] allows.
    #[error("too many elements")]
    TooMany,
    /// `*` among other contacts.
    #[error("star beside other contacts")]
    Star,
    /// Its URI is malformed.
    #[error("malformed URI: {0}")]
    Uri(#[from] UriError),
}

/// CSeq (RFC 3261 section 20.16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// Below 2^31 when it is ours; a peer may use all 32 bits.
    pub number: u32,
    /// The method of the request.
    pub method: Method,
}

impl CSeq {
    /// Parses the value.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let (number, method) = text.split_once(LWS).ok_or(ValueError::Token)?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ValueError::Number);
        }
        let number = number.parse().map_err(|_| ValueError::Number)?;
        let method = Method::parse(method.trim_matches(LWS)).ok_or(ValueError::Token)?;
        Ok(Self { number, method })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// One element of Reason (RFC 3326 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// `SIP`, `Q.850` and so on.
    pub protocol: Token,
    /// A status or a cause number.
    pub cause: Option<u16>,
    /// Words for a person.
    pub text: Option<String>,
}

impl Reason {
    /// `SIP ;cause=200 ;text="Call completed elsewhere"` and its like.
    pub fn sip(cause: u16, text: &str) -> Self {
        Self { protocol: Token::fixed("SIP"), cause: Some(cause), text: Some(text.to_owned()) }
    }

    /// A cause of Q.850.
    pub fn q850(cause: u16) -> Self {
        Self { protocol: Token::fixed("Q.850"), cause: Some(cause), text: None }
    }

    /// Parses one element.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let (protocol, params) = value_and_params(text)?;
        Ok(Self {
            protocol: Token::parse(protocol).ok_or(ValueError::Token)?,
            cause: params.get("cause").and_then(saturating_number).and_then(|c| u16::try_from(c).ok()),
            text: params.text("text"),
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.protocol)?;
        if let Some(cause) = self.cause {
            write!(f, ";cause={cause}")?;
        }
        match &self.text {
            Some(text) => write!(f, ";text={}", super::params::quote(text)),
            None => Ok(()),
        }
    }
}

/// A media type: Content-Type, or one element of Accept (RFC 3261 sections 20.15 and 20.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    /// `application`.
    pub kind: Token,
    /// `sdp`.
    pub subtype: Token,
    /// `boundary`, `charset` and so on.
    pub params: Params,
}

impl ContentType {
    /// Parses the value.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let (media, params) = value_and_params(text)?;
        let (kind, subtype) = media.split_once('/').ok_or(ValueError::Token)?;
        Ok(Self {
            kind: Token::parse(kind.trim_matches(LWS)).ok_or(ValueError::Token)?,
            subtype: Token::parse(subtype.trim_matches(LWS)).ok_or(ValueError::Token)?,
            params,
        })
    }

    /// Whether it is that type, such as `("application", "sdp")`. Case does not count.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.as_str().eq_ignore_ascii_case(kind) && self.subtype.as_str().eq_ignore_ascii_case(subtype)
    }

    /// Whether a range of Accept, such as `*/*` or `application/*`, takes that type.
    pub fn accepts(&self, kind: &str, subtype: &str) -> bool {
        let fits = |own: &Token, other: &str| own.as_str() == "*" || own.as_str().eq_ignore_ascii_case(other);
        fits(&self.kind, kind) && fits(&self.subtype, subtype)
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.kind, self.subtype, self.params)
    }
}

/// Readers. Those of Via, From, To, Call-ID and CSeq answer for every message that parsed; in a
/// message that we built they answer what was put in.
impl Headers {
    /// The topmost Via.
    pub fn top_via(&self) -> Option<Via> {
        let (first, _) = first_outside(self.get(&Name::Via)?, b',').ok()?;
        Via::parse(first).ok()
    }

    /// How many Via there are, none of which is read.
    pub fn count_vias(&self) -> usize {
        self.all(&Name::Via).map(|value| split_outside(value, b',').map_or(0, |list| list.len())).sum()
    }

    /// All Via, topmost first.
    pub fn vias(&self) -> Result<Vec<Via>, ValueError> {
        self.list(&Name::Via, Via::parse)
    }

    /// Replaces the topmost Via, or sets the first.
    pub fn set_top_via(&mut self, via: &Via) {
        let rest = self.get(&Name::Via).and_then(|value| {
            let first = first_outside(value, b',').ok()?.0.len();
            value.get(first..).filter(|rest| !rest.is_empty()).map(str::to_owned)
        });
        self.set_first(Name::Via, &format_args!("{via}{}", rest.unwrap_or_default()));
    }

    /// From.
    pub fn from(&self) -> Option<NameAddr> {
        NameAddr::parse(self.get(&Name::From)?).ok()
    }

    /// To.
    pub fn to(&self) -> Option<NameAddr> {
        NameAddr::parse(self.get(&Name::To)?).ok()
    }

    /// The tag of From, without reading what else is there.
    pub(super) fn tag_in_from(&self) -> Option<&str> {
        tag_of(self.get(&Name::From)?)
    }

    /// The tag of To, without reading what else is there.
    pub(super) fn tag_in_to(&self) -> Option<&str> {
        tag_of(self.get(&Name::To)?)
    }

    /// Call-ID. Compared octet by octet.
    pub fn call_id(&self) -> Option<&str> {
        self.get(&Name::CallId)
    }

    /// CSeq.
    pub fn cseq(&self) -> Option<CSeq> {
        CSeq::parse(self.get(&Name::CSeq)?).ok()
    }

    /// Max-Forwards. More than 255 counts as 255.
    pub fn max_forwards(&self) -> Option<u8> {
        let hops = saturating_number(self.get(&Name::MaxForwards)?)?;
        Some(u8::try_from(hops).unwrap_or(u8::MAX))
    }

    /// Expires in seconds; what is no number counts as absent.
    pub fn expires(&self) -> Option<u32> {
        saturating_number(self.get(&Name::Expires)?)
    }

    /// Min-Expires in seconds.
    pub fn min_expires(&self) -> Option<u32> {
        saturating_number(self.get(&Name::MinExpires)?)
    }

    /// Retry-After in seconds, its comment and parameters left out.
    pub fn retry_after(&self) -> Option<u32> {
        let value = self.get(&Name::RetryAfter)?;
        let digits =
            value.find(|c: char| !c.is_ascii_digit()).and_then(|at| value.get(..at)).unwrap_or(value);
        saturating_number(digits)
    }

    /// All Contact headers.
    pub fn contacts(&self) -> Result<Contacts, ValueError> {
        let mut values = self.all(&Name::Contact);
        if self.all(&Name::Contact).any(|value| value == "*") {
            values.next();
            return if values.next().is_none() { Ok(Contacts::All) } else { Err(ValueError::Star) };
        }
        self.list(&Name::Contact, NameAddr::parse).map(Contacts::List)
    }

    /// The one Contact of a dialog: the first, if there is one that reads.
    pub fn contact(&self) -> Option<NameAddr> {
        match self.contacts() {
            Ok(Contacts::List(list)) => list.into_iter().next(),
            _ => None,
        }
    }

    /// A list of addresses in order: Route, Record-Route, Path, Service-Route.
    pub fn name_addrs(&self, name: &Name) -> Result<Vec<NameAddr>, ValueError> {
        self.list(name, NameAddr::parse)
    }

    /// A list of tokens in order: Allow, Supported, Require, Unsupported, and so on. Empty elements
    /// are left out, what is no token too.
    pub fn tokens(&self, name: &Name) -> Vec<Token> {
        let pieces = self.all(name).flat_map(|value| value.split(','));
        pieces.filter_map(|piece| Token::parse(piece.trim_matches(LWS))).take(limits::LIST).collect()
    }

    /// Whether one of those lists has that token. Case does not count.
    pub fn has_token(&self, name: &Name, token: &str) -> bool {
        self.tokens(name).iter().any(|t| t.as_str().eq_ignore_ascii_case(token))
    }

    /// The methods of Allow, when there is one.
    pub fn allow(&self) -> Option<Vec<Method>> {
        self.get(&Name::Allow)?;
        Some(self.tokens(&Name::Allow).iter().filter_map(|t| Method::parse(t.as_str())).collect())
    }

    /// Content-Type.
    pub fn content_type(&self) -> Option<ContentType> {
        ContentType::parse(self.get(&Name::ContentType)?).ok()
    }

    /// The ranges of Accept; nothing when there is no such header, which for INVITE and OPTIONS
    /// means `application/sdp` (RFC 3261 section 20.1). An empty one accepts nothing.
    pub fn accept(&self) -> Option<Vec<ContentType>> {
        self.get(&Name::Accept)?;
        let pieces = self.all(&Name::Accept).filter_map(|value| split_outside(value, b',').ok()).flatten();
        Some(pieces.filter_map(|piece| ContentType::parse(piece).ok()).take(limits::LIST).collect())
    }

    /// The elements of Reason that read.
    pub fn reasons(&self) -> Vec<Reason> {
        let pieces = self.all(&Name::Reason).filter_map(|value| split_outside(value, b',').ok()).flatten();
        pieces.filter_map(|piece| Reason::parse(piece).ok()).take(limits::LIST).collect()
    }

    fn list<T>(&self, name: &Name, parse: fn(&str) -> Result<T, ValueError>) -> Result<Vec<T>, ValueError> {
        let mut list = Vec::new();
        for value in self.all(name).filter(|value| !value.is_empty() || *name == Name::Via) {
            for piece in split_outside(value, b',')? {
                if list.len() >= limits::LIST {
                    return Err(ValueError::TooMany);
                }
                list.push(parse(piece)?);
            }
        }
        Ok(list)
    }
}

/// `value;name=value`, where the value is a token or a pair of them.
fn value_and_params(text: &str) -> Result<(&str, Params), ValueError> {
    let text = text.trim_matches(LWS);
    let at = text.find(';').unwrap_or(text.len());
    let (value, params) = text.split_at_checked(at).ok_or(ValueError::Token)?;
    Ok((value.trim_end_matches(LWS), Params::parse(params)?))
}
