//! x
pub mod proof;
