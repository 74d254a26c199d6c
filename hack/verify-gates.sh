#!/usr/bin/env bash
# Tests the gates. Copies the tree, plants the faults of hack/testdata/faults in the copy,
# and fails if a gate does not name a fault that it is there to catch.
#
# A line of a planted Go file that ends in "// fault: RULE [TEXT]" expects that line to be
# reported under that rule, by the linters or by budgets, with TEXT in the message.
set -o errexit -o nounset -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
work=$(mktemp -d)
readonly work copy=${work}/tree logs=${work}
trap 'rm -rf "${work}"' EXIT

missed=0
miss() {
  echo "NOT CAUGHT: $*" >&2
  missed=$((missed + 1))
}

# red LOG COMMAND...: the command must fail.
red() {
  local output=${logs}/$1
  shift
  if "$@" >"${output}" 2>&1; then miss "$* passed on a broken tree"; fi
}

# names LOG TEXT...: what the command said must hold every text.
names() {
  local output=${logs}/$1 text
  shift
  for text in "$@"; do
    grep -qF -- "${text}" "${output}" || { miss "${text}"; tail -n 5 "${output}" >&2; }
  done
}

copy_tree() {
  local tool
  mkdir -p "${copy}/bin"
  cd "${root}"
  git ls-files -z --cached --others --exclude-standard |
    { while IFS= read -r -d '' file; do [ ! -e "${file}" ] || printf '%s\0' "${file}"; done; } |
    tar --create --null --files-from=- | tar --extract --directory="${copy}"
  for tool in budgets controller-gen golangci-lint; do ln -s "${root}/bin/${tool}" "${copy}/bin/"; done
  cd "${copy}"
}

commit() {
  git add --all
  git -c user.name=gates -c user.email=gates@localhost -c commit.gpgsign=false commit --quiet --no-verify --message="$1"
}

check_generated() {
  local crd deepcopy
  crd=$(find config/crd -name 'pcinetwork.dev_*.yaml' | head -n 1)
  deepcopy=$(find api -name 'zz_generated*.go' | head -n 1)
  git init --quiet
  echo '# edited by hand' | tee -a "${crd}" config/rbac/role.yaml config/admission/manifests/*.yaml >/dev/null
  echo '// Edited by hand.' >>"${deepcopy}"
  commit "generated files edited by hand"
  touch untracked.txt
  red generated.log make verify-generated
  names generated.log "${crd}" config/rbac/role.yaml config/admission/manifests/pci-network-baseline.yaml "${deepcopy}" untracked.txt
  rm -rf .git untracked.txt
}

plant() {
  cp -R hack/testdata/faults/. .
  { head -n 5 internal/planted/planted.go && seq -f '// %g.' 6 400 && echo '// fault: file-length'; } >internal/planted/long.go
  { head -n 5 internal/planted/planted.go && seq -f '// %g.' 6 800 && echo '// fault: file-length'; } >internal/planted/long_test.go
  seq -f '# %g' 250 >>Makefile
}

check_imports() {
  red imports.log make verify-imports
  names imports.log internal/{policy,snapshot,plan,checks,render,report}' reaches a client'
  red absent.log hack/verify-imports.sh internal/absent
}

check_lines() {
  local -a packages
  local file line rule text
  mapfile -t packages < <(find . -type d -path '*/planted' -not -path './hack/*' | sort)
  red lint.log bin/golangci-lint run --output.text.print-issued-lines=false --output.text.colors=false "${packages[@]}"
  red budgets.log make verify-budgets
  names budgets.log Makefile:251:
  while IFS=: read -r file line _ rule; do
    read -r rule text <<<"${rule}"
    grep -hE "^${file#./}:${line}:.*\(${rule}\)" "${logs}"/{lint,budgets}.log | grep -qF -- "${text}" || miss "${file#./}:${line} ${rule} ${text}"
  done < <(grep -rnoE --include='*.go' '// fault: .*$' "${packages[@]}")
}

copy_tree
check_generated
plant
check_imports
check_lines

if [ "${missed}" -gt 0 ]; then
  grep -hF '(typecheck)' "${logs}/lint.log" >&2 || true # a planted file that does not compile hides the others
  echo "${missed} faults not caught" >&2
  exit 1
fi
echo "every gate turned red: $(grep -rhoE --include='*.go' '// fault: ' "${copy}"/{api,controllers,internal} | wc -l) planted lines, generated files, import closure"
