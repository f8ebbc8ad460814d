//! Legs, ports and codecs of cardboard for the tests of calls.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crosspoint_codecs::codec::{
    AudioDecoder, AudioEncoder, CodecError, VideoDecoder, VideoEncoder, VideoEncoding,
};
use crosspoint_codecs::format::{
    AudioFormat, Capabilities, Codec, Direction, H264Profile, MediaCapability, MediaFormat, MediaKind,
    PacketizationMode, Stream, VideoFormat,
};
use crosspoint_codecs::frame::Pool;
use tokio::sync::mpsc;

use crate::cause::Cause;
use crate::leg::{Leg, LegCommand, LegEvent, LegId, LegStream, Origin, Party};
use crate::media::Codecs;
use crate::media::port::{Feed, Inlet, Outlet, PortError, StreamId, StreamPort, StreamStats};

/// The other ends of one leg's queues.
pub(crate) struct Far {
    pub(crate) commands: mpsc::Receiver<LegCommand>,
    pub(crate) events: mpsc::Sender<LegEvent>,
}

#[derive(Debug)]
struct Port {
    id: StreamId,
    kind: MediaKind,
    feeds: Arc<Mutex<Vec<Feed>>>,
}

impl StreamPort for Port {
    fn id(&self) -> StreamId {
        self.id
    }
    fn kind(&self) -> MediaKind {
        self.kind
    }
    fn thread(&self) -> usize {
        0
    }
    fn feed(&self, feed: Feed) -> Result<(), PortError> {
        self.feeds.lock().unwrap().push(feed);
        Ok(())
    }
    fn engage(&self) -> Result<(Inlet, Outlet), PortError> {
        Err(PortError::Closed)
    }
    fn disengage(&self) -> Result<(), PortError> {
        Ok(())
    }
    fn request_keyframe(&self) -> Result<(), PortError> {
        Ok(())
    }
    fn send_dtmf(&self, _: char, _: Duration) -> Result<(), PortError> {
        Ok(())
    }
    fn stats(&self) -> StreamStats {
        StreamStats { remote: None::<SocketAddr>, ..StreamStats::default() }
    }
}

/// Calls of cardboard are relayed only.
pub(crate) struct NoCodecs;

impl Codecs for NoCodecs {
    fn audio_decoder(&self, _: &AudioFormat) -> Result<Box<dyn AudioDecoder>, CodecError> {
        Err(CodecError::Unsupported("none"))
    }
    fn audio_encoder(&self, _: &AudioFormat) -> Result<Box<dyn AudioEncoder>, CodecError> {
        Err(CodecError::Unsupported("none"))
    }
    fn video_decoder(&self, _: &VideoFormat, _: Pool) -> Result<Box<dyn VideoDecoder>, CodecError> {
        Err(CodecError::Unsupported("none"))
    }
    fn video_encoder(&self, _: &VideoFormat, _: VideoEncoding) -> Result<Box<dyn VideoEncoder>, CodecError> {
        Err(CodecError::Unsupported("none"))
    }
}

pub(crate) fn leg(number: u64) -> (Leg, Far) {
    let (commands, far_commands) = mpsc::channel(16);
    let (far_events, events) = mpsc::channel(16);
    let party = Party {
        protocol: "sip",
        origin: Origin::Incoming,
        address: String::new(),
        name: String::new(),
        called: String::new(),
        uri: None,
        device: None,
        trunk: None,
        signalling: None,
        transport: "udp",
        hops: 70,
    };
    (
        Leg {
            id: LegId(number),
            answers_as: None,
            party,
            thread: 0,
            codecs: Vec::new(),
            ladder: Default::default(),
            commands,
            events,
        },
        Far { commands: far_commands, events: far_events },
    )
}

pub(crate) fn pcma() -> MediaFormat {
    MediaFormat::Audio(AudioFormat::new(Codec::Pcma))
}

pub(crate) fn offer() -> Capabilities {
    let line =
        MediaCapability { role: MediaKind::Audio, direction: Direction::SendRecv, formats: vec![pcma()] };
    Capabilities { media: vec![line], max_bitrate: None }
}

pub(crate) fn streams(number: u64, direction: Direction) -> (Vec<LegStream>, Arc<Mutex<Vec<Feed>>>) {
    streams_of(number, direction, Codec::Pcma)
}

pub(crate) fn streams_of(
    number: u64,
    direction: Direction,
    codec: Codec,
) -> (Vec<LegStream>, Arc<Mutex<Vec<Feed>>>) {
    let feeds = Arc::default();
    let port = Port { id: StreamId(number), kind: MediaKind::Audio, feeds: Arc::clone(&feeds) };
    let format = MediaFormat::Audio(AudioFormat::new(codec));
    let agreed = Stream { role: MediaKind::Audio, direction, send: format.clone(), receive: format };
    (vec![LegStream { agreed, also: Vec::new(), encrypted: false, port: Arc::new(port) }], feeds)
}

/// A camera that is agreed in both directions.
pub(crate) fn camera(number: u64) -> LegStream {
    let h264 = MediaFormat::Video(VideoFormat {
        codec: Codec::H264,
        profile: H264Profile::ConstrainedBaseline,
        level: 31,
        mode: PacketizationMode::NonInterleaved,
        max_bitrate: None,
        max_fs: None,
        max_mbps: None,
    });
    let port = Port { id: StreamId(number), kind: MediaKind::Main, feeds: Arc::default() };
    let agreed =
        Stream { role: MediaKind::Main, direction: Direction::SendRecv, send: h264.clone(), receive: h264 };
    LegStream { agreed, also: Vec::new(), encrypted: false, port: Arc::new(port) }
}

impl Far {
    pub(crate) async fn tells(&self, event: LegEvent) {
        self.events.send(event).await.unwrap();
    }

    pub(crate) async fn told(&mut self) -> LegCommand {
        tokio::time::timeout(Duration::from_secs(5), self.commands.recv()).await.expect("a command").unwrap()
    }

    pub(crate) async fn told_to_hang_up(&mut self) -> Cause {
        self.told_to_hang_up_within(Duration::from_secs(5)).await
    }

    pub(crate) async fn told_to_hang_up_within(&mut self, time: Duration) -> Cause {
        let told = tokio::time::timeout(time, self.commands.recv()).await;
        match told.expect("a command").unwrap() {
            LegCommand::Hangup(cause) => cause,
            other => panic!("not a hang-up: {other:?}"),
        }
    }

    pub(crate) async fn ends(&self, cause: Cause) {
        self.tells(LegEvent::Ended(cause)).await;
    }
}
