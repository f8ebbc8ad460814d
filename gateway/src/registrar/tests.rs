use std::path::PathBuf;
use std::time::SystemTime;

use crosspoint_proto::sip::{NameAddr, Uri};

use super::*;
use crate::alias::Domains;
use crate::config::Redacted;

/// A folder of one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("crosspoint-registrar-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn alias(text: &str) -> Alias {
    Alias::parse(text, &Domains::default()).unwrap()
}

fn entry(text: &str) -> DeviceEntry {
    DeviceEntry {
        alias: alias(text),
        username: text.into(),
        password: Redacted::new("secret"),
        codecs: Vec::new(),
    }
}

fn settings(devices: &[&str]) -> Settings {
    Settings {
        realm: "crosspoint".into(),
        expiry: Expiry {
            least: Duration::from_secs(1),
            default: Duration::from_secs(3600),
            most: Duration::from_secs(7200),
        },
        registrations: 20,
        devices: devices.iter().map(|it| entry(it)).collect(),
        events: Events::default(),
    }
}

fn open(scratch: &Scratch, devices: &[&str]) -> Registrar {
    Registrar::open(&scratch.0, settings(devices), Clock::start()).unwrap()
}

fn request(of: &str, call_id: &str, cseq: u32, contact: &str) -> Register {
    let uri = Uri::parse(contact).unwrap();
    Register {
        alias: alias(of),
        contacts: Contacts::List(vec![Contact { uri, expires: None, q: None, instance: None, reg_id: None }]),
        expires: None,
        call_id: call_id.into(),
        cseq,
        flow: Some("udp 192.0.2.1:5060 192.0.2.7:40123".parse().unwrap()),
        translated: true,
        path: Vec::new(),
        user_agent: "test".into(),
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let scratch = Scratch::new("restart");
    let registrar = open(&scratch, &["alice", "bob"]);
    let mut two = request("alice", "a", 7, "sip:alice@192.0.2.7:40123");
    let Contacts::List(contacts) = &mut two.contacts else { unreachable!() };
    let mut second = contacts[0].clone();
    second.uri = Uri::parse("sip:alice@192.0.2.8;transport=tcp").unwrap();
    (second.q, second.instance, second.reg_id) = (Some(500), Some("<urn:uuid:1>".into()), Some(2));
    contacts.push(second);
    two.path = NameAddr::parse_list("<sip:edge.example;lr;ob>, <sip:core.example;lr>").unwrap();
    let answered = registrar.register(two).await.unwrap();
    assert_eq!(answered.len(), 2);
    let mut stream = request("bob", "b", 1, "sip:bob@192.0.2.9");
    stream.flow = Some("tls 192.0.2.1:5061 192.0.2.9:5000 8".parse().unwrap());
    registrar.register(stream).await.unwrap();
    drop(registrar);

    let clock = Clock::start();
    let registrar = Registrar::open(&scratch.0, settings(&["alice", "bob"]), clock).unwrap();
    let found = registrar.bindings(&alias("Alice@anywhere"), clock.now());
    let same = |a: &Binding, b: &Binding| Binding { expires: b.expires, ..a.clone() } == *b;
    assert!(found.iter().zip(answered.iter()).all(|(a, b)| same(a, b)), "{found:?}\n{answered:?}");
    let left = found[0].remaining(clock.now());
    assert_eq!(found[0].path.len(), 2, "RFC 3327 section 5.3");
    assert!(left > Duration::from_secs(3500) && left <= Duration::from_secs(3600), "{left:?}");
    let bob = registrar.bindings(&alias("bob"), clock.now());
    assert_eq!(bob[0].flow, None, "the connection died with its process");
    // The order of requests is kept too.
    let late = registrar.register(request("alice", "a", 7, "sip:alice@192.0.2.7:40123")).await;
    assert_eq!(late.unwrap_err(), Refusal::OutOfOrder);
}

#[tokio::test]
async fn s49_only_aliases_of_devices_register() {
    let scratch = Scratch::new("unknown");
    let registrar = open(&scratch, &["alice"]);
    let refused = registrar.register(request("mallory", "a", 1, "sip:mallory@192.0.2.7")).await;
    assert_eq!(refused.unwrap_err(), Refusal::UnknownAlias);
    assert!(registrar.device(&alias("mallory")).is_none());
    assert_eq!(registrar.device(&alias("ALICE")).unwrap().username, "alice");
}

#[tokio::test]
async fn all_registrations_together_have_a_limit() {
    let scratch = Scratch::new("limit");
    let names: Vec<String> = (0..25).map(|i| format!("device{i}")).collect();
    let registrar = open(&scratch, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut results = Vec::new();
    for name in &names {
        results.push(registrar.register(request(name, "a", 1, "sip:x@192.0.2.7")).await.map(|_| ()));
    }
    assert!(results[..20].iter().all(Result::is_ok));
    assert!(results[20..].iter().all(|it| *it == Err(Refusal::Full)));
    // A refresh is always possible, and room comes back.
    registrar.register(request("device0", "a", 2, "sip:x@192.0.2.7")).await.unwrap();
    let mut gone = request("device0", "a", 3, "sip:x@192.0.2.7");
    gone.expires = Some(0);
    assert_eq!(registrar.register(gone).await.unwrap().len(), 0);
    registrar.register(request("device24", "a", 1, "sip:x@192.0.2.7")).await.unwrap();
    assert_eq!(registrar.registrations(Instant::ZERO).len(), 20);
}

#[tokio::test]
async fn many_at_once_are_all_stored_in_order() {
    let scratch = Scratch::new("many");
    let registrar = open(&scratch, &["alice", "bob"]);
    let tasks: Vec<_> = (1..=200)
        .map(|cseq| {
            let registrar = registrar.clone();
            let name = if cseq % 2 == 0 { "alice" } else { "bob" };
            tokio::spawn(async move {
                registrar.register(request(name, "a", cseq, "sip:x@192.0.2.7")).await.map(|_| cseq)
            })
        })
        .collect();
    let mut accepted = Vec::new();
    for task in tasks {
        accepted.extend(task.await.unwrap().ok());
    }
    drop(registrar);
    let store = Store::open(&scratch.0).unwrap();
    let stored = store.bindings(SystemTime::now()).unwrap();
    assert_eq!(stored.len(), 2);
    for (alias, binding, _) in stored {
        let parity = u32::from(alias.as_str() == "bob");
        let last = accepted.iter().filter(|it| *it % 2 == parity).max();
        assert_eq!(Some(&binding.cseq), last, "the last one accepted stands");
    }
}

#[tokio::test]
async fn a_closed_connection_is_forgotten_and_the_contact_stays() {
    let scratch = Scratch::new("flow");
    let clock = Clock::start();
    let registrar = Registrar::open(&scratch.0, settings(&["alice"]), clock).unwrap();
    let flow: Flow = "tcp 192.0.2.1:5060 192.0.2.7:5000 4".parse().unwrap();
    let mut by_stream = request("alice", "a", 1, "sip:alice@192.0.2.7");
    by_stream.flow = Some(flow);
    registrar.register(by_stream).await.unwrap();
    registrar.register(request("alice", "b", 1, "sip:alice@192.0.2.8")).await.unwrap();
    registrar.flow_closed(flow);
    let found = registrar.bindings(&alias("alice"), clock.now());
    let flows: Vec<_> = found.iter().map(|it| it.flow.is_some()).collect();
    assert_eq!(flows.iter().filter(|it| **it).count(), 1, "{flows:?}");
    assert_eq!(found.len(), 2);
}

#[tokio::test]
async fn a_flow_whose_connection_is_closed_is_no_binding_at_once_and_soon_not_on_disk() {
    let scratch = Scratch::new("lost");
    let clock = Clock::start();
    let registrar = Registrar::open(&scratch.0, settings(&["alice"]), clock).unwrap();
    let flow = |n: u32| -> Flow { format!("wss 192.0.2.1:443 192.0.2.7:500{n} {n}").parse().unwrap() };
    let of = |n: u32| {
        let mut request = request("alice", &format!("call-{n}"), 1, "sip:x@y.invalid;transport=ws");
        let Contacts::List(list) = &mut request.contacts else { panic!("no list") };
        (list[0].instance, list[0].reg_id) = (Some("<urn:uuid:1>".into()), Some(n));
        request.flow = Some(flow(n));
        request
    };
    registrar.register(of(2)).await.unwrap();
    assert_eq!(registrar.register(of(4)).await.unwrap().len(), 2);
    registrar.flow_closed(flow(2));
    let found = registrar.bindings(&alias("alice"), clock.now());
    assert_eq!(found.iter().map(|it| it.reg_id).collect::<Vec<_>>(), [Some(4)], "RFC 5626 section 7");
    registrar.look().await;
    let stored = || Store::open(&scratch.0).unwrap().bindings(SystemTime::now()).unwrap().len();
    assert_eq!(stored(), 1);
    registrar.flow_closed(flow(4));
    assert!(registrar.registrations(clock.now()).is_empty());
    // Room is counted by what is there.
    registrar.look().await;
    assert_eq!(stored(), 0);
    // One that closes while its REGISTER is on its way.
    registrar.flow_closed(flow(8));
    registrar.register(of(8)).await.unwrap();
    assert!(registrar.bindings(&alias("alice"), clock.now()).is_empty());
    // One that closes while a neighbour's is.
    registrar.register(of(10)).await.unwrap();
    registrar.shared.closed().push_back(flow(10));
    registrar.register(of(6)).await.unwrap();
    let found = registrar.bindings(&alias("alice"), clock.now());
    assert_eq!(found.iter().map(|it| it.reg_id).collect::<Vec<_>>(), [Some(6)]);
    assert_eq!(registrar.shared.flows().len(), 2);
    registrar.flow_closed(flow(10));
    registrar.flow_closed(flow(12));
    assert_eq!(registrar.shared.flows().len(), 1, "as many as stand and have brought a device");
    // A restart closes all connections.
    drop(registrar);
    let again = Registrar::open(&scratch.0, settings(&["alice"]), clock).unwrap();
    assert!(again.bindings(&alias("alice"), clock.now()).is_empty());
    assert_eq!(stored(), 0);
}

#[test]
fn expired_bindings_are_deleted_from_disk_when_the_store_is_opened() {
    let scratch = Scratch::new("expired");
    let mut store = Store::open(&scratch.0).unwrap();
    let now = crosspoint_proto::Now { mono: Instant::from_millis(10), wall: SystemTime::now() };
    let applied = apply(
        &[],
        &request("alice", "a", 1, "sip:alice@192.0.2.7"),
        settings(&[]).expiry,
        Instant::ZERO - Duration::from_secs(1),
    )
    .unwrap();
    let mut bindings = applied.bindings;
    bindings[0].expires = now.mono;
    let alice = alias("alice");
    store.replace([(&alice, bindings.as_slice())].into_iter(), now).unwrap();
    assert_eq!(store.bindings(now.wall).unwrap().len(), 1);
    drop(open(&scratch, &["alice"]));
    assert_eq!(store.bindings(now.wall).unwrap().len(), 0);
}

#[tokio::test]
async fn a_wall_clock_that_was_set_back_never_extends_a_binding() {
    let scratch = Scratch::new("clock");
    let clock = Clock::start();
    let registrar = Registrar::open(&scratch.0, settings(&["alice"]), clock).unwrap();
    registrar.register(request("alice", "a", 1, "sip:alice@192.0.2.7")).await.unwrap();
    drop(registrar);
    let mut store = Store::open(&scratch.0).unwrap();
    let year = Duration::from_secs(365 * 24 * 3600);
    let mut ahead = store.bindings(SystemTime::now()).unwrap();
    ahead[0].1.expires = clock.now() + year;
    let rows = [(&ahead[0].0, std::slice::from_ref(&ahead[0].1))];
    store.replace(rows.into_iter(), clock.both()).unwrap();
    let registrar = Registrar::open(&scratch.0, settings(&["alice"]), clock).unwrap();
    let left = registrar.bindings(&alias("alice"), clock.now())[0].remaining(clock.now());
    assert!(left <= Duration::from_secs(7200), "{left:?}");
}

#[tokio::test]
async fn s50_devices_are_added_and_removed_while_the_gateway_runs() {
    let scratch = Scratch::new("devices");
    let registrar = open(&scratch, &["alice"]);
    let mut command_line = Store::open(&scratch.0).unwrap();
    let bob = Device::new(alias("bob"), "bobby", "crosspoint", &Redacted::new("x"), Origin::Store);
    command_line.add_device(&bob, SystemTime::now()).unwrap();
    let twice = command_line.add_device(&bob, SystemTime::now()).unwrap_err();
    assert!(matches!(twice, StoreError::Exists(_)), "{twice}");
    // The writer looks once a second; a request makes it look when that second is over.
    until(|| registrar.device(&alias("bob")).is_some()).await;
    assert_eq!(*registrar.device(&alias("bob")).unwrap(), bob);
    registrar.register(request("bob", "a", 1, "sip:bob@192.0.2.7")).await.unwrap();
    assert!(command_line.remove_device(&alias("bob")).unwrap());
    assert!(!command_line.remove_device(&alias("bob")).unwrap());
    until(|| registrar.registrations(Instant::ZERO).is_empty()).await;
    let refused = registrar.register(request("bob", "a", 2, "sip:bob@192.0.2.7")).await;
    assert_eq!(refused.unwrap_err(), Refusal::UnknownAlias);
}

#[tokio::test]
async fn s77_registrations_that_come_and_go_are_told_of_with_alias_and_source() {
    let scratch = Scratch::new("told");
    let settings = settings(&["alice"]);
    let events = settings.events.clone();
    let registrar = Registrar::open(&scratch.0, settings, Clock::start()).unwrap();
    let source = Some("192.0.2.7:40123".to_owned());
    let (alias, contact) = ("alice".to_owned(), "sip:alice@192.0.2.7".to_owned());
    registrar.register(request("alice", "a", 1, &contact)).await.unwrap();
    registrar.register(request("alice", "a", 2, &contact)).await.unwrap();
    let mut gone = request("alice", "a", 3, &contact);
    gone.expires = Some(0);
    registrar.register(gone).await.unwrap();
    let mut brief = request("alice", "a", 4, &contact);
    brief.expires = Some(1);
    registrar.register(brief).await.unwrap();
    until(|| events.after(0, 10).newest == 4).await;
    let told: Vec<_> = events.after(0, 10).events.into_iter().map(|it| it.what).collect();
    let (of, at, from) = (alias.clone(), contact.clone(), source.clone());
    let added = What::RegistrationAdded { alias: of, contact: at, source: from };
    let (of, at, from) = (alias.clone(), contact.clone(), source.clone());
    let deleted = What::RegistrationDeleted { alias: of, contact: at, source: from, reason: "unregistered" };
    let expired = What::RegistrationExpired { alias, contact, source };
    assert_eq!(told, [added.clone(), deleted, added, expired], "a refresh is no news");
}

/// Waits for the writer's next look, which is a second away at most.
async fn until(mut done: impl FnMut() -> bool) {
    let poll = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), poll).await.expect("hangs");
}

#[test]
fn one_gateway_at_a_time_uses_a_folder() {
    let scratch = Scratch::new("locked");
    let first = open(&scratch, &[]);
    let second = Registrar::open(&scratch.0, settings(&[]), Clock::start()).unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    drop(first);
    drop(open(&scratch, &[]));
}

#[test]
fn a_damaged_a_newer_and_an_unwritable_store_say_what_to_do() {
    let scratch = Scratch::new("faults");
    std::fs::create_dir_all(&scratch.0).unwrap();
    std::fs::write(scratch.file(), "not a database, but long enough to be read as the header of one")
        .unwrap();
    let told = Registrar::open(&scratch.0, settings(&[]), Clock::start()).unwrap_err().to_string();
    assert!(told.contains("crosspoint.db is damaged") && told.contains("backup"), "{told}");

    std::fs::remove_file(scratch.file()).unwrap();
    drop(open(&scratch, &[]));
    let database = rusqlite::Connection::open(scratch.file()).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let told = Registrar::open(&scratch.0, settings(&[]), Clock::start()).unwrap_err().to_string();
    assert!(told.contains("newer version of Crosspoint (format 99, this one knows 8)"), "{told}");

    let under_a_file = scratch.file().join("data");
    let told = Registrar::open(&under_a_file, settings(&[]), Clock::start()).unwrap_err().to_string();
    assert!(told.contains("cannot be used") && told.contains("--data"), "{told}");
}

#[test]
fn another_realm_than_that_of_the_stored_passwords_is_refused() {
    let scratch = Scratch::new("realm");
    let bob = Device::new(alias("bob"), "bob", "old", &Redacted::new("x"), Origin::Store);
    Store::open(&scratch.0).unwrap().add_device(&bob, SystemTime::now()).unwrap();
    let told = Registrar::open(&scratch.0, settings(&[]), Clock::start()).unwrap_err().to_string();
    assert!(told.contains("set sip.realm = \"old\""), "{told}");
}

#[test]
fn secrets_lie_in_files_that_only_we_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("mode");
    let _registrar = open(&scratch, &["alice"]);
    for entry in std::fs::read_dir(&scratch.0).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{:?} {mode:o}", entry.path());
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_acknowledges_nothing_and_recovers() {
    let scratch = Scratch::new("full");
    let clock = Clock::start();
    let registrar = Registrar::open(&scratch.0, settings(&["alice"]), clock).unwrap();
    // Another process breaks the table, as a failing disk would; then it is mended.
    let other = rusqlite::Connection::open(scratch.file()).unwrap();
    other.execute_batch("ALTER TABLE bindings RENAME TO hidden").unwrap();
    let refused = registrar.register(request("alice", "a", 1, "sip:alice@192.0.2.7")).await;
    assert_eq!(refused.unwrap_err(), Refusal::Storage);
    assert!(registrar.bindings(&alias("alice"), clock.now()).is_empty());
    assert!(registrar.is_failing());
    other.execute_batch("ALTER TABLE hidden RENAME TO bindings").unwrap();
    registrar.register(request("alice", "a", 1, "sip:alice@192.0.2.7")).await.unwrap();
    assert!(!registrar.is_failing());
}

#[tokio::test]
async fn a_store_of_format_6_keeps_two_hashes_of_each_password_until_that_is_set_again() {
    let scratch = Scratch::new("format-6");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/store/format-6.db");
    std::fs::create_dir_all(&scratch.0).unwrap();
    std::fs::copy(fixture, scratch.file()).unwrap();
    let clock = Clock::start();
    let registrar = Registrar::open(&scratch.0, settings(&["carol"]), clock).unwrap();
    assert!(scratch.0.join(format!("{FILE}.format-6")).exists());
    let device = |registrar: &Registrar, name: &str| registrar.device(&alias(name)).unwrap();
    let made = |name: &str| {
        let password = Redacted::new(format!("{name}-secret"));
        Device::new(alias(name), name, "crosspoint", &password, Origin::Store)
    };
    let third = |registrar: &Registrar, name: &str| {
        registrar.has_third_hash(name, registrar.device(&alias(name)).as_deref())
    };
    for name in ["alice", "bob"] {
        assert_eq!(*device(&registrar, name), Device { sha512_256: None, ..made(name) });
        assert!(!third(&registrar, name));
    }
    // Of the file the password itself is there.
    assert!(third(&registrar, "carol"));
    for (name, path) in [("alice", 0), ("bob", 1)] {
        let bindings = registrar.bindings(&alias(name), clock.now());
        assert_eq!((bindings.len(), bindings[0].path.len()), (1, path), "{name}");
    }
    // Two of three have none: so it is with two of three names that nobody has, after a restart too.
    let nobody = |registrar: &Registrar| -> Vec<bool> {
        (0..300).map(|n| registrar.has_third_hash(&format!("nobody{n}"), None)).collect()
    };
    let before = nobody(&registrar);
    assert!((60..140).contains(&before.iter().filter(|third| **third).count()));
    drop(registrar);
    let registrar = Registrar::open(&scratch.0, settings(&["carol"]), clock).unwrap();
    assert_eq!(nobody(&registrar), before);
    let mut store = Store::open(&scratch.0).unwrap();
    for name in ["alice", "bob"] {
        assert!(store.change_device(&made(name)).unwrap());
    }
    registrar.look().await;
    assert!(third(&registrar, "alice") && *device(&registrar, "alice") == made("alice"));
    assert!(nobody(&registrar).iter().all(|third| *third), "nobody looks old where nobody is");
}
