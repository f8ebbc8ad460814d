//! A bad road before a softphone: every datagram of its calls, signalling and media, goes through a
//! relay that takes out what a network would. Equal seeds lose the same.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crosspoint_proto::Instant as Moment;
use crosspoint_proto::netem::{Conditions, Link, LinkCounters};

use super::free_port;

/// What roads have beside what is tried: 50 ms there and back, 20 ms of jitter.
pub const ROAD: Conditions =
    Conditions { delay: Duration::from_millis(25), jitter: Duration::from_millis(20), ..Conditions::PERFECT };

/// The road between a phone and a server, both on loopback.
///
/// The phone dials `sip:NAME@127.0.0.1:PORT` with the port of the road. The road tells each side its
/// own addresses in place of the other's, as a border controller does. Signalling is carried as it
/// is; media suffers.
#[derive(Debug)]
pub struct Road {
    /// Where the phone sends its requests.
    pub port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// From the phone, and to it.
    state: Mutex<[Way; 2]>,
}

#[derive(Debug)]
struct Way {
    conditions: Conditions,
    counters: LinkCounters,
    seen: Passed,
}

/// What went onto one way of the road, and what came out at its other end, each with its moment.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    pub sent: Vec<(Instant, Packet)>,
    pub came: Vec<(Instant, Packet)>,
    /// Wishes for a keyframe in the signalling (RFC 5168).
    pub asked: usize,
}

impl Passed {
    /// RTP of that medium, in the order of `list`.
    pub fn rtp(list: &[(Instant, Packet)], medium: usize) -> impl Iterator<Item = (Instant, &[u8])> {
        let of_it = list.iter().filter(move |(_, packet)| (packet.pair, packet.part) == (medium, 0));
        of_it.map(|(at, packet)| (*at, packet.data.as_slice()))
    }

    /// When a keyframe was asked for: by PLI or FIR (RFC 4585, RFC 5104), or FIR of RFC 2032. What is said again
    /// at once, as the road may lose it, is one wish.
    pub fn wishes(&self) -> Vec<Instant> {
        let control = self.sent.iter().filter(|(_, packet)| packet.part == 1);
        one_each(control.filter_map(|(at, packet)| Some((*at, wish(&packet.data)?))))
    }
}

/// A wish for a keyframe, as a datagram says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// PLI, or FIR of RFC 2032. Neither has a number.
    Plain,
    /// FIR with its number.
    Numbered(u8),
}

/// Two of them without a number are one wish where no more than this lies between, from the first one: a tenth of what
/// has to lie between two wishes. An encoder that takes requests so close for one makes one keyframe of both, and
/// any other one two in place of one, never a row of them.
const SAID_AGAIN: Duration = Duration::from_millis(100);
/// How many times one wish may be said.
const TIMES: usize = 2;

/// The moments of wishes, those said again left out: FIR with the number of the one before is the same command (RFC
/// 5104 section 4.3.1.1), whenever it comes.
fn one_each(said: impl Iterator<Item = (Instant, Wish)>) -> Vec<Instant> {
    let mut wishes: Vec<(Instant, Wish, usize)> = Vec::new();
    for (at, wish) in said {
        if let Some((first, before, times)) = wishes.last_mut()
            && *before == wish
            && *times < TIMES
            && (wish != Wish::Plain || at - *first <= SAID_AGAIN)
        {
            *times += 1;
        } else {
            wishes.push((at, wish, 1));
        }
    }
    wishes.into_iter().map(|(at, ..)| at).collect()
}

fn wish(mut compound: &[u8]) -> Option<Wish> {
    while let [first, kind, high, low, ..] = *compound {
        match (kind, first & 0x1f) {
            (206, 1) | (192, _) => return Some(Wish::Plain),
            // Behind the header, two SSRCs and that of the entry.
            (206, 4) => return compound.get(16).map(|number| Wish::Numbered(*number)),
            _ => (),
        }
        let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        compound = compound.get(length..).unwrap_or(&[]);
    }
    None
}

impl Road {
    /// Between a phone on port `phone` and a server on port `server`; both ways have these conditions.
    pub fn new(phone: u16, server: u16, conditions: Conditions, seed: u64) -> Self {
        let (port, far) = (free_port(), free_port());
        let way = || Way { conditions, counters: LinkCounters::default(), seen: Passed::default() };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), state: Mutex::new([way(), way()]) });
        let signalling = [bind(port), bind(far)];
        let relay = Relay {
            swaps: Swaps { phone, server, near: port, far },
            signalling,
            media: Media::new(conditions, seed),
            shared: shared.clone(),
            began: Instant::now(),
        };
        let thread = std::thread::spawn(move || relay.run());
        Self { port, shared, thread: Some(thread) }
    }

    /// Changes both ways from now on.
    pub fn become_as(&self, conditions: Conditions) {
        self.shared.state.lock().unwrap().iter_mut().for_each(|way| way.conditions = conditions);
    }

    /// What happened to packets from the phone, and to it.
    pub fn counters(&self) -> [LinkCounters; 2] {
        let ways = self.shared.state.lock().unwrap();
        [ways[0].counters, ways[1].counters]
    }

    /// What passed so far from the phone, and to it.
    pub fn passed(&self) -> [Passed; 2] {
        let ways = self.shared.state.lock().unwrap();
        [ways[0].seen.clone(), ways[1].seen.clone()]
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How long the relay sleeps at most: far below the jitter of any road that is tried.
const NAP: Duration = Duration::from_micros(500);

struct Relay {
    swaps: Swaps,
    /// To the phone, and to the server.
    signalling: [UdpSocket; 2],
    media: Media,
    shared: Arc<Shared>,
    began: Instant,
}

impl Relay {
    fn run(mut self) {
        let mut buffer = [0; 4096];
        while !self.shared.stop.load(Ordering::Relaxed) {
            for side in [PHONE, SERVER] {
                while let Ok((length, _)) = self.signalling[side].recv_from(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    if text.contains("picture_fast_update") {
                        self.shared.state.lock().unwrap()[side].seen.asked += 1;
                    }
                    let (text, to) = if side == PHONE {
                        (self.swaps.up(&text, &mut self.media), self.swaps.server)
                    } else {
                        (self.swaps.down(&text, &mut self.media), self.swaps.phone)
                    };
                    let _ = self.signalling[1 - side].send_to(text.as_bytes(), at(to));
                }
            }
            let now = Moment::from_nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap());
            {
                let mut ways = self.shared.state.lock().unwrap();
                for (way, link) in ways.iter_mut().zip(&mut self.media.links) {
                    link.set_conditions(way.conditions);
                    way.counters = link.counters();
                }
                self.media.carry(now, &mut ways);
            }
            std::thread::sleep(NAP);
        }
    }
}

/// Index of what faces the phone, and of the way from it.
const PHONE: usize = 0;
/// Index of what faces the server, and of the way from it.
const SERVER: usize = 1;

/// Which port is told in place of which.
#[derive(Clone, Copy, Debug)]
struct Swaps {
    phone: u16,
    server: u16,
    /// Of the road, towards the phone.
    near: u16,
    /// Of the road, towards the server.
    far: u16,
}

impl Swaps {
    /// A message of the phone as the server gets it.
    fn up(self, message: &str, media: &mut Media) -> String {
        let head = message.replace(&host(self.near), &host(self.server));
        let contacts = lines(&head, |line| match line.starts_with("Contact:") {
            true => line.replace(&host(self.phone), &host(self.far)),
            false => line.to_owned(),
        });
        media.told(&contacts, PHONE)
    }

    /// A message of the server as the phone gets it.
    fn down(self, message: &str, media: &mut Media) -> String {
        let swapped =
            message.replace(&host(self.server), &host(self.near)).replace(&host(self.far), &host(self.phone));
        media.told(&swapped, SERVER)
    }
}

/// The media of one call, audio first: a pair of ports for each medium and side.
struct Media {
    pairs: Vec<Pair>,
    links: [Link<Packet>; 2],
}

struct Pair {
    /// RTP and RTCP, facing the phone and facing the server.
    sockets: [[UdpSocket; 2]; 2],
    ports: [u16; 2],
    /// Where the phone and the server want theirs, once they have said so.
    wanted: [Option<u16>; 2],
}

/// A datagram of a medium (audio is 0, video 1), RTP (0) or RTCP (1).
#[derive(Clone, Debug)]
pub struct Packet {
    pub pair: usize,
    pub part: usize,
    pub data: Vec<u8>,
}

impl Media {
    fn new(conditions: Conditions, seed: u64) -> Self {
        let links = [Link::new(seed, conditions), Link::new(seed ^ 0x5eed, conditions)];
        Self { pairs: (0..2).map(|_| Pair::new()).collect(), links }
    }

    /// Learns what `side` wants of its description, and puts the road's own ports in its place.
    fn told(&mut self, message: &str, side: usize) -> String {
        let Some((head, body)) = message.split_once("\r\n\r\n") else { return message.to_owned() };
        let (mut media, mut port) = (0, 0);
        let body = lines(body, |line| {
            // Of RTCP: the next port after that of RTP, as everybody here has it.
            if line.starts_with("a=rtcp:") {
                return format!("a=rtcp:{}", port + 1);
            }
            let Some(rest) = line.strip_prefix("m=") else { return line.to_owned() };
            let mut words: Vec<_> = rest.split(' ').map(str::to_owned).collect();
            let pair = self.pairs.get_mut(media).expect("two media at most");
            media += 1;
            if let Ok(wanted @ 1..) = words[1].parse() {
                pair.wanted[side] = Some(wanted);
                port = pair.ports[1 - side];
                words[1] = port.to_string();
            }
            format!("m={}", words.join(" "))
        });
        let head = lines(head, |line| match line.starts_with("Content-Length:") {
            true => format!("Content-Length: {}", body.len()),
            false => line.to_owned(),
        });
        format!("{head}\r\n\r\n{body}")
    }

    fn carry(&mut self, now: Moment, ways: &mut [Way; 2]) {
        let mut buffer = [0; 2048];
        for (index, pair) in self.pairs.iter().enumerate() {
            for side in [PHONE, SERVER] {
                for part in 0..2 {
                    while let Ok((length, _)) = pair.sockets[side][part].recv_from(&mut buffer) {
                        let packet = Packet { pair: index, part, data: buffer[..length].to_vec() };
                        ways[side].seen.sent.push((Instant::now(), packet.clone()));
                        self.links[side].send(now, packet);
                    }
                }
            }
        }
        for side in [PHONE, SERVER] {
            while let Some(packet) = self.links[side].receive(now) {
                let pair = &self.pairs[packet.pair];
                if let Some(port) = pair.wanted[1 - side] {
                    let to = at(port + packet.part as u16);
                    let _ = pair.sockets[1 - side][packet.part].send_to(&packet.data, to);
                }
                ways[side].seen.came.push((Instant::now(), packet));
            }
        }
    }
}

impl Pair {
    fn new() -> Self {
        let ports = [free_port(), free_port()];
        Self { sockets: ports.map(|port| [bind(port), bind(port + 1)]), ports, wanted: [None; 2] }
    }
}

fn lines(text: &str, change: impl FnMut(&str) -> String) -> String {
    text.split("\r\n").map(change).collect::<Vec<_>>().join("\r\n")
}

fn host(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn bind(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(at(port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_one_wish_and_a_row_is_not() {
        let began = Instant::now();
        let count = |said: &[(u64, Wish)]| {
            let said = said.iter().map(|(at, wish)| (began + Duration::from_millis(*at), *wish));
            one_each(said).len()
        };
        let (plain, numbered) = (Wish::Plain, Wish::Numbered);
        assert_eq!(count(&[(0, plain), (30, plain), (1_000, plain), (1_030, plain)]), 2);
        assert_eq!(count(&[(0, plain), (101, plain)]), 2);
        // Each within 100 ms of the one before.
        assert_eq!(count(&[(0, plain), (40, plain), (80, plain), (120, plain)]), 2);
        assert_eq!(count(&[(0, numbered(4)), (30, numbered(4)), (60, numbered(5))]), 2);
        assert_eq!(count(&[(0, numbered(4)), (30, numbered(4)), (60, numbered(4))]), 2);
        assert_eq!(count(&[(0, numbered(4)), (30, plain)]), 2);
    }

    #[test]
    fn wishes_are_found_in_compounds() {
        let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
        let pli = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9];
        let fir = [0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 5, 0, 0, 0];
        assert_eq!(wish(&report), None);
        assert_eq!(wish(&[&report[..], &pli].concat()), Some(Wish::Plain));
        assert_eq!(wish(&[&report[..], &fir].concat()), Some(Wish::Numbered(5)));
        assert_eq!(wish(&fir[..16]), None);
    }
}
