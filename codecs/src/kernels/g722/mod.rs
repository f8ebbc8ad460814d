//! G.722 a packet at a time. [`plain`] is what the Recommendation says; here are the same bits with
//! both half bands side by side in lanes of 16 bits. Nearly all that the Recommendation has is
//! arithmetic of 16 bits that saturates, which vectors do in one operation and plain code in five.
//!
//! Each sample needs the one before, so wider vectors than 128 bits help the filters only. What this
//! gains over the plain code it gains at every level.

mod bands;
#[cfg(test)]
mod plain;
mod tables;
#[cfg(test)]
mod tests;

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch};

use super::cpu::Cpu;
use bands::{Bands, Lanes};
use tables::{LOW_6, QMF, high, low};

/// Samples before the newest pair that the filters look back on.
pub const HISTORY: usize = 22;
/// Pairs filtered in one go.
const BLOCK: usize = 160;
/// Samples behind those of a block that the last vector of a filter may take in, where its results
/// count for nothing: vectors have up to 32.
const BEHIND: usize = 32;

/// Coefficients of two sums over a window of twelve pairs.
type Taps = [[[i16; 2]; 12]; 2];

/// The low and the high band of a pair: sum and difference of both phases.
const ANALYSIS: Taps = taps([[1, 1], [-1, 1]]);
/// The second and the first sample of a pair of the receiver: one phase each.
const SYNTHESIS: Taps = taps([[0, 1], [1, 0]]);

/// The phases, each with a weight, for either sum.
const fn taps(weights: [[i16; 2]; 2]) -> Taps {
    let mut taps = [[[0; 2]; 12]; 2];
    let mut n = 0;
    while n < 24 {
        let (sum, pair) = (n / 12, n % 12);
        taps[sum][pair] = [weights[sum][0] * QMF[pair], weights[sum][1] * QMF[11 - pair]];
        n += 1;
    }
    taps
}

/// One direction of a stream, at either end.
#[derive(Clone, Debug)]
pub struct Coder {
    bands: Bands,
    /// What the filters look back on: samples, or sums and differences of the half bands.
    history: [i16; HISTORY],
}

impl Coder {
    /// The start of a stream.
    pub const fn new() -> Self {
        Self { bands: Bands::new(), history: [0; HISTORY] }
    }

    /// Encodes as many pairs of samples as `out` has bytes for.
    pub fn encode(&mut self, cpu: Cpu, pcm: &[i16], out: &mut [u8]) {
        dispatch!(cpu.0, simd => encode(simd, self, pcm, out));
    }

    /// Decodes as many bytes as `out` has pairs of samples for.
    pub fn decode(&mut self, cpu: Cpu, bytes: &[u8], out: &mut [i16]) {
        dispatch!(cpu.0, simd => decode(simd, self, bytes, out));
    }

    /// With the scale factors of an implementation that begins with zero.
    #[cfg(test)]
    pub(crate) fn unscaled() -> Self {
        Self { bands: Bands::scaled([0; 2]), ..Self::new() }
    }
}

impl Default for Coder {
    fn default() -> Self {
        Self::new()
    }
}

#[inline(always)]
fn encode<S: Simd>(simd: S, coder: &mut Coder, pcm: &[i16], out: &mut [u8]) {
    let mut line = [0; HISTORY + 2 * BLOCK + BEHIND];
    let mut split = [0; 2 * BLOCK];
    let mut lanes = Lanes::of(simd, &coder.bands);
    for (block, out) in pcm.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
        line[..HISTORY].copy_from_slice(&coder.history);
        line[HISTORY..][..block.len()].copy_from_slice(block);
        filter(simd, &ANALYSIS, 14, &line, &mut split, block.len() / 2);
        for (byte, bands) in out.iter_mut().zip(split.as_chunks::<2>().0) {
            let [low, high] = lanes.quantize(*bands);
            lanes.adapt([low, high]);
            *byte = high.code << 6 | low.code;
        }
        coder.history.copy_from_slice(&line[block.len()..][..HISTORY]);
    }
    lanes.keep(&mut coder.bands);
}

#[inline(always)]
fn decode<S: Simd>(simd: S, coder: &mut Coder, bytes: &[u8], out: &mut [i16]) {
    let mut line = [0; HISTORY + 2 * BLOCK + BEHIND];
    let mut joined = [0; 2 * BLOCK];
    let mut lanes = Lanes::of(simd, &coder.bands);
    for (bytes, out) in bytes.chunks(BLOCK).zip(out.chunks_mut(2 * BLOCK)) {
        line[..HISTORY].copy_from_slice(&coder.history);
        for (pair, code) in line[HISTORY..].as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            let (low, high) = (low(code & 0x3f), high(code >> 6));
            let [at_low, at_high] = lanes.reconstruct([LOW_6[usize::from(low.code)], high.value]);
            lanes.adapt([low, high]);
            // Of 15 bits each: sum and difference have 16.
            *pair = [at_low.wrapping_add(at_high), at_low.wrapping_sub(at_high)];
        }
        filter(simd, &SYNTHESIS, 11, &line, &mut joined, bytes.len());
        out.copy_from_slice(&joined[..out.len()]);
        coder.history.copy_from_slice(&line[2 * bytes.len()..][..HISTORY]);
    }
    lanes.keep(&mut coder.bands);
}

/// Both sums over each window of `line`, for at least `pairs` pairs of `out`, shifted and saturated.
///
/// Magnitudes of the coefficients of both phases sum to less than 2^13 each and values have 16 bits:
/// nothing wraps.
#[inline(always)]
fn filter<S: Simd>(simd: S, taps: &Taps, shift: u32, line: &[i16], out: &mut [i16; 2 * BLOCK], pairs: usize) {
    let width = S::i32s::LEN;
    for at in (0..pairs).step_by(width) {
        let mut sums = [S::i32s::splat(simd, 0); 2];
        for pair in 0..12 {
            let window = S::i16s::from_slice(simd, &line[2 * (at + pair)..][..2 * width]);
            for (sum, taps) in sums.iter_mut().zip(taps) {
                *sum += window.pairwise_dot_product(twice::<S>(simd, taps[pair]));
            }
        }
        let (early, late) = (sums[0] >> shift).interleave(sums[1] >> shift);
        let both: S::i16s = early.saturating_narrow(late);
        both.store_slice(&mut out[2 * at..][..2 * width]);
    }
}

/// A pair over and over.
#[inline(always)]
fn twice<S: Simd>(simd: S, [first, second]: [i16; 2]) -> S::i16s {
    S::i32s::splat(simd, i32::from(second) << 16 | i32::from(first.cast_unsigned())).bitcast()
}
