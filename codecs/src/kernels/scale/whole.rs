//! To a half and to a quarter, both ways at once: the average of 4 or 16 pixels, rounded. So few
//! bits are needed that the order of sums does not matter, and the result is that of the plain
//! loops.

use fearless_simd::{Simd, SimdBase, SimdIntWiden, SimdNarrow};

use super::Place;

/// Each output pixel from `SIDE` x `SIDE` pixels, `SIDE` being 2 or 4.
#[inline(always)]
pub(super) fn shrink<S: Simd, const SIDE: usize>(simd: S, from: &[u8], to: &mut [u8], place: &Place) {
    let (from_width, width) = (place.from_width, place.width);
    for (lines, out) in from.chunks(SIDE * from_width).zip(place.lines(to)) {
        let mut each = [lines; SIDE];
        for (n, line) in each.iter_mut().enumerate() {
            *line = &lines[n * from_width..n * from_width + SIDE * width];
        }
        let lines = each;
        if width < S::u8s::LEN {
            shrink_plain(&lines, out);
            continue;
        }
        let mut at = 0;
        while at < width {
            // The last vector ends with the line, and does some pixels twice.
            let start = at.min(width - S::u8s::LEN);
            let mut blocks = lines;
            for block in &mut blocks {
                *block = &block[SIDE * start..SIDE * (start + S::u8s::LEN)];
            }
            vector::<S, SIDE>(simd, blocks).store_slice(&mut out[start..start + S::u8s::LEN]);
            at += S::u8s::LEN;
        }
    }
}

/// One vector of the output, from `SIDE` vectors of each line.
#[inline(always)]
fn vector<S: Simd, const SIDE: usize>(simd: S, lines: [&[u8]; SIDE]) -> S::u8s {
    if SIDE == 2 {
        let (low, high) = (pairs(simd, lines, 0), pairs(simd, lines, 1));
        return ((low + 2) >> 2).relaxed_narrow((high + 2) >> 2);
    }
    let low = quads(simd, lines, 0).relaxed_narrow(quads(simd, lines, 1));
    let high = quads(simd, lines, 2).relaxed_narrow(quads(simd, lines, 3));
    low.relaxed_narrow(high)
}

/// Sums of two columns of all lines, of the `n`th vector.
#[inline(always)]
fn pairs<S: Simd, const SIDE: usize>(simd: S, lines: [&[u8]; SIDE], n: usize) -> S::u16s {
    let lanes = S::u8s::LEN;
    let mut sum = S::u16s::splat(simd, 0);
    for line in lines {
        sum += S::u8s::from_slice(simd, &line[n * lanes..(n + 1) * lanes]).pairwise_widening_add();
    }
    sum
}

/// Averages of four columns of four lines.
#[inline(always)]
fn quads<S: Simd, const SIDE: usize>(simd: S, lines: [&[u8]; SIDE], n: usize) -> S::u32s {
    (pairs(simd, lines, n).pairwise_widening_add() + 8) >> 4
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "an average of bytes")]
fn shrink_plain<const SIDE: usize>(lines: &[&[u8]; SIDE], out: &mut [u8]) {
    let count = u32::try_from(SIDE * SIDE).unwrap_or(u32::MAX);
    for (n, out) in out.iter_mut().enumerate() {
        let columns = lines.iter().flat_map(|line| &line[n * SIDE..(n + 1) * SIDE]);
        let sum: u32 = columns.map(|pixel| u32::from(*pixel)).sum();
        *out = ((sum + count / 2) / count) as u8;
    }
}
