//! Every route of the API, once: the router is made of these, and the table of who may do what
//! (`api/matrix.rs`) has a row for each.

use axum::http::Method;
use axum::routing::{MethodRouter, get, post};

use super::{ClientApi, commands, dial, entry, events, registrations, slides};

/// One route.
pub(super) struct Route {
    /// How it is asked.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what serves it says so too; the table needs it in words")
    )]
    pub(super) method: Method,
    /// Below its prefix. `{command}` stands for each of a list.
    pub(super) path: &'static str,
    /// What serves it.
    pub(super) serve: fn() -> MethodRouter<ClientApi>,
}

const fn read(path: &'static str, serve: fn() -> MethodRouter<ClientApi>) -> Route {
    Route { method: Method::GET, path, serve }
}

const fn ask(path: &'static str, serve: fn() -> MethodRouter<ClientApi>) -> Route {
    Route { method: Method::POST, path, serve }
}

/// Where conferences are.
pub(super) const CONFERENCES: &str = "/api/client/v2/conferences/{alias}";

/// Where registrations are.
pub(super) const REGISTRATIONS: &str = "/api/client/v2/registrations/{alias}";

/// Of the gateway itself.
pub(super) const NODE: [Route; 2] = [
    read("/api/client/v2/status", || get(commands::status)),
    read("/api/client/v2/registrations", || get(registrations::directory)),
];

/// Below [`REGISTRATIONS`].
pub(super) const REGISTRATION: [Route; 5] = [
    ask("/request_token", || post(registrations::request_token)),
    ask("/refresh_token", || post(registrations::refresh_token)),
    ask("/release_token", || post(registrations::release_token)),
    read("/events", || get(registrations::events)),
    read("/avatar.jpg", || get(registrations::avatar)),
];

/// Below [`CONFERENCES`].
pub(super) const CONFERENCE: [Route; 21] = [
    ask("/request_token", || post(entry::request_token)),
    ask("/refresh_token", || post(entry::refresh_token)),
    ask("/release_token", || post(entry::release_token)),
    read("/events", || get(events::events)),
    read("/participants", || get(commands::participants)),
    read("/conference_status", || get(commands::conference_status)),
    read("/theme/", || get(commands::theme)),
    read("/available_layouts", || get(commands::available_layouts)),
    read("/layout_svgs", || get(commands::layout_svgs)),
    ask("/dial", || post(dial::dial)),
    // Reads its body itself, with a limit of its own.
    ask("/presentation", || post(slides::upload)),
    read("/presentation.jpeg", || get(slides::still)),
    read("/presentation_high.jpeg", || get(slides::still)),
    ask("/message", || post(commands::message)),
    ask("/transform_layout", || post(commands::transform_layout)),
    ask("/{command}", || post(commands::conference)),
    read("/participants/{uuid}/avatar.jpg", || get(commands::avatar)),
    ask("/participants/{uuid}/message", || post(commands::direct_message)),
    ask("/participants/{uuid}/{command}", || post(commands::participant)),
    ask("/participants/{uuid}/calls", || post(commands::calls)),
    ask("/participants/{uuid}/calls/{*rest}", || post(commands::calls)),
];

/// Method and path of every route, with each command of a list written out; those of a conference
/// without [`CONFERENCES`].
#[cfg(test)]
pub(in crate::api) fn written_out() -> Vec<String> {
    let conference = CONFERENCE.into_iter().flat_map(|route| {
        let commands: &[&str] = match route.path {
            "/{command}" => &commands::OF_A_CONFERENCE,
            "/participants/{uuid}/{command}" => &commands::OF_A_PARTICIPANT,
            _ => &[""],
        };
        let written =
            |command: &&str| format!("{} {}", route.method, route.path.replace("{command}", command));
        commands.iter().map(written).collect::<Vec<_>>()
    });
    let node = NODE.into_iter().map(|it| format!("{} {}", it.method, it.path));
    let registration = REGISTRATION.into_iter().map(|it| format!("{} {REGISTRATIONS}{}", it.method, it.path));
    node.chain(registration).chain(conference).collect()
}
