//! Gains, and blocks of samples with the gain on them.

use fearless_simd::{Simd, SimdBase, SimdWiden};

/// A factor for samples: 14 bits after the point, 0 to just under 4 (+12 dB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gain(u16);

impl Gain {
    /// Leaves each sample as it is, bit for bit.
    pub const ONE: Self = Self(1 << POINT);
    /// Leaves nothing.
    pub const ZERO: Self = Self(0);

    /// The nearest to `factor`; at the ends of the range where it lies beyond them, zero for what
    /// is not a number.
    pub fn of(factor: f32) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let steps = (factor * f32::from(Self::ONE.0)).round() as u16;
        Self(steps)
    }

    /// One gain after the other, rounded down; at the end of the range where it lies beyond.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        let product = (u32::from(self.0) * u32::from(other.0)) >> POINT;
        Self(u16::try_from(product).unwrap_or(u16::MAX))
    }
}

/// Bits of a [`Gain`] after the point.
const POINT: u32 = 14;

/// The gain over one block: it moves in a straight line from that of the block before to `to`,
/// which its last sample has. So a change makes no step, and a fade is a few blocks of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fade {
    /// Gain of the sample before this block.
    pub from: Gain,
    /// Gain of its last sample.
    pub to: Gain,
}

impl Fade {
    /// No change, no loss.
    pub const NONE: Self = Self::steady(Gain::ONE);

    /// One gain all along.
    pub const fn steady(gain: Gain) -> Self {
        Self { from: gain, to: gain }
    }

    /// How much the gain moves with each of `len` samples, with [`POINT`] more bits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "len is at most 960")]
    pub(super) const fn step(self, len: usize) -> i32 {
        let distance = self.to.0 as i32 - self.from.0 as i32;
        if len == 0 { 0 } else { (distance << POINT) / len as i32 }
    }

    /// What one input counts for in the bound of a bus: the least whole number of plain inputs
    /// that are as loud.
    pub(super) fn weight(self) -> usize {
        usize::from(self.from.max(self.to).0).div_ceil(usize::from(Gain::ONE.0)).max(1)
    }
}

/// The specification of a gain: the product, rounded to the nearest, halves upwards. Its
/// magnitude stays below 2^17, so it never saturates here.
#[inline(always)]
pub(super) const fn amplify(sample: i16, gain: i32) -> i32 {
    (sample as i32).wrapping_mul(gain).wrapping_add(1 << (POINT - 1)) >> POINT
}

/// The specification of a fade: the gain of sample `n` (from 0). The step was cut to whole
/// numbers, by less than one for each of at most 960 samples: rounding brings the last sample to
/// [`Fade::to`] exactly.
#[inline(always)]
pub(super) const fn gain_at(from: Gain, step: i32, n: i32) -> i32 {
    let moved = step.wrapping_mul(n.wrapping_add(1)).wrapping_add(1 << (POINT - 1)) >> POINT;
    (from.0 as i32).wrapping_add(moved)
}

/// Walks through a block with the gain of a fade, a vector at a time, then a sample at a time.
pub(super) struct Amplifier<S: Simd> {
    simd: S,
    fade: Fade,
    step: i32,
    /// Number of the next sample, and those of the vector's lanes after it.
    next: i32,
    lane: S::i32s,
}

impl<S: Simd> Amplifier<S> {
    #[inline(always)]
    pub(super) fn new(simd: S, fade: Fade, len: usize) -> Self {
        let lane = S::i32s::from_fn(simd, lane_number);
        Self { simd, fade, step: fade.step(len), next: 0, lane }
    }

    #[inline(always)]
    pub(super) fn next(&mut self, block: &[i16]) -> (S::i32s, S::i32s) {
        let (low, high) = S::i16s::from_slice(self.simd, block).widen();
        if self.fade == Fade::NONE {
            self.next += lane_number(block.len());
            return (low, high);
        }
        (self.amplified(low), self.amplified(high))
    }

    #[inline(always)]
    fn amplified(&mut self, samples: S::i32s) -> S::i32s {
        let half = 1 << (POINT - 1);
        let moved = ((self.lane + (self.next + 1)) * self.step + half) >> POINT;
        self.next += lane_number(S::i32s::LEN);
        (samples * (moved + i32::from(self.fade.from.0)) + half) >> POINT
    }

    #[inline(always)]
    pub(super) fn one(&mut self, sample: i16) -> i32 {
        let gain = gain_at(self.fade.from, self.step, self.next);
        self.next += 1;
        amplify(sample, gain)
    }
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "lanes of one vector")]
const fn lane_number(lane: usize) -> i32 {
    lane as i32
}
