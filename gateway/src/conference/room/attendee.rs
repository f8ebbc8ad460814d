//! One party of a room: its leg, where it is, and what it is told.

use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{Direction, MediaKind};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use super::keypad::Keypad;
use super::reception::Reception;
use crate::cause::{Cause, Reason};
use crate::conference::call::{CallView, LegView, Outcome, StreamView};
use crate::conference::policy::PartyId;
use crate::conference::prompts::Prompt;
use crate::leg::{LegCommand, LegId, LegStream, Party};
use crate::media::port::StreamId;

/// Somebody who has called.
pub(super) struct Attendee {
    pub(super) id: PartyId,
    pub(super) leg: LegId,
    pub(super) who: Party,
    commands: mpsc::Sender<LegCommand>,
    pub(super) streams: Vec<LegStream>,
    pub(super) stage: Stage,
    pub(super) keypad: Keypad,
    /// What he hears in place of the mix, until then.
    pub(super) saying: Option<(Prompt, Instant)>,
    /// Another one each time, so that the same prompt is heard again.
    pub(super) turn: u32,
    /// When his call is ended by us, and why.
    pub(super) leaving: Option<(Instant, Cause)>,
    hung_up: bool,
    /// For who watches the leg's call.
    view: watch::Sender<CallView>,
    done: Option<oneshot::Sender<Outcome>>,
}

/// Where somebody is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Our answer is on its way.
    Arriving,
    /// He is asked for a PIN.
    AtTheDoor(Reception),
    /// He waits for a host, or to be let in.
    Waiting,
    /// He is in.
    In,
    /// He is on his way out.
    Leaving,
}

impl Attendee {
    pub(super) fn new(
        leg: LegId,
        who: Party,
        commands: mpsc::Sender<LegCommand>,
        view: watch::Sender<CallView>,
        done: oneshot::Sender<Outcome>,
    ) -> Self {
        Self {
            id: PartyId(leg.0),
            leg,
            who,
            commands,
            streams: Vec::new(),
            stage: Stage::Arriving,
            keypad: Keypad::default(),
            saying: None,
            turn: 0,
            leaving: None,
            hung_up: false,
            view,
            done: Some(done),
        }
    }

    /// Never waited for: a leg that waits for us with a full queue of its own would wait for ever.
    pub(super) fn tell(&mut self, command: LegCommand) {
        if self.hung_up {
            return;
        }
        if let Err(TrySendError::Full(command)) = self.commands.try_send(command) {
            match command {
                LegCommand::SendDtmf(_) | LegCommand::RequestKeyframe(_) => {}
                _ => self.hang_up(Cause::local(Reason::Congestion)),
            }
        }
    }

    pub(super) fn hang_up(&mut self, cause: Cause) {
        if !std::mem::replace(&mut self.hung_up, true)
            && let Err(TrySendError::Full(command)) = self.commands.try_send(LegCommand::Hangup(cause))
        {
            // A leg that is gone tells so by its own last event.
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.send(command).await });
        }
    }

    /// He hears `prompt`, then his call is ended.
    pub(super) fn say_goodbye(&mut self, now: Instant, prompt: Option<Prompt>, cause: Cause) {
        if self.leaving.is_some() {
            return;
        }
        self.stage = Stage::Leaving;
        let heard = prompt.filter(|_| !self.hung_up && self.sink(MediaKind::Audio).is_some());
        if let Some(prompt) = heard {
            self.say(now, prompt);
        }
        let length = heard.map_or(Duration::ZERO, |prompt| prompt.length() + super::AFTER_GOODBYE);
        self.leaving = Some((now + length, cause));
    }

    /// He hears `prompt` from now on.
    pub(super) fn say(&mut self, now: Instant, prompt: Prompt) {
        self.turn = self.turn.wrapping_add(1);
        self.saying = Some((prompt, now + prompt.length()));
    }

    /// The first stream of `kind` that he sends.
    pub(super) fn source(&self, kind: MediaKind) -> Option<StreamId> {
        let sends = |it: &&LegStream| it.agreed.role == kind && it.agreed.direction.receives();
        self.streams.iter().find(sends).map(|it| it.port.id())
    }

    /// The first stream of `kind` that he is sent.
    pub(super) fn sink(&self, kind: MediaKind) -> Option<StreamId> {
        let receives = |it: &&LegStream| it.agreed.role == kind && it.agreed.direction.sends();
        self.streams.iter().find(receives).map(|it| it.port.id())
    }

    /// Whether silence of his stream means that he is gone: he should speak.
    pub(super) fn should_speak(&self) -> bool {
        let speaks =
            |it: &LegStream| it.agreed.role == MediaKind::Audio && it.agreed.direction == Direction::SendRecv;
        !matches!(self.stage, Stage::Arriving) && self.streams.iter().any(speaks)
    }

    /// What he is called on screens.
    pub(super) fn name(&self) -> &str {
        if self.who.name.is_empty() { &self.who.address } else { &self.who.name }
    }

    /// What feeds his streams, in a word, and why.
    fn route(&self, kind: MediaKind) -> (&'static str, &'static str) {
        match (&self.stage, kind) {
            (Stage::Arriving, _) => ("silence", "he has not been answered"),
            (_, MediaKind::Content) => ("silence", "slides are not sent yet"),
            (Stage::In, MediaKind::Audio) if self.saying.is_none() => ("mix", "everybody but himself"),
            (_, MediaKind::Audio) => ("play", "a prompt"),
            (Stage::In, MediaKind::Main) => ("compose", "the conference's picture"),
            (_, MediaKind::Main) => ("compose", "a slate"),
        }
    }

    pub(super) fn leg_view(&self) -> LegView {
        let streams = self.streams.iter().map(|stream| {
            let (route, why) = self.route(stream.agreed.role);
            StreamView { stream: stream.clone(), route, why: why.to_owned() }
        });
        LegView {
            id: self.leg,
            party: self.who.clone(),
            answered: !matches!(self.stage, Stage::Arriving),
            streams: streams.collect(),
        }
    }

    /// Tells who watches.
    pub(super) fn show(&self) {
        let leg = self.leg_view();
        self.view.send_replace(CallView { answered: leg.answered, legs: vec![leg] });
    }

    /// His call is over.
    pub(super) fn end(&mut self, cause: Cause) {
        let leg = self.leg_view();
        let answered_by = leg.answered.then_some(self.leg);
        let routes = leg.streams.iter().map(|it| (self.leg, it.stream.agreed.role, it.route)).collect();
        if let Some(done) = self.done.take() {
            // Whoever waited for it may have been stopped.
            let _ = done.send(Outcome { cause, answered_by, legs: vec![leg], routes });
        }
    }
}

impl std::fmt::Debug for Attendee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attendee").field("id", &self.id).field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// One name for what several threads count with.
pub(super) type Numbers = Arc<std::sync::atomic::AtomicU64>;
