//! Transactions (RFC 3261 section 17, RFC 6026): what makes one request one request on a road
//! that loses and doubles. Bounded tables; mutate, then drain [`Transactions::poll`].

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;

use super::schedule::Schedule;
use super::uri::Address;
use super::{Flow, Method, Name, Request, Response, Timing, Via};
use crate::Instant;

mod client;
mod heard;
mod server;

use client::Client;
use heard::Heard;
pub(super) use server::Reply;
use server::Server;

/// A request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ClientId(u64);

/// A request of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServerId(pub(super) u64);

/// What the table wants done. `C` says whose request it is.
#[derive(Debug)]
pub(super) enum Action<C> {
    /// Send; for a response on a stream that is gone, connect to its fallback.
    Send { reply: Reply, data: Bytes },
    /// A response that the owner has not seen: any provisional one, the final one, and every 2xx
    /// of a fork that is not acknowledged yet.
    Response { id: ClientId, owner: C, response: Box<Response> },
    /// No final response came in time.
    NoResponse { id: ClientId, owner: C, request: Box<Request> },
    /// It could not be sent.
    Unreachable { id: ClientId, owner: C, request: Box<Request> },
}

/// What a request from the network is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// A new one. `merged`: the same request came by another way (RFC 3261 section 8.2.2.2).
    /// `cancels`: the INVITE that a CANCEL means.
    New { id: ServerId, merged: bool, cancels: Option<ServerId> },
    /// A repetition, or the ACK of a refusal: dealt with.
    Absorbed,
    /// The ACK of a 2xx: it belongs to a dialog.
    Ack,
    /// The table is full.
    Full,
}

/// How many T1 an INVITE waits for a first word when there is another place to go. RFC 3263 section
/// 4.3 leaves it to timer B, which is longer than callers wait; by then four of it went out.
const FIRST_WORD: u32 = 8;

/// The table is full; nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Client(ClientId),
    Server(ServerId),
}

/// All transactions of an endpoint. `C` is whose a request of ours is, `S` whose INVITE of a peer.
#[derive(Debug)]
pub(super) struct Transactions<C, S> {
    timing: Timing,
    max_clients: usize,
    max_servers: usize,
    clients: HashMap<ClientId, Client<C>>,
    /// By branch and method.
    client_keys: HashMap<(String, Method), ClientId>,
    servers: HashMap<ServerId, Server<S>>,
    server_keys: HashMap<String, ServerId>,
    merge_keys: HashMap<String, ServerId>,
    heard: Heard,
    schedule: Schedule<Key>,
    next: u64,
    actions: VecDeque<Action<C>>,
}

impl<C: Copy, S: Copy> Transactions<C, S> {
    pub(super) fn new(timing: Timing, max_clients: usize, max_servers: usize) -> Self {
        Self {
            timing,
            max_clients,
            max_servers,
            clients: HashMap::new(),
            client_keys: HashMap::new(),
            servers: HashMap::new(),
            server_keys: HashMap::new(),
            merge_keys: HashMap::new(),
            heard: Heard::default(),
            schedule: Schedule::new(),
            next: 0,
            actions: VecDeque::new(),
        }
    }

    /// What it wants done next.
    pub(super) fn poll(&mut self) -> Option<Action<C>> {
        self.actions.pop_front()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.schedule.next()
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Sends a request, whose topmost Via has a new branch, and repeats it as its transport needs.
    pub(super) fn start(
        &mut self,
        now: Instant,
        request: Request,
        flow: Flow,
        owner: C,
    ) -> Result<ClientId, Full> {
        if self.clients.len() >= self.max_clients {
            return Err(Full);
        }
        let id = ClientId(self.number());
        let client = Client::new(now, &self.timing, request, flow, owner);
        self.actions.push_back(Action::Send { reply: Reply::only(flow), data: client.bytes.clone() });
        self.schedule.set(Key::Client(id), client.deadline());
        self.client_keys.insert(client.key.clone(), id);
        self.clients.insert(id, client);
        Ok(id)
    }

    /// How long its request is on the wire.
    pub(super) fn octets(&self, id: ClientId) -> usize {
        self.clients.get(&id).map_or(0, |client| client.bytes.len())
    }

    /// The request of a transaction that lives.
    pub(super) fn request(&self, id: ClientId) -> Option<(&Request, Flow)> {
        self.clients.get(&id).map(|c| (&c.request, c.flow))
    }

    /// Whose it is.
    pub(super) fn owner_of(&self, id: ClientId) -> Option<C> {
        self.clients.get(&id).map(|c| c.owner)
    }

    /// There is another place to ask: this one must say something soon, be it 100.
    pub(super) fn expect_word(&mut self, now: Instant, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.expect_word(now + self.timing.t1.saturating_mul(FIRST_WORD));
            self.schedule.set(Key::Client(id), client.deadline());
        }
    }

    /// A CANCEL went out for it: without a final response it ends when the CANCEL would (RFC 3261
    /// section 9.1).
    pub(super) fn give_up_soon(&mut self, now: Instant, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.give_up(now + self.timing.life());
            self.schedule.set(Key::Client(id), client.deadline());
        }
    }

    /// Sends the ACK of a 2xx, and again whenever that 2xx is repeated.
    pub(super) fn acknowledge(&mut self, id: ClientId, to_tag: &str, flow: Flow, ack: Bytes) {
        self.actions.push_back(Action::Send { reply: Reply::only(flow), data: ack.clone() });
        if let Some(client) = self.clients.get_mut(&id) {
            client.acks.push((to_tag.to_owned(), flow, ack));
        }
    }

    /// A response from the network, from that address. False: no transaction wants it.
    pub(super) fn response(&mut self, now: Instant, from: IpAddr, response: Response) -> bool {
        let headers = &response.headers;
        let (Some(via), Some(cseq)) = (headers.top_via(), headers.cseq()) else { return false };
        let key = (via.branch().unwrap_or_default().to_owned(), cseq.method);
        let Some(&id) = self.client_keys.get(&key) else { return false };
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let owner = client.owner;
        if client.flow.remote.ip() == from {
            // Nobody else was told the branch.
            self.heard.add(now, from);
        }
        match client.response(now, &self.timing, &response) {
            client::Verdict::Tell => {
                let response = Box::new(response);
                self.actions.push_back(Action::Response { id, owner, response });
            }
            client::Verdict::TellAndSend(data) => {
                let reply = Reply::only(client.flow);
                self.actions.push_back(Action::Send { reply, data });
                let response = Box::new(response);
                self.actions.push_back(Action::Response { id, owner, response });
            }
            client::Verdict::Send(flow, data) => {
                self.actions.push_back(Action::Send { reply: Reply::only(flow), data });
            }
            client::Verdict::Absorb => {}
        }
        self.settle_client(id);
        true
    }

    /// A request from the network, and its topmost Via, stamped with where it came from. `octets`: how
    /// long the datagram was.
    pub(super) fn request_arrived(
        &mut self,
        now: Instant,
        request: &Request,
        via: &Via,
        reply: Reply,
        octets: usize,
    ) -> Arrived {
        let method = match request.method {
            Method::Ack => &Method::Invite,
            ref other => other,
        };
        let key = server::key(request, Some(via), method);
        if let Some(&id) = self.server_keys.get(&key) {
            return self.again(now, id, request, reply.flow.remote.ip(), octets);
        }
        if request.method == Method::Ack {
            return Arrived::Ack;
        }
        if self.servers.len() >= self.max_servers {
            return Arrived::Full;
        }
        let cancels = (request.method == Method::Cancel)
            .then(|| self.server_keys.get(&server::key(request, Some(via), &Method::Invite)).copied())
            .flatten();
        let id = ServerId(self.number());
        let merge_key = server::merge_key(request);
        let merged = merge_key.as_ref().is_some_and(|k| self.merge_keys.contains_key(k));
        let merge_key = merge_key.filter(|_| !merged);
        if let Some(key) = &merge_key {
            self.merge_keys.insert(key.clone(), id);
        }
        let mut server = Server::new(now, &self.timing, request, reply, key.clone(), merge_key);
        server.came(octets);
        self.server_keys.insert(key, id);
        self.schedule.set(Key::Server(id), server.deadline());
        self.servers.insert(id, server);
        Arrived::New { id, merged, cancels }
    }

    /// What tells it from all others, and where its answers go.
    pub(super) fn mark(&self, id: ServerId) -> Option<String> {
        self.servers.get(&id).map(|server| mark(&server.key, server.reply.flow.remote.ip()))
    }

    /// The mark of the INVITE that an ACK from that address belongs to, if it was refused and forgotten.
    pub(super) fn mark_of_ack(ack: &Request, from: IpAddr) -> String {
        mark(&server::key(ack, ack.headers.top_via().as_ref(), &Method::Invite), from)
    }

    /// That address has repeated what only it was told.
    pub(super) fn hear(&mut self, now: Instant, from: IpAddr) {
        self.heard.add(now, from);
    }

    /// A request with the tag of that INVITE's responses came from that address. If they went there, it
    /// hears us.
    pub(super) fn repeated_tag(&mut self, now: Instant, id: ServerId, from: IpAddr) {
        if self.servers.get(&id).is_some_and(|server| server.is_at(from)) {
            self.heard.add(now, from);
        }
    }

    /// Whether what goes that way is heard by who is said to be there.
    pub(super) fn hears(&self, now: Instant, flow: &Flow) -> bool {
        hears(&self.heard, now, flow)
    }

    /// Says whose the INVITE is.
    pub(super) fn set_owner(&mut self, id: ServerId, owner: S) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.owner = Some(owner);
        }
    }

    /// Whose the INVITE is.
    pub(super) fn owner(&self, id: ServerId) -> Option<S> {
        self.servers.get(&id)?.owner
    }

    /// A response to that request: Via, From, To, Call-ID and CSeq filled in, the tag added to a
    /// To that has none. Nothing when the transaction is gone.
    pub(super) fn reply(&self, id: ServerId, status: u16, phrase: &str, tag: &str) -> Option<Response> {
        self.servers.get(&id).map(|s| s.reply(status, phrase, tag))
    }

    /// Sends it, and again as the peer's repetitions ask for. Nothing happens when the transaction
    /// is gone or has its final response already; a 2xx may be sent again to an INVITE.
    pub(super) fn respond(&mut self, now: Instant, id: ServerId, response: &Response) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let known = hears(&self.heard, now, &server.reply.flow);
        if let Some(data) = server.respond(now, &self.timing, response, known) {
            self.actions.push_back(Action::Send { reply: server.reply, data });
        }
        self.settle_server(id);
    }

    /// Forgets a request that has its refusal, so that whoever sends many leaves nothing behind and a
    /// forged address hears each answer once (RFC 3261 section 8.2.7): its repetition is a new request,
    /// and the ACK of the refusal belongs to nothing. Not after a provisional response, for who has
    /// heard one repeats his INVITE no more, and not where credentials came with it, which are good
    /// once; a challenge is for whoever asks.
    pub(super) fn forget(&mut self, id: ServerId) {
        if self.servers.get(&id).is_some_and(Server::is_forgettable) {
            self.remove_server(id);
        }
    }

    /// A connection is gone: requests on it that nobody answered yet may never have arrived. What
    /// was answered goes on; its final response may come by another connection.
    pub(super) fn flow_lost(&mut self, flow: &Flow) {
        let lost = self.clients.iter().filter(|(_, c)| c.flow == *flow && c.is_unheard());
        let mut lost: Vec<_> = lost.map(|(id, _)| *id).collect();
        lost.sort_unstable();
        for id in lost {
            if let Some(client) = self.remove_client(id) {
                let (owner, request) = (client.owner, Box::new(client.request));
                self.actions.push_back(Action::Unreachable { id, owner, request });
            }
        }
    }

    /// Fires what is due.
    pub(super) fn timeout(&mut self, now: Instant) {
        while let Some(key) = self.schedule.due(now) {
            match key {
                Key::Client(id) => self.client_timeout(now, id),
                Key::Server(id) => {
                    let Some(server) = self.servers.get_mut(&id) else { continue };
                    let known = hears(&self.heard, now, &server.reply.flow);
                    if let Some(data) = server.timeout(now, &self.timing, known) {
                        self.actions.push_back(Action::Send { reply: server.reply, data });
                    }
                    self.settle_server(id);
                }
            }
        }
    }

    fn client_timeout(&mut self, now: Instant, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match client.timeout(now, &self.timing) {
            client::Expiry::Send(data) => {
                self.actions.push_back(Action::Send { reply: Reply::only(client.flow), data });
            }
            client::Expiry::NoResponse => {
                if let Some(client) = self.remove_client(id) {
                    let (owner, request) = (client.owner, Box::new(client.request));
                    self.actions.push_back(Action::NoResponse { id, owner, request });
                }
                return;
            }
            client::Expiry::Nothing => {}
        }
        self.settle_client(id);
    }

    fn again(
        &mut self,
        now: Instant,
        id: ServerId,
        request: &Request,
        from: IpAddr,
        octets: usize,
    ) -> Arrived {
        let Some(server) = self.servers.get_mut(&id) else { return Arrived::Absorbed };
        let arrived = match request.method {
            // After a 2xx the ACK belongs to the dialog, whatever its branch is.
            Method::Ack if server.is_accepted() => Arrived::Ack,
            Method::Ack => {
                if server.told(request) && server.is_at(from) {
                    self.heard.add(now, from);
                }
                server.ack(now, &self.timing);
                Arrived::Absorbed
            }
            _ => {
                server.came(octets);
                let known = hears(&self.heard, now, &server.reply.flow);
                if let Some(data) = server.again(known) {
                    self.actions.push_back(Action::Send { reply: server.reply, data });
                }
                Arrived::Absorbed
            }
        };
        self.settle_server(id);
        arrived
    }

    fn settle_client(&mut self, id: ClientId) {
        match self.clients.get(&id) {
            Some(client) if client.is_over() => {
                self.remove_client(id);
            }
            Some(client) => self.schedule.set(Key::Client(id), client.deadline()),
            None => {}
        }
    }

    fn settle_server(&mut self, id: ServerId) {
        match self.servers.get(&id) {
            Some(server) if server.is_over() => self.remove_server(id),
            Some(server) => self.schedule.set(Key::Server(id), server.deadline()),
            None => {}
        }
    }

    fn remove_server(&mut self, id: ServerId) {
        self.schedule.set(Key::Server(id), None);
        let Some(server) = self.servers.remove(&id) else { return };
        self.server_keys.remove(&server.key);
        if let Some(key) = &server.merge_key {
            self.merge_keys.remove(key);
        }
    }

    fn remove_client(&mut self, id: ClientId) -> Option<Client<C>> {
        self.schedule.set(Key::Client(id), None);
        let client = self.clients.remove(&id)?;
        self.client_keys.remove(&client.key);
        Some(client)
    }

    const fn number(&mut self) -> u64 {
        self.next = self.next.saturating_add(1);
        self.next
    }
}

fn mark(key: &str, address: IpAddr) -> String {
    format!("{key} {}", Address(address.to_canonical()))
}

/// A connection was answered when it was opened.
fn hears(heard: &Heard, now: Instant, flow: &Flow) -> bool {
    flow.transport().is_stream() || heard.knows(now, flow.remote.ip())
}

#[cfg(test)]
mod tests;
