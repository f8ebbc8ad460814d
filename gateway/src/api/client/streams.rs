//! Which event streams are open: few for each session and for each client address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::net::tcp::source_key;
use crate::uuid::Uuid;

/// Streams of one session: a client that lost one opens the next beside it before the loss is
/// noticed here. Overflow: the oldest is closed, for the client has no use for it.
const EACH: usize = 2;

/// The open streams. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Of one client address (IPv6: /64).
    most: usize,
    open: Mutex<Opened>,
}

#[derive(Debug, Default)]
struct Opened {
    next: u64,
    by_session: HashMap<Uuid, VecDeque<Entry>>,
    by_source: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    source: Option<IpAddr>,
    /// Dropped to close it.
    _close: oneshot::Sender<()>,
}

/// Room for one stream, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    streams: Streams,
    session: Uuid,
    number: u64,
}

impl Streams {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, open: Mutex::default() }))
    }

    /// Room for a stream of `session`, and what ends when the stream is to be closed for a newer
    /// one. `None`: there are too many from that address.
    pub(super) fn open(
        &self,
        session: Uuid,
        source: Option<IpAddr>,
    ) -> Option<(Place, oneshot::Receiver<()>)> {
        let source = source.map(source_key);
        let mut open = self.opened();
        let own = open.by_session.get(&session);
        let oldest = own.filter(|own| own.len() >= EACH).and_then(VecDeque::front);
        let makes_room = oldest.is_some_and(|oldest| oldest.source == source);
        if let Some(source) = source {
            let count = open.by_source.get(&source).copied().unwrap_or_default();
            if count - usize::from(makes_room) >= self.0.most {
                return None;
            }
        }
        if let Some(oldest) = oldest.map(|oldest| oldest.number) {
            open.close(session, oldest);
        }
        open.next += 1;
        let number = open.next;
        if let Some(source) = source {
            *open.by_source.entry(source).or_insert(0) += 1;
        }
        let (close, closed) = oneshot::channel();
        open.by_session.entry(session).or_default().push_back(Entry { number, source, _close: close });
        drop(open);
        Some((Place { streams: self.clone(), session, number }, closed))
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn close(&mut self, session: Uuid, number: u64) {
        let Some(own) = self.by_session.get_mut(&session) else { return };
        let Some(at) = own.iter().position(|it| it.number == number) else { return };
        let source = own.remove(at).and_then(|entry| entry.source);
        if own.is_empty() {
            self.by_session.remove(&session);
        }
        if let Some(source) = source
            && let Some(count) = self.by_source.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.opened().close(self.session, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some([127, 0, 0, last].into())
    }

    #[test]
    fn a_third_stream_of_a_session_closes_its_first() {
        let (streams, session) = (Streams::new(10), Uuid::random());
        let (first, mut first_closed) = streams.open(session, address(1)).unwrap();
        let (second, mut second_closed) = streams.open(session, address(1)).unwrap();
        assert!(first_closed.try_recv().is_err_and(|it| it == oneshot::error::TryRecvError::Empty));
        let (_third, _) = streams.open(session, address(1)).unwrap();
        assert!(first_closed.try_recv().is_err_and(|it| it == oneshot::error::TryRecvError::Closed));
        assert!(second_closed.try_recv().is_err_and(|it| it == oneshot::error::TryRecvError::Empty));
        drop(first);
        assert_eq!(streams.opened().by_source[&address(1).unwrap()], 2, "it is not counted down twice");
        drop(second);
        assert_eq!(streams.opened().by_source[&address(1).unwrap()], 1);
    }

    #[test]
    fn an_address_has_so_many_and_a_full_one_may_still_take_the_place_of_its_own() {
        let streams = Streams::new(3);
        let (one, other) = (Uuid::random(), Uuid::random());
        let own = [streams.open(one, address(1)).unwrap(), streams.open(one, address(1)).unwrap()];
        let third = streams.open(other, address(1)).unwrap();
        assert!(streams.open(other, address(1)).is_none());
        assert!(streams.open(other, address(2)).is_some());
        let newer = streams.open(one, address(1)).unwrap();
        drop((own, third, newer));
        assert!(streams.opened().by_source.is_empty() && streams.opened().by_session.is_empty());
    }
}
