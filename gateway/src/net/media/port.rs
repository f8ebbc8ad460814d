//! A stream seen from outside of its thread.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crosspoint_codecs::format::MediaKind;
use crosspoint_proto::rtp::session::{Channel, SessionConfig};

use super::Shared;
use super::stream::{Order, Outside, rings};
use super::thread::Handle;
use crate::media::capture::Capture;
use crate::media::port::{Feed, Inlet, Outlet, PortError, StreamId, StreamPort, StreamStats};

/// Where a stream listens: what its SDP says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// RTP, an even port.
    pub rtp: SocketAddr,
    /// RTCP, the port above. With rtcp-mux agreed nothing is sent from it.
    pub rtcp: SocketAddr,
}

impl LocalAddress {
    pub(super) const fn of(self, channel: Channel) -> SocketAddr {
        match channel {
            Channel::Rtp => self.rtp,
            Channel::Rtcp => self.rtcp,
        }
    }
}

/// The handle of a stream. Calls queue to its thread and never block.
pub struct MediaPort {
    shared: Arc<Shared>,
    thread: usize,
    outside: Outside,
}

impl MediaPort {
    pub(super) const fn new(shared: Arc<Shared>, thread: usize, outside: Outside) -> Self {
        Self { shared, thread, outside }
    }

    /// Where it listens.
    pub const fn local(&self) -> LocalAddress {
        self.outside.local
    }

    /// Tells it what was agreed; at a re-offer, what is agreed from now on. What is sent goes on
    /// with its numbering; keys that stay the same keep their state.
    pub fn configure(&self, config: SessionConfig) -> Result<(), PortError> {
        self.order(Order::Configure(Box::new(config)))
    }

    /// The peer asked for a keyframe of what we send, by signalling. Merged with what it asks in
    /// RTCP, and told and obeyed the same way.
    pub fn keyframe_asked(&self) -> Result<(), PortError> {
        self.order(Order::KeyframeAsked)
    }

    /// Ends the stream: BYE is sent, the ports are free a moment later, the events end. The
    /// figures stay readable.
    pub fn close(&self) {
        if self.outside.figures.close() {
            self.shared.places().remove(&self.outside.id);
            if let Some(thread) = self.handle() {
                thread.sweep();
            }
        }
    }

    fn order(&self, order: Order) -> Result<(), PortError> {
        if self.outside.figures.is_closed() {
            return Err(PortError::Closed);
        }
        self.handle().ok_or(PortError::Closed)?.order(self.outside.id, order)
    }

    fn handle(&self) -> Option<&Handle> {
        self.shared.threads.get(self.thread)
    }
}

impl StreamPort for MediaPort {
    fn id(&self) -> StreamId {
        self.outside.id
    }

    fn kind(&self) -> MediaKind {
        self.outside.kind
    }

    fn thread(&self) -> usize {
        self.thread
    }

    fn feed(&self, feed: Feed) -> Result<(), PortError> {
        if let Feed::Relay(source) = feed {
            match self.shared.places().get(&source) {
                Some(thread) if *thread == self.thread => {}
                Some(_) => return Err(PortError::Apart),
                None => return Err(PortError::Closed),
            }
        }
        self.order(Order::Feed(feed))
    }

    fn engage(&self) -> Result<(Inlet, Outlet), PortError> {
        let thread = self.handle().ok_or(PortError::Closed)?;
        // All memory of the rings is made here, none on the thread.
        let (inside, inlet, outlet) = rings(self.outside.kind, thread.wake());
        self.order(Order::Engage(Box::new(inside)))?;
        Ok((inlet, outlet))
    }

    fn disengage(&self) -> Result<(), PortError> {
        self.order(Order::Disengage)
    }

    fn request_keyframe(&self) -> Result<(), PortError> {
        self.order(Order::RequestKeyframe)
    }

    fn send_dtmf(&self, digit: char, duration: Duration) -> Result<(), PortError> {
        self.order(Order::SendDtmf(digit, duration))
    }

    fn show(&self, capture: Option<Arc<Capture>>) -> Result<(), PortError> {
        self.order(Order::Show(capture))
    }

    fn stats(&self) -> StreamStats {
        // The next reader sees figures of now; a full queue only makes them a second older.
        let _ = self.order(Order::Publish);
        self.outside.figures.read()
    }
}

impl Drop for MediaPort {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for MediaPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaPort")
            .field("id", &self.outside.id)
            .field("kind", &self.outside.kind)
            .field("local", &self.outside.local)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}
