//! Who is compared: what there is today, and the router.

use crate::backend::Prober;
use crate::cli::Global;
use crate::cluster::{Capability, ClusterSnapshot, Model, ModelName, Node, NodeKind};
use crate::cmd::ask::Asked;
use crate::cmd::running::Running;
use crate::cmd::{SEE_NODES, usage};
use crate::config::{Config, NodeConfig};
use crate::http::client::Origin;
use crate::live::{Form, Prompt, Side, Target};
use crate::measure::Policy;
use crate::render::Told;

use super::Args;

/// Both sides, ready to be asked.
pub(super) struct Setup {
    /// Today's side, then the routed one.
    pub(super) sides: [Side; 2],
    /// What they are.
    pub(super) today: String,
    pub(super) routed: String,
    /// The Ollamas behind them.
    pub(super) nodes: Vec<Origin>,
    /// Whether all other nodes hold their models for good.
    pub(super) watched: bool,
    /// Whether both sides' models take tools, as far as anybody says.
    pub(super) tools: bool,
    /// Whether all of it is on this machine, so that its GPUs do the work.
    pub(super) local: bool,
    pub(super) notes: Vec<String>,
    /// A router of our own; it ends with this.
    _own: Option<Asked>,
}

impl Setup {
    /// Finds them out.
    pub(super) fn of(
        global: &Global,
        args: &Args,
        config: Config,
        prompts: &[Prompt],
    ) -> anyhow::Result<Self> {
        let nodes = crate::cmd::nodes(&config);
        let snapshot = crate::backend::gather(&nodes);
        let (today, name) = today(args, &snapshot)?;
        let all_named = prompts.iter().all(|prompt| prompt.model.is_some());
        let model = model(args, &config, &today, all_named)?;
        if args.cpu {
            return on_cpu(&today, &model, args.model.is_some());
        }
        has_models(args, &today, prompts)?;
        let form = form(&today);
        let routed_model = args
            .routed_model
            .clone()
            .unwrap_or_else(|| virtual_model(&config, &model));
        let by_class = config.routing.routes_by_class(Some(&routed_model));
        let complex = config
            .routing
            .complex
            .as_ref()
            .map(|target| target.model.clone());
        let (router, own, which) = router(global, args, config)?;
        let mut behind: Vec<&Node> = snapshot.nodes.iter().map(AsRef::as_ref).collect();
        if !behind.iter().any(|node| node.url == today.url) {
            behind.push(&today);
        }
        let answers = if by_class {
            complex.unwrap_or_else(|| model.clone())
        } else {
            routed_model.clone()
        };
        let tools = takes_tools(&behind, &model) && takes_tools(&behind, &answers);
        let named = |model: &str, replaces: bool| {
            if all_named && !replaces {
                "the models that it names".to_owned()
            } else {
                model.to_owned()
            }
        };
        let usable = snapshot.usable().count();
        Ok(Self {
            today: format!(
                "{name} at {}, {}",
                today.url,
                named(&model, args.model.is_some())
            ),
            routed: format!(
                "gpurouter {which} before {}, {}",
                if usable == 1 {
                    "1 node".to_owned()
                } else {
                    format!("{usable} nodes")
                },
                named(&routed_model, args.routed_model.is_some())
            ),
            sides: [
                side(Policy::Today, &today.url, form, model, args.model.is_some())?,
                side(
                    Policy::Routed,
                    &router,
                    form,
                    routed_model,
                    args.routed_model.is_some(),
                )?,
            ],
            nodes: ollamas(&behind)?,
            watched: behind
                .iter()
                .all(|node| matches!(node.kind, Some(NodeKind::Ollama | NodeKind::LlamaServer))),
            tools,
            local: behind.iter().all(|node| is_local(&node.url)),
            notes: Vec::new(),
            _own: own,
        })
    }
}

/// The node's own CPU against its GPU.
fn on_cpu(node: &Node, model: &str, replaces: bool) -> anyhow::Result<Setup> {
    if node.kind != Some(NodeKind::Ollama) {
        return Err(usage(format!(
            "--cpu needs an Ollama; {} is none",
            node.url
        )));
    }
    let side = |policy, num_gpu| -> anyhow::Result<Side> {
        let side = side(policy, &node.url, Form::Ollama, model.to_owned(), replaces)?;
        Ok(Side {
            target: Target {
                num_gpu,
                ..side.target
            },
            ..side
        })
    };
    Ok(Setup {
        sides: [side(Policy::Today, Some(0))?, side(Policy::Routed, None)?],
        today: format!(
            "the CPU of {} at {} (num_gpu 0), {model}",
            node.name, node.url
        ),
        routed: format!("its GPU as the node itself uses it, {model}; no router"),
        nodes: ollamas(&[node])?,
        watched: true,
        tools: takes_tools(&[node], model),
        local: is_local(&node.url),
        notes: vec![
            "--cpu: TODAY is the CPU, ROUTED the GPU of the same node; no router is asked"
                .to_owned(),
        ],
        _own: None,
    })
}

fn side(
    policy: Policy,
    url: &str,
    form: Form,
    model: String,
    replaces: bool,
) -> anyhow::Result<Side> {
    let origin = Origin::parse(url).map_err(|error| usage(format!("`{url}`: {error}")))?;
    Ok(Side {
        policy,
        target: Target {
            origin,
            form,
            model,
            replaces,
            num_gpu: None,
        },
    })
}

/// Whether a model takes tools on every node that has it; a node that does not tell may.
fn takes_tools(nodes: &[&Node], model: &str) -> bool {
    let name = ModelName::new(model);
    let found = nodes.iter().filter_map(|node| node.model(&name));
    found.into_iter().all(|model| {
        model.capabilities.is_empty() || model.capabilities.contains(&Capability::Tools)
    })
}

/// What there is today, and what it is called.
fn today(args: &Args, snapshot: &ClusterSnapshot) -> anyhow::Result<(Node, String)> {
    let Some(named) = &args.today else {
        let wanted =
            |node: &&std::sync::Arc<Node>| !args.cpu || node.kind == Some(NodeKind::Ollama);
        let node = snapshot
            .usable()
            .find(wanted)
            .ok_or_else(|| no_node(snapshot))?;
        return Ok((node.as_ref().clone(), format!("node {}", node.name)));
    };
    let (url, name) = match named.rsplit_once('=') {
        Some((url, name)) if !name.is_empty() => (url, name.to_owned()),
        _ => (named.as_str(), String::new()),
    };
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let config = NodeConfig {
        name: if name.is_empty() {
            url.clone()
        } else {
            name.clone()
        },
        url: url.trim_end_matches('/').to_owned(),
        kind: None,
        role: crate::cluster::Role::Any,
        gpu: None,
        vram_bytes: None,
    };
    Origin::parse(&config.url).map_err(|error| usage(format!("--today {url}: {error}")))?;
    let node = Prober::new().probe(&config, &Node::unseen(&config.name, &config.url));
    if !node.state.usable() {
        let cause = node.cause.as_deref().unwrap_or("it does not answer");
        return Err(Told::unreachable(format!("--today {url}: {cause}")).into());
    }
    let name = match (name.is_empty(), node.kind) {
        (false, _) => name,
        (true, Some(kind)) => kind.as_str().to_owned(),
        (true, None) => "a server".to_owned(),
    };
    Ok((node, name))
}

pub(in crate::cmd::bench) fn no_node(snapshot: &ClusterSnapshot) -> Told {
    let told = match snapshot.nodes.first() {
        None => Told::unreachable("no node is configured and none was found on this machine"),
        Some(node) => Told::unreachable(format!(
            "no node answers: {} at {}: {}",
            node.name,
            node.url,
            node.cause.as_deref().unwrap_or("it is not up")
        )),
    };
    told.hint(SEE_NODES)
}

/// The model that the user has there today.
fn model(args: &Args, config: &Config, node: &Node, all_named: bool) -> anyhow::Result<String> {
    if let Some(model) = &args.model {
        return Ok(model.clone());
    }
    let model = usual_model(config, node).map(|model| model.id.clone());
    match model {
        Some(model) => Ok(model),
        None if all_named => Ok(String::new()),
        None => Err(Told::usage(format!(
            "{} at {} lists no model for text",
            node.name, node.url
        ))
        .hint("name one with --model M")
        .into()),
    }
}

/// Among a node's models the one in memory, else the configured one for complex work, else the largest.
pub(in crate::cmd::bench) fn usual_model<'a>(config: &Config, node: &'a Node) -> Option<&'a Model> {
    let writes = |model: &&Model| {
        !model.embeds_only()
            && (model.capabilities.is_empty()
                || model.capabilities.contains(&Capability::Completion))
    };
    let resident = node
        .models
        .iter()
        .filter(writes)
        .find(|model| node.resident(model).is_some());
    let configured = || {
        let name = ModelName::new(&config.routing.complex.as_ref()?.model);
        node.models
            .iter()
            .filter(writes)
            .find(|model| model.name == name)
    };
    let largest = || {
        node.models
            .iter()
            .filter(writes)
            .max_by_key(|model| model.size_bytes)
    };
    resident.or_else(configured).or_else(largest)
}

/// Whether what there is today can be asked for the models that the requests name; failing at each of them would be no comparison.
fn has_models(args: &Args, node: &Node, prompts: &[Prompt]) -> anyhow::Result<()> {
    if args.model.is_some() || node.models.is_empty() {
        return Ok(());
    }
    let named = prompts.iter().filter_map(|prompt| prompt.model.as_deref());
    match named
        .into_iter()
        .find(|name| node.model(&ModelName::new(name)).is_none())
    {
        None => Ok(()),
        Some(model) => Err(Told::usage(format!(
            "{} at {} has no model `{model}`, which requests name",
            node.name, node.url
        ))
        .hint("--model M stands in for every model there; --today URL names another place")
        .into()),
    }
}

/// The name that makes the router choose by class; where none does, today's own model.
fn virtual_model(config: &Config, model: &str) -> String {
    let first = config.routing.virtual_models.first();
    match first.map(String::as_str) {
        Some("*") | None => model.to_owned(),
        Some(name) => name.to_owned(),
    }
}

type Routed = (String, Option<Asked>, String);

/// The router: the one that is named, the running one, or one for this run.
pub(super) fn router(global: &Global, args: &Args, config: Config) -> anyhow::Result<Routed> {
    if let Some(url) = &args.routed {
        let health = Running::at(url)?.get("/health");
        let router = health.is_ok_and(|health| health.contains("\"gpu_pool_status\""));
        if !router {
            return Err(
                Told::unreachable(format!("--routed {url}: no gpurouter answers there")).into(),
            );
        }
        return Ok((
            url.trim_end_matches('/').to_owned(),
            None,
            format!("at {url}"),
        ));
    }
    if let Some(running) = Running::find(global, &config) {
        let url = running.base().to_owned();
        return Ok((url.clone(), None, format!("running at {url}")));
    }
    let own = Asked::start(config, global.verbose)?;
    let url = own.router.base().to_owned();
    Ok((url, Some(own), "started for this run".to_owned()))
}

fn form(node: &Node) -> Form {
    match node.kind {
        Some(NodeKind::Ollama) => Form::Ollama,
        _ => Form::OpenAi,
    }
}

fn ollamas(nodes: &[&Node]) -> anyhow::Result<Vec<Origin>> {
    nodes
        .iter()
        .filter(|node| node.kind == Some(NodeKind::Ollama) && node.state.usable())
        .map(|node| {
            Origin::parse(&node.url).map_err(|error| usage(format!("`{}`: {error}", node.url)))
        })
        .collect()
}

/// Whether an address is this machine's.
fn is_local(url: &str) -> bool {
    Origin::parse(url).is_ok_and(|origin| {
        let host = origin.host().trim_matches(['[', ']']);
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}
