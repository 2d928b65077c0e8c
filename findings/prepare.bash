# Sourced by the scripts here: a temporary folder `$home`, and outside software in it. What cannot be had ends with 2.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

with_packages() { # Python packages, pinned; `$python` has them
  python=$home/venv/bin/python
  python3 -m venv "$home/venv"
  "$home/venv/bin/pip" install --quiet --disable-pip-version-check "$@" >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
}

with_both_opencvs() { # `run.py VERSION` in this folder, with OpenCV 4 and then 5
  for version in 4.14.0.94 5.0.0.93; do
    with_packages "opencv-python-headless==$version" numpy==2.4.6
    "$python" run.py "$version"
  done
}

with_emulator() { # `$emulator` runs a program as another x86-64 processor would
  [ "$(uname -m)" = x86_64 ] || { echo "needs an x86-64 machine"; exit 2; }
  emulator=$(command -v qemu-x86_64 || true)
  if [ -z "$emulator" ]; then
    (cd "$home" && apt-get download qemu-user-static qemu-user && for deb in ./*.deb; do dpkg-deb -x "$deb" .; done) \
      >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
    emulator=$home/usr/bin/qemu-x86_64-static # Debian 12 has both, of which the other needs libraries; 13 has the other alone
    [ -x "$emulator" ] || emulator=$home/usr/bin/qemu-x86_64
  fi
}

emulate() { # `run.py PROCESSOR` in this folder, as each x86-64 processor that is named
  for processor in "$@"; do
    "$emulator" -cpu "$processor" venv/bin/python run.py "$processor" 2>log || { cat log; exit 2; }
  done
}

with_arm64() { # `$arm` is Debian's Python for arm64 under qemu, with Python packages, pinned
  [ "$(uname -m)" = x86_64 ] || { echo "needs an x86-64 machine"; exit 2; }
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg apt
  mkdir -p "$home"/{lists,cache/archives,arm64/usr/{bin,lib}}
  echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" >"$home/sources.list"
  apt=(apt-get -qq -o "Dir::Etc::SourceList=$home/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$home/lists" -o Dir::State::Status=/dev/null -o "Dir::Cache=$home/cache"
    -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Architectures::=amd64 -o APT::Sandbox::User=)
  { "${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends --download-only \
    python3 libstdc++6 qemu-user:amd64; } >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
  ln -s usr/bin usr/lib "$home/arm64"
  for deb in "$home"/cache/archives/*_{arm64,all}.deb; do dpkg -x "$deb" "$home/arm64"; done
  dpkg -x "$home"/cache/archives/qemu-user_*.deb "$home"
  python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --python-version 3.13 --implementation cp \
    --target "$home/packages" "$@" >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
  arm=(env PYTHONPATH="$home/packages" "$home/usr/bin/qemu-aarch64" -L "$home/arm64" -cpu neoverse-n1
    "$home/arm64/usr/bin/python3.13")
}
