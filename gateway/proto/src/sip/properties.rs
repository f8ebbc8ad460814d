//! What holds for all messages: printing and parsing agree, and nothing panics.

use bytes::Bytes;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::torture::all_octets;
use super::*;
use crate::Transport;

fn host() -> impl Strategy<Value = Host> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,10}(\\.[a-z][a-z0-9]{0,5}){0,3}".prop_map(Host::Name),
        any::<[u8; 4]>().prop_map(|octets| Host::V4(octets.into())),
        any::<[u8; 16]>().prop_map(|octets| Host::V6(octets.into())),
    ]
}

prop_compose! {
    fn sip_uri()(
        secure in any::<bool>(),
        user in proptest::option::of("\\PC{1,12}"),
        host in host(),
        port in proptest::option::of(1_u16..),
        params in proptest::collection::vec(("[a-z]{1,8}", proptest::option::of("\\PC{1,8}")), 0..4),
        headers in proptest::collection::vec(("[a-z]{1,8}", "[a-z%4]{0}[a-z0-9.]{0,8}"), 0..3),
    ) -> SipUri {
        let mut uri = SipUri::new(user.as_deref(), host, port);
        uri.secure = secure;
        for (name, value) in params {
            uri.set_param(&name, value.as_deref());
        }
        uri.headers = headers;
        uri
    }
}

prop_compose! {
    fn name_addr()(
        display in proptest::option::of("\\PC{1,16}"),
        uri in sip_uri(),
        tag in proptest::option::of("[a-z0-9]{1,8}"),
        text in proptest::option::of("\\PC{0,8}"),
    ) -> NameAddr {
        let mut address = NameAddr::new(uri).with_display(display.as_deref().unwrap_or_default());
        if let Some(tag) = tag {
            address = address.with_tag(&tag);
        }
        if let Some(text) = text {
            address.params.set("x-text", Some(&text));
        }
        address
    }
}

prop_compose! {
    fn via()(host in host(), port in proptest::option::of(1_u16..), branch in "z9hG4bK[a-zA-Z0-9]{1,20}", stream in any::<bool>()) -> Via {
        Via::new(if stream { Transport::Tls } else { Transport::Udp }, host, port, &branch)
    }
}

prop_compose! {
    fn request()(
        method in "[A-Z]{1,10}",
        mut uri in sip_uri(),
        from in name_addr(),
        to in name_addr(),
        via in via(),
        contacts in proptest::collection::vec(name_addr(), 0..3),
        subject in "[^\r\n\t ]?",
        cseq in any::<u32>(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) -> Request {
        uri.headers.clear();
        let method = Method::parse(&method).unwrap();
        let mut request = Request::with_core(method, uri, &from, &to, "a84b4c76e66710@pc33", cseq);
        request.headers.push_front(Name::Via, via);
        for contact in contacts {
            request.headers.push(Name::Contact, contact);
        }
        request.headers.push(Name::Subject, subject);
        request.with_body("application/octet-stream", body)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn what_we_build_parses_to_itself(request in request()) {
        let parsed = Message::parse(&request.to_bytes());
        prop_assert_eq!(parsed.as_ref().ok(), Some(&Message::Request(request.clone())), "{:?}", parsed);
        let response = Response::to(&request, 200, Some("t"));
        prop_assert_eq!(Message::parse(&response.to_bytes()).unwrap(), Message::Response(response));
    }

    #[test]
    fn parts_parse_to_themselves(uri in sip_uri(), address in name_addr(), via in via()) {
        prop_assert_eq!(Uri::parse(&uri.to_string()).unwrap(), Uri::Sip(uri));
        prop_assert_eq!(NameAddr::parse(&address.to_string()).unwrap(), address);
        prop_assert_eq!(Via::parse(&via.to_string()).unwrap(), via);
    }

    #[test]
    fn any_text_is_read_without_harm(text in "\\PC{0,40}|[ -~]{0,40}|[<>\"\\\\;,?@%:=a ]{0,40}") {
        if let Ok(uri) = Uri::parse(&text) {
            prop_assert_eq!(Uri::parse(&uri.to_string()).unwrap(), uri);
        }
        if let Ok(address) = NameAddr::parse(&text) {
            prop_assert_eq!(NameAddr::parse(&address.to_string()).unwrap(), address);
        }
        if let Ok(via) = Via::parse(&format!("SIP/2.0/UDP {text}")) {
            prop_assert_eq!(Via::parse(&via.to_string()).unwrap(), via);
        }
        if let Some(credentials) = auth::Credentials::parse(&format!("Digest {text}")) {
            prop_assert_eq!(auth::Credentials::parse(&credentials.to_string()), Some(credentials));
        }
    }

    #[test]
    fn streams_do_not_care_how_they_are_cut(
        requests in proptest::collection::vec(request(), 1..4),
        noise in proptest::collection::vec(any::<u8>(), 0..8),
        cuts in proptest::collection::vec(1_usize..80, 1..40),
    ) {
        let mut stream = Vec::new();
        for request in &requests {
            stream.extend(b"\r\n");
            stream.extend(request.to_bytes());
        }
        stream.extend(noise);
        let mut whole = Vec::new();
        StreamFramer::new().push(&stream, |frame| whole.push(frame));
        prop_assert!(whole.len() >= requests.len());
        let (mut framer, mut cut, mut rest) = (StreamFramer::new(), Vec::new(), stream.as_slice());
        for size in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at((*size).min(rest.len()));
            framer.push(piece, |frame| cut.push(frame));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(cut, whole);
    }
}

/// Mutations of each of the 61 messages: every truncation, and as many random changes.
const MUTATIONS: usize = 1_000;

#[test]
fn mutated_torture_messages_never_panic_and_answers_stay_small() {
    let mut rng = ChaCha12Rng::from_seed([61; 32]);
    let mut refused = 0_usize;
    for (name, octets) in all_octets() {
        for end in 0..octets.len() {
            refused += usize::from(!check(name, &octets[..end]));
        }
        for _ in 0..MUTATIONS {
            refused += usize::from(!check(name, &mutate(&octets, &mut rng)));
        }
    }
    // Both ways are exercised.
    assert!(refused > 10_000, "{refused}");
}

fn mutate(octets: &[u8], rng: &mut ChaCha12Rng) -> Vec<u8> {
    let mut octets = octets.to_vec();
    for _ in 0..=below(rng, 3) {
        if octets.is_empty() {
            break;
        }
        let at = below(rng, octets.len());
        match below(rng, 6) {
            0 => octets[at] ^= 1 << below(rng, 8),
            1 => octets[at] = *b"\r\n\0 ;,<>\"\\:@%?=\xff".get(below(rng, 17)).unwrap_or(&b'['),
            2 => octets.truncate(at),
            3 => drop(octets.remove(at)),
            _ => {
                // A header twice, or two headers in the other order.
                let text = octets.clone();
                let mut lines: Vec<_> = text.split_inclusive(|octet| *octet == b'\n').collect();
                let (a, b) = (below(rng, lines.len()), below(rng, lines.len()));
                if below(rng, 2) == 0 {
                    lines.swap(a, b)
                } else {
                    lines.insert(a, lines[b])
                }
                octets = lines.concat();
            }
        }
    }
    octets
}

fn below(rng: &mut ChaCha12Rng, bound: usize) -> usize {
    usize::try_from(rng.next_u32()).unwrap() % bound
}

/// Reads all that can be read, and says whether it was a message.
fn check(name: &str, octets: &[u8]) -> bool {
    match Message::parse(octets) {
        Ok(message) => {
            assert_eq!(Message::parse(&message.to_bytes()).as_ref(), Ok(&message), "{name}");
            let headers = message.headers();
            assert!(headers.top_via().is_some() && headers.from().is_some() && headers.to().is_some());
            assert!(headers.call_id().is_some() && headers.cseq().is_some());
            let _ = (headers.contacts(), headers.reasons(), headers.accept(), headers.allow(), message.sdp());
            if let Message::Request(request) = &message {
                let _ = (request.uri.alias(), request.uri.matches(&request.uri), request.cancel());
                let answer = Response::to(request, 200, Some("t")).to_bytes();
                assert!(Message::parse(&answer).is_ok(), "{name}");
            }
            true
        }
        Err(error) => {
            if let Some(answer) = error.answer("tag") {
                let answer = answer.to_bytes();
                assert!(answer.len() <= limits::ANSWER, "{name}");
                assert!(answer.len() <= octets.len().max(100).saturating_mul(3), "{name}");
            }
            let mut frames = 0_usize;
            StreamFramer::new().push(octets, |_| frames += 1);
            assert!(frames <= octets.len());
            false
        }
    }
}

#[test]
fn the_body_is_shared_not_copied() {
    let body = Bytes::from_static(b"v=0\r\n");
    let request = Request::new(Method::Info, SipUri::new(None, Host::Name("h".into()), None));
    let request = request.with_body("application/sdp", body.clone());
    assert_eq!(sdp_of(&request.headers, &request.body).unwrap().as_ptr(), body.as_ptr());
}
