//! The pieces of a composed picture: names, frames, banner, stand-ins and slates, all of one look.
//!
//! Sizes are fractions of the height of what they are on, within limits that keep text readable on a
//! small tile and modest on a large one.

use std::sync::Arc;

use super::palette::{ACCENT, CANVAS, GROUND, PLATE, PLATE_OPACITY, QUIET, Rgb, TEXT};
use super::sheet::float;
use super::text::{CAPITAL, Mask, Typesetter};
use super::{Round, Sheet, Sprite};
use crate::compose::Overlay;
use crate::frame::{Pool, VideoFrame};
use crate::kernels::fill::{Area, fill};

mod initials;
#[cfg(test)]
mod tests;

pub use initials::initials;

/// Letters of a name as a part of its tile's height, and their least and largest size in pixels.
const NAME: (f32, f32, f32) = (0.044, 12.0, 30.0);
/// Share of a tile's height that a name may cover: a smaller tile has none.
const NAME_COVER: f32 = 0.25;
/// Letters of a banner, of the picture's height.
const BANNER: (f32, f32, f32) = (0.034, 12.0, 48.0);
/// Height of the plate behind a line of text, in sizes of its letters.
const PLATE_HEIGHT: f32 = 1.8;
/// Share of the picture's width that a banner takes at most.
const BANNER_WIDTH: f32 = 0.8;
/// Width of the line of canvas that parts two tiles, on either side.
const GUTTER: (f32, f32, f32) = (0.005, 2.0, 4.0);
/// Width of the band around the tile of the one who speaks.
const BAND: (f32, f32, f32) = (0.011, 2.0, 6.0);
/// Radius of a tile's corners.
const CORNER: (f32, f32, f32) = (0.035, 4.0, 16.0);

/// A size for something `height` pixels high.
fn measure((part, least, largest): (f32, f32, f32), height: usize) -> f32 {
    (float(height) * part).clamp(least, largest).round()
}

/// The name in the lower left of a tile. Nothing when nothing of the name can be drawn, or when the
/// tile has no room for it.
pub fn caption(text: &mut Typesetter, name: &str, tile: Area) -> Option<Overlay> {
    let size = measure(NAME, tile.height);
    let margin = pixels(measure(GUTTER, tile.height) + size * 0.45).next_multiple_of(2);
    if size * PLATE_HEIGHT > float(tile.height) * NAME_COVER {
        return None;
    }
    let sprite = plate(text, name, size, tile.width.saturating_sub(2 * margin), false)?;
    let x = tile.x + margin;
    let y = (tile.y + tile.height).checked_sub(margin + sprite.height())?;
    (y >= tile.y).then(|| Overlay::Sprite(Arc::new(sprite), (x, y & !1)))
}

/// What the host has to say, in the middle of the upper edge.
pub fn banner(text: &mut Typesetter, words: &str, width: usize, height: usize) -> Option<Overlay> {
    let size = measure(BANNER, height);
    let sprite = plate(text, words, size, pixels(float(width) * BANNER_WIDTH), true)?;
    let x = (width.checked_sub(sprite.width())? / 2) & !1;
    let y = pixels(size * 0.8) & !1;
    (y + sprite.height() <= height).then(|| Overlay::Sprite(Arc::new(sprite), (x, y)))
}

/// Text on a dark, translucent, round plate of at most `room` pixels; with a stroke of the accent
/// before it or without.
fn plate(text: &mut Typesetter, words: &str, size: f32, room: usize, stroke: bool) -> Option<Sprite> {
    let (height, pad) = (pixels(size * PLATE_HEIGHT).next_multiple_of(2), pixels(size * 0.62));
    let before = if stroke { pixels(size * 0.62) } else { 0 };
    let mask = text.line(words, letters(size), room.checked_sub(2 * pad + before + 2)?);
    if mask.is_empty() {
        return None;
    }
    let width = (mask.width + before + 2 * pad).next_multiple_of(2);
    if width > room {
        return None;
    }
    let mut sheet = Sheet::new(width, height);
    let radius = float(height) * 0.3;
    let whole = Round { x: 0.0, y: 0.0, width: float(width), height: float(height), radius };
    sheet.round(whole, PLATE, PLATE_OPACITY);
    if stroke {
        let bar = size * 0.2;
        let y = float(height) * 0.26;
        let bar = Round { x: float(pad), y, width: bar, height: float(height) - 2.0 * y, radius: bar / 2.0 };
        sheet.round(bar, ACCENT, 1.0);
    }
    // Capitals stand in the middle, whatever the letters of this name are.
    let baseline = pixels((float(height) + size * CAPITAL) / 2.0);
    sheet.mask(&mask.cover, mask.width, (signed(pad + before), signed(baseline) - mask.baseline), TEXT);
    sheet.sprite()
}

/// A tile's frame: a line of canvas around it, round corners, and a band of the accent when its
/// party speaks. It is drawn over the edge of the picture, so that the picture itself can have the
/// size that scales best.
pub fn frame(tile: Area, speaks: bool) -> Vec<Overlay> {
    let gutter = pixels(measure(GUTTER, tile.height)).next_multiple_of(2);
    let band = if speaks { pixels(measure(BAND, tile.height)).next_multiple_of(2) } else { 0 };
    let radius = measure(CORNER, tile.height);
    let corner = (gutter + band + pixels(radius)).next_multiple_of(2);
    let mut overlays = Vec::new();
    if tile.width < 2 * corner || tile.height < 2 * corner {
        return overlays;
    }
    let (right, bottom) = (tile.x + tile.width, tile.y + tile.height);
    let (across, upright) = (tile.width - 2 * corner, tile.height - 2 * corner);
    for (from, thick, colour) in [(0, gutter, CANVAS.yuv()), (gutter, band, ACCENT.yuv())] {
        let strips = [
            Area { x: tile.x + corner, y: tile.y + from, width: across, height: thick },
            Area { x: tile.x + corner, y: bottom - from - thick, width: across, height: thick },
            Area { x: tile.x + from, y: tile.y + corner, width: thick, height: upright },
            Area { x: right - from - thick, y: tile.y + corner, width: thick, height: upright },
        ];
        let strips = strips.into_iter().filter(|it| it.width > 0 && it.height > 0);
        overlays.extend(strips.map(|area| Overlay::Fill(area, colour)));
    }
    // All four from one shape as large as the tile, seen from its corners.
    let inset = |by: usize, radius: f32| Round {
        x: float(by),
        y: float(by),
        width: float(tile.width - 2 * by),
        height: float(tile.height - 2 * by),
        radius,
    };
    let outer = inset(gutter, radius);
    let inner = inset(gutter + band, (radius - float(band)).max(0.0));
    for (x, y) in [
        (0, 0),
        (tile.width - corner, 0),
        (0, tile.height - corner),
        (tile.width - corner, tile.height - corner),
    ] {
        let mut sheet = Sheet::new(corner, corner);
        if speaks {
            sheet.shape(ACCENT, 1.0, |column, line| 1.0 - inner.cover(x + column, y + line));
        }
        sheet.shape(CANVAS, 1.0, |column, line| 1.0 - outer.cover(x + column, y + line));
        let at = (tile.x + x, tile.y + y);
        overlays.extend(sheet.sprite().map(|sprite| Overlay::Sprite(Arc::new(sprite), at)));
    }
    overlays
}

/// Stands in for somebody without a picture: the initials on a disc of the person's colour, or the
/// outline of a person where a name has none that could be drawn. `None` when a side is below two.
/// Only the disc is drawn: each tile of a scene has an avatar ready.
pub fn avatar(text: &mut Typesetter, name: &str, width: usize, height: usize) -> Option<VideoFrame> {
    let (width, height) = (width & !1, height & !1);
    let disc = (float(width.min(height)) * 0.46).round();
    let side = pixels(disc * 1.1 + 4.0).next_multiple_of(2);
    let left = (width.saturating_sub(side) / 2) & !1;
    let top = (height.saturating_sub(side) / 2) & !1;
    let mut sheet = Sheet::new(side.min(width), side.min(height));
    let (middle, centre) = (float(width) / 2.0 - float(left), float(height) / 2.0 - float(top));
    let around = |radius: f32, y: f32| Round {
        x: middle - radius,
        y: y - radius,
        width: 2.0 * radius,
        height: 2.0 * radius,
        radius,
    };
    let whole = around(disc / 2.0, centre);
    let name = text.tidy(name);
    sheet.round(whole, Rgb::of_person(&name), 1.0);
    let mask = text.line(&initials(&name), letters(disc * 0.4), width);
    if mask.is_empty() {
        let shoulders = Round {
            x: middle - disc * 0.27,
            y: centre + disc * 0.1,
            width: disc * 0.54,
            height: disc,
            radius: disc * 0.24,
        };
        sheet.round(around(disc * 0.155, centre - disc * 0.1), TEXT, 0.92);
        sheet.shape(TEXT, 0.92, |column, line| shoulders.cover(column, line).min(whole.cover(column, line)));
    } else {
        let x = (signed(width) - signed(mask.width)) / 2 - signed(left);
        let y = (signed(2 * pixels(centre)) - signed(mask.height)) / 2;
        sheet.mask(&mask.cover, mask.width, (x, y), TEXT);
    }
    let sprite = sheet.sprite()?;
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    VideoFrame::new(&pool, width, height, |mut planes| {
        fill(&mut planes, GROUND.yuv());
        sprite.blend(&mut planes, Area::whole(width, height), (left, top));
    })
}

/// A whole picture that says one thing, and perhaps another below it: "Waiting for the host". `None`
/// when a side is below two.
pub fn slate(
    text: &mut Typesetter,
    title: &str,
    below: Option<&str>,
    width: usize,
    height: usize,
) -> Option<VideoFrame> {
    let mut sheet = Sheet::new(width, height);
    sheet.fill(CANVAS);
    let unit = float(width.min(height * 16 / 9)) / 16.0 * 9.0;
    let centre = float(height) / 2.0;
    // Three dots: something is going to happen.
    let dot = (unit * 0.011).max(2.0);
    for (n, opacity) in [(-1.0, 1.0), (0.0, 0.6), (1.0, 0.3)] {
        let x = float(width) / 2.0 + n * dot * 3.2;
        let y = centre - unit * 0.105;
        sheet.round(
            Round { x: x - dot, y: y - dot, width: 2.0 * dot, height: 2.0 * dot, radius: dot },
            ACCENT,
            opacity,
        );
    }
    let room = pixels(float(width) * 0.86);
    let size = (unit * 0.06).max(12.0);
    let mask = text.line(title, letters(size), room);
    on_line(&mut sheet, &mask, centre + size * 0.2, TEXT);
    if let Some(below) = below {
        let mask = text.line(below, letters((unit * 0.032).max(10.0)), room);
        on_line(&mut sheet, &mask, centre + unit * 0.078, QUIET);
    }
    sheet.picture()
}

/// Ink in the middle of the sheet's width, standing on a base line.
fn on_line(sheet: &mut Sheet, mask: &Mask, baseline: f32, colour: Rgb) {
    let x = (signed(sheet.width()) - signed(mask.width)) / 2;
    sheet.mask(&mask.cover, mask.width, (x, signed(pixels(baseline)) - mask.baseline), colour);
}

/// A size of letters.
fn letters(size: f32) -> u16 {
    u16::try_from(pixels(size)).unwrap_or(u16::MAX)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place on a picture")]
fn pixels(value: f32) -> usize {
    value.round().max(0.0) as usize
}

fn signed(value: usize) -> isize {
    isize::try_from(value).unwrap_or(isize::MAX)
}
