//! Pictures: how far one is from another.

/// The distance of two pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PictureDifference {
    /// Peak signal to noise ratio in dB; infinite when equal.
    pub psnr: f64,
    /// Mean of the first, 0 to 255.
    pub mean: f64,
}

/// Compares two planes of the same size, byte by byte.
///
/// # Panics
/// When the sizes differ: that is the caller's mistake, not a measurement.
pub fn psnr(seen: &[u8], shown: &[u8]) -> PictureDifference {
    assert_eq!(seen.len(), shown.len(), "planes of one size are compared");
    let count = seen.len().max(1) as f64;
    let squared: f64 =
        seen.iter().zip(shown).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>() / count;
    let mean = seen.iter().map(|a| f64::from(*a)).sum::<f64>() / count;
    PictureDifference { psnr: 10.0 * (255.0 * 255.0 / squared).log10(), mean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pictures_are_infinitely_close_and_one_step_is_48_decibels_off() {
        assert!(psnr(&[1, 2, 3], &[1, 2, 3]).psnr.is_infinite());
        assert!((psnr(&[1, 2, 3], &[2, 3, 4]).psnr - 48.13).abs() < 0.01);
    }
}
