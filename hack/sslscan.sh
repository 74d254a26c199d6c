#!/usr/bin/env bash
# Unpacks Debian's sslscan below a directory, without installing it: the oracle of internal/probe/handshake beside OpenSSL, whose libraries it needs. apt
# verifies it by the distribution's signature. What a machine lacks is not red, but said loudly.
set -euo pipefail

readonly dir="$1"
if [ -x "${dir}/usr/bin/sslscan" ] || command -v sslscan >/dev/null; then
  exit 0
fi
temp="$(mktemp -d)"
trap 'rm -rf "${temp}"' EXIT

download() {
  (cd "${temp}" && apt-get download -qq -o Acquire::Retries=2 -o Acquire::http::Timeout=30 sslscan)
}

# Lists of packages may be missing, or too old.
if ! command -v apt-get >/dev/null || ! { download || { apt-get update -qq && download; }; }; then
  printf '## NOT TESTED: whether sslscan sees what the prober sees. It is not installed, and apt did not bring it.\n' >&2
  exit 0
fi
mkdir -p "${dir}"
dpkg-deb --extract "${temp}"/sslscan_*.deb "${dir}"
