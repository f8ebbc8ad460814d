//! The lane of the pictures: every 10 ms, each source decodes what is due and each sink encodes
//! what is new. A picture therefore waits half a step on average; the sound does not wait for it
//! at all.
//!
//! This is no tick: decoding and encoding are jobs, and only their steady state allocates
//! nothing. A change of the picture's size makes decoder, scaler and encoder begin anew.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use super::lane::{Lane, Mailbox, Slots, Wakes};
use super::port::StreamId;
use super::route::Route;
use super::see::{Decoding, VideoSource};
use super::show::{Encoding, VideoSink};
use super::stats::LaneCounters;

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

/// The lane.
pub(super) struct VideoLane {
    mailbox: Mailbox<VideoCommand>,
    counters: Arc<LaneCounters>,
    sources: Slots<VideoSource>,
    sinks: Slots<VideoSink>,
    wakes: Wakes,
}

impl VideoLane {
    pub(super) fn new(streams: usize, mailbox: Mailbox<VideoCommand>) -> Self {
        Self {
            mailbox,
            counters: Arc::default(),
            sources: Slots::new(streams),
            sinks: Slots::new(streams),
            wakes: Wakes::new(),
        }
    }

    fn take_commands(&mut self) {
        let mut changed = false;
        while let Some(command) = self.mailbox.command() {
            changed = true;
            match command {
                VideoCommand::Source(source) => {
                    self.remove_source(source.id());
                    if let Err(source) = self.sources.insert(source) {
                        self.mailbox.discard(source);
                    }
                }
                VideoCommand::Decoding { id, mut part } => {
                    if let Some(source) = self.sources.by(|source| source.id() == id) {
                        source.set_decoding(&mut part);
                    }
                    self.mailbox.discard(part);
                }
                VideoCommand::Sink(sink) => {
                    self.remove_sink(sink.id());
                    if let Err(sink) = self.sinks.insert(sink) {
                        self.mailbox.discard(sink);
                    }
                }
                VideoCommand::Encoding { id, mut part } => {
                    if let Some(sink) = self.sinks.by(|sink| sink.id() == id) {
                        sink.set_encoding(&mut part);
                    }
                    self.mailbox.discard(part);
                }
                VideoCommand::Route { sink: id, route } => {
                    if let Some(sink) = self.sinks.by(|sink| sink.id() == id) {
                        sink.route = route;
                        sink.link(None);
                    }
                }
                VideoCommand::RemoveSource(id) => self.remove_source(id),
                VideoCommand::RemoveSink(id) => self.remove_sink(id),
            }
        }
        if changed {
            self.link();
        }
        let members = self.sources.len() + self.sinks.len();
        self.counters.members.store(u64::try_from(members).unwrap_or(u64::MAX), Relaxed);
    }

    /// Who sees whom, after a change: numbers become slots.
    fn link(&mut self) {
        for (_, sink) in self.sinks.iter_mut() {
            if let Some(wanted) = sink.unlinked()
                && let Some(slot) = self.sources.find(|source| source.id() == wanted)
            {
                sink.link(Some(slot));
            }
        }
    }

    fn remove_source(&mut self, id: StreamId) {
        let Some(slot) = self.sources.find(|source| source.id() == id) else {
            return;
        };
        for (_, sink) in self.sinks.iter_mut() {
            if sink.seen == Some(slot) {
                sink.link(None);
            }
        }
        if let Some(source) = self.sources.take(slot) {
            self.mailbox.discard(source);
        }
    }

    fn remove_sink(&mut self, id: StreamId) {
        if let Some(slot) = self.sinks.find(|sink| sink.id() == id)
            && let Some(sink) = self.sinks.take(slot)
        {
            self.mailbox.discard(sink);
        }
    }
}

impl Lane for VideoLane {
    const PERIOD: Duration = Duration::from_millis(10);
    /// The latest picture wins: steps that are past are past.
    const CATCH_UP: u64 = 0;

    fn step(&mut self, now: Instant) {
        self.take_commands();
        for (_, sink) in self.sinks.iter_mut() {
            if let Some(source) = sink.seen.and_then(|slot| self.sources.at_mut(slot)) {
                source.watched = true;
            }
        }
        for (_, source) in self.sources.iter_mut() {
            source.pull(now);
        }
        for (slot, sink) in self.sinks.iter_mut() {
            let source = sink.seen.and_then(|slot| self.sources.at(slot));
            let (sent, old) = sink.feed(now, source);
            if let Some(old) = old {
                self.mailbox.discard(old);
            }
            if sent {
                self.wakes.note(slot, sink.outlet());
            }
        }
        self.wakes.send(|slot| self.sinks.at(slot).map(VideoSink::outlet));
    }

    fn idle(&mut self) -> bool {
        self.take_commands();
        self.sources.len() + self.sinks.len() == 0
    }

    fn clear(&self) {
        self.mailbox.clear();
    }

    fn counters(&self) -> &Arc<LaneCounters> {
        &self.counters
    }
}
