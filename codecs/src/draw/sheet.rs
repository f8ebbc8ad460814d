//! A sheet to draw on, in red, green, blue and cover, with soft edges.

use std::ops::Range;

use super::palette::Rgb;
use super::sprite::Sprite;
use crate::frame::{MAX_SIDE, Pool, VideoFrame};
use crate::kernels::fill::{Area, Colour, fill};

/// A transparent sheet. Four octets a pixel, colours already multiplied by cover. What lies outside
/// of it is not drawn.
#[derive(Clone, Debug)]
pub struct Sheet {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 4]>,
}

/// A rectangle with round corners, in pixels and parts of them.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
    /// Radius of the corners.
    pub radius: f32,
}

impl Round {
    /// How far a point is outside (positive) or inside (negative) of the edge, in pixels.
    fn distance(&self, x: f32, y: f32) -> f32 {
        let (half_width, half_height) = (self.width / 2.0, self.height / 2.0);
        let radius = self.radius.min(half_width).min(half_height);
        let dx = (x - self.x - half_width).abs() - half_width + radius;
        let dy = (y - self.y - half_height).abs() - half_height + radius;
        dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0) - radius
    }

    /// Cover of the pixel at a column and line: an edge through its middle covers half of it.
    pub(super) fn cover(&self, column: usize, line: usize) -> f32 {
        (0.5 - self.distance(float(column) + 0.5, float(line) + 0.5)).clamp(0.0, 1.0)
    }
}

impl Sheet {
    /// A transparent sheet; sides of at most [`MAX_SIDE`], larger ones are cut.
    pub fn new(width: usize, height: usize) -> Self {
        let (width, height) = (width.min(MAX_SIDE), height.min(MAX_SIDE));
        Self { width, height, pixels: vec![[0; 4]; width * height] }
    }

    /// Width in pixels.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub const fn height(&self) -> usize {
        self.height
    }

    /// Covers everything.
    pub fn fill(&mut self, colour: Rgb) {
        self.pixels.fill([colour.0, colour.1, colour.2, 255]);
    }

    /// A filled rectangle with round corners, `opacity` 0 to 1.
    pub fn round(&mut self, shape: Round, colour: Rgb, opacity: f32) {
        let (columns, lines) = (reach(shape.x, shape.width), reach(shape.y, shape.height));
        self.within(columns, lines, colour, opacity, |column, line| shape.cover(column, line));
    }

    /// Whatever `cover` says of each pixel (column, line), 0 to 1.
    pub(super) fn shape(&mut self, colour: Rgb, opacity: f32, cover: impl Fn(usize, usize) -> f32) {
        self.within(0..self.width, 0..self.height, colour, opacity, cover);
    }

    fn within(
        &mut self,
        columns: Range<usize>,
        lines: Range<usize>,
        colour: Rgb,
        opacity: f32,
        cover: impl Fn(usize, usize) -> f32,
    ) {
        let width = self.width.max(1);
        let rows = self.pixels.chunks_exact_mut(width).enumerate();
        for (line, pixels) in rows.skip(lines.start).take(lines.len()) {
            for (column, pixel) in pixels.iter_mut().enumerate().skip(columns.start).take(columns.len()) {
                let share = cover(column, line) * opacity;
                if share > 0.0 {
                    lay(pixel, colour, octet(share * 255.0));
                }
            }
        }
    }

    /// A mask of `width` octets a line in one colour, its upper left corner at `x`, `y`, which may
    /// lie outside.
    pub fn mask(&mut self, mask: &[u8], width: usize, (x, y): (isize, isize), colour: Rgb) {
        for (line, row) in mask.chunks_exact(width.max(1)).enumerate() {
            let Some(line) = y.checked_add_unsigned(line).and_then(|it| usize::try_from(it).ok()) else {
                continue;
            };
            for (column, cover) in row.iter().enumerate() {
                let column = x.checked_add_unsigned(column).and_then(|it| usize::try_from(it).ok());
                let Some(column) = column.filter(|it| *it < self.width) else { continue };
                if let Some(pixel) = self.pixels.get_mut(line * self.width + column) {
                    lay(pixel, colour, *cover);
                }
            }
        }
    }

    /// To be blended into pictures by the tick. `None` for a sheet without pixels.
    pub fn sprite(&self) -> Option<Sprite> {
        Sprite::new(self.width, self.height, &self.pixels)
    }

    /// A picture of its own, on black where nothing was drawn. Sides are rounded down to even
    /// numbers; a sheet of less than two pixels is no picture.
    pub fn picture(&self) -> Option<VideoFrame> {
        let (width, height) = (self.width & !1, self.height & !1);
        if width == 0 || height == 0 {
            return None;
        }
        let pool = Pool::new(1, VideoFrame::bytes(width, height));
        let sprite = self.sprite()?;
        VideoFrame::new(&pool, width, height, |mut planes| {
            fill(&mut planes, Colour::BLACK);
            sprite.blend(&mut planes, Area::whole(width, height), (0, 0));
        })
    }
}

/// Pixels that something from `begin` on can touch.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floored at zero")]
fn reach(begin: f32, length: f32) -> Range<usize> {
    (begin - 1.0).max(0.0) as usize..(begin + length + 2.0).max(0.0) as usize
}

/// One colour over a pixel, `cover` 0 to 255.
fn lay(pixel: &mut [u8; 4], colour: Rgb, cover: u8) {
    let above = [colour.0, colour.1, colour.2, 255];
    for (below, above) in pixel.iter_mut().zip(above) {
        let (share, rest) = (u32::from(cover), 255 - u32::from(cover));
        *below = part(u32::from(above) * share + u32::from(*below) * rest);
    }
}

/// A sum of products with 255 back to an octet, rounded.
#[allow(clippy::cast_possible_truncation, reason = "at most 255 x 255, by 255")]
const fn part(sum: u32) -> u8 {
    ((sum + 127) / 255) as u8
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped just before")]
fn octet(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

#[allow(clippy::cast_precision_loss, reason = "sides of at most 4096 pixels")]
pub(super) const fn float(value: usize) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_shape_covers_what_its_area_is() {
        let mut sheet = Sheet::new(40, 30);
        let shape = Round { x: 5.0, y: 5.0, width: 30.0, height: 20.0, radius: 10.0 };
        sheet.round(shape, Rgb(255, 255, 255), 1.0);
        let covered: f32 = sheet.pixels.iter().map(|it| f32::from(it[3]) / 255.0).sum();
        let expected = 30.0 * 20.0 - (4.0 - std::f32::consts::PI) * 100.0;
        assert!((covered - expected).abs() < 4.0, "{covered} {expected}");
        assert_eq!((sheet.pixels[0][3], sheet.pixels[15 * 40 + 20][3]), (0, 255));
    }

    #[test]
    fn masks_are_cut_at_the_edges() {
        let mut sheet = Sheet::new(4, 3);
        sheet.mask(&[255; 9], 3, (-1, -2), Rgb(9, 9, 9));
        sheet.mask(&[255; 9], 3, (3, 2), Rgb(9, 9, 9));
        sheet.mask(&[255; 9], 3, (isize::MAX, isize::MIN), Rgb(9, 9, 9));
        let covered: Vec<usize> = (0..12).filter(|at| sheet.pixels[*at][3] > 0).collect();
        assert_eq!(covered, [0, 1, 11]);
    }

    #[test]
    fn half_cover_is_half_way_between() {
        let mut sheet = Sheet::new(2, 2);
        sheet.fill(Rgb(0, 0, 0));
        sheet.round(
            Round { x: -9.0, y: -9.0, width: 20.0, height: 20.0, radius: 0.0 },
            Rgb(200, 100, 50),
            0.5,
        );
        assert_eq!(sheet.pixels[0], [100, 50, 25, 255]);
    }
}
