//! A fixed inventory: GPUs that are told (`--gpus`) instead of looked for.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cluster::{Gpu, GpuState, Vendor};

/// Largest inventory file that is read; a GPU takes about 300 bytes.
const LARGEST_FILE: u64 = 1 << 20;
/// Most GPUs of one inventory.
const MOST_GPUS: usize = 256;
/// Largest memory of one GPU in bytes: 16 TiB. Anything larger is a slip of the unit.
const LARGEST_MEMORY: u64 = 16 << 40;
/// Fields that a GPU of the file may have. The last ones are those of `status --json`, so that its `gpus` can be an inventory: what
/// describes the moment and not the card is passed over.
const FIELDS: [&str; 14] = [
    "name",
    "uuid",
    "total_bytes",
    "used_bytes",
    "utilization",
    "temperature_c",
    "power_w",
    "compute_capability",
    "state",
    "free_bytes",
    "energy_j",
    "index",
    "node",
    "processes",
];

/// A fixed inventory: sizes, or a file that is read again at every look.
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed {
    written: Written,
    /// As it was first read.
    gpus: Vec<Gpu>,
}

#[derive(Debug, Clone, PartialEq)]
enum Written {
    Sizes,
    File(PathBuf),
}

/// Why an inventory is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedError {
    /// What is wrong, with the place and the field.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for FixedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FixedError {}

impl FixedError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }
}

impl Fixed {
    /// Reads the value of `--gpus`: sizes (`24GiB,8GiB`), else the path of a JSON file.
    ///
    /// # Errors
    /// The file cannot be read, is not what an inventory is, or says something impossible of a GPU.
    pub fn new(text: &str) -> Result<Self, FixedError> {
        let text = text.trim();
        if let Some(sizes) = sizes(text) {
            return Ok(Self {
                written: Written::Sizes,
                gpus: sizes?,
            });
        }
        let path = PathBuf::from(text);
        let gpus = read_file(&path).map_err(|error| or_sizes(text, &path, error))?;
        Ok(Self {
            written: Written::File(path),
            gpus,
        })
    }

    /// The GPUs as they were told first.
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// The GPUs as they are told now.
    ///
    /// # Errors
    /// As [`Self::new`]: the file has changed.
    pub fn read(&self) -> Result<Vec<Gpu>, FixedError> {
        match &self.written {
            Written::Sizes => Ok(self.gpus.clone()),
            Written::File(path) => read_file(path),
        }
    }
}

/// A text that starts like a size and names no file was meant as sizes.
fn or_sizes(text: &str, path: &Path, error: FixedError) -> FixedError {
    if !text.starts_with(|first: char| first.is_ascii_digit()) || path.exists() {
        return error;
    }
    let wrong = text.split(',').find(|part| size(part).is_none());
    FixedError {
        message: format!(
            "--gpus: `{}` is no size of a GPU's memory, and there is no file `{text}`",
            wrong.unwrap_or(text).trim()
        ),
        hint: Some("write sizes with their unit, such as 24GiB,8GiB".to_owned()),
    }
}

/// Sizes separated by commas; `None` when the text is something else.
fn sizes(text: &str) -> Option<Result<Vec<Gpu>, FixedError>> {
    let sizes: Vec<u64> = text.split(',').map(size).collect::<Option<_>>()?;
    if sizes.len() > MOST_GPUS {
        return Some(Err(too_many("--gpus")));
    }
    let gpu = |(index, bytes): (u32, u64)| {
        let mut gpu = Gpu::unmeasured(Vendor::Other, format!("GPU {index}"));
        if bytes == 0 || bytes > LARGEST_MEMORY {
            return Err(FixedError::new(format!(
                "--gpus: GPU {index} cannot have {bytes} bytes of memory"
            )));
        }
        gpu.index = index;
        gpu.total_bytes = Some(bytes);
        Ok(gpu)
    };
    Some((0..).zip(sizes).map(gpu).collect())
}

/// A size with its unit in bytes: `24GiB`, `1.5 TiB`, `8000MB`.
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = text.split_at(split);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let number: f64 = number.parse().ok()?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a unit, below 2^53 bytes for any real memory; the cast saturates"
    )]
    let bytes = (number * unit as f64).round() as u64;
    Some(bytes)
}

fn too_many(place: &str) -> FixedError {
    FixedError::new(format!("{place}: more than {MOST_GPUS} GPUs"))
}

fn read_file(path: &Path) -> Result<Vec<Gpu>, FixedError> {
    let name = path.display().to_string();
    let cannot = |reason: &dyn fmt::Display| FixedError {
        message: format!("--gpus: cannot read `{name}`: {reason}"),
        hint: Some(
            "name a JSON file of GPUs, or their sizes, such as --gpus 24GiB,8GiB".to_owned(),
        ),
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text))
        .map_err(|error| cannot(&error))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(cannot(&"it is larger than 1 MiB"));
    }
    let document: Value = serde_json::from_str(&text).map_err(|error| cannot(&error))?;
    inventory(&document, &name)
}

/// The GPUs of a document; `name` is how it is called in errors.
fn inventory(document: &Value, name: &str) -> Result<Vec<Gpu>, FixedError> {
    let Some(list) = document.as_array() else {
        return Err(FixedError {
            message: format!("{name}: an inventory is a list of GPUs"),
            hint: Some("for example [{\"total_bytes\": 25769803776}]".to_owned()),
        });
    };
    if list.is_empty() {
        return Err(FixedError {
            message: format!("{name}: the list of GPUs is empty"),
            hint: Some("a machine without a GPU needs no inventory: leave --gpus away".to_owned()),
        });
    }
    if list.len() > MOST_GPUS {
        return Err(too_many(name));
    }
    let mut gpus: Vec<Gpu> = Vec::with_capacity(list.len());
    for (index, value) in (0..).zip(list) {
        let place = Place { name, index };
        let fields = value
            .as_object()
            .ok_or_else(|| FixedError::new(format!("{name}: GPU {index} is no object")))?;
        let gpu = place.gpu(fields)?;
        let same = |other: &Gpu| gpu.uuid.is_some() && other.uuid == gpu.uuid;
        if gpus.iter().any(same) {
            return Err(place.wrong("uuid", "another GPU has the same"));
        }
        gpus.push(gpu);
    }
    Ok(gpus)
}

/// One GPU of a document, as it is called in errors.
struct Place<'a> {
    name: &'a str,
    index: u32,
}

impl Place<'_> {
    fn wrong(&self, field: &str, what: impl fmt::Display) -> FixedError {
        let Self { name, index } = self;
        FixedError::new(format!("{name}: GPU {index}: `{field}`: {what}"))
    }

    fn gpu(&self, fields: &Map<String, Value>) -> Result<Gpu, FixedError> {
        if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
            return Err(FixedError {
                hint: nearest(unknown).map(|name| format!("did you mean `{name}`?")),
                ..self.wrong(unknown, "no such field")
            });
        }
        let compute_capability = self.capability(fields)?;
        let name = self.text(fields, "name")?;
        let mut gpu = Gpu::unmeasured(
            maker(name.as_deref(), compute_capability),
            name.unwrap_or_else(|| format!("GPU {}", self.index)),
        );
        gpu.index = self.index;
        gpu.uuid = self.text(fields, "uuid")?;
        gpu.compute_capability = compute_capability;
        self.state(&mut gpu, fields)?;
        self.memory(&mut gpu, fields)?;
        gpu.utilization = self.number(fields, "utilization", 100.0)?.map(rounded);
        gpu.temperature_c = self.number(fields, "temperature_c", 200.0)?.map(rounded);
        gpu.power_w = self.number(fields, "power_w", 100_000.0)?;
        gpu.energy_j = self.number(fields, "energy_j", f64::MAX)?;
        Ok(gpu)
    }

    fn memory(&self, gpu: &mut Gpu, fields: &Map<String, Value>) -> Result<(), FixedError> {
        let total = self
            .bytes(fields, "total_bytes")?
            .ok_or_else(|| self.wrong("total_bytes", "every GPU needs it"))?;
        if total == 0 {
            return Err(self.wrong("total_bytes", "a GPU has more than 0 bytes"));
        }
        let used = self.bytes(fields, "used_bytes")?;
        let free = self.bytes(fields, "free_bytes")?;
        for (field, bytes) in [("used_bytes", used), ("free_bytes", free)] {
            if bytes.is_some_and(|bytes| bytes > total) {
                return Err(self.wrong(field, format_args!("more than the `total_bytes` {total}")));
            }
        }
        gpu.total_bytes = Some(total);
        gpu.used_bytes = used;
        gpu.free_bytes = free.or_else(|| used.map(|used| total - used));
        Ok(())
    }

    fn state(&self, gpu: &mut Gpu, fields: &Map<String, Value>) -> Result<(), FixedError> {
        let cause = "the inventory says so";
        let state = match self.text(fields, "state")?.as_deref() {
            None | Some("ok") => return Ok(()),
            Some("lost") => GpuState::Lost,
            Some("error") => GpuState::Error,
            Some(_) => return Err(self.wrong("state", "is `ok`, `lost` or `error`")),
        };
        gpu.state = state;
        gpu.cause = Some(cause.to_owned());
        Ok(())
    }

    fn text(&self, fields: &Map<String, Value>, field: &str) -> Result<Option<String>, FixedError> {
        match fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => {
                Ok(Some(text.trim().to_owned()))
            }
            Some(_) => Err(self.wrong(field, "is a text that is not empty")),
        }
    }

    fn bytes(&self, fields: &Map<String, Value>, field: &str) -> Result<Option<u64>, FixedError> {
        let bytes = match fields.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => size(text),
            Some(value) if value.as_f64().is_some_and(|number| number < 0.0) => {
                return Err(self.wrong(field, "is negative"));
            }
            Some(value) => value.as_u64(),
        };
        match bytes {
            Some(bytes) if bytes <= LARGEST_MEMORY => Ok(Some(bytes)),
            Some(_) => Err(self.wrong(field, "more than 16 TiB")),
            None => Err(self.wrong(
                field,
                "is a whole number of bytes, or a text such as \"24GiB\"",
            )),
        }
    }

    /// A number from 0 to `most`.
    fn number(
        &self,
        fields: &Map<String, Value>,
        field: &str,
        most: f64,
    ) -> Result<Option<f64>, FixedError> {
        let value = match fields.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value,
        };
        match value.as_f64() {
            None => Err(self.wrong(field, "is a number")),
            Some(number) if number < 0.0 => Err(self.wrong(field, "is negative")),
            Some(number) if number > most => {
                Err(self.wrong(field, format_args!("{number} is more than {most}")))
            }
            Some(number) => Ok(Some(number)),
        }
    }

    fn capability(&self, fields: &Map<String, Value>) -> Result<Option<(u32, u32)>, FixedError> {
        let Some(text) = self.text(fields, "compute_capability")? else {
            return Ok(None);
        };
        let parts = text.split_once('.');
        let parsed =
            parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        parsed
            .map(Some)
            .ok_or_else(|| self.wrong("compute_capability", "is written like \"8.9\""))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 200"
)]
fn rounded(number: f64) -> u32 {
    number.round() as u32
}

/// Who made a GPU of that name; only NVIDIA's have a compute capability.
fn maker(name: Option<&str>, capability: Option<(u32, u32)>) -> Vendor {
    let name = name.unwrap_or_default().to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if capability.is_some() || has(&["nvidia", "geforce", "rtx", "gtx", "quadro", "tesla"]) {
        Vendor::Nvidia
    } else if has(&["amd", "radeon", "instinct"]) {
        Vendor::Amd
    } else if has(&["intel"]) {
        Vendor::Intel
    } else if has(&["apple"]) {
        Vendor::Apple
    } else {
        Vendor::Other
    }
}

/// The field that the name begins, else the one with the fewest edits, if those are few enough to be a typo.
fn nearest(unknown: &str) -> Option<&'static str> {
    let unknown = unknown.to_lowercase();
    let begun = FIELDS.into_iter().find(|field| field.starts_with(&unknown));
    if begun.is_some() && unknown.len() > 2 {
        return begun;
    }
    let most = (unknown.chars().count() / 2).max(1);
    FIELDS
        .into_iter()
        .map(|field| (strsim::osa_distance(&unknown, field), field))
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, field)| field)
}

#[cfg(test)]
#[path = "fixed_tests.rs"]
mod tests;
