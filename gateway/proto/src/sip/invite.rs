//! Calls: the one INVITE machine for both directions.
//!
//! ```text
//!  outgoing:  INVITE ──► 1xx (forks) ──► 2xx, ACK ─┐
//!  incoming:  INVITE ──► 1xx ──► 2xx ──► ACK ──────┼─► confirmed ─► BYE of either side ─► over
//!              1xx may need a PRACK (RFC 3262)     └─ re-INVITE or UPDATE of either side, INFO
//! ```
//!
//! The first INVITE and every re-INVITE run through the same two places: `client`, when it is ours,
//! and `server`, when it is theirs; an offer in another request waits in `update`. A call that the owner hung up is over for him at once; it stays
//! here until the last transaction that could still bring a 2xx to acknowledge has ended.

use super::auth;
use super::command::{Body, CallId, Elsewhere, Invite};
use super::dialog::{Dialog, request_uri};
use super::event::{By, Ending, Event, How, Source};
use super::replaces::Replaced;
use super::session::Session;
use super::stack::{ALLOW, MAX_DATAGRAM, Owner, SUPPORTED, SUPPORTED_OFFERLESS, Stack};
use super::transaction::{ClientId, ServerId};
use super::transport::Unsendable;
use super::{CSeq, Destination, Flow, Method, Name, NameAddr, Reason, Request, Response};
use crate::{Instant, Transport};

mod client;
mod failover;
mod refer;
mod reliable;
mod server;
mod timer;
mod update;
mod within;

pub(super) use client::refuse_fork;
use client::{ClientInvite, Kind, Unanswered};
pub(super) use failover::no_way;
pub(super) use refer::refer_to;
use refer::{Referral, Subscription};
use server::ServerInvite;
pub(super) use timer::refuse_brief;
use update::Offered;
use within::Said;

/// Who began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Outgoing,
    Incoming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not answered yet.
    Early,
    /// A 2xx went or came.
    Confirmed,
    /// The owner was told of its end; what is left is between the two ends.
    Over,
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    id: CallId,
    direction: Direction,
    stage: Stage,
    /// Call-ID and our tag: what finds the call for a request within its dialogs.
    call_id: String,
    tag: String,
    /// User part of our Contact, and whether it is a SIPS one.
    user: Option<String>,
    secure: bool,
    /// Incoming: from the start. Outgoing: from the 2xx.
    dialog: Option<Dialog>,
    /// Outgoing: those that ring, in the order in which they were heard.
    forks: Vec<Dialog>,
    /// Our INVITE under way.
    client: Option<ClientInvite>,
    /// The owner knows another place to go.
    elsewhere: bool,
    /// Our INVITE that did not get through, until the owner says where it goes.
    stranded: Option<Request>,
    /// Our INVITE without an offer, answered: the owner owes the answer for the ACK.
    unanswered: Option<Unanswered>,
    /// Their INVITE under way, until its ACK.
    server: Option<ServerInvite>,
    /// Their offer by UPDATE or PRACK, which the owner has not answered yet.
    offered: Option<Offered>,
    /// They take UPDATE.
    updates: bool,
    /// The re-INVITE that the owner wants next. A newer wish replaces it.
    wanted: Option<Option<Body>>,
    retry_at: Option<Instant>,
    glares: u8,
    /// Ends it when the far end is gone (RFC 4028).
    session: Session,
    /// Our last description that was agreed on: what a refresh offers again.
    described: Option<Body>,
    /// Answers challenges.
    account: Option<auth::Client>,
    /// Our BYE waits for the ACK of our 2xx (section 15).
    bye_wanted: Option<Option<Reason>>,
    /// Their REFER, until the owner answers it.
    referral: Option<Referral>,
    /// They have sent one before.
    referred: bool,
    /// They are told what becomes of the last one.
    subscription: Option<Subscription>,
    /// BYE, INFO, UPDATE, PRACK and NOTIFY of ours under way.
    requests: u32,
}

impl Call {
    /// Begins an outgoing call.
    pub(super) fn outgoing(now: Instant, stack: &mut Stack, invite: Invite) -> Result<Self, Unsendable> {
        let Invite {
            call,
            target,
            destination,
            mut from,
            to,
            body,
            routes,
            headers,
            account,
            max_forwards,
            elsewhere,
        } = invite;
        let (tag, call_id) = (stack.token(), stack.token());
        from.params.remove("tag");
        let from = from.with_tag(&tag);
        let mut to = to.unwrap_or_else(|| NameAddr::new(target.clone()));
        to.params.remove("tag");
        let user = from.uri.as_sip().and_then(|uri| uri.user.clone());
        let secure = target.as_sip().is_some_and(|uri| uri.secure);
        let seq = stack.first_seq();
        let mut request = Request::with_core(Method::Invite, request_uri(target), &from, &to, &call_id, seq);
        request.headers.set(Name::MaxForwards, max_forwards);
        for route in routes {
            request.headers.push(Name::Route, route);
        }
        for (name, value) in headers {
            push_extra(&mut request.headers, &name, &value);
        }
        let offer = body.clone();
        let request = with_body(request, body);
        let mut this = Self {
            id: call,
            direction: Direction::Outgoing,
            stage: Stage::Early,
            call_id,
            tag,
            user,
            secure,
            dialog: None,
            forks: Vec::new(),
            client: None,
            elsewhere,
            stranded: None,
            unanswered: None,
            server: None,
            offered: None,
            updates: false,
            wanted: None,
            retry_at: None,
            glares: 0,
            session: Session::new(stack.config.session),
            described: None,
            account: account.map(auth::Client::new),
            bye_wanted: None,
            referral: None,
            referred: false,
            subscription: None,
            requests: 0,
        };
        let kept = elsewhere.then(|| request.clone());
        match (this.set_out(now, stack, request, offer, &destination), kept) {
            (Err(Unsendable), Some(kept)) => this.strand(stack, kept, no_way(&destination), None),
            (sent, _) => sent?,
        }
        Ok(this)
    }

    /// Sends the INVITE that shall make a call.
    fn set_out(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        request: Request,
        offer: Option<Body>,
        destination: &Destination,
    ) -> Result<(), Unsendable> {
        // Contact, Via and the like come on top of what is there now.
        let big = request.to_bytes().len().saturating_add(300) > MAX_DATAGRAM;
        let flow = stack.way(now, destination, &request.uri, big)?;
        let may_shrink = big && flow.transport == Transport::Tcp;
        let datagram = match destination {
            Destination::Address { transport: None, address, .. } if may_shrink => Some(*address),
            _ => None,
        };
        let pinned = matches!(destination, Destination::Flow(_));
        let tx = self.send_invite(now, stack, request, flow)?;
        if self.elsewhere {
            stack.transactions.expect_word(now, tx);
        }
        self.client = Some(ClientInvite::new(tx, Kind::Initial, offer, flow, pinned, datagram));
        Ok(())
    }

    pub(super) const fn id(&self) -> CallId {
        self.id
    }

    /// What finds it for a request within its dialogs.
    pub(super) fn key(&self) -> (String, String) {
        (self.call_id.clone(), self.tag.clone())
    }

    /// What it is to who names a dialog of it by the far end's tag (RFC 3891 section 3).
    pub(super) fn replaced(&self, their_tag: &str, early_only: bool) -> Replaced {
        if !self.dialog.iter().chain(&self.forks).any(|dialog| dialog.remote_tag() == their_tag) {
            return Replaced::Nothing;
        }
        let refusal = match (self.stage, self.direction) {
            (Stage::Over, _) => Some(603),
            // Only who has begun it can end it before its answer.
            (Stage::Early, Direction::Incoming) => return Replaced::Nothing,
            (Stage::Early, Direction::Outgoing) => None,
            (Stage::Confirmed, _) => early_only.then_some(486),
        };
        Replaced::Call { call: self.id, refusal }
    }

    /// Whether nothing of it is left.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
            && self.client.is_none()
            && self.unanswered.is_none()
            && self.server.is_none()
            && self.requests == 0
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let server = self.server.as_ref().and_then(ServerInvite::deadline);
        let offered = self.offered.as_ref().map(|offered| offered.until);
        server.into_iter().chain(offered).chain(self.retry_at).chain(self.session.deadline()).min()
    }

    /// Fires what is due.
    pub(super) fn timeout(&mut self, now: Instant, stack: &mut Stack) {
        self.server_timeout(now, stack);
        self.offered_timeout(now, stack);
        self.session_timeout(now, stack);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        self.pump(now, stack);
    }

    /// Ends it in whatever way its state asks for.
    pub(super) fn hang_up(&mut self, now: Instant, stack: &mut Stack, reason: Option<Reason>) {
        match (self.stage, self.direction) {
            (Stage::Over, _) => {}
            (Stage::Early, Direction::Outgoing) => {
                self.cancel(now, stack, reason);
                self.end(now, stack, Ending::of(By::Us, How::Cancelled));
            }
            (Stage::Early, Direction::Incoming) => {
                self.refuse(now, stack, 480, "", reason, &[]);
            }
            (Stage::Confirmed, _) => {
                self.bye_when_allowed(now, stack, reason);
                self.end(now, stack, Ending::of(By::Us, How::Hangup));
            }
        }
    }

    /// The owner's next offer; begun as soon as nothing else is under way.
    pub(super) fn reinvite(&mut self, now: Instant, stack: &mut Stack, body: Option<Body>) {
        if self.stage == Stage::Confirmed {
            self.wanted = Some(body);
            self.glares = 0;
            self.pump(now, stack);
        }
    }

    /// Sends an INFO.
    pub(super) fn info(&mut self, now: Instant, stack: &mut Stack, body: Body) {
        if self.stage == Stage::Over {
            return;
        }
        let call = self.id;
        // Before the answer an INFO belongs to the dialog that was heard last.
        let dialog = match &mut self.dialog {
            Some(dialog) => Some(dialog),
            None => self.forks.last_mut(),
        };
        let sent = dialog.is_some_and(|dialog| {
            let request = with_body(dialog.request(Method::Info), Some(body));
            stack
                .way_in(now, dialog)
                .is_ok_and(|flow| stack.start(now, request, flow, Owner::Info(call)).is_ok())
        });
        if sent {
            self.requests = self.requests.saturating_add(1);
        } else {
            stack.event(Event::InfoAnswered { call, status: 503 });
        }
    }

    /// Our BYE or INFO has its final response.
    pub(super) fn request_done(&mut self, now: Instant, stack: &mut Stack, bye: bool, status: u16) {
        self.requests = self.requests.saturating_sub(1);
        if bye || self.stage == Stage::Over {
            return;
        }
        stack.event(Event::InfoAnswered { call: self.id, status });
        if status == 481 && self.stage == Stage::Confirmed {
            self.bye(now, stack, None);
            self.end(now, stack, Ending::of(By::Network, How::Gone).with_status(status, ""));
        }
    }

    /// The challenged request again, with credentials and under a new number, if the account is for
    /// whom the request went to.
    pub(super) fn retry_with_credentials(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        id: ClientId,
        response: &Response,
    ) -> Option<(ClientId, Flow)> {
        let account = self.account.as_mut()?;
        let owner = stack.transactions.owner_of(id)?;
        let (request, flow) = stack.authorize(account, id, response)?;
        self.start_again(now, stack, request, flow, owner)
    }

    /// A request of ours once more, changed, under a new number.
    fn start_again(
        &mut self,
        now: Instant,
        stack: &mut Stack,
        mut request: Request,
        flow: Flow,
        owner: Owner,
    ) -> Option<(ClientId, Flow)> {
        let tag = request.headers.tag_in_to().unwrap_or_default();
        let mut dialogs = self.dialog.iter_mut().chain(self.forks.iter_mut());
        let number = match dialogs.find(|dialog| dialog.remote_tag() == tag) {
            Some(dialog) => {
                dialog.local_seq = dialog.local_seq.saturating_add(1);
                dialog.local_seq
            }
            // The INVITE that shall make one.
            None => request.headers.cseq()?.number.saturating_add(1),
        };
        let method = request.method.clone();
        request.headers.set(Name::CSeq, CSeq { number, method });
        let id = stack.start(now, request, flow, owner).ok()?;
        Some((id, flow))
    }

    /// Tells the owner of the end, once. What is open between the two ends is brought to its own.
    fn end(&mut self, now: Instant, stack: &mut Stack, ending: Ending) {
        if self.stage == Stage::Over {
            return;
        }
        self.stage = Stage::Over;
        self.wanted = None;
        self.retry_at = None;
        self.session.stop();
        self.drop_referral(now, stack);
        self.drop_offered(now, stack);
        if self.bye_wanted.is_none() {
            self.drop_server_invite(now, stack);
        }
        self.drop_client_invite(now, stack);
        stack.event(Event::Ended { call: self.id, ending: Box::new(ending) });
    }

    /// The far end no longer knows the dialog.
    fn gone(&mut self, now: Instant, stack: &mut Stack, status: u16, phrase: &str) {
        self.bye(now, stack, None);
        self.end(now, stack, Ending::of(By::Peer, How::Gone).with_status(status, phrase));
    }

    fn bye(&mut self, now: Instant, stack: &mut Stack, reason: Option<Reason>) {
        let Some(dialog) = &mut self.dialog else { return };
        let mut request = dialog.request(Method::Bye);
        if let Some(reason) = reason {
            request.headers.push(Name::Reason, reason);
        }
        let owner = Owner::Bye(self.id);
        if stack.way_in(now, dialog).is_ok_and(|flow| stack.start(now, request, flow, owner).is_ok()) {
            self.requests = self.requests.saturating_add(1);
        }
    }

    fn bye_when_allowed(&mut self, now: Instant, stack: &mut Stack, reason: Option<Reason>) {
        if self.server.as_ref().is_some_and(ServerInvite::holds_bye) {
            self.bye_wanted = Some(reason);
            return;
        }
        self.drop_offered(now, stack);
        self.drop_server_invite(now, stack);
        self.drop_client_invite(now, stack);
        self.bye(now, stack, reason);
    }

    /// Begins the re-INVITE that waits, when nothing else is under way (section 14.1). It refreshes
    /// the session as well.
    fn pump(&mut self, now: Instant, stack: &mut Stack) {
        let idle = self.stage == Stage::Confirmed
            && self.client.is_none()
            && self.unanswered.is_none()
            && self.server.is_none()
            && self.offered.is_none()
            && self.retry_at.is_none();
        if !idle {
            return;
        }
        if let Some(body) = self.wanted.clone() {
            self.start_reinvite(now, stack, body, Kind::Reoffer);
        } else if self.session.is_wanted() {
            self.start_refresh(now, stack);
        }
    }

    /// Puts our Contact in and starts the transaction.
    fn send_invite(
        &self,
        now: Instant,
        stack: &mut Stack,
        mut request: Request,
        flow: Flow,
    ) -> Result<ClientId, Unsendable> {
        let contact = stack.contact(&flow, self.user.as_deref(), self.secure).ok_or(Unsendable)?;
        request.headers.set(Name::Contact, contact);
        request.headers.set(Name::Allow, ALLOW);
        request.headers.set(Name::Accept, "application/sdp");
        let supported = if request.body.is_empty() { SUPPORTED_OFFERLESS } else { SUPPORTED };
        request.headers.set(Name::Supported, supported);
        self.session.ask(&mut request.headers);
        stack.start(now, request, flow, Owner::Invite(self.id))
    }
}

impl Ending {
    pub(super) fn of(by: By, how: How) -> Self {
        Self { by, how, status: None, phrase: String::new(), reason: None, contacts: Vec::new() }
    }

    fn with_status(mut self, status: u16, phrase: &str) -> Self {
        self.status = Some(status);
        phrase.clone_into(&mut self.phrase);
        self
    }

    fn with_reason(mut self, reason: Option<Reason>) -> Self {
        self.reason = reason;
        self
    }
}

pub(super) fn with_body(request: Request, body: Option<Body>) -> Request {
    match body {
        Some(body) => request.with_body(&body.content_type, body.data),
        None => request,
    }
}

/// Adds a header of the owner's, unless it is one that the machine answers for.
pub(super) fn push_extra(headers: &mut super::Headers, name: &str, value: &str) {
    let Some(name) = Name::parse(name) else { return };
    let ours = matches!(
        name,
        Name::Via
            | Name::From
            | Name::To
            | Name::CallId
            | Name::CSeq
            | Name::MaxForwards
            | Name::Route
            | Name::RecordRoute
            | Name::ContentType
            | Name::ContentLength
    );
    if !ours {
        headers.push(name, value);
    }
}

fn first_reason(headers: &super::Headers) -> Option<Reason> {
    headers.reasons().into_iter().next()
}
