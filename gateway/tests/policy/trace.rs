//! A random life: clients come, wait, act, go and come again under new numbers; what the product says
//! is held against the model and against what must hold whatever the model says.

use std::collections::BTreeMap;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_gateway::conference::policy::{
    Actor, Change, Deed, Denied, End, Entry, Exit, Keeps, Party, PartyId, Place, Policy, Role, Rules,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::model::{Guest, Model, whom};

const CLIENTS: usize = 8;

/// Ways out and ways to be denied.
pub const KINDS: u32 = 12;

/// What one step was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Enter(PartyId, Entry),
    Leave(PartyId),
    Act(Actor, Deed),
    Wait(Duration),
}

pub struct Trace {
    seed: u64,
    random: ChaCha8Rng,
    now: Instant,
    numbers: u64,
    ended: usize,
    seen: u32,
    conference: Conference,
}

impl Trace {
    pub fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let rules = crate::rules(|most| random.next_u32() % most);
        let conference = Conference::new(rules);
        Self { seed, random, now: Instant::from_millis(1_000_000), numbers: 0, ended: 0, seen: 0, conference }
    }

    pub fn step(&mut self) {
        if self.conference.over && self.chance(2) {
            self.begin_another();
        }
        let step = self.choose();
        self.now += Duration::from_millis(u64::from(self.random.next_u32() % 3) * 500);
        self.take(step);
    }

    fn take(&mut self, step: Step) {
        if let Err(fault) = self.conference.take(&mut self.now, step) {
            let steps = &self.conference.steps;
            panic!("life {}: {fault}\nafter {steps:#?}\nof {:?}", self.seed, self.conference.policy);
        }
    }

    /// Ends what still goes on; how many have ended, and what was seen: a bit for each of [`KINDS`].
    pub fn finish(mut self) -> (usize, u32) {
        let end = Step::Act(Actor::Admin, Deed::End);
        if !self.conference.over && !self.conference.steps.is_empty() {
            self.take(end);
            assert!(self.conference.over, "life {}: the end is the end", self.seed);
        }
        self.conference.is_settled();
        (self.ended + 1, self.seen | self.conference.seen)
    }

    fn begin_another(&mut self) {
        self.conference.is_settled();
        self.ended += 1;
        self.seen |= self.conference.seen;
        let rules = crate::rules(|most| self.random.next_u32() % most);
        self.conference = Conference::new(rules);
    }

    /// A conference begins when somebody comes.
    fn choose(&mut self) -> Step {
        match self.random.next_u32() % 16 {
            _ if self.conference.steps.is_empty() => self.enter(),
            0..4 => self.enter(),
            4 => Step::Leave(self.somebody()),
            5..7 => Step::Wait(Duration::from_secs(u64::from(self.random.next_u32() % 50))),
            7 => self.conference.policy.next_timeout().map_or(Step::Wait(Duration::ZERO), |at| {
                // To the very moment, or the one before it.
                let left = at.saturating_since(self.now);
                Step::Wait(left.saturating_sub(Duration::from_nanos(u64::from(self.random.next_u32() % 2))))
            }),
            _ => {
                let actor = if self.chance(4) { Actor::Admin } else { Actor::Party(self.somebody()) };
                Step::Act(actor, self.deed(actor))
            }
        }
    }

    fn enter(&mut self) -> Step {
        let tells_hosts = self.conference.rules.tells_hosts;
        let invited = self.chance(4);
        let keeps = match (self.chance(6), self.chance(3)) {
            (true, _) => Keeps::Never,
            (false, true) => Keeps::InCompany,
            (false, false) => Keeps::Always,
        };
        // S18: who is not invited is a host where the door tells none.
        let guest = (tells_hosts || invited) && self.chance(2);
        let role = if guest { Role::Guest } else { Role::Host };
        let parties = self.conference.policy.parties();
        // All clients are in a call already, or one comes twice: no number is used again otherwise.
        let again = parties.last().map(|it| it.id);
        let full = parties.len() == CLIENTS;
        let id = again.filter(|_| full || self.chance(20)).unwrap_or_else(|| {
            self.numbers += 1;
            PartyId(self.numbers)
        });
        Step::Enter(id, Entry { role, invited, keeps })
    }

    fn deed(&mut self, actor: Actor) -> Deed {
        let on = self.chance(2);
        let id = match actor {
            Actor::Party(id) if self.chance(3) => id,
            _ => self.somebody(),
        };
        match self.random.next_u32() % 36 {
            0..4 => Deed::Lock(on),
            4 => Deed::Start,
            5..9 => Deed::Admit(id),
            9..11 => Deed::Remove(id),
            11 if self.chance(4) => Deed::End,
            11..16 => Deed::Mute(id, on),
            16..19 => Deed::MuteGuests(on),
            19 => Deed::GuestsCanUnmute(on),
            20..25 => Deed::Role(id, if on { Role::Host } else { Role::Guest }),
            25..28 => Deed::Hand(id, on),
            28 => Deed::LowerHands,
            29..31 => Deed::Spotlight(id, on),
            31 => Deed::ClearSpotlights,
            32 => Deed::Slides(id, on),
            33 => Deed::Hide(id, on),
            34 => Deed::Microphone(id, on),
            _ => Deed::GuestsPresent(on),
        }
    }

    /// Somebody who is there, mostly; else one who has gone or was never there.
    fn somebody(&mut self) -> PartyId {
        let at = self.random.next_u32() as usize;
        let parties = self.conference.policy.parties();
        if parties.is_empty() || at.is_multiple_of(12) {
            return PartyId(1 + at as u64 / 12 % (self.numbers + 2));
        }
        parties[at / 12 % parties.len()].id
    }

    fn chance(&mut self, one_of: u32) -> bool {
        self.random.next_u32().is_multiple_of(one_of)
    }
}

/// One conference, twice, and what is kept to check it without the model.
struct Conference {
    rules: Rules,
    policy: Policy,
    model: Model,
    steps: Vec<Step>,
    over: bool,
    seen: u32,
    /// Everybody as the changes told of him.
    roster: Vec<Party>,
    flags: [bool; 5],
    /// How often each came, and went.
    came: BTreeMap<PartyId, (usize, usize)>,
}

impl Conference {
    fn new(rules: Rules) -> Self {
        let (policy, model) = (Policy::new(rules.clone()), Model::new(rules.clone()));
        let flags = flags(&policy);
        let (steps, roster, came) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { rules, policy, model, steps, over: false, seen: 0, roster, flags, came }
    }

    /// Takes the step; timers that are due on the way fire at their moments.
    fn take(&mut self, now: &mut Instant, step: Step) -> Result<(), String> {
        self.steps.push(step);
        if let Step::Wait(time) = step {
            let until = *now + time;
            while let Some(at) = self.policy.next_timeout().filter(|at| *at <= until) {
                *now = at.max(*now);
                self.once(*now, step)?;
            }
            *now = until;
        }
        self.once(*now, step)
    }

    fn once(&mut self, now: Instant, step: Step) -> Result<(), String> {
        let (before, locked, mark) =
            (self.policy.parties().to_vec(), self.policy.locked(), self.model.mark());
        match step {
            Step::Enter(id, entry) => {
                let (said, expected) = (self.policy.enter(now, id, entry), self.model.enter(now, id, entry));
                same("whether he may come", &said.is_ok(), &expected)?;
                if let (Ok(place), Some(party)) = (said, self.policy.party(id)) {
                    same("where he is told to be", &place, &party.place)?;
                }
            }
            Step::Leave(id) => {
                self.policy.leave(now, id);
                self.model.leave(now, id);
            }
            Step::Act(actor, deed) => {
                let (said, against) = (self.policy.act(now, actor, deed), self.model.act(now, actor, deed));
                let agreed = match said {
                    Ok(()) => against.is_empty(),
                    Err(denied) => against.contains(&denied),
                };
                if !agreed {
                    return Err(format!(
                        "{actor:?} {deed:?}: {said:?}, the model has {against:?} against it"
                    ));
                }
                self.seen |= said.err().map_or(0, |denied| match denied {
                    Denied::Role => 1 << 8,
                    Denied::MutedByHost => 1 << 9,
                    Denied::NoParty => 1 << 10,
                    Denied::Over => 1 << 11,
                    other => panic!("unknown: {other}"),
                });
                if said == Err(Denied::Over) && !self.over {
                    return Err("over, and nobody was told".into());
                }
            }
            Step::Wait(_) => {
                self.policy.timeout(now);
                self.model.timeout(now);
            }
        }
        let changes = self.policy.take_changes();
        self.compare(&changes, mark)?;
        self.replay(&changes)?;
        self.invariants(&before, locked, step)
    }

    fn compare(&self, changes: &[Change], mark: usize) -> Result<(), String> {
        let guests = self.policy.parties().iter().map(|it| Guest {
            id: it.id,
            role: it.role,
            place: it.place,
            invited: it.invited,
            keeps: it.keeps,
            muted: it.muted,
            hand: it.hand,
            spotlight: it.spotlight,
            slides: it.slides,
            hidden: it.hidden,
            microphone: it.microphone,
            may_present: self.policy.may_present(it.id),
            sees_waiting: self.policy.sees_waiting(it.id),
        });
        same("who is there", &guests.collect(), &self.model.guests())?;
        let model = &self.model;
        let expected = [
            model.locked(),
            model.guests_muted(),
            model.guests_can_unmute(),
            model.started(),
            model.guests_present(),
        ];
        same("lock, mutes, start", &flags(&self.policy), &expected)?;
        same("the next timeout", &self.policy.next_timeout(), &model.next_timeout())?;
        let out = changes.iter().filter_map(|change| match *change {
            Change::Out(id, exit) => Some((id, exit)),
            _ => None,
        });
        same("who went and why", &out.collect::<Vec<(PartyId, Exit)>>(), &model.exits_since(mark))?;
        let end = changes.iter().find_map(|change| match *change {
            Change::Over(end) => Some(end),
            _ => None,
        });
        if !self.over || end.is_some() {
            same("the end", &end, &model.over())?;
        }
        Ok(())
    }

    /// What was told, on a plain roster, is what is: no change is silent, none is told for nothing.
    fn replay(&mut self, changes: &[Change]) -> Result<(), String> {
        let mut renewed = Vec::new();
        for change in changes {
            if self.over {
                return Err(format!("{change:?} after the end"));
            }
            match *change {
                Change::Came(id) => {
                    self.came.entry(id).or_default().0 += 1;
                    renewed.push(id);
                    // Or is gone again with one of the next changes.
                    let goes = |it: &Change| matches!(it, Change::Out(it, _) if *it == id);
                    match self.policy.party(id) {
                        Some(party) => self.roster.push(*party),
                        None if changes.iter().any(goes) => {}
                        None => return Err(format!("{id:?} came and is nowhere")),
                    }
                }
                Change::LetIn(id) | Change::Party(id) => {
                    if let Some(party) = self.policy.party(id) {
                        let known = self.roster.iter_mut().find(|it| it.id == id).ok_or("told of nobody")?;
                        if known == party && !renewed.contains(&id) {
                            return Err(format!("{change:?} is none"));
                        }
                        renewed.push(id);
                        *known = *party;
                    }
                }
                Change::Out(id, exit) => {
                    self.seen |= match exit {
                        Exit::Left => 1,
                        Exit::Removed(_) => 1 << 1,
                        Exit::Waited => 1 << 2,
                        Exit::Over(End::Empty) => 1 << 3,
                        Exit::Over(End::NobodyKeeps) => 1 << 4,
                        Exit::Over(End::NoHost) => 1 << 5,
                        Exit::Over(End::LastOne) => 1 << 6,
                        Exit::Over(End::Ended(_)) => 1 << 7,
                        Exit::Over(End::FarSide(_)) => panic!("a room is no call"),
                    };
                    self.came.entry(id).or_default().1 += 1;
                    self.roster.retain(|it| it.id != id);
                }
                Change::Conference => {
                    if self.flags == flags(&self.policy) {
                        return Err("told of a conference that is as it was".into());
                    }
                    self.flags = flags(&self.policy);
                }
                Change::Over(_) => self.over = true,
            }
        }
        same("the roster as told", &self.roster.as_slice(), &self.policy.parties())?;
        same("the flags as told", &self.flags, &flags(&self.policy))
    }

    fn invariants(&self, before: &[Party], was_locked: bool, step: Step) -> Result<(), String> {
        let earlier = |id| before.iter().find(|it| it.id == id);
        let may = |actor| match actor {
            Actor::Admin => true,
            Actor::Party(id) => earlier(id).is_some_and(|it| it.role == Role::Host && it.place == Place::In),
        };
        for party in self.policy.parties() {
            let was = earlier(party.id);
            let made =
                matches!(step, Step::Act(actor, Deed::Role(id, Role::Host)) if id == party.id && may(actor));
            if was.is_some_and(|it| it.role == Role::Guest) && party.role == Role::Host && !made {
                return Err(format!("S38: {:?} made himself a host", party.id));
            }
            // S24, S26, S27, S29.
            let entered = matches!(step, Step::Enter(id, entry) if id == party.id && entry.role == Role::Host
                && (self.rules.tells_hosts || self.rules.invited_hosts_pass && entry.invited));
            let admitted = matches!(step, Step::Act(actor, Deed::Admit(id)) if id == party.id
                && (may(actor) || !self.rules.tells_hosts));
            let new = party.place == Place::In && was.is_none_or(|it| it.place == Place::Waiting);
            if new && was_locked && self.policy.locked() && !(entered || admitted || made) {
                return Err(format!("{:?} came into a locked room", party.id));
            }
        }
        // S38: what was done to others was done by who may.
        if let Step::Act(Actor::Party(own), deed) = step
            && whom(deed).is_some_and(|to| to != own)
            && !may(Actor::Party(own))
            && !matches!(deed, Deed::Admit(_) | Deed::Remove(_))
        {
            same("S38: others, after the deed of one who may not", &before, &self.policy.parties())?;
        }
        Ok(())
    }

    /// At the end: everybody who came has gone, once (S29).
    fn is_settled(&self) {
        if self.over {
            for (id, counts) in &self.came {
                assert_eq!(*counts, (1, 1), "{id:?} came and went");
            }
            assert!(self.policy.parties().is_empty());
        }
    }
}

fn flags(policy: &Policy) -> [bool; 5] {
    [
        policy.locked(),
        policy.guests_muted(),
        policy.guests_can_unmute(),
        policy.started(),
        policy.guests_present(),
    ]
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, product: &T, model: &T) -> Result<(), String> {
    if product == model { Ok(()) } else { Err(format!("{what}:\n product {product:?}\n model   {model:?}")) }
}
