#!/usr/bin/env bash
# Runs the tests with all that they need: a PostgreSQL with pgvector (the
# developer's own if TEST_DATABASE_URL is set, else a throwaway one), Node for the
# clients of the wire, the linters, and then `go test -race`. Arguments go to go
# test; without any, everything runs.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/node.sh
if [ $# -eq 0 ]; then
  make --no-print-directory lint
  set -- ./...
fi
if [ -n "${TEST_DATABASE_URL:-}" ]; then
  exec go test -race "$@"
fi
scripts/postgres.sh setup >/dev/null
exec scripts/postgres.sh run go test -race "$@"
