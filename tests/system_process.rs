//! The process from outside: what its tick asks of the kernel, and what it costs when idle.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot set up its peers has failed"
)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use support::baresip::{Account, Baresip};
use support::gateway::Gateway;
use support::{Scratch, program};

fn tasks(pid: u32) -> Vec<(u32, String)> {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten()
        .map(|entry| {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            (entry.file_name().to_str().unwrap().parse().unwrap(), name.trim().to_owned())
        })
        .collect()
}

#[test]
fn the_audio_worker_asks_the_kernel_for_sleep_and_wake_alone() {
    let gateway = Gateway::start(&["alice", "bob"], "");
    let mut alice = Baresip::start(Account::new("alice", "opus/48000/2", 440), gateway.sip);
    let bob = Baresip::start(Account::new("bob", "PCMU/8000/1", 620), gateway.sip);
    alice.dial(&format!("sip:bob@127.0.0.1:{}", gateway.sip));
    alice.event("CALL_ESTABLISHED");
    std::thread::sleep(Duration::from_secs(1));
    let all = tasks(gateway.pid());
    let (worker, _) = all
        .iter()
        .find(|(_, name)| name.starts_with(AUDIO_WORKER))
        .unwrap_or_else(|| panic!("no thread {AUDIO_WORKER} among {all:?}"));
    let scratch = Scratch::new("strace");
    let file: PathBuf = scratch.path().join("trace");
    let before = caught_up(&gateway);
    let mut strace = program("strace").args(["-p", &worker.to_string(), "-o"]).arg(&file).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    program("kill").args(["-INT", &strace.id().to_string()]).status().unwrap();
    strace.wait().unwrap();
    let caught_up = caught_up(&gateway) - before;
    alice.hang_up();
    bob.event("CALL_CLOSED");
    let trace = std::fs::read_to_string(&file).unwrap();
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for line in trace.lines() {
        if let Some((name, _)) = line.split_once('(')
            && name.chars().all(|sign| sign.is_ascii_lowercase() || sign == '_' || sign.is_ascii_digit())
        {
            *calls.entry(name).or_default() += 1;
        }
    }
    let (sleeps, wakes) = (calls.remove("clock_nanosleep"), calls.remove("write"));
    // The call that was interrupted when the tracer came is resumed by name.
    calls.remove("restart_syscall");
    assert!(wakes.is_some_and(|count| count > 50), "{wakes:?} wakes");
    // One a tick: a tick that a busy machine made late is made up for without a sleep of its own.
    let ticks = sleeps.map(|sleeps| sleeps + 1 + caught_up);
    assert!(ticks.is_some_and(|count| count > 100), "{ticks:?} ticks\n{trace}");
    assert!(wakes <= ticks, "{wakes:?} wakes in {ticks:?} ticks, {caught_up} of them made up for");
    assert!(calls.is_empty(), "and also {calls:?}");
}

/// Ticks of sound that came right after another.
fn caught_up(gateway: &Gateway) -> usize {
    let status = gateway.status();
    let engines = status["engine"].as_array().unwrap().iter();
    engines.map(|engine| engine["audio"]["caught_up"].as_u64().unwrap() as usize).sum()
}

/// The beginning of the name of the thread that ticks for sound.
const AUDIO_WORKER: &str = "media-audio";

#[test]
fn idle_with_a_thousand_devices_it_takes_a_hundredth_of_a_core_and_30_mib() {
    let names: Vec<String> = (0..1000).map(|n| format!("device{n}")).collect();
    let devices: Vec<&str> = names.iter().map(String::as_str).collect();
    let gateway = Gateway::start(&devices, "");
    // The start itself is not idleness.
    std::thread::sleep(Duration::from_secs(2));
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // Fields 14 and 15 of proc(5), counted from the state: 100 to a second.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(10));
    let used = ticks() - before;
    assert!(used <= 10, "{used} of 1000 ticks of the processor");
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(kib <= 30 * 1024, "{kib} KiB resident");
}
