//! How often each source may ask by SIP, and who asks nothing for a while. Pure: time comes in as an
//! argument. Nothing is known of a request yet but where it says it comes from.
//!
//! * Every source may send so many messages a second; what comes beyond is not read.
//! * Every refusal is counted to its source. One where nobody has proved who he is may have [`FREE`] of
//!   them and then two a second; where a device has, [`FREE_OF_OURS`] and twenty. What is sent beyond is
//!   not read, and who goes on regardless is banned. What is read counts as refused until it is, or for
//!   [`UNDECIDED_FOR`]: a flood is quicker than the answer to its first request. Who was refused is read
//!   once more from his address and port: a refusal may be a challenge, and of a house that comes back at
//!   once all would be challenged and none could answer.
//! * Anybody can write any address on a datagram. So what datagrams do is counted apart, and a ban that
//!   they have brought holds for datagrams alone; and who has proved that he is where he says, by a digest,
//!   by the ACK of an answer, or as a trunk by its connection, is counted for his address and port alone,
//!   and no ban holds for him.
//!
//! Tables have ends. Nobody is put out for another: when a table is full, newcomers share one allowance.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use super::SOURCES;
use crate::config::Network;

/// A source that was quiet may send so long's worth of messages at once.
const BURST: Duration = Duration::from_secs(5);
/// Refusals that a source may have at once, and what each costs of that.
pub const FREE: u32 = 16;
const EACH: Duration = Duration::from_millis(500);
/// Of one where a device has proved who it is within [`OURS_FOR`]: an office after a power cut.
pub const FREE_OF_OURS: u32 = 500;
const EACH_OF_OURS: Duration = Duration::from_millis(50);
const OURS_FOR: Duration = Duration::from_secs(86_400);
/// Refusals a second to all sources without a device of ours together, a second's worth at once: calls
/// that stand must not notice a flood from forged addresses.
const OF_STRANGERS: u32 = 2_000;
/// A source is banned that sends so much beyond its allowance, for at least so long, while nobody
/// there proves who he is.
const BEYOND: u32 = 100;
const REGARDLESS: Duration = Duration::from_secs(2);
/// What was sent beyond an allowance is forgotten after a quiet time.
const QUIET: Duration = Duration::from_secs(30);
/// For so long.
pub const BAN: Duration = Duration::from_secs(600);
/// Bans at a time. Overflow: the next is held to its allowance alone.
pub const BANS: usize = 4_096;
/// What a stranger asks is taken to be refused for so long, if nothing is said of it: a refusal takes less, and
/// who is not refused may ask 80 times a second before he has proved anything.
const UNDECIDED_FOR: Duration = Duration::from_millis(200);
/// Who has proved where he is: longer than any registration lasts.
const PROVEN_FOR: Duration = Duration::from_secs(7_500);
/// So many of them, some 10 MiB. Overflow: the next is counted with his source.
const FLOWS: usize = 131_072;
/// For so long, the life of a request (RFC 3261 timer F), somebody who was refused may answer that once.
const ANSWERS_FOR: Duration = Duration::from_secs(32);
/// So many of them. Overflow: what the next one answers is counted with his source.
const ASKED: usize = 16_384;
/// A full table is looked through for what can be forgotten, at most so often.
const SWEEP: Duration = Duration::from_secs(1);

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It answers a request of ours.
    Answer,
    /// It is never answered, and so never refused.
    Ack,
    /// Whatever else, most of all what cannot be told yet.
    Request,
}

impl Kind {
    /// By the first octets of a message, or of what a stream has brought.
    pub(super) fn of(data: &[u8]) -> Self {
        match data {
            _ if data.starts_with(b"SIP/2.0 ") => Self::Answer,
            _ if data.starts_with(b"ACK ") => Self::Ack,
            _ => Self::Request,
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is read.
    Read,
    /// It is not; there is room for one of its source after so long.
    Over(Duration),
    /// It is not, and its source is banned from now on.
    Banned,
}

/// What a source has used up: times at which all of it is there again.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    sent: Instant,
    refused: Instant,
    /// Requests that were read of it since then, and are not known to be refused.
    asks: Instant,
    undecided: u32,
    /// Until then it counts as one of ours.
    ours: Instant,
    /// Since when it sends beyond its allowance, when it did last, and how much.
    since: Instant,
    last: Instant,
    beyond: u32,
}

/// Where somebody has proved to be: what is counted for it alone.
#[derive(Clone, Copy, Debug)]
struct Flow {
    sent: Instant,
    until: Instant,
}

/// Who was refused there.
#[derive(Clone, Copy, Debug)]
struct Asked {
    until: Instant,
    answered: bool,
}

/// A source of which nothing is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ban {
    /// It: of IPv6 the /64.
    pub(super) source: IpAddr,
    /// When it is over.
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) struct Rates {
    /// What a message costs of [`BURST`].
    each: Duration,
    trusted: Vec<Network>,
    /// By whether they come by streams.
    sources: HashMap<(bool, IpAddr), Record>,
    /// Those who found the table full.
    others: Record,
    /// When all refusals to strangers are used up no more.
    strangers: Instant,
    /// By whether it is a stream, for their ports have nothing in common with those of datagrams.
    flows: HashMap<(bool, SocketAddr), Flow>,
    /// The same.
    asked: HashMap<(bool, SocketAddr), Asked>,
    /// The same.
    bans: HashMap<(bool, IpAddr), Instant>,
    swept: Instant,
}

impl Rates {
    /// `most` messages a second of each source but those that are trusted.
    pub(super) fn new(most: usize, trusted: Vec<Network>) -> Self {
        let most = u32::try_from(most.max(1)).unwrap_or(u32::MAX);
        Self {
            each: Duration::from_secs(1) / most,
            trusted,
            sources: HashMap::new(),
            others: Record::default(),
            strangers: Instant::ZERO,
            flows: HashMap::new(),
            asked: HashMap::new(),
            bans: HashMap::new(),
            swept: Instant::ZERO,
        }
    }

    /// A message has come. Answers to requests of ours are read whatever else their source does.
    pub(super) fn message(&mut self, now: Instant, stream: bool, from: SocketAddr, kind: Kind) -> Entry {
        if self.trusts(from.ip()) {
            return Entry::Read;
        }
        let each = self.each;
        if let Some(flow) = self.flows.get_mut(&(stream, from)).filter(|flow| flow.until > now) {
            return spend(&mut flow.sent, now, each, BURST).map_or(Entry::Read, Entry::Over);
        }
        let source = (stream, key(from.ip()));
        let request = kind == Kind::Request;
        if kind != Kind::Answer
            && let Some(left) = self.banned(now, source)
        {
            return Entry::Over(left);
        }
        let stranger = self.strangers;
        let asked = self.asked.get(&(stream, from)).is_some_and(|asked| asked.until > now && !asked.answered);
        let known = self.record(now, source);
        let alone = known.is_some();
        let record = match known {
            Some(record) => record,
            None => &mut self.others,
        };
        let ours = record.ours > now;
        let sent = spend(&mut record.sent, now, each, BURST);
        let refused = record.refused.saturating_since(now + record.allowance(now));
        let undecided = if ours { Duration::ZERO } else { record.undecided(now) };
        let spent = request && !(refused.is_zero() && undecided.is_zero());
        if spent && refused.is_zero() && sent.is_none() && !asked {
            // Nobody has told him yet that he is not wanted.
            return Entry::Over(undecided);
        }
        let over = sent.or_else(|| (spent && !asked).then_some(refused));
        let Some(wait) = over else {
            let crowd = stranger.saturating_since(now + Duration::from_secs(1));
            if request && !ours && !crowd.is_zero() {
                return Entry::Over(crowd);
            }
            if request && !ours {
                record.undecided = record.undecided.saturating_add(1);
            }
            if spent && let Some(asked) = self.asked.get_mut(&(stream, from)) {
                asked.answered = true;
            }
            return Entry::Read;
        };
        if record.goes_on(now) && alone && self.ban(now, source) { Entry::Banned } else { Entry::Over(wait) }
    }

    /// A connection may be made.
    pub(super) fn connects(&self, now: Instant, from: SocketAddr) -> bool {
        self.trusts(from.ip()) || self.banned(now, (true, key(from.ip()))).is_none()
    }

    /// What came from there was refused.
    pub(super) fn refused(&mut self, now: Instant, stream: bool, from: SocketAddr) {
        let flow = self.flows.get(&(stream, from));
        if self.trusts(from.ip()) || flow.is_some_and(|flow| flow.until > now) {
            return;
        }
        let source = (stream, key(from.ip()));
        let record = match self.record(now, source) {
            Some(record) => record,
            None => &mut self.others,
        };
        let ours = record.ours > now;
        let each = if ours { EACH_OF_OURS } else { EACH };
        // Requests that were on their way are counted too, but nobody is in debt for long.
        record.undecided = record.undecided.saturating_sub(1);
        let most = now + record.allowance(now) + each;
        record.refused = (record.refused.max(now) + each).min(most);
        if !ours {
            let most = now + Duration::from_secs(2);
            self.strangers = (self.strangers.max(now) + Duration::from_secs(1) / OF_STRANGERS).min(most);
        }
        self.may_answer(now, (stream, from));
    }

    fn may_answer(&mut self, now: Instant, from: (bool, SocketAddr)) {
        if self.asked.get(&from).is_some_and(|asked| asked.until > now) {
            return;
        }
        if self.asked.len() >= ASKED && !self.asked.contains_key(&from) {
            self.sweep(now);
            if self.asked.len() >= ASKED {
                return;
            }
        }
        self.asked.insert(from, Asked { until: now + ANSWERS_FOR, answered: false });
    }

    /// Who is there has proved that he is one of ours.
    pub(super) fn proved(&mut self, now: Instant, stream: bool, from: SocketAddr) {
        let cost = self.each * 2;
        if let Some(record) = self.record(now, (stream, key(from.ip()))) {
            // His first request could not be told from a stranger's.
            let sent = record.sent.max(now) - cost;
            *record = Record { sent, ours: now + OURS_FOR, ..Record::default() };
        }
        self.answers(now, stream, from);
        if let Some(flow) = self.flows.get_mut(&(stream, from)) {
            flow.sent = flow.sent.max(now) - cost;
        }
    }

    /// Somebody is where he says.
    pub(super) fn answers(&mut self, now: Instant, stream: bool, from: SocketAddr) {
        if self.flows.len() >= FLOWS && !self.flows.contains_key(&(stream, from)) {
            self.sweep(now);
            if self.flows.len() >= FLOWS {
                return;
            }
        }
        let flow = self.flows.entry((stream, from)).or_insert(Flow { sent: now, until: now });
        flow.until = now + PROVEN_FOR;
    }

    /// Who is banned now.
    pub(super) fn bans(&self, now: Instant) -> Vec<Ban> {
        let standing = self.bans.iter().filter(|(_, until)| **until > now);
        let mut all: Vec<_> =
            standing.map(|((_, source), until)| Ban { source: *source, until: *until }).collect();
        // One for each source: the longer.
        all.sort_by_key(|ban| (ban.source, std::cmp::Reverse(ban.until)));
        all.dedup_by_key(|ban| ban.source);
        all
    }

    /// Lifts a ban; false: there is none.
    pub(super) fn lift(&mut self, now: Instant, address: IpAddr) -> bool {
        let lifted = [true, false].map(|stream| {
            let source = (stream, key(address));
            self.sources.remove(&source);
            self.bans.remove(&source).is_some_and(|until| until > now)
        });
        lifted.contains(&true)
    }

    fn ban(&mut self, now: Instant, source: (bool, IpAddr)) -> bool {
        if self.bans.len() >= BANS {
            self.bans.retain(|_, until| *until > now);
        }
        if self.bans.len() >= BANS {
            return false;
        }
        self.sources.remove(&source);
        self.bans.insert(source, now + BAN);
        // Who has connected is there.
        if source.0 {
            self.bans.insert((false, source.1), now + BAN);
        }
        true
    }

    fn banned(&self, now: Instant, source: (bool, IpAddr)) -> Option<Duration> {
        // Nearly always empty.
        if self.bans.is_empty() {
            return None;
        }
        self.bans.get(&source).map(|until| until.saturating_since(now)).filter(|left| !left.is_zero())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// What `source` has used up; `None`: there is no room for one more.
    fn record(&mut self, now: Instant, source: (bool, IpAddr)) -> Option<&mut Record> {
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            self.sweep(now);
            if self.sources.len() >= SOURCES {
                return None;
            }
        }
        Some(self.sources.entry(source).or_default())
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.sources.retain(|_, record| !record.is_over(now));
        self.flows.retain(|_, flow| flow.until > now);
        self.asked.retain(|_, asked| asked.until > now);
    }
}

impl Record {
    fn allowance(&self, now: Instant) -> Duration {
        if self.ours > now { EACH_OF_OURS * (FREE_OF_OURS - 1) } else { EACH * (FREE - 1) }
    }

    /// For how long nothing more is read, as what was read could use up the allowance.
    fn undecided(&mut self, now: Instant) -> Duration {
        let left = (self.asks + UNDECIDED_FOR).saturating_since(now);
        if left.is_zero() {
            (self.asks, self.undecided) = (now, 0);
        }
        let spent = self.refused.max(now) + EACH * self.undecided > now + self.allowance(now);
        if spent { left } else { Duration::ZERO }
    }

    /// One more beyond the allowance; whether that is enough for a ban.
    fn goes_on(&mut self, now: Instant) -> bool {
        if now.saturating_since(self.last) > QUIET {
            (self.since, self.beyond) = (now, 0);
        }
        self.last = now;
        self.beyond = self.beyond.saturating_add(1);
        self.beyond >= BEYOND && now.saturating_since(self.since) >= REGARDLESS
    }

    fn is_over(&self, now: Instant) -> bool {
        let quiet = self.beyond == 0 || now.saturating_since(self.last) > QUIET;
        self.sent <= now && self.refused <= now && self.ours <= now && quiet
    }
}

/// Uses up `each` (the generic cell rate algorithm of ITU-T I.371), or says how long that must wait.
fn spend(used: &mut Instant, now: Instant, each: Duration, burst: Duration) -> Option<Duration> {
    let after = (*used).max(now) + each;
    let over = after.saturating_since(now + burst);
    if over.is_zero() {
        *used = after;
        return None;
    }
    Some(over)
}

/// One customer: an IPv4 address, or an IPv6 /64.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests;
