use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::*;
use crate::alias::Domains;
use crate::conference::dialling::Automatic;
use crate::conference::policy::{Door, Pin, Rules};
use crate::conference::service::Kind;
use crate::config::Redacted;
use crate::registrar::{Device, FILE, Origin};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("crosspoint-services-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn store(&self) -> Store {
        Store::open(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn alias(text: &str) -> Alias {
    Alias::parse(text, &Domains::default()).unwrap()
}

fn room(name: &str, aliases: &[&str]) -> Service {
    let aliases: Vec<Alias> = aliases.iter().map(|it| alias(it)).collect();
    Service { aliases, ..Service::new(name, alias("unused")) }
}

fn device(text: &str) -> Device {
    Device::new(alias(text), text, "crosspoint", &Redacted::new("secret"), Origin::Store)
}

#[test]
fn every_field_comes_back() {
    let scratch = Scratch::new("fields");
    let door =
        Door::new(Some(Pin::parse("1234#").unwrap()), Some(Pin::parse("5678").unwrap()), false).unwrap();
    let lecture = Service {
        kind: Kind::Auditorium,
        rules: Rules {
            tells_hosts: true,
            parties: 77,
            invited_hosts_pass: true,
            wait: Duration::from_secs(120),
            guests_alone: Duration::from_secs(30),
            last_one: LONGEST_TIME,
        },
        door,
        layout: "5:7".parse().unwrap(),
        guest_layout: "4:0".parse().unwrap(),
        talkers: None,
        chat: false,
        guests_present: false,
        names: false,
        dials: vec![
            "+4930123456 role=guest keys=,,1234# keeps=never protocol=sip".parse().unwrap(),
            Automatic::to("alice"),
        ],
        ..room("Lecture \"1\"", &["lecture@example.com", "500"])
    };
    let plain = room("Alice's room", &["meet.alice"]);
    let store = scratch.store();
    for service in [&lecture, &plain] {
        add(&store, service, NOW).unwrap();
    }
    drop(store);
    let store = scratch.store();
    let read: Vec<String> = all(&store).unwrap().iter().map(spelled).collect();
    assert_eq!(read, [spelled(&plain), spelled(&lecture)], "by name");
    // Replaced as a whole, under another name; then gone, and its aliases are free.
    let changed = Service { talkers: Some(3), ..room("Hall", &["500", "hall"]) };
    replace(&store, &lecture, &changed).unwrap();
    assert!(find(&store, "Lecture \"1\"").unwrap().is_none());
    assert_eq!(spelled(&find(&store, "Hall").unwrap().unwrap()), spelled(&changed));
    add(&store, &room("Other", &["lecture@example.com"]), NOW).unwrap();
    assert!(remove(&store, "Hall").unwrap() && !remove(&store, "Hall").unwrap());
    add(&store, &room("Other 2", &["hall"]), NOW).unwrap();
    let mode = fs::metadata(scratch.0.join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "PINs are in it");
}

#[test]
fn s1_names_and_aliases_are_unique_and_what_is_wrong_is_named() {
    let scratch = Scratch::new("unique");
    let mut store = scratch.store();
    store.add_device(&device("alice"), NOW).unwrap();
    add(&store, &room("One", &["one", "1"]), NOW).unwrap();
    let two = room("Two", &["two"]);
    add(&store, &two, NOW).unwrap();
    let refused = |service: &Service| add(&store, service, NOW).unwrap_err().to_string();
    assert!(refused(&room("One", &["uno"])).starts_with("name: there is a conference \"One\" already"));
    let taken = refused(&room("Three", &["three", "ONE"]));
    assert!(taken.starts_with("alias: one reaches the conference \"One\" already"), "{taken}");
    assert!(refused(&room("Three", &["Alice"])).starts_with("alias: alice reaches the device alice already"));
    assert!(refused(&room("Three", &[])).contains("--alias"));
    assert!(refused(&room("Three", &["three", "Three"])).starts_with("alias: three is there twice"));
    let many: Vec<String> = (0..=ALIASES).map(|it| format!("a{it}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(refused(&room("Three", &many)).contains("at most 50, and these are 51"));
    for name in ["", " x", "a\nb", &"x".repeat(LONGEST_NAME + 1)] {
        assert!(refused(&room(name, &["three"])).starts_with("name: "), "{name:?}");
    }
    let limits = |rules: Rules, talkers| Service { rules, talkers, ..room("Three", &["three"]) };
    let parties = MOST_PARTIES + 1;
    assert!(refused(&limits(Rules { parties, ..Rules::default() }, None)).starts_with("limit: "));
    assert!(refused(&limits(Rules::default(), Some(0))).starts_with("talkers: "));
    let wait = Duration::ZERO;
    assert!(refused(&limits(Rules { wait, ..Rules::default() }, None)).starts_with("wait: "));
    let dials = |count| Service { dials: vec![Automatic::to("bob"); count], ..room("Three", &["three"]) };
    assert!(refused(&dials(DIALS + 1)).starts_with("dial: a conference calls at most 50 by itself"));
    let nobody = Service { dials: vec![Automatic::to("a\nb")], ..room("Three", &["three"]) };
    assert!(refused(&nobody).starts_with("dial: \"a\\nb\": "));
    // A replacement that fails changes nothing; a device may not have the alias either.
    let failed = replace(&store, &two, &room("Two", &["one"])).unwrap_err();
    assert!(matches!(failed, ServiceError::AliasTaken { .. }));
    let nobody = room("Nobody", &["nobody"]);
    assert!(matches!(replace(&store, &nobody, &two).unwrap_err(), ServiceError::Unknown(_)));
    // What another has changed since it was read is not overwritten, whatever it was.
    let pin = Door::new(Some(Pin::parse("1234").unwrap()), None, true).unwrap();
    let before = Service { door: pin, ..room("Two", &["two"]) };
    assert!(matches!(replace(&store, &before, &two).unwrap_err(), ServiceError::Changed(_)));
    assert_eq!(spelled(&find(&store, "Two").unwrap().unwrap()), spelled(&two));
    let told = store.add_device(&device("1"), NOW).unwrap_err().to_string();
    assert!(told.contains("1 is an alias of the conference \"One\""), "{told}");
}

#[test]
fn services_have_a_limit_and_all_of_them_are_found() {
    let scratch = Scratch::new("limit");
    let store = scratch.store();
    add(&store, &room("first", &["first"]), NOW).unwrap();
    // Written at once: ten thousand commits would take minutes on a slow disk.
    let fill = format!(
        "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most})
         INSERT INTO services SELECT 'room ' || i, kind, host_pin, guest_pin, guests, parties,
             invited_hosts_pass, wait, guests_alone, last_one, layout, guest_layout, talkers, chat,
             guests_present, names, added FROM n, services WHERE name = 'first';
         INSERT INTO service_aliases SELECT 'alias ' || name, name, 0 FROM services WHERE name != 'first';
         COMMIT;",
        most = SERVICES - 1
    );
    store.database().execute_batch(&fill).unwrap();
    assert!(matches!(add(&store, &room("more", &["more"]), NOW), Err(ServiceError::TooMany)));
    let services = Services::default();
    services.look(&store).unwrap();
    assert_eq!(services.find(&alias("alias room 9999")).unwrap().name, "room 9999");
    assert!(services.find(&alias("more")).is_none());
}

#[test]
fn a_line_that_makes_no_sense_is_left_out() {
    let scratch = Scratch::new("sense");
    let store = scratch.store();
    for name in ["good", "odd"] {
        add(&store, &room(name, &[name]), NOW).unwrap();
    }
    store.database().execute("UPDATE services SET guest_pin = '1234' WHERE name = 'odd'", []).unwrap();
    let names: Vec<String> = all(&store).unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["good"]);
}

/// A store of format 1 with devices and a registration, as `fixtures/README.md` tells.
fn format_1(scratch: &Scratch) -> Vec<u8> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/store/format-1.db");
    let bytes = fs::read(fixture).unwrap();
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.0.join(FILE), &bytes).unwrap();
    bytes
}

#[test]
fn a_store_of_format_1_is_copied_and_upgraded_and_loses_nothing() {
    let scratch = Scratch::new("format-1");
    format_1(&scratch);
    let captured = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_547_460_000);
    let found = |store: &Store| {
        let devices = store.devices().unwrap();
        let of = |alias_, username, password| {
            let password = Redacted::new(password);
            let device = Device::new(alias(alias_), username, "crosspoint", &password, Origin::Store);
            Device { sha512_256: None, ..device }
        };
        assert_eq!(devices, [of("alice", "alice", "correct horse"), of("bob", "b", "battery staple")]);
        let bindings = store.bindings(captured).unwrap();
        let [(who, binding, left)] = bindings.as_slice() else { panic!("{bindings:?}") };
        assert_eq!((who.as_str(), binding.uri.to_string().as_str()), ("alice", "sip:alice@192.0.2.7:5060"));
        assert!((3590..=3602).contains(&left.as_secs()), "{left:?}");
    };
    let store = scratch.store();
    found(&store);
    add(&store, &room("One", &["one"]), NOW).unwrap();
    drop(store);
    // The copy is a store of format 1 with the same in it, for our eyes only; no scraps beside it.
    let copy = scratch.0.join(format!("{FILE}.format-1"));
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let names = fs::read_dir(&scratch.0).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.contains("format")).count(), 1);
    let old = rusqlite::Connection::open(&copy).unwrap();
    let form: i64 = old.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(form, 1);
    drop(old);
    let again = Scratch::new("format-1-again");
    fs::create_dir_all(&again.0).unwrap();
    fs::rename(&copy, again.0.join(FILE)).unwrap();
    found(&again.store());
    // Once is enough.
    let store = scratch.store();
    assert_eq!(all(&store).unwrap().len(), 1);
    assert!(!copy.exists());
}

/// A store of format 2, as `fixtures/README.md` tells.
#[test]
fn a_store_of_format_2_is_upgraded_and_its_changes_are_followed() {
    let scratch = Scratch::new("format-2");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/store/format-2.db");
    fs::create_dir_all(&scratch.0).unwrap();
    fs::copy(fixture, scratch.0.join(FILE)).unwrap();
    let mut store = scratch.store();
    let services = all(&store).unwrap();
    let [room] = services.as_slice() else { panic!("{services:?}") };
    assert_eq!((room.name.as_str(), room.aliases.len(), room.talkers), ("Alice's room", 2, None));
    assert!(room.door.host_pin().unwrap().opens("1234") && room.door.guest_pin().unwrap().opens("5678"));
    assert_eq!(store.devices().unwrap().len(), 1);
    assert!(scratch.0.join(format!("{FILE}.format-2")).exists());
    // Each part has a revision of its own, whoever writes and whatever he writes.
    let revisions = |store: &Store| {
        ["services", "devices", "rules", "settings", "tokens"].map(|it| store.revision(it).unwrap())
    };
    assert_eq!(revisions(&store), [1; 5]);
    replace(&store, room, &Service { chat: false, ..room.clone() }).unwrap();
    let [changed, rest @ ..] = revisions(&store);
    assert!(changed > 1 && rest == [1; 4]);
    store.add_device(&device("bob"), NOW).unwrap();
    assert_eq!(revisions(&store), [changed, 2, 1, 1, 1]);
}

#[test]
fn a_store_of_format_3_is_copied_and_upgraded_and_its_services_call_nobody() {
    let scratch = Scratch::new("format-3");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/store/format-3.db");
    fs::create_dir_all(&scratch.0).unwrap();
    fs::copy(fixture, scratch.0.join(FILE)).unwrap();
    let pin = |text| Some(Pin::parse(text).unwrap());
    let door = |host, guest| Door::new(pin(host), guest, true).unwrap();
    let rules = Rules { tells_hosts: true, ..Rules::default() };
    let mut alice = room("Alice's room", &["meet.alice", "500"]);
    (alice.door, alice.rules) = (door("2468", None), rules.clone());
    let lecture = Service {
        kind: Kind::Auditorium,
        door: door("1357", pin("8642")),
        rules,
        talkers: None,
        ..room("Lecture", &["lecture"])
    };
    let store = scratch.store();
    let read = all(&store).unwrap();
    assert_eq!(read.iter().map(spelled).collect::<Vec<_>>(), [spelled(&alice), spelled(&lecture)]);
    assert_eq!(store.revision("services").unwrap(), 1);
    alice.dials.push(Automatic::to("bob"));
    replace(&store, &read[0], &alice).unwrap();
    assert!(store.revision("services").unwrap() > 1);
    assert_eq!(spelled(&find(&store, "Alice's room").unwrap().unwrap()), spelled(&alice));
    drop(store);
    assert!(scratch.0.join(format!("{FILE}.format-3")).exists());
}

#[test]
fn a_store_of_format_4_is_copied_and_upgraded_and_has_room_for_what_a_kill_leaves() {
    let scratch = Scratch::new("format-4");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/store/format-4.db");
    fs::create_dir_all(&scratch.0).unwrap();
    fs::copy(fixture, scratch.0.join(FILE)).unwrap();
    let pin = |text| Some(Pin::parse(text).unwrap());
    let rules = Rules { tells_hosts: true, ..Rules::default() };
    let mut alice = room("Alice's room", &["meet.alice", "500"]);
    (alice.door, alice.rules) = (Door::new(pin("246813"), None, true).unwrap(), rules.clone());
    alice.dials.push(Automatic::to("bob"));
    let lecture = Service {
        kind: Kind::Auditorium,
        door: Door::new(pin("135792"), pin("864208"), true).unwrap(),
        rules,
        talkers: None,
        ..room("Lecture", &["lecture"])
    };
    let store = scratch.store();
    let read = all(&store).unwrap();
    assert_eq!(read.iter().map(spelled).collect::<Vec<_>>(), [spelled(&alice), spelled(&lecture)]);
    for table in ["guard_sources", "guard_rooms", "guard_verified", "conferences", "parties", "client_tokens"]
    {
        let count =
            store.database().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        assert_eq!(count, Ok(0_i64), "{table}");
    }
    drop(store);
    assert!(scratch.0.join(format!("{FILE}.format-4")).exists());
}

#[test]
fn a_new_store_needs_no_copy() {
    let scratch = Scratch::new("new");
    drop(scratch.store());
    let names = fs::read_dir(&scratch.0).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.contains("format")));
}
