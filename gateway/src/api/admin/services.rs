//! `/services`: rooms, auditoriums and test calls. PINs are written and never shown.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::{Refused, Tagged, Tags};
use super::body::{Asked, Document, Members, Named, merge};
use super::{Admin, By, Changed};
use crate::alias::{Alias, LONGEST};
use crate::conference::dialling::{Automatic, Keys, NoKeys};
use crate::conference::policy::{Door, Keeps, Pin, PinError, Role};
use crate::conference::service::{LONGEST_NAME, MOST_PARTIES, Service};
use crate::registrar::Store;
use crate::services::{self, LONGEST_TIME, ServiceError};

/// Services of one page, unless asked otherwise, and at most.
const PAGE: u64 = 100;
const MOST: u64 = 1_000;

/// A day, in seconds.
const DAY: u64 = LONGEST_TIME.as_secs();

/// Digits of a PIN and the hash sign that may end it.
const PIN: usize = 21;

pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(mut asked): Asked,
) -> Result<axum::Json<Value>, Refused> {
    let limit = asked.number("limit", 1..=MOST)?.unwrap_or(PAGE);
    let after = asked.named("after")?;
    asked.end()?;
    let all = admin.store(|store| Ok(services::all(store)?)).await?;
    let mut left =
        all.iter().skip_while(|it| after.as_ref().is_some_and(|after| it.name <= *after)).peekable();
    let page: Vec<&Service> = left.by_ref().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
    let next = left.peek().and_then(|_| page.last()).map(|it| it.name.as_str());
    let documents: Vec<Value> = page.iter().map(|it| shown(it)).collect();
    Ok(axum::Json(json!({ "services": documents, "next": next })))
}

pub(super) async fn show(State(admin): State<Admin>, Named(name): Named<String>) -> Result<Tagged, Refused> {
    let tags = admin.0.tags;
    let service = admin.store(move |store| existing(store, &name)).await?;
    Ok(tagged(&tags, StatusCode::OK, &service))
}

pub(super) async fn add(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Document(mut document): Document,
) -> Result<Tagged, Refused> {
    let chat = admin.0.parts.settings.watch().borrow().chat;
    document.entry("chat").or_insert(chat.into());
    let service = read(&admin, document)?;
    let changed = changed(&service.name, "added");
    let (tags, now) = (admin.0.tags, admin.0.parts.clock.both().wall);
    admin
        .change(by, changed, move |store| {
            services::add(store, &service, now)?;
            Ok(tagged(&tags, StatusCode::CREATED, &service))
        })
        .await
}

/// Replaces all of it; a PIN that is not named stays, for nobody can read it to send it back. So do the
/// keys of one who is called.
pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    headers: HeaderMap,
    Document(mut document): Document,
) -> Result<Tagged, Refused> {
    document.entry("name").or_insert_with(|| name.clone().into());
    edit(admin, by, name, headers, move |before| {
        for (pin, digits) in pins(before) {
            document.entry(pin).or_insert_with(|| digits.into());
        }
        keep_keys(&mut document, before);
        document
    })
    .await
}

pub(super) async fn patch(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    headers: HeaderMap,
    Document(patch): Document,
) -> Result<Tagged, Refused> {
    edit(admin, by, name, headers, move |before| {
        let mut document = written(before);
        for (pin, digits) in pins(before) {
            document.insert(pin.into(), digits.into());
        }
        merge(&mut document, patch);
        keep_keys(&mut document, before);
        document
    })
    .await
}

pub(super) async fn remove(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let tags = admin.0.tags;
    let changed = changed(&name, "removed");
    admin
        .change(by, changed, move |store| {
            let before = existing(store, &name)?;
            if !tags.allow(&headers, &services::spelled(&before)) {
                return Err(ServiceError::Changed(name).into());
            }
            services::remove(store, &name)?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

async fn edit(
    admin: Admin,
    by: By,
    name: String,
    headers: HeaderMap,
    after: impl FnOnce(&Service) -> Map<String, Value> + Send + 'static,
) -> Result<Tagged, Refused> {
    let (this, tags, changed) = (admin.clone(), admin.0.tags, changed(&name, "changed"));
    admin
        .change(by, changed, move |store| {
            let before = existing(store, &name)?;
            if !tags.allow(&headers, &services::spelled(&before)) {
                return Err(ServiceError::Changed(name).into());
            }
            let service = read(&this, after(&before))?;
            services::replace(store, &before, &service)?;
            Ok(tagged(&tags, StatusCode::OK, &service))
        })
        .await
}

pub(super) fn existing(store: &Store, name: &str) -> Result<Service, Refused> {
    services::find(store, name)?.ok_or_else(|| ServiceError::Unknown(name.to_owned()).into())
}

fn changed(name: &str, change: &'static str) -> Changed {
    Changed { kind: "service", name: name.to_owned(), change }
}

fn tagged(tags: &Tags, status: StatusCode, service: &Service) -> Tagged {
    Tagged { status, tag: tags.of(&services::spelled(service)), document: shown(service) }
}

/// The service that a document describes; what it leaves out has its default.
fn read(admin: &Admin, document: Map<String, Value>) -> Result<Service, Refused> {
    let mut from = Members::new(document);
    let name = from.text("name", LONGEST_NAME)?;
    let name = name.ok_or_else(|| Refused::field("name", "is missing: say what people see it called"))?;
    let aliases = from.texts("aliases")?.unwrap_or_default();
    let aliases = aliases.iter().map(|text| alias(admin, text)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = aliases.first() else {
        return Err(Refused::field("aliases", "a service has at least one: say what reaches it"));
    };
    let defaults = Service::new(name, first.clone());
    let seconds = |it: Option<u64>, default: Duration| it.map_or(default, Duration::from_secs);
    let count = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
    let most = MOST_PARTIES as u64;
    let rules = &defaults.rules;
    let host = pin(&mut from, "host_pin")?;
    let guest = pin(&mut from, "guest_pin")?;
    let guests = from.flag("guests")?.unwrap_or_else(|| defaults.door.guests());
    let door =
        Door::new(host, guest, guests).map_err(|error| Refused::field("guest_pin", error.to_string()))?;
    let service = Service {
        kind: word(&mut from, "kind")?.unwrap_or(defaults.kind),
        rules: crate::conference::policy::Rules {
            tells_hosts: door.tells_hosts(),
            parties: from.number("limit", 1..=most)?.map_or(rules.parties, count),
            invited_hosts_pass: from.flag("invited_hosts_pass")?.unwrap_or(rules.invited_hosts_pass),
            wait: seconds(from.number("wait_seconds", 1..=DAY)?, rules.wait),
            guests_alone: seconds(from.number("guests_alone_seconds", 1..=DAY)?, rules.guests_alone),
            last_one: seconds(from.number("last_one_seconds", 0..=DAY)?, rules.last_one),
        },
        door,
        layout: word(&mut from, "layout")?.unwrap_or(defaults.layout),
        guest_layout: word(&mut from, "guest_layout")?.unwrap_or(defaults.guest_layout),
        talkers: talkers(&mut from)?.map_or(defaults.talkers, |it| it.map(count)),
        chat: from.flag("chat")?.unwrap_or(defaults.chat),
        guests_present: from.flag("guests_present")?.unwrap_or(defaults.guests_present),
        names: from.flag("names")?.unwrap_or(defaults.names),
        dials: dials(&mut from)?,
        name: defaults.name,
        aliases,
    };
    // What only we write may be sent back as it was read.
    from.flag("host_pin_set")?;
    from.flag("guest_pin_set")?;
    from.end()?;
    Ok(service)
}

fn alias(admin: &Admin, text: &str) -> Result<Alias, Refused> {
    let parts = &admin.0.parts;
    let alias = Alias::parse(text, &parts.domains)
        .map_err(|error| Refused::field("aliases", format!("\"{}\" is no alias: {error}", cut(text))))?;
    if parts.config.load().devices.iter().any(|it| it.alias == alias) {
        let by = format!("the device {alias} of the configuration file");
        return Err(ServiceError::AliasTaken { alias, by }.into());
    }
    Ok(alias)
}

/// Of what is repeated in an answer.
fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

fn pin(from: &mut Members, name: &'static str) -> Result<Option<Pin>, Refused> {
    let digits = from.text_or_null(name, PIN)?.flatten();
    let wrong = |error: PinError| Refused::field(name, error.to_string());
    digits.map(|digits| Pin::parse(&digits)).transpose().map_err(wrong)
}

/// Whom the conference calls when it begins: objects with the words of the command line.
fn dials(from: &mut Members) -> Result<Vec<Automatic>, Refused> {
    let listed = match from.take("dials") {
        None => return Ok(Vec::new()),
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err(Refused::field("dials", "is no list: write a list of objects")),
    };
    listed
        .into_iter()
        .map(|one| {
            let Value::Object(one) = one else {
                return Err(Refused::field("dials", "holds something else than objects"));
            };
            let mut from = Members::new(one);
            let destination = from.text("destination", LONGEST)?;
            let destination = destination.ok_or_else(|| Refused::field("destination", "is missing"))?;
            let mut dial = Automatic::to(destination);
            dial.way = word(&mut from, "protocol")?.unwrap_or(dial.way);
            dial.role = one_of(&mut from, "role", &Role::ALL, Role::word)?.unwrap_or(dial.role);
            dial.keeps = one_of(&mut from, "keeps", &Keeps::ALL, Keeps::word)?.unwrap_or(dial.keeps);
            dial.keys = keys(&mut from, "keys")?;
            // What only we write may be sent back as it was read.
            from.flag("keys_set")?;
            from.end()?;
            Ok(dial)
        })
        .collect()
}

/// What is sent after an answer; nothing when it is not there.
pub(super) fn keys(from: &mut Members, name: &'static str) -> Result<Keys, Refused> {
    match from.take(name) {
        None => Ok(Keys::default()),
        Some(Value::String(text)) => {
            text.parse().map_err(|error: NoKeys| Refused::field(name, error.to_string()))
        }
        Some(_) => Err(Refused::field(name, "is no text: write some of 0 to 9, *, #, A to D and commas")),
    }
}

/// One of the words that these say.
pub(super) fn one_of<T: Copy>(
    from: &mut Members,
    name: &'static str,
    all: &[T],
    says: impl Fn(T) -> &'static str,
) -> Result<Option<T>, Refused> {
    let Some(text) = from.text(name, LONGEST)? else { return Ok(None) };
    let found = all.iter().copied().find(|it| says(*it) == text);
    let words = || all.iter().map(|it| says(*it)).collect::<Vec<_>>().join(", ");
    found.map(Some).ok_or_else(|| Refused::field(name, format!("is none of these: {}", words())))
}

/// `Some(None)`: all who talk.
fn talkers(from: &mut Members) -> Result<Option<Option<u64>>, Refused> {
    match from.take("talkers") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(value) => {
            let mut one = Members::new(Map::from_iter([("talkers".to_owned(), value)]));
            one.number("talkers", 1..=MOST_PARTIES as u64).map(Some)
        }
    }
}

/// One of a few words.
pub(super) fn word<T: std::str::FromStr<Err: std::fmt::Display>>(
    from: &mut Members,
    name: &'static str,
) -> Result<Option<T>, Refused> {
    let text = from.text(name, LONGEST)?;
    text.map(|text| text.parse()).transpose().map_err(|error: T::Err| Refused::field(name, error.to_string()))
}

/// The keys of those whom the service calls already, where they are not named.
fn keep_keys(document: &mut Map<String, Value>, before: &Service) {
    for dial in document.get_mut("dials").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(dial) = dial.as_object_mut() else { continue };
        let same = |it: &&Automatic| dial.get("destination").and_then(Value::as_str) == Some(&it.destination);
        if let Some(known) = before.dials.iter().find(same) {
            dial.entry("keys").or_insert_with(|| known.keys.as_str().into());
        }
    }
}

fn pins(service: &Service) -> impl Iterator<Item = (&'static str, &str)> {
    let pins = [("host_pin", service.door.host_pin()), ("guest_pin", service.door.guest_pin())];
    pins.into_iter().filter_map(|(name, pin)| Some((name, pin?.digits())))
}

/// What can be written, but for the PINs.
fn written(service: &Service) -> Map<String, Value> {
    let rules = &service.rules;
    let aliases: Vec<&str> = service.aliases.iter().map(Alias::as_str).collect();
    let dials: Vec<Value> = service.dials.iter().map(written_dial).collect();
    let document = json!({
        "name": service.name,
        "kind": service.kind.word(),
        "aliases": aliases,
        "guests": service.door.guests(),
        "layout": service.layout.word(),
        "guest_layout": service.guest_layout.word(),
        "talkers": service.talkers,
        "limit": rules.parties,
        "wait_seconds": rules.wait.as_secs(),
        "guests_alone_seconds": rules.guests_alone.as_secs(),
        "last_one_seconds": rules.last_one.as_secs(),
        "invited_hosts_pass": rules.invited_hosts_pass,
        "chat": service.chat,
        "guests_present": service.guests_present,
        "names": service.names,
        "dials": dials,
    });
    if let Value::Object(document) = document { document } else { Map::new() }
}

/// With its keys, among which may be a PIN.
fn written_dial(dial: &Automatic) -> Value {
    json!({
        "destination": dial.destination,
        "protocol": dial.way.word(),
        "role": dial.role.word(),
        "keeps": dial.keeps.word(),
        "keys": dial.keys.as_str(),
    })
}

fn shown(service: &Service) -> Value {
    let mut document = written(service);
    for dial in document.get_mut("dials").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(dial) = dial.as_object_mut() {
            let keys = dial.remove("keys");
            let set = keys.as_ref().and_then(Value::as_str).is_some_and(|keys| !keys.is_empty());
            dial.insert("keys_set".into(), set.into());
        }
    }
    document.insert("host_pin_set".into(), service.door.host_pin().is_some().into());
    document.insert("guest_pin_set".into(), service.door.guest_pin().is_some().into());
    document.into()
}

/// The words of kinds and layouts, for the test that holds them against the document.
#[cfg(test)]
pub(super) fn words() -> [(&'static str, Vec<&'static str>); 2] {
    use crate::conference::service::Kind;
    let layouts = crate::conference::layout::Layout::ALL;
    [
        ("kind", Kind::ALL.iter().map(|it| it.word()).collect()),
        ("layout", layouts.iter().map(|it| it.word()).collect()),
    ]
}
