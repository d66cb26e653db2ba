#!/usr/bin/env bash
# Builds every target with coverage and runs each so many times: fuzz/run.sh RUNS [TARGET...]
# A stable compiler has the instrumentation that libFuzzer needs, only not under one name.
set -euo pipefail
cd "$(dirname "$0")"
runs=${1:-1000000}
targets=("${@:2}")
if [ ${#targets[@]} -eq 0 ]; then
  targets=(reader value listpack ziplist lzf manifest round_trip)
fi
host=$(rustc -vV | sed -n 's/^host: //p')
cargo run --release --locked --quiet --package lockstep-fuzz-seeds -- target/corpus
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing" \
  cargo build --release --locked --quiet --package lockstep-fuzz --target "$host" $(printf -- '--bin %s ' "${targets[@]}")
for target in "${targets[@]}"; do
  echo "== $target"
  mkdir -p "target/corpus/$target" "target/found/$target"
  "target/$host/release/$target" "target/corpus/$target" -runs="$runs" -max_len=4096 -timeout=10 \
    -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 -artifact_prefix="target/found/$target/"
done
