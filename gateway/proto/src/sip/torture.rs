//! RFC 4475 and RFC 5118: what the parser says to each of the 61 messages, byte for byte as the
//! RFCs have them. What the machines answer to those that parse is tested with the machines.

use std::path::PathBuf;

use super::{Contacts, Message, Method, Name, ParseErrorKind, Request, UriError, ValueError};

/// What a datagram is to the parser.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// It parses.
    Takes,
    /// It is a request, and this is the status that answers it.
    Answers(u16),
    /// It is dropped.
    Drops,
}

use Outcome::{Answers, Drops, Takes};

const RFC_4475: [(&str, Outcome); 49] = [
    ("wsinv", Takes),
    ("intmeth", Takes),
    ("esc01", Takes),
    ("escnull", Takes),
    ("esc02", Takes),
    ("lwsdisp", Takes),
    ("longreq", Takes),
    ("dblreq", Takes),
    ("semiuri", Takes),
    ("transports", Takes),
    ("mpart01", Takes),
    ("unreason", Takes),
    ("noreason", Takes),
    ("badinv01", Answers(400)),
    ("clerr", Answers(400)),
    ("ncl", Answers(400)),
    ("scalar02", Answers(400)),
    ("scalarlg", Drops),
    ("quotbal", Answers(400)),
    ("ltgtruri", Answers(400)),
    ("lwsruri", Answers(400)),
    ("lwsstart", Answers(400)),
    ("trws", Answers(400)),
    ("escruri", Answers(400)),
    ("baddate", Takes),
    ("regbadct", Answers(400)),
    ("badaspec", Answers(400)),
    ("baddn", Answers(400)),
    ("badvers", Answers(505)),
    ("mismatch01", Answers(400)),
    ("mismatch02", Answers(501)),
    ("bigcode", Drops),
    ("badbranch", Answers(400)),
    ("insuf", Answers(400)),
    // Any scheme parses; the machine answers 416.
    ("unkscm", Takes),
    ("novelsc", Takes),
    ("unksm2", Answers(400)),
    // 420, 415, 401, 406 and 483 are the machine's.
    ("bext01", Takes),
    ("invut", Takes),
    ("regaut01", Takes),
    ("multi01", Answers(400)),
    ("mcl01", Answers(400)),
    // Two Via in a response: the transaction layer drops it.
    ("bcast", Takes),
    ("zeromf", Takes),
    ("cparam01", Takes),
    ("cparam02", Takes),
    ("regescrt", Takes),
    ("sdp01", Takes),
    ("inv2543", Takes),
];

const RFC_5118: [(&str, Outcome); 12] = [
    ("ipv6-good", Takes),
    ("ipv6-bad", Answers(400)),
    ("port-ambiguous", Takes),
    ("port-unambiguous", Takes),
    ("via-received-param-with-delim", Takes),
    ("via-received-param-no-delim", Takes),
    ("ipv6-in-sdp", Takes),
    ("mult-ip-in-header", Takes),
    ("mult-ip-in-sdp", Takes),
    ("ipv4-mapped-ipv6", Takes),
    ("ipv6-bug-abnf-3-colons", Answers(400)),
    ("ipv6-correct-abnf-2-colons", Takes),
];

pub(super) fn torture(rfc: &str, name: &str) -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/torture")
        .join(rfc)
        .join(format!("{name}.dat"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn all() -> impl Iterator<Item = (&'static str, &'static str, Outcome)> {
    let first = RFC_4475.iter().map(|(name, outcome)| ("rfc4475", *name, *outcome));
    first.chain(RFC_5118.iter().map(|(name, outcome)| ("rfc5118", *name, *outcome)))
}

fn parse(rfc: &str, name: &str) -> Message {
    Message::parse(&torture(rfc, name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn kind(name: &str) -> ParseErrorKind {
    Message::parse(&torture("rfc4475", name)).unwrap_err().kind()
}

#[test]
fn every_message_has_its_outcome() {
    let mut wrong = Vec::new();
    for (rfc, name, expected) in all() {
        let parsed = Message::parse(&torture(rfc, name));
        let outcome = match &parsed {
            Ok(_) => Takes,
            Err(error) => error.answer("t").map_or(Drops, |answer| Answers(answer.status)),
        };
        if outcome != expected {
            wrong.push(format!("{rfc} {name}: {outcome:?}, not {expected:?}: {:?}", parsed.err()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn request(name: &str) -> Request {
    let rfc = if RFC_5118.iter().any(|(known, _)| *known == name) { "rfc5118" } else { "rfc4475" };
    match parse(rfc, name) {
        Message::Request(request) => request,
        Message::Response(_) => panic!("{name} is a response"),
    }
}

fn contacts(name: &str) -> Vec<super::NameAddr> {
    match request(name).headers.contacts().unwrap() {
        Contacts::List(list) => list,
        Contacts::All => panic!("{name} has a star"),
    }
}

#[test]
fn all_61_print_and_parse_to_the_same() {
    let mut count = 0;
    for (rfc, name, outcome) in all() {
        count += 1;
        if outcome == Takes {
            let message = parse(rfc, name);
            assert_eq!(Message::parse(&message.to_bytes()).unwrap(), message, "{name}");
        }
    }
    assert_eq!(count, 61);
}

#[test]
fn refusals_are_for_the_right_reason() {
    use ParseErrorKind as Kind;
    assert_eq!(kind("badinv01"), Kind::Value("Via", ValueError::Param));
    assert_eq!(kind("clerr"), Kind::BodyShort);
    assert_eq!(kind("ncl"), Kind::ContentLength);
    assert_eq!(kind("mcl01"), Kind::ContentLength);
    assert_eq!(kind("scalar02"), Kind::Value("CSeq", ValueError::Number));
    assert_eq!(kind("scalarlg"), Kind::Value("CSeq", ValueError::Number));
    assert_eq!(kind("quotbal"), Kind::Value("To", ValueError::Unbalanced));
    assert_eq!(kind("ltgtruri"), Kind::RequestUri(UriError::Scheme));
    assert_eq!(kind("lwsruri"), Kind::StartLine);
    assert_eq!(kind("lwsstart"), Kind::StartLine);
    assert_eq!(kind("trws"), Kind::StartLine);
    assert_eq!(kind("escruri"), Kind::RequestUriHeaders);
    assert_eq!(kind("regbadct"), Kind::Value("Contact", ValueError::Bare));
    assert_eq!(kind("badaspec"), Kind::Value("To", ValueError::Uri(UriError::Scheme)));
    assert_eq!(kind("badvers"), Kind::Version);
    assert_eq!(kind("mismatch01"), Kind::MethodMismatch);
    assert_eq!(kind("mismatch02"), Kind::UnknownMethodMismatch);
    assert_eq!(kind("bigcode"), Kind::StartLine);
    assert_eq!(kind("badbranch"), Kind::Branch);
    assert_eq!(kind("insuf"), Kind::Missing("From"));
    assert_eq!(kind("unksm2"), Kind::RegisterTo);
    assert_eq!(kind("multi01"), Kind::Repeated("From"));
    let error = Message::parse(&torture("rfc5118", "ipv6-bad")).unwrap_err();
    assert_eq!(error.kind(), Kind::RequestUri(UriError::Host));
    let error = Message::parse(&torture("rfc5118", "ipv6-bug-abnf-3-colons")).unwrap_err();
    assert_eq!(error.kind(), Kind::RequestUri(UriError::Host));
}

#[test]
fn refusals_answer_with_what_was_there() {
    let answer = |name| Message::parse(&torture("rfc4475", name)).unwrap_err().answer("mytag").unwrap();
    let insuf = answer("insuf");
    for name in [Name::From, Name::To, Name::CallId] {
        assert!(!insuf.headers.has(&name), "{name} was invented");
    }
    assert_eq!(insuf.headers.top_via().unwrap().branch(), Some("z9hG4bKkdj.insuf"));
    assert_eq!(insuf.headers.get(&Name::CSeq), Some("193942 INVITE"));
    let version = answer("badvers");
    assert_eq!(version.reason, "Version Not Supported");
    assert_eq!(version.headers.get(&Name::Via), Some("SIP/2.0/UDP c.example.com;branch=z9hG4bKkdjuw"));
    assert!(version.headers.get(&Name::To).unwrap().ends_with(";tag=mytag"));
    // A To that cannot be read is given back as it came, and repeated headers once.
    assert_eq!(answer("quotbal").headers.get(&Name::To), Some("\"Mr. J. User <sip:j.user@example.com>"));
    assert_eq!(answer("multi01").headers.all(&Name::CallId).count(), 1);
    assert_eq!(answer("badinv01").headers.get(&Name::Via), Some("SIP/2.0/UDP 192.0.2.15"));
}

#[test]
fn a_lone_line_end_is_never_taken_for_white_space() {
    let zeromf = String::from_utf8(torture("rfc4475", "zeromf")).unwrap();
    for lone in ["\n", "\r", " \n", "\r\n \n", "\r\n \r", "\r\n\t\nVia: x", "\n\r\n"] {
        for at in ["Max-Forwards: 0", "OPTIONS sip:user", "CSeq: 39234321 OPTIONS"] {
            let text = zeromf.replace(at, &format!("{at}{lone}"));
            assert!(Message::parse(text.as_bytes()).is_err(), "{at}{lone:?}");
        }
    }
}

#[test]
fn an_ack_that_does_not_parse_is_dropped() {
    let text = String::from_utf8(torture("rfc4475", "quotbal")).unwrap().replace("INVITE", "ACK");
    assert_eq!(Message::parse(text.as_bytes()).unwrap_err().answer("t"), None);
}

#[test]
fn wsinv_unfolds_and_reads_through_all_white_space() {
    let wsinv = request("wsinv");
    let to = wsinv.headers.to().unwrap();
    assert_eq!(
        (to.uri.to_string().as_str(), to.tag()),
        ("sip:vivekg@chair-dnrc.example.com", Some("1918181833n"))
    );
    let from = wsinv.headers.from().unwrap();
    assert_eq!((from.display.as_deref(), from.tag()), (Some("J Rosenberg \\\""), Some("98asjd8")));
    assert_eq!(wsinv.headers.max_forwards(), Some(68));
    let cseq = wsinv.headers.cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (9, Method::Invite));
    let vias = wsinv.headers.vias().unwrap();
    let branches: Vec<_> = vias.iter().map(|via| via.branch().unwrap()).collect();
    assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
    assert!(!vias[0].has_magic_branch() && vias[1].has_magic_branch());
    assert_eq!(wsinv.headers.get(&Name::Subject), Some(""));
    let new_fangled = Name::parse("newFANGLEDheader").unwrap();
    assert_eq!(wsinv.headers.get(&new_fangled), Some("newfangled value continued newfangled value"));
    assert!(wsinv.headers.name_addrs(&Name::Route).unwrap()[0].uri.as_sip().unwrap().is_loose());
    let contact = wsinv.headers.contact().unwrap();
    assert_eq!((contact.display.as_deref(), contact.q()), (Some("Quoted string \"\""), 330));
    assert_eq!(wsinv.body.len(), 150);
}

#[test]
fn intmeth_keeps_every_character() {
    let intmeth = request("intmeth");
    assert_eq!(intmeth.method.as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    let user = intmeth.uri.as_sip().unwrap().user.clone().unwrap();
    assert_eq!(user, "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*");
    assert_eq!(
        intmeth.uri.as_sip().unwrap().password.as_deref(),
        Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")
    );
    assert_eq!(intmeth.headers.to().unwrap().display.as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));
    let from = intmeth.headers.from().unwrap();
    assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(from.params.text("fromParam''~+*_!.-%").as_deref(), Some("работающий"));
    assert_eq!(intmeth.headers.call_id(), Some("intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"));
    assert_eq!(intmeth.headers.max_forwards(), Some(255));
}

#[test]
fn escapes_are_the_characters_they_stand_for() {
    let esc01 = request("esc01");
    assert_eq!(esc01.uri.as_sip().unwrap().user_text().as_deref(), Some("sips:user@example.com"));
    assert_eq!(esc01.headers.to().unwrap().uri.alias(), "user@example.com");
    assert_eq!(esc01.headers.from().unwrap().uri.alias(), "i have spaces@example.net");
    let contact = esc01.headers.contact().unwrap().uri;
    assert!(
        contact.matches(&"sip:caller@host5.example.net;lr;name=value%2541".parse().unwrap()),
        "{contact}"
    );
    // %00 neither ends a string nor is it dropped.
    let nulls = contacts("escnull");
    assert_eq!(nulls.len(), 2);
    assert!(!nulls[0].uri.matches(&nulls[1].uri));
    assert_eq!(nulls[1].uri.alias(), "\0\0@host5.example.com");
    assert_eq!(request("escnull").headers.to().unwrap().uri.alias(), "null-\0-null@example.com");
    // Methods and header names have no escapes.
    let esc02 = request("esc02");
    assert!(matches!(&esc02.method, Method::Other(token) if token.as_str() == "RE%47IST%45R"));
    assert_eq!(contacts("esc02").len(), 2);
    assert_eq!(esc02.headers.to().unwrap().display.as_deref(), Some("%Z%45"));
}

#[test]
fn parameters_belong_to_the_header_or_to_the_uri() {
    let header = &contacts("cparam01")[0];
    assert!(header.params.has("unknownparam"));
    assert_eq!(header.uri.to_string(), "sip:+19725552222@gw1.example.net");
    let uri = &contacts("cparam02")[0];
    assert!(uri.params.is_empty());
    assert_eq!(uri.to_string(), "<sip:+19725552222@gw1.example.net;unknownparam>");
    assert_eq!(contacts("regescrt")[0].to_string(), "<sip:user@example.com?Route=%3Csip:sip.example.com%3E>");
    assert_eq!(request("semiuri").uri.alias(), "user;par=u@example.net@example.com");
}

#[test]
fn content_length_cuts_what_follows_and_bodies_are_octets() {
    assert!(request("dblreq").body.is_empty());
    assert_eq!(request("mpart01").body.len(), 553);
    assert!(request("mpart01").body.contains(&0));
    assert!(request("inv2543").body.starts_with(b"v=0\r\n"));
    assert_eq!(request("inv2543").headers.from().unwrap().tag(), None);
    assert_eq!(request("longreq").headers.vias().unwrap().len(), 34);
    assert_eq!(request("transports").headers.vias().unwrap().len(), 5);
}

#[test]
fn responses_keep_their_words() {
    let Message::Response(unreason) = parse("rfc4475", "unreason") else { panic!("not a response") };
    assert!(unreason.reason.starts_with("= 2**3 * 5**2 но сто девяносто девять"));
    let Message::Response(noreason) = parse("rfc4475", "noreason") else { panic!("not a response") };
    assert_eq!((noreason.status, noreason.reason.as_str()), (100, ""));
}

#[test]
fn version_6_addresses_are_read_where_they_stand() {
    let port = |name| {
        let uri = request(name).uri;
        let uri = uri.as_sip().unwrap();
        (uri.host.address().unwrap().to_string(), uri.port)
    };
    assert_eq!(port("ipv6-good"), ("2001:db8::10".to_owned(), None));
    assert_eq!(port("port-ambiguous"), ("2001:db8::10:5070".to_owned(), None));
    assert_eq!(port("port-unambiguous"), ("2001:db8::10".to_owned(), Some(5070)));
    assert_eq!(port("ipv6-correct-abnf-2-colons").0, "2001:db8::c000:201");
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        let via = request(name).headers.top_via().unwrap();
        assert_eq!(via.received().unwrap().to_string(), "2001:db8::9:255");
    }
    let mapped = request("ipv4-mapped-ipv6").headers.top_via().unwrap();
    assert_eq!(
        (mapped.host.address().unwrap().to_canonical().to_string(), mapped.port),
        ("192.0.2.10".into(), Some(19823))
    );
}

/// Name and octets of all 61, for tests that change them.
pub(super) fn all_octets() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    all().map(|(rfc, name, _)| (name, torture(rfc, name)))
}
