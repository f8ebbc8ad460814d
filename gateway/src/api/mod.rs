//! The management listener: `/metrics`, `/healthz`, `/status`, and the management API below
//! [`admin::PREFIX`]. Translation only; what it shows comes from a [`Source`].
//!
//! The API wants a token. The three others want none, so the listener belongs on loopback. On loopback a request must name the
//! machine by address or as localhost: a web page of a foreign name that resolves to 127.0.0.1
//! (DNS rebinding) must not read who is calling whom.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

pub mod admin;
mod body;
pub mod client;
#[cfg(test)]
mod matrix;
mod metrics;
pub mod web;

pub use admin::{Admin, AdminParts};
pub use metrics::Metrics;

use crate::net::spare::{BUSY, Spare};
use crate::status::Status;

/// Connections at once; further ones wait. Those who scrape and look are few.
const CONNECTIONS: usize = 32;

/// A connection ends after this time, whatever it does: who sends one byte a second holds nothing
/// for long, and who keeps a connection for reuse opens another.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// After accept failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long a stop waits for answers under way.
const STOP: Duration = Duration::from_secs(1);

/// What the gateway shows of itself. Called for each request; must not block.
pub trait Source: Send + Sync + 'static {
    /// Everything.
    fn status(&self) -> Status;

    /// Whether it can serve.
    fn health(&self) -> Health;
}

/// Whether the gateway can serve, as `/healthz` says: 200 when there are no problems, else 503.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("tcp:{address} {reason} (option {option})", reason = crate::net::driver::reason(error, *address))]
#[non_exhaustive]
pub struct ApiError {
    /// Where it should listen.
    pub address: SocketAddr,
    /// The option that says so: "http.listen".
    pub option: &'static str,
    /// Why it does not.
    pub error: io::Error,
}

/// The running management listener.
#[derive(Debug)]
pub struct Api {
    listening: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
}

/// Listeners that are bound and not yet served.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<std::net::TcpListener>,
    listening: Vec<SocketAddr>,
}

impl Bound {
    /// Where it listens, with the real port where any was asked for.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Serves on the current tokio runtime.
    pub fn serve(
        self,
        source: &Arc<dyn Source>,
        metrics: &Metrics,
        admin: Option<&Admin>,
    ) -> io::Result<Api> {
        let registry = Arc::new(metrics.registry(Arc::clone(source)));
        let (stop, stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        for (listener, local) in self.listeners.into_iter().zip(&self.listening) {
            let listener = TcpListener::from_std(listener)?;
            let router = router(Arc::clone(source), Arc::clone(&registry), admin, local.ip());
            let limited =
                Limited { listener, spare: Spare::new(), room: Arc::new(Semaphore::new(CONNECTIONS)) };
            let mut stopped = stopped.clone();
            let service = router.into_make_service_with_connect_info::<Life>();
            let serve = axum::serve(limited, service).with_graceful_shutdown(async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            });
            serving.spawn(async move {
                // It ends with the stop only: accept errors are dealt with below.
                let _ = serve.await;
            });
        }
        Ok(Api { listening: self.listening, stop, serving })
    }
}

impl Api {
    /// Listens, so that a port in use is known before anything else is started.
    pub fn bind(listen: &[SocketAddr]) -> Result<Bound, ApiError> {
        let mut bound = Bound { listeners: Vec::new(), listening: Vec::new() };
        for address in listen.iter().copied() {
            let error = |error| ApiError { address, option: "http.listen", error };
            let listener = crate::net::tcp::bind(address).map_err(error)?;
            let local = listener.local_addr().map_err(error)?;
            if !local.ip().is_loopback() {
                tracing::warn!(%local, "status and metrics are open to the network, without authentication");
            }
            bound.listening.push(local);
            bound.listeners.push(listener);
        }
        Ok(bound)
    }

    /// Where it listens.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Stops; answers under way have a second to leave.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let ended = async { while self.serving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP, ended).await;
        self.serving.shutdown().await;
    }
}

/// What is beside the management API.
const PAGES: [Page; 3] =
    [("/status", || get(status)), ("/healthz", || get(health)), ("/metrics", || get(metrics))];

/// Its path, and what serves it.
type Page = (&'static str, fn() -> MethodRouter<Shared>);

fn router(source: Arc<dyn Source>, registry: Arc<Registry>, admin: Option<&Admin>, local: IpAddr) -> Router {
    let shared = Shared { source, registry };
    let pages = PAGES.iter().fold(Router::new(), |router, (path, serve)| router.route(path, serve()));
    pages
        .with_state(shared)
        .merge(admin.map(Admin::router).unwrap_or_default())
        .layer(middleware::from_fn(move |request, next| known_host(local, request, next)))
}

#[derive(Clone)]
struct Shared {
    source: Arc<dyn Source>,
    registry: Arc<Registry>,
}

async fn status(State(shared): State<Shared>) -> Json<Status> {
    Json(shared.source.status())
}

async fn health(State(shared): State<Shared>) -> Response {
    let health = shared.source.health();
    let code = if health.problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health)).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &shared.registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn known_host(local: IpAddr, request: Request<Body>, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if local.is_loopback() && !names_this_machine(host) {
        let told = "call it by address or as localhost\n";
        return (StatusCode::MISDIRECTED_REQUEST, told).into_response();
    }
    next.run(request).await
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// A listener with room for some connections, each for some time.
struct Limited {
    listener: TcpListener,
    spare: Spare,
    room: Arc<Semaphore>,
}

impl axum::serve::Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // The semaphore is never closed, so that a permit comes when a connection ends.
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { std::future::pending().await };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let end = Box::pin(tokio::time::sleep(CONNECTION_LIFE));
                    return (Connection { stream, end, life: Life::default(), _room: room }, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "management connections cannot be accepted for the moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    self.spare.turn_away(&self.listener, BUSY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    life: Life,
    _room: OwnedSemaphorePermit,
}

/// How long a connection may last beyond [`CONNECTION_LIFE`], when its request is one that goes on.
#[derive(Clone, Debug, Default)]
struct Life(Arc<Mutex<Option<Instant>>>);

impl Life {
    /// It may be there until then.
    fn lasts(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

impl Connected<IncomingStream<'_, Limited>> for Life {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        stream.io().life.clone()
    }
}

impl Connection {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        while self.end.as_mut().poll(context).is_ready() {
            let longer = self.life.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(until) = longer else { return true };
            self.end.as_mut().reset(until);
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
