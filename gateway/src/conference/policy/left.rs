//! A conference whose gateway was killed, as another process takes it up again. Legs have ended with the
//! process; who came by the client API is there as before.

use crosspoint_codecs::clock::Instant;

use super::{Change, Keeps, Muted, Party, PartyId, Place, Policy, Role, Rules};

/// What is left of a conference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Newcomers wait.
    pub locked: bool,
    /// Guests are muted.
    pub guests_muted: bool,
    /// They may take that back.
    pub guests_can_unmute: bool,
    /// It was started by command.
    pub opened: bool,
    /// A host was there.
    pub hosted: bool,
    /// Who is left, in the order in which they came.
    pub parties: Vec<LeftParty>,
}

/// Somebody who is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftParty {
    /// His number in this process.
    pub id: PartyId,
    /// His role.
    pub role: Role,
    /// Where he is.
    pub place: Place,
    /// Whether he is heard.
    pub muted: Muted,
    /// His hand is up since then.
    pub hand: Option<Instant>,
    /// He is shown first, since then.
    pub spotlight: Option<Instant>,
    /// He is sent slides.
    pub slides: bool,
}

impl Left {
    /// Whether nothing of it is worth keeping: the next conference would be the same.
    pub const fn is_plain(&self) -> bool {
        let Self { locked, guests_muted, guests_can_unmute, opened, hosted: _, parties } = self;
        !*locked && !*guests_muted && !*guests_can_unmute && !*opened && parties.is_empty()
    }
}

impl Policy {
    /// What would be left of it if only those parties were whom `stays` names.
    pub fn left(&self, stays: impl Fn(PartyId) -> bool) -> Left {
        let parties = self.parties.iter().filter(|it| stays(it.id)).map(|it| LeftParty {
            id: it.id,
            role: it.role,
            place: it.place,
            muted: it.muted,
            hand: it.hand,
            spotlight: it.spotlight,
            slides: it.slides,
        });
        Left {
            locked: self.locked,
            guests_muted: self.guests_muted,
            guests_can_unmute: self.guests_can_unmute,
            opened: self.opened,
            hosted: self.hosted,
            parties: parties.collect(),
        }
    }

    /// Takes a conference up. If nobody is in, it stands until `held` all the same, with its lock: those
    /// who were cut off may come back. Clocks begin anew; more than the rules allow are left out.
    pub fn take_up(rules: Rules, now: Instant, held: Instant, left: Left) -> Self {
        let mut policy = Self::new(rules);
        let Left { locked, guests_muted, guests_can_unmute, opened, hosted, parties } = left;
        (policy.locked, policy.guests_muted) = (locked, guests_muted);
        (policy.guests_can_unmute, policy.opened) = (guests_can_unmute, opened);
        policy.hosted = hosted;
        for party in parties {
            if policy.parties.len() < policy.rules.parties && policy.party(party.id).is_none() {
                let LeftParty { id, role, place, muted, hand, spotlight, slides } = party;
                let (invited, keeps, since) = (false, Keeps::Always, now);
                // Whether he shows himself and speaks he tells with his next media.
                let (hidden, microphone) = (false, true);
                policy.parties.push(Party {
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
                    since,
                });
                policy.changes.push(Change::Came(id));
            }
        }
        policy.started |= opened || hosted;
        policy.held = Some(held);
        policy.settle(now);
        policy
    }

    /// Whether it stands though nobody is in.
    pub const fn is_held(&self) -> bool {
        self.held.is_some() && self.over.is_none()
    }

    /// Nobody has come back: what was set for that conference is over with it. Whoever waits now
    /// waits for the next.
    pub(super) fn let_go(&mut self) {
        self.held = None;
        (self.locked, self.guests_muted, self.guests_can_unmute) = (false, false, false);
        (self.opened, self.hosted) = (false, false);
        self.started = !self.rules.tells_hosts;
        for party in &mut self.parties {
            party.muted.by_host = false;
        }
        self.changes.push(Change::Conference);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conference::policy::{Actor, Deed, End, Entry, Exit};

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * (1_000 + seconds))
    }

    fn rules(tells_hosts: bool) -> Rules {
        Rules { tells_hosts, ..Rules::default() }
    }

    const GUEST: Entry = Entry { role: Role::Guest, invited: false, keeps: Keeps::Always };
    const HOST: Entry = Entry { role: Role::Host, invited: false, keeps: Keeps::Always };

    fn killed(policy: &Policy, stays: impl Fn(PartyId) -> bool) -> Policy {
        Policy::take_up(policy.rules.clone(), at(50), at(170), policy.left(stays))
    }

    #[test]
    fn the_lock_holds_though_nobody_is_left_and_is_over_when_nobody_comes_back() {
        let mut policy = Policy::new(rules(true));
        policy.enter(at(0), PartyId(1), HOST).unwrap();
        policy.act(at(1), Actor::Party(PartyId(1)), Deed::Lock(true)).unwrap();
        let before = killed(&policy, |_| false);
        assert!(before.locked() && before.is_held() && before.parties().is_empty());
        assert_eq!(before.next_timeout(), Some(at(170)));
        // A guest calls: he waits. The host calls again: the conference goes on as it was.
        let mut back = before.clone();
        assert_eq!(back.enter(at(60), PartyId(2), GUEST), Ok(Place::Waiting));
        back.leave(at(61), PartyId(2));
        assert!(back.is_held(), "one who did not wait ends nothing");
        assert_eq!(back.enter(at(62), PartyId(3), HOST), Ok(Place::In));
        assert_eq!(back.enter(at(63), PartyId(4), GUEST), Ok(Place::Waiting));
        back.timeout(at(200));
        assert!(back.locked() && !back.is_held());
        // Nobody does.
        let mut gone = before.clone();
        gone.enter(at(60), PartyId(2), GUEST).unwrap();
        gone.timeout(at(170));
        assert!(!gone.locked() && gone.party(PartyId(2)).unwrap().place == Place::Waiting, "for a host");
        let mut empty = before;
        empty.timeout(at(170));
        assert!(empty.is_over());
    }

    #[test]
    fn a_room_without_hosts_lets_in_who_waits_once_its_lock_is_over() {
        let mut policy = Policy::new(rules(false));
        policy.enter(at(0), PartyId(1), HOST).unwrap();
        policy.act(at(1), Actor::Party(PartyId(1)), Deed::Lock(true)).unwrap();
        let mut policy = killed(&policy, |_| false);
        assert_eq!(policy.enter(at(60), PartyId(2), HOST), Ok(Place::Waiting));
        policy.timeout(at(170));
        assert_eq!(policy.party(PartyId(2)).unwrap().place, Place::In);
    }

    #[test]
    fn guests_whose_host_was_cut_off_go_on_for_as_long_as_if_he_had_left() {
        let mut policy = Policy::new(rules(true));
        policy.enter(at(0), PartyId(1), HOST).unwrap();
        policy.enter(at(0), PartyId(2), GUEST).unwrap();
        let mut policy = killed(&policy, |id| id == PartyId(2));
        assert!(policy.started() && !policy.is_held());
        assert_eq!(policy.party(PartyId(2)).unwrap().place, Place::In);
        policy.take_changes();
        policy.timeout(at(50) + policy.rules.guests_alone);
        let out = Change::Out(PartyId(2), Exit::Over(End::NoHost));
        assert_eq!(policy.take_changes(), [out, Change::Over(End::NoHost)]);
    }

    #[test]
    fn no_more_come_back_than_may() {
        let mut policy = Policy::new(rules(false));
        for id in 0..5 {
            policy.enter(at(0), PartyId(id), HOST).unwrap();
        }
        policy.rules.parties = 3;
        assert_eq!(killed(&policy, |_| true).parties().len(), 3);
    }

    /// The rules are those of the model (`gateway/tests/policy`); what is taken up is the same as what was
    /// never interrupted, whatever is done before and after.
    #[test]
    fn s38_any_life_goes_on_as_if_nothing_had_been() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for life in 0..2_000 {
            let mut policy = Policy::new(rules(life % 2 == 0));
            let mut twin = None;
            for step in 0..60 {
                let now = at(step);
                let (who, whom, what) = (PartyId(random(8)), PartyId(random(8)), random(14));
                let on = random(2) == 0;
                let does = |policy: &mut Policy| match what {
                    0..=3 => {
                        let _ = policy.enter(now, who, if on { HOST } else { GUEST });
                    }
                    4 => policy.leave(now, who),
                    _ => {
                        let deed = match what {
                            5 => Deed::Lock(on),
                            6 => Deed::Start,
                            7 => Deed::Admit(whom),
                            8 => Deed::Remove(whom),
                            9 => Deed::Mute(whom, on),
                            10 => Deed::MuteGuests(on),
                            11 => Deed::GuestsCanUnmute(on),
                            12 => Deed::Role(whom, if on { Role::Host } else { Role::Guest }),
                            _ => Deed::Hand(whom, on),
                        };
                        let _ = policy.act(now, Actor::Party(who), deed);
                    }
                };
                does(&mut policy);
                if let Some(twin) = &mut twin {
                    does(twin);
                    assert_eq!(policy.left(|_| true), twin.left(|_| true), "life {life}, step {step}");
                    assert_eq!((policy.is_over(), policy.started()), (twin.is_over(), twin.started()));
                } else if step == 30 && policy.parties().iter().any(|it| it.place == Place::In) {
                    let left = policy.left(|_| true);
                    let taken = Policy::take_up(policy.rules.clone(), now, now + HELD, left.clone());
                    assert_eq!(taken.left(|_| true), left, "nobody is let in or sent away by a kill");
                    twin = Some(taken);
                }
            }
        }
    }

    const HELD: Duration = Duration::from_secs(120);
}
