//! The engine in virtual time with real codecs: what two far ends hear and see of each other.

#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "test signals are small")]
#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod crew;
mod far;
mod listen;
mod lossy;
mod outage;
mod picture;
mod room;
mod selfview;
mod sharing;
mod silent;
mod slides;
mod sound;
mod view;
