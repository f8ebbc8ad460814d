//! Several legs that ring for one party, as one: the first to answer is it, the others are told that
//! somebody else was quicker. Nobody sees from outside that there were several.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::call::more_telling;
use crate::cause::{Cause, Reason};
use crate::ladder::Ladder;
use crate::leg::{COMMANDS, EVENTS, Leg, LegCommand, LegEvent, LegId};

/// How long a leg that was too late may take to say goodbye: SIP's timer F (RFC 3261 section
/// 17.1.2.2) is 32 s, after which it gives up by itself.
const GOODBYE: Duration = Duration::from_secs(35);

/// All of `legs` as one leg, which bears the number and the name of the first; `None` of none.
pub(super) fn hunt(mut legs: Vec<Leg>) -> Option<Leg> {
    if legs.len() < 2 {
        return legs.pop();
    }
    let (commands, orders) = mpsc::channel(COMMANDS);
    let (told, events) = mpsc::channel(EVENTS);
    let first = legs.first()?;
    let (id, party, thread, codecs) = (first.id, first.party.clone(), first.thread, first.codecs.clone());
    tokio::spawn(run(id, legs, orders, told));
    // Each has its own.
    let ladder = Ladder::default();
    Some(Leg { id, answers_as: None, party, thread, codecs, ladder, commands, events })
}

async fn run(
    id: LegId,
    mut legs: Vec<Leg>,
    mut orders: mpsc::Receiver<LegCommand>,
    told: mpsc::Sender<LegEvent>,
) {
    let mut rings = false;
    let mut worst: Option<Cause> = None;
    let winner = loop {
        tokio::select! {
            order = orders.recv() => match order {
                // Nothing else can be done to who has not answered.
                Some(LegCommand::Hangup(cause)) => {
                    legs.iter().for_each(|leg| hang_up(leg, cause));
                    worst = Some(worst.map_or(cause, |worst| more_telling(worst, cause)));
                }
                Some(_) => {}
                // Dropped legs hang up.
                None => return,
            },
            (at, event) = next_event(&mut legs) => match event {
                LegEvent::Ringing if !rings => {
                    rings = true;
                    let _ = told.send(LegEvent::Ringing).await;
                }
                answer @ (LegEvent::Answered(_) | LegEvent::Taken(_)) => {
                    let winner = legs.swap_remove(at);
                    if winner.id != id {
                        let _ = told.send(LegEvent::AnswersAs(winner.id)).await;
                    }
                    let _ = told.send(answer).await;
                    break winner;
                }
                // It stands for several itself, as one that was sent elsewhere does.
                LegEvent::AnswersAs(leg) => {
                    if let Some(it) = legs.get_mut(at) {
                        it.id = leg;
                    }
                }
                LegEvent::Ended(cause) => {
                    legs.swap_remove(at);
                    let cause = worst.map_or(cause, |worst| more_telling(worst, cause));
                    worst = Some(cause);
                    if legs.is_empty() {
                        let _ = told.send(LegEvent::Ended(cause)).await;
                        return;
                    }
                }
                _ => {}
            },
        }
    };
    for leg in legs {
        hang_up(&leg, Cause::local(Reason::AnsweredElsewhere));
        tokio::spawn(tokio::time::timeout(GOODBYE, drained(leg)));
    }
    pass(winner, orders, told).await;
}

/// Both ways, to the end.
async fn pass(mut leg: Leg, mut orders: mpsc::Receiver<LegCommand>, told: mpsc::Sender<LegEvent>) {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                // As with every leg: nobody waits for it, and what is lost is keys at most.
                Some(order) => if let Err(TrySendError::Full(order)) = leg.commands.try_send(order) {
                    match order {
                        LegCommand::SendDtmf(_) | LegCommand::RequestKeyframe(_) => {}
                        LegCommand::Hangup(cause) => hang_up(&leg, cause),
                        _ => hang_up(&leg, Cause::local(Reason::Congestion)),
                    }
                },
                None => return,
            },
            event = leg.events.recv() => {
                let Some(event) = event else { return };
                let last = matches!(event, LegEvent::Ended(_));
                if told.send(event).await.is_err() || last {
                    return;
                }
            }
        }
    }
}

/// The next event of any of them, and whose.
async fn next_event(legs: &mut [Leg]) -> (usize, LegEvent) {
    poll_fn(|context| {
        for (at, leg) in legs.iter_mut().enumerate() {
            match leg.events.poll_recv(context) {
                Poll::Ready(Some(event)) => return Poll::Ready((at, event)),
                // A leg that vanished without a word is a fault of ours.
                Poll::Ready(None) => {
                    return Poll::Ready((at, LegEvent::Ended(Cause::local(Reason::Internal))));
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}

fn hang_up(leg: &Leg, cause: Cause) {
    if let Err(TrySendError::Full(order)) = leg.commands.try_send(LegCommand::Hangup(cause)) {
        // A leg that is gone tells so by its own last event.
        let commands = leg.commands.clone();
        tokio::spawn(async move { commands.send(order).await });
    }
}

async fn drained(mut leg: Leg) {
    while let Some(event) = leg.events.recv().await {
        if matches!(event, LegEvent::Ended(_)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use crosspoint_codecs::format::Direction;

    use super::*;
    use crate::conference::cardboard::{Far, leg, streams};

    fn ringing(numbers: &[u64]) -> (Leg, Vec<Far>) {
        let (legs, fars): (Vec<_>, Vec<_>) = numbers.iter().map(|number| leg(*number)).unzip();
        (hunt(legs).unwrap(), fars)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_answer_is_the_party_and_the_others_are_told_so() {
        let (mut party, mut fars) = ringing(&[1, 2, 3]);
        assert_eq!(party.id, LegId(1));
        fars[1].tells(LegEvent::Ringing).await;
        fars[0].tells(LegEvent::Ringing).await;
        fars[0].ends(Cause::remote(Reason::Busy)).await;
        fars[2].tells(LegEvent::Answered(streams(30, Direction::SendRecv).0)).await;
        assert!(matches!(party.events.recv().await, Some(LegEvent::Ringing)));
        let next = party.events.recv().await;
        assert!(matches!(next, Some(LegEvent::AnswersAs(LegId(3)))), "it rings once: {next:?}");
        assert!(matches!(party.events.recv().await, Some(LegEvent::Answered(_))));
        assert_eq!(fars[1].told_to_hang_up().await, Cause::local(Reason::AnsweredElsewhere));
        // From now on it is like any other leg.
        party.commands.send(LegCommand::SendDtmf('5')).await.unwrap();
        assert!(matches!(fars[2].told().await, LegCommand::SendDtmf('5')));
        fars[2].tells(LegEvent::Dtmf('7')).await;
        assert!(matches!(party.events.recv().await, Some(LegEvent::Dtmf('7'))));
        fars[2].ends(Cause::remote(Reason::Hangup)).await;
        assert!(
            matches!(party.events.recv().await, Some(LegEvent::Ended(cause)) if cause.reason == Reason::Hangup)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_answers_the_reason_that_says_most_is_told() {
        let (mut party, fars) = ringing(&[1, 2]);
        fars[0].ends(Cause::remote(Reason::Busy)).await;
        fars[1].ends(Cause::local(Reason::Unreachable)).await;
        assert!(
            matches!(party.events.recv().await, Some(LegEvent::Ended(cause)) if cause.reason == Reason::Busy)
        );
        let (party, mut fars) = ringing(&[1, 2]);
        party.commands.send(LegCommand::Hangup(Cause::local(Reason::NoAnswer))).await.unwrap();
        for far in &mut fars {
            assert_eq!(far.told_to_hang_up().await.reason, Reason::NoAnswer);
        }
    }
}
