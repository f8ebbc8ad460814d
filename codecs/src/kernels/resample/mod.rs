//! Between the sample rates of the codecs: a polyphase filter, streaming, mono.
//!
//! One low-pass filter of linear phase, cut into as many phases as the rates' ratio needs. Its
//! length in time is set by the lower of the two rates: [`TAPS`] of its samples, so the delay is
//! 2.5 ms at 8 kHz, 1.25 ms at 16 kHz. Flat to 0.42 of the lower rate (3.4 kHz at 8 kHz), 60 dB
//! down from 0.535 on; what aliases in between falls above the flat part.

mod design;

use std::time::Duration;

use fearless_simd::{Simd, SimdBase, SimdIntWiden, SimdNarrow, dispatch, i16x16, i32x8};

use super::cpu::Cpu;
use crate::audio::saturate;
use crate::codec::CodecError;
use design::design;

/// Rates that it goes between.
pub const RATES: [u32; 5] = [8_000, 16_000, 24_000, 32_000, 48_000];
/// Length of the filter in samples of the lower rate. 40 give a transition of 0.11 of the lower
/// rate at 68 dB; half of them are the delay.
const TAPS: usize = 40;
/// Middle of the transition, of the lower rate.
const CUTOFF: f64 = 0.476;
/// Shape of the Kaiser window, for 68 dB (0.1102 (A - 8.7)).
const KAISER_BETA: f64 = 6.53;
/// Input that is filtered in one go, so that the line of samples has a fixed length: 20 ms.
const CHUNK: usize = 960;
/// Rows of taps are filled up with zeros to a multiple of this, for vectors without a rest.
const LANES: usize = 16;
/// The taps of every filter to a higher rate. That the code knows their number makes it shorter.
const SHORTEST: usize = TAPS.next_multiple_of(LANES);
/// Outputs that are made together, as many as a vector of sums has lanes.
const GROUP: usize = 8;

/// Changes the rate of one stream. Allocates when made, never afterwards.
#[derive(Clone, Debug)]
pub struct Resampler {
    from: u32,
    to: u32,
    /// Output phases between two input samples, and the phases that each output moves on.
    up: usize,
    down: usize,
    /// The same way in input samples and phases.
    whole: usize,
    part: usize,
    /// One row of `taps` for each phase.
    coefficients: Box<[i16]>,
    taps: usize,
    /// Half of the filter without its zeros, in input samples.
    delay: usize,
    shift: u32,
    cpu: Cpu,
    /// The newest input, oldest first; `held` of it are in use.
    line: Box<[i16]>,
    held: usize,
    /// Where the next output's window begins, and its phase.
    at: usize,
    phase: usize,
}

impl Resampler {
    /// From one of [`RATES`] to another. Equal rates are copied, without delay.
    pub fn new(from: u32, to: u32) -> Result<Self, CodecError> {
        if !RATES.contains(&from) || !RATES.contains(&to) {
            return Err(CodecError::Unsupported("not a sample rate of ours"));
        }
        let common = greatest_common_divisor(from, to);
        let (up, down) = (size(to / common), size(from / common));
        let length = (TAPS * down).div_ceil(up).max(TAPS).next_multiple_of(2);
        let taps = length.next_multiple_of(LANES);
        let (coefficients, shift) = design(up, down, length, taps);
        let mut resampler = Self {
            from,
            to,
            up,
            down,
            whole: down / up,
            part: down % up,
            coefficients,
            taps,
            delay: length / 2,
            shift,
            cpu: Cpu::detect(),
            line: vec![0; taps + CHUNK].into(),
            held: 0,
            at: 0,
            phase: 0,
        };
        resampler.reset();
        Ok(resampler)
    }

    /// The same with other instructions; the output is the same, bit by bit.
    #[must_use]
    pub fn on(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
        self
    }

    /// How far the output lies behind the input.
    pub fn delay(&self) -> Duration {
        if self.from == self.to {
            return Duration::ZERO;
        }
        let half = u64::try_from(self.delay).unwrap_or(u64::MAX);
        Duration::from_nanos(half.saturating_mul(1_000_000_000) / u64::from(self.from))
    }

    /// Samples that the next call makes of `len` samples.
    pub fn output_len(&self, len: usize) -> usize {
        if self.from == self.to {
            return len;
        }
        match (self.held + len).checked_sub(self.at + self.taps) {
            Some(ahead) => (ahead * self.up + self.up - 1 - self.phase) / self.down + 1,
            None => 0,
        }
    }

    /// Takes all of `pcm`; writes to the front of `out` and returns how many samples. Frames of
    /// whole milliseconds always give frames of the same duration. Nothing is taken when `out`
    /// is too short.
    pub fn process(&mut self, pcm: &[i16], out: &mut [i16]) -> Result<usize, CodecError> {
        let (needed, room) = (self.output_len(pcm.len()), out.len());
        let out = out.get_mut(..needed).ok_or(CodecError::Room { needed, room })?;
        if self.from == self.to {
            out.copy_from_slice(pcm);
            return Ok(needed);
        }
        let mut written = 0;
        for chunk in pcm.chunks(CHUNK) {
            self.line[self.held..self.held + chunk.len()].copy_from_slice(chunk);
            self.held += chunk.len();
            written += self.filter(&mut out[written..]);
            self.line.copy_within(self.at..self.held, 0);
            self.held -= self.at;
            self.at = 0;
        }
        Ok(written)
    }

    /// Takes over the past of `other`, so that both go on alike. One that was made for other rates
    /// is forgotten instead.
    pub fn adopt(&mut self, other: &Self) {
        if (self.from, self.to) != (other.from, other.to) {
            self.reset();
            return;
        }
        self.line.copy_from_slice(&other.line);
        (self.held, self.at, self.phase) = (other.held, other.at, other.phase);
    }

    /// Forgets the past, as at the start of a stream.
    pub fn reset(&mut self) {
        self.line.fill(0);
        self.held = self.taps - 1;
        self.at = 0;
        self.phase = 0;
    }

    fn filter(&mut self, out: &mut [i16]) -> usize {
        dispatch!(self.cpu.0, simd => self.filter_body(simd, out))
    }

    #[inline(always)]
    fn filter_body<S: Simd>(&mut self, simd: S, out: &mut [i16]) -> usize {
        match self.taps {
            SHORTEST => self.filter_by::<S, SHORTEST>(simd, out),
            _ => self.filter_by::<S, 0>(simd, out),
        }
    }

    /// With as many taps as the type says, or as the filter has if it says none.
    #[inline(always)]
    fn filter_by<S: Simd, const TAPS: usize>(&mut self, simd: S, out: &mut [i16]) -> usize {
        let round = 1 << (self.shift - 1);
        // No window of the next [`GROUP`] outputs begins further ahead, whatever the phase.
        let ahead = ((GROUP - 1) * self.down).div_ceil(self.up);
        let mut place = Place { at: self.at, phase: self.phase };
        let (mut groups, mut written) = (out.chunks_exact_mut(GROUP), 0);
        while place.at + ahead + self.taps <= self.held {
            let Some(out) = groups.next() else { break };
            let mut sums = [i32x8::splat(simd, 0); GROUP];
            for sums in &mut sums {
                *sums = self.products_at::<S, TAPS>(simd, &mut place);
            }
            let sums = (in_order(sums) + round) >> self.shift;
            let samples = sums.saturating_narrow(sums);
            out.copy_from_slice(&samples.as_slice()[..GROUP]);
            written += GROUP;
        }
        while place.at + self.taps <= self.held {
            let sum = self.products_at::<S, TAPS>(simd, &mut place).reduce_sum();
            out[written] = saturate((sum + round) >> self.shift);
            written += 1;
        }
        (self.at, self.phase) = (place.at, place.phase);
        written
    }

    /// What the output at `place` is the sum of, and on to the next.
    #[inline(always)]
    fn products_at<S: Simd, const TAPS: usize>(&self, simd: S, place: &mut Place) -> i32x8<S> {
        let taps = if TAPS > 0 { TAPS } else { self.taps };
        let window = &self.line[place.at..place.at + taps];
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

/// Where an output's window begins, and its phase.
struct Place {
    at: usize,
    phase: usize,
}

/// [`design`] sees to it that no sum can leave 32 bits. What is over after whole vectors is left
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

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

const fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests;
