//! Where the tiles of a composed picture go: pure geometry.
//!
//! A [`Layout`] is a word of the client API. It says how many parties are seen at most and how large
//! each of them is. Fewer parties take the smallest form of its family that holds them, so that no
//! part of the canvas stays empty which could show somebody:
//!
//! * *Equal* (`4:0`, `9:0`, `16:0`, `25:0`): a square grid; rows that nobody needs are left out and
//!   what remains is centred, the last row too.
//! * *One main* (`1:0`, `1:7`, `1:21`, `1:33`): a square grid of which the main tile takes 3 x 3, 2 x 2
//!   or 4 x 4 cells; the others go beside it, then below.
//! * *Rows* (`2:21`, `5:7`, `ac`): rows of equal tiles, the largest above.
//!
//! Slot 0 is the largest tile or one of the largest; who sits in which slot is
//! [`order`](super::order)'s matter.
//!
//! # Shape
//!
//! No picture is ever distorted. If a tile can be filled by cutting away at most
//! [`Layout::crop_limit`] of the source, the middle of the source fills it; else the whole source is
//! shown, as large as fits, and the rest of the tile is ground. Every corner and size is even, so
//! that the planes of an I420 picture agree; what that rounds away is less than two pixels.

use std::fmt;
use std::str::FromStr;

use crosspoint_codecs::frame::MAX_SIDE;
use crosspoint_codecs::kernels::fill::Area;

mod fit;
mod forms;
#[cfg(test)]
mod tests;

pub use fit::Fit;

/// Most tiles of any layout.
pub const MAX_TILES: usize = 34;

/// Smallest side of a canvas in pixels: a tile of the largest grid still has eight.
pub const MIN_CANVAS: usize = 64;

/// How parties share a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One party.
    OneMain,
    /// One large, seven small.
    #[default]
    OneAndSeven,
    /// One large, twenty-one small.
    OneAndTwentyOne,
    /// One large, thirty-three small.
    OneAndThirtyThree,
    /// Two large, twenty-one small.
    TwoAndTwentyOne,
    /// Two large and three middle ones, seven small.
    FiveAndSeven,
    /// Four alike.
    Four,
    /// Nine alike.
    Nine,
    /// Sixteen alike.
    Sixteen,
    /// Twenty-five alike.
    TwentyFive,
    /// Adaptive composition: up to twelve, in the rows of `5:7` when it is full; pictures are cut to
    /// the tiles more boldly, as the people are in the middle of them.
    Adaptive,
}

impl Layout {
    /// All of them, in the order in which a host cycles through them.
    pub const ALL: [Self; 11] = [
        Self::OneAndSeven,
        Self::Adaptive,
        Self::OneAndTwentyOne,
        Self::TwoAndTwentyOne,
        Self::FiveAndSeven,
        Self::Four,
        Self::Nine,
        Self::Sixteen,
        Self::TwentyFive,
        Self::OneMain,
        Self::OneAndThirtyThree,
    ];

    /// Its word in the client API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OneMain => "1:0",
            Self::OneAndSeven => "1:7",
            Self::OneAndTwentyOne => "1:21",
            Self::OneAndThirtyThree => "1:33",
            Self::TwoAndTwentyOne => "2:21",
            Self::FiveAndSeven => "5:7",
            Self::Four => "4:0",
            Self::Nine => "9:0",
            Self::Sixteen => "16:0",
            Self::TwentyFive => "25:0",
            Self::Adaptive => "ac",
        }
    }

    /// Parties seen at most.
    pub const fn capacity(self) -> usize {
        match self {
            Self::OneMain => 1,
            Self::Four => 4,
            Self::OneAndSeven => 8,
            Self::Nine => 9,
            Self::FiveAndSeven | Self::Adaptive => 12,
            Self::Sixteen => 16,
            Self::OneAndTwentyOne => 22,
            Self::TwoAndTwentyOne => 23,
            Self::TwentyFive => 25,
            Self::OneAndThirtyThree => 34,
        }
    }

    /// The first slots that are larger than the rest and belong to those who speak. None where all
    /// are alike.
    pub const fn mains(self) -> usize {
        match self {
            Self::OneMain | Self::OneAndSeven | Self::OneAndTwentyOne | Self::OneAndThirtyThree => 1,
            Self::TwoAndTwentyOne | Self::Adaptive => 2,
            Self::FiveAndSeven => 5,
            Self::Four | Self::Nine | Self::Sixteen | Self::TwentyFive => 0,
        }
    }

    /// The largest share of a source's area that is cut away so that it fills its tile. A quarter
    /// makes 4:3 fill 16:9 and back. Adaptive composition goes to half: two wide pictures fill the
    /// two halves of a wide canvas.
    pub const fn crop_limit(self) -> f64 {
        match self {
            Self::Adaptive => 0.51,
            _ => 0.26,
        }
    }

    /// The tiles when slides of the size `slides` are in the picture: they have slot 0, and the first
    /// of `sources` the slots after it. In every layout but one the slides are as large as the main
    /// tile of `1:7`, three quarters of the canvas each way, for anything smaller cannot be read, with
    /// seven others at most. In `1:0` they are all that is seen. Slides are seen whole in any shape.
    pub fn tiles_with_slides(
        self,
        canvas: Canvas,
        slides: (usize, usize),
        sources: &[Option<(usize, usize)>],
    ) -> Vec<Tile> {
        let layout = if self == Self::OneMain { self } else { Self::OneAndSeven };
        let all: Vec<_> = std::iter::once(Some(slides)).chain(sources.iter().copied()).collect();
        let mut tiles = layout.tiles(canvas, &all);
        if let Some(main) = tiles.first_mut() {
            main.fit = Some(Fit::whole(slides, main.area));
        }
        tiles
    }

    /// The tiles for `sources`, of which the first [`Self::capacity`] are seen: the n-th in slot n.
    /// A source is known by the size of its pictures in pixels, `None` where there is none.
    pub fn tiles(self, canvas: Canvas, sources: &[Option<(usize, usize)>]) -> Vec<Tile> {
        let seen = sources.len().min(self.capacity());
        let areas = forms::areas(self, canvas, seen);
        let tiles = areas.into_iter().zip(sources).enumerate();
        tiles
            .map(|(slot, (area, source))| Tile {
                slot,
                area,
                fit: source.map(|source| Fit::new(source, area, self.crop_limit())),
            })
            .collect()
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no layout; the layouts are {words}", words = Layout::ALL.map(Layout::word).join(", "))]
pub struct UnknownLayout(String);

impl FromStr for Layout {
    type Err = UnknownLayout;

    fn from_str(word: &str) -> Result<Self, UnknownLayout> {
        let known = Self::ALL.into_iter().find(|it| it.word() == word);
        // What is told back is what a person typed, not what a peer may flood a log with.
        known.ok_or_else(|| UnknownLayout(word.chars().take(20).collect()))
    }
}

/// The size of the picture to compose: even sides from [`MIN_CANVAS`] to [`MAX_SIDE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Canvas {
    width: usize,
    height: usize,
}

/// A size that cannot be composed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}x{1} cannot be composed: both sides must be even, from {MIN_CANVAS} to {MAX_SIDE}")]
pub struct CanvasError(usize, usize);

impl Canvas {
    /// 720p, which every endpoint of the last fifteen years takes.
    pub const HD: Self = Self { width: 1_280, height: 720 };

    /// A canvas of this size in pixels.
    pub const fn new(width: usize, height: usize) -> Result<Self, CanvasError> {
        if width < MIN_CANVAS || height < MIN_CANVAS || width > MAX_SIDE || height > MAX_SIDE {
            return Err(CanvasError(width, height));
        }
        if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
            return Err(CanvasError(width, height));
        }
        Ok(Self { width, height })
    }

    /// Width in pixels.
    pub const fn width(self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub const fn height(self) -> usize {
        self.height
    }
}

/// One party's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Its number, from 0; the lowest are the largest.
    pub slot: usize,
    /// Its part of the canvas.
    pub area: Area,
    /// How the source's pictures go into it; `None` where there is no picture.
    pub fit: Option<Fit>,
}
