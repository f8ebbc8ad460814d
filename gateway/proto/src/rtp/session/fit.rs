//! Whether relayed pictures are what the peer takes: the source was told, but its parameter sets say
//! what it does.

use crosspoint_codecs::format::{MediaFormat, can_relay_seen};
use crosspoint_codecs::video::nal::{kind, kind_of, nal_units};
use crosspoint_codecs::video::sps::Sps;

use super::{Event, Session};

impl Session {
    /// Looks at a packet's payload to be relayed (RFC 6184 section 5.4).
    pub(super) fn check_payload(&mut self, payload: &[u8]) {
        if payload.first().is_some_and(|first| first & 0x1f == 24) {
            let mut rest = payload.get(1..).unwrap_or(&[]);
            while let [high, low, ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                self.check_nal(rest.get(2..length.saturating_add(2)).unwrap_or(&[]));
                rest = rest.get(length.saturating_add(2)..).unwrap_or(&[]);
            }
        } else {
            self.check_nal(payload);
        }
    }

    /// Looks at an access unit to be relayed.
    pub(super) fn check_unit(&mut self, unit: &[u8]) {
        for nal in nal_units(unit) {
            self.check_nal(nal);
        }
    }

    fn check_nal(&mut self, nal: &[u8]) {
        if kind_of(nal) != kind::SPS {
            return;
        }
        let Some(MediaFormat::Video(takes)) = self.config.send.as_ref().map(|send| &send.format) else {
            return;
        };
        let Some(seen) = Sps::parse(nal).ok().and_then(|sps| sps.seen(None)) else { return };
        // The modes are the relay's own business: only what is decoded is compared here.
        if can_relay_seen(takes, &seen, takes).is_err() && self.sender.is_new_misfit() {
            self.tell(Event::PictureUnfit);
        }
    }
}
