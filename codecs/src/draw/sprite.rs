//! A finished drawing that a tick blends into a picture: planes and cover, nothing left to compute.

use super::palette::Rgb;
use crate::frame::{PlanesMut, Pool, VideoFrame};
use crate::kernels::blend::{Ink, Mask, blend};
use crate::kernels::cpu::Cpu;
use crate::kernels::fill::Area;

/// A drawing in I420 and how much of each pixel it covers. Sides are even.
#[derive(Clone, Debug)]
pub struct Sprite {
    colours: VideoFrame,
    cover: Mask,
    cpu: Cpu,
}

impl Sprite {
    /// Of pixels in red, green, blue and cover, colours multiplied by cover. An odd side gets a
    /// transparent line more. `None` without pixels.
    pub(super) fn new(width: usize, height: usize, pixels: &[[u8; 4]]) -> Option<Self> {
        let pixel = |x: usize, y: usize| {
            let inside = x < width && y < height;
            inside.then(|| pixels.get(y * width + x)).flatten().copied().unwrap_or_default()
        };
        let (even_width, even_height) = (width.next_multiple_of(2), height.next_multiple_of(2));
        let pool = Pool::new(1, VideoFrame::bytes(even_width, even_height));
        let colours = VideoFrame::new(&pool, even_width, even_height, |planes| {
            for (n, luma) in planes.y.iter_mut().enumerate() {
                *luma = plain(pixel(n % even_width, n / even_width).map(u32::from)).yuv().y;
            }
            let half = even_width / 2;
            for (n, (u, v)) in planes.u.iter_mut().zip(planes.v).enumerate() {
                let (x, y) = (n % half * 2, n / half * 2);
                let four = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
                let sum = std::array::from_fn(|of| four.iter().map(|it| u32::from(it[of])).sum());
                let mixed = plain(sum).yuv();
                (*u, *v) = (mixed.u, mixed.v);
            }
        })?;
        let cover: Vec<u8> =
            (0..even_width * even_height).map(|n| pixel(n % even_width, n / even_width)[3]).collect();
        let cover = Mask::new(even_width, even_height, &cover).ok()?;
        Some(Self { colours, cover, cpu: Cpu::detect() })
    }

    /// Width in pixels.
    pub const fn width(&self) -> usize {
        self.colours.width()
    }

    /// Height in pixels.
    pub const fn height(&self) -> usize {
        self.colours.height()
    }

    /// Blends it into a picture of which `canvas` is the whole, its upper left corner at `x`, `y`,
    /// rounded down to even numbers. What lies outside of the picture is left out. No call allocates.
    pub fn blend(&self, picture: &mut PlanesMut<'_>, canvas: Area, (x, y): (usize, usize)) {
        let ink = Ink::Picture(&self.colours);
        // Never refused: the place is even and the cover is of the picture's size.
        let _ = blend(self.cpu, picture, canvas.width, (x & !1, y & !1), &self.cover, ink);
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
    use crate::kernels::fill::{Colour, fill};

    #[test]
    fn a_sprite_is_blended_where_it_belongs_and_cut_at_the_edge() {
        let mut sheet = Sheet::new(5, 3);
        sheet.fill(Rgb(255, 255, 255));
        let sprite = sheet.sprite().unwrap();
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
            sheet.sprite().unwrap().blend(&mut planes, Area::whole(4, 4), (0, 0));
        })
        .unwrap();
        let near = |a: u8, b: u8| a.abs_diff(b) <= 1;
        assert!(near(frame.y()[5], 158) && near(frame.u()[0], 109) && near(frame.v()[0], 184), "{frame:?}");
    }
}
