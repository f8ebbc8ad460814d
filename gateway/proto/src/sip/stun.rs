//! The keep-alive of phones on UDP: a STUN binding request, answered with the address that it came
//! from (RFC 5626 section 4.4.2, RFC 5389). Nothing else of STUN is spoken here.
//!
//! The answer is at most 2.2 times as long as the shortest request (32 or 44 octets to 20), so the
//! port is of no use to who wants to flood somebody else.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

/// RFC 5389 section 6.
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_RESPONSE: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// From here on attributes may be passed over (RFC 5389 section 15).
const OPTIONAL: u16 = 0x8000;

/// Attributes that an error names; more are not needed to know that it is one.
const NAMED: usize = 4;

/// Whether it is STUN and not SIP: no SIP message begins with a zero (RFC 5389 section 8).
pub(super) fn is_stun(data: &[u8]) -> bool {
    data.first().is_some_and(|first| *first < 4) && data.get(4..8) == Some(&MAGIC)
}

/// The answer to a binding request; `None` when it is none, or is broken.
pub(super) fn answer(data: &[u8], from: SocketAddr) -> Option<Bytes> {
    let transaction = data.get(8..HEADER)?;
    let attributes = data.get(HEADER..)?;
    let said = usize::from(number(data.get(2..4)?)?);
    if number(data)? != BINDING_REQUEST || said != attributes.len() || said % 4 != 0 {
        return None;
    }
    let unknown = unknown(attributes)?;
    if unknown.is_empty() {
        return Some(message(BINDING_RESPONSE, transaction, &mapped(from, transaction)));
    }
    // 420 Unknown Attribute (section 7.3.1).
    let mut body = attribute(ERROR_CODE, &[0, 0, 4, 20]);
    let mut named: Vec<u8> = unknown.iter().take(NAMED).flat_map(|kind| kind.to_be_bytes()).collect();
    // A repeated one fills the last word, as RFC 3489 had it.
    if unknown.len() % 2 == 1 && unknown.len() < NAMED {
        named.extend(unknown.last().copied().unwrap_or_default().to_be_bytes());
    }
    body.extend(attribute(UNKNOWN_ATTRIBUTES, &named));
    Some(message(BINDING_ERROR, transaction, &body))
}

/// The attributes that must be understood and are not; `None`: they do not fit their lengths.
fn unknown(mut attributes: &[u8]) -> Option<Vec<u16>> {
    let mut unknown = Vec::new();
    while !attributes.is_empty() {
        let kind = number(attributes)?;
        let length = usize::from(number(attributes.get(2..)?)?);
        attributes = attributes.get(length.next_multiple_of(4).saturating_add(4)..)?;
        // A password is not asked for (RFC 5626 section 8), and is no reason to refuse.
        if kind < OPTIONAL && kind != USERNAME && kind != MESSAGE_INTEGRITY {
            unknown.push(kind);
        }
    }
    Some(unknown)
}

/// XOR-MAPPED-ADDRESS (RFC 5389 section 15.2): hidden from boxes that rewrite addresses.
fn mapped(from: SocketAddr, transaction: &[u8]) -> Vec<u8> {
    let key = || MAGIC.iter().chain(transaction);
    let (family, ip) = match from.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let hidden = |octets: &[u8]| -> Vec<u8> { octets.iter().zip(key()).map(|(a, b)| a ^ b).collect() };
    let value = [&[0, family][..], &hidden(&from.port().to_be_bytes()), &hidden(&ip)].concat();
    attribute(XOR_MAPPED_ADDRESS, &value)
}

/// Values are of whole words here.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

fn message(kind: u16, transaction: &[u8], body: &[u8]) -> Bytes {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), &MAGIC, transaction, body].concat().into()
}

fn number(data: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*data.first()?, *data.get(1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        message(BINDING_REQUEST, &[7; 12], attributes).to_vec()
    }

    /// The transaction and the addresses of RFC 5769 sections 2.2 and 2.3.
    #[test]
    fn the_address_is_hidden_as_in_the_vectors_of_rfc_5769() {
        let transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        let asked = message(BINDING_REQUEST, &transaction, &[]);
        let told = answer(&asked, "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(told[..4], [0x01, 0x01, 0, 12]);
        assert_eq!(told[4..20], asked[4..20]);
        assert_eq!(told[20..], [0x00, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let six = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let told = answer(&asked, six).unwrap();
        let hidden = [
            0x00, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25,
            0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(told[20..], hidden);
        assert!(told.len() * 10 <= asked.len() * 22, "promise 35: no reflection");
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_named() {
        let from = "192.0.2.1:5060".parse().unwrap();
        // SOFTWARE, USERNAME: nothing to complain of.
        let fine = [attribute(0x8022, b"abcd"), attribute(USERNAME, b"bob\0")].concat();
        assert_eq!(answer(&request(&fine), from).unwrap()[..2], BINDING_RESPONSE.to_be_bytes());
        for (count, named) in [(1, 4), (2, 4), (3, 8), (100, 8)] {
            let strange: Vec<u8> = (0..count).flat_map(|n| attribute(0x7f00 + n, &[0; 4])).collect();
            let told = answer(&request(&strange), from).unwrap();
            assert_eq!(told[..2], BINDING_ERROR.to_be_bytes());
            assert_eq!(told[20..28], [0, 9, 0, 4, 0, 0, 4, 20]);
            assert_eq!(told.len(), 32 + named);
            assert!(told.len() <= 2 * request(&strange).len());
        }
    }

    #[test]
    fn what_is_no_binding_request_gets_no_answer() {
        let from = "192.0.2.1:5060".parse().unwrap();
        let whole = request(&attribute(0x8022, b"abcd"));
        for length in 0..whole.len() {
            assert_eq!(answer(&whole[..length], from), None, "{length}");
        }
        let answered = answer(&whole, from).unwrap();
        assert_eq!(answer(&answered, from), None, "two servers do not talk for ever");
        let mut long = whole.clone();
        long[23] = 200;
        assert_eq!(answer(&long, from), None);
        assert!(!is_stun(b"OPTIONS sip:a@b SIP/2.0\r\n") && !is_stun(&[0; 20]) && is_stun(&whole));
    }
}
