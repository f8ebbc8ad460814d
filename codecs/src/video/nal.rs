//! H.264 byte streams (Annex B) and the bits of their NAL units.

/// NAL unit types (Table 7-1), as far as we name them.
pub mod kind {
    /// A slice of a picture that is not an IDR.
    pub const SLICE: u8 = 1;
    /// A slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const DELIMITER: u8 = 9;
}

/// The type of a NAL unit; zero, which is none, for no bytes.
pub fn kind_of(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

/// The NAL units of an access unit with start codes of three or four bytes, without them and
/// without the zeros that may follow a unit. Bytes before the first start code are skipped.
pub fn nal_units(unit: &[u8]) -> NalUnits<'_> {
    let rest = match start_code(unit) {
        Some((_, after)) => unit.get(after..).unwrap_or(&[]),
        None => &[],
    };
    NalUnits { rest }
}

/// See [`nal_units`].
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (nal, rest) = match start_code(self.rest) {
                Some((end, after)) => (self.rest.get(..end)?, self.rest.get(after..)?),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            // The last byte of a unit is never zero (7.4.1): such zeros belong to the stream.
            let len = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if let Some(nal) = nal.get(..len).filter(|nal| !nal.is_empty()) {
                return Some(nal);
            }
        }
        None
    }
}

/// Where the first 00 00 01 begins and where it ends.
fn start_code(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    // The third byte tells how far the next one can be away.
    while let Some([first, second, third]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        at += match third {
            0 => 1,
            1 if *first == 0 && *second == 0 => return Some((at, at + 3)),
            _ => 3,
        };
    }
    None
}

/// Reads the bits of a NAL unit's payload, leaving out emulation prevention (7.3.1).
#[derive(Clone, Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    zeros: u8,
    current: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    /// From the byte after the NAL unit's header.
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { bytes: payload, zeros: 0, current: 0, left: 0 }
    }

    /// One bit; `None` at the end, as for all others.
    pub fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            let (mut byte, mut rest) = self.bytes.split_first()?;
            if self.zeros >= 2 && *byte == 3 {
                (byte, rest) = rest.split_first()?;
                self.zeros = 0;
            }
            self.zeros = if *byte == 0 { self.zeros.saturating_add(1) } else { 0 };
            (self.current, self.bytes, self.left) = (*byte, rest, 8);
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 != 0)
    }

    /// `count` bits, at most 32: u(n).
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value: u32 = 0;
        for _ in 0..count.min(32) {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// An Exp-Golomb code: ue(v). `None` also above 2^32 - 2.
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.bits(zeros)?;
        Some(((1u32 << zeros) - 1).wrapping_add(rest))
    }

    /// A signed Exp-Golomb code: se(v).
    pub fn signed(&mut self) -> Option<i32> {
        let code = self.unsigned()?;
        let magnitude = i32::try_from(code.div_ceil(2)).ok()?;
        Some(if code % 2 == 0 { -magnitude } else { magnitude })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_of_both_lengths_and_stray_zeros() {
        let unit = [0xff, 0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 0, 0, 2, 0, 0, 0];
        let nals: Vec<&[u8]> = nal_units(&unit).collect();
        assert_eq!(nals, [&[0x67, 1][..], &[0x68, 2], &[0x65, 0, 0, 2]]);
        assert_eq!(
            nals.iter().map(|nal| kind_of(nal)).collect::<Vec<_>>(),
            [kind::SPS, kind::PPS, kind::IDR]
        );
        assert_eq!(nal_units(&[0, 0, 1, 0, 0, 1, 9]).collect::<Vec<_>>(), [&[9][..]]);
        for none in [&[][..], &[1, 2, 3], &[0, 0], &[0, 0, 1], &[0, 0, 1, 0, 0]] {
            assert_eq!(nal_units(none).count(), 0, "{none:?}");
        }
    }

    #[test]
    fn golomb_codes() {
        // 1 | 010 | 011 | 00100 | 0001000 (0, 1, 2, 3, 7)
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0001, 0b0001_0000]);
        let values: Vec<u32> = (0..5).map_while(|_| bits.unsigned()).collect();
        assert_eq!(values, [0, 1, 2, 3, 7]);
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let values: Vec<i32> = (0..5).map_while(|_| bits.signed()).collect();
        assert_eq!(values, [0, 1, -1, 2, -2]);
        assert_eq!(Bits::new(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff]).unsigned(), None);
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0, 0, 0, 1]).unsigned(), Some(0x7fff_ffff));
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0, 0, 0]).unsigned(), None);
    }

    #[test]
    fn emulation_prevention_is_left_out() {
        let mut bits = Bits::new(&[0, 0, 3, 1, 0, 0, 3, 3]);
        assert_eq!((bits.bits(32), bits.bits(16), bits.bit()), (Some(0x0000_0100), Some(0x0003), None));
    }
}
