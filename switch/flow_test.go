package switching_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/card"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	switching "acquirer/switch"
)

var rewrite = flag.Bool("rewrite", false, "write what happened into testdata/flows")

// TestFlows runs every story of testdata/flows against a house of its own. A
// line without indent is done, the indented lines behind it are what must then
// be seen; testdata/flows/README.md has the words. -rewrite refreshes them.
//
// Together they act every row of the message matrix (matrix_test.go).
func TestFlows(t *testing.T) {
	t.Run("stories", func(t *testing.T) { eachFlow(t, func(*testing.T) []streetOption { return nil }) })
	if only := flag.Lookup("test.run").Value.String(); !t.Failed() && (only == "" || !strings.Contains(only, "/")) {
		everyRowIsActed(t)
	}
}

func eachFlow(t *testing.T, options func(*testing.T) []streetOption) { eachFlowBut(t, nil, options) }

func eachFlowBut(t *testing.T, but []string, options func(*testing.T) []streetOption) {
	files, err := filepath.Glob("../testdata/flows/*.txt")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no stories in testdata/flows")
	}
	for _, file := range files {
		if slices.Contains(but, strings.TrimSuffix(filepath.Base(file), ".txt")) {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			must(t, err)
			got := tell(t, string(text), options(t)...)
			if *rewrite {
				must(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			if got != string(text) {
				t.Errorf("the story went otherwise (go test ./switch -run TestFlows -rewrite accepts it):\n%s", difference(string(text), got))
			}
		})
	}
}

func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for i := range max(len(w), len(g)) {
		var x, y string
		if i < len(w) {
			x = w[i]
		}
		if i < len(g) {
			y = g[i]
		}
		if x != y {
			fmt.Fprintf(&b, "line %d\n  want %s\n  got  %s\n", i+1, x, y)
		}
	}
	return b.String()
}

func tell(t *testing.T, text string, options ...streetOption) string {
	story := &storyteller{t: t, street: newStreet(t, append(options, withAll)...), terminals: map[string]*terminal.Terminal{}, cards: map[string]*simcard.Card{}, rrns: map[string]string{}, names: map[string]named{}, closed: map[string]terminal.Slip{}, profiles: map[string]terminal.Config{}}
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue // what was seen; written anew
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for _, seen := range story.do(strings.Fields(line)) {
			out.WriteString("  " + seen + "\n")
		}
	}
	story.street.noteActed()
	return out.String()
}

type storyteller struct {
	t         *testing.T
	street    *street
	terminals map[string]*terminal.Terminal
	cards     map[string]*simcard.Card
	rrns      map[string]string          // RRN -> a name that is the same in every run
	names     map[string]named           // transactions, by "as"
	closed    map[string]terminal.Slip   // of batches that were settled, by name
	profiles  map[string]terminal.Config // what profile said of a terminal
	others    others                     // terminals of other dialects
}

func (s *storyteller) do(words []string) []string {
	ctx := context.Background()
	verb, rest := words[0], words[1:]
	need := func(n int) {
		if len(rest) < n {
			s.t.Fatalf("%q wants %d words", strings.Join(words, " "), n)
		}
	}
	if seen, ok := s.other(ctx, verb, rest); ok {
		return seen
	}
	switch verb {
	case "signin", "signoff", "echo":
		need(1)
		term := s.terminal(rest[0], rest[1:])
		do := map[string]func(context.Context) error{"signin": term.SignIn, "signoff": term.SignOff, "echo": term.Echo}[verb]
		return []string{outcome(do(ctx))}
	case "sale":
		need(4)
		return s.transaction(ctx, terminal.KindSale, rest)
	case "reverse":
		need(1)
		res, err := s.terminal(rest[0], nil).Reverse(ctx, terminal.Reversal{Reason: reasonOf(rest[1:])})
		return s.answer(&res, err)
	case "resend": // the last frame again, byte for byte
		need(1)
		term := s.terminal(rest[0], nil)
		must(s.t, term.Send(ctx, term.LastFrame()))
		f, err := term.Receive(ctx)
		if err != nil {
			return []string{outcome(err)}
		}
		var m spec.Message
		must(s.t, spec.UnionPayPOS.Parse(&m, f.Body))
		return []string{s.describe(&m)}
	case "raw": // T5 0200 3=000000 4=000000001000: any message, signed if it has a MAC
		need(2)
		return s.raw(ctx, rest)
	case "profile":
		s.profile(ctx, rest[0], rest[1:])
		return nil
	case "forget", "takeback", "settle", "deliver", "sign", "signature", "tmk", "batch":
		need(1)
		return s.batches(ctx, verb, rest)
	case "breaks", "settlings":
		return s.batches(ctx, verb, []string{"T5"})
	case "next":
		need(3)
		s.next(rest)
		return nil
	case "weather":
		need(2)
		w := issuer.Weather{}
		switch rest[1] {
		case "calm":
		case "closed":
			w.Closed = true
		case "silent":
			w.Silent = 1
		default:
			s.t.Fatalf("no weather %q", rest[1])
		}
		must(s.t, s.street.issuers[rest[0]].SetWeather(w))
		if w.Closed {
			s.await(func() bool { return !s.street.legs[rest[0]].Issuer.Up() })
		} else {
			s.await(func() bool { return s.street.legs[rest[0]].Issuer.Up() })
		}
		return nil
	case "route": // a routing file on one line; {} sends every card to its own issuer
		rules, err := routing.ParseRules([]byte(strings.Join(rest, " ")))
		must(s.t, err)
		diff, err := s.street.sw.Reroute(s.street.sw.Plan().BINs, rules, nil)
		must(s.t, err)
		var seen []string
		for _, line := range diff {
			seen = append(seen, strings.Join(strings.Fields(line)[:3], " "))
		}
		return seen
	case "settled": // every reversal acknowledged or left to a person
		c := s.street.settled()
		return []string{fmt.Sprintf("owed 0, with a person %d", c.Manual)}
	case "issuer":
		need(1)
		return s.books(rest[0])
	case "wallet":
		need(1)
		return s.walletBooks(rest[0])
	case "cases":
		return s.cases()
	case "journal":
		return s.journal(ctx)
	case "kept":
		return s.kept(ctx)
	case "download", "upload", "obey", "heard", "ask", "set", "block", "downloaded":
		need(map[string]int{"download": 2, "ask": 2}[verb])
		need(1)
		return s.downloads(ctx, verb, rest)
	}
	if kind, err := terminal.ParseKind(verb); err == nil {
		need(1)
		return s.transaction(ctx, kind, rest)
	}
	s.t.Fatalf("the story says %q, which is no word of testdata/flows/README.md", verb)
	return nil
}

func (s *storyteller) await(ok func() bool) {
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			s.t.Fatal("what the story waits for did not come in 10 s")
		}
		<-time.After(5 * time.Millisecond)
	}
}

// terminal finds T1, T2, ... or sets it up with key set and MAC from words.
func (s *storyteller) terminal(name string, words []string) *terminal.Terminal {
	if term, ok := s.terminals[name]; ok {
		return term
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, "T"))
	must(s.t, err)
	term := s.street.terminal(n-1, func(c *terminal.Config) {
		if p, ok := s.profiles[name]; ok {
			c.Profile, c.TTK, c.State = p.Profile, p.TTK, p.State
		}
		c.KeepSlips = true
		for _, w := range words {
			if v, ok := strings.CutPrefix(w, "keys="); ok {
				set, err := strconv.Atoi(v)
				must(s.t, err)
				c.Profile.KeySet = set
			}
			if v, ok := strings.CutPrefix(w, "tid="); ok {
				c.TID = v
			}
		}
	})
	s.terminals[name] = term
	return term
}

func fault(sale *terminal.Sale, w string) error {
	f := &terminal.Fault{}
	switch w {
	case "pin":
		sale.PIN = sale.Card.PIN
		return nil
	case "wrong-pin":
		sale.PIN = "000000"
		return nil
	case "wrong-mac":
		f.WrongMAC = true
	case "no-mac":
		f.NoMAC = true
	case "hang-up":
		f.HangUp = true
	case "drop-answer":
		f.DropAnswer = true
	case "withhold":
		f.Withhold = true
	case "twice":
		f.Twice = true
	default:
		if n, ok := strings.CutPrefix(w, "without-"); ok {
			field, err := strconv.Atoi(n)
			if err != nil {
				return err
			}
			f.Change = func(m *spec.Message) { m.Unset(field) }
			break
		}
		if set, ok := strings.CutPrefix(w, "with-"); ok {
			n, v, _ := strings.Cut(set, "=")
			field, err := strconv.Atoi(n)
			if err != nil {
				return err
			}
			f.Change = func(m *spec.Message) { m.Set(field, v) }
			break
		}
		return fmt.Errorf("no way to misbehave is called %q", w)
	}
	sale.Fault = f
	return nil
}

// card makes north:0, south:lost, ...: one per name, so that its ATC counts.
func (s *storyteller) card(name string) *simcard.Card {
	if c, ok := s.cards[name]; ok {
		return c
	}
	bank, which, _ := strings.Cut(name, ":")
	is, ok := simcard.IssuerNamed(bank)
	if !ok {
		s.t.Fatalf("no issuer %q", bank)
	}
	conditions := map[string]simcard.Condition{"lost": simcard.Lost, "stolen": simcard.Stolen, "expired": simcard.Expired, "no-money": simcard.NoMoney,
		"restricted": simcard.Restricted, "no-account": simcard.NoAccount, "tried-out": simcard.TriedOut, "bad-chip": simcard.BadChip}
	var pan card.PAN
	if c, ok := conditions[which]; ok {
		pan = is.PANWith(c, 0)
	} else {
		number, stripe := strings.CutPrefix(which, "s") // s0: a card without a chip
		i, err := strconv.Atoi(number)
		must(s.t, err)
		for pan = is.PAN(i); simcard.HasChip(pan.Reveal()) == stripe; i++ {
			pan = is.PAN(i + 1)
		}
	}
	c, err := simcard.New(pan)
	must(s.t, err)
	s.cards[name] = c
	return c
}

func (s *storyteller) answer(res *terminal.Result, err error) []string {
	if err != nil {
		return []string{outcome(err)}
	}
	var m spec.Message
	must(s.t, spec.UnionPayPOS.Parse(&m, res.Body))
	seen := s.describe(&m)
	if res.Demand == spec.DemandSignIn {
		seen += " and demands a sign-in"
	}
	return []string{seen}
}

// describe is an answer in one line that is the same in every run: reference
// numbers get names in the order in which they appear.
func (s *storyteller) describe(m *spec.Message) string {
	b := fmt.Sprintf("%s %s", m.MTI(), m.Text(39))
	if rrn := m.Text(37); rrn != "" {
		b += " " + s.rrn(rrn)
	}
	if m.Has(38) {
		b += " approval"
	}
	var fields []string
	for n := 2; n <= 128; n++ {
		if m.Has(n) {
			fields = append(fields, strconv.Itoa(n))
		}
	}
	return b + " [" + strings.Join(fields, " ") + "]"
}

func (s *storyteller) rrn(rrn string) string {
	if _, ok := s.rrns[rrn]; !ok {
		s.rrns[rrn] = "R" + strconv.Itoa(len(s.rrns)+1)
	}
	return s.rrns[rrn]
}

func outcome(err error) string {
	var refused *terminal.Refusal
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refused):
		return "refused with " + refused.Code
	}
	for _, f := range []terminal.Failure{terminal.ErrTimeout, terminal.ErrLine, terminal.ErrMAC, terminal.ErrNoKeys, terminal.ErrFormat, terminal.ErrPending, terminal.ErrDial, terminal.ErrMismatch} {
		if errors.Is(err, f) {
			return "no answer: " + string(f)
		}
	}
	return "failed: " + err.Error()
}

func reasonOf(words []string) terminal.Reason {
	if len(words) == 0 {
		return ""
	}
	return terminal.Reason(words[0])
}

// books are the issuer's lines that still count for something.
func (s *storyteller) books(name string) []string {
	var out []string
	books := s.street.issuers[name].Books()
	// Advices are delivered behind everything, in no order.
	slices.SortStableFunc(books, func(a, b issuer.Entry) int {
		return cmp.Or(advice(a.Kind)-advice(b.Kind), advice(a.Kind)*cmp.Compare(a.Amount, b.Amount))
	})
	for _, e := range books {
		kind := string(e.Kind) + " "
		if e.Kind == issuer.Sale {
			kind = ""
		}
		out = append(out, fmt.Sprintf("%s%s %s %s, reversed %d times", kind, e.Amount, e.State, e.Code, e.Reversals))
	}
	if len(out) == 0 {
		out = append(out, "nothing")
	}
	return out
}

// advice is 1 for what is told and not asked.
func advice(k issuer.Kind) int {
	switch k {
	case issuer.ScriptResult, issuer.OfflineSale, issuer.ChipOfflineSale, issuer.Adjust, issuer.CompletionNotice:
		return 1
	}
	return 0
}

func (s *storyteller) journal(ctx context.Context) []string {
	entries, err := s.street.journal.Last(ctx, 50)
	must(s.t, err)
	slices.Reverse(entries)
	var out []string
	for _, e := range entries {
		line := fmt.Sprintf("%s %s %s", e.Kind, e.Amount, e.State())
		if e.Outcome != nil {
			line += ": " + e.Outcome.Reason.String()
			if e.Outcome.Note != "" {
				line += " (" + e.Outcome.Note + ")"
			}
		}
		if e.Debt != nil {
			line += ", owed because " + string(e.Debt.Why)
		}
		out = append(out, line)
	}
	return out
}

// kept is what the house has of each transaction in case of a dispute.
func (s *storyteller) kept(ctx context.Context) []string {
	entries, err := s.street.journal.Last(ctx, 50)
	must(s.t, err)
	slices.Reverse(entries)
	var out []string
	for _, e := range entries {
		line := fmt.Sprintf("%s %s", e.Kind, e.Amount)
		if e.Place != "" {
			line += " at " + e.Place
		}
		if i := spec.ReadTerminalInfo([]byte(e.Device)); i != (spec.TerminalInfo{}) {
			line += fmt.Sprintf(", terminal %q %q", i.Serial, i.Version)
		}
		de55, sequence, err := switching.ReadChip(ctx, s.street.house.HSM, s.street.house.DataKey, e)
		must(s.t, err)
		var tags []string
		for t, err := range spec.WalkTLV(de55) {
			must(s.t, err)
			tags = append(tags, fmt.Sprintf("%X", t.Tag))
		}
		if tags != nil {
			line += ", chip " + sequence + " " + strings.Join(tags, " ")
		}
		out = append(out, line)
	}
	return out
}
