//! `crosspoint stop`: the running gateway ends as on SIGTERM.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::ask::Management;
use super::{Failure, Setting, print};

/// How to end it.
#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Do not wait for calls: everybody is told goodbye.
    #[arg(long)]
    now: bool,
}

impl Stop {
    pub(super) fn execute(self, setting: &Setting) -> Result<ExitCode, Failure> {
        Management::of(setting)?.ask("POST", "/process/stop", Some(&json!({ "now": self.now })))?;
        if self.now {
            return print("stopping at once\n");
        }
        let most = setting.config.drain.as_secs();
        print(&format!(
            "stopping: no more calls are taken, those that stand have {most} s (drain); crosspoint stop --now \
             does not wait\n"
        ))
    }
}
