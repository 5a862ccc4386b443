package routing

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/money"
)

const rulesText = `{
  "groups": [
    {"name": "home", "primary": "own", "alternates": ["east", "west"]},
    {"name": "shared", "equals": [{"issuer": "north", "weight": 3}, {"issuer": "south", "weight": 1}], "alternates": ["own"]},
    {"name": "cheap", "equals": [{"issuer": "north", "weight": 1}, {"issuer": "south", "weight": 1}, {"issuer": "east", "weight": 1}], "least_cost": true}
  ],
  "rules": [
    {"name": "diners", "mccs": ["5812", "5000-5099"], "entries": ["chip"], "group": "shared"},
    {"name": "big", "kinds": ["debit"], "from_amount": "1000.00", "group": "cheap"},
    {"name": "band", "bins": ["9999"], "from_amount": "10.00", "to_amount": "20.00", "currencies": ["156"], "group": "home"},
    {"name": "north's", "issuers": ["north"], "bins": ["621000-621009"], "group": "home"}
  ],
  "tariffs": [
    {"issuer": "north", "credit_ppm": 4500, "debit_ppm": 3500, "debit_cap": "13.00", "network_ppm": 325, "network_debit_cap": "3.25"},
    {"issuer": "south", "credit_ppm": 4500, "debit_ppm": 3000, "network_ppm": 325},
    {"issuer": "east", "credit_ppm": 4500, "debit_ppm": 3000, "debit_cap": "12.00", "network_ppm": 325, "network_debit_cap": "3.25"}
  ],
  "stand_in": [
    {"issuer": "south", "amount": "300.00", "count": 3, "sum": "500.00", "entries": ["chip", "contactless"], "kinds": ["debit"]}
  ]
}`

var four = []string{"north", "south", "east", "west"}

func plan(t testing.TB, text string) *Plan {
	t.Helper()
	table, err := LoadTable("../testdata/bin/bins.csv")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := ParseRules([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(table, rules, four)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// chooser is a house in which those named are not ready.
func chooser(stands map[string]Standing) *Chooser {
	return &Chooser{
		Standing: func(issuer, needs string) Standing {
			if needs != "" && issuer != "west" {
				return Cannot
			}
			return stands[issuer]
		},
		Cost: func(f Fees, kind Kind, amount money.Amount) (money.Amount, error) {
			ppm, most := f.CreditPPM, money.Amount(0)
			if kind == Debit {
				ppm, most = f.DebitPPM, f.DebitCap
			}
			cost, err := amount.MulPPM(ppm)
			if most > 0 {
				cost = min(cost, most)
			}
			return cost, err
		},
	}
}

const (
	northCredit = "6210000000000001"
	northDebit  = "9999010000000002"
	southDebit  = "6220001100000000001"
)

func ask(t testing.TB, p *Plan, digits string, q Query) Query {
	t.Helper()
	q.PAN = pan(t, digits)
	var ok bool
	if q.Route, ok = p.BINs.Route(q.PAN); !ok {
		t.Fatalf("%s has no row", digits)
	}
	q.Currency = 156
	return q
}

func TestChoose(t *testing.T) {
	p := plan(t, rulesText)
	for _, c := range []struct {
		name   string
		card   string
		q      Query
		stands map[string]Standing
		rule   string
		ways   string
	}{
		{"no rule", northDebit, Query{Amount: 5_00, MCC: "5411"}, nil, "", "north"},
		{"no rule, down", northDebit, Query{Amount: 5_00, MCC: "5411"}, map[string]Standing{"north": Down}, "", "north"},
		{"the first that matches", northDebit, Query{Amount: 2000_00, MCC: "5812", Entry: Chip}, nil, "diners", "north south"},
		{"a range of categories", northDebit, Query{Amount: 1_00, MCC: "5050", Entry: Chip}, nil, "diners", "north south"},
		{"another entry", northDebit, Query{Amount: 1_00, MCC: "5050", Entry: Stripe}, nil, "", "north"},
		{"own is among them already", southDebit, Query{Amount: 1_00, MCC: "5812", Entry: Chip}, nil, "diners", "north south"},
		{"an equal is down", southDebit, Query{Amount: 1_00, MCC: "5812", Entry: Chip}, map[string]Standing{"north": Down}, "diners", "south north"},
		{"cheapest, all below the caps", southDebit, Query{Amount: 1000_00, MCC: "5411"}, nil, "big", "east south north"},
		{"cheapest, above the caps", southDebit, Query{Amount: 10000_00, MCC: "5411"}, nil, "big", "east north south"},
		{"cheapest that is ready", southDebit, Query{Amount: 10000_00, MCC: "5411"}, map[string]Standing{"east": Tripped}, "big", "north south east"},
		{"credit is no debit", northCredit, Query{Amount: 10000_00, MCC: "5411"}, nil, "north's", "north east west"},
		{"band, lower edge", northDebit, Query{Amount: 10_00}, nil, "band", "north east west"},
		{"band, upper edge", northDebit, Query{Amount: 20_00}, nil, "band", "north east west"},
		{"above the band", northDebit, Query{Amount: 20_01}, nil, "", "north"},
		{"below the band", northDebit, Query{Amount: 9_99}, nil, "", "north"},
		{"primary down", northDebit, Query{Amount: 15_00}, map[string]Standing{"north": Down}, "band", "east west north"},
		{"only the last is ready", northDebit, Query{Amount: 15_00}, map[string]Standing{"north": Down, "east": Tripped}, "band", "west north east"},
		{"none is ready", northDebit, Query{Amount: 15_00}, map[string]Standing{"north": Down, "east": Tripped, "west": Down}, "band", "north east west"},
		{"only one line carries it", northDebit, Query{Amount: 15_00, Needs: "points"}, nil, "band", "west"},
		{"nobody carries it", northDebit, Query{Amount: 5_00, Needs: "points"}, nil, "", ""},
	} {
		q := ask(t, p, c.card, c.q)
		got := chooser(c.stands).Choose(p, &q, 0)
		if ways := strings.Join(got.Ways[:got.N], " "); got.Rule != c.rule || ways != c.ways {
			t.Errorf("%s: rule %q sends to %q, want %q to %q", c.name, got.Rule, ways, c.rule, c.ways)
		}
		e, err := chooser(c.stands).Explain(p, q.PAN, q)
		if err != nil || c.ways != "" && e.Choice != got.Ways[0] || c.ways == "" && e.Choice != "" {
			t.Errorf("%s: explained as %q, chosen %q: %v", c.name, e.Choice, got.Ways[0], err)
		}
		for _, v := range e.Rules {
			if v.Matches != (v.Rule == c.rule) || v.Why == "" {
				t.Errorf("%s: explained as %+v", c.name, v)
			}
		}
	}
	foreign := ask(t, p, northDebit, Query{Amount: 15_00})
	foreign.Currency = 840
	if got := chooser(nil).Choose(p, &foreign, 0); got.Rule != "" {
		t.Errorf("dollars matched %q", got.Rule)
	}
}

// Equals share by their weights, and what a missing one had is shared by the
// others the same way.
func TestWeights(t *testing.T) {
	p := plan(t, `{"groups": [{"name": "g", "equals": [{"issuer": "north", "weight": 5}, {"issuer": "south", "weight": 3}, {"issuer": "east", "weight": 2}]}],
		"rules": [{"name": "all", "group": "g"}]}`)
	q := ask(t, p, northDebit, Query{Amount: 1_00})
	for _, c := range []struct {
		stands map[string]Standing
		want   map[string]int // of a thousand
	}{
		{nil, map[string]int{"north": 500, "south": 300, "east": 200}},
		{map[string]Standing{"north": Down}, map[string]int{"south": 600, "east": 400}},
	} {
		got := map[string]int{}
		const n = 100_000
		for i := range n {
			choice := chooser(c.stands).Choose(p, &q, uint32(i)*2654435761)
			if choice.N != 3 {
				t.Fatalf("%d ways", choice.N)
			}
			got[choice.Ways[0]]++
		}
		for name, part := range c.want {
			if has := got[name] * 1000 / n; has < part-20 || has > part+20 {
				t.Errorf("%s is first in %d of 1000, want %d (%v down)", name, has, part, c.stands)
			}
		}
	}
}

func TestChooseAllocatesNothing(t *testing.T) {
	p := plan(t, rulesText)
	q := ask(t, p, southDebit, Query{Amount: 10000_00, MCC: "5411"})
	c := chooser(nil)
	if n := testing.AllocsPerRun(100, func() {
		if c.Choose(p, &q, 7).N != 3 {
			t.Fatal("other ways")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkChoose(b *testing.B) {
	p := plan(b, rulesText)
	q := ask(b, p, southDebit, Query{Amount: 10000_00, MCC: "5411"})
	c := chooser(nil)
	b.ReportAllocs()
	for b.Loop() {
		if c.Choose(p, &q, 7).N != 3 {
			b.Fatal("other ways")
		}
	}
}

func TestExplain(t *testing.T) {
	p := plan(t, rulesText)
	q := Query{Amount: 10000_00, Entry: Chip, Currency: 156, MCC: "5411"}
	e, err := chooser(map[string]Standing{"east": Down}).Explain(p, pan(t, southDebit), q)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", e); strings.Contains(text, southDebit) || !strings.Contains(text, "622000*********0001") {
		t.Errorf("the card is not masked: %s", text)
	}
	if e.Rules[0].Why != "the merchant category is 5411, not 5812, 5000-5099" || !e.Rules[1].Matches || e.Rules[2].Why != "not looked at: an earlier one matched" {
		t.Errorf("%+v", e.Rules)
	}
	if len(e.Ways) != 3 || e.Ways[0].Issuer != "north" || e.Ways[0].Cost != "13.00" || e.Ways[1].Cost != "30.00" || e.Ways[2].Standing != Down || e.Ways[2].Cost != "12.00" {
		t.Errorf("%+v", e.Ways)
	}
	if e.StandIn != "above its stand-in amount of 300.00" || e.Number == "good" {
		t.Errorf("stand-in %q, number %q", e.StandIn, e.Number)
	}
	if _, err := chooser(nil).Explain(p, pan(t, "6228480000000000002"), q); !errors.Is(err, ErrUnknownCard) {
		t.Errorf("a stranger's card: %v", err)
	}
}

func TestStandInRefuses(t *testing.T) {
	p := plan(t, rulesText)
	s := p.Rules.StandsIn("south")
	if s == nil || p.Rules.StandsIn("north") != nil {
		t.Fatal("who stands in for whom")
	}
	for _, c := range []struct {
		card string
		q    Query
		pin  bool
		want string
	}{
		{southDebit, Query{Amount: 300_00, Entry: Chip}, false, ""},
		{southDebit, Query{Amount: 300_01, Entry: Chip}, false, "above"},
		{southDebit, Query{Amount: 1_00, Entry: Keyed}, false, "keyed"},
		{northCredit, Query{Amount: 1_00, Entry: Chip}, false, "credit"},
		{southDebit, Query{Amount: 1_00, Entry: Chip}, true, "PIN"},
	} {
		q := ask(t, p, c.card, c.q)
		if got := s.Refuses(&q, c.pin); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v with PIN %t: %q, want %q", c.q.Amount, c.pin, got, c.want)
		}
	}
	s.PIN = true
	if q := ask(t, p, southDebit, Query{Amount: 1_00, Entry: Chip}); s.Refuses(&q, true) != "" {
		t.Error("a PIN is refused although the rule says so")
	}
}

func TestRulesRefuseWhole(t *testing.T) {
	group := `{"groups": [{"name": "g", "primary": "own"}],
"rules": [
`
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "line 1"},
		{"a list", "[]", "line 1"},
		{"null", "null", "line 1"},
		{"not closed", "{\n\"groups\": [\n", "line 3"},
		{"a comma too many", "{\n\"groups\": [],\n}", "line 3"},
		{"more behind", "{}\n{}", "line 2"},
		{"unknown list", "{\n\"grups\": []}", "line 2"},
		{"twice", "{\"groups\": [],\n\"groups\": []}", "line 2"},
		{"no list", "{\n\"groups\": {}}", "line 2"},
		{"unknown name", group + `{"name": "r", "group": "g", "bin": ["1"]}]}`, "line 3"},
		{"no name", group + `{"group": "g"}]}`, "line 3"},
		{"control character", group + `{"name": "a\u001b", "group": "g"}]}`, "line 3"},
		{"no group", group + `{"name": "r"}]}`, "line 3"},
		{"another group", group + `{"name": "r", "group": "h"}]}`, "line 3"},
		{"a rule twice", group + `{"name": "r", "group": "g"},` + "\n" + `{"name": "r", "group": "g"}]}`, "line 4: rule r is on line 3 too"},
		{"kind", group + `{"name": "r", "group": "g", "kinds": ["gold"]}]}`, "line 3"},
		{"entry", group + `{"name": "r", "group": "g", "entries": ["other"]}]}`, "line 3"},
		{"amount", group + `{"name": "r", "group": "g", "from_amount": "1.234"}]}`, "line 3"},
		{"amounts", group + `{"name": "r", "group": "g", "from_amount": "2.00", "to_amount": "1.00"}]}`, "line 3"},
		{"currency", group + `{"name": "r", "group": "g", "currencies": ["CNY"]}]}`, "line 3"},
		{"category", group + `{"name": "r", "group": "g", "mccs": ["581"]}]}`, "line 3"},
		{"category range", group + `{"name": "r", "group": "g", "mccs": ["5812-5000"]}]}`, "line 3"},
		{"BIN", group + `{"name": "r", "group": "g", "bins": ["62100A"]}]}`, "line 3"},
		{"long BIN", group + `{"name": "r", "group": "g", "bins": ["621000000000"]}]}`, "line 3"},
		{"BIN range", group + `{"name": "r", "group": "g", "bins": ["621000-62109"]}]}`, "line 3"},
		{"a group twice", `{"groups": [{"name": "g", "primary": "own"},` + "\n" + `{"name": "g", "primary": "own"}]}`, "line 2"},
		{"nobody", `{"groups": [{"name": "g"}]}`, "line 1"},
		{"both", `{"groups": [{"name": "g", "primary": "own", "equals": [{"issuer": "north", "weight": 1}]}]}`, "line 1"},
		{"an issuer twice", `{"groups": [{"name": "g", "primary": "own", "alternates": ["own"]}]}`, "twice"},
		{"weight", `{"groups": [{"name": "g", "equals": [{"issuer": "north", "weight": 0}]}]}`, "weight"},
		{"nameless", `{"groups": [{"name": "g", "primary": "own", "alternates": [""]}]}`, "no name"},
		{"too many", `{"groups": [{"name": "g", "primary": "own", "alternates": ["1","2","3","4","5","6","7","8"]}]}`, "more than 8"},
		{"cost of one", `{"groups": [{"name": "g", "equals": [{"issuer": "north", "weight": 1}], "least_cost": true}]}`, "two or more"},
		{"cost unknown", `{"groups": [{"name": "g", "equals": [{"issuer": "north", "weight": 1}, {"issuer": "south", "weight": 1}], "least_cost": true}]}`, "no tariff"},
		{"rate", `{"tariffs": [{"issuer": "north", "credit_ppm": 1000001}]}`, "ppm"},
		{"cap", `{"tariffs": [{"issuer": "north", "debit_cap": "-1.00"}]}`, "line 1"},
		{"tariff twice", `{"tariffs": [{"issuer": "north"},` + "\n" + `{"issuer": "north"}]}`, "line 2"},
		{"stand-in without limits", `{"stand_in": [{"issuer": "north", "entries": ["chip"], "kinds": ["debit"]}]}`, "line 1"},
		{"stand-in for everything", `{"stand_in": [{"issuer": "north", "amount": "1.00", "sum": "1.00", "count": 1}]}`, "say which"},
		{"stand-in sum", `{"stand_in": [{"issuer": "north", "amount": "2.00", "sum": "1.00", "count": 1, "entries": ["chip"], "kinds": ["debit"]}]}`, "sum"},
	} {
		rules, err := ParseRules([]byte(c.text))
		if err == nil || rules != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.want)
		}
	}
	table, err := LoadTable("../testdata/bin/bins.csv")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{"groups": [{"name": "g", "primary": "bank"}]}`, `{"groups": [{"name": "g", "primary": "own", "alternates": ["bank"]}]}`,
		`{"groups": [{"name": "g", "equals": [{"issuer": "bank", "weight": 1}]}]}`, `{"tariffs": [{"issuer": "bank"}]}`, `{"tariffs": [{"issuer": "own"}, {"issuer": "bank"}]}`,
		`{"groups": [{"name": "g", "primary": "own"}], "rules": [{"name": "r", "issuers": ["bank"], "group": "g"}]}`,
		`{"stand_in": [{"issuer": "bank", "amount": "1.00", "sum": "1.00", "count": 1, "entries": ["chip"], "kinds": ["debit"]}]}`,
	} {
		rules, err := ParseRules([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := NewPlan(table, rules, four); err == nil || p != nil || !strings.Contains(err.Error(), `line 1: issuer "bank"`) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := NewPlan(table, nil, four[1:]); err == nil || !strings.Contains(err.Error(), "north") {
		t.Errorf("a table of unknown issuers: %v", err)
	}
	if _, err := LoadRules(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestRanges(t *testing.T) {
	const head = "bin,issuer,brand,kind,pan_lengths,luhn,name\n"
	table, err := ParseCSV([]byte(head + "621000-621099,a,U,debit,16,no,x\n6210500,b,U,debit,16,no,x\n6210600-6210699,c,U,debit,16,no,x\n621100,d,U,debit,16,no,x\n"))
	if err != nil {
		t.Fatal(err)
	}
	for digits, want := range map[string]string{"620999": "", "621000": "a", "621050": "b", "621051": "a", "621060": "c", "621069": "c", "621070": "a", "621099": "a", "621100": "d", "621101": ""} {
		if r, _ := table.Route(pan(t, digits+"0000000000")); r.Issuer != want {
			t.Errorf("%s goes to %q, want %q", digits, r.Issuer, want)
		}
	}
	for _, c := range []struct{ row, want string }{
		{"621099,b,U,debit,16,no,x", "line 3: BIN 621099 overlaps 621000-621099 of line 2"},
		{"620000-621000,b,U,debit,16,no,x", "line 3"},
		{"621099-621000,b,U,debit,16,no,x", "line 3"},
		{"621100-62119,b,U,debit,16,no,x", "line 3"},
		{"621100-,b,U,debit,16,no,x", "line 3"},
		{"-621100,b,U,debit,16,no,x", "line 3"},
	} {
		if table, err := ParseCSV([]byte(head + "621000-621099,a,U,debit,16,no,x\n" + c.row + "\n")); err == nil || table != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want one that says %q", c.row, err, c.want)
		}
	}
	fromJSON, err := ParseJSON([]byte(`[{"bin":"621000-621099","issuer":"a","kind":"debit","pan_lengths":[16]}]`))
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := fromJSON.Route(pan(t, "6210550000000000")); !ok || r.String() != "621000-621099" {
		t.Errorf("%v %t", r.String(), ok)
	}
}

func TestDiff(t *testing.T) {
	before := plan(t, rulesText)
	if d := plan(t, rulesText).Diff(before); len(d) != 0 {
		t.Errorf("the same differs: %q", d)
	}
	after := plan(t, strings.NewReplacer(`"weight": 3`, `"weight": 4`, `"count": 3`, `"count": 2`).Replace(
		strings.Replace(rulesText, `{"name": "big", "kinds": ["debit"], "from_amount": "1000.00", "group": "cheap"},`, `{"name": "small", "to_amount": "1.00", "group": "home"},`, 1)))
	rows := after.BINs.Routes()
	rows[0].Issuer = "west"
	rows[1].BIN, rows[1].Last = "62200011", "62200012"
	var err error
	if after.BINs, err = NewTable(rows); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range after.Diff(before) {
		words := strings.Fields(line)
		names = append(names, strings.Join(words[:3], " "))
	}
	if want := []string{"~ bin 621000", "- bin 62200011", "+ bin 62200011-62200012", "~ group shared", "- rule big", "+ rule small", "~ stand-in south"}; !reflect.DeepEqual(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	turned := plan(t, rulesText)
	rules := turned.Rules.Rules
	rules[0], rules[3] = rules[3], rules[0]
	if d := turned.Diff(before); len(d) != 1 || !strings.Contains(d[0], "order of rules diners, big, band, north's -> north's, big, band, diners") {
		t.Errorf("another order: %q", d)
	}
}

var breakerRules = BreakerConfig{Streak: 3, Percent: 50, Least: 10, Window: time.Minute, Pause: 10 * time.Second}

func failed(why Why) error {
	return &SendError{Issuer: "north", Left: why == TimedOut || why == Broken, Why: why}
}

// pass sends one request that ends as err, and reports whether it was let
// through.
func pass(b *Breaker, up bool, err error) bool {
	t, ok := b.Take(up)
	if ok {
		b.Done(t, err)
	}
	return ok
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(breakerRules)
		state := func(want BreakerState) {
			t.Helper()
			if got := b.State(); got != want {
				t.Fatalf("it is %s, want %s", got, want)
			}
		}
		// A streak opens it, and an answer ends a streak.
		for range 3 {
			pass(b, true, failed(TimedOut))
			pass(b, true, failed(TimedOut))
			pass(b, true, nil)
		}
		state(BreakerClosed)
		// What says nothing about the issuer does not count.
		for _, why := range []Why{Drained, Busy, SameTrace, Unsigned, Closing, Barred} {
			for range 5 {
				pass(b, true, failed(why))
			}
		}
		pass(b, true, errors.New("something else"))
		state(BreakerClosed)
		old, _ := b.Take(true)
		for range 3 {
			pass(b, true, failed(Broken))
		}
		state(BreakerOpened)
		if b.Passes(true) || pass(b, true, nil) {
			t.Fatal("it let one through")
		}
		b.Done(old, nil) // left before
		state(BreakerOpened)
		time.Sleep(breakerRules.Pause)
		if !b.Passes(true) {
			t.Fatal("no probe after the pause")
		}
		// One probe, and only one; given back when it could not be sent.
		probe, ok := b.Take(true)
		if _, second := b.Take(true); !ok || second || b.Passes(true) {
			t.Fatal("more or less than one probe")
		}
		b.Done(probe, failed(Busy))
		state(BreakerHalfOpen)
		if !pass(b, true, failed(TimedOut)) {
			t.Fatal("the probe was not given back")
		}
		state(BreakerOpened)
		time.Sleep(breakerRules.Pause)
		if !pass(b, true, nil) {
			t.Fatal("no second probe")
		}
		state(BreakerClosed)
		if v := b.View(); v.Opened != 2 || v.State != "closed" {
			t.Errorf("%+v", v)
		}
		// Without a line it opens too, and a line that is back is tried at once.
		for range 3 {
			pass(b, false, failed(NoLine))
		}
		state(BreakerOpened)
		if b.Passes(false) || !b.Passes(true) || !pass(b, true, nil) {
			t.Fatal("a line that is back is not tried")
		}
		state(BreakerClosed)
	})
}

// A rate opens it where no streak does, and old windows are forgotten.
func TestBreakerRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(breakerRules)
		for range 4 {
			pass(b, true, failed(TimedOut))
			pass(b, true, nil)
		}
		if b.State() != BreakerClosed {
			t.Fatal("eight are too few to judge")
		}
		time.Sleep(breakerRules.Window)
		pass(b, true, nil)
		for range 4 {
			pass(b, true, failed(TimedOut))
			pass(b, true, nil)
		}
		if b.State() != BreakerClosed {
			t.Fatal("four of nine opened it")
		}
		pass(b, true, failed(TimedOut))
		if b.State() != BreakerOpened {
			t.Fatal("five of ten did not open it")
		}
	})
	for _, c := range []BreakerConfig{{}, {Streak: 1, Percent: 101, Least: 1, Window: 1, Pause: 1}, {Streak: 1, Percent: 1, Least: 1, Window: 1}} {
		if c.Check() == nil {
			t.Errorf("%+v passed", c)
		}
	}
	if err := breakerRules.Check(); err != nil {
		t.Error(err)
	}
}

func FuzzRules(f *testing.F) {
	f.Add([]byte(rulesText))
	f.Add([]byte(`{"groups": [{"name": "g", "primary": "own"}], "rules": [{"name": "r", "bins": ["6"], "group": "g"}]}`))
	f.Add([]byte("{\"groups\": [\n{\"name\": 5}]}"))
	table, err := LoadTable("../testdata/bin/bins.csv")
	if err != nil {
		f.Fatal(err)
	}
	empty, err := NewPlan(table, nil, four)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rules, err := ParseRules(b)
		if (rules == nil) != (err != nil) {
			t.Fatal("neither rules nor an error, or both")
		}
		if err != nil {
			if !strings.Contains(err.Error(), "line ") {
				t.Fatalf("the error names no line: %v", err)
			}
			return
		}
		p, err := NewPlan(table, rules, four)
		if err != nil {
			return
		}
		if len(p.Diff(empty)) < len(rules.Groups)+len(rules.Rules)+len(rules.Tariffs)+len(rules.StandIn) {
			t.Fatal("something of the file is not in the diff")
		}
		for _, digits := range []string{northCredit, northDebit, southDebit} {
			q := ask(t, p, digits, Query{Amount: 12_34, Entry: Chip, MCC: "5812"})
			c := chooser(map[string]Standing{"east": Down})
			choice := c.Choose(p, &q, 77)
			e, err := c.Explain(p, q.PAN, q)
			if choice.N < 1 || choice.N > MaxWays || err != nil || e.Choice == "" {
				t.Fatalf("%+v %+v %v", choice, e, err)
			}
			for i, name := range choice.Ways[:choice.N] {
				if name == "" || name == Own || i > 0 && name == choice.Ways[0] {
					t.Fatalf("way %d is %q", i, name)
				}
			}
		}
	})
}
