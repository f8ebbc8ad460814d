//! What somebody sees, as data, and who draws it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crosspoint_codecs::compose::{Content, Scene, Tile};
use crosspoint_codecs::draw::palette::CANVAS;
use crosspoint_codecs::draw::pieces;
use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::kernels::fill::Area;

use super::slides::Still;
use super::studio::Studio;
use crate::conference::fonts;
use crate::conference::layout::{Canvas, Layout};
use crate::conference::scene::{Look, Party, Slides, scene, scene_with_slides};
use crate::leg::LegId;
use crate::media::port::StreamId;

/// What is composed: each receiver gets it as large as it takes.
pub(super) const CANVAS_SIZE: Canvas = Canvas::HD;
/// A picture without people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slate {
    EnterPin,
    EnterPinOrHash,
    WrongPin,
    Waiting,
    Locked,
    Goodbye,
}

impl Slate {
    const fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::EnterPin => ("Please enter your PIN", Some("then press #")),
            Self::EnterPinOrHash => ("Please enter your PIN, then press #", Some("Guests: just press #")),
            Self::WrongPin => ("That PIN is not right", Some("Please try again")),
            Self::Waiting => ("Waiting for the conference host", Some("You will join when the host is here")),
            Self::Locked => ("The conference is locked", Some("You will join when you are let in")),
            Self::Goodbye => ("Goodbye", None),
        }
    }
}

/// What somebody sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Slate(Slate),
    Picture(Arc<Composition>),
}

/// A composed picture: all that it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Composition {
    pub(super) layout: Layout,
    pub(super) parties: Vec<Party>,
    pub(super) sources: Vec<StreamId>,
    pub(super) look: Look,
    /// In the largest place.
    pub(super) slides: Option<Still>,
}

impl Sight {
    /// People are to be seen in it.
    pub(super) const fn is_picture(&self) -> bool {
        matches!(self, Self::Picture(_))
    }

    /// Slides are in it.
    pub(super) fn has_slides(&self) -> bool {
        matches!(self, Self::Picture(it) if it.slides.is_some())
    }

    /// The streams that are in it.
    pub(super) fn sources(&self) -> &[StreamId] {
        match self {
            Self::Slate(_) => &[],
            Self::Picture(it) => &it.sources,
        }
    }
}

/// Draws. Takes long, so that nobody waits for it who has else to do.
pub(super) trait Artist: Send + Sync {
    /// What is to be composed for who sees `sight`.
    fn draw(&self, sight: &Sight) -> Scene;
}

/// The artist of all rooms, who has the fonts.
pub(super) struct Painter {
    fonts: Option<PathBuf>,
    /// Loaded with the first picture: fonts of the machine may take 20 MiB.
    text: OnceLock<Mutex<Typesetter>>,
}

impl Painter {
    /// With a folder of fonts beside those that are built in.
    pub(super) const fn new(fonts: Option<PathBuf>) -> Self {
        Self { fonts, text: OnceLock::new() }
    }
}

impl Artist for Painter {
    fn draw(&self, sight: &Sight) -> Scene {
        let text = self.text.get_or_init(|| Mutex::new(fonts::typesetter(self.fonts.as_deref())));
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        match sight {
            Sight::Slate(slate) => {
                let (title, below) = slate.words();
                let plain = plain();
                let picture = pieces::slate(&mut text, title, below, plain.width, plain.height);
                let area = Area::whole(plain.width, plain.height);
                let tile = |picture| Tile { area, content: Content::Still(picture), overlays: Vec::new() };
                Scene { tiles: picture.map(tile).into_iter().collect(), ..plain }
            }
            Sight::Picture(it) => {
                let Composition { layout, parties, look, slides, .. } = &**it;
                match slides {
                    Some(still) => {
                        let slides = Slides::Still(still.picture.clone());
                        scene_with_slides(*layout, CANVAS_SIZE, slides, parties, look, &mut text)
                    }
                    None => scene(*layout, CANVAS_SIZE, parties, look, &mut text),
                }
            }
        }
    }
}

/// The ground alone.
pub(super) fn plain() -> Scene {
    let (width, height) = (CANVAS_SIZE.width(), CANVAS_SIZE.height());
    Scene { width, height, background: CANVAS.yuv(), tiles: Vec::new(), overlays: Vec::new() }
}

/// Everybody to be seen in a picture, in its order.
pub(super) fn composition(
    studio: &Studio,
    layout: Layout,
    look: Look,
    slides: Option<Still>,
    seated: &[LegId],
    speaker: Option<LegId>,
    find: impl Fn(LegId) -> Option<(String, String, Option<StreamId>)>,
) -> Composition {
    let mut sources = Vec::new();
    let party = |leg: &LegId| {
        let (name, alias, source) = find(*leg)?;
        let source = source.map(|id| {
            sources.push(id);
            (sources.len() - 1, studio.size(id))
        });
        Some(Party { name, alias, source, speaks: speaker == Some(*leg) })
    };
    let parties = seated.iter().filter_map(party).collect();
    Composition { layout, parties, sources, look, slides }
}
