//! The lane of the sound: every 20 ms, each source gives 20 ms of samples and each sink takes them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::Codec;
use crosspoint_codecs::kernels::mix::Gain;

use super::bus::{Bus, Member, Refit, Rendition, RenditionId};
use super::crew::{Hands, Piece};
use super::hear::{AudioSource, Decoding};
use super::lane::{Index, Lane, Mailbox, Slots, Wakes};
use super::packets::Encoding;
use super::port::StreamId;
use super::route::BusId;
use super::speak::{AudioSink, Heard, Routing, Sound, Wanted};
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
    Bus(Box<Bus>),
    RemoveBus(BusId),
    Join { bus: BusId, member: Box<Member> },
    Leave { bus: BusId, member: StreamId },
    Gain { bus: BusId, member: StreamId, gain: Gain },
    Rendition { bus: BusId, part: Box<Rendition> },
    RemoveRendition { bus: BusId, id: RenditionId },
    Refit { bus: BusId, part: Box<Refit> },
}

/// The lane.
pub(super) struct AudioLane {
    mailbox: Mailbox<AudioCommand>,
    counters: Arc<LaneCounters>,
    sources: Slots<AudioSource>,
    sinks: Slots<AudioSink>,
    buses: Slots<Bus>,
    wakes: Wakes,
    /// Of `sources` and `buses`, while they are linked.
    source_index: Index<StreamId>,
    bus_index: Index<BusId>,
    /// Members came or went: who hears whom is looked up anew.
    changed: bool,
    hands: Hands<Work>,
}

/// A piece of the lane's work, and the slot to which it goes back.
pub(super) enum Work {
    Decode { slot: usize, source: Box<AudioSource>, now: Instant },
    Encode { slot: usize, sink: Box<AudioSink> },
    EncodeMix { bus: usize, slot: usize, rendition: Box<Rendition> },
}

impl Piece for Work {
    fn run(&mut self) {
        match self {
            Self::Decode { source, now, .. } => source.pull(*now),
            Self::Encode { sink, .. } => sink.pack(),
            Self::EncodeMix { rendition, .. } => rendition.pack(),
        }
    }

    fn effort(&self) -> u32 {
        match self {
            Self::Decode { source, .. } => source.effort(),
            Self::Encode { sink, .. } => sink.effort(),
            Self::EncodeMix { rendition, .. } => rendition.effort(),
        }
    }
}

impl AudioLane {
    pub(super) fn new(streams: usize, mailbox: Mailbox<AudioCommand>, hands: Hands<Work>) -> Self {
        Self {
            mailbox,
            counters: Arc::default(),
            // Who is replaced stays for a tick to fade out.
            sources: Slots::new(2 * streams),
            sinks: Slots::new(streams),
            buses: Slots::new(streams),
            wakes: Wakes::new(),
            source_index: Index::new(2 * streams),
            bus_index: Index::new(streams),
            changed: false,
            hands,
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
                AudioCommand::Bus(bus) => {
                    if let Err(bus) = self.buses.insert(bus) {
                        self.mailbox.discard(bus);
                    }
                }
                AudioCommand::RemoveBus(id) => self.remove_bus(id),
                AudioCommand::Join { bus, member } => {
                    let unused = self.in_bus(bus, member, Bus::join);
                    self.discard(unused);
                }
                AudioCommand::Leave { bus, member } => {
                    if let Some(bus) = self.buses.by(|it| it.id() == bus) {
                        bus.leave(member);
                    }
                }
                AudioCommand::Gain { bus, member, gain } => {
                    if let Some(bus) = self.buses.by(|it| it.id() == bus) {
                        bus.set_gain(member, gain);
                    }
                }
                AudioCommand::Rendition { bus, part } => {
                    let unused = self.in_bus(bus, part, Bus::take);
                    self.discard(unused);
                }
                AudioCommand::RemoveRendition { bus, id } => {
                    let part = self.buses.by(|it| it.id() == bus).and_then(|bus| bus.drop_rendition(id));
                    self.discard(part);
                }
                AudioCommand::Refit { bus, part } => {
                    let unused = self.in_bus(bus, part, Bus::refit);
                    self.discard(unused);
                }
            }
            self.changed = true;
        }
        let members = self.sources.len() + self.sinks.len();
        self.counters.members.store(u64::try_from(members).unwrap_or(u64::MAX), Relaxed);
    }

    /// Gives `part` to a bus; back comes what is of no use.
    fn in_bus<T>(
        &mut self,
        bus: BusId,
        part: Box<T>,
        give: impl FnOnce(&mut Bus, Box<T>) -> Option<Box<T>>,
    ) -> Option<Box<T>> {
        match self.buses.by(|it| it.id() == bus) {
            Some(bus) => give(bus, part),
            None => Some(part),
        }
    }

    fn discard<T: Send + 'static>(&mut self, part: Option<Box<T>>) {
        if let Some(part) = part {
            self.mailbox.discard(part);
        }
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

    fn remove_bus(&mut self, id: BusId) {
        let Some(slot) = self.buses.find(|bus| bus.id() == id) else {
            return;
        };
        for (_, sink) in self.sinks.iter_mut() {
            sink.lose_bus(slot);
        }
        let bus = self.buses.take(slot);
        self.discard(bus);
    }

    /// Who hears whom, after a change: numbers become slots.
    fn link(&mut self) {
        self.source_index.fill(self.sources.iter().map(|(slot, it)| (it.id(), it.leaving, slot)));
        self.bus_index.fill(self.buses.iter().map(|(slot, it)| (it.id(), false, slot)));
        for (_, bus) in self.buses.iter_mut() {
            // A member whose source goes fades out with it.
            bus.link(|id| self.source_index.find(id).map(|(_, slot)| slot));
        }
        let source = |id| self.source_index.find(id).filter(|(leaving, _)| !leaving).map(|(_, slot)| slot);
        for (_, sink) in self.sinks.iter_mut() {
            let found = match sink.wanted() {
                Some(Wanted::Source(id)) => source(id).map(Heard::Source),
                Some(Wanted::Bus { bus, renditions }) => {
                    let slot = self.bus_index.find(bus).map(|(_, slot)| slot);
                    slot.and_then(|slot| Some((slot, self.buses.at(slot)?))).map(|(slot, bus)| Heard::Bus {
                        bus: slot,
                        own: bus.find(sink.id()),
                        renditions: renditions.map(|id| id.and_then(|id| bus.find_rendition(id))),
                    })
                }
                None => None,
            };
            sink.link(found);
        }
    }

    /// The mixes of this tick, and what is made of them for many.
    fn mix(&mut self) {
        for (_, bus) in self.buses.iter_mut() {
            bus.mix(&self.sources);
        }
        for (_, sink) in self.sinks.iter_mut() {
            if let Some(Heard::Bus { bus, .. }) = sink.heard()
                && let Some(bus) = self.buses.at_mut(bus)
            {
                sink.choose(bus);
                bus.note_listener(sink.alone());
            }
        }
    }

    /// Decodes whom somebody listens to.
    fn decode(&mut self, now: Instant) {
        let Self { sources, hands, .. } = self;
        for slot in 0..sources.end() {
            match sources.at_mut(slot) {
                Some(source) if !source.is_due() => {}
                Some(source) if !source.is_heavy() => source.pull(now),
                _ => {
                    if let Some(source) = sources.lend(slot) {
                        hands.hand_out(Work::Decode { slot, source, now });
                    }
                }
            }
        }
        hands.join(|work| {
            if let Work::Decode { slot, source, .. } = work {
                sources.give_back(slot, source);
            }
        });
    }

    /// Encodes what each sink hears by itself, and what is made for many.
    fn encode(&mut self, now: Instant) {
        let Self { sources, sinks, buses, hands, .. } = self;
        for at in 0..buses.end() {
            let Some(bus) = buses.at_mut(at) else { continue };
            bus.encode(now, |slot, rendition| {
                hands.hand_out(Work::EncodeMix { bus: at, slot, rendition });
            });
        }
        for slot in 0..sinks.end() {
            let Some(sink) = sinks.at_mut(slot) else { continue };
            let sound = match sink.heard() {
                Some(Heard::Source(slot)) => sources.at(slot).map_or(Sound::Nothing, Sound::Source),
                Some(Heard::Bus { bus, own, .. }) => {
                    buses.at(bus).map_or(Sound::Nothing, |bus| Sound::Bus { bus, own })
                }
                None => Sound::Nothing,
            };
            sink.hear(now, &sound);
            if !sink.is_heavy() {
                sink.pack();
            } else if let Some(sink) = sinks.lend(slot) {
                hands.hand_out(Work::Encode { slot, sink });
            }
        }
        hands.join(|work| match work {
            Work::Decode { slot, source, .. } => sources.give_back(slot, source),
            Work::Encode { slot, sink } => sinks.give_back(slot, sink),
            Work::EncodeMix { bus, slot, rendition } => {
                if let Some(bus) = buses.at_mut(bus) {
                    bus.give_back(slot, rendition);
                }
            }
        });
    }

    /// Lets go of what has faded out.
    fn retire(&mut self) {
        for (_, sink) in self.sinks.iter_mut() {
            if let Some(old) = sink.turn() {
                self.mailbox.discard(old);
            }
        }
        let Self { sinks, mailbox, .. } = self;
        for (_, bus) in self.buses.iter_mut() {
            let parts = bus.turn(|fits| {
                for (_, sink) in sinks.iter_mut() {
                    if let Ok(at) = fits.binary_search_by_key(&sink.id(), |(id, _)| *id) {
                        sink.refit(&mut fits[at].1);
                    }
                }
            });
            if let Some(parts) = parts {
                mailbox.discard(parts);
            }
            while let Some(member) = bus.retire() {
                mailbox.discard(member);
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
        for (_, source) in self.sources.iter_mut() {
            source.receive(now);
        }
        for (_, sink) in self.sinks.iter_mut() {
            if let Some(Heard::Source(slot)) = sink.heard()
                && let Some(source) = self.sources.at_mut(slot)
            {
                source.listened = true;
            }
        }
        for (_, bus) in self.buses.iter_mut() {
            bus.ask(&mut self.sources);
        }
        self.decode(now);
        // Now every level is known: who is to be heard, and was not decoded for it?
        for (_, bus) in self.buses.iter_mut() {
            bus.choose(now, &mut self.sources);
        }
        self.decode(now);
        for (_, source) in self.sources.iter_mut() {
            source.pass(now);
        }
        self.mix();
        self.encode(now);
        let mut encoders: u64 = self.buses.iter().map(|(_, bus)| bus.shared_encoders()).sum();
        for (slot, sink) in self.sinks.iter_mut() {
            let bus = match sink.heard() {
                Some(Heard::Bus { bus, .. }) => self.buses.at(bus),
                _ => None,
            };
            if sink.send(bus) {
                self.wakes.note(slot, sink.outlet());
            }
            encoders += u64::from(sink.encodes);
        }
        self.counters.encoders.store(encoders, Relaxed);
        self.wakes.send(|slot| self.sinks.at(slot).map(AudioSink::outlet));
        if self.changed {
            self.changed = false;
            self.retire();
        }
    }

    fn idle(&mut self) -> bool {
        self.take_commands();
        // A bus without streams has nothing to do.
        let idle = self.sources.len() + self.sinks.len() == 0;
        if idle {
            self.counters.encoders.store(0, Relaxed);
        }
        idle
    }

    fn clear(&self) {
        self.mailbox.clear();
    }

    fn counters(&self) -> &Arc<LaneCounters> {
        &self.counters
    }
}
