//! Devices, bindings and services on disk: one SQLite file that survives `kill -9` and a power failure.
//!
//! Write-ahead logging lets `crosspoint device` write while the gateway runs. `synchronous=FULL`
//! makes every commit reach the disk, so that what was acknowledged is there after a power failure
//! too; the group commit above pays for it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crosspoint_proto::Transport;
use crosspoint_proto::sip::{Flow, NameAddr, Uri};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::bindings::Binding;
use super::device::{Device, Origin};
use super::schema::{self, SCHEMA};
use crate::alias::Alias;
use crate::config::Redacted;

/// The store's file within the data folder.
pub const FILE: &str = "crosspoint.db";

/// Held by the gateway that runs on a data folder.
const LOCK: &str = "crosspoint.lock";

/// Why the store cannot be used. Each says which file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data folder cannot be made or written.
    #[error("the data folder {folder} cannot be used: {reason}; make it writable, or choose another with data = \"...\" or --data", folder = folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another gateway runs on it.
    #[error("the data folder {folder} is in use by another gateway: stop that one, or choose another folder with --data", folder = folder.display())]
    Locked {
        /// Which.
        folder: PathBuf,
    },
    /// The file is damaged.
    #[error("{file} is damaged ({reason}): put a backup in its place, or move it away and add the devices again", file = file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error("{file} was written by a newer version of Crosspoint (format {found}, this one knows {SCHEMA}): install that version, or use another data folder", file = file.display())]
    Newer {
        /// Which.
        file: PathBuf,
        /// Its format.
        found: i64,
    },
    /// Passwords are bound to a realm.
    #[error(
        "{count} devices were added under the realm \"{stored}\" but sip.realm is \"{configured}\": set sip.realm = \"{stored}\", or remove and add them again"
    )]
    OtherRealm {
        /// How many.
        count: usize,
        /// One of theirs.
        stored: String,
        /// Ours.
        configured: String,
    },
    /// There is a device of that name.
    #[error("there is a device {0} already: remove it first, with crosspoint device remove {0}")]
    Exists(Alias),
    /// A service is called by that alias.
    #[error(
        "{alias} is an alias of the conference \"{service}\": choose another, or take it away from that one with crosspoint conference set"
    )]
    OfService {
        /// Which.
        alias: Alias,
        /// Its service.
        service: String,
    },
    /// The disk is full, or failed.
    #[error("{file} cannot be read or written: {reason}", file = file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The opened file.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    database: Connection,
    /// Held by a gateway for as long as it runs.
    _lock: Option<File>,
}

impl Store {
    /// Opens it for the gateway itself: no other gateway may use the folder meanwhile.
    pub fn open_exclusive(folder: &Path) -> Result<Self, StoreError> {
        make_folder(folder)?;
        let path = folder.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(|error| folder_error(folder, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: Some(lock), ..Self::open(folder)? }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { folder: folder.into() }),
            Err(TryLockError::Error(error)) => Err(folder_error(folder, &error)),
        }
    }

    /// Opens it like [`Store::open`] if it is there, and makes nothing.
    pub fn open_existing(folder: &Path) -> Result<Option<Self>, StoreError> {
        match folder.join(FILE).try_exists() {
            Ok(true) => Self::open(folder).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(folder_error(folder, &error)),
        }
    }

    /// Opens it beside a gateway that may run, for the command line.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        make_folder(folder)?;
        let file = folder.join(FILE);
        // SQLite would make it readable by everybody.
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&file)
            .map_err(|error| folder_error(folder, &error))?;
        let fault = |error| fault(&file, error);
        let mut database = Connection::open(&file).map_err(fault)?;
        schema::prepare(&mut database, &file)?;
        Ok(Self { file, database, _lock: None })
    }

    /// All devices of the store.
    pub fn devices(&self) -> Result<Vec<Device>, StoreError> {
        let read = || {
            let sql = "SELECT alias, username, realm, sha256, md5, sha512_256 FROM devices ORDER BY alias";
            let mut statement = self.database.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Device {
                    alias: alias(&row.get::<_, String>(0)?),
                    username: row.get(1)?,
                    realm: row.get(2)?,
                    sha256: Redacted::new(row.get::<_, String>(3)?),
                    md5: Redacted::new(row.get::<_, String>(4)?),
                    sha512_256: row.get::<_, Option<String>>(5)?.map(Redacted::new),
                    origin: Origin::Store,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|error| fault(&self.file, error))
    }

    /// Adds a device; it is there when this returns, also for a gateway that runs.
    pub fn add_device(&mut self, device: &Device, now: SystemTime) -> Result<(), StoreError> {
        let add = |database: &mut Connection| {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let sql = "SELECT service FROM service_aliases WHERE alias = ?";
            let service = transaction.query_row(sql, [device.alias.as_str()], |row| row.get(0)).optional()?;
            if let Some(service) = service {
                return Ok(Err(StoreError::OfService { alias: device.alias.clone(), service }));
            }
            let added = transaction.execute(
                "INSERT INTO devices (alias, username, realm, sha256, md5, added, sha512_256) VALUES (?, ?, ?, ?, ?, ?, ?) \
                 ON CONFLICT DO NOTHING",
                params![
                    device.alias.as_str(),
                    device.username,
                    device.realm,
                    device.sha256.expose(),
                    device.md5.expose(),
                    millis(now),
                    device.sha512_256.as_ref().map(Redacted::expose)
                ],
            )?;
            transaction.commit()?;
            Ok(if added == 0 { Err(StoreError::Exists(device.alias.clone())) } else { Ok(()) })
        };
        add(&mut self.database).unwrap_or_else(|error| Err(fault(&self.file, error)))
    }

    /// Gives a device another user name and password; it keeps its registrations.
    pub fn change_device(&mut self, device: &Device) -> Result<bool, StoreError> {
        let sql =
            "UPDATE devices SET username = ?, realm = ?, sha256 = ?, md5 = ?, sha512_256 = ? WHERE alias = ?";
        let (sha256, md5) = (device.sha256.expose(), device.md5.expose());
        let sha512 = device.sha512_256.as_ref().map(Redacted::expose);
        let changed = self
            .database
            .execute(sql, params![device.username, device.realm, sha256, md5, sha512, device.alias.as_str()]);
        changed.map(|count| count > 0).map_err(|error| fault(&self.file, error))
    }

    /// Removes a device and its bindings; `false` when there was none.
    pub fn remove_device(&mut self, alias: &Alias) -> Result<bool, StoreError> {
        let remove = |database: &mut Connection| {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let removed = transaction.execute("DELETE FROM devices WHERE alias = ?", [alias.as_str()])?;
            transaction.execute("DELETE FROM bindings WHERE alias = ?", [alias.as_str()])?;
            transaction.commit()?;
            Ok(removed > 0)
        };
        remove(&mut self.database).map_err(|error| fault(&self.file, error))
    }

    /// All bindings with the time that is left of each, read at `now`. A flow over a connection
    /// died with the process that had it. What cannot be read any more is left out and logged.
    pub fn bindings(&self, now: SystemTime) -> Result<Vec<(Alias, Binding, Duration)>, StoreError> {
        let read = || {
            let sql = "SELECT alias, uri, call_id, cseq, expires, q, instance, reg_id, flow, translated, user_agent, path \
                       FROM bindings";
            let mut statement = self.database.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut bindings = Vec::new();
            while let Some(row) = rows.next()? {
                let text: String = row.get(1)?;
                let Ok(uri) = Uri::parse(&text) else {
                    tracing::error!(contact = %text, "a stored contact is not a URI and is left out");
                    continue;
                };
                let left = u64::try_from(row.get::<_, i64>(4)?.saturating_sub(millis(now))).unwrap_or(0);
                let path: Option<String> = row.get(11)?;
                let Ok(path) = path.as_deref().map_or(Ok(Vec::new()), NameAddr::parse_list) else {
                    tracing::error!(contact = %text, "the stored path of a contact cannot be read: it is left out");
                    continue;
                };
                let flow = row.get::<_, Option<String>>(8)?.and_then(|text| text.parse::<Flow>().ok());
                let binding = Binding {
                    uri,
                    call_id: row.get(2)?,
                    cseq: row.get(3)?,
                    expires: crosspoint_proto::Instant::ZERO,
                    q: row.get(5)?,
                    instance: row.get(6)?,
                    reg_id: row.get(7)?,
                    flow: flow.filter(|flow| flow.transport() == Transport::Udp),
                    translated: row.get(9)?,
                    path,
                    user_agent: row.get(10)?,
                };
                bindings.push((alias(&row.get::<_, String>(0)?), binding, Duration::from_millis(left)));
            }
            Ok(bindings)
        };
        read().map_err(|error| fault(&self.file, error))
    }

    /// Replaces the bindings of each alias, all or nothing. They are on disk when this returns.
    pub fn replace<'a>(
        &mut self,
        changed: impl Iterator<Item = (&'a Alias, &'a [Binding])>,
        now: crosspoint_proto::Now,
    ) -> Result<(), StoreError> {
        self.replace_and(changed, now, |_| Ok(()))
    }

    /// The same, with what `others` write in the same transaction.
    pub(super) fn replace_and<'a>(
        &mut self,
        changed: impl Iterator<Item = (&'a Alias, &'a [Binding])>,
        now: crosspoint_proto::Now,
        others: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let write = |database: &mut Connection| {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (alias, bindings) in changed {
                replace_one(&transaction, alias, bindings, now)?;
            }
            others(&transaction)?;
            transaction.commit()
        };
        write(&mut self.database).map_err(|error| fault(&self.file, error))
    }

    /// What decides of names that nobody has: 32 random octets, as old as the store.
    pub(super) fn decoys(&self) -> Result<Vec<u8>, StoreError> {
        let sql = "SELECT value FROM secrets WHERE name = 'decoys'";
        self.database.query_row(sql, [], |row| row.get(0)).map_err(|error| fault(&self.file, error))
    }

    /// The connection, for what others keep in the same file.
    pub(crate) const fn database(&self) -> &Connection {
        &self.database
    }

    /// What a fault of SQLite's means to whoever runs the gateway.
    pub(crate) fn fault(&self, error: rusqlite::Error) -> StoreError {
        fault(&self.file, error)
    }

    /// The revision of one part: "services", "devices", "rules", "settings" or "tokens". It grows with
    /// each change of that part, whoever writes.
    pub fn revision(&self, of: &str) -> Result<i64, StoreError> {
        let sql = "SELECT number FROM revisions WHERE what = ?";
        let read = || self.database.prepare_cached(sql)?.query_row([of], |row| row.get(0));
        read().map_err(|error| fault(&self.file, error))
    }

    /// Changes when another process has written.
    pub fn version(&self) -> Result<i64, StoreError> {
        self.database
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(|error| fault(&self.file, error))
    }
}

fn replace_one(
    transaction: &Transaction<'_>,
    alias: &Alias,
    bindings: &[Binding],
    now: crosspoint_proto::Now,
) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM bindings WHERE alias = ?")?.execute([alias.as_str()])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO bindings (alias, uri, call_id, cseq, expires, q, instance, reg_id, flow, translated, user_agent, path) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for binding in bindings {
        let path: Vec<String> = binding.path.iter().map(ToString::to_string).collect();
        insert.execute(params![
            alias.as_str(),
            binding.uri.to_string(),
            binding.call_id,
            binding.cseq,
            millis(now.wall + binding.remaining(now.mono)),
            binding.q,
            binding.instance,
            binding.reg_id,
            binding.flow.map(|flow| flow.to_string()),
            binding.translated,
            binding.user_agent,
            (!path.is_empty()).then(|| path.join(", ")),
        ])?;
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| folder_error(folder, &error))
}

pub(super) fn fault(file: &Path, error: rusqlite::Error) -> StoreError {
    let file = file.to_path_buf();
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged { file, reason },
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            StoreError::Folder { folder: file.parent().map(Path::to_path_buf).unwrap_or_default(), reason }
        }
        _ => StoreError::Io { file, reason },
    }
}

fn folder_error(folder: &Path, error: &io::Error) -> StoreError {
    StoreError::Folder { folder: folder.into(), reason: error.to_string() }
}

/// What was stored is canonical already: no domain must be taken off it again.
fn alias(stored: &str) -> Alias {
    Alias::from_canonical(stored)
}

/// A moment of the gateway's clock as it is stored: in milliseconds of the wall.
pub(crate) fn in_millis(now: crosspoint_proto::Now, at: crosspoint_proto::Instant) -> i64 {
    let before = now.wall.checked_sub(now.mono.saturating_since(at)).unwrap_or(SystemTime::UNIX_EPOCH);
    millis(before + at.saturating_since(now.mono))
}

/// What [`in_millis`] has stored, on the clock of another run. A wall clock that was set in between
/// makes it too early or too late: whoever reads it has a bound of his own.
pub(crate) fn from_millis(now: crosspoint_proto::Now, stored: i64) -> crosspoint_proto::Instant {
    let ahead = stored.saturating_sub(millis(now.wall));
    let apart = Duration::from_millis(ahead.unsigned_abs());
    if ahead < 0 { now.mono - apart } else { now.mono + apart }
}

pub(crate) fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
