//! Octets to messages (RFC 3261 sections 7 and 25, torture cases of RFC 4475 and RFC 5118).
//!
//! The start line is read strictly, headers as the grammar allows: folded, compact, with white
//! space before the colon, with octets over 0x7f. Lines end with CRLF only; a lone CR or LF is an
//! error, since two readers could see two different messages in it.

use std::borrow::Cow;

use bytes::Bytes;

use super::headers::{Headers, Name};
use super::limits;
use super::message::{Message, Method, Request, Response};
use super::name_addr::{Contacts, NameAddr};
use super::params::{LWS, saturating_number, split_outside};
use super::typed::{CSeq, ContentType, ValueError};
use super::uri::{Uri, UriError};
use super::via::{MAGIC_COOKIE, Via};

impl Message {
    /// Reads one datagram. Octets behind Content-Length are ignored, a body that is shorter is an
    /// error, without Content-Length the body is the rest (RFC 3261 section 18.3).
    pub fn parse(datagram: &[u8]) -> Result<Self, ParseError> {
        let data = skip_line_ends(datagram);
        let (lines, body) = match find(data, b"\r\n\r\n") {
            Some(at) => data.split_at_checked(at).unwrap_or((data, b"")),
            None => (data, data.get(data.len()..).unwrap_or_default()),
        };
        let ended = !body.is_empty();
        let body = body.strip_prefix(b"\r\n\r\n").unwrap_or(body);
        let mut head = Head::read(lines);
        if !ended {
            head.fault(ParseErrorKind::NoEmptyLine);
        }
        let body = match head.content_length() {
            ContentLength::Absent => body,
            ContentLength::Octets(octets) => body.get(..octets).unwrap_or_else(|| {
                head.fault(ParseErrorKind::BodyShort);
                b""
            }),
            ContentLength::Malformed => {
                head.fault(ParseErrorKind::ContentLength);
                b""
            }
        };
        head.finish(Bytes::copy_from_slice(body))
    }
}

/// Whether a datagram holds nothing but line ends: a keep-alive (RFC 5626 section 3.5.1) that wants
/// no answer over UDP.
pub fn is_keep_alive(datagram: &[u8]) -> bool {
    skip_line_ends(datagram).is_empty()
}

/// Why octets are not a message that we take.
///
/// A request can be answered from it without any state; see [`ParseError::answer`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    kind: ParseErrorKind,
    /// What could be read of a request whose topmost Via could be read. Boxed to keep results small.
    request: Option<Box<Headers>>,
}

impl ParseError {
    /// What is wrong.
    pub const fn kind(&self) -> ParseErrorKind {
        self.kind
    }

    /// The status that a request like this is answered with.
    pub const fn status(&self) -> u16 {
        match self.kind {
            ParseErrorKind::Version => 505,
            ParseErrorKind::UnknownMethodMismatch => 501,
            ParseErrorKind::BodyTooLarge => 413,
            ParseErrorKind::HeadTooLarge => 513,
            _ => 400,
        }
    }

    /// The response to send without state. Nothing when the octets were no request, when it was an
    /// ACK, when its topmost Via could not be read, or when the answer would exceed
    /// [`limits::ANSWER`]; then the message is dropped. Headers that the request did not have are not
    /// invented, and the topmost Via is not stamped yet.
    pub fn answer(&self, to_tag: &str) -> Option<Response> {
        let request = self.request.as_deref()?;
        // What cannot be read gets no tag: who knows where it would stand.
        let to_tag = request.to().map(|_| to_tag);
        let answer = Response::from_headers(request, self.status(), to_tag).with_reason(&self.phrase());
        (answer.to_bytes().len() <= limits::ANSWER).then_some(answer)
    }

    pub(super) const fn bare(kind: ParseErrorKind) -> Self {
        Self { kind, request: None }
    }

    fn phrase(&self) -> String {
        match self.kind {
            ParseErrorKind::Version
            | ParseErrorKind::UnknownMethodMismatch
            | ParseErrorKind::BodyTooLarge => super::message::reason_phrase(self.status()),
            kind => format!("Bad Request: {kind}"),
        }
    }
}

/// What is wrong with a message. The words go to the peer behind `400 Bad Request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Nothing but line ends.
    #[error("empty")]
    Empty,
    /// The start line is neither a request line nor a status line, or has white space of its own.
    #[error("malformed start line")]
    StartLine,
    /// The protocol version is not SIP/2.0.
    #[error("version not supported")]
    Version,
    /// The Request-URI is malformed.
    #[error("malformed Request-URI: {0}")]
    RequestUri(UriError),
    /// The Request-URI carries headers, which it cannot (RFC 3261 section 19.1.1).
    #[error("headers in Request-URI")]
    RequestUriHeaders,
    /// No empty line ends the headers.
    #[error("no empty line after the headers")]
    NoEmptyLine,
    /// A line that is no header, or a CR or LF that ends no line.
    #[error("malformed header line")]
    HeaderLine,
    /// More headers, longer lines or a larger head than [`limits`] allows.
    #[error("headers too large")]
    HeadTooLarge,
    /// A larger body than [`limits`] allows.
    #[error("body too large")]
    BodyTooLarge,
    /// A header that must be there is not.
    #[error("missing {0}")]
    Missing(&'static str),
    /// A header that stands once stands twice.
    #[error("repeated {0}")]
    Repeated(&'static str),
    /// A header that we read does not follow its grammar.
    #[error("malformed {0}: {1}")]
    Value(&'static str, ValueError),
    /// A branch of the magic cookie alone.
    #[error("branch without content")]
    Branch,
    /// The method of CSeq is not that of the request.
    #[error("CSeq of another method")]
    MethodMismatch,
    /// The same where the method is unknown: 501 says more.
    #[error("CSeq of another method")]
    UnknownMethodMismatch,
    /// Content-Length is no number or stands twice.
    #[error("malformed Content-Length")]
    ContentLength,
    /// A stream without Content-Length, so that the end of the message is unknown.
    #[error("missing Content-Length")]
    NoContentLength,
    /// Fewer octets than Content-Length says.
    #[error("body shorter than Content-Length")]
    BodyShort,
    /// The To of a REGISTER is no SIP or SIPS URI.
    #[error("To of REGISTER is not a SIP URI")]
    RegisterTo,
}

/// What Content-Length says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ContentLength {
    #[default]
    Absent,
    /// Saturated: what does not fit is too large anyway.
    Octets(usize),
    Malformed,
}

/// Start line and headers as text, and the first fault. Reading goes on behind a fault, since the
/// headers that answer the request may still come.
#[derive(Debug, Default)]
pub(super) struct Head {
    start: String,
    headers: Headers,
    content_length: ContentLength,
    fault: Option<ParseErrorKind>,
}

impl Head {
    /// Reads the lines before the empty line.
    pub(super) fn read(lines: &[u8]) -> Self {
        let mut head = Self::default();
        if lines.len() > limits::HEAD {
            head.fault(ParseErrorKind::HeadTooLarge);
        }
        let lines = lines.get(..limits::HEAD).unwrap_or(lines);
        let mut lines = Lines(Some(lines));
        let start = lines.next().unwrap_or_default();
        if start.len() > limits::LINE {
            head.fault(ParseErrorKind::HeadTooLarge);
        }
        head.start = decode_text(start);
        head.read_lines(lines);
        head
    }

    pub(super) const fn content_length(&self) -> ContentLength {
        self.content_length
    }

    /// Whether a line could not be read, so that the head may say more than we saw.
    pub(super) const fn is_ambiguous(&self) -> bool {
        matches!(self.fault, Some(ParseErrorKind::HeaderLine | ParseErrorKind::HeadTooLarge))
    }

    /// Notes a fault, unless there was one before.
    pub(super) fn fault(&mut self, kind: ParseErrorKind) {
        self.fault.get_or_insert(kind);
    }

    /// The message, or why not.
    pub(super) fn finish(self, body: Bytes) -> Result<Message, ParseError> {
        let result = match self.start.get(..4) {
            _ if self.start.is_empty() => Err(ParseErrorKind::Empty),
            Some(prefix) if prefix.eq_ignore_ascii_case("SIP/") => {
                // A malformed response has nobody to tell.
                return self.response(body).map_err(ParseError::bare);
            }
            _ => self.request(),
        };
        match result {
            Ok((method, uri)) => Ok(Message::Request(Request { method, uri, headers: self.headers, body })),
            Err(kind) => Err(ParseError { kind, request: self.into_answerable().map(Box::new) }),
        }
    }

    fn read_lines(&mut self, lines: Lines<'_>) {
        // Owned only when it is folded, which is rare.
        let mut pending: Option<Cow<'_, [u8]>> = None;
        for line in lines {
            match (&mut pending, line.first()) {
                (Some(header), Some(b' ' | b'\t')) => {
                    let header = header.to_mut();
                    header.push(b' ');
                    header.extend_from_slice(trim_lws(line));
                }
                (_, Some(b' ' | b'\t')) => self.fault(ParseErrorKind::HeaderLine),
                _ => {
                    if let Some(header) = pending.replace(Cow::Borrowed(line)) {
                        self.header(&header);
                    }
                }
            }
        }
        if let Some(header) = pending {
            self.header(&header);
        }
    }

    fn header(&mut self, line: &[u8]) {
        let colon = memchr::memchr(b':', line);
        let parts = colon.and_then(|at| line.split_at_checked(at));
        let name =
            parts.and_then(|(name, _)| Name::parse(std::str::from_utf8(name).ok()?.trim_end_matches(LWS)));
        let (Some(name), Some((_, value))) = (name, parts) else {
            return self.fault(ParseErrorKind::HeaderLine);
        };
        let value = decode_text(trim_lws(value.strip_prefix(b":").unwrap_or(value)));
        if memchr::memchr2(b'\r', b'\n', value.as_bytes()).is_some() {
            return self.fault(ParseErrorKind::HeaderLine);
        }
        if value.len() > limits::LINE || self.headers.len() >= limits::HEADERS {
            return self.fault(ParseErrorKind::HeadTooLarge);
        }
        if name == Name::ContentLength {
            self.content_length = match (self.content_length, saturating_number(&value)) {
                (ContentLength::Absent, Some(octets)) => {
                    ContentLength::Octets(usize::try_from(octets).unwrap_or(usize::MAX))
                }
                _ => ContentLength::Malformed,
            };
            return;
        }
        self.headers.push_clean(name, value);
    }

    fn request(&self) -> Result<(Method, Uri), ParseErrorKind> {
        let mut parts = self.start.split(' ');
        let (method, uri, version) = (parts.next(), parts.next(), parts.next());
        let method = method.and_then(Method::parse).ok_or(ParseErrorKind::StartLine)?;
        let uri = uri.filter(|uri| !uri.is_empty()).ok_or(ParseErrorKind::StartLine)?;
        match version {
            Some(version) if parts.next().is_none() => check_version(version)?,
            _ => return Err(ParseErrorKind::StartLine),
        }
        let uri = Uri::parse(uri).map_err(ParseErrorKind::RequestUri)?;
        if uri.as_sip().is_some_and(|uri| !uri.headers.is_empty()) {
            return Err(ParseErrorKind::RequestUriHeaders);
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let cseq = self.check_core()?;
        self.check_request(&method)?;
        match &method {
            _ if cseq.method == method => Ok((method, uri)),
            Method::Other(_) => Err(ParseErrorKind::UnknownMethodMismatch),
            _ => Err(ParseErrorKind::MethodMismatch),
        }
    }

    fn response(self, body: Bytes) -> Result<Message, ParseErrorKind> {
        let (version, rest) = self.start.split_once(' ').ok_or(ParseErrorKind::StartLine)?;
        if rest.contains(['\r', '\n']) {
            return Err(ParseErrorKind::StartLine);
        }
        check_version(version)?;
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let (3, Some(Ok(status @ 100..=699))) = (status.len(), saturating_number(status).map(u16::try_from))
        else {
            return Err(ParseErrorKind::StartLine);
        };
        let reason = reason.to_owned();
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.check_core()?;
        Ok(Message::Response(Response { status, reason, headers: self.headers, body }))
    }

    /// The headers that every message has, each once, each well formed.
    fn check_core(&self) -> Result<CSeq, ParseErrorKind> {
        let headers = &self.headers;
        let vias = headers.vias().map_err(|error| ParseErrorKind::Value("Via", error))?;
        let top = vias.first().ok_or(ParseErrorKind::Missing("Via"))?;
        if top.branch().is_some_and(|branch| branch.eq_ignore_ascii_case(MAGIC_COOKIE)) {
            return Err(ParseErrorKind::Branch);
        }
        for (name, word) in [(Name::From, "From"), (Name::To, "To")] {
            NameAddr::parse(self.once(&name, word)?)
                .and_then(|address| check_tag(&address))
                .map_err(|error| ParseErrorKind::Value(word, error))?;
        }
        let call_id = self.once(&Name::CallId, "Call-ID")?;
        if call_id.is_empty() || call_id.chars().any(|c| c == ' ' || c.is_ascii_control()) {
            return Err(ParseErrorKind::Value("Call-ID", ValueError::Token));
        }
        CSeq::parse(self.once(&Name::CSeq, "CSeq")?).map_err(|error| ParseErrorKind::Value("CSeq", error))
    }

    /// The headers that a request may have and that we would act upon.
    fn check_request(&self, method: &Method) -> Result<(), ParseErrorKind> {
        let headers = &self.headers;
        for (name, word) in [
            (Name::MaxForwards, "Max-Forwards"),
            (Name::ContentType, "Content-Type"),
            (Name::Expires, "Expires"),
            (Name::Event, "Event"),
        ] {
            if headers.all(&name).nth(1).is_some() {
                return Err(ParseErrorKind::Repeated(word));
            }
        }
        let contacts = headers.contacts().map_err(|error| ParseErrorKind::Value("Contact", error))?;
        if contacts == Contacts::All && *method != Method::Register {
            return Err(ParseErrorKind::Value("Contact", ValueError::Star));
        }
        for (name, word) in [(Name::Route, "Route"), (Name::RecordRoute, "Record-Route")] {
            headers.name_addrs(&name).map_err(|error| ParseErrorKind::Value(word, error))?;
        }
        if headers.has(&Name::MaxForwards) && headers.max_forwards().is_none() {
            return Err(ParseErrorKind::Value("Max-Forwards", ValueError::Number));
        }
        if let Some(value) = headers.get(&Name::ContentType) {
            ContentType::parse(value).map_err(|error| ParseErrorKind::Value("Content-Type", error))?;
        }
        if *method == Method::Register && headers.to().is_some_and(|to| to.uri.as_sip().is_none()) {
            return Err(ParseErrorKind::RegisterTo);
        }
        Ok(())
    }

    fn once(&self, name: &Name, word: &'static str) -> Result<&str, ParseErrorKind> {
        let mut values = self.headers.all(name);
        let value = values.next().ok_or(ParseErrorKind::Missing(word))?;
        if values.next().is_some() { Err(ParseErrorKind::Repeated(word)) } else { Ok(value) }
    }

    /// The headers of a response to a request that is refused, if such a response has a way back.
    fn into_answerable(self) -> Option<Headers> {
        let cseq_is_ack = self.headers.cseq().is_some_and(|cseq| cseq.method == Method::Ack);
        if cseq_is_ack || self.start.starts_with("ACK ") {
            return None;
        }
        let value = self.headers.get(&Name::Via)?;
        let top = split_outside(value, b',').ok().and_then(|list| list.first().copied()).unwrap_or(value);
        let mut headers = self.headers.clone();
        match Via::parse_any_version(top) {
            // In our version, so that the stamp can be written into it.
            Ok((via, _)) => headers.set_top_via(&via),
            // With parameters that do not read, the hop can still be told: sent-by is enough.
            Err(_) => {
                let (via, _) = Via::parse_any_version(top.split(';').next()?).ok()?;
                headers.set_first(Name::Via, &via);
            }
        }
        let mut kept = Headers::new();
        kept.copy(&headers, &Name::Via);
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
            if let Some(value) = headers.get(&name) {
                kept.push(name, value);
            }
        }
        Some(kept)
    }
}

/// A tag has a value, and where there is none an answer may add one (RFC 3261 sections 25.1 and 8.2.6.2).
fn check_tag(address: &NameAddr) -> Result<(), ValueError> {
    match address.tag() {
        Some(_) => Ok(()),
        None if address.params.has("tag") => Err(ValueError::Param),
        None if address.params.iter().count() >= limits::PARAMS => Err(ValueError::TooMany),
        None => Ok(()),
    }
}

/// The headers of a body part; lines that are none are left out.
pub(super) fn read_headers(lines: &[u8]) -> Headers {
    let mut head = Head::default();
    head.read_lines(Lines(Some(lines.get(..limits::HEAD).unwrap_or(lines))));
    head.headers
}

/// Lines between CRLFs.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let end = memchr::memchr_iter(b'\r', rest)
            .find(|at| rest.get(at.saturating_add(1)).is_some_and(|next| *next == b'\n'));
        let Some((line, tail)) = end.and_then(|at| rest.split_at_checked(at)) else {
            self.0 = None;
            return (!rest.is_empty()).then_some(rest);
        };
        self.0 = tail.strip_prefix(b"\r\n");
        Some(line)
    }
}

/// Octets as text: UTF-8, or Latin-1 when they are not.
pub(super) fn decode_text(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) => text.to_owned(),
        Err(_) => octets.iter().copied().map(char::from).collect(),
    }
}

fn trim_lws(mut octets: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = octets {
        octets = rest;
    }
    octets
}

/// Where `needle` starts.
pub(super) fn find(octets: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(octets, needle)
}

fn skip_line_ends(mut data: &[u8]) -> &[u8] {
    while let Some(rest) = data.strip_prefix(b"\r\n") {
        data = rest;
    }
    data
}

fn check_version(version: &str) -> Result<(), ParseErrorKind> {
    if version.eq_ignore_ascii_case("SIP/2.0") {
        return Ok(());
    }
    let numbers =
        version.get(..4).filter(|name| name.eq_ignore_ascii_case("SIP/")).and_then(|_| version.get(4..));
    let digits = |text: &str| saturating_number(text).is_some();
    match numbers.and_then(|numbers| numbers.split_once('.')) {
        Some((major, minor)) if digits(major) && digits(minor) => Err(ParseErrorKind::Version),
        _ => Err(ParseErrorKind::StartLine),
    }
}
