package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pair is a PostgreSQL with a synchronous standby, both real and of the test
// alone.
type Pair struct {
	// URL names both, and takes the one that can be written to.
	URL              string
	primary, standby *cluster
	bin, dir         string
	as               *account
}

// StartPair starts a primary, copies it into a standby (pg_basebackup) and makes
// every commit of the primary wait for the standby. It skips as PostgresURL does.
func StartPair(t *testing.T) *Pair {
	t.Helper()
	p, err := startPair(t)
	if err != nil {
		if os.Getenv("ACQUIRER_TEST_REQUIRE_POSTGRES") == "1" {
			t.Fatalf("a pair of PostgreSQL servers is required: %v", err)
		}
		if errors.Is(err, errNoPair) {
			t.Skipf("SKIPPED ON POSTGRESQL: %v", err)
		}
		t.Fatal(err)
	}
	return p
}

var errNoPair = errors.New("no PostgreSQL of this machine to start a pair of")

func startPair(t *testing.T) (*Pair, error) {
	bin, err := binaries()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPair, err)
	}
	if _, err := os.Stat(filepath.Join(bin, "pg_basebackup")); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPair, err)
	}
	dir, as, err := makeData(bin)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the pair's folder: %v", err)
		}
	})
	p := &Pair{bin: bin, dir: dir, as: as}
	if p.primary, err = run(bin, dir, "data", as, "-c", "shared_buffers=32MB"); err != nil {
		return nil, err
	}
	t.Cleanup(p.primary.stop)
	backup := command(filepath.Join(bin, "pg_basebackup"), as, "-D", filepath.Join(dir, "standby"), "-R", "-X", "stream", "-c", "fast", "-d", p.primary.url())
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w: %s", err, tail(out))
	}
	if err := p.startStandby(t); err != nil {
		return nil, err
	}
	for _, sql := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		if err := ask(t.Context(), p.primary, sql); err != nil {
			return nil, err
		}
	}
	if err := await(t.Context(), p.primary, "select 1 / count(*) from pg_stat_replication where sync_state = 'sync'"); err != nil {
		return nil, fmt.Errorf("the standby does not become synchronous: %w", err)
	}
	p.URL = fmt.Sprintf("postgres://acquirer@%s,%s/postgres?sslmode=disable&target_session_attrs=read-write", p.primary.address(), p.standby.address())
	return p, nil
}

func (p *Pair) startStandby(t *testing.T) (err error) {
	if p.standby, err = run(p.bin, p.dir, "standby", p.as, "-c", "shared_buffers=32MB"); err == nil {
		t.Cleanup(p.standby.stop)
	}
	return err
}

// StartStandby starts the standby again behind KillStandby.
func (p *Pair) StartStandby(t *testing.T) {
	t.Helper()
	if err := p.startStandby(t); err != nil {
		t.Fatal(err)
	}
}

// KillPrimary ends the primary as a power cut does: nothing more is answered by
// it, and none of its children survives it for long.
func (p *Pair) KillPrimary(t *testing.T) {
	t.Helper()
	kill(t, p.primary)
}

// KillStandby leaves the primary without anybody to wait for. A child of the dead
// standby may still confirm a commit; the primary must have lost it too.
func (p *Pair) KillStandby(t *testing.T) {
	t.Helper()
	kill(t, p.standby)
	if err := await(t.Context(), p.primary, "select 1 / (case when exists (select 1 from pg_stat_replication) then 0 else 1 end)"); err != nil {
		t.Fatal(err)
	}
}

func kill(t *testing.T, c *cluster) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.exited
}

// Promote makes the standby the primary and waits until it takes writes.
func (p *Pair) Promote(t *testing.T) {
	t.Helper()
	if err := ask(t.Context(), p.standby, "select pg_promote(true, 30)"); err != nil {
		t.Fatal(err)
	}
	if err := await(t.Context(), p.standby, "select 1 / (case when pg_is_in_recovery() then 0 else 1 end)"); err != nil {
		t.Fatal(err)
	}
}

// AwaitPrimary repeats a query on the primary, beside the house, until it is no
// error.
func (p *Pair) AwaitPrimary(t *testing.T, sql string) {
	t.Helper()
	if err := await(t.Context(), p.primary, sql); err != nil {
		t.Fatal(err)
	}
}

// AsPrimary runs a statement on the primary, beside the house.
func (p *Pair) AsPrimary(t *testing.T, sql string) {
	t.Helper()
	if err := ask(t.Context(), p.primary, sql); err != nil {
		t.Fatal(err)
	}
}

func ask(ctx context.Context, c *cluster, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// await asks until it is no error: the server tells nobody of a change of its
// state.
func await(ctx context.Context, c *cluster, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx, c, sql)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}
