//! The table of known models: the last resort when nothing can be read of a model but its name.
//!
//! Sizes are the source documents' own, in MB that are meant as MiB, and stand for the whole need. A name matches whole, tag included; a name
//! without a tag is `:latest`. Never by a part of it: `qwen2.5-coder` has the tag `latest`, which the table does not know.

use std::collections::BTreeMap;

use serde::Serialize;

/// A model of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownModel {
    /// Name; without a tag it is `:latest`.
    pub name: String,
    /// Size in MB, read as MiB.
    pub mb: u64,
    /// The same in bytes.
    pub bytes: u64,
}

/// The printed table, ascending.
const TABLE: [(&str, u64); 12] = [
    ("all-minilm", 45),
    ("nomic-embed-text", 274),
    ("qwen2.5-coder:0.5b", 500),
    ("mxbai-embed-large", 705),
    ("qwen2.5-coder:1.5b", 900),
    ("llama3.2:1b", 1300),
    ("qwen2.5-coder:3b", 1800),
    ("llama3.2:3b", 1900),
    ("codellama:7b", 3600),
    ("qwen2.5-coder:7b", 4400),
    ("llama3.1:latest", 4700),
    ("codellama:13b", 6900),
];

/// Known too, but not part of the printed table.
const FURTHER: [(&str, u64); 2] = [("llama3.1:8b", 4700), ("llama3.1:70b", 40_000)];

/// MB that the table means.
const MIB: u64 = 1 << 20;

impl KnownModel {
    fn new(name: &str, mb: u64) -> Self {
        Self {
            name: name.to_owned(),
            mb,
            bytes: mb.saturating_mul(MIB),
        }
    }

    /// The GB column: MB / 1024 with two decimals.
    pub fn gb(&self) -> String {
        // Rounded in integers: no size is too large, and a half goes up.
        let hundredths = (u128::from(self.mb) * 100 + 512) / 1024;
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// The table with the user's own models (MB by name), which replace an entry of the same name; ascending by size, then by name.
pub fn known_models(own: &BTreeMap<String, u64>) -> Vec<KnownModel> {
    let mut models: Vec<KnownModel> = own
        .iter()
        .map(|(name, mb)| KnownModel::new(name, *mb))
        .collect();
    for (name, mb) in TABLE {
        if !own.keys().any(|own| same(own, name)) {
            models.push(KnownModel::new(name, mb));
        }
    }
    models.sort_by(|a, b| a.mb.cmp(&b.mb).then_with(|| a.name.cmp(&b.name)));
    models
}

/// What is known of the model of that name, the user's own first. The name is a full one (`cluster::ModelName`) or as the user wrote it;
/// an empty name is no model.
pub fn find_known(name: &str, own: &BTreeMap<String, u64>) -> Option<KnownModel> {
    if name.trim().is_empty() {
        return None;
    }
    own.iter()
        .map(|(own, mb)| (own.as_str(), *mb))
        .chain(TABLE)
        .chain(FURTHER)
        .find(|(known, _)| same(known, name))
        .map(|(known, mb)| KnownModel::new(known, mb))
}

/// Whether two names are one, case and `:latest` aside.
fn same(a: &str, b: &str) -> bool {
    let plain = |name: &str| {
        let lower = name.trim().to_lowercase();
        lower
            .strip_suffix(":latest")
            .map(str::to_owned)
            .unwrap_or(lower)
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mb(name: &str) -> Option<u64> {
        find_known(name, &BTreeMap::new()).map(|known| known.mb)
    }

    #[test]
    fn e05_the_table_as_it_is_printed() {
        let printed: Vec<String> = known_models(&BTreeMap::new())
            .iter()
            .map(|known| format!("{} {} {}", known.name, known.mb, known.gb()))
            .collect();
        assert_eq!(
            printed,
            [
                "all-minilm 45 0.04",
                "nomic-embed-text 274 0.27",
                "qwen2.5-coder:0.5b 500 0.49",
                "mxbai-embed-large 705 0.69",
                "qwen2.5-coder:1.5b 900 0.88",
                "llama3.2:1b 1300 1.27",
                "qwen2.5-coder:3b 1800 1.76",
                "llama3.2:3b 1900 1.86",
                "codellama:7b 3600 3.52",
                "qwen2.5-coder:7b 4400 4.30",
                "llama3.1:latest 4700 4.59",
                "codellama:13b 6900 6.74",
            ]
        );
    }

    #[test]
    fn e26_names_match_whole_with_their_tag() {
        assert_eq!(mb("llama3.1"), Some(4700));
        assert_eq!(mb("Llama3.1:latest"), Some(4700));
        assert_eq!(mb("llama3.1:8b"), Some(4700));
        assert_eq!(mb("llama3.1:70b"), Some(40_000));
        assert_eq!(mb("mxbai-embed-large:latest"), Some(705));
        assert_eq!(mb("all-minilm"), Some(45));
        assert_eq!(mb("qwen2.5-coder:7b"), Some(4400));
        // What a lookup by parts of a name answered, and must not.
        for wrong in [
            "",
            " ",
            "l",
            "qwen2.5-coder",
            "qwen2.5-coder:latest",
            "qwen2.5:latest",
            "qwen2.5",
            "llama3.2",
            "gpt-oss:120b",
            "deepseek-r1:671b",
            "llama3.1:405b",
            "qwen3:235b",
            "qwen2.5:32b",
            "qwen2.5-coder:7b-instruct-q8_0",
            "codellama:13b-instruct-fp16",
            "gemma3:1b",
            "all-minilm:33m",
            ":latest",
        ] {
            assert_eq!(mb(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn e25_the_users_models_come_first_and_are_listed() {
        let own = BTreeMap::from([
            ("my-custom-model".to_owned(), 2500),
            ("llama3.1".to_owned(), 5000),
        ]);
        let names: Vec<(String, u64)> = known_models(&own)
            .into_iter()
            .map(|known| (known.name, known.mb))
            .collect();
        assert_eq!(names.len(), 13);
        assert_eq!(names[8], ("my-custom-model".to_owned(), 2500));
        assert_eq!(names[11], ("llama3.1".to_owned(), 5000));
        assert_eq!(find_known("llama3.1:latest", &own).unwrap().mb, 5000);
        assert_eq!(
            find_known("My-Custom-Model:latest", &own).unwrap().bytes,
            2500 << 20
        );
    }
}
