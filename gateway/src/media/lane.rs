//! What both lanes have in common: commands in, old parts out, wakes at the end of a step.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crosspoint_codecs::clock::Instant;

use super::load::Share;
use super::port::Outlet;
use super::stats::LaneCounters;

/// Commands that wait for a lane's next step. A step takes them all; 50 new calls a second are
/// about ten commands a tick. Overflow: the caller is told ([`super::EngineError::Overloaded`]).
pub(super) const COMMANDS: usize = 256;

/// One of the two: sound or pictures. `step` allocates nothing, locks nothing, logs nothing and
/// waits for nothing.
pub(super) trait Lane: Send {
    /// Time between two steps.
    const PERIOD: Duration;

    /// Steps that are made up for after a late wake, one right after the other. What is beyond is
    /// left out, and the streams go on from the present.
    const CATCH_UP: u64;

    /// Takes the commands that have come, then does what is due at `now`: for a worker the moment
    /// at which the step should have been, not the one at which it woke.
    fn step(&mut self, now: Instant);

    /// Takes the commands that have come; true when there is no stream to serve afterwards. Then
    /// no step is needed until the next command.
    fn idle(&mut self) -> bool;

    /// Frees what it no longer needs, for it has nobody to serve.
    fn clear(&self);

    /// How full it is, where its time is not that of its steps.
    fn look(&mut self) -> Option<Option<Share>> {
        None
    }

    /// Its figures.
    fn counters(&self) -> &Arc<LaneCounters>;
}

/// What a lane no longer needs, on its way to a thread that may free memory.
pub(super) trait Scrap: Send {}

impl<T: Send> Scrap for T {}

/// The lane's end.
pub(super) struct Mailbox<C> {
    commands: rtrb::Consumer<C>,
    scrap: rtrb::Producer<Box<dyn Scrap>>,
    heap: Heap,
}

/// The callers' end.
pub(super) struct Desk<C> {
    commands: rtrb::Producer<C>,
    heap: Heap,
}

/// Old parts of a lane until somebody frees them: whoever sends the next command, or the lane's
/// own thread once it has nobody to serve.
#[derive(Clone)]
pub(super) struct Heap(Arc<Mutex<rtrb::Consumer<Box<dyn Scrap>>>>);

impl Heap {
    pub(super) fn clear(&self) {
        loop {
            // Not held while a part is freed: a video codec takes its time.
            let part = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if part.is_err() {
                return;
            }
        }
    }
}

/// Both ends. The ring for old parts has room for every part that a lane of `streams` sources and
/// as many sinks can hold (two each), twice, and for those in commands: it cannot overflow, for
/// each command empties it first.
pub(super) fn mail<C>(streams: usize) -> (Desk<C>, Mailbox<C>) {
    let (to_lane, commands) = rtrb::RingBuffer::new(COMMANDS);
    let (scrap, from_lane) = rtrb::RingBuffer::new(8 * streams + 4 * COMMANDS);
    let heap = Heap(Arc::new(Mutex::new(from_lane)));
    (Desk { commands: to_lane, heap: heap.clone() }, Mailbox { commands, scrap, heap })
}

impl<C> Mailbox<C> {
    pub(super) fn command(&mut self) -> Option<C> {
        self.commands.pop().ok()
    }

    /// Sends `part` to where it is freed.
    pub(super) fn discard<T: Send + 'static>(&mut self, part: Box<T>) {
        // Cannot be full, see `mail`; if it were, freeing here is the lesser evil.
        let _ = self.scrap.push(part);
    }

    /// Frees what was discarded. Not in a step.
    pub(super) fn clear(&self) {
        self.heap.clear();
    }
}

impl<C> Desk<C> {
    /// Whether `count` commands fit.
    pub(super) fn fits(&self, count: usize) -> bool {
        self.commands.slots() >= count
    }

    /// Sends `commands`; ask [`Self::fits`] before. The lane sees all of them or none.
    pub(super) fn send(&mut self, commands: Vec<C>) {
        if let Ok(chunk) = self.commands.write_chunk_uninit(commands.len()) {
            chunk.fill_from_iter(commands);
        }
    }

    /// Old parts.
    pub(super) const fn heap(&self) -> &Heap {
        &self.heap
    }
}

/// Threads to wake once a step is through; more than this many are woken at once.
const THREADS: usize = 64;

/// Which socket threads have something to send.
pub(super) struct Wakes {
    /// Thread and the slot of a sink that lives on it.
    due: [(usize, usize); THREADS],
    len: usize,
}

impl Wakes {
    pub(super) const fn new() -> Self {
        Self { due: [(0, 0); THREADS], len: 0 }
    }

    /// The sink in `slot` has pushed something.
    pub(super) fn note(&mut self, slot: usize, outlet: &Outlet) {
        let thread = outlet.wake.thread();
        let (due, free) = self.due.split_at_mut(self.len);
        if due.iter().any(|(known, _)| *known == thread) {
            return;
        }
        match free.first_mut() {
            Some(entry) => {
                *entry = (thread, slot);
                self.len += 1;
            }
            None => outlet.wake.wake(),
        }
    }

    /// Wakes each thread once. `outlet` finds a sink by its slot.
    pub(super) fn send<'a>(&mut self, outlet: impl Fn(usize) -> Option<&'a Outlet>) {
        for (_, slot) in &self.due[..self.len] {
            if let Some(outlet) = outlet(*slot) {
                outlet.wake.wake();
            }
        }
        self.len = 0;
    }
}

/// In which slots the members of these numbers are, sorted: for many look-ups after a change.
/// Allocates when made, never afterwards.
pub(super) struct Index<K>(Vec<(K, bool, usize)>);

impl<K: Copy + Ord> Index<K> {
    /// Of as many members at most.
    pub(super) fn new(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Holds `members` from now on: number, whether another of that number is preferred, slot.
    pub(super) fn fill(&mut self, members: impl Iterator<Item = (K, bool, usize)>) {
        let room = self.0.capacity();
        self.0.clear();
        self.0.extend(members.take(room));
        self.0.sort_unstable();
    }

    /// The member of that number: whether another would have been preferred, and its slot.
    pub(super) fn find(&self, number: K) -> Option<(bool, usize)> {
        let at = self.0.partition_point(|(other, _, _)| *other < number);
        self.0.get(at).filter(|(found, _, _)| *found == number).map(|(_, second, slot)| (*second, *slot))
    }
}

/// Members in slots that stay where they are while others come and go.
pub(super) struct Slots<T> {
    slots: Vec<Option<Box<T>>>,
    used: usize,
    /// No slot from here on is taken: a large engine with two legs looks at two slots.
    end: usize,
}

impl<T> Slots<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: (0..capacity).map(|_| None).collect(), used: 0, end: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.used
    }

    pub(super) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<usize> {
        self.slots[..self.end].iter().position(|slot| slot.as_deref().is_some_and(&wanted))
    }

    pub(super) fn by(&mut self, wanted: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.slots[..self.end].iter_mut().flatten().map(|entry| &mut **entry).find(|entry| wanted(entry))
    }

    pub(super) fn at(&self, slot: usize) -> Option<&T> {
        self.slots.get(slot)?.as_deref()
    }

    pub(super) fn at_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    /// `Err` gives it back when every slot is taken.
    pub(super) fn insert(&mut self, entry: Box<T>) -> Result<usize, Box<T>> {
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return Err(entry);
        };
        self.slots[slot] = Some(entry);
        self.used += 1;
        self.end = self.end.max(slot + 1);
        Ok(slot)
    }

    pub(super) fn take(&mut self, slot: usize) -> Option<Box<T>> {
        let taken = self.slots.get_mut(slot)?.take();
        self.used -= usize::from(taken.is_some());
        while self.end > 0 && self.slots[self.end - 1].is_none() {
            self.end -= 1;
        }
        taken
    }

    /// Lends out what is in `slot`, for a piece of work; the slot stays its own. Nothing else may
    /// be done with the slots until it is back.
    pub(super) fn lend(&mut self, slot: usize) -> Option<Box<T>> {
        self.slots.get_mut(slot)?.take()
    }

    /// Takes back what was lent.
    pub(super) fn give_back(&mut self, slot: usize, entry: Box<T>) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(entry);
        }
    }

    /// Everything with its slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.slots[..self.end].iter().enumerate();
        slots.filter_map(|(slot, entry)| Some((slot, entry.as_deref()?)))
    }

    /// One beyond the last slot that is taken.
    pub(super) const fn end(&self) -> usize {
        self.end
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.slots[..self.end]
            .iter_mut()
            .enumerate()
            .filter_map(|(slot, entry)| Some((slot, entry.as_deref_mut()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_finds_the_one_who_stays_before_the_one_who_goes() {
        let mut index = Index::new(5);
        index.fill([(9u64, false, 0), (4, true, 1), (7, true, 2), (4, false, 3)].into_iter());
        assert_eq!(index.find(4), Some((false, 3)));
        assert_eq!((index.find(7), index.find(9)), (Some((true, 2)), Some((false, 0))));
        assert_eq!([0, 5, 8, 10].map(|number| index.find(number)), [None; 4]);
        index.fill((0..9).map(|number| (number, false, 0)));
        assert_eq!(
            (index.find(4), index.find(5)),
            (Some((false, 0)), None),
            "what does not fit is not found"
        );
        assert_eq!(index.0.capacity(), 5);
    }
}
