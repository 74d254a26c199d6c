#!/usr/bin/env bash
# Regenerates everything that is generated. Fails if the tree then differs from the
# commit, or holds a file that git neither tracks nor ignores.
set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

make --no-print-directory generate manifests docs

status=0
if ! git diff --exit-code --stat HEAD; then
  echo "differs from the commit: commit what 'make generate manifests docs' wrote, and your own changes" >&2
  status=1
fi
untracked=$(git ls-files --others --exclude-standard)
if [ -n "${untracked}" ]; then
  printf '%s\n' "${untracked}" >&2
  echo "neither tracked nor ignored: commit these files or remove them" >&2
  status=1
fi
exit "${status}"
