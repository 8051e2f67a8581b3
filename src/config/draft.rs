//! The layers while they are put together: every value with its origin, the upper layers over the lower ones.

use std::collections::BTreeMap;

use super::origin::Origin;
use super::value::Value;

/// A value and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// One entry of a list or a map of tables.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// Where the entry begins.
    pub(super) origin: Origin,
    pub(super) values: BTreeMap<&'static str, Located>,
    /// Whether a value in it was refused and told already, so that it is not missing as well.
    pub(super) flawed: bool,
}

impl Section {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            values: BTreeMap::new(),
            flawed: false,
        }
    }

    pub(super) fn set(&mut self, name: &'static str, value: Value, origin: Origin) {
        self.values.insert(name, Located { value, origin });
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.value.text()
    }

    /// Where a value stands; the entry's beginning when it has none.
    pub(super) fn origin_of(&self, name: &str) -> &Origin {
        self.values
            .get(name)
            .map_or(&self.origin, |located| &located.origin)
    }
}

/// What has been said so far; a value that is missing has its default.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    /// By path of the key.
    pub(super) scalars: BTreeMap<&'static str, Located>,
    pub(super) nodes: Vec<Section>,
    pub(super) tiers: Vec<Section>,
    /// Values under names that the user chose, by path of their key (`aliases.*`).
    pub(super) named: BTreeMap<String, BTreeMap<String, Located>>,
    /// Tables under names that the user chose, by path of their table (`prices.models.*`).
    pub(super) sections: BTreeMap<String, BTreeMap<String, Section>>,
}

impl Draft {
    pub(super) fn set(&mut self, path: &'static str, value: Value, origin: Origin) {
        self.scalars.insert(path, Located { value, origin });
    }

    pub(super) fn named(&self, path: &str) -> impl Iterator<Item = (&String, &Located)> {
        self.named.get(path).into_iter().flatten()
    }

    pub(super) fn sections(&self, path: &str) -> impl Iterator<Item = (&String, &Section)> {
        self.sections.get(path).into_iter().flatten()
    }

    pub(super) fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter_map(|node| node.text("name"))
    }
}
