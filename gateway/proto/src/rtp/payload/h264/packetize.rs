//! Access units into packets (RFC 6184 section 6).

use crosspoint_codecs::format::PacketizationMode;

use super::super::{Packetizer, PayloadError};
use super::{FU_END, FU_START, TYPE, kind, nal_type, nal_units};

/// Longest packet that is put together here: an Ethernet frame.
const MAX_PACKET: usize = 1500;
/// Bytes of FU indicator and FU header.
const FU_HEADER: usize = 2;

/// Splits access units. In mode 1 a NAL unit that does not fit goes in fragments (FU-A) and what
/// stands before the slices goes together (STAP-A); in mode 0 each NAL unit is a packet, and one that
/// does not fit is [`PayloadError::NalTooLarge`].
#[derive(Debug)]
pub struct H264Packetizer {
    mode: PacketizationMode,
    /// The packet that is put together.
    packet: Vec<u8>,
}

impl H264Packetizer {
    /// For a sink with this `packetization-mode`.
    pub fn new(mode: PacketizationMode) -> Self {
        Self { mode, packet: Vec::with_capacity(MAX_PACKET) }
    }

    /// FU-A (section 5.8).
    fn fragment(&mut self, nal: &[u8], limit: usize, last: bool, emit: &mut dyn FnMut(&[u8], bool)) {
        let Some((first, mut rest)) = nal.split_first() else { return };
        let mut start = FU_START;
        while !rest.is_empty() {
            let (piece, behind) =
                rest.split_at_checked(limit.saturating_sub(FU_HEADER)).unwrap_or((rest, &[]));
            rest = behind;
            let end = if rest.is_empty() { FU_END } else { 0 };
            self.packet.clear();
            self.packet.extend_from_slice(&[first & !TYPE | nal_type::FU_A, first & TYPE | start | end]);
            self.packet.extend_from_slice(piece);
            emit(&self.packet, last && rest.is_empty());
            start = 0;
        }
    }

    /// Adds `nal` to the aggregate (section 5.7.1). False when it must go alone.
    fn aggregate(&mut self, nal: &[u8], limit: usize) -> bool {
        // Slices go alone: losing one shall not take others along.
        let is_slice = (nal_type::SLICE..=nal_type::IDR).contains(&kind(nal));
        let Ok(length) = u16::try_from(nal.len()) else { return false };
        let begun = self.packet.len().max(1);
        if is_slice || begun.saturating_add(2).saturating_add(nal.len()) > limit {
            return false;
        }
        if self.packet.is_empty() {
            self.packet.push(nal_type::STAP_A);
        }
        if let (Some(header), Some(first)) = (self.packet.first_mut(), nal.first()) {
            // F if any has it, and the highest NRI of all.
            *header = (*header | first) & 0x80 | (*header & 0x60).max(first & 0x60) | nal_type::STAP_A;
        }
        self.packet.extend_from_slice(&length.to_be_bytes());
        self.packet.extend_from_slice(nal);
        true
    }

    /// Emits the aggregate; one of a single NAL unit goes as that.
    fn flush(&mut self, last: bool, emit: &mut dyn FnMut(&[u8], bool)) {
        if let Some((&[_, high, low], rest)) = self.packet.split_first_chunk::<3>() {
            let alone = rest.len() == usize::from(u16::from_be_bytes([high, low]));
            emit(if alone { rest } else { &self.packet }, last);
        }
        self.packet.clear();
    }
}

impl Packetizer for H264Packetizer {
    fn packetize(
        &mut self,
        frame: &[u8],
        limit: usize,
        emit: &mut dyn FnMut(&[u8], bool),
    ) -> Result<(), PayloadError> {
        let limit = limit.min(MAX_PACKET);
        let mut nals = nal_units(frame).peekable();
        if nals.peek().is_none() || limit <= FU_HEADER {
            return Err(PayloadError::Unsendable { limit });
        }
        for nal in nals.clone() {
            if !(1..=23).contains(&kind(nal)) {
                return Err(PayloadError::Malformed("NAL unit type"));
            }
            if self.mode == PacketizationMode::SingleNal && nal.len() > limit {
                return Err(PayloadError::NalTooLarge { len: nal.len(), limit });
            }
        }
        self.packet.clear();
        while let Some(nal) = nals.next() {
            let last = nals.peek().is_none();
            if self.mode == PacketizationMode::SingleNal {
                emit(nal, last);
                continue;
            }
            if self.aggregate(nal, limit) {
                if last {
                    self.flush(true, emit);
                }
                continue;
            }
            self.flush(false, emit);
            if !last && self.aggregate(nal, limit) {
                continue;
            }
            if nal.len() <= limit {
                emit(nal, last);
            } else {
                self.fragment(nal, limit, last, emit);
                self.packet.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::{Depacketizer, Payload};
    use super::super::{H264Depacketizer, START_CODE};
    use super::*;

    fn stream(nals: &[Vec<u8>]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&START_CODE, &nal[..]].concat()).collect()
    }

    fn packets(
        mode: PacketizationMode,
        frame: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, bool)>, PayloadError> {
        let mut packets = Vec::new();
        let result = H264Packetizer::new(mode)
            .packetize(frame, limit, &mut |packet, marker| packets.push((packet.to_vec(), marker)));
        assert!(result.is_ok() || packets.is_empty(), "on an error nothing is emitted");
        result.map(|()| packets)
    }

    #[test]
    fn parameter_sets_go_together_and_slices_alone() {
        let frame = stream(&[vec![0x67, 1], vec![0x28, 2], vec![0x65, 3], vec![0x41, 4]]);
        let expected = [
            (vec![0x78, 0, 2, 0x67, 1, 0, 2, 0x28, 2], false),
            (vec![0x65, 3], false),
            (vec![0x41, 4], true),
        ];
        assert_eq!(packets(PacketizationMode::NonInterleaved, &frame, 100).unwrap(), expected);
        // One alone needs no aggregate.
        let frame = stream(&[vec![0x06, 1], vec![0x41, 4]]);
        assert_eq!(
            packets(PacketizationMode::NonInterleaved, &frame, 100).unwrap(),
            [(vec![0x06, 1], false), (vec![0x41, 4], true)]
        );
    }

    #[test]
    fn a_large_unit_goes_in_fragments() {
        // RFC 6184 section 5.8: neither S and E together, nor a fragment above the limit.
        let frame = stream(&[vec![0x65, 1, 2, 3, 4, 5]]);
        assert_eq!(
            packets(PacketizationMode::NonInterleaved, &frame, 5).unwrap(),
            [(vec![0x7c, 0x85, 1, 2, 3], false), (vec![0x7c, 0x45, 4, 5], true)]
        );
        assert_eq!(
            packets(PacketizationMode::NonInterleaved, &frame, 6).unwrap(),
            [(vec![0x65, 1, 2, 3, 4, 5], true)]
        );
    }

    #[test]
    fn mode_0_refuses_what_does_not_fit_before_it_sends_anything() {
        let frame = stream(&[vec![0x67, 1], vec![0x65, 1, 2, 3, 4, 5]]);
        assert_eq!(
            packets(PacketizationMode::SingleNal, &frame, 5),
            Err(PayloadError::NalTooLarge { len: 6, limit: 5 })
        );
        assert_eq!(
            packets(PacketizationMode::SingleNal, &frame, 6).unwrap(),
            [(vec![0x67, 1], false), (vec![0x65, 1, 2, 3, 4, 5], true)]
        );
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for frame in
            [&b""[..], b"no start code", &[0, 0, 0, 1], &[0, 0, 1, 0x7c, 0x85, 1], &[0, 0, 1, 0x60, 1]]
        {
            assert!(packets(PacketizationMode::NonInterleaved, frame, 100).is_err(), "{frame:x?}");
        }
        assert!(packets(PacketizationMode::NonInterleaved, &[0, 0, 1, 0x65, 1, 2, 3], 2).is_err());
    }

    /// NAL units as an encoder makes them: no start code within, no zero at the end.
    fn nal() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![Just(1u8), Just(5), Just(6), Just(7), Just(8), Just(9), 1u8..24];
        let body = prop_oneof![
            proptest::collection::vec(1u8..=255, 0..40),
            proptest::collection::vec(1u8..=255, 0..4000),
        ];
        (kind, 0u8..4, body).prop_map(|(kind, importance, mut body)| {
            body.insert(0, importance << 5 | kind);
            body
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_apart_comes_together(
            nals in proptest::collection::vec(nal(), 1..12),
            limit in 3usize..1400,
        ) {
            let frame = stream(&nals);
            for mode in [PacketizationMode::NonInterleaved, PacketizationMode::SingleNal] {
                let Ok(packets) = packets(mode, &frame, limit) else {
                    prop_assert_eq!(mode, PacketizationMode::SingleNal);
                    prop_assert!(nals.iter().any(|nal| nal.len() > limit));
                    continue;
                };
                let markers = packets.iter().filter(|(_, marker)| *marker).count();
                prop_assert!(markers == 1 && packets.last().unwrap().1);
                let mut depacketizer = H264Depacketizer::new();
                // A picture before it, so that this one is not taken for one that was joined midway.
                let before = Payload { data: &[0x41, 0x80], timestamp: 6, marker: true, lost_before: 0 };
                depacketizer.push(before, &mut |_| ()).unwrap();
                let mut units = Vec::new();
                for (data, marker) in &packets {
                    prop_assert!(data.len() <= limit);
                    prop_assert!(mode == PacketizationMode::NonInterleaved || kind(data) <= 23);
                    let payload = Payload { data, timestamp: 7, marker: *marker, lost_before: 0 };
                    depacketizer.push(payload, &mut |unit| units.push((unit.data.to_vec(), unit.damaged))).unwrap();
                }
                prop_assert_eq!(units, [(frame.clone(), false)]);
            }
        }

        #[test]
        fn loss_leaves_whole_units_only(
            frames in proptest::collection::vec(proptest::collection::vec(nal(), 1..6), 1..5),
            limit in 20usize..400,
            losses in proptest::collection::vec(any::<bool>(), 1..64),
        ) {
            let mut losses = losses.iter().cycle();
            let mut depacketizer = H264Depacketizer::new();
            let mut lost_before = 0;
            let (mut lost, mut told) = (0u32, 0u32);
            for (timestamp, nals) in (0u32..).zip(&frames) {
                for (data, marker) in packets(PacketizationMode::NonInterleaved, &stream(nals), limit).unwrap() {
                    if *losses.next().unwrap() {
                        lost_before += 1;
                        continue;
                    }
                    lost += u32::from(lost_before);
                    let payload =
                        Payload { data: &data, timestamp, marker, lost_before: std::mem::take(&mut lost_before) };
                    depacketizer.push(payload, &mut |unit| {
                        told += u32::from(unit.lost);
                        let of = &frames[unit.timestamp as usize];
                        let sets = |nal: &&[u8]| matches!(kind(nal), 7 | 8);
                        assert!(nal_units(unit.data).all(|nal| of.iter().any(|one| one == nal) || sets(&nal)));
                    }).unwrap();
                }
            }
            prop_assert!(told <= lost + u32::try_from(frames.len()).unwrap());
        }

        #[test]
        fn no_bytes_panic(
            payloads in proptest::collection::vec(
                (prop_oneof![Just(0x7cu8), Just(0x78), any::<u8>()],
                 proptest::collection::vec(any::<u8>(), 0..40), 0u32..3, any::<bool>(), 0u16..2), 0..40),
        ) {
            let mut depacketizer = H264Depacketizer::new();
            for (first, mut data, timestamp, marker, lost_before) in payloads {
                data.insert(0, first);
                let payload = Payload { data: &data, timestamp, marker, lost_before };
                let _ = depacketizer.push(payload, &mut |unit| assert!(unit.data.len() <= super::super::MAX_UNIT));
            }
        }
    }
}
