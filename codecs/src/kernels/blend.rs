//! One picture laid over another: captions, overlays, rounded corners.
//!
//! A [`Mask`] says how much of what lies above is seen at each pixel, 0 to 255. A byte of a plane
//! becomes `(above x alpha + below x (255 - alpha)) / 255`, rounded to the nearest (a tie cannot
//! be): 0 leaves what was there, 255 replaces it, exactly.

use fearless_simd::{Simd, dispatch};

use super::cpu::Cpu;
use super::fill::{Area, Colour};
use crate::codec::CodecError;
use crate::frame::{MAX_SIDE, PlanesMut, VideoFrame};

/// How much of each pixel is covered, for luma and, averaged over each 2 x 2, for chroma. Made
/// where allocating is fine; no use of it allocates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    luma: Box<[u8]>,
    chroma: Box<[u8]>,
}

impl Mask {
    /// From one alpha for each pixel, line by line. Sides of an odd number of pixels are fine: the
    /// missing neighbours count as not covered.
    pub fn new(width: usize, height: usize, alpha: &[u8]) -> Result<Self, CodecError> {
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(CodecError::Unsupported("a mask of more than 4096 pixels a side"));
        }
        if alpha.len() != width * height {
            return Err(CodecError::Room { needed: width * height, room: alpha.len() });
        }
        let at =
            |x: usize, y: usize| if x < width && y < height { u32::from(alpha[y * width + x]) } else { 0 };
        let average =
            |x: usize, y: usize| (at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1) + 2) >> 2;
        let (across, down) = (width.div_ceil(2), height.div_ceil(2));
        let chroma = (0..across * down)
            .map(|n| u8::try_from(average(2 * (n % across), 2 * (n / across))).unwrap_or(u8::MAX));
        Ok(Self { width, height, luma: alpha.into(), chroma: chroma.collect() })
    }

    /// Width in pixels.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub const fn height(&self) -> usize {
        self.height
    }

    /// The alphas of all pixels.
    pub fn alpha(&self) -> &[u8] {
        &self.luma
    }
}

/// What is laid above.
#[derive(Clone, Copy, Debug)]
pub enum Ink<'a> {
    /// The same everywhere: letters.
    Colour(Colour),
    /// A picture of the mask's size.
    Picture(&'a VideoFrame),
}

/// Lays `ink` over `picture`, which is `width` pixels wide, through `mask`, whose upper left
/// corner comes to `x`, `y`, both even. What lies outside of the picture is cut.
pub fn blend(
    cpu: Cpu,
    picture: &mut PlanesMut<'_>,
    width: usize,
    (x, y): (usize, usize),
    mask: &Mask,
    ink: Ink<'_>,
) -> Result<(), CodecError> {
    if !x.is_multiple_of(2) || !y.is_multiple_of(2) {
        return Err(CodecError::Unsupported("pictures are laid over each other at even places"));
    }
    let [above_y, above_u, above_v] = match ink {
        Ink::Colour(colour) => [colour.y, colour.u, colour.v].map(Above::Value),
        Ink::Picture(frame) if (frame.width(), frame.height()) == (mask.width, mask.height) => {
            [frame.y(), frame.u(), frame.v()].map(Above::Plane)
        }
        Ink::Picture(_) => {
            return Err(CodecError::Unsupported("the mask is of another size than its picture"));
        }
    };
    let (half, half_mask) = (width.div_ceil(2), mask.width.div_ceil(2));
    blend_plane(cpu, picture.y, (width, x, y), (&mask.luma, mask.width), above_y);
    blend_plane(cpu, picture.u, (half, x / 2, y / 2), (&mask.chroma, half_mask), above_u);
    blend_plane(cpu, picture.v, (half, x / 2, y / 2), (&mask.chroma, half_mask), above_v);
    Ok(())
}

/// The four corners of a tile, rounded: what lies outside of the curve is covered.
#[derive(Clone, Debug)]
pub struct Corners {
    side: usize,
    /// Upper left, upper right, lower left, lower right.
    masks: [Mask; 4],
}

impl Corners {
    /// For a radius in pixels. The edge is as smooth as 255 steps make it: each pixel is covered
    /// by how far its middle lies outside of the circle.
    pub fn new(radius: usize) -> Result<Self, CodecError> {
        // Even, so that each mask can lie at an even place.
        let side = radius.min(MAX_SIDE).next_multiple_of(2);
        let corner = |right: bool, low: bool| {
            let alpha: Vec<u8> = (0..side * side)
                .map(|n| {
                    let (x, y) = (n % side, n / side);
                    outside(radius, if right { side - 1 - x } else { x }, if low { side - 1 - y } else { y })
                })
                .collect();
            Mask::new(side, side, &alpha)
        };
        Ok(Self {
            side,
            masks: [corner(false, false)?, corner(true, false)?, corner(false, true)?, corner(true, true)?],
        })
    }

    /// Rounds the corners of `area` (even numbers) of a picture of `width` pixels, by painting what
    /// lies outside of them in `colour`. An area too small for them is left as it is.
    pub fn paint(&self, cpu: Cpu, picture: &mut PlanesMut<'_>, width: usize, area: Area, colour: Colour) {
        if area.width < 2 * self.side || area.height < 2 * self.side {
            return;
        }
        let (left, upper) = (area.x & !1, area.y & !1);
        let right = (area.x + area.width - self.side) & !1;
        let lower = (area.y + area.height - self.side) & !1;
        let places = [(left, upper), (right, upper), (left, lower), (right, lower)];
        for (mask, place) in self.masks.iter().zip(places) {
            // Never refused: the places are even.
            let _ = blend(cpu, picture, width, place, mask, Ink::Colour(colour));
        }
    }
}

/// How much of the pixel at `x`, `y` of the upper left corner lies outside of the circle.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers, and a float cast saturates"
)]
fn outside(radius: usize, x: usize, y: usize) -> u8 {
    let from_middle = |n: usize| (radius as f64 - n as f64 - 0.5).max(0.0);
    let distance = from_middle(x).hypot(from_middle(y));
    ((distance - radius as f64 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
}

#[derive(Clone, Copy)]
enum Above<'a> {
    Value(u8),
    Plane(&'a [u8]),
}

fn blend_plane(
    cpu: Cpu,
    plane: &mut [u8],
    (stride, x, y): (usize, usize, usize),
    (alpha, width): (&[u8], usize),
    above: Above<'_>,
) {
    let end = x.saturating_add(width).min(stride);
    if x >= end {
        return;
    }
    let below = plane.chunks_exact_mut(stride).skip(y).map(|line| &mut line[x..end]);
    let lines = below.zip(alpha.chunks_exact(width));
    match above {
        Above::Value(value) => {
            for (below, alpha) in lines {
                dispatch!(cpu.0, simd => blend_value(simd, below, alpha, value));
            }
        }
        Above::Plane(above) => {
            for ((below, alpha), above) in lines.zip(above.chunks_exact(width)) {
                dispatch!(cpu.0, simd => blend_line(simd, below, alpha, above));
            }
        }
    }
}

#[inline(always)]
fn blend_value<S: Simd>(_: S, below: &mut [u8], alpha: &[u8], value: u8) {
    for (below, alpha) in below.iter_mut().zip(alpha) {
        *below = over(*below, value, *alpha);
    }
}

#[inline(always)]
fn blend_line<S: Simd>(_: S, below: &mut [u8], alpha: &[u8], above: &[u8]) {
    for ((below, alpha), above) in below.iter_mut().zip(alpha).zip(above) {
        *below = over(*below, *above, *alpha);
    }
}

/// The division by 255 without one: 1/255 is 1/256 + 1/256^2 and a little, which the rounding
/// takes. All of it fits 16 bits.
#[inline(always)]
const fn over(below: u8, above: u8, alpha: u8) -> u8 {
    let above = (above as u16).wrapping_mul(alpha as u16);
    let sum = (below as u16).wrapping_mul((!alpha) as u16).wrapping_add(above).wrapping_add(128);
    sum.wrapping_add(sum >> 8).to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::audio::signals::noise;
    use crate::frame::Pool;
    use crate::kernels::fill::fill;

    fn bytes(seed: u64, len: usize) -> Vec<u8> {
        noise(seed, 32_767, len).into_iter().map(|sample| (sample & 0xff) as u8).collect()
    }

    fn picture(seed: u64, width: usize, height: usize) -> VideoFrame {
        let pool = Pool::new(1, VideoFrame::bytes(width, height));
        VideoFrame::new(&pool, width, height, |planes| {
            planes.y.copy_from_slice(&bytes(seed, planes.y.len()));
            planes.u.copy_from_slice(&bytes(seed + 1, planes.u.len()));
            planes.v.copy_from_slice(&bytes(seed + 2, planes.v.len()));
        })
        .unwrap()
    }

    fn changed(frame: &VideoFrame, change: impl FnOnce(&mut PlanesMut<'_>)) -> VideoFrame {
        let pool = Pool::new(1, VideoFrame::bytes(frame.width(), frame.height()));
        VideoFrame::new(&pool, frame.width(), frame.height(), |mut planes| {
            planes.y.copy_from_slice(frame.y());
            planes.u.copy_from_slice(frame.u());
            planes.v.copy_from_slice(frame.v());
            change(&mut planes);
        })
        .unwrap()
    }

    /// The definition, pixel by pixel over the whole picture.
    fn by_definition(frame: &VideoFrame, (x, y): (usize, usize), mask: &Mask, ink: Ink<'_>) -> VideoFrame {
        changed(frame, |planes| {
            for (plane, shift) in [(&mut planes.y, 0), (&mut planes.u, 1), (&mut planes.v, 1)] {
                let half = |n: usize| (n + shift) >> shift;
                let (stride, width, height) = (half(frame.width()), half(mask.width), half(mask.height));
                for n in 0..plane.len() {
                    let (column, line) =
                        ((n % stride).wrapping_sub(x >> shift), (n / stride).wrapping_sub(y >> shift));
                    if column >= width || line >= height {
                        continue;
                    }
                    let covered: u32 = (0..1 << (2 * shift))
                        .map(|part| ((column << shift) + part % 2, (line << shift) + part / 2))
                        .filter(|(x, y)| *x < mask.width && *y < mask.height)
                        .map(|(x, y)| u32::from(mask.luma[y * mask.width + x]))
                        .sum();
                    let alpha = (covered + shift as u32 * 2) >> (2 * shift);
                    let above = match ink {
                        Ink::Colour(colour) => colour.y,
                        Ink::Picture(above) if shift == 0 => above.y()[line * width + column],
                        Ink::Picture(above) => above.u()[line * width + column],
                    };
                    plane[n] =
                        ((u32::from(plane[n]) * (255 - alpha) + u32::from(above) * alpha + 127) / 255) as u8;
                }
            }
        })
    }

    #[test]
    fn every_byte_is_rounded_to_the_nearest() {
        for below in 0..=255 {
            for above in 0..=255 {
                for alpha in 0..=255 {
                    let sum =
                        u32::from(below) * (255 - u32::from(alpha)) + u32::from(above) * u32::from(alpha);
                    assert_eq!(
                        u32::from(over(below, above, alpha)),
                        (sum + 127) / 255,
                        "{below} {above} {alpha}"
                    );
                }
            }
        }
    }

    #[test]
    fn masks_are_cut_at_the_edge_and_refused_at_odd_places() {
        let frame = picture(1, 20, 10);
        let mask = Mask::new(8, 8, &[255; 64]).unwrap();
        let ink = Ink::Colour(Colour { y: 9, u: 9, v: 9 });
        let out = changed(&frame, |planes| {
            blend(Cpu::detect(), planes, 20, (16, 6), &mask, ink).unwrap();
            blend(Cpu::detect(), planes, 20, (40, 0), &mask, ink).unwrap();
            blend(Cpu::detect(), planes, 20, (0, 40), &mask, ink).unwrap();
            assert!(blend(Cpu::detect(), planes, 20, (1, 0), &mask, ink).is_err());
            assert!(blend(Cpu::detect(), planes, 20, (0, 1), &mask, ink).is_err());
            assert!(blend(Cpu::detect(), planes, 20, (0, 0), &mask, Ink::Picture(&frame)).is_err());
        });
        assert_eq!(out, by_definition(&frame, (16, 6), &mask, ink));
        assert!(Mask::new(3, 3, &[0; 8]).is_err());
        assert!(Mask::new(MAX_SIDE + 1, 0, &[]).is_err());
    }

    #[test]
    fn corners_are_round_and_alike() {
        for radius in [0, 1, 7, 12] {
            let corners = Corners::new(radius).unwrap();
            let grey = picture(0, 60, 40);
            let out = changed(&grey, |planes| {
                fill(planes, Colour::WHITE);
                let area = Area { x: 4, y: 2, width: 50, height: 36 };
                corners.paint(Cpu::detect(), planes, 60, area, Colour::BLACK);
                // Too small to have corners of this radius.
                let small = Area { x: 20, y: 10, width: 2 * corners.side.saturating_sub(1), height: 4 };
                if corners.side > 2 {
                    corners.paint(Cpu::detect(), planes, 60, small, Colour::BLACK);
                }
            });
            let at = |x: usize, y: usize| out.y()[y * 60 + x];
            for (x, y) in (0..25).flat_map(|x| (0..18).map(move |y| (x, y))) {
                let pixel = at(4 + x, 2 + y);
                assert_eq!(pixel, at(53 - x, 2 + y), "{radius} {x} {y}");
                assert_eq!(pixel, at(4 + x, 37 - y), "{radius} {x} {y}");
                let distance = |n: usize| (radius as f64 - n as f64 - 0.5).max(0.0);
                let beyond = distance(x).hypot(distance(y)) - radius as f64;
                assert!(beyond > -0.5 || pixel == 235, "{radius} {x} {y}: {pixel}");
                assert!(beyond < 0.5 || pixel == 16, "{radius} {x} {y}: {pixel}");
            }
            assert!(out.y()[..2 * 60].iter().all(|pixel| *pixel == 235));
        }
    }

    proptest! {
        #[test]
        fn every_level_blends_as_defined(
            (width, height, alpha) in (1usize..90, 1usize..12)
                .prop_flat_map(|(width, height)| (Just(width), Just(height), vec(any::<u8>(), width * height))),
            place in (0usize..40, 0usize..10),
            seed in 1u64..1_000,
        ) {
            let place = (place.0 * 2, place.1 * 2);
            let (frame, above) = (picture(seed, 101, 23), picture(seed + 9, width, height));
            // One colour difference for both planes, so that the definition above can be short.
            let above = changed(&above, |planes| planes.v.copy_from_slice(above.u()));
            let mask = Mask::new(width, height, &alpha).unwrap();
            let grey = Colour { y: alpha[0], u: alpha[0], v: alpha[0] };
            for ink in [Ink::Picture(&above), Ink::Colour(grey)] {
                let expected = by_definition(&frame, place, &mask, ink);
                for cpu in Cpu::available() {
                    let got = changed(&frame, |planes| blend(cpu, planes, 101, place, &mask, ink).unwrap());
                    prop_assert!(got == expected, "{:?}", cpu);
                }
            }
        }
    }
}
