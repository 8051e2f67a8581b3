//! The nodes of a replay: their GPUs, what they draw, what they hold on disk.

use std::sync::Arc;

use crate::sim::Gpu;
use crate::sim::Model;

/// Watts that a board draws under load, as the makers state them; names as in the simulation's table. What is missing is unknown.
const BOARD_WATTS: &[(&str, f64)] = &[
    ("GTX 1050 Ti", 75.0),
    ("GTX 1070", 150.0),
    ("GTX 1080 Ti", 250.0),
    ("GTX 1650", 75.0),
    ("GTX 1660", 120.0),
    ("RTX 2060", 160.0),
    ("RTX 3050", 130.0),
    ("RTX 3060", 170.0),
    ("RTX 3070", 220.0),
    ("RTX 3080", 320.0),
    ("RTX 3090", 350.0),
    ("RTX 4060", 115.0),
    ("RTX 4060 Ti", 165.0),
    ("RTX 4070", 200.0),
    ("RTX 4080", 320.0),
    ("RTX 4090", 450.0),
    ("RTX 5090", 575.0),
    ("T4", 70.0),
    ("L4", 72.0),
    ("A10", 150.0),
];
/// Share of a board's watts that it draws with a model in memory and nothing to do: 10 to 15 W of a card of 120 to 170 W.
const IDLE_SHARE: f64 = 0.09;

/// What a node draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power {
    /// Watts with nothing to do.
    pub idle: f64,
    /// Watts at work.
    pub busy: f64,
}

impl Power {
    /// What the maker of a GPU states; `None` where the table does not know it.
    pub fn of(gpu: &Gpu) -> Option<Self> {
        BOARD_WATTS
            .iter()
            .find(|(name, _)| *name == gpu.name)
            .map(|(_, busy)| Self {
                idle: busy * IDLE_SHARE,
                busy: *busy,
            })
    }
}

/// A node of a replay.
#[derive(Debug, Clone)]
pub struct FleetNode {
    /// Its name.
    pub name: String,
    /// Its GPU.
    pub gpu: Gpu,
    /// Requests that a model works on at once (`OLLAMA_NUM_PARALLEL`).
    pub parallel: usize,
    /// Whether the router is told how much memory it has; else that has to be learned.
    pub memory_known: bool,
    /// What it draws, where that is known.
    pub power: Option<Power>,
    /// Names of the models on its disk; empty: all of the trace.
    pub models: Vec<String>,
}

impl FleetNode {
    /// A node with that GPU and everything else as usual.
    pub fn new(name: &str, gpu: Gpu) -> Self {
        Self {
            name: name.to_owned(),
            power: Power::of(&gpu),
            gpu,
            parallel: 1,
            memory_known: true,
            models: Vec::new(),
        }
    }

    /// Gives it another GPU.
    #[must_use]
    pub fn with_gpu(self, gpu: Gpu) -> Self {
        Self {
            power: Power::of(&gpu),
            gpu,
            ..self
        }
    }

    /// Bytes that a router may use: all but 1 GiB or a fifth, whichever is less, as everywhere else.
    pub fn usable_bytes(&self) -> u64 {
        let all = self.gpu.vram_bytes;
        all - (1 << 30).min(all / 5)
    }

    /// Whether it has the model on its disk.
    pub fn has(&self, model: &Model) -> bool {
        self.models.is_empty() || self.models.contains(&model.name)
    }
}

/// What a node of a replay is made of, from `NAME=GPU`: replaces the GPU of a node of that name, or adds one.
pub fn with(fleet: &mut Vec<FleetNode>, written: &str) -> Result<(), String> {
    let (name, gpu) = written
        .split_once('=')
        .map(|(name, gpu)| (name.trim(), gpu.trim()))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("`{written}`: expected NODE=GPU, such as gpu1=rtx3060"))?;
    let gpu = Gpu::find(gpu)
        .ok_or_else(|| format!("no such GPU in the table ({})", Gpu::names().join(", ")))?;
    match fleet.iter_mut().find(|node| node.name == name) {
        Some(node) => *node = node.clone().with_gpu(gpu),
        None => fleet.push(FleetNode::new(name, gpu)),
    }
    Ok(())
}

/// The models that requests name, by full name, each once.
pub(super) fn models<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Arc<Model>> {
    let mut models: Vec<Arc<Model>> = Vec::new();
    for name in names {
        let model = Model::named(name, size_in(name));
        if !models.iter().any(|known| known.name == model.name) {
            models.push(Arc::new(model));
        }
    }
    models
}

/// Bytes of a model that the simulation does not know, where its tag says how many billions of weights it has (`:7b`): at five bits for
/// each, as `Q4_K_M` has.
fn size_in(name: &str) -> Option<u64> {
    if Model::is_known(name) {
        return None;
    }
    let tag = name.rsplit_once(':')?.1.to_ascii_lowercase();
    let billions: f64 = tag.split(['b', '-']).next()?.parse().ok()?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be between 0.1 and 1000 billions"
    )]
    let bytes = (0.1..=1000.0)
        .contains(&billions)
        .then_some((billions * 1e9 * 5.0 / 8.0) as u64);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_is_as_large_as_its_tag_says() {
        assert_eq!(size_in("mine:8b"), Some(5_000_000_000));
        assert_eq!(size_in("mine:0.5b-instruct"), Some(312_500_000));
        assert_eq!(size_in("qwen2.5-coder:7b"), None, "it is known");
        assert_eq!((size_in("mine"), size_in("mine:latest")), (None, None));
    }

    #[test]
    fn a_node_gets_another_gpu_or_is_added() {
        let mut fleet = vec![FleetNode::new("gpu0", Gpu::find("rtx3060").unwrap())];
        with(&mut fleet, "gpu0=rtx4090").unwrap();
        with(&mut fleet, "gpu1 = gtx1050ti").unwrap();
        let names: Vec<_> = fleet.iter().map(|node| node.gpu.name.as_str()).collect();
        assert_eq!(names, ["RTX 4090", "GTX 1050 Ti"]);
        assert!((fleet[0].power.unwrap().busy - 450.0).abs() < 0.1);
        assert!(
            with(&mut fleet, "rtx4090")
                .unwrap_err()
                .contains("NODE=GPU")
        );
        assert!(
            with(&mut fleet, "a=voodoo")
                .unwrap_err()
                .contains("rtx3060")
        );
    }

    #[test]
    fn usable_memory_leaves_a_gibibyte_or_a_fifth() {
        let bytes = |gpu| FleetNode::new("a", Gpu::find(gpu).unwrap()).usable_bytes();
        assert_eq!(bytes("rtx3060"), 11 << 30);
        assert_eq!(bytes("gtx1050ti"), (4 << 30) - (4 << 30) / 5);
        assert_eq!(bytes("cpu"), 0);
    }

    #[test]
    fn every_board_of_the_table_is_a_gpu() {
        for (name, watts) in BOARD_WATTS {
            assert!(Gpu::find(name).is_some() && *watts > 10.0, "{name}");
        }
    }
}
