//! Services in the registrar's file. Every change is one transaction, so that names and aliases are
//! unique whoever writes at the same time.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::{SERVICES, ServiceError, check};
use crate::alias::Alias;
use crate::conference::dialling::Automatic;
use crate::conference::policy::{Door, Keeps, Pin, Role, Rules};
use crate::conference::service::Service;
use crate::registrar::{Store, StoreError, millis};

/// Columns in the order in which [`read`] takes them.
const COLUMNS: &str = "name, kind, host_pin, guest_pin, guests, parties, invited_hosts_pass, wait, guests_alone, \
                       last_one, layout, guest_layout, talkers, chat, guests_present, names";

/// All services, by name. One that cannot be read is left out and logged: a line that somebody
/// wrote by hand keeps no gateway from starting.
pub fn all(store: &Store) -> Result<Vec<Service>, StoreError> {
    let read = || {
        let mut aliases = all_aliases(store.database())?;
        let mut dials = all_dials(store.database())?;
        let sql = format!("SELECT {COLUMNS} FROM services ORDER BY name");
        let mut statement = store.database().prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        let mut services = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let of_service = aliases.remove(&name).unwrap_or_default();
            match service(row, of_service, dials.remove(&name).unwrap_or_default()) {
                Ok(service) => services.push(service),
                Err(reason) => tracing::warn!(name, reason, "a conference in the store cannot be read"),
            }
        }
        Ok(services)
    };
    read().map_err(|error| store.fault(error))
}

/// The service of that name.
pub fn find(store: &Store, name: &str) -> Result<Option<Service>, StoreError> {
    Ok(all(store)?.into_iter().find(|service| service.name == name))
}

/// Adds a service; it is there when this returns, within a second for a gateway that runs.
pub fn add(store: &Store, service: &Service, now: SystemTime) -> Result<(), ServiceError> {
    check(service)?;
    in_transaction(store, |transaction| {
        let count: i64 = transaction.query_row("SELECT count(*) FROM services", [], |row| row.get(0))?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= SERVICES {
            return Ok(Err(ServiceError::TooMany));
        }
        insert(transaction, service, millis(now))
    })
}

/// Puts `service` in the place of `before`, if that still stands there as it is; its name may be another.
pub fn replace(store: &Store, before: &Service, service: &Service) -> Result<(), ServiceError> {
    check(service)?;
    let name = before.name.as_str();
    in_transaction(store, |transaction| {
        let sql = "SELECT added FROM services WHERE name = ?";
        let Some(added) = transaction.query_row(sql, [name], |row| row.get(0)).optional()? else {
            return Ok(Err(ServiceError::Unknown(name.to_owned())));
        };
        let stands = read_one(transaction, name)?.is_ok_and(|it| spelled(&it) == spelled(before));
        if !stands {
            return Ok(Err(ServiceError::Changed(name.to_owned())));
        }
        delete(transaction, name)?;
        insert(transaction, service, added)
    })
}

/// Removes a service; `false` when there was none. A conference that goes on is not ended.
pub fn remove(store: &Store, name: &str) -> Result<bool, ServiceError> {
    in_transaction(store, |transaction| Ok(Ok(delete(transaction, name)?)))
}

/// Everything of a service as text, its PINs too: to tell whether two are the same, never for showing.
pub fn spelled(service: &Service) -> String {
    let pins = [service.door.host_pin(), service.door.guest_pin()].map(|it| it.map(Pin::digits));
    // They print as their number.
    let keys: Vec<&str> = service.dials.iter().map(|dial| dial.keys.as_str()).collect();
    format!("{pins:?} {keys:?} {service:?}")
}

/// What `change` did stays if it gave no error.
fn in_transaction<T>(
    store: &Store,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
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

fn insert(
    transaction: &Transaction<'_>,
    service: &Service,
    added: i64,
) -> rusqlite::Result<Result<(), ServiceError>> {
    for alias in &service.aliases {
        if let Some(by) = reached(transaction, alias)? {
            return Ok(Err(ServiceError::AliasTaken { alias: alias.clone(), by }));
        }
    }
    let sql = format!(
        "INSERT INTO services ({COLUMNS}, added) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT DO NOTHING"
    );
    let rules = &service.rules;
    let inserted = transaction.execute(
        &sql,
        params![
            service.name,
            service.kind.word(),
            service.door.host_pin().map(Pin::digits),
            service.door.guest_pin().map(Pin::digits),
            service.door.guests(),
            number(rules.parties),
            rules.invited_hosts_pass,
            in_millis(rules.wait),
            in_millis(rules.guests_alone),
            in_millis(rules.last_one),
            service.layout.word(),
            service.guest_layout.word(),
            service.talkers.map(number),
            service.chat,
            service.guests_present,
            service.names,
            added,
        ],
    )?;
    if inserted == 0 {
        return Ok(Err(ServiceError::NameTaken(service.name.clone())));
    }
    let mut statement =
        transaction.prepare_cached("INSERT INTO service_aliases (alias, service, place) VALUES (?, ?, ?)")?;
    for (place, alias) in service.aliases.iter().enumerate() {
        statement.execute(params![alias.as_str(), service.name, number(place)])?;
    }
    let mut statement = transaction.prepare_cached(
        "INSERT INTO service_dials (service, place, destination, way, role, keeps, keys) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    for (place, Automatic { destination, way, role, keeps, keys }) in service.dials.iter().enumerate() {
        let words = [way.word(), role.word(), keeps.word(), keys.as_str()];
        let [way, role, keeps, keys] = words;
        statement.execute(params![service.name, number(place), destination, way, role, keeps, keys])?;
    }
    Ok(Ok(()))
}

/// The service of that name, which is there.
fn read_one(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<Result<Service, String>> {
    let sql = "SELECT alias FROM service_aliases WHERE service = ? ORDER BY place";
    let mut statement = transaction.prepare_cached(sql)?;
    let aliases = statement.query_map([name], |row| row.get::<_, String>(0))?;
    let aliases =
        aliases.map(|it| it.map(|it| Alias::from_canonical(&it))).collect::<rusqlite::Result<_>>()?;
    let sql = format!("SELECT {COLUMNS} FROM services WHERE name = ?");
    let dials = all_dials(transaction)?.remove(name).unwrap_or_default();
    transaction.query_row(&sql, [name], |row| Ok(service(row, aliases, dials)))
}

/// What an alias reaches already, in words.
fn reached(transaction: &Transaction<'_>, alias: &Alias) -> rusqlite::Result<Option<String>> {
    let service = "SELECT 'the conference \"' || service || '\"' FROM service_aliases WHERE alias = ?";
    let device = "SELECT 'the device ' || alias FROM devices WHERE alias = ?";
    for sql in [service, device] {
        let by = transaction.query_row(sql, [alias.as_str()], |row| row.get(0)).optional()?;
        if by.is_some() {
            return Ok(by);
        }
    }
    Ok(None)
}

fn delete(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<bool> {
    transaction.execute("DELETE FROM service_aliases WHERE service = ?", [name])?;
    transaction.execute("DELETE FROM service_dials WHERE service = ?", [name])?;
    Ok(transaction.execute("DELETE FROM services WHERE name = ?", [name])? > 0)
}

fn all_aliases(database: &Connection) -> rusqlite::Result<std::collections::HashMap<String, Vec<Alias>>> {
    let mut aliases = std::collections::HashMap::<String, Vec<Alias>>::new();
    let sql = "SELECT service, alias FROM service_aliases ORDER BY service, place";
    let mut statement = database.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let alias = Alias::from_canonical(&row.get::<_, String>(1)?);
        aliases.entry(row.get(0)?).or_default().push(alias);
    }
    Ok(aliases)
}

/// Whom each service calls. One that makes no sense is left out and logged, as with services.
fn all_dials(database: &Connection) -> rusqlite::Result<std::collections::HashMap<String, Vec<Automatic>>> {
    let mut dials = std::collections::HashMap::<String, Vec<Automatic>>::new();
    let sql =
        "SELECT service, destination, way, role, keeps, keys FROM service_dials ORDER BY service, place";
    let mut statement = database.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (service, destination): (String, String) = (row.get(0)?, row.get(1)?);
        let (way, role): (String, String) = (row.get(2)?, row.get(3)?);
        let (keeps, keys): (String, String) = (row.get(4)?, row.get(5)?);
        let role = Role::ALL.into_iter().find(|it| it.word() == role);
        let keeps = Keeps::ALL.into_iter().find(|it| it.word() == keeps);
        let (Ok(way), Some(role), Some(keeps), Ok(keys)) = (way.parse(), role, keeps, keys.parse()) else {
            tracing::warn!(service, destination, "one whom a conference calls cannot be read in the store");
            continue;
        };
        dials.entry(service).or_default().push(Automatic { destination, way, role, keeps, keys });
    }
    Ok(dials)
}

/// The service of a row, or why there is none. The reason never holds a PIN.
fn service(row: &Row<'_>, aliases: Vec<Alias>, dials: Vec<Automatic>) -> Result<Service, String> {
    let field = |error: rusqlite::Error| error.to_string();
    let pin = |at| -> Result<Option<Pin>, String> {
        let digits: Option<String> = row.get(at).map_err(field)?;
        digits.map(|digits| Pin::parse(&digits)).transpose().map_err(|error| error.to_string())
    };
    let word = |at| row.get::<_, String>(at).map_err(field);
    let flag = |at| row.get::<_, bool>(at).map_err(field);
    let count = |at| row.get::<_, u32>(at).map(|it| it as usize).map_err(field);
    let time = |at| row.get::<_, u32>(at).map(|it| Duration::from_millis(it.into())).map_err(field);
    let door = Door::new(pin(2)?, pin(3)?, flag(4)?).map_err(|error| error.to_string())?;
    let service = Service {
        name: word(0)?,
        kind: word(1)?.parse().map_err(|error: crate::conference::service::UnknownKind| error.to_string())?,
        aliases,
        rules: Rules {
            tells_hosts: door.tells_hosts(),
            parties: count(5)?,
            invited_hosts_pass: flag(6)?,
            wait: time(7)?,
            guests_alone: time(8)?,
            last_one: time(9)?,
        },
        door,
        layout: layout(&word(10)?)?,
        guest_layout: layout(&word(11)?)?,
        talkers: row.get::<_, Option<u32>>(12).map_err(field)?.map(|it| it as usize),
        chat: flag(13)?,
        guests_present: flag(14)?,
        names: flag(15)?,
        dials,
    };
    check(&service).map_err(|error| error.to_string())?;
    Ok(service)
}

fn layout(word: &str) -> Result<crate::conference::layout::Layout, String> {
    word.parse().map_err(|error: crate::conference::layout::UnknownLayout| error.to_string())
}

/// Small by what [`check`] lets through.
fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn in_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
