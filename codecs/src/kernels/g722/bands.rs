//! The adaptive predictors and quantizers of both half bands, low and high.
//!
//! Bounds that hold always, and so need no saturation:
//!
//! - Scale factors are 8 to 16384, values of codes at most 20456 of the low and 7408 of the high band
//!   in Q15: a quantized difference is at most 10228, twice that has 16 bits.
//! - A zero that is at most 2^15 becomes 255/256 of that and 128 more, which is at most 2^15 again.
//! - The second pole is at most 12288, so that the bound of the first is 3072 to 27648. Either, before
//!   it is bounded, is less than 400 more than it was.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, i16x8, i32x4};

use super::tables::{
    Choice, HIGH_CHOICES, HIGH_HIGHEST, HIGH_LEVEL, LOW_CHOICES, LOW_HIGHEST, LOW_SCALES, SCALES, THRESHOLDS,
};

/// Sets all lanes but the five first to zero: of six differences the oldest goes, two lanes are none.
const FIVE: [i16; 8] = [-1, -1, -1, -1, -1, 0, 0, 0];

/// What adapts, between two packets.
#[derive(Clone, Debug)]
pub(super) struct Bands {
    vectors: Vectors<[i16; 8]>,
    scales: Scales,
}

/// What adapts, while a packet is coded.
pub(super) struct Lanes<S: Simd> {
    simd: S,
    vectors: Vectors<i16x8<S>>,
    scales: Scales,
}

/// The first two lanes of a vector are the low and the high band, what the others hold is of no matter;
/// except where there is a vector for each band.
#[derive(Clone, Copy, Debug)]
struct Vectors<V> {
    /// Prediction of the next sample, and the part of it that the zeros make.
    predicted: V,
    by_zeros: V,
    /// Twice the reconstructed signal, saturated.
    doubled: V,
    /// The sign of the partially reconstructed signal, newest first: all bits are set where it is *not*
    /// negative.
    positive: [V; 2],
    /// Coefficients of the two poles, Q14.
    poles: [V; 2],
    /// Of each band the six zeros, Q14, and the quantized differences, newest first; two lanes of zeros
    /// are never seen, since two of differences are 0.
    zeros: [V; 2],
    differences: [V; 2],
}

/// Logarithmic and linear scale factors of both bands.
#[derive(Clone, Copy, Debug)]
struct Scales {
    logarithmic: [i32; 2],
    linear: [i16; 2],
}

impl<V> Vectors<V> {
    #[inline(always)]
    fn each<W>(&self, to: impl Fn(&V) -> W) -> Vectors<W> {
        let two = |[first, second]: &[V; 2]| [to(first), to(second)];
        Vectors {
            predicted: to(&self.predicted),
            by_zeros: to(&self.by_zeros),
            doubled: to(&self.doubled),
            positive: two(&self.positive),
            poles: two(&self.poles),
            zeros: two(&self.zeros),
            differences: two(&self.differences),
        }
    }
}

impl Bands {
    /// As section 6.2.1.3 wants it.
    pub(super) const fn new() -> Self {
        Self::scaled([32, 8])
    }

    pub(super) const fn scaled(linear: [i16; 2]) -> Self {
        let zero = [0; 8];
        let vectors = Vectors {
            predicted: zero,
            by_zeros: zero,
            doubled: zero,
            positive: [[-1; 8]; 2],
            poles: [zero; 2],
            zeros: [zero; 2],
            differences: [zero; 2],
        };
        Self { vectors, scales: Scales { logarithmic: [0; 2], linear } }
    }
}

impl<S: Simd> Lanes<S> {
    #[inline(always)]
    pub(super) fn of(simd: S, bands: &Bands) -> Self {
        Self { simd, vectors: bands.vectors.each(|it| i16x8::from_slice(simd, it)), scales: bands.scales }
    }

    #[inline(always)]
    pub(super) fn keep(&self, bands: &mut Bands) {
        let array = |it: &i16x8<S>| {
            let mut array = [0; 8];
            it.store_slice(&mut array);
            array
        };
        *bands = Bands { vectors: self.vectors.each(array), scales: self.scales };
    }

    #[inline(always)]
    fn splat(&self, value: i16) -> i16x8<S> {
        i16x8::splat(self.simd, value)
    }

    /// The low and the high band in every other lane.
    #[inline(always)]
    fn both(&self, [low, high]: [i16; 2]) -> i16x8<S> {
        i32x4::splat(self.simd, i32::from(high) << 16 | i32::from(low.cast_unsigned())).bitcast()
    }

    /// QUANTL and QUANTH: the codes of a sample of each band.
    #[inline(always)]
    pub(super) fn quantize(&self, sample: [i16; 2]) -> [Choice; 2] {
        let difference = self.both(sample).saturating_sub(self.vectors.predicted);
        let negative = difference >> 15u32;
        let magnitude = difference ^ negative;
        // All levels at once; those of the low band wait for the scale factor only, not for the sample.
        let (low, levels) = (self.splat(magnitude[0]), levels(self.scales.linear[0]));
        let [zero, one] = [self.splat(0), self.splat(1)];
        let mut reached = zero;
        for levels in levels.as_chunks::<8>().0 {
            let beyond = i16x8::from_slice(self.simd, levels).simd_gt(low);
            reached += beyond.select(zero, one);
        }
        let reached = reached.reduce_sum().wrapping_sub(1);
        let large = i32::from(magnitude[1]) >= HIGH_LEVEL.wrapping_mul(self.scales.linear[1].into()) >> 12;
        // The masks are of no effect: they tell that no index is too large.
        let low = usize::from((reached | (negative[0] & 32)).cast_unsigned() & 63);
        let high = usize::from((i16::from(large) | (negative[1] & 2)).cast_unsigned() & 3);
        [LOW_CHOICES[low], HIGH_CHOICES[high]]
    }

    /// What codes of such `values` stand for, for listening.
    #[inline(always)]
    pub(super) fn reconstruct(&self, values: [i16; 2]) -> [i16; 2] {
        let predicted = &self.vectors.predicted;
        let difference = self.differ(values);
        let limit = |value: i16| value.clamp(-16_384, 16_383);
        // What 16 bits do not hold, 15 do not.
        [0, 1].map(|band| limit(predicted[band].saturating_add(difference[band])))
    }

    /// The quantized differences that `values` are.
    #[inline(always)]
    fn differ(&self, [low, high]: [i16; 2]) -> [i16; 2] {
        let [low_scale, high_scale] = self.scales.linear;
        [scaled(low_scale, low), scaled(high_scale, high)]
    }

    /// Adapts to the codes of a sample, at either end.
    #[inline(always)]
    pub(super) fn adapt(&mut self, [low, high]: [Choice; 2]) {
        let difference = self.differ([low.value, high.value]);
        self.rescale(0, low.step, LOW_HIGHEST, LOW_SCALES);
        self.rescale(1, high.step, HIGH_HIGHEST, 0);
        self.predict(difference);
    }

    /// LOGSCL and SCALEL, LOGSCH and SCALEH.
    #[inline(always)]
    fn rescale(&mut self, band: usize, step: i16, highest: i32, first: usize) {
        let Scales { logarithmic, linear } = &mut self.scales;
        let moved = (logarithmic[band].wrapping_mul(127) >> 7).wrapping_add(step.into()).clamp(0, highest);
        logarithmic[band] = moved;
        let nth = usize::try_from(moved >> 6).unwrap_or(0).wrapping_add(first);
        linear[band] = SCALES[nth.min(SCALES.len() - 1)];
    }

    /// Block 4: takes the quantized differences in and predicts the next sample.
    #[inline(always)]
    fn predict(&mut self, difference: [i16; 2]) {
        let differences = self.both(difference);
        let zero = self.splat(0);
        let Vectors { predicted, by_zeros, doubled: before, positive, poles: [first, second], .. } =
            self.vectors;
        // Saturation leaves the sign, and of the partially reconstructed signal that is all that counts.
        let sign = by_zeros.saturating_add(differences) >> 15u32;
        let alike = positive.map(|old| sign ^ old);

        // UPPOL2, then UPPOL1, which the new second pole bounds. Four times the first pole, saturated,
        // is less than -32767 only where the shift makes both the same.
        let toward = first.saturating_add(first);
        let toward = toward.saturating_add(toward).max(self.splat(-32_767));
        let second = second + ((zero - second) >> 7u32);
        let second = second + (negated(toward, alike[0]) >> 7u32) + negated(self.splat(-128), alike[1]);
        let second = second.max(self.splat(-12_288)).min(self.splat(12_288));
        let bound = self.splat(15_360) - second;
        let first = first + ((zero - first) >> 8u32) + negated(self.splat(-192), alike[0]);
        let first = first.max(zero - bound).min(bound);

        // UPZERO, FILTEZ.
        let (low, high) = (self.adapt_zeros(0, difference[0]), self.adapt_zeros(1, difference[1]));
        let sums = low.zip_low(high) + low.zip_high(high);
        let sums = sums + sums.slide::<2>(sums);
        let by_zeros: i16x8<S> = sums.saturating_narrow(sums);

        // FILTEP: both poles of both bands in one multiplication.
        let doubled = predicted.saturating_add(differences);
        let doubled = doubled.saturating_add(doubled);
        let weighed = side_by_side(first, second).widening_mul(side_by_side(doubled, before)).0 >> 15u32;
        let weighed: i16x8<S> = weighed.saturating_narrow(weighed);
        let by_poles = weighed.saturating_add(weighed.slide::<2>(weighed));

        // PREDIC, DELAYA.
        let vectors = &mut self.vectors;
        vectors.predicted = by_poles.saturating_add(by_zeros);
        vectors.by_zeros = by_zeros;
        vectors.doubled = doubled;
        vectors.positive = [!sign, positive[0]];
        vectors.poles = [first, second];
    }

    /// UPZERO of one band, and what the zeros make of its differences, in four parts.
    #[inline(always)]
    fn adapt_zeros(&mut self, band: usize, difference: i16) -> i32x4<S> {
        let (none, difference) = (self.splat(0), self.splat(difference));
        let (zeros, old) = (self.vectors.zeros[band], self.vectors.differences[band]);
        // 255/256, rounded down.
        let rest = (zeros & 255).simd_eq(none).select(none, self.splat(1));
        let step = difference.simd_eq(none).select(none, self.splat(128));
        let zeros = zeros - (zeros >> 8u32) - rest + negated(step, (difference ^ old) >> 15u32);
        let old = difference.slide::<7>(old & i16x8::from_slice(self.simd, &FIVE));
        self.vectors.zeros[band] = zeros;
        self.vectors.differences[band] = old;
        let (early, late) = zeros.widening_mul(old);
        (early >> 14u32) + (late >> 14u32)
    }
}

/// The low band's decision levels at a scale factor.
#[inline(always)]
fn levels(scale: i16) -> [i16; 32] {
    let mut levels = [0; 32];
    for (level, threshold) in levels.iter_mut().zip(THRESHOLDS) {
        #[allow(clippy::cast_possible_truncation, reason = "below 2^14, as scale factors are")]
        let product = (u32::from(threshold).wrapping_mul(scale.cast_unsigned().into()) >> 16) as i16;
        *level = product;
    }
    levels
}

/// A value in Q15 of a scale factor.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "values have 16 bits, scale factors 15: the product 16")]
fn scaled(scale: i16, value: i16) -> i16 {
    (i32::from(scale).wrapping_mul(value.into()) >> 15) as i16
}

/// Changes the sign where all bits of a mask are set.
#[inline(always)]
fn negated<S: Simd>(value: i16x8<S>, mask: i16x8<S>) -> i16x8<S> {
    (value ^ mask) - mask
}

/// The first two lanes of both.
#[inline(always)]
fn side_by_side<S: Simd>(one: i16x8<S>, other: i16x8<S>) -> i16x8<S> {
    let (one, other): (i32x4<S>, i32x4<S>) = (one.bitcast(), other.bitcast());
    one.zip_low(other).bitcast()
}
