//! Where log lines go: to standard error, for people or as JSON. How much can be changed while it runs.

mod line;

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};

use crosspoint_gateway::config::{Log, LogFormat};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::Failure;

/// Longest filter, in bytes: one that is added to again and again ends there.
const LONGEST: usize = 4096;

/// The words for how much.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How much is logged, as it changes.
pub(super) struct Levels {
    handle: Handle<EnvFilter, Registry>,
    /// As the command line has it, which counts before the configuration.
    asked: Option<String>,
    state: Mutex<State>,
}

struct State {
    /// As configured.
    default: String,
    now: String,
}

/// Sets the process up to log. `filter` overrides the configured level: "debug",
/// "info,crosspoint_gateway::net=trace".
pub(super) fn start(log: &Log, filter: Option<&str>) -> Result<Levels, Failure> {
    let text = filter.unwrap_or_else(|| log.level.word());
    let parsed = EnvFilter::try_new(text).map_err(|error| {
        Failure::Told(format!("--log {text} is not a filter: {error}; write a level, or target=level, ..."))
    })?;
    let (layer, handle) = reload::Layer::new(parsed);
    let registry = tracing_subscriber::registry().with(layer);
    let out = fmt::layer().with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Human => {
            let out = out.with_ansi(io::stderr().is_terminal()).with_target(false);
            registry.with(out.fmt_fields(line::fields())).try_init()
        }
        LogFormat::Json => registry.with(out.event_format(line::Json).fmt_fields(line::Json)).try_init(),
    };
    started.map_err(|error| Failure::Told(format!("logging cannot be set up: {error}")))?;
    let state = State { default: text.into(), now: text.into() };
    Ok(Levels { handle, asked: filter.map(Into::into), state: Mutex::new(state) })
}

impl Levels {
    /// "debug" in place of what is logged, "target=debug" beside it, "default" as configured, "" as it
    /// is. Gives what is logged now.
    pub(super) fn set(&self, asked: &str) -> Result<String, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = wanted(&state.default, &state.now, asked)?;
        if wanted != state.now {
            let cannot = |error: &dyn std::fmt::Display| format!("filter: {asked} cannot be used: {error}");
            let filter = EnvFilter::try_new(&wanted).map_err(|error| cannot(&error))?;
            self.handle.reload(filter).map_err(|error| cannot(&error))?;
            state.now.clone_from(&wanted);
        }
        Ok(wanted)
    }

    /// The configuration has another level; unless the command line has one, which stays.
    pub(super) fn configure(&self, log: &Log) {
        if self.asked.is_some() {
            return;
        }
        let word = log.level.word();
        let changed = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut state.default, word.into()) != word
        };
        if changed && let Err(error) = self.set("default") {
            tracing::warn!(error, "the level of the configuration is not used");
        }
    }
}

/// What is logged from now on.
fn wanted(default: &str, now: &str, asked: &str) -> Result<String, String> {
    match asked {
        "" => return Ok(now.into()),
        "default" => return Ok(default.into()),
        _ => {}
    }
    let mut beside = true;
    for part in asked.split(',') {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        beside &= target.is_some();
        let named = |it: &str| {
            !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
        };
        // A word that is no level would be taken for a target, of which nobody hears anything.
        if !LEVELS.contains(&level) || !target.is_none_or(named) {
            return Err(format!(
                "filter: \"{part}\" is no level: write one of {}, or target=level as crosspoint_gateway::net=debug",
                LEVELS.join(", ")
            ));
        }
    }
    // The last that names a target counts.
    let wanted = if beside { format!("{now},{asked}") } else { asked.to_owned() };
    if wanted.len() > LONGEST {
        return Err("filter: too much has been added: begin anew with \"default\"".into());
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_in_place_of_what_was_and_a_target_beside_it() {
        let is = |now: &str, asked: &str| wanted("info", now, asked);
        assert_eq!(is("warn", "debug"), Ok("debug".into()));
        assert_eq!(
            is("warn", "crosspoint_gateway::net=trace"),
            Ok("warn,crosspoint_gateway::net=trace".into())
        );
        assert_eq!(is("warn", "error,sip=debug"), Ok("error,sip=debug".into()));
        assert_eq!(is("warn", "default"), Ok("info".into()));
        assert_eq!(is("warn", ""), Ok("warn".into()));
        for wrong in ["debgu", "sip=", "=debug", "sip=loud", "a b=info", "info,", "sip[x]=info"] {
            let told = is("warn", wrong).unwrap_err();
            assert!(told.starts_with("filter: ") && told.contains("write one of off, error"), "{told}");
        }
        assert!(is(&"x=info,".repeat(1000), "a=info").unwrap_err().contains("default"));
    }
}
