#!/bin/sh
# Builds the image TAG: a stand-in for public.ecr.aws/lambda/python:3.13 where that is out of reach.
# Debian's Python 3.13, AWS's runtime client and AWS's Runtime Interface Emulator, at the places where AWS has them.
#
#     tests/images/base.sh TAG {amd64|arm64} aws-lambda-rie
#
# For another architecture than this machine's, the kernel must know an emulator (docs/processors.md, "arm64").
set -eu
tag=$1 arch=$2 emulator=$3
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

debootstrap --arch="$arch" --variant=minbase --include=python3,python3-pip,ca-certificates \
  trixie "$root" >"$root.log" 2>&1 ||
  { tail "$root.log"; exit 1; }
rm -rf "$root.log" "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man

ln -s python3 "$root/usr/bin/python"
install -D "$emulator" "$root/usr/local/bin/aws-lambda-rie"
install -d "$root/var/task" "$root/var/runtime"
cat >"$root/var/runtime/bootstrap" <<'SCRIPT'
#!/bin/sh
exec python3 -m awslambdaric "$_HANDLER"
SCRIPT
chmod +x "$root/var/runtime/bootstrap"

storage="--storage-driver overlay"
container=$(buildah $storage from --arch "$arch" scratch)
buildah $storage copy --quiet "$container" "$root" / >/dev/null
buildah $storage run --isolation chroot --volume /etc/ssl/certs:/etc/ssl/certs:ro "$container" -- \
  python3 -m pip install --quiet --root-user-action ignore --break-system-packages --no-cache-dir awslambdaric==4.2.2
buildah $storage config --arch "$arch" --workingdir /var/task \
  --env LAMBDA_TASK_ROOT=/var/task --env LAMBDA_RUNTIME_DIR=/var/runtime \
  --entrypoint '["/usr/local/bin/aws-lambda-rie", "/var/runtime/bootstrap"]' "$container"
buildah $storage commit --quiet --rm "$container" "$tag" >/dev/null
