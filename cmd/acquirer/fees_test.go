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
		`"items":[{"kind":"percent","amount":"0.60"},{"kind":"fixed","amount":"3.00"},{"kind":"settle","amount":"0.00"}],"formula":"100.00 x 0.60% + 3.00 = 3.60"}` + "\n"
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
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--plan ESIGN-STD --channel credit --amount 100 --speed S0", 1, "does not settle at S0"},
		{"--plan GOLD --channel credit --amount 100", 2, "ESIGN-STD, MICRO-2025"},
		{"--plan MICRO-2025 --channel cash --amount 100", 2, "credit, debit or qr"},
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
