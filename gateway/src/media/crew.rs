//! Pieces of the lanes' work that any free core may take: decoding and encoding. A lane hands them
//! out in a step and joins them before the step ends.
//!
//! A piece owns all that it touches (a source with its decoder, an encoder with its picture): it
//! moves to a thread of the crew and comes back. Nothing is shared, locked or allocated on the way.
//! An engine without a crew, as scenarios in virtual time have it, does each piece by itself, in
//! the order in which they were handed out.
//!
//! ```text
//! lane: hand out -> (works along) -> join: all that is back by the deadline
//!           |                          ^
//!           v                          |
//!       pieces to do --> crew --> pieces done
//! ```

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::Codec;

use super::handle::ClockFn;
use super::load::Share;
use super::urgent;

#[cfg(test)]
mod tests;

/// Pieces of one lane that are out at a time: a room of 1000 who all talk has as many. Overflow: the
/// lane of the sound does the others itself, that of the pictures keeps them until some are back.
const PIECES: usize = 1_024;
/// A piece of sound that takes long: to encode Opus, some 150 us. Efforts are in microseconds.
const OPUS: u32 = 150;
/// G.722 takes some 5 us either way, and a little more with what is around it.
const G722: u32 = 10;
/// With less effort than this, four pieces that take long, waking somebody costs more time than it saves:
/// a wake and a cold cache take 50 us.
const WORTH_A_WAKE: u32 = 4 * OPUS;
/// The pictures' threads are this much nicer than the sound: an encoder that computes for 10 ms must
/// not make a tick late on a machine that is full.
const PICTURES_BEHIND: i32 = 5;
/// How long a lane sleeps at most while it waits for somebody of the crew: a bound for a wake that
/// was meant for something else.
const NAP: Duration = Duration::from_millis(5);
/// Time between two looks at how busy the crew is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A piece of work.
pub(super) trait Piece: Send + 'static {
    /// Does it. What comes of it stays in it.
    fn run(&mut self);

    /// About how long that takes, in microseconds; only sound asks for it.
    fn effort(&self) -> u32 {
        OPUS
    }
}

/// What went away and comes back, among all that ever did in a lane: who gets something else in the
/// meantime does not take it for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Ticket {
    pub(super) const fn next(&mut self) -> Self {
        self.0 += 1;
        *self
    }
}

/// Threads that work for the lanes of all engines that were started with it. Clones share them;
/// they end with the last clone and the last such engine.
#[derive(Clone)]
pub struct Crew(Arc<Groups>);

struct Groups {
    sound: Group,
    pictures: Group,
}

/// One sort of lane has a group of its own, for the sound goes first.
struct Group {
    hall: Arc<Hall>,
    threads: Vec<JoinHandle<()>>,
}

/// Where lanes and threads of a group meet.
struct Hall {
    boards: RwLock<Vec<Arc<dyn Errands>>>,
    clock: ClockFn,
    places: Box<[Place]>,
    stopping: AtomicBool,
    /// Time spent in pieces by all threads, ns.
    busy: AtomicU64,
}

/// A thread of the crew.
#[derive(Default)]
struct Place {
    thread: OnceLock<Thread>,
    idle: AtomicBool,
}

/// A lane's pieces, as the crew sees them.
trait Errands: Send + Sync {
    /// Does one piece; false when none waits.
    fn run_one(&self) -> bool;
    fn waits(&self) -> bool;
}

struct Board<P> {
    /// Each with the round in which it was handed out.
    to_do: ArrayQueue<(u64, P)>,
    done: ArrayQueue<(u64, P)>,
    lane: OnceLock<Thread>,
}

impl Crew {
    /// Starts threads for a machine of `cores`: one each for the pictures, and one less for the
    /// sound, whose lane works along. They sleep until there is something to do.
    pub fn start(cores: usize, clock: &ClockFn) -> io::Result<Self> {
        let sound = Group::start("media-sound", cores.saturating_sub(1), None, clock)?;
        let pictures = Group::start("media-picture", cores.max(1), Some(PICTURES_BEHIND), clock)?;
        Ok(Self(Arc::new(Groups { sound, pictures })))
    }

    pub(super) fn for_sound<P: Piece>(&self, most: usize) -> Hands<P> {
        Hands::of(&self.0.sound.hall, most)
    }

    pub(super) fn for_pictures<P: Piece>(&self, most: usize) -> Hands<P> {
        Hands::of(&self.0.pictures.hall, most)
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sound, pictures) = (self.0.sound.threads.len(), self.0.pictures.threads.len());
        f.debug_struct("Crew").field("sound", &sound).field("pictures", &pictures).finish()
    }
}

impl Group {
    fn start(name: &str, threads: usize, behind: Option<i32>, clock: &ClockFn) -> io::Result<Self> {
        let hall = Arc::new(Hall {
            boards: RwLock::default(),
            clock: clock.clone(),
            places: (0..threads).map(|_| Place::default()).collect(),
            stopping: AtomicBool::new(false),
            busy: AtomicU64::new(0),
        });
        let mut group = Self { hall, threads: Vec::new() };
        for place in 0..threads {
            let hall = group.hall.clone();
            let thread = thread::Builder::new().name(name.into()).spawn(move || {
                urgent::place(behind);
                hall.serve(place);
            })?;
            group.threads.push(thread);
        }
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.hall.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // One that panicked is gone as well.
            let _ = thread.join();
        }
    }
}

impl Hall {
    /// The life of the thread in `place`.
    fn serve(&self, place: usize) {
        let Some(place) = self.places.get(place) else { return };
        let _ = place.thread.set(thread::current());
        let mut turn = 0;
        while !self.stopping.load(Ordering::SeqCst) {
            if let Some(board) = self.next(&mut turn) {
                let begun = (self.clock)();
                if board.run_one() {
                    let spent = (self.clock)().saturating_since(begun);
                    let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
                    self.busy.fetch_add(spent, Ordering::Relaxed);
                }
                continue;
            }
            place.idle.store(true, Ordering::SeqCst);
            // Either this look finds the piece, or who handed it out finds the flag.
            fence(Ordering::SeqCst);
            if self.next(&mut turn).is_none() && !self.stopping.load(Ordering::SeqCst) {
                thread::park();
            }
            place.idle.store(false, Ordering::SeqCst);
        }
    }

    /// A lane with a piece that waits; another one each time, so that none starves.
    fn next(&self, turn: &mut usize) -> Option<Arc<dyn Errands>> {
        // The list changes only when an engine starts or ends.
        let boards = self.boards.read().unwrap_or_else(PoisonError::into_inner);
        *turn = turn.wrapping_add(1) % boards.len().max(1);
        let (before, from) = boards.split_at(*turn);
        from.iter().chain(before).find(|board| board.waits()).cloned()
    }

    /// Wakes as many as are idle, `most` at most.
    fn call(&self, most: usize) {
        fence(Ordering::SeqCst);
        let idle = self.places.iter().filter(|place| place.idle.swap(false, Ordering::SeqCst));
        for place in idle.take(most) {
            if let Some(thread) = place.thread.get() {
                thread.unpark();
            }
        }
    }
}

impl<P: Piece> Errands for Board<P> {
    fn run_one(&self) -> bool {
        let Some((round, mut piece)) = self.to_do.pop() else { return false };
        run(&mut piece);
        // As many fit as can be out.
        let _ = self.done.push((round, piece));
        if let Some(lane) = self.lane.get() {
            lane.unpark();
        }
        true
    }

    fn waits(&self) -> bool {
        !self.to_do.is_empty()
    }
}

/// About how long frames of `codec` take, in microseconds. None is left to somebody of the crew where that
/// is 0: those of G.711 take no longer than to hand them out.
pub(super) const fn effort(codec: Codec) -> u32 {
    match codec {
        Codec::Pcmu | Codec::Pcma => 0,
        Codec::G722 => G722,
        _ => OPUS,
    }
}

/// A codec that panics has its piece undone; the lane goes on, and so does the thread. The panic hook
/// has told of it.
fn run(piece: &mut impl Piece) {
    let _ = catch_unwind(AssertUnwindSafe(|| piece.run()));
}

/// A lane's end.
pub(super) struct Hands<P> {
    /// Handed out in this step, in order.
    kept: Vec<P>,
    crew: Option<Hired<P>>,
}

struct Hired<P> {
    hall: Arc<Hall>,
    board: Arc<Board<P>>,
    /// Pieces that are not back.
    out: usize,
    round: u64,
    /// When the crew was looked at last, and how long it had worked by then.
    looked: (Instant, u64),
}

impl<P: Piece> Hands<P> {
    /// Does everything by itself. There is room for `most` pieces in a step.
    pub(super) fn own(most: usize) -> Self {
        Self { kept: Vec::with_capacity(most), crew: None }
    }

    /// Stands where the real ones are away for a moment.
    pub(super) const fn away() -> Self {
        Self { kept: Vec::new(), crew: None }
    }

    fn of(hall: &Arc<Hall>, most: usize) -> Self {
        if hall.places.is_empty() {
            return Self::own(most);
        }
        let board = Arc::new(Board {
            to_do: ArrayQueue::new(PIECES),
            done: ArrayQueue::new(PIECES),
            lane: OnceLock::new(),
        });
        hall.boards.write().unwrap_or_else(PoisonError::into_inner).push(board.clone());
        let looked = ((hall.clock)(), hall.busy.load(Ordering::Relaxed));
        let crew = Hired { hall: hall.clone(), board, out: 0, round: 0, looked };
        Self { kept: Vec::with_capacity(most), crew: Some(crew) }
    }

    /// Hands a piece out.
    pub(super) fn hand_out(&mut self, piece: P) {
        self.kept.push(piece);
    }

    /// Does what was handed out, with whatever help there is, and gives all of it to `done`.
    pub(super) fn join(&mut self, mut done: impl FnMut(P)) {
        let effort = self.kept.iter().fold(0, |sum: u32, piece| sum.saturating_add(piece.effort()));
        let Some(crew) = self.crew.as_mut().filter(|_| effort >= WORTH_A_WAKE) else {
            self.kept.drain(..).for_each(|mut piece| {
                run(&mut piece);
                done(piece);
            });
            return;
        };
        // One for every two pieces that take long: the lane works along.
        let most = usize::try_from(effort.div_ceil(2 * OPUS)).unwrap_or(usize::MAX);
        crew.send(&mut self.kept, most);
        loop {
            while let Some((_, piece)) = crew.back() {
                done(piece);
            }
            match self.kept.pop().or_else(|| crew.take()) {
                Some(mut piece) => {
                    run(&mut piece);
                    done(piece);
                }
                None if crew.out == 0 => return,
                None if crew.board.done.is_empty() => thread::park_timeout(NAP),
                None => {}
            }
        }
    }

    /// The moment, where there is a crew to wait for.
    pub(super) fn now(&self) -> Option<Instant> {
        self.crew.as_ref().map(|crew| (crew.hall.clock)())
    }

    /// Hands `take` what is back, of this step or an earlier one, as it comes, and waits until `until`
    /// for what was handed out since the last call; `None` each time before it sleeps or ends. Returns
    /// how many of those are not back. Without a crew all is done here and now.
    pub(super) fn join_until(&mut self, until: Option<Instant>, mut take: impl FnMut(Option<P>)) -> usize {
        let Some(crew) = &mut self.crew else {
            self.join(|piece| take(Some(piece)));
            take(None);
            return 0;
        };
        let mut awaited = crew.send(&mut self.kept, usize::MAX);
        loop {
            while let Some((round, piece)) = crew.back() {
                awaited -= usize::from(round == crew.round);
                take(Some(piece));
            }
            take(None);
            let left = until.map_or(Duration::ZERO, |until| until.saturating_since((crew.hall.clock)()));
            if awaited == 0 || left.is_zero() {
                return awaited;
            }
            if crew.board.done.is_empty() {
                thread::park_timeout(left.min(NAP));
            }
        }
    }

    /// The share of its time that the crew has worked since the last look, in thousandths; none
    /// when that is too short ago. None at all without a crew.
    pub(super) fn look(&mut self) -> Option<Option<Share>> {
        self.crew.as_mut().map(Hired::look)
    }
}

impl<P: Piece> Hired<P> {
    fn look(&mut self) -> Option<Share> {
        let (now, busy) = ((self.hall.clock)(), self.hall.busy.load(Ordering::Relaxed));
        let passed = now.saturating_since(self.looked.0);
        if passed < LOOK_EVERY {
            return None;
        }
        let worked = u128::from(busy - self.looked.1);
        self.looked = (now, busy);
        let threads = u128::try_from(self.hall.places.len()).unwrap_or(1).max(1);
        Share::try_from(worked * 1_000 / (passed.as_nanos() * threads).max(1)).ok()
    }

    /// As much of `kept` as may be out, to the crew, of which one is woken for each piece, `most` at most.
    fn send(&mut self, kept: &mut Vec<P>, most: usize) -> usize {
        self.round += 1;
        let fits = kept.len().min(PIECES - self.out);
        if fits == 0 {
            return 0;
        }
        self.board.lane.get_or_init(thread::current);
        for piece in kept.drain(..fits) {
            // There is room for all that may be out.
            let _ = self.board.to_do.push((self.round, piece));
        }
        self.out += fits;
        self.hall.call(fits.min(most));
        fits
    }

    /// A piece that nobody has begun yet.
    fn take(&mut self) -> Option<P> {
        let (_, piece) = self.board.to_do.pop()?;
        self.out -= 1;
        Some(piece)
    }

    fn back(&mut self) -> Option<(u64, P)> {
        let piece = self.board.done.pop()?;
        self.out -= 1;
        Some(piece)
    }
}

impl<P> Drop for Hired<P> {
    fn drop(&mut self) {
        let own = Arc::as_ptr(&self.board).cast::<()>();
        let mut boards = self.hall.boards.write().unwrap_or_else(PoisonError::into_inner);
        boards.retain(|board| Arc::as_ptr(board).cast::<()>() != own);
    }
}
