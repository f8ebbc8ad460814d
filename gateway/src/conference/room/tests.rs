//! Rooms with legs of cardboard, in paused time: the door by keypad, the lock, the end.

use crosspoint_codecs::format::Direction;

use tokio::sync::{oneshot, watch};

use super::*;
use crate::alias::{Alias, Domains};
use crate::cause::Side;
use crate::conference::call::{CallView, Outcome};
use crate::conference::cardboard::{Far, NoCodecs, camera, leg, streams};
use crate::conference::dialling::Keys;
use crate::conference::policy::{Actor, Answer, Deed, Denied, Door, Full, Keeps, Knock, Pin, Place, Role};
use crate::events::{Attempt, Event, Events, What};
use crate::guard::Visitor;
use crate::leg::Leg;
use crate::media::{Engine, EngineConfig};
use crate::uuid::Uuid;

mod crossings;
mod pictures;

struct Scene {
    rooms: Rooms,
    service: Arc<Service>,
    stop: watch::Sender<Option<Reason>>,
    // The engine's other end: commands to it are not refused.
    _engine: Engine,
}

struct Caller {
    far: Far,
    over: oneshot::Receiver<Outcome>,
    view: watch::Receiver<CallView>,
}

fn scene(host: Option<&str>, guest: Option<&str>) -> Scene {
    scene_with(host, guest, Porter::of_a_test(false, &Events::default()))
}

fn scene_with(host: Option<&str>, guest: Option<&str>, porter: Porter) -> Scene {
    let pin = |text: &str| Pin::parse(text).unwrap();
    let mut service = Service::new("Alice's room", Alias::parse("meet.alice", &Domains::default()).unwrap());
    service.door = Door::new(host.map(pin), guest.map(pin), true).unwrap();
    let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(NoCodecs));
    let (stop, stopped) = watch::channel(None);
    let rooms = Rooms::new(
        RoomsParts { engines: vec![handle], fonts: None, voice: Voice::default(), porter },
        stopped,
    );
    Scene { rooms, service: Arc::new(service), stop, _engine: engine }
}

impl Scene {
    /// The same, with pictures by `artist`.
    fn drawn_by(self, artist: Arc<dyn Artist>) -> Self {
        let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(NoCodecs));
        let porter = Porter::of_a_test(false, &Events::default());
        let parts = RoomsParts { engines: vec![handle], fonts: None, voice: Voice::default(), porter };
        Self { rooms: Rooms::drawn_by(artist, parts, self.stop.subscribe()), _engine: engine, ..self }
    }
}

impl Scene {
    /// Somebody calls and is answered.
    async fn call(&self, number: u64) -> Caller {
        let (leg, mut far) = leg(number);
        let (view, views) = watch::channel(CallView::default());
        let over = self.rooms.enter(&self.service, leg, None, view);
        let LegCommand::Answer(ours) = far.told().await else { panic!("no answer") };
        assert_eq!(ours.media.len(), 2, "sound and pictures");
        far.tells(LegEvent::Answered(streams(10 * number, Direction::SendRecv).0)).await;
        settle().await;
        Caller { far, over, view: views }
    }

    fn view(&self) -> RoomView {
        self.rooms.views().pop().map(|(_, view)| view).unwrap_or_default()
    }

    /// Who is in, and who waits.
    fn places(&self) -> (Vec<u64>, Vec<u64>) {
        let view = self.view();
        let of = |place| {
            let there = view.parties.iter().filter(|it| it.party.is_some_and(|it| it.place == place));
            there.map(|it| it.id.0).collect()
        };
        (of(Place::In), of(Place::Waiting))
    }

    async fn act(&self, actor: Actor, deed: Deed) -> Result<(), Denied> {
        let (reply, told) = oneshot::channel();
        assert!(self.rooms.tell(&self.service.name, Command::Act { actor, deed, reply }));
        let done = told.await.unwrap();
        settle().await;
        done
    }
}

impl Caller {
    async fn keys(&self, keys: &str) {
        for key in keys.chars() {
            self.far.tells(LegEvent::Dtmf(key)).await;
        }
        settle().await;
    }

    /// Hangs up.
    async fn goes(self) -> Outcome {
        self.far.ends(Cause::remote(Reason::Hangup)).await;
        self.over.await.unwrap()
    }
}

/// The room does what it has been told, and looks around.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(250)).await;
}

#[tokio::test(start_paused = true)]
async fn an_open_room_takes_everybody_and_is_gone_with_the_last() {
    let scene = scene(None, None);
    let (one, other) = (scene.call(1).await, scene.call(2).await);
    assert_eq!(scene.places(), (vec![1, 2], vec![]));
    assert!(scene.view().parties.iter().all(|it| it.party.unwrap().role == Role::Host), "S18");
    assert!(one.view.borrow().answered);
    let outcome = one.goes().await;
    assert_eq!((outcome.cause, outcome.answered_by), (Cause::remote(Reason::Hangup), Some(LegId(1))));
    settle().await;
    assert_eq!(scene.places(), (vec![2], vec![]));
    other.goes().await;
    settle().await;
    assert!(scene.rooms.views().is_empty());
    let told = scene.rooms.events().after(0, 100).events;
    let ended =
        |it: &What| matches!(it, What::ConferenceEnded { conference, .. } if conference == "Alice's room");
    assert!(ended(&told[1].what), "{told:?}");
    // The next one begins anew.
    let third = scene.call(3).await;
    assert_eq!(scene.places(), (vec![3], vec![]));
    third.goes().await;
}

#[tokio::test(start_paused = true)]
async fn s22_pins_by_keypad_give_roles_and_three_wrong_ones_end_the_call() {
    let scene = scene(Some("1234"), Some("5678"));
    let (host, guest) = (scene.call(1).await, scene.call(2).await);
    assert!(scene.view().parties.iter().all(|it| it.at == At::Door));
    guest.keys("5678#").await;
    assert_eq!(scene.places(), (vec![], vec![2]), "S20: no host is there");
    host.keys("1234#").await;
    assert_eq!(scene.places(), (vec![1, 2], vec![]));
    let roles: Vec<_> = scene.view().parties.iter().map(|it| it.party.unwrap().role).collect();
    assert_eq!(roles, [Role::Host, Role::Guest]);

    let mut guesser = scene.call(3).await;
    guesser.keys("1111#2222#").await;
    assert!(guesser.far.commands.try_recv().is_err(), "two tries are left alone");
    guesser.keys("3333#").await;
    let cause = guesser.far.told_to_hang_up().await;
    assert_eq!(cause, Cause { reason: Reason::Forbidden, side: Side::Local });
    guesser.far.ends(cause).await;
    assert_eq!(guesser.over.await.unwrap().cause, cause);

    // S77: each PIN that was tried is told of, and so is the conference.
    let told: Vec<_> = scene.rooms.events().after(0, 100).events.into_iter().map(|it| it.what).collect();
    let attempts: Vec<_> = told
        .iter()
        .filter_map(|it| match it {
            What::PinAttempt { service, protocol, result, .. } => {
                Some((service.as_str(), *protocol, *result))
            }
            _ => None,
        })
        .collect();
    let expected = [Attempt::Right, Attempt::Right, Attempt::Wrong, Attempt::Wrong, Attempt::Wrong];
    assert_eq!(attempts, expected.map(|it| ("Alice's room", "sip", it)));
    assert_eq!(told[0], What::ConferenceStarted { conference: "Alice's room".into() });

    // Nobody finds his PIN for two minutes.
    let mut silent = scene.call(4).await;
    assert_eq!(silent.far.told_to_hang_up_within(Duration::from_secs(130)).await.reason, Reason::Forbidden);
}

#[tokio::test(start_paused = true)]
async fn s26_to_s29_a_host_locks_by_keypad_and_the_administrator_admits_and_rejects() {
    let scene = scene(Some("1234"), None);
    let host = scene.call(1).await;
    host.keys("1234#").await;
    let guest = scene.call(2).await;
    guest.keys("#").await;
    assert_eq!(scene.places(), (vec![1, 2], vec![]));
    guest.keys("*7").await;
    assert!(!scene.view().locked, "guests do not lock");
    host.keys("*7").await;
    assert!(scene.view().locked);
    let (late, mut later, second) = (scene.call(3).await, scene.call(4).await, scene.call(5).await);
    late.keys("#").await;
    later.keys("#").await;
    second.keys("1234#").await;
    assert_eq!(scene.places(), (vec![1, 2, 5], vec![3, 4]));
    assert_eq!(scene.act(Actor::Party(PartyId(2)), Deed::Admit(PartyId(3))).await, Err(Denied::Role));
    scene.act(Actor::Admin, Deed::Admit(PartyId(3))).await.unwrap();
    scene.act(Actor::Party(PartyId(5)), Deed::Remove(PartyId(4))).await.unwrap();
    assert_eq!(later.far.told_to_hang_up().await.reason, Reason::Hangup);
    later.far.ends(Cause::local(Reason::Hangup)).await;
    settle().await;
    assert_eq!(scene.places(), (vec![1, 2, 3, 5], vec![]));

    // ## of a host ends it for all.
    host.keys("##").await;
    for mut caller in [host, guest, late, second] {
        let cause = caller.far.told_to_hang_up().await;
        caller.goes().await;
        assert_eq!(cause.side, Side::Local);
    }
    settle().await;
    assert!(scene.rooms.views().is_empty());
}

#[tokio::test(start_paused = true)]
async fn s29_who_waits_too_long_is_told_so_and_hung_up() {
    let scene = scene(Some("1234"), None);
    let mut guest = scene.call(1).await;
    guest.keys("#").await;
    assert_eq!(scene.places(), (vec![], vec![1]));
    let cause = guest.far.told_to_hang_up_within(Duration::from_secs(910)).await;
    assert_eq!(cause.reason, Reason::NoAnswer);
}

#[tokio::test(start_paused = true)]
async fn a_full_room_and_a_gateway_that_stops_hang_up() {
    let mut scene = scene(None, None);
    Arc::get_mut(&mut scene.service).unwrap().rules.parties = 1;
    let mut first = scene.call(1).await;
    let (leg, mut far) = leg(2);
    let _over = scene.rooms.enter(&scene.service, leg, None, watch::channel(CallView::default()).0);
    assert_eq!(far.told_to_hang_up().await.reason, Reason::Congestion);
    far.ends(Cause::local(Reason::Congestion)).await;
    scene.stop.send_replace(Some(Reason::Shutdown));
    assert_eq!(first.far.told_to_hang_up().await.reason, Reason::Shutdown);
    first.goes().await;
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_vanishes_is_out() {
    let scene = scene(None, None);
    let (one, _other) = (scene.call(1).await, scene.call(2).await);
    drop(one.far);
    assert_eq!(one.over.await.unwrap().cause, Cause::local(Reason::Internal));
    settle().await;
    assert_eq!(scene.places(), (vec![2], vec![]));
}

impl Scene {
    async fn join(&self, name: &str, role: Role) -> Joined {
        let (reply, told) = oneshot::channel();
        let join = Command::Join { name: name.into(), role, source: None, reply };
        assert!(self.rooms.open_and_tell(&self.service, join));
        told.await.unwrap().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn s6_who_comes_by_the_client_api_takes_no_tile_and_does_as_he_may() {
    let scene = scene(Some("1234"), None);
    let mut host = scene.join("Alice", Role::Host).await;
    let guest = scene.call(1).await;
    guest.keys("#").await;
    assert_eq!(scene.places().0.len(), 2);
    let view = host.view.borrow_and_update().clone();
    assert_eq!(view.stage, [PartyId(1)], "only the leg is to be seen");
    let own = view.parties.iter().find(|it| it.id == host.id).unwrap();
    assert!(own.control_only && own.leg.streams.is_empty() && own.name == "Alice");
    scene.act(Actor::Party(host.id), Deed::Mute(PartyId(1), true)).await.unwrap();
    assert!(host.view.has_changed().unwrap());
    // What is written goes to all; who is no more there says nothing.
    let say = |from| Command::Say { from, to: None, kind: "text/plain".into(), text: "hello".into() };
    assert!(scene.rooms.tell(&scene.service.name, say(host.id)));
    assert!(scene.rooms.tell(&scene.service.name, say(PartyId(77))));
    settle().await;
    let said = host.said.try_recv().unwrap();
    assert_eq!((said.name.as_str(), said.text.as_str(), said.uuid), ("Alice", "hello", host.uuid));
    assert!(host.said.try_recv().is_err());
    // The host leaves: a minute later it is over.
    assert!(scene.rooms.tell(&scene.service.name, Command::Leave(host.id)));
    settle().await;
    assert_eq!(scene.places(), (vec![1], vec![]));
    let mut guest = guest;
    assert_eq!(guest.far.told_to_hang_up_within(Duration::from_secs(70)).await.reason, Reason::Hangup);
}

#[tokio::test(start_paused = true)]
async fn s33_who_is_called_is_in_the_roster_while_it_rings_and_comes_as_he_was_invited() {
    let scene = scene(Some("1234"), None);
    let host = scene.join("Alice", Role::Host).await;
    let (leg9, mut far) = leg(9);
    let (uuid, _) = scene.invite(leg9, Role::Guest, "").await.unwrap();
    let at = |scene: &Scene| scene.view().parties.iter().find(|it| it.uuid == uuid).map(|it| it.at);
    assert_eq!(at(&scene), Some(At::Connecting));
    far.tells(LegEvent::Ringing).await;
    far.tells(LegEvent::Answered(streams(90, Direction::SendRecv).0)).await;
    settle().await;
    assert_eq!(at(&scene), Some(At::In));
    assert_eq!(scene.view().parties[0].party.unwrap().role, Role::Guest);
    // S36.
    let keys = Command::Keys(PartyId(9), "1#".parse().unwrap());
    assert!(scene.rooms.tell(&scene.service.name, keys));
    assert!(matches!(far.told().await, LegCommand::SendDtmf('1')));
    assert!(matches!(far.told().await, LegCommand::SendDtmf('#')));
    // S27: invited ones wait as well while it is locked.
    scene.act(Actor::Party(host.id), Deed::Lock(true)).await.unwrap();
    let (leg8, second) = leg(8);
    scene.invite(leg8, Role::Guest, "").await.unwrap();
    second.tells(LegEvent::Answered(streams(80, Direction::SendRecv).0)).await;
    settle().await;
    assert_eq!(scene.places().1, [8]);
}

/// Bob, with every default.
fn invited(role: Role) -> Invited {
    Invited {
        referred: None,
        role,
        keeps: Keeps::InCompany,
        keys: Keys::default(),
        name: "Bob".into(),
        streams: false,
        rings: Duration::from_secs(60),
    }
}

impl Scene {
    async fn invite(
        &self,
        leg: Leg,
        role: Role,
        keys: &str,
    ) -> Result<(Uuid, oneshot::Receiver<Outcome>), Full> {
        self.invite_who(leg, Invited { keys: keys.parse().unwrap(), ..invited(role) }).await
    }

    async fn invite_who(&self, leg: Leg, who: Invited) -> Result<(Uuid, oneshot::Receiver<Outcome>), Full> {
        let ((done, over), (reply, told)) = (oneshot::channel(), oneshot::channel());
        let view = watch::channel(CallView::default()).0;
        let invite = Command::Invite { leg, who, view, done, reply };
        assert!(self.rooms.open_and_tell(&self.service, invite));
        let uuid = told.await.unwrap()?;
        settle().await;
        Ok((uuid, over))
    }

    fn of(&self, uuid: Uuid) -> Option<PartyView> {
        self.view().parties.into_iter().find(|it| it.uuid == uuid)
    }
}

#[tokio::test(start_paused = true)]
async fn s79_who_is_not_reached_is_shown_with_the_reason_for_a_moment() {
    let scene = scene(None, None);
    let host = scene.join("Alice", Role::Host).await;
    for (number, cause) in [(7, Cause::remote(Reason::Busy)), (8, Cause::remote(Reason::Rejected))] {
        let (leg, far) = leg(number);
        let (uuid, over) = scene.invite(leg, Role::Host, "").await.unwrap();
        far.tells(LegEvent::Ringing).await;
        far.ends(cause).await;
        settle().await;
        let seen = scene.of(uuid).unwrap();
        assert_eq!((seen.at, seen.cause, seen.name.as_str()), (At::Connecting, Some(cause), "Bob"));
        let outcome = over.await.unwrap();
        assert_eq!((outcome.cause, outcome.answered_by), (cause, None));
        tokio::time::sleep(LINGER).await;
        assert!(scene.of(uuid).is_none());
    }
    // One who lets it ring.
    let (leg1, mut far) = leg(1);
    let (uuid, over) = scene.invite(leg1, Role::Host, "").await.unwrap();
    let cause = far.told_to_hang_up_within(Duration::from_secs(61)).await;
    assert_eq!(cause, Cause::local(Reason::NoAnswer));
    far.ends(Cause::local(Reason::Cancelled)).await;
    settle().await;
    assert_eq!(scene.of(uuid).unwrap().cause, Some(cause), "why we hung up, not that we did");
    assert_eq!(over.await.unwrap().cause, cause);
    // One whom the host gives up; nobody else may.
    let (leg2, mut far) = leg(2);
    let (uuid, _over) = scene.invite(leg2, Role::Host, "").await.unwrap();
    let id = scene.of(uuid).unwrap().id;
    let stranger = Actor::Party(PartyId(77));
    assert_eq!(scene.act(stranger, Deed::Remove(id)).await, Err(Denied::NoParty));
    scene.act(Actor::Party(host.id), Deed::Remove(id)).await.unwrap();
    assert_eq!(far.told_to_hang_up().await.reason, Reason::Cancelled);
    // And one who rings when the conference ends.
    let (leg3, mut far) = leg(3);
    scene.invite(leg3, Role::Host, "").await.unwrap();
    scene.act(Actor::Party(host.id), Deed::End).await.unwrap();
    assert_eq!(far.told_to_hang_up().await.reason, Reason::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn s36_keys_go_out_after_the_answer_one_by_one_and_commas_wait() {
    let mut scene = scene(None, None);
    Arc::get_mut(&mut scene.service).unwrap().rules.parties = 2;
    let _host = scene.join("Alice", Role::Host).await;
    let (leg9, mut far) = leg(9);
    scene.invite(leg9, Role::Host, ",12,#").await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(far.commands.try_recv().is_err(), "nobody hears them while it rings");
    far.tells(LegEvent::Answered(streams(90, Direction::SendRecv).0)).await;
    let begun = tokio::time::Instant::now();
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let LegCommand::SendDtmf(key) = far.told().await else { panic!("no key") };
        heard.push((key, begun.elapsed().as_millis() / 100));
    }
    assert_eq!(heard, [('1', 20), ('2', 23), ('#', 46)]);
    // Those who ring count: nobody has half the town called.
    let (leg8, _far) = leg(8);
    assert!(scene.invite(leg8, Role::Host, "").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_leg_is_handed_over_to_another_conference_and_its_call_goes_on() {
    let scene = scene(None, None);
    let mut hall = Service::new("Hall", Alias::parse("hall", &Domains::default()).unwrap());
    let pin = |text: &str| Pin::parse(text).unwrap();
    hall.door = Door::new(Some(pin("1234")), None, true).unwrap();
    let hall = Arc::new(hall);
    let (host, caller) = (scene.join("Alice", Role::Host).await, scene.call(1).await);
    let other = scene.call(2).await;
    let hand_over = |actor, id, role| {
        let (reply, told) = oneshot::channel();
        let command = Command::HandOver { actor, id: PartyId(id), to: hall.clone(), role, reply };
        assert!(scene.rooms.tell(&scene.service.name, command));
        told
    };
    let alice = Actor::Party(host.id);
    assert_eq!(hand_over(Actor::Party(PartyId(77)), 1, Role::Host).await.unwrap(), Err(Denied::NoParty));
    assert_eq!(hand_over(alice, host.id.0, Role::Host).await.unwrap(), Err(Denied::NoParty), "no leg");
    assert_eq!(hand_over(alice, 1, Role::Host).await.unwrap(), Ok(()));
    assert_eq!(hand_over(alice, 1, Role::Host).await.unwrap(), Err(Denied::NoParty), "once");
    settle().await;
    let there = || {
        let all = scene.rooms.views();
        let view = all.into_iter().find(|(name, _)| name == "Hall").map(|(_, view)| view);
        view.map(|view| {
            view.parties.iter().map(|it| (it.id.0, it.at, it.party.unwrap().role)).collect::<Vec<_>>()
        })
    };
    assert_eq!(there(), Some(vec![(1, At::In, Role::Host)]));
    let here = scene.rooms.views().into_iter().find(|(name, _)| *name == scene.service.name).unwrap().1;
    assert!(here.parties.iter().all(|it| it.id != PartyId(1)));
    // What it tells from now on is told there.
    caller.keys("*7").await;
    let locked = |name: &str| scene.rooms.views().iter().any(|(it, view)| it == name && view.locked);
    assert!(locked("Hall") && !locked(&scene.service.name));
    // A guest finds it locked, as everybody does.
    assert_eq!(hand_over(alice, 2, Role::Guest).await.unwrap(), Ok(()));
    settle().await;
    assert_eq!(there().unwrap()[1], (2, At::Waiting, Role::Guest));
    assert!(caller.view.borrow().answered && caller.goes().await.answered_by == Some(LegId(1)));
    // The end that crosses the way is not lost.
    assert_eq!(other.goes().await.cause, Cause::remote(Reason::Hangup));
    settle().await;
    assert_eq!(there(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_ends_on_its_way_to_another_conference_has_ended() {
    let scene = scene(None, None);
    let hall = Arc::new(Service::new("Hall", Alias::parse("hall", &Domains::default()).unwrap()));
    for crossing in [true, false] {
        let caller = scene.call(if crossing { 1 } else { 2 }).await;
        let id = scene.view().parties[0].id;
        let (reply, told) = oneshot::channel();
        let hand_over =
            Command::HandOver { actor: Actor::Admin, id, to: hall.clone(), role: Role::Host, reply };
        if crossing {
            // Both are there before the room looks.
            caller.far.events.try_send(LegEvent::Ended(Cause::remote(Reason::Hangup))).unwrap();
            assert!(scene.rooms.tell(&scene.service.name, hand_over));
        } else {
            assert!(scene.rooms.tell(&scene.service.name, hand_over));
            caller.far.events.try_send(LegEvent::Ended(Cause::remote(Reason::Hangup))).unwrap();
        }
        assert_eq!(caller.over.await.unwrap().cause, Cause::remote(Reason::Hangup));
        drop(told);
        settle().await;
        assert!(scene.rooms.views().is_empty(), "{:?}", scene.rooms);
    }
}
impl Scene {
    /// Somebody calls from an address, presses keys, and is gone; whether he was in.
    async fn tries(&self, number: u64, from: u8, device: Option<&str>, keys: &str) -> bool {
        let (mut leg, mut far) = leg(number);
        leg.party.signalling = Some(([192, 0, 2, from], 5060).into());
        leg.party.device = device.map(Into::into);
        let over = self.rooms.enter(&self.service, leg, None, watch::channel(CallView::default()).0);
        assert!(matches!(far.told().await, LegCommand::Answer(_)));
        far.tells(LegEvent::Answered(streams(10 * number, Direction::SendRecv).0)).await;
        for key in keys.chars() {
            far.tells(LegEvent::Dtmf(key)).await;
        }
        settle().await;
        let (inside, waiting) = self.places();
        far.ends(Cause::remote(Reason::Hangup)).await;
        over.await.unwrap();
        settle().await;
        inside.contains(&number) || waiting.contains(&number)
    }
}

#[tokio::test(start_paused = true)]
async fn s22_promise_40_keypads_and_clients_share_one_budget_and_the_owner_enters() {
    let porter = Porter::of_a_test(false, &Events::default());
    let scene = scene_with(Some("2718"), None, porter.clone());
    assert!(scene.tries(1, 1, None, "2718#").await, "the owner, once before");
    let mut number = 1;
    // A day: three tries by keypad from one of 200 addresses, and 70 by the client API from 300, each
    // five minutes: more than 20 000.
    for round in 0..288_u64 {
        number += 1;
        let from = u8::try_from(10 + round % 200).unwrap();
        assert!(!scene.tries(number, from, None, "1111#2222#3333#").await);
        for guess in 0..70 {
            let address = [198, 51, u8::try_from(guess % 3).unwrap(), u8::try_from(round % 100).unwrap()];
            let visitor = Visitor::by_api(Some((address, 40_000).into()), None);
            assert_eq!(scene.service.answer(&porter, &visitor, Knock::Pin("1234")), Answer::Wrong);
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    let told = porter.events().after(0, usize::MAX);
    assert_eq!(told.lost, 0, "what is refused is told of once a second: nothing is pushed out");
    let wrong = |it: &&Event| matches!(it.what, What::PinAttempt { result: Attempt::Wrong, .. });
    let read = told.events.iter().filter(wrong).count();
    assert!((90..=100).contains(&read), "{read}");
    // What has been paid back since is tried at once.
    for guess in 0..20 {
        let visitor = Visitor::by_api(Some(([203, 0, 113, guess], 40_000).into()), None);
        scene.service.answer(&porter, &visitor, Knock::Pin("1234"));
    }
    assert!(!scene.tries(number + 1, 250, None, "2718#").await, "a newcomer is asked to come later");
    assert!(scene.tries(number + 2, 1, None, "2718#").await, "who was there before");
    assert!(scene.tries(number + 3, 251, Some("alice"), "2718#").await, "a device of ours");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_asks_for_a_pin_as_a_room_does_and_is_seen_nowhere() {
    let mut scene = scene(None, None);
    scene.service = Arc::new(Service::decoy(Alias::parse("nobody", &Domains::default()).unwrap()));
    let mut guesser = scene.call(3).await;
    assert!(scene.rooms.views().is_empty());
    guesser.keys("1111#2222#").await;
    assert!(guesser.far.commands.try_recv().is_err(), "two tries are left alone");
    guesser.keys("000000#").await;
    let cause = guesser.far.told_to_hang_up().await;
    assert_eq!(cause, Cause { reason: Reason::Forbidden, side: Side::Local });
}
