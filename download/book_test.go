package download

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/card"
	"acquirer/money"
	"acquirer/spec"
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
	mid     = "898110054110001"
	tid     = "10000001"
	another = "10000002"
	number  = "6228480000000000002"
)

// vault seals by turning the digits round; enough to see that nothing lies
// open.
type vault struct{ broken bool }

var errVault = errors.New("no HSM")

func (v *vault) Seal(_ context.Context, n string) ([]byte, [16]byte, error) {
	if v.broken {
		return nil, [16]byte{}, errVault
	}
	return turned([]byte(n)), tokenFor(n), nil
}

func (v *vault) Open(_ context.Context, sealed []byte, token [16]byte) (string, error) {
	n := string(turned(sealed))
	if v.broken || tokenFor(n) != token {
		return "", errVault
	}
	return n, nil
}

func turned(b []byte) []byte {
	b = slices.Clone(b)
	for i := range b {
		b[i] ^= 0x5A
	}
	return b
}

func tokenFor(n string) [16]byte {
	sum := sha256.Sum256([]byte("key" + n))
	return [16]byte(sum[:16])
}

func open(t *testing.T, db *store.DB) *Book {
	t.Helper()
	b, err := Open(t.Context(), db, &vault{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func yuanOf(n int64) *money.Amount { a := money.Yuan(n); return &a }

func TestBook(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		one, two := open(t, db), open(t, db) // two nodes
		if string(one.CAKeyPage(0)) != "0" || string(one.AIDPage(0)) != "0" || one.Demand(tid, mid) != spec.DemandNothing {
			t.Error("an empty house has something to give")
		}
		must(t, one.Import(ctx, BuiltIn()))
		if string(two.CAKeyPage(0)) != "0" {
			t.Fatal("the other node knows before it refreshed")
		}
		must(t, two.Refresh(ctx))
		for _, b := range []*Book{one, two, open(t, db)} {
			flag, list, err := spec.CutPage(b.CAKeyPage(0))
			must(t, err)
			refs, err := spec.ParseCAKeyRefs(list)
			must(t, err)
			if flag != spec.PageLast || len(refs) != len(BuiltIn().CAKeys) {
				t.Errorf("%c and %d keys", flag, len(refs))
			}
			for _, r := range refs {
				flag, objects, err := spec.CutPage(b.CAKey(r.CAKeyID))
				must(t, err)
				k, err := spec.ParseCAKey(objects)
				if err != nil || flag != spec.PageLast || k.Digest() != k.CheckHash || k.Expires != r.Expires {
					t.Errorf("key %s: %c %v", r, flag, err)
				}
			}
			aids, err := spec.ParseAIDs(b.AIDPage(0)[1:])
			must(t, err)
			if len(aids) != 4 {
				t.Errorf("%d applications", len(aids))
			}
			for _, aid := range aids {
				a, err := spec.ParseApplication(b.AID(aid)[1:])
				if err != nil || a.Check() != nil || a.CVMLimit != 100000 {
					t.Errorf("application %X: %+v, %v", aid, a, err)
				}
			}
			if string(b.CAKey(spec.CAKeyID{})) != "0" || string(b.AID([]byte("none"))) != "0" || string(b.CAKeyPage(99)) != "0" || string(b.AIDPage(4)) != "0" {
				t.Error("something is there that is not")
			}
			if pin, sign := b.Limits(tid, mid); pin != money.Yuan(1000) || sign != money.Yuan(1000) {
				t.Errorf("limits %s, %s", pin, sign)
			}
		}
		before := one.Newest(tid, mid)
		must(t, one.Import(ctx, BuiltIn())) // the next start
		if now := one.Newest(tid, mid); now != before {
			t.Errorf("the same set made versions %v out of %v", now, before)
		}
	})
}

func TestOverrides(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		b, ctx := open(t, db), t.Context()
		must(t, b.Import(ctx, BuiltIn()))
		parameters := func(tid string) string {
			t.Helper()
			de62, err := b.Parameters(tid, mid, "夜市小摊")
			must(t, err)
			var out []string
			for e, err := range spec.WalkParameters(de62) {
				must(t, err)
				out = append(out, e.Tag+"="+spec.ParameterText(e))
			}
			return strings.Join(out, " ")
		}
		if got := parameters(tid); got != "11=60 12=60 13=3 18=0 19=00 20=1 21=0 22=夜市小摊 23=3 24=0 27=10" {
			t.Errorf("the house's parameters: %s", got)
		}
		first := b.Newest(tid, mid)
		must(t, b.Override(ctx, mid, Override{Parameters: map[string]string{"23": "5", "18": "1"}, Limits: Small{NoPIN: yuanOf(500)}}))
		must(t, b.Override(ctx, tid, Override{Parameters: map[string]string{"23": "1", "22": "小摊二号"}, Limits: Small{NoSignature: yuanOf(0)}}))
		if got := parameters(tid); got != "11=60 12=60 13=3 18=1 19=00 20=1 21=0 22=小摊二号 23=1 24=0 27=10" {
			t.Errorf("the terminal's parameters: %s", got)
		}
		if got := parameters(another); got != "11=60 12=60 13=3 18=1 19=00 20=1 21=0 22=夜市小摊 23=5 24=0 27=10" {
			t.Errorf("the merchant's other terminal: %s", got)
		}
		if pin, sign := b.Limits(tid, mid); pin != money.Yuan(500) || sign != 0 {
			t.Errorf("the terminal's limits %s, %s", pin, sign)
		}
		if pin, sign := b.Limits(another, mid); pin != money.Yuan(500) || sign != money.Yuan(1000) {
			t.Errorf("the other terminal's limits %s, %s", pin, sign)
		}
		qps, err := b.QPS(tid, mid)
		if err != nil || string(qps) != "FF8058012000000050000FF8059012000000000000FF80540011" {
			t.Errorf("limits on the wire: %q, %v", qps, err)
		}
		if v := b.Newest(tid, mid); v[Parameters] <= first[Parameters] || v[Limits] <= first[Limits] || v[CAKeys] != first[CAKeys] {
			t.Errorf("versions %v after %v", v, first)
		}
		if v, w := b.Newest(tid, mid), b.Newest(another, mid); v[Parameters] <= w[Parameters] || w[Parameters] <= first[Parameters] {
			t.Errorf("the terminal's own change: %v, the other's %v", v, w)
		}
		if v := b.Newest("10000009", "898110054110002"); v != first {
			t.Errorf("a stranger's versions changed to %v", v)
		}
		must(t, b.Override(ctx, tid, Override{}))
		if got, other := parameters(tid), parameters(another); got != other {
			t.Errorf("taken back: %s, not %s", got, other)
		}
		for scope, o := range map[string]Override{"short": {}, "1000000!": {}, tid: {Parameters: map[string]string{"12": "6"}}, mid: {Limits: Small{NoPIN: yuanOf(-1)}}} {
			if err := b.Override(ctx, scope, o); err == nil {
				t.Errorf("an override of %s was taken: %+v", scope, o)
			}
		}
	})
}

func TestBlackList(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		b, ctx := open(t, db), t.Context()
		pan, err := card.ParsePAN(number)
		must(t, err)
		other, err := card.ParsePAN("6229990000000000001")
		must(t, err)
		blocked := func(p card.PAN) bool { return b.Blocked(p, tokenFor(p.Reveal())) }
		if blocked(pan) || blocked(other) {
			t.Error("blocked by an empty list")
		}
		must(t, b.Block(ctx, number))
		must(t, b.Block(ctx, "622999"))
		was := b.Newest(tid, mid)
		must(t, b.Block(ctx, "622999"))
		must(t, b.Block(ctx, number))
		if now := b.Newest(tid, mid); now != was {
			t.Error("blocking twice made a new version")
		}
		if !blocked(pan) || !blocked(other) {
			t.Error("a blocked card passes")
		}
		if n := testing.AllocsPerRun(100, func() { b.Blocked(other, [16]byte{}); b.Limits(tid, mid); b.Demand(tid, mid) }); n != 0 {
			t.Errorf("looking up allocates %v times", n)
		}
		// The number is nowhere in the clear.
		must(t, db.Read(ctx, func(tx store.Tx) error {
			rows, err := tx.Query("select entry, sealed from download_black")
			all, err := store.All(rows, err, scanBlack)
			for _, r := range all {
				if strings.Contains(r.entry+string(r.sealed), number[6:15]) {
					t.Error("a card number lies in the clear")
				}
			}
			if len(all) != 2 {
				t.Errorf("%d rows", len(all))
			}
			return err
		}))
		// A set adds; it does not take away.
		s := BuiltIn()
		s.BlackList = []string{"6217"}
		must(t, b.Import(ctx, s))
		page, err := b.BlackList(ctx, 0)
		must(t, err)
		flag, list, err := spec.ParseBlackList(page)
		slices.Sort(list)
		if err != nil || flag != spec.PageLast || !slices.Equal(list, []string{"6217", number, "622999"}) {
			t.Errorf("the page: %c, %d entries, %v", flag, len(list), err)
		}
		must(t, b.Unblock(ctx, number))
		must(t, b.Unblock(ctx, "622999"))
		if blocked(pan) || blocked(other) {
			t.Error("an unblocked card is refused")
		}
		if err := b.Unblock(ctx, number); !errors.Is(err, ErrNotBlocked) {
			t.Errorf("unblocked twice: %v", err)
		}
		for _, bad := range []string{"", "622", "62284800000000000021", "62284x"} {
			if err := b.Block(ctx, bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		broken := &Book{db: db, vault: &vault{broken: true}}
		if err := broken.Block(ctx, number); !errors.Is(err, errVault) || strings.Contains(err.Error(), number[:10]) {
			t.Errorf("sealing failed: %v", err)
		}
	})
}

// A list of many pages: every entry stands on one page.
func TestBlackListPages(t *testing.T) {
	b, ctx := open(t, storetest.SQLite(t, Schema)), t.Context()
	s, want := BuiltIn(), map[string]bool{}
	for i := range 95 {
		e := fmt.Sprintf("62284800%011d", i)
		if i%2 == 0 {
			e = fmt.Sprintf("6299%04d", i)
		}
		s.BlackList, want[e] = append(s.BlackList, e), true
	}
	must(t, b.Import(ctx, s))
	for number := 0; ; number++ {
		page, err := b.BlackList(ctx, number)
		must(t, err)
		if len(page) > 999 {
			t.Errorf("a page of %d bytes does not fit in DE 62", len(page))
		}
		flag, list, err := spec.ParseBlackList(page)
		must(t, err)
		for _, e := range list {
			if !want[e] {
				t.Errorf("page %d has something twice, or what is not on the list", number)
			}
			delete(want, e)
		}
		if flag != spec.PageMore {
			if number != 2 || flag != spec.PageLast {
				t.Errorf("page %d ends with %c", number, flag)
			}
			break
		}
	}
	if len(want) > 0 {
		t.Errorf("%d entries are on no page", len(want))
	}
	if page, err := b.BlackList(ctx, 3); err != nil || string(page) != "0" {
		t.Errorf("behind the last page: %q, %v", page, err)
	}
	b.vault.(*vault).broken = true
	if _, err := b.BlackList(ctx, 0); !errors.Is(err, errVault) {
		t.Errorf("an HSM that fails: %v", err)
	}
}

func TestDemands(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		one, two := open(t, db), open(t, db)
		must(t, one.Import(ctx, BuiltIn()))
		must(t, one.Block(ctx, "622999"))
		must(t, two.Refresh(ctx))
		// A new terminal is asked for one thing after the other, on whichever node.
		for i, k := range []Kind{Parameters, CAKeys, Applications, BlackList} {
			if d := one.Demand(tid, mid); d != demands[k] {
				t.Fatalf("demand %d before %s", d, k)
			}
			must(t, one.End(ctx, k, tid)) // an end without a beginning
			if d := one.Demand(tid, mid); d != demands[k] {
				t.Fatalf("%s counts as held without having been begun", k)
			}
			b, e := one, two
			if i%2 == 1 {
				b, e = two, one
			}
			must(t, b.Begin(ctx, k, tid, mid))
			must(t, e.End(ctx, k, tid))
			must(t, one.Refresh(ctx))
			must(t, two.Refresh(ctx))
		}
		if d, e := one.Demand(tid, mid), two.Demand(tid, mid); d != spec.DemandNothing || e != d {
			t.Fatalf("demands %d and %d after everything", d, e)
		}
		if h := one.Terminal(tid).Held; h[Limits] != 0 || h[Parameters] != one.Newest(tid, mid)[Parameters] {
			t.Errorf("held %v of %v", h, one.Newest(tid, mid))
		}
		// What changes between begin and end is asked for again.
		must(t, one.Begin(ctx, CAKeys, tid, mid))
		s := BuiltIn()
		s.CAKeys = s.CAKeys[:2]
		must(t, one.Import(ctx, s))
		must(t, one.End(ctx, CAKeys, tid))
		if d := one.Demand(tid, mid); d != spec.DemandCAPK {
			t.Errorf("demand %d after the keys changed under the download", d)
		}
		must(t, one.Begin(ctx, CAKeys, tid, mid))
		must(t, one.End(ctx, CAKeys, tid))
		// An operator's demands, first of all, until they are fulfilled.
		for _, d := range []spec.Demand{spec.DemandStatus, spec.DemandCAPK, spec.DemandSignIn} {
			must(t, two.Ask(ctx, tid, d))
			must(t, two.Ask(ctx, tid, d))
		}
		must(t, one.Refresh(ctx))
		if d := one.Demand(tid, mid); d != spec.DemandSignIn {
			t.Errorf("demand %d, want sign in", d)
		}
		must(t, one.Done(ctx, tid, spec.DemandSignIn))
		must(t, one.Done(ctx, tid, spec.DemandSignIn))
		if d := one.Demand(tid, mid); d != spec.DemandCAPK {
			t.Errorf("demand %d, want CA keys", d)
		}
		must(t, one.End(ctx, CAKeys, tid))
		now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
		must(t, one.SaveStatus(ctx, tid, []byte("11011260133"), now))
		if d := one.Demand(tid, mid); d != spec.DemandNothing {
			t.Errorf("demand %d after all was done", d)
		}
		must(t, two.Refresh(ctx))
		if got := two.Terminal(tid); string(got.Status) != "11011260133" || !got.StatusAt().Equal(now) {
			t.Errorf("status on the other node: %q at %s", got.Status, got.StatusAt())
		}
		if got := two.Terminal(another); got.Status != nil || !got.StatusAt().IsZero() || got.Held != (Versions{}) {
			t.Errorf("a terminal that never came: %+v", got)
		}
		for _, bad := range []string{"", "99", "11", "6228480000000000002", strings.Repeat("1101", 41)} {
			if err := one.SaveStatus(ctx, another, []byte(bad), now); !errors.Is(err, spec.ErrDownload) {
				t.Errorf("status %q: %v", bad, err)
			}
		}
		for _, d := range []spec.Demand{spec.DemandNothing, spec.DemandTMS, 9} {
			if err := one.Ask(ctx, tid, d); err == nil {
				t.Errorf("asked for %d", d)
			}
		}
		a, b := *one.Terminal(tid), *open(t, db).Terminal(tid)
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("a fresh book reads %+v, want %+v", b, a)
		}
	})
}

// Many terminals and many changes at once, on two nodes: both end with what
// the store says.
func TestAtOnce(t *testing.T) {
	storetest.Each(t, []store.Schema{Schema}, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		nodes := []*Book{open(t, db), open(t, db)}
		must(t, nodes[0].Import(ctx, BuiltIn()))
		must(t, nodes[1].Refresh(ctx))
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				b := nodes[w%2]
				for i := range 5 {
					id := fmt.Sprintf("1000%04d", (w+i)%4)
					if err := errors.Join(b.Ask(ctx, id, spec.DemandStatus), b.Begin(ctx, Applications, id, mid), b.End(ctx, Applications, id), b.Block(ctx, fmt.Sprintf("6%d%d%d", w, i, i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for _, b := range nodes {
			must(t, b.Refresh(ctx))
			for i := range 4 {
				id := fmt.Sprintf("1000%04d", i)
				if x := b.Terminal(id); !x.Asked(spec.DemandStatus) || x.Held[Applications] != b.Newest(id, mid)[Applications] {
					t.Errorf("%s: %+v", id, x)
				}
			}
			if n := len(b.shelf.Load().prefixes); n != 40 {
				t.Errorf("%d beginnings are blocked", n)
			}
		}
	})
}

func TestWatch(t *testing.T) {
	db := storetest.SQLite(t, Schema)
	one, two := open(t, db), open(t, db)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { two.Watch(ctx, time.Millisecond, func(err error) { t.Error(err) }) })
	must(t, one.Ask(ctx, tid, spec.DemandStatus))
	for deadline := time.Now().Add(30 * time.Second); !two.Terminal(tid).Asked(spec.DemandStatus); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the other node never saw the demand")
		}
	}
	stop()
	wg.Wait()
}
