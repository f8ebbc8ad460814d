//! What the administrator may want to know of afterwards (S77): who tried a PIN, who registered, which
//! conferences and calls there were, what was changed. Each event has a number; the last [`KEPT`] are
//! kept in memory, for the management API to show.
//!
//! ```text
//!  registrar, rooms, exchange, API ─> Events::tell ─> ring ─> Events::after(number)
//! ```
//!
//! Telling never waits: when the ring is full the oldest event is forgotten and counted. Who reads too
//! slowly sees so by the numbers, and by [`Page::lost`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::watch;

use crate::records::clean;
use crate::status::rfc3339;

pub mod outlet;
mod post;
mod spool;

/// Events that are kept: at 400 bytes each about 2 MiB. Overflow: the oldest is forgotten.
pub const KEPT: usize = 4_096;

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Its number: the first of a gateway's life is 1, and none is left out.
    pub seq: u64,
    /// When (RFC 3339, UTC).
    pub at: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What has happened. In JSON the member `event` names the kind. Texts that came from a peer are
/// printable and have at most 256 bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// Somebody has tried a PIN. Which one is never told.
    PinAttempt {
        /// Of which service.
        service: String,
        /// Where he is: address and port.
        source: Option<String>,
        /// What he came by: "sip", "api".
        protocol: &'static str,
        /// What came of it.
        result: Attempt,
    },
    /// A device has registered at a contact that was not there before.
    RegistrationAdded {
        /// Its alias.
        alias: String,
        /// Where it can be called.
        contact: String,
        /// Where its request came from; absent once that connection is closed.
        source: Option<String>,
    },
    /// Nobody has refreshed a registration in time.
    RegistrationExpired {
        /// Its alias.
        alias: String,
        /// Where it could be called.
        contact: String,
        /// Where its request came from; absent once that connection is closed.
        source: Option<String>,
    },
    /// A registration was taken back.
    RegistrationDeleted {
        /// Its alias.
        alias: String,
        /// Where it could be called.
        contact: String,
        /// Where its request came from; absent once that connection is closed.
        source: Option<String>,
        /// "unregistered" or "device removed".
        reason: &'static str,
    },
    /// Nothing of a source is read for a while, for it goes on although it is refused.
    SourceBanned {
        /// Its address; of IPv6 any in its /64.
        source: String,
        /// For so long.
        seconds: u64,
    },
    /// The first party has come to a conference.
    ConferenceStarted {
        /// Of which service.
        conference: String,
    },
    /// The last party has left it.
    ConferenceEnded {
        /// Of which service.
        conference: String,
        /// How long it was.
        seconds: u64,
    },
    /// A call has come, or a conference calls somebody.
    CallStarted {
        /// Its number, as in logs and records.
        call: u64,
        /// Who calls.
        caller: String,
        /// What is called.
        called: String,
    },
    /// It is answered.
    CallAnswered {
        /// Its number.
        call: u64,
    },
    /// Something is wrong with the gateway, or is so no more. Each alarm is told of once a second at most.
    Alarm {
        /// Which: a word of [`crate::alarms::Alarm::word`].
        alarm: &'static str,
        /// It has begun; else it is over.
        raised: bool,
        /// What it is, and what to do.
        text: &'static str,
    },
    /// A call is over; more of it is in the call records.
    CallEnded {
        /// Its number, as in logs and records.
        call: u64,
        /// Who called.
        caller: String,
        /// What was called.
        called: String,
        /// Why it ended: [`crate::cause::Reason::word`].
        reason: String,
        /// Who ended it: "local", "remote", "peer leg", seen from the caller's leg.
        side: String,
        /// From the answer to the end.
        talk_seconds: f64,
    },
    /// A trunk answers, or does not any more.
    TrunkChanged {
        /// Which.
        trunk: String,
        /// "up" or "down".
        state: &'static str,
    },
    /// We are registered at a trunk, and were not before.
    TrunkRegistered {
        /// Which.
        trunk: String,
    },
    /// We are not registered at a trunk.
    TrunkRegistrationFailed {
        /// Which.
        trunk: String,
        /// The status that it answered with; 408 when nothing came, 503 when it could not be sent.
        status: u16,
    },
    /// Somebody captures a call: its signalling and its media.
    CaptureStarted {
        /// Its number.
        call: u64,
        /// The keys of its media as well.
        keys: bool,
        /// The name of the token by which it was done.
        by: String,
    },
    /// Somebody has changed what is stored.
    SettingChanged {
        /// What kind of thing: "service", "device", "rule", "settings", "token".
        kind: &'static str,
        /// What it is called.
        name: String,
        /// "added", "changed", "removed".
        change: &'static str,
        /// The name of the token by which it was done.
        by: String,
    },
}

/// What came of a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// It opened the door.
    Right,
    /// It did not.
    Wrong,
    /// It was not looked at, or was the last that he may try.
    Refused,
}

/// Some events, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Page {
    /// They.
    pub events: Vec<Event>,
    /// Events between the asked number and the first of these that are forgotten.
    pub lost: u64,
    /// The number of the newest event of all; 0 before the first.
    pub newest: u64,
}

/// The events of one gateway. Clones are the same.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    ring: Mutex<VecDeque<Event>>,
    /// The newest number.
    newest: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self(Arc::new(Inner { ring: Mutex::default(), newest: watch::channel(0).0 }))
    }
}

impl Events {
    /// Writes down what has happened at `at`.
    pub fn tell(&self, at: SystemTime, what: What) {
        let what = what.clean();
        let mut ring = self.ring();
        let seq = *self.0.newest.borrow() + 1;
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back(Event { seq, at: rfc3339(at), what });
        // Under the lock: numbers come to readers in order.
        self.0.newest.send_replace(seq);
    }

    /// At most `limit` events after number `seq`, oldest first.
    pub fn after(&self, seq: u64, limit: usize) -> Page {
        let ring = self.ring();
        let newest = *self.0.newest.borrow();
        let first = ring.front().map_or(newest + 1, |it| it.seq);
        let next = seq.saturating_add(1);
        let skip = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
        let events = ring.iter().skip(skip).take(limit).cloned().collect();
        Page { events, lost: first.saturating_sub(next), newest }
    }

    /// The number of the newest event, and how to wait for the next.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }

    /// Events that are forgotten because the ring was full.
    pub fn forgotten(&self) -> u64 {
        let newest = *self.0.newest.borrow();
        newest.saturating_sub(u64::try_from(self.ring().len()).unwrap_or(u64::MAX))
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("newest", &*self.0.newest.borrow()).finish_non_exhaustive()
    }
}

impl What {
    /// What peers send can neither forge nor flood what is shown.
    fn clean(mut self) -> Self {
        match &mut self {
            Self::RegistrationAdded { contact, .. }
            | Self::RegistrationExpired { contact, .. }
            | Self::RegistrationDeleted { contact, .. } => *contact = clean(contact),
            Self::CallStarted { caller, called, .. } | Self::CallEnded { caller, called, .. } => {
                (*caller, *called) = (clean(caller), clean(called));
            }
            Self::PinAttempt { .. }
            | Self::CallAnswered { .. }
            | Self::Alarm { .. }
            | Self::SourceBanned { .. }
            | Self::ConferenceStarted { .. }
            | Self::ConferenceEnded { .. }
            | Self::TrunkChanged { .. }
            | Self::TrunkRegistered { .. }
            | Self::TrunkRegistrationFailed { .. }
            | Self::CaptureStarted { .. }
            | Self::SettingChanged { .. } => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn started(name: impl Into<String>) -> What {
        What::ConferenceStarted { conference: name.into() }
    }

    fn numbers(page: &Page) -> Vec<u64> {
        page.events.iter().map(|it| it.seq).collect()
    }

    #[test]
    fn s77_events_are_read_from_any_number_on() {
        let events = Events::default();
        assert_eq!(events.after(0, 10), Page::default());
        (0..5).for_each(|n| events.tell(AT, started(n.to_string())));
        assert_eq!(numbers(&events.after(0, 10)), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&events.after(2, 2)), [3, 4]);
        assert_eq!(events.after(5, 10), Page { events: vec![], lost: 0, newest: 5 });
        assert_eq!(events.after(u64::MAX - 1, 10), Page { events: vec![], lost: 0, newest: 5 });
    }

    #[test]
    fn the_oldest_are_forgotten_and_counted() {
        let events = Events::default();
        let more = 3;
        (0..KEPT + more).for_each(|_| events.tell(AT, started("a")));
        assert_eq!(events.forgotten(), 3);
        let page = events.after(1, 1);
        assert_eq!((numbers(&page), page.lost), (vec![4], 2));
        let page = events.after(10, 1);
        assert_eq!((numbers(&page), page.lost), (vec![11], 0));
    }

    #[test]
    fn a_reader_waits_for_the_next() {
        let events = Events::default();
        let mut newest = events.watch();
        assert!(!newest.has_changed().unwrap());
        events.tell(AT, started("a"));
        assert!(newest.has_changed().unwrap());
        assert_eq!(*newest.borrow_and_update(), 1);
    }

    #[test]
    fn they_are_flat_json_and_carry_no_control_characters() {
        let events = Events::default();
        let call_ended = |caller: String| What::CallEnded {
            call: 7,
            caller,
            called: "500".into(),
            reason: "hangup".into(),
            side: "remote".into(),
            talk_seconds: 1.5,
        };
        events.tell(AT, call_ended("eve\r\n\u{1b}[31m".into()));
        events.tell(AT, call_ended("x".repeat(100_000)));
        let page = events.after(0, 10);
        let json = serde_json::to_value(&page.events[0]).unwrap();
        let expected = serde_json::json!({
            "seq": 1, "at": "1970-01-01T00:00:00.000Z", "event": "call_ended", "call": 7,
            "caller": "eve   [31m", "called": "500", "reason": "hangup", "side": "remote",
            "talk_seconds": 1.5,
        });
        assert_eq!(json, expected);
        let json = serde_json::to_value(&page.events[1]).unwrap();
        assert_eq!(json["caller"].as_str().unwrap().len(), 256);
    }
}
