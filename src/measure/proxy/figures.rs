//! The figures of the report: which there are, and how each follows from what was seen in a round.

use super::observed::{Case, Form, Moment, Seen, Times};

/// Bodies of the requests in a load, bytes: a short question, and the context of a coding agent, where re-encoding shows.
pub const SIZES: [u64; 2] = [1024, 200 * 1024];
/// Connections of a load.
pub const CONNECTIONS: [u32; 3] = [1, 16, 256];
/// Streams of the larger load of pieces.
pub const STREAMS: u32 = 256;

/// A part of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Latency over one connection.
    Request,
    /// Latency of one stream.
    Stream,
    /// Many streams at once.
    Streams,
    /// Requests per second.
    Rate,
    /// Processor time of a request.
    Cpu,
    /// Memory and threads.
    Memory,
    /// A client that leaves.
    Departure,
}

/// What a figure counts. [`super::Report`] holds times in nanoseconds and sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A time of microseconds.
    Micros,
    /// A time of milliseconds.
    Millis,
    /// Events per second.
    PerSecond,
    /// A size.
    Bytes,
    /// A number of things.
    Count,
    /// A share, 1 is all.
    Share,
}

/// How a figure relates to the direct way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What a proxy adds to it, by round.
    Added,
    /// A figure of its own.
    Own,
}

/// When the generator is too slow for a figure's ratio to mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Never.
    None,
    /// Where the direct rate is not well above the proxy's.
    Rate,
    /// Where the direct pieces of so many streams came late.
    Pieces(Form, u32),
}

type Of = Box<dyn Fn(&[&Seen]) -> Option<f64>>;

/// A figure, before anything was seen.
pub(super) struct Definition {
    pub(super) id: String,
    pub(super) section: Section,
    pub(super) title: String,
    pub(super) unit: Unit,
    pub(super) kind: Kind,
    /// Whether less is better.
    pub(super) less: bool,
    pub(super) limit: Limit,
    /// The value of a round, from everything seen of one target in it.
    pub(super) of: Of,
}

impl Definition {
    fn new(id: impl Into<String>, section: Section, title: impl Into<String>, of: Of) -> Self {
        Self {
            id: id.into(),
            section,
            title: title.into(),
            unit: Unit::Micros,
            kind: Kind::Own,
            less: true,
            limit: Limit::None,
            of,
        }
    }

    fn added(mut self) -> Self {
        self.kind = Kind::Added;
        self
    }

    fn unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }
}

/// All figures, in the order of the report.
pub(super) fn all() -> Vec<Definition> {
    let mut all = latencies();
    all.extend(pieces());
    all.extend(loads());
    all.extend(memory());
    for (id, title, after_first) in [
        ("departure_before_first_byte", "before 1st byte", false),
        ("departure_after_first_byte", "after 1st byte", true),
    ] {
        let of: Of = Box::new(move |seen| departures(seen, after_first));
        all.push(Definition::new(id, Section::Departure, title, of).unit(Unit::Millis));
    }
    all
}

fn latencies() -> Vec<Definition> {
    use Section::{Request, Stream};
    let cases = [
        ("request_1kb", Request, "1 KB", Case::Small),
        ("request_1kb_auto", Request, "1 KB auto", Case::SmallAuto),
        ("request_200kb", Request, "200 KB", Case::Large),
        ("first_piece", Stream, "first piece", Case::FirstPiece),
    ];
    let rows = cases.into_iter().flat_map(|(id, section, title, case)| {
        percentiles().map(|(percentile, at)| {
            let of: Of = Box::new(move |seen| latency(seen, case).and_then(at));
            Definition::new(
                format!("{id}_added_{percentile}"),
                section,
                format!("{title}, {percentile}"),
                of,
            )
            .added()
        })
    });
    rows.collect()
}

type At = fn(Times) -> Option<f64>;

fn percentiles() -> [(&'static str, At); 2] {
    [
        ("p50", |times| {
            (times.count > 0).then(|| float(times.p50_ns))
        }),
        ("p99", |times| {
            (times.count > 0).then(|| float(times.p99_ns))
        }),
    ]
}

fn pieces() -> Vec<Definition> {
    let mut rows = Vec::new();
    for (id, title, form) in [
        ("piece_lines", "lines", Form::Lines),
        ("piece_events", "events", Form::Events),
    ] {
        for (percentile, at) in percentiles() {
            let of: Of = Box::new(move |seen| delays(seen, form, 1).and_then(at));
            let row = Definition::new(
                format!("{id}_added_{percentile}"),
                Section::Stream,
                format!("{title}, {percentile}"),
                of,
            );
            rows.push(row.added().limit(Limit::Pieces(form, 1)));
        }
    }
    let many = |of| move |seen: &[&Seen]| delays(seen, Form::Lines, STREAMS).and_then(of);
    let limit = Limit::Pieces(Form::Lines, STREAMS);
    for (kind, title) in [(Kind::Own, "delay"), (Kind::Added, "added")] {
        for (percentile, at) in percentiles() {
            let mut row = Definition::new(
                format!("pieces_{STREAMS}_{title}_{percentile}"),
                Section::Streams,
                format!("{title}, {percentile}"),
                Box::new(many(at)),
            );
            row.kind = kind;
            rows.push(row.limit(limit));
        }
    }
    let cpu = Definition::new(
        format!("pieces_{STREAMS}_cpu"),
        Section::Streams,
        "CPU of a piece",
        Box::new(piece_cpu),
    );
    rows.push(cpu);
    rows
}

fn loads() -> Vec<Definition> {
    let mut rates = Vec::new();
    let mut costs = Vec::new();
    for bytes in SIZES {
        for connections in CONNECTIONS {
            let size = format!("{}kb", bytes / 1024);
            let title = match connections {
                1 => format!("{} KB, 1 conn.", bytes / 1024),
                _ => format!("{} KB, {connections} conns", bytes / 1024),
            };
            let of: Of = Box::new(move |seen| rate(seen, bytes, connections));
            let mut row = Definition::new(
                format!("rate_{size}_{connections}"),
                Section::Rate,
                title.clone(),
                of,
            );
            row.less = false;
            // One connection waits for one answer at a time: its rate is the round trip, not a limit.
            let limit = if connections == 1 {
                Limit::None
            } else {
                Limit::Rate
            };
            rates.push(row.unit(Unit::PerSecond).limit(limit));
            let of: Of = Box::new(move |seen| request_cpu(seen, bytes, connections));
            costs.push(Definition::new(
                format!("cpu_{size}_{connections}"),
                Section::Cpu,
                title,
                of,
            ));
        }
    }
    rates.extend(costs);
    rates
}

fn memory() -> Vec<Definition> {
    let row = |id: &str, title: &str, unit, of| {
        Definition::new(id, Section::Memory, title, of).unit(unit)
    };
    let at = |moment, of: fn(Held) -> Option<f64>| -> Of {
        Box::new(move |seen| held(seen, moment).and_then(of))
    };
    let resident: fn(Held) -> Option<f64> = |held| Some(held.resident);
    let threads: fn(Held) -> Option<f64> = |held| Some(held.threads);
    vec![
        row(
            "memory_start",
            "at the start",
            Unit::Bytes,
            at(Moment::Start, resident),
        ),
        row(
            "memory_streams",
            "with the streams",
            Unit::Bytes,
            at(Moment::Streams, resident),
        ),
        row(
            "memory_per_stream",
            "per stream",
            Unit::Bytes,
            Box::new(|seen| per_stream(seen, |held| Some(held.resident))),
        ),
        row(
            "memory_per_stream_pss",
            "per stream, PSS",
            Unit::Bytes,
            Box::new(|seen| per_stream(seen, |held| held.proportional)),
        ),
        row(
            "memory_end",
            "after everything",
            Unit::Bytes,
            at(Moment::End, resident),
        ),
        row(
            "threads_start",
            "threads at start",
            Unit::Count,
            at(Moment::Start, threads),
        ),
        row(
            "threads_streams",
            "threads, streams",
            Unit::Count,
            at(Moment::Streams, threads),
        ),
        row(
            "idle_cpu",
            "CPU when silent",
            Unit::Share,
            Box::new(idle_cpu),
        ),
    ]
}

fn latency(seen: &[&Seen], wanted: Case) -> Option<Times> {
    seen.iter().find_map(|seen| match seen {
        Seen::Latency { case, times } if *case == wanted => Some(*times),
        _ => None,
    })
}

fn delays(seen: &[&Seen], wanted: Form, number: u32) -> Option<Times> {
    seen.iter().find_map(|seen| match seen {
        Seen::Pieces {
            form,
            streams,
            delays,
            ..
        } if (*form, *streams) == (wanted, number) => Some(*delays),
        _ => None,
    })
}

fn piece_cpu(seen: &[&Seen]) -> Option<f64> {
    seen.iter().find_map(|seen| match seen {
        Seen::Pieces {
            streams: STREAMS,
            delays,
            cpu_ns,
            ..
        } => each((*cpu_ns)?, delays.count),
        _ => None,
    })
}

fn rate(seen: &[&Seen], size: u64, number: u32) -> Option<f64> {
    seen.iter().find_map(|seen| match seen {
        Seen::Load {
            bytes,
            connections,
            answers,
            elapsed_ns,
            ..
        } if (*bytes, *connections) == (size, number) && *answers > 0 => {
            each(*answers, *elapsed_ns).map(|per_ns| per_ns * 1e9)
        }
        _ => None,
    })
}

fn request_cpu(seen: &[&Seen], size: u64, number: u32) -> Option<f64> {
    seen.iter().find_map(|seen| match seen {
        Seen::Load {
            bytes,
            connections,
            answers,
            cpu_ns,
            ..
        } if (*bytes, *connections) == (size, number) => each((*cpu_ns)?, *answers),
        _ => None,
    })
}

/// What a proxy holds at a moment.
#[derive(Clone, Copy)]
struct Held {
    resident: f64,
    proportional: Option<f64>,
    threads: f64,
}

fn held(seen: &[&Seen], wanted: Moment) -> Option<Held> {
    seen.iter().find_map(|seen| match seen {
        Seen::Memory {
            moment,
            rss_bytes,
            pss_bytes,
            threads,
        } if *moment == wanted => Some(Held {
            resident: float(*rss_bytes),
            proportional: pss_bytes.map(float),
            threads: f64::from(*threads),
        }),
        _ => None,
    })
}

/// What the streams that began added to the memory at the start.
fn per_stream(seen: &[&Seen], of: fn(Held) -> Option<f64>) -> Option<f64> {
    let with = of(held(seen, Moment::Streams)?)?;
    let without = of(held(seen, Moment::Start)?)?;
    let began = seen.iter().find_map(|seen| match seen {
        Seen::Idle { began, .. } if *began > 0 => Some(f64::from(*began)),
        _ => None,
    })?;
    Some((with - without) / began)
}

fn idle_cpu(seen: &[&Seen]) -> Option<f64> {
    seen.iter().find_map(|seen| match seen {
        Seen::Idle {
            cpu_ns, elapsed_ns, ..
        } => each((*cpu_ns)?, *elapsed_ns),
        _ => None,
    })
}

/// The median; `None` when one was never noticed: a time of those that were would be too good.
fn departures(seen: &[&Seen], wanted: bool) -> Option<f64> {
    let waits: Option<Vec<f64>> = seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Departure {
                after_first,
                waited_ns,
            } if *after_first == wanted => Some(waited_ns.map(float)),
            _ => None,
        })
        .collect();
    super::Spread::of(&waits?).map(|spread| spread.median)
}

fn each(total: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| float(total) / float(count))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "nanoseconds, bytes and counts far below 2^53"
)]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}
