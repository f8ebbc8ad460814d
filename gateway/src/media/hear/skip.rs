//! A source that is not decoded: what its sender says of it, and how it comes back.

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::kernels::level::SILENCE;

use super::super::audio::TICK;
use super::super::playout::PIECE;
use super::super::stats::{SourceCounters, count};
use super::Decoding;

/// Frames that are kept of those that were skipped: what a decoder remembers
/// (`AudioDecoder::memory`), in frames of the usual length.
pub(super) const MISSED: usize = 8;

impl Decoding {
    /// [`Playout::told`], with what was decoded ahead. It looks a tick further than is played now:
    /// who is about to be loud is decoded, and fades in, before he is.
    pub(super) fn told(&self, now: Instant) -> Option<u8> {
        let told = self.playout.told(now + 2 * TICK)?;
        let ahead = if self.stretch.len() > 0 { self.level? } else { SILENCE };
        Some(told.min(ahead))
    }

    /// Lets go of what is due in this tick.
    pub(super) fn skip(&mut self, now: Instant, counters: &SourceCounters) {
        self.playout.skip_until(now + TICK, |frame| {
            count(&counters.skipped);
            self.missed.rotate_left(1);
            self.missed[MISSED - 1] = Some(frame);
        });
        self.stretch.clear();
    }

    /// Before the first frame after some that were skipped: a decoder that knows the last ones makes
    /// of the next what it should be. It is not reset: it was skipped in silence, most often, and
    /// what it knows of that is nearer to the sender's encoder than nothing.
    pub(super) fn resume(&mut self) {
        let Self { decoder, stretch, missed, .. } = self;
        let mut wanted = decoder.memory();
        let mut first = MISSED;
        while first > 0
            && let Some(frame) = &missed[first - 1]
            && !wanted.is_zero()
        {
            wanted = wanted.saturating_sub(frame.duration.max(PIECE));
            first -= 1;
        }
        for (at, frame) in missed.iter_mut().enumerate() {
            let Some(frame) = frame.take().filter(|_| at >= first) else { continue };
            stretch.append(|room| {
                // For what it remembers, not for the sound.
                let _ = decoder.decode(&frame.data, room);
                0
            });
        }
    }
}
