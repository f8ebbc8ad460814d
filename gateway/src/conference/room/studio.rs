//! The media of a room: who is in the mix, who hears what, and which pictures are composed for whom.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::kernels::mix::Gain;

use super::attendee::{Attendee, Numbers, Stage};
use super::pictures::{Drawn, Pictures};
use super::sight::{Artist, Sight};
use crate::conference::engaged::Engaged;
use crate::conference::policy::PartyId;
use crate::leg::LegStream;
use crate::media::port::{Feed, StreamId};
use crate::media::{BusConfig, BusId, EngineError, EngineHandle, Playback, Route, Timeline};

/// Taken for the size of pictures that have not come yet.
const USUAL: (usize, usize) = (1_280, 720);

/// The media of one room.
pub(super) struct Studio {
    engine: EngineHandle,
    bus: BusId,
    bus_stands: bool,
    talkers: Option<usize>,
    engaged: HashMap<StreamId, Engaged>,
    timelines: HashMap<PartyId, Timeline>,
    /// Who is in the mix, and how loud.
    mixed: HashMap<StreamId, Gain>,
    pictures: Pictures,
}

impl Studio {
    pub(super) fn new(
        engine: EngineHandle,
        talkers: Option<usize>,
        numbers: Numbers,
        artist: Arc<dyn Artist>,
    ) -> Self {
        let bus = BusId(numbers.fetch_add(1, Ordering::Relaxed));
        Self {
            pictures: Pictures::new(engine.clone(), numbers, artist),
            engine,
            bus,
            bus_stands: false,
            talkers,
            engaged: HashMap::new(),
            timelines: HashMap::new(),
            mixed: HashMap::new(),
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

    /// Has each receiver see what is `wanted` for him, once it is drawn.
    pub(super) fn want(&mut self, wanted: Vec<(StreamId, Sight)>) {
        self.pictures.want(wanted);
        self.route_pictures();
    }

    /// What is being drawn, once it is; never while nothing is. Nothing is lost when this is dropped.
    pub(super) async fn drawn(&mut self) -> Drawn {
        self.pictures.drawn().await
    }

    /// That is seen from now on.
    pub(super) fn hang(&mut self, drawn: Drawn) {
        self.pictures.hang(drawn);
        self.route_pictures();
    }

    fn route_pictures(&self) {
        for (sink, view) in self.pictures.routes().filter(|(sink, _)| self.engaged.contains_key(sink)) {
            if let Err(fault) = self.engine.route(sink, Route::Compose { view }) {
                tracing::warn!(stream = sink.0, %fault, "a picture is not as it should be");
            }
        }
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        for id in self.engaged.keys().copied().collect::<Vec<_>>() {
            self.disengage_stream(id);
        }
        if self.bus_stands {
            let _ = self.engine.remove_bus(self.bus);
        }
    }
}
