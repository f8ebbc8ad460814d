//! The PROXY protocol, versions 1 and 2: a proxy says before the first byte whom a connection is
//! from (haproxy `doc/proxy-protocol.txt`). Nothing beyond the header is read.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Version 2 begins with these (section 2.2), which no other protocol does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Longest line of version 1, with its end (section 2.1).
const LINE: usize = 107;

/// Most octets after the head of version 2: addresses, and what proxies add about TLS.
const BODY: usize = 2048;

/// Reads the header. `None`: the proxy speaks for itself, or does not know whom for.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // The shortest header of version 1 has 15 octets.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let [version, family, high, low] = {
            let mut head = [0; 4];
            stream.read_exact(&mut head).await?;
            head
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > BODY {
            return Err(malformed("it is too long"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        return binary(version, family, &body);
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE || !line.starts_with(b"PROXY ") {
            return Err(malformed("it is none"));
        }
        line.push(stream.read_u8().await?);
    }
    text(&line)
}

fn text(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).map_err(|_| malformed("it is not ASCII"))?;
    let mut words = line.trim_end_matches("\r\n").split(' ').skip(1);
    let v4 = match words.next() {
        Some("TCP4") => true,
        Some("TCP6") => false,
        Some("UNKNOWN") => return Ok(None),
        _ => return Err(malformed("its protocol is unknown")),
    };
    let (Some(source), Some(_), Some(port), Some(_), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed("it has not four words after the protocol"));
    };
    let source: IpAddr = source.parse().map_err(|_| malformed("its source is no address"))?;
    let port = port.parse().map_err(|_| malformed("its port is no port"))?;
    if source.is_ipv4() != v4 {
        return Err(malformed("its source is of another family"));
    }
    Ok(Some(SocketAddr::new(source.to_canonical(), port)))
}

fn binary(version: u8, family: u8, body: &[u8]) -> io::Result<Option<SocketAddr>> {
    match version {
        // LOCAL: the proxy's own, to see whether we live.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(malformed("its version is unknown")),
    }
    let port = |at: usize| body.get(at..at + 2).and_then(|it| it.try_into().ok()).map(u16::from_be_bytes);
    let source = match family {
        // Two addresses, then two ports (section 2.2).
        0x11 if body.len() >= 12 => body.first_chunk::<4>().map(|it| IpAddr::from(*it)).zip(port(8)),
        0x21 if body.len() >= 36 => body.first_chunk::<16>().map(|it| IpAddr::from(*it)).zip(port(32)),
        0x11 | 0x21 => None,
        // Unspecified, datagrams and Unix sockets: not whom a client of ours can be.
        _ => return Ok(None),
    };
    let (ip, port) = source.ok_or_else(|| malformed("it is too short for its addresses"))?;
    Ok(Some(SocketAddr::new(ip.to_canonical(), port)))
}

fn malformed(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was read, and what is left for HTTP.
    async fn read_all(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let mut rest = bytes;
        let read = read(&mut rest).await;
        (read, rest.to_vec())
    }

    fn second(version: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version, family], &length[..], body].concat()
    }

    #[tokio::test]
    async fn both_versions_tell_the_client_and_leave_what_follows() {
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let IpAddr::V6(octets) = v6 else { unreachable!() };
        let six = [&octets.octets()[..], &[0; 16], &[0x13, 0x88, 1, 187]].concat();
        let four = [198, 51, 100, 7, 10, 0, 0, 1, 0x13, 0x88, 1, 187, 4, 0, 1, 9];
        for (header, client) in [
            (b"PROXY TCP4 198.51.100.7 10.0.0.1 5000 443\r\n".to_vec(), Some("198.51.100.7:5000")),
            (b"PROXY TCP6 2001:db8::1 ::1 5000 443\r\n".to_vec(), Some("[2001:db8::1]:5000")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN anything at all\r\n".to_vec(), None),
            (second(0x21, 0x11, &four), Some("198.51.100.7:5000")),
            (second(0x21, 0x21, &six), Some("[2001:db8::1]:5000")),
            (second(0x20, 0x00, &[]), None),
            (second(0x20, 0x11, &four), None),
            (second(0x21, 0x31, &[7; 216]), None),
        ] {
            let (read, rest) = read_all(&[&header[..], b"GET / HTTP/1.1"].concat()).await;
            assert_eq!(read.unwrap().map(|it| it.to_string()).as_deref(), client, "{header:?}");
            assert_eq!(rest, b"GET / HTTP/1.1");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_after_few_octets() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 500]].concat();
        for (wrong, most) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], SIGNATURE.len()),
            (&b"PROXY TCP4 198.51.100.7 10.0.0.1 5000\r\n"[..], LINE),
            (&b"PROXY TCP4 2001:db8::1 ::1 5000 443\r\n"[..], LINE),
            (&b"PROXY TCP4 a b c d\r\n"[..], LINE),
            (&long, LINE),
            (&second(0x21, 0x11, &[1; 11]), 100),
            (&second(0x11, 0x11, &[1; 12]), 100),
            (&second(0x21, 0x11, &[1; BODY + 1]), 16),
            (&b"PROXY"[..], 5),
        ] {
            let (read, rest) = read_all(wrong).await;
            assert!(read.is_err(), "{wrong:?}");
            assert!(wrong.len() - rest.len() <= most, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), which in 0..3_u8) {
            let start: &[u8] = [&b""[..], b"PROXY TCP4 ", &SIGNATURE][usize::from(which)];
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read_all(&[start, &bytes].concat()));
        }
    }
}
