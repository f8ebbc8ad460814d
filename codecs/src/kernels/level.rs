//! How loud a piece of sound is: energy and peak in one pass, and the level of RFC 6464.

use fearless_simd::{Bytes, Simd, SimdBase, SimdIntWiden, SimdWiden, dispatch};

use super::cpu::Cpu;

/// The level of silence, and the least that is told.
pub const SILENCE: u8 = 127;

/// What one pass over a block of samples finds. Both numbers are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loudness {
    /// Number of samples.
    pub len: usize,
    /// Sum of their squares. 2^34 samples at the rails fit.
    pub energy: u64,
    /// The largest magnitude, 0 to 32768.
    pub peak: u16,
}

impl Loudness {
    /// Measures a block.
    pub fn of(cpu: Cpu, pcm: &[i16]) -> Self {
        dispatch!(cpu.0, simd => measure(simd, pcm))
    }

    /// Both blocks as one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            len: self.len + other.len,
            energy: self.energy.wrapping_add(other.energy),
            peak: self.peak.max(other.peak),
        }
    }

    /// Root mean square, in steps of a sample; 0 of no samples.
    #[allow(clippy::cast_precision_loss, reason = "f64 keeps more than a reader of levels can use")]
    pub fn rms(self) -> f64 {
        if self.len == 0 { 0.0 } else { (self.energy as f64 / self.len as f64).sqrt() }
    }

    /// The level in -dBov: 0 is a square wave at full scale, 127 silence (RFC 6464 section 3 and
    /// RFC 6465 appendix A: root mean square over the overload point).
    pub fn level(self) -> u8 {
        level_of(self.energy, self.len)
    }
}

#[inline(always)]
fn measure<S: Simd>(simd: S, pcm: &[i16]) -> Loudness {
    let zero = S::i16s::splat(simd, 0);
    let (mut lowest, mut highest, mut energy) = (zero, zero, S::u64s::splat(simd, 0));
    let mut vectors = pcm.chunks_exact(S::i16s::LEN);
    for vector in &mut vectors {
        let samples = S::i16s::from_slice(simd, vector);
        lowest = lowest.min(samples);
        highest = highest.max(samples);
        // Two squares of -32768 are 2^31: too much for the signed sum, but its bits are right.
        let pairs: S::u32s = samples.pairwise_dot_product(samples).bitcast();
        let (low, high) = pairs.widen();
        energy = energy + low + high;
    }
    let vectorised = Loudness {
        len: pcm.len() - vectors.remainder().len(),
        energy: energy.reduce_sum(),
        peak: lowest.reduce_min().unsigned_abs().max(highest.reduce_max().unsigned_abs()),
    };
    vectorised.and(plain(vectors.remainder()))
}

/// The specification.
#[inline(always)]
fn plain(pcm: &[i16]) -> Loudness {
    let mut loudness = Loudness { len: pcm.len(), energy: 0, peak: 0 };
    for sample in pcm {
        let magnitude = sample.unsigned_abs();
        loudness.peak = loudness.peak.max(magnitude);
        loudness.energy = loudness.energy.wrapping_add(u64::from(magnitude).wrapping_mul(magnitude.into()));
    }
    loudness
}

/// [`Loudness::level`] of a block by the plain code: for where a level is the only kernel.
pub fn level(pcm: &[i16]) -> u8 {
    plain(pcm).level()
}

/// The level of `len` samples whose squares sum to `energy`.
#[allow(clippy::cast_precision_loss, reason = "a level in whole dB needs no more than f64 keeps")]
pub fn level_of(energy: u64, len: usize) -> u8 {
    if energy == 0 || len == 0 {
        return SILENCE;
    }
    let overload = f64::from(i16::MAX).powi(2) * len as f64;
    let below = -10.0 * (energy as f64 / overload).log10();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=127")]
    let level = below.round().clamp(0.0, f64::from(SILENCE)) as u8;
    level
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::audio::signals::tone;

    #[test]
    fn the_rails_are_exact_at_every_level() {
        for cpu in Cpu::available() {
            for len in [0, 1, 7, 31, 64, 97, 960, 5_001] {
                for (sample, square) in [(i16::MIN, 1u64 << 30), (i16::MAX, 32_767 * 32_767), (0, 0)] {
                    let expected = Loudness {
                        len,
                        energy: len as u64 * square,
                        peak: if len == 0 { 0 } else { sample.unsigned_abs() },
                    };
                    assert_eq!(Loudness::of(cpu, &vec![sample; len]), expected, "{cpu:?}");
                }
            }
        }
    }

    #[test]
    fn rms_and_level_agree() {
        let square = Loudness::of(Cpu::detect(), &[-1_000, 1_000, -1_000]);
        assert_eq!((square.rms(), square.peak, square.level()), (1_000.0, 1_000, 30));
        assert_eq!((Loudness::default().rms(), Loudness::default().level()), (0.0, 127));
    }

    proptest! {
        #[test]
        fn every_level_is_the_plain_code(pcm in vec(any::<i16>(), 0..1_000), start in 0usize..9) {
            let pcm = &pcm[start.min(pcm.len())..];
            for cpu in Cpu::available() {
                prop_assert_eq!(Loudness::of(cpu, pcm), plain(pcm), "{:?}", cpu);
            }
        }
    }

    #[test]
    fn known_levels() {
        assert_eq!(level(&[]), 127);
        assert_eq!(level(&[0; 960]), 127);
        assert_eq!(level(&[i16::MAX; 960]), 0);
        assert_eq!(level(&[i16::MIN; 960]), 0);
        // A sine at full scale is 3 dB below the square wave.
        assert_eq!(level(&tone(48_000, 1_000.0, 32_767.0, 960)), 3);
        assert_eq!(level(&tone(48_000, 1_000.0, 3_276.7, 960)), 23);
        assert_eq!(level(&[1; 960]), 90);
    }
}
