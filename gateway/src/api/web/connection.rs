//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::stall::Stalls;
use super::{Kind, Shared, proxy};
use crate::net::tcp::{HANDSHAKE, Room, WRITE_STALL};

/// The head of a request must be there by then, counted from the end of the answer before: who
/// keeps a connection for reuse without a word loses it then, and opens another.
const HEAD: Duration = Duration::from_secs(10);

/// Bytes of a head, and of an answer that waits to be written.
pub(super) const BUFFER: usize = 32 * 1024;

/// Headers of a request. Browsers and proxies send some twenty.
const HEADERS: usize = 64;

/// Bytes that the system takes from us for a client that does not read (Linux doubles it). Beyond,
/// the stall begins to count.
const SYSTEM_BUFFER: usize = 64 * 1024;

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
        Kind::Tls => match timeout(HANDSHAKE, shared.tls.accept(stream)).await {
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
    type Future = TowerToHyperServiceFuture<Router, Request<Incoming>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let client = self.shared.proxies.client(self.peer, request.headers());
        request.extensions_mut().insert(ConnectInfo(client));
        self.service.call(request)
    }
}
