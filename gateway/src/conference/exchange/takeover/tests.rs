//! Attended transfers, and legs in the place of others, with legs of cardboard in paused time. Alice's
//! telephone talks to Bob's in one call; who else calls whom is said by each test.

use crosspoint_codecs::format::Direction;

use super::super::transfer::tests::{Feeds, Scene, held, last, settle, told_of};
use crate::cause::{Cause, Reason, Side};
use crate::conference::cardboard::{Far, leg, offer, streams};
use crate::leg::{Leg, LegCommand, LegEvent, LegId, Referral};
use crate::media::port::{Feed, StreamId};

/// A leg that comes in and has made its offer.
async fn incoming(number: u64, device: Option<&str>, called: &str) -> (Leg, Far) {
    let (mut leg, far) = leg(number);
    leg.party.address = device.unwrap_or("somebody").into();
    leg.party.device = device.map(str::to_owned);
    leg.party.called = called.into();
    far.tells(LegEvent::Offered(Some(offer()))).await;
    (leg, far)
}

/// A second call, answered: both far ends, the number of the called leg, and what each of them hears.
struct Second {
    caller: Far,
    callee: Far,
    callee_leg: LegId,
    caller_hears: Feeds,
    callee_hears: Feeds,
}

const CALLER: LegId = LegId(101);

impl Second {
    /// `caller` talks to `called`, who are streams 110 and 120.
    async fn new(scene: &Scene, caller: Option<&str>, called: &str) -> Self {
        let (leg, mut caller) = incoming(CALLER.0, caller, called).await;
        scene.exchange.accept(leg);
        settle().await;
        let (callee, _) = scene.world.dialled.lock().unwrap().remove(called).unwrap();
        let (theirs, callee_hears) = streams(120, Direction::SendRecv);
        callee.tells(LegEvent::Answered(theirs)).await;
        assert!(matches!(caller.told().await, LegCommand::Answer(_)));
        let (theirs, caller_hears) = streams(110, Direction::SendRecv);
        caller.tells(LegEvent::Answered(theirs)).await;
        settle().await;
        assert_eq!(last(&caller_hears), Some(Feed::Relay(StreamId(120))));
        let calls = scene.exchange.calls();
        let callee_leg = calls.last().unwrap().view.legs.last().unwrap().id;
        Self { caller, callee, callee_leg, caller_hears, callee_hears }
    }

    /// The caller puts the called party on hold, who has not answered that yet.
    async fn is_put_on_hold(&mut self) {
        let mut hold = offer();
        hold.media[0].direction = Direction::SendOnly;
        self.caller.tells(LegEvent::Reoffered { offer: Some(hold) }).await;
        assert!(matches!(self.callee.told().await, LegCommand::Reoffer(_)));
    }

    /// It has, and the caller is told.
    async fn takes_the_hold(&mut self) {
        self.callee.tells(LegEvent::Changed(held(120))).await;
        assert!(matches!(self.caller.told().await, LegCommand::AcceptReoffer(_)));
        self.caller.tells(LegEvent::Changed(streams(110, Direction::RecvOnly).0)).await;
    }
}

fn refer(own: LegId) -> LegEvent {
    let (to, referred_by) = ("sip:carol@gateway.example".to_owned(), Some("sip:boss@example.com".to_owned()));
    LegEvent::Referred { to, instead_of: Some(own), referred_by }
}

/// Nothing more is asked of it.
fn is_left_alone(far: &mut Far) -> bool {
    far.commands.try_recv().is_err()
}

#[tokio::test(start_paused = true)]
async fn two_calls_of_one_device_are_joined_and_both_of_its_legs_are_hung_up() {
    let mut scene = Scene::new(Some("alice")).await;
    let mut second = Second::new(&scene, Some("alice"), "carol").await;
    // Both are on hold, as telephones leave them.
    scene.bob.tells(LegEvent::Changed(held(20))).await;
    second.callee.tells(LegEvent::Changed(held(120))).await;
    // Who comes first of two at a time is anybody's guess.
    settle().await;
    scene.alice.tells(refer(CALLER)).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Accepted);
    assert_eq!(told_of(&mut scene.alice).await, Referral::Answered);
    assert_eq!(scene.alice.told_to_hang_up().await, Cause::local(Reason::Hangup));
    assert_eq!(second.caller.told_to_hang_up().await, Cause::local(Reason::Hangup));
    // Nobody else takes them off hold.
    for (far, own) in [(&mut scene.bob, 20), (&mut second.callee, 120)] {
        let LegCommand::Reoffer(wanted) = far.told().await else { panic!("{own} stays on hold") };
        assert_eq!(wanted.media[0].direction, Direction::SendRecv);
    }
    let (bobs, bob_hears) = streams(21, Direction::SendRecv);
    let (carols, carol_hears) = streams(121, Direction::SendRecv);
    scene.bob.tells(LegEvent::Changed(bobs)).await;
    second.callee.tells(LegEvent::Changed(carols)).await;
    scene.alice.ends(Cause::local(Reason::Hangup)).await;
    second.caller.ends(Cause::local(Reason::Hangup)).await;
    settle().await;
    assert_eq!(last(&bob_hears), Some(Feed::Relay(StreamId(121))));
    assert_eq!(last(&carol_hears), Some(Feed::Relay(StreamId(21))));
    // The second call is over, and says where its party went.
    let over = scene.record().await;
    assert_eq!((over.caller.as_str(), over.reason.as_str()), ("alice", "hangup"));
    assert_eq!((over.answered_by.as_deref(), over.legs.len()), (Some("carol"), 2));
    let went = &over.transfers[0];
    assert_eq!((went.by.as_str(), went.to.as_str(), went.outcome.as_str()), ("alice", "bob", "answered"));
    assert_eq!(scene.exchange.calls().len(), 1);
    // What is left is a call like any other.
    second.callee.tells(LegEvent::Dtmf('5')).await;
    assert!(matches!(scene.bob.told().await, LegCommand::SendDtmf('5')));
    second.callee.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(scene.bob.told_to_hang_up().await.side, Side::Peer);
    scene.bob.ends(Cause::local(Reason::Hangup)).await;
    let record = scene.record().await;
    let told = &record.transfers[0];
    assert_eq!((told.by.as_str(), told.outcome.as_str()), ("alice", "answered"));
    assert_eq!(told.referred_by.as_deref(), Some("sip:boss@example.com"));
    assert_eq!(record.legs.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_was_called_in_both_joins_his_callers() {
    let mut scene = Scene::new(Some("alice")).await;
    let mut second = Second::new(&scene, None, "bob").await;
    scene.bob.tells(refer(second.callee_leg)).await;
    assert_eq!(told_of(&mut scene.bob).await, Referral::Accepted);
    assert_eq!(told_of(&mut scene.bob).await, Referral::Answered);
    for bob in [&mut scene.bob, &mut second.callee] {
        bob.told_to_hang_up().await;
        bob.ends(Cause::local(Reason::Hangup)).await;
    }
    settle().await;
    assert_eq!(last(&scene.heard), Some(Feed::Relay(StreamId(110))));
    assert_eq!(last(&second.caller_hears), Some(Feed::Relay(StreamId(10))));
    assert_eq!(last(&second.callee_hears), Some(Feed::Silence));
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    second.caller.told_to_hang_up().await;
    second.caller.ends(Cause::local(Reason::Hangup)).await;
    for _ in 0..2 {
        assert_eq!(scene.record().await.transfers[0].by, "bob");
    }
}

#[tokio::test(start_paused = true)]
async fn p42_only_calls_of_ones_own_are_joined() {
    let mut scene = Scene::new(Some("alice")).await;
    let mut second = Second::new(&scene, Some("dave"), "carol").await;
    // Not his, not there, and the very call that he asks in.
    let own = scene.exchange.calls()[0].view.legs[0].id;
    for (named, told) in [
        (CALLER, [Referral::Accepted, Referral::NoSuchCall]),
        (second.callee_leg, [Referral::Accepted, Referral::NoSuchCall]),
        (LegId(999), [Referral::Refused(Reason::Rejected); 2]),
        (own, [Referral::Refused(Reason::NotAcceptable); 2]),
    ] {
        scene.alice.tells(refer(named)).await;
        assert_eq!(told_of(&mut scene.alice).await, told[0], "{named}");
        if told[0] == Referral::Accepted {
            assert_eq!(told_of(&mut scene.alice).await, told[1], "{named}");
        }
        settle().await;
        assert!(is_left_alone(&mut second.caller) && is_left_alone(&mut second.callee));
        assert_eq!(last(&scene.heard), Some(Feed::Relay(StreamId(20))), "the call goes on");
    }
    let mut stranger = Scene::new(None).await;
    let mut second = Second::new(&stranger, None, "carol").await;
    stranger.alice.tells(refer(CALLER)).await;
    assert_eq!(told_of(&mut stranger.alice).await, Referral::Refused(Reason::Forbidden));
    settle().await;
    assert!(is_left_alone(&mut second.caller));
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_on_its_way_settles_first() {
    let mut scene = Scene::new(Some("alice")).await;
    let mut second = Second::new(&scene, Some("alice"), "carol").await;
    second.is_put_on_hold().await;
    scene.alice.tells(refer(CALLER)).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Accepted);
    settle().await;
    assert!(is_left_alone(&mut scene.alice), "Carol has not answered the hold");
    second.takes_the_hold().await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Answered);
    assert!(matches!(second.callee.told().await, LegCommand::Reoffer(_)), "it is off hold again");
}

#[tokio::test(start_paused = true)]
async fn where_the_hold_never_settles_both_calls_go_on() {
    let mut scene = Scene::new(Some("alice")).await;
    let mut second = Second::new(&scene, Some("alice"), "carol").await;
    second.is_put_on_hold().await;
    scene.alice.tells(refer(CALLER)).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Accepted);
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::NoSuchCall);
    assert!(is_left_alone(&mut scene.alice) && is_left_alone(&mut second.caller));
    assert_eq!(scene.exchange.calls().len(), 2);
    assert_eq!(last(&scene.heard), Some(Feed::Relay(StreamId(20))));
}

/// Carol, whom she wants for Bob, has not answered a hold yet.
async fn alice_asks_and_hangs_up() -> (Scene, Second) {
    let mut scene = Scene::new(Some("alice")).await;
    let mut second = Second::new(&scene, Some("alice"), "carol").await;
    second.is_put_on_hold().await;
    scene.alice.tells(refer(CALLER)).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Accepted);
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    settle().await;
    (scene, second)
}

#[tokio::test(start_paused = true)]
async fn who_asks_may_hang_up_at_once_and_who_stays_as_well() {
    let (mut scene, mut second) = alice_asks_and_hangs_up().await;
    assert!(is_left_alone(&mut scene.bob), "he waits for Carol");
    scene.bob.ends(Cause::remote(Reason::Hangup)).await;
    settle().await;
    // The first call is over: nobody wants Carol any more.
    assert_eq!(scene.record().await.answered_by.as_deref(), Some("bob"));
    second.takes_the_hold().await;
    settle().await;
    assert!(is_left_alone(&mut second.caller) && is_left_alone(&mut second.callee));
    second.caller.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(second.callee.told_to_hang_up().await.side, Side::Peer);
    second.callee.ends(Cause::local(Reason::Hangup)).await;
    assert!(scene.record().await.transfers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_stays_talks_for_as_long_as_he_likes_though_who_asked_hung_up_first() {
    let (mut scene, mut second) = alice_asks_and_hangs_up().await;
    second.takes_the_hold().await;
    assert!(matches!(second.callee.told().await, LegCommand::Reoffer(_)), "Carol is off hold");
    second.caller.told_to_hang_up().await;
    second.caller.ends(Cause::local(Reason::Hangup)).await;
    // Longer than legs may take to say goodbye.
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(is_left_alone(&mut scene.bob) && is_left_alone(&mut second.callee));
    assert_eq!(scene.exchange.calls().len(), 1);
    second.callee.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(scene.bob.told_to_hang_up().await.side, Side::Peer);
}

#[tokio::test(start_paused = true)]
async fn a_party_goes_on_at_another_telephone_of_its_own() {
    for (device, old, stays_hears) in [("alice", LegId(1), 20), ("bob", LegId(2), 10)] {
        let mut scene = Scene::new(Some("alice")).await;
        let (leg, mut new) = incoming(50, Some(device), "whoever").await;
        scene.exchange.replace(leg, old, None);
        let LegCommand::Answer(wanted) = new.told().await else { panic!("not answered") };
        assert_eq!(wanted.media[0].direction, Direction::SendRecv);
        settle().await;
        let (left, stays) = match device {
            "alice" => (&mut scene.alice, &mut scene.bob),
            _ => (&mut scene.bob, &mut scene.alice),
        };
        assert!(is_left_alone(left), "not before the new one stands");
        let (theirs, new_hears) = streams(50, Direction::SendRecv);
        new.tells(LegEvent::Answered(theirs)).await;
        assert_eq!(left.told_to_hang_up().await, Cause::local(Reason::Hangup));
        left.ends(Cause::local(Reason::Hangup)).await;
        settle().await;
        assert!(is_left_alone(stays));
        assert_eq!(last(&new_hears), Some(Feed::Relay(StreamId(stays_hears))));
        stays.ends(Cause::remote(Reason::Hangup)).await;
        assert_eq!(new.told_to_hang_up().await.side, Side::Peer);
        new.ends(Cause::local(Reason::Hangup)).await;
        let record = scene.record().await;
        assert_eq!(
            (record.transfers[0].by.as_str(), record.transfers[0].outcome.as_str()),
            (device, "answered")
        );
        assert_eq!((record.answered_by.as_deref(), record.legs.len()), (Some("bob"), 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_party_that_rings_is_picked_up_at_another_telephone_of_its_own() {
    let scene = Scene::new(Some("alice")).await;
    let (leg, mut caller) = incoming(CALLER.0, None, "carol").await;
    scene.exchange.accept(leg);
    settle().await;
    let (mut carol, _) = scene.carol();
    carol.tells(LegEvent::Ringing).await;
    assert!(matches!(caller.told().await, LegCommand::Ring));
    let (leg, mut new) = incoming(50, Some("carol"), "carol").await;
    // Her leg in the call that rings.
    let old = scene.exchange.calls().last().unwrap().view.legs.last().unwrap().id;
    scene.exchange.replace(leg, old, None);
    assert!(matches!(new.told().await, LegCommand::Answer(_)));
    let (theirs, new_hears) = streams(50, Direction::SendRecv);
    new.tells(LegEvent::Answered(theirs)).await;
    assert_eq!(carol.told_to_hang_up().await, Cause::local(Reason::AnsweredElsewhere));
    assert!(matches!(caller.told().await, LegCommand::Answer(_)));
    caller.tells(LegEvent::Answered(streams(110, Direction::SendRecv).0)).await;
    settle().await;
    assert_eq!(last(&new_hears), Some(Feed::Relay(StreamId(110))));
}

#[tokio::test(start_paused = true)]
async fn nobody_else_takes_a_place_and_one_that_comes_to_nothing_changes_nothing() {
    let mut scene = Scene::new(Some("alice")).await;
    for (device, old, reason) in [
        (Some("mallory"), LegId(1), Reason::Rejected),
        (None, LegId(1), Reason::Rejected),
        (Some("alice"), LegId(2), Reason::Rejected),
        (Some("alice"), LegId(77), Reason::Rejected),
    ] {
        let (leg, mut new) = incoming(50, device, "bob").await;
        scene.exchange.replace(leg, old, None);
        assert_eq!(new.told_to_hang_up().await, Cause::local(reason), "{device:?} {old}");
        new.ends(Cause::local(reason)).await;
    }
    let (leg, mut new) = incoming(50, Some("alice"), "bob").await;
    scene.exchange.replace(leg, LegId(1), None);
    assert!(matches!(new.told().await, LegCommand::Answer(_)));
    new.ends(Cause::local(Reason::NotAcceptable)).await;
    settle().await;
    assert!(is_left_alone(&mut scene.alice) && is_left_alone(&mut scene.bob));
    assert_eq!(last(&scene.heard), Some(Feed::Relay(StreamId(20))));
    // One whose old leg hangs up in between goes with it.
    let (leg, mut new) = incoming(51, Some("alice"), "bob").await;
    scene.exchange.replace(leg, LegId(1), None);
    assert!(matches!(new.told().await, LegCommand::Answer(_)));
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    new.told_to_hang_up().await;
    new.ends(Cause::local(Reason::Hangup)).await;
    scene.bob.told_to_hang_up().await;
    scene.bob.ends(Cause::local(Reason::Hangup)).await;
    let record = scene.record().await;
    assert_eq!(record.transfers[0].outcome, "not-acceptable");
}
