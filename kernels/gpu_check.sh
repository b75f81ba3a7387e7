#!/usr/bin/env bash
# Everything that only a GPU can prove, on a machine that has one and needs no cargo:
#   - every operation of the machine, every kernel and the whole forward pass against the CPU, bit
#     for bit where the precision is `exact`: the tests of the emulated machine, run on the GPU;
#   - Table 1 at smoke and at full scale, which must be what the CPU computed;
#   - the kernels' tests under compute-sanitizer, where it is installed.
# What was found goes to OUT/DEVICE.toml, with the times it took.
# Usage: kernels/gpu_check.sh BINARIES OUT
set -euo pipefail
cd "$(dirname "$0")/.."
binaries=$1 out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# The binaries look for goldens where they were built.
if [ -z "${MODEL_SWARMS_GOLDEN:-}" ]; then
    for place in tests/golden ../shared/golden shared/golden; do
        if [ -d "$place" ]; then MODEL_SWARMS_GOLDEN=$(realpath "$place"); fi
    done
fi
export MODEL_SWARMS_GOLDEN

# The driver is asked for by the program itself: its message is the one that a user would see.
smoke="reproduce --table 1 --testbed mini --scale smoke --device cuda --out $work/smoke"
if ! "$binaries/model-swarms" $smoke >"$work/smoke.txt" 2>"$work/smoke.err"; then
    tail -q -n 5 "$work/smoke.err" "$work/smoke.txt" >&2
    echo "gpu-check: Table 1 at smoke scale is not what was expected" >&2
    exit 1
fi
tail -1 "$work/smoke.txt"

device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)
report="$out/$(tr 'A-Z ' 'a-z-' <<<"$device").toml"
{
    echo "# Written by \`make gpu-check\`."
    echo "device = \"$device\""
    echo "driver = \"$driver\""
    echo "date = \"$(date -u +%F)\""
    echo "commit = \"$(cat "$binaries/commit")\""
} >"$report"

# timed NAME COMMAND...: runs it, and says how long it took or how it ended.
timed() {
    local name=$1 started=$SECONDS
    shift
    if ! "$@" >"$work/$name.txt" 2>&1; then
        tail -30 "$work/$name.txt" >&2
        echo "gpu-check: $name failed" >&2
        exit 1
    fi
    echo "$name: passed in $((SECONDS - started)) s"
    echo "$name = { passed = true, seconds = $((SECONDS - started)) }" >>"$report"
}

echo -e "\n[tests]" >>"$report"
for test in "$binaries"/kernels_*; do
    timed "$(basename "$test")" env MODEL_SWARMS_GPU=1 "$test" --test-threads 1
done

echo -e "\n[table01]" >>"$report"
timed full "$binaries/model-swarms" reproduce --table 1 --testbed mini \
    --scale full --device cuda --out "$work/full"

if command -v compute-sanitizer >/dev/null; then
    echo -e "\n[sanitizer]" >>"$report"
    for tool in memcheck racecheck; do
        for test in kernels_rows kernels_swarm kernels_fast; do
            timed "${tool}_$test" env MODEL_SWARMS_GPU=1 compute-sanitizer --tool "$tool" \
                --error-exitcode 1 "$binaries/$test" --test-threads 1
        done
    done
fi
echo "gpu-check: all passed; $report"
