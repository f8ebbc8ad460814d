use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::cause::{Cause, Reason};
use crate::status::{CallStatus, LegStatus, Signalling, StreamStatus};

pub(super) struct Fixed(pub(super) Vec<String>);

impl Source for Fixed {
    fn status(&self) -> Status {
        let stream =
            StreamStatus { route: "relay".into(), why: "same codec".into(), ..StreamStatus::default() };
        let leg = LegStatus { address: "alice".into(), streams: vec![stream], ..LegStatus::default() };
        let call = CallStatus { state: "answered".into(), legs: vec![leg], ..CallStatus::default() };
        let signalling =
            Signalling { protocol: "sip".into(), datagrams_received: 7, ..Signalling::default() };
        Status { devices: 3, calls: vec![call], signalling: vec![signalling], ..Status::default() }
    }

    fn health(&self) -> Health {
        Health { problems: self.0.clone() }
    }
}

fn start(problems: &[&str], metrics: &Metrics) -> Api {
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let source = Fixed(problems.iter().map(|it| (*it).into()).collect());
    Api::bind(&listen).unwrap().serve(&(Arc::new(source) as Arc<dyn Source>), metrics, None).unwrap()
}

/// Status line and body.
async fn fetch(api: &Api, path: &str, host: &str) -> (String, String) {
    let mut stream = TcpStream::connect(api.listening()[0]).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().into(), body.into())
}

#[tokio::test]
async fn status_reads_back_as_the_document() {
    let api = start(&[], &Metrics::default());
    let (line, body) = fetch(&api, "/status", "localhost:9060").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert_eq!(serde_json::from_str::<Status>(&body).unwrap(), Fixed(vec![]).status());
    assert_eq!(fetch(&api, "/other", "localhost").await.0, "HTTP/1.1 404 Not Found");
    api.stop().await;
}

#[tokio::test]
async fn health_is_a_status_code() {
    let api = start(&[], &Metrics::default());
    assert_eq!(fetch(&api, "/healthz", "127.0.0.1").await.0, "HTTP/1.1 200 OK");
    let ill = start(&["the disk is full"], &Metrics::default());
    let (line, body) = fetch(&ill, "/healthz", "127.0.0.1").await;
    assert_eq!(line, "HTTP/1.1 503 Service Unavailable");
    assert!(body.contains("the disk is full"));
}

#[tokio::test]
async fn metrics_are_counted_and_carry_no_alias() {
    let metrics = Metrics::default();
    let api = start(&[], &metrics);
    metrics.call_ended(Cause::remote(Reason::Busy), None);
    metrics.call_ended(Cause::remote(Reason::Hangup), Some(Duration::from_secs(5)));
    metrics.call_answered(Duration::from_millis(70));
    metrics.register("accepted");
    let (line, body) = fetch(&api, "/metrics", "[::1]:9060").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    for expected in [
        "crosspoint_calls_total{reason=\"busy\",side=\"remote\"} 1\n",
        "crosspoint_registers_total{result=\"accepted\"} 1\n",
        "crosspoint_call_setup_seconds_bucket{le=\"0.1\"} 1\n",
        "crosspoint_call_talk_seconds_sum 5.0\n",
        "crosspoint_calls_active{state=\"answered\"} 1\n",
        "crosspoint_streams_active{route=\"relay\"} 1\n",
        "crosspoint_sip_datagrams_received_total 7\n",
        "crosspoint_devices 3\n",
    ] {
        assert!(body.contains(expected), "{expected} is not in\n{body}");
    }
    assert!(body.ends_with("# EOF\n"));
    assert!(!body.contains("alice"));
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_on_loopback() {
    let api = start(&[], &Metrics::default());
    for host in ["rebound.example.org", "rebound.example.org:9060", "localhost.example.org", ""] {
        let (line, body) = fetch(&api, "/status", host).await;
        assert!(line.starts_with("HTTP/1.1 421"), "{host}: {line}");
        assert!(!body.contains("alice"));
    }
}

#[tokio::test]
async fn a_port_in_use_names_the_option_and_a_stop_frees_it() {
    let api = start(&[], &Metrics::default());
    let address = api.listening()[0];
    let twice = Api::bind(&[address]).unwrap_err().to_string();
    assert!(twice.contains(&format!("tcp:{address} is in use")) && twice.contains("http.listen"), "{twice}");
    api.stop().await;
    assert_eq!(Api::bind(&[address]).unwrap().listening(), [address]);
}
