//! H.264 there and back, and scaling to half size, on a drifting texture.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use crosspoint_codecs::codec::{VideoDecoder, VideoEncoder, VideoEncoding};
use crosspoint_codecs::format::H264Profile;
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::scale::Scaler;
use crosspoint_codecs::video::h264::{Decoder, Encoder};

/// Pictures before the motion begins anew.
const COUNT: usize = 60;

fn pictures(pool: &Pool, (width, height): (usize, usize)) -> Vec<VideoFrame> {
    (0..COUNT)
        .map(|n| {
            VideoFrame::new(pool, width, height, |planes| {
                for (at, y) in planes.y.iter_mut().enumerate() {
                    let (column, line) = (at % width + 2 * n, at / width + n);
                    *y = u8::try_from(60 + (column / 3 + line / 5) % 90 + column * line % 23).unwrap_or(235);
                }
                planes.u.fill(110);
                planes.v.fill(140);
            })
            .expect("a free picture")
        })
        .collect()
}

fn codec(criterion: &mut Criterion) {
    for (size, bitrate) in [((640, 360), 600_000), ((1280, 720), 1_500_000)] {
        let pool = Pool::new(COUNT + 2, VideoFrame::bytes(size.0, size.1));
        let pictures = pictures(&pool, size);
        let encoding = VideoEncoding {
            bitrate,
            frame_rate: 30.0,
            profile: H264Profile::ConstrainedBaseline,
            level: 31,
            max_nal: None,
            sharp: false,
        };
        let mut encoder = Encoder::new(encoding).expect("an encoder");
        let mut out = vec![0; 1 << 20];
        let mut n = 0u32;
        let mut encode = |encoder: &mut Encoder, out: &mut [u8]| {
            let frame = &pictures[usize::try_from(n).unwrap_or(0) % COUNT];
            n += 1;
            encoder.encode(frame, Duration::from_secs(1) * n / 30, out).expect("an access unit").len
        };
        let mut units = Vec::new();
        for _ in 0..COUNT {
            let len = encode(&mut encoder, &mut out);
            units.push(out[..len].to_vec());
        }
        units.retain(|unit| !unit.is_empty());
        let name = format!("h264/{}x{}", size.0, size.1);
        criterion.bench_function(&format!("{name}/encode"), |bencher| {
            bencher.iter(|| encode(&mut encoder, black_box(&mut out)));
        });
        let mut decoder = Decoder::new(pool.clone());
        let mut next = units.iter().cycle();
        criterion.bench_function(&format!("{name}/decode"), |bencher| {
            bencher.iter(|| decoder.decode(black_box(next.next().expect("endless"))));
        });
        let half = (size.0 / 2, size.1 / 2);
        let mut scaler = Scaler::new(size, half).expect("a plan");
        let small = Pool::new(1, VideoFrame::bytes(half.0, half.1));
        criterion.bench_function(&format!("scale/{}x{}/half", size.0, size.1), |bencher| {
            bencher.iter(|| {
                VideoFrame::new(&small, half.0, half.1, |mut planes| {
                    let _ = scaler.scale(&pictures[0], &mut planes, half.0, (0, 0));
                })
            });
        });
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
