package console

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"acquirer/spec"
)

var fromHere = map[string]string{"Sec-Fetch-Site": "same-origin", "Accept-Language": "en"}

// A person is done with a difference: it leaves the page, and nothing else
// does.
func TestResolve(t *testing.T) {
	house := newStreet(time.Now())
	base, _ := start(t, house)
	_, body := ask(t, "GET", base+"/batches", inEnglish)
	for _, id := range []string{"71", "72", "73"} {
		if want := `action="/batches/differences/` + id + `/resolve?date=` + house.batches.Date.String() + `"`; !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, c := range []struct{ path, back string }{
		{"/batches/differences/72/resolve?date=2026-02-13", "/batches?date=2026-02-13"},
		{"/batches/differences/71/resolve?date=//evil.example", "/batches"},
	} {
		res, body := ask(t, "POST", base+c.path, fromHere)
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != c.back {
			t.Errorf("%s: %d to %q, want 303 to %q: %.200s", c.path, res.StatusCode, res.Header.Get("Location"), c.back, body)
		}
	}
	house.mu.Lock()
	resolved := slices.Clone(house.resolved)
	house.mu.Unlock()
	if !slices.Equal(resolved, []int64{72, 71}) {
		t.Errorf("resolved %v, want 72 and 71", resolved)
	}
	_, body = ask(t, "GET", base+"/batches", inEnglish)
	if strings.Contains(body, "resolve-72") || strings.Contains(body, "resolve-71") || !strings.Contains(body, "resolve-73") {
		t.Error("the page does not show what is left")
	}
	if res, body := ask(t, "POST", base+"/batches/differences/72/resolve", fromHere); res.StatusCode != 404 || !strings.Contains(body, "No such difference") {
		t.Errorf("one that is not there: %d, %.200s", res.StatusCode, body)
	}
	house.mu.Lock()
	house.fail = errors.New("store: disk is full")
	house.mu.Unlock()
	if res, body := ask(t, "POST", base+"/batches/differences/73/resolve", fromHere); res.StatusCode != 503 || !strings.Contains(body, "disk is full") {
		t.Errorf("a house that does not answer: %d, %.200s", res.StatusCode, body)
	}
}

func TestResultOfASettlement(t *testing.T) {
	for _, c := range []struct {
		domestic, foreign spec.Balance
		unreadable        bool
		want              string
	}{
		{spec.Balanced, spec.Balanced, false, "balanced"},
		{spec.Balanced, spec.NotBalanced, false, "unbalanced"},
		{spec.NotBalanced, spec.Balanced, false, "unbalanced"},
		{spec.BalanceError, spec.BalanceError, false, "unsigned"},
		{spec.NotCompared, spec.NotCompared, false, "unbalanced"},
		{spec.Balanced, spec.Balanced, true, "unreadable"},
	} {
		b := TerminalBatch{Ours: spec.Totals{Domestic: spec.SideTotals{Balance: c.domestic}, Foreign: spec.SideTotals{Balance: c.foreign}}, Unreadable: c.unreadable}
		if got := b.Result(); got != c.want {
			t.Errorf("%d and %d: %s, want %s", c.domestic, c.foreign, got, c.want)
		}
		mustHave(t, "balance."+c.want)
	}
}

// The lines name the sums as DE 48 has them, and mark the one that is off.
func TestLinesOfASettlement(t *testing.T) {
	side := func(n int64) spec.SideTotals {
		return spec.SideTotals{Debit: spec.Tally{Fen: n, Count: int(n)}, Credit: spec.Tally{Fen: n + 1, Count: int(n) + 1}}
	}
	b := TerminalBatch{Claimed: spec.Totals{Domestic: side(10), Foreign: side(20)}, Ours: spec.Totals{Domestic: side(10), Foreign: side(20)}}
	b.Ours.Foreign.Debit.Fen -= 7
	b.Ours.Domestic.Credit.Count++
	lines := b.Lines()
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 4", len(lines))
	}
	for i, want := range []struct {
		cards, flow string
		fen, off    int64
		differs     bool
	}{{"domestic", "debit", 10, 0, false}, {"domestic", "credit", 11, 0, true}, {"foreign", "debit", 20, 7, true}, {"foreign", "credit", 21, 0, false}} {
		l := lines[i]
		if l.Cards != want.cards || l.Flow != want.flow || l.Claimed.Fen != want.fen || l.Off().Fen() != want.off || l.Differs() != want.differs {
			t.Errorf("line %d: %+v, off by %v; want %+v", i, l, l.Off(), want)
		}
		mustHave(t, "cards."+l.Cards)
		mustHave(t, "flow."+l.Flow)
	}
}

// A batch that cannot be read does not hide the others, and a long list says
// that it is one.
func TestBatchesAtTheirWorst(t *testing.T) {
	house := newStreet(time.Now())
	house.batches.Settled[2].Unreadable = true
	for range batchRows {
		house.batches.Settled = append(house.batches.Settled, house.batches.Settled[1])
	}
	base, _ := start(t, house)
	res, body := ask(t, "GET", base+"/batches", inEnglish)
	if res.StatusCode != 200 || strings.Count(body, `<details class="batch"`) != batchRows {
		t.Errorf("%d, %d batches", res.StatusCode, strings.Count(body, `<details class="batch"`))
	}
	has(t, "batches", body, "unreadable record", "3 more are not listed", shops[1].name)
	house.mu.Lock()
	house.batches.Settled, house.batches.Differences = nil, nil
	house.mu.Unlock()
	_, body = ask(t, "GET", base+"/batches", inEnglish)
	has(t, "nothing", body, "No difference waits", "No terminal has settled")
}
