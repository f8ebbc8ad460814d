//! The media of a room: who is in the mix, who hears what, and which pictures are composed for whom.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use crosspoint_codecs::compose::{Content, Scene, Tile};
use crosspoint_codecs::draw::palette::CANVAS;
use crosspoint_codecs::draw::pieces;
use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::kernels::fill::Area;
use crosspoint_codecs::kernels::mix::Gain;

use super::attendee::{Attendee, Numbers, Stage};
use super::slides::Still;
use crate::conference::engaged::Engaged;
use crate::conference::layout::{Canvas, Layout};
use crate::conference::policy::PartyId;
use crate::conference::scene::{Look, Party, Slides, scene, scene_with_slides};
use crate::leg::{LegId, LegStream};
use crate::media::port::{Feed, StreamId};
use crate::media::{BusConfig, BusId, EngineError, EngineHandle, Playback, Route, Timeline, ViewId};

/// What is composed: each receiver gets it as large as it takes.
pub(super) const CANVAS_SIZE: Canvas = Canvas::HD;
/// Taken for the size of pictures that have not come yet.
const USUAL: (usize, usize) = (1_280, 720);

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
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sight {
    Slate(Slate),
    Picture(Arc<Composition>),
}

/// A composed picture: all that it depends on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Composition {
    pub(super) layout: Layout,
    pub(super) parties: Vec<Party>,
    pub(super) sources: Vec<StreamId>,
    pub(super) look: Look,
    /// In the largest place.
    pub(super) slides: Option<Still>,
}

/// The media of one room.
pub(super) struct Studio {
    engine: EngineHandle,
    bus: BusId,
    bus_stands: bool,
    talkers: Option<usize>,
    numbers: Numbers,
    text: Arc<Mutex<Typesetter>>,
    engaged: HashMap<StreamId, Engaged>,
    timelines: HashMap<PartyId, Timeline>,
    /// Who is in the mix, and how loud.
    mixed: HashMap<StreamId, Gain>,
    views: Vec<(ViewId, Sight)>,
}

impl Studio {
    pub(super) fn new(
        engine: EngineHandle,
        talkers: Option<usize>,
        numbers: Numbers,
        text: Arc<Mutex<Typesetter>>,
    ) -> Self {
        let bus = BusId(numbers.fetch_add(1, Ordering::Relaxed));
        Self {
            engine,
            bus,
            bus_stands: false,
            talkers,
            numbers,
            text,
            engaged: HashMap::new(),
            timelines: HashMap::new(),
            mixed: HashMap::new(),
            views: Vec::new(),
        }
    }

    /// Who makes a sound: the stream, and how many milliseconds ago it was heard last.
    pub(super) fn heard(&self) -> Vec<(StreamId, u128)> {
        let all = self.engine.bus_activity(self.bus);
        all.into_iter().filter_map(|(id, it)| Some((id, it.last_sound?.as_millis()))).collect()
    }

    /// Size of the last picture of a source.
    pub(super) fn size(&self, source: StreamId) -> (usize, usize) {
        let stats = self.engine.stats(source).source.unwrap_or_default();
        let side = |side: u32| usize::try_from(side).unwrap_or(0);
        if stats.width == 0 { USUAL } else { (side(stats.width), side(stats.height)) }
    }

    /// Brings the engine into line with the streams of `attendee`.
    pub(super) fn engage(&mut self, attendee: &Attendee) {
        for stream in &attendee.streams {
            if let Err(fault) = self.engage_stream(attendee.id, stream) {
                let id = stream.port.id();
                tracing::error!(stream = id.0, fault, "a stream cannot take part");
            }
        }
    }

    fn engage_stream(&mut self, party: PartyId, stream: &LegStream) -> Result<(), String> {
        let id = stream.port.id();
        if self.engaged.get(&id).is_some_and(|engaged| engaged.is_still(stream)) {
            return Ok(());
        }
        self.disengage_stream(id);
        let direction = stream.agreed.direction;
        if direction.receives() || direction.sends() {
            let timeline = self.timelines.entry(party).or_default();
            self.engaged.insert(id, Engaged::new(&self.engine, timeline, stream)?);
        }
        let feed = if direction.sends() { Feed::Engine } else { Feed::Silence };
        stream.port.feed(feed).map_err(|fault| fault.to_string())
    }

    fn disengage_stream(&mut self, id: StreamId) {
        if let Some(engaged) = self.engaged.remove(&id) {
            self.mixed.remove(&id);
            engaged.end(&self.engine);
        }
    }

    /// Lets go of streams that are gone.
    pub(super) fn disengage(&mut self, streams: &[LegStream]) {
        for stream in streams {
            self.disengage_stream(stream.port.id());
        }
    }

    /// Takes `attendee` out of everything.
    pub(super) fn release(&mut self, attendee: &Attendee) {
        for stream in &attendee.streams {
            self.disengage_stream(stream.port.id());
        }
        self.timelines.remove(&attendee.id);
    }

    /// Puts the sound of `attendee` into the mix at `gain`, or takes it out; and has him hear what
    /// he is to hear.
    pub(super) fn sound(&mut self, attendee: &Attendee, gain: Option<Gain>) {
        if let Err(fault) = self.try_sound(attendee, gain) {
            tracing::warn!(leg = attendee.leg.0, %fault, "sound is not as it should be");
        }
    }

    fn try_sound(&mut self, attendee: &Attendee, gain: Option<Gain>) -> Result<(), EngineError> {
        if !self.bus_stands && gain.is_some() {
            let talkers = self.talkers.unwrap_or(usize::MAX);
            self.engine.add_bus(self.bus, &BusConfig { talkers, ..BusConfig::default() })?;
            self.bus_stands = true;
        }
        if let Some(source) = attendee.source(MediaKind::Audio).filter(|id| self.engaged.contains_key(id)) {
            match (gain, self.mixed.get(&source)) {
                (Some(gain), None) => {
                    self.engine.join(self.bus, source, gain)?;
                    self.mixed.insert(source, gain);
                }
                (Some(gain), Some(standing)) if *standing != gain => {
                    self.engine.set_gain(self.bus, source, gain)?;
                    self.mixed.insert(source, gain);
                }
                (None, Some(_)) => {
                    self.engine.leave(self.bus, source)?;
                    self.mixed.remove(&source);
                }
                _ => {}
            }
        }
        let Some(sink) = attendee.sink(MediaKind::Audio).filter(|id| self.engaged.contains_key(id)) else {
            return Ok(());
        };
        let route = match (&attendee.saying, &attendee.stage) {
            (Some((prompt, _)), _) => {
                Route::Play(Playback::Clip { clip: prompt.clip(), turn: attendee.turn })
            }
            (None, Stage::In) if self.bus_stands => Route::Mix { bus: self.bus },
            // Sound goes on, so that no phone takes the call for dead.
            (None, _) => Route::Play(Playback::Silence),
        };
        self.engine.route(sink, route)
    }

    /// Has `attendee` see himself, and hear himself unless he is muted.
    pub(super) fn echo(&self, attendee: &Attendee, muted: bool) {
        for kind in [MediaKind::Audio, MediaKind::Main] {
            let (Some(source), Some(sink)) = (attendee.source(kind), attendee.sink(kind)) else { continue };
            let route = match &attendee.saying {
                Some((prompt, _)) if kind == MediaKind::Audio => {
                    Route::Play(Playback::Clip { clip: prompt.clip(), turn: attendee.turn })
                }
                _ if muted && kind == MediaKind::Audio => Route::Play(Playback::Silence),
                _ => Route::Transcode { source },
            };
            if let Err(fault) = self.engine.route(sink, route) {
                tracing::warn!(stream = sink.0, %fault, "an echo is not as it should be");
            }
        }
    }

    /// Has each of `seers` see what he is to see; pictures that nobody sees any more are let go of.
    pub(super) fn pictures(&mut self, seers: &[(StreamId, Sight)]) {
        for (sink, sight) in seers {
            if !self.engaged.contains_key(sink) {
                continue;
            }
            let view = self.view(sight, seers);
            if let Err(fault) = view.and_then(|view| self.engine.route(*sink, Route::Compose { view })) {
                tracing::warn!(stream = sink.0, %fault, "a picture is not as it should be");
            }
        }
        let unused = |sight: &Sight| seers.iter().all(|(_, seen)| seen != sight);
        let (gone, stay) = std::mem::take(&mut self.views).into_iter().partition(|(_, sight)| unused(sight));
        self.views = stay;
        for (view, _) in gone {
            let _ = self.engine.remove_view(view);
        }
    }

    /// The view that shows `sight`: one that does already, else one that nobody wants any more and
    /// that goes over to it without a new encoder, else a new one.
    fn view(&mut self, sight: &Sight, seers: &[(StreamId, Sight)]) -> Result<ViewId, EngineError> {
        if let Some((view, _)) = self.views.iter().find(|(_, shown)| shown == sight) {
            return Ok(*view);
        }
        let free = self.views.iter().position(|(_, shown)| {
            std::mem::discriminant(shown) == std::mem::discriminant(sight)
                && matches!(shown, Sight::Picture(_))
                && seers.iter().all(|(_, seen)| seen != shown)
        });
        let view = match free {
            Some(at) => self.views.swap_remove(at).0,
            None => ViewId(self.numbers.fetch_add(1, Ordering::Relaxed)),
        };
        let (scene, sources) = self.staged(sight);
        self.engine.show(view, scene, sources)?;
        self.views.push((view, sight.clone()));
        Ok(view)
    }

    fn staged<'a>(&self, sight: &'a Sight) -> (Scene, &'a [StreamId]) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let (width, height) = (CANVAS_SIZE.width(), CANVAS_SIZE.height());
        match sight {
            Sight::Slate(slate) => {
                let (title, below) = slate.words();
                let area = Area::whole(width, height);
                let picture = pieces::slate(&mut text, title, below, width, height);
                let tile = |picture| Tile { area, content: Content::Still(picture), overlays: Vec::new() };
                let tiles = picture.map(tile).into_iter().collect();
                let background = CANVAS.yuv();
                (Scene { width, height, background, tiles, overlays: Vec::new() }, &[])
            }
            Sight::Picture(it) => {
                let Composition { layout, parties, sources, look, slides } = &**it;
                let scene = match slides {
                    Some(still) => {
                        let slides = Slides::Still(still.picture.clone());
                        scene_with_slides(*layout, CANVAS_SIZE, slides, parties, look, &mut text)
                    }
                    None => scene(*layout, CANVAS_SIZE, parties, look, &mut text),
                };
                (scene, &sources[..])
            }
        }
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        for id in self.engaged.keys().copied().collect::<Vec<_>>() {
            self.disengage_stream(id);
        }
        for (view, _) in self.views.drain(..) {
            let _ = self.engine.remove_view(view);
        }
        if self.bus_stands {
            let _ = self.engine.remove_bus(self.bus);
        }
    }
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
