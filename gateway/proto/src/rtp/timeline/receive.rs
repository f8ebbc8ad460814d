//! Time stamps of what comes in (RFC 3550 sections 5.1 and 6.4.1).

use crosspoint_codecs::frame::MediaTime;

use super::{signed_nanos, ticks_to_nanos};
use crate::Instant;
use crate::rtp::rtcp::NtpTime;

const MILLISECOND: i64 = 1_000_000;

/// A packet that comes so much earlier than its stamp allows belongs to a new time base.
const MAX_AHEAD: i64 = 1000 * MILLISECOND;
/// A packet may come so much later than its stamp says, in a burst after an outage; beyond it the
/// sender's stamps stood still (some phones do so on hold).
const MAX_BEHIND: i64 = 10_000 * MILLISECOND;
/// Streams that a report would move further than this against each other were not captured so:
/// there are senders whose reports are wrong.
const MAX_SKEW: i64 = 1000 * MILLISECOND;
/// So many doubtful reports in a row are a change of the sender's wall clock.
const MAX_DOUBTS: u8 = 3;
/// Corrections take twenty times their own length: 50 ms in a second, which playout follows by
/// slipping samples and nobody sees in pictures.
const SLEW: i64 = 20;
/// The shortest delay that was seen is forgotten so slowly that one late packet does not count, and
/// so fast that a drift of 200 ppm at 10 packets a second does not pile up.
const FORGET: i64 = 1024;

/// What the streams of a leg have in common: how the sender's wall clock lies on the leg's timeline.
/// The first stream to report sets it, those that follow are moved to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegClock {
    reference: Option<(NtpTime, MediaTime)>,
}

/// What a timeline met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimelineStats {
    /// Stamps that jumped, so that the timeline went on by arrival.
    pub jumps: u64,
    /// Reports that could not be true.
    pub doubtful_reports: u64,
}

/// Puts the stamps of one stream on its leg's timeline, whose zero is that of the gateway's clock.
#[derive(Clone, Debug)]
pub struct ReceiveTimeline {
    clock: u32,
    state: Option<State>,
    /// A report that came before the first packet.
    early: Option<(NtpTime, u32)>,
    doubts: u8,
    stats: TimelineStats,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Stamp of the last packet, and the same without wrap.
    stamp: u32,
    ticks: i64,
    /// A point where both are known.
    anchor_ticks: i64,
    anchor_media: i64,
    /// What reports have added to the line through the anchor, and what they want.
    correction: i64,
    wanted: i64,
    /// Up to where the correction has been moved.
    slewed_to: i64,
    /// Arrival minus line of the fastest packet of late.
    transit: i64,
    arrival: Instant,
}

impl ReceiveTimeline {
    /// For a stream with `clock` ticks a second.
    pub const fn new(clock: u32) -> Self {
        let clock = if clock == 0 { 1 } else { clock };
        Self {
            clock,
            state: None,
            early: None,
            doubts: 0,
            stats: TimelineStats { jumps: 0, doubtful_reports: 0 },
        }
    }

    /// When the packet with this stamp, which came at `now`, is to be heard or seen. Packets may come
    /// out of order.
    pub fn media_time(&mut self, now: Instant, leg: &mut LegClock, timestamp: u32) -> MediaTime {
        let arrival = signed_nanos(now);
        let Some(mut state) = self.state else {
            self.state = Some(State {
                stamp: timestamp,
                ticks: 0,
                anchor_ticks: 0,
                anchor_media: arrival,
                correction: 0,
                wanted: 0,
                slewed_to: arrival,
                transit: 0,
                arrival: now,
            });
            if let Some((ntp, stamp)) = self.early.take() {
                self.sender_report(now, leg, ntp, stamp);
                // Nothing was told yet, so nothing can jump.
                if let Some(state) = &mut self.state {
                    state.correction = state.wanted;
                }
            }
            return self.state.map_or(MediaTime(arrival), |state| {
                MediaTime(state.anchor_media.saturating_add(state.correction))
            });
        };
        let ticks = state.unwrap(timestamp);
        let line = state.line(ticks, self.clock);
        let transit = arrival.saturating_sub(line);
        let late = transit.saturating_sub(state.transit);
        if late < MAX_AHEAD.saturating_neg() || late > MAX_BEHIND {
            // The line goes on where it was, by the time that has passed.
            let passed = signed_nanos(now).saturating_sub(signed_nanos(state.arrival)).max(0);
            state.anchor_media = state.line(state.ticks, self.clock).saturating_add(passed);
            state.anchor_ticks = ticks;
            state.transit = arrival.saturating_sub(state.anchor_media);
            self.stats.jumps = self.stats.jumps.saturating_add(1);
        } else if late < 0 {
            state.transit = transit;
        } else {
            state.transit = state.transit.saturating_add(late / FORGET);
        }
        state.stamp = timestamp;
        state.ticks = ticks;
        state.arrival = state.arrival.max(now);
        let line = state.line(ticks, self.clock);
        state.slew(line);
        let media = line.saturating_add(state.correction);
        self.state = Some(state);
        MediaTime(media)
    }

    /// A sender report of this stream came at `now`.
    pub fn sender_report(&mut self, now: Instant, leg: &mut LegClock, ntp: NtpTime, timestamp: u32) {
        let Some(state) = &mut self.state else {
            self.early = Some((ntp, timestamp));
            return;
        };
        let line = state.line(state.unwrap(timestamp), self.clock);
        let late = signed_nanos(now).saturating_sub(line).saturating_sub(state.transit);
        if !(MAX_AHEAD.saturating_neg()..=MAX_BEHIND).contains(&late) {
            // It speaks of another time base: one that was left, or that no packet has come from yet.
            self.stats.doubtful_reports = self.stats.doubtful_reports.saturating_add(1);
            return;
        }
        let media = line.saturating_add(state.wanted);
        let Some((reference, at)) = leg.reference else {
            leg.reference = Some((ntp, MediaTime(media)));
            return;
        };
        let reported = at.0.saturating_add(ntp.nanos_since(reference));
        let skew = reported.saturating_sub(media);
        if skew.saturating_abs() <= MAX_SKEW {
            state.wanted = state.wanted.saturating_add(skew);
            self.doubts = 0;
            return;
        }
        self.stats.doubtful_reports = self.stats.doubtful_reports.saturating_add(1);
        self.doubts = self.doubts.saturating_add(1);
        if self.doubts >= MAX_DOUBTS {
            leg.reference = Some((ntp, MediaTime(media)));
            self.doubts = 0;
        }
    }

    /// What it met.
    pub const fn stats(&self) -> TimelineStats {
        self.stats
    }
}

impl State {
    /// The stamp without wrap: the nearest to the last one.
    const fn unwrap(&self, timestamp: u32) -> i64 {
        let step = timestamp.wrapping_sub(self.stamp).cast_signed();
        self.ticks.saturating_add(step as i64)
    }

    /// Media time by the anchor alone.
    fn line(&self, ticks: i64, clock: u32) -> i64 {
        self.anchor_media.saturating_add(ticks_to_nanos(ticks.saturating_sub(self.anchor_ticks), clock))
    }

    /// Moves the correction to where reports want it, in proportion to the media time that passed.
    fn slew(&mut self, line: i64) {
        let passed = line.saturating_sub(self.slewed_to).clamp(0, MAX_BEHIND);
        self.slewed_to = self.slewed_to.max(line);
        let step = passed / SLEW;
        let rest = self.wanted.saturating_sub(self.correction);
        self.correction = self.correction.saturating_add(rest.clamp(step.saturating_neg(), step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = MILLISECOND;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn ntp(millis: u64) -> NtpTime {
        NtpTime((1000 << 32) + (millis << 32) / 1000)
    }

    /// 20 ms packets at 8 kHz.
    fn feed(
        timeline: &mut ReceiveTimeline,
        leg: &mut LegClock,
        packets: std::ops::Range<u64>,
        stamp: u32,
    ) -> Vec<i64> {
        packets
            .map(|number| {
                let stamp = stamp.wrapping_add(u32::try_from(number * 160).unwrap());
                timeline.media_time(at(1000 + number * 20), leg, stamp).0
            })
            .collect()
    }

    #[test]
    fn before_the_first_report_arrival_sets_the_zero_and_stamps_the_steps() {
        let (mut timeline, mut leg) = (ReceiveTimeline::new(8000), LegClock::default());
        // Over the wrap, with a jitter that must not show.
        let first = u32::MAX - 1000;
        for packet in 0..1000u32 {
            let jitter = u64::from(packet * 7 % 13);
            let now = at(1000 + u64::from(packet) * 20 + if packet == 0 { 0 } else { jitter });
            let media = timeline.media_time(now, &mut leg, first.wrapping_add(packet * 160));
            assert_eq!(media.0, (1000 + i64::from(packet) * 20) * MS);
        }
        assert_eq!(timeline.stats(), TimelineStats::default());
    }

    #[test]
    fn disorder_keeps_each_packet_its_own_time() {
        let (mut timeline, mut leg) = (ReceiveTimeline::new(90_000), LegClock::default());
        timeline.media_time(at(1000), &mut leg, 9000);
        assert_eq!(timeline.media_time(at(1070), &mut leg, 9000 + 6000).0 / MS, 1066);
        assert_eq!(timeline.media_time(at(1071), &mut leg, 9000 + 3000).0 / MS, 1033);
        assert_eq!(timeline.media_time(at(1100), &mut leg, 9000 + 9000).0 / MS, 1100);
    }

    #[test]
    fn reports_bring_two_streams_together_without_a_jump() {
        let mut leg = LegClock::default();
        let (mut audio, mut video) = (ReceiveTimeline::new(8000), ReceiveTimeline::new(90_000));
        // Both were captured at once; the pictures come 200 ms later.
        let mut last = None;
        let mut skews = Vec::new();
        for tick in 0..500u64 {
            let sound = audio.media_time(at(1000 + tick * 20), &mut leg, u32::try_from(tick * 160).unwrap());
            let picture =
                video.media_time(at(1200 + tick * 20), &mut leg, u32::try_from(tick * 1800).unwrap());
            if tick == 50 {
                audio.sender_report(at(1000 + 50 * 20), &mut leg, ntp(1000), 50 * 160);
                video.sender_report(at(1200 + 50 * 20), &mut leg, ntp(1000), 50 * 1800);
            }
            if let Some(last) = last.replace(picture.0) {
                assert!((19 * MS..=21 * MS).contains(&(picture.0 - last)), "{} at {tick}", picture.0 - last);
            }
            skews.push(picture.0 - sound.0);
        }
        assert_eq!((skews[0], skews[50]), (200 * MS, 200 * MS));
        // 200 ms at 50 ms a second are done in 4 s.
        assert_eq!((skews[152] > 0, skews[260], skews[499]), (true, 0, 0));
    }

    #[test]
    fn a_report_before_the_first_packet_counts_at_once() {
        let mut leg = LegClock::default();
        let (mut audio, mut video) = (ReceiveTimeline::new(8000), ReceiveTimeline::new(90_000));
        audio.media_time(at(1000), &mut leg, 0);
        audio.sender_report(at(1000), &mut leg, ntp(0), 0);
        video.sender_report(at(1010), &mut leg, ntp(0), 500);
        assert_eq!(video.media_time(at(1150), &mut leg, 500), MediaTime(1000 * MS));
    }

    #[test]
    fn a_report_that_cannot_be_true_is_left_alone() {
        let mut leg = LegClock::default();
        let (mut audio, mut video) = (ReceiveTimeline::new(8000), ReceiveTimeline::new(8000));
        feed(&mut audio, &mut leg, 0..10, 0);
        feed(&mut video, &mut leg, 0..10, 0);
        audio.sender_report(at(1200), &mut leg, ntp(0), 1600);
        // Five seconds apart by the wall, at once by arrival.
        video.sender_report(at(1200), &mut leg, ntp(5000), 1600);
        // A stamp that is of no packet of this stream.
        video.sender_report(at(1200), &mut leg, ntp(0), 0x7000_0000);
        let media = feed(&mut video, &mut leg, 10..100, 0);
        assert_eq!((media[0], media[89]), (1200 * MS, 2980 * MS));
        assert_eq!(video.stats().doubtful_reports, 2);
    }

    #[test]
    fn a_step_of_the_senders_wall_clock_moves_nothing() {
        let mut leg = LegClock::default();
        let mut streams = [ReceiveTimeline::new(8000), ReceiveTimeline::new(8000)];
        for round in 0..10u64 {
            let packets = round * 50..round * 50 + 50;
            for stream in &mut streams {
                let media = feed(stream, &mut leg, packets.clone(), 0);
                let expected: Vec<i64> =
                    packets.clone().map(|packet| (1000 + packet.cast_signed() * 20) * MS).collect();
                assert_eq!(media, expected);
                // An hour forward from the third report on.
                let wall = round * 1000 + if round > 2 { 3_600_000 } else { 0 };
                stream.sender_report(
                    at(1000 + round * 1000),
                    &mut leg,
                    ntp(wall),
                    u32::try_from(round * 8000).unwrap(),
                );
            }
        }
    }

    #[test]
    fn a_new_time_base_goes_on_by_arrival() {
        let (mut timeline, mut leg) = (ReceiveTimeline::new(8000), LegClock::default());
        let before = feed(&mut timeline, &mut leg, 0..50, 0);
        let after = feed(&mut timeline, &mut leg, 50..100, 0x4000_0000);
        assert_eq!(after[0] - before[49], 20 * MS);
        assert_eq!(after[49] - after[0], 49 * 20 * MS);
        // Backwards the same.
        let back = feed(&mut timeline, &mut leg, 100..150, 77);
        assert_eq!((back[0] - after[49], timeline.stats().jumps), (20 * MS, 2));
    }

    #[test]
    fn stamps_that_stood_still_on_hold_catch_up() {
        let (mut timeline, mut leg) = (ReceiveTimeline::new(8000), LegClock::default());
        feed(&mut timeline, &mut leg, 0..50, 0);
        // A minute of hold, and the stamps go on as if there had been none.
        let resumed = timeline.media_time(at(1000 + 49 * 20 + 60_000), &mut leg, 50 * 160);
        assert_eq!(resumed.0, (1000 + 49 * 20 + 60_000) * MS);
        assert_eq!(timeline.stats().jumps, 1);
    }

    #[test]
    fn an_outage_that_ends_in_a_burst_keeps_the_line() {
        let (mut timeline, mut leg) = (ReceiveTimeline::new(8000), LegClock::default());
        feed(&mut timeline, &mut leg, 0..50, 0);
        for packet in 50..200u32 {
            let media = timeline.media_time(at(5000), &mut leg, packet * 160);
            assert_eq!(media.0, (1000 + i64::from(packet) * 20) * MS);
        }
        assert_eq!(timeline.stats().jumps, 0);
    }

    #[test]
    fn drift_of_an_hour_is_no_jump() {
        let (mut timeline, mut leg) = (ReceiveTimeline::new(8000), LegClock::default());
        // A sender whose clock is 200 ppm fast and one that is 200 ppm slow.
        for step in [19_996_000u64, 20_004_000] {
            for packet in 0..180_000u64 {
                let now = Instant::from_nanos(1_000_000_000 + packet * step);
                timeline.media_time(now, &mut leg, u32::try_from(packet * 160 % (1 << 32)).unwrap());
            }
            assert_eq!(timeline.stats().jumps, 0);
            timeline = ReceiveTimeline::new(8000);
        }
    }
}
