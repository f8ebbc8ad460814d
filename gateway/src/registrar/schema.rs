//! The tables of the store, and how older forms of them become this one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::store::{StoreError, fault};

/// The form of the tables (`PRAGMA user_version`). A newer one is refused; an older one is copied to a
/// file beside it and then upgraded.
pub(super) const SCHEMA: i64 = 2;

/// How long one process waits for the other's write.
const BUSY: Duration = Duration::from_secs(5);

/// What each form adds to the one before it.
const STEPS: [&str; 2] = [
    "CREATE TABLE devices (
         alias TEXT PRIMARY KEY, username TEXT NOT NULL, realm TEXT NOT NULL,
         sha256 TEXT NOT NULL, md5 TEXT NOT NULL, added INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE bindings (
         alias TEXT NOT NULL, uri TEXT NOT NULL, call_id TEXT NOT NULL,
         cseq INTEGER NOT NULL, expires INTEGER NOT NULL, q INTEGER NOT NULL,
         instance TEXT, reg_id INTEGER, flow TEXT, translated INTEGER NOT NULL,
         user_agent TEXT NOT NULL, PRIMARY KEY (alias, uri)
     ) WITHOUT ROWID;",
    // Times are milliseconds; talkers are NULL where all who talk are mixed.
    "CREATE TABLE services (
         name TEXT PRIMARY KEY, kind TEXT NOT NULL,
         host_pin TEXT, guest_pin TEXT, guests INTEGER NOT NULL,
         parties INTEGER NOT NULL, invited_hosts_pass INTEGER NOT NULL,
         wait INTEGER NOT NULL, guests_alone INTEGER NOT NULL, last_one INTEGER NOT NULL,
         layout TEXT NOT NULL, guest_layout TEXT NOT NULL, talkers INTEGER,
         chat INTEGER NOT NULL, guests_present INTEGER NOT NULL, names INTEGER NOT NULL,
         added INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE service_aliases (
         alias TEXT PRIMARY KEY, service TEXT NOT NULL, place INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE INDEX aliases_of_a_service ON service_aliases (service, place);",
];

pub(super) fn prepare(database: &mut Connection, file: &Path) -> Result<(), StoreError> {
    let fault = |error| fault(file, error);
    database.busy_timeout(BUSY).map_err(fault)?;
    database.pragma_update(None, "journal_mode", "WAL").map_err(fault)?;
    database.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
    let verdict: String =
        database.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(fault)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { file: file.into(), reason: verdict });
    }
    let form = |database: &Connection| {
        let found: i64 =
            database.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fault)?;
        let newer = || StoreError::Newer { file: file.into(), found };
        if found > SCHEMA { Err(newer()) } else { Ok(usize::try_from(found).unwrap_or(0)) }
    };
    let found = form(database)?;
    if (1..STEPS.len()).contains(&found) {
        back_up(database, file, found)?;
    }
    // Immediate: of two processes that start at once one makes the tables and the other sees them.
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    let steps = STEPS.get(form(&transaction)?..).unwrap_or_default();
    if !steps.is_empty() {
        for step in steps {
            transaction.execute_batch(step).map_err(fault)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA).map_err(fault)?;
    }
    transaction.commit().map_err(fault)
}

/// Copies the store as it is to a file beside it that says its form: `crosspoint.db.format-1`. What
/// was copied is on disk when this returns.
fn back_up(database: &Connection, file: &Path, form: usize) -> Result<(), StoreError> {
    let beside = |end: String| -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(end);
        name.into()
    };
    let copy = beside(format!(".format-{form}"));
    // Two processes may upgrade at once: each writes a file of its own, and the last name counts.
    let fresh = beside(format!(".format-{form}.{}", std::process::id()));
    let failed = |error: &io::Error| StoreError::Io {
        file: copy.clone(),
        reason: format!("the store cannot be copied before it is upgraded: {error}"),
    };
    let make = || match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::options().create_new(true).write(true).mode(0o600).open(&fresh),
    };
    let made = make().map_err(|error| failed(&error))?;
    // Into an empty file that only we may read, with what the write-ahead log holds.
    let name = fresh.to_str().ok_or_else(|| failed(&io::ErrorKind::InvalidFilename.into()))?;
    database.execute("VACUUM INTO ?", [name]).map_err(|error| fault(&fresh, error))?;
    made.sync_all().and_then(|()| fs::rename(&fresh, &copy)).map_err(|error| failed(&error))
}
