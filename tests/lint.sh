#!/usr/bin/env bash
# Style and types; notebooks clean; what is exported and generated is what the notebooks say.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "== lint"
ruff check --quiet .
ruff format --quiet --check nbs tests benchmarks
# What takes long goes beside the rest; `wait` brings its exit code.
mypy --no-error-summary &
types=$!
(cd extension && { [ -d node_modules ] || jlpm install --immutable >/dev/null; } && jlpm check >/dev/null || jlpm check) &
extension=$!
# Work on a copy: a check must not repair what it checks.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r pyproject.toml README.md aiplat nbs "$copy"
(
  cd "$copy"
  nbdev-clean
  nbdev-export
  jupyter nbconvert --log-level ERROR --to markdown --output-dir . --output README nbs/index.ipynb
)
for part in nbs aiplat README.md; do
  diff -rq --exclude __pycache__ --exclude .ipynb_checkpoints --exclude labextension "$part" "$copy/$part" \
    || { echo "✗ $part is not what the notebooks say"; echo "→ run: make format readme"; exit 1; }
done
wait "$types"
wait "$extension"
