//! Datagrams of a DTLS handshake.

use crosspoint_proto::dtls::{Flights, MAX_HELD, Role};

/// Datagrams, each behind its length in two octets: what is handed on is whole records, whose
/// numbers grow, with whole messages in their order and nothing twice.
pub fn flights(data: &[u8]) {
    let Some((first, mut rest)) = data.split_first() else { return };
    let role = if first & 1 == 0 { Role::Client } else { Role::Server };
    let mut flights = Flights::new(role);
    let (mut records, mut messages) = (0_u64, 0_u16);
    let mut taken = 0;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(behind.len());
        let (datagram, behind) = behind.split_at(length);
        rest = behind;
        taken += datagram.len();
        if let Some(out) = flights.push(datagram) {
            assert!(out.len() <= 2 * taken.max(MAX_HELD), "more than ever came");
            check(&out, &mut records, &mut messages);
        }
        if first & 2 != 0 && taken > 4096 {
            flights.establish();
        }
    }
}

fn check(mut out: &[u8], records: &mut u64, messages: &mut u16) {
    while !out.is_empty() {
        let (header, behind) = out.split_first_chunk::<13>().expect("a whole header");
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let (body, behind) = behind.split_at_checked(length).expect("a whole record");
        out = behind;
        assert!(!body.is_empty());
        // What is encrypted stays as it came.
        if header[3..5] != [0, 0] {
            continue;
        }
        let number = header[5..11].iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
        assert_eq!(number, *records, "a record's number");
        *records += 1;
        if header[0] == 22 {
            let (message, body) = body.split_first_chunk::<12>().expect("a message");
            assert_eq!(message[1..4], message[9..12], "one fragment");
            assert_eq!(message[6..9], [0, 0, 0]);
            let length = message[1..4].iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
            assert_eq!(length, body.len());
            let number = u16::from_be_bytes([message[4], message[5]]);
            // A hello may come again, before the second.
            assert!(
                number == *messages || number < *messages && message[0] == 1,
                "{number} after {messages}"
            );
            *messages = (*messages).max(number + 1);
        }
    }
}
