//! Streams and media threads leave nothing behind. Alone in its process, so that nobody else opens
//! files or starts threads at the same time.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crosspoint_codecs::format::MediaKind;
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::net::media::{MediaConfig, MediaNet, Place};

/// Only ends a hang.
const HANG: Duration = Duration::from_secs(20);

const PLACE: Place = Place { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), thread: None, beside: None };

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// A thread that was joined may be listed for a moment more: the kernel tells who waits for it before
/// it takes it off the list.
fn assert_settles_at(folder: &str, wanted: usize) {
    let start = Instant::now();
    while entries(folder) != wanted {
        assert!(start.elapsed() < HANG, "{} entries in {folder}, not {wanted}", entries(folder));
        std::thread::yield_now();
    }
}

fn open_and_close(net: &MediaNet) {
    let opened = net.open(MediaKind::Audio, PLACE).unwrap();
    drop(opened);
    let start = Instant::now();
    while net.pairs_in_use() > 0 {
        assert!(start.elapsed() < HANG, "a port pair was not given back");
        std::thread::yield_now();
    }
}

#[test]
fn a_thousand_streams_and_two_hundred_starts_leave_no_descriptor_no_thread_and_no_port() {
    let config = MediaConfig { threads: 2, ports: 42_200..=42_219 };
    let idle = (entries("/proc/self/fd"), entries("/proc/self/task"));
    let net = MediaNet::start(&config, Clock::start()).unwrap();
    open_and_close(&net);
    let running = entries("/proc/self/fd");
    for _ in 0..1000 {
        open_and_close(&net);
    }
    assert_eq!(entries("/proc/self/fd"), running);
    net.stop();
    drop(net);
    for _ in 0..200 {
        // Streams that are still open when it stops.
        let net = MediaNet::start(&config, Clock::start()).unwrap();
        let opened: Vec<_> = (0..10).map(|_| net.open(MediaKind::Main, PLACE).unwrap()).collect();
        net.stop();
        assert_settles_at("/proc/self/task", idle.1);
        drop((net, opened));
    }
    assert_settles_at("/proc/self/fd", idle.0);
    assert_settles_at("/proc/self/task", idle.1);
}
