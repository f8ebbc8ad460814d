//! `crosspoint settings`: global settings over those of the configuration file. Works on the store
//! directly, beside a gateway that runs.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use crosspoint_gateway::registrar::Store;
use crosspoint_gateway::settings::{self, Stored};

use super::{Failure, Setting, print};

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub(super) enum Settings {
    /// Show what is in effect, and what of it is set here.
    Show,
    /// Set one. It counts within a second; calls that stand go on.
    Set {
        /// Which.
        name: Name,
        /// true or false, or a text; "default" is back to what the configuration file has.
        value: String,
    },
}

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Name {
    /// Clients may use the client API; SIP is not affected.
    InfinityClients,
    /// What they are told when they may not.
    DisabledText,
    /// Nobody new is let in by the client API.
    Maintenance,
    /// Unknown aliases answer as a room that wants a PIN.
    HideUnknownAliases,
    /// Whether people may write to each other in a conference that is newly added.
    Chat,
}

impl Settings {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        match self {
            Self::Show => show(setting),
            Self::Set { name, value } => set(setting, name, value),
        }
    }
}

fn show(setting: &Setting) -> Result<ExitCode, Failure> {
    let stored = match Store::open_existing(&setting.data)? {
        Some(store) => settings::stored(&store)?,
        None => Stored::default(),
    };
    let now = stored.over(&settings::Settings::from(&setting.config));
    let mut text = String::new();
    for (name, value, set) in [
        ("infinity_clients", now.infinity_clients.to_string(), stored.infinity_clients.is_some()),
        ("disabled_text", now.disabled_text, stored.disabled_text.is_some()),
        ("maintenance", now.maintenance.to_string(), stored.maintenance.is_some()),
        ("hide_unknown_aliases", now.hide_unknown_aliases.to_string(), stored.hide_unknown_aliases.is_some()),
        ("chat", now.chat.to_string(), stored.chat.is_some()),
    ] {
        let _ = writeln!(text, "{name:20}  {value}{}", if set { "  (set)" } else { "" });
    }
    print(&text)
}

fn set(setting: &Setting, name: Name, value: String) -> Result<ExitCode, Failure> {
    let store = Store::open(&setting.data)?;
    let before = settings::stored(&store)?;
    let mut after = before.clone();
    let value = Some(value).filter(|value| value != "default");
    let word = name.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
    let flag = || match value.as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(Failure::Arguments(format!("{word}: write true, false or default"))),
    };
    match name {
        Name::InfinityClients => after.infinity_clients = flag()?,
        Name::DisabledText => after.disabled_text.clone_from(&value),
        Name::Maintenance => after.maintenance = flag()?,
        Name::HideUnknownAliases => after.hide_unknown_aliases = flag()?,
        Name::Chat => after.chat = flag()?,
    }
    settings::replace(&store, &before, &after)?;
    print(&format!("changed {word} in {}\n", setting.data.display()))
}
