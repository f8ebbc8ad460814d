use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::audio::signals::{noise, tone, voice};

/// What brings every part of the arithmetic to its limits: full scale, silence, steps, and what swells
/// until everything saturates.
fn signals() -> Vec<Vec<i16>> {
    let square = |half: usize, high: i16, low: i16| {
        (0..16_000).map(|n| if usize::is_multiple_of(n / half, 2) { high } else { low }).collect::<Vec<i16>>()
    };
    vec![
        voice(16_000, 140.0, 16_000),
        noise(7, 32_767, 48_000),
        noise(8, 3, 16_000),
        tone(16_000, 1_000.0, 32_767.0, 16_000),
        tone(16_000, 7_900.0, 32_767.0, 16_000),
        square(37, i16::MAX, i16::MIN),
        square(4_000, i16::MAX, i16::MIN),
        square(1, i16::MAX, i16::MIN),
        square(3_000, 0, 9_000),
        [vec![0; 1_600], vec![i16::MIN; 8_000], vec![0; 8_000], vec![i16::MAX; 1_600]].concat(),
    ]
}

#[test]
fn every_level_encodes_like_the_plain_code() {
    for cpu in Cpu::available() {
        for (n, signal) in signals().iter().enumerate() {
            // Lengths that are no whole number of vectors, and one longer than a block.
            for len in [320, 6, 354, 2] {
                let (mut plain, mut coder) = (plain::Encoder::new(), Coder::new());
                for frame in signal.chunks(len) {
                    let (mut expected, mut got) = (vec![0; frame.len() / 2], vec![0; frame.len() / 2]);
                    plain.encode(frame, &mut expected);
                    coder.encode(cpu, frame, &mut got);
                    assert_eq!(got, expected, "signal {n} at {cpu:?}");
                }
            }
        }
    }
}

/// The same bytes to both, in packets of each length.
fn decodes_alike(bytes: &[u8], lens: &[usize]) {
    for cpu in Cpu::available() {
        for len in lens {
            let (mut plain, mut coder) = (plain::Decoder::new(), Coder::new());
            for packet in bytes.chunks(*len) {
                let (mut expected, mut got) = (vec![0; 2 * packet.len()], vec![0; 2 * packet.len()]);
                plain.decode(packet, &mut expected);
                coder.decode(cpu, packet, &mut got);
                assert_eq!(got, expected, "{cpu:?}");
            }
        }
    }
}

#[test]
fn every_level_decodes_any_bytes_like_the_plain_code() {
    let random: Vec<u8> = noise(9, 32_767, 40_000).iter().map(|sample| sample.to_le_bytes()[0]).collect();
    decodes_alike(&random, &[160, 333, 7, 1]);
    // Each value for long enough that all that adapts comes to rest, and so each after another.
    for byte in 0..=u8::MAX {
        let other = byte.wrapping_mul(89).wrapping_add(4);
        decodes_alike(&[[byte; 600], [other; 600], [byte; 600]].concat(), &[160]);
    }
    // What drives zeros to their limits: the largest differences of one sign, and of either in turns.
    decodes_alike(&[0x84; 12_000], &[160]);
    decodes_alike(&[0xa0, 0x04].repeat(6_000), &[160]);
    decodes_alike(&[[0x20; 50], [0x04; 50]].concat().repeat(120), &[160]);
}

proptest! {
    #[test]
    fn every_level_is_the_plain_code(pcm in vec(any::<i16>(), 0..700), loud in 0..16, bytes in vec(any::<u8>(), 0..400)) {
        let pcm: Vec<i16> = pcm.iter().map(|sample| sample >> loud).collect();
        let pcm = &pcm[..pcm.len() & !1];
        let mut expected = vec![0; pcm.len() / 2];
        plain::Encoder::new().encode(pcm, &mut expected);
        let mut sound = vec![0; 2 * bytes.len()];
        plain::Decoder::new().decode(&bytes, &mut sound);
        for cpu in Cpu::available() {
            let mut got = vec![0; expected.len()];
            Coder::new().encode(cpu, pcm, &mut got);
            prop_assert_eq!(&got, &expected, "{:?}", cpu);
            let mut heard = vec![0; sound.len()];
            Coder::new().decode(cpu, &bytes, &mut heard);
            prop_assert_eq!(&heard, &sound, "{:?}", cpu);
        }
    }
}
