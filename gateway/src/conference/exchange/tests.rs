//! What is recorded of a call, with legs of cardboard in paused time.

use crosspoint_codecs::format::Direction;
use tokio::sync::oneshot;

use super::*;
use crate::conference::cardboard::{Far, NoCodecs, leg, offer, streams};
use crate::conference::dialling::Dialling;
use crate::conference::policy::{Actor, Deed, Role};
use crate::conference::room::{At, Command};
use crate::config::Ringback;
use crate::events::{Events, What};
use crate::media::{Engine, EngineConfig};

pub(in crate::conference) struct Parts {
    pub(in crate::conference) exchange: Exchange,
    pub(in crate::conference) recorded: mpsc::UnboundedReceiver<(CallRecord, Cause)>,
    events: Events,
    pub(in crate::conference) _engine: Engine,
}

pub(in crate::conference) fn exchange(
    directory: Arc<dyn Directory>,
    protocol: Arc<dyn Protocol>,
    calls: usize,
) -> Parts {
    let (records, recorded) = mpsc::unbounded_channel();
    let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(NoCodecs));
    let events = Events::default();
    let exchange = Exchange::new(ExchangeParts {
        directory,
        protocols: vec![protocol],
        engines: vec![handle],
        rules: CallRules { ring_timeout: Duration::from_secs(60), ringback: Ringback::Phone },
        calls,
        recorder: Arc::new(move |record, cause, _| records.send((record, cause)).unwrap()),
        fonts: None,
        voice: Default::default(),
        porter: Porter::of_a_test(false, &events),
    });
    Parts { exchange, recorded, events, _engine: engine }
}

/// Alice's room, which calls `dials` when it begins.
fn room(dials: &[&str]) -> Arc<Service> {
    let alias = crate::alias::Alias::parse("meet.alice", &crate::alias::Domains::default()).unwrap();
    let mut service = Service::new("Alice's room", alias);
    service.dials = dials.iter().map(|it| it.parse().unwrap()).collect();
    Arc::new(service)
}

/// A directory that sends every call to bob, and bob's leg.
struct Bob(Mutex<Option<Leg>>);

impl Directory for Bob {
    fn resolve<'a>(&'a self, _: &'a Party) -> Resolving<'a> {
        let uri = "sip:bob@192.0.2.7".to_owned();
        let target = Address::at(uri);
        let dial = Resolution::Dial { targets: vec![target], rule: None, follow: false, why: String::new() };
        Box::pin(std::future::ready(dial))
    }

    fn dial_out<'a>(&'a self, _: &'a str, _: &'a str) -> Resolving<'a> {
        let refuse = Resolution::Refuse { reason: Reason::Forbidden, why: String::new() };
        Box::pin(std::future::ready(refuse))
    }
}

impl Protocol for Bob {
    fn schemes(&self) -> &'static [&'static str] {
        &["sip"]
    }

    fn dial(&self, _: &Address, _: &Caller, _: Capabilities, _: Option<usize>) -> Result<Leg, Cause> {
        self.0.lock().unwrap().take().ok_or(Cause::local(Reason::Unavailable))
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_recorded_as_cancelled_when_the_answer_crosses() {
    let (caller, mut far_caller) = leg(1);
    let (callee, mut far_callee) = leg(2);
    let bob = Arc::new(Bob(Mutex::new(Some(callee))));
    let Parts { exchange, mut recorded, events, _engine } = exchange(bob.clone(), bob.clone(), 1);
    exchange.accept(caller);
    far_caller.tells(LegEvent::Offered(Some(offer()))).await;
    far_callee.tells(LegEvent::Ringing).await;
    assert!(matches!(far_caller.told().await, LegCommand::Ring));
    far_caller.ends(Cause::remote(Reason::Cancelled)).await;
    let cause = far_callee.told_to_hang_up().await;
    // It had picked up before it heard of that.
    far_callee.tells(LegEvent::Answered(streams(20, Direction::SendRecv).0)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    far_callee.ends(cause).await;
    let (record, cause) = recorded.recv().await.unwrap();
    assert_eq!(cause, Cause::remote(Reason::Cancelled));
    assert_eq!((record.reason.as_str(), record.side.as_str()), ("cancelled", "remote"));
    assert_eq!((record.answered, record.answered_by), (None, None));
    assert!(exchange.calls().is_empty());
    let told = events.after(0, 10).events;
    let [begun, ended] = told.as_slice() else { panic!("{told:?}") };
    assert!(matches!(&begun.what, What::CallStarted { call: 1, .. }), "{begun:?}");
    assert!(matches!(&ended.what, What::CallEnded { reason, .. } if reason == "cancelled"), "{ended:?}");
}

/// Bob can be called by conferences, nobody else.
#[derive(Default)]
struct Switchboard(Mutex<Vec<Far>>);

impl Directory for Switchboard {
    fn resolve<'a>(&'a self, _: &'a Party) -> Resolving<'a> {
        unreachable!("nobody calls")
    }

    fn dial_out<'a>(&'a self, from: &'a str, destination: &'a str) -> Resolving<'a> {
        assert_eq!(from, "meet.alice");
        let target = |uri: &str| Address::at(uri);
        let targets = vec![target("sip:bob@192.0.2.7"), target("sip:bob@192.0.2.8")];
        let resolution = match destination {
            "bob" => {
                Resolution::Dial { targets, rule: Some("out".into()), follow: false, why: String::new() }
            }
            _ => Resolution::Refuse { reason: Reason::Forbidden, why: String::new() },
        };
        Box::pin(std::future::ready(resolution))
    }
}

impl Protocol for Switchboard {
    fn schemes(&self) -> &'static [&'static str] {
        &["sip"]
    }

    fn dial(&self, _: &Address, _: &Caller, offer: Capabilities, _: Option<usize>) -> Result<Leg, Cause> {
        assert_eq!(offer.media.len(), 2, "sound and pictures");
        let mut all = self.0.lock().unwrap();
        let (leg, far) = leg(all.len() as u64 + 1);
        all.push(far);
        Ok(leg)
    }
}

#[tokio::test(start_paused = true)]
async fn s73_those_whom_the_service_lists_are_called_when_the_conference_begins_and_wait_as_others_do() {
    let board = Arc::new(Switchboard::default());
    let Parts { exchange, mut recorded, _engine, .. } = exchange(board.clone(), board.clone(), 10);
    let service = room(&["nobody", "bob role=guest keys=1#"]);
    let (reply, joined) = oneshot::channel();
    let join = Command::Join { name: "Alice".into(), role: Role::Host, source: None, reply };
    assert!(exchange.rooms().open_and_tell(&service, join));
    let alice = joined.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (refused, _) = recorded.recv().await.unwrap();
    assert_eq!((refused.called.as_str(), refused.reason.as_str()), ("nobody", "forbidden"));
    let at = || {
        let (_, view) = exchange.rooms().views().pop().unwrap();
        view.parties.iter().find(|it| it.invited_as.is_some()).map(|it| (it.at, it.invited_as.unwrap()))
    };
    assert_eq!(at(), Some((At::Connecting, Role::Guest)));
    // S24: the room is locked meanwhile. He has two telephones, and picks one up.
    let (reply, locked) = oneshot::channel();
    let lock = Command::Act { actor: Actor::Party(alice.id), deed: Deed::Lock(true), reply };
    assert!(exchange.rooms().tell("Alice's room", lock));
    locked.await.unwrap().unwrap();
    let mut telephones: Vec<Far> = board.0.lock().unwrap().drain(..).collect();
    assert_eq!(telephones.len(), 2);
    telephones[1].tells(LegEvent::Answered(streams(20, Direction::SendRecv).0)).await;
    assert_eq!(telephones[0].told_to_hang_up().await.reason, Reason::AnsweredElsewhere);
    assert!(matches!(telephones[1].told().await, LegCommand::SendDtmf('1')));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(at(), Some((At::Waiting, Role::Guest)));
    assert_eq!(board.0.lock().unwrap().len(), 0, "once for each conference");
    let call = exchange.calls().pop().unwrap();
    assert_eq!((call.caller.address.as_str(), call.caller.protocol), ("meet.alice", "conference"));
    telephones[1].ends(Cause::remote(Reason::Hangup)).await;
    let (record, _) = recorded.recv().await.unwrap();
    assert_eq!((record.rule.as_deref(), record.reason.as_str()), (Some("out"), "hangup"));
    assert!(record.answered.is_some() && record.answered_by.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_asker_goes_away_while_it_is_dialled_is_recorded_and_counted_no_more() {
    let board = Arc::new(Switchboard::default());
    let Parts { exchange, mut recorded, _engine, .. } = exchange(board.clone(), board.clone(), 1);
    let service = room(&[]);
    {
        let mut dial = std::pin::pin!(exchange.dial(&service, Dialling::to("bob", "Alice")));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(dial.as_mut().poll(&mut context).is_pending());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for far in board.0.lock().unwrap().drain(..) {
        far.events.try_send(LegEvent::Ended(Cause::remote(Reason::Busy))).unwrap();
    }
    let (record, _) = tokio::time::timeout(Duration::from_secs(5), recorded.recv()).await.unwrap().unwrap();
    assert_eq!((record.called.as_str(), record.reason.as_str()), ("bob", "busy"));
    assert!(exchange.calls().is_empty());
}

/// Conferences call; where to is said late.
struct Slow(Switchboard, watch::Sender<bool>);

impl Directory for Slow {
    fn resolve<'a>(&'a self, party: &'a Party) -> Resolving<'a> {
        self.0.resolve(party)
    }

    fn dial_out<'a>(&'a self, from: &'a str, destination: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            let mut said = self.1.subscribe();
            said.wait_for(|said| *said).await.unwrap();
            self.0.dial_out(from, destination).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn s73_nobody_is_called_into_a_conference_that_is_over_by_then() {
    let slow = Arc::new(Slow(Switchboard::default(), watch::channel(false).0));
    let board = Arc::new(Switchboard::default());
    let Parts { exchange, mut recorded, _engine, .. } = exchange(slow.clone(), board.clone(), 10);
    let service = room(&["bob", "bob keeps=always"]);
    let (reply, joined) = oneshot::channel();
    let join = Command::Join { name: "Alice".into(), role: Role::Host, source: None, reply };
    assert!(exchange.rooms().open_and_tell(&service, join));
    let alice = joined.await.unwrap().unwrap();
    assert!(exchange.rooms().tell("Alice's room", Command::Leave(alice.id)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(exchange.rooms().views().is_empty());
    slow.1.send_replace(true);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(board.0.lock().unwrap().is_empty(), "nobody rings");
    assert!(exchange.rooms().views().is_empty(), "and no conference begins");
    for _ in 0..2 {
        let (record, _) = recorded.recv().await.unwrap();
        assert_eq!((record.called.as_str(), record.reason.as_str()), ("bob", "cancelled"));
    }
}
