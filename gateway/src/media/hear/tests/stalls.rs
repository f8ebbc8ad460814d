//! What a busy machine does to a pure tone: threads that sleep too long, in virtual time.

use std::ops::Range;

use crosspoint_codecs::codec::AudioEncoder;
use crosspoint_codecs::format::Codec;
use crosspoint_codecs::registry::Registry;

use super::*;

const MS: u64 = 1_000_000;
const TICK: u64 = 20 * MS;

/// A sender of one tone, the threads of a gateway that sometimes sleep, and what comes out.
struct Machine {
    source: Box<AudioSource>,
    to: rtrb::Producer<Arrival>,
    counters: Arc<SourceCounters>,
    encoder: Box<dyn AudioEncoder>,
    hertz: f64,
    /// Where the first frame lies between two ticks.
    transit: u64,
    sent: u64,
    due: u64,
    heard: Vec<i16>,
    rate: u32,
    flying: Vec<(u64, EncodedFrame)>,
}

/// When a thread does not run, in ns.
#[derive(Clone, Default)]
struct Sleeps(Range<u64>);

impl Sleeps {
    /// When it does what is due at `at`.
    fn awake(&self, at: u64) -> u64 {
        if self.0.contains(&at) { self.0.end } else { at }
    }
}

impl Machine {
    fn new(format: &AudioFormat, hertz: f64, transit: u64) -> Self {
        let (to, frames) = rtrb::RingBuffer::new(RING);
        let counters = Arc::new(SourceCounters::default());
        let registry = Registry::built_in();
        let decoding = decoding(&registry, format).unwrap();
        let rate = decoding.rate;
        let inlet = Inlet { frames, wishes: Arc::new(Wishes::default()) };
        let source = source(StreamId(1), inlet, Timeline::new(), counters.clone(), decoding);
        let encoder = registry.audio_encoder(format).unwrap();
        Self {
            source,
            to,
            counters,
            encoder,
            hertz,
            transit,
            sent: 0,
            due: 0,
            heard: Vec::new(),
            rate,
            flying: Vec::new(),
        }
    }

    /// `length` ms, with a socket thread and an engine that sleep.
    fn run(&mut self, length: u64, socket: &Sleeps, engine: &Sleeps) {
        let end = self.due + length * MS;
        while self.due < end {
            let now = engine.awake(self.due);
            let late = (now - self.due) / TICK;
            // As the worker does: five ticks are made up for.
            self.due += late.saturating_sub(5) * TICK;
            for _ in 0..=late.min(5) {
                self.deliver(now, socket);
                self.source.receive(Instant::from_nanos(START + self.due));
                self.source.listened = true;
                self.source.pull(Instant::from_nanos(START + self.due));
                self.source.pass(Instant::from_nanos(START + self.due));
                self.heard.extend_from_slice(self.source.block().0);
                self.due += TICK;
            }
        }
    }

    fn deliver(&mut self, now: u64, socket: &Sleeps) {
        while (self.sent + 1) * TICK <= now {
            let samples = u64::from(self.encoder.sample_rate() / 50);
            let rate = f64::from(self.encoder.sample_rate());
            let tone = |n: u64| (16_000.0 * (TAU * self.hertz * n as f64 / rate).sin()).round() as i16;
            let pcm: Vec<i16> = (self.sent * samples..(self.sent + 1) * samples).map(tone).collect();
            let mut packet = [0; 1_500];
            let len = self.encoder.encode(&pcm, &mut packet).unwrap();
            let frame = EncodedFrame {
                kind: MediaKind::Audio,
                media_time: MediaTime((self.sent * TICK).cast_signed()),
                duration: Duration::from_nanos(TICK),
                lost_before: 0,
                keyframe: true,
                level: None,
                data: Data::from_slice(&packet[..len]),
            };
            self.sent += 1;
            self.flying.push((socket.awake(self.sent * TICK + self.transit), frame));
        }
        while self.flying.first().is_some_and(|(at, _)| *at <= now) {
            let (at, frame) = self.flying.remove(0);
            self.to.push(Arrival { at: Instant::from_nanos(START + at), frame }).unwrap();
        }
    }

    /// SNR in dB of each 200 ms.
    fn purity(&self) -> Vec<f64> {
        let window = self.rate as usize / 5;
        self.heard.chunks_exact(window).map(|chunk| snr(chunk, self.rate, self.hertz)).collect()
    }
}

/// Of a sine by least squares, its phase free.
fn snr(pcm: &[i16], rate: u32, hertz: f64) -> f64 {
    let step = TAU * hertz / f64::from(rate);
    let (mut ss, mut cc, mut sc, mut xs, mut xc, mut all) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, x) in pcm.iter().enumerate() {
        let (s, c) = (step * n as f64).sin_cos();
        let x = f64::from(*x);
        (ss, cc, sc, xs, xc, all) = (ss + s * s, cc + c * c, sc + s * c, xs + x * s, xc + x * c, all + x * x);
    }
    let det = ss * cc - sc * sc;
    let (a, b) = ((xs * cc - xc * sc) / det, (xc * ss - xs * sc) / det);
    let wanted = a * xs + b * xc;
    10.0 * (wanted / (all - wanted).max(1e-6)).log10()
}

/// Windows at the start in which encoder, decoder and delay settle.
const SETTLING: usize = 4;
/// The stall is in this window.
const STALLED: usize = 10;

/// A thread that sleeps from 2.003 s on, for so many ms.
fn sleep(length: u64) -> Sleeps {
    Sleeps(2_003 * MS..(2_003 + length) * MS)
}

/// Every combination of a tone, the length of a stall, and where frames lie between two ticks.
fn stalls(mut each: impl FnMut(f64, u64, u64)) {
    for hertz in [220.0, 440.0, 1_000.0] {
        for length in [30, 60, 120] {
            for transit in [1, 11] {
                each(hertz, length, transit * MS);
            }
        }
    }
}

#[test]
fn an_engine_that_wakes_late_is_not_heard() {
    let format = AudioFormat::new(Codec::Pcmu);
    stalls(|hertz, length, transit| {
        let heard = |engine: &Sleeps| {
            let mut machine = Machine::new(&format, hertz, transit);
            machine.run(3_000, &Sleeps::default(), engine);
            machine.heard
        };
        assert!(heard(&sleep(length)) == heard(&Sleeps::default()), "{hertz} Hz, {length} ms, {transit}");
    });
}

#[test]
fn a_machine_that_stalls_as_a_whole_leaves_a_tone_pure() {
    // What arrived late asks for more delay, and that is forgotten six seconds later: the sound is
    // spliced by up to the stall each way, and each splice keeps the phase. While a splice could be
    // a part of a cycle, windows had 8 dB. At 8 kHz a whole cycle is half a sample off at worst,
    // which leaves 19 dB.
    for (codec, least) in [(Codec::Opus, 30.0), (Codec::Pcmu, 18.0)] {
        let format = AudioFormat::new(codec);
        let mut worst = f64::INFINITY;
        stalls(|hertz, length, transit| {
            let mut machine = Machine::new(&format, hertz, transit);
            machine.run(9_600, &sleep(length), &sleep(length));
            let purity = machine.purity().into_iter().skip(SETTLING).fold(f64::INFINITY, f64::min);
            assert!(purity >= least, "{codec:?}, {hertz} Hz, {length} ms, {transit}: {purity:.1} dB");
            assert_eq!(machine.counters.snapshot().concealed, Duration::ZERO);
            worst = worst.min(purity);
        });
        println!("{codec:?}: the worst window has {worst:.1} dB");
    }
}

#[test]
fn a_socket_thread_that_stalls_costs_its_own_window_and_no_other() {
    // Nothing is there to be played for up to the whole stall; what is made up for it is not the
    // tone for long. The sound after it, and the way back to a short delay, are pure again.
    let format = AudioFormat::new(Codec::Opus);
    stalls(|hertz, length, transit| {
        let mut machine = Machine::new(&format, hertz, transit);
        machine.run(9_600, &sleep(length), &Sleeps::default());
        // Of a high tone the decoder needs another window to find its level again.
        let spoilt = if hertz < 1_000.0 { STALLED..=STALLED } else { STALLED..=STALLED + 1 };
        for (window, snr) in machine.purity().into_iter().enumerate().skip(SETTLING) {
            let pure = snr >= 30.0 || spoilt.contains(&window);
            assert!(pure, "{hertz} Hz, {length} ms, {transit}: {snr:.1} dB in window {window}");
        }
    });
}
