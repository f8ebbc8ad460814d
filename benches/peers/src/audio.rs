//! G.711 against tables, and resampling against the libraries.

use std::f64::consts::TAU;
use std::ffi::c_void;
use std::hint::black_box;

use crosspoint_codecs::audio::g711::Law;
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::g711;
use crosspoint_codecs::kernels::resample::Resampler;

use crate::race::{Contender, race};

unsafe extern "C" {
    fn peer_swr_new(from: i32, to: i32) -> *mut c_void;
    fn peer_swr(context: *mut c_void, pcm: *const i16, len: i32, out: *mut i16, room: i32) -> i32;
    fn peer_swr_free(context: *mut c_void);
    fn peer_speex_new(from: i32, to: i32, quality: i32) -> *mut c_void;
    fn peer_speex(state: *mut c_void, pcm: *const i16, len: i32, out: *mut i16, room: i32) -> i32;
    fn peer_speex_free(state: *mut c_void);
}

pub fn run() {
    for law in [Law::Mu, Law::A] {
        companding(law);
    }
    for (from, to) in [(8_000, 48_000), (16_000, 48_000), (48_000, 16_000), (48_000, 8_000)] {
        resampling(from, to);
    }
}

/// One packet of 20 ms, against the table of 65536 bytes (encoding) and of 256 samples.
fn companding(law: Law) {
    let pcm: Vec<i16> = (0..160).map(|n| i16::try_from(n * n * 7 % 30_000).unwrap_or(0) - 9_000).collect();
    let table: Vec<u8> = (0..=u16::MAX).map(|sample| law.encode(sample.cast_signed())).collect();
    let mut bytes = vec![0u8; 160];
    let mut by_table = vec![0u8; 160];
    let mut levels: Vec<_> = Cpu::available().into_iter().map(|cpu| (cpu, vec![0u8; 160])).collect();
    let mut contenders = vec![Contender::new("table", || {
        for (byte, sample) in black_box(&mut by_table).iter_mut().zip(black_box(&pcm)) {
            *byte = table[usize::from(sample.cast_unsigned())];
        }
    })];
    contenders.push(Contender::new("sample by sample", || {
        for (byte, sample) in black_box(&mut bytes).iter_mut().zip(black_box(&pcm)) {
            *byte = law.encode(*sample);
        }
    }));
    for (cpu, bytes) in &mut levels {
        contenders.push(Contender::new(cpu.name(), || {
            g711::encode(*cpu, law, black_box(&pcm), black_box(bytes));
        }));
    }
    race(&format!("{law:?}-law encode 160"), 1.0, contenders);

    let mut out = vec![0i16; 160];
    let mut levels: Vec<_> = Cpu::available().into_iter().map(|cpu| (cpu, vec![0i16; 160])).collect();
    let mut contenders = vec![Contender::new("table", || {
        for (sample, byte) in black_box(&mut out).iter_mut().zip(black_box(&bytes)) {
            *sample = law.decode(*byte);
        }
    })];
    for (cpu, pcm) in &mut levels {
        contenders.push(Contender::new(cpu.name(), || {
            g711::decode(*cpu, law, black_box(&bytes), black_box(pcm));
        }));
    }
    race(&format!("{law:?}-law decode 160"), 1.0, contenders);
}

/// Takes a block, writes to the front of the room and says how much.
type Resample<'a> = Box<dyn FnMut(&[i16], &mut [i16]) -> usize + 'a>;

/// A library's resampler and what ends it.
struct Peer {
    state: *mut c_void,
    process: unsafe extern "C" fn(*mut c_void, *const i16, i32, *mut i16, i32) -> i32,
    free: unsafe extern "C" fn(*mut c_void),
}

impl Peer {
    fn process(&mut self, pcm: &[i16], out: &mut [i16]) -> usize {
        let (len, room) = (i32::try_from(pcm.len()), i32::try_from(out.len()));
        let (len, room) = (len.expect("a block"), room.expect("a block"));
        // SAFETY: the state lives, and the lengths are those of the slices.
        let made = unsafe { (self.process)(self.state, pcm.as_ptr(), len, out.as_mut_ptr(), room) };
        usize::try_from(made).expect("samples")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: made by the library that ends it, and not used any more.
        unsafe { (self.free)(self.state) };
    }
}

/// 20 ms of mono; the signal-to-noise ratio is that of a sine at 0.3 of the lower rate.
fn resampling(from: i32, to: i32) {
    let rates = [from, to].map(|rate| u32::try_from(rate).expect("a rate"));
    // SAFETY: these take numbers only; both are ended by their `Peer`.
    let (swr, speex) = unsafe { (peer_swr_new(from, to), peer_speex_new(from, to, 3)) };
    assert!(!swr.is_null() && !speex.is_null());
    let mut swr = Peer { state: swr, process: peer_swr, free: peer_swr_free };
    let mut speex = Peer { state: speex, process: peer_speex, free: peer_speex_free };
    let mut ways: Vec<(&str, Resample<'_>)> = vec![
        ("swresample", Box::new(move |pcm, out| swr.process(pcm, out))),
        ("speexdsp q3", Box::new(move |pcm, out| speex.process(pcm, out))),
    ];
    for cpu in Cpu::available() {
        let mut ours = Resampler::new(rates[0], rates[1]).expect("two of our rates").on(cpu);
        ways.push((cpu.name(), Box::new(move |pcm, out| ours.process(pcm, out).expect("room"))));
    }
    let hz = 0.3 * f64::from(from.min(to));
    let step = TAU * hz / f64::from(from);
    #[allow(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    let tone: Vec<i16> = (0..from).map(|n| (16_000.0 * (step * f64::from(n)).sin()).round() as i16).collect();
    let block = tone.len() / 50;
    let contenders = ways.into_iter().map(|(name, mut way)| {
        let mut heard = Vec::new();
        let mut room = [0; 2 * 960];
        for pcm in tone.chunks_exact(block) {
            let made = way(pcm, &mut room);
            heard.extend_from_slice(&room[..made]);
        }
        let snr = sine_snr(&heard[heard.len() / 2..], TAU * hz / f64::from(to));
        let pcm = tone[..block].to_vec();
        Contender::new(format!("{name}, {snr:.0} dB"), move || {
            way(black_box(&pcm), black_box(&mut room));
        })
    });
    race(&format!("resample {from} to {to}"), 1.0, contenders.collect());
}

/// A sine of `step` radians a sample, of any phase, against everything else: least squares.
fn sine_snr(pcm: &[i16], step: f64) -> f64 {
    let (mut ss, mut cc, mut sc, mut xs, mut xc, mut xx) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, x) in pcm.iter().enumerate() {
        let ((s, c), x) = ((step * n as f64).sin_cos(), f64::from(*x));
        (ss, cc, sc, xs, xc, xx) = (ss + s * s, cc + c * c, sc + s * c, xs + x * s, xc + x * c, xx + x * x);
    }
    let det = ss * cc - sc * sc;
    let wanted = xs * (xs * cc - xc * sc) / det + xc * (xc * ss - xs * sc) / det;
    10.0 * (wanted / (xx - wanted)).log10()
}
