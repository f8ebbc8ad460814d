//! What this machine carries: each part of the work measured by itself, and what follows for one
//! core.
//!
//! Figures of time move with the clock and with whatever else runs. Three things are done about it:
//! rounds go through all parts in turn, so that a disturbance hits all of them; medians are taken;
//! and a [`YARDSTICK`] of plain arithmetic is measured among them, so that two runs, or two
//! machines, can be compared by ratios.

mod pictures;
mod probe;
mod relay;
mod room;
mod signals;
mod sound;

use std::time::Duration;
use std::{fs, thread};

use crosspoint_codecs::codec::CodecError;
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_gateway::media::EngineError;

use probe::Probe;
pub use probe::{ROUNDS, Row};
use room::TICK;

/// The row that others are divided by.
pub const YARDSTICK: &str = "yardstick";

/// Packets of 20 ms a second in a call with sound both ways.
const PACKETS_A_SECOND: f64 = 100.0;

/// Pictures a second.
const PICTURES: f64 = 30.0;

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// A codec or kernel could not be made.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A part refused work that it should do: a fault of ours.
    #[error("{0} did not work")]
    Idle(&'static str),
}

/// Where it was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// As the system calls it.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Instructions that the kernels use, one of
    /// [`LEVELS`](crosspoint_codecs::kernels::cpu::LEVELS).
    pub level: &'static str,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = told.lines().find(|line| line.starts_with("model name"));
        let name = name.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
        Self {
            processor: name.unwrap_or_else(|| "unknown processor".into()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            level: Cpu::detect().name(),
        }
    }
}

/// What one core does, from the medians.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// A word for programs.
    pub key: &'static str,
    /// What is counted.
    pub what: &'static str,
    /// How many.
    pub count: f64,
    /// What it is made of and what it leaves out.
    pub basis: &'static str,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// What was measured, [`YARDSTICK`] first.
    pub rows: Vec<Row>,
    /// What follows.
    pub per_core: Vec<Estimate>,
}

impl Report {
    /// A row in yardsticks.
    pub fn ratio(&self, row: &Row) -> f64 {
        row.nanos / nanos(&self.rows, YARDSTICK)
    }
}

/// Measures for about as long as `budget`, after some seconds of preparation. `progress` hears what
/// goes on.
pub fn measure(budget: Duration, progress: &mut dyn FnMut(&str)) -> Result<Report, CapacityError> {
    progress("making sound and pictures to work on");
    let mut probes = vec![yardstick()];
    probes.extend(sound::mixes());
    probes.extend(sound::codecs()?);
    probes.extend(sound::resamplers()?);
    probes.extend(pictures::probes()?);
    probes.extend(relay::probes()?);
    probes.extend(room::probes()?);
    let rows = probe::measure(probes, budget, progress);
    let per_core = estimates(&rows);
    Ok(Report { machine: Machine::this(), rows, per_core })
}

fn estimates(rows: &[Row]) -> Vec<Estimate> {
    let nanos = |key| nanos(rows, key);
    let tick = TICK.as_secs_f64() * SECOND;
    let estimate = |key, what, count, basis| Estimate { key, what, count, basis };
    let relayed = |key| SECOND / (nanos(key) * PACKETS_A_SECOND);
    vec![
        estimate(
            "relayed-calls",
            "calls relayed, plain RTP",
            relayed("relay-rtp"),
            "sound both ways, 100 packets/s; our code alone, without the kernel and its sockets",
        ),
        estimate(
            "relayed-calls-srtp",
            "calls relayed, SRTP on both sides",
            relayed("relay-srtp"),
            "the same with packets opened and sealed anew",
        ),
        estimate(
            "transcoded-calls",
            "calls PCMU <-> Opus",
            tick / nanos("call-pcmu-opus"),
            "engine alone: playout, decoding, resampling, encoding, both ways",
        ),
        estimate(
            "conference-legs",
            "Opus legs of a conference, 3 talk",
            100.0 * tick / nanos("room-100"),
            "engine alone, from the room of 100; everybody sends a packet in each tick",
        ),
        estimate(
            "encodes-720p30",
            "720p30 encoders, H.264",
            SECOND / PICTURES / nanos("h264-720-encode"),
            "one thread, 1.5 Mbit/s, the moving picture of this bench",
        ),
    ]
}

fn nanos(rows: &[Row], key: &str) -> f64 {
    rows.iter().find(|row| row.key == key).map_or(f64::NAN, |row| row.nanos)
}

/// Plain dependent arithmetic that no compiler takes apart and no cache matters to.
fn yardstick() -> Probe {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    Probe::timed(YARDSTICK, "yardstick: 1000 dependent steps of xorshift64*", "", 1.0, move || {
        for _ in 0..1_000 {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        }
        std::hint::black_box(state);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_from_the_medians() {
        let row = |key, nanos| Row { key, what: String::new(), per: "", nanos, spread: 0.0 };
        let rows = [
            row(YARDSTICK, 4_000.0),
            row("relay-rtp", 100.0),
            row("relay-srtp", 1_000.0),
            row("call-pcmu-opus", 200_000.0),
            row("room-100", 1_000_000.0),
            row("h264-720-encode", 10_000_000.0),
        ];
        let counts: Vec<f64> = estimates(&rows).iter().map(|it| it.count.round()).collect();
        assert_eq!(counts, [100_000.0, 10_000.0, 100.0, 2_000.0, 3.0]);
        let report = Report { machine: Machine::this(), rows: rows.into(), per_core: Vec::new() };
        assert!((report.ratio(&report.rows[2]) - 0.25).abs() < 1e-9);
    }
}
