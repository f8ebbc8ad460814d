//! Frames in, frames out: playout, the engine and the ports where legs meet it.

pub mod port;
