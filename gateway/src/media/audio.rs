//! The lane of the sound: every 20 ms, each source gives 20 ms of samples and each sink takes them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{AudioDecoder, AudioEncoder};
use crosspoint_codecs::format::AudioFormat;

use super::handle::EngineError;
use super::lane::{Lane, Mailbox, Numbered, Slots};
use super::parts::Codecs;
use super::port::{Inlet, Outlet, StreamId};
use super::route::Route;
use super::stats::{LaneCounters, SinkCounters, SourceCounters};
use super::timeline::Timeline;

/// What the lane is told. Everything in it was built on the caller's thread.
pub(super) enum AudioCommand {
    Source(Box<AudioSource>),
    Decoding { id: StreamId, part: Box<Decoding> },
    Sink(Box<AudioSink>),
    Encoding { id: StreamId, part: Box<Encoding> },
    Route { sink: StreamId, part: Box<Routing> },
    RemoveSource(StreamId),
    RemoveSink(StreamId),
}

pub(super) struct AudioSource {
    id: StreamId,
    inlet: Inlet,
    timeline: Timeline,
    counters: Arc<SourceCounters>,
    decoding: Box<Decoding>,
}

/// The part of a source that depends on its format.
pub(super) struct Decoding {
    decoder: Box<dyn AudioDecoder>,
}

pub(super) struct AudioSink {
    id: StreamId,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    encoding: Box<Encoding>,
    routing: Option<Box<Routing>>,
}

/// The part of a sink that depends on its format.
pub(super) struct Encoding {
    encoder: Box<dyn AudioEncoder>,
}

/// The part of a sink that depends on where its sound comes from.
pub(super) struct Routing {
    route: Route,
}

pub(super) fn decoding(codecs: &dyn Codecs, format: &AudioFormat) -> Result<Box<Decoding>, EngineError> {
    Ok(Box::new(Decoding { decoder: codecs.audio_decoder(format)? }))
}

pub(super) fn source(
    id: StreamId,
    inlet: Inlet,
    timeline: Timeline,
    counters: Arc<SourceCounters>,
    decoding: Box<Decoding>,
) -> Box<AudioSource> {
    Box::new(AudioSource { id, inlet, timeline, counters, decoding })
}

pub(super) fn encoding(codecs: &dyn Codecs, format: &AudioFormat) -> Result<Box<Encoding>, EngineError> {
    Ok(Box::new(Encoding { encoder: codecs.audio_encoder(format)? }))
}

pub(super) fn sink(
    id: StreamId,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    encoding: Box<Encoding>,
) -> Box<AudioSink> {
    Box::new(AudioSink { id, outlet, counters, encoding, routing: None })
}

pub(super) fn routing(
    route: Route,
    from: Option<&AudioFormat>,
    to: &AudioFormat,
) -> Result<Box<Routing>, EngineError> {
    let _ = (from, to);
    Ok(Box::new(Routing { route }))
}

impl Numbered for AudioSource {
    fn id(&self) -> StreamId {
        self.id
    }
}

impl Numbered for AudioSink {
    fn id(&self) -> StreamId {
        self.id
    }
}

/// The lane.
pub(super) struct AudioLane {
    mailbox: Mailbox<AudioCommand>,
    counters: Arc<LaneCounters>,
    sources: Slots<AudioSource>,
    sinks: Slots<AudioSink>,
}

impl AudioLane {
    pub(super) fn new(streams: usize, mailbox: Mailbox<AudioCommand>) -> Self {
        Self { mailbox, counters: Arc::default(), sources: Slots::new(streams), sinks: Slots::new(streams) }
    }

    fn take_commands(&mut self) {
        while let Some(command) = self.mailbox.command() {
            match command {
                AudioCommand::Source(source) => {
                    self.remove_source(source.id);
                    if let Err(source) = self.sources.insert(source) {
                        self.mailbox.discard(source);
                    }
                }
                AudioCommand::Decoding { id, mut part } => {
                    if let Some(source) = self.sources.by_id(id) {
                        std::mem::swap(&mut source.decoding, &mut part);
                    }
                    self.mailbox.discard(part);
                }
                AudioCommand::Sink(sink) => {
                    self.remove_sink(sink.id);
                    if let Err(sink) = self.sinks.insert(sink) {
                        self.mailbox.discard(sink);
                    }
                }
                AudioCommand::Encoding { id, mut part } => {
                    if let Some(sink) = self.sinks.by_id(id) {
                        std::mem::swap(&mut sink.encoding, &mut part);
                    }
                    self.mailbox.discard(part);
                }
                AudioCommand::Route { sink, part } => {
                    let old = match self.sinks.by_id(sink) {
                        Some(sink) => sink.routing.replace(part),
                        None => Some(part),
                    };
                    if let Some(old) = old {
                        self.mailbox.discard(old);
                    }
                }
                AudioCommand::RemoveSource(id) => self.remove_source(id),
                AudioCommand::RemoveSink(id) => self.remove_sink(id),
            }
        }
        let members = self.sources.len() + self.sinks.len();
        self.counters.members.store(u64::try_from(members).unwrap_or(u64::MAX), Relaxed);
    }

    fn remove_source(&mut self, id: StreamId) {
        if let Some(slot) = self.sources.find(|source| source.id == id)
            && let Some(source) = self.sources.take(slot)
        {
            source.timeline.clear();
            self.mailbox.discard(source);
        }
    }

    fn remove_sink(&mut self, id: StreamId) {
        if let Some(slot) = self.sinks.find(|sink| sink.id == id)
            && let Some(sink) = self.sinks.take(slot)
        {
            self.mailbox.discard(sink);
        }
    }
}

impl Lane for AudioLane {
    const PERIOD: Duration = Duration::from_millis(20);

    fn step(&mut self, _now: Instant) {
        self.take_commands();
    }

    fn idle(&mut self) -> bool {
        self.take_commands();
        self.sources.len() + self.sinks.len() == 0
    }

    fn counters(&self) -> &Arc<LaneCounters> {
        &self.counters
    }
}
