//! The call actor with legs of cardboard: what it tells each of them, in paused time.

mod silence;

use std::sync::Arc;

use crosspoint_codecs::format::{AudioFormat, Codec, Direction, MediaFormat};
use tokio::task::JoinHandle;

use super::*;
use crate::cause::Side;
use crate::conference::cardboard::{Far, NoCodecs, leg, offer, pcma, streams, streams_of};
use crate::media::port::Feed;
use crate::media::{Engine, EngineConfig};

struct Scene {
    caller: Far,
    callees: Vec<Far>,
    stop: watch::Sender<Option<Reason>>,
    view: watch::Receiver<CallView>,
    outcome: JoinHandle<Outcome>,
}

fn scene(callees: u64) -> Scene {
    scene_of(callees, Some(offer()))
}

fn scene_of(callees: u64, offered: Option<Capabilities>) -> Scene {
    let (caller, far_caller) = leg(1);
    let (legs, fars) = (2..2 + callees).map(leg).unzip();
    let (_, engine) = Engine::new(&EngineConfig::default(), Arc::new(NoCodecs));
    let (stop, stopped) = watch::channel(None);
    let rules = CallRules { ring_timeout: Duration::from_secs(60), ringback: Ringback::Phone };
    let (view, views) = watch::channel(CallView::default());
    let call = Call::new(rules, caller, offered, legs, Graph::new(engine), view);
    Scene { caller: far_caller, callees: fars, stop, view: views, outcome: tokio::spawn(call.run(stopped)) }
}

/// Brings a call of two up; both hear each other by relay.
async fn answered(scene: &mut Scene) {
    scene.callees[0].tells(LegEvent::Ringing).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Ring));
    let (callee, callee_feeds) = streams(20, Direction::SendRecv);
    scene.callees[0].tells(LegEvent::Answered(callee)).await;
    let LegCommand::Answer(wanted) = scene.caller.told().await else { panic!("no answer") };
    assert_eq!(wanted.media[0].formats[0], pcma());
    let (caller, caller_feeds) = streams(10, Direction::SendRecv);
    scene.caller.tells(LegEvent::Answered(caller)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(caller_feeds.lock().unwrap().last(), Some(&Feed::Relay(StreamId(20))));
    assert_eq!(callee_feeds.lock().unwrap().last(), Some(&Feed::Relay(StreamId(10))));
}

#[tokio::test(start_paused = true)]
async fn the_callee_hangs_up_and_the_cause_crosses() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    scene.callees[0].ends(Cause::remote(Reason::Hangup)).await;
    let cause = scene.caller.told_to_hang_up().await;
    assert_eq!(cause, Cause { reason: Reason::Hangup, side: Side::Peer });
    scene.caller.ends(cause).await;
    let outcome = scene.outcome.await.unwrap();
    assert_eq!((outcome.cause, outcome.answered_by), (cause, Some(LegId(2))));
    assert_eq!(outcome.routes.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_devices_wins_and_the_other_is_told_why() {
    let mut scene = scene(2);
    for callee in &scene.callees {
        callee.tells(LegEvent::Ringing).await;
    }
    assert!(matches!(scene.caller.told().await, LegCommand::Ring));
    scene.callees[1].tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Answer(_)));
    assert_eq!(scene.callees[0].told_to_hang_up().await.reason, Reason::AnsweredElsewhere);
    // It had picked up at the same moment: no second answer, and its end ends nothing.
    scene.callees[0].tells(LegEvent::Answered(streams(20, Direction::SendRecv).0)).await;
    scene.callees[0].ends(Cause::local(Reason::AnsweredElsewhere)).await;
    scene.caller.ends(Cause::remote(Reason::Hangup)).await;
    assert_eq!(scene.callees[1].told_to_hang_up().await.side, Side::Peer);
    scene.callees[1].ends(Cause::local(Reason::Hangup)).await;
    assert_eq!(scene.outcome.await.unwrap().answered_by, Some(LegId(3)));
    assert!(scene.caller.commands.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_stops_every_phone() {
    let mut scene = scene(2);
    scene.caller.ends(Cause::remote(Reason::Cancelled)).await;
    for callee in &mut scene.callees {
        assert_eq!(callee.told_to_hang_up().await, Cause { reason: Reason::Cancelled, side: Side::Peer });
        callee.ends(Cause::local(Reason::Cancelled)).await;
    }
    assert_eq!(scene.outcome.await.unwrap().cause, Cause::remote(Reason::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_crosses_the_callers_cancel_is_no_answer() {
    let mut scene = scene(1);
    scene.callees[0].tells(LegEvent::Ringing).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Ring));
    scene.caller.ends(Cause::remote(Reason::Cancelled)).await;
    let cause = scene.callees[0].told_to_hang_up().await;
    assert_eq!(cause, Cause { reason: Reason::Cancelled, side: Side::Peer });
    scene.callees[0].tells(LegEvent::Answered(streams(20, Direction::SendRecv).0)).await;
    scene.callees[0].ends(cause).await;
    let outcome = scene.outcome.await.unwrap();
    assert_eq!((outcome.cause, outcome.answered_by), (Cause::remote(Reason::Cancelled), None));
    assert!(!scene.view.borrow().answered);
}

#[tokio::test(start_paused = true)]
async fn of_several_refusals_the_most_telling_crosses() {
    let mut scene = scene(3);
    for (callee, reason) in scene.callees.iter().zip([Reason::Unreachable, Reason::Busy, Reason::NoAnswer]) {
        callee.ends(Cause::remote(reason)).await;
    }
    assert_eq!(scene.caller.told_to_hang_up().await.reason, Reason::Busy);
}

#[tokio::test(start_paused = true)]
async fn nobody_answers_in_time() {
    let mut scene = scene(1);
    scene.callees[0].tells(LegEvent::Ringing).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Ring));
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(scene.caller.told_to_hang_up().await, Cause::local(Reason::NoAnswer));
    assert_eq!(scene.callees[0].told_to_hang_up().await.reason, Reason::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn early_media_is_relayed_before_the_answer() {
    let mut scene = scene(1);
    scene.callees[0].tells(LegEvent::Progress(streams(20, Direction::SendRecv).0)).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Progress(_)));
    let (caller, feeds) = streams(10, Direction::SendRecv);
    scene.caller.tells(LegEvent::Progress(caller)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(feeds.lock().unwrap().last(), Some(&Feed::Relay(StreamId(20))));
}

/// Offers in UPDATE and PRACK before the answer (RFC 3311 section 5.1): each is answered by itself.
#[tokio::test(start_paused = true)]
async fn offers_before_the_answer_are_answered_here_and_what_is_heard_follows() {
    let mut scene = scene_of(1, Some(opus_and_pcma()));
    scene.callees[0].tells(LegEvent::Progress(streams_of(20, Direction::SendRecv, Codec::Pcma).0)).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Progress(_)));
    scene.caller.tells(LegEvent::Progress(streams_of(10, Direction::SendRecv, Codec::Pcma).0)).await;
    // The called side goes over to another codec before anybody has picked up.
    scene.callees[0].tells(LegEvent::Reoffered { offer: Some(opus_and_pcma()) }).await;
    let LegCommand::AcceptReoffer(wanted) = scene.callees[0].told().await else { panic!("not taken") };
    let codecs: Vec<_> = wanted.media[0].formats.iter().map(MediaFormat::codec).collect();
    assert_eq!(codecs[..2], [Codec::Opus, Codec::Pcma], "what the caller takes comes first");
    scene.callees[0].tells(LegEvent::Changed(streams_of(20, Direction::SendRecv, Codec::Opus).0)).await;
    // Who comes first of two at a time is anybody's guess.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_ne!(words(&scene), ["relay"; 2], "the two have different codecs for a moment");
    // And so does the caller, who is answered with what comes from there now.
    scene.caller.tells(LegEvent::Reoffered { offer: Some(opus_and_pcma()) }).await;
    let LegCommand::AcceptReoffer(wanted) = scene.caller.told().await else { panic!("not taken") };
    assert_eq!(wanted.media[0].formats[0].codec(), Codec::Opus);
    scene.caller.tells(LegEvent::Changed(streams_of(10, Direction::SendRecv, Codec::Opus).0)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(words(&scene), ["relay"; 2]);
    // The call is answered with what stands then.
    scene.callees[0].tells(LegEvent::Answered(streams_of(20, Direction::SendRecv, Codec::Opus).0)).await;
    let LegCommand::Answer(wanted) = scene.caller.told().await else { panic!("no answer") };
    assert_eq!(wanted.media[0].formats[0].codec(), Codec::Opus);
    // An offer without a body before the answer is none that we know.
    let mut early = self::scene(1);
    early.callees[0].tells(LegEvent::Ringing).await;
    early.callees[0].tells(LegEvent::Reoffered { offer: None }).await;
    assert!(matches!(early.callees[0].told().await, LegCommand::RefuseReoffer));
}

#[tokio::test(start_paused = true)]
async fn hold_crosses_and_who_held_is_answered_when_the_other_has_agreed() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    let mut held = offer();
    held.media[0].direction = Direction::SendOnly;
    scene.caller.tells(LegEvent::Reoffered { offer: Some(held) }).await;
    let LegCommand::Reoffer(onwards) = scene.callees[0].told().await else { panic!("hold did not cross") };
    assert_eq!(onwards.media[0].direction, Direction::SendOnly);
    scene.callees[0].tells(LegEvent::Changed(streams(20, Direction::SendOnly).0)).await;
    let LegCommand::AcceptReoffer(standing) = scene.caller.told().await else { panic!("hold not accepted") };
    assert_eq!(standing.media[0].direction, Direction::RecvOnly);
    let (caller, feeds) = streams(10, Direction::RecvOnly);
    scene.caller.tells(LegEvent::Changed(caller)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(feeds.lock().unwrap().iter().all(|feed| *feed == Feed::Silence), "a held caller hears nothing");
}

/// The caller holds, as far as the callee's leg has been told.
async fn hold_is_on_its_way(scene: &mut Scene) {
    let mut held = offer();
    held.media[0].direction = Direction::SendOnly;
    scene.caller.tells(LegEvent::Reoffered { offer: Some(held) }).await;
    let LegCommand::Reoffer(onwards) = scene.callees[0].told().await else { panic!("hold did not cross") };
    assert_eq!(onwards.media[0].direction, Direction::SendOnly);
}

async fn is_undone(scene: &mut Scene) {
    let LegCommand::Reoffer(onwards) = scene.callees[0].told().await else { panic!("hold stays") };
    assert_eq!(onwards.media[0].direction, Direction::SendRecv);
    scene.callees[0].tells(LegEvent::Changed(streams(20, Direction::SendRecv).0)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let routes: Vec<_> = scene.view.borrow().legs.iter().map(|leg| leg.streams[0].route).collect();
    assert_eq!(routes, ["relay", "relay"]);
    assert!(scene.caller.commands.try_recv().is_err(), "nobody is answered who asked nothing");
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_taken_back_before_the_other_side_agrees_is_undone_there() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    hold_is_on_its_way(&mut scene).await;
    scene.caller.tells(LegEvent::ReofferWithdrawn).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    scene.callees[0].tells(LegEvent::Changed(streams(20, Direction::SendOnly).0)).await;
    is_undone(&mut scene).await;
    // The next one crosses as the first did.
    hold_is_on_its_way(&mut scene).await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_is_taken_back_as_the_answer_goes_out_is_undone() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    hold_is_on_its_way(&mut scene).await;
    scene.callees[0].tells(LegEvent::Changed(streams(20, Direction::SendOnly).0)).await;
    assert!(matches!(scene.caller.told().await, LegCommand::AcceptReoffer(_)));
    scene.caller.tells(LegEvent::ReofferWithdrawn).await;
    is_undone(&mut scene).await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_the_other_side_refused_leaves_nothing_to_undo() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    hold_is_on_its_way(&mut scene).await;
    scene.caller.tells(LegEvent::ReofferWithdrawn).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    scene.callees[0].tells(LegEvent::ReofferRefused).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(scene.callees[0].commands.try_recv().is_err());
    assert!(scene.caller.commands.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_comes_while_another_is_undone_waits_and_crosses() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    hold_is_on_its_way(&mut scene).await;
    scene.caller.tells(LegEvent::ReofferWithdrawn).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    scene.callees[0].tells(LegEvent::Changed(streams(20, Direction::SendOnly).0)).await;
    assert!(matches!(scene.callees[0].told().await, LegCommand::Reoffer(_)));
    let mut held = offer();
    held.media[0].direction = Direction::SendOnly;
    scene.caller.tells(LegEvent::Reoffered { offer: Some(held) }).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(scene.callees[0].commands.try_recv().is_err(), "one offer at a time");
    scene.callees[0].tells(LegEvent::Changed(streams(20, Direction::SendRecv).0)).await;
    let LegCommand::Reoffer(onwards) = scene.callees[0].told().await else { panic!("hold did not cross") };
    assert_eq!(onwards.media[0].direction, Direction::SendOnly);
}

#[tokio::test(start_paused = true)]
async fn a_codec_change_is_answered_here_and_does_not_cross() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    scene.caller.tells(LegEvent::Reoffered { offer: Some(offer()) }).await;
    assert!(matches!(scene.caller.told().await, LegCommand::AcceptReoffer(_)));
    assert!(scene.callees[0].commands.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn keys_cross_and_the_end_of_the_gateway_ends_both() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    scene.callees[0].tells(LegEvent::Dtmf('5')).await;
    assert!(matches!(scene.caller.told().await, LegCommand::SendDtmf('5')));
    scene.stop.send(Some(Reason::Shutdown)).unwrap();
    assert_eq!(scene.caller.told_to_hang_up().await.reason, Reason::Shutdown);
    assert_eq!(scene.callees[0].told_to_hang_up().await.reason, Reason::Shutdown);
    // Legs that never say goodbye do not keep the call for ever.
    tokio::time::advance(GOODBYE).await;
    assert!(scene.outcome.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_does_not_drain_is_hung_up_and_nobody_waits_for_it() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    // Keys are dropped when there is no room; what must not be lost is not.
    for _ in 0..crate::leg::COMMANDS + 4 {
        scene.caller.tells(LegEvent::Dtmf('5')).await;
    }
    let mut held = offer();
    held.media[0].direction = Direction::SendOnly;
    scene.caller.tells(LegEvent::Reoffered { offer: Some(held) }).await;
    // The other leg is served: a key of the one that does not drain still crosses.
    scene.callees[0].tells(LegEvent::Dtmf('7')).await;
    assert!(matches!(scene.caller.told().await, LegCommand::SendDtmf('7')));
    // So is every other call.
    let mut next = self::scene(1);
    answered(&mut next).await;
    // Once it drains it finds its end behind what it was told.
    for _ in 0..crate::leg::COMMANDS {
        assert!(matches!(scene.callees[0].told().await, LegCommand::SendDtmf('5')));
    }
    let cause = scene.callees[0].told_to_hang_up().await;
    assert_eq!(cause, Cause::local(Reason::Congestion));
    scene.callees[0].ends(cause).await;
    let told = scene.caller.told_to_hang_up().await;
    assert_eq!(told, Cause { reason: Reason::Congestion, side: Side::Peer });
    scene.caller.ends(told).await;
    assert_eq!(scene.outcome.await.unwrap().cause, told);
}

/// A call whose legs stand with different codecs, the caller's offer being `offered`.
async fn transcoded(offered: Option<Capabilities>, caller: Codec, callee: Codec) -> Scene {
    let mut scene = scene_of(1, offered);
    scene.callees[0].tells(LegEvent::Answered(streams_of(20, Direction::SendRecv, callee).0)).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Answer(_)));
    scene.caller.tells(LegEvent::Answered(streams_of(10, Direction::SendRecv, caller).0)).await;
    scene
}

fn offered_formats(command: &LegCommand) -> Vec<Codec> {
    let LegCommand::Reoffer(wanted) = command else { panic!("no re-offer: {command:?}") };
    assert_eq!(wanted.media[0].direction, Direction::SendRecv);
    wanted.media[0].formats.iter().map(MediaFormat::codec).collect()
}

fn words(scene: &Scene) -> Vec<&'static str> {
    scene.view.borrow().legs.iter().map(|leg| leg.streams[0].route).collect()
}

/// What the caller can receive: the first is the one that an early answer fixed.
fn opus_and_pcma() -> Capabilities {
    let mut offered = offer();
    offered.media[0].formats.insert(0, MediaFormat::Audio(AudioFormat::new(Codec::Opus)));
    offered
}

#[tokio::test(start_paused = true)]
async fn an_early_codec_gives_way_to_the_one_that_both_can_do() {
    let mut scene = transcoded(Some(opus_and_pcma()), Codec::Opus, Codec::Pcma).await;
    assert_eq!(offered_formats(&scene.caller.told().await), [Codec::Pcma]);
    scene.caller.tells(LegEvent::Changed(streams(10, Direction::SendRecv).0)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(words(&scene), ["relay", "relay"]);
    assert!(scene.callees[0].commands.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_caller_without_an_offer_lets_the_called_party_change() {
    let mut scene = transcoded(None, Codec::Pcma, Codec::Opus).await;
    assert_eq!(offered_formats(&scene.callees[0].told().await), [Codec::Pcma]);
    scene.callees[0].tells(LegEvent::Changed(streams(20, Direction::SendRecv).0)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(words(&scene), ["relay", "relay"]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_want_to_change_is_asked_once() {
    let mut scene = transcoded(Some(opus_and_pcma()), Codec::Opus, Codec::Pcma).await;
    assert_eq!(offered_formats(&scene.caller.told().await), [Codec::Pcma]);
    scene.caller.tells(LegEvent::ReofferRefused).await;
    // Neither at once nor after whatever else is agreed.
    let mut repeated = opus_and_pcma();
    repeated.media[0].formats.truncate(1);
    scene.caller.tells(LegEvent::Reoffered { offer: Some(repeated) }).await;
    assert!(matches!(scene.caller.told().await, LegCommand::AcceptReoffer(_)));
    scene.caller.tells(LegEvent::Changed(streams_of(10, Direction::SendRecv, Codec::Opus).0)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(scene.caller.commands.try_recv().is_err());
    assert!(scene.callees[0].commands.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_to_change_while_a_reinvite_is_in_progress() {
    let mut scene = scene_of(1, Some(opus_and_pcma()));
    let callee = streams(20, Direction::SendRecv).0;
    scene.callees[0].tells(LegEvent::Answered(callee.clone())).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Answer(_)));
    // The called party offers anew before the caller's answer stands.
    scene.callees[0].tells(LegEvent::Reoffered { offer: Some(offer()) }).await;
    assert!(matches!(scene.callees[0].told().await, LegCommand::AcceptReoffer(_) | LegCommand::Reoffer(_)));
    scene.caller.tells(LegEvent::Answered(streams_of(10, Direction::SendRecv, Codec::Opus).0)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(scene.caller.commands.try_recv().is_err(), "one exchange at a time");
    scene.callees[0].tells(LegEvent::Changed(callee)).await;
    assert_eq!(offered_formats(&scene.caller.told().await), [Codec::Pcma]);
}

#[tokio::test(start_paused = true)]
async fn legs_that_have_nothing_in_common_are_left_alone() {
    let mut scene = transcoded(Some(offer()), Codec::Pcma, Codec::Opus).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(scene.caller.commands.try_recv().is_err());
    assert!(scene.callees[0].commands.try_recv().is_err(), "it passed over the caller's codec");
}
