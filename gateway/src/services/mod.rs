//! Rooms, auditoriums and test calls as the administrator wrote them down, and which alias reaches
//! which. They are in the registrar's file; a gateway that runs sees a change within a second.
//!
//! ```text
//!  add(), replace(), remove() ─> file ─> Services::look ─> Services::find(alias)
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::alias::{Alias, AliasError};
use crate::conference::service::{LONGEST_NAME, MOST_PARTIES, Service};
use crate::registrar::{Store, StoreError, Watch};

mod store;
#[cfg(test)]
mod tests;

pub use store::{add, all, find, remove, replace, spelled};

/// Services of one gateway at most.
pub const SERVICES: usize = 10_000;

/// Aliases of one service at most.
pub const ALIASES: usize = 50;

/// Whom a conference calls by itself, at most.
pub const DIALS: usize = 50;

/// The longest time of a service's rules: a day is as good as for ever.
pub const LONGEST_TIME: Duration = Duration::from_secs(86_400);

/// Why a service is not written down. Each names the field and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What it is called.
    #[error("name: a name has 1 to {LONGEST_NAME} characters, no space at an end and no control character")]
    Name,
    /// Another has it.
    #[error(
        "name: there is a conference \"{0}\" already: choose another name, or change that one with crosspoint conference set"
    )]
    NameTaken(String),
    /// It was written meanwhile.
    #[error("somebody else has changed the conference \"{0}\" meanwhile: look at it again")]
    Changed(String),
    /// None has it.
    #[error("name: there is no conference \"{0}\": see crosspoint conference list")]
    Unknown(String),
    /// Nothing would reach it.
    #[error("alias: a conference has at least one: give one with --alias")]
    NoAlias,
    /// More than [`ALIASES`].
    #[error("alias: a conference has at most {ALIASES}, and these are {0}: leave some out")]
    TooManyAliases(usize),
    /// Within one service.
    #[error("alias: {0} is there twice: leave one out")]
    Twice(Alias),
    /// Something else is reached by it.
    #[error("alias: {alias} reaches {by} already: choose another, or take it away from there")]
    AliasTaken {
        /// Which.
        alias: Alias,
        /// A device or a service, in words.
        by: String,
    },
    /// Parties.
    #[error("limit: a conference has 1 to {MOST_PARTIES} participants")]
    Parties,
    /// Talkers.
    #[error("talkers: 1 to {MOST_PARTIES} are mixed at a time, or all")]
    Talkers,
    /// More than [`DIALS`].
    #[error("dial: a conference calls at most {DIALS} by itself, and these are {0}: leave some out")]
    TooManyDials(usize),
    /// One of those cannot be called.
    #[error("dial: {destination:?}: {reason}")]
    Dial {
        /// As it was written.
        destination: String,
        /// Why not.
        reason: AliasError,
    },
    /// A time of the rules.
    #[error("{0}: at least a second and at most a day")]
    Time(&'static str),
    /// More than [`SERVICES`].
    #[error("there are {SERVICES} conferences already: remove one with crosspoint conference remove")]
    TooMany,
}

/// Checks what a file of its own says of a service; what others have is the store's to check.
fn check(service: &Service) -> Result<(), ServiceError> {
    let name = &service.name;
    let length = name.chars().count();
    if length == 0 || length > LONGEST_NAME || name.trim() != name || name.chars().any(char::is_control) {
        return Err(ServiceError::Name);
    }
    match service.aliases.len() {
        0 => return Err(ServiceError::NoAlias),
        count if count > ALIASES => return Err(ServiceError::TooManyAliases(count)),
        _ => {}
    }
    for (at, alias) in service.aliases.iter().enumerate() {
        if service.aliases.iter().take(at).any(|it| it == alias) {
            return Err(ServiceError::Twice(alias.clone()));
        }
    }
    if !(1..=MOST_PARTIES).contains(&service.rules.parties) {
        return Err(ServiceError::Parties);
    }
    if service.talkers.is_some_and(|talkers| !(1..=MOST_PARTIES).contains(&talkers)) {
        return Err(ServiceError::Talkers);
    }
    if service.dials.len() > DIALS {
        return Err(ServiceError::TooManyDials(service.dials.len()));
    }
    for dial in &service.dials {
        Alias::with_host(&dial.destination)
            .map_err(|reason| ServiceError::Dial { destination: dial.destination.clone(), reason })?;
    }
    let second = Duration::from_secs(1);
    for (field, time, least) in [
        ("wait", service.rules.wait, second),
        ("guests-alone", service.rules.guests_alone, second),
        ("last-one", service.rules.last_one, Duration::ZERO),
    ] {
        if time < least || time > LONGEST_TIME {
            return Err(ServiceError::Time(field));
        }
    }
    Ok(())
}

/// What was last read of the file: lookups wait for nothing. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Services {
    by_alias: Arc<ArcSwap<HashMap<Alias, Arc<Service>>>>,
    seen: Arc<AtomicI64>,
}

impl Services {
    /// The service that is called so.
    pub fn named(&self, name: &str) -> Option<Arc<Service>> {
        self.by_alias.load().values().find(|service| service.name == name).cloned()
    }

    /// The service that an alias reaches.
    pub fn find(&self, alias: &Alias) -> Option<Arc<Service>> {
        self.by_alias.load().get(alias).cloned()
    }
}

impl Watch for Services {
    /// Reads all of them anew when one has changed. On an error those of before stay.
    fn look(&self, store: &Store) -> Result<(), StoreError> {
        let revision = store.revision("services")?;
        if self.seen.load(Ordering::Relaxed) == revision {
            return Ok(());
        }
        let mut aliases = HashMap::new();
        for service in all(store)?.into_iter().map(Arc::new) {
            aliases.extend(service.aliases.iter().map(|alias| (alias.clone(), Arc::clone(&service))));
        }
        self.by_alias.store(Arc::new(aliases));
        self.seen.store(revision, Ordering::Relaxed);
        Ok(())
    }
}
