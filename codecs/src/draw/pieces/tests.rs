use super::*;
use crate::compose::{Composer, Content, Scene, Tile};
use crate::frame::Pool;

const NAMES: [&str; 5] = ["Ada Lovelace", "Анна Ковальчук", "محمد علي", "+49 30 1234", "🚀"];

#[test]
fn every_piece_stays_within_its_tile_whatever_the_size() {
    let mut text = Typesetter::new();
    let mut possible = |width: usize, height: usize, speaks, name| {
        let area = Area { x: 4, y: 6, width, height };
        let mut tile = Tile { area, content: Content::Plain(GROUND.yuv()), overlays: frame(area, speaks) };
        tile.overlays.extend(caption(&mut text, name, area));
        let (width, height) = (width + 8, height + 8);
        let overlays = banner(&mut text, name, width, height).into_iter().collect();
        let scene = Scene { width, height, background: CANVAS.yuv(), tiles: vec![tile], overlays };
        assert!(Composer::new(scene).is_ok(), "{name} on {width}x{height}");
    };
    for (width, height) in [(8, 8), (16, 64), (64, 16), (182, 102), (320, 180), (1920, 1080), (4088, 2160)] {
        for name in NAMES {
            possible(width, height, false, name);
            possible(width, height, true, name);
        }
    }
    for (width, height) in [(2, 2), (16, 64), (64, 16), (321, 181), (640, 360)] {
        for name in NAMES {
            let picture = avatar(&mut text, name, width, height).unwrap();
            assert_eq!((picture.width(), picture.height()), (width & !1, height & !1));
        }
        assert!(slate(&mut text, "Connecting", Some("One moment"), width, height).is_some());
    }
    assert!(avatar(&mut text, "Ada", 1, 50).is_none());
}

#[test]
fn a_name_without_ink_has_no_plate() {
    let mut text = Typesetter::new();
    let area = Area::whole(640, 360);
    assert!(caption(&mut text, "🚀 \u{202e}", area).is_none());
    assert!(caption(&mut text, "Ada", Area::whole(8, 360)).is_none());
    assert!(banner(&mut text, "  ", 640, 360).is_none());
}

/// Lightest and darkest luma of a part of a picture.
fn extremes(picture: &VideoFrame, area: Area) -> (u8, u8) {
    let lines = picture.y().chunks(picture.width()).skip(area.y).take(area.height);
    let pixels: Vec<u8> = lines.flat_map(|line| line[area.x..area.x + area.width].to_vec()).collect();
    (*pixels.iter().max().unwrap(), *pixels.iter().min().unwrap())
}

#[test]
fn an_avatar_has_ink_in_its_middle_and_none_at_its_edge() {
    let mut text = Typesetter::new();
    for name in NAMES {
        let picture = avatar(&mut text, name, 320, 180).unwrap();
        let (light, dark) = extremes(&picture, Area { x: 130, y: 60, width: 60, height: 60 });
        assert!(light > 200 && dark < 110, "{name}: {light} {dark}");
        let ground = GROUND.yuv().y;
        assert_eq!(extremes(&picture, Area { x: 0, y: 0, width: 320, height: 40 }), (ground, ground));
    }
}

#[test]
fn a_frame_parts_the_tile_from_its_neighbours_and_marks_the_speaker() {
    let area = Area::whole(320, 180);
    let drawn = |speaks| {
        let content = Content::Plain(Rgb(255, 255, 255).yuv());
        let tiles = vec![Tile { area, content, overlays: frame(area, speaks) }];
        let scene = Scene { width: 320, height: 180, background: CANVAS.yuv(), tiles, overlays: Vec::new() };
        let pool = Pool::new(2, VideoFrame::bytes(320, 180));
        Composer::new(scene).unwrap().compose(&[], &pool).unwrap()
    };
    let (silent, speaks) = (drawn(false), drawn(true));
    let row = |picture: &VideoFrame| picture.y()[90 * 320..90 * 320 + 8].to_vec();
    let (canvas, accent) = (CANVAS.yuv().y, ACCENT.yuv().y);
    assert_eq!(row(&silent), [canvas, canvas, 235, 235, 235, 235, 235, 235]);
    assert_eq!(row(&speaks), [canvas, canvas, accent, accent, 235, 235, 235, 235]);
    // The four corners mirror each other.
    for picture in [&silent, &speaks] {
        for (x, y) in (0..16).flat_map(|x| (0..16).map(move |y| (x, y))) {
            let at = |x: usize, y: usize| picture.y()[y * 320 + x];
            let corners = [at(x, y), at(319 - x, y), at(x, 179 - y), at(319 - x, 179 - y)];
            assert!(corners.iter().all(|it| it.abs_diff(corners[0]) <= 2), "{x},{y}: {corners:?}");
        }
        assert_eq!(picture.y()[0], canvas);
    }
}
