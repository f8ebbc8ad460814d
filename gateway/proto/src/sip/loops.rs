//! Requests of ours that come back (RFC 5393 section 4.2): a mark in their branch tells them.
//!
//! A call of ours that a proxy sends back to us unchanged would be made again, and where one alias
//! rings several devices, several times. Max-Forwards ends that late; the mark ends it at once. A
//! request that came back for another target is a spiral, and good.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::hex::hex;
use super::via::MAGIC_COOKIE;
use super::{Request, Uri};

/// Octets of the mark: nobody gains from guessing one.
const MARK: usize = 8;

/// Octets of a tag: 80 bits, as those that are drawn.
const TAG: usize = 10;

/// What only we can sign.
pub(super) struct Loops(Hmac<Sha256>);

impl Loops {
    pub(super) fn new(key: [u8; 64]) -> Self {
        Self(Hmac::new(&key.into()))
    }

    /// A branch for a request with this target (RFC 5393 section 4.2.1: a part that is unique, and one
    /// that says what it was for).
    pub(super) fn branch(&self, token: &str, target: &Uri) -> String {
        format!("{MAGIC_COOKIE}{token}.{}", self.mark(token, target))
    }

    /// Whether we sent this very request (section 4.2.2). Bounded: a list has its limit.
    pub(super) fn knows(&self, request: &Request) -> bool {
        request.headers.vias().is_ok_and(|vias| {
            vias.iter().filter_map(|via| via.branch()?.strip_prefix(MAGIC_COOKIE)).any(|branch| {
                branch
                    .split_once('.')
                    .filter(|(_, mark)| mark.len() == 2 * MARK)
                    .is_some_and(|(token, mark)| self.mark(token, &request.uri) == mark)
            })
        })
    }

    /// Our tag for the request of a transaction: the same for one that comes again after it was
    /// forgotten (RFC 3261 section 8.2.7), and nobody else's guess.
    pub(super) fn tag(&self, transaction: &str) -> String {
        self.sum(["tag", transaction], TAG)
    }

    fn mark(&self, token: &str, target: &Uri) -> String {
        self.sum([token, &target.to_string()], MARK)
    }

    fn sum(&self, [first, second]: [&str; 2], octets: usize) -> String {
        let mut mac = self.0.clone();
        mac.update(first.as_bytes());
        mac.update(b" ");
        mac.update(second.as_bytes());
        let sum = mac.finalize().into_bytes();
        hex(sum.get(..octets).unwrap_or_default())
    }
}

impl std::fmt::Debug for Loops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loops(..)")
    }
}
