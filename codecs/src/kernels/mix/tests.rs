use proptest::collection::vec;
use proptest::prelude::*;

use super::gain::{amplify, gain_at};
use super::*;
use crate::audio::signals::noise;

/// The promise, in numbers that cannot overflow: everybody else, saturated once.
fn by_wide_sum(inputs: &[Vec<i16>], without: Option<usize>) -> Vec<i16> {
    let len = inputs.first().map_or(0, Vec::len);
    (0..len)
        .map(|at| {
            let others = inputs.iter().enumerate().filter(|(n, _)| Some(*n) != without);
            let sum: i64 = others.map(|(_, input)| i64::from(input[at])).sum();
            sum.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16
        })
        .collect()
}

fn check(inputs: &[Vec<i16>]) {
    let len = inputs.first().map_or(0, Vec::len);
    let expected: Vec<Vec<i16>> = (0..inputs.len()).map(|n| by_wide_sum(inputs, Some(n))).collect();
    let talking: Vec<usize> = (0..inputs.len()).rev().step_by(3).collect();
    for cpu in Cpu::available() {
        let mut outputs = vec![vec![1; len]; inputs.len()];
        minus_one(cpu, inputs, &mut outputs).unwrap();
        assert_eq!(outputs, expected, "{} of {len} by {cpu:?}", inputs.len());

        let mut private = vec![vec![1; len]; talking.len()];
        let mut shared = vec![1; len];
        talkers(cpu, inputs, &talking, &mut private, &mut shared).unwrap();
        assert_eq!(shared, by_wide_sum(inputs, None), "{cpu:?}");
        for (talker, private) in talking.iter().zip(private) {
            assert_eq!(private, expected[*talker], "talker {talker} by {cpu:?}");
        }

        let mut bus = Bus::new(cpu);
        bus.begin(len).unwrap();
        inputs.iter().for_each(|input| bus.add(input, Fade::NONE).unwrap());
        let mut out = vec![1; len];
        bus.all(&mut out).unwrap();
        assert_eq!(out, shared, "{cpu:?}");
        for (input, expected) in inputs.iter().zip(&expected) {
            bus.minus(input, Fade::NONE, &mut out).unwrap();
            assert_eq!(&out, expected, "{cpu:?}");
        }
    }
}

/// What no bus takes.
fn check_longer(inputs: &[Vec<i16>]) {
    for cpu in Cpu::available() {
        let mut outputs = vec![vec![1; inputs[0].len()]; inputs.len()];
        minus_one(cpu, inputs, &mut outputs).unwrap();
        for n in [0, 1, inputs.len() - 1] {
            assert_eq!(outputs[n], by_wide_sum(inputs, Some(n)), "{n} by {cpu:?}");
        }
    }
}

#[test]
fn gains_multiply_within_their_range() {
    let half = Gain::of(0.5);
    assert_eq!((Gain::ONE.times(half), half.times(half)), (half, Gain::of(0.25)));
    assert_eq!((Gain::ZERO.times(half), Gain::of(3.0).times(Gain::of(3.0))), (Gain::ZERO, Gain::of(9.0)));
}

#[test]
fn up_to_a_thousand_at_the_rails_are_exact() {
    for parties in [0, 1, 2, 3, 7, 50, 1_000] {
        check(&vec![vec![i16::MIN; 97]; parties]);
        check(&vec![vec![i16::MAX; 97]; parties]);
        // Half up, half down: the sum of all is small, that of the others is not.
        let split = |n: usize| if n.is_multiple_of(2) { i16::MAX } else { i16::MIN };
        check(&(0..parties).map(|n| vec![split(n); 49]).collect::<Vec<_>>());
        check(&(0..parties).map(|n| noise(n as u64 + 1, 32_767, 160)).collect::<Vec<_>>());
    }
    // Longer than a block, few and many.
    for parties in [3, MANY + 1] {
        check_longer(&(0..parties).map(|n| noise(n as u64 + 1, 32_767, 2 * BLOCK + 5)).collect::<Vec<_>>());
    }
}

#[test]
fn the_largest_mix_is_exact_and_one_more_is_refused() {
    let inputs = vec![[i16::MIN; 17]; MAX_INPUTS];
    let mut shared = [0; 17];
    for cpu in Cpu::available() {
        talkers(cpu, &inputs, &[0; 0], &mut [[0; 17]; 0], &mut shared).unwrap();
        assert_eq!(shared, [i16::MIN; 17]);
    }
    let mut outputs = vec![[0; 1]; MAX_INPUTS + 1];
    assert_eq!(minus_one(Cpu::detect(), &vec![[0; 1]; MAX_INPUTS + 1], &mut outputs), Err(TOO_MANY));

    let mut bus = Bus::new(Cpu::detect());
    bus.begin(1).unwrap();
    (0..MAX_INPUTS).for_each(|_| bus.add(&[i16::MIN], Fade::NONE).unwrap());
    assert_eq!(bus.add(&[0], Fade::NONE), Err(TOO_MANY));
    assert_eq!(bus.sum(), [i32::MIN]);
    // Four times as loud counts as four.
    bus.begin(1).unwrap();
    let loudest = Fade::steady(Gain::of(99.0));
    (0..MAX_INPUTS / 4).for_each(|_| bus.add(&[i16::MIN], loudest).unwrap());
    assert_eq!(bus.add(&[0], Fade::NONE), Err(TOO_MANY));
    assert!(bus.sum()[0] < i32::MIN + 40_000, "{}", bus.sum()[0]);
}

#[test]
fn slices_at_odd_places_are_mixed_alike() {
    let rows: Vec<Vec<i16>> = (0..5).map(|n| noise(n + 9, 32_767, 400)).collect();
    for (start, len) in [(1, 333), (3, 48), (7, 15), (13, 1)] {
        let inputs: Vec<&[i16]> = rows.iter().map(|row| &row[start..start + len]).collect();
        let owned: Vec<Vec<i16>> = inputs.iter().map(|row| row.to_vec()).collect();
        for cpu in Cpu::available() {
            let mut rooms = vec![vec![7; 400]; 5];
            let mut outputs: Vec<&mut [i16]> =
                rooms.iter_mut().map(|room| &mut room[start..start + len]).collect();
            minus_one(cpu, &inputs, &mut outputs).unwrap();
            for (n, room) in rooms.iter().enumerate() {
                assert_eq!(room[start..start + len], by_wide_sum(&owned, Some(n)), "{cpu:?}");
                let outside = room[..start].iter().chain(&room[start + len..]);
                assert!(outside.copied().all(|sample| sample == 7), "{cpu:?} wrote beyond its output");
            }
        }
    }
}

#[test]
fn blocks_that_do_not_match_are_refused() {
    let cpu = Cpu::detect();
    assert_eq!(minus_one(cpu, &[[0; 4]], &mut [[0; 4]; 2]), Err(UNEQUAL));
    assert_eq!(minus_one(cpu, &[[0; 4]], &mut [[0; 5]]), Err(UNEQUAL));
    assert_eq!(minus_one(cpu, &[&[0; 4][..], &[0; 5]], &mut [[0; 4]; 2]), Err(UNEQUAL));
    assert_eq!(talkers(cpu, &[[0; 4]], &[1], &mut [[0; 4]], &mut [0; 4]), Err(UNEQUAL));
    assert_eq!(talkers(cpu, &[[0; 4]], &[0], &mut [[0; 4]], &mut [0; 3]), Err(UNEQUAL));
    let mut bus = Bus::new(cpu);
    assert!(bus.begin(BLOCK + 1).is_err());
    bus.begin(3).unwrap();
    assert_eq!(bus.add(&[0; 2], Fade::NONE), Err(UNEQUAL));
    assert_eq!(bus.all(&mut [0; 4]), Err(UNEQUAL));
    assert_eq!(bus.minus(&[0; 3], Fade::NONE, &mut [0; 4]), Err(UNEQUAL));
    assert_eq!(bus.minus_wide(&[0; 3], Fade::NONE, &mut [0; 4]), Err(UNEQUAL));
}

#[test]
fn known_gains() {
    let half = Gain::of(0.5);
    assert_eq!(Gain::of(1.0), Gain::ONE);
    assert_eq!(Gain::of(f32::NAN), Gain::ZERO);
    assert_eq!((Gain::of(-1.0), Gain::of(1e9)), (Gain::ZERO, Gain::of(3.999_99)));
    let gained = |sample, gain: Gain| amplify(sample, gain_at(gain, 0, 0));
    for sample in i16::MIN..=i16::MAX {
        assert_eq!(gained(sample, Gain::ONE), i32::from(sample));
        assert_eq!(gained(sample, Gain::ZERO), 0);
    }
    assert_eq!((gained(3, half), gained(-3, half), gained(-4, half)), (2, -1, -2));
}

#[test]
fn a_fade_moves_in_small_steps_and_ends_where_it_says() {
    for (from, to) in [(0.0, 1.0), (1.0, 0.0), (0.3, 3.9), (4.0, 0.0), (1.0, 1.0)] {
        let fade = Fade { from: Gain::of(from), to: Gain::of(to) };
        for len in [1, 7, 160, 320, 960] {
            let step = fade.step(len);
            let gains: Vec<i32> = (0..len as i32).map(|n| gain_at(fade.from, step, n)).collect();
            assert_eq!(gains.last(), Some(&gain_at(fade.to, 0, 0)), "{fade:?} over {len}");
            let most = (gain_at(fade.to, 0, 0) - gain_at(fade.from, 0, 0)).abs() / len as i32 + 1;
            let from = gain_at(fade.from, 0, 0);
            let before = std::iter::once(&from).chain(&gains);
            assert!(before.zip(&gains).all(|(a, b)| (a - b).abs() <= most), "{fade:?} over {len}");
        }
    }
}

fn gain() -> impl Strategy<Value = Gain> {
    prop_oneof![Just(Gain::ONE), Just(Gain::ZERO), (0f32..4.0).prop_map(Gain::of)]
}

proptest! {
    #[test]
    fn any_mix_is_the_wide_sum(len in 0usize..200, parties in 0usize..9, seed: u64) {
        let party = |n: usize| noise(seed.wrapping_add(n as u64 * 7_919), 32_767, len);
        check(&(0..parties).map(party).collect::<Vec<_>>());
    }

    #[test]
    fn every_level_fades_as_the_plain_code_does(
        blocks in (1usize..=BLOCK).prop_flat_map(|len| vec(vec(any::<i16>(), len), 1..4)),
        (from, to) in (gain(), gain()),
    ) {
        let fade = Fade { from, to };
        let len = blocks[0].len();
        let faded = |n: usize, sample: i16| amplify(sample, gain_at(from, fade.step(len), n as i32));
        let total = |n: usize| blocks.iter().map(|block| faded(n, block[n])).sum::<i32>();
        for cpu in Cpu::available() {
            let mut bus = Bus::new(cpu);
            bus.begin(len).unwrap();
            blocks.iter().for_each(|block| bus.add(block, fade).unwrap());
            let sum: Vec<i32> = (0..len).map(total).collect();
            prop_assert_eq!(bus.sum(), &sum[..], "{:?}", cpu);
            let (mut out, mut wide) = (vec![0; len], vec![0; len]);
            bus.minus(&blocks[0], fade, &mut out).unwrap();
            bus.minus_wide(&blocks[0], fade, &mut wide).unwrap();
            for n in 0..len {
                let rest = sum[n] - faded(n, blocks[0][n]);
                prop_assert_eq!((out[n], wide[n]), (saturate(rest), rest), "{:?}", cpu);
            }
        }
    }
}
