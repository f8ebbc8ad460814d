//! Makes a plan true: compares it with what stands and tells ports and engine the difference.

use std::collections::HashMap;

use crosspoint_codecs::format::MediaKind;

use super::engaged::Engaged;
use super::plan::{Member, Planned, Route, plan};
use crate::leg::{LegId, LegStream};
use crate::media::port::{Feed, StreamId};
use crate::media::{EngineHandle, Timeline, route};

/// The media of one call.
#[derive(Debug)]
pub struct Graph {
    engine: EngineHandle,
    standing: Vec<Planned>,
    engaged: HashMap<StreamId, Engaged>,
    timelines: HashMap<LegId, Timeline>,
    history: Vec<(LegId, MediaKind, &'static str)>,
}

impl Graph {
    /// Nothing stands.
    pub fn new(engine: EngineHandle) -> Self {
        Self {
            engine,
            standing: Vec::new(),
            engaged: HashMap::new(),
            timelines: HashMap::new(),
            history: Vec::new(),
        }
    }

    /// Plans for `members` and applies the difference. `streams` are the ports of all of them.
    pub fn apply(&mut self, members: &[Member], streams: &[LegStream]) {
        let mut planned = plan(members);
        let legs: HashMap<StreamId, LegId> = members
            .iter()
            .flat_map(|member| member.streams.iter().map(|stream| (stream.id, member.leg)))
            .collect();
        // Streams that are gone, or that the engine has nothing more to do with.
        let wanted: Vec<StreamId> = streams
            .iter()
            .map(|stream| stream.port.id())
            .filter(|id| planned.iter().any(|line| needs_engine(line, *id)))
            .collect();
        for (_, gone) in self.engaged.extract_if(|id, _| !wanted.contains(id)) {
            gone.end(&self.engine);
        }
        for stream in streams.iter().filter(|stream| wanted.contains(&stream.port.id())) {
            let leg = legs.get(&stream.port.id()).copied().unwrap_or(LegId(0));
            if let Err(fault) = self.engage(leg, stream) {
                let id = stream.port.id();
                tracing::error!(stream = id.0, fault, "media cannot be converted");
                for line in planned.iter_mut().filter(|line| needs_engine(line, id)) {
                    line.route = Route::Silence;
                    line.why = format!("it cannot be converted: {fault}");
                }
            }
        }
        for line in &planned {
            let before = self.standing.iter().find(|before| before.sink == line.sink).map(|line| line.route);
            let in_engine = match line.route {
                Route::Transcode { from } => Some(route::Route::Transcode { source: from }),
                Route::Play(playback) => Some(route::Route::Play(playback)),
                Route::Silence | Route::Relay { .. } => None,
            };
            if let Some(route) = in_engine {
                let _ = self.engine.route(line.sink, route);
            }
            if before == Some(line.route) {
                continue;
            }
            let Some(stream) = streams.iter().find(|stream| stream.port.id() == line.sink) else { continue };
            let feed = match line.route {
                Route::Silence => Feed::Silence,
                Route::Relay { from, .. } => Feed::Relay(from),
                Route::Transcode { .. } | Route::Play(_) => Feed::Engine,
            };
            if let Err(fault) = stream.port.feed(feed) {
                tracing::warn!(stream = line.sink.0, %fault, "a route did not take effect");
            }
            // Whoever is new to a picture cannot begin in the middle of it.
            if let Some(source) = line.route.source().filter(|_| line.role.is_video()) {
                let source = streams.iter().find(|stream| stream.port.id() == source);
                let _ = source.map(|source| source.port.request_keyframe());
            }
            let entry = (line.leg, line.role, line.route.word());
            if line.route != Route::Silence && !self.history.contains(&entry) {
                self.history.push(entry);
            }
            tracing::info!(
                leg = line.leg.0,
                stream = line.sink.0,
                kind = %line.role,
                route = line.route.word(),
                why = line.why,
                "route"
            );
        }
        self.standing = planned;
    }

    /// Takes everything out of the engine.
    pub fn clear(&mut self) {
        self.apply(&[], &[]);
    }

    /// Whether that sink is fed by a relay.
    pub fn relays(&self, sink: StreamId) -> bool {
        self.standing.iter().any(|line| line.sink == sink && matches!(line.route, Route::Relay { .. }))
    }

    /// The route of a sink, in a word, and why.
    pub fn route_of(&self, sink: StreamId) -> (&'static str, &str) {
        self.standing
            .iter()
            .find(|line| line.sink == sink)
            .map_or(("silence", "no plan yet"), |line| (line.route.word(), line.why.as_str()))
    }

    /// Every route that a leg ever had, once.
    pub fn history(&self) -> &[(LegId, MediaKind, &'static str)] {
        &self.history
    }

    /// Gives the engine the stream's rings in the formats that are agreed now.
    fn engage(&mut self, leg: LegId, stream: &LegStream) -> Result<(), String> {
        let id = stream.port.id();
        if self.engaged.get(&id).is_some_and(|engaged| engaged.is_still(stream)) {
            return Ok(());
        }
        if let Some(before) = self.engaged.remove(&id) {
            before.end(&self.engine);
        }
        let timeline = self.timelines.entry(leg).or_default();
        self.engaged.insert(id, Engaged::new(&self.engine, timeline, stream)?);
        Ok(())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        for (_, engaged) in self.engaged.drain() {
            engaged.end(&self.engine);
        }
    }
}

/// Whether a line of the plan makes the engine decode or fill `id`.
fn needs_engine(line: &Planned, id: StreamId) -> bool {
    match line.route {
        Route::Transcode { from } => line.sink == id || from == id,
        Route::Play(_) => line.sink == id,
        Route::Silence | Route::Relay { .. } => false,
    }
}
