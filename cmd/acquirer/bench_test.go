package main

import (
	"encoding/json"
	"strings"
	"testing"

	"acquirer/bench/relay"
)

func TestBenchServersSayWhereAndHowMuch(t *testing.T) {
	for _, what := range []string{"echo", "cheap-issuer"} {
		out, text, code := call(t, newBenchCmd(), what, "--for", "10ms")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if code != 0 || len(lines) != 2 {
			t.Fatalf("%s: exit %d, %s, %q", what, code, text, out)
		}
		var where struct{ Listening string }
		var report relay.Report
		if json.Unmarshal([]byte(lines[0]), &where) != nil || !strings.HasPrefix(where.Listening, "127.0.0.1:") ||
			json.Unmarshal([]byte(lines[1]), &report) != nil || report.What != what || report.Transactions != 0 {
			t.Errorf("%s: %q", what, out)
		}
	}
	for _, args := range [][]string{{"relay"}, {"relay-moov"}, {"drive"}, {"echo", "--listen", "nowhere"}} {
		if _, text, code := call(t, newBenchCmd(), args...); code == 0 || text == "" {
			t.Errorf("%v: exit %d, %q", args, code, text)
		}
	}
}
