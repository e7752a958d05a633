#!/usr/bin/env bash
# Runs the fuzz targets under libFuzzer, one after the other, from the seeds in corpus/. What is found lies in artifacts/.
#
#     fuzz/run.sh                  60 seconds each
#     fuzz/run.sh 3600             an hour each
#     fuzz/run.sh 3600 token guid  only these
#
# Needs a nightly toolchain (rustup toolchain install nightly) and a C++ compiler; cargo-fuzz is not needed, and works
# here, too. Our own code is without `unsafe`, so no address sanitizer: the targets look for panics, broken promises,
# endless loops (10 s) and hunger (2 GiB).
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
targets=("$@")
if [ "${#targets[@]}" -eq 0 ]; then
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
RUSTFLAGS="$flags" cargo +nightly build --locked --release --target "$triple"
mkdir -p artifacts
failed=()
for target in "${targets[@]}"; do
    # New inputs that reach something go to work/, which is not kept; the seeds stay small.
    mkdir -p "work/$target"
    echo "== $target, $seconds s"
    "target/$triple/release/$target" "work/$target" "corpus/$target" -dict=dictionary -max_len=8192 -timeout=10 \
        -rss_limit_mb=2048 -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="artifacts/$target-" || failed+=("$target")
done
if [ "${#failed[@]}" -gt 0 ]; then
    echo "found something: ${failed[*]}; see fuzz/artifacts" >&2
    exit 1
fi
