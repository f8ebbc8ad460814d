use super::*;
use crate::draw::{Rgb, Round, Sheet};
use crate::kernels::scale::Scaler;

const GREY: Colour = Colour { y: 60, u: 128, v: 128 };

fn picture(width: usize, height: usize, luma: impl Fn(usize, usize) -> u8) -> VideoFrame {
    let pool = Pool::new(1, VideoFrame::bytes(width, height));
    VideoFrame::new(&pool, width, height, |planes| {
        planes.y.iter_mut().enumerate().for_each(|(n, y)| *y = luma(n % width, n / width));
        planes.u.fill(100);
        planes.v.fill(150);
    })
    .unwrap()
}

fn live(source: usize, size: (usize, usize), area: Area) -> Tile {
    let crop = Area::whole(size.0, size.1);
    let content = Content::Live(Live { source, size, crop, inside: area, ground: GREY, stand_in: None });
    Tile { area, content, overlays: Vec::new() }
}

fn area(x: usize, y: usize, width: usize, height: usize) -> Area {
    Area { x, y, width, height }
}

fn scene(tiles: Vec<Tile>) -> Scene {
    Scene { width: 64, height: 48, background: Colour::BLACK, tiles, overlays: Vec::new() }
}

fn pool() -> Pool {
    Pool::new(3, VideoFrame::bytes(64, 48))
}

const fn feed(picture: &VideoFrame, fresh: bool) -> Feed<'_> {
    Feed { picture: Some(picture), fresh, stalled: false }
}

/// The luma of an area, line by line.
fn luma(picture: &VideoFrame, of: Area) -> Vec<u8> {
    let lines = picture.y().chunks(picture.width()).skip(of.y).take(of.height);
    lines.flat_map(|line| line[of.x..of.x + of.width].to_vec()).collect()
}

#[test]
fn sources_are_scaled_into_their_places_and_the_rest_is_background() {
    let source = picture(64, 36, |x, y| (x * 3 + y) as u8);
    let place = area(32, 0, 32, 18);
    let mut composer = Composer::new(scene(vec![live(0, (64, 36), place)])).unwrap();
    let out = composer.compose(&[feed(&source, true)], &pool()).unwrap();
    let mut scaler = Scaler::new((64, 36), (32, 18)).unwrap();
    let alone = VideoFrame::new(&Pool::new(1, 9_000), 32, 18, |mut planes| {
        scaler.scale(&source, &mut planes, 32, (0, 0)).unwrap();
    });
    assert_eq!(luma(&out, place), alone.unwrap().y());
    assert_eq!(luma(&out, area(0, 0, 32, 48)), [16; 32 * 48]);
    assert_eq!(luma(&out, area(32, 18, 32, 30)), [16; 32 * 30]);
    assert_eq!((out.u()[16], out.v()[16], out.u()[0]), (100, 150, 128));
}

#[test]
fn the_seen_part_is_what_a_cut_source_would_show() {
    let source = picture(48, 36, |x, y| (x * 5 + y * 2) as u8);
    let cut = picture(48, 28, |x, y| (x * 5 + (y + 4) * 2) as u8);
    let place = area(0, 0, 24, 14);
    let mut whole = live(0, (48, 36), place);
    let Content::Live(it) = &mut whole.content else { unreachable!() };
    it.crop = area(0, 4, 48, 28);
    let [a, b] = [(whole, &source), (live(0, (48, 28), place), &cut)].map(|(tile, source)| {
        let mut composer = Composer::new(scene(vec![tile])).unwrap();
        composer.compose(&[feed(source, true)], &pool()).unwrap()
    });
    assert_eq!(a, b);
}

#[test]
fn a_source_that_does_not_fill_its_tile_stands_on_its_ground() {
    let mut tile = live(0, (16, 16), area(0, 0, 32, 16));
    let Content::Live(it) = &mut tile.content else { unreachable!() };
    it.inside = area(8, 0, 16, 16);
    let source = picture(16, 16, |_, _| 200);
    let mut composer = Composer::new(scene(vec![tile])).unwrap();
    let out = composer.compose(&[feed(&source, true)], &pool()).unwrap();
    let line = luma(&out, area(0, 3, 34, 1));
    assert_eq!(line, [[60; 8].as_slice(), &[200; 16], &[60; 8], &[16; 2]].concat());
}

#[test]
fn only_what_is_fresh_is_drawn_and_nothing_new_is_the_same_picture() {
    let (one, two, other) =
        (picture(16, 16, |_, _| 50), picture(16, 16, |_, _| 90), picture(16, 16, |_, _| 130));
    let places = [area(0, 0, 16, 16), area(16, 0, 16, 16)];
    let tiles = vec![live(0, (16, 16), places[0]), live(1, (16, 16), places[1])];
    let mut composer = Composer::new(scene(tiles)).unwrap();
    let pool = pool();
    let first = composer.compose(&[feed(&one, true), feed(&two, true)], &pool).unwrap();
    let again = composer.compose(&[feed(&other, false), feed(&other, false)], &pool).unwrap();
    assert_eq!((first.y().as_ptr(), pool.available()), (again.y().as_ptr(), 2));
    let third = composer.compose(&[feed(&other, false), feed(&other, true)], &pool).unwrap();
    assert_eq!(luma(&third, places[0]), [50; 256]);
    assert_eq!(luma(&third, places[1]), [130; 256]);
}

#[test]
fn a_tile_keeps_its_last_picture_when_its_source_has_none_or_an_unfit_one() {
    let (good, large) = (picture(16, 16, |_, _| 77), picture(32, 32, |_, _| 222));
    let place = area(0, 0, 16, 16);
    let mut composer = Composer::new(scene(vec![live(0, (16, 16), place)])).unwrap();
    let pool = pool();
    let none = composer.compose(&[], &pool).unwrap();
    assert_eq!(luma(&none, place), [60; 256], "nothing came yet: plain ground");
    composer.compose(&[feed(&good, true)], &pool).unwrap();
    for feed in [Feed::default(), Feed { fresh: true, ..Feed::default() }, feed(&large, true)] {
        assert_eq!(luma(&composer.compose(&[feed], &pool).unwrap(), place), [77; 256]);
    }
    assert_eq!(composer.unfit(), 1);
}

#[test]
fn a_stand_in_is_seen_until_a_picture_comes_and_while_the_source_has_stalled() {
    let place = area(8, 4, 16, 16);
    let mut tile = live(0, (16, 16), place);
    let Content::Live(it) = &mut tile.content else { unreachable!() };
    it.stand_in = Some(picture(16, 16, |x, _| 200 + x as u8));
    let (good, next) = (picture(16, 16, |_, _| 77), picture(16, 16, |_, _| 99));
    let stands_in: Vec<u8> = (0..256).map(|n| 200 + n as u8 % 16).collect();
    let stalled = |picture| Feed { picture, fresh: false, stalled: true };
    let mut composer = Composer::new(scene(vec![tile.clone()])).unwrap();
    let pool = pool();
    let mut seen = |feed: Feed<'_>| luma(&composer.compose(&[feed], &pool).unwrap(), place);
    assert_eq!(seen(Feed::default()), stands_in, "nothing came yet");
    assert_eq!(seen(feed(&good, true)), [77; 256]);
    assert_eq!(seen(Feed::default()), [77; 256], "a moment without a picture");
    assert_eq!(seen(stalled(None)), stands_in);
    assert_eq!(seen(stalled(Some(&good))), stands_in);
    assert_eq!(seen(Feed { fresh: true, ..stalled(Some(&next)) }), stands_in, "damaged ones are not seen");
    assert_eq!(seen(feed(&next, true)), [99; 256]);
    // Without one the last picture stays.
    let mut composer = Composer::new(scene(vec![live(0, (16, 16), place)])).unwrap();
    let mut seen = |feed: Feed<'_>| luma(&composer.compose(&[feed], &pool).unwrap(), place);
    assert_eq!(seen(feed(&good, true)), [77; 256]);
    assert_eq!(seen(stalled(None)), [77; 256]);
    let mut composer = Composer::new(scene(vec![live(0, (16, 16), place)])).unwrap();
    let late = composer.compose(&[stalled(Some(&good))], &pool).unwrap();
    assert_eq!(luma(&late, place), [77; 256], "also by who looks later");
    // And it has to be of the tile's size.
    let Content::Live(it) = &mut tile.content else { unreachable!() };
    it.stand_in = Some(picture(16, 18, |_, _| 0));
    assert_eq!(Composer::new(scene(vec![tile])).unwrap_err(), SceneError::Still);
}

#[test]
fn a_picture_that_gave_way_is_given_back() {
    let mut tile = live(0, (16, 16), area(0, 0, 16, 16));
    let Content::Live(it) = &mut tile.content else { unreachable!() };
    it.stand_in = Some(picture(16, 16, |_, _| 200));
    let mut composer = Composer::new(scene(vec![tile])).unwrap();
    let (pool, source) = (pool(), Pool::new(1, VideoFrame::bytes(16, 16)));
    let good = VideoFrame::new(&source, 16, 16, |_| ()).unwrap();
    composer.compose(&[feed(&good, true)], &pool).unwrap();
    drop(good);
    assert_eq!(source.available(), 0);
    composer.compose(&[Feed { stalled: true, ..Feed::default() }], &pool).unwrap();
    assert_eq!(source.available(), 1);
}

#[test]
fn overlays_are_blended_once_however_often_a_part_is_drawn() {
    let mut sheet = Sheet::new(32, 8);
    sheet.round(Round { x: -9.0, y: -9.0, width: 90.0, height: 90.0, radius: 0.0 }, Rgb(0, 0, 0), 0.5);
    let banner = Overlay::Sprite(Arc::new(sheet.sprite().unwrap()), (0, 4));
    let tiles = vec![live(0, (16, 16), area(0, 0, 16, 16)), live(1, (16, 16), area(16, 0, 16, 16))];
    let mut composer = Composer::new(Scene { overlays: vec![banner], ..scene(tiles) }).unwrap();
    let (source, pool) = (picture(16, 16, |_, _| 116), pool());
    for n in 0..6 {
        // The second source is lost now and then, but what it showed is drawn again with the first.
        let second = if n % 2 == 0 { feed(&source, n % 3 == 0) } else { Feed::default() };
        let feeds = [feed(&source, n % 4 != 2), second];
        let out = composer.compose(&feeds, &pool).unwrap();
        assert_eq!(luma(&out, area(0, 4, 32, 8)), [66; 256]);
        assert_eq!(luma(&out, area(0, 12, 32, 4)), [116; 128]);
    }
}

#[test]
fn overlays_of_a_tile_are_over_its_picture_only() {
    let mut tile = live(0, (16, 16), area(8, 8, 16, 16));
    tile.overlays = vec![Overlay::Fill(area(8, 8, 16, 2), Colour::WHITE)];
    let mut composer = Composer::new(scene(vec![tile.clone()])).unwrap();
    let source = picture(16, 16, |_, _| 99);
    let out = composer.compose(&[feed(&source, true)], &pool()).unwrap();
    assert_eq!(luma(&out, area(8, 8, 16, 2)), [235; 32]);
    assert_eq!(luma(&out, area(8, 10, 16, 2)), [99; 32]);
    tile.overlays = vec![Overlay::Fill(area(6, 8, 16, 2), Colour::WHITE)];
    assert_eq!(Composer::new(scene(vec![tile])).unwrap_err(), SceneError::Area);
}

#[test]
fn an_empty_pool_gives_no_picture_and_the_next_one_is_whole() {
    let place = area(0, 0, 16, 16);
    let mut composer = Composer::new(scene(vec![live(0, (16, 16), place)])).unwrap();
    let pool = pool();
    let (one, two) = (picture(16, 16, |_, _| 50), picture(16, 16, |_, _| 90));
    let held: Vec<_> = (0..3).map(|_| composer.compose(&[feed(&one, true)], &pool).unwrap()).collect();
    assert!(composer.compose(&[feed(&two, true)], &pool).is_none());
    drop(held);
    let out = composer.compose(&[feed(&two, true)], &pool).unwrap();
    assert_eq!(luma(&out, place), [90; 256]);
}

#[test]
fn a_scene_that_cannot_be_is_refused() {
    let tile = |x, y, width, height| live(0, (16, 16), area(x, y, width, height));
    let error = |scene: Scene| Composer::new(scene).unwrap_err();
    assert_eq!(error(Scene { width: 63, ..scene(vec![]) }), SceneError::Size);
    assert_eq!(error(Scene { height: MAX_SIDE + 2, ..scene(vec![]) }), SceneError::Size);
    assert_eq!(error(scene(vec![tile(60, 0, 16, 16)])), SceneError::Area);
    assert_eq!(error(scene(vec![tile(1, 0, 16, 16)])), SceneError::Area);
    assert_eq!(error(scene(vec![tile(usize::MAX - 1, 0, 16, 16)])), SceneError::Area);
    assert_eq!(error(scene(vec![tile(0, 0, 16, 16), tile(14, 14, 16, 16)])), SceneError::Overlap);
    assert_eq!(error(scene(vec![tile(0, 0, 2, 2); MAX_TILES + 1])), SceneError::TooMany);
    let still = Content::Still(picture(8, 8, |_, _| 0));
    let still = Tile { area: area(0, 0, 16, 16), content: still, overlays: Vec::new() };
    assert_eq!(error(scene(vec![still])), SceneError::Still);
    let mut cut = tile(0, 0, 16, 16);
    let Content::Live(it) = &mut cut.content else { unreachable!() };
    it.crop = area(8, 0, 16, 16);
    assert_eq!(error(scene(vec![cut])), SceneError::Area);
}
