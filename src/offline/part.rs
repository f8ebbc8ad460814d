//! A file in the making, beside its place.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{io, process};

/// Gone unless it is kept.
#[derive(Debug)]
pub(super) struct Part {
    place: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl Part {
    /// Makes a file that becomes `place`: in the same folder, so that the end is a mere renaming.
    pub(super) fn create(place: &Path) -> io::Result<(Self, File)> {
        let mut name = OsString::from(".");
        name.push(place.file_name().unwrap_or_default());
        // Two who write to the same place at once do not write into each other's file.
        name.push(format!(".{}.part", process::id()));
        let path = place.with_file_name(name);
        let file = File::create_new(&path)?;
        Ok((Self { place: place.to_owned(), path, kept: false }, file))
    }

    /// The file takes its place; one that is there is replaced.
    pub(super) fn keep(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.place)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
