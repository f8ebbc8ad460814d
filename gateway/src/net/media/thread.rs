//! The loop of a media socket thread.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::RelayForm;
use crosspoint_codecs::frame::EncodedFrame;
use crosspoint_proto::dtls::is_dtls;
use crosspoint_proto::rtp::session::{Channel, Event, MediaPacket, Received};
use mio::{Events, Interest, Poll, Token, Waker};

use super::OpenError;
use super::legs::Legs;
use super::pace::Pace;
use super::stream::{Order, Stream, pool};
use crate::media::port::{Feed, PortError, StreamEvent, StreamId, Unfit, Wake};
use crate::net::clock::Clock;

/// Orders that wait for a thread. Overflow: the caller gets an error. A call makes some ten of
/// them at its start and few afterwards.
const ORDERS: usize = 1024;

/// Datagrams read from one socket before the next one's turn: a flood of one stream costs the
/// others at most this many packets' time, well below a millisecond.
const BATCH: usize = 32;

/// Largest datagram: jumbo frames included. What is longer arrives cut and fails to parse.
const DATAGRAM: usize = 9216;

/// Readiness events that one poll returns; more stay in the kernel for the next.
const EVENTS: usize = 256;

/// How long orders are gathered once there is one: what the packets of others on this thread may wait, far
/// less than the jitter of any road. What comes for the stream itself is read after its order.
const GATHER: Duration = Duration::from_millis(1);

const WAKE: Token = Token(usize::MAX);

/// A thread, from outside.
pub(super) struct Handle {
    inbox: Arc<Inbox>,
}

/// What a thread is told.
struct Inbox {
    number: usize,
    orders: ArrayQueue<(StreamId, Command)>,
    waker: Waker,
    /// A wake is on its way: no second system call.
    woken: AtomicBool,
    /// Some stream was closed: look for it. Needs no room in the queue, so it cannot be lost.
    sweep: AtomicBool,
    stop: AtomicBool,
    streams: AtomicUsize,
}

enum Command {
    Adopt(Box<Stream>),
    Order(Order),
}

impl Handle {
    pub(super) fn number(&self) -> usize {
        self.inbox.number
    }

    /// Streams that live on it.
    pub(super) fn streams(&self) -> usize {
        self.inbox.streams.load(Ordering::Relaxed)
    }

    pub(super) fn wake(&self) -> Arc<dyn Wake> {
        self.inbox.clone()
    }

    pub(super) fn adopt(&self, stream: Box<Stream>) -> Result<(), OpenError> {
        if self.inbox.stop.load(Ordering::Acquire) {
            return Err(OpenError::Stopped);
        }
        let id = stream.id;
        self.inbox.orders.push((id, Command::Adopt(stream))).map_err(|_| OpenError::Overloaded)?;
        self.inbox.streams.fetch_add(1, Ordering::Relaxed);
        self.inbox.wake();
        Ok(())
    }

    pub(super) fn order(&self, id: StreamId, order: Order) -> Result<(), PortError> {
        if self.inbox.stop.load(Ordering::Acquire) {
            return Err(PortError::Closed);
        }
        self.inbox.orders.push((id, Command::Order(order))).map_err(|_| PortError::Overloaded)?;
        self.inbox.wake();
        Ok(())
    }

    /// Some stream's figures say closed.
    pub(super) fn sweep(&self) {
        self.inbox.sweep.store(true, Ordering::Release);
        self.inbox.wake();
    }

    pub(super) fn stop(&self) {
        self.inbox.stop.store(true, Ordering::Release);
        self.inbox.woken.store(false, Ordering::Release);
        self.inbox.wake();
    }

    /// Drops what nobody will read any more: streams in it hold ports.
    pub(super) fn clear(&self) {
        while self.inbox.orders.pop().is_some() {}
    }
}

impl Inbox {
    /// Whether there is more to do than to send what the engine has made, which by itself waits for nothing.
    fn has_orders(&self) -> bool {
        !self.orders.is_empty() || self.sweep.load(Ordering::Acquire)
    }
}

impl Wake for Inbox {
    fn thread(&self) -> usize {
        self.number
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            self.woken.store(false, Ordering::Release);
            tracing::error!(%error, thread = self.number, "cannot wake a media thread");
        }
    }
}

/// Starts thread `number`.
pub(super) fn start(number: usize, clock: Clock) -> io::Result<(Handle, JoinHandle<()>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let inbox = Arc::new(Inbox {
        number,
        orders: ArrayQueue::new(ORDERS),
        waker,
        woken: AtomicBool::new(false),
        sweep: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        streams: AtomicUsize::new(0),
    });
    let looped = Loop {
        poll,
        clock,
        inbox: inbox.clone(),
        streams: Vec::new(),
        free: Vec::new(),
        slots: HashMap::new(),
        legs: Legs::default(),
        engaged: Vec::new(),
        timers: BinaryHeap::new(),
        ready: Vec::with_capacity(EVENTS),
        pace: Pace::default(),
        buffer: vec![0; DATAGRAM].into(),
    };
    let ends = Ends(inbox.clone());
    let join = std::thread::Builder::new().name(format!("media-{number}")).spawn(move || {
        let _ends = ends;
        looped.run();
    })?;
    Ok((Handle { inbox }, join))
}

/// However the thread ends: whoever asks it for anything afterwards hears that it has.
struct Ends(Arc<Inbox>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
        if std::thread::panicking() {
            tracing::error!(thread = self.0.number, "a media thread failed, its calls have no media");
        }
    }
}

struct Loop {
    poll: Poll,
    clock: Clock,
    inbox: Arc<Inbox>,
    /// Slot n has tokens 2n (RTP) and 2n + 1 (RTCP).
    streams: Vec<Option<Box<Stream>>>,
    free: Vec<usize>,
    slots: HashMap<StreamId, usize>,
    legs: Legs,
    /// Slots with rings; one that has none any more is taken out when the outlets are drained.
    engaged: Vec<usize>,
    /// Entries whose time is not the stream's `armed` are stale.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Sockets that may hold more.
    ready: Vec<Token>,
    pace: Pace,
    buffer: Box<[u8]>,
}

impl Loop {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut turn = Vec::with_capacity(EVENTS);
        while !self.inbox.stop.load(Ordering::Acquire) {
            let wait = self.wait();
            if let Err(error) = self.poll.poll(&mut events, wait)
                && error.kind() != io::ErrorKind::Interrupted
            {
                // Nothing to be done but to go on; a loop that spins on it must not fill the disk.
                tracing::error!(%error, thread = self.inbox.number, "poll failed");
                std::thread::sleep(Duration::from_millis(10));
            }
            let mut woken = false;
            for event in &events {
                if event.token() == WAKE {
                    woken = true;
                } else {
                    self.ready.push(event.token());
                }
            }
            if woken {
                if self.inbox.has_orders() {
                    // A call that begins or ends gives its orders within a moment, and each would wake the
                    // thread: until it looks, nobody wakes it again.
                    std::thread::sleep(GATHER);
                }
                // Before the queues are looked at: who pushes later wakes again.
                self.inbox.woken.store(false, Ordering::Release);
                self.take_orders();
                self.drain_outlets();
            }
            std::mem::swap(&mut self.ready, &mut turn);
            let read = turn.len();
            for token in turn.drain(..) {
                self.read(token);
            }
            self.fire();
            // Sockets that had no place in this look, or have more than their turn.
            let left = read >= EVENTS || !self.ready.is_empty();
            if let Some(rest) = self.pace.after(self.clock.now(), read, left) {
                std::thread::sleep(rest);
            }
        }
        let now = self.clock.now();
        for stream in self.streams.iter_mut().flatten() {
            stream.close(now);
        }
    }

    /// How long the poll may sleep. For a deadline that nobody has any more it is not woken.
    fn wait(&mut self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        while let Some(&Reverse((at, slot))) = self.timers.peek() {
            let stream = self.streams.get(slot).and_then(Option::as_ref);
            if stream.is_some_and(|stream| stream.armed == Some(at)) {
                return Some(at - self.clock.now());
            }
            self.timers.pop();
        }
        None
    }

    /// Reads one socket until it is empty, or its turn is over.
    fn read(&mut self, token: Token) {
        // Lent out, so that a packet in it can be handed to other streams.
        let mut buffer = std::mem::take(&mut self.buffer);
        self.read_into(token, &mut buffer);
        self.buffer = buffer;
    }

    fn read_into(&mut self, token: Token, buffer: &mut [u8]) {
        let (slot, channel) =
            (token.0 / 2, if token.0.is_multiple_of(2) { Channel::Rtp } else { Channel::Rtcp });
        for _ in 0..BATCH {
            let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
            let socket = match channel {
                Channel::Rtp => &stream.rtp,
                Channel::Rtcp => &stream.rtcp,
            };
            match socket.recv_from(buffer) {
                Ok((len, from)) => {
                    let Some(data) = buffer.get_mut(..len) else { return };
                    self.datagram(slot, channel, from, data);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP answer to something that we sent; the next datagram may be fine.
                Err(_) => {}
            }
        }
        self.ready.push(token);
    }

    fn datagram(&mut self, slot: usize, channel: Channel, from: SocketAddr, data: &mut [u8]) {
        let now = self.clock.now();
        let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
        stream.came(channel, from, data);
        if is_dtls(data) {
            stream.shake(now, channel, from, data);
            return self.settle(slot, now);
        }
        let (source, leg) = (stream.id, stream.leg);
        let Some(clocks) = self.legs.get_mut(leg) else { return };
        let received = stream.receive(now, &mut clocks.receive, channel, from, data);
        // The relay comes first; everything else of this packet can wait for it.
        let mut nth = 0;
        while let Some(sink) = sink(&self.streams, slot, nth) {
            nth += 1;
            let Some(stream) = self.streams.get_mut(sink).and_then(Option::as_mut) else { continue };
            match &received {
                Received::Media(packet) => {
                    if stream.session.relay_form(&packet.carries) == Some(RelayForm::Packet) {
                        let (media_time, wait) =
                            self.legs.cross(now, leg, stream.leg, stream.kind, packet.media_time);
                        stream.relay(now, wait, source, &MediaPacket { media_time, ..*packet });
                        self.settle(sink, now);
                    }
                }
                Received::Ended(number) => stream.relay_skip(now, source, *number),
                Received::Nothing => break,
            }
        }
        self.frames(slot, now);
        self.settle(slot, now);
    }

    /// Hands on the frames that are complete.
    fn frames(&mut self, slot: usize, now: Instant) {
        loop {
            let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
            let Some((arrival, frame)) = stream.session.poll_frame() else { return };
            let Some(carries) = stream.session.frames_carry() else { return };
            let (source, leg) = (stream.id, stream.leg);
            let mut nth = 0;
            while let Some(sink) = sink(&self.streams, slot, nth) {
                nth += 1;
                if let Some(stream) = self.streams.get_mut(sink).and_then(Option::as_mut)
                    && stream.session.relay_form(&carries) == Some(RelayForm::AccessUnit)
                {
                    let (media_time, wait) =
                        self.legs.cross(now, leg, stream.leg, stream.kind, frame.media_time);
                    stream.relay_frame(now, wait, source, EncodedFrame { media_time, ..frame.clone() });
                    self.settle(sink, now);
                }
            }
            if let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) {
                stream.deliver(arrival, frame);
            }
        }
    }

    /// After anything was done with a stream: its events, wishes and deadline.
    fn settle(&mut self, slot: usize, now: Instant) {
        loop {
            let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
            if stream.take_wish() {
                stream.request_keyframe(now);
            }
            let Some(event) = stream.poll_event() else { break };
            let feed = stream.feed;
            match event {
                Event::MediaStarted => stream.tell(StreamEvent::MediaStarted),
                Event::MediaTimeout => stream.tell(StreamEvent::MediaTimeout),
                Event::Dtmf(digit) => stream.tell(StreamEvent::Dtmf(digit)),
                Event::KeyframeNeeded => stream.tell(StreamEvent::KeyframeNeeded),
                Event::NalTooLarge => stream.tell(StreamEvent::RelayUnfit(Unfit::NalTooLarge)),
                Event::PictureUnfit => stream.tell(StreamEvent::RelayUnfit(Unfit::Picture)),
                Event::RateUnfit => stream.tell(StreamEvent::RelayUnfit(Unfit::Rate)),
                Event::PeerLimit(bits) => {
                    stream.limit_engine(bits);
                    if let Feed::Relay(source) = feed
                        && let Some(&source) = self.slots.get(&source)
                    {
                        self.limit_source(source, now);
                    }
                }
                Event::KeyframeAsked => {
                    stream.ask_engine_for_keyframe();
                    stream.tell(StreamEvent::KeyframeRequested);
                    if let Some(source) = self.source_of(feed) {
                        source.request_keyframe(now);
                    }
                }
                Event::RateExceeded(_) => {
                    if let Feed::Relay(source) = feed
                        && let Some(&source) = self.slots.get(&source)
                    {
                        self.limit_source(source, now);
                    }
                }
            }
            if let Feed::Relay(source) = feed
                && let Some(&source) = self.slots.get(&source)
            {
                self.arm(source);
            }
        }
        self.arm(slot);
    }

    /// Asks the source of a relay for what the weakest of its sinks takes; none is left that says a rate: for
    /// whatever it likes, if it was asked for less before.
    fn limit_source(&mut self, slot: usize, now: Instant) {
        let Some(source) = self.streams.get(slot).and_then(Option::as_ref) else { return };
        let sinks = source.sinks.iter().filter_map(|sink| self.streams.get(*sink)?.as_ref());
        let limit = sinks.filter_map(|sink| sink.session.send_limit()).min();
        let Some(source) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
        match limit {
            Some(bits) => source.limit_peer(now, bits),
            None => source.free_peer(now),
        }
    }

    /// The stream that a feed relays.
    fn source_of(&mut self, feed: Feed) -> Option<&mut Stream> {
        let Feed::Relay(source) = feed else { return None };
        let slot = *self.slots.get(&source)?;
        self.streams.get_mut(slot)?.as_deref_mut()
    }

    fn arm(&mut self, slot: usize) {
        let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
        let Some(deadline) = stream.deadline() else { return };
        // A later deadline finds out when the earlier entry fires.
        if stream.armed.is_none_or(|armed| deadline < armed) {
            stream.armed = Some(deadline);
            self.timers.push(Reverse((deadline, slot)));
        }
    }

    fn fire(&mut self) {
        let now = self.clock.now();
        while let Some(&Reverse((at, slot))) = self.timers.peek().filter(|Reverse((at, _))| *at <= now) {
            self.timers.pop();
            let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { continue };
            if stream.armed != Some(at) {
                continue;
            }
            stream.armed = None;
            if stream.deadline().is_some_and(|deadline| deadline <= now) {
                stream.timeout(now);
                self.frames(slot, now);
            }
            self.settle(slot, now);
        }
    }

    fn take_orders(&mut self) {
        let now = self.clock.now();
        // Bounded, so that who orders without end starves no packet; a push wakes again.
        for _ in 0..ORDERS {
            let Some((id, command)) = self.inbox.orders.pop() else { break };
            match command {
                Command::Adopt(stream) => self.adopt(stream),
                Command::Order(order) => {
                    if let Some(&slot) = self.slots.get(&id) {
                        self.order(slot, order, now);
                        self.settle(slot, now);
                    }
                }
            }
        }
        if self.inbox.sweep.swap(false, Ordering::AcqRel) {
            for slot in 0..self.streams.len() {
                let closed = self.streams.get(slot).and_then(Option::as_ref);
                if closed.is_some_and(|stream| stream.figures.is_closed()) {
                    self.close(slot, now);
                }
            }
        }
    }

    fn adopt(&mut self, mut stream: Box<Stream>) {
        let slot = self.free.pop().unwrap_or(self.streams.len());
        let registry = self.poll.registry();
        let registered = registry
            .register(&mut stream.rtp, Token(slot * 2), Interest::READABLE)
            .and_then(|()| registry.register(&mut stream.rtcp, Token(slot * 2 + 1), Interest::READABLE));
        if let Err(error) = registered {
            // Its events end and its calls answer that it is closed.
            tracing::error!(%error, thread = self.inbox.number, "cannot watch a media socket");
            stream.close(self.clock.now());
            self.inbox.streams.fetch_sub(1, Ordering::Relaxed);
            self.free.push(slot);
            return;
        }
        let sibling =
            stream.beside.and_then(|id| self.slots.get(&id)).and_then(|slot| self.streams.get(*slot));
        let leg = sibling.and_then(Option::as_ref).map(|sibling| sibling.leg);
        stream.leg = self.legs.join(leg);
        self.slots.insert(stream.id, slot);
        if slot == self.streams.len() {
            self.streams.push(Some(stream));
        } else if let Some(place) = self.streams.get_mut(slot) {
            *place = Some(stream);
        }
    }

    fn close(&mut self, slot: usize, now: Instant) {
        let Some(mut stream) = self.streams.get_mut(slot).and_then(Option::take) else { return };
        self.unlink(slot, stream.feed, now);
        for &sink in &stream.sinks {
            if let Some(sink) = self.streams.get_mut(sink).and_then(Option::as_mut) {
                let _ = sink.set_feed(Feed::Silence);
            }
        }
        stream.close(now);
        let registry = self.poll.registry();
        // Closing the socket does the same; these only keep the kernel's set tidy until then.
        let _ = registry.deregister(&mut stream.rtp);
        let _ = registry.deregister(&mut stream.rtcp);
        if stream.is_engaged() && !stream.kind.is_video() {
            self.legs.set_playout(stream.leg, None);
        }
        self.legs.leave(stream.leg);
        self.slots.remove(&stream.id);
        self.free.push(slot);
        self.inbox.streams.fetch_sub(1, Ordering::Relaxed);
    }

    fn order(&mut self, slot: usize, order: Order, now: Instant) {
        let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
        match order {
            Order::Configure(config) => {
                stream.configure(now, *config);
                let feed = stream.feed;
                self.refresh_frames(slot);
                if let Feed::Relay(source) = feed
                    && let Some(&source) = self.slots.get(&source)
                {
                    self.refresh_frames(source);
                }
            }
            Order::Feed(feed) => self.feed(slot, feed, now),
            Order::Engage(rings) => {
                stream.engage(rings);
                if !self.engaged.contains(&slot) {
                    self.engaged.push(slot);
                }
                if !stream.kind.is_video() {
                    self.legs.set_playout(stream.leg, stream.wishes());
                }
            }
            Order::Disengage => {
                stream.disengage();
                if !stream.kind.is_video() {
                    self.legs.set_playout(stream.leg, None);
                }
                self.refresh_frames(slot);
            }
            Order::RequestKeyframe => stream.request_keyframe(now),
            Order::KeyframeAsked => stream.session.note_keyframe_asked(now),
            Order::SendDtmf(digit, duration) => {
                if !stream.session.send_dtmf(digit, duration) {
                    tracing::debug!(stream = stream.id.0, "a key had no way into the media");
                }
            }
            Order::Show(capture) => stream.show(capture),
            Order::Publish => stream.publish(now),
        }
    }

    fn feed(&mut self, slot: usize, feed: Feed, now: Instant) {
        let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
        let before = stream.set_feed(feed);
        let video = stream.kind.is_video();
        if before == feed {
            return;
        }
        self.unlink(slot, before, now);
        if let Feed::Relay(source) = feed {
            let Some(&source) = self.slots.get(&source) else {
                // Closed a moment ago; the conference hears of it from its leg.
                if let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) {
                    let _ = stream.set_feed(Feed::Silence);
                }
                return;
            };
            let Some(stream) = self.streams.get_mut(source).and_then(Option::as_mut) else { return };
            stream.sinks.push(slot);
            let from = stream.leg;
            let mut limited = false;
            if let Some(stream) = self.streams.get(slot).and_then(Option::as_ref) {
                self.legs.route(from, stream.leg);
                limited = stream.session.send_limit().is_some();
            }
            if limited {
                // What was agreed, or asked of the feed before: no event tells of it again.
                self.limit_source(source, now);
                self.arm(source);
            }
            self.refresh_frames(source);
            if video {
                // Who begins to look needs a whole picture.
                if let Some(stream) = self.streams.get_mut(source).and_then(Option::as_mut) {
                    stream.request_keyframe(now);
                }
                self.settle(source, now);
            }
        }
    }

    /// Takes `slot` out of the list of the stream that fed it.
    fn unlink(&mut self, slot: usize, feed: Feed, now: Instant) {
        if let Feed::Relay(source) = feed
            && let Some(&source) = self.slots.get(&source)
        {
            if let Some(stream) = self.streams.get_mut(source).and_then(Option::as_mut) {
                stream.sinks.retain(|sink| *sink != slot);
                // What one sink could take is no matter of who comes next.
                if stream.session.limits_peer() {
                    self.limit_source(source, now);
                    self.arm(source);
                }
            }
            self.refresh_frames(source);
        }
    }

    /// Opens the frame road of a stream when a sink of it wants access units, and ends it when
    /// nobody does.
    fn refresh_frames(&mut self, slot: usize) {
        let Some(source) = self.streams.get(slot).and_then(Option::as_ref) else { return };
        let wanted = source.sinks.iter().any(|sink| {
            let sink = self.streams.get(*sink).and_then(Option::as_ref);
            sink.is_some_and(|sink| {
                source
                    .session
                    .receives()
                    .any(|carries| sink.session.relay_form(&carries) == Some(RelayForm::AccessUnit))
            })
        });
        let Some(source) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return };
        if source.is_engaged() {
            return;
        }
        match (wanted, source.session.frames_carry().is_some()) {
            (true, false) => source.session.open_frames(pool(source.kind)),
            (false, true) => source.session.close_frames(),
            _ => {}
        }
    }

    fn drain_outlets(&mut self) {
        let now = self.clock.now();
        let mut nth = 0;
        while let Some(&slot) = self.engaged.get(nth) {
            let stream = self.streams.get_mut(slot).and_then(Option::as_mut);
            let Some(stream) = stream.filter(|stream| stream.is_engaged()) else {
                self.engaged.swap_remove(nth);
                continue;
            };
            stream.drain_outlet(now);
            self.settle(slot, now);
            nth += 1;
        }
    }
}

/// The `nth` sink of the stream in `slot`.
fn sink(streams: &[Option<Box<Stream>>], slot: usize, nth: usize) -> Option<usize> {
    streams.get(slot)?.as_ref()?.sinks.get(nth).copied()
}
