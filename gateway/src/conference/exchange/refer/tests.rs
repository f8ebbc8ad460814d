//! Telephones that send a conference on, with legs of cardboard in paused time. Alice's and Carol's are in the
//! conference "meet"; Alice's wants Bob there instead of herself.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crosspoint_codecs::format::{Capabilities, Direction};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::super::transfer::tests::{held, settle, told_of};
use super::*;
use crate::alias::Alias;
use crate::cause::Cause;
use crate::conference::call::CallView;
use crate::conference::cardboard::{Far, leg, offer, streams};
use crate::conference::exchange::tests::{Parts, exchange};
use crate::conference::policy::{Actor, Deed, Door, PartyId, Pin, Role};
use crate::conference::room::{At, Command};
use crate::conference::{Directory, Resolution, Resolving};
use crate::leg::{Address, Caller, Leg, LegCommand, LegEvent, Protocol};
use crate::records::CallRecord;

mod replaced;

/// Devices can be called; "meet" is the conference, "other" another one; nothing else is anywhere.
struct World {
    meet: Arc<Service>,
    asked: Mutex<Vec<(String, String)>>,
    dialled: Mutex<HashMap<String, (Far, Caller)>>,
    legs: AtomicU64,
}

impl Directory for World {
    fn resolve<'a>(&'a self, party: &'a Party) -> Resolving<'a> {
        let alias = Alias::parse(&party.called, &Default::default()).unwrap().to_string();
        self.asked.lock().unwrap().push((party.address.clone(), alias.clone()));
        let why = String::new();
        let resolution = match alias.as_str() {
            "bob" | "dora" => {
                let device = Some(alias.clone());
                let target = Address { device, ..Address::at(format!("sip:{alias}@192.0.2.7:5062")) };
                Resolution::Dial { targets: vec![target], rule: Some("out".into()), follow: false, why }
            }
            "meet" => Resolution::Enter { service: self.meet.clone(), why },
            "other" => {
                let service = Arc::new(Service::new("Other", Alias::from_canonical("other")));
                Resolution::Enter { service, why }
            }
            _ => Resolution::Refuse { reason: Reason::Forbidden, why },
        };
        Box::pin(std::future::ready(resolution))
    }

    fn dial_out<'a>(&'a self, _: &'a str, _: &'a str) -> Resolving<'a> {
        unreachable!("the conference calls for nobody but those who send it on")
    }
}

impl Protocol for World {
    fn schemes(&self) -> &'static [&'static str] {
        &["sip"]
    }

    fn dial(&self, to: &Address, from: &Caller, _: Capabilities, _: Option<usize>) -> Result<Leg, Cause> {
        let (mut leg, far) = leg(self.legs.fetch_add(1, Ordering::Relaxed));
        leg.party.device.clone_from(&to.device);
        leg.party.address.clone_from(&to.uri);
        self.dialled.lock().unwrap().insert(to.device.clone().unwrap(), (far, from.clone()));
        Ok(leg)
    }
}

struct Scene {
    world: Arc<World>,
    alice: Far,
    carol: Far,
    recorded: UnboundedReceiver<(CallRecord, Cause)>,
    exchange: Exchange,
    _engine: crate::media::Engine,
}

const ALICE: u64 = 1;
const CAROL: u64 = 2;

impl Scene {
    async fn new() -> Self {
        Self::of(Service::new("Meet", Alias::from_canonical("meet")), Some("alice")).await
    }

    /// In a conference of `meet` that has no PIN.
    async fn of(meet: Service, device: Option<&str>) -> Self {
        let meet = Arc::new(meet);
        let (asked, dialled) = (Mutex::default(), Mutex::default());
        let world = Arc::new(World { meet, asked, dialled, legs: AtomicU64::new(30) });
        let Parts { exchange, recorded, _engine, .. } = exchange(world.clone(), world.clone(), 10);
        let alice = calls(&exchange, ALICE, device, "meet").await;
        let carol = calls(&exchange, CAROL, Some("carol"), "meet").await;
        let mut scene = Self { world, alice, carol, recorded, exchange, _engine };
        let (alices, carols) = (streams(10, Direction::SendRecv).0, streams(20, Direction::SendRecv).0);
        assert!(matches!(scene.alice.told().await, LegCommand::Answer(_)));
        scene.alice.tells(LegEvent::Answered(alices)).await;
        assert!(matches!(scene.carol.told().await, LegCommand::Answer(_)));
        scene.carol.tells(LegEvent::Answered(carols)).await;
        settle().await;
        scene
    }

    /// Who is in, and as what.
    async fn present(&self) -> Vec<(u64, Role)> {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let Some(view) = self.exchange.rooms().view("Meet") else { return Vec::new() };
        let there = view.parties.iter().filter(|it| it.at == At::In);
        there.map(|it| (it.id.0, it.party.unwrap().role)).collect()
    }

    fn alices_seat(&self) -> Seat {
        let by = Proven::Device("alice".into());
        self.exchange.seat_of(LegId(ALICE), &by).unwrap().expect("a seat").1
    }

    fn called(&self, device: &str) -> (Far, Caller) {
        self.world.dialled.lock().unwrap().remove(device).expect("was not called")
    }

    /// Alice wants somebody there who is called, and that begins.
    async fn sends_on_to(&mut self, device: &str) -> (Far, Caller) {
        self.alice.tells(refer(&format!("sip:{device}@gateway.example"))).await;
        assert_eq!(told_of(&mut self.alice).await, Referral::Accepted);
        self.called(device)
    }

    async fn act(&self, deed: Deed) {
        let (reply, told) = oneshot::channel();
        assert!(self.exchange.rooms().tell("Meet", Command::Act { actor: Actor::Admin, deed, reply }));
        told.await.unwrap().unwrap();
        settle().await;
    }

    async fn record(&mut self) -> CallRecord {
        self.recorded.recv().await.unwrap().0
    }
}

/// Somebody calls `to`, and has made an offer.
async fn calls(exchange: &Exchange, number: u64, device: Option<&str>, to: &str) -> Far {
    let (mut leg, far) = leg(number);
    leg.party.address = device.unwrap_or("somebody").into();
    leg.party.device = device.map(str::to_owned);
    leg.party.called = to.into();
    far.tells(LegEvent::Offered(Some(offer()))).await;
    exchange.accept(leg);
    settle().await;
    far
}

fn refer(to: &str) -> LegEvent {
    LegEvent::Referred { to: to.to_owned(), instead_of: None, referred_by: None }
}

fn join(own: u64) -> LegEvent {
    let to = "sip:bob@gateway.example".to_owned();
    LegEvent::Referred { to, instead_of: Some(LegId(own)), referred_by: None }
}

/// The conference, with room for so many.
fn limited(parties: usize) -> Service {
    let mut service = Service::new("Meet", Alias::from_canonical("meet"));
    service.rules.parties = parties;
    service
}

#[tokio::test(start_paused = true)]
async fn whom_the_telephone_names_is_called_as_by_it_and_takes_its_place() {
    let mut scene = Scene::new().await;
    let (bob, from) = scene.sends_on_to("bob").await;
    let asked = scene.world.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked, ("alice".into(), "bob".into()), "promise 42: as the referrer");
    assert_eq!((from.address.as_str(), from.name.as_str(), from.hops), ("meet", "Meet", 69));
    bob.tells(LegEvent::Ringing).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Rings);
    assert_eq!(scene.present().await, [(ALICE, Role::Host), (CAROL, Role::Host)], "she stays so long");
    bob.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Answered);
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (30, Role::Host)]);
    // Her telephone says goodbye, as they do.
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    let record = scene.record().await;
    let told = &record.transfers[0];
    assert_eq!((told.by.as_str(), told.to.as_str()), ("alice", "sip:bob@gateway.example"));
    assert_eq!((told.outcome.as_str(), told.rule.as_deref()), ("answered", Some("out")));
    assert!(scene.alice.commands.try_recv().is_err(), "nobody hangs her up");
    bob.ends(Cause::remote(Reason::Hangup)).await;
    let record = scene.record().await;
    assert_eq!((record.caller.as_str(), record.called.as_str()), ("meet", "sip:bob@gateway.example"));
    assert_eq!((record.answered_by.as_deref(), record.rule.as_deref()), (Some("bob"), Some("out")));
    assert_eq!(scene.present().await, [(CAROL, Role::Host)], "the conference goes on");
}

#[tokio::test(start_paused = true)]
async fn a_telephone_that_says_no_goodbye_is_hung_up() {
    let mut scene = Scene::new().await;
    let (bob, _) = scene.sends_on_to("bob").await;
    bob.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Answered);
    let began = tokio::time::Instant::now();
    assert_eq!(scene.alice.told_to_hang_up().await, Cause::local(Reason::Hangup));
    assert_eq!(began.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn where_the_conference_cannot_take_in_who_comes_it_is_told_so_and_stays() {
    let mut scene = Scene::new().await;
    let (_bob, _) = scene.sends_on_to("bob").await;
    let (rooms, seat) = (scene.exchange.rooms(), scene.alices_seat());
    // The queue of its orders is full.
    while rooms.tell("Meet", Command::Announce { text: "hello".into() }) {}
    let ((dora, _far), agreed) = (leg(70), streams(70, Direction::SendRecv).0);
    rooms.take_in(&scene.world.meet, dora, agreed, Some(seat), watch::channel(CallView::default()).0);
    assert_eq!(told_of(&mut scene.alice).await, Referral::Failed(Reason::Congestion));
    assert_eq!(scene.present().await, [(ALICE, Role::Host), (CAROL, Role::Host)]);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_answers_it_is_told_so_and_stays() {
    let mut scene = Scene::new().await;
    for (ends, told) in [(Some(Reason::Busy), Reason::Busy), (None, Reason::NoAnswer)] {
        let (mut bob, _) = scene.sends_on_to("bob").await;
        match ends {
            Some(reason) => bob.ends(Cause::remote(reason)).await,
            None => {
                assert_eq!(
                    bob.told_to_hang_up_within(Duration::from_secs(61)).await.reason,
                    Reason::NoAnswer
                );
                bob.ends(Cause::local(Reason::Cancelled)).await;
            }
        }
        assert_eq!(told_of(&mut scene.alice).await, Referral::Failed(told));
        let record = scene.record().await;
        assert_eq!(
            (record.called.as_str(), record.reason.as_str()),
            ("sip:bob@gateway.example", told.word())
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(scene.present().await, [(ALICE, Role::Host), (CAROL, Role::Host)]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_meanwhile_is_replaced_and_who_is_sent_away_is_not() {
    let mut scene = Scene::new().await;
    let (bob, _) = scene.sends_on_to("bob").await;
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    bob.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (30, Role::Host)]);

    let mut scene = Scene::new().await;
    let (mut bob, _) = scene.sends_on_to("bob").await;
    scene.act(Deed::Remove(PartyId(ALICE))).await;
    assert_eq!(bob.told_to_hang_up().await.reason, Reason::Cancelled);
    bob.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert_eq!(scene.present().await, [(CAROL, Role::Host)], "though the answer crossed it");
}

#[tokio::test(start_paused = true)]
async fn p42_a_conference_is_sent_nowhere_that_who_asks_could_not_call_and_not_while_it_is_locked() {
    let mut scene = Scene::new().await;
    for (to, reason) in [
        ("sip:+4930@premium.example", Reason::Forbidden),
        ("sip:other@gateway.example", Reason::NotAcceptable),
        ("sip:meet@gateway.example", Reason::NotAcceptable),
        ("h323:bob@gateway.example", Reason::NotAcceptable),
    ] {
        scene.alice.tells(refer(to)).await;
        assert_eq!(told_of(&mut scene.alice).await, Referral::Refused(reason), "{to}");
    }
    scene.act(Deed::Lock(true)).await;
    for event in [refer("bob"), join(7)] {
        scene.alice.tells(event).await;
        assert_eq!(told_of(&mut scene.alice).await, Referral::Refused(Reason::Forbidden), "locked");
    }
    // Who comes now waits, and has no place to give up.
    let mut late = calls(&scene.exchange, 3, Some("dora"), "meet").await;
    late.told().await;
    late.tells(LegEvent::Answered(streams(40, Direction::SendRecv).0)).await;
    settle().await;
    scene.act(Deed::Lock(true)).await;
    late.tells(refer("bob")).await;
    assert_eq!(told_of(&mut late).await, Referral::Refused(Reason::Forbidden));
    assert!(scene.world.dialled.lock().unwrap().is_empty());
    assert_eq!(scene.present().await.len(), 2);

    let mut stranger = Scene::of(limited(9), None).await;
    let asked = stranger.world.asked.lock().unwrap().len();
    stranger.alice.tells(refer("bob")).await;
    assert_eq!(told_of(&mut stranger.alice).await, Referral::Refused(Reason::Forbidden));
    assert_eq!(stranger.world.asked.lock().unwrap().len(), asked, "nobody is looked for");
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_replaced_by_a_guest() {
    let mut service = limited(9);
    service.door = Door::new(Some(Pin::parse("2468").unwrap()), None, true).unwrap();
    let mut scene = Scene::of(service, Some("alice")).await;
    for key in "#".chars() {
        scene.alice.tells(LegEvent::Dtmf(key)).await;
    }
    for key in "2468#".chars() {
        scene.carol.tells(LegEvent::Dtmf(key)).await;
    }
    assert_eq!(scene.present().await, [(ALICE, Role::Guest), (CAROL, Role::Host)]);
    let (bob, _) = scene.sends_on_to("bob").await;
    bob.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (30, Role::Guest)]);
}

/// Alice's second call, to Bob, who has answered: both far ends.
async fn second(scene: &Scene) -> (Far, Far) {
    let mut own = calls(&scene.exchange, 101, Some("alice"), "bob").await;
    let (bob, _) = scene.called("bob");
    bob.tells(LegEvent::Answered(streams(120, Direction::SendRecv).0)).await;
    assert!(matches!(own.told().await, LegCommand::Answer(_)));
    own.tells(LegEvent::Answered(streams(110, Direction::SendRecv).0)).await;
    settle().await;
    (own, bob)
}

#[tokio::test(start_paused = true)]
async fn to_whom_it_talks_itself_is_taken_into_the_conference_whichever_call_it_asks_in() {
    for in_the_conference in [true, false] {
        let mut scene = Scene::of(limited(2), Some("alice")).await;
        if in_the_conference {
            // There is no place for one more who is called.
            scene.alice.tells(refer("dora")).await;
            assert_eq!(told_of(&mut scene.alice).await, Referral::Refused(Reason::Congestion));
            scene.record().await;
        }
        let (mut own, mut bob) = second(&scene).await;
        bob.tells(LegEvent::Changed(held(120))).await;
        settle().await;
        let asks = if in_the_conference { &mut scene.alice } else { &mut own };
        asks.tells(join(if in_the_conference { 101 } else { ALICE })).await;
        assert_eq!(told_of(asks).await, Referral::Accepted);
        assert_eq!(told_of(asks).await, Referral::Answered);
        // The leg that was named is over at once, the other one unless the telephone is quicker.
        let (named, asks) = match in_the_conference {
            true => (&mut own, &mut scene.alice),
            false => (&mut scene.alice, &mut own),
        };
        assert_eq!(named.told_to_hang_up().await, Cause::local(Reason::Hangup));
        named.ends(Cause::local(Reason::Hangup)).await;
        asks.ends(Cause::remote(Reason::Hangup)).await;
        let LegCommand::Reoffer(wanted) = bob.told().await else { panic!("he stays on hold") };
        assert_eq!((wanted.media.len(), wanted.media[0].direction), (2, Direction::SendRecv));
        let present: Vec<_> = scene.present().await;
        assert_eq!(present.len(), 2, "{present:?}");
        assert_eq!(present[0], (CAROL, Role::Host));
        for _ in 0..2 {
            let record = scene.record().await;
            let told = record.transfers.last().unwrap();
            assert_eq!((told.by.as_str(), told.outcome.as_str()), ("alice", "answered"), "{record:?}");
        }
        bob.ends(Cause::remote(Reason::Hangup)).await;
        let record = scene.record().await;
        assert_eq!(
            (record.caller.as_str(), record.answered_by.as_deref()),
            ("sip:bob@192.0.2.7:5062", Some("Meet"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn p42_only_ones_own_party_is_brought_and_only_ones_own_place_given() {
    let mut scene = Scene::new().await;
    let (mut own, bob) = second(&scene).await;
    // Carol names Alice's leg; nobody's leg; her own in the same conference.
    for named in [101, 77, CAROL] {
        scene.carol.tells(join(named)).await;
        let told = told_of(&mut scene.carol).await;
        if named == 101 {
            assert_eq!(told, Referral::Accepted);
            assert_eq!(told_of(&mut scene.carol).await, Referral::NoSuchCall);
        } else {
            assert_eq!(told, Referral::Refused(Reason::Rejected), "{named}");
        }
    }
    // Bob wants Alice's place in the conference for Alice: it is not his.
    bob.tells(join(ALICE)).await;
    let mut bob = bob;
    assert_eq!(told_of(&mut bob).await, Referral::Refused(Reason::Rejected));
    scene.act(Deed::Lock(true)).await;
    own.tells(join(ALICE)).await;
    assert_eq!(told_of(&mut own).await, Referral::Refused(Reason::Forbidden), "locked");
    assert_eq!(scene.present().await, [(ALICE, Role::Host), (CAROL, Role::Host)]);
    assert_eq!(scene.exchange.calls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_goes_to_another_conference_meanwhile_is_told_that_nobody_takes_his_place() {
    let mut scene = Scene::new().await;
    let (bob, _) = scene.sends_on_to("bob").await;
    let to = Arc::new(Service::new("Other", Alias::from_canonical("other")));
    let (reply, told) = oneshot::channel();
    let (actor, id, role) = (Actor::Admin, PartyId(ALICE), Role::Host);
    assert!(scene.exchange.rooms().tell("Meet", Command::HandOver { actor, id, to, role, reply }));
    told.await.unwrap().unwrap();
    assert_eq!(told_of(&mut scene.alice).await, Referral::Failed(Reason::Cancelled));
    bob.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (30, Role::Host)], "he was called and comes");
    assert!(scene.alice.commands.try_recv().is_err());
}

/// The conference, which hosts enter with 2468 and nobody else at all.
fn closed() -> Service {
    let mut service = limited(9);
    service.door = Door::new(Some(Pin::parse("2468").unwrap()), None, false).unwrap();
    service
}

/// Alice has Bob taken in, with whom something is being settled, so that he comes later; in a conference that
/// both hosts have entered by PIN. What Bob says once he has settled it.
async fn bob_is_about_to_come(scene: &mut Scene) -> (Far, Far) {
    for far in [&scene.alice, &scene.carol] {
        for key in "2468#".chars() {
            far.tells(LegEvent::Dtmf(key)).await;
        }
    }
    assert_eq!(scene.present().await, [(ALICE, Role::Host), (CAROL, Role::Host)]);
    let (own, mut bob) = second(scene).await;
    let mut hold = offer();
    hold.media[0].direction = Direction::SendOnly;
    own.tells(LegEvent::Reoffered { offer: Some(hold) }).await;
    assert!(matches!(bob.told().await, LegCommand::Reoffer(_)));
    scene.alice.tells(join(101)).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Accepted);
    (own, bob)
}

/// What was being settled with Bob is.
async fn settles(own: &mut Far, bob: &Far) {
    bob.tells(LegEvent::Changed(held(120))).await;
    assert!(matches!(own.told().await, LegCommand::AcceptReoffer(_)));
    own.tells(LegEvent::Changed(streams(110, Direction::RecvOnly).0)).await;
}

#[tokio::test(start_paused = true)]
async fn p40_who_comes_for_a_seat_that_is_gone_stands_at_the_door() {
    let deeds =
        [Deed::Remove(PartyId(ALICE)), Deed::End, Deed::Lock(true), Deed::Role(PartyId(ALICE), Role::Guest)];
    for deed in deeds {
        let mut scene = Scene::of(closed(), Some("alice")).await;
        let (mut own, bob) = bob_is_about_to_come(&mut scene).await;
        scene.act(deed).await;
        if matches!(deed, Deed::Remove(_) | Deed::End) {
            // Her telephone is gone as well.
            scene.alice.ends(Cause::local(Reason::Hangup)).await;
        }
        settles(&mut own, &bob).await;
        let present = scene.present().await;
        let view = scene.exchange.rooms().view("Meet").unwrap();
        let came = view.parties.iter().find(|it| ![ALICE, CAROL].contains(&it.id.0)).expect("he is sent on");
        if let Deed::Role(..) = deed {
            assert_eq!(present, [(CAROL, Role::Host), (came.id.0, Role::Guest)], "as what she is by then");
        } else {
            assert_eq!(came.at, At::Door, "{deed:?}: {present:?}");
        }
        if let Deed::Lock(_) = deed {
            // She is told so, and can go on elsewhere or send somebody later.
            assert_eq!(told_of(&mut scene.alice).await, Referral::Failed(Reason::Forbidden));
            scene.act(Deed::Lock(false)).await;
            scene.sends_on_to("bob").await;
        }
    }
    // She has hung up herself, as telephones do.
    let mut scene = Scene::of(closed(), Some("alice")).await;
    let (mut own, bob) = bob_is_about_to_come(&mut scene).await;
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    settles(&mut own, &bob).await;
    let present = scene.present().await;
    assert_eq!((present.len(), present[0]), (2, (CAROL, Role::Host)), "{present:?}");
    assert_eq!(present[1].1, Role::Host);
}

#[tokio::test(start_paused = true)]
async fn who_rings_for_a_seat_comes_as_what_its_owner_is_by_then() {
    let mut scene = Scene::of(closed(), Some("alice")).await;
    for far in [&scene.alice, &scene.carol] {
        for key in "2468#".chars() {
            far.tells(LegEvent::Dtmf(key)).await;
        }
    }
    assert_eq!(scene.present().await.len(), 2);
    let (bob, _) = scene.sends_on_to("bob").await;
    scene.act(Deed::Role(PartyId(ALICE), Role::Guest)).await;
    bob.tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert_eq!(scene.present().await, [(CAROL, Role::Host), (30, Role::Guest)]);
}
