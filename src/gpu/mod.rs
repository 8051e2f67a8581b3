//! The GPUs of this machine: NVML, amdgpu and Intel sysfs, Apple, or a fixed inventory.
