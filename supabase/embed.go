// Package supabase embeds the SQL of the PostgreSQL store: the migrations in
// Supabase's own layout, so that `supabase db push` and `agentedge migrate up`
// run the same files and agree on what ran, and the stub that gives a plain
// PostgreSQL what Supabase brings.
package supabase

import "embed"

// Migrations holds migrations/<YYYYMMDDHHMMSS>_<name>.sql.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Stub is the SQL that runs before the migrations on a PostgreSQL that is not
// Supabase's.
//
//go:embed stub.sql
var Stub string
