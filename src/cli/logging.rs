//! Where log lines go: to standard error, for people or as JSON.

use std::io::{self, IsTerminal as _};

use crosspoint_gateway::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Failure;

/// Sets the process up to log. `filter` overrides the configured level: "debug",
/// "info,crosspoint_gateway::net=trace".
pub(super) fn start(log: &Log, filter: Option<&str>) -> Result<(), Failure> {
    let filter = filter.unwrap_or_else(|| log.level.word());
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::Told(format!("--log {filter} is not a filter: {error}; write a level, or target=level, ..."))
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let out = fmt::layer().with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Human => {
            registry.with(out.with_ansi(io::stderr().is_terminal()).with_target(false)).try_init()
        }
        LogFormat::Json => registry.with(out.json().flatten_event(true)).try_init(),
    };
    started.map_err(|error| Failure::Told(format!("logging cannot be set up: {error}")))
}
