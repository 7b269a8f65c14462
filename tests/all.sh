#!/usr/bin/env bash
# Every test, on one shared Ray cluster, with coverage. `make test` calls this.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
bash tests/lint.sh

export COVERAGE_FILE=$PWD/.coverage
coverage erase
echo "== clusters that tests start themselves, one after another: two on one machine take each other's ports"
env -u AIPLAT_RAY coverage run -m pytest -q tests/test_cluster.py tests/test_team.py

echo "== one Ray cluster for all other tests"
stack=$(mktemp -d)
finish() { (cd "$stack" && env -u AIPLAT_RAY aiplat down >/dev/null 2>&1) || true; rm -rf "$stack"; }
trap finish EXIT
(cd "$stack" && aiplat init >/dev/null && aiplat up >/dev/null)
AIPLAT_RAY=$(cd "$stack" && python -c 'import json; print(json.load(open(".aiplat/stack.json"))["ray"]["address"])')
export AIPLAT_RAY

echo "== notebooks"
# A process for each: one notebook's environment variables and modules must not be another's.
find nbs -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*' -print0 | sort -z \
  | xargs -0 -n 1 -P 3 bash -c 'told=$(coverage run "$(command -v nbdev-test)" "$0" --n-workers 0 2>&1) || { echo "✗ $0"; echo "$told"; exit 1; }'
echo "== processes, browsers, crashes"
coverage run -m pytest -q -n 3 --dist loadfile --ignore tests/test_cluster.py --ignore tests/test_team.py "$@"
coverage combine --quiet
coverage report --skip-covered --sort cover | tail -n 25
echo "all tests in $((SECONDS - began)) s"
