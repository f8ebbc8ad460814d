//! The forms of a canvas: square grids, one main tile in a square grid, rows.

use crosspoint_codecs::kernels::fill::Area;

use super::{Canvas, Layout};

/// Where rows have room to spare they grow beyond the shape of the canvas, until this share of the
/// width of a source of that shape would be cut away. Beyond it the room stays ground.
const ROW_STRETCH: f64 = 0.25;

/// The areas of `seen` tiles, in the order of their slots.
pub(super) fn areas(layout: Layout, canvas: Canvas, seen: usize) -> Vec<Area> {
    match (layout, seen) {
        (_, 0) => Vec::new(),
        (_, 1) => grid(canvas, 1, 1),
        (Layout::Four | Layout::Nine | Layout::Sixteen | Layout::TwentyFive, _) => {
            // The side of the smallest square that holds them.
            let side = (2..=5).find(|side| side * side >= seen).unwrap_or(5);
            grid(canvas, side, seen)
        }
        (Layout::OneMain | Layout::OneAndSeven | Layout::OneAndTwentyOne | Layout::OneAndThirtyThree, _) => {
            match seen {
                ..=8 => beside_main(canvas, 4, 3, seen),
                9..=22 => beside_main(canvas, 5, 2, seen),
                _ => beside_main(canvas, 7, 4, seen),
            }
        }
        (Layout::TwoAndTwentyOne, 2) => grid(canvas, 2, 2),
        (Layout::TwoAndTwentyOne, _) => {
            let others = seen - 2;
            let rows = others.div_ceil(7);
            let row = |row: usize| (others - row * 7).min(7);
            let sizes: Vec<_> = std::iter::once((2, 2)).chain((0..rows).map(|n| (7, row(n)))).collect();
            in_rows(canvas, &sizes, ROW_STRETCH)
        }
        (Layout::FiveAndSeven, ..=4) => grid(canvas, 2, seen),
        (Layout::FiveAndSeven, _) => in_rows(canvas, &full(large_middle_small(seen)), ROW_STRETCH),
        (Layout::Adaptive, 3) => one_beside_two(canvas),
        // Adaptive composition leaves nothing unused: its rows grow as far as the canvas goes.
        (Layout::Adaptive, _) => in_rows(canvas, &full(large_middle_small(seen)), 1.0),
    }
}

/// Tiles in each row, from the top: two large ones, then up to three middle ones, then up to seven
/// small ones. Where three rows would cut heads there are two, which cut at the sides.
const fn large_middle_small(seen: usize) -> &'static [usize] {
    match seen {
        2 => &[2],
        3 => &[1, 2],
        4 => &[2, 2],
        5 => &[2, 3],
        6 => &[2, 4],
        7 => &[2, 5],
        8 => &[2, 3, 3],
        9 => &[2, 3, 4],
        10 => &[2, 3, 5],
        11 => &[2, 3, 6],
        _ => &[2, 3, 7],
    }
}

/// Rows that have as many tiles as they have room for.
fn full(rows: &[usize]) -> Vec<(usize, usize)> {
    rows.iter().map(|tiles| (*tiles, *tiles)).collect()
}

/// A square grid of `side` x `side` cells, read like a page, of which `seen` are filled.
fn grid(canvas: Canvas, side: usize, seen: usize) -> Vec<Area> {
    let (across, upright) = (Cuts::new(canvas.width(), side), Cuts::new(canvas.height(), side));
    let rows = seen.div_ceil(side);
    let top = half(upright.spare(rows));
    let cell = |n: usize| {
        let (row, column) = (n / side, n % side);
        let in_row = (seen - row * side).min(side);
        let left = half(across.spare(in_row));
        moved(across.cell(column, 1).with(upright.cell(row, 1)), left, top)
    };
    (0..seen).map(cell).collect()
}

/// A square grid of `side` x `side` cells. The first tile takes `main` x `main` of them at the upper
/// left; the others go beside it from the top, then below it.
fn beside_main(canvas: Canvas, side: usize, main: usize, seen: usize) -> Vec<Area> {
    let (across, upright) = (Cuts::new(canvas.width(), side), Cuts::new(canvas.height(), side));
    let (others, columns) = (seen - 1, side - main);
    let beside = others.min(columns * main);
    let below = others - beside;
    let rows = main + below.div_ceil(side);
    let top = half(upright.spare(rows));
    // Few beside the main tile stand in the middle of its height.
    let lower = half(upright.at(main) - upright.at(beside.div_ceil(columns)));
    let mut areas = vec![moved(across.cell(0, main).with(upright.cell(0, main)), 0, top)];
    areas.extend((0..beside).map(|n| {
        let cell = across.cell(main + n % columns, 1).with(upright.cell(n / columns, 1));
        moved(cell, 0, top + lower)
    }));
    areas.extend((0..below).map(|n| {
        let (row, column) = (n / side, n % side);
        let left = half(across.spare((below - row * side).min(side)));
        moved(across.cell(column, 1).with(upright.cell(main + row, 1)), left, top)
    }));
    areas
}

/// Rows from the top: each as (tiles that it has room for, tiles in it). The tiles of a row share
/// the width, so that its height at the canvas' own shape would be the height divided by its room;
/// all rows shrink alike to fit, or grow alike until `stretch` of a source is cut away.
fn in_rows(canvas: Canvas, rows: &[(usize, usize)], stretch: f64) -> Vec<Area> {
    let natural: f64 = rows.iter().map(|(room, _)| 1.0 / float(*room)).sum();
    let most = if stretch < 1.0 { 1.0 / (1.0 - stretch) } else { f64::INFINITY };
    let scale = (1.0 / natural).min(most);
    let height = float(canvas.height());
    let top = (1.0 - natural * scale) / 2.0 * height;
    let mut areas = Vec::new();
    let mut above = 0.0;
    for (room, tiles) in rows {
        let begin = even(top + above * scale * height);
        above += 1.0 / float(*room);
        let end = even(top + above * scale * height).min(canvas.height());
        let across = Cuts::new(canvas.width(), *room);
        let left = half(across.spare(*tiles));
        let tile = |n| moved(across.cell(n, 1).with(Span(begin, end - begin)), left, 0);
        areas.extend((0..*tiles).map(tile));
    }
    areas
}

/// Three parties fill the canvas: one at two thirds of the width, two above each other beside it.
/// All three have the same shape.
fn one_beside_two(canvas: Canvas) -> Vec<Area> {
    let (across, upright) = (Cuts::new(canvas.width(), 3), Cuts::new(canvas.height(), 2));
    vec![
        across.cell(0, 2).with(upright.cell(0, 2)),
        across.cell(2, 1).with(upright.cell(0, 1)),
        across.cell(2, 1).with(upright.cell(1, 1)),
    ]
}

/// A side of the canvas in parts as equal as even numbers allow.
struct Cuts {
    length: usize,
    parts: usize,
}

impl Cuts {
    const fn new(length: usize, parts: usize) -> Self {
        Self { length, parts }
    }

    /// Where a part begins.
    const fn at(&self, part: usize) -> usize {
        (part * self.length / self.parts) & !1
    }

    /// `count` parts from `first` on.
    const fn cell(&self, first: usize, count: usize) -> Span {
        Span(self.at(first), self.at(first + count) - self.at(first))
    }

    /// What is left when only the first `used` parts are.
    const fn spare(&self, used: usize) -> usize {
        self.length - self.at(used)
    }
}

/// Begin and length, both even.
#[derive(Clone, Copy)]
struct Span(usize, usize);

impl Span {
    const fn with(self, upright: Self) -> Area {
        Area { x: self.0, y: upright.0, width: self.1, height: upright.1 }
    }
}

const fn moved(area: Area, right: usize, down: usize) -> Area {
    Area { x: area.x + right, y: area.y + down, ..area }
}

/// Half of what is left over, as an even number.
const fn half(spare: usize) -> usize {
    (spare / 2) & !1
}

#[allow(clippy::cast_precision_loss, reason = "sides of at most 4096 pixels")]
const fn float(value: usize) -> f64 {
    value as f64
}

/// Down to an even number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place on the canvas")]
const fn even(value: f64) -> usize {
    // A hair more, so that sums of fractions that make a whole do not fall short of it.
    (value + 1e-6) as usize & !1
}
