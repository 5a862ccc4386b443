package switching_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	simwallet "acquirer/simulate/wallet"
	switching "acquirer/switch"
)

// The faults of everything but the plain sale, whose are in faults_test.go and
// its neighbours: whatever happens between terminal, house and issuer, their
// books agree in the end, and so does what the ledger is told.

// deed is one kind of transaction, with what it needs to be done first.
type deed struct {
	kind terminal.Kind
	of   terminal.Kind // the original; 0 for none
	at   issuer.Kind   // the issuer's name for it; "" for a wallet's
}

var deeds = []deed{
	{kind: terminal.KindVoid, of: terminal.KindSale, at: issuer.Void},
	{kind: terminal.KindRefund, of: terminal.KindSale, at: issuer.Refund},
	{kind: terminal.KindPreauth, at: issuer.Preauth},
	{kind: terminal.KindPreauthVoid, of: terminal.KindPreauth, at: issuer.PreauthVoid},
	{kind: terminal.KindCompletion, of: terminal.KindPreauth, at: issuer.Completion},
	{kind: terminal.KindCompletionVoid, of: terminal.KindCompletion, at: issuer.CompletionVoid},
	{kind: terminal.KindCompletionNotice, of: terminal.KindPreauth, at: issuer.CompletionNotice},
	{kind: terminal.KindOfflineSale, at: issuer.OfflineSale},
	{kind: terminal.KindChipOfflineSale, at: issuer.ChipOfflineSale},
	{kind: terminal.KindAdjust, of: terminal.KindOfflineSale, at: issuer.Adjust},
	{kind: terminal.KindTip, of: terminal.KindSale, at: issuer.Adjust},
	{kind: terminal.KindQRSale},
	{kind: terminal.KindQRVoid, of: terminal.KindQRSale},
	{kind: terminal.KindQRRefund, of: terminal.KindQRSale},
}

// worker is a terminal that does deeds, each with a card or code of its own.
type worker struct {
	t     testing.TB
	s     *street
	term  *terminal.Terminal
	i, n  int
	watch func(terminal.Traffic)
}

func (s *street) worker(t testing.TB, i int) *worker {
	t.Helper()
	w := &worker{t: t, s: s, i: i}
	w.on(terminal.State{})
	return w
}

// fresh is a transaction of a kind that needs no original.
func (w *worker) fresh(kind terminal.Kind) terminal.Transaction {
	w.t.Helper()
	w.n++
	x := terminal.Transaction{Kind: kind, Amount: money.Yuan(int64(100 + w.n))}
	switch kind {
	case terminal.KindQRSale:
		x.PayCode = terminal.PayCode("wechat", 1000+w.n)
	case terminal.KindOfflineSale:
		x.Card, x.Entry, x.AuthCode = w.card(), terminal.Keyed, fmt.Sprintf("A%05d", w.n)
	case terminal.KindChipOfflineSale:
		x.Card, x.Amount = w.card(), money.Yuan(10)
	default:
		x.Card, x.Entry = w.card(), terminal.Keyed
	}
	return x
}

func (w *worker) card() *simcard.Card { return chipCard(w.t, "north", 2000+10*w.n) }

// prepare does what comes before d and gives d itself.
func (w *worker) prepare(d deed) terminal.Transaction {
	w.t.Helper()
	if d.of == 0 {
		return w.fresh(d.kind)
	}
	first := w.fresh(d.of)
	if d.of == terminal.KindCompletion {
		hold := w.done(w.fresh(terminal.KindPreauth))
		first.Original, first.Amount, first.Card = &hold, hold.Amount, nil
	}
	o := w.done(first)
	x := terminal.Transaction{Kind: d.kind, Original: &o, Amount: o.Amount}
	switch d.kind {
	case terminal.KindRefund, terminal.KindQRRefund:
		x.Amount = o.Amount / 2
	case terminal.KindTip:
		x.Amount, x.Tip = 0, money.Yuan(5)
	case terminal.KindAdjust:
		x.Amount = o.Amount + money.Yuan(3)
	}
	return x
}

// done does x, which must be approved, and gives its slip. On a machine that has
// more to do an issuer may be too slow for the deadline of a test: it is asked
// again when that is over.
func (w *worker) done(x terminal.Transaction) terminal.Slip {
	w.t.Helper()
	for try := 1; ; try++ {
		res, err := w.term.Transact(context.Background(), x)
		if err == nil && res.Approved() {
			break
		}
		if try == 5 || err == nil && res.Code != "98" {
			w.t.Fatalf("%v: answered %q, %v", x.Kind, res.Code, err)
		}
		w.calm()
		w.s.quiet()
		if x.PayCode != "" {
			w.n++
			x.PayCode = terminal.PayCode("wechat", 1000+w.n)
		}
	}
	slip, ok := w.term.Slip(w.term.State().STAN)
	if !ok {
		w.t.Fatalf("%v: no slip", x.Kind)
	}
	w.s.delivered()
	return slip
}

// delivered waits until no advice is on its way, so that what follows one is
// not refused for coming before it.
func (s *street) delivered() {
	s.t.Helper()
	await(s.t, "all advices are delivered", func() bool {
		list, err := s.journal.DebtList(context.Background(), journal.Owed, 1000)
		must(s.t, err)
		return !slices.ContainsFunc(list, func(e *journal.Entry) bool { return e.Debt.Delivery() })
	})
}

// calm lets the terminal end what a fault has left it with: its reversal and
// what it keeps to tell.
func (w *worker) calm() {
	w.t.Helper()
	await(w.t, "the terminal has nothing left to tell", func() bool {
		if w.term.Pending() {
			_, _ = w.term.Reverse(context.Background(), terminal.Reversal{})
		}
		_ = w.term.Deliver(context.Background())
		return !w.term.Pending() && w.term.Waiting() == 0
	})
}

// standing is one transaction that stands, as one side has it.
type standing struct {
	kind   string
	amount money.Amount
}

var kindsAtIssuers = map[issuer.Kind]string{
	issuer.Sale: "sale", issuer.Void: "void", issuer.Preauth: "pre-authorisation", issuer.PreauthVoid: "pre-authorisation void",
	issuer.Completion: "completion", issuer.CompletionNotice: "completion", issuer.CompletionVoid: "completion void", issuer.Refund: "refund",
	issuer.OfflineSale: "offline sale", issuer.ChipOfflineSale: "offline sale", issuer.Adjust: "adjustment",
}

// agree holds the books against each other once all is quiet: what stands in
// the journal stands at the issuer, with its amount, and the other way round;
// wallets have what their orders say; and the facts for the ledger come to the
// money that was taken from cards and wallets.
func (s *street) agree() {
	s.t.Helper()
	s.quiet()
	here, there := map[string]standing{}, map[string]standing{}
	entries, err := s.journal.Last(context.Background(), 1_000_000)
	must(s.t, err)
	for _, e := range entries {
		if e.Outcome == nil {
			s.t.Errorf("%s %s is still open", e.Kind, e.RRN)
			continue
		}
		if e.State() == journal.StateApproved && e.Channel != journal.QR && e.Kind != journal.Inquiry && e.Kind != journal.ScriptResult {
			here[e.RRN] = standing{e.Kind.String(), max(e.Sum(), -e.Sum())}
		}
		if e.Debt != nil && e.Debt.State == journal.Manual {
			s.t.Errorf("%s %s of %s waits for a person: %s", e.Kind, e.RRN, e.Amount, e.Debt.Note)
		}
	}
	var taken money.Amount
	for _, host := range s.issuers {
		for _, e := range host.Books() {
			taken += e.Takes
			if kind := kindsAtIssuers[e.Kind]; kind != "" && e.State != issuer.Reversed && e.State != issuer.Declined && e.State != issuer.Unknown {
				if _, twice := there[e.RRN]; twice {
					s.t.Errorf("%s stands twice at its issuer", e.RRN)
				}
				there[e.RRN] = standing{kind, max(e.Amount, e.Part)}
			}
		}
	}
	for rrn, x := range here {
		if y, ok := there[rrn]; !ok || x != y {
			s.t.Errorf("%s: the journal has %v, the issuer %v", rrn, x, y)
		}
	}
	for rrn, y := range there {
		if _, ok := here[rrn]; !ok {
			s.t.Errorf("%s: the issuer has %v, the journal nothing that stands", rrn, y)
		}
	}
	var paid money.Amount
	if s.wallets != nil {
		for _, o := range s.wallets.Orders() {
			paid += o.Standing()
		}
	}
	if cards, codes := s.cleared(); cards != taken || codes != paid {
		s.t.Errorf("the ledger is told of %s by card and %s by code; issuers have taken %s and wallets %s", cards, codes, taken, paid)
	}
	s.lawful()
}

// cleared sums what the ledger is told.
func (s *street) cleared() (cards, codes money.Amount) {
	s.t.Helper()
	facts, err := s.journal.ClearingSince(context.Background(), 0, 1_000_000)
	must(s.t, err)
	for _, f := range facts {
		amount := f.Amount
		switch f.Kind {
		case journal.Sale, journal.Completion, journal.OfflineSale, journal.Adjustment:
		case journal.Void, journal.CompletionVoid, journal.Refund:
			amount = -amount
		default:
			continue
		}
		if f.Taken {
			amount = -amount
		}
		if f.Channel == journal.QR {
			codes += amount
		} else {
			cards += amount
		}
	}
	return cards, codes
}

// heardRight holds what terminals believe against the journal: what was heard
// as approved stands, and what was heard as refused or reversed does not.
func (s *street) heardRight() {
	s.t.Helper()
	stands := map[terminal.Key]bool{}
	entries, err := s.journal.Last(context.Background(), 1_000_000)
	must(s.t, err)
	for _, e := range entries {
		if e.State() == journal.StateApproved {
			stands[terminal.Key{TID: e.Terminal, Batch: int(e.Batch), STAN: int(e.STAN)}] = true
		}
	}
	for _, r := range s.book.Records() {
		switch {
		case r.Status == terminal.Unknown:
			s.t.Errorf("terminal %s does not know what became of %v %06d", r.TID, r.Kind, r.STAN)
		case r.Status != terminal.Abandoned && stands[r.Key] != (r.Status == terminal.Approved):
			s.t.Errorf("terminal %s takes %v %06d for %s (%s), and that it stands is %v", r.TID, r.Kind, r.STAN, r.Status, r.Code, stands[r.Key])
		}
	}
}

const shortly = 300 * time.Millisecond

func faultStreet(t *testing.T, options ...streetOption) *street {
	return newStreet(t, append([]streetOption{withAll, withTimeout(shortly), withConfig(func(c *switching.Config) {
		c.Owed.MaxAttempts, c.Owed.BackoffMax = 1000, 40*time.Millisecond
	})}, options...)...)
}

// Issuers and wallets in every weather, for every kind. What tells of a thing
// done meets four storms one after the other.
func TestFollowersInEveryWeather(t *testing.T) {
	t.Parallel()
	slow, closed := simwallet.Weather{Delay: 600 * time.Millisecond}, simwallet.Weather{Closed: true}
	for _, c := range []struct {
		name   string
		storm  issuer.Storm
		pays   simwallet.Storm   // for payments
		wallet simwallet.Weather // for what goes back
	}{
		{"silent", issuer.Silent, simwallet.Silent, slow},
		{"late", issuer.Late, simwallet.Late, slow},
		{"lost", issuer.Lost, simwallet.Lost, closed},
		{"dropped before", issuer.DropBefore, simwallet.DropBefore, closed},
		{"dropped after", issuer.DropAfter, simwallet.DropAfter, slow},
		{"wrong MAC", issuer.WrongMAC, simwallet.WrongSign, slow},
		{"wrong amount", issuer.WrongAmount, simwallet.OtherAmount, slow},
		{"wrong reference", issuer.WrongReference, simwallet.OtherOrder, slow},
		{"twice", issuer.Twice, simwallet.TypesAsked, simwallet.Weather{}},
		{"declined", issuer.Decline, simwallet.Decline, simwallet.Weather{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := faultStreet(t)
			w := s.worker(t, 4)
			codes := map[string]int{}
			for _, d := range deeds {
				must(t, s.legs["north"].Issuer.AwaitUp(t.Context()))
				x := w.prepare(d)
				switch {
				case d.kind == terminal.KindQRSale:
					s.wallets.Next(c.pays)
				case d.at == "":
					must(t, s.wallets.SetWeather(c.wallet))
				case !d.kind.Reversible() && c.storm == issuer.Decline && d.kind != terminal.KindRefund: // a refused advice is a person's
				case !d.kind.Reversible():
					for _, storm := range []issuer.Storm{c.storm, issuer.Lost, issuer.DropAfter, issuer.WrongMAC} {
						must(t, s.issuers["north"].Next(issuer.Order{Kind: d.at, Storm: storm}))
						if c.storm == issuer.Decline || c.storm == issuer.Twice {
							break
						}
					}
				default:
					must(t, s.issuers["north"].Next(issuer.Order{Kind: d.at, Storm: c.storm}))
				}
				res, err := w.term.Transact(t.Context(), x)
				codes[fmt.Sprintf("%v %s", d.kind, res.Code)]++
				if err != nil {
					t.Errorf("%v: answered %q, %v", d.kind, res.Code, err)
				}
				must(t, s.wallets.SetWeather(simwallet.Weather{}))
				w.calm()
				s.delivered()
				s.agree()
				if t.Failed() {
					t.Fatalf("with %v", d.kind)
				}
			}
			s.heardRight()
			t.Log(codes)
		})
	}
}

// The answer is lost on its way to the terminal, or its line is: reversals and
// repeats end with both sides of one mind.
func TestFollowersWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]terminal.Fault{"drop": {DropAnswer: true}, "hang up": {HangUp: true}, "twice": {Twice: true}, "withhold": {Withhold: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := faultStreet(t, withTimeout(5*time.Second))
			w := s.worker(t, 4)
			for _, d := range deeds {
				x := w.prepare(d)
				f := fault
				x.Fault = &f
				res, err := w.term.Transact(t.Context(), x)
				if name == "twice" && (err != nil || !res.Approved() || res.Repeated == nil || res.Repeated.Code != res.Code || res.Repeated.RRN != res.RRN) {
					t.Errorf("%v twice: %+v and %+v, %v", d.kind, res, res.Repeated, err)
				}
				if name == "hang up" { // the request may not even be read yet
					await(t, "the line is closed on both sides", func() bool { return s.sw.Connections() == 0 })
				}
				await(t, "all requests are answered", func() bool { return s.sw.InFlight() == 0 })
				w.calm()
				s.delivered()
				s.agree()
				if t.Failed() {
					t.Fatalf("with %v", d.kind)
				}
			}
			s.heardRight()
		})
	}
}

// The process ends while the issuer thinks, and another begins on what it left:
// requests are taken back and what they stand on stands, advices are delivered.
func TestFollowersAtACrash(t *testing.T) {
	t.Parallel()
	for _, d := range deeds {
		t.Run(d.kind.String(), func(t *testing.T) {
			t.Parallel()
			s := faultStreet(t, withTimeout(600*time.Millisecond))
			w := s.worker(t, 4)
			x := w.prepare(d)
			s.weather("north", issuer.Weather{Delay: 300 * time.Millisecond})
			must(t, s.wallets.SetWeather(simwallet.Weather{Delay: 150 * time.Millisecond}))
			before, orders := len(s.issuers["north"].Books()), s.asked()
			ended := make(chan error, 1)
			go func() {
				_, err := w.term.Transact(context.Background(), x)
				ended <- err
			}()
			if d.at != "" {
				s.booked(t, "north", before+1)
			} else {
				await(t, "the wallet was asked", func() bool { return s.asked() > orders })
			}
			must(t, s.db.Close()) // nothing is written any more, as in a process that is gone
			s.reopen()
			<-ended
			s.weather("north", issuer.Weather{})
			must(t, s.wallets.SetWeather(simwallet.Weather{}))
			state := w.term.State()
			must(t, w.term.Close())
			w.on(state)
			w.calm()
			s.delivered()
			s.agree()
			s.heardRight()
		})
	}
}

// asked is how many payments and refunds wallets have seen.
func (s *street) asked() (n int) {
	for _, o := range s.wallets.Orders() {
		n += o.Pays + len(o.Refunds)
	}
	return n
}

// on switches the terminal on with what it kept.
func (w *worker) on(state terminal.State) {
	w.t.Helper()
	w.term = w.s.terminal(w.i, func(c *terminal.Config) {
		c.KeepSlips, c.Profile.Tries, c.Profile.GiveUp, c.State, c.Observe = true, 4, true, state, w.watch
	})
	must(w.t, w.term.SignIn(context.Background()))
}

// An advice that waits for the one it is about spends no tries: only what its
// issuer has heard counts as one.
func TestAnAdviceThatWaits(t *testing.T) {
	t.Parallel()
	s := newStreet(t, withAll, withTimeout(slower*100*time.Millisecond), withConfig(func(c *switching.Config) {
		c.Owed.Backoff, c.Owed.BackoffMax = 20*time.Millisecond, 60*time.Millisecond
	}))
	w := s.worker(t, 4)
	must(t, s.issuers["north"].Next(issuer.Order{Kind: issuer.OfflineSale, Storm: issuer.Silent, Count: 3}, issuer.Order{Kind: issuer.Adjust, Storm: issuer.Silent, Count: 2}))
	res, err := w.term.Transact(t.Context(), w.fresh(terminal.KindOfflineSale))
	if err != nil || res.Code != "00" {
		t.Fatalf("answered %q, %v", res.Code, err)
	}
	slip, _ := w.term.Slip(w.term.State().STAN)
	if res, err = w.term.Transact(t.Context(), terminal.Transaction{Kind: terminal.KindAdjust, Original: &slip, Amount: slip.Amount + 100}); err != nil || res.Code != "00" {
		t.Fatalf("answered %q, %v", res.Code, err)
	}
	s.delivered()
	s.agree()
	rows := s.journalOf(w.term.TID())
	for i, least := range []int{4, 3} {
		e := s.issuers["north"].Books()[i] // a busy machine may answer too late, and is asked again
		if heard := 1 + e.Repeats; e.RRN != rows[i].RRN || heard < least || int(rows[i].Debt.Tries) != heard {
			t.Errorf("the %s has %d tries; %s was heard %d times, want %d or more", rows[i].Kind, rows[i].Debt.Tries, e.RRN, heard, least)
		}
	}
}
