//! Cut prompts are found and whole ones are not suspected: simulated servers cut in five ways, real tokenizers counted the texts.
//!
//! What a prompt really has comes from counts that the tokenizers of eight families made of the texts (`token_counts.json`), what a cut
//! leaves from the simulator; the judgement knows neither. Nothing here takes time: it is a function of seeds.

use gpurouter::dialect::{Endpoint, parse};
use gpurouter::routing::Family;
use gpurouter::routing::truncation::{Prompt, Reading, Verdict, Windows, judge};
use gpurouter::sim::Shape;
use serde_json::{Value, json};

/// Requests of a run.
const REQUESTS: u32 = 10_000;

/// A model as clients write it, and the tokenizer that it really has.
const MODELS: [(&str, &str); 12] = [
    ("qwen2.5-coder:7b", "qwen25"),
    ("llama3.1:8b", "llama3"),
    ("gemma2:9b", "gemma2"),
    ("mistral:7b", "mistral1"),
    ("llama2:13b", "llama2"),
    ("deepseek-v3", "deepseek3"),
    ("gpt-4-turbo", "cl100k"),
    ("gpt-4o-mini", "o200k"),
    // Names that tell nothing.
    ("house-model", "llama3"),
    ("mystery:latest", "mistral1"),
    ("finetune-7", "gemma2"),
    ("assistant", "o200k"),
];

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let numerator = (self.next() >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }

    /// Evenly over the orders of magnitude.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small positive numbers"
    )]
    fn scale(&mut self, low: u32, high: u32) -> u32 {
        let (low, high) = (f64::from(low).ln(), f64::from(high).ln());
        (low + (high - low) * self.unit()).exp() as u32
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// A prompt of at least `tokens` tokens as the tokenizer counts it, and how many it has.
fn prompt(dice: &mut Dice, samples: &[Value], tokenizer: &str, tokens: u32) -> (Vec<String>, u32) {
    // One language and kind, or a mixture as agents send it.
    let kinds: Vec<&Value> = (0..=dice.below(4)).map(|_| dice.of(samples)).collect();
    let (mut messages, mut message, mut counted) = (Vec::new(), String::new(), 0);
    while counted < tokens {
        let sample = *dice.of(&kinds);
        message.push_str(sample["text"].as_str().unwrap());
        message.push('\n');
        counted += u32::try_from(sample["counts"][tokenizer].as_u64().unwrap()).unwrap() + 1;
        if dice.unit() < 0.05 {
            messages.push(std::mem::take(&mut message));
            counted += 4;
        }
    }
    messages.push(message);
    (messages, counted + 4)
}

#[derive(Default, Debug)]
struct Score {
    cut: u32,
    undetected: u32,
    whole: u32,
    false_alarms: u32,
    unknown: u32,
}

struct Request {
    model: &'static str,
    messages: Vec<String>,
    /// As the server's tokenizer counts it.
    tokens: u32,
    window: u32,
    /// What the router knows of the window.
    known: Vec<u64>,
    answer: Option<u32>,
}

fn request(dice: &mut Dice, samples: &[Value]) -> Request {
    let (model, tokenizer) = *dice.of(&MODELS);
    let usual = 1024 << dice.below(4);
    let odd = 1000 + dice.scale(1, 8000);
    let shown = *dice.of(&[usual, usual / 2 * 3, odd]);
    let answer = (dice.unit() < 0.5).then(|| dice.scale(16, 2048));
    let longer = dice.unit() < 0.4;
    // The window is the one that is shown, or one that nobody tells.
    let (window, known, times) = match dice.below(10) {
        0..6 => (shown, vec![u64::from(shown)], 1.0),
        6 => (2 * usual, vec![], 1.0),
        7 | 8 => (2 * usual, vec![u64::from(usual * 8)], 1.0),
        // Of a window that is neither told nor usual only deep cuts can be seen.
        _ => (shown, vec![], 5.0),
    };
    let tokens = if longer {
        let least = f64::from(window) * times;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small positive numbers"
        )]
        dice.scale(least as u32 + 1, (least * 5.0) as u32)
    } else {
        dice.scale(40, window)
    };
    let (messages, tokens) = prompt(dice, samples, tokenizer, tokens);
    // What was to be whole may have come out a little longer than the window.
    let window = if !longer && times > 1.0 {
        tokens + 2 * 2048
    } else {
        window
    };
    Request {
        model,
        messages,
        tokens,
        window,
        known,
        answer,
    }
}

fn samples() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/token_counts.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["samples"].as_array().unwrap().clone()
}

/// The verdict on a request whose server cuts in this way.
fn verdict(request: &Request, shape: Shape, secret: u64) -> (bool, Verdict, u32) {
    let messages: Vec<Value> = request
        .messages
        .iter()
        .map(|text| json!({"role": "user", "content": text}))
        .collect();
    let body = json!({"model": request.model, "messages": messages}).to_string();
    let parsed = parse(&Endpoint::Chat, body.as_bytes()).unwrap();
    let family = Family::of_model(request.model);
    let facts = parsed.facts(family, false);
    let (characters, said) = parsed.prompt_characters();
    let left = shape.left(request.tokens, request.window, request.answer, secret);
    let windows = Windows {
        known: &request.known,
        answer: request.answer.map(u64::from),
        one_text: parsed.one_prompt(),
    };
    let reading = Reading {
        tokens: Some(u64::from(left)),
        may_lack_cached: false,
    };
    let prompt = Prompt::of(family, facts.prompt_tokens, characters, said, None);
    (
        left < request.tokens,
        judge(&prompt, &windows, &reading),
        left,
    )
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures are what this test is for")]
fn ten_thousand_prompts_no_cut_goes_undetected_and_hardly_a_whole_one_is_suspected() {
    let samples = samples();
    let mut dice = Dice(5);
    let mut scores: Vec<(Shape, Score)> = Shape::ALL.map(|shape| (shape, Score::default())).into();
    let mut missed = Vec::new();
    for _ in 0..REQUESTS {
        let request = request(&mut dice, &samples);
        let at = dice.below(scores.len());
        let (shape, score) = &mut scores[at];
        let (cut, verdict, left) = verdict(&request, *shape, dice.next());
        let told = matches!(verdict, Verdict::Cut(_));
        let Request {
            model,
            tokens,
            window,
            known,
            answer,
            ..
        } = &request;
        let case = format!(
            "{shape:?} {model}: {left} of {tokens} at {window} (known {known:?}, answer {answer:?}): {verdict:?}"
        );
        if cut {
            score.cut += 1;
            score.undetected += u32::from(!told);
            if !told {
                missed.push(case);
            }
        } else {
            score.whole += 1;
            score.false_alarms += u32::from(told);
            score.unknown += u32::from(verdict == Verdict::Unknown);
            if told {
                println!("false alarm: {case}");
            }
        }
    }
    for (shape, score) in &scores {
        println!("{shape:?}: {score:?}");
    }
    let sum = |of: fn(&Score) -> u32| scores.iter().map(|(_, score)| of(score)).sum::<u32>();
    let (whole, alarms) = (sum(|s| s.whole), sum(|s| s.false_alarms));
    println!(
        "{} cut, {whole} whole, {alarms} false alarms, {} not judged",
        sum(|s| s.cut),
        sum(|s| s.unknown)
    );
    assert!(sum(|s| s.cut) > REQUESTS / 4 && whole > REQUESTS / 2);
    assert!(missed.is_empty(), "undetected: {missed:#?}");
    assert!(alarms * 200 < whole, "{alarms} of {whole}");
}
