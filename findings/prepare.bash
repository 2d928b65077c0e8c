# Sourced by the scripts here: a temporary folder `$home`, and outside software in it. What cannot be had ends with 2.
set -euo pipefail
home=$(mktemp -d)
rig=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../tests/processors/rig.sh")
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
  "$rig" "$home/arm" python3 "$@" >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
  arm=(env PYTHONPATH="$home/arm/packages" "$home/arm/qemu-aarch64" -L "$home/arm/arm64" -cpu neoverse-n1
    "$home/arm/arm64/usr/bin/python3.13")
}
