//! One line of colour over one line of a plane, by cover. The plain version: what a faster one has
//! to equal, and the only place that it would have to be called from.

/// `below` becomes `above` by the share `cover` / 255, rounded to nearest. The three have one length;
/// what the shorter lack is left as it is.
#[inline]
pub(super) fn blend_line(below: &mut [u8], above: &[u8], cover: &[u8]) {
    for ((below, above), cover) in below.iter_mut().zip(above).zip(cover) {
        let share = u16::from(*cover);
        // At most 255 x 255 + 128, which fits; x / 255 rounded is (x + 128) x 257 / 65536.
        let sum = u16::from(*below) * (255 - share) + u16::from(*above) * share + 128;
        *below = high((sum >> 8) + sum);
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the upper half of 16 bits")]
const fn high(sum: u16) -> u8 {
    (sum >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_at_every_cover_is_rounded_to_nearest() {
        for below in 0..=255_u8 {
            for above in (0..=255_u8).step_by(5) {
                for cover in 0..=255_u8 {
                    let mut line = [below];
                    blend_line(&mut line, &[above], &[cover]);
                    let (below, above, share) =
                        (f32::from(below), f32::from(above), f32::from(cover) / 255.0);
                    let exact = below * (1.0 - share) + above * share;
                    assert!((f32::from(line[0]) - exact).abs() <= 0.501, "{below} {above} {cover}");
                }
            }
        }
    }
}
