//! The low-pass filter as rows of coefficients.

use super::{CUTOFF, KAISER_BETA};
use crate::audio::saturate;

/// One row of `length` taps for each of `up` phases; the sum of each is one.
pub(super) fn rows(up: usize, down: usize, length: usize) -> Vec<Vec<f64>> {
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
    (0..up).map(row).collect()
}

/// Bits after the point: as many as 16 bits allow, while the largest sum that samples at the rails
/// can make stays within 32 bits.
pub(super) fn shift(rows: &[Vec<f64>]) -> u32 {
    let widest = rows.iter().map(|row| row.iter().map(|c| c.abs()).sum::<f64>()).fold(0.0, f64::max);
    if widest * f64::from(1 << 15) < 65_000.0 { 15 } else { 14 }
}

/// A row with `shift` bits after the point.
pub(super) fn rounded(row: &[f64], shift: u32) -> Vec<i16> {
    let mut row: Vec<i16> = row.iter().map(|c| saturate(round(c * f64::from(1 << shift)))).collect();
    // Rounding moves the sum by some units: the largest tap takes them, so that a constant stays
    // one in every phase.
    let sum: i32 = row.iter().map(|c| i32::from(*c)).sum();
    if let Some(largest) = row.iter_mut().max() {
        *largest = saturate(i32::from(*largest) + (1 << shift) - sum);
    }
    row
}

/// What a `rounded` row lacks, with `more` bits beyond its own; together their sum is one still.
pub(super) fn rest(row: &[f64], rounded: &[i16], shift: u32, more: u32) -> Vec<i16> {
    let one = f64::from(1 << (shift + more));
    let mut rest: Vec<i32> =
        row.iter().zip(rounded).map(|(c, coarse)| round(c * one) - (i32::from(*coarse) << more)).collect();
    let sum: i32 = rest.iter().sum();
    if let Some(middle) = rest.get_mut(row.len() / 2) {
        *middle -= sum;
    }
    rest.into_iter().map(saturate).collect()
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
fn round(value: f64) -> i32 {
    value.round() as i32
}
