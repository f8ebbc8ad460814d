//! A composed picture: the sources that are in it, and the one who composes.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::compose::{Composer, Feed, MAX_TILES, Scene};
use crosspoint_codecs::frame::{Pool, VideoFrame};

use super::form::PICTURE_EVERY;
use super::handle::EngineError;
use super::lane::Slots;
use super::port::StreamId;
use super::route::ViewId;
use super::see::VideoSource;
use super::timeline::nanos;

/// Composed pictures: the last one, which the composer copies from, the one that is made, and one
/// for each end that may hold one a moment longer.
const PICTURES: usize = 4;

/// A source whose pictures stay away, or are damaged, is seen for so long by its last good one: longer
/// than a handover between networks, or than four wishes for a keyframe (one a second) take to be
/// heard; and short enough that nobody talks to a still for long. One that is gone gives way at once.
const HOLD: Duration = Duration::from_secs(5);

/// A view.
pub(super) struct View {
    id: ViewId,
    part: Box<Staging>,
    /// Somebody sees it in this step.
    pub(super) watched: bool,
    picture: Option<VideoFrame>,
    shown_at: i64,
    fresh: bool,
    next: Instant,
}

/// The part of a view that depends on its scene.
pub(super) struct Staging {
    composer: Composer,
    pool: Pool,
    /// By the numbers that the scene has for them.
    sources: Box<[StreamId]>,
    slots: Box<[Option<usize>]>,
    /// A picture came that is not composed yet.
    pending: [bool; MAX_TILES],
    /// When the last good one was made.
    seen: [Option<Instant>; MAX_TILES],
    /// Too long ago when a picture was composed last: what stands in for the source was seen.
    stalled: [bool; MAX_TILES],
    /// Something was composed.
    begun: bool,
}

pub(super) fn staging(scene: Scene, sources: &[StreamId]) -> Result<Box<Staging>, EngineError> {
    let pool = Pool::new(PICTURES, VideoFrame::bytes(scene.width, scene.height));
    let sources = &sources[..sources.len().min(MAX_TILES)];
    Ok(Box::new(Staging {
        composer: Composer::new(scene)?,
        pool,
        slots: vec![None; sources.len()].into(),
        sources: sources.into(),
        pending: [false; MAX_TILES],
        seen: [None; MAX_TILES],
        stalled: [false; MAX_TILES],
        begun: false,
    }))
}

pub(super) fn view(id: ViewId, part: Box<Staging>) -> Box<View> {
    Box::new(View { id, part, watched: false, picture: None, shown_at: 0, fresh: false, next: Instant::ZERO })
}

impl View {
    pub(super) const fn id(&self) -> ViewId {
        self.id
    }

    /// Another scene from now on; what was there is in `part` afterwards.
    pub(super) const fn stage(&mut self, part: &mut Box<Staging>) {
        std::mem::swap(&mut self.part, part);
    }

    /// Finds its sources anew.
    pub(super) fn link(&mut self, find: impl Fn(StreamId) -> Option<usize>) {
        let Staging { sources, slots, .. } = &mut *self.part;
        for (slot, source) in slots.iter_mut().zip(&**sources) {
            *slot = find(*source);
        }
    }

    /// Slots of its sources.
    pub(super) fn sources(&self) -> impl Iterator<Item = usize> {
        self.part.slots.iter().flatten().copied()
    }

    /// The last picture, when it is seen, and whether this step made it.
    pub(super) fn picture(&self) -> Option<(&VideoFrame, i64, bool)> {
        Some((self.picture.as_ref()?, self.shown_at, self.fresh))
    }

    /// Composes, when it is time and something is new.
    pub(super) fn compose(&mut self, sources: &Slots<VideoSource>, now: Instant) {
        self.fresh = false;
        let watched = std::mem::take(&mut self.watched);
        let part = &mut *self.part;
        let mut feeds = [Feed::default(); MAX_TILES];
        let mut news = !part.begun;
        for (n, slot) in part.slots.iter().enumerate() {
            let source = slot.and_then(|slot| sources.at(slot));
            let good = source.and_then(VideoSource::good);
            if let Some((_, made)) = good {
                part.seen[n] = Some(made);
                part.pending[n] |= made == now;
            }
            let late = part.seen[n].is_none_or(|made| now.saturating_since(made) >= HOLD);
            let stalled = source.is_none() || late;
            feeds[n] = Feed { picture: good.map(|(picture, _)| picture), fresh: part.pending[n], stalled };
            news |= part.pending[n] || stalled != part.stalled[n];
        }
        if !watched || !news || now < self.next {
            return;
        }
        // On a grid while pictures come, from now on after a pause.
        self.next = (self.next + PICTURE_EVERY).max(now + PICTURE_EVERY - PICTURE_EVERY / 2);
        if let Some(picture) = part.composer.compose(&feeds[..part.slots.len()], &part.pool) {
            part.pending = [false; MAX_TILES];
            for (stalled, feed) in part.stalled.iter_mut().zip(&feeds) {
                *stalled = feed.stalled;
            }
            part.begun = true;
            (self.picture, self.shown_at, self.fresh) = (Some(picture), nanos(now), true);
        }
    }
}
