#!/usr/bin/env python3
"""measure_vram.py LLAMA_DIR OUT.csv MODEL.gguf... - what llama.cpp would take, without loading anything.

LLAMA_DIR is where get-llama-server.sh unpacked llama.cpp; libggml-rpc.so of the
Debian package libggml0-backend-rpc must lie in its ggml/backends0 (with a run
path to it, and a link in LLAMA_DIR/bin).  Two RPC devices on this machine stand
for two GPUs.  fit_params_shim.c (beside this file) sets rows of logits, slots
and the shared cache, for which llama-fit-params has no flags; its offsets are
those of b11669.
"""
import csv
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PORTS = (51171, 51172)
# name, devices, context, micro-batch, batch, slots, one cache, rows of logits (0: batch), flash attention, K, V, layers
CASES = [
    ("server", 1, 8192, 512, 2048, 4, 1, 4, "on", "f16", "f16", 99),
    ("cli", 1, 8192, 512, 2048, 1, 0, 0, "on", "f16", "f16", 99),
    ("odd", 1, 5000, 128, 2048, 3, 0, 3, "on", "f16", "f16", 99),
    ("wide", 1, 16384, 2048, 2048, 1, 0, 1, "on", "f16", "f16", 99),
    ("noflash", 1, 4096, 512, 2048, 1, 0, 1, "off", "f16", "f16", 99),
    ("q8", 1, 8192, 512, 2048, 4, 1, 4, "on", "q8_0", "q8_0", 99),
    ("q4", 1, 8192, 512, 2048, 1, 0, 1, "on", "q8_0", "q4_0", 99),
    ("two", 2, 8192, 512, 2048, 4, 1, 4, "on", "f16", "f16", 99),
    ("half", 1, 8192, 512, 2048, 4, 1, 4, "on", "f16", "f16", "half"),
    ("ram", 0, 8192, 512, 2048, 4, 1, 4, "on", "f16", "f16", 0),
]

COLUMNS = ("model,case,devices,ctx,ubatch,batch,parallel,unified,outputs,flash,cache_k,cache_v,gpu_layers,"
           "dev0_weights,dev0_memory,dev0_compute,dev1_weights,dev1_memory,dev1_compute,host_weights,host_memory,host_compute")


def build(source, target, *flags):
    subprocess.run(["cc", *flags, os.path.join(HERE, source), "-o", target, "-ldl"], check=True)


def half_of(path):
    """Half of the layers and one: block_count from the first bytes of the header."""
    data = open(path, "rb").read(1 << 16)
    at = data.index(b".block_count") + len(b".block_count") + 4
    return int.from_bytes(data[at:at + 4], "little") // 2 + 1


def run(llama, shim, path, devices, ctx, ubatch, batch, slots, one, rows, flash, k, v, layers):
    env = dict(os.environ, LD_PRELOAD=shim, NSEQ=str(slots), NOUT=str(rows), UNI=str(one))
    args = [os.path.join(llama, "bin/llama-fit-params"), "-m", path, "--fit-print", "on", "-v", "-c", str(ctx), "-ub", str(ubatch),
            "-b", str(batch), "-fa", flash, "-ctk", k, "-ctv", v, "-ngl", str(layers)]
    if devices:
        args += ["--rpc", ",".join("127.0.0.1:%d" % port for port in PORTS[:devices])]
    done = subprocess.run(args, capture_output=True, text=True, env=env, timeout=120)
    table = re.findall(r"^(RPC\d|Host) (\d+) (\d+) (\d+)", done.stdout, re.M)
    exact = re.findall(r"sched_reserve: .*compute buffer size =\s*([\d.]+) MiB", done.stdout + done.stderr)
    exact = exact[-len(table):] if len(exact) >= len(table) else []
    return [(name, weights, memory, exact[n] if exact else compute) for n, (name, weights, memory, compute) in enumerate(table)]


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    llama, out, models = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3:]
    work = tempfile.mkdtemp()
    shim, device = os.path.join(work, "shim.so"), os.path.join(work, "device")
    build("fit_params_shim.c", shim, "-shared", "-fPIC")
    build("rpc_device.c", device)
    lib = os.path.join(llama, "root/usr/lib/x86_64-linux-gnu")
    loader = [os.path.join(lib, "ld-linux-x86-64.so.2"), "--library-path", lib + ":" + lib + "/llama"]
    servers = [subprocess.Popen([*loader, device, lib, "127.0.0.1:%d" % port, llama + "/bin"], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL) for port in PORTS]
    time.sleep(2)
    try:
        with open(out, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS.split(","))
            for path in models:
                name = os.path.basename(path).replace(".gguf", "")
                for case, *options in CASES:
                    if options[-1] == "half":
                        options[-1] = half_of(path)
                    table = run(llama, shim, path, *options)
                    if not table:
                        print("no figures:", name, case, file=sys.stderr)
                        continue
                    cells = {row[0]: list(row[1:]) for row in table}
                    options[6] = options[6] or "batch"
                    gpus = [cells.get("RPC%d" % n, [""] * 3) for n in range(2)]
                    rows.writerow([name, case, *options, *gpus[0], *gpus[1], *cells["Host"]])
                    file.flush()
    finally:
        for server in servers:
            server.kill()


if __name__ == "__main__":
    main()
