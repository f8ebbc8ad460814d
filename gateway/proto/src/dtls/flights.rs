//! The flights of a handshake (RFC 6347 section 4.2.4), each handed on when it is whole.
//!
//! What does the handshake forgets its timer when a flight comes in pieces and one is lost: nobody
//! would send again. So it never sees pieces. Fragments are joined here, what came before is left
//! out, and records get numbers of our own; what is lost, the peer or our timer sends again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Longest handshake message: a certificate with its chain. Longer ones are dropped.
pub const MAX_MESSAGE: usize = 16_000;

/// Octets of incomplete flights that are held. What comes beyond is dropped, for the peer to repeat.
pub const MAX_HELD: usize = 32_000;

/// Messages of a flight that are held: the longest has six (client, with its certificate).
const MAX_AHEAD: u16 = 16;

/// Gaps that a message may have while its fragments come.
const MAX_GAPS: usize = 32;

/// Encrypted records that are held: a peer whose datagrams are put out of order repeats some.
const MAX_SEALED: usize = 4;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
const CERTIFICATE: u8 = 11;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// A certificate message without a certificate: the length of the empty list.
const NO_CERTIFICATE: usize = 3;

/// Which side we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We sent the first hello (`a=setup:active`).
    Client,
    /// We wait for it (`a=setup:passive`).
    Server,
}

/// What came of a handshake and is not handed on yet.
#[derive(Debug)]
pub struct Flights {
    role: Role,
    /// Number of the next message that is to be handed on.
    next: u16,
    messages: BTreeMap<u16, Message>,
    /// The peer changed to encrypted records.
    changed: bool,
    sealed: Vec<Vec<u8>>,
    /// Whole flights before the last were handed on: the hellos, and the server's.
    flights: u32,
    last_handed_on: bool,
    established: bool,
    /// Number of the next record that is handed on.
    record: u64,
}

/// A message, joined as far as it came.
#[derive(Debug)]
struct Message {
    kind: u8,
    body: Vec<u8>,
    /// What is missing of it: from, to.
    gaps: Vec<(usize, usize)>,
}

/// A record as it came.
struct Record<'a> {
    content: u8,
    epoch: u16,
    whole: &'a [u8],
    body: &'a [u8],
}

impl Flights {
    /// A handshake of which nothing came yet.
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            next: 0,
            messages: BTreeMap::new(),
            changed: false,
            sealed: Vec::new(),
            flights: 0,
            last_handed_on: false,
            established: false,
            record: 0,
        }
    }

    /// The handshake is over: from now on only what is encrypted is handed on. The peer repeats its
    /// last message when ours was lost.
    pub fn establish(&mut self) {
        self.established = true;
        self.messages.clear();
        self.sealed.clear();
    }

    /// Takes a datagram; returns what is to be handed on now, as one datagram: whole flights,
    /// alerts. Malformed records are dropped (section 4.1.2.7).
    pub fn push(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = datagram;
        while let Some((record, behind)) = Record::split(rest) {
            rest = behind;
            match (record.content, record.epoch) {
                _ if record.body.is_empty() => {}
                (HANDSHAKE | ALERT, 1..) if self.established => out.extend_from_slice(record.whole),
                _ if self.established => {}
                (HANDSHAKE, 0) => self.take_messages(record.body, &mut out),
                (HANDSHAKE, 1) if self.sealed.len() < MAX_SEALED => self.sealed.push(record.whole.to_vec()),
                (CHANGE_CIPHER_SPEC, 0) => self.changed = true,
                (ALERT, 0) => self.write(ALERT, record.body, &mut out),
                (ALERT, 1) => out.extend_from_slice(record.whole),
                _ => {}
            }
        }
        self.hand_on(&mut out);
        (!out.is_empty()).then_some(out)
    }

    /// The handshake messages of a record, or fragments of them.
    fn take_messages(&mut self, mut body: &[u8], out: &mut Vec<u8>) {
        while let Some((header, behind)) = body.split_first_chunk::<12>() {
            let [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *header;
            let length = usize_of([l0, l1, l2]);
            let number = u16::from_be_bytes([s0, s1]);
            let (from, size) = (usize_of([o0, o1, o2]), usize_of([f0, f1, f2]));
            let Some((fragment, behind)) = behind.split_at_checked(size) else { return };
            body = behind;
            let ahead = number.checked_sub(self.next);
            if ahead.is_some_and(|ahead| ahead < MAX_AHEAD) {
                self.take_fragment(number, kind, length, from, fragment);
            } else if ahead.is_none()
                && kind == CLIENT_HELLO
                && (self.role, self.flights) == (Role::Server, 1)
                && size == length
            {
                // Our request for its cookie was lost, and that alone has no timer of ours.
                self.write_message(number, kind, fragment, out);
            }
        }
    }

    fn take_fragment(&mut self, number: u16, kind: u8, length: usize, from: usize, fragment: &[u8]) {
        let held: usize = self.messages.values().map(|message| message.body.len()).sum();
        let Some(to) = from.checked_add(fragment.len()).filter(|to| *to <= length) else { return };
        let message = match self.messages.entry(number) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if length > MAX_MESSAGE || held.saturating_add(length) > MAX_HELD => return,
            Entry::Vacant(entry) => {
                let gaps = if length == 0 { Vec::new() } else { vec![(0, length)] };
                entry.insert(Message { kind, body: vec![0; length], gaps })
            }
        };
        if (message.kind, message.body.len()) == (kind, length) {
            message.fill(from, to, fragment);
        }
    }

    /// Writes the flights that are whole to `out`.
    fn hand_on(&mut self, out: &mut Vec<u8>) {
        if self.established {
            return;
        }
        if self.last_handed_on {
            // Its end was forged or damaged: the true one follows.
            out.extend(self.sealed.drain(..).flatten());
            return;
        }
        let whole = self
            .messages
            .iter()
            .zip(self.next..)
            .take_while(|((number, message), expected)| **number == *expected && message.gaps.is_empty());
        let run: Vec<(u16, u8, usize)> =
            whole.map(|((number, message), _)| (*number, message.kind, message.body.len())).collect();
        let last_of = |kind: u8| run.iter().find(|(_, other, _)| *other == kind).map(|(number, ..)| *number);
        let sealed = self.changed && !self.sealed.is_empty();
        let hellos = match self.role {
            Role::Client if self.flights > 1 => None,
            Role::Client => last_of(HELLO_VERIFY_REQUEST).or_else(|| last_of(SERVER_HELLO_DONE)),
            Role::Server => last_of(CLIENT_HELLO),
        };
        if let Some(last) = hellos {
            let done = last_of(SERVER_HELLO_DONE) == Some(last);
            self.flights = if done { 2 } else { self.flights.saturating_add(1) };
            self.hand_on_messages(last, out);
        } else if sealed && self.is_last_flight(&run) {
            if let Some((last, ..)) = run.last() {
                self.hand_on_messages(*last, out);
            }
            self.write(CHANGE_CIPHER_SPEC, &[1], out);
            out.extend(self.sealed.drain(..).flatten());
            self.last_handed_on = true;
        }
    }

    /// Whether these are all clear messages of the peer's last flight.
    fn is_last_flight(&self, run: &[(u16, u8, usize)]) -> bool {
        let length_of =
            |kind: u8| run.iter().find(|(_, other, _)| *other == kind).map(|(.., length)| *length);
        match self.role {
            Role::Client => self.flights > 1,
            Role::Server => {
                // Without a certificate there is nothing to verify; that is not for us to judge.
                let certified = length_of(CERTIFICATE).is_some_and(|length| length > NO_CERTIFICATE);
                length_of(CLIENT_KEY_EXCHANGE).is_some()
                    && (!certified || length_of(CERTIFICATE_VERIFY).is_some())
            }
        }
    }

    /// Writes the messages up to number `last`.
    fn hand_on_messages(&mut self, last: u16, out: &mut Vec<u8>) {
        while self.next <= last
            && let Some(message) = self.messages.remove(&self.next)
        {
            self.write_message(self.next, message.kind, &message.body, out);
            self.next = self.next.saturating_add(1);
        }
    }

    fn write_message(&mut self, number: u16, kind: u8, body: &[u8], out: &mut Vec<u8>) {
        let [.., l0, l1, l2] = body.len().to_be_bytes();
        let [s0, s1] = number.to_be_bytes();
        let header = [kind, l0, l1, l2, s0, s1, 0, 0, 0, l0, l1, l2];
        self.write(HANDSHAKE, &[&header, body].concat(), out);
    }

    fn write(&mut self, content: u8, body: &[u8], out: &mut Vec<u8>) {
        let Ok(length) = u16::try_from(body.len()) else { return };
        let [_, _, number @ ..] = self.record.to_be_bytes();
        self.record = self.record.saturating_add(1);
        out.extend_from_slice(&[content, 0xfe, 0xfd, 0, 0]);
        out.extend_from_slice(&number);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(body);
    }
}

impl Message {
    /// Puts `fragment` where it belongs, from `from` to `to`. What came first stays.
    fn fill(&mut self, from: usize, to: usize, fragment: &[u8]) {
        let mut gaps = Vec::new();
        for (start, end) in self.gaps.drain(..) {
            let (left, right) = (from.clamp(start, end), to.clamp(start, end));
            if let (Some(place), Some(bytes)) = (
                self.body.get_mut(left..right),
                fragment.get(left.saturating_sub(from)..right.saturating_sub(from)),
            ) {
                place.copy_from_slice(bytes);
                gaps.extend([(start, left), (right, end)].into_iter().filter(|(start, end)| start < end));
            } else {
                gaps.push((start, end));
            }
        }
        self.gaps = gaps;
        if self.gaps.len() > MAX_GAPS {
            // Nobody cuts a message like that: it begins anew.
            self.gaps = vec![(0, self.body.len())];
        }
    }
}

impl<'a> Record<'a> {
    /// The first record of `bytes`, and what is behind it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, behind) = bytes.split_first_chunk::<13>()?;
        let [content, major, _, e0, e1, .., l0, l1] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (whole, rest) = bytes.split_at_checked(length.saturating_add(13))?;
        let body = behind.get(..length)?;
        (major == 0xfe).then_some((Self { content, epoch: u16::from_be_bytes([e0, e1]), whole, body }, rest))
    }
}

fn usize_of([high, middle, low]: [u8; 3]) -> usize {
    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER_HELLO: u8 = 2;
    const SERVER_KEY_EXCHANGE: u8 = 12;
    const FINISHED: &[u8] = b"what nobody can read";

    fn record(content: u8, epoch: u8, number: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let mut record = vec![content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, number];
        record.extend(length);
        record.extend(body);
        record
    }

    fn body(kind: u8, length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap() ^ kind).collect()
    }

    /// One fragment of a message.
    fn part(number: u16, kind: u8, length: usize, from: usize, to: usize) -> Vec<u8> {
        let three = |value: usize| u32::try_from(value).unwrap().to_be_bytes()[1..].to_vec();
        let fragment = &body(kind, length)[from..to];
        let header =
            [vec![kind], three(length), number.to_be_bytes().to_vec(), three(from), three(fragment.len())];
        [&header.concat(), fragment].concat()
    }

    fn whole(number: u16, kind: u8, length: usize) -> Vec<u8> {
        record(HANDSHAKE, 0, 99, &part(number, kind, length, 0, length))
    }

    /// Kinds of the messages that were handed on; 20 for the change of cipher, 99 for what is
    /// encrypted. Numbers of records never repeat.
    fn kinds(out: &[u8]) -> Vec<u8> {
        let (mut kinds, mut rest) = (Vec::new(), out);
        while let Some((record, behind)) = Record::split(rest) {
            rest = behind;
            kinds.push(match (record.content, record.epoch) {
                (HANDSHAKE, 0) => {
                    let (kind, length) = (record.body[0], record.body.len() - 12);
                    assert_eq!(record.body[12..], body(kind, length), "{kind}");
                    kind
                }
                (HANDSHAKE, 1) => 99,
                (content, _) => content,
            });
        }
        assert_eq!(rest, b"");
        kinds
    }

    #[test]
    fn a_client_is_handed_whole_flights_in_whatever_pieces_they_come() {
        let mut flights = Flights::new(Role::Client);
        assert_eq!(flights.push(&whole(0, HELLO_VERIFY_REQUEST, 20)).map(|it| kinds(&it)), Some(vec![3]));
        let pieces = [
            whole(4, SERVER_HELLO_DONE, 0),
            record(HANDSHAKE, 0, 5, &part(2, CERTIFICATE, 900, 400, 900)),
            whole(1, SERVER_HELLO, 70),
            // A retransmission, cut in another place.
            record(HANDSHAKE, 0, 6, &part(2, CERTIFICATE, 900, 300, 600)),
            whole(1, SERVER_HELLO, 70),
            whole(0, HELLO_VERIFY_REQUEST, 20),
            whole(3, SERVER_KEY_EXCHANGE, 100),
        ];
        for piece in pieces {
            assert_eq!(flights.push(&piece), None);
        }
        let last = record(HANDSHAKE, 0, 7, &part(2, CERTIFICATE, 900, 0, 350));
        assert_eq!(flights.push(&last).map(|it| kinds(&it)), Some(vec![2, 11, 12, 14]));
        // The server did not get our answer and repeats itself: that is no news.
        assert_eq!(flights.push(&whole(3, SERVER_KEY_EXCHANGE, 100)), None);
        // The end, in disorder.
        assert_eq!(flights.push(&record(HANDSHAKE, 1, 0, FINISHED)), None);
        let out = flights.push(&record(CHANGE_CIPHER_SPEC, 0, 9, &[1])).unwrap();
        assert_eq!(kinds(&out), [20, 99]);
        assert!(out.ends_with(FINISHED));
    }

    #[test]
    fn a_server_is_handed_the_last_flight_with_or_without_a_certificate() {
        for (certificate, verify) in [(500, true), (NO_CERTIFICATE, false)] {
            let mut flights = Flights::new(Role::Server);
            assert_eq!(flights.push(&whole(0, CLIENT_HELLO, 60)).map(|it| kinds(&it)), Some(vec![1]));
            // It asks again as long as our request for the cookie is lost, and only so long.
            assert_eq!(flights.push(&whole(0, CLIENT_HELLO, 60)).map(|it| kinds(&it)), Some(vec![1]));
            assert_eq!(flights.push(&whole(1, CLIENT_HELLO, 80)).map(|it| kinds(&it)), Some(vec![1]));
            assert_eq!(flights.push(&whole(0, CLIENT_HELLO, 60)), None);
            let mut expected = vec![CERTIFICATE, CLIENT_KEY_EXCHANGE];
            let mut pieces = vec![whole(2, CERTIFICATE, certificate), whole(3, CLIENT_KEY_EXCHANGE, 66)];
            if verify {
                pieces.push(whole(4, CERTIFICATE_VERIFY, 80));
                expected.push(CERTIFICATE_VERIFY);
            }
            pieces.push(record(CHANGE_CIPHER_SPEC, 0, 5, &[1]));
            expected.extend([CHANGE_CIPHER_SPEC, 99]);
            for piece in pieces {
                assert_eq!(flights.push(&piece), None);
            }
            let out = flights.push(&record(HANDSHAKE, 1, 0, FINISHED)).unwrap();
            assert_eq!(kinds(&out), expected);
        }
    }

    #[test]
    fn after_the_end_only_what_is_encrypted_is_handed_on() {
        let mut flights = Flights::new(Role::Server);
        flights.establish();
        assert_eq!(flights.push(&whole(0, CLIENT_HELLO, 60)), None);
        assert_eq!(flights.push(&record(ALERT, 0, 1, &[2, 40])), None);
        let repeated = record(HANDSHAKE, 1, 2, FINISHED);
        assert_eq!(flights.push(&repeated), Some(repeated));
    }

    #[test]
    fn what_a_stranger_can_make_us_hold_is_bounded() {
        let mut flights = Flights::new(Role::Server);
        for number in 0..u16::MAX {
            let length = usize::from(number % 20_000) + 1;
            let kind = u8::try_from(number % 30).unwrap();
            let fragment = part(number, kind, length, length - 1, length);
            flights.push(&record(HANDSHAKE, 0, 1, &fragment));
            flights.push(&record(HANDSHAKE, 1, 1, FINISHED));
        }
        let held: usize = flights.messages.values().map(|message| message.body.len()).sum();
        assert!(held <= MAX_HELD && flights.sealed.len() <= MAX_SEALED, "{held}");
        // Every other octet of one message.
        let mut flights = Flights::new(Role::Client);
        for at in (0..MAX_MESSAGE).step_by(2) {
            flights.push(&record(HANDSHAKE, 0, 1, &part(0, SERVER_HELLO, MAX_MESSAGE, at, at + 1)));
            assert!(flights.messages[&0].gaps.len() <= MAX_GAPS);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(role in 0..2, datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let mut flights = Flights::new(if role == 0 { Role::Client } else { Role::Server });
            for datagram in datagrams {
                let _ = flights.push(&datagram);
                // As records, so that more than the first byte gets past.
                for content in [CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE] {
                    let _ = flights.push(&record(content, 0, 1, &datagram));
                }
            }
        }
    }
}
