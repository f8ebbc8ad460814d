//! Who goes first where there are more threads than processors.

use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// The lowest of the real-time priorities: before everything that is not real-time, behind what the
/// system itself needs.
const PRIORITY: u8 = 1;

/// Puts the calling thread where it belongs: pictures `behind` by so much niceness, the sound before all.
pub(super) fn place(behind: Option<i32>) {
    match behind {
        // Linux has it for each thread. A system that refuses has its reasons.
        Some(behind) => drop(rustix::process::setpriority_process(None, behind)),
        None => be_urgent(),
    }
}

/// Lets the calling thread go before all that is not real-time (`SCHED_RR`), where the system allows
/// it (`CAP_SYS_NICE`, or `RLIMIT_RTPRIO` of 1). Without, an encoder of pictures that has just been given
/// a processor keeps it for a time slice, some 2 ms, however nice it is, and the tick waits.
fn be_urgent() {
    let Ok(value) = ThreadPriorityValue::try_from(PRIORITY) else { return };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    // Who may not has his reasons, and a few milliseconds more.
    if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(value), policy)
        .is_err()
    {
        tracing::debug!("sound has no real-time priority: give it CAP_SYS_NICE or RLIMIT_RTPRIO");
    }
}
