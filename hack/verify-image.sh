#!/usr/bin/env bash
# Builds the operator's image here and from a copy of the tree in another folder.
# Fails if the digests differ: then something of the machine or the time is in the image.
set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
readonly work
trap 'rm -rf "${work}"' EXIT
mkdir "${work}/bin"
git ls-files -z --cached --others --exclude-standard |
  { while IFS= read -r -d '' file; do [ ! -e "${file}" ] || printf '%s\0' "${file}"; done; } |
  tar --create --null --files-from=- | tar --extract --touch --directory="${work}"

version=$(git describe --tags --always --dirty 2>/dev/null || echo dev) # a copy has none
digest() { make --no-print-directory --directory="$1" image VERSION="${version}" | grep -oE 'sha256:[0-9a-f]{64}'; }
here=$(digest .)
there=$(digest "${work}")
if [ "${here}" != "${there}" ]; then
  echo "the image is not reproducible: ${here} here, ${there} from a copy" >&2
  exit 1
fi
echo "two builds, one digest: ${here}"
