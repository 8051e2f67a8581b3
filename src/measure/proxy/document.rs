//! The report as a JSON document.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::figures::float;
use super::observed::{End, Form};
use super::report::{Figure, Ratio, Report};
use super::{DIRECT, Spread, Unit};

impl Unit {
    /// Its name in documents, where all times are in milliseconds.
    pub fn name(self) -> &'static str {
        match self {
            Self::Micros | Self::Millis => "milliseconds",
            Self::PerSecond => "per_second",
            Self::Bytes => "bytes",
            Self::Count => "count",
            Self::Share => "share",
        }
    }

    /// What a value of the report is multiplied with for a document.
    fn factor(self) -> f64 {
        match self {
            Self::Micros | Self::Millis => 1e-6,
            Self::PerSecond | Self::Bytes | Self::Count | Self::Share => 1.0,
        }
    }
}

impl Form {
    /// Its name in documents and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Events => "events",
        }
    }
}

impl End {
    /// Its name in documents and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Told => "error",
            Self::Broken => "broken",
            Self::Clean => "clean_end",
            Self::Hung => "hung",
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl Report {
    fn document(&self) -> Value {
        json!({
            "completed": self.completed,
            "total_ms": self.elapsed_ns.map(|ns| float(ns) / 1e6),
            "load_before": self.load_before,
            "load_after": self.load_after,
            "others_share": self.others_share,
            "repeated": self.repeated,
            "rows": self.figures.iter().map(|figure| self.figure(figure)).collect::<Vec<_>>(),
            "cuts": self.cuts.iter().map(|cut| json!({
                "form": cut.form.name(),
                "target": cut.target,
                "client_sees": cut.end.map(End::name),
                "tries": cut.tries,
            })).collect::<Vec<_>>(),
            "headroom": self.headroom.iter().map(|headroom| json!({
                "row": headroom.figure,
                "ratio": headroom.ratio,
                "enough": headroom.enough,
            })).collect::<Vec<_>>(),
            "warnings": self.warnings.iter().map(|warning| json!({
                "code": warning.code,
                "text": warning.text,
                "cure": warning.cure,
            })).collect::<Vec<_>>(),
        })
    }

    fn figure(&self, figure: &Figure) -> Value {
        let mut targets = Map::new();
        for (target, value) in self.targets.iter().zip(&figure.values) {
            let derived = figure.added && target != DIRECT;
            targets.insert(target.clone(), spread(*value, figure.unit, derived));
        }
        let ratios: Map<String, Value> = figure
            .ratios
            .iter()
            .map(|ratio| (ratio.to.clone(), of_ratio(ratio)))
            .collect();
        json!({
            "id": figure.id,
            "unit": figure.unit.name(),
            "added": figure.added,
            "better": if figure.less { "less" } else { "more" },
            "targets": targets,
            "ratios": ratios,
        })
    }
}

fn spread(value: Option<Spread>, unit: Unit, derived: bool) -> Value {
    let Some(value) = value.map(|value| value.scaled(unit.factor())) else {
        return json!({ "median": null, "min": null, "max": null, "tag": "unknown" });
    };
    json!({
        "median": value.median,
        "min": value.min,
        "max": value.max,
        "tag": if derived { "derived" } else { "measured" },
    })
}

fn of_ratio(ratio: &Ratio) -> Value {
    json!({
        "median": ratio.median,
        "min": ratio.range.map(|(min, _)| min),
        "max": ratio.range.map(|(_, max)| max),
        "tag": if ratio.median.is_some() { "derived" } else { "unknown" },
    })
}
