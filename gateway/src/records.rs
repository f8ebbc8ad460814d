//! Call records: one line of JSON for each call, in the data folder, and the same as a log event.
//!
//! A thread of its own writes, so that a slow disk delays no call. The file is turned over at
//! [`TURN`] bytes and [`KEPT`] of them are kept: at about 1 kB a call that is half a million calls.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::Serialize;

use crate::ladder::drives;

mod history;

pub use history::{History, Mark, NoMark, Page};

/// The file's name in the data folder; older ones are `calls.1.jsonl` and so on.
pub const FILE: &str = "calls.jsonl";

/// A file that is larger is turned over before the next line.
pub const TURN: u64 = 64 << 20;

/// Files that are kept beside the current one.
pub const KEPT: u32 = 8;

/// Records that wait for the disk. Overflow: the newest is left out of the file and counted; its
/// log event is there.
const QUEUE: usize = 1024;

/// Longest text that came from a peer (reliability: no field of a log is longer).
const TEXT: usize = 256;

/// One call that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallRecord {
    /// Its number, as in logs and status.
    pub call: u64,
    /// When it came in (RFC 3339, UTC), see [`crate::status::rfc3339`].
    pub started: String,
    /// When it was answered; absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// When it was over.
    pub ended: String,
    /// From the answer to the end.
    pub talk_seconds: f64,
    /// Who called: the authenticated device, else what he said.
    pub caller: String,
    /// Whether he was a device that authenticated.
    pub authenticated: bool,
    /// What was called.
    pub called: String,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The rule that let it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Where the called side sent it, in the order in which that was tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirections: Vec<RedirectionRecord>,
    /// Who sent the other party on, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<TransferRecord>,
    /// Why it ended: [`crate::cause::Reason::word`].
    pub reason: String,
    /// Who ended it: "local", "remote", "peer leg", seen from the caller's leg.
    pub side: String,
    /// Its legs.
    pub legs: Vec<LegRecord>,
}

/// A place that the called side named instead of itself (3xx).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RedirectionRecord {
    /// What it named.
    pub to: String,
    /// The rule that let the call go there; absent where it did not, and for a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// "called", or why not.
    pub outcome: String,
}

/// A party that wanted the other one to talk to somebody else.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TransferRecord {
    /// Who wanted it.
    pub by: String,
    /// To whom.
    pub to: String,
    /// Who is said to have wanted it (RFC 3892), which nobody has checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referred_by: Option<String>,
    /// The rule that let the new call out, when one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// "answered", or why it came to nothing: [`crate::cause::Reason::word`].
    pub outcome: String,
}

/// One leg of a call that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LegRecord {
    /// Its number.
    pub leg: u64,
    /// "sip".
    pub protocol: String,
    /// "udp", "tcp", "tls".
    pub transport: String,
    /// Alias or address of its party.
    pub address: String,
    /// Where its signalling came from.
    pub signalling: String,
    /// The trunk that it came from or went to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trunk: Option<String>,
    /// Its streams at the end.
    pub streams: Vec<StreamRecord>,
}

/// One stream of a leg that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamRecord {
    /// "audio", "main", "content".
    pub role: String,
    /// Codec received.
    pub receive: String,
    /// Codec sent.
    pub send: String,
    /// The routes that fed it, in order.
    pub routes: Vec<String>,
    /// It was encrypted.
    pub encrypted: bool,
    /// Packets received.
    pub packets_received: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Interarrival jitter at the end.
    pub jitter_ms: f64,
}

impl CallRecord {
    /// Control characters become spaces and long texts are cut: what peers send must not be able
    /// to forge or flood the log.
    fn clean(mut self) -> Self {
        for text in [Some(&mut self.caller), Some(&mut self.called), self.answered_by.as_mut()] {
            text.into_iter().for_each(|text| *text = clean(text));
        }
        for leg in &mut self.legs {
            leg.address = clean(&leg.address);
        }
        for redirection in &mut self.redirections {
            redirection.to = clean(&redirection.to);
        }
        for transfer in &mut self.transfers {
            (transfer.by, transfer.to) = (clean(&transfer.by), clean(&transfer.to));
            transfer.referred_by = transfer.referred_by.as_deref().map(clean);
        }
        self
    }
}

/// Text of a peer for logs and records: printable and at most 256 bytes.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(TEXT));
    for c in text.chars() {
        if out.len() + c.len_utf8() > TEXT {
            break;
        }
        out.push(if drives(c) { ' ' } else { c });
    }
    out
}

/// Why records cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("call records cannot be written to {path}: {error}; make it writable or choose another data folder", path = path.display())]
#[non_exhaustive]
pub struct RecordsError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// Where records go. What waits is written before it is dropped.
#[derive(Debug)]
pub struct CallLog {
    queue: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    lost: Arc<AtomicU64>,
    failing: Arc<AtomicBool>,
}

impl CallLog {
    /// Opens the file in `folder`, which must exist.
    pub fn open(folder: &Path) -> Result<Self, RecordsError> {
        Self::open_with(folder, TURN)
    }

    fn open_with(folder: &Path, turn: u64) -> Result<Self, RecordsError> {
        let path = folder.join(FILE);
        let error = |error| RecordsError { path: path.clone(), error };
        let file = Records::open(&path, turn).map_err(error)?;
        let (queue, waiting) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let failing = Arc::new(AtomicBool::new(false));
        let (counter, flag) = (Arc::clone(&lost), Arc::clone(&failing));
        let thread = std::thread::Builder::new()
            .name("records".into())
            .spawn(move || file.run(&waiting, &counter, &flag))
            .map_err(error)?;
        Ok(Self { queue: Some(queue), thread: Some(thread), lost, failing })
    }

    /// Writes one call, as a line of the file and as a log event. Never waits.
    pub fn write(&self, record: CallRecord) {
        let record = record.clean();
        tracing::info!(
            call = record.call,
            caller = %record.caller,
            called = %record.called,
            answered_by = record.answered_by.as_deref().unwrap_or_default(),
            talk_seconds = record.talk_seconds,
            reason = %record.reason,
            side = %record.side,
            "call ended"
        );
        let Ok(mut line) = serde_json::to_vec(&record) else { return };
        line.push(b'\n');
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(line).is_err()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that are not in the file: the queue was full, or the disk failed.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the last record could not be written.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Records {
    path: PathBuf,
    file: File,
    length: u64,
    turn: u64,
}

impl Records {
    fn open(path: &Path, turn: u64) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).read(true).mode(0o600).open(path)?;
        let mut length = file.metadata()?.len();
        if length > 0 && !ends_with_newline(&file, length)? {
            // Half a line of a former life must not spoil the first of this one.
            file.write_all(b"\n")?;
            length += 1;
        }
        Ok(Self { path: path.into(), file, length, turn })
    }

    fn run(mut self, waiting: &Receiver<Vec<u8>>, lost: &AtomicU64, failing: &AtomicBool) {
        while let Ok(line) = waiting.recv() {
            match self.append(&line) {
                Ok(()) => failing.store(false, Ordering::Relaxed),
                Err(error) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                    if !failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(path = %self.path.display(), %error, "call records cannot be written");
                    }
                }
            }
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + line.len() as u64 > self.turn {
            self.turn_over()?;
        }
        if let Err(error) = self.file.write_all(line) {
            // A disk that filled within the line: take the half back.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let older = |number: u32| self.path.with_extension(format!("{number}.jsonl"));
        for number in (1..KEPT).rev() {
            if older(number).exists() {
                fs::rename(older(number), older(number + 1))?;
            }
        }
        fs::rename(&self.path, older(1))?;
        *self = Self::open(&self.path.clone(), self.turn)?;
        Ok(())
    }
}

fn ends_with_newline(file: &File, length: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut last = [0];
    file.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::scratch;

    fn record(call: u64, called: &str) -> CallRecord {
        CallRecord { call, called: called.into(), reason: "hangup".into(), ..CallRecord::default() }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_call_is_one_line_whatever_peers_send() {
        let folder = scratch("records-lines");
        let log = CallLog::open(&folder).unwrap();
        log.write(record(1, "bob\r\n{\"forged\":1}\u{1b}[31m"));
        log.write(record(2, &"x".repeat(100_000)));
        drop(log);
        let lines = lines(&folder.join(FILE));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["called"], "bob  {\"forged\":1} [31m");
        assert_eq!(lines[1]["called"].as_str().unwrap().len(), TEXT);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn records_go_on_after_a_restart_and_after_half_a_line() {
        let folder = scratch("records-restart");
        let log = CallLog::open(&folder).unwrap();
        log.write(record(1, "a"));
        drop(log);
        File::options()
            .append(true)
            .open(folder.join(FILE))
            .unwrap()
            .write_all(b"{\"call\":2,\"sta")
            .unwrap();
        let log = CallLog::open(&folder).unwrap();
        log.write(record(3, "c"));
        drop(log);
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        let calls: Vec<_> = text.lines().filter(|line| line.ends_with('}')).collect();
        assert_eq!(calls.len(), 2);
        assert!(calls[1].starts_with("{\"call\":3,"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_file_is_turned_over_and_only_some_are_kept() {
        let folder = scratch("records-turn");
        let log = CallLog::open_with(&folder, 1000).unwrap();
        for call in 0..100 {
            log.write(record(call, "bob"));
        }
        drop(log);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 1 + KEPT as usize, "{files:?}");
        assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 1000));
        assert_eq!(lines(&folder.join(FILE)).last().unwrap()["call"], 99);
        let before = lines(&folder.join("calls.1.jsonl"));
        let first = lines(&folder.join(FILE))[0]["call"].as_u64().unwrap();
        assert_eq!(before.last().unwrap()["call"], first - 1, "nothing lies between the files");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let told = CallLog::open(Path::new("/nonexistent/folder")).unwrap_err().to_string();
        assert!(told.contains("/nonexistent/folder/calls.jsonl") && told.contains("data folder"), "{told}");
    }
}
