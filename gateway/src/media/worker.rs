//! The threads around the lanes: an absolute-deadline loop each.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use rustix::thread::{ClockId, Timespec, clock_nanosleep_absolute};

use super::engine::Engine;
use super::handle::ClockFn;
use super::lane::Lane;
use super::load::Meter;
use super::urgent;

/// How much nicer than the sound the lane of the pictures is on a machine that is full; the crew that
/// decodes and encodes for it is nicer still.
const PICTURES_BEHIND: i32 = 2;

/// The two threads of an engine.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl Workers {
    /// Starts both; they park until the first command.
    pub(super) fn start(engine: Engine, clock: ClockFn, stopping: &Arc<AtomicBool>) -> io::Result<Self> {
        let mut workers = Self { threads: Vec::new(), stopping: stopping.clone() };
        let spawned = workers
            .spawn("media-audio", None, engine.audio, clock.clone())
            .and_then(|()| workers.spawn("media-video", Some(PICTURES_BEHIND), engine.video, clock));
        match spawned {
            Ok(()) => Ok(workers),
            Err(error) => {
                stopping.store(true, Ordering::Release);
                workers.join();
                Err(error)
            }
        }
    }

    fn spawn(
        &mut self,
        name: &str,
        behind: Option<i32>,
        lane: impl Lane + 'static,
        clock: ClockFn,
    ) -> io::Result<()> {
        let stopping = self.stopping.clone();
        let worker = thread::Builder::new().name(name.into()).spawn(move || {
            urgent::place(behind);
            run(lane, &*clock, &stopping);
        })?;
        self.threads.push(worker);
        Ok(())
    }

    /// A command was sent.
    pub(super) fn wake(&self) {
        self.threads.iter().map(JoinHandle::thread).for_each(Thread::unpark);
    }

    /// Waits for both to end; `stopping` is set before.
    pub(super) fn join(self) {
        self.wake();
        for worker in self.threads {
            // A worker that panicked is gone as well; its message went to the panic hook.
            let _ = worker.join();
        }
    }
}

fn run<L: Lane>(mut lane: L, clock: &dyn Fn() -> Instant, stopping: &AtomicBool) {
    let counters = lane.counters().clone();
    while !stopping.load(Ordering::Acquire) {
        // Whoever sends a command unparks afterwards, so none is slept over.
        if lane.idle() {
            lane.clear();
            thread::park();
            continue;
        }
        let offset = Offset::now(clock);
        let mut due = clock();
        let mut meter = Meter::new(due);
        while !lane.idle() && !stopping.load(Ordering::Acquire) {
            let now = clock();
            counters.wake(now.saturating_since(due));
            let (steps, jump) = missed::<L>(now.saturating_since(due));
            counters.late(steps - 1, jump);
            due += L::PERIOD * u32::try_from(jump).unwrap_or(u32::MAX);
            for _ in 0..steps {
                lane.step(due);
                due += L::PERIOD;
            }
            let end = clock();
            let busy = end.saturating_since(now);
            counters.step(busy);
            let own = meter.note(end, busy);
            if let Some(share) = lane.look().unwrap_or(own) {
                counters.measured(share);
            }
            offset.sleep_until(due);
        }
        counters.rest();
    }
}

/// How many steps to do at a wake that is `late`, and how many to leave out before them.
fn missed<L: Lane>(late: Duration) -> (u64, u64) {
    let missed = u64::try_from(late.as_nanos() / L::PERIOD.as_nanos().max(1)).unwrap_or(u64::MAX);
    let caught_up = missed.min(L::CATCH_UP);
    (caught_up.saturating_add(1), missed - caught_up)
}

/// What to add to the gateway's clock to have the system's, which can be slept on.
struct Offset(i128);

impl Offset {
    fn now(clock: &dyn Fn() -> Instant) -> Self {
        let system = rustix::time::clock_gettime(ClockId::Monotonic);
        let system = i128::from(system.tv_sec) * 1_000_000_000 + i128::from(system.tv_nsec);
        Self(system - i128::from(clock().as_nanos()))
    }

    /// Sleeps until `due`, however often a signal interrupts. Returns at once when it is past.
    fn sleep_until(&self, due: Instant) {
        let nanos = (i128::from(due.as_nanos()) + self.0).max(0);
        let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
        let rest = i64::try_from(nanos % 1_000_000_000).unwrap_or(0);
        let wanted = Timespec { tv_sec: seconds, tv_nsec: rest };
        while clock_nanosleep_absolute(ClockId::Monotonic, &wanted) == Err(rustix::io::Errno::INTR) {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::audio::AudioLane;
    use super::super::video::VideoLane;
    use super::*;

    #[test]
    fn a_late_wake_makes_up_for_a_few_ticks_and_leaves_out_the_rest() {
        let audio = |millis| missed::<AudioLane>(Duration::from_millis(millis));
        assert_eq!(audio(0), (1, 0));
        assert_eq!(audio(19), (1, 0));
        assert_eq!(audio(20), (2, 0));
        assert_eq!(audio(119), (6, 0));
        assert_eq!(audio(120), (6, 1));
        assert_eq!(audio(10_000), (6, 495));
        let video = |millis| missed::<VideoLane>(Duration::from_millis(millis));
        assert_eq!((video(0), video(35)), ((1, 0), (1, 3)));
    }

    #[test]
    fn sleeping_until_the_past_or_the_present_is_no_sleep() {
        let clock = || Instant::from_nanos(5_000_000_000);
        let offset = Offset::now(&clock);
        offset.sleep_until(Instant::ZERO);
        offset.sleep_until(clock());
    }
}
