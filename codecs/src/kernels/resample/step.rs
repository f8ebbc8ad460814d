//! To any rate: each output has its window of the line and its row of coefficients, and a vector of
//! products is summed at the end.

use fearless_simd::{Simd, SimdBase, SimdIntWiden, SimdNarrow, i16x16, i32x8};

use super::{Place, TAPS, design};
use crate::audio::saturate;

/// Rows of taps are filled up with zeros to a multiple of this, for vectors without a rest.
const LANES: usize = 16;
/// The taps of every filter to a higher rate. That the code knows their number makes it shorter.
const SHORTEST: usize = TAPS.next_multiple_of(LANES);
/// Those of filters to a third of the rate, for the same reason: 48 to 16 kHz is the way into every
/// room of wideband.
const THIRD: usize = (3 * TAPS).next_multiple_of(LANES);
/// Outputs that are made together, as many as a vector of sums has lanes.
const GROUP: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Output phases between two input samples, and the phases that each output moves on.
    up: usize,
    down: usize,
    /// The same way in input samples and phases.
    whole: usize,
    part: usize,
    /// One row of `taps` for each phase.
    pub(super) coefficients: Box<[i16]>,
    pub(super) taps: usize,
    pub(super) shift: u32,
}

impl Step {
    /// With a filter of `length` taps.
    pub(super) fn new(up: usize, down: usize, length: usize) -> Self {
        let rows = design::rows(up, down, length);
        let shift = design::shift(&rows);
        let taps = length.next_multiple_of(LANES);
        let mut coefficients = Vec::with_capacity(up * taps);
        for row in &rows {
            // The zeros stand at the oldest samples, where they cost no delay.
            coefficients.resize(coefficients.len() + taps - length, 0);
            coefficients.extend(design::rounded(row, shift));
        }
        let coefficients = coefficients.into();
        Self { up, down, whole: down / up, part: down % up, coefficients, taps, shift }
    }

    /// All outputs whose windows lie within `line`; `place` is the next one's. Returns how many.
    #[inline(always)]
    pub(super) fn run<S: Simd>(&self, simd: S, line: &[i16], place: &mut Place, out: &mut [i16]) -> usize {
        match self.taps {
            SHORTEST => self.filter::<S, SHORTEST>(simd, line, place, out),
            THIRD => self.filter::<S, THIRD>(simd, line, place, out),
            _ => self.filter::<S, 0>(simd, line, place, out),
        }
    }

    /// With as many taps as the type says, or as the filter has if it says none.
    #[inline(always)]
    fn filter<S: Simd, const TAPS: usize>(
        &self,
        simd: S,
        line: &[i16],
        place: &mut Place,
        out: &mut [i16],
    ) -> usize {
        let round = 1 << (self.shift - 1);
        // No window of the next [`GROUP`] outputs begins further ahead, whatever the phase.
        let ahead = ((GROUP - 1) * self.down).div_ceil(self.up);
        let mut here = Place { ..*place };
        let (mut groups, mut written) = (out.chunks_exact_mut(GROUP), 0);
        while here.at + ahead + self.taps <= line.len() {
            let Some(out) = groups.next() else { break };
            let mut sums = [i32x8::splat(simd, 0); GROUP];
            for sums in &mut sums {
                *sums = self.products_at::<S, TAPS>(simd, line, &mut here);
            }
            let sums = (in_order(sums) + round) >> self.shift;
            let samples = sums.saturating_narrow(sums);
            out.copy_from_slice(&samples.as_slice()[..GROUP]);
            written += GROUP;
        }
        while here.at + self.taps <= line.len() {
            let sum = self.products_at::<S, TAPS>(simd, line, &mut here).reduce_sum();
            out[written] = saturate((sum + round) >> self.shift);
            written += 1;
        }
        *place = here;
        written
    }

    /// What the output at `place` is the sum of, and on to the next.
    #[inline(always)]
    fn products_at<S: Simd, const TAPS: usize>(&self, simd: S, line: &[i16], place: &mut Place) -> i32x8<S> {
        let taps = if TAPS > 0 { TAPS } else { self.taps };
        let window = &line[place.at..place.at + taps];
        let row = &self.coefficients[place.phase * taps..(place.phase + 1) * taps];
        place.at += self.whole;
        place.phase += self.part;
        if place.phase >= self.up {
            place.phase -= self.up;
            place.at += 1;
        }
        products(simd, window, row)
    }
}

/// [`design::shift`] sees to it that no sum can leave 32 bits. What is over after whole vectors is left
/// out: rows have no rest.
#[inline(always)]
fn products<S: Simd>(simd: S, a: &[i16], b: &[i16]) -> i32x8<S> {
    let mut sum = i32x8::splat(simd, 0);
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        sum += i16x16::from_slice(simd, a).pairwise_dot_product(i16x16::from_slice(simd, b));
    }
    sum
}

/// The sum of each of eight vectors, side by side: three rounds that add neighbours, in place of
/// eight that reduce a vector by itself.
#[inline(always)]
fn in_order<S: Simd>([a, b, c, d, e, f, g, h]: [i32x8<S>; GROUP]) -> i32x8<S> {
    let (low, high) =
        (neighbours(neighbours(a, b), neighbours(c, d)), neighbours(neighbours(e, f), neighbours(g, h)));
    neighbours(low, high)
}

#[inline(always)]
fn neighbours<S: Simd>(a: i32x8<S>, b: i32x8<S>) -> i32x8<S> {
    a.unzip_low(b) + a.unzip_high(b)
}
