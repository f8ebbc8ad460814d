//! Buses, as the callers know them: who is in each, who hears it, at which rate it runs and in which
//! forms it is encoded for many.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crosspoint_codecs::format::{AudioFormat, MediaFormat};
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::limit::Limiter;
use crosspoint_codecs::kernels::mix::Gain;

use super::super::activity::{Activity, ActivityCounters};
use super::super::audio::AudioCommand;
use super::super::bus::{self, Refit, RenditionId};
use super::super::fit::Fit;
use super::super::parts::Codecs;
use super::super::port::StreamId;
use super::super::route::{BusConfig, BusId, Route};
use super::super::speak::{self, SPEECH_BITRATE};
use super::super::stats::{BusCounters, BusStats};
use super::{Command, EngineError, EngineHandle, Registers, lock};

/// Commands that a change may take for each bus that it touches: two forms come, two go, the rate
/// changes, a member joins.
const COMMANDS_A_BUS: usize = 6;

/// What is known of a bus.
pub(super) struct BusEntry {
    limit: bool,
    rate: u32,
    members: BTreeMap<StreamId, MemberEntry>,
    renditions: Vec<RenditionEntry>,
    counters: Arc<BusCounters>,
}

/// One member of a bus.
struct MemberEntry {
    gain: Gain,
    activity: Arc<ActivityCounters>,
}

/// One form of a bus.
struct RenditionEntry {
    id: RenditionId,
    format: AudioFormat,
}

impl EngineHandle {
    /// Opens a mix. Nothing happens when it is there already.
    pub fn add_bus(&self, id: BusId, config: &BusConfig) -> Result<(), EngineError> {
        self.with(|registers| {
            if registers.buses.contains_key(&id) {
                return Ok(());
            }
            if registers.buses.len() >= registers.streams {
                return Err(EngineError::Full);
            }
            let counters = Arc::new(BusCounters::default());
            let bus = bus::bus(config, id, counters.clone());
            registers.send(vec![Command::Audio(AudioCommand::Bus(bus))])?;
            let (members, renditions) = (BTreeMap::new(), Vec::new());
            let entry = BusEntry { limit: config.limit, rate: 0, members, renditions, counters };
            registers.buses.insert(id, entry);
            Ok(())
        })
    }

    /// Closes a mix; whoever hears it hears nothing from then on.
    pub fn remove_bus(&self, id: BusId) -> Result<(), EngineError> {
        self.with(|registers| {
            registers.send(vec![Command::Audio(AudioCommand::RemoveBus(id))])?;
            registers.buses.remove(&id);
            Ok(())
        })
    }

    /// Mixes `source` into `bus` from the next tick on; it fades in. A member that is there already
    /// gets the gain.
    pub fn join(&self, bus: BusId, source: StreamId, gain: Gain) -> Result<(), EngineError> {
        self.with(|registers| {
            if !registers.sources.contains_key(&source) {
                return Err(EngineError::Unknown(source));
            }
            let buses = registers.ready(0, [bus])?;
            let entry = registers.buses.get_mut(&bus).ok_or(EngineError::UnknownBus(bus))?;
            if let Some(member) = entry.members.get_mut(&source) {
                member.gain = gain;
                let command = AudioCommand::Gain { bus, member: source, gain };
                return registers.send(vec![Command::Audio(command)]);
            }
            entry.members.insert(source, MemberEntry { gain, activity: Arc::default() });
            let mut batch = Vec::new();
            registers.rejoin(&*self.0.codecs, source, &buses, &mut batch)?;
            registers.send(batch)
        })
    }

    /// Takes `source` out of `bus`; it fades out.
    pub fn leave(&self, bus: BusId, source: StreamId) -> Result<(), EngineError> {
        self.with(|registers| {
            let buses = registers.ready(1, [bus])?;
            let entry = registers.buses.get_mut(&bus).ok_or(EngineError::UnknownBus(bus))?;
            if entry.members.remove(&source).is_none() {
                return Ok(());
            }
            let mut batch = vec![Command::Audio(AudioCommand::Leave { bus, member: source })];
            registers.settle(&*self.0.codecs, &buses, &mut batch)?;
            registers.send(batch)
        })
    }

    /// How loud `source` is in `bus` from the next tick on, in which the change fades.
    pub fn set_gain(&self, bus: BusId, source: StreamId, gain: Gain) -> Result<(), EngineError> {
        self.with(|registers| {
            registers.ready(1, None)?;
            let entry = registers.buses.get_mut(&bus).ok_or(EngineError::UnknownBus(bus))?;
            let member = entry.members.get_mut(&source).ok_or(EngineError::Unknown(source))?;
            member.gain = gain;
            registers.send(vec![Command::Audio(AudioCommand::Gain { bus, member: source, gain })])
        })
    }

    /// What the engine knows of `bus`.
    pub fn bus_stats(&self, bus: BusId) -> Option<BusStats> {
        lock(&self.0.registers).buses.get(&bus).map(|entry| entry.counters.snapshot())
    }

    /// The members of `bus` by number, and what each does. A layout asks this often: it touches
    /// nothing that the tick waits for.
    pub fn bus_activity(&self, bus: BusId) -> Vec<(StreamId, Activity)> {
        let registers = lock(&self.0.registers);
        let Some(entry) = registers.buses.get(&bus) else { return Vec::new() };
        let now = entry.counters.now.load(Relaxed);
        entry.members.iter().map(|(id, member)| (*id, member.activity.snapshot(now))).collect()
    }
}

impl Registers {
    /// Makes sure that `commands`, and what each of `buses` may need, fit. Gives `buses` back.
    pub(super) fn ready(
        &self,
        commands: usize,
        buses: impl IntoIterator<Item = BusId>,
    ) -> Result<Vec<BusId>, EngineError> {
        let mut buses: Vec<BusId> = buses.into_iter().collect();
        buses.dedup();
        if !self.audio.fits(commands + buses.len() * COMMANDS_A_BUS) {
            return Err(EngineError::Overloaded);
        }
        Ok(buses)
    }

    /// Buses that `source` is in.
    pub(super) fn buses_with(&self, source: StreamId) -> Vec<BusId> {
        let with = self.buses.iter().filter(|(_, entry)| entry.members.contains_key(&source));
        with.map(|(id, _)| *id).collect()
    }

    /// Takes `source` out of all buses.
    pub(super) fn leave_all(&mut self, source: StreamId, batch: &mut Vec<Command>) {
        for (bus, entry) in &mut self.buses {
            if entry.members.remove(&source).is_some() {
                batch.push(Command::Audio(AudioCommand::Leave { bus: *bus, member: source }));
            }
        }
    }

    /// Puts `source` into `buses`, of which it is a member, in the format that it has now.
    pub(super) fn rejoin(
        &mut self,
        codecs: &dyn Codecs,
        source: StreamId,
        buses: &[BusId],
        batch: &mut Vec<Command>,
    ) -> Result<(), EngineError> {
        self.settle(codecs, buses, batch)?;
        let Some(rate) = self.sources.get(&source).map(|entry| rate(&entry.format)) else { return Ok(()) };
        for bus in buses {
            let Some(entry) = self.buses.get(bus) else { continue };
            let Some(held) = entry.members.get(&source) else { continue };
            let fit = Fit::new(rate, entry.rate)?;
            let member = bus::member(source, held.gain, fit, held.activity.clone());
            batch.push(Command::Audio(AudioCommand::Join { bus: *bus, member }));
        }
        Ok(())
    }

    /// Brings rate and forms of `buses` into line with who is in them and who hears them.
    pub(super) fn settle(
        &mut self,
        codecs: &dyn Codecs,
        buses: &[BusId],
        batch: &mut Vec<Command>,
    ) -> Result<(), EngineError> {
        for bus in buses {
            self.settle_rate(*bus, batch)?;
            self.settle_renditions(*bus, codecs, batch)?;
        }
        Ok(())
    }

    /// The rate is that of the best member or listener: what comes in loses nothing, and a room of
    /// telephones costs what telephones cost.
    fn settle_rate(&mut self, bus: BusId, batch: &mut Vec<Command>) -> Result<(), EngineError> {
        let Some(entry) = self.buses.get(&bus) else { return Ok(()) };
        let sources: Vec<(StreamId, u32)> =
            entry.members.keys().filter_map(|id| Some((*id, rate(&self.sources.get(id)?.format)))).collect();
        let mut sinks: Vec<(StreamId, u32)> =
            self.listeners(bus).map(|(id, format)| (id, format.codec.sample_rate())).collect();
        sinks.sort_unstable_by_key(|(id, _)| *id);
        let rates = sources.iter().chain(&sinks).map(|(_, rate)| *rate);
        let Some(wanted) = rates.max().filter(|wanted| *wanted != entry.rate) else { return Ok(()) };
        let mut part = Box::new(Refit {
            rate: wanted,
            limiter: entry.limit.then(|| Limiter::new(Cpu::detect(), wanted)).transpose()?,
            members: Vec::new(),
            renditions: Vec::new(),
            sinks: Vec::new(),
        });
        for (id, rate) in sources {
            part.members.push((id, Box::new(Fit::new(rate, wanted)?)));
        }
        for (id, rate) in sinks {
            part.sinks.push((id, Box::new(Fit::of_sums(wanted, rate, entry.limit)?)));
        }
        for it in &entry.renditions {
            part.renditions.push((it.id, Box::new(Fit::new(wanted, it.format.codec.sample_rate())?)));
        }
        batch.push(Command::Audio(AudioCommand::Refit { bus, part }));
        if let Some(entry) = self.buses.get_mut(&bus) {
            entry.rate = wanted;
        }
        Ok(())
    }

    /// A form for each that somebody could take, and none that nobody could.
    fn settle_renditions(
        &mut self,
        bus: BusId,
        codecs: &dyn Codecs,
        batch: &mut Vec<Command>,
    ) -> Result<(), EngineError> {
        let mut wanted: Vec<AudioFormat> = Vec::new();
        for form in self.listeners(bus).flat_map(|(_, format)| forms(format)).flatten() {
            if !wanted.contains(&form) {
                wanted.push(form);
            }
        }
        let Some(entry) = self.buses.get_mut(&bus) else { return Ok(()) };
        entry.renditions.retain(|it| {
            let stays = wanted.contains(&it.format);
            if !stays {
                batch.push(Command::Audio(AudioCommand::RemoveRendition { bus, id: it.id }));
            }
            stays
        });
        wanted.retain(|form| entry.renditions.iter().all(|it| it.format != *form));
        for format in wanted {
            self.renditions += 1;
            let id = RenditionId(self.renditions);
            let part = bus::rendition(codecs, id, &format, entry.rate)?;
            batch.push(Command::Audio(AudioCommand::Rendition { bus, part }));
            entry.renditions.push(RenditionEntry { id, format });
        }
        Ok(())
    }

    /// What brings sink `id` to hear `bus`.
    pub(super) fn mixing(
        &self,
        id: StreamId,
        format: &AudioFormat,
        bus: BusId,
    ) -> Result<Command, EngineError> {
        let entry = self.buses.get(&bus);
        let renditions = forms(format).map(|form| {
            let form = form?;
            entry?.renditions.iter().find(|it| it.format == form).map(|it| it.id)
        });
        let fit = entry
            .filter(|entry| entry.rate != 0)
            .map(|entry| Fit::of_sums(entry.rate, format.codec.sample_rate(), entry.limit))
            .transpose()?;
        let part = speak::routing(Route::Mix { bus }, fit, format, renditions, Arc::default());
        Ok(Command::Audio(AudioCommand::Route { sink: id, part }))
    }

    /// Sinks that hear `bus`, and how.
    fn listeners(&self, bus: BusId) -> impl Iterator<Item = (StreamId, &AudioFormat)> {
        self.sinks.iter().filter_map(move |(id, sink)| match (&sink.format, sink.route) {
            (MediaFormat::Audio(format), Route::Mix { bus: heard }) if heard == bus => Some((*id, format)),
            _ => None,
        })
    }
}

/// The forms of a mix that a sink of `format` may take: for a road without loss, and with forward
/// error correction where the receiver makes use of it. What the receiver limits below what is made
/// for many is made for it alone.
fn forms(format: &AudioFormat) -> [Option<AudioFormat>; 2] {
    if format.max_bitrate.is_some_and(|limit| limit < SPEECH_BITRATE) {
        return [const { None }; 2];
    }
    let plain = AudioFormat { channels: 1, fec: false, max_bitrate: None, ..format.clone() };
    let lossy = format.fec.then(|| AudioFormat { fec: true, ..plain.clone() });
    [Some(plain), lossy]
}

fn rate(format: &MediaFormat) -> u32 {
    format.codec().sample_rate()
}
