//! Resampling, 20 ms of mono at a time.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::resample::Resampler;

fn resample(criterion: &mut Criterion) {
    for (from, to) in [(8_000, 48_000), (16_000, 48_000), (48_000, 16_000), (48_000, 8_000), (8_000, 16_000)]
    {
        let pcm: Vec<i16> = (0..from / 50).map(|n| i16::try_from(n * 7_919 % 20_011).unwrap_or(0)).collect();
        let mut out = [0; 960];
        for cpu in Cpu::available() {
            let mut resampler = Resampler::new(from, to).expect("two of our rates").on(cpu);
            criterion.bench_function(&format!("resample/{from}-{to}/{}", cpu.name()), |bencher| {
                bencher.iter(|| resampler.process(black_box(&pcm), black_box(&mut out)));
            });
        }
    }
}

criterion_group!(benches, resample);
criterion_main!(benches);
