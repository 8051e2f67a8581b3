#!/bin/bash
# get-wrk.sh DIR: a real wrk in DIR/bin, from Debian's packages of this machine's own release, in a few seconds. Installs nothing
# and needs no root; needs apt and dpkg. Does nothing when it is there.
set -euo pipefail

mkdir -p "${1:?usage: get-wrk.sh DIR}"
dir=$(cd "$1" && pwd)
version() { { "$dir/bin/wrk" -v || true; } 2>&1 | grep -m1 '^wrk '; }
! version || exit 0

# The mirror and the release that this machine already uses.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
  grep -E '^(URIs:|deb )' | grep -oE 'https?://[^ ]+/debian/?' | head -1 || true)
mirror=${MIRROR:-${mirror:?no Debian mirror is set up: set MIRROR}}
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/root" "$dir/bin"
: >"$dir/apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$dir/apt/sources.list"
apt=(apt-get -q
  -o "Dir::State=$dir/apt" -o "Dir::State::lists=$dir/apt/lists" -o "Dir::State::status=$dir/apt/status"
  -o "Dir::Cache=$dir/apt/cache" -o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=-
  -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3)
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends --download-only wrk; } >"$dir/apt/log" 2>&1; then
  tail -20 "$dir/apt/log" >&2
  exit 1
fi
for package in "$dir"/apt/cache/archives/{wrk,libluajit,libssl}*.deb; do
  dpkg -x "$package" "$dir/root"
done
cat >"$dir/bin/wrk" <<WRK
#!/bin/bash
LD_LIBRARY_PATH=$dir/root/usr/lib/$(uname -m)-linux-gnu exec $dir/root/usr/bin/wrk "\$@"
WRK
chmod +x "$dir/bin/wrk"
rm -rf "$dir/apt"
version
