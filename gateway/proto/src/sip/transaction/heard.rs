//! Which addresses hear us, and how much goes to one that may not.
//!
//! A datagram says where it comes from, and anybody can write that. Whoever repeats to us what only that
//! address was told (a tag, a branch) is there. Until then it is sent three times what came from it at
//! most, as QUIC has it (RFC 9000 section 8.1); SIP itself knows no such rule, and would have a 2xx sent
//! eleven times (RFC 3261 section 13.3.1.4).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::Instant;

/// How many times its own octets an address gets that was not heard of.
const MOST: usize = 3;

/// How many of these before the final response, so that there are some left for that.
const BEFORE_THE_END: usize = 2;

/// How long an address counts as heard of: the next call of a telephone is within the hour, or begins
/// with a challenge.
const MEMORY: Duration = Duration::from_secs(3_600);

/// Addresses remembered, some 100 octets each. The oldest is forgotten first: its next call has fewer
/// repetitions, no more.
const ADDRESSES: usize = 16_384;

/// Addresses that have shown that they hear us.
#[derive(Debug, Default)]
pub(super) struct Heard {
    until: HashMap<IpAddr, Instant>,
    /// As they were first heard of.
    order: VecDeque<IpAddr>,
}

impl Heard {
    pub(super) fn add(&mut self, now: Instant, address: IpAddr) {
        if self.until.insert(address.to_canonical(), now + MEMORY).is_some() {
            return;
        }
        self.order.push_back(address.to_canonical());
        if self.order.len() > ADDRESSES
            && let Some(oldest) = self.order.pop_front()
        {
            self.until.remove(&oldest);
        }
    }

    pub(super) fn knows(&self, now: Instant, address: IpAddr) -> bool {
        self.until.get(&address.to_canonical()).is_some_and(|until| now < *until)
    }
}

/// What one request may have sent to where it says that it comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    came: usize,
    went: usize,
}

impl Allowance {
    /// The request, or a repetition of it.
    pub(super) const fn came(&mut self, octets: usize) {
        self.came = self.came.saturating_add(octets);
    }

    /// Whether that much more may go. If so it has gone.
    pub(super) const fn spend(&mut self, octets: usize, last: bool) -> bool {
        let times = if last { MOST } else { BEFORE_THE_END };
        if self.went.saturating_add(octets) > self.came.saturating_mul(times) {
            return false;
        }
        self.must(octets);
        true
    }

    /// It goes, be there something left or not.
    pub(super) const fn must(&mut self, octets: usize) {
        self.went = self.went.saturating_add(octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_for_an_hour() {
        let mut heard = Heard::default();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let at = Instant::from_millis;
        for n in 0..u32::try_from(ADDRESSES).unwrap() + 1 {
            heard.add(at(0), address(n));
            heard.add(at(0), address(n));
        }
        assert_eq!((heard.until.len(), heard.order.len()), (ADDRESSES, ADDRESSES));
        assert!(!heard.knows(at(0), address(0)), "the oldest");
        assert!(heard.knows(at(3_599_999), address(1)));
        assert!(!heard.knows(at(3_600_000), address(1)));
        heard.add(at(3_600_000), address(1));
        assert!(heard.knows(at(3_600_000), address(1)));
        assert!(heard.knows(at(0), "::ffff:0.0.0.2".parse().unwrap()), "one address, two spellings");
    }

    #[test]
    fn something_is_left_for_the_end() {
        let mut allowance = Allowance::default();
        allowance.came(100);
        assert!(allowance.spend(200, false) && !allowance.spend(1, false));
        assert!(allowance.spend(100, true) && !allowance.spend(1, true));
        allowance.came(100);
        assert!(allowance.spend(300, true));
    }
}
