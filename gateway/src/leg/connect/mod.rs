//! Legs to clients that have registered by HTTP (S49 to S52). Such a leg only rings: a client that
//! takes the call comes into the conference by its own request, and the conference lets go of the leg.
//!
//! ```text
//!  dial() ─> the client's list of rings ─> its event stream
//!  hang-up, or the client has come ─> off the list
//!  the client rejects, or unregisters ─> Ended
//! ```

mod clients;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::Capabilities;
use tokio::sync::{mpsc, oneshot};

pub use self::clients::{CLIENTS_A_DEVICE, Full, RINGS, Registered, Ring, Rings};
use self::clients::{Table, Verdict};
use super::{Address, COMMANDS, Caller, EVENTS, Leg, LegCommand, LegEvent, LegId, Origin, Party, Protocol};
use crate::alias::Alias;
use crate::cause::{Cause, Reason};
use crate::ladder::Ladder;
use crate::uuid::Uuid;

/// The scheme of an address that is a registration: "connect:" and its number.
pub const SCHEME: &str = "connect";

/// The clients that are registered by HTTP, and the legs to them. Clones share them.
#[derive(Clone)]
pub struct ConnectLegs(Arc<Inner>);

struct Inner {
    table: Mutex<Table>,
    /// Numbers the legs of the whole gateway.
    next_leg: Arc<AtomicU64>,
}

impl ConnectLegs {
    /// Nobody yet, and at most `most` at a time. `next_leg` numbers the legs of the whole gateway.
    pub fn new(most: usize, next_leg: Arc<AtomicU64>) -> Self {
        Self(Arc::new(Inner { table: Mutex::new(Table::new(most)), next_leg }))
    }

    /// A client has registered.
    pub fn add(&self, now: Instant, client: Registered) -> Result<(), Full> {
        self.table().add(now, client)
    }

    /// A registration goes on until then; false when there is none.
    pub fn refresh(&self, alias: &Alias, uuid: Uuid, until: Instant) -> bool {
        self.table().refresh(alias, uuid, until)
    }

    /// A registration is over. Calls that ring there end as unavailable.
    pub fn remove(&self, alias: &Alias, uuid: Uuid) -> Option<Registered> {
        self.table().remove(alias, uuid)
    }

    /// The clients of a device, in the order in which they came.
    pub fn of(&self, alias: &Alias, now: Instant) -> Vec<Registered> {
        self.table().of(alias, now)
    }

    /// All of them, by device.
    pub fn all(&self, now: Instant) -> Vec<Registered> {
        self.table().all(now)
    }

    /// The calls that ring at a client, as they come and go; closed when its registration is over.
    pub fn rings(&self, alias: &Alias, uuid: Uuid) -> Option<Rings> {
        self.table().rings(alias, uuid)
    }

    /// Where a client is dialled.
    pub fn address(client: &Registered) -> Address {
        Address { device: Some(client.alias.to_string()), ..Address::at(format!("{SCHEME}:{}", client.uuid)) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol for ConnectLegs {
    fn schemes(&self) -> &'static [&'static str] {
        &[SCHEME]
    }

    fn needs_venue(&self) -> bool {
        true
    }

    fn dial(
        &self,
        to: &Address,
        from: &Caller,
        _: Capabilities,
        thread: Option<usize>,
    ) -> Result<Leg, Cause> {
        let uuid = to.uri.split_once(':').and_then(|(_, uuid)| Uuid::parse(uuid));
        let alias = to.device.as_deref().map(Alias::from_canonical);
        // Whoever dials it otherwise than by `address` has made a mistake.
        let (Some(uuid), Some(alias), Some(venue)) = (uuid, alias, from.venue.clone()) else {
            return Err(Cause::local(Reason::Internal));
        };
        let id = LegId(self.0.next_leg.fetch_add(1, Ordering::Relaxed));
        let (verdict, told) = oneshot::channel();
        let ring = Ring {
            leg: id,
            called: alias.to_string(),
            caller: from.clone(),
            venue,
            token: OnceLock::new(),
            verdict: Mutex::new(Some(verdict)),
        };
        let signalling = {
            let table = self.table();
            table.ring(&alias, uuid, Arc::new(ring)).map_err(Cause::remote)?;
            table.source(&alias, uuid)
        };
        let party = Party {
            protocol: "api",
            origin: Origin::Outgoing,
            address: alias.to_string(),
            name: String::new(),
            called: alias.to_string(),
            uri: None,
            device: Some(alias.to_string()),
            trunk: None,
            signalling,
            transport: "https",
            hops: from.hops,
        };
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (events, told_events) = mpsc::channel(EVENTS);
        tokio::spawn(rings(Ringing { clients: self.clone(), alias, uuid, id }, orders, events, told));
        Ok(Leg {
            id,
            answers_as: None,
            party,
            thread: thread.unwrap_or_default(),
            codecs: Vec::new(),
            ladder: Ladder::default(),
            commands,
            events: told_events,
        })
    }
}

impl fmt::Debug for ConnectLegs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectLegs").finish_non_exhaustive()
    }
}

/// A ring that is on its client's list for as long as this lives.
struct Ringing {
    clients: ConnectLegs,
    alias: Alias,
    uuid: Uuid,
    id: LegId,
}

impl Drop for Ringing {
    fn drop(&mut self) {
        self.clients.table().hush(&self.alias, self.uuid, self.id);
    }
}

/// Rings until somebody ends it.
async fn rings(
    ringing: Ringing,
    mut orders: mpsc::Receiver<LegCommand>,
    events: mpsc::Sender<LegEvent>,
    mut told: oneshot::Receiver<Verdict>,
) {
    // The queue is empty, and has room for all that this leg ever says.
    let _ = events.try_send(LegEvent::Ringing);
    let mut taken = None;
    let cause = loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(LegCommand::Hangup(cause)) => break cause,
                // Without media there is nothing else to be done.
                Some(_) => {}
                // The client has come in, or the conference is gone.
                None => break Cause::local(Reason::Hangup),
            },
            verdict = &mut told, if taken.is_none() => match verdict {
                Ok(Verdict::Taken(stands)) => {
                    taken = Some(stands);
                    let _ = events.try_send(LegEvent::Taken(ringing.id));
                }
                Ok(Verdict::Over(cause)) => break cause,
                Err(_) => break Cause::local(Reason::Internal),
            },
        }
    };
    drop(ringing);
    let _ = events.try_send(LegEvent::Ended(cause));
}

#[cfg(test)]
mod tests;
