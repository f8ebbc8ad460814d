//! The guide's rules, one by one.

use super::*;

/// Rooms with and without a host PIN.
fn room(tells_hosts: bool) -> Policy {
    Policy::new(Rules { tells_hosts, ..Rules::default() })
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(1_000_000 + 1_000 * seconds)
}

const HOST: Entry = Entry { role: Role::Host, invited: false, keeps: Keeps::Always };
const GUEST: Entry = Entry { role: Role::Guest, invited: false, keeps: Keeps::Always };

const fn invited(entry: Entry) -> Entry {
    Entry { invited: true, ..entry }
}

fn id(number: u64) -> PartyId {
    PartyId(number)
}

fn come(policy: &mut Policy, number: u64, entry: Entry) -> Place {
    policy.enter(at(0), id(number), entry).unwrap()
}

fn act(policy: &mut Policy, number: u64, deed: Deed) -> Result<(), Denied> {
    policy.act(at(0), Actor::Party(id(number)), deed)
}

fn places(policy: &Policy) -> Vec<(u64, Place)> {
    policy.parties().iter().map(|it| (it.id.0, it.place)).collect()
}

/// Who is out, and why.
fn exits(policy: &mut Policy) -> Vec<(u64, Exit)> {
    let out = |change| match change {
        Change::Out(id, exit) => Some((id.0, exit)),
        _ => None,
    };
    policy.take_changes().into_iter().filter_map(out).collect()
}

use Place::{In, Waiting};

#[test]
fn s20_guests_wait_until_a_host_is_there() {
    let mut policy = room(true);
    assert_eq!(come(&mut policy, 1, GUEST), Waiting);
    assert_eq!(come(&mut policy, 2, GUEST), Waiting);
    assert!(!policy.started());
    assert_eq!(come(&mut policy, 3, HOST), In);
    assert_eq!(places(&policy), [(1, In), (2, In), (3, In)]);
    assert!(policy.started());
    let changes = policy.take_changes();
    assert_eq!(
        changes,
        [
            Change::Came(id(1)),
            Change::Came(id(2)),
            Change::Came(id(3)),
            Change::Conference,
            Change::LetIn(id(1)),
            Change::LetIn(id(2))
        ]
    );
    // Without a host PIN nobody waits.
    let mut open = room(false);
    assert!(open.started());
    assert_eq!(come(&mut open, 1, HOST), In);
}

#[test]
fn s24_s25_without_a_host_pin_a_lock_holds_everybody_and_all_who_are_in_admit() {
    let mut policy = room(false);
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, HOST);
    act(&mut policy, 1, Deed::Lock(true)).unwrap();
    for (number, entry) in [(3, HOST), (4, invited(HOST)), (5, invited(GUEST)), (6, HOST)] {
        assert_eq!(come(&mut policy, number, entry), Waiting, "{entry:?}");
    }
    assert!(policy.sees_waiting(id(1)) && policy.sees_waiting(id(2)) && !policy.sees_waiting(id(3)));
    // Even one who was made a guest: he is in.
    act(&mut policy, 1, Deed::Role(id(2), Role::Guest)).unwrap();
    act(&mut policy, 2, Deed::Admit(id(3))).unwrap();
    act(&mut policy, 2, Deed::Remove(id(4))).unwrap();
    assert_eq!(act(&mut policy, 2, Deed::Remove(id(1))), Err(Denied::Role), "who is in is no matter of his");
    assert_eq!(act(&mut policy, 5, Deed::Admit(id(5))), Err(Denied::Role), "nobody lets himself in");
    assert_eq!(places(&policy), [(1, In), (2, In), (3, In), (5, Waiting), (6, Waiting)]);
    assert_eq!(exits(&mut policy), [(4, Exit::Removed(Actor::Party(id(2))))]);
    // S28.
    act(&mut policy, 1, Deed::Lock(false)).unwrap();
    assert_eq!(places(&policy), [(1, In), (2, In), (3, In), (5, In), (6, In)]);
}

#[test]
fn s26_s27_with_a_host_pin_a_lock_holds_guests_and_hosts_admit() {
    let mut policy = room(true);
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, GUEST);
    act(&mut policy, 1, Deed::Lock(true)).unwrap();
    assert_eq!(come(&mut policy, 3, HOST), In);
    assert_eq!(come(&mut policy, 4, GUEST), Waiting);
    assert_eq!(come(&mut policy, 5, invited(GUEST)), Waiting);
    assert!(policy.sees_waiting(id(3)) && !policy.sees_waiting(id(2)));
    assert_eq!(act(&mut policy, 2, Deed::Admit(id(4))), Err(Denied::Role));
    assert_eq!(act(&mut policy, 2, Deed::Lock(false)), Err(Denied::Role));
    act(&mut policy, 3, Deed::Admit(id(4))).unwrap();
    assert_eq!(places(&policy), [(1, In), (2, In), (3, In), (4, In), (5, Waiting)]);
    policy.act(at(0), Actor::Admin, Deed::Lock(false)).unwrap();
    assert_eq!(policy.party(id(5)).unwrap().place, In);
}

#[test]
fn s29_who_waits_is_out_when_the_conference_is_over() {
    let mut policy = room(false);
    come(&mut policy, 1, HOST);
    act(&mut policy, 1, Deed::Lock(true)).unwrap();
    come(&mut policy, 2, HOST);
    policy.take_changes();
    policy.leave(at(1), id(1));
    let over = Exit::Over(End::Empty);
    assert_eq!(exits(&mut policy), [(1, Exit::Left), (2, over)]);
    assert_eq!(policy.enter(at(2), id(3), HOST), Err(Full));
    assert_eq!(policy.act(at(2), Actor::Admin, Deed::Lock(false)), Err(Denied::Over));
    assert_eq!(policy.next_timeout(), None);
}

#[test]
fn s31_an_invited_host_passes_a_lock_where_that_is_set() {
    let mut policy = Policy::new(Rules { invited_hosts_pass: true, ..Rules::default() });
    come(&mut policy, 1, HOST);
    act(&mut policy, 1, Deed::Lock(true)).unwrap();
    assert_eq!(come(&mut policy, 2, invited(HOST)), In);
    assert_eq!(come(&mut policy, 3, invited(GUEST)), Waiting);
    assert_eq!(come(&mut policy, 4, HOST), Waiting);
}

#[test]
fn s34_to_s38_guests_do_what_concerns_themselves() {
    let mut policy = room(true);
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, GUEST);
    come(&mut policy, 3, GUEST);
    let own = [Deed::Hand(id(2), true), Deed::Mute(id(2), true), Deed::Mute(id(2), false)];
    for deed in own {
        act(&mut policy, 2, deed).unwrap();
    }
    for deed in [
        Deed::Lock(true),
        Deed::Start,
        Deed::Remove(id(3)),
        Deed::Remove(id(1)),
        Deed::End,
        Deed::Mute(id(3), true),
        Deed::MuteGuests(true),
        Deed::GuestsCanUnmute(true),
        Deed::Role(id(2), Role::Host),
        Deed::Hand(id(3), true),
        Deed::LowerHands,
        Deed::Spotlight(id(2), true),
        Deed::ClearSpotlights,
    ] {
        assert_eq!(act(&mut policy, 2, deed), Err(Denied::Role), "{deed:?}");
        assert!(policy.act(at(0), Actor::Admin, deed).is_ok() || policy.parties().is_empty(), "{deed:?}");
        policy = room(true);
        come(&mut policy, 1, HOST);
        come(&mut policy, 2, GUEST);
        come(&mut policy, 3, GUEST);
    }
    act(&mut policy, 2, Deed::Remove(id(2))).unwrap();
    assert_eq!(exits(&mut policy), [(2, Exit::Left)]);
    assert_eq!(act(&mut policy, 2, Deed::Hand(id(2), true)), Err(Denied::NoParty));
}

#[test]
fn a_host_s_mute_is_his_and_ones_own_is_ones_own() {
    let mut policy = room(true);
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, GUEST);
    let muted = |policy: &Policy, number| policy.party(id(number)).unwrap().muted;
    // He muted himself, then all are muted and unmuted: he still is.
    act(&mut policy, 2, Deed::Mute(id(2), true)).unwrap();
    act(&mut policy, 1, Deed::MuteGuests(true)).unwrap();
    come(&mut policy, 3, GUEST);
    come(&mut policy, 4, HOST);
    assert!(muted(&policy, 3).by_host && !muted(&policy, 4).any() && !muted(&policy, 1).any());
    assert_eq!(act(&mut policy, 3, Deed::Mute(id(3), false)), Err(Denied::MutedByHost));
    act(&mut policy, 1, Deed::MuteGuests(false)).unwrap();
    assert_eq!(muted(&policy, 2), Muted { himself: true, by_host: false });
    assert!(!muted(&policy, 3).any());
    act(&mut policy, 2, Deed::Mute(id(2), false)).unwrap();
    // One alone; he may take it back where that is allowed.
    act(&mut policy, 1, Deed::Mute(id(2), true)).unwrap();
    assert_eq!(act(&mut policy, 2, Deed::Mute(id(2), false)), Err(Denied::MutedByHost));
    act(&mut policy, 1, Deed::GuestsCanUnmute(true)).unwrap();
    act(&mut policy, 2, Deed::Mute(id(2), false)).unwrap();
    // A host unmutes himself whoever muted him.
    act(&mut policy, 1, Deed::Mute(id(4), true)).unwrap();
    act(&mut policy, 4, Deed::Mute(id(4), false)).unwrap();
    assert!(policy.parties().iter().all(|party| !party.muted.any()));
}

#[test]
fn guests_alone_have_a_minute_and_newcomers_wait_meanwhile() {
    let mut policy = room(true);
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, GUEST);
    policy.leave(at(100), id(1));
    assert_eq!(policy.next_timeout(), Some(at(160)));
    assert_eq!(policy.enter(at(110), id(3), GUEST), Ok(Waiting));
    policy.timeout(at(159));
    assert_eq!(policy.parties().len(), 2);
    // A host is back in time.
    assert_eq!(policy.enter(at(159), id(4), HOST), Ok(In));
    assert_eq!(places(&policy), [(2, In), (3, In), (4, In)]);
    assert_eq!(policy.next_timeout(), None);
    // And goes again: this time nobody comes.
    policy.leave(at(200), id(4));
    policy.take_changes();
    policy.timeout(at(260));
    let end = Exit::Over(End::NoHost);
    assert_eq!(exits(&mut policy), [(2, end), (3, end)]);
}

#[test]
fn who_waits_too_long_is_sent_away_and_nobody_else() {
    let mut policy = room(true);
    assert_eq!(policy.enter(at(0), id(1), GUEST), Ok(Waiting));
    assert_eq!(policy.enter(at(10), id(2), GUEST), Ok(Waiting));
    assert_eq!(policy.next_timeout(), Some(at(900)));
    policy.timeout(at(900));
    assert_eq!(exits(&mut policy), [(1, Exit::Waited)]);
    assert_eq!(policy.next_timeout(), Some(at(910)));
    policy.timeout(at(910));
    assert_eq!(exits(&mut policy), [(2, Exit::Waited)]);
    assert!(policy.over.is_some(), "nobody is left");
}

#[test]
fn the_last_one_and_recorders_keep_no_conference_alive() {
    let last_one = Duration::from_secs(300);
    let mut policy = Policy::new(Rules { last_one, ..Rules::default() });
    come(&mut policy, 1, HOST);
    assert_eq!(policy.next_timeout(), Some(at(300)));
    assert_eq!(policy.enter(at(100), id(2), HOST), Ok(In));
    assert_eq!(policy.next_timeout(), None);
    policy.leave(at(200), id(2));
    policy.timeout(at(500));
    assert_eq!(exits(&mut policy), [(2, Exit::Left), (1, Exit::Over(End::LastOne))]);

    let mut policy = room(false);
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, Entry { keeps: Keeps::Never, ..GUEST });
    policy.leave(at(1), id(1));
    assert_eq!(exits(&mut policy), [(1, Exit::Left), (2, Exit::Over(End::NobodyKeeps))]);
}

#[test]
fn those_who_stay_in_company_go_on_in_twos_and_not_alone() {
    let mut policy = room(false);
    come(&mut policy, 1, HOST);
    for called in 2..=3 {
        come(&mut policy, called, Entry { keeps: Keeps::InCompany, invited: true, ..HOST });
    }
    policy.leave(at(1), id(1));
    assert!(!policy.is_over(), "two telephones talk on");
    policy.leave(at(2), id(3));
    assert_eq!(exits(&mut policy)[2..], [(2, Exit::Over(End::NobodyKeeps))]);

    // Beside a person each counts, for the last one's time as well.
    let mut policy = Policy::new(Rules { last_one: Duration::from_secs(300), ..Rules::default() });
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, Entry { keeps: Keeps::InCompany, invited: true, ..HOST });
    assert_eq!(policy.next_timeout(), None);
}

#[test]
fn a_conference_has_its_limit() {
    let mut policy = Policy::new(Rules { parties: 2, ..Rules::default() });
    come(&mut policy, 1, HOST);
    assert_eq!(policy.enter(at(0), id(1), HOST), Err(Full), "nobody comes twice");
    act(&mut policy, 1, Deed::Lock(true)).unwrap();
    come(&mut policy, 2, HOST);
    assert_eq!(policy.enter(at(0), id(3), HOST), Err(Full), "who waits counts");
    policy.leave(at(1), id(2));
    assert_eq!(policy.enter(at(1), id(3), HOST), Ok(Waiting));
}

#[test]
fn where_no_host_is_needed_nobody_is_told_of_a_start() {
    let mut policy = room(false);
    come(&mut policy, 1, HOST);
    assert_eq!(policy.take_changes(), [Change::Came(id(1))]);
}

#[test]
fn s20_who_is_made_a_host_while_he_waits_lets_in_those_before_him() {
    let mut policy = room(true);
    come(&mut policy, 1, GUEST);
    come(&mut policy, 2, GUEST);
    policy.act(at(0), Actor::Admin, Deed::Role(id(2), Role::Host)).unwrap();
    assert_eq!(places(&policy), [(1, In), (2, In)]);
    assert!(policy.started());
}

#[test]
fn s34_a_host_takes_back_his_mute_and_not_ones_own() {
    let mut policy = room(true);
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, GUEST);
    act(&mut policy, 2, Deed::Mute(id(2), true)).unwrap();
    act(&mut policy, 1, Deed::Mute(id(2), true)).unwrap();
    act(&mut policy, 1, Deed::Mute(id(2), false)).unwrap();
    assert_eq!(policy.party(id(2)).unwrap().muted, Muted { himself: true, by_host: false });
}

#[test]
fn guests_whom_no_host_has_left_yet_are_not_counted_out() {
    let mut policy = room(true);
    come(&mut policy, 1, GUEST);
    policy.act(at(0), Actor::Admin, Deed::Start).unwrap();
    assert_eq!(places(&policy), [(1, In)]);
    assert_eq!(policy.next_timeout(), None);
    come(&mut policy, 2, HOST);
    policy.leave(at(100), id(2));
    assert_eq!(policy.next_timeout(), Some(at(160)));
}

#[test]
fn the_last_one_is_the_last_one_beside_a_recorder_too() {
    let mut policy = Policy::new(Rules { last_one: Duration::from_secs(300), ..Rules::default() });
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, Entry { keeps: Keeps::Never, ..GUEST });
    assert_eq!(policy.next_timeout(), Some(at(300)));
    policy.timeout(at(300));
    let over = Exit::Over(End::LastOne);
    assert_eq!(exits(&mut policy), [(1, over), (2, over)]);
}

#[test]
fn who_goes_on_at_another_telephone_is_let_in_before_and_stays_as_he_is() {
    let mut policy = room(true);
    come(&mut policy, 1, HOST);
    come(&mut policy, 2, GUEST);
    act(&mut policy, 1, Deed::Mute(id(2), true)).unwrap();
    act(&mut policy, 1, Deed::Lock(true)).unwrap();
    policy.leave(at(1), id(1));
    policy.take_changes();
    let was = |policy: &Policy, n| *policy.party(id(n)).unwrap();
    let two = was(&policy, 2);
    policy.go_on(at(2), two, id(3)).unwrap();
    assert_eq!(policy.take_changes(), [Change::Out(id(2), Exit::Left), Change::Came(id(3))]);
    assert!(was(&policy, 3).muted.by_host);
    assert_eq!(places(&policy), [(3, In)]);
    // Who left a moment ago is in again as what he was, if there is room.
    policy.go_on(at(2), two, id(4)).unwrap();
    assert_eq!(places(&policy), [(3, In), (4, In)]);
    assert!(was(&policy, 4).muted.by_host);
    let mut full = Policy::new(Rules { parties: 1, ..Rules::default() });
    come(&mut full, 1, HOST);
    let one = was(&full, 1);
    assert_eq!(full.go_on(at(0), Party { id: id(9), ..one }, id(2)), Err(Full), "he is not in any more");
    full.go_on(at(0), one, id(2)).unwrap();
    full.end(End::NoHost);
    assert_eq!(full.go_on(at(0), Party { id: id(2), ..one }, id(3)), Err(Full));
}
