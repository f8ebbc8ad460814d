//! A picture into a tile without distortion: cut, or shown whole on ground.

use crosspoint_codecs::kernels::fill::Area;

/// Which part of a source goes to which part of the canvas. Both have the same shape, but for the
/// rounding to even numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Size of the source's pictures that this was made for.
    pub source: (usize, usize),
    /// The part of the source that is seen.
    pub crop: Area,
    /// Where it goes: the tile, or the middle of it.
    pub inside: Area,
}

impl Fit {
    /// The middle of a `source` fills `tile` if no more than the share `limit` of it is lost by
    /// that; else all of it is seen.
    pub(super) fn new(source: (usize, usize), tile: Area, limit: f64) -> Self {
        let source = (source.0.max(1), source.1.max(1));
        let crop = Area::fit((tile.width, tile.height), source.0, source.1);
        let lost = 1.0 - area(crop.width, crop.height) / area(source.0, source.1);
        if lost <= limit {
            return Self { source, crop, inside: tile };
        }
        Self::whole(source, tile)
    }

    /// All of a `source` as large as it fits into the middle of `tile`.
    pub(super) fn whole(source: (usize, usize), tile: Area) -> Self {
        let source = (source.0.max(1), source.1.max(1));
        let inside = Area::fit(source, tile.width, tile.height);
        let inside = Area { x: tile.x + inside.x, y: tile.y + inside.y, ..inside };
        Self { source, crop: Area::whole(source.0, source.1), inside }
    }
}

#[allow(clippy::cast_precision_loss, reason = "sides of pictures are small")]
fn area(width: usize, height: usize) -> f64 {
    width as f64 * height as f64
}
