//! Packets as pcapng (draft-ietf-opsawg-pcapng): what Wireshark and tshark read. Octets from values,
//! nothing else.
//!
//! ```text
//!  section header, interface description, packet, packet, ..., statistics
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

/// LINKTYPE_RAW: a packet begins with its IP header, of version 4 or 6.
const RAW_IP: u16 = 101;

/// Time stamps in nanoseconds: 10 to the power of minus 9.
const NANOSECONDS: u8 = 9;

const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

const END: u16 = 0;
const COMMENT: u16 = 1;
const TIME_RESOLUTION: u16 = 9;
const APPLICATION: u16 = 4;
const RECEIVED: u16 = 4;
const DROPPED: u16 = 5;

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;

/// The longest payload of UDP in IPv4; what is longer is cut, and its header tells how long it was
/// no longer than that.
const PAYLOAD: usize = 65_507;

/// Of what a block is at most: a packet with its headers, comment and frame.
pub const LONGEST_BLOCK: usize = PAYLOAD + 1_024;

/// What a file begins with.
pub fn head(out: &mut Vec<u8>, application: &str, comment: &str) {
    block(out, SECTION, |out| {
        out.extend(0x1A2B_3C4D_u32.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        // The length of the section is not known yet.
        out.extend((-1_i64).to_le_bytes());
        option(out, COMMENT, comment.as_bytes());
        option(out, APPLICATION, application.as_bytes());
        option(out, END, &[]);
    });
    block(out, INTERFACE, |out| {
        out.extend(RAW_IP.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        option(out, TIME_RESOLUTION, &[NANOSECONDS]);
        option(out, END, &[]);
    });
}

/// A datagram of UDP. An address of the other family than its fellow's is written as the unspecified
/// one of that family.
pub fn datagram(
    out: &mut Vec<u8>,
    at: SystemTime,
    from: SocketAddr,
    to: SocketAddr,
    data: &[u8],
    comment: &str,
) {
    let data = data.get(..PAYLOAD).unwrap_or(data);
    let mut packet = Vec::with_capacity(40 + UDP_HEADER + data.len());
    let (source, destination) = (from.ip().to_canonical(), to.ip().to_canonical());
    let length = u16::try_from(UDP_HEADER + data.len()).unwrap_or(u16::MAX);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend([0x45, 0]);
            packet.extend(length.saturating_add(20).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = checksum(&[&packet]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (source, destination) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([UDP, 64]);
            for address in [source, destination] {
                let octets = match address {
                    IpAddr::V6(address) => address.octets(),
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                };
                packet.extend(octets);
            }
        }
    }
    let addresses = match packet.len() {
        20 => packet[12..20].to_vec(),
        _ => packet[8..40].to_vec(),
    };
    let [from, to] = [from.port(), to.port()].map(u16::to_be_bytes);
    let header = [from, to, length.to_be_bytes(), [0, 0]].concat();
    // Zero says that there is none (RFC 768).
    let sum = match checksum(&[&addresses, &[0, UDP], &length.to_be_bytes(), &header, data]) {
        0 => u16::MAX,
        sum => sum,
    };
    packet.extend(&header[..6]);
    packet.extend(sum.to_be_bytes());
    packet.extend(data);
    let nanos = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos();
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    let [high, low] = halves(nanos);
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    block(out, PACKET, |out| {
        out.extend([0_u32, high, low, length, length].map(u32::to_le_bytes).concat());
        out.extend(&packet);
        pad(out);
        if !comment.is_empty() {
            option(out, COMMENT, comment.as_bytes());
            option(out, END, &[]);
        }
    });
}

/// What a file ends with: how many packets there were, and how many of them are not in it.
pub fn end(out: &mut Vec<u8>, at: SystemTime, received: u64, dropped: u64, comment: &str) {
    let nanos = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos();
    let [high, low] = halves(u64::try_from(nanos).unwrap_or(u64::MAX));
    block(out, STATISTICS, |out| {
        out.extend([0_u32, high, low].map(u32::to_le_bytes).concat());
        option(out, COMMENT, comment.as_bytes());
        option(out, RECEIVED, &received.to_le_bytes());
        option(out, DROPPED, &dropped.to_le_bytes());
        option(out, END, &[]);
    });
}

/// The first block of `octets`, when all of it is there; `Err`: it is none of ours.
pub fn first_block(octets: &[u8]) -> Result<Option<Block<'_>>, NoBlock> {
    let word = |at: usize| {
        let octets = octets.get(at..at + 4)?;
        Some(u32::from_le_bytes(octets.try_into().ok()?))
    };
    let (Some(kind), Some(length)) = (word(0), word(4)) else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(12..=LONGEST_BLOCK).contains(&length) || !matches!(kind, SECTION | INTERFACE | STATISTICS | PACKET) {
        return Err(NoBlock);
    }
    let Some(octets) = octets.get(..length) else { return Ok(None) };
    // The two counts and the end of the options are the last things in it.
    let count = |from_end: usize| {
        let at = length.checked_sub(from_end)?;
        Some(u64::from_le_bytes(octets.get(at..at + 8)?.try_into().ok()?))
    };
    let totals = (kind == STATISTICS).then(|| Some((count(8 + 12 + 8)?, count(8 + 8)?))).flatten();
    Ok(Some(Block { octets, is_packet: kind == PACKET, totals }))
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// All of it.
    pub octets: &'a [u8],
    /// It has a packet.
    pub is_packet: bool,
    /// It ends the file: the counts of [`end`].
    pub totals: Option<(u64, u64)>,
}

/// Octets that are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no pcapng of ours")]
pub struct NoBlock;

/// Type and length stand before a block, the length after it as well.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
    out[start + 4..start + 8].copy_from_slice(&length);
    out.extend(length);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.extend(code.to_le_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(value);
    pad(out);
}

/// To a multiple of four; what comes before a block is one.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn halves(nanos: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = nanos.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

/// Of the Internet (RFC 1071), over parts that are one after another; all but the last are even.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    #[test]
    fn a_datagram_is_framed_with_its_headers_and_checksums() {
        let mut out = Vec::new();
        let (from, to) = ("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:40000".parse().unwrap());
        datagram(&mut out, at(0x0102_0304_0506_0708), from, to, b"hello", "x");
        let length = u32::try_from(out.len()).unwrap().to_le_bytes();
        assert_eq!(out[..8], [[6, 0, 0, 0], length].concat());
        assert_eq!(out[out.len() - 4..], length);
        assert_eq!(out[8..28], [0, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5, 33, 0, 0, 0, 33, 0, 0, 0]);
        let packet = &out[28..61];
        assert_eq!(packet[..10], [0x45, 0, 0, 33, 0, 0, 0x40, 0, 64, 17]);
        assert_eq!(checksum(&[&packet[..20]]), 0, "right with its checksum in it");
        assert_eq!(packet[20..26], [0x13, 0xc4, 0x9c, 0x40, 0, 13]);
        let pseudo = [&packet[12..20], &[0, 17, 0, 13]].concat();
        assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
        assert_eq!(&packet[28..], b"hello");
        assert_eq!(out.len() % 4, 0);
        assert_eq!(out[64..72], [1, 0, 1, 0, b'x', 0, 0, 0], "the comment");
    }

    #[test]
    fn ipv6_has_its_own_header_and_mapped_addresses_are_ipv4() {
        let mut out = Vec::new();
        let (from, to) = ("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap());
        datagram(&mut out, at(0), from, to, b"odd", "");
        let packet = &out[28..28 + 51];
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 11, 17, 64]);
        let pseudo = [&packet[8..40], &[0, 17, 0, 11]].concat();
        assert_eq!(checksum(&[&pseudo, &packet[40..]]), 0);
        out.clear();
        let from = "[::ffff:192.0.2.1]:1".parse().unwrap();
        datagram(&mut out, at(0), from, "192.0.2.2:2".parse().unwrap(), b"", "");
        assert_eq!(out[28], 0x45);
    }

    #[test]
    fn a_file_is_read_block_by_block_to_its_totals() {
        let mut out = Vec::new();
        head(&mut out, "Crosspoint", "a call");
        let (from, to) = ("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:40000".parse().unwrap());
        datagram(&mut out, at(1), from, to, &[7; 100_000], "");
        end(&mut out, at(2), 5, 4, "four are missing");
        let (mut rest, mut packets, mut totals) = (&out[..], 0, None);
        while let Some(block) = first_block(rest).unwrap() {
            packets += u32::from(block.is_packet);
            totals = totals.or(block.totals);
            for part in 0..block.octets.len() {
                assert_eq!(first_block(&rest[..part]), Ok(None), "not whole yet");
            }
            rest = &rest[block.octets.len()..];
        }
        assert_eq!((rest.len(), packets, totals), (0, 1, Some((5, 4))));
        assert_eq!(first_block(b"HTTP/1.0 404"), Err(NoBlock));
    }
}
