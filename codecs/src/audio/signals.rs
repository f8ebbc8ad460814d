//! Test signals and how near one signal is to another.

use std::f64::consts::TAU;

use dasp::Signal;

fn sample(value: f64) -> i16 {
    super::saturate_f32(value as f32)
}

/// A sine of `hz` with the given peak.
pub(crate) fn tone(rate: u32, hz: f64, peak: f64, len: usize) -> Vec<i16> {
    let sine = dasp::signal::rate(f64::from(rate)).const_hz(hz).sine();
    sine.take(len).map(|value| sample(peak * value)).collect()
}

/// A vowel-like signal: harmonics of `pitch` under two formants, slowly swelling.
pub(crate) fn voice(rate: u32, pitch: f64, len: usize) -> Vec<i16> {
    let formant = |hz: f64| {
        1.0 / (1.0 + ((hz - 500.0) / 200.0).powi(2)) + 0.5 / (1.0 + ((hz - 1500.0) / 300.0).powi(2))
    };
    let harmonics: Vec<(f64, f64)> = (1..)
        .map(|k| pitch * f64::from(k))
        .take_while(|hz| *hz < 3_400.0)
        .map(|hz| (hz, formant(hz)))
        .collect();
    (0..len)
        .map(|n| {
            let t = n as f64 / f64::from(rate);
            let swell = 0.8 + 0.2 * (TAU * 3.0 * t).sin();
            let sum: f64 = harmonics.iter().map(|(hz, level)| level * (TAU * hz * t + hz).sin()).sum();
            sample(4_000.0 * swell * sum)
        })
        .collect()
}

/// Seeded noise with the given peak.
pub(crate) fn noise(seed: u64, peak: i32, len: usize) -> Vec<i16> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            super::saturate((state % (2 * peak as u64 + 1)) as i32 - peak)
        })
        .collect()
}

pub(crate) fn energy(pcm: &[i16]) -> f64 {
    pcm.iter().map(|s| f64::from(*s).powi(2)).sum()
}

/// Signal to difference, dB.
pub(crate) fn snr(wanted: &[i16], got: &[i16]) -> f64 {
    assert_eq!(wanted.len(), got.len());
    let wrong: f64 = wanted.iter().zip(got).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (energy(wanted) / wrong.max(1e-9)).log10()
}

/// The delay of `got` behind `wanted` (at most `longest` samples) at which they fit best, and
/// the SNR there, for codecs with delay.
pub(crate) fn best_snr(wanted: &[i16], got: &[i16], longest: usize) -> (usize, f64) {
    let len = wanted.len().min(got.len()) - longest;
    (0..=longest)
        .map(|delay| (delay, snr(&wanted[..len], &got[delay..delay + len])))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap()
}
