use super::*;
use crate::audio::saturate;
use crate::audio::signals::{energy, noise, tone};

fn run(from: u32, to: u32, signal: &[i16], frame: usize) -> Vec<i16> {
    let mut resampler = Resampler::new(from, to).unwrap();
    let mut out = Vec::new();
    for pcm in signal.chunks(frame) {
        let mut room = vec![0; resampler.output_len(pcm.len())];
        let written = resampler.process(pcm, &mut room).unwrap();
        assert_eq!(written, room.len());
        out.extend(room);
    }
    out
}

fn pairs() -> impl Iterator<Item = (u32, u32)> {
    RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to)))
}

/// Signal to everything else, for a sine of `hz` with a free phase: least squares.
fn sine_snr(pcm: &[i16], rate: u32, hz: f64) -> f64 {
    let step = std::f64::consts::TAU * hz / f64::from(rate);
    let (mut ss, mut cc, mut sc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, x) in pcm.iter().enumerate() {
        let (s, c) = (step * n as f64).sin_cos();
        let x = f64::from(*x);
        (ss, cc, sc, xs, xc) = (ss + s * s, cc + c * c, sc + s * c, xs + x * s, xc + x * c);
    }
    let det = ss * cc - sc * sc;
    let (a, b) = ((xs * cc - xc * sc) / det, (xc * ss - xs * sc) / det);
    let wanted = a * xs + b * xc;
    10.0 * (wanted / (energy(pcm) - wanted).max(1e-6)).log10()
}

#[test]
fn one_that_adopts_another_goes_on_alike() {
    for (from, to) in pairs() {
        let (size, signal) = (from as usize / 50, noise(7, 20_000, from as usize / 10));
        let (mut one, mut other) = (Resampler::new(from, to).unwrap(), Resampler::new(from, to).unwrap());
        let mut rooms = [[0; 960]; 2];
        one.process(&signal[..size], &mut rooms[0]).unwrap();
        other.adopt(&one);
        for pcm in signal[size..].chunks_exact(size) {
            one.process(pcm, &mut rooms[0]).unwrap();
            other.process(pcm, &mut rooms[1]).unwrap();
            assert_eq!(rooms[0], rooms[1], "{from} to {to}");
        }
    }
}

#[test]
fn tones_of_the_band_stay_pure_and_level() {
    for (from, to) in pairs() {
        let low = f64::from(from.min(to));
        for part in [0.04, 0.13, 0.3, 0.4] {
            let hz = low * part;
            let signal = tone(from, hz, 16_000.0, from as usize / 2);
            let out = run(from, to, &signal, from as usize / 50);
            let steady = &out[out.len() / 5..];
            let snr = sine_snr(steady, to, hz);
            assert!(snr >= 60.0, "{from} to {to}, {hz} Hz: {snr:.1} dB");
            let level = 10.0 * (energy(steady) / steady.len() as f64 / (16_000f64.powi(2) / 2.0)).log10();
            assert!(level.abs() < 0.1, "{from} to {to}, {hz} Hz: {level:.2} dB");
        }
    }
}

#[test]
fn images_above_the_old_band_are_lost_in_the_rounding_of_samples() {
    for (from, to) in pairs().filter(|(from, to)| from < to && to.is_multiple_of(*from)) {
        for part in [0.04, 0.13, 0.3, 0.4] {
            let hz = f64::from(from) * part;
            let out = run(from, to, &tone(from, hz, 16_000.0, from as usize / 2), from as usize / 50);
            let snr = sine_snr(&out[out.len() / 5..], to, hz);
            assert!(snr >= 80.0, "{from} to {to}, {hz} Hz: {snr:.1} dB");
        }
    }
}

#[test]
fn what_the_lower_rate_cannot_carry_is_gone() {
    for (from, to) in pairs().filter(|(from, to)| from > to) {
        for part in [0.535, 0.6, 0.75, 1.1, 1.7] {
            let hz = f64::from(to) * part;
            if hz > f64::from(from) * 0.49 {
                continue;
            }
            let signal = tone(from, hz, 30_000.0, from as usize / 2);
            let out = run(from, to, &signal, from as usize / 50);
            let steady = &out[out.len() / 5..];
            let left = 10.0 * (energy(steady) / steady.len() as f64 / (30_000f64.powi(2) / 2.0)).log10();
            assert!(left <= -60.0, "{from} to {to}, {hz} Hz: {left:.1} dB");
        }
    }
}

/// The specification: every output by plain sums.
fn by_sums(from: u32, to: u32, signal: &[i16]) -> Vec<i16> {
    let it = Resampler::new(from, to).unwrap();
    // Coarse and fine coefficients of each phase, and the binary point of the coarse.
    let (rows, shift): (Vec<[Vec<i16>; 2]>, u32) = match &it.filter {
        Filter::Raise(raise) => ((0..it.up).map(|phase| raise.row(phase)).collect(), raise.shift()),
        Filter::Step(step) => {
            let rows = step.coefficients.chunks(it.taps);
            (rows.map(|row| [row.to_vec(), vec![0; it.taps]]).collect(), step.shift)
        }
    };
    let mut line = vec![0i16; it.taps - 1];
    line.extend(signal);
    let (mut at, mut phase, mut out) = (0, 0, Vec::new());
    while at + it.taps <= line.len() {
        let window = &line[at..];
        let [coarse, fine] = rows[phase]
            .each_ref()
            .map(|row| -> i32 { row.iter().zip(window).map(|(c, x)| i32::from(*c) * i32::from(*x)).sum() });
        out.push(saturate((coarse + (fine >> raise::FINE) + (1 << (shift - 1))) >> shift));
        phase += it.down;
        (at, phase) = (at + phase / it.up, phase % it.up);
    }
    out
}

#[test]
fn every_level_is_the_plain_sum() {
    for (from, to) in pairs().filter(|(from, to)| from != to) {
        let signal = noise(5, 32_767, 3_333);
        let expected = by_sums(from, to, &signal);
        for cpu in Cpu::available() {
            let mut resampler = Resampler::new(from, to).unwrap().on(cpu);
            let mut out = vec![0; resampler.output_len(signal.len())];
            resampler.process(&signal, &mut out).unwrap();
            assert_eq!(out, expected, "{from} to {to} by {cpu:?}");
        }
    }
}

#[test]
fn cuts_do_not_show() {
    for (from, to) in pairs() {
        let signal = noise(3, 30_000, 5_000);
        let whole = run(from, to, &signal, 5_000);
        for frame in [1, 7, 80, 333, 961] {
            assert_eq!(run(from, to, &signal, frame), whole, "{from} to {to} in {frame}");
        }
    }
}

#[test]
fn frames_keep_their_duration_and_the_delay_is_as_told() {
    for (from, to) in pairs() {
        let mut resampler = Resampler::new(from, to).unwrap();
        let (frame, expected) = (from as usize / 50, to as usize / 50);
        for _ in 0..5 {
            assert_eq!(resampler.output_len(frame), expected);
            assert_eq!(resampler.process(&vec![0; frame], &mut vec![0; expected]), Ok(expected));
        }
        resampler.reset();
        let mut click = vec![0; frame];
        click[0] = 30_000;
        let mut out = vec![0; expected];
        resampler.process(&click, &mut out).unwrap();
        let loudest = (0..expected).max_by_key(|n| out[*n].unsigned_abs()).unwrap();
        let seconds = loudest as f64 / f64::from(to);
        let told = resampler.delay().as_secs_f64();
        assert!((seconds - told).abs() <= 1.0 / f64::from(from.min(to)), "{from} to {to}: {seconds} {told}");
        assert!(told <= 0.003, "{from} to {to}: {told}");
    }
}

#[test]
fn the_loudest_input_saturates_instead_of_wrapping() {
    for (from, to) in pairs() {
        let mut signal = vec![i16::MAX; 2_000];
        signal.extend(vec![i16::MIN; 2_000]);
        let out = run(from, to, &signal, 4_000);
        let (half, edge) = (out.len() / 2, to as usize / 100);
        assert!(out[edge..half - edge].iter().all(|s| *s > 30_000), "{from} to {to}");
        assert!(out[half + edge..].iter().all(|s| *s < -30_000), "{from} to {to}");
    }
}

#[test]
fn a_short_room_takes_nothing() {
    let mut resampler = Resampler::new(8_000, 48_000).unwrap();
    let fresh = resampler.clone();
    assert_eq!(resampler.process(&[1; 160], &mut [0; 959]), Err(CodecError::Room { needed: 960, room: 959 }));
    assert_eq!((resampler.held, resampler.next), (fresh.held, fresh.next));
    assert!(Resampler::new(44_100, 48_000).is_err());
}
