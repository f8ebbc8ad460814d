//! One sink of sound: 20 ms of samples in each tick, packets of whatever length the receiver wants
//! out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::AudioTuning;
use crosspoint_codecs::format::AudioFormat;
use crosspoint_codecs::kernels::resample::Resampler;

use super::audio::LONGEST_TICK;
use super::handle::EngineError;
use super::hear::AudioSource;
use super::packets::{Encoding, Packet};
use super::player::Player;
use super::port::{Outlet, StreamId};
use super::route::Route;
use super::stats::{SinkCounters, count};

/// Ticks between two looks at the receiver's reports.
const TUNE_EVERY: u8 = 50;
/// FEC costs a third of the bitrate: worth it from this loss on, until there is none.
const FEC_FROM_PERCENT: u8 = 3;
/// Speech is never given more than this, whatever the receiver could take.
const SPEECH_BITRATE: u32 = 32_000;

/// A sink.
pub(super) struct AudioSink {
    id: StreamId,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    encoding: Box<Encoding>,
    routing: Option<Box<Routing>>,
    /// Takes over when what is heard has faded out.
    next: Option<Box<Routing>>,
    edge: Edge,
    /// Slot of the source that is heard.
    heard: Option<usize>,
    tune_in: u8,
    bytes: u32,
}

/// A change fades out for a tick, then in for a tick.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    None,
    Out,
    In,
}

/// The part of a sink that depends on where its sound comes from.
pub(super) struct Routing {
    route: Route,
    from: u32,
    to: u32,
    resampler: Option<Resampler>,
    player: Option<Player>,
}

pub(super) fn sink(
    id: StreamId,
    outlet: Outlet,
    counters: Arc<SinkCounters>,
    encoding: Box<Encoding>,
) -> Box<AudioSink> {
    Box::new(AudioSink {
        id,
        outlet,
        counters,
        encoding,
        routing: None,
        next: None,
        edge: Edge::None,
        heard: None,
        tune_in: 0,
        bytes: 0,
    })
}

pub(super) fn routing(
    route: Route,
    from: Option<&AudioFormat>,
    to: &AudioFormat,
) -> Result<Box<Routing>, EngineError> {
    let (from, to) = (from.map_or(0, |format| format.codec.sample_rate()), to.codec.sample_rate());
    let resampler = if from != 0 && from != to { Some(Resampler::new(from, to)?) } else { None };
    let player = match route {
        Route::Play(playback) => Some(Player::new(playback, to)),
        Route::Silence | Route::Transcode { .. } => None,
    };
    Ok(Box::new(Routing { route, from, to, resampler, player }))
}

impl AudioSink {
    pub(super) const fn id(&self) -> StreamId {
        self.id
    }

    pub(super) const fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Slot of the source that is heard.
    pub(super) const fn heard(&self) -> Option<usize> {
        self.heard
    }

    /// The source that should be heard and is not.
    pub(super) fn unlinked(&self) -> Option<StreamId> {
        match self.routing.as_deref()?.route {
            Route::Transcode { source } if self.heard.is_none() && self.edge != Edge::Out => Some(source),
            _ => None,
        }
    }

    pub(super) fn link(&mut self, slot: Option<usize>) {
        if slot.is_some() {
            self.heard = slot;
            self.edge = Edge::In;
        }
    }

    /// The source in `slot` goes after this tick.
    pub(super) fn lose(&mut self, slot: usize) {
        if self.heard == Some(slot) {
            self.edge = Edge::Out;
        }
    }

    pub(super) fn set_encoding(&mut self, part: &mut Box<Encoding>) {
        std::mem::swap(&mut self.encoding, part);
        self.tune_in = 0;
    }

    /// What is heard after this tick. Returns what will never be heard.
    pub(super) fn set_routing(&mut self, part: Box<Routing>) -> Option<Box<Routing>> {
        if self.routing.as_ref().is_none_or(|old| old.to != self.encoding.rate) {
            // Nothing that could fade out: there was nothing, or it was for the codec before.
            self.heard = None;
            self.edge = Edge::In;
            return self.routing.replace(part);
        }
        self.edge = Edge::Out;
        self.next.replace(part)
    }

    /// After a tick: from what has faded out to what comes. Returns what is done with.
    pub(super) fn turn(&mut self) -> Option<Box<Routing>> {
        if self.edge != Edge::Out {
            return None;
        }
        self.edge = Edge::In;
        self.heard = None;
        let next = self.next.take()?;
        self.routing.replace(next)
    }

    /// Takes 20 ms of sound and sends what packets that makes. True when there was one.
    pub(super) fn feed(&mut self, now: Instant, source: Option<&AudioSource>) -> bool {
        let Some(routing) = self.routing.as_deref_mut() else {
            return false;
        };
        if routing.route == Route::Silence && self.edge != Edge::Out {
            self.edge = Edge::None;
            self.encoding.len = 0;
            return false;
        }
        let mut block = [0; LONGEST_TICK];
        let tick = usize::try_from(self.encoding.rate / 50).unwrap_or(0).min(LONGEST_TICK);
        let block = &mut block[..tick];
        if routing.to == self.encoding.rate {
            routing.render(source, block);
        }
        match self.edge {
            Edge::None => (),
            Edge::In => fade(block.iter_mut()),
            Edge::Out => fade(block.iter_mut().rev()),
        }
        if self.edge == Edge::In {
            self.edge = Edge::None;
        }
        self.tune();
        self.encoding.append(now, block);
        let mut sent = false;
        while let Some(encoded) = self.encoding.packet() {
            sent |= self.send(encoded);
        }
        sent
    }

    fn send(&mut self, packet: Packet) -> bool {
        let frame = match packet {
            Packet::Frame(frame) => frame,
            Packet::Silent => return false,
            Packet::Refused => {
                count(&self.counters.errors);
                return false;
            }
            Packet::NoRoom => {
                count(&self.counters.overflow);
                return false;
            }
        };
        let len = frame.data.len();
        if self.outlet.frames.push(frame).is_err() {
            count(&self.counters.overflow);
            return false;
        }
        count(&self.counters.encoded);
        count(&self.counters.keyframes);
        self.counters.bytes.fetch_add(u64::try_from(len).unwrap_or(0), Relaxed);
        self.bytes = self.bytes.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        true
    }

    /// Once a second: the encoder follows what the receiver reports.
    fn tune(&mut self) {
        if self.tune_in > 0 {
            self.tune_in -= 1;
            return;
        }
        self.tune_in = TUNE_EVERY - 1;
        self.counters.bitrate.store(self.bytes.saturating_mul(8), Relaxed);
        self.bytes = 0;
        let wishes = &self.outlet.wishes;
        let loss = wishes.reported_loss();
        let encoding = &mut *self.encoding;
        let tuning = AudioTuning {
            bitrate: wishes.bitrate_limit().map(|limit| limit.min(SPEECH_BITRATE)),
            loss_percent: loss,
            fec: encoding.fec && (loss >= FEC_FROM_PERCENT || (loss > 0 && encoding.tuning.fec)),
            dtx: encoding.tuning.dtx,
        };
        if tuning != encoding.tuning {
            encoding.tuning = tuning;
            if encoding.encoder.tune(tuning).is_err() {
                count(&self.counters.errors);
            }
            self.counters.target_bitrate.store(tuning.bitrate.unwrap_or(0), Relaxed);
        }
    }
}

impl Routing {
    /// Fills `block` with what is heard; it holds silence.
    fn render(&mut self, source: Option<&AudioSource>, block: &mut [i16]) {
        if let Some(player) = &mut self.player {
            player.fill(block);
            return;
        }
        let Some((heard, rate)) = source.map(AudioSource::block) else {
            return;
        };
        if rate != self.from {
            return;
        }
        match &mut self.resampler {
            // It gives 20 ms for 20 ms; what it could not give stays silence.
            Some(resampler) => drop(resampler.process(heard, block)),
            None if heard.len() == block.len() => block.copy_from_slice(heard),
            None => (),
        }
    }
}

/// From silence to full level over all of `samples`.
fn fade<'a>(samples: impl ExactSizeIterator<Item = &'a mut i16>) {
    let len = i32::try_from(samples.len()).unwrap_or(i32::MAX).max(1);
    for (at, sample) in (0..len).zip(samples) {
        // Smaller than the sample, so it fits.
        *sample = i16::try_from(i32::from(*sample) * at / len).unwrap_or(0);
    }
}
