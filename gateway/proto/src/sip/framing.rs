//! Messages out of a stream (RFC 3261 section 18.3, RFC 5626 section 3.5.1).
//!
//! ```text
//!   between ──octet──▶ head ──empty line──▶ body ──Content-Length──▶ between
//!      │ CRLF CRLF: ping                     │ the end of the message is unknown: broken
//! ```

use bytes::{Buf, Bytes, BytesMut};

use super::limits;
use super::message::Message;
use super::parse::{ContentLength, Head, ParseError, ParseErrorKind, find};

/// What answers a [`Frame::Ping`].
pub const PONG: &[u8] = b"\r\n";

const EMPTY_LINE: &[u8] = b"\r\n\r\n";

/// What a stream held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// Something that is no message that we take.
    Refused {
        /// Why, and how to answer it.
        error: ParseError,
        /// The end of the message is unknown: close once the answer is sent. Nothing follows.
        close: bool,
    },
    /// A double CRLF between messages: send [`PONG`] at once.
    Ping,
}

/// Cuts one connection's octets into messages. However the octets are cut, the frames are the same.
///
/// It holds at most [`limits::MESSAGE`] octets. It has no clock: while [`StreamFramer::is_waiting`]
/// the owner lets a deadline run, since a peer may promise more octets than it sends.
#[derive(Debug, Default)]
pub struct StreamFramer {
    buffer: BytesMut,
    state: State,
}

impl StreamFramer {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes octets and hands out, in order, what they complete.
    pub fn push(&mut self, mut octets: &[u8], mut emit: impl FnMut(Frame)) {
        while !octets.is_empty() && !self.is_broken() {
            let room = limits::MESSAGE.saturating_sub(self.buffer.len()).max(1).min(octets.len());
            let (piece, rest) = octets.split_at_checked(room).unwrap_or((octets, b""));
            self.buffer.extend_from_slice(piece);
            octets = rest;
            while let Some(frame) = self.step() {
                emit(frame);
            }
        }
    }

    /// Whether a message has begun that is not complete.
    pub const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Head { .. } | State::Body { .. })
    }

    /// Whether a frame with `close` came out; all further octets are dropped.
    pub const fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// The next frame, or nothing before more octets come.
    fn step(&mut self) -> Option<Frame> {
        loop {
            match &mut self.state {
                State::Broken => return None,
                State::Between { line_ends } => {
                    if self.buffer.starts_with(b"\r\n") {
                        self.buffer.advance(2);
                        *line_ends = !*line_ends;
                        if !*line_ends {
                            return Some(Frame::Ping);
                        }
                    } else if self.buffer.is_empty() || *self.buffer == *b"\r" {
                        return None;
                    } else {
                        self.state = State::Head { searched: 0 };
                    }
                }
                State::Head { searched } => {
                    let from = searched.saturating_sub(EMPTY_LINE.len());
                    let window = self.buffer.get(..HEAD_WITH_END).unwrap_or(&self.buffer);
                    let end = window.get(from..).and_then(|tail| find(tail, EMPTY_LINE));
                    if let Some(end) = end.map(|end| end.saturating_add(from)) {
                        if let Some(frame) = self.end_head(end) {
                            return Some(frame);
                        }
                    } else if window.len() < HEAD_WITH_END {
                        *searched = window.len();
                        return None;
                    } else {
                        let mut head = Head::read(window);
                        head.fault(ParseErrorKind::HeadTooLarge);
                        return self.give_up(head);
                    }
                }
                State::Body { octets, .. } => {
                    let body = Bytes::copy_from_slice(self.buffer.get(..*octets)?);
                    self.buffer.advance(*octets);
                    let State::Body { head, .. } = std::mem::take(&mut self.state) else { return None };
                    return Some(match head.finish(body) {
                        Ok(message) => Frame::Message(message),
                        Err(error) => Frame::Refused { error, close: false },
                    });
                }
            }
        }
    }

    /// The head is complete: `end` octets before the empty line.
    fn end_head(&mut self, end: usize) -> Option<Frame> {
        let mut head = Head::read(self.buffer.get(..end).unwrap_or_default());
        let size = end.saturating_add(EMPTY_LINE.len());
        match head.content_length() {
            // What hides in a line that we cannot read may be another Content-Length.
            _ if head.is_ambiguous() => {}
            ContentLength::Absent => head.fault(ParseErrorKind::NoContentLength),
            ContentLength::Malformed => head.fault(ParseErrorKind::ContentLength),
            ContentLength::Octets(octets) if octets > limits::MESSAGE.saturating_sub(size) => {
                head.fault(ParseErrorKind::BodyTooLarge);
            }
            ContentLength::Octets(octets) => {
                self.buffer.advance(size.min(self.buffer.len()));
                self.state = State::Body { head: Box::new(head), octets };
                return None;
            }
        }
        self.give_up(head)
    }

    fn give_up(&mut self, head: Head) -> Option<Frame> {
        self.state = State::Broken;
        self.buffer = BytesMut::new();
        let error = head.finish(Bytes::new()).err()?;
        Some(Frame::Refused { error, close: true })
    }
}

/// The largest head with the empty line that ends it.
const HEAD_WITH_END: usize = limits::HEAD + EMPTY_LINE.len();

#[derive(Debug)]
enum State {
    /// Between messages; whether an odd number of line ends came.
    Between { line_ends: bool },
    /// In the head, of which so many octets hold no empty line.
    Head { searched: usize },
    /// In the body.
    Body { head: Box<Head>, octets: usize },
    /// Nothing more will come out.
    Broken,
}

impl Default for State {
    fn default() -> Self {
        Self::Between { line_ends: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::torture::torture;

    fn frames(chunks: &[&[u8]]) -> (Vec<Frame>, StreamFramer) {
        let mut framer = StreamFramer::new();
        let mut frames = Vec::new();
        for chunk in chunks {
            framer.push(chunk, |frame| frames.push(frame));
        }
        (frames, framer)
    }

    fn octet_by_octet(stream: &[u8]) -> Vec<Frame> {
        frames(&stream.chunks(1).collect::<Vec<_>>()).0
    }

    #[test]
    fn trailing_octets_are_the_next_request() {
        let stream = torture("rfc4475", "dblreq");
        let (whole, framer) = frames(&[&stream]);
        let methods: Vec<_> = whole
            .iter()
            .filter_map(|frame| match frame {
                Frame::Message(Message::Request(request)) => Some(request.method.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(methods, ["REGISTER", "INVITE"]);
        assert!(!framer.is_waiting());
        assert_eq!(octet_by_octet(&stream), whole);
    }

    #[test]
    fn a_ping_is_two_line_ends_between_messages_however_they_are_cut() {
        assert_eq!(frames(&[b"\r\n\r\n"]).0, [Frame::Ping]);
        assert_eq!(octet_by_octet(b"\r\n\r\n\r\n\r\n"), [Frame::Ping, Frame::Ping]);
        assert!(frames(&[b"\r\n"]).0.is_empty());
        let mut stream = b"\r\n".to_vec();
        stream.extend(torture("rfc4475", "zeromf"));
        stream.extend(b"\r\n\r\n");
        let whole = frames(&[&stream]).0;
        assert!(matches!(whole.as_slice(), [Frame::Message(_), Frame::Ping]), "{whole:?}");
        assert_eq!(octet_by_octet(&stream), whole);
    }

    #[test]
    fn a_promise_of_more_octets_waits_and_nothing_else() {
        let (frames, framer) = frames(&[&torture("rfc4475", "clerr")]);
        assert!(frames.is_empty());
        assert!(framer.is_waiting() && !framer.is_broken());
    }

    #[test]
    fn an_unknown_end_closes_and_a_bad_header_does_not() {
        let refused = |stream: &[u8]| {
            let frames = octet_by_octet(stream);
            match frames.as_slice() {
                [Frame::Refused { error, close }] => (error.kind(), *close),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(&torture("rfc4475", "ncl")), (ParseErrorKind::ContentLength, true));
        assert_eq!(refused(&torture("rfc4475", "mcl01")), (ParseErrorKind::ContentLength, true));
        assert_eq!(refused(&torture("rfc4475", "inv2543")), (ParseErrorKind::NoContentLength, true));
        let mut stream = torture("rfc4475", "lwsstart");
        assert_eq!(refused(&stream), (ParseErrorKind::StartLine, false));
        stream.extend(torture("rfc4475", "zeromf"));
        assert!(matches!(octet_by_octet(&stream).as_slice(), [_, Frame::Message(_)]));
    }

    #[test]
    fn sizes_are_bounded_before_they_are_believed() {
        let zeromf = String::from_utf8(torture("rfc4475", "zeromf")).unwrap();
        for (octets, kind) in [
            ("18446744073709551615", ParseErrorKind::BodyTooLarge),
            ("65535", ParseErrorKind::BodyTooLarge),
            ("-1", ParseErrorKind::ContentLength),
            ("0, 0", ParseErrorKind::ContentLength),
        ] {
            let stream = zeromf.replace("Content-Length: 0", &format!("Content-Length: {octets}"));
            let (frames, framer) = frames(&[stream.as_bytes(), b"more", b"and more"]);
            let [Frame::Refused { error, close: true }] = frames.as_slice() else { panic!("{frames:?}") };
            assert_eq!(error.kind(), kind);
            assert!(error.answer("t").is_some());
            assert!(framer.is_broken());
        }
        // An endless head is answered by what it began with, and not kept.
        let endless = [zeromf.trim_end().as_bytes(), &b"\r\nX: y".repeat(limits::HEAD)].concat();
        let (frames, framer) = frames(&[&endless]);
        let [Frame::Refused { error, close: true }] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!(error.answer("t").unwrap().status, 513);
        assert!(framer.buffer.is_empty() && framer.is_broken());
    }

    #[test]
    fn the_largest_message_passes() {
        let zeromf = String::from_utf8(torture("rfc4475", "zeromf")).unwrap();
        let head = zeromf.replace("Content-Length: 0", "Content-Length: 65000");
        let stream = [head.as_bytes(), &vec![b'x'; 65_000], zeromf.as_bytes()].concat();
        let (frames, _) = frames(&[&stream]);
        assert!(
            matches!(frames.as_slice(), [Frame::Message(m), Frame::Message(_)] if m.body().len() == 65_000)
        );
    }
}
