//! The mix of a room without a clock: 20 ms with each step, from sounds that are read as they are
//! needed.
//!
//! ```text
//! sounds -> resampler -> exact sum -+-> all ------------> limited or saturated once -> output 0
//!           (its delay               +-> all but the nth -> the same ---------------> output n
//!            taken off)
//! ```

use std::io;
use std::time::Duration;

use crosspoint_codecs::codec::CodecError;
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::limit::Limiter;
use crosspoint_codecs::kernels::mix::{BLOCK, Bus, Fade, MAX_INPUTS};
use crosspoint_codecs::kernels::resample::{RATES, Resampler};

/// Blocks a second.
const TICKS: u32 = 50;

/// Blocks of silence behind the end of a sound: the resampler holds less than one.
const TAIL: u8 = 1;

/// Mono sound that is read once, from its beginning.
pub trait Sound {
    /// Samples a second, one of [`RATES`].
    fn rate(&self) -> u32;

    /// Fills `samples` from the front and returns how many there were; fewer than asked for is the
    /// end.
    fn read(&mut self, samples: &mut [i16]) -> io::Result<usize>;
}

/// How to mix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Rate of the mix, one of [`RATES`]; `None`: the highest of the sounds', as in a room.
    pub rate: Option<u32>,
    /// Peaks are limited; without, they are cut. The limiter's delay is taken off.
    pub limit: bool,
    /// One more output for each sound: everybody else.
    pub minus_one: bool,
}

/// What went out of one output before it was limited or cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// The largest magnitude; 32768 is full scale.
    pub peak: u32,
    /// Samples beyond 16 bits.
    pub over: u64,
    /// Samples in all.
    pub samples: u64,
}

impl Measure {
    /// The peak in dB of full scale; `None` for silence.
    pub fn peak_dbfs(self) -> Option<f64> {
        (self.peak > 0).then(|| 20.0 * (f64::from(self.peak) / 32_768.0).log10())
    }

    fn take(&mut self, sums: &[i32]) {
        let (mut peak, mut over) = (self.peak, 0);
        for sum in sums {
            peak = peak.max(sum.unsigned_abs());
            over += u64::from(i16::try_from(*sum).is_err());
        }
        self.peak = peak;
        self.over += over;
        self.samples += u64::try_from(sums.len()).unwrap_or(0);
    }
}

/// A sound could not be read.
#[derive(Debug, thiserror::Error)]
#[error("sound {input}: {error}")]
pub struct ReadError {
    /// Its place among those that were given.
    pub input: usize,
    /// Why.
    pub error: io::Error,
}

/// A mix in the making.
#[derive(Debug)]
pub struct Mix<S> {
    tracks: Vec<Track<S>>,
    exits: Vec<Exit>,
    bus: Bus,
    rate: u32,
    tick: usize,
    /// Samples that the limiters lie behind.
    delay: u64,
    /// Steps that were done, in samples.
    position: u64,
    /// Length of the result, when all sounds have ended.
    total: Option<u64>,
    /// Part of the blocks that belongs to the result.
    valid: (usize, usize),
}

impl<S: Sound> Mix<S> {
    /// Refuses rates that are none of [`RATES`], and more than [`MAX_INPUTS`] sounds.
    pub fn new(sounds: Vec<S>, settings: &Settings) -> Result<Self, CodecError> {
        if sounds.len() > MAX_INPUTS {
            return Err(CodecError::Unsupported("a mix of more than 65536 inputs"));
        }
        let rate = settings.rate.or_else(|| sounds.iter().map(Sound::rate).max()).unwrap_or(RATES[0]);
        let private = if settings.minus_one { sounds.len() } else { 0 };
        let tracks: Result<Vec<_>, _> = sounds.into_iter().map(|sound| Track::new(sound, rate)).collect();
        let exits: Result<Vec<_>, _> = (0..=private).map(|_| Exit::new(rate, settings.limit)).collect();
        Ok(Self {
            tracks: tracks?,
            exits: exits?,
            bus: Bus::new(Cpu::detect()),
            rate,
            tick: block(rate),
            delay: if settings.limit { samples(Limiter::delay(), rate) } else { 0 },
            position: 0,
            total: None,
            valid: (0, 0),
        })
    }

    /// Samples a second of the result.
    pub const fn rate(&self) -> u32 {
        self.rate
    }

    /// Outputs: everybody, then everybody but the first, but the second, and so on.
    pub const fn outputs(&self) -> usize {
        self.exits.len()
    }

    /// What the last step made for `output`: 20 ms; less at the beginning with a limiter, and at
    /// the end, which is that of the longest sound. Empty for an output that there is not.
    pub fn block(&self, output: usize) -> &[i16] {
        self.exits.get(output).and_then(|exit| exit.block.get(self.valid.0..self.valid.1)).unwrap_or(&[])
    }

    /// What went out of `output` so far.
    pub fn measure(&self, output: usize) -> Measure {
        self.exits.get(output).map_or_else(Measure::default, |exit| exit.measure)
    }

    /// How much of `input` was read.
    pub fn length(&self, input: usize) -> Duration {
        self.tracks.get(input).map_or(Duration::ZERO, |track| duration(track.frames, track.sound.rate()))
    }

    /// How far it is.
    pub fn position(&self) -> Duration {
        duration(self.total.map_or(self.position, |total| total.min(self.position)), self.rate)
    }

    /// Makes the next blocks; `false`: there are no more.
    pub fn step(&mut self) -> Result<bool, ReadError> {
        let end = self.total.map(|total| total + self.delay);
        if end.is_some_and(|end| self.position >= end) {
            self.valid = (0, 0);
            return Ok(false);
        }
        // A tick is never longer than a block, and there are no more sounds than fit.
        let _ = self.bus.begin(self.tick);
        for (input, track) in self.tracks.iter_mut().enumerate() {
            track.next(self.tick).map_err(|error| ReadError { input, error })?;
            if track.sounds {
                let _ = self.bus.add(&track.block[..self.tick], Fade::NONE);
            }
        }
        self.total =
            self.tracks.iter().try_fold(0, |longest, track| Some(track.end(self.rate)?.max(longest)));
        let mut room = [0; BLOCK];
        let counted = self.until(0);
        for (exit, own) in self.exits.iter_mut().zip((0..).map(|output: usize| output.checked_sub(1))) {
            let own = own.and_then(|own| self.tracks.get(own)).filter(|own| own.sounds);
            let sums = match own {
                Some(own) => {
                    let sums = &mut room[..self.tick];
                    let _ = self.bus.minus_wide(&own.block[..self.tick], Fade::NONE, sums);
                    sums
                }
                None => self.bus.sum(),
            };
            exit.measure.take(&sums[..counted]);
            exit.take(sums);
        }
        let from = self.delay.saturating_sub(self.position);
        let from = usize::try_from(from).unwrap_or(self.tick).min(self.tick);
        self.valid = (from, self.until(self.delay).max(from));
        self.position += u64::try_from(self.tick).unwrap_or(0);
        Ok(true)
    }

    /// How much of a block that begins here lies before the end, which comes `delay` later.
    fn until(&self, delay: u64) -> usize {
        let left = self.total.map_or(u64::MAX, |total| (total + delay).saturating_sub(self.position));
        usize::try_from(left).unwrap_or(usize::MAX).min(self.tick)
    }
}

/// A sound on its way to the bus.
#[derive(Debug)]
struct Track<S> {
    sound: S,
    resampler: Resampler,
    /// Samples of 20 ms, as they are read.
    tick: usize,
    /// Resampled and not yet mixed: the front of this.
    ready: [i16; 2 * BLOCK],
    held: usize,
    /// Samples to leave out: the resampler's delay.
    skip: usize,
    /// Samples that were read, and whether that was all.
    frames: u64,
    ended: bool,
    tail: u8,
    /// This step's part in the sum, if it has one.
    block: [i16; BLOCK],
    sounds: bool,
}

impl<S: Sound> Track<S> {
    fn new(sound: S, to: u32) -> Result<Self, CodecError> {
        let from = sound.rate();
        let resampler = Resampler::new(from, to)?;
        let skip = usize::try_from(samples(resampler.delay(), to)).unwrap_or(0);
        Ok(Self {
            sound,
            resampler,
            tick: block(from),
            ready: [0; 2 * BLOCK],
            held: 0,
            skip,
            frames: 0,
            ended: false,
            tail: TAIL,
            block: [0; BLOCK],
            sounds: false,
        })
    }

    /// Fills the front of its block.
    fn next(&mut self, tick: usize) -> io::Result<()> {
        while self.held < tick && (!self.ended || self.tail > 0) {
            self.read()?;
        }
        self.sounds = self.held > 0;
        let taken = self.held.min(tick);
        self.block[..taken].copy_from_slice(&self.ready[..taken]);
        self.block[taken..tick].fill(0);
        self.ready.copy_within(taken..self.held, 0);
        self.held -= taken;
        Ok(())
    }

    /// Reads 20 ms; silence after the end.
    fn read(&mut self) -> io::Result<()> {
        let mut room = [0; BLOCK];
        let heard = &mut room[..self.tick];
        if self.ended {
            self.tail -= 1;
        } else {
            let got = self.sound.read(heard)?.min(heard.len());
            heard[got..].fill(0);
            self.frames += u64::try_from(got).unwrap_or(0);
            self.ended = got < heard.len();
        }
        // 20 ms become 20 ms: there is room for two blocks, and less than one is held.
        let made = self.resampler.process(heard, &mut self.ready[self.held..]).unwrap_or(0);
        let skipped = self.skip.min(made);
        self.ready.copy_within(self.held + skipped..self.held + made, self.held);
        self.held += made - skipped;
        self.skip -= skipped;
        Ok(())
    }

    /// Where it ends, in samples at rate `to`; `None` while that is not known.
    fn end(&self, to: u32) -> Option<u64> {
        let exact = u128::from(self.frames) * u128::from(to);
        let end = exact.div_ceil(u128::from(self.sound.rate().max(1)));
        self.ended.then(|| u64::try_from(end).unwrap_or(u64::MAX))
    }
}

/// One output.
#[derive(Debug)]
struct Exit {
    limiter: Option<Limiter>,
    block: [i16; BLOCK],
    measure: Measure,
}

impl Exit {
    fn new(rate: u32, limit: bool) -> Result<Self, CodecError> {
        let limiter = limit.then(|| Limiter::new(Cpu::detect(), rate)).transpose()?;
        Ok(Self { limiter, block: [0; BLOCK], measure: Measure::default() })
    }

    fn take(&mut self, sums: &[i32]) {
        let block = &mut self.block[..sums.len()];
        if let Some(limiter) = &mut self.limiter {
            // 20 ms are whole milliseconds.
            let _ = limiter.process(sums, block);
            return;
        }
        for (sample, sum) in block.iter_mut().zip(sums) {
            #[allow(clippy::cast_possible_truncation, reason = "clamped to the range")]
            let cut = (*sum).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            *sample = cut;
        }
    }
}

fn block(rate: u32) -> usize {
    usize::try_from(rate / TICKS).unwrap_or(BLOCK).min(BLOCK)
}

/// The nearest number of samples.
fn samples(time: Duration, rate: u32) -> u64 {
    let exact = time.as_nanos() * u128::from(rate);
    u64::try_from((exact + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
}

fn duration(samples: u64, rate: u32) -> Duration {
    let nanos = u128::from(samples) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
