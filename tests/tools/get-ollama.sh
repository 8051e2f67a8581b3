#!/bin/bash
# get-ollama.sh DIR LLAMA_DIR: a real Ollama in DIR/bin/ollama, built from the Go module proxy, with the llama-server and
# llama-quantize of LLAMA_DIR (get-llama-server.sh) to run models with, on a software GPU where LLAMA_DIR has one. Needs Go 1.26
# and a C compiler; two to three minutes the first time on two cores, seconds from Go's build cache. Does not build when that
# version is already there.
set -euo pipefail

version=0.32.15
usage="usage: get-ollama.sh DIR LLAMA_DIR"
mkdir -p "${1:?$usage}/bin" "$1/lib/ollama"
dir=$(cd "$1" && pwd)
llama=$(cd "${2:?$usage}" && pwd)

# Asked without a server, it prints its own version after a warning.
if ! OLLAMA_HOST=127.0.0.1:1 "$dir/bin/ollama" --version 2>/dev/null | grep -q "$version"; then
  GOBIN=$dir/bin GOFLAGS=-buildvcs=false go install \
    -ldflags "-s -w -X github.com/ollama/ollama/version.Version=$version" "github.com/ollama/ollama@v$version"
fi
# Ollama looks for both in ../lib/ollama beside itself; llama.cpp looks for its libraries beside the real program.
environment=
[ ! -e "$llama/lvp.json" ] || printf -v environment 'env VK_DRIVER_FILES=%q GGML_VK_VISIBLE_DEVICES=0 ' "$llama/lvp.json"
for program in llama-server llama-quantize; do
  printf '#!/bin/sh\nexec %s%q "$@"\n' "$environment" "$llama/bin/$program" >"$dir/lib/ollama/$program"
  chmod +x "$dir/lib/ollama/$program"
done
OLLAMA_HOST=127.0.0.1:1 "$dir/bin/ollama" --version 2>/dev/null | tail -1
