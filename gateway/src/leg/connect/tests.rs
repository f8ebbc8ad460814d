//! Legs to clients, without a network.

use super::*;
use crate::alias::Domains;
use crate::leg::Venue;

struct World {
    clients: ConnectLegs,
    bob: Registered,
    rings: Rings,
}

fn world() -> World {
    let clients = ConnectLegs::new(10, Arc::new(AtomicU64::new(1)));
    let bob = Registered {
        uuid: Uuid::of([7; 16]),
        alias: Alias::parse("bob", &Domains::default()).unwrap(),
        until: Instant::from_millis(120_000),
        source: None,
        user_agent: String::new(),
    };
    clients.add(Instant::ZERO, bob.clone()).unwrap();
    let rings = clients.rings(&bob.alias, bob.uuid).unwrap();
    World { clients, bob, rings }
}

impl World {
    fn dial(&self) -> Result<Leg, Cause> {
        let venue = Venue { service: "call 1".into(), alias: "call.1".into(), kind: "gateway" };
        let from = Caller { address: "alice".into(), name: "Alice".into(), hops: 69, venue: Some(venue) };
        let nothing = Capabilities { media: Vec::new(), max_bitrate: None };
        self.clients.dial(&ConnectLegs::address(&self.bob), &from, nothing, None)
    }
}

async fn ended(leg: &mut Leg) -> Cause {
    assert!(matches!(leg.events.recv().await, Some(LegEvent::Ringing)));
    let Some(LegEvent::Ended(cause)) = leg.events.recv().await else { panic!("no end") };
    assert!(leg.events.recv().await.is_none(), "nothing follows");
    cause
}

#[tokio::test]
async fn s52_a_client_is_rung_with_the_callers_name_until_the_caller_hangs_up() {
    let mut world = world();
    let mut leg = world.dial().unwrap();
    assert_eq!((leg.party.protocol, leg.party.transport, leg.party.called.as_str()), ("api", "https", "bob"));
    {
        let rings = world.rings.borrow_and_update();
        assert_eq!((rings[0].caller.name.as_str(), rings[0].venue.alias.as_str()), ("Alice", "call.1"));
        assert_eq!(rings[0].leg, leg.id);
    }
    let cause = Cause::local(Reason::Cancelled);
    leg.commands.send(LegCommand::Hangup(cause)).await.unwrap();
    assert_eq!(ended(&mut leg).await, cause);
    assert!(world.rings.borrow().is_empty());
}

#[tokio::test]
async fn a_client_rejects_or_leaves() {
    let mut world = world();
    let mut leg = world.dial().unwrap();
    world.rings.borrow_and_update()[0].reject();
    assert_eq!(ended(&mut leg).await, Cause::remote(Reason::Rejected));
    let mut leg = world.dial().unwrap();
    world.clients.remove(&world.bob.alias, world.bob.uuid).unwrap();
    assert_eq!(ended(&mut leg).await, Cause::remote(Reason::Unavailable));
    assert_eq!(world.dial().err(), Some(Cause::remote(Reason::Unavailable)));
    assert!(world.rings.changed().await.is_ok() && world.rings.changed().await.is_err(), "closed");
}

#[tokio::test]
async fn who_takes_the_call_is_rung_until_the_conference_has_let_go_of_the_leg() {
    let world = world();
    let Leg { id, commands, mut events, .. } = world.dial().unwrap();
    let ring = world.rings.borrow()[0].clone();
    let over = ring.take().unwrap();
    assert!(ring.take().is_none(), "once");
    ring.reject();
    assert!(matches!(events.recv().await, Some(LegEvent::Ringing)));
    assert!(matches!(events.recv().await, Some(LegEvent::Taken(taken)) if taken == id));
    drop(commands);
    assert!(matches!(events.recv().await, Some(LegEvent::Ended(_))));
    assert!(over.await.is_err() && world.rings.borrow().is_empty());
}

#[tokio::test]
async fn a_call_without_a_conference_behind_it_is_a_fault_of_ours() {
    let world = world();
    let from = Caller { address: String::new(), name: String::new(), hops: 1, venue: None };
    let nothing = Capabilities { media: Vec::new(), max_bitrate: None };
    let dialled = world.clients.dial(&ConnectLegs::address(&world.bob), &from, nothing, None);
    assert_eq!(dialled.err(), Some(Cause::local(Reason::Internal)));
}
