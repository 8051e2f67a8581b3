//! The running router: shared state, connection handling, the relay, the monitor's results, and the router's own routes.

mod asked;
mod attempt;
mod describe;
mod early;
mod exchange;
mod forward;
mod gate;
mod gpus;
mod guard;
mod health;
mod kept;
mod local;
mod log;
mod measure;
mod metrics;
mod optimize;
mod reading;
mod record;
mod relay;
mod reserve;
mod ring;
mod spread;
mod status;
mod trace;
mod trouble;
mod watch;
mod wording;

pub use gpus::GpuStatus;
pub use kept::{Kept, KeptNode};
pub use local::RouteDocument;
pub use log::{Log, LogFormat};
pub use record::{Outcome, RequestRecord};
pub use reserve::{Reservation, Reservations};
pub use status::{Status, Warning};
pub use trace::TraceWriter;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::backend::{self, Monitor, Prober};
use crate::cluster::{ClusterSnapshot, Model, ModelName, Node, NodeState};
use crate::config::{Config, LogLevel, NodeConfig};
use crate::dialect::{self, ApiError, Dialect, Endpoint, ErrorKind, Usage};
use crate::gpu::{self, Sampler};
use crate::http::client::{Client, Origin, SendError};
use crate::http::server::{Handler, Limits, Refusal, Refused, Reply, Request, Server, Stopper};
use crate::routing::{Candidate, NodeLoad, RequestFacts, Speeds};
use asked::Asked;
use exchange::Exchange;
use guard::HostRule;
use record::Outcome as Ended;

/// How long the start waits for the first look at the nodes, so that the first request finds them.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// How much longer it waits for the first look at the GPUs: nothing is refused without it.
const FIRST_GPU_LOOK: Duration = Duration::from_secs(1);
/// How long running requests may take to end after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(30);

/// The state that every connection thread shares.
#[derive(Debug)]
pub struct Router {
    config: Config,
    snapshot: Mutex<Arc<ClusterSnapshot>>,
    gates: gate::Gates,
    measurements: measure::Measurements,
    metrics: metrics::Metrics,
    watch: watch::Watch,
    ring: ring::Ring,
    client: Client,
    prober: Arc<Prober>,
    origins: Mutex<HashMap<String, Arc<Origin>>>,
    monitor: OnceLock<Monitor>,
    gpus: Sampler,
    optimizer: optimize::Optimizer,
    describer: describe::Describer,
    /// Memory that is promised to loads which are under way.
    reservations: Arc<Reservations>,
    /// The load for requests that is under way at a node: its number there, its model, and its memory until the node lists it.
    promised: Mutex<HashMap<String, (u64, ModelName, Reservation)>>,
    hosts: HostRule,
    log: Log,
    ids: AtomicU64,
    stopper: Stopper,
    trace: OnceLock<TraceWriter>,
}

/// A router that is bound and whose nodes have been looked at, before it serves.
#[derive(Debug)]
pub struct Bound {
    router: Arc<Router>,
    server: Server,
}

impl Bound {
    /// Binds the listen address, starts to look at nodes and GPUs, and waits a bounded time for the first look at each.
    ///
    /// # Errors
    /// The address cannot be bound, or the control plane cannot be set up.
    pub fn new(
        config: Config,
        nodes: &[NodeConfig],
        gpus: &gpu::Settings,
        log: Log,
    ) -> io::Result<Self> {
        crate::http::raise_file_limit();
        let limits = Limits {
            max_connections: config.admission.max_connections,
            max_body: config.security.max_body,
            drain: DRAIN,
            ..Limits::default()
        };
        let server = Server::bind(&config.listen, limits)?;
        let unseen = nodes.iter().map(|node| Arc::new(unseen(node))).collect();
        let interval = config
            .gpu
            .monitoring
            .then_some(config.gpu.monitoring_interval);
        let gpus = Sampler::start(gpus, interval, gpus::logging(log, nodes))?;
        let hosts = HostRule::new(&config.security.hosts, own_name());
        let prober = Arc::new(Prober::new());
        let loader = gate::Loader::new(Arc::clone(&prober), config.timeouts.load, log);
        let loader = Arc::new(loader);
        let router = Arc::new(Router {
            snapshot: Mutex::new(Arc::new(ClusterSnapshot { nodes: unseen })),
            gates: gate::Gates::new(
                gate::Rules::of(&config),
                optimize::pins(&config, None),
                Arc::clone(&loader),
            ),
            measurements: measure::Measurements::default(),
            metrics: metrics::Metrics::default(),
            watch: watch::Watch::default(),
            ring: ring::Ring::default(),
            client: Client::new().map_err(io::Error::other)?,
            optimizer: optimize::Optimizer::new(Arc::clone(&prober)),
            describer: describe::Describer::default(),
            reservations: Arc::default(),
            promised: Mutex::default(),
            prober,
            origins: Mutex::new(HashMap::new()),
            monitor: OnceLock::new(),
            gpus,
            hosts,
            log,
            ids: AtomicU64::new(first_id()),
            stopper: server.stopper(),
            trace: OnceLock::new(),
            config,
        });
        loader.tell(&router);
        let shared = Arc::clone(&router);
        let on_change: backend::OnChange = Arc::new(move |node, began| shared.replace(node, began));
        let rediscovery = router.rediscovery(server.local_addr());
        let monitor = Monitor::start(
            Arc::clone(&router.prober),
            nodes,
            backend::POLL_INTERVAL,
            rediscovery,
            on_change,
        )?;
        router.monitor.get_or_init(|| monitor);
        router.wait_for_first_look();
        router.gpus.wait_for_first(FIRST_GPU_LOOK);
        router.measure_memory();
        watch::start(&router)?;
        describe::start(&router)?;
        Ok(Self { router, server })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Stops it from another thread: no new requests, running ones end, then [`Self::serve`] returns.
    pub fn stopper(&self) -> Stopper {
        self.server.stopper()
    }

    /// Records every request that a model answers from now on.
    pub fn record(&self, trace: TraceWriter) {
        self.router.trace.get_or_init(|| trace);
    }

    /// Serves until it is stopped; returns the number of connections that had to be left behind.
    ///
    /// # Errors
    /// The listener cannot be watched.
    pub fn serve(self) -> io::Result<usize> {
        optimize::start(&self.router)?;
        let left = self.server.run(Arc::clone(&self.router))?.cut;
        self.router.optimizer.stop();
        self.router.describer.stop();
        if let Some(monitor) = self.router.monitor.get() {
            monitor.stop();
        }
        self.router.gpus.stop();
        if let Some(trace) = self.router.trace.get() {
            trace.finish(self.router.log);
        }
        self.router.watch.stop();
        Ok(left)
    }
}

fn unseen(node: &NodeConfig) -> Node {
    Node {
        kind: node.kind,
        role: node.role,
        gpu: node.gpu.clone(),
        vram_bytes: node.vram_bytes,
        ..Node::unseen(&node.name, &node.url)
    }
}

/// The machine's own name, which a `Host` header may carry.
fn own_name() -> Option<String> {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// Ids count up from the time of the start, so that those of two runs differ.
fn first_id() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
        << 24
}

impl Router {
    /// The nodes as they were last seen.
    pub fn snapshot(&self) -> Arc<ClusterSnapshot> {
        Arc::clone(&lock(&self.snapshot))
    }

    /// What `status` tells.
    pub fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let loads = self.loads(&snapshot);
        let inventory = self.gpus.fresh(local::FRESH_LIMIT);
        let mut status = Status::of(
            &snapshot,
            Some(&loads),
            &self.measurements.now(),
            &inventory,
        );
        let counts = self.gates.counts(&snapshot.nodes);
        for (node, (_, load)) in status.nodes.iter_mut().zip(counts) {
            node.loading = load.map(status::LoadingStatus::of);
        }
        status.warnings.extend(self.watch.warnings(&snapshot));
        status
    }

    /// Where to look for servers when none is configured.
    fn rediscovery(&self, own: SocketAddr) -> Option<backend::Rediscovery> {
        let candidates = || backend::candidates(self.config.ollama_host.as_deref());
        self.config.nodes.is_empty().then(|| backend::Rediscovery {
            candidates: candidates(),
            own,
        })
    }

    /// Takes a fresh look at a node into the snapshot, and says what changed.
    fn replace(&self, node: Node, began: Instant) {
        let node = Arc::new(Node { seen: true, ..node });
        self.measurements.saw(&node);
        let before = {
            let mut guard = lock(&self.snapshot);
            let mut nodes = guard.nodes.clone();
            let place = nodes.iter().position(|known| known.name == node.name);
            let before = place
                .and_then(|place| nodes.get(place))
                .filter(|known| known.seen)
                .map(|known| known.state);
            match place.and_then(|place| nodes.get_mut(place)) {
                Some(known) => *known = Arc::clone(&node),
                None => nodes.push(Arc::clone(&node)),
            }
            *guard = Arc::new(ClusterSnapshot { nodes });
            before
        };
        self.shows(&node);
        self.gates.observed(&node, began);
        if before == Some(node.state) {
            return;
        }
        if node.state.usable() && before.is_some_and(|before| !before.usable()) {
            self.optimizer.wake(&node.name);
        }
        let cause = node
            .cause
            .as_deref()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        let level = match node.state {
            NodeState::Down | NodeState::Misconfigured => LogLevel::Warning,
            NodeState::Busy => LogLevel::Debug,
            NodeState::Up | NodeState::Loading => LogLevel::Info,
        };
        self.log.event(
            level,
            &format!(
                "node `{}` at {} is {}{cause}",
                node.name,
                node.url,
                node.state.as_str()
            ),
        );
    }

    fn wait_for_first_look(&self) {
        let started = Instant::now();
        while started.elapsed() < FIRST_LOOK {
            let snapshot = self.snapshot();
            if snapshot.nodes.iter().all(|node| node.seen) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A new request id.
    fn next_id(&self) -> String {
        format!("{:013x}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// What is in flight at the snapshot's nodes.
    fn loads(&self, snapshot: &ClusterSnapshot) -> Vec<NodeLoad> {
        self.gates.loads(&snapshot.nodes)
    }

    /// Requests that a node is answering.
    fn active(&self, node: &Arc<Node>) -> u32 {
        let loads = self.gates.loads(std::slice::from_ref(node));
        loads.first().map_or(0, |load| load.active)
    }

    /// What sending the request to a model on a node would mean.
    fn forecast(
        &self,
        facts: &RequestFacts,
        asked: &Asked,
        speeds: &Speeds,
        node: &Arc<Node>,
        model: &Model,
    ) -> NodeLoad {
        let policy = &self.config.routing;
        let gate = self.gates.gate(node);
        // What stands in because no class has a model is any model that there is: its scheduler need not know them all.
        if policy.routes_by_class(facts.model.as_deref()) && !policy.names(&model.name) {
            return gate.load(node);
        }
        let speed = speeds.get(&node.name, &model.name);
        let asked = asked.for_node(node);
        gate.forecast(node, model, &asked, &speed)
    }

    /// Has a model loaded for a request of its class that another model answers, where nothing has to go for it.
    fn load_ahead(&self, snapshot: &ClusterSnapshot, spared: &Candidate, asked: &Asked) {
        let Some(node) = snapshot.node(&spared.node) else {
            return;
        };
        if let Some(model) = node.model(&ModelName::new(&spared.model)) {
            let speed = self.measurements.now().get(&node.name, &model.name);
            let asked = asked.for_node(node);
            self.gates
                .gate(node)
                .load_ahead(node, model, &asked, &speed);
        }
    }

    /// A load found the node out of reach.
    fn unreachable(&self, node: &Node, cause: String) {
        self.observe(node, backend::Outcome::Unreachable(cause));
    }

    fn connections(&self) -> usize {
        self.stopper.connections()
    }

    /// The parsed address of a node.
    fn origin(&self, url: &str) -> Result<Arc<Origin>, SendError> {
        let mut origins = lock(&self.origins);
        if let Some(origin) = origins.get(url) {
            return Ok(Arc::clone(origin));
        }
        let origin =
            Arc::new(Origin::parse(url).map_err(|error| SendError::Malformed(error.to_string()))?);
        origins.insert(url.to_owned(), Arc::clone(&origin));
        Ok(origin)
    }

    /// Tells the monitor that the node has work.
    fn used(&self, node: &Node) {
        if let Some(monitor) = self.monitor.get() {
            monitor.used(&node.name);
        }
    }

    /// Lets the monitor look again at once.
    fn poke(&self, node: &str) {
        if let Some(monitor) = self.monitor.get() {
            monitor.poke(node);
        }
    }

    /// A request found the node out of reach: its state changes now, not at the next look.
    fn observe_failure(&self, node: &Node, error: &SendError) {
        if trouble::unreachable(error) {
            self.observe(node, backend::Outcome::Unreachable(error.to_string()));
        }
    }

    /// A request found the node busy or in trouble.
    fn observe_status(&self, node: &Node, status: u16) {
        if matches!(status, 429 | 503) {
            self.observe(node, backend::Outcome::Busy(format!("answered {status}")));
        }
    }

    fn observe(&self, node: &Node, outcome: backend::Outcome) {
        if let Some(monitor) = self.monitor.get() {
            monitor.report(&node.name, outcome);
        }
    }

    /// `/props` of a node that has no `/api/show`; `None` when it has none either.
    fn props(&self, node: &Node, model: &Model) -> Option<Vec<u8>> {
        self.prober
            .llama_props(node, model)
            .ok()
            .map(|props| props.body)
    }

    /// What the tokens cost at the reference price; `None` without one, or when nobody counted.
    fn cost(&self, usage: &Usage) -> Option<f64> {
        let prices = &self.config.prices;
        let price = prices.models.get(prices.reference.as_deref()?)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "token counts are far below 2^52"
        )]
        let million = |tokens: u64| tokens as f64 / 1_000_000.0;
        Some(
            million(usage.prompt_tokens?) * price.input
                + million(usage.completion_tokens?) * price.output,
        )
    }

    /// What is known of the GPU behind an answer.
    fn gpu_of(&self, record: &mut RequestRecord) {
        let snapshot = self.snapshot();
        let Some(node) = record.node.as_deref().and_then(|name| snapshot.node(name)) else {
            return;
        };
        record.gpu.clone_from(&node.gpu);
        let name = record.model.as_deref().map(crate::cluster::ModelName::new);
        record.gpu_used = name
            .and_then(|name| {
                node.loaded(&name)
                    .and_then(crate::cluster::LoadedModel::gpu_percent)
            })
            .map(|percent| percent >= crate::cluster::ON_GPU_PERCENT);
        if record.gpu.is_none() && record.gpu_used == Some(true) {
            let inventory = self.gpus.current();
            record.gpu = gpus::behind(node, &inventory).map(|gpu| gpu.name.clone());
        }
    }

    /// Writes everything down: log line, ring, metrics.
    fn finish(&self, mut record: RequestRecord, model_work: bool) {
        if model_work {
            self.gpu_of(&mut record);
            self.metrics.count(&record);
            let record = Arc::new(record);
            // Before the line: whoever reads it may ask `why` at once.
            self.ring.push(Arc::clone(&record));
            self.log.request(&record, self.snapshot().nodes.len());
        } else if record.outcome != Ended::Ok || self.log.writes(LogLevel::Debug) {
            self.log.request(&record, self.snapshot().nodes.len());
        }
    }
}

impl Handler for Router {
    fn handle<'c>(&self, request: &mut Request<'c>, reply: &mut Reply<'c>) {
        let mut x = Exchange::new(self, request, reply);
        let model_work = dispatch(&mut x);
        relay::close_record(&mut x);
        if let (Some(trace), Some(draft)) = (self.trace.get(), &x.draft.trace) {
            trace.end(draft, &x.draft.record, x.draft.started);
        }
        self.finish(x.draft.record, model_work);
    }

    fn refuse(&self, refusal: &Refusal, target: Option<&str>) -> Refused {
        let dialect = Dialect::of_path(target.unwrap_or("/"));
        let kind = if refusal.status() < 500 {
            ErrorKind::InvalidRequest
        } else {
            ErrorKind::Overloaded
        };
        let error = ApiError {
            status: refusal.status(),
            ..ApiError::new(kind, refusal.message())
        };
        Refused {
            content_type: "application/json",
            body: error.body(dialect, ""),
        }
    }
}

/// Sends the request where it belongs; returns whether it was work for a model or a node, which is what the ring and the metrics count.
fn dispatch(x: &mut Exchange<'_, '_>) -> bool {
    if !allowed(x) || local::own_route(x) || preflight(x) {
        return false;
    }
    match x.endpoint.clone() {
        Endpoint::WrongMethod(_) => {
            x.tell(&ApiError::wrong_method(), Ended::Refused);
            false
        }
        Endpoint::Unknown => {
            x.tell(&ApiError::no_route(), Ended::Refused);
            false
        }
        Endpoint::Show => {
            spread::show(x);
            false
        }
        Endpoint::CountTokens => {
            forward::count_tokens(x);
            true
        }
        Endpoint::Copy | Endpoint::Delete => {
            spread::on_every_holder(x);
            true
        }
        Endpoint::Pull | Endpoint::Push | Endpoint::Create => {
            spread::on_one_node(x);
            true
        }
        Endpoint::Blob(_) => {
            spread::blob(x);
            true
        }
        Endpoint::Other(dialect) => {
            spread::other(x, dialect);
            true
        }
        endpoint if endpoint.routed() => {
            forward::forward(x);
            true
        }
        _ => {
            local::list(x);
            false
        }
    }
}

/// The Host and Origin rule.
fn allowed(x: &mut Exchange<'_, '_>) -> bool {
    let host = x.request.headers().get_str("host").unwrap_or("").to_owned();
    let origin = x.request.headers().get_str("origin").map(str::to_owned);
    let text = if !x.router.hosts.allows_host(&host) {
        format!(
            "the host `{}` is not allowed here; list it in [security] hosts",
            exchange::header_safe(&host)
        )
    } else if let Some(origin) = origin.filter(|origin| !x.router.hosts.allows_origin(origin)) {
        format!(
            "the origin `{}` is not allowed here",
            exchange::header_safe(&origin)
        )
    } else {
        return true;
    };
    x.tell(&ApiError::new(ErrorKind::Permission, text), Ended::Refused);
    false
}

/// A browser's question before the real request.
fn preflight(x: &mut Exchange<'_, '_>) -> bool {
    if x.request.method() != "OPTIONS" || x.request.headers().get("origin").is_none() {
        return false;
    }
    let wanted = x
        .request
        .headers()
        .get_str("access-control-request-headers")
        .map(exchange::header_safe);
    let fields = dialect::cors_preflight(wanted.as_deref());
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    x.answer_with(204, "", b"", &fields);
    true
}

/// A lock whose data is replaced whole, so that a panic elsewhere cannot have left it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
