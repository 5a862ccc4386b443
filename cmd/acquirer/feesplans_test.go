package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/store"
)

// A new price from the file to the merchant's answer, a repair, and what the
// price would have cost on the sale of a real day, all by the commands.
func TestFeesOfADatabase(t *testing.T) {
	cfg := leftDay(t, "6228480402564890018") // MICRO-2025, a credit card sale of 100.00 on 2026-11-20
	dir := filepath.Dir(cfg.HSM.File)
	if _, problem, code := call(t, newSettleCmd(), "--hsm-file", cfg.HSM.File, "--hsm-passphrase-file", cfg.HSM.PassphraseFile, "--date", "2026-11-20", "--as-of", "2026-11-21T00:05:00+08:00"); code != 0 {
		t.Fatalf("settling: %s", problem)
	}
	const mid = "898110054110001"
	next := filepath.Join(dir, "next.json")
	if err := os.WriteFile(next, []byte(`{"plans":[{"code":"MICRO-2025","version":3,"consent_policy":"explicit","rules":[{"channel":"card","ppm":6800,"fixed":"3.00","on_fee_ge_amount":"reject"}],
		"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"repair","amount":"100.00"}]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	effective := calendar.DateOf(time.Now()).AddDays(31).String()
	moves := calendar.BusinessDate(time.Now(), cfg.Switch.CutOff).AddDays(1)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"list", 0, "MICRO-2025   v1   from 2020-01-01       1 merchants  借记卡0.50%封顶20.00元,其他银行卡0.60%+3.00元/笔,扫码0.38%;T+1到账免费,D+0到账免费,秒到免费;设备免费,不收押金,维修100.00元/次,流量卡免费"},
		{"import " + next, 0, "1 new versions of fee plans; MICRO-2025 version 3"},
		{"import " + next, 0, "0 new versions"},
		{"import " + dir + "/none", 1, "none"},
		{"announce --plan MICRO-2025 --plan-version 3 --effective " + effective, 1, "does not offer deposit, which the plan of 1 merchants names; device, which"},
		{"list", 0, "MICRO-2025   v3   not announced"},
		{"announce --plan MICRO-2025 --plan-version 3 --yes --effective 2026-11-21", 1, "30 days before"},
		{"announce --plan MICRO-2025 --plan-version 3 --effective soon", 2, "2026-02-13"},
		{"announce --plan MICRO-2025", 2, "plan-version"},
		{"announce --plan MICRO-2025 --plan-version 3 --yes --effective " + effective, 0, "1 merchants told today, 0 before"},
		{"announce --plan MICRO-2025 --plan-version 3", 0, "0 merchants told today, 1 before"},
		{"notices --plan MICRO-2025 --plan-version 3", 0, "未明确同意前继续按原费率收取"},
		{"notices --plan GOLD --plan-version 3", 2, "GOLD"},
		{"quote --plan MICRO-2025 --channel credit --amount 100", 0, "MICRO-2025 v1"},
		{"quote --plan MICRO-2025 --channel credit --amount 100 --date " + effective, 0, "MICRO-2025 v3"},
		{"quote --plan MICRO-2025 --plan-version 3 --channel credit --amount 100", 0, "100.00 x 0.68% + 3.00 = 3.68"},
		{"quote --plan MICRO-2025 --plan-version 3 --channel qr --amount 100", 1, "no price for qr"},
		{"quote --plan MICRO-2025 --plan-version 3 --channel credit --amount 100 --plans " + next + " --json", 0, `"plan_version":3`},
		{"quote --plan GOLD --channel credit --amount 100", 2, "GOLD"},
		{"quote --plan MICRO-2025 --channel qr --amount 100 --wallet paypal", 2, "wechat, alipay, unionpay-qr"},
		{"quote --plan MICRO-2025 --channel credit --amount 100 --plan-version -1", 2, "numbered from 1"},
		{"quote --plan MICRO-2025 --channel credit --amount 100 --plan-version 9", 2, "it has 1, 2, 3"},
		{"quote --plan MICRO-2025 --channel credit --amount 100 --database sqlite:" + dir + "/none.db", 1, "none.db"},
		{"consent maybe --merchant " + mid + " --plan-version 3", 1, "agreed or objected"},
		{"consent objected --merchant " + mid + " --plan-version 3", 0, "its price stays as it is"},
		{"consent agreed --merchant " + mid + " --plan-version 3", 0, "prices its sales from " + effective},
		{"consent agreed --merchant " + mid + " --plan-version 2", 1, "was not told"},
		{"list --merchant " + mid, 0, "pays it from " + effective},
		{"list --merchant 1", 1, "not registered"},
		{"charge --merchant " + mid + " --ref WO-1", 0, "pays 100.00 for the repair WO-1"},
		{"charge --merchant " + mid + " --ref WO-1", 0, "pays 100.00 for the repair WO-1"},
		{"charge --merchant " + mid + " --ref WO-1 --kind sim_year", 2, "by themselves"},
		{"charge --merchant " + mid + " --ref", 2, "ref"},
		{"charge --merchant 1 --ref WO-1", 1, "not registered"},
		{"charge --merchant " + mid + " --ref WO-2", 0, "pays 100.00 for the repair WO-2"},
		{"charge --merchant " + mid + " --ref WO-2 --back", 0, "gets 100.00 back for the repair WO-2"},
		{"charge --merchant " + mid + " --ref WO-2 --back", 0, "gets 100.00 back for the repair WO-2"},
		{"charge --merchant " + mid + " --ref WO-3 --back", 1, "no such fee was charged"},
		{"charge --merchant " + mid + " --ref 10000001 --back --kind device", 1, "no such fee was charged"},
		{"charge --merchant " + mid + " --ref WO-2 --back --kind lunch", 2, "a repair, a device or a sim_year"},
		{"simulate --plan MICRO-2025 --plan-version 2 --from 2026-11-20 --to 2026-11-20", 0, "1 merchants, 1 sales of 100.00: took 3.60, would take 3.65, 0.05 more, and would refuse 0"},
		{"simulate --plan MICRO-2025 --from 2026-11-20 --to 2026-11-20", 0, "would take 3.68, 0.08 more"},
		{"simulate --plan MICRO-2025 --of GOLD --from 2026-11-20 --to 2026-11-20", 0, "0 merchants"},
		{"simulate --plan MICRO-2025 --from 2026-11-21 --to 2026-11-22", 0, "0 merchants"},
		{"simulate --plan GOLD --from 2026-11-20 --to 2026-11-20", 2, "GOLD"},
		{"simulate --plan GOLD --from 2026-11-20 --to 2026-11-19", 2, "before"},
		{"verify --from 2026-11-20 --to 2026-11-20", 0, "1 sales, 0 wrong"},
		{"move --merchant " + mid + " --plan ESIGN-STD", 0, "has signed ESIGN-STD version 1, which prices its sales from " + moves.String()},
		{"move --merchant " + mid + " --plan GOLD", 2, "GOLD"},
		{"move --merchant 1 --plan ESIGN-STD", 1, "not registered"},
		{"move --merchant " + mid + " --plan ESIGN-STD", 0, "which prices its sales from " + moves.String()},
		{"list --merchant " + mid, 0, "pays by MICRO-2025 v1"},
		{"list --merchant " + mid, 0, "from " + moves.String() + "  signed ESIGN-STD v1"},
		{"verify --from 2026-11-20 --to 2026-11-20", 0, "1 sales, 0 wrong"},
		{"list --database sqlite:" + dir + "/none.db", 1, "none.db"},
	} {
		out, problem, code := call(t, newFeesCmd(), strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+problem, c.says) {
			t.Errorf("fees %s: exit %d\n%s%s\nwant %d and %q", c.args, code, out, problem, c.code, c.says)
		}
	}
	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	var taken int64
	log, err := audit.List(t.Context(), db, "fees charge", 0, 10)
	if err == nil {
		err = db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRow("select cast(sum(amount) as BIGINT) from settlement_item where merchant = $1", mid).Scan(&taken)
		})
	}
	if err != nil || taken != -100_00 || len(log) != 10 || log[0].Result == audit.Done || log[9].Subject != "merchant "+mid {
		t.Errorf("charged %d, %v, log %+v", taken, err, log)
	}
	// A line that says another fee than its version makes is found.
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec("update settlement_line set fee_rate = fee_rate + 1")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	out, problem, code := call(t, newFeesCmd(), "verify", "--from", "2026-11-20", "--to", "2026-11-20", "--json")
	var a feesAnswer
	if err := json.Unmarshal([]byte(out), &a); err != nil || code != 1 || a.Repriced.Count != 1 || !strings.Contains(problem, "MICRO-2025 version 1 takes 0.60 + 3.00 of 100.00") {
		t.Errorf("a changed fee: exit %d, %s%s, %v", code, out, problem, err)
	}
}

// From the cut-off of cards on, the next business date is priced: an objection
// to what starts with it comes too late, and consent and another plan count from the
// one after. Before the cut-off the same objection is taken.
func TestAnswersAfterTheCutOff(t *testing.T) {
	cfg := leftDay(t, "6228480402564890018")
	const mid = "898110054110001"
	today := calendar.DateOf(time.Now())
	if out, problem, code := call(t, newFeesCmd(), "announce", "--plan", "MICRO-2025", "--plan-version", "2", "--effective", today.AddDays(31).String()); code != 0 {
		t.Fatalf("announcing: %s%s", out, problem)
	}
	starts := func(date calendar.Date) {
		t.Helper()
		db, err := store.Open(t.Context(), cfg.Database, schemas()...)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("update merchant_notice set effective = $1, starts = $1", date)
			return err
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	starts(today.AddDays(1))
	for _, c := range []struct {
		cutOff, args string
		code         int
		says         string
	}{
		{"1ns", "consent objected --merchant " + mid + " --plan-version 2", 1, "has priced the sales of " + mid + " since " + today.AddDays(1).String()},
		{"24h", "consent objected --merchant " + mid + " --plan-version 2", 0, "its price stays as it is"},
		{"1ns", "consent agreed --merchant " + mid + " --plan-version 2", 0, "prices its sales from " + today.AddDays(2).String()},
		{"1ns", "move --merchant " + mid + " --plan ESIGN-STD", 0, "prices its sales from " + today.AddDays(2).String()},
	} {
		t.Setenv("ACQUIRER_SWITCH_CUT_OFF", c.cutOff)
		out, problem, code := call(t, newFeesCmd(), strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+problem, c.says) {
			t.Errorf("cut-off %s, fees %s: exit %d\n%s%s\nwant %d and %q", c.cutOff, c.args, code, out, problem, c.code, c.says)
		}
	}
}

// A business date that was opened before its time, by a forced close or a clock
// that runs ahead, has its sales priced already: another plan and consent count
// from the one after it.
func TestPricesBehindADateThatWasOpenedEarly(t *testing.T) {
	cfg := leftDay(t, "6228480402564890018")
	const mid = "898110054110001"
	early := calendar.DateOf(time.Now()).AddDays(5)
	db, err := store.Open(t.Context(), cfg.Database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	err = journal.New(db, nil).CutOver(t.Context(), early)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"announce --plan MICRO-2025 --plan-version 2 --effective " + early.AddDays(30).String(), 0, "1 merchants told"},
		{"consent objected --merchant " + mid + " --plan-version 2", 0, "its price stays as it is"},
		{"consent agreed --merchant " + mid + " --plan-version 2", 0, "prices its sales from " + early.AddDays(30).String()},
		{"move --merchant " + mid + " --plan ESIGN-STD", 0, "prices its sales from " + early.AddDays(1).String()},
	} {
		if out, problem, code := call(t, newFeesCmd(), strings.Fields(c.args)...); code != c.code || !strings.Contains(out+problem, c.says) {
			t.Errorf("fees %s: exit %d\n%s%s\nwant %d and %q", c.args, code, out, problem, c.code, c.says)
		}
	}
}
