//! Calls that the called side sends elsewhere (RFC 3261 sections 8.1.3.4 and 21.3), as one leg: nobody
//! sees from outside that several parties were called one after the other.
//!
//! The called side chooses nothing that the caller could not: each place goes through the directory as
//! a new call of the same caller, and only where the rule that let the last one out says so. A place that
//! is a conference ends the search: whoever owns the call brings the caller there, to its door.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crosspoint_codecs::format::Capabilities;
use crosspoint_proto::sip::{SipUri, Uri};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::call::more_telling;
use super::exchange::{Exchange, Resolution};
use super::hunt::hunt;
use super::service::{Kind, Service};
use crate::cause::{Cause, Reason};
use crate::leg::{Address, COMMANDS, Caller, EVENTS, HOPS, Leg, LegCommand, LegEvent, LegId, Party};
use crate::records::{CallRecord, RedirectionRecord};

/// Redirections that one call follows. Two are usual (a number that moved, and its mailbox); who has
/// more sends callers in circles.
pub(super) const REDIRECTIONS: usize = 5;

/// Places that a call looks at, of all its redirections together. Each may ring for as long as it
/// likes, one after the other.
pub(super) const PLACES: usize = 8;

/// Who calls, as the directory is asked about it.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// An incoming leg or a client.
    Caller(Party),
    /// The conference of that alias.
    Conference(String),
}

/// How the legs of one call are made.
#[derive(Clone, Debug)]
pub(super) struct Placing {
    exchange: Exchange,
    asker: Asker,
    /// The rule that lets it out says that redirections are followed.
    follow: bool,
    trail: Trail,
    /// Who calls can be brought into a conference.
    enters: bool,
}

/// Where a call was sent, for its record. Clones share it; [`PLACES`] at most.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    /// The number of the call.
    call: u64,
    places: Arc<Mutex<Vec<RedirectionRecord>>>,
    /// Where it ends, if that is a conference.
    conference: Arc<Mutex<Option<Found>>>,
}

/// A conference that a call was sent to, and what names it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) service: Arc<Service>,
    pub(super) called: String,
}

impl Trail {
    /// Of that call.
    pub(super) fn of(call: u64) -> Self {
        Self { call, places: Arc::default(), conference: Arc::default() }
    }

    /// The number of the call.
    pub(super) const fn call(&self) -> u64 {
        self.call
    }

    /// The conference that it leads to, once.
    pub(super) fn take_conference(&self) -> Option<Found> {
        self.conference.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn lead_to(&self, service: Arc<Service>, to: &str) {
        // The first of several that ring together.
        let found = Found { service, called: to.to_owned() };
        self.conference.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
    }

    fn note(&self, to: &str, rule: Option<String>, outcome: &str) {
        tracing::info!(to, rule, outcome, "call redirected");
        let (to, outcome) = (to.to_owned(), outcome.to_owned());
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= PLACES {
            all.push(RedirectionRecord { to, rule, outcome });
        }
    }

    /// Writes it down. Whoever answered is whom the call went to last.
    pub(super) fn mark(&self, record: &mut CallRecord) {
        record.redirections.clone_from(&self.places.lock().unwrap_or_else(PoisonError::into_inner));
        let called = record.redirections.iter().rfind(|it| it.outcome == CALLED);
        if let (Some(called), Some(_)) = (called, &record.answered_by) {
            record.answered_by = Some(called.to.clone());
        }
    }
}

const CALLED: &str = "called";

impl Placing {
    pub(super) fn new(exchange: Exchange, asker: Asker, follow: bool, trail: &Trail) -> Self {
        Self { exchange, asker, follow, trail: trail.clone(), enters: false }
    }

    /// Where the trail leads to a conference, whoever owns the call brings the caller there.
    #[must_use]
    pub(super) fn entering(self) -> Self {
        Self { enters: true, ..self }
    }

    /// The number of the call.
    pub(super) const fn call(&self) -> u64 {
        self.trail.call()
    }

    /// Hops that its legs may take.
    pub(super) const fn hops(&self) -> u8 {
        match &self.asker {
            Asker::Caller(caller) => caller.hops.saturating_sub(1),
            Asker::Conference(_) => HOPS,
        }
    }

    /// `leg`, which calls `target`, and whom it is sent to.
    pub(super) fn follow(
        &self,
        leg: Leg,
        target: &Address,
        from: &Caller,
        offer: &Capabilities,
        thread: Option<usize>,
    ) -> Leg {
        if !self.follow {
            return leg;
        }
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (told, events) = mpsc::channel(EVENTS);
        let (id, party, codecs, ladder) = (leg.id, leg.party.clone(), leg.codecs.clone(), leg.ladder.clone());
        let thread = thread.unwrap_or(leg.thread);
        let pursuit = Pursuit {
            placing: self.clone(),
            from: from.clone(),
            offer: offer.clone(),
            thread,
            leg,
            follow: true,
            secure: is_secure(&target.uri),
            tried: vec![key(target)],
            waiting: VecDeque::new(),
            redirections: 0,
            seen: 0,
            rings: false,
            hung_up: false,
            worst: None,
        };
        tokio::spawn(pursuit.run(id, orders, told));
        Leg { id, answers_as: None, party, thread, codecs, ladder, commands, events }
    }
}

/// A call that is being followed.
struct Pursuit {
    placing: Placing,
    from: Caller,
    offer: Capabilities,
    thread: usize,
    /// The party that is called now.
    leg: Leg,
    /// What it says of other places counts.
    follow: bool,
    /// It is called by SIPS, and so must be whom it names (RFC 3261 section 8.1.3.4).
    secure: bool,
    /// Whom the call went to: none twice.
    tried: Vec<(String, Option<String>)>,
    /// Places that were named, in the order in which they are tried, and whether it was by who is
    /// called by SIPS.
    waiting: VecDeque<(String, bool)>,
    redirections: usize,
    seen: usize,
    rings: bool,
    hung_up: bool,
    worst: Option<Cause>,
}

impl Pursuit {
    async fn run(mut self, id: LegId, mut orders: mpsc::Receiver<LegCommand>, told: mpsc::Sender<LegEvent>) {
        let mut answered = false;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.pass(order),
                    // A dropped leg hangs up.
                    None => return,
                },
                event = self.leg.events.recv() => {
                    let event = event.unwrap_or(LegEvent::Ended(Cause::local(Reason::Internal)));
                    match event {
                        LegEvent::Elsewhere(places) if !answered => self.named(places),
                        LegEvent::Ringing if self.rings => {}
                        LegEvent::AnswersAs(leg) => self.leg.id = leg,
                        LegEvent::Ended(cause) => {
                            if !answered && !self.hung_up && self.next(cause).await {
                                let party = Box::new(self.leg.party.clone());
                                let _ = told.send(LegEvent::Redirected(party)).await;
                                continue;
                            }
                            let worst = self.worst.filter(|_| !answered);
                            let cause = worst.map_or(cause, |worst| more_telling(worst, cause));
                            let _ = told.send(LegEvent::Ended(cause)).await;
                            return;
                        }
                        event => {
                            self.rings |= matches!(event, LegEvent::Ringing);
                            let answers = matches!(event, LegEvent::Answered(_) | LegEvent::Taken(_));
                            if answers && self.leg.id != id {
                                let _ = told.send(LegEvent::AnswersAs(self.leg.id)).await;
                            }
                            answered |= answers;
                            let _ = told.send(event).await;
                        }
                    }
                }
            }
        }
    }

    /// As with every leg: nobody waits for it, and what is lost is keys at most.
    fn pass(&mut self, order: LegCommand) {
        self.hung_up |= matches!(order, LegCommand::Hangup(_));
        if let Err(TrySendError::Full(order)) = self.leg.commands.try_send(order) {
            let order = match order {
                LegCommand::SendDtmf(_) | LegCommand::RequestKeyframe(_) => return,
                LegCommand::Hangup(_) => order,
                _ => LegCommand::Hangup(Cause::local(Reason::Congestion)),
            };
            let commands = self.leg.commands.clone();
            tokio::spawn(async move { commands.send(order).await });
        }
    }

    /// The party that is called names places: they come before those that were named earlier.
    fn named(&mut self, places: Vec<String>) {
        let trail = &self.placing.trail;
        if !self.follow {
            let outcome = "the rule that let the call go there follows no redirections";
            return places.first().into_iter().for_each(|to| trail.note(to, None, outcome));
        }
        if self.redirections >= REDIRECTIONS {
            return places
                .first()
                .into_iter()
                .for_each(|to| trail.note(to, None, "one redirection too many"));
        }
        self.redirections = self.redirections.saturating_add(1);
        let room = PLACES.saturating_sub(self.seen);
        if let Some(to) = places.get(room) {
            trail.note(to, None, "too many places were named");
        }
        self.seen = self.seen.saturating_add(places.len().min(room));
        for place in places.into_iter().take(room).rev() {
            self.waiting.push_front((place, self.secure));
        }
    }

    /// Calls the next place that can be called; false when there is none.
    async fn next(&mut self, cause: Cause) -> bool {
        self.worst = Some(self.worst.map_or(cause, |worst| more_telling(worst, cause)));
        if cause.reason == Reason::Rejected {
            // Who is asked for is found, and does not want to talk (RFC 3261 section 21.6).
            self.waiting.clear();
        }
        while let Some((to, secure)) = self.waiting.pop_front() {
            match self.call(&to, secure).await {
                Ok(Onward::Leg(leg, rule)) => {
                    self.placing.trail.note(&to, rule, CALLED);
                    self.leg = *leg;
                    return true;
                }
                Ok(Onward::Conference(service)) => {
                    self.placing.trail.note(&to, None, CALLED);
                    self.placing.trail.lead_to(service, &to);
                    return false;
                }
                Err(why) => self.placing.trail.note(&to, None, why),
            }
        }
        false
    }

    async fn call(&mut self, to: &str, secure: bool) -> Result<Onward, &'static str> {
        let uri = Uri::parse(to).map_err(|_| "no place that can be called")?;
        let named = match &uri {
            Uri::Sip(sip) => Some(sip),
            other if other.scheme().eq_ignore_ascii_case("tel") => None,
            _ => return Err("no place that can be called"),
        };
        let wants_secure = named.is_some_and(|sip| sip.secure);
        if secure && !wants_secure {
            return Err("it would lead from sips to sip");
        }
        let (mut targets, rule, follow) = match self.resolve(to).await? {
            Resolution::Dial { targets, rule, follow, .. } => (targets, rule, follow),
            Resolution::Enter { service, .. } => return Ok(Onward::Conference(service)),
            Resolution::Refuse { .. } => return Err("the rules do not let the caller call it"),
        };
        for target in &mut targets {
            settle(target, named);
        }
        targets.retain(|it| !wants_secure || is_secure(&it.uri));
        if targets.is_empty() {
            return Err("it would lead from sips to sip");
        }
        targets.retain(|it| !self.tried.contains(&key(it)));
        if targets.is_empty() {
            return Err("it was called before");
        }
        self.tried.extend(targets.iter().map(key));
        let fixed = Placing { follow: false, ..self.placing.clone() };
        let exchange = &self.placing.exchange;
        let legs = exchange.begin_all(&targets, &self.from, &self.offer, Some(self.thread), &fixed);
        let leg = legs.ok().and_then(hunt).ok_or("it cannot be called now")?;
        (self.follow, self.secure) = (follow, wants_secure);
        Ok(Onward::Leg(Box::new(leg), rule))
    }

    /// As a new call of the same caller.
    async fn resolve(&self, to: &str) -> Result<Resolution, &'static str> {
        let directory = self.placing.exchange.directory();
        let resolution = match &self.placing.asker {
            Asker::Caller(caller) => directory.resolve(&caller.calling(to)).await,
            Asker::Conference(alias) => directory.dial_out(alias, to).await,
        };
        match resolution {
            // What stands in for an alias that nobody has is nowhere to send anybody.
            Resolution::Enter { service, why } if service.is_decoy() => {
                Ok(Resolution::Refuse { reason: Reason::NotFound, why })
            }
            Resolution::Enter { service, .. } if !self.placing.enters || service.kind == Kind::Gateway => {
                Err("it is a conference: those are entered by their own alias")
            }
            resolution => Ok(resolution),
        }
    }
}

/// Where a call goes on.
enum Onward {
    /// To the party of that leg, by that rule.
    Leg(Box<Leg>, Option<String>),
    /// Into that conference.
    Conference(Arc<Service>),
}

/// The port and the transport that were named, where the rule sends the call to the named host itself;
/// and SIPS, where that was named.
fn settle(target: &mut Address, named: Option<&SipUri>) {
    let Some(named) = named else { return };
    if target.device.is_some() || target.trunk.is_some() || target.proxy.is_some() {
        return;
    }
    if let Ok(Uri::Sip(mut uri)) = Uri::parse(&target.uri)
        && uri.host == named.host
    {
        uri.port = named.port;
        uri.secure = named.secure;
        if let Some(transport) = named.transport() {
            uri.params.set("transport", Some(transport));
        }
        target.uri = uri.to_string();
    }
}

fn is_secure(uri: &str) -> bool {
    Uri::parse(uri).is_ok_and(|uri| uri.as_sip().is_some_and(|uri| uri.secure))
}

/// What makes two places the same.
fn key(target: &Address) -> (String, Option<String>) {
    (target.uri.to_lowercase(), target.trunk.clone())
}

#[cfg(test)]
mod tests;
