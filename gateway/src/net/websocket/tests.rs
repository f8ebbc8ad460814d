use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use super::*;
use crate::net::tcp::{Outbound, write_queue};

const HEAD: &str = "GET /sip HTTP/1.1\r\nHost: gateway.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const CONN: ConnId = ConnId(2);

fn origins(of: &[&str]) -> Arc<[PageOrigin]> {
    of.iter().map(|text| text.parse().unwrap()).collect()
}

/// A page's end of a connection, octet by octet, and the driver's.
struct Page {
    wire: DuplexStream,
    outbound: Option<Outbound>,
    ingress: Receiver<Ingress>,
    task: JoinHandle<()>,
}

impl Page {
    async fn connected() -> Self {
        let (mut wire, far) = duplex(256 * 1024);
        let accepting = tokio::spawn(accept(far, origins(&[])));
        wire.write_all(format!("{HEAD}Sec-WebSocket-Protocol: sip\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 512];
        let length = wire.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 101 "));
        let socket = accepting.await.unwrap().unwrap();
        let (outbound, waiting) = write_queue();
        let (sender, ingress) = mpsc::channel(64);
        let task = tokio::spawn(exchange(socket, CONN, waiting, sender, None));
        Self { wire, outbound: Some(outbound), ingress, task }
    }

    async fn says(&mut self, first: u8, payload: &[u8]) {
        self.wire.write_all(&frame(first, payload)).await.unwrap();
    }

    /// What the driver is told next.
    async fn told(&mut self) -> Option<Vec<u8>> {
        match self.ingress.recv().await? {
            Ingress::Stream { conn: CONN, data } => Some(data.to_vec()),
            Ingress::Closed { conn: CONN } => None,
            other => panic!("{other:?}"),
        }
    }

    /// The next frame that the page gets: its first octet and what is in it.
    async fn hears(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.wire.read_exact(&mut head).await.unwrap();
        assert!(head[1] < 126, "a short one without a mask");
        let mut payload = vec![0; head[1].into()];
        self.wire.read_exact(&mut payload).await.unwrap();
        (head[0], payload)
    }
}

/// With a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | u8::try_from(length).unwrap()),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const CLOSE: u8 = 0x88;

async fn handshake(more: &str, welcome: &[&str]) -> (bool, String) {
    let (mut wire, far) = duplex(64 * 1024);
    let accepting = tokio::spawn(accept(far, origins(welcome)));
    wire.write_all(format!("{HEAD}{more}\r\n").as_bytes()).await.unwrap();
    let accepted = accepting.await.unwrap();
    let stands = accepted.is_ok();
    drop(accepted);
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await.unwrap();
    (stands, answer)
}

#[tokio::test]
async fn only_who_speaks_sip_comes_in() {
    for offered in ["sip", "chat, sip", "msrp\r\nSec-WebSocket-Protocol: sip"] {
        let (stands, answer) = handshake(&format!("Sec-WebSocket-Protocol: {offered}\r\n"), &[]).await;
        // The key's answer is that of RFC 6455 section 1.3.
        assert!(stands && answer.to_lowercase().contains("sec-websocket-protocol: sip\r\n"), "{answer}");
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    }
    for offered in ["", "Sec-WebSocket-Protocol: chat\r\n", "Sec-WebSocket-Protocol: sips\r\n"] {
        let (stands, answer) = handshake(offered, &[]).await;
        assert!(!stands && answer.starts_with("HTTP/1.1 400 "), "{offered}: {answer}");
    }
}

#[tokio::test]
async fn pages_from_elsewhere_are_refused_where_some_are_named() {
    let sip = "Sec-WebSocket-Protocol: sip\r\n";
    let ours = ["https://phones.example", "http://localhost:8080"];
    for (origin, welcome, stands) in [
        ("", &ours[..], true),
        ("Origin: https://phones.example\r\n", &ours, true),
        ("Origin: HTTPS://Phones.example\r\n", &ours, true),
        ("Origin: http://localhost:8080\r\n", &ours, true),
        ("Origin: https://phones.example:8443\r\n", &ours, false),
        ("Origin: http://phones.example\r\n", &ours, false),
        ("Origin: https://phones.example.evil\r\n", &ours, false),
        ("Origin: null\r\n", &ours, false),
        ("Origin: https://phones.example\r\nOrigin: https://evil.example\r\n", &ours, false),
        ("Origin: https://anywhere.example\r\n", &[], true),
    ] {
        let (stood, answer) = handshake(&format!("{sip}{origin}"), welcome).await;
        assert_eq!(stood, stands, "{origin}: {answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 403 "), !stands, "{origin}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn promise_36_a_handshake_has_five_seconds_and_an_end() {
    let (mut wire, far) = duplex(1024);
    let begun = Instant::now();
    let accepting = tokio::spawn(accept(far, origins(&[])));
    let dripping = tokio::spawn(async move {
        let octets = HEAD.bytes().cycle();
        for octet in octets {
            tokio::time::sleep(Duration::from_millis(400)).await;
            if wire.write_all(&[octet]).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(accepting.await.unwrap().unwrap_err(), "took too long");
    assert_eq!(begun.elapsed(), HANDSHAKE);
    dripping.await.unwrap();

    // A head without an end is not read to the end.
    let (mut wire, far) = duplex(256 * 1024);
    let accepting = tokio::spawn(accept(far, origins(&[])));
    wire.write_all(HEAD.as_bytes()).await.unwrap();
    wire.write_all(&b"X: y\r\n".repeat(20_000)).await.unwrap();
    assert!(accepting.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn each_message_is_one_piece_however_it_was_cut() {
    let mut page = Page::connected().await;
    page.says(TEXT, b"REGISTER sip:x").await;
    assert_eq!(page.told().await.unwrap(), b"REGISTER sip:x");
    page.says(BINARY, b"\xff\0").await;
    assert_eq!(page.told().await.unwrap(), b"\xff\0");
    // In three fragments with a ping between them, and octet by octet.
    let mut octets = frame(0x01, b"INV");
    octets.extend(frame(PING, b"there?"));
    octets.extend(frame(0x00, b"I"));
    octets.extend(frame(0x80, b"TE"));
    for octet in octets {
        page.wire.write_all(&[octet]).await.unwrap();
    }
    assert_eq!(page.told().await.unwrap(), b"INVITE");
    assert_eq!(page.hears().await, (PONG, b"there?".to_vec()));
    // Ours are text where they can be.
    let outbound = page.outbound.as_ref().unwrap();
    assert!(outbound.push(Bytes::from_static(b"SIP/2.0 200 OK")));
    assert!(outbound.push(Bytes::from_static(b"\xff\xfe")));
    assert_eq!(page.hears().await, (TEXT, b"SIP/2.0 200 OK".to_vec()));
    assert_eq!(page.hears().await, (BINARY, b"\xff\xfe".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_message_of_65535_octets_is_taken_and_a_longer_one_is_refused_by_its_length() {
    let mut page = Page::connected().await;
    let largest = vec![b'x'; limits::MESSAGE];
    page.says(BINARY, &largest).await;
    assert_eq!(page.told().await.unwrap(), largest);
    // Nothing of it has come yet but what it says of itself.
    page.wire.write_all(&frame(BINARY, &vec![0; limits::MESSAGE + 1])[..14]).await.unwrap();
    assert_eq!(page.told().await, None);
    let (first, reason) = page.hears().await;
    assert_eq!((first, &reason[..2]), (CLOSE, &1009_u16.to_be_bytes()[..]));

    let mut page = Page::connected().await;
    page.says(0x01, &largest).await;
    page.says(0x80, b"x").await;
    assert_eq!(page.told().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_ends_a_connection_with_its_reason() {
    for (octets, code) in [
        (frame(TEXT, b"\xff\xfe"), 1007_u16),
        (frame(0x80, b"continued"), 1002),
        (frame(0xc1, b"compressed"), 1002),
        // Without a mask.
        (b"\x81\x02hi".to_vec(), 1002),
    ] {
        let mut page = Page::connected().await;
        page.wire.write_all(&octets).await.unwrap();
        assert_eq!(page.told().await, None);
        let (first, reason) = page.hears().await;
        assert_eq!((first, reason), (CLOSE, code.to_be_bytes().to_vec()), "{octets:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn promise_36_a_message_that_does_not_end_ends_the_connection_even_with_pings_in_it() {
    for pings in [false, true] {
        let mut page = Page::connected().await;
        page.says(TEXT, b"a whole one").await;
        assert!(page.told().await.is_some());
        let begun = Instant::now();
        if pings {
            page.says(0x01, b"INVITE").await;
        } else {
            page.wire.write_all(&frame(TEXT, &[b'x'; 100])[..6]).await.unwrap();
        }
        let ended = loop {
            tokio::select! {
                told = page.told() => break told,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            let octets = if pings { frame(PING, b"") } else { b"x".to_vec() };
            let _ = page.wire.write_all(&octets).await;
        };
        assert_eq!(ended, None);
        assert!((10..=15).contains(&begun.elapsed().as_secs()), "{pings}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_asked_and_who_does_not_answer_is_gone() {
    let mut page = Page::connected().await;
    for _ in 0..100 {
        let asked = Instant::now();
        assert_eq!(page.hears().await, (PING, Vec::new()));
        assert!(asked.elapsed() <= Duration::from_secs(30));
        page.says(PONG, b"").await;
    }
    assert!(page.ingress.try_recv().is_err(), "it stands, and SIP hears nothing of it");
    let silent = Instant::now();
    assert_eq!(page.told().await, None);
    assert!((60..=90).contains(&silent.elapsed().as_secs()), "{:?}", silent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn either_side_closes_and_what_was_queued_arrives() {
    let mut page = Page::connected().await;
    page.says(CLOSE, &1000_u16.to_be_bytes()).await;
    assert_eq!(page.told().await, None);
    assert_eq!(page.hears().await.0, CLOSE);
    page.task.await.unwrap();

    let mut page = Page::connected().await;
    let outbound = page.outbound.take().unwrap();
    for _ in 0..3 {
        assert!(outbound.push(Bytes::from_static(b"BYE")));
    }
    drop(outbound);
    for _ in 0..3 {
        assert_eq!(page.hears().await, (TEXT, b"BYE".to_vec()));
    }
    assert_eq!(page.hears().await, (CLOSE, 1001_u16.to_be_bytes().to_vec()));
    page.says(CLOSE, &1001_u16.to_be_bytes()).await;
    page.task.await.unwrap();
    assert!(page.ingress.recv().await.is_none(), "who has ended it is not told so");

    // Who vanishes is told once.
    let mut page = Page::connected().await;
    drop(std::mem::replace(&mut page.wire, duplex(1).0));
    assert_eq!(page.told().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_given_up() {
    let mut page = Page::connected().await;
    let outbound = page.outbound.take().unwrap();
    let piece = Bytes::from(vec![b'x'; 60_000]);
    for _ in 0..8 {
        assert!(outbound.push(piece.clone()));
    }
    let begun = Instant::now();
    assert_eq!(page.told().await, None);
    assert!((10..=15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
