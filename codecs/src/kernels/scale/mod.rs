//! Pictures to another size: an area average where it shrinks, two taps where it grows, each way
//! by itself. Keeping the shape is the caller's: see [`super::fill::Area::fit`].

mod plain;
mod plan;

use fearless_simd::dispatch;
use plain::{Room, scale_plane};
use plan::{Plan, Side};

use super::cpu::Cpu;
use super::fill::Area;
use crate::codec::CodecError;
use crate::frame::{MAX_SIDE, PlanesMut, VideoFrame};

/// Scales pictures of one size to another. The plan is made once; no call allocates.
#[derive(Clone, Debug)]
pub struct Scaler {
    from: (usize, usize),
    to: (usize, usize),
    luma: Plan,
    chroma: Plan,
    /// One line, already scaled the upright way: sums first, then 8 bits after the point.
    sums: Box<[u32]>,
    line: Box<[u16]>,
    cpu: Cpu,
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
        Ok(Self {
            from,
            to,
            luma: plan(1),
            chroma: plan(2),
            sums: vec![0; from.0].into(),
            line: vec![0; from.0].into(),
            cpu: Cpu::detect(),
        })
    }

    /// The same with other instructions; the pictures are the same, bit by bit.
    #[must_use]
    pub fn on(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
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
        let (half, chroma) = (width.div_ceil(2), self.from.0.div_ceil(2));
        let corner = (x / 2, y / 2);
        let Self { luma: plan, chroma: chroma_plan, sums, line, from, .. } = self;
        let mut room = Room { sums, line };
        dispatch!(self.cpu.0, simd => {
            scale_plane(simd, plan, frame.y(), from.0, picture.y, width, (x, y), &mut room);
            scale_plane(simd, chroma_plan, frame.u(), chroma, picture.u, half, corner, &mut room);
            scale_plane(simd, chroma_plan, frame.v(), chroma, picture.v, half, corner, &mut room);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
