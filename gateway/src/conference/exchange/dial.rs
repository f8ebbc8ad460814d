//! Calls that conferences make: to those whom a host, the administrator or the service's list adds.
//!
//! Where they go is the directory's matter, as with every call: a registered device, or out by a rule
//! that is there for conferences, or nowhere.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use crosspoint_codecs::format::MediaKind;
use tokio::sync::{mpsc, oneshot, watch};

use super::record::{attend, ended};
use super::{Exchange, Inner, Live, Resolution};
use crate::cause::{Cause, Reason};
use crate::conference::call::{CallView, Outcome};
use crate::conference::dialling::{DialRefused, Dialling, Way};
use crate::conference::hunt::hunt;
use crate::conference::offer::offer_for;
use crate::conference::redirect::{Asker, Placing, Trail};
use crate::conference::room::{Command, Invited, Referred, Seat};
use crate::conference::service::Service;
use crate::leg::{Address, Caller, HOPS, Leg, Origin, Party, Venue};
use crate::records::CallRecord;
use crate::status::rfc3339;
use crate::uuid::Uuid;

/// Who wants a conference to call somebody.
#[derive(Debug)]
pub(super) enum Whose {
    /// A host or the administrator. A conference begins, if there is none by the time that it is clear where
    /// to call.
    Asked,
    /// The list of the service.
    Listed,
    /// Somebody in it, who gives up his seat: the call goes where his own would.
    Referred(Box<Party>, Seat),
}

/// A call that rings, and is in the roster.
struct Placed {
    uuid: Uuid,
    rule: Option<String>,
    address: String,
    over: oneshot::Receiver<Outcome>,
}

impl Exchange {
    /// Calls somebody into the conference of `service`, which begins if there is none; who may is the
    /// asker's to check. Gives his number in the roster as soon as it rings; how it goes on is told
    /// there and in the call's record.
    pub async fn dial(&self, service: &Arc<Service>, dialling: Dialling) -> Result<Uuid, DialRefused> {
        let (this, service) = (self.clone(), service.clone());
        // Who asks may go away meanwhile: a call that has begun is recorded, and is over some time.
        let dialled =
            tokio::spawn(async move { this.dial_and_record(&service, dialling, Whose::Asked).await });
        dialled.await.unwrap_or(Err(DialRefused::Busy))
    }

    pub(super) async fn dial_and_record(
        &self,
        service: &Arc<Service>,
        dialling: Dialling,
        whose: Whose,
    ) -> Result<Uuid, DialRefused> {
        let (began, start) = (SystemTime::now(), Instant::now());
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let caller = of_conference(service, &dialling);
        let record = CallRecord {
            call: number,
            started: rfc3339(began),
            caller: caller.address.clone(),
            called: dialling.destination.clone(),
            ..CallRecord::default()
        };
        let (destination, asked_by) = (dialling.destination.clone(), dialling.asked_by.clone());
        let (view, answers) = watch::channel(CallView::default());
        if !self.enlist(number, Live { began, caller: caller.clone(), view: answers.clone(), orders: None }) {
            return Err(DialRefused::Busy);
        }
        let (trail, referred) = (Trail::of(number), matches!(whose, Whose::Referred(..)));
        match self.place(service, &caller, dialling, whose, view, &trail).await {
            Ok(Placed { uuid, rule, address, over }) => {
                tracing::info!(
                    call = number,
                    service = service.name,
                    destination,
                    asked_by,
                    rule,
                    "dialling"
                );
                let record = CallRecord { rule, answered_by: Some(address), ..record };
                let this = self.clone();
                tokio::spawn(async move {
                    let mut ended = attend(over, answers, record, start, this.answered(number)).await;
                    trail.mark(&mut ended.0);
                    this.finish(number, ended);
                });
                Ok(uuid)
            }
            Err(refused) => {
                let service = &service.name;
                // What helps a conference that may not call is no help to who may not himself.
                let refused_in_words =
                    if referred { refused.reason().word().to_owned() } else { refused.to_string() };
                tracing::warn!(
                    call = number,
                    service,
                    destination,
                    asked_by,
                    refused = refused_in_words,
                    "not dialled"
                );
                let cause = Cause::local(refused.reason());
                self.finish(number, ended(record, cause, start.elapsed()));
                Err(refused)
            }
        }
    }

    async fn place(
        &self,
        service: &Arc<Service>,
        caller: &Party,
        dialling: Dialling,
        whose: Whose,
        view: watch::Sender<CallView>,
        trail: &Trail,
    ) -> Result<Placed, DialRefused> {
        let way = if dialling.way == Way::Auto { Way::of(&dialling.destination) } else { dialling.way };
        if way.scheme().is_some_and(|scheme| self.protocol(scheme).is_none()) {
            return Err(DialRefused::NoLegs(way));
        }
        let directory = self.directory();
        let resolution = match &whose {
            Whose::Referred(asker, _) => directory.resolve(asker).await,
            Whose::Asked | Whose::Listed => directory.dial_out(&caller.address, &dialling.destination).await,
        };
        let (targets, rule, follow) = match resolution {
            Resolution::Dial { targets, rule, follow, why } => {
                tracing::info!(caller = caller.address, called = dialling.destination, why, "call routed");
                self.0.traces.note(trail.call(), &format!("routed: {why}"));
                (targets, rule, follow)
            }
            Resolution::Enter { service, .. } => return Err(DialRefused::Conference(service.name.clone())),
            Resolution::Refuse { reason, why } => {
                tracing::warn!(caller = caller.address, called = dialling.destination, why, "call refused");
                self.0.traces.note(trail.call(), &format!("refused, {}: {why}", reason.word()));
                return Err(DialRefused::Nowhere(reason));
            }
        };
        if !matches!(whose, Whose::Asked) && !self.0.rooms.is_on(&service.name) {
            return Err(DialRefused::Over);
        }
        let asker = match &whose {
            Whose::Referred(asker, _) => Asker::Caller(Party::clone(asker)),
            Whose::Asked | Whose::Listed => Asker::Conference(caller.address.clone()),
        };
        let placing = Placing::new(self.clone(), asker, follow, trail);
        let legs = self.begin(service, &dialling, way, &targets, rule.as_deref(), &placing)?;
        let address =
            legs.first().map(|leg| leg.party.device.clone().unwrap_or_else(|| leg.party.address.clone()));
        let (Some(leg), Some(address)) = (hunt(legs), address) else {
            return Err(DialRefused::Failed(Cause::local(Reason::Unavailable)));
        };
        let name = dialling.name.unwrap_or_else(|| shown(&dialling.destination));
        let who = Invited {
            role: dialling.role,
            keeps: dialling.keeps,
            keys: dialling.keys,
            name,
            streams: dialling.streams,
            rings: self.0.rules.load().0.ring_timeout,
            referred: match whose {
                Whose::Referred(_, seat) => Some(Referred { seat, rule: rule.clone() }),
                Whose::Asked | Whose::Listed => None,
            },
        };
        let ((done, over), (reply, told)) = (oneshot::channel(), oneshot::channel());
        if !self.0.rooms.open_and_tell(service, Command::Invite { leg, who, view, done, reply }) {
            return Err(DialRefused::Busy);
        }
        let uuid = told.await.map_err(|_| DialRefused::Busy)??;
        Ok(Placed { uuid, rule, address, over })
    }

    /// Legs to all `targets`, of which one will do.
    fn begin(
        &self,
        service: &Service,
        dialling: &Dialling,
        way: Way,
        targets: &[Address],
        rule: Option<&str>,
        placing: &Placing,
    ) -> Result<Vec<Leg>, DialRefused> {
        let from = Caller {
            address: address_of(service),
            name: dialling.caller.clone().unwrap_or_else(|| service.name.clone()),
            hops: placing.hops(),
            venue: Some(Venue {
                service: service.name.clone(),
                alias: address_of(service),
                kind: service.kind.type_word(),
            }),
        };
        let mut offer = offer_for(None);
        offer.media.retain(|line| !dialling.audio_only || line.role == MediaKind::Audio);
        let mut legs = Vec::with_capacity(targets.len());
        let mut refused = DialRefused::Failed(Cause::local(Reason::Unavailable));
        for target in targets {
            let Some(protocol) = self.protocol(&target.uri) else {
                refused = DialRefused::NoLegs(Way::of(&target.uri));
                continue;
            };
            // A device is called by what it has registered with, whatever was asked for.
            let meant = |scheme| protocol.schemes().contains(&scheme) || target.device.is_some();
            if !way.scheme().is_none_or(meant) {
                refused = DialRefused::OtherWay { rule: rule.unwrap_or_default().to_owned(), way };
                continue;
            }
            match protocol.dial(target, &from, offer.clone(), None) {
                Ok(leg) => {
                    self.0.traces.join(placing.call(), &leg);
                    legs.push(placing.follow(leg, target, &from, &offer, None));
                }
                Err(cause) => refused = DialRefused::Failed(cause),
            }
        }
        if legs.is_empty() { Err(refused) } else { Ok(legs) }
    }
}

/// Calls those whom the services of `conferences` list, as these begin.
pub(super) async fn lists(exchange: Weak<Inner>, mut conferences: mpsc::Receiver<Arc<Service>>) {
    while let Some(service) = conferences.recv().await {
        for automatic in &service.dials {
            let Some(exchange) = exchange.upgrade().map(Exchange) else { return };
            // Why one is not called is in the log and on record; the others are.
            let _ = exchange.dial_and_record(&service, automatic.dialling(), Whose::Listed).await;
        }
    }
}

/// The conference as a caller: the address is what `from` of a rule is held against.
fn of_conference(service: &Service, dialling: &Dialling) -> Party {
    Party {
        protocol: "conference",
        origin: Origin::Incoming,
        address: address_of(service),
        name: service.name.clone(),
        called: dialling.destination.clone(),
        uri: None,
        device: None,
        trunk: None,
        signalling: None,
        transport: "",
        hops: HOPS,
    }
}

/// The first alias of a service.
fn address_of(service: &Service) -> String {
    service.aliases.first().map(ToString::to_string).unwrap_or_default()
}

/// A destination as a name: without its scheme and parameters.
fn shown(destination: &str) -> String {
    crate::alias::Alias::with_host(destination).map_or_else(|_| destination.to_owned(), |it| it.to_string())
}
