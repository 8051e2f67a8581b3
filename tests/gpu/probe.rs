//! One look: what the driver tells, and every way in which it does not.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use super::common::{LIMIT, Scratch, Stub, command, reply};
use super::{Machine, TWO, codes, state, status, warning};

#[test]
fn e02_every_figure_of_every_gpu_in_bus_order() {
    let Some(machine) = Machine::new("e02_every_figure_of_every_gpu_in_bus_order", &[]) else {
        return;
    };
    let us = std::process::id();
    machine.driver(&TWO.replacen("uuid=GPU-b", &format!("uuid=GPU-b; procs={us}:900,1"), 1));
    let document = machine.status();
    assert_eq!((state(&document, "nvml"), codes(&document)), ("ok", vec![]));
    let gpus = document["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 2);
    assert_eq!(
        gpus[0],
        json!({
            "node": null, "index": 0, "name": "NVIDIA GeForce RTX 3090", "uuid": "GPU-a", "state": "ok",
            "total_bytes": 24_u64 << 30, "used_bytes": 1 << 30, "free_bytes": (24576_u64 - 1024 - 512) << 20,
            "utilization": 7, "temperature_c": 41, "power_w": 32.5, "energy_j": 1234.567,
            "compute_capability": "8.6", "processes": []
        })
    );
    assert_eq!(
        (&gpus[1]["index"], &gpus[1]["uuid"], &gpus[1]["energy_j"]),
        (&json!(1), &json!("GPU-b"), &Value::Null)
    );
    let processes = gpus[1]["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 2);
    assert_eq!(processes[0]["pid"], us);
    assert_eq!(processes[0]["used_bytes"], 900 << 20);
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(processes[0]["name"], own.trim());
    assert_eq!(processes[1]["used_bytes"], Value::Null);
}

#[test]
fn what_the_driver_does_not_tell_is_null() {
    let Some(machine) = Machine::new("what_the_driver_does_not_tell_is_null", &[]) else {
        return;
    };
    machine.driver("name=NVIDIA Tesla M40; total=11448; used=0; pci=3; memory=999\n");
    let document = machine.status();
    let gpu = &document["gpus"][0];
    assert_eq!(
        (&gpu["name"], &gpu["state"]),
        (&json!("NVIDIA Tesla M40"), &json!("ok"))
    );
    for field in [
        "uuid",
        "total_bytes",
        "used_bytes",
        "free_bytes",
        "utilization",
        "temperature_c",
        "power_w",
        "energy_j",
        "compute_capability",
    ] {
        assert_eq!(gpu[field], Value::Null, "{field}");
    }
}

#[test]
fn e36_each_way_of_having_no_gpu_has_its_name_and_its_cure() {
    let Some(machine) = Machine::new(
        "e36_each_way_of_having_no_gpu_has_its_name_and_its_cure",
        &[],
    ) else {
        return;
    };
    for (driver, named, code, text, cure) in [
        ("", "no_gpus", "gpu_none", "the driver finds none", "lspci"),
        (
            "! 9\n",
            "no_driver",
            "gpu_no_driver",
            "not loaded",
            "modprobe nvidia",
        ),
        (
            "! 12\n",
            "no_library",
            "gpu_no_library",
            "libnvidia-ml not found",
            "install its driver",
        ),
        (
            "! 18\n",
            "driver_mismatch",
            "gpu_driver_mismatch",
            "was updated",
            "restart the machine",
        ),
        (
            "! 4\n",
            "no_permission",
            "gpu_no_permission",
            "denied",
            "/dev/nvidia*",
        ),
        (
            "state=4\nstate=4\n",
            "no_permission",
            "gpu_no_permission",
            "denied",
            "/dev/nvidia*",
        ),
        (
            "! 999\n",
            "failed",
            "gpu_failed",
            "internal driver error",
            "nvidia-smi",
        ),
        (
            "count 999\n",
            "failed",
            "gpu_failed",
            "internal driver error",
            "dmesg",
        ),
    ] {
        machine.driver(driver);
        let document = machine.status();
        assert_eq!(state(&document, "nvml"), named, "{driver:?}");
        assert_eq!(document["gpus"], json!([]), "{driver:?}");
        assert_eq!(codes(&document), [code], "{driver:?}");
        let warning = warning(&document, code);
        let says = |field: &str, words: &str| warning[field].as_str().unwrap().contains(words);
        assert!(says("text", text) && says("text", "CPU-only"), "{warning}");
        assert!(says("cure", cure), "{warning}");
    }
}

#[test]
fn without_the_library_it_says_so_and_what_it_would_take() {
    let document = status(&[], &[]);
    assert_eq!(state(&document, "nvml"), "no_library");
    let text = &warning(&document, "gpu_no_library")["text"];
    assert_eq!(
        text,
        "no NVIDIA GPU (libnvidia-ml not found) and none of another maker: CPU-only"
    );
    let scratch = Scratch::new();
    let file = scratch.write("no-library.so", "not a library");
    let file = file.into_os_string().into_string().unwrap();
    let document = status(&[("GPUROUTER_NVML_LIB", file)], &[]);
    assert_eq!(state(&document, "nvml"), "no_library");
    let text = warning(&document, "gpu_no_library")["text"]
        .as_str()
        .unwrap();
    assert!(
        text.contains("no-library.so"),
        "the loader's own words: {text}"
    );
}

#[test]
fn a_lost_gpu_is_told_and_the_others_are_not_touched() {
    let Some(machine) = Machine::new("a_lost_gpu_is_told_and_the_others_are_not_touched", &[])
    else {
        return;
    };
    for (code, state, warned) in [
        (15, "lost", "gpu_lost"),
        (16, "lost", "gpu_lost"),
        (8, "error", "gpu_error"),
    ] {
        machine.driver(&format!("state={code}\n{TWO}"));
        let document = machine.status();
        let states: Vec<&Value> = document["gpus"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gpu| &gpu["state"])
            .collect();
        // Without a bus id it comes last.
        assert_eq!(states, ["ok", "ok", state], "{code}");
        assert_eq!(codes(&document), [warned], "{code}");
    }
}

#[test]
fn a_driver_without_the_second_memory_call_tells_the_total_through_nvidia_smi() {
    let Some(machine) = Machine::new(
        "a_driver_without_the_second_memory_call_tells_the_total_through_nvidia_smi",
        &["-DOLD"],
    ) else {
        return;
    };
    machine.driver(&TWO.replace("temp=41", "temp=42"));
    let document = machine.status();
    let gpu = &document["gpus"][0];
    assert_eq!(
        (&gpu["total_bytes"], &gpu["free_bytes"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(gpu["temperature_c"], 42, "the rest is told");

    let script = machine.scratch.write(
        "nvidia-smi",
        "#!/bin/sh\necho 'GPU-a, 24576'\necho 'GPU-c, 1'\n",
    );
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(script, executable).unwrap();
    let mut environment = machine.environment();
    let own = machine.scratch.path().to_str().unwrap();
    environment.push(("PATH", format!("{own}:/usr/bin:/bin")));
    let document = status(&environment, &[]);
    let gpus = &document["gpus"];
    assert_eq!(gpus[0]["total_bytes"], 24_u64 << 30);
    assert_eq!(
        (&gpus[0]["used_bytes"], &gpus[0]["free_bytes"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(gpus[1]["total_bytes"], Value::Null);
}

#[test]
fn a_gpu_without_memory_of_its_own_has_the_machines() {
    let Some(machine) = Machine::new("a_gpu_without_memory_of_its_own_has_the_machines", &[])
    else {
        return;
    };
    machine.driver("name=NVIDIA GB10; cc=12.1; memory=3; pci=1; uuid=GPU-a\n");
    let document = machine.status();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse().ok())
        .unwrap();
    let gpu = &document["gpus"][0];
    assert_eq!(gpu["total_bytes"], total * 1024);
    let (used, free) = (gpu["used_bytes"].as_u64(), gpu["free_bytes"].as_u64());
    assert_eq!(used.unwrap() + free.unwrap(), total * 1024);
}

#[test]
fn the_library_is_closed_and_one_that_cannot_be_is_left_open() {
    let Some(machine) = Machine::new(
        "the_library_is_closed_and_one_that_cannot_be_is_left_open",
        &[],
    ) else {
        return;
    };
    machine.status();
    let closed = fs::read_to_string(machine.scratch.path().join("shutdown")).unwrap();
    assert_eq!(closed, "shutdown\n");
    let broken = Machine::new("the_library_is_closed_…", &["-DNO_SHUTDOWN"]).unwrap();
    assert_eq!(broken.status()["gpus"].as_array().unwrap().len(), 2);
}

#[test]
fn a_driver_that_hangs_is_not_waited_for() {
    let Some(machine) = Machine::new("a_driver_that_hangs_is_not_waited_for", &[]) else {
        return;
    };
    machine.driver("hang\n");
    machine.sysfs("class/drm/card0/device/vendor", "0x1002\n");
    machine.sysfs("class/drm/card0/device/device", "0x744c\n");
    machine.sysfs("class/drm/card0/device/revision", "0xc8\n");
    let began = Instant::now();
    let document = machine.status();
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    assert_eq!(state(&document, "nvml"), "not_answering");
    assert_eq!(codes(&document), ["gpu_not_answering"]);
    // The other sources are told all the same.
    assert_eq!(state(&document, "amdgpu"), "ok");
    assert_eq!(document["gpus"][0]["name"], "AMD Radeon RX 7900 XTX");
}

#[test]
fn e02_gpus_of_three_makers_are_one_list_in_bus_order() {
    let Some(machine) = Machine::new("e02_gpus_of_three_makers_are_one_list_in_bus_order", &[])
    else {
        return;
    };
    let card = |number: u32, slot: &str, driver: &str, vendor: &str, device: &str| {
        let folder = format!("class/drm/card{number}/device");
        machine.sysfs(
            &format!("{folder}/uevent"),
            &format!("DRIVER={driver}\nPCI_SLOT_NAME={slot}\n"),
        );
        machine.sysfs(&format!("{folder}/vendor"), vendor);
        machine.sysfs(&format!("{folder}/device"), device);
        machine.sysfs(&format!("{folder}/revision"), "0xc1\n");
    };
    card(0, "0000:00:02.0", "i915", "0x8086", "0x46a6");
    card(1, "0000:03:00.0", "amdgpu", "0x1002", "0x73bf");
    card(2, "0000:01:00.0", "nvidia-drm", "0x10de", "0x2204");
    machine.sysfs(
        "class/drm/card1/device/mem_info_vram_total",
        "17163091968\n",
    );
    let document = machine.status();
    let names: Vec<&str> = document["gpus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gpu| gpu["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "Intel integrated graphics 0x46a6",
            "NVIDIA GeForce RTX 3090",
            "AMD Radeon RX 6800 XT",
            "NVIDIA GeForce RTX 3060",
        ]
    );
    assert_eq!(document["gpus"][2]["total_bytes"], 17_163_091_968_u64);
    assert_eq!(codes(&document), [""; 0]);
}

#[test]
fn an_nvidia_gpu_without_its_driver_is_seen_on_the_bus() {
    let scratch = Scratch::new();
    let root = scratch.path().join("sys");
    let device = root.join("bus/pci/devices/0000:01:00.0");
    fs::create_dir_all(&device).unwrap();
    fs::write(device.join("vendor"), "0x10de\n").unwrap();
    fs::write(device.join("class"), "0x030000\n").unwrap();
    let root = root.into_os_string().into_string().unwrap();
    let document = status(&[("GPUROUTER_SYSFS_ROOT", root)], &[]);
    let text = warning(&document, "gpu_no_library")["text"]
        .as_str()
        .unwrap();
    assert!(
        text.starts_with("an NVIDIA GPU is in this machine (PCI 00000000:01:00.0), but"),
        "{text}"
    );
}

#[test]
fn a_person_sees_a_table_that_fits() {
    let Some(machine) = Machine::new("a_person_sees_a_table_that_fits", &[]) else {
        return;
    };
    let scratch = Scratch::new();
    let output = command(&scratch)
        .envs(machine.environment())
        .args(["status", "--node", "http://127.0.0.1:9"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for row in [
        " GPU  NAME      STATE  MEMORY               USE   TEMP  POWER\n",
        " 0    RTX 3090  ok     1.0 GiB of 24.0 GiB  7 %   41 C  32.5 W\n",
        " 1    RTX 3060  ok     5.9 GiB of 12.0 GiB  99 %  80 C  165.0 W\n",
    ] {
        assert!(text.contains(row), "{row:?} in {text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn a_watch_keeps_the_driver_open_and_sees_what_changes() {
    use std::io::{BufRead, BufReader};
    let Some(machine) = Machine::new("a_watch_keeps_the_driver_open_and_sees_what_changes", &[])
    else {
        return;
    };
    let scratch = Scratch::new();
    let mut child = command(&scratch)
        .envs(machine.environment())
        .args(["status", "--json", "--node", "http://127.0.0.1:9"])
        .args(["--watch", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["gpus"][0]["temperature_c"], 41);
    machine.driver(&TWO.replace("temp=41", "temp=42"));
    let seen = (0..5).any(|_| next()["gpus"][0]["temperature_c"] == 42);
    drop(child.kill());
    drop(child.wait());
    assert!(seen);
    assert!(!machine.scratch.path().join("shutdown").exists());
}

/// E02: local NVML counts for the nodes of this machine, whatever the table of cards would say; E03's rule on it.
#[test]
fn e02_the_memory_of_a_node_on_this_machine_is_what_the_driver_says() {
    let Some(machine) = Machine::new(
        "e02_the_memory_of_a_node_on_this_machine_is_what_the_driver_says",
        &[],
    ) else {
        return;
    };
    machine.driver("name=NVIDIA GeForce GTX 1050 Ti; total=4096; used=100; reserved=60; cc=6.1; pci=1; uuid=GPU-a\n");
    let (empty, _) = fit(&machine.environment(), &["llama3.2:1b", "--json"]);
    let answer = &empty["nodes"][0];
    assert_eq!(answer["knowledge"], "driver", "{empty}");
    assert_eq!(answer["usable_bytes"], 3276_u64 << 20, "{empty}");
    // Never more than the driver has free.
    machine.driver("name=NVIDIA GeForce GTX 1050 Ti; total=4096; used=2000; reserved=96; cc=6.1; pci=1; uuid=GPU-a\n");
    let (full, _) = fit(&machine.environment(), &["llama3.2:1b", "--json"]);
    assert_eq!(full["nodes"][0]["free_bytes"], 2000_u64 << 20, "{full}");
}

/// `gpurouter fit` beside an Ollama of this machine: the document, or the text as a string, and the exit code.
fn fit(environment: &[(&str, String)], args: &[&str]) -> (Value, i32) {
    let node = Stub::ollama(&["m"], reply::healthy);
    let scratch = Scratch::new();
    let output = command(&scratch)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .args(["fit", "--offline", "--node", &node.url()])
        .args(args)
        .output()
        .expect("the binary that cargo built");
    let text = String::from_utf8(output.stdout).unwrap();
    let document = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (document, output.status.code().unwrap_or(-1))
}

/// E36: a machine without a GPU is no error, and one line says what would help.
#[test]
fn e36_fit_without_a_gpu_says_what_would_help() {
    let told = |environment: &[(&str, String)]| {
        let (text, code) = fit(environment, &["llama3.1"]);
        let text = text.as_str().unwrap().to_owned();
        assert_eq!(code, 1, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(text.contains("Result: Model must run on CPU"), "{text}");
        assert_eq!(text.matches("CPU-only: ").count(), 1, "{text}");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let none = told(&[]);
    assert!(
        none.contains("note no NVIDIA GPU (libnvidia-ml not found)")
            && none.contains("install its driver and restart"),
        "{none}"
    );
    let Some(machine) = Machine::new("e36_fit_without_a_gpu_says_what_would_help", &[]) else {
        return;
    };
    for (driver, cure) in [
        ("! 9\n", "`sudo modprobe nvidia`"),
        ("! 18\n", "restart the machine"),
        ("", "NVIDIA_VISIBLE_DEVICES"),
        ("! 4\n", "/dev/nvidia*"),
    ] {
        machine.driver(driver);
        let text = told(&machine.environment());
        assert!(text.contains(cure), "{driver:?}: {text}");
    }
    // Where there is one, nothing of it is said; nor to somebody whose GPU is configured.
    machine.driver(TWO);
    let (text, code) = fit(&machine.environment(), &["llama3.1"]);
    assert_eq!(
        (code, text.as_str().unwrap().contains("CPU-only")),
        (0, false)
    );
}
