//! Promise 40 in virtual time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::alias::Alias;

const PIN: &str = "room";

fn at(seconds: u64) -> Instant {
    Instant::from_millis(1_000 * (86_400 + seconds))
}

fn source(number: u32) -> Who {
    Who::source(Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))))
}

fn guard() -> Guard {
    let mut guard = Guard::new([7; 16]);
    guard.restore(at(0), Changes::default());
    guard
}

/// A guess, wrong; whether it was read.
fn guess(guard: &mut Guard, now: Instant, who: &Who, digits: usize) -> bool {
    let attempt = Attempt { who, room: Some(PIN), digits };
    match guard.attempt(now, attempt, || None::<()>) {
        Verdict::Wrong => true,
        Verdict::Refused(wait) => {
            assert!(!wait.is_zero());
            false
        }
        Verdict::Right(()) => panic!("a wrong one was right"),
    }
}

fn enters(guard: &mut Guard, now: Instant, who: &Who, digits: usize) -> bool {
    let attempt = Attempt { who, room: Some(PIN), digits };
    guard.attempt(now, attempt, || Some(())) == Verdict::Right(())
}

/// The store has everything.
fn save(guard: &mut Guard) -> Changes {
    let changes = guard.changes();
    guard.saved(changes.clone(), true);
    changes
}

#[test]
fn five_cost_nothing_and_each_further_one_doubles_the_wait() {
    let mut guard = guard();
    let eve = source(1);
    for _ in 0..5 {
        assert!(guess(&mut guard, at(0), &eve, 6));
        save(&mut guard);
    }
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert!(guess(&mut guard, now, &eve, 6));
        save(&mut guard);
        let wait = guard.turned_away(now, &eve, Some(PIN));
        waits.push(wait.as_secs());
        assert!(!guess(&mut guard, now + wait - Duration::from_secs(1), &eve, 6), "unread, and uncounted");
        assert!(!enters(&mut guard, now, &eve, 6), "a right one neither");
        now += wait;
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64]);
    assert!(enters(&mut guard, now, &source(2), 6), "others are not held up");
    // Hours later five cost nothing again.
    assert!((0..5).all(|_| guess(&mut guard, now + Duration::from_secs(7_200), &eve, 6) && {
        save(&mut guard);
        true
    }));
}

#[test]
fn aliases_that_nobody_has_count_as_wrong_pins_do() {
    let mut guard = guard();
    let eve = source(1);
    for _ in 0..6 {
        assert!(guard.missed(at(0), &eve).is_zero());
    }
    assert_eq!(guard.missed(at(0), &eve), Duration::from_secs(2), "and what is refused does not count");
    assert!(!guess(&mut guard, at(1), &eve, 6));
    // Who has been in a room is not asked what else he has tried.
    guard = self::guard();
    assert!(enters(&mut guard, at(0), &eve, 6));
    for _ in 0..9 {
        guard.missed(at(0), &eve);
    }
    assert!(!guard.turned_away(at(0), &eve, Some("other")).is_zero());
    assert!(guard.turned_away(at(0), &eve, Some(PIN)).is_zero() && enters(&mut guard, at(0), &eve, 6));
}

/// `count` guesses an hour of all sources together over 24 hours, as fast as they are read; how many were.
fn day(digits: usize, sources: u32) -> (u32, Guard) {
    let mut guard = guard();
    let owner = source(1_000_000);
    let device = Who::Device(Alias::from_canonical("alice"));
    assert!(enters(&mut guard, at(0), &owner, digits));
    let (mut read, mut tried) = (0, 0);
    for second in 0..86_400 {
        // 20 000 of each kind of crowd, then on and on: those that are refused cost the guesser nothing.
        for number in 0..5 {
            tried += 1;
            read += u32::from(guess(&mut guard, at(second), &source((tried + number) % sources), digits));
        }
        save(&mut guard);
        if second % 3_600 == 1_800 {
            assert!(enters(&mut guard, at(second), &owner, digits), "who was here before");
            assert!(enters(&mut guard, at(second), &device, digits), "a device of ours");
        }
    }
    assert!(tried >= 20_000);
    (read, guard)
}

#[test]
fn promise_40_a_day_of_guesses_stays_within_the_budget_of_the_room() {
    for (digits, most) in [(6, 2_880), (8, 2_880), (4, 100), (5, 100)] {
        let (read, mut guard) = day(digits, 500);
        assert!(read <= most && read + 25 >= most, "{digits} digits: {read} of {most}");
        assert!(!enters(&mut guard, at(86_400), &source(999), digits), "newcomers pay for it");
        assert!(enters(&mut guard, at(86_400 + 1_000), &source(999), digits), "for a while");
        let (read, _) = day(digits, 1);
        assert!(read <= most.min(750), "{digits} digits, one source: {read}");
    }
}

#[test]
fn who_has_been_in_guesses_five_a_day_beyond_the_budget_and_no_more() {
    let mut guard = guard();
    let insider = source(1);
    assert!(enters(&mut guard, at(0), &insider, 4));
    let mut read = 0;
    for second in 0..86_400 {
        read += u32::from(guess(&mut guard, at(second), &insider, 4));
        read +=
            u32::from(guess(&mut guard, at(second), &source(1 + u32::try_from(second).unwrap() % 400), 4));
        save(&mut guard);
        // Right ones between wipe nothing off.
        if second % 600 == 0 {
            enters(&mut guard, at(second), &insider, 4);
        }
    }
    assert!((95..=105).contains(&read), "{read}");
}

#[test]
fn a_million_keys_free_nobody_and_memory_has_an_end() {
    let mut guard = guard();
    let eve = source(1);
    for _ in 0..9 {
        guard.missed(at(0), &eve);
    }
    let blocked = guard.turned_away(at(1), &eve, None);
    assert_eq!(blocked, Duration::from_secs(1));
    // Addresses of IPv6 cost nothing: a million networks of one provider.
    for number in 0..1_000_000_u128 {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | number << 64);
        guard.missed(at(1), &Who::source(Some(address.into())));
    }
    assert_eq!(guard.len(), SOURCES);
    assert_eq!(guard.turned_away(at(1), &eve, None), blocked);
    // The rest of them share a counter, which is spent; other providers have their own.
    let new =
        |network: u128| Who::source(Some(Ipv6Addr::from_bits(network << 96 | 0xffff_fff0 << 64).into()));
    assert!(!guard.turned_away(at(1), &new(0x2001_0db8), None).is_zero());
    assert!(guard.turned_away(at(1), &new(0x2001_0db9), None).is_zero());
    assert!(guard.turned_away(at(1), &source(0x0100_0000), None).is_zero());
    // What is over makes room.
    guard.missed(at(10_000), &source(2));
    assert_eq!(guard.len(), 1);
}

#[test]
fn rooms_remember_the_last_who_were_there() {
    let mut guard = guard();
    let many = u32::try_from(VERIFIED).unwrap();
    for number in 0..=many {
        guard.entered(at(0), &source(number), PIN);
    }
    guard.entered(at(9), &source(1), PIN);
    guard.entered(at(9), &source(many + 1), PIN);
    let known = |guard: &Guard, number| guard.knows(at(9), &source(number), PIN);
    assert!(!known(&guard, 0) && known(&guard, 1) && !known(&guard, 2) && known(&guard, many + 1));
    assert!(!guard.knows(at(31 * 86_400), &source(1), PIN), "after a month he is a newcomer");
}

#[test]
fn a_kill_gives_back_three_guesses_at_most() {
    // The process is killed whenever the store might not have everything yet, over and over.
    let (mut stored, mut read) = (Changes::default(), 0);
    for kill in 0..200 {
        let mut guard = guard();
        guard.restore(at(kill), stored.clone());
        for number in 0..50 {
            read += u32::from(guess(
                &mut guard,
                at(kill),
                &source(u32::try_from(kill).unwrap() * 50 + number),
                4,
            ));
        }
        // What was under way when it was killed: every other time it reaches the disk.
        if kill % 2 == 0 {
            let changes = guard.changes();
            if !changes.rooms.is_empty() {
                stored.rooms = changes.rooms;
            }
        }
    }
    assert!(read <= 200 * UNSAVED, "{read}");
    assert!(stored.rooms[0].1 > at(0), "and those that were stored count");
    // While it runs and the disk is full, nobody is kept out for that.
    let mut guard = guard();
    for number in 0..9 {
        assert!(guess(&mut guard, at(0), &source(number), 6));
        let changes = guard.changes();
        guard.saved(changes, false);
    }
}

#[test]
fn a_clock_that_was_set_back_locks_nobody_out_for_longer() {
    let mut guard = guard();
    let year = Duration::from_secs(365 * 86_400);
    let far = at(0) + year;
    guard.restore(
        at(0),
        Changes {
            sources: vec![(source(1), Record { clear: far, until: far, beyond: far })],
            rooms: vec![(PIN.into(), far, 0)],
            verified: vec![(PIN.into(), source(2), far)],
        },
    );
    assert!(guard.turned_away(at(0), &source(1), None) <= Duration::from_secs(1_024));
    assert!(enters(&mut guard, at(0), &source(2), 4));
    assert!(!enters(&mut guard, at(0), &source(3), 4) && enters(&mut guard, at(1_000), &source(3), 4));
}
