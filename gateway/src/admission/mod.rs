//! The front door for SIP: who may register, who may call, what stays outside.
//!
//! One task reads the machine's events. Calls that stand are handed to their legs at once; a new
//! call or registration is proved first, by digest, and the answer to a caller who is unknown
//! costs the same work and says the same as to one whose password is wrong.

mod directory;
mod register;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crosspoint_proto::Now;
use crosspoint_proto::sip::auth::{Algorithm, Ha1, Secret, Verdict, Verifier};
use crosspoint_proto::sip::{By, CallId, Command, Event, Incoming, Name, Request, RequestId, Source};
use tokio::sync::mpsc;

use self::directory::Known;
pub use self::directory::SwitchDirectory;
use self::register::{Admitted, Answer};
use crate::alias::Alias;
use crate::conference::Exchange;
use crate::config::Protocol;
use crate::guard::{Gate, Porter};
use crate::leg::Proven;
use crate::leg::connect::ConnectLegs;
use crate::leg::sip::{SipLegs, Trunks, dialled};
use crate::net::clock::Clock;
use crate::registrar::{Device, Registrar};
use crate::routing::{Refused, Routing};
use crate::services::Services;

/// What a restart takes, once the calls of before are over.
const RESTART: Duration = Duration::from_secs(5);

/// Counts answers to REGISTER by a word.
pub struct CountRegister(pub Box<dyn Fn(&'static str) + Send + Sync>);

impl fmt::Debug for CountRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountRegister(..)")
    }
}

/// What the door needs.
#[derive(Debug)]
pub struct SipDoor {
    /// Calls that are let in become legs here.
    pub legs: SipLegs,
    /// And go there.
    pub exchange: Exchange,
    /// Who may register.
    pub registrar: Registrar,
    /// Who has by HTTP.
    pub clients: ConnectLegs,
    /// Who is known by where he calls from.
    pub trunks: Trunks,
    /// What can be entered.
    pub services: Services,
    /// Where calls may go.
    pub routing: Arc<Routing>,
    /// Commands to the machine.
    pub machine: mpsc::Sender<Command>,
    /// Checks digests.
    pub verifier: Mutex<Verifier>,
    /// Told of every REGISTER: "accepted", "challenged" or "refused".
    pub count_register: CountRegister,
    /// What this moment is.
    pub clock: Clock,
    /// Counts who tries passwords.
    pub porter: Porter,
    /// Told of who is refused and of who has proved himself.
    pub gate: Gate,
    /// Where the calls that came in came from. As many as the machine has calls.
    pub callers: Mutex<HashMap<CallId, Source>>,
}

impl SipDoor {
    /// Serves until the machine's events end.
    pub async fn serve(self: Arc<Self>, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Incoming(incoming) => {
                    self.callers().insert(incoming.call, incoming.source.clone());
                    self.call(*incoming).await;
                }
                Event::Request { request, message, source } => match self.admit(&message, &source) {
                    // The store answers when it has written: others need not wait for that.
                    Ok(admitted) => {
                        tokio::spawn(Box::pin(self.clone().register(request, admitted, source)));
                    }
                    Err(answer) => self.answer(request, answer, &source).await,
                },
                Event::FlowClosed { flow } => self.registrar.flow_closed(flow),
                event @ (Event::Pong { .. }
                | Event::Registered { .. }
                | Event::RegistrationFailed { .. }
                | Event::Unregistered { .. }) => self.trunks.deliver(event),
                event => {
                    self.count(&event);
                    self.legs.deliver(event);
                }
            }
        }
        // A leg that was told to hang up waits for the machine's answer, which never comes now.
        self.legs.abandon();
    }

    /// Tells the gate what became of a caller.
    fn count(&self, event: &Event) {
        match event {
            // Our tag is in it: he has heard our answer where he says he is.
            Event::Acked { call, .. } => {
                if let Some(source) = self.callers().get(call) {
                    self.gate.answers(source.transport.is_stream(), source.remote);
                }
            }
            Event::Ended { call, ending } => {
                let source = self.callers().remove(call);
                let refused = ending.by == By::Us && ending.status.is_some_and(is_refusal);
                if let Some(source) = source.filter(|_| refused) {
                    self.gate.refused(source.transport.is_stream(), source.remote);
                }
            }
            _ => {}
        }
    }

    fn callers(&self) -> std::sync::MutexGuard<'_, HashMap<CallId, Source>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call(&self, incoming: Incoming) {
        // Whatever we do with it is one more hop (RFC 3261 section 16.3, step 3).
        if incoming.request.headers.max_forwards() == Some(0) {
            return self.reject(incoming.call, 483, Vec::new()).await;
        }
        // Before any proof: elsewhere, or a little later, the call gets through (RFC 3261 section 21.5.4).
        if let Some(until) = self.exchange.ending() {
            let after = (until.saturating_since(self.clock.now()) + RESTART).as_secs().to_string();
            return self.reject(incoming.call, 503, vec![("Retry-After".to_owned(), after)]).await;
        }
        let now = self.clock.both();
        let claimed = incoming.request.headers.from().map(|from| from.uri.alias()).unwrap_or_default();
        let (verdict, device) = self.prove(now, &claimed, &incoming.request, &incoming.source);
        let claims_device =
            self.routing.alias(&claimed).is_ok_and(|alias| self.registrar.device(&alias).is_some());
        // Who says that he is a device of ours must prove it, wherever he calls from.
        let trunk = self.trunks.of_source(&incoming.source).filter(|_| !claims_device && device.is_none());
        if trunk.is_some() && incoming.source.transport.is_stream() {
            // A connection is where it says; by datagrams the ACK shows that.
            self.gate.answers(true, incoming.source.remote);
        }
        let must_prove = match (&verdict, &device) {
            (Verdict::Accepted { .. }, Some(_)) => false,
            (Verdict::Missing, _) if trunk.is_some() => false,
            // Wrong credentials are never taken for none.
            (Verdict::Stale | Verdict::Refused | Verdict::Accepted { .. }, _) => true,
            (Verdict::Missing, _) => claims_device || self.would_need_proof(&claimed, &incoming),
        };
        if must_prove {
            if verdict == Verdict::Refused {
                let source = incoming.source.remote;
                if let Some(others) = self.porter.logs(Some(source.ip())) {
                    tracing::warn!(%source, others, "a call with wrong credentials was refused");
                }
            }
            let (from, stale) = (incoming.source.remote.ip(), verdict == Verdict::Stale);
            let headers = self.challenges(now, from, stale, &claimed);
            return self.reject(incoming.call, 401, headers).await;
        }
        let proven = match (device, trunk) {
            (Some(device), _) => Some(Proven::Device(device.alias.to_string())),
            (None, trunk) => trunk.map(|trunk| Proven::Trunk(trunk.name.clone())),
        };
        // Never a call like others: whoever is on the other end of that dialog would be rung once more.
        let place = incoming.replaced.map(|it| self.legs.replaceable(proven.as_ref(), it));
        let place = match place.transpose() {
            Ok(place) => place,
            Err(status) => return self.reject(incoming.call, status, Vec::new()).await,
        };
        let referred_by = incoming.referred_by.as_ref().map(|by| by.uri.to_string());
        let Some(leg) = self.legs.incoming(incoming, proven) else { return };
        match place {
            Some(old) => self.exchange.replace(leg, old, referred_by),
            None => self.exchange.accept(leg),
        }
    }

    async fn register(self: Arc<Self>, request: RequestId, admitted: Admitted, source: Source) {
        let answer = self.store(admitted).await;
        self.answer(request, answer, &source).await;
    }

    async fn answer(&self, request: RequestId, answer: Answer, source: &Source) {
        if is_refusal(answer.status) {
            self.gate.refused(source.transport.is_stream(), source.remote);
        }
        (self.count_register.0)(match answer.status {
            200 => "accepted",
            401 => "challenged",
            _ => "refused",
        });
        let respond = Command::Respond {
            request,
            status: answer.status,
            phrase: String::new(),
            headers: answer.headers,
            body: None,
        };
        let _ = self.machine.send(respond).await;
    }

    /// Checks whether a request comes from the device `claimed`: alias, user name and password
    /// must be those of one entry (S50).
    fn prove(
        &self,
        now: Now,
        claimed: &str,
        request: &Request,
        source: &Source,
    ) -> (Verdict, Option<Arc<Device>>) {
        let alias = self.routing.alias(claimed).ok();
        let device = alias.as_ref().and_then(|alias| self.registrar.device(alias));
        let (from, header) = (source.remote.ip(), Name::Authorization);
        let verdict = self.verifier().authenticate(now, from, request, &header, |username| {
            device.as_deref().filter(|device| device.username == username).and_then(secret)
        });
        let right = matches!(verdict, Verdict::Accepted { .. });
        // Who has not seen our challenge may be elsewhere, and would have somebody else kept out.
        let tried = right || verdict == Verdict::Refused && self.verifier().is_answer(from, request, &header);
        let read = |alias| self.porter.password(Some(from), alias, || right.then_some(()));
        let verdict = match &alias {
            Some(alias) if tried && read(alias).is_none() => Verdict::Refused,
            _ => verdict,
        };
        let device = device.filter(|_| matches!(verdict, Verdict::Accepted { .. }));
        if device.is_some() {
            self.gate.proved(source.transport.is_stream(), source.remote);
        }
        (verdict, device)
    }

    /// To who says that he is `claimed`: by the hashes that such a device has (RFC 8760 section 2.3).
    fn challenges(&self, now: Now, source: IpAddr, stale: bool, claimed: &str) -> Vec<(String, String)> {
        let alias = self.routing.alias(claimed).ok();
        let device = alias.as_ref().and_then(|alias| self.registrar.device(alias));
        // One name is one, however it is written.
        let name = alias.as_ref().map_or(claimed, Alias::as_str);
        let third = self.registrar.has_third_hash(name, device.as_deref());
        self.verifier()
            .challenges_in(now, source, stale, |algorithm| third || algorithm != Algorithm::Sha512_256)
            .into_iter()
            .map(|challenge| ("WWW-Authenticate".to_owned(), challenge.to_string()))
            .collect()
    }

    /// Whether the call would get through if the caller were somebody.
    fn would_need_proof(&self, claimed: &str, incoming: &Incoming) -> bool {
        let request = crate::routing::Request {
            called: &dialled(&incoming.request.uri),
            caller: claimed,
            device: None,
            trunk: None,
            protocol: Protocol::Sip,
            conference: false,
        };
        let known = Known {
            services: &self.services,
            registrar: &self.registrar,
            clients: &self.clients,
            trunks: &self.trunks,
            clock: self.clock,
        };
        matches!(self.routing.route(&request, &known).outcome, Err(Refused::Unauthenticated))
    }

    async fn reject(&self, call: CallId, status: u16, headers: Vec<(String, String)>) {
        let reject = Command::Reject { call, status, phrase: String::new(), reason: None, headers };
        let _ = self.machine.send(reject).await;
    }

    fn verifier(&self) -> std::sync::MutexGuard<'_, Verifier> {
        self.verifier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is said to who asks for what is not his or is not there; not to who calls somebody that is busy.
const fn is_refusal(status: u16) -> bool {
    matches!(status, 401 | 403 | 404 | 407 | 484)
}

/// What proves a device: its stored hashes.
fn secret(device: &Device) -> Option<Secret> {
    Some(Secret::Ha1(Ha1 {
        md5: unhex(device.md5.expose())?,
        sha256: unhex(device.sha256.expose())?,
        sha512_256: device.sha512_256.as_ref().and_then(|it| unhex(it.expose())),
    }))
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut octets = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (index, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(octets)
}
