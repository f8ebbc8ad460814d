//! A stream that the engine has rings with, in the formats that its leg has agreed.

use crosspoint_codecs::format::MediaFormat;

use crate::leg::LegStream;
use crate::media::{EngineError, EngineHandle, Timeline};

/// The stream, and how the engine knows it.
#[derive(Debug)]
pub(super) struct Engaged {
    stream: LegStream,
    source: Option<MediaFormat>,
    sink: Option<MediaFormat>,
}

impl Engaged {
    /// Gives the engine the stream's rings; `timeline` is that of its leg.
    pub(super) fn new(
        engine: &EngineHandle,
        timeline: &Timeline,
        stream: &LegStream,
    ) -> Result<Self, String> {
        let (source, sink) = formats(stream);
        let id = stream.port.id();
        let (inlet, outlet) = stream.port.engage().map_err(|fault| fault.to_string())?;
        let this = Self { stream: stream.clone(), source, sink };
        let added = (|| {
            if let Some(format) = &this.source {
                engine.add_source(id, timeline, format, inlet)?;
            }
            if let Some(format) = &this.sink {
                engine.add_sink(id, stream.agreed.role, format, outlet)?;
            }
            Ok::<_, EngineError>(())
        })();
        match added {
            Ok(()) => Ok(this),
            Err(fault) => {
                this.end(engine);
                Err(fault.to_string())
            }
        }
    }

    /// Whether `stream` has agreed to nothing else since.
    pub(super) fn is_still(&self, stream: &LegStream) -> bool {
        let (source, sink) = formats(stream);
        (&self.source, &self.sink) == (&source, &sink)
    }

    /// Takes it out of the engine and ends its rings. Either may be gone already.
    pub(super) fn end(self, engine: &EngineHandle) {
        let _ = engine.remove(self.stream.port.id());
        let _ = self.stream.port.disengage();
    }
}

/// The engine with the fewest members: a call or a conference stays within one. There is always one, for
/// the facade starts at least one.
pub(super) fn quietest(engines: &[EngineHandle]) -> EngineHandle {
    let members = |engine: &&EngineHandle| {
        let stats = engine.worker_stats();
        stats.audio.members + stats.video.members
    };
    engines.iter().min_by_key(members).unwrap_or_else(|| &engines[0]).clone()
}

/// What comes in and what goes out.
fn formats(stream: &LegStream) -> (Option<MediaFormat>, Option<MediaFormat>) {
    let agreed = &stream.agreed;
    let source = agreed.direction.receives().then(|| agreed.receive.clone());
    (source, agreed.direction.sends().then(|| agreed.send.clone()))
}
