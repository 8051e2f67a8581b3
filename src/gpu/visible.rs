//! The environment that shows a server process these GPUs and no others.

use crate::cluster::{Gpu, Vendor};

/// Variables that make exactly `chosen` (positions in `gpus`, in the order in which the process shall number them) visible.
///
/// CUDA numbers GPUs fastest first, NVML by bus: an index of one is another card for the other. So NVIDIA GPUs are named by UUID, and
/// `CUDA_DEVICE_ORDER` makes even an index mean the bus order. `ROCm` takes UUIDs too; `HIP_VISIBLE_DEVICES` is left alone, because it
/// counts within what `ROCR_VISIBLE_DEVICES` left. Vulkan (Intel) knows only indices, in an order of its loader's that is the bus order
/// on Linux for GPUs of one kind.
pub fn visible_devices(gpus: &[Gpu], chosen: &[usize]) -> Vec<(&'static str, String)> {
    let named = |wanted: &dyn Fn(Vendor) -> bool, by_uuid: bool| -> Option<String> {
        let names: Vec<String> = chosen
            .iter()
            .filter_map(|place| gpus.get(*place).map(|gpu| (place, gpu)))
            .filter(|(_, gpu)| wanted(gpu.vendor))
            .map(|(place, gpu)| match &gpu.uuid {
                Some(uuid) if by_uuid => uuid.clone(),
                _ => gpus[..*place]
                    .iter()
                    .filter(|before| wanted(before.vendor))
                    .count()
                    .to_string(),
            })
            .collect();
        (!names.is_empty()).then(|| names.join(","))
    };
    // GPUs that `--gpus` tells without their maker are taken for what most people have.
    let cuda = |vendor| matches!(vendor, Vendor::Nvidia | Vendor::Other);
    let mut variables = Vec::new();
    if let Some(names) = named(&cuda, true) {
        variables.push(("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()));
        variables.push(("CUDA_VISIBLE_DEVICES", names));
    }
    if let Some(names) = named(&|vendor| vendor == Vendor::Amd, true) {
        variables.push(("ROCR_VISIBLE_DEVICES", names));
    }
    if let Some(names) = named(&|vendor| vendor == Vendor::Intel, false) {
        variables.push(("GGML_VK_VISIBLE_DEVICES", names));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(vendor: Vendor, uuid: Option<&str>) -> Gpu {
        Gpu {
            uuid: uuid.map(str::to_owned),
            ..Gpu::unmeasured(vendor, "x")
        }
    }

    #[test]
    fn nvidia_gpus_are_named_by_uuid_in_the_order_asked_for() {
        let gpus = [
            gpu(Vendor::Intel, None),
            gpu(Vendor::Nvidia, Some("GPU-a")),
            gpu(Vendor::Nvidia, Some("GPU-b")),
        ];
        assert_eq!(
            visible_devices(&gpus, &[2, 1]),
            [
                ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
                ("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-a".to_owned()),
            ]
        );
    }

    #[test]
    fn without_a_uuid_the_index_is_the_place_among_gpus_of_that_maker() {
        let gpus = [
            gpu(Vendor::Intel, None),
            gpu(Vendor::Nvidia, Some("GPU-a")),
            gpu(Vendor::Nvidia, None),
            gpu(Vendor::Amd, Some("GPU-c")),
        ];
        let cuda = visible_devices(&gpus, &[2]);
        assert_eq!(cuda[1], ("CUDA_VISIBLE_DEVICES", "1".to_owned()));
        let mixed = visible_devices(&gpus, &[0, 3]);
        assert_eq!(
            mixed,
            [
                ("ROCR_VISIBLE_DEVICES", "GPU-c".to_owned()),
                ("GGML_VK_VISIBLE_DEVICES", "0".to_owned()),
            ]
        );
        assert_eq!(visible_devices(&gpus, &[]), []);
    }
}
