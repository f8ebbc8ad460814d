//! To a multiple of the rate: each position of the window gives one output of every phase.
//!
//! Lanes are positions, so that no vector is summed across; the phases come to lie side by side
//! when they are samples. This is cheap enough for coefficients of two halves: with one half alone
//! their rounding leaves images at -80 dB, with both at less than -95 dB.

use fearless_simd::{
    Bytes, Simd, SimdBase, SimdIntWiden, SimdNarrow, SimdSplit, i16x8, i16x16, i32x4, i32x8, i64x2,
};

use super::{CHUNK, Place, TAPS, design};

/// Positions that are filtered together.
const BLOCK: usize = 16;
/// Bits of the finer half of a coefficient beyond those of the coarser.
pub(super) const FINE: u32 = 10;
/// Samples and their neighbours that a block of windows takes.
const WINDOW: usize = TAPS - 2 + BLOCK;
/// Most phases: what a vector of samples takes, and more than any two rates need.
const PHASES: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Raise {
    phases: Box<[Phase]>,
    shift: u32,
    /// Each sample of the line with the one behind it. Room for a block that begins at the last.
    pairs: Box<[[i16; 2]]>,
}

/// Coefficients, coarse and fine, in pairs: each pair as one number in the order of memory.
#[derive(Clone, Debug)]
struct Phase([[i32; 2]; TAPS / 2]);

impl Raise {
    /// To `up` times the rate, at most [`PHASES`].
    pub(super) fn new(up: usize) -> Self {
        let rows = design::rows(up, 1, TAPS);
        let shift = design::shift(&rows);
        let phases = rows.iter().map(|row| {
            let coarse = design::rounded(row, shift);
            let fine = design::rest(row, &coarse, shift, FINE);
            let mut phase = Phase([[0; 2]; TAPS / 2]);
            let halves = coarse.as_chunks().0.iter().zip(fine.as_chunks().0);
            for (pair, (coarse, fine)) in phase.0.iter_mut().zip(halves) {
                *pair = [together(*coarse), together(*fine)];
            }
            phase
        });
        Self { phases: phases.collect(), shift, pairs: vec![[0; 2]; CHUNK + TAPS + BLOCK].into() }
    }

    /// All outputs whose windows lie within `line`; `place` is the next one's. Returns how many.
    #[inline(always)]
    pub(super) fn run<S: Simd>(
        &mut self,
        simd: S,
        line: &[i16],
        place: &mut Place,
        out: &mut [i16],
    ) -> usize {
        let line = &line[place.at..];
        let Some(positions) = (line.len() + 1).checked_sub(TAPS) else { return 0 };
        for (pair, samples) in self.pairs.iter_mut().zip(line.array_windows()) {
            *pair = *samples;
        }
        let made = positions * self.phases.len();
        let mut rest = &mut out[..made];
        for pairs in self.pairs.array_windows::<WINDOW>().step_by(BLOCK) {
            if rest.is_empty() {
                break;
            }
            let mut early = [i16x8::splat(simd, 0); PHASES];
            let mut late = early;
            for ((early, late), phase) in early.iter_mut().zip(&mut late).zip(&self.phases) {
                (*early, *late) = phase.filter(simd, pairs, self.shift).split();
            }
            // Windows beyond the line's end make what is not written.
            rest = side_by_side(early, self.phases.len(), rest);
            rest = side_by_side(late, self.phases.len(), rest);
        }
        place.at += positions;
        made
    }
}

impl Phase {
    /// [`BLOCK`] positions of this phase. [`design::shift`] sees to it that no sum can leave 32
    /// bits; the finer half is far from that.
    #[inline(always)]
    fn filter<S: Simd>(&self, simd: S, pairs: &[[i16; 2]; WINDOW], shift: u32) -> i16x16<S> {
        let zero = i32x8::splat(simd, 0);
        let (mut low, mut low_fine, mut high, mut high_fine) = (zero, zero, zero, zero);
        // The next pair of taps is two positions on.
        let twos = pairs.as_chunks::<2>().0;
        for (samples, [coarse, fine]) in twos.array_windows::<{ BLOCK / 2 }>().zip(&self.0) {
            let (first, second) = samples.as_flattened().as_flattened().split_at(BLOCK);
            let (first, second) = (i16x16::from_slice(simd, first), i16x16::from_slice(simd, second));
            let coarse: i16x16<S> = i32x8::splat(simd, *coarse).bitcast();
            let fine: i16x16<S> = i32x8::splat(simd, *fine).bitcast();
            low += first.pairwise_dot_product(coarse);
            low_fine += first.pairwise_dot_product(fine);
            high += second.pairwise_dot_product(coarse);
            high_fine += second.pairwise_dot_product(fine);
        }
        let round = 1 << (shift - 1);
        let low = (low + (low_fine >> FINE) + round) >> shift;
        let high = (high + (high_fine >> FINE) + round) >> shift;
        low.saturating_narrow(high)
    }
}

fn together([a, b]: [i16; 2]) -> i32 {
    let ([a, b], [c, d]) = (a.to_ne_bytes(), b.to_ne_bytes());
    i32::from_ne_bytes([a, b, c, d])
}

/// From a vector for each phase to `phases` samples for each position, as far as `out` goes;
/// returns what is left of it.
#[inline(always)]
fn side_by_side<S: Simd>(
    [a, b, c, d, e, f, g, h]: [i16x8<S>; PHASES],
    phases: usize,
    out: &mut [i16],
) -> &mut [i16] {
    let out = four(a.zip_low(b), c.zip_low(d), e.zip_low(f), g.zip_low(h), phases, out);
    four(a.zip_high(b), c.zip_high(d), e.zip_high(f), g.zip_high(h), phases, out)
}

/// Four positions of vectors that hold two phases each.
#[inline(always)]
fn four<S: Simd>(
    ab: i16x8<S>,
    cd: i16x8<S>,
    ef: i16x8<S>,
    gh: i16x8<S>,
    phases: usize,
    out: &mut [i16],
) -> &mut [i16] {
    let (ab, cd): (i32x4<S>, i32x4<S>) = (ab.bitcast(), cd.bitcast());
    let (ef, gh): (i32x4<S>, i32x4<S>) = (ef.bitcast(), gh.bitcast());
    let out = two(ab.zip_low(cd), ef.zip_low(gh), phases, out);
    two(ab.zip_high(cd), ef.zip_high(gh), phases, out)
}

/// Two positions of vectors that hold four phases each.
#[inline(always)]
fn two<S: Simd>(abcd: i32x4<S>, efgh: i32x4<S>, phases: usize, out: &mut [i16]) -> &mut [i16] {
    let (abcd, efgh): (i64x2<S>, i64x2<S>) = (abcd.bitcast(), efgh.bitcast());
    let out = one(abcd.zip_low(efgh).bitcast(), phases, out);
    one(abcd.zip_high(efgh).bitcast(), phases, out)
}

/// A whole vector where there is room: the next one covers what is too much.
#[inline(always)]
fn one<S: Simd>(row: i16x8<S>, phases: usize, out: &mut [i16]) -> &mut [i16] {
    if let Some(room) = out.first_chunk_mut::<PHASES>() {
        row.store_slice(room);
    } else {
        for (out, sample) in out.iter_mut().zip(row.as_slice()).take(phases) {
            *out = *sample;
        }
    }
    let taken = phases.min(out.len());
    &mut out[taken..]
}

#[cfg(test)]
impl Raise {
    /// The two halves of a phase, for the specification.
    pub(super) fn row(&self, phase: usize) -> [Vec<i16>; 2] {
        let taps = |half: usize| {
            let pairs = self.phases[phase].0.iter().map(|pair| pair[half].to_ne_bytes());
            pairs.flat_map(|[a, b, c, d]| [i16::from_ne_bytes([a, b]), i16::from_ne_bytes([c, d])]).collect()
        };
        [taps(0), taps(1)]
    }

    pub(super) const fn shift(&self) -> u32 {
        self.shift
    }
}
