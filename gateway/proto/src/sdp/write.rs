//! From [`Sdp`] to bytes. The structure is written by crate `sdp-types`, which keeps line breaks
//! out of every field.

use std::time::Duration;

use bytes::Bytes;
use crosspoint_codecs::format::Direction;
use sdp_types::{AddrType, NetType};

use super::description::{Attribute, Bandwidth, MediaLine, Payload, Sdp};

impl Sdp {
    /// The body. It shows SRTP keys: for the wire only.
    pub fn to_bytes(&self) -> Bytes {
        let mut session = sdp_types::Session::new(self.origin_line(), &self.name);
        session.connection = self.connection.map(sdp_types::Connection::from_ip_addr);
        session.bandwidths = bandwidths(self.bandwidth);
        session.attributes.extend(self.direction.map(flag_of));
        session.attributes.extend(self.attributes.iter().map(plain));
        session.medias = self.media.iter().map(media).collect();
        let mut body = Vec::new();
        // Writing to a vector cannot fail.
        let _ = session.write(&mut body);
        body.into()
    }

    fn origin_line(&self) -> sdp_types::Origin {
        let address = &self.origin.address;
        let addrtype = if address.contains(':') { AddrType::Ip6 } else { AddrType::Ip4 };
        sdp_types::Origin {
            username: Some(self.origin.username.clone()),
            sess_id: self.origin.session_id.clone(),
            sess_version: self.origin.version,
            nettype: NetType::In,
            addrtype,
            unicast_address: address.clone(),
        }
    }
}

fn media(line: &MediaLine) -> sdp_types::Media {
    let mut attributes = Vec::new();
    let mut add = |name: &str, value: String| attributes.push(sdp_types::Attribute::with_value(name, value));
    for payload in &line.payloads {
        add("rtpmap", rtpmap(payload));
        if let Some(parameters) = &payload.parameters {
            add("fmtp", format!("{} {parameters}", payload.number));
        }
    }
    if let Some(ptime) = line.ptime {
        add("ptime", millis(ptime));
    }
    if let Some(maxptime) = line.maxptime {
        add("maxptime", millis(maxptime));
    }
    if let Some(rtcp) = line.rtcp {
        add(
            "rtcp",
            match rtcp.address {
                Some(ip) => format!("{} IN {} {ip}", rtcp.port, if ip.is_ipv4() { "IP4" } else { "IP6" }),
                None => rtcp.port.to_string(),
            },
        );
    }
    for feedback in &line.feedback {
        let payload = feedback.payload.map_or_else(|| "*".to_owned(), |number| number.to_string());
        add("rtcp-fb", format!("{payload} {}", feedback.kind.text()));
    }
    for crypto in &line.crypto {
        add("crypto", crypto.value());
    }
    if let Some(content) = &line.content {
        add("content", content.clone());
    }
    if let Some(label) = &line.label {
        add("label", label.clone());
    }
    if line.rtcp_mux {
        attributes.push(sdp_types::Attribute::new("rtcp-mux"));
    }
    attributes.extend(line.direction.map(flag_of));
    attributes.extend(line.attributes.iter().map(plain));
    sdp_types::Media {
        media: line.media.clone(),
        port: line.port,
        num_ports: None,
        proto: line.protocol.clone(),
        fmt: line.formats.join(" "),
        media_title: None,
        connections: line.connection.map(sdp_types::Connection::from_ip_addr).into_iter().collect(),
        bandwidths: bandwidths(line.bandwidth),
        key: None,
        attributes,
    }
}

fn rtpmap(payload: &Payload) -> String {
    let Payload { number, encoding, clock, channels, .. } = payload;
    match channels {
        Some(channels) => format!("{number} {encoding}/{clock}/{channels}"),
        None => format!("{number} {encoding}/{clock}"),
    }
}

/// Milliseconds, with a point only where they are not whole: few programs read it.
fn millis(time: Duration) -> String {
    let text = format!("{}.{:03}", time.as_millis(), time.subsec_micros().rem_euclid(1000));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn bandwidths(bandwidth: Bandwidth) -> Vec<sdp_types::Bandwidth> {
    let line = |kind: &str, value: Option<u64>| {
        value.map(|bandwidth| sdp_types::Bandwidth { bwtype: kind.to_owned(), bandwidth })
    };
    line("AS", bandwidth.application).into_iter().chain(line("TIAS", bandwidth.independent)).collect()
}

fn flag_of(direction: Direction) -> sdp_types::Attribute {
    sdp_types::Attribute::new(direction_name(direction))
}

/// The attribute that says it.
pub(super) const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

fn plain(attribute: &Attribute) -> sdp_types::Attribute {
    sdp_types::Attribute { attribute: attribute.name.clone(), value: attribute.value.clone() }
}
