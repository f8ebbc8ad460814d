//! A file in the making, beside its place: who looks there finds all of it or nothing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{io, process};

/// Gone unless it is kept.
#[derive(Debug)]
pub struct Part {
    place: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl Part {
    /// Makes a file that becomes `place`: in the same folder, so that the end is a mere renaming.
    /// What is written to it through a buffer has to be flushed before it is kept.
    pub fn create(place: &Path) -> io::Result<(Self, File)> {
        let mut name = OsString::from(".");
        name.push(place.file_name().unwrap_or_default());
        // Two who write to the same place at once do not write into each other's file.
        name.push(format!(".{}.part", process::id()));
        let path = place.with_file_name(name);
        let file = File::create_new(&path)?;
        Ok((Self { place: place.to_owned(), path, kept: false }, file))
    }

    /// The file, of which everything must have been written by now, takes its place; one that is
    /// there is replaced.
    pub fn keep(mut self) -> io::Result<()> {
        // Else its name might outlive a crash of the system that its bytes do not.
        File::open(&self.path)?.sync_all()?;
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
