//! Routing rules that the administrator adds while the gateway runs, beside those of the configuration
//! file. They are in the registrar's file, each as the JSON document that the management API takes, and
//! go into the routing without a call being dropped.
//!
//! A document is read by the reader of the configuration file: the same fields, the same words when
//! something is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde_json::{Map, Value};

use crate::config::{Config, Fault, Rule};
use crate::registrar::{Store, StoreError, Watch, millis};
use crate::routing::Routing;

/// Rules of the store at most: as many as there are priorities.
pub const RULES: usize = 200;

/// Why a rule is not written down. Each names the field and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the reader of the configuration says.
    #[error("{field}: {message}")]
    Wrong {
        /// Which.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// Another rule has it.
    #[error("name: there is a rule \"{0}\" already: choose another name, or change that one")]
    NameTaken(String),
    /// Another rule has it.
    #[error("priority: {priority} is that of the rule \"{by}\": give each rule its own")]
    PriorityTaken {
        /// Which.
        priority: u8,
        /// Whose.
        by: String,
    },
    /// None has it.
    #[error("name: there is no rule \"{0}\": see crosspoint rule list")]
    Unknown(String),
    /// It was written meanwhile.
    #[error("somebody else has changed the rule \"{0}\" meanwhile: look at it again")]
    Changed(String),
}

impl RuleError {
    fn wrong(fault: Fault) -> Self {
        let field = fault.field.strip_prefix("rules[1]").unwrap_or(&fault.field);
        let field = field.strip_prefix('.').unwrap_or(field);
        Self::Wrong { field: field.to_owned(), message: fault.message }
    }
}

/// A rule of a JSON document with the fields of `[[rules]]`. A field that is null is not there.
pub fn read(document: &Map<String, Value>) -> Result<Rule, RuleError> {
    let wrong = |message: String| RuleError::Wrong { field: String::new(), message };
    let rules = Value::Array(vec![Value::Object(without_nulls(document))]);
    let text = toml::Table::try_from(Map::from_iter([("rules".to_owned(), rules)]))
        .and_then(|table| toml::to_string(&table).map_err(serde::ser::Error::custom))
        .map_err(|error| wrong(format!("is no rule: {error}")))?;
    let config = Config::from_piece(&text, "rule").map_err(|mut error| {
        // There is at least one.
        let fault = error.faults.drain(..).next();
        fault.map_or_else(|| wrong("is no rule".into()), RuleError::wrong)
    })?;
    config.rules.into_iter().next().ok_or_else(|| wrong("is no rule".into()))
}

/// The document of a rule, its password in it: for the store, never for showing.
pub fn document(rule: &Rule) -> Map<String, Value> {
    let Ok(Value::Object(mut document)) = serde_json::to_value(rule) else { return Map::new() };
    let password = rule.proxy.as_ref().and_then(|it| it.credentials.as_ref()).map(|it| &it.password);
    if let Some(password) = password
        && let Some(credentials) = document.get_mut("proxy").and_then(|it| it.get_mut("credentials"))
        && let Some(credentials) = credentials.as_object_mut()
    {
        credentials.insert("password".into(), password.expose().into());
    }
    document
}

/// All rules of the store, by priority. One that cannot be read is left out and logged.
pub fn all(store: &Store) -> Result<Vec<Rule>, StoreError> {
    let rows = || {
        let sql = "SELECT name, document FROM rules ORDER BY priority";
        let mut statement = store.database().prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
    };
    let mut rules = Vec::new();
    for (name, text) in rows().map_err(|error| store.fault(error))? {
        let document = serde_json::from_str(&text).unwrap_or_default();
        match read(&document) {
            Ok(rule) => rules.push(rule),
            Err(error) => tracing::warn!(name, %error, "a rule in the store cannot be read"),
        }
    }
    Ok(rules)
}

/// The rule of that name.
pub fn find(store: &Store, name: &str) -> Result<Option<Rule>, StoreError> {
    Ok(all(store)?.into_iter().find(|rule| rule.name == name))
}

/// Adds a rule beside those of the configuration `file`; it is there when this returns.
pub fn add(store: &Store, file: &Config, rule: &Rule, now: SystemTime) -> Result<(), RuleError> {
    free(&file.rules, rule)?;
    trunks(rule).try_for_each(|named| is_there(file, named))?;
    in_transaction(store, |transaction| insert(transaction, rule, millis(now)))
}

/// Puts `rule` in the place of `before`, if that still stands there as it is. A trunk that it names already may
/// have gone: such a rule can still be disabled.
pub fn replace(store: &Store, file: &Config, before: &Rule, rule: &Rule) -> Result<(), RuleError> {
    free(&file.rules, rule)?;
    trunks(rule)
        .filter(|named| trunks(before).all(|other| other != *named))
        .try_for_each(|named| is_there(file, named))?;
    in_transaction(store, |transaction| {
        let sql = "SELECT document, added FROM rules WHERE name = ?";
        let row: Option<(String, i64)> =
            transaction.query_row(sql, [&before.name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((text, added)) = row else { return Ok(Err(RuleError::Unknown(before.name.clone()))) };
        if text != spelled(before) {
            return Ok(Err(RuleError::Changed(before.name.clone())));
        }
        transaction.execute("DELETE FROM rules WHERE name = ?", [&before.name])?;
        insert(transaction, rule, added)
    })
}

/// Removes a rule; `false` when there was none. Calls that it has let out go on.
pub fn remove(store: &Store, name: &str) -> Result<bool, StoreError> {
    let removed = store.database().execute("DELETE FROM rules WHERE name = ?", [name]);
    removed.map(|count| count > 0).map_err(|error| store.fault(error))
}

fn free(file: &[Rule], rule: &Rule) -> Result<(), RuleError> {
    for other in file {
        if other.name == rule.name {
            return Err(RuleError::NameTaken(rule.name.clone()));
        }
        if other.priority == rule.priority {
            return Err(RuleError::PriorityTaken { priority: rule.priority, by: other.name.clone() });
        }
    }
    Ok(())
}

/// The trunks that a rule names, by the field.
fn trunks(rule: &Rule) -> impl Iterator<Item = (&'static str, &str)> {
    let callers = rule.callers.as_ref().map(|it| ("callers", it.trunk.as_str()));
    rule.trunk.as_deref().map(|name| ("trunk", name)).into_iter().chain(callers)
}

fn is_there(file: &Config, (field, name): (&'static str, &str)) -> Result<(), RuleError> {
    if file.trunks.iter().any(|it| it.name == name) {
        return Ok(());
    }
    let message = format!("there is no trunk \"{name}\": add it under [[trunks]]");
    Err(RuleError::Wrong { field: field.to_owned(), message })
}

fn insert(transaction: &Transaction<'_>, rule: &Rule, added: i64) -> rusqlite::Result<Result<(), RuleError>> {
    let sql = "SELECT name FROM rules WHERE priority = ? OR name = ? ORDER BY name = ? DESC";
    let found: Option<String> = transaction
        .query_row(sql, params![rule.priority, rule.name, rule.name], |row| row.get(0))
        .optional()?;
    if let Some(by) = found {
        let priority = rule.priority;
        let taken = by == rule.name;
        return Ok(Err(if taken {
            RuleError::NameTaken(by)
        } else {
            RuleError::PriorityTaken { priority, by }
        }));
    }
    let sql = "INSERT INTO rules (name, priority, document, added) VALUES (?, ?, ?, ?)";
    transaction.execute(sql, params![rule.name, rule.priority, spelled(rule), added])?;
    Ok(Ok(()))
}

fn spelled(rule: &Rule) -> String {
    Value::Object(document(rule)).to_string()
}

fn in_transaction(
    store: &Store,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<(), RuleError>>,
) -> Result<(), RuleError> {
    let write = || {
        let transaction = Transaction::new_unchecked(store.database(), TransactionBehavior::Immediate)?;
        let outcome = change(&transaction)?;
        if outcome.is_ok() {
            transaction.commit()?;
        }
        Ok(outcome)
    };
    write().unwrap_or_else(|error| Err(store.fault(error).into()))
}

fn without_nulls(document: &Map<String, Value>) -> Map<String, Value> {
    let kept = document.iter().filter(|(_, value)| !value.is_null());
    kept.map(|(key, value)| {
        let value = value.as_object().map_or_else(|| value.clone(), |it| without_nulls(it).into());
        (key.clone(), value)
    })
    .collect()
}

/// Keeps a routing's rules as the store has them.
#[derive(Debug)]
pub struct RuleWatch {
    routing: Arc<Routing>,
    seen: AtomicI64,
}

impl RuleWatch {
    /// For that routing.
    pub const fn new(routing: Arc<Routing>) -> Self {
        Self { routing, seen: AtomicI64::new(0) }
    }
}

impl Watch for RuleWatch {
    /// Reads them anew when they have changed. On an error those of before stay.
    fn look(&self, store: &Store) -> Result<(), StoreError> {
        let revision = store.revision("rules")?;
        if self.seen.load(Ordering::Relaxed) != revision {
            self.routing.set_stored(all(store)?);
            self.seen.store(revision, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn document_of(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn rule(name: &str, priority: u8) -> Rule {
        read(&document_of(json!({ "name": name, "priority": priority, "match": r"\+49(\d+)" }))).unwrap()
    }

    fn store(name: &str) -> (std::path::PathBuf, Store) {
        let folder = std::env::temp_dir().join(format!("crosspoint-rules-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let store = Store::open(&folder).unwrap();
        (folder, store)
    }

    #[test]
    fn a_document_is_read_by_the_words_of_the_configuration() {
        let full = json!({
            "name": "trunk", "priority": 20, "enable": false, "match": r"\+49(\d+)", "replace": "0${1}",
            "from": "alice", "incoming": ["sip"], "only_if_registered": false,
            "conferences": true, "follow_redirects": true, "outgoing": "sip",
            "proxy": {
                "host": "trunk.example.net:5061", "transport": "tls",
                "credentials": { "realm": "trunk", "username": "me", "password": "s3cret" },
            },
        });
        let rule = read(&document_of(full.clone())).unwrap();
        assert_eq!(Value::Object(document(&rule)), full, "reads back");
        assert!(!format!("{rule:?}").contains("s3cret"));
        for (wrong, told) in [
            (json!({ "priority": 1, "match": "a" }), "name: is missing"),
            (json!({ "name": "r", "priority": 201, "match": "a" }), "priority: "),
            (json!({ "name": "r", "priority": 1, "match": "(" }), "match: \"(\" is not a regular expression"),
            (json!({ "name": "r", "priority": 1, "match": "a", "matsch": "a" }), "matsch: is not known"),
            (json!({ "name": "r", "priority": 1, "match": "a", "replace": "$1" }), "replace: group $1"),
            (json!({ "name": "r", "priority": 1, "match": "a", "proxy": 7 }), "proxy: "),
            (json!({ "name": "r\n[[rules]]", "priority": 1, "match": 7 }), "match: "),
        ] {
            let error = read(&document_of(wrong)).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }

    #[test]
    fn names_and_priorities_are_unique_over_file_and_store() {
        let (folder, store) = store("unique");
        let file = Config { rules: vec![rule("file", 10)], ..Config::default() };
        add(&store, &file, &rule("a", 20), NOW).unwrap();
        let told = |result: Result<(), RuleError>| result.unwrap_err().to_string();
        assert!(told(add(&store, &file, &rule("a", 30), NOW)).starts_with("name: there is a rule \"a\""));
        assert!(told(add(&store, &file, &rule("b", 20), NOW)).contains("20 is that of the rule \"a\""));
        assert!(told(add(&store, &file, &rule("b", 10), NOW)).contains("10 is that of the rule \"file\""));
        assert!(told(add(&store, &file, &rule("file", 30), NOW)).starts_with("name: "));
        // Only what still stands as it was read is replaced.
        replace(&store, &file, &rule("a", 20), &rule("c", 5)).unwrap();
        assert!(matches!(replace(&store, &file, &rule("c", 6), &rule("d", 7)), Err(RuleError::Changed(_))));
        assert!(matches!(replace(&store, &file, &rule("a", 20), &rule("d", 7)), Err(RuleError::Unknown(_))));
        assert_eq!(all(&store).unwrap(), [rule("c", 5)]);
        assert!(remove(&store, "c").unwrap() && !remove(&store, "c").unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_rule_names_trunks_that_are_there() {
        let (folder, store) = store("trunks");
        let text = "[[trunks]]\nname = \"carrier\"\nhost = \"192.0.2.9\"\n";
        let file = Config::from_piece(text, "file").unwrap();
        let gone = Config::default();
        let naming = |field: &str, value: &str, enable: bool| {
            let mut rule =
                document_of(json!({ "name": "out", "priority": 1, "match": ".*", "enable": enable,
                "only_if_registered": false }));
            rule.insert(field.to_owned(), value.into());
            read(&rule).unwrap()
        };
        let by = naming("trunk", "carrier", true);
        let told = |result: Result<(), RuleError>| result.unwrap_err().to_string();
        let missing = "trunk: there is no trunk \"carrier\": add it under [[trunks]]";
        assert_eq!(told(add(&store, &gone, &by, NOW)), missing);
        add(&store, &file, &by, NOW).unwrap();
        // Its trunk has gone since: it can be switched off, and not be sent to another that is not there.
        replace(&store, &gone, &by, &naming("trunk", "carrier", false)).unwrap();
        let before = naming("trunk", "carrier", false);
        let from = naming("callers", "trunk other", false);
        assert!(
            told(replace(&store, &file, &before, &from)).starts_with("callers: there is no trunk \"other\"")
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_routing_follows_the_store_and_looks_only_when_it_has_changed() {
        let (folder, store) = store("watch");
        let routing = Arc::new(Routing::new(&Config::default()));
        let watch = RuleWatch::new(Arc::clone(&routing));
        watch.look(&store).unwrap();
        assert!(routing.rules().is_empty());
        add(&store, &Config::default(), &rule("a", 20), NOW).unwrap();
        watch.look(&store).unwrap();
        assert_eq!(*routing.rules(), [rule("a", 20)]);
        let before = routing.rules();
        watch.look(&store).unwrap();
        assert!(Arc::ptr_eq(&before, &routing.rules()), "nothing was written");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
