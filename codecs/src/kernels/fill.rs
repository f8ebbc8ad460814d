//! Pictures of one colour: slates, bars beside a scaled picture, a first picture.

use crate::frame::PlanesMut;

/// A colour as luma and colour differences (BT.601 or 709, limited range: black is 16, 128, 128).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Luma.
    pub y: u8,
    /// Blue difference.
    pub u: u8,
    /// Red difference.
    pub v: u8,
}

impl Colour {
    /// Black.
    pub const BLACK: Self = Self { y: 16, u: 128, v: 128 };
    /// White.
    pub const WHITE: Self = Self { y: 235, u: 128, v: 128 };
}

/// Fills the whole picture.
pub fn fill(picture: &mut PlanesMut<'_>, colour: Colour) {
    picture.y.fill(colour.y);
    picture.u.fill(colour.u);
    picture.v.fill(colour.v);
}

/// A part of a picture in pixels. Its corner and size are even numbers, so that it is the same
/// part in all planes; odd ones are rounded down where they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// From the left.
    pub x: usize,
    /// From the top.
    pub y: usize,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
}

impl Area {
    /// The whole of a picture.
    pub const fn whole(width: usize, height: usize) -> Self {
        Self { x: 0, y: 0, width, height }
    }

    /// The largest area of the shape of `inner` in a picture of `width` x `height`, in its
    /// middle, at even numbers: where a picture goes that keeps its shape.
    pub fn fit(inner: (usize, usize), width: usize, height: usize) -> Self {
        let (inner_width, inner_height) = (inner.0.max(1), inner.1.max(1));
        let (mut w, mut h) = (width, height);
        if inner_width * height > inner_height * width {
            h = (width * inner_height / inner_width).max(2);
        } else {
            w = (height * inner_width / inner_height).max(2);
        }
        // A size that differs by less than a pair of pixels is the whole side.
        let even = |part: usize, whole: usize| if part + 1 >= whole { whole } else { part & !1 };
        let (w, h) = (even(w, width), even(h, height));
        Self { x: ((width - w) / 2) & !1, y: ((height - h) / 2) & !1, width: w, height: h }
    }
}

/// Fills `area` of a picture that is `width` pixels wide; what lies outside is left out.
pub fn fill_area(picture: &mut PlanesMut<'_>, width: usize, area: Area, colour: Colour) {
    let half = |n: usize| n.div_ceil(2);
    fill_plane(picture.y, width, area, colour.y);
    let chroma = Area { x: area.x / 2, y: area.y / 2, width: half(area.width), height: half(area.height) };
    fill_plane(picture.u, half(width), chroma, colour.u);
    fill_plane(picture.v, half(width), chroma, colour.v);
}

/// Draws a border within `area` (even numbers) of a picture that is `width` pixels wide: `line`
/// pixels thick, rounded up to an even number, so that chroma has it too. One thicker than half of
/// the area fills it.
pub fn border(picture: &mut PlanesMut<'_>, width: usize, area: Area, line: usize, colour: Colour) {
    let line = line.next_multiple_of(2);
    let (across, down) = (line.min(area.width), line.min(area.height));
    let (right, lower) = (area.x + area.width - across, area.y + area.height - down);
    for part in [
        Area { height: down, ..area },
        Area { y: lower, height: down, ..area },
        Area { width: across, ..area },
        Area { x: right, width: across, ..area },
    ] {
        fill_area(picture, width, part, colour);
    }
}

fn fill_plane(plane: &mut [u8], stride: usize, area: Area, value: u8) {
    let end = area.x.saturating_add(area.width).min(stride);
    for line in plane.chunks_exact_mut(stride.max(1)).skip(area.y).take(area.height) {
        if let Some(part) = line.get_mut(area.x..end) {
            part.fill(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Pool, VideoFrame};

    #[test]
    fn an_area_is_filled_in_all_planes_and_cut_at_the_edge() {
        let pool = Pool::new(1, VideoFrame::bytes(8, 6));
        let frame = VideoFrame::new(&pool, 8, 6, |mut planes| {
            fill(&mut planes, Colour::BLACK);
            fill_area(
                &mut planes,
                8,
                Area { x: 4, y: 2, width: 100, height: 2 },
                Colour { y: 1, u: 2, v: 3 },
            );
        })
        .unwrap();
        assert_eq!(frame.y().iter().filter(|y| **y == 1).count(), 8);
        assert_eq!(frame.y()[2 * 8..3 * 8], [16, 16, 16, 16, 1, 1, 1, 1]);
        assert_eq!(frame.u(), [128, 128, 128, 128, 128, 128, 2, 2, 128, 128, 128, 128]);
        assert_eq!(frame.v()[4..8], [128, 128, 3, 3]);
    }

    #[test]
    fn a_border_lies_within_its_area_in_all_planes() {
        let pool = Pool::new(1, VideoFrame::bytes(12, 10));
        let drawn = |area: Area, line: usize| {
            let frame = VideoFrame::new(&pool, 12, 10, |mut planes| {
                fill(&mut planes, Colour::BLACK);
                border(&mut planes, 12, area, line, Colour { y: 1, u: 2, v: 3 });
            });
            frame.map(|frame| (frame.y().to_vec(), frame.u().to_vec())).unwrap()
        };
        let area = Area { x: 2, y: 0, width: 8, height: 8 };
        let (y, u) = drawn(area, 1);
        assert_eq!(y.iter().filter(|y| **y == 1).count(), 64 - 16);
        assert_eq!(y[3 * 12..4 * 12], [16, 16, 1, 1, 16, 16, 16, 16, 1, 1, 16, 16]);
        assert_eq!(u[..12], [128, 2, 2, 2, 2, 128, 128, 2, 128, 128, 2, 128]);
        assert_eq!(u[3 * 6..], [128, 2, 2, 2, 2, 128, 128, 128, 128, 128, 128, 128]);
        let (y, _) = drawn(area, 100);
        assert_eq!(y.iter().filter(|y| **y == 1).count(), 64);
        assert!(drawn(area, 0).0.iter().all(|y| *y == 16));
        // At the picture's edge it is cut.
        let (y, _) = drawn(Area { x: 8, y: 6, width: 20, height: 20 }, 2);
        assert_eq!(y.iter().filter(|y| **y == 1).count(), 4 * 2 + 2 * 2);
    }

    #[test]
    fn a_picture_keeps_its_shape() {
        assert_eq!(Area::fit((1280, 720), 640, 360), Area::whole(640, 360));
        assert_eq!(Area::fit((640, 480), 640, 360), Area { x: 80, y: 0, width: 480, height: 360 });
        assert_eq!(Area::fit((640, 360), 352, 288), Area { x: 0, y: 44, width: 352, height: 198 });
        assert_eq!(Area::fit((1, 4000), 64, 64).width, 2);
        assert_eq!(Area::fit((0, 0), 64, 64), Area::whole(64, 64));
    }
}
