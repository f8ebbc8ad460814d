//! Wall time in reports and what it measures.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Instant;

/// Seconds from 1900 to 1970 (RFC 5905 figure 4: 25567 days).
const TO_UNIX: u64 = 2_208_988_800;

/// Longest round trip that is believed. Longer ones come from stamps of another session.
const MAX_ROUND_TRIP: u32 = 60 << 16;

/// Seconds since 1900 in the upper half, which wraps in 2036; fractions in the lower (RFC 3550
/// section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// From the wall clock; what lies before 1970 is 1970.
    pub fn from_wall(wall: SystemTime) -> Self {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs().wrapping_add(TO_UNIX);
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds << 32 | fraction)
    }

    /// The middle 32 bits, as LSR carries them.
    pub const fn middle(self) -> u32 {
        let [_, _, a, b, c, d, _, _] = self.0.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// Nanoseconds from `earlier` to `self`, over the wrap of 2036; negative when it is later.
    pub fn nanos_since(self, earlier: Self) -> i64 {
        let difference = i128::from(self.0.wrapping_sub(earlier.0).cast_signed());
        i64::try_from(difference.saturating_mul(1_000_000_000) >> 32).unwrap_or(i64::MAX)
    }
}

/// The SR that a report block answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSenderReport {
    /// Its stamp.
    pub ntp: NtpTime,
    /// When it came.
    pub at: Instant,
}

impl LastSenderReport {
    /// LSR and DLSR of a report block that is sent at `now`; zeros without an SR.
    pub fn echo(last: Option<Self>, now: Instant) -> (u32, u32) {
        let Some(Self { ntp, at }) = last else { return (0, 0) };
        let delay = (now.saturating_since(at).as_nanos() << 16) / 1_000_000_000;
        (ntp.middle(), u32::try_from(delay).unwrap_or(u32::MAX))
    }
}

/// The round trip that a report block tells which came at `now` (RFC 3550 section 6.4.1): arrival
/// minus LSR minus DLSR. `None` when it echoes no SR or cannot be true.
pub fn round_trip(now: NtpTime, last_sender_report: u32, delay: u32) -> Option<Duration> {
    if last_sender_report == 0 {
        return None;
    }
    let trip = now.middle().wrapping_sub(last_sender_report).wrapping_sub(delay);
    // The two clocks count in other steps, so a trip of nothing may come out just below zero.
    let trip = if trip > u32::MAX.wrapping_sub(1 << 10) { 0 } else { trip };
    (trip <= MAX_ROUND_TRIP)
        .then(|| Duration::from_nanos((u64::from(trip).saturating_mul(1_000_000_000)) >> 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_section_6_4_1() {
        // RFC 3550 figure 2: n's SR at 0xb44d_b705.2000_0000, DLSR 5.25 s, received back at
        // 0xb710:8000; delay 6.125 s.
        let sent = NtpTime(0xb44d_b705_2000_0000);
        assert_eq!(sent.middle(), 0xb705_2000);
        let back = NtpTime(0xb44d_b710_8000_0000);
        assert_eq!(round_trip(back, 0xb705_2000, 0x0005_4000), Some(Duration::from_millis(6125)));
    }

    #[test]
    fn what_cannot_be_a_round_trip_is_none() {
        let now = NtpTime(100 << 32);
        assert_eq!(round_trip(now, 0, 0), None);
        assert_eq!(round_trip(now, 200 << 16, 0), None);
        assert_eq!(round_trip(now, 1 << 16, 0), None);
        assert_eq!(round_trip(now, 100 << 16, 3), Some(Duration::ZERO));
    }

    #[test]
    fn wall_time_is_counted_from_1900_and_wraps_in_2036() {
        assert_eq!(NtpTime::from_wall(UNIX_EPOCH).0 >> 32, 2_208_988_800);
        assert_eq!(NtpTime::from_wall(UNIX_EPOCH + Duration::from_millis(500)).0 & 0xffff_ffff, 1 << 31);
        assert_eq!(NtpTime::from_wall(UNIX_EPOCH - Duration::from_secs(1)), NtpTime::from_wall(UNIX_EPOCH));
        let before = UNIX_EPOCH + Duration::from_secs((1 << 32) - 2_208_988_800 - 1);
        let after = before + Duration::from_millis(1500);
        assert_eq!(NtpTime::from_wall(after).0, 1 << 31);
        assert_eq!(NtpTime::from_wall(after).nanos_since(NtpTime::from_wall(before)), 1_500_000_000);
        assert_eq!(NtpTime::from_wall(before).nanos_since(NtpTime::from_wall(after)), -1_500_000_000);
    }

    #[test]
    fn an_echo_counts_since_the_report_came() {
        let last = LastSenderReport { ntp: NtpTime(0xb44d_b705_2000_0000), at: Instant::from_millis(1000) };
        assert_eq!(
            LastSenderReport::echo(Some(last), Instant::from_millis(6250)),
            (0xb705_2000, 0x0005_4000)
        );
        assert_eq!(LastSenderReport::echo(None, Instant::from_millis(6250)), (0, 0));
    }
}
