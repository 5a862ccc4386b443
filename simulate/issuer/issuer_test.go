package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

func TestPurchaseAndReversal(t *testing.T) {
	tw := newTown(t, nil)
	p := tw.purchase(1, money.Yuan(100))
	p.PINBlock = tw.keys.pinBlock(t, p.PAN, simcard.PINFor(p.PAN.Reveal()))
	p.EntryMode = "021"
	ans := tw.want(p, "00")
	if ans.Text(38) != "000001" || ans.Text(15) == "" || ans.Text(2) != p.PAN.Reveal() {
		t.Errorf("answer: approval %q, settlement date %q", ans.Text(38), ans.Text(15))
	}
	e, ok := tw.entry(p)
	if !ok || e.State != Approved || !e.Answered || e.Amount != p.Amount || e.Terminal != p.Terminal || e.Kind != Sale {
		t.Errorf("books: %+v", e)
	}
	if got := tw.host.Balance(p.PAN); got != money.Yuan(1e9)-p.Amount {
		t.Errorf("balance %s", got)
	}
	// the same message again gets the same answer and takes no money
	if ans := tw.want(p, "00"); ans.Text(38) != "000001" {
		t.Errorf("the repeat was approved as %s", ans.Text(38))
	}
	other := *p
	other.Amount++
	tw.want(&other, "94")
	for n, repeat := range []bool{false, true, true} {
		if code, err := tw.reverse(p, repeat); err != nil || code != "00" {
			t.Errorf("reversal %d: %s %v", n, code, err)
		}
	}
	if e, _ := tw.entry(p); e.State != Reversed || e.Reversals != 3 || e.Repeats != 1 {
		t.Errorf("books: %+v", e)
	}
	if got := tw.host.Balance(p.PAN); got != money.Yuan(1e9) {
		t.Errorf("balance after the reversals %s", got)
	}
	// a reversed one does not come back to life
	tw.want(p, "00")
	if got := tw.host.Balance(p.PAN); got != money.Yuan(1e9) {
		t.Errorf("balance after a late repeat %s", got)
	}
}

func TestReversalBeforeItsOriginal(t *testing.T) {
	tw := newTown(t, nil)
	p := tw.purchase(1, money.Yuan(7))
	for range 2 {
		if code, err := tw.reverse(p, false); err != nil || code != "25" {
			t.Errorf("%s %v", code, err)
		}
	}
	tw.want(p, "22")
	tw.want(p, "22")
	if e, _ := tw.entry(p); e.State != Unknown || tw.host.Balance(p.PAN) != money.Yuan(1e9) {
		t.Errorf("books %+v, balance %s", e, tw.host.Balance(p.PAN))
	}
	declined := tw.purchase(1, money.Yuan(10)+51)
	tw.want(declined, "51")
	if code, err := tw.reverse(declined, false); err != nil || code != "00" {
		t.Errorf("reversal of a declined one: %s %v", code, err)
	}
	q := tw.purchase(1, money.Yuan(5))
	tw.want(q, "00")
	wrong := *q
	wrong.Amount++
	if code, err := tw.reverse(&wrong, false); err != nil || code != "64" {
		t.Errorf("reversal of another amount: %s %v", code, err)
	}
	if e, _ := tw.entry(q); e.State != Approved {
		t.Errorf("books %+v", e)
	}
}

func TestCards(t *testing.T) {
	tw := newTown(t, nil)
	for _, c := range []struct {
		condition simcard.Condition
		pin       bool
		code      string
	}{
		{simcard.Good, true, "00"}, {simcard.NoAccount, false, "14"}, {simcard.Lost, false, "41"}, {simcard.Stolen, false, "43"},
		{simcard.Expired, false, "54"}, {simcard.WrongPIN, true, "55"}, {simcard.WrongPIN, false, "00"}, {simcard.NoMoney, true, "51"},
		{simcard.Restricted, false, "62"}, {simcard.TriedOut, true, "75"},
	} {
		p := tw.with(tw.is.PANWith(c.condition, 3), money.Yuan(1))
		if c.pin {
			p.PINBlock = tw.keys.pinBlock(t, p.PAN, simcard.TypedPIN(p.PAN.Reveal()))
		}
		if got, _, err := tw.send(p); err != nil || got != c.code {
			t.Errorf("condition %q, PIN %v: %s %v, want %s", c.condition, c.pin, got, err, c.code)
		}
	}
	south, _ := simcard.IssuerNamed("south")
	tw.want(tw.with(south.PAN(1), money.Yuan(1)), "14")
	p := tw.purchase(1, money.Yuan(1))
	p.Track2[len(p.Track2)-1] ^= 1
	tw.want(p, "59")
	p = tw.purchase(1, money.Yuan(1))
	p.Track2 = bytes.Replace(p.Track2, []byte("="), []byte("D"), 1)
	tw.want(p, "00")
	p = tw.purchase(1, money.Yuan(1))
	p.Expiry = "3001"
	tw.want(p, "54")
	p = tw.purchase(1, money.Yuan(1))
	p.PINBlock = make([]byte, 8)
	tw.want(p, "55")
	p = tw.purchase(1, money.Yuan(1))
	p.Processing = "170000"
	tw.want(p, "40")
	p = tw.purchase(1, money.Yuan(1))
	p.Merchant = ""
	tw.want(p, "30")
	p = tw.purchase(2, money.Yuan(11))
	tw.host.Deposit(p.PAN, money.Yuan(10))
	tw.want(p, "51")
	p = tw.purchase(2, money.Yuan(10))
	tw.want(p, "00")
	p = tw.purchase(2, 1)
	tw.want(p, "51")
}

func TestChip(t *testing.T) {
	tw := newTown(t, nil)
	chip := tw.chip
	data := func(c *simcard.Card, fen byte) []byte {
		return tw.de55(c, simcard.ARQC, money.Yuan(12)+money.Amount(fen>>4*10+fen&15))
	}
	arpc := func(c *simcard.Card, ans *spec.Message, arc string) {
		t.Helper()
		v, ok := spec.FindTLV(ans.Bytes(55), 0x91)
		if !ok || len(v) != 10 || string(v[8:]) != arc {
			t.Fatalf("tag 91 is %X", v)
		}
		if err := c.CheckARPC(v); err != nil {
			t.Errorf("the card does not know its issuer: %v", err)
		}
	}
	c, p := chip(simcard.Good)
	p.ICData = data(c, 0)
	arpc(c, tw.want(p, "00"), "00")
	_, p = chip(simcard.Good)
	p.ICData, p.Amount = data(c, 0x51), p.Amount+51
	arpc(c, tw.want(p, "51"), "51")
	_, p = chip(simcard.Good)
	p.ICData, p.Amount = data(c, 0), p.Amount+100 // the chip signed another amount
	tw.want(p, "05")
	_, p = chip(simcard.Good)
	p.ICData = data(c, 0)
	p.ICData[5] ^= 1
	tw.want(p, "05")
	_, p = chip(simcard.Good)
	p.ICData = []byte{0x9F, 0x26, 0x08, 1, 2}
	tw.want(p, "00") // cannot be read: no cryptogram, as in a fallback
	_, p = chip(simcard.Good)
	p.ICData = data(c, 0)[:11] // a cryptogram and nothing that it was made over
	tw.want(p, "05")
	bad, p := chip(simcard.BadChip)
	p.ICData = data(bad, 0)
	tw.want(p, "05")
}

// TestStorms sends every amount of the table and looks at both sides: what the
// acquirer heard, what the books hold, and that a reversal settles it.
func TestStorms(t *testing.T) {
	seen := map[Storm]bool{}
	for _, amount := range Storms() {
		seen[StormOf(amount)] = true
		t.Run(amount.String(), func(t *testing.T) {
			inFakeTime(t, impatient, func(t *testing.T, tw *town) { storm(t, tw, amount) })
		})
	}
	for s := Decline; s <= Silent; s++ {
		if !seen[s] {
			t.Errorf("no amount asks for storm %d", s)
		}
	}
	if Stormy(money.Yuan(100)) || Stormy(0) || Stormy(-98) || Stormy(money.Yuan(7)+50) || !Stormy(98) {
		t.Error("calm and stormy amounts are mixed up")
	}
	if !strings.Contains(AmountTable(), ".98  booked, never answered") {
		t.Error(AmountTable())
	}
}

// storm sends one amount of the table.
func storm(t *testing.T, tw *town, amount money.Amount) {
	storm := StormOf(amount)
	p := tw.purchase(1, amount)
	code, _, err := tw.send(p)
	e, booked := tw.entry(p)
	unanswered := func(state State) {
		t.Helper()
		if !errors.Is(err, routing.ErrUnanswered) {
			t.Errorf("heard %q, %v; want no answer", code, err)
		}
		if booked != (state != "") || booked && e.State != state {
			t.Errorf("books: %v %+v, want %q", booked, e, state)
		}
	}
	first, rest := "00", "00"
	switch storm {
	case Decline:
		if err != nil || code != amount.String()[4:] || e.State != Declined {
			t.Errorf("heard %s %v, books %+v", code, err, e)
		}
	case RollKey:
		if err != nil || code != "00" {
			t.Errorf("heard %s %v", code, err)
		}
		eventually(t, func() bool { return tw.keys.rolls() == 3 })
	case Twice:
		if err != nil || code != "00" {
			t.Errorf("heard %s %v", code, err)
		}
		eventually(t, func() bool { return tw.strays(routing.Duplicate) == 1 })
	case WrongAmount, WrongReference:
		unanswered(Approved)
		eventually(t, func() bool { return tw.strays(routing.Mismatch) == 1 })
	case WrongMAC:
		unanswered(Approved)
		eventually(t, func() bool { return tw.strays(routing.BadMAC) == 1 })
	case Late:
		unanswered(Approved)
		eventually(t, func() bool { return tw.strays(routing.Late) == 1 })
	case Half:
		if err != nil || code != "51" || e.State != Declined {
			t.Errorf("heard %s %v, books %+v", code, err, e)
		}
	case Script71, Script72, ForgedScript: // a stripe has nobody to obey them
		if err != nil || code != "00" {
			t.Errorf("heard %s %v", code, err)
		}
	case DropAfter, Silent:
		unanswered(Approved)
	case DropBefore, Lost:
		unanswered("")
		first, rest = "25", "25"
	case LostReversal, DeafReversal:
		unanswered(Approved)
		first = ""
	default:
		t.Fatalf("storm %d is not tested", storm)
	}
	tw.awaitUp()
	got, err := tw.reverse(p, false)
	if first == "" {
		if !errors.Is(err, routing.ErrUnanswered) {
			t.Errorf("first reversal: %s %v", got, err)
		}
		want := Reversed
		if storm == LostReversal {
			want = Approved
		}
		if e, _ := tw.entry(p); e.State != want {
			t.Errorf("after the first reversal: %+v, want %s", e, want)
		}
	} else if err != nil || got != first {
		t.Errorf("first reversal: %s %v, want %s", got, err, first)
	}
	if got, err := tw.reverse(p, true); err != nil || got != rest {
		t.Errorf("second reversal: %s %v", got, err)
	}
	if tw.host.Balance(p.PAN) != money.Yuan(1e9) {
		t.Errorf("balance %s", tw.host.Balance(p.PAN))
	}
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

func TestCalmAmounts(t *testing.T) {
	tw := newTown(t, func(c *Config, _ *routing.Config) { c.CalmAmounts = true })
	for _, a := range Storms() {
		tw.want(tw.purchase(1, a), "00")
	}
}

func TestWeatherByChance(t *testing.T) {
	inFakeTime(t, func(c *Config, r *routing.Config) { c.Seed, r.Timeout, r.TimeoutStreak = 3, time.Second, 1000 }, func(t *testing.T, tw *town) {
		if err := tw.host.SetWeather(Weather{Silent: 0.5, Declined: 0.25}); err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		var mu sync.Mutex
		var work sync.WaitGroup
		for range 200 {
			p := tw.purchase(1, money.Yuan(1))
			work.Go(func() {
				code, _, err := tw.send(p)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					code = "none"
				}
				got[code]++
			})
		}
		work.Wait()
		if got["none"] < 70 || got["none"] > 130 || got["05"] < 25 || got["05"] > 80 || got["00"] < 25 || got["00"]+got["05"]+got["none"] != 200 {
			t.Errorf("%v, want about half silent and a quarter declined", got)
		}
		if err := tw.host.SetWeather(Weather{Delay: 20 * time.Millisecond, Jitter: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		tw.want(tw.purchase(1, money.Yuan(1)), "00")
		if time.Since(began) < 20*time.Millisecond {
			t.Error("the delay is not kept")
		}
		if err := tw.host.SetWeather(Weather{LostReversals: 1}); err != nil {
			t.Fatal(err)
		}
		p := tw.purchase(1, money.Yuan(1))
		tw.want(p, "00")
		if _, err := tw.reverse(p, false); !errors.Is(err, routing.ErrUnanswered) {
			t.Error(err)
		}
		if err := tw.host.SetWeather(Weather{DeafReversals: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.reverse(p, true); !errors.Is(err, routing.ErrUnanswered) {
			t.Error(err)
		}
		if e, _ := tw.entry(p); e.State != Reversed {
			t.Errorf("books %+v", e)
		}
		if err := tw.host.SetWeather(Weather{Closed: true}); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return !tw.issuer.Up() })
		if _, _, err := tw.send(tw.purchase(1, money.Yuan(1))); !errors.Is(err, routing.ErrUnreachable) {
			t.Error(err)
		}
		if err := tw.host.SetWeather(Weather{}); err != nil {
			t.Fatal(err)
		}
		tw.awaitUp()
		tw.want(tw.purchase(1, money.Yuan(1)), "00")
		for _, bad := range []Weather{{Delay: -1}, {Silent: 1.5}, {Silent: 0.6, Late: 0.6}, {LostReversals: -1}} {
			if tw.host.SetWeather(bad) == nil {
				t.Errorf("%+v passed", bad)
			}
		}
	})
}

func TestKeysRoll(t *testing.T) {
	for _, double := range []bool{false, true} {
		tw := newTown(t, func(_ *Config, r *routing.Config) { r.DoubleZAK = double })
		if _, zak := tw.host.vault.keyLengths(); (zak == 16) != double {
			t.Errorf("the MAC key has %d bytes", zak)
		}
		old := tw.keys.pinBlock(t, tw.is.PAN(1), simcard.PINFor(tw.is.PAN(1).Reveal()))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for _, use := range []routing.KeyUse{routing.ZPK, routing.ZAK} {
			if err := tw.host.RollKey(ctx, use); err != nil {
				t.Error(err)
			}
			if err := tw.issuer.RequestKeys(ctx, use); err != nil {
				t.Error(err)
			}
		}
		if n := tw.keys.rolls(); n != 6 {
			t.Errorf("%d keys installed", n)
		}
		p := tw.purchase(1, money.Yuan(1))
		p.PINBlock = tw.keys.pinBlock(t, p.PAN, simcard.PINFor(p.PAN.Reveal()))
		tw.want(p, "00")
		p = tw.purchase(1, money.Yuan(1))
		p.PINBlock = old // two rolls old
		tw.want(p, "55")
	}
	tw := newTown(t, nil)
	p := tw.purchase(1, money.Yuan(1))
	p.PINBlock = tw.keys.pinBlock(t, p.PAN, simcard.PINFor(p.PAN.Reveal()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := tw.host.RollKey(ctx, routing.ZPK); err != nil {
		t.Error(err)
	}
	tw.want(p, "00") // encrypted before the roll, arrived after it
}

// An acquirer that does not have the zone master key can take no key.
func TestStrangersKey(t *testing.T) {
	tw := newTown(t, nil)
	tw.keys.setZMK(t, "south")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := tw.host.RollKey(ctx, routing.ZAK); err == nil {
		t.Error("a key under another ZMK was taken")
	}
	if _, zak := tw.host.vault.keyLengths(); zak != 8 {
		t.Error("the refused key was kept")
	}
}

// An issuer can have the zone master key that a house formed, whatever its name.
func TestOwnZMK(t *testing.T) {
	zmk := TestZMK("north") // what the town's acquirer has
	tw := newTown(t, func(c *Config, _ *routing.Config) {
		c.Name, c.BINs, c.Institution, c.ZMK = "riverside", []string{"621000"}, InstitutionOf("north"), &zmk
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := tw.host.RollKey(ctx, routing.ZAK); err != nil {
		t.Errorf("a key under the ZMK that both have: %v", err)
	}
}

func TestHTTP(t *testing.T) {
	tw := newTown(t, nil)
	web := httptest.NewServer(tw.host.Handler())
	defer web.Close()
	p := tw.purchase(1, money.Yuan(3))
	tw.want(p, "00")
	get := func(path string) string {
		res, err := http.Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %v %s", path, err, res.Status)
		}
		return string(b)
	}
	send := func(method, path, body string) int {
		req, err := http.NewRequest(method, web.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	put := func(body string) int { return send("PUT", "/weather", body) }
	books := get("/books")
	var parsed struct {
		Issuer  string
		Totals  Totals
		Entries []struct{ RRN, PAN, Amount, State, Code, Kind, Takes string }
	}
	if err := json.Unmarshal([]byte(books), &parsed); err != nil {
		t.Fatal(err)
	}
	if len(parsed.Entries) != 1 || parsed.Entries[0].RRN != p.RRN || parsed.Entries[0].Amount != "3.00" || parsed.Entries[0].State != "approved" || parsed.Entries[0].Kind != "sale" || parsed.Entries[0].Takes != "3.00" || parsed.Totals.Approved != 1 {
		t.Errorf("books %s", books)
	}
	if strings.Contains(books, p.PAN.Reveal()) || parsed.Entries[0].PAN != p.PAN.Masked() {
		t.Errorf("the books show a card number: %s", books)
	}
	if got := get("/totals"); !strings.Contains(got, `"approved":1`) || !strings.Contains(got, `"sale":{"requests":1,"standing":1,"takes":"3.00"}`) {
		t.Error(got)
	}
	if code := put(`{"silent":0.25}`); code != 200 || !strings.Contains(get("/weather"), `"silent":0.25`) {
		t.Errorf("%d, weather %s", code, get("/weather"))
	}
	for _, bad := range []string{`{"silent":2}`, `{"slient":0.1}`, `{`} {
		if code := put(bad); code != 400 {
			t.Errorf("%s: %d", bad, code)
		}
	}
	if code := send("POST", "/next", `{"kind":"sale","storm":"declined","code":"57"}`); code != 200 {
		t.Errorf("ordering weather: %d", code)
	}
	if err := tw.host.SetWeather(Weather{}); err != nil {
		t.Fatal(err)
	}
	tw.want(tw.purchase(1, money.Yuan(3)), "57")
	tw.want(tw.purchase(1, money.Yuan(3)), "00")
	for _, bad := range []string{`{"kind":"tea","storm":"lost"}`, `{"kind":"sale","storm":"hail"}`, `{"kind":"sale","count":2,"silent":1}`, ``} {
		if code := send("POST", "/next", bad); code != 400 {
			t.Errorf("%s: %d", bad, code)
		}
	}
	if get("/healthz") != "ok\n" {
		t.Error("not healthy")
	}
	res, err := http.Post(web.URL+"/drop", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return tw.issuer.State().Lines[0].Drops == 1 })
	http.DefaultClient.CloseIdleConnections()
}

func TestConfig(t *testing.T) {
	for _, bad := range []Config{{}, {Name: "nobody"}, {Name: "x", BINs: []string{"12345"}}, {Name: "x", BINs: []string{"12345A"}}, {Name: "north", Weather: Weather{Late: 2}}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v passed", bad)
		}
	}
	h, err := New(Config{Name: "nobody", BINs: []string{"999901"}})
	if err != nil || h.Institution() != "01020099" || h.BINs()[0] != "999901" {
		t.Errorf("%v %v", h, err)
	}
	if InstitutionOf("west") != "01020004" {
		t.Error(InstitutionOf("west"))
	}
}

// An issuer that starts again has lost its zone keys; the lines bring new ones
// before they carry traffic.
func TestIssuerStartsAgain(t *testing.T) {
	tw := newTown(t, nil)
	tw.want(tw.purchase(1, money.Yuan(1)), "00")
	addr := tw.issuer.State().Lines[0].Addr
	tw.host.Close()
	eventually(t, func() bool { return !tw.issuer.Up() })
	if _, _, err := tw.send(tw.purchase(1, money.Yuan(1))); !errors.Is(err, routing.ErrUnreachable) {
		t.Error(err)
	}
	var ln net.Listener
	eventually(t, func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", addr)
		return err == nil
	})
	again, err := New(Config{Name: "north", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- again.Serve(ln) }()
	t.Cleanup(func() {
		again.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	tw.awaitUp()
	p := tw.purchase(1, money.Yuan(1))
	p.PINBlock = tw.keys.pinBlock(t, p.PAN, simcard.PINFor(p.PAN.Reveal()))
	tw.want(p, "00")
	if n := again.Totals().Approved; n != 1 {
		t.Errorf("%d approved by the new one", n)
	}
}
