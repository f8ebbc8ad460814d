//! Transfers with legs of cardboard, in paused time. Alice's telephone calls Bob's, and one of them
//! sends the other on to Carol's.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crosspoint_codecs::format::{Direction, MediaKind};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::cause::{Cause, Side};
use crate::conference::cardboard::{Far, leg, offer, streams};
use crate::conference::exchange::tests::{Parts, exchange};
use crate::conference::{Directory, Resolving};
use crate::leg::{Address, LegCommand, LegEvent, LegStream, Protocol, Referral};
use crate::media::port::{Feed, StreamId};
use crate::records::CallRecord;

use super::*;

/// Devices can be called by devices; "meet" is a conference; nothing else is anywhere.
#[derive(Default)]
pub(in crate::conference::exchange) struct World {
    pub(in crate::conference::exchange) asked: Mutex<Vec<(String, Option<String>, String)>>,
    pub(in crate::conference::exchange) dialled: Mutex<HashMap<String, (Far, Caller)>>,
    legs: AtomicU64,
}

impl Directory for World {
    fn resolve<'a>(&'a self, party: &'a Party) -> Resolving<'a> {
        let alias = Alias::parse(&party.called, &Default::default()).unwrap().to_string();
        let asked = (party.address.clone(), party.device.clone(), alias.clone());
        self.asked.lock().unwrap().push(asked);
        let resolution = match alias.as_str() {
            "bob" | "carol" => {
                let device = Some(alias.clone());
                let uri = format!("sip:{alias}@192.0.2.7:5062");
                let target = Address { device, ..Address::at(uri) };
                Resolution::Dial { targets: vec![target], rule: None, follow: false, why: String::new() }
            }
            "meet" => {
                let alias = Alias::from_canonical("meet");
                let service = Service::new("Meet", alias);
                Resolution::Enter { service: service.into(), why: String::new() }
            }
            _ => Resolution::Refuse { reason: Reason::Forbidden, why: String::new() },
        };
        Box::pin(std::future::ready(resolution))
    }

    fn dial_out<'a>(&'a self, _: &'a str, _: &'a str) -> Resolving<'a> {
        unreachable!("no conference calls")
    }
}

impl Protocol for World {
    fn schemes(&self) -> &'static [&'static str] {
        &["sip"]
    }

    fn dial(&self, to: &Address, from: &Caller, offer: Capabilities, _: Option<usize>) -> Result<Leg, Cause> {
        assert_eq!(offer.media[0].direction, Direction::SendRecv);
        assert!(offer.media.iter().all(|line| line.role == MediaKind::Audio), "no more than who stays has");
        let (mut leg, far) = leg(self.legs.fetch_add(1, Ordering::Relaxed) + 2);
        leg.party.device.clone_from(&to.device);
        leg.party.address.clone_from(&to.uri);
        self.dialled.lock().unwrap().insert(to.device.clone().unwrap(), (far, from.clone()));
        Ok(leg)
    }
}

pub(in crate::conference::exchange) type Feeds = Arc<Mutex<Vec<Feed>>>;

pub(in crate::conference::exchange) struct Scene {
    pub(in crate::conference::exchange) world: Arc<World>,
    pub(in crate::conference::exchange) alice: Far,
    pub(in crate::conference::exchange) bob: Far,
    pub(in crate::conference::exchange) recorded: UnboundedReceiver<(CallRecord, Cause)>,
    pub(in crate::conference::exchange) heard: Feeds,
    pub(in crate::conference::exchange) bob_hears: Feeds,
    pub(in crate::conference::exchange) exchange: Exchange,
    _engine: crate::media::Engine,
}

impl Scene {
    /// Alice, who may be a stranger, talks to Bob.
    pub(in crate::conference::exchange) async fn new(device: Option<&str>) -> Self {
        let world = Arc::new(World::default());
        let Parts { exchange, recorded, _engine, .. } = exchange(world.clone(), world.clone(), 10);
        let (mut caller, mut alice) = leg(1);
        caller.party.address = "alice".into();
        caller.party.name = "Alice".into();
        caller.party.device = device.map(str::to_owned);
        caller.party.called = "bob".into();
        exchange.accept(caller);
        alice.tells(LegEvent::Offered(Some(offer()))).await;
        settle().await;
        let (bob, _) = world.dialled.lock().unwrap().remove("bob").unwrap();
        let (his, bob_hears) = streams(20, Direction::SendRecv);
        bob.tells(LegEvent::Answered(his)).await;
        assert!(matches!(alice.told().await, LegCommand::Answer(_)));
        let (hers, heard) = streams(10, Direction::SendRecv);
        alice.tells(LegEvent::Answered(hers)).await;
        settle().await;
        assert_eq!(last(&heard), Some(Feed::Relay(StreamId(20))));
        Self { world, alice, bob, recorded, heard, bob_hears, exchange, _engine }
    }

    pub(in crate::conference::exchange) fn carol(&self) -> (Far, Caller) {
        self.world.dialled.lock().unwrap().remove("carol").expect("Carol was not called")
    }

    pub(in crate::conference::exchange) async fn record(&mut self) -> CallRecord {
        self.recorded.recv().await.unwrap().0
    }
}

pub(in crate::conference::exchange) fn last(feeds: &Feeds) -> Option<Feed> {
    feeds.lock().unwrap().last().cloned()
}

pub(in crate::conference::exchange) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(in crate::conference::exchange) async fn told_of(far: &mut Far) -> Referral {
    match far.told().await {
        LegCommand::Referral(referral) => referral,
        other => panic!("not of the transfer: {other:?}"),
    }
}

fn refer(to: &str) -> LegEvent {
    LegEvent::Referred { to: to.to_owned(), instead_of: None, referred_by: None }
}

pub(in crate::conference::exchange) fn held(number: u64) -> Vec<LegStream> {
    streams(number, Direction::SendOnly).0
}

#[tokio::test(start_paused = true)]
async fn the_called_party_sends_the_caller_on_who_hears_it_ring_and_talks_there() {
    let mut scene = Scene::new(Some("alice")).await;
    scene.bob.tells(refer("sip:carol@gateway.example")).await;
    assert_eq!(told_of(&mut scene.bob).await, Referral::Accepted);
    let asked = scene.world.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked, ("bob".into(), Some("bob".into()), "carol".into()), "promise 42: as the referrer");
    let (mut carol, from) = scene.carol();
    assert_eq!((from.address.as_str(), from.name.as_str(), from.hops), ("alice", "Alice", 69));
    carol.tells(LegEvent::Ringing).await;
    assert_eq!(told_of(&mut scene.bob).await, Referral::Rings);
    settle().await;
    assert!(matches!(last(&scene.heard), Some(Feed::Engine | Feed::Silence)), "not Bob any more");
    let (hers, carol_hears) = streams(30, Direction::SendRecv);
    carol.tells(LegEvent::Answered(hers)).await;
    assert_eq!(told_of(&mut scene.bob).await, Referral::Answered);
    assert_eq!(scene.bob.told_to_hang_up().await, Cause::local(Reason::Hangup));
    scene.bob.ends(Cause::local(Reason::Hangup)).await;
    settle().await;
    assert_eq!(last(&scene.heard), Some(Feed::Relay(StreamId(30))));
    assert_eq!(last(&carol_hears), Some(Feed::Relay(StreamId(10))));
    // Both sides of what is left work as in any call.
    carol.tells(LegEvent::Dtmf('5')).await;
    assert!(matches!(scene.alice.told().await, LegCommand::SendDtmf('5')));
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(carol.told_to_hang_up().await.side, Side::Peer);
    carol.ends(Cause::local(Reason::Hangup)).await;
    let record = scene.record().await;
    assert_eq!(record.answered_by.as_deref(), Some("bob"));
    let transfer = &record.transfers[0];
    assert_eq!(
        (transfer.by.as_str(), transfer.to.as_str(), transfer.outcome.as_str()),
        ("bob", "sip:carol@gateway.example", "answered")
    );
    let legs: Vec<_> = record.legs.iter().map(|leg| leg.address.as_str()).collect();
    assert_eq!(legs, ["alice", "sip:carol@192.0.2.7:5062", "sip:bob@192.0.2.7:5062"]);
}

#[tokio::test(start_paused = true)]
async fn the_caller_sends_the_called_party_on_who_was_on_hold_and_hangs_up_at_once() {
    let mut scene = Scene::new(Some("alice")).await;
    // The hold has crossed already.
    scene.bob.tells(LegEvent::Changed(held(20))).await;
    scene.alice.tells(refer("sip:carol@gateway.example")).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Accepted);
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    let (mut carol, from) = scene.carol();
    assert_eq!(from.address, "bob");
    carol.tells(LegEvent::Ringing).await;
    settle().await;
    assert!(scene.bob.commands.try_recv().is_err(), "he stays");
    let (hers, carol_hears) = streams(30, Direction::SendRecv);
    carol.tells(LegEvent::Answered(hers)).await;
    let LegCommand::Reoffer(wanted) = scene.bob.told().await else { panic!("nobody takes him off hold") };
    assert_eq!(wanted.media[0].direction, Direction::SendRecv);
    scene.bob.tells(LegEvent::Changed(streams(20, Direction::SendRecv).0)).await;
    settle().await;
    assert_eq!(last(&carol_hears), Some(Feed::Relay(StreamId(20))));
    scene.bob.ends(Cause::remote(Reason::Hangup)).await;
    carol.told_to_hang_up().await;
    carol.ends(Cause::local(Reason::Hangup)).await;
    let record = scene.record().await;
    assert_eq!((record.caller.as_str(), record.transfers[0].outcome.as_str()), ("alice", "answered"));
    assert_eq!(record.legs.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_answers_the_call_goes_on_as_it_was() {
    for (ends, told) in [(Some(Reason::Busy), Reason::Busy), (None, Reason::NoAnswer)] {
        let mut scene = Scene::new(Some("alice")).await;
        scene.alice.tells(refer("sip:carol@gateway.example")).await;
        assert_eq!(told_of(&mut scene.alice).await, Referral::Accepted);
        let (mut carol, _) = scene.carol();
        carol.tells(LegEvent::Ringing).await;
        assert_eq!(told_of(&mut scene.alice).await, Referral::Rings);
        match ends {
            Some(reason) => carol.ends(Cause::remote(reason)).await,
            None => {
                tokio::time::sleep(Duration::from_secs(61)).await;
                carol.told_to_hang_up().await;
                carol.ends(Cause::local(Reason::Cancelled)).await;
            }
        }
        assert_eq!(told_of(&mut scene.alice).await, Referral::Failed(told));
        settle().await;
        assert_eq!(last(&scene.heard), Some(Feed::Relay(StreamId(20))));
        assert_eq!(last(&scene.bob_hears), Some(Feed::Relay(StreamId(10))));
        // And may be sent on again.
        scene.alice.tells(refer("carol")).await;
        assert_eq!(told_of(&mut scene.alice).await, Referral::Accepted);
        let (mut carol, _) = scene.carol();
        scene.bob.ends(Cause::remote(Reason::Hangup)).await;
        assert_eq!(carol.told_to_hang_up().await.reason, Reason::Hangup, "who stays is gone");
        carol.ends(Cause::local(Reason::Cancelled)).await;
        scene.alice.ends(Cause::local(Reason::Hangup)).await;
        let record = scene.record().await;
        assert_eq!((record.caller.as_str(), record.answered_by.as_deref()), ("alice", Some("bob")));
        assert_eq!(record.transfers[0].outcome, told.word());
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_answers_and_who_asked_is_gone_the_call_is_over() {
    let mut scene = Scene::new(Some("alice")).await;
    scene.bob.tells(refer("carol")).await;
    assert_eq!(told_of(&mut scene.bob).await, Referral::Accepted);
    scene.bob.ends(Cause::remote(Reason::Hangup)).await;
    let (carol, _) = scene.carol();
    carol.ends(Cause::remote(Reason::Busy)).await;
    assert_eq!(scene.alice.told_to_hang_up().await, Cause { reason: Reason::Busy, side: Side::Peer });
    scene.alice.ends(Cause::local(Reason::Busy)).await;
    let record = scene.record().await;
    assert_eq!((record.reason.as_str(), record.answered_by.as_deref()), ("busy", Some("bob")));
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_into_a_conference_is_in_it_and_who_sent_him_is_out() {
    let mut scene = Scene::new(Some("alice")).await;
    // She has her place, though there is none for another call.
    let rules = scene.exchange.0.rules.load().0;
    scene.exchange.set_rules(rules, 1);
    scene.bob.tells(refer("sip:meet@gateway.example")).await;
    assert_eq!(told_of(&mut scene.bob).await, Referral::Accepted);
    assert_eq!(told_of(&mut scene.bob).await, Referral::Answered);
    assert_eq!(scene.world.asked.lock().unwrap().last().unwrap().0, "bob", "as if Bob called");
    // She is offered what there is, pictures too.
    let LegCommand::Reoffer(ours) = scene.alice.told().await else { panic!("no offer") };
    assert_eq!(ours.media.len(), 2);
    let cause = scene.bob.told_to_hang_up().await;
    scene.bob.ends(cause).await;
    let record = scene.record().await;
    assert_eq!((record.call, record.transfers[0].outcome.as_str()), (1, "answered"));
    assert_eq!(record.legs.len(), 2, "as they were");
    let parties = || scene.exchange.rooms().view("Meet").unwrap().parties;
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(parties().iter().map(|it| (it.id.0, it.party.is_some())).collect::<Vec<_>>(), [(1, true)]);
    let live = scene.exchange.calls();
    assert_eq!(
        live.iter().map(|it| (it.call, it.caller.called.as_str())).collect::<Vec<_>>(),
        [(2, "sip:meet@gateway.example")]
    );
    scene.alice.ends(Cause::remote(Reason::Hangup)).await;
    let record = scene.record().await;
    assert_eq!((record.answered_by.as_deref(), record.authenticated), (Some("Meet"), true));
}

#[tokio::test(start_paused = true)]
async fn p42_nobody_is_sent_where_who_asks_could_not_call_and_strangers_send_nobody_on() {
    let mut scene = Scene::new(Some("alice")).await;
    for (to, reason) in
        [("sip:+4930@premium.example", Reason::Forbidden), ("sip:premium@192.0.2.66", Reason::Forbidden)]
    {
        scene.alice.tells(refer(to)).await;
        assert_eq!(told_of(&mut scene.alice).await, Referral::Refused(reason), "{to}");
    }
    // One after the other.
    scene.bob.tells(refer("carol")).await;
    assert_eq!(told_of(&mut scene.bob).await, Referral::Accepted);
    scene.alice.tells(refer("carol")).await;
    assert_eq!(told_of(&mut scene.alice).await, Referral::Refused(Reason::Congestion));

    let mut stranger = Scene::new(None).await;
    let asked = stranger.world.asked.lock().unwrap().len();
    stranger.alice.tells(refer("carol")).await;
    assert_eq!(told_of(&mut stranger.alice).await, Referral::Refused(Reason::Forbidden));
    assert_eq!(stranger.world.asked.lock().unwrap().len(), asked, "nobody is looked for");
    assert_eq!(last(&stranger.heard), Some(Feed::Relay(StreamId(20))), "the call goes on");
}
