//! The tie between the sound and the pictures of one leg.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crosspoint_codecs::frame::MediaTime;

/// When what a leg sent is played: its sound sets it, its pictures follow it. Make one for each
/// leg and give it to all sources of that leg. Clones share it.
#[derive(Clone, Debug)]
pub struct Timeline(Arc<AtomicI64>);

/// No sound has been played yet.
const UNSET: i64 = i64::MIN;

impl Timeline {
    /// For a leg whose sound has not begun.
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(UNSET)))
    }

    /// Audio: media time plus `nanos` is the moment of playing, on the gateway's clock.
    pub(super) fn set(&self, nanos: i64) {
        self.0.store(nanos.max(UNSET + 1), Ordering::Relaxed);
    }

    /// Audio: the sound is gone, the pictures are on their own.
    pub(super) fn clear(&self) {
        self.0.store(UNSET, Ordering::Relaxed);
    }

    /// When `time` is to be seen, if the leg has sound to keep step with. Nanoseconds of the
    /// gateway's clock.
    pub(super) fn plays_at(&self, time: MediaTime) -> Option<i64> {
        let offset = self.0.load(Ordering::Relaxed);
        (offset != UNSET).then(|| time.0.saturating_add(offset))
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_follow_the_sound_only_while_there_is_sound() {
        let (sound, pictures) = {
            let t = Timeline::new();
            (t.clone(), t)
        };
        assert_eq!(pictures.plays_at(MediaTime(5)), None);
        sound.set(-3);
        assert_eq!(pictures.plays_at(MediaTime(5)), Some(2));
        sound.clear();
        assert_eq!(pictures.plays_at(MediaTime(5)), None);
    }
}
