//! nginx and haproxy before the client API: events come through at once, and the client is known.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its peers has failed")]

mod support;

use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use support::gateway::Gateway;
use support::web::{Client, Web};
use support::{Scratch, free_port, program, wait_for};

/// Whom the proxies see, and the gateway only hears of.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

/// A proxy that ends with its test.
struct Proxy {
    child: Child,
    port: u16,
    scratch: Scratch,
}

impl Proxy {
    fn start(name: &str, arguments: &[&str], config: impl FnOnce(u16, &Scratch) -> String) -> Self {
        let (scratch, port) = (Scratch::new(name), free_port());
        let text = config(port, &scratch);
        std::fs::write(scratch.path().join("config"), text).unwrap();
        let log = std::fs::File::create(scratch.path().join("log")).unwrap();
        let child = program(name)
            .current_dir(scratch.path())
            .args(arguments)
            .arg(scratch.path().join("config"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut this = Self { child, port, scratch };
        wait_for(name, || {
            if let Some(ended) = this.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(this.scratch.path().join("log")).unwrap();
                panic!("{name} ended, {ended}: {log}");
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        this
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway with a room, and the port of its listener without TLS.
fn gateway(web_more: &str) -> (Gateway, u16) {
    let plain = free_port();
    let gateway = Gateway::with_web(
        &[],
        &format!(
            "plain_listen = [\"127.0.0.1:{plain}\"]\ntrusted_proxies = [\"127.0.0.1\"]\n{web_more}\n[log]\nlevel = \"debug\""
        ),
    );
    let added = gateway.cli(&["conference", "add", "Alice's room", "--alias", "meet.alice"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    (gateway, plain)
}

/// The gateway's certificate and key, in one file.
fn both_in_one(gateway: &Gateway, scratch: &Scratch) -> PathBuf {
    let read = |name| std::fs::read_to_string(gateway.scratch.path().join("data/tls").join(name)).unwrap();
    let path = scratch.path().join("both.pem");
    std::fs::write(&path, read("certificate.pem") + &read("key.pem")).unwrap();
    path
}

/// Two clients that meet through a proxy.
fn meet_through(gateway: &Gateway, proxy: &Web, header: bool) {
    let proxy = proxy.from(CLIENT);
    // What the client says of itself is not believed.
    let proxy = if header { proxy.header("X-Forwarded-For", "198.51.100.7") } else { proxy };
    wait_for("the room", || (proxy.request_token("meet.alice", "Early", "").code == 200).then_some(()));
    let alice = Client::over(&proxy, "meet.alice", "Alice", "");
    let asked = Instant::now();
    let mut events = alice.events();
    events.until("participant_sync_end");
    let opened = asked.elapsed();
    assert!(opened < Duration::from_secs(1), "the stream began after {opened:?}");
    let bob = Client::over(&proxy, "meet.alice", "Bob", "");
    events.until_that("participant_create", |it| it["uuid"] == bob.uuid.as_str());
    for n in 0..5 {
        let text = format!("message {n}");
        let said = Instant::now();
        assert_eq!(bob.post("message", &json!({ "payload": text }).to_string()).0, 200);
        assert_eq!(events.until("message_received")["payload"], text);
        let took = said.elapsed();
        // Proxies that buffer hold small events until the stream ends.
        assert!(took < Duration::from_secs(1), "message {n} came after {took:?}");
    }
    let log = gateway.log();
    let opened: Vec<&str> = log.lines().filter(|line| line.contains("meet.alice/events")).collect();
    assert!(!opened.is_empty(), "{log}");
    for line in opened {
        assert!(line.contains(&format!("client={CLIENT}:")), "{line}");
    }
    assert!(!log.contains("198.51.100.7"), "{log}");
}

#[test]
fn events_come_through_nginx_at_once_and_the_client_is_known() {
    let (gateway, plain) = gateway("");
    let tls = gateway.scratch.path().join("data/tls");
    let nginx = Proxy::start("nginx", &["-c"], |port, scratch| {
        let here = scratch.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {here}/{what};"))
            .join(" ");
        // Buffers as nginx has them by default: the gateway asks for none by a header of its answer.
        format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/errors;\n\
             events {{}}\n\
             http {{\n access_log off; {temporary}\n server {{\n listen 127.0.0.1:{port} ssl;\n\
             ssl_certificate {tls}/certificate.pem; ssl_certificate_key {tls}/key.pem;\n\
             location / {{\n proxy_pass http://127.0.0.1:{plain};\n proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\";\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n }}\n }}\n }}\n",
            tls = tls.display(),
        )
    });
    let web = Web::tls((Ipv4Addr::LOCALHOST, nginx.port).into(), &tls.join("certificate.pem"));
    meet_through(&gateway, &web, true);
}

#[test]
fn events_come_through_haproxy_at_once_and_the_client_is_known() {
    let (gateway, plain) = gateway("");
    let haproxy = Proxy::start("haproxy", &["-db", "-f"], |port, scratch| {
        let both = both_in_one(&gateway, scratch);
        format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n \
             option forwardfor\n option http-no-delay\n\
             frontend clients\n bind 127.0.0.1:{port} ssl crt {}\n default_backend gateway\n\
             backend gateway\n server one 127.0.0.1:{plain}\n",
            both.display()
        )
    });
    let certificate = gateway.scratch.path().join("data/tls/certificate.pem");
    let web = Web::tls((Ipv4Addr::LOCALHOST, haproxy.port).into(), &certificate);
    meet_through(&gateway, &web, true);
}

#[test]
fn haproxy_passes_tls_on_and_tells_the_client_by_the_proxy_protocol() {
    for word in ["send-proxy", "send-proxy-v2"] {
        let (gateway, _) = gateway("proxy_protocol = true");
        let haproxy = Proxy::start("haproxy", &["-db", "-f"], |port, _| {
            format!(
                "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 frontend clients\n bind 127.0.0.1:{port}\n default_backend gateway\n\
                 backend gateway\n server one 127.0.0.1:{} {word}\n",
                gateway.web
            )
        });
        let certificate = gateway.scratch.path().join("data/tls/certificate.pem");
        let web = Web::tls((Ipv4Addr::LOCALHOST, haproxy.port).into(), &certificate);
        meet_through(&gateway, &web, false);
    }
}
