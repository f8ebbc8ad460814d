//! Header names and the ordered list of headers (RFC 3261 section 7.3).

use std::fmt::{self, Write as _};

use super::message::Token;

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal $(, $compact:literal)?;)+) => {
        /// A header name. Case does not count; compact forms are the same name.
        #[derive(Clone, Debug)]
        pub enum Name {
            $($(#[$doc])* $variant,)+
            /// Any other.
            Other(Token),
        }

        impl Name {
            const KNOWN: &[(Self, &str, Option<&str>)] = &[$((Self::$variant, $text, names!(@ $($compact)?)),)+];

            /// The long form.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(token) => token.as_str(),
                }
            }
        }
    };
    (@) => { None };
    (@ $compact:literal) => { Some($compact) };
}

names! {
    /// RFC 3261 section 20.1.
    Accept = "Accept";
    /// RFC 3841 section 9.2.
    AcceptContact = "Accept-Contact", "a";
    /// RFC 3261 section 20.2.
    AcceptEncoding = "Accept-Encoding";
    /// RFC 3261 section 20.3.
    AcceptLanguage = "Accept-Language";
    /// RFC 3261 section 20.4.
    AlertInfo = "Alert-Info";
    /// RFC 3261 section 20.5.
    Allow = "Allow";
    /// RFC 6665 section 8.2.2.
    AllowEvents = "Allow-Events", "u";
    /// RFC 3261 section 20.6.
    AuthenticationInfo = "Authentication-Info";
    /// RFC 3261 section 20.7.
    Authorization = "Authorization";
    /// RFC 3261 section 20.8.
    CallId = "Call-ID", "i";
    /// RFC 3261 section 20.10.
    Contact = "Contact", "m";
    /// RFC 3261 section 20.11.
    ContentDisposition = "Content-Disposition";
    /// RFC 3261 section 20.12.
    ContentEncoding = "Content-Encoding", "e";
    /// RFC 3261 section 20.13.
    ContentLanguage = "Content-Language";
    /// RFC 3261 section 20.14. Printing makes it from the body; no list of headers has one.
    ContentLength = "Content-Length", "l";
    /// RFC 2045 section 6, in parts of a body.
    ContentTransferEncoding = "Content-Transfer-Encoding";
    /// RFC 3261 section 20.15.
    ContentType = "Content-Type", "c";
    /// RFC 3261 section 20.16.
    CSeq = "CSeq";
    /// RFC 3261 section 20.17.
    Date = "Date";
    /// RFC 5806.
    Diversion = "Diversion";
    /// RFC 3261 section 20.18.
    ErrorInfo = "Error-Info";
    /// RFC 6665 section 8.2.1.
    Event = "Event", "o";
    /// RFC 3261 section 20.19.
    Expires = "Expires";
    /// RFC 3261 section 20.20.
    From = "From", "f";
    /// RFC 7044 section 5.
    HistoryInfo = "History-Info";
    /// RFC 8224 section 4.
    Identity = "Identity", "y";
    /// RFC 3261 section 20.21.
    InReplyTo = "In-Reply-To";
    /// RFC 3261 section 20.22.
    MaxForwards = "Max-Forwards";
    /// RFC 3261 section 20.24.
    MimeVersion = "MIME-Version";
    /// RFC 3261 section 20.23.
    MinExpires = "Min-Expires";
    /// RFC 4028 section 5.
    MinSe = "Min-SE";
    /// RFC 3325 section 9.1.
    PAssertedIdentity = "P-Asserted-Identity";
    /// RFC 3325 section 9.2.
    PPreferredIdentity = "P-Preferred-Identity";
    /// RFC 3327 section 4.
    Path = "Path";
    /// RFC 3323 section 4.2.
    Privacy = "Privacy";
    /// RFC 3261 section 20.27.
    ProxyAuthenticate = "Proxy-Authenticate";
    /// RFC 3261 section 20.28.
    ProxyAuthorization = "Proxy-Authorization";
    /// RFC 3261 section 20.29.
    ProxyRequire = "Proxy-Require";
    /// RFC 3262 section 7.2.
    RAck = "RAck";
    /// RFC 3262 section 7.1.
    RSeq = "RSeq";
    /// RFC 3326 section 2.
    Reason = "Reason";
    /// RFC 3261 section 20.30.
    RecordRoute = "Record-Route";
    /// RFC 4488 section 4.
    ReferSub = "Refer-Sub";
    /// RFC 3515 section 2.1.
    ReferTo = "Refer-To", "r";
    /// RFC 3892 section 3.
    ReferredBy = "Referred-By", "b";
    /// RFC 3841 section 9.2.
    RejectContact = "Reject-Contact", "j";
    /// RFC 3891 section 6.1.
    Replaces = "Replaces";
    /// RFC 3261 section 20.31.
    ReplyTo = "Reply-To";
    /// RFC 3841 section 9.1.
    RequestDisposition = "Request-Disposition", "d";
    /// RFC 3261 section 20.32.
    Require = "Require";
    /// RFC 3261 section 20.33.
    RetryAfter = "Retry-After";
    /// RFC 3261 section 20.34.
    Route = "Route";
    /// RFC 3261 section 20.35.
    Server = "Server";
    /// RFC 3608 section 5.
    ServiceRoute = "Service-Route";
    /// RFC 4028 section 4.
    SessionExpires = "Session-Expires", "x";
    /// RFC 3261 section 20.36.
    Subject = "Subject", "s";
    /// RFC 6665 section 8.2.3.
    SubscriptionState = "Subscription-State";
    /// RFC 3261 section 20.37.
    Supported = "Supported", "k";
    /// RFC 3261 section 20.38.
    Timestamp = "Timestamp";
    /// RFC 3261 section 20.39.
    To = "To", "t";
    /// RFC 3261 section 20.40.
    Unsupported = "Unsupported";
    /// RFC 3261 section 20.41.
    UserAgent = "User-Agent";
    /// RFC 3261 section 20.42.
    Via = "Via", "v";
    /// RFC 3261 section 20.43.
    Warning = "Warning";
    /// RFC 3261 section 20.44.
    WwwAuthenticate = "WWW-Authenticate";
}

impl Name {
    /// Parses a name in long or compact form (RFC 3261 section 7.3.3); nothing when it is no token.
    pub fn parse(text: &str) -> Option<Self> {
        let is = |known: &str| known.eq_ignore_ascii_case(text);
        let known = Self::KNOWN.iter().find(|(_, long, compact)| is(long) || compact.is_some_and(is));
        match known {
            Some((name, ..)) => Some(name.clone()),
            None => Token::parse(text).map(Self::Other),
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Other(a), Self::Other(b)) => a.as_str().eq_ignore_ascii_case(b.as_str()),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The headers of a message in order, one entry for each header line.
///
/// Values are text: folding is undone, octets that are not UTF-8 were read as Latin-1. CR and LF
/// never get in: they become spaces. Content-Length is not kept; it follows from the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Name, String)>);

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of the first of that name.
    pub fn get(&self, name: &Name) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of that name, in order.
    pub fn all<'a>(&'a self, name: &Name) -> impl Iterator<Item = &'a str> + use<'a> {
        let name = name.clone();
        self.0.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &Name) -> bool {
        self.get(name).is_some()
    }

    /// Adds one at the end.
    pub fn push(&mut self, name: Name, value: impl fmt::Display) {
        self.insert(self.0.len(), name, &value);
    }

    /// Adds one before all others: how a Via goes on top.
    pub fn push_front(&mut self, name: Name, value: impl fmt::Display) {
        self.insert(0, name, &value);
    }

    /// Leaves exactly one of that name, where the first stood, else at the end.
    pub fn set(&mut self, name: Name, value: impl fmt::Display) {
        let at = self.0.iter().position(|(n, _)| *n == name).unwrap_or(self.0.len());
        self.remove(&name);
        self.insert(at, name, &value);
    }

    /// Drops all of that name.
    pub fn remove(&mut self, name: &Name) {
        self.0.retain(|(n, _)| n != name);
    }

    /// Adds all headers of that name that another list has, in order.
    pub fn copy(&mut self, from: &Self, name: &Name) {
        for value in from.all(name) {
            self.0.push((name.clone(), value.to_owned()));
        }
    }

    /// Name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.0.iter().map(|(name, value)| (name, value.as_str()))
    }

    /// How many lines.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a value that a parser found to be on one line.
    pub(super) fn push_clean(&mut self, name: Name, value: String) {
        self.0.push((name, value));
    }

    /// Replaces the first of that name and leaves the others.
    pub(super) fn set_first(&mut self, name: Name, value: &dyn fmt::Display) {
        let value = on_one_line(value);
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => self.0.insert(0, (name, value)),
        }
    }

    fn insert(&mut self, at: usize, name: Name, value: &dyn fmt::Display) {
        if name == Name::ContentLength {
            return;
        }
        self.0.insert(at.min(self.0.len()), (name, on_one_line(value)));
    }
}

/// Octets of a header value, for which there is room from the first.
const USUAL: usize = 80;

/// The text without CR and LF, which would end the header and start one that nobody meant.
fn on_one_line(value: &dyn fmt::Display) -> String {
    // One allocation for nearly all of them.
    let mut text = String::with_capacity(USUAL);
    let _ = write!(text, "{value}");
    if memchr::memchr2(b'\r', b'\n', text.as_bytes()).is_some() {
        text = text.replace(['\r', '\n'], " ");
    }
    text
}
