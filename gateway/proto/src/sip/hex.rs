//! Octets as hexadecimal text: digests (RFC 7616 section 3.2), tags, branches.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two small digits for each octet. One allocation, as each message has some: a formatter would take a
/// microsecond for a digest.
pub(super) fn hex(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().saturating_mul(2));
    for octet in octets {
        for digit in [octet >> 4, octet & 0xf] {
            text.push(DIGITS.get(usize::from(digit)).copied().map_or('0', char::from));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_is_spelled_as_a_formatter_does() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(hex(&all), all.iter().map(|octet| format!("{octet:02x}")).collect::<String>());
        assert_eq!(hex(&[]), "");
    }
}
