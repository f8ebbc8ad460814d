//! `crosspoint device`: works on the store directly, beside a gateway that runs.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Subcommand;
use crosspoint_gateway::config::Redacted;
use crosspoint_gateway::registrar::{Device as Entry, Origin, Store};

use super::{Failure, Setting, print};

/// Letters and digits that nobody mistakes for another: 32 of them, 5 bits each.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Characters of a password that we make up: 100 bits, far beyond guessing.
const LENGTH: usize = 20;

/// What to do with the devices.
#[derive(Debug, Subcommand)]
pub(super) enum Device {
    /// Add a device. Its password is made up and shown once.
    Add {
        /// What it registers as and is called by: alice, alice@example.com.
        alias: String,
        /// What it authenticates as, if not as its alias.
        #[arg(long)]
        username: Option<String>,
        /// Ask for the password, or read it from standard input, instead of making one up.
        #[arg(long)]
        password: bool,
    },
    /// List the devices and where they are registered.
    List,
    /// Remove a device and its registrations.
    Remove {
        /// Its alias.
        alias: String,
    },
}

impl Device {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        match self {
            Self::Add { alias, username, password } => add(setting, &alias, username, password),
            Self::List => list(setting),
            Self::Remove { alias } => remove(setting, &alias),
        }
    }
}

fn add(setting: &Setting, alias: &str, username: Option<String>, ask: bool) -> Result<ExitCode, Failure> {
    let alias = setting.alias(alias)?;
    if setting.config.devices.iter().any(|entry| entry.alias == alias) {
        return Err(Failure::Told(format!(
            "{alias} is a device of the configuration file already: change it there"
        )));
    }
    let username = username.unwrap_or_else(|| alias.to_string());
    if username.is_empty() || username.contains([':', '"', '\\']) || username.chars().any(char::is_control) {
        return Err(Failure::Told(
            "--username must not be empty or contain colons, quotes or backslashes".into(),
        ));
    }
    let password = if ask { asked_password()? } else { made_up_password()? };
    let realm = &setting.config.sip.realm;
    let entry = Entry::new(alias, &username, realm, &password, Origin::Store);
    Store::open(&setting.data)?.add_device(&entry, SystemTime::now())?;
    let mut text = format!("added {} to {}\n", entry.alias, setting.data.display());
    if !ask {
        let shown = password.expose();
        let _ =
            writeln!(text, "  user name  {username}\n  password   {shown}\nThe password is not shown again.");
    }
    print(&text)
}

fn list(setting: &Setting) -> Result<ExitCode, Failure> {
    let mut entries: Vec<Entry> =
        setting.config.devices.iter().map(|it| Entry::from_config(it, &setting.config.sip.realm)).collect();
    let mut bindings = Vec::new();
    if let Some(store) = Store::open_existing(&setting.data)? {
        let stored = store.devices()?;
        entries.extend(
            stored.into_iter().filter(|it| setting.config.devices.iter().all(|c| c.alias != it.alias)),
        );
        bindings = store.bindings(SystemTime::now())?;
        bindings.retain(|(_, _, left)| !left.is_zero());
    }
    entries.sort_by(|a, b| a.alias.cmp(&b.alias));
    if entries.is_empty() {
        return print("no devices; add one with: crosspoint device add NAME\n");
    }
    let width = entries.iter().map(|it| it.alias.as_str().chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for entry in &entries {
        let (alias, username) = (entry.alias.as_str(), &entry.username);
        let origin = if entry.origin == Origin::Config { "configuration file" } else { "added" };
        let contacts: Vec<_> = bindings
            .iter()
            .filter(|(of, _, _)| *of == entry.alias)
            .map(|(_, binding, left)| format!("{} for {} s", binding.uri, left.as_secs()))
            .collect();
        let there = if contacts.is_empty() { "not registered".into() } else { contacts.join(", ") };
        let _ = writeln!(text, "{alias:width$}  user {username}  ({origin})  {there}");
    }
    print(&text)
}

fn remove(setting: &Setting, alias: &str) -> Result<ExitCode, Failure> {
    let alias = setting.alias(alias)?;
    let removed = match Store::open_existing(&setting.data)? {
        Some(mut store) => store.remove_device(&alias)?,
        None => false,
    };
    if removed {
        return print(&format!("removed {alias} from {}\n", setting.data.display()));
    }
    let reason = if setting.config.devices.iter().any(|entry| entry.alias == alias) {
        "it is in the configuration file: remove it there".into()
    } else {
        format!("there is none in {}: see crosspoint device list", setting.data.display())
    };
    Err(Failure::Told(format!("device {alias} is not removed: {reason}")))
}

fn made_up_password() -> Result<Redacted, Failure> {
    let mut random = [0; LENGTH];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Told(format!("the system gives no randomness: {error}")))?;
    // 32 letters: every byte value stands for each of them equally often.
    let letter =
        |byte: &u8| ALPHABET.get(usize::from(*byte) % ALPHABET.len()).copied().map_or('x', char::from);
    Ok(Redacted::new(random.iter().map(letter).collect::<String>()))
}

fn asked_password() -> Result<Redacted, Failure> {
    let password = asked("password")?;
    if password.is_empty() {
        return Err(Failure::Told("the password is empty: type one, or leave --password out".into()));
    }
    Ok(Redacted::new(password))
}

/// Asks for something secret on a terminal, or reads a line of standard input.
pub(super) fn asked(what: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let mut line = String::new();
    if stdin.is_terminal() {
        eprint!("{what}: ");
        io::stderr().flush()?;
        let echo = Echo::off()?;
        stdin.lock().read_line(&mut line)?;
        drop(echo);
        eprintln!();
    } else {
        stdin.lock().read_line(&mut line)?;
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Echo(rustix::termios::Termios);

impl Echo {
    fn off() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_passwords_are_long_and_differ() {
        assert_eq!(256 % ALPHABET.len(), 0, "or some letters would be likelier");
        let (one, other) = (made_up_password().unwrap(), made_up_password().unwrap());
        assert_eq!(one.expose().len(), LENGTH);
        assert_ne!(one, other);
    }
}
