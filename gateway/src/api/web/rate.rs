//! How often each client may ask. Pure: time comes in as an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// A client that was quiet may ask for so long's worth of requests at once: a class that joins at
/// the full hour comes from one address.
const BURST: Duration = Duration::from_secs(5);

/// Clients that are told apart at a time. Overflow: those who are not among them share one
/// allowance. None is put out for another, so nobody gains by coming from many addresses.
const CLIENTS: usize = 65_536;

/// After the table was found full it is not searched again for so long.
const SWEEP: Duration = Duration::from_secs(1);

/// Who has asked how much (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug)]
pub(super) struct Rates {
    /// What one request uses up.
    each: Duration,
    /// When what each has used up will be there again. Who is not here has used nothing.
    owed: HashMap<IpAddr, Instant>,
    others: Option<Instant>,
    swept: Option<Instant>,
}

impl Rates {
    /// `most` requests a second for each.
    pub(super) fn new(most: usize) -> Self {
        let most = u32::try_from(most.max(1)).unwrap_or(u32::MAX);
        let each = Duration::from_secs(1) / most;
        Self { each, owed: HashMap::new(), others: None, swept: None }
    }

    /// Whether `client` may ask now; if so, that is noted.
    pub(super) fn allow(&mut self, now: Instant, client: IpAddr) -> bool {
        let fits = self.owed.len() < CLIENTS || self.owed.contains_key(&client) || self.sweep(now);
        let known = if fits { self.owed.get(&client).copied() } else { self.others };
        let owed = known.unwrap_or(now).max(now) + self.each;
        if owed > now + BURST {
            return false;
        }
        if fits {
            self.owed.insert(client, owed);
        } else {
            self.others = Some(owed);
        }
        true
    }

    /// Forgets those who owe nothing; true when there is room then.
    fn sweep(&mut self, now: Instant) -> bool {
        if self.swept.is_some_and(|swept| now < swept + SWEEP) {
            return false;
        }
        self.swept = Some(now);
        self.owed.retain(|_, owed| *owed > now);
        self.owed.len() < CLIENTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn each_client_may_ask_at_its_rate_after_a_burst() {
        let (mut rates, now) = (Rates::new(100), Instant::now());
        let allowed = |rates: &mut Rates, now, n| (0..1000).filter(|_| rates.allow(now, client(n))).count();
        assert_eq!(allowed(&mut rates, now, 1), 500);
        assert_eq!(allowed(&mut rates, now, 2), 500, "another is not held up by it");
        let later = now + Duration::from_secs(2);
        assert_eq!(allowed(&mut rates, later, 1), 200);
        assert_eq!(allowed(&mut rates, later + BURST, 1), 500, "no more than a burst is saved up");
    }

    #[test]
    fn a_full_table_puts_nobody_out_and_lets_newcomers_share() {
        let (mut rates, now) = (Rates::new(1), Instant::now());
        // One who has used up everything, then as many others as fit.
        while rates.allow(now, client(0)) {}
        for n in 1..=u32::try_from(CLIENTS).unwrap() {
            rates.allow(now, client(n));
        }
        let newcomers = (100_000..200_000).filter(|n| rates.allow(now, client(*n))).count();
        assert_eq!(newcomers, 4, "they have one allowance, and one of them has come before");
        assert!(!rates.allow(now, client(0)), "who has used up everything is not forgotten");
        assert_eq!(rates.owed.len(), CLIENTS);
        // A second later those who asked once owe nothing.
        assert!(rates.allow(now + SWEEP, client(300_000)));
        assert!(rates.owed.len() < 10);
        assert!(rates.allow(now + SWEEP, client(0)), "one a second");
        assert!(!rates.allow(now + SWEEP, client(0)));
    }
}
