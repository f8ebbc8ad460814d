//! What a conference looks like at this moment, as a [`Scene`] to compose: the layout's geometry and
//! the pieces that are drawn. Made where the conference is planned, never in the tick.

use crosspoint_codecs::compose::{Content, Live, Overlay, Scene, Tile};
use crosspoint_codecs::draw::palette::{CANVAS, GROUND};
use crosspoint_codecs::draw::pieces;
use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::frame::VideoFrame;
use crosspoint_codecs::kernels::fill::Area;
use crosspoint_codecs::still;

use super::layout::{Canvas, Fit, Layout, Tile as Place};

/// Somebody to be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Party {
    /// What it calls itself.
    pub name: String,
    /// What is shown when no font has a letter of the name: its alias.
    pub alias: String,
    /// The number of its pictures' source and their size in pixels; an avatar stands in for it until
    /// the first one comes and while it has stalled. `None`: sound alone, so that the avatar is all.
    pub source: Option<(usize, (usize, usize))>,
    /// It is the one who speaks.
    pub speaks: bool,
}

/// What everybody sees besides the parties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Names are shown.
    pub names: bool,
    /// The speaker has a band around it.
    pub marks_speaker: bool,
    /// The host's message.
    pub banner: Option<String>,
}

impl Default for Look {
    fn default() -> Self {
        Self { names: true, marks_speaker: true, banner: None }
    }
}

/// What is shown when nobody is there to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slate {
    /// The host has not come yet.
    WaitingForHost,
    /// A call is being set up.
    Connecting,
    /// The viewer is the only one.
    Alone,
}

impl Slate {
    /// What it says, and below that.
    pub const fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::WaitingForHost => {
                ("Waiting for the conference host", Some("You will join when the host is here"))
            }
            Self::Connecting => ("Connecting", None),
            Self::Alone => ("Nobody else is here yet", Some("Others will appear when they join")),
        }
    }

    /// The whole picture.
    pub fn picture(self, text: &mut Typesetter, canvas: Canvas) -> Option<VideoFrame> {
        let (title, below) = self.words();
        pieces::slate(text, title, below, canvas.width(), canvas.height())
    }
}

/// Slides that somebody shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slides {
    /// The pictures of a source.
    Live {
        /// Its number.
        source: usize,
        /// Size of its pictures in pixels.
        size: (usize, usize),
    },
    /// One picture, until there is another scene.
    Still(VideoFrame),
}

impl Slides {
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Live { size, .. } => *size,
            Self::Still(picture) => (picture.width(), picture.height()),
        }
    }

    fn tile(self, area: Area, fit: Fit) -> Option<Tile> {
        let Fit { crop, inside, .. } = fit;
        match self {
            Self::Live { source, size } => {
                let live = Live { source, size, crop, inside, ground: CANVAS.yuv(), stand_in: None };
                Some(Tile { area, content: Content::Live(live), overlays: Vec::new() })
            }
            // What is beside it is canvas.
            Self::Still(picture) => {
                let picture = still::scaled(&picture, (inside.width, inside.height)).ok()?;
                Some(Tile { area: inside, content: Content::Still(picture), overlays: Vec::new() })
            }
        }
    }
}

/// The scene of `parties`, by slot, in a layout. Those beyond its capacity are not seen; without any
/// it is the slate [`Slate::Alone`].
pub fn scene(layout: Layout, canvas: Canvas, parties: &[Party], look: &Look, text: &mut Typesetter) -> Scene {
    let mut tiles = tiles(&layout.tiles(canvas, &sizes(parties)), parties, look, text);
    if tiles.is_empty()
        && let Some(picture) = Slate::Alone.picture(text, canvas)
    {
        let area = Area::whole(canvas.width(), canvas.height());
        tiles.push(Tile { area, content: Content::Still(picture), overlays: Vec::new() });
    }
    on_canvas(canvas, tiles, look, text)
}

/// The scene of slides with `parties`, by slot, beside and below them
/// ([`Layout::tiles_with_slides`]): for whoever has one stream of pictures for both. Nothing is drawn
/// over slides but the banner, and their last picture stays for as long as they are shown.
pub fn scene_with_slides(
    layout: Layout,
    canvas: Canvas,
    slides: Slides,
    parties: &[Party],
    look: &Look,
    text: &mut Typesetter,
) -> Scene {
    let places = layout.tiles_with_slides(canvas, slides.size(), &sizes(parties));
    let Some((main, others)) = places.split_first() else {
        return scene(layout, canvas, parties, look, text);
    };
    let mut all = Vec::new();
    all.extend(main.fit.and_then(|fit| slides.tile(main.area, fit)));
    all.extend(tiles(others, parties, look, text));
    on_canvas(canvas, all, look, text)
}

fn sizes(parties: &[Party]) -> Vec<Option<(usize, usize)>> {
    parties.iter().map(|it| it.source.map(|(_, size)| size)).collect()
}

/// Each of `parties` in its place.
fn tiles(places: &[Place], parties: &[Party], look: &Look, text: &mut Typesetter) -> Vec<Tile> {
    let tile = |(place, party): (&Place, &Party)| {
        let area = place.area;
        let name = shown_name(party, text);
        let avatar = pieces::avatar(text, name, area.width, area.height);
        let ground = GROUND.yuv();
        let content = match (place.fit.zip(party.source), avatar) {
            (Some((fit, (source, size))), stand_in) => {
                Content::Live(Live { source, size, crop: fit.crop, inside: fit.inside, ground, stand_in })
            }
            (None, Some(avatar)) => Content::Still(avatar),
            (None, None) => Content::Plain(ground),
        };
        // One party alone fills the canvas: nothing to be parted from, nobody to be told from.
        let alone = places.len() == 1 && place.slot == 0;
        let mut overlays =
            if alone { Vec::new() } else { pieces::frame(area, party.speaks && look.marks_speaker) };
        if look.names {
            overlays.extend(pieces::caption(text, name, area));
        }
        Tile { area, content, overlays }
    };
    places.iter().zip(parties).map(tile).collect()
}

fn on_canvas(canvas: Canvas, tiles: Vec<Tile>, look: &Look, text: &mut Typesetter) -> Scene {
    let (width, height) = (canvas.width(), canvas.height());
    let banner = look.banner.as_deref().and_then(|words| pieces::banner(text, words, width, height));
    let overlays: Vec<Overlay> = banner.into_iter().collect();
    Scene { width, height, background: CANVAS.yuv(), tiles, overlays }
}

/// The name, or the alias where nothing of the name can be drawn.
fn shown_name<'a>(party: &'a Party, text: &mut Typesetter) -> &'a str {
    if text.tidy(&party.name).is_empty() { &party.alias } else { &party.name }
}
