//! The same with others who do a part of the work: it sounds the same, and who takes long keeps
//! nobody waiting.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crosspoint_codecs::codec::{
    AudioDecoder, AudioEncoder, CodecError, Decoded, VideoDecoder, VideoEncoder, VideoEncoding,
};
use crosspoint_codecs::format::{AudioFormat, Codec, MediaFormat, PacketizationMode, VideoFormat};
use crosspoint_codecs::frame::Pool;
use crosspoint_codecs::kernels::mix::Gain;
use crosspoint_codecs::registry::Registry;
use crosspoint_gateway::media::{ClockFn, Codecs, Crew, Engine, EngineConfig, Route, Timeline};
use crosspoint_gateway::net::clock::Clock;

use crate::far::{Far, Scene, format};
use crate::picture::h264;
use crate::room::{ALL, BUS};

fn crew(cores: usize) -> Crew {
    let clock = Clock::start();
    let clock: ClockFn = Arc::new(move || clock.now());
    Crew::start(cores, &clock).unwrap()
}

/// All that a room of twelve sends, some of whom talk.
fn packets(mut scene: Scene) -> Vec<Vec<(u64, Vec<u8>)>> {
    scene.handle.add_bus(BUS, &ALL).unwrap();
    let codecs = [Codec::Opus, Codec::G722, Codec::Opus, Codec::Pcmu];
    for place in 0..12 {
        let place = scene.join(format(codecs[place % 4], 20), 400.0 + 100.0 * place as f64);
        scene.far[place].peak = if place % 3 == 2 { 0.0 } else { 2_000.0 };
        let id = scene.far[place].id;
        scene.handle.join(BUS, id, Gain::ONE).unwrap();
        scene.handle.route(id, Route::Mix { bus: BUS }).unwrap();
        scene.run(Duration::from_millis(100));
    }
    for change in 0..10 {
        scene.run(Duration::from_millis(300));
        let place = change * 5 % 12;
        scene.far[place].peak = 2_000.0 - scene.far[place].peak;
    }
    let of = |far: &Far| far.packets.iter().map(|(at, frame)| (*at, frame.data.to_vec())).collect();
    scene.far.iter().map(of).collect()
}

#[test]
fn a_room_sounds_the_same_whoever_does_the_work() {
    let alone = packets(Scene::new());
    let crew = crew(3);
    let codecs = Arc::new(Registry::built_in());
    let helped = packets(Scene::of(Engine::with_crew(&EngineConfig::default(), codecs, &crew)));
    assert!(alone.iter().all(|packets| packets.len() > 150));
    assert!(alone == helped, "some packet differs");
}

/// A decoder that stands still while the gate is shut: the first one that is made.
struct Stubborn {
    registry: Registry,
    gate: Arc<Gate>,
    first: Mutex<bool>,
}

#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    /// Shut for as long as that is held: a test that fails does not hang.
    fn shut(&self) -> Shut<'_> {
        *self.0.lock().unwrap() = true;
        Shut(self)
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |shut| *shut).unwrap());
    }
}

struct Shut<'a>(&'a Gate);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }
}

struct Gated(Box<dyn VideoDecoder>, Arc<Gate>);

impl VideoDecoder for Gated {
    fn decode(&mut self, unit: &[u8]) -> Result<Decoded, CodecError> {
        self.1.pass();
        self.0.decode(unit)
    }
}

impl Codecs for Stubborn {
    fn audio_decoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        self.registry.audio_decoder(format)
    }
    fn audio_encoder(&self, format: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        self.registry.audio_encoder(format)
    }
    fn video_decoder(&self, format: &VideoFormat, pool: Pool) -> Result<Box<dyn VideoDecoder>, CodecError> {
        let decoder = self.registry.video_decoder(format, pool)?;
        if std::mem::replace(&mut *self.first.lock().unwrap(), false) {
            return Ok(Box::new(Gated(decoder, self.gate.clone())));
        }
        Ok(decoder)
    }
    fn video_encoder(
        &self,
        format: &VideoFormat,
        encoding: VideoEncoding,
    ) -> Result<Box<dyn VideoEncoder>, CodecError> {
        self.registry.video_encoder(format, encoding)
    }
}

#[test]
fn a_picture_that_takes_long_keeps_nobody_waiting() {
    let gate = Arc::new(Gate::default());
    let codecs = Stubborn { registry: Registry::built_in(), gate: gate.clone(), first: Mutex::new(true) };
    let crew = crew(2);
    let mut scene = Scene::of(Engine::with_crew(&EngineConfig::default(), Arc::new(codecs), &crew));
    let wants = || h264(31, PacketizationMode::NonInterleaved);
    // The slow one, another one, and who sees them.
    let cameras: Vec<_> = (0..4).map(|_| scene.look((320, 192), 30, wants(), &Timeline::new())).collect();
    let ids: Vec<_> = scene.cameras.iter().map(|camera| camera.id).collect();
    for (sink, source) in [(2, 0), (3, 1)] {
        scene.cameras[cameras[sink]].covered = true;
        scene.handle.route(ids[sink], Route::Transcode { source: ids[source] }).unwrap();
    }
    // However full the machine is: it is waited for so many pictures, up to a bound.
    let until = |scene: &mut Scene, what: &str, enough: &dyn Fn([usize; 2]) -> bool| {
        scene.cameras.iter_mut().for_each(crate::picture::Camera::forget);
        for _ in 0..600 {
            scene.run(Duration::from_millis(100));
            let seen = [2, 3].map(|sink| scene.cameras[cameras[sink]].seen.len());
            if enough(seen) {
                return seen;
            }
        }
        panic!("{what} did not come");
    };
    until(&mut scene, "pictures of both", &|[one, other]| one > 20 && other > 20);

    let shut = gate.shut();
    scene.run(Duration::from_millis(100));
    let overdue = scene.handle.worker_stats().video.overdue;
    assert!(overdue >= 1, "it was overdue once");
    let [slow, _] = until(&mut scene, "pictures of the other one", &|[_, other]| other > 20);
    assert_eq!(slow, 0, "nothing comes out of one that stands still");

    // Commands find a source whose decoder is away: it goes on with another one.
    let format = MediaFormat::Video(h264(40, PacketizationMode::NonInterleaved));
    scene.handle.set_source_format(ids[0], &format).unwrap();
    until(&mut scene, "pictures of the new decoder, while the old one stands still", &|[one, _]| one > 20);
    drop(shut);
    until(&mut scene, "pictures of both", &|[one, other]| one > 20 && other > 20);
}
