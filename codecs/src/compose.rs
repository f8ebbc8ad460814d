//! Many pictures in one. A [`Scene`] says what goes where; a [`Composer`] is made of it once, off the
//! tick, and then makes pictures in it: it scales each source straight into its place, blends
//! finished drawings over it, and copies what has not changed from the picture before.
//!
//! Nothing here knows a conference: a scene is rectangles, and sources are numbers.

use std::sync::Arc;

use crate::codec::CodecError;
use crate::draw::Sprite;
use crate::frame::{MAX_SIDE, PlanesMut, Pool, VideoFrame};
use crate::kernels::fill::{Area, Colour, fill_area};

mod part;
#[cfg(test)]
mod tests;

use part::Part;

/// Most tiles of a scene: more than any layout has.
pub const MAX_TILES: usize = 64;

/// Most drawings over one tile, or over the whole: a name, a frame of eight pieces, and room.
pub const MAX_OVERLAYS: usize = 32;

/// What a composed picture consists of. All corners and sizes are even numbers.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Where no tile is.
    pub background: Colour,
    /// Rectangles that do not overlap.
    pub tiles: Vec<Tile>,
    /// Drawn over everything, last.
    pub overlays: Vec<Overlay>,
}

/// One rectangle of a scene.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Its place on the canvas.
    pub area: Area,
    /// What it shows.
    pub content: Content,
    /// Drawn over it, in this order; none of them leaves [`Self::area`].
    pub overlays: Vec<Overlay>,
}

/// What a tile shows.
#[derive(Clone, Debug)]
pub enum Content {
    /// One colour.
    Plain(Colour),
    /// A finished picture of the tile's size.
    Still(VideoFrame),
    /// The pictures of a source.
    Live(Live),
}

/// How the pictures of a source go into a tile.
#[derive(Clone, Debug)]
pub struct Live {
    /// Its number: the place in the list that [`Composer::compose`] is given.
    pub source: usize,
    /// Size of its pictures. One of another size is not shown: see [`Composer::unfit`].
    pub size: (usize, usize),
    /// The part of them that is seen.
    pub crop: Area,
    /// Where that goes on the canvas, within the tile.
    pub inside: Area,
    /// The rest of the tile; and all of it while there is no picture and nothing stands in for one.
    pub ground: Colour,
    /// Stands in until the first picture comes and while the source has stalled: a finished picture
    /// of the tile's size. Without one the last picture is seen however long the source stalls.
    pub stand_in: Option<VideoFrame>,
}

/// Something drawn over a picture.
#[derive(Clone, Debug)]
pub enum Overlay {
    /// An area in one colour.
    Fill(Area, Colour),
    /// A drawing, its upper left corner at x, y on the canvas.
    Sprite(Arc<Sprite>, (usize, usize)),
}

/// What a source has at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Feed<'a> {
    /// Its last picture. Without one its tile keeps what it shows.
    pub picture: Option<&'a VideoFrame>,
    /// It is another picture than at the last call.
    pub fresh: bool,
    /// Nothing good came for too long: [`Live::stand_in`] is seen, and then the next fresh picture.
    pub stalled: bool,
}

/// A scene that cannot be composed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SceneError {
    /// A side of zero, odd, or beyond [`MAX_SIDE`].
    #[error("a composed picture has even sides of 2 to {MAX_SIDE} pixels")]
    Size,
    /// More than [`MAX_TILES`] or [`MAX_OVERLAYS`].
    #[error("a scene has at most {MAX_TILES} tiles with {MAX_OVERLAYS} overlays each")]
    TooMany,
    /// An area is empty, odd or outside of what it belongs to.
    #[error("an area of the scene is empty, not even, or leaves what it belongs to")]
    Area,
    /// Two tiles share pixels.
    #[error("two tiles of the scene overlap")]
    Overlap,
    /// A finished picture, or one that stands in, is not of its tile's size.
    #[error("a still picture has another size than its tile")]
    Still,
    /// No scaler for these sizes.
    #[error(transparent)]
    Scale(#[from] CodecError),
}

/// Makes the pictures of one scene.
///
/// It keeps the last picture that it made and the last one of each source: each pool has to hold one
/// more buffer than its other receivers keep at a time. [`Self::compose`] neither allocates nor fails: a pool without a free buffer gives
/// no picture this time.
#[derive(Debug)]
pub struct Composer {
    width: usize,
    height: usize,
    background: Colour,
    /// What no tile covers.
    gaps: Box<[Area]>,
    parts: Box<[Part]>,
    overlays: Box<[Overlay]>,
    /// Parts that lie under one of the overlays: drawn anew together, so that nothing is blended
    /// over what is blended already.
    under: Box<[bool]>,
    redraw: Box<[bool]>,
    last: Option<VideoFrame>,
    unfit: u64,
}

impl Composer {
    /// Plans everything: off the tick.
    pub fn new(scene: Scene) -> Result<Self, SceneError> {
        let Scene { width, height, background, tiles, overlays } = scene;
        let side = |side: usize| side > 0 && side <= MAX_SIDE && side.is_multiple_of(2);
        if !side(width) || !side(height) {
            return Err(SceneError::Size);
        }
        let many = tiles.iter().map(|it| it.overlays.len()).chain([overlays.len()]);
        if tiles.len() > MAX_TILES || many.max().unwrap_or(0) > MAX_OVERLAYS {
            return Err(SceneError::TooMany);
        }
        let canvas = Area::whole(width, height);
        if !overlays.iter().all(|it| holds(canvas, it.area())) {
            return Err(SceneError::Area);
        }
        for (n, tile) in tiles.iter().enumerate() {
            if !holds(canvas, tile.area) {
                return Err(SceneError::Area);
            }
            if tiles.iter().take(n).any(|other| meet(other.area, tile.area)) {
                return Err(SceneError::Overlap);
            }
        }
        let gaps = gaps(canvas, &tiles);
        let covered = |tile: &Tile| overlays.iter().any(|it| meet(it.area(), tile.area));
        let under: Box<[bool]> = tiles.iter().map(covered).collect();
        let parts = tiles
            .into_iter()
            .map(|tile| Part::new(tile, (width, height)))
            .collect::<Result<Box<[_]>, _>>()?;
        Ok(Self {
            width,
            height,
            background,
            gaps,
            redraw: vec![true; parts.len()].into(),
            parts,
            overlays: overlays.into(),
            under,
            last: None,
            unfit: 0,
        })
    }

    /// Size of the pictures in pixels.
    pub const fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The next picture, from `pool`. `sources` by number; one that is not in the list has no
    /// picture. When nothing has changed it is the last picture again. `None` when the pool is empty:
    /// what is fresh then must be said to be fresh the next time too.
    pub fn compose(&mut self, sources: &[Feed<'_>], pool: &Pool) -> Option<VideoFrame> {
        self.mark(sources);
        if let Some(last) = self.last.as_ref().filter(|_| !self.redraw.contains(&true)) {
            return Some(last.clone());
        }
        let Self { width, height, background, gaps, parts, overlays, redraw, last, unfit, .. } = self;
        let picture = VideoFrame::new(pool, *width, *height, |mut planes| {
            for gap in &*gaps {
                fill_area(&mut planes, *width, *gap, *background);
            }
            for (part, redraw) in parts.iter_mut().zip(&*redraw) {
                match last.as_ref().filter(|_| !redraw) {
                    Some(last) => part::copy(last, part.area(), &mut planes, *width, part.area()),
                    None => *unfit += u64::from(!part.draw(sources, &mut planes)),
                }
            }
            for overlay in &*overlays {
                overlay.draw(&mut planes, *width, *height);
            }
        })?;
        *last = Some(picture.clone());
        Some(picture)
    }

    /// Pictures that were not shown because their size is not the planned one. When this grows, the
    /// scene is to be planned anew.
    pub const fn unfit(&self) -> u64 {
        self.unfit
    }

    fn mark(&mut self, sources: &[Feed<'_>]) {
        let first = self.last.is_none();
        let mut covered = false;
        for ((part, redraw), under) in self.parts.iter().zip(&mut self.redraw).zip(&self.under) {
            *redraw = first || part.is_fresh(sources);
            covered |= *redraw && *under;
        }
        if covered {
            self.redraw.iter_mut().zip(&self.under).for_each(|(redraw, under)| *redraw |= *under);
        }
    }
}

impl Overlay {
    fn area(&self) -> Area {
        match self {
            Self::Fill(area, _) => *area,
            Self::Sprite(sprite, (x, y)) => {
                Area { x: *x, y: *y, width: sprite.width(), height: sprite.height() }
            }
        }
    }

    fn draw(&self, planes: &mut PlanesMut<'_>, width: usize, height: usize) {
        match self {
            Self::Fill(area, colour) => fill_area(planes, width, *area, *colour),
            Self::Sprite(sprite, at) => sprite.blend(planes, Area::whole(width, height), *at),
        }
    }
}

/// `inner` is even, not empty, and within `outer`.
fn holds(outer: Area, inner: Area) -> bool {
    let even = [inner.x, inner.y, inner.width, inner.height].iter().all(|it| it.is_multiple_of(2));
    let ends = |begin: usize, length: usize, outer: usize, limit: usize| {
        begin >= outer && begin.checked_add(length).is_some_and(|end| end <= outer + limit)
    };
    even && inner.width > 0
        && inner.height > 0
        && ends(inner.x, inner.width, outer.x, outer.width)
        && ends(inner.y, inner.height, outer.y, outer.height)
}

const fn meet(a: Area, b: Area) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

/// What of the canvas no tile covers: bands between the edges of tiles, cut where tiles are.
fn gaps(canvas: Area, tiles: &[Tile]) -> Box<[Area]> {
    let mut edges: Vec<usize> = tiles.iter().flat_map(|it| [it.area.y, it.area.y + it.area.height]).collect();
    edges.extend([0, canvas.height]);
    edges.sort_unstable();
    edges.dedup();
    let mut gaps = Vec::new();
    for (top, bottom) in edges.iter().zip(edges.iter().skip(1)) {
        let band = Area { x: 0, y: *top, width: canvas.width, height: bottom - top };
        let mut inside: Vec<Area> = tiles.iter().map(|it| it.area).filter(|it| meet(*it, band)).collect();
        inside.sort_by_key(|it| it.x);
        let mut x = 0;
        for (begin, end) in inside.iter().map(|it| (it.x, it.x + it.width)).chain([(canvas.width, 0)]) {
            if begin > x {
                gaps.push(Area { x, width: begin - x, ..band });
            }
            x = end;
        }
    }
    gaps.into()
}
