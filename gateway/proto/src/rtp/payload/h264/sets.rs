//! Parameter sets that were seen, so that an IDR picture without them becomes a keyframe again.

use super::{START_CODE, kind, nal_type};

/// Sequence parameter sets that are remembered; streams have one, and a second while they change.
const SPS: usize = 4;
/// Picture parameter sets that are remembered; encoders use one to three.
const PPS: usize = 8;
/// Longest set that is remembered, in bytes. Usual are 10 to 40; those with scaling lists are below
/// 200. Longer ones go through, but only where the sender put them.
const LONGEST: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Slot {
    kind: u8,
    id: u32,
    len: usize,
    bytes: [u8; LONGEST],
}

impl Slot {
    fn nal(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// The sets of one stream, each under its id. Overflow: a further id is not remembered.
#[derive(Debug)]
pub(super) struct ParameterSets {
    slots: Box<[Option<Slot>]>,
}

impl ParameterSets {
    pub(super) fn new() -> Self {
        Self { slots: vec![None; SPS.saturating_add(PPS)].into() }
    }

    /// Remembers `nal` if it is a parameter set, in place of the one with its id.
    pub(super) fn remember(&mut self, nal: &[u8]) {
        let kind = kind(nal);
        let Some(id) = id(kind, nal) else { return };
        let mut bytes = [0; LONGEST];
        let Some(room) = bytes.get_mut(..nal.len()) else { return };
        room.copy_from_slice(nal);
        let slots = if kind == nal_type::SPS { self.slots.get_mut(..SPS) } else { self.slots.get_mut(SPS..) };
        let Some(slots) = slots else { return };
        let same = slots.iter().position(|slot| slot.is_some_and(|slot| slot.id == id));
        let place = same.or_else(|| slots.iter().position(Option::is_none));
        if let Some(slot) = place.and_then(|place| slots.get_mut(place)) {
            *slot = Some(Slot { kind, id, len: nal.len(), bytes });
        }
    }

    /// Whether a set of this type is known.
    pub(super) fn knows(&self, kind: u8) -> bool {
        self.slots.iter().flatten().any(|slot| slot.kind == kind)
    }

    /// Bytes that [`Self::write`] would add, and units.
    pub(super) fn size(&self, kind: u8) -> (usize, usize) {
        self.slots.iter().flatten().filter(|slot| slot.kind == kind).fold((0, 0), |(bytes, units), slot| {
            (slot.len.saturating_add(START_CODE.len()).saturating_add(bytes), units.saturating_add(1))
        })
    }

    /// Adds all sets of this type to `unit`.
    pub(super) fn write(&self, kind: u8, unit: &mut Vec<u8>) {
        for slot in self.slots.iter().flatten().filter(|slot| slot.kind == kind) {
            unit.extend_from_slice(&START_CODE);
            unit.extend_from_slice(slot.nal());
        }
    }

    pub(super) fn clear(&mut self) {
        self.slots.fill(None);
    }
}

/// The id of a parameter set: behind profile, constraints and level in an SPS (H.264 section
/// 7.3.2.1.1), at once in a PPS (7.3.2.2), as Exp-Golomb code (9.1).
fn id(kind: u8, nal: &[u8]) -> Option<u32> {
    let code = match kind {
        nal_type::SPS => nal.get(4..)?,
        nal_type::PPS => nal.get(1..)?,
        _ => return None,
    };
    let mut word = [0; 4];
    word.iter_mut().zip(code).for_each(|(room, byte)| *room = *byte);
    let word = u32::from_be_bytes(word);
    // Ids go to 255, which takes eight zeros; a code that the unit is too short for has more.
    let zeros = word.leading_zeros();
    let shift = 31u32.checked_sub(zeros.checked_mul(2)?)?;
    word.checked_shr(shift)?.checked_sub(1).filter(|id| *id <= 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_exp_golomb() {
        // H.264 table 9-2: 1, 010, 011, 00100.
        for (byte, expected) in [(0x80, 0), (0x40, 1), (0x60, 2), (0x20, 3)] {
            assert_eq!(id(nal_type::PPS, &[0x68, byte]), Some(expected));
            assert_eq!(id(nal_type::SPS, &[0x67, 66, 0xc0, 31, byte]), Some(expected));
        }
        assert_eq!(id(nal_type::PPS, &[0x68, 0, 0x80, 0]), Some(255));
        assert_eq!(id(nal_type::PPS, &[0x68, 0, 0x80, 0x80]), None);
        assert_eq!(id(nal_type::PPS, &[0x68, 0, 0, 0]), None);
        assert_eq!(id(nal_type::PPS, &[0x68]), None);
        assert_eq!(id(nal_type::SPS, &[0x67, 66]), None);
    }

    #[test]
    fn a_set_replaces_the_one_with_its_id_only() {
        let mut sets = ParameterSets::new();
        sets.remember(&[0x68, 0x80, 1]);
        sets.remember(&[0x68, 0x40, 2]);
        sets.remember(&[0x68, 0x80, 3]);
        sets.remember(&[0x65, 0x80]);
        let mut unit = Vec::new();
        sets.write(nal_type::PPS, &mut unit);
        assert_eq!(unit, [0, 0, 0, 1, 0x68, 0x80, 3, 0, 0, 0, 1, 0x68, 0x40, 2]);
        assert_eq!(sets.size(nal_type::PPS), (14, 2));
        assert!(!sets.knows(nal_type::SPS) && sets.knows(nal_type::PPS));
    }

    #[test]
    fn too_many_and_too_long_ones_are_not_remembered() {
        let mut sets = ParameterSets::new();
        for id in 0..32u8 {
            // Codes of 4 + 1 + 4 bits and more: ids 15 to 30 and beyond.
            sets.remember(&[0x68, 0x08 | id >> 3, id << 5 | 1]);
        }
        assert_eq!(sets.size(nal_type::PPS).1, PPS);
        let mut long = vec![0x67, 66, 0, 31];
        long.resize(LONGEST + 1, 0x80);
        sets.remember(&long);
        assert!(!sets.knows(nal_type::SPS));
    }
}
