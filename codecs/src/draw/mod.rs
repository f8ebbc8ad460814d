//! What is drawn rather than filmed: names, banners, frames, stand-ins for people without a camera,
//! slates.
//!
//! Everything here runs where a picture is planned, never in the tick. It ends in one of two
//! finished things: a [`Sprite`], which the tick blends into a picture, or a [`VideoFrame`], which it
//! copies.
//!
//! ```text
//! text ── Typesetter ── Mask ─┐
//!                             ├─ Sheet (colours, transparent) ─┬─ Sprite      blended
//! palette ── shapes ──────────┘                                └─ VideoFrame  copied
//! ```
//!
//! Sizes are fractions of the tile's height (see `pieces`), colours come from [`palette`].

#[cfg(doc)]
use crate::frame::VideoFrame;

pub mod palette;
#[cfg(feature = "text")]
pub mod pieces;
mod sheet;
mod sprite;
#[cfg(feature = "text")]
pub mod text;

pub use palette::Rgb;
pub use sheet::{Round, Sheet};
pub use sprite::Sprite;
