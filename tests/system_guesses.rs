//! Twenty thousand guesses of PINs over every door at once, and in their midst those whom the rooms
//! are for (promise 40).
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::gateway::Gateway;
use support::keypad::Keypad;
use support::registered::{Registered, registration};
use support::web::{Client, Incoming, Web};
use support::{free_port, wait_for};

/// Name, alias, PIN of its hosts.
type Room = (&'static str, &'static str, &'static str);

/// Its PIN has six digits: 20 at once, and one more each 30 s.
const SIX: Room = ("Six", "room.six", "271828");
/// Its PIN has four: 10 at once, and one more each 16 minutes.
const FOUR: Room = ("Four", "room.four", "3141");
/// One `kill -9` gives back so many of each room.
const UNSAVED: usize = 3;

/// Guesses over each door before the gateway is killed, and as many after it was started again: 20 000
/// each time, for some seconds.
const DIRECT: usize = 6_000;
const THROUGH_A_PROXY: usize = 12_800;
/// Less than an address may ask at once (`limits.web_requests_per_source`).
const FROM_ONE: usize = 450;
const REGISTRATIONS: usize = 300;
/// Calls of three guesses each.
const CALLS: usize = 400;
/// Threads of a door.
const CROWD: usize = 4;
/// Of those by HTTP every so many is for a room that nobody has.
const NOBODY: usize = 9;

/// Who belongs there comes and goes in this rhythm: more at once than an address may ask would be
/// refused whoever guesses.
const AT_EASE: Duration = Duration::from_millis(100);

/// Where somebody sits who has been in both rooms before, and what he goes through.
const OWNER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const OWNER_BEHIND_THE_PROXY: &str = "192.0.2.9";

struct Scene {
    gateway: Gateway,
    direct: Web,
    proxy: Web,
}

/// What the guessers have done.
#[derive(Default)]
struct Tried {
    by_web: AtomicUsize,
    by_keys: AtomicUsize,
    refused_calls: AtomicUsize,
    passwords: AtomicUsize,
}

fn scene() -> Scene {
    let plain = free_port();
    let room =
        |(name, alias, pin)| [name, "--alias", alias, "--host-pin", pin, "--guests", "--limit", "1000"];
    let (six, four) = (room(SIX), room(FOUR));
    let gateway = Gateway::with_conferences(
        &["device"],
        &format!("plain_listen = [\"127.0.0.1:{plain}\"]\ntrusted_proxies = [\"127.0.0.1\"]"),
        &[&six, &four],
    );
    let (direct, proxy) = (Web::of(&gateway), Web::plain((Ipv4Addr::LOCALHOST, plain).into()));
    Scene { gateway, direct, proxy }
}

#[test]
fn promise_40_twenty_thousand_guesses_over_all_doors_while_those_who_belong_there_come_and_go() {
    let mut scene = scene();
    let begun = Instant::now();
    // Everybody has been there before the first guess; the device needs not.
    for room in [SIX, FOUR] {
        scene.owner_enters(room);
        scene.phone_enters(room);
    }
    scene.under_attack(0);
    scene.stays_within(begun, 0);
    scene.gateway.kill_and_restart();
    wait_for("clients to be served", || scene.direct.connect().ok());
    let set = scene.gateway.cli(&["settings", "set", "hide_unknown_aliases", "true"]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    scene.under_attack(1);
    scene.stays_within(begun, UNSAVED);
    // That is its price: newcomers are not read any more, whatever they say.
    let newcomer = scene.direct.from(Ipv4Addr::new(127, 0, 99, 99));
    for (_, alias, pin) in [SIX, FOUR] {
        let answer = newcomer.request_token(alias, "Newcomer", pin);
        assert_eq!((answer.code, answer.result()), (403, json!("Invalid PIN")));
    }
}

impl Scene {
    /// Guesses from everywhere, and those who belong there until the last one is made.
    fn under_attack(&self, round: usize) {
        let (tried, over) = (Tried::default(), AtomicBool::new(false));
        let begun = Instant::now();
        let waits = std::thread::scope(|scope| {
            let mut guessers = Vec::new();
            for n in 0..CROWD {
                let (own, tried) = (CROWD * round + n, &tried);
                guessers.push(scope.spawn(move || self.guess_directly(own, DIRECT / CROWD, 40, tried)));
                guessers.push(scope.spawn(move || self.guess_through_the_proxy(own, tried)));
                guessers.push(scope.spawn(move || self.guess_by_keys(own, tried)));
            }
            let tried = &tried;
            // A single one who does not give up.
            guessers.push(scope.spawn(move || self.guess_directly(100, FROM_ONE, FROM_ONE, tried)));
            guessers.push(scope.spawn(move || self.guess_passwords(round, tried)));
            let until_over = |enters: fn(&Self, Room) -> Vec<Duration>| {
                let over = &over;
                scope.spawn(move || {
                    let mut waits = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        waits.extend([SIX, FOUR].into_iter().flat_map(|room| enters(self, room)));
                        std::thread::sleep(AT_EASE);
                    }
                    waits
                })
            };
            let owners = [Self::owner_enters, Self::device_enters, Self::phone_enters].map(until_over);
            let guessed: Vec<_> = guessers.into_iter().map(|it| it.join()).collect();
            over.store(true, Ordering::Relaxed);
            let waits = owners.map(|it| it.join());
            // The first failure is told, not that a scope had one.
            guessed.into_iter().for_each(|it| it.unwrap_or_else(|told| std::panic::resume_unwind(told)));
            waits.map(|it| it.unwrap_or_else(|told| std::panic::resume_unwind(told)))
        });
        let count = |it: &AtomicUsize| it.load(Ordering::Relaxed);
        let [clients, devices, phones] = waits.each_ref().map(Vec::len);
        let slowest = waits.iter().flatten().max().unwrap();
        println!(
            "{} by HTTP, {} by keys, {} calls refused, {} passwords in {:.1?}; \
             {clients} clients, {devices} devices and {phones} telephones entered, the slowest in {slowest:.0?}",
            count(&tried.by_web),
            count(&tried.by_keys),
            count(&tried.refused_calls),
            count(&tried.passwords),
            begun.elapsed(),
        );
        let all = count(&tried.by_web) + count(&tried.by_keys) + count(&tried.passwords);
        assert!(all >= 20_000, "{all}");
        assert!(count(&tried.by_keys) >= 2 * CALLS, "{} by keys", count(&tried.by_keys));
        for entered in [clients, devices, phones] {
            assert!(entered >= 2, "{entered} entered, each of both rooms once at least");
        }
        assert!(*slowest <= Duration::from_secs(5), "{slowest:?}");
    }

    /// What was read since `begun` is what the rooms have for everybody together.
    fn stays_within(&self, begun: Instant, unsaved: usize) {
        let log = self.gateway.log();
        let wrong = |name: &str| {
            let of = format!("service=\"{name}\"");
            log.lines().filter(|line| line.contains("a PIN was wrong") && line.contains(&of)).count()
        };
        let since = begun.elapsed().as_secs();
        for ((name, ..), burst, each) in [(SIX, 20, 30), (FOUR, 10, 960)] {
            let most = burst + usize::try_from(since / each).unwrap() + unsaved;
            let read = wrong(name);
            println!("{name}: {read} were read, {most} at most");
            assert!(read >= burst, "{name}: {read} of {burst} were read at all");
            assert!(read <= most, "{name}: {read} were read, of {most}");
        }
    }

    /// Over HTTPS, each source with a connection of its own, `each` guesses from it.
    fn guess_directly(&self, own: usize, count: usize, each: usize, tried: &Tried) {
        for first in (0..count).step_by(each) {
            let way = self.direct.from(address(127, own, first / each));
            let mut connection = connect(&way);
            for n in first..count.min(first + each) {
                guess(&way, &mut connection, n, "", tried);
            }
        }
    }

    /// Through the one proxy, whose connection carries those of hundreds.
    fn guess_through_the_proxy(&self, own: usize, tried: &Tried) {
        let mut connection = connect(&self.proxy);
        for n in 0..THROUGH_A_PROXY / CROWD {
            let header = format!("X-Forwarded-For: {}\r\n", address(10, own, n % 250));
            guess(&self.proxy, &mut connection, n, &header, tried);
        }
    }

    /// By telephone, each call from another address; some dial what nobody has.
    fn guess_by_keys(&self, own: usize, tried: &Tried) {
        for n in 0..CALLS / CROWD {
            let alias = match n % 4 {
                0 => "nobody.at.all",
                1 => FOUR.1,
                _ => SIX.1,
            };
            match Keypad::dial(self.gateway.sip, address(127, 50 + own, n), alias, "Eve") {
                Ok(mut call) => {
                    for guess in 0..3 {
                        call.press(&format!("{}#", wrong(3 * n + guess, alias)));
                        tried.by_keys.fetch_add(1, Ordering::Relaxed);
                    }
                    call.hang_up();
                }
                Err(status) => {
                    assert_eq!(status, 404);
                    tried.refused_calls.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Of a device, over both listeners.
    fn guess_passwords(&self, round: usize, tried: &Tried) {
        let mut connections = [connect(&self.direct), connect(&self.proxy)];
        for n in 0..REGISTRATIONS {
            let (head, headers) = registration("device", "device", &format!("secret-{n}"));
            let way = [&self.direct, &self.proxy][n % 2];
            let headers = format!("{headers}X-Forwarded-For: {}\r\n", address(10, 200 + round, n % 20));
            let (code, _) = ask(way, &mut connections[n % 2], &head, &headers);
            assert_eq!(code, 401);
            tried.passwords.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From where he has been before, directly and through the proxy.
    fn owner_enters(&self, (_, alias, pin): Room) -> Vec<Duration> {
        let ways = [self.direct.from(OWNER), self.proxy.header("X-Forwarded-For", OWNER_BEHIND_THE_PROXY)];
        let enters = |way: &Web| {
            let begun = Instant::now();
            let host = Client::over(way, alias, "Owner", pin);
            assert_eq!(host.granted["role"], "HOST");
            let took = begun.elapsed();
            host.post("release_token", "{}");
            took
        };
        ways.iter().map(enters).collect()
    }

    /// A device of ours, from wherever it is.
    fn device_enters(&self, (_, alias, pin): Room) -> Vec<Duration> {
        let begun = Instant::now();
        let device = Registered::start(&self.gateway, "device");
        let body = json!({ "display_name": "Device", "registration_token": device.token }).to_string();
        let head = format!("POST /api/client/v2/conferences/{alias}/request_token");
        let headers = format!("pin: {pin}\r\nContent-Type: application/json\r\n");
        let answer = device.web.request(&head, &headers, &body).unwrap();
        assert_eq!((answer.code, &answer.result()["role"]), (200, &json!("HOST")), "{}", answer.json());
        let took = begun.elapsed();
        let token = format!("token: {}\r\n", answer.result()["token"].as_str().unwrap());
        for path in [format!("conferences/{alias}"), "registrations/device".into()] {
            let token =
                if path.starts_with("reg") { format!("token: {}\r\n", device.token) } else { token.clone() };
            let head = format!("POST /api/client/v2/{path}/release_token");
            assert_eq!(device.web.request(&head, &token, "{}").unwrap().code, 200);
        }
        vec![took]
    }

    /// The owner's telephone: its PIN opens, and it is in.
    fn phone_enters(&self, (_, alias, pin): Room) -> Vec<Duration> {
        let begun = Instant::now();
        let host = Client::over(&self.direct.from(OWNER), alias, "Owner", pin);
        let mut phone = Keypad::dial(self.gateway.sip, OWNER, alias, "Phone").unwrap();
        assert!(phone.press(&format!("{pin}#")));
        wait_for("the phone to be in", || {
            host.participant("Phone").filter(|it| it["service_type"] == "conference")
        });
        let took = begun.elapsed();
        phone.hang_up();
        wait_for("the phone to be gone", || host.participant("Phone").is_none().then_some(()));
        host.post("release_token", "{}");
        vec![took]
    }
}

/// The `n`th of the addresses of `own`.
fn address(net: u8, own: usize, n: usize) -> Ipv4Addr {
    let [own, n] = [own, n].map(|it| u8::try_from(it).unwrap());
    Ipv4Addr::new(net, 1, own, n + 1)
}

/// A PIN that is not the one of `alias`, of as many digits.
fn wrong(n: usize, alias: &str) -> String {
    let right: usize = if alias == FOUR.1 { FOUR.2 } else { SIX.2 }.parse().unwrap();
    let first = if alias == FOUR.1 { 1_000 } else { 100_000 };
    let guess = first + n * 7 % (9 * first);
    (guess + usize::from(guess == right)).to_string()
}

fn connect(way: &Web) -> Incoming {
    let connection = way.connect().unwrap();
    connection.patience(support::PATIENCE);
    Incoming::new(connection)
}

/// One guess by the client API, which must be as wrong as all others.
fn guess(way: &Web, connection: &mut Incoming, n: usize, headers: &str, tried: &Tried) {
    let alias = match n {
        n if n % NOBODY == 0 => "nobody.at.all",
        n if n % 2 == 0 => FOUR.1,
        _ => SIX.1,
    };
    let head = format!("POST /api/client/v2/conferences/{alias}/request_token");
    let (code, answer) = ask(way, connection, &head, &format!("{headers}pin: {}\r\n", wrong(n, alias)));
    let told = (code, answer["result"].as_str().unwrap_or_default());
    let allowed = told == (403, "Invalid PIN") || (alias.starts_with("nobody") && code == 404);
    assert!(allowed, "{alias}: {told:?}");
    tried.by_web.fetch_add(1, Ordering::Relaxed);
}

fn ask(way: &Web, connection: &mut Incoming, head: &str, headers: &str) -> (u16, Value) {
    way.ask(connection.connection(), head, headers, "{}").unwrap();
    let (code, head) = connection.head().unwrap();
    let body = connection.body(&head).unwrap();
    (code, serde_json::from_slice(&body).unwrap_or_default())
}
