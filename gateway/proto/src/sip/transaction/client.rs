//! Client transactions: INVITE (RFC 3261 section 17.1.1, RFC 6026) and all others (17.1.2).

use std::time::Duration;

use bytes::Bytes;

use super::{Method, Request, Response, Timing};
use crate::Instant;
use crate::sip::Flow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Calling or Trying: sent, nothing heard.
    Sent,
    Proceeding,
    /// A final response came; repetitions of it are absorbed, or acknowledged again.
    Completed,
    /// INVITE: a 2xx came; repetitions get their ACK again, other forks are told.
    Accepted,
    Over,
}

/// What a response asks for.
pub(super) enum Verdict {
    Tell,
    TellAndSend(Bytes),
    Send(Flow, Bytes),
    Absorb,
}

/// What a timer asks for.
pub(super) enum Expiry {
    Send(Bytes),
    NoResponse,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Client<C> {
    pub(super) owner: C,
    /// The branch of its topmost Via, and its method.
    pub(super) key: (String, Method),
    pub(super) request: Request,
    pub(super) bytes: Bytes,
    pub(super) flow: Flow,
    /// By To tag: the ACK of each fork's 2xx. Bounded by [`MAX_FORKS`].
    pub(super) acks: Vec<(String, Flow, Bytes)>,
    state: State,
    /// Timers A and E; none on streams.
    repeat: Option<Instant>,
    pause: Duration,
    /// Timers B, D, F, K, M.
    end: Option<Instant>,
    /// A CANCEL went out: further provisional responses do not prolong it.
    given_up: bool,
    /// Of a refused INVITE.
    ack: Option<Bytes>,
}

/// Timer D: how long a refused INVITE answers repeated refusals, at least (RFC 3261 table 4).
const TIMER_D: Duration = Duration::from_secs(32);

/// Forks whose 2xx are acknowledged. Nobody has more phones; more is an attack.
const MAX_FORKS: usize = 16;

impl<C> Client<C> {
    pub(super) fn new(now: Instant, timing: &Timing, request: Request, flow: Flow, owner: C) -> Self {
        let branch = request.headers.top_via().and_then(|via| via.branch().map(str::to_owned));
        Self {
            owner,
            key: (branch.unwrap_or_default(), request.method.clone()),
            bytes: request.to_bytes(),
            request,
            flow,
            acks: Vec::new(),
            state: State::Sent,
            repeat: (!flow.transport().is_stream()).then(|| now + timing.t1),
            pause: timing.t1,
            end: Some(now + timing.life()),
            given_up: false,
            ack: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.repeat.into_iter().chain(self.end).min()
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether a final response is still awaited.
    pub(super) const fn waits(&self) -> bool {
        matches!(self.state, State::Sent | State::Proceeding)
    }

    /// Whether no response came at all.
    pub(super) const fn is_unheard(&self) -> bool {
        matches!(self.state, State::Sent)
    }

    pub(super) fn give_up(&mut self, at: Instant) {
        if self.state == State::Proceeding && !self.given_up {
            self.given_up = true;
            self.end = Some(at);
        }
    }

    /// Gives up earlier than by timer B, while nothing at all was heard.
    pub(super) fn expect_word(&mut self, by: Instant) {
        if self.state == State::Sent {
            self.end = self.end.map(|end| end.min(by));
        }
    }

    pub(super) fn response(&mut self, now: Instant, timing: &Timing, response: &Response) -> Verdict {
        let invite = self.request.method == Method::Invite;
        match (self.state, response.status) {
            (State::Sent | State::Proceeding, ..200) => {
                self.state = State::Proceeding;
                if invite {
                    // No timer runs now: how long it may ring is the owner's business.
                    self.repeat = None;
                    if !self.given_up {
                        self.end = None;
                    }
                } else if self.repeat.is_some() {
                    self.pause = timing.t2;
                }
                Verdict::Tell
            }
            (State::Sent | State::Proceeding, 200..300) if invite => {
                self.state = State::Accepted;
                self.repeat = None;
                self.end = Some(timing.forgotten(now, timing.life()));
                Verdict::Tell
            }
            (State::Accepted, 200..300) => {
                let tag = response.headers.tag_in_to().unwrap_or_default();
                match self.acks.iter().find(|(t, ..)| t == tag) {
                    Some((_, flow, ack)) => Verdict::Send(*flow, ack.clone()),
                    None if self.acks.len() < MAX_FORKS => Verdict::Tell,
                    None => Verdict::Absorb,
                }
            }
            (State::Sent | State::Proceeding, _) => {
                let stream = self.flow.transport().is_stream();
                let linger = if invite { timing.life().max(TIMER_D) } else { timing.t4 };
                self.state = State::Completed;
                self.repeat = None;
                // Timers D and K are zero on streams; the owner still finds the request until then.
                self.end = Some(if stream { now } else { timing.forgotten(now, linger) });
                if !invite {
                    return Verdict::Tell;
                }
                let ack = self.request.ack(response).to_bytes();
                self.ack = Some(ack.clone());
                Verdict::TellAndSend(ack)
            }
            (State::Completed, 300..) => {
                self.ack.clone().map_or(Verdict::Absorb, |ack| Verdict::Send(self.flow, ack))
            }
            _ => Verdict::Absorb,
        }
    }

    pub(super) fn timeout(&mut self, now: Instant, timing: &Timing) -> Expiry {
        if self.end.is_some_and(|end| end <= now) {
            let waited = self.waits();
            self.state = State::Over;
            return if waited { Expiry::NoResponse } else { Expiry::Nothing };
        }
        if self.repeat.is_some_and(|at| at <= now) {
            // Timer A doubles without a limit, timer E up to T2.
            self.pause = self.pause.saturating_mul(2);
            if self.request.method != Method::Invite {
                self.pause = self.pause.min(timing.t2);
            }
            self.repeat = Some(now + self.pause);
            return Expiry::Send(self.bytes.clone());
        }
        Expiry::Nothing
    }
}
