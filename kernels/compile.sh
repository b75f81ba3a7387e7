#!/usr/bin/env bash
# Compiles every kernel for sm_80, sm_90a and, as PTX, for later chips, and checks what came out:
#   - nothing spills to local memory, and no kernel has a stack;
#   - arithmetic rounds once, to nearest, where the source says so: no bare mul or add, which ptxas
#     could fuse, nothing approximate, no denormal flushed. The kernels of precision `fast` are free
#     in that, but its products, LoRA and attention above v1 must use tensor cores; so must those
#     for Hopper, on sm_90a, by wgmma, without ptxas serialising it, the products fed by the tensor
#     memory accelerator;
#   - no kernel touches local memory, where cuobjdump and nvdisasm stand beside NVCC to tell;
#   - registers and shared memory are those of expected/kernels/resources.txt. `--write` keeps them.
# The probes (kernels/probes) have a file of their own, and must only compile, without a spill.
# Usage: kernels/compile.sh NVCC OUT [--write]
set -euo pipefail
cd "$(dirname "$0")/.."

nvcc=$1 out=$2 write=${3:-}
expected=expected/kernels/resources.txt
mkdir -p "$out" "$(dirname "$expected")"
flags=(-std=c++17 -fmad=false)

fatbin() { # from which source, to which file, with which log
    if ! "$nvcc" "${flags[@]}" -fatbin -gencode 'arch=compute_80,code=[sm_80,compute_80]' \
        -gencode arch=compute_90a,code=sm_90a -Xptxas -v,-warn-spills,-Werror -o "$2" "$1" \
        >"$3" 2>&1; then
        grep -E 'error|warning' "$3" >&2 || cat "$3" >&2
        exit 1
    fi
}
fatbin kernels/all.cu "$out/kernels.fatbin" "$out/ptxas.log"
fatbin kernels/probes/all.cu "$out/probes.fatbin" "$out/probes.log"

if grep -E 'wgmma.*serialized|setmaxnreg.*ignored' "$out/ptxas.log" "$out/probes.log" >&2; then
    echo "kernels: ptxas waits after each wgmma" >&2
    exit 1
fi

# A line per kernel and chip: registers, static shared memory, stack.
awk -v OFS='\t' '
    /Compiling entry function/ { gsub("\047", ""); name = $7; chip = $9 }
    /bytes stack frame/        { stack = $1 }
    /ptxas info *: Used/       {
        shared = 0
        for (i = 1; i < NF; i++) if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i
        print name, chip, $5, shared, stack
    }' "$out/ptxas.log" | LC_ALL=C sort >"$out/resources.tsv"
if awk -F '\t' '$5 > 0 { print "kernels: " $1 " for " $2 " has a stack of " $5 " bytes"; bad = 1 }
        END { exit !bad }' "$out/resources.tsv" >&2; then
    exit 1
fi
{
    echo "# Registers of a thread and static shared memory of a block in bytes, nvcc 13.0."
    awk -F '\t' 'BEGIN { printf "%-31s %-7s %9s %7s\n", "kernel", "chip", "registers", "shared" }
        { printf "%-31s %-7s %9d %7d\n", $1, $2, $3, $4 }' "$out/resources.tsv"
} >"$out/resources.txt"

# The gate on the deterministic kernels: an instruction's name says how it rounds.
"$nvcc" "${flags[@]}" -ptx -arch=compute_80 -o "$out/kernels.ptx" kernels/all.cu
awk '/\.entry/ { is_fast = /_fast_|_hopper_/ } !is_fast' "$out/kernels.ptx" >"$out/deterministic.ptx"
bare='^[[:space:]]*(@[^ ]+ )?((mul|add|sub|fma|mad|div|sqrt|rcp)(\.sat)?\.f(32|64)|[a-z0-9.]+\.(ftz|approx|full)[. ])'
if grep -nE "$bare" "$out/deterministic.ptx" >&2; then
    echo "kernels: the lines above round otherwise than the source says" >&2
    exit 1
fi
n_rounded=$(grep -cE '(mul|add|sub|fma|div|sqrt)\.rn\.f(32|64)' "$out/deterministic.ptx")
if [ "$n_rounded" -lt 100 ]; then
    echo "kernels: only $n_rounded rounded operations were found: the search is broken" >&2
    exit 1
fi

# Tensor cores: lines of (kernel, whether it has any), from the machine code where it can be read.
tensor_cores() { # which instruction, which file
    awk -v instruction="$1" '
        /\.entry|Function :/ { gsub(/\(/, " "); name = $3; n[name] += 0 }
        $0 ~ instruction     { ++n[name] }
        END                  { for (name in n) print name, (n[name] > 0 ? "yes" : "no") }' "$2"
}
tools=$(dirname "$nvcc") code=PTX
if [ -x "$tools/cuobjdump" ] && [ -x "$tools/nvdisasm" ]; then
    code=SASS
    for chip in sm_80 sm_90a; do
        "$tools/cuobjdump" -sass -arch "$chip" "$out/kernels.fatbin" >"$out/$chip.sass"
        tensor_cores ' HMMA[.]' "$out/$chip.sass" | grep -v _hopper_
        if awk '/Function :/ { name = $3 } / (LDL|STL)[. ]/ { print name ": " $0; bad = 1 }
                END { exit !bad }' "$out/$chip.sass" >&2; then
            echo "kernels: the lines above touch local memory on $chip" >&2
            exit 1
        fi
    done >"$out/tensor_cores"
    {
        tensor_cores ' HGMMA[.]' "$out/sm_90a.sass" | grep _hopper_
        tensor_cores ' UTMALDG[.]' "$out/sm_90a.sass" | grep gemm_hopper_
    } >"$out/hopper"
else
    tensor_cores 'mma[.]sync' "$out/kernels.ptx" | grep -v _hopper_ >"$out/tensor_cores"
    "$nvcc" "${flags[@]}" -ptx -arch=compute_90a -o "$out/hopper.ptx" kernels/all.cu
    {
        tensor_cores 'wgmma[.]mma_async' "$out/hopper.ptx" | grep _hopper_
        tensor_cores 'cp[.]async[.]bulk[.]tensor' "$out/hopper.ptx" | grep gemm_hopper_
    } >"$out/hopper"
fi
must='^(gemm|attention|lora)_(.*_)?fast_(.*_)?v[2-9]'
for op in gemm attention_prefill attention_decode lora_shrink; do
    if ! grep -qE "^${op}_fast_.*v[2-9] yes$" "$out/tensor_cores"; then
        echo "kernels: no ${op}_fast above v1 was found: the search is broken" >&2
        exit 1
    fi
done
if grep -E "$must no$" "$out/tensor_cores" >&2; then
    echo "kernels: the kernels above have no tensor-core instruction in their $code" >&2
    exit 1
fi

if [ "$(grep -c ' yes$' "$out/hopper")" -lt 7 ] || grep ' no$' "$out/hopper" >&2; then
    echo "kernels: a kernel for Hopper lacks wgmma, or copies of tiles, in its $code" >&2
    exit 1
fi

if [ "$write" = --write ]; then
    cp "$out/resources.txt" "$expected"
elif ! diff -u "$expected" "$out/resources.txt" >&2; then
    echo "kernels: registers or shared memory have changed; make kernels-expected keeps them" >&2
    exit 1
fi
n_kernels=$(cut -f 1 "$out/resources.tsv" | uniq | wc -l)
echo "kernels: $n_kernels for sm_80, sm_90a and PTX; no spills, every rounding named," \
    "tensor cores by $code"
