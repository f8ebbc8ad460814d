//! WebSocket connections (RFC 6455) that carry SIP, a message in each (RFC 7118).
//!
//! ```text
//!  accept ─> TLS ─> handshake: page, subprotocol ─> exchange ─> the driver
//!             5 s        5 s                          │ a ping each 30 s; half a message has 10 s
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, net::SocketAddr};

use bytes::Bytes;
use crosspoint_proto::ConnId;
use crosspoint_proto::sip::limits;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::driver::Ingress;
use super::tcp::{HANDSHAKE, LINGER, SLOWEST_LOOK, WRITE_STALL, Waiting};
use crate::config::PageOrigin;
use crate::guard::Gate;

/// What is spoken within (RFC 7118 section 4.1).
const SUBPROTOCOL: &str = "sip";

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// A message that has begun must be whole within so many looks: 10 s at least, as by TCP.
const UNFINISHED: u32 = 2;

/// Who says nothing for so many looks is asked whether he is there. Proxies close what is silent for a minute.
const SILENT: u32 = 6;

/// Bytes read at once. Requests of browsers have two or three thousand.
const READ: usize = 4 * 1024;

/// Pongs that a peer does not take, and the one message that is being written.
const WRITE: usize = 2 * limits::MESSAGE;

/// A connection that stands.
pub(super) type WebSocket<S> = WebSocketStream<Counted<S>>;

/// Does the handshake, or says why not.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    origins: Arc<[PageOrigin]>,
) -> Result<WebSocket<S>, String> {
    let counted = Counted { stream, octets: 0 };
    let handshake = accept_hdr_async_with_config(counted, Terms(origins), Some(config()));
    match timeout(HANDSHAKE, handshake).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("took too long".into()),
    }
}

/// What is longer than a SIP message may be is refused by its length, before there is room for it.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE)
        .max_message_size(Some(limits::MESSAGE))
        .max_frame_size(Some(limits::MESSAGE))
}

/// What is asked of a handshake.
struct Terms(Arc<[PageOrigin]>);

impl Callback for Terms {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let headers = request.headers();
        if !is_welcome(&self.0, headers) {
            return Err(refusal(StatusCode::FORBIDDEN, "pages from there are not welcome"));
        }
        if !speaks_sip(headers) {
            return Err(refusal(StatusCode::BAD_REQUEST, "the subprotocol \"sip\" is spoken here"));
        }
        let name = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert("Sec-WebSocket-Protocol", name);
        Ok(response)
    }
}

/// Browsers say where the page is from and let no page say otherwise (RFC 6455 section 10.2). Others say what
/// they like, so that asking them would keep nobody out.
fn is_welcome(origins: &[PageOrigin], headers: &HeaderMap) -> bool {
    let mut said = headers.get_all("Origin").iter();
    origins.is_empty()
        || said.all(|value| value.to_str().is_ok_and(|value| origins.iter().any(|origin| origin.is(value))))
}

fn speaks_sip(headers: &HeaderMap) -> bool {
    let offered = headers.get_all("Sec-WebSocket-Protocol").iter();
    let mut names = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.any(|name| name.trim() == SUBPROTOCOL)
}

fn refusal(status: StatusCode, why: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(why.to_owned()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("Content-Length", HeaderValue::from(why.len()));
    headers.insert("Connection", HeaderValue::from_static("close"));
    response
}

/// How an exchange has ended.
enum End {
    /// By the driver.
    Ours,
    /// By the peer, by what he did, or by what he did not do.
    Peer(Option<CloseCode>),
}

/// Moves messages both ways until one side ends it. Tells the driver, unless the driver ended it.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocket<S>,
    conn: ConnId,
    mut waiting: Waiting,
    ingress: mpsc::Sender<Ingress>,
    gate: Option<(Gate, SocketAddr)>,
) {
    let end = converse(&mut socket, conn, &mut waiting, &ingress, gate).await;
    // A stop of ours (RFC 6455 section 7.4.1), or what the peer should know.
    let code = match end {
        End::Ours => Some(CloseCode::Away),
        End::Peer(code) => {
            let _ = ingress.send(Ingress::Closed { conn }).await;
            code
        }
    };
    let goodbye = async {
        if let Some(code) = code {
            let _ = socket.close(Some(CloseFrame { code, reason: Utf8Bytes::default() })).await;
        }
        // His last word, or what he has yet to read of ours.
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = timeout(LINGER, goodbye).await;
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocket<S>,
    conn: ConnId,
    waiting: &mut Waiting,
    ingress: &mpsc::Sender<Ingress>,
    gate: Option<(Gate, SocketAddr)>,
) -> End {
    let mut pulse = Pulse::new(socket.get_ref().octets);
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was read and has not been handed over: meanwhile nothing is read.
    let mut held: Option<Bytes> = None;
    let mut again = Instant::now();
    loop {
        tokio::select! {
            message = socket.next(), if held.is_none() => {
                let octets = socket.get_ref().octets;
                held = Some(match message {
                    Some(Ok(Message::Text(text))) => pulse.message(octets, text.into()),
                    Some(Ok(Message::Binary(data))) => pulse.message(octets, data),
                    Some(Ok(Message::Ping(data) | Message::Pong(data))) => pulse.control(octets, &data),
                    Some(Ok(Message::Close(_) | Message::Frame(_))) | None => return End::Peer(None),
                    Some(Err(error)) => return End::Peer(close_code(&error)),
                });
                again = Instant::now();
            }
            () = sleep_until(again), if held.is_some() => {
                let Some(data) = held.take() else { continue };
                if let Some((gate, peer)) = &gate {
                    // Nothing is lost by waiting: the sender is slowed down.
                    if let Some(wait) = gate.slows(*peer, &data) {
                        if !gate.accepts(*peer) {
                            return End::Peer(None);
                        }
                        again = Instant::now() + wait.clamp(SLOWEST_LOOK.0, SLOWEST_LOOK.1);
                        held = Some(data);
                        continue;
                    }
                }
                if !data.is_empty() && ingress.send(Ingress::Stream { conn, data }).await.is_err() {
                    return End::Ours;
                }
            }
            data = waiting.next() => {
                let Some(data) = data else { return End::Ours };
                let length = data.len();
                if !send(socket, message(data)).await {
                    return End::Peer(None);
                }
                waiting.left(length);
            }
            // A ping that waits its turn is no message that does.
            _ = looks.tick() => match pulse.look(socket.get_ref().octets, held.as_ref().is_none_or(Bytes::is_empty)) {
                Look::Well => {}
                Look::Ask => {
                    if !send(socket, Message::Ping(Bytes::new())).await {
                        return End::Peer(None);
                    }
                }
                Look::Dawdles => return End::Peer(Some(CloseCode::Policy)),
                Look::Gone => return End::Peer(None),
            },
        }
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocket<S>, message: Message) -> bool {
    matches!(timeout(WRITE_STALL, socket.send(message)).await, Ok(Ok(())))
}

/// Text, which is what pages expect, unless it is none (RFC 7118 section 4.2).
fn message(data: Bytes) -> Message {
    match Utf8Bytes::try_from(data.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(data),
    }
}

/// What a peer is told who did what is not allowed (RFC 6455 section 7.4.1).
const fn close_code(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

/// What a connection is found to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Well,
    /// It is silent: a ping goes out.
    Ask,
    /// It goes on with a message and does not end it.
    Dawdles,
    /// It has not answered a ping.
    Gone,
}

/// Whether a connection is alive, and whether it makes us wait.
#[derive(Debug)]
struct Pulse {
    /// Octets that belong to what was whole.
    whole: u64,
    /// Looks in a row at which a message had begun.
    unfinished: u32,
    /// Looks in a row at which nothing had come.
    silent: u32,
    asked: bool,
}

impl Pulse {
    /// `octets`: read so far.
    const fn new(octets: u64) -> Self {
        Self { whole: octets, unfinished: 0, silent: 0, asked: false }
    }

    /// A message is whole.
    fn message(&mut self, octets: u64, data: Bytes) -> Bytes {
        (self.whole, self.unfinished) = (octets, 0);
        self.heard();
        data
    }

    /// A ping or a pong: it may stand in the middle of a message, which it does not end. There is nothing in
    /// it for SIP.
    fn control(&mut self, octets: u64, data: &[u8]) -> Bytes {
        // Two octets before the mask (RFC 6455 section 5.2).
        const HEAD: u64 = 6;
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.whole = self.whole.saturating_add(HEAD).saturating_add(length).min(octets);
        self.heard();
        Bytes::new()
    }

    const fn heard(&mut self) {
        (self.silent, self.asked) = (0, false);
    }

    /// `reads`: whatever has come has been looked at.
    const fn look(&mut self, octets: u64, reads: bool) -> Look {
        self.unfinished = if reads && octets != self.whole { self.unfinished + 1 } else { 0 };
        if self.unfinished > UNFINISHED {
            return Look::Dawdles;
        }
        self.silent += 1;
        if self.silent < SILENT || !reads {
            return Look::Well;
        }
        if self.asked {
            return Look::Gone;
        }
        (self.silent, self.asked) = (0, true);
        Look::Ask
    }
}

/// A stream that says how much was read of it.
#[derive(Debug)]
pub(super) struct Counted<S> {
    stream: S,
    octets: u64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        self.octets = self.octets.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
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
