//! Any ratio: what the plain loops do, with vectors.
//!
//! Upright, lines are multiplied two at a time: 16-bit products, summed in pairs to 32 bits.
//! Across, each pixel of the output has its pixels shuffled side by side, filled up with weights
//! of zero to 2, 4 or 8, and multiplied likewise. The line's values have 16 bits without sign;
//! what the multiplication takes is signed, so they are moved down by half of their range, which
//! a constant puts back: weights sum to one.

use fearless_simd::{
    Bytes, Simd, SimdBase, SimdCombine, SimdIntWiden, SimdNarrow, SimdWiden, i16x16, i32x8, u8x32, u16x8,
    u16x16,
};

use super::Place;
use super::plain::{self, Room};
use super::plan::{ONE, Plan, Side};

/// Output pixels that are made at once.
const LANES: usize = 16;
/// Pixels of a line that one shuffle sees.
const WINDOW: usize = 8;
/// Bits after the point of a sum: 8 of the line, 14 of the weight.
const POINT: u32 = 22;
/// Half a pixel, and what the signed range is short of.
const ROUND: i32 = (1 << (POINT - 1)) + (ONE.cast_signed() << 15);

#[derive(Clone, Debug)]
pub(super) struct Wide {
    upright: Box<[Line]>,
    across: Option<Across>,
}

/// A line of the output: lines from `top` on by weight, in pairs.
#[derive(Clone, Debug)]
struct Line {
    top: usize,
    pairs: Box<[[i16; 2]]>,
}

#[derive(Clone, Debug)]
struct Across {
    /// Pixels that make one: 2, 4 or 8.
    taps: usize,
    blocks: Box<[Block]>,
}

/// Two windows, and what becomes of each: 4, 2 or 1 pixels of the output.
#[derive(Clone, Debug)]
struct Block {
    windows: [usize; 2],
    shuffle: [u8; 4 * WINDOW],
    weights: [i16; 2 * WINDOW],
}

impl Wide {
    pub(super) fn new(plan: &Plan) -> Self {
        let upright = plan.upright.rows().map(|(start, weights)| {
            let (top, weights) = used(start, weights);
            let pair = |pair: &[u32]| [weight(pair[0]), weight(pair.get(1).copied().unwrap_or(0))];
            Line { top, pairs: weights.chunks(2).map(pair).collect() }
        });
        Self { upright: upright.collect(), across: Across::new(&plan.across) }
    }
}

impl Across {
    /// `None` when a pixel is made of too many, or the line is too short for a vector.
    fn new(side: &Side) -> Option<Self> {
        let rows: Vec<_> = side.rows().map(|(start, weights)| used(start, weights)).collect();
        let most = rows.iter().map(|(_, weights)| weights.len()).max()?;
        if rows.len() < LANES || side.from < WINDOW {
            return None;
        }
        // Steep ratios have few pixels, but far apart: then fewer of them see one window.
        [2, 4, 8].into_iter().filter(|taps| *taps >= most).find_map(|taps| {
            let starts = (0..rows.len()).step_by(LANES).map(|at| at.min(rows.len() - LANES));
            let each = 2 * WINDOW / taps;
            let blocks = starts.flat_map(|start| (start..start + LANES).step_by(each));
            let blocks: Option<Box<[Block]>> =
                blocks.map(|at| Block::new(&rows[at..at + each], taps, side.from)).collect();
            Some(Self { taps, blocks: blocks? })
        })
    }
}

impl Block {
    fn new(rows: &[(usize, &[u32])], taps: usize, from: usize) -> Option<Self> {
        let half = rows.len() / 2;
        let windows = [0, half].map(|first| rows[first].0.min(from - WINDOW));
        let (mut shuffle, mut weights) = ([0; 4 * WINDOW], [0; 2 * WINDOW]);
        for (n, (start, row)) in rows.iter().enumerate() {
            for (tap, value) in row.iter().enumerate() {
                let place = start + tap - windows[n / half];
                if place >= WINDOW {
                    return None;
                }
                let byte = u8::try_from(2 * place).ok()?;
                [shuffle[2 * (n * taps + tap)], shuffle[2 * (n * taps + tap) + 1]] = [byte, byte + 1];
                weights[n * taps + tap] = weight(*value);
            }
        }
        Some(Self { windows, shuffle, weights })
    }
}

/// Without the weights of zero at both ends.
fn used(start: usize, weights: &[u32]) -> (usize, &[u32]) {
    let first = weights.iter().position(|weight| *weight != 0).unwrap_or(0);
    let end = weights.iter().rposition(|weight| *weight != 0).map_or(first + 1, |last| last + 1);
    (start + first, &weights[first..end])
}

fn weight(value: u32) -> i16 {
    i16::try_from(value).unwrap_or(i16::MAX)
}

#[inline(always)]
pub(super) fn scale<S: Simd>(
    simd: S,
    (plan, wide): (&Plan, &Wide),
    from: &[u8],
    to: &mut [u8],
    place: &Place,
    room: &mut Room<'_>,
) {
    let line = &mut room.line[..place.from_width];
    for (row, out) in wide.upright.iter().zip(place.lines(to)) {
        upright(simd, &from[row.top * place.from_width..], &row.pairs, line);
        match &wide.across {
            Some(across) if across.taps == 2 => across_by::<S, 2>(simd, across, line, out),
            Some(across) if across.taps == 4 => across_by::<S, 4>(simd, across, line, out),
            Some(across) => across_by::<S, 8>(simd, across, line, out),
            None => plain::across_line(&plan.across, line, out),
        }
    }
}

#[inline(always)]
fn upright<S: Simd>(simd: S, from: &[u8], pairs: &[[i16; 2]], line: &mut [u16]) {
    let (width, lanes) = (line.len(), S::u8s::LEN);
    if width < lanes {
        return upright_plain(from, pairs, line);
    }
    let mut at = 0;
    while at < width {
        // The last vector ends with the line, and does some pixels twice.
        let start = at.min(width - lanes);
        let mut sums = [S::i32s::splat(simd, 0); 4];
        for (n, pair) in pairs.iter().enumerate() {
            let first = 2 * n * width + start;
            // The last pair can be of one line.
            let second = if pair[1] == 0 { first } else { first + width };
            let upper = S::u8s::from_slice(simd, &from[first..first + lanes]);
            let lower = S::u8s::from_slice(simd, &from[second..second + lanes]);
            let weights = both::<S>(simd, *pair);
            let (low, high) = upper.interleave(lower);
            let parts = [low.widen(), high.widen()];
            for (sums, (low, high)) in sums.chunks_exact_mut(2).zip(parts) {
                sums[0] += low.bitcast::<S::i16s>().pairwise_dot_product(weights);
                sums[1] += high.bitcast::<S::i16s>().pairwise_dot_product(weights);
            }
        }
        let [a, b, c, d] = sums;
        let (low, high) = line[start..start + lanes].split_at_mut(lanes / 2);
        point::<S>(a).relaxed_narrow(point::<S>(b)).store_slice(low);
        point::<S>(c).relaxed_narrow(point::<S>(d)).store_slice(high);
        at += lanes;
    }
}

/// The two weights in turn.
#[inline(always)]
fn both<S: Simd>(simd: S, [first, second]: [i16; 2]) -> S::i16s {
    let word = u32::from(first.cast_unsigned()) | u32::from(second.cast_unsigned()) << 16;
    S::u32s::splat(simd, word).bitcast()
}

#[inline(always)]
fn point<S: Simd>(sum: S::i32s) -> S::u32s {
    (sum >> 6).bitcast()
}

#[inline(always)]
fn upright_plain(from: &[u8], pairs: &[[i16; 2]], line: &mut [u16]) {
    let width = line.len();
    for (n, value) in line.iter_mut().enumerate() {
        let mut sum = 0i32;
        for (row, weight) in pairs.as_flattened().iter().enumerate().filter(|(_, weight)| **weight != 0) {
            sum = sum.wrapping_add(i32::from(from[row * width + n]).wrapping_mul(i32::from(*weight)));
        }
        *value = plain::point(sum.cast_unsigned());
    }
}

#[inline(always)]
fn across_by<S: Simd, const TAPS: usize>(simd: S, across: &Across, line: &[u16], out: &mut [u8]) {
    let last = out.len() - LANES;
    for (n, blocks) in across.blocks.chunks_exact(TAPS).enumerate() {
        let (low, high) = blocks.split_at(TAPS / 2);
        let low = (eight::<S, TAPS>(simd, low, line) + ROUND) >> POINT;
        let high = (eight::<S, TAPS>(simd, high, line) + ROUND) >> POINT;
        let pixels: u16x16<S> = low.relaxed_narrow(high).bitcast();
        let at = (n * LANES).min(last);
        out[at..at + LANES].copy_from_slice(&pixels.relaxed_narrow(pixels).as_slice()[..LANES]);
    }
}

/// Sums of eight pixels, in order.
#[inline(always)]
fn eight<S: Simd, const TAPS: usize>(simd: S, blocks: &[Block], line: &[u16]) -> i32x8<S> {
    match TAPS {
        2 => products(simd, &blocks[0], line),
        4 => neighbours(products(simd, &blocks[0], line), products(simd, &blocks[1], line)),
        _ => neighbours(
            neighbours(products(simd, &blocks[0], line), products(simd, &blocks[1], line)),
            neighbours(products(simd, &blocks[2], line), products(simd, &blocks[3], line)),
        ),
    }
}

#[inline(always)]
fn neighbours<S: Simd>(a: i32x8<S>, b: i32x8<S>) -> i32x8<S> {
    a.unzip_low(b) + a.unzip_high(b)
}

#[inline(always)]
fn products<S: Simd>(simd: S, block: &Block, line: &[u16]) -> i32x8<S> {
    let [a, b] = block.windows;
    let a = u16x8::from_slice(simd, &line[a..a + WINDOW]);
    let b = u16x8::from_slice(simd, &line[b..b + WINDOW]);
    let shuffle = u8x32::from_slice(simd, &block.shuffle);
    let pixels: u16x16<S> = (a.combine(b) ^ 0x8000).swizzle_dyn_within_blocks(shuffle);
    pixels.bitcast::<i16x16<S>>().pairwise_dot_product(i16x16::from_slice(simd, &block.weights))
}
