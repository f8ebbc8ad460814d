//! One line of text to a mask: shaped, cut to its room, rasterised once and kept.
//!
//! Shaping (Arabic joins, both directions in one line) and rasterising are cosmic-text's. Fonts come
//! as bytes: two are built in (`codecs/fonts`), more can be added; the system is never searched.
//! All of this takes a fraction of a millisecond and allocates: it belongs where a picture is
//! planned, never into the tick.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cosmic_text::fontdb::{Database, Source};
use cosmic_text::{
    Attrs, Buffer, Ellipsize, EllipsizeHeightLimit, Family, FontSystem, Metrics, Shaping, SwashCache,
    SwashContent, Weight, Wrap, fontdb,
};

#[cfg(test)]
mod tests;
mod tidy;

pub use tidy::MAX_CHARS;

/// Built in: Latin, Greek and Cyrillic; Arabic.
const BUILT_IN: [&[u8]; 2] = [
    include_bytes!("../../fonts/NotoSans-Medium.ttf"),
    include_bytes!("../../fonts/NotoSansArabic-Medium.ttf"),
];
const FAMILY: &str = "Noto Sans Medium";
const WEIGHT: Weight = Weight::MEDIUM;

/// Masks that are kept: the names of a few full conferences in the sizes of a few layouts, some
/// 4 KiB each. The one that was not used for longest goes.
pub const MAX_MASKS: usize = 512;

/// Font files besides the built-in ones: one for each script of which there is no subset is enough.
pub const MAX_FONTS: usize = 16;

/// Letters of a size beyond this are not asked for by any picture of at most 4096 pixels.
const MAX_SIZE: u16 = 400;

/// Height of a capital letter, as a part of the size of the built-in font.
pub const CAPITAL: f32 = 0.714;

/// The cover of one line of text, 0 to 255 a pixel, cut to what is inked.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    /// Width in pixels; zero where there is nothing to see.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Lines from the top of the mask down to the base line; more than `height` or below zero where
    /// the ink does not touch it.
    pub baseline: isize,
    /// `width * height` octets, line by line.
    pub cover: Box<[u8]>,
}

/// What the masks' store did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextCounts {
    /// Lines that were there already.
    pub found: u64,
    /// Lines that were drawn.
    pub drawn: u64,
    /// Lines that made room for another.
    pub dropped: u64,
}

/// A file that holds no font, or one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FontError {
    /// Not TrueType, OpenType or a collection of them.
    #[error("this is no TrueType or OpenType font")]
    NoFont,
    /// More than [`MAX_FONTS`].
    #[error("there are {MAX_FONTS} fonts already")]
    TooMany,
}

/// Sets lines of text and keeps their masks.
pub struct Typesetter {
    system: FontSystem,
    raster: SwashCache,
    masks: HashMap<Line, Kept>,
    added: usize,
    uses: u64,
    counts: TextCounts,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Line {
    text: String,
    size: u16,
    room: usize,
}

struct Kept {
    mask: Arc<Mask>,
    used: u64,
}

impl Typesetter {
    /// With the built-in fonts.
    pub fn new() -> Self {
        let mut fonts = Database::new();
        for font in BUILT_IN {
            fonts.load_font_source(Source::Binary(Arc::new(font)));
        }
        Self {
            system: FontSystem::new_with_locale_and_db("en".into(), fonts),
            raster: SwashCache::new(),
            masks: HashMap::new(),
            added: 0,
            uses: 0,
            counts: TextCounts::default(),
        }
    }

    /// Adds a font for what the others lack: the bytes of a file.
    pub fn add_font(&mut self, bytes: Vec<u8>) -> Result<(), FontError> {
        if self.added >= MAX_FONTS {
            return Err(FontError::TooMany);
        }
        let ids = self.system.db_mut().load_font_source(Source::Binary(Arc::new(bytes)));
        if ids.is_empty() {
            return Err(FontError::NoFont);
        }
        self.added += 1;
        self.masks.clear();
        Ok(())
    }

    /// What the store of masks did so far.
    pub const fn counts(&self) -> TextCounts {
        self.counts
    }

    /// The mask of `text` in letters of `size` pixels, at most `room` pixels wide: what does not fit
    /// gives way to an ellipsis. The text is tidied first ([`Self::tidy`]).
    pub fn line(&mut self, text: &str, size: u16, room: usize) -> Arc<Mask> {
        let line = Line { text: self.tidy(text), size: size.clamp(1, MAX_SIZE), room };
        self.uses += 1;
        if let Some(kept) = self.masks.get_mut(&line) {
            kept.used = self.uses;
            self.counts.found += 1;
            return kept.mask.clone();
        }
        let mask = Arc::new(self.draw(&line));
        self.counts.drawn += 1;
        if self.masks.len() >= MAX_MASKS
            && let Some(oldest) = self.masks.iter().min_by_key(|(_, kept)| kept.used)
        {
            let oldest = oldest.0.clone();
            self.masks.remove(&oldest);
            self.counts.dropped += 1;
        }
        self.masks.insert(line, Kept { mask: mask.clone(), used: self.uses });
        mask
    }

    /// The text as it will be drawn: white space as single spaces; without control characters,
    /// without marks that change the direction or pile up, and without anything that no font has
    /// (no boxes in its place); at most [`MAX_CHARS`]. Empty when nothing is left.
    pub fn tidy(&mut self, text: &str) -> String {
        tidy::tidy(text, |letter| self.has(letter))
    }

    fn has(&mut self, letter: char) -> bool {
        let ids: Vec<fontdb::ID> = self.system.db().faces().map(|face| face.id).collect();
        let font = ids.into_iter().filter_map(|id| self.system.get_font(id, WEIGHT));
        let mut fonts = font.map(|font| font.as_swash().charmap().map(letter));
        fonts.any(|glyph| glyph != 0)
    }

    fn draw(&mut self, line: &Line) -> Mask {
        let size = f32::from(line.size);
        let mut buffer = Buffer::new(&mut self.system, Metrics::new(size, size * 1.4));
        buffer.set_wrap(Wrap::None);
        buffer.set_ellipsize(Ellipsize::End(EllipsizeHeightLimit::Lines(1)));
        buffer.set_size(Some(float(line.room)), None);
        let attributes = Attrs::new().family(Family::Name(FAMILY)).weight(WEIGHT);
        buffer.set_text(&line.text, &attributes, Shaping::Advanced, None);
        buffer.shape_until_scroll(&mut self.system, false);
        let mut glyphs = Vec::new();
        for glyph in buffer.layout_runs().take(1).flat_map(|run| run.glyphs) {
            let placed = glyph.physical((0.0, 0.0), 1.0);
            let image = self.raster.get_image_uncached(&mut self.system, placed.cache_key);
            let Some(image) = image.filter(|it| it.content == SwashContent::Mask) else { continue };
            let left = whole(placed.x.saturating_add(image.placement.left));
            let top = whole(placed.y.saturating_sub(image.placement.top));
            let (width, height) = (size_of(image.placement.width), size_of(image.placement.height));
            if width > 0 && height > 0 {
                glyphs.push(Glyph { left, top, width, height, cover: image.data });
            }
        }
        Mask::of(&glyphs, line.room)
    }
}

impl Default for Typesetter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Typesetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Typesetter({} masks, {:?})", self.masks.len(), self.counts)
    }
}

/// One glyph's ink; the base line is line 0.
struct Glyph {
    left: isize,
    top: isize,
    width: usize,
    height: usize,
    cover: Vec<u8>,
}

impl Mask {
    fn of(glyphs: &[Glyph], room: usize) -> Self {
        let left = glyphs.iter().map(|it| it.left).min().unwrap_or(0);
        let top = glyphs.iter().map(|it| it.top).min().unwrap_or(0);
        let right = glyphs.iter().map(|it| it.left.saturating_add_unsigned(it.width)).max().unwrap_or(0);
        let bottom = glyphs.iter().map(|it| it.top.saturating_add_unsigned(it.height)).max().unwrap_or(0);
        // Ink may leave its room by the slant of a letter, not by more.
        let width = right.abs_diff(left).min(room.saturating_add(usize::from(MAX_SIZE)));
        let height = bottom.abs_diff(top).min(usize::from(MAX_SIZE) * 4);
        let mut cover = vec![0; width * height];
        for glyph in glyphs {
            let (x, y) = (glyph.left.abs_diff(left), glyph.top.abs_diff(top));
            for (row, line) in
                glyph.cover.chunks_exact(glyph.width).zip(cover.chunks_exact_mut(width.max(1)).skip(y))
            {
                for (ink, pixel) in row.iter().zip(line.get_mut(x..).unwrap_or_default()) {
                    *pixel = (*pixel).max(*ink);
                }
            }
        }
        Self { width, height, baseline: -top, cover: cover.into() }
    }

    /// Nothing to see.
    pub const fn is_empty(&self) -> bool {
        self.width == 0
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({}x{}, base line {})", self.width, self.height, self.baseline)
    }
}

fn whole(value: i32) -> isize {
    isize::try_from(value).unwrap_or(0)
}

/// A glyph's side: of a size that was asked for, so small.
fn size_of(side: u32) -> usize {
    usize::try_from(side).unwrap_or(0)
}

#[allow(clippy::cast_precision_loss, reason = "pixels of a picture")]
const fn float(value: usize) -> f32 {
    value as f32
}
