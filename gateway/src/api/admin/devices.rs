//! `/devices`: who may register. Passwords are written and never shown; those of the configuration file
//! are shown and not changed here.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::{Refused, Tagged, Tags};
use super::body::{Asked, Document, Members, Named};
use super::{Admin, By, Changed};
use crate::alias::{Alias, LONGEST};
use crate::config::Redacted;
use crate::registrar::{Device, Origin, Store};

/// Devices of one page, unless asked otherwise, and at most.
const PAGE: u64 = 100;
const MOST: u64 = 1_000;

/// Longest user name and password, in characters.
const LONGEST_TEXT: usize = 255;

pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(mut asked): Asked,
) -> Result<axum::Json<Value>, Refused> {
    let limit = asked.number("limit", 1..=MOST)?.unwrap_or(PAGE);
    let after = asked.named("after")?;
    asked.end()?;
    let this = admin.clone();
    let all = admin.store(move |store| all(&this, store)).await?;
    let passed = |it: &&Device| after.as_ref().is_some_and(|after| it.alias.as_str() <= after.as_str());
    let mut left = all.iter().skip_while(passed).peekable();
    let page: Vec<&Device> = left.by_ref().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
    let next = left.peek().and_then(|_| page.last()).map(|it| it.alias.as_str());
    let documents: Vec<Value> = page.iter().map(|it| shown(&admin, it)).collect();
    Ok(axum::Json(json!({ "devices": documents, "next": next })))
}

pub(super) async fn show(State(admin): State<Admin>, Named(name): Named<String>) -> Result<Tagged, Refused> {
    let this = admin.clone();
    let device = admin.store(move |store| existing(&this, store, &name)).await?;
    Ok(tagged(&admin, StatusCode::OK, &device))
}

pub(super) async fn add(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Document(document): Document,
) -> Result<Tagged, Refused> {
    let (alias, username, password) = read(&admin, document, None)?;
    let password = password.ok_or_else(|| Refused::field("password", "is missing: give the device one"))?;
    let username = username.unwrap_or_else(|| alias.to_string());
    let device = Device::new(alias, &username, &admin.0.parts.realm, &password, Origin::Store);
    let (this, now) = (admin.clone(), admin.0.parts.clock.both().wall);
    admin
        .change(by, changed(&device.alias, "added"), move |store| {
            not_of_the_file(&this, &device.alias)?;
            store.add_device(&device, now)?;
            Ok(tagged(&this, StatusCode::CREATED, &device))
        })
        .await
}

/// Replaces all of it; a password that is not named stays, for nobody can read it to send it back.
pub(super) async fn put(
    admin: State<Admin>,
    by: Extension<By>,
    name: Named<String>,
    headers: HeaderMap,
    document: Document,
) -> Result<Tagged, Refused> {
    // There is nothing that a document could leave out: both are the same.
    patch(admin, by, name, headers, document).await
}

pub(super) async fn patch(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    headers: HeaderMap,
    Document(document): Document,
) -> Result<Tagged, Refused> {
    let of_path = alias(&admin, &name, "alias").map_err(|_| unknown(&name))?;
    let (_, username, password) = read(&admin, document, Some(of_path.clone()))?;
    let this = admin.clone();
    admin
        .change(by, changed(&of_path, "changed"), move |store| {
            let before = editable(&this, store, &name, &headers)?;
            let username = username.unwrap_or_else(|| before.username.clone());
            let device = match password {
                Some(password) => {
                    Device::new(before.alias.clone(), &username, &before.realm, &password, Origin::Store)
                }
                None if username == before.username => before,
                None => {
                    let told = "is needed with another user name: what is kept of it is bound to the name";
                    return Err(Refused::field("password", told));
                }
            };
            store.change_device(&device)?;
            Ok(tagged(&this, StatusCode::OK, &device))
        })
        .await
}

/// Its registrations end with it.
pub(super) async fn remove(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let of_path = alias(&admin, &name, "alias").map_err(|_| unknown(&name))?;
    let this = admin.clone();
    admin
        .change(by, changed(&of_path, "removed"), move |store| {
            let before = editable(&this, store, &name, &headers)?;
            store.remove_device(&before.alias)?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// Those of the file and of the store, by alias. The file wins.
fn all(admin: &Admin, store: &Store) -> Result<Vec<Device>, Refused> {
    let (realm, config) = (&admin.0.parts.realm, admin.0.parts.config.load());
    let file = &config.devices;
    let mut devices: Vec<Device> = file.iter().map(|it| Device::from_config(it, realm)).collect();
    let stored = store.devices()?;
    devices.extend(stored.into_iter().filter(|it| file.iter().all(|file| file.alias != it.alias)));
    devices.sort_by(|one, other| one.alias.cmp(&other.alias));
    Ok(devices)
}

fn existing(admin: &Admin, store: &Store, name: &str) -> Result<Device, Refused> {
    let alias = alias(admin, name, "alias").map_err(|_| unknown(name))?;
    all(admin, store)?.into_iter().find(|it| it.alias == alias).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Refused {
    let name: String = name.chars().take(LONGEST).collect();
    Refused::not_found(format!("there is no device \"{name}\": see GET /devices"))
}

fn editable(admin: &Admin, store: &Store, name: &str, headers: &HeaderMap) -> Result<Device, Refused> {
    let before = existing(admin, store, name)?;
    not_of_the_file(admin, &before.alias)?;
    if !admin.0.tags.allow(headers, &spelled(&before)) {
        return Err(Refused::changed(&format!("the device {}", before.alias)));
    }
    Ok(before)
}

fn not_of_the_file(admin: &Admin, alias: &Alias) -> Result<(), Refused> {
    if admin.0.parts.config.load().devices.iter().any(|it| it.alias == *alias) {
        let told = format!("{alias} is a device of the configuration file: change it there");
        return Err(Refused::new(StatusCode::CONFLICT, told));
    }
    Ok(())
}

fn changed(alias: &Alias, change: &'static str) -> Changed {
    Changed { kind: "device", name: alias.to_string(), change }
}

/// Alias, user name and password of a document; the alias must be that of the path, if there is one.
fn read(
    admin: &Admin,
    document: Map<String, Value>,
    of_path: Option<Alias>,
) -> Result<(Alias, Option<String>, Option<Redacted>), Refused> {
    let mut from = Members::new(document);
    let named = from.text("alias", LONGEST)?.map(|text| alias(admin, &text, "alias")).transpose()?;
    let username = from.text("username", LONGEST_TEXT)?;
    let password = from.text("password", LONGEST_TEXT)?.map(Redacted::new);
    from.pass_over("origin")?;
    from.flag("registered")?;
    from.end()?;
    let bad = |text: &String| text.contains([':', '"', '\\']) || text.chars().any(char::is_control);
    if username.as_ref().is_some_and(bad) {
        return Err(Refused::field(
            "username",
            "must not contain colons, quotes, backslashes or control characters",
        ));
    }
    let alias = match (named, of_path) {
        (Some(named), Some(of_path)) if named != of_path => {
            let told = format!("is not {of_path}: a device keeps its alias; add another and remove this one");
            return Err(Refused::field("alias", told));
        }
        (named, of_path) => named.or(of_path),
    };
    let alias = alias.ok_or_else(|| Refused::field("alias", "is missing: say what it registers as"))?;
    Ok((alias, username, password))
}

fn alias(admin: &Admin, text: &str, field: &str) -> Result<Alias, Refused> {
    Alias::parse(text, &admin.0.parts.domains).map_err(|error| Refused::field(field, error.to_string()))
}

fn spelled(device: &Device) -> String {
    format!("{} {} {}", device.alias, device.username, device.sha256.expose())
}

fn tagged(admin: &Admin, status: StatusCode, device: &Device) -> Tagged {
    let tags: &Tags = &admin.0.tags;
    Tagged { status, tag: tags.of(&spelled(device)), document: shown(admin, device) }
}

fn shown(admin: &Admin, device: &Device) -> Value {
    let parts = &admin.0.parts;
    let now = parts.clock.now();
    let there = !parts.registrar.bindings(&device.alias, now).is_empty()
        || !parts.clients.of(&device.alias, now).is_empty();
    json!({
        "alias": device.alias.as_str(),
        "username": device.username,
        "registered": there,
        "origin": if device.origin == Origin::Config { "file" } else { "store" },
    })
}
