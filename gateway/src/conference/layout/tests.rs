use proptest::prelude::*;

use super::*;

const WIDE: Canvas = match Canvas::new(1280, 720) {
    Ok(canvas) => canvas,
    Err(_) => unreachable!(),
};

fn areas(layout: Layout, parties: usize) -> Vec<(usize, usize, usize, usize)> {
    let tiles = layout.tiles(WIDE, &vec![Some((1280, 720)); parties]);
    tiles.iter().map(|it| (it.area.x, it.area.y, it.area.width, it.area.height)).collect()
}

#[test]
fn words_are_those_of_the_client_api() {
    for layout in Layout::ALL {
        assert_eq!(layout.to_string().parse(), Ok(layout));
    }
    let words = Layout::ALL.map(Layout::word);
    for word in ["1:0", "1:7", "2:21", "4:0", "9:0", "16:0", "25:0", "1:21", "1:33", "5:7", "ac"] {
        assert!(words.contains(&word), "{word}");
    }
    let told = "1:9".parse::<Layout>().unwrap_err().to_string();
    assert!(told.starts_with("\"1:9\" is no layout; the layouts are 1:7, ac,"), "{told}");
    assert!("x".repeat(9_000).parse::<Layout>().unwrap_err().to_string().len() < 200);
}

#[test]
fn a_canvas_has_even_sides_within_limits() {
    assert!(Canvas::new(1280, 720).is_ok());
    for (width, height) in [(0, 0), (62, 720), (1281, 720), (1280, 721), (4098, 720)] {
        assert!(Canvas::new(width, height).is_err(), "{width}x{height}");
    }
}

#[test]
fn one_and_seven_is_a_ring_of_the_canvas_own_shape() {
    let small = [(960, 0), (960, 180), (960, 360), (0, 540), (320, 540), (640, 540), (960, 540)];
    let mut expected = vec![(0, 0, 960, 540)];
    expected.extend(small.map(|(x, y)| (x, y, 320, 180)));
    assert_eq!(areas(Layout::OneAndSeven, 8), expected);
    assert_eq!(areas(Layout::OneAndSeven, 100), expected);
}

#[test]
fn fewer_parties_take_the_room_of_those_who_are_not_there() {
    for layout in Layout::ALL {
        assert_eq!(areas(layout, 1), [(0, 0, 1280, 720)], "{layout}");
        assert_eq!(areas(layout, 0), [], "{layout}");
    }
    let centred = [(0, 180, 640, 360), (640, 180, 640, 360)];
    assert_eq!(areas(Layout::TwentyFive, 2), centred);
    assert_eq!(areas(Layout::Four, 3)[2], (320, 360, 640, 360));
    assert_eq!(areas(Layout::OneAndSeven, 2), [(0, 90, 960, 540), (960, 270, 320, 180)]);
    assert_eq!(areas(Layout::OneAndThirtyThree, 8), areas(Layout::OneAndSeven, 8));
    assert_eq!(areas(Layout::OneAndThirtyThree, 22), areas(Layout::OneAndTwentyOne, 22));
}

#[test]
fn adaptive_composition_leaves_nothing_of_the_canvas_unused() {
    for parties in 1..=Layout::Adaptive.capacity() {
        let used: usize = areas(Layout::Adaptive, parties).iter().map(|(_, _, w, h)| w * h).sum();
        // Row ends that round to even numbers may differ; nothing more.
        assert_eq!(used, 1280 * 720, "{parties}");
    }
    let twelve = areas(Layout::Adaptive, 12);
    let large = twelve[..2].iter().all(|it| it.2 == 640);
    let middle = twelve[2..5].iter().all(|it| (426..=428).contains(&it.2));
    let small = twelve[5..].iter().all(|it| (182..=184).contains(&it.2));
    assert!(large && middle && small, "{twelve:?}");
}

#[test]
fn a_four_by_three_source_fills_a_wide_tile_and_an_upright_one_stands_in_it() {
    let tiles = Layout::Four.tiles(WIDE, &[Some((640, 480)), Some((360, 640)), Some((640, 360)), None]);
    let fit = |n: usize| tiles[n].fit.unwrap();
    assert_eq!(fit(0).crop, Area { x: 0, y: 60, width: 640, height: 360 });
    assert_eq!(fit(0).inside, tiles[0].area);
    assert_eq!(fit(1).crop, Area::whole(360, 640));
    assert_eq!(fit(1).inside, Area { x: 640 + 218, y: 0, width: 202, height: 360 });
    assert_eq!((fit(2).crop, fit(2).inside), (Area::whole(640, 360), tiles[2].area));
    assert!(tiles[3].fit.is_none());
}

#[test]
fn no_tile_of_a_full_layout_cuts_more_of_a_picture_of_the_canvas_shape_than_it_may() {
    for layout in Layout::ALL {
        for parties in 1..=layout.capacity() {
            for tile in layout.tiles(WIDE, &vec![Some((1280, 720)); parties]) {
                let fit = tile.fit.unwrap();
                assert_eq!(fit.inside, tile.area, "{layout} of {parties}: {tile:?} is not filled");
            }
        }
    }
}

fn even(area: Area) -> bool {
    [area.x, area.y, area.width, area.height].iter().all(|it| it.is_multiple_of(2))
}

fn within(inner: Area, outer: Area) -> bool {
    inner.x >= outer.x
        && inner.y >= outer.y
        && inner.x + inner.width <= outer.x + outer.width
        && inner.y + inner.height <= outer.y + outer.height
}

fn apart(a: Area, b: Area) -> bool {
    a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y
}

proptest! {
    #[test]
    fn tiles_are_even_apart_within_the_canvas_and_undistorted(
        layout in prop::sample::select(Layout::ALL.to_vec()),
        (width, height) in (MIN_CANVAS / 2..=960, MIN_CANVAS / 2..=540),
        sources in prop::collection::vec(prop::option::of((16..2000_usize, 16..2000_usize)), 0..50),
    ) {
        let canvas = Canvas::new(width * 2, height * 2).unwrap();
        let tiles = layout.tiles(canvas, &sources);
        prop_assert_eq!(tiles.len(), sources.len().min(layout.capacity()));
        let whole = Area::whole(canvas.width(), canvas.height());
        for (n, tile) in tiles.iter().enumerate() {
            prop_assert_eq!(tile.slot, n);
            prop_assert!(even(tile.area) && within(tile.area, whole), "{:?}", tile);
            prop_assert!(tile.area.width >= 8 && tile.area.height >= 8, "{:?}", tile);
            prop_assert!(tiles[..n].iter().all(|other| apart(tile.area, other.area)), "{:?}", tiles);
            prop_assert_eq!(tile.fit.is_some(), sources[n].is_some());
            let Some(fit) = tile.fit else { continue };
            let (w, h) = sources[n].unwrap();
            prop_assert!(within(fit.inside, tile.area) && within(fit.crop, Area::whole(w, h)), "{:?}", tile);
            prop_assert!(fit.inside.x.is_multiple_of(2) && fit.inside.y.is_multiple_of(2));
            prop_assert!(fit.crop.x.is_multiple_of(2) && fit.crop.y.is_multiple_of(2));
            let kept = (fit.crop.width * fit.crop.height) as f64 / (w * h) as f64;
            prop_assert!(1.0 - kept <= layout.crop_limit());
            // One source pixel is as wide as it is high, but for what even numbers round away.
            let across = fit.inside.width as f64 / fit.crop.width as f64;
            let slack = across.max(1.0) * 2.0 + 2.0;
            prop_assert!((across * fit.crop.height as f64 - fit.inside.height as f64).abs() <= slack
                || (fit.inside.height as f64 / fit.crop.height as f64 * fit.crop.width as f64
                    - fit.inside.width as f64).abs() <= slack, "{:?}", fit);
        }
    }
}

#[test]
fn slides_have_the_main_tile_of_one_and_seven_and_are_seen_whole() {
    let areas = |layout: Layout, others: usize| -> Vec<Area> {
        let tiles = layout.tiles_with_slides(WIDE, (1024, 768), &vec![None; others]);
        tiles.iter().map(|it| it.area).collect()
    };
    for layout in Layout::ALL.into_iter().filter(|it| *it != Layout::OneMain) {
        for others in [0, 1, 7, 30] {
            let parties = vec![Some((1280, 720)); others + 1];
            let wanted = Layout::OneAndSeven.tiles(WIDE, &parties);
            assert_eq!(areas(layout, others), wanted.iter().map(|it| it.area).collect::<Vec<_>>());
        }
    }
    assert_eq!(areas(Layout::OneMain, 5), [Area::whole(1280, 720)]);
    for size in [(1024, 768), (1920, 1080), (1920, 1078), (360, 640), (4096, 16), (1, 1)] {
        let tiles = Layout::Adaptive.tiles_with_slides(WIDE, size, &[Some((640, 480))]);
        let (slides, camera) = (tiles[0].fit.unwrap(), tiles[1].fit.unwrap());
        assert_eq!(slides.crop, Area::whole(size.0, size.1), "nothing of slides is cut away");
        assert_eq!(camera.inside, tiles[1].area, "a camera's picture fills its tile");
    }
}
