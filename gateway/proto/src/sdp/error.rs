//! What can go wrong, whose fault it is and which SIP status says so.

/// A limit on what a peer may describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Octets in all.
    Size,
    /// Octets of a line.
    Line,
    /// Lines of a section.
    Lines,
    /// m-lines.
    Media,
    /// Attributes of a section.
    Attributes,
    /// Formats of an m-line.
    Formats,
    /// Octets of an `a=fmtp`.
    FormatParameters,
}

/// Why bytes are not a session description.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Its structure is broken.
    #[error("malformed session description: {0}")]
    Malformed(#[from] sdp_types::ParserError),
    /// Larger than we take.
    #[error("session description beyond a limit: {0:?}")]
    Limit(Limit),
}
