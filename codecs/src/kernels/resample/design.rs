//! The low-pass filter as rows of coefficients.

use super::{CUTOFF, KAISER_BETA};
use crate::audio::saturate;

/// The rows of coefficients and their binary point.
pub(super) fn design(up: usize, down: usize, length: usize, taps: usize) -> (Box<[i16]>, u32) {
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
