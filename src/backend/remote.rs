//! The GPUs behind another gpurouter, as its `/health` tells them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::cluster::{ClusterSnapshot, Gpu, GpuState, Node, NodeKind, Vendor};

use super::client::Failure;
use super::json::lenient;
use super::probe::Prober;

/// Most GPUs that one answer may tell of.
const MOST_GPUS: usize = 1024;

/// The GPUs behind another gpurouter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RemoteGpus {
    /// Bytes of memory of all of them together; `None` when it does not know.
    pub total_bytes: Option<u64>,
    /// Bytes that a further model may take, under that gpurouter's own margin; `None` when it does not know.
    pub available_bytes: Option<u64>,
    /// Each of them; [`Gpu::node`] is the node's name.
    pub gpus: Vec<Gpu>,
}

#[derive(Deserialize)]
struct Health {
    gpu_pool_status: Pool,
}

#[derive(Deserialize)]
struct Pool {
    #[serde(default, deserialize_with = "lenient")]
    total_vram_bytes: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    available_vram_bytes: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    gpu_list: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default, deserialize_with = "lenient")]
    id: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    uuid: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    state: Option<GpuState>,
    #[serde(default, deserialize_with = "lenient")]
    utilization: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    temperature: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    power_usage: Option<f64>,
    #[serde(default, deserialize_with = "lenient")]
    compute_capability: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    total_bytes: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    used_bytes: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    free_bytes: Option<u64>,
}

impl Prober {
    /// The GPUs behind the nodes that are gpurouters themselves, by node. A node that does not answer tells nothing.
    pub fn reported(&self, snapshot: &ClusterSnapshot) -> BTreeMap<String, Vec<Gpu>> {
        snapshot
            .usable()
            .filter_map(|node| {
                let remote = self.remote_gpus(node).ok().flatten()?;
                Some((node.name.clone(), remote.gpus))
            })
            .collect()
    }

    /// The GPUs behind a node that is another gpurouter; `Ok(None)` when it is something else.
    ///
    /// # Errors
    /// When the node gives no answer.
    pub fn remote_gpus(&self, node: &Node) -> Result<Option<RemoteGpus>, Failure> {
        if node.kind != Some(NodeKind::OpenAi) {
            return Ok(None);
        }
        let reply = self.ask(&node.url).get("/health")?;
        // vLLM and others have a `/health` too, without a pool.
        let health = reply.ok().then(|| reply.json::<Health>()).flatten();
        Ok(health.map(|health| health.gpu_pool_status.gpus(&node.name)))
    }
}

impl Pool {
    fn gpus(self, node: &str) -> RemoteGpus {
        let entries = self.gpu_list.unwrap_or_default().into_iter();
        RemoteGpus {
            total_bytes: self.total_vram_bytes,
            available_bytes: self.available_vram_bytes,
            gpus: (0..)
                .zip(entries.take(MOST_GPUS))
                .map(|(index, entry)| entry.gpu(node, index))
                .collect(),
        }
    }
}

impl Entry {
    fn gpu(self, node: &str, index: u32) -> Gpu {
        let name = self.name.unwrap_or_else(|| "unknown GPU".to_owned());
        let vendor = if self.compute_capability.is_some() {
            Vendor::Nvidia
        } else {
            Vendor::Other
        };
        let capability = self.compute_capability.as_deref().and_then(|text| {
            let (major, minor) = text.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        Gpu {
            node: Some(node.to_owned()),
            index: self.id.unwrap_or(index),
            uuid: self.uuid,
            state: self.state.unwrap_or_default(),
            total_bytes: self.total_bytes,
            used_bytes: self.used_bytes,
            free_bytes: self.free_bytes,
            utilization: self.utilization,
            temperature_c: self.temperature,
            power_w: self.power_usage,
            compute_capability: capability,
            ..Gpu::unmeasured(vendor, name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_known_and_leaves_the_rest_unknown() {
        let text = r#"{"status":"ok","gpu_pool_status":{"total_gpus":2,"total_vram":24576,"total_vram_bytes":25769803776,
            "available_vram_bytes":null,"gpu_list":[
            {"id":0,"name":"NVIDIA GeForce RTX 3090","uuid":"GPU-1","state":"ok","total_bytes":25769803776,"used_bytes":1,
             "free_bytes":2,"compute_capability":"8.6","power_usage":30.5},
            {"id":1,"name":"x","state":"lost","total_bytes":null}]}}"#;
        let health: Health = serde_json::from_str(text).expect("a document");
        let remote = health.gpu_pool_status.gpus("far");
        assert_eq!(remote.total_bytes, Some(24 << 30));
        assert_eq!(remote.available_bytes, None);
        assert_eq!(remote.gpus.len(), 2);
        assert_eq!(remote.gpus[0].node.as_deref(), Some("far"));
        assert_eq!(remote.gpus[0].compute_capability, Some((8, 6)));
        assert_eq!(remote.gpus[0].vendor, Vendor::Nvidia);
        assert_eq!(
            (remote.gpus[1].state, remote.gpus[1].total_bytes),
            (GpuState::Lost, None)
        );
    }

    #[test]
    fn another_servers_health_is_none() {
        for text in [
            "{}",
            "{\"status\":\"ok\"}",
            "{\"gpu_pool_status\":7}",
            "null",
        ] {
            assert!(serde_json::from_str::<Health>(text).is_err(), "{text}");
        }
        let empty: Health = serde_json::from_str("{\"gpu_pool_status\":{}}").expect("a document");
        assert_eq!(empty.gpu_pool_status.gpus("far"), RemoteGpus::default());
    }
}
