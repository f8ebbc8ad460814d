//! Which silence ends a call, and which is nothing unusual.

use super::*;
use crate::conference::cardboard::camera;
use crate::media::port::StreamEvent;

/// A stream of that role was silent for too long.
const fn silence(role: MediaKind) -> LegEvent {
    LegEvent::Stream { role, event: StreamEvent::MediaTimeout }
}

impl Scene {
    /// Nobody is told anything, and the call goes on.
    async fn nothing_happens(&mut self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        for far in std::iter::once(&mut self.caller).chain(&mut self.callees) {
            let told = far.commands.try_recv();
            assert!(told.is_err(), "{told:?}");
        }
        assert!(!self.outcome.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn a_voice_that_falls_silent_ends_the_call_whichever_side_it_is() {
    for caller_is_silent in [true, false] {
        let mut scene = scene(1);
        answered(&mut scene).await;
        let silent = if caller_is_silent { &scene.caller } else { &scene.callees[0] };
        silent.tells(silence(MediaKind::Audio)).await;
        let gone = Cause::local(Reason::MediaTimeout);
        assert_eq!(scene.caller.told_to_hang_up().await, gone);
        assert_eq!(scene.callees[0].told_to_hang_up().await, gone);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_before_the_answer_ends_nothing() {
    let mut scene = scene(2);
    scene.callees[0].tells(LegEvent::Progress(streams(20, Direction::SendRecv).0)).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Progress(_)));
    scene.caller.tells(LegEvent::Progress(streams(10, Direction::SendRecv).0)).await;
    scene.caller.tells(silence(MediaKind::Audio)).await;
    scene.callees[0].tells(silence(MediaKind::Audio)).await;
    scene.nothing_happens().await;
    // The other device picks up; the one that lost has nothing to say any more.
    scene.callees[1].tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
    assert!(matches!(scene.caller.told().await, LegCommand::Answer(_)));
    assert_eq!(scene.callees[0].told_to_hang_up().await.reason, Reason::AnsweredElsewhere);
    scene.callees[0].tells(silence(MediaKind::Audio)).await;
    scene.nothing_happens().await;
}

#[tokio::test(start_paused = true)]
async fn silence_on_hold_ends_nothing_until_the_call_is_resumed() {
    for held in [Direction::SendOnly, Direction::RecvOnly, Direction::Inactive] {
        let mut scene = scene(1);
        answered(&mut scene).await;
        scene.callees[0].tells(LegEvent::Changed(streams(20, held).0)).await;
        scene.callees[0].tells(silence(MediaKind::Audio)).await;
        scene.nothing_happens().await;
        scene.callees[0].tells(LegEvent::Changed(streams(20, Direction::SendRecv).0)).await;
        scene.callees[0].tells(silence(MediaKind::Audio)).await;
        assert_eq!(scene.caller.told_to_hang_up().await.reason, Reason::MediaTimeout, "after {held:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_is_off_ends_nothing() {
    let mut scene = scene(1);
    answered(&mut scene).await;
    for (leg, number) in [(&scene.caller, 10), (&scene.callees[0], 20)] {
        let (mut streams, _) = streams(number, Direction::SendRecv);
        streams.push(camera(number + 1));
        leg.tells(LegEvent::Changed(streams)).await;
        leg.tells(silence(MediaKind::Main)).await;
    }
    scene.nothing_happens().await;
}
