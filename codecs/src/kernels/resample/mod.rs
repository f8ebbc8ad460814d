//! Between the sample rates of the codecs: a polyphase filter, streaming, mono.
//!
//! One low-pass filter of linear phase, cut into as many phases as the rates' ratio needs. Its
//! length in time is set by the lower of the two rates: [`TAPS`] of its samples, so the delay is
//! 2.5 ms at 8 kHz, 1.25 ms at 16 kHz. Flat to 0.42 of the lower rate (3.4 kHz at 8 kHz), 60 dB
//! down from 0.535 on; what aliases in between falls above the flat part.

mod design;
mod raise;
mod step;

use std::time::Duration;

use fearless_simd::{Simd, dispatch};

use super::cpu::Cpu;
use crate::codec::CodecError;
use raise::Raise;
use step::Step;

/// Rates that it goes between.
pub const RATES: [u32; 5] = [8_000, 16_000, 24_000, 32_000, 48_000];
/// Length of the filter in samples of the lower rate. 40 give a transition of 0.11 of the lower
/// rate at 74 dB; half of them are the delay.
const TAPS: usize = 40;
/// Middle of the transition, of the lower rate.
const CUTOFF: f64 = 0.476;
/// Shape of the Kaiser window, for 74 dB (0.1102 (A - 8.7)).
const KAISER_BETA: f64 = 7.25;
/// Input that is filtered in one go, so that the line of samples has a fixed length: 20 ms.
const CHUNK: usize = 960;

/// Changes the rate of one stream. Allocates when made, never afterwards.
#[derive(Clone, Debug)]
pub struct Resampler {
    from: u32,
    to: u32,
    /// Output phases between two input samples, and the phases that each output moves on.
    up: usize,
    down: usize,
    filter: Filter,
    /// The window of an output.
    taps: usize,
    /// Half of the filter without its zeros, in input samples.
    delay: usize,
    cpu: Cpu,
    /// The newest input, oldest first; `held` of it are in use.
    line: Box<[i16]>,
    held: usize,
    next: Place,
}

/// How the line is filtered.
#[derive(Clone, Debug)]
enum Filter {
    /// To a multiple of the rate.
    Raise(Raise),
    /// To any other.
    Step(Step),
}

/// Where an output's window begins, and its phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
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
        let (filter, taps) = if down == 1 {
            (Filter::Raise(Raise::new(up)), TAPS)
        } else {
            let step = Step::new(up, down, length);
            let taps = step.taps;
            (Filter::Step(step), taps)
        };
        let mut resampler = Self {
            from,
            to,
            up,
            down,
            filter,
            taps,
            delay: length / 2,
            cpu: Cpu::detect(),
            line: vec![0; taps + CHUNK].into(),
            held: 0,
            next: Place::default(),
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
        match (self.held + len).checked_sub(self.next.at + self.taps) {
            Some(ahead) => (ahead * self.up + self.up - 1 - self.next.phase) / self.down + 1,
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
            let cpu = self.cpu;
            written += dispatch!(cpu.0, simd => self.filter(simd, &mut out[written..]));
            self.line.copy_within(self.next.at..self.held, 0);
            self.held -= self.next.at;
            self.next.at = 0;
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
        (self.held, self.next) = (other.held, other.next);
    }

    /// Forgets the past, as at the start of a stream.
    pub fn reset(&mut self) {
        self.line.fill(0);
        self.held = self.taps - 1;
        self.next = Place::default();
    }

    #[inline(always)]
    fn filter<S: Simd>(&mut self, simd: S, out: &mut [i16]) -> usize {
        let line = &self.line[..self.held];
        match &mut self.filter {
            Filter::Raise(raise) => raise.run(simd, line, &mut self.next, out),
            Filter::Step(step) => step.run(simd, line, &mut self.next, out),
        }
    }
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

const fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests;
