//! Descriptions of RFCs and of real programs, and what no description may do.

use super::*;

mod descriptions;
