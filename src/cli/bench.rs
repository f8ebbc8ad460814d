//! `crosspoint bench`: what this machine carries, in a table to read and to paste.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use crosspoint::capacity::{ROUNDS, Report, Row, measure};
use serde_json::json;

use super::{Failure, print};

/// Said below every table.
const NOTE: &str =
    "Absolute figures move with the clock of the processor and with all else that runs; the column x is in
yardsticks of the same run, which compares better.";

/// Said where the compiler held back.
const SLOW_BUILD: &str = "This is a development build: what counts is one with --release.\n";

/// How to measure.
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// How long to measure, after some seconds of preparation.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let terminal = io::stderr().is_terminal();
        let measured = measure(Duration::from_secs(self.seconds), &mut |what| {
            if terminal {
                eprint!("\r\x1b[K{what}");
            }
        });
        if terminal {
            eprint!("\r\x1b[K");
        }
        let report = measured.map_err(|error| Failure::Told(format!("cannot measure: {error}")))?;
        print(&if self.json { as_json(&report) } else { table(&report) })
    }
}

fn table(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "Crosspoint {} on {}, {} cores, kernels use {}\n\n",
        env!("CARGO_PKG_VERSION"),
        machine.processor,
        machine.cores,
        machine.level
    );
    let whats = report.rows.iter().map(|row| row.what.as_str());
    let width = whats.chain(report.per_core.iter().map(|it| it.what)).map(str::len).max().unwrap_or(0);
    let _ = writeln!(text, "{:width$}  {:>9}  {:>11}  {:>5}", "", "median", "x", "+-");
    for row in &report.rows {
        let (time, ratio) = (time(row.nanos), significant(report.ratio(row)));
        let spread = format!("{:.0} %", 50.0 * row.spread);
        let _ = writeln!(text, "{:width$}  {time:>9}  {ratio:>11}  {spread:>5}{}", row.what, per(row));
    }
    let _ = writeln!(text, "\nOne core of this machine is full with");
    for it in &report.per_core {
        let _ = writeln!(text, "{:width$}  {:>9}  {}", it.what, significant(it.count), it.basis);
    }
    let _ = writeln!(
        text,
        "\nMedians of {ROUNDS} rounds; +- is half of the way from the fastest to the slowest.\n{NOTE}"
    );
    if cfg!(debug_assertions) {
        text.push_str(SLOW_BUILD);
    }
    text
}

fn per(row: &Row) -> String {
    if row.per.is_empty() { String::new() } else { format!("  a {}", row.per) }
}

/// With a unit that leaves one to three digits before the point.
fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        nanos if nanos < 1e3 => (nanos, "ns"),
        nanos if nanos < 1e6 => (nanos / 1e3, "us"),
        _ => (nanos / 1e6, "ms"),
    };
    format!("{} {unit}", significant(value))
}

/// Three digits that count; whole numbers from 100 on.
fn significant(value: f64) -> String {
    let places = if value < 1.0 {
        3
    } else if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.places$}")
}

fn as_json(report: &Report) -> String {
    let rows = report.rows.iter().map(|row| {
        json!({
            "key": row.key, "what": row.what, "per": row.per, "nanoseconds": row.nanos,
            "yardsticks": report.ratio(row), "spread": row.spread,
        })
    });
    let per_core = report
        .per_core
        .iter()
        .map(|it| json!({ "key": it.key, "what": it.what, "count": it.count, "basis": it.basis }));
    let machine = &report.machine;
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": { "processor": machine.processor, "cores": machine.cores, "kernels": machine.level },
        "rounds": ROUNDS,
        "rows": rows.collect::<Vec<_>>(),
        "per_core": per_core.collect::<Vec<_>>(),
        "note": NOTE.replace('\n', " "),
    });
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let shown = [0.1234, 1.234, 12.34, 123.4, 1_234.0, 12_340_000.0].map(time);
        assert_eq!(shown, ["0.123 ns", "1.23 ns", "12.3 ns", "123 ns", "1.23 us", "12.3 ms"]);
        assert_eq!(significant(12_345.6), "12346");
    }
}
