//! One tile, planned.

use super::{Content, Feed, Live, Overlay, SceneError, Tile, holds};
use crate::frame::{PlanesMut, Pool, VideoFrame};
use crate::kernels::fill::{Area, Colour, fill_area};
use crate::kernels::scale::Scaler;

/// A tile with all that drawing it takes.
#[derive(Debug)]
pub(super) struct Part {
    area: Area,
    content: Planned,
    overlays: Box<[Overlay]>,
    canvas: (usize, usize),
}

#[derive(Debug)]
enum Planned {
    Plain(Colour),
    Still(VideoFrame),
    Live {
        live: Live,
        /// The tile's area without [`Live::inside`].
        bars: Box<[Area]>,
        road: Road,
        /// The source's picture that is seen: it may have to be drawn again.
        shown: Option<VideoFrame>,
    },
}

/// How a source's pixels come to their place.
#[derive(Debug)]
enum Road {
    /// As they are: the seen part has the size of its place.
    Copy,
    /// Straight.
    Scale(Box<Scaler>),
    /// The seen part first goes to a picture of its own: the scaler takes whole ones.
    CutAndScale(Box<Scaler>, Pool),
}

impl Part {
    pub(super) fn new(tile: Tile, canvas: (usize, usize)) -> Result<Self, SceneError> {
        let Tile { area, content, overlays } = tile;
        if !overlays.iter().all(|it| holds(area, it.area())) {
            return Err(SceneError::Area);
        }
        let content = match content {
            Content::Plain(colour) => Planned::Plain(colour),
            Content::Still(picture) => {
                check(area, &picture)?;
                Planned::Still(picture)
            }
            Content::Live(live) => {
                live.stand_in.iter().try_for_each(|it| check(area, it))?;
                let bars = bars(area, live.inside);
                Planned::Live { road: Road::new(area, &live)?, bars, live, shown: None }
            }
        };
        Ok(Self { area, content, overlays: overlays.into(), canvas })
    }

    pub(super) const fn area(&self) -> Area {
        self.area
    }

    /// It has to be drawn: its source has another picture, or has stalled.
    pub(super) fn is_fresh(&self, sources: &[Feed<'_>]) -> bool {
        match &self.content {
            Planned::Live { live, shown, .. } => sources.get(live.source).is_some_and(|feed| {
                let stood_in_for = feed.stalled && live.stand_in.is_some();
                if stood_in_for { shown.is_some() } else { feed.fresh && feed.picture.is_some() }
            }),
            Planned::Plain(_) | Planned::Still(_) => false,
        }
    }

    /// Draws it. `false`: its source's picture has another size than planned, so the last good one is
    /// seen, or what stands in for it.
    pub(super) fn draw(&mut self, sources: &[Feed<'_>], planes: &mut PlanesMut<'_>) -> bool {
        let (area, width) = (self.area, self.canvas.0);
        let mut fits = true;
        match &mut self.content {
            Planned::Plain(colour) => fill_area(planes, width, area, *colour),
            Planned::Still(picture) => copy_whole(picture, planes, width, area),
            Planned::Live { live, bars, road, shown } => {
                let feed = sources.get(live.source).copied().unwrap_or_default();
                if feed.stalled && live.stand_in.is_some() {
                    *shown = None;
                } else if let Some(picture) = feed.picture {
                    fits = (picture.width(), picture.height()) == live.size;
                    if fits {
                        *shown = Some(picture.clone());
                    }
                }
                match (shown, &live.stand_in) {
                    (Some(picture), _) => {
                        bars.iter().for_each(|bar| fill_area(planes, width, *bar, live.ground));
                        road.draw(live, picture, planes, width);
                    }
                    (None, Some(picture)) => copy_whole(picture, planes, width, area),
                    (None, None) => fill_area(planes, width, area, live.ground),
                }
            }
        }
        for overlay in &*self.overlays {
            overlay.draw(planes, width, self.canvas.1);
        }
        fits
    }
}

impl Road {
    fn new(area: Area, live: &Live) -> Result<Self, SceneError> {
        let Live { size, crop, inside, .. } = live;
        // The source may have odd sides; what is cut from it begins at even ones all the same.
        let within = crop.x.is_multiple_of(2)
            && crop.y.is_multiple_of(2)
            && crop.width > 0
            && crop.height > 0
            && crop.x + crop.width <= size.0
            && crop.y + crop.height <= size.1;
        if !within || !holds(area, *inside) {
            return Err(SceneError::Area);
        }
        let (from, to) = ((crop.width, crop.height), (inside.width, inside.height));
        if from == to {
            return Ok(Self::Copy);
        }
        let scaler = Box::new(Scaler::new(from, to)?);
        if from == *size {
            return Ok(Self::Scale(scaler));
        }
        Ok(Self::CutAndScale(scaler, Pool::new(1, VideoFrame::bytes(from.0, from.1))))
    }

    fn draw(&mut self, live: &Live, picture: &VideoFrame, planes: &mut PlanesMut<'_>, width: usize) {
        let Live { crop, inside, .. } = *live;
        let at = (inside.x, inside.y);
        // The sizes were checked when this was planned: no scaler refuses them.
        let _ = match self {
            Self::Copy => {
                copy(picture, crop, planes, width, inside);
                Ok(())
            }
            Self::Scale(scaler) => scaler.scale(picture, planes, width, at),
            Self::CutAndScale(scaler, pool) => {
                let cut = VideoFrame::new(pool, crop.width, crop.height, |mut planes| {
                    let whole = Area::whole(crop.width, crop.height);
                    copy(picture, crop, &mut planes, crop.width, whole);
                });
                cut.map_or(Ok(()), |cut| scaler.scale(&cut, planes, width, at))
            }
        };
    }
}

/// A finished picture has the size of its tile.
const fn check(tile: Area, picture: &VideoFrame) -> Result<(), SceneError> {
    if picture.width() == tile.width && picture.height() == tile.height {
        return Ok(());
    }
    Err(SceneError::Still)
}

/// Copies a picture of the size of `to` there.
fn copy_whole(picture: &VideoFrame, planes: &mut PlanesMut<'_>, width: usize, to: Area) {
    copy(picture, Area::whole(to.width, to.height), planes, width, to);
}

/// Copies the part `from` of `picture` to the part `to`, of the same size, of a picture of `width`.
pub(super) fn copy(picture: &VideoFrame, from: Area, planes: &mut PlanesMut<'_>, width: usize, to: Area) {
    let half = |it: Area| Area {
        x: it.x / 2,
        y: it.y / 2,
        width: it.width.div_ceil(2),
        height: it.height.div_ceil(2),
    };
    let (stride, half_stride, half_width) = (picture.width(), picture.width().div_ceil(2), width.div_ceil(2));
    copy_plane(picture.y(), stride, from, planes.y, width, to);
    copy_plane(picture.u(), half_stride, half(from), planes.u, half_width, half(to));
    copy_plane(picture.v(), half_stride, half(from), planes.v, half_width, half(to));
}

fn copy_plane(from: &[u8], from_width: usize, source: Area, to: &mut [u8], to_width: usize, target: Area) {
    let lines = from.chunks_exact(from_width.max(1)).skip(source.y).take(source.height);
    for (from, to) in lines.zip(to.chunks_exact_mut(to_width.max(1)).skip(target.y)) {
        let pixels = from.get(source.x..source.x + source.width);
        if let Some((from, to)) = pixels.zip(to.get_mut(target.x..target.x + source.width)) {
            to.copy_from_slice(from);
        }
    }
}

/// `outer` without `inner`: above, below, left and right of it.
fn bars(outer: Area, inner: Area) -> Box<[Area]> {
    let right = (inner.x + inner.width).min(outer.x + outer.width);
    let bottom = (inner.y + inner.height).min(outer.y + outer.height);
    let bars = [
        Area { height: inner.y.saturating_sub(outer.y), ..outer },
        Area { y: bottom, height: (outer.y + outer.height).saturating_sub(bottom), ..outer },
        Area { x: outer.x, width: inner.x.saturating_sub(outer.x), ..inner },
        Area { x: right, width: (outer.x + outer.width).saturating_sub(right), ..inner },
    ];
    bars.into_iter().filter(|it| it.width > 0 && it.height > 0).collect()
}
