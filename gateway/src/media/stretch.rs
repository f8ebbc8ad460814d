//! Decoded sound on its way to the tick, made a little longer or shorter where playout asks for it.
//!
//! Two means: a *slip* plays a tick's samples out of one more or fewer (cubic interpolation) and
//! follows a drifting clock; a *splice* cuts out or repeats whole cycles of the voice, found by correlation, and moves the
//! delay by up to 10 ms at once.

use crosspoint_codecs::format::Codec;

/// Fastest rate that is decoded.
const RATE: usize = Codec::Opus.sample_rate() as usize;
/// Room: a tick that is almost full, the longest packet (Opus, 120 ms), a splice; and some more.
const ROOM_MS: usize = 240;
/// A splice is between these long: from the shortest cycle of a high voice to two of a low one.
const SHORTEST_US: usize = 2_500;
const LONGEST_US: usize = 10_000;
/// Sound over which a splice is blended, and by which places are compared.
const BLEND_US: usize = 5_000;
/// Mean square below which any place is as good as another (-60 dBov).
const QUIET: f32 = 33.0 * 33.0;
/// Correlation from which a splice is not heard.
const ALIKE: f32 = 0.7;
/// Correlation of what is the same for all purposes, wherever it lies: a hum too slow for a cycle.
const SAME: f32 = 0.99;
/// Search step, as a fraction of a second: fine enough for 4 kHz sound; refined around the best.
const COARSE: usize = 8_000;

/// Bits of a position after the point.
const FRACTION: u32 = 20;

/// A line of samples, oldest first. Allocates when made, never afterwards; what does not fit is
/// refused.
#[derive(Debug)]
pub(super) struct Stretch {
    samples: Box<[i16]>,
    len: usize,
    /// The last sample given out, for the interpolation across ticks.
    before: i16,
    rate: usize,
}

impl Stretch {
    pub(super) fn new(rate: u32) -> Self {
        let rate = usize::try_from(rate).unwrap_or(RATE).clamp(COARSE, RATE);
        Self { samples: vec![0; rate * ROOM_MS / 1000].into(), len: 0, before: 0, rate }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends what `fill` writes to the front of its slice: all the room that is left. Returns
    /// how much that was.
    pub(super) fn append(&mut self, fill: impl FnOnce(&mut [i16]) -> usize) -> usize {
        let room = self.samples.get_mut(self.len..).unwrap_or(&mut []);
        let added = fill(room).min(room.len());
        self.len += added;
        added
    }

    /// Samples that must be there to cut from, when `tick` of them are given out afterwards.
    pub(super) const fn needed(&self, tick: usize) -> usize {
        let compared = self.of(LONGEST_US) + self.of(BLEND_US);
        let left = tick + self.of(LONGEST_US);
        if left > compared { left } else { compared }
    }

    /// Gives out `out.len()` samples, made of `taken` of the line. Silence where the line is too
    /// short, which its owner sees to that it is not.
    pub(super) fn give(&mut self, taken: usize, out: &mut [i16]) {
        let taken = taken.min(self.len);
        let line = self.samples.get(..self.len).unwrap_or(&[]);
        if taken == out.len() {
            out.copy_from_slice(&line[..taken]);
        } else {
            interpolate(self.before, line, taken, out);
        }
        self.before = line.get(..taken).and_then(|given| given.last()).copied().unwrap_or(0);
        self.samples.copy_within(taken..self.len, 0);
        self.len -= taken;
    }

    /// Cuts a piece of at most about `most` samples out of the front of the line; returns its
    /// length, zero when no place is good enough. `force` takes the best there is.
    pub(super) fn cut(&mut self, most: usize, force: bool) -> usize {
        let Some(lag) = self.place(most, force) else {
            return 0;
        };
        let blend = self.of(BLEND_US);
        for at in 0..blend {
            self.samples[at] = mix(self.samples[at], self.samples[at + lag], at, blend);
        }
        self.samples.copy_within(blend + lag..self.len, blend);
        self.len -= lag;
        lag
    }

    /// Repeats a piece at the front of the line; returns its length, zero as for [`Self::cut`].
    pub(super) fn repeat(&mut self, most: usize, force: bool) -> usize {
        let Some(lag) = self.place(most, force) else {
            return 0;
        };
        if self.len + lag > self.samples.len() {
            return 0;
        }
        let blend = self.of(BLEND_US);
        let mut blended = [0; LONGEST_BLEND];
        for (at, sample) in blended.iter_mut().take(blend).enumerate() {
            *sample = mix(self.samples[lag + at], self.samples[at], at, blend);
        }
        self.samples.copy_within(blend..self.len, blend + lag);
        self.samples[lag..lag + blend].copy_from_slice(&blended[..blend]);
        self.len += lag;
        lag
    }

    /// How long a piece at the front fits what follows it.
    fn place(&self, most: usize, force: bool) -> Option<usize> {
        let (shortest, blend) = (self.of(SHORTEST_US), self.of(BLEND_US));
        let longest = self.of(LONGEST_US).min(most).max(shortest);
        let line = self.samples.get(..self.len)?;
        let compared = line.get(..longest + blend)?;
        let energy: f32 = compared.iter().map(|s| f32::from(*s) * f32::from(*s)).sum();
        if energy < QUIET * (compared.len() as f32) {
            return Some(longest);
        }
        let step = (self.rate / COARSE).max(1);
        // What is not there yet may be better still.
        let likeness = |lag: usize, stride: usize| {
            line.get(lag..lag + blend).map_or(f32::INFINITY, |other| alike(&line[..blend], other, stride))
        };
        // The most alike, and the most alike of those that are a summit: a place that gets better
        // and better up to the end of the range is a part of a cycle, not a whole one.
        let best = |from: usize, to: usize, stride: usize| {
            let (mut best, mut summit) = ((0.0, from), (0.0, from));
            let (mut before, mut here) =
                (likeness(from.saturating_sub(stride), stride), likeness(from, stride));
            let mut lag = from;
            while lag <= to {
                let next = likeness(lag + stride, stride);
                if here > best.0 {
                    best = (here, lag);
                }
                if here > summit.0 && here >= before && here >= next {
                    summit = (here, lag);
                }
                (before, here) = (here, next);
                lag += stride;
            }
            (best, summit)
        };
        let (best_of_all, summit) = best(shortest, longest, step);
        let (mut alike, mut lag) = if summit.0 >= ALIKE { summit } else { best_of_all };
        let whole = summit.0 >= ALIKE || alike >= SAME;
        if step > 1 {
            let (from, to) = ((lag + 1).saturating_sub(step).max(shortest), (lag + step - 1).min(longest));
            ((alike, lag), _) = best(from, to, 1);
        }
        let good = whole && alike >= ALIKE;
        (good || force).then_some(lag)
    }

    const fn of(&self, micros: usize) -> usize {
        self.rate * micros / 1_000_000
    }
}

/// [`BLEND_US`] at the highest rate.
const LONGEST_BLEND: usize = RATE * BLEND_US / 1_000_000;

/// Normalised correlation, of each `stride`th sample.
fn alike(one: &[i16], other: &[i16], stride: usize) -> f32 {
    let (mut cross, mut one_power, mut other_power) = (0.0f32, 1.0f32, 1.0f32);
    for (a, b) in one.iter().step_by(stride).zip(other.iter().step_by(stride)) {
        let (a, b) = (f32::from(*a), f32::from(*b));
        cross += a * b;
        one_power += a * a;
        other_power += b * b;
    }
    cross / (one_power * other_power).sqrt()
}

/// From `from` to `to` as `at` goes to `len`.
fn mix(from: i16, to: i16, at: usize, len: usize) -> i16 {
    let part = (at as f32 + 0.5) / len as f32;
    let mixed = f32::from(from) + (f32::from(to) - f32::from(from)) * part;
    rounded(mixed)
}

/// `taken` samples of `line` spread over `out`, by a cubic through four neighbours (Catmull-Rom).
fn interpolate(before: i16, line: &[i16], taken: usize, out: &mut [i16]) {
    // In 2^-20 of a sample, so that the last position is right and no float is cut to an index.
    let ratio = (taken << FRACTION) / out.len().max(1);
    let at = |index: usize| f32::from(line.get(index).or_else(|| line.last()).copied().unwrap_or(0));
    for (index, sample) in out.iter_mut().enumerate() {
        let position = index * ratio;
        let whole = position >> FRACTION;
        let t = (position & ((1 << FRACTION) - 1)) as f32 / (1 << FRACTION) as f32;
        let p0 = if whole == 0 { f32::from(before) } else { at(whole - 1) };
        let (p1, p2, p3) = (at(whole), at(whole + 1), at(whole + 2));
        let value = p1
            + 0.5
                * t
                * (p2 - p0 + t * (2.0 * p0 - 5.0 * p1 + 4.0 * p2 - p3 + t * (3.0 * (p1 - p2) + p3 - p0)));
        *sample = rounded(value);
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a float cast saturates")]
const fn rounded(value: f32) -> i16 {
    value.round() as i16
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "test signals are small")]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn line(rate: u32, hertz: f64, len: usize) -> Stretch {
        let mut stretch = Stretch::new(rate);
        let added = stretch.append(|room| {
            for (n, sample) in room.iter_mut().take(len).enumerate() {
                *sample = (10_000.0 * (TAU * hertz * n as f64 / f64::from(rate)).sin()) as i16;
            }
            len
        });
        assert_eq!(added, len);
        stretch
    }

    /// Steps no steeper than the tone's own, and its level throughout.
    fn assert_tone(samples: &[i16], rate: u32, hertz: f64) {
        let steepest = samples.windows(2).map(|pair| i32::from(pair[0]).abs_diff(i32::from(pair[1]))).max();
        let own = 10_000.0 * TAU * hertz / f64::from(rate);
        assert!(f64::from(steepest.unwrap()) < own * 1.25, "{steepest:?} where the tone has {own}");
        let cycle = (f64::from(rate) / hertz).ceil() as usize;
        for window in samples.chunks_exact(cycle) {
            let peak = window.iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!((8_000..=10_300).contains(&peak), "{peak} at {hertz} Hz, {rate}");
        }
    }

    #[test]
    fn splices_move_the_end_and_are_not_heard() {
        for rate in [8_000, 16_000, 48_000] {
            for hertz in [150.0, 219.7, 440.0, 1_000.0] {
                let len = usize::try_from(rate / 25).unwrap();
                for cut in [true, false] {
                    let mut stretch = line(rate, hertz, len);
                    let moved = if cut { stretch.cut(len, false) } else { stretch.repeat(len, false) };
                    assert!(moved >= stretch.of(SHORTEST_US) && moved <= stretch.of(LONGEST_US));
                    assert_eq!(stretch.len(), if cut { len - moved } else { len + moved });
                    let mut out = vec![0; stretch.len()];
                    stretch.give(out.len(), &mut out);
                    assert_eq!(stretch.len(), 0);
                    assert_tone(&out, rate, hertz);
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_cycle_is_no_place_and_the_whole_cycle_behind_it_is() {
        // 440 Hz has whole cycles of 2.27 and 4.55 ms. What is most alike within 3.5 ms is 2.5 ms
        // long, a tenth of a cycle off: alike enough by correlation, and heard as a jump.
        for cut in [true, false] {
            let splice = |most: usize, force: bool| {
                let mut stretch = line(48_000, 440.0, 1_920);
                if cut { stretch.cut(most, force) } else { stretch.repeat(most, force) }
            };
            assert_eq!((splice(168, false), splice(168, true)), (0, 120));
            assert_eq!(splice(264, false), 218);
            assert_eq!(splice(1_920, false), 436);
        }
        // A line that ends before the next cycle shows no summit either.
        let mut short = line(48_000, 440.0, 120 + 240 + 48);
        assert_eq!(short.cut(168, false), 0);
        // Of a sound too slow for a cycle any part is as good as the next.
        let mut slow = line(48_000, 440.0, 1_920);
        slow.samples.fill(5_000);
        assert!(slow.cut(168, false) > 0);
    }

    #[test]
    fn noise_is_spliced_only_by_force_and_quiet_anywhere() {
        let mut stretch = Stretch::new(8_000);
        let mut state = 1u32;
        stretch.append(|room| {
            for sample in room.iter_mut().take(320) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *sample = (state >> 20) as i16 * 4 - 8_192;
            }
            320
        });
        assert_eq!((stretch.cut(320, false), stretch.repeat(320, false)), (0, 0));
        assert!(stretch.cut(320, true) > 0);
        let mut quiet = line(8_000, 100.0, 320);
        quiet.samples.fill(3);
        assert_eq!(quiet.cut(320, false), 80);
        let mut short = line(8_000, 100.0, 100);
        assert_eq!((short.cut(80, true), short.repeat(80, true), short.len()), (0, 0, 100));
    }

    #[test]
    fn slips_are_smooth_across_ticks() {
        for taken in [159, 160, 161] {
            let mut stretch = line(8_000, 440.0, 1_700);
            let mut all = Vec::new();
            for _ in 0..10 {
                let mut out = [0; 160];
                stretch.give(taken, &mut out);
                all.extend(out);
            }
            assert_eq!(stretch.len(), 1_700 - 10 * taken);
            assert_tone(&all, 8_000, 440.0);
        }
    }

    #[test]
    fn an_empty_line_is_silent_and_a_full_one_refuses() {
        let mut stretch = Stretch::new(48_000);
        let mut out = [7; 960];
        stretch.give(960, &mut out);
        assert_eq!(out, [0; 960]);
        assert_eq!(stretch.append(|room| room.len() + 5), 48 * ROOM_MS);
        assert_eq!(stretch.append(|room| room.len() + 5), 0);
        assert_eq!(stretch.repeat(480, true), 0);
    }
}
