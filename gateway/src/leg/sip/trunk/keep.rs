//! Keeps a trunk: asks whether it is there, and registers at it.
//!
//! One task for each trunk, so that the slow name of one keeps no other waiting. The machine does the
//! SIP; what it tells comes here by the door.

use std::sync::Arc;
use std::time::Duration;

use crosspoint_proto::Instant;
use crosspoint_proto::sip::{Command, Event, NameAddr, PingId, Registration, RegistrationId, SipUri, Uri};
use rand_chacha::ChaCha12Rng;
use tokio::sync::mpsc;

use super::watch::{Reach, Watch};
use super::{Line, NowFn, TrunkRegistration, account, host, proxy};
use crate::config::Listen;
use crate::events::{Events, What};
use crate::leg::sip::hop::{Hop, Network};
use crate::leg::sip::locate::{self, locate};

/// What the machine tells of one trunk, waiting for its task. Overflow: the newest is left out, for the
/// next question tells the same.
pub(super) const INBOX: usize = 16;

/// A name that has no address is asked for again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A registrar that has refused for good is asked again after this: somebody may have put right there
/// what was wrong, and nobody should have to tell us.
const REFUSED_AGAIN: Duration = Duration::from_secs(300);

/// Bits of a ping's number that count the questions; the others name the trunk.
const QUESTION: u32 = 48;

/// What a trunk's task needs.
pub(super) struct Means {
    pub(super) machine: mpsc::Sender<Command>,
    pub(super) network: Arc<dyn Network>,
    pub(super) listening: Vec<Listen>,
    pub(super) rng: ChaCha12Rng,
    pub(super) events: Events,
    pub(super) now: NowFn,
}

/// Told to a trunk's task.
pub(super) enum Told {
    /// By the machine.
    Event(Event),
    /// The gateway stops: say goodbye.
    Leave,
}

/// The trunk that an event of the machine is about.
pub(super) fn trunk_of(event: &Event) -> Option<usize> {
    let number = match event {
        Event::Pong { ping, .. } => ping.0 >> QUESTION,
        Event::Registered { registration, .. }
        | Event::RegistrationFailed { registration, .. }
        | Event::Unregistered { registration } => registration.0,
        _ => return None,
    };
    usize::try_from(number).ok()
}

/// Where its registration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The machine has none.
    None,
    /// It sees to one.
    Kept,
    /// It takes one back; another follows if the flag says so.
    Leaving { again: bool },
}

/// Keeps the trunk of that number until it is told to leave.
pub(super) async fn keep(number: usize, line: Arc<Line>, means: Means, mut inbox: mpsc::Receiver<Told>) {
    let Some(uri) = host(&line.config.host).map(|host| SipUri::new(None, host, line.config.host.port)) else {
        return;
    };
    let hop = Hop::of(&uri, None, Some(&proxy(&line.config)));
    let every = line.config.keep_alive;
    let now = (means.now)().mono;
    let watch = (!every.is_zero()).then(|| Watch::new(every, now));
    let number = u64::try_from(number).unwrap_or_default();
    let mut keeper = Keeper {
        number,
        line,
        means,
        hop,
        at: None,
        look: now,
        watch,
        place: Place::None,
        register: Some(now),
    };
    let mut leaving = false;
    while keeper.place != Place::None || !leaving {
        let wait = keeper.deadline().map(|at| at.saturating_since(keeper.now()));
        let told = tokio::select! {
            told = inbox.recv() => told,
            () = sleep(wait) => {
                keeper.timeout().await;
                continue;
            }
        };
        match told {
            Some(Told::Event(event)) => keeper.told(event).await,
            Some(Told::Leave) => {
                leaving = true;
                keeper.watch = None;
                keeper.leave(false).await;
            }
            None => return,
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

struct Keeper {
    number: u64,
    line: Arc<Line>,
    means: Means,
    hop: Hop,
    /// Where it is, as far as its name tells.
    at: Option<locate::Place>,
    /// When its name is to be looked up, while it has no address.
    look: Instant,
    watch: Option<Watch>,
    place: Place,
    /// When to begin to register, while the machine does not see to it.
    register: Option<Instant>,
}

impl Keeper {
    fn deadline(&self) -> Option<Instant> {
        if self.at.is_none() {
            return Some(self.look);
        }
        let register = self.register.filter(|_| self.registers() && self.place == Place::None);
        self.watch.as_ref().map(Watch::deadline).into_iter().chain(register).min()
    }

    fn registers(&self) -> bool {
        self.line.config.registration.is_some()
    }

    async fn timeout(&mut self) {
        let now = self.now();
        if self.at.is_none() && self.look <= now {
            self.look_up(now).await;
        }
        let Some(at) = self.at.clone() else { return };
        if self.place == Place::None && self.register.is_some_and(|at| at <= now) {
            self.register(&at).await;
        }
        let Some(watch) = &mut self.watch else { return };
        let before = watch.reach();
        let question = watch.timeout(now);
        let after = watch.reach();
        self.changed(before, after).await;
        let Some(question) = question else { return };
        if after == Reach::Down {
            // Its name may lead elsewhere by now.
            self.look_up(now).await;
        }
        let Some(at) = &self.at else { return };
        let destination = at.destination();
        let target =
            host(&self.line.config.host).map(|host| SipUri::new(None, host, self.line.config.host.port));
        let Some(target) = target else { return };
        let ping = PingId(self.number << QUESTION | question);
        self.send(Command::Ping { ping, target: Uri::Sip(target), destination }).await;
    }

    async fn look_up(&mut self, now: Instant) {
        let Means { network, listening, rng, .. } = &mut self.means;
        let until = tokio::time::Instant::now() + locate::PATIENCE;
        match locate(&self.hop, &**network, listening, until, rng).await {
            Ok(places) => {
                // Where it did not answer is tried again when the others have been.
                let tried = self.at.as_ref().and_then(|at| places.iter().position(|it| it == at));
                let next = tried.map_or(0, |tried| (tried + 1) % places.len());
                let Some(at) = places.get(next).cloned() else { return };
                let address = at.address;
                let moved = self.at.replace(at).is_some_and(|before| before.address != address);
                self.line.live().address = Some(address);
                if moved && self.leave(true).await {
                    tracing::info!(trunk = self.line.config.name, %address, "a trunk has another address");
                }
            }
            Err(_) if self.at.is_none() => {
                self.look = now + LOOK_AGAIN;
                let before = self.line.live().reach;
                if self.watch.is_some() {
                    self.changed(before, Reach::Down).await;
                }
            }
            // The old one is tried for as long as there is none other.
            Err(_) => {}
        }
    }

    async fn told(&mut self, event: Event) {
        match event {
            Event::Pong { ping, status } => {
                let Some(watch) = &mut self.watch else { return };
                let before = watch.reach();
                watch.answered(ping.0 & ((1 << QUESTION) - 1), status);
                let after = watch.reach();
                self.changed(before, after).await;
            }
            Event::Registered { expires, service_route, .. } => {
                let until = self.now() + expires;
                let before = {
                    let mut live = self.line.live();
                    live.service_route = service_route;
                    std::mem::replace(&mut live.registration, TrunkRegistration::Until(until))
                };
                if !matches!(before, TrunkRegistration::Until(_)) {
                    tracing::info!(trunk = self.line.config.name, "registered at a trunk");
                    self.tell(What::TrunkRegistered { trunk: self.line.config.name.clone() });
                }
            }
            Event::RegistrationFailed { status, retry, .. } => {
                if retry.is_none() {
                    self.place = Place::None;
                    self.register = Some(self.now() + REFUSED_AGAIN);
                }
                let before = {
                    let mut live = self.line.live();
                    live.service_route.clear();
                    std::mem::replace(&mut live.registration, TrunkRegistration::Failed(status))
                };
                if before != TrunkRegistration::Failed(status) {
                    tracing::warn!(trunk = self.line.config.name, status, "not registered at a trunk");
                    let trunk = self.line.config.name.clone();
                    self.tell(What::TrunkRegistrationFailed { trunk, status });
                }
            }
            Event::Unregistered { .. } => {
                let again = self.place == Place::Leaving { again: true };
                self.place = Place::None;
                self.register = again.then(|| self.now());
                let mut live = self.line.live();
                live.registration = TrunkRegistration::No;
                live.service_route.clear();
            }
            _ => {}
        }
    }

    /// A trunk that comes back may have forgotten us: it is told at once that we are here.
    async fn changed(&self, before: Reach, after: Reach) {
        if before == after {
            return;
        }
        let name = &self.line.config.name;
        self.line.live().reach = after;
        match after {
            Reach::Down => tracing::warn!(trunk = name, "a trunk does not answer"),
            _ => tracing::info!(trunk = name, "a trunk answers"),
        }
        self.tell(What::TrunkChanged { trunk: name.clone(), state: after.word() });
        if before == Reach::Down && self.place == Place::Kept {
            self.line.live().registration = TrunkRegistration::No;
            self.send(Command::Refresh { registration: RegistrationId(self.number) }).await;
        }
    }

    async fn register(&mut self, at: &locate::Place) {
        let config = self.line.config.clone();
        let Some(registration) = &config.registration else { return };
        let Some(domain) = super::home(&config) else { return };
        let aor = SipUri::new(Some(&registration.user), domain.clone(), None);
        let command = Command::Register(Box::new(Registration {
            registration: RegistrationId(self.number),
            registrar: Uri::Sip(SipUri::new(None, domain, None)),
            destination: at.destination(),
            aor: NameAddr::new(aor),
            expires: registration.expires,
            account: config.credentials.as_ref().map(|it| account(it, vec![at.address.ip()])),
        }));
        self.place = Place::Kept;
        self.register = None;
        self.send(command).await;
    }

    /// Takes the registration back; whether there is one.
    async fn leave(&mut self, again: bool) -> bool {
        self.register = self.register.filter(|_| again);
        if self.place == Place::None {
            return false;
        }
        let first = self.place == Place::Kept;
        self.place = Place::Leaving { again };
        if first {
            self.send(Command::Unregister { registration: RegistrationId(self.number) }).await;
        }
        true
    }

    fn now(&self) -> Instant {
        (self.means.now)().mono
    }

    async fn send(&self, command: Command) {
        // A machine that is gone has nobody to keep.
        let _ = self.means.machine.send(command).await;
    }

    fn tell(&self, what: What) {
        self.means.events.tell((self.means.now)().wall, what);
    }
}
