//! A peak limiter for a mix: takes sums wider than a sample and makes them fit without clipping.
//!
//! It looks one millisecond ahead, and so much is its delay. Sound is cut into parts of one
//! millisecond, and each part needs a gain: one where its peak is no higher than [`CEILING`], less
//! where it is. The gain at the border of two parts is no more than either needs, and within a part
//! it moves in a straight line. So it never steps, and no sample passes the ceiling:
//!
//! ```text
//! parts     | 0.9 of ceiling |  2.0 of it  |  1.1 of it  |
//! needs     |      1.0       |     0.5     |    0.91     |
//! borders  1.0              0.5           0.5           0.502 (rising again)
//! ```
//!
//! Sound passes bit for bit unless something was above the ceiling in the last half second.

use std::time::Duration;

use fearless_simd::{Simd, SimdBase, SimdFloat, SimdInt, SimdNarrow, dispatch, f32x8, i32x8};

use super::cpu::Cpu;
use super::resample::RATES;
use crate::codec::CodecError;

/// No output is above this magnitude: 0.2 dB below full scale. The distance is for rounding, and
/// for a codec that swings a little over what it was given.
pub const CEILING: i32 = 32_000;

/// How far the gain rises again with each part. From a half to one in 250 ms, as long as a
/// syllable: quicker would pump the noise up between syllables, slower leave a voice quiet after
/// somebody's cough. In a straight line, so that it arrives at one, and from anywhere within 500 ms.
const RELEASE: f32 = 0.002;

/// Parts a second.
const PARTS: u32 = 1_000;

/// Samples in a part at the highest rate.
const LONGEST: usize = 48;

/// Samples that are worked on at once. A part of any of our rates is a whole number of these.
const LANES: usize = 8;

/// Limits one stream. No call allocates.
#[derive(Clone, Debug)]
pub struct Limiter {
    part: usize,
    /// The newest part, which waits for its successor, and the gain that it needs.
    held: [i32; LONGEST],
    needs: f32,
    /// Gain at the beginning of that part; never above what it needs.
    gain: f32,
    cpu: Cpu,
}

impl Limiter {
    /// For sound of `rate`, one of [`RATES`].
    pub fn new(cpu: Cpu, rate: u32) -> Result<Self, CodecError> {
        if !RATES.contains(&rate) {
            return Err(CodecError::Unsupported("not a sample rate of ours"));
        }
        let part = usize::try_from(rate / PARTS).unwrap_or(LONGEST);
        Ok(Self { part, held: [0; LONGEST], needs: 1.0, gain: 1.0, cpu })
    }

    /// How far the output lies behind the input.
    pub const fn delay() -> Duration {
        Duration::from_nanos(1_000_000_000 / PARTS as u64)
    }

    /// The gain now: one while nothing is limited.
    pub const fn gain(&self) -> f32 {
        self.gain
    }

    /// Forgets the past, as at the start of a stream.
    pub fn reset(&mut self) {
        (self.held, self.needs, self.gain) = ([0; LONGEST], 1.0, 1.0);
    }

    /// Limits a block of whole milliseconds; as many samples come out as go in. Sums are of up to
    /// 31 bits, of which 24 count: those of 256 parties at full scale are exact.
    pub fn process(&mut self, sums: &[i32], out: &mut [i16]) -> Result<(), CodecError> {
        if sums.len() != out.len() {
            return Err(CodecError::Room { needed: sums.len(), room: out.len() });
        }
        if !sums.len().is_multiple_of(self.part) {
            return Err(CodecError::Unsupported("a limiter takes whole milliseconds"));
        }
        dispatch!(self.cpu.0, simd => self.process_body(simd, sums, out));
        Ok(())
    }

    #[inline(always)]
    fn process_body<S: Simd>(&mut self, simd: S, sums: &[i32], out: &mut [i16]) {
        let mut held = self.held;
        for (part, out) in sums.chunks_exact(self.part).zip(out.chunks_exact_mut(self.part)) {
            let border = self.border(peak(simd, part));
            apply(simd, self.gain, border, &held[..self.part], out);
            self.gain = border;
            held[..self.part].copy_from_slice(part);
        }
        self.held = held;
    }

    /// The gain between the part that is held and the one whose peak is given.
    #[inline(always)]
    fn border(&mut self, peak: u32) -> f32 {
        let next = needed(peak);
        let border = (self.gain + RELEASE).min(self.needs).min(next);
        self.needs = next;
        border
    }
}

#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "a relative error of 2^-24 is within the ceiling's distance")]
fn needed(peak: u32) -> f32 {
    if peak <= CEILING.unsigned_abs() { 1.0 } else { CEILING as f32 / peak as f32 }
}

#[inline(always)]
fn peak<S: Simd>(simd: S, part: &[i32]) -> u32 {
    let zero = i32x8::splat(simd, 0);
    let (mut lowest, mut highest) = (zero, zero);
    for sums in part.as_chunks::<LANES>().0 {
        let sums = i32x8::from_slice(simd, sums);
        lowest = lowest.min(sums);
        highest = highest.max(sums);
    }
    lowest.reduce_min().unsigned_abs().max(highest.reduce_max().unsigned_abs())
}

/// A part with a gain that moves from `from` to `to`, which its last sample has.
#[inline(always)]
fn apply<S: Simd>(simd: S, from: f32, to: f32, part: &[i32], out: &mut [i16]) {
    let (distance, share) = (to - from, share(part.len()));
    let half = f32x8::splat(simd, 0.5);
    let mut number = f32x8::from_fn(simd, ordinal);
    for (sums, out) in part.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
        let gain = number * share * distance + from;
        let value = i32x8::from_slice(simd, sums).to_float::<f32x8<S>>() * gain;
        let rounded: i32x8<S> = (value + half.copysign(value)).to_int();
        let samples = rounded.saturating_narrow(rounded);
        out.copy_from_slice(&samples.as_slice()[..LANES]);
        number += f32x8::splat(simd, 8.0);
    }
}

/// The specification of one sample, the `n`th of its part from 0.
#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "sums of up to 24 bits are exact")]
fn apply_plain(from: f32, to: f32, n: usize, len: usize, sum: i32) -> i16 {
    crate::audio::saturate_f32(sum as f32 * (ordinal(n) * share(len) * (to - from) + from))
}

#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "numbers of at most 48")]
const fn ordinal(n: usize) -> f32 {
    (n + 1) as f32
}

#[inline(always)]
#[allow(clippy::cast_precision_loss, reason = "numbers of at most 48")]
const fn share(len: usize) -> f32 {
    1.0 / len as f32
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::audio::signals::{noise, tone};

    /// The specification, sample by sample.
    struct Plain {
        part: usize,
        held: Vec<i32>,
        needs: f32,
        gain: f32,
    }

    impl Plain {
        fn new(rate: u32) -> Self {
            let part = (rate / PARTS) as usize;
            Self { part, held: vec![0; part], needs: 1.0, gain: 1.0 }
        }

        fn process(&mut self, sums: &[i32]) -> Vec<i16> {
            let mut out = Vec::new();
            for part in sums.chunks(self.part) {
                let next = needed(part.iter().map(|sum| sum.unsigned_abs()).max().unwrap());
                let border = (self.gain + RELEASE).min(self.needs).min(next);
                for (n, sum) in self.held.iter().enumerate() {
                    out.push(apply_plain(self.gain, border, n, self.part, *sum));
                }
                (self.gain, self.needs, self.held) = (border, next, part.to_vec());
            }
            out
        }
    }

    fn wide(pcm: &[i16], times: i32) -> Vec<i32> {
        pcm.iter().map(|sample| i32::from(*sample) * times).collect()
    }

    fn limited(rate: u32, sums: &[i32]) -> Vec<i16> {
        let mut out = vec![0; sums.len()];
        Limiter::new(Cpu::detect(), rate).unwrap().process(sums, &mut out).unwrap();
        out
    }

    #[test]
    fn what_fits_passes_bit_for_bit_a_millisecond_later() {
        for rate in RATES {
            let part = (rate / 1_000) as usize;
            // 23197 is the largest sample below -3 dBFS; what is said here is more.
            for peak in [23_197, CEILING] {
                let pcm = noise(3, peak, part * 100);
                let out = limited(rate, &wide(&pcm, 1));
                assert_eq!(out[..part], vec![0; part], "{rate}");
                assert_eq!(out[part..], pcm[..part * 99], "{rate}");
            }
        }
    }

    #[test]
    fn nothing_passes_the_ceiling_however_loud() {
        let mut sums = wide(&noise(7, 32_767, 48 * 50), 65_536);
        sums.extend(wide(&tone(48_000, 300.0, 32_000.0, 48 * 50), 7));
        sums.extend([i32::MIN; 48]);
        sums.extend([i32::MAX; 48]);
        sums.extend([0; 48]);
        let loudest = limited(48_000, &sums).into_iter().map(|sample| i32::from(sample).abs()).max();
        assert!(loudest <= Some(CEILING), "{loudest:?}");
        assert!(loudest > Some(CEILING - 10), "{loudest:?}");
    }

    /// A constant shows the gain: onset, hold and release without a step.
    #[test]
    fn the_gain_moves_without_a_step_and_comes_back_to_one() {
        let mut sums = vec![20_000; 48 * 20];
        sums.extend(vec![100_000; 48 * 20]);
        sums.extend(vec![20_000; 48 * 600]);
        let (mut limiter, mut out) = (Limiter::new(Cpu::detect(), 48_000).unwrap(), Vec::new());
        for block in sums.chunks(960) {
            let mut room = [0; 960];
            limiter.process(block, &mut room).unwrap();
            out.extend(room);
        }
        let gains: Vec<f32> = out[48..].iter().zip(&sums).map(|(y, x)| f32::from(*y) / *x as f32).collect();
        let steepest = gains.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        // From 1.0 to 0.32 within 48 samples, and the rounding of samples.
        assert!(steepest < 0.68 / 48.0 + 0.000_2, "{steepest}");
        assert_eq!((limiter.gain(), out.last()), (1.0, Some(&20_000)));
        // 0.68 by steps of 0.002 a millisecond.
        let back = gains.iter().rposition(|gain| *gain < 1.0).unwrap() / 48;
        assert!((375..=385).contains(&back), "{back} ms");
    }

    #[test]
    fn blocks_that_do_not_fit_are_refused() {
        let mut limiter = Limiter::new(Cpu::detect(), 8_000).unwrap();
        assert_eq!(limiter.process(&[0; 8], &mut [0; 7]), Err(CodecError::Room { needed: 8, room: 7 }));
        assert!(limiter.process(&[0; 9], &mut [0; 9]).is_err());
        assert_eq!(limiter.process(&[90_000; 8], &mut [0; 8]), Ok(()));
        limiter.reset();
        let mut out = [1; 8];
        assert_eq!(limiter.process(&[0; 8], &mut out), Ok(()));
        assert_eq!((out, limiter.gain()), ([0; 8], 1.0));
        assert!(Limiter::new(Cpu::detect(), 44_100).is_err());
    }

    proptest! {
        #[test]
        fn every_level_is_the_plain_code(
            rate in prop::sample::select(RATES.to_vec()),
            parts in vec((any::<u64>(), 1i32..32_768, prop_oneof![Just(1), 1i32..65_536]), 1..20),
        ) {
            let part = (rate / PARTS) as usize;
            let sums: Vec<i32> = parts.iter()
                .flat_map(|(seed, peak, times)| wide(&noise(*seed, *peak, part), *times))
                .collect();
            let expected = Plain::new(rate).process(&sums);
            for cpu in Cpu::available() {
                let mut limiter = Limiter::new(cpu, rate).unwrap();
                let mut out = vec![0; sums.len()];
                // In two blocks: the state carries over.
                let cut = parts.len() / 2 * part;
                limiter.process(&sums[..cut], &mut out[..cut]).unwrap();
                limiter.process(&sums[cut..], &mut out[cut..]).unwrap();
                prop_assert_eq!(&out, &expected, "{:?}", cpu);
            }
        }
    }
}
