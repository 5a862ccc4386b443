package switching_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"acquirer/merchant"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/iso87"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

// listenDialect lets the switch serve another dialect as well, and returns the
// address.
func (s *street) listenDialect(d *spec.Dialect) string {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.t, err)
	sw := s.sw
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := sw.ServeDialect(context.Background(), l, d); err != nil && !errors.Is(err, net.ErrClosed) {
			s.t.Errorf("serving %s: %v", d.Name(), err)
		}
	})
	s.t.Cleanup(func() {
		s.stop()
		wg.Wait()
	})
	return l.Addr().String()
}

// iso87Terminal makes the i-th seeded terminal one that speaks d at addr.
func (s *street) iso87Terminal(i int, d *spec.Dialect, addr string, change ...func(*iso87.Config)) *iso87.Terminal {
	s.t.Helper()
	tid, mid := simcard.SeedTerminal(i)
	cfg := iso87.Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Dialect: d, Dial: terminal.DialTCP(addr, nil), Timeout: patience}
	for _, c := range change {
		c(&cfg)
	}
	t, err := iso87.New(cfg)
	must(s.t, err)
	s.t.Cleanup(func() { must(s.t, t.Close()) })
	return t
}

// others are the story's terminals of other dialects.
type others struct {
	addrs map[string]string
	terms map[string]*iso87.Terminal
	slips map[string]*iso87.Slip
}

// other does what a story says of a terminal of another dialect, which begins
// with
//
//	signin T5 dialect=iso87-ascii mac=cmac pin=dukpt
//
// false when it is not about one.
func (s *storyteller) other(ctx context.Context, verb string, words []string) ([]string, bool) {
	o := &s.others
	if len(words) > 1 && verb == "signin" && strings.HasPrefix(words[1], "dialect=") {
		if o.terms == nil {
			*o = others{map[string]string{}, map[string]*iso87.Terminal{}, map[string]*iso87.Slip{}}
		}
		o.terms[words[0]] = s.otherTerminal(ctx, words[0], words[1:])
	}
	if len(words) == 0 || o.terms[words[0]] == nil {
		return nil, false
	}
	term, rest := o.terms[words[0]], words[1:]
	switch verb {
	case "signin":
		return []string{outcome(term.SignOn(ctx))}, true
	case "signoff":
		return []string{outcome(term.SignOff(ctx))}, true
	case "echo":
		return []string{outcome(term.Echo(ctx))}, true
	case "keys":
		return []string{outcome(term.ExchangeKeys(ctx))}, true
	case "settle":
		r, err := term.Reconcile(ctx)
		if err != nil {
			return []string{outcome(err)}, true
		}
		tally := func(t spec.Tally) string { return fmt.Sprintf("%s in %d", money.Amount(t.Fen), t.Count) }
		said := fmt.Sprintf("said debit %s, credit %s, taken back %s and %s", tally(r.Said.Debit), tally(r.Said.Credit), tally(r.Said.DebitBack), tally(r.Said.CreditBack))
		return []string{said, fmt.Sprintf("heard debit %s, credit %s, balanced %v", tally(r.Debit), tally(r.Credit), r.Balanced)}, true
	case "reverse":
		return s.otherReverse(ctx, term, rest), true
	case "resend":
		a, err := term.Resend(ctx, term.LastFrame())
		return s.otherAnswer(a, err), true
	}
	if !iso87.Known(verb) {
		s.t.Fatalf("a terminal of %s has no %q", term.Dialect().Name(), verb)
	}
	return s.otherTransaction(ctx, term, verb, rest), true
}

func (s *storyteller) otherTerminal(ctx context.Context, name string, words []string) *iso87.Terminal {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "T"))
	must(s.t, err)
	tid, _ := simcard.SeedTerminal(n - 1)
	known, ok := s.street.registry.Terminal([]byte(tid))
	if !ok {
		s.t.Fatalf("no terminal %s", tid)
	}
	t := *known
	var d *spec.Dialect
	var mac, ksn string
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "dialect":
			d, err = spec.Load(value)
			must(s.t, err)
		case "mac":
			mac, t.Profile.MAC = value, value
		case "pin":
			t.Profile.PIN = value
		case "ksn":
			ksn = value
		case "unlinked":
			t.Profile.Unlinked, err = money.Parse(value)
			must(s.t, err)
		default:
			s.t.Fatalf("a terminal of another dialect has no %q", w)
		}
	}
	must(s.t, s.street.registry.Put(ctx, nil, []merchant.Terminal{t}))
	if s.others.addrs[d.Name()] == "" {
		s.others.addrs[d.Name()] = s.street.listenDialect(d)
	}
	return s.street.iso87Terminal(n-1, d, s.others.addrs[d.Name()], func(c *iso87.Config) { c.MAC, c.KSN = mac, ksn })
}

func (s *storyteller) otherTransaction(ctx context.Context, term *iso87.Terminal, kind string, words []string) []string {
	x, name := iso87.Transaction{Kind: kind}, ""
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case w == "of":
			i++
			x.Original = s.otherSlip(words[i])
		case w == "as":
			i++
			name = words[i]
		case strings.HasPrefix(w, "ksn="):
			x.KSN = w[len("ksn="):]
		default:
			d := terminal.Transaction{Card: x.Card, Entry: x.Entry, PIN: x.PIN, Amount: x.Amount, AuthCode: x.AuthCode, Fault: x.Fault}
			if err := s.detail(&d, w); err != nil {
				s.t.Fatalf("%q: %v", strings.Join(words, " "), err)
			}
			x.Card, x.Entry, x.PIN, x.Amount, x.AuthCode, x.Fault = d.Card, d.Entry, d.PIN, d.Amount, d.AuthCode, d.Fault
		}
	}
	if x.Original != nil && x.Amount == 0 {
		x.Amount = x.Original.Amount
	}
	a, slip, err := term.Transact(ctx, x)
	if slip == nil {
		return []string{outcome(err)}
	}
	if name != "" {
		s.others.slips[name] = slip
	}
	return s.otherAnswer(a, err)
}

func (s *storyteller) otherSlip(name string) *iso87.Slip {
	slip := s.others.slips[name]
	if slip == nil {
		s.t.Fatalf("nothing is called %q", name)
	}
	return slip
}

// otherReverse reads "of lunch", a type, reason=17, bare, part=100.00 and twice.
func (s *storyteller) otherReverse(ctx context.Context, term *iso87.Terminal, words []string) []string {
	r := iso87.Reversal{}
	for i := 0; i < len(words); i++ {
		w := words[i]
		key, value, _ := strings.Cut(w, "=")
		switch {
		case w == "of":
			i++
			r.Of = s.otherSlip(words[i])
		case slices.Contains([]string{"0400", "0401", "0420", "0421"}, w):
			v, err := strconv.ParseUint(w, 16, 16)
			must(s.t, err)
			r.MTI = spec.MTI(v)
		case key == "reason":
			r.Reason = value
		case key == "bare":
			r.Bare = true
		case key == "part":
			a, err := money.Parse(value)
			must(s.t, err)
			r.Part = fmt.Sprintf("%012d%030d", a.Fen(), 0)
		default:
			var sale terminal.Sale
			must(s.t, fault(&sale, w))
			r.Fault = sale.Fault
		}
	}
	a, err := term.Reverse(ctx, r)
	return s.otherAnswer(a, err)
}

func (s *storyteller) otherAnswer(a *iso87.Answer, err error) []string {
	if a == nil {
		return []string{outcome(err)}
	}
	seen := []string{s.describe(&a.Message)}
	if err != nil {
		seen[0] += ", " + outcome(err)
	}
	if a.Balance != nil {
		seen[0] += " balance"
	}
	if a.Repeated != nil {
		seen = append(seen, "again: "+s.describe(&a.Repeated.Message))
	}
	return seen
}
