//! What programs use of the processor, as the scheduler counts it: nanoseconds, not ticks of a clock
//! that samples, which misses who wakes with it and sleeps before the next.

use std::fs;

/// Nanoseconds that the threads of a process have run; of those that are there.
pub fn of_process(pid: u32) -> u64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    threads.flatten().map(|thread| of_thread(&thread.path())).sum()
}

/// The same of one thread, by its folder in `/proc`.
pub fn of_thread(task: &std::path::Path) -> u64 {
    ran(&task.join("schedstat")).unwrap_or(0)
}

/// The same of all processes of a group, which is called after its first one.
pub fn of_group(group: u32) -> u64 {
    let all = fs::read_dir("/proc").expect("/proc");
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| group_of(*pid) == Some(group)).map(of_process).sum()
}

fn ran(path: &std::path::Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.split(' ').next()?.parse().ok()
}

/// Field 5 of its status; a name may hold spaces and ends with the last bracket.
fn group_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}
