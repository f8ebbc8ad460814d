//! One sink of sound: 20 ms of samples in each tick, packets of whatever length the receiver wants
//! out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crosspoint_codecs::audio::opus;
use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::AudioTuning;
use crosspoint_codecs::format::AudioFormat;
use crosspoint_codecs::frame::EncodedFrame;

use super::audio::LONGEST_TICK;
use super::bus::{Bus, RenditionId};
use super::fit::Fit;
use super::hear::AudioSource;
use super::packets::{Encoding, Packet};
use super::player::Player;
use super::port::{Outlet, StreamId};
use super::route::{BusId, Route};
use super::stats::{SinkCounters, count};

/// Ticks between two looks at the receiver's reports.
const TUNE_EVERY: u8 = 50;
/// FEC costs a third of the bitrate: worth it from this loss on, until there is none.
const FEC_FROM_PERCENT: u8 = 3;
/// Speech is never given more than this, whatever the receiver could take.
pub(super) const SPEECH_BITRATE: u32 = opus::SPEECH_BITRATE;

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
    heard: Option<Heard>,
    /// Slot of the rendition whose packets it takes, in place of an encoder of its own.
    shared: Option<usize>,
    /// Its own encoder ran in this tick.
    pub(super) encodes: bool,
    tune_in: u8,
    bytes: u32,
}

/// What a sink hears, by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Source(usize),
    /// A bus, but for the member that is the sink's own source.
    Bus {
        bus: usize,
        own: Option<usize>,
        renditions: [Option<usize>; 2],
    },
}

/// What a sink should hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Source(StreamId),
    Bus { bus: BusId, renditions: [Option<RenditionId>; 2] },
}

/// The same with what it sounds like in this tick.
pub(super) enum Sound<'a> {
    Nothing,
    Source(&'a AudioSource),
    Bus { bus: &'a Bus, own: Option<usize> },
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
    to: u32,
    fit: Option<Box<Fit>>,
    player: Option<Player>,
    /// The forms of the mix that it may take: for a road without loss, for one with.
    renditions: [Option<RenditionId>; 2],
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
        shared: None,
        encodes: false,
        tune_in: 0,
        bytes: 0,
    })
}

/// To `route` for a sink that wants `to`; what it hears comes through `fit`, or is in `clip`.
pub(super) fn routing(
    route: Route,
    fit: Option<Fit>,
    to: &AudioFormat,
    renditions: [Option<RenditionId>; 2],
    clip: Arc<[i16]>,
) -> Box<Routing> {
    let (to, fit) = (to.codec.sample_rate(), fit.map(Box::new));
    let player = match route {
        Route::Play(playback) => Some(Player::new(playback, to, clip)),
        Route::Silence | Route::Transcode { .. } | Route::Mix { .. } | Route::Compose { .. } => None,
    };
    Box::new(Routing { route, to, fit, player, renditions })
}

impl AudioSink {
    pub(super) const fn id(&self) -> StreamId {
        self.id
    }

    pub(super) const fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// What is heard.
    pub(super) const fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// What should be heard; `None` where that is nothing, or something that fades out first.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        let routing = self.routing.as_deref().filter(|_| self.edge != Edge::Out)?;
        match routing.route {
            Route::Transcode { source } => Some(Wanted::Source(source)),
            Route::Mix { bus } => Some(Wanted::Bus { bus, renditions: routing.renditions }),
            Route::Silence | Route::Play(_) | Route::Compose { .. } => None,
        }
    }

    /// What [`Self::wanted`] named is this, if it is there.
    pub(super) fn link(&mut self, found: Option<Heard>) {
        match (self.heard, found) {
            // Only the slots around it have changed.
            (Some(Heard::Bus { bus, .. }), Some(Heard::Bus { bus: still, .. })) if bus == still => {}
            (None, Some(_)) => self.edge = Edge::In,
            _ => return,
        }
        self.heard = found;
    }

    /// The source in `slot` goes after this tick.
    pub(super) fn lose(&mut self, slot: usize) {
        if self.heard == Some(Heard::Source(slot)) {
            self.edge = Edge::Out;
        }
    }

    /// The bus in `slot` is gone.
    pub(super) fn lose_bus(&mut self, slot: usize) {
        if matches!(self.heard, Some(Heard::Bus { bus, .. }) if bus == slot) {
            (self.heard, self.shared) = (None, None);
        }
    }

    /// Decides whether it takes packets that are made for many, and goes over where that changes.
    pub(super) fn choose(&mut self, bus: &mut Bus) {
        let Some(Heard::Bus { own, renditions, .. }) = self.heard else { return };
        let lossy = usize::from(self.lossy());
        let wanted = renditions[lossy].or(renditions[0]);
        let wanted = wanted.filter(|_| self.edge == Edge::None && !bus.mixes(own) && !self.limited());
        let before = std::mem::replace(&mut self.shared, wanted);
        let fit = self.routing.as_deref_mut().and_then(|routing| routing.fit.as_deref_mut());
        match (before, wanted) {
            (Some(before), None) => {
                if let Some(fit) = fit {
                    bus.hand_over(before, fit, &mut self.encoding);
                }
            }
            (None, Some(slot)) => bus.want(slot, fit.map(|fit| (&*fit, &*self.encoding))),
            (Some(_), Some(slot)) => bus.want(slot, None),
            (None, None) => {}
        }
    }

    /// Whether an encoder of its own works for it.
    pub(super) const fn alone(&self) -> bool {
        self.shared.is_none()
    }

    /// The receiver's reports ask for forward error correction.
    fn lossy(&self) -> bool {
        self.encoding.fec && self.outlet.wishes.reported_loss() >= FEC_FROM_PERCENT
    }

    /// The receiver takes less than what is made for many.
    fn limited(&self) -> bool {
        self.outlet.wishes.bitrate_limit().is_some_and(|limit| limit < SPEECH_BITRATE)
    }

    pub(super) fn set_encoding(&mut self, part: &mut Box<Encoding>) {
        std::mem::swap(&mut self.encoding, part);
        self.shared = None;
        self.tune_in = 0;
    }

    /// The bus that it hears has another rate from now on; what was for the old one is in `fit`.
    pub(super) fn refit(&mut self, fit: &mut Box<Fit>) {
        if let Some(own) = self.routing.as_deref_mut().and_then(|routing| routing.fit.as_mut()) {
            std::mem::swap(own, fit);
        }
    }

    /// What is heard after this tick. Returns what will never be heard.
    pub(super) fn set_routing(&mut self, part: Box<Routing>) -> Option<Box<Routing>> {
        if self.routing.as_ref().is_none_or(|old| old.to != self.encoding.rate) {
            // Nothing that could fade out: there was nothing, or it was for the codec before.
            (self.heard, self.shared) = (None, None);
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
        (self.heard, self.shared) = (None, None);
        let next = self.next.take()?;
        self.routing.replace(next)
    }

    /// Takes 20 ms of sound, unless it takes what is made for many: the first part of a tick. The
    /// others are [`Self::pack`], which somebody of the crew may do, and [`Self::send`].
    pub(super) fn hear(&mut self, now: Instant, sound: &Sound<'_>) {
        self.encodes = false;
        if self.shared.is_some() {
            return;
        }
        let Some(routing) = self.routing.as_deref_mut() else { return };
        if routing.route == Route::Silence && self.edge != Edge::Out {
            self.edge = Edge::None;
            self.encoding.reset();
            return;
        }
        let mut block = [0; LONGEST_TICK];
        let tick = usize::try_from(self.encoding.rate / 50).unwrap_or(0).min(LONGEST_TICK);
        let block = &mut block[..tick];
        if routing.to == self.encoding.rate {
            routing.render(sound, block);
        }
        match self.edge {
            Edge::None => (),
            Edge::In => fade(block.iter_mut()),
            Edge::Out => fade(block.iter_mut().rev()),
        }
        if self.edge == Edge::In {
            self.edge = Edge::None;
        }
        let source_rate = match sound {
            Sound::Source(source) => Some(source.block().1),
            // Of a mix of many nobody says.
            Sound::Bus { .. } => None,
            // Clips are made for the encoder.
            Sound::Nothing if routing.player.is_some() => None,
            // A pause, or what fades out.
            Sound::Nothing => self.encoding.tuning.source_rate,
        };
        self.tune(source_rate);
        self.encodes = true;
        self.encoding.append(now, block);
    }

    /// Whether [`Self::pack`] takes so long that somebody of the crew may do it.
    pub(super) const fn is_heavy(&self) -> bool {
        self.shared.is_none() && self.encoding.is_heavy()
    }

    /// About how long it takes, in microseconds.
    pub(super) const fn effort(&self) -> u32 {
        self.encoding.effort()
    }

    /// Encodes what was heard.
    pub(super) fn pack(&mut self) {
        if self.shared.is_none() {
            self.encoding.pack();
        }
    }

    /// Sends the packets of this tick, its own or those that `bus` made for many. True when there
    /// was one.
    pub(super) fn send(&mut self, bus: Option<&Bus>) -> bool {
        let mut sent = false;
        if let Some(slot) = self.shared {
            for frame in bus.into_iter().flat_map(|bus| bus.packets(slot)) {
                sent |= self.push(frame.clone());
            }
            return sent;
        }
        for packet in self.encoding.made().into_iter().flatten() {
            match packet {
                Packet::Frame(frame) => sent |= self.push(frame),
                Packet::Silent => {}
                Packet::Refused => count(&self.counters.errors),
                Packet::NoRoom => count(&self.counters.overflow),
            }
        }
        sent
    }

    fn push(&mut self, frame: EncodedFrame) -> bool {
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

    /// Once a second the encoder follows what the receiver reports; and at once what it is fed.
    fn tune(&mut self, source_rate: Option<u32>) {
        if self.tune_in == 0 {
            self.tune_in = TUNE_EVERY;
            self.counters.bitrate.store(self.bytes.saturating_mul(8), Relaxed);
            self.bytes = 0;
        } else if source_rate == self.encoding.tuning.source_rate {
            self.tune_in -= 1;
            return;
        }
        self.tune_in -= 1;
        let wishes = &self.outlet.wishes;
        let loss = wishes.reported_loss();
        let encoding = &mut *self.encoding;
        let tuning = AudioTuning {
            bitrate: wishes.bitrate_limit().map(|limit| limit.min(SPEECH_BITRATE)),
            loss_percent: loss,
            fec: encoding.fec && (loss >= FEC_FROM_PERCENT || (loss > 0 && encoding.tuning.fec)),
            dtx: encoding.tuning.dtx,
            source_rate,
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
    fn render(&mut self, sound: &Sound<'_>, block: &mut [i16]) {
        if let Some(player) = &mut self.player {
            player.fill(block);
            return;
        }
        let Some(fit) = &mut self.fit else { return };
        match sound {
            Sound::Nothing => {}
            Sound::Source(source) => {
                let (heard, rate) = source.block();
                fit.render(heard, rate, block);
            }
            Sound::Bus { bus, own } => {
                bus.without(*own, fit, block);
            }
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
