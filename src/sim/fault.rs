//! What can go wrong on purpose: `KIND[=VALUE][@P]`.

use std::str::FromStr;
use std::time::Duration;

use super::seed::Rng;
use super::trim::{Shape, Trim};

/// Context that a `truncate` fault without a value leaves.
const TRUNCATE_DEFAULT: u32 = 512;
/// Smallest context that makes sense.
const TRUNCATE_LEAST: u32 = 8;

/// One kind of misbehaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The answer starts this much later.
    Delay(Duration),
    /// This status instead of an answer.
    Status(u16),
    /// The connection closes after so many pieces of the body; 0: before the answer's first byte.
    Cut(u32),
    /// Silence after so many pieces of the body, until the client leaves; 0: no answer at all.
    Hang(u32),
    /// Well-framed bytes that are no document of the dialect.
    Garbage,
    /// The model is loaded on the CPU although there is room on the GPU.
    Cpu,
    /// Prompts are cut in this way, whatever was asked for and shown.
    Truncate(Trim),
}

/// Which requests a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Only those that run a model: the node looks healthy.
    #[default]
    Inference,
    /// All of them.
    Everything,
}

/// A fault with its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// How often it happens, 0 to 1.
    pub probability: f64,
    /// To which requests.
    pub scope: Scope,
}

impl Fault {
    /// A fault that strikes every request that runs a model.
    pub fn always(kind: FaultKind) -> Self {
        Self {
            kind,
            probability: 1.0,
            scope: Scope::Inference,
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, probability) = match text.rsplit_once('@') {
            Some((what, p)) => (what, parse_probability(p)?),
            None => (text, 1.0),
        };
        let (kind, value) = match what.split_once('=') {
            Some((kind, value)) => (kind, Some(value)),
            None => (what, None),
        };
        let kind = match (kind, value) {
            ("delay", Some(value)) => humantime::parse_duration(value)
                .map(FaultKind::Delay)
                .map_err(|error| format!("delay={value}: {error}"))?,
            ("status", Some(value)) => match value.parse() {
                Ok(status @ 400..=599) => FaultKind::Status(status),
                _ => return Err(format!("status={value}: expected 400 to 599")),
            },
            ("cut", value) => FaultKind::Cut(count("cut", value, 0)?),
            ("hang", value) => FaultKind::Hang(count("hang", value, 0)?),
            ("truncate", value) => FaultKind::Truncate(trim(value)?),
            ("garbage", None) => FaultKind::Garbage,
            ("cpu", None) => FaultKind::Cpu,
            ("delay" | "status", None) => return Err(format!("{kind} needs a value: {kind}=…")),
            ("garbage" | "cpu", Some(_)) => return Err(format!("{kind} takes no value")),
            _ => {
                return Err(format!(
                    "unknown fault `{kind}` (delay=2s, status=503, cut=5, hang, garbage, cpu, truncate)"
                ));
            }
        };
        Ok(Self {
            kind,
            probability,
            scope: Scope::Inference,
        })
    }
}

fn parse_probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err(format!("@{text}: expected a probability from 0 to 1")),
    }
}

/// `SHAPE`, `SHAPE:WINDOW` or `WINDOW`: a shape alone cuts at the context that is shown, a window alone as llama.cpp does.
fn trim(value: Option<&str>) -> Result<Trim, String> {
    let window = |text| count("truncate", text, TRUNCATE_DEFAULT).map(|n| n.max(TRUNCATE_LEAST));
    let Some(value) = value else {
        return Ok(Trim::hidden(Shape::Half, TRUNCATE_DEFAULT));
    };
    let (word, number) = match value.split_once(':') {
        Some((word, number)) => (word, Some(number)),
        None => (value, None),
    };
    match (Shape::named(word), number) {
        (Some(shape), Some(number)) => Ok(Trim::hidden(shape, window(Some(number))?)),
        (Some(shape), None) => Ok(Trim::shown(shape)),
        (None, _) => Ok(Trim::hidden(Shape::Half, window(Some(value))?)),
    }
}

fn count(kind: &str, value: Option<&str>, default: u32) -> Result<u32, String> {
    match value {
        None => Ok(default),
        Some(value) => value
            .parse()
            .map_err(|_| format!("{kind}={value}: expected a number")),
    }
}

/// The faults that strike one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Struck {
    /// See [`FaultKind::Delay`].
    pub delay: Option<Duration>,
    /// See [`FaultKind::Status`].
    pub status: Option<u16>,
    /// See [`FaultKind::Cut`].
    pub cut: Option<u32>,
    /// See [`FaultKind::Hang`].
    pub hang: Option<u32>,
    /// See [`FaultKind::Garbage`].
    pub garbage: bool,
    /// See [`FaultKind::Cpu`].
    pub cpu: bool,
    /// See [`FaultKind::Truncate`].
    pub truncate: Option<Trim>,
}

impl Struck {
    /// Throws the dice for one request. Every fault takes one number, whether it applies or not, so that adding a control request does
    /// not shift the dice of a fault that comes later in the list.
    pub(super) fn roll(faults: &[Fault], inference: bool, rng: &mut Rng) -> Self {
        let mut struck = Self::default();
        for fault in faults {
            let hit = rng.unit() < fault.probability;
            if !hit || (fault.scope == Scope::Inference && !inference) {
                continue;
            }
            match fault.kind {
                FaultKind::Delay(by) => struck.delay = Some(by),
                FaultKind::Status(status) => struck.status = Some(status),
                FaultKind::Cut(pieces) => struck.cut = Some(pieces),
                FaultKind::Hang(pieces) => struck.hang = Some(pieces),
                FaultKind::Garbage => struck.garbage = true,
                FaultKind::Cpu => struck.cpu = true,
                FaultKind::Truncate(trim) => struck.truncate = Some(trim),
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::proptest;

    fn kind(text: &str) -> FaultKind {
        text.parse::<Fault>().unwrap().kind
    }

    #[test]
    fn reads_every_kind() {
        assert_eq!(kind("delay=2s"), FaultKind::Delay(Duration::from_secs(2)));
        assert_eq!(kind("status=503"), FaultKind::Status(503));
        assert_eq!(kind("cut=5"), FaultKind::Cut(5));
        assert_eq!(kind("hang"), FaultKind::Hang(0));
        assert_eq!(kind("hang=3"), FaultKind::Hang(3));
        assert_eq!(kind("garbage"), FaultKind::Garbage);
        assert_eq!(kind("cpu"), FaultKind::Cpu);
        let half = Trim::hidden(Shape::Half, 512);
        assert_eq!(kind("truncate"), FaultKind::Truncate(half));
        assert_eq!(kind("truncate=512"), FaultKind::Truncate(half));
        assert_eq!(
            kind("truncate=middle:4096"),
            FaultKind::Truncate(Trim::hidden(Shape::Middle, 4096))
        );
        assert_eq!(
            kind("truncate=front"),
            FaultKind::Truncate(Trim::shown(Shape::Front))
        );
        let half = "cut=5@0.5".parse::<Fault>().unwrap();
        assert!((half.probability - 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("delay", "needs a value"),
            ("delay=soon", "delay=soon"),
            ("status=200", "400 to 599"),
            ("cut=x", "cut=x"),
            ("truncate=sideways", "truncate=sideways"),
            ("garbage=1", "takes no value"),
            ("flood", "unknown fault `flood`"),
            ("hang@2", "probability"),
            ("hang@NaN", "probability"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn dice_follow_the_seed_and_the_probability() {
        let faults = ["status=503@0.3".parse().unwrap()];
        let run = |seed| -> Vec<bool> {
            let mut rng = Rng::new(seed);
            (0..1000)
                .map(|_| Struck::roll(&faults, true, &mut rng).status.is_some())
                .collect()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let hits = run(1).into_iter().filter(|hit| *hit).count();
        assert!((200..400).contains(&hits), "{hits}");
    }

    #[test]
    fn control_requests_are_spared_unless_told_otherwise() {
        let mut fault = Fault::always(FaultKind::Status(500));
        assert_eq!(
            Struck::roll(&[fault], false, &mut Rng::new(1)),
            Struck::default()
        );
        fault.scope = Scope::Everything;
        assert_eq!(
            Struck::roll(&[fault], false, &mut Rng::new(1)).status,
            Some(500)
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = text.parse::<Fault>();
        }
    }
}
