#!/bin/bash
# Requests per second by wrk and by `gpurouter bench proxy`, in turns, for the mock directly and for the router: the two generators
# should agree within their noise. Prints a table, judges nothing.
#
#   tests/tools/compare-wrk.sh [GPUROUTER [ROUNDS [SECONDS]]]      (Debian: apt-get install wrk; $WRK names another one)
set -euo pipefail
gpurouter=${1:-target/release/gpurouter}
rounds=${2:-3}
seconds=${3:-3}
wrk=${WRK:-wrk}
port=${PORT:-8900}
dir=$(mktemp -d)
held=

finish() {
  [ -z "$held" ] || kill "$held" 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT

# The request of the benchmark, byte for byte: a body of exactly 1 or 200 KB.
cat >"$dir/ask.lua" <<'LUA'
local bytes = tonumber(os.getenv("BYTES"))
local head = '{"model":"bench:latest","stream":false,"messages":[{"role":"user","content":"'
local tail = '"}]}'
local text = "What does this function return when the list is empty? "
local room = bytes - #head - #tail
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "*/*"
wrk.headers["User-Agent"] = "gpurouter-bench"
wrk.body = head .. text:rep(math.ceil(room / #text)):sub(1, room) .. tail
LUA

hold() {
  "$gpurouter" bench proxy --hold --json --upstream-port "$port" >"$dir/held" &
  held=$!
  for _ in $(seq 300); do
    [ -s "$dir/held" ] && return
    sleep 0.05
  done
  echo "the router did not start" >&2
  exit 1
}

release() {
  kill -INT "$held"
  wait "$held" || true
  held=
}

address() {
  sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/" "$dir/held"
}

for round in $(seq "$rounds"); do
  echo "round $round of $rounds, load average $(cut -d' ' -f1-3 /proc/loadavg)" >&2
  "$gpurouter" -q bench proxy --json --only rates --rounds 1 --duration "${seconds}s" >"$dir/ours.$round" || true
  : >"$dir/held"
  hold
  for bytes in 1024 204800; do
    for connections in 1 16 256; do
      for way in upstream router; do
        rate=$(BYTES=$bytes "$wrk" -t1 -c"$connections" -d"${seconds}s" -s "$dir/ask.lua" "$(address "$way")/api/chat" |
          awk '/^Requests\/sec:/ {print $2} /Non-2xx|Socket errors/ {print $0 > "/dev/stderr"}')
        echo "$bytes $connections $way $rate" >>"$dir/wrk"
      done
    done
  done
  release
done

python3 - "$dir" "$rounds" <<'PYTHON'
import json, statistics, sys
directory, rounds = sys.argv[1], int(sys.argv[2])
theirs, ours = {}, {}
for line in open(f"{directory}/wrk"):
    size, connections, way, rate = line.split()
    theirs.setdefault((int(size), int(connections), way), []).append(float(rate))
for number in range(1, rounds + 1):
    rows = json.load(open(f"{directory}/ours.{number}"))["figures"]["rows"]
    for row in rows:
        if row["id"].startswith("rate_"):
            _, size, connections = row["id"].split("_")
            for way, target in (("upstream", "direct"), ("router", "gpurouter")):
                rate = row["targets"][target]["median"]
                if rate is not None:
                    key = (int(size.removesuffix("kb")) * 1024, int(connections), way)
                    ours.setdefault(key, []).append(rate)
print(f"{'requests per second':26}{'wrk':>26}{'bench proxy':>26}")
for key in sorted(theirs):
    size, connections, way = key
    cells = []
    for rates in (theirs[key], ours.get(key, [])):
        cells.append(f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})" if rates else "n/a")
    name = {"upstream": "direct", "router": "gpurouter"}[way]
    print(f"{f'{name}, {size // 1024} KB, {connections}':26}{cells[0]:>26}{cells[1]:>26}")
PYTHON
