//! Promise 42: no call leaves without a rule that is there for whoever calls, however what he dials is
//! spelled.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::{Config, DeviceEntry, Redacted};
use crate::leg::{HOPS, Origin};
use crate::registrar::{Contact, Contacts, Expiry, Register, Settings};

/// Rules that let Alice's telephone call one number, conferences of the board another, and nobody
/// anything else.
const RULES: &str = r#"
    [sip]
    domains = ["example.com"]
    [[rules]]
    name = "carrier"
    priority = 10
    match = '\+493012345'
    from = "alice"
    proxy = "192.0.2.9"
    [[rules]]
    name = "board"
    priority = 20
    match = '\+498912345'
    from = "board"
    conferences = true
    incoming = ["h323"]
    proxy = "192.0.2.9"
"#;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The directory of a gateway where Alice is registered, and a device that may be is not.
async fn directory(name: &str, rules: &str) -> (SwitchDirectory, Scratch) {
    let folder = std::env::temp_dir().join(format!("crosspoint-egress-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let scratch = Scratch(folder);
    let routing = Arc::new(Routing::new(&Config::from_toml(rules, "x.toml").unwrap()));
    let alice = routing.alias("alice").unwrap();
    let device = |name: &str| DeviceEntry {
        alias: routing.alias(name).unwrap(),
        username: name.into(),
        password: Redacted::new("secret"),
        codecs: Vec::new(),
    };
    let hour = Duration::from_secs(3600);
    let settings = Settings {
        realm: "crosspoint".into(),
        expiry: Expiry { least: Duration::from_secs(1), default: hour, most: hour },
        registrations: 20,
        devices: vec![device("alice"), device("away")],
        events: Default::default(),
    };
    let clock = Clock::start();
    let registrar = Registrar::open(&scratch.0, settings, clock).unwrap();
    registrar.register(register(alice, "sip:alice@192.0.2.7", None)).await.unwrap();
    let clients = ConnectLegs::new(10, Arc::default());
    let porter = Porter::of_a_test(false, &Default::default());
    let trunks = Trunks::default();
    (
        SwitchDirectory { services: Services::default(), registrar, clients, trunks, routing, clock, porter },
        scratch,
    )
}

fn register(alias: Alias, uri: &str, flow: Option<&str>) -> Register {
    let contact = Contact {
        uri: crosspoint_proto::sip::Uri::parse(uri).unwrap(),
        expires: None,
        q: None,
        instance: None,
        reg_id: None,
    };
    Register {
        alias,
        contacts: Contacts::List(vec![contact]),
        expires: None,
        call_id: uri.into(),
        cseq: 1,
        flow: flow.map(|flow| flow.parse().unwrap()),
        translated: false,
        path: Vec::new(),
        user_agent: String::new(),
    }
}

#[tokio::test]
async fn who_dials_sips_reaches_telephones_by_tls_alone() {
    let (directory, _scratch) = directory("sips", RULES).await;
    let rung = async |dialled: &str| match directory.resolve(&caller("bob", None, dialled)).await {
        Resolution::Dial { targets, .. } => Ok(targets.into_iter().map(|it| it.uri).collect::<Vec<_>>()),
        Resolution::Refuse { reason, why } => Err((reason, why)),
        Resolution::Enter { .. } => panic!("no conference is there"),
    };
    let clear = "sip:alice@192.0.2.7".to_owned();
    assert_eq!(rung("sip:alice@example.com").await, Ok(vec![clear.clone()]));
    let (reason, why) = rung("SIPS:alice@example.com").await.unwrap_err();
    assert!(reason == Reason::Unavailable && why.contains("by TLS"), "{reason:?}: {why}");
    let alice = directory.routing.alias("alice").unwrap();
    let by = "tls 192.0.2.1:5061 192.0.2.8:40000 2";
    let (at_tls, says_so) = ("sip:alice@192.0.2.8:40000;transport=tls", "sips:alice@192.0.2.10");
    for (uri, flow) in [(at_tls, Some(by)), (says_so, None)] {
        directory.registrar.register(register(alice.clone(), uri, flow)).await.unwrap();
    }
    let mut found = rung("sips:alice@example.com").await.unwrap();
    found.sort();
    assert_eq!(found, [at_tls, says_so]);
    assert_eq!(rung("sip:alice@example.com").await.unwrap().len(), 3);
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Stranger(&'static str),
    Device(&'static str),
    Conference(&'static str),
}

/// Where it leaves to, if it does.
async fn leaves(directory: &SwitchDirectory, from: From, dialled: &str) -> Option<String> {
    let resolution = match from {
        From::Conference(alias) => directory.dial_out(alias, dialled).await,
        From::Stranger(address) | From::Device(address) => {
            let device = matches!(from, From::Device(_)).then_some(address);
            directory.resolve(&caller(address, device, dialled)).await
        }
    };
    match resolution {
        Resolution::Dial { targets, rule: Some(_), .. } => targets.first().map(|it| it.uri.clone()),
        // A registered device is not outside.
        Resolution::Dial { targets, rule: None, .. } => {
            assert!(targets.iter().all(|it| it.device.is_some()), "{from:?} {dialled}: {targets:?}");
            None
        }
        _ => None,
    }
}

fn caller(address: &str, device: Option<&str>, dialled: &str) -> Party {
    Party {
        protocol: "sip",
        origin: Origin::Incoming,
        address: address.into(),
        name: String::new(),
        called: dialled.into(),
        uri: None,
        device: device.map(str::to_owned),
        trunk: None,
        signalling: None,
        transport: "udp",
        hops: HOPS,
    }
}

/// Dial strings as people, scanners and telephones spell them.
fn dial_strings() -> HashSet<String> {
    let users = [
        "+493012345",
        "+498912345",
        "+4930123456",
        "+49 30 12345",
        "+49(30)12345",
        "00493012345",
        "0493012345",
        "9011493012345",
        "*72#+493012345",
        "%2B493012345",
        "%2b%34%39%33%30%31%32%33%34%35",
        "1-800-FLOWERS",
        "1800flowers",
        "alice",
        "ALICE%40elsewhere.org",
        "alice@elsewhere.org",
        "elsewhere.org",
        "+493012345,123",
        "+493012345\u{0}",
        "\u{ff0b}493012345",
        "٠٠٤٩٣٠١٢٣٤٥",
    ];
    let frames = [
        "{}",
        " {} ",
        "tel:{}",
        "tel:{};phone-context=+49",
        "tel:{};phone-context=example.com",
        "sip:{}",
        "sip:{}@example.com",
        "sip:{}@example.com;user=phone",
        "sip:{};phone-context=+49@example.com;user=phone",
        "sips:{}@EXAMPLE.COM:5061;transport=tls",
        "sip:{}@elsewhere.org",
        "sip:{}@192.0.2.66",
        "sip:{}@[2001:db8::66]:5060;maddr=192.0.2.66",
        "sip:{}@example.com?Route=%3Csip:192.0.2.66;lr%3E",
        "sip:{}@example.com?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc",
        "sip:{}@example.com;method=REFER?Refer-To=sip:x@192.0.2.66",
        "sip:{}@example.com?Diversion=%3Csip:alice@example.com%3E",
        "sip:{}@elsewhere.org@example.com",
        "sip:sip:{}@elsewhere.org",
        "h323:{}",
        "h323:{}@elsewhere.org",
        "rtmp://elsewhere.org/live/{}",
        "<sip:{}@example.com>",
        "\"Alice\" <sip:{}@elsewhere.org>",
        "{}@elsewhere.org",
    ];
    users.iter().flat_map(|user| frames.map(|frame| frame.replace("{}", user))).collect()
}

const CALLERS: [From; 8] = [
    From::Stranger("sip:anonymous@anonymous.invalid"),
    From::Stranger("guest@elsewhere.org"),
    // Who says that he is Alice, or the board's conference, and is not.
    From::Stranger("alice"),
    From::Stranger("board"),
    From::Device("alice"),
    From::Device("bob"),
    From::Conference("board"),
    From::Conference("meet.alice"),
];

#[tokio::test]
async fn p42_nothing_leaves_without_a_rule() {
    let strings = dial_strings();
    assert!(strings.len() >= 500, "{}", strings.len());
    let (directory, _scratch) = directory("none", "[sip]\ndomains = [\"example.com\"]\n").await;
    for dialled in &strings {
        for from in CALLERS {
            assert_eq!(leaves(&directory, from, dialled).await, None, "{from:?} {dialled:?}");
        }
    }
}

#[tokio::test]
async fn p42_a_rule_lets_out_the_number_it_names_for_the_caller_it_names_and_no_other() {
    let (directory, _scratch) = directory("two", RULES).await;
    let mut left = [0; 2];
    for dialled in &dial_strings() {
        // What the rules are held against.
        let canonical = [Alias::with_host(dialled).ok(), directory.routing.alias(dialled).ok()];
        for from in CALLERS {
            let Some(uri) = leaves(&directory, from, dialled).await else { continue };
            let (at, number) = match from {
                From::Device("alice") => (0, "+493012345"),
                From::Conference("board") => (1, "+498912345"),
                other => panic!("{other:?} calls {uri} by {dialled:?}"),
            };
            assert_eq!(uri, format!("sip:{number}@192.0.2.9"), "{dialled:?}: nothing else of it counts");
            assert!(canonical.iter().flatten().any(|it| it.as_str() == number), "{dialled:?}");
            left[at] += 1;
        }
    }
    assert!(left.iter().all(|count| *count > 5), "the rules let out what they are for: {left:?}");
}

#[tokio::test]
async fn threat_19_who_guesses_too_much_is_not_told_which_devices_there_are() {
    let (directory, _scratch) = directory("guesses", "[sip]\ndomains = [\"example.com\"]\n").await;
    let told = async |last: u8, device: Option<&str>, dialled: &str| {
        let mut party = caller("guest@elsewhere.org", device, dialled);
        party.signalling = Some(([192, 0, 2, last], 5060).into());
        match directory.resolve(&party).await {
            Resolution::Dial { .. } => None,
            Resolution::Refuse { reason, .. } => Some(reason),
            Resolution::Enter { .. } => panic!("{dialled} is no conference"),
        }
    };
    assert_eq!(told(66, None, "away").await, Some(Reason::Unavailable), "at first they are told apart");
    assert_eq!(told(66, None, "alice").await, None);
    for guess in 0..6 {
        assert_eq!(told(66, None, &format!("alice{guess}")).await, Some(Reason::NotFound));
    }
    for dialled in ["alice", "away", "nobody", "ALICE@example.com", "sip:away@example.com"] {
        assert_eq!(told(66, None, dialled).await, Some(Reason::NotFound), "{dialled}");
    }
    // Others are, and so are devices that have proved who they are, wherever they call from.
    assert_eq!(told(67, None, "alice").await, None);
    assert_eq!(told(66, Some("away"), "alice").await, None);
}
