package issuer

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/algo"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zoneKeys is the acquirer's side of the zone keys over its own HSM, as the
// routing.Keys interface asks for it.
type zoneKeys struct {
	hsm *hsm.Software
	zmk hsm.Key

	mu         sync.Mutex
	zak, older signer
	generation uint32
	zpk        hsm.Key
	installs   int
}

func newZoneKeys(t testing.TB, issuer string) *zoneKeys {
	t.Helper()
	master := make([]byte, 32)
	rand.Read(master)
	box, err := hsm.NewSoftware(master)
	if err != nil {
		t.Fatal(err)
	}
	k := &zoneKeys{hsm: box}
	k.setZMK(t, issuer)
	return k
}

func (k *zoneKeys) setZMK(t testing.TB, issuer string) {
	t.Helper()
	clearZMK := TestZMK(issuer)
	var one, two [16]byte
	rand.Read(one[:])
	subtle.XORBytes(two[:], one[:], clearZMK[:])
	zmk, _, err := k.hsm.FormKey(t.Context(), hsm.UseZMK, hsm.TDES16, one[:], two[:])
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.zmk = zmk
}

func (k *zoneKeys) Ready() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.zak.key != "" && k.zpk != ""
}

func (k *zoneKeys) rolls() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.installs
}

func (k *zoneKeys) mac(ctx context.Context, s signer, block []byte) ([8]byte, error) {
	mac, err := k.hsm.MAC(ctx, s.key, s.mac, block)
	return routing.MACText(mac), err
}

func (k *zoneKeys) Sign(ctx context.Context, block []byte) ([8]byte, uint32, error) {
	k.mu.Lock()
	s, g := k.zak, k.generation
	k.mu.Unlock()
	mac, err := k.mac(ctx, s, block)
	return mac, g, err
}

func (k *zoneKeys) Verify(ctx context.Context, block, mac []byte, since uint32) error {
	k.mu.Lock()
	keys := []signer{k.zak}
	if since < k.generation && k.older.key != "" {
		keys = append(keys, k.older)
	}
	k.mu.Unlock()
	for _, s := range keys {
		want, err := k.mac(ctx, s, block)
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(want[:], mac) == 1 {
			return nil
		}
	}
	return routing.ErrMAC
}

func (k *zoneKeys) Newest(context.Context) (uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.generation, nil
}

// Exchange is that of a house of one node.
func (k *zoneKeys) Exchange(ctx context.Context, known uint32, ask func() error) error {
	if now, _ := k.Newest(ctx); now > known {
		return nil
	}
	return ask()
}

func (k *zoneKeys) Install(ctx context.Context, r routing.KeyReset) error {
	use, alg := hsm.UseZPK, hsm.MACAlg(0)
	if r.Use == routing.ZAK {
		if use, alg = hsm.UseZAK, hsm.MACX99; len(r.Cryptogram) == 16 {
			use, alg = hsm.UseZAK919, hsm.MACX919
		}
	}
	k.mu.Lock()
	zmk := k.zmk
	k.mu.Unlock()
	key, err := k.hsm.ImportKey(ctx, zmk, use, r.Cryptogram, nil)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	by := k.zak
	if r.Use == routing.ZAK {
		by = signer{key, alg}
	}
	if want, err := k.mac(ctx, by, r.Block); err != nil || subtle.ConstantTimeCompare(want[:], r.MAC) != 1 {
		return errors.Join(err, routing.ErrMAC)
	}
	k.installs++
	if r.Use == routing.ZAK {
		k.older, k.zak, k.generation = k.zak, by, k.generation+1
	} else {
		k.zpk = key
	}
	return nil
}

// pinBlock is a PIN as the acquirer sends it: encrypted by a terminal under a
// TPK and translated to the ZPK.
func (k *zoneKeys) pinBlock(t testing.TB, pan card.PAN, pin string) []byte {
	t.Helper()
	tmk, _, err := k.hsm.GenerateKey(t.Context(), hsm.UseTMK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	clearTPK := simcard.TestKey("TPK of a test")
	var one, two [16]byte
	rand.Read(one[:])
	subtle.XORBytes(two[:], one[:], clearTPK[:])
	tpk, _, err := k.hsm.FormKey(t.Context(), hsm.UseTPK, hsm.TDES16, one[:], two[:])
	if err != nil {
		t.Fatal(err, tmk)
	}
	terminal, err := algo.NewDESKey(clearTPK[:])
	if err != nil {
		t.Fatal(err)
	}
	p, err := algo.ParsePIN(pin)
	if err != nil {
		t.Fatal(err)
	}
	block, err := algo.SealPIN(terminal, hsm.ISO0, p, pan.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	zpk := k.zpk
	k.mu.Unlock()
	out, err := k.hsm.TranslatePIN(t.Context(), tpk, hsm.ISO0, block, pan, zpk, hsm.ISO0)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// patience is how long is waited for what must come.
const patience = 30 * time.Second

// town is an issuer, an acquirer's lines to it, and what the acquirer found
// stray.
type town struct {
	t      *testing.T
	host   *Host
	issuer *routing.Issuer
	keys   *zoneKeys
	is     simcard.Issuer

	mu    sync.Mutex
	stray map[routing.StrayKind]int
	stan  uint32
}

// inFakeTime runs a test in a bubble of synctest with a town whose lines are
// pipes. It is for answers that do not come, or come late: waiting for them costs
// nothing, and a machine that stands still makes no other answer late.
func inFakeTime(t *testing.T, change func(*Config, *routing.Config), test func(*testing.T, *town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		is, _ := simcard.IssuerNamed("north")
		tw := &town{t: t, is: is, keys: newZoneKeys(t, is.Name), stray: map[routing.StrayKind]int{}}
		var lines sync.WaitGroup
		tw.open(func(hc *Config, rc *routing.Config) {
			rc.Addrs = []string{"pipe"}
			rc.Dial = func(context.Context, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				lines.Go(func() { tw.host.ServeConn(theirs) })
				return ours, nil
			}
			if change != nil {
				change(hc, rc)
			}
		}, func() {}, lines.Wait)
		test(t, tw)
	})
}

// impatient gives up before an answer that is late comes.
func impatient(_ *Config, r *routing.Config) { r.Timeout = 150 * time.Millisecond }

func newTown(t *testing.T, change func(*Config, *routing.Config)) *town {
	t.Helper()
	is, _ := simcard.IssuerNamed("north")
	return newTownOf(t, is, change)
}

func newTownOf(t *testing.T, is simcard.Issuer, change func(*Config, *routing.Config)) *town {
	t.Helper()
	tw := &town{t: t, is: is, keys: newZoneKeys(t, is.Name), stray: map[routing.StrayKind]int{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	tw.open(func(hc *Config, rc *routing.Config) {
		rc.Addrs = []string{ln.Addr().String()}
		if change != nil {
			change(hc, rc)
		}
	}, func() {
		go func() { served <- tw.host.Serve(ln) }()
	}, func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return tw
}

// open makes the town's issuer and its acquirer, and waits for a line between
// them. serve answers on the lines, ended waits until that has ended.
func (tw *town) open(change func(*Config, *routing.Config), serve, ended func()) {
	tw.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	hc := Config{Name: tw.is.Name, Late: 300 * time.Millisecond, Log: quiet}
	rc := routing.Config{
		Name: tw.is.Name, Institution: InstitutionOf(tw.is.Name), Acquirer: "08980000",
		Keys: tw.keys, Timeout: patience, Log: quiet,
		BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond,
		Observe: func(s routing.Stray) {
			tw.mu.Lock()
			defer tw.mu.Unlock()
			tw.stray[s.Kind]++
		},
	}
	change(&hc, &rc)
	var err error
	if tw.host, err = New(hc); err != nil {
		tw.t.Fatal(err)
	}
	serve()
	if tw.issuer, err = routing.NewIssuer(rc); err != nil {
		tw.t.Fatal(err)
	}
	tw.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := tw.issuer.Close(ctx); err != nil {
			tw.t.Error(err)
		}
		tw.host.Close()
		ended()
	})
	tw.awaitUp()
}

func (tw *town) awaitUp() {
	tw.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tw.issuer.AwaitUp(ctx); err != nil {
		tw.t.Fatalf("%v: %+v", err, tw.issuer.State())
	}
}

func (tw *town) strays(k routing.StrayKind) int {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	return tw.stray[k]
}

// follow is a request of a kind that stands on an earlier one.
func (tw *town) follow(kind Kind, p *routing.Request, amount money.Amount) *routing.Request {
	r := tw.kind(kind, p.PAN, amount)
	original := p.AsOriginal()
	r.Original = &original
	return r
}

// kind is a request of a kind, with the card's stripe where a cardholder is there.
func (tw *town) kind(kind Kind, pan card.PAN, amount money.Amount) *routing.Request {
	r := tw.with(pan, amount)
	shape := map[Kind]struct {
		mti             spec.MTI
		code, condition string
	}{
		Balance: {0x0200, "310000", "00"}, Sale: {0x0200, "000000", "00"}, Void: {0x0200, "200000", "00"}, Refund: {0x0220, "200000", "00"},
		Preauth: {0x0100, "030000", "06"}, PreauthVoid: {0x0100, "200000", "06"}, Completion: {0x0200, "000000", "06"},
		CompletionVoid: {0x0200, "200000", "06"}, CompletionNotice: {0x0220, "000000", "06"}, OfflineSale: {0x0220, "000000", "00"},
		ChipOfflineSale: {0x0220, "000000", "00"}, Adjust: {0x0220, "020000", "00"}, ScriptResult: {0x0620, "000000", "00"},
	}[kind]
	r.MTI, r.Processing, r.Condition = shape.mti, shape.code, shape.condition
	if r.MTI == 0x0220 || r.MTI == 0x0620 {
		r.Track2 = nil
	}
	return r
}

// purchase is a purchase by stripe of the n-th good card.
func (tw *town) purchase(n int, amount money.Amount) *routing.Request {
	return tw.with(tw.is.PAN(n), amount)
}

func (tw *town) with(pan card.PAN, amount money.Amount) *routing.Request {
	tw.mu.Lock()
	tw.stan++
	stan := tw.stan
	tw.mu.Unlock()
	return &routing.Request{
		Processing: "000000", Amount: amount, Sent: time.Now(), STAN: stan, RRN: fmt.Sprintf("%012d", stan),
		PAN: pan, Expiry: card.Expiry(simcard.ExpiryFor(pan.Reveal())), Track2: []byte(simcard.Track2For(pan.Reveal())),
		EntryMode: "022", Condition: "00", Acquirer: "08980000", Forwarder: "08980000", Receiver: tw.host.Institution(),
		Terminal: "10000001", Merchant: "898110054110001", Name: []byte("TEST"), Category: "5411", Capability: '5',
	}
}

// chip is a card with a chip and a sale of 12.00 by it, without DE 55.
func (tw *town) chip(condition simcard.Condition) (*simcard.Card, *routing.Request) {
	for n := range 100 {
		pan := tw.is.PAN(n)
		if condition != simcard.Good {
			pan = tw.is.PANWith(condition, n)
		}
		c, err := simcard.New(pan)
		if err != nil {
			tw.t.Fatal(err)
		}
		if c.HasChip && c.PSN == "01" {
			p := tw.with(pan, money.Yuan(12))
			p.Track2, p.EntryMode, p.Sequence = nil, "052", "001"
			return c, p
		}
	}
	tw.t.Fatal("no card with a chip")
	return nil, nil
}

// de55 is what a terminal tells of a cryptogram over an amount.
func (tw *town) de55(c *simcard.Card, cid byte, amount money.Amount) []byte {
	tw.t.Helper()
	terms := simcard.Terms{Country: [2]byte{1, 0x56}, Currency: [2]byte{1, 0x56}, Date: [3]byte{0x26, 0x11, 0x23}, UN: [4]byte{1, 2, 3, 4}}
	if _, err := hex.Decode(terms.Amount[:], []byte(pad(uint64(amount), 12))); err != nil {
		tw.t.Fatal(err)
	}
	a, err := c.FirstAC(cid, &terms)
	if err != nil {
		tw.t.Fatal(err)
	}
	b := spec.AppendTLV(nil, 0x9F26, a.AC[:])
	for _, f := range []struct {
		tag uint32
		v   []byte
	}{{0x9F10, a.IAD[:]}, {0x9F37, terms.UN[:]}, {0x9F36, a.ATC[:]}, {0x95, terms.TVR[:]}, {0x9A, terms.Date[:]}, {0x9C, []byte{0}},
		{0x9F02, terms.Amount[:]}, {0x5F2A, terms.Currency[:]}, {0x82, a.AIP[:]}, {0x9F1A, terms.Country[:]}, {0x9F03, terms.Other[:]}, {0x9F27, []byte{a.CID}}} {
		b = spec.AppendTLV(b, f.tag, f.v)
	}
	return b
}

// send returns DE 39, or the error of Send.
func (tw *town) send(p *routing.Request) (string, *spec.Message, error) {
	var m spec.Message
	routing.BuildRequest(spec.CUPS, &m, p)
	ans := new(spec.Message)
	err := tw.issuer.Send(context.Background(), &m, ans)
	return ans.Text(39), ans, err
}

func (tw *town) want(p *routing.Request, code string) *spec.Message {
	tw.t.Helper()
	got, ans, err := tw.send(p)
	if err != nil || got != code {
		tw.t.Errorf("answer %q, %v; want %s", got, err, code)
	}
	return ans
}

func (tw *town) reverse(p *routing.Request, repeat bool) (string, error) {
	tw.mu.Lock()
	tw.stan++
	r := routing.Reversal{Original: *p, STAN: tw.stan, Sent: time.Now(), Reason: routing.ReasonTimeout, Repeat: repeat}
	tw.mu.Unlock()
	var m, ans spec.Message
	routing.BuildReversal(spec.CUPS, &m, &r)
	err := tw.issuer.Send(context.Background(), &m, &ans)
	return ans.Text(39), err
}

// entry is the books' line of a request.
func (tw *town) entry(p *routing.Request) (Entry, bool) {
	for _, e := range tw.host.Books() {
		if e.RRN == p.RRN {
			return e, true
		}
	}
	return Entry{}, false
}
