#!/usr/bin/env bash
# Fetches what emulates other processors: Debian's qemu-user, its arm64 Python, and packages for that, which PYTHON's
# pip downloads. Needs an x86-64 Debian and neither root nor a change to it: all goes into FOLDER.
#
#     tests/processors/rig.sh FOLDER PYTHON (PACKAGE==VERSION | -r REQUIREMENTS)...
set -euo pipefail
folder=$(realpath --canonicalize-missing "$1") python=$2
shift 2

fail() {
  echo "$*" >&2
  exit 1
}

keys=/usr/share/keyrings/debian-archive-keyring.gpg
[[ $(uname -m) == x86_64 ]] || fail "other processors are emulated on x86-64 only, not on $(uname -m)"
[[ -f $keys ]] && command -v apt-get dpkg >/dev/null || fail "apt, dpkg or $keys is missing, this is no Debian"

rm -rf "$folder"
mkdir -p "$folder"/{lists,cache/archives,arm64/usr/{bin,lib}}
# bookworm's qemu (7.2) cannot start ONNX Runtime on arm64, trixie's (10.0) can.
echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" >"$folder/sources.list"
debian=(
  apt-get -qq -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o Dir::State::Lists="$folder/lists" -o Dir::State::Status=/dev/null -o Dir::Cache="$folder/cache"
  -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Architectures::=amd64 -o APT::Sandbox::User=
)
"${debian[@]}" update >/dev/null && "${debian[@]}" install --yes --no-install-recommends --download-only \
  python3 libstdc++6 qemu-user:amd64 >/dev/null || fail "deb.debian.org cannot be reached"
ln -s usr/bin usr/lib "$folder/arm64"
for package in "$folder"/cache/archives/*_{arm64,all}.deb; do dpkg -x "$package" "$folder/arm64"; done
dpkg --fsys-tarfile "$folder"/cache/archives/qemu-user_*.deb |
  tar -x -C "$folder" --strip-components=3 ./usr/bin/qemu-aarch64 ./usr/bin/qemu-x86_64

"$python" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: --no-deps \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --python-version 3.13 --implementation cp \
  --target "$folder/packages" "$@" || fail "the packages for arm64 cannot be fetched"
rm -rf "$folder"/{lists,cache}
