//! `crosspoint token`: who may use the management API. Works on the store directly, beside a gateway that
//! runs.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Subcommand;
use crosspoint_gateway::registrar::Store;
use crosspoint_gateway::status::rfc3339;
use crosspoint_gateway::tokens;

use super::{Failure, Setting, print};

/// What to do with the tokens.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token, which is shown once.
    New {
        /// What it is called in events and in the list.
        name: String,
    },
    /// List the tokens' names and when they were made.
    List,
    /// Revoke a token: who bears it is let in no more.
    Revoke {
        /// Its name.
        name: String,
    },
}

impl Token {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        match self {
            Self::New { name } => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes)
                    .map_err(|error| Failure::Told(format!("the system gives no randomness: {error}")))?;
                let secret = tokens::secret(bytes);
                tokens::add(&Store::open(&setting.data)?, &name, &secret, SystemTime::now())?;
                print(&format!("{}\nIt is not shown again.\n", secret.expose()))
            }
            Self::List => {
                let all = match Store::open_existing(&setting.data)? {
                    Some(store) => tokens::all(&store)?,
                    None => Vec::new(),
                };
                if all.is_empty() {
                    return print("no tokens; make one with: crosspoint token new NAME\n");
                }
                let width = all.iter().map(|it| it.name.len()).max().unwrap_or(0);
                let mut text = String::new();
                for entry in &all {
                    let _ = writeln!(text, "{:width$}  {}", entry.name, rfc3339(entry.added));
                }
                print(&text)
            }
            Self::Revoke { name } => {
                let revoked = match Store::open_existing(&setting.data)? {
                    Some(store) => tokens::remove(&store, &name)?,
                    None => false,
                };
                if revoked {
                    return print(&format!("revoked \"{name}\"\n"));
                }
                Err(Failure::Told(format!("there is no token \"{name}\": see crosspoint token list")))
            }
        }
    }
}
