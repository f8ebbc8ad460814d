//! What came from one source: sequence numbers without wrap, loss and jitter (RFC 3550 appendix A).

use std::time::Duration;

use crate::Instant;

/// Packets in a row before a source counts as one (RFC 3550 A.1): one stray packet with the right
/// payload type shall not make a stream.
pub const MIN_SEQUENTIAL: u8 = 2;
/// Largest jump ahead that is loss and not a restart (A.1): a minute at 50 packets a second.
pub const MAX_DROPOUT: u16 = 3000;
/// Largest step back that is disorder and not a restart (A.1).
pub const MAX_MISORDER: u16 = 100;

/// A sequence number that never wraps: cycles in the upper bits, the packet's own in the lower
/// sixteen. The first packet of a source is in cycle one, so that those before it have an index.
pub type Index = u64;

/// Index of the first cycle.
const FIRST_CYCLE: Index = 1 << 16;

/// What a sequence number means for its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// The source is not yet believed in; drop the packet, or hold it until it is.
    Probation,
    /// In order, ahead, or late within bounds.
    Valid(Index),
    /// The source began anew, with this packet: forget what was held of it.
    Restarted(Index),
    /// Far off, and alone with it so far; drop the packet.
    Outlier,
}

/// What a report block says of a source (RFC 3550 section 6.4.1), without the times of its reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceptionReport {
    /// Loss since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, 24 bits with sign: duplicates can make it negative.
    pub cumulative_lost: i32,
    /// Highest sequence number, with the cycles in the upper half.
    pub highest: u32,
    /// Interarrival jitter in ticks of the stream's clock.
    pub jitter: u32,
}

/// Counts one source.
#[derive(Clone, Debug)]
pub struct Reception {
    clock: u32,
    highest: Index,
    base: Index,
    /// The next after a packet that was far off: a second one makes a restart.
    bad: Option<u16>,
    /// Packets in a row that are still wanted, and the next expected of them.
    probation: u8,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    /// Transit of the last packet, in ticks modulo 2^32.
    transit: Option<u32>,
    /// Sixteen times the jitter (A.8).
    jitter: u32,
    started: bool,
}

impl Reception {
    /// A source whose time stamps count `clock` ticks a second. With `probation` zero it is believed
    /// at once: right where SRTP or the signalling vouch for it.
    pub const fn new(clock: u32, probation: u8) -> Self {
        Self {
            clock: if clock == 0 { 1 } else { clock },
            highest: 0,
            base: 0,
            bad: None,
            probation,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            jitter: 0,
            started: false,
        }
    }

    /// A packet came (A.1).
    pub fn sequence(&mut self, sequence: u16) -> Sequence {
        if !self.started {
            self.started = true;
            self.restart(sequence);
            return self.probe();
        }
        let highest = Self::low(self.highest);
        let ahead = sequence.wrapping_sub(highest);
        if self.probation > 0 {
            if ahead == 1 {
                self.highest = self.highest.saturating_add(1);
                return self.probe();
            }
            // What came before was not the beginning of a row; perhaps this is.
            self.probation = MIN_SEQUENTIAL;
            self.restart(sequence);
            return self.probe();
        }
        if ahead < MAX_DROPOUT {
            self.highest = self.highest.saturating_add(u64::from(ahead));
            self.bad = None;
        } else if ahead <= MAX_MISORDER.wrapping_neg() {
            // Two in a row far off: the other side restarted without saying so.
            if self.bad != Some(sequence) {
                self.bad = Some(sequence.wrapping_add(1));
                return Sequence::Outlier;
            }
            self.restart(sequence);
            self.received = 1;
            return Sequence::Restarted(self.highest);
        }
        self.received = self.received.saturating_add(1);
        // What is behind the highest is so by at most MAX_MISORDER, and cycle one lies above.
        let behind = highest.wrapping_sub(sequence);
        let index =
            if ahead < MAX_DROPOUT { self.highest } else { self.highest.saturating_sub(u64::from(behind)) };
        Sequence::Valid(index)
    }

    /// One more of the row that probation wants.
    fn probe(&mut self) -> Sequence {
        self.probation = self.probation.saturating_sub(1);
        if self.probation > 0 {
            return Sequence::Probation;
        }
        self.base = self.highest;
        self.received = 1;
        Sequence::Valid(self.highest)
    }

    fn restart(&mut self, sequence: u16) {
        // Above all indices so far, so that an index is never used twice.
        let cycle = (self.highest | 0xffff).saturating_add(1).max(FIRST_CYCLE);
        self.highest = cycle | u64::from(sequence);
        self.base = self.highest;
        self.bad = None;
        self.received = 0;
        self.expected_prior = 0;
        self.received_prior = 0;
        self.transit = None;
    }

    /// A packet with this time stamp came at `now` (A.8). Call it for valid packets that carry
    /// media; those of telephone-event keep their first stamp and would count as jitter.
    pub fn arrival(&mut self, now: Instant, timestamp: u32) {
        let ticks = u128::from(now.as_nanos()).saturating_mul(u128::from(self.clock)) / 1_000_000_000;
        let arrival = u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or(0);
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(last) = self.transit.replace(transit) {
            let difference = transit.wrapping_sub(last).cast_signed().unsigned_abs();
            // A jump of more than ten seconds is a new time base, not jitter.
            if u64::from(difference) <= u64::from(self.clock).saturating_mul(10) {
                let decay = self.jitter.saturating_add(8) >> 4;
                self.jitter = self.jitter.saturating_add(difference).saturating_sub(decay);
            }
        }
    }

    /// Whether the source is past its probation.
    pub const fn is_valid(&self) -> bool {
        self.started && self.probation == 0
    }

    /// Packets that came, with duplicates.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Packets that were due by now.
    pub const fn expected(&self) -> u64 {
        if self.is_valid() { self.highest.saturating_sub(self.base).saturating_add(1) } else { 0 }
    }

    /// Packets that are missing; late ones make it shrink, duplicates too.
    pub const fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// The highest index so far.
    pub const fn highest(&self) -> Index {
        self.highest
    }

    /// Interarrival jitter (A.8).
    pub fn jitter(&self) -> Duration {
        let nanos = u64::from(self.jitter >> 4).saturating_mul(1_000_000_000);
        Duration::from_nanos(nanos.checked_div(u64::from(self.clock)).unwrap_or(0))
    }

    /// The report of now; the next one counts its fraction from here (A.3). `None` before the first
    /// valid packet.
    pub fn report(&mut self) -> Option<ReceptionReport> {
        if !self.is_valid() {
            return None;
        }
        let expected = self.expected();
        let lost = i64::try_from(expected).ok()?.saturating_sub(i64::try_from(self.received).ok()?);
        let expected_interval = expected.saturating_sub(self.expected_prior);
        let received_interval = self.received.saturating_sub(self.received_prior);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_interval = expected_interval.saturating_sub(received_interval);
        let fraction = lost_interval.saturating_mul(256).checked_div(expected_interval).unwrap_or(0);
        // Cycles since the first packet or the last restart; the field holds the low 32 bits.
        let highest = self.highest.saturating_sub(self.base & !0xffff) & u64::from(u32::MAX);
        Some(ReceptionReport {
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(lost.clamp(-0x80_0000, 0x7f_ffff)).unwrap_or(0),
            highest: u32::try_from(highest).unwrap_or(0),
            jitter: self.jitter >> 4,
        })
    }

    fn low(index: Index) -> u16 {
        u16::try_from(index & 0xffff).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(reception: &mut Reception, sequence: u16) -> Index {
        match reception.sequence(sequence) {
            Sequence::Valid(index) => index,
            other => panic!("{sequence}: {other:?}"),
        }
    }

    #[test]
    fn a_source_is_believed_after_two_in_a_row() {
        let mut reception = Reception::new(8000, MIN_SEQUENTIAL);
        assert_eq!(reception.sequence(10), Sequence::Probation);
        assert_eq!(reception.sequence(500), Sequence::Probation);
        assert_eq!(reception.report(), None);
        assert!(matches!(reception.sequence(501), Sequence::Valid(_)));
        assert_eq!((reception.expected(), reception.received(), reception.lost()), (1, 1, 0));
    }

    #[test]
    fn numbers_go_on_over_the_wrap_and_late_ones_go_back_over_it() {
        let mut reception = Reception::new(8000, 0);
        let first = valid(&mut reception, 65_534);
        assert_eq!(valid(&mut reception, 65_535), first + 1);
        assert_eq!(valid(&mut reception, 1), first + 3);
        assert_eq!(valid(&mut reception, 0), first + 2);
        assert_eq!(valid(&mut reception, 65_533), first - 1);
        assert_eq!(reception.report().unwrap().highest, 0x1_0001);
    }

    #[test]
    fn packets_before_the_very_first_have_an_index_too() {
        let mut reception = Reception::new(8000, 0);
        let first = valid(&mut reception, 0);
        assert_eq!(valid(&mut reception, 65_535), first - 1);
    }

    #[test]
    fn one_packet_far_off_is_dropped_and_a_second_one_restarts() {
        let mut reception = Reception::new(8000, 0);
        let first = valid(&mut reception, 100);
        assert_eq!(reception.sequence(40_000), Sequence::Outlier);
        assert_eq!(valid(&mut reception, 101), first + 1);
        assert_eq!(reception.sequence(40_000), Sequence::Outlier);
        let Sequence::Restarted(index) = reception.sequence(40_001) else { panic!("no restart") };
        assert!(index > first + 1);
        assert_eq!(valid(&mut reception, 40_002), index + 1);
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn loss_is_counted_as_in_appendix_a_3() {
        let mut reception = Reception::new(8000, 0);
        for sequence in (0..100).filter(|sequence| sequence % 4 != 3) {
            valid(&mut reception, sequence);
        }
        // 99 is lost too, but nobody knows yet.
        let report = reception.report().unwrap();
        assert_eq!((report.cumulative_lost, report.fraction_lost), (24, (24 * 256 / 99) as u8));
        // No loss since: the fraction is of the interval, the sum stays.
        for sequence in 99..200 {
            valid(&mut reception, sequence);
        }
        let report = reception.report().unwrap();
        assert_eq!((report.cumulative_lost, report.fraction_lost, report.highest), (24, 0, 199));
        // Duplicates make it negative (section 6.4.1).
        for _ in 0..30 {
            valid(&mut reception, 199);
        }
        assert_eq!(reception.report().unwrap().cumulative_lost, -6);
        assert_eq!(reception.report().unwrap().fraction_lost, 0);
    }

    #[test]
    fn jitter_follows_appendix_a_8() {
        let mut reception = Reception::new(8000, 0);
        // 20 ms packets that come in time: none.
        for packet in 0..10u32 {
            reception.arrival(Instant::from_millis(u64::from(packet) * 20), packet * 160);
        }
        assert_eq!(reception.jitter(), Duration::ZERO);
        // One 8 ms late: D = 64 ticks, J = 64 / 16.
        reception.arrival(Instant::from_millis(208), 1600);
        assert_eq!(reception.jitter, 64);
        assert_eq!(reception.jitter(), Duration::from_micros(500));
        // Alternating by 8 ms for long: J tends to 64 ticks, 8 ms.
        for packet in 11..500u32 {
            let late = if packet % 2 == 0 { 8 } else { 0 };
            reception.arrival(Instant::from_millis(u64::from(packet) * 20 + late), packet * 160);
        }
        assert!((Duration::from_micros(7500)..=Duration::from_micros(8000)).contains(&reception.jitter()));
        // A new time base is not jitter.
        let before = reception.jitter();
        reception.arrival(Instant::from_millis(10_000), 0x8000_0000);
        assert_eq!(reception.jitter(), before);
    }

    #[test]
    fn jitter_survives_the_wrap_of_the_time_stamp() {
        let mut reception = Reception::new(90_000, 0);
        for picture in 0..40u32 {
            let stamp = (u32::MAX - 10_000).wrapping_add(picture * 3000);
            reception.arrival(Instant::from_nanos(u64::from(picture) * 100_000_000 / 3), stamp);
        }
        assert!(reception.jitter() < Duration::from_micros(100));
    }
}
