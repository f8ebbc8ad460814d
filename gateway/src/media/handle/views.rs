//! Views, as the callers know them.

use std::fmt;

use crosspoint_codecs::compose::Scene;

use super::super::port::StreamId;
use super::super::route::ViewId;
use super::super::video::VideoCommand;
use super::super::view;
use super::{Command, EngineError, EngineHandle};

/// A scene with everything that it takes to compose it.
pub struct Staged(Box<view::Staging>);

impl Staged {
    /// What costs time of [`EngineHandle::show`]: some milliseconds, and the memory of its pictures.
    pub fn new(scene: Scene, sources: &[StreamId]) -> Result<Self, EngineError> {
        view::staging(scene, sources).map(Self)
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").finish_non_exhaustive()
    }
}

impl EngineHandle {
    /// Composes `scene` as view `id` from the next step on, for whoever is routed to it; one that is
    /// there already changes. `sources` are the streams behind the numbers in the scene; one that does
    /// not exist (yet) has no picture.
    pub fn show(&self, id: ViewId, scene: Scene, sources: &[StreamId]) -> Result<(), EngineError> {
        self.show_staged(id, Staged::new(scene, sources)?)
    }

    /// The same of a scene that is ready: this costs nothing.
    pub fn show_staged(&self, id: ViewId, staged: Staged) -> Result<(), EngineError> {
        let Staged(part) = staged;
        self.with(|registers| {
            let command = if registers.views.contains(&id) {
                VideoCommand::Stage { view: id, part }
            } else if registers.views.len() >= registers.streams {
                return Err(EngineError::Full);
            } else {
                VideoCommand::View(view::view(id, part))
            };
            registers.send(vec![Command::Video(command)])?;
            registers.views.insert(id);
            Ok(())
        })
    }

    /// Ends a view; whoever sees it gets no pictures from then on.
    pub fn remove_view(&self, id: ViewId) -> Result<(), EngineError> {
        self.with(|registers| {
            registers.send(vec![Command::Video(VideoCommand::RemoveView(id))])?;
            registers.views.remove(&id);
            Ok(())
        })
    }
}
