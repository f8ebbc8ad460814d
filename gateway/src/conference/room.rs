//! A conference of many: an actor over the policy, the legs and the media engine.
//!
//! It is told by its legs' events, by commands and by time; it answers with commands to legs and with
//! routes; it waits for nobody. What people may do is the [`policy`](super::policy)'s matter, what they
//! hear and see the studio's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::MediaKind;
use tokio::sync::{broadcast, mpsc, watch};

use self::attendee::{Attendee, Numbers, Stage};
use self::gateway::{Call, Claim};
use self::hand_over::Told;
use self::reception::Step;
use self::sight::Artist;
use self::studio::Studio;
use super::dialling::LONGEST_KEYS;
use super::floor::Floor;
use super::layout::Layout;
use super::ledger::Pages;
use super::offer::offer_for;
use super::order::Order;
use super::policy::{Party, PartyId, Policy, Rules};
use super::prompts::{Prompt, Voice};
use super::service::{Kind, Service};
use crate::cause::{Cause, Reason};
use crate::guard::Porter;
use crate::leg::{LegCommand, LegEvent, LegId};
use crate::media::EngineHandle;
use crate::media::port::StreamEvent;
use crate::uuid::Uuid;

mod attendee;
mod changes;
mod entry;
mod gateway;
mod hand_over;
mod keypad;
mod media;
mod orders;
mod pictures;
mod reception;
mod refer;
mod replace;
mod rooms;
mod seam;
mod show;
mod sight;
mod slides;
mod studio;
#[cfg(test)]
mod tests;

pub use hand_over::Handed;
pub(in crate::conference) use refer::Wish;
pub use rooms::{Rooms, RoomsParts};
pub use seam::{At, Command, Invited, Joined, PartyView, Referred, RoomView, Said, Seat};
pub use slides::Still;

/// After a goodbye the call stays so much longer, so that its end is heard.
const AFTER_GOODBYE: Duration = Duration::from_millis(300);
/// Who came by the client API is shown as leaving for so long, so that who watches him sees why.
const LINGER: Duration = Duration::from_secs(1);
/// How often the room looks who speaks: twice within the pause that ends a speech.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Who made a sound so recently speaks.
const SPEAKS_WITHIN: u128 = 250;
/// Who waits hears so every so often.
const REMIND_EVERY: Duration = Duration::from_secs(30);
/// Commands that wait for a room, and events of all its legs. Overflow: who commands is refused, unless
/// he leaves; legs wait, each with a bound of its own before.
const COMMANDS: usize = 64;
const EVENTS: usize = 256;
/// Messages that wait for who reads them. Overflow: he who is too slow loses the oldest.
const SAID: usize = 256;
/// Numbers of those who have no leg have this bit; no leg's number has.
const CONTROL: u64 = 1 << 62;

/// Keys to a leg go out one by one: the receiver must see where each ends (a tone is 160 ms long).
const KEY_EVERY: Duration = Duration::from_millis(300);
/// How long a comma among keys waits.
const COMMA: Duration = Duration::from_secs(2);
/// Keys that wait for one leg. Overflow: those that do not fit are left out.
const KEYS: usize = 2 * LONGEST_KEYS;

/// A room in progress.
struct Room {
    service: Arc<Service>,
    policy: Policy,
    studio: Studio,
    attendees: BTreeMap<PartyId, Attendee>,
    /// Those who are in, by when they spoke: all, and hosts alone.
    all: Order,
    hosts: Order,
    layouts: [Layout; 2],
    /// Names are shown in pictures, and a message of the host's.
    names: bool,
    banner: Option<String>,
    floor: Floor,
    still: Option<Still>,
    /// So many stills there have been.
    stills: u64,
    began: tokio::time::Instant,
    look_at: Instant,
    remind_at: Instant,
    /// Pictures are planned anew.
    changed: bool,
    told: mpsc::Sender<(PartyId, Told)>,
    view: watch::Sender<RoomView>,
    said: broadcast::Sender<Said>,
    numbers: Numbers,
    voice: Voice,
    began_at: SystemTime,
    porter: Porter,
    /// Its own name, and where it is written down.
    conference: Uuid,
    pages: Option<Pages>,
    /// Somebody is or was in; and who is told of the first.
    is_on: bool,
    begun: Option<mpsc::Sender<Arc<Service>>>,
    /// Who is told that somebody sends the conference on.
    wishes: Option<mpsc::Sender<Wish>>,
    /// Seats of those who have hung up lately, in case somebody comes for one.
    vacant: VecDeque<Party>,
    /// For a call between two.
    call: Option<Call>,
    /// Clients that want to come in before their leg has told so.
    claims: HashMap<LegId, Claim>,
}

impl Room {
    fn new(
        service: Arc<Service>,
        engine: EngineHandle,
        porter: Porter,
        numbers: Numbers,
        artist: Arc<dyn Artist>,
        told: mpsc::Sender<(PartyId, Told)>,
        view: watch::Sender<RoomView>,
    ) -> Self {
        let layouts = [service.layout, service.guest_layout];
        Self {
            policy: policy(&service),
            studio: Studio::new(engine, service.talkers, numbers.clone(), artist),
            attendees: BTreeMap::new(),
            all: order(layouts[0]),
            hosts: order(layouts[1]),
            layouts,
            names: service.names,
            banner: None,
            floor: Floor::default(),
            still: None,
            stills: 0,
            began: tokio::time::Instant::now(),
            look_at: Instant::ZERO,
            remind_at: Instant::ZERO,
            changed: false,
            told,
            view,
            said: broadcast::channel(SAID).0,
            numbers,
            voice: Voice::default(),
            began_at: SystemTime::now(),
            porter,
            conference: Uuid::random(),
            pages: None,
            is_on: false,
            begun: None,
            wishes: None,
            vacant: VecDeque::new(),
            call: (service.kind == Kind::Gateway).then(Call::default),
            claims: HashMap::new(),
            service,
        }
    }

    /// The moment, on a clock of the room's own.
    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn moment(&self, at: Instant) -> tokio::time::Instant {
        self.began + Duration::from_nanos(at.as_nanos())
    }

    fn is_empty(&self) -> bool {
        self.attendees.is_empty() && !self.policy.is_held()
    }

    fn event(&mut self, id: PartyId, event: LegEvent) {
        let now = self.now();
        // The leg of one who has become a client is over for him.
        let Some(attendee) = self.attendees.get_mut(&id).filter(|it| !it.is_control_only()) else { return };
        match event {
            LegEvent::Answered(streams) | LegEvent::Changed(streams) => {
                let gone: Vec<_> = attendee
                    .streams
                    .iter()
                    .filter(|old| streams.iter().all(|new| new.port.id() != old.port.id()))
                    .cloned()
                    .collect();
                self.studio.disengage(&gone);
                attendee.streams = streams;
                attendee.answered = true;
                self.studio.engage(attendee);
                // Who is hung up already does not come in, least of all into a conference that is over.
                if matches!(attendee.stage, Stage::Arriving) && attendee.hung_up.is_none() {
                    self.knock(id, now);
                }
                self.changed = true;
                self.sound(id);
            }
            LegEvent::Reoffered { .. } => attendee.tell(LegCommand::AcceptReoffer(offer_for(None))),
            LegEvent::Dtmf(key) | LegEvent::Stream { event: StreamEvent::Dtmf(key), .. } => {
                self.press(id, now, key);
            }
            LegEvent::Stream { role: MediaKind::Audio, event: StreamEvent::MediaTimeout }
                if attendee.should_speak() =>
            {
                attendee.hang_up(Cause::local(Reason::MediaTimeout));
            }
            LegEvent::Ended(cause) => self.ended(id, now, cause),
            LegEvent::Taken(leg) => self.taken(id, leg),
            LegEvent::Ringing => {
                self.called_rings();
                self.rings_for(id);
            }
            LegEvent::Referred { to, instead_of, referred_by } => {
                self.referred(id, to, instead_of, referred_by);
            }
            LegEvent::Redirected(party) => attendee.who = *party,
            LegEvent::AnswersAs(leg) => attendee.answers_as = Some(leg),
            LegEvent::Offered(_)
            | LegEvent::Elsewhere(_)
            | LegEvent::Progress(_)
            | LegEvent::ReofferWithdrawn
            | LegEvent::ReofferRefused
            | LegEvent::Stream { .. } => {}
        }
        self.carry_out();
    }

    fn ended(&mut self, id: PartyId, now: Instant, cause: Cause) {
        if let Some(attendee) = self.attendees.get_mut(&id)
            && attendee.invited.is_some()
            && !attendee.answered
        {
            // He stays in the roster for a moment, with the reason.
            attendee.not_reached(now, cause);
            let cause = attendee.hung_up.unwrap_or(cause);
            self.not_reached_for(id, cause.reason);
            self.changed = true;
            self.one_less(cause);
            return;
        }
        self.not_reached_for(id, cause.reason);
        if let Some(mut attendee) = self.attendees.remove(&id) {
            attendee.end(cause);
            self.studio.release(&attendee);
            self.forget(attendee.leg);
            self.vacates(id);
            self.policy.leave(now, id);
            self.one_less(cause);
        }
    }

    fn forget(&mut self, leg: LegId) {
        self.all.leave(leg);
        self.hosts.leave(leg);
        self.changed = true;
    }

    /// When [`Self::tick`] has something to do.
    fn next_tick(&self) -> Option<tokio::time::Instant> {
        let mut next = self.policy.next_timeout();
        let mut sooner = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        for attendee in self.attendees.values() {
            attendee.leaving.iter().for_each(|(at, _)| sooner(*at));
            attendee.saying.iter().for_each(|(_, at)| sooner(*at));
            attendee.next_key().into_iter().chain(attendee.rings_until()).for_each(&mut sooner);
            match &attendee.stage {
                Stage::AtTheDoor(reception) => sooner(reception.next_timeout()),
                Stage::Waiting => sooner(self.remind_at),
                _ => {}
            }
        }
        if self.changed || self.watched() {
            sooner(self.look_at);
        }
        next.map(|at| self.moment(at))
    }

    fn tick(&mut self) {
        let now = self.now();
        // One that is empty and has not begun would take it for its end, while somebody rings.
        if !self.policy.parties().is_empty() || self.policy.is_held() {
            self.policy.timeout(now);
        }
        let remind = now >= self.remind_at;
        for id in self.attendees.keys().copied().collect::<Vec<_>>() {
            self.receive(id, now, |reception, door| {
                if now >= reception.next_timeout() { reception.timeout(now, door) } else { Step::Wait }
            });
            let Some(attendee) = self.attendees.get_mut(&id) else { continue };
            attendee.send_keys(now);
            if attendee.rings_until().is_some_and(|until| now >= until) {
                attendee.hang_up(Cause::local(Reason::NoAnswer));
            }
            if attendee.saying.is_some_and(|(_, until)| now >= until) {
                attendee.saying = None;
                self.changed = true;
                self.sound(id);
            } else if remind && matches!(attendee.stage, Stage::Waiting) {
                attendee.say(now, if self.policy.locked() { Prompt::Locked } else { Prompt::Waiting });
                self.sound(id);
            }
            let Some(attendee) = self.attendees.get_mut(&id) else { continue };
            if let Some((_, cause)) = attendee.leaving.filter(|(at, _)| now >= *at) {
                attendee.leaving = None;
                attendee.hang_up(cause);
                // Who has no leg does not tell of his end.
                if attendee.has_no_leg() {
                    attendee.end(cause);
                    self.attendees.remove(&id);
                    self.changed = true;
                }
            }
        }
        if remind {
            self.remind_at = now + REMIND_EVERY;
        }
        if now >= self.look_at && (self.changed || self.watched()) {
            self.look_at = now + LOOK_EVERY;
            self.look(now);
        }
        self.carry_out();
    }

    /// The gateway stops.
    fn halt(&mut self, reason: Reason) {
        self.pages = None;
        let cause = Cause::local(reason);
        self.attendees.values_mut().for_each(|attendee| attendee.hang_up(cause));
        // There is no leg that would tell of their end.
        let control_only = self.attendees.values().filter(|it| it.is_control_only()).map(|it| it.id);
        for id in control_only.collect::<Vec<_>>() {
            self.ended(id, self.now(), cause);
        }
        self.carry_out();
        self.show();
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("service", &self.service.name).finish_non_exhaustive()
    }
}

fn rules(service: &Service) -> Rules {
    Rules { tells_hosts: service.door.tells_hosts(), ..service.rules.clone() }
}

fn policy(service: &Service) -> Policy {
    Policy::new(rules(service)).with_guests_present(service.guests_present)
}

fn order(layout: Layout) -> Order {
    Order::new(layout.capacity(), layout.mains())
}
