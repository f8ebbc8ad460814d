//! What everybody who tries has spent: a table that has an end, and out of which nobody is pushed.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use sha2::{Digest as _, Sha256};

use super::budget::Budget;
use super::who::{Source, Who};

/// Addresses that are counted one by one. When the table is full, those that are not in it are counted
/// by network until others are forgotten.
pub const SOURCES: usize = 65_536;
/// Counters of networks. Which one a network has nobody knows, for a secret is in the sum.
const NETWORKS: usize = 1_024;
/// What is spent is paid back one by one, every two minutes; the first five cost no wait: people mistype.
const TRIES: Budget = Budget::new(TRIES_FREE, Duration::from_secs(120));
/// From the sixth on 2, 4, 8 seconds and so on, up to 17 minutes.
const LONGEST_POWER: u32 = 10;
/// Of one who has been verified, beyond what the room has left: five in any day.
pub(super) const BEYOND: Budget = Budget::a_day(3, 5);
/// Full tables are looked through for what can be forgotten, at most so often.
const SWEEP: Duration = Duration::from_secs(1);

/// What somebody has spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// When all wrong attempts are paid back.
    pub(super) clear: Instant,
    /// Nothing of his is read before.
    pub(super) until: Instant,
    /// When what he has spent beyond a room's budget is paid back.
    pub(super) beyond: Instant,
}

impl Record {
    /// One more was wrong.
    pub(super) fn wrong(&mut self, now: Instant) {
        // Many may share a record: none is in debt for longer than one alone could be.
        self.clear = TRIES.spend(self.clear, now).min(now + LONGEST_DEBT);
        let over = TRIES.level(self.clear, now).saturating_sub(TRIES_FREE);
        if over > 0 {
            self.until = now + Duration::from_secs(1 << over.min(LONGEST_POWER));
        }
    }

    /// How long nothing of his is read.
    pub(super) const fn wait(&self, now: Instant) -> Duration {
        self.until.saturating_since(now)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.clear <= now && self.until <= now && self.beyond <= now
    }

    /// As it can be at most: a clock that was set back locks nobody out for longer than anything would.
    pub(super) fn at_most(self, now: Instant) -> Self {
        Self {
            clear: self.clear.min(now + LONGEST_DEBT),
            until: self.until.min(now + Duration::from_secs(1 << LONGEST_POWER)),
            beyond: self.beyond.min(BEYOND.latest(now)),
        }
    }
}

const TRIES_FREE: u32 = 5;
/// Who waits for the longest has not spent more than that.
const LONGEST_DEBT: Duration = Duration::from_secs(120 * 16);

#[derive(Debug)]
pub(super) struct Sources {
    known: HashMap<Who, Record>,
    networks: Vec<Record>,
    secret: [u8; 16],
    swept: Instant,
    /// Those whose record is another than in the store.
    pub(super) changed: HashSet<Who>,
}

impl Sources {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self {
            known: HashMap::new(),
            networks: vec![Record::default(); NETWORKS],
            secret,
            swept: Instant::ZERO,
            changed: HashSet::new(),
        }
    }

    /// What `who` has spent, or his network in his place.
    pub(super) fn of(&self, who: &Who) -> Record {
        let own = self.known.get(who).copied();
        own.unwrap_or_else(|| match who {
            Who::Source(source) if self.known.len() >= SOURCES => {
                self.networks.get(self.shared(*source)).copied().unwrap_or_default()
            }
            _ => Record::default(),
        })
    }

    pub(super) fn change(&mut self, now: Instant, who: &Who, how: impl FnOnce(&mut Record)) {
        if self.known.len() >= SOURCES && now.saturating_since(self.swept) >= SWEEP {
            self.swept = now;
            self.known.retain(|_, record| !record.is_over(now));
        }
        match who {
            Who::Source(source) if self.known.len() >= SOURCES && !self.known.contains_key(who) => {
                let at = self.shared(*source);
                if let Some(record) = self.networks.get_mut(at) {
                    how(record);
                }
            }
            // Devices are as many as the administrator has set up, and each has been at few addresses.
            _ => {
                how(self.known.entry(who.clone()).or_default());
                self.changed.insert(who.clone());
            }
        }
    }

    /// Takes up what was stored.
    pub(super) fn restore(&mut self, now: Instant, who: Who, record: Record) {
        if !record.is_over(now) && self.known.len() < SOURCES {
            self.known.insert(who, record.at_most(now));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn shared(&self, source: Source) -> usize {
        let network = source.network().to_string();
        let sum = Sha256::new().chain_update(self.secret).chain_update(network).finalize();
        let sum = sum.iter().take(4).fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        sum % NETWORKS
    }
}
