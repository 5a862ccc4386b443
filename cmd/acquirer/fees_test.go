package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// call runs one command as its parent would and gives what it printed and the
// exit status.
func call(t *testing.T, cmd *cobra.Command, args ...string) (stdout string, text string, code int) {
	t.Helper()
	root := &cobra.Command{Use: "acquirer", SilenceUsage: true, SilenceErrors: true}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(cmd)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{cmd.Name()}, args...))
	if err := root.Execute(); err != nil {
		return out.String(), err.Error(), exitCode(err)
	}
	return out.String(), "", 0
}

func TestFeesQuote(t *testing.T) {
	out, _, code := call(t, newFeesCmd(), "quote", "--plan", "MICRO-2025", "--channel", "credit", "--amount", "100.00", "--json")
	want := `{"plan":"MICRO-2025","plan_version":1,"channel":"credit","speed":"T1","amount":"100.00","fee":"3.60","settle_fee":"0.00","net":"96.40",` +
		`"items":[{"kind":"percent","amount":"0.60"},{"kind":"fixed","amount":"3.00"},{"kind":"settle","amount":"0.00"}],"formula":"100.00 x 0.60% + 3.00 = 3.60","extras":[{"kind":"device","amount":"0.00","waiver":{"sales":"1000.00","within_days":30}},` +
		`{"kind":"deposit","amount":"0.00"},{"kind":"repair","amount":"100.00"},{"kind":"sim_year","amount":"0.00","free_days":365}]}` + "\n"
	if code != 0 || out != want {
		t.Errorf("exit %d\n%s\nwant\n%s", code, out, want)
	}
	out, _, code = call(t, newFeesCmd(), "quote", "--plan", "ESIGN-STD", "--channel", "credit", "--speed", "D0", "--amount", "5000")
	if code != 0 || !strings.Contains(out, "4967.51") || !strings.Contains(out, "D0 4970.00 x 0.05% = 2.49") {
		t.Errorf("exit %d: %s", code, out)
	}
	out, _, code = call(t, newFeesCmd(), "quote", "--plan", "MICRO-2025", "--plan-version", "2", "--channel", "credit", "--amount", "100", "--json")
	if code != 0 || !strings.Contains(out, `"fee":"3.65"`) {
		t.Errorf("version 2: exit %d: %s", code, out)
	}
	// Every way of paying, the cheapest first (FEE-12): small sums by code, large ones by debit card.
	for amount, want := range map[string]string{"20.00": "qr debit credit", "50000": "debit qr credit", "1.00": "qr debit credit"} {
		out, text, code := call(t, newFeesCmd(), "quote", "--plan", "MICRO-2025", "--channel", "all", "--amount", amount)
		var order []string
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			order = append(order, strings.Fields(line)[0])
		}
		if got := strings.Join(order, " "); code != 0 || got != want || amount == "1.00" && !strings.Contains(out, "credit  refused") {
			t.Errorf("%s: exit %d, %s %s, want %s\n%s", amount, code, got, text, want, out)
		}
	}
	// Refused: status 1, the reason, and with --json the quote all the same.
	out, text, code := call(t, newFeesCmd(), "quote", "--plan", "MICRO-2025", "--channel", "credit", "--amount", "1.00", "--json")
	var q struct{ Fee, Net, Refused, Reason string }
	if err := json.Unmarshal([]byte(out), &q); code != 1 || err != nil || q.Fee != "3.01" || q.Net != "-2.01" || q.Refused != "fee_not_below_amount" ||
		!strings.Contains(text, "3.01 is not below") {
		t.Errorf("exit %d, %q: %s (%v)", code, text, out, err)
	}
	// FEE-08: the whole price, with what is taken apart from sales, and every rule can be quoted.
	file := filepath.Join(t.TempDir(), "gold.json")
	if err := os.WriteFile(file, []byte(`{"plans":[{"code":"GOLD","version":1,"effective_from":"2020-01-01","rules":[
		{"channel":"any","mcc_class":"exempt","ppm":0,"on_fee_ge_amount":"reject"},{"channel":"qr","wallet":"alipay","ppm":2500,"on_fee_ge_amount":"reject"},
		{"channel":"card","entry":"contactless_no_pin","amount_to":"1000.01","ppm":3800,"on_fee_ge_amount":"reject"},
		{"channel":"card","card_type":"quasi_credit","ppm":5500,"on_fee_ge_amount":"reject"},{"channel":"any","ppm":6000,"on_fee_ge_amount":"reject"}],
		"settle_fees":[{"speed":"T1","base":"net"},{"speed":"D1","ppm":100,"base":"net"}],
		"extras":[{"kind":"device","amount":"99.00","waiver":{"sales":"1000.00","within_days":30}},{"kind":"sim_year","amount":"36.00","free_days":365},{"kind":"repair","amount":"100.00"}]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--channel credit": "100.00 x 0.60% = 0.60", "--channel quasi_credit": "100.00 x 0.55% = 0.55", "--channel qr": "100.00 x 0.60% = 0.60",
		"--channel qr --wallet alipay": "100.00 x 0.25% = 0.25", "--channel debit --entry contactless_no_pin": "100.00 x 0.38% = 0.38", "--channel debit --mcc 8062": "100.00 x 0.00% = 0.00",
		"--channel debit --speed D1": "D1 99.40 x 0.01% = 0.01",
	} {
		out, text, code := call(t, newFeesCmd(), append([]string{"quote", "--plan", "GOLD", "--plans", file, "--amount", "100.00"}, strings.Fields(args)...)...)
		for _, want := range []string{want, "device             99.00, free when the first 30 days bring 1000.00", "sim_year           36.00 a year, the first 365 days free", "repair            100.00\n"} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: exit %d\n%s%s\nwant %q", args, code, out, text, want)
			}
		}
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--plan ESIGN-STD --channel credit --amount 100 --speed S0", 1, "does not settle at S0"},
		{"--plan GOLD --channel credit --amount 100", 2, "ESIGN-STD, MICRO-2025"},
		{"--plan MICRO-2025 --channel cash --amount 100", 2, "credit, debit, quasi_credit or qr"},
		{"--plan MICRO-2025 --channel debit --wallet alipay --amount 100", 2, "--wallet is for --channel qr"},
		{"--plan MICRO-2025 --channel qr --entry contactless_no_pin --amount 100", 2, "--entry for a card"},
		{"--plan MICRO-2025 --channel debit --entry swipe --amount 100", 2, "contactless_no_pin"},
		{"--plan MICRO-2025 --channel debit --mcc 80 --amount 100", 2, "four digits"},
		{"--plan MICRO-2025 --channel credit --amount 1e2", 2, "100.00"},
		{"--plan MICRO-2025 --channel credit --amount 100 --speed T9", 2, "T1, D1, D0 or S0"},
		{"--plan MICRO-2025 --channel credit --amount 100 --date yesterday", 2, "2026-02-13"},
		{"--plan MICRO-2025 --channel credit --amount 100 --plan-version 7", 2, "no version 7"},
		{"--plan MICRO-2025 --channel credit", 2, "amount"},
		{"--plan MICRO-2025 --channel credit --amount 100 --plans /nonexistent.json", 1, "nonexistent.json"},
		{"--colour red", 2, "unknown flag"},
	} {
		if _, text, code := call(t, newFeesCmd(), append([]string{"quote"}, strings.Fields(c.args)...)...); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: exit %d %q, want %d and %q", c.args, code, text, c.code, c.says)
		}
	}
}

func TestCalendarSettleDate(t *testing.T) {
	for moment, want := range map[string]string{
		"2026-02-13T22:59:59+08:00": "2026-02-14\n",
		"2026-02-13T23:00:00+08:00": "2026-02-24\n",
		"2026-02-13T15:00:00Z":      "2026-02-24\n",
	} {
		if out, text, code := call(t, newCalendarCmd(), "settle-date", moment); code != 0 || out != want {
			t.Errorf("%s: exit %d %q %q, want %q", moment, code, out, text, want)
		}
	}
	out, _, code := call(t, newCalendarCmd(), "settle-date", "--json", "2026-02-13T15:00:00Z")
	if want := `{"timestamp":"2026-02-13T23:00:00+08:00","business_date":"2026-02-14","settle_date":"2026-02-24"}` + "\n"; code != 0 || out != want {
		t.Errorf("exit %d: %s", code, out)
	}
	out, _, code = call(t, newCalendarCmd(), "settle-date", "--no-make-up", "2026-05-08T10:00:00+08:00")
	if code != 0 || out != "2026-05-11\n" {
		t.Errorf("without make-up days: exit %d: %s", code, out)
	}
	year := filepath.Join(t.TempDir(), "2042.json")
	if err := os.WriteFile(year, []byte(`{"year":2042,"days":[{"date":"2042-01-01","isOffDay":true}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"2026-02-13"}, 2, "2026-02-13T22:59:59+08:00"},
		{[]string{"2026-02-13T22:59:59"}, 2, "time zone"},
		{nil, 2, "accepts 1 arg"},
		{[]string{"--cut-off", "25h", "2026-02-13T22:59:59+08:00"}, 2, "23h"},
		{[]string{"2041-12-31T10:00:00+08:00"}, 1, "2042.json"},
		{[]string{"--calendar", "/nonexistent.json", "2041-12-31T10:00:00+08:00"}, 1, "nonexistent.json"},
	} {
		if _, text, code := call(t, newCalendarCmd(), append([]string{"settle-date"}, c.args...)...); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%v: exit %d %q, want %d and %q", c.args, code, text, c.code, c.says)
		}
	}
	if out, text, code := call(t, newCalendarCmd(), "settle-date", "--calendar", year, "2041-12-31T10:00:00+08:00"); code != 0 || out != "2042-01-02\n" {
		t.Errorf("with 2042: exit %d %q %q", code, out, text)
	}
}
