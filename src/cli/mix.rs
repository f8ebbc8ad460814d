//! `crosspoint mix`: the sound of a conference from files, by the kernels of a call.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use crosspoint::offline::{Measure, Mixing, Report, Settings, mix_files};

use super::run::Signals;
use super::{Failure, print};

/// Who waits for longer than this wants to see that something happens.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at the progress.
const REFRESH: Duration = Duration::from_millis(200);

/// What to mix.
#[derive(Debug, Args)]
pub(super) struct Mix {
    /// The parties' sound: WAV, 16-bit PCM, mono or stereo (mixed down), at 8000, 16000, 24000, 32000
    /// or 48000 Hz.
    #[arg(value_name = "FILE.wav")]
    inputs: Vec<PathBuf>,
    /// Where the mix goes. The file appears when it is whole.
    #[arg(long, short, value_name = "FILE.wav")]
    output: PathBuf,
    /// One more file for each input, with everybody else: FILE-1.wav, FILE-2.wav, ...
    #[arg(long)]
    minus_one: bool,
    /// Limit peaks as a conference does; without, what is beyond full scale is cut.
    #[arg(long)]
    limit: bool,
    /// Rate of the mix. Without it: the highest of the inputs.
    #[arg(long, value_name = "HZ")]
    rate: Option<u32>,
}

impl Mix {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let settings = Settings { rate: self.rate, limit: self.limit, minus_one: self.minus_one };
        let mixing = Mixing { inputs: self.inputs, output: self.output, settings };
        let interrupted = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut signals = runtime.block_on(async { Signals::new() })?;
        let flag = interrupted.clone();
        runtime.spawn(async move {
            signals.next().await;
            flag.store(true, Ordering::Relaxed);
        });
        let mut progress = Progress::new();
        let mixed = mix_files(&mixing, &mut |position| {
            progress.show(position);
            !interrupted.load(Ordering::Relaxed)
        });
        progress.clear();
        let report = mixed.map_err(|error| {
            let text = error.to_string();
            if error.is_usage() { Failure::Arguments(text) } else { Failure::Told(text) }
        })?;
        print(&summary(&report, settings))
    }
}

/// A line on standard error, if that is a terminal and there is something to wait for.
struct Progress {
    began: Instant,
    next: Duration,
    terminal: bool,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { began: Instant::now(), next: PATIENCE, terminal: io::stderr().is_terminal(), shown: false }
    }

    fn show(&mut self, position: Duration) {
        if !self.terminal || self.began.elapsed() < self.next {
            return;
        }
        self.next = self.began.elapsed() + REFRESH;
        self.shown = true;
        eprint!("\rmixed {}", length(position));
    }

    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

fn summary(report: &Report, settings: Settings) -> String {
    let mut text = format!(
        "mixed {} files, {} at {} Hz, {}\n",
        report.inputs.len(),
        length(report.length),
        report.rate,
        if settings.limit { "peaks limited" } else { "saturated once" }
    );
    let inputs = report.inputs.iter().map(|(path, ..)| path.display().to_string());
    let outputs = report.outputs.iter().map(|output| output.path.display().to_string());
    let width = inputs.chain(outputs).map(|name| name.chars().count()).max().unwrap_or(0);
    for (path, shape, long) in &report.inputs {
        let _ = writeln!(text, "  {:width$}  {shape}, {}", path.display().to_string(), length(*long));
    }
    for (number, output) in report.outputs.iter().enumerate() {
        let without = number.checked_sub(1).and_then(|input| report.inputs.get(input));
        let who = without.map_or_else(|| "all".into(), |(path, ..)| format!("all but {}", path.display()));
        let level = level(output.measure, settings.limit);
        let _ = writeln!(text, "> {:width$}  {who}: {level}", output.path.display().to_string());
    }
    text
}

/// How loud it was before it was made to fit, and how much of it did not.
fn level(measure: Measure, limit: bool) -> String {
    let Some(peak) = measure.peak_dbfs() else {
        return "silence".into();
    };
    let share = format!("{} of {} samples", measure.over, measure.samples);
    let fate = if limit { "were above full scale and are limited" } else { "saturated" };
    format!("peak {peak:+.1} dBFS before, {share} {fate}")
}

fn length(time: Duration) -> String {
    let millis = time.as_millis();
    let (minutes, seconds) = (millis / 60_000, millis / 1_000 % 60);
    format!("{minutes}:{seconds:02}.{:03}", millis % 1_000)
}
