#!/usr/bin/env bash
# Every test, on one shared Ray cluster. `make test` calls this; `make coverage` also measures, which costs a fifth more.
# One stage's failure does not hide the next one's: all run, and the last lines name those that failed.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
stage() { # NAME COMMAND...
  local began=$SECONDS name=$1
  echo "== $name"
  "${@:2}" || failed+=("$name")
  echo "-- $name: $((SECONDS - began)) s"
}
stage "lint" bash tests/lint.sh
# Where Python may write no bytecode (PYTHONDONTWRITEBYTECODE, as in many images), each of the thousand processes that follow would compile
# the package for itself, a second each.
python -m compileall -q aiplat tests

tests=(python -m pytest -q)
if [ -n "${COVERAGE:-}" ]; then
  export COVERAGE_FILE=$PWD/.coverage
  coverage erase
  tests=(coverage run -m pytest -q)
fi
# Threads of OpenMP that wait for each other do it asleep: with more of them than CPUs, as here, awake ones keep those from the CPU for
# which they wait, and a fit of a second takes a minute.
export OMP_WAIT_POLICY=PASSIVE
# One Ray cluster for all that follows.
stack=$(mktemp -d)
finish() { (cd "$stack" && env -u AIPLAT_RAY aiplat down >/dev/null 2>&1) || true; rm -rf "$stack"; }
trap finish EXIT
(cd "$stack" && aiplat init >/dev/null && aiplat up >/dev/null) || exit 1
AIPLAT_RAY=$(cd "$stack" && python -c 'import json; print(json.load(open(".aiplat/stack.json"))["ray"]["address"])')
export AIPLAT_RAY
began=$SECONDS

# Beside all the rest, the tests that start clusters of their own, one after another: two that start at the same time on one machine
# take each other's ports. They mostly wait.
clusters() {
  env -u AIPLAT_RAY "${tests[@]}" --durations=12 --durations-min=20 tests/test_cluster.py tests/test_team.py
}
clusters >"$stack/clusters.log" 2>&1 &
beside=$!
stage "notebooks" env OMP_NUM_THREADS=1 python -m tests.notebooks -j 3 # a fit has few rows: one thread costs half the CPU of two
stage "processes, browsers, crashes" "${tests[@]}" --durations=60 --durations-min=10 -n 3 --dist loadfile --no-loadscope-reorder --ignore tests/test_cluster.py --ignore tests/test_team.py "$@"
wait "$beside" || failed+=("clusters that tests start themselves")
cat "$stack/clusters.log"
echo "-- clusters that tests start themselves: done after $((SECONDS - began)) s"
if [ -n "${COVERAGE:-}" ]; then
  coverage combine --quiet
  coverage report --skip-covered --sort cover | tail -n 25
fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
echo "all tests in $SECONDS s"
