package console

import (
	"strings"
	"testing"
	"time"
)

// What asks for a hand, and what only for an eye. The rows stand in the order
// in which concerns are told.
func broken(state string, issuers []Issuer) []Issuer {
	issuers[0].Breaker = state
	return issuers
}

func TestConcerns(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	good := Ledger{Checked: ago(time.Second), Balanced: true}
	line := func(up ...bool) []Issuer {
		is := Issuer{Name: "north"}
		for _, u := range up {
			is.Lines = append(is.Lines, Line{SignedOn: u})
		}
		return []Issuer{is}
	}
	for _, c := range []struct {
		name    string
		o       Overview
		problem string
		want    string
		act     bool
		href    string
	}{
		{"nothing", Overview{Ledger: good, Issuers: line(true, true)}, "", "", false, ""},
		{"before the first check", Overview{}, "", "", false, ""},
		{"silent house", Overview{Ledger: good}, "no answer", "no answer", true, ""},
		{"invariant", Overview{Ledger: good, Violations: []Violation{{"I8", Words{"账不平", "books differ"}, 2}}}, "", "Invariant I8 was violated, 2 times: books differ", true, ""},
		{"invariant that holds", Overview{Ledger: good, Violations: []Violation{{"I8", Words{}, 0}}}, "", "", false, ""},
		{"unbalanced", Overview{Ledger: Ledger{Checked: now, Difference: 1}}, "", "The ledger is out of balance by ¥0.01", true, ""},
		{"unchecked", Overview{Ledger: Ledger{Checked: ago(uncheckedTooLong + time.Second), Balanced: true}}, "", "The ledger has not been checked for 5 minutes", true, ""},
		{"checked just in time", Overview{Ledger: Ledger{Checked: ago(uncheckedTooLong), Balanced: true}}, "", "", false, ""},
		{"lag", Overview{Ledger: Ledger{Checked: now, Balanced: true, Lag: lagTooLong + time.Second}}, "", "Approved transactions have waited 5 minutes for the ledger", true, ""},
		{"left to a person", Overview{Ledger: good, Owed: OwedTotal{Manual: 1, Due: 4, Oldest: ago(time.Hour)}}, "", "1 reversal or advice is left to you", true, "/owed"},
		{"owed for long", Overview{Ledger: good, Owed: OwedTotal{Due: 4, Oldest: ago(owedTooLong + time.Second)}}, "", "The oldest reversal or advice has been owed for 10 minutes", true, "/owed"},
		{"owed for a little", Overview{Ledger: good, Owed: OwedTotal{Due: 4, Oldest: ago(owedTooLong)}}, "", "", false, ""},
		{"issuer down", Overview{Ledger: good, Issuers: line(false, false)}, "", "Issuer north has no line up", true, "/lines"},
		{"issuer without lines", Overview{Ledger: good, Issuers: line()}, "", "Issuer north has no line up", true, "/lines"},
		{"line down", Overview{Ledger: good, Issuers: line(true, false)}, "", "Issuer north has 1 line down", false, "/lines"},
		{"lines down", Overview{Ledger: good, Issuers: line(true, false, false)}, "", "Issuer north has 2 lines down", false, "/lines"},
		{"breaker open", Overview{Ledger: good, Issuers: broken("open", line(true, true))}, "", "Issuer north does not answer; its breaker is open", true, "/lines"},
		{"breaker open, and no line", Overview{Ledger: good, Issuers: broken("open", line(false))}, "", "Issuer north has no line up", true, "/lines"},
		{"breaker closed", Overview{Ledger: good, Issuers: broken("closed", line(true))}, "", "", false, ""},
		{"payouts", Overview{Ledger: good, Payouts: PayoutTotal{Returned: 1, Unknown: 1}}, "", "2 payouts were returned or their fate is unknown", true, "/waiting"},
		{"failed", Overview{Ledger: good, Payouts: PayoutTotal{Failed: 1}}, "", "1 payout failed", false, "/waiting"},
	} {
		got := concerns(English, now, c.o, c.problem)
		switch {
		case c.want == "" && len(got) == 0:
		case len(got) != 1:
			t.Errorf("%s: %+v, want %q", c.name, got, c.want)
		case got[0].Text != c.want || got[0].Act() != c.act || got[0].Href != c.href:
			t.Errorf("%s: %+v, want %q", c.name, got[0], c.want)
		}
		if zh := concerns(Chinese, now, c.o, c.problem); len(zh) != len(got) {
			t.Errorf("%s: %d concerns in Chinese, %d in English", c.name, len(zh), len(got))
		}
	}
	// What needs a hand is told before what needs an eye.
	p := page{Lang: English, Concerns: concerns(English, now, Overview{Ledger: good, Payouts: PayoutTotal{Failed: 1}, Owed: OwedTotal{Manual: 3},
		Issuers: append(line(true, false), line(false)...)}, "")}
	if p.Mood() != "act" || p.Acts() != 2 || p.Verdict() != "2 things need you" || p.Concerns[0].Href != "/owed" || p.Concerns[3].Act() {
		t.Errorf("%s: %+v", p.Verdict(), p.Concerns)
	}
	p.Concerns = p.Concerns[2:]
	if p.Mood() != "watch" || p.Verdict() != "Nothing to do, something to watch" {
		t.Errorf("%s: %+v", p.Verdict(), p.Concerns)
	}
}

// Lines that an operator took out of service are no failure.
func TestDrainedLines(t *testing.T) {
	now := time.Now()
	good := Ledger{Balanced: true, Checked: now}
	up, out, down := Line{Number: 1, Connected: true, SignedOn: true}, Line{Number: 2, Drained: true}, Line{Number: 3}
	for _, c := range []struct {
		lines []Line
		mood  string
		says  string
	}{
		{[]Line{up, out}, "good", ""},
		{[]Line{up, out, down}, "watch", "Issuer north has 1 line down"},
		{[]Line{out}, "watch", "Issuer north is out of service"},
		{[]Line{out, down}, "act", "north"},
	} {
		is := Issuer{Name: "north", Lines: c.lines}
		var says []string
		for _, x := range concerns(English, now, Overview{Ledger: good, Issuers: []Issuer{is}}, "") {
			says = append(says, x.Text)
		}
		if got := strings.Join(says, ";"); is.Mood() != c.mood || (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
			t.Errorf("%+v: mood %s, %q, want %s, %q", c.lines, is.Mood(), got, c.mood, c.says)
		}
	}
	if out.Mood() != "drained" {
		t.Errorf("a drained line is %s", out.Mood())
	}
}

func TestTimelineOfALateReversal(t *testing.T) {
	at := time.Unix(1_771_000_000, 0)
	d := Detail{Row: Row{At: at, Took: 4 * time.Millisecond}, Steps: []Step{
		{Name: "check", At: at, Took: time.Millisecond},
		{Name: "reversal", At: at.Add(time.Minute), Took: time.Second},
		{Name: "before", At: at.Add(-time.Second), Took: -1},
	}}
	for _, l := range [][]timed{d.Timeline(), Detail{Row: d.Row, Steps: d.Steps[:0]}.Timeline(), Detail{Steps: []Step{{}}}.Timeline()} {
		for _, s := range l {
			if len(s.Bar) == 0 {
				t.Errorf("%s has no bar", s.Name)
			}
		}
	}
	// The scale ends with the last of the steps that follow each other, though
	// the journal's own end is a little earlier.
	on := Detail{Row: Row{At: at, Took: 3 * time.Millisecond}, Steps: []Step{
		{Name: "open", At: at, Took: 2 * time.Millisecond}, {Name: "close", At: at.Add(2 * time.Millisecond), Took: 2 * time.Millisecond},
		{Name: "reversal", At: at.Add(4 * time.Millisecond), Took: time.Hour}}}.Timeline()
	if want := `x="500.0" y="0" width="500.0"`; !strings.Contains(string(on[1].Bar), want) {
		t.Errorf("the second half is drawn as %s, want %s", on[1].Bar, want)
	}
	if l := d.Timeline(); l[1].After != time.Minute {
		t.Errorf("the reversal began after %v", l[1].After)
	}
}

func TestChartOfExtremes(t *testing.T) {
	for _, r := range []Rate{{}, {1, 0}, {0, 1}, {1_000_000, 1}, {0, 1_000_000}} {
		var rates [Window]Rate
		rates[3], rates[59] = r, Rate{1, 1}
		html := string(chart(rates, `"><script>`))
		if len(html) == 0 || containsAny(html, "<script", "NaN", "Inf", `height="-`, `y="-`) {
			t.Errorf("%v: %s", r, html)
		}
	}
	if height(1, 1e9) != 2 || height(0, 1) != 0 {
		t.Error("one decline in a busy second is not drawn, or none is")
	}
}
