#!/usr/bin/env bash
# What only a GPU can tell, on a machine that has one and needs no cargo, in ten minutes:
#   tests      every operation of the machine (probes), every kernel (kernels) and the whole forward
#              pass (backend) against the CPU, bit for bit where the precision is `exact`: the tests
#              of the emulated machine, run on the GPU
#   tables     Table 1 at smoke and at full scale (smoke, full), which must be what the CPU computed
#   timings    every kernel beside the device's peaks (bench), the search's work end to end on
#              Gemma-7B's shapes (swarm), and cuBLAS, transformers and PEFT on the same (peers)
#   sanitizer  every kernel at small sizes under compute-sanitizer, where it is installed
# A part that fails or hangs is noted, and the next begins: the exit status tells at the end. What
# was found so far always stands in OUT/DEVICE.toml, with the time that each part took, and what the
# parts said in OUT/DEVICE.log. A target that is missed is a finding, and no failure.
# Usage: kernels/gpu_check.sh BINARIES OUT [PART]...
# GPU_CHECK_SECONDS (580) is the time for all; parts have shares of it, and are stopped after them.
set -uo pipefail
cd "$(dirname "$0")/.."
binaries=$1 out=$2
shift 2
wanted=" ${*:-tests tables timings sanitizer} "
limit=${GPU_CHECK_SECONDS:-580}
work=$(mktemp -d)
folder= # where the model of the timings is
trap 'rm -rf "$work" ${folder:+"$folder"}' EXIT
mkdir -p "$out"
touch "$work"/{parts,kernels,swarm,peers}.toml

# The binaries look for goldens where they were built.
if [ -z "${MODEL_SWARMS_GOLDEN:-}" ]; then
    for place in tests/golden ../shared/golden shared/golden; do
        if [ -d "$place" ]; then MODEL_SWARMS_GOLDEN=$(realpath "$place"); fi
    done
fi
export MODEL_SWARMS_GOLDEN

# One line of what the driver's tool says.
of_gpu() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -1; }
device=$(of_gpu name)
device=${device:-unknown GPU}
driver=$(of_gpu driver_version)
name=$(tr 'A-Z ' 'a-z-' <<<"$device")
report="$out/$name.toml" log="$out/$name.log"
commit=$(cat "$binaries/commit" 2>/dev/null)
: >"$log"

# What the benches add to the history.
BENCH_HISTORY="$out/bench-history.tsv" BENCH_COMMIT="${commit:0:12}" BENCH_DATE=$(date -u +%F)
BENCH_MACHINE=$device CRITERION_HOME="$work/criterion"
export BENCH_HISTORY BENCH_COMMIT BENCH_DATE BENCH_MACHINE CRITERION_HOME
export RUST_BACKTRACE=0 # the last lines of a part are what is shown of it

# ---- what is reported ----

# The targets, from what benches and peers have written: a line each, whatever is missing.
targets() {
    cat "$work"/{kernels,swarm,peers}.toml | awk -F ' = ' '
        function row(name, what, measured, against, ratio, rule, target,    held, missing) {
            if (!(measured in value)) missing = measured
            if (!(against in value)) missing = missing (missing ? ", " : "") against
            printf "%s = { what = \"%s\", ", name, what
            if (missing) {
                printf "target = \"%s %s\", missing = \"%s\" }\n", rule, target, missing
                return
            }
            ratio = ratio == "measured" ? value[measured] / value[against] \
                : value[against] / value[measured]
            held = rule == "at least" ? ratio >= target : ratio <= target
            printf "measured = %s, against = %s, ", value[measured], value[against]
            printf "ratio = %.3f, ", ratio
            printf "target = \"%s %s\", reached = %s }\n", rule, target, held ? "true" : "false"
        }
        NF == 2 { value[$1] = $2 }
        END {
            value["one"] = 1
            for (key in value) gsub("\"", "", value[key])
            swarm = ", 200 M numbers x " (value["step_particles"] + 0) " particles"
            of = " (" value["prefill_part"] ")"
            part = " over ours (" value["iteration_part"] "; theirs "
            row("gemm", "seconds of a layer'"'"'s products at 8192 rows, cuBLAS over ours", \
                "gemm_seconds", "cublas_seconds", "against", "at least", 0.90)
            row("prefill", "operations a second over the matrix peak" of, \
                "prefill_flop_per_second", "prefill_peak_flop_per_second", "measured", \
                "at least", 0.60)
            row("adapters", "seconds of a prefill with adapters over without" of, \
                "prefill_seconds_with_adapters", "prefill_seconds_of_base", "measured", \
                "at most", 1.08)
            row("decode", "seconds that its bytes take at copy bandwidth over a step'"'"'s (" \
                value["decode_part"] ")", \
                "decode_seconds", "decode_floor_seconds", "against", "at least", 0.80)
            row("materialise", "share of copy bandwidth" swarm, \
                "materialise_share", "one", "measured", "at least", 0.90)
            row("step", "share of copy bandwidth" swarm, \
                "step_share", "one", "measured", "at least", 0.90)
            row("iteration_over_peft", "seconds of a particle, transformers and PEFT" part \
                (value["peft_particles"] + 0) ")", \
                "iteration_seconds_per_particle", "peft_seconds_per_particle", "against", \
                "at least", 5)
            row("iteration_over_authors", "seconds of a particle, the authors'"'"' way" part \
                (value["authors_particles"] + 0) ")", \
                "iteration_seconds_per_particle", "authors_seconds_per_particle", "against", \
                "at least", 50)
        }'
}

# The benches' lines of one kind, under its heading.
section() {
    echo -e "\n[$1]"
    sed -n "s/^$1\.//p" "$work"/{kernels,swarm}.toml
}

write_report() {
    {
        echo "# Written by \`make gpu-check\`."
        echo "device = \"$device\""
        echo "driver = \"$driver\""
        echo "date = \"$(date -u +%F)\""
        echo "commit = \"$commit\""
        echo "seconds = $SECONDS"
        echo -e "\n[parts]"
        cat "$work/parts.toml"
        echo -e "\n[targets]"
        targets
        section peaks
        section kernels
        echo -e "\n[measured]"
        grep -hvE '^(peaks|kernels)\.' "$work"/{kernels,swarm}.toml
        echo -e "\n[peers]"
        cat "$work/peers.toml"
    } >"$work/report"
    cp "$work/report" "$report"
}

# ---- parts ----

failures=()
deadline=$limit

# Whether a part or its group is asked for.
is_wanted() { [[ "$wanted" == *" $1 "* || "$wanted" == *" $2 "* ]]; }

# The parts that follow have this share of the time together, in percent.
begin() {
    deadline=$((SECONDS + limit * $1 / 100))
    if ((deadline > limit)); then deadline=$limit; fi
}

# part NAME SHARE COMMAND...: runs it for at most this share of the time; what it said is in
# $work/log. Says how long it took, or how it ended.
part() {
    local name=$1 most=$((limit * $2 / 100)) started=$SECONDS status took why
    shift 2
    if ((most > deadline - SECONDS)); then most=$((deadline - SECONDS)); fi
    : >"$work/log"
    if ((most < 1)); then
        status=-1 why="no time was left" took=0
    else
        timeout --kill-after=5 "$most" "$@" >"$work/log" 2>&1
        status=$?
        took=$((SECONDS - started))
        case $status in
        0) ;;
        124 | 137) why="stopped after $took s" ;;
        *) why="ended with $status" ;;
        esac
    fi
    if ((status == 0)); then
        echo "$name: passed in $took s"
        echo "\"$name\" = { passed = true, seconds = $took }" >>"$work/parts.toml"
        { echo "== $name: passed in $took s" && tail -n 80 "$work/log"; } >>"$log"
    else
        failures+=("$name: $why")
        echo "$name: $why" >&2
        tail -n 12 "$work/log" >&2
        echo "\"$name\" = { passed = false, seconds = $took, why = \"$why\" }" >>"$work/parts.toml"
        { echo "== $name: $why" && tail -n 200 "$work/log"; } >>"$log"
    fi
    write_report
    # The message of the program itself, which a user would see.
    local none='no CUDA driver was found|the GPU cannot be opened|the GPU has compute capability'
    if ((status != 0)) && none=$(grep -oEm 1 "($none).*" "$work/log"); then
        rm -f "$report" "$log" # it would be of no device
        echo "gpu-check: there is no GPU to check: $none" >&2
        exit 1
    fi
    return "$((status != 0))"
}

# All tests of a binary; then those that did not pass, each in a process of its own, since what
# breaks the device for one breaks it for those that follow.
tests_of() {
    local binary="$binaries/$1" test
    if part "$1" "$2" env MODEL_SWARMS_GPU=1 "$binary" --test-threads 1; then return; fi
    sed -n 's/^test \([a-z0-9_:]*\) \.\.\. ok$/\1/p' "$work/log" | sort >"$work/passed"
    timeout 5 "$binary" --list 2>/dev/null | sed -n 's/: test$//p' | sort >"$work/all"
    for test in $(comm -13 "$work/passed" "$work/all"); do
        part "$1 $test" 5 env MODEL_SWARMS_GPU=1 "$binary" --exact "$test" --nocapture
    done
}

begin 28
if is_wanted tests probes; then tests_of kernels_probes 8; fi
if is_wanted tests kernels; then
    for binary in "$binaries"/kernels_*; do
        case $(basename "$binary") in
        kernels_probes | kernels_backend) ;;
        *) tests_of "$(basename "$binary")" 7 ;;
        esac
    done
fi
begin 10
if is_wanted tests backend; then tests_of kernels_backend 10; fi

table() {
    part "$1" "$2" "$binaries/model-swarms" reproduce --table 1 --testbed mini --scale "$1" \
        --device cuda --out "$work/$1"
}
begin 20
if is_wanted tables smoke; then table smoke 6; fi
if is_wanted tables full; then table full 15; fi

begin 60
if is_wanted timings bench; then
    # Where wgmma, or the copies that feed it, break or wait for ever, the kernels' benches and the
    # sanitizer do without.
    small=(env MODEL_SWARMS_GPU=1 "$binaries/bench_kernels")
    if ! part bench_kernels_small 4 "${small[@]}"; then
        export BENCH_WGMMA=0
        part "bench_kernels_small without wgmma" 4 "${small[@]}"
    fi
    part bench_kernels 17 env BENCH_RESULTS="$work/kernels.toml" "$binaries/bench_kernels" --bench
fi
if is_wanted timings swarm || is_wanted timings peers; then
    # The model's 17 GB: in memory where it fits.
    for place in /dev/shm "${TMPDIR:-/tmp}"; do
        free=$(df --output=avail -k "$place" 2>/dev/null | tail -1)
        if ((${free:-0} > 20 << 20)); then
            folder=$(mktemp -d "$place/gpu-check.XXXXXX")
            break
        fi
    done
    if [ -z "$folder" ]; then
        part bench_swarm_gpu 1 sh -c 'echo "no place has 20 GB of room for the model"; exit 1'
    else
        part bench_swarm_gpu 36 env BENCH_RESULTS="$work/swarm.toml" BENCH_FOLDER="$folder" \
            "$binaries/bench_swarm_gpu" --bench
        if is_wanted timings peers; then
            part peers 25 python3 kernels/gpu_peers.py "$folder"
            grep -E '^[a-z0-9_]+ = ' "$work/log" >"$work/peers.toml"
        fi
    fi
fi

begin 100
if is_wanted sanitizer sanitizer; then
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck synccheck; do
            part "$tool" 25 env MODEL_SWARMS_GPU=1 compute-sanitizer --tool "$tool" \
                --error-exitcode 1 "$binaries/bench_kernels"
        done
    else
        echo "sanitizer: skipped, compute-sanitizer is not installed"
    fi
fi

write_report
sed -n '/^\[targets\]/,/^$/p' "$report"
if ((${#failures[@]})); then
    printf 'gpu-check: %s\n' "${#failures[@]} parts did not pass" "${failures[@]}" >&2
    echo "gpu-check: $report, $log" >&2
    exit 1
fi
echo "gpu-check: all passed in $SECONDS s; $report"
