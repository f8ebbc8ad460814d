//! Events that have not been delivered yet, in a file: what is in it outlives the process.
//!
//! Lines are appended; what was delivered is remembered as an offset in a file beside it. When all of it
//! was, both begin anew; where more is told all the time, what waits is moved to the front once there is no room
//! behind it. So the file has room for what waits, less an eighth at most.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The file of events that wait, in the data folder, and how much of it was delivered.
pub(super) const FILE: &str = "events.waiting.jsonl";
const OFFSET: &str = "events.delivered";

/// Longest line that is read back: texts of events have 256 bytes, and there are few in each.
const LINE: u64 = 16 * 1024;

/// What was delivered is taken from the front when it is so much of all: each octet is moved a few times at most.
const WASTE: u64 = 8;

/// What waits.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    offset_path: PathBuf,
    /// Most bytes of the file. Overflow: lines are refused, whoever appends them counts.
    most: u64,
    offset: u64,
    length: u64,
    /// Bytes that were taken from the front since it was opened: what is delivered now may have been read before.
    moved: u64,
}

impl Spool {
    /// What a process before this one has left in `folder`.
    pub(super) fn open(folder: &Path, most: u64) -> io::Result<Self> {
        let (path, offset_path) = (folder.join(FILE), folder.join(OFFSET));
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let mut length = file.metadata()?.len();
        // A process that was killed within a line has told nobody that it was there.
        let whole = whole_lines(&path)?;
        if whole < length {
            file.set_len(whole)?;
            length = whole;
        }
        let offset = match fs::read_to_string(&offset_path) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(_) => 0,
        };
        // Of another file: rather twice than not at all.
        let offset = if offset <= length { offset } else { 0 };
        Ok(Self { path, offset_path, most, offset, length, moved: 0 })
    }

    /// Appends one line without its end. False: there is no room.
    pub(super) fn append(&mut self, line: &str) -> io::Result<bool> {
        let bytes = format!("{line}\n").into_bytes();
        let room = |spool: &Self| spool.length + bytes.len() as u64 <= spool.most;
        if !room(self) && self.offset >= (self.most / WASTE).max(1) {
            self.make_room()?;
        }
        if !room(self) {
            return Ok(false);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        if let Err(error) = file.write_all(&bytes) {
            // A disk that filled within the line: take the half back.
            let _ = file.set_len(self.length);
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(true)
    }

    /// Moves what waits to the front.
    fn make_room(&mut self) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        io::copy(&mut file.take(self.length - self.offset), &mut File::create(&beside)?)?;
        // The offset first: a process that is killed between the two delivers some twice.
        self.remember(0)?;
        fs::rename(beside, &self.path)?;
        self.moved += self.offset;
        (self.offset, self.length) = (0, self.length - self.offset);
        Ok(())
    }

    /// The oldest lines that wait, at most so many, and what to tell [`Self::delivered`] of them.
    pub(super) fn waiting(&self, most: usize) -> io::Result<(Vec<String>, u64)> {
        if self.offset >= self.length {
            return Ok((Vec::new(), self.moved + self.offset));
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file.take(LINE * most as u64));
        let (mut lines, mut end) = (Vec::new(), self.offset);
        while lines.len() < most {
            let mut line = String::new();
            let read = reader.read_line(&mut line)?;
            if read == 0 || !line.ends_with('\n') {
                break;
            }
            end += read as u64;
            lines.push(line.trim_end().to_owned());
        }
        Ok((lines, self.moved + end))
    }

    /// Everything up to there was taken by the other side.
    pub(super) fn delivered(&mut self, end: u64) -> io::Result<()> {
        let end = end.saturating_sub(self.moved);
        if end >= self.length {
            // The offset first: a process that is killed between the two delivers some twice.
            self.remember(0)?;
            OpenOptions::new().write(true).open(&self.path)?.set_len(0)?;
            self.moved += self.length;
            (self.offset, self.length) = (0, 0);
            return Ok(());
        }
        self.remember(end)?;
        self.offset = end;
        Ok(())
    }

    /// Written beside and renamed: never half a number.
    fn remember(&self, offset: u64) -> io::Result<()> {
        let beside = self.offset_path.with_extension("new");
        fs::write(&beside, offset.to_string())?;
        fs::rename(beside, &self.offset_path)
    }
}

/// Bytes up to the last end of a line.
fn whole_lines(path: &Path) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut at, mut whole) = (0, 0);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(whole);
        }
        if let Some(last) = buffer.iter().rposition(|it| *it == b'\n') {
            whole = at + last as u64 + 1;
        }
        let read = buffer.len();
        at += read as u64;
        reader.consume(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::scratch;

    #[test]
    fn what_was_not_delivered_is_there_after_a_restart_and_what_was_is_not() {
        let folder = scratch("spool-restart");
        let mut spool = Spool::open(&folder, 1000).unwrap();
        assert_eq!(spool.waiting(10).unwrap().0, Vec::<String>::new());
        for line in ["one", "two", "three"] {
            assert!(spool.append(line).unwrap());
        }
        let (lines, end) = spool.waiting(2).unwrap();
        assert_eq!(lines, ["one", "two"]);
        spool.delivered(end).unwrap();
        drop(spool);
        // Killed within a line.
        OpenOptions::new().append(true).open(folder.join(FILE)).unwrap().write_all(b"fo").unwrap();
        let mut spool = Spool::open(&folder, 1000).unwrap();
        assert!(spool.append("five").unwrap());
        let (lines, end) = spool.waiting(10).unwrap();
        assert_eq!(lines, ["three", "five"]);
        spool.delivered(end).unwrap();
        assert_eq!(fs::metadata(folder.join(FILE)).unwrap().len(), 0, "nothing waits");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn promise_50_where_more_is_told_while_some_is_delivered_nothing_is_refused() {
        let folder = scratch("spool-steady");
        let mut spool = Spool::open(&folder, 1000).unwrap();
        let mut delivered = Vec::new();
        for n in 0..1000 {
            assert!(spool.append(&format!("event {n}")).unwrap(), "{n}: there is room for fifty");
            if n == 0 {
                continue;
            }
            // One more is told before the other side has taken those.
            let (lines, end) = spool.waiting(1).unwrap();
            if n % 7 == 0 {
                assert!(spool.append(&format!("event {n} and a half")).unwrap());
            }
            delivered.extend(lines);
            spool.delivered(end).unwrap();
            if n % 7 == 0 {
                let (lines, end) = spool.waiting(1).unwrap();
                delivered.extend(lines);
                spool.delivered(end).unwrap();
            }
            assert!(fs::metadata(folder.join(FILE)).unwrap().len() <= 1000);
        }
        delivered.extend(Spool::open(&folder, 1000).unwrap().waiting(10).unwrap().0);
        let half = |n: &u32| *n > 0 && n.is_multiple_of(7);
        let told = |n: u32| {
            [Some(format!("event {n}")), Some(n).filter(half).map(|n| format!("event {n} and a half"))]
        };
        let told: Vec<_> = (0..1000).flat_map(told).flatten().collect();
        assert_eq!(delivered, told);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn it_has_a_bound_and_an_offset_that_cannot_be_is_none() {
        let folder = scratch("spool-bound");
        let mut spool = Spool::open(&folder, 10).unwrap();
        assert!(spool.append("123456789").unwrap());
        assert!(!spool.append("1").unwrap());
        fs::write(folder.join(OFFSET), "99").unwrap();
        let spool = Spool::open(&folder, 10).unwrap();
        assert_eq!(spool.waiting(1).unwrap().0, ["123456789"], "rather twice than not at all");
        fs::remove_dir_all(folder).unwrap();
    }
}
