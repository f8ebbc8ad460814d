//! `kill -9` while devices register: every binding that was acknowledged is there afterwards.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crosspoint_gateway::alias::{Alias, Domains};
use crosspoint_gateway::config::Redacted;
use crosspoint_gateway::events::Events;
use crosspoint_gateway::net::clock::Clock;
use crosspoint_gateway::registrar::{
    Contact, Contacts, Device, Expiry, Origin, Register, Registrar, Settings, Store,
};
use crosspoint_proto::sip::Uri;

const KILLS: usize = 15;
const DEVICES: usize = 40;
const FOLDER: &str = "CROSSPOINT_TEST_KILL_FOLDER";
const ROUND: &str = "CROSSPOINT_TEST_KILL_ROUND";

#[test]
fn fifteen_kills_lose_nothing_that_was_acknowledged() {
    let folder = std::env::temp_dir().join(format!("crosspoint-kill-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let mut store = Store::open(&folder).unwrap();
    for device in 0..DEVICES {
        let password = Redacted::new("secret");
        let device = Device::new(alias(device), "user", "crosspoint", &password, Origin::Store);
        store.add_device(&device, SystemTime::now()).unwrap();
    }
    drop(store);

    let mut acknowledged: HashMap<String, (String, u32)> = HashMap::new();
    let mut total = 0;
    for round in 0..KILLS {
        // From the first acknowledgement on to some hundreds: the kill falls anywhere in a group.
        let (count, lines) = (1 + round * 37, run_and_kill(&folder, round, 1 + round * 37));
        assert!(lines.len() >= count);
        total += lines.len();
        for line in lines {
            let (alias, rest) = line.split_once(' ').unwrap();
            let (call_id, cseq) = rest.split_once(' ').unwrap();
            acknowledged.insert(alias.into(), (call_id.into(), cseq.parse().unwrap()));
        }
        let stored = Store::open(&folder).unwrap().bindings(SystemTime::now()).unwrap();
        let stored: HashMap<String, _> =
            stored.into_iter().map(|(alias, binding, _)| (alias.to_string(), binding)).collect();
        for (alias, (call_id, cseq)) in &acknowledged {
            let binding = stored.get(alias).unwrap_or_else(|| panic!("{alias} is lost after round {round}"));
            // One later request may have been committed, its answer killed on its way.
            let is_there = binding.call_id == *call_id && (*cseq..=cseq + 1).contains(&binding.cseq);
            assert!(is_there, "{alias}: acknowledged {call_id} {cseq}, stored {binding:?}");
        }
    }
    assert!(total > KILLS * 37, "{total}");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Starts a process that registers, kills it after so many acknowledgements, and gives all that it
/// had written by then.
fn run_and_kill(folder: &Path, round: usize, count: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "registers_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // A line that was cut by the kill was not acknowledged.
        let Some(line) =
            line.unwrap().strip_prefix("ack ").and_then(|it| it.strip_suffix(" .")).map(String::from)
        else {
            continue;
        };
        acknowledged.push(line);
        if acknowledged.len() == count {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself");
    acknowledged
}

/// The process that is killed: not a test of its own.
#[test]
#[ignore = "started and killed by the test above"]
fn registers_until_it_is_killed() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let call_id = format!("round-{}", std::env::var(ROUND).unwrap());
    let expiry = Expiry {
        least: Duration::from_secs(60),
        default: Duration::from_secs(3600),
        most: Duration::from_secs(7200),
    };
    let settings = Settings {
        realm: "crosspoint".into(),
        expiry,
        registrations: 10 * DEVICES,
        devices: Vec::new(),
        events: Events::default(),
    };
    let registrar = Registrar::open(&folder, settings, Clock::start()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for device in 0..DEVICES {
            tasks.spawn(register_for_ever(registrar.clone(), alias(device), call_id.clone()));
        }
        tasks.join_all().await
    });
}

async fn register_for_ever(registrar: Registrar, alias: Alias, call_id: String) {
    for cseq in 1.. {
        let uri = Uri::parse(&format!("sip:{alias}@192.0.2.7:{}", 1024 + cseq % 1000)).unwrap();
        let instance = Some(format!("<urn:{alias}>"));
        let contact = Contact { uri, expires: None, q: None, instance, reg_id: Some(1) };
        let request = Register {
            alias: alias.clone(),
            contacts: Contacts::List(vec![contact]),
            expires: None,
            call_id: call_id.clone(),
            cseq,
            flow: None,
            translated: false,
            path: Vec::new(),
            user_agent: String::new(),
        };
        registrar.register(request).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {alias} {call_id} {cseq} .").unwrap();
        out.flush().unwrap();
    }
}

fn alias(device: usize) -> Alias {
    Alias::parse(&format!("device{device}"), &Domains::default()).unwrap()
}
