//! SIP on the wire.

use crosspoint_proto::sip::auth::{Challenge, Credentials};
use crosspoint_proto::sip::{
    Frame, Headers, Message, Name, NameAddr, ParseError, Response, StreamFramer, Uri, Via, limits, sdp_of,
};

/// A datagram: what parses prints to the same message, and its typed readers answer; what does not
/// is answered small or not at all.
pub fn message(data: &[u8]) {
    match Message::parse(data) {
        Ok(message) => accepted(&message),
        Err(error) => refused(&error),
    }
}

/// A stream: however it is cut, the frames are the same, and their messages hold as datagrams do.
pub fn stream(data: &[u8]) {
    let mut whole = Vec::new();
    let mut framer = StreamFramer::new();
    framer.push(data, |frame| whole.push(frame));
    for frame in &whole {
        match frame {
            Frame::Message(message) => accepted(message),
            Frame::Refused { error, .. } => refused(error),
            Frame::Ping => {}
        }
    }
    let closed = whole.iter().position(|frame| matches!(frame, Frame::Refused { close: true, .. }));
    assert_eq!(framer.is_broken(), closed.is_some());
    assert!(closed.is_none_or(|at| at + 1 == whole.len()), "frames behind the end");

    // The cuts follow from the data, so that an input alone reproduces a failure.
    let mut seed = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let (mut cut, mut pieces, mut rest) = (Vec::new(), StreamFramer::new(), data);
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let size = usize::try_from(seed >> 60).unwrap_or(0).max(1).min(rest.len());
        let (piece, tail) = rest.split_at(size);
        pieces.push(piece, |frame| cut.push(frame));
        rest = tail;
    }
    assert_eq!(cut, whole);
    assert_eq!(pieces.is_waiting(), framer.is_waiting());
}

/// A body behind its type in one line: what is found is a piece of it, and of none that is not whole.
pub fn multipart(data: &[u8]) {
    let Some(end) = data.iter().position(|octet| *octet == b'\n') else { return };
    let (kind, body) = (&data[..end], &data[end + 1..]);
    let Ok(kind) = std::str::from_utf8(kind) else { return };
    if kind.contains('\r') {
        return;
    }
    let mut headers = Headers::new();
    headers.push(Name::ContentType, kind);
    let body = body.to_vec().into();
    let Some(found) = sdp_of(&headers, &body) else { return };
    if found.is_empty() {
        // It points to nowhere.
        return;
    }
    let (all, piece) = (body.as_ptr_range(), found.as_ptr_range());
    assert!(all.start <= piece.start && piece.end <= all.end, "a copy");
    let content_type = headers.content_type().expect("a type");
    if content_type.is("application", "sdp") {
        assert_eq!(found, body);
        return;
    }
    assert!(content_type.kind.as_str().eq_ignore_ascii_case("multipart"));
    let boundary = content_type.params.text("boundary").expect("a boundary");
    let delimiter = format!("\r\n--{boundary}");
    let has = |octets: &[u8]| octets.windows(delimiter.len()).any(|at| at == delimiter.as_bytes());
    assert!(!has(&found), "a part ends with the first delimiter");
    // Without its last delimiter a part is not whole.
    let behind = found.as_ptr() as usize + found.len() - body.as_ptr() as usize;
    assert!(has(&body[behind..]));
    let cut = sdp_of(&headers, &body.slice(..behind));
    assert!(cut.is_none_or(|cut| cut != found));
}

/// A URI, and where one stands: what parses prints to the same, and equals itself.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(uri) = Uri::parse(text) {
        let printed = uri.to_string();
        assert!(!printed.bytes().any(|octet| octet.is_ascii_control() || octet == b' '), "{printed:?}");
        let again = Uri::parse(&printed).expect("what we print parses");
        assert_eq!(again, uri);
        assert!(uri.matches(&again) && uri.same_target(&again));
        assert_eq!(again.alias(), uri.alias());
    }
    if let Ok(address) = NameAddr::parse(text) {
        assert_eq!(NameAddr::parse(&address.to_string()).as_ref(), Ok(&address));
        let _ = (address.q(), address.expires(), address.tag());
    }
    if let Ok(mut via) = Via::parse(text) {
        assert_eq!(Via::parse(&via.to_string()).as_ref(), Ok(&via));
        let from = std::net::SocketAddr::from(([192, 0, 2, 1], 5062));
        via.stamp(from);
        assert_eq!(via.response_address().map(|to| to.ip()), Some(from.ip()), "a response goes back");
    }
}

/// Challenges and credentials: what parses prints to the same.
pub fn auth(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains(['\r', '\n']) {
        return;
    }
    if let Some(challenge) = Challenge::parse(text) {
        assert_eq!(Challenge::parse(&challenge.to_string()), Some(challenge));
    }
    if let Some(credentials) = Credentials::parse(text) {
        assert_eq!(Credentials::parse(&credentials.to_string()), Some(credentials));
    }
}

fn accepted(message: &Message) {
    let printed = message.to_bytes();
    // Latin-1 grows when it is printed as UTF-8.
    if printed.len() <= limits::HEAD {
        assert_eq!(Message::parse(&printed).as_ref(), Ok(message));
    }
    core(message.headers());
    let _ = message.sdp();
    if let Message::Request(request) = message {
        let answer = Response::to(request, 200, Some("tag"));
        core(&answer.headers);
        assert!(answer.headers.to().is_some_and(|to| to.tag().is_some()));
        let _ = (request.cancel().to_bytes(), request.ack(&answer).to_bytes());
    }
}

fn refused(error: &ParseError) {
    if let Some(mut answer) = error.answer("tag") {
        assert!((400..600).contains(&answer.status));
        assert!(answer.to_bytes().len() <= limits::ANSWER);
        let mut via = answer.headers.top_via().expect("an answer has a way back");
        via.stamp(([192, 0, 2, 1], 5062).into());
        answer.headers.set_top_via(&via);
        assert_eq!(answer.headers.top_via().map(|v| v.response_address()), Some(via.response_address()));
    }
}

/// What every machine relies on.
fn core(headers: &Headers) {
    assert!(headers.top_via().is_some() && headers.vias().is_ok());
    assert!(headers.from().is_some() && headers.to().is_some());
    assert!(headers.call_id().is_some() && headers.cseq().is_some());
    assert!(!headers.has(&Name::ContentLength));
    let _ = (headers.contacts(), headers.reasons(), headers.accept(), headers.allow(), headers.retry_after());
    let _ = (headers.name_addrs(&Name::RecordRoute), headers.tokens(&Name::Require), headers.max_forwards());
    for (name, value) in headers.iter() {
        assert!(!value.contains(['\r', '\n']), "{name}");
    }
}
