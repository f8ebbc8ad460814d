//! Deadlines by key: one for each, in order of time.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::Instant;

/// What falls due when. Bounded by the tables whose entries own the keys.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    order: BTreeSet<(Instant, K)>,
    by_key: HashMap<K, Instant>,
}

impl<K: Ord + Hash + Copy> Schedule<K> {
    pub(super) fn new() -> Self {
        Self { order: BTreeSet::new(), by_key: HashMap::new() }
    }

    /// Sets, moves or (`None`) removes the deadline of a key.
    pub(super) fn set(&mut self, key: K, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_key.insert(key, at),
            None => self.by_key.remove(&key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, key));
        }
        if let Some(at) = at {
            self.order.insert((at, key));
        }
    }

    /// Takes the key that fell due first.
    pub(super) fn due(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.order.first()?;
        if at > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(at, _)| at)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fall_due_in_order_of_time_and_once() {
        let mut schedule = Schedule::new();
        let at = Instant::from_millis;
        schedule.set('b', Some(at(20)));
        schedule.set('a', Some(at(10)));
        schedule.set('c', Some(at(30)));
        schedule.set('b', Some(at(5)));
        schedule.set('c', None);
        assert_eq!(schedule.next(), Some(at(5)));
        assert_eq!(schedule.due(at(4)), None);
        assert_eq!(schedule.due(at(10)), Some('b'));
        assert_eq!(schedule.due(at(10)), Some('a'));
        assert_eq!((schedule.due(at(99)), schedule.len()), (None, 0));
    }
}
