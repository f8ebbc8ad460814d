//! A composed picture: the sources that are in it, and the one who composes.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::compose::{Composer, Feed, MAX_TILES, Scene};
use crosspoint_codecs::frame::{Pool, VideoFrame};

use super::arrival::nanos;
use super::crew::Ticket;
use super::form::PICTURE_EVERY;
use super::handle::EngineError;
use super::lane::Slots;
use super::port::StreamId;
use super::route::ViewId;
use super::see::VideoSource;

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
    /// `None` while it is at work.
    kit: Option<Box<Kit>>,
    /// Whose work is waited for.
    awaited: Option<Ticket>,
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

/// The one who composes. It goes away with pictures and comes back with one made of them.
pub(super) struct Kit {
    composer: Composer,
    pool: Pool,
    held: [Held; MAX_TILES],
    count: usize,
    made: Option<VideoFrame>,
}

impl Kit {
    /// Composes what it went away with.
    pub(super) fn run(&mut self) {
        let mut feeds = [Feed::default(); MAX_TILES];
        for (feed, held) in feeds.iter_mut().zip(&self.held) {
            let Held { picture, fresh, stalled } = held;
            *feed = Feed { picture: picture.as_ref(), fresh: *fresh, stalled: *stalled };
        }
        self.made = self.composer.compose(&feeds[..self.count], &self.pool);
        self.held = [const { Held::NOTHING }; MAX_TILES];
    }
}

/// A [`Feed`] that owns its picture.
struct Held {
    picture: Option<VideoFrame>,
    fresh: bool,
    stalled: bool,
}

impl Held {
    const NOTHING: Self = Self { picture: None, fresh: false, stalled: false };
}

pub(super) fn staging(scene: Scene, sources: &[StreamId]) -> Result<Box<Staging>, EngineError> {
    let pool = Pool::on_huge_pages(PICTURES, VideoFrame::bytes(scene.width, scene.height));
    let sources = &sources[..sources.len().min(MAX_TILES)];
    let count = sources.len();
    let kit = Kit {
        composer: Composer::new(scene)?,
        pool,
        held: [const { Held::NOTHING }; MAX_TILES],
        count,
        made: None,
    };
    Ok(Box::new(Staging {
        kit: Some(Box::new(kit)),
        awaited: None,
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

    /// Begins a step: what was new is not new any more.
    pub(super) const fn turn(&mut self) {
        self.fresh = false;
    }

    /// When it is time and something is new: the composer with what there is, for [`Kit::run`]. It comes
    /// back to [`Self::finish`].
    pub(super) fn begin(
        &mut self,
        sources: &Slots<VideoSource>,
        now: Instant,
        ticket: Ticket,
    ) -> Option<Box<Kit>> {
        let watched = std::mem::take(&mut self.watched);
        let part = &mut *self.part;
        let mut stalled = part.stalled;
        let mut news = !part.begun;
        for (n, slot) in part.slots.iter().enumerate() {
            let source = slot.and_then(|slot| sources.at(slot));
            if let Some((_, made)) = source.and_then(VideoSource::good) {
                part.pending[n] |= part.seen[n].is_none_or(|seen| seen < made);
                part.seen[n] = Some(made);
            }
            let late = part.seen[n].is_none_or(|made| now.saturating_since(made) >= HOLD);
            stalled[n] = source.is_none() || late;
            news |= part.pending[n] || stalled[n] != part.stalled[n];
        }
        if !watched || !news || now < self.next {
            return None;
        }
        let mut kit = part.kit.take()?;
        for (n, slot) in part.slots.iter().enumerate() {
            let good = slot.and_then(|slot| sources.at(slot)).and_then(VideoSource::good);
            let picture = good.map(|(picture, _)| picture.clone());
            kit.held[n] = Held { picture, fresh: part.pending[n], stalled: stalled[n] };
        }
        // On a grid while pictures come, from now on after a pause.
        self.next = (self.next + PICTURE_EVERY).max(now + PICTURE_EVERY - PICTURE_EVERY / 2);
        (part.pending, part.stalled, part.begun) = ([false; MAX_TILES], stalled, true);
        part.awaited = Some(ticket);
        Some(kit)
    }

    /// Takes back the composer that went away with `ticket`, and what it made. Gives it back when nobody
    /// waits for it any more.
    pub(super) fn finish(&mut self, ticket: Ticket, mut kit: Box<Kit>, now: Instant) -> Option<Box<Kit>> {
        if self.part.awaited != Some(ticket) {
            return Some(kit);
        }
        self.part.awaited = None;
        match kit.made.take() {
            Some(picture) => (self.picture, self.shown_at, self.fresh) = (Some(picture), nanos(now), true),
            // No buffer was free: the next one shows all of it.
            None => self.part.pending = [true; MAX_TILES],
        }
        self.part.kit = Some(kit);
        None
    }
}
