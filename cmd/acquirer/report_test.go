package main

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/merchant"
	"acquirer/store"
)

// Reports of a settled day by the command: on the database itself, and through
// the process that has it open. Both give the same files.
func TestReport(t *testing.T) {
	cfg := leftDay(t, "6228480402564890018") // a credit card sale of 100.00 on 2026-11-20
	dir := filepath.Dir(cfg.HSM.File)
	if _, problem, code := call(t, newSettleCmd(), "--hsm-file", cfg.HSM.File, "--hsm-passphrase-file", cfg.HSM.PassphraseFile, "--date", "2026-11-20", "--as-of", "2026-11-21T00:05:00+08:00"); code != 0 {
		t.Fatalf("settling: %s", problem)
	}
	const mid = "898110054110001"
	t.Setenv("ACQUIRER_SWITCH_ACQUIRER_NAME", "街角支付")
	ask := func(args string) (string, string, int) { return call(t, newReportCmd(), strings.Fields(args)...) }
	rows := func(out string) []struct {
		args string
		code int
		says string
	} {
		return []struct {
			args string
			code int
			says string
		}{
			{"statement --merchant " + mid + " --month 2026-11 --format csv --out -", 0, "消费,1,100.00"},
			{"statement --merchant " + mid + " --date 2026-11-20 --format pdf --out " + out + "/", 0, out + "/statement-20261120-" + mid + "-"},
			{"detail --payout 20261120-" + mid + "-T1-0 --format json --out -", 0, `"rrn":"000000000001"`},
			{"detail --date 2026-11-20 --format html --out -", 0, "621000******0018"},
			{"cost --from 2026-11-19 --to 2026-11-21 --out -", 0, "毛利,3.12"},
			{"safeguarding --date 2026-11-20 --format csv --out -", 0, "足额"},
			{"invoice --merchant " + mid + " --month 2026-11 --format xlsx --out " + out + "/bill.xlsx", 0, out + "/bill.xlsx"},
			{"trial-balance --date 2026-11-20 --out -", 0, "商户待清算款"},
			{"payouts --date 2026-11-23 --out -", 0, "待付,1,96.40"},
			{"breaks --date 2026-11-20 --out -", 0, "长短款清单"},
			{"instant --month 2026-11 --out -", 0, "批准后120秒内到账"},
			{"statement --date 2026-11-20 --out -", 2, "name its MID"},
			{"gossip --date 2026-11-20 --out -", 2, "none of statement"},
			{"cost --date 2026-11-20 --format doc --out -", 2, "none of csv"},
			{"cost --date tomorrow --out -", 2, "2026-02-13"},
			{"cost --date 2026-02-30 --out -", 2, "--date: "},
			{"cost --from 2026-02-30 --to 2026-03-01 --out -", 2, "--from: "},
			{"cost --month 2026-13 --out -", 2, "no"},
			{"cost --date 2026-11-20 --format csv --out -", 0, "收单机构,街角支付 48020000"},
			{"cost --out -", 2, "--date"},
			{"cost --date 2026-11-20 --month 2026-11", 2, "none of the others can be"},
			{"cost --from 2026-11-20", 2, "they must all be set"},
			{"cost --date 2026-11-20 --out " + out + "/none/x.csv", 1, "none"},
		}
	}
	try := func(out string) {
		t.Helper()
		for _, c := range rows(out) {
			got, problem, code := ask(c.args)
			if code != c.code || !strings.Contains(got+problem, c.says) {
				t.Errorf("report %s: exit %d\n%s%s\nwant %d and %q", c.args, code, got, problem, c.code, c.says)
			}
		}
	}
	here, there := filepath.Join(dir, "here"), filepath.Join(dir, "there")
	for _, out := range []string{here, there} {
		if err := os.Mkdir(out, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	try(here)
	// Now a process has the database.
	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	cfg.Switch.Acquirer, cfg.Switch.AcquirerName = "48020000", "街角支付" // as the setting is by default, and as the command has it
	v := &house{cfg: cfg, db: db, log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry(), started: time.Now()}
	if v.terminals, err = merchant.OpenRegistry(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	adm := &admin{v: v}
	web := httptest.NewUnstartedServer(nil)
	token, shut, err := openDoor(cfg, web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	adm.token = token
	web.Config.Handler = adm.handler()
	web.Start()
	defer web.Close()
	try(there)
	if out, problem, code := call(t, newFeesCmd(), "list"); code != 0 || !strings.Contains(out, "MICRO-2025") {
		t.Errorf("fees list through the process: exit %d, %s%s", code, out, problem)
	}
	if out, problem, code := call(t, newFeesCmd(), "list", "--merchant", "1"); code != 1 || !strings.Contains(problem, "not registered") {
		t.Errorf("fees list of nobody through the process: exit %d, %s%s", code, out, problem)
	}
	mine, err := filepath.Glob(filepath.Join(here, "*"))
	if err != nil || len(mine) != 2 {
		t.Fatalf("made %v, %v", mine, err)
	}
	for _, path := range mine {
		a, errA := os.ReadFile(path)
		b, errB := os.ReadFile(filepath.Join(there, filepath.Base(path)))
		if errA != nil || errB != nil || string(a) != string(b) && !strings.HasSuffix(path, "xlsx") {
			t.Errorf("%s differs: %v, %v", filepath.Base(path), errA, errB)
		}
	}
	if err := shut(); err != nil {
		t.Error(err)
	}
	if _, problem, code := ask("cost --date 2026-11-20 --out -"); code != 1 || !strings.Contains(problem, "asked in vain") {
		t.Errorf("without a door: exit %d, %s", code, problem)
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "cost-2026112*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind in the folder of temporary files: %v, %v", left, err)
	}
}
