//! A mix of many: who is in it, their sum, and each form in which it is encoded once for all who
//! want it so.
//!
//! ```text
//! sources -> level -> who talks? -> gain -> sum -+-> all -------> a rendition each -> listeners
//!                                                +-> minus own -> a talker's own encoder
//! ```
//!
//! Sums are exact: 32 bits hold 65 536 parties at full scale, and each mix is limited, or cut to 16
//! bits, once.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::frame::EncodedFrame;
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::level::SILENCE;
use crosspoint_codecs::kernels::limit::Limiter;
use crosspoint_codecs::kernels::mix::{self, Gain};

use super::agc::Agc;
use super::audio::LONGEST_TICK;
use super::comfort::Comfort;
use super::dominant::{Dominance, Voice};
use super::fit::{Fit, saturate};
use super::hear::AudioSource;
use super::lane::{Index, Slots};
use super::packets::Encoding;
use super::port::StreamId;
use super::route::{BusConfig, BusId};
use super::stats::BusCounters;
use super::talkers::{Presence, choose};

mod member;
mod rendition;

pub(super) use member::{Member, member};
pub(super) use rendition::{Rendition, RenditionId, rendition};

/// The mix of a room.
pub(super) struct Bus {
    id: BusId,
    most: usize,
    agc: bool,
    counters: Arc<BusCounters>,
    rate: u32,
    /// Takes over after this tick, which fades out.
    next: Option<Box<Refit>>,
    members: Slots<Member>,
    /// Of `members`, as of the last [`Self::link`].
    index: Index<StreamId>,
    /// By the slots of `members`.
    presences: Box<[Presence]>,
    voices: Box<[Voice]>,
    dominance: Dominance,
    renditions: Slots<Rendition>,
    sum: mix::Bus,
    comfort: Option<Comfort>,
    limiter: Option<Limiter>,
    /// The limiter as it was before this tick.
    earlier: Option<Limiter>,
    all: [i16; LONGEST_TICK],
    /// Sinks that hear it in this tick, and those of them with an encoder of their own.
    listeners: u64,
    alone: u64,
}

/// The parts of a bus and of those around it that depend on its rate.
pub(super) struct Refit {
    pub(super) rate: u32,
    pub(super) limiter: Option<Limiter>,
    /// Sorted by number.
    pub(super) members: Vec<(StreamId, Box<Fit>)>,
    pub(super) renditions: Vec<(RenditionId, Box<Fit>)>,
    /// Sinks that hear the bus, sorted by number.
    pub(super) sinks: Vec<(StreamId, Box<Fit>)>,
}

pub(super) fn bus(config: &BusConfig, id: BusId, counters: Arc<BusCounters>) -> Box<Bus> {
    Box::new(Bus {
        id,
        most: config.talkers,
        agc: config.agc,
        counters,
        rate: 0,
        next: None,
        members: Slots::new(config.members),
        index: Index::new(config.members),
        presences: vec![Presence::NEW; config.members].into(),
        voices: vec![Voice::NEW; config.members].into(),
        dominance: Dominance::new(),
        renditions: Slots::new(config.members),
        sum: mix::Bus::new(Cpu::detect()),
        comfort: config.comfort.then(Comfort::new),
        limiter: None,
        earlier: None,
        all: [0; LONGEST_TICK],
        listeners: 0,
        alone: 0,
    })
}

impl Bus {
    pub(super) const fn id(&self) -> BusId {
        self.id
    }

    /// Takes a member, or the new parts of one that is there; gives back what is of no use.
    pub(super) fn join(&mut self, mut member: Box<Member>) -> Option<Box<Member>> {
        if let Some(there) = self.members.by(|it| it.id == member.id) {
            std::mem::swap(&mut there.fit, &mut member.fit);
            std::mem::swap(&mut there.activity, &mut member.activity);
            if std::mem::take(&mut there.leaving) {
                there.agc = Agc::NEW;
            }
            there.gain = member.gain;
            return Some(member);
        }
        match self.members.insert(member) {
            Ok(slot) => {
                self.presences[slot] = Presence::NEW;
                self.voices[slot] = Voice::NEW;
                None
            }
            Err(member) => Some(member),
        }
    }

    /// The member fades out in the next tick and goes.
    pub(super) fn leave(&mut self, id: StreamId) {
        if let Some(member) = self.members.by(|member| member.id == id) {
            member.leaving = true;
        }
    }

    pub(super) fn set_gain(&mut self, id: StreamId, gain: Gain) {
        if let Some(member) = self.members.by(|member| member.id == id) {
            member.gain = gain;
        }
    }

    /// Takes a rendition; gives it back where there is no room.
    pub(super) fn take(&mut self, rendition: Box<Rendition>) -> Option<Box<Rendition>> {
        self.renditions.insert(rendition).err()
    }

    pub(super) fn drop_rendition(&mut self, id: RenditionId) -> Option<Box<Rendition>> {
        self.renditions.find(|it| it.id == id).and_then(|slot| self.renditions.take(slot))
    }

    /// Another rate takes over after the next tick. Gives back what will never be used.
    pub(super) const fn refit(&mut self, parts: Box<Refit>) -> Option<Box<Refit>> {
        self.next.replace(parts)
    }

    /// A sink hears it in this tick, with or without an encoder of its own.
    pub(super) const fn note_listener(&mut self, alone: bool) {
        self.listeners += 1;
        self.alone += if alone { 1 } else { 0 };
    }

    /// Asks for those of `sources` that have to be decoded whatever their level: who is mixed
    /// fades out at least, and of some only their sound tells how loud they are.
    pub(super) fn ask(&mut self, sources: &mut Slots<AudioSource>) {
        for (_, member) in self.members.iter_mut() {
            if let Some(source) = member.source.and_then(|source| sources.at_mut(source)) {
                source.awaited = true;
                source.listened |= member.heard() || (member.open() && source.mute());
            }
        }
    }

    /// Finds the members' sources anew.
    pub(super) fn link(&mut self, find: impl Fn(StreamId) -> Option<usize>) {
        for (_, member) in self.members.iter_mut() {
            member.source = find(member.id);
        }
        self.index.fill(self.members.iter().map(|(slot, member)| (member.id, false, slot)));
    }

    /// Slot of the member of that number, as of the last [`Self::link`].
    pub(super) fn find(&self, id: StreamId) -> Option<usize> {
        self.index.find(id).map(|(_, slot)| slot)
    }

    pub(super) fn find_rendition(&self, id: RenditionId) -> Option<usize> {
        self.renditions.find(|rendition| rendition.id == id)
    }

    /// Who talks in this tick, and who leads. Asks for those of `sources` that are to be mixed.
    pub(super) fn choose(&mut self, now: Instant, sources: &mut Slots<AudioSource>) {
        for (slot, member) in self.members.iter_mut() {
            let heard = member.source.and_then(|source| sources.at(source));
            member.level = heard.filter(|_| member.open()).map_or(SILENCE, AudioSource::level);
            self.presences[slot].hear(member.level);
            self.voices[slot].hear(member.level);
            if self.agc {
                member.agc.hear(member.level, self.voices[slot].active());
            }
        }
        choose(&mut self.presences, self.most);
        for (slot, member) in self.members.iter_mut() {
            let (talks, sounds) = (self.presences[slot].talks(), self.voices[slot].active());
            member.activity.note(now, member.level, talks, sounds);
            if let Some(source) = member.source.filter(|_| talks).and_then(|source| sources.at_mut(source)) {
                source.listened = true;
            }
        }
        let leads = self.dominance.choose(&self.voices).and_then(|slot| self.members.at(slot));
        self.counters.lead(leads.map(|member| member.id));
        self.counters.now.store(now.as_nanos(), Relaxed);
    }

    /// The sum of this tick.
    pub(super) fn mix(&mut self, sources: &Slots<AudioSource>) {
        let tick = self.tick();
        // A tick is never longer than a block.
        let _ = self.sum.begin(tick);
        let mut talkers = 0;
        for (slot, member) in self.members.iter_mut() {
            let source = member.source.and_then(|source| sources.at(source));
            let stays = self.next.is_none() && !member.leaving && source.is_some_and(|it| !it.leaving);
            let gain = if stays && self.presences[slot].talks() { member.loudness() } else { Gain::ZERO };
            member.render(source, gain, tick);
            member.mixed = member.mixed && self.sum.add(&member.block[..tick], member.fade).is_ok();
            talkers += u64::from(member.mixed);
        }
        if let Some(comfort) = &mut self.comfort {
            comfort.mix(talkers == 0, &mut self.sum, tick);
        }
        self.earlier.clone_from(&self.limiter);
        saturate(self.limiter.as_mut(), self.sum.sum(), &mut self.all[..tick]);
        self.counters.talkers.store(talkers, Relaxed);
    }

    /// Whether the member in that slot is in this tick's sum.
    pub(super) fn mixes(&self, own: Option<usize>) -> bool {
        own.and_then(|slot| self.members.at(slot)).is_some_and(|member| member.mixed)
    }

    /// The sum of everybody but the member in slot `own`, through `fit` into `block`.
    pub(super) fn without(&self, own: Option<usize>, fit: &mut Fit, block: &mut [i16]) {
        let own = own.and_then(|slot| self.members.at(slot)).filter(|member| member.mixed);
        let tick = self.tick();
        match own {
            Some(own) => {
                let mut room = [0; LONGEST_TICK];
                let sums = &mut room[..tick];
                // Both are of this tick.
                let _ = self.sum.minus_wide(&own.block[..tick], own.fade, sums);
                fit.render_sums(sums, self.rate, block);
            }
            None => {
                fit.render_sums(self.sum.sum(), self.rate, block);
            }
        }
    }

    /// The rendition in `slot` is taken in this tick. If it did not run it goes on from where
    /// `before` was, who heard the same.
    pub(super) fn want(&mut self, slot: usize, before: Option<(&Fit, &Encoding)>) {
        let Some(rendition) = self.renditions.at_mut(slot) else { return };
        if !rendition.runs && !rendition.wanted {
            match before {
                Some((fit, encoding)) => {
                    rendition.fit.adopt(fit, None);
                    rendition.encoding.adopt(encoding);
                }
                None => {
                    rendition.fit.reset();
                    rendition.encoding.reset();
                }
            }
        }
        rendition.wanted = true;
    }

    /// Whoever leaves the rendition in `slot` and goes on by himself goes on as it would.
    pub(super) fn hand_over(&self, slot: usize, fit: &mut Fit, encoding: &mut Encoding) {
        if let Some(rendition) = self.renditions.at(slot).filter(|rendition| rendition.runs) {
            fit.adopt(&rendition.fit, self.earlier.as_ref());
            encoding.adopt(&rendition.encoding);
        }
    }

    /// Hands out the mix in each form that somebody takes, for it to be encoded; what costs little is
    /// encoded here. What was handed out comes back to [`Self::give_back`].
    pub(super) fn encode(&mut self, now: Instant, mut hand_out: impl FnMut(usize, Box<Rendition>)) {
        let tick = self.tick();
        let mut shared = 0;
        for slot in 0..self.renditions.end() {
            let Some(rendition) = self.renditions.at_mut(slot) else { continue };
            rendition.clear();
            rendition.runs = std::mem::take(&mut rendition.wanted);
            if !rendition.runs {
                continue;
            }
            shared += 1;
            rendition.hear(now, &self.all[..tick], self.rate);
            if !rendition.encoding.is_heavy() {
                rendition.pack();
                rendition.finish(&self.counters);
            } else if let Some(rendition) = self.renditions.lend(slot) {
                hand_out(slot, rendition);
            }
        }
        self.counters.shared.store(shared, Relaxed);
        self.counters.private.store(std::mem::take(&mut self.alone), Relaxed);
        self.counters.listeners.store(std::mem::take(&mut self.listeners), Relaxed);
    }

    /// Takes back what was handed out, with its packets.
    pub(super) fn give_back(&mut self, slot: usize, mut rendition: Box<Rendition>) {
        rendition.finish(&self.counters);
        self.renditions.give_back(slot, rendition);
    }

    /// Encoders that ran in this tick, each for all who take the same form.
    pub(super) fn shared_encoders(&self) -> u64 {
        self.counters.shared.load(Relaxed)
    }

    /// What the rendition in `slot` made in this tick.
    pub(super) fn packets(&self, slot: usize) -> impl Iterator<Item = &EncodedFrame> {
        self.renditions.at(slot).map_or(&[][..], |rendition| &rendition.packets).iter().flatten()
    }

    /// After a tick: from the parts for one rate to those for the next, which are given back with
    /// the old ones in them; `sinks` gets those of the sinks.
    pub(super) fn turn(&mut self, sinks: impl FnOnce(&mut [(StreamId, Box<Fit>)])) -> Option<Box<Refit>> {
        let mut parts = self.next.take()?;
        self.rate = parts.rate;
        std::mem::swap(&mut self.limiter, &mut parts.limiter);
        for (_, member) in self.members.iter_mut() {
            if let Ok(at) = parts.members.binary_search_by_key(&member.id, |(id, _)| *id) {
                std::mem::swap(&mut member.fit, &mut parts.members[at].1);
            }
        }
        for (_, rendition) in self.renditions.iter_mut() {
            if let Some((_, fit)) = parts.renditions.iter_mut().find(|(id, _)| *id == rendition.id) {
                std::mem::swap(&mut rendition.fit, fit);
            }
        }
        sinks(&mut parts.sinks);
        Some(parts)
    }

    /// After a tick: a member that has faded out.
    pub(super) fn retire(&mut self) -> Option<Box<Member>> {
        let slot = self.members.find(|member| member.leaving)?;
        self.presences[slot] = Presence::NEW;
        self.voices[slot] = Voice::NEW;
        self.dominance.forget(slot);
        self.members.take(slot)
    }

    fn tick(&self) -> usize {
        usize::try_from(self.rate / 50).unwrap_or(0).min(LONGEST_TICK)
    }
}
