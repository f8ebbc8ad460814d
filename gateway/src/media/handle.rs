//! How the rest of the process speaks with an engine: everything is built here, on the caller's
//! thread, and what the lanes hand back is dropped here.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::CodecError;
use crosspoint_codecs::compose::SceneError;
use crosspoint_codecs::format::{MediaFormat, MediaKind};

use super::audio::AudioCommand;
use super::clip::{ClipId, Clips};
use super::crew::Crew;
use super::fit::Fit;
use super::lane::{Desk, Heap};
use super::load::{FULL, Pressure};
use super::parts::Codecs;
use super::port::{Inlet, Outlet, StreamId};
use super::route::{BusId, Playback, Route, ViewId};
use super::stats::{LaneCounters, SinkCounters, SourceCounters, StreamFigures, WorkerStats};
use super::timeline::Timeline;
use super::video::VideoCommand;
use super::worker::Workers;
use super::{coder, hear, packets, see, show, speak};

mod buses;
mod views;

pub use views::Staged;

/// How an engine is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Sources of each sort (sound, pictures) at most, and as many sinks. A slot costs some 100 bytes
    /// until it is used.
    pub streams: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { streams: 1024 }
    }
}

/// Why an engine refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// As many streams as [`EngineConfig::streams`] are there.
    #[error("the engine has no room for another stream")]
    Full,
    /// The lane has not taken earlier commands: it does not keep up.
    #[error("the engine does not keep up")]
    Overloaded,
    /// The engine does not know the stream.
    #[error("stream {0:?} is unknown to the engine")]
    Unknown(StreamId),
    /// The engine does not know the bus.
    #[error("bus {0:?} is unknown to the engine")]
    UnknownBus(BusId),
    /// The engine does not know the view.
    #[error("view {0:?} is unknown to the engine")]
    UnknownView(ViewId),
    /// The scene cannot be composed.
    #[error("the scene cannot be composed: {0}")]
    Scene(#[from] SceneError),
    /// Sound was to become pictures, or the other way about.
    #[error("stream {0:?} is of another sort")]
    Sort(StreamId),
    /// No codec for the format.
    #[error("no codec: {0}")]
    Codec(#[from] CodecError),
    /// [`EngineHandle::stop`] was called.
    #[error("the engine has stopped")]
    Stopped,
    /// A worker thread could not be started.
    #[error("a media worker cannot start: {0}")]
    Thread(#[from] std::io::Error),
}

/// Commands to one engine. Clones share it; the engine stops with the last of them.
///
/// No call waits for a tick: what it says takes effect at the next one. Calls that make a video
/// codec take some milliseconds.
#[derive(Clone)]
pub struct EngineHandle(Arc<Shared>);

struct Shared {
    codecs: Arc<dyn Codecs>,
    registers: Mutex<Registers>,
    heaps: [Heap; 2],
    workers: Mutex<Option<Workers>>,
    stopping: Arc<AtomicBool>,
    audio: Arc<LaneCounters>,
    video: Arc<LaneCounters>,
    /// Works for the lanes for as long as there are any.
    _crew: Option<Crew>,
}

/// What the callers know of the lanes' members, and the rings to them.
struct Registers {
    audio: Desk<AudioCommand>,
    video: Desk<VideoCommand>,
    sources: HashMap<StreamId, SourceEntry>,
    sinks: HashMap<StreamId, SinkEntry>,
    buses: HashMap<BusId, buses::BusEntry>,
    /// Renditions that were ever made.
    renditions: u64,
    views: HashSet<ViewId>,
    clips: Clips,
    streams: usize,
}

struct SourceEntry {
    format: MediaFormat,
    counters: Arc<SourceCounters>,
}

struct SinkEntry {
    kind: MediaKind,
    format: MediaFormat,
    route: Route,
    counters: Arc<SinkCounters>,
}

/// The moment on the gateway's clock, the same that [`super::port::Arrival::at`] is of.
pub type ClockFn = Arc<dyn Fn() -> Instant + Send + Sync>;

impl EngineHandle {
    /// Starts an engine with its two worker threads, which sleep until the first stream comes. `crew`
    /// helps them; it is the same for all engines of a process, and has the same clock.
    pub fn start(
        config: &EngineConfig,
        codecs: Arc<dyn Codecs>,
        clock: ClockFn,
        crew: &Crew,
    ) -> Result<Self, EngineError> {
        let (engine, handle) = super::Engine::with_crew(config, codecs, crew);
        let workers = Workers::start(engine, clock, &handle.0.stopping)?;
        *lock(&handle.0.workers) = Some(workers);
        Ok(handle)
    }

    pub(super) fn new(
        config: &EngineConfig,
        codecs: Arc<dyn Codecs>,
        audio: (Desk<AudioCommand>, Arc<LaneCounters>),
        video: (Desk<VideoCommand>, Arc<LaneCounters>),
        crew: Option<&Crew>,
    ) -> Self {
        let heaps = [audio.0.heap().clone(), video.0.heap().clone()];
        let registers = Registers {
            audio: audio.0,
            video: video.0,
            sources: HashMap::new(),
            sinks: HashMap::new(),
            buses: HashMap::new(),
            renditions: 0,
            views: HashSet::new(),
            clips: Clips::default(),
            streams: config.streams,
        };
        Self(Arc::new(Shared {
            codecs,
            registers: Mutex::new(registers),
            heaps,
            workers: Mutex::new(None),
            stopping: Arc::new(AtomicBool::new(false)),
            audio: audio.1,
            video: video.1,
            _crew: crew.cloned(),
        }))
    }

    /// Takes `id` as a source: what it receives can be routed to sinks from now on. A source of
    /// that number that is there already is replaced, and sinks that hear it go on with the new
    /// one. `timeline` is the same for all streams of a leg; `format` is what the peer sends.
    pub fn add_source(
        &self,
        id: StreamId,
        timeline: &Timeline,
        format: &MediaFormat,
        inlet: Inlet,
    ) -> Result<(), EngineError> {
        let counters = Arc::new(SourceCounters::default());
        let command = match format {
            MediaFormat::Audio(format) => {
                let part = hear::decoding(&*self.0.codecs, format)?;
                let source = hear::source(id, inlet, timeline.clone(), counters.clone(), part);
                Command::Audio(AudioCommand::Source(source))
            }
            MediaFormat::Video(format) => {
                let part = see::decoding(&*self.0.codecs, format)?;
                let source = see::source(id, inlet, timeline.clone(), counters.clone(), part);
                Command::Video(VideoCommand::Source(source))
            }
        };
        let entry = SourceEntry { format: format.clone(), counters };
        self.with(|registers| {
            let room = registers.sources.len() < registers.streams;
            match registers.sources.get(&id) {
                Some(old) if !same_sort(&old.format, format) => return Err(EngineError::Sort(id)),
                None if !room => return Err(EngineError::Full),
                _ => (),
            }
            let mut batch = vec![command];
            batch.extend(registers.refit(id, Some(format))?);
            let buses = registers.ready(batch.len(), registers.buses_with(id))?;
            registers.sources.insert(id, entry);
            registers.rejoin(&*self.0.codecs, id, &buses, &mut batch)?;
            registers.send(batch)
        })
    }

    /// The peer of source `id` sends in another format from now on, through the same inlet.
    pub fn set_source_format(&self, id: StreamId, format: &MediaFormat) -> Result<(), EngineError> {
        let command = match format {
            MediaFormat::Audio(format) => {
                let part = hear::decoding(&*self.0.codecs, format)?;
                Command::Audio(AudioCommand::Decoding { id, part })
            }
            MediaFormat::Video(format) => {
                let part = see::decoding(&*self.0.codecs, format)?;
                Command::Video(VideoCommand::Decoding { id, part })
            }
        };
        self.with(|registers| {
            let old = registers.sources.get(&id).ok_or(EngineError::Unknown(id))?;
            if !same_sort(&old.format, format) {
                return Err(EngineError::Sort(id));
            }
            let mut batch = vec![command];
            batch.extend(registers.refit(id, Some(format))?);
            let buses = registers.ready(batch.len(), registers.buses_with(id))?;
            if let Some(entry) = registers.sources.get_mut(&id) {
                entry.format = format.clone();
            }
            registers.rejoin(&*self.0.codecs, id, &buses, &mut batch)?;
            registers.send(batch)
        })
    }

    /// Takes `id` as a sink, in [`Route::Silence`] until [`Self::route`]. A sink of that number
    /// that is there already is replaced and keeps its route. `format` is how the peer wants it.
    pub fn add_sink(
        &self,
        id: StreamId,
        kind: MediaKind,
        format: &MediaFormat,
        outlet: Outlet,
    ) -> Result<(), EngineError> {
        if kind.is_video() != matches!(format, MediaFormat::Video(_)) {
            return Err(EngineError::Sort(id));
        }
        let counters = Arc::new(SinkCounters::default());
        let command = match format {
            MediaFormat::Audio(format) => {
                let part = packets::encoding(&*self.0.codecs, format)?;
                Command::Audio(AudioCommand::Sink(speak::sink(id, outlet, counters.clone(), part)))
            }
            MediaFormat::Video(format) => {
                let part = coder::encoding(&*self.0.codecs, kind, format)?;
                Command::Video(VideoCommand::Sink(show::sink(id, kind, outlet, counters.clone(), part)))
            }
        };
        self.with(|registers| {
            let old = registers.sinks.get(&id);
            match old {
                Some(old) if !same_sort(&old.format, format) => return Err(EngineError::Sort(id)),
                None if registers.sinks.len() >= registers.streams => return Err(EngineError::Full),
                _ => (),
            }
            let route = old.map_or(Route::Silence, |old| old.route);
            let buses = registers.ready(2, route.bus())?;
            registers.sinks.insert(id, SinkEntry { kind, format: format.clone(), route, counters });
            let mut batch = vec![command];
            registers.settle(&*self.0.codecs, &buses, &mut batch)?;
            batch.push(registers.routing(id, format, route)?);
            registers.send(batch)
        })
    }

    /// The peer of sink `id` wants another format from now on, through the same outlet. Stamps
    /// run on; a picture sink starts anew with a keyframe.
    pub fn set_sink_format(&self, id: StreamId, format: &MediaFormat) -> Result<(), EngineError> {
        let command = match format {
            MediaFormat::Audio(format) => {
                let part = packets::encoding(&*self.0.codecs, format)?;
                Command::Audio(AudioCommand::Encoding { id, part })
            }
            MediaFormat::Video(format) => {
                let kind = lock(&self.0.registers).sinks.get(&id).map(|sink| sink.kind);
                let kind = kind.ok_or(EngineError::Unknown(id))?;
                let part = coder::encoding(&*self.0.codecs, kind, format)?;
                Command::Video(VideoCommand::Encoding { id, part })
            }
        };
        self.with(|registers| {
            let old = registers.sinks.get(&id).ok_or(EngineError::Unknown(id))?;
            if !same_sort(&old.format, format) {
                return Err(EngineError::Sort(id));
            }
            let route = old.route;
            let buses = registers.ready(2, route.bus())?;
            if let Some(entry) = registers.sinks.get_mut(&id) {
                entry.format = format.clone();
            }
            let mut batch = vec![command];
            registers.settle(&*self.0.codecs, &buses, &mut batch)?;
            batch.push(registers.routing(id, format, route)?);
            registers.send(batch)
        })
    }

    /// What sink `id` sends from the next tick on. A source may be named before it is added.
    pub fn route(&self, id: StreamId, route: Route) -> Result<(), EngineError> {
        self.with(|registers| {
            let sink = registers.sinks.get(&id).ok_or(EngineError::Unknown(id))?;
            let fits = match route {
                Route::Silence | Route::Transcode { .. } => true,
                Route::Play(_) | Route::Mix { .. } => !sink.kind.is_video(),
                Route::Compose { .. } => sink.kind.is_video(),
            };
            if !fits {
                return Err(EngineError::Sort(id));
            }
            if sink.route == route {
                return Ok(());
            }
            if let Route::Compose { view } = route
                && !registers.views.contains(&view)
            {
                return Err(EngineError::UnknownView(view));
            }
            if let Some(bus) = route.bus().filter(|bus| !registers.buses.contains_key(bus)) {
                return Err(EngineError::UnknownBus(bus));
            }
            let format = sink.format.clone();
            let buses = registers.ready(1, sink.route.bus().into_iter().chain(route.bus()))?;
            if let Some(entry) = registers.sinks.get_mut(&id) {
                entry.route = route;
            }
            let mut batch = Vec::new();
            registers.settle(&*self.0.codecs, &buses, &mut batch)?;
            batch.push(registers.routing(id, &format, route)?);
            registers.send(batch)
        })
    }

    /// Takes `id` out, as a source and as a sink. Nothing happens when it is neither.
    pub fn remove(&self, id: StreamId) -> Result<(), EngineError> {
        self.with(|registers| {
            let mut batch = Vec::new();
            if let Some(source) = registers.sources.get(&id) {
                batch.push(match source.format {
                    MediaFormat::Audio(_) => Command::Audio(AudioCommand::RemoveSource(id)),
                    MediaFormat::Video(_) => Command::Video(VideoCommand::RemoveSource(id)),
                });
            }
            if let Some(sink) = registers.sinks.get(&id) {
                batch.push(match sink.format {
                    MediaFormat::Audio(_) => Command::Audio(AudioCommand::RemoveSink(id)),
                    MediaFormat::Video(_) => Command::Video(VideoCommand::RemoveSink(id)),
                });
            }
            let hears = registers.sinks.get(&id).and_then(|sink| sink.route.bus());
            let buses = registers.ready(batch.len(), registers.buses_with(id).into_iter().chain(hears))?;
            registers.sources.remove(&id);
            registers.sinks.remove(&id);
            registers.leave_all(id, &mut batch);
            registers.settle(&*self.0.codecs, &buses, &mut batch)?;
            registers.send(batch)
        })
    }

    /// Takes a clip for [`super::Playback::Clip`]: mono `samples` at `rate`. One that is there already is
    /// replaced; whoever hears it hears it to its end.
    pub fn add_clip(&self, id: ClipId, samples: Arc<[i16]>, rate: u32) -> Result<(), EngineError> {
        self.with(|registers| registers.clips.add(id, samples, rate))
    }

    /// What the engine knows of `id`.
    pub fn stats(&self, id: StreamId) -> StreamFigures {
        let registers = lock(&self.0.registers);
        StreamFigures {
            source: registers.sources.get(&id).map(|entry| entry.counters.snapshot()),
            sink: registers.sinks.get(&id).map(|entry| entry.counters.snapshot()),
        }
    }

    /// Whether it should be given no more calls: its sound takes nearly all the time there is, or its
    /// pictures do and cannot be made smaller. Those that it has go on.
    pub fn is_full(&self) -> bool {
        let WorkerStats { audio, video } = self.worker_stats();
        audio.load >= FULL || video.load >= FULL && Pressure::is_last(video.lowered)
    }

    /// How well the engine keeps its time.
    pub fn worker_stats(&self) -> WorkerStats {
        WorkerStats { audio: self.0.audio.snapshot(), video: self.0.video.snapshot() }
    }

    /// Ends the worker threads and waits for that, a tick at most. Later calls answer
    /// [`EngineError::Stopped`]. Once is enough; more does no harm.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Runs `change` with the registers, wakes the lanes if it sent something, and drops what
    /// they have handed back.
    fn with(
        &self,
        change: impl FnOnce(&mut Registers) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if self.0.stopping.load(Ordering::Acquire) {
            return Err(EngineError::Stopped);
        }
        self.0.heaps.iter().for_each(Heap::clear);
        let done = change(&mut lock(&self.0.registers));
        if let Some(workers) = &*lock(&self.0.workers) {
            workers.wake();
        }
        done
    }
}

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle").field("stats", &self.worker_stats()).finish_non_exhaustive()
    }
}

impl Shared {
    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(workers) = lock(&self.workers).take() {
            workers.join();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

enum Command {
    Audio(AudioCommand),
    Video(VideoCommand),
}

impl Registers {
    /// All of `batch` or nothing: a lane takes its share within one step.
    fn send(&mut self, batch: Vec<Command>) -> Result<(), EngineError> {
        let (mut audio, mut video) = (Vec::new(), Vec::new());
        for command in batch {
            match command {
                Command::Audio(command) => audio.push(command),
                Command::Video(command) => video.push(command),
            }
        }
        if !self.audio.fits(audio.len()) || !self.video.fits(video.len()) {
            return Err(EngineError::Overloaded);
        }
        self.audio.send(audio);
        self.video.send(video);
        Ok(())
    }

    /// What brings sink `id`, which wants `format`, to `route`.
    fn routing(&mut self, id: StreamId, format: &MediaFormat, route: Route) -> Result<Command, EngineError> {
        match (route, format) {
            (Route::Play(Playback::Clip { clip, .. }), MediaFormat::Audio(to)) => {
                let clip = self.clips.at(clip, to.codec.sample_rate())?;
                let part = speak::routing(route, None, to, [None; 2], clip);
                Ok(Command::Audio(AudioCommand::Route { sink: id, part }))
            }
            (Route::Mix { bus }, MediaFormat::Audio(format)) => self.mixing(id, format, bus),
            (Route::Transcode { source }, _) => {
                routing(id, format, route, self.sources.get(&source).map(|entry| &entry.format))
            }
            _ => routing(id, format, route, None),
        }
    }

    /// The routes of all sinks that hear `source`, which now sends `format`.
    fn refit(&self, source: StreamId, format: Option<&MediaFormat>) -> Result<Vec<Command>, EngineError> {
        let heard = |sink: &SinkEntry| sink.route == Route::Transcode { source };
        self.sinks
            .iter()
            .filter(|(_, sink)| heard(sink))
            .map(|(id, sink)| routing(*id, &sink.format, sink.route, format))
            .collect()
    }
}

fn routing(
    id: StreamId,
    format: &MediaFormat,
    route: Route,
    from: Option<&MediaFormat>,
) -> Result<Command, EngineError> {
    let from = match (format, from) {
        (_, None) => None,
        (MediaFormat::Audio(_), Some(MediaFormat::Audio(from))) => Some(from.codec.sample_rate()),
        (MediaFormat::Video(_), Some(MediaFormat::Video(_))) => None,
        _ => return Err(EngineError::Sort(id)),
    };
    Ok(match format {
        MediaFormat::Audio(to) => {
            let fit = from.map(|from| Fit::new(from, to.codec.sample_rate())).transpose()?;
            let part = speak::routing(route, fit, to, [None; 2], Arc::default());
            Command::Audio(AudioCommand::Route { sink: id, part })
        }
        MediaFormat::Video(_) => Command::Video(VideoCommand::Route { sink: id, route }),
    })
}

const fn same_sort(one: &MediaFormat, other: &MediaFormat) -> bool {
    matches!(
        (one, other),
        (MediaFormat::Audio(_), MediaFormat::Audio(_)) | (MediaFormat::Video(_), MediaFormat::Video(_))
    )
}

/// A panic elsewhere leaves the registers whole: every change to them is a single insert.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
