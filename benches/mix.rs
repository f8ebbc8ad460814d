//! The mixer: 20 ms of 48 kHz mono. Figures are of one tick of all parties on one thread.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::level::Loudness;
use crosspoint_codecs::kernels::limit::Limiter;
use crosspoint_codecs::kernels::mix::{BLOCK, Bus, Fade, Gain, minus_one, talkers};

fn voices(parties: usize) -> Vec<[i16; BLOCK]> {
    let sample = |n: usize| i16::try_from(n * 7_919 % 30_011).unwrap_or(0) - 15_000;
    (0..parties).map(|party| std::array::from_fn(|n| sample(party * 31 + n))).collect()
}

fn everybody(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mix/minus-one");
    for parties in [2, 10, 50, 200, 1_000] {
        let (inputs, mut outputs) = (voices(parties), vec![[0; BLOCK]; parties]);
        group.throughput(Throughput::Elements(u64::try_from(parties).unwrap_or(0)));
        for cpu in Cpu::available() {
            group.bench_function(BenchmarkId::new(cpu.name(), parties), |bencher| {
                bencher.iter(|| minus_one(cpu, black_box(&inputs), black_box(&mut outputs)));
            });
        }
    }
    group.finish();
}

fn three_of_fifty(criterion: &mut Criterion) {
    let inputs = voices(50);
    let (mut outputs, mut shared) = ([[0; BLOCK]; 3], [0; BLOCK]);
    for cpu in Cpu::available() {
        criterion.bench_function(&format!("mix/3 talkers of 50/{}", cpu.name()), |bencher| {
            bencher.iter(|| talkers(cpu, black_box(&inputs), &[0, 1, 2], &mut outputs, &mut shared));
        });
        // Who says nothing is not summed.
        criterion.bench_function(&format!("mix/3 talkers alone/{}", cpu.name()), |bencher| {
            bencher.iter(|| talkers(cpu, black_box(&inputs[..3]), &[0, 1, 2], &mut outputs, &mut shared));
        });
    }
}

fn bus(criterion: &mut Criterion) {
    let voice = voices(1)[0];
    let mut out = [0; BLOCK];
    for cpu in Cpu::available() {
        let mut bus = Bus::new(cpu);
        for (name, fade) in [("plain", Fade::NONE), ("fade", Fade { from: Gain::of(0.5), to: Gain::of(0.7) })]
        {
            criterion.bench_function(&format!("mix/bus, {name}/{}", cpu.name()), |bencher| {
                bencher.iter(|| {
                    bus.begin(BLOCK)?;
                    bus.add(black_box(&voice), fade)?;
                    bus.minus(&voice, fade, black_box(&mut out))
                });
            });
        }
        let mut limiter = Limiter::new(cpu, 48_000).expect("a rate");
        let sums: Vec<i32> = voice.iter().map(|sample| i32::from(*sample) * 5).collect();
        criterion.bench_function(&format!("mix/limit/{}", cpu.name()), |bencher| {
            bencher.iter(|| limiter.process(black_box(&sums), black_box(&mut out)));
        });
        criterion.bench_function(&format!("mix/loudness/{}", cpu.name()), |bencher| {
            bencher.iter(|| Loudness::of(cpu, black_box(&voice)));
        });
    }
}

criterion_group!(benches, everybody, three_of_fifty, bus);
criterion_main!(benches);
