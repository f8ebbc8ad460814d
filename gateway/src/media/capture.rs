//! What is seen of a call by who captures it: a ring between the threads that send and receive and the
//! one that writes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use crossbeam_queue::ArrayQueue;

/// Packets that wait to be written: a second of ten streams of sound and pictures each way. Overflow:
/// the newest is left out and counted.
pub const PACKETS: usize = 8_192;

/// Octets that they have together. Overflow: the same.
pub const OCTETS: usize = 8 << 20;

/// One datagram or message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it came or went.
    pub at: SystemTime,
    /// Who sent it.
    pub from: SocketAddr,
    /// Who got it.
    pub to: SocketAddr,
    /// "media", or what its signalling goes by: "udp", "tcp", "tls".
    pub by: &'static str,
    /// All of it.
    pub data: Box<[u8]>,
}

/// The ring of one capture. Who puts in never waits.
#[derive(Debug)]
pub struct Capture {
    ring: ArrayQueue<Packet>,
    octets: AtomicUsize,
    seen: AtomicU64,
    dropped: AtomicU64,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            ring: ArrayQueue::new(PACKETS),
            octets: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Capture {
    /// Something came or went.
    pub fn put(&self, from: SocketAddr, to: SocketAddr, by: &'static str, data: &[u8]) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        let waiting = self.octets.fetch_add(data.len(), Ordering::Relaxed);
        let fits = waiting + data.len() <= OCTETS;
        let packet = || Packet { at: SystemTime::now(), from, to, by, data: data.into() };
        if !fits || self.ring.push(packet()).is_err() {
            self.octets.fetch_sub(data.len(), Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest that waits.
    pub fn take(&self) -> Option<Packet> {
        let packet = self.ring.pop()?;
        self.octets.fetch_sub(packet.data.len(), Ordering::Relaxed);
        Some(packet)
    }

    /// How many were seen, and how many of them were left out.
    pub fn counts(&self) -> (u64, u64) {
        (self.seen.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_left_out_and_counted_when_nobody_writes() {
        let there: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let capture = Capture::default();
        let more = PACKETS + 3;
        (0..more).for_each(|number| capture.put(there, there, "media", &number.to_be_bytes()));
        assert_eq!(capture.counts(), (more as u64, 3));
        assert_eq!(*capture.take().unwrap().data, 0_usize.to_be_bytes());
        while capture.take().is_some() {}
        // By size as well, and the room is there again afterwards.
        (0..9).for_each(|_| capture.put(there, there, "media", &vec![0; OCTETS / 8]));
        assert_eq!(capture.counts().1, 4);
        assert_eq!(std::iter::from_fn(|| capture.take()).count(), 8);
        capture.put(there, there, "media", &[1]);
        assert!(capture.take().is_some());
    }
}
