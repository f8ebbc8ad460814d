//! `/process/...`: orders to the program that runs the gateway. 202 when it has taken one.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::answer::Refused;
use super::body::{Document, Members};
use super::{Admin, By};
use crate::orders::{Order, Reloaded};

/// Longest text of what is to be logged, in characters.
const LONGEST_FILTER: usize = 1_000;

/// `{"now": true | false}`: no more calls are taken, and the program ends when the last is over or its
/// time for that is; `now` waits for none.
pub(super) async fn stop(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Document(document): Document,
) -> Result<StatusCode, Refused> {
    let mut from = Members::new(document);
    let now = from.flag("now")?.unwrap_or(false);
    from.end()?;
    tracing::info!(now, by = by.0, "told to stop by the management API");
    let told = admin.0.parts.orders.give(|reply| Order::Stop { now, reply }).await;
    told.map(|()| StatusCode::ACCEPTED).map_err(refused)
}

/// The configuration file is read again: what can change under calls changes, and what cannot is named. A
/// file with a fault changes nothing.
pub(super) async fn reload(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
) -> Result<axum::Json<Reloaded>, Refused> {
    tracing::info!(by = by.0, "told to read the configuration again by the management API");
    let told = admin.0.parts.orders.give(|reply| Order::Reload { reply }).await;
    told.map(axum::Json).map_err(|told| Refused::new(StatusCode::CONFLICT, told))
}

/// `{"filter": "debug"}`: what is logged until the next start; without a filter it is told alone.
pub(super) async fn log(
    State(admin): State<Admin>,
    Extension(by): Extension<By>,
    Document(document): Document,
) -> Result<axum::Json<Value>, Refused> {
    let mut from = Members::new(document);
    let asked = from.text("filter", LONGEST_FILTER)?;
    from.end()?;
    let (sets, filter) = (asked.is_some(), asked.unwrap_or_default());
    let told = admin.0.parts.orders.give(|reply| Order::Log { filter, reply }).await;
    let filter = told.map_err(|told| Refused::told(StatusCode::BAD_REQUEST, &told))?;
    if sets {
        tracing::info!(filter, by = by.0, "what is logged was set by the management API");
    }
    Ok(axum::Json(json!({ "filter": filter })))
}

fn refused(told: String) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, told)
}
