//! sipp as a process: scenarios, rates, its own count of what failed.

use std::path::Path;
use std::process::Output;

use super::program;

/// Runs sipp in `folder` with these arguments until it ends by itself.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    program("sipp").current_dir(folder).args(arguments).args(["-nostdin"]).output().unwrap()
}

/// It ended with 0, which is its word for "no call failed".
pub fn succeeded(output: &Output, folder: &Path) {
    if output.status.code() == Some(0) {
        return;
    }
    let mut told = String::from_utf8_lossy(&output.stdout).into_owned();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().to_string_lossy().ends_with("_errors.log") {
            let errors = std::fs::read_to_string(entry.path()).unwrap_or_default();
            told.push_str(&errors.chars().take(4_000).collect::<String>());
        }
    }
    let tail: String = told.chars().skip(told.chars().count().saturating_sub(6_000)).collect();
    panic!("sipp ended with {:?}:\n{tail}", output.status.code());
}
