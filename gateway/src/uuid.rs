//! Names that nobody guesses and no two things share: UUIDs of version 4 (RFC 9562 section 5.4).

use std::fmt;

/// A UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(u128);

impl Uuid {
    /// A new one, from the system's generator.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        // Without randomness nothing of a gateway is safe: there would be no call either.
        if getrandom::fill(&mut bytes).is_err() {
            tracing::error!("the system has no random numbers");
        }
        Self::of(bytes)
    }

    /// The one that is made of `bytes`.
    pub const fn of(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(u128::from_be_bytes(bytes))
    }

    /// The one that `text` spells, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let spelled = Self(u128::from_str_radix(&text.replace('-', ""), 16).ok()?);
        spelled.to_string().eq_ignore_ascii_case(text).then_some(spelled)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, bits: u32| self.0 >> shift & ((1 << bits) - 1);
        let (a, b, c, d, e) = (part(96, 32), part(80, 16), part(64, 16), part(48, 16), part(0, 48));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_spelled_as_the_standard_spells_it() {
        let bytes: [u8; 16] = std::array::from_fn(|n| u8::try_from(n * 17).unwrap());
        let uuid = Uuid::of(bytes);
        assert_eq!(uuid.to_string(), "00112233-4455-4677-8899-aabbccddeeff");
        assert_eq!(Uuid::parse("00112233-4455-4677-8899-AABBCCDDEEFF"), Some(uuid));
        for wrong in
            ["", "00112233", "00112233445546778899aabbccddeeff", "+0112233-4455-4677-8899-aabbccddeeff"]
        {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
        assert_ne!(Uuid::random(), Uuid::random());
    }
}
