//! What the streams of a leg share on their thread: the timeline of what comes, and the clock of
//! what goes, so that sound and pictures stay together over every change of route.

use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::frame::MediaTime;
use crosspoint_proto::rtp::timeline::{LegClock, RouteClock};

use super::hold::MAX_HOLD;
use crate::media::port::Wishes;

/// The legs of one thread.
#[derive(Debug, Default)]
pub(super) struct Legs {
    legs: Vec<Leg>,
    free: Vec<usize>,
    next: u64,
}

/// One leg.
#[derive(Debug)]
pub(super) struct Leg {
    /// Never used twice, other than its place.
    number: u64,
    streams: usize,
    pub(super) receive: LegClock,
    send: RouteClock,
    /// The leg whose media it is sent.
    from: Option<u64>,
    /// The engine's word on how long it holds the leg's sound.
    playout: Option<Arc<Wishes>>,
}

impl Legs {
    /// A stream joins `leg`, or a new one; returns its place.
    pub(super) fn join(&mut self, leg: Option<usize>) -> usize {
        if let Some(place) = leg
            && let Some(leg) = self.legs.get_mut(place)
        {
            leg.streams += 1;
            return place;
        }
        self.next += 1;
        let leg = Leg {
            number: self.next,
            streams: 1,
            receive: LegClock::default(),
            send: RouteClock::default(),
            from: None,
            playout: None,
        };
        if let Some(place) = self.free.pop()
            && let Some(room) = self.legs.get_mut(place)
        {
            *room = leg;
            return place;
        }
        self.legs.push(leg);
        self.legs.len() - 1
    }

    /// A stream leaves; the place is free when it was the last.
    pub(super) fn leave(&mut self, place: usize) {
        if let Some(leg) = self.legs.get_mut(place) {
            leg.streams = leg.streams.saturating_sub(1);
            if leg.streams == 0 {
                self.free.push(place);
            }
        }
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Leg> {
        self.legs.get_mut(place)
    }

    /// The engine begins or ends to play the leg's sound.
    pub(super) fn set_playout(&mut self, place: usize, wishes: Option<Arc<Wishes>>) {
        if let Some(leg) = self.legs.get_mut(place) {
            leg.playout = wishes;
        }
    }

    /// A stream of `sink` is fed from one of `source` from now on.
    pub(super) fn route(&mut self, source: usize, sink: usize) {
        let Some(number) = self.legs.get(source).map(|leg| leg.number) else { return };
        if let Some(sink) = self.legs.get_mut(sink)
            && sink.from != Some(number)
        {
            sink.from = Some(number);
            sink.send.new_route();
        }
    }

    /// Media time of `source` as the clock of `sink` has it, and how long the stream is to wait:
    /// pictures whose sound goes through the engine are as late as that plays it.
    pub(super) fn cross(
        &mut self,
        now: Instant,
        source: usize,
        sink: usize,
        kind: MediaKind,
        media_time: MediaTime,
    ) -> (MediaTime, Duration) {
        let playout = self.legs.get(source).and_then(|leg| leg.playout.as_ref());
        let wait =
            playout.filter(|_| kind.is_video()).map_or(Duration::ZERO, |wishes| wishes.playout_delay());
        let wait = wait.min(MAX_HOLD);
        let Some(sink) = self.legs.get_mut(sink) else { return (media_time, wait) };
        let mapped = sink.send.map(now, media_time);
        (mapped.plus_nanos(i64::try_from(wait.as_nanos()).unwrap_or(0)), wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_leg_keep_their_distance_over_a_route() {
        let mut legs = Legs::default();
        let (source, sink) = (legs.join(None), legs.join(None));
        legs.route(source, sink);
        let now = Instant::from_millis(5000);
        let (sound, _) = legs.cross(now, source, sink, MediaKind::Audio, MediaTime(1_000_000_000));
        // 30 ms later on the source's timeline, whenever it comes.
        legs.route(source, sink);
        let late = now + Duration::from_millis(90);
        let (picture, wait) = legs.cross(late, source, sink, MediaKind::Main, MediaTime(1_030_000_000));
        assert_eq!((picture.nanos_since(sound), wait), (30_000_000, Duration::ZERO));
        // The engine holds the sound for 60 ms: pictures say so.
        let wishes = Arc::new(Wishes::default());
        wishes.set_playout_delay(Duration::from_millis(60));
        legs.set_playout(source, Some(wishes));
        let (held, wait) = legs.cross(late, source, sink, MediaKind::Main, MediaTime(1_030_000_000));
        assert_eq!((held.nanos_since(picture), wait), (60_000_000, Duration::from_millis(60)));
    }

    #[test]
    fn places_are_used_again_and_numbers_are_not() {
        let mut legs = Legs::default();
        let first = legs.join(None);
        assert_eq!(legs.join(Some(first)), first);
        legs.leave(first);
        assert_ne!(legs.join(None), first);
        legs.leave(first);
        let number = legs.legs[first].number;
        assert_eq!(legs.join(None), first);
        assert_ne!(legs.legs[first].number, number);
    }
}
