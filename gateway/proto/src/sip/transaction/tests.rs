use std::time::Duration;

use super::*;
use crate::Transport;
use crate::sip::Message;

type Table = Transactions<u8, u8>;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn flow(transport: Transport) -> Flow {
    let conn = transport.is_stream().then_some(crate::ConnId(2));
    let at = |text: &str| text.parse().unwrap();
    Flow { transport, local: at("192.0.2.1:5060"), remote: at("192.0.2.2:5060"), conn }
}

fn request(method: &str, branch: &str) -> Request {
    let text = format!(
        "{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch={branch}\r\n\
         From: <sip:alice@a.example>;tag=a\r\nTo: <sip:bob@b.example>\r\nCall-ID: c\r\n\
         CSeq: 1 {method}\r\nMax-Forwards: 70\r\n\r\n"
    );
    match Message::parse(text.as_bytes()).unwrap() {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a request"),
    }
}

fn arrived(table: &mut Table, at: Instant, request: &Request, reply: Reply) -> Arrived {
    table.request_arrived(at, request, &request.headers.top_via().unwrap(), reply, 500)
}

/// Fires timers up to that time; the milliseconds at which something was sent, and its first word.
fn run(table: &mut Table, until: Duration) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    drain(table, 0, &mut sent);
    while let Some(at) = table.next_timeout().filter(|at| *at <= Instant::ZERO + until) {
        table.timeout(at);
        drain(table, at.as_nanos() / 1_000_000, &mut sent);
    }
    sent
}

fn drain(table: &mut Table, at: u64, sent: &mut Vec<(u64, String)>) {
    while let Some(action) = table.poll() {
        let word = match action {
            Action::Send { data, .. } => {
                String::from_utf8_lossy(data.get(..11).unwrap_or(&data)).into_owned()
            }
            Action::Response { response, .. } => format!("told {}", response.status),
            Action::NoResponse { .. } => "no response".into(),
            Action::Unreachable { .. } => "unreachable".into(),
        };
        sent.push((at, word));
    }
}

fn times(sent: &[(u64, String)]) -> Vec<u64> {
    sent.iter().map(|(at, _)| *at).collect()
}

fn table() -> Table {
    Table::new(Timing::default(), 10, 10)
}

const LIFE: Duration = Duration::from_secs(70);

/// RFC 3261 table 4 and figure 6: timers E and F.
#[test]
fn requests_are_repeated_up_to_t2_and_end_after_64_t1() {
    let mut table = table();
    table.start(Instant::ZERO, request("OPTIONS", "z9hG4bK1"), flow(Transport::Udp), 1).unwrap();
    let sent = run(&mut table, LIFE);
    let expected =
        [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500, 32_000].to_vec();
    assert_eq!(times(&sent), expected);
    assert_eq!(sent.last().unwrap().1, "no response");
    assert_eq!((table.clients(), table.next_timeout()), (0, None));
}

/// Timers A and B, which have no limit.
#[test]
fn invites_are_repeated_with_doubling_pauses_until_a_provisional_response() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    table.start(Instant::ZERO, invite.clone(), flow(Transport::Udp), 1).unwrap();
    assert_eq!(times(&run(&mut table, Duration::from_secs(8))), [0, 500, 1500, 3500, 7500]);
    let ringing = Response::to(&invite, 180, Some("b"));
    assert!(table.response(Instant::from_millis(8_000), PEER, ringing));
    assert_eq!(run(&mut table, Duration::from_secs(4_000)).len(), 1, "told once, and then it may ring");
    assert_eq!(table.clients(), 1);
}

#[test]
fn streams_repeat_nothing() {
    for method in ["INVITE", "OPTIONS"] {
        let mut table = table();
        table.start(Instant::ZERO, request(method, "z9hG4bK1"), flow(Transport::Tcp), 1).unwrap();
        assert_eq!(times(&run(&mut table, LIFE)), [0, 32_000]);
    }
}

/// Timers D and K: how long repetitions of the final response are absorbed.
#[test]
fn finished_requests_linger_as_long_as_the_book_says() {
    for (method, status, transport, life) in [
        ("INVITE", 486, Transport::Udp, 32_000),
        ("INVITE", 486, Transport::Tcp, 0),
        ("INVITE", 200, Transport::Udp, 32_000),
        ("INVITE", 200, Transport::Tcp, 32_000),
        ("OPTIONS", 200, Transport::Udp, 5_000),
        ("OPTIONS", 200, Transport::Tcp, 0),
    ] {
        let mut table = table();
        let asked = request(method, "z9hG4bK1");
        table.start(Instant::ZERO, asked.clone(), flow(transport), 1).unwrap();
        table.response(Instant::ZERO, PEER, Response::to(&asked, status, Some("b")));
        assert_eq!(table.next_timeout(), Some(Instant::from_millis(life)), "{method} {status} {transport:?}");
        run(&mut table, LIFE);
        assert_eq!(table.clients(), 0);
    }
}

#[test]
fn what_ended_within_one_t1_is_forgotten_at_one_moment_and_none_of_it_early() {
    let mut table = table();
    for (number, at) in [1, 250, 500].into_iter().enumerate() {
        let asked = request("OPTIONS", &format!("z9hG4bK{number}"));
        let at = Instant::from_millis(at);
        table.start(at, asked.clone(), flow(Transport::Udp), 1).unwrap();
        table.response(at, PEER, Response::to(&asked, 200, Some("b")));
    }
    let moment = Instant::from_millis(5_500);
    assert_eq!(table.next_timeout(), Some(moment));
    table.timeout(moment);
    assert_eq!((table.clients(), table.next_timeout()), (0, None));
}

/// Timers G and H, and I after the ACK.
#[test]
fn a_refusal_is_repeated_until_its_ack() {
    for acked in [false, true] {
        let mut table = table();
        let invite = request("INVITE", "z9hG4bK1");
        let reply = Reply::only(flow(Transport::Udp));
        let Arrived::New { id, .. } = arrived(&mut table, Instant::ZERO, &invite, reply) else {
            panic!("new");
        };
        let busy = table.reply(id, 486, "", "b").unwrap();
        table.respond(Instant::ZERO, id, &busy);
        assert_eq!(times(&run(&mut table, Duration::from_secs(8))), [0, 500, 1500, 3500, 7500]);
        if acked {
            let ack = invite.ack(&busy);
            let at = Instant::from_millis(9_000);
            assert_eq!(arrived(&mut table, at, &ack, reply), Arrived::Absorbed);
            assert_eq!(arrived(&mut table, at, &ack, reply), Arrived::Absorbed);
            assert_eq!(table.next_timeout(), Some(Instant::from_millis(14_000)));
        }
        let rest = run(&mut table, LIFE);
        assert_eq!(rest.is_empty(), acked, "{rest:?}");
        assert_eq!(table.servers(), 0);
    }
}

/// RFC 6026: after a 2xx the INVITE's repetitions are absorbed, the ACK goes up, timer L ends it.
#[test]
fn an_accepted_invite_belongs_to_its_dialog() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    let reply = Reply::only(flow(Transport::Udp));
    let Arrived::New { id, .. } = arrived(&mut table, Instant::ZERO, &invite, reply) else { panic!("new") };
    let ok = table.reply(id, 200, "", "b").unwrap();
    table.respond(Instant::ZERO, id, &ok);
    assert_eq!(arrived(&mut table, Instant::ZERO, &invite, reply), Arrived::Absorbed);
    assert_eq!(run(&mut table, Duration::from_secs(1)).len(), 1);
    table.respond(Instant::from_millis(1_000), id, &ok);
    table.respond(Instant::from_millis(1_000), id, &table.reply(id, 486, "", "b").unwrap());
    assert_eq!(run(&mut table, Duration::from_secs(2)).len(), 1, "again the 200, and no change of mind");
    let mut ack = invite.ack(&ok);
    assert_eq!(arrived(&mut table, Instant::ZERO, &ack, reply), Arrived::Ack, "with the INVITE's branch");
    ack.headers.set(Name::Via, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKack");
    assert_eq!(arrived(&mut table, Instant::ZERO, &ack, reply), Arrived::Ack);
    assert_eq!(table.next_timeout(), Some(Instant::from_millis(32_000)));
    run(&mut table, LIFE);
    assert_eq!(table.servers(), 0);
}

/// Timer J, and the owner who never answers.
#[test]
fn answered_requests_absorb_their_repetitions_for_32_s() {
    for answered in [false, true] {
        let mut table = table();
        let asked = request("REGISTER", "z9hG4bK1");
        let reply = Reply::only(flow(Transport::Udp));
        let Arrived::New { id, .. } = arrived(&mut table, Instant::ZERO, &asked, reply) else {
            panic!("new");
        };
        if answered {
            table.respond(Instant::ZERO, id, &table.reply(id, 200, "", "b").unwrap());
        }
        arrived(&mut table, Instant::ZERO, &asked, reply);
        assert_eq!(run(&mut table, Duration::from_secs(1)).len(), if answered { 2 } else { 0 });
        assert_eq!(table.next_timeout(), Some(Instant::from_millis(32_000)));
        run(&mut table, LIFE);
        assert_eq!(table.servers(), 0);
    }
}

#[test]
fn an_unanswered_invite_gets_its_100_once_and_again_when_it_is_repeated() {
    let mut table = table();
    let invite = request("INVITE", "z9hG4bK1");
    let reply = Reply::only(flow(Transport::Udp));
    arrived(&mut table, Instant::ZERO, &invite, reply);
    let sent = run(&mut table, LIFE);
    assert_eq!(sent, [(150, "SIP/2.0 100".to_owned())]);
    arrived(&mut table, Instant::from_millis(500), &invite, reply);
    assert_eq!(run(&mut table, LIFE).len(), 1);
}

#[test]
fn tables_have_ends_and_lost_connections_are_told() {
    let mut table = Table::new(Timing::default(), 2, 1);
    for n in 0..2 {
        table
            .start(Instant::ZERO, request("OPTIONS", &format!("z9hG4bK{n}")), flow(Transport::Tcp), n)
            .unwrap();
    }
    let more = table.start(Instant::ZERO, request("OPTIONS", "z9hG4bK9"), flow(Transport::Udp), 9);
    assert_eq!(more, Err(Full));
    let reply = Reply::only(flow(Transport::Udp));
    arrived(&mut table, Instant::ZERO, &request("OPTIONS", "z9hG4bKa"), reply);
    assert_eq!(arrived(&mut table, Instant::ZERO, &request("OPTIONS", "z9hG4bKb"), reply), Arrived::Full);
    table.flow_lost(&flow(Transport::Tcp));
    let told = run(&mut table, Duration::from_secs(1));
    assert_eq!(told.iter().filter(|(_, word)| word == "unreachable").count(), 2);
    assert_eq!(table.clients(), 0);
}
