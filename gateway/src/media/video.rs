//! The lane of the pictures: every 10 ms, each source decodes what is due and each sink encodes
//! what is new. A picture therefore waits half a step on average; the sound does not wait for it
//! at all.
//!
//! What several sinks want in one form is encoded once: they are a *group*, one of them *leads* it
//! with its encoder, and the others are handed the same bytes. Each sink brings an encoder along, so
//! that one that leaves its group never waits for another; one that does not lead costs nothing.
//!
//! Decoders and encoders go away to the crew with what they are to do and come back with what they
//! made: see [`super::crew`]. Sources and sinks stay, so that commands find them at any time. Only the
//! steady state of codecs allocates nothing: a change of the picture's size makes decoder, scaler and
//! encoder begin anew.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crosspoint_codecs::clock::Instant;
use crosspoint_codecs::format::MediaKind;
use crosspoint_codecs::frame::{EncodedFrame, MediaTime, VideoFrame};

use super::arrival::nanos;
use super::coder::{Coded, Encoding, Order};
use super::crew::{Hands, Piece, Ticket};
use super::form::Form;
use super::lane::{Lane, Mailbox, Slots, Wakes};
use super::load::{Pressure, Share};
use super::port::StreamId;
use super::route::{Route, ViewId};
use super::see::{Decoding, VideoSource};
use super::show::{Missing, Seen, VideoSink};
use super::stats::LaneCounters;
use super::view::{Kit, Staging, View};

/// How long a step waits for what is decoded, composed and encoded, from its beginning. Who is not
/// ready by then (a picture that is hard to decode, a machine that is full) is seen in the next step,
/// and nobody else waits for it: a step has to end before the next one begins.
const DECODE_WITHIN: Duration = Duration::from_millis(4);
const COMPOSE_WITHIN: Duration = Duration::from_millis(6);
const ENCODE_WITHIN: Duration = Duration::from_millis(8);

/// What the lane is told. Everything in it was built on the caller's thread.
pub(super) enum VideoCommand {
    Source(Box<VideoSource>),
    Decoding { id: StreamId, part: Box<Decoding> },
    Sink(Box<VideoSink>),
    Encoding { id: StreamId, part: Box<Encoding> },
    Route { sink: StreamId, route: Route },
    RemoveSource(StreamId),
    RemoveSink(StreamId),
    View(Box<View>),
    Stage { view: ViewId, part: Box<Staging> },
    RemoveView(ViewId),
}

/// The lane.
pub(super) struct VideoLane {
    mailbox: Mailbox<VideoCommand>,
    counters: Arc<LaneCounters>,
    sources: Slots<VideoSource>,
    sinks: Slots<VideoSink>,
    views: Slots<View>,
    /// Of this step; as many as sinks at most.
    groups: Vec<Group>,
    wakes: Wakes,
    hands: Hands<Work>,
    ticket: Ticket,
    pressure: Pressure,
}

/// A piece of the lane's work: a codec with what it is to do, and the slot to which it goes back.
pub(super) enum Work {
    Decode { slot: usize, ticket: Ticket, decoding: Box<Decoding> },
    Compose { slot: usize, ticket: Ticket, kit: Box<Kit> },
    Encode { group: Group, ticket: Ticket, stamp: i64, encoding: Box<Encoding> },
}

impl Piece for Work {
    fn run(&mut self) {
        match self {
            Self::Decode { decoding, .. } => decoding.run(),
            Self::Compose { kit, .. } => kit.run(),
            Self::Encode { encoding, .. } => encoding.run(),
        }
    }
}

/// Sinks that see the same in the same form.
#[derive(Clone, Copy)]
pub(super) struct Group {
    seen: Seen,
    form: Form,
    /// Slot of the sink that leads it.
    lead: usize,
    /// Whether others may join.
    open: bool,
    /// When its last keyframe was made; and whether somebody needs another.
    keyframe_at: Option<Instant>,
    keyframe: bool,
}

impl VideoLane {
    pub(super) fn new(streams: usize, mailbox: Mailbox<VideoCommand>, hands: Hands<Work>) -> Self {
        Self {
            mailbox,
            counters: Arc::default(),
            sources: Slots::new(streams),
            sinks: Slots::new(streams),
            views: Slots::new(streams),
            groups: Vec::with_capacity(streams),
            wakes: Wakes::new(),
            hands,
            ticket: Ticket::default(),
            pressure: Pressure::NEW,
        }
    }

    fn take_commands(&mut self) {
        let mut changed = false;
        while let Some(command) = self.mailbox.command() {
            changed = true;
            match command {
                VideoCommand::Source(source) => {
                    self.remove_source(source.id());
                    if let Err(source) = self.sources.insert(source) {
                        self.mailbox.discard(source);
                    }
                }
                VideoCommand::Decoding { id, part } => {
                    let unused = match self.sources.by(|source| source.id() == id) {
                        Some(source) => source.set_decoding(part),
                        None => Some(part),
                    };
                    self.discard(unused);
                }
                VideoCommand::Sink(sink) => {
                    self.remove_sink(sink.id());
                    if let Err(sink) = self.sinks.insert(sink) {
                        self.mailbox.discard(sink);
                    }
                }
                VideoCommand::Encoding { id, part } => {
                    let unused = match self.sinks.by(|sink| sink.id() == id) {
                        Some(sink) => sink.set_encoding(part),
                        None => Some(part),
                    };
                    self.discard(unused);
                }
                VideoCommand::Route { sink: id, route } => {
                    if let Some(sink) = self.sinks.by(|sink| sink.id() == id) {
                        sink.route = route;
                        sink.link(None);
                    }
                }
                VideoCommand::RemoveSource(id) => self.remove_source(id),
                VideoCommand::RemoveSink(id) => self.remove_sink(id),
                VideoCommand::View(view) => {
                    if let Err(view) = self.views.insert(view) {
                        self.mailbox.discard(view);
                    }
                }
                VideoCommand::Stage { view, mut part } => {
                    if let Some(view) = self.views.by(|it| it.id() == view) {
                        view.stage(&mut part);
                    }
                    self.mailbox.discard(part);
                }
                VideoCommand::RemoveView(id) => self.remove_view(id),
            }
        }
        if changed {
            self.link();
        }
        let members = self.sources.len() + self.sinks.len();
        self.counters.members.store(u64::try_from(members).unwrap_or(u64::MAX), Relaxed);
    }

    /// Who sees whom, after a change: numbers become slots.
    fn link(&mut self) {
        let sources = &self.sources;
        let source = |id| sources.find(|source| source.id() == id);
        for (_, view) in self.views.iter_mut() {
            view.link(source);
        }
        for (_, sink) in self.sinks.iter_mut().filter(|(_, sink)| sink.seen.is_none()) {
            let found = match sink.route {
                Route::Transcode { source: id } => source(id).map(Seen::Source),
                Route::Compose { view } => self.views.find(|it| it.id() == view).map(Seen::View),
                _ => None,
            };
            if found.is_some() {
                sink.link(found);
            }
        }
    }

    fn remove_source(&mut self, id: StreamId) {
        if let Some(slot) = self.sources.find(|source| source.id() == id) {
            self.lose(Seen::Source(slot));
            if let Some(source) = self.sources.take(slot) {
                self.mailbox.discard(source);
            }
        }
    }

    fn remove_view(&mut self, id: ViewId) {
        if let Some(slot) = self.views.find(|view| view.id() == id) {
            self.lose(Seen::View(slot));
            if let Some(view) = self.views.take(slot) {
                self.mailbox.discard(view);
            }
        }
    }

    fn discard<T: Send + 'static>(&mut self, part: Option<Box<T>>) {
        if let Some(part) = part {
            self.mailbox.discard(part);
        }
    }

    fn lose(&mut self, seen: Seen) {
        for (_, sink) in self.sinks.iter_mut().filter(|(_, sink)| sink.seen == Some(seen)) {
            sink.link(None);
        }
    }

    fn remove_sink(&mut self, id: StreamId) {
        if let Some(slot) = self.sinks.find(|sink| sink.id() == id)
            && let Some(sink) = self.sinks.take(slot)
        {
            self.mailbox.discard(sink);
        }
    }
}

impl VideoLane {
    /// Marks the sources that somebody sees.
    fn watch(&mut self) {
        for (_, sink) in self.sinks.iter_mut() {
            match sink.seen {
                Some(Seen::Source(slot)) => look_at(&mut self.sources, slot),
                Some(Seen::View(slot)) => {
                    if let Some(view) = self.views.at_mut(slot) {
                        view.watched = true;
                    }
                }
                None => {}
            }
        }
        for (_, view) in self.views.iter_mut().filter(|(_, view)| view.watched) {
            for slot in view.sources() {
                look_at(&mut self.sources, slot);
            }
        }
    }

    /// Puts each sink that sees something into the group of its form. Whoever led a group goes on to
    /// lead it; else the first one does.
    fn gather(&mut self, now: Instant) {
        self.groups.clear();
        self.pressure.follow(self.counters.load(), now);
        self.counters.lowered.store(self.pressure.step(), Relaxed);
        let most = self.pressure.max_fs();
        for leading in [true, false] {
            for (slot, sink) in self.sinks.iter_mut().filter(|(_, sink)| sink.leads == leading) {
                sink.count_second(now);
                let Some(seen) = sink.seen else { continue };
                let picture = picture(&self.sources, &self.views, seen);
                let Some((picture, _, _)) = picture else { continue };
                let form = sink.want((picture.width(), picture.height()), most, now);
                let before = sink.group;
                sink.enter(seen, form);
                let joins = |it: &&mut Group| it.open && sink.shares() && (it.seen, it.form) == (seen, form);
                let group = match self.groups.iter_mut().find(joins) {
                    Some(group) => group,
                    None => {
                        // The encoder of one who led another group knows nothing of this one.
                        let kept = leading && before.is_some_and(|(before, _)| before == seen);
                        let keyframe_at = sink.keyframe_at().filter(|_| kept);
                        let group = Group {
                            seen,
                            form,
                            lead: slot,
                            open: sink.shares(),
                            keyframe_at,
                            keyframe: false,
                        };
                        self.groups.push(group);
                        let Some(group) = self.groups.last_mut() else { continue };
                        group
                    }
                };
                group.keyframe |= sink.needs_keyframe(group.keyframe_at, &form, now);
            }
        }
        for (_, sink) in self.sinks.iter_mut() {
            sink.leads = false;
        }
        for group in &self.groups {
            if let Some(sink) = self.sinks.at_mut(group.lead) {
                sink.leads = true;
            }
        }
    }

    /// Hands out what is new for a group, to be encoded.
    fn encode(&mut self, group: Group, now: Instant) {
        let Some((picture, seen_at, fresh)) = picture(&self.sources, &self.views, group.seen) else { return };
        let Some(lead) = self.sinks.at_mut(group.lead) else { return };
        // Of a source that stands nothing is repeated: its own pictures are to come.
        let repeats = matches!(group.seen, Seen::View(_)) && lead.repeats(now);
        if !(fresh || repeats || group.keyframe && lead.stands_still(now)) {
            return;
        }
        let stamp = lead.stamp(if fresh { seen_at } else { nanos(now) });
        let order = Order { picture: picture.clone(), form: group.form, stamp, keyframe: group.keyframe };
        let ticket = self.ticket.next();
        match lead.begin(order, ticket) {
            Some(encoding) => self.hands.hand_out(Work::Encode { group, ticket, stamp, encoding }),
            // The one before takes its time: the latest picture wins, and this one will not be it.
            None if fresh => self.miss(group, Missing::Skipped),
            None => {}
        }
    }

    /// Takes back what the crew has done, as far as it is done by `until`.
    fn join(&mut self, until: Option<Instant>, now: Instant) {
        // Out of its place for as long as it gives to the rest of the lane.
        let mut hands = std::mem::replace(&mut self.hands, Hands::away());
        let overdue = hands.join_until(until, |work| match work {
            Some(Work::Decode { slot, ticket, decoding }) => {
                let unused = match self.sources.at_mut(slot) {
                    Some(source) => source.finish(ticket, decoding, now),
                    None => Some(decoding),
                };
                self.discard(unused);
            }
            Some(Work::Compose { slot, ticket, kit }) => {
                let unused = match self.views.at_mut(slot) {
                    Some(view) => view.finish(ticket, kit, now),
                    None => Some(kit),
                };
                self.discard(unused);
            }
            Some(Work::Encode { group, ticket, stamp, encoding }) => {
                self.deliver(group, ticket, stamp, encoding, now);
            }
            None => self.wakes.send(|slot| self.sinks.at(slot).map(VideoSink::outlet)),
        });
        self.hands = hands;
        self.counters.overdue.fetch_add(u64::try_from(overdue).unwrap_or(u64::MAX), Relaxed);
    }

    /// Hands what was encoded for a group to all in it.
    fn deliver(
        &mut self,
        group: Group,
        ticket: Ticket,
        stamp: i64,
        mut encoding: Box<Encoding>,
        now: Instant,
    ) {
        let (coded, old) = encoding.finish();
        self.discard(old);
        let Some(lead) = self.sinks.at_mut(group.lead) else {
            self.mailbox.discard(encoding);
            return;
        };
        if let Some(unused) = lead.finish(ticket, encoding) {
            self.mailbox.discard(unused);
            return;
        }
        if !lead.sees(group.seen) {
            return;
        }
        let missing = match coded {
            Coded::Unit { data, keyframe, size } => {
                if keyframe {
                    lead.made_keyframe(now);
                }
                let frame = EncodedFrame {
                    kind: MediaKind::Main,
                    media_time: MediaTime(stamp),
                    duration: Duration::ZERO,
                    lost_before: 0,
                    keyframe,
                    level: None,
                    data,
                };
                for (slot, sink) in self.sinks.iter_mut().filter(|(slot, sink)| group.has(*slot, sink)) {
                    if sink.push(&frame, size, now) {
                        self.wakes.note(slot, sink.outlet());
                    }
                }
                return;
            }
            Coded::Skipped => Missing::Skipped,
            Coded::NoRoom => Missing::NoRoom,
            Coded::Refused => Missing::Refused,
        };
        self.miss(group, missing);
    }

    fn miss(&mut self, group: Group, missing: Missing) {
        for (_, sink) in self.sinks.iter_mut().filter(|(slot, sink)| group.has(*slot, sink)) {
            sink.miss(missing);
        }
    }
}

impl Group {
    /// Whether the sink in that slot belongs to it.
    fn has(&self, slot: usize, sink: &VideoSink) -> bool {
        slot == self.lead || self.open && sink.shares() && sink.group == Some((self.seen, self.form))
    }
}

fn look_at(sources: &mut Slots<VideoSource>, slot: usize) {
    if let Some(source) = sources.at_mut(slot) {
        source.watched = true;
    }
}

/// The last picture of what is seen, when it is seen, and whether this step made it.
fn picture<'a>(
    sources: &'a Slots<VideoSource>,
    views: &'a Slots<View>,
    seen: Seen,
) -> Option<(&'a VideoFrame, i64, bool)> {
    match seen {
        Seen::Source(slot) => sources.at(slot)?.picture(),
        Seen::View(slot) => views.at(slot)?.picture(),
    }
}

impl Lane for VideoLane {
    const PERIOD: Duration = Duration::from_millis(10);
    /// The latest picture wins: steps that are past are past.
    const CATCH_UP: u64 = 0;

    fn step(&mut self, now: Instant) {
        let begun = self.hands.now();
        for (_, source) in self.sources.iter_mut() {
            source.turn();
        }
        for (_, view) in self.views.iter_mut() {
            view.turn();
        }
        // What came too late for its step is welcome in this one.
        self.join(None, now);
        self.take_commands();
        self.watch();
        for slot in 0..self.sources.end() {
            let ticket = self.ticket.next();
            if let Some(decoding) = self.sources.at_mut(slot).and_then(|source| source.begin(now, ticket)) {
                self.hands.hand_out(Work::Decode { slot, ticket, decoding });
            }
        }
        self.join(begun.map(|begun| begun + DECODE_WITHIN), now);
        for (_, source) in self.sources.iter_mut() {
            source.ask(now);
        }
        for slot in 0..self.views.end() {
            let ticket = self.ticket.next();
            let begun = self.views.at_mut(slot).and_then(|view| view.begin(&self.sources, now, ticket));
            if let Some(kit) = begun {
                self.hands.hand_out(Work::Compose { slot, ticket, kit });
            }
        }
        self.join(begun.map(|begun| begun + COMPOSE_WITHIN), now);
        self.gather(now);
        for at in 0..self.groups.len() {
            self.encode(self.groups[at], now);
        }
        self.counters.encoders.store(u64::try_from(self.groups.len()).unwrap_or(u64::MAX), Relaxed);
        self.join(begun.map(|begun| begun + ENCODE_WITHIN), now);
    }

    fn idle(&mut self) -> bool {
        self.take_commands();
        let idle = self.sources.len() + self.sinks.len() == 0;
        if idle {
            self.counters.encoders.store(0, Relaxed);
        }
        idle
    }

    fn clear(&self) {
        self.mailbox.clear();
    }

    fn look(&mut self) -> Option<Option<Share>> {
        self.hands.look()
    }

    fn counters(&self) -> &Arc<LaneCounters> {
        &self.counters
    }
}
