//! SRTP against libsrtp2: AES-CM with SHA-1, of a G.711 packet and of a full one.

use std::ffi::c_void;
use std::hint::black_box;

use crosspoint_proto::rtp::srtp::{MAX_OVERHEAD, MasterKey, SrtpContext, SrtpSuite};

use crate::race::{Contender, race};

unsafe extern "C" {
    fn peer_srtp_new(key_and_salt: *mut u8) -> *mut c_void;
    fn peer_srtp_protect(session: *mut c_void, packet: *mut u8, len: i32) -> i32;
    fn peer_srtp_free(session: *mut c_void);
}

pub fn run() {
    for payload in [60, 160, 1_160] {
        protect(payload);
    }
}

fn protect(payload: usize) {
    let len = 12 + payload;
    let mut key: [u8; 30] = std::array::from_fn(|n| u8::try_from(n * 7).unwrap_or(0));
    // SAFETY: a key and a salt of 30 bytes, which are copied.
    let session = unsafe { peer_srtp_new(key.as_mut_ptr()) };
    assert!(!session.is_null());
    let master = MasterKey::new(SrtpSuite::Aes128CmSha1_80, &key).expect("a key");
    let mut ours = SrtpContext::new(&master).expect("keys");
    let (mut packet, mut other) = (packet(len), packet(len));
    let (mut theirs_next, mut ours_next) = (0u16, 0u16);
    let contenders = vec![
        Contender::new("libsrtp2", || {
            theirs_next = theirs_next.wrapping_add(1);
            packet[2..4].copy_from_slice(&theirs_next.to_be_bytes());
            let taken = i32::try_from(len).expect("a packet");
            // SAFETY: the session lives, and behind the packet is room for its tag.
            let made = unsafe { peer_srtp_protect(session, black_box(&mut packet).as_mut_ptr(), taken) };
            assert!(made > 0);
        }),
        Contender::new("ours", || {
            ours_next = ours_next.wrapping_add(1);
            other[2..4].copy_from_slice(&ours_next.to_be_bytes());
            ours.protect_rtp(black_box(&mut other), len).expect("a protected packet");
        }),
    ];
    race(&format!("SRTP protect {payload} bytes"), 1.0, contenders);
    // SAFETY: made above, and not used any more.
    unsafe { peer_srtp_free(session) };
}

fn packet(len: usize) -> Vec<u8> {
    let mut packet = vec![0x55; len + MAX_OVERHEAD + 128];
    packet[..12].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9]);
    packet
}
