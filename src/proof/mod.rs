//! Measures of what was heard and seen: the oracle of the demo and of every media test.
//!
//! "The call was answered" proves nothing. A tone has a frequency, a level and a distance to
//! everything that is not the tone; a recording has gaps or has none.

#![allow(clippy::cast_possible_truncation, reason = "measures count samples of files that we wrote")]

mod picture;
mod sound;
mod wav;

pub use picture::{PictureDifference, psnr};
pub use sound::{SoundReport, Tone, gaps, onsets, purity, tone};
pub use wav::{Wav, WavError};
