//! Between the sample rates of the codecs: a polyphase filter, streaming, mono.
//!
//! One low-pass filter of linear phase, cut into as many phases as the rates' ratio needs. Its
//! length in time is set by the lower of the two rates: [`TAPS`] of its samples, so the delay is
//! 2.5 ms at 8 kHz, 1.25 ms at 16 kHz. Flat to 0.42 of the lower rate (3.4 kHz at 8 kHz), 60 dB
//! down from 0.535 on; what aliases in between falls above the flat part.

use std::time::Duration;

use fearless_simd::{Simd, SimdBase, SimdIntWiden, SimdNarrow, dispatch, i16x16, i32x8};

use super::cpu::Cpu;
use crate::audio::saturate;
use crate::codec::CodecError;

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

/// The rows of coefficients and their binary point.
fn design(up: usize, down: usize, length: usize, taps: usize) -> (Box<[i16]>, u32) {
    let row = |phase: usize| -> Vec<f64> {
        let centre = float(length / 2) - 1.0 + float(phase) / float(up);
        // Of the input rate.
        let cutoff = CUTOFF * (float(up) / float(down)).min(1.0);
        let values: Vec<f64> = (0..length)
            .map(|tap| {
                let at = float(tap) - centre;
                2.0 * cutoff * sinc(2.0 * cutoff * at) * kaiser(at / float(length / 2))
            })
            .collect();
        let sum: f64 = values.iter().sum();
        values.into_iter().map(|value| value / sum).collect()
    };
    let rows: Vec<Vec<f64>> = (0..up).map(row).collect();
    // The largest sum that samples at the rails can make must stay within 32 bits.
    let widest = rows.iter().map(|row| row.iter().map(|c| c.abs()).sum::<f64>()).fold(0.0, f64::max);
    let shift = if widest * f64::from(1 << 15) < 65_000.0 { 15 } else { 14 };
    let one = f64::from(1 << shift);
    let mut coefficients = Vec::with_capacity(up * taps);
    for row in &rows {
        let start = coefficients.len();
        // The zeros stand at the oldest samples, where they cost no delay.
        coefficients.resize(start + taps - length, 0);
        coefficients.extend(row.iter().map(|c| round(c * one)));
        // Rounding moves the sum by some units: the largest tap takes them, so that a constant
        // stays one in every phase.
        let sum: i32 = coefficients[start..].iter().map(|c| i32::from(*c)).sum();
        if let Some(largest) = coefficients[start..].iter_mut().max() {
            *largest = saturate(i32::from(*largest) + (1 << shift) - sum);
        }
    }
    (coefficients.into(), shift)
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

fn kaiser(x: f64) -> f64 {
    if x.abs() > 1.0 {
        return 0.0;
    }
    bessel(KAISER_BETA * (1.0 - x * x).sqrt()) / bessel(KAISER_BETA)
}

/// The modified Bessel function of the first kind and order zero, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

#[allow(clippy::cast_precision_loss, reason = "counts of taps")]
fn float(count: usize) -> f64 {
    count as f64
}

#[allow(clippy::cast_possible_truncation, reason = "a float cast saturates")]
fn round(value: f64) -> i16 {
    value.round() as i16
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

const fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::signals::{energy, noise, tone};

    fn run(from: u32, to: u32, signal: &[i16], frame: usize) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut out = Vec::new();
        for pcm in signal.chunks(frame) {
            let mut room = vec![0; resampler.output_len(pcm.len())];
            let written = resampler.process(pcm, &mut room).unwrap();
            assert_eq!(written, room.len());
            out.extend(room);
        }
        out
    }

    fn pairs() -> impl Iterator<Item = (u32, u32)> {
        RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to)))
    }

    /// Signal to everything else, for a sine of `hz` with a free phase: least squares.
    fn sine_snr(pcm: &[i16], rate: u32, hz: f64) -> f64 {
        let step = std::f64::consts::TAU * hz / f64::from(rate);
        let (mut ss, mut cc, mut sc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (n, x) in pcm.iter().enumerate() {
            let (s, c) = (step * n as f64).sin_cos();
            let x = f64::from(*x);
            (ss, cc, sc, xs, xc) = (ss + s * s, cc + c * c, sc + s * c, xs + x * s, xc + x * c);
        }
        let det = ss * cc - sc * sc;
        let (a, b) = ((xs * cc - xc * sc) / det, (xc * ss - xs * sc) / det);
        let wanted = a * xs + b * xc;
        10.0 * (wanted / (energy(pcm) - wanted).max(1e-6)).log10()
    }

    #[test]
    fn one_that_adopts_another_goes_on_alike() {
        for (from, to) in pairs() {
            let (size, signal) = (from as usize / 50, noise(7, 20_000, from as usize / 10));
            let (mut one, mut other) = (Resampler::new(from, to).unwrap(), Resampler::new(from, to).unwrap());
            let mut rooms = [[0; 960]; 2];
            one.process(&signal[..size], &mut rooms[0]).unwrap();
            other.adopt(&one);
            for pcm in signal[size..].chunks_exact(size) {
                one.process(pcm, &mut rooms[0]).unwrap();
                other.process(pcm, &mut rooms[1]).unwrap();
                assert_eq!(rooms[0], rooms[1], "{from} to {to}");
            }
        }
    }

    #[test]
    fn tones_of_the_band_stay_pure_and_level() {
        for (from, to) in pairs() {
            let low = f64::from(from.min(to));
            for part in [0.04, 0.13, 0.3, 0.4] {
                let hz = low * part;
                let signal = tone(from, hz, 16_000.0, from as usize / 2);
                let out = run(from, to, &signal, from as usize / 50);
                let steady = &out[out.len() / 5..];
                let snr = sine_snr(steady, to, hz);
                assert!(snr >= 60.0, "{from} to {to}, {hz} Hz: {snr:.1} dB");
                let level = 10.0 * (energy(steady) / steady.len() as f64 / (16_000f64.powi(2) / 2.0)).log10();
                assert!(level.abs() < 0.1, "{from} to {to}, {hz} Hz: {level:.2} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_gone() {
        for (from, to) in pairs().filter(|(from, to)| from > to) {
            for part in [0.535, 0.6, 0.75, 1.1, 1.7] {
                let hz = f64::from(to) * part;
                if hz > f64::from(from) * 0.49 {
                    continue;
                }
                let signal = tone(from, hz, 30_000.0, from as usize / 2);
                let out = run(from, to, &signal, from as usize / 50);
                let steady = &out[out.len() / 5..];
                let left = 10.0 * (energy(steady) / steady.len() as f64 / (30_000f64.powi(2) / 2.0)).log10();
                assert!(left <= -60.0, "{from} to {to}, {hz} Hz: {left:.1} dB");
            }
        }
    }

    /// The specification: every output by plain sums.
    fn by_sums(from: u32, to: u32, signal: &[i16]) -> Vec<i16> {
        let filter = Resampler::new(from, to).unwrap();
        let mut line = vec![0i16; filter.taps - 1];
        line.extend(signal);
        let (mut at, mut phase, mut out) = (0, 0, Vec::new());
        while at + filter.taps <= line.len() {
            let row = &filter.coefficients[phase * filter.taps..][..filter.taps];
            let sum: i32 = row.iter().zip(&line[at..]).map(|(c, x)| i32::from(*c) * i32::from(*x)).sum();
            out.push(saturate((sum + (1 << (filter.shift - 1))) >> filter.shift));
            phase += filter.down;
            (at, phase) = (at + phase / filter.up, phase % filter.up);
        }
        out
    }

    #[test]
    fn every_level_is_the_plain_sum() {
        for (from, to) in pairs().filter(|(from, to)| from != to) {
            let signal = noise(5, 32_767, 3_333);
            let expected = by_sums(from, to, &signal);
            for cpu in Cpu::available() {
                let mut resampler = Resampler::new(from, to).unwrap().on(cpu);
                let mut out = vec![0; resampler.output_len(signal.len())];
                resampler.process(&signal, &mut out).unwrap();
                assert_eq!(out, expected, "{from} to {to} by {cpu:?}");
            }
        }
    }

    #[test]
    fn cuts_do_not_show() {
        for (from, to) in pairs() {
            let signal = noise(3, 30_000, 5_000);
            let whole = run(from, to, &signal, 5_000);
            for frame in [1, 7, 80, 333, 961] {
                assert_eq!(run(from, to, &signal, frame), whole, "{from} to {to} in {frame}");
            }
        }
    }

    #[test]
    fn frames_keep_their_duration_and_the_delay_is_as_told() {
        for (from, to) in pairs() {
            let mut resampler = Resampler::new(from, to).unwrap();
            let (frame, expected) = (from as usize / 50, to as usize / 50);
            for _ in 0..5 {
                assert_eq!(resampler.output_len(frame), expected);
                assert_eq!(resampler.process(&vec![0; frame], &mut vec![0; expected]), Ok(expected));
            }
            resampler.reset();
            let mut click = vec![0; frame];
            click[0] = 30_000;
            let mut out = vec![0; expected];
            resampler.process(&click, &mut out).unwrap();
            let loudest = (0..expected).max_by_key(|n| out[*n].unsigned_abs()).unwrap();
            let seconds = loudest as f64 / f64::from(to);
            let told = resampler.delay().as_secs_f64();
            assert!(
                (seconds - told).abs() <= 1.0 / f64::from(from.min(to)),
                "{from} to {to}: {seconds} {told}"
            );
            assert!(told <= 0.003, "{from} to {to}: {told}");
        }
    }

    #[test]
    fn the_loudest_input_saturates_instead_of_wrapping() {
        for (from, to) in pairs() {
            let mut signal = vec![i16::MAX; 2_000];
            signal.extend(vec![i16::MIN; 2_000]);
            let out = run(from, to, &signal, 4_000);
            let (half, edge) = (out.len() / 2, to as usize / 100);
            assert!(out[edge..half - edge].iter().all(|s| *s > 30_000), "{from} to {to}");
            assert!(out[half + edge..].iter().all(|s| *s < -30_000), "{from} to {to}");
        }
    }

    #[test]
    fn a_short_room_takes_nothing() {
        let mut resampler = Resampler::new(8_000, 48_000).unwrap();
        let fresh = resampler.clone();
        assert_eq!(
            resampler.process(&[1; 160], &mut [0; 959]),
            Err(CodecError::Room { needed: 960, room: 959 })
        );
        assert_eq!((resampler.held, resampler.at, resampler.phase), (fresh.held, fresh.at, fresh.phase));
        assert!(Resampler::new(44_100, 48_000).is_err());
    }
}
