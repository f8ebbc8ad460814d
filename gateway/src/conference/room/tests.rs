//! Rooms with legs of cardboard, in paused time: the door by keypad, the lock, the end.

use crosspoint_codecs::format::Direction;
use tokio::sync::{oneshot, watch};

use super::*;
use crate::alias::{Alias, Domains};
use crate::cause::Side;
use crate::conference::cardboard::{Far, NoCodecs, leg, streams};
use crate::conference::policy::{Door, Pin};
use crate::media::{Engine, EngineConfig};

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
    let pin = |text: &str| Pin::parse(text).unwrap();
    let mut service = Service::new("Alice's room", Alias::parse("meet.alice", &Domains::default()).unwrap());
    service.door = Door::new(host.map(pin), guest.map(pin), true).unwrap();
    let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(NoCodecs));
    let (stop, stopped) = watch::channel(None);
    let rooms = Rooms::new(RoomsParts { engines: vec![handle], fonts: None }, stopped);
    Scene { rooms, service: Arc::new(service), stop, _engine: engine }
}

impl Scene {
    /// Somebody calls and is answered.
    async fn call(&self, number: u64) -> Caller {
        let (leg, mut far) = leg(number);
        let (view, views) = watch::channel(CallView::default());
        let over = self.rooms.enter(&self.service, leg, view);
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
            let there = view.parties.iter().filter(|it| it.party.place == place);
            there.map(|it| it.party.id.0).collect()
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
    assert!(scene.view().parties.iter().all(|it| it.party.role == Role::Host), "S18");
    assert!(one.view.borrow().answered);
    let outcome = one.goes().await;
    assert_eq!((outcome.cause, outcome.answered_by), (Cause::remote(Reason::Hangup), Some(LegId(1))));
    settle().await;
    assert_eq!(scene.places(), (vec![2], vec![]));
    other.goes().await;
    settle().await;
    assert!(scene.rooms.views().is_empty());
    // The next one begins anew.
    let third = scene.call(3).await;
    assert_eq!(scene.places(), (vec![3], vec![]));
    third.goes().await;
}

#[tokio::test(start_paused = true)]
async fn s22_pins_by_keypad_give_roles_and_three_wrong_ones_end_the_call() {
    let scene = scene(Some("1234"), Some("5678"));
    let (host, guest) = (scene.call(1).await, scene.call(2).await);
    assert_eq!(scene.view().at_the_door, 2);
    guest.keys("5678#").await;
    assert_eq!(scene.places(), (vec![], vec![2]), "S20: no host is there");
    host.keys("1234#").await;
    assert_eq!(scene.places(), (vec![2, 1], vec![]));
    let roles: Vec<_> = scene.view().parties.iter().map(|it| it.party.role).collect();
    assert_eq!(roles, [Role::Guest, Role::Host]);

    let mut guesser = scene.call(3).await;
    guesser.keys("1111#2222#").await;
    assert!(guesser.far.commands.try_recv().is_err(), "two tries are left alone");
    guesser.keys("3333#").await;
    let cause = guesser.far.told_to_hang_up().await;
    assert_eq!(cause, Cause { reason: Reason::Forbidden, side: Side::Local });
    guesser.far.ends(cause).await;
    assert_eq!(guesser.over.await.unwrap().cause, cause);

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
    let _over = scene.rooms.enter(&scene.service, leg, watch::channel(CallView::default()).0);
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
