use std::collections::VecDeque;

use super::*;

fn at(millis: u64) -> Instant {
    Instant::from_millis(100_000_000 + millis)
}

fn from(n: u32, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4((0x0a00_0000 + n).into()), port)
}

/// A flood of requests that are all refused, from one address: how many are read, when it is banned.
fn flood(rates: &mut Rates, stream: bool, each_second: u64, seconds: u64) -> (Vec<usize>, Option<u64>) {
    let (mut read, mut banned) = (Vec::new(), None);
    for second in 0..seconds {
        let mut count = 0;
        for n in 0..each_second {
            let millis = second * 1000 + n * 1000 / each_second;
            match rates.message(at(millis), stream, from(1, 5060), Kind::Request) {
                Entry::Read => {
                    count += 1;
                    rates.refused(at(millis), stream, from(1, 5060));
                }
                Entry::Over(_) => {}
                Entry::Banned => {
                    assert_eq!(banned.replace(millis), None, "one ban is told once");
                }
            }
        }
        read.push(count);
    }
    (read, banned)
}

#[test]
fn promise_28_a_flood_gets_few_answers_and_a_ban_and_others_notice_nothing() {
    let mut rates = Rates::new(500, Vec::new());
    let (read, banned) = flood(&mut rates, false, 5_000, 30);
    assert!(read.iter().all(|count| *count <= 20), "{read:?}");
    assert_eq!(read.iter().skip(3).sum::<usize>(), 0);
    assert!(matches!(banned, Some(2_000..2_100)), "{banned:?}");
    assert_eq!(rates.bans(at(30_000)).len(), 1);
    assert_eq!(rates.message(at(30_000), false, from(2, 5060), Kind::Request), Entry::Read);
    assert!(rates.connects(at(30_000), from(1, 9)), "what datagrams claim keeps nobody from connecting");
    // It ends by itself, and by hand.
    assert_eq!(rates.message(at(700_000), false, from(1, 5060), Kind::Request), Entry::Read);
    flood(&mut rates, false, 5_000, 3);
    assert!(rates.lift(at(3_000), from(1, 0).ip()));
    assert!(!rates.lift(at(3_000), from(1, 0).ip()));
    assert_eq!(rates.message(at(3_000), false, from(1, 5060), Kind::Request), Entry::Read);
}

#[test]
fn who_floods_by_a_stream_is_banned_altogether() {
    let mut rates = Rates::new(500, Vec::new());
    let (_, banned) = flood(&mut rates, true, 1_000, 10);
    assert!(banned.is_some());
    assert!(!rates.connects(at(10_000), from(1, 9)));
    assert!(matches!(rates.message(at(10_000), false, from(1, 5060), Kind::Request), Entry::Over(_)));
    assert_eq!(rates.bans(at(10_000)).len(), 1);
    assert!(rates.lift(at(10_000), from(1, 0).ip()));
    assert!(rates.connects(at(10_000), from(1, 9)));
    assert_eq!(rates.message(at(10_000), false, from(1, 5060), Kind::Request), Entry::Read);
}

#[test]
fn promise_30_a_scanner_is_not_read_after_twenty_tries_however_slow_it_is() {
    for each_second in [3, 10, 50] {
        let mut rates = Rates::new(500, Vec::new());
        let tries = (1_u64..).find(|n| {
            let now = at(n * 1000 / each_second);
            rates.refused(now, false, from(1, 5060));
            rates.message(now, false, from(1, 5060), Kind::Request) != Entry::Read
        });
        assert!(tries.is_some_and(|tries| tries <= 50), "{tries:?} at {each_second}/s");
        assert!(each_second < 10 || tries.is_some_and(|tries| tries <= 20), "{tries:?} at {each_second}/s");
    }
}

#[test]
fn who_has_proved_where_he_is_notices_nothing_of_forged_datagrams_from_his_address() {
    let mut rates = Rates::new(500, Vec::new());
    rates.proved(at(0), false, from(1, 40_000));
    rates.answers(at(0), true, from(1, 40_001));
    let (_, banned) = flood(&mut rates, false, 5_000, 60);
    assert!(banned.is_some());
    for (stream, port) in [(false, 40_000), (true, 40_001)] {
        assert_eq!(rates.message(at(60_000), stream, from(1, port), Kind::Request), Entry::Read);
    }
    assert!(matches!(rates.message(at(60_000), false, from(1, 40_002), Kind::Request), Entry::Over(_)));
    // What answers requests of ours is read all the same.
    assert_eq!(rates.message(at(60_000), false, from(1, 5060), Kind::Answer), Entry::Read);
}

#[test]
fn an_office_that_comes_back_at_once_is_not_banned() {
    let mut rates = Rates::new(500, Vec::new());
    // One telephone has registered before. All 400 ask, are challenged, and prove who they are.
    rates.proved(at(0), false, from(1, 999));
    let ports = 1000..1400_u16;
    for port in ports.clone() {
        assert_eq!(rates.message(at(0), false, from(1, port), Kind::Request), Entry::Read);
        rates.refused(at(0), false, from(1, port));
    }
    for port in ports {
        assert_eq!(rates.message(at(50), false, from(1, port), Kind::Request), Entry::Read, "{port}");
        rates.proved(at(50), false, from(1, port));
    }
}

#[test]
fn promise_25_an_office_of_which_nobody_is_known_yet_answers_its_challenges_at_once() {
    let mut rates = Rates::new(500, Vec::new());
    // More than a stranger's allowance, and all of them before the first challenge goes out.
    let ports = 1000..1064_u16;
    let asks =
        |rates: &mut Rates, millis, port| rates.message(at(millis), false, from(1, port), Kind::Request);
    let (read, unread): (Vec<_>, Vec<_>) = ports.partition(|port| asks(&mut rates, 0, *port) == Entry::Read);
    assert_eq!(read.len(), FREE as usize);
    read.iter().for_each(|port| rates.refused(at(1), false, from(1, *port)));
    for port in read {
        assert_eq!(asks(&mut rates, 2, port), Entry::Read, "{port}");
        rates.proved(at(3), false, from(1, port));
    }
    // The others repeat what they asked (T1, RFC 3261 section 17.1.2.1): all are of a house that is known.
    for port in &unread {
        assert_eq!(asks(&mut rates, 500, *port), Entry::Read, "{port}");
        rates.refused(at(501), false, from(1, *port));
    }
    for port in unread {
        assert_eq!(asks(&mut rates, 502, port), Entry::Read, "{port}");
    }
    assert!(rates.bans(at(502)).is_empty());
}

#[test]
fn promise_28_what_is_read_before_its_source_is_refused_is_within_the_allowance() {
    let mut rates = Rates::new(500, Vec::new());
    let (mut late, mut answers) = (VecDeque::new(), 0);
    // Each refusal comes 10 ms after its request.
    for millis in 0..1_000 {
        while late.pop_front_if(|due| *due <= millis).is_some() {
            rates.refused(at(millis), false, from(1, 5060));
            answers += 1;
        }
        for _ in 0..5 {
            if rates.message(at(millis), false, from(1, 5060), Kind::Request) == Entry::Read {
                late.push_back(millis + 10);
            }
        }
    }
    assert!((FREE..=20).contains(&answers), "{answers} in the first second");
}

#[test]
fn who_is_not_refused_is_not_held_for_long() {
    let mut rates = Rates::new(500, Vec::new());
    // Calls that are taken, of somebody of whom nothing is known: 50 in a second, evenly.
    for n in 0..50 {
        assert_eq!(rates.message(at(n * 20), false, from(1, 5060), Kind::Request), Entry::Read, "{n}");
    }
    // All at once: the rest within the fifth of a second, as it was repeated or a stream was held.
    let mut read = 0;
    for n in 0..50_u64 {
        let first = rates.message(at(2_000), false, from(1, 5060), Kind::Request);
        let Entry::Over(wait) = first else {
            read += 1;
            continue;
        };
        assert!(wait <= UNDECIDED_FOR, "{wait:?} for {n}");
    }
    assert_eq!(read, FREE);
    assert_eq!(rates.message(at(2_000) + UNDECIDED_FOR, false, from(1, 5060), Kind::Request), Entry::Read);
    assert!(rates.bans(at(10_000)).is_empty());
}

#[test]
fn who_is_challenged_again_and_again_is_read_once_beyond_the_allowance() {
    let mut rates = Rates::new(500, Vec::new());
    let read = (0..1_000).filter(|n| {
        let read = rates.message(at(*n), false, from(1, 5060), Kind::Request) == Entry::Read;
        if read {
            rates.refused(at(*n), false, from(1, 5060));
        }
        read
    });
    assert_eq!(read.count(), FREE as usize + 1 + 1, "those of the first second, and one answer");
    // From port to port it is the same: what is beyond the allowance is not challenged.
    let mut rates = Rates::new(500, Vec::new());
    let mut read = 0;
    for n in 0..1_000 {
        for time in [at(n), at(n) + Duration::from_micros(500)] {
            let from = from(1, 1000 + u16::try_from(n).unwrap());
            if rates.message(time, false, from, Kind::Request) == Entry::Read {
                rates.refused(time, false, from);
                read += 1;
            }
        }
    }
    assert!(read <= FREE as usize + 2 * 2, "{read}");
}

#[test]
fn an_ack_is_no_request() {
    let mut rates = Rates::new(500, Vec::new());
    for port in 1000..1000 + u16::try_from(FREE).unwrap() {
        assert_eq!(rates.message(at(0), false, from(1, port), Kind::Request), Entry::Read);
        rates.refused(at(0), false, from(1, port));
    }
    // Whoever is challenged acknowledges that, and then answers it once.
    assert_eq!(rates.message(at(2), false, from(1, 1000), Kind::Ack), Entry::Read);
    assert_eq!(rates.message(at(2), false, from(1, 1000), Kind::Request), Entry::Read);
    assert!(matches!(rates.message(at(2), false, from(1, 1000), Kind::Request), Entry::Over(_)));
    // Those of calls that are taken leave room for more calls.
    for n in 0..100 {
        assert_eq!(rates.message(at(n), false, from(2, 5060), Kind::Ack), Entry::Read);
    }
    assert_eq!(rates.message(at(100), false, from(2, 5060), Kind::Request), Entry::Read);
    // But a flood of them is held to what a source may send, and banned as any other.
    let kinds = (0..30_000).map(|n| rates.message(at(1_000 + n / 5), false, from(3, 5060), Kind::Ack));
    let (read, others): (Vec<_>, Vec<_>) = kinds.partition(|entry| *entry == Entry::Read);
    assert!(read.len() <= 2_500 + 3_000 && others.contains(&Entry::Banned), "{} were read", read.len());
}

#[test]
fn those_who_are_trusted_are_never_counted() {
    let mut rates = Rates::new(10, vec!["10.0.0.0/24".parse().unwrap()]);
    let (read, banned) = flood(&mut rates, false, 1_000, 5);
    assert_eq!((read, banned), (vec![1_000; 5], None));
}

#[test]
fn promise_29_tables_have_ends_and_nobody_is_pushed_out() {
    let mut rates = Rates::new(500, Vec::new());
    flood(&mut rates, false, 5_000, 1);
    let spent = |rates: &mut Rates| rates.message(at(999), false, from(1, 5060), Kind::Request);
    assert!(matches!(spent(&mut rates), Entry::Over(_)));
    let mut read = 0;
    for n in 2..200_000 {
        if rates.message(at(999), false, from(n, 5060), Kind::Request) == Entry::Read {
            rates.refused(at(999), false, from(n, 5060));
            read += 1;
        }
    }
    assert!(read <= OF_STRANGERS + 1, "{read} were answered within a moment");
    assert_eq!(rates.sources.len(), SOURCES);
    assert!(matches!(spent(&mut rates), Entry::Over(_)), "who has used up everything is not forgotten");
    for n in 0..200_000 {
        rates.answers(at(999), false, from(n, 5060));
    }
    assert_eq!(rates.flows.len(), FLOWS);
}

#[test]
fn an_ipv6_network_is_one_source_and_an_address_counts_in_any_spelling() {
    let ip = |text: &str| key(text.parse().unwrap());
    assert_eq!(ip("2001:db8:0:1::5"), ip("2001:db8:0:1:ffff::1"));
    assert_ne!(ip("2001:db8:0:1::5"), ip("2001:db8:0:2::5"));
    assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
}
