//! Makes a plan true: compares it with what stands and tells ports and engine the difference.

use std::collections::HashMap;

use crosspoint_codecs::format::{MediaFormat, MediaKind};

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

/// A stream that the engine has rings with, and in which formats it knows it.
#[derive(Debug)]
struct Engaged {
    port: LegStream,
    source: Option<MediaFormat>,
    sink: Option<MediaFormat>,
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
        self.engaged.retain(|id, engaged| {
            let stays = wanted.contains(id);
            if !stays {
                let _ = self.engine.remove(*id);
                let _ = engaged.port.port.disengage();
            }
            stays
        });
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
        let agreed = &stream.agreed;
        let source = agreed.direction.receives().then(|| agreed.receive.clone());
        let sink = agreed.direction.sends().then(|| agreed.send.clone());
        if self.engaged.get(&id).is_some_and(|engaged| engaged.source == source && engaged.sink == sink) {
            return Ok(());
        }
        if self.engaged.remove(&id).is_some() {
            let _ = self.engine.remove(id);
        }
        let timeline = self.timelines.entry(leg).or_default().clone();
        let (inlet, outlet) = stream.port.engage().map_err(|fault| fault.to_string())?;
        let added = (|| {
            if let Some(format) = &source {
                self.engine.add_source(id, &timeline, format, inlet)?;
            }
            if let Some(format) = &sink {
                self.engine.add_sink(id, agreed.role, format, outlet)?;
            }
            Ok::<_, crate::media::EngineError>(())
        })();
        if let Err(fault) = added {
            let _ = self.engine.remove(id);
            let _ = stream.port.disengage();
            return Err(fault.to_string());
        }
        self.engaged.insert(id, Engaged { port: stream.clone(), source, sink });
        Ok(())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        for (id, engaged) in self.engaged.drain() {
            let _ = self.engine.remove(id);
            let _ = engaged.port.port.disengage();
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
