//! Work on samples and pixels. Each kernel's plain version is its specification; one with vector
//! operations is held against it bit by bit.

pub mod blend;
pub mod convert;
pub mod cpu;
pub mod fill;
pub mod g711;
pub mod g722;
pub mod level;
pub mod limit;
pub mod mix;
pub mod resample;
pub mod scale;
