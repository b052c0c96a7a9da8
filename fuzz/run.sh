#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (60), starting from the golden files; says what is missing instead of failing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! rustup run nightly rustc --version >/dev/null 2>&1; then
  echo "skipped: no nightly toolchain (rustup toolchain install nightly)" >&2
  exit 0
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo "skipped: no cargo-fuzz (cargo install cargo-fuzz)" >&2
  exit 0
fi
for source in fuzz/fuzz_targets/*.rs; do
  target="$(basename "$source" .rs)"
  corpus="fuzz/corpus/$target"
  mkdir -p "$corpus"
  if [ -d "tests/fixtures/$target" ]; then
    cp -n tests/fixtures/"$target"/* "$corpus"/ || true
  fi
  cargo +nightly fuzz run "$target" "$corpus" -- -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2048
done
