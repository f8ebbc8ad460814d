//! Bindings and connections (RFC 3261 section 18): which way a message goes, and what came on which.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::config::{Limits, Listen};
use super::schedule::Schedule;
use super::transaction::Reply;
use super::{Flow, StreamFramer};
use crate::{ConnId, Instant, Output, Transport};

/// It cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsendable;

#[derive(Debug)]
struct Conn {
    flow: Flow,
    /// The name that its certificate was checked for.
    name: Option<String>,
    framer: StreamFramer,
    /// Bytes that wait until it stands; `None` when it does. Bound: `Limits::pending_messages`.
    waiting: Option<Vec<Bytes>>,
    /// Whether a whole message ever came.
    proven: bool,
    /// Since when its present silence, or its present unfinished message, lasts.
    since: Instant,
    accepted: bool,
}

/// Everything that carries messages.
#[derive(Debug)]
pub(super) struct Transports {
    listen: Vec<Listen>,
    limits: Limits,
    conns: HashMap<ConnId, Conn>,
    /// Accepted connections by far address.
    accepted: HashMap<IpAddr, usize>,
    schedule: Schedule<ConnId>,
    opened: u64,
}

impl Transports {
    pub(super) fn new(listen: Vec<Listen>, limits: Limits) -> Self {
        Self {
            listen,
            limits,
            conns: HashMap::new(),
            accepted: HashMap::new(),
            schedule: Schedule::new(),
            opened: 0,
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.conns.len()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// Whether messages still go that way.
    pub(super) fn stands(&self, flow: &Flow) -> bool {
        match flow.conn {
            None => self.listen.iter().any(|l| l.transport == flow.transport && l.address == flow.local),
            Some(conn) => self.conns.get(&conn).is_some_and(|c| c.flow == *flow),
        }
    }

    /// Our name on that way, for Via and Contact.
    pub(super) fn listen_for(&self, flow: &Flow) -> Option<&Listen> {
        let same = |l: &&Listen| l.transport == flow.transport;
        let exact = self.listen.iter().filter(same).find(|l| l.address == flow.local);
        exact.or_else(|| self.local_for(flow.transport, flow.local.ip()))
    }

    /// The way to an address: the datagram binding, or the connection that stands or is begun.
    pub(super) fn way_to<E>(
        &mut self,
        now: Instant,
        transport: Transport,
        remote: SocketAddr,
        name: Option<&str>,
        out: &mut VecDeque<Output<E>>,
    ) -> Result<Flow, Unsendable> {
        let local = self.local_for(transport, remote.ip()).ok_or(Unsendable)?.address;
        if !transport.is_stream() {
            return Ok(Flow { transport, local, remote, conn: None });
        }
        let same = |c: &&Conn| {
            c.flow.transport == transport
                && c.flow.remote == remote
                && (!c.accepted || name.is_none())
                && (c.accepted || c.name.as_deref() == name)
        };
        if let Some(flow) = self.conns.values().filter(same).map(|c| c.flow).min() {
            return Ok(flow);
        }
        if transport.is_framed() {
            return Err(Unsendable);
        }
        if self.conns.len() >= self.limits.connections {
            return Err(Unsendable);
        }
        // Odd numbers are ours.
        let number = self.opened.saturating_mul(2).saturating_add(1);
        self.opened = self.opened.saturating_add(1);
        let conn = ConnId(number);
        let flow = Flow { transport, local, remote, conn: Some(conn) };
        self.conns.insert(
            conn,
            Conn {
                flow,
                name: name.map(str::to_owned),
                framer: StreamFramer::new(),
                waiting: Some(Vec::new()),
                proven: true,
                since: now,
                accepted: false,
            },
        );
        self.schedule.set(conn, Some(now + self.limits.first_message));
        out.push_back(Output::Connect { conn, to: remote, transport, name: name.map(str::to_owned) });
        Ok(flow)
    }

    /// Sends, or keeps it until the connection stands.
    pub(super) fn send<E>(
        &mut self,
        now: Instant,
        reply: Reply,
        data: Bytes,
        out: &mut VecDeque<Output<E>>,
    ) -> Result<(), Unsendable> {
        let mut flow = reply.flow;
        if !self.stands(&flow) {
            // A response whose connection is gone goes where the request says (RFC 3261 section
            // 18.2.2).
            let fallback = reply.fallback.ok_or(Unsendable)?;
            flow = self.way_to(now, flow.transport, fallback, None, out)?;
        }
        let Some(id) = flow.conn else {
            out.push_back(Output::Datagram { local: flow.local, to: flow.remote, data });
            return Ok(());
        };
        let conn = self.conns.get_mut(&id).ok_or(Unsendable)?;
        match &mut conn.waiting {
            None => {
                if !conn.framer.is_waiting() && conn.proven {
                    conn.since = now;
                }
                out.push_back(Output::Stream { conn: id, data });
            }
            Some(waiting) if waiting.len() < self.limits.pending_messages => waiting.push(data),
            Some(_) => return Err(Unsendable),
        }
        Ok(())
    }

    /// A connection stands. False: it is one too many and was closed.
    pub(super) fn connected<E>(
        &mut self,
        now: Instant,
        id: ConnId,
        flow: Flow,
        out: &mut VecDeque<Output<E>>,
    ) -> bool {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.since = now;
            for data in conn.waiting.take().into_iter().flatten() {
                out.push_back(Output::Stream { conn: id, data });
            }
            self.schedule.set(id, Some(now + self.limits.idle));
            return true;
        }
        let same = self.accepted.entry(flow.remote.ip()).or_default();
        let room = self.conns.len() < self.limits.connections && *same < self.limits.connections_per_address;
        if !room || !id.0.is_multiple_of(2) {
            // An odd one that we do not know is one that we gave up before it stood.
            if *same == 0 {
                self.accepted.remove(&flow.remote.ip());
            }
            out.push_back(Output::Close { conn: id });
            return false;
        }
        *same = same.saturating_add(1);
        self.conns.insert(
            id,
            Conn {
                flow,
                name: None,
                framer: StreamFramer::new(),
                waiting: None,
                proven: false,
                since: now,
                accepted: true,
            },
        );
        self.schedule.set(id, Some(now + self.limits.first_message));
        true
    }

    /// The framer of a connection and the way back on it.
    pub(super) fn stream(&mut self, id: ConnId) -> Option<(&mut StreamFramer, Flow)> {
        self.conns.get_mut(&id).map(|c| (&mut c.framer, c.flow))
    }

    /// Bytes came; call when the framer has given all that it has.
    /// `began`: nothing was unfinished before them. `whole`: they ended a message or a ping.
    pub(super) fn heard(&mut self, now: Instant, id: ConnId, began: bool, whole: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.proven |= whole;
        if whole || began && conn.proven {
            conn.since = now;
        }
        let wait = conn.patience(&self.limits);
        let at = conn.since + wait;
        self.schedule.set(id, Some(at));
    }

    /// It is gone; answers the way that it was, and whether the far end had opened it.
    pub(super) fn closed(&mut self, id: ConnId) -> Option<(Flow, bool)> {
        let conn = self.conns.remove(&id)?;
        self.schedule.set(id, None);
        let far = conn.flow.remote.ip();
        if conn.accepted
            && let Some(count) = self.accepted.get_mut(&far)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.accepted.remove(&far);
            }
        }
        Some((conn.flow, conn.accepted))
    }

    /// Connections whose patience is at its end; close them.
    pub(super) fn expired(&mut self, now: Instant) -> Option<ConnId> {
        while let Some(id) = self.schedule.due(now) {
            let Some(conn) = self.conns.get(&id) else { continue };
            let at = conn.since + conn.patience(&self.limits);
            if at <= now {
                return Some(id);
            }
            // Something moved since the deadline was set.
            self.schedule.set(id, Some(at));
        }
        None
    }

    /// The binding from which that address is reached: same family, and loopback only talks to
    /// loopback where there is a choice.
    fn local_for(&self, transport: Transport, remote: IpAddr) -> Option<&Listen> {
        let fits = |l: &&Listen| l.transport == transport && l.address.is_ipv4() == remote.is_ipv4();
        let near = |l: &&Listen| l.address.ip().is_loopback() == remote.is_loopback();
        let mut all = self.listen.iter().filter(fits);
        all.clone().find(near).or_else(|| all.next())
    }
}

impl Conn {
    fn patience(&self, limits: &Limits) -> std::time::Duration {
        if self.waiting.is_some() || !self.proven || self.framer.is_waiting() {
            limits.first_message
        } else {
            limits.idle
        }
    }
}
