//! Frames in, frames out: playout, the engine and the ports where legs meet it.
//!
//! ```text
//! Inlet -> Playout -> decoder -> Stretch -+-> resample -> fade -> encoder -> Outlet   (sound, 20 ms)
//!                                         |
//!                        Timeline (when the leg's sound is heard)
//!                                         |
//! Inlet -> due? ---> decoder -------------+-> scale -> encoder -> Outlet              (pictures, 10 ms)
//! ```
//!
//! An engine is two lanes, each stepped with `now`; a thread each runs them, and scenarios in
//! virtual time call [`engine::Engine::step`]. Sound and pictures have threads of their own because
//! one encoded picture takes longer than the whole sound of a tick may. A call stays within one engine,
//! but what takes long in it, decoding and encoding, is done by whatever thread of the [`Crew`] is free:
//! a process has one crew for all its engines.

mod activity;
mod agc;
mod arrival;
mod audio;
mod bus;
pub mod capture;
mod clip;
mod coder;
mod comfort;
mod crew;
mod dominant;
pub mod engine;
mod fit;
mod form;
pub mod handle;
mod hear;
mod lane;
mod load;
mod packets;
pub mod parts;
mod player;
mod playout;
pub mod port;
pub mod route;
mod see;
mod show;
mod speak;
mod stats;
mod stretch;
mod talkers;
pub mod timeline;
mod urgent;
mod video;
mod view;
mod worker;

pub use activity::Activity;
pub use clip::{ClipId, LONGEST_CLIP, MOST_CLIPS};
pub use crew::Crew;
pub use engine::Engine;
pub use handle::{ClockFn, EngineConfig, EngineError, EngineHandle, Staged};
pub use parts::Codecs;
pub use route::{BusConfig, BusId, Playback, Route, ViewId};
pub use stats::{BusStats, LaneStats, SinkStats, SourceStats, StreamFigures, WorkerStats};
pub use timeline::Timeline;
