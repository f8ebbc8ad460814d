//! Pictures to another size: an area average where it shrinks, two taps where it grows, each way
//! by itself. Keeping the shape is the caller's: see [`super::fill::Area::fit`].

use fearless_simd::{Simd, dispatch};

use super::cpu::Cpu;
use super::fill::Area;
use crate::codec::CodecError;
use crate::frame::{MAX_SIDE, PlanesMut, VideoFrame};

/// Weights are fractions of this. The weights of a pixel sum to it, so that no sum here can leave
/// 32 bits: 255 x 2^8 x 2^14 is below 2^30. Sums wrap in the code, as a check in each would keep
/// the compiler from using vectors.
const ONE: u32 = 1 << 14;

/// Scales pictures of one size to another. The plan is made once; no call allocates.
#[derive(Clone, Debug)]
pub struct Scaler {
    from: (usize, usize),
    to: (usize, usize),
    luma: Plan,
    chroma: Plan,
    /// One line, already scaled the upright way: sums first, then 8 bits after the point.
    sums: Box<[u32]>,
    line: Box<[u16]>,
    cpu: Cpu,
}

#[derive(Clone, Debug)]
struct Plan {
    across: Side,
    upright: Side,
}

/// What each output pixel of one side is made of: `taps` pixels from `starts` on, by weight.
#[derive(Clone, Debug)]
struct Side {
    taps: usize,
    /// All pixels weigh alike and none is shared: the sides' ratio is whole.
    whole: bool,
    starts: Box<[usize]>,
    weights: Box<[u32]>,
}

impl Scaler {
    /// From pictures of the first size to the second, width and height.
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Result<Self, CodecError> {
        if [from.0, from.1, to.0, to.1].iter().any(|side| *side == 0 || *side > MAX_SIDE) {
            return Err(CodecError::Unsupported("a side of zero or of more than 4096 pixels"));
        }
        let plan = |divide: usize| Plan {
            across: Side::new(from.0.div_ceil(divide), to.0.div_ceil(divide)),
            upright: Side::new(from.1.div_ceil(divide), to.1.div_ceil(divide)),
        };
        Ok(Self {
            from,
            to,
            luma: plan(1),
            chroma: plan(2),
            sums: vec![0; from.0].into(),
            line: vec![0; from.0].into(),
            cpu: Cpu::detect(),
        })
    }

    /// The same with other instructions; the pictures are the same, bit by bit.
    #[must_use]
    pub fn on(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
        self
    }

    /// Size of the pictures that go in.
    pub const fn from(&self) -> (usize, usize) {
        self.from
    }

    /// Size of the pictures that come out.
    pub const fn to(&self) -> (usize, usize) {
        self.to
    }

    /// Scales `frame` into the part of `picture` (`width` pixels wide) whose upper left corner is
    /// at `x`, `y`, both even; the rest of the picture is left as it is.
    pub fn scale(
        &mut self,
        frame: &VideoFrame,
        picture: &mut PlanesMut<'_>,
        width: usize,
        (x, y): (usize, usize),
    ) -> Result<(), CodecError> {
        if (frame.width(), frame.height()) != self.from {
            return Err(CodecError::Unsupported("the scaler was made for another size"));
        }
        let area = Area { x, y, width: self.to.0, height: self.to.1 };
        let fits = x.is_multiple_of(2)
            && y.is_multiple_of(2)
            && x + area.width <= width
            && (y + area.height) * width <= picture.y.len();
        if !fits {
            return Err(CodecError::Unsupported("the scaled picture lies outside of its picture"));
        }
        let (half, chroma) = (width.div_ceil(2), self.from.0.div_ceil(2));
        let corner = (x / 2, y / 2);
        let Self { luma: plan, chroma: chroma_plan, sums, line, from, .. } = self;
        let mut room = Room { sums, line };
        dispatch!(self.cpu.0, simd => {
            scale_plane(simd, plan, frame.y(), from.0, picture.y, width, (x, y), &mut room);
            scale_plane(simd, chroma_plan, frame.u(), chroma, picture.u, half, corner, &mut room);
            scale_plane(simd, chroma_plan, frame.v(), chroma, picture.v, half, corner, &mut room);
        });
        Ok(())
    }
}

impl Side {
    fn new(from: usize, to: usize) -> Self {
        let ratio = float(from) / float(to);
        let whole = from > to && from.is_multiple_of(to) && (from / to).is_power_of_two();
        let taps = match (whole, from > to) {
            (true, _) => from / to,
            (false, true) => (from.div_ceil(to) + 1).min(from),
            (false, false) => 2.min(from),
        };
        let (mut starts, mut weights) = (Vec::with_capacity(to), Vec::with_capacity(to * taps));
        for n in 0..to {
            let share = |pixel: usize| {
                let pixel = float(pixel);
                if from > to {
                    // How much of the pixel lies under the output pixel.
                    let (begin, end) = (float(n) * ratio, float(n + 1) * ratio);
                    ((pixel + 1.0).min(end) - pixel.max(begin)).max(0.0) / ratio
                } else {
                    let middle = ((float(n) + 0.5) * ratio - 0.5).clamp(0.0, float(from - 1));
                    (1.0 - (pixel - middle).abs()).max(0.0)
                }
            };
            let begin = if from > to { float(n) * ratio } else { ((float(n) + 0.5) * ratio - 0.5).max(0.0) };
            let start = floor(begin).min(from - taps);
            starts.push(start);
            let first = weights.len();
            weights.extend((start..start + taps).map(|pixel| weight(share(pixel))));
            // Rounding must not change a flat area: the largest takes the difference.
            let sum: u32 = weights[first..].iter().sum();
            if let Some(largest) = weights[first..].iter_mut().max() {
                *largest = (*largest + ONE).saturating_sub(sum);
            }
        }
        Self { taps, whole, starts: starts.into(), weights: weights.into() }
    }

    fn rows(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.taps))
    }
}

/// One line in the making.
struct Room<'a> {
    sums: &'a mut [u32],
    line: &'a mut [u16],
}

/// The upright way first, a line at a time, since that runs along the memory. Plain loops: what
/// the level adds is the compiler's choice of instructions for them.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "two planes with their strides; never called from elsewhere")]
fn scale_plane<S: Simd>(
    _: S,
    plan: &Plan,
    from: &[u8],
    from_width: usize,
    to: &mut [u8],
    to_width: usize,
    (x, y): (usize, usize),
    room: &mut Room<'_>,
) {
    let (sums, line) = (&mut room.sums[..from_width], &mut room.line[..from_width]);
    let width = plan.across.starts.len();
    for ((top, weights), out) in plan.upright.rows().zip(to.chunks_exact_mut(to_width).skip(y)) {
        blend_lines(&from[top * from_width..], weights, sums, line);
        let (side, out) = (&plan.across, &mut out[x..x + width]);
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
const fn point(sum: u32) -> u16 {
    (sum >> 6) as u16
}

/// A line's value times weight, to a pixel, rounded.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "at most 255 x 2^8 times 2^14, by 2^22")]
const fn whole(sum: u32) -> u8 {
    (sum.wrapping_add(1 << 21) >> 22) as u8
}

#[allow(clippy::cast_precision_loss, reason = "sides of at most 4096 pixels")]
fn float(value: usize) -> f64 {
    value as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positions within a picture")]
fn floor(value: f64) -> usize {
    value as usize
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of 0 to 1")]
fn weight(share: f64) -> u32 {
    (share * f64::from(ONE)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Pool;

    fn picture(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> VideoFrame {
        let pool = Pool::new(1, VideoFrame::bytes(width, height));
        VideoFrame::new(&pool, width, height, |planes| {
            for (n, y) in planes.y.iter_mut().enumerate() {
                *y = pixel(n % width, n / width);
            }
            planes.u.fill(90);
            planes.v.fill(200);
        })
        .unwrap()
    }

    fn scaled(frame: &VideoFrame, width: usize, height: usize) -> VideoFrame {
        let mut scaler = Scaler::new((frame.width(), frame.height()), (width, height)).unwrap();
        let pool = Pool::new(1, VideoFrame::bytes(width, height));
        VideoFrame::new(&pool, width, height, |mut planes| {
            scaler.scale(frame, &mut planes, width, (0, 0)).unwrap();
        })
        .unwrap()
    }

    /// The exact area average or two-tap value, in floating point, straight from the definition.
    fn by_definition(frame: &VideoFrame, to: (usize, usize), x: usize, y: usize) -> f64 {
        let side = |from: usize, to: usize, n: usize| -> Vec<(usize, f64)> {
            let ratio = from as f64 / to as f64;
            (0..from)
                .filter_map(|pixel| {
                    let share = if from > to {
                        let (begin, end) = (n as f64 * ratio, (n + 1) as f64 * ratio);
                        ((pixel as f64 + 1.0).min(end) - (pixel as f64).max(begin)) / ratio
                    } else {
                        let middle = ((n as f64 + 0.5) * ratio - 0.5).clamp(0.0, from as f64 - 1.0);
                        1.0 - (pixel as f64 - middle).abs()
                    };
                    (share > 0.0).then_some((pixel, share))
                })
                .collect()
        };
        let (columns, lines) = (side(frame.width(), to.0, x), side(frame.height(), to.1, y));
        let mut sum = 0.0;
        for (line, share) in &lines {
            for (column, part) in &columns {
                sum += share * part * f64::from(frame.y()[line * frame.width() + column]);
            }
        }
        sum
    }

    #[test]
    fn every_pixel_is_what_the_definition_says() {
        for (from, to) in [
            ((64, 48), (32, 24)),
            ((64, 48), (48, 36)),
            ((63, 37), (20, 11)),
            ((61, 35), (200, 99)),
            ((1280, 20), (352, 30)),
            ((16, 16), (16, 16)),
            ((3, 3), (1, 1)),
            ((1, 1), (9, 7)),
            ((400, 4), (5, 2)),
        ] {
            let frame = picture(from.0, from.1, |x, y| (x * 7 + y * 13 + x * y) as u8);
            let out = scaled(&frame, to.0, to.1);
            for y in 0..to.1 {
                for x in 0..to.0 {
                    let expected = by_definition(&frame, to, x, y);
                    let got = f64::from(out.y()[y * to.0 + x]);
                    assert!((expected - got).abs() <= 0.6, "{from:?} to {to:?} at {x},{y}: {expected} {got}");
                }
            }
            assert!(out.u().iter().all(|u| *u == 90), "{from:?} to {to:?}: {:?}", out.u());
            assert!(out.v().iter().all(|v| *v == 200), "{from:?} to {to:?}");
        }
    }

    #[test]
    fn every_level_makes_the_same_picture() {
        for (from, to) in [((61, 35), (30, 17)), ((61, 35), (200, 99)), ((130, 50), (37, 31))] {
            let frame = picture(from.0, from.1, |x, y| (x * 29 + y * 31 + x * y * 3) as u8);
            let expected = scaled(&frame, to.0, to.1);
            let pool = Pool::new(1, VideoFrame::bytes(to.0, to.1));
            for cpu in Cpu::available() {
                let mut scaler = Scaler::new(from, to).unwrap().on(cpu);
                let got = VideoFrame::new(&pool, to.0, to.1, |mut planes| {
                    scaler.scale(&frame, &mut planes, to.0, (0, 0)).unwrap();
                });
                assert_eq!(got.as_ref(), Some(&expected), "{from:?} to {to:?} by {cpu:?}");
            }
        }
    }

    #[test]
    fn a_part_of_a_picture_is_written_and_nothing_else() {
        let frame = picture(64, 36, |_, _| 200);
        let mut scaler = Scaler::new((64, 36), (32, 18)).unwrap();
        let pool = Pool::new(1, VideoFrame::bytes(40, 30));
        let out = VideoFrame::new(&pool, 40, 30, |mut planes| {
            super::super::fill::fill(&mut planes, super::super::fill::Colour::BLACK);
            scaler.scale(&frame, &mut planes, 40, (4, 6)).unwrap();
            assert!(scaler.scale(&frame, &mut planes, 40, (10, 0)).is_err());
            assert!(scaler.scale(&frame, &mut planes, 40, (3, 0)).is_err());
            assert!(scaler.scale(&frame, &mut planes, 40, (0, 14)).is_err());
        })
        .unwrap();
        assert_eq!(out.y().iter().filter(|y| **y == 200).count(), 32 * 18);
        assert_eq!(out.u().iter().filter(|u| **u == 90).count(), 16 * 9);
        assert_eq!((out.y()[6 * 40 + 4], out.y()[6 * 40 + 3], out.y()[23 * 40 + 35]), (200, 16, 200));
        assert!(Scaler::new((0, 4), (4, 4)).is_err());
        assert!(Scaler::new((4, 4), (4, MAX_SIDE + 1)).is_err());
    }
}
