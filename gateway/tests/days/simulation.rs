//! Promise 49: whatever roads, clocks and disks do, what holds goes on holding, and a seed that shows
//! otherwise shows it each time.

use std::time::Duration;

use crosspoint_proto::netem::Conditions;
use sha2::{Digest, Sha256};

use crate::load;
use crate::town::{Tally, Town};

const STEP: Duration = Duration::from_millis(50);

/// Ten minutes, and what came of them: all that was sent, when, as one hash.
fn live_through(seed: u64) -> (Tally, [u8; 32]) {
    let good = Conditions::delay(Duration::from_millis(20));
    let mut town = Town::new(seed, 6, 3, good);
    town.net.keep_log();
    for _ in 0..60 {
        for _ in 0..town.below(3) {
            let (from, to) = (town.below(6) as usize, town.below(6) as usize);
            let lasts = Duration::from_millis(u64::from(town.below(30_000)));
            town.call(from, to, lasts);
            town.run(Duration::from_secs(1), STEP);
        }
        match town.below(8) {
            0 => {
                let road = Conditions {
                    loss: f64::from(town.below(40)) / 100.0,
                    burst: f64::from(town.below(5)),
                    duplicate: 0.1,
                    reorder: 0.1,
                    delay: Duration::from_millis(u64::from(town.below(200))),
                    jitter: Duration::from_millis(50),
                    hold: Duration::from_millis(80),
                };
                let node = 1 + town.below(3) as usize;
                town.set_road_of(node, road);
            }
            // One that leads nowhere.
            1 => {
                let node = 1 + town.below(3) as usize;
                town.set_road_of(node, Conditions::lossy(1.0));
            }
            2 => town.disk_fails = true,
            3 => town.disk_fails = false,
            4 => town.ahead = Duration::from_secs(u64::from(town.below(7_200))),
            5 if town.below(3) == 0 => town.kill(seed),
            6 => town.cut(),
            _ => town.set_road(good),
        }
        town.check();
        town.run(Duration::from_secs(8), STEP);
        town.check();
    }
    // Everything is well again: everybody comes back, and nothing of all that is left.
    town.set_road(good);
    town.disk_fails = false;
    town.run(Duration::from_secs(900), STEP);
    town.assert_quiet();
    let mut hash = Sha256::new();
    for sent in town.net.log() {
        hash.update(format!("{:?} {} {:?} {}", sent.at, sent.from, sent.to, sent.data.len()));
        hash.update(&sent.data);
    }
    (town.tally, hash.finalize().into())
}

/// 100 seeds; 2000 in the release gate. The first tenth of them twice.
#[test]
fn promise_49_whatever_happens_what_holds_goes_on_holding_and_a_seed_tells_it_again() {
    let seeds = load("CROSSPOINT_SEEDS", 100);
    let begin = load("CROSSPOINT_FIRST_SEED", 0);
    let mut sum = Tally::default();
    for seed in begin..begin + seeds {
        println!("seed {seed}: alone with CROSSPOINT_FIRST_SEED={seed} CROSSPOINT_SEEDS=1");
        let (tally, hash) = live_through(seed);
        if seed - begin < seeds.div_ceil(10) {
            assert_eq!(live_through(seed), (tally, hash), "seed {seed} is another one the second time");
        }
        sum.registered += tally.registered;
        sum.talked += tally.talked;
        sum.refused += tally.refused;
    }
    assert!(sum.registered > 40 * seeds && sum.talked > 5 * seeds && sum.refused > seeds, "{sum:?}");
}
