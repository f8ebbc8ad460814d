//! One source of sound: frames in, 20 ms of samples out each tick, whatever the network does.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::AudioDecoder;
use crosspoint_codecs::format::AudioFormat;
use crosspoint_codecs::frame::EncodedFrame;
use crosspoint_codecs::kernels::level::{SILENCE, level};

use super::audio::LONGEST_TICK;
use super::crew::effort;
use super::handle::EngineError;
use super::parts::Codecs;
use super::playout::{COMFORT, Next, PIECE, Playout};
use super::port::{Inlet, StreamId};
use super::stats::{SourceCounters, count};
use super::stretch::Stretch;
use super::timeline::Timeline;

mod skip;

use skip::MISSED;

/// A slip is one sample in so many samples, as nearly as ticks allow: 0.1 %, which is less than is
/// heard as a change of pitch, and five times the drift of a bad clock.
const SLIP_ONE_IN: u32 = 960;
/// From so many ns off the ideal on, cycles of the voice are cut out or repeated where that is not
/// heard.
const SPLICE_FROM: i64 = 3_500_000;
/// A splice may go so far beyond the ideal: whole cycles fit where the rest of the way is none.
/// Playout's margin covers it.
const SPLICE_BEYOND: u64 = 2_000_000;
/// Where no place was found by then (noise, music), slipping begins; and where it is enough.
/// Playout's margin covers it.
const SLIP_FROM: i64 = 5_000_000;
const SLIP_TO: i64 = 500_000;
/// From here on even where it may be heard.
const SPLICE_ANYWHERE: i64 = 60_000_000;
/// A splice every third tick at most: some 15 % faster or slower.
const SPLICE_PAUSE: u8 = 2;

/// Things that playout may ask for in one tick: each gives at least 2.5 ms, but for frames that
/// are dropped. A bound for what no test has met.
const STEPS: usize = 64;

/// A sender who says so many times in a row that he is loud, and is silent when he is decoded, is not believed
/// any more: he would take the place of somebody who talks each time. Who begins to talk says so a tick or two
/// before he is heard.
const DOUBTS: u8 = 4;
/// Loud is what says so much, -dBov: less takes nobody's place, and coders make silence of it.
const LOUD: u8 = 50;
/// And silent what is so much softer than was said, dB.
const SOFTER: u8 = 20;

/// A source.
pub(super) struct AudioSource {
    id: StreamId,
    inlet: Inlet,
    timeline: Timeline,
    counters: Arc<SourceCounters>,
    decoding: Box<Decoding>,
    /// Somebody hears it in this tick, or has to know how it sounds.
    pub(super) listened: bool,
    /// It is in a room, where it is heard as soon as it is loud.
    pub(super) awaited: bool,
    /// Its samples of this tick are there.
    decoded: bool,
    /// What the sender says of this tick and the next, as far as the frames have come.
    told: Option<u8>,
    /// How often in a row that was not so; up to [`DOUBTS`].
    doubts: u8,
    /// It is heard once more and then goes.
    pub(super) leaving: bool,
}

/// The part of a source that depends on its format.
pub(super) struct Decoding {
    decoder: Box<dyn AudioDecoder>,
    /// About how long decoding takes, in microseconds, where somebody of the crew may do it.
    effort: u32,
    rate: u32,
    playout: Playout,
    stretch: Stretch,
    block: [i16; LONGEST_TICK],
    tick: usize,
    slipping: i64,
    /// Samples given out since the last slip that was due.
    slip_due: u32,
    splice_pause: u8,
    slipped: u64,
    /// Level of the frame that was decoded last.
    level: Option<u8>,
    /// The last frames that were not decoded, oldest first: its decoder has to know them before it
    /// goes on.
    missed: [Option<EncodedFrame>; MISSED],
}

pub(super) fn decoding(codecs: &dyn Codecs, format: &AudioFormat) -> Result<Box<Decoding>, EngineError> {
    let mut decoding = Decoding::new(codecs.audio_decoder(format)?, format.fec);
    decoding.effort = effort(format.codec);
    Ok(decoding)
}

pub(super) fn source(
    id: StreamId,
    inlet: Inlet,
    timeline: Timeline,
    counters: Arc<SourceCounters>,
    decoding: Box<Decoding>,
) -> Box<AudioSource> {
    Box::new(AudioSource {
        id,
        inlet,
        timeline,
        counters,
        decoding,
        listened: false,
        awaited: false,
        decoded: false,
        told: None,
        doubts: 0,
        leaving: false,
    })
}

impl AudioSource {
    pub(super) const fn id(&self) -> StreamId {
        self.id
    }

    /// The samples of this tick and their rate.
    pub(super) fn block(&self) -> (&[i16], u32) {
        (self.decoding.block.get(..self.decoding.tick).unwrap_or(&[]), self.decoding.rate)
    }

    pub(super) const fn set_decoding(&mut self, part: &mut Box<Decoding>) {
        std::mem::swap(&mut self.decoding, part);
    }

    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.timeline.clear();
    }

    /// How loud it is in this tick, -dBov: of its samples, or by the sender's word where nobody has
    /// decoded it.
    pub(super) fn level(&self) -> u8 {
        if self.decoded { level(self.block().0) } else { self.told.unwrap_or(SILENCE) }
    }

    /// Whether [`Self::pull`] has something to do.
    pub(super) const fn is_due(&self) -> bool {
        self.listened && !self.decoded
    }

    /// Whether that takes so long that somebody of the crew may do it.
    pub(super) const fn is_heavy(&self) -> bool {
        self.decoding.effort > 0
    }

    /// About how long it takes, in microseconds.
    pub(super) const fn effort(&self) -> u32 {
        self.decoding.effort
    }

    /// Whether it has to be decoded for its level to be known.
    pub(super) const fn mute(&self) -> bool {
        self.told.is_none()
    }

    /// Takes what has come: the first part of a tick. The others are [`Self::pull`], at most once,
    /// and then [`Self::pass`].
    pub(super) fn receive(&mut self, now: Instant) {
        let decoding = &mut *self.decoding;
        while let Ok(arrival) = self.inlet.frames.pop() {
            decoding.playout.push(arrival);
        }
        (self.listened, self.awaited, self.decoded) = (false, false, false);
        self.told = decoding.told(now).filter(|_| self.doubts < DOUBTS);
    }

    /// Makes the samples of this tick, if somebody listens and they are not there yet.
    pub(super) fn pull(&mut self, now: Instant) {
        if !self.is_due() {
            return;
        }
        self.decoded = true;
        let decoding = &mut *self.decoding;
        decoding.resume();
        decoding.fill(now, &self.counters);
        if !self.leaving
            && let Some(offset) = decoding.playout.timeline(decoding.plays_at(now))
        {
            self.timeline.set(offset);
        }
        decoding.give();
        self.compare();
        self.report();
    }

    /// Whether the sender is as loud as he says.
    fn compare(&mut self) {
        let Some(told) = self.told.filter(|told| *told <= LOUD) else { return };
        let lies = level(self.block().0) > told + SOFTER;
        self.doubts = if lies { self.doubts + 1 } else { 0 };
    }

    /// Ends the tick of one that nobody has listened to: its frames go as they become due.
    pub(super) fn pass(&mut self, now: Instant) {
        if self.decoded {
            return;
        }
        self.decoding.skip(now, &self.counters);
        if self.awaited
            && !self.leaving
            && let Some(offset) = self.decoding.playout.ideal()
        {
            self.timeline.set(offset);
        }
        self.report();
    }

    fn report(&self) {
        let decoding = &*self.decoding;
        let counts = decoding.playout.counts();
        let delay = decoding.playout.delay();
        self.inlet.wishes.set_playout_delay(delay);
        self.counters.playout_delay.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.counters.late.store(counts.late, Relaxed);
        self.counters.concealed.store(counts.concealed, Relaxed);
        self.counters.recovered.store(counts.recovered, Relaxed);
        self.counters.slipped.store(decoding.slipped, Relaxed);
    }
}

impl Decoding {
    fn new(decoder: Box<dyn AudioDecoder>, fec: bool) -> Box<Self> {
        let rate = decoder.sample_rate();
        Box::new(Self {
            decoder,
            effort: 0,
            rate,
            playout: Playout::new(fec),
            stretch: Stretch::new(rate),
            block: [0; LONGEST_TICK],
            tick: usize::try_from(rate / 50).unwrap_or(0).min(LONGEST_TICK),
            slipping: 0,
            slip_due: 0,
            splice_pause: 0,
            slipped: 0,
            level: None,
            missed: [const { None }; MISSED],
        })
    }

    /// Decodes until there is enough for this tick.
    fn fill(&mut self, now: Instant, counters: &SourceCounters) {
        self.splice_pause = self.splice_pause.saturating_sub(1);
        let lag = self.playout.lag(self.plays_at(now)).unwrap_or(0);
        let hurry = lag > SPLICE_FROM && self.splice_pause == 0;
        // One sample more than the tick may be taken by a slip, two more are looked at.
        let enough = self.tick + 3;
        let wanted = if hurry { self.stretch.needed(self.tick) } else { enough };
        for _ in 0..STEPS {
            // What is wanted beyond the tick is worth a frame, not an invention.
            let ready = self.stretch.len();
            if ready >= wanted || (ready >= self.tick && !self.playout.has_next()) {
                break;
            }
            self.play(now, counters);
        }
        let Some(lag) = self.playout.lag(self.plays_at(now)) else {
            self.slipping = 0;
            return;
        };
        let tried = lag.abs() > SPLICE_FROM && self.splice_pause == 0;
        let spliced = tried && self.splice(lag);
        if lag.abs() > SLIP_FROM && tried && !spliced {
            self.slipping = lag.signum();
        } else if lag * self.slipping < SLIP_TO {
            self.slipping = 0;
        }
    }

    /// Does the next thing that playout says.
    fn play(&mut self, now: Instant, counters: &SourceCounters) {
        match self.playout.next(self.plays_at(now)) {
            Next::Frame(frame) => {
                self.level = frame.level;
                let decoder = &mut self.decoder;
                let mut refused = false;
                let samples = self.stretch.append(|room| {
                    decoder.decode(&frame.data, room).unwrap_or_else(|_| {
                        refused = true;
                        0
                    })
                });
                if refused || samples == 0 {
                    count(&counters.errors);
                    // Its time passes all the same.
                    let missing = frame.duration.clamp(PIECE, PIECE * 12);
                    self.conceal(missing);
                    self.playout.decoded(frame.media_time, missing);
                } else {
                    count(&counters.decoded);
                    let length = self.length(samples);
                    self.playout.decoded(frame.media_time, length);
                }
            }
            Next::Recover(missing) => {
                let len = self.samples(missing);
                let recovered = self.playout.head().is_some_and(|head| {
                    let decoder = &mut self.decoder;
                    let taken = self.stretch.append(|room| {
                        let Some(out) = room.get_mut(..len) else { return 0 };
                        if decoder.recover(&head.data, out) { len } else { 0 }
                    });
                    taken > 0
                });
                if !recovered {
                    self.conceal(missing);
                }
                self.playout.recovered(missing, recovered);
            }
            Next::Conceal(missing) | Next::Pause(missing) => self.conceal(missing),
        }
    }

    fn conceal(&mut self, missing: Duration) {
        // What is made up is nobody's voice: a sender who vanishes does not stay loud.
        self.level = self.level.map(|_| SILENCE);
        let len = self.samples(missing);
        let silent = self.playout.starved() > COMFORT || !self.playout.begun();
        let decoder = &mut self.decoder;
        self.stretch.append(|room| {
            let room = match room.len() {
                0 => return 0,
                all => &mut room[..len.min(all)],
            };
            if silent {
                room.fill(0);
            } else {
                decoder.conceal(room);
            }
            room.len()
        });
    }

    /// Cuts or repeats up to `lag`; false when there was no place for it.
    fn splice(&mut self, lag: i64) -> bool {
        let force = lag.abs() > SPLICE_ANYWHERE;
        let most = self.samples(Duration::from_nanos(lag.unsigned_abs() + SPLICE_BEYOND));
        let moved = if lag < 0 {
            self.stretch.repeat(most, force)
        } else if self.stretch.len() >= self.stretch.needed(self.tick) {
            self.stretch.cut(most, force)
        } else {
            0
        };
        if moved > 0 {
            self.splice_pause = SPLICE_PAUSE + 1;
            self.note(moved);
        }
        moved > 0
    }

    /// Gives this tick's samples out.
    fn give(&mut self) {
        self.slip_due += u32::try_from(self.tick).unwrap_or(0);
        let taken = match self.slipping {
            _ if self.slip_due < SLIP_ONE_IN => self.tick,
            1.. if self.stretch.len() > self.tick => self.tick + 1,
            ..=-1 => self.tick.saturating_sub(1),
            _ => self.tick,
        };
        if self.slip_due >= SLIP_ONE_IN {
            self.slip_due -= SLIP_ONE_IN;
        }
        self.note(taken.abs_diff(self.tick));
        if let Some(block) = self.block.get_mut(..self.tick) {
            self.stretch.give(taken, block);
        }
    }

    fn note(&mut self, samples: usize) {
        let nanos = u64::try_from(self.length(samples).as_nanos()).unwrap_or(0);
        self.slipped = self.slipped.saturating_add(nanos);
    }

    /// When what follows the last sample that is ready is played.
    fn plays_at(&self, now: Instant) -> Instant {
        now + self.length(self.stretch.len())
    }

    fn length(&self, samples: usize) -> Duration {
        let samples = u64::try_from(samples).unwrap_or(0);
        Duration::from_nanos(samples.saturating_mul(1_000_000_000) / u64::from(self.rate.max(1)))
    }

    fn samples(&self, length: Duration) -> usize {
        let samples = length.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        usize::try_from(samples).unwrap_or(0).max(1)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "test signals are small")]
mod tests;
