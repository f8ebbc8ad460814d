//! Calls to who has registered through proxies (RFC 3327 section 5.4).

use super::*;

fn call(rig: &Rig, flow: Option<&str>, path: &[&str]) -> Leg {
    let to = Address {
        uri: "sip:bob@10.1.1.9:5070".to_owned(),
        flow: flow.map(str::to_owned),
        device: Some("bob".to_owned()),
        translated: false,
        path: path.iter().map(|it| (*it).to_owned()).collect(),
        trunk: None,
        proxy: None,
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
