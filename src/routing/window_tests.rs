//! Tests of the reconciliation of contexts.

use super::*;
use proptest::prelude::*;

fn asking(requested: Option<u32>, prompt: u64) -> Wanted {
    Wanted {
        requested,
        prompt_low: prompt * 5 / 8,
        prompt,
        prompt_high: prompt,
        settable: true,
        ..Wanted::default()
    }
}

/// A model trained for 32,768 tokens on a node that takes 4,096 for an absent context.
fn limits() -> Limits {
    Limits {
        trained: Some(32_768),
        automatic: Some(4096),
        ..Limits::default()
    }
}

fn raise(wanted: &Wanted, loaded: Option<u32>) -> Window {
    reconcile(
        WindowPolicy::RaiseOnly,
        wanted,
        &limits(),
        loaded,
        Some(8200),
    )
    .unwrap()
}

#[test]
fn a_smaller_context_is_served_in_the_loaded_one_and_the_load_is_counted_as_avoided() {
    let window = raise(&asking(Some(2048), 200), Some(8192));
    assert_eq!((window.sent, window.reloads), (Some(8192), false));
    assert_eq!(window.avoided, Some(Avoided { ms: Some(8200) }));
    let same = raise(&asking(Some(8192), 200), Some(8192));
    assert_eq!((same.sent, same.avoided), (Some(8192), None));
}

#[test]
fn an_absent_context_is_sent_as_the_loaded_one() {
    let window = raise(&asking(None, 200), Some(16_384));
    assert_eq!((window.sent, window.reloads), (Some(16_384), false));
    assert!(window.avoided.is_some(), "4,096 would have replaced 16,384");
    let unknown = Limits {
        automatic: None,
        ..limits()
    };
    let window = reconcile(
        WindowPolicy::RaiseOnly,
        &asking(None, 200),
        &unknown,
        Some(16_384),
        None,
    );
    assert_eq!(window.unwrap().avoided, None, "nobody knows");
}

#[test]
fn nobody_gets_less_than_plain_ollama_would_give() {
    let window = raise(&asking(None, 200), Some(2048));
    assert_eq!((window.sent, window.reloads), (Some(4096), true));
}

#[test]
fn a_larger_context_takes_the_next_step_of_the_ladder() {
    assert_eq!(
        raise(&asking(Some(9000), 200), Some(8192)).sent,
        Some(16_384)
    );
    assert_eq!(raise(&asking(Some(3000), 200), None).sent, Some(4096));
    assert_eq!(raise(&asking(Some(100_000), 200), None).sent, Some(32_768));
}

#[test]
fn a_load_makes_more_room_the_less_likely_it_is_that_the_next_wish_is_the_same() {
    let growth = |asked| {
        let limits = Limits {
            fits: Some(32_768),
            ..limits()
        };
        need(WindowPolicy::RaiseOnly, &asking(asked, 200), &limits, None)
            .unwrap()
            .growth
    };
    assert_eq!(growth(Some(12_345)), 4, "computed from the prompt");
    assert_eq!(growth(Some(4096)), 4, "a default that nobody chose");
    assert_eq!(growth(Some(8192)), 2);
    assert_eq!(growth(None), 2);
}

#[test]
fn the_36_requests_of_the_issue_load_once() {
    let mut loaded = None;
    let mut loads = 0;
    for contexts in [[4096, 2048, 3000]; 12] {
        for context in contexts {
            let window = raise(&asking(Some(context), 100), loaded);
            loads += u32::from(loaded.is_none() || window.reloads);
            loaded = window.context;
        }
    }
    assert_eq!((loads, loaded), (1, Some(4096)));
}

#[test]
fn a_prompt_of_9000_tokens_at_2048_gets_a_larger_context_or_is_refused() {
    let prompt = asking(Some(2048), 9000);
    let window = raise(&prompt, Some(2048));
    assert_eq!((window.sent, window.reloads), (Some(16_384), true));
    let trained = |trained| Limits {
        trained: Some(trained),
        ..limits()
    };
    let go = |limits: &Limits| reconcile(WindowPolicy::RaiseOnly, &prompt, limits, None, None);
    assert_eq!(
        go(&trained(4096)),
        Err(TooLong {
            tokens: 5625,
            limit: 4096
        })
    );
    // Perhaps it fits: as much as there is, and what was read of it has to be compared.
    let window = go(&trained(8192)).unwrap();
    assert_eq!((window.sent, window.tight), (Some(8192), true));
    assert!(!go(&trained(16_384)).unwrap().tight);
}

#[test]
fn a_limit_on_the_answer_makes_a_wish_for_more_harmless() {
    let wanted = Wanted {
        max_tokens: Some(200),
        ..asking(Some(32_768), 500)
    };
    let window = raise(&wanted, Some(4096));
    assert_eq!((window.sent, window.reloads), (Some(4096), false));
    assert!(window.avoided.is_some());
    let unlimited = raise(&asking(Some(32_768), 500), Some(4096));
    assert_eq!((unlimited.sent, unlimited.reloads), (Some(32_768), true));
}

#[test]
fn what_does_not_fit_into_memory_is_not_asked_for() {
    let tight = Limits {
        fits: Some(12_000),
        ..limits()
    };
    let go = |policy, wanted: &Wanted| reconcile(policy, wanted, &tight, None, None);
    let long = asking(Some(9000), 9000);
    let window = go(WindowPolicy::RaiseOnly, &long).unwrap();
    assert_eq!(window.sent, Some(12_000));
    // A prompt that may be longer than what fits is rather split than cut; one that surely is, is refused.
    let longer = asking(None, 16_000);
    assert_eq!(
        go(WindowPolicy::RaiseOnly, &longer).unwrap().sent,
        Some(16_256)
    );
    let short = asking(Some(32_768), 100);
    assert_eq!(go(WindowPolicy::Bucket, &short).unwrap().sent, Some(12_000));
    let middle = asking(Some(8192), 100);
    assert_eq!(go(WindowPolicy::Bucket, &middle).unwrap().sent, Some(8192));
    assert!(go(WindowPolicy::RaiseOnly, &asking(None, 40_000)).is_err());
}

#[test]
fn a_loaded_context_fits_whatever_the_estimate_says() {
    let tight = Limits {
        fits: Some(4096),
        ..limits()
    };
    let wanted = asking(Some(8192), 6000);
    let window = reconcile(WindowPolicy::RaiseOnly, &wanted, &tight, Some(8192), None).unwrap();
    assert_eq!((window.sent, window.reloads), (Some(8192), false));
}

#[test]
fn pass_changes_nothing_and_tells_what_will_happen() {
    let go = |wanted: &Wanted, loaded| {
        reconcile(WindowPolicy::Pass, wanted, &limits(), loaded, None).unwrap()
    };
    let other = go(&asking(Some(2048), 9000), Some(4096));
    assert_eq!((other.sent, other.reloads, other.tight), (None, true, true));
    let same = go(&asking(Some(4096), 10), Some(4096));
    assert_eq!((same.sent, same.reloads, same.avoided), (None, false, None));
    let clamped = go(&asking(Some(1_000_000), 10), Some(32_768));
    assert!(!clamped.reloads, "clamped to the trained context");
    let unknown = Limits::default();
    let automatic = reconcile(
        WindowPolicy::Pass,
        &asking(None, 9),
        &unknown,
        Some(512),
        None,
    );
    assert!(!automatic.unwrap().reloads);
}

#[test]
fn a_form_that_cannot_carry_a_context_is_left_alone() {
    let wanted = Wanted {
        settable: false,
        ..asking(None, 9000)
    };
    let window = raise(&wanted, Some(16_384));
    assert_eq!(
        (window.sent, window.reloads, window.tight),
        (None, true, true)
    );
    assert_eq!(window.context, Some(4096));
}

#[test]
fn pin_keeps_one_context() {
    let pinned = Limits {
        pinned: Some(8192),
        ..limits()
    };
    let go = |wanted: &Wanted, loaded| reconcile(WindowPolicy::Pin, wanted, &pinned, loaded, None);
    for (requested, loaded) in [(None, None), (Some(2048), None), (Some(32_768), Some(8192))] {
        assert_eq!(
            go(&asking(requested, 100), loaded).unwrap().sent,
            Some(8192)
        );
    }
    assert!(go(&asking(Some(2048), 100), Some(4096)).unwrap().reloads);
    assert_eq!(
        go(&asking(None, 20_000), Some(8192)),
        Err(TooLong {
            tokens: 12_500,
            limit: 8192
        })
    );
    let first = reconcile(
        WindowPolicy::Pin,
        &asking(Some(5000), 100),
        &limits(),
        None,
        None,
    );
    assert_eq!(first.unwrap().sent, Some(8192), "the first request chooses");
    let then = asking(Some(32_768), 100);
    let next = reconcile(WindowPolicy::Pin, &then, &limits(), Some(8192), None).unwrap();
    assert_eq!((next.sent, next.reloads), (Some(8192), false));
}

#[test]
fn options_of_our_own_load_are_kept_and_those_of_others_are_unknown() {
    let ours = RunnerOptions {
        num_batch: Some(512),
        ..RunnerOptions::default()
    };
    let asked = RunnerOptions {
        num_thread: Some(4),
        ..ours
    };
    let edit = |policy, loaded| runner_options(policy, &asked, loaded);
    assert_eq!(
        edit(WindowPolicy::RaiseOnly, Some(&ours)),
        RunnerEdit::Replaced(ours)
    );
    assert_eq!(edit(WindowPolicy::Pass, Some(&ours)), RunnerEdit::Untouched);
    assert_eq!(edit(WindowPolicy::RaiseOnly, None), RunnerEdit::Untouched);
    assert_eq!(
        runner_options(WindowPolicy::Pin, &ours, Some(&ours)),
        RunnerEdit::Untouched
    );
}

#[test]
fn a_split_that_is_left_to_the_node_never_reloads() {
    let split = |num_gpu| RunnerOptions {
        num_gpu,
        ..RunnerOptions::default()
    };
    assert!(!split(Some(0)).reloads_for(&split(None)));
    assert!(!split(Some(0)).reloads_for(&split(Some(-1))));
    assert!(split(Some(-1)).reloads_for(&split(Some(0))));
    assert!(split(None).reloads_for(&split(Some(20))));
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    (
        prop::option::of(1_u32..200_000),
        0_u64..150_000,
        0_u64..50_000,
        prop::option::of(1_u64..40_000),
        prop::option::of(1_u64..4000),
        any::<bool>(),
    )
        .prop_map(
            |(requested, low, error, max_tokens, usual_answer, settable)| Wanted {
                requested,
                prompt_low: low,
                prompt: low + error / 2,
                prompt_high: low + error,
                max_tokens,
                usual_answer,
                settable,
            },
        )
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (
        prop::option::of(512_u32..300_000),
        prop::option::of(1024_u32..300_000),
        prop::option::of(2048_u32..70_000),
        prop::option::of(1024_u32..70_000),
    )
        .prop_map(|(trained, fits, automatic, pinned)| Limits {
            trained,
            fits,
            automatic,
            pinned,
        })
}

fn any_policy() -> impl Strategy<Value = WindowPolicy> {
    prop::sample::select(vec![
        WindowPolicy::Pass,
        WindowPolicy::RaiseOnly,
        WindowPolicy::Pin,
        WindowPolicy::Bucket,
    ])
}

/// What is loaded is never more than the model was trained for: the node clamps.
fn loadable(loaded: Option<u32>, limits: &Limits) -> Option<u32> {
    loaded.map(|loaded| limits.trained.map_or(loaded, |trained| loaded.min(trained)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn never_less_than_needed_while_more_is_possible(
        policy in any_policy(), wanted in any_wanted(), limits in any_limits(),
        loaded in prop::option::of(512_u32..300_000),
    ) {
        let loaded = loadable(loaded, &limits);
        let Ok(window) = reconcile(policy, &wanted, &limits, loaded, None) else {
            return Ok(());
        };
        if let (Some(sent), WindowPolicy::RaiseOnly | WindowPolicy::Bucket) = (window.sent, policy) {
            let needs = wanted.prompt_high + wanted.answer();
            let most = limits.largest(loaded).map_or(u64::MAX, u64::from);
            prop_assert!(u64::from(sent) >= needs.min(most), "{sent} of {needs}, at most {most}");
        }
    }

    #[test]
    fn raise_only_never_lowers(
        wanted in any_wanted(), limits in any_limits(), loaded in 512_u32..300_000,
    ) {
        let loaded = loadable(Some(loaded), &limits);
        let policy = WindowPolicy::RaiseOnly;
        if let Ok(Window { sent: Some(sent), reloads, .. }) =
            reconcile(policy, &wanted, &limits, loaded, None)
        {
            prop_assert!(Some(sent) >= loaded);
            prop_assert_eq!(reloads, Some(sent) != loaded);
        }
    }

    #[test]
    fn a_covered_request_never_reloads_and_a_reload_is_never_called_avoided(
        policy in any_policy(), wanted in any_wanted(), limits in any_limits(),
        loaded in 512_u32..300_000,
    ) {
        let loaded = loadable(Some(loaded), &limits);
        let Ok(window) = reconcile(policy, &wanted, &limits, loaded, Some(1)) else {
            return Ok(());
        };
        let need = need(policy, &wanted, &limits, loaded).unwrap();
        prop_assert!(need.least <= need.floor && need.floor <= need.wish);
        if loaded.is_some_and(|loaded| need.covered_by(loaded)) && window.sent.is_some() {
            prop_assert!(!window.reloads);
            prop_assert_eq!(window.sent, loaded);
        }
        prop_assert!(!(window.reloads && window.avoided.is_some()));
        if window.avoided.is_some() {
            prop_assert!(limits.plain(wanted.requested) != loaded);
        }
    }

    #[test]
    fn contexts_lie_on_the_ladder_or_at_its_end(
        wanted in any_wanted(), limits in any_limits(), raise in any::<bool>(),
    ) {
        let policy = if raise { WindowPolicy::RaiseOnly } else { WindowPolicy::Bucket };
        if let Ok(Window { sent: Some(sent), .. }) = reconcile(policy, &wanted, &limits, None, None) {
            let most = limits.largest(None);
            let on = sent == bucket(sent) || Some(sent) == most || Some(sent) == limits.trained;
            let likely = wanted.prompt + wanted.answer().min(256);
            let wish = need(policy, &wanted, &limits, None).unwrap().wish;
            prop_assert!(on || sent == wish, "{sent} of {most:?}");
            prop_assert!(most.is_none_or(|most| u64::from(sent) <= u64::from(most).max(likely)));
            prop_assert!(limits.trained.is_none_or(|trained| sent <= trained));
        }
    }

    #[test]
    fn pass_and_other_forms_send_nothing(
        wanted in any_wanted(), limits in any_limits(), loaded in prop::option::of(512_u32..300_000),
    ) {
        let passed = reconcile(WindowPolicy::Pass, &wanted, &limits, loaded, None).unwrap();
        prop_assert_eq!(passed.sent, None);
        let other = Wanted { settable: false, ..wanted };
        let untouched = reconcile(WindowPolicy::RaiseOnly, &other, &limits, loaded, None).unwrap();
        prop_assert_eq!(untouched.sent, None);
    }

    #[test]
    fn a_second_request_like_the_first_never_reloads(
        policy in any_policy(), wanted in any_wanted(), limits in any_limits(),
        loaded in prop::option::of(512_u32..300_000),
    ) {
        let loaded = loadable(loaded, &limits);
        if let Ok(first) = reconcile(policy, &wanted, &limits, loaded, None) {
            let again = reconcile(policy, &wanted, &limits, first.context, None).unwrap();
            prop_assert!(!again.reloads, "{first:?} then {again:?}");
        }
    }

    #[test]
    fn refused_only_when_the_least_estimate_is_too_long(
        policy in any_policy(), wanted in any_wanted(), limits in any_limits(),
        loaded in prop::option::of(512_u32..300_000),
    ) {
        let loaded = loadable(loaded, &limits);
        if let Err(TooLong { tokens, limit }) = reconcile(policy, &wanted, &limits, loaded, None) {
            prop_assert_eq!(tokens, wanted.prompt_low);
            prop_assert!(tokens >= limit);
            if policy != WindowPolicy::Pin {
                prop_assert_eq!(Some(limit), limits.largest(loaded).map(u64::from));
            }
        }
    }

    #[test]
    fn steps_are_powers_of_two_times_2048(tokens in 0_u32..2_000_000) {
        let step = bucket(tokens);
        prop_assert!(step >= tokens && (step == LADDER_START || step / 2 < tokens));
        prop_assert!((step / LADDER_START).is_power_of_two() && step.is_multiple_of(LADDER_START));
    }
}
