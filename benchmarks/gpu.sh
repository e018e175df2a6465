#!/usr/bin/env bash
# Everything that needs a GPU, in at most 10 minutes: the tests that use a device where there is one, then the speeds of
# training, classification and generation as one Markdown table.
#
#     benchmarks/gpu.sh                              # on a machine with CUDA
#     DEVICE=cpu benchmarks/gpu.sh --smoke           # rehearsal with tiny models; the speeds mean nothing
#
# PYTHON (default: .venv/bin/python), OUT (the results; default: runs/gpu), MICRO_BATCH (windows at once in pretraining;
# default: 16, for 24 GB). A part that takes too long is ended, and the others are run.
set -uo pipefail
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda}
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-runs/gpu}
MICRO_BATCH=${MICRO_BATCH:-16}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" OMP_WAIT_POLICY=PASSIVE
mkdir -p "$OUT"
rm -f "$OUT"/*.json

size=(--size gpt1 --context 512 --batch 64 --micro-batch "$MICRO_BATCH" --dtype bfloat16 --steps 10 --warmup 3)
quick=()
if [ "${1:-}" = --smoke ]; then
  size=(--quick --dtype bfloat16) quick=(--quick)
fi

failed=0
part() {  # seconds, log, command
  local seconds=$1 log=$OUT/$2.txt; shift 2
  echo "== $* (at most $seconds s)"
  timeout "$seconds" "$@" > "$log" 2>&1 || { failed=1; echo "exit code $?; the end of $log:"; tail -n 15 "$log"; }
}

tests=(tests/test_accelerator_rows.py tests/test_device_traits.py)
part 120 tests "$PYTHON" -m pytest -q -p no:cacheprovider "${tests[@]}"
tail -n 1 "$OUT/tests.txt"
part 210 pretrain "$PYTHON" benchmarks/pretrain.py --device "$DEVICE" --rounds 1 "${size[@]}" --json "$OUT/pretrain.json"
part 150 finetune "$PYTHON" benchmarks/finetune.py --device "$DEVICE" --rounds 1 "${quick[@]}" --json "$OUT/finetune.json"
part 110 generate "$PYTHON" benchmarks/generate.py --device "$DEVICE" --rounds 1 "${quick[@]}" --json "$OUT/generate.json"

"$PYTHON" benchmarks/gpu_table.py "$OUT" | tee "$OUT/table.md"
exit $failed
