#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: Debian packages (as root), a Python environment and cargo-deny.
# Everything but the Debian packages goes to ${XDG_CACHE_HOME:-~/.cache}/perennial. A second run changes nothing.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${XDG_CACHE_HOME:-${HOME}/.cache}/perennial"
cargo_deny_version=0.20.2
packages=(
  prometheus prometheus-node-exporter prometheus-redis-exporter redis-server
  prometheus-postgres-exporter postgresql victoria-metrics python3-venv strace
)

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  # A Python from elsewhere that can make environments will do.
  if python3 -c 'import venv, ensurepip' 2>/dev/null; then
    missing=("${missing[@]/python3-venv/}")
  fi
  read -ra missing <<<"${missing[*]-}" || true
  [ "${#missing[@]}" -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    echo "these Debian packages are missing, install them as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  # The tests start their own copies on their own ports; the packages' services stay off.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

install_python() {
  local wanted="$cache/venv/requirements.txt"
  cmp -s "$here/requirements.txt" "$wanted" && return
  python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$wanted"
}

install_cargo_deny() {
  local have
  have="$("$cache/tools/bin/cargo-deny" --version 2>/dev/null || true)"
  [ "$have" = "cargo-deny $cargo_deny_version" ] && return
  # A target folder of its own, so that it does not wait for, or disturb, the build of the package.
  CARGO_TARGET_DIR="$cache/tools/target" cargo install --locked --root "$cache/tools" \
    --version "$cargo_deny_version" cargo-deny
  rm -rf "$cache/tools/target"
}

mkdir -p "$cache"
install_packages
install_python
install_cargo_deny
