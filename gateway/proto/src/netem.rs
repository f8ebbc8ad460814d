//! Networks as data, for tests in virtual time: no socket, no thread, no sleep.
//!
//! [`Link`] is one direction of a lossy road: loss, delay, jitter, duplication and reordering from
//! a seed, so that a failure repeats byte for byte. It carries anything, and asks for the time, so
//! a relay between real programs can use it as well. [`Pair`] and [`Net`] connect machines by such
//! links and by in-order byte pipes, fire their timers and keep their events.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Instant;

mod net;
mod wire;

pub use net::{Net, Node, Pair};
pub use wire::{Chunking, Sent, Verdict};

/// What a road does to what travels on it. All zero is a perfect one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Part that is lost, 0 to 1.
    pub loss: f64,
    /// How many are lost in a row, on average (Gilbert's model of two states). Up to one: each
    /// loss has nothing to do with the one before.
    pub burst: f64,
    /// Part that comes twice, 0 to 1; the twin has its own jitter.
    pub duplicate: f64,
    /// Part that is held back by [`Self::hold`], so that later ones overtake it.
    pub reorder: f64,
    /// Time on the road.
    pub delay: Duration,
    /// Added to the delay, even between zero and this. Jitter alone never changes the order.
    pub jitter: Duration,
    /// What a reordered one waits more.
    pub hold: Duration,
}

impl Conditions {
    /// Nothing lost, nothing late.
    pub const PERFECT: Self = Self {
        loss: 0.0,
        burst: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        hold: Duration::ZERO,
    };

    /// Perfect but for its length.
    #[must_use]
    pub const fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::PERFECT }
    }

    /// Loses that part, with a local network's delay.
    #[must_use]
    pub const fn lossy(loss: f64) -> Self {
        Self { loss, delay: Duration::from_millis(10), ..Self::PERFECT }
    }
}

/// What became of what was sent on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Given to the link.
    pub sent: u64,
    /// Never came out.
    pub lost: u64,
    /// Came out twice.
    pub duplicated: u64,
    /// Were held back.
    pub reordered: u64,
}

/// One direction of a road.
#[derive(Debug)]
pub struct Link<T> {
    conditions: Conditions,
    rng: ChaCha8Rng,
    under_way: BTreeMap<(Instant, u64), T>,
    sequence: u64,
    latest: Instant,
    /// In a burst of losses.
    losing: bool,
    counters: LinkCounters,
}

impl<T: Clone> Link<T> {
    /// An empty road; equal seeds make equal fates.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            conditions,
            rng: ChaCha8Rng::seed_from_u64(seed),
            under_way: BTreeMap::new(),
            sequence: 0,
            latest: Instant::ZERO,
            losing: false,
            counters: LinkCounters::default(),
        }
    }

    /// Changes the road for what is sent from now on.
    pub const fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// What was sent, lost, doubled and held back.
    pub const fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Puts something on the road.
    pub fn send(&mut self, now: Instant, item: T) {
        self.counters.sent = self.counters.sent.saturating_add(1);
        if self.loses() {
            self.counters.lost = self.counters.lost.saturating_add(1);
            return;
        }
        if self.chance(self.conditions.duplicate) {
            self.counters.duplicated = self.counters.duplicated.saturating_add(1);
            self.put(now, item.clone());
        }
        self.put(now, item);
    }

    /// When the next one comes out.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Takes one that has come out by `now`; call until `None`.
    pub fn receive(&mut self, now: Instant) -> Option<T> {
        let entry = self.under_way.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    fn put(&mut self, now: Instant, item: T) {
        let mut at = now + self.conditions.delay + self.conditions.jitter.mul_f64(self.unit());
        if self.chance(self.conditions.reorder) {
            self.counters.reordered = self.counters.reordered.saturating_add(1);
            at += self.conditions.hold;
        } else {
            at = at.max(self.latest);
            self.latest = at;
        }
        self.sequence = self.sequence.saturating_add(1);
        self.under_way.insert((at, self.sequence), item);
    }

    /// Whether the next one is lost. In bursts of a mean length b and for a part p of all, a burst
    /// ends with a chance of 1/b, and begins with one of p / (b (1 - p)).
    fn loses(&mut self) -> bool {
        let Conditions { loss, burst, .. } = self.conditions;
        let chance = match (burst > 1.0 && loss < 1.0, self.losing) {
            (false, _) => loss,
            (true, true) => 1.0 - 1.0 / burst,
            (true, false) => loss / (burst * (1.0 - loss)),
        };
        self.losing = self.chance(chance);
        self.losing
    }

    fn chance(&mut self, part: f64) -> bool {
        part > 0.0 && self.unit() < part
    }

    /// Even in 0 to 1.
    fn unit(&mut self) -> f64 {
        f64::from(self.rng.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, conditions: Conditions, count: u64) -> (Vec<u64>, LinkCounters) {
        let mut link = Link::new(seed, conditions);
        for i in 0..count {
            link.send(Instant::from_millis(i * 20), i);
        }
        let out = std::iter::from_fn(|| link.receive(Instant::FAR)).collect();
        (out, link.counters())
    }

    #[test]
    fn a_perfect_road_keeps_everything_in_order() {
        let (out, counters) = run(1, Conditions::PERFECT, 100);
        assert_eq!(out, (0..100).collect::<Vec<_>>());
        assert_eq!(counters, LinkCounters { sent: 100, ..LinkCounters::default() });
    }

    #[test]
    fn nothing_comes_before_its_time() {
        let mut link = Link::new(1, Conditions::delay(Duration::from_millis(30)));
        link.send(Instant::from_millis(5), 'x');
        assert_eq!(link.next_arrival(), Some(Instant::from_millis(35)));
        assert_eq!(link.receive(Instant::from_millis(34)), None);
        assert_eq!(link.receive(Instant::from_millis(35)), Some('x'));
        assert_eq!(link.next_arrival(), None);
    }

    #[test]
    fn jitter_alone_keeps_the_order() {
        let road = Conditions { jitter: Duration::from_millis(200), ..Conditions::PERFECT };
        let (out, _) = run(3, road, 500);
        assert_eq!(out, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn loss_duplication_and_reordering_have_their_share() {
        let road = Conditions {
            loss: 0.2,
            duplicate: 0.1,
            reorder: 0.1,
            hold: Duration::from_millis(50),
            ..Conditions::PERFECT
        };
        let (out, counters) = run(7, road, 10_000);
        assert!((1_800..2_200).contains(&counters.lost), "{counters:?}");
        assert!((700..900).contains(&counters.duplicated), "{counters:?}");
        assert!(out.windows(2).any(|w| w[0] > w[1]), "nothing overtook");
        assert_eq!(out.len() as u64, 10_000 - counters.lost + counters.duplicated);
    }

    #[test]
    fn bursts_have_their_share_and_their_length() {
        let road = Conditions { loss: 0.1, burst: 8.0, ..Conditions::PERFECT };
        let (out, counters) = run(11, road, 100_000);
        assert!((9_000..11_000).contains(&counters.lost), "{counters:?}");
        let bursts = out.windows(2).filter(|w| w[1] - w[0] > 1).count() as u64;
        assert!(
            (7.0..9.0).contains(&(counters.lost as f64 / bursts as f64)),
            "{bursts} bursts, {counters:?}"
        );
    }

    #[test]
    fn a_seed_is_a_fate() {
        let road = Conditions { loss: 0.3, reorder: 0.2, ..Conditions::lossy(0.3) };
        assert_eq!(run(9, road, 200), run(9, road, 200));
        assert_ne!(run(9, road, 200), run(10, road, 200));
    }
}
