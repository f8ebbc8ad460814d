//! Time stamps and media time, both ways.
//!
//! A leg has one timeline for all its streams. [`ReceiveTimeline`] puts the stamps of one stream on
//! it, by arrival at first and by the sender's reports from then on, without jumps; [`SendTimeline`]
//! makes stamps of it that go on over every change of route.

mod receive;
mod send;

pub use receive::{LegClock, ReceiveTimeline, TimelineStats};
pub use send::{RouteClock, SendTimeline};

/// Nanoseconds of so many ticks.
fn ticks_to_nanos(ticks: i64, clock: u32) -> i64 {
    let nanos = i128::from(ticks).saturating_mul(1_000_000_000);
    let nanos = nanos.checked_div(i128::from(clock)).unwrap_or(0);
    i64::try_from(nanos).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

/// Ticks of so many nanoseconds, to the nearest.
fn nanos_to_ticks(nanos: i64, clock: u32) -> i64 {
    let ticks = i128::from(nanos).saturating_mul(i128::from(clock)).saturating_add(500_000_000);
    i64::try_from(ticks.div_euclid(1_000_000_000)).unwrap_or(0)
}

/// The low 32 bits.
fn wrap(ticks: i64) -> u32 {
    let [_, _, _, _, a, b, c, d] = ticks.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn signed_nanos(at: crate::Instant) -> i64 {
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX)
}
