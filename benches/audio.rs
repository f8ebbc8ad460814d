//! The audio codecs, one packet of 20 ms each. Figures are of one thread.

use std::f64::consts::TAU;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use crosspoint_codecs::audio::g711::Law;
use crosspoint_codecs::codec::AudioTuning;
use crosspoint_codecs::format::{AudioFormat, Codec};
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::g711;
use crosspoint_codecs::registry::Registry;

/// One second that resembles a voice: harmonics of 140 Hz that swell and fade.
fn voice(rate: u32) -> Vec<i16> {
    (0..rate)
        .map(|n| {
            let t = f64::from(n) / f64::from(rate);
            let swell = 0.6 + 0.4 * (TAU * 4.0 * t).sin();
            let sum: f64 = (1..20).map(|k| (TAU * 140.0 * f64::from(k) * t).sin() / f64::from(k)).sum();
            #[allow(clippy::cast_possible_truncation, reason = "a float cast saturates")]
            let sample = (8_000.0 * swell * sum) as i16;
            sample
        })
        .collect()
}

fn codecs(criterion: &mut Criterion) {
    let registry = Registry::built_in();
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        let format = AudioFormat::new(codec);
        let mut encoder = registry.audio_encoder(&format).expect("an encoder");
        let tuning =
            AudioTuning { bitrate: Some(24_000), loss_percent: 10, fec: true, ..AudioTuning::of(&format) };
        encoder.tune(tuning).expect("a tuning");
        let signal = voice(codec.sample_rate());
        let frame = signal.len() / 50;
        let mut packets = Vec::new();
        let mut out = [0; 1_500];
        for pcm in signal.chunks_exact(frame) {
            let len = encoder.encode(pcm, &mut out).expect("a packet");
            packets.push(out[..len].to_vec());
        }
        let mut next = signal.chunks_exact(frame).cycle();
        criterion.bench_function(&format!("{codec}/encode"), |bencher| {
            bencher.iter(|| encoder.encode(next.next().expect("endless"), black_box(&mut out)));
        });
        let mut decoder = registry.audio_decoder(&format).expect("a decoder");
        let mut pcm = vec![0; frame];
        let mut next = packets.iter().cycle();
        criterion.bench_function(&format!("{codec}/decode"), |bencher| {
            bencher.iter(|| decoder.decode(next.next().expect("endless"), black_box(&mut pcm)));
        });
        criterion.bench_function(&format!("{codec}/conceal"), |bencher| {
            bencher.iter(|| {
                // One in two: a gap's first packet costs most.
                let _ = decoder.decode(next.next().expect("endless"), black_box(&mut pcm));
                decoder.conceal(black_box(&mut pcm));
            });
        });
    }
}

/// The kernels beneath G.711, by level, without the concealment that a decoder prepares.
fn companding(criterion: &mut Criterion) {
    let pcm = &voice(8_000)[..160];
    let (mut bytes, mut heard) = ([0; 160], [0; 160]);
    for law in [Law::Mu, Law::A] {
        for cpu in Cpu::available() {
            criterion.bench_function(&format!("G.711 {law:?}/encode/{}", cpu.name()), |bencher| {
                bencher.iter(|| g711::encode(cpu, law, black_box(pcm), black_box(&mut bytes)));
            });
            criterion.bench_function(&format!("G.711 {law:?}/decode/{}", cpu.name()), |bencher| {
                bencher.iter(|| g711::decode(cpu, law, black_box(&bytes), black_box(&mut heard)));
            });
        }
    }
}

criterion_group!(benches, codecs, companding);
criterion_main!(benches);
