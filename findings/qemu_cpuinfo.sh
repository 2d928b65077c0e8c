#!/usr/bin/env bash
# Under qemu-user a program that asks /proc/cpuinfo for VNNI is told of the host's, whatever processor is emulated.
. "$(dirname "$0")/prepare.bash"
with_emulator
with_packages numpy==2.4.6
cat >"$home/ask.py" <<'PYTHON'
import sys

from numpy._core._multiarray_umath import __cpu_features__ as asked

flags = next(line for line in open("/proc/cpuinfo") if line.startswith("flags"))
print(asked["AVX2"], "avx2" in flags, len(flags.split()))
PYTHON
"$emulator" --version | head -1
echo "assumed: with -cpu SandyBridge a program sees a SandyBridge, which has no AVX2, wherever it looks"
here=$("$python" "$home/ask.py")
there=$("$emulator" -cpu SandyBridge "$python" "$home/ask.py" 2>"$home/log") || { cat "$home/log"; exit 2; }
echo "seen: AVX2 by CPUID, AVX2 by /proc/cpuinfo, flags listed there"
echo "seen: here $here"
echo "seen: emulated $there"
set -- $here $there
[ "$2" = True ] || { echo "needs a processor with AVX2"; exit 2; }
[ "$4" = False ] && [ "$5" = True ] && [ "$3" = "$6" ]
