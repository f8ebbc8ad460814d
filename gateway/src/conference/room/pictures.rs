//! The pictures of a room: which are drawn, which view shows them, and who sees which.
//!
//! ```text
//!  want ─> shown by a view? ─ yes ─> routes
//!             └ no ─> drawn, on a blocking thread ─> hang: shown by a view ─> routes
//! ```
//!
//! To draw takes some 10 ms for each picture, so the room does not wait for it. One drawing of a room is
//! under way at a time; of what is wanted meanwhile the newest alone is drawn next. Until then everybody
//! sees what he saw.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;

use super::attendee::Numbers;
use super::sight::{Artist, Sight, plain};
use crate::media::port::StreamId;
use crate::media::{EngineError, EngineHandle, Staged, ViewId};

/// Who is to see what: a stream of pictures and its sight.
type Wanted = Vec<(StreamId, Sight)>;

/// See the module.
pub(super) struct Pictures {
    engine: EngineHandle,
    numbers: Numbers,
    artist: Arc<dyn Artist>,
    /// The newest.
    wanted: Wanted,
    views: Vec<(ViewId, Sight)>,
    /// Which view each receiver sees.
    seen: HashMap<StreamId, ViewId>,
    drawing: Option<Drawing>,
}

/// What is being drawn: for whom, and what.
struct Drawing {
    wanted: Wanted,
    sights: Vec<Sight>,
    job: JoinHandle<Vec<Result<Staged, EngineError>>>,
}

/// What has been drawn.
pub(super) struct Drawn {
    wanted: Wanted,
    all: Vec<(Sight, Result<Staged, EngineError>)>,
}

impl Pictures {
    /// None yet.
    pub(super) fn new(engine: EngineHandle, numbers: Numbers, artist: Arc<dyn Artist>) -> Self {
        let (wanted, views, seen) = (Vec::new(), Vec::new(), HashMap::new());
        Self { engine, numbers, artist, wanted, views, seen, drawing: None }
    }

    /// Has each receiver see that: at once what is drawn already, the rest when it is.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
        self.turn();
        self.draw();
    }

    /// What is being drawn, once it is; never while nothing is. Nothing is lost when this is dropped.
    pub(super) async fn drawn(&mut self) -> Drawn {
        let Some(drawing) = &mut self.drawing else { return std::future::pending().await };
        let staged = (&mut drawing.job).await;
        let Some(Drawing { wanted, sights, .. }) = self.drawing.take() else {
            return std::future::pending().await;
        };
        let staged = staged.unwrap_or_else(|fault| {
            // A name that nobody can draw is no reason to try it for ever.
            tracing::error!(%fault, "pictures could not be drawn");
            sights.iter().map(|_| Staged::new(plain(), &[])).collect()
        });
        Drawn { wanted, all: sights.into_iter().zip(staged).collect() }
    }

    /// That is shown, to whom it was drawn for, as far as he is not to see something else that is drawn
    /// already.
    pub(super) fn hang(&mut self, drawn: Drawn) {
        let Drawn { wanted, all } = drawn;
        let goes = wanted.into_iter().filter(|(sink, sight)| {
            let now = self.wanted.iter().find(|(it, _)| it == sink).map(|(_, now)| now);
            // One that is late is better than none, while who speaks changes faster than we draw; but who
            // is denied slides meanwhile does not see them (S46).
            let alike = |now: &Sight| {
                now.is_picture() && sight.is_picture() && (now.has_slides() || !sight.has_slides())
            };
            let late = |now: &Sight| alike(now) && self.view(now).is_none();
            now.is_some_and(|now| now == sight || late(now))
        });
        let goes: Wanted = goes.collect();
        let mut refused = false;
        for (sight, staged) in all {
            let sinks = goes.iter().filter(|(_, to)| *to == sight).map(|(sink, _)| *sink);
            let sinks: Vec<StreamId> = sinks.collect();
            if sinks.is_empty() {
                continue;
            }
            let view = self.take_view(&sight, &sinks, &goes);
            match staged.and_then(|staged| self.engine.show_staged(view, staged)) {
                Ok(()) => {
                    self.views.retain(|(it, _)| *it != view);
                    self.views.push((view, sight));
                    self.seen.extend(sinks.into_iter().map(|sink| (sink, view)));
                }
                Err(fault) => {
                    refused = true;
                    tracing::warn!(%fault, "a picture is not as it should be");
                }
            }
        }
        self.turn();
        // What the engine has no room for is drawn again when the room looks next, not at once for ever.
        if !refused {
            self.draw();
        }
    }

    /// Who sees which view.
    pub(super) fn routes(&self) -> impl Iterator<Item = (StreamId, ViewId)> + '_ {
        self.seen.iter().map(|(sink, view)| (*sink, *view))
    }

    /// Everybody turns to what he is to see if that is shown; views that nobody sees are let go of.
    fn turn(&mut self) {
        for (sink, sight) in &self.wanted {
            if let Some(view) = self.view(sight) {
                self.seen.insert(*sink, view);
            }
        }
        self.seen.retain(|sink, _| self.wanted.iter().any(|(it, _)| it == sink));
        let seen = &self.seen;
        for (view, _) in self.views.extract_if(.., |(view, _)| !seen.values().any(|it| it == view)) {
            let _ = self.engine.remove_view(view);
        }
    }

    /// Draws what is not shown yet, unless a drawing is under way.
    fn draw(&mut self) {
        let mut sights = Vec::new();
        for (_, sight) in &self.wanted {
            if self.view(sight).is_none() && !sights.contains(sight) {
                sights.push(sight.clone());
            }
        }
        if sights.is_empty() || self.drawing.is_some() {
            return;
        }
        let (artist, drawn) = (self.artist.clone(), sights.clone());
        let stage = move |sight: &Sight| Staged::new(artist.draw(sight), sight.sources());
        let job = tokio::task::spawn_blocking(move || drawn.iter().map(stage).collect());
        self.drawing = Some(Drawing { wanted: self.wanted.clone(), sights, job });
    }

    fn view(&self, sight: &Sight) -> Option<ViewId> {
        self.views.iter().find(|(_, shown)| shown == sight).map(|(view, _)| *view)
    }

    /// A view for `sight`, which `sinks` are to see: one of pictures that nobody is to see any more, for
    /// all who do now are among those that go elsewhere; it goes over without a new encoder. Else a new
    /// one.
    fn take_view(&self, sight: &Sight, sinks: &[StreamId], goes: &Wanted) -> ViewId {
        let free = |(view, shown): &&(ViewId, Sight)| {
            let wanted = self.wanted.iter().chain(goes).any(|(_, wanted)| wanted == shown);
            let mut seers = self.seen.iter().filter(|(_, seen)| *seen == view);
            let stays = seers.any(|(sink, _)| !goes.iter().any(|(it, _)| it == sink));
            sight.is_picture() && shown.is_picture() && !wanted && !stays
        };
        let own = |view: &ViewId| sinks.iter().any(|sink| self.seen.get(sink) == Some(view));
        // Their own rather than another's.
        let free = self.views.iter().filter(free).map(|(view, _)| *view).max_by_key(own);
        free.unwrap_or_else(|| ViewId(self.numbers.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Drop for Pictures {
    fn drop(&mut self) {
        for (view, _) in self.views.drain(..) {
            let _ = self.engine.remove_view(view);
        }
    }
}

#[cfg(test)]
mod tests {
    use crosspoint_codecs::compose::Scene;

    use super::super::sight::{Composition, Slate};
    use super::*;
    use crate::conference::cardboard::NoCodecs;
    use crate::conference::layout::Layout;
    use crate::conference::scene::{Look, Party};
    use crate::media::{Engine, EngineConfig};

    struct Quick;

    impl Artist for Quick {
        fn draw(&self, sight: &Sight) -> Scene {
            assert_ne!(*sight, Sight::Slate(Slate::Goodbye), "no pen draws that");
            match sight {
                Sight::Slate(Slate::Locked) => Scene { width: 0, ..plain() },
                _ => plain(),
            }
        }
    }

    fn pictures() -> (Pictures, Engine) {
        let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(NoCodecs));
        (Pictures::new(handle, Numbers::default(), Arc::new(Quick)), engine)
    }

    fn of(name: &str) -> Sight {
        let parties = vec![Party { name: name.into(), ..Party::default() }];
        let (layout, sources, look) = (Layout::ALL[0], Vec::new(), Look::default());
        Sight::Picture(Arc::new(Composition { layout, parties, sources, look, slides: None }))
    }

    fn wanted(all: &[(u64, &Sight)]) -> Wanted {
        all.iter().map(|(sink, sight)| (StreamId(*sink), (*sight).clone())).collect()
    }

    impl Pictures {
        async fn all_drawn(&mut self) {
            while self.drawing.is_some() {
                let drawn = self.drawn().await;
                self.hang(drawn);
            }
        }

        /// What a receiver sees.
        fn sees(&self, sink: u64) -> Option<&Sight> {
            let view = self.seen.get(&StreamId(sink))?;
            self.views.iter().find(|(it, _)| it == view).map(|(_, sight)| sight)
        }
    }

    #[tokio::test]
    async fn a_picture_that_changes_goes_on_in_its_view_and_one_that_nobody_sees_is_let_go_of() {
        let (mut it, _engine) = pictures();
        let (one, two, three) = (of("one"), of("two"), of("three"));
        it.want(wanted(&[(1, &one), (2, &one), (3, &two)]));
        assert_eq!(it.routes().count(), 0, "nothing is drawn yet");
        it.all_drawn().await;
        let before: HashMap<_, _> = it.routes().collect();
        assert!(before[&StreamId(1)] == before[&StreamId(2)] && before[&StreamId(1)] != before[&StreamId(3)]);
        it.want(wanted(&[(1, &three), (2, &three), (3, &two)]));
        assert_eq!((it.sees(1), it.sees(3)), (Some(&one), Some(&two)), "what he saw, until it is drawn");
        it.all_drawn().await;
        assert_eq!((it.sees(1), it.sees(2), it.sees(3)), (Some(&three), Some(&three), Some(&two)));
        assert_eq!(it.routes().collect::<HashMap<_, _>>(), before, "no new encoder");
        it.want(wanted(&[(3, &two)]));
        assert_eq!((it.views.len(), it.routes().count()), (1, 1));
        it.want(Vec::new());
        assert!(it.views.is_empty() && it.drawing.is_none());
    }

    #[tokio::test]
    async fn who_stays_with_what_he_sees_is_not_taken_along_by_others() {
        let (mut it, _engine) = pictures();
        let (hosts, all, news) = (of("hosts"), of("all"), of("news"));
        it.want(wanted(&[(1, &hosts), (2, &hosts)]));
        it.all_drawn().await;
        // The first goes elsewhere; what the other is to see comes while that is drawn.
        it.want(wanted(&[(1, &all), (2, &hosts)]));
        it.want(wanted(&[(1, &all), (2, &news)]));
        let drawn = it.drawn().await;
        it.hang(drawn);
        assert_eq!((it.sees(1), it.sees(2)), (Some(&all), Some(&hosts)));
        it.all_drawn().await;
        assert_eq!((it.sees(1), it.sees(2), it.views.len()), (Some(&all), Some(&news), 2));
    }

    #[tokio::test]
    async fn one_that_is_late_is_seen_until_the_next_is_drawn_unless_he_is_out_by_then() {
        let (mut it, _engine) = pictures();
        let (one, two, waits) = (of("one"), of("two"), Sight::Slate(Slate::Waiting));
        it.want(wanted(&[(1, &one), (2, &one), (3, &one)]));
        it.want(wanted(&[(1, &two), (2, &waits)]));
        let drawn = it.drawn().await;
        it.hang(drawn);
        assert_eq!((it.sees(1), it.sees(2), it.sees(3)), (Some(&one), None, None));
        it.all_drawn().await;
        assert_eq!((it.sees(1), it.sees(2)), (Some(&two), Some(&waits)));
    }

    #[tokio::test]
    async fn what_the_engine_refuses_is_not_drawn_again_until_the_room_looks() {
        let (mut it, _engine) = pictures();
        let (one, locked) = (of("one"), Sight::Slate(Slate::Locked));
        it.want(wanted(&[(1, &locked), (2, &one)]));
        it.all_drawn().await;
        assert_eq!((it.sees(1), it.sees(2)), (None, Some(&one)));
        it.want(wanted(&[(1, &locked), (2, &one)]));
        assert!(it.drawing.is_some());
    }

    #[tokio::test]
    async fn what_cannot_be_drawn_is_plain_and_is_not_tried_again() {
        let (mut it, _engine) = pictures();
        let goodbye = Sight::Slate(Slate::Goodbye);
        it.want(wanted(&[(1, &goodbye)]));
        it.all_drawn().await;
        assert_eq!(it.sees(1), Some(&goodbye));
        it.want(wanted(&[(1, &goodbye)]));
        assert!(it.drawing.is_none());
    }
}
