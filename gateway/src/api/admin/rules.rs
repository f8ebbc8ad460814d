//! `/rules`: where calls may leave. Those of the configuration file are shown and not changed here; those
//! of the store count at once for new calls.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::{Refused, Tagged};
use super::body::{Asked, Document, Members, Named, merge, refuse_nulls};
use super::{Admin, By, Changed};
use crate::config::Rule;
use crate::registrar::Store;
use crate::rules::{self, RuleError};

pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(asked): Asked,
) -> Result<axum::Json<Value>, Refused> {
    asked.end()?;
    let stored = admin.store(|store| Ok(rules::all(store)?)).await?;
    let config = admin.0.parts.config.load();
    let file = &config.rules;
    let mut all: Vec<(&Rule, &str)> = file.iter().map(|it| (it, "file")).collect();
    let clashes = |rule: &Rule| file.iter().any(|it| it.name == rule.name || it.priority == rule.priority);
    all.extend(stored.iter().filter(|rule| !clashes(rule)).map(|it| (it, "store")));
    all.sort_by_key(|(rule, _)| rule.priority);
    let documents: Vec<Value> = all.into_iter().map(|(rule, origin)| shown(rule, origin)).collect();
    Ok(axum::Json(json!({ "rules": documents })))
}

pub(super) async fn show(State(admin): State<Admin>, Named(name): Named<String>) -> Result<Tagged, Refused> {
    if let Some(rule) = of_the_file(&admin, &name) {
        return Ok(tagged(&admin, StatusCode::OK, &rule, "file"));
    }
    let rule = admin.store(move |store| existing(store, &name)).await?;
    Ok(tagged(&admin, StatusCode::OK, &rule, "store"))
}

pub(super) async fn add(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Document(document): Document,
) -> Result<Tagged, Refused> {
    refuse_nulls(&document, "")?;
    let rule = read(document)?;
    let (this, now) = (admin.clone(), admin.0.parts.clock.both().wall);
    admin
        .change(by, changed(&rule.name, "added"), move |store| {
            rules::add(store, &this.0.parts.config.load(), &rule, now)?;
            Ok(tagged(&this, StatusCode::CREATED, &rule, "store"))
        })
        .await
}

/// Replaces all of it.
pub(super) async fn put(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    headers: HeaderMap,
    Document(mut document): Document,
) -> Result<Tagged, Refused> {
    refuse_nulls(&document, "")?;
    document.entry("name").or_insert_with(|| name.clone().into());
    edit(admin, by, name, headers, |_| document).await
}

pub(super) async fn patch(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    headers: HeaderMap,
    Document(patch): Document,
) -> Result<Tagged, Refused> {
    edit(admin, by, name, headers, |before| {
        let mut document = rules::document(before);
        merge(&mut document, patch);
        document
    })
    .await
}

/// Calls that it has let out go on.
pub(super) async fn remove(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let this = admin.clone();
    admin
        .change(by, changed(&name, "removed"), move |store| {
            editable(&this, store, &name, &headers)?;
            rules::remove(store, &name)?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

async fn edit(
    admin: Admin,
    by: By,
    name: String,
    headers: HeaderMap,
    after: impl FnOnce(&Rule) -> Map<String, Value> + Send + 'static,
) -> Result<Tagged, Refused> {
    let this = admin.clone();
    admin
        .change(by, changed(&name, "changed"), move |store| {
            let before = editable(&this, store, &name, &headers)?;
            let rule = read(after(&before))?;
            rules::replace(store, &this.0.parts.config.load(), &before, &rule)?;
            Ok(tagged(&this, StatusCode::OK, &rule, "store"))
        })
        .await
}

fn editable(admin: &Admin, store: &Store, name: &str, headers: &HeaderMap) -> Result<Rule, Refused> {
    if of_the_file(admin, name).is_some() {
        let told = format!("\"{name}\" is a rule of the configuration file: change it there");
        return Err(Refused::new(StatusCode::CONFLICT, told));
    }
    let before = existing(store, name)?;
    if !admin.0.tags.allow(headers, &spelled(&before)) {
        return Err(RuleError::Changed(name.to_owned()).into());
    }
    Ok(before)
}

fn of_the_file(admin: &Admin, name: &str) -> Option<Rule> {
    admin.0.parts.config.load().rules.iter().find(|rule| rule.name == name).cloned()
}

fn existing(store: &Store, name: &str) -> Result<Rule, Refused> {
    rules::find(store, name)?.ok_or_else(|| RuleError::Unknown(name.to_owned()).into())
}

fn changed(name: &str, change: &'static str) -> Changed {
    Changed { kind: "rule", name: name.to_owned(), change }
}

fn read(mut document: Map<String, Value>) -> Result<Rule, Refused> {
    if let Some(origin) = document.remove("origin") {
        Members::new(Map::from_iter([("origin".to_owned(), origin)])).pass_over("origin")?;
    }
    Ok(rules::read(&document)?)
}

fn spelled(rule: &Rule) -> String {
    Value::Object(rules::document(rule)).to_string()
}

fn tagged(admin: &Admin, status: StatusCode, rule: &Rule, origin: &str) -> Tagged {
    Tagged { status, tag: admin.0.tags.of(&spelled(rule)), document: shown(rule, origin) }
}

/// Its password is not in it.
fn shown(rule: &Rule, origin: &str) -> Value {
    let mut document = rules::document(rule);
    let credentials = document.get_mut("proxy").and_then(|it| it.get_mut("credentials"));
    if let Some(credentials) = credentials.and_then(Value::as_object_mut) {
        credentials.remove("password");
    }
    document.insert("origin".into(), origin.into());
    document.into()
}
