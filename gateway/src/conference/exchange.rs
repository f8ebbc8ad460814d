//! Where legs come in and calls begin: asks the directory, dials, runs the call, keeps the list of
//! what is live.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crosspoint_codecs::format::MediaKind;
use tokio::sync::watch;

use super::call::{Call, CallRules, CallView};
use super::graph::Graph;
use crate::cause::{Cause, Reason};
use crate::leg::{Address, Caller, Leg, LegCommand, LegEvent, LegId, Party, Protocol};
use crate::media::EngineHandle;

/// An incoming leg says at once what it offers; one that does not is broken.
const OFFER_WAIT: Duration = Duration::from_secs(5);

/// What the directory says of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// Ring all of these; the first to answer wins.
    Dial {
        /// Where.
        targets: Vec<Address>,
        /// Why, for the log.
        why: String,
    },
    /// Nobody is called.
    Refuse {
        /// What the caller is told.
        reason: Reason,
        /// Why, for the log.
        why: String,
    },
}

/// A future of the directory's.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Resolution> + Send + 'a>>;

/// Says who is called: registered devices, rules, nothing else.
pub trait Directory: Send + Sync {
    /// For the call of `party`.
    fn resolve<'a>(&'a self, party: &'a Party) -> Resolving<'a>;
}

/// The record of a finished call.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// Its number in this process.
    pub call: u64,
    /// When it came.
    pub began: SystemTime,
    /// How long it rang, or lasted until it was refused.
    pub set_up: Duration,
    /// How long it stood; zero when nobody answered.
    pub stood: Duration,
    /// Who called.
    pub caller: Party,
    /// Who answered.
    pub callee: Option<Party>,
    /// Why it ended.
    pub cause: Cause,
    /// The routes that it had: role and word.
    pub routes: Vec<(MediaKind, &'static str)>,
}

/// Told of every finished call.
pub type Recorder = Arc<dyn Fn(CallRecord) + Send + Sync>;

/// A call that is live.
#[derive(Clone, Debug)]
pub struct LiveCall {
    /// Its number in this process.
    pub call: u64,
    /// When it came.
    pub began: SystemTime,
    /// Who called.
    pub caller: Party,
    /// Legs, streams, routes.
    pub view: CallView,
}

/// What an exchange is made of.
pub struct ExchangeParts {
    /// Who is called.
    pub directory: Arc<dyn Directory>,
    /// What can dial.
    pub protocols: Vec<Arc<dyn Protocol>>,
    /// What converts media.
    pub engine: EngineHandle,
    /// How calls behave.
    pub rules: CallRules,
    /// Calls at a time; past it callers are told of congestion.
    pub calls: usize,
    /// Told of every finished call.
    pub recorder: Recorder,
}

/// The exchange of one gateway. Clones share it.
#[derive(Clone)]
pub struct Exchange(Arc<Inner>);

struct Inner {
    parts: ExchangeParts,
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Live>>,
    stop: watch::Sender<Option<Reason>>,
    empty: watch::Sender<usize>,
}

struct Live {
    began: SystemTime,
    caller: Party,
    view: watch::Receiver<CallView>,
}

impl Exchange {
    /// An exchange without calls.
    pub fn new(parts: ExchangeParts) -> Self {
        Self(Arc::new(Inner {
            parts,
            next: AtomicU64::new(1),
            live: Mutex::default(),
            stop: watch::channel(None).0,
            empty: watch::channel(0).0,
        }))
    }

    /// Takes an incoming leg over; its call runs on a task of its own.
    pub fn accept(&self, leg: Leg) {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (view, views) = watch::channel(CallView::default());
        let began = SystemTime::now();
        let full = {
            let mut live = self.live();
            let full = live.len() >= self.0.parts.calls || self.0.stop.borrow().is_some();
            if !full {
                live.insert(number, Live { began, caller: leg.party.clone(), view: views });
                self.0.empty.send_replace(live.len());
            }
            full
        };
        let this = self.clone();
        tokio::spawn(async move {
            if full {
                refuse(leg, Cause::local(Reason::Congestion)).await;
                return;
            }
            let caller = leg.party.clone();
            let span = tracing::info_span!("call", call = number, leg = leg.id.0);
            let record =
                tracing::Instrument::instrument(this.clone().run(number, began, leg, view), span).await;
            tracing::info!(
                call = number,
                caller = caller.address,
                called = caller.called,
                cause = %record.cause,
                stood_s = record.stood.as_secs(),
                "call ended"
            );
            (this.0.parts.recorder)(record);
            let mut live = this.live();
            live.remove(&number);
            this.0.empty.send_replace(live.len());
        });
    }

    /// What is live now, oldest first.
    pub fn calls(&self) -> Vec<LiveCall> {
        self.live()
            .iter()
            .map(|(call, live)| LiveCall {
                call: *call,
                began: live.began,
                caller: live.caller.clone(),
                view: live.view.borrow().clone(),
            })
            .collect()
    }

    /// Ends every call for that reason, takes no more, and waits until all have said goodbye.
    pub async fn stop(&self, reason: Reason) {
        self.0.stop.send_replace(Some(reason));
        // The sender lives in `self`, so this ends by the count alone.
        let _ = self.0.empty.subscribe().wait_for(|count| *count == 0).await;
    }

    async fn run(
        self,
        number: u64,
        began: SystemTime,
        mut leg: Leg,
        view: watch::Sender<CallView>,
    ) -> CallRecord {
        let start = Instant::now();
        let caller = leg.party.clone();
        let mut record = CallRecord {
            call: number,
            began,
            set_up: Duration::ZERO,
            stood: Duration::ZERO,
            caller: caller.clone(),
            callee: None,
            cause: Cause::local(Reason::Internal),
            routes: Vec::new(),
        };
        let offered = match tokio::time::timeout(OFFER_WAIT, leg.events.recv()).await {
            Ok(Some(LegEvent::Offered(offered))) => offered,
            Ok(Some(LegEvent::Ended(cause))) => {
                record.cause = cause;
                return record;
            }
            _ => {
                record.cause = refuse(leg, record.cause).await;
                return record;
            }
        };
        let resolution = self.0.parts.directory.resolve(&caller).await;
        let targets = match resolution {
            Resolution::Dial { targets, why } => {
                tracing::info!(caller = caller.address, called = caller.called, why, "call routed");
                targets
            }
            Resolution::Refuse { reason, why } => {
                tracing::warn!(
                    caller = caller.address,
                    called = caller.called,
                    reason = reason.word(),
                    why,
                    "call refused"
                );
                record.cause = refuse(leg, Cause::local(reason)).await;
                record.set_up = start.elapsed();
                return record;
            }
        };
        let from = Caller { address: caller.address.clone(), name: caller.name.clone() };
        let offer = Call::offer(offered.as_ref());
        let mut refused = Cause::local(Reason::Unavailable);
        let callees: Vec<Leg> = targets
            .iter()
            .filter_map(|target| {
                let dialled = self
                    .protocol(&target.uri)
                    .ok_or(Cause::local(Reason::Internal))
                    .and_then(|protocol| protocol.dial(target, &from, offer.clone(), Some(leg.thread)));
                dialled.inspect_err(|cause| refused = *cause).ok()
            })
            .collect();
        if callees.is_empty() {
            record.cause = refuse(leg, refused).await;
            record.set_up = start.elapsed();
            return record;
        }
        let parties: Vec<(LegId, Party)> = callees.iter().map(|leg| (leg.id, leg.party.clone())).collect();
        let mut answered = view.subscribe();
        let call = Call::new(
            self.0.parts.rules,
            leg,
            offered,
            callees,
            Graph::new(self.0.parts.engine.clone()),
            view,
        );
        let run = call.run(self.0.stop.subscribe());
        let moment = async {
            let _ = answered.wait_for(|view| view.answered).await;
            Instant::now()
        };
        tokio::pin!(run, moment);
        let mut answered_at = None;
        let outcome = loop {
            tokio::select! {
                outcome = &mut run => break outcome,
                at = &mut moment, if answered_at.is_none() => answered_at = Some(at),
            }
        };
        record.cause = outcome.cause;
        record.callee = outcome
            .answered_by
            .and_then(|id| parties.into_iter().find(|(leg, _)| *leg == id))
            .map(|(_, party)| party);
        if record.callee.is_some() {
            let at = answered_at.unwrap_or(start);
            record.set_up = at - start;
            record.stood = at.elapsed();
        } else {
            record.set_up = start.elapsed();
        }
        record.routes = outcome.routes.into_iter().map(|(_, role, word)| (role, word)).collect();
        record
    }

    fn protocol(&self, uri: &str) -> Option<&Arc<dyn Protocol>> {
        let scheme = uri.split(':').next()?;
        self.0
            .parts
            .protocols
            .iter()
            .find(|protocol| protocol.schemes().iter().any(|known| known.eq_ignore_ascii_case(scheme)))
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("calls", &self.live().len()).finish_non_exhaustive()
    }
}

/// Hangs up and waits until the leg is gone; the cause that it ended with.
async fn refuse(mut leg: Leg, cause: Cause) -> Cause {
    let _ = leg.commands.send(LegCommand::Hangup(cause)).await;
    let gone = async {
        while let Some(event) = leg.events.recv().await {
            if let LegEvent::Ended(ended) = event {
                return ended;
            }
        }
        cause
    };
    tokio::time::timeout(OFFER_WAIT, gone).await.unwrap_or(cause)
}
