package terminal

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"acquirer/hsm/algo"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tid, mid = "10000001", "898110054110001"

// open returns a terminal at h that has signed in, to be hung up at the end.
func open(t *testing.T, h *host, change func(*Config)) *Terminal {
	t.Helper()
	cfg := Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Dial: h.dial, Timeout: 5 * time.Second, Book: new(Book)}
	if change != nil {
		change(&cfg)
	}
	term, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := term.Close(); err != nil {
			t.Error(err)
		}
		h.conns.Wait()
	})
	if err := term.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	return term
}

// cardOf finds a card of an issuer with or without a chip.
func cardOf(t *testing.T, issuer int, cond simcard.Condition, chip bool) *simcard.Card {
	t.Helper()
	for i := range 200 {
		c, err := simcard.New(simcard.Issuers[issuer].PANWith(cond, i))
		if err != nil {
			t.Fatal(err)
		}
		if c.HasChip == chip {
			return c
		}
	}
	t.Fatal("no such card")
	return nil
}

func (b *Book) only(t *testing.T) Record {
	t.Helper()
	r := b.Records()
	if len(r) != 1 {
		t.Fatalf("%d records in the book, want 1", len(r))
	}
	return r[0]
}

// Every profile of keys and MAC, every way of reading a card, with and without
// a PIN: the host checks MAC, PIN block, track, cryptogram and the fields that
// belong together.
func TestSales(t *testing.T) {
	profiles := map[string]struct {
		p       Profile
		fullMAK bool
	}{
		"single DES":            {p: Profile{KeySet: 1}},
		"double, single MAK":    {p: Profile{KeySet: 3}},
		"double, double MAK":    {p: Profile{KeySet: 3}, fullMAK: true},
		"double with track key": {p: Profile{KeySet: 4}},
		"PIN without PAN":       {p: Profile{PIN: PINWithoutPAN}},
		"X9.19":                 {p: Profile{KeySet: 3, MAC: MACX919}, fullMAK: true},
		"X9.9":                  {p: Profile{KeySet: 1, MAC: MACX99}},
		"CMAC":                  {p: Profile{KeySet: 4, MAC: MACCMAC}, fullMAK: true},
	}
	for name, c := range profiles {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.fullMAK = c.fullMAK
			if c.p.MAC != "" {
				h.alg = c.p.MAC
			}
			term := open(t, h, func(cfg *Config) { cfg.Profile = c.p })
			for _, entry := range []Entry{Chip, Contactless, Stripe, Keyed, Fallback} {
				for issuer := range simcard.Issuers {
					card := cardOf(t, issuer, simcard.Good, entry == Chip || entry == Contactless)
					for _, pin := range []string{"", card.PIN} {
						res, err := term.Sale(t.Context(), Sale{Amount: 12345, Card: card, Entry: entry, PIN: pin})
						if err != nil || !res.Approved() || res.Code != "00" || res.AuthCode != "A12345" || res.RRN == "" || res.Amount != 12345 {
							t.Fatalf("%s issuer %d PIN %v: %+v, %v", entry, issuer, pin != "", res, err)
						}
					}
				}
			}
			if n := term.cfg.Book.Count()[Approved]; n != 5*4*2 {
				t.Errorf("the book has %d approvals", n)
			}
			if term.Pending() {
				t.Error("a reversal is pending after answered sales")
			}
		})
	}
}

func TestDeclines(t *testing.T) {
	h := newHost(t)
	term := open(t, h, nil)
	for _, c := range []simcard.Condition{simcard.Lost, simcard.Stolen, simcard.WrongPIN, simcard.NoMoney, simcard.BadChip} {
		card := cardOf(t, 1, c, true)
		res, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card, PIN: card.PIN})
		if err != nil || res.Code != c.Code() || res.Approved() {
			t.Errorf("condition %s: %q, %v, want %s", c, res.Code, err, c.Code())
		}
		rec, ok := term.cfg.Book.Get(Key{tid, 1, res.STAN})
		if !ok || rec.Status != Declined || rec.Code != c.Code() || term.Pending() {
			t.Errorf("condition %s: book %+v, pending %v", c, rec, term.Pending())
		}
	}
}

// The working keys of cup_pin_keys.json: DE 62 in force only when every check
// value fits.
func TestSignInVectors(t *testing.T) {
	var vectors []struct {
		Source, Name string
		TMK          string `json:"tmk_hex"`
		Encrypted    string `json:"encrypted_hex"`
		Clear        string `json:"clear_hex"`
		KCV          string `json:"kcv_hex"`
	}
	b, err := os.ReadFile("testdata/cup_working_keys.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	bySource := map[string][]byte{}
	tmks := map[string][16]byte{}
	want := map[string][][]byte{}
	for _, v := range vectors {
		enc := unhex(t, v.Encrypted)
		if v.Name == "MAK" && len(enc) == 8 {
			enc = append(enc, make([]byte, 8)...)
		}
		bySource[v.Source] = append(append(bySource[v.Source], enc...), unhex(t, v.KCV)...)
		tmks[v.Source] = [16]byte(unhex(t, v.TMK))
		want[v.Source] = append(want[v.Source], unhex(t, v.Clear))
	}
	if len(bySource) != 3 {
		t.Fatalf("%d key sets in the vectors", len(bySource))
	}
	for source, de62 := range bySource {
		t.Run(source, func(t *testing.T) {
			set := map[int]int{40: 3, 60: 4}[len(de62)]
			h := newHost(t)
			bad := -1
			h.reply = func(_ *host, _, ans *spec.Message) []byte {
				d := bytes.Clone(de62)
				if bad >= 0 {
					d[bad] ^= 1
				}
				ans.SetBytes(62, d)
				return nil
			}
			term, err := New(Config{TID: tid, MID: mid, TMK: tmks[source], Dial: h.dial, Profile: Profile{KeySet: set}})
			if err != nil {
				t.Fatal(err)
			}
			defer h.conns.Wait()
			defer term.Close()
			for _, bad = range []int{0, 16, 36} {
				if err := term.SignIn(t.Context()); !errors.Is(err, ErrKeys) {
					t.Errorf("byte %d changed: %v", bad, err)
				}
			}
			if term.keys.MAK != nil {
				t.Fatal("keys in force after a wrong check value")
			}
			bad = -1
			if err := term.SignIn(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := []*algo.Key{term.keys.PIK, term.keys.MAK, term.keys.TDK}
			for i, clear := range want[source] {
				k, err := algo.NewDESKey(clear)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(k.CheckValue(), got[i].CheckValue()) || got[i].Len() != len(clear) {
					t.Errorf("key %d is another: %v", i, got[i])
				}
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The MACs of cup_mac.json and the published X9.19 example.
func TestMACVectors(t *testing.T) {
	var vectors []struct {
		Source    string
		Key       string `json:"key_hex"`
		Data      string `json:"data_hex"`
		Algorithm MACAlg
		DE64      string `json:"de64_hex"`
	}
	b, err := os.ReadFile("testdata/cup_mac.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		k, err := algo.NewDESKey(unhex(t, v.Key))
		if err != nil {
			t.Fatal(err)
		}
		got, err := computeMAC(k, v.Algorithm, unhex(t, v.Data))
		if err != nil || !bytes.Equal(got[:], unhex(t, v.DE64)) {
			t.Errorf("%s: MAC %X, %v, want %s", v.Source, got, err, v.DE64)
		}
	}
	single, err := algo.NewDESKey(make([]byte, 8))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := computeMAC(single, MACX919, nil); err == nil {
		t.Error("X9.19 under a single-length key")
	}
	if _, err := computeMAC(single, "sm4", nil); err == nil {
		t.Error("an unknown MAC")
	}
}

// A refused or wrong answer to sign-in leaves the keys that were in force.
func TestSignInKeepsItsKeys(t *testing.T) {
	h := newHost(t)
	term := open(t, h, nil)
	before := term.keys
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		if req.MTI() == 0x0800 {
			ans.Unset(62)
			ans.Set(39, "97")
		}
		return nil
	}
	var refused *Refusal
	if err := term.SignIn(t.Context()); !errors.As(err, &refused) || refused.Code != "97" {
		t.Errorf("a refused sign-in: %v", err)
	}
	if term.keys != before {
		t.Error("the keys changed")
	}
	for _, set := range []string{"001", "004"} { // the terminal asked for 003
		h := newHost(t)
		h.set = set
		other, err := New(Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Dial: h.dial})
		if err != nil {
			t.Fatal(err)
		}
		if err := other.SignIn(t.Context()); !errors.Is(err, ErrKeys) {
			t.Errorf("keys of set %s: %v", set, err)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		h.conns.Wait()
	}
}

func TestBatchComesFromTheHost(t *testing.T) {
	h := newHost(t)
	h.batch = "000123"
	term := open(t, h, nil)
	card := cardOf(t, 0, simcard.Good, true)
	if _, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card}); err != nil {
		t.Fatal(err)
	}
	if r := term.cfg.Book.only(t); r.Batch != 123 || term.State().Batch != 123 {
		t.Errorf("batch %d in the book, %d in the state", r.Batch, term.State().Batch)
	}
}

func TestManagement(t *testing.T) {
	h := newHost(t)
	term := open(t, h, nil)
	if err := term.Echo(t.Context()); err != nil {
		t.Error(err)
	}
	if err := term.SignOff(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := term.Sale(t.Context(), Sale{Amount: 1, Card: cardOf(t, 0, simcard.Good, true)}); !errors.Is(err, ErrNoKeys) {
		t.Errorf("a sale after sign-off: %v", err)
	}
	if got := h.types(); !slices.Equal(got, []spec.MTI{0x0800, 0x0820, 0x0820}) {
		t.Errorf("the host saw %v", got)
	}
}

// The host may ask for a sign-in by DE 39 or by its header; the terminal signs
// in before the next transaction.
func TestSignsInAgain(t *testing.T) {
	for _, code := range []string{"A0", "77", "99", "demand"} {
		h := newHost(t)
		term := open(t, h, nil)
		first := true
		h.reply = func(h *host, req, ans *spec.Message) []byte {
			if req.MTI() != 0x0200 || !first {
				return nil
			}
			first = false
			if code != "demand" {
				ans.Set(39, code)
				return nil
			}
			f := spec.POSFrame{TPDU: [5]byte{0x60}, Header: [6]byte{0x60}}
			out, err := f.AppendReply(nil, spec.DemandSignIn, ans)
			if err != nil {
				t.Error(err)
			}
			h.sign(req.Text(41), spec.FrameBody(out))
			return out
		}
		card := cardOf(t, 0, simcard.Good, true)
		for range 2 {
			if _, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card}); err != nil {
				t.Fatal(err)
			}
		}
		if got := h.types(); !slices.Equal(got, []spec.MTI{0x0800, 0x0200, 0x0800, 0x0200}) {
			t.Errorf("%s: the host saw %v", code, got)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{TID: tid, MID: mid, Dial: newHost(t).dial, TMK: simcard.TestTMK(tid)}
	for name, spoil := range map[string]func(*Config){
		"TID":      func(c *Config) { c.TID = "1" },
		"MID":      func(c *Config) { c.MID = "1" },
		"Dial":     func(c *Config) { c.Dial = nil },
		"tpdu":     func(c *Config) { c.Profile.TPDU = "60" },
		"header":   func(c *Config) { c.Profile.Header = "zz3100000000" },
		"key_set":  func(c *Config) { c.Profile.KeySet = 6 },
		"mac":      func(c *Config) { c.Profile.MAC = "md5" },
		"sm4":      func(c *Config) { c.Profile.MAC = MACSM4 },
		"pin":      func(c *Config) { c.Profile.PIN = "none" },
		"track":    func(c *Config) { c.Profile.Track = "half" },
		"batch":    func(c *Config) { c.Profile.BatchRule = "nobody" },
		"download": func(c *Config) { c.Profile.Download = "421" },
		"tries":    func(c *Config) { c.Profile.Tries = 99 },
		"operator": func(c *Config) { c.Profile.Operator = "0001" },
		"pending":  func(c *Config) { c.State.Pending = []byte{1, 2, 3} },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("a configuration with a wrong %s passes", name)
		}
	}
	term, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := term.Sale(t.Context(), Sale{}); !errors.Is(err, ErrNoKeys) {
		t.Errorf("a sale before sign-in: %v", err)
	}
	if _, err := term.Reverse(t.Context(), Reversal{}); err == nil {
		t.Error("a reversal of nothing")
	}
}

// A late answer to an earlier request is not the answer to this one.
func TestLateAnswersAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		card := cardOf(t, 0, simcard.Good, true)
		late := make(chan []byte, 1)
		h.reply = func(h *host, req, ans *spec.Message) []byte {
			frame := h.frame(req.Text(41), ans)
			switch req.MTI() {
			case 0x0200:
				if len(h.reversed) == 0 {
					late <- frame
					return []byte{}
				}
			case 0x0400:
				return append(<-late, frame...)
			}
			return frame
		}
		started := time.Now()
		if _, err := term.Sale(t.Context(), Sale{Amount: 100, Card: card}); !errors.Is(err, ErrTimeout) || !term.Pending() {
			t.Fatalf("an unanswered sale: %v, pending %v", err, term.Pending())
		}
		if d := time.Since(started); d != 5*time.Second {
			t.Errorf("the terminal waited %v", d)
		}
		line := term.conn
		res, err := term.Sale(t.Context(), Sale{Amount: 200, Card: card})
		if err != nil || !res.Approved() || res.Amount != 200 {
			t.Fatalf("the next sale: %+v, %v", res, err)
		}
		if term.conn != line {
			t.Error("the terminal dialled again although no frame was cut")
		}
		if got := h.types(); !slices.Equal(got, []spec.MTI{0x0800, 0x0200, 0x0400, 0x0200}) {
			t.Errorf("the host saw %v", got)
		}
		n := term.cfg.Book.Count()
		if n[Reversed] != 1 || n[Approved] != 1 || len(n) != 2 {
			t.Errorf("book %v", n)
		}
	})
}

func TestContextEndsAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		term := open(t, h, nil)
		h.reply = func(*host, *spec.Message, *spec.Message) []byte { time.Sleep(time.Second); return nil }
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		started := time.Now()
		_, err := term.Sale(ctx, Sale{Amount: 100, Card: cardOf(t, 0, simcard.Good, true)})
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || !term.Pending() {
			t.Errorf("%v, pending %v", err, term.Pending())
		}
		if d := time.Since(started); d != 100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		if _, err := term.Reverse(ctx, Reversal{}); err == nil || !term.Pending() {
			t.Errorf("a reversal after the end: %v", err)
		}
	})
}

// SM4 working keys: set 005, its last check value perhaps cut, and a MAC under
// them.
func TestSM4(t *testing.T) {
	tmk := simcard.TestTMK(tid)
	k, err := algo.NewKey(algo.SM4, tmk[:])
	if err != nil {
		t.Fatal(err)
	}
	var de62 []byte
	var keys algo.SignInKeys
	for i, to := range []**algo.Key{&keys.PIK, &keys.MAK, &keys.TDK} {
		clear := simcard.TestKey("SM4 " + string(rune('1'+i)))
		if *to, err = algo.NewKey(algo.SM4, clear[:]); err != nil {
			t.Fatal(err)
		}
		var sealed [16]byte
		if err := k.EncryptECB(sealed[:], clear[:]); err != nil {
			t.Fatal(err)
		}
		de62 = append(append(de62, sealed[:]...), (*to).CheckValue()[:4]...)
	}
	for _, mac := range []MACAlg{MACUnionPay, MACSM4} {
		for _, n := range []int{57, 60} {
			h := newHost(t)
			h.alg = mac
			h.reply = func(h *host, req, ans *spec.Message) []byte {
				if req.MTI() == 0x0800 {
					if req.Text(53) != "0400000000000000" || req.Text(60) != "00000001005" {
						t.Errorf("DE 53 %q, 60 %q", req.Text(53), req.Text(60))
					}
					ans.SetBytes(62, de62[:n])
					h.keys[tid] = keys
				}
				return nil
			}
			term := open(t, h, func(c *Config) { c.Profile = Profile{KeySet: 5, MAC: mac} })
			card := cardOf(t, 0, simcard.Good, true)
			sale := Sale{Amount: 100, Card: card, Entry: Keyed}
			if res, err := term.Sale(t.Context(), sale); err != nil || !res.Approved() {
				t.Fatalf("%s, %d bytes: %+v, %v", mac, n, res, err)
			}
			de62[n-1] ^= 1
			if err := term.SignIn(t.Context()); !errors.Is(err, ErrKeys) {
				t.Errorf("a check value that does not fit: %v", err)
			}
			de62[n-1] ^= 1
		}
	}
}
