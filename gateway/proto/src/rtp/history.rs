//! Packets that were sent, to answer requests for them (RFC 4585 section 6.2.1).

use std::time::Duration;

use crosspoint_codecs::frame::Data;

use crate::Instant;

/// Least time between two retransmissions of one packet: a second request within it was sent before
/// the first answer can have come.
const MIN_REPEAT: Duration = Duration::from_millis(20);
/// Retransmissions of one packet; whoever asks more often has another trouble than loss.
const MAX_REPEATS: u8 = 4;
/// Age at which a packet is of no use: longer than any receiver's buffer.
const MAX_AGE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
struct Sent {
    sequence: u16,
    at: Instant,
    repeated_at: Option<Instant>,
    repeats: u8,
    data: Data,
}

/// A ring of sent packets, before their protection: protecting the same packet again gives the same
/// bytes. Allocates when it is made and never again.
///
/// Bound: packets and bytes, both given. Overflow: the oldest are forgotten.
#[derive(Clone, Debug)]
pub struct History {
    ring: Box<[Option<Sent>]>,
    /// Where the next goes, and the oldest is found from.
    head: usize,
    len: usize,
    bytes: usize,
    max_bytes: usize,
    repeated: u64,
    refused: u64,
}

impl History {
    /// Room for so many packets and bytes. A second of video at 4 Mbit/s is 420 packets of 1200.
    pub fn new(packets: usize, max_bytes: usize) -> Self {
        Self {
            ring: vec![None; packets.max(1)].into(),
            head: 0,
            len: 0,
            bytes: 0,
            max_bytes,
            repeated: 0,
            refused: 0,
        }
    }

    /// A packet with this sequence number went out.
    pub fn push(&mut self, now: Instant, sequence: u16, data: Data) {
        if data.len() > self.max_bytes {
            return;
        }
        while self.len >= self.ring.len() || self.bytes.saturating_add(data.len()) > self.max_bytes {
            self.forget_oldest();
        }
        self.bytes = self.bytes.saturating_add(data.len());
        let head = self.head;
        if let Some(place) = self.ring.get_mut(head) {
            *place = Some(Sent { sequence, at: now, repeated_at: None, repeats: 0, data });
        }
        self.head = self.behind(head, 1);
        self.len = self.len.saturating_add(1);
    }

    /// The packet that was asked for, to be sent again. `None` when it is forgotten or too old, or
    /// went again just now or too often; `round_trip` is how long an answer takes.
    pub fn repeat(&mut self, now: Instant, sequence: u16, round_trip: Duration) -> Option<&Data> {
        let pause = round_trip.clamp(MIN_REPEAT, MAX_AGE);
        let (refused, repeated) = (&mut self.refused, &mut self.repeated);
        let sent = self.ring.iter_mut().flatten().find(|sent| sent.sequence == sequence);
        let fresh = sent.filter(|sent| {
            sent.repeats < MAX_REPEATS
                && now.saturating_since(sent.at) <= MAX_AGE
                && sent.repeated_at.is_none_or(|at| now.saturating_since(at) >= pause)
        });
        let Some(sent) = fresh else {
            *refused = refused.saturating_add(1);
            return None;
        };
        *repeated = repeated.saturating_add(1);
        sent.repeats = sent.repeats.saturating_add(1);
        sent.repeated_at = Some(now);
        Some(&sent.data)
    }

    /// Forgets everything, as when the source changes; counters stay.
    pub fn clear(&mut self) {
        self.ring.fill(None);
        self.len = 0;
        self.bytes = 0;
    }

    /// Packets sent again, and requests that were not answered.
    pub const fn counters(&self) -> (u64, u64) {
        (self.repeated, self.refused)
    }

    fn forget_oldest(&mut self) {
        let oldest = self.behind(self.head, self.ring.len().saturating_sub(self.len));
        if let Some(sent) = self.ring.get_mut(oldest).and_then(Option::take) {
            self.bytes = self.bytes.saturating_sub(sent.data.len());
        }
        self.len = self.len.saturating_sub(1);
    }

    fn behind(&self, place: usize, steps: usize) -> usize {
        place.saturating_add(steps).checked_rem(self.ring.len()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use crosspoint_codecs::frame::Pool;

    use super::*;

    const TRIP: Duration = Duration::from_millis(50);

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_packet_is_repeated_but_not_in_a_hurry_and_not_for_ever() {
        let mut history = History::new(8, 1000);
        history.push(at(0), 7, Data::from_slice(b"seven"));
        assert!(history.repeat(at(10), 8, TRIP).is_none());
        assert_eq!(history.repeat(at(10), 7, TRIP).map(|data| &**data), Some(&b"seven"[..]));
        assert!(history.repeat(at(59), 7, TRIP).is_none());
        for time in [60, 110, 160] {
            assert!(history.repeat(at(time), 7, TRIP).is_some());
        }
        assert!(history.repeat(at(500), 7, TRIP).is_none(), "four times are enough");
        assert_eq!(history.counters(), (4, 3));
    }

    #[test]
    fn an_old_packet_is_of_no_use() {
        let mut history = History::new(8, 1000);
        history.push(at(0), 7, Data::from_slice(b"seven"));
        assert!(history.repeat(at(2001), 7, TRIP).is_none());
    }

    #[test]
    fn packets_and_bytes_are_bounded_and_buffers_go_back() {
        let pool = Pool::new(8, 16);
        let mut history = History::new(4, 30);
        for sequence in 0..100u16 {
            history.push(at(0), sequence, pool.copy(&[7; 10]).unwrap());
            assert!(history.bytes <= 30 && history.len <= 3);
        }
        assert_eq!(pool.available(), 5);
        assert!(history.repeat(at(1), 96, TRIP).is_none());
        assert!(history.repeat(at(1), 97, TRIP).is_some());
        for sequence in 100..110u16 {
            history.push(at(0), sequence, pool.copy(&[7; 1]).unwrap());
        }
        assert_eq!((history.len, history.bytes, pool.available()), (4, 4, 4));
        history.push(at(0), 110, Data::from_slice(&[0; 31]));
        assert_eq!(history.len, 4, "what is larger than the ring goes unremembered");
        history.clear();
        assert_eq!(pool.available(), 8);
        history.push(at(0), 1, pool.copy(&[7; 1]).unwrap());
        assert!(history.repeat(at(1), 1, TRIP).is_some());
    }

    #[test]
    fn a_number_that_comes_around_again_is_the_new_packet() {
        let mut history = History::new(4, 100);
        for round in 0..3u8 {
            history.push(at(0), 5, Data::from_slice(&[round]));
            for filler in 0..3 {
                history.push(at(0), 100 + filler, Data::from_slice(b"x"));
            }
        }
        assert_eq!(history.repeat(at(1), 5, TRIP).map(|data| &**data), Some(&[2][..]));
    }
}
