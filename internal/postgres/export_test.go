package postgres

import "context"

// Snapshot is the schema of a database, as schema.snapshot has it.
func Snapshot(ctx context.Context, url string) (string, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	all, err := inventory(ctx, conn, nil)
	return formatSnapshot(all), err
}
