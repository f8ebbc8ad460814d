//! Commands to a conference in progress, over the management API of the gateway that runs.

use std::fmt::Write as _;
use std::process::ExitCode;

use crosspoint_gateway::records::clean;
use serde_json::Value;

use crate::cli::ask::{Management, escaped};
use crate::cli::{Failure, Setting, print};

/// To all of it.
pub(super) fn command(
    setting: &Setting,
    name: &str,
    command: &str,
    body: Option<&Value>,
) -> Result<ExitCode, Failure> {
    let path = format!("/conferences/{}/{command}", escaped(name));
    Management::of(setting)?.ask("POST", &path, body)?;
    print(&format!("{command}: done\n"))
}

/// To one who is there.
pub(super) fn to_one(
    setting: &Setting,
    name: &str,
    uuid: &str,
    command: &str,
    body: Option<&Value>,
) -> Result<ExitCode, Failure> {
    let path = format!("/conferences/{}/participants/{}/{command}", escaped(name), escaped(uuid));
    Management::of(setting)?.ask("POST", &path, body)?;
    print(&format!("{command}: done\n"))
}

/// Who is there.
pub(super) fn participants(setting: &Setting, name: &str) -> Result<ExitCode, Failure> {
    let path = format!("/status/conferences/{}/participants", escaped(name));
    let answer = Management::of(setting)?.ask("GET", &path, None)?;
    let mut text = String::new();
    for party in answer["participants"].as_array().into_iter().flatten() {
        let word = |field: &str| clean(party[field].as_str().unwrap_or("-"));
        let muted = if party["muted"] == true { ", muted" } else { "" };
        let streams: Vec<String> = party["streams"].as_array().into_iter().flatten().map(stream).collect();
        let _ = writeln!(
            text,
            "{}  {}  {} {}{muted}  {}  {}",
            word("uuid"),
            word("name"),
            word("role"),
            word("place"),
            word("protocol"),
            streams.join(", "),
        );
    }
    print(&text)
}

fn stream(stream: &Value) -> String {
    let word = |field: &str| clean(stream[field].as_str().unwrap_or("-"));
    let size = stream["resolution_received"].as_str().map(|it| format!(" {it}")).unwrap_or_default();
    let loss = stream["loss_percent"].as_f64().unwrap_or_default();
    format!("{} {}{size} loss {loss:.1} %", word("role"), word("receive"))
}
