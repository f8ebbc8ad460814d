//! What a restart finds, and what it does not.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::conference::policy::{LeftParty, Muted, Place, Role};
use crate::registrar::{Expiry, FILE, Settings};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("crosspoint-ledger-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn ledger(&self) -> Ledger {
        let second = Duration::from_secs(1);
        let settings = Settings {
            realm: "crosspoint".into(),
            expiry: Expiry { least: second, default: second, most: second },
            registrations: 1,
            devices: Vec::new(),
            events: Default::default(),
        };
        let clock = Clock::start();
        Ledger::new(Registrar::open(&self.0, settings, clock).unwrap(), clock)
    }

    fn other(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.0.join(FILE)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn party(id: u64, role: Role, place: Place) -> LeftParty {
    let muted = Muted { himself: false, by_host: true };
    LeftParty { id: PartyId(id), role, place, muted, hand: None, spotlight: None, slides: false }
}

fn page(service: &str, parties: &[(u64, Role, Place)]) -> Page {
    let named = |id: u64| Named {
        uuid: Uuid::of([u8::try_from(id).unwrap(); 16]),
        name: format!("party {id}"),
        since: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + id),
    };
    Page {
        conference: Uuid::of([200; 16]),
        service: service.into(),
        left: Left {
            locked: true,
            hosted: true,
            parties: parties.iter().map(|(id, role, place)| party(*id, *role, *place)).collect(),
            ..Left::default()
        },
        names: parties.iter().map(|(id, ..)| named(*id)).collect(),
    }
}

/// Numbers of the next process: 100, 101.
fn numbers() -> impl FnMut() -> PartyId + Send {
    let mut next = 100;
    move || {
        next += 1;
        PartyId(next - 1)
    }
}

#[tokio::test]
async fn promise_14_what_was_told_as_done_is_found_and_what_is_over_is_not() {
    let scratch = Scratch::new("found");
    let ledger = scratch.ledger();
    let all = page("Alice's room", &[(1, Role::Host, Place::In), (2, Role::Guest, Place::Waiting)]);
    let (alice, bob) = (all.names[0].uuid, all.names[1].uuid);
    let pages = ledger.pages(None);
    assert!(pages.write(Some(all.clone())).wait().await);
    ledger.token(alice, ([1; 32], LIFE), None).await.unwrap();
    // Refreshed: the one before is good for a while.
    ledger.token(alice, ([2; 32], LIFE), Some(([1; 32], Duration::from_secs(60)))).await.unwrap();
    ledger.token(bob, ([3; 32], LIFE), None).await.unwrap();
    // Another conference is over: of it nothing is left.
    let other = Page { conference: Uuid::of([201; 16]), ..page("Other", &[(7, Role::Host, Place::In)]) };
    let others = ledger.pages(None);
    assert!(others.write(Some(other.clone())).wait().await);
    ledger.token(other.names[0].uuid, ([7; 32], LIFE), None).await.unwrap();
    assert!(others.write(None).wait().await);
    // Another process would find this.
    let other_hand = scratch.other();
    let mut found = ledger.recall(numbers()).await.unwrap();
    assert_eq!(found.len(), 1);
    let mut found = found.remove(0);
    found.tokens.sort_by_key(|it| it.1);
    let lives: Vec<_> =
        found.tokens.iter().map(|(who, hash, left)| (*who, hash[0], left.as_secs().div_ceil(10))).collect();
    assert_eq!(lives, [(alice, 1, 6), (alice, 2, 12), (bob, 3, 12)]);
    assert!((110..=120).contains(&found.stands.as_secs()), "{:?}", found.stands);
    let mut expected = all.clone();
    (expected.left.parties[0].id, expected.left.parties[1].id) = (PartyId(100), PartyId(101));
    assert_eq!(found.page, expected);
    // A token that is over, and a wall clock that was set back.
    other_hand.execute("UPDATE client_tokens SET until = 0 WHERE party = ?", [bob.to_string()]).unwrap();
    other_hand.execute("UPDATE client_tokens SET until = until + 31536000000", []).unwrap();
    other_hand.execute("UPDATE client_tokens SET until = 1 WHERE party = ?", [bob.to_string()]).unwrap();
    other_hand.execute("UPDATE conferences SET seen = seen + 31536000000", []).unwrap();
    let found = ledger.recall(numbers()).await.unwrap();
    assert!(
        found[0].tokens.iter().all(|(who, _, left)| *who == alice && *left == LIFE),
        "{:?}",
        found[0].tokens
    );
    assert_eq!((found[0].page.names.len(), found[0].stands), (1, LIFE));
    // Nobody comes back within the life of a token: the lock is over too.
    other_hand.execute_batch("UPDATE client_tokens SET until = 1; UPDATE conferences SET seen = 1").unwrap();
    assert_eq!(ledger.recall(numbers()).await.unwrap(), []);
    let count = |table: &str| -> i64 {
        other_hand.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(["client_tokens", "parties", "conferences"].map(count), [0, 0, 0], "and nothing lies about");
}

#[tokio::test]
async fn promise_16_a_store_that_cannot_be_written_acknowledges_nothing_and_recovers() {
    let scratch = Scratch::new("full");
    let ledger = scratch.ledger();
    let pages = ledger.pages(None);
    let other = scratch.other();
    // Another process breaks the tables, as a failing disk would; then they are mended.
    other.execute_batch("ALTER TABLE parties RENAME TO a; ALTER TABLE client_tokens RENAME TO b").unwrap();
    let all = page("Alice's room", &[(1, Role::Host, Place::In)]);
    assert!(!pages.write(Some(all.clone())).wait().await);
    assert!(ledger.token(all.names[0].uuid, ([1; 32], LIFE), None).await.is_err());
    other.execute_batch("ALTER TABLE a RENAME TO parties; ALTER TABLE b RENAME TO client_tokens").unwrap();
    // What is said again is stored, and so is what was not said again.
    let saved = pages.write(Some(all.clone()));
    let mut progress = pages.progress.clone();
    let stored = progress.wait_for(|it| it.stored > 0);
    tokio::time::timeout(Duration::from_secs(20), stored).await.expect("hangs").unwrap();
    assert!(saved.wait().await);
    ledger.token(all.names[0].uuid, ([1; 32], LIFE), None).await.unwrap();
    assert_eq!(ledger.recall(numbers()).await.unwrap()[0].page.names, all.names);
    ledger.close().await.unwrap();
    assert_eq!(ledger.recall(numbers()).await.unwrap(), []);
}
