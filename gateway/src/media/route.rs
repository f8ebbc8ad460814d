//! What a sink gets from the engine. Relays are not here: they never pass the engine
//! ([`super::port::Feed::Relay`]).

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
    /// Something that the engine makes itself. Sound sinks only.
    Play(Playback),
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
}
