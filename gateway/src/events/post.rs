//! One POST to the configured host, and nothing else of HTTP: no redirect is followed, no body is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Webhook;

/// How long one POST may take, from the look-up of the name to the answer's first line.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first line of an answer is not longer.
const STATUS_LINE: u64 = 1024;

/// Delivers `body`. An error says why it is not known to have arrived.
pub(super) async fn post(to: &Webhook, tls: &Arc<ClientConfig>, body: &str) -> Result<(), String> {
    let late = |_| format!("no answer within {} s", PATIENCE.as_secs());
    let status = tokio::time::timeout(PATIENCE, ask(to, tls, body)).await.map_err(late)?;
    match status.map_err(|error| error.to_string())? {
        200..=299 => Ok(()),
        300..=399 => Err("it answers with a redirect, which is not followed: write where it leads to".into()),
        status => Err(format!("it answers {status}")),
    }
}

async fn ask(to: &Webhook, tls: &Arc<ClientConfig>, body: &str) -> io::Result<u16> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    stream.set_nodelay(true)?;
    if !to.tls {
        return exchange(stream, to, body).await;
    }
    let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
    exchange(TlsConnector::from(tls.clone()).connect(name, stream).await?, to, body).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    to: &Webhook,
    body: &str,
) -> io::Result<u16> {
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Crosspoint/{}\r\nConnection: close\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        to.path,
        to.authority(),
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = stream.take(STATUS_LINE);
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        match answer.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    status(&line).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// RFC 9112 section 4.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.split(' ').nth(1)?.trim().parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_their_first_line() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 500\r\n"), Some(500));
        for wrong in [&b""[..], b"SIP/2.0 200 OK\r\n", b"HTTP/1.1 99999 x\r\n", b"HTTP/1.1\r\n", b"\xff"] {
            assert_eq!(status(wrong), None);
        }
    }
}
