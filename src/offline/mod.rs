//! What a room does, done to files: no call, no clock, as fast as the machine goes.
//!
//! [`Mix`] takes sounds and gives blocks of 20 ms by the same kernels as the engine's tick;
//! [`mix_files`] puts WAV files around it.

mod files;
mod mix;
mod part;
mod wav;

pub use files::{MixError, Mixing, Output, Report, mix_files};
pub use mix::{Measure, Mix, ReadError, Settings, Sound};
pub use part::Part;
pub use wav::{WavReader, WavShape, WavWriter};
