//! A conference as a list of what happened. Nothing is kept up to date: where somebody is, what he
//! may, whether he is muted and when the next clock runs out is the last word of the list on it.
//! Written from the guide's rules (S17 to S31, S34 to S38), not from the product.

use crosspoint_codecs::clock::Instant;
use crosspoint_gateway::conference::policy::{
    Actor, Deed, Denied, End, Entry, Exit, Keeps, Muted, PartyId, Place, Role, Rules,
};

/// What happened, once it was allowed.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Came(PartyId, Entry),
    LetIn(PartyId),
    Gone(PartyId, Exit),
    Locked(bool),
    Opened,
    GuestsMuted(bool),
    GuestsCanUnmute(bool),
    MutedHimself(PartyId),
    UnmutedHimself(PartyId),
    HostMuted(PartyId, bool),
    Became(PartyId, Role),
    Hand(PartyId, bool),
    HandsLowered,
    Spotlight(PartyId, bool),
    SpotlightsCleared,
    SlidesSent(PartyId, bool),
    Hidden(PartyId, bool),
    Microphone(PartyId, bool),
    GuestsPresent(bool),
    Over(End),
}

use Fact::*;

/// Somebody, as the list has him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    pub id: PartyId,
    pub role: Role,
    pub place: Place,
    pub invited: bool,
    pub keeps: Keeps,
    pub muted: Muted,
    pub hand: Option<Instant>,
    pub spotlight: Option<Instant>,
    pub slides: bool,
    pub hidden: bool,
    pub microphone: bool,
    pub sees_waiting: bool,
    pub may_present: bool,
}

#[derive(Debug)]
pub struct Model {
    rules: Rules,
    facts: Vec<(Instant, Fact)>,
}

impl Model {
    pub fn new(rules: Rules) -> Self {
        Self { rules, facts: Vec::with_capacity(512) }
    }

    // What is done. Each gives what the product must answer.

    /// Whether he may stand at the door at all.
    pub fn enter(&mut self, now: Instant, id: PartyId, entry: Entry) -> bool {
        let present = self.present();
        let fits = self.over().is_none() && present.len() < self.rules.parties && !present.contains(&id);
        if fits {
            self.tell(now, Came(id, entry));
            self.follow(now);
        }
        fits
    }

    pub fn leave(&mut self, now: Instant, id: PartyId) {
        if self.over().is_none() && self.present().contains(&id) {
            self.tell(now, Gone(id, Exit::Left));
            self.follow(now);
        }
    }

    /// All that speaks against it; where there is nothing it was done.
    pub fn act(&mut self, now: Instant, actor: Actor, deed: Deed) -> Vec<Denied> {
        let objections = self.objections(actor, deed);
        if objections.is_empty() {
            self.note(now, actor, deed);
            self.follow(now);
        }
        objections
    }

    pub fn timeout(&mut self, now: Instant) {
        if self.over().is_some() {
            return;
        }
        for id in self.present() {
            if self.patience(id).is_some_and(|end| end <= now) {
                self.tell(now, Gone(id, Exit::Waited));
            }
        }
        // Where both are due in one call the rules are silent; the product's choice is as good as any.
        if self.guests_end().is_some_and(|end| end <= now) {
            self.tell(now, Over(End::NoHost));
        } else if self.last_one_ends().is_some_and(|end| end <= now) {
            self.tell(now, Over(End::LastOne));
        }
        self.follow(now);
    }

    // What is seen.

    pub fn guests(&self) -> Vec<Guest> {
        self.present().into_iter().map(|id| self.guest(id)).collect()
    }

    pub fn locked(&self) -> bool {
        self.last(|fact| if let Locked(locked) = fact { Some(locked) } else { None }).unwrap_or(false)
    }

    pub fn guests_muted(&self) -> bool {
        self.guests_muted_at(self.facts.len())
    }

    pub fn guests_can_unmute(&self) -> bool {
        self.last(|fact| if let GuestsCanUnmute(can) = fact { Some(can) } else { None }).unwrap_or(false)
    }

    /// Unless it was said otherwise.
    pub fn guests_present(&self) -> bool {
        self.last(|fact| if let GuestsPresent(may) = fact { Some(may) } else { None }).unwrap_or(true)
    }

    /// S20: a host is or was there, nobody is a host apart, or it was started by command.
    pub fn started(&self) -> bool {
        !self.rules.tells_hosts || self.host_since_ever() || self.opened()
    }

    pub fn over(&self) -> Option<End> {
        self.last(|fact| if let Over(end) = fact { Some(end) } else { None })
    }

    /// Why somebody went, newest first, who has gone since `mark`.
    pub fn exits_since(&self, mark: usize) -> Vec<(PartyId, Exit)> {
        let gone = |(_, fact): &(Instant, Fact)| match *fact {
            Gone(id, exit) => Some((id, exit)),
            _ => None,
        };
        self.facts[mark..].iter().filter_map(gone).collect()
    }

    pub fn mark(&self) -> usize {
        self.facts.len()
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        if self.over().is_some() {
            return None;
        }
        let waits = self.present().into_iter().filter_map(|id| self.patience(id)).min();
        [waits, self.guests_end(), self.last_one_ends()].into_iter().flatten().min()
    }

    // The rules.

    fn objections(&self, actor: Actor, deed: Deed) -> Vec<Denied> {
        if self.over().is_some() {
            return vec![Denied::Over];
        }
        let mut found = Vec::new();
        let to = whom(deed);
        if to.is_some_and(|to| self.place(to).is_none()) {
            found.push(Denied::NoParty);
        }
        let Actor::Party(own) = actor else { return found };
        let Some(place) = self.place(own) else {
            found.push(Denied::NoParty);
            return found;
        };
        let to_himself = to == Some(own);
        let may = match (place, self.role(own), deed) {
            // S35: disconnect self, from wherever he is.
            (_, _, Deed::Remove(_)) if to_himself => true,
            (Place::Waiting, ..) => false,
            // Whether a microphone is on is its owner's word, and no host's.
            (Place::In, _, Deed::Microphone(..)) => to_himself,
            // S38.
            (Place::In, Role::Host, _) => true,
            // S25: everybody who is in lets in, and turns away, where hosts are not told apart.
            (Place::In, Role::Guest, Deed::Admit(id) | Deed::Remove(id)) => {
                !self.rules.tells_hosts && self.place(id) == Some(Place::Waiting)
            }
            (Place::In, Role::Guest, Deed::Mute(_, false)) if to_himself => {
                if self.muted(own).by_host && !self.guests_can_unmute() {
                    found.push(Denied::MutedByHost);
                }
                true
            }
            // S46: what he sees is his own matter as well.
            (Place::In, Role::Guest, Deed::Mute(..) | Deed::Hand(..) | Deed::Slides(..) | Deed::Hide(..)) => {
                to_himself
            }
            (Place::In, Role::Guest, _) => false,
        };
        if !may {
            found.push(Denied::Role);
        }
        found
    }

    fn note(&mut self, now: Instant, actor: Actor, deed: Deed) {
        let himself = |id| actor == Actor::Party(id);
        let fact = match deed {
            Deed::Lock(locked) => Locked(locked),
            Deed::Start => Opened,
            Deed::Admit(id) if self.place(id) == Some(Place::Waiting) => LetIn(id),
            Deed::Admit(_) => return,
            Deed::Remove(id) if himself(id) => Gone(id, Exit::Left),
            Deed::Remove(id) => Gone(id, Exit::Removed(actor)),
            Deed::End => Over(End::Ended(actor)),
            Deed::Mute(id, true) if himself(id) => MutedHimself(id),
            Deed::Mute(id, false) if himself(id) => UnmutedHimself(id),
            Deed::Mute(id, muted) => HostMuted(id, muted),
            Deed::MuteGuests(muted) => GuestsMuted(muted),
            Deed::GuestsCanUnmute(can) => GuestsCanUnmute(can),
            Deed::Role(id, role) => Became(id, role),
            Deed::Hand(id, up) => Hand(id, up),
            Deed::LowerHands => HandsLowered,
            Deed::Spotlight(id, on) => Spotlight(id, on),
            Deed::ClearSpotlights => SpotlightsCleared,
            Deed::Slides(id, sent) => SlidesSent(id, sent),
            Deed::Hide(id, hidden) => Hidden(id, hidden),
            Deed::Microphone(id, on) => Microphone(id, on),
            Deed::GuestsPresent(may) => GuestsPresent(may),
        };
        self.tell(now, fact);
    }

    /// What follows of itself, until nothing more does: waits that end, and the conference's end.
    fn follow(&mut self, now: Instant) {
        while self.over().is_none() {
            let waiting = |id: &PartyId| self.place(*id) == Some(Place::Waiting);
            let Some(id) = self.present().into_iter().filter(waiting).find(|id| !self.must_wait(*id)) else {
                break;
            };
            self.tell(now, LetIn(id));
        }
        if self.over().is_none()
            && let Some(end) = self.ended()
        {
            self.tell(now, Over(end));
        }
        if let Some(end) = self.over() {
            for id in self.present() {
                self.tell(now, Gone(id, Exit::Over(end)));
            }
        }
    }

    fn must_wait(&self, id: PartyId) -> bool {
        let host = self.role(id) == Role::Host;
        if self.rules.tells_hosts {
            // S20, S26, S27.
            !host && (self.locked() || !self.opened() && !self.host_there())
        } else {
            // S24, S31.
            self.locked() && !(self.rules.invited_hosts_pass && host && self.entry(id).invited)
        }
    }

    fn ended(&self) -> Option<End> {
        let (present, here) = (self.present(), self.here());
        let anybody_was_in = self.facts.iter().any(|(_, fact)| matches!(fact, LetIn(_)));
        if here.is_empty() {
            (anybody_was_in || present.is_empty()).then_some(End::Empty)
        } else {
            // One who stays in company has company when another of his kind is there as well.
            let kinds: Vec<Keeps> = here.iter().map(|id| self.entry(*id).keeps).collect();
            let company = kinds.iter().filter(|it| **it == Keeps::InCompany).count() >= 2;
            let goes_on = kinds.contains(&Keeps::Always) || company;
            (!goes_on).then_some(End::NobodyKeeps)
        }
    }

    /// When he who waits has waited for too long.
    fn patience(&self, id: PartyId) -> Option<Instant> {
        let came = self.facts.iter().find_map(|(at, fact)| match fact {
            Came(it, _) if *it == id => Some(*at),
            _ => None,
        });
        came.filter(|_| self.place(id) == Some(Place::Waiting)).map(|at| at + self.rules.wait)
    }

    /// When guests whom the last host has left have been alone for too long.
    fn guests_end(&self) -> Option<Instant> {
        if !self.rules.tells_hosts || self.host_there() {
            return None;
        }
        // The last time that a host who was in went, or was made a guest.
        let lost = (0..self.facts.len()).rev().find(|&at| match self.facts[at].1 {
            Gone(id, _) | Became(id, Role::Guest) => self.was_host_in(at, id),
            _ => false,
        });
        lost.map(|at| self.facts[at].0 + self.rules.guests_alone)
    }

    /// When the last one has been alone for too long; who keeps no conference alive is nobody.
    fn last_one_ends(&self) -> Option<Instant> {
        let keeps = |id: &PartyId| self.entry(*id).keeps != Keeps::Never;
        if self.rules.last_one.is_zero() || self.here().into_iter().filter(keeps).count() != 1 {
            return None;
        }
        let changed = (0..self.facts.len()).rev().find(|&at| match self.facts[at].1 {
            LetIn(id) => keeps(&id),
            Gone(id, _) => keeps(&id) && self.place_at(at, id) == Some(Place::In),
            _ => false,
        });
        changed.map(|at| self.facts[at].0 + self.rules.last_one)
    }

    // The last words.

    fn guest(&self, id: PartyId) -> Guest {
        let Entry { invited, keeps, .. } = self.entry(id);
        let (role, place) = (self.role(id), self.place(id).unwrap_or(Place::Waiting));
        let sees_waiting = place == Place::In && (!self.rules.tells_hosts || role == Role::Host);
        let (muted, hand, spotlight) = (self.muted(id), self.hand(id), self.spotlight(id));
        let slides = self.said_of(id, true, |fact| match fact {
            SlidesSent(it, sent) => Some((it, sent)),
            _ => None,
        });
        let hidden = self.said_of(id, false, |fact| match fact {
            Hidden(it, hidden) => Some((it, hidden)),
            _ => None,
        });
        let microphone = self.said_of(id, true, |fact| match fact {
            Microphone(it, on) => Some((it, on)),
            _ => None,
        });
        let may_present = place == Place::In && (role == Role::Host || self.guests_present());
        Guest {
            id,
            role,
            place,
            invited,
            keeps,
            muted,
            hand,
            spotlight,
            slides,
            hidden,
            microphone,
            sees_waiting,
            may_present,
        }
    }

    /// The last that was said of him since he came, or what holds then.
    fn said_of(&self, id: PartyId, first: bool, said: impl Fn(Fact) -> Option<(PartyId, bool)>) -> bool {
        let last = self.last(|fact| match fact {
            Came(it, _) if it == id => Some(first),
            fact => said(fact).filter(|(it, _)| *it == id).map(|(_, word)| word),
        });
        last.unwrap_or(first)
    }

    fn place(&self, id: PartyId) -> Option<Place> {
        self.place_at(self.facts.len(), id)
    }

    fn place_at(&self, end: usize, id: PartyId) -> Option<Place> {
        let said = |fact| match fact {
            Came(it, _) if it == id => Some(Some(Place::Waiting)),
            LetIn(it) if it == id => Some(Some(Place::In)),
            Gone(it, _) if it == id => Some(None),
            _ => None,
        };
        self.last_before(end, said).flatten()
    }

    fn entry(&self, id: PartyId) -> Entry {
        let said = |fact| match fact {
            Came(it, entry) if it == id => Some(entry),
            _ => None,
        };
        self.last(said).unwrap_or(Entry { role: Role::Guest, invited: false, keeps: Keeps::Never })
    }

    fn role(&self, id: PartyId) -> Role {
        self.role_at(self.facts.len(), id)
    }

    fn role_at(&self, end: usize, id: PartyId) -> Role {
        let said = |fact| match fact {
            Came(it, entry) if it == id => Some(entry.role),
            Became(it, role) if it == id => Some(role),
            _ => None,
        };
        self.last_before(end, said).unwrap_or(Role::Guest)
    }

    fn muted(&self, id: PartyId) -> Muted {
        let himself = |fact| match fact {
            MutedHimself(it) if it == id => Some(true),
            UnmutedHimself(it) if it == id => Some(false),
            Came(it, _) if it == id => Some(false),
            _ => None,
        };
        // A host's word, to him alone or to all guests, as he was one then.
        let by_host = (0..self.facts.len()).rev().find_map(|at| match self.facts[at].1 {
            HostMuted(it, muted) if it == id => Some(muted),
            UnmutedHimself(it) if it == id => Some(false),
            GuestsMuted(muted) if self.role_at(at, id) == Role::Guest => Some(muted),
            Came(it, entry) if it == id => Some(entry.role == Role::Guest && self.guests_muted_at(at)),
            _ => None,
        });
        Muted { himself: self.last(himself).unwrap_or(false), by_host: by_host.unwrap_or(false) }
    }

    fn guests_muted_at(&self, end: usize) -> bool {
        let said = |fact| if let GuestsMuted(muted) = fact { Some(muted) } else { None };
        self.last_before(end, said).unwrap_or(false)
    }

    /// Since when his hand is up: the first raising since it was last down.
    fn hand(&self, id: PartyId) -> Option<Instant> {
        self.first_since(|fact| match fact {
            Hand(it, up) if it == id => Some(up),
            HandsLowered => Some(false),
            Came(it, _) if it == id => Some(false),
            _ => None,
        })
    }

    fn spotlight(&self, id: PartyId) -> Option<Instant> {
        self.first_since(|fact| match fact {
            Spotlight(it, on) if it == id => Some(on),
            SpotlightsCleared => Some(false),
            Came(it, _) if it == id => Some(false),
            _ => None,
        })
    }

    fn first_since(&self, said: impl Fn(Fact) -> Option<bool>) -> Option<Instant> {
        let words = self.facts.iter().rev().filter_map(|(at, fact)| said(*fact).map(|on| (*at, on)));
        words.take_while(|(_, on)| *on).last().map(|(at, _)| at)
    }

    fn opened(&self) -> bool {
        self.facts.iter().any(|(_, fact)| matches!(fact, Opened))
    }

    fn host_there(&self) -> bool {
        self.here().into_iter().any(|id| self.role(id) == Role::Host)
    }

    /// Whether somebody was in and a host at once, at any time.
    fn host_since_ever(&self) -> bool {
        (0..self.facts.len()).any(|at| match self.facts[at].1 {
            LetIn(id) => self.role_at(at, id) == Role::Host,
            Became(id, Role::Host) => self.place_at(at, id) == Some(Place::In),
            _ => false,
        })
    }

    fn was_host_in(&self, at: usize, id: PartyId) -> bool {
        self.place_at(at, id) == Some(Place::In) && self.role_at(at, id) == Role::Host
    }

    fn here(&self) -> Vec<PartyId> {
        let mut here = self.present();
        here.retain(|id| self.place(*id) == Some(Place::In));
        here
    }

    /// Everybody who came and has not gone, in the order of coming.
    fn present(&self) -> Vec<PartyId> {
        let mut present = Vec::with_capacity(8);
        for (_, fact) in &self.facts {
            match fact {
                Came(id, _) => present.push(*id),
                Gone(id, _) => present.retain(|it| it != id),
                _ => {}
            }
        }
        present
    }

    fn last<T>(&self, said: impl Fn(Fact) -> Option<T>) -> Option<T> {
        self.last_before(self.facts.len(), said)
    }

    fn last_before<T>(&self, end: usize, said: impl Fn(Fact) -> Option<T>) -> Option<T> {
        self.facts[..end].iter().rev().find_map(|(_, fact)| said(*fact))
    }

    fn tell(&mut self, now: Instant, fact: Fact) {
        self.facts.push((now, fact));
    }
}

/// To whom it is done.
pub fn whom(deed: Deed) -> Option<PartyId> {
    match deed {
        Deed::Admit(id)
        | Deed::Remove(id)
        | Deed::Mute(id, _)
        | Deed::Role(id, _)
        | Deed::Hand(id, _)
        | Deed::Spotlight(id, _)
        | Deed::Slides(id, _)
        | Deed::Hide(id, _)
        | Deed::Microphone(id, _) => Some(id),
        _ => None,
    }
}
