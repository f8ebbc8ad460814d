//! The listeners for clients: HTTPS for browsers and apps, plain HTTP for a proxy on this machine, and
//! one that shows the way from `http://` to `https://`. What is asked goes to a router of another
//! module; who asks, and how much of it, is settled here.
//!
//! ```text
//!  accept ─> limits ─> PROXY header ─> TLS ─> HTTP/1.1 ─> client address ─> router
//!                       10 s           5 s     head 10 s   X-Forwarded-For
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

mod connection;
mod forwarded;
mod proxy;
mod rate;
mod redirect;
mod stall;

use self::forwarded::Proxies;
use self::rate::Rates;
use super::ApiError;
use crate::config;
use crate::net::driver::Stats;
use crate::net::spare::{BUSY, Spare};
use crate::net::tcp::{self, ACCEPT_PAUSE, Admission};
use crate::net::tls::WebTls;

/// How long a stop waits for answers under way.
const STOP: Duration = Duration::from_secs(1);

/// A listener for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where, with the real port where any was asked for.
    pub address: SocketAddr,
    /// What is spoken there.
    pub kind: Kind,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTPS.
    Tls,
    /// HTTP, for a proxy.
    Plain,
    /// HTTP, answered with the way to HTTPS.
    Redirect,
}

/// The running listeners. Dropping them cuts every connection off.
#[derive(Debug)]
pub struct Web {
    listening: Vec<Listening>,
    stats: Arc<Stats>,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
}

/// Listeners that are bound and not yet served.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<std::net::TcpListener>,
    listening: Vec<Listening>,
    proxies: Proxies,
    admission: Arc<Admission>,
    rates: Rates,
}

/// What all connections share.
struct Shared {
    service: TowerToHyperService<Router>,
    redirect: TowerToHyperService<Router>,
    tls: TlsAcceptor,
    proxies: Proxies,
    admission: Arc<Admission>,
    rates: Mutex<Rates>,
    stats: Arc<Stats>,
}

impl Web {
    /// Listens, so that a port in use is known before anything else is started.
    pub fn bind(web: &config::Web, limits: &config::Limits) -> Result<Bound, ApiError> {
        let wanted = [
            (Kind::Tls, "web.listen", &web.listen),
            (Kind::Plain, "web.plain_listen", &web.plain_listen),
            (Kind::Redirect, "web.redirect_listen", &web.redirect_listen),
        ];
        let mut bound = Bound {
            listeners: Vec::new(),
            listening: Vec::new(),
            proxies: Proxies::new(web.trusted_proxies.clone(), web.proxy_protocol),
            admission: Admission::new(limits.web_connections, limits.web_connections_per_source),
            rates: Rates::new(limits.web_requests_per_source),
        };
        for (kind, option, addresses) in wanted {
            for address in addresses.iter().copied() {
                let error = |error| ApiError { address, option, error };
                let listener = tcp::bind(address).map_err(error)?;
                let address = listener.local_addr().map_err(error)?;
                bound.listening.push(Listening { address, kind });
                bound.listeners.push(listener);
            }
        }
        Ok(bound)
    }

    /// Where it listens.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// What its connections come to.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Stops; answers under way have a second to leave.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        while self.serving.join_next().await.is_some() {}
    }
}

impl Bound {
    /// Where it listens, with the real port where any was asked for.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Serves `router` on the current tokio runtime. Handlers find the client's address as
    /// `ConnectInfo<SocketAddr>`; its port is 0 where only a proxy knows it.
    pub fn serve(self, router: Router, tls: WebTls) -> io::Result<Web> {
        let https = self.listening.iter().find(|it| it.kind == Kind::Tls).map(|it| it.address.port());
        let stats = Arc::new(Stats::default());
        let shared = Arc::new(Shared {
            service: TowerToHyperService::new(router),
            redirect: TowerToHyperService::new(redirect::router(https)),
            tls: TlsAcceptor::from(tls.0),
            proxies: self.proxies,
            admission: self.admission,
            rates: Mutex::new(self.rates),
            stats: stats.clone(),
        });
        let (stop, stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        for (listener, listening) in self.listeners.into_iter().zip(&self.listening) {
            let listener = TcpListener::from_std(listener)?;
            serving.spawn(accept(listener, listening.kind, shared.clone(), stopped.clone()));
        }
        Ok(Web { listening: self.listening, stats, stop, serving })
    }
}

/// Accepts until it is stopped, then waits a moment for the connections.
async fn accept(listener: TcpListener, kind: Kind, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let (mut connections, mut spare) = (JoinSet::new(), Spare::new());
    let told = stop.clone();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => begin(stream, peer, kind, &shared, &told, &mut connections),
                Err(error) if tcp::is_of_one_connection(&error) => {}
                Err(error) => {
                    shared.stats.accept_errors.add(1);
                    tracing::warn!(%error, "connections of clients cannot be accepted for the moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    // By TLS there is nothing to be said before a handshake, which takes its time.
                    let last_word = if kind == Kind::Tls { b"" } else { BUSY };
                    shared.stats.connections_refused.add(spare.turn_away(&listener, last_word).await);
                }
            },
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP, ended).await;
    connections.shutdown().await;
}

/// Until it is said, or nobody is left to say it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One task for each: a slow handshake delays nobody, and all of them are within the limits.
fn begin(
    stream: TcpStream,
    peer: SocketAddr,
    kind: Kind,
    shared: &Arc<Shared>,
    stop: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    // A proxy brings the connections of many: they are counted to whom they are for.
    let source = (!shared.proxies.trust(peer.ip())).then_some(peer.ip());
    match shared.admission.admit(source) {
        Ok(room) => {
            tcp::prepare(&stream);
            let connection = connection::serve(stream, peer, kind, shared.clone(), room, stop.clone());
            connections.spawn(connection);
        }
        Err(full) => {
            shared.stats.connections_refused.add(1);
            tracing::debug!(%peer, ?full, "connection of a client refused: limit reached");
        }
    }
}

#[cfg(test)]
mod tests;
