//! Global settings that the administrator changes while the gateway runs (S70, S76). What is in the
//! store counts before what the configuration file says; what nobody has set is as the file has it.
//!
//! ```text
//!  set() ─> store ─> SettingsWatch::look ─> watch channel ─> client API, door
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use rusqlite::{Transaction, TransactionBehavior, params};
use tokio::sync::watch;

use crate::config::Config;
use crate::registrar::{Store, StoreError, Watch};

/// Longest text that clients are told, in characters.
pub const LONGEST_TEXT: usize = 250;

/// The settings in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// S70: clients may use the client API. Other legs are not affected (S71).
    pub infinity_clients: bool,
    /// What they are told when they may not; clients put "Call Failed: " before it.
    pub disabled_text: String,
    /// S76: nobody new is let in by the client API.
    pub maintenance: bool,
    /// Unknown aliases answer as a room that wants a PIN.
    pub hide_unknown_aliases: bool,
    /// Whether people may write to each other in a conference that is newly set up.
    pub chat: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            infinity_clients: true,
            disabled_text: "Disabled".into(),
            maintenance: false,
            hide_unknown_aliases: false,
            chat: true,
        }
    }
}

impl From<&Config> for Settings {
    /// As the configuration file has them.
    fn from(config: &Config) -> Self {
        Self {
            infinity_clients: config.web.infinity_clients,
            disabled_text: config.web.disabled_text.clone(),
            maintenance: config.web.maintenance,
            hide_unknown_aliases: config.conference.hide_unknown_aliases,
            ..Self::default()
        }
    }
}

/// What is set in the store; `None`: as the configuration file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// See [`Settings::infinity_clients`].
    pub infinity_clients: Option<bool>,
    /// See [`Settings::disabled_text`].
    pub disabled_text: Option<String>,
    /// See [`Settings::maintenance`].
    pub maintenance: Option<bool>,
    /// See [`Settings::hide_unknown_aliases`].
    pub hide_unknown_aliases: Option<bool>,
    /// See [`Settings::chat`].
    pub chat: Option<bool>,
}

/// Why a setting is not written down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What clients are told.
    #[error("disabled_text: 1 to {LONGEST_TEXT} characters, none of them a control character")]
    Text,
    /// They were written meanwhile.
    #[error("somebody else has changed the settings meanwhile: look at them again")]
    Changed,
}

impl Stored {
    /// What is in effect, over what the configuration file says.
    pub fn over(&self, file: &Settings) -> Settings {
        let flag = |own: Option<bool>, file: bool| own.unwrap_or(file);
        Settings {
            infinity_clients: flag(self.infinity_clients, file.infinity_clients),
            disabled_text: self.disabled_text.clone().unwrap_or_else(|| file.disabled_text.clone()),
            maintenance: flag(self.maintenance, file.maintenance),
            hide_unknown_aliases: flag(self.hide_unknown_aliases, file.hide_unknown_aliases),
            chat: flag(self.chat, file.chat),
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let flag = |name, value: Option<bool>| value.map(|it| (name, it.to_string()));
        let rows = [
            flag("infinity_clients", self.infinity_clients),
            self.disabled_text.clone().map(|text| ("disabled_text", text)),
            flag("maintenance", self.maintenance),
            flag("hide_unknown_aliases", self.hide_unknown_aliases),
            flag("chat", self.chat),
        ];
        rows.into_iter().flatten().collect()
    }

    fn put(&mut self, name: &str, value: String) -> Result<(), &'static str> {
        let flag = |value: &str| value.parse().map(Some).map_err(|_| "neither true nor false");
        match name {
            "infinity_clients" => self.infinity_clients = flag(&value)?,
            "disabled_text" => self.disabled_text = Some(value),
            "maintenance" => self.maintenance = flag(&value)?,
            "hide_unknown_aliases" => self.hide_unknown_aliases = flag(&value)?,
            "chat" => self.chat = flag(&value)?,
            _ => return Err("not known"),
        }
        Ok(())
    }
}

/// What the store has. A line that makes no sense is left out and logged.
pub fn stored(store: &Store) -> Result<Stored, StoreError> {
    read(store).map_err(|error| store.fault(error))
}

/// Writes `after` in the place of `before`, if that still stands there; it is there when this returns.
pub fn replace(store: &Store, before: &Stored, after: &Stored) -> Result<(), SettingsError> {
    if let Some(text) = &after.disabled_text
        && (text.is_empty() || text.chars().count() > LONGEST_TEXT || text.chars().any(char::is_control))
    {
        return Err(SettingsError::Text);
    }
    let write = || {
        let transaction = Transaction::new_unchecked(store.database(), TransactionBehavior::Immediate)?;
        if read(store)? != *before {
            return Ok(Err(SettingsError::Changed));
        }
        transaction.execute("DELETE FROM settings", [])?;
        for (name, value) in after.rows() {
            transaction.execute("INSERT INTO settings (name, value) VALUES (?, ?)", params![name, value])?;
        }
        transaction.commit()?;
        Ok(Ok(()))
    };
    write().unwrap_or_else(|error| Err(store.fault(error).into()))
}

fn read(store: &Store) -> rusqlite::Result<Stored> {
    let mut stored = Stored::default();
    let mut statement = store.database().prepare_cached("SELECT name, value FROM settings")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if let Err(reason) = stored.put(&name, row.get(1)?) {
            tracing::warn!(name, reason, "a setting in the store cannot be read");
        }
    }
    Ok(stored)
}

/// The settings of a gateway as they change. Clones are the same.
#[derive(Clone, Debug)]
pub struct LiveSettings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: ArcSwap<Settings>,
    stored: ArcSwap<Stored>,
    live: watch::Sender<Settings>,
    seen: AtomicI64,
}

impl LiveSettings {
    /// As the configuration file has them.
    pub fn new(file: Settings) -> Self {
        let live = watch::channel(file.clone()).0;
        let file = ArcSwap::from_pointee(file);
        Self(Arc::new(Inner { file, stored: ArcSwap::default(), live, seen: AtomicI64::new(0) }))
    }

    /// What holds, and what will.
    pub fn watch(&self) -> watch::Receiver<Settings> {
        self.0.live.subscribe()
    }

    /// What the configuration file says.
    pub fn file(&self) -> Arc<Settings> {
        self.0.file.load_full()
    }

    /// The configuration file says something else now.
    pub fn set_file(&self, file: Settings) {
        let file = Arc::new(file);
        self.0.file.store(file.clone());
        self.0.live.send_replace(self.0.stored.load().over(&file));
    }
}

impl Watch for LiveSettings {
    /// Reads them anew when they have changed. On an error those of before stay.
    fn look(&self, store: &Store) -> Result<(), StoreError> {
        let revision = store.revision("settings")?;
        if self.0.seen.load(Ordering::Relaxed) != revision {
            let stored = stored(store)?;
            let stored = Arc::new(stored);
            self.0.stored.store(stored.clone());
            self.0.live.send_replace(stored.over(&self.0.file.load()));
            self.0.seen.store(revision, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_counts_before_the_file_and_is_followed() {
        let folder = std::env::temp_dir().join(format!("crosspoint-settings-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let store = Store::open(&folder).unwrap();
        let live = LiveSettings::new(Settings { maintenance: true, ..Settings::default() });
        live.look(&store).unwrap();
        let mut seen = live.watch();
        assert!(seen.borrow_and_update().maintenance);
        let set = Stored {
            infinity_clients: Some(false),
            disabled_text: Some("Closed for today".into()),
            maintenance: Some(false),
            ..Stored::default()
        };
        replace(&store, &Stored::default(), &set).unwrap();
        assert!(matches!(replace(&store, &Stored::default(), &set), Err(SettingsError::Changed)));
        live.look(&store).unwrap();
        assert_eq!(stored(&store).unwrap(), set);
        let now = seen.borrow_and_update().clone();
        assert_eq!((now.infinity_clients, now.maintenance, now.chat), (false, false, true));
        assert_eq!(now.disabled_text, "Closed for today");
        live.look(&store).unwrap();
        assert!(!seen.has_changed().unwrap(), "nothing was written");
        for text in [String::new(), "a\nb".into(), "x".repeat(LONGEST_TEXT + 1)] {
            let wrong = Stored { disabled_text: Some(text), ..set.clone() };
            assert!(replace(&store, &set, &wrong).unwrap_err().to_string().starts_with("disabled_text: "));
        }
        // A line that somebody wrote by hand harms nobody.
        store.database().execute("INSERT INTO settings VALUES ('chat', 'perhaps')", []).unwrap();
        live.look(&store).unwrap();
        assert!(seen.borrow().chat);
        std::fs::remove_dir_all(folder).unwrap();
    }
    #[test]
    fn each_switch_of_the_file_is_in_effect() {
        let text = "[web]\ninfinity_clients = false\ndisabled_text = \"Closed\"\nmaintenance = true\n\
                    [conference]\nhide_unknown_aliases = true\n";
        let settings = Settings::from(&Config::from_toml(text, "test").unwrap());
        let expected = Settings {
            infinity_clients: false,
            disabled_text: "Closed".into(),
            maintenance: true,
            hide_unknown_aliases: true,
            chat: true,
        };
        assert_eq!(settings, expected);
    }
}
