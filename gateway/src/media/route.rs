//! What a sink gets from the engine. Relays are not here: they never pass the engine
//! ([`super::port::Feed::Relay`]).

use super::clip::ClipId;
use super::port::StreamId;

/// What one sink sends. A change takes effect at a tick boundary and fades; a sink's stamps run on
/// through it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Route {
    /// Nothing is encoded and nothing is sent.
    Silence,
    /// What `source` receives, decoded and encoded anew. A source that does not exist (yet) is
    /// silence to a sound sink and no picture to a picture sink.
    Transcode {
        /// A source of the same engine and of the same sort (sound or pictures).
        source: StreamId,
    },
    /// Everybody in `bus` but the source of the sink's own number. Sound sinks only. A bus that
    /// does not exist (yet) is silence.
    Mix {
        /// A bus of the same engine.
        bus: BusId,
    },
    /// A composed picture. Picture sinks only. A view that does not exist (yet) is no picture.
    Compose {
        /// A view of the same engine.
        view: ViewId,
    },
    /// Something that the engine makes itself. Sound sinks only.
    Play(Playback),
}

/// A composed picture. Never used twice in one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewId(pub u64);

impl Route {
    /// The bus that is heard.
    pub const fn bus(self) -> Option<BusId> {
        match self {
            Self::Mix { bus } => Some(bus),
            Self::Silence | Self::Transcode { .. } | Self::Compose { .. } | Self::Play(_) => None,
        }
    }
}

/// A mix. Never used twice in one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BusId(pub u64);

/// How a mix is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusConfig {
    /// How many are mixed at a time, the loudest; `usize::MAX` for all who make a sound.
    pub talkers: usize,
    /// Sources at most. A place costs some sixty bytes until it is used.
    pub members: usize,
    /// Peaks of the mix are limited, which costs a delay of 1 ms; without, they are cut.
    pub limit: bool,
    /// Each member is brought slowly to the same level of speech, -26 dBov, by 12 dB at most.
    pub agc: bool,
    /// While nobody talks there is noise of -70 dBov, so that the line does not sound dead.
    pub comfort: bool,
}

impl Default for BusConfig {
    /// Eight talkers: more at once are noise, and each costs an encoder.
    fn default() -> Self {
        Self { talkers: 8, members: 1024, limit: true, agc: true, comfort: true }
    }
}

/// Sound that the engine makes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Playback {
    /// Coded silence, sent all the time: for peers that take a pause for the end of the call.
    Silence,
    /// The ringing tone in its most common form (ITU-T E.180 section 6: 425 Hz, 1 s on, 4 s off).
    Ringback,
    /// A steady tone at -12 dBov.
    Tone {
        /// Its frequency; what the sink cannot carry (half its rate and above) is silence.
        hertz: u16,
    },
    /// A clip from its beginning, then silence. One that does not exist is silence.
    Clip {
        /// A clip of the same engine.
        clip: ClipId,
        /// Another turn plays the clip again; the same goes on with it.
        turn: u32,
    },
}
