//! RFC 4475 and RFC 5118 against a whole endpoint whose owner lets everybody in: what each message
//! is answered with, by datagram and by stream (reliability promises 1 to 3).

use std::path::PathBuf;
use std::time::Duration;

use crosspoint_proto::sip::{Event, Load};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

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

/// Random changes of each message, besides every truncation.
const MUTATIONS: usize = 2_000;

/// Promise 3: what an endpoint answers, and goes on to say, to each of the 61 messages cut off anywhere,
/// and changed in one to three places.
#[test]
fn promise_03_mutated_messages_get_one_small_answer_at_most() {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let (mut answered, mut silent) = (0_u32, 0_u32);
    for (name, _, data) in all() {
        let cut = (0..data.len()).map(|end| data[..end].to_vec());
        let changed: Vec<_> = (0..MUTATIONS).map(|_| mutated(&data, &mut rng)).collect();
        for data in cut.chain(changed) {
            let mut solo = Solo::new();
            let sent = solo.hear(&data);
            assert!(sent.len() <= 1, "{name}: {sent:?}");
            *if sent.is_empty() { &mut silent } else { &mut answered } += 1;
            solo.wait(Duration::from_secs(64));
            let said: usize = solo.sent.iter().map(|it| it.text.len()).sum();
            assert!(said <= 3 * data.len(), "{name}: {said} octets for {}: {:?}", data.len(), solo.sent);
            for out in &solo.sent {
                // It repeats what the request says of itself.
                assert!(out.text.len() <= 1_300.max(data.len() + 300), "{name}: {}", out.text.len());
                assert_eq!(out.to.map(|to| to.ip().to_canonical()), Some(far().ip()), "{name}");
            }
            let asked = solo.events.iter().any(|it| matches!(it, Event::Incoming(_)));
            assert!(asked || solo.machine.load() == Load::default(), "{name}");
        }
    }
    // Both ways are exercised.
    assert!(answered > 10_000 && silent > 10_000, "{answered} {silent}");
}

fn mutated(data: &[u8], rng: &mut ChaCha12Rng) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut below = |bound: usize| rng.next_u32() as usize % bound.max(1);
    for _ in 0..=below(3) {
        let at = below(data.len());
        match below(6) {
            _ if data.is_empty() => {}
            0 => data[at] ^= 1 << below(8),
            1 => data[at] = b"\r\n\0 ;,<>\"\\:@%?=\xff"[below(16)],
            2 => data.truncate(at),
            3 => drop(data.remove(at)),
            kind => {
                let text = data.clone();
                let mut lines: Vec<_> = text.split_inclusive(|octet| *octet == b'\n').collect();
                let (one, other) = (below(lines.len()), below(lines.len()));
                if kind == 4 {
                    lines.swap(one, other);
                } else {
                    lines.insert(one, lines[other]);
                }
                data = lines.concat();
            }
        }
    }
    data
}
