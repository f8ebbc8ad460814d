use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::conference::layout::Layout;

/// How often the tests say who is heard.
const STEP: u64 = 200;

fn leg(number: u64) -> LegId {
    LegId(number)
}

fn order(slots: usize, mains: usize, members: u64) -> Order {
    let mut order = Order::new(slots, mains);
    (1..=members).for_each(|number| order.join(leg(number)));
    order
}

fn seated(order: &Order) -> Vec<u64> {
    order.seated().map(|it| it.0).collect()
}

/// `number` speaks from `from` for `millis`.
fn speak(order: &mut Order, number: u64, from: u64, millis: u64) {
    for at in (from..=from + millis).step_by(200) {
        order.heard(leg(number), Instant::from_millis(at));
    }
}

#[test]
fn a_speaker_takes_the_main_slot_and_the_other_takes_his() {
    let mut order = order(8, 1, 4);
    speak(&mut order, 3, 0, 1_000);
    assert_eq!(seated(&order), [3, 2, 1, 4]);
    assert_eq!(order.speaker(Instant::from_millis(1_100)), Some(leg(3)));
    assert_eq!(order.speaker(Instant::from_millis(9_000)), None);
}

#[test]
fn a_cough_moves_nobody_and_a_breath_does_not_end_a_speech() {
    let mut order = order(8, 1, 3);
    speak(&mut order, 2, 0, 600);
    speak(&mut order, 2, 5_000, 600);
    assert_eq!(seated(&order), [1, 2, 3]);
    assert_eq!(order.speaker(Instant::from_millis(5_600)), None);
    speak(&mut order, 2, 6_000, 200);
    assert_eq!(seated(&order), [2, 1, 3]);
}

#[test]
fn two_who_talk_to_each_other_do_not_fight_for_the_main_slot() {
    let mut order = order(8, 1, 3);
    speak(&mut order, 1, 0, 3_000);
    speak(&mut order, 2, 2_000, 2_000);
    assert_eq!(seated(&order), [1, 2, 3]);
    speak(&mut order, 2, 4_200, 1_000);
    assert_eq!(seated(&order), [2, 1, 3]);
}

#[test]
fn a_speaker_who_is_not_seen_replaces_the_longest_silent() {
    let mut order = order(4, 0, 6);
    for number in [1, 3, 4] {
        speak(&mut order, number, number * 10_000, 1_000);
    }
    assert_eq!(seated(&order), [1, 2, 3, 4]);
    speak(&mut order, 6, 60_000, 1_000);
    assert_eq!(seated(&order), [1, 6, 3, 4]);
    speak(&mut order, 5, 70_000, 1_000);
    assert_eq!(seated(&order), [5, 6, 3, 4]);
}

#[test]
fn the_main_who_is_replaced_by_one_who_was_not_seen_stays_seen() {
    let mut order = order(3, 1, 5);
    speak(&mut order, 1, 0, 1_000);
    speak(&mut order, 5, 10_000, 1_000);
    assert_eq!(seated(&order), [5, 2, 1]);
}

#[test]
fn who_leaves_is_replaced_by_one_who_was_not_seen_and_nobody_else_moves() {
    let mut order = order(4, 1, 6);
    speak(&mut order, 1, 0, 1_000);
    order.leave(leg(3));
    assert_eq!(seated(&order), [1, 2, 5, 4]);
    order.leave(leg(1));
    // The first of the silent ones follows in the main slot, an unseen one in his.
    assert_eq!(seated(&order), [2, 6, 5, 4]);
    order.leave(leg(6));
    assert_eq!(seated(&order), [2, 4, 5]);
    order.leave(leg(9));
    assert_eq!(seated(&order), [2, 4, 5]);
}

#[test]
fn a_spotlight_wins_over_voice_and_its_end_moves_nobody() {
    let mut order = order(4, 1, 6);
    order.set_spotlight(&[leg(5), leg(7), leg(2)]);
    assert_eq!(seated(&order), [5, 2, 3, 4]);
    speak(&mut order, 3, 0, 2_000);
    speak(&mut order, 6, 10_000, 2_000);
    assert_eq!(seated(&order)[..2], [5, 2]);
    assert!(seated(&order).contains(&6));
    order.join(leg(7));
    assert_eq!(seated(&order)[..3], [5, 7, 2]);
    let before = seated(&order);
    order.set_spotlight(&[]);
    assert_eq!(seated(&order), before);
}

#[test]
fn another_layout_keeps_the_last_speakers_in_sight() {
    let mut order = order(25, 0, 20);
    for number in [15, 3, 18] {
        speak(&mut order, number, number * 1_000, 1_000);
    }
    speak(&mut order, 3, 60_000, 1_000);
    order.set_slots(4, 1);
    let seen = seated(&order);
    assert_eq!(seen[0], 3);
    assert!(seen.contains(&15) && seen.contains(&18) && seen.len() == 4, "{seen:?}");
    order.set_slots(25, 0);
    assert_eq!(seated(&order).len(), 20);
    assert_eq!(seated(&order)[..4], seen);
}

#[test]
fn nobody_looks_at_himself_and_the_main_sees_the_last_speaker_but_him() {
    let mut order = order(3, 1, 5);
    speak(&mut order, 2, 0, 1_000);
    speak(&mut order, 3, 10_000, 1_000);
    assert_eq!(seated(&order), [3, 1, 2]);
    let viewers: Vec<LegId> = (1..=6).map(leg).collect();
    let views = order.views(&viewers, SelfView::Hidden);
    let seen = |number: u64| -> Vec<u64> {
        let view = views.iter().find(|it| it.viewers.contains(&leg(number))).unwrap();
        view.seated.iter().map(|it| it.0).collect()
    };
    assert_eq!(views.len(), 4);
    assert_eq!(views[0].viewers, [leg(4), leg(5), leg(6)]);
    assert_eq!(seen(4), [3, 1, 2]);
    assert_eq!(seen(3), [2, 1, 4]);
    assert_eq!(seen(1), [3, 4, 2]);
    assert_eq!(order.views(&viewers, SelfView::Shown).len(), 1);
}

#[test]
fn a_room_takes_one_picture_for_each_who_is_seen_and_one_for_all_others() {
    for layout in Layout::ALL {
        for members in [1, 2, 3, 8, 9, 30, 100] {
            let mut order = order(layout.capacity(), layout.mains(), members);
            speak(&mut order, members / 2 + 1, 0, 1_000);
            speak(&mut order, members, 5_000, 1_000);
            let viewers: Vec<LegId> = (1..=members).map(leg).collect();
            let seen = order.seated().len();
            let unseen = viewers.len() - seen;
            let views = order.views(&viewers, SelfView::Hidden);
            assert_eq!(views.len(), seen + usize::from(unseen > 0), "{layout} with {members}");
            assert_eq!(views.iter().map(|it| it.viewers.len()).max(), Some(unseen.max(1)));
            let distinct: BTreeSet<Vec<u64>> =
                views.iter().map(|it| it.seated.iter().map(|leg| leg.0).collect()).collect();
            assert_eq!(distinct.len(), views.len(), "{layout} with {members}: a picture is made twice");
            // A recording looks at what those see who are not seen.
            let with_recording: Vec<LegId> = viewers.iter().copied().chain([leg(999)]).collect();
            assert_eq!(order.views(&with_recording, SelfView::Hidden).len(), seen + 1);
            assert_eq!(order.views(&with_recording, SelfView::Shown).len(), 1);
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Join(u64),
    Leave(u64),
    Speak(u64, u64),
    Spotlight(Vec<u64>),
    Slots(usize, usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1..40_u64).prop_map(Event::Join),
        1 => (1..40_u64).prop_map(Event::Leave),
        4 => (1..40_u64, 1..20_u64).prop_map(|(who, steps)| Event::Speak(who, steps)),
        1 => prop::collection::vec(1..40_u64, 0..4).prop_map(Event::Spotlight),
        1 => (1..34_usize, 0..6_usize).prop_map(|(slots, mains)| Event::Slots(slots, mains)),
    ]
}

proptest! {
    #[test]
    fn any_history_leaves_everybody_in_his_place(events in prop::collection::vec(event(), 1..60)) {
        let mut order = Order::new(8, 1);
        let (mut here, mut slots, mut mains) = (BTreeSet::new(), 8, 1);
        let mut spotlight = Vec::new();
        let mut now = 0;
        for event in events {
            let before = seated(&order);
            match event {
                Event::Join(who) => {
                    order.join(leg(who));
                    let known = !here.insert(who);
                    if known || !spotlight.contains(&who) {
                        prop_assert_eq!(&seated(&order)[..before.len()], &before[..], "a joiner moves nobody");
                    }
                }
                Event::Leave(who) => {
                    order.leave(leg(who));
                    here.remove(&who);
                    spotlight.retain(|it| *it != who);
                    if !before.contains(&who) {
                        prop_assert_eq!(seated(&order), before);
                    }
                }
                Event::Speak(who, steps) => {
                    for _ in 0..steps {
                        now += STEP;
                        let before = seated(&order);
                        let moved = order.heard(leg(who), Instant::from_millis(now));
                        let after = seated(&order);
                        prop_assert_eq!(moved, before != after);
                        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
                        prop_assert!(changed <= 2, "{:?} {:?}", before, after);
                        if moved {
                            prop_assert!(after.contains(&who));
                        }
                        if mains == 0 && before.contains(&who) {
                            prop_assert!(!moved, "who is seen stays");
                        }
                    }
                }
                Event::Spotlight(list) => {
                    spotlight.clear();
                    for who in list {
                        if !spotlight.contains(&who) {
                            spotlight.push(who);
                        }
                    }
                    let legs: Vec<LegId> = spotlight.iter().copied().map(leg).collect();
                    order.set_spotlight(&legs);
                }
                Event::Slots(to, of) => {
                    (slots, mains) = (to, of.min(to));
                    order.set_slots(to, of);
                }
            }
            let seen = seated(&order);
            let distinct: BTreeSet<u64> = seen.iter().copied().collect();
            prop_assert_eq!(distinct.len(), seen.len());
            prop_assert_eq!(seen.len(), here.len().min(slots));
            prop_assert!(distinct.is_subset(&here));
            let lit: Vec<u64> = spotlight.iter().copied().filter(|it| here.contains(it)).take(slots).collect();
            prop_assert_eq!(&seen[..lit.len()], &lit[..]);
            let viewers: Vec<LegId> = here.iter().copied().chain([99]).map(leg).collect();
            let views = order.views(&viewers, SelfView::Hidden);
            prop_assert_eq!(views.iter().map(|it| it.viewers.len()).sum::<usize>(), viewers.len());
            prop_assert_eq!(views.len(), seen.len() + 1);
            for view in &views {
                let distinct: BTreeSet<_> = view.seated.iter().collect();
                prop_assert_eq!(distinct.len(), view.seated.len());
                prop_assert!(view.viewers.iter().all(|viewer| !view.seated.contains(viewer)));
                let others = here.len() - usize::from(here.contains(&view.viewers[0].0));
                prop_assert_eq!(view.seated.len(), others.min(slots));
            }
        }
    }
}
