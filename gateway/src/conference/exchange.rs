//! Where legs come in and calls begin: asks the directory, dials, runs the call, keeps the list of
//! what is live.

mod gateway;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use crosspoint_codecs::format::Capabilities;
use tokio::sync::{mpsc, watch};

use self::record::{attend, call_ended, ended, recorded, to_its_end};
pub(in crate::conference) use self::transfer::Reached;
use super::call::takeover::{ORDERS, Order};
use super::call::{Call, CallRules, CallView, Entering};
use super::engaged::quietest;
use super::graph::Graph;
use super::prompts::Voice;
use super::redirect::{Asker, Placing, Trail};
use super::room::{Rooms, RoomsParts};
use super::service::Service;
use super::traces::Traces;
use crate::cause::{Cause, Reason};
use crate::events::What;
use crate::guard::Porter;
use crate::leg::{Address, Caller, Leg, LegCommand, LegEvent, Party, Protocol};
use crate::media::EngineHandle;
use crate::records::CallRecord;
use crate::status::rfc3339;

mod dial;
mod record;
mod refer;
mod takeover;
mod transfer;

/// An incoming leg says at once what it offers; one that does not is broken.
const OFFER_WAIT: Duration = Duration::from_secs(5);

/// How often it is looked whether somebody is left, when the gateway is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Conferences that have begun and wait until those are called whom their services list. Overflow: a
/// line in the log; nobody is called into that one.
const BEGUN: usize = 256;

/// Wishes of telephones in conferences to send these on. Overflow: refused as congested; a human wishes once
/// in a while, and each is taken up at once.
const WISHES: usize = 64;

/// What the directory says of a call.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// Ring all of these; the first to answer wins.
    Dial {
        /// Where.
        targets: Vec<Address>,
        /// The rule that lets it out, when one does.
        rule: Option<String>,
        /// Where the called side sends it (3xx) may be asked for next.
        follow: bool,
        /// Why, for the log.
        why: String,
    },
    /// A conference of that service takes it.
    Enter {
        /// Which.
        service: Arc<Service>,
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

    /// For a call of the conference with the alias `from`.
    fn dial_out<'a>(&'a self, from: &'a str, destination: &'a str) -> Resolving<'a>;
}

/// Told of every finished call: its record, its cause, and how long it took until the answer.
pub type Recorder = Arc<dyn Fn(CallRecord, Cause, Duration) + Send + Sync>;

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
    /// What converts media; at least one.
    pub engines: Vec<EngineHandle>,
    /// How calls behave.
    pub rules: CallRules,
    /// Calls at a time; past it callers are told of congestion.
    pub calls: usize,
    /// Told of every finished call.
    pub recorder: Recorder,
    /// A folder of fonts for names in pictures, beside those that are built in.
    pub fonts: Option<PathBuf>,
    /// Stands at the doors of conferences; what he is told, and calls, are events (S77).
    pub porter: Porter,
    /// What speaks to people.
    pub voice: Voice,
}

/// The exchange of one gateway. Clones share it.
#[derive(Clone)]
pub struct Exchange(Arc<Inner>);

struct Inner {
    parts: ExchangeParts,
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Live>>,
    traces: Traces,
    rooms: Rooms,
    /// How calls behave that begin now, and how many there may be.
    rules: ArcSwap<(CallRules, usize)>,
    stop: watch::Sender<Option<Reason>>,
    empty: watch::Sender<usize>,
    /// Until when calls may go on, once the gateway is to end.
    ending: OnceLock<crosspoint_proto::Instant>,
}

struct Live {
    began: SystemTime,
    caller: Party,
    view: watch::Receiver<CallView>,
    /// What it is told; `None`, or nobody who listens: it is in a conference.
    orders: Option<mpsc::Sender<Order>>,
}

impl Exchange {
    /// An exchange without calls, on the runtime that it is made on.
    pub fn new(mut parts: ExchangeParts) -> Self {
        let stop = watch::channel(None).0;
        let (engines, fonts, voice) = (parts.engines.clone(), parts.fonts.take(), parts.voice.clone());
        let porter = parts.porter.clone();
        let rooms = Rooms::new(RoomsParts { engines, fonts, voice, porter }, stop.subscribe());
        let (begun, conferences) = mpsc::channel(BEGUN);
        rooms.tell_of_begun(begun);
        let (wishes, wished) = mpsc::channel(WISHES);
        rooms.tell_of_wishes(wishes);
        let this = Self(Arc::new(Inner {
            rules: ArcSwap::from_pointee((parts.rules, parts.calls)),
            parts,
            rooms,
            next: AtomicU64::new(1),
            live: Mutex::default(),
            traces: Traces::default(),
            stop,
            empty: watch::channel(0).0,
            ending: OnceLock::new(),
        }));
        tokio::spawn(dial::lists(Arc::downgrade(&this.0), conferences));
        tokio::spawn(refer::wishes(Arc::downgrade(&this.0), wished));
        this
    }

    /// Takes an incoming leg over; its call runs on a task of its own.
    pub fn accept(&self, leg: Leg) {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (view, views) = watch::channel(CallView::default());
        let began = SystemTime::now();
        let (orders, ordered) = mpsc::channel(ORDERS);
        let live = Live { began, caller: leg.party.clone(), view: views, orders: Some(orders) };
        let fits = self.enlist(number, live);
        if fits {
            self.0.traces.join(number, &leg);
        }
        let this = self.clone();
        // Boxed, here and in legs: the runtime moves a task several times before it runs, and once more when it
        // ends, and that of a call is many kilobytes.
        tokio::spawn(Box::pin(async move {
            if !fits {
                refuse(leg, Cause::local(Reason::Congestion)).await;
                return;
            };
            let span = tracing::info_span!("call", call = number, leg = leg.id.0);
            let run = Box::pin(this.clone().run(number, began, leg, view, ordered));
            let record = tracing::Instrument::instrument(run, span).await;
            this.finish(number, record);
        }));
    }

    /// A call begins, unless there are as many as there may be.
    fn enlist(&self, number: u64, call: Live) -> bool {
        let mut live = self.live();
        let fits = live.len() < self.0.rules.load().1
            && self.0.stop.borrow().is_none()
            && self.ending().is_none()
            && !self.0.parts.engines.iter().all(EngineHandle::is_full);
        if fits {
            self.put_down(&mut live, number, call);
        }
        fits
    }

    /// A party goes on in a call of its own: it has a place already, which the old call is about to give up, unless
    /// nothing comes of it.
    fn enlist_again(&self, number: u64, call: Live) {
        self.put_down(&mut self.live(), number, call);
    }

    fn put_down(&self, live: &mut BTreeMap<u64, Live>, number: u64, call: Live) {
        let (caller, called) = (call.caller.address.clone(), call.caller.called.clone());
        self.0.traces.begin(number, call.began, &call.caller);
        live.insert(number, call);
        self.0.empty.send_replace(live.len());
        let started = What::CallStarted { call: number, caller, called };
        self.0.parts.porter.events().tell(SystemTime::now(), started);
    }

    /// And is over.
    fn finish(&self, number: u64, (record, cause, rang): (CallRecord, Cause, Duration)) {
        self.0.parts.porter.events().tell(SystemTime::now(), call_ended(&record));
        self.0.traces.end(&record);
        (self.0.parts.recorder)(record, cause, rang);
        let mut live = self.live();
        live.remove(&number);
        self.0.empty.send_replace(live.len());
    }

    /// What is live now, oldest first.
    pub fn calls(&self) -> Vec<LiveCall> {
        // Views are long, and calls that begin wait for the list.
        let live: Vec<_> = {
            let live = self.live();
            live.iter().map(|(call, it)| (*call, it.began, it.caller.clone(), it.view.clone())).collect()
        };
        let of = |(call, began, caller, view): (_, _, _, watch::Receiver<CallView>)| LiveCall {
            call,
            began,
            caller,
            view: view.borrow().clone(),
        };
        live.into_iter().map(of).collect()
    }

    /// From now on calls behave so, and there may be so many: those that stand stay as they are.
    pub fn set_rules(&self, rules: CallRules, calls: usize) {
        self.0.rules.store(Arc::new((rules, calls)));
    }

    /// Takes no more calls; those that stand may go on until `until`, which whoever stops it sees to.
    pub fn drain(&self, until: crosspoint_proto::Instant) {
        let _ = self.0.ending.set(until);
    }

    /// Until when calls may go on, if no more are taken.
    pub fn ending(&self) -> Option<crosspoint_proto::Instant> {
        self.0.ending.get().copied()
    }

    /// Waits until no call stands and nobody is in a conference.
    pub async fn idle(&self) {
        let mut look = tokio::time::interval(LOOK);
        let somebody = || self.rooms().views().iter().any(|(_, view)| !view.parties.is_empty());
        loop {
            look.tick().await;
            let calls = self.live().len();
            if calls == 0 && !somebody() {
                return;
            }
        }
    }

    /// What is known of calls that are live, and of the last that are over.
    pub fn traces(&self) -> &Traces {
        &self.0.traces
    }

    /// Ends every call for that reason and takes no more; waits for nothing.
    pub fn halt(&self, reason: Reason) {
        self.0.stop.send_replace(Some(reason));
    }

    /// Ends every call for that reason, takes no more, and waits until all have said goodbye.
    pub async fn stop(&self, reason: Reason) {
        self.halt(reason);
        // The sender lives in `self`, so this ends by the count alone.
        let _ = self.0.empty.subscribe().wait_for(|count| *count == 0).await;
    }

    async fn run(
        self,
        number: u64,
        began: SystemTime,
        mut leg: Leg,
        view: watch::Sender<CallView>,
        ordered: mpsc::Receiver<Order>,
    ) -> (CallRecord, Cause, Duration) {
        let start = Instant::now();
        let caller = leg.party.clone();
        let mut record = CallRecord {
            call: number,
            started: rfc3339(began),
            caller: caller.address.clone(),
            authenticated: caller.device.is_some(),
            called: caller.called.clone(),
            ..CallRecord::default()
        };
        let offered = match tokio::time::timeout(OFFER_WAIT, leg.events.recv()).await {
            Ok(Some(LegEvent::Offered(offered))) => offered,
            Ok(Some(LegEvent::Ended(cause))) => return ended(record, cause, start.elapsed()),
            _ => return ended(record, refuse(leg, Cause::local(Reason::Internal)).await, start.elapsed()),
        };
        let (targets, rule, follow) = match self.0.parts.directory.resolve(&caller).await {
            Resolution::Dial { targets, rule, follow, why } => {
                tracing::info!(caller = caller.address, called = caller.called, why, "call routed");
                self.0.traces.note(number, &format!("routed: {why}"));
                (targets, rule, follow)
            }
            Resolution::Enter { service, why } => {
                tracing::info!(caller = caller.address, called = caller.called, why, "call routed");
                self.0.traces.note(number, &format!("routed: {why}"));
                record.answered_by = (!service.is_decoy()).then(|| service.name.clone());
                // Who is in a conference is given to no other call: who asks is told at once.
                drop(ordered);
                return self.enter(&service, leg, offered, record, view, start).await;
            }
            Resolution::Refuse { reason, why } => {
                let word = reason.word();
                let source = caller.signalling.map(|it| it.ip());
                if let Some(others) = self.0.parts.porter.logs(source) {
                    tracing::warn!(
                        caller = caller.address,
                        called = caller.called,
                        reason = word,
                        why,
                        others,
                        "call refused"
                    );
                }
                self.0.traces.note(number, &format!("refused, {word}: {why}"));
                return ended(record, refuse(leg, Cause::local(reason)).await, start.elapsed());
            }
        };
        record.rule = rule;
        let trail = Trail::of(number);
        let placing = Placing::new(self.clone(), Asker::Caller(caller.clone()), follow, &trail);
        if self.need_venue(&targets) {
            let (mut record, cause, rang) =
                self.meet(leg, offered, targets, placing, record, view, start).await;
            trail.mark(&mut record);
            return (record, cause, rang);
        }
        let (placing, goes_on) = (placing.entering(), view.clone());
        let offer = Call::offer(offered.as_ref());
        let callees = match self.begin_all(&targets, &Caller::of(&caller), &offer, Some(leg.thread), &placing)
        {
            Ok(callees) => callees,
            Err(refused) => return ended(record, refuse(leg, refused).await, start.elapsed()),
        };
        let answers = view.subscribe();
        let graph = Graph::new(quietest(&self.0.parts.engines));
        let call = Call::new(self.0.rules.load().0, leg, offered.clone(), callees, graph, view);
        let call = call.with_transfers(number, self.clone()).with_orders(ordered).with_trail(trail.clone());
        let (mut outcome, answered) =
            to_its_end(call.run(self.0.stop.subscribe()), answers, self.answered(number)).await;
        if let Some(entering) = outcome.enters.take() {
            let Entering { leg, service, called } = *entering;
            self.0.traces.note(number, &format!("sent on to the conference {called}"));
            trail.mark(&mut record);
            record.answered_by = Some(service.name.clone());
            return self.enter(&service, leg, offered, record, goes_on, start).await;
        }
        let callee = outcome.legs.iter().find(|leg| Some(leg.id) == outcome.answered_by);
        record.answered_by =
            callee.map(|leg| leg.party.device.clone().unwrap_or_else(|| leg.party.address.clone()));
        trail.mark(&mut record);
        recorded(record, &outcome, answered, start)
    }

    /// Legs to all `targets` that can be called; why not, where none can.
    pub(super) fn begin_all(
        &self,
        targets: &[Address],
        from: &Caller,
        offer: &Capabilities,
        thread: Option<usize>,
        placing: &Placing,
    ) -> Result<Vec<Leg>, Cause> {
        let mut refused = Cause::local(Reason::Unavailable);
        let legs = targets.iter().filter_map(|target| {
            let protocol = self.protocol(&target.uri).ok_or(Cause::local(Reason::Internal));
            let dialled = protocol.and_then(|it| it.dial(target, from, offer.clone(), thread));
            let dialled = dialled.inspect_err(|cause| refused = *cause);
            match &dialled {
                Ok(leg) => self.0.traces.join(placing.call(), leg),
                Err(cause) => self.0.traces.note(placing.call(), &not_dialled(target, *cause)),
            }
            dialled.map(|leg| placing.follow(leg, target, from, offer, thread)).ok()
        });
        let legs: Vec<Leg> = legs.collect();
        if legs.is_empty() { Err(refused) } else { Ok(legs) }
    }

    /// The call of one who has called a conference, to its end.
    async fn enter(
        self,
        service: &Arc<Service>,
        leg: Leg,
        offered: Option<Capabilities>,
        record: CallRecord,
        view: watch::Sender<CallView>,
        start: Instant,
    ) -> (CallRecord, Cause, Duration) {
        let answers = view.subscribe();
        let over = self.0.rooms.enter(service, leg, offered, view);
        let told = self.answered(record.call);
        attend(over, answers, record, start, told).await
    }

    /// What is done when a call is answered.
    fn answered(&self, call: u64) -> impl FnOnce(SystemTime) + use<> {
        let events = self.0.parts.porter.events().clone();
        move |at| events.tell(at, What::CallAnswered { call })
    }

    /// The conferences that are in progress.
    pub fn rooms(&self) -> &Rooms {
        &self.0.rooms
    }

    pub(super) fn directory(&self) -> &dyn Directory {
        &*self.0.parts.directory
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

/// In a trace: where a call cannot go.
fn not_dialled(target: &Address, cause: Cause) -> String {
    format!("cannot go to {}: {}", target.uri, cause.reason.word())
}

/// Hangs up and waits until the leg is gone; the cause that it ended with.
pub(super) async fn refuse(mut leg: Leg, cause: Cause) -> Cause {
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

#[cfg(test)]
pub(super) mod tests;
