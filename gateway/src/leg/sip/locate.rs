//! Where a SIP URI leads: NAPTR, then SRV, then addresses (RFC 3263 section 4), the best place first.
//!
//! What is read from records is decided here, without a resolver; [`Network`] asks one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crosspoint_proto::Transport;
use crosspoint_proto::sip::{DEFAULT_PORT, DEFAULT_TLS_PORT, Destination, Host};
use rand_core::Rng;
use tokio::time::{Instant, timeout_at};

use super::hop::{Hop, Network};
use crate::cause::Reason;
use crate::config::Listen;

/// All that is asked for one call must be known by then: a caller who hears nothing gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Places that are kept for one call. More would not be tried before the caller gives up.
const PLACES: usize = 8;

/// Records of one answer that are looked at.
const RECORDS: usize = 32;

/// A place that failed comes last for so long, unless it said how long itself.
const AVOIDED: Duration = Duration::from_secs(60);

/// The longest that a server may ask not to be used.
const AVOIDED_AT_MOST: Duration = Duration::from_secs(600);

/// Places that are remembered as failed. Overflow: the next one is not remembered.
const FAILURES: usize = 1_024;

/// What of a NAPTR record says where SIP is spoken (RFC 3263 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Naptr {
    pub(super) order: u16,
    pub(super) preference: u16,
    pub(super) flags: String,
    pub(super) service: String,
    pub(super) regexp: String,
    /// Without the dot at its end.
    pub(super) replacement: String,
}

/// A SRV record (RFC 2782). An empty target: the service is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Without the dot at its end.
    pub(super) target: String,
}

/// Where a call may go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// `None`: nobody has said, so the length of the message does (RFC 3261 section 18.1.1).
    pub(super) transport: Option<Transport>,
    pub(super) address: SocketAddr,
    /// The name that was asked for, which a certificate must carry: what DNS made of it proves
    /// nothing (RFC 5922 section 7.2).
    name: Option<String>,
}

impl Place {
    pub(super) fn destination(&self) -> Destination {
        let Self { transport, address, name } = self.clone();
        Destination::Address { transport, address, name }
    }
}

/// Everywhere that `hop` may lead, the best first; never empty. What is not known at `until` is left
/// out.
pub(super) async fn locate(
    hop: &Hop,
    network: &dyn Network,
    listening: &[Listen],
    until: Instant,
    rng: &mut (impl Rng + Send),
) -> Result<Vec<Place>, Reason> {
    let name = match &hop.host {
        Host::Name(name) => name.clone(),
        address => {
            let ip = address.address().ok_or(Reason::Unreachable)?;
            let address = SocketAddr::new(ip, hop.port.unwrap_or_else(|| usual_port(hop.asked)));
            return Ok(vec![Place { transport: hop.asked, address, name: None }]);
        }
    };
    let mut asked = Asked { network, listening, until, name: &name, places: Vec::new(), refused: None };
    // A port says that there is nothing to look for but the address (section 4.2).
    if let Some(port) = hop.port {
        asked.addresses(hop.asked, &name, port).await;
        return asked.found();
    }
    let mut services = Vec::new();
    if !hop.settled {
        let records = timeout_at(until, network.naptr(&name)).await;
        let records = records.map_or_else(|_| Vec::new(), |records| records.unwrap_or_default());
        services = offered(records, listening);
        // Of `sips:` only what is secure all the way.
        services.retain(|(transport, _)| hop.asked.is_none_or(|asked| asked == *transport));
    }
    if services.is_empty() {
        services = usual_services(hop.asked, &name, listening);
    }
    let mut known = false;
    for (transport, service) in services {
        let records = timeout_at(until, network.srv(&service)).await;
        let records = records.map_or_else(|_| Vec::new(), |records| records.unwrap_or_default());
        known |= !records.is_empty();
        for record in by_priority(records, rng) {
            asked.addresses(Some(transport), &record.target, record.port).await;
        }
    }
    // A domain without SRV records is a host (section 4.2).
    if !known {
        asked.addresses(hop.asked, &name, usual_port(hop.asked)).await;
    }
    asked.found()
}

/// What is found as the questions go.
struct Asked<'a> {
    network: &'a dyn Network,
    listening: &'a [Listen],
    until: Instant,
    name: &'a str,
    places: Vec<Place>,
    refused: Option<Reason>,
}

impl Asked<'_> {
    async fn addresses(&mut self, transport: Option<Transport>, host: &str, port: u16) {
        if self.places.len() >= PLACES {
            return;
        }
        let found = match timeout_at(self.until, self.network.addresses(host)).await {
            Ok(Ok(found)) => found,
            Ok(Err(reason)) => {
                self.refused = Some(reason);
                return;
            }
            Err(_) => return,
        };
        for ip in found {
            let place =
                Place { transport, address: SocketAddr::new(ip, port), name: Some(self.name.to_owned()) };
            let has_way = speaks(self.listening, transport.unwrap_or(Transport::Udp), Some(ip));
            if has_way && self.places.len() < PLACES && !self.places.contains(&place) {
                self.places.push(place);
            }
        }
    }

    fn found(self) -> Result<Vec<Place>, Reason> {
        if self.places.is_empty() {
            tracing::warn!(host = self.name, "no address is known where a call shall go");
            return Err(self.refused.unwrap_or(Reason::Unreachable));
        }
        Ok(self.places)
    }
}

/// The services that NAPTR records name and that we speak, the best first (RFC 3263 section 4.1).
/// A `sip:` target may be reached by TLS as well.
fn offered(mut records: Vec<Naptr>, listening: &[Listen]) -> Vec<(Transport, String)> {
    records.truncate(RECORDS);
    records.sort_by_key(|record| (record.order, record.preference));
    let service = |record: Naptr| {
        let transport = match record.service.to_ascii_uppercase().as_str() {
            "SIP+D2U" => Transport::Udp,
            "SIP+D2T" => Transport::Tcp,
            "SIPS+D2T" => Transport::Tls,
            _ => return None,
        };
        // Only "s" leads to SRV, and nothing is rewritten.
        let plain = record.flags.eq_ignore_ascii_case("s") && record.regexp.is_empty();
        let usable = plain && !record.replacement.is_empty() && speaks(listening, transport, None);
        usable.then_some((transport, record.replacement))
    };
    records.into_iter().filter_map(service).collect()
}

/// Without NAPTR records: SRV for the transport, or for each that we speak (section 4.1).
fn usual_services(asked: Option<Transport>, name: &str, listening: &[Listen]) -> Vec<(Transport, String)> {
    let transports = asked.map_or_else(|| vec![Transport::Udp, Transport::Tcp], |asked| vec![asked]);
    let spoken = transports.into_iter().filter(|transport| speaks(listening, *transport, None));
    spoken.map(|transport| (transport, service_of(transport, name))).collect()
}

/// The name of a service (section 4.1).
fn service_of(transport: Transport, name: &str) -> String {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        // Never asked for, for it is never opened by us.
        Transport::Ws => "_sip._ws",
        Transport::Wss => "_sips._ws",
    };
    format!("{service}.{name}")
}

/// The order in which the servers of a service are asked: by priority, within one by chance, more
/// often first the more weight (RFC 2782).
fn by_priority(mut records: Vec<Srv>, rng: &mut impl Rng) -> Vec<Srv> {
    records.retain(|record| !record.target.is_empty());
    records.truncate(RECORDS);
    // Those without weight come first, so that they have a chance at all.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let equal = records.iter().take_while(|record| record.priority == first.priority);
        let weights: Vec<u32> = equal.map(|record| record.weight.into()).collect();
        let sum: u32 = weights.iter().sum();
        let drawn = rng.next_u32() % (sum + 1);
        let mut running = 0;
        let chosen = weights.iter().position(|weight| {
            running += weight;
            running >= drawn
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

/// Whether we have a socket for it.
fn speaks(listening: &[Listen], transport: Transport, to: Option<IpAddr>) -> bool {
    let family = |listen: &Listen| to.is_none_or(|ip| ip.is_ipv4() == listen.address.is_ipv4());
    listening.iter().any(|listen| listen.transport == transport && family(listen))
}

fn usual_port(transport: Option<Transport>) -> u16 {
    if transport == Some(Transport::Tls) { DEFAULT_TLS_PORT } else { DEFAULT_PORT }
}

/// Places that failed lately, and until when they come last.
#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<(Option<Transport>, SocketAddr), Instant>);

impl Failures {
    /// A call did not get through there. `pause`: how long it does not want to be asked.
    pub(super) fn note(&mut self, now: Instant, place: &Place, pause: Option<Duration>) {
        self.0.retain(|_, until| *until > now);
        if self.0.len() < FAILURES {
            let pause = pause.unwrap_or(AVOIDED).min(AVOIDED_AT_MOST);
            self.0.insert((place.transport, place.address), now + pause);
        }
    }

    /// Puts what failed behind what did not. All are kept: they may be all that there is.
    pub(super) fn put_last(&self, now: Instant, places: &mut [Place]) {
        let failed =
            |place: &Place| self.0.get(&(place.transport, place.address)).is_some_and(|at| *at > now);
        places.sort_by_key(failed);
    }
}

#[cfg(test)]
mod tests;
