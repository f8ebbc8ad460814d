//! H.264 in RTP (RFC 6184), packetization modes 0 and 1.
//!
//! Units travel as Annex B byte streams with start codes of four bytes.

mod depacketize;
mod packetize;
mod sets;

pub use depacketize::{H264Depacketizer, MAX_NALS, MAX_UNIT};
pub use packetize::H264Packetizer;

/// What stands before each NAL unit.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Types of NAL units that we tell apart (H.264 table 7-1, RFC 6184 table 1).
mod nal_type {
    pub(super) const SLICE: u8 = 1;
    pub(super) const IDR: u8 = 5;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
    pub(super) const STAP_A: u8 = 24;
    pub(super) const FU_A: u8 = 28;
}

/// The low five bits of the first byte.
const TYPE: u8 = 0x1f;
/// In an FU header: first fragment, last fragment (RFC 6184 section 5.8).
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// The type of a NAL unit; zero when it is empty.
fn kind(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |first| first & TYPE)
}

/// The NAL units of an Annex B byte stream, without start codes and the zeros that may follow a unit
/// (H.264 B.1.1). What stands before the first start code is left out.
pub fn nal_units(stream: &[u8]) -> NalUnits<'_> {
    let begin = next_start_code(stream).map_or(&[][..], |(_, rest)| rest);
    NalUnits { rest: begin }
}

/// Iterator of [`nal_units`].
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (unit, rest) = next_start_code(self.rest).unwrap_or((self.rest, &[]));
            self.rest = rest;
            // A unit never ends in a zero byte (H.264 section 7.4.1), so these belong to no unit.
            let end = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
            if let Some(unit) = unit.get(..end).filter(|unit| !unit.is_empty()) {
                return Some(unit);
            }
        }
        None
    }
}

/// What stands before the first start code, and what behind it.
fn next_start_code(stream: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memmem::find(stream, &[0, 0, 1])?;
    Some((stream.get(..at)?, stream.get(at.saturating_add(3)..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(stream: &[u8]) -> Vec<&[u8]> {
        nal_units(stream).collect()
    }

    #[test]
    fn start_codes_of_both_lengths_and_zeros_between() {
        let stream = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 0, 0, 1, 0x65, 0, 0, 3, 1, 0, 0];
        assert_eq!(units(&stream), [&[0x67, 1][..], &[0x68, 2], &[0x65, 0, 0, 3, 1]]);
    }

    #[test]
    fn streams_without_units() {
        assert!(units(&[]).is_empty());
        assert!(units(&[0x65, 1, 2, 3]).is_empty());
        assert!(units(&[0, 0, 1]).is_empty());
        assert!(units(&[0, 0, 1, 0, 0, 0, 0, 1, 0, 0]).is_empty());
        assert_eq!(units(&[9, 9, 0, 0, 1, 7]), [&[7][..]]);
    }

    #[test]
    fn every_offset_of_a_start_code_is_found() {
        for before in 0..9 {
            let mut stream = vec![0, 0, 1];
            stream.extend(vec![2; before + 1]);
            stream.extend([0, 0, 1, 0x65]);
            assert_eq!(units(&stream), [&vec![2; before + 1][..], &[0x65]], "{before}");
        }
    }
}
