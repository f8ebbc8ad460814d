//! G.711 a block at a time. [`Law`] says what each sample and each byte is; here are the same
//! values by arithmetic that has no table and no branch, which vectors can do.
//!
//! A byte is a small floating-point number: three bits of exponent (the segment) and four of
//! mantissa (the step). So the conversion of a whole number to `f32` does the work of encoding: its
//! bits from 19 up are exponent and first four bits of mantissa, side by side as G.711 has them.
//!
//! Plain loops: what a level adds is the compiler's choice of instructions for them.

use fearless_simd::{Simd, dispatch};

use super::cpu::Cpu;
use crate::audio::g711::Law;

/// Bits of an `f32` below the first four of its mantissa.
const BELOW_STEP: u32 = 23 - 4;
/// Exponent bias of `f32`.
const BIAS: u32 = 127;
/// What mu-law adds: 33 in the Recommendation's 14 bits.
const MU_BIAS: i32 = 33 << 2;

/// Encodes as many samples as both slices hold.
pub fn encode(cpu: Cpu, law: Law, pcm: &[i16], out: &mut [u8]) {
    dispatch!(cpu.0, simd => encode_body(simd, law, pcm, out));
}

/// Decodes as many bytes as both slices hold.
pub fn decode(cpu: Cpu, law: Law, bytes: &[u8], out: &mut [i16]) {
    dispatch!(cpu.0, simd => decode_body(simd, law, bytes, out));
}

#[inline(always)]
fn encode_body<S: Simd>(_: S, law: Law, pcm: &[i16], out: &mut [u8]) {
    match law {
        Law::Mu => {
            for (byte, sample) in out.iter_mut().zip(pcm) {
                *byte = encode_mu(*sample);
            }
        }
        Law::A => {
            for (byte, sample) in out.iter_mut().zip(pcm) {
                *byte = encode_a(*sample);
            }
        }
    }
}

#[inline(always)]
fn decode_body<S: Simd>(_: S, law: Law, bytes: &[u8], out: &mut [i16]) {
    match law {
        Law::Mu => {
            for (sample, byte) in out.iter_mut().zip(bytes) {
                *sample = decode_mu(*byte);
            }
        }
        Law::A => {
            for (sample, byte) in out.iter_mut().zip(bytes) {
                *sample = decode_a(*byte);
            }
        }
    }
}

#[inline(always)]
fn encode_mu(sample: i16) -> u8 {
    let biased = i32::from(sample).wrapping_abs().wrapping_add(MU_BIAS).min(i32::from(i16::MAX));
    // The bias makes 2^7 the least that is converted: segment 0.
    let code = exponent_and_step(biased).wrapping_sub((BIAS + 7) << 4);
    !(low_byte(code) | sign(sample))
}

#[inline(always)]
fn encode_a(sample: i16) -> u8 {
    // Minus one lies in the first negative step, as zero in the first positive.
    let magnitude = i32::from(sample ^ (sample >> 15)) >> 4;
    // Segments 0 and 1 have steps of one size, so the number itself serves for both up to 31; from
    // segment 1 on (2^4) it is the exponent.
    let code = exponent_and_step(magnitude).wrapping_sub((BIAS + 3) << 4);
    let code = if magnitude < 16 { low_byte(magnitude.cast_unsigned()) } else { low_byte(code) };
    (code | (sign(sample) ^ 0x80)) ^ 0x55
}

#[inline(always)]
fn decode_mu(byte: u8) -> i16 {
    let code = i16::from(!byte);
    // The middle of the step: 2 x step + 33, shifted by the segment, without the bias.
    let magnitude = (((code & 0x0f) << 3) + 0x84).wrapping_shl(segment(code)).wrapping_sub(0x84);
    if code & 0x80 != 0 { -magnitude } else { magnitude }
}

#[inline(always)]
fn decode_a(byte: u8) -> i16 {
    let code = i16::from(byte ^ 0x55);
    let middle = ((code & 0x0f) << 4) + 8;
    // Segment 0 has no leading one, and steps of the size of segment 1.
    let lead = if code & 0x70 == 0 { 0 } else { 0x100 };
    let magnitude = (middle + lead).wrapping_shl(segment(code).saturating_sub(1));
    if code & 0x80 != 0 { magnitude } else { -magnitude }
}

#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "numbers of 15 bits")]
const fn exponent_and_step(value: i32) -> u32 {
    (value as f32).to_bits() >> BELOW_STEP
}

#[inline(always)]
const fn segment(code: i16) -> u32 {
    ((code >> 4) & 7).cast_unsigned() as u32
}

/// The sample's sign at the byte's highest bit.
#[inline(always)]
const fn sign(sample: i16) -> u8 {
    low_byte((sample.cast_unsigned() >> 8) as u32) & 0x80
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "callers keep to eight bits")]
const fn low_byte(value: u32) -> u8 {
    value as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value, at every place of a vector and of the rest behind it.
    #[test]
    fn every_level_has_the_values_of_the_tables() {
        let samples: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let codes: Vec<u8> = (0..=255).cycle().take(1_021).collect();
        for cpu in Cpu::available() {
            for law in [Law::Mu, Law::A] {
                for start in [0, 1, 7, 64_000] {
                    let samples = &samples[start..];
                    let mut bytes = vec![0; samples.len()];
                    encode(cpu, law, samples, &mut bytes);
                    let expected: Vec<u8> = samples.iter().map(|sample| law.encode(*sample)).collect();
                    assert!(bytes == expected, "{law:?} from {start} by {cpu:?}");
                }
                for start in [0, 3, 900] {
                    let codes = &codes[start..];
                    let mut pcm = vec![0; codes.len()];
                    decode(cpu, law, codes, &mut pcm);
                    let expected: Vec<i16> = codes.iter().map(|code| law.decode(*code)).collect();
                    assert_eq!(pcm, expected, "{law:?} from {start} by {cpu:?}");
                }
            }
        }
    }

    #[test]
    fn the_shorter_slice_is_the_end() {
        let (mut bytes, mut pcm) = ([1; 3], [1; 3]);
        encode(Cpu::detect(), Law::A, &[0; 2], &mut bytes);
        decode(Cpu::detect(), Law::Mu, &[0xff; 9], &mut pcm);
        assert_eq!((bytes, pcm), ([0xd5, 0xd5, 1], [0; 3]));
    }
}
