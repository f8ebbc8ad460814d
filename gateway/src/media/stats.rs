//! What the engine tells of its work: plain atomics that a lane writes and anybody reads. A
//! snapshot may mix two ticks; each figure in it is right.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::load::Share;
use super::port::StreamId;

/// Figures of one stream inside the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamFigures {
    /// What it receives, when the engine has it as a source.
    pub source: Option<SourceStats>,
    /// What it sends, when the engine has it as a sink.
    pub sink: Option<SinkStats>,
}

/// Figures of a source since it was added. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SourceStats {
    /// Sound: how long frames are held now. Pictures: how long the last one was held.
    pub playout_delay: Duration,
    /// Sound that was made up for frames that were lost or late.
    pub concealed: Duration,
    /// Frames that came too late to be played or seen.
    pub late: u64,
    /// Frames (sound) or pictures that were decoded.
    pub decoded: u64,
    /// Frames of sound that were due and not decoded: nobody heard the source, or it is in rooms
    /// only and its sender's levels said that it is not among those who are mixed.
    pub skipped: u64,
    /// Frames that the decoder refused.
    pub errors: u64,
    /// Lost frames of sound that the next frame brought back (FEC).
    pub recovered: u64,
    /// Sound stretched and cut out, in all, to follow the sender's clock and the delay.
    pub slipped: Duration,
    /// Size of the last picture in pixels; zero for sound.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// Pictures: how much later than the sound they are shown; negative when earlier. Nanoseconds.
    pub skew: i64,
    /// Times that we asked the sender for a keyframe.
    pub keyframes_wanted: u64,
}

/// Figures of a sink since it was added. Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SinkStats {
    /// Frames or pictures that were encoded and handed over.
    pub encoded: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Pictures not encoded: a newer one was there, or the receiver's limits forbid the rate.
    pub skipped: u64,
    /// Frames that no ring or buffer had room for.
    pub overflow: u64,
    /// Frames that the encoder refused.
    pub errors: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// What the encoder is set to, bit/s; zero where the codec has one rate.
    pub target_bitrate: u32,
    /// What came out over the last second, bit/s.
    pub bitrate: u32,
    /// Size of the last picture in pixels; zero for sound.
    pub width: u32,
    /// See `width`.
    pub height: u32,
}

/// How well one lane keeps its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Steps so far.
    pub steps: u64,
    /// Steps made up for right after a late wake.
    pub caught_up: u64,
    /// Steps left out because the wake came later than what is made up for.
    pub jumped: u64,
    /// Lateness of the wake: half of all wakes were at most this late.
    pub late_p50: Duration,
    /// 99 of 100 were at most this late.
    pub late_p99: Duration,
    /// The latest.
    pub late_max: Duration,
    /// The longest step.
    pub busy_max: Duration,
    /// All time spent in steps.
    pub busy: Duration,
    /// Streams that it serves.
    pub members: u64,
    /// Encoders that worked for them in the last step. Streams that are sent the same share one.
    pub encoders: u64,
    /// Pictures whose decoding or encoding took longer than their step, which did not wait for them.
    pub overdue: u64,
    /// How full it is: the share of its time that it works, in thousandths. For pictures that of the
    /// threads which decode and encode them, for all engines together.
    pub load: u32,
    /// By how many sizes pictures are made smaller than their receivers would take them, because there
    /// is too much to do.
    pub lowered: u64,
}

/// How well an engine keeps its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Sound.
    pub audio: LaneStats,
    /// Pictures.
    pub video: LaneStats,
}

#[derive(Debug, Default)]
pub(super) struct SourceCounters {
    pub(super) playout_delay: AtomicU64,
    pub(super) concealed: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) decoded: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) recovered: AtomicU64,
    pub(super) slipped: AtomicU64,
    pub(super) width: AtomicU32,
    pub(super) height: AtomicU32,
    pub(super) skew: AtomicI64,
    pub(super) keyframes_wanted: AtomicU64,
}

impl SourceCounters {
    pub(super) fn snapshot(&self) -> SourceStats {
        SourceStats {
            playout_delay: Duration::from_nanos(self.playout_delay.load(Relaxed)),
            concealed: Duration::from_nanos(self.concealed.load(Relaxed)),
            late: self.late.load(Relaxed),
            decoded: self.decoded.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            errors: self.errors.load(Relaxed),
            recovered: self.recovered.load(Relaxed),
            slipped: Duration::from_nanos(self.slipped.load(Relaxed)),
            width: self.width.load(Relaxed),
            height: self.height.load(Relaxed),
            skew: self.skew.load(Relaxed),
            keyframes_wanted: self.keyframes_wanted.load(Relaxed),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct SinkCounters {
    pub(super) encoded: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) overflow: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) keyframes: AtomicU64,
    pub(super) target_bitrate: AtomicU32,
    pub(super) bitrate: AtomicU32,
    pub(super) width: AtomicU32,
    pub(super) height: AtomicU32,
}

impl SinkCounters {
    pub(super) fn snapshot(&self) -> SinkStats {
        SinkStats {
            encoded: self.encoded.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            overflow: self.overflow.load(Relaxed),
            errors: self.errors.load(Relaxed),
            keyframes: self.keyframes.load(Relaxed),
            target_bitrate: self.target_bitrate.load(Relaxed),
            bitrate: self.bitrate.load(Relaxed),
            width: self.width.load(Relaxed),
            height: self.height.load(Relaxed),
        }
    }
}

/// Figures of a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusStats {
    /// Sources that are mixed now.
    pub talkers: u64,
    /// Who leads the talk: the last who spoke for more than a moment while nobody spoke more. Stays
    /// through silence, until somebody else leads or the member goes.
    pub dominant: Option<StreamId>,
    /// Sinks that hear it now.
    pub listeners: u64,
    /// Encoders that ran for them in the last tick.
    pub encoders: u64,
    /// Packets for many that no buffer had room for.
    pub overflow: u64,
    /// Packets for many that their encoder refused.
    pub errors: u64,
}

/// Nobody leads: no stream has this number.
const NOBODY: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct BusCounters {
    /// The moment of the last tick, ns.
    pub(super) now: AtomicU64,
    pub(super) talkers: AtomicU64,
    dominant: AtomicU64,
    pub(super) listeners: AtomicU64,
    /// Encoders that serve many, and those that serve one.
    pub(super) shared: AtomicU64,
    pub(super) private: AtomicU64,
    pub(super) overflow: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Default for BusCounters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            now: zero(),
            talkers: zero(),
            dominant: AtomicU64::new(NOBODY),
            listeners: zero(),
            shared: zero(),
            private: zero(),
            overflow: zero(),
            errors: zero(),
        }
    }
}

impl BusCounters {
    pub(super) fn lead(&self, dominant: Option<StreamId>) {
        self.dominant.store(dominant.map_or(NOBODY, |id| id.0), Relaxed);
    }

    pub(super) fn snapshot(&self) -> BusStats {
        BusStats {
            talkers: self.talkers.load(Relaxed),
            dominant: Some(self.dominant.load(Relaxed)).filter(|id| *id != NOBODY).map(StreamId),
            listeners: self.listeners.load(Relaxed),
            encoders: self.shared.load(Relaxed) + self.private.load(Relaxed),
            overflow: self.overflow.load(Relaxed),
            errors: self.errors.load(Relaxed),
        }
    }
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Buckets of the lateness histogram: eight to each power of two of a microsecond, so that each is
/// within an eighth of what it holds; up to 2^24 us = 16.8 s.
const LATENESS: usize = 8 * (24 - 2);

/// Written by one worker, read by anybody.
type Histogram = [AtomicU64; LATENESS];

#[derive(Debug)]
pub(super) struct LaneCounters {
    steps: AtomicU64,
    caught_up: AtomicU64,
    jumped: AtomicU64,
    lateness: Histogram,
    late_max: AtomicU64,
    busy_max: AtomicU64,
    busy: AtomicU64,
    pub(super) members: AtomicU64,
    pub(super) encoders: AtomicU64,
    pub(super) overdue: AtomicU64,
    /// In thousandths.
    load: AtomicU32,
    pub(super) lowered: AtomicU64,
}

impl Default for LaneCounters {
    fn default() -> Self {
        Self {
            steps: AtomicU64::default(),
            caught_up: AtomicU64::default(),
            jumped: AtomicU64::default(),
            lateness: std::array::from_fn(|_| AtomicU64::default()),
            late_max: AtomicU64::default(),
            busy_max: AtomicU64::default(),
            busy: AtomicU64::default(),
            members: AtomicU64::default(),
            encoders: AtomicU64::default(),
            overdue: AtomicU64::default(),
            load: AtomicU32::default(),
            lowered: AtomicU64::default(),
        }
    }
}

impl LaneCounters {
    pub(super) fn step(&self, busy: Duration) {
        let busy = nanos(busy);
        count(&self.steps);
        self.busy.fetch_add(busy, Relaxed);
        self.busy_max.fetch_max(busy, Relaxed);
    }

    /// Halfway to what was measured last: one full half second is no full engine.
    pub(super) fn measured(&self, share: Share) {
        let before = self.load.load(Relaxed);
        self.load.store(before.midpoint(share.min(1_000)), Relaxed);
    }

    /// Nobody is served any more.
    pub(super) fn rest(&self) {
        self.load.store(0, Relaxed);
    }

    pub(super) fn load(&self) -> Share {
        self.load.load(Relaxed)
    }

    pub(super) fn wake(&self, late: Duration) {
        if let Some(bucket) = self.lateness.get(bucket(late)) {
            count(bucket);
        }
        self.late_max.fetch_max(nanos(late), Relaxed);
    }

    pub(super) fn late(&self, caught_up: u64, jumped: u64) {
        self.caught_up.fetch_add(caught_up, Relaxed);
        self.jumped.fetch_add(jumped, Relaxed);
    }

    pub(super) fn snapshot(&self) -> LaneStats {
        let buckets: [u64; LATENESS] = std::array::from_fn(|i| self.lateness[i].load(Relaxed));
        let late_max = Duration::from_nanos(self.late_max.load(Relaxed));
        LaneStats {
            steps: self.steps.load(Relaxed),
            caught_up: self.caught_up.load(Relaxed),
            jumped: self.jumped.load(Relaxed),
            late_p50: percentile(&buckets, 50).min(late_max),
            late_p99: percentile(&buckets, 99).min(late_max),
            late_max,
            busy_max: Duration::from_nanos(self.busy_max.load(Relaxed)),
            busy: Duration::from_nanos(self.busy.load(Relaxed)),
            members: self.members.load(Relaxed),
            encoders: self.encoders.load(Relaxed),
            overdue: self.overdue.load(Relaxed),
            load: self.load.load(Relaxed),
            lowered: self.lowered.load(Relaxed),
        }
    }
}

/// The bucket of a lateness: by its highest four bits.
fn bucket(late: Duration) -> usize {
    let micros = usize::try_from(late.as_micros()).unwrap_or(usize::MAX);
    let above = (usize::BITS - micros.leading_zeros()).saturating_sub(4) as usize;
    (8 * above + (micros >> above)).min(LATENESS - 1)
}

/// The longest that falls into that bucket.
fn edge(bucket: usize) -> Duration {
    let above = (bucket / 8).saturating_sub(1);
    let micros = ((bucket - 8 * above + 1) << above) - 1;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// Upper edge of the bucket that holds the value below which `percent` of all lie.
fn percentile(buckets: &[u64; LATENESS], percent: u64) -> Duration {
    let wanted = (buckets.iter().sum::<u64>() * percent).div_ceil(100);
    let mut seen = 0;
    for (at, held) in buckets.iter().enumerate() {
        seen += held;
        if seen >= wanted && wanted > 0 {
            return edge(at);
        }
    }
    Duration::ZERO
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_has_its_percentiles() {
        let counters = LaneCounters::default();
        assert_eq!(counters.snapshot().late_p99, Duration::ZERO);
        for _ in 0..98 {
            counters.wake(Duration::from_micros(50));
        }
        counters.wake(Duration::from_micros(700));
        counters.wake(Duration::from_millis(30));
        let stats = counters.snapshot();
        assert_eq!(stats.late_p50, Duration::from_micros(51));
        assert_eq!(stats.late_p99, Duration::from_micros(703));
        assert_eq!(stats.late_max, Duration::from_millis(30));
    }

    #[test]
    fn each_bucket_is_within_an_eighth_of_what_it_holds() {
        for micros in (0..20_000).chain([1 << 20, (1 << 24) - 1]) {
            let late = Duration::from_micros(micros);
            let edge = edge(bucket(late));
            assert!(edge >= late && edge.as_micros() <= late.as_micros() * 9 / 8, "{late:?} {edge:?}");
        }
        assert_eq!(bucket(Duration::MAX), LATENESS - 1);
    }
}
