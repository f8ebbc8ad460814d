//! Calls between two with legs of cardboard, in paused time.

use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::format::Direction;
use tokio::sync::{oneshot, watch};

use super::super::{Command, Invited, Joined, Rooms, RoomsParts};
use crate::alias::{Alias, Domains};
use crate::cause::{Cause, Reason, Side};
use crate::conference::call::CallView;
use crate::conference::cardboard::{Far, NoCodecs, leg, streams};
use crate::conference::dialling::Keys;
use crate::conference::policy::{Full, Keeps, Role};
use crate::conference::service::Service;
use crate::guard::Porter;
use crate::leg::{LegCommand, LegEvent, LegId};
use crate::media::{Engine, EngineConfig};

struct Call {
    rooms: Rooms,
    service: Arc<Service>,
    caller: Far,
    called: Far,
    _engine: Engine,
    _stop: watch::Sender<Option<Reason>>,
}

/// Leg 1 calls, and leg 2 is to ring for it.
async fn call() -> Call {
    let (engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(NoCodecs));
    let (stop, stopped) = watch::channel(None);
    let rooms = Rooms::new(
        RoomsParts {
            engines: vec![handle],
            fonts: None,
            voice: Default::default(),
            porter: Porter::of_a_test(false, &Default::default()),
        },
        stopped,
    );
    let service = Arc::new(Service::call(Alias::parse("call-1", &Domains::default()).unwrap()));
    let ((leg1, caller), (leg2, called)) = (leg(1), leg(2));
    drop(rooms.enter(&service, leg1, None, watch::channel(CallView::default()).0));
    let who = Invited {
        referred: None,
        role: Role::Host,
        keeps: Keeps::Always,
        keys: Keys::default(),
        name: "bob".into(),
        streams: false,
        rings: Duration::from_secs(60),
    };
    let (view, done, reply) =
        (watch::channel(CallView::default()).0, oneshot::channel().0, oneshot::channel().0);
    assert!(rooms.tell(&service.name, Command::Invite { leg: leg2, who, view, done, reply }));
    Call { rooms, service, caller, called, _engine: engine, _stop: stop }
}

impl Call {
    fn take(&self, leg: u64) -> oneshot::Receiver<Result<Joined, Full>> {
        let (reply, told) = oneshot::channel();
        let take = Command::Take { leg: LegId(leg), name: "Bob".into(), source: None, reply };
        assert!(self.rooms.tell(&self.service.name, take));
        told
    }

    async fn rings(&mut self) {
        self.called.tells(LegEvent::Ringing).await;
        assert!(matches!(self.caller.told().await, LegCommand::Ring), "not answered before the other is");
    }
}

#[tokio::test(start_paused = true)]
async fn a_telephone_that_is_called_is_answered_when_the_other_is_and_keys_cross() {
    let mut call = call().await;
    call.rings().await;
    call.called.tells(LegEvent::Answered(streams(20, Direction::SendRecv).0)).await;
    assert!(matches!(call.caller.told().await, LegCommand::Answer(_)));
    call.caller.tells(LegEvent::Answered(streams(10, Direction::SendRecv).0)).await;
    // No command of a conference, but the other's menu.
    for key in ['#', '#'] {
        call.caller.tells(LegEvent::Dtmf(key)).await;
        assert!(matches!(call.called.told().await, LegCommand::SendDtmf('#')));
    }
    call.called.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(call.caller.told_to_hang_up().await, Cause { reason: Reason::Hangup, side: Side::Peer });
    call.caller.ends(Cause::local(Reason::Hangup)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(call.rooms.views().is_empty(), "gone with the call");
}

#[tokio::test(start_paused = true)]
async fn a_client_is_in_whichever_of_its_two_words_comes_first() {
    for leg_first in [true, false] {
        let mut call = call().await;
        call.rings().await;
        let told = if leg_first {
            call.called.tells(LegEvent::Taken(LegId(2))).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            call.take(2)
        } else {
            let told = call.take(2);
            tokio::time::sleep(Duration::from_millis(1)).await;
            call.called.tells(LegEvent::Taken(LegId(2))).await;
            told
        };
        told.await.unwrap().unwrap();
        assert!(matches!(call.caller.told().await, LegCommand::Answer(_)));
        // The leg is let go of, and what it says of that is of no matter.
        assert!(call.called.commands.recv().await.is_none());
        call.called.ends(Cause::local(Reason::Hangup)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(call.caller.commands.try_recv().is_err());
        assert!(call.take(2).await.is_err(), "nobody is in twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_whoever_goes_and_with_nobody_who_answers() {
    // The caller gives up.
    let mut one = call().await;
    one.rings().await;
    one.caller.ends(Cause::remote(Reason::Cancelled)).await;
    assert_eq!(one.called.told_to_hang_up().await.reason, Reason::Cancelled);
    one.called.ends(Cause::local(Reason::Cancelled)).await;
    // Too late for a client.
    assert!(!one.rooms.tell("call-1", Command::Leave(super::PartyId(1))) || one.take(2).await.is_err());
    // The called party does not want to.
    let mut two = call().await;
    two.rings().await;
    two.called.ends(Cause::remote(Reason::Busy)).await;
    assert_eq!(two.caller.told_to_hang_up().await, Cause { reason: Reason::Busy, side: Side::Peer });
    // Nobody answers.
    let mut three = call().await;
    three.rings().await;
    assert_eq!(three.called.told_to_hang_up_within(Duration::from_secs(61)).await.reason, Reason::NoAnswer);
    three.called.ends(Cause::local(Reason::Cancelled)).await;
    assert_eq!(three.caller.told_to_hang_up().await.reason, Reason::NoAnswer);
}

#[tokio::test(start_paused = true)]
async fn s52_a_caller_does_not_wait_for_a_client_that_takes_the_call_and_does_not_come() {
    let mut call = call().await;
    call.rings().await;
    call.called.tells(LegEvent::Taken(LegId(2))).await;
    let cause = call.called.told_to_hang_up_within(Duration::from_secs(6)).await;
    assert_eq!(cause.reason, Reason::NoAnswer);
    call.called.ends(cause).await;
    assert_eq!(call.caller.told_to_hang_up().await, Cause { reason: Reason::NoAnswer, side: Side::Peer });
}
