#!/usr/bin/env bash
# Runs the tests with all that they need: a PostgreSQL with pgvector (the
# developer's own if TEST_DATABASE_URL is set, else a throwaway one), the linters,
# and then `go test -race`. Arguments go to go test; without any, everything runs.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${TEST_DATABASE_URL:-}" ]; then
  scripts/postgres.sh setup >/dev/null
  data=$(mktemp -d "${TMPDIR:-/tmp}/agentedge-test.XXXXXX")
  trap 'scripts/postgres.sh stop "$data" >/dev/null || true; rm -rf "$data"' EXIT
  TEST_DATABASE_URL=$(scripts/postgres.sh start "$data")
  export TEST_DATABASE_URL
fi

if [ $# -eq 0 ]; then
  make --no-print-directory lint
  set -- ./...
fi
go test -race "$@"
