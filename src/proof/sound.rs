//! Sound: the tone in a recording, its purity, its gaps, its onsets.

use std::f64::consts::PI;
use std::time::Duration;

/// The strongest tone of a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Hz, between the bins of the spectrum by the phase of two halves.
    pub frequency: f64,
    /// Power of the tone over the power of all the rest, in dB.
    pub snr: f64,
    /// Level of the tone in dB below a full-scale sine.
    pub level: f64,
}

/// What a recording of one tone shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoundReport {
    /// The tone.
    pub tone: Tone,
    /// 20 ms windows that are silent although the tone should be there.
    pub silent_windows: usize,
    /// How long the recording is.
    pub length: Duration,
}

impl SoundReport {
    /// Of `samples` at `rate`, which should hold one tone from `skip` on.
    pub fn new(samples: &[i16], rate: u32, skip: Duration) -> Self {
        let from = (skip.as_secs_f64() * f64::from(rate)) as usize;
        let body = samples.get(from..).unwrap_or(&[]);
        Self {
            tone: tone(body, rate),
            silent_windows: gaps(body, rate, -50.0),
            length: Duration::from_secs_f64(samples.len() as f64 / f64::from(rate)),
        }
    }
}

/// A window whose best sine has less of its power says nothing of the tone.
const BENT: f64 = 0.95;

/// Finds the strongest tone between 80 Hz and 0.45 of the rate, and how pure it is.
///
/// The frequency is found on a grid in the middle, or elsewhere where that is bent, sharpened in each window of 200 ms until the fit
/// of a sine by least squares is best, and is the median of these: a window that a slip bends says
/// nothing of the others. The residue of the fits is the noise. Slow drift of phase (a playout that
/// slips samples) therefore counts as noise, as a listener would count it: the powers of the windows
/// are added.
pub fn tone(samples: &[i16], rate: u32) -> Tone {
    let rate = f64::from(rate);
    let window = (rate / 5.0) as usize;
    if samples.len() < window {
        return Tone { frequency: 0.0, snr: f64::NEG_INFINITY, level: f64::NEG_INFINITY };
    }
    let mut best = on_a_grid(part(samples, window, 2), rate);
    if best.0 < BENT {
        // A playout that catches up on what has been held up bends all of a window; hardly three of them.
        let others = [1, 3].map(|quarter| on_a_grid(part(samples, window, quarter), rate));
        best = others.into_iter().fold(best, |best, other| if other.0 > best.0 { other } else { best });
    }
    let chunks: Vec<Vec<f64>> =
        samples.chunks_exact(window).map(|chunk| chunk.iter().map(|s| f64::from(*s)).collect()).collect();
    let mut found: Vec<f64> = chunks.iter().map(|chunk| sharpened(chunk, best.1, rate)).collect();
    found.sort_by(f64::total_cmp);
    let frequency = found[found.len() / 2];
    let (mut signal, mut noise) = (0.0, 0.0);
    for chunk in &chunks {
        let (power, total) = fit(chunk, frequency, rate);
        signal += power;
        noise += (total - power).max(0.0);
    }
    let full = 32767.0_f64.powi(2) / 2.0;
    let per_sample = signal / (chunks.len() * window) as f64;
    Tone {
        frequency,
        snr: 10.0 * (signal / noise.max(1e-9)).log10(),
        level: 10.0 * (per_sample / full).max(1e-12).log10(),
    }
}

/// SNR in dB of a tone of `frequency` in each whole window of 200 ms: their median tells how well a
/// codec keeps the tone, and those that lie far below it are moments in which a playout slipped.
pub fn purity(samples: &[i16], rate: u32, frequency: f64) -> Vec<f64> {
    let window = (rate as usize / 5).max(1);
    let snr = |chunk: &[i16]| {
        let chunk: Vec<f64> = chunk.iter().map(|s| f64::from(*s)).collect();
        let (power, total) = fit(&chunk, frequency, f64::from(rate));
        10.0 * (power / (total - power).max(1e-9)).log10()
    };
    samples.chunks_exact(window).map(snr).collect()
}

/// Windows of 20 ms whose level lies below `floor` (dB of a full-scale sine).
pub fn gaps(samples: &[i16], rate: u32, floor: f64) -> usize {
    let window = rate as usize / 50;
    samples.chunks_exact(window.max(1)).filter(|chunk| level(chunk) < floor).count()
}

/// Moments at which a tone of `frequency` begins: a window of 10 ms holds it, the one before did
/// not. Used to find the beeps that belong to the flashes of a clip.
pub fn onsets(samples: &[i16], rate: u32, frequency: f64, floor: f64) -> Vec<Duration> {
    let window = rate as usize / 100;
    let mut found = Vec::new();
    let mut on = false;
    for (index, chunk) in samples.chunks_exact(window.max(1)).enumerate() {
        let chunk: Vec<f64> = chunk.iter().map(|s| f64::from(*s)).collect();
        let (power, total) = fit(&chunk, frequency, f64::from(rate));
        let level = 10.0 * (power / window as f64 / (32767.0_f64.powi(2) / 2.0)).max(1e-12).log10();
        let now = level > floor && power > 0.5 * total;
        if now && !on {
            found.push(Duration::from_millis(10 * index as u64));
        }
        on = now;
    }
    found
}

/// How much of the power in a window its best sine has, and that sine's frequency. The grid is as wide as the
/// main lobe of a window of 200 ms: no tone falls between.
fn on_a_grid(samples: &[i16], rate: f64) -> (f64, f64) {
    let samples: Vec<f64> = samples.iter().map(|s| f64::from(*s)).collect();
    let (mut best, mut all) = ((0.0, 80.0), 0.0);
    let mut frequency = 80.0;
    while frequency < rate * 0.45 {
        let (power, total) = fit(&samples, frequency, rate);
        all = total;
        if power > best.0 {
            best = (power, frequency);
        }
        frequency += 2.0;
    }
    (best.0 / f64::max(all, 1e-9), best.1)
}

/// The frequency near `from`, of a grid of 2 Hz, whose sine fits best.
fn sharpened(samples: &[f64], from: f64, rate: f64) -> f64 {
    let mut best = (fit(samples, from, rate).0, from);
    let mut step = 1.0;
    while step > 0.001 {
        for candidate in [best.1 - step, best.1 + step] {
            let power = fit(samples, candidate, rate).0;
            if power > best.0 {
                best = (power, candidate);
            }
        }
        step /= 1.5;
    }
    best.1
}

/// A window at so many quarters of the recording.
fn part(samples: &[i16], window: usize, quarters: usize) -> &[i16] {
    let from = (samples.len() - window) * quarters / 4;
    &samples[from..from + window]
}

fn level(samples: &[i16]) -> f64 {
    let power: f64 = samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    10.0 * (power / (32767.0_f64.powi(2) / 2.0)).max(1e-12).log10()
}

/// Energy of the best sine of `frequency` in `samples` by least squares, and the energy of all.
fn fit(samples: &[f64], frequency: f64, rate: f64) -> (f64, f64) {
    let (mut ss, mut cc, mut sc, mut xs, mut xc, mut total) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let turn = 2.0 * PI * frequency / rate;
    for (index, sample) in samples.iter().enumerate() {
        let (s, c) = (turn * index as f64).sin_cos();
        ss += s * s;
        cc += c * c;
        sc += s * c;
        xs += sample * s;
        xc += sample * c;
        total += sample * sample;
    }
    let det = ss * cc - sc * sc;
    if det.abs() < 1e-9 {
        return (0.0, total);
    }
    let a = (xs * cc - xc * sc) / det;
    let b = (xc * ss - xs * sc) / det;
    (a * xs + b * xc, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(frequency: f64, amplitude: f64, rate: u32, seconds: f64) -> Vec<i16> {
        (0..(f64::from(rate) * seconds) as usize)
            .map(|n| (amplitude * (2.0 * PI * frequency * n as f64 / f64::from(rate)).sin()).round() as i16)
            .collect()
    }

    #[test]
    fn a_pure_tone_is_found_to_a_hundredth_of_a_hertz() {
        let found = tone(&sine(997.0, 16000.0, 48000, 2.0), 48000);
        assert!((found.frequency - 997.0).abs() < 0.05, "{found:?}");
        assert!(found.snr > 80.0, "{found:?}");
        assert!((found.level + 6.2).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn noise_lowers_the_ratio_as_it_should() {
        let mut samples = sine(440.0, 10000.0, 8000, 2.0);
        let mut state = 1u32;
        for sample in &mut samples {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample += ((state >> 16).cast_signed() % 1000 - 500) as i16;
        }
        // The noise is even over 1000 steps: 288.7 RMS against 7071: 27.8 dB.
        let found = tone(&samples, 8000);
        assert!((found.snr - 27.8).abs() < 0.7, "{found:?}");
    }

    #[test]
    fn a_playout_that_catches_up_in_the_middle_does_not_hide_the_tone() {
        let mut samples = Vec::new();
        for (frame, sound) in sine(440.0, 10000.0, 8000, 4.0).chunks(160).enumerate() {
            let catches_up = (95..105).contains(&frame);
            samples.extend_from_slice(&sound[..if catches_up { 120 } else { 160 }]);
        }
        let found = tone(&samples, 8000);
        assert!((found.frequency - 440.0).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn a_slip_in_the_middle_does_not_bend_the_frequency() {
        let mut samples = sine(440.0, 10000.0, 8000, 2.2);
        samples.drain(8400..8404);
        let found = tone(&samples, 8000);
        assert!((found.frequency - 440.0).abs() < 0.01, "{found:?}");
        let mut windows = purity(&samples, 8000, found.frequency);
        windows.sort_by(f64::total_cmp);
        assert!(windows[1] > 60.0, "{windows:?}");
    }

    #[test]
    fn a_slip_spoils_its_own_window_only() {
        let mut samples = sine(440.0, 10000.0, 8000, 1.0);
        samples.remove(3000);
        samples.drain(3000..3008);
        let windows = purity(&samples, 8000, 440.0);
        assert_eq!(windows.len(), 4);
        assert!(windows[1] < 10.0 && [0, 2, 3].iter().all(|at| windows[*at] > 60.0), "{windows:?}");
    }

    #[test]
    fn silence_and_gaps_are_seen() {
        let mut samples = sine(440.0, 10000.0, 8000, 1.0);
        samples[1600..1920].fill(0);
        assert_eq!(gaps(&samples, 8000, -50.0), 2);
        assert!(tone(&vec![0; 8000], 8000).snr < 0.0 || tone(&vec![0; 8000], 8000).level < -100.0);
        assert!(tone(&[], 8000).snr.is_infinite());
    }

    #[test]
    fn beeps_are_found_where_they_begin() {
        let mut samples = vec![0i16; 24000];
        for start in [4000, 14000] {
            for (to, from) in samples[start..].iter_mut().zip(sine(1000.0, 12000.0, 8000, 0.1)) {
                *to = from;
            }
        }
        assert_eq!(
            onsets(&samples, 8000, 1000.0, -30.0),
            [Duration::from_millis(500), Duration::from_millis(1750)]
        );
    }
}
