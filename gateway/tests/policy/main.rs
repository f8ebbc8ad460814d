//! The rules of a conference against a model of them that is written another way: 10 000 random
//! conferences' lives, 200 steps each, compared after every step.

#![allow(unreachable_pub, reason = "modules of one test")]
#![allow(clippy::cast_possible_truncation, reason = "a few clients and steps")]
#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod model;
mod trace;

use std::time::Duration;

use crosspoint_gateway::conference::policy::Rules;
use trace::Trace;

const TRACES: u64 = 10_000;
const STEPS: usize = 200;

/// S17 to S31, S34 to S38.
#[test]
fn s17_to_s38_the_policy_is_its_model_in_ten_thousand_random_lives() {
    // Both cores of a small machine; the seed of a life is its number, so that one can be run alone.
    let half = |parity: u64| {
        let lives = (0..TRACES).filter(|seed| seed % 2 == parity).map(live);
        lives.fold((0, 0), |(ended, seen), life| (ended + life.0, seen | life.1))
    };
    let (ended, seen) = std::thread::scope(|scope| {
        let odd = scope.spawn(|| half(1));
        let (even, odd) = (half(0), odd.join().unwrap());
        (even.0 + odd.0, even.1 | odd.1)
    });
    assert!(ended > 2 * TRACES as usize, "lives see conferences end and others begin: {ended}");
    assert_eq!(seen, (1 << trace::KINDS) - 1, "every way out, every denial");
}

/// How many conferences a life saw the end of, and what else it saw.
fn live(seed: u64) -> (usize, u32) {
    let mut trace = Trace::new(seed);
    for _ in 0..STEPS {
        trace.step();
    }
    trace.finish()
}

/// Times that meet each other often, and rooms that are full at times.
fn rules(mut choice: impl FnMut(u32) -> u32) -> Rules {
    Rules {
        tells_hosts: choice(2) == 0,
        parties: if choice(4) == 0 { 3 } else { 8 },
        invited_hosts_pass: choice(3) == 0,
        wait: Duration::from_secs(u64::from(choice(3) * 45 + 30)),
        guests_alone: Duration::from_secs(u64::from(choice(2) * 30 + 30)),
        last_one: Duration::from_secs(u64::from(choice(3) * 60)),
    }
}
