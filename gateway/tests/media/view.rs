//! Composed pictures: who sees what, in how many forms it is encoded, and what one bad road costs the
//! others.

use std::time::Duration;

use crosspoint_codecs::compose::{Content, Live, Scene as Picture, Tile};
use crosspoint_codecs::format::{PacketizationMode, VideoFormat};
use crosspoint_codecs::frame::{Pool, VideoFrame};
use crosspoint_codecs::kernels::fill::{Area, Colour};
use crosspoint_gateway::media::{EngineError, Route, Timeline, ViewId};

use crate::far::Scene;
use crate::picture::{h264, psnr};

const SECOND: Duration = Duration::from_secs(1);
const VIEW: ViewId = ViewId(3);
const SIZE: (usize, usize) = (640, 360);

/// Luma of what stands in for a source: brighter than any camera here.
const STAND_IN: u8 = 225;

/// Two sources side by side.
fn side_by_side() -> Picture {
    let (width, height) = (SIZE.0 / 2, SIZE.1);
    let tile = |source: usize| {
        let area = Area { x: source * width, y: 0, width, height };
        let live = Live {
            source,
            size: SIZE,
            crop: Area { x: 160, y: 0, width: 320, height: 360 },
            inside: area,
            ground: Colour::BLACK,
            stand_in: Some(plain(width, height, STAND_IN)),
        };
        Tile { area, content: Content::Live(live), overlays: Vec::new() }
    };
    Picture {
        width: SIZE.0,
        height: SIZE.1,
        background: Colour::BLACK,
        tiles: vec![tile(0), tile(1)],
        overlays: Vec::new(),
    }
}

fn plain(width: usize, height: usize, luma: u8) -> VideoFrame {
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    let picture = VideoFrame::new(&pool, width, height, |planes| {
        planes.y.fill(luma);
        planes.u.fill(128);
        planes.v.fill(128);
    });
    picture.unwrap()
}

/// Two cameras that send, and viewers with these formats who only look.
pub fn room(viewers: &[VideoFormat]) -> (Scene, Vec<usize>) {
    let mut scene = Scene::new();
    let cameras: Vec<usize> =
        (0..2).map(|_| look(&mut scene, h264(31, PacketizationMode::NonInterleaved))).collect();
    let sources: Vec<_> = cameras.iter().map(|at| scene.cameras[*at].id).collect();
    scene.handle.show(VIEW, side_by_side(), &sources).unwrap();
    let viewers = viewers.iter().map(|format| {
        let place = look(&mut scene, format.clone());
        scene.cameras[place].covered = true;
        let id = scene.cameras[place].id;
        scene.handle.route(id, Route::Compose { view: VIEW }).unwrap();
        scene.run(Duration::from_millis(20));
        place
    });
    let viewers = viewers.collect();
    (scene, viewers)
}

fn look(scene: &mut Scene, format: VideoFormat) -> usize {
    scene.look(SIZE, 30, format, &Timeline::new())
}

pub fn limited(bits: u32) -> VideoFormat {
    VideoFormat { max_bitrate: Some(bits), ..h264(31, PacketizationMode::NonInterleaved) }
}

/// Mean of the luma of a part of a picture.
fn luma(picture: &VideoFrame, left: bool) -> f64 {
    let (width, from) = (picture.width(), if left { 0 } else { picture.width() / 2 });
    let lines = picture.y().chunks_exact(width).map(|line| &line[from..from + width / 2]);
    let sum: u64 = lines.flatten().map(|luma| u64::from(*luma)).sum();
    sum as f64 / (width / 2 * picture.height()) as f64
}

#[test]
fn a_view_shows_its_sources_side_by_side() {
    let (mut scene, viewers) = room(&[h264(31, PacketizationMode::NonInterleaved)]);
    scene.run(2 * SECOND);
    let seen = &scene.cameras[viewers[0]].seen;
    let (_, last) = seen.last().unwrap();
    assert_eq!((last.width(), last.height()), SIZE);
    assert!(luma(last, true) > 60.0 && luma(last, false) > 60.0, "both cameras are seen");
    let pictures = seen.len();
    assert!((55..=62).contains(&pictures), "{pictures} pictures in two seconds");
    // Stamps only grow.
    let stamps: Vec<i64> = scene.cameras[viewers[0]].units.iter().map(|(_, it)| it.media_time.0).collect();
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]));
    // Another scene takes over without a gap.
    let mut other = side_by_side();
    other.tiles.truncate(1);
    let source = scene.cameras[0].id;
    scene.handle.show(VIEW, other, &[source]).unwrap();
    scene.run(SECOND);
    let (_, last) = scene.cameras[viewers[0]].seen.last().unwrap();
    assert!(luma(last, false) < 20.0, "nobody is on the right: {}", luma(last, false));
    scene.handle.remove_view(VIEW).unwrap();
    scene.forget();
    scene.run(SECOND);
    assert!(scene.cameras[viewers[0]].units.is_empty());
}

/// Whether what stands in for the left and the right source is seen in the last picture.
fn stand_ins(scene: &Scene, viewer: usize) -> [bool; 2] {
    let (_, last) = scene.cameras[viewer].seen.last().unwrap();
    [true, false].map(|left| luma(last, left) > 200.0)
}

#[test]
fn the_last_good_picture_stays_for_five_seconds_and_the_next_one_comes_back_at_once() {
    let (mut scene, viewers) = room(&[h264(31, PacketizationMode::NonInterleaved)]);
    scene.run(2 * SECOND);
    assert_eq!(stand_ins(&scene, viewers[0]), [false; 2]);
    scene.cameras[0].covered = true;
    scene.run(4_900 * SECOND / 1_000);
    assert_eq!(stand_ins(&scene, viewers[0]), [false; 2], "it is kept for a while");
    scene.run(SECOND / 5);
    assert_eq!(stand_ins(&scene, viewers[0]), [true, false]);
    // Another scene does not bring the old picture back, nor make the others wait.
    let sources = [scene.cameras[0].id, scene.cameras[1].id];
    scene.handle.show(VIEW, side_by_side(), &sources).unwrap();
    scene.forget();
    scene.run(SECOND);
    assert!(scene.cameras[viewers[0]].seen.iter().all(|(_, it)| luma(it, true) > 200.0));
    assert_eq!(stand_ins(&scene, viewers[0]), [true, false]);
    scene.cameras[0].covered = false;
    // Its next picture is due within 33 ms, takes 8 to come and 33 at most to be composed.
    scene.run(Duration::from_millis(90));
    assert_eq!(stand_ins(&scene, viewers[0]), [false; 2]);
}

#[test]
fn a_source_without_a_picture_or_one_that_goes_is_stood_in_for_at_once() {
    let (mut scene, viewers) = room(&[h264(31, PacketizationMode::NonInterleaved)]);
    let late = look(&mut scene, h264(31, PacketizationMode::NonInterleaved));
    scene.cameras[late].covered = true;
    let sources = [scene.cameras[0].id, scene.cameras[late].id];
    scene.handle.show(VIEW, side_by_side(), &sources).unwrap();
    scene.run(SECOND);
    assert_eq!(stand_ins(&scene, viewers[0]), [false, true], "nothing came yet");
    scene.cameras[late].covered = false;
    scene.run(SECOND / 2);
    assert_eq!(stand_ins(&scene, viewers[0]), [false; 2]);
    scene.handle.remove(sources[0]).unwrap();
    scene.run(SECOND / 10);
    assert_eq!(stand_ins(&scene, viewers[0]), [true, false]);
}

/// The left half of a picture.
fn half(picture: &VideoFrame) -> VideoFrame {
    let (width, pool) = (SIZE.0 / 2, Pool::new(1, VideoFrame::bytes(SIZE.0 / 2, SIZE.1)));
    let half = VideoFrame::new(&pool, width, SIZE.1, |planes| {
        for (to, from) in planes.y.chunks_exact_mut(width).zip(picture.y().chunks_exact(SIZE.0)) {
            to.copy_from_slice(&from[..width]);
        }
    });
    half.unwrap()
}

#[test]
fn of_a_road_that_loses_faster_than_it_is_mended_one_sees_what_there_is() {
    let (mut scene, viewers) = room(&[h264(31, PacketizationMode::NonInterleaved)]);
    // Three pictures of each second are lost, and a keyframe comes each second.
    scene.cameras[0].lose = |number| number > 30 && number % 10 == 0;
    scene.run(4 * SECOND);
    scene.forget();
    scene.run(5 * SECOND);
    let seen = &scene.cameras[viewers[0]].seen;
    let moved = seen.windows(2).filter(|pair| psnr(&half(&pair[0].1), &half(&pair[1].1)) < 40.0).count();
    assert!(moved > 90, "of {} pictures {moved} are new ones on the left", seen.len());
}

#[test]
fn a_damaged_picture_is_never_seen() {
    let (mut scene, viewers) = room(&[h264(31, PacketizationMode::NonInterleaved)]);
    scene.run(SECOND);
    // Loses a picture, and gives no keyframe however often it is asked.
    scene.cameras[0].obliging = false;
    scene.cameras[0].lose = |number| number == 45;
    scene.run(SECOND);
    scene.forget();
    let asked = scene.cameras[0].asked;
    scene.run(3 * SECOND);
    assert!(scene.cameras[0].asked > asked, "it is asked for a keyframe");
    let seen = &scene.cameras[viewers[0]].seen;
    let still = half(&seen[0].1);
    for (_, picture) in seen {
        let psnr = psnr(&still, &half(picture));
        assert!(psnr > 30.0, "the left half moved: {psnr:.1} dB");
    }
    assert!(seen.len() > 80, "the right one goes on: {}", seen.len());
    scene.run(2 * SECOND);
    assert_eq!(stand_ins(&scene, viewers[0]), [true, false], "as if nothing came");
    scene.cameras[0].obliging = true;
    scene.run(SECOND + SECOND / 5);
    assert_eq!(stand_ins(&scene, viewers[0]), [false; 2]);
}

#[test]
fn twenty_viewers_at_four_rates_have_four_encoders() {
    let rates = [2_000_000, 400_000, 200_000, 100_000];
    let formats: Vec<_> = (0..20).map(|n| limited(rates[n % 4])).collect();
    let (mut scene, viewers) = room(&formats);
    scene.run(2 * SECOND);
    assert_eq!(scene.handle.worker_stats().video.encoders, 4);
    scene.forget();
    scene.run(2 * SECOND);
    let of = |place: usize| scene.cameras[place].units.iter().map(|(_, it)| &it.data).collect::<Vec<_>>();
    for (n, place) in viewers.iter().enumerate() {
        assert_eq!(of(*place), of(viewers[n % 4]), "viewer {n} sees what all of its rate see");
        let bytes: usize = scene.cameras[*place].units.iter().map(|(_, it)| it.data.len()).sum();
        let rate = bytes as f64 * 8.0 / 2.0;
        assert!(rate < f64::from(rates[n % 4]) * 1.15, "viewer {n}: {rate:.0} bit/s of {}", rates[n % 4]);
        assert!(scene.cameras[*place].seen.len() > 40, "viewer {n}: {}", scene.cameras[*place].seen.len());
    }
}

#[test]
fn a_new_viewer_has_a_picture_within_200_ms() {
    let (mut scene, viewers) = room(&[limited(400_000), limited(400_000)]);
    scene.run(3 * SECOND);
    let place = look(&mut scene, limited(400_000));
    scene.cameras[place].covered = true;
    let id = scene.cameras[place].id;
    scene.forget();
    let joined = scene.now;
    scene.handle.route(id, Route::Compose { view: VIEW }).unwrap();
    scene.run(SECOND);
    let (at, first) = &scene.cameras[place].units[0];
    assert!(first.keyframe && at - joined <= 200_000_000, "{} ms", (at - joined) / 1_000_000);
    assert_eq!(scene.cameras[viewers[0]].keyframes(), 1, "one keyframe for all");
    assert_eq!(scene.handle.worker_stats().video.encoders, 1);
}

#[test]
fn one_with_loss_costs_the_others_one_keyframe_in_two_seconds() {
    let (mut scene, viewers) = room(&[limited(400_000), limited(400_000), limited(400_000)]);
    scene.run(3 * SECOND);
    scene.forget();
    // A picture loss indication each 200 ms, for ten seconds.
    for _ in 0..50 {
        scene.cameras[viewers[1]].rings.wishes.ask_keyframe();
        scene.run(Duration::from_millis(200));
    }
    for place in [viewers[0], viewers[2]] {
        let keyframes = scene.cameras[place].keyframes();
        assert!(keyframes <= 5, "{keyframes} keyframes in ten seconds");
        assert!(scene.cameras[place].seen.len() > 270);
    }
    let lossy = scene.cameras[viewers[1]].keyframes();
    assert!(lossy >= 15, "the one with loss is given its keyframes: {lossy}");
    assert_eq!(scene.handle.worker_stats().video.encoders, 2, "it has an encoder of its own kind");
    // When its road is good again it comes back.
    scene.run(12 * SECOND);
    assert_eq!(scene.handle.worker_stats().video.encoders, 1);
}

#[test]
fn a_picture_that_stands_goes_out_once_a_second_and_gets_sharper() {
    let (mut scene, viewers) = room(&[limited(64_000)]);
    scene.run(2 * SECOND);
    for camera in &mut scene.cameras {
        camera.covered = true;
    }
    // What stands in for them has come.
    scene.run(7 * SECOND);
    let camera = &scene.cameras[viewers[0]];
    let (pictures, keyframes) = (camera.seen.len(), camera.keyframes());
    scene.run(10 * SECOND);
    let camera = &scene.cameras[viewers[0]];
    let more = camera.seen.len() - pictures;
    assert!((9..=11).contains(&more), "{more} pictures in ten seconds");
    assert_eq!(camera.keyframes(), keyframes);
    let bytes: usize = camera.units[pictures..].iter().map(|(_, unit)| unit.data.len()).sum();
    assert!(bytes < 10 * 64_000 / 8 / 4, "{bytes} bytes");
}

#[test]
fn a_socket_thread_that_stands_still_keeps_nothing_from_the_others() {
    let (mut scene, viewers) = room(&[limited(400_000), limited(400_000)]);
    scene.run(SECOND);
    scene.forget();
    scene.cameras[viewers[0]].deaf = true;
    scene.run(5 * SECOND);
    let seen = scene.cameras[viewers[1]].seen.len();
    assert!(seen > 140, "{seen} pictures in five seconds");
    scene.cameras[viewers[0]].deaf = false;
    scene.forget();
    scene.run(SECOND);
    let units = &scene.cameras[viewers[0]].units;
    let fresh = units.iter().skip_while(|(_, unit)| !unit.keyframe).count();
    assert!(fresh > 20, "it goes on with a keyframe: {fresh} of {}", units.len());
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let (mut scene, viewers) = room(&[limited(400_000)]);
    let id = scene.cameras[viewers[0]].id;
    let nowhere = Route::Compose { view: ViewId(99) };
    assert!(matches!(scene.handle.route(id, nowhere), Err(EngineError::UnknownView(_))));
    let odd = Picture { width: 641, ..side_by_side() };
    assert!(matches!(scene.handle.show(VIEW, odd, &[]), Err(EngineError::Scene(_))));
    scene.run(SECOND / 5);
    assert!(!scene.cameras[viewers[0]].seen.is_empty(), "what stood still stands");
}
