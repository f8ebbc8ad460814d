//! Packets into access units (RFC 6184 section 7).

use super::super::{Depacketizer, Payload, PayloadError, Unit};
use super::sets::ParameterSets;
use super::{FU_END, FU_START, START_CODE, TYPE, kind, nal_type};

/// Largest access unit. A keyframe of a 1080p screen at its worst has been seen at 260 kB; level 5.2
/// allows no more than 3 MB at our largest picture, and nobody sends that in a call.
pub const MAX_UNIT: usize = 2 * 1024 * 1024;
/// Most NAL units of an access unit: one for each packet of 2 kB, or for each row of macroblocks
/// with room to spare.
pub const MAX_NALS: usize = 1024;

/// Puts access units together. What lacks a fragment is left out, so that every NAL unit that comes
/// out is whole, unless torn slices are wanted; the unit then says that it is damaged. An access unit ends with the marker, or with
/// the first packet of another time stamp when the marker was lost or is not used.
#[derive(Debug)]
pub struct H264Depacketizer {
    /// The unit so far. Its capacity never changes; the system gives memory as it is touched.
    unit: Vec<u8>,
    nals: usize,
    timestamp: Option<u32>,
    /// Where the start code of the NAL unit stands whose fragments are coming in.
    fragment: Option<usize>,
    lost: u16,
    damaged: bool,
    /// Packets were lost right before this unit, or it is the first of its source: its beginning may
    /// not have been among what came.
    begun_after_loss: bool,
    /// Nothing came of this source yet.
    fresh: bool,
    overflown: bool,
    keeps_torn: bool,
    has_slice: bool,
    has_idr: bool,
    has_sps: bool,
    has_pps: bool,
    sets: ParameterSets,
}

impl Default for H264Depacketizer {
    fn default() -> Self {
        Self::new()
    }
}

impl H264Depacketizer {
    /// With room for the largest unit.
    pub fn new() -> Self {
        Self {
            unit: Vec::with_capacity(MAX_UNIT),
            nals: 0,
            timestamp: None,
            fragment: None,
            lost: 0,
            damaged: false,
            begun_after_loss: false,
            fresh: true,
            overflown: false,
            keeps_torn: false,
            has_slice: false,
            has_idr: false,
            has_sps: false,
            has_pps: false,
            sets: ParameterSets::new(),
        }
    }

    /// Keeps the beginning of a slice whose other fragments are missing: a decoder that hides what is
    /// missing shows more of the picture with it. Its unit is damaged all the same.
    #[must_use]
    pub const fn with_torn_slices(mut self) -> Self {
        self.keeps_torn = true;
        self
    }

    /// A parameter set from signalling (`sprop-parameter-sets`), as if it had come in band.
    pub fn remember(&mut self, nal: &[u8]) {
        self.sets.remember(nal);
    }

    fn take(&mut self, data: &[u8]) -> Result<(), PayloadError> {
        match kind(data) {
            1..=23 => {
                self.drop_fragment();
                self.nal(data)
            }
            nal_type::STAP_A => {
                self.drop_fragment();
                self.aggregate(data.get(1..).unwrap_or(&[]))
            }
            nal_type::FU_A => self.fragment(data),
            25..=27 | 29 => Err(PayloadError::Unsupported("interleaved mode")),
            _ => Err(PayloadError::Malformed("NAL unit type")),
        }
    }

    /// STAP-A (section 5.7.1): NAL units, each behind its length. Those before a fault stand.
    fn aggregate(&mut self, mut rest: &[u8]) -> Result<(), PayloadError> {
        while !rest.is_empty() {
            let split = rest.split_first_chunk::<2>().and_then(|(length, behind)| {
                behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))
            });
            let (nal, behind) = split.ok_or(PayloadError::Malformed("aggregation length"))?;
            rest = behind;
            // Aggregates hold no packets of this format again.
            if !(1..=23).contains(&kind(nal)) {
                return Err(PayloadError::Malformed("aggregated type"));
            }
            self.nal(nal)?;
        }
        Ok(())
    }

    /// FU-A (section 5.8): the type is split from the first byte, the rest follows in pieces.
    fn fragment(&mut self, data: &[u8]) -> Result<(), PayloadError> {
        let Some((&[indicator, header], piece)) = data.split_first_chunk::<2>() else {
            return Err(PayloadError::Malformed("fragment header"));
        };
        let first = (indicator & !TYPE) | (header & TYPE);
        if !(1..=23).contains(&(header & TYPE)) {
            return Err(PayloadError::Malformed("fragmented type"));
        }
        if header & FU_START != 0 {
            self.drop_fragment();
            let start = self.begin(first & TYPE)?;
            self.fragment = Some(start);
            self.append(&[first])?;
        } else if self.fragment.is_none() {
            // Its beginning is missing: known as loss, or the sender is confused.
            self.damaged = true;
            return Ok(());
        }
        self.append(piece)?;
        if header & FU_END != 0
            && let Some(start) = self.fragment.take()
        {
            self.end(start);
        }
        Ok(())
    }

    /// A whole NAL unit.
    fn nal(&mut self, nal: &[u8]) -> Result<(), PayloadError> {
        let start = self.begin(kind(nal))?;
        self.append(nal)?;
        self.end(start);
        Ok(())
    }

    /// Writes a start code; returns where it stands. An IDR slice brings along the parameter sets
    /// that its unit lacks, so that a decoder which comes later can begin with it.
    fn begin(&mut self, kind: u8) -> Result<usize, PayloadError> {
        if kind == nal_type::IDR {
            for (set, present) in [(nal_type::SPS, self.has_sps), (nal_type::PPS, self.has_pps)] {
                let (bytes, units) = self.sets.size(set);
                if !present && units > 0 {
                    self.nals = self.nals.saturating_add(units);
                    self.reserve(bytes)?;
                    self.sets.write(set, &mut self.unit);
                }
            }
            self.has_sps |= self.sets.knows(nal_type::SPS);
            self.has_pps |= self.sets.knows(nal_type::PPS);
        }
        self.nals = self.nals.saturating_add(1);
        if self.nals > MAX_NALS {
            return Err(self.overflow(MAX_NALS));
        }
        let start = self.unit.len();
        self.append(&START_CODE)?;
        Ok(start)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), PayloadError> {
        self.reserve(bytes.len())?;
        self.unit.extend_from_slice(bytes);
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), PayloadError> {
        if self.unit.len().saturating_add(bytes) > MAX_UNIT { Err(self.overflow(MAX_UNIT)) } else { Ok(()) }
    }

    fn overflow(&mut self, limit: usize) -> PayloadError {
        self.overflown = true;
        self.fragment = None;
        PayloadError::TooLarge { limit }
    }

    /// A NAL unit is whole: `start` is where its start code stands.
    fn end(&mut self, start: usize) {
        let nal = self.unit.get(start.saturating_add(START_CODE.len())..).unwrap_or(&[]);
        match kind(nal) {
            slice @ (nal_type::SLICE | nal_type::IDR) => {
                // first_mb_in_slice is zero when its code is a single one bit (H.264 section 7.3.3).
                let begins_picture = nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
                if !self.has_slice && self.begun_after_loss && !begins_picture {
                    self.damaged = true;
                }
                self.has_slice = true;
                self.has_idr |= slice == nal_type::IDR;
            }
            nal_type::SPS => {
                self.has_sps = true;
                self.sets.remember(nal);
            }
            nal_type::PPS => {
                self.has_pps = true;
                self.sets.remember(nal);
            }
            _ => {}
        }
    }

    /// The fragments so far will not become whole.
    fn drop_fragment(&mut self) {
        if let Some(start) = self.fragment.take() {
            let first = self.unit.get(start.saturating_add(START_CODE.len()));
            let slice = first.is_some_and(|first| matches!(first & TYPE, nal_type::SLICE | nal_type::IDR));
            if self.keeps_torn && slice {
                self.end(start);
            } else {
                self.unit.truncate(start);
                self.nals = self.nals.saturating_sub(1);
            }
            self.damaged = true;
        }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Unit<'_>)) {
        self.drop_fragment();
        if self.overflown || self.unit.is_empty() {
            // To the decoder it is as if it had never come: the next unit says so.
            self.lost = self.lost.max(1);
        } else {
            let keyframe = self.has_idr && self.has_sps && self.has_pps && !self.damaged;
            emit(Unit {
                data: &self.unit,
                timestamp: self.timestamp.unwrap_or(0),
                lost: std::mem::take(&mut self.lost),
                damaged: self.damaged,
                keyframe,
            });
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.unit.clear();
        self.nals = 0;
        self.timestamp = None;
        self.fragment = None;
        self.damaged = false;
        self.begun_after_loss = false;
        self.overflown = false;
        self.has_slice = false;
        self.has_idr = false;
        self.has_sps = false;
        self.has_pps = false;
    }
}

impl Depacketizer for H264Depacketizer {
    fn push(&mut self, payload: Payload<'_>, emit: &mut dyn FnMut(Unit<'_>)) -> Result<(), PayloadError> {
        let after_loss = payload.lost_before > 0;
        if after_loss {
            self.lost = self.lost.saturating_add(payload.lost_before);
            // What is missing may have been the end of the unit that is open.
            self.damaged |= self.timestamp.is_some();
            self.drop_fragment();
        }
        if self.timestamp.is_some_and(|timestamp| timestamp != payload.timestamp) {
            self.finish(emit);
        }
        if self.timestamp.is_none() {
            self.timestamp = Some(payload.timestamp);
            self.begun_after_loss = after_loss || std::mem::take(&mut self.fresh);
        }
        let result = if self.overflown { Ok(()) } else { self.take(payload.data) };
        if result.is_err() {
            self.lost = self.lost.saturating_add(1);
            self.damaged = true;
        }
        if payload.marker {
            self.finish(emit);
        }
        result
    }

    /// Parameter sets are forgotten too: another source has others.
    fn reset(&mut self) {
        self.clear();
        self.fresh = true;
        self.lost = 0;
        self.sets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0x67, 66, 0xc0, 31, 0x80, 1];
    const PPS: &[u8] = &[0x68, 0x80, 1];
    const IDR: &[u8] = &[0x65, 0x88, 1, 2, 3];
    const SLICE: &[u8] = &[0x41, 0x9a, 1, 2];
    const LATER_SLICE: &[u8] = &[0x41, 0x02, 1, 2];

    #[derive(Debug, PartialEq, Eq)]
    struct Seen {
        data: Vec<u8>,
        timestamp: u32,
        lost: u16,
        damaged: bool,
        keyframe: bool,
    }

    struct Feed {
        depacketizer: H264Depacketizer,
        lost_before: u16,
        seen: Vec<Seen>,
    }

    impl Feed {
        fn new() -> Self {
            Self { depacketizer: H264Depacketizer::new(), lost_before: 0, seen: Vec::new() }
        }

        fn push(&mut self, timestamp: u32, marker: bool, data: &[u8]) -> Result<(), PayloadError> {
            let payload =
                Payload { data, timestamp, marker, lost_before: std::mem::take(&mut self.lost_before) };
            let seen = &mut self.seen;
            self.depacketizer.push(payload, &mut |unit| {
                seen.push(Seen {
                    data: unit.data.to_vec(),
                    timestamp: unit.timestamp,
                    lost: unit.lost,
                    damaged: unit.damaged,
                    keyframe: unit.keyframe,
                });
            })
        }

        fn take(&mut self) -> Vec<Seen> {
            std::mem::take(&mut self.seen)
        }
    }

    fn stream(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&START_CODE, *nal].concat()).collect()
    }

    fn whole(timestamp: u32, nals: &[&[u8]], keyframe: bool) -> Seen {
        Seen { data: stream(nals), timestamp, lost: 0, damaged: false, keyframe }
    }

    #[test]
    fn the_beginning_of_a_torn_slice_is_kept_where_it_is_wanted() {
        for keeps in [false, true] {
            let plain = H264Depacketizer::new();
            let mut depacketizer = if keeps { plain.with_torn_slices() } else { plain };
            let mut units = Vec::new();
            let mut push = |data: &[u8], marker: bool, lost_before: u16| {
                let payload = Payload { data, timestamp: 7, marker, lost_before };
                depacketizer
                    .push(payload, &mut |unit| units.push((unit.data.to_vec(), unit.damaged, unit.keyframe)))
                    .unwrap();
            };
            push(SPS, false, 0);
            push(PPS, false, 0);
            // The first of three fragments of an IDR slice, and the last.
            push(&[0x7c, 0x85, 0x88, 1, 2], false, 0);
            push(&[0x7c, 0x45, 5, 6], true, 1);
            let mut wanted = [&[0, 0, 0, 1], SPS, &[0, 0, 0, 1], PPS].concat();
            if keeps {
                wanted.extend([0, 0, 0, 1, 0x65, 0x88, 1, 2]);
            }
            assert_eq!(units, [(wanted, true, false)]);
        }
    }

    #[test]
    fn single_units_until_the_marker() {
        let mut feed = Feed::new();
        feed.push(1, false, SPS).unwrap();
        feed.push(1, false, PPS).unwrap();
        feed.push(1, true, IDR).unwrap();
        feed.push(2, true, SLICE).unwrap();
        assert_eq!(feed.take(), [whole(1, &[SPS, PPS, IDR], true), whole(2, &[SLICE], false)]);
    }

    #[test]
    fn an_aggregate_is_taken_apart() {
        // RFC 6184 figure 8.
        let mut packet = vec![0x78, 0, 6];
        packet.extend(SPS);
        packet.extend([0, 3]);
        packet.extend(PPS);
        let mut feed = Feed::new();
        feed.push(1, false, &packet).unwrap();
        feed.push(1, true, IDR).unwrap();
        assert_eq!(feed.take(), [whole(1, &[SPS, PPS, IDR], true)]);
        // A length that leads out of the packet: what stood before it stays.
        packet.extend([0, 9, 0x65]);
        assert!(feed.push(2, true, &packet).is_err());
        let seen = feed.take();
        assert_eq!((&seen[0].data, seen[0].damaged, seen[0].lost), (&stream(&[SPS, PPS]), true, 1));
    }

    #[test]
    fn fragments_become_a_unit() {
        // RFC 6184 section 5.8: indicator 0x7c of IDR 0x65, header S, middle, E.
        let mut feed = Feed::new();
        feed.push(1, false, &[0x7c, 0x85, 0x88, 1]).unwrap();
        feed.push(1, false, &[0x7c, 0x05, 2]).unwrap();
        feed.push(1, true, &[0x7c, 0x45, 3]).unwrap();
        assert_eq!(feed.take(), [whole(1, &[IDR], false)]);
    }

    #[test]
    fn a_lost_fragment_drops_its_unit_and_nothing_else() {
        let mut feed = Feed::new();
        feed.push(1, false, SLICE).unwrap();
        feed.push(1, false, &[0x7c, 0x85, 0x88, 1]).unwrap();
        feed.lost_before = 1;
        feed.push(1, false, &[0x7c, 0x45, 3]).unwrap();
        feed.push(1, true, LATER_SLICE).unwrap();
        let expected = Seen {
            data: stream(&[SLICE, LATER_SLICE]),
            timestamp: 1,
            lost: 1,
            damaged: true,
            keyframe: false,
        };
        assert_eq!(feed.take(), [expected]);
    }

    #[test]
    fn a_lost_marker_ends_with_the_next_time_stamp() {
        let mut feed = Feed::new();
        feed.push(1, false, SLICE).unwrap();
        feed.lost_before = 2;
        feed.push(2, true, SLICE).unwrap();
        let seen = feed.take();
        assert_eq!((seen[0].timestamp, seen[0].lost, seen[0].damaged), (1, 2, true));
        assert_eq!(seen[1], whole(2, &[SLICE], false));
        // A sender that sets no markers at all does no harm.
        feed.push(3, false, SLICE).unwrap();
        feed.push(4, false, SLICE).unwrap();
        assert_eq!(feed.take(), [whole(3, &[SLICE], false)]);
    }

    #[test]
    fn a_lost_beginning_is_noticed() {
        let mut feed = Feed::new();
        feed.push(1, true, SLICE).unwrap();
        feed.lost_before = 1;
        feed.push(2, true, LATER_SLICE).unwrap();
        feed.lost_before = 1;
        feed.push(3, true, SLICE).unwrap();
        let seen = feed.take();
        assert_eq!(
            seen.iter().map(|unit| (unit.lost, unit.damaged)).collect::<Vec<_>>(),
            [(0, false), (1, true), (1, false)]
        );
    }

    #[test]
    fn who_joins_in_the_middle_of_a_picture_is_told() {
        let mut feed = Feed::new();
        feed.push(1, true, LATER_SLICE).unwrap();
        feed.push(2, true, LATER_SLICE).unwrap();
        feed.depacketizer.reset();
        feed.push(3, true, LATER_SLICE).unwrap();
        let damaged: Vec<bool> = feed.take().iter().map(|unit| unit.damaged).collect();
        assert_eq!(damaged, [true, false, true]);
    }

    #[test]
    fn parameter_sets_are_remembered_for_later_keyframes() {
        let mut feed = Feed::new();
        feed.push(1, true, IDR).unwrap();
        assert!(!feed.take()[0].keyframe, "no decoder can start without parameter sets");
        feed.push(2, false, SPS).unwrap();
        feed.push(2, true, PPS).unwrap();
        feed.take();
        feed.push(3, true, IDR).unwrap();
        assert_eq!(feed.take(), [whole(3, &[SPS, PPS, IDR], true)]);
        feed.depacketizer.reset();
        feed.push(4, true, IDR).unwrap();
        assert!(!feed.take()[0].keyframe);
        feed.depacketizer.remember(SPS);
        feed.depacketizer.remember(PPS);
        feed.push(5, true, IDR).unwrap();
        assert_eq!(feed.take(), [whole(5, &[SPS, PPS, IDR], true)]);
    }

    #[test]
    fn a_damaged_keyframe_is_none() {
        let mut feed = Feed::new();
        feed.push(1, false, SPS).unwrap();
        feed.push(1, false, PPS).unwrap();
        feed.push(1, false, IDR).unwrap();
        feed.lost_before = 1;
        feed.push(1, true, IDR).unwrap();
        assert!(!feed.take()[0].keyframe);
    }

    #[test]
    fn a_unit_without_end_is_dropped_whole_and_the_next_says_so() {
        let mut feed = Feed::new();
        let mut piece = vec![0x7c, 0x05];
        piece.resize(1400, 7);
        feed.push(1, false, &[0x7c, 0x85, 1]).unwrap();
        let faults = (0..3000).filter(|_| feed.push(1, false, &piece).is_err()).count();
        assert_eq!(faults, 1, "told once");
        assert_eq!(feed.depacketizer.unit.capacity(), MAX_UNIT);
        feed.push(2, true, SLICE).unwrap();
        let seen = feed.take();
        assert_eq!((seen.len(), seen[0].timestamp, seen[0].lost), (1, 2, 1));

        let faults = (0..2 * MAX_NALS).filter(|_| feed.push(3, false, SLICE).is_err()).count();
        assert_eq!(faults, 1);
        feed.push(4, true, SLICE).unwrap();
        assert_eq!(feed.take().len(), 1);
    }

    #[test]
    fn what_is_not_of_these_modes_is_refused() {
        let mut feed = Feed::new();
        for first in [0x00, 0x19, 0x1a, 0x1b, 0x1d, 0x1e, 0x1f] {
            assert!(feed.push(1, true, &[first, 0, 0, 0]).is_err(), "{first:x}");
        }
        for bad in [&[][..], &[0x7c], &[0x7c, 0x80], &[0x7c, 0x9c, 1], &[0x78, 0], &[0x78, 0, 1, 0x78]] {
            assert!(feed.push(1, true, bad).is_err(), "{bad:x?}");
        }
        assert!(feed.take().is_empty());
        feed.push(2, true, SLICE).unwrap();
        assert_eq!(feed.take()[0].data, stream(&[SLICE]));
    }
}
