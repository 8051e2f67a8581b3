//! Tests of what is learned, on nodes whose parameters are hidden from the learner.

use super::*;

/// `SplitMix64`, and what is made of it.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let numerator = ((z ^ (z >> 31)) >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Evenly over the orders of magnitude.
    fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.unit().max(1e-12).ln()).sqrt(), self.unit());
        radius * (std::f64::consts::TAU * angle).cos()
    }
}

/// A node as it is, which only its answers show.
struct Hidden {
    prefill_tps: f64,
    prompt_ms: f64,
    decode_ms: f64,
    slope: f64,
    load_ms: f64,
    noise: f64,
    outliers: f64,
}

impl Hidden {
    fn new(dice: &mut Dice) -> Self {
        Self {
            prefill_tps: dice.scale(100.0, 6000.0),
            prompt_ms: dice.between(0.0, 150.0),
            decode_ms: dice.scale(6.0, 200.0),
            slope: dice.between(0.0, 0.002),
            load_ms: dice.scale(400.0, 20_000.0),
            noise: dice.between(0.02, 0.09),
            outliers: 0.04,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small positive numbers"
    )]
    fn answer(&self, dice: &mut Dice) -> Observation {
        let prompt = dice.scale(60.0, 12_000.0);
        let cached = if dice.unit() < 0.3 {
            prompt * dice.between(0.2, 0.95)
        } else {
            0.0
        };
        let answer = dice.scale(20.0, 900.0);
        let mut noise = || {
            let usual = (self.noise * dice.normal()).exp();
            let outlier = dice.unit() < self.outliers / 2.0;
            usual * if outlier { dice.between(1.5, 4.0) } else { 1.0 }
        };
        let (prompt, cached, answer) = (prompt.floor(), cached.floor(), answer.floor());
        let uncached = prompt - cached;
        let prefill = self.prompt_ms + uncached * 1000.0 / self.prefill_tps;
        let decode = answer
            * (self.decode_ms + self.slope * self.decode_ms * 0.05 * (prompt + answer / 2.0));
        let load = self.load_ms * noise();
        Observation {
            context: 16_384,
            prompt_tokens: prompt as u64,
            cached_tokens: cached as u64,
            characters: Some((prompt * 3.7) as u64),
            prompt_ms: Some(prefill * noise()),
            answer_tokens: answer as u64,
            decode_ms: Some(decode * noise()),
            load: Some((Load::Cold, load)),
            crowded: false,
            began_crowded: false,
        }
    }
}

fn work(seen: &Observation, load: Load) -> Work {
    Work {
        uncached_tokens: seen.uncached(),
        prompt_tokens: seen.prompt_tokens,
        answer_tokens: seen.answer_tokens,
        load,
        crowded: false,
    }
}

/// After 20 answers of each of 200 nodes: how many of 100 others are predicted within 20 %, and how many lie in their range.
fn quality(seed: u64, load: Load) -> (f64, f64) {
    let mut dice = Dice(seed);
    let model = ModelName::new("m");
    let (mut close, mut covered, mut all) = (0.0, 0.0, 0.0);
    for node in 0..200 {
        let hidden = Hidden::new(&mut dice);
        let node = node.to_string();
        let mut learner = Learner::default();
        for _ in 0..20 {
            learner.observe(&node, &model, &hidden.answer(&mut dice));
        }
        for _ in 0..100 {
            let other = hidden.answer(&mut dice);
            let range = learner
                .estimate(&node, &model, 16_384, &work(&other, load))
                .unwrap();
            let loaded = if load == Load::No {
                0.0
            } else {
                other.load.unwrap().1
            };
            let real = other.prompt_ms.unwrap() + other.decode_ms.unwrap() + loaded;
            all += 1.0;
            close += f64::from((range.centre / real - 1.0).abs() <= 0.2);
            covered += f64::from((range.low..=range.high).contains(&real));
        }
    }
    (close / all, covered / all)
}

#[test]
fn after_20_answers_nine_of_ten_are_predicted_within_a_fifth_and_ranges_hold_what_they_say() {
    for seed in 1..=5 {
        for load in [Load::No, Load::Cold] {
            let (close, covered) = quality(seed, load);
            assert!(
                close >= 0.9,
                "seed {seed} {load:?}: only {close} within 20 %"
            );
            assert!(
                (0.75..=0.85).contains(&covered),
                "seed {seed} {load:?}: {covered} in the range"
            );
        }
    }
}

#[test]
fn nothing_is_known_before_it_was_measured() {
    let learner = Learner::default();
    let model = ModelName::new("m");
    assert_eq!(learner.estimate("a", &model, 4096, &Work::default()), None);
    let mut learner = learner;
    let short = Observation {
        prompt_tokens: 20,
        prompt_ms: Some(30.0),
        answer_tokens: 3,
        decode_ms: Some(60.0),
        ..Observation::default()
    };
    learner.observe("a", &model, &short);
    let speed = learner.speed("a", &model, 4096);
    assert_eq!(
        (speed.prefill_tps, speed.decode_tps, speed.load_ms),
        (None, None, None)
    );
    assert_eq!(
        speed.prefill_ms(50),
        Some(30.0),
        "a short prompt takes as long as another"
    );
    assert_eq!(speed.prefill_ms(5000), None);
    assert_eq!(learner.speed("b", &model, 4096).samples, 0);
}

#[test]
fn a_larger_context_has_its_own_speed_once_it_has_answers_enough() {
    let model = ModelName::new("m");
    let mut learner = Learner::default();
    let answer = |context, ms| Observation {
        context,
        prompt_tokens: 1000,
        prompt_ms: Some(ms),
        answer_tokens: 100,
        decode_ms: Some(ms),
        ..Observation::default()
    };
    for _ in 0..10 {
        learner.observe("a", &model, &answer(4096, 500.0));
    }
    let tps = |learner: &Learner, context| learner.speed("a", &model, context).decode_tps.unwrap();
    assert!((tps(&learner, 32_768) - 200.0).abs() < 1.0);
    for _ in 0..ENOUGH {
        learner.observe("a", &model, &answer(32_768, 5000.0));
    }
    assert!((tps(&learner, 32_768) - 20.0).abs() < 1.0);
    assert!((tps(&learner, 3000) - 200.0).abs() < 1.0);
}

#[test]
fn a_node_that_changes_is_followed() {
    let model = ModelName::new("m");
    let mut learner = Learner::default();
    let answer = |ms| Observation {
        prompt_tokens: 1000,
        prompt_ms: Some(100.0),
        answer_tokens: 100,
        decode_ms: Some(ms),
        ..Observation::default()
    };
    for _ in 0..1000 {
        learner.observe("a", &model, &answer(1000.0));
    }
    for _ in 0..KEPT {
        learner.observe("a", &model, &answer(4000.0));
    }
    let speed = learner.speed("a", &model, 0);
    assert!((speed.decode_tps.unwrap() - 25.0).abs() < 0.1, "{speed:?}");
    assert_eq!(speed.samples, 1048);
}

#[test]
fn memory_is_bounded() {
    let mut learner = Learner::default();
    for index in 0..2000 {
        let model = ModelName::new(&format!("m{index}"));
        let seen = Observation {
            context: index * 3000,
            prompt_ms: Some(1.0),
            ..Observation::default()
        };
        learner.observe("a", &model, &seen);
        learner.observe("a", &ModelName::new("m0"), &seen);
    }
    let models = &learner.nodes["a"];
    assert_eq!(models.len(), MOST_MODELS);
    assert!(
        models
            .values()
            .all(|model| model.contexts.len() <= MOST_CONTEXTS)
    );
}

#[test]
fn what_is_kept_across_runs_predicts_as_before() {
    let model = ModelName::new("m");
    let mut dice = Dice(3);
    let hidden = Hidden::new(&mut dice);
    let mut learner = Learner::default();
    for _ in 0..20 {
        learner.observe("a", &model, &hidden.answer(&mut dice));
    }
    let text = serde_json::to_string(&learner.kept("a")).unwrap();
    assert!(text.len() < 4000, "{}", text.len());
    let kept: BTreeMap<String, KeptModel> = serde_json::from_str(&text).unwrap();
    let mut restored = Learner::default();
    for (name, kept) in &kept {
        restored.restore("a", &ModelName::new(name), kept);
    }
    let plain = |learner: &Learner| Speed {
        recent_tps: None,
        ..learner.speed("a", &model, 16_384)
    };
    assert_eq!(plain(&restored), plain(&learner));
    assert_eq!(restored.speed("a", &model, 16_384).samples, 20);
}

#[test]
fn what_was_kept_by_somebody_else_is_bounded_and_never_nonsense() {
    let text = r#"{"contexts":[[4096,[[300,0,-5.0,10,1e999],[300,400,null,0,null]]]],"cold":[-1.0,0.0],"samples":7}"#;
    // A number that is too large for a float is refused by the reader; the rest is taken as far as it means something.
    let text = text.replace("1e999", "1e308");
    let kept: KeptModel = serde_json::from_str(&text).unwrap();
    let mut learner = Learner::default();
    learner.restore("a", &ModelName::new("m"), &kept);
    let speed = learner.speed("a", &ModelName::new("m"), 4096);
    assert_eq!(
        (speed.prefill_tps, speed.load_ms, speed.samples),
        (None, None, 7)
    );
}

#[test]
fn the_newest_speed_follows_at_once() {
    let model = ModelName::new("m");
    let mut learner = Learner::default();
    let answer = |ms| Observation {
        answer_tokens: 100,
        decode_ms: Some(ms),
        ..Observation::default()
    };
    for _ in 0..40 {
        learner.observe("a", &model, &answer(1000.0));
    }
    for _ in 0..9 {
        let crowded = Observation {
            crowded: true,
            ..answer(9000.0)
        };
        learner.observe("a", &model, &crowded);
    }
    for _ in 0..3 {
        learner.observe("a", &model, &answer(20_000.0));
    }
    let speed = learner.speed("a", &model, 0);
    assert_eq!(speed.recent_tps, Some(5.0));
    assert!(speed.decode_tps.unwrap() > 90.0);
}

/// A node that takes 1.6 times as long for requests beside others.
#[test]
fn requests_beside_others_have_their_own_range_and_do_not_blur_the_speed() {
    let model = ModelName::new("m");
    let mut dice = Dice(11);
    let (mut close, mut covered, mut all) = ([0.0; 2], [0.0; 2], [0.0; 2]);
    for node in 0..200 {
        let hidden = Hidden::new(&mut dice);
        let node = node.to_string();
        let mut learner = Learner::default();
        let mut answer = |crowded: bool| {
            let seen = hidden.answer(&mut dice);
            let slower = if crowded { 1.6 } else { 1.0 };
            Observation {
                prompt_ms: seen.prompt_ms.map(|ms| ms * slower),
                decode_ms: seen.decode_ms.map(|ms| ms * slower),
                crowded,
                began_crowded: crowded,
                ..seen
            }
        };
        for index in 0..40 {
            learner.observe(&node, &model, &answer(index % 2 == 0));
        }
        for index in 0..100 {
            let crowded = index % 2 == 0;
            let other = answer(crowded);
            let work = Work {
                crowded,
                ..work(&other, Load::No)
            };
            let range = learner.estimate(&node, &model, 16_384, &work).unwrap();
            let real = other.prompt_ms.unwrap() + other.decode_ms.unwrap();
            let kind = usize::from(crowded);
            all[kind] += 1.0;
            close[kind] += f64::from((range.centre / real - 1.0).abs() <= 0.2);
            covered[kind] += f64::from((range.low..=range.high).contains(&real));
        }
    }
    for kind in 0..2 {
        let (close, covered) = (close[kind] / all[kind], covered[kind] / all[kind]);
        assert!(close >= 0.9, "{kind}: only {close} within 20 %");
        assert!((0.75..=0.85).contains(&covered), "{kind}: {covered}");
    }
}
