//! Ratios whose weights are sixteenths, at most two of them a pixel: 1 to 2, 1 to 4, 3 to 4,
//! and back to 3 where a picture is too narrow for the blocks of three quarters.
//!
//! Then 16 bits hold everything without rounding, so that the ways can change places without a
//! change of the result: across first, by shuffles of the bytes, and each line of that is used
//! for all lines of the output that it has a part in.

use fearless_simd::{Bytes, Simd, SimdBase, SimdCombine, SimdNarrow, u8x16, u8x32, u16x16};

use super::Place;
use super::plain::Room;
use super::plan::{ONE, Plan, Side};

/// Output pixels that are made at once, from two windows of so many pixels.
const LANES: usize = 16;
/// Output pixels of one window.
const HALF: usize = LANES / 2;
/// A weight of one.
const SIXTEENTHS: u32 = 16;

#[derive(Clone, Debug)]
pub(super) struct Sixteenths {
    groups: Box<[Group]>,
    upright: Box<[Line]>,
}

/// [`LANES`] pixels of the output, from `at` on.
#[derive(Clone, Debug)]
struct Group {
    at: usize,
    windows: [usize; 2],
    /// Which bytes of the windows: for each output pixel the first and the second.
    shuffle: [u8; 2 * LANES],
    /// Weight of the first, and what the second is multiplied by once a pair of bytes, taken as
    /// one number, was: its own weight less the 256 times that of the first that are in there.
    pair: [u16; LANES],
    second: [u16; LANES],
}

/// A line of the output: two lines from `top` on, by weight.
#[derive(Clone, Debug)]
struct Line {
    top: usize,
    weights: [u16; 2],
}

impl Sixteenths {
    /// `None` when the weights are not such, or the picture is too small for a vector.
    pub(super) fn new(plan: &Plan) -> Option<Self> {
        let upright = taps(&plan.upright)?.into_iter().map(|(top, weights)| Line { top, weights });
        let across = taps(&plan.across)?;
        let from = plan.across.from;
        if across.len() < LANES || from < LANES {
            return None;
        }
        let starts = (0..across.len()).step_by(LANES).map(|at| at.min(across.len() - LANES));
        let groups: Option<Box<[Group]>> = starts.map(|at| Group::new(at, &across, from)).collect();
        Some(Self { groups: groups?, upright: upright.collect() })
    }
}

impl Group {
    fn new(at: usize, across: &[(usize, [u16; 2])], from: usize) -> Option<Self> {
        let windows = [at, at + HALF].map(|first| across[first].0.min(from - LANES));
        let (mut shuffle, mut pair, mut second) = ([0; 2 * LANES], [0; LANES], [0; LANES]);
        for n in 0..LANES {
            let (start, weights) = across[at + n];
            let place = start - windows[n / HALF];
            // A second pixel without weight can lie outside: any other serves.
            let next = if weights[1] == 0 { place } else { place + 1 };
            if place.max(next) >= LANES {
                return None;
            }
            shuffle[2 * n] = u8::try_from(place).ok()?;
            shuffle[2 * n + 1] = u8::try_from(next).ok()?;
            pair[n] = weights[0];
            second[n] = weights[1].wrapping_sub(weights[0] << 8);
        }
        Some(Self { at, windows, shuffle, pair, second })
    }
}

/// Starts and weights of a side in sixteenths, if they are.
fn taps(side: &Side) -> Option<Vec<(usize, [u16; 2])>> {
    let step = ONE / SIXTEENTHS;
    side.rows()
        .map(|(start, weights)| {
            let first = weights.iter().position(|weight| *weight != 0)?;
            let used = &weights[first..];
            let whole = used.iter().all(|weight| weight.is_multiple_of(step));
            let two = used.iter().skip(2).all(|weight| *weight == 0);
            let weight = |n: usize| u16::try_from(used.get(n).map_or(0, |weight| weight / step)).ok();
            (whole && two).then_some((start + first, [weight(0)?, weight(1)?]))
        })
        .collect()
}

#[inline(always)]
pub(super) fn scale<S: Simd>(
    simd: S,
    plan: &Sixteenths,
    from: &[u8],
    to: &mut [u8],
    place: &Place,
    room: &mut Room<'_>,
) {
    let (mut upper, mut lower) = (&mut room.line[..place.width], &mut room.other[..place.width]);
    // Lines of `from` that the two hold; none yet.
    let (mut in_upper, mut in_lower) = (usize::MAX, usize::MAX);
    for (line, out) in plan.upright.iter().zip(place.lines(to)) {
        if in_upper != line.top {
            (upper, lower) = (lower, upper);
            (in_upper, in_lower) = (in_lower, in_upper);
        }
        if in_upper != line.top {
            across(simd, plan, &from[line.top * place.from_width..][..place.from_width], upper);
            in_upper = line.top;
        }
        if line.weights[1] != 0 && in_lower != line.top + 1 {
            across(simd, plan, &from[(line.top + 1) * place.from_width..][..place.from_width], lower);
            in_lower = line.top + 1;
        }
        upright(simd, upper, lower, line.weights, out);
    }
}

#[inline(always)]
fn across<S: Simd>(simd: S, plan: &Sixteenths, line: &[u8], out: &mut [u16]) {
    for group in &plan.groups {
        let [a, b] = group.windows;
        let a = u8x16::from_slice(simd, &line[a..a + LANES]);
        let b = u8x16::from_slice(simd, &line[b..b + LANES]);
        let shuffle = u8x32::from_slice(simd, &group.shuffle);
        let pairs: u16x16<S> = a.combine(b).swizzle_dyn_within_blocks(shuffle).bitcast();
        let sum = pairs * u16x16::from_slice(simd, &group.pair)
            + (pairs >> 8) * u16x16::from_slice(simd, &group.second);
        sum.store_slice(&mut out[group.at..group.at + LANES]);
    }
}

/// Lines of 4 bits after the point, by weight, rounded. The largest sum is 255 x 16 x 16, and with
/// the rounding still of 16 bits.
#[inline(always)]
fn upright<S: Simd>(simd: S, upper: &[u16], lower: &[u16], weights: [u16; 2], out: &mut [u8]) {
    let lanes = S::u8s::LEN;
    let half = 1 << 7;
    let [first, second] = weights.map(|weight| S::u16s::splat(simd, weight));
    let whole = out.len() / lanes * lanes;
    let (out, out_rest) = out.split_at_mut(whole);
    let (upper, upper_rest) = upper.split_at(whole);
    let (lower, lower_rest) = lower.split_at(whole);
    let lines = upper.chunks_exact(lanes).zip(lower.chunks_exact(lanes));
    for ((upper, lower), out) in lines.zip(out.chunks_exact_mut(lanes)) {
        let (upper, lower) = (upper.split_at(lanes / 2), lower.split_at(lanes / 2));
        let low = S::u16s::from_slice(simd, upper.0) * first + S::u16s::from_slice(simd, lower.0) * second;
        let high = S::u16s::from_slice(simd, upper.1) * first + S::u16s::from_slice(simd, lower.1) * second;
        ((low + half) >> 8).relaxed_narrow((high + half) >> 8).store_slice(out);
    }
    for ((out, upper), lower) in out_rest.iter_mut().zip(upper_rest).zip(lower_rest) {
        let sum = upper.wrapping_mul(weights[0]).wrapping_add(lower.wrapping_mul(weights[1]));
        *out = sum.wrapping_add(half).to_be_bytes()[0];
    }
}
