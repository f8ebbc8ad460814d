//! A container of legs. A point-to-point call is a conference of two.

pub mod offer;
pub mod plan;
