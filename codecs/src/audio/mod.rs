//! Audio codecs, one file each, behind the traits of [`crate::codec`].

mod conceal;
pub mod g711;
pub mod g722;
#[cfg(feature = "opus")]
pub mod opus;
#[cfg(test)]
pub(crate) mod signals;

/// `value` as a sample, at the rails where it lies beyond them.
#[inline(always)]
pub(crate) const fn saturate(value: i32) -> i16 {
    if value > i16::MAX as i32 {
        i16::MAX
    } else if value < i16::MIN as i32 {
        i16::MIN
    } else {
        #[allow(clippy::cast_possible_truncation, reason = "both rails were tested above")]
        let sample = value as i16;
        sample
    }
}

/// `value` as a sample, rounded, at the rails where it lies beyond them.
#[inline(always)]
pub(crate) const fn saturate_f32(value: f32) -> i16 {
    #[allow(clippy::cast_possible_truncation, reason = "a float cast saturates, and NaN becomes zero")]
    let sample = (value + 0.5f32.copysign(value)) as i16;
    sample
}
