//! The kernels and codecs of sound.

use std::hint::black_box;

use crosspoint_codecs::codec::{AudioTuning, CodecError};
use crosspoint_codecs::format::{AudioFormat, Codec};
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::mix::{BLOCK, Bus, Fade};
use crosspoint_codecs::kernels::resample::Resampler;
use crosspoint_codecs::registry::Registry;

use super::CapacityError;
use super::probe::Probe;
use super::signals::voice;

/// Bytes that a packet of sound has at most.
const PACKET: usize = 1_500;

/// As the engine does it with everybody talking: sum all, then take each out for himself.
pub(super) fn mixes() -> Vec<Probe> {
    let sizes = [("mix-10", 10u16), ("mix-50", 50), ("mix-200", 200)];
    let probe = |(key, parties): (&'static str, u16)| {
        let second = voice(48_000, 140.0);
        let blocks: Vec<Vec<i16>> =
            second.chunks_exact(BLOCK).cycle().take(parties.into()).map(<[i16]>::to_vec).collect();
        let mut bus = Bus::new(Cpu::detect());
        let mut out = [0; BLOCK];
        let what = format!("mix of {parties} at 48 kHz, each without himself");
        Probe::timed(key, what, "party and tick", parties.into(), move || {
            let _ = bus.begin(BLOCK);
            for block in &blocks {
                let _ = bus.add(block, Fade::NONE);
            }
            for block in &blocks {
                let _ = bus.minus(block, Fade::NONE, black_box(&mut out));
            }
        })
    };
    sizes.into_iter().map(probe).collect()
}

/// Encoding and decoding, 20 ms at a time.
pub(super) fn codecs() -> Result<Vec<Probe>, CapacityError> {
    let registry = Registry::built_in();
    let mut probes = Vec::new();
    for (codec, encode, decode) in [
        (Codec::Pcmu, "pcmu-encode", "pcmu-decode"),
        (Codec::G722, "g722-encode", "g722-decode"),
        (Codec::Opus, "opus-encode", "opus-decode"),
    ] {
        let format = AudioFormat::new(codec);
        let mut encoder = registry.audio_encoder(&format)?;
        encoder.tune(AudioTuning {
            bitrate: Some(32_000),
            loss_percent: 0,
            fec: false,
            dtx: false,
            source_rate: None,
        })?;
        let signal = voice(encoder.sample_rate(), 140.0);
        let tick = signal.len() / 50;
        let packets = packets(|pcm, out| encoder.encode(pcm, out), &signal)?;
        let mut at = 0;
        probes.push(Probe::timed(encode, format!("{codec} encode"), "frame of 20 ms", 1.0, move || {
            let mut out = [0; PACKET];
            let _ = encoder.encode(&signal[at * tick..(at + 1) * tick], black_box(&mut out));
            at = (at + 1) % 50;
        }));
        let mut decoder = registry.audio_decoder(&format)?;
        let mut at = 0;
        probes.push(Probe::timed(decode, format!("{codec} decode"), "frame of 20 ms", 1.0, move || {
            let mut out = [0; BLOCK];
            let _ = decoder.decode(&packets[at], black_box(&mut out));
            at = (at + 1) % packets.len();
        }));
    }
    Ok(probes)
}

/// A second of sound as 50 packets.
pub(super) fn packets(
    mut encode: impl FnMut(&[i16], &mut [u8]) -> Result<usize, CodecError>,
    signal: &[i16],
) -> Result<Vec<Vec<u8>>, CapacityError> {
    let mut packets = Vec::new();
    for pcm in signal.chunks_exact(signal.len() / 50) {
        let mut out = [0; PACKET];
        let len = encode(pcm, &mut out)?;
        packets.push(out[..len].to_vec());
    }
    Ok(packets)
}

/// 20 ms at a time, the pairs that calls need.
pub(super) fn resamplers() -> Result<Vec<Probe>, CapacityError> {
    let mut probes = Vec::new();
    for (key, from, to) in [
        ("resample-8-48", 8_000, 48_000),
        ("resample-48-8", 48_000, 8_000),
        ("resample-16-48", 16_000, 48_000),
        ("resample-48-16", 48_000, 16_000),
    ] {
        let mut resampler = Resampler::new(from, to)?;
        let mut pcm = voice(from, 140.0);
        pcm.truncate(pcm.len() / 50);
        let what = format!("resample {} to {} kHz", from / 1_000, to / 1_000);
        probes.push(Probe::timed(key, what, "block of 20 ms", 1.0, move || {
            let mut out = [0; BLOCK];
            let _ = resampler.process(&pcm, black_box(&mut out));
        }));
    }
    Ok(probes)
}
