//! Reading call records back, newest first, while others are written.

use std::fmt;
use std::fs::{File, read_dir};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use super::{FILE, KEPT};

/// Read at a time, from the end on. A line that is longer is no record and is passed over.
const WINDOW: u64 = 256 << 10;

/// Where a page ended: the record before it is at this place of that file. It stays good when files
/// are turned over, for a file keeps its number under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    file: u64,
    end: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.file, self.end)
    }
}

/// A text that is no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the next of a page: send that, or leave it out for the newest")]
pub struct NoMark;

impl FromStr for Mark {
    type Err = NoMark;

    fn from_str(text: &str) -> Result<Self, NoMark> {
        let (file, end) = text.split_once('-').ok_or(NoMark)?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(NoMark)
        };
        Ok(Self { file: number(file)?, end: number(end)? })
    }
}

/// Some records, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// As they were written.
    pub records: Vec<Value>,
    /// Where the next page begins; `None`: there are no older ones.
    pub next: Option<Mark>,
}

/// The records of a data folder.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
}

impl History {
    /// Those in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// At most `limit` records before `mark`, or the newest. `None`: the file of the mark is gone. Blocks
    /// for as long as reading takes.
    pub fn before(&self, mark: Option<Mark>, limit: usize) -> io::Result<Option<Page>> {
        let mut files = self.files()?;
        if let Some(mark) = mark {
            let Some(at) = files.iter().position(|(_, number, _)| *number == mark.file) else {
                return Ok(None);
            };
            files.drain(..at);
            if let Some((_, _, length)) = files.first_mut() {
                *length = mark.end.min(*length);
            }
        }
        let mut page = Page::default();
        for (file, number, length) in files {
            let mut end = length;
            while end > 0 {
                if page.records.len() >= limit {
                    page.next = Some(Mark { file: number, end });
                    return Ok(Some(page));
                }
                end = back(&file, end, limit, &mut page.records)?;
            }
        }
        Ok(Some(page))
    }

    /// Open files with their numbers and lengths, the current one first.
    fn files(&self) -> io::Result<Vec<(File, u64, u64)>> {
        let current = self.folder.join(FILE);
        let older = (1..=KEPT).map(|number| current.with_extension(format!("{number}.jsonl")));
        let mut files: Vec<(File, u64, u64)> = Vec::new();
        // A folder that cannot be read is told of; a file that is not there is not.
        read_dir(&self.folder)?;
        for path in std::iter::once(current.clone()).chain(older) {
            let Ok(file) = File::open(path) else { continue };
            let metadata = file.metadata()?;
            // Turned over between two looks, it may come twice.
            if files.iter().all(|(_, number, _)| *number != metadata.ino()) {
                files.push((file, metadata.ino(), metadata.len()));
            }
        }
        Ok(files)
    }
}

/// Takes records off the end of a file that ends at `end`, until `limit` are there; where the rest ends.
fn back(file: &File, end: u64, limit: usize, records: &mut Vec<Value>) -> io::Result<u64> {
    let start = end.saturating_sub(WINDOW);
    let mut window = vec![0; usize::try_from(end - start).unwrap_or_default()];
    file.read_exact_at(&mut window, start)?;
    let mut rest = window.as_slice();
    while records.len() < limit {
        let line_end = rest.strip_suffix(b"\n").map_or(rest.len(), <[u8]>::len);
        let body = rest.get(..line_end).unwrap_or_default();
        let Some(at) = body
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1)
            .or_else(|| (start == 0).then_some(0))
        else {
            // Its beginning lies before the window, unless it is longer than one.
            let longer = rest.len() == window.len();
            return Ok(if longer { start } else { start + rest.len() as u64 });
        };
        // Half a line of a former life is no record.
        records.extend(body.get(at..).and_then(|line| serde_json::from_slice(line).ok()));
        rest = rest.get(..at).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
    }
    Ok(start + rest.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::scratch;

    /// Everything, page by page.
    fn all(folder: &Path, limit: usize) -> Vec<u64> {
        let history = History::new(folder);
        let (mut calls, mut mark) = (Vec::new(), None);
        loop {
            let page = history.before(mark, limit).unwrap().unwrap();
            assert!(page.records.len() <= limit);
            calls.extend(page.records.iter().map(|it| it["call"].as_u64().unwrap()));
            mark = page.next;
            if mark.is_none() {
                return calls;
            }
        }
    }

    fn line(call: u64, padding: usize) -> String {
        format!("{{\"call\":{call},\"called\":\"{}\"}}\n", "x".repeat(padding))
    }

    #[test]
    fn records_come_newest_first_over_all_files_whatever_the_page() {
        let folder = scratch("history-pages");
        assert!(all(&folder, 5).is_empty(), "no file yet");
        let of = |calls: std::ops::Range<u64>| calls.map(|it| line(it, 7_000)).collect::<String>();
        fs::write(folder.join("calls.2.jsonl"), of(0..90)).unwrap();
        fs::write(folder.join("calls.1.jsonl"), of(90..130)).unwrap();
        // Half a line, and one that is far too long, harm nothing.
        let odd = format!("{{\"call\":5,\"sta\n{}\n", "y".repeat(600_000));
        fs::write(folder.join(FILE), format!("{}{odd}{}", of(130..131), of(131..200))).unwrap();
        let expected: Vec<u64> = (0..200).rev().collect();
        for limit in [1, 7, 64, 200, 1_000] {
            assert_eq!(all(&folder, limit), expected, "{limit}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_mark_outlives_a_turn_of_the_files_but_not_its_file() {
        let folder = scratch("history-marks");
        let write = |name: &str, calls: std::ops::Range<u64>| {
            fs::write(folder.join(name), calls.map(|it| line(it, 10)).collect::<String>()).unwrap();
        };
        write(FILE, 0..10);
        let history = History::new(&folder);
        let page = history.before(None, 4).unwrap().unwrap();
        fs::rename(folder.join(FILE), folder.join("calls.1.jsonl")).unwrap();
        write(FILE, 10..20);
        let mark: Mark = page.next.unwrap().to_string().parse().unwrap();
        let page = history.before(Some(mark), 4).unwrap().unwrap();
        let calls: Vec<_> = page.records.iter().map(|it| it["call"].as_u64().unwrap()).collect();
        assert_eq!(calls, [5, 4, 3, 2]);
        fs::remove_file(folder.join("calls.1.jsonl")).unwrap();
        assert_eq!(history.before(page.next, 4).unwrap(), None);
        for wrong in ["", "-", "1", "1-", "-1", "+1-2", "a-b", "99999999999999999999999-1"] {
            assert!(wrong.parse::<Mark>().is_err(), "{wrong}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
