//! Requests that are about nodes rather than about an answer: unload, copy and delete on every node that holds a model; pull, push,
//! create and blobs on one; and whatever else an API has, passed on.

use std::sync::Arc;

use super::exchange::Exchange;
use super::record::Outcome;
use super::relay::{self, Upstream};
use super::trouble;
use crate::cluster::{ModelName, Node, Role};
use crate::config::LogLevel;
use crate::dialect::{
    ApiError, Dialect, Edit, ErrorKind, Parsed, keep_request_header, multipart_model, parse,
    show_of, show_virtual,
};
use crate::http::client::{Deadlines, Incoming, Outgoing, OutgoingBody, ReadError, SendError};
use crate::http::headers::Headers;
use crate::routing::{Candidate, Predicted};

/// Most bytes of an answer that is read here instead of being relayed.
const MOST_ANSWER: usize = 1024 * 1024;

/// Sends an unload to every node that holds the model; false when none does, so that the request goes the usual way.
pub(super) fn unload(x: &mut Exchange<'_, '_>, parsed: &Parsed<'_>, body: &[u8]) -> bool {
    let Some(name) = parsed.model().map(ModelName::new) else {
        return false;
    };
    let snapshot = x.router.snapshot();
    let holding: Vec<Arc<Node>> = snapshot
        .usable()
        .filter(|node| node.native.ollama && node.loaded(&name).is_some())
        .map(Arc::clone)
        .collect();
    if holding.is_empty() {
        return false;
    }
    "unload_everywhere".clone_into(&mut x.draft.record.reason);
    everywhere(x, &holding, body, &name);
    true
}

/// Copy and delete: on every node that has the model.
pub(super) fn on_every_holder(x: &mut Exchange<'_, '_>) {
    let Some(body) = read(x) else { return };
    let Some(written) = required_model(x, &body) else {
        return;
    };
    x.draft.record.requested_model = Some(written.clone());
    let name = ModelName::new(&written);
    let snapshot = x.router.snapshot();
    let holding: Vec<Arc<Node>> = snapshot
        .usable()
        .filter(|node| node.native.ollama && node.model(&name).is_some())
        .map(Arc::clone)
        .collect();
    told_who_asked(x, &written, &holding);
    if holding.is_empty() {
        return x.tell(&ApiError::model_not_found(&written, None), Outcome::Refused);
    }
    "on_every_holder".clone_into(&mut x.draft.record.reason);
    everywhere(x, &holding, &body, &name);
}

/// The same request to each of the nodes; the first failure is the answer, else the first success.
fn everywhere(x: &mut Exchange<'_, '_>, nodes: &[Arc<Node>], body: &[u8], name: &ModelName) {
    let mut answers: Vec<(u16, String, Vec<u8>)> = Vec::new();
    for node in nodes {
        x.trying(&candidate_for(node, name));
        let answer = match send(x, node, Some(body)) {
            Ok(mut incoming) => {
                let content_type = incoming
                    .headers()
                    .get_str("content-type")
                    .unwrap_or("")
                    .to_owned();
                let status = incoming.status();
                match read_all(x, &mut incoming) {
                    Ok(body) => (status, content_type, body),
                    Err(ReadError::ClientGone) => return x.client_left(),
                    Err(error) => {
                        let error = trouble::of_read(node, Some(&error));
                        (
                            error.status,
                            error.content_type(x.dialect).to_owned(),
                            error.body(x.dialect, &x.draft.record.id),
                        )
                    }
                }
            }
            Err(SendError::ClientGone) => return x.client_left(),
            Err(error) => {
                x.router.observe_failure(node, &error);
                let error = trouble::of_send(node, &error);
                (
                    error.status,
                    "application/json".to_owned(),
                    error.body(x.dialect, &x.draft.record.id),
                )
            }
        };
        x.router.poke(&node.name);
        answers.push(answer);
    }
    let nodes: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    x.draft.record.node = Some(nodes.join(","));
    let worst = answers
        .iter()
        .position(|(status, _, _)| *status >= 400)
        .unwrap_or(0);
    if let Some((status, content_type, body)) = answers.into_iter().nth(worst) {
        if status >= 400 {
            x.draft.record.outcome = Outcome::UpstreamError;
        }
        x.answer(status, &content_type, &body);
    }
}

/// Pull, push and create: on the node the client names, else on one that has the model, else on the main one.
pub(super) fn on_one_node(x: &mut Exchange<'_, '_>) {
    let Some(body) = read(x) else { return };
    let Some(written) = required_model(x, &body).map(Some) else {
        return;
    };
    x.draft.record.requested_model.clone_from(&written);
    let name = written.as_deref().map(ModelName::new);
    let from = from_model(&body);
    let Some(node) = choose(x, name.as_ref(), from.as_ref()) else {
        return;
    };
    told_who_asked(
        x,
        written.as_deref().unwrap_or("?"),
        std::slice::from_ref(&node),
    );
    pass(x, &node, Some(&body), &name.unwrap_or_default());
    x.router.poke(&node.name);
}

/// Blobs: raw bytes, gigabytes of them, to the node that the later create goes to.
pub(super) fn blob(x: &mut Exchange<'_, '_>) {
    let Some(node) = choose(x, None, None) else {
        return;
    };
    let upload = x.request.method() == "POST";
    if !upload {
        return pass(x, &node, None, &ModelName::default());
    }
    told_who_asked(x, "blob", std::slice::from_ref(&node));
    x.trying(&candidate_for(&node, &ModelName::default()));
    let length = x.request.content_length();
    let origin = match x.router.origin(&node.url) {
        Ok(origin) => origin,
        Err(error) => return answer_from(x, &node, Err(error), &ModelName::default()),
    };
    let deadlines = patient(x);
    let fields = forwarded(x.request.headers());
    let (method, target) = (x.request.method(), x.request.target());
    let watch = x.reply.watch();
    let mut reader = x.request.body_reader();
    let body = OutgoingBody::Stream {
        reader: &mut reader,
        length,
    };
    let sent = x.router.client.send(
        &origin,
        Outgoing {
            method,
            target,
            headers: &fields,
            body,
        },
        &deadlines,
        Some(watch),
    );
    answer_from(x, &node, sent, &ModelName::default());
}

/// What the API has besides: on the node that has the named model, else on the first that speaks the API.
pub(super) fn other(x: &mut Exchange<'_, '_>, dialect: Dialect) {
    let Some(body) = read(x) else { return };
    let content_type = x
        .request
        .headers()
        .get_str("content-type")
        .unwrap_or("")
        .to_owned();
    let written = multipart_model(&content_type, &body)
        .map(|(model, _)| model.to_owned())
        .or_else(|| parse(&x.endpoint, &body).ok()?.model().map(str::to_owned));
    x.draft.record.requested_model.clone_from(&written);
    let name = written.as_deref().map(ModelName::new);
    let snapshot = x.router.snapshot();
    let speaks = |node: &&Arc<Node>| dialect != Dialect::Ollama || node.native.ollama;
    let holder = name
        .as_ref()
        .and_then(|name| snapshot.usable().find(|node| node.model(name).is_some()));
    let Some(node) = holder
        .or_else(|| snapshot.usable().find(speaks))
        .map(Arc::clone)
    else {
        return x.tell(
            &ApiError::new(ErrorKind::Upstream, "no node that is up answers this path"),
            Outcome::UpstreamError,
        );
    };
    "passed_through".clone_into(&mut x.draft.record.reason);
    pass(x, &node, Some(&body), &name.unwrap_or_default());
}

/// `/api/show`: the node's own answer, or one put together for nodes that have no such route.
pub(super) fn show(x: &mut Exchange<'_, '_>) {
    let Some(body) = read(x) else { return };
    let Some(written) = required_model(x, &body) else {
        return;
    };
    x.draft.record.requested_model = Some(written.clone());
    let policy = &x.router.config.routing;
    let real = policy.alias(&written).unwrap_or(&written).to_owned();
    let name = ModelName::new(&real);
    let snapshot = x.router.snapshot();
    if let Some(body) = show_virtual(&snapshot, policy, &written)
        .filter(|_| !snapshot.usable().any(|node| node.model(&name).is_some()))
    {
        return x.answer(200, "application/json; charset=utf-8", &body);
    }
    let holding = |ollama: bool| {
        snapshot
            .usable()
            .find(|node| node.native.ollama == ollama && node.model(&name).is_some())
            .map(Arc::clone)
    };
    if let Some(node) = holding(true) {
        let id = node
            .model(&name)
            .map_or(real.clone(), |model| model.id.clone());
        let body = if real == written {
            body
        } else {
            renamed(x, &body, &id)
        };
        "has_the_model".clone_into(&mut x.draft.record.reason);
        return pass(x, &node, Some(&body), &name);
    }
    let Some(node) = holding(false) else {
        return x.tell(&ApiError::model_not_found(&written, None), Outcome::Refused);
    };
    if let Some(model) = node.model(&name) {
        let props = x.router.props(&node, model);
        let body = show_of(&node, model, props.as_deref());
        "put_together_here".clone_into(&mut x.draft.record.reason);
        x.answer(200, "application/json; charset=utf-8", &body);
    }
}

/// The node for a change: the one the client names (`X-Gpurouter-Node` or `?node=`), one that has the model, or the main one.
fn choose(
    x: &mut Exchange<'_, '_>,
    name: Option<&ModelName>,
    from: Option<&ModelName>,
) -> Option<Arc<Node>> {
    let asked = x
        .request
        .headers()
        .get_str("x-gpurouter-node")
        .or_else(|| {
            x.request
                .query()
                .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("node=")))
        })
        .map(str::to_owned);
    let snapshot = x.router.snapshot();
    let ollamas: Vec<&Arc<Node>> = snapshot
        .usable()
        .filter(|node| node.native.ollama)
        .collect();
    let found = if let Some(asked) = &asked {
        ollamas.iter().find(|node| node.name == *asked)
    } else {
        let has = |name: &&ModelName| ollamas.iter().find(|node| node.model(name).is_some());
        name.as_ref()
            .and_then(has)
            .or_else(|| from.as_ref().and_then(has))
            .or_else(|| ollamas.iter().find(|node| node.role == Role::Main))
            .or_else(|| ollamas.first())
    };
    let found = found.map(|node| Arc::clone(node));
    if found.is_none() {
        let text = match asked {
            Some(asked) => format!(
                "no Ollama node named `{}` is up",
                super::exchange::header_safe(&asked)
            ),
            None => "no Ollama node is up".to_owned(),
        };
        x.tell(
            &ApiError::new(ErrorKind::Upstream, text),
            Outcome::UpstreamError,
        );
    } else if x.draft.record.reason.is_empty() {
        if asked.is_some() {
            "node_named_by_client"
        } else {
            "changes_this_node"
        }
        .clone_into(&mut x.draft.record.reason);
    }
    found
}

/// Says in the log who changes a node.
fn told_who_asked(x: &Exchange<'_, '_>, what: &str, nodes: &[Arc<Node>]) {
    let nodes: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let record = &x.draft.record;
    let text = format!(
        "{} {} of `{}` on {} asked by {}",
        x.request.method(),
        record.path,
        super::exchange::header_safe(what),
        nodes.join(","),
        record.client
    );
    x.router.log.event(LogLevel::Warning, &text);
}

/// The model that the body names; tells the error and returns `None` when it names none.
fn required_model(x: &mut Exchange<'_, '_>, body: &[u8]) -> Option<String> {
    let endpoint = x.endpoint.clone();
    let named = parse(&endpoint, body).and_then(|parsed| {
        parsed
            .model()
            .map(str::to_owned)
            .ok_or_else(ApiError::model_required)
    });
    named.map_err(|error| x.tell(&error, Outcome::Refused)).ok()
}

/// The body with another model's name in it.
fn renamed(x: &Exchange<'_, '_>, body: &[u8], id: &str) -> Vec<u8> {
    match parse(&x.endpoint, body) {
        Ok(parsed) => parsed.edited(&[Edit::Model(id)]).into_owned(),
        Err(_) => body.to_vec(),
    }
}

/// The model that a create starts from.
fn from_model(body: &[u8]) -> Option<ModelName> {
    #[derive(serde::Deserialize)]
    struct Create {
        from: String,
    }
    serde_json::from_slice::<Create>(body)
        .ok()
        .map(|create| ModelName::new(&create.from))
}

fn read(x: &mut Exchange<'_, '_>) -> Option<Vec<u8>> {
    match x.request.read_body() {
        Ok(body) => Some(body),
        Err(error) => {
            super::local::body_error(x, &error);
            None
        }
    }
}

fn candidate_for(node: &Node, name: &ModelName) -> Candidate {
    let model = node
        .model(name)
        .map_or_else(|| name.as_str().to_owned(), |model| model.id.clone());
    Candidate {
        node: node.name.clone(),
        model,
        admitted: true,
        predicted: Predicted::default(),
        reason: "only_candidate",
        resident: false,
        costs_others: false,
    }
}

/// Passes the request on as it is, and the answer back.
fn pass(x: &mut Exchange<'_, '_>, node: &Node, body: Option<&[u8]>, name: &ModelName) {
    x.trying(&candidate_for(node, name));
    let sent = send(x, node, body);
    answer_from(x, node, sent, name);
}

fn answer_from(
    x: &mut Exchange<'_, '_>,
    node: &Node,
    sent: Result<Incoming, SendError>,
    name: &ModelName,
) {
    match sent {
        Ok(incoming) => {
            let candidate = candidate_for(node, name);
            relay::relay(
                x,
                Upstream {
                    incoming,
                    node,
                    candidate: &candidate,
                    translator: None,
                    stream: false,
                },
            );
        }
        Err(SendError::ClientGone) => x.client_left(),
        Err(error) => {
            x.router.observe_failure(node, &error);
            x.tell(&trouble::of_send(node, &error), Outcome::UpstreamError);
        }
    }
}

/// A pull may be silent for long: changes have the limits of a load.
fn patient(x: &Exchange<'_, '_>) -> Deadlines {
    let timeouts = &x.router.config.timeouts;
    Deadlines {
        connect: timeouts.connect,
        first_byte: timeouts.load,
        between: timeouts.load,
        total: timeouts.total,
    }
}

/// The client's fields that go to the node.
fn forwarded(headers: &Headers) -> Vec<(&str, &[u8])> {
    let connection = headers.get_str("connection");
    headers
        .iter()
        .filter(|(name, _)| keep_request_header(name, connection))
        .collect()
}

fn send(x: &mut Exchange<'_, '_>, node: &Node, body: Option<&[u8]>) -> Result<Incoming, SendError> {
    let origin = x.router.origin(&node.url)?;
    let deadlines = patient(x);
    let fields = forwarded(x.request.headers());
    let outgoing = Outgoing {
        method: x.request.method(),
        target: x.request.target(),
        headers: &fields,
        body: body.map_or(OutgoingBody::Empty, OutgoingBody::Bytes),
    };
    x.router
        .client
        .send(&origin, outgoing, &deadlines, Some(x.reply.watch()))
}

/// The whole of a short answer; a cut one is an error, never a short body.
fn read_all(x: &mut Exchange<'_, '_>, incoming: &mut Incoming) -> Result<Vec<u8>, ReadError> {
    incoming.read_all(MOST_ANSWER, Some(x.reply.watch()))
}
