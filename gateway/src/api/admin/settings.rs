//! `/settings`: what holds for the whole gateway. Each is in effect at once; one that nobody has set here
//! is as the configuration file has it.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::{Refused, Tagged};
use super::body::{Document, Members, merge};
use super::{Admin, By, Changed};
use crate::registrar::Store;
use crate::settings::{self, LONGEST_TEXT, SettingsError, Stored};

pub(super) async fn show(State(admin): State<Admin>) -> Result<Tagged, Refused> {
    let stored = admin.store(|store| Ok(settings::stored(store)?)).await?;
    Ok(tagged(&admin, &stored))
}

/// Replaces all of them: one that is not named, or null, is as the file has it.
pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    headers: HeaderMap,
    Document(document): Document,
) -> Result<Tagged, Refused> {
    edit(admin, by, headers, |_| document).await
}

/// Null takes one back to what the file has.
pub(super) async fn patch(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    headers: HeaderMap,
    Document(patch): Document,
) -> Result<Tagged, Refused> {
    edit(admin, by, headers, |before| {
        let mut document = written(before);
        merge(&mut document, patch);
        document
    })
    .await
}

async fn edit(
    admin: Admin,
    by: By,
    headers: HeaderMap,
    after: impl FnOnce(&Stored) -> Map<String, Value> + Send + 'static,
) -> Result<Tagged, Refused> {
    let this = admin.clone();
    let changed = Changed { kind: "settings", name: "settings".into(), change: "changed" };
    admin
        .change(by, changed, move |store: &mut Store| {
            let before = settings::stored(store)?;
            if !this.0.tags.allow(&headers, &spelled(&before)) {
                return Err(SettingsError::Changed.into());
            }
            let stored = read(after(&before))?;
            settings::replace(store, &before, &stored)?;
            Ok(tagged(&this, &stored))
        })
        .await
}

fn read(mut document: Map<String, Value>) -> Result<Stored, Refused> {
    // What only we write may be sent back as it was read.
    match document.remove("set") {
        None | Some(Value::Array(_)) => {}
        Some(_) => return Err(Refused::field("set", "is a list of names, and read only: leave it out")),
    }
    document.retain(|_, value| !value.is_null());
    let mut from = Members::new(document);
    let stored = Stored {
        infinity_clients: from.flag("infinity_clients")?,
        disabled_text: from.text("disabled_text", LONGEST_TEXT)?,
        maintenance: from.flag("maintenance")?,
        hide_unknown_aliases: from.flag("hide_unknown_aliases")?,
        chat: from.flag("chat")?,
    };
    from.end()?;
    Ok(stored)
}

/// What is set, and nothing else.
fn written(stored: &Stored) -> Map<String, Value> {
    let members = [
        ("infinity_clients", stored.infinity_clients.map(Value::from)),
        ("disabled_text", stored.disabled_text.clone().map(Value::from)),
        ("maintenance", stored.maintenance.map(Value::from)),
        ("hide_unknown_aliases", stored.hide_unknown_aliases.map(Value::from)),
        ("chat", stored.chat.map(Value::from)),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn spelled(stored: &Stored) -> String {
    Value::Object(written(stored)).to_string()
}

fn tagged(admin: &Admin, stored: &Stored) -> Tagged {
    let effective = stored.over(&admin.0.parts.settings.file());
    let set: Vec<String> = written(stored).into_iter().map(|(name, _)| name).collect();
    let document = json!({
        "infinity_clients": effective.infinity_clients,
        "disabled_text": effective.disabled_text,
        "maintenance": effective.maintenance,
        "hide_unknown_aliases": effective.hide_unknown_aliases,
        "chat": effective.chat,
        "set": set,
    });
    Tagged { status: StatusCode::OK, tag: admin.0.tags.of(&spelled(stored)), document }
}
