//! Pictures through the engine.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{Decoded, VideoDecoder, VideoEncoder, VideoEncoding};
use crosspoint_codecs::format::{
    Codec, H264Profile, MediaFormat, MediaKind, PacketizationMode, VideoFormat, macroblocks,
};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime, Pool, VideoFrame};
use crosspoint_codecs::kernels::scale::Scaler;
use crosspoint_codecs::registry::Registry;
use crosspoint_codecs::video::nal::nal_units;
use crosspoint_gateway::media::port::{Arrival, StreamId};
use crosspoint_gateway::media::{Playback, Route, SinkStats, SourceStats, Timeline};

use crate::far::{Rings, START, Scene, ZERO, format, rings};
use crate::listen;

const SECOND: Duration = Duration::from_secs(1);
/// The line takes so long.
const TRANSIT: u64 = 8_000_000;

pub fn h264(level: u8, mode: PacketizationMode) -> VideoFormat {
    VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level,
        mode,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    }
}

/// A far end's picture side: a test picture that moves, and what comes back.
pub struct Camera {
    pub id: StreamId,
    pub rings: Rings,
    pub size: (usize, usize),
    pub every: u64,
    encoder: Box<dyn VideoEncoder>,
    decoder: Box<dyn VideoDecoder>,
    pool: Pool,
    pub sent: u64,
    /// Sends nothing.
    pub covered: bool,
    /// Sends, once, so many frames at the same moment.
    pub burst: u64,
    /// White during the first 100 ms of each second.
    pub flashes: bool,
    /// Takes nothing.
    pub deaf: bool,
    pub lose: fn(u64) -> bool,
    lost: u16,
    /// What comes and is lost on the way, by number; and how much was.
    pub lose_incoming: fn(u64) -> bool,
    pub lost_incoming: u64,
    /// Answers wishes for keyframes.
    pub obliging: bool,
    pub asked: u64,
    flying: Vec<(u64, EncodedFrame)>,
    pub units: Vec<(u64, EncodedFrame)>,
    pub seen: Vec<(i64, VideoFrame)>,
}

impl Camera {
    fn media_time(&self, number: u64) -> i64 {
        (number * self.every) as i64 + ZERO
    }

    /// A grey field with a bright bar that moves, so that each picture is another.
    fn draw(&self, number: u64) -> VideoFrame {
        let (width, height) = self.size;
        let flash = self.flashes && number * self.every / 1_000_000 % 1_000 < 100;
        VideoFrame::new(&self.pool, width, height, |planes| {
            for (n, pixel) in planes.y.iter_mut().enumerate() {
                let (x, y) = (n % width, n / width);
                let bar = (x + 4 * number as usize) % 128 < 32;
                *pixel = if flash { 235 } else { (60 + 60 * y / height + if bar { 60 } else { 0 }) as u8 };
            }
            planes.u.fill(110);
            planes.v.fill(140);
        })
        .unwrap()
    }

    pub fn exchange(&mut self, now: u64) {
        if self.rings.wishes.take_keyframe_wanted() {
            self.asked += 1;
            if self.obliging {
                self.encoder.request_keyframe();
            }
        }
        while START + self.sent * self.every <= now + self.burst * self.every {
            let number = self.sent;
            self.sent += 1;
            if self.covered {
                continue;
            }
            let picture = self.draw(number);
            let mut room = vec![0; 1 << 20];
            let at = Duration::from_nanos(number * self.every);
            let encoded = self.encoder.encode(&picture, at, &mut room).unwrap();
            if encoded.len == 0 {
                continue;
            }
            if (self.lose)(number) {
                self.lost += 1;
                continue;
            }
            let frame = EncodedFrame {
                kind: MediaKind::Main,
                media_time: MediaTime(self.media_time(number)),
                duration: Duration::ZERO,
                lost_before: std::mem::take(&mut self.lost),
                keyframe: encoded.keyframe,
                level: None,
                data: Data::from_slice(&room[..encoded.len]),
            };
            let at = (START + number * self.every).min(now) + TRANSIT;
            self.flying.push((at, frame));
        }
        self.burst = 0;
        while let Some((at, _)) = self.flying.first()
            && *at <= now
        {
            let (at, frame) = self.flying.remove(0);
            let _ = self.rings.to.push(Arrival { at: Instant::from_nanos(at), frame });
        }
    }

    pub fn collect(&mut self, now: u64) {
        if self.deaf {
            return;
        }
        while let Ok(frame) = self.rings.from.pop() {
            if (self.lose_incoming)(self.units.len() as u64 + self.lost_incoming) {
                self.lost_incoming += 1;
                continue;
            }
            let whole = self.lost_incoming == 0;
            match self.decoder.decode(&frame.data) {
                Ok(Decoded::Picture { frame: picture, concealed: false }) => {
                    self.seen.push((frame.media_time.0, copy(&picture)));
                }
                Ok(Decoded::Nothing) => {}
                damaged => assert!(!whole, "{damaged:?}"),
            }
            let data = Data::from_slice(&frame.data);
            self.units.push((now, EncodedFrame { data, ..frame }));
        }
    }

    pub fn forget(&mut self) {
        self.units.clear();
        self.seen.clear();
    }

    pub fn keyframes(&self) -> usize {
        self.units.iter().filter(|(_, unit)| unit.keyframe).count()
    }
}

/// The decoder's pool is small; a picture that is kept goes elsewhere.
fn copy(picture: &VideoFrame) -> VideoFrame {
    let pool = Pool::new(1, VideoFrame::bytes(picture.width(), picture.height()));
    VideoFrame::new(&pool, picture.width(), picture.height(), |planes| {
        planes.y.copy_from_slice(picture.y());
        planes.u.copy_from_slice(picture.u());
        planes.v.copy_from_slice(picture.v());
    })
    .unwrap()
}

pub fn psnr(one: &VideoFrame, other: &VideoFrame) -> f64 {
    let squares: f64 =
        one.y().iter().zip(other.y()).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 / (squares / one.y().len() as f64).max(1e-9)).log10()
}

impl Scene {
    /// A camera of `size` and rate; its end wants `wants`. `timeline` of its sound, if it has some.
    pub fn look(
        &mut self,
        size: (usize, usize),
        rate: u64,
        wants: VideoFormat,
        timeline: &Timeline,
    ) -> usize {
        self.look_at(MediaKind::Main, size, rate, wants, timeline)
    }

    /// The same for pictures of any kind.
    pub fn look_at(
        &mut self,
        kind: MediaKind,
        size: (usize, usize),
        rate: u64,
        wants: VideoFormat,
        timeline: &Timeline,
    ) -> usize {
        let id = StreamId(1_000 + self.cameras.len() as u64);
        let (rings, inlet, outlet) = rings(&self.bell);
        let sends = MediaFormat::Video(h264(40, PacketizationMode::NonInterleaved));
        self.handle.add_source(id, timeline, &sends, inlet).unwrap();
        self.handle.add_sink(id, kind, &MediaFormat::Video(wants.clone()), outlet).unwrap();
        let registry = Registry::built_in();
        let encoding = VideoEncoding {
            bitrate: 3_000_000,
            frame_rate: 60.0,
            profile: H264Profile::ConstrainedBaseline,
            level: 40,
            max_nal: None,
            sharp: false,
        };
        let pool = || Pool::new(3, VideoFrame::bytes(1920, 1088));
        self.cameras.push(Camera {
            id,
            rings,
            size,
            every: 1_000_000_000 / rate,
            encoder: registry.video_encoder(&h264(40, PacketizationMode::NonInterleaved), encoding).unwrap(),
            decoder: registry.video_decoder(&wants, pool()).unwrap(),
            pool: pool(),
            sent: 0,
            covered: false,
            burst: 0,
            flashes: false,
            deaf: false,
            lose: |_| false,
            lost: 0,
            lose_incoming: |_| false,
            lost_incoming: 0,
            obliging: true,
            asked: 0,
            flying: Vec::new(),
            units: Vec::new(),
            seen: Vec::new(),
        });
        self.cameras.len() - 1
    }

    fn video_pair(&mut self, size: (usize, usize), rate: u64, wants: VideoFormat) -> (usize, usize) {
        let a = self.look(size, rate, h264(31, PacketizationMode::NonInterleaved), &Timeline::new());
        let b = self.look(size, rate, wants, &Timeline::new());
        self.cameras[b].covered = true;
        let (from, to) = (self.cameras[a].id, self.cameras[b].id);
        self.handle.route(to, Route::Transcode { source: from }).unwrap();
        (a, b)
    }

    fn source(&self, camera: usize) -> SourceStats {
        self.handle.stats(self.cameras[camera].id).source.unwrap()
    }

    fn sink(&self, camera: usize) -> SinkStats {
        self.handle.stats(self.cameras[camera].id).sink.unwrap()
    }
}

#[test]
fn pictures_arrive_as_they_were_sent() {
    let mut scene = Scene::new();
    let (a, b) = scene.video_pair((640, 360), 30, h264(31, PacketizationMode::NonInterleaved));
    scene.run(3 * SECOND);
    let (source, sink) = (scene.source(a), scene.sink(b));
    assert!(source.decoded >= 85, "{source:?}");
    assert_eq!((source.late, source.errors, sink.overflow, sink.errors), (0, 0, 0, 0));
    assert_eq!((source.width, source.height, sink.width, sink.height), (640, 360, 640, 360));
    let (camera, far) = (&scene.cameras[a], &scene.cameras[b]);
    assert!(far.seen.len() >= 80, "{} pictures", far.seen.len());
    assert_eq!(far.keyframes(), 1);
    for (at, picture) in &far.seen[10..] {
        // Without sound a picture is seen when it comes: a transit after it was taken.
        let taken = *at - (START + TRANSIT) as i64;
        let number = (taken + camera.every as i64 / 2) / camera.every as i64;
        assert!((number * camera.every as i64).abs_diff(taken) < 2_000_000, "a stamp that wobbles: {taken}");
        let psnr = psnr(&camera.draw(number as u64), picture);
        assert!(psnr > 32.0, "{psnr:.1} dB in picture {number}");
    }
    for (now, unit) in &far.units {
        let added = *now as i64 - unit.media_time.0;
        assert!((0..=10_000_000).contains(&added), "{added} ns were added");
    }
}

#[test]
fn a_receiver_gets_the_size_slices_and_rate_that_it_takes() {
    let mut scene = Scene::new();
    let mut wants = h264(13, PacketizationMode::SingleNal);
    wants.max_bitrate = Some(300_000);
    let (a, b) = scene.video_pair((1280, 720), 30, wants);
    scene.run(4 * SECOND);
    let far = &scene.cameras[b];
    let sink = scene.sink(b);
    assert_eq!((sink.width, sink.height), (416, 234));
    assert!(macroblocks(416, 234) <= 396);
    for (_, unit) in &far.units {
        for nal in nal_units(&unit.data) {
            assert!(nal.len() <= 1_200, "a NAL unit of {}", nal.len());
        }
    }
    let bits = far.units.iter().map(|(_, unit)| unit.data.len() * 8).sum::<usize>() / 4;
    assert!(bits < 345_000, "{bits} bit/s");
    assert!(sink.target_bitrate <= 300_000, "{sink:?}");
    // Level 1.3 has 11880 macroblocks a second: 30 pictures of 390 fit.
    assert!(far.seen.len() > 60, "{} pictures", far.seen.len());
    let camera = &scene.cameras[a];
    let mut scaler = Scaler::new((1280, 720), (416, 234)).unwrap();
    let pool = Pool::new(1, VideoFrame::bytes(416, 234));
    for (at, picture) in far.seen.iter().skip(20) {
        let number = (*at - (START + TRANSIT) as i64 + camera.every as i64 / 2) as u64 / camera.every;
        let taken = camera.draw(number);
        let wanted = VideoFrame::new(&pool, 416, 234, |mut planes| {
            scaler.scale(&taken, &mut planes, 416, (0, 0)).unwrap();
        })
        .unwrap();
        let psnr = psnr(&wanted, picture);
        assert!(psnr > 26.0, "{psnr:.1} dB in picture {number}");
    }
}

#[test]
fn a_falling_limit_is_obeyed_within_a_second() {
    let mut scene = Scene::new();
    let (_, b) = scene.video_pair((640, 360), 30, h264(31, PacketizationMode::NonInterleaved));
    scene.run(2 * SECOND);
    scene.cameras[b].rings.wishes.limit_bitrate(150_000);
    scene.run(SECOND);
    scene.forget();
    scene.run(3 * SECOND);
    let bits = scene.cameras[b].units.iter().map(|(_, unit)| unit.data.len() * 8).sum::<usize>() / 3;
    assert!(bits < 175_000, "{bits} bit/s");
    let sink = scene.sink(b);
    assert_eq!(sink.target_bitrate, 150_000);
    assert!(sink.bitrate.abs_diff(bits as u32) < 60_000, "{sink:?}, {bits} bit/s");
    assert_eq!(scene.cameras[b].keyframes(), 0, "a rate change needs no keyframe");
}

#[test]
fn keyframe_wishes_cross_and_are_merged() {
    let mut scene = Scene::new();
    let (a, b) = scene.video_pair((320, 180), 30, h264(31, PacketizationMode::NonInterleaved));
    scene.run(2 * SECOND);
    scene.forget();
    // The receiver asks with every picture for a second.
    for _ in 0..100 {
        scene.cameras[b].rings.wishes.ask_keyframe();
        scene.run(Duration::from_millis(10));
    }
    let keyframes = scene.cameras[b].keyframes();
    assert!((2..=3).contains(&keyframes), "{keyframes} keyframes");
    // A lost frame: the sender is asked at once, once, and what it sends mends it.
    let asked = scene.cameras[a].asked;
    scene.cameras[a].lose = |n| n == 100;
    scene.run(SECOND / 2);
    assert_eq!(scene.cameras[a].asked, asked + 1);
    scene.run(2 * SECOND);
    assert_eq!(scene.cameras[a].asked, asked + 1, "the keyframe came");
    // One that does not answer is asked once a second.
    scene.cameras[a].obliging = false;
    scene.cameras[a].lose = |n| n == 190;
    scene.run(4 * SECOND);
    let again = scene.cameras[a].asked - asked - 1;
    assert!((2..=4).contains(&again), "asked {again} times");
    assert_eq!(scene.source(a).keyframes_wanted, scene.cameras[a].asked);
}

#[test]
fn of_pictures_that_come_at_once_the_latest_wins() {
    let mut scene = Scene::new();
    let (a, b) = scene.video_pair((320, 180), 30, h264(31, PacketizationMode::NonInterleaved));
    scene.run(SECOND);
    scene.forget();
    let before = scene.source(a);
    scene.cameras[a].burst = 4;
    scene.run(Duration::from_millis(40));
    let after = scene.source(a);
    assert!(after.decoded - before.decoded >= 4, "{after:?}");
    assert!(after.late - before.late >= 3, "{after:?}");
    assert!(scene.cameras[b].units.len() <= 2, "{} pictures", scene.cameras[b].units.len());
}

#[test]
fn who_joins_a_still_picture_sees_it() {
    let mut scene = Scene::new();
    let (a, b) = scene.video_pair((320, 180), 30, h264(31, PacketizationMode::NonInterleaved));
    scene.run(SECOND);
    scene.cameras[a].covered = true;
    scene.run(SECOND);
    scene.forget();
    let last = scene.cameras[a].sent;
    scene.cameras[b].rings.wishes.ask_keyframe();
    scene.run(Duration::from_millis(30));
    assert_eq!((scene.cameras[b].keyframes(), scene.cameras[b].seen.len()), (1, 1), "at {last}");
    // And a third one who is routed to it now.
    let c = scene.look((320, 180), 30, h264(12, PacketizationMode::NonInterleaved), &Timeline::new());
    scene.cameras[c].covered = true;
    let (from, to) = (scene.cameras[a].id, scene.cameras[c].id);
    scene.handle.route(to, Route::Transcode { source: from }).unwrap();
    scene.run(Duration::from_millis(30));
    assert_eq!((scene.cameras[c].keyframes(), scene.cameras[c].seen.len()), (1, 1));
    assert!(scene.handle.route(to, Route::Play(Playback::Silence)).is_err());
    // Stamps only grow, whatever happens.
    scene.handle.remove(from).unwrap();
    scene.run(SECOND);
    for pair in scene.cameras[b].units.windows(2) {
        assert!(pair[0].1.media_time < pair[1].1.media_time);
    }
}

#[test]
fn nobody_watching_costs_no_decoding_and_a_look_begins_whole() {
    let mut scene = Scene::new();
    let (a, b) = scene.video_pair((320, 180), 30, h264(31, PacketizationMode::NonInterleaved));
    scene.handle.route(scene.cameras[b].id, Route::Silence).unwrap();
    scene.run(2 * SECOND);
    assert_eq!(scene.source(a).decoded, 0);
    let asked = scene.cameras[a].asked;
    let from = scene.cameras[a].id;
    scene.handle.route(scene.cameras[b].id, Route::Transcode { source: from }).unwrap();
    scene.run(SECOND / 5);
    assert_eq!(scene.cameras[a].asked, asked + 1);
    assert!(scene.cameras[b].seen.len() >= 3, "{}", scene.cameras[b].seen.len());
    assert!(scene.bell.rung.load(Ordering::Relaxed) > 0);
}

#[test]
fn flash_and_beep_stay_together_whatever_the_delay_of_the_sound() {
    for jitter in [4_000_000, 150_000_000] {
        let mut scene = Scene::new();
        let (a, b) =
            (scene.join(format(Codec::Opus, 20), 1_000.0), scene.join(format(Codec::Pcmu, 20), 300.0));
        scene.far[a].jitter_up_to = jitter;
        scene.far[a].beeps = true;
        let (ta, tb) = (scene.far[a].timeline.clone(), scene.far[b].timeline.clone());
        let wants = h264(31, PacketizationMode::NonInterleaved);
        let va = scene.look((320, 180), 30, wants.clone(), &ta);
        let vb = scene.look((320, 180), 30, wants, &tb);
        scene.cameras[va].flashes = true;
        scene.cameras[vb].covered = true;
        scene.handle.route(scene.far[b].id, Route::Transcode { source: scene.far[a].id }).unwrap();
        scene.handle.route(scene.cameras[vb].id, Route::Transcode { source: scene.cameras[va].id }).unwrap();
        scene.run(12 * SECOND);
        scene.forget();
        scene.run(6 * SECOND);
        // When each beep and each flash begins, on the one clock that the far end is given.
        let first = scene.far[b].packets[0].1.media_time.0;
        let windows = scene.far[b].heard.chunks_exact(40).map(|window| listen::level(window) > -35.0);
        let loud: Vec<bool> = windows.collect();
        let beeps: Vec<i64> = (1..loud.len())
            .filter(|n| loud[*n] && !loud[n.saturating_sub(10)..*n].contains(&true))
            .map(|n| first + n as i64 * 5_000_000)
            .collect();
        let bright =
            |picture: &VideoFrame| picture.y().iter().map(|p| u64::from(*p)).sum::<u64>() / (320 * 180) > 200;
        let flashes: Vec<i64> = scene.cameras[vb]
            .seen
            .windows(2)
            .filter(|pair| bright(&pair[1].1) && !bright(&pair[0].1))
            .map(|pair| pair[1].0)
            .collect();
        assert!(beeps.len() >= 5 && flashes.len() >= 5, "{beeps:?} {flashes:?}");
        for beep in &beeps[..5] {
            let skew = flashes.iter().map(|flash| flash - beep).min_by_key(|skew| skew.abs()).unwrap();
            assert!(skew.abs() < 45_000_000, "{} ms between flash and beep", skew / 1_000_000);
        }
        // The pictures were held as long as the sound.
        let (sound, pictures) = (scene.handle.stats(scene.far[a].id).source.unwrap(), scene.source(va));
        assert!(pictures.skew.abs() < 20_000_000, "{pictures:?}");
        if jitter > 100_000_000 {
            assert!(sound.playout_delay > Duration::from_millis(120), "{sound:?}");
            assert!(pictures.playout_delay > Duration::from_millis(90), "{pictures:?}");
        }
        assert_eq!(pictures.late, 0, "no picture is dropped for a delay");
    }
}
