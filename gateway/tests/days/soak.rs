//! Promise 47: a day of registrations and calls leaves nothing behind.

use std::time::Duration;

use crosspoint_proto::netem::Conditions;

use crate::town::{EXPIRES, Town};
use crate::{live, load};

const HOUR: Duration = Duration::from_secs(3_600);

const STEP: Duration = Duration::from_millis(100);

/// One in a hundred datagrams is lost, one in a hundred comes twice.
const ROAD: Conditions =
    Conditions { duplicate: 0.01, jitter: Duration::from_millis(30), ..Conditions::lossy(0.01) };

/// Allocations that are live when nobody calls and the road is good, over one round of refreshes.
fn rest(town: &mut Town) -> f64 {
    town.set_road(Conditions::delay(Duration::from_millis(10)));
    town.run(Duration::from_secs(400), STEP);
    town.assert_quiet();
    town.forget();
    let seconds = (EXPIRES / 2).as_secs() * 2;
    let mut sum = 0;
    for _ in 0..seconds {
        town.run(Duration::from_secs(1), STEP);
        sum += live();
    }
    town.set_road(ROAD);
    sum as f64 / seconds as f64
}

/// 24 hours with 35 telephones that register each minute and 5000 calls; in the release gate ten times as
/// many of both.
#[test]
fn promise_47_a_day_of_calls_and_refreshes_leaves_nothing() {
    let scale = load("CROSSPOINT_SOAK", 1);
    let (phones, calls) = (35 * scale, 5_000 * scale);
    let mut town = Town::new(47, usize::try_from(phones).unwrap(), 1, ROAD);
    let between = 24 * HOUR / u32::try_from(calls).unwrap();
    let mut first = 0.0;
    for hour in 1..=24 {
        for _ in 0..calls / 24 {
            let from = town.below(u32::try_from(phones).unwrap()) as usize;
            let to = town.below(u32::try_from(phones).unwrap()) as usize;
            let lasts = Duration::from_secs(1 + u64::from(town.below(90)));
            town.call(from, to, lasts);
            town.run(between, STEP);
        }
        if hour == 1 || hour == 24 {
            let now = rest(&mut town);
            println!("hour {hour}: {now:.0} live allocations, {:?}", town.tally);
            if hour == 1 {
                first = now;
            } else {
                assert!(now <= first * 1.01, "{first:.0} became {now:.0}");
            }
        }
    }
    assert!(town.tally.registered > 1_300 * phones, "{:?}", town.tally);
    assert!(town.tally.talked * 2 > calls, "{:?}", town.tally);
}
