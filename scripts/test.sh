#!/usr/bin/env bash
# Installs xairt with its development tools into .venv where needed and runs all checks; arguments go to pytest.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

failed=()
timings=()

# note NAME START VERDICT
note() {
    timings+=("$(printf '%5d s  %-12s  %s' "$((SECONDS - $2))" "$1" "$3")")
}

# part NAME COMMAND...: runs a check, notes its seconds, and goes on to the next one if it fails.
part() {
    local name="$1" start="$SECONDS" verdict=passed
    shift
    echo "== $name"
    if ! "$@"; then
        verdict=FAILED
        failed+=("$name")
    fi
    note "$name" "$start" "$verdict"
}

prepare '[dev]'
note install 0 passed
cd -- "$root"
part "ruff check" "$python" -m ruff check .
part "ruff format" "$python" -m ruff format --check .
part "import order" "$venv/bin/lint-imports"
# Two processes, each with whole files of tests, so that what a file prepares is prepared once; longest files first.
part pytest "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"

printf '%s\n' "${timings[@]}"
if [[ ${#failed[@]} -gt 0 ]]; then
    fail "failed: $(IFS=,; printf '%s' "${failed[*]}")"
fi
