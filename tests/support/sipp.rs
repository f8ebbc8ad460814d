//! sipp as a process: scenarios, rates, its own count of what failed.

use std::path::Path;
use std::process::Output;

use super::program;

/// Runs sipp in `folder` with these arguments until it ends by itself.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    program("sipp").current_dir(folder).args(arguments).args(["-nostdin"]).output().unwrap()
}
