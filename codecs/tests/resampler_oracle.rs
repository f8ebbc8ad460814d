//! The resampler against one that works in another way: rubato's, by Fourier transforms.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "test signals are small, and a test that cannot set up has failed"
)]

use std::f64::consts::TAU;

use crosspoint_codecs::kernels::resample::{RATES, Resampler};
use rubato::audioadapter_buffers::owned::InterleavedOwned;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

/// Tones stand on multiples of this, and 100 ms hold whole cycles of each.
const GRID: u32 = 10;
/// Highest tone of the pass band, as a part of the lower rate: what the resampler's documentation
/// calls flat.
const FLAT: f64 = 0.42;
/// From here on nothing passes.
const STOP: f64 = 0.535;

/// A chord of `hertz`, `seconds` long, its peaks at about 12 bits.
fn chord(rate: u32, hertz: &[u32], seconds: u32) -> Vec<i16> {
    let peak = 12_000.0 / (hertz.len() as f64).sqrt();
    let sample = |n: u32| {
        // Phases of a square law keep the peaks of a chord low.
        let tone = |(k, hz): (usize, &u32)| {
            let turns = f64::from(n) * f64::from(*hz) / f64::from(rate);
            (TAU * (turns + 0.5 * (k * k) as f64 / hertz.len() as f64)).sin()
        };
        (peak * hertz.iter().enumerate().map(tone).sum::<f64>()).round() as i16
    };
    (0..rate * seconds).map(sample).collect()
}

fn ours(from: u32, to: u32, pcm: &[i16]) -> Vec<f64> {
    let mut resampler = Resampler::new(from, to).unwrap();
    let mut out = vec![0; resampler.output_len(pcm.len())];
    let written = resampler.process(pcm, &mut out).unwrap();
    out[..written].iter().map(|s| f64::from(*s)).collect()
}

/// Without delay: rubato cuts its own off.
fn oracle(from: u32, to: u32, pcm: &[i16]) -> Vec<f64> {
    // One transform of a tenth of a second and more: its own transition is narrow.
    let window = WindowFunction::BlackmanHarris2;
    let mut resampler =
        Fft::<f64>::new_custom(from as usize, to as usize, 4_800, 1, 1, window, FixedSync::Input).unwrap();
    let input =
        InterleavedOwned::new_from(pcm.iter().map(|s| f64::from(*s)).collect(), 1, pcm.len()).unwrap();
    resampler.process_all(&input, pcm.len(), None).unwrap().take_data()
}

/// 100 ms from half a second on: everything has settled, and its phases are those of time zero.
fn steady(pcm: &[f64], rate: u32) -> &[f64] {
    &pcm[rate as usize / 2..][..rate as usize / 10]
}

/// Amplitude and phase (in turns) of a tone on the grid.
fn tone(pcm: &[f64], rate: u32, hertz: u32) -> (f64, f64) {
    let turn = TAU * f64::from(hertz) / f64::from(rate);
    let (re, im) = pcm.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, x)| {
        let (s, c) = (turn * n as f64).sin_cos();
        (re + x * c, im - x * s)
    });
    let half = pcm.len() as f64 / 2.0;
    (re.hypot(im) / half, im.atan2(re) / TAU)
}

fn energy(pcm: &[f64]) -> f64 {
    pcm.iter().map(|s| s * s).sum()
}

fn decibel(ratio: f64) -> f64 {
    10.0 * ratio.max(1e-20).log10()
}

/// What is no tone of the chord against what is, in dB.
fn signal_to_rest(pcm: &[f64], rate: u32, hertz: &[u32]) -> f64 {
    let tones: f64 = hertz.iter().map(|hz| tone(pcm, rate, *hz).0.powi(2) / 2.0 * pcm.len() as f64).sum();
    decibel(tones / (energy(pcm) - tones).max(1e-9))
}

fn pairs() -> impl Iterator<Item = (u32, u32)> {
    RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to))).filter(|(from, to)| from != to)
}

/// On the grid, from `low` to `high` parts of `rate`: about thirty.
fn tones(rate: u32, low: f64, high: f64) -> Vec<u32> {
    let at = |part: f64| (f64::from(rate) * part) as u32 / GRID;
    let (low, high) = (at(low).max(1), at(high));
    (low..=high).step_by(((high - low) / 30).max(1) as usize).map(|step| step * GRID).collect()
}

#[test]
fn the_pass_band_is_that_of_the_oracle_in_level_and_phase() {
    for (from, to) in pairs() {
        let hertz = tones(from.min(to), 0.01, FLAT);
        let signal = chord(from, &hertz, 1);
        let (ours, oracle) = (ours(from, to, &signal), oracle(from, to, &signal));
        let (ours, oracle) = (steady(&ours, to), steady(&oracle, to));
        let (ours_rest, oracle_rest) = (signal_to_rest(ours, to, &hertz), signal_to_rest(oracle, to, &hertz));
        assert!(oracle_rest >= 85.0, "{from} to {to}: the oracle has {oracle_rest:.1} dB");
        assert!(ours_rest >= 70.0, "{from} to {to}: {ours_rest:.1} dB, the oracle {oracle_rest:.1} dB");
        let delay = Resampler::new(from, to).unwrap().delay().as_secs_f64();
        for hz in &hertz {
            let (mine, theirs) = (tone(ours, to, *hz), tone(oracle, to, *hz));
            let level = decibel((mine.0 / theirs.0).powi(2));
            assert!(level.abs() < 0.05, "{from} to {to}, {hz} Hz: {level:.3} dB");
            // Linear phase: every tone is late by what is told, to half a sample of the lower rate.
            let turns = theirs.1 - mine.1 - f64::from(*hz) * delay;
            let late = (turns - turns.round()) / f64::from(*hz);
            let told = late.abs() * f64::from(from.min(to)) < 0.55;
            assert!(told, "{from} to {to}, {hz} Hz: off by {:.1} us", late * 1e6);
        }
    }
}

#[test]
fn what_folds_back_is_60_db_down_at_least() {
    for (from, to) in pairs().filter(|(from, to)| from > to) {
        let hertz = tones(to, STOP, f64::from(from) / f64::from(to) * 0.49);
        let signal = chord(from, &hertz, 1);
        let whole: Vec<f64> = signal.iter().map(|s| f64::from(*s)).collect();
        let mean = |pcm: &[f64]| energy(pcm) / pcm.len() as f64;
        let left = |out: &[f64]| decibel(mean(steady(out, to)) / mean(&whole));
        let (ours, oracle) = (left(&ours(from, to, &signal)), left(&oracle(from, to, &signal)));
        assert!(oracle <= -85.0, "{from} to {to}: the oracle leaves {oracle:.1} dB");
        assert!(ours <= -60.0, "{from} to {to}: {ours:.1} dB, the oracle {oracle:.1} dB");
    }
}
