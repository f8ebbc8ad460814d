//! The lane of the sound: every 20 ms, each source gives 20 ms of samples and each sink takes them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::Codec;

use super::hear::{AudioSource, Decoding};
use super::lane::{Lane, Mailbox, Slots, Wakes};
use super::packets::Encoding;
use super::port::StreamId;
use super::speak::{AudioSink, Routing};
use super::stats::LaneCounters;

/// Sound in one tick.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Samples of a tick at the fastest rate.
pub(super) const LONGEST_TICK: usize = Codec::Opus.sample_rate() as usize / 50;

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

/// The lane.
pub(super) struct AudioLane {
    mailbox: Mailbox<AudioCommand>,
    counters: Arc<LaneCounters>,
    sources: Slots<AudioSource>,
    sinks: Slots<AudioSink>,
    wakes: Wakes,
    /// Members came or went: who hears whom is looked up anew.
    changed: bool,
}

impl AudioLane {
    pub(super) fn new(streams: usize, mailbox: Mailbox<AudioCommand>) -> Self {
        Self {
            mailbox,
            counters: Arc::default(),
            // Who is replaced stays for a tick to fade out.
            sources: Slots::new(2 * streams),
            sinks: Slots::new(streams),
            wakes: Wakes::new(),
            changed: false,
        }
    }

    fn take_commands(&mut self) {
        while let Some(command) = self.mailbox.command() {
            match command {
                AudioCommand::Source(source) => {
                    self.leave(source.id());
                    if let Err(source) = self.sources.insert(source) {
                        self.mailbox.discard(source);
                    }
                }
                AudioCommand::Decoding { id, mut part } => {
                    if let Some(source) = self.sources.by(|source| source.id() == id && !source.leaving) {
                        source.set_decoding(&mut part);
                    }
                    self.mailbox.discard(part);
                }
                AudioCommand::Sink(sink) => {
                    self.remove_sink(sink.id());
                    if let Err(sink) = self.sinks.insert(sink) {
                        self.mailbox.discard(sink);
                    }
                }
                AudioCommand::Encoding { id, mut part } => {
                    if let Some(sink) = self.sinks.by(|sink| sink.id() == id) {
                        sink.set_encoding(&mut part);
                    }
                    self.mailbox.discard(part);
                }
                AudioCommand::Route { sink: id, part } => {
                    let unused = match self.sinks.by(|sink| sink.id() == id) {
                        Some(sink) => sink.set_routing(part),
                        None => Some(part),
                    };
                    if let Some(unused) = unused {
                        self.mailbox.discard(unused);
                    }
                }
                AudioCommand::RemoveSource(id) => self.leave(id),
                AudioCommand::RemoveSink(id) => self.remove_sink(id),
            }
            self.changed = true;
        }
        let members = self.sources.len() + self.sinks.len();
        self.counters.members.store(u64::try_from(members).unwrap_or(u64::MAX), Relaxed);
    }

    /// The source is heard for this one tick more, while it fades.
    fn leave(&mut self, id: StreamId) {
        let Some(slot) = self.sources.find(|source| source.id() == id && !source.leaving) else {
            return;
        };
        if let Some(source) = self.sources.at_mut(slot) {
            source.leave();
        }
        for (_, sink) in self.sinks.iter_mut() {
            sink.lose(slot);
        }
    }

    fn remove_sink(&mut self, id: StreamId) {
        if let Some(slot) = self.sinks.find(|sink| sink.id() == id)
            && let Some(sink) = self.sinks.take(slot)
        {
            self.mailbox.discard(sink);
        }
    }

    /// Who hears whom, after a change: numbers become slots.
    fn link(&mut self) {
        for (_, sink) in self.sinks.iter_mut() {
            if let Some(wanted) = sink.unlinked() {
                let slot = self.sources.find(|source| source.id() == wanted && !source.leaving);
                sink.link(slot);
            }
        }
    }

    /// Lets go of what has faded out.
    fn retire(&mut self) {
        for (_, sink) in self.sinks.iter_mut() {
            if let Some(old) = sink.turn() {
                self.mailbox.discard(old);
            }
        }
        while let Some(slot) = self.sources.find(|source| source.leaving)
            && let Some(source) = self.sources.take(slot)
        {
            self.mailbox.discard(source);
        }
        self.link();
    }
}

impl Lane for AudioLane {
    const PERIOD: Duration = TICK;
    /// As much as a playout delay may hide.
    const CATCH_UP: u64 = 5;

    fn step(&mut self, now: Instant) {
        self.take_commands();
        if self.changed {
            self.link();
        }
        for (_, sink) in self.sinks.iter_mut() {
            if let Some(source) = sink.heard().and_then(|slot| self.sources.at_mut(slot)) {
                source.listened = true;
            }
        }
        for (_, source) in self.sources.iter_mut() {
            source.pull(now);
        }
        for (slot, sink) in self.sinks.iter_mut() {
            let source = sink.heard().and_then(|slot| self.sources.at(slot));
            if sink.feed(now, source) {
                self.wakes.note(slot, sink.outlet());
            }
        }
        self.wakes.send(|slot| self.sinks.at(slot).map(AudioSink::outlet));
        if self.changed {
            self.changed = false;
            self.retire();
        }
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
