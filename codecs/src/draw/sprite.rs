//! A finished drawing that a tick blends into a picture: planes and cover, nothing left to compute.

use super::blend::blend_line;
use super::palette::Rgb;
use super::sheet::part;
use crate::frame::PlanesMut;
use crate::kernels::fill::Area;

/// Colour and cover of a drawing in I420, with cover for the chroma planes of its own. Sides are even.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sprite {
    width: usize,
    height: usize,
    luma: Plane,
    u: Box<[u8]>,
    v: Box<[u8]>,
    half_cover: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Plane {
    colour: Box<[u8]>,
    cover: Box<[u8]>,
}

impl Sprite {
    /// Of pixels in red, green, blue and cover, colours multiplied by cover; a last odd column or
    /// line is repeated as a transparent one.
    pub(super) fn new(width: usize, height: usize, pixels: &[[u8; 4]]) -> Self {
        let pixel = |x: usize, y: usize| {
            let inside = x < width && y < height;
            inside.then(|| pixels.get(y * width + x)).flatten().copied().unwrap_or_default()
        };
        let (even_width, even_height) = (width.next_multiple_of(2), height.next_multiple_of(2));
        let mut colour = Vec::with_capacity(even_width * even_height);
        let mut cover = Vec::with_capacity(even_width * even_height);
        for y in 0..even_height {
            for x in 0..even_width {
                let it = pixel(x, y);
                colour.push(plain(it.map(u32::from)).yuv().y);
                cover.push(it[3]);
            }
        }
        let chroma = even_width * even_height / 4;
        let (mut u, mut v) = (Vec::with_capacity(chroma), Vec::with_capacity(chroma));
        let mut half_cover = Vec::with_capacity(chroma);
        for y in (0..even_height).step_by(2) {
            for x in (0..even_width).step_by(2) {
                let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
                let sum: [u32; 4] =
                    std::array::from_fn(|of| four.iter().map(|it| u32::from(it[of])).sum::<u32>());
                let mixed = plain(sum).yuv();
                u.push(mixed.u);
                v.push(mixed.v);
                half_cover.push(part((sum[3] * 255 + 2) / 4));
            }
        }
        Self {
            width: even_width,
            height: even_height,
            luma: Plane { colour: colour.into(), cover: cover.into() },
            u: u.into(),
            v: v.into(),
            half_cover: half_cover.into(),
        }
    }

    /// Width in pixels.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub const fn height(&self) -> usize {
        self.height
    }

    /// Blends it into a picture of which `canvas` is the whole, its upper left corner at `x`, `y`,
    /// both even. What lies outside of the picture is left out. No call allocates.
    pub fn blend(&self, picture: &mut PlanesMut<'_>, canvas: Area, (x, y): (usize, usize)) {
        let (half, corner) = (canvas.width.div_ceil(2), (x / 2, y / 2));
        let Self { luma, u, v, half_cover, .. } = self;
        blend_plane(picture.y, canvas.width, &luma.colour, &luma.cover, self.width, (x & !1, y & !1));
        blend_plane(picture.u, half, u, half_cover, self.width / 2, corner);
        blend_plane(picture.v, half, v, half_cover, self.width / 2, corner);
    }
}

fn blend_plane(
    plane: &mut [u8],
    stride: usize,
    colour: &[u8],
    cover: &[u8],
    width: usize,
    (x, y): (usize, usize),
) {
    let width = width.max(1);
    let lines = plane.chunks_exact_mut(stride.max(1)).skip(y);
    for ((below, colour), cover) in lines.zip(colour.chunks_exact(width)).zip(cover.chunks_exact(width)) {
        blend_line(below.get_mut(x..).unwrap_or_default(), colour, cover);
    }
}

/// The colour itself of one that was multiplied by its cover.
fn plain([r, g, b, cover]: [u32; 4]) -> Rgb {
    #[allow(clippy::cast_possible_truncation, reason = "at most 255")]
    let whole = |value: u32| (value * 255 + cover / 2).checked_div(cover).unwrap_or(0).min(255) as u8;
    Rgb(whole(r), whole(g), whole(b))
}

#[cfg(test)]
mod tests {
    use super::super::Sheet;
    use super::super::sheet::Round;
    use super::*;
    use crate::frame::{Pool, VideoFrame};
    use crate::kernels::fill::{Colour, fill};

    #[test]
    fn a_sprite_is_blended_where_it_belongs_and_cut_at_the_edge() {
        let mut sheet = Sheet::new(5, 3);
        sheet.fill(Rgb(255, 255, 255));
        let sprite = sheet.sprite();
        assert_eq!((sprite.width(), sprite.height()), (6, 4));
        let pool = Pool::new(1, VideoFrame::bytes(8, 6));
        let frame = VideoFrame::new(&pool, 8, 6, |mut planes| {
            fill(&mut planes, Colour::BLACK);
            sprite.blend(&mut planes, Area::whole(8, 6), (4, 2));
        })
        .unwrap();
        let white: Vec<usize> = (0..48).filter(|at| frame.y()[*at] == 235).collect();
        assert_eq!(white, [20, 21, 22, 23, 28, 29, 30, 31, 36, 37, 38, 39]);
    }

    #[test]
    fn half_a_cover_is_half_a_colour_in_every_plane() {
        let mut sheet = Sheet::new(4, 4);
        let all = Round { x: -9.0, y: -9.0, width: 30.0, height: 30.0, radius: 0.0 };
        sheet.round(all, Rgb(255, 0, 0), 0.5);
        let pool = Pool::new(1, VideoFrame::bytes(4, 4));
        let frame = VideoFrame::new(&pool, 4, 4, |mut planes| {
            fill(&mut planes, Colour::WHITE);
            sheet.sprite().blend(&mut planes, Area::whole(4, 4), (0, 0));
        })
        .unwrap();
        let near = |a: u8, b: u8| a.abs_diff(b) <= 1;
        assert!(near(frame.y()[5], 158) && near(frame.u()[0], 109) && near(frame.v()[0], 184), "{frame:?}");
    }
}
