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
pub(super) const SCHEMA: i64 = 8;

/// How long one process waits for the other's write.
const BUSY: Duration = Duration::from_secs(5);

/// What each form adds to the one before it.
const STEPS: [&str; 8] = [
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
    // Rules and settings that are set while the gateway runs, and tokens of the management API. Whoever
    // writes, a revision tells which part has changed, so that only that is read anew.
    "CREATE TABLE rules (
         name TEXT PRIMARY KEY, priority INTEGER NOT NULL UNIQUE, document TEXT NOT NULL,
         added INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
     CREATE TABLE tokens (name TEXT PRIMARY KEY, hash BLOB NOT NULL, added INTEGER NOT NULL) WITHOUT ROWID;
     CREATE TABLE revisions (what TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
     INSERT INTO revisions VALUES
         ('services', 1), ('devices', 1), ('rules', 1), ('settings', 1), ('tokens', 1);
     CREATE TRIGGER services_insert AFTER INSERT ON services BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;
     CREATE TRIGGER services_update AFTER UPDATE ON services BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;
     CREATE TRIGGER services_delete AFTER DELETE ON services BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;
     CREATE TRIGGER service_aliases_insert AFTER INSERT ON service_aliases BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;
     CREATE TRIGGER service_aliases_update AFTER UPDATE ON service_aliases BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;
     CREATE TRIGGER service_aliases_delete AFTER DELETE ON service_aliases BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;
     CREATE TRIGGER devices_insert AFTER INSERT ON devices BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'devices'; END;
     CREATE TRIGGER devices_update AFTER UPDATE ON devices BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'devices'; END;
     CREATE TRIGGER devices_delete AFTER DELETE ON devices BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'devices'; END;
     CREATE TRIGGER rules_insert AFTER INSERT ON rules BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'rules'; END;
     CREATE TRIGGER rules_update AFTER UPDATE ON rules BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'rules'; END;
     CREATE TRIGGER rules_delete AFTER DELETE ON rules BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'rules'; END;
     CREATE TRIGGER settings_insert AFTER INSERT ON settings BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'settings'; END;
     CREATE TRIGGER settings_update AFTER UPDATE ON settings BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'settings'; END;
     CREATE TRIGGER settings_delete AFTER DELETE ON settings BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'settings'; END;
     CREATE TRIGGER tokens_insert AFTER INSERT ON tokens BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'tokens'; END;
     CREATE TRIGGER tokens_update AFTER UPDATE ON tokens BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'tokens'; END;
     CREATE TRIGGER tokens_delete AFTER DELETE ON tokens BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'tokens'; END;",
    // Whom a conference calls when it begins.
    "CREATE TABLE service_dials (
         service TEXT NOT NULL, place INTEGER NOT NULL, destination TEXT NOT NULL, way TEXT NOT NULL,
         role TEXT NOT NULL, keeps TEXT NOT NULL, keys TEXT NOT NULL, PRIMARY KEY (service, place)
     ) WITHOUT ROWID;
     CREATE TRIGGER service_dials_insert AFTER INSERT ON service_dials BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;
     CREATE TRIGGER service_dials_update AFTER UPDATE ON service_dials BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;
     CREATE TRIGGER service_dials_delete AFTER DELETE ON service_dials BEGIN
         UPDATE revisions SET number = number + 1 WHERE what = 'services'; END;",
    // What is left of a gateway that was killed: who guessed, and who was in which conference. Times are
    // milliseconds of the wall.
    "CREATE TABLE guard_sources (
         source TEXT PRIMARY KEY, clear INTEGER NOT NULL, until INTEGER NOT NULL, beyond INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE guard_rooms (room TEXT PRIMARY KEY, clear INTEGER NOT NULL) WITHOUT ROWID;
     CREATE TABLE guard_verified (
         room TEXT NOT NULL, who TEXT NOT NULL, seen INTEGER NOT NULL, PRIMARY KEY (room, who)
     ) WITHOUT ROWID;
     CREATE TABLE conferences (
         id TEXT PRIMARY KEY, service TEXT NOT NULL, locked INTEGER NOT NULL,
         guests_muted INTEGER NOT NULL, guests_can_unmute INTEGER NOT NULL, opened INTEGER NOT NULL,
         hosted INTEGER NOT NULL, seen INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE parties (
         uuid TEXT PRIMARY KEY, conference TEXT NOT NULL, name TEXT NOT NULL, host INTEGER NOT NULL,
         waiting INTEGER NOT NULL, muted INTEGER NOT NULL, muted_by_host INTEGER NOT NULL,
         hand INTEGER, spotlight INTEGER, since INTEGER NOT NULL, place INTEGER NOT NULL,
         slides INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE client_tokens (
         hash BLOB PRIMARY KEY, party TEXT NOT NULL, until INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE INDEX tokens_of_a_party ON client_tokens (party);",
    // Proxies on the way to a contact, as one header value.
    "ALTER TABLE bindings ADD COLUMN path TEXT;",
    // A device may call itself the same on several flows (RFC 5626 section 9.2): what makes two bindings the
    // same is no matter of columns.
    "ALTER TABLE bindings RENAME TO bindings_by_uri;
     CREATE TABLE bindings (
         alias TEXT NOT NULL, uri TEXT NOT NULL, call_id TEXT NOT NULL,
         cseq INTEGER NOT NULL, expires INTEGER NOT NULL, q INTEGER NOT NULL,
         instance TEXT, reg_id INTEGER, flow TEXT, translated INTEGER NOT NULL,
         user_agent TEXT NOT NULL, path TEXT
     );
     INSERT INTO bindings SELECT alias, uri, call_id, cseq, expires, q, instance, reg_id, flow, translated,
         user_agent, path FROM bindings_by_uri;
     DROP TABLE bindings_by_uri;
     CREATE INDEX bindings_of_an_alias ON bindings (alias);",
    // A third hash of passwords (RFC 8760). Of those that are there it cannot be made: their devices go on
    // with two until the password is set again. And what decides which names that nobody has look like those.
    "ALTER TABLE devices ADD COLUMN sha512_256 TEXT;
     CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
     INSERT INTO secrets VALUES ('decoys', randomblob(32));",
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
