package switching_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/spec"
	"acquirer/store"
	"acquirer/store/storetest"
	switching "acquirer/switch"
)

// zoneTown is an issuer that takes no key but its newest, and nodes of one house
// that share a store.
type zoneTown struct {
	t    *testing.T
	db   *store.DB
	hsm  *hsm.Software
	zmk  hsm.Key
	host *issuer.Host
	addr string
	stan uint32
}

type zoneNode struct {
	keys *switching.ZoneKeys
	line *routing.Issuer
}

func newZoneTown(t *testing.T, db *store.DB) *zoneTown {
	box, err := hsm.NewSoftware([]byte("0123456789abcdef0123456789abcdef"))
	must(t, err)
	host, err := issuer.New(issuer.Config{Name: "north", KeyGrace: time.Nanosecond, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := host.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { host.Close(); wg.Wait() })
	return &zoneTown{t: t, db: db, hsm: box, zmk: formKey(t, box, hsm.UseZMK, issuer.TestZMK("north")), host: host, addr: l.Addr().String()}
}

// keys are those of the node of a number. The tests of it do not run beside
// others, since a process has one number.
func (z *zoneTown) keys(node int) *switching.ZoneKeys {
	was := store.Node()
	must(z.t, store.SetNode(node))
	keys := switching.NewZoneKeys(z.db, "north", z.hsm, z.zmk, spec.CUPS, false)
	must(z.t, store.SetNode(was))
	return keys
}

// node starts a node and waits until its line is up.
func (z *zoneTown) node(number int) *zoneNode {
	z.t.Helper()
	n := &zoneNode{keys: z.keys(number)}
	var err error
	n.line, err = routing.NewIssuer(routing.Config{Name: "north", Addrs: []string{z.addr}, Institution: z.host.Institution(), Acquirer: "48020000",
		Timeout: 5 * time.Second, BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond, Keys: n.keys, Log: slog.New(slog.DiscardHandler)})
	must(z.t, err)
	z.t.Cleanup(func() {
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		must(z.t, n.line.Close(end))
	})
	up, cancel := context.WithTimeout(z.t.Context(), 10*time.Second)
	defer cancel()
	must(z.t, n.line.AwaitUp(up))
	return n
}

// sale is one by a node; it gives DE 39.
func (z *zoneTown) sale(n *zoneNode) string {
	z.t.Helper()
	z.stan++
	is, _ := simcard.IssuerNamed("north")
	pan := is.PAN(1)
	var m, ans spec.Message
	routing.BuildRequest(spec.CUPS, &m, &routing.Request{
		Processing: "000000", Amount: money.Yuan(12), Sent: time.Now(), STAN: z.stan, RRN: fmt.Sprintf("%012d", z.stan),
		PAN: pan, Expiry: card.Expiry(simcard.ExpiryFor(pan.Reveal())), Track2: []byte(simcard.Track2For(pan.Reveal())),
		EntryMode: "022", Condition: "00", Acquirer: "48020000", Forwarder: "48020000", Receiver: z.host.Institution(),
		Terminal: "10000001", Merchant: "898110054110001", Name: []byte("TEST"), Category: "5411", Capability: '5',
	})
	must(z.t, n.line.Send(z.t.Context(), &m, &ans))
	return ans.Text(39)
}

func (z *zoneTown) generation() (n int64) {
	z.t.Helper()
	must(z.t, z.db.Read(z.t.Context(), func(tx store.Tx) error {
		return tx.QueryRow("select generation from zone_key where issuer = 'north'").Scan(&n)
	}))
	return n
}

func (z *zoneTown) exec(sql string, args ...any) {
	z.t.Helper()
	must(z.t, z.db.Write(z.t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(sql, args...)
		return err
	}))
}

// A node whose keys are out of date takes those that another has received. It
// asks for none: the other's would be out of date then, and so on for ever.
func TestNodesShareZoneKeys(t *testing.T) {
	storetest.Each(t, []store.Schema{switching.ZoneSchema}, func(t *testing.T, db *store.DB) {
		z := newZoneTown(t, db)
		one := z.node(1)
		if code := z.sale(one); code != "00" {
			t.Fatalf("a sale of the only node is answered %s", code)
		}
		two := z.node(2)
		came := z.generation()
		if came != 4 {
			t.Fatalf("two nodes have started, and %d keys came; want the ZAK and the ZPK of each", came)
		}
		// The first is told by a wrong MAC.
		refused := 0
		for z.sale(one) != "00" {
			if refused++; refused == 1000 {
				t.Fatal("it never comes to the newer keys")
			}
		}
		if refused == 0 {
			t.Error("no MAC was wrong: the test proves nothing")
		}
		for range 20 {
			for _, n := range []*zoneNode{one, two} {
				if code := z.sale(n); code != "00" {
					t.Fatalf("with the newest keys a sale is answered %s", code)
				}
			}
		}
		if n := z.generation(); n != came {
			t.Errorf("%d more keys were asked for", n-came)
		}
		// It looks from time to time, and then none is wrong.
		third := z.node(3)
		for _, n := range []*zoneNode{one, two} {
			if _, err := n.keys.Newest(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range []*zoneNode{one, two, third} {
			if code := z.sale(n); code != "00" {
				t.Errorf("after a look a sale is answered %s", code)
			}
		}
	})
}

// An issuer that has lost its keys is asked for new ones, once by all nodes.
func TestNodesAskOnce(t *testing.T) {
	storetest.Each(t, []store.Schema{switching.ZoneSchema}, func(t *testing.T, db *store.DB) {
		z := newZoneTown(t, db)
		one, two := z.keys(1), z.keys(2)
		const inVain = 350 * time.Millisecond // long enough to be tempted
		asked := func(keys *switching.ZoneKeys, known uint32, wait time.Duration, during func()) (n int, err error) {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			err = keys.Exchange(ctx, known, func() error {
				n++
				if during != nil {
					during()
				}
				return nil
			})
			return n, err
		}
		n, err := asked(one, 0, patience, func() {
			if n, err := asked(two, 0, inVain, nil); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("while another node asks: asked %d times, %v", n, err)
			}
			key, _, err := z.hsm.GenerateKey(t.Context(), hsm.UseZPK, hsm.TDES16)
			must(t, err)
			z.exec("update zone_key set zak = $1, generation = generation + 1", string(key)) // that it is no ZAK matters to nobody here
			if n, err := asked(two, 0, inVain, nil); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("between the two keys of another node: asked %d times, %v", n, err)
			}
			z.exec("update zone_key set zpk = $1, generation = generation + 1", string(key))
		})
		if n != 1 || err != nil {
			t.Errorf("the first: asked %d times, %v", n, err)
		}
		if n, err := asked(two, 0, patience, nil); n != 0 || err != nil {
			t.Errorf("what it wanted has come, and it asked %d times, %v", n, err)
		}
		if n, err := asked(two, 2, patience, nil); n != 1 || err != nil {
			t.Errorf("in doubt about the newest: asked %d times, %v", n, err)
		}
		// A node that died over it keeps the others waiting for its lease.
		z.exec("update zone_key set claimed_by = 3, claimed_until = $1", time.Now().Add(time.Hour).UnixMicro())
		if n, err := asked(two, 2, inVain, nil); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while a dead node's lease lasts: asked %d times, %v", n, err)
		}
		z.exec("update zone_key set claimed_until = $1", time.Now().UnixMicro())
		if n, err := asked(two, 2, patience, nil); n != 1 || err != nil {
			t.Errorf("after it: asked %d times, %v", n, err)
		}
		// Keys that nobody can open are not used, and new ones are asked for.
		z.exec("update zone_key set zak = 'D0112P0TE00E0000', zpk = 'D0112P0TE00E0000', generation = 9")
		if g, err := two.Newest(t.Context()); g != 2 || err != nil {
			t.Errorf("of keys that cannot be opened: generation %d, %v", g, err)
		}
		if n, err := asked(two, 2, patience, nil); n != 1 || err != nil {
			t.Errorf("with keys that cannot be opened: asked %d times, %v", n, err)
		}
	})
}
