//! Nobody looks at himself: how many pictures of a room are composed and encoded for that.

use std::collections::BTreeSet;
use std::time::Duration;

use crosspoint_codecs::draw::text::Typesetter;
use crosspoint_codecs::format::{PacketizationMode, VideoFormat};
use crosspoint_codecs::frame::VideoFrame;
use crosspoint_gateway::conference::layout::{Canvas, Layout};
use crosspoint_gateway::conference::order::{Order, SelfView};
use crosspoint_gateway::conference::scene::{Look, Party, scene};
use crosspoint_gateway::leg::LegId;
use crosspoint_gateway::media::{Route, Timeline, ViewId};

use crate::far::Scene;
use crate::picture::h264;

const SECOND: Duration = Duration::from_secs(1);
const SIZE: (usize, usize) = (320, 180);
/// What the viewers take, in turn: a rung each for a picture of 640x360.
const RATES: [u32; 3] = [2_000_000, 200_000, 100_000];

/// As many cameras, each of which looks too; the first flashes.
fn room(members: usize) -> Scene {
    let mut room = Scene::new();
    for number in 0..members {
        let bits = Some(RATES[number % RATES.len()]);
        let wants = VideoFormat { max_bitrate: bits, ..h264(31, PacketizationMode::NonInterleaved) };
        room.look(SIZE, 30, wants, &Timeline::new());
        room.run(Duration::from_millis(10));
    }
    room.cameras[0].flashes = true;
    room
}

/// Shows each member the picture that the order has for him. Gives the number of encoders that this
/// takes: for each picture one for each rate of its viewers.
fn show(room: &Scene, order: &Order, own: SelfView) -> (usize, usize) {
    let members: Vec<LegId> = (0..room.cameras.len() as u64).map(LegId).collect();
    let camera = |leg: &LegId| usize::try_from(leg.0).unwrap();
    let canvas = Canvas::new(640, 360).unwrap();
    let mut text = Typesetter::new();
    let views = order.views(&members, own);
    let mut encoders = 0;
    for (number, view) in views.iter().enumerate() {
        let party = |(place, leg): (usize, &LegId)| Party {
            name: format!("Party {}", leg.0),
            source: Some((place, SIZE)),
            ..Party::default()
        };
        let parties: Vec<Party> = view.seated.iter().enumerate().map(party).collect();
        let picture = scene(Layout::Four, canvas, &parties, &Look::default(), &mut text);
        let sources: Vec<_> = view.seated.iter().map(|leg| room.cameras[camera(leg)].id).collect();
        let id = ViewId(number as u64 + 1);
        room.handle.show(id, picture, &sources).unwrap();
        for viewer in &view.viewers {
            let sink = room.cameras[camera(viewer)].id;
            room.handle.route(sink, Route::Compose { view: id }).unwrap();
        }
        let rates: BTreeSet<usize> = view.viewers.iter().map(|leg| camera(leg) % RATES.len()).collect();
        encoders += rates.len();
    }
    (views.len(), encoders)
}

/// Somebody in it is all white.
fn has_a_flash(picture: &VideoFrame) -> bool {
    let (width, height) = (picture.width(), picture.height());
    let middles = [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| (x * width / 4, y * height / 4));
    middles.iter().any(|(x, y)| picture.y()[y * width + x] > 210)
}

#[test]
fn a_room_has_an_encoder_for_each_distinct_picture_and_rate() {
    let mut room = room(9);
    let mut order = Order::new(Layout::Four.capacity(), Layout::Four.mains());
    (0..9).for_each(|number| order.join(LegId(number)));
    // Four are seen and have a picture each; five share one, at three rates.
    assert_eq!(show(&room, &order, SelfView::Hidden), (5, 4 + 3));
    room.run(2 * SECOND);
    room.forget();
    room.run(2 * SECOND);
    assert_eq!(room.handle.worker_stats().video.encoders, 4 + 3);
    for (number, camera) in room.cameras.iter().enumerate() {
        assert!(camera.seen.len() > 50, "{number} sees {} pictures", camera.seen.len());
        let flash = camera.seen.iter().any(|(_, picture)| has_a_flash(picture));
        assert_eq!(flash, number != 0, "{number}");
    }
    // Whoever may see himself looks at what all see.
    assert_eq!(show(&room, &order, SelfView::Shown), (1, 3));
    room.run(SECOND);
    room.forget();
    room.run(2 * SECOND);
    assert_eq!(room.handle.worker_stats().video.encoders, 3);
    assert!(room.cameras[0].seen.iter().any(|(_, picture)| has_a_flash(picture)));
}
