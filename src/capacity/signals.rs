//! What is worked on: something like a voice and something like a moving picture.

use std::f64::consts::TAU;

use crosspoint_codecs::frame::{Pool, VideoFrame};

use super::CapacityError;

/// One second of harmonics of `hertz` that swell and fade like syllables.
pub(super) fn voice(rate: u32, hertz: f64) -> Vec<i16> {
    let partials = (1..20).map(f64::from).filter(|k| k * hertz < f64::from(rate) * 0.45);
    let partials: Vec<f64> = partials.collect();
    (0..rate)
        .map(|n| {
            let t = f64::from(n) / f64::from(rate);
            let swell = 0.6 + 0.4 * (TAU * 4.0 * t).sin();
            let sum: f64 = partials.iter().map(|k| (TAU * hertz * k * t).sin() / k).sum();
            #[allow(clippy::cast_possible_truncation, reason = "a float cast saturates")]
            let sample = (8_000.0 * swell * sum) as i16;
            sample
        })
        .collect()
}

/// `count` pictures of a texture that drifts, over and under itself.
pub(super) fn pictures(
    (width, height): (usize, usize),
    count: usize,
) -> Result<Vec<VideoFrame>, CapacityError> {
    let pool = Pool::new(count, VideoFrame::bytes(width, height));
    let picture = |n: usize| {
        VideoFrame::new(&pool, width, height, |planes| {
            for (line, row) in planes.y.chunks_exact_mut(width).enumerate() {
                let far = (line + n) / 5;
                for (column, y) in row.iter_mut().enumerate() {
                    let near = (column + 2 * n) / 3;
                    *y = u8::try_from(60 + (near + far) % 90 + (column * line) % 23).unwrap_or(235);
                }
            }
            planes.u.fill(110);
            planes.v.fill(140);
        })
    };
    (0..count).map(|n| picture(n).ok_or(CapacityError::Idle("the pool of pictures"))).collect()
}
