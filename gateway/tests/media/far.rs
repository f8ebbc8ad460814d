//! A far end: it codes a tone, sends it over a line with a little jitter, and records what comes.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::picture::Camera;
use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::codec::{AudioDecoder, AudioEncoder};
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, MediaKind};
use crosspoint_codecs::frame::{Data, EncodedFrame, MediaTime};
use crosspoint_codecs::kernels::level::level;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::port::{Arrival, Inlet, Outlet, RING, StreamId, Wake, Wishes};
use crosspoint_gateway::media::{Engine, EngineConfig, EngineHandle, Timeline};

/// When all scenes begin.
pub const START: u64 = 86_400_000_000_000;

/// Where the far ends' own time lines begin.
pub const ZERO: i64 = 777_000_000;

/// A thread that was woken so often.
#[derive(Default)]
pub struct Bell {
    pub thread: usize,
    pub rung: AtomicU64,
}

impl Wake for Bell {
    fn thread(&self) -> usize {
        self.thread
    }
    fn wake(&self) {
        self.rung.fetch_add(1, Ordering::Relaxed);
    }
}

/// Rings of one stream: the far end's sides, and the engine's to be given away.
pub struct Rings {
    pub to: rtrb::Producer<Arrival>,
    pub from: rtrb::Consumer<EncodedFrame>,
    pub wishes: Arc<Wishes>,
}

pub fn rings(bell: &Arc<Bell>) -> (Rings, Inlet, Outlet) {
    let (to, frames) = rtrb::RingBuffer::new(RING);
    let (out, from) = rtrb::RingBuffer::new(RING);
    let wishes = Arc::new(Wishes::default());
    let inlet = Inlet { frames, wishes: wishes.clone() };
    let outlet = Outlet { frames: out, wishes: wishes.clone(), wake: bell.clone() };
    (Rings { to, from, wishes }, inlet, outlet)
}

pub struct Far {
    pub id: StreamId,
    pub rings: Rings,
    pub format: AudioFormat,
    pub hertz: f64,
    pub peak: f64,
    pub voice: bool,
    /// Says how loud each packet is (RFC 6464).
    pub levels: bool,
    /// Or says this, whatever it sends.
    pub claims: Option<u8>,
    encoder: Box<dyn AudioEncoder>,
    decoder: Box<dyn AudioDecoder>,
    sent: u64,
    jitter: u64,
    /// Most that the line adds to a packet, ns.
    pub jitter_up_to: u64,
    pub timeline: Timeline,
    /// Packets on their way.
    flying: Vec<(u64, EncodedFrame)>,
    /// Sound only during the first 100 ms of each second.
    pub beeps: bool,
    pub lose: fn(u64) -> bool,
    /// Sends bytes that mean nothing.
    pub garbled: bool,
    lost: u16,
    /// What came: when, and the frame.
    pub packets: Vec<(u64, EncodedFrame)>,
    pub heard: Vec<i16>,
}

impl Far {
    fn send_until(&mut self, now: u64) {
        // Opus has no packets of 30 ms: who asks for them sends others.
        let asked = self.format.ptime.as_nanos() as u64;
        let ptime = if self.format.codec == Codec::Opus && asked == 30_000_000 { 20_000_000 } else { asked };
        let rate = self.encoder.sample_rate();
        while START + (self.sent + 1) * ptime <= now {
            let samples = (ptime * u64::from(rate) / 1_000_000_000) as usize;
            let first = self.sent * samples as u64;
            let pcm: Vec<i16> = (first..first + samples as u64)
                .map(|n| n as f64 / f64::from(rate))
                .map(|t| if self.voice { voice(t) } else { self.peak * (TAU * self.hertz * t).sin() })
                .map(|sample| sample as i16)
                .collect();
            let quiet = self.beeps && number_of(self.sent, ptime) >= 100;
            let pcm = if quiet { vec![0; samples] } else { pcm };
            let mut packet = [0; 1_500];
            let len = self.encoder.encode(&pcm, &mut packet).unwrap();
            if self.garbled {
                packet[..len].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(37) ^ 0xa5);
            }
            let number = self.sent;
            self.sent += 1;
            self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if (self.lose)(number) {
                self.lost += 1;
                continue;
            }
            let at = START + self.sent * ptime + 5_000_000 + (self.jitter >> 33) % self.jitter_up_to;
            let frame = EncodedFrame {
                kind: MediaKind::Audio,
                media_time: MediaTime((number * ptime) as i64 + ZERO),
                duration: Duration::from_nanos(ptime),
                lost_before: std::mem::take(&mut self.lost),
                keyframe: true,
                level: self.claims.or_else(|| self.levels.then(|| level(&pcm))),
                data: Data::from_slice(&packet[..len]),
            };
            if len > 0 {
                self.flying.push((at, frame));
            }
        }
    }

    fn exchange(&mut self, now: u64) {
        self.send_until(now);
        while let Some((at, _)) = self.flying.first()
            && *at <= now
        {
            let (at, frame) = self.flying.remove(0);
            // Nobody may be there to take it.
            let _ = self.rings.to.push(Arrival { at: Instant::from_nanos(at), frame });
        }
    }

    fn collect(&mut self, now: u64) {
        while let Ok(frame) = self.rings.from.pop() {
            let mut pcm = [0; 6_000];
            let len = self.decoder.decode(&frame.data, &mut pcm).unwrap();
            self.heard.extend_from_slice(&pcm[..len]);
            // A copy, for the engine has only so many buffers.
            let data = Data::from_slice(&frame.data);
            self.packets.push((now, EncodedFrame { data, ..frame }));
        }
    }

    pub fn rate(&self) -> u32 {
        self.decoder.sample_rate()
    }

    pub fn forget(&mut self) {
        self.packets.clear();
        self.heard.clear();
    }
}

/// Milliseconds of the present second at which that packet begins.
fn number_of(packet: u64, ptime: u64) -> u64 {
    packet * ptime / 1_000_000 % 1_000
}

/// A vowel: harmonics under two formants, swelling as speech does.
fn voice(t: f64) -> f64 {
    let formant = |hz: f64| {
        1.0 / (1.0 + ((hz - 500.0) / 200.0).powi(2)) + 0.5 / (1.0 + ((hz - 1_500.0) / 300.0).powi(2))
    };
    let harmonics = (1..24).map(|k| 140.0 * f64::from(k));
    let sum: f64 = harmonics.map(|hz| formant(hz) * (TAU * hz * t + hz).sin()).sum();
    4_000.0 * (0.8 + 0.2 * (TAU * 3.0 * t).sin()) * sum
}

pub struct Scene {
    pub engine: Engine,
    pub handle: EngineHandle,
    pub bell: Arc<Bell>,
    pub far: Vec<Far>,
    pub cameras: Vec<Camera>,
    pub now: u64,
}

impl Scene {
    pub fn new() -> Self {
        Self::of(Engine::new(&EngineConfig::default(), Arc::new(Registry::built_in())))
    }

    pub fn of((engine, handle): (Engine, EngineHandle)) -> Self {
        Self { engine, handle, bell: Arc::default(), far: Vec::new(), cameras: Vec::new(), now: START }
    }

    /// A far end that sends and wants `format`; returns its place.
    pub fn join(&mut self, format: AudioFormat, hertz: f64) -> usize {
        let id = StreamId(self.far.len() as u64 + 1);
        let timeline = Timeline::new();
        let rings = self.add(id, &timeline, &format);
        let encoder = Registry::built_in().audio_encoder(&format).unwrap();
        let decoder = Registry::built_in().audio_decoder(&format).unwrap();
        self.far.push(Far {
            id,
            rings,
            format,
            hertz,
            peak: 10_000.0,
            voice: false,
            levels: false,
            claims: None,
            encoder,
            decoder,
            sent: 0,
            jitter: id.0,
            jitter_up_to: 4_000_000,
            timeline,
            flying: Vec::new(),
            beeps: false,
            lose: |_| false,
            garbled: false,
            lost: 0,
            packets: Vec::new(),
            heard: Vec::new(),
        });
        self.far.len() - 1
    }

    /// The same far end with new rings and another format, as after a re-offer.
    pub fn engage(&mut self, place: usize, format: AudioFormat) {
        let (id, timeline) = (self.far[place].id, self.far[place].timeline.clone());
        let rings = self.add(id, &timeline, &format);
        let far = &mut self.far[place];
        far.rings = rings;
        far.encoder = Registry::built_in().audio_encoder(&format).unwrap();
        far.decoder = Registry::built_in().audio_decoder(&format).unwrap();
        far.format = format;
        far.flying.clear();
    }

    fn add(&self, id: StreamId, timeline: &Timeline, format: &AudioFormat) -> Rings {
        let (rings, inlet, outlet) = rings(&self.bell);
        let media = MediaFormat::Audio(format.clone());
        self.handle.add_source(id, timeline, &media, inlet).unwrap();
        self.handle.add_sink(id, MediaKind::Audio, &media, outlet).unwrap();
        rings
    }

    pub fn run(&mut self, length: Duration) {
        let end = self.now + length.as_nanos() as u64;
        while self.now < end {
            for far in &mut self.far {
                far.exchange(self.now);
            }
            for camera in &mut self.cameras {
                camera.exchange(self.now);
            }
            self.engine.step(Instant::from_nanos(self.now));
            for camera in &mut self.cameras {
                camera.collect(self.now);
            }
            for far in &mut self.far {
                far.collect(self.now);
            }
            self.now += 10_000_000;
        }
    }

    pub fn forget(&mut self) {
        self.far.iter_mut().for_each(Far::forget);
        self.cameras.iter_mut().for_each(Camera::forget);
    }
}

pub fn format(codec: Codec, ptime: u64) -> AudioFormat {
    AudioFormat { ptime: Duration::from_millis(ptime), ..AudioFormat::new(codec) }
}

/// Stamps follow each other without a gap.
pub fn assert_continuous(packets: &[(u64, EncodedFrame)]) {
    for pair in packets.windows(2) {
        let (before, after) = (&pair[0].1, &pair[1].1);
        let step = after.media_time.nanos_since(before.media_time);
        assert_eq!(step, before.duration.as_nanos() as i64, "between two packets");
    }
}
