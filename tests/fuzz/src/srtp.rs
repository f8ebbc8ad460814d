//! Protected packets, and those of a forger.

use crosspoint_proto::rtp::srtp::{MAX_OVERHEAD, MasterKey, SrtpContext, SrtpSuite};

/// Packets that are kept, to be delivered late, twice or damaged.
const KEPT: usize = 64;
/// What both sides remember behind the newest (`srtp/replay.rs`).
const WINDOW: u64 = 128;
/// Further than this ahead a receiver takes the number for one of before (RFC 3711 section 3.3.1).
const AHEAD: u64 = 1 << 15;

/// A packet under way.
struct Sealed {
    rtcp: bool,
    index: u64,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    taken: bool,
}

/// A history of a sender, a receiver and the road between them, in steps of four octets: each packet
/// is taken once and as it was sent, whatever the order, and what a forger made or changed never is.
pub fn history(data: &[u8]) {
    let Some((first, mut rest)) = data.split_first() else { return };
    let suite = SrtpSuite::ALL[usize::from(first % 4)];
    let key = MasterKey::new(suite, &vec![*first; suite.key_len() + suite.salt_len()]).expect("a key");
    let mut road = Road {
        sender: SrtpContext::new(&key).expect("a sender"),
        receiver: SrtpContext::new(&key).expect("a receiver"),
        kept: Vec::new(),
        // Any number below 2^15 may be the first.
        next: [u64::from(*first) << 7, 0],
        newest: [None, None],
    };
    while let Some(([what, far, place, bit], tail)) = rest.split_first_chunk::<4>() {
        rest = tail;
        match what % 8 {
            0..=2 => road.send(false, 1 + u64::from(*far), *place, *bit),
            3 => road.send(true, 1, *place, *bit),
            4 | 5 => road.deliver(usize::from(*place)),
            6 => road.damage(usize::from(*place), usize::from(*far) * 8 + usize::from(*bit % 8)),
            _ => {
                let (forged, tail) = rest.split_at(usize::from(*far).min(rest.len()));
                rest = tail;
                road.forge(forged);
            }
        }
    }
}

struct Road {
    sender: SrtpContext,
    receiver: SrtpContext,
    kept: Vec<Sealed>,
    next: [u64; 2],
    newest: [Option<u64>; 2],
}

impl Road {
    fn send(&mut self, rtcp: bool, step: u64, flags: u8, len: u8) {
        let index = self.next[usize::from(rtcp)];
        self.next[usize::from(rtcp)] += step;
        let mut plain = Vec::new();
        if rtcp {
            plain.extend([0x80, 201, 0, 1, 0, 0, 0, 9]);
        } else {
            // Sources and an extension stand in clear, what follows does not.
            plain.extend([0x80 | flags & 0x13, 96]);
            plain.extend(&index.to_be_bytes()[6..]);
            plain.extend([0, 0, 0, 1, 0, 0, 0, 9]);
            plain.extend(std::iter::repeat_n(flags, usize::from(flags & 3) * 4));
            if flags & 0x10 != 0 {
                plain.extend([0xbe, 0xde, 0, 1, 0x10, flags, 0, 0]);
            }
        }
        plain.extend(std::iter::repeat_n(len, usize::from(len)));
        let mut sealed = plain.clone();
        sealed.resize(plain.len() + MAX_OVERHEAD, 0);
        let end = match rtcp {
            true => self.sender.protect_rtcp(&mut sealed, plain.len()),
            false => self.sender.protect_rtp(&mut sealed, plain.len()),
        };
        sealed.truncate(end.expect("a packet with room behind it"));
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push(Sealed { rtcp, index, sealed, plain, taken: false });
    }

    fn deliver(&mut self, place: usize) {
        let Some(place) = self.place(place) else { return };
        let packet = &mut self.kept[place];
        let newest = &mut self.newest[usize::from(packet.rtcp)];
        let mut octets = packet.sealed.clone();
        let taken = open(&mut self.receiver, packet.rtcp, &mut octets);
        // RTCP says its index, which RTP has but in part.
        let ahead = if packet.rtcp { u64::MAX } else { AHEAD };
        let expected = match *newest {
            None => packet.rtcp || packet.index < 1 << 16,
            Some(newest) if packet.index > newest => packet.index - newest < ahead,
            Some(newest) => newest - packet.index < WINDOW && !packet.taken,
        };
        assert_eq!(taken.is_some(), expected, "{} after {newest:?}", packet.index);
        if let Some(len) = taken {
            assert_eq!(&octets[..len], packet.plain);
            packet.taken = true;
            *newest = (*newest).max(Some(packet.index));
        }
    }

    fn damage(&mut self, place: usize, bit: usize) {
        let Some(place) = self.place(place) else { return };
        let packet = &self.kept[place];
        let mut octets = packet.sealed.clone();
        let at = bit / 8 % octets.len();
        octets[at] ^= 1 << (bit % 8);
        assert_eq!(open(&mut self.receiver, packet.rtcp, &mut octets), None, "bit {bit} was changed");
    }

    fn forge(&mut self, octets: &[u8]) {
        for rtcp in [false, true] {
            assert_eq!(open(&mut self.receiver, rtcp, &mut octets.to_vec()), None, "forged");
        }
    }

    fn place(&self, place: usize) -> Option<usize> {
        // The newest first, as on most roads.
        self.kept.len().checked_sub(1 + place % self.kept.len().max(1))
    }
}

/// The length of what was protected, when it is taken.
fn open(receiver: &mut SrtpContext, rtcp: bool, packet: &mut [u8]) -> Option<usize> {
    if rtcp { receiver.unprotect_rtcp(packet).ok() } else { receiver.unprotect_rtp(packet).ok() }
}
