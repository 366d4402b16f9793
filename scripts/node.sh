#!/bin/sh
# Node.js 18 or newer and npm, for the JavaScript readers in contract/js. What is
# there already is taken; on Debian, root installs what is missing.
set -eu

usable() {
  command -v npm >/dev/null 2>&1 || return 1
  major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
  [ "${major:-0}" -ge 18 ]
}

apt_quiet() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o=Dpkg::Use-Pty=0 --no-install-recommends "$@" >/dev/null </dev/null; }

usable && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "node.sh: no Node.js 18 or newer with npm found
hint: sudo apt-get install --no-install-recommends nodejs npm; macOS: brew install node" >&2
  exit 1
fi
echo "node.sh: installing nodejs and npm" >&2
# Some packages of nodejs bring npm along and conflict with Debian's. Lists may be
# absent (a bare image) or stale.
apt_quiet install nodejs || { apt_quiet update && apt_quiet install nodejs; }
usable || apt_quiet install npm
usable || { echo "node.sh: nodejs and npm were installed, but they are older than 18" >&2; exit 1; }
