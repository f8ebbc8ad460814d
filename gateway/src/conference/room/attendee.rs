//! One party of a room: its leg, where it is, and what it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::{Capabilities, Direction, MediaKind};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use super::At;
use super::keypad::Keypad;
use super::reception::Reception;
use super::refer::Wished;
use super::show::show_new;
use crate::cause::{Cause, Reason};
use crate::conference::call::{CallView, LegView, Outcome, StreamView};
use crate::conference::dialling::Keys;
use crate::conference::policy::{Exit, Keeps, PartyId, Role};
use crate::conference::prompts::{Prompt, Voice};
use crate::conference::service::Service;
use crate::leg::{LegCommand, LegId, LegStream, Party};
use crate::media::port::StreamId;
use crate::records::TransferRecord;
use crate::uuid::Uuid;

/// Somebody who has called.
pub(super) struct Attendee {
    pub(super) id: PartyId,
    pub(super) uuid: Uuid,
    pub(super) leg: LegId,
    /// Of several that rang as this leg, the number of the one that answered.
    pub(super) answers_as: Option<LegId>,
    pub(super) who: Party,
    pub(super) since: SystemTime,
    /// What he is called on screens, if otherwise than in the roster.
    pub(super) label: Option<String>,
    /// What he comes as once his phone is answered, if we have called him.
    pub(super) invited: Option<Invitation>,
    /// He hears himself, until the other side of his call has media.
    pub(super) tested: bool,
    /// The leg that a client has taken the call of: his own, or one that it stands for.
    pub(super) taken: Option<LegId>,
    /// `None`: he has no leg. He sees and does everything by the client API.
    commands: Option<mpsc::Sender<LegCommand>>,
    /// Stops the events of his leg, once.
    release: Option<oneshot::Sender<()>>,
    /// He is about to go to that conference, as that.
    pub(super) goes_to: Option<(Arc<Service>, Role)>,
    pub(super) streams: Vec<LegStream>,
    /// What his leg offered when it called.
    pub(super) offered: Option<Capabilities>,
    pub(super) stage: Stage,
    /// His leg has been answered, or was the one who called.
    pub(super) answered: bool,
    pub(super) keypad: Keypad,
    /// What is still to be sent to him, and when the next of it.
    keys: VecDeque<char>,
    key_at: Instant,
    /// He sees slides in the picture of all, if there are any and he may (`*4`).
    pub(super) slides_in_mix: bool,
    /// How long prompts take.
    voice: Voice,
    /// What he hears in place of the mix, until then.
    pub(super) saying: Option<(Prompt, Instant)>,
    /// Another one each time, so that the same prompt is heard again.
    pub(super) turn: u32,
    /// When his call is ended by us, and why.
    pub(super) leaving: Option<(Instant, Cause)>,
    pub(super) exit: Option<Exit>,
    pub(super) hung_up: Option<Cause>,
    /// How his leg has ended; he is there for a moment yet.
    pub(super) ended: Option<Cause>,
    /// How it goes with whom he has sent the conference on to, while it is not over.
    pub(super) wish: Option<Wished>,
    /// Whose seat he takes when he is in.
    pub(super) seat_of: Option<PartyId>,
    /// That seat is his own, at another telephone.
    pub(super) own_seat: bool,
    /// Transfers that he has asked for; [`TRANSFERS`](crate::conference::call::transfer::TRANSFERS) at most.
    pub(super) sent_on: Vec<TransferRecord>,
    /// For who watches the leg's call.
    view: Option<watch::Sender<CallView>>,
    done: Option<oneshot::Sender<Outcome>>,
}

/// What somebody whom we have called comes as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invitation {
    pub(super) role: Role,
    pub(super) keeps: Keeps,
    pub(super) streams: bool,
    /// It rings until then at most.
    pub(super) until: Instant,
}

/// Where somebody is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Our answer is on its way, or his phone rings.
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
    /// `since` is when he came.
    pub(super) fn new(leg: LegId, who: Party, since: SystemTime) -> Self {
        Self {
            id: PartyId(leg.0),
            uuid: Uuid::random(),
            leg,
            answers_as: None,
            who,
            since,
            label: None,
            invited: None,
            tested: false,
            taken: None,
            commands: None,
            release: None,
            goes_to: None,
            streams: Vec::new(),
            offered: None,
            stage: Stage::Arriving,
            answered: false,
            keypad: Keypad::default(),
            keys: VecDeque::new(),
            key_at: Instant::ZERO,
            slides_in_mix: true,
            voice: Voice::default(),
            saying: None,
            turn: 0,
            leaving: None,
            exit: None,
            hung_up: None,
            ended: None,
            wish: None,
            seat_of: None,
            own_seat: false,
            sent_on: Vec::new(),
            view: None,
            done: None,
        }
    }

    /// His leg is told by `commands`, and tells nothing more once `release` is used.
    #[must_use]
    pub(super) fn with_leg(self, commands: mpsc::Sender<LegCommand>, release: oneshot::Sender<()>) -> Self {
        Self { commands: Some(commands), release: Some(release), ..self }
    }

    /// Has his leg tell nothing more; false when it has none, has ended, or is on its way already.
    pub(super) fn release(&mut self) -> bool {
        self.hung_up.is_none() && self.release.take().is_some_and(|release| release.send(()).is_ok())
    }

    /// He stays, though he was to go elsewhere.
    pub(super) fn stay(&mut self, release: oneshot::Sender<()>) {
        (self.release, self.goes_to) = (Some(release), None);
    }

    /// He is in another room now, with a clock of its own.
    pub(super) fn begin_anew(&mut self, role: Role, release: oneshot::Sender<()>) {
        self.release = Some(release);
        self.stage = Stage::Arriving;
        self.keypad = Keypad::default();
        self.slides_in_mix = true;
        (self.saying, self.leaving, self.exit) = (None, None, None);
        self.key_at = Instant::ZERO;
        if let Some(invited) = &mut self.invited {
            invited.role = role;
        }
    }

    /// He is spoken to by `voice`.
    #[must_use]
    pub(super) fn spoken_to_by(self, voice: &Voice) -> Self {
        Self { voice: voice.clone(), ..self }
    }

    /// `view` is told of his call as it goes, `done` when it is over.
    #[must_use]
    pub(super) fn watched(self, view: watch::Sender<CallView>, done: oneshot::Sender<Outcome>) -> Self {
        Self { view: Some(view), done: Some(done), ..self }
    }

    /// He is a client of the client API from now on, whom his leg has rung. The leg ends when what is
    /// given back is dropped.
    pub(super) fn become_client(
        &mut self,
        name: String,
        source: Option<SocketAddr>,
    ) -> Option<mpsc::Sender<LegCommand>> {
        (self.who.protocol, self.who.transport) = ("api", "https");
        (self.who.name, self.who.signalling) = (name, source);
        // What the leg tells yet is its end: nobody takes that over.
        self.release = None;
        self.commands.take()
    }

    /// He is there by the client API alone (S6): no tile, no port.
    pub(super) const fn is_control_only(&self) -> bool {
        self.commands.is_none()
    }

    /// No leg of his will tell of its end: he has none, or it has done so.
    pub(super) const fn has_no_leg(&self) -> bool {
        self.is_control_only() || self.ended.is_some()
    }

    /// Until when his telephone may ring, while it does.
    pub(super) fn rings_until(&self) -> Option<Instant> {
        let rings = !self.answered && self.hung_up.is_none() && self.ended.is_none();
        self.invited.filter(|_| rings).map(|it| it.until)
    }

    /// We have called him in vain: he is shown with the reason for a moment.
    pub(super) fn not_reached(&mut self, now: Instant, cause: Cause) {
        // What his leg says of it is that we have hung up; why is what counts.
        let cause = self.hung_up.unwrap_or(cause);
        self.end(cause);
        self.ended = Some(cause);
        self.leaving = Some((now + super::LINGER, cause));
    }

    /// `keys` are sent to him, after those that wait already.
    pub(super) fn queue_keys(&mut self, now: Instant, keys: &Keys) {
        if self.keys.is_empty() {
            self.key_at = self.key_at.max(now);
        }
        let fits = super::KEYS.saturating_sub(self.keys.len());
        self.keys.extend(keys.as_str().chars().take(fits));
    }

    /// When [`Self::send_keys`] has something to do.
    pub(super) fn next_key(&self) -> Option<Instant> {
        (self.answered && !self.keys.is_empty()).then_some(self.key_at)
    }

    /// Sends what is due.
    pub(super) fn send_keys(&mut self, now: Instant) {
        while self.next_key().is_some_and(|at| now >= at)
            && let Some(key) = self.keys.pop_front()
        {
            if key == ',' {
                self.key_at = now + super::COMMA;
            } else {
                self.tell(LegCommand::SendDtmf(key));
                self.key_at = now + super::KEY_EVERY;
            }
        }
    }

    /// Never waited for: a leg that waits for us with a full queue of its own would wait for ever.
    pub(super) fn tell(&mut self, command: LegCommand) {
        let Some(commands) = self.commands.as_ref().filter(|_| self.hung_up.is_none()) else { return };
        if let Err(TrySendError::Full(command)) = commands.try_send(command) {
            match command {
                LegCommand::SendDtmf(_) | LegCommand::RequestKeyframe(_) => {}
                _ => self.hang_up(Cause::local(Reason::Congestion)),
            }
        }
    }

    pub(super) fn hang_up(&mut self, cause: Cause) {
        if self.hung_up.replace(cause).is_some() {
            return;
        }
        let Some(commands) = &self.commands else { return };
        if let Err(TrySendError::Full(command)) = commands.try_send(LegCommand::Hangup(cause)) {
            // A leg that is gone tells so by its own last event.
            let commands = commands.clone();
            tokio::spawn(async move { commands.send(command).await });
        }
    }

    /// He hears `prompt`, then his call is ended.
    pub(super) fn say_goodbye(&mut self, now: Instant, prompt: Option<Prompt>, cause: Cause) {
        if self.leaving.is_some() {
            return;
        }
        self.stage = Stage::Leaving;
        let heard = prompt.filter(|_| self.hung_up.is_none() && self.sink(MediaKind::Audio).is_some());
        if let Some(prompt) = heard {
            self.say(now, prompt);
        }
        let silent = if self.is_control_only() { super::LINGER } else { Duration::ZERO };
        let length = heard.map_or(silent, |prompt| self.voice.length(prompt) + super::AFTER_GOODBYE);
        self.leaving = Some((now + length, cause));
    }

    /// He hears `prompt` from now on.
    pub(super) fn say(&mut self, now: Instant, prompt: Prompt) {
        self.turn = self.turn.wrapping_add(1);
        self.saying = Some((prompt, now + self.voice.length(prompt)));
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
    pub(super) fn label(&self) -> &str {
        self.label.as_deref().unwrap_or_else(|| self.name())
    }

    /// What he is called.
    pub(super) fn name(&self) -> &str {
        if self.who.name.is_empty() { &self.who.address } else { &self.who.name }
    }

    /// Where he is, for who watches.
    pub(super) const fn at(&self) -> At {
        match self.stage {
            Stage::Arriving => At::Connecting,
            Stage::AtTheDoor(_) => At::Door,
            Stage::Waiting => At::Waiting,
            Stage::In => At::In,
            Stage::Leaving => At::Leaving,
        }
    }

    /// What feeds his streams, in a word, and why.
    fn route(&self, kind: MediaKind) -> (&'static str, &'static str) {
        match (&self.stage, kind) {
            (Stage::Arriving, _) => ("silence", "he has not been answered"),
            (Stage::In, MediaKind::Audio | MediaKind::Main) if self.tested => {
                ("transcode", "a test leg: himself, for the other side has no media yet")
            }
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
            answers_as: self.answers_as,
            party: self.who.clone(),
            answered: self.answered,
            streams: streams.collect(),
        }
    }

    /// Tells who watches.
    pub(super) fn show(&self) {
        if let Some(view) = &self.view {
            let leg = self.leg_view();
            show_new(view, CallView { answered: leg.answered, legs: vec![leg] });
        }
    }

    /// His call is over.
    pub(super) fn end(&mut self, cause: Cause) {
        let leg = self.leg_view();
        let answered_by = leg.answered.then_some(self.leg);
        let routes = leg.streams.iter().map(|it| (self.leg, it.stream.agreed.role, it.route)).collect();
        if let Some(done) = self.done.take() {
            // Whoever waited for it may have been stopped.
            let transfers = std::mem::take(&mut self.sent_on);
            let _ =
                done.send(Outcome { cause, answered_by, legs: vec![leg], routes, transfers, enters: None });
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
