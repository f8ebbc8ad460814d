//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::stall::Stalls;
use super::{Kind, Shared, proxy};
use crate::net::tcp::{HANDSHAKE, Room, WRITE_STALL, source_key};

/// The head of a request must be there by then, counted from the end of the answer before: who
/// keeps a connection for reuse without a word loses it then, and opens another.
const HEAD: Duration = Duration::from_secs(10);

/// Bytes of a head, and of an answer that waits to be written.
pub(super) const BUFFER: usize = 16 * 1024;

/// Headers of a request. Browsers and proxies send some twenty.
const HEADERS: usize = 64;

/// Bytes before and after encryption that wait in TLS, each: a record of RFC 8446 section 5.1.
const TLS_BUFFER: usize = 16 * 1024;

/// Bytes that the system takes from us for a client that does not read (Linux doubles it). Beyond,
/// the stall begins to count.
const SYSTEM_BUFFER: usize = 64 * 1024;

/// Characters of a path that are logged.
const LOGGED: usize = 200;

/// Serves a connection until one side ends it.
pub(super) async fn serve(
    mut stream: TcpStream,
    socket: SocketAddr,
    kind: Kind,
    shared: Arc<Shared>,
    mut room: Room,
    stop: watch::Receiver<bool>,
) {
    shared.stats.connections_opened.add(1);
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SYSTEM_BUFFER);
    let mut peer = socket;
    if shared.proxies.announces(socket.ip()) {
        match timeout(HEAD, proxy::read(&mut stream)).await {
            // A proxy that looks whether we live speaks for itself.
            Ok(Ok(announced)) => peer = announced.unwrap_or(socket),
            failed => {
                tracing::debug!(%socket, ?failed, "a proxy did not begin with a PROXY header");
                shared.stats.connections_closed.add(1);
                return;
            }
        }
        if peer != socket && room.count_to(peer.ip()).is_err() {
            shared.stats.connections_refused.add(1);
            shared.stats.connections_closed.add(1);
            tracing::debug!(%peer, "connection of a client refused: limit reached");
            return;
        }
    }
    let stream = Stalls::new(stream, WRITE_STALL);
    match kind {
        Kind::Plain => converse(stream, peer, shared.service.clone(), &shared, stop).await,
        Kind::Redirect => converse(stream, peer, shared.redirect.clone(), &shared, stop).await,
        Kind::Tls => match timeout(HANDSHAKE, shared.tls.accept_with(stream, small)).await {
            Ok(Ok(stream)) => converse(stream, peer, shared.service.clone(), &shared, stop).await,
            failed => {
                shared.stats.handshakes_failed.add(1);
                let reason = failed.map_or_else(|_| "took too long".into(), why);
                tracing::debug!(%peer, reason, "TLS handshake of a client failed");
            }
        },
    }
    shared.stats.connections_closed.add(1);
}

/// What is encrypted already waits for the system: little of it, so that a stall shows.
fn small(tls: &mut rustls::ServerConnection) {
    tls.set_buffer_limit(Some(TLS_BUFFER));
}

fn why<T>(failed: std::io::Result<T>) -> String {
    failed.err().map_or_else(|| "none".into(), |error| error.to_string())
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    service: TowerToHyperService<Router>,
    shared: &Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let requests = Requests { service, peer, shared: shared.clone() };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), requests);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = super::stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection of a client ended");
    }
}

/// The requests of one connection.
struct Requests {
    service: TowerToHyperService<Router>,
    /// Whom the connection is from, as the socket or a PROXY header has it.
    peer: SocketAddr,
    shared: Arc<Shared>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let begun = Instant::now();
        let client = self.shared.proxies.client(self.peer, request.headers());
        let line = Line { client, method: request.method().clone(), path: path(request.uri()) };
        if !self.shared.allow(begun, client.ip()) {
            let answer = too_many();
            line.write(&answer, begun);
            return Box::pin(async { Ok(answer) });
        }
        request.extensions_mut().insert(ConnectInfo(client));
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            line.write(&answer, begun);
            Ok(answer)
        })
    }
}

impl Shared {
    fn allow(&self, now: Instant, client: IpAddr) -> bool {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).allow(now, source_key(client))
    }
}

/// Pages of other origins shall see it too.
fn too_many() -> Response {
    let body = json!({ "status": "failed", "result": "Too many requests" });
    let headers = [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (header::RETRY_AFTER, "1")];
    (StatusCode::TOO_MANY_REQUESTS, headers, Json(body)).into_response()
}

/// What the log says of a request. Neither its query nor its headers: tokens and PINs are there.
struct Line {
    client: SocketAddr,
    method: Method,
    path: String,
}

impl Line {
    fn write(self, answer: &Response, begun: Instant) {
        let Self { client, method, path } = self;
        let (status, ms) = (answer.status().as_u16(), begun.elapsed().as_millis());
        tracing::debug!(%client, %method, path, status, ms, "request");
    }
}

fn path(uri: &Uri) -> String {
    uri.path().chars().take(LOGGED).collect()
}
