//! The specification: plain loops.

use fearless_simd::Simd;

use super::Place;
use super::plan::{ONE, Plan, Side};

/// One line in the making.
pub(super) struct Room<'a> {
    pub(super) sums: &'a mut [u32],
    pub(super) line: &'a mut [u16],
    /// A second line, where two are kept.
    pub(super) other: &'a mut [u16],
}

/// The upright way first, a line at a time, since that runs along the memory. Plain loops: what
/// the level adds is the compiler's choice of instructions for them.
#[inline(always)]
pub(super) fn scale<S: Simd>(
    _: S,
    plan: &Plan,
    from: &[u8],
    to: &mut [u8],
    place: &Place,
    room: &mut Room<'_>,
) {
    let (sums, line) = (&mut room.sums[..place.from_width], &mut room.line[..place.from_width]);
    for ((top, weights), out) in plan.upright.rows().zip(place.lines(to)) {
        blend_lines(&from[top * place.from_width..], weights, sums, line);
        across_line(&plan.across, line, out);
    }
}

#[inline(always)]
pub(super) fn across_line(side: &Side, line: &[u16], out: &mut [u8]) {
    match (side.taps, side.whole) {
        (2, true) => across_whole::<2>(line, out),
        (4, true) => across_whole::<4>(line, out),
        (1, _) => across::<1>(side, line, out),
        (2, _) => across::<2>(side, line, out),
        (3, _) => across::<3>(side, line, out),
        (4, _) => across::<4>(side, line, out),
        _ => {
            for ((start, weights), out) in side.rows().zip(out) {
                let pixels = &line[start..start + weights.len()];
                let products = pixels.iter().zip(weights).map(|(p, w)| u32::from(*p).wrapping_mul(*w));
                *out = whole(products.fold(0, u32::wrapping_add));
            }
        }
    }
}

/// Lines of `from` by weight, 8 bits after the point.
#[inline(always)]
fn blend_lines(from: &[u8], weights: &[u32], sums: &mut [u32], line: &mut [u16]) {
    let lines = from.chunks_exact(line.len());
    match weights {
        [one, ..] if *one == ONE => {
            line.iter_mut().zip(from).for_each(|(line, pixel)| *line = u16::from(*pixel) << 8);
        }
        [a, b] => {
            let (upper, lower) = from.split_at(line.len());
            for ((line, upper), lower) in line.iter_mut().zip(upper).zip(lower) {
                *line = point(
                    u32::from(*upper).wrapping_mul(*a).wrapping_add(u32::from(*lower).wrapping_mul(*b)),
                );
            }
        }
        _ => {
            sums.fill(0);
            for (from, weight) in lines.zip(weights).filter(|(_, weight)| **weight != 0) {
                for (sum, pixel) in sums.iter_mut().zip(from) {
                    *sum = sum.wrapping_add(u32::from(*pixel).wrapping_mul(*weight));
                }
            }
            line.iter_mut().zip(sums).for_each(|(line, sum)| *line = point(*sum));
        }
    }
}

#[inline(always)]
fn across<const TAPS: usize>(side: &Side, line: &[u16], out: &mut [u8]) {
    let (weights, _) = side.weights.as_chunks::<TAPS>();
    for ((start, weights), out) in side.starts.iter().zip(weights).zip(out) {
        let pixels = line[*start..].first_chunk::<TAPS>().unwrap_or(&[0; TAPS]);
        let mut sum = 0;
        for (pixel, weight) in pixels.iter().zip(weights) {
            sum = u32::from(*pixel).wrapping_mul(*weight).wrapping_add(sum);
        }
        *out = whole(sum);
    }
}

/// The same where all weigh alike: the weight is a shift.
#[inline(always)]
fn across_whole<const TAPS: usize>(line: &[u16], out: &mut [u8]) {
    let weight = ONE >> TAPS.trailing_zeros();
    for (pixels, out) in line.as_chunks::<TAPS>().0.iter().zip(out) {
        let mut sum = 0;
        for pixel in pixels {
            sum = u32::from(*pixel).wrapping_add(sum);
        }
        *out = whole(sum.wrapping_mul(weight));
    }
}

/// Pixel times weight, to 8 bits after the point.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "at most 255 times 2^14, by 2^6")]
pub(super) const fn point(sum: u32) -> u16 {
    (sum >> 6) as u16
}

/// A line's value times weight, to a pixel, rounded.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "at most 255 x 2^8 times 2^14, by 2^22")]
const fn whole(sum: u32) -> u8 {
    (sum.wrapping_add(1 << 21) >> 22) as u8
}
