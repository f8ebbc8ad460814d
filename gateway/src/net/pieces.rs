//! What a stream has brought, cut so that whoever counts its pieces has counted its messages.
//!
//! Where a message ends is for the machine to find, behind its Content-Length. Here it is enough that none
//! comes without an empty line (RFC 3261 section 7), and no answer to a ping without two line ends
//! (RFC 5626 section 3.5.1): a piece has one such at most. A body with empty lines of its own counts for
//! more than it is. A message of WebSocket is one of SIP (RFC 7118 section 5), and is never cut.

const EMPTY_LINE: &[u8] = b"\r\n\r\n";

/// The state of one stream.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// So much of an empty line was at the end of what has gone.
    matched: usize,
}

impl Pieces {
    /// How much of `data`, which follows what has gone, goes next: all of it, unless a second empty line
    /// ends there. What is left is asked about anew.
    pub(super) fn next(&mut self, data: &[u8]) -> usize {
        let Some(first) = self.empty_line(data) else { return data.len() };
        let rest = data.get(first..).unwrap_or_default();
        if self.empty_line(rest).is_some() { first } else { data.len() }
    }

    /// Where the next empty line ends.
    fn empty_line(&mut self, data: &[u8]) -> Option<usize> {
        for (at, octet) in data.iter().enumerate() {
            self.matched = match octet {
                octet if EMPTY_LINE.get(self.matched) == Some(octet) => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == EMPTY_LINE.len() {
                self.matched = 0;
                return Some(at + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed over where `reads` come one after the other.
    fn pieces(reads: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut pieces, mut cut) = (Pieces::default(), Vec::new());
        for mut data in reads.iter().copied() {
            while !data.is_empty() {
                let (piece, rest) = data.split_at(pieces.next(data));
                cut.push(piece.to_vec());
                data = rest;
            }
        }
        cut
    }

    #[test]
    fn a_piece_has_one_end_of_a_head_at_most() {
        let ask = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n".as_slice();
        let with_body = b"INVITE sip:a SIP/2.0\r\nContent-Length: 5\r\n\r\nv=0\r\n".as_slice();
        assert_eq!(pieces(&[&ask.repeat(40)]).len(), 40);
        assert_eq!(pieces(&[with_body]), [with_body], "a body goes with its head");
        assert_eq!(pieces(&[&with_body.repeat(7)]).len(), 7);
        assert_eq!(pieces(&[b"\r\n\r\n".repeat(9).as_slice()]).len(), 9, "pings");
        // Nothing is lost or moved.
        assert_eq!(pieces(&[&with_body.repeat(7)]).concat(), with_body.repeat(7));
    }

    #[test]
    fn however_it_is_cut_no_end_is_missed() {
        let stream = b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n".repeat(5);
        for size in 1..=stream.len() {
            let reads: Vec<&[u8]> = stream.chunks(size).collect();
            let cut = pieces(&reads);
            assert_eq!(cut.concat(), stream);
            assert!(cut.len() >= 5, "by {size} octets: {} pieces", cut.len());
        }
    }
}
