//! Tests of the optimum, against trying everything.

use super::*;
use proptest::prelude::*;

fn problem(steps: &[(usize, u32)], nodes: &[(u64, usize)], models: &[(u64, u64)]) -> Problem {
    Problem {
        steps: steps
            .iter()
            .map(|(model, context)| Step::Serve {
                model: *model,
                context: *context,
            })
            .collect(),
        nodes: nodes.to_vec(),
        models: models.to_vec(),
        places: vec![(0..nodes.len()).collect(); models.len()],
        most_bytes: None,
    }
}

#[test]
fn one_load_covers_every_context_that_fits() {
    let steps: Vec<_> = [2048, 4096, 3000]
        .into_iter()
        .cycle()
        .take(36)
        .map(|c| (0, c))
        .collect();
    assert_eq!(
        problem(&steps, &[(10_000, 3)], &[(100, 1)]).solve(),
        Some(1)
    );
    // 4,096 do not fit beside the other model: whatever is loaded first, each change costs a load.
    let mixed = [(0, 2048), (1, 1), (0, 4096), (1, 1), (0, 2048)];
    assert_eq!(
        problem(&mixed, &[(5000, 3)], &[(100, 1), (2000, 0)]).solve(),
        Some(5)
    );
}

#[test]
fn what_is_needed_last_goes_first() {
    // Two of three models fit: Belady's example needs 5 loads, LRU 8.
    let steps: Vec<_> = [0, 1, 2, 0, 1, 2, 0, 1].iter().map(|m| (*m, 1)).collect();
    assert_eq!(
        problem(&steps, &[(200, 3)], &[(100, 0); 3]).solve(),
        Some(5)
    );
}

#[test]
fn nodes_keep_models_apart() {
    let steps: Vec<_> = [0, 1, 0, 1, 0, 1].iter().map(|m| (*m, 1)).collect();
    let models = [(100, 0), (100, 0)];
    assert_eq!(problem(&steps, &[(150, 3)], &models).solve(), Some(6));
    assert_eq!(
        problem(&steps, &[(150, 3), (150, 3)], &models).solve(),
        Some(2)
    );
    assert_eq!(
        problem(&steps, &[(900, 1)], &models).solve(),
        Some(6),
        "one model at a time"
    );
}

#[test]
fn a_restart_costs_what_was_in_memory() {
    let mut with = problem(&[(0, 1), (0, 1), (0, 1)], &[(200, 3)], &[(100, 0)]);
    assert_eq!(with.solve(), Some(1));
    with.steps.insert(2, Step::Restart { node: 0 });
    assert_eq!(with.solve(), Some(2));
}

/// Every way to serve the steps in order, without any cleverness: any node, any context up to the largest, any set evicted.
fn brute(problem: &Problem, step: usize, state: &State) -> u64 {
    let Some(Step::Serve { model, context }) = problem.steps.get(step).copied() else {
        return 0;
    };
    let covered = state
        .iter()
        .flatten()
        .any(|held| held.0 == model && held.1 >= context);
    let mut best = if covered {
        brute(problem, step + 1, state)
    } else {
        u64::MAX
    };
    for node in 0..problem.nodes.len() {
        let others: Vec<_> = state[node]
            .iter()
            .copied()
            .filter(|held| held.0 != model)
            .collect();
        let largest = problem.steps.iter().map(|step| match step {
            Step::Serve { context, .. } => *context,
            Step::Restart { .. } => 0,
        });
        for option in context..=largest.max().unwrap_or(context) {
            for set in 0..1_u32 << others.len() {
                let mut kept = chosen(&others, set);
                let used: u64 = kept.iter().map(|(m, c)| problem.bytes(*m, *c)).sum();
                let fits = used + problem.bytes(model, option) <= problem.nodes[node].0;
                if !(fits || kept.is_empty()) || kept.len() >= problem.nodes[node].1 {
                    continue;
                }
                kept.push((model, option));
                kept.sort_unstable();
                let mut after = state.clone();
                after[node] = kept;
                best = best.min(1 + brute(problem, step + 1, &after));
            }
        }
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn dropping_states_changes_nothing(
        steps in prop::collection::vec((0_usize..6, 1_u32..=2), 8..40),
        nodes in prop::collection::vec((4_u64..9, 2_usize..6), 1..=2),
        models in prop::collection::vec((1_u64..4, 0_u64..2), 6),
    ) {
        let problem = problem(&steps, &nodes, &models);
        let all = problem.solve_with(|states| states);
        prop_assert!(all.is_none() || problem.solve() == all);
    }

    #[test]
    fn on_one_node_it_is_what_trying_everything_finds(
        steps in prop::collection::vec((0_usize..3, 1_u32..=2), 5..9),
        node in (3_u64..7, 2_usize..4),
        models in prop::collection::vec((1_u64..4, 0_u64..2), 3),
    ) {
        let problem = problem(&steps, &[node], &models);
        prop_assert_eq!(problem.solve(), Some(brute(&problem, 0, &vec![Vec::new()])));
    }

    #[test]
    fn it_is_what_trying_everything_finds(
        steps in prop::collection::vec((0_usize..3, 1_u32..=3), 1..6),
        nodes in prop::collection::vec((2_u64..9, 1_usize..4), 1..=2),
        models in prop::collection::vec((1_u64..4, 0_u64..2), 3),
    ) {
        let problem = problem(&steps, &nodes, &models);
        let state = vec![Vec::new(); nodes.len()];
        prop_assert_eq!(problem.solve(), Some(brute(&problem, 0, &state)));
        let pooled = problem.pooled().solve().unwrap();
        prop_assert!(pooled <= problem.solve().unwrap());
    }
}
