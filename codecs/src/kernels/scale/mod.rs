//! Pictures to another size: an area average where it shrinks, two taps where it grows, each way
//! by itself. Keeping the shape is the caller's: see [`super::fill::Area::fit`].
//!
//! Plain loops say what comes out. What is used most has a way of its own to the same bytes:
//! halves, quarters and three quarters, other ratios of few bits, and the rest by multiplying in
//! pairs.

mod plain;
mod plan;
mod quarters;
mod sixteenths;
mod whole;
mod wide;

use fearless_simd::{Simd, dispatch};
use plain::Room;
use plan::{Plan, Side};
use sixteenths::Sixteenths;
use wide::Wide;

use super::cpu::Cpu;
use super::fill::Area;
use crate::codec::CodecError;
use crate::frame::{MAX_SIDE, PlanesMut, VideoFrame};

/// Scales pictures of one size to another. The plan is made once; no call allocates.
#[derive(Clone, Debug)]
pub struct Scaler {
    from: (usize, usize),
    to: (usize, usize),
    luma: (Plan, Way),
    chroma: (Plan, Way),
    /// One line, already scaled the upright way: sums first, then 8 bits after the point.
    sums: Box<[u32]>,
    line: Box<[u16]>,
    other: Box<[u16]>,
    cpu: Cpu,
}

/// How a plane is scaled. All ways that can take a plan make the same bytes of it.
#[derive(Clone, Debug)]
enum Way {
    Half,
    Quarter,
    ThreeQuarters,
    Sixteenths(Sixteenths),
    Wide(Wide),
    Plain,
}

impl Scaler {
    /// From pictures of the first size to the second, width and height.
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Result<Self, CodecError> {
        if [from.0, from.1, to.0, to.1].iter().any(|side| *side == 0 || *side > MAX_SIDE) {
            return Err(CodecError::Unsupported("a side of zero or of more than 4096 pixels"));
        }
        let plan = |divide: usize| Plan {
            across: Side::new(from.0.div_ceil(divide), to.0.div_ceil(divide)),
            upright: Side::new(from.1.div_ceil(divide), to.1.div_ceil(divide)),
        };
        let line = vec![0; from.0.max(to.0)].into_boxed_slice();
        let scaler = Self {
            from,
            to,
            luma: (plan(1), Way::Plain),
            chroma: (plan(2), Way::Plain),
            sums: vec![0; from.0].into(),
            other: line.clone(),
            line,
            cpu: Cpu::detect(),
        };
        Ok(scaler.on(Cpu::detect()))
    }

    /// The same with other instructions; the pictures are the same, bit by bit.
    #[must_use]
    pub fn on(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
        for (plan, way) in [&mut self.luma, &mut self.chroma] {
            *way = Way::new(plan, cpu);
        }
        self
    }

    /// Size of the pictures that go in.
    pub const fn from(&self) -> (usize, usize) {
        self.from
    }

    /// Size of the pictures that come out.
    pub const fn to(&self) -> (usize, usize) {
        self.to
    }

    /// Scales `frame` into the part of `picture` (`width` pixels wide) whose upper left corner is
    /// at `x`, `y`, both even; the rest of the picture is left as it is.
    pub fn scale(
        &mut self,
        frame: &VideoFrame,
        picture: &mut PlanesMut<'_>,
        width: usize,
        (x, y): (usize, usize),
    ) -> Result<(), CodecError> {
        if (frame.width(), frame.height()) != self.from {
            return Err(CodecError::Unsupported("the scaler was made for another size"));
        }
        let area = Area { x, y, width: self.to.0, height: self.to.1 };
        let fits = x.is_multiple_of(2)
            && y.is_multiple_of(2)
            && x + area.width <= width
            && (y + area.height) * width <= picture.y.len();
        if !fits {
            return Err(CodecError::Unsupported("the scaled picture lies outside of its picture"));
        }
        let luma = Place { from_width: self.from.0, to_width: width, x, y, width: self.to.0 };
        let chroma = Place {
            from_width: self.from.0.div_ceil(2),
            to_width: width.div_ceil(2),
            x: x / 2,
            y: y / 2,
            width: self.to.0.div_ceil(2),
        };
        let mut room = Room { sums: &mut self.sums, line: &mut self.line, other: &mut self.other };
        let PlanesMut { y, u, v } = picture;
        scale_plane(self.cpu, &self.luma, frame.y(), y, &luma, &mut room);
        scale_plane(self.cpu, &self.chroma, frame.u(), u, &chroma, &mut room);
        scale_plane(self.cpu, &self.chroma, frame.v(), v, &chroma, &mut room);
        Ok(())
    }
}

impl Way {
    fn new(plan: &Plan, cpu: Cpu) -> Self {
        let (across, upright) = (&plan.across, &plan.upright);
        match (across.whole && upright.whole, across.taps, upright.taps) {
            (true, 2, 2) => Self::Half,
            (true, 4, 4) => Self::Quarter,
            _ if !cpu.shuffles() => Self::Plain,
            _ if quarters::fit(plan) => Self::ThreeQuarters,
            _ => Sixteenths::new(plan).map_or_else(|| Self::Wide(Wide::new(plan)), Self::Sixteenths),
        }
    }
}

/// Where a plane goes in its picture.
struct Place {
    from_width: usize,
    to_width: usize,
    x: usize,
    y: usize,
    width: usize,
}

impl Place {
    /// Its lines there, and those below.
    fn lines<'a>(&self, to: &'a mut [u8]) -> impl Iterator<Item = &'a mut [u8]> {
        let (begin, end) = (self.x, self.x + self.width);
        to.chunks_exact_mut(self.to_width).skip(self.y).map(move |line| &mut line[begin..end])
    }
}

fn scale_plane(
    cpu: Cpu,
    (plan, way): &(Plan, Way),
    from: &[u8],
    to: &mut [u8],
    place: &Place,
    room: &mut Room<'_>,
) {
    dispatch!(cpu.0, simd => by_way(simd, plan, way, from, to, place, room));
}

#[inline(always)]
fn by_way<S: Simd>(
    simd: S,
    plan: &Plan,
    way: &Way,
    from: &[u8],
    to: &mut [u8],
    place: &Place,
    room: &mut Room<'_>,
) {
    match way {
        Way::Half => whole::shrink::<S, 2>(simd, from, to, place),
        Way::Quarter => whole::shrink::<S, 4>(simd, from, to, place),
        Way::ThreeQuarters => quarters::shrink(simd, from, to, place),
        Way::Sixteenths(ours) => sixteenths::scale(simd, ours, from, to, place, room),
        Way::Wide(ours) => wide::scale(simd, (plan, ours), from, to, place, room),
        Way::Plain => plain::scale(simd, plan, from, to, place, room),
    }
}

#[cfg(test)]
mod tests;
