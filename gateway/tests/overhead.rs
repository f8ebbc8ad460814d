//! What the engine and the RTP sessions add to the work of the codecs: calls of 720p30 that are
//! transcoded, in virtual time, by the CPU time of this thread. The kernel's part, a `recvmmsg` or a
//! `sendmmsg` for some packets each, is not in it.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{
    AudioDecoder, AudioEncoder, CodecError, Decoded, Encoded, VideoDecoder, VideoEncoder, VideoEncoding,
};
use crosspoint_codecs::format::{
    AudioFormat, Codec, H264Profile, MediaFormat, MediaKind, PacketizationMode, VideoFormat,
};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime, Pool, VideoFrame};
use crosspoint_codecs::kernels::scale::Scaler;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{Codecs, Engine, EngineConfig, EngineHandle, Route, Timeline};
use crosspoint_proto::rtp::session::{
    Channel, Feedback, Payload, ReceivePayload, RemoteAddress, SendPayload, Session, SessionConfig, SrtpKeys,
};
use crosspoint_proto::rtp::srtp::{MasterKey, SrtpSuite};
use crosspoint_proto::rtp::timeline::LegClock;
use rustix::time::{ClockId, clock_gettime};

const SIZE: (usize, usize) = (1280, 720);
const LEGS: u8 = 4;
const START: u64 = 1_000_000_000_000;
const STEP: u64 = 10_000_000;
const PICTURE: u64 = 1_000_000_000 / 30;
/// Pictures that are encoded beforehand and sent round and round.
const ROUND: u64 = 60;

/// What everything but the codecs may be of the whole: a machine of which codecs take all then
/// carries 97 of the 100 calls that codecs alone would carry.
const MOST: f64 = 0.03;

/// The built-in codecs, and the time spent in them.
struct Measured {
    codecs: Registry,
    spent: Arc<AtomicU64>,
}

struct Timed<T: ?Sized> {
    spent: Arc<AtomicU64>,
    codec: Box<T>,
}

impl<T: ?Sized> Timed<T> {
    fn call<R>(&mut self, call: impl FnOnce(&mut T) -> R) -> R {
        let (result, spent) = timed(|| call(&mut self.codec));
        self.spent.fetch_add(u64::try_from(spent.as_nanos()).unwrap(), Relaxed);
        result
    }
}

impl VideoDecoder for Timed<dyn VideoDecoder> {
    fn decode(&mut self, unit: &[u8]) -> Result<Decoded, CodecError> {
        self.call(|codec| codec.decode(unit))
    }
}

impl VideoEncoder for Timed<dyn VideoEncoder> {
    fn encode(&mut self, frame: &VideoFrame, at: Duration, out: &mut [u8]) -> Result<Encoded, CodecError> {
        self.call(|codec| codec.encode(frame, at, out))
    }

    fn request_keyframe(&mut self) {
        self.codec.request_keyframe();
    }

    fn tune(&mut self, encoding: VideoEncoding) -> Result<(), CodecError> {
        self.call(|codec| codec.tune(encoding))
    }
}

impl Codecs for Measured {
    fn audio_decoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        self.codecs.audio_decoder(format)
    }

    fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        self.codecs.audio_encoder(format)
    }

    fn video_decoder(&self, format: &VideoFormat, pool: Pool) -> Result<Box<dyn VideoDecoder>, CodecError> {
        Ok(Box::new(Timed { spent: self.spent.clone(), codec: self.codecs.video_decoder(format, pool)? }))
    }

    fn video_encoder(
        &self,
        format: &VideoFormat,
        encoding: VideoEncoding,
    ) -> Result<Box<dyn VideoEncoder>, CodecError> {
        Ok(Box::new(Timed { spent: self.spent.clone(), codec: self.codecs.video_encoder(format, encoding)? }))
    }
}

/// What `work` gives and takes.
fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let now = || {
        let spent = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(spent.tv_sec).unwrap(), u32::try_from(spent.tv_nsec).unwrap())
    };
    let before = now();
    let result = work();
    (result, now() - before)
}

struct Quiet;

impl Wake for Quiet {
    fn thread(&self) -> usize {
        0
    }
    fn wake(&self) {}
}

/// A far end, our session with it, and the rings between that and the engine.
struct Leg {
    far: Session,
    ours: Session,
    number: u8,
    clock: LegClock,
    far_clock: LegClock,
    batch: Box<[u8]>,
    packets: usize,
    to: rtrb::Producer<Arrival>,
    from: rtrb::Consumer<EncodedFrame>,
    sent: u64,
    made: u64,
}

impl Leg {
    fn join(handle: &EngineHandle, number: u8, format: &VideoFormat, wants: &VideoFormat) -> Self {
        let id = StreamId(u64::from(number));
        let (to, frames) = rtrb::RingBuffer::new(RING);
        let (out, from) = rtrb::RingBuffer::new(RING);
        let wishes = Arc::new(Wishes::default());
        let inlet = Inlet { frames, wishes: wishes.clone() };
        let outlet = Outlet { frames: out, wishes, wake: Arc::new(Quiet) };
        let timeline = Timeline::new();
        handle.add_source(id, &timeline, &MediaFormat::Video(format.clone()), inlet).unwrap();
        handle.add_sink(id, MediaKind::Main, &MediaFormat::Video(wants.clone()), outlet).unwrap();
        let (n, peer) = (2 * number + 1, 2 * number + 2);
        let mut ours = session(n, peer, format);
        ours.open_frames(Pool::new(RING, 1 << 19));
        Self {
            far: session(peer, n, format),
            ours,
            number,
            clock: LegClock::default(),
            far_clock: LegClock::default(),
            batch: vec![0; 1 << 19].into(),
            packets: 0,
            to,
            from,
            sent: 0,
            made: 0,
        }
    }

    /// Until `now` the far end sends, our session takes it and hands it to the engine. Gives what our
    /// side of that took.
    fn receive(&mut self, now: u64, round: &[(Data, bool)]) -> Duration {
        let mut spent = Duration::ZERO;
        while START + self.sent * PICTURE <= now {
            let at = Instant::from_nanos(START + self.sent * PICTURE);
            let (data, keyframe) = round[usize::try_from(self.sent).unwrap() % round.len()].clone();
            let frame = frame(self.sent, data, keyframe);
            self.sent += 1;
            let mut datagrams = Vec::new();
            self.far.send_frame(at, None, &frame, &mut |_: Channel, _: SocketAddr, data: &[u8]| {
                datagrams.push(data.to_vec());
            });
            spent += timed(|| {
                for data in &mut datagrams {
                    let from = address(self.number * 2 + 2);
                    self.ours.receive(at, &mut self.clock, Channel::Rtp, from, data, &mut unsent);
                }
                while let Some((at, frame)) = self.ours.poll_frame() {
                    self.to.push(Arrival { at, frame }).unwrap();
                }
            })
            .1;
        }
        spent
    }

    /// Our session sends what the engine made. Gives what that took.
    fn send(&mut self, now: u64) -> Duration {
        let now = Instant::from_nanos(now);
        // As a batch of datagrams is gathered for the kernel.
        let (batch, mut end) = (&mut self.batch, 0);
        let mut lens = [0; 256];
        let mut count = 0;
        let work = || {
            while let Ok(frame) = self.from.pop() {
                self.made += 1;
                let mut wire = |_: Channel, _: SocketAddr, data: &[u8]| {
                    batch[end..end + data.len()].copy_from_slice(data);
                    (lens[count], count, end) = (data.len(), count + 1, end + data.len());
                };
                self.ours.send_frame(now, None, &frame, &mut wire);
            }
        };
        let ((), spent) = timed(work);
        let mut begin = 0;
        for len in &lens[..count] {
            let data = &mut self.batch[begin..begin + len];
            begin += len;
            let from = address(self.number * 2 + 1);
            self.far.receive(now, &mut self.far_clock, Channel::Rtp, from, data, &mut unsent);
        }
        self.packets += count;
        spent
    }
}

const fn unsent(_: Channel, _: SocketAddr, _: &[u8]) {}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4000 + 2 * u16::from(n)))
}

/// The encrypted session number `n` with number `peer`.
fn session(n: u8, peer: u8, format: &VideoFormat) -> Session {
    let format = MediaFormat::Video(format.clone());
    let mut config = SessionConfig::new(MediaKind::Main, u32::from(n), "leg".to_owned());
    config.receive = vec![ReceivePayload { payload_type: 96, payload: Payload::Media(format.clone()) }];
    config.send = Some(SendPayload { payload_type: 96, format });
    config.remote = Some(RemoteAddress::new(address(peer), true));
    config.rtcp_mux = true;
    config.feedback = Feedback { nack: true, pli: true, fir: false, ..Feedback::NONE };
    let key = |byte| MasterKey::new(SrtpSuite::Aes128CmSha1_80, &[byte; 30]).unwrap();
    config.srtp = Some(SrtpKeys { send: key(n), receive: key(peer) });
    let mut session = Session::new(MediaKind::Main, UNIX_EPOCH, [n; 32]);
    session.configure(Instant::from_nanos(START), config);
    session
}

fn frame(number: u64, data: Data, keyframe: bool) -> EncodedFrame {
    EncodedFrame {
        kind: MediaKind::Main,
        media_time: MediaTime(i64::try_from(number * PICTURE).unwrap()),
        duration: Duration::ZERO,
        lost_before: 0,
        keyframe,
        level: None,
        data,
    }
}

fn h264(level: u8) -> VideoFormat {
    VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level,
        mode: PacketizationMode::NonInterleaved,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    }
}

/// Two seconds of a textured picture that drifts, with a bright square that moves, at 2 Mbit/s.
fn round() -> Vec<(Data, bool)> {
    let encoding = VideoEncoding {
        bitrate: 2_000_000,
        frame_rate: 30.0,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        max_nal: None,
        sharp: false,
    };
    let mut encoder = Registry::built_in().video_encoder(&h264(31), encoding).unwrap();
    let mut room = vec![0; 1 << 20];
    let pool = Pool::new(1, VideoFrame::bytes(SIZE.0, SIZE.1));
    let unit = |number: u64| {
        let picture = picture(&pool, usize::try_from(number).unwrap());
        let encoded = encoder.encode(&picture, Duration::from_nanos(number * PICTURE), &mut room).unwrap();
        (encoded.len > 0).then(|| (Data::from_slice(&room[..encoded.len]), encoded.keyframe))
    };
    (0..ROUND).filter_map(unit).collect()
}

fn picture(pool: &Pool, number: usize) -> VideoFrame {
    let (width, height) = SIZE;
    let drawn = VideoFrame::new(pool, width, height, |planes| {
        for (at, pixel) in planes.y.iter_mut().enumerate() {
            let (x, y) = (at % width + 2 * number, at / width + number);
            *pixel = u8::try_from(90 + (x / 24 * 7 + y / 20 * 11) % 40 + (x + y) % 3).unwrap();
        }
        let (left, top) = (number * 9 % (width - 160), number * 5 % (height - 90));
        for line in planes.y.chunks_exact_mut(width).skip(top).take(90) {
            line[left..left + 160].fill(220);
        }
        planes.u.fill(110);
        planes.v.fill(140);
    });
    drawn.unwrap()
}

/// CPU time of each part.
#[derive(Clone, Copy, Debug)]
struct Figures {
    codecs: Duration,
    engine: Duration,
    sessions: Duration,
    pictures: u64,
}

/// `LEGS` legs, each of which sees the next one, for some seconds.
fn transcode(wants: &VideoFormat, round: &[(Data, bool)], seconds: u64) -> Figures {
    let spent = Arc::new(AtomicU64::new(0));
    let codecs = Measured { codecs: Registry::built_in(), spent: spent.clone() };
    let (mut engine, handle) = Engine::new(&EngineConfig::default(), Arc::new(codecs));
    let mut legs: Vec<Leg> = (0..LEGS).map(|n| Leg::join(&handle, n, &h264(31), wants)).collect();
    for number in 0..u64::from(LEGS) {
        let source = StreamId((number + 1) % u64::from(LEGS));
        handle.route(StreamId(number), Route::Transcode { source }).unwrap();
    }
    let (mut steps, mut sessions) = (Duration::ZERO, Duration::ZERO);
    let end = START + seconds * 1_000_000_000;
    for now in (START..end).step_by(usize::try_from(STEP).unwrap()) {
        for leg in &mut legs {
            sessions += leg.receive(now, round);
        }
        steps += timed(|| engine.step(Instant::from_nanos(now))).1;
        for leg in &mut legs {
            sessions += leg.send(now);
        }
    }
    let codecs = Duration::from_nanos(spent.load(Relaxed));
    for leg in &legs {
        assert!(
            leg.made > seconds * 18 && leg.packets > 100,
            "{} pictures, {} packets",
            leg.made,
            leg.packets
        );
    }
    let pictures = legs.iter().map(|leg| leg.sent).sum();
    Figures { codecs, engine: steps - codecs, sessions, pictures }
}

/// What scaling one picture takes, beside. Each is another one, as in the engine: none of it is in the
/// cache.
fn scaling(to: (usize, usize)) -> Duration {
    let from = Pool::new(24, VideoFrame::bytes(SIZE.0, SIZE.1));
    let pictures: Vec<VideoFrame> = (0..24).map(|number| picture(&from, number)).collect();
    let (pool, mut scaler) = (Pool::new(1, VideoFrame::bytes(to.0, to.1)), Scaler::new(SIZE, to).unwrap());
    let scale = || {
        for picture in pictures.iter().cycle().take(96) {
            let scaled = VideoFrame::new(&pool, to.0, to.1, |mut planes| {
                scaler.scale(picture, &mut planes, to.0, (0, 0)).unwrap();
            });
            assert!(scaled.is_some());
        }
    };
    timed(scale).1 / 96
}

#[test]
fn everything_but_the_codecs_is_at_most_three_percent() {
    let round = round();
    let whole = transcode(&h264(31), &round, 4);
    let smaller = transcode(&h264(30), &round, 4);
    let scaler = scaling((848, 476));
    println!("for each picture      codecs   scaling      rest  sessions   all but codecs and scaling");
    let share = |name: &str, it: Figures, scaling: Duration| {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / it.pictures as f64;
        let scaling = scaling.as_secs_f64() * 1e6;
        let (codecs, rest, sessions) = (each(it.codecs), each(it.engine) - scaling, each(it.sessions));
        let share = (rest + sessions) / (codecs + scaling + rest + sessions);
        print!("{name:<18} {codecs:>6.0} us {scaling:>6.0} us {rest:>6.0} us {sessions:>6.0} us");
        println!("   {:.2} %", share * 100.0);
        share
    };
    let alike = share("720p to 720p", whole, Duration::ZERO);
    assert!(alike <= MOST, "{whole:?}");
    // Told, not held to a bound: scaling is timed beside, and swings by more than the rest is.
    share("720p to 848x476", smaller, scaler);
}
