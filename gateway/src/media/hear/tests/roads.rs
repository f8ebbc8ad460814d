//! Sound over a road that is jittery and out of order, as the packets of a session become frames.

use std::collections::BTreeMap;

use super::*;

const MS: u64 = 1_000_000;

/// A frame on its way: when a session gives it out, when its packet came, its number, and how many
/// before it were given up.
type Given = (u64, u64, u64, u16);

/// A sender of 20 ms frames and what comes of them: after 25 ms and up to 60 ms of jitter, every
/// twentieth 30 ms later and out of order, and through a window that waits 10 ms for what is missing.
struct Sender {
    frames: std::vec::IntoIter<Given>,
    waiting: Option<Given>,
}

impl Sender {
    fn new(seed: u64, count: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (mut latest, mut arrivals) = (0, Vec::new());
        for number in 0..count {
            let jitter = (random.next() * 60.0 * MS as f64) as u64;
            let mut at = START + number * 20 * MS + 32 * MS + jitter;
            if random.next() < 0.05 {
                at += 30 * MS;
            } else {
                at = at.max(latest);
                latest = at;
            }
            arrivals.push((at, number));
        }
        arrivals.sort_unstable();
        let mut frames = ordered(&arrivals).into_iter();
        let waiting = frames.next();
        Self { frames, waiting }
    }

    fn until(&mut self, now: u64, mut push: impl FnMut(u64, u64, u16)) {
        while let Some((_, came, number, lost)) = self.waiting.filter(|(due, ..)| *due <= now) {
            push(came, number, lost);
            self.waiting = self.frames.next();
        }
    }
}

/// As the window before the frames of a session gives them out: what comes after it was given up comes
/// all the same.
fn ordered(arrivals: &[(u64, u64)]) -> Vec<Given> {
    let (mut next, mut held, mut out) = (0, BTreeMap::new(), Vec::new());
    for (at, number) in arrivals {
        while let Some((last, due)) = held
            .iter()
            .map(|(number, came): (&u64, &u64)| (*number, came + 10 * MS))
            .min_by_key(|(_, due)| *due)
            .filter(|(_, due)| due <= at)
        {
            let mut lost = 0;
            while next <= last || held.contains_key(&next) {
                match held.remove(&next) {
                    Some(came) => out.push((due, came, next, std::mem::take(&mut lost))),
                    None => lost += 1,
                }
                next += 1;
            }
        }
        if *number < next {
            out.push((*at, *at, *number, 0));
            continue;
        }
        held.insert(*number, *at);
        while let Some(came) = held.remove(&next) {
            out.push((*at, came, next, 0));
            next += 1;
        }
    }
    out
}

/// Brings what comes by `now` to a source.
fn bring(line: &mut Line, sender: &mut Sender, now: u64) {
    let to = &mut line.to;
    sender.until(now, |at, number, lost_before| {
        let tone = |n: u64| (8_000.0 * (TAU * 400.0 * n as f64 / f64::from(RATE)).sin()) as i16;
        let samples = number * 160..(number + 1) * 160;
        let bytes: Vec<u8> = samples.flat_map(|n| tone(n).to_le_bytes()).collect();
        let frame = EncodedFrame {
            kind: MediaKind::Audio,
            media_time: MediaTime((number * 20 * MS).cast_signed()),
            duration: Duration::from_millis(20),
            lost_before,
            keyframe: true,
            level: None,
            data: Data::from_slice(&bytes),
        };
        to.push(Arrival { at: Instant::from_nanos(at), frame }).unwrap();
    });
}

#[test]
fn jitter_and_frames_that_were_overtaken_leave_the_sound_as_it_is() {
    for fec in [false, true] {
        let mut moved = Duration::ZERO;
        for seed in 1..=8 {
            let (mut line, mut sender) = (Line::new(20, 0.0, fec), Sender::new(seed, 31 * 50));
            let mut learning = SourceStats::default();
            for tick in 0..30 * 50 {
                let now = START + tick * 20 * MS;
                bring(&mut line, &mut sender, now);
                line.tick(now);
                if tick == 8 * 50 {
                    learning = line.counters.snapshot();
                }
            }
            let stats = line.counters.snapshot();
            let made_up = stats.concealed - learning.concealed;
            assert!(made_up <= Duration::from_millis(40), "seed {seed}, FEC {fec}: {made_up:?} made up");
            assert!(stats.playout_delay < Duration::from_millis(140), "{:?}", stats.playout_delay);
            // It is still in step with the clock of its sender.
            let late = line.timeline.plays_at(MediaTime(0)).unwrap() - START.cast_signed();
            assert!(late < 180 * MS.cast_signed(), "seed {seed}, FEC {fec}: {late} ns behind the sender");
            moved += stats.slipped - learning.slipped;
        }
        // Of nearly three minutes.
        assert!(moved <= Duration::from_millis(240), "FEC {fec}: {moved:?} cut or repeated");
    }
}

#[test]
fn frames_of_two_holes_come_late_and_the_line_stays() {
    let mut playout = Playout::new(false);
    let order = [(0, 0), (1, 0), (3, 1), (5, 1), (2, 0), (6, 0), (4, 0), (7, 0)];
    for ((n, lost_before), at) in order.into_iter().zip((100..).step_by(20)) {
        let frame = EncodedFrame {
            kind: MediaKind::Audio,
            media_time: MediaTime(n * 20 * MS.cast_signed()),
            duration: Duration::from_millis(20),
            lost_before,
            keyframe: true,
            level: None,
            data: Data::from_slice(&[n as u8]),
        };
        playout.push(Arrival { at: Instant::from_millis(at), frame });
    }
    let mut now = Instant::from_millis(200);
    let mut played = Vec::new();
    while playout.head().is_some() {
        match playout.next(now) {
            Next::Frame(frame) => {
                played.push((frame.data[0], frame.media_time.0 / MS.cast_signed()));
                now += frame.duration;
            }
            _ => now += PIECE,
        }
    }
    let wanted: Vec<_> = (0..8).map(|n| (n as u8, n * 20)).collect();
    assert_eq!(played, wanted);
}
