//! The table of measured proof.

use std::fmt;

/// One measure and what it was held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The call.
    pub call: &'static str,
    /// What was measured.
    pub what: String,
    /// What came out.
    pub measured: String,
    /// What it must be.
    pub promise: String,
    /// Whether it is.
    pub kept: bool,
}

/// Everything that the demo measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The table, in the order of the calls.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether there is proof, and all of it holds.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.kept)
    }

    pub(super) fn row(
        &mut self,
        call: &'static str,
        what: impl Into<String>,
        measured: impl Into<String>,
        promise: impl Into<String>,
        kept: bool,
    ) {
        self.rows.push(Row {
            call,
            what: what.into(),
            measured: measured.into(),
            promise: promise.into(),
            kept,
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = |of: fn(&Row) -> &str| {
            self.rows.iter().map(|row| of(row).chars().count()).max().unwrap_or_default()
        };
        let what = widest(|row| &row.what);
        let measured = widest(|row| &row.measured);
        let mut call = "";
        for row in &self.rows {
            if row.call != call {
                call = row.call;
                writeln!(f, "\n{call}")?;
            }
            let mark = if row.kept { "ok  " } else { "FAIL" };
            writeln!(f, "  {mark} {:what$}  {:measured$}  {}", row.what, row.measured, row.promise)?;
        }
        let failed = self.rows.iter().filter(|row| !row.kept).count();
        match failed {
            0 => writeln!(f, "\nAll {} proofs hold.", self.rows.len()),
            _ => writeln!(f, "\n{failed} of {} proofs failed.", self.rows.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_no_proof_and_one_failure_fails_all() {
        let mut report = Report::default();
        assert!(!report.passed());
        report.row("a call", "tone", "440.0 Hz", "440 Hz", true);
        assert!(report.passed());
        report.row("a call", "pictures", "3 of 200", "200 of 200", false);
        assert!(!report.passed());
        let text = report.to_string();
        assert!(text.contains("1 of 2 proofs failed") && text.contains("FAIL pictures"), "{text}");
    }
}
