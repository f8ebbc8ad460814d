//! The rooms that are in progress: made when the first leg comes, gone with the last.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use crosspoint_codecs::format::Capabilities;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::hand_over::{Handed, Told};
use super::sight::{Artist, Painter};
use super::{At, COMMANDS, CONTROL, Command, EVENTS, Joined, PartyView, Room, RoomView, Seat, Wish};
use crate::cause::Reason;
use crate::conference::call::{CallView, Outcome, stopped, until};
use crate::conference::engaged::quietest;
use crate::conference::ledger::{Found, Ledger};
use crate::conference::policy::PartyId;
use crate::conference::prompts::Voice;
use crate::conference::service::{Kind, Service, is_decoy};
use crate::events::{Events, What};
use crate::guard::Porter;
use crate::leg::{Leg, LegId, LegStream, Referral};
use crate::media::EngineHandle;

/// How long a room may take to say goodbye: SIP's timer F (RFC 3261 section 17.1.2.2) is 32 s, after
/// which a leg gives up by itself.
const GOODBYE: Duration = Duration::from_secs(35);

/// What rooms are made of.
pub struct RoomsParts {
    /// What mixes and composes; at least one.
    pub engines: Vec<EngineHandle>,
    /// A folder of fonts for names, beside those that are built in.
    pub fonts: Option<PathBuf>,
    /// Stands at the doors; what he is told, and which conferences begin and end, are events (S77).
    pub porter: Porter,
    /// What speaks to people.
    pub voice: Voice,
}

/// The rooms of one gateway. Clones share them.
#[derive(Clone)]
pub struct Rooms(Arc<Inner>);

struct Inner {
    engines: Vec<EngineHandle>,
    porter: Porter,
    voice: Voice,
    /// Where conferences are written down, if anywhere.
    ledger: ArcSwapOption<Ledger>,
    artist: Arc<dyn Artist>,
    /// Buses and views, over all engines.
    numbers: Arc<AtomicU64>,
    /// By the name of the service.
    live: Mutex<HashMap<String, Live>>,
    stop: watch::Receiver<Option<Reason>>,
    /// Where rooms live. Who has one begin may be a task of signalling, which is not to wait for a roster
    /// that goes to hundreds.
    runtime: Handle,
    /// Told of each conference that begins.
    begun: OnceLock<mpsc::Sender<Arc<Service>>>,
    /// Told of those who send conferences on.
    wishes: OnceLock<mpsc::Sender<Wish>>,
}

struct Live {
    service: Arc<Service>,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<RoomView>,
}

impl Rooms {
    /// No room yet; they live in the current tokio runtime. `stop` ends all of them from outside.
    pub fn new(parts: RoomsParts, stop: watch::Receiver<Option<Reason>>) -> Self {
        let artist = Arc::new(Painter::new(parts.fonts.clone()));
        Self::drawn_by(artist, parts, stop)
    }

    /// The same, with pictures by `artist`.
    pub(super) fn drawn_by(
        artist: Arc<dyn Artist>,
        parts: RoomsParts,
        stop: watch::Receiver<Option<Reason>>,
    ) -> Self {
        let RoomsParts { engines, voice, porter, .. } = parts;
        for engine in &engines {
            if let Err(fault) = voice.install(engine) {
                tracing::error!(%fault, "prompts cannot be played");
            }
        }
        Self(Arc::new(Inner {
            engines,
            porter,
            voice,
            ledger: ArcSwapOption::empty(),
            artist,
            numbers: Arc::default(),
            live: Mutex::default(),
            stop,
            runtime: Handle::current(),
            begun: OnceLock::new(),
            wishes: OnceLock::new(),
        }))
    }

    /// `begun` is told of each conference as somebody is in. Who is told does not keep up: then one is
    /// left out and logged.
    pub(in crate::conference) fn tell_of_begun(&self, begun: mpsc::Sender<Arc<Service>>) {
        // There is one exchange.
        let _ = self.0.begun.set(begun);
    }

    /// `wishes` is told of who sends a conference on by his telephone. One that does not fit is refused.
    pub(in crate::conference) fn tell_of_wishes(&self, wishes: mpsc::Sender<Wish>) {
        // There is one exchange.
        let _ = self.0.wishes.set(wishes);
    }

    /// The conference of `service` takes `leg` over. The receiver is told when the leg is over; it is
    /// dropped without a word when the room has too much to do. `offered` is what the leg came with.
    pub fn enter(
        &self,
        service: &Arc<Service>,
        leg: Leg,
        offered: Option<Capabilities>,
        view: watch::Sender<CallView>,
    ) -> oneshot::Receiver<Outcome> {
        let (done, over) = oneshot::channel();
        let mut live = self.live();
        let room = live.entry(service.name.clone()).or_insert_with(|| self.open(service, write_down));
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) =
            room.commands.try_send(Command::Enter { leg, offered, view, done })
        {
            tracing::warn!(service = service.name, "a conference does not keep up");
        }
        over
    }

    /// The same for one who has talked to somebody else so far: `leg` is answered and has `streams`. He comes
    /// to the door, or takes the `seat` of somebody.
    pub(in crate::conference) fn take_in(
        &self,
        service: &Arc<Service>,
        leg: Leg,
        streams: Vec<LegStream>,
        seat: Option<Seat>,
        view: watch::Sender<CallView>,
    ) -> oneshot::Receiver<Outcome> {
        let (done, over) = oneshot::channel();
        if !self.open_and_tell(service, Command::TakeIn { leg, streams, seat, view, done }) {
            tracing::warn!(service = service.name, "a conference does not keep up");
            // Who wanted him there is told so, and stays.
            if let Some(Seat { of, .. }) = seat {
                self.referral(&service.name, of, Referral::Failed(Reason::Congestion));
            }
        }
        over
    }

    /// Tells the conference of a service something; false when there is none, or it does not keep up.
    pub fn tell(&self, service: &str, command: Command) -> bool {
        self.live().get(service).is_some_and(|room| room.commands.try_send(command).is_ok())
    }

    /// The same, and begins a conference if there is none; false when it does not keep up.
    pub fn open_and_tell(&self, service: &Arc<Service>, command: Command) -> bool {
        let mut live = self.live();
        let room = live.entry(service.name.clone()).or_insert_with(|| self.open(service, write_down));
        room.commands.try_send(command).is_ok()
    }

    /// Somebody who has no leg leaves the conference of a service. That is never lost, or he would be there
    /// for ever: where the room does not keep up it waits, once for each who leaves.
    pub fn leave(&self, service: &str, id: PartyId) {
        self.tell_surely(service, Command::Leave(id));
    }

    /// What becomes of a wish. Never lost either: it is waited for; once for each who wished.
    pub(in crate::conference) fn referral(&self, service: &str, id: PartyId, referral: Referral) {
        self.tell_surely(service, Command::Referral(id, referral));
    }

    fn tell_surely(&self, service: &str, command: Command) {
        let Some(room) = self.live().get(service).map(|room| room.commands.clone()) else { return };
        if let Err(TrySendError::Full(command)) = room.try_send(command) {
            tokio::spawn(async move { room.send(command).await });
        }
    }

    /// The party of that leg, and the conference that it is in.
    pub(in crate::conference) fn with_leg(&self, leg: LegId) -> Option<(Arc<Service>, bool, PartyView)> {
        let live = self.live();
        live.values().find_map(|room| {
            let view = room.view.borrow();
            let party = view.parties.iter().find(|it| it.leg.is(leg) && !it.control_only)?;
            Some((room.service.clone(), view.locked, party.clone()))
        })
    }

    /// Whether somebody is in the conference of a service.
    pub(in crate::conference) fn is_on(&self, service: &str) -> bool {
        let is_in = |it: &PartyView| it.at == At::In;
        self.live().get(service).is_some_and(|room| room.view.borrow().parties.iter().any(is_in))
    }

    /// The service of that name, while there is a conference of it.
    pub fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.live().get(name).map(|room| room.service.clone())
    }

    /// What goes on in the conference of a service; `None`: nothing.
    pub fn view(&self, service: &str) -> Option<RoomView> {
        self.live().get(service).map(|room| room.view.borrow().clone())
    }

    /// From now on conferences are written down there, so that they outlive a `kill -9`; until the gateway
    /// stops, for what ends as it should is not taken up again.
    pub fn keep_in(&self, ledger: Ledger) {
        self.0.ledger.store(Some(Arc::new(ledger)));
    }

    /// Where they are.
    pub fn ledger(&self) -> Option<Arc<Ledger>> {
        self.0.ledger.load_full()
    }

    /// A number for somebody who has no leg.
    pub fn number(&self) -> PartyId {
        PartyId(CONTROL | self.0.numbers.fetch_add(1, Ordering::Relaxed))
    }

    /// Goes on with a conference where another process left it; who is in it by the client API.
    pub fn take_up(&self, service: &Arc<Service>, found: Found) -> Vec<Joined> {
        let mut joined = Vec::new();
        let live = self.open(service, |room, ledger| {
            room.pages = ledger.map(|ledger| ledger.pages(Some(found.page.clone())));
            joined = room.take_up(found.page, found.stands);
        });
        self.live().insert(service.name.clone(), live);
        joined
    }

    /// Who stands at the doors.
    pub fn porter(&self) -> &Porter {
        &self.0.porter
    }

    /// What goes on, by service. Whoever has called what does not exist is in none of them.
    pub fn views(&self) -> Vec<(String, RoomView)> {
        // Views are long, and who comes waits for the list.
        let views: Vec<_> = {
            let live = self.live();
            let seen = live.iter().filter(|(name, _)| !is_decoy(name));
            seen.map(|(name, room)| (name.clone(), room.view.clone())).collect()
        };
        let mut views: Vec<(String, RoomView)> =
            views.into_iter().map(|(name, view)| (name, view.borrow().clone())).collect();
        views.sort_by(|one, other| one.0.cmp(&other.0));
        views
    }

    /// Where conferences and PINs are told of.
    pub fn events(&self) -> &Events {
        self.0.porter.events()
    }

    fn open(&self, service: &Arc<Service>, how: impl FnOnce(&mut Room, Option<&Ledger>)) -> Live {
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (told, events) = mpsc::channel(EVENTS);
        let (view, views) = watch::channel(RoomView::default());
        let (numbers, artist) = (self.0.numbers.clone(), self.0.artist.clone());
        // Neither a call between two nor what does not exist is a conference that goes on.
        let goes_on = service.kind != Kind::Gateway && !service.is_decoy();
        if goes_on {
            let conference = service.name.clone();
            self.events().tell(SystemTime::now(), What::ConferenceStarted { conference });
        }
        let porter = self.0.porter.clone();
        let engine = quietest(&self.0.engines);
        let mut room = Room::new(service.clone(), engine, porter, numbers, artist, told, view);
        room.voice = self.0.voice.clone();
        room.begun = self.0.begun.get().cloned();
        room.wishes = self.0.wishes.get().cloned();
        how(&mut room, self.ledger().filter(|_| goes_on).as_deref());
        let span = tracing::info_span!("conference", service = service.name);
        self.0.runtime.spawn(tracing::Instrument::instrument(self.clone().run(room, orders, events), span));
        Live { service: service.clone(), commands, view: views }
    }

    async fn run(
        self,
        mut room: Room,
        mut orders: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<(PartyId, Told)>,
    ) {
        let name = room.service.name.clone();
        let _fallen = Fallen { rooms: self.clone(), name: name.clone() };
        let mut stop = self.0.stop.clone();
        let mut goodbye: Option<Instant> = None;
        loop {
            // Legs come under the same lock, so none comes to a room that has just gone.
            if room.is_empty() && orders.is_empty() {
                let mut live = self.live();
                if orders.is_empty() {
                    live.remove(&name);
                    break;
                }
            }
            let tick = room.next_tick();
            tokio::select! {
                Some(command) = orders.recv() => room.command(command),
                Some((party, told)) = events.recv() => match told {
                    Told::Event(event) => room.event(party, event),
                    Told::Released(events) => {
                        if let Some(handed) = room.hand_over(party, events) {
                            self.pass_on(handed);
                        }
                    }
                },
                drawn = room.studio.drawn() => room.studio.hang(drawn),
                () = until(tick) => room.tick(),
                reason = stopped(&mut stop), if goodbye.is_none() => {
                    room.halt(reason);
                    self.0.ledger.store(None);
                    goodbye = Some(Instant::now() + GOODBYE);
                }
                () = until(goodbye), if goodbye.is_some() => {
                    self.live().remove(&name);
                    break;
                }
            }
        }
        if room.is_call() {
            return;
        }
        let seconds = room.began.elapsed().as_secs();
        if !is_decoy(&name) {
            self.events().tell(SystemTime::now(), What::ConferenceEnded { conference: name, seconds });
        }
    }

    /// To the conference that he goes to.
    fn pass_on(&self, handed: Handed) {
        let to = Arc::clone(handed.to());
        let mut live = self.live();
        let room = live.entry(to.name.clone()).or_insert_with(|| self.open(&to, write_down));
        let told = room.commands.try_send(Command::TakeOver(Box::new(handed)));
        drop(live);
        let (Err(TrySendError::Full(command)) | Err(TrySendError::Closed(command))) = told else { return };
        tracing::warn!(service = to.name, "a conference does not keep up");
        if let Command::TakeOver(handed) = command {
            tokio::spawn(tokio::time::timeout(GOODBYE, handed.give_up()));
        }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes with a room. A fault of ours ends that room alone, and who calls next opens another.
struct Fallen {
    rooms: Rooms,
    name: String,
}

impl Drop for Fallen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(conference = self.name, "a conference has failed");
            self.rooms.live().remove(&self.name);
        }
    }
}

/// A conference that begins is written down from the start.
fn write_down(room: &mut Room, ledger: Option<&Ledger>) {
    room.pages = ledger.map(|ledger| ledger.pages(None));
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").field("live", &self.live().len()).finish_non_exhaustive()
    }
}
