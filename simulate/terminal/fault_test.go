package terminal

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// Each wrong answer makes the sale fail in its own way and leaves a reversal
// with its own reason, which goes before the next sale (protocol.md 1.6, 8.1).
func TestWrongAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(h *host, req, ans *spec.Message) []byte
		want   Failure
		reason Reason
	}{
		{"MAC wrong", func(h *host, req, ans *spec.Message) []byte {
			f := h.frame(req.Text(41), ans)
			f[len(f)-1] ^= 1
			return f
		}, ErrMAC, ReasonMAC},
		{"MAC missing", func(_ *host, _, ans *spec.Message) []byte { ans.Unset(64); return nil }, ErrMAC, ReasonMAC},
		{"amount", func(_ *host, _, ans *spec.Message) []byte { ans.SetInt(4, 1); return nil }, ErrMismatch, ReasonOther},
		{"processing code", func(_ *host, _, ans *spec.Message) []byte { ans.Set(3, "200000"); return nil }, ErrMismatch, ReasonOther},
		{"terminal", func(_ *host, _, ans *spec.Message) []byte { ans.Set(41, "10000002"); return nil }, ErrMismatch, ReasonOther},
		{"merchant", func(_ *host, _, ans *spec.Message) []byte { ans.Set(42, "898110054110002"); return nil }, ErrMismatch, ReasonOther},
		{"no trace number", func(_ *host, _, ans *spec.Message) []byte { ans.Unset(11); return nil }, ErrMismatch, ReasonOther},
		{"ARPC", func(_ *host, _, ans *spec.Message) []byte {
			ans.SetBytes(55, spec.AppendTLV(nil, 0x91, []byte("12345678"+"00")))
			return nil
		}, ErrARPC, ReasonOther},
		{"unreadable", func(h *host, req, ans *spec.Message) []byte {
			f := h.frame(req.Text(41), ans)
			return append(append([]byte{f[0], f[1] - 3}, f[2:len(f)-3]...), nil...)
		}, ErrFormat, ReasonOther},
		{"frame too short", func(*host, *spec.Message, *spec.Message) []byte { return []byte{0, 3, 1, 2, 3} }, ErrFormat, ReasonOther},
		{"frame too long", func(*host, *spec.Message, *spec.Message) []byte { return []byte{0xFF, 0xFF, 0x60} }, ErrFormat, ReasonOther},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			term := open(t, h, nil)
			h.reply = func(h *host, req, ans *spec.Message) []byte {
				if req.MTI() != 0x0200 || len(h.reversed) > 0 {
					return nil
				}
				return c.spoil(h, req, ans)
			}
			card := cardOf(t, 0, simcard.Good, true)
			_, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card, PIN: card.PIN})
			if !errors.Is(err, c.want) || !term.Pending() || term.State().Reason != c.reason {
				t.Fatalf("%v; pending %v, reason %s", err, term.Pending(), term.State().Reason)
			}
			if r := term.cfg.Book.only(t); r.Status != Unknown {
				t.Errorf("book says %s before the reversal", r.Status)
			}
			res, err := term.Sale(t.Context(), Sale{Amount: 200, Card: card, PIN: card.PIN})
			if err != nil || !res.Approved() {
				t.Fatalf("the next sale: %+v, %v", res, err)
			}
			if len(h.reversed) != 1 || h.reversed[tid+"000002"] != string(c.reason) {
				t.Errorf("the host heard reversals %v", h.reversed)
			}
			if n := term.cfg.Book.Count(); n[Reversed] != 1 || n[Approved] != 1 {
				t.Errorf("book %v", n)
			}
		})
	}
}

// Answers that terminals take although a field differs.
func TestToleratedAnswers(t *testing.T) {
	for name, change := range map[string]func(ans *spec.Message){
		"partial approval with another amount": func(ans *spec.Message) { ans.Set(39, "10"); ans.SetInt(4, 50) },
		"decline with another merchant":        func(ans *spec.Message) { ans.Set(39, "51"); ans.Set(42, "898110054110002") },
		"decline without a MAC":                func(ans *spec.Message) { ans.Set(39, "96"); ans.Unset(64) },
		"answer without DE 3 and 4":            func(ans *spec.Message) { ans.Unset(3); ans.Unset(4) },
	} {
		h := newHost(t)
		term := open(t, h, nil)
		h.reply = func(_ *host, _, ans *spec.Message) []byte { change(ans); return nil }
		if _, err := term.Sale(t.Context(), Sale{Amount: 100, Card: cardOf(t, 0, simcard.Good, true)}); err != nil || term.Pending() {
			t.Errorf("%s: %v, pending %v", name, err, term.Pending())
		}
		want := money.Amount(100)
		if strings.HasPrefix(name, "partial") {
			want = 50
		}
		if r := term.cfg.Book.only(t); r.Amount != want {
			t.Errorf("%s: the book says %s", name, r.Amount)
		}
	}
}

func TestFaultsOnRequest(t *testing.T) {
	card := func(t *testing.T) *simcard.Card { return cardOf(t, 0, simcard.Good, true) }

	t.Run("wrong MAC", func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		res, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card(t), Fault: &Fault{WrongMAC: true}})
		if err != nil || res.Code != "A0" || len(h.approved) != 0 || term.Pending() {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("no MAC", func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		res, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card(t), Fault: &Fault{NoMAC: true}})
		if err != nil || res.Code != "A0" || len(h.approved) != 0 {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("changed before signing", func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		res, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card(t), Entry: Keyed,
			Fault: &Fault{Change: func(m *spec.Message) { m.SetInt(4, 777) }}})
		if err != nil || !res.Approved() || res.Amount != 777 || h.approved[tid+"000002"] != 777 {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("corrupted behind the MAC", func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		res, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card(t), Entry: Keyed,
			Fault: &Fault{Corrupt: func(b []byte) []byte { b[len(b)-20] ^= 1; return b }}})
		if err != nil || res.Code != "A0" {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("twice", func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		res, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card(t), Fault: &Fault{Twice: true}})
		if err != nil || !res.Approved() || res.Repeated == nil || !bytes.Equal(res.Body, res.Repeated.Body) {
			t.Errorf("%+v, %v", res, err)
		}
		if got := h.types(); !slices.Equal(got, []spec.MTI{0x0800, 0x0200, 0x0200}) {
			t.Errorf("the host saw %v", got)
		}
	})
	t.Run("hang up", func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		_, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card(t), Fault: &Fault{HangUp: true}})
		if !errors.Is(err, ErrLine) || !term.Pending() {
			t.Errorf("%v", err)
		}
		h.conns.Wait() // the host has approved by now, on the old line
		res, err := term.Reverse(t.Context(), Reversal{})
		if err != nil || res.Code != "00" || term.Pending() || len(h.approved) != 0 || h.reversed[tid+"000002"] != "98" {
			t.Errorf("reversal %+v, %v", res, err)
		}
	})
	t.Run("drop the answer", func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		_, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card(t), Fault: &Fault{DropAnswer: true}})
		if !errors.Is(err, ErrTimeout) || !term.Pending() || len(h.approved) != 1 {
			t.Errorf("%v", err)
		}
	})
	t.Run("reversal before its original", func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		_, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card(t), Fault: &Fault{Withhold: true}})
		if !errors.Is(err, ErrTimeout) || !term.Pending() {
			t.Fatal(err)
		}
		sale := term.LastFrame()
		res, err := term.Reverse(t.Context(), Reversal{Reason: ReasonOther})
		if err != nil || res.Code != "25" || term.Pending() {
			t.Fatalf("%+v, %v", res, err)
		}
		if err := term.Send(t.Context(), sale); err != nil {
			t.Fatal(err)
		}
		f, err := term.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var m spec.Message
		if err := spec.UnionPayPOS.Parse(&m, f.Body); err != nil || m.MTI() != 0x0210 || m.Text(11) != "000002" {
			t.Errorf("%v %s, %v", m.MTI(), m.Text(11), err)
		}
	})
	t.Run("raw bytes", func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		term, err := New(Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Dial: pipe(a)})
		if err != nil {
			t.Fatal(err)
		}
		defer term.Close()
		var got [3]byte
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := b.Read(got[:]); err != nil {
				t.Error(err)
			}
		})
		if err := term.Send(t.Context(), []byte{9, 8, 7}); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if got != [3]byte{9, 8, 7} {
			t.Errorf("% X", got)
		}
	})
}

// An approved sale is reversed on request, the approval code in DE 38; a host
// that refuses gets reason 06 and at most three tries.
func TestReversal(t *testing.T) {
	h := newHost(t)
	term := open(t, h, nil)
	card := cardOf(t, 2, simcard.Good, true)
	for _, entry := range []Entry{Chip, Stripe, Keyed} {
		if _, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card, Entry: entry}); err != nil {
			t.Fatal(err)
		}
		var got spec.Message
		h.reply = func(_ *host, req, _ *spec.Message) []byte {
			if err := spec.UnionPayPOS.Parse(&got, bytes.Clone(req.Raw())); err != nil {
				t.Error(err)
			}
			return nil
		}
		res, err := term.Reverse(t.Context(), Reversal{})
		if err != nil || res.Code != "00" || len(h.approved) != 0 {
			t.Fatalf("%s: %+v, %v", entry, res, err)
		}
		h.reply = nil
		if got.MTI() != 0x0400 || got.Text(38) != "A12345" || got.Text(39) != "98" || got.Text(60)[:2] != "22" {
			t.Errorf("%s: %v, DE 38 %q, 39 %q, 60 %q", entry, got.MTI(), got.Text(38), got.Text(39), got.Text(60))
		}
		for _, n := range []int{26, 35, 52, 53} {
			if got.Has(n) {
				t.Errorf("%s: the reversal carries DE %d", entry, n)
			}
		}
		if want := entry != Stripe; got.Has(2) != want || got.Has(14) != want || got.Has(55) != (entry == Chip) {
			t.Errorf("%s: DE 2 %v, 14 %v, 55 %v", entry, got.Has(2), got.Has(14), got.Has(55))
		}
		if entry == Chip {
			if _, ok := spec.FindTLV(got.Bytes(55), 0x9F36); !ok {
				t.Error("the reversal has no ATC")
			}
			if _, ok := spec.FindTLV(got.Bytes(55), 0x9F26); ok {
				t.Error("the reversal carries the cryptogram")
			}
		}
	}
}

func TestReversalTries(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []string // to each 0400; the last repeats
		giveUp  bool
		reasons []string
		pending bool
		status  Status
	}{
		{"taken at once", []string{"00"}, false, []string{"98"}, false, Reversed},
		{"no original", []string{"25"}, false, []string{"98"}, false, Reversed},
		{"in progress, then taken", []string{"22", "00"}, false, []string{"98", "06"}, false, Reversed},
		{"signs in for A0", []string{"A0", "00"}, false, []string{"98", "06"}, false, Reversed},
		{"never taken", []string{"96"}, false, []string{"98", "06", "06"}, true, Unknown},
		{"never taken, given up", []string{"96"}, true, []string{"98", "06", "06"}, false, Abandoned},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			term := open(t, h, func(cfg *Config) { cfg.Profile.GiveUp = c.giveUp })
			var reasons []string
			h.reply = func(_ *host, req, ans *spec.Message) []byte {
				if req.MTI() == 0x0400 {
					ans.Set(39, c.answers[min(len(reasons), len(c.answers)-1)])
					reasons = append(reasons, req.Text(39))
				}
				return nil
			}
			card := cardOf(t, 0, simcard.Good, true)
			if _, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card, Fault: &Fault{DropAnswer: true}}); err == nil {
				t.Fatal("the dropped answer was heard")
			}
			_, err := term.Sale(t.Context(), Sale{Amount: 200, Card: card})
			if errors.Is(err, ErrPending) != c.pending || !c.pending && err != nil || term.Pending() != c.pending {
				t.Errorf("the next sale: %v, pending %v", err, term.Pending())
			}
			if !slices.Equal(reasons, c.reasons) {
				t.Errorf("reasons %v, want %v", reasons, c.reasons)
			}
			if r := term.cfg.Book.Records()[0]; r.Status != c.status {
				t.Errorf("book says %s, want %s", r.Status, c.status)
			}
		})
	}
}

// The record outlives a power cut: a new terminal with the old one's saved
// state reverses before it sells. It is saved before the first byte leaves.
func TestReversalRecordSurvives(t *testing.T) {
	h := newHost(t)
	var flash State
	sawPending := false
	cfg := func(c *Config) {
		c.State = flash
		c.Save = func(s State) error { flash = s; return nil }
		c.Observe = func(tr Traffic) {
			if tr.Sent && len(tr.Bytes) > 15 && bytes.Equal(tr.Bytes[13:15], []byte{0x02, 0x00}) {
				sawPending = sawPending || len(flash.Pending) > 0
			}
		}
	}
	first := open(t, h, cfg)
	card := cardOf(t, 3, simcard.Good, true)
	if _, err := first.Sale(t.Context(), Sale{Amount: 100, Card: card, Fault: &Fault{HangUp: true}}); err == nil {
		t.Fatal("no error")
	}
	h.conns.Wait()
	if !sawPending {
		t.Error("the first byte left before the record was saved")
	}
	second := open(t, h, cfg)
	if !second.Pending() {
		t.Fatal("nothing pending after the power cut")
	}
	res, err := second.Sale(t.Context(), Sale{Amount: 200, Card: card})
	if err != nil || !res.Approved() {
		t.Fatal(err)
	}
	if h.reversed[tid+"000002"] != "98" || len(h.approved) != 1 || len(flash.Pending) != 0 {
		t.Errorf("reversed %v, approved %d", h.reversed, len(h.approved))
	}
	if res.STAN <= 2 {
		t.Errorf("trace number %d was used before", res.STAN)
	}
}

func TestStateThatCannotBeSaved(t *testing.T) {
	h := newHost(t)
	full := false
	term := open(t, h, func(c *Config) {
		c.Save = func(State) error {
			if full {
				return errors.New("flash is full")
			}
			return nil
		}
	})
	full = true
	_, err := term.Sale(t.Context(), Sale{Amount: 100, Card: cardOf(t, 0, simcard.Good, true)})
	if !errors.Is(err, ErrState) || term.Pending() || len(term.cfg.Book.Records()) != 0 {
		t.Errorf("%v, pending %v", err, term.Pending())
	}
	if got := h.types(); len(got) != 1 {
		t.Errorf("the host saw %v", got)
	}
}

// A dial that fails leaves nothing behind; the terminal comes back by itself.
func TestReconnects(t *testing.T) {
	h := newHost(t)
	term := open(t, h, nil)
	card := cardOf(t, 0, simcard.Good, true)
	if err := term.Close(); err != nil {
		t.Fatal(err)
	}
	down := errors.New("network is down")
	dial := term.cfg.Dial
	term.cfg.Dial = failing(down)
	if _, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card}); !errors.Is(err, ErrDial) || !errors.Is(err, down) || term.Pending() {
		t.Errorf("%v, pending %v", err, term.Pending())
	}
	term.cfg.Dial = dial
	if res, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card}); err != nil || !res.Approved() {
		t.Errorf("%+v, %v", res, err)
	}
	if n := term.cfg.Book.Count(); n[Approved] != 1 || len(n) != 1 {
		t.Errorf("book %v", n)
	}
}

// A host that closes in the middle of an answer, and one that stalls there.
func TestCutAnswers(t *testing.T) {
	for name, want := range map[string]Failure{"closes": ErrLine, "stalls": ErrTimeout} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				term := open(t, h, nil)
				h.reply = func(h *host, req, ans *spec.Message) []byte {
					if req.MTI() != 0x0200 {
						return nil
					}
					if f := h.frame(req.Text(41), ans); name == "stalls" {
						return f[:20]
					}
					return []byte{0}
				}
				if name == "closes" {
					dial := term.cfg.Dial
					if err := term.Close(); err != nil {
						t.Fatal(err)
					}
					term.cfg.Dial = closingAfter(dial, 1)
				}
				started := time.Now()
				_, err := term.Sale(t.Context(), Sale{Amount: 100, Card: cardOf(t, 0, simcard.Good, true)})
				if !errors.Is(err, want) || !term.Pending() || term.State().Reason != ReasonTimeout {
					t.Errorf("%v, pending %v", err, term.Pending())
				}
				if term.conn != nil {
					t.Error("the line stands although a frame was cut")
				}
				if d := time.Since(started); d > 5*time.Second {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

func TestObserverSeesEveryByte(t *testing.T) {
	h := newHost(t)
	var sent, received []byte
	term := open(t, h, func(c *Config) {
		c.Observe = func(tr Traffic) {
			if tr.TID != tid || tr.At.IsZero() {
				t.Errorf("traffic of %q at %v", tr.TID, tr.At)
			}
			if tr.Sent {
				sent = append(sent, tr.Bytes...)
			} else {
				received = append(received, tr.Bytes...)
			}
		}
	})
	if _, err := term.Sale(t.Context(), Sale{Amount: 100, Card: cardOf(t, 0, simcard.Good, true)}); err != nil {
		t.Fatal(err)
	}
	for _, stream := range [][]byte{sent, received} {
		n := 0
		r := bytes.NewReader(stream)
		for r.Len() > 0 {
			if _, _, err := spec.ReadPOSFrame(r, nil, 4096); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 2 {
			t.Errorf("%d frames recorded, want 2", n)
		}
	}
}
