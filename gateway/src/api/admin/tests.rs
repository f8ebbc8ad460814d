//! The management API over a socket, with a real store and rooms of cardboard.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::alias::Alias;
use crate::api::client::tests as clients;
use crate::conference::policy::{Door, Pin, Role};
use crate::conference::room::{Command, Joined};
use crate::conference::service::Service;
use crate::config::{Config, Redacted};
use crate::guard::Porter;
use crate::registrar::{self, Device, Expiry, Origin, Watch};
use crate::routing::Routing;
use crate::rules::RuleWatch;
use crate::services::Services;
use crate::settings::Settings;
use crate::tokens;

/// With the server of the client API, over whose rooms it is.
pub(in crate::api) struct Server {
    at: SocketAddr,
    pub(in crate::api) admin: Admin,
    pub(in crate::api) token: String,
    pub(in crate::api) clients: clients::Server,
    folder: PathBuf,
    routing: Arc<Routing>,
    services: Services,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const FILE: &str = r#"
    [[devices]]
    alias = "desk"
    password = "s3cret"
    [[rules]]
    name = "file"
    priority = 10
    match = '\+1(\d+)'
    proxy = "trunk.example.net"
"#;

pub(in crate::api) async fn server(name: &str) -> Server {
    let folder = std::env::temp_dir().join(format!("crosspoint-admin-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let config = Config::from_toml(FILE, "x.toml").unwrap();
    let clock = Clock::start();
    let (services, events, tokens) = (Services::default(), Events::default(), Tokens::default());
    let (routing, settings) = (Arc::new(Routing::new(&config)), LiveSettings::new(Settings::default()));
    let watch: Vec<Box<dyn Watch>> = vec![
        Box::new(services.clone()),
        Box::new(RuleWatch::new(routing.clone())),
        Box::new(settings.clone()),
        Box::new(tokens.clone()),
    ];
    let of_registrar = registrar::Settings {
        realm: "crosspoint".into(),
        expiry: Expiry {
            least: Duration::from_secs(1),
            default: Duration::from_secs(60),
            most: Duration::from_secs(60),
        },
        registrations: 10,
        devices: config.devices.clone(),
        events: events.clone(),
    };
    let registrar = Registrar::open_watched(&folder, of_registrar, clock, Box::new(watch)).unwrap();
    let secret = tokens::secret([7; 32]);
    tokens::add(&Store::open(&folder).unwrap(), "test", &secret, clock.both().wall).unwrap();
    registrar.look().await;
    let porter = Porter::of_a_test(false, &events);
    let clients = clients::guarded(clients::pins("1234", None), None, porter).await;
    // Orders find nobody who would take them.
    let orders = Orders::default();
    drop(orders.take());
    let admin = Admin::new(AdminParts {
        data: folder.clone(),
        tokens,
        registrar,
        clients: ConnectLegs::new(10, Arc::default()),
        exchange: clients.exchange(),
        participants: clients.api.clone(),
        gate: Gate::new(500, Vec::new(), clock, events.clone()),
        events,
        orders,
        settings,
        engines: vec![clients.engine.clone()],
        config: LiveConfig::new(config),
        domains: Domains::default(),
        realm: "crosspoint".into(),
        clock,
        key: [9; 32],
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let router = admin.router();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let token = secret.expose().to_owned();
    Server { at, admin, token, clients, folder, routing, services }
}

/// Code, headers in lower case, body.
pub(in crate::api) struct Answer {
    pub(in crate::api) code: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn etag(&self) -> String {
        self.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned()
    }

    fn field(&self) -> (u16, &str) {
        (self.code, self.body["error"]["field"].as_str().unwrap_or("-"))
    }
}

impl Server {
    async fn raw(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let head = format!(
            "{method} {PREFIX}{path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        // Tags are told apart by the case of their letters: names alone are made small.
        let lower = |line: &str| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
            None => format!("{line}\n"),
        };
        let head = head.lines().map(lower).collect();
        Answer { code, head, body: serde_json::from_str(body).unwrap_or(Value::Null) }
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.raw(method, path, &self.bearer(), "").await
    }

    pub(in crate::api) async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send_if(method, path, "", body).await
    }

    async fn send_if(&self, method: &str, path: &str, tag: &str, body: Value) -> Answer {
        let condition = if tag.is_empty() { String::new() } else { format!("If-Match: {tag}\r\n") };
        let headers = format!("{}Content-Type: application/json\r\n{condition}", self.bearer());
        self.raw(method, path, &headers, &body.to_string()).await
    }

    /// A token that was good.
    pub(in crate::api) async fn revoked_token(&self) -> String {
        let store = Store::open(&self.folder).unwrap();
        let secret = tokens::secret([8; 32]);
        tokens::add(&store, "gone", &secret, self.admin.0.parts.clock.both().wall).unwrap();
        self.admin.0.parts.registrar.look().await;
        assert!(self.admin.0.parts.tokens.holder(secret.expose()).is_some());
        tokens::remove(&store, "gone").unwrap();
        self.admin.0.parts.registrar.look().await;
        secret.expose().to_owned()
    }

    fn told(&self) -> Vec<Value> {
        let events = self.admin.0.parts.events.after(0, 1_000).events;
        events.iter().map(|it| serde_json::to_value(it).unwrap()).collect()
    }

    async fn join(&self, role: Role) -> Joined {
        let door = Door::new(Some(Pin::parse("1234").unwrap()), None, true).unwrap();
        let alias = Alias::parse("meet.alice", &Domains::default()).unwrap();
        let service = Arc::new(Service { door, ..Service::new("Alice's room", alias) });
        let (reply, told) = oneshot::channel();
        let join = Command::Join { name: "Bob".into(), role, source: None, reply };
        assert!(self.admin.0.parts.exchange.rooms().open_and_tell(&service, join));
        told.await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn threat_18_no_route_answers_without_a_token_that_is_good() {
    let server = server("auth").await;
    for route in routes() {
        let path = route.path.replace(['{', '}'], "x");
        let basic = format!("Authorization: Basic {}\r\n", server.token);
        let cut = server.token.get(..server.token.len() - 1).unwrap();
        let cut = format!("Authorization: Bearer {cut}\r\n");
        let query = format!("{path}?token={}&access_token={}", server.token, server.token);
        for (path, headers) in [(&path, ""), (&path, &basic), (&path, &cut), (&query, "")] {
            let answer = server.raw(route.method.as_str(), path, headers, "{}").await;
            assert_eq!(answer.code, 401, "{} {path} {headers}", route.method);
            assert!(answer.head.contains("www-authenticate: Bearer"), "{}", answer.head);
            assert!(answer.body["error"]["message"].as_str().unwrap().contains("crosspoint token new"));
        }
    }
    // Neither does what is no route: nobody learns by asking what there is.
    assert_eq!(server.raw("GET", "/nothing", "", "").await.code, 401);
    assert_eq!(server.raw("TRACE", "/services", "", "").await.code, 401);
    assert_eq!(server.ask("GET", "/nothing").await.code, 404);
    let wrong = server.ask("DELETE", "/services").await;
    assert!(wrong.code == 405 && wrong.head.contains("allow: "), "{}", wrong.head);
    // Revoked, it is none any more.
    assert_eq!(server.ask("GET", "/services").await.code, 200);
    tokens::remove(&Store::open(&server.folder).unwrap(), "test").unwrap();
    server.admin.0.parts.registrar.look().await;
    assert_eq!(server.ask("GET", "/services").await.code, 401);
}

#[tokio::test]
async fn services_are_written_shown_and_changed_and_pins_are_never_shown() {
    let server = server("services").await;
    let full = json!({
        "name": "Lecture", "kind": "auditorium", "aliases": ["Lecture@example.com", "500"],
        "host_pin": "1234", "guest_pin": "567890", "layout": "4:0", "talkers": null, "wait_seconds": 120,
    });
    let added = server.send("POST", "/services", full.clone()).await;
    assert_eq!(added.code, 201, "{}", added.body);
    assert_eq!(
        added.body,
        json!({
            "name": "Lecture", "kind": "auditorium", "aliases": ["lecture", "500"], "host_pin_set": true,
            "guest_pin_set": true, "guests": true, "layout": "4:0", "guest_layout": "1:7", "talkers": null,
            "limit": 200, "wait_seconds": 120, "guests_alone_seconds": 60, "last_one_seconds": 0,
            "invited_hosts_pass": false, "chat": true, "guests_present": true, "names": true, "dials": [],
        })
    );
    // In effect when it is answered.
    let alias = |text: &str| Alias::parse(text, &Domains::default()).unwrap();
    assert_eq!(server.services.find(&alias("500")).unwrap().name, "Lecture");
    // What was read goes back as it is, and nothing is lost by it: not the PINs either.
    let read = server.ask("GET", "/services/Lecture").await;
    assert_eq!((read.code, &read.body, read.etag()), (200, &added.body, added.etag()));
    let put = server.send_if("PUT", "/services/Lecture", &read.etag(), read.body.clone()).await;
    assert_eq!((put.code, &put.body, put.etag()), (200, &read.body, read.etag()));
    let service = server.services.find(&alias("500")).unwrap();
    assert!(
        service.door.host_pin().unwrap().opens("1234") && service.door.guest_pin().unwrap().opens("567890")
    );
    // One field; then another editor, who has read the old one, is told so.
    let patched = server
        .send_if("PATCH", "/services/Lecture", &read.etag(), json!({ "guest_pin": null, "chat": false }))
        .await;
    assert_eq!((patched.code, &patched.body["guest_pin_set"]), (200, &json!(false)), "{}", patched.body);
    let late = server.send_if("PUT", "/services/Lecture", &read.etag(), read.body.clone()).await;
    assert_eq!(late.code, 412, "{}", late.body);
    let condition = format!("{}If-Match: {}\r\n", server.bearer(), read.etag());
    assert_eq!(server.raw("DELETE", "/services/Lecture", &condition, "").await.code, 412);
    // S73: whom it calls, with keys that are not shown and not lost.
    let dial = json!({ "destination": "alice", "role": "guest", "keys": ",,4711#" });
    let dials = server.send("PATCH", "/services/Lecture", json!({ "dials": [dial] })).await;
    let shown = json!([
        { "destination": "alice", "protocol": "auto", "role": "guest", "keeps": "in-company", "keys_set": true }
    ]);
    assert_eq!(dials.body["dials"], shown, "{}", dials.body);
    assert_eq!(server.send("PUT", "/services/Lecture", dials.body.clone()).await.body["dials"], shown);
    assert_eq!(server.services.find(&alias("500")).unwrap().dials[0].keys.as_str(), ",,4711#");
    for (dial, field) in [
        (json!({ "destination": "a", "keys": "x" }), "keys"),
        (json!({ "destination": "a", "role": "chair" }), "role"),
        (json!({ "destinatoin": "a" }), "destination"),
    ] {
        let wrong = server.send("PATCH", "/services/Lecture", json!({ "dials": [dial] })).await;
        assert_eq!(wrong.field(), (400, field), "{}", wrong.body);
    }
    // Renamed, then gone.
    let renamed = server.send("PATCH", "/services/Lecture", json!({ "name": "Große Halle/1" })).await;
    assert_eq!(renamed.code, 200);
    assert_eq!(server.ask("GET", "/services/Lecture").await.code, 404);
    let path = "/services/Gro%C3%9Fe%20Halle%2F1";
    assert_eq!(server.ask("GET", path).await.body["chat"], false);
    assert_eq!(server.ask("DELETE", path).await.code, 204);
    assert_eq!(server.ask("DELETE", path).await.code, 404);
    assert!(server.services.find(&alias("500")).is_none());
    let changes: Vec<_> = server
        .told()
        .iter()
        .map(|it| (it["event"].clone(), it["change"].clone(), it["by"].clone()))
        .collect();
    assert_eq!(changes.len(), 7);
    assert_eq!(changes[0], (json!("setting_changed"), json!("added"), json!("test")));
    let everything = format!("{} {} {:?}", added.body, patched.body, server.told());
    assert!(!everything.contains("1234") && !everything.contains("567890"));
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_changed() {
    let server = server("wrong").await;
    let room = |name: &str, alias: &str| json!({ "name": name, "aliases": [alias] });
    assert_eq!(server.send("POST", "/services", room("One", "one")).await.code, 201);
    for (body, expected) in [
        (room("One", "two"), (409, "name")),
        (room("Two", "ONE"), (409, "aliases")),
        (room("Two", "desk"), (409, "aliases")),
        (room("Two", ""), (400, "aliases")),
        (json!({ "aliases": ["two"] }), (400, "name")),
        (json!({ "name": "Two" }), (400, "aliases")),
        (json!({ "name": " Two", "aliases": ["two"] }), (400, "name")),
        (json!({ "name": "Two", "aliases": ["two"], "kind": "hall" }), (400, "kind")),
        (json!({ "name": "Two", "aliases": ["two"], "layuot": "1:7" }), (400, "layuot")),
        (json!({ "name": "Two", "aliases": ["two"], "layout": "7:7" }), (400, "layout")),
        (json!({ "name": "Two", "aliases": ["two"], "limit": 0 }), (400, "limit")),
        (json!({ "name": "Two", "aliases": ["two"], "talkers": 1001 }), (400, "talkers")),
        (json!({ "name": "Two", "aliases": ["two"], "host_pin": "12" }), (400, "host_pin")),
        (json!({ "name": "Two", "aliases": ["two"], "guest_pin": "1234" }), (400, "guest_pin")),
        (json!({ "name": "Two", "aliases": ["two"], "wait_seconds": "5" }), (400, "wait_seconds")),
    ] {
        let answer = server.send("POST", "/services", body.clone()).await;
        assert_eq!(answer.field(), expected, "{body}: {}", answer.body);
    }
    let list = server.ask("GET", "/services").await;
    assert_eq!((list.body["services"].as_array().unwrap().len(), &list.body["next"]), (1, &Value::Null));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("after=", "after"),
        ("limit=1&limit=2", "limit"),
        ("of=1", "of"),
    ] {
        assert_eq!(server.ask("GET", &format!("/services?{query}")).await.field(), (400, field), "{query}");
    }
    assert_eq!(server.ask("GET", "/services/%ff").await.code, 404);
    let plain = format!("{}Content-Type: text/plain\r\n", server.bearer());
    assert_eq!(server.raw("POST", "/services", &plain, "{}").await.code, 415);
    let json = format!("{}Content-Type: application/json\r\n", server.bearer());
    assert_eq!(server.raw("POST", "/services", &json, "{\"name\":").await.code, 400);
    assert_eq!(server.raw("POST", "/services", &json, &"[".repeat(60_000)).await.code, 400);
    assert_eq!(server.raw("POST", "/services", &json, &" ".repeat(70_000)).await.code, 413);
    assert_eq!(server.told().len(), 1, "one change was made");
}

#[tokio::test]
async fn long_lists_come_page_by_page() {
    let server = server("pages").await;
    for name in ["c", "a", "7", "b"] {
        assert_eq!(
            server.send("POST", "/services", json!({ "name": name, "aliases": [name] })).await.code,
            201
        );
    }
    let names = |answer: &Answer| -> Vec<String> {
        let list = answer.body["services"].as_array().unwrap();
        list.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = server.ask("GET", "/services?limit=1").await;
    assert_eq!((names(&first), &first.body["next"]), (vec!["7".to_owned()], &json!("7")));
    let second = server.ask("GET", "/services?limit=2&after=7").await;
    assert_eq!((names(&second), &second.body["next"]), (vec!["a".into(), "b".into()], &json!("b")));
    let last = server.ask("GET", "/services?limit=2&after=b").await;
    assert_eq!((names(&last), &last.body["next"]), (vec!["c".to_owned()], &Value::Null));
}

#[tokio::test]
async fn s50_devices_can_register_at_once_and_their_passwords_are_never_shown() {
    let server = server("devices").await;
    let bob = json!({ "alias": "Bob", "password": "correct horse" });
    let added = server.send("POST", "/devices", bob.clone()).await;
    let shown = json!({ "alias": "bob", "username": "bob", "registered": false, "origin": "store" });
    assert_eq!((added.code, &added.body), (201, &shown));
    let alias = Alias::parse("bob", &Domains::default()).unwrap();
    let device = || server.admin.0.parts.registrar.device(&alias);
    let of = |username: &str, password: &str| {
        Device::new(alias.clone(), username, "crosspoint", &Redacted::new(password), Origin::Store)
    };
    assert_eq!(*device().unwrap(), of("bob", "correct horse"));
    assert_eq!(server.send("POST", "/devices", bob).await.field(), (409, "alias"));
    assert_eq!(server.send("POST", "/devices", json!({ "alias": "x" })).await.field(), (400, "password"));
    // Sent back as it was read, it keeps its password.
    let put = server.send_if("PUT", "/devices/bob", &added.etag(), added.body.clone()).await;
    assert_eq!((put.code, &put.body), (200, &shown));
    assert_eq!(*device().unwrap(), of("bob", "correct horse"));
    let renamed = server.send("PATCH", "/devices/bob", json!({ "username": "bobby" })).await;
    assert_eq!(renamed.field(), (400, "password"));
    let both = json!({ "username": "bobby", "password": "battery staple" });
    assert_eq!(server.send("PATCH", "/devices/bob", both).await.code, 200);
    assert_eq!(*device().unwrap(), of("bobby", "battery staple"));
    assert_eq!(server.send_if("PUT", "/devices/bob", &added.etag(), json!({})).await.code, 412);
    assert_eq!(server.send("PATCH", "/devices/bob", json!({ "alias": "eve" })).await.field(), (400, "alias"));
    // Those of the file are shown and left alone.
    let list = server.ask("GET", "/devices").await.body;
    assert_eq!(list["devices"][1]["origin"], "file");
    assert_eq!(server.ask("DELETE", "/devices/desk").await.code, 409);
    assert_eq!(server.send("PATCH", "/devices/desk", json!({ "password": "x" })).await.code, 409);
    assert_eq!(server.ask("DELETE", "/devices/bob").await.code, 204);
    assert!(device().is_none());
    // A service may not have the alias of a device, nor the other way.
    server.send("POST", "/services", json!({ "name": "R", "aliases": ["room"] })).await;
    let taken = json!({ "alias": "room", "password": "x" });
    assert_eq!(server.send("POST", "/devices", taken).await.field(), (409, "alias"));
    assert!(!format!("{list} {:?}", server.told()).contains("staple"));
}

#[tokio::test]
async fn what_only_we_write_is_passed_over_if_it_is_of_its_kind() {
    let server = server("origin").await;
    let device =
        |origin: Value| json!({ "alias": "bob", "password": "a-long-secret-of-bob", "origin": origin });
    let rule = |origin: Value| json!({ "name": "out", "priority": 5, "match": "9", "origin": origin });
    for bad in [json!([-31_991, {}]), json!({}), json!(7), json!(null)] {
        for (path, body) in [("/devices", device(bad.clone())), ("/rules", rule(bad.clone()))] {
            let refused = server.send("POST", path, body).await;
            assert_eq!(refused.code, 400, "{path} {bad}: {}", refused.body);
            assert!(refused.body.to_string().contains("origin"), "{}", refused.body);
        }
    }
    assert_eq!(server.send("POST", "/devices", device(json!("file"))).await.code, 201);
}

#[tokio::test]
async fn rules_count_at_once_and_those_of_the_file_stay() {
    let server = server("rules").await;
    let rule = json!({
        "name": "germany", "priority": 5, "match": r"\+49(\d+)", "replace": "0$1", "only_if_registered": false,
        "proxy": { "host": "trunk.example.net", "credentials": { "realm": "t", "username": "u", "password": "s3cret" } },
    });
    let added = server.send("POST", "/rules", rule.clone()).await;
    assert_eq!((added.code, &added.body["origin"]), (201, &json!("store")), "{}", added.body);
    assert!(added.body["proxy"]["credentials"].get("password").is_none());
    let names = |server: &Server| -> Vec<String> {
        server.routing.rules().iter().map(|it| it.name.clone()).collect()
    };
    assert_eq!(names(&server), ["germany", "file"]);
    let password = |server: &Server| {
        let rules = server.routing.rules();
        let proxy = rules[0].proxy.clone().unwrap();
        proxy.credentials.unwrap().password
    };
    assert_eq!(
        server.send("PATCH", "/rules/germany", json!({ "priority": 20, "enable": false })).await.code,
        200
    );
    assert_eq!(names(&server), ["file", "germany"]);
    assert_eq!(server.send("PATCH", "/rules/germany", json!({ "priority": 6 })).await.code, 200);
    assert_eq!(password(&server).expose(), "s3cret", "merged, not lost");
    for (body, expected) in [
        (json!({ "name": "a", "priority": 6, "match": "a" }), (409, "priority")),
        (json!({ "name": "a", "priority": 10, "match": "a" }), (409, "priority")),
        (json!({ "name": "file", "priority": 30, "match": "a" }), (409, "name")),
        (json!({ "name": "a", "priority": 30, "match": "(" }), (400, "match")),
        (json!({ "name": "a", "priority": 30 }), (400, "match")),
        (
            json!({ "name": "a", "priority": 30, "match": "a", "proxy": { "host": "b", "hots": "b" } }),
            (400, "proxy.hots"),
        ),
        (json!({ "name": "a", "priority": 30, "match": "a", "trunk": "t", "proxy": null }), (400, "proxy")),
        (
            json!({ "name": "a", "priority": 30, "match": "a", "proxy": { "host": "b", "transport": null } }),
            (400, "proxy.transport"),
        ),
    ] {
        let answer = server.send("POST", "/rules", body.clone()).await;
        assert_eq!(answer.field(), expected, "{body}: {}", answer.body);
    }
    assert_eq!(server.send("PUT", "/rules/file", rule.clone()).await.code, 409);
    assert_eq!(server.send_if("PUT", "/rules/germany", &added.etag(), rule).await.code, 412);
    assert_eq!(server.ask("GET", "/rules").await.body["rules"][1]["name"], "file");
    assert_eq!(server.ask("DELETE", "/rules/germany").await.code, 204);
    assert_eq!(names(&server), ["file"]);
}

#[tokio::test]
async fn s70_s76_settings_are_live_and_go_back_to_what_the_file_has() {
    let server = server("settings").await;
    let mut live = server.admin.0.parts.settings.watch();
    let first = server.ask("GET", "/settings").await;
    assert_eq!((&first.body["infinity_clients"], &first.body["set"]), (&json!(true), &json!([])));
    let off = json!({ "infinity_clients": false, "disabled_text": "Closed", "chat": false });
    let set = server.send_if("PATCH", "/settings", &first.etag(), off).await;
    assert_eq!(set.body["set"], json!(["chat", "disabled_text", "infinity_clients"]));
    let now = live.borrow_and_update().clone();
    assert_eq!((now.infinity_clients, now.disabled_text.as_str()), (false, "Closed"));
    assert_eq!(server.send_if("PATCH", "/settings", &first.etag(), json!({})).await.code, 412);
    let back = server.send("PATCH", "/settings", json!({ "infinity_clients": null })).await;
    assert_eq!((&back.body["infinity_clients"], live.borrow().infinity_clients), (&json!(true), true));
    assert_eq!(
        server.send("PATCH", "/settings", json!({ "disabled_text": "" })).await.field(),
        (400, "disabled_text")
    );
    assert_eq!(
        server.send("PATCH", "/settings", json!({ "maintenance": 1 })).await.field(),
        (400, "maintenance")
    );
    // A service that says nothing of chat is as the setting has it.
    let quiet = server.send("POST", "/services", json!({ "name": "Q", "aliases": ["q"] })).await;
    assert_eq!(quiet.body["chat"], false);
    assert_eq!(server.send("PUT", "/settings", json!({})).await.body, first.body);
}

#[tokio::test]
async fn s23_the_administrator_locks_admits_mutes_and_ends() {
    let server = server("commands").await;
    let base = "/conferences/Alice's%20room";
    assert_eq!(server.ask("POST", &format!("{base}/lock")).await.code, 404, "nothing goes on");
    let host = server.join(Role::Host).await;
    assert_eq!(server.ask("POST", &format!("{base}/lock")).await.code, 204);
    let guest = server.join(Role::Guest).await;
    let status = server.ask("GET", "/status/conferences").await.body;
    let shown = &status["conferences"][0];
    assert_eq!(
        (&shown["locked"], &shown["participants"], &shown["waiting"]),
        (&json!(true), &json!(1), &json!(1))
    );
    let of = |uuid: crate::uuid::Uuid, command: &str| format!("{base}/participants/{uuid}/{command}");
    assert_eq!(server.ask("POST", &of(guest.uuid, "admit")).await.code, 204);
    assert_eq!(server.ask("POST", &of(guest.uuid, "mute")).await.code, 204);
    assert_eq!(server.send("POST", &of(guest.uuid, "role"), json!({ "role": "host" })).await.code, 204);
    assert_eq!(
        server.send("POST", &of(guest.uuid, "role"), json!({ "role": "chair" })).await.field(),
        (400, "role")
    );
    assert_eq!(server.send("POST", &of(guest.uuid, "spotlight"), json!({ "on": true })).await.code, 204);
    assert_eq!(server.send("POST", &of(guest.uuid, "dtmf"), json!({ "digits": "12#" })).await.code, 204);
    assert_eq!(
        server.send("POST", &of(guest.uuid, "dtmf"), json!({ "digits": "E" })).await.field(),
        (400, "digits")
    );
    let nobody = crate::uuid::Uuid::of([1; 16]);
    assert_eq!(server.ask("POST", &of(nobody, "mute")).await.code, 404);
    let list = server.ask("GET", "/status/conferences/Alice's%20room/participants").await.body;
    let guests = list["participants"].as_array().unwrap();
    let shown = guests.iter().find(|it| it["uuid"] == guest.uuid.to_string()).unwrap();
    assert_eq!(
        (&shown["role"], &shown["muted"], &shown["place"], &shown["streams"]),
        (&json!("host"), &json!(true), &json!("in"), &json!([]))
    );
    assert!(shown["spotlight"].is_string());
    // S33: only who can be called is.
    server.send("POST", "/services", json!({ "name": "Alice's room", "aliases": ["meet.alice"] })).await;
    let dial = json!({ "destination": "nobody", "role": "guest", "keys": "1#" });
    assert_eq!(server.send("POST", &format!("{base}/dial"), dial).await.field(), (409, "destination"));
    let wrong = json!({ "destination": "bob", "protocol": "teams" });
    assert_eq!(server.send("POST", &format!("{base}/dial"), wrong).await.field(), (400, "protocol"));
    let mut said = host.said;
    let message = json!({ "text": "The building closes in ten minutes" });
    assert_eq!(server.send("POST", &format!("{base}/message"), message).await.code, 204);
    let said = tokio::time::timeout(Duration::from_secs(10), said.recv()).await.unwrap().unwrap();
    assert_eq!(
        (said.name.as_str(), said.text.as_str()),
        ("Administrator", "The building closes in ten minutes")
    );
    assert_eq!(server.ask("POST", &of(guest.uuid, "disconnect")).await.code, 204);
    assert_eq!(server.ask("POST", &format!("{base}/unlock")).await.code, 204);
    assert_eq!(server.ask("POST", &format!("{base}/disconnect")).await.code, 204);
    assert_eq!(server.ask("GET", "/status/calls").await.body, json!({ "calls": [] }));
    assert_eq!(server.ask("GET", "/status/registrations").await.body, json!({ "registrations": [] }));
}

#[tokio::test]
async fn somebody_is_sent_to_another_conference_and_comes_in_by_his_token() {
    let server = server("transfer").await;
    server.send("POST", "/services", json!({ "name": "Alice's room", "aliases": ["meet.alice"] })).await;
    let hall = json!({ "name": "Hall", "aliases": ["hall"], "host_pin": "2468", "guest_pin": "1357" });
    assert_eq!(server.send("POST", "/services", hall).await.code, 201);
    let (bob, uuid) = server.clients.join("Bob", "none").await;
    let path = format!("/conferences/Alice's%20room/participants/{uuid}/transfer");
    for (wanted, expected) in [
        (json!({}), (400, "conference")),
        (json!({ "conference": "Nowhere" }), (400, "conference")),
        (json!({ "conference": "Alice's room" }), (409, "conference")),
        (json!({ "conference": "Hall", "role": "chair" }), (400, "role")),
        (json!({ "conference": "Hall", "pin": "2468" }), (400, "pin")),
    ] {
        let answer = server.send("POST", &path, wanted.clone()).await;
        assert_eq!(answer.field(), expected, "{wanted}: {}", answer.body);
    }
    let nobody = path.replace(&uuid, &crate::uuid::Uuid::of([1; 16]).to_string());
    assert_eq!(server.send("POST", &nobody, json!({ "conference": "Hall" })).await.code, 404);
    // No PIN is asked of who is sent; without a word he comes as who has none.
    let mut told = server.clients.events(&bob).await;
    for (wanted, role) in [
        (json!({ "conference": "Hall" }), "GUEST"),
        (json!({ "conference": "Hall", "role": "host" }), "HOST"),
    ] {
        assert_eq!(server.send("POST", &path, wanted).await.code, 204);
        let refer = told.until("refer").await;
        assert_eq!(refer["alias"], "hall");
        let body = json!({ "display_name": "Bob", "token": refer["token"] }).to_string();
        let door = "/api/client/v2/conferences/hall/request_token";
        let (code, answer) = server.clients.ask("POST", door, "", &body).await;
        assert_eq!((code, &answer["result"]["role"]), (200, &json!(role)), "{answer}");
    }
    assert_eq!(server.clients.post(&bob, "release_token", "").await.0, 200);
    assert_eq!(server.send("POST", &path, json!({ "conference": "Hall" })).await.code, 404, "he is gone");
}

#[tokio::test]
async fn s77_events_come_page_by_page_and_as_a_stream_that_misses_nothing() {
    let server = server("events").await;
    for name in ["a", "b", "c"] {
        server.send("POST", "/services", json!({ "name": name, "aliases": [name] })).await;
    }
    let page = server.ask("GET", "/events?after=1&limit=1").await.body;
    assert_eq!(
        (&page["events"][0]["seq"], &page["newest"], &page["lost"]),
        (&json!(2), &json!(3), &json!(0))
    );
    assert_eq!(page["events"][0]["name"], "b");
    assert_eq!(server.ask("GET", "/events?after=-1").await.field(), (400, "after"));
    let open = |last: &'static str| {
        let head = format!(
            "GET {PREFIX}/events/stream HTTP/1.1\r\nHost: here\r\n{}Last-Event-ID: {last}\r\n\r\n",
            server.bearer()
        );
        async move {
            let mut stream = TcpStream::connect(server.at).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            BufReader::new(stream)
        }
    };
    async fn ids(stream: &mut BufReader<TcpStream>, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let mut line = String::new();
            let read = stream.read_line(&mut line);
            tokio::time::timeout(Duration::from_secs(10), read).await.expect("a line").unwrap();
            ids.extend(line.trim_end().strip_prefix("id: ").map(str::to_owned));
        }
        ids
    }
    let mut stream = open("1").await;
    assert_eq!(ids(&mut stream, 2).await, ["2", "3"]);
    server.ask("DELETE", "/services/a").await;
    assert_eq!(ids(&mut stream, 1).await, ["4"]);
    // The number of a former life of the gateway: everything of this one is new.
    assert_eq!(ids(&mut open("5000").await, 4).await, ["1", "2", "3", "4"]);
    // Streams have a limit.
    let mut held = Vec::new();
    for _ in 0..events::STREAMS - 1 {
        let mut another = open("0").await;
        ids(&mut another, 1).await;
        held.push(another);
    }
    assert_eq!(server.ask("GET", "/events/stream").await.code, 429);
}

#[tokio::test]
async fn the_history_is_read_newest_first() {
    let server = server("history").await;
    let lines: String = (1..=5).map(|call| format!("{{\"call\":{call}}}\n")).collect();
    std::fs::write(server.folder.join(crate::records::FILE), lines).unwrap();
    let page = server.ask("GET", "/history/calls?limit=2").await.body;
    assert_eq!(page["calls"], json!([{ "call": 5 }, { "call": 4 }]));
    let next = page["next"].as_str().unwrap();
    let page = server.ask("GET", &format!("/history/calls?limit=9&before={next}")).await.body;
    assert_eq!(page, json!({ "calls": [{ "call": 3 }, { "call": 2 }, { "call": 1 }], "next": null }));
    assert_eq!(server.ask("GET", "/history/calls?before=x").await.field(), (400, "before"));
    assert_eq!(server.ask("GET", "/history/calls?before=1-1").await.code, 404);
}

/// Promise 16, for this door.
#[tokio::test]
async fn a_full_disk_refuses_changes_with_503_and_recovers() {
    let server = server("full").await;
    let room = |name: &str| json!({ "name": name, "aliases": [name] });
    assert_eq!(server.send("POST", "/services", room("before")).await.code, 201);
    // No page more than it has: what SQLite sees when the disk is full.
    let limit = |pages: &'static str| {
        let guard = server.admin.0.store.lock().unwrap();
        let database = guard.as_ref().unwrap().database();
        database.pragma_update(None, "max_page_count", pages).unwrap();
    };
    limit("1");
    let long = json!({ "name": "full", "aliases": (0..50).map(|it| format!("{it}{}", "x".repeat(240))).collect::<Vec<_>>() });
    let refused = server.send("POST", "/services", long.clone()).await;
    assert!(
        refused.code == 503 && refused.head.contains("retry-after: "),
        "{} {}",
        refused.code,
        refused.body
    );
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("full"), "{}", refused.body);
    assert_eq!(server.ask("GET", "/services/full").await.code, 404, "never acknowledged, never there");
    assert_eq!(server.ask("GET", "/services/before").await.code, 200, "what was there is");
    assert_eq!(server.told().len(), 1);
    limit("1000000");
    assert_eq!(server.send("POST", "/services", long).await.code, 201);
}

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn every_route_is_in_the_document_and_the_other_way_round() {
    let document = document();
    let mut told: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let mut real: Vec<String> = routes().iter().map(|it| format!("{} {}", it.method, it.path)).collect();
    told.sort();
    real.sort();
    assert_eq!(told, real);
    for (name, words) in services::words() {
        let property = &document["components"]["schemas"]["ServiceAdd"]["properties"][name];
        assert_eq!(property["enum"], json!(words), "{name}");
    }
}

/// What was promised by the last release: it only grows.
#[test]
fn the_document_only_grows() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/admin/openapi-0.1.json");
    let before: Value = serde_json::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let mut faults = Vec::new();
    grows("", &before, &document(), &mut faults);
    assert!(faults.is_empty(), "{faults:#?}");
    // The comparison sees what it is for.
    let mut now = before.clone();
    now["paths"].as_object_mut().unwrap().remove("/rules");
    now["components"]["schemas"]["ServiceAdd"]["required"] = json!(["name", "aliases", "kind"]);
    now["components"]["schemas"]["ServiceAdd"]["properties"]["kind"]["enum"] = json!(["room"]);
    now["components"]["schemas"]["Device"]["required"] = json!(["alias"]);
    now["components"]["schemas"]["Device"]["properties"]["alias"]["type"] = json!("integer");
    let mut faults = Vec::new();
    grows("", &before, &now, &mut faults);
    assert_eq!(faults.len(), 8, "{faults:#?}");
}

/// Notes what `now` has taken away from `before`.
fn grows(path: &str, before: &Value, now: &Value, faults: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            for (key, value) in before {
                let at = format!("{path}/{key}");
                // Prose may change, and so may a limit that is raised.
                if ["description", "summary", "title", "version", "default"].contains(&key.as_str())
                    || key.starts_with("max")
                {
                    continue;
                }
                match now.get(key) {
                    Some(other) => grows(&at, value, other, faults),
                    None => faults.push(format!("{at} is gone")),
                }
            }
            // Of what is read nothing may become optional, of what is written nothing required.
            if !before.contains_key("required") && now.contains_key("required") && written(path) {
                faults.push(format!("{path}/required is new"));
            }
        }
        (Value::Array(before), Value::Array(now)) => {
            for value in before.iter().filter(|it| !it.is_object() && !now.contains(it)) {
                if !(path.ends_with("/required") && written(path)) {
                    faults.push(format!("{path} has no {value} any more"));
                }
            }
            for value in
                now.iter().filter(|it| path.ends_with("/required") && written(path) && !before.contains(it))
            {
                faults.push(format!("{path} wants {value}"));
            }
            // Parameters and the like, by name.
            for value in before.iter().filter(|it| it.is_object()) {
                let same = |it: &&Value| it["name"] == value["name"] && it["$ref"] == value["$ref"];
                match now.iter().find(same) {
                    Some(other) => grows(path, value, other, faults),
                    None => faults.push(format!("{path}: {value} is gone")),
                }
            }
        }
        (before, now) if before == now => {}
        (before, now) => faults.push(format!("{path} was {before} and is {now}")),
    }
}

/// Whether a schema is of what clients send.
fn written(path: &str) -> bool {
    let schema =
        path.strip_prefix("/components/schemas/").and_then(|it| it.split('/').next()).unwrap_or_default();
    ["Add", "Put", "Patch", "Change"].iter().any(|end| schema.ends_with(end))
        || ["Role", "Spotlight", "Transfer", "Digits", "Message", "Dial", "DialNow"].contains(&schema)
}
