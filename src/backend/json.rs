//! Reading what nodes write: lists kept byte for byte, and fields whose type may be wrong without costing the rest.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// `None` for a field that is absent, null, or of another type than expected (llama-server writes `"size":""` where Ollama writes a
/// number): one odd field must not cost the whole list.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// A list as both families write it: Ollama under `models`, the others under `data`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Listing<'a> {
    /// Ollama's entries; `null` stands for none.
    #[serde(borrow, default)]
    pub models: Option<Vec<&'a RawValue>>,
    /// Entries of `/v1/models`; `null` stands for none.
    #[serde(borrow, default)]
    pub data: Option<Vec<&'a RawValue>>,
}

/// The entries that have the expected shape, each beside its own text; an entry that names no model is of no use to anyone.
pub(super) fn entries<'a, T: DeserializeOwned>(
    list: Option<&[&'a RawValue]>,
) -> impl Iterator<Item = (T, &'a str)> {
    list.unwrap_or_default()
        .to_vec()
        .into_iter()
        .filter_map(|raw| {
            let entry = serde_json::from_str(raw.get()).ok()?;
            Some((entry, raw.get()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Entry {
        id: String,
        #[serde(default, deserialize_with = "lenient")]
        size: Option<u64>,
    }

    #[test]
    fn a_field_of_another_type_costs_only_itself() {
        let text = r#"{"data":[{"id":"a","size":""},{"id":"b","size":7},{"size":1},{"id":"c"}]}"#;
        let list: Listing = serde_json::from_str(text).expect("valid JSON");
        let seen: Vec<_> = entries::<Entry>(list.data.as_deref())
            .map(|(entry, _)| (entry.id, entry.size))
            .collect();
        assert_eq!(
            seen,
            [
                ("a".to_owned(), None),
                ("b".to_owned(), Some(7)),
                ("c".to_owned(), None)
            ]
        );
    }

    #[test]
    fn an_entry_keeps_its_own_text() {
        let text = r#"{"models":[ {"id":"a",  "size":1e2} ]}"#;
        let list: Listing = serde_json::from_str(text).expect("valid JSON");
        let (_, raw) = entries::<Entry>(list.models.as_deref())
            .next()
            .expect("one entry");
        assert_eq!(raw, r#"{"id":"a",  "size":1e2}"#);
    }

    #[test]
    fn a_null_list_is_empty() {
        let list: Listing = serde_json::from_str(r#"{"models":null}"#).expect("valid JSON");
        assert_eq!(entries::<Entry>(list.models.as_deref()).count(), 0);
    }
}
