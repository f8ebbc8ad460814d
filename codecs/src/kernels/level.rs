//! How loud a piece of sound is, as RFC 6464 tells it.

/// The level of silence, and the least that is told.
pub const SILENCE: u8 = 127;

/// The level of `pcm` in -dBov: 0 is a square wave at full scale, 127 silence (RFC 6464 section 3
/// and RFC 6465 appendix A: root mean square over the overload point).
pub fn level(pcm: &[i16]) -> u8 {
    // 2^34 samples of full scale fit, so nothing wraps, and no check keeps vectors away.
    let square =
        |sample: &i16| u64::from(u32::from(sample.unsigned_abs()).wrapping_mul(sample.unsigned_abs().into()));
    level_of(pcm.iter().map(square).fold(0, u64::wrapping_add), pcm.len())
}

/// The level of `len` samples whose squares sum to `energy`.
#[allow(clippy::cast_precision_loss, reason = "a level in whole dB needs no more than f64 keeps")]
pub fn level_of(energy: u64, len: usize) -> u8 {
    if energy == 0 || len == 0 {
        return SILENCE;
    }
    let overload = f64::from(i16::MAX).powi(2) * len as f64;
    let below = -10.0 * (energy as f64 / overload).log10();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=127")]
    let level = below.round().clamp(0.0, f64::from(SILENCE)) as u8;
    level
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::signals::tone;

    #[test]
    fn known_levels() {
        assert_eq!(level(&[]), 127);
        assert_eq!(level(&[0; 960]), 127);
        assert_eq!(level(&[i16::MAX; 960]), 0);
        assert_eq!(level(&[i16::MIN; 960]), 0);
        // A sine at full scale is 3 dB below the square wave.
        assert_eq!(level(&tone(48_000, 1_000.0, 32_767.0, 960)), 3);
        assert_eq!(level(&tone(48_000, 1_000.0, 3_276.7, 960)), 23);
        assert_eq!(level(&[1; 960]), 90);
    }
}
