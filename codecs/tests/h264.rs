//! The H.264 encoder and decoder together, on a synthetic moving picture.
#![cfg(feature = "h264")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unwrap_used,
    reason = "a test of numbers that it chose itself"
)]

use std::time::Duration;

use crosspoint_codecs::codec::{CodecError, Decoded, VideoDecoder, VideoEncoder, VideoEncoding};
use crosspoint_codecs::format::{H264Profile, LEVEL_1B};
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::video::h264::{Decoder, Encoder};
use crosspoint_codecs::video::nal::{kind, kind_of, nal_units};
use crosspoint_codecs::video::sps::Sps;

const SIZE: (usize, usize) = (640, 360);

fn encoding(bitrate: u32) -> VideoEncoding {
    VideoEncoding {
        bitrate,
        frame_rate: 30.0,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        max_nal: None,
        sharp: false,
    }
}

fn pool(size: (usize, usize)) -> Pool {
    Pool::new(4, VideoFrame::bytes(size.0, size.1))
}

/// A textured background that drifts, and a bright square that moves across it.
fn picture(pool: &Pool, size: (usize, usize), n: usize) -> VideoFrame {
    VideoFrame::new(pool, size.0, size.1, |planes| {
        let wave = |x: usize| ((x as f32 / 9.0).sin() * 40.0) as i32;
        for (at, y) in planes.y.iter_mut().enumerate() {
            let (column, line) = (at % size.0 + n, at / size.0 + n / 2);
            *y = (110 + wave(column) + wave(line) + (column * line % 7) as i32) as u8;
        }
        let (left, top) = (n * 5 % (size.0 - size.0 / 8), n * 3 % (size.1 - size.1 / 8));
        for line in planes.y.chunks_exact_mut(size.0).skip(top).take(size.1 / 8) {
            line[left..left + size.0 / 8].fill(230);
        }
        planes.u.fill(100 + (n % 50) as u8);
        planes.v.fill(150);
    })
    .unwrap()
}

fn noise(pool: &Pool, size: (usize, usize), seed: u64) -> VideoFrame {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    VideoFrame::new(pool, size.0, size.1, |planes| {
        planes.y.iter_mut().chain(planes.u).chain(planes.v).for_each(|pixel| *pixel = next());
    })
    .unwrap()
}

fn psnr(a: &VideoFrame, b: &VideoFrame) -> f64 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let wrong: f64 = a.y().iter().zip(b.y()).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.y().len() as f64 / wrong.max(1.0)).log10()
}

fn at(n: usize) -> Duration {
    Duration::from_secs(n as u64) / 30
}

/// `count` pictures as access units; empty where the rate control skipped.
fn encode(encoder: &mut Encoder, size: (usize, usize), from: usize, count: usize) -> Vec<Vec<u8>> {
    let pool = pool(size);
    let mut out = vec![0; 1 << 20];
    (from..from + count)
        .map(|n| {
            let encoded = encoder.encode(&picture(&pool, size, n), at(n), &mut out).unwrap();
            out[..encoded.len].to_vec()
        })
        .collect()
}

fn kinds(unit: &[u8]) -> Vec<u8> {
    nal_units(unit).map(kind_of).collect()
}

#[test]
fn pictures_come_back_and_keyframes_bring_their_parameter_sets() {
    let (source, shown) = (pool(SIZE), pool(SIZE));
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    let mut decoder = Decoder::new(shown);
    let (mut worst, mut seen) = (f64::INFINITY, 0);
    let mut out = vec![0; 1 << 20];
    for n in 0..90 {
        let frame = picture(&source, SIZE, n);
        let encoded = encoder.encode(&frame, at(n), &mut out).unwrap();
        if encoded.len == 0 {
            continue;
        }
        let unit = &out[..encoded.len];
        assert_eq!(unit[..4], [0, 0, 0, 1]);
        assert_eq!(encoded.keyframe, n == 0);
        let kinds = kinds(unit);
        if n == 0 {
            assert_eq!(kinds, [kind::SPS, kind::PPS, kind::IDR]);
        } else {
            assert_eq!(kinds, [kind::SLICE]);
        }
        let codes = unit.windows(3).filter(|code| *code == [0, 0, 1]).count();
        assert_eq!(unit.windows(4).filter(|code| *code == [0, 0, 0, 1]).count(), codes);
        match decoder.decode(unit).unwrap() {
            Decoded::Picture { frame: got, concealed } => {
                assert!(!concealed);
                worst = worst.min(psnr(&frame, &got));
                seen += 1;
            }
            Decoded::Nothing => panic!("no picture for {n}"),
        }
    }
    assert!(seen >= 85, "{seen} of 90 pictures");
    assert!(worst >= 30.0, "{worst:.1} dB");
    let sps = decoder.sps().unwrap();
    assert_eq!((sps.shown, sps.profile()), (SIZE, Some((H264Profile::ConstrainedBaseline, 31))));
}

#[test]
fn the_rate_is_kept_and_changes_while_it_runs() {
    let mut encoder = Encoder::new(encoding(400_000)).unwrap();
    let bits = |units: &[Vec<u8>]| units.iter().map(|unit| unit.len() * 8).sum::<usize>() as f64;
    // The first second is the keyframe's.
    encode(&mut encoder, SIZE, 0, 30);
    let mut next = 30;
    for rate in [400_000, 1_000_000, 250_000] {
        encoder.tune(encoding(rate)).unwrap();
        let units = encode(&mut encoder, SIZE, next, 180);
        assert!(
            units.iter().all(|unit| !kinds(unit).contains(&kind::IDR)),
            "a rate change needs no keyframe"
        );
        let share = bits(&units[30..]) / 5.0 / f64::from(rate);
        assert!((0.85..=1.15).contains(&share), "{rate}: {share:.2} of it");
        next += 180;
    }
}

#[test]
fn fewer_pictures_than_told_get_all_of_the_rate() {
    let source = pool(SIZE);
    let mut encoder = Encoder::new(encoding(400_000)).unwrap();
    let mut out = vec![0; 1 << 20];
    let mut bits = 0;
    for n in 0..150 {
        let encoded = encoder
            .encode(&picture(&source, SIZE, n), Duration::from_millis(100) * n as u32, &mut out)
            .unwrap();
        if n >= 50 {
            bits += encoded.len * 8;
        }
    }
    let share = bits as f64 / 10.0 / 400_000.0;
    assert!((0.85..=1.15).contains(&share), "{share:.2} of the rate at 10 pictures a second");
}

#[test]
fn more_pictures_than_told_are_skipped() {
    let source = pool(SIZE);
    let mut encoder = Encoder::new(VideoEncoding { frame_rate: 15.0, ..encoding(2_000_000) }).unwrap();
    let mut out = vec![0; 1 << 20];
    let sent = (0..90)
        .filter(|n| encoder.encode(&picture(&source, SIZE, *n), at(*n), &mut out).unwrap().len > 0)
        .count();
    assert!((43..=46).contains(&sent), "{sent} of 90");
}

#[test]
fn a_clock_that_goes_back_stops_nothing() {
    let source = pool(SIZE);
    let mut encoder = Encoder::new(encoding(2_000_000)).unwrap();
    let mut out = vec![0; 1 << 20];
    let hour = Duration::from_secs(3_600);
    let times = (0..30).map(|n| hour + at(n)).chain((0..30).map(at)).chain((0..30).map(|n| 2 * hour + at(n)));
    let sent = times
        .enumerate()
        .filter(|(n, at)| encoder.encode(&picture(&source, SIZE, *n), *at, &mut out).unwrap().len > 0)
        .count();
    assert!(sent >= 85, "{sent} of 90");
}

#[test]
fn a_keyframe_comes_when_it_is_asked_for() {
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    encode(&mut encoder, SIZE, 0, 20);
    encoder.request_keyframe();
    let units = encode(&mut encoder, SIZE, 20, 10);
    let first = units.iter().find(|unit| !unit.is_empty()).unwrap();
    assert_eq!(kinds(first), [kind::SPS, kind::PPS, kind::IDR]);
    let keyframes = units.iter().filter(|unit| kinds(unit).contains(&kind::IDR)).count();
    assert_eq!(keyframes, 1);
    // A decoder can start there.
    let mut decoder = Decoder::new(pool(SIZE));
    assert!(matches!(decoder.decode(first), Ok(Decoded::Picture { concealed: false, .. })));
}

#[test]
fn every_nal_unit_fits_its_packet_even_of_noise() {
    for (max_nal, size, bitrate) in
        [(1_200, SIZE, 4_000_000), (1_200, (1280, 720), 8_000_000), (600, SIZE, 600_000)]
    {
        let source = pool(size);
        let mut encoder =
            Encoder::new(VideoEncoding { max_nal: Some(max_nal), ..encoding(bitrate) }).unwrap();
        let mut decoder = Decoder::new(pool(size));
        let mut out = vec![0; 4 << 20];
        let (mut largest, mut sent) = (0, 0);
        for n in 0..30 {
            let frame = if n % 10 == 7 { noise(&source, size, n as u64) } else { picture(&source, size, n) };
            let encoded = encoder.encode(&frame, at(n), &mut out).unwrap();
            let unit = &out[..encoded.len];
            largest = nal_units(unit).map(<[u8]>::len).max().unwrap_or(0).max(largest);
            if encoded.len > 0 {
                sent += 1;
                assert!(matches!(decoder.decode(unit), Ok(Decoded::Picture { concealed: false, .. })), "{n}");
            }
        }
        assert!(largest <= max_nal, "{largest} of {max_nal} bytes at {size:?}");
        assert!(largest > max_nal / 2, "{largest} of {max_nal} bytes");
        assert!(sent >= 5, "{sent} of 30 pictures at {size:?}");
    }
}

#[test]
fn limits_that_change_rebuild_with_a_keyframe() {
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    encode(&mut encoder, SIZE, 0, 5);
    encoder.tune(VideoEncoding { max_nal: Some(1_200), ..encoding(800_000) }).unwrap();
    let units = encode(&mut encoder, SIZE, 5, 3);
    assert!(kinds(&units[0]).contains(&kind::IDR));
    assert!(nal_units(&units[0]).all(|nal| nal.len() <= 1_200));
}

#[test]
fn the_level_is_the_receivers_and_larger_pictures_are_refused() {
    let sps = |level, size| {
        let mut encoder = Encoder::new(VideoEncoding { level, ..encoding(100_000) }).unwrap();
        let frame = picture(&pool(size), size, 0);
        let mut out = vec![0; 1 << 20];
        let encoded = encoder.encode(&frame, Duration::ZERO, &mut out)?;
        Ok(nal_units(&out[..encoded.len]).find_map(|nal| Sps::parse(nal).ok()).and_then(|sps| sps.profile()))
    };
    for level in [10, LEVEL_1B, 11, 13, 22, 31, 40, 52] {
        assert_eq!(sps(level, (176, 144)), Ok(Some((H264Profile::ConstrainedBaseline, level))));
    }
    assert_eq!(sps(13, (352, 288)), Ok(Some((H264Profile::ConstrainedBaseline, 13))));
    assert_eq!(sps(13, SIZE), Err(CodecError::Unsupported("the picture is larger than the level allows")));
    assert!(sps(31, (14, 14)).is_err());
}

#[test]
fn a_new_size_is_a_keyframe_and_a_new_decoder() {
    let sizes = [SIZE, (320, 180), (1280, 720), (322, 182), (176, 144)];
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    let mut decoder = Decoder::new(pool((1280, 720)));
    let mut next = 0;
    for size in sizes {
        let units = encode(&mut encoder, size, next, 5);
        assert!(kinds(&units[0]).contains(&kind::IDR));
        for unit in units.iter().filter(|unit| !unit.is_empty()) {
            let Ok(Decoded::Picture { frame, concealed }) = decoder.decode(unit) else { panic!("{size:?}") };
            assert_eq!(((frame.width(), frame.height()), concealed), (size, false));
        }
        next += 5;
    }
}

#[test]
fn odd_sides_lose_their_last_line() {
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    let mut decoder = Decoder::new(pool((640, 360)));
    for unit in encode(&mut encoder, (321, 183), 0, 3) {
        let Ok(Decoded::Picture { frame, .. }) = decoder.decode(&unit) else { panic!() };
        assert_eq!((frame.width(), frame.height()), (320, 182));
    }
}

#[test]
fn a_room_too_small_costs_a_keyframe_and_nothing_else() {
    let source = pool(SIZE);
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    let mut out = vec![0; 1 << 20];
    let frame = picture(&source, SIZE, 0);
    let Err(CodecError::Room { needed, room: 100 }) = encoder.encode(&frame, at(0), &mut out[..100]) else {
        panic!("it does not fit")
    };
    assert!(needed > 100);
    let encoded = encoder.encode(&frame, at(1), &mut out).unwrap();
    assert!(encoded.keyframe && encoded.len > 0);
}

#[test]
fn a_decoder_that_begins_with_a_damaged_keyframe_shows_it_and_goes_on() {
    let encoding = VideoEncoding { max_nal: Some(1_200), ..encoding(1_500_000) };
    let units = encode(&mut Encoder::new(encoding).unwrap(), SIZE, 0, 30);
    let mut decoder = Decoder::new(pool(SIZE));
    let mut shown = 0;
    for (n, unit) in units.iter().filter(|unit| !unit.is_empty()).enumerate() {
        // Of the keyframe one slice is lost.
        let kept = nal_units(unit).enumerate().filter(|(place, _)| n > 0 || *place != 4);
        let unit: Vec<u8> = kept.flat_map(|(_, nal)| [&[0, 0, 0, 1], nal].concat()).collect();
        let result = decoder.decode(&unit);
        assert!(matches!(result, Ok(Decoded::Picture { concealed: true, .. })), "{n}: {result:?}");
        shown += 1;
    }
    assert!(shown > 25, "{shown} pictures");
}

#[test]
fn losses_are_concealed_until_the_next_keyframe() {
    let source = pool(SIZE);
    let mut encoder = Encoder::new(VideoEncoding { max_nal: Some(1_200), ..encoding(1_500_000) }).unwrap();
    let mut decoder = Decoder::new(pool(SIZE));
    let mut out = vec![0; 1 << 20];
    let (mut shown, mut concealed_any, mut after) = (0, 0, Vec::new());
    for n in 0..120 {
        if n == 90 {
            encoder.request_keyframe();
        }
        let frame = picture(&source, SIZE, n);
        let encoded = encoder.encode(&frame, at(n), &mut out).unwrap();
        let nals: Vec<&[u8]> = nal_units(&out[..encoded.len]).collect();
        // One slice in ten is lost, and the pictures 40 to 44 as a whole, but for the keyframe.
        let mut unit = Vec::new();
        for (slice, nal) in nals.iter().enumerate() {
            let lost = (1..90).contains(&n) && ((n * 7 + slice * 3) % 10 == 0 || (40..45).contains(&n));
            if !lost {
                unit.extend([0, 0, 0, 1]);
                unit.extend_from_slice(nal);
            }
        }
        if unit.is_empty() {
            continue;
        }
        match decoder.decode(&unit) {
            Ok(Decoded::Picture { frame: got, concealed }) => {
                shown += 1;
                concealed_any += usize::from(concealed);
                if n > 91 {
                    after.push(psnr(&frame, &got));
                    assert!(!concealed, "{n}");
                }
            }
            Ok(Decoded::Nothing) => {}
            Err(error) => panic!("{n}: {error}"),
        }
    }
    assert!(shown >= 108, "{shown} pictures");
    // All from the first loss to the keyframe are marked.
    assert!(concealed_any >= 75, "{concealed_any} concealed");
    let worst = after.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(worst > 30.0, "{worst:.1} dB after the keyframe");
}

#[test]
fn nothing_is_shown_before_the_first_keyframe() {
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    let units = encode(&mut encoder, SIZE, 0, 10);
    let mut decoder = Decoder::new(pool(SIZE));
    assert_eq!(decoder.decode(&units[1]).unwrap_err(), CodecError::Malformed("no parameter sets yet"));
    assert!(decoder.decode(&[]).is_err());
    assert!(matches!(decoder.decode(&units[0]), Ok(Decoded::Picture { concealed: false, .. })));
}

#[test]
fn the_pool_limits_what_a_peer_may_send() {
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    let units = encode(&mut encoder, SIZE, 0, 4);
    let mut decoder = Decoder::new(pool((352, 288)));
    assert_eq!(
        decoder.decode(&units[0]).unwrap_err(),
        CodecError::Unsupported("a picture larger than was agreed")
    );
    // Who holds all pictures gets none; the next call finds the stream in step.
    let one = Pool::new(1, VideoFrame::bytes(SIZE.0, SIZE.1));
    let mut decoder = Decoder::new(one);
    let held = decoder.decode(&units[0]).unwrap();
    assert_eq!(decoder.decode(&units[1]).unwrap_err(), CodecError::NoPicture);
    drop(held);
    assert!(matches!(decoder.decode(&units[2]), Ok(Decoded::Picture { concealed: false, .. })));
}

#[test]
fn foreign_nal_units_are_left_out() {
    let mut encoder = Encoder::new(encoding(800_000)).unwrap();
    let mut decoder = Decoder::new(pool(SIZE));
    for unit in encode(&mut encoder, SIZE, 0, 3) {
        let mut dressed = vec![0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x6e, 0x80, 1, 2, 0, 0, 1, 0x6f, 0x53, 9, 9];
        dressed.extend_from_slice(&unit);
        dressed
            .extend_from_slice(&[0, 0, 1, 0x74, 1, 2, 3, 0, 0, 1, 0x06, 5, 1, 2, 0x80, 0, 0, 1, 0x0c, 0xff]);
        assert!(matches!(decoder.decode(&dressed), Ok(Decoded::Picture { concealed: false, .. })));
    }
}

#[test]
fn any_bytes_are_survived() {
    let mut encoder = Encoder::new(VideoEncoding { max_nal: Some(1_200), ..encoding(300_000) }).unwrap();
    let size = (320, 176);
    let mut units = encode(&mut encoder, size, 0, 30);
    units.retain(|unit| !unit.is_empty());
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let mut decoder = Decoder::new(pool(SIZE));
    let mut shown = 0;
    for round in 0..4_000 {
        if round % 200 == 0 {
            decoder = Decoder::new(pool(SIZE));
            let _ = decoder.decode(&units[0]);
        }
        let mut unit = units[random(units.len())].clone();
        for _ in 0..=random(8) {
            let position = random(unit.len());
            match random(4) {
                // The parameter sets and slice headers are where the damage is.
                0 => unit[position.min(60)] ^= 1 << random(8),
                1 => unit[position] = random(256) as u8,
                2 => unit.truncate(position.max(6)),
                _ => {
                    let other = &units[random(units.len())];
                    unit.extend_from_slice(&other[..random(other.len())]);
                }
            }
        }
        shown += usize::from(matches!(decoder.decode(&unit), Ok(Decoded::Picture { .. })));
    }
    assert!(shown > 1_000, "{shown} of 4000: the mutants must reach the decoder");
    let mut decoder = Decoder::new(pool(SIZE));
    assert!(matches!(decoder.decode(&units[0]), Ok(Decoded::Picture { concealed: false, .. })));
}

/// A page of text-like strokes that turns every two seconds, with a pointer that moves.
fn page(pool: &Pool, size: (usize, usize), n: usize) -> VideoFrame {
    VideoFrame::new(pool, size.0, size.1, |planes| {
        planes.y.fill(235);
        let turned = n / 60;
        for (line, row) in planes.y.chunks_exact_mut(size.0).enumerate().skip(40).take(size.1 - 80) {
            if line % 20 >= 12 {
                continue;
            }
            let mut state = (line / 20 * 977 + turned * 7_919) as u32 | 1;
            let mut at = 40;
            while at + 8 < size.0 - 40 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let upright = state >> 28;
                if upright < 11 {
                    let stroke = line % 20 == (state >> 20) as usize % 12 || (line + at) % 12 == 3;
                    row[at..at + 2].fill(20);
                    if stroke {
                        row[at..at + 6].fill(20);
                    }
                }
                at += 8;
            }
        }
        let (x, y) = (100 + n * 7 % (size.0 - 200), 60 + n * 3 % (size.1 - 120));
        for row in planes.y.chunks_exact_mut(size.0).skip(y).take(12) {
            row[x..x + 8].fill(90);
        }
        planes.u.fill(128);
        planes.v.fill(128);
    })
    .unwrap()
}

/// Encodes `pictures` and decodes them again: bit/s, pictures that were made, and the PSNR of what is
/// seen at the time of each.
fn through(
    encoder: &mut Encoder,
    size: (usize, usize),
    pictures: impl ExactSizeIterator<Item = VideoFrame>,
) -> (usize, usize, Vec<f64>) {
    let mut decoder = Decoder::new(pool(size));
    let (mut out, mut last) = (vec![0; 1 << 20], None);
    let (mut bytes, mut made, count) = (0, 0, pictures.len());
    let seen = pictures.enumerate().map(|(n, frame)| {
        let encoded = encoder.encode(&frame, at(n), &mut out).unwrap();
        bytes += encoded.len;
        if encoded.len > 0 {
            made += 1;
            let Decoded::Picture { frame, concealed } = decoder.decode(&out[..encoded.len]).unwrap() else {
                panic!("no picture")
            };
            assert!(!concealed);
            last = Some(frame);
        }
        psnr(&frame, last.as_ref().unwrap())
    });
    let seen = seen.collect();
    (bytes * 8 * 30 / count, made, seen)
}

#[test]
fn slides_are_sharp_soon_after_a_page_is_turned_and_hold_their_rate() {
    let size = (1280, 720);
    let source = pool(size);
    for max_nal in [None, Some(1_200)] {
        let soon = [false, true].map(|sharp| {
            let set = VideoEncoding { sharp, max_nal, ..encoding(300_000) };
            let mut encoder = Encoder::new(set).unwrap();
            let (rate, _, seen) = through(&mut encoder, size, (0..240).map(|n| page(&source, size, n)));
            assert!(rate < 345_000, "{rate} bit/s");
            // A third of a second after each turn.
            (1..4).map(|turn| seen[turn * 60 + 10]).sum::<f64>() / 3.0
        });
        assert!(soon[1] > 32.0 && soon[1] > soon[0] + 5.0, "{soon:.1?} dB");
    }
    // A film on a slide is shown as the rate allows.
    let set = VideoEncoding { sharp: true, ..encoding(600_000) };
    let mut encoder = Encoder::new(set).unwrap();
    let pictures = pool(SIZE);
    let (rate, made, _) = through(&mut encoder, SIZE, (0..120).map(|n| picture(&pictures, SIZE, n)));
    assert!(rate < 690_000 && made > 60, "{rate} bit/s, {made} of 120 pictures");
    // What may change while it runs does, and keyframes come when they are asked for.
    let mut out = vec![0; 1 << 20];
    encoder.tune(VideoEncoding { bitrate: 300_000, ..set }).unwrap();
    encoder.request_keyframe();
    let keyframe = (120..150).map(|n| encoder.encode(&picture(&pictures, SIZE, n), at(n), &mut out).unwrap());
    assert_eq!(keyframe.filter(|it| it.keyframe).count(), 1);
}
