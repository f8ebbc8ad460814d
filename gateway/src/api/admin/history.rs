//! `/history/calls`: the call records, newest first, page by page.

use axum::extract::State;
use serde_json::{Value, json};

use super::Admin;
use super::answer::Refused;
use super::body::Asked;
use crate::records::{History, Mark};

/// Records of one page, unless asked otherwise, and at most.
const PAGE: u64 = 50;
const MOST: u64 = 500;

/// Longest mark.
const MARK: usize = 40;

/// `?limit=50&before=...`: `before` is the `next` of the page before.
pub(super) async fn calls(
    State(admin): State<Admin>,
    Asked(mut asked): Asked,
) -> Result<axum::Json<Value>, Refused> {
    let limit = asked.number("limit", 1..=MOST)?.unwrap_or(PAGE);
    let before = asked.text("before", MARK)?;
    asked.end()?;
    let before = before.map(|text| text.parse::<Mark>()).transpose();
    let before = before.map_err(|error| Refused::field("before", error.to_string()))?;
    let folder = admin.0.parts.data.clone();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let read = tokio::task::spawn_blocking(move || History::new(&folder).before(before, limit)).await;
    let page = read.map_err(|_| Refused::busy())?;
    let page = page.map_err(|error| {
        let told = format!("the call records cannot be read: {error}");
        Refused::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, told)
    })?;
    let Some(page) = page else {
        let told = "the records that this page stood in are removed: begin anew without it";
        return Err(Refused::not_found(told));
    };
    Ok(axum::Json(json!({ "calls": page.records, "next": page.next.map(|it| it.to_string()) })))
}
