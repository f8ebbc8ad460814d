//! `crosspoint trace`: what happened on the legs of a call, as a ladder.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::ask::{Management, escaped};
use super::{Failure, Setting, print};

mod draw;

/// Columns where the output is no terminal.
const COLUMNS: usize = 100;

/// Which call, and how it is shown.
#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Its number, as status and records show it, or what only its number begins with.
    call: String,
    /// As JSON, one line each for the call, its steps and its streams.
    #[arg(long)]
    json: bool,
    /// Columns to draw in. Without it: those of the terminal, else 100.
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(60..=500), conflicts_with = "json")]
    width: Option<u16>,
}

impl Trace {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        let path = format!("/calls/{}/trace", escaped(&self.call));
        let trace = Management::of(setting)?.ask("GET", &path, None)?;
        if self.json {
            return print(&lines(trace));
        }
        let width = self.width.map(usize::from).or_else(terminal).unwrap_or(COLUMNS);
        print(&draw::ladder(&trace, width))
    }
}

/// The columns of the terminal, if the output is one.
fn terminal() -> Option<usize> {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns >= 60)
}

/// The call, then its steps, then its streams.
fn lines(mut trace: Value) -> String {
    let (steps, legs) = (trace["steps"].take(), trace["legs"].take());
    if let Value::Object(members) = &mut trace {
        members.retain(|name, _| name != "steps" && name != "legs");
        members.insert("kind".into(), "call".into());
    }
    let mut out = vec![trace];
    out.extend(steps.as_array().into_iter().flatten().cloned());
    for leg in legs.as_array().into_iter().flatten() {
        for stream in leg["streams"].as_array().into_iter().flatten() {
            let mut stream = stream.clone();
            if let Value::Object(members) = &mut stream {
                members.insert("kind".into(), "media".into());
                members.insert("leg".into(), leg["leg"].clone());
            }
            out.push(stream);
        }
    }
    out.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_lines_are_the_call_its_steps_and_its_streams() {
        let trace = json!({
            "call": 7,
            "legs": [{"leg": 1, "streams": [{"role": "audio", "packets_lost": 3}]}],
            "steps": [{"ms": 0.0, "kind": "note", "text": "a\u{1b}b"}],
        });
        let lines = lines(trace);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"kind": "call", "call": 7}));
        assert_eq!(lines[1]["text"], "a\u{1b}b");
        assert_eq!(lines[2], json!({"kind": "media", "leg": 1, "role": "audio", "packets_lost": 3}));
        assert_eq!(lines.len(), 3);
    }
}
