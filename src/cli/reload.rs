//! `crosspoint reload` and `crosspoint log`: orders to the running gateway.

use std::process::ExitCode;

use clap::Args;
use crosspoint_gateway::orders::Reloaded;
use serde_json::json;

use super::ask::Management;
use super::{Failure, Setting, print};

pub(super) fn execute(setting: &Setting) -> Result<ExitCode, Failure> {
    let answer = Management::of(setting)?.ask("POST", "/process/reload", None)?;
    let told: Reloaded = serde_json::from_value(answer)
        .map_err(|error| Failure::Told(format!("the gateway's answer cannot be read: {error}")))?;
    print(&in_words(&told))
}

/// What came of it, one line each.
pub(super) fn in_words(told: &Reloaded) -> String {
    let mut text = match told.changed.as_slice() {
        [] => "nothing that can change at once is another\n".to_owned(),
        changed => format!("changed: {}\n", changed.join(", ")),
    };
    if !told.restart.is_empty() {
        text.push_str(&format!("after a restart: {}\n", told.restart.join(", ")));
    }
    text
}

/// What to log.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// A level (off, error, warn, info, debug, trace) in place of what is logged; target=level beside
    /// it, as crosspoint_gateway::net=trace; default for what is configured. Without it: what is logged.
    #[arg(value_name = "LEVEL|TARGET=LEVEL")]
    filter: Option<String>,
}

impl Log {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        let asked = self.filter.map_or_else(|| json!({}), |filter| json!({ "filter": filter }));
        let answer = Management::of(setting)?.ask("POST", "/process/log", Some(&asked))?;
        print(&format!("{}\n", answer["filter"].as_str().unwrap_or_default()))
    }
}
