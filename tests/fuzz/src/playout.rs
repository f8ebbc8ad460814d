//! The playout buffer, by its own file: the crate of the media graph links C.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime};

use arrival::{Arrival, RING};
use buffer::{MAX_DELAY, MIN_DELAY, Next, Playout};

#[path = "../../../gateway/src/media/arrival.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod arrival;
#[path = "../../../gateway/src/media/playout.rs"]
#[allow(dead_code, reason = "what the engine uses beside")]
mod buffer;

const TICK: Duration = Duration::from_millis(20);
/// Things that may be said of one tick before it must be full: pieces have 2.5 ms at least.
const STEPS: usize = 8 + 2 * RING;

/// Frames as they come in and ticks that play them. A step has six octets: what it is, time since the
/// last one, step of the media time (two octets), length, loss. Every frame is played, skipped or
/// counted as late, once; they are played in their order; a tick is filled in so many steps; the delay
/// keeps its bounds.
pub fn history(data: &[u8]) {
    let Some((first, steps)) = data.split_first() else { return };
    let mut ears = Ears {
        playout: Playout::new(first & 1 != 0),
        now: Instant::from_millis(1_000),
        ready: Duration::ZERO,
        pushed: 0,
        gone: 0,
        last: None,
    };
    let mut media = i64::from(*first) << 32;
    for step in steps.chunks_exact(6) {
        let [what, time, high, low, length, lost] = *step else { return };
        let time = Duration::from_micros(u64::from(time).pow(2) * 2);
        ears.wait(time);
        let by = i64::from(i16::from_be_bytes([high, low]));
        // Tenths of a millisecond, and at times minutes.
        media += by * if what & 0xc0 == 0xc0 { 10_000_000 } else { 100_000 };
        if what & 0x3f == 0x3f {
            ears.skip();
            continue;
        }
        let length = [20, 10, 60, 120, 2, 0, 2000, 40][usize::from(length & 7)];
        ears.push(media, Duration::from_millis(length), lost);
    }
    // Pauses of up to a minute may lie between them.
    let end = ears.now + Duration::from_secs(61 * RING as u64);
    while ears.playout.head().is_some() {
        assert!(ears.now < end, "a frame that is never played");
        ears.wait(TICK);
    }
    assert_eq!(ears.pushed, ears.gone + ears.playout.counts().late);
}

struct Ears {
    playout: Playout,
    now: Instant,
    /// Sound beyond the tick.
    ready: Duration,
    pushed: u64,
    gone: u64,
    last: Option<i64>,
}

impl Ears {
    fn push(&mut self, media: i64, duration: Duration, lost: u8) {
        self.pushed += 1;
        let frame = EncodedFrame {
            kind: MediaKind::Audio,
            media_time: MediaTime(media),
            duration,
            lost_before: u16::from(lost >> 5),
            keyframe: true,
            level: (lost & 1 != 0).then_some(lost & 0x7f),
            data: Data::from_slice(&[]),
        };
        self.playout.push(Arrival { at: self.now, frame });
        assert!((MIN_DELAY..=MAX_DELAY).contains(&self.playout.delay()), "{:?}", self.playout.delay());
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        // Ticks lie on whole multiples, whatever comes between them.
        loop {
            let next = Instant::from_millis((self.now.as_nanos() / 20_000_000 + 1) * 20);
            if next > end {
                break;
            }
            self.now = next;
            self.tick();
        }
        self.now = end;
    }

    fn tick(&mut self) {
        let mut steps = 0;
        while self.ready < TICK {
            steps += 1;
            assert!(steps <= STEPS, "a tick that does not fill");
            let next = self.playout.next(self.now + self.ready);
            self.ready += match next {
                Next::Frame(frame) => {
                    self.gone += 1;
                    let start = frame.media_time.0;
                    assert!(self.last.is_none_or(|last| start + 2_000_000 >= last), "order");
                    self.last = Some(start);
                    // Whatever it says: what a decoder makes of it.
                    let length = frame.duration.clamp(Duration::from_micros(2500), TICK * 6);
                    self.playout.decoded(frame.media_time, length);
                    length
                }
                Next::Recover(length) => {
                    self.playout.recovered(length, length < TICK);
                    length
                }
                Next::Conceal(length) | Next::Pause(length) => length,
            };
            let _ =
                (self.playout.lag(self.now), self.playout.timeline(self.now), self.playout.told(self.now));
        }
        self.ready -= TICK;
    }

    fn skip(&mut self) {
        let gone = &mut self.gone;
        self.playout.skip_until(self.now, |_| *gone += 1);
        self.last = None;
    }
}
