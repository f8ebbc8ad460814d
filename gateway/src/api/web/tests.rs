//! The listeners over sockets, with a router that tells whom it thinks it speaks to.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::ConnectInfo;
use axum::routing::get;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::{Limits, Network};
use crate::net::tls::{Certificates, Tls, Trust};

const LOOPBACK: &str = "127.0.0.1:0";

struct Server {
    web: Web,
    tls: Tls,
}

fn server(change: impl FnOnce(&mut config::Web, &mut Limits)) -> Server {
    let listen = || vec![LOOPBACK.parse().unwrap()];
    let mut options = config::Web {
        listen: listen(),
        plain_listen: listen(),
        redirect_listen: listen(),
        ..config::Web::default()
    };
    let mut limits = Limits::default();
    change(&mut options, &mut limits);
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("crosspoint-web-{}-{count}", std::process::id()));
    let localhost: IpAddr = "127.0.0.1".parse().unwrap();
    let made = Certificates::load_or_make(&folder, &[], &[localhost], std::time::SystemTime::now()).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let tls = Tls::new(made.clone(), &Trust::Anybody).unwrap();
    let who = |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.ip().to_string() };
    let router = Router::new().route("/who", get(who));
    let web = Web::bind(&options, &limits).unwrap().serve(router, WebTls::new(made).unwrap()).unwrap();
    Server { web, tls }
}

impl Server {
    fn at(&self, kind: Kind) -> SocketAddr {
        self.web.listening().iter().find(|it| it.kind == kind).unwrap().address
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.at(Kind::Plain)).await.unwrap()
    }
}

/// The whole answer to `GET path`, sent after `before`.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, before: &str, headers: &str) -> String {
    let request = format!("{before}GET /who HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}

fn trust(network: &str) -> Vec<Network> {
    vec![network.parse().unwrap()]
}

#[tokio::test]
async fn clients_are_served_over_tls_and_speak_http_1_1() {
    let server = server(|_, _| {});
    let mut client = (*server.tls.client).clone();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.at(Kind::Tls)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let answer = ask(stream, "", "X-Forwarded-For: 192.0.2.7\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
    server.web.stop().await;
}

#[tokio::test]
async fn the_client_behind_a_trusted_proxy_is_known() {
    let server = server(|web, _| web.trusted_proxies = trust("127.0.0.0/8"));
    let answer = ask(server.plain().await, "", "X-Forwarded-For: 10.0.0.1, 192.0.2.7\r\n").await;
    assert!(answer.ends_with("192.0.2.7"), "{answer}");
}

#[tokio::test]
async fn the_proxy_protocol_is_taken_from_trusted_proxies_and_then_needed() {
    let announced = |proxies: &'static str| {
        server(move |web, _| (web.proxy_protocol, web.trusted_proxies) = (true, trust(proxies)))
    };
    let server = announced("127.0.0.1");
    let header = "PROXY TCP4 192.0.2.9 127.0.0.1 5000 80\r\n";
    let answer = ask(server.plain().await, header, "").await;
    assert!(answer.ends_with("192.0.2.9"), "{answer}");
    assert_eq!(ask(server.plain().await, "", "").await, "", "without a header it is closed");
    let stranger = announced("127.0.0.9");
    let answer = ask(stranger.plain().await, header, "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "who is not trusted speaks HTTP: {answer}");
}

#[tokio::test]
async fn connections_are_bounded_for_each_client_and_in_all() {
    let server = server(|web, limits| {
        web.proxy_protocol = true;
        web.trusted_proxies = trust("127.0.0.1");
        limits.web_connections_per_source = 2;
        limits.web_connections = 3;
    });
    let through = |client: &str| format!("PROXY TCP4 {client} 127.0.0.1 5000 80\r\n");
    let open = async |client: &str| {
        let mut stream = server.plain().await;
        stream.write_all(through(client).as_bytes()).await.unwrap();
        stream.write_all(b"GET /who HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.map(|_| stream)
    };
    let kept = [open("192.0.2.1").await.unwrap(), open("192.0.2.1").await.unwrap()];
    open("192.0.2.1").await.expect_err("a third of the same client");
    let last = open("192.0.2.2").await.unwrap();
    open("192.0.2.3").await.expect_err("a fourth in all");
    drop((kept, last));
    // Their ends are seen a moment later: the bound is for a hang.
    let begun = std::time::Instant::now();
    while open("192.0.2.1").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "room is not given back");
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_not_all_is_closed() {
    let server = server(|_, _| {});
    for (kind, said, seconds) in [
        (Kind::Tls, "", 5),
        (Kind::Plain, "", 10),
        (Kind::Plain, "GET /who HTTP/1.1\r\nHost: he", 10),
        (Kind::Redirect, "GET ", 10),
    ] {
        let mut stream = TcpStream::connect(server.at(kind)).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(seconds - 1), "{kind:?} {took:?}");
        assert!(took <= Duration::from_secs(seconds + 1), "{kind:?} {took:?}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = server(|_, _| {});
    let mut stream = server.plain().await;
    let _ = stream.write_all(b"GET /who HTTP/1.1\r\n").await;
    let line = format!("X: {}\r\n", "x".repeat(1000));
    let mut sent = 0;
    while sent < 16 * connection::BUFFER && stream.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
    }
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    assert!(sent < 16 * connection::BUFFER || text.starts_with(b"HTTP/1.1 431"), "{sent}");
}

#[tokio::test]
async fn plain_http_is_shown_the_way() {
    let server = server(|_, _| {});
    let https = server.at(Kind::Tls).port();
    let stream = TcpStream::connect(server.at(Kind::Redirect)).await.unwrap();
    let answer = ask(stream, "", "").await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 308"), "{answer}");
    assert!(answer.contains(&format!("location: https://here:{https}/who\r\n")), "{answer}");
}

#[tokio::test]
async fn a_port_in_use_names_its_option() {
    let server = server(|_, _| {});
    for (kind, option) in [
        (Kind::Tls, "web.listen"),
        (Kind::Plain, "web.plain_listen"),
        (Kind::Redirect, "web.redirect_listen"),
    ] {
        let taken = vec![server.at(kind)];
        let mut web = config::Web { listen: vec![], ..config::Web::default() };
        match kind {
            Kind::Tls => web.listen = taken,
            Kind::Plain => web.plain_listen = taken,
            Kind::Redirect => web.redirect_listen = taken,
        }
        let told = Web::bind(&web, &Limits::default()).unwrap_err().to_string();
        assert!(told.contains("is in use") && told.ends_with(&format!("(option {option})")), "{told}");
    }
}
