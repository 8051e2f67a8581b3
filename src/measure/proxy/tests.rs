//! The report as a function of made-up observations whose outcome is known.

use super::*;

const OTHER: &str = "nginx";

fn settings(rounds: u32) -> Settings {
    let target = |name: &str| Target {
        name: name.to_owned(),
        url: "http://127.0.0.1:1".to_owned(),
        program: Some("x".to_owned()),
        pids: if name == DIRECT { vec![] } else { vec![1] },
    };
    Settings {
        rounds,
        window: Window::Ms(1000),
        quick: false,
        idle_streams: 10,
        threads: 1,
        patience_ms: 0,
        cores: Some(2),
        targets: [DIRECT, ROUTER, OTHER].map(target).to_vec(),
    }
}

fn one(round: u32, target: &str, seen: Seen) -> Observation {
    Observation {
        round,
        target: target.to_owned(),
        seen,
    }
}

fn ended(round: u32) -> Observation {
    let seen = Seen::Machine {
        moment: Moment::End,
        load_percent: Some([10, 20, 30]),
        elapsed_ns: 1_000_000 * u64::from(round + 1),
    };
    one(round, MACHINE, seen)
}

fn latency(round: u32, target: &str, p50_us: u64) -> Observation {
    let times = Times {
        count: 100,
        p50_ns: p50_us * 1000,
        p99_ns: p50_us * 2000,
    };
    one(
        round,
        target,
        Seen::Latency {
            case: Case::Small,
            times,
        },
    )
}

fn load(round: u32, target: &str, answers: u64) -> Observation {
    let seen = Seen::Load {
        bytes: 1024,
        connections: 16,
        answers,
        failed: 0,
        elapsed_ns: 1_000_000_000,
        cpu_ns: (target != DIRECT).then_some(500_000_000),
    };
    one(round, target, seen)
}

fn figure<'a>(report: &'a Report, id: &str) -> &'a Figure {
    report
        .figures
        .iter()
        .find(|figure| figure.id == id)
        .expect("a figure of that name")
}

fn close(value: f64, expected: f64) -> bool {
    (value - expected).abs() < 1e-9
}

#[test]
fn added_is_the_median_of_the_differences_within_a_round() {
    let mut seen = Vec::new();
    // The machine is three times as slow in the second round; differences between rounds would say nonsense.
    for (round, (direct, router, other)) in (0..).zip([(10, 30, 20), (30, 90, 60), (11, 33, 22)]) {
        seen.extend([
            latency(round, DIRECT, direct),
            latency(round, ROUTER, router),
            latency(round, OTHER, other),
            ended(round),
        ]);
    }
    let report = report(&settings(3), &seen);
    assert_eq!(report.completed, 3);
    let row = figure(&report, "request_1kb_added_p50");
    let medians: Vec<f64> = row
        .values
        .iter()
        .map(|value| value.unwrap().median / 1000.0)
        .collect();
    assert!(
        close(medians[0], 11.0) && close(medians[1], 22.0) && close(medians[2], 11.0),
        "{medians:?}"
    );
    let router = row.values[1].unwrap();
    assert!(close(router.min, 20_000.0) && close(router.max, 60_000.0));
    assert!(close(row.ratios[0].median.unwrap(), 2.0));
    let (min, max) = row.ratios[0].range.unwrap();
    assert!(close(min, 2.0) && close(max, 2.0));
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

#[test]
fn an_added_time_below_nothing_is_unknown_and_said() {
    let mut seen = Vec::new();
    for round in 0..3 {
        seen.extend([
            latency(round, DIRECT, 20),
            latency(round, ROUTER, 30),
            latency(round, OTHER, 19),
            ended(round),
        ]);
    }
    let report = report(&settings(3), &seen);
    let row = figure(&report, "request_1kb_added_p50");
    assert!(row.values[1].is_some() && row.values[2].is_none());
    assert_eq!((row.ratios[0].median, row.ratios[0].range), (None, None));
    let warning = report
        .warnings
        .iter()
        .find(|warning| warning.code == "not_measurable")
        .unwrap();
    assert!(
        warning.text.contains("request_1kb_added_p50 (nginx)"),
        "{}",
        warning.text
    );
}

#[test]
fn a_round_without_a_ratio_leaves_no_range() {
    let mut seen = Vec::new();
    for (round, other) in (0..).zip([30, 30, 15]) {
        seen.extend([
            latency(round, DIRECT, 20),
            latency(round, ROUTER, 40),
            latency(round, OTHER, other),
            ended(round),
        ]);
    }
    let report = report(&settings(3), &seen);
    let row = figure(&report, "request_1kb_added_p50");
    assert!(close(row.ratios[0].median.unwrap(), 2.0));
    assert_eq!(row.ratios[0].range, None);
}

#[test]
fn rates_near_the_generators_own_have_no_ratio() {
    let rates = |direct: u64| {
        let mut seen = Vec::new();
        for round in 0..2 {
            seen.extend([
                load(round, DIRECT, direct),
                load(round, ROUTER, 30_000),
                load(round, OTHER, 60_000),
                ended(round),
            ]);
        }
        report(&settings(2), &seen)
    };
    let fast = rates(160_000);
    let row = figure(&fast, "rate_1kb_16");
    assert!(close(row.ratios[0].median.unwrap(), 0.5));
    assert!(close(row.values[0].unwrap().median, 160_000.0));
    assert!(fast.headroom[0].enough && close(fast.headroom[0].ratio.unwrap(), 160.0 / 60.0));
    let slow = rates(80_000);
    let row = figure(&slow, "rate_1kb_16");
    assert_eq!(row.ratios[0].median, None);
    assert!(row.values[2].is_some(), "the rate itself was measured");
    assert!(!slow.headroom[0].enough);
    assert!(
        slow.warnings
            .iter()
            .any(|warning| warning.code == "generator_limit")
    );
    // The kernel accounts for processor time whatever the generator does.
    let cost = figure(&slow, "cpu_1kb_16");
    assert!(close(cost.ratios[0].median.unwrap(), 2.0));
    assert_eq!(cost.values[0], None);
}

#[test]
fn without_a_direct_rate_no_ratio_is_told() {
    let report = report(
        &settings(1),
        &[load(0, ROUTER, 30_000), load(0, OTHER, 60_000), ended(0)],
    );
    assert_eq!(figure(&report, "rate_1kb_16").ratios[0].median, None);
    assert_eq!(
        (report.headroom[0].ratio, report.headroom[0].enough),
        (None, false)
    );
}

#[test]
fn pieces_that_are_late_on_the_direct_way_have_no_ratio() {
    let pieces = |count: u64| {
        let seen = |target: &str, p50_ns| {
            let delays = Times {
                count,
                p50_ns,
                p99_ns: 2 * p50_ns,
            };
            let seen = Seen::Pieces {
                form: Form::Lines,
                streams: STREAMS,
                gap_ns: 20_000_000,
                delays,
                failed: 0,
                elapsed_ns: 1_000_000_000,
                cpu_ns: Some(1),
            };
            one(0, target, seen)
        };
        report(
            &settings(1),
            &[
                seen(DIRECT, 80_000),
                seen(ROUTER, 90_000),
                seen(OTHER, 180_000),
                ended(0),
            ],
        )
    };
    let due = 50 * u64::from(STREAMS);
    let row = |report: &Report| figure(report, "pieces_256_delay_p50").ratios[0].median;
    assert!(close(row(&pieces(due)).unwrap(), 0.5));
    let late = pieces(due / 2);
    assert_eq!(row(&late), None);
    assert!(
        late.warnings
            .iter()
            .any(|warning| warning.code == "generator_limit")
    );
}

#[test]
fn memory_of_a_stream_counts_those_that_began() {
    let memory = |moment, rss_bytes| Seen::Memory {
        moment,
        rss_bytes,
        pss_bytes: None,
        threads: 3,
    };
    let idle = Seen::Idle {
        asked: 10,
        began: 5,
        cpu_ns: Some(10_000_000),
        elapsed_ns: 1_000_000_000,
    };
    let seen = [
        one(0, ROUTER, memory(Moment::Start, 1_000)),
        one(0, ROUTER, memory(Moment::Streams, 51_000)),
        one(0, ROUTER, idle),
        ended(0),
    ];
    let report = report(&settings(1), &seen);
    assert!(close(
        figure(&report, "memory_per_stream").values[1]
            .unwrap()
            .median,
        10_000.0
    ));
    assert_eq!(figure(&report, "memory_per_stream_pss").values[1], None);
    assert!(close(
        figure(&report, "idle_cpu").values[1].unwrap().median,
        0.01
    ));
    let warning = report
        .warnings
        .iter()
        .find(|warning| warning.code == "idle_streams")
        .unwrap();
    assert!(warning.text.contains("only 5 of 10"));
}

#[test]
fn a_departure_that_nobody_saw_leaves_no_time() {
    let left = |waited_ns| Seen::Departure {
        after_first: false,
        waited_ns,
    };
    let seen = [
        one(0, ROUTER, left(Some(2_000_000))),
        one(0, ROUTER, left(Some(4_000_000))),
        one(0, OTHER, left(Some(1))),
        one(0, OTHER, left(None)),
        ended(0),
    ];
    let report = report(&settings(1), &seen);
    let row = figure(&report, "departure_before_first_byte");
    assert!(close(row.values[1].unwrap().median, 3_000_000.0));
    assert_eq!(row.values[2], None);
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.code == "departure_unseen")
    );
}

#[test]
fn the_worst_end_of_a_cut_stream_counts() {
    let cut = |end| Seen::Cut {
        form: Form::Events,
        end,
    };
    let seen = [
        one(0, ROUTER, cut(End::Told)),
        one(0, OTHER, cut(End::Broken)),
        one(0, OTHER, cut(End::Clean)),
        ended(0),
    ];
    let report = report(&settings(1), &seen);
    let of = |target: &str| {
        report
            .cuts
            .iter()
            .find(|cut| cut.form == Form::Events && cut.target == target)
            .unwrap()
    };
    assert_eq!(
        (of(ROUTER).end, of(OTHER).end, of(DIRECT).end),
        (Some(End::Told), Some(End::Clean), None)
    );
    assert_eq!(of(OTHER).tries, 2);
}

#[test]
fn what_went_wrong_is_said() {
    let failed = Seen::Failed {
        step: "1 KB requests".to_owned(),
        cause: "an answer with status 502".to_owned(),
    };
    let broken = Seen::Load {
        bytes: 1024,
        connections: 1,
        answers: 7,
        failed: 3,
        elapsed_ns: 1,
        cpu_ns: None,
    };
    let mut settings = settings(3);
    settings.quick = true;
    settings.targets[2].pids.clear();
    let busy = one(
        0,
        MACHINE,
        Seen::Machine {
            moment: Moment::Start,
            load_percent: Some([150, 0, 0]),
            elapsed_ns: 0,
        },
    );
    let report = report(
        &settings,
        &[
            busy,
            one(0, OTHER, failed.clone()),
            one(0, OTHER, failed),
            one(0, ROUTER, broken),
            ended(0),
        ],
    );
    let codes: Vec<&str> = report.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(
        codes,
        [
            "stopped",
            "quick",
            "busy_machine",
            "no_process",
            "failed_answers",
            "failed_step"
        ]
    );
    assert!(report.warnings[4].text.contains("3 of 10"));
}

#[test]
fn what_other_programs_used_is_told_and_replaces_the_load_average() {
    let others = |cpu_ns, repeated| {
        let step = "a step".to_owned();
        one(
            0,
            MACHINE,
            Seen::Others {
                step,
                cpu_ns,
                elapsed_ns: 1_000_000_000,
                repeated,
            },
        )
    };
    let start = one(
        0,
        MACHINE,
        Seen::Machine {
            moment: Moment::Start,
            load_percent: Some([900, 0, 0]),
            elapsed_ns: 0,
        },
    );
    let quiet = report(
        &settings(1),
        &[start.clone(), others(40_000_000, 2), others(0, 1), ended(0)],
    );
    assert!(close(quiet.others_share.unwrap(), 0.01));
    assert_eq!((quiet.repeated, quiet.warnings.len()), (3, 0));
    let busy = report(&settings(1), &[start, others(1_000_000_000, 0), ended(0)]);
    assert!(close(busy.others_share.unwrap(), 0.5));
    assert_eq!(busy.warnings[0].code, "busy_machine");
    assert!(busy.warnings[0].text.contains("50 %"));
}

#[test]
fn a_report_follows_from_stored_observations() {
    let mut seen = vec![
        latency(0, DIRECT, 10),
        latency(0, ROUTER, 30),
        load(0, ROUTER, 5),
        ended(0),
    ];
    seen.push(one(
        0,
        ROUTER,
        Seen::Departure {
            after_first: true,
            waited_ns: None,
        },
    ));
    seen.push(one(
        0,
        ROUTER,
        Seen::Cut {
            form: Form::Lines,
            end: End::Hung,
        },
    ));
    let lines: Vec<String> = seen
        .iter()
        .map(|one| serde_json::to_string(one).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        r#"{"round":0,"target":"direct","seen":{"what":"latency","case":"small","times":{"count":100,"p50_ns":10000,"p99_ns":20000}}}"#
    );
    let read: Vec<Observation> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, seen);
    let text = serde_json::to_string(&settings(1)).unwrap();
    let again: Settings = serde_json::from_str(&text).unwrap();
    assert_eq!(report(&again, &read), report(&settings(1), &seen));
}

#[test]
fn the_document_names_every_figure_with_its_unit_and_origin() {
    let seen = [latency(0, DIRECT, 10), latency(0, ROUTER, 30), ended(0)];
    let document = serde_json::to_value(report(&settings(1), &seen)).unwrap();
    let rows = document["rows"].as_array().unwrap();
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap();
    let added = row("request_1kb_added_p50");
    assert_eq!(
        (added["unit"].as_str(), added["added"].as_bool()),
        (Some("milliseconds"), Some(true))
    );
    assert!(close(
        added["targets"][ROUTER]["median"].as_f64().unwrap(),
        0.02
    ));
    assert_eq!(
        (
            &added["targets"][DIRECT]["tag"],
            &added["targets"][ROUTER]["tag"]
        ),
        (&"measured".into(), &"derived".into())
    );
    assert!(
        added["targets"][OTHER]["median"].is_null() && added["ratios"][OTHER]["median"].is_null()
    );
    assert_eq!(row("rate_200kb_256")["targets"][ROUTER]["tag"], "unknown");
    for row in rows {
        assert_eq!(row["targets"].as_object().unwrap().len(), 3, "{row}");
        assert!(!row["unit"].as_str().unwrap().is_empty());
    }
}
