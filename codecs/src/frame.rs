//! What flows: encoded frames and pictures, from pools, shared by clone.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use memmap2::{Advice, MmapMut};

use crate::format::MediaKind;

/// A moment on a leg's media timeline, nanoseconds. Its zero is the leg's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// `self` moved by `nanos`, saturating.
    #[must_use]
    pub const fn plus_nanos(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to `self`, saturating.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Byte buffers of one capacity, made ahead, handed out without allocating.
///
/// Bound: the number given at construction. Overflow: [`Pool::take`] answers `None`, the caller
/// drops its frame and counts it. Clones share the pool; a buffer comes back by itself when the
/// last [`Data`] of it is dropped, on whichever thread that is.
#[derive(Clone)]
pub struct Pool(Arc<Shelf>);

struct Shelf {
    free: ArrayQueue<Arc<Slot>>,
    capacity: usize,
}

struct Slot {
    /// Live `Data` of this slot. The count of the `Arc` cannot serve: two owners that drop at
    /// once would both see the other and neither would give the buffer back.
    owners: AtomicUsize,
    bytes: Room,
}

/// Where the bytes of a buffer lie.
enum Room {
    Heap(Box<[u8]>),
    Mapped(MmapMut, usize),
}

/// Buffers from this size on are worth huge pages: half of one at least.
const HUGE_FROM: usize = 1 << 20;

/// Size of a huge page on the processors that we know. Mappings of whole ones come to lie side by
/// side, so that the kernel can join them.
const HUGE_PAGE: usize = 2 << 20;

impl Room {
    /// On huge pages, if the buffer is large enough and the kernel grants them.
    fn huge(capacity: usize) -> Self {
        let mapped = (capacity >= HUGE_FROM)
            .then(|| MmapMut::map_anon(capacity.next_multiple_of(HUGE_PAGE)).ok())
            .flatten()
            .filter(|map| map.advise(Advice::HugePage).is_ok());
        match mapped {
            Some(mut map) => {
                // Every page is touched here, not in the tick.
                map.fill(0);
                Self::Mapped(map, capacity)
            }
            None => Self::Heap(vec![0; capacity].into()),
        }
    }
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(map, len) => &map[..*len],
        }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(map, len) => &mut map[..*len],
        }
    }
}

impl Pool {
    /// `count` buffers of `capacity` bytes each, allocated here and now.
    pub fn new(count: usize, capacity: usize) -> Self {
        Self::of(count, capacity, |capacity| Room::Heap(vec![0; capacity].into()))
    }

    /// The same for pictures that are composed and scaled: on huge pages where the kernel grants
    /// them, else like [`Self::new`]. A buffer of a MiB or more then takes whole pages of 2 MiB.
    pub fn on_huge_pages(count: usize, capacity: usize) -> Self {
        Self::of(count, capacity, Room::huge)
    }

    fn of(count: usize, capacity: usize, room: impl Fn(usize) -> Room) -> Self {
        let free = ArrayQueue::new(count.max(1));
        for _ in 0..count.max(1) {
            let slot = Slot { owners: AtomicUsize::new(0), bytes: room(capacity) };
            // The queue has room for exactly this many.
            let _ = free.push(Arc::new(slot));
        }
        Self(Arc::new(Shelf { free, capacity }))
    }

    /// Bytes in each buffer.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Buffers that could be taken now.
    pub fn available(&self) -> usize {
        self.0.free.len()
    }

    /// A buffer filled by `fill`, which returns how many bytes of the slice it wrote. `None`
    /// when no buffer is free, or when `fill` gives up. The slice holds old bytes.
    pub fn take(&self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Data> {
        let mut slot = self.0.free.pop()?;
        let Some(Slot { owners, bytes }) = Arc::get_mut(&mut slot) else {
            // Another owner has counted itself out but not let go yet: a matter of instructions.
            let _ = self.0.free.push(slot);
            return None;
        };
        let len = fill(bytes).map(|len| len.min(bytes.len()));
        *owners.get_mut() = 1;
        // Made even when `fill` gave up: dropping it puts the buffer back.
        let data = Data { len: len.unwrap_or(0), owned: Owned::Pooled { slot, pool: self.clone() } };
        len.map(|_| data)
    }

    /// A copy of `source`. `None` when no buffer is free or it does not fit.
    pub fn copy(&self, source: &[u8]) -> Option<Data> {
        self.take(|room| {
            room.get_mut(..source.len())?.copy_from_slice(source);
            Some(source.len())
        })
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} free of {} bytes)", self.available(), self.capacity())
    }
}

/// Bytes, shared by clone, read only, given back to their pool with the last clone.
pub struct Data {
    len: usize,
    owned: Owned,
}

enum Owned {
    Pooled { slot: Arc<Slot>, pool: Pool },
    Heap(Arc<[u8]>),
}

impl Data {
    /// Bytes on the heap, for places where allocating is fine.
    pub fn from_slice(bytes: &[u8]) -> Self {
        Self { len: bytes.len(), owned: Owned::Heap(bytes.into()) }
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes: &[u8] = match &self.owned {
            Owned::Pooled { slot, .. } => &slot.bytes,
            Owned::Heap(bytes) => bytes,
        };
        bytes.get(..self.len).unwrap_or(&[])
    }
}

impl Clone for Data {
    fn clone(&self) -> Self {
        let owned = match &self.owned {
            Owned::Pooled { slot, pool } => {
                slot.owners.fetch_add(1, Ordering::Relaxed);
                Owned::Pooled { slot: slot.clone(), pool: pool.clone() }
            }
            Owned::Heap(bytes) => Owned::Heap(bytes.clone()),
        };
        Self { len: self.len, owned }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if let Owned::Pooled { slot, pool } = &self.owned
            && slot.owners.fetch_sub(1, Ordering::AcqRel) == 1
        {
            // Cannot be full: it holds at most the slots that it was made with.
            let _ = pool.0.free.push(slot.clone());
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.len)
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Data {}

/// One coded frame on its way from a leg to a leg: an audio packet's payload, or one access unit
/// (H.264: Annex B with start codes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedFrame {
    /// The role of its stream.
    pub kind: MediaKind,
    /// When it is to be heard or seen, on its leg's timeline.
    pub media_time: MediaTime,
    /// How long it lasts; zero when unknown (pictures).
    pub duration: Duration,
    /// Frames (audio: packets) that were lost just before this one and are given up.
    pub lost_before: u16,
    /// A decoder can start here. Always true for audio.
    pub keyframe: bool,
    /// RFC 6464 level in -dBov (0 loud, 127 silent), when the sender said it.
    pub level: Option<u8>,
    /// The bytes.
    pub data: Data,
}

/// Largest picture side in pixels that is ever decoded or composed.
pub const MAX_SIDE: usize = 4096;

/// One picture in I420: a luma plane and two chroma planes of half the size each way (rounded
/// up), read only, shared by clone. The planes lie one behind the other without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFrame {
    width: usize,
    height: usize,
    data: Data,
}

/// The planes of a picture that is being made.
#[derive(Debug)]
pub struct PlanesMut<'a> {
    /// Luma, `width * height`.
    pub y: &'a mut [u8],
    /// Blue difference, `width.div_ceil(2) * height.div_ceil(2)`.
    pub u: &'a mut [u8],
    /// Red difference, likewise.
    pub v: &'a mut [u8],
}

impl VideoFrame {
    /// Bytes that a picture of this size takes.
    pub const fn bytes(width: usize, height: usize) -> usize {
        width * height + 2 * (width.div_ceil(2) * height.div_ceil(2))
    }

    /// A picture from `pool`, filled by `fill`. `None` when the pool is empty or its buffers are
    /// too small, or when a side is zero or above [`MAX_SIDE`].
    pub fn new(pool: &Pool, width: usize, height: usize, fill: impl FnOnce(PlanesMut<'_>)) -> Option<Self> {
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return None;
        }
        let data = pool.take(|room| {
            let total = Self::bytes(width, height);
            let (y, chroma) = room.get_mut(..total)?.split_at_mut(width * height);
            let (u, v) = chroma.split_at_mut(chroma.len() / 2);
            fill(PlanesMut { y, u, v });
            Some(total)
        })?;
        Some(Self { width, height, data })
    }

    /// Width in pixels.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub const fn height(&self) -> usize {
        self.height
    }

    /// Luma; lines are [`Self::width`] bytes apart.
    pub fn y(&self) -> &[u8] {
        &self.data[..self.width * self.height]
    }

    /// Blue difference; lines are half the width (rounded up) apart.
    pub fn u(&self) -> &[u8] {
        let luma = self.width * self.height;
        let chroma = (self.data.len() - luma) / 2;
        &self.data[luma..luma + chroma]
    }

    /// Red difference; lines are half the width (rounded up) apart.
    pub fn v(&self) -> &[u8] {
        let luma = self.width * self.height;
        let chroma = (self.data.len() - luma) / 2;
        &self.data[luma + chroma..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_clone() {
        let pool = Pool::new(1, 8);
        let data = pool.copy(b"abc").unwrap();
        let twin = data.clone();
        assert_eq!((&*data, pool.available()), (&b"abc"[..], 0));
        assert!(pool.copy(b"x").is_none());
        drop(data);
        assert_eq!((&*twin, pool.available()), (&b"abc"[..], 0));
        drop(twin);
        assert_eq!(pool.available(), 1);
    }

    #[test]
    fn buffers_on_huge_pages_are_buffers_like_others() {
        for capacity in [0, 100, HUGE_FROM, HUGE_PAGE + 1] {
            let pool = Pool::on_huge_pages(2, capacity);
            assert_eq!((pool.capacity(), pool.available()), (capacity, 2));
            let data = pool.take(|room| {
                room.fill(7);
                Some(room.len())
            });
            assert_eq!(data.unwrap().len(), capacity);
            assert_eq!(pool.available(), 2);
        }
    }

    #[test]
    fn a_fill_that_gives_up_and_one_that_does_not_fit_cost_nothing() {
        let pool = Pool::new(1, 2);
        assert!(pool.take(|_| None).is_none());
        assert!(pool.copy(b"too long").is_none());
        assert_eq!(pool.available(), 1);
    }

    #[test]
    fn owners_that_drop_at_once_on_many_threads_lose_no_buffer() {
        let pool = Pool::new(4, 16);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(data) = pool.copy(b"shared") {
                            let twin = data.clone();
                            let other = std::thread::current().id();
                            drop(data);
                            assert_eq!(&*twin, b"shared", "{other:?}");
                        }
                    }
                });
            }
        });
        assert_eq!(pool.available(), 4);
    }

    #[test]
    fn planes_of_odd_sizes_round_up() {
        let pool = Pool::new(1, VideoFrame::bytes(5, 3));
        let frame = VideoFrame::new(&pool, 5, 3, |planes| {
            planes.y.fill(1);
            planes.u.fill(2);
            planes.v.fill(3);
        })
        .unwrap();
        assert_eq!((frame.y().len(), frame.u().len(), frame.v().len()), (15, 6, 6));
        assert_eq!((frame.y()[14], frame.u()[5], frame.v()[0]), (1, 2, 3));
        drop(frame);
        assert!(VideoFrame::new(&pool, 6, 4, |_| ()).is_none());
        assert!(VideoFrame::new(&pool, 0, 4, |_| ()).is_none());
    }
}
