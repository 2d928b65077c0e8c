#!/bin/sh
# Installs a wheel into an empty environment and reads photos with it, away from the checkout.
#
#     packaging/try_wheel.sh WHEEL [PYTHON]
#
# First with the engine alone, then with the command line's extra. Versions are the locked ones.
set -eu
wheel=$(realpath "$1")
python=$(command -v "${2:-python3}")
checkout=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Without hashes, which pip would then want for the wheel itself, and without extras, which constraints have not.
sed -n 's/^\([a-z0-9._-]*\)\(\[[a-z,]*\]\)\{0,1\}\(==[^\]*\).*/\1\3/p' "$checkout/requirements/dev.txt" >"$work/locked.txt"
"$python" -m venv --without-pip "$work/env"
install() {
  "$python" -m pip --python "$work/env/bin/python" install --quiet --disable-pip-version-check \
    --root-user-action ignore --only-binary :all: --constraint "$work/locked.txt" "$@"
}

cd /
unset PYTHONPATH
export PATH="$work/env/bin:$PATH"
install "$wheel"
python -W error "$checkout/packaging/try_wheel.py" "$checkout/tests/data"
install "$wheel[cli]"
carsight keys list --local 2>&1 | grep 'is `make run` running?'
