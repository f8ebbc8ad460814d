//! Slides through the engine: apart, for who has a stream for them, and in the one picture, for who has
//! not.

use std::time::Duration;

use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::format::{MediaFormat, MediaKind, PacketizationMode, VideoFormat};
use crosspoint_codecs::frame::VideoFrame;
use crosspoint_gateway::conference::layout::{Canvas, Layout};
use crosspoint_gateway::conference::scene::{Look, Party, Slides, scene_with_slides};
use crosspoint_gateway::media::{Route, Timeline, ViewId};

use crate::far::Scene;
use crate::picture::h264;

const SECOND: Duration = Duration::from_secs(1);
const VIEW: ViewId = ViewId(5);
const PEOPLE: (usize, usize) = (640, 360);
const SLIDES: (usize, usize) = (1024, 768);

fn wide() -> VideoFormat {
    h264(31, PacketizationMode::NonInterleaved)
}

fn join(scene: &mut Scene, kind: MediaKind, size: (usize, usize), sends: bool) -> usize {
    let place = scene.look_at(kind, size, 30, wide(), &Timeline::new());
    scene.cameras[place].covered = !sends;
    scene.run(Duration::from_millis(20));
    place
}

fn last(scene: &Scene, place: usize) -> &VideoFrame {
    &scene.cameras[place].seen.last().unwrap().1
}

fn size(picture: &VideoFrame) -> (usize, usize) {
    (picture.width(), picture.height())
}

#[test]
fn a_leg_with_two_streams_is_given_slides_apart() {
    let mut scene = Scene::new();
    let kinds = [(MediaKind::Main, PEOPLE), (MediaKind::Content, SLIDES)];
    let from = kinds.map(|(kind, size)| join(&mut scene, kind, size, true));
    let to = kinds.map(|(kind, size)| join(&mut scene, kind, size, false));
    for (from, to) in from.into_iter().zip(to) {
        let (source, sink) = (scene.cameras[from].id, scene.cameras[to].id);
        scene.handle.route(sink, Route::Transcode { source }).unwrap();
    }
    scene.run(2 * SECOND);
    assert_eq!(scene.handle.worker_stats().video.encoders, 2);
    for ((kind, wanted), place) in kinds.into_iter().zip(to) {
        assert_eq!(size(last(&scene, place)), wanted, "{kind:?}");
        let camera = &scene.cameras[place];
        assert!(camera.seen.len() > 50, "{kind:?}: {} pictures", camera.seen.len());
        assert!(camera.units.iter().all(|(_, unit)| unit.kind == kind));
        assert_eq!(camera.keyframes(), 1);
    }
}

#[test]
fn slides_share_encoders_with_slides_only() {
    let mut scene = Scene::new();
    let slides = join(&mut scene, MediaKind::Content, SLIDES, true);
    let text = &mut Typesetter::new();
    let canvas = Canvas::new(SLIDES.0, SLIDES.1).unwrap();
    let shown = Slides::Live { source: 0, size: SLIDES };
    let picture = scene_with_slides(Layout::OneMain, canvas, shown, &[], &Look::default(), text);
    scene.handle.show(VIEW, picture, &[scene.cameras[slides].id]).unwrap();
    let kinds = [MediaKind::Content, MediaKind::Content, MediaKind::Main, MediaKind::Main];
    let viewers = kinds.map(|kind| {
        let place = join(&mut scene, kind, PEOPLE, false);
        scene.handle.route(scene.cameras[place].id, Route::Compose { view: VIEW }).unwrap();
        place
    });
    scene.run(2 * SECOND);
    assert_eq!(scene.handle.worker_stats().video.encoders, 2, "one sharp, one smooth");
    let of = |place: usize| scene.cameras[place].units.iter().map(|(_, it)| &it.data).collect::<Vec<_>>();
    for (one, other) in [(0, 1), (2, 3)] {
        let (one, other) = (of(viewers[one]), of(viewers[other]));
        assert_eq!(one[one.len() - 40..], other[other.len() - 40..], "the same bytes");
    }
    // Another format of a sink that takes slides takes slides.
    let narrow = VideoFormat { max_bitrate: Some(128_000), ..wide() };
    for place in [viewers[0], viewers[2]] {
        let id = scene.cameras[place].id;
        let format = MediaFormat::Video(narrow.clone());
        scene.handle.set_sink_format(id, &format).unwrap();
    }
    scene.run(2 * SECOND);
    assert_eq!(scene.handle.worker_stats().video.encoders, 4);
    assert_eq!(size(last(&scene, viewers[0])), SLIDES, "slides keep their size");
    assert!(last(&scene, viewers[2]).width() < SLIDES.0);
}

#[test]
fn a_leg_with_one_stream_has_the_slides_in_its_picture() {
    let mut scene = Scene::new();
    let sources = [(MediaKind::Content, SLIDES), (MediaKind::Main, PEOPLE), (MediaKind::Main, PEOPLE)]
        .map(|(kind, size)| join(&mut scene, kind, size, true));
    let text = &mut Typesetter::new();
    let party =
        |source, name: &str| Party { name: name.into(), source: Some((source, PEOPLE)), ..Party::default() };
    let parties = [party(1, "Ada"), party(2, "Bo")];
    let canvas = Canvas::new(1280, 720).unwrap();
    let shown = Slides::Live { source: 0, size: SLIDES };
    let picture = scene_with_slides(Layout::Adaptive, canvas, shown, &parties, &Look::default(), text);
    let viewer = join(&mut scene, MediaKind::Main, PEOPLE, false);
    let ids = sources.map(|at| scene.cameras[at].id);
    scene.handle.show(VIEW, picture.clone(), &ids).unwrap();
    scene.handle.route(scene.cameras[viewer].id, Route::Compose { view: VIEW }).unwrap();
    scene.run(2 * SECOND);
    let luma = |scene: &Scene, x: usize, y: usize| last(scene, viewer).y()[y * 1280 + x];
    // Slides of 4:3 stand in the middle of a tile of 960x540 at 0, 90: 720x540, bars of 120.
    for (x, y, slides) in
        [(60, 360, false), (112, 360, false), (128, 360, true), (480, 100, true), (832, 360, true)]
    {
        let luma = luma(&scene, x, y);
        assert_eq!(luma > 56, slides, "at {x}, {y}: {luma}");
    }
    // Speakers have 320x180 each, at 960, 180 and 960, 360.
    let beside = [(1000, 270), (1000, 450)];
    assert!(beside.iter().all(|(x, y)| luma(&scene, *x, *y) > 56));
    let ground = 44..=52;
    // Nothing moves any more: the last slide stays, also in another scene; the speakers' do not.
    for place in sources {
        scene.cameras[place].covered = true;
    }
    for restaged in [false, true] {
        if restaged {
            scene.handle.show(VIEW, picture.clone(), &ids).unwrap();
        }
        scene.run(6 * SECOND);
        assert!(luma(&scene, 480, 360) > 56);
        let around_initials = beside.map(|(x, y)| luma(&scene, x, y));
        assert!(around_initials.iter().all(|luma| ground.contains(luma)), "{around_initials:?}");
    }
}
