//! What a room shows of each of its members: who talks, how loud, and who did so last.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::kernels::level::SILENCE;

/// One member of a bus, as of its last tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// It has one of the places in the mix.
    pub talking: bool,
    /// Its level in -dBov (0 loud, 127 silent), before any gain. A muted member is silent.
    pub level: u8,
    /// How long ago it was last clearly louder than its own noise; `None` when it never was.
    pub last_sound: Option<Duration>,
}

/// Never heard.
const NEVER: u64 = u64::MAX;

/// Written by the tick, read by anybody.
#[derive(Debug)]
pub(super) struct ActivityCounters {
    talking: AtomicBool,
    level: AtomicU8,
    last_sound: AtomicU64,
}

impl Default for ActivityCounters {
    fn default() -> Self {
        Self {
            talking: AtomicBool::new(false),
            level: AtomicU8::new(SILENCE),
            last_sound: AtomicU64::new(NEVER),
        }
    }
}

impl ActivityCounters {
    pub(super) fn note(&self, now: Instant, level: u8, talking: bool, sounds: bool) {
        self.level.store(level, Relaxed);
        self.talking.store(talking, Relaxed);
        if sounds {
            self.last_sound.store(now.as_nanos(), Relaxed);
        }
    }

    /// As of the tick at `now`, in nanoseconds of the gateway's clock.
    pub(super) fn snapshot(&self, now: u64) -> Activity {
        let last = Some(self.last_sound.load(Relaxed)).filter(|last| *last != NEVER);
        Activity {
            talking: self.talking.load(Relaxed),
            level: self.level.load(Relaxed),
            // It may have been written after `now` was read.
            last_sound: last.map(|last| Duration::from_nanos(now.saturating_sub(last))),
        }
    }
}
