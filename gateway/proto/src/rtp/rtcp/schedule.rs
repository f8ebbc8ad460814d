//! When to send RTCP (RFC 3550 section 6.3, for two parties; RFC 4585 for feedback between).

use std::time::Duration;

use crate::Instant;

/// Longest minimum interval (RFC 3550 section 6.2).
const MINIMUM: Duration = Duration::from_secs(5);
/// The reduced minimum is 360 s divided by the rate in kbit/s (section 6.2). We never go below a
/// second: what a report says does not change faster, and feedback does not wait for it.
const REDUCED_MINIMUM_BITS: u64 = 360_000;
const FLOOR: Duration = Duration::from_secs(1);
/// The first report may go at once between two parties (section 6.2); it carries the time stamps
/// that sound and pictures are matched by. A tenth of a second keeps both sides from speaking at once.
const FIRST: Duration = Duration::from_millis(100);
/// Section 6.3.1: timer reconsideration converges below the mean; e - 3/2 makes up for it.
const COMPENSATION_MILLIONTHS: u64 = 1_218_282;
/// RTCP takes 5 % of the session (section 6.2).
const SHARE: u64 = 20;
const PARTIES: u64 = 2;
/// Rate that is assumed while none is known: a G.711 call.
const DEFAULT_BITRATE: u32 = 64_000;
/// Early feedback that may go in a row before its share of the rate is used up, in bytes: a keyframe
/// request and some NACKs.
const BURST: u64 = 500;

/// Decides when regular reports go, and whether feedback may go before.
#[derive(Clone, Debug)]
pub struct RtcpSchedule {
    bitrate: u32,
    /// Mean size of compound packets both ways with their IP and UDP headers, in 16ths of a byte
    /// (section 6.3.3).
    mean_size: u64,
    next: Instant,
    /// Bytes of early feedback that may go, in millionths.
    credit: u64,
    credited: Instant,
}

impl RtcpSchedule {
    /// Starts at `now`. `random` is any number, evenly drawn.
    pub fn new(now: Instant, random: u32) -> Self {
        Self {
            bitrate: DEFAULT_BITRATE,
            mean_size: 16 * 100,
            next: now + part(FIRST, random),
            credit: BURST * 1_000_000,
            credited: now,
        }
    }

    /// The session's rate in bit/s: all that both sides send.
    pub fn set_bitrate(&mut self, bitrate: u32) {
        self.bitrate = bitrate.max(1000);
    }

    /// When the next regular report goes.
    pub const fn due(&self) -> Instant {
        self.next
    }

    /// A compound packet of `size` bytes came or went.
    pub fn observe(&mut self, size: usize) {
        let size = u64::try_from(size).unwrap_or(u64::MAX).saturating_add(28).saturating_mul(16);
        self.mean_size = size.saturating_add(self.mean_size.saturating_mul(15)) / 16;
    }

    /// The regular report went; the next one follows after a random part of the interval.
    pub fn sent(&mut self, now: Instant, random: u32) {
        self.next = now + self.interval(random);
    }

    /// Whether early feedback of `size` bytes may go now, where AVPF was negotiated. Between two
    /// parties it need not wait for others (RFC 4585 section 3.5.1), only keep to RTCP's share.
    pub fn take_early(&mut self, now: Instant, size: usize) -> bool {
        let micros = u64::try_from(now.saturating_since(self.credited).as_micros()).unwrap_or(u64::MAX);
        let earned = micros.saturating_mul(u64::from(self.bitrate) / (8 * SHARE));
        self.credit = self.credit.saturating_add(earned).min(BURST * 1_000_000);
        self.credited = now;
        let cost = u64::try_from(size).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        match self.credit.checked_sub(cost) {
            Some(rest) => {
                self.credit = rest;
                true
            }
            None => false,
        }
    }

    /// Section 6.3.1, with both parties as members whether they send or not.
    fn interval(&self, random: u32) -> Duration {
        let bitrate = u64::from(self.bitrate);
        let minimum = Duration::from_micros(
            REDUCED_MINIMUM_BITS.saturating_mul(1_000_000).checked_div(bitrate).unwrap_or(u64::MAX),
        );
        let minimum = minimum.clamp(FLOOR, MINIMUM);
        let bits = self.mean_size.saturating_mul(8).saturating_mul(PARTIES) / 16;
        let needed = bits.saturating_mul(SHARE).saturating_mul(1_000_000).checked_div(bitrate).unwrap_or(0);
        let interval = minimum.max(Duration::from_micros(needed));
        // Half to one and a half, and then the compensation.
        let spread = part(interval, 1 << 31).saturating_add(part(interval, random));
        let micros = u64::try_from(spread.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(micros.saturating_mul(1_000_000) / COMPENSATION_MILLIONTHS)
    }
}

/// `random` 2^32nds of `whole`.
fn part(whole: Duration, random: u32) -> Duration {
    let nanos = (whole.as_nanos().saturating_mul(u128::from(random))) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(schedule: &mut RtcpSchedule, random: u32) -> Duration {
        schedule.sent(Instant::ZERO, random);
        schedule.due() - Instant::ZERO
    }

    #[test]
    fn intervals_spread_from_half_to_one_and_a_half() {
        let mut schedule = RtcpSchedule::new(Instant::ZERO, u32::MAX);
        assert!(schedule.due() <= Instant::ZERO + FIRST);
        schedule.set_bitrate(64_000);
        // 5 s * 0.5 / 1.218 and 5 s * 1.5 / 1.218.
        assert_eq!(interval(&mut schedule, 0).as_millis(), 2052);
        assert_eq!(interval(&mut schedule, u32::MAX).as_millis(), 6156);
        // Above 72 kbit/s the reduced minimum: 360 / 240 = 1.5 s.
        schedule.set_bitrate(240_000);
        assert_eq!(interval(&mut schedule, 1 << 31).as_millis(), 1231);
        schedule.set_bitrate(4_000_000);
        assert_eq!(interval(&mut schedule, 1 << 31).as_millis(), 820);
    }

    #[test]
    fn a_thin_session_sends_less() {
        let mut schedule = RtcpSchedule::new(Instant::ZERO, 0);
        schedule.set_bitrate(2000);
        for _ in 0..200 {
            schedule.observe(72);
        }
        // 100 bytes * 8 * 2 parties / (5 % of 2000 bit/s) = 16 s.
        let mean = interval(&mut schedule, 1 << 31);
        assert!((12_500..13_500).contains(&mean.as_millis()), "{mean:?}");
    }

    #[test]
    fn early_feedback_keeps_to_its_share() {
        let mut schedule = RtcpSchedule::new(Instant::ZERO, 0);
        schedule.set_bitrate(160_000);
        let mut now = Instant::ZERO;
        let mut sent = 0;
        for _ in 0..10_000 {
            if schedule.take_early(now, 50) {
                sent += 50;
            }
            now += Duration::from_millis(1);
        }
        // 5 % of 160 kbit/s are 1000 bytes a second; the burst comes on top.
        assert!((10_000..=10_500).contains(&sent), "{sent}");
    }
}
