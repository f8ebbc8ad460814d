//! What a conference tells its clients, written out once for all who are told it: with two hundred
//! participants each change would otherwise be written out two hundred times.
//!
//! ```text
//!  room ─ RoomView ─> one task for each conference ─ Edition ─> an event stream for each client,
//!       ─ Said ─────>                              ─ Line ────> which tells what is new to it
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::roster;
use crate::conference::policy::PartyId;
use crate::conference::room::{RoomView, Said};
use crate::conference::service::Service;

/// Messages that wait for a stream. Overflow: the stream is closed; its client opens another and is
/// told everything anew.
pub(super) const LINES: usize = 256;

/// The data of an event: JSON. Equal ones of one conference are mostly the same octets.
#[derive(Clone, Debug)]
pub(super) struct Data(Bytes);

impl Data {
    /// Every event has data that is JSON: clients pass over empty ones.
    pub(super) const NULL: Self = Self(Bytes::from_static(b"null"));

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The same as `before` if it says the same.
    fn or(self, before: Option<&Self>) -> Self {
        before.filter(|before| **before == self).cloned().unwrap_or(self)
    }
}

impl From<Value> for Data {
    fn from(value: Value) -> Self {
        Self(value.to_string().into())
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        let same = self.0.as_ptr() == other.0.as_ptr() && self.0.len() == other.0.len();
        same || self.0 == other.0
    }
}

/// The stage where nobody is seen.
pub(super) static EMPTY_STAGE: Data = Data(Bytes::from_static(b"[]"));

/// A conference at some moment, as its clients are told of it.
#[derive(Debug)]
pub(super) struct Edition {
    pub(super) view: RoomView,
    pub(super) conference: Data,
    pub(super) layout: Data,
    /// The same with nobody in it.
    pub(super) empty_layout: Data,
    pub(super) stage: Data,
    participants: HashMap<PartyId, Data>,
}

impl Edition {
    /// What `view` says, after `before`.
    pub(super) fn new(service: &Service, view: RoomView, before: Option<&Self>) -> Self {
        let participants = view.parties.iter().map(|it| {
            let data = Data::from(roster::participant(service, it));
            (it.id, data.or(before.and_then(|before| before.participants.get(&it.id))))
        });
        Self {
            conference: Data::from(roster::conference(service, &view)).or(before.map(|it| &it.conference)),
            layout: Data::from(roster::layout(&view, &view.stage)).or(before.map(|it| &it.layout)),
            empty_layout: Data::from(roster::layout(&view, &[])).or(before.map(|it| &it.empty_layout)),
            stage: Data::from(roster::stage(&view)).or(before.map(|it| &it.stage)),
            participants: participants.collect(),
            view,
        }
    }

    /// Somebody, in full.
    pub(super) fn participant(&self, id: PartyId) -> Data {
        self.participants.get(&id).cloned().unwrap_or(Data::NULL)
    }
}

/// Something that was written, for all who are told it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) from: PartyId,
    /// If not to all.
    pub(super) to: Option<PartyId>,
    pub(super) data: Data,
}

impl From<Said> for Line {
    fn from(said: Said) -> Self {
        let data = json!({
            "origin": said.name,
            "uuid": said.uuid.to_string(),
            "type": said.kind,
            "payload": said.text,
            "direct": said.to.is_some(),
        });
        Self { from: said.from, to: said.to, data: data.into() }
    }
}

/// What one stream reads.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) editions: watch::Receiver<Arc<Edition>>,
    pub(super) lines: broadcast::Receiver<Arc<Line>>,
}

/// The conferences that somebody reads of. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Press(Arc<Mutex<HashMap<String, Running>>>);

#[derive(Debug)]
struct Running {
    /// A conference that has ended may have a successor of the same name.
    view: watch::Receiver<RoomView>,
    out: Weak<Out>,
}

/// The writing end. It is the task's alone: when that ends, streams see it.
#[derive(Debug)]
struct Out {
    editions: watch::Sender<Arc<Edition>>,
    lines: broadcast::Sender<Arc<Line>>,
}

impl Out {
    fn subscribe(&self) -> Subscription {
        Subscription { editions: self.editions.subscribe(), lines: self.lines.subscribe() }
    }
}

impl Press {
    /// Subscribes to the conference of `service` that `view` and `said` are of.
    pub(super) fn subscribe(
        &self,
        service: &Arc<Service>,
        view: &watch::Receiver<RoomView>,
        said: &broadcast::Receiver<Said>,
    ) -> Subscription {
        let mut running = self.running();
        let same = running.get(&service.name).filter(|it| it.view.same_channel(view));
        if let Some(out) = same.and_then(|it| it.out.upgrade()) {
            return out.subscribe();
        }
        let mut view = view.clone();
        let first = Edition::new(service, view.borrow_and_update().clone(), None);
        let out =
            Arc::new(Out { editions: watch::channel(Arc::new(first)).0, lines: broadcast::channel(LINES).0 });
        let subscription = out.subscribe();
        running.insert(service.name.clone(), Running { view: view.clone(), out: Arc::downgrade(&out) });
        drop(running);
        tokio::spawn(self.clone().print(service.clone(), view, said.resubscribe(), out));
        subscription
    }

    /// Writes for as long as somebody reads, and the conference goes on.
    async fn print(
        self,
        service: Arc<Service>,
        mut view: watch::Receiver<RoomView>,
        mut said: broadcast::Receiver<Said>,
        out: Arc<Out>,
    ) {
        let mut talks = true;
        loop {
            tokio::select! {
                changed = view.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let now = view.borrow_and_update().clone();
                    let before = out.editions.borrow().clone();
                    out.editions.send_replace(Arc::new(Edition::new(&service, now, Some(&before))));
                }
                said = said.recv(), if talks => match said {
                    // Nobody may read at the moment.
                    Ok(said) => drop(out.lines.send(Arc::new(said.into()))),
                    // What was lost here is lost: rooms do not wait.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => talks = false,
                },
                () = out.editions.closed() => {
                    // Subscriptions are made under the same lock: nobody comes in between.
                    let mut running = self.running();
                    if out.editions.receiver_count() == 0 {
                        Self::forget(&mut running, &service.name, &view);
                        return;
                    }
                }
            }
        }
        Self::forget(&mut self.running(), &service.name, &view);
    }

    fn forget(running: &mut HashMap<String, Running>, name: &str, view: &watch::Receiver<RoomView>) {
        if running.get(name).is_some_and(|it| it.view.same_channel(view)) {
            running.remove(name);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
