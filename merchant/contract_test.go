package merchant

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/store"
	"acquirer/store/storetest"
)

// register signs merchants of a plan on this node.
func register(t *testing.T, r *Registry, plan string, mids ...string) {
	t.Helper()
	for _, mid := range mids {
		m := testMerchant(mid)
		m.Plan = plan
		if err := r.Put(t.Context(), []Merchant{m}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// fee is what a credit card sale of 100.00 costs a merchant on a date.
func fee(t *testing.T, r *Registry, mid string, date calendar.Date) string {
	t.Helper()
	m, known := r.Merchant([]byte(mid))
	if !known {
		t.Fatalf("%s is not registered", mid)
	}
	p, err := r.PlanOf(m, date)
	if err != nil {
		t.Fatal(err)
	}
	return p.Price(Sale{Channel: Card, CardType: Credit, Amount: 100_00}).Fee.String()
}

// FEE-09: a new version needs 30 days of notice to each merchant, silence is
// consent where the plan says so, and who objects keeps the old price.
func TestNewVersion(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		r, other := open(t, db), open(t, db) // two nodes
		const silent, agrees, objects, late, closed = "898110054110001", "898110054110002", "898110054110003", "898110054110004", "898110054110005"
		register(t, r, "MICRO-2025", silent, agrees, objects)
		gone := testMerchant(closed)
		gone.Status = Closed
		if err := r.Put(ctx, []Merchant{gone}, nil); err != nil {
			t.Fatal(err)
		}
		today := calendar.DateOf(time.Now())
		day := func(n int) calendar.Date { return today.AddDays(n) }

		for _, c := range []struct {
			code    string
			version int
			date    calendar.Date
			says    string
		}{
			{"MICRO-2025", 2, day(29), day(30).String()},
			{"MICRO-2025", 2, 0, "needs the date from which it takes effect"},
			{"MICRO-2025", 3, day(30), "no version 3"},
			{"GOLD", 1, day(30), "GOLD"},
			{"MICRO-2025", 1, day(40), "another date needs another version"},
		} {
			if _, err := r.Announce(ctx, c.code, c.version, c.date, today); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s v%d on %s: %v, want %q", c.code, c.version, c.date, err, c.says)
			}
		}
		if _, err := r.Answer(ctx, silent, 2, Agreed, today); !errors.Is(err, ErrConsent) {
			t.Errorf("an answer before the notice: %v", err)
		}
		a, err := r.Announce(ctx, "MICRO-2025", 2, day(31), today)
		if err != nil || a.Told != 3 || a.Already != 0 || a.Effective != day(31) {
			t.Fatalf("announced %+v, %v", a, err)
		}
		if a, err = r.Announce(ctx, "MICRO-2025", 2, 0, day(1)); err != nil || a.Told != 0 || a.Already != 3 || a.Notice != today {
			t.Errorf("announced again %+v, %v", a, err)
		}
		register(t, r, "MICRO-2025", late) // signs today's price and is told of the next
		if _, err := r.Answer(ctx, agrees, 2, Agreed, day(2)); err != nil {
			t.Error(err)
		}
		if n, err := r.Answer(ctx, objects, 2, Objected, day(2)); err != nil || n.Starts != 0 || n.Consent != Objected || n.Decided != day(2) {
			t.Errorf("objected: %+v, %v", n, err)
		}
		if _, err := other.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		for _, node := range []*Registry{r, other, open(t, db)} {
			for _, c := range []struct {
				mid  string
				date calendar.Date
				want string
			}{
				{silent, day(30), "3.60"}, {silent, day(31), "3.65"}, {agrees, day(30), "3.60"}, {agrees, day(31), "3.65"},
				{objects, day(31), "3.60"}, {objects, day(400), "3.60"}, {late, day(30), "3.60"}, {late, day(31), "3.65"},
				{silent, today.AddDays(-100), "3.60"},
			} {
				if got := fee(t, node, c.mid, c.date); got != c.want {
					t.Errorf("%s pays %s on %s, want %s", c.mid, got, c.date, c.want)
				}
			}
		}
		// It has started: too late to object, never too late to agree.
		if _, err := r.Answer(ctx, silent, 2, Objected, day(31)); !errors.Is(err, ErrConsent) {
			t.Errorf("objected after it started: %v", err)
		}
		if n, err := r.Answer(ctx, objects, 2, Agreed, day(50)); err != nil || n.Starts != day(51) {
			t.Errorf("agreed late: %+v, %v", n, err)
		}
		if got := fee(t, r, objects, day(50)) + " " + fee(t, r, objects, day(51)); got != "3.60 3.65" {
			t.Errorf("who agreed late pays %s", got)
		}
		notices := r.Notices("MICRO-2025", 2)
		if len(notices) != 4 || notices[0].Consent != Silent || notices[0].Starts != day(31) || notices[1].Consent != Agreed {
			t.Errorf("notices %+v", notices)
		}
		for _, want := range []string{"其他银行卡0.65%+3.00元/笔", "借记卡0.50%封顶20.00元", "扫码0.38%", day(31).String(), "未答复视为同意"} {
			if len(notices) > 0 && !strings.Contains(notices[0].Text, want) {
				t.Errorf("the notice %q does not say %q", notices[0].Text, want)
			}
		}
		if _, err := r.Answer(ctx, silent, 2, Silent, today); !errors.Is(err, ErrConsent) {
			t.Errorf("silence as an answer: %v", err)
		}
		if _, err := r.Answer(ctx, "898110054119999", 2, Agreed, today); !errors.Is(err, ErrUnknown) {
			t.Errorf("nobody agreed: %v", err)
		}
		if got := testing.AllocsPerRun(100, func() { fee(t, r, objects, day(50)) }); got > 1 { // the string
			t.Errorf("a price allocates %v times", got)
		}
	})
}

// Under an explicit policy silence keeps the old price.
func TestExplicitConsent(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx, today := t.Context(), calendar.DateOf(time.Now())
		r := open(t, db)
		plan := func(version int, ppm int64) string {
			return fmt.Sprintf(`{"plans":[{"code":"ASK","version":%d,%s "consent_policy":"explicit","rules":[{"ppm":%d,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`,
				version, map[bool]string{true: `"effective_from":"2020-01-01",`}[version == 1], ppm)
		}
		for v, ppm := range []int64{6000, 7000} {
			if err := r.ImportPlans(ctx, strings.NewReader(plan(v+1, ppm))); err != nil {
				t.Fatal(err)
			}
		}
		const silent, agrees = "898110054110001", "898110054110002"
		register(t, r, "ASK", silent, agrees)
		if _, err := r.Announce(ctx, "ASK", 2, today.AddDays(30), today); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Answer(ctx, agrees, 2, Agreed, today); err != nil {
			t.Fatal(err)
		}
		if got := fee(t, r, silent, today.AddDays(60)) + " " + fee(t, r, agrees, today.AddDays(60)); got != "0.60 0.70" {
			t.Errorf("silent and agreed pay %s", got)
		}
		if text := r.Notices("ASK", 2)[0].Text; !strings.Contains(text, "未明确同意前继续按原费率收取") {
			t.Errorf("the notice says %s", text)
		}
		// Who comes after the date signs the new price.
		if p, err := r.Plans().InForce("ASK", today.AddDays(30)); err != nil || p.Version != 2 {
			t.Errorf("in force for new merchants: %+v, %v", p, err)
		}
	})
}

// Two versions that take effect on one day: the higher one prices the sales of who
// consents to both, and an objection to either leaves the other. A lower one can
// no longer be announced, nor a date that is not 30 days off.
func TestTwoVersionsOnOneDay(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx, today := t.Context(), calendar.DateOf(time.Now())
		r := open(t, db)
		version := func(v int, policy string) string {
			return fmt.Sprintf(`{"plans":[{"code":"DAY","version":%d,"consent_policy":%q,"rules":[{"ppm":%d,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`, v, policy, v*1000)
		}
		for v, policy := range map[int]string{1: "", 2: SilentIsConsent, 3: SilentIsConsent, 4: Explicit, 5: SilentIsConsent} {
			if err := r.ImportPlans(ctx, strings.NewReader(version(v, policy))); err != nil {
				t.Fatal(err)
			}
		}
		const silent, not3, not2, neither, yes4 = "898110054110001", "898110054110002", "898110054110003", "898110054110004", "898110054110005"
		announce := func(v int, effective calendar.Date, says string) {
			t.Helper()
			if _, err := r.Announce(ctx, "DAY", v, effective, today); says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
				t.Errorf("version %d from %s: %v, want %q", v, effective, err, says)
			}
		}
		day := today.AddDays(30)
		announce(1, today.AddDays(-1), "today is") // a new plan begins today at the earliest
		announce(1, 0, "")
		register(t, r, "DAY", silent, not3, not2, neither, yes4)
		announce(2, day.AddDays(-1), day.String())
		for v := 2; v <= 4; v++ {
			announce(v, day, "")
		}
		announce(2, day.AddDays(1), "another date needs another version")
		announce(2, 0, "")
		answer := func(mid string, v int, a Consent) {
			t.Helper()
			if _, err := r.Answer(ctx, mid, v, a, day.AddDays(-1)); err != nil {
				t.Error(err)
			}
		}
		answer(not3, 3, Objected)
		answer(not2, 2, Objected)
		answer(neither, 2, Objected)
		answer(neither, 3, Objected)
		answer(yes4, 4, Agreed)
		const late = "898110054110006" // signs before the day and is told of all three
		register(t, r, "DAY", late)
		for _, node := range []*Registry{r, open(t, db)} {
			for mid, want := range map[string]string{silent: "0.30", not3: "0.20", not2: "0.30", neither: "0.10", yes4: "0.40", late: "0.30"} {
				if got := fee(t, node, mid, day.AddDays(-1)) + " " + fee(t, node, mid, day); got != "0.10 "+want {
					t.Errorf("%s pays %s, want 0.10 and then %s", mid, got, want)
				}
			}
			if p, err := node.Plans().InForce("DAY", day); err != nil || p.Version != 4 {
				t.Errorf("who signs on the day gets %+v, %v", p, err)
			}
		}
		if n := len(r.Terms(late).Notices); n != 3 {
			t.Errorf("who signed late was told of %d versions", n)
		}
		announce(5, day.AddDays(5), "")
		if err := r.ImportPlans(ctx, strings.NewReader(strings.Replace(version(6, ""), `"DAY"`, `"UNUSED"`, 1))); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Plans().InForce("UNUSED", day); !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), "no version of UNUSED is in force") {
			t.Errorf("a plan that was not announced: %v", err)
		}
		if err := r.ImportPlans(ctx, strings.NewReader(strings.Replace(version(5, ""), `"DAY"`, `"UNUSED"`, 1))); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Announce(ctx, "UNUSED", 6, day, today); err != nil {
			t.Error(err)
		}
		if _, err := r.Announce(ctx, "UNUSED", 5, day.AddDays(9), today); err == nil || !strings.Contains(err.Error(), "older than version 6") {
			t.Errorf("an older version after a newer one: %v", err)
		}
	})
}

// Who was told of a version is told once: another trade, or another plan and
// back, neither takes its answer away nor moves its date.
func TestAnswerOutlivesAContract(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx, today := t.Context(), calendar.DateOf(time.Now())
		r := open(t, db)
		const trade, moves = "898110054110001", "898110054110002"
		register(t, r, "MICRO-2025", trade, moves)
		if _, err := r.Announce(ctx, "MICRO-2025", 2, today.AddDays(31), today.AddDays(-5)); err != nil {
			t.Fatal(err)
		}
		for _, mid := range []string{trade, moves} {
			if _, err := r.Answer(ctx, mid, 2, Objected, today); err != nil {
				t.Fatal(err)
			}
		}
		other := testMerchant(trade)
		other.Plan, other.MCC = "MICRO-2025", "5411"
		if err := r.Put(ctx, []Merchant{other}, nil); err != nil {
			t.Fatal(err)
		}
		register(t, r, "ESIGN-STD", moves)
		register(t, r, "MICRO-2025", moves)
		for _, node := range []*Registry{r, open(t, db)} {
			for _, mid := range []string{trade, moves} {
				n := node.Terms(mid).Notices
				if len(n) != 1 || n[0].Consent != Objected || n[0].Starts != 0 || n[0].Told != today.AddDays(-5) {
					t.Errorf("%s: %+v", mid, n)
				}
				if got := fee(t, node, mid, today.AddDays(31)); got != "3.60" {
					t.Errorf("%s objected and pays %s", mid, got)
				}
			}
		}
	})
}

// What was signed can be read again by any later binary, and not be changed.
func TestPlansAreKept(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		r := open(t, db)
		for _, c := range []struct{ text, says string }{
			{`{"mcc_classes":{"discount":["8062"]},"plans":[]}`, "old prices depend on it"},
			{`{"plans":[{"code":"MICRO-2025","version":1,"rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`, "new version"},
			{`{"plans":[{"code":"MICRO-2025","version":3,"effective_from":"2026-01-01","rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`, "30 days"},
			{`{"plans":[{"code":"X","version":1,"consent_policy":"ask","rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`, "consent_policy"},
			{`{"plans":[{"code":"X","version":1,"rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"lunch"}]}]}`, "lunch"},
			{`{"plans":[{"code":"X","version":1,"rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"repair","amount":"1.00","waiver":{"sales":"1.00","within_days":1}}]}]}`, "waiver"},
			{`{"plans":[{"code":"X","version":1,"rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"deposit","amount":"1.00"}]}]}`, "deposit"},
			{`{"plans":[{"code":"X","version":1,"rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"device","amount":"-1.00"}]}]}`, "negative"},
			{`{"plans":[{"code":"X","version":1,"rules":[{"channel":"qr","ppm":1,"on_fee_ge_amount":"reject"},{"ppm":1,"on_fee_ge_amount":"reject"},{"channel":"card","ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`, "rule 3 can never match: rule 2 before it"},
			{`{"plans":[{"code":"X","version":2,"effective_from":"2026-01-01","rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"}]}]}`, "30 days"},
			{`{"plans":[{"code":"X","version":1,"rules":[{"ppm":1,"on_fee_ge_amount":"reject"}],"settle_fees":[{"speed":"T1","base":"net"},{"speed":"T1","base":"gross"}]}]}`, "settle fee 2: T1 has a price already"},
			{`{"plans":`, "line 1"},
		} {
			if err := r.ImportPlans(ctx, strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", c.text, err, c.says)
			}
		}
		again := open(t, db)
		for _, code := range BuiltIn().Codes() {
			for _, p := range BuiltIn().byCode[code] {
				kept, err := again.Plans().Version(code, p.Version)
				if err != nil {
					t.Fatal(err)
				}
				x, _ := json.Marshal(p)
				if y, _ := json.Marshal(kept); string(x) != string(y) {
					t.Errorf("kept %s, shipped %s", y, x)
				}
			}
		}
		// A class may be added without a plan.
		if again.Plans().MCCClass("5732") != "standard" {
			t.Fatal("5732 has a class of its own")
		}
		if err := r.ImportPlans(ctx, strings.NewReader(`{"mcc_classes":{"discount":["5732"]},"plans":[]}`)); err != nil {
			t.Fatal(err)
		}
		if got := open(t, db).Plans().MCCClass("5732"); got != "discount" {
			t.Errorf("a class that came alone is %s", got)
		}
		if again.Plans().MCCClass("8062") != "exempt" || again.Plans().MCCClass("5999") != "standard" {
			t.Error("the classes of merchants were not kept")
		}
		// A binary that ships another price under the same version does not start.
		if err := db.Write(ctx, func(tx store.Tx) error {
			_, err := tx.Exec(`update merchant_plan set body = replace(body, '"ppm":6000', '"ppm":6001') where code = 'ESIGN-STD'`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRegistry(ctx, db); err == nil || !strings.Contains(err.Error(), "ESIGN-STD version 1 is known with other content") {
			t.Errorf("opened: %v", err)
		}
	})
}

// Merchants from before contracts were kept sign what is in force; another
// trade or another plan is another contract.
func TestContracts(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx, today := t.Context(), calendar.DateOf(time.Now())
		r := open(t, db)
		register(t, r, "MICRO-2025", mid)
		register(t, r, "GOLD", "898110054110002")
		if n := len(r.Terms("898110054110002").Contracts); n != 0 {
			t.Errorf("%d contracts over a plan that does not exist", n)
		}
		if err := db.Write(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("delete from merchant_contract")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		r = open(t, db)
		c, signed := r.Terms(mid).On(today)
		if !signed || c.Plan != "MICRO-2025" || c.Version != 1 || c.MCC != "5944" || c.Signed != today || r.Terms(mid).Since() != today {
			t.Errorf("signed %+v", c)
		}
		m := testMerchant(mid)
		m.MCC = "8062"
		for range 2 {
			if err := r.Put(ctx, []Merchant{m}, nil); err != nil {
				t.Fatal(err)
			}
		}
		m.Plan = "ESIGN-STD"
		if err := r.Put(ctx, []Merchant{m}, nil); err != nil {
			t.Fatal(err)
		}
		if got := r.Terms(mid).Contracts; len(got) != 3 || got[1].MCC != "8062" || got[2].Plan != "ESIGN-STD" {
			t.Errorf("contracts %+v", got)
		}
		if got := fee(t, r, mid, today) + " " + fee(t, r, mid, today.AddDays(1)); got != "3.60 0.60" {
			t.Errorf("today and tomorrow it pays %s", got)
		}
		if c, _ := r.Terms(mid).On(20200101); c.MCC != "5944" {
			t.Errorf("before the first contract: %+v", c)
		}
	})
}

// DEV-02, ONB-16: the SIM card's first year is free; the device costs nothing
// when the first month brings 1,000 yuan.
func TestExtrasDue(t *testing.T) {
	db, err := store.Open(t.Context(), "sqlite:"+t.TempDir()+"/a.db", Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := open(t, db)
	if err := r.ImportPlans(t.Context(), strings.NewReader(`{"plans":[{"code":"SIM","version":1,"effective_from":"2020-01-01","rules":[{"ppm":6000,"on_fee_ge_amount":"reject"}],
		"settle_fees":[{"speed":"T1","base":"net"}],"extras":[{"kind":"device","amount":"99.00","waiver":{"sales":"1000.00","within_days":30}},
		{"kind":"repair","amount":"100.00"},{"kind":"sim_year","amount":"36.00","free_days":365}]}]}`)); err != nil {
		t.Fatal(err)
	}
	m := testMerchant(mid)
	m.Plan = "SIM"
	term := testTerminal(tid, mid)
	if err := r.Put(t.Context(), []Merchant{m}, []Terminal{term}); err != nil {
		t.Fatal(err)
	}
	got, _ := r.Terminal([]byte(tid))
	since := got.Since
	if since != calendar.DateOf(time.Now()) {
		t.Fatalf("registered %s", since)
	}
	due := func(days int) (out []string) {
		t.Helper()
		all, err := r.ExtrasDue(got, since.AddDays(days))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			out = append(out, fmt.Sprint(d.Kind, " ", d.Amount, " +", since.DaysUntil(d.Due)))
		}
		return out
	}
	for days, want := range map[int]string{29: "[]", 30: "[device 99.00 +30]", 364: "[device 99.00 +30]", 365: "[device 99.00 +30 sim_year 36.00 +365]",
		731: "[device 99.00 +30 sim_year 36.00 +365 sim_year 36.00 +730]"} {
		if s := fmt.Sprint(due(days)); s != want && !(days == 731 && strings.Contains(s, "+731")) { // a leap year between
			t.Errorf("after %d days: %s, want %s", days, s, want)
		}
	}
	all, _ := r.ExtrasDue(got, since.AddDays(30))
	if w := all[0].Waiver; w == nil || w.Sales != money.Yuan(1000) || all[0].First != since {
		t.Errorf("waiver %+v", all[0])
	}
	// A device that lay in a drawer costs from the day on which it is put to use.
	idle := testTerminal("10000099", mid)
	idle.Status = Pending
	if err := r.Put(t.Context(), nil, []Terminal{idle}); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec("update merchant_terminal set since = $1 where tid = '10000099'", since.AddDays(-90))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	idle.Status = Active
	if err := r.Put(t.Context(), nil, []Terminal{idle}); err != nil {
		t.Fatal(err)
	}
	if used, _ := r.Terminal([]byte("10000099")); used.Since != since {
		t.Errorf("in use since %s, want %s", used.Since, since)
	}
	ended := *got
	ended.Status = Closed
	if all, err := r.ExtrasDue(&ended, since.AddDays(800)); err != nil || len(all) != 0 {
		t.Errorf("a closed terminal owes %+v, %v", all, err)
	}
	p, err := r.PlanOf(&m, since)
	if err != nil || p.Extra(Repair) == nil || p.Extra(Repair).Amount != money.Yuan(100) || p.Extra("lunch") != nil {
		t.Errorf("repair: %+v, %v", p, err)
	}
}

// What an extra costs is said with when it is not taken.
func TestConditionsOfExtras(t *testing.T) {
	for _, c := range []struct {
		x    Extra
		want string
	}{
		{Extra{Kind: Device, Amount: 99_00, Waiver: &Waiver{Sales: 1000_00, WithinDays: 30}}, ", free when the first 30 days bring 1000.00"},
		{Extra{Kind: SIMYear, Amount: 48_00, FreeDays: 365}, " a year, the first 365 days free"},
		{Extra{Kind: SIMYear, Amount: 48_00}, " a year"},
		{Extra{Kind: Repair, Amount: 100_00}, ""},
		{Extra{Kind: Device, Waiver: &Waiver{Sales: 1000_00, WithinDays: 30}}, ""},
	} {
		if got := c.x.Conditions(); got != c.want {
			t.Errorf("%+v: %q; want %q", c.x, got, c.want)
		}
	}
}

// A merchant that gets another plan has two prices and no date with both: what it
// sells before the next business date keeps the old one, on every node and whenever
// it is asked. Two people who move it at once make one contract after the other.
func TestMove(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx, today := t.Context(), calendar.DateOf(time.Now())
		r, other := open(t, db), open(t, db)
		register(t, r, "MICRO-2025", mid)
		if _, err := r.Announce(ctx, "MICRO-2025", 2, today.AddDays(30), today); err != nil {
			t.Fatal(err)
		}
		moved, err := r.Move(ctx, mid, "ESIGN-STD", today.AddDays(2))
		if err != nil || moved.Plan != "ESIGN-STD" || moved.Version != 1 || moved.Signed != today.AddDays(3) {
			t.Fatalf("moved %+v, %v", moved, err)
		}
		before, _ := r.Merchant([]byte(mid))
		if again, err := other.Move(ctx, mid, "ESIGN-STD", today.AddDays(5)); err != nil || again != moved {
			t.Errorf("moved again %+v, %v", again, err)
		}
		if now, _ := other.Merchant([]byte(mid)); now.Version != before.Version {
			t.Errorf("that changed the merchant: version %d was %d", now.Version, before.Version)
		}
		for _, node := range []*Registry{r, other, open(t, db)} {
			for date, want := range map[calendar.Date]string{20200101: "3.60", today: "3.60", today.AddDays(2): "3.60", today.AddDays(3): "0.60", today.AddDays(31): "0.60"} {
				if got := fee(t, node, mid, date); got != want {
					t.Errorf("on %s it pays %s, want %s", date, got, want)
				}
			}
			if c := node.Terms(mid).Contracts; len(c) != 2 || c[0].Plan != "MICRO-2025" || c[0].Signed != today {
				t.Errorf("contracts %+v", c)
			}
			// Another trade leaves the old one's price as well.
			if m, _ := node.Merchant([]byte(mid)); node.MCCClass(m, today) != "standard" {
				t.Errorf("class %s", node.MCCClass(m, today))
			}
		}
		// A later version of the plan it has left is not for it.
		if a, err := r.Announce(ctx, "MICRO-2025", 2, 0, today); err != nil || a.Told+a.Already != 0 {
			t.Errorf("told %+v, %v", a, err)
		}
		var all sync.WaitGroup
		for i, node := range []*Registry{r, other, r, other} {
			all.Go(func() {
				if _, err := node.Move(ctx, mid, []string{"MICRO-2025", "ESIGN-STD"}[i/2], today.AddDays(5)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		node := open(t, db)
		m, _ := node.Merchant([]byte(mid))
		last := node.Terms(mid).last()
		if p, err := node.PlanOf(m, today.AddDays(6)); err != nil || p.Code != m.Plan || last.Plan != m.Plan || fee(t, node, mid, today.AddDays(5)) != "0.60" {
			t.Errorf("the merchant has %s, its contract %+v prices by %+v, %v", m.Plan, last, p, err)
		}
		for i, c := range node.Terms(mid).Contracts {
			if i > 0 && c.Plan == node.Terms(mid).Contracts[i-1].Plan {
				t.Errorf("signed twice: %+v", node.Terms(mid).Contracts)
			}
		}
		if _, err := r.Move(ctx, "898110054119999", "ESIGN-STD", today); !errors.Is(err, ErrUnknown) {
			t.Errorf("nobody moved: %v", err)
		}
		if _, err := r.Move(ctx, mid, "GOLD", today); !errors.Is(err, ErrPlan) {
			t.Errorf("moved to a plan that does not exist: %v", err)
		}
		quick := testMerchant(mid)
		quick.Plan, quick.Speed = "MICRO-2025", S0
		if err := r.Put(ctx, []Merchant{quick}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Move(ctx, mid, "ESIGN-STD", today); !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), "does not settle at S0") {
			t.Errorf("moved to a plan without its speed: %v", err)
		}
	})
}

// A merchant gets another speed when its plan offers it, today and tomorrow; every
// node has it, and what is written with it is written or neither is.
func TestSetSpeed(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx, today := t.Context(), calendar.DateOf(time.Now())
		r, other := open(t, db), open(t, db)
		register(t, r, "MICRO-2025", mid)
		has := func(want Speed) {
			t.Helper()
			if _, err := other.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			for _, node := range []*Registry{r, other, open(t, db)} {
				if m, _ := node.Merchant([]byte(mid)); m.Speed != want || m.Plan != "MICRO-2025" && m.Plan != "ESIGN-STD" {
					t.Errorf("paid %s under %s, want %s", m.Speed, m.Plan, want)
				}
			}
		}
		broken := errors.New("no log")
		if err := r.SetSpeed(ctx, mid, S0, today, func(store.Tx) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("without its entry in the log: %v", err)
		}
		has(T1)
		for _, speed := range []Speed{S0, S0, D0} {
			if err := r.SetSpeed(ctx, mid, speed, today); err != nil {
				t.Fatal(err)
			}
			has(speed)
		}
		if _, err := r.Move(ctx, mid, "ESIGN-STD", today); err != nil {
			t.Fatal(err)
		}
		if err := other.SetSpeed(ctx, mid, S0, today); !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), "ESIGN-STD version 1") || !strings.Contains(err.Error(), today.AddDays(1).String()) {
			t.Errorf("a speed that tomorrow's plan does not offer: %v", err)
		}
		if err := r.SetSpeed(ctx, mid, D1, today); !errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), "MICRO-2025 version 1") {
			t.Errorf("a speed that today's plan does not offer: %v", err)
		}
		if err := r.SetSpeed(ctx, mid, "D2", today); err == nil {
			t.Error("a speed that does not exist is taken")
		}
		has(D0)
		if err := r.SetSpeed(ctx, "898110054119999", T1, today); !errors.Is(err, ErrUnknown) {
			t.Errorf("nobody: %v", err)
		}
		gone, _ := r.Merchant([]byte(mid))
		closed := *gone
		closed.Status = Closed
		if err := r.Put(ctx, []Merchant{closed}, nil); err != nil {
			t.Fatal(err)
		}
		if err := r.SetSpeed(ctx, mid, T1, today); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed merchant: %v", err)
		}
	})
}

// Before a version is announced it is said what merchants have now and it does
// not offer, by those who have it.
func TestLacks(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx, today := t.Context(), calendar.DateOf(time.Now())
		r := open(t, db)
		for v, has := range map[int]string{1: `{"speed":"D0","base":"net"},{"speed":"T1","base":"net"}],"extras":[{"kind":"repair","amount":"100.00"}`, 2: `{"speed":"T1","base":"net"}],"extras":[{"kind":"sim_year","amount":"36.00","free_days":365}`, 3: `{"speed":"T1","base":"net"},{"speed":"D0","base":"net"}],"extras":[{"kind":"repair","amount":"90.00"}`} {
			if err := r.ImportPlans(ctx, strings.NewReader(fmt.Sprintf(`{"plans":[{"code":"LESS","version":%d,%s"rules":[{"ppm":6000,"on_fee_ge_amount":"reject"}],"settle_fees":[%s]}]}`,
				v, map[bool]string{true: `"effective_from":"2020-01-01",`}[v == 1], has))); err != nil {
				t.Fatal(err)
			}
		}
		for i, speed := range []Speed{T1, D0, D0, D0} {
			m := testMerchant(fmt.Sprintf("89811005411000%d", i+1))
			m.Plan, m.Speed, m.Status = "LESS", speed, Active
			if i == 3 {
				m.Status = Closed
			}
			if err := r.Put(ctx, []Merchant{m}, nil); err != nil {
				t.Fatal(err)
			}
		}
		for v, want := range map[int]string{1: "[]", 2: "[D0, so that 2 merchants would be paid T1 repair, which the plan of 3 merchants names]", 3: "[]"} {
			if got, err := r.Lacks("LESS", v, today); err != nil || fmt.Sprint(got) != want {
				t.Errorf("version %d lacks %s, %v; want %s", v, got, err, want)
			}
		}
		if _, err := r.Announce(ctx, "LESS", 2, today.AddDays(30), today); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Lacks("LESS", 2, today); err != nil || len(got) != 0 {
			t.Errorf("announced, it lacks %s, %v", got, err)
		}
		if _, err := r.Lacks("LESS", 9, today); !errors.Is(err, ErrPlan) {
			t.Errorf("a version that does not exist: %v", err)
		}
	})
}
