//! Who may use the management API: bearers of a token. A token is 256 bits; the store has its SHA-256
//! alone, so that who reads the file has no token. A token is shown once, when it is made.
//!
//! The command line of the same machine has a token of its own: the gateway makes one at each start and
//! writes it into the data folder, readable by its owner alone.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Transaction, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::Redacted;
use crate::registrar::{Store, StoreError, Watch, millis};

/// The file of the command line's token within the data folder.
pub const LOCAL_FILE: &str = "admin-token";

/// What the command line's token is called in events.
pub const LOCAL: &str = "local";

/// The token that a gateway makes at its first start.
pub const FIRST: &str = "first";

/// Tokens of one gateway at most: each is compared at each request.
pub const TOKENS: usize = 100;

/// Longest name of a token, in characters.
pub const LONGEST_NAME: usize = 64;

/// Tokens begin so: programs that look for secrets in the wrong places find them.
const PREFIX: &str = "crosspoint_";

type Hash = [u8; 32];

/// Why a token is not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What it is called.
    #[error("name: a token's name has 1 to {LONGEST_NAME} letters, digits, dots, hyphens and underscores")]
    Name,
    /// Another has it.
    #[error("name: there is a token \"{0}\" already: choose another name, or revoke that one first")]
    NameTaken(String),
    /// More than [`TOKENS`].
    #[error("there are {TOKENS} tokens already: revoke one with crosspoint token revoke")]
    TooMany,
}

/// A token as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is called.
    pub name: String,
    /// When it was made.
    pub added: SystemTime,
    hash: Hash,
}

/// The secret that is made of random `bytes`.
pub fn secret(bytes: [u8; 32]) -> Redacted {
    Redacted::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// All tokens, by name.
pub fn all(store: &Store) -> Result<Vec<Entry>, StoreError> {
    let read = || {
        let sql = "SELECT name, hash, added FROM tokens ORDER BY name";
        let mut statement = store.database().prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            let added = u64::try_from(row.get::<_, i64>(2)?).unwrap_or_default();
            let added = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(added);
            Ok(Entry { name: row.get(0)?, hash: row.get(1)?, added })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().map_err(|error| store.fault(error))
}

/// Writes down that `secret` is a token; it is one when this returns, within a second for a gateway that
/// runs.
pub fn add(store: &Store, name: &str, secret: &Redacted, now: SystemTime) -> Result<(), TokenError> {
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(good) || name == LOCAL {
        return Err(TokenError::Name);
    }
    let write = || {
        let transaction = Transaction::new_unchecked(store.database(), TransactionBehavior::Immediate)?;
        let count: i64 = transaction.query_row("SELECT count(*) FROM tokens", [], |row| row.get(0))?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= TOKENS {
            return Ok(Err(TokenError::TooMany));
        }
        let sql = "INSERT INTO tokens (name, hash, added) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        let added = transaction.execute(sql, params![name, hash(secret.expose()), millis(now)])?;
        transaction.commit()?;
        Ok(if added == 0 { Err(TokenError::NameTaken(name.to_owned())) } else { Ok(()) })
    };
    write().unwrap_or_else(|error| Err(store.fault(error).into()))
}

/// Whether a token was ever made: then none is made at a start, for the administrator may have revoked
/// them all.
pub fn were_any(store: &Store) -> Result<bool, StoreError> {
    Ok(store.revision("tokens")? > 1)
}

/// Revokes a token; `false` when there was none.
pub fn remove(store: &Store, name: &str) -> Result<bool, StoreError> {
    let removed = store.database().execute("DELETE FROM tokens WHERE name = ?", [name]);
    removed.map(|count| count > 0).map_err(|error| store.fault(error))
}

/// The tokens of a gateway that runs. Clones are the same.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stored: ArcSwap<Vec<Entry>>,
    local: ArcSwapOption<Hash>,
    seen: AtomicI64,
}

impl Tokens {
    /// The name of the token that `secret` is. Takes as long whichever it is, and if it is none.
    pub fn holder(&self, secret: &str) -> Option<String> {
        let asked = hash(secret);
        let stored = self.0.stored.load();
        let mut found = None;
        for entry in stored.iter() {
            if bool::from(entry.hash.ct_eq(&asked)) {
                found = Some(entry.name.as_str());
            }
        }
        if self.0.local.load().as_ref().is_some_and(|local| bool::from(local.ct_eq(&asked))) {
            found = Some(LOCAL);
        }
        found.map(str::to_owned)
    }

    /// Takes `secret` as the command line's, and writes it into the data folder.
    pub fn set_local(&self, folder: &Path, secret: &Redacted) -> io::Result<LocalFile> {
        let path = folder.join(LOCAL_FILE);
        // Made anew: whatever rights an old one has, nobody keeps it open.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", secret.expose())?;
        self.0.local.store(Some(Arc::new(hash(secret.expose()))));
        Ok(LocalFile(path))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("stored", &self.0.stored.load().len()).finish_non_exhaustive()
    }
}

impl Watch for Tokens {
    /// Reads them anew when they have changed. On an error those of before stay.
    fn look(&self, store: &Store) -> Result<(), StoreError> {
        let revision = store.revision("tokens")?;
        if self.0.seen.load(Ordering::Relaxed) != revision {
            self.0.stored.store(Arc::new(all(store)?));
            self.0.seen.store(revision, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The command line's token, as long as the gateway runs.
#[derive(Debug)]
pub struct LocalFile(PathBuf);

impl Drop for LocalFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_token_is_found_by_its_secret_and_the_store_has_no_secret() {
        let folder = std::env::temp_dir().join(format!("crosspoint-tokens-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let store = Store::open(&folder).unwrap();
        let tokens = Tokens::default();
        assert!(!were_any(&store).unwrap());
        let (one, other) = (secret([1; 32]), secret([2; 32]));
        add(&store, FIRST, &one, NOW).unwrap();
        assert!(were_any(&store).unwrap());
        assert_eq!(tokens.holder(one.expose()), None, "not looked yet");
        tokens.look(&store).unwrap();
        assert_eq!(tokens.holder(one.expose()).as_deref(), Some(FIRST));
        for wrong in [other.expose(), "", "crosspoint_", &one.expose()[..50]] {
            assert_eq!(tokens.holder(wrong), None, "{wrong}");
        }
        assert!(matches!(add(&store, FIRST, &other, NOW), Err(TokenError::NameTaken(_))));
        for name in ["", "a b", LOCAL, &"x".repeat(LONGEST_NAME + 1)] {
            assert!(matches!(add(&store, name, &other, NOW), Err(TokenError::Name)), "{name}");
        }
        let bytes: Vec<u8> = ["crosspoint.db", "crosspoint.db-wal"]
            .iter()
            .flat_map(|name| fs::read(folder.join(name)).unwrap_or_default())
            .collect();
        assert!(!bytes.is_empty());
        let secret = one.expose().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|it| it == secret));
        assert!(remove(&store, FIRST).unwrap() && !remove(&store, FIRST).unwrap());
        tokens.look(&store).unwrap();
        assert_eq!(tokens.holder(one.expose()), None, "revoked");
        assert!(were_any(&store).unwrap(), "no other is made at the next start");

        fs::write(folder.join(LOCAL_FILE), "old, and open to all").unwrap();
        let file = tokens.set_local(&folder, &other).unwrap();
        let mode = fs::metadata(folder.join(LOCAL_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = fs::read_to_string(folder.join(LOCAL_FILE)).unwrap();
        assert_eq!(tokens.holder(read.trim_end()).as_deref(), Some(LOCAL));
        drop(file);
        assert!(!folder.join(LOCAL_FILE).exists());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn tokens_have_a_limit() {
        let folder = std::env::temp_dir().join(format!("crosspoint-tokens-many-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let store = Store::open(&folder).unwrap();
        store
            .database()
            .execute_batch(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
                 INSERT INTO tokens SELECT 't' || i, zeroblob(32), 0 FROM n",
            )
            .unwrap();
        assert!(matches!(add(&store, "more", &secret([1; 32]), NOW), Err(TokenError::TooMany)));
        fs::remove_dir_all(folder).unwrap();
    }
}
