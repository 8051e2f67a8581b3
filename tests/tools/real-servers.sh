#!/bin/bash
# real-servers.sh get DIR    brings the real parts into DIR: llama/, ollama/, tiny.gguf, tiny-embed.gguf; ollama-gpu/, an Ollama
#                            that puts its models on a software GPU, with its llama-vulkan/; and the load generator wrk/
# real-servers.sh up DIR     starts two Ollamas (models tiny and tiny-embed) and two llama-servers (solo; tiny-embed) on free
#                            loopback ports; their addresses are then in DIR/run/env as OLLAMA_1, OLLAMA_2, LLAMA_1, LLAMA_2
# real-servers.sh down DIR   stops exactly those
# Programs named by GPUROUTER_TEST_OLLAMA and GPUROUTER_TEST_LLAMA_SERVER are used instead of DIR's.
set -eEuo pipefail

here=$(cd "$(dirname "$0")" && pwd)
usage="usage: real-servers.sh get|up|down DIR"
command=${1:?$usage}
mkdir -p "${2:?$usage}"
dir=$(cd "$2" && pwd)
run=$dir/run
ollama=${GPUROUTER_TEST_OLLAMA:-$dir/ollama/bin/ollama}
llama_server=${GPUROUTER_TEST_LLAMA_SERVER:-$dir/llama/bin/llama-server}

get() {
  [ -n "${GPUROUTER_TEST_LLAMA_SERVER:-}" ] || "$here/get-llama-server.sh" "$dir/llama"
  [ -n "${GPUROUTER_TEST_OLLAMA:-}" ] || "$here/get-ollama.sh" "$dir/ollama" "$dir/llama"
  python3 "$here/make_tiny_gguf.py" "$dir/tiny.gguf"
  python3 "$here/make_tiny_gguf.py" "$dir/tiny-embed.gguf" --pooling mean
  VULKAN=1 "$here/get-llama-server.sh" "$dir/llama-vulkan"
  # A copy, because it takes its runners from beside itself, links resolved.
  mkdir -p "$dir/ollama-gpu/bin"
  cp --remove-destination "$ollama" "$dir/ollama-gpu/bin/ollama"
  "$here/get-ollama.sh" "$dir/ollama-gpu" "$dir/llama-vulkan"
  "$here/get-wrk.sh" "$dir/wrk"
}

# start NAME COMMAND...: runs it with its output in NAME.log and prints the address that it says it listens on.
start() {
  local name=$1 log=$run/$1.log address i
  shift
  : >"$log"
  "$@" >>"$log" 2>&1 </dev/null &
  echo "$!" >>"$run/pids"
  for ((i = 0; i < 300; i++)); do
    address=$(grep -oiE 'listening on (http://)?127\.0\.0\.1:[0-9]+' "$log" | grep -oE '[0-9.]+:[0-9]+$' | head -1 || true)
    [ -z "$address" ] || break
    sleep 0.1
  done
  if [ -z "$address" ]; then
    echo "error: $name does not listen" >&2
    tail -5 "$log" >&2
    return 1
  fi
  echo "$address"
}

# One thread each: workers that spin for each other make a token a thousand times slower on a busy machine.
start_ollama() {
  local home=$run/ollama-$1 address
  mkdir -p "$home/models"
  address=$(start "ollama-$1" env HOME="$home" OLLAMA_MODELS="$home/models" OLLAMA_HOST=127.0.0.1:0 OLLAMA_NO_CLOUD=1 \
    "$ollama" serve)
  for model in tiny tiny-embed; do
    printf 'FROM %s\nPARAMETER num_thread 1\n' "$dir/$model.gguf" >"$home/Modelfile"
    [ "$model" != tiny ] || echo 'PARAMETER num_predict 256' >>"$home/Modelfile"
    HOME=$home OLLAMA_HOST=$address "$ollama" create "$model" -f "$home/Modelfile" >>"$run/ollama-$1.log" 2>&1
  done
  echo "OLLAMA_$1=http://$address" >>"$run/env"
}

start_llama() {
  local address number=$1 file=$2 alias=$3
  shift 3
  address=$(start "llama-$number" "$llama_server" -m "$dir/$file.gguf" --host 127.0.0.1 --port 0 --alias "$alias" -t 1 "$@")
  echo "LLAMA_$number=http://$address" >>"$run/env"
}

up() {
  down
  mkdir -p "$run"
  trap down ERR
  start_ollama 1
  start_ollama 2
  start_llama 1 tiny solo -n 64
  start_llama 2 tiny-embed tiny-embed --embeddings
  trap - ERR
  cat "$run/env"
}

down() {
  local pid pids=()
  [ ! -e "$run/pids" ] || mapfile -t pids <"$run/pids"
  for pid in "${pids[@]}"; do
    # A number that now belongs to another program is left alone.
    if tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -e "$ollama" -e "$llama_server"; then
      kill "$pid" 2>/dev/null || true
    fi
  done
  for pid in "${pids[@]}"; do
    for _ in {1..100}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
  rm -rf "$run"
}

case $command in
  get | up | down) "$command" ;;
  *)
    echo "$usage" >&2
    exit 2
    ;;
esac
