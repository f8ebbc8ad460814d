//! Pictures that are relayed while the engine plays their leg's sound wait as long as the sound
//! does, so that they stay together for receivers that do not read our reports, too. Nothing waits
//! where the sound is relayed as well.

use std::collections::VecDeque;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime, Pool};
use crosspoint_proto::rtp::session::{Carries, MediaPacket, Numbering};

use crate::media::port::StreamId;

/// Longest wait: what is later than this is better seen early.
pub(super) const MAX_HOLD: Duration = Duration::from_millis(400);

/// Packets that wait: 400 ms of 10 Mbit/s. Overflow: the packet goes at once, which is early but
/// not lost, and so do those before it.
const PACKETS: usize = 512;
const PACKET: usize = 1500;

/// What waits.
#[derive(Debug)]
pub(super) enum Item {
    Packet { source: StreamId, packet: HeldPacket },
    Skip { source: StreamId, number: Numbering },
    Frame { source: StreamId, frame: EncodedFrame },
}

/// A media packet with bytes of its own.
#[derive(Debug)]
pub(super) struct HeldPacket {
    number: Numbering,
    timestamp: u32,
    media_time: MediaTime,
    marker: bool,
    carries: Carries,
    level: Option<u8>,
    data: Data,
}

impl HeldPacket {
    pub(super) fn view(&self) -> MediaPacket<'_> {
        MediaPacket {
            number: self.number,
            timestamp: self.timestamp,
            media_time: self.media_time,
            marker: self.marker,
            carries: self.carries,
            level: self.level,
            payload: &self.data,
        }
    }
}

/// The waiting room of one sink.
#[derive(Debug, Default)]
pub(super) struct Hold {
    queue: VecDeque<(Instant, Item)>,
    pool: Option<Pool>,
    pub(super) overflow: u64,
}

impl Hold {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Nothing of the old feed goes out after a change.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Keeps a copy of `packet` until `until`. False when there is no room: release what waits and
    /// send it at once.
    pub(super) fn packet(&mut self, until: Instant, source: StreamId, packet: &MediaPacket<'_>) -> bool {
        let pool = self.pool.get_or_insert_with(|| Pool::new(PACKETS, PACKET));
        let Some(data) = pool.copy(packet.payload) else {
            self.overflow += 1;
            return false;
        };
        let MediaPacket { number, timestamp, media_time, marker, carries, level, .. } = *packet;
        let packet = HeldPacket { number, timestamp, media_time, marker, carries, level, data };
        self.item(until, Item::Packet { source, packet }).is_ok()
    }

    /// Keeps `item` until `until`, and until what came before it has gone. Given back when there is
    /// no room.
    pub(super) fn item(&mut self, until: Instant, item: Item) -> Result<(), Item> {
        if self.queue.len() >= PACKETS {
            self.overflow += 1;
            return Err(item);
        }
        self.queue.push_back((until, item));
        Ok(())
    }

    /// The next one whose time has come; any with `now` at [`Instant::FAR`].
    pub(super) fn release(&mut self, now: Instant) -> Option<Item> {
        if self.deadline()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, item)| item)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(index: u64) -> Item {
        Item::Skip { source: StreamId(1), number: Numbering { epoch: 1, index } }
    }

    #[test]
    fn order_is_kept_when_the_wait_gets_shorter() {
        let mut hold = Hold::default();
        hold.item(Instant::from_millis(60), skip(1)).unwrap();
        hold.item(Instant::from_millis(40), skip(2)).unwrap();
        assert!(hold.release(Instant::from_millis(59)).is_none());
        let mut released = Vec::new();
        while let Some(Item::Skip { number, .. }) = hold.release(Instant::from_millis(60)) {
            released.push(number.index);
        }
        assert_eq!((released, hold.deadline()), (vec![1, 2], None));
    }

    #[test]
    fn a_full_room_says_so() {
        let mut hold = Hold::default();
        let kept = (0..2 * PACKETS as u64).filter(|n| hold.item(Instant::FAR, skip(*n)).is_ok()).count();
        assert_eq!((kept, hold.overflow), (PACKETS, PACKETS as u64));
        hold.clear();
        assert!(hold.is_empty());
    }
}
