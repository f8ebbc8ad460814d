//! Header extensions of RTP (RFC 8285), of which we know one: how loud the sound of a packet is (RFC 6464).

use crosspoint_codecs::format::Direction;

use super::agree::Side;
use super::agreed::AgreedLevels;
use super::description::{Attribute, MediaLine};
use super::write::direction_name;

/// How loud (RFC 6464 section 4).
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// Numbers of headers of one byte (RFC 8285 section 4.2): we write no others.
const IDS: std::ops::RangeInclusive<u8> = 1..=14;

/// Mappings of one section that are looked at: all numbers there are, and some of those above.
const MAX_MAPS: usize = 32;

/// `a=extmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Map<'a> {
    id: u8,
    direction: Direction,
    uri: &'a str,
}

/// The number of levels on one line: it keeps the one that it has, for the life of the session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LevelNumber {
    id: Option<u8>,
    /// Those of [`IDS`] that the peer has given another meaning, a bit each.
    others: u16,
}

impl LevelNumber {
    /// Says on a line of ours that levels may go both ways, under the number that they have had so far, else
    /// under the first that is free; says nothing where none is.
    pub(super) fn offer(&mut self, line: &mut MediaLine) {
        let taken = |id: u8| self.others & bit(id) != 0;
        self.id = self.id.filter(|id| !taken(*id)).or_else(|| IDS.clone().find(|id| !taken(*id)));
        line.attributes.extend(self.id.map(|id| level_of(id, Direction::SendRecv)));
    }

    /// Answers what was offered, under the number of the offer (RFC 8285 section 7).
    pub(super) fn answer(&mut self, line: &mut MediaLine, offer: Side<'_>) {
        self.heed(offer);
        if let Some(theirs) = level_map(offer) {
            self.id = Some(theirs.id);
            self.others &= !bit(theirs.id);
            line.attributes.push(level_of(theirs.id, theirs.direction.reversed()));
        }
    }

    /// Learns which numbers a line of the peer uses for something else.
    pub(super) fn heed(&mut self, theirs: Side<'_>) {
        let all = maps(&theirs.line.attributes).chain(maps(&theirs.sdp.attributes));
        let others = all.filter(|map| !map.is_level() && IDS.contains(&map.id));
        self.others = others.fold(self.others, |others, map| others | bit(map.id));
    }
}

/// The bit of a number of [`IDS`].
fn bit(id: u8) -> u16 {
    1_u16.checked_shl(u32::from(id)).unwrap_or(0)
}

impl Map<'_> {
    const fn is_level(&self) -> bool {
        self.uri.eq_ignore_ascii_case(AUDIO_LEVEL)
    }
}

/// What both lines say of levels; `None`: neither way.
pub(super) fn agree_levels(local: Side<'_>, remote: Side<'_>) -> Option<AgreedLevels> {
    let (ours, theirs) = (level_map(local)?, level_map(remote)?);
    let both = ours.direction.and(theirs.direction.reversed());
    let levels = AgreedLevels { id: ours.id, send: both.sends(), receive: both.receives() };
    (ours.id == theirs.id && (levels.send || levels.receive)).then_some(levels)
}

/// We tell nobody what is voice, and say so: the default is that we would (RFC 6464 section 4).
fn level_of(id: u8, direction: Direction) -> Attribute {
    let way = match direction {
        Direction::SendRecv => String::new(),
        other => format!("/{}", direction_name(other)),
    };
    Attribute::new("extmap", format!("{id}{way} {AUDIO_LEVEL} vad=off"))
}

/// The mapping of levels for a line: its own, or the session's. One whose number means something else as
/// well means nothing (RFC 8285 section 5).
fn level_map(side: Side<'_>) -> Option<Map<'_>> {
    let of = |attributes| {
        let level = maps(attributes).find(Map::is_level)?;
        let alone = maps(attributes).filter(|map| map.id == level.id).count() == 1;
        (IDS.contains(&level.id) && alone).then_some(level)
    };
    of(&side.line.attributes).or_else(|| of(&side.sdp.attributes))
}

fn maps(attributes: &[Attribute]) -> impl Iterator<Item = Map<'_>> {
    let values = attributes.iter().filter(|it| it.name.eq_ignore_ascii_case("extmap"));
    values.take(MAX_MAPS).filter_map(|it| parse(it.value.as_deref()?))
}

/// `<id>[/<direction>] <URI> [<attributes>]`. Numbers above a byte are offered to be chosen from (RFC 8285
/// section 7), and mean nothing before.
fn parse(value: &str) -> Option<Map<'_>> {
    let mut words = value.split_ascii_whitespace();
    let (id, direction) = match words.next()?.split_once('/') {
        Some((id, name)) => (id, direction(name)?),
        None => (value.split_ascii_whitespace().next()?, Direction::SendRecv),
    };
    Some(Map { id: id.parse().ok()?, direction, uri: words.next()? })
}

fn direction(name: &str) -> Option<Direction> {
    [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
        .into_iter()
        .find(|direction| direction_name(*direction).eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Option<(u8, Direction, &str)> {
        parse(value).map(|map| (map.id, map.direction, map.uri))
    }

    #[test]
    fn mappings_are_read_and_what_is_malformed_is_none() {
        let urn = AUDIO_LEVEL;
        assert_eq!(read("3 urn:x"), Some((3, Direction::SendRecv, "urn:x")));
        assert_eq!(read(" 14/recvonly  urn:x vad=on "), Some((14, Direction::RecvOnly, "urn:x")));
        for bad in
            ["", "3", "/sendonly urn:x", "x urn:x", "-1 urn:x", "256 urn:x", "3/both urn:x", "3/ urn:x"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(level_of(5, Direction::RecvOnly).value.unwrap(), format!("5/recvonly {urn} vad=off"));
        assert_eq!(level_of(1, Direction::SendRecv).value.unwrap(), format!("1 {urn} vad=off"));
    }

    proptest! {
        #[test]
        fn no_text_panics(value in ".*") {
            let _ = parse(&value);
        }
    }
}
