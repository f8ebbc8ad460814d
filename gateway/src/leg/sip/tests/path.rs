//! Calls to who has registered through proxies (RFC 3327 section 5.4).

use super::*;

fn call(rig: &Rig, flow: Option<&str>, path: &[&str]) -> Leg {
    let to = Address {
        flow: flow.map(str::to_owned),
        device: Some("bob".to_owned()),
        path: path.iter().map(|it| (*it).to_owned()).collect(),
        ..Address::at("sip:bob@10.1.1.9:5070")
    };
    let from = Caller { address: "alice".to_owned(), name: String::new(), hops: 70, venue: None };
    rig.legs.dial(&to, &from, sound(Direction::SendRecv), None).unwrap()
}

const PATH: [&str; 2] = ["<sip:proxy.example:5080;lr>", "<sip:core.example;lr>"];

#[tokio::test(start_paused = true)]
async fn a_call_goes_over_the_flow_of_the_registration_and_names_its_proxies() {
    let mut rig = Rig::new(LO);
    let flow = "udp 127.0.0.1:5060 192.0.2.77:5060";
    let _leg = call(&rig, Some(flow), &PATH);
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    assert_eq!(invite.target.to_string(), "sip:bob@10.1.1.9:5070");
    let routes: Vec<_> = invite.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, PATH);
    // Whatever the path says, it goes where the registration came from.
    assert_eq!(invite.destination, Destination::Flow(flow.parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn without_that_flow_it_goes_to_the_nearest_of_them() {
    let mut rig = Rig::new(LO);
    let _leg = call(&rig, None, &PATH);
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    let Destination::Address { address, .. } = invite.destination else { panic!("no address") };
    assert_eq!(address, SocketAddr::new(PROXY, 5080));
    assert_eq!(invite.routes.len(), 2);
    // What was looked at when it was registered is not looked at again.
    let _leg = call(&rig, None, &["<sip:127.0.0.1:5080;lr>"]);
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    let Destination::Address { address, .. } = invite.destination else { panic!("no address") };
    assert_eq!(address, SocketAddr::new(LO, 5080));
}

/// By a name that leads to another address than when it registered.
#[tokio::test(start_paused = true)]
async fn promise_34_no_name_in_a_path_leads_to_a_forbidden_address() {
    let mut rig = Rig::new(LO);
    let mut leg = call(&rig, None, &["<sip:hidden.example:22;lr>"]);
    let told = tokio::time::timeout(Duration::from_secs(5), leg.events.recv()).await;
    let Ok(Some(LegEvent::Ended(cause))) = told else { panic!("it goes on: {told:?}") };
    assert_eq!(cause, Cause::local(Reason::Unreachable));
    assert!(rig.machine.try_recv().is_err(), "nothing is sent");
}

/// Bob by the flow from that port.
fn flow(transport: &str, port: u16, instead: Vec<Address>) -> Address {
    let flow = match transport {
        "udp" => format!("udp 127.0.0.1:5060 127.0.0.1:{port}"),
        other => format!("{other} 127.0.0.1:5060 127.0.0.1:{port} 4"),
    };
    let (flow, device) = (Some(flow), Some("bob".to_owned()));
    Address {
        flow,
        device,
        instead,
        ..Address::at(format!("sip:bob@127.0.0.1:{port};transport={transport}"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_flow_is_gone_is_called_by_its_others_and_then_by_none() {
    let mut rig = Rig::new(LO);
    let edge = Address { path: vec![PATH[0].to_owned()], ..flow("udp", 5072, Vec::new()) };
    let to = flow("udp", 5070, vec![flow("tcp", 5071, Vec::new()), edge]);
    let from = Caller { address: "alice".to_owned(), name: String::new(), hops: 70, venue: None };
    let mut leg = rig.legs.dial(&to, &from, sound(Direction::SendRecv), None).unwrap();
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    assert!(invite.elsewhere);
    let call = invite.call;
    for (port, transport, routes, more) in [(5071, "tcp", 0, true), (5072, "udp", 1, false)] {
        rig.legs.deliver(Event::Unreached { call, how: How::FlowFailed, pause: None });
        let Command::Elsewhere(next) = rig.asked().await else { panic!("it goes nowhere") };
        let Destination::Flow(by) = next.destination else { panic!("no flow") };
        assert_eq!((by.remote().port(), next.elsewhere), (port, more));
        let (target, by_proxies) = next.target.unwrap();
        assert_eq!(target.to_string(), format!("sip:bob@127.0.0.1:{port};transport={transport}"));
        assert_eq!(by_proxies.len(), routes);
        assert_eq!(Sdp::parse(&next.body.unwrap().data).unwrap().media.len(), 1);
    }
    let ending = Box::new(Ending {
        by: By::Network,
        how: How::FlowFailed,
        status: None,
        phrase: String::new(),
        reason: None,
        contacts: Vec::new(),
    });
    rig.legs.deliver(Event::Ended { call, ending });
    let told = tokio::time::timeout(Duration::from_secs(5), leg.events.recv()).await.unwrap();
    let Some(LegEvent::Ended(cause)) = told else { panic!("{told:?}") };
    assert_eq!(cause, Cause::local(Reason::FlowFailed));
    assert_eq!((cause::to_status(cause.reason), cause.reason.word()), (480, "flow-failed"));
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_for_an_encrypted_flow_never_go_by_another() {
    let mut rig = Rig::new(LO);
    let to = flow("wss", 5070, vec![flow("ws", 5071, Vec::new()), flow("udp", 5072, Vec::new())]);
    let from = Caller { address: "alice".to_owned(), name: String::new(), hops: 70, venue: None };
    let _leg = rig.legs.dial(&to, &from, sound(Direction::SendRecv), None).unwrap();
    let Command::Invite(invite) = rig.asked().await else { panic!("no INVITE") };
    assert!(!invite.elsewhere);
}
