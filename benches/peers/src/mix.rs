//! The mixer against plain C.

use std::hint::black_box;

use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::mix::{Bus, Fade, minus_one, talkers};

use crate::race::{Contender, race};

const FRAME: usize = 960;

unsafe extern "C" {
    fn plain_minus_one(inputs: *const i16, outputs: *mut i16, sum: *mut i32, parties: i32);
    fn plain_talkers(
        inputs: *const i16,
        outputs: *mut i16,
        shared: *mut i16,
        sum: *mut i32,
        parties: i32,
        talkers: i32,
    );
}

pub fn run() {
    for parties in [2, 10, 50, 200, 1_000] {
        everybody(parties);
    }
    for parties in [3, 50] {
        three_talkers(parties);
    }
}

fn voices(parties: usize) -> Vec<[i16; FRAME]> {
    let sample = |n: usize| i16::try_from(n * 7_919 % 60_001).map_or(-7_000, |sample| sample - 15_000);
    (0..parties).map(|party| std::array::from_fn(|n| sample(party * 31 + n))).collect()
}

fn everybody(parties: usize) {
    let inputs = voices(parties);
    let count = i32::try_from(parties).expect("a small number");
    let (mut by_c, mut sum) = (vec![[0; FRAME]; parties], [0; FRAME]);
    let (inputs_of_c, outputs_of_c) = (inputs.as_ptr().cast(), by_c.as_mut_ptr().cast());
    let mut rooms: Vec<_> =
        Cpu::available().into_iter().map(|cpu| (cpu, vec![[0i16; FRAME]; parties])).collect();
    let slices: Vec<&[i16]> = inputs.iter().map(|block| &block[..]).collect();
    let mut one = [0; FRAME];
    let mut bus = Box::new(Bus::new(Cpu::detect()));
    let mut contenders = vec![Contender::new("C -O3 -march=native", || {
        // SAFETY: both point at `parties` blocks of FRAME samples, and `sum` at one.
        unsafe { plain_minus_one(black_box(inputs_of_c), outputs_of_c, sum.as_mut_ptr(), count) };
    })];
    for (cpu, outputs) in &mut rooms {
        let (cpu, inputs) = (*cpu, &inputs);
        contenders.push(Contender::new(cpu.name(), move || {
            minus_one(cpu, black_box(inputs), black_box(outputs)).expect("blocks that match");
        }));
    }
    contenders.push(Contender::new("bus", || {
        bus.begin(FRAME).expect("a block");
        for block in black_box(&slices) {
            bus.add(block, Fade::NONE).expect("room");
        }
        for block in &slices {
            bus.minus(block, Fade::NONE, black_box(&mut one)).expect("a block");
        }
    }));
    race(&format!("minus-one of {parties}, a party"), parties as f64, contenders);
    for (cpu, outputs) in &rooms {
        assert!(*outputs == by_c, "{cpu:?} differs from C");
    }
}

fn three_talkers(parties: usize) {
    let inputs = voices(parties);
    let count = i32::try_from(parties).expect("a small number");
    let (mut by_c, mut shared_c, mut sum) = ([[0; FRAME]; 3], [0i16; FRAME], [0; FRAME]);
    let mut contenders = vec![Contender::new("C -O3 -march=native", || {
        // SAFETY: `parties` and three blocks of FRAME samples, and two single ones.
        unsafe {
            plain_talkers(
                black_box(inputs.as_ptr().cast()),
                by_c.as_mut_ptr().cast(),
                shared_c.as_mut_ptr(),
                sum.as_mut_ptr(),
                count,
                3,
            );
        };
    })];
    for cpu in Cpu::available() {
        let (inputs, mut outputs, mut shared) = (&inputs, [[0i16; FRAME]; 3], [0; FRAME]);
        contenders.push(Contender::new(cpu.name(), move || {
            talkers(cpu, black_box(inputs), &[0, 1, 2], black_box(&mut outputs), &mut shared)
                .expect("blocks that match");
        }));
    }
    race(&format!("three of {parties} and the rest"), 1.0, contenders);
}
