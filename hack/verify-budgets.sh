#!/usr/bin/env bash
# Checks the house style where no linter does: see hack/tools/budgets.
set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

exec bin/budgets .
