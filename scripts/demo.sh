#!/usr/bin/env bash
# Installs xairt into .venv where needed and runs its demonstration; arguments go to `xairt demo`.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

prepare
exec "$venv/bin/xairt" demo -o "$root/demo-output" "$@"
