//! A figure of all targets: what a proxy adds to the direct way, and the router's ratio to the others.

use super::figures::{Definition, Kind, Limit};
use super::index::Index;
use super::report::{Figure, Headroom, Ratio};
use super::{DIRECT, ROUTER, Spread};

/// How far the direct rate must be above a proxy's, so that what was measured is the proxy and not the generator.
pub(super) const HEADROOM: f64 = 1.5;

/// A figure, and the targets whose added time was measured but is unknown for being lost in noise.
pub(super) fn figure<'a>(
    seen: &Index<'a>,
    definition: &Definition,
    headroom: &mut Vec<Headroom>,
) -> (Figure, Vec<&'a str>) {
    let added = definition.kind == Kind::Added;
    let direct = seen.values(definition, DIRECT);
    let rounds: Vec<(&'a str, Vec<Option<f64>>)> = seen
        .settings
        .targets
        .iter()
        .map(|target| {
            let own = seen.values(definition, &target.name);
            let values = if added && target.name != DIRECT {
                combine(&own, &direct, |with, without| with - without)
            } else {
                own
            };
            (target.name.as_str(), values)
        })
        .collect();
    let spread = |values: &[Option<f64>]| {
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        // An added time of nothing or less only says that the noise is larger.
        Spread::of(&known).filter(|spread| !added || spread.median > 0.0)
    };
    let values: Vec<Option<Spread>> = rounds.iter().map(|(_, values)| spread(values)).collect();
    let of = |name: &str| rounds.iter().position(|(target, _)| *target == name);
    let rate = |at: usize| {
        values
            .get(at)
            .copied()
            .flatten()
            .map(|spread| spread.median)
    };
    let limit = match definition.limit {
        Limit::Rate => of(DIRECT).and_then(rate).map(|rate| rate / HEADROOM),
        _ => None,
    };
    let late =
        matches!(definition.limit, Limit::Pieces(form, streams) if seen.pieces_late(form, streams));
    let mut ratios = Vec::new();
    for (at, (name, theirs)) in rounds.iter().enumerate() {
        if [DIRECT, ROUTER].contains(name) {
            continue;
        }
        let slow = definition.limit == Limit::Rate
            && [of(ROUTER).and_then(rate), rate(at)]
                .into_iter()
                .flatten()
                .any(|rate| limit.is_none_or(|limit| rate > limit));
        let ours = of(ROUTER)
            .and_then(|at| Some((rounds.get(at)?.1.as_slice(), values.get(at).copied()??)));
        let both = ours
            .zip(values.get(at).copied().flatten())
            .filter(|_| !slow && !late);
        ratios.push(ratio(
            name,
            both.map(|((ours, middle), other)| (ours, theirs.as_slice(), middle, other)),
            added,
        ));
    }
    if definition.limit == Limit::Rate {
        headroom.extend(headroom_of(definition, &rounds, &values));
    }
    let lost = rounds.iter().zip(&values).filter(|((_, rounds), value)| {
        added && value.is_none() && rounds.iter().any(Option::is_some)
    });
    let lost = lost.map(|((name, _), _)| *name).collect();
    let figure = Figure {
        id: definition.id.clone(),
        section: definition.section,
        title: definition.title.clone(),
        unit: definition.unit,
        added,
        less: definition.less,
        values,
        ratios,
    };
    (figure, lost)
}

type Both<'a> = (&'a [Option<f64>], &'a [Option<f64>], Spread, Spread);

fn ratio(to: &str, both: Option<Both<'_>>, added: bool) -> Ratio {
    let unknown = Ratio {
        to: to.to_owned(),
        median: None,
        range: None,
    };
    let Some((ours, theirs, our_middle, their_middle)) = both else {
        return unknown;
    };
    if their_middle.median <= 0.0 {
        return unknown;
    }
    let pairs: Vec<(f64, f64)> = ours
        .iter()
        .zip(theirs)
        .filter_map(|(a, b)| (*a).zip(*b))
        .collect();
    // With a denominator of nothing or less a round has no ratio, and a spread of the others would be chosen.
    let sound = pairs
        .iter()
        .all(|(ours, theirs)| *theirs > 0.0 && (!added || *ours > 0.0));
    let each: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
    let spread = Spread::of(&each).filter(|_| sound);
    let median = if added {
        Some(our_middle.median / their_middle.median)
    } else {
        spread.map(|spread| spread.median)
    };
    Ratio {
        median,
        range: spread.map(|spread| (spread.min, spread.max)),
        ..unknown
    }
}

fn headroom_of(
    definition: &Definition,
    rounds: &[(&str, Vec<Option<f64>>)],
    values: &[Option<Spread>],
) -> Option<Headroom> {
    let medians = rounds
        .iter()
        .zip(values)
        .filter_map(|((name, _), value)| Some((*name, (*value)?.median)));
    let (direct, proxies): (Vec<_>, Vec<_>) = medians.partition(|(name, _)| *name == DIRECT);
    let fastest = proxies
        .iter()
        .map(|(_, rate)| *rate)
        .fold(f64::NAN, f64::max);
    if fastest.is_nan() {
        return None;
    }
    let ratio = direct.first().map(|(_, rate)| rate / fastest);
    Some(Headroom {
        figure: definition.id.clone(),
        ratio,
        enough: ratio.is_some_and(|ratio| ratio >= HEADROOM),
    })
}

fn combine(a: &[Option<f64>], b: &[Option<f64>], f: impl Fn(f64, f64) -> f64) -> Vec<Option<f64>> {
    a.iter()
        .zip(b)
        .map(|(a, b)| Some(f((*a)?, (*b)?)))
        .collect()
}
