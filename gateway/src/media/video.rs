//! The lane of the sound: every 10 ms, each source gives 20 ms of samples and each sink takes them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{VideoDecoder, VideoEncoder, VideoEncoding};
use crosspoint_codecs::format::{MediaKind, VideoFormat};

use crosspoint_codecs::frame::{Pool, VideoFrame};

use super::handle::EngineError;
use super::lane::{Lane, Mailbox, Slots};
use super::parts::Codecs;
use super::port::{Inlet, Outlet, StreamId};
use super::route::Route;
use super::stats::{LaneCounters, SinkCounters, SourceCounters};
use super::timeline::Timeline;

/// Buffers.
const PICTURES: usize = 4;

/// What the lane is told. Everything in it was built on the caller's thread.
pub(super) enum VideoCommand {
    Source(Box<VideoSource>),
    Decoding { id: StreamId, part: Box<Decoding> },
    Sink(Box<VideoSink>),
    Encoding { id: StreamId, part: Box<Encoding> },
    Route { sink: StreamId, route: Route },
    RemoveSource(StreamId),
    RemoveSink(StreamId),
}

pub(super) struct VideoSource {
    id: StreamId,
    inlet: Inlet,
    timeline: Timeline,
    counters: Arc<SourceCounters>,
    decoding: Box<Decoding>,
}

/// The part of a source that depends on its format.
pub(super) struct Decoding {
    decoder: Box<dyn VideoDecoder>,
}

pub(super) struct VideoSink {
    id: StreamId,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    encoding: Box<Encoding>,
    route: Route,
    kind: MediaKind,
}

/// The part of a sink that depends on its format.
pub(super) struct Encoding {
    encoder: Box<dyn VideoEncoder>,
}

pub(super) fn decoding(codecs: &dyn Codecs, format: &VideoFormat) -> Result<Box<Decoding>, EngineError> {
    let pool = Pool::new(PICTURES, VideoFrame::bytes(1920, 1088));
    Ok(Box::new(Decoding { decoder: codecs.video_decoder(format, pool)? }))
}

pub(super) fn source(
    id: StreamId,
    inlet: Inlet,
    timeline: Timeline,
    counters: Arc<SourceCounters>,
    decoding: Box<Decoding>,
) -> Box<VideoSource> {
    Box::new(VideoSource { id, inlet, timeline, counters, decoding })
}

pub(super) fn encoding(codecs: &dyn Codecs, format: &VideoFormat) -> Result<Box<Encoding>, EngineError> {
    let encoding = VideoEncoding {
        bitrate: 500_000,
        frame_rate: 30.0,
        profile: format.profile,
        level: format.level,
        max_nal: None,
    };
    Ok(Box::new(Encoding { encoder: codecs.video_encoder(format, encoding)? }))
}

pub(super) fn sink(
    id: StreamId,
    kind: MediaKind,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    encoding: Box<Encoding>,
) -> Box<VideoSink> {
    Box::new(VideoSink { id, outlet, counters, encoding, route: Route::Silence, kind })
}

/// The lane.
pub(super) struct VideoLane {
    mailbox: Mailbox<VideoCommand>,
    counters: Arc<LaneCounters>,
    sources: Slots<VideoSource>,
    sinks: Slots<VideoSink>,
}

impl VideoLane {
    pub(super) fn new(streams: usize, mailbox: Mailbox<VideoCommand>) -> Self {
        Self { mailbox, counters: Arc::default(), sources: Slots::new(streams), sinks: Slots::new(streams) }
    }

    fn take_commands(&mut self) {
        while let Some(command) = self.mailbox.command() {
            match command {
                VideoCommand::Source(source) => {
                    self.remove_source(source.id);
                    if let Err(source) = self.sources.insert(source) {
                        self.mailbox.discard(source);
                    }
                }
                VideoCommand::Decoding { id, mut part } => {
                    if let Some(source) = self.sources.by(|member| member.id == id) {
                        std::mem::swap(&mut source.decoding, &mut part);
                    }
                    self.mailbox.discard(part);
                }
                VideoCommand::Sink(sink) => {
                    self.remove_sink(sink.id);
                    if let Err(sink) = self.sinks.insert(sink) {
                        self.mailbox.discard(sink);
                    }
                }
                VideoCommand::Encoding { id, mut part } => {
                    if let Some(sink) = self.sinks.by(|member| member.id == id) {
                        std::mem::swap(&mut sink.encoding, &mut part);
                    }
                    self.mailbox.discard(part);
                }
                VideoCommand::Route { sink, route } => {
                    if let Some(sink) = self.sinks.by(|member| member.id == sink) {
                        sink.route = route;
                    }
                }
                VideoCommand::RemoveSource(id) => self.remove_source(id),
                VideoCommand::RemoveSink(id) => self.remove_sink(id),
            }
        }
        let members = self.sources.len() + self.sinks.len();
        self.counters.members.store(u64::try_from(members).unwrap_or(u64::MAX), Relaxed);
    }

    fn remove_source(&mut self, id: StreamId) {
        if let Some(slot) = self.sources.find(|source| source.id == id)
            && let Some(source) = self.sources.take(slot)
        {
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

impl Lane for VideoLane {
    const PERIOD: Duration = Duration::from_millis(10);

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
