//! RFC 4475 and RFC 5118 against a whole endpoint whose owner lets everybody in: what each message
//! is answered with, by datagram and by stream (reliability promises 1 to 3).

use std::path::PathBuf;

use crosspoint_proto::sip::Event;

use crate::solo::{Ask, Solo, far};

/// What a message comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Answered by the machine.
    Status(u16),
    /// A call for the owner.
    Call,
    /// A REGISTER for the owner.
    Registration,
    /// Nothing at all.
    Dropped,
}

use Fate::{Call, Dropped, Registration, Status};

const RFC_4475: [(&str, Fate); 49] = [
    ("wsinv", Status(481)),
    ("intmeth", Status(501)),
    ("esc01", Call),
    ("escnull", Registration),
    ("esc02", Status(501)),
    ("lwsdisp", Status(200)),
    ("longreq", Call),
    ("dblreq", Registration),
    ("semiuri", Status(200)),
    ("transports", Status(200)),
    ("mpart01", Status(405)),
    ("unreason", Dropped),
    ("noreason", Dropped),
    ("badinv01", Status(400)),
    ("clerr", Status(400)),
    ("ncl", Status(400)),
    ("scalar02", Status(400)),
    ("scalarlg", Dropped),
    ("quotbal", Status(400)),
    ("ltgtruri", Status(400)),
    ("lwsruri", Status(400)),
    ("lwsstart", Status(400)),
    ("trws", Status(400)),
    ("escruri", Status(400)),
    ("baddate", Call),
    ("regbadct", Status(400)),
    ("badaspec", Status(400)),
    ("baddn", Status(400)),
    ("badvers", Status(505)),
    ("mismatch01", Status(400)),
    ("mismatch02", Status(501)),
    ("bigcode", Dropped),
    ("badbranch", Status(400)),
    ("insuf", Status(400)),
    ("unkscm", Status(416)),
    ("novelsc", Status(416)),
    ("unksm2", Status(400)),
    ("bext01", Status(420)),
    ("invut", Status(415)),
    ("regaut01", Registration),
    ("multi01", Status(400)),
    ("mcl01", Status(400)),
    ("bcast", Dropped),
    ("zeromf", Status(200)),
    ("cparam01", Registration),
    ("cparam02", Registration),
    ("regescrt", Registration),
    ("sdp01", Status(406)),
    ("inv2543", Call),
];

const RFC_5118: [(&str, Fate); 12] = [
    ("ipv6-good", Registration),
    ("ipv6-bad", Status(400)),
    ("port-ambiguous", Registration),
    ("port-unambiguous", Registration),
    ("via-received-param-with-delim", Status(481)),
    ("via-received-param-no-delim", Status(200)),
    ("ipv6-in-sdp", Call),
    ("mult-ip-in-header", Status(481)),
    ("mult-ip-in-sdp", Call),
    ("ipv4-mapped-ipv6", Call),
    ("ipv6-bug-abnf-3-colons", Status(400)),
    ("ipv6-correct-abnf-2-colons", Status(200)),
];

fn read(folder: &str, name: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/torture");
    let path = root.join(folder).join(format!("{name}.dat"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn all() -> impl Iterator<Item = (&'static str, Fate, Vec<u8>)> {
    let first = RFC_4475.into_iter().map(|(name, fate)| (name, fate, read("rfc4475", name)));
    first.chain(RFC_5118.into_iter().map(|(name, fate)| (name, fate, read("rfc5118", name))))
}

fn fate(solo: &mut Solo, sent: &[crate::solo::Out]) -> Fate {
    let told = solo.events.drain(..).find(|e| !matches!(e, Event::FlowClosed { .. }));
    match (sent, told) {
        ([answer, ..], None) => Status(answer.status()),
        ([], Some(Event::Incoming(_))) => Call,
        ([], Some(Event::Request { .. })) => Registration,
        ([], None) => Dropped,
        other => panic!("{other:?}"),
    }
}

#[test]
fn datagrams_get_the_answer_of_the_book_and_one_at_most() {
    for (name, expected, data) in all() {
        let mut solo = Solo::new();
        let sent = solo.hear(&data);
        assert!(sent.len() <= 1, "{name}: {sent:?}");
        let size: usize = sent.iter().map(|o| o.text.len()).sum();
        assert!(size <= 3 * data.len(), "{name}: {size}");
        assert_eq!(fate(&mut solo, &sent), expected, "{name}: {sent:?}");
        match name {
            "bext01" => assert_eq!(sent[0].text.matches("\r\nUnsupported: ").count(), 2),
            "invut" => assert_eq!(sent[0].header("Accept"), Some("application/sdp")),
            _ => {}
        }
        assert_eq!(solo.hear(Ask::new("OPTIONS").text())[0].status(), 200, "{name}: the canary");
    }
}

#[test]
fn streams_get_the_same_byte_by_byte() {
    for (name, expected, data) in all() {
        let text = String::from_utf8_lossy(&data).to_lowercase();
        let has_length = ["\r\nl:", "\r\nl :", "\r\ncontent-length:", "\r\ncontent-length "]
            .iter()
            .any(|start| text.contains(start));
        let expected = match (name, expected) {
            // The end never comes: the deadline closes the connection.
            ("clerr" | "baddn", _) => Dropped,
            (_, Dropped) => Dropped,
            // A stream needs a length.
            _ if !has_length => Status(400),
            _ => expected,
        };
        let mut solo = Solo::new();
        solo.accept(2, far());
        let mut sent = Vec::new();
        for byte in data.chunks(1) {
            sent.extend(solo.stream(2, byte));
            if !sent.is_empty() || !solo.events.is_empty() {
                // What stands behind the message is the next one, and no business of this test.
                break;
            }
        }
        assert_eq!(fate(&mut solo, &sent), expected, "{name}: {sent:?}");
        assert_eq!(solo.hear(Ask::new("OPTIONS").text())[0].status(), 200, "{name}: the canary");
    }
}
