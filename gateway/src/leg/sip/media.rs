//! The media ports of one SIP leg: opened when an offer or answer needs them, configured by what
//! was agreed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crosspoint_codecs::format::MediaKind;
use crosspoint_proto::address::PeerTrust;
use crosspoint_proto::rtp::session::{
    DtmfPayload, Feedback, LevelItem, Payload, ReceivePayload, RemoteAddress, SendPayload, SessionConfig,
    SourcePolicy, SrtpKeys,
};
use crosspoint_proto::rtp::srtp::SrtpSuite;
use crosspoint_proto::sdp::crypto::{SRTP_SECRET_LENGTH, SrtpSecret};
use crosspoint_proto::sdp::{AgreedLine, LocalMedia, RemoteMedia};
use tokio::sync::mpsc;

use crate::leg::LegStream;
use crate::media::port::{StreamEvent, StreamPort};
use crate::net::media::{MediaNet, MediaPort, OpenError, Place};

/// Where ports are opened and what peers are told of them.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The media side of the gateway.
    pub(super) net: Arc<MediaNet>,
    /// The local address to bind.
    pub(super) bind: IpAddr,
    /// The address that stands in SDP.
    pub(super) advertised: IpAddr,
    /// The thread of all streams of the call.
    pub(super) thread: usize,
    /// Silence after which the leg counts as dead.
    pub(super) timeout: Option<Duration>,
    /// Where signalling has proven the peer to be.
    pub(super) proven: Option<IpAddr>,
}

/// The streams of a leg.
#[derive(Debug)]
pub(super) struct Lines {
    site: Site,
    /// Names the leg in its CNAME, before our address.
    name: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    role: MediaKind,
    port: Arc<MediaPort>,
    events: mpsc::Receiver<StreamEvent>,
    ssrc: u32,
    key: SrtpSecret,
    /// What was last agreed with it.
    suite: Option<SrtpSuite>,
    /// A suite was agreed with that secret and then another, or none: if it came back, our numbers would begin
    /// anew under a key that has seen them (RFC 3711 section 9.1). The next description has another one.
    worn: bool,
    /// Keys can go out as events (RFC 4733).
    dtmf: bool,
    agreed: bool,
}

impl Lines {
    pub(super) const fn new(site: Site, name: String) -> Self {
        Self { site, name, lines: Vec::new() }
    }

    /// Where ports are, and the address that stands in SDP, from now on. Ports of another family are
    /// given back: nothing can come to them.
    pub(super) fn settle(&mut self, bind: IpAddr, advertised: IpAddr) {
        if bind.is_ipv4() != self.site.bind.is_ipv4() {
            self.lines.drain(..).for_each(|line| line.port.close());
        }
        self.site.bind = bind;
        self.site.advertised = advertised;
    }

    /// Our end of the stream in `role`, opened now if it is not there yet.
    pub(super) fn local(
        &mut self,
        role: MediaKind,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<LocalMedia, OpenError> {
        let line = match self.lines.iter().position(|line| line.role == role) {
            Some(at) => {
                let line = &mut self.lines[at];
                if std::mem::take(&mut line.worn) {
                    (line.key, line.suite) = (secret(random), None);
                }
                &*line
            }
            None => {
                let place = Place {
                    ip: self.site.bind,
                    thread: Some(self.site.thread),
                    beside: self.lines.first().map(|line| line.port.id()),
                };
                let opened = self.site.net.open(role, place)?;
                let mut ssrc = [0; 4];
                random(&mut ssrc);
                self.lines.push(Line {
                    role,
                    port: opened.port,
                    events: opened.events,
                    ssrc: u32::from_be_bytes(ssrc),
                    key: secret(random),
                    suite: None,
                    worn: false,
                    dtmf: false,
                    agreed: false,
                });
                &self.lines[self.lines.len() - 1]
            }
        };
        let local = line.port.local();
        Ok(LocalMedia {
            role,
            rtp: SocketAddr::new(self.site.advertised, local.rtp.port()),
            rtcp: Some(SocketAddr::new(self.site.advertised, local.rtcp.port())),
            rtcp_mux: true,
            key: Some(line.key.clone()),
        })
    }

    /// Configures the ports by what was agreed; lines that were refused are closed. The streams,
    /// in the order of the m-lines.
    pub(super) fn apply(&mut self, agreed: &[AgreedLine], source: SourcePolicy) -> Vec<LegStream> {
        self.lines.retain(|line| {
            let stays = agreed.iter().any(|agreed| agreed.role == line.role);
            if !stays {
                line.port.close();
            }
            stays
        });
        let cname = format!("{}@{}", self.name, self.site.advertised);
        let mut streams = Vec::new();
        for agreed in agreed {
            let Some(line) = self.lines.iter_mut().find(|line| line.role == agreed.role) else { continue };
            line.dtmf = agreed.dtmf.is_some();
            line.agreed = true;
            line.agrees(agreed.srtp.as_ref().map(|keys| keys.local.suite()));
            let config = session(agreed, line, &cname, source, &self.site);
            if let Err(fault) = line.port.configure(config) {
                tracing::warn!(role = %agreed.role, %fault, "a stream could not be configured");
                continue;
            }
            let also = agreed.receive.iter().skip(1).map(|it| it.format.clone()).collect();
            let encrypted = agreed.is_encrypted();
            streams.push(LegStream { agreed: agreed.stream(), also, encrypted, port: line.port.clone() });
        }
        streams
    }

    /// Whether keys can be sent in the media; the stream to send them on.
    pub(super) fn dtmf(&self) -> Option<&MediaPort> {
        self.lines.iter().find(|line| line.dtmf).map(|line| &*line.port)
    }

    /// The agreed stream in `role`.
    pub(super) fn port(&self, role: MediaKind) -> Option<&MediaPort> {
        self.lines.iter().find(|line| line.role == role && line.agreed).map(|line| &*line.port)
    }

    /// The next event of any stream.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<(MediaKind, StreamEvent)> {
        for line in &mut self.lines {
            if let Poll::Ready(Some(event)) = line.events.poll_recv(cx) {
                return Poll::Ready((line.role, event));
            }
        }
        Poll::Pending
    }
}

impl Line {
    fn agrees(&mut self, suite: Option<SrtpSuite>) {
        self.worn |= self.suite.is_some() && self.suite != suite;
        self.suite = suite;
    }
}

fn secret(random: &mut dyn FnMut(&mut [u8])) -> SrtpSecret {
    let mut key = [0; SRTP_SECRET_LENGTH];
    random(&mut key);
    SrtpSecret::new(key)
}

fn session(
    agreed: &AgreedLine,
    line: &Line,
    cname: &str,
    source: SourcePolicy,
    site: &Site,
) -> SessionConfig {
    let mut receive: Vec<ReceivePayload> = agreed
        .receive
        .iter()
        .map(|it| ReceivePayload { payload_type: it.payload, payload: Payload::Media(it.format.clone()) })
        .collect();
    if let Some(dtmf) = &agreed.dtmf {
        receive.extend(dtmf.receive.iter().map(|(payload_type, clock)| ReceivePayload {
            payload_type: *payload_type,
            payload: Payload::TelephoneEvent(*clock),
        }));
    }
    SessionConfig {
        direction: agreed.direction,
        receive,
        send: Some(SendPayload { payload_type: agreed.send.payload, format: agreed.send.format.clone() }),
        dtmf: agreed.dtmf.as_ref().map(|dtmf| DtmfPayload { payload_type: dtmf.send, clock: dtmf.clock }),
        levels: agreed.levels.map_or(LevelItem::NONE, |it| LevelItem {
            send: it.send.then_some(it.id),
            receive: it.receive.then_some(it.id),
        }),
        remote: agreed.remote.map(|remote| destination(near(remote, source))),
        rtcp_mux: agreed.rtcp_mux,
        feedback: Feedback {
            nack: agreed.feedback.nack,
            pli: agreed.feedback.pli,
            fir: agreed.feedback.fir,
            tmmbr: agreed.feedback.tmmbr,
            remb: agreed.feedback.remb,
        },
        srtp: agreed
            .srtp
            .as_ref()
            .map(|keys| SrtpKeys { send: keys.local.clone(), receive: keys.remote.clone() }),
        dtls: agreed.dtls.clone(),
        source,
        proven: agreed.remote.and_then(|remote| proven(remote, site.proven)),
        max_send_bitrate: agreed.max_bitrate,
        media_timeout: site.timeout,
        ..SessionConfig::new(line.role, line.ssrc, cname.to_owned())
    }
}

/// A peer that names no port for RTCP wants none: the one above may be somebody else's.
const fn destination(remote: RemoteMedia) -> RemoteAddress {
    RemoteAddress { rtp: remote.rtp, rtcp: remote.rtcp }
}

/// Where media is sent at first. An address of some other host is never believed: a device behind
/// NAT wrote its inner one, or somebody wants a third party flooded. Its port is tried at the host
/// that its signalling comes from, until its media shows where it is.
fn near(remote: RemoteMedia, source: SourcePolicy) -> RemoteMedia {
    match (remote.trust, source) {
        (PeerTrust::Foreign, SourcePolicy::Latch(ip)) => RemoteMedia {
            rtp: SocketAddr::new(ip, remote.rtp.port()),
            rtcp: remote.rtcp.map(|rtcp| SocketAddr::new(ip, rtcp.port())),
            trust: PeerTrust::Signalling,
        },
        _ => remote,
    }
}

/// What signalling proves of where media goes: that the peer is there, when it named that very
/// address. Of a port that was tried behind a NAT it proves nothing.
fn proven(remote: RemoteMedia, signalling: Option<IpAddr>) -> Option<IpAddr> {
    let named = remote.rtp.ip().to_canonical();
    signalling.filter(|ip| remote.trust != PeerTrust::Foreign && ip.to_canonical() == named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_media_address_is_never_sent_to() {
        let inner: SocketAddr = "10.0.0.5:4000".parse().unwrap();
        let outside: IpAddr = "192.0.2.7".parse().unwrap();
        let said = RemoteMedia { rtp: inner, rtcp: Some(inner), trust: PeerTrust::Foreign };
        let tried = near(said, SourcePolicy::Latch(outside));
        assert_eq!((tried.rtp.ip(), tried.rtp.port()), (outside, 4000));
        assert_eq!(tried.rtcp.map(|rtcp| rtcp.ip()), Some(outside));
        let own = RemoteMedia { trust: PeerTrust::Signalling, ..said };
        assert_eq!(near(own, SourcePolicy::Strict), own);
    }

    #[test]
    fn signalling_proves_the_address_that_the_device_named_and_no_other() {
        let there: IpAddr = "192.0.2.7".parse().unwrap();
        let rtp = SocketAddr::new(there, 4000);
        let named = RemoteMedia { rtp, rtcp: None, trust: PeerTrust::Signalling };
        assert_eq!(proven(named, Some(there)), Some(there));
        // Nobody who has not proven himself, and no device that names another host or sits behind a
        // NAT.
        assert_eq!(proven(named, None), None);
        let elsewhere = SocketAddr::new("198.51.100.1".parse().unwrap(), 4000);
        let listed = RemoteMedia { rtp: elsewhere, trust: PeerTrust::Listed, ..named };
        assert_eq!(proven(listed, Some(there)), None);
        let inner = RemoteMedia { rtp: elsewhere, trust: PeerTrust::Foreign, ..named };
        assert_eq!(proven(inner, Some(there)), None);
        assert_eq!(proven(RemoteMedia { rtp, ..inner }, Some(there)), None);
    }

    #[test]
    fn no_port_is_guessed_for_rtcp_that_a_peer_does_not_want() {
        let rtp: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        let said = RemoteMedia { rtp, rtcp: None, trust: PeerTrust::Signalling };
        assert_eq!(destination(said).rtcp, None);
        let there = RemoteMedia { rtcp: Some("192.0.2.7:4009".parse().unwrap()), ..said };
        assert_eq!(destination(there).rtcp, there.rtcp);
    }
}
