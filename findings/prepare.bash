# Sourced by the scripts here: a temporary folder `$home`, and outside software in it. What cannot be had ends with 2.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT

with_packages() { # Python packages, pinned; `$python` has them
  python=$home/venv/bin/python
  python3 -m venv "$home/venv"
  "$home/venv/bin/pip" install --quiet --disable-pip-version-check "$@" >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
}

with_emulator() { # `$emulator` runs a program as another x86-64 processor would
  [ "$(uname -m)" = x86_64 ] || { echo "needs an x86-64 machine"; exit 2; }
  emulator=$(command -v qemu-x86_64 || true)
  if [ -z "$emulator" ]; then
    (cd "$home" && apt-get download qemu-user-static qemu-user && for deb in ./*.deb; do dpkg-deb -x "$deb" .; done) \
      >"$home/log" 2>&1 || { cat "$home/log"; exit 2; }
    emulator=$(ls "$home"/usr/bin/qemu-x86_64-static "$home"/usr/bin/qemu-x86_64 2>/dev/null | head -1)
  fi
}

emulate() { # `run.py PROCESSOR` in this folder, as each x86-64 processor that is named
  for processor in "$@"; do
    "$emulator" -cpu "$processor" venv/bin/python run.py "$processor" 2>log || { cat log; exit 2; }
  done
}
