//! What is recorded of a call, with legs of cardboard in paused time.

use super::*;
use crate::conference::cardboard::{NoCodecs, leg, offer, streams};
use crate::config::Ringback;
use crate::media::{Engine, EngineConfig};
use crosspoint_codecs::format::{Capabilities, Direction};
use tokio::sync::mpsc;

/// A directory that sends every call to bob, and bob's leg.
struct Bob(Mutex<Option<Leg>>);

impl Directory for Bob {
    fn resolve<'a>(&'a self, _: &'a Party) -> Resolving<'a> {
        let uri = "sip:bob@192.0.2.7".to_owned();
        let target = Address { uri, flow: None, device: None, translated: false, proxy: None };
        let dial = Resolution::Dial { targets: vec![target], rule: None, why: String::new() };
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
    let (records, mut recorded) = mpsc::unbounded_channel();
    let events = Events::default();
    let exchange = Exchange::new(ExchangeParts {
        directory: bob.clone(),
        protocols: vec![bob],
        engines: vec![Engine::new(&EngineConfig::default(), Arc::new(NoCodecs)).1],
        rules: CallRules { ring_timeout: Duration::from_secs(60), ringback: Ringback::Phone },
        calls: 1,
        recorder: Arc::new(move |record, cause, _| records.send((record, cause)).unwrap()),
        fonts: None,
        events: events.clone(),
    });
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
    assert!(matches!(&told[0].what, What::CallEnded { reason, .. } if reason == "cancelled"), "{told:?}");
}
