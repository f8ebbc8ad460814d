//! Three quarters of each side, such as 1280x720 to 960x540: three lines from four, each pixel from
//! two by two. A line in a layout with one large picture.
//!
//! Weights are quarters (3 and 1, 2 and 2, 1 and 3), so that 16 bits hold every sum, the order of
//! sums does not matter, and four lines can stay in registers until their three are made.

use fearless_simd::{Bytes, Simd, SimdBase, SimdCombine, SimdNarrow, u8x16, u8x32, u16x16};

use super::Place;
use super::plan::{ONE, Plan, Side};

/// Output pixels after which a line's pattern begins anew at a whole vector.
const BLOCK: usize = 96;
/// Input pixels of those.
const FROM: usize = BLOCK / 3 * 4;
/// Output pixels that are summed at once, from two windows of so many pixels.
const LANES: usize = 16;
/// The first and the second weight of each pixel of a pattern, in quarters.
const WEIGHTS: [[u16; 2]; 3] = [[3, 1], [2, 2], [1, 3]];

/// [`LANES`] pixels of a block.
struct Group {
    windows: [usize; 2],
    /// Which bytes of the windows: for each output pixel the first and the second.
    shuffle: [u8; 2 * LANES],
    /// Weight of the first, and what the second is multiplied by once a pair of bytes, taken as
    /// one number, was: its own weight less the 256 times that of the first that are in there.
    pair: [u16; LANES],
    second: [u16; LANES],
}

const GROUPS: [Group; BLOCK / LANES] = groups();

/// Whether a plane is scaled so, and is wide enough.
pub(super) fn fit(plan: &Plan) -> bool {
    plan.across.starts.len() >= BLOCK && three_of_four(&plan.across) && three_of_four(&plan.upright)
}

fn three_of_four(side: &Side) -> bool {
    side.starts.len().is_multiple_of(3)
        && side.from == side.starts.len() / 3 * 4
        && side.rows().enumerate().all(|(n, (start, weights))| {
            let expected = WEIGHTS[n % 3].map(|quarters| u32::from(quarters) * (ONE / 4));
            // The third tap of a pixel weighs nothing, and the first of a line's last may not.
            let first = weights.iter().position(|weight| *weight != 0).unwrap_or(0);
            start + first == n / 3 * 4 + n % 3
                && weights[first..].iter().chain([&0; 2]).take(2).eq(&expected)
                && weights[first..].iter().skip(2).all(|weight| *weight == 0)
        })
}

const fn groups() -> [Group; BLOCK / LANES] {
    const NONE: Group =
        Group { windows: [0; 2], shuffle: [0; 2 * LANES], pair: [0; LANES], second: [0; LANES] };
    let mut groups = [NONE; BLOCK / LANES];
    let mut n = 0;
    while n < BLOCK {
        let (group, lane) = (&mut groups[n / LANES], n % LANES);
        let window = &mut group.windows[lane / (LANES / 2)];
        let start = n / 3 * 4 + n % 3;
        if lane.is_multiple_of(LANES / 2) {
            *window = if start < FROM - LANES { start } else { FROM - LANES };
        }
        #[allow(clippy::cast_possible_truncation, reason = "places within a window")]
        let place = (start - *window) as u8;
        group.shuffle[2 * lane] = place;
        group.shuffle[2 * lane + 1] = place + 1;
        let [first, second] = WEIGHTS[n % 3];
        group.pair[lane] = first;
        group.second[lane] = second.wrapping_sub(first << 8);
        n += 1;
    }
    groups
}

#[inline(always)]
pub(super) fn shrink<S: Simd>(simd: S, from: &[u8], to: &mut [u8], place: &Place) {
    let (from_width, width) = (place.from_width, place.width);
    let mut out = place.lines(to);
    for lines in from.chunks_exact(4 * from_width) {
        let (Some(top), Some(middle), Some(bottom)) = (out.next(), out.next(), out.next()) else { return };
        let (upper, lower) = lines.split_at(2 * from_width);
        let (a, b) = upper.split_at(from_width);
        let (c, d) = lower.split_at(from_width);
        let mut at = 0;
        while at < width {
            // The last block ends with the line, and does some pixels twice.
            let start = at.min(width - BLOCK);
            let begin = start / 3 * 4;
            let lines = (cut(a, begin), cut(b, begin), cut(c, begin), cut(d, begin));
            let (Some(a), Some(b), Some(c), Some(d)) = lines else { return };
            let lines = [a, b, c, d];
            pair::<S, 0, 1>(simd, lines, [&mut *top, middle, bottom], start);
            pair::<S, 2, 3>(simd, lines, [&mut *top, middle, bottom], start);
            pair::<S, 4, 5>(simd, lines, [&mut *top, middle, bottom], start);
            at += BLOCK;
        }
    }
}

#[inline(always)]
fn cut(line: &[u8], begin: usize) -> Option<&[u8; FROM]> {
    line.get(begin..)?.first_chunk()
}

/// Two groups of the block that begins at `start` of three lines. That the code knows which makes
/// their windows constants.
#[inline(always)]
fn pair<S: Simd, const ONE: usize, const OTHER: usize>(
    simd: S,
    lines: [&[u8; FROM]; 4],
    [top, middle, bottom]: [&mut [u8]; 3],
    start: usize,
) {
    let [one_top, one_middle, one_bottom] = upright(across::<S, ONE>(simd, lines));
    let [other_top, other_middle, other_bottom] = upright(across::<S, OTHER>(simd, lines));
    let (begin, end) = (start + ONE * LANES, start + (OTHER + 1) * LANES);
    one_top.relaxed_narrow(other_top).store_slice(&mut top[begin..end]);
    one_middle.relaxed_narrow(other_middle).store_slice(&mut middle[begin..end]);
    one_bottom.relaxed_narrow(other_bottom).store_slice(&mut bottom[begin..end]);
}

/// A group of each line, in quarters.
#[inline(always)]
fn across<S: Simd, const GROUP: usize>(simd: S, [a, b, c, d]: [&[u8; FROM]; 4]) -> [u16x16<S>; 4] {
    [
        line::<S, GROUP>(simd, a),
        line::<S, GROUP>(simd, b),
        line::<S, GROUP>(simd, c),
        line::<S, GROUP>(simd, d),
    ]
}

#[inline(always)]
fn line<S: Simd, const GROUP: usize>(simd: S, line: &[u8; FROM]) -> u16x16<S> {
    let Group { windows: [a, b], shuffle, pair, second } = const { &GROUPS[GROUP] };
    let a = u8x16::from_slice(simd, &line[*a..*a + LANES]);
    let b = u8x16::from_slice(simd, &line[*b..*b + LANES]);
    let shuffle = u8x32::from_slice(simd, shuffle);
    let pairs: u16x16<S> = a.combine(b).swizzle_dyn_within_blocks(shuffle).bitcast();
    pairs * u16x16::from_slice(simd, pair) + (pairs >> 8) * u16x16::from_slice(simd, second)
}

/// Three lines of bytes in 16 bits from four of quarters, rounded.
#[inline(always)]
fn upright<S: Simd>([a, b, c, d]: [u16x16<S>; 4]) -> [u16x16<S>; 3] {
    [(a * 3 + b + 8) >> 4, (b + c + 4) >> 3, (d * 3 + c + 8) >> 4]
}
