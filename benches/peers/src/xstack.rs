//! Composing against ffmpeg's `scale` and `xstack`, as its users write it: a process of its own, so
//! that what it costs is the processor time of a child that composes many pictures, less that of one
//! that makes the same sources and composes nothing.

use std::hint::black_box;
use std::process::{Command, Stdio};

use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::cpu::Cpu;
use crosspoint_codecs::kernels::scale::Scaler;

use crate::pixels::{SMALL, picture};
use crate::race::{cpu_nanos, median};

unsafe extern "C" {
    fn peer_children_nanos() -> u64;
}

/// Pictures of a run: starting the child is little beside them.
const PICTURES: u32 = 300;
/// Runs of each. Odd, so that the median is one of them.
const ROUNDS: usize = 7;
const SIZE: (usize, usize) = (1280, 720);
/// How ffmpeg scales: as the average of an area, as we do; as it does unless told; as fast as it can.
const FILTERS: [&str; 3] = ["area", "bicubic", "fast_bilinear"];

/// Where a picture goes: width, height, x, y.
type Tile = (usize, usize, usize, usize);

pub fn run() {
    let there = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(
        there.is_ok_and(|status| status.success()),
        "there is no ffmpeg to measure against: install it with ./tests/setup bench"
    );
    let (width, height) = (SIZE.0 / 2, SIZE.1 / 2);
    let quarters = [(0, 0), (width, 0), (0, height), (width, height)];
    layout("compose 2x2 of 720p", &quarters.map(|(x, y)| (width, height, x, y)));
    let mut tiles = vec![(960, 540, 0, 0)];
    tiles.extend(SMALL.map(|(x, y)| (320, 180, x, y)));
    layout("compose 1+7 of 720p", &tiles);
}

fn layout(title: &str, tiles: &[Tile]) {
    let names: Vec<String> = FILTERS.iter().map(|filter| format!("ffmpeg, {filter}")).collect();
    let (mut theirs, mut ours) = (vec![Vec::new(); FILTERS.len()], Vec::new());
    let mut compose = composer(tiles);
    for _ in 0..ROUNDS {
        let sources = child(&sources(tiles.len()));
        for (nanos, filter) in theirs.iter_mut().zip(FILTERS) {
            let all = child(&stack(tiles, filter));
            nanos.push((all - sources) / f64::from(PICTURES));
        }
        let begun = cpu_nanos();
        for _ in 0..PICTURES {
            compose();
        }
        ours.push((cpu_nanos() - begun) as f64 / f64::from(PICTURES));
    }
    let yardstick = theirs[0].clone();
    let rows = names.iter().map(String::as_str).zip(theirs).chain([("ours", ours)]);
    for (name, nanos) in rows {
        let ratio = |peer: &[f64]| median(nanos.iter().zip(peer).map(|(a, b)| a / b).collect());
        println!("{title:32} {name:24} {:12.1} ns {:8.3}", median(nanos.clone()), ratio(&yardstick));
    }
}

/// One picture of `tiles` by our best, each call.
fn composer(tiles: &[Tile]) -> impl FnMut() {
    let frames: Vec<VideoFrame> = tiles.iter().map(|_| picture(SIZE)).collect();
    let scaler = |(width, height, ..): &Tile| Scaler::new(SIZE, (*width, *height)).expect("a plan");
    let mut scalers: Vec<Scaler> = tiles.iter().map(|tile| scaler(tile).on(Cpu::detect())).collect();
    let corners: Vec<(usize, usize)> = tiles.iter().map(|(_, _, x, y)| (*x, *y)).collect();
    let pool = Pool::on_huge_pages(1, VideoFrame::bytes(SIZE.0, SIZE.1));
    move || {
        VideoFrame::new(&pool, SIZE.0, SIZE.1, |mut planes| {
            for ((scaler, frame), corner) in scalers.iter_mut().zip(black_box(&frames)).zip(&corners) {
                scaler.scale(frame, &mut planes, SIZE.0, *corner).expect("a place");
            }
        });
    }
}

/// A graph of sources, each of which draws its one picture once, of which only the first is seen.
fn sources(count: usize) -> String {
    let (width, height) = SIZE;
    let mut graph = String::new();
    for n in 0..count {
        graph += &format!("color=c=0x{:02x}8040:s={width}x{height}:r=30,format=yuv420p[s{n}];", 20 * n);
        if n > 0 {
            graph += &format!("[s{n}]nullsink;");
        }
    }
    graph + "[s0]null[out]"
}

/// The same sources, scaled and stacked.
fn stack(tiles: &[Tile], filter: &str) -> String {
    let (width, height) = SIZE;
    let (mut graph, mut inputs, mut places) = (String::new(), String::new(), Vec::new());
    for (n, (w, h, x, y)) in tiles.iter().enumerate() {
        graph += &format!("color=c=0x{:02x}8040:s={width}x{height}:r=30,format=yuv420p,", 20 * n);
        graph += &format!("scale={w}:{h}:flags={filter}[t{n}];");
        inputs += &format!("[t{n}]");
        places.push(format!("{x}_{y}"));
    }
    graph + &format!("{inputs}xstack=inputs={}:layout={}[out]", tiles.len(), places.join("|"))
}

/// Processor time of an ffmpeg that runs `graph`, on one thread.
fn child(graph: &str) -> f64 {
    // SAFETY: takes nothing.
    let begun = unsafe { peer_children_nanos() };
    let pictures = PICTURES.to_string();
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-filter_threads", "1", "-filter_complex_threads", "1"])
        .args(["-filter_complex", graph, "-map", "[out]", "-frames:v", &pictures, "-f", "null", "-"])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "ffmpeg refused: {graph}");
    // SAFETY: takes nothing.
    let ended = unsafe { peer_children_nanos() };
    (ended - begun) as f64
}
