//! Requests and responses, made and printed.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::headers::{Headers, Name};
use super::name_addr::NameAddr;
use super::params::is_token_char;
use super::typed::CSeq;
use super::uri::Uri;
use crate::Transport;

/// A SIP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// Its headers.
    pub const fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// Its body.
    pub const fn body(&self) -> &Bytes {
        match self {
            Self::Request(request) => &request.body,
            Self::Response(response) => &response.body,
        }
    }

    /// The octets to send.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Of whom.
    pub uri: Uri,
    /// All headers but Content-Length.
    pub headers: Headers,
    /// The body; its Content-Type is the caller's business.
    pub body: Bytes,
}

impl Request {
    /// Without headers and body.
    pub fn new(method: Method, uri: impl Into<Uri>) -> Self {
        Self { method, uri: uri.into(), headers: Headers::new(), body: Bytes::new() }
    }

    /// With the headers that every request outside a dialog needs, but Via, which belongs to the
    /// transaction (RFC 3261 section 8.1.1).
    pub fn with_core(
        method: Method,
        uri: impl Into<Uri>,
        from: &NameAddr,
        to: &NameAddr,
        call_id: &str,
        cseq: u32,
    ) -> Self {
        let mut request = Self::new(method.clone(), uri);
        request.headers.push(Name::MaxForwards, 70);
        request.headers.push(Name::From, from);
        request.headers.push(Name::To, to);
        request.headers.push(Name::CallId, call_id);
        request.headers.push(Name::CSeq, CSeq { number: cseq, method });
        request
    }

    /// The ACK of a final response that is no 2xx, which belongs to the INVITE's transaction
    /// (RFC 3261 section 17.1.1.3): the INVITE's topmost Via and Route, the response's To.
    pub fn ack(&self, response: &Response) -> Self {
        let mut ack = self.in_transaction(Method::Ack);
        if let Some(to) = response.headers.get(&Name::To) {
            ack.headers.set(Name::To, to);
        }
        ack
    }

    /// The CANCEL of this request (RFC 3261 section 9.1).
    pub fn cancel(&self) -> Self {
        self.in_transaction(Method::Cancel)
    }

    /// Adds a body with its type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.set(Name::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// The octets to send.
    pub fn to_bytes(&self) -> Bytes {
        print(&format!("{} {} SIP/2.0", self.method, self.uri), &self.headers, &self.body)
    }

    fn in_transaction(&self, method: Method) -> Self {
        let mut request = Self::new(method.clone(), self.uri.clone());
        if let Some(via) = self.headers.top_via() {
            request.headers.push(Name::Via, via);
        }
        request.headers.copy(&self.headers, &Name::Route);
        request.headers.push(Name::MaxForwards, 70);
        for name in [Name::From, Name::To, Name::CallId] {
            request.headers.copy(&self.headers, &name);
        }
        if let Some(CSeq { number, .. }) = self.headers.cseq() {
            request.headers.push(Name::CSeq, CSeq { number, method });
        }
        request
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// The words after it; they may be empty.
    pub reason: String,
    /// All headers but Content-Length.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// The response to a request (RFC 3261 section 8.2.6): Via, From, To, Call-ID and CSeq are the
    /// request's, the reason phrase is the usual one. `to_tag` is added to a To that has no tag.
    pub fn to(request: &Request, status: u16, to_tag: Option<&str>) -> Self {
        Self::from_headers(&request.headers, status, to_tag)
    }

    /// With other words than the usual.
    #[must_use]
    pub fn with_reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    /// Adds a body with its type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.headers.set(Name::ContentType, content_type);
        self.body = body.into();
        self
    }

    /// Whether it is 1xx.
    pub const fn is_provisional(&self) -> bool {
        self.status < 200
    }

    /// Whether it is 2xx.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// The octets to send.
    pub fn to_bytes(&self) -> Bytes {
        print(&format!("SIP/2.0 {:03} {}", self.status, self.reason), &self.headers, &self.body)
    }

    /// As [`Response::to`], from what could be read of a request.
    pub(super) fn from_headers(request: &Headers, status: u16, to_tag: Option<&str>) -> Self {
        let mut headers = Headers::new();
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
            headers.copy(request, &name);
        }
        if status == 100 {
            headers.copy(request, &Name::Timestamp);
        }
        // The tag goes behind the text as it came: rewriting To could change what the peer compares.
        if let Some(tag) = to_tag
            && headers.tag_in_to().is_none()
            && let Some(text) = headers.get(&Name::To).map(str::to_owned)
        {
            headers.set(Name::To, format_args!("{text};tag={tag}"));
        }
        Self { status, reason: reason_phrase(status), headers, body: Bytes::new() }
    }
}

/// A `token` of RFC 3261 section 25.1: never empty, and nothing in it can end a header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// Nothing when `text` is no token.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text.chars().all(is_token_char)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that we wrote ourselves.
    pub(super) fn fixed(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn of(transport: Transport) -> Self {
        Self::fixed(match transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A method. Case counts: `invite` is another method than `INVITE` (RFC 3261 section 7.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 3261 section 13.
    Invite,
    /// RFC 3261 section 13.2.2.4.
    Ack,
    /// RFC 3261 section 15.
    Bye,
    /// RFC 3261 section 9.
    Cancel,
    /// RFC 3261 section 10.
    Register,
    /// RFC 3261 section 11.
    Options,
    /// RFC 6086 section 4.
    Info,
    /// RFC 3262 section 6.
    Prack,
    /// RFC 3311 section 7.
    Update,
    /// RFC 6665 section 8.1.1.
    Subscribe,
    /// RFC 6665 section 8.1.2.
    Notify,
    /// RFC 3515 section 2.
    Refer,
    /// RFC 3428.
    Message,
    /// RFC 3903.
    Publish,
    /// Any other token.
    Other(Token),
}

impl Method {
    const KNOWN: [Self; 14] = [
        Self::Invite,
        Self::Ack,
        Self::Bye,
        Self::Cancel,
        Self::Register,
        Self::Options,
        Self::Info,
        Self::Prack,
        Self::Update,
        Self::Subscribe,
        Self::Notify,
        Self::Refer,
        Self::Message,
        Self::Publish,
    ];

    /// Nothing when `text` is no token.
    pub fn parse(text: &str) -> Option<Self> {
        match Self::KNOWN.iter().find(|method| method.as_str() == text) {
            Some(method) => Some(method.clone()),
            None => Token::parse(text).map(Self::Other),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
            Self::Info => "INFO",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Refer => "REFER",
            Self::Message => "MESSAGE",
            Self::Publish => "PUBLISH",
            Self::Other(token) => token.as_str(),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The usual words for a status: those of the RFCs by way of `rsip`'s names, else its class.
pub fn reason_phrase(status: u16) -> String {
    // Where the names of that model do not split into the words of the RFC.
    match status {
        414 => return "Request-URI Too Long".to_owned(),
        416 => return "Unsupported URI Scheme".to_owned(),
        481 => return "Call/Transaction Does Not Exist".to_owned(),
        504 => return "Server Time-out".to_owned(),
        606 => return "Not Acceptable".to_owned(),
        _ => {}
    }
    let known = rsip::StatusCode::from(status);
    if let rsip::StatusCode::Other(..) = known {
        let class = match status {
            100..=199 => "Progress",
            200..=299 => "OK",
            300..=399 => "Redirection",
            400..=499 => "Request Failure",
            500..=599 => "Server Failure",
            _ => "Global Failure",
        };
        return class.to_owned();
    }
    // `404 NotFound`: the words start where a capital follows a small letter.
    let name = known.to_string();
    let name = name.split_once(' ').map_or("", |(_, name)| name);
    let mut words = String::with_capacity(name.len().saturating_add(8));
    let mut after_small = false;
    for c in name.chars() {
        if after_small && c.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(c);
        after_small = c.is_ascii_lowercase();
    }
    words
}

/// The one place where a message becomes octets. Each header value is on one line by construction;
/// the start line may hold a reason phrase from anywhere, so it is made so here.
fn print(start: &str, headers: &Headers, body: &Bytes) -> Bytes {
    let size =
        headers.iter().map(|(name, value)| name.as_str().len().saturating_add(value.len()).saturating_add(4));
    let size = size.fold(start.len().saturating_add(64), usize::saturating_add).saturating_add(body.len());
    let mut out = BytesMut::with_capacity(size);
    if memchr::memchr2(b'\r', b'\n', start.as_bytes()).is_some() {
        out.put_slice(start.replace(['\r', '\n'], " ").as_bytes());
    } else {
        out.put_slice(start.as_bytes());
    }
    out.put_slice(b"\r\n");
    for (name, value) in headers.iter() {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.put_slice(body);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{Host, Params, SipUri, Via};

    fn invite() -> Request {
        let uri = SipUri::new(Some("bob"), Host::Name("biloxi.example.com".into()), None);
        let from = NameAddr::parse("\"Alice\" <sip:alice@atlanta.example.com>;tag=9fxced76sl").unwrap();
        let to = NameAddr::new(Uri::Sip(uri.clone()));
        let mut invite =
            Request::with_core(Method::Invite, uri, &from, &to, "3848276298220188511@atlanta", 7);
        let host = Host::Name("client.atlanta.example.com".into());
        invite.headers.push_front(Name::Via, Via::new(Transport::Tcp, host, Some(5060), "z9hG4bK74b43"));
        invite.headers.push(Name::Route, "<sip:ss1.example.com;lr>");
        invite
    }

    #[test]
    fn a_request_prints_line_by_line() {
        let text = invite().with_body("application/sdp", "v=0\r\n").to_bytes();
        let expected = "INVITE sip:bob@biloxi.example.com SIP/2.0\r\n\
            Via: SIP/2.0/TCP client.atlanta.example.com:5060;branch=z9hG4bK74b43;rport\r\n\
            Max-Forwards: 70\r\n\
            From: \"Alice\" <sip:alice@atlanta.example.com>;tag=9fxced76sl\r\n\
            To: <sip:bob@biloxi.example.com>\r\n\
            Call-ID: 3848276298220188511@atlanta\r\n\
            CSeq: 7 INVITE\r\n\
            Route: <sip:ss1.example.com;lr>\r\n\
            Content-Type: application/sdp\r\n\
            Content-Length: 5\r\n\r\nv=0\r\n";
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }

    #[test]
    fn a_response_takes_its_headers_from_the_request_and_gets_a_tag_once() {
        let mut request = invite();
        request.headers.push(Name::Via, "SIP/2.0/UDP other;branch=z9hG4bK1");
        let response = Response::to(&request, 180, Some("t1"));
        assert_eq!(response.reason, "Ringing");
        assert_eq!(response.headers.vias().unwrap().len(), 2);
        assert_eq!(response.headers.get(&Name::To), Some("<sip:bob@biloxi.example.com>;tag=t1"));
        request.headers.set(Name::To, "<sip:bob@biloxi.example.com>;tag=old");
        assert_eq!(Response::to(&request, 200, Some("t1")).headers.to().unwrap().tag(), Some("old"));
        assert!(!Response::to(&request, 200, None).headers.has(&Name::Route));
    }

    #[test]
    fn ack_and_cancel_belong_to_the_transaction() {
        let invite = invite();
        let busy = Response::to(&invite, 486, Some("busy"));
        let ack = invite.ack(&busy);
        assert_eq!(ack.headers.vias().unwrap(), [invite.headers.top_via().unwrap()]);
        assert_eq!(ack.headers.to().unwrap().tag(), Some("busy"));
        assert_eq!(ack.headers.cseq().unwrap().to_string(), "7 ACK");
        assert_eq!(ack.headers.get(&Name::Route), Some("<sip:ss1.example.com;lr>"));
        let cancel = invite.cancel();
        assert_eq!(cancel.headers.to().unwrap().tag(), None);
        assert_eq!((cancel.method.as_str(), cancel.headers.cseq().unwrap().number), ("CANCEL", 7));
    }

    #[test]
    fn nothing_that_is_put_in_makes_a_line_of_its_own() {
        let evil = "x\r\nVia: SIP/2.0/UDP evil\r\n\r\nbody";
        let mut request = invite();
        request.headers.push(Name::Subject, evil);
        request.headers.set(Name::CallId, evil);
        let mut uri = SipUri::new(Some(evil), Host::Name(evil.into()), None);
        uri.user = Some(evil.into());
        uri.password = Some(evil.into());
        uri.set_param(evil, Some(evil));
        uri.headers.push((evil.into(), evil.into()));
        let mut params = Params::default();
        params.set(evil, Some(evil));
        request
            .headers
            .push(Name::Contact, NameAddr { display: Some(evil.into()), uri: uri.clone().into(), params });
        request.uri = uri.into();
        let lines = |bytes: &Bytes| bytes.windows(2).filter(|w| w == b"\r\n").count();
        assert_eq!(lines(&request.to_bytes()), request.headers.len() + 3);
        assert!(!request.to_bytes().windows(6).any(|w| w == b"\r\nVia:" && w[0] == 0));
        let response = Response::to(&request, 500, Some(evil)).with_reason(evil);
        assert_eq!(lines(&response.to_bytes()), response.headers.len() + 3);
        let bytes = response.to_bytes();
        assert!(bytes.iter().filter(|b| **b == b'\n').count() == lines(&bytes));
    }

    #[test]
    fn phrases_are_those_of_the_rfcs() {
        for (status, phrase) in [
            (100, "Trying"),
            (180, "Ringing"),
            (183, "Session Progress"),
            (200, "OK"),
            (404, "Not Found"),
            (420, "Bad Extension"),
            (486, "Busy Here"),
            (487, "Request Terminated"),
            (503, "Service Unavailable"),
            (606, "Not Acceptable"),
            (299, "OK"),
            (699, "Global Failure"),
        ] {
            assert_eq!(reason_phrase(status), phrase);
        }
    }

    #[test]
    fn methods_are_tokens_and_case_counts() {
        assert_eq!(Method::parse("INVITE"), Some(Method::Invite));
        assert_eq!(Method::parse("invite").unwrap().as_str(), "invite");
        assert!(matches!(
            Method::parse("!interesting-Method0123456789_*+`.%indeed'~"),
            Some(Method::Other(_))
        ));
        for bad in ["", "IN VITE", "INVITE\r\n", "MÉTHODE", "a/b"] {
            assert_eq!(Method::parse(bad), None);
        }
    }
}
