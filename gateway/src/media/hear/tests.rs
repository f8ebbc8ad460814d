//! A source in virtual time: a sender with its own clock, a seeded network, and what is heard.

use std::f64::consts::TAU;

use crosspoint_codecs::codec::CodecError;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime};

use super::super::port::{Arrival, RING, Wishes};
use super::super::stats::SourceStats;
use super::*;

mod roads;
mod stalls;

const RATE: u32 = 8_000;
const START: u64 = 1_000_000_000_000;

/// Samples as they are, and nothing for what is lost.
struct Plain;

impl AudioDecoder for Plain {
    fn sample_rate(&self) -> u32 {
        RATE
    }
    fn samples(&self, packet: &[u8]) -> Option<usize> {
        Some(packet.len() / 2)
    }
    fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, CodecError> {
        if packet == b"bad" {
            return Err(CodecError::Malformed("bad"));
        }
        for (sample, bytes) in out.iter_mut().zip(packet.chunks_exact(2)) {
            *sample = i16::from_le_bytes([bytes[0], bytes[1]]);
        }
        Ok(packet.len() / 2)
    }
    fn conceal(&mut self, out: &mut [i16]) {
        out.fill(0);
    }
    fn recover(&mut self, _: &[u8], out: &mut [i16]) -> bool {
        out.fill(1_234);
        true
    }
    fn reset(&mut self) {}
}

struct Random(u64);

impl Random {
    /// Between 0 and 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What the network and the sender do with the frame of that number.
#[derive(Clone, Copy)]
enum Fate {
    /// It takes so many milliseconds longer than the fastest.
    Delay(f64),
    Lost,
    /// The sender is silent and says nothing.
    Quiet,
    /// It comes, and cannot be decoded.
    Broken,
}

struct Line {
    source: Box<AudioSource>,
    to: rtrb::Producer<Arrival>,
    counters: Arc<SourceCounters>,
    timeline: Timeline,
    ptime: f64,
    ppm: f64,
    /// Frames on their way.
    arrivals: Vec<(u64, EncodedFrame)>,
    sent: u64,
    last: u64,
    lost: u16,
    ticks: u64,
    heard: Vec<i16>,
    /// Least and greatest delay in force since it was last cleared.
    delays: (Duration, Duration),
}

impl Line {
    fn new(ptime: u64, ppm: f64, fec: bool) -> Self {
        let (to, frames) = rtrb::RingBuffer::new(RING);
        let counters = Arc::new(SourceCounters::default());
        let timeline = Timeline::new();
        let decoding = Decoding::new(Box::new(Plain), fec);
        let inlet = Inlet { frames, wishes: Arc::new(Wishes::default()) };
        let source = source(StreamId(1), inlet, timeline.clone(), counters.clone(), decoding);
        Self {
            source,
            to,
            counters,
            timeline,
            ptime: ptime as f64 * 1e6,
            ppm,
            arrivals: Vec::new(),
            sent: 0,
            last: 0,
            lost: 0,
            ticks: 0,
            heard: Vec::new(),
            delays: (Duration::MAX, Duration::ZERO),
        }
    }

    /// `seconds` of a tone of 400 Hz, each frame with its fate; `jump` moves its media time (ms).
    fn run(&mut self, seconds: f64, mut fate: impl FnMut(u64) -> Fate) -> SourceStats {
        self.run_moved(seconds, 0.0, &mut fate)
    }

    fn run_moved(&mut self, seconds: f64, jump: f64, fate: &mut dyn FnMut(u64) -> Fate) -> SourceStats {
        let end = self.ticks + (seconds * 50.0) as u64;
        while self.ticks < end {
            let now = START + self.ticks * 20_000_000;
            self.send_until(now, jump, fate);
            while let Some((at, _)) = self.arrivals.first()
                && *at <= now
            {
                let (at, frame) = self.arrivals.remove(0);
                self.to.push(Arrival { at: Instant::from_nanos(at), frame }).unwrap();
            }
            self.tick(now);
            self.ticks += 1;
        }
        self.counters.snapshot()
    }

    /// A tick of somebody who listens.
    fn tick(&mut self, now: u64) {
        let now = Instant::from_nanos(now);
        self.source.receive(now);
        self.source.listened = true;
        self.source.pull(now);
        self.source.pass(now);
        self.heard.extend_from_slice(self.source.block().0);
        let delay = self.source.decoding.playout.delay();
        self.delays = (self.delays.0.min(delay), self.delays.1.max(delay));
    }

    fn send_until(&mut self, now: u64, jump: f64, fate: &mut dyn FnMut(u64) -> Fate) {
        loop {
            // A frame is complete when its last sample was taken.
            let ready = START as f64 + (self.sent + 1) as f64 * self.ptime * (1.0 + self.ppm * 1e-6);
            if ready > now as f64 + 1e9 {
                return;
            }
            let samples = (self.ptime * 1e-9 * f64::from(RATE)).round() as u64;
            let first = self.sent * samples;
            let this = fate(self.sent);
            let media = self.sent as f64 * self.ptime + jump * 1e6;
            self.sent += 1;
            let delay = match this {
                Fate::Delay(delay) => delay,
                Fate::Broken => 0.0,
                Fate::Lost => {
                    self.lost += 1;
                    continue;
                }
                Fate::Quiet => continue,
            };
            let at = (ready + delay * 1e6 + 15e6) as u64;
            self.last = self.last.max(at);
            let tone = |n: u64| (8_000.0 * (TAU * 400.0 * n as f64 / f64::from(RATE)).sin()) as i16;
            let mut bytes: Vec<u8> = (first..first + samples).flat_map(|n| tone(n).to_le_bytes()).collect();
            if matches!(this, Fate::Broken) {
                bytes = b"bad".to_vec();
            }
            let frame = EncodedFrame {
                kind: MediaKind::Audio,
                media_time: MediaTime(media as i64),
                duration: Duration::from_nanos(self.ptime as u64),
                lost_before: std::mem::take(&mut self.lost),
                keyframe: true,
                level: None,
                data: Data::from_slice(&bytes),
            };
            // Reordering stands before: frames come in order.
            self.arrivals.push((self.last, frame));
        }
    }

    fn forget(&mut self) {
        self.heard.clear();
        self.delays = (Duration::MAX, Duration::ZERO);
    }

    /// Windows of 5 ms without sound.
    fn silent_windows(&self) -> usize {
        self.heard.chunks_exact(40).filter(|window| window.iter().all(|s| s.unsigned_abs() < 200)).count()
    }

    /// Largest step between two samples: a click. The tone itself steps by 2500.
    fn steepest(&self) -> u32 {
        self.heard.windows(2).map(|pair| i32::from(pair[0]).abs_diff(i32::from(pair[1]))).max().unwrap()
    }

    /// Frequency by counting.
    fn hertz(&self) -> f64 {
        let crossings = self.heard.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        crossings as f64 * f64::from(RATE) / self.heard.len() as f64
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[test]
fn without_jitter_the_delay_is_the_tick_and_a_little() {
    for ptime in [10, 20, 30, 40, 60] {
        let mut line = Line::new(ptime, 0.0, false);
        line.run(5.0, |_| Fate::Delay(0.0));
        line.forget();
        let stats = line.run(10.0, |_| Fate::Delay(0.0));
        assert_eq!((stats.late, stats.concealed), (0, Duration::ZERO), "ptime {ptime}");
        assert!((20.0..=30.0).contains(&ms(stats.playout_delay)), "{:?} at {ptime}", stats.playout_delay);
        assert_eq!(line.silent_windows(), 0);
        assert!(line.steepest() < 2_600, "a click of {} at {ptime}", line.steepest());
        assert!((line.hertz() - 400.0).abs() < 0.3, "{}", line.hertz());
    }
}

#[test]
fn the_delay_follows_the_jitter_and_nothing_is_late_afterwards() {
    for (seed, jitter) in [(1, 20.0), (2, 60.0), (3, 120.0), (4, 250.0)] {
        let mut random = Random(seed);
        let mut line = Line::new(20, 0.0, false);
        let mut fate = |_| Fate::Delay(random.next() * jitter);
        let learning = line.run(10.0, &mut fate);
        line.forget();
        let stats = line.run(120.0, &mut fate);
        assert_eq!(stats.late, learning.late, "late after convergence, jitter {jitter}");
        assert_eq!(stats.concealed, learning.concealed, "concealed after convergence, jitter {jitter}");
        assert!(ms(line.delays.0) > jitter * 0.7, "{:?} for {jitter}", line.delays);
        assert!(ms(line.delays.1) < jitter + 45.0, "{:?} for {jitter}", line.delays);
        assert_eq!(line.silent_windows(), 0);
    }
}

#[test]
fn after_a_burst_the_delay_returns_within_ten_seconds() {
    let mut line = Line::new(20, 0.0, false);
    line.run(10.0, |_| Fate::Delay(0.0));
    let before = line.counters.snapshot().playout_delay;
    let first = line.sent;
    // 300 ms of frames come at once.
    line.run(2.0, |n| if (first..first + 15).contains(&n) { Fate::Delay(300.0) } else { Fate::Delay(0.0) });
    assert!(ms(line.delays.1) > 250.0, "{:?}", line.delays);
    line.run(8.5, |_| Fate::Delay(0.0));
    let after = line.counters.snapshot();
    assert!(ms(after.playout_delay) < ms(before) + 6.0, "{before:?}, then {:?}", after.playout_delay);
    line.forget();
    let settled = line.run(20.0, |_| Fate::Delay(0.0));
    assert_eq!((settled.late, settled.concealed), (after.late, after.concealed));
    assert_eq!(line.silent_windows(), 0);
    // The sound itself is as near as the delay says.
    let lag = line.source.decoding.playout.lag(Instant::from_nanos(START + line.ticks * 20_000_000));
    assert!(lag.unwrap().abs() < 25_000_000, "{lag:?}");
}

#[test]
fn a_drifting_clock_neither_starves_nor_piles_up() {
    for ppm in [-200.0, 200.0] {
        for ptime in [20, 30] {
            let mut random = Random(9);
            let mut line = Line::new(ptime, ppm, false);
            let mut fate = |_| Fate::Delay(random.next() * 10.0);
            let learning = line.run(10.0, &mut fate);
            line.forget();
            let stats = line.run(600.0, &mut fate);
            assert_eq!(stats.late, learning.late, "{ppm} ppm");
            assert_eq!(stats.concealed, learning.concealed, "{ppm} ppm");
            assert!(ms(line.delays.1) < 45.0, "{:?} at {ppm} ppm", line.delays);
            assert_eq!(line.silent_windows(), 0);
            assert!(line.steepest() < 2_900, "a click of {} at {ppm} ppm", line.steepest());
            // 200 ppm of ten minutes are 120 ms.
            let moved = ms(stats.slipped) - ms(learning.slipped);
            assert!((100.0..200.0).contains(&moved), "{moved} ms slipped at {ppm} ppm");
            assert!(line.source.decoding.playout.head().is_none() || line.source.inlet.frames.slots() < 3);
        }
    }
}

#[test]
fn a_pause_of_the_sender_is_no_loss() {
    let mut line = Line::new(20, 0.0, false);
    line.run(3.0, |_| Fate::Delay(0.0));
    let first = line.sent;
    line.forget();
    // Like DTX: silence with one frame in 400 ms, then speech again.
    let stats = line.run(6.0, |n| match n - first {
        0..50 => Fate::Delay(0.0),
        quiet @ 50..200 if quiet % 20 != 0 => Fate::Quiet,
        _ => Fate::Delay(0.0),
    });
    assert_eq!((stats.late, stats.concealed), (0, Duration::ZERO));
    let silent = line.silent_windows() as f64 * 0.005;
    assert!((2.6..3.0).contains(&silent), "{silent} s");
}

#[test]
fn loss_is_concealed_and_counted_for_as_long_as_it_was() {
    let mut random = Random(77);
    let mut line = Line::new(20, 0.0, false);
    line.run(3.0, |_| Fate::Delay(0.0));
    let mut lost = 0;
    line.forget();
    let stats = line.run(20.0, |_| {
        if random.next() < 0.05 {
            lost += 1;
            Fate::Lost
        } else {
            Fate::Delay(0.0)
        }
    });
    let missing = f64::from(lost) * 20.0;
    assert!((ms(stats.concealed) / missing - 1.0).abs() < 0.15, "{:?} for {missing} ms", stats.concealed);
    assert_eq!(stats.late, 0);
    assert!((line.silent_windows() as f64 * 5.0 / missing - 1.0).abs() < 0.25);
}

#[test]
fn a_codec_with_fec_brings_lost_frames_back() {
    let mut line = Line::new(20, 0.0, true);
    line.run(5.0, |n| if n % 20 == 19 { Fate::Lost } else { Fate::Delay(0.0) });
    let learning = line.counters.snapshot();
    line.forget();
    let stats = line.run(10.0, |n| if n % 20 == 19 { Fate::Lost } else { Fate::Delay(0.0) });
    assert!(stats.recovered - learning.recovered >= 24, "{stats:?}");
    assert!(stats.concealed - learning.concealed <= Duration::from_millis(40), "{stats:?}");
    // One frame more than without.
    assert!((40.0..55.0).contains(&ms(stats.playout_delay)), "{:?}", stats.playout_delay);
    assert_eq!(line.silent_windows(), 0);
}

#[test]
fn a_long_outage_ends_in_the_present() {
    let mut line = Line::new(20, 0.0, false);
    line.run(5.0, |_| Fate::Delay(0.0));
    let first = line.sent;
    // Three seconds, and then all of it at once, more than the ring holds.
    let outage = |n: u64| match n - first {
        held @ 0..60 => Fate::Delay(1_200.0 - held as f64 * 20.0),
        _ => Fate::Delay(0.0),
    };
    let stats = line.run(4.0, outage);
    assert!(stats.late > 30, "{stats:?}");
    line.run(16.0, |_| Fate::Delay(0.0));
    line.forget();
    let later = line.run(2.0, |_| Fate::Delay(0.0));
    assert!(ms(later.playout_delay) < 35.0, "{later:?}");
    assert_eq!(line.silent_windows(), 0);
}

#[test]
fn a_timeline_set_anew_is_not_heard_and_moves_the_pictures() {
    for jump in [-3_600_000.0, -90.0, -5.0, 5.0, 70.0, 3_600_000.0] {
        let mut line = Line::new(20, 0.0, false);
        line.run(5.0, |_| Fate::Delay(0.0));
        let before = line.timeline.plays_at(MediaTime(0)).unwrap();
        line.forget();
        let stats = line.run_moved(5.0, jump, &mut |_| Fate::Delay(0.0));
        let after = line.timeline.plays_at(MediaTime(0)).unwrap();
        assert_eq!((stats.late, stats.concealed), (0, Duration::ZERO), "{jump}");
        assert_eq!(line.silent_windows(), 0, "{jump}");
        let moved = (after - before) as f64 / 1e6;
        assert!((moved + jump).abs() < 6.0, "moved by {moved} for {jump}");
    }
}

#[test]
fn what_cannot_be_decoded_passes_in_its_time() {
    let mut line = Line::new(20, 0.0, false);
    line.run(3.0, |_| Fate::Delay(0.0));
    let stats = line.run(5.0, |n| if n % 10 == 0 { Fate::Broken } else { Fate::Delay(0.0) });
    assert!((20..=30).contains(&stats.errors), "{stats:?}");
    assert_eq!(stats.late, 0);
    assert!(ms(stats.playout_delay) < 35.0);
}

#[test]
fn frames_come_in_any_order_and_twice() {
    let mut playout = Playout::new(false);
    let frame = |n: i64, lost_before: u16| EncodedFrame {
        kind: MediaKind::Audio,
        media_time: MediaTime(n * 20_000_000),
        duration: Duration::from_millis(20),
        lost_before,
        keyframe: true,
        level: None,
        data: Data::from_slice(&[u8::try_from(n).unwrap()]),
    };
    for (n, lost) in [(0, 0), (1, 0), (3, 1), (2, 0), (3, 0), (4, 0)] {
        playout.push(Arrival { at: Instant::from_millis(100), frame: frame(n, lost) });
    }
    assert_eq!(playout.counts().late, 1);
    let mut order = Vec::new();
    let mut now = Instant::from_millis(200);
    while playout.head().is_some() {
        if let Next::Frame(frame) = playout.next(now) {
            order.push(frame.data[0]);
            now += Duration::from_millis(20);
        } else {
            now += PIECE;
        }
    }
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

proptest::proptest! {
    #[test]
    fn nothing_that_a_peer_stamps_breaks_the_schedule(
        seed in 1u64..,
        moves in proptest::collection::vec((0u8..8, proptest::num::i64::ANY, 0u16..4), 1..200),
    ) {
        let mut line = Line::new(20, 0.0, true);
        let mut random = Random(seed);
        let mut media = 0i64;
        for (step, (kind, wild, lost_before)) in moves.into_iter().enumerate() {
            media = match kind {
                0 => wild,
                1 => [i64::MIN, i64::MAX, 0, -1][step % 4],
                2 => media.wrapping_add(wild % 3_000_000_000),
                _ => media.saturating_add(20_000_000),
            };
            let now = START + step as u64 * 20_000_000;
            for _ in 0..(random.next() * 4.0) as usize {
                let frame = EncodedFrame {
                    kind: MediaKind::Audio,
                    media_time: MediaTime(media),
                    duration: if kind == 3 { Duration::MAX } else { Duration::from_millis(20) },
                    lost_before,
                    keyframe: true,
                    level: None,
                    data: Data::from_slice(&[1; 320]),
                };
                let _ = line.to.push(Arrival { at: Instant::from_nanos(now), frame });
            }
            line.source.receive(Instant::from_nanos(now));
            line.source.listened = random.next() < 0.9;
            line.source.pull(Instant::from_nanos(now));
            line.source.pass(Instant::from_nanos(now));
            proptest::prop_assert!(line.source.decoding.stretch.len() < 8_000 / 4);
            proptest::prop_assert!(line.source.decoding.playout.delay() <= Duration::from_millis(400));
        }
        // However wild it was, order brings sound back.
        line.ticks = 1_000;
        line.sent = 1_000;
        line.last = 0;
        while line.source.inlet.frames.pop().is_ok() {}
        line.run(20.0, |_| Fate::Delay(0.0));
        line.forget();
        line.run(1.0, |_| Fate::Delay(0.0));
        proptest::prop_assert_eq!(line.silent_windows(), 0);
    }
}
