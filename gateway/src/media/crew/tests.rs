//! Every piece comes back once, with help, without, and when somebody panics.

use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;

use super::*;

/// Says by whom it was done.
struct Sum {
    number: usize,
    done: bool,
    /// Waits for another one that does, on another thread.
    meets: Option<Arc<Barrier>>,
    panics: bool,
    effort: u32,
    /// The thread that did it.
    by: Option<thread::ThreadId>,
}

impl Sum {
    fn new(number: usize) -> Self {
        Self { number, done: false, meets: None, panics: false, effort: OPUS, by: None }
    }
}

impl Piece for Sum {
    fn run(&mut self) {
        if let Some(meets) = &self.meets {
            meets.wait();
        }
        assert!(!self.panics, "as it was told");
        self.done = true;
        self.by = Some(thread::current().id());
    }

    fn effort(&self) -> u32 {
        self.effort
    }
}

fn clock() -> ClockFn {
    let begun = std::time::Instant::now();
    Arc::new(move || Instant::from_nanos(u64::try_from(begun.elapsed().as_nanos()).unwrap()))
}

#[test]
fn without_a_crew_pieces_are_done_in_order() {
    let mut hands = Hands::own(8);
    for number in 0..8 {
        hands.hand_out(Sum::new(number));
    }
    let mut order = Vec::new();
    hands.join(|piece| order.push((piece.number, piece.done)));
    assert_eq!(order, (0..8).map(|number| (number, true)).collect::<Vec<_>>());
    hands.hand_out(Sum::new(8));
    let mut slept = 0;
    assert_eq!(hands.join_until(None, |piece| slept += usize::from(piece.is_none())), 0);
    assert_eq!((slept, hands.now()), (1, None), "what is done is told of at the end at least");
}

#[test]
fn with_a_crew_each_piece_comes_back_once() {
    let crew = Crew::start(3, &clock()).unwrap();
    // Two lanes of one group, and more pieces than may be out at a time.
    let hands = [crew.for_sound(3 * PIECES), crew.for_sound(3 * PIECES)];
    let threads = hands.map(|mut hands| {
        thread::spawn(move || {
            for round in 0..50 {
                let pieces = if round % 10 == 0 { 3 * PIECES } else { round };
                for number in 0..pieces {
                    hands.hand_out(Sum::new(number));
                }
                let mut back = vec![0; pieces];
                hands.join(|piece| {
                    assert!(piece.done);
                    back[piece.number] += 1;
                });
                assert!(back.iter().all(|times| *times == 1));
            }
        })
    });
    threads.into_iter().for_each(|lane| lane.join().unwrap());
}

#[test]
fn several_work_at_a_time() {
    let crew = Crew::start(3, &clock()).unwrap();
    let mut hands = crew.for_sound(8);
    // Each waits for the two others: with fewer than three at work this never ends.
    let meets = Arc::new(Barrier::new(3));
    for number in 0..6 {
        hands.hand_out(Sum { meets: Some(meets.clone()), ..Sum::new(number) });
    }
    let mut back = 0;
    hands.join(|_| back += 1);
    assert_eq!(back, 6);
}

#[test]
fn many_short_pieces_are_done_by_the_lane_and_many_more_are_not() {
    let crew = Crew::start(3, &clock()).unwrap();
    let most = usize::try_from(WORTH_A_WAKE / G722).unwrap();
    let mut hands = crew.for_sound(most);
    for number in 1..most {
        hands.hand_out(Sum { effort: effort(Codec::G722), ..Sum::new(number) });
    }
    hands.join(|piece| assert_eq!(piece.by, Some(thread::current().id())));
    // Two that wait for each other need two.
    let meets = Arc::new(Barrier::new(2));
    for number in 0..most {
        let meets = (number < 2).then(|| meets.clone());
        hands.hand_out(Sum { effort: effort(Codec::G722), meets, ..Sum::new(number) });
    }
    let mut back = 0;
    hands.join(|_| back += 1);
    assert_eq!(back, most);
}

#[test]
fn who_is_not_ready_in_time_comes_back_in_a_later_step_and_holds_up_nobody() {
    let clock = clock();
    let crew = Crew::start(2, &clock).unwrap();
    let mut hands = crew.for_pictures(8);
    let meets = Arc::new(Barrier::new(2));
    hands.hand_out(Sum { meets: Some(meets.clone()), ..Sum::new(0) });
    let none = |piece: Option<Sum>| assert!(piece.is_none());
    assert_eq!(hands.join_until(Some(clock() + Duration::from_millis(2)), none), 1);
    // The other one of the crew does the next ones, and who was late is not waited for again.
    for number in 1..4 {
        hands.hand_out(Sum::new(number));
    }
    let mut back = Vec::new();
    let bound = Some(clock() + Duration::from_secs(20));
    assert_eq!(hands.join_until(bound, |piece| back.extend(piece.map(|it| it.number))), 0);
    back.sort_unstable();
    assert_eq!(back, [1, 2, 3]);
    meets.wait();
    while back.len() < 4 {
        hands.join_until(None, |piece| back.extend(piece.map(|it| it.number)));
    }
    assert_eq!(back[3], 0);
}

#[test]
fn a_codec_that_panics_costs_its_own_piece_alone() {
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.to_string().contains("as it was told") {
            HEARD.fetch_add(1, Ordering::Relaxed);
        } else {
            hook(info);
        }
    }));
    let crew = Crew::start(2, &clock()).unwrap();
    for mut hands in [crew.for_sound(8), crew.for_pictures(8), Hands::own(8)] {
        for number in 0..8 {
            hands.hand_out(Sum { panics: number % 4 == 1, ..Sum::new(number) });
        }
        let mut done = [true; 8];
        hands.join(|piece| done[piece.number] = piece.done);
        assert_eq!(done, [true, false, true, true, true, false, true, true]);
    }
    assert_eq!(HEARD.load(Ordering::Relaxed), 6, "the hook is told");
}

#[test]
fn a_crew_and_its_lanes_may_end_in_any_order() {
    for first in [true, false] {
        let crew = Crew::start(2, &clock()).unwrap();
        let mut hands = crew.for_sound(8);
        if first {
            drop(crew);
            // Nobody helps any more; the lane does it all.
            (0..8).for_each(|number| hands.hand_out(Sum::new(number)));
            let mut back = 0;
            hands.join(|_| back += 1);
            assert_eq!(back, 8);
        } else {
            drop(hands);
            assert!(crew.0.sound.hall.boards.read().unwrap().is_empty());
        }
    }
}

#[test]
fn how_busy_the_crew_was() {
    let time = Arc::new(AtomicU64::new(1_000_000_000));
    let asked = time.clone();
    let clock: ClockFn = Arc::new(move || Instant::from_nanos(asked.load(Ordering::SeqCst)));
    let crew = Crew::start(2, &clock).unwrap();
    let mut hands: Hands<Sum> = crew.for_pictures(8);
    assert_eq!(hands.look(), Some(None), "too soon");
    crew.0.pictures.hall.busy.fetch_add(500_000_000, Ordering::SeqCst);
    time.fetch_add(1_000_000_000, Ordering::SeqCst);
    assert_eq!(hands.look(), Some(Some(250)), "half a second of one of two");
    time.fetch_add(1_000_000_000, Ordering::SeqCst);
    assert_eq!(hands.look(), Some(Some(0)));
    assert_eq!(Hands::<Sum>::own(8).look(), None);
}
