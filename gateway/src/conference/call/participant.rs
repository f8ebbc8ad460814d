//! One leg in a call: what is known of it, and what it is told.

use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::mpsc::error::TrySendError;

use crate::cause::{Cause, Reason, Side};
use crate::conference::plan::{Member, MemberStream};
use crate::leg::{Leg, LegCommand, LegEvent, LegId, LegStream};
use crate::media::port::{StreamId, Unfit};

/// A leg and what it has agreed.
#[derive(Debug)]
pub(in crate::conference) struct Participant {
    pub(super) leg: Leg,
    pub(super) streams: Vec<LegStream>,
    pub(super) answered: bool,
    pub(super) ringing: bool,
    pub(super) hung_up: bool,
    pub(super) ended: Option<Cause>,
    pub(super) exchange: Exchange,
}

/// Whether a re-offer is under way between us and a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// None.
    Idle,
    /// The leg has our offer and will say what came of it.
    Ours,
    /// The peer offers; the leg has our answer, or waits for it.
    Theirs,
}

impl Participant {
    pub(super) fn new(leg: Leg) -> Self {
        Self {
            leg,
            streams: Vec::new(),
            answered: false,
            ringing: false,
            hung_up: false,
            ended: None,
            exchange: Exchange::Idle,
        }
    }

    /// It goes elsewhere, with what it has agreed.
    pub(in crate::conference) fn into_leg(self) -> (Leg, Vec<LegStream>) {
        (self.leg, self.streams)
    }

    /// Whether it is told anything yet.
    pub(super) const fn is_there(&self) -> bool {
        self.ended.is_none() && !self.hung_up
    }

    pub(super) async fn tell(&mut self, command: LegCommand) {
        if self.ended.is_some() || self.hung_up {
            return;
        }
        // Never waited for: a leg that waits for us with a full queue of its own would wait for ever.
        if let Err(TrySendError::Full(command)) = self.leg.commands.try_send(command) {
            match command {
                LegCommand::SendDtmf(_) | LegCommand::RequestKeyframe(_) => {}
                _ => self.hang_up(Cause::local(Reason::Congestion)).await,
            }
        }
    }

    pub(super) async fn hang_up(&mut self, cause: Cause) {
        if self.ended.is_none() && !self.hung_up {
            self.hung_up = true;
            // A leg that is gone tells so by its own last event.
            if let Err(TrySendError::Full(command)) = self.leg.commands.try_send(LegCommand::Hangup(cause)) {
                let commands = self.leg.commands.clone();
                tokio::spawn(async move { commands.send(command).await });
            }
        }
    }

    pub(super) fn member(&self, unfit: &HashMap<StreamId, Unfit>) -> Member {
        let streams = self
            .streams
            .iter()
            .map(|stream| MemberStream {
                id: stream.port.id(),
                role: stream.agreed.role,
                thread: stream.port.thread(),
                send: stream.agreed.direction.sends().then(|| stream.agreed.send.clone()),
                receive: stream.agreed.direction.receives().then(|| stream.agreed.receive.clone()),
                unfit: unfit.get(&stream.port.id()).copied(),
            })
            .collect();
        Member { leg: self.leg.id, answered: self.answered, wants_ringback: false, streams }
    }
}

pub(super) async fn next_event(caller: &mut Participant, callees: &mut [Participant]) -> (LegId, LegEvent) {
    poll_fn(|cx| {
        for participant in std::iter::once(&mut *caller).chain(callees.iter_mut()) {
            if participant.ended.is_some() {
                continue;
            }
            match participant.leg.events.poll_recv(cx) {
                Poll::Ready(Some(event)) => return Poll::Ready((participant.leg.id, event)),
                // A leg that vanished without a word is a fault of ours.
                Poll::Ready(None) => {
                    let cause = Cause { reason: Reason::Internal, side: Side::Local };
                    return Poll::Ready((participant.leg.id, LegEvent::Ended(cause)));
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}
