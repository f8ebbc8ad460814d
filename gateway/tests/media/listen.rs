//! What is in a recording: the level of one tone and of everything else.

use std::f64::consts::TAU;

/// Power of the best sine of `hertz` in `samples`, free in phase, and of the rest: dB of a
/// full-scale sine each.
pub fn tone(samples: &[i16], rate: u32, hertz: f64) -> (f64, f64) {
    let (mut ss, mut cc, mut sc, mut xs, mut xc, mut all) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let (s, c) = (TAU * hertz * n as f64 / f64::from(rate)).sin_cos();
        let x = f64::from(*sample);
        ss += s * s;
        cc += c * c;
        sc += s * c;
        xs += x * s;
        xc += x * c;
        all += x * x;
    }
    let det = ss * cc - sc * sc;
    let (a, b) = ((xs * cc - xc * sc) / det, (xc * ss - xs * sc) / det);
    let fitted = a * xs + b * xc;
    let decibel =
        |power: f64| 10.0 * (power / samples.len() as f64 / (32_767f64.powi(2) / 2.0)).max(1e-12).log10();
    (decibel(fitted), decibel((all - fitted).max(0.0)))
}

/// Signal to everything else in dB over windows of 200 ms, the worst of them, and the level.
pub fn worst_snr(samples: &[i16], rate: u32, hertz: f64) -> f64 {
    let window = rate as usize / 5;
    samples
        .chunks_exact(window)
        .map(|window| tone(window, rate, hertz))
        .map(|(signal, rest)| signal - rest)
        .fold(f64::INFINITY, f64::min)
}

/// The frequency between `around` less and more 3 % that fits best.
pub fn frequency(samples: &[i16], rate: u32, around: f64) -> f64 {
    let mut best = (f64::NEG_INFINITY, around);
    let window = &samples[..samples.len().min(rate as usize)];
    for step in -120..=120 {
        let hertz = around * (1.0 + f64::from(step) * 0.000_25);
        let level = tone(window, rate, hertz).0;
        if level > best.0 {
            best = (level, hertz);
        }
    }
    best.1
}

/// Windows of 10 ms below -50 dB.
pub fn silent_windows(samples: &[i16], rate: u32) -> usize {
    samples.chunks_exact(rate as usize / 100).filter(|window| level(window) < -50.0).count()
}

/// Level in dB of a full-scale sine.
pub fn level(samples: &[i16]) -> f64 {
    let power = samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    10.0 * (power / (32_767f64.powi(2) / 2.0)).max(1e-12).log10()
}

/// Greatest step between two neighbours.
pub fn steepest(samples: &[i16]) -> u32 {
    samples.windows(2).map(|pair| i32::from(pair[0]).abs_diff(i32::from(pair[1]))).max().unwrap_or(0)
}
