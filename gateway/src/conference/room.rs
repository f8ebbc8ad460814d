//! A conference of many: an actor over the policy, the legs and the media engine.
//!
//! It is told by its legs' events, by commands and by time; it answers with commands to legs and with
//! routes; it waits for nobody. What people may do is the [`policy`](super::policy)'s matter, what they
//! hear and see the studio's.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::kernels::mix::Gain;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::attendee::{Attendee, Invitation, Numbers, Stage};
use self::keypad::Command as Key;
use self::reception::{Reception, Step};
use self::studio::{Sight, Slate, Studio, composition};
use super::call::{CallView, Outcome};
use super::layout::Layout;
use super::offer::offer_for;
use super::order::{Order, SelfView};
use super::policy::{
    Actor, Answer, Change, Deed, Entry, Exit, Full, Knock, PartyId, Place, Policy, Role, Rules,
};
use super::prompts::Prompt;
use super::service::{Kind, Service};
use crate::cause::{Cause, Reason};
use crate::leg::{Leg, LegCommand, LegEvent, LegId, Origin};
use crate::media::EngineHandle;
use crate::media::port::StreamEvent;

mod attendee;
mod keypad;
mod reception;
mod rooms;
mod seam;
mod studio;
#[cfg(test)]
mod tests;

pub use rooms::{Rooms, RoomsParts};
pub use seam::{At, Command, Joined, PartyView, RoomView, Said};

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
/// Commands that wait for a room, and events of all its legs. Overflow: who sends waits, legs as
/// well; each leg has a bound of its own before.
const COMMANDS: usize = 64;
const EVENTS: usize = 256;
/// Messages that wait for who reads them. Overflow: he who is too slow loses the oldest.
const SAID: usize = 256;
/// Numbers of those who have no leg have this bit; no leg's number has.
const CONTROL: u64 = 1 << 62;

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
    began: tokio::time::Instant,
    look_at: Instant,
    remind_at: Instant,
    /// Pictures are planned anew.
    changed: bool,
    told: mpsc::Sender<(PartyId, LegEvent)>,
    view: watch::Sender<RoomView>,
    said: broadcast::Sender<Said>,
    numbers: Numbers,
    began_at: SystemTime,
}

impl Room {
    fn new(
        service: Arc<Service>,
        engine: EngineHandle,
        numbers: Numbers,
        text: Arc<Mutex<Typesetter>>,
        told: mpsc::Sender<(PartyId, LegEvent)>,
        view: watch::Sender<RoomView>,
    ) -> Self {
        let layouts = [service.layout, service.guest_layout];
        Self {
            policy: Policy::new(rules(&service)),
            studio: Studio::new(engine, service.talkers, numbers.clone(), text),
            attendees: BTreeMap::new(),
            all: order(layouts[0]),
            hosts: order(layouts[1]),
            layouts,
            began: tokio::time::Instant::now(),
            look_at: Instant::ZERO,
            remind_at: Instant::ZERO,
            changed: false,
            told,
            view,
            said: broadcast::channel(SAID).0,
            numbers,
            began_at: SystemTime::now(),
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
        self.attendees.is_empty()
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Enter { leg, view, done } => self.arrive(leg, view, done),
            Command::Act { actor, deed, reply } => {
                let done = self.policy.act(self.now(), actor, deed);
                self.carry_out();
                // Who asks next sees what he did.
                self.show();
                // Who asked may be gone.
                let _ = reply.send(done);
            }
            Command::Join { name, role, source, reply } => self.join(name, role, source, reply),
            Command::Leave(id) => {
                let now = self.now();
                self.policy.leave(now, id);
                self.carry_out();
            }
            Command::Invite { leg, role, keeps, reply } => {
                let invitation = Invitation { role, keeps };
                let (id, party, commands) = self.follow(leg);
                let mut attendee = Attendee::new(id, party, SystemTime::now()).with_leg(commands);
                attendee.invited = Some(invitation);
                // Who asked may be gone.
                let _ = reply.send(attendee.uuid);
                self.attendees.insert(attendee.id, attendee);
                self.changed = true;
            }
            Command::Keys(id, keys) => {
                if let Some(attendee) = self.attendees.get_mut(&id) {
                    keys.chars().for_each(|key| attendee.tell(LegCommand::SendDtmf(key)));
                }
            }
            Command::Say { from, to, kind, text } => {
                let here = |it: &&Attendee| matches!(it.stage, Stage::In);
                if let Some(speaker) = self.attendees.get(&from).filter(here) {
                    let (uuid, name) = (speaker.uuid, speaker.name().to_owned());
                    // Nobody may read.
                    let _ = self.said.send(Said { from, uuid, name, to, kind, text });
                }
            }
            Command::Layout(hosts, guests) => self.lay_out([hosts, guests]),
        }
    }

    /// A leg has called: it is answered at once, so that it hears us.
    fn arrive(&mut self, leg: Leg, view: watch::Sender<CallView>, done: oneshot::Sender<Outcome>) {
        let (id, party, commands) = self.follow(leg);
        let mut attendee = Attendee::new(id, party, SystemTime::now()).with_leg(commands).watched(view, done);
        if self.policy.parties().len() >= self.service.rules.parties {
            attendee.hang_up(Cause::local(Reason::Congestion));
        } else {
            attendee.tell(LegCommand::Answer(offer_for(None)));
        }
        self.attendees.insert(attendee.id, attendee);
    }

    /// Somebody has come by the client API.
    fn join(
        &mut self,
        name: String,
        role: Role,
        source: Option<SocketAddr>,
        reply: oneshot::Sender<Result<Joined, Full>>,
    ) {
        let now = self.now();
        let number = LegId(CONTROL | self.numbers.fetch_add(1, Ordering::Relaxed));
        let who = crate::leg::Party {
            protocol: "api",
            origin: Origin::Incoming,
            address: String::new(),
            name,
            called: self.service.name.clone(),
            device: None,
            signalling: source,
            transport: "tls",
            hops: 0,
        };
        let attendee = Attendee::new(number, who, SystemTime::now());
        let (id, uuid) = (attendee.id, attendee.uuid);
        self.attendees.insert(id, attendee);
        let entered = self.enter_as(id, now, Entry { role, invited: false, keeps: true });
        self.carry_out();
        let joined = entered.map(|place| {
            self.show();
            Joined { id, uuid, place, view: self.view.subscribe(), said: self.said.subscribe() }
        });
        if joined.is_err() {
            self.attendees.remove(&id);
        }
        if let Err(Ok(joined)) = reply.send(joined) {
            // Who asked is gone: so is he.
            self.policy.leave(now, joined.id);
            self.carry_out();
        }
    }

    /// The events of `leg` go to the room from now on.
    fn follow(&self, leg: Leg) -> (LegId, crate::leg::Party, mpsc::Sender<LegCommand>) {
        let Leg { id, party, commands, mut events, .. } = leg;
        let (number, told) = (PartyId(id.0), self.told.clone());
        tokio::spawn(async move {
            // A leg that vanishes without a word is a fault of ours, and over all the same.
            let mut last = LegEvent::Ended(Cause::local(Reason::Internal));
            while let Some(event) = events.recv().await {
                if matches!(event, LegEvent::Ended(_)) {
                    last = event;
                    break;
                }
                if told.send((number, event)).await.is_err() {
                    return;
                }
            }
            let _ = told.send((number, last)).await;
        });
        (id, party, commands)
    }

    fn event(&mut self, id: PartyId, event: LegEvent) {
        let now = self.now();
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
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
                self.studio.engage(attendee);
                if matches!(attendee.stage, Stage::Arriving) {
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
            LegEvent::Offered(_)
            | LegEvent::Ringing
            | LegEvent::Progress(_)
            | LegEvent::ReofferWithdrawn
            | LegEvent::ReofferRefused
            | LegEvent::Stream { .. } => {}
        }
        self.carry_out();
    }

    /// Somebody stands at the door.
    fn knock(&mut self, id: PartyId, now: Instant) {
        if let Some(Invitation { role, keeps }) = self.attendees.get(&id).and_then(|it| it.invited) {
            self.enter(id, now, Entry { role, invited: true, keeps });
            return;
        }
        match self.service.door.answer(Knock::Silent) {
            Answer::Enter(role) => self.enter(id, now, Entry { role, invited: false, keeps: true }),
            Answer::AskPin { guests_without } => {
                if let Some(attendee) = self.attendees.get_mut(&id) {
                    attendee.stage = Stage::AtTheDoor(Reception::new(now, guests_without));
                }
                self.receive(id, now, |reception, door| reception.timeout(now, door));
            }
            // Nobody is wrong before he has said something.
            Answer::Wrong => {}
        }
    }

    fn receive(
        &mut self,
        id: PartyId,
        now: Instant,
        what: impl FnOnce(&mut Reception, &super::policy::Door) -> Step,
    ) {
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        let Stage::AtTheDoor(reception) = &mut attendee.stage else { return };
        let wrong = reception.wrong();
        let step = what(reception, &self.service.door);
        if reception.wrong() > wrong {
            tracing::warn!(leg = attendee.leg.0, source = ?attendee.who.signalling, "a PIN was wrong");
        }
        match step {
            Step::Wait => return,
            Step::Hush => attendee.saying = None,
            Step::Say(prompt) => attendee.say(now, prompt),
            Step::Enter(role) => {
                attendee.saying = None;
                self.enter(id, now, Entry { role, invited: false, keeps: true });
            }
            Step::Refuse { say } => attendee.say_goodbye(now, Some(say), Cause::local(Reason::Forbidden)),
        }
        self.changed = true;
        self.sound(id);
    }

    fn enter_as(&mut self, id: PartyId, now: Instant, entry: Entry) -> Result<Place, Full> {
        if self.policy.is_over() {
            // The last conference is over but for its goodbyes: this is the next one.
            self.policy = Policy::new(rules(&self.service));
        }
        self.policy.enter(now, id, entry)
    }

    fn enter(&mut self, id: PartyId, now: Instant, entry: Entry) {
        if self.enter_as(id, now, entry).is_err()
            && let Some(attendee) = self.attendees.get_mut(&id)
        {
            attendee.say_goodbye(now, None, Cause::local(Reason::Congestion));
        }
    }

    fn press(&mut self, id: PartyId, now: Instant, key: char) {
        self.receive(id, now, |reception, door| reception.press(now, key, door));
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        if !matches!(attendee.stage, Stage::In) {
            return;
        }
        let Some(command) = attendee.keypad.press(now, key) else { return };
        let Some(party) = self.policy.party(id).copied() else { return };
        let actor = Actor::Party(id);
        let (deed, prompt) = match command {
            Key::Lock if self.policy.locked() => (Deed::Lock(false), Some(Prompt::NowUnlocked)),
            Key::Lock => (Deed::Lock(true), Some(Prompt::NowLocked)),
            Key::MuteGuests if self.policy.guests_muted() => {
                (Deed::MuteGuests(false), Some(Prompt::GuestsUnmuted))
            }
            Key::MuteGuests => (Deed::MuteGuests(true), Some(Prompt::GuestsMuted)),
            Key::MuteMyself if party.muted.any() => (Deed::Mute(id, false), Some(Prompt::Unmuted)),
            Key::MuteMyself => (Deed::Mute(id, true), Some(Prompt::Muted)),
            Key::End => (Deed::End, None),
            Key::NextLayout if party.role == Role::Host => {
                let next = |layout: Layout| {
                    let at = Layout::ALL.iter().position(|it| *it == layout).unwrap_or(0);
                    Layout::ALL[(at + 1) % Layout::ALL.len()]
                };
                self.lay_out([next(self.layouts[0]), self.layouts[1]]);
                return;
            }
            Key::NextLayout | Key::SlidesInMix => return,
        };
        let done = self.policy.act(now, actor, deed);
        if done.is_ok()
            && let Some(prompt) = prompt
            && let Some(attendee) = self.attendees.get_mut(&id)
        {
            attendee.say(now, prompt);
            self.sound(id);
        }
    }

    fn lay_out(&mut self, layouts: [Layout; 2]) {
        self.layouts = layouts;
        self.all.set_slots(layouts[0].capacity(), layouts[0].mains());
        self.hosts.set_slots(layouts[1].capacity(), layouts[1].mains());
        self.changed = true;
    }

    fn ended(&mut self, id: PartyId, now: Instant, cause: Cause) {
        if let Some(mut attendee) = self.attendees.remove(&id) {
            attendee.end(cause);
            self.studio.release(&attendee);
            self.forget(attendee.leg);
            self.policy.leave(now, id);
        }
    }

    fn forget(&mut self, leg: LegId) {
        self.all.leave(leg);
        self.hosts.leave(leg);
        self.changed = true;
    }

    /// Does what the policy has told.
    fn carry_out(&mut self) {
        let now = self.now();
        for change in self.policy.take_changes() {
            match change {
                Change::Came(id) | Change::LetIn(id) | Change::Party(id) => self.place(id, now),
                Change::Out(id, exit) => self.sent_away(id, now, exit),
                Change::Conference => {}
                Change::Over(end) => tracing::info!(service = self.service.name, ?end, "conference over"),
            }
            self.changed = true;
        }
    }

    /// Brings somebody to where the policy has him.
    fn place(&mut self, id: PartyId, now: Instant) {
        let (Some(party), Some(attendee)) = (self.policy.party(id).copied(), self.attendees.get_mut(&id))
        else {
            return;
        };
        let was_in = matches!(attendee.stage, Stage::In);
        match party.place {
            Place::Waiting if !matches!(attendee.stage, Stage::Waiting) => {
                attendee.stage = Stage::Waiting;
                attendee.say(now, if self.policy.locked() { Prompt::Locked } else { Prompt::Waiting });
                self.remind_at = self.remind_at.max(now + REMIND_EVERY);
            }
            Place::Waiting => {}
            Place::In if !was_in => {
                attendee.stage = Stage::In;
                let alone = self.policy.parties().iter().filter(|it| it.place == Place::In).count() == 1;
                attendee.say(now, if alone { Prompt::Alone } else { Prompt::Welcome });
                if !attendee.is_control_only() {
                    self.all.join(attendee.leg);
                }
            }
            Place::In => {}
        }
        let leg = attendee.leg;
        if party.place == Place::In && party.role == Role::Host && !attendee.is_control_only() {
            self.hosts.join(leg);
        } else {
            self.hosts.leave(leg);
        }
        let mut spotlit: Vec<_> =
            self.policy.parties().iter().filter_map(|it| Some((it.spotlight?, it.id))).collect();
        spotlit.sort_unstable();
        let spotlit: Vec<LegId> = spotlit.iter().map(|(_, id)| LegId(id.0)).collect();
        self.all.set_spotlight(&spotlit);
        self.hosts.set_spotlight(&spotlit);
        self.sound(id);
    }

    fn sent_away(&mut self, id: PartyId, now: Instant, exit: Exit) {
        let Some(attendee) = self.attendees.get_mut(&id) else { return };
        let prompt = match exit {
            Exit::Left => None,
            Exit::Waited => Some(Prompt::Waited),
            Exit::Removed(_) | Exit::Over(_) => Some(Prompt::Ended),
        };
        let cause = Cause::local(if exit == Exit::Waited { Reason::NoAnswer } else { Reason::Hangup });
        attendee.exit = Some(exit);
        attendee.say_goodbye(now, prompt, cause);
        let leg = attendee.leg;
        self.forget(leg);
        self.sound(id);
    }

    /// Has somebody be heard, and hear, as he should.
    fn sound(&mut self, id: PartyId) {
        let Some(attendee) = self.attendees.get(&id) else { return };
        if self.service.kind == Kind::TestCall && matches!(attendee.stage, Stage::In) {
            self.studio.echo(attendee);
            return;
        }
        let gain = self
            .policy
            .party(id)
            .filter(|_| matches!(attendee.stage, Stage::In))
            .map(|party| if party.muted.any() { Gain::ZERO } else { Gain::ONE });
        self.studio.sound(attendee, gain);
    }

    /// When [`Self::tick`] has something to do.
    fn next_tick(&self) -> Option<tokio::time::Instant> {
        let mut next = self.policy.next_timeout();
        let mut sooner = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        for attendee in self.attendees.values() {
            attendee.leaving.iter().for_each(|(at, _)| sooner(*at));
            attendee.saying.iter().for_each(|(_, at)| sooner(*at));
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

    /// Somebody sees others: then it matters who speaks.
    fn watched(&self) -> bool {
        self.all.seated().len() > 1 && self.attendees.values().any(|it| it.sink(MediaKind::Main).is_some())
    }

    fn tick(&mut self) {
        let now = self.now();
        self.policy.timeout(now);
        let remind = now >= self.remind_at;
        for id in self.attendees.keys().copied().collect::<Vec<_>>() {
            self.receive(id, now, |reception, door| {
                if now >= reception.next_timeout() { reception.timeout(now, door) } else { Step::Wait }
            });
            let Some(attendee) = self.attendees.get_mut(&id) else { continue };
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
                if attendee.is_control_only() {
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

    /// Looks who speaks, and has everybody see what he should.
    fn look(&mut self, now: Instant) {
        self.changed = false;
        if self.watched() {
            for (stream, since) in self.studio.heard() {
                let speaks = |it: &&Attendee| it.source(MediaKind::Audio) == Some(stream);
                if since <= SPEAKS_WITHIN
                    && let Some(leg) = self.attendees.values().find(speaks).map(|it| it.leg)
                {
                    self.all.heard(leg, now);
                    self.hosts.heard(leg, now);
                }
            }
        }
        let sights = self.sights(now);
        self.studio.pictures(&sights);
        self.show();
    }

    /// What each picture sink is to show.
    fn sights(&self, now: Instant) -> Vec<(crate::media::port::StreamId, Sight)> {
        let mut sights = Vec::new();
        let mut viewers = [Vec::new(), Vec::new()];
        for attendee in self.attendees.values() {
            let Some(sink) = attendee.sink(MediaKind::Main) else { continue };
            match &attendee.stage {
                Stage::Arriving => {}
                Stage::AtTheDoor(reception) => sights.push((sink, Sight::Slate(reception.slate()))),
                Stage::Waiting if self.policy.locked() => sights.push((sink, Sight::Slate(Slate::Locked))),
                Stage::Waiting => sights.push((sink, Sight::Slate(Slate::Waiting))),
                Stage::Leaving => sights.push((sink, Sight::Slate(Slate::Goodbye))),
                // He sees himself.
                Stage::In if self.service.kind == Kind::TestCall => {}
                Stage::In => {
                    let guest = self.policy.party(attendee.id).is_some_and(|it| it.role == Role::Guest);
                    let hosts_alone = guest && self.service.kind == Kind::Auditorium;
                    viewers[usize::from(hosts_alone)].push(attendee.leg);
                }
            }
        }
        let find = |leg: LegId| {
            let attendee = self.attendees.get(&PartyId(leg.0))?;
            let picture = attendee.source(MediaKind::Main);
            Some((attendee.name().to_owned(), attendee.who.address.clone(), picture))
        };
        for ((order, viewers), layout) in [&self.all, &self.hosts].into_iter().zip(&viewers).zip(self.layouts)
        {
            let speaker = order.speaker(now);
            for view in order.views(viewers, SelfView::Hidden) {
                let names = self.service.names;
                let picture = composition(&self.studio, layout, names, &view.seated, speaker, find);
                let picture = Arc::new(picture);
                let sinks = view
                    .viewers
                    .iter()
                    .filter_map(|leg| self.attendees.get(&PartyId(leg.0))?.sink(MediaKind::Main));
                sights.extend(sinks.map(|sink| (sink, Sight::Picture(picture.clone()))));
            }
        }
        sights
    }

    fn show(&self) {
        let wall = |at: Instant| self.began_at + Duration::from_nanos(at.as_nanos());
        let parties = self.attendees.values().map(|it| {
            let party = self.policy.party(it.id).copied();
            PartyView {
                id: it.id,
                uuid: it.uuid,
                name: it.name().to_owned(),
                since: it.since,
                at: it.at(),
                party,
                invited_as: it.invited.map(|it| it.role),
                leg: it.leg_view(),
                control_only: it.is_control_only(),
                hand: party.and_then(|it| it.hand).map(wall),
                spotlight: party.and_then(|it| it.spotlight).map(wall),
                exit: it.exit,
            }
        });
        self.view.send_replace(RoomView {
            locked: self.policy.locked(),
            guests_muted: self.policy.guests_muted(),
            guests_can_unmute: self.policy.guests_can_unmute(),
            tells_hosts: self.service.door.tells_hosts(),
            names: self.service.names,
            started: self.policy.started(),
            parties: parties.collect(),
            layouts: self.layouts,
            stage: self.all.seated().map(|leg| PartyId(leg.0)).collect(),
            speaker: self.all.speaker(self.now()).map(|leg| PartyId(leg.0)),
        });
        self.attendees.values().for_each(Attendee::show);
    }

    /// The gateway stops.
    fn halt(&mut self, reason: Reason) {
        for attendee in self.attendees.values_mut() {
            attendee.hang_up(Cause::local(reason));
        }
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

fn order(layout: Layout) -> Order {
    Order::new(layout.capacity(), layout.mains())
}
