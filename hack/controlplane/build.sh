#!/usr/bin/env bash
# build.sh OUTDIR: builds etcd, kube-apiserver, kube-controller-manager, kube-scheduler
# and kubectl from Go modules into OUTDIR. Builds only what is missing or out of date.
set -o errexit -o nounset -o pipefail

readonly version=v1.37.2
readonly ldflags="-s -w -X k8s.io/component-base/version.gitVersion=${version}"
readonly binaries=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl)

[ $# -eq 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CGO_ENABLED=0

# Two test runs may ask for the same binaries at once: the second waits and finds them built.
if command -v flock >/dev/null; then
  exec 9>"${out}/.lock"
  flock 9
fi

# want: what a binary must have been built from. Every input counts for every binary.
want=$(cd "${here}" && { cat go.mod go.sum etcd/go.mod etcd/go.sum etcd/main.go build.sh; go version; } | sha256sum | cut -d' ' -f1)

current() { [ -x "${out}/$1" ] && [ "$(cat "${out}/.$1.stamp" 2>/dev/null)" = "${want}" ]; }

build() {
  local dir=${here} pkg=k8s.io/kubernetes/cmd/$1
  [ "$1" != etcd ] || { dir=${here}/etcd pkg=.; }
  # Built beside the target and renamed: a running binary cannot be overwritten, and an interrupted build leaves none.
  (cd "${dir}" && go build -mod=readonly -trimpath -buildvcs=false -ldflags "${ldflags}" -o "${out}/.$1.new" "${pkg}")
  mv -f "${out}/.$1.new" "${out}/$1"
  echo "${want}" >"${out}/.$1.stamp"
}

stale=()
for name in "${binaries[@]}"; do current "${name}" || stale+=("${name}"); done
[ ${#stale[@]} -gt 0 ] || exit 0

echo "building the Kubernetes ${version} control plane into ${out}; with a cold build cache about 7 minutes on two cores"
n=0
for name in "${stale[@]}"; do
  n=$((n + 1))
  began=${SECONDS}
  echo "building ${name} (${n}/${#stale[@]}) ..."
  build "${name}" # errexit ends the script here; inside "||" it would not apply, and a failed build would be stamped
  echo "built ${name} in $((SECONDS - began)) s, ${SECONDS} s in all"
done
