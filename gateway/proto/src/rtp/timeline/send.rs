//! Time stamps of what goes out.

use crosspoint_codecs::frame::MediaTime;

use super::{nanos_to_ticks, signed_nanos, wrap};
use crate::Instant;

/// A relayed stamp that is so far from where the sink's clock puts it belongs to a new time base of
/// its source.
const MAX_OFF: i64 = 500_000_000;

/// Makes the stamps of one stream: a straight line through media time with a random beginning
/// (RFC 3550 section 5.1). All streams of a sink are fed media time of one clock, so that their
/// reports agree.
#[derive(Clone, Debug)]
pub struct SendTimeline {
    clock: u32,
    offset: u32,
    /// What a relay adds to its source's stamps.
    relay: Option<u32>,
    /// How far the stamps of a relay lie from the line, in ticks.
    bias: i64,
}

impl SendTimeline {
    /// For a stream with `clock` ticks a second; `offset` is random.
    pub const fn new(clock: u32, offset: u32) -> Self {
        Self { clock: if clock == 0 { 1 } else { clock }, offset, relay: None, bias: 0 }
    }

    /// The stamp of what is heard or seen at `media`: for frames that are made here.
    pub fn stamp(&mut self, media: MediaTime) -> u32 {
        self.relay = None;
        self.bias = 0;
        self.line(media)
    }

    /// The stamp of a relayed packet, which carried `incoming` and is heard or seen at `media`. Steps
    /// are those of the source, to the tick, until a new route or a jump of the source's own.
    pub fn relay(&mut self, incoming: u32, media: MediaTime) -> u32 {
        let line = self.line(media);
        let kept = self.relay.map(|added| incoming.wrapping_add(added));
        let off = |stamp: u32| i64::from(stamp.wrapping_sub(line).cast_signed());
        let stamp = kept.filter(|stamp| off(*stamp).saturating_abs() <= nanos_to_ticks(MAX_OFF, self.clock));
        let stamp = stamp.unwrap_or(line);
        self.relay = Some(stamp.wrapping_sub(incoming));
        self.bias = off(stamp);
        stamp
    }

    /// The route to this stream changes: the next relayed packet is put on the line.
    pub const fn new_route(&mut self) {
        self.relay = None;
    }

    /// The stamp of the moment `media`, for a sender report.
    pub fn report(&self, media: MediaTime) -> u32 {
        self.line(media).wrapping_add(wrap(self.bias))
    }

    fn line(&self, media: MediaTime) -> u32 {
        self.offset.wrapping_add(wrap(nanos_to_ticks(media.0, self.clock)))
    }
}

/// Puts the media time of whoever feeds a sink on the sink's own, which is that of the gateway's
/// clock. One for all streams of a leg that come from one source, so that they stay together.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteClock {
    shift: Option<i64>,
    last: Option<(i64, i64)>,
}

impl RouteClock {
    /// Media time of the sink for media time of the source, at `now`. The first frame of a route is
    /// now, or later when the one before has gone on ahead of the clock.
    pub fn map(&mut self, now: Instant, source: MediaTime) -> MediaTime {
        let now = signed_nanos(now);
        let shift = *self.shift.get_or_insert_with(|| {
            let floor =
                self.last.map_or(now, |(media, at)| media.saturating_add(now.saturating_sub(at).max(0)));
            floor.max(now).saturating_sub(source.0)
        });
        let media = source.0.saturating_add(shift);
        self.last = Some(
            self.last.map_or((media, now), |(last, at)| if media > last { (media, now) } else { (last, at) }),
        );
        MediaTime(media)
    }

    /// Another source feeds the sink from now on.
    pub const fn new_route(&mut self) {
        self.shift = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn media(millis: i64) -> MediaTime {
        MediaTime(millis * MS)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn stamps_are_a_straight_line_over_the_wrap() {
        let mut timeline = SendTimeline::new(48_000, u32::MAX - 960);
        let stamps: Vec<u32> = (0..4).map(|frame| timeline.stamp(media(frame * 20))).collect();
        assert_eq!(stamps, [u32::MAX - 960, u32::MAX, 959, 1919]);
        assert_eq!(timeline.report(media(40)), 959);
        assert_eq!(SendTimeline::new(8000, 100).stamp(media(-10)), 20);
    }

    #[test]
    fn no_step_is_lost_to_rounding_in_a_day() {
        let mut timeline = SendTimeline::new(90_000, 0);
        // Frames of a thirtieth of a second as nanoseconds that do not divide.
        for frame in [0i64, 1, 2, 3, 1_000_003, 2_592_000] {
            let stamp = timeline.stamp(MediaTime(frame * 1_000_000_000 / 30));
            assert_eq!(stamp, wrap(frame * 3000), "{frame}");
        }
    }

    #[test]
    fn a_relay_keeps_its_sources_steps_and_reports_agree_with_them() {
        let mut timeline = SendTimeline::new(8000, 5000);
        let first = timeline.relay(70_000, media(100));
        assert_eq!(first, 5000 + 800);
        // Media time wanders, as reports move it; the steps stay.
        for packet in 1..100u32 {
            let wander = i64::from(packet) / 10;
            let stamp = timeline.relay(70_000 + packet * 160, media(100 + i64::from(packet) * 20 + wander));
            assert_eq!(stamp, first + packet * 160);
        }
        // 9 ms of wander: the report tells them, so that the far end follows.
        assert_eq!(timeline.report(media(100 + 99 * 20 + 9)), first + 99 * 160);
    }

    #[test]
    fn routes_change_without_a_step_back() {
        let mut timeline = SendTimeline::new(8000, 0);
        assert_eq!(timeline.relay(1 << 30, media(1000)), 8000);
        assert_eq!(timeline.stamp(media(1020)), 8160);
        assert_eq!(timeline.relay(7, media(1040)), 8320);
        timeline.new_route();
        assert_eq!(timeline.relay(0xffff_0000, media(1060)), 8480);
        // A jump of the source's own.
        assert_eq!(timeline.relay(0x1000_0000, media(1080)), 8640);
        assert_eq!(timeline.relay(0x1000_00a0, media(1100)), 8800);
    }

    #[test]
    fn two_streams_of_a_route_stay_together() {
        let mut clock = RouteClock::default();
        // A source whose zero is its own: sound first, pictures of the same moment later.
        assert_eq!(clock.map(at(5000), media(0)), media(5000));
        assert_eq!(clock.map(at(5200), media(0)), media(5000));
        assert_eq!(clock.map(at(5220), media(220)), media(5220));
        clock.new_route();
        assert_eq!(clock.map(at(5300), media(-900)), media(5300));
    }

    #[test]
    fn a_source_that_ran_ahead_is_not_followed_by_a_step_back() {
        let mut clock = RouteClock::default();
        clock.map(at(1000), media(0));
        // The source's clock is faster: 300 ms after some time.
        assert_eq!(clock.map(at(2000), media(1300)), media(2300));
        clock.new_route();
        assert_eq!(clock.map(at(2020), media(77)), media(2320));
    }
}
