//! A host that starts and stops gateways: nothing of them is left.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::net::UdpSocket;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crosspoint::{Config, Gateway, StartError};
use crosspoint_gateway::config::Instructions;
use crosspoint_gateway::registrar::StoreError;

use support::call::StandingCall;
use support::wait_for;

/// Starts and stops in one process (promise 23).
const ROUNDS: usize = 200;

/// Threads and descriptors are counted for the whole process, so only one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(folder: &std::path::Path) -> Config {
    let text = format!(
        "data = \"{}\"\n[sip]\nlisten = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\", \"tls:127.0.0.1:0\"]\n\
         [media]\naddress = \"127.0.0.1\"\nports = \"36000-36099\"\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
         [web]\nlisten = [\"127.0.0.1:0\"]\n",
        folder.display()
    );
    Config::from_toml(&text, "test").unwrap()
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Threads and descriptors go a moment after who owned them: the bound is for a hang.
fn settles(what: &str, most: usize, count: impl Fn() -> usize) {
    let start = std::time::Instant::now();
    while count() > most {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: {} are left, there were {most}", count());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_hundred_starts_and_stops_leave_no_thread_and_no_descriptor() {
    let _alone = alone();
    let folder = std::env::temp_dir().join(format!("crosspoint-lifecycle-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let round = || {
        runtime.block_on(async {
            let gateway = Gateway::start(config(&folder)).await.unwrap();
            assert_eq!(gateway.listening().len(), 3);
            gateway.stop().await;
        });
    };
    // What the runtime and the libraries make once is there after the first round.
    round();
    std::thread::sleep(Duration::from_secs(1));
    let (threads, descriptors) = (count("/proc/self/task"), count("/proc/self/fd"));
    for _ in 0..ROUNDS {
        round();
    }
    // The runtime keeps a few threads for blocking work, for ten seconds each.
    settles("threads", threads + 2, || count("/proc/self/task"));
    settles("descriptors", descriptors, || count("/proc/self/fd"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn several_gateways_live_in_one_process_and_a_port_in_use_names_the_option() {
    let _alone = alone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let base = std::env::temp_dir().join(format!("crosspoint-several-{}", std::process::id()));
        let first = Gateway::start(config(&base.join("a"))).await.unwrap();
        let second = Gateway::start(config(&base.join("b"))).await.unwrap();
        let taken = first.listening()[0].address;
        let text = format!(
            "data = \"{}\"\n[sip]\nlisten = [\"udp:{taken}\"]\n[http]\nlisten = []\n[web]\nlisten = []\n",
            base.join("c").display()
        );
        let refused =
            Gateway::start(Config::from_toml(&text, "test").unwrap()).await.unwrap_err().to_string();
        assert!(refused.contains(&taken.port().to_string()) && refused.contains("sip.listen"), "{refused}");
        // They share one choice: what the kernels of the process run by.
        let mut other = config(&base.join("d"));
        other.media.instructions = Some(Instructions::Scalar);
        match Gateway::start(other).await {
            Ok(alike) => {
                assert_eq!(first.status().instructions, "scalar");
                alike.stop().await;
            }
            Err(error) => assert!(error.to_string().contains("media.instructions"), "{error}"),
        }
        second.stop().await;
        first.stop().await;
        // Its ports are free at once.
        let again = Gateway::start(Config::from_toml(&text, "test").unwrap()).await.unwrap();
        again.stop().await;
        std::fs::remove_dir_all(&base).unwrap();
    });
}

#[test]
fn a_gateway_that_is_dropped_ends_its_calls_and_leaves_no_thread_descriptor_or_port() {
    let _alone = alone();
    let folder = std::env::temp_dir().join(format!("crosspoint-dropped-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut configured = config(&folder);
    let bob = "[[devices]]\nalias = \"bob\"\nusername = \"bob\"\npassword = \"bob-secret\"\n";
    configured.devices = Config::from_toml(bob, "test").unwrap().devices;
    let round = || {
        // Who drops a gateway does not wait for it: the one before may hold the folder for a moment.
        let gateway = wait_for("the folder to be free", || {
            match runtime.block_on(Gateway::start(configured.clone())) {
                Ok(gateway) => Some(gateway),
                Err(StartError::Store(StoreError::Locked { .. })) => None,
                Err(fault) => panic!("{fault}"),
            }
        });
        let call = StandingCall::new(gateway.listening()[0].address.port(), "bob", "bob-secret");
        // Both legs have ports, and the engine works for them.
        wait_for("the call to stand", || {
            let status = gateway.status();
            let stands = status.calls.first().is_some_and(|call| call.state == "answered");
            (stands && status.media_ports.used == 2).then_some(())
        });
        let listening: Vec<_> = gateway.listening().iter().map(|listen| listen.address).collect();
        // The host's runtime goes on.
        runtime.block_on(async { drop(gateway) });
        drop(call);
        listening
    };
    round();
    std::thread::sleep(Duration::from_secs(1));
    let (threads, descriptors) = (count("/proc/self/task"), count("/proc/self/fd"));
    for _ in 0..3 {
        let mut ports: Vec<_> = (36_000..36_100).map(|port| ([127, 0, 0, 1], port).into()).collect();
        ports.push(round()[0]);
        settles("threads", threads + 2, || count("/proc/self/task"));
        settles("descriptors", descriptors, || count("/proc/self/fd"));
        settles("ports", 0, || ports.iter().filter(|port| UdpSocket::bind(port).is_err()).count());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
