//! The names of the outside: by DNS, and for addresses by whatever else the system knows.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::sync::Semaphore;

use super::hop::{Lookup, Network};
use super::locate::{Naptr, Srv};
use crate::cause::Reason;

/// Names that may be looked up at a time, each of them several questions; and the system's own
/// look-up takes a thread of tokio's pool for blocking work (512), for as long as it likes. Overflow:
/// the call fails at once as congestion.
const LOOKUPS: usize = 128;

/// Answers that are kept for as long as their TTL says, each at most a message.
const CACHED: u64 = 1_024;

/// The longest that a name counts as unknown: one that is put right is soon found.
const UNKNOWN: Duration = Duration::from_secs(60);

/// One name server may take so long, and is asked twice: within the time for all.
const ANSWER: Duration = Duration::from_secs(2);

/// The operating system's network.
pub(super) struct System {
    lookups: Arc<Semaphore>,
    /// `None`: the system names no name server; then only its own look-up is left.
    dns: Option<TokioResolver>,
}

type Builder = ResolverBuilder<hickory_resolver::net::runtime::TokioRuntimeProvider>;

impl System {
    /// With the name servers that the system is configured for.
    pub(super) fn new() -> Self {
        let dns = TokioResolver::builder_tokio().and_then(resolver);
        let dns = dns.inspect_err(|error| {
            tracing::warn!(%error, "no name server is configured: SRV and NAPTR records are not seen");
        });
        Self::with(dns.ok())
    }

    fn with(dns: Option<TokioResolver>) -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS)), dns }
    }

    /// The data of the records of one kind.
    fn records<T: Send + 'static>(
        &self,
        name: &str,
        kind: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> Lookup<T> {
        let (room, dns) = (self.lookups.clone().try_acquire_owned(), self.dns.clone());
        // A domain, never a name that the search list completes.
        let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.')));
        Box::pin(async move {
            let _room = room.map_err(|_| Reason::Congestion)?;
            let (Some(dns), Ok(name)) = (dns, name) else { return Ok(Vec::new()) };
            match dns.lookup(name, kind).await {
                Ok(found) => Ok(found.answers().iter().filter_map(|record| read(&record.data)).collect()),
                Err(error) if error.is_no_records_found() => Ok(Vec::new()),
                Err(error) => {
                    tracing::warn!(%error, %kind, "a name server did not answer");
                    Err(Reason::Unreachable)
                }
            }
        })
    }
}

/// With our bounds; CNAMEs are followed eight deep.
fn resolver(mut builder: Builder) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let options = builder.options_mut();
    options.cache_size = CACHED;
    options.negative_max_ttl = Some(UNKNOWN);
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = ANSWER;
    options.attempts = 1;
    builder.build()
}

impl Network for System {
    fn naptr(&self, name: &str) -> Lookup<Naptr> {
        self.records(name, RecordType::NAPTR, |data| match data {
            RData::NAPTR(record) => Some(Naptr {
                order: record.order,
                preference: record.preference,
                flags: String::from_utf8_lossy(&record.flags).into_owned(),
                service: String::from_utf8_lossy(&record.services).into_owned(),
                regexp: String::from_utf8_lossy(&record.regexp).into_owned(),
                replacement: plain(&record.replacement),
            }),
            _ => None,
        })
    }

    fn srv(&self, name: &str) -> Lookup<Srv> {
        self.records(name, RecordType::SRV, |data| match data {
            RData::SRV(record) => Some(Srv {
                priority: record.priority,
                weight: record.weight,
                port: record.port,
                target: plain(&record.target),
            }),
            _ => None,
        })
    }

    fn addresses(&self, name: &str) -> Lookup<IpAddr> {
        let (room, dns, name) = (self.lookups.clone().try_acquire_owned(), self.dns.clone(), name.to_owned());
        Box::pin(async move {
            let Ok(room) = room else {
                tracing::warn!(host = name, "too many names are being looked up");
                return Err(Reason::Congestion);
            };
            if let Some(dns) = dns
                && let Ok(found) = dns.lookup_ip(name.as_str()).await
            {
                let mut found: Vec<IpAddr> = found.iter().collect();
                // Stable: media listens on IPv4 unless it is told otherwise.
                found.sort_by_key(IpAddr::is_ipv6);
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            // What the system knows by other means than DNS. On a task of its own: whoever gives up
            // leaves the thread busy, and the room with it.
            let query = tokio::spawn(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await;
                drop(room);
                found.map_or_else(|_| Vec::new(), |found| found.map(|address| address.ip()).collect())
            });
            query.await.map_err(|_| Reason::Unreachable)
        })
    }

    fn local_address_towards(&self, peer: IpAddr) -> io::Result<IpAddr> {
        crate::net::local_address_towards(peer)
    }
}

/// Without the dot at its end; the root is empty.
fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
