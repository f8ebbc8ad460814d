//! `/status/bans`: sources of SIP of which nothing is read for a while.

use std::net::IpAddr;

use axum::extract::State;
use serde_json::{Value, json};

use super::answer::Refused;
use super::body::{Asked, Named};
use super::{Admin, By};
use crate::events::What;

pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(asked): Asked,
) -> Result<axum::Json<Value>, Refused> {
    asked.end()?;
    let bans = admin.0.parts.gate.bans();
    let list = bans.iter().map(|(source, left)| json!({ "source": source, "seconds": left.as_secs() }));
    Ok(axum::Json(json!({ "bans": list.collect::<Vec<_>>() })))
}

/// Lifts one. There may be none any more, or none yet: both are what was asked for.
pub(super) async fn lift(
    State(admin): State<Admin>,
    axum::Extension(By(by)): axum::Extension<By>,
    Named(address): Named<String>,
) -> Result<axum::Json<Value>, Refused> {
    let wrong = |_| Refused::field("address", "is not an address: write \"192.0.2.1\"");
    let address: IpAddr = address.parse().map_err(wrong)?;
    let lifted = admin.0.parts.gate.lift(address);
    if lifted {
        tracing::info!(source = %address, by, "ban lifted");
        let told = What::SettingChanged { kind: "ban", name: address.to_string(), change: "removed", by };
        admin.0.parts.events.tell(admin.0.parts.clock.both().wall, told);
    }
    Ok(axum::Json(json!({ "lifted": lifted })))
}
