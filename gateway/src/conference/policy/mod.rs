//! Who is in a conference, who waits, and who may do what: pure rules, moved by what people do and by
//! time (S17 to S38). The room around it carries out what is told in [`Change`]s.
//!
//! * Who comes into a room with a host PIN as a guest waits until a host is there.
//! * While it is locked, newcomers wait: all of them where there is no host PIN, guests where there
//!   is one. Invited ones are newcomers as well.
//! * Unlocking lets in whoever waits, hosts let in or reject one by one; the end of the conference
//!   rejects all.

use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use crate::cause::Reason;

mod deed;
mod door;
mod left;
#[cfg(test)]
mod tests;

pub use deed::{Actor, Deed, Denied};
pub use door::{Answer, Door, Knock, Pin, PinError, Role};
pub use left::{Left, LeftParty};

/// A party of one conference. Never used twice in one gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartyId(pub u64);

/// The rules of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// There is a host PIN: hosts and guests are told apart.
    pub tells_hosts: bool,
    /// Parties at most, those who wait among them.
    pub parties: usize,
    /// An invited host comes into a locked room without a host PIN at once, as later releases of
    /// other products have it (S31).
    pub invited_hosts_pass: bool,
    /// How long somebody waits at most for a host or to be let in.
    pub wait: Duration,
    /// How long guests go on after the last host has left.
    pub guests_alone: Duration,
    /// How long the last one who is left stays, recorders and streams not counted; zero: as long as he
    /// likes.
    pub last_one: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            tells_hosts: false,
            parties: 200,
            invited_hosts_pass: false,
            wait: Duration::from_secs(900),
            guests_alone: Duration::from_secs(60),
            last_one: Duration::ZERO,
        }
    }
}

/// How somebody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the door said, or the invitation.
    pub role: Role,
    /// Was called by us: dialled when the conference began, or invited by a host.
    pub invited: bool,
    /// Whether the conference goes on while he is there.
    pub keeps: Keeps,
}

/// Whether a conference goes on for somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Keeps {
    /// As long as he likes.
    #[default]
    Always,
    /// While there are two of his kind, or somebody of the kind above: two telephones that were
    /// called go on talking, one alone is hung up.
    InCompany,
    /// Not for him: recorders and streams.
    Never,
}

impl Keeps {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Always, Self::InCompany, Self::Never];

    /// Its word in the store and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::InCompany => "in-company",
            Self::Never => "never",
        }
    }
}

/// Where somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At "Waiting for the conference host".
    Waiting,
    /// In the conference.
    In,
}

/// Who muted somebody: he is heard when nobody did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Muted {
    /// He himself.
    pub himself: bool,
    /// A host, alone or with all guests.
    pub by_host: bool,
}

impl Muted {
    /// Somebody did.
    pub const fn any(self) -> bool {
        self.himself || self.by_host
    }
}

/// Somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// His number.
    pub id: PartyId,
    /// His role now.
    pub role: Role,
    /// Where he is.
    pub place: Place,
    /// See [`Entry`].
    pub invited: bool,
    /// See [`Entry`].
    pub keeps: Keeps,
    /// Whether he is heard.
    pub muted: Muted,
    /// His hand is up since then.
    pub hand: Option<Instant>,
    /// He is shown first, since then.
    pub spotlight: Option<Instant>,
    /// He is sent slides.
    pub slides: bool,
    /// His picture is shown to nobody.
    pub hidden: bool,
    /// His microphone is on, as he says.
    pub microphone: bool,
    /// Since when he waits, or is in.
    since: Instant,
}

/// Why somebody is out, or all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// He left.
    Left,
    /// A host, or the administrator, sent him away.
    Removed(Actor),
    /// Nobody let him in for too long.
    Waited,
    /// The conference ended: that way.
    Over(End),
}

/// Why a conference ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everybody has left.
    Empty,
    /// Who is left keeps none alive.
    NobodyKeeps,
    /// No host came back.
    NoHost,
    /// One alone was left for too long.
    LastOne,
    /// A host, or the administrator, ended it.
    Ended(Actor),
    /// It was a call, and its other side is gone or was never reached: for that reason.
    FarSide(Reason),
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody is new, here or waiting.
    Came(PartyId),
    /// He was let in.
    LetIn(PartyId),
    /// He is out.
    Out(PartyId, Exit),
    /// His role, mute, hand, spotlight, or what he sees and shows is another.
    Party(PartyId),
    /// Lock, or whether guests are muted, may unmute themselves or present, or whether it has started.
    Conference,
    /// It is over; nothing follows.
    Over(End),
}

/// A conference in progress.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Rules,
    parties: Vec<Party>,
    locked: bool,
    guests_muted: bool,
    guests_can_unmute: bool,
    guests_present: bool,
    /// A host was there or is not needed, or it was started by command; and whether it was that.
    started: bool,
    opened: bool,
    /// Somebody was in.
    begun: bool,
    /// A host was in; and the last one left then.
    hosted: bool,
    hostless: Option<Instant>,
    /// Somebody has been the only one since then.
    lonely: Option<Instant>,
    over: Option<End>,
    /// It was taken up from an earlier process, and stands until then though nobody has come back.
    held: Option<Instant>,
    changes: Vec<Change>,
}

/// Nobody more fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the conference has as many participants as it may")]
pub struct Full;

impl Policy {
    /// An empty conference.
    pub const fn new(rules: Rules) -> Self {
        let started = !rules.tells_hosts;
        Self {
            rules,
            parties: Vec::new(),
            locked: false,
            guests_muted: false,
            guests_can_unmute: false,
            guests_present: true,
            started,
            opened: false,
            begun: false,
            hosted: false,
            hostless: None,
            lonely: None,
            over: None,
            held: None,
            changes: Vec::new(),
        }
    }

    /// Everybody, in the order in which they came.
    pub fn parties(&self) -> &[Party] {
        &self.parties
    }

    /// Somebody.
    pub fn party(&self, id: PartyId) -> Option<&Party> {
        self.parties.iter().find(|party| party.id == id)
    }

    /// Newcomers wait.
    pub const fn locked(&self) -> bool {
        self.locked
    }

    /// Guests are muted, those who come as well.
    pub const fn guests_muted(&self) -> bool {
        self.guests_muted
    }

    /// The conference is over.
    pub const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Guests may take back a host's mute.
    pub const fn guests_can_unmute(&self) -> bool {
        self.guests_can_unmute
    }

    /// Guests may show slides.
    pub const fn guests_present(&self) -> bool {
        self.guests_present
    }

    /// The same conference, as its service has it.
    #[must_use]
    pub fn with_guests_present(self, guests_present: bool) -> Self {
        Self { guests_present, ..self }
    }

    /// A host is or was there, or is not needed.
    pub const fn started(&self) -> bool {
        self.started
    }

    /// Whether `viewer` is told of those who wait, and may let them in (S25, S27).
    pub fn sees_waiting(&self, viewer: PartyId) -> bool {
        self.party(viewer)
            .is_some_and(|it| it.place == Place::In && (!self.rules.tells_hosts || it.role == Role::Host))
    }

    /// What has changed since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Somebody comes.
    pub fn enter(&mut self, now: Instant, id: PartyId, entry: Entry) -> Result<Place, Full> {
        self.has_room_for(id)?;
        let mut party = self.newcomer(now, id, entry);
        if !self.holds(&party) {
            party.place = Place::In;
        }
        self.come(now, party);
        Ok(party.place)
    }

    /// Who is in, or was until a moment ago, goes on as `id`. He has been let in before, so neither lock nor wait
    /// is for him; and he stays as he `was`, above all muted by whom he was.
    ///
    /// # Errors
    ///
    /// It is over, or full by now and he is not in any more.
    pub fn go_on(&mut self, now: Instant, was: Party, id: PartyId) -> Result<(), Full> {
        self.make_way(was.id);
        self.has_room_for(id)?;
        let mut party = Party { id, place: Place::In, ..was };
        party.muted.by_host |= party.role == Role::Guest && self.guests_muted;
        self.come(now, party);
        Ok(())
    }

    fn has_room_for(&self, id: PartyId) -> Result<(), Full> {
        let fits = self.over.is_none() && self.parties.len() < self.rules.parties && self.party(id).is_none();
        if fits { Ok(()) } else { Err(Full) }
    }

    const fn newcomer(&self, now: Instant, id: PartyId, entry: Entry) -> Party {
        let Entry { role, invited, keeps } = entry;
        Party {
            id,
            role,
            place: Place::Waiting,
            invited,
            keeps,
            muted: Muted { himself: false, by_host: matches!(role, Role::Guest) && self.guests_muted },
            hand: None,
            spotlight: None,
            slides: true,
            hidden: false,
            microphone: true,
            since: now,
        }
    }

    fn come(&mut self, now: Instant, party: Party) {
        self.parties.push(party);
        self.changes.push(Change::Came(party.id));
        self.settle(now);
    }

    /// Somebody is out for the one who comes in his place, with the next [`Self::enter`].
    pub fn make_way(&mut self, id: PartyId) {
        if self.over.is_none() {
            self.out(id, Exit::Left);
        }
    }

    /// Somebody has left, whether he wanted to or not.
    pub fn leave(&mut self, now: Instant, id: PartyId) {
        if self.over.is_none() {
            self.out(id, Exit::Left);
            self.settle(now);
        }
    }

    /// It ends for no deed of anybody in it.
    pub fn end(&mut self, end: End) {
        if self.over.is_none() {
            self.finish(end);
        }
    }

    /// When [`Self::timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.over.is_some() {
            return None;
        }
        let waits = self.waiting().map(|party| party.since + self.rules.wait);
        let alone = self.hostless.map(|since| since + self.rules.guests_alone);
        let last = self.lonely.map(|since| since + self.rules.last_one);
        waits.chain(alone).chain(last).chain(self.held).min()
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: Instant) {
        if self.over.is_some() {
            return;
        }
        let late: Vec<PartyId> = self
            .waiting()
            .filter(|party| now >= party.since + self.rules.wait)
            .map(|party| party.id)
            .collect();
        for id in late {
            self.out(id, Exit::Waited);
        }
        if self.held.is_some_and(|until| now >= until) {
            self.let_go();
        }
        if self.hostless.is_some_and(|since| now >= since + self.rules.guests_alone) {
            self.finish(End::NoHost);
        } else if self.lonely.is_some_and(|since| now >= since + self.rules.last_one) {
            self.finish(End::LastOne);
        }
        self.settle(now);
    }

    /// Whether somebody who is not in has to wait (S20, S24, S26, S27).
    fn holds(&self, party: &Party) -> bool {
        let passes = self.rules.invited_hosts_pass && party.invited && party.role == Role::Host;
        match (self.rules.tells_hosts, party.role) {
            (false, _) => self.locked && !passes,
            (true, Role::Host) => false,
            (true, Role::Guest) => self.locked || !self.opened && self.hosts() == 0,
        }
    }

    /// After anything: lets in who need not wait, starts and stops clocks, ends what is over.
    fn settle(&mut self, now: Instant) {
        if self.over.is_some() {
            return;
        }
        // One who is let in may be the host that others wait for.
        loop {
            if !self.started && (self.opened || self.hosts() > 0) {
                self.started = true;
                self.changes.push(Change::Conference);
            }
            let Some(id) = self.waiting().find(|party| !self.holds(party)).map(|party| party.id) else {
                break;
            };
            self.let_in(now, id);
        }
        let hosts = self.hosts();
        let present = || self.parties.iter().filter(|party| party.place == Place::In);
        let kind = |keeps| present().filter(|party| party.keeps == keeps).count();
        let (here, always, company) = (present().count(), kind(Keeps::Always), kind(Keeps::InCompany));
        let keep = always + if company > 1 { company } else { 0 };
        self.begun |= here > 0;
        if self.begun {
            self.held = None;
        }
        match (here, keep) {
            (0, _) if self.held.is_some() => {}
            (0, _) if self.begun || self.parties.is_empty() => return self.finish(End::Empty),
            (1.., 0) => return self.finish(End::NobodyKeeps),
            _ => {}
        }
        self.hosted |= hosts > 0;
        let alone = self.rules.tells_hosts && self.hosted && hosts == 0 && here > 0;
        self.hostless = alone.then(|| self.hostless.unwrap_or(now));
        let lonely = always + company == 1 && !self.rules.last_one.is_zero();
        self.lonely = lonely.then(|| self.lonely.unwrap_or(now));
    }

    fn let_in(&mut self, now: Instant, id: PartyId) {
        if let Some(party) = self.parties.iter_mut().find(|party| party.id == id)
            && party.place == Place::Waiting
        {
            (party.place, party.since) = (Place::In, now);
            self.changes.push(Change::LetIn(id));
        }
    }

    fn out(&mut self, id: PartyId, exit: Exit) {
        if let Some(at) = self.parties.iter().position(|party| party.id == id) {
            self.parties.remove(at);
            self.changes.push(Change::Out(id, exit));
        }
    }

    /// Everybody goes, those who wait as well (S29).
    fn finish(&mut self, end: End) {
        for party in std::mem::take(&mut self.parties) {
            self.changes.push(Change::Out(party.id, Exit::Over(end)));
        }
        self.over = Some(end);
        (self.hostless, self.lonely) = (None, None);
        self.changes.push(Change::Over(end));
    }

    fn hosts(&self) -> usize {
        self.parties.iter().filter(|it| it.place == Place::In && it.role == Role::Host).count()
    }

    fn waiting(&self) -> impl Iterator<Item = &Party> {
        self.parties.iter().filter(|party| party.place == Place::Waiting)
    }
}
