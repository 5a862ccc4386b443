package issuer

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"acquirer/card"
	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// walk is a bank with two cards and everything that was ever asked of it.
type walk struct {
	b     *bank
	cards []card.PAN
	asked []*Entry
}

// standing is what an entry is and does; purses are what the accounts have.
type (
	standing struct {
		state        State
		takes, holds money.Amount
	}
	purse struct{ ledger, held money.Amount }
)

func (w *walk) look() (map[*Entry]standing, map[string]purse) {
	entries, accounts := map[*Entry]standing{}, map[string]purse{}
	for _, e := range w.b.books {
		entries[e] = standing{e.State, e.Takes, e.Holds}
	}
	for number, a := range w.b.accounts {
		accounts[number] = purse{a.ledger, a.held}
	}
	return entries, accounts
}

// ask sends a request of a random kind, most often about something that was
// asked before.
func (w *walk) ask(t *rapid.T) *Entry {
	kind := rapid.SampledFrom(Kinds[:len(Kinds)-1]).Draw(t, "kind") // all but reversals
	mti := spec.MTI(0x0200)
	switch {
	case kind == Preauth || kind == PreauthVoid:
		mti = 0x0100
	case kind == Refund || kind.told():
		mti = 0x0220
	}
	e := &Entry{Trace: Trace{MTI: mti, STAN: uint32(len(w.b.books) + 1)}, Kind: kind, credit: rapid.Bool().Draw(t, "credit"),
		PAN: rapid.SampledFrom(w.cards).Draw(t, "card"), Amount: money.Amount(rapid.IntRange(1, 60).Draw(t, "amount"))}
	wish := wish{part: rapid.Bool().Draw(t, "part")}
	if _, follows := originals[kind]; follows && len(w.asked) > 0 {
		o := rapid.SampledFrom(w.asked).Draw(t, "original")
		wish.original, e.PAN = &o.Trace, o.PAN
		if rapid.IntRange(0, 3).Draw(t, "exactly") > 0 {
			total, _ := o.worth()
			e.Amount = max(1, total+o.Holds)
		}
	}
	if w.b.claim(e) != nil {
		t.Fatalf("a new trace is in the books")
	}
	w.b.decide(e, "00", wish)
	w.asked = append(w.asked, e)
	return e
}

func (w *walk) reverse(t *rapid.T, e *Entry) string {
	var m spec.Message
	m.Reset(spec.CUPS, 0x0420)
	m.Set(2, e.PAN.Reveal())
	m.SetInt(4, e.Amount.Fen())
	code, _ := w.b.reverse(e.Trace, &m, time.Time{})
	if code != "00" && code != "12" {
		t.Fatalf("the reversal of %+v is answered %s", e, code)
	}
	return code
}

// check is what must be so whatever happened: the money that is gone from the
// accounts is what the standing books took, and no books take twice.
func (w *walk) check(t *rapid.T) {
	takes, holds := map[string]money.Amount{}, map[string]money.Amount{}
	for _, e := range w.b.books {
		number := e.PAN.Reveal()
		takes[number] += e.Takes
		holds[number] += e.Holds
		if e.State != Approved && (e.Takes != 0 || e.Holds != 0) {
			t.Fatalf("%+v is %s and moves money", e, e.State)
		}
		undoes, completes := 0, 0
		for _, x := range e.by {
			if x.alive() && x.Kind.voids() {
				undoes++
			}
			if x.alive() && x.Kind.completes() {
				completes++
			}
			if x.alive() && !x.Kind.voids() && x.Kind != ScriptResult && (!e.alive() || e.State == Voided && x.Takes != 0) {
				t.Fatalf("a %s of %s stands on a %s that is %s", x.Kind, x.Amount, e.Kind, e.State)
			}
		}
		if undoes > 1 || completes > 1 {
			t.Fatalf("%+v was undone %d times, completed %d times", e, undoes, completes)
		}
		if total, refunded := e.worth(); e.State == Approved && (e.Kind == Sale || e.Kind == OfflineSale) && (total < refunded || total < 0) {
			t.Fatalf("%s of %s: worth %s, refunded %s", e.Kind, e.Amount, total, refunded)
		}
	}
	for number, a := range w.b.accounts {
		if gone := a.opening - a.ledger; gone != takes[number] || a.held != holds[number] {
			t.Fatalf("%s gone and %s held, the books took %s and hold %s", gone, a.held, takes[number], holds[number])
		}
	}
	if tot := w.b.totals(); tot.Requests != len(w.b.books) {
		t.Fatalf("%d requests in the totals, %d in the books", tot.Requests, len(w.b.books))
	}
}

// TestWalk asks, reverses and repeats at random. Besides what check says, a
// reversal leaves everything as it was before what it reverses.
func TestWalk(t *testing.T) {
	is, _ := simcard.IssuerNamed("north")
	rapid.Check(t, func(t *rapid.T) {
		w := &walk{b: newBank(200, 115, false), cards: []card.PAN{is.PAN(1), is.PAN(2)}}
		for _, pan := range w.cards {
			w.b.account(pan)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": w.check,
			"ask": func(t *rapid.T) {
				w.ask(t)
			},
			"ask, and take it back": func(t *rapid.T) {
				entries, accounts := w.look()
				e := w.ask(t)
				if e.MTI == 0x0220 {
					return
				}
				if code := w.reverse(t, e); code != "00" || e.alive() {
					t.Fatalf("the reversal of the last one is answered %s", code)
				}
				after, purses := w.look()
				delete(after, e)
				if !maps.Equal(entries, after) || !maps.Equal(accounts, purses) {
					t.Fatalf("a reversed %s left a mark: %v\n%v", e.Kind, accounts, purses)
				}
			},
			"reverse": func(t *rapid.T) {
				requests := slices.DeleteFunc(slices.Clone(w.asked), func(e *Entry) bool { return e.MTI == 0x0220 })
				if len(requests) == 0 {
					t.Skip("nothing to reverse")
				}
				e := rapid.SampledFrom(requests).Draw(t, "original")
				code := w.reverse(t, e)
				if code == "00" && e.alive() || code == "12" && !e.alive() {
					t.Fatalf("answered %s, and the %s is %s", code, e.Kind, e.State)
				}
				entries, accounts := w.look()
				if again := w.reverse(t, e); again != code {
					t.Fatalf("a reversal was answered %s, its repeat %s", code, again)
				}
				if after, purses := w.look(); !maps.Equal(entries, after) || !maps.Equal(accounts, purses) {
					t.Fatalf("the repeat of a reversal of %s did something", e.Kind)
				}
			},
		})
	})
}
