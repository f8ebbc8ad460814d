//! `crosspoint demo`: two phones, one gateway, three calls, and a table of what was measured.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use crosspoint_gateway::config::Log;

use super::{Failure, logging, print};

/// How to show it.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Folder for what each side heard and saw; made when it is not there.
    #[arg(long, value_name = "FOLDER", default_value = "crosspoint-demo")]
    out: PathBuf,

    /// This machine does other work meanwhile: show delays, but judge them ten times more mildly.
    #[arg(long)]
    shared_machine: bool,

    /// What to log: debug, or info,crosspoint_gateway::net=trace.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

impl Demo {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        logging::start(&Log::default(), Some(&self.log))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let began = Instant::now();
        let report =
            runtime.block_on(crosspoint::demo::run(&self.out, self.shared_machine, &mut |line: &str| {
                // Who does not read the progress may still want the table.
                let _ = print(&format!("{:5.1} s  {line}\n", began.elapsed().as_secs_f64()));
            }))?;
        print(&format!("{report}What was heard and seen: {}\n", self.out.display()))?;
        Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
