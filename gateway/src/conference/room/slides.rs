//! Slides: who has the floor, and the last still of what he shows.

use std::fmt;

use bytes::Bytes;
use crosspoint_codecs::frame::VideoFrame;

use super::Room;
use super::sight::CANVAS_SIZE;
use crate::conference::floor::Turn;
use crate::conference::policy::{Denied, PartyId};

/// A picture of a slide, as it was sent.
#[derive(Clone)]
pub struct Still {
    /// Another one each time.
    pub number: u64,
    /// A JPEG file. Whoever sends it has checked it.
    pub jpeg: Bytes,
    /// What is in it, no larger than [`Still::ROOM`].
    pub picture: VideoFrame,
}

impl Still {
    /// Width and height of what pictures are composed of: a still needs no more.
    pub const ROOM: (usize, usize) = (CANVAS_SIZE.width(), CANVAS_SIZE.height());
}

/// In one room its number tells a still from every other.
impl PartialEq for Still {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Still {}

impl fmt::Debug for Still {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "still {} of {} bytes", self.number, self.jpeg.len())
    }
}

impl Room {
    /// Somebody takes the floor from whoever has it.
    pub(super) fn take_floor(&mut self, id: PartyId) -> Result<(), Denied> {
        self.policy.party(id).ok_or(Denied::NoParty)?;
        if !self.policy.may_present(id) {
            return Err(Denied::Role);
        }
        if self.floor.take(id) != Turn::Same {
            self.changed |= self.still.take().is_some();
            self.show();
        }
        Ok(())
    }

    /// And gives it back; who has none gives nothing back.
    pub(super) fn release_floor(&mut self, id: PartyId) {
        if self.floor.release(id) == Turn::Free {
            self.changed |= self.still.take().is_some();
            self.show();
        }
    }

    /// The next still of who has the floor.
    pub(super) fn slide(&mut self, id: PartyId, jpeg: Bytes, picture: VideoFrame) -> Result<(), Denied> {
        if self.floor.holder() != Some(id) {
            return Err(Denied::Role);
        }
        self.stills += 1;
        self.still = Some(Still { number: self.stills, jpeg, picture });
        self.changed = true;
        self.show();
        Ok(())
    }

    /// Who may not show slides any more, or is gone, has the floor no more.
    pub(super) fn look_after_floor(&mut self) {
        if let Some(holder) = self.floor.holder().filter(|id| !self.policy.may_present(*id)) {
            self.floor.release(holder);
            self.still = None;
            self.changed = true;
        }
    }
}
