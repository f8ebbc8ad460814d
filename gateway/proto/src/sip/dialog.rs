//! Dialogs (RFC 3261 section 12): what two ends remember of each other.

use super::{Body, Flow, Method, Name, NameAddr, Request, Response, SipUri, Uri};

/// One dialog, early or confirmed, seen from our end.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    pub(super) call_id: String,
    /// Who we are, with our tag.
    pub(super) local: NameAddr,
    /// Who they are; with their tag, unless they speak RFC 2543.
    pub(super) remote: NameAddr,
    /// Number of our last request.
    pub(super) local_seq: u32,
    /// Number of their last one.
    pub(super) remote_seq: Option<u32>,
    /// Proxies that want to stay in the path, nearest first.
    pub(super) routes: Vec<NameAddr>,
    /// Where they are: their last Contact.
    pub(super) target: Uri,
    /// The way on which they were last heard.
    pub(super) flow: Flow,
    /// Number of their last reliable provisional response (RFC 3262).
    pub(super) rseq: Option<u32>,
    /// They answered our offer in such a response: what a 2xx says again does not count (RFC 3261
    /// section 13.2.1).
    pub(super) settled: bool,
    /// That answer, unless another exchange followed it.
    pub(super) answer: Option<Body>,
    /// Whether nothing but the flow reaches them: registered devices and what is behind a NAT.
    pub(super) pinned: bool,
}

impl Dialog {
    /// From our request and a response to it that has a To tag (section 12.1.2).
    pub(super) fn of_response(
        request: &Request,
        response: &Response,
        flow: Flow,
        pinned: bool,
    ) -> Option<Self> {
        let mut routes = response.headers.name_addrs(&Name::RecordRoute).ok()?;
        routes.reverse();
        Some(Self {
            call_id: request.headers.call_id()?.to_owned(),
            local: request.headers.from()?,
            remote: response.headers.to()?,
            local_seq: request.headers.cseq()?.number,
            remote_seq: None,
            routes,
            // A peer without Contact is reached where the request went.
            target: response.headers.contact().map_or_else(|| request.uri.clone(), |c| c.uri),
            flow,
            rseq: None,
            settled: false,
            answer: None,
            pinned,
        })
    }

    /// From their request and our tag (section 12.1.1). Who writes `ob` wants all of it by this flow (RFC 5626
    /// section 4.3).
    pub(super) fn of_request(request: &Request, tag: &str, flow: Flow, translated: bool) -> Option<Self> {
        let contact = request.headers.contact();
        let ob = contact.as_ref().and_then(|contact| contact.uri.as_sip()).is_some_and(SipUri::is_outbound);
        Some(Self {
            call_id: request.headers.call_id()?.to_owned(),
            local: request.headers.to()?.with_tag(tag),
            remote: request.headers.from()?,
            local_seq: 0,
            remote_seq: Some(request.headers.cseq()?.number),
            routes: request.headers.name_addrs(&Name::RecordRoute).ok()?,
            target: contact.or_else(|| request.headers.from())?.uri,
            flow,
            rseq: None,
            settled: false,
            answer: None,
            pinned: translated || ob,
        })
    }

    pub(super) fn remote_tag(&self) -> &str {
        self.remote.tag().unwrap_or_default()
    }

    /// A new request within it (section 12.2.1.1), without Via and Contact.
    pub(super) fn request(&mut self, method: Method) -> Request {
        self.local_seq = self.local_seq.saturating_add(1);
        self.numbered(method, self.local_seq)
    }

    /// The ACK of the 2xx to the INVITE of that number (section 13.2.2.4).
    pub(super) fn ack(&self, number: u32) -> Request {
        self.numbered(Method::Ack, number)
    }

    /// The URI of the next hop.
    pub(super) fn next_hop(&self) -> &Uri {
        self.routes.first().map_or(&self.target, |route| &route.uri)
    }

    /// Takes the number of a request of theirs; false when it is out of order (section 12.2.2).
    pub(super) fn in_order(&mut self, number: u32) -> bool {
        let good = self.remote_seq.is_none_or(|last| number > last);
        if good {
            self.remote_seq = Some(number);
        }
        good
    }

    /// Takes what a target refresh says: a re-INVITE or its 2xx.
    pub(super) fn refresh(&mut self, contact: Option<NameAddr>) {
        if let Some(contact) = contact {
            self.target = contact.uri;
        }
    }

    fn numbered(&self, method: Method, number: u32) -> Request {
        let first_loose = self.routes.first().is_none_or(|r| r.uri.as_sip().is_some_and(SipUri::is_loose));
        let (uri, routes) = if first_loose {
            (self.target.clone(), self.routes.clone())
        } else {
            // A strict router wants itself in the Request-URI and the target at the end.
            let mut routes = self.routes.clone();
            let first = routes.remove(0).uri;
            routes.push(NameAddr::new(self.target.clone()));
            (first, routes)
        };
        let mut request =
            Request::with_core(method, request_uri(uri), &self.local, &self.remote, &self.call_id, number);
        for route in routes {
            request.headers.push(Name::Route, route);
        }
        request
    }
}

/// A URI as a Request-URI may be: headers and `method` never go along (section 19.1.1).
pub(super) fn request_uri(uri: Uri) -> Uri {
    match uri {
        Uri::Sip(mut sip) => {
            sip.headers.clear();
            sip.params.remove("method");
            Uri::Sip(sip)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transport;
    use crate::sip::Message;

    fn flow() -> Flow {
        let at = |text: &str| text.parse().unwrap();
        Flow {
            transport: Transport::Udp,
            local: at("192.0.2.1:5060"),
            remote: at("192.0.2.2:5060"),
            conn: None,
        }
    }

    fn invite(more: &str) -> Request {
        let text = format!(
            "INVITE sip:bob@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1\r\n\
             From: <sip:alice@a.example>;tag=alice1\r\nTo: <sip:bob@b.example>\r\nCall-ID: c1\r\n\
             CSeq: 7 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:alice@192.0.2.2:5070>\r\n{more}\r\n"
        );
        match Message::parse(text.as_bytes()).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request"),
        }
    }

    #[test]
    fn the_called_end_keeps_the_order_of_record_route() {
        let request = invite("Record-Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\n");
        let mut dialog = Dialog::of_request(&request, "bob1", flow(), false).unwrap();
        let bye = dialog.request(Method::Bye);
        assert_eq!(bye.uri.to_string(), "sip:alice@192.0.2.2:5070");
        let routes: Vec<_> = bye.headers.all(&Name::Route).collect();
        assert_eq!(routes, ["<sip:p1.example;lr>", "<sip:p2.example;lr>"]);
        assert_eq!(bye.headers.get(&Name::From), Some("<sip:bob@b.example>;tag=bob1"));
        assert_eq!(bye.headers.get(&Name::To), Some("<sip:alice@a.example>;tag=alice1"));
        assert_eq!(bye.headers.cseq().unwrap().number, 1);
        assert_eq!(dialog.next_hop().to_string(), "sip:p1.example;lr");
    }

    #[test]
    fn the_calling_end_reverses_it_and_strict_routers_get_the_request_uri() {
        let request = invite("");
        let mut response = Response::to(&request, 200, Some("bob1"));
        response.headers.push(Name::RecordRoute, "<sip:far.example;lr>, <sip:near.example>");
        response.headers.push(Name::Contact, "<sip:bob@192.0.2.9;method=INVITE?Route=x>");
        let dialog = Dialog::of_response(&request, &response, flow(), false).unwrap();
        let ack = dialog.ack(7);
        assert_eq!(ack.uri.to_string(), "sip:near.example");
        let routes: Vec<_> = ack.headers.all(&Name::Route).map(str::to_owned).collect();
        assert_eq!(routes[0], "<sip:far.example;lr>");
        assert!(routes[1].starts_with("<sip:bob@192.0.2.9"));
        assert_eq!(ack.headers.cseq().unwrap().to_string(), "7 ACK");
        assert_eq!(dialog.remote_tag(), "bob1");
    }

    #[test]
    fn numbers_only_rise() {
        let mut dialog = Dialog::of_request(&invite(""), "b", flow(), false).unwrap();
        assert!(!dialog.in_order(7));
        assert!(!dialog.in_order(6));
        assert!(dialog.in_order(9));
        assert!(!dialog.in_order(8));
    }
}
