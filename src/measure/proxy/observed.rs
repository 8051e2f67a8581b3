//! What a run saw, as plain data.

use serde::{Deserialize, Serialize};

/// What is known before a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Rounds asked for.
    pub rounds: u32,
    /// How long each load is measured.
    pub window: Window,
    /// Whether the short plan is used, whose figures are too rough to compare.
    pub quick: bool,
    /// Idle streams asked for.
    pub idle_streams: u32,
    /// Threads of the generator, and as many of the mock.
    pub threads: u32,
    /// How long may be spent on repeating what other programs disturbed, ms.
    pub patience_ms: u64,
    /// Processors of the machine; `None` where nobody knows.
    pub cores: Option<u64>,
    /// What is measured; [`super::DIRECT`] first, then [`super::ROUTER`].
    pub targets: Vec<Target>,
}

/// How long a load is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// For this long, ms.
    #[serde(rename = "time_ms")]
    Ms(u64),
    /// Until this many answers came; streams take as long as by default.
    Requests(u64),
}

/// Something that answers requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name in the report.
    pub name: String,
    /// Its address.
    pub url: String,
    /// The program's name as the kernel knows it; `None` where its processes were not found.
    pub program: Option<String>,
    /// The processes whose time and memory count as its own, without their children; empty where none was found.
    pub pids: Vec<u32>,
}

/// One measurement of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The round, from 0. What is looked at once in a run has round 0.
    pub round: u32,
    /// The target's name; [`super::MACHINE`] for what concerns all of them.
    pub target: String,
    /// What was seen.
    pub seen: Seen,
}

/// What a measurement saw. Times are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Seen {
    /// One request after another over one connection.
    Latency {
        /// Which requests.
        case: Case,
        /// How long each took.
        times: Times,
    },
    /// Every connection asks again as soon as it has its answer.
    Load {
        /// Bytes of a request's body.
        bytes: u64,
        /// Connections.
        connections: u32,
        /// Answers with status 200.
        answers: u64,
        /// Answers with another status and connections that broke.
        failed: u64,
        /// Length of the window.
        elapsed_ns: u64,
        /// Processor time of the proxy in the window.
        cpu_ns: Option<u64>,
    },
    /// Streams whose pieces each carry the time at which they were sent.
    Pieces {
        /// Their form.
        form: Form,
        /// Streams.
        streams: u32,
        /// Time between two pieces of a stream.
        gap_ns: u64,
        /// How long the pieces that came took.
        delays: Times,
        /// Streams that broke.
        failed: u64,
        /// Length of the window.
        elapsed_ns: u64,
        /// Processor time of the proxy in the window.
        cpu_ns: Option<u64>,
    },
    /// What a proxy holds.
    Memory {
        /// When.
        moment: Moment,
        /// Resident set sizes of its processes, added up; pages that they share count in each.
        rss_bytes: u64,
        /// Proportional set sizes, added up: shared pages count once. `None` where the kernel does not tell.
        pss_bytes: Option<u64>,
        /// Threads.
        threads: u32,
    },
    /// Streams that have begun and then say nothing.
    Idle {
        /// Streams asked for.
        asked: u32,
        /// Streams whose first piece came.
        began: u32,
        /// Processor time of the proxy while nothing happened.
        cpu_ns: Option<u64>,
        /// How long nothing happened.
        elapsed_ns: u64,
    },
    /// A client closed its connection while it waited.
    Departure {
        /// Whether it had had the first piece.
        after_first: bool,
        /// How long until the upstream's connection was closed, too; `None`: not within the limit.
        waited_ns: Option<u64>,
    },
    /// The upstream closed its connection in the middle of a stream.
    Cut {
        /// The stream's form.
        form: Form,
        /// What the client saw.
        end: End,
    },
    /// How busy the machine was: once at the start, and at the end of every round that was completed.
    Machine {
        /// Which of the two.
        moment: Moment,
        /// Load averages of 1, 5 and 15 minutes in hundredths, as the kernel tells them; `None` where it does not.
        load_percent: Option<[u32; 3]>,
        /// Since the start.
        elapsed_ns: u64,
    },
    /// What programs that have no part in the measurement used of the machine while something was measured.
    Others {
        /// What was measured.
        step: String,
        /// Their processor time.
        cpu_ns: u64,
        /// How long it took.
        elapsed_ns: u64,
        /// How often it was measured again because they used too much.
        repeated: u32,
    },
    /// A measurement that could not be made.
    Failed {
        /// Which.
        step: String,
        /// Why.
        cause: String,
    },
}

/// Requests over one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// 1 KB, a named model.
    Small,
    /// 1 KB for the virtual model `auto`, which the router classifies.
    SmallAuto,
    /// 200 KB, a named model: the context of a coding agent.
    Large,
    /// Until the first piece of a stream.
    FirstPiece,
}

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Lines of JSON, as of Ollama's `/api/chat`.
    Lines,
    /// Server-sent events, as of `OpenAI`'s `/v1/chat/completions`.
    Events,
}

/// When something is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before any load.
    Start,
    /// With idle streams open.
    Streams,
    /// After everything.
    End,
}

/// How a client sees a stream end whose upstream was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The answer itself says that there was an error.
    Told,
    /// The connection ends before the answer does.
    Broken,
    /// The answer looks complete.
    Clean,
    /// Nothing more comes, and no end.
    Hung,
}

/// A number of times, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// The median; 0 without any.
    pub p50_ns: u64,
    /// The 99th percentile by nearest rank; 0 without any.
    pub p99_ns: u64,
}

impl Times {
    /// Sums up.
    pub fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        Self {
            count: samples.len() as u64,
            p50_ns: super::quantile(&samples, 0.5).unwrap_or(0),
            p99_ns: super::quantile(&samples, 0.99).unwrap_or(0),
        }
    }
}
