package merchant

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/store"
	"acquirer/store/storetest"
)

func TestMain(m *testing.M) {
	code := storetest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const (
	mid = "898110054110001"
	tid = "10000001"
)

func testMerchant(mid string) Merchant {
	return Merchant{MID: mid, Name: "王芳手工饰品", MCC: "5944", Status: Active, City: "北京", Area: "110105", Plan: "MICRO-2025", Speed: T1, Tier: Assessed,
		Account: Account{Sealed: []byte{1, 2, 3}, Masked: "622848******0002", Name: "王芳", Bank: "农业银行", Class: 1}}
}

func testTerminal(tid, mid string) Terminal {
	return Terminal{TID: tid, MID: mid, Serial: "SN-" + tid, Status: Active, Profile: Profile{MAC: MACUnionPay, Shape: ShapeDouble, KeySet: 3, Track: TrackWhole, Batch: BatchLeads, Delivery: "420", Unlinked: 100, Signature: true, PIN: PINDUKPT}, TTK: "D-ttk-" + tid, TMK: "D-tmk-" + tid, Batch: 1}
}

func open(t *testing.T, db *store.DB) *Registry {
	t.Helper()
	r, err := OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Whoever walks the registry meets everybody, once, or as many as they like.
func TestWalks(t *testing.T) {
	db := storetest.SQLite(t, Schema)
	r := open(t, db)
	var merchants []Merchant
	var terminals []Terminal
	for i := range 5 {
		m := testMerchant(fmt.Sprintf("89811005411000%d", i))
		merchants, terminals = append(merchants, m), append(terminals, testTerminal(fmt.Sprintf("1000000%d", i), m.MID))
	}
	if err := r.Put(t.Context(), merchants, terminals); err != nil {
		t.Fatal(err)
	}
	mids, tids := map[string]int{}, map[string]int{}
	for m := range r.Merchants() {
		mids[m.MID]++
	}
	for x := range r.Terminals() {
		tids[x.TID]++
	}
	for i := range 5 {
		if mids[merchants[i].MID] != 1 || tids[terminals[i].TID] != 1 {
			t.Errorf("%v, %v", mids, tids)
		}
	}
	n := 0
	for range r.Merchants() {
		if n++; n == 2 {
			break
		}
	}
	for range r.Terminals() {
		if n++; n == 4 {
			break
		}
	}
	if n != 4 {
		t.Errorf("%d were met", n)
	}
}

func TestRegistry(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		one, two := open(t, db), open(t, db) // two nodes
		if err := one.Put(ctx, []Merchant{testMerchant(mid)}, []Terminal{testTerminal(tid, mid)}); err != nil {
			t.Fatal(err)
		}
		if _, ok := two.Terminal([]byte(tid)); ok {
			t.Fatal("the other node knows before it refreshed")
		}
		if n, err := two.Refresh(ctx); err != nil || n != 2 {
			t.Fatalf("refresh: %d rows, %v", n, err)
		}
		if n, err := two.Refresh(ctx); err != nil || n != 0 {
			t.Errorf("nothing changed and %d rows came, %v", n, err)
		}
		m, ok := two.Merchant([]byte(mid))
		want := testMerchant(mid)
		want.Version = m.Version
		if !ok || fmt.Sprint(*m) != fmt.Sprint(want) {
			t.Errorf("merchant came back as %+v, want %+v", m, want)
		}

		now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
		signIn := func(r *Registry, n string) *Terminal {
			t.Helper()
			out, err := r.SignIn(ctx, tid, Keys{TPK: "tpk" + n, TAK: "tak" + n, TDK: "tdk" + n}, now)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		if s, _ := one.Terminal([]byte(tid)); s.SignedIn() {
			t.Error("signed in before the first sign-in")
		}
		first := signIn(one, "1")
		if first.Keys.Generation != 1 || !first.Previous.None() || first.Keys.SignedIn != now.UnixMicro() {
			t.Errorf("first sign-in: %+v", first)
		}
		if s, _ := one.Terminal([]byte(tid)); s.Keys.TAK != "tak1" {
			t.Errorf("the node that stored the keys does not know them: %+v", s)
		}
		// The answer with generation 2 is lost, so is that of 3: the terminal
		// still uses 1, and the other node must accept it too.
		signIn(two, "2")
		if s := signIn(one, "3"); s.Keys.Generation != 3 || s.Previous.TAK != "tak1" {
			t.Errorf("after two lost answers: %+v", s)
		}
		if _, err := two.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if s, _ := two.Terminal([]byte(tid)); s.Keys.TAK != "tak3" || s.Previous.TAK != "tak1" {
			t.Errorf("other node: %+v", s)
		}
		// An old generation confirms nothing; the newest drops the older keys, once.
		if s, err := two.Confirm(ctx, tid, 2); err != nil || s.Previous.None() {
			t.Errorf("generation 2 confirmed: %+v, %v", s, err)
		}
		s, err := two.Confirm(ctx, tid, 3)
		if err != nil || !s.Previous.None() || s.Keys.TAK != "tak3" {
			t.Errorf("generation 3 confirmed: %+v, %v", s, err)
		}
		if again, err := two.Confirm(ctx, tid, 3); err != nil || again.Version != s.Version {
			t.Errorf("confirming twice wrote: %+v, %v", again, err)
		}
		// Registering it again keeps the keys; another TMK drops them.
		put := testTerminal(tid, mid)
		put.Status, put.TMK = Suspended, ""
		if err := one.Put(ctx, nil, []Terminal{put}); err != nil {
			t.Fatal(err)
		}
		if s, _ := one.Terminal([]byte(tid)); s.Status != Suspended || s.Keys.TAK != "tak3" || s.TMK != "D-tmk-"+tid {
			t.Errorf("registered again: %+v", s)
		}
		if s, err := one.SetTMK(ctx, tid, "D-new"); err != nil || s.SignedIn() || !s.Previous.None() || s.Keys.Generation != 3 {
			t.Errorf("new TMK: %+v, %v", s, err)
		}
		if s, err := one.SetBatch(ctx, tid, 42); err != nil || s.Batch != 42 {
			t.Errorf("batch: %+v, %v", s, err)
		}
		// What is on disk is what memory says.
		fresh := open(t, db)
		a, _ := one.Terminal([]byte(tid))
		b, _ := fresh.Terminal([]byte(tid))
		if *a != *b {
			t.Errorf("a fresh registry reads %+v, want %+v", b, a)
		}
	})
}

func TestRegistryRefuses(t *testing.T) {
	db := storetest.SQLite(t, Schema)
	r, ctx := open(t, db), t.Context()
	if _, err := r.SignIn(ctx, tid, Keys{TAK: "x"}, time.Now()); !errors.Is(err, ErrUnknown) {
		t.Errorf("sign-in of an unknown terminal: %v", err)
	}
	if err := r.Put(ctx, nil, []Terminal{testTerminal(tid, mid)}); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), mid) {
		t.Errorf("terminal of an unknown merchant: %v", err)
	}
	for name, spoil := range map[string]func(*Merchant, *Terminal){
		"MID":       func(m *Merchant, _ *Terminal) { m.MID = "short" },
		"name":      func(m *Merchant, _ *Terminal) { m.Name = "" },
		"category":  func(m *Merchant, _ *Terminal) { m.MCC = "59x4" },
		"area":      func(m *Merchant, _ *Terminal) { m.Area = "1101" },
		"plan":      func(m *Merchant, _ *Terminal) { m.Plan = "" },
		"speed":     func(m *Merchant, _ *Terminal) { m.Speed = "T9" },
		"tier":      func(m *Merchant, _ *Terminal) { m.Tier = "" },
		"class":     func(m *Merchant, _ *Terminal) { m.Account.Class = 0 },
		"status":    func(m *Merchant, _ *Terminal) { m.Status = "asleep" },
		"TID":       func(_ *Merchant, t *Terminal) { t.TID = "1" },
		"MAC":       func(_ *Merchant, t *Terminal) { t.Profile.MAC = "md5" },
		"shape":     func(_ *Merchant, t *Terminal) { t.Profile.Shape = "triple" },
		"track":     func(_ *Merchant, t *Terminal) { t.Profile.Track = "half" },
		"PIN":       func(_ *Merchant, t *Terminal) { t.Profile.PIN = "none" },
		"rule":      func(_ *Merchant, t *Terminal) { t.Profile.Batch = "wander" },
		"delivery":  func(_ *Merchant, t *Terminal) { t.Profile.Delivery = "421" },
		"amount":    func(_ *Merchant, t *Terminal) { t.Profile.Unlinked = -1 },
		"key set":   func(_ *Merchant, t *Terminal) { t.Profile.KeySet = 2 },
		"batch":     func(_ *Merchant, t *Terminal) { t.Batch = 0 },
		"terminal ": func(_ *Merchant, t *Terminal) { t.Status = "" },
	} {
		m, term := testMerchant(mid), testTerminal(tid, mid)
		spoil(&m, &term)
		if err := r.Put(ctx, []Merchant{m}, []Terminal{term}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("bad %s: %v", name, err)
		}
	}
	if n, m := r.Len(); n+m != 0 {
		t.Errorf("%d merchants and %d terminals after refusals", n, m)
	}
	for _, id := range []string{"", "1", "123456789", "12345678"} {
		if _, ok := r.Terminal([]byte(id)); ok {
			t.Errorf("terminal %q exists", id)
		}
		if _, ok := r.Merchant([]byte(id)); ok {
			t.Errorf("merchant %q exists", id)
		}
	}
	if _, err := r.SetBatch(ctx, tid, 0); err == nil {
		t.Error("batch 0 was taken")
	}
}

// Many sign-ins at once, on two nodes: generations are counted without a gap,
// and every node ends with the newest.
func TestSignInsAtOnce(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		nodes := []*Registry{open(t, db), open(t, db)}
		if err := nodes[0].Put(ctx, []Merchant{testMerchant(mid)}, []Terminal{testTerminal(tid, mid)}); err != nil {
			t.Fatal(err)
		}
		const writers, each = 8, 5
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for range each {
					if _, err := nodes[w%2].SignIn(ctx, tid, Keys{TAK: "x"}, time.Now()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for _, r := range nodes {
			if _, err := r.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			if s, _ := r.Terminal([]byte(tid)); s.Keys.Generation != writers*each {
				t.Errorf("generation %d after %d sign-ins", s.Keys.Generation, writers*each)
			}
		}
	})
}

func TestLookupsDoNotAllocate(t *testing.T) {
	r := open(t, storetest.SQLite(t, Schema))
	if err := r.Put(t.Context(), []Merchant{testMerchant(mid)}, []Terminal{testTerminal(tid, mid)}); err != nil {
		t.Fatal(err)
	}
	term, merch := []byte(tid), []byte(mid)
	if n := testing.AllocsPerRun(100, func() {
		s, _ := r.Terminal(term)
		m, _ := r.Merchant(merch)
		if s.MID != m.MID {
			t.Fatal("wrong merchant")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSeed(t *testing.T) {
	db := storetest.SQLite(t, Schema)
	r, ctx := open(t, db), t.Context()
	path := filepath.Join(t.TempDir(), "seed.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"merchants": [{"mid": "` + mid + `", "name": "夜市小摊", "mcc": "5814", "speed": "D0",
	  "account": {"number": "6228480402564890018", "bank": "农业银行", "class": 2}}],
	 "terminals": [{"tid": "` + tid + `", "mid": "` + mid + `", "serial": "SN1", "tmk": "D0112"}],
	 "issuers": [{"name": "north"}]}`)
	seal := func(number string) ([]byte, error) { return []byte("sealed:" + number[:2]), nil }
	s, err := LoadSeed(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Issuers) != `[{"name": "north"}]` {
		t.Errorf("issuers: %s", s.Issuers)
	}
	if err := r.Import(ctx, s, seal); err != nil {
		t.Fatal(err)
	}
	m, _ := r.Merchant([]byte(mid))
	if m.Account.Masked != "622848*********0018" || string(m.Account.Sealed) != "sealed:62" || m.Status != Active || m.Speed != D0 ||
		m.Plan != "ESIGN-STD" || m.Tier != Unassessed || m.Account.Class != 2 {
		t.Errorf("merchant %+v", m)
	}
	term, _ := r.Terminal([]byte(tid))
	if term.TMK != "D0112" || term.Profile != (Profile{MAC: MACUnionPay, Shape: ShapeDouble, KeySet: 3, Track: TrackTDB, Batch: BatchFollows, PIN: PINStatic}) || term.Batch != 1 || term.Status != Active {
		t.Errorf("terminal %+v", term)
	}
	// The next start finds what has happened since.
	if _, err := r.SetBatch(ctx, tid, 7); err != nil {
		t.Fatal(err)
	}
	if err := r.Import(ctx, s, seal); err != nil {
		t.Fatal(err)
	}
	if term, _ := r.Terminal([]byte(tid)); term.Batch != 7 {
		t.Errorf("the seed set the batch back to %d", term.Batch)
	}
	write("{\"merchants\": [\n{\"mid\": \"x\", \"nane\": \"y\"}]}")
	if _, err := LoadSeed(path); err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "nane") {
		t.Errorf("unknown field: %v", err)
	}
	if _, err := LoadSeed(path + ".none"); err == nil {
		t.Error("a missing file loads")
	}
	broken := func(string) ([]byte, error) { return nil, errors.New("no HSM") }
	s.Merchants[0].MID = "898110054110002"
	if err := r.Import(ctx, s, broken); err == nil || strings.Contains(err.Error(), "62284804025") {
		t.Errorf("sealing failed: %v", err)
	}
}

func TestWatch(t *testing.T) {
	db := storetest.SQLite(t, Schema)
	one, two := open(t, db), open(t, db)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { two.Watch(ctx, time.Millisecond, func(err error) { t.Error(err) }) })
	if err := one.Put(ctx, []Merchant{testMerchant(mid)}, []Terminal{testTerminal(tid, mid)}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, ok := two.Terminal([]byte(tid)); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the other node never saw the terminal")
		}
	}
	stop()
	wg.Wait()
}
