#!/bin/sh
# A throwaway PostgreSQL with pgvector, for tests and benchmarks: no Docker, and
# nothing of the system's own PostgreSQL clusters or directories is touched.
#
#   scripts/postgres.sh setup            make PostgreSQL with pgvector available; prints its bin directory
#   scripts/postgres.sh start DIR        start a server whose data is in DIR; prints its URL
#   scripts/postgres.sh stop DIR [MODE]  stop it (MODE: fast, immediate)
#   scripts/postgres.sh hold DIR         start, print the URL, and stop and remove DIR when stdin closes
#   scripts/postgres.sh guard DIR        only stop and remove DIR when stdin closes
#   scripts/postgres.sh run COMMAND...   run COMMAND with TEST_DATABASE_URL set to a server of its own
#
# setup takes, in this order:
#   1. $POSTGRES_BIN, or what an earlier setup built;
#   2. an installed PostgreSQL 15 or newer that has pgvector:
#        Debian 13   apt-get install postgresql-17 postgresql-17-pgvector
#        macOS       brew install postgresql@17 pgvector
#   3. on Debian 12, which has no pgvector: a private copy of PostgreSQL 15 in
#      .cache/postgres, with pgvector built from the next Debian's source. As
#      root the packages that are missing are installed; an ordinary user needs
#      postgresql-15, gcc, make and dpkg-dev to be there.
#
# PostgreSQL refuses to run as root: root's servers run as the user postgres, or nobody.
set -eu

repo=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
prefix=${POSTGRES_PREFIX:-$repo/.cache/postgres}

say() { echo "postgres.sh: $*" >&2; }
die() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" -eq 0 ]; }

account() { if getent passwd postgres >/dev/null 2>&1; then echo postgres; else echo nobody; fi; }

# as_server runs a command as the user the server runs as.
as_server() {
  if is_root; then
    user=$(account)
    (cd / && exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- "$@")
  else
    "$@"
  fi
}

# has_vector BIN: PostgreSQL 15 or newer with pgvector, that the server's user can run.
has_vector() {
  [ -x "$1/initdb" ] && [ -x "$1/pg_ctl" ] || return 1
  version=$("$1/postgres" --version 2>/dev/null | sed 's/[^0-9]*\([0-9]*\).*/\1/')
  [ "${version:-0}" -ge 15 ] || return 1
  for share in "$1/../share/postgresql" "$1/../share/postgresql@$version" "$1/../share" \
    "$1/../../../../share/postgresql/$version" "$1/../../../../share/postgresql@$version"; do
    [ -f "$share/extension/vector.control" ] && return 0
  done
  return 1
}

# A root's home is closed to the server's user: then the copy goes elsewhere.
reachable_prefix() {
  if is_root; then
    mkdir -p "$prefix"
    as_server test -x "$prefix" || prefix=/var/cache/agentedge/postgres
  fi
}

# find prints the bin directory of a usable PostgreSQL.
find_bin() {
  for bin in "${POSTGRES_BIN:-}" "$prefix"/usr/lib/postgresql/*/bin /var/cache/agentedge/postgres/usr/lib/postgresql/*/bin \
    /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
    "$(command -v pg_ctl >/dev/null 2>&1 && dirname "$(command -v pg_ctl)" || true)"; do
    [ -n "$bin" ] && has_vector "$bin" && as_server test -x "$bin/postgres" && { echo "$bin"; return 0; }
  done
  return 1
}

debian() { [ -r /etc/os-release ] && (. /etc/os-release && [ "${ID:-}" = debian ] && echo "${VERSION_CODENAME:-}"); }

# install PACKAGE...: as root, what is missing, without the cluster Debian would create.
install() {
  missing=''
  for package in "$@"; do
    dpkg -s "$package" 2>/dev/null | grep -q '^Status: install ok installed' || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  is_root || die "missing packages:$missing
hint: sudo apt-get install --no-install-recommends$missing"
  say "installing$missing"
  case $missing in *postgresql-1*)
    if ! [ -d /etc/postgresql-common ] && ! [ -e /usr/bin/pg_createcluster ]; then
      apt_quiet update
      apt_quiet install postgresql-common
      sed -i 's/^#\{0,1\}create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi ;;
  esac
  # Lists may be absent (a bare image) or stale.
  # shellcheck disable=SC2086
  apt_quiet install $missing || { apt_quiet update && apt_quiet install $missing; }
}

apt_quiet() {
  action=$1
  shift
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o=Dpkg::Use-Pty=0 --no-install-recommends "$action" "$@" >/dev/null </dev/null
}

# next_source FILE: the machine's own Debian mirror as a source of the next suite.
next_source() {
  if [ -f /etc/apt/sources.list.d/debian.sources ]; then
    awk 'BEGIN { RS = ""; ORS = "\n\n" } /Suites:[^\n]*bookworm([ \n]|$)/ { print; exit }' /etc/apt/sources.list.d/debian.sources |
      sed -e 's/^Types:.*/Types: deb-src/' -e 's/^Suites:.*/Suites: trixie/' >"$1"
  else
    awk '$1 == "deb" && / bookworm / { sub(/^deb /, "deb-src "); sub(/ bookworm /, " trixie "); print; exit }' /etc/apt/sources.list >"$1"
    mv "$1" "${1%.sources}.list" && ln -s "${1%.sources}.list" "$1"
  fi
  [ -s "$1" ] || die "found no Debian mirror in /etc/apt to take pgvector's source from"
}

# build copies PostgreSQL 15 (it finds its files relative to its binaries) and adds pgvector.
build() {
  install postgresql-15 gcc libc6-dev make dpkg-dev
  mkdir -p "$(dirname "$prefix")"
  work=$(mktemp -d "$(dirname "$prefix")/postgres.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"
  tree=$work/tree
  mkdir -p "$tree/usr/lib/postgresql" "$tree/usr/share/postgresql" "$work/lists/partial" "$work/cache/archives/partial" "$work/parts"
  cp -a /usr/lib/postgresql/15 "$tree/usr/lib/postgresql/"
  cp -a /usr/share/postgresql/15 "$tree/usr/share/postgresql/"

  say "building pgvector for PostgreSQL 15"
  next_source "$work/parts/next.sources"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ -f "$file" ] && cp "$file" "$work/parts/"
  done
  # Lists and cache of our own: the system's stay as they are.
  options="-o Dir::State::lists=$work/lists -o Dir::Cache=$work/cache -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$work/parts -o APT::Sandbox::User=$(id -un)"
  cd "$work"
  # shellcheck disable=SC2086
  apt-get -qq $options update >&2
  # shellcheck disable=SC2086
  apt-get -qq $options source --download-only pgvector >&2
  # Only the headers are taken: the package itself would bring a whole clang.
  # shellcheck disable=SC2086
  apt-get -qq $options download postgresql-server-dev-15 >&2
  dpkg-source --no-check -x pgvector_*.dsc source >/dev/null
  dpkg -x postgresql-server-dev-15_*.deb headers
  make -s -C source -j2 OPTFLAGS= with_llvm=no PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config \
    PG_CPPFLAGS="-I$work/headers/usr/include/postgresql/15/server" >&2
  make -s -C source with_llvm=no PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config DESTDIR="$tree" install >&2
  cd "$repo"
  rm -rf "$prefix"
  mv "$tree" "$prefix"
  say "PostgreSQL 15 with pgvector is in $prefix"
}

setup() {
  find_bin && return 0
  reachable_prefix
  case $(debian) in
  bookworm)
    mkdir -p "$(dirname "$prefix")"
    exec 9>"$prefix.lock"
    flock 9 # two setups at once build once
    find_bin && return 0
    build
    ;;
  '') die "no PostgreSQL 15 or newer with pgvector found
hint: macOS: brew install postgresql@17 pgvector; or set POSTGRES_BIN, or TEST_DATABASE_URL to a server of your own" ;;
  *) install postgresql-17 postgresql-17-pgvector ;;
  esac
  find_bin || die "PostgreSQL was set up, but the user $(account) cannot run it from $prefix"
}

# socket DIR: where the server listens. A socket's path may not pass 107 bytes.
socket() { if [ "${#1}" -le 80 ]; then echo "$1"; else echo "/tmp/agentedge-$(printf %s "$1" | cksum | cut -d' ' -f1)"; fi; }

absolute() { mkdir -p "$1" && CDPATH='' cd -- "$1" && pwd; }

start() {
  bin=$(find_bin) || die "PostgreSQL with pgvector is not set up
hint: run scripts/postgres.sh setup once, or set TEST_DATABASE_URL to a server of your own"
  dir=$(absolute "$1")
  at=$(socket "$dir")
  mkdir -p "$at"
  chmod 700 "$dir" "$at"
  if is_root; then chown "$(account)" "$dir" "$at"; fi
  as_server test -x "$dir" || die "the user $(account) cannot reach $dir"
  if ! [ -f "$dir/data/PG_VERSION" ]; then
    as_server "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 ||
      { cat "$dir/initdb.log" >&2; die "initdb failed"; }
    # Durable as in production: what is tested here is what survives a crash.
    cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$at'
max_connections = 200
fsync = on
full_page_writes = on
synchronous_commit = on
shared_buffers = 128MB
max_wal_size = 1GB
checkpoint_timeout = 5min
log_min_messages = warning
CONF
  fi
  if as_server "$bin/pg_ctl" status -D "$dir/data" >/dev/null 2>&1; then
    echo "postgres://postgres@/postgres?host=$at"
    return 0
  fi
  as_server "$bin/pg_ctl" start -s -w -t 60 -D "$dir/data" -l "$dir/server.log" >/dev/null 2>&1 </dev/null ||
    { tail -20 "$dir/server.log" >&2; die "the server did not start"; }
  echo "postgres://postgres@/postgres?host=$at"
}

stop() {
  dir=$(absolute "$1")
  bin=$(find_bin) || die "PostgreSQL is not set up"
  [ -f "$dir/data/postmaster.pid" ] || return 0
  as_server "$bin/pg_ctl" stop -s -w -t 60 -m "${2:-fast}" -D "$dir/data" >/dev/null
}

remove() {
  stop "$1" immediate || true
  at=$(socket "$1")
  rm -rf "$1" "$at"
}

case ${1:-} in
setup) setup ;;
start) start "${2:?a directory}" ;;
stop) stop "${2:?a directory}" "${3:-fast}" ;;
hold | guard)
  # The holder's death closes stdin, however it died. What kills it, along with
  # all of its group, must not kill this one too.
  if [ -z "${POSTGRES_HELD:-}" ] && command -v setsid >/dev/null; then
    exec env POSTGRES_HELD=1 setsid sh "$0" "$@"
  fi
  trap '' INT HUP TERM
  dir=$(absolute "${2:?a directory}")
  if [ "$1" = hold ]; then start "$dir"; fi
  exec >/dev/null
  while read -r _; do :; done
  remove "$dir"
  ;;
run)
  shift
  dir=$(mktemp -d /tmp/agentedge-pg.XXXXXX)
  trap 'remove "$dir"' EXIT
  trap 'exit 130' INT TERM
  TEST_DATABASE_URL=$(start "$dir")
  export TEST_DATABASE_URL
  "$@"
  ;;
*)
  sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0" >&2
  exit 2
  ;;
esac
