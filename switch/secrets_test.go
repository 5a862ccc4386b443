package switching_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"acquirer/hsm/algo"
	"acquirer/money"
	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	"acquirer/store"
)

// canaries are the secrets of a test in every form in which they could lie
// somewhere: clear, BCD, hexadecimal, base64. It finds them in what a house
// leaves behind (I15).
type canaries struct {
	mu    sync.Mutex
	forms map[[head]byte][]form
	known map[string]bool
	count map[string]int // of secrets, by kind
}

type form struct {
	kind  string
	bytes []byte
}

// head is how many bytes of a form it is found by; shorter forms would be
// found everywhere.
const head = 6

func newCanaries() *canaries {
	return &canaries{forms: map[[head]byte][]form{}, known: map[string]bool{}, count: map[string]int{}}
}

func (c *canaries) form(kind string, b []byte) {
	if len(b) < head || c.known[string(b)] {
		return
	}
	c.known[string(b)] = true
	at := [head]byte(b)
	c.forms[at] = append(c.forms[at], form{kind, bytes.Clone(b)})
}

// add notes a secret of bytes.
func (c *canaries) add(kind string, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[string(b)] {
		return
	}
	c.count[kind]++
	c.spread(kind, b)
}

func (c *canaries) spread(kind string, b []byte) {
	c.form(kind, b)
	lower := hex.EncodeToString(b)
	c.form(kind+" in hexadecimal", []byte(lower))
	c.form(kind+" in hexadecimal", []byte(strings.ToUpper(lower)))
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 { // the secret may stand behind one or two bytes
			text := e.EncodeToString(append(make([]byte, shift), b...))
			from, to := (shift*8+5)/6, (shift+len(b))*8/6
			c.form(kind+" in base64", []byte(text[from:to]))
		}
	}
}

// addDigits notes a secret of decimal digits: also in BCD, from an even and
// from an odd nibble.
func (c *canaries) addDigits(kind, digits string) {
	c.add(kind, []byte(digits))
	c.mu.Lock()
	defer c.mu.Unlock()
	for odd := range 2 {
		d := digits[odd:]
		if b, err := hex.DecodeString(d[:len(d)/2*2]); err == nil {
			c.form(kind+" in BCD", b)
			c.form(kind+" in BCD in base64", []byte(base64.RawStdEncoding.EncodeToString(b))[:len(b)*8/6])
		}
	}
	if len(digits) >= 16 {
		c.form(kind+" in groups", []byte(digits[:4]+" "+digits[4:8]+" "+digits[8:12]+" "+digits[12:16]))
	}
}

// addCard notes what a card must not leave behind: its number, its track, its
// PIN, and the PIN block that would be made of it.
func (c *canaries) addCard(t testing.TB, card *simcard.Card) {
	t.Helper()
	c.addDigits("account number", card.Number)
	_, rest, _ := strings.Cut(card.Track2, "=")
	c.addDigits("discretionary data", rest[7:]) // behind YYMM and service code
	c.add("track 2", []byte(card.Track2))
	c.add("track 2", []byte(strings.Replace(card.Track2, "=", "D", 1)))
	// Six digits alone are some trace number or time; behind their name they
	// are a PIN.
	for _, name := range []string{`pin":"`, `PIN":"`, `pin=`, `PIN=`, `pin `, `PIN `, `PIN:`} {
		c.add("PIN", []byte(name+card.PIN))
	}
	pin, err := algo.ParsePIN(card.PIN)
	must(t, err)
	block, err := algo.EncodePIN(algo.ISO0, pin, card.Number)
	must(t, err)
	c.add("clear PIN block", block[:])
	c.add("clear PIN field", []byte("06"+card.PIN+"FFFFFFFF"))
}

// addKeys notes a terminal's working keys as they come in DE 62.
func (c *canaries) addKeys(tid string, de62 []byte) {
	clear := simcard.TestTMK(tid)
	tmk, err := algo.NewDESKey(clear[:])
	if err != nil {
		return
	}
	slot := 16
	if len(de62) == 24 {
		slot = 8
	}
	for at := 0; at+slot <= len(de62); at += slot + 4 {
		key := make([]byte, slot)
		if tmk.DecryptECB(key, de62[at:at+slot]) == nil {
			c.add("working key", key)
			c.add("working key", key[:8])
		}
	}
}

// watch takes the secrets off a terminal's line.
func (c *canaries) watch(cfg *terminal.Config) {
	tid := cfg.TID
	c.addTMK(tid)
	cfg.Observe = func(traffic terminal.Traffic) {
		for b := traffic.Bytes; len(b) > 2; {
			n := int(binary.BigEndian.Uint16(b))
			if n < 11 || n > len(b)-2 {
				return
			}
			var m spec.Message
			if spec.UnionPayPOS.Parse(&m, b[13:2+n]) == nil {
				if m.Has(52) {
					c.add("PIN block", m.Bytes(52))
				}
				if m.MTI() == 0x0810 && m.Has(62) {
					c.addKeys(tid, m.Bytes(62))
				}
			}
			b = b[2+n:]
		}
	}
}

func (c *canaries) addTMK(tid string) {
	tmk := simcard.TestTMK(tid)
	c.add("terminal master key", tmk[:])
}

// tap takes the PIN blocks off the lines to the issuers.
func (c *canaries) tap(cfg *routing.Config) {
	zmk, imk := issuer.TestZMK(cfg.Name), simcard.TestIMK(cfg.Name)
	c.add("zone master key", zmk[:])
	c.add("issuer master key", imk[:])
	cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		return &tapped{Conn: conn, c: c}, err
	}
}

// tapped is a line to an issuer that is listened to.
type tapped struct {
	net.Conn
	c    *canaries
	sent []byte
}

func (l *tapped) Write(b []byte) (int, error) {
	l.sent = append(l.sent, b...)
	for len(l.sent) >= spec.CUPSHeaderSize {
		total, err := spec.CUPSLength(l.sent[:spec.CUPSHeaderSize])
		if err != nil || total > len(l.sent) {
			break
		}
		var m spec.Message
		if spec.CUPS.Parse(&m, l.sent[spec.CUPSHeaderSize:total]) == nil && m.Has(52) {
			l.c.add("PIN block", m.Bytes(52))
		}
		l.sent = append([]byte(nil), l.sent[total:]...)
	}
	return l.Conn.Write(b)
}

// find names the secrets in b.
func (c *canaries) find(b []byte) (found []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first [1 << 16]bool // most places end here
	for at := range c.forms {
		first[uint16(at[0])<<8|uint16(at[1])] = true
	}
	for i := range max(0, len(b)-head+1) {
		if !first[uint16(b[i])<<8|uint16(b[i+1])] {
			continue
		}
		for _, f := range c.forms[[head]byte(b[i:])] {
			if bytes.HasPrefix(b[i:], f.bytes) {
				found = append(found, fmt.Sprintf("%s at byte %d", f.kind, i))
			}
		}
	}
	return found
}

// remains is everything the house has written or would show: its log at debug
// level, its metrics, its database, its traces and journal.
func (s *street) remains() map[string][]byte {
	s.t.Helper()
	out := map[string][]byte{"log": []byte(s.log.String())}
	families, err := s.metrics.Gather()
	must(s.t, err)
	for _, f := range families {
		out["metrics"] = fmt.Appendln(out["metrics"], f.String())
	}
	entries, err := s.journal.Last(context.Background(), 1_000_000)
	must(s.t, err)
	for _, e := range entries {
		out["journal"] = fmt.Appendf(out["journal"], "%+v %+v %+v\n", e.Transaction, e.Outcome, e.Debt)
		if traces, ok := s.sw.Trace(e.ID); ok {
			text, err := json.Marshal(traces)
			must(s.t, err)
			out["traces"] = fmt.Appendf(append(out["traces"], text...), "\n%+v\n", traces)
		}
	}
	if s.db.Postgres() {
		out["database"] = s.dump()
		return out
	}
	files, err := filepath.Glob(strings.TrimPrefix(s.plan.url, "sqlite:") + "*")
	must(s.t, err)
	for _, name := range files {
		b, err := os.ReadFile(name)
		must(s.t, err)
		out[filepath.Base(name)] = b
	}
	return out
}

// dump is every row of every table as text, for the engine whose files lie
// elsewhere.
func (s *street) dump() (out []byte) {
	s.t.Helper()
	must(s.t, s.db.Read(context.Background(), func(tx store.Tx) error {
		text := func(r *store.Rows, v *string) error { return r.Scan(v) }
		rows, err := tx.Query("select table_name::text from information_schema.tables where table_schema = 'public' order by 1")
		tables, err := store.All(rows, err, text)
		if err != nil {
			return err
		}
		for _, table := range tables {
			rows, err := tx.Query("select t::text from " + table + " t")
			lines, err := store.All(rows, err, text)
			if err != nil {
				return err
			}
			out = append(out, strings.Join(lines, "\n")...)
		}
		return nil
	}))
	return out
}

// keepsSecrets fails for every secret found in what remains of the house.
func (s *street) keepsSecrets(c *canaries) {
	s.t.Helper()
	for where, b := range s.remains() {
		found := c.find(b)
		for _, what := range found[:min(len(found), 5)] {
			s.t.Errorf("%s: %s", where, what)
		}
		if len(found) > 5 {
			s.t.Errorf("%s: and %d more", where, len(found)-5)
		}
	}
}

// TestSecrets goes through everything a card or a key can meet in the house,
// good and bad, and then looks for them.
func TestSecrets(t *testing.T) {
	t.Parallel()
	c := newCanaries()
	s := newStreet(t, withTimeout(100*time.Millisecond), withLine(c.tap))
	ctx := context.Background()
	cards := map[string]*simcard.Card{}
	cardOf := func(bank string, condition simcard.Condition) *simcard.Card {
		name := bank + string(condition)
		if cards[name] == nil {
			is, ok := simcard.IssuerNamed(bank)
			if !ok {
				t.Fatalf("no issuer %q", bank)
			}
			var err error
			number := is.PAN(654_321_987) // a number of many digits, which nothing else has by chance
			if condition != simcard.Good {
				number = is.PANWith(condition, 271_828)
			}
			cards[name], err = simcard.New(number)
			must(t, err)
			c.addCard(t, cards[name])
		}
		return cards[name]
	}
	for i, set := range map[int]int{4: 3, 5: 1, 6: 4} {
		term := s.terminal(i, func(cfg *terminal.Config) { cfg.Profile.KeySet = set; c.watch(cfg) })
		must(t, term.SignIn(ctx))
		sell := func(sale terminal.Sale) {
			t.Helper()
			if _, err := term.Sale(ctx, sale); err != nil {
				if _, err := term.Reverse(ctx, terminal.Reversal{}); err != nil {
					t.Errorf("reversing: %v", err)
				}
			}
		}
		for _, bank := range []string{"north", "south", "east", "west"} {
			for _, entry := range []terminal.Entry{terminal.Chip, terminal.Contactless, terminal.Stripe, terminal.Keyed, terminal.Fallback} {
				card := cardOf(bank, simcard.Good)
				if (entry == terminal.Chip || entry == terminal.Contactless) && !card.HasChip {
					continue
				}
				sell(terminal.Sale{Amount: money.Yuan(40), Card: card, PIN: card.PIN, Entry: entry})
			}
		}
		for _, condition := range []simcard.Condition{simcard.Lost, simcard.Expired, simcard.WrongPIN, simcard.NoMoney, simcard.BadChip} {
			card := cardOf("north", condition)
			sell(terminal.Sale{Amount: money.Yuan(41), Card: card, PIN: card.PIN, Entry: terminal.Stripe})
		}
		card := cardOf("south", simcard.Good)
		for _, fen := range []money.Amount{51, 86, 87, 88, 89, 90, 93, 94, 95, 98} {
			must(t, s.legs["south"].Issuer.AwaitUp(ctx))
			sell(terminal.Sale{Amount: money.Yuan(10) + fen, Card: card, PIN: card.PIN, Entry: terminal.Stripe})
		}
		for _, f := range []terminal.Fault{{WrongMAC: true}, {NoMAC: true}, {Twice: true}, {DropAnswer: true}, {HangUp: true}, {Withhold: true}} {
			sell(terminal.Sale{Amount: money.Yuan(42), Card: card, PIN: card.PIN, Entry: terminal.Stripe, Fault: &f})
		}
		// Fields that break in the middle of card data, and cut or swollen frames.
		for _, change := range []func(*spec.Message){
			func(m *spec.Message) { m.Unset(25) },
			func(m *spec.Message) { m.Unset(60) },
			func(m *spec.Message) { m.Set(2, card.Number[:15]) },
			func(m *spec.Message) { m.Set(35, strings.Replace(card.Track2, "=", "==", 1)[:37]) },
			func(m *spec.Message) { m.Set(35, strings.Replace(card.Track2, "=", "1", 1)) },
			func(m *spec.Message) { m.Set(46, card.Number) }, // card data where it does not belong
			func(m *spec.Message) { m.Set(63, card.Number) },
			func(m *spec.Message) { m.Set(42, card.Number[:15]) },
			func(m *spec.Message) { m.Set(41, card.Number[:8]) },
			func(m *spec.Message) { m.Set(60, "22000001"+card.Number[:16]) },
			func(m *spec.Message) { m.SetBytes(62, []byte(card.PIN+card.Number)) },
			func(m *spec.Message) { m.SetMTI(0x0220) },
		} {
			sell(terminal.Sale{Amount: money.Yuan(43), Card: card, PIN: card.PIN, Entry: terminal.Stripe, Fault: &terminal.Fault{Change: change}})
		}
		for cut := 15; cut < 90; cut += 3 {
			f := terminal.Fault{Corrupt: func(frame []byte) []byte {
				frame = frame[:cut]
				binary.BigEndian.PutUint16(frame, uint16(cut-2))
				return frame
			}, HangUp: true}
			sell(terminal.Sale{Amount: money.Yuan(44), Card: card, PIN: card.PIN, Entry: terminal.Stripe, Fault: &f})
		}
	}
	s.quiet()
	for _, kind := range []string{"account number", "discretionary data", "PIN", "PIN block", "clear PIN block", "working key", "terminal master key", "zone master key"} {
		if c.count[kind] == 0 {
			t.Errorf("no %s to look for", kind)
		}
	}
	t.Log(c.count)
	s.keepsSecrets(c)
	s.lawful()
}

// TestSecretsAreFound: the search is worth what it finds.
func TestSecretsAreFound(t *testing.T) {
	t.Parallel()
	c := newCanaries()
	card := chipCard(t, "south", 500)
	c.addCard(t, card)
	block := []byte{0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x07, 0x18}
	c.add("PIN block", block)
	number := card.Number
	packed, err := hex.DecodeString(number[:18])
	must(t, err)
	shifted, err := hex.DecodeString("0" + number)
	must(t, err)
	for what, b := range map[string][]byte{
		"clear":                    []byte("card=" + number + "."),
		"BCD":                      append([]byte{19}, packed...),
		"BCD from an odd nibble":   shifted,
		"groups":                   []byte(number[:4] + " " + number[4:8] + " " + number[8:12] + " " + number[12:16]),
		"hexadecimal of the text":  []byte(hex.EncodeToString([]byte(number))),
		"base64":                   []byte(base64.StdEncoding.EncodeToString([]byte(number))),
		"base64 behind one byte":   []byte(base64.StdEncoding.EncodeToString([]byte("x" + number))),
		"base64 behind two":        []byte(base64.URLEncoding.EncodeToString([]byte("xy" + number + "z"))),
		"the track":                []byte("35=" + card.Track2),
		"its end":                  []byte(card.Track2[len(card.Track2)-10:]),
		"a PIN":                    []byte(`{"pin":"` + card.PIN + `"}`),
		"a PIN block":              append([]byte("x"), block...),
		"a PIN block in hex":       []byte("a1b2c3d4e5f60718"),
		"a PIN block in upper hex": []byte("A1B2C3D4E5F60718"),
	} {
		if len(c.find(append([]byte("before it "), b...))) == 0 {
			t.Errorf("%s is not found", what)
		}
	}
	if found := c.find([]byte(card.PAN.Masked() + " " + fmt.Sprint(card.PAN))); len(found) > 0 {
		t.Errorf("a masked number is found: %v", found)
	}

	// In the database too, through the store's own way to the disk.
	s := newStreet(t)
	sql := "update merchant set name = $1 where mid = $2"
	s.change(sql, "clean", simcard.SeedMerchant(0))
	for where, b := range s.remains() {
		if found := c.find(b); len(found) > 0 {
			t.Errorf("%s: %v", where, found)
		}
	}
	s.change(sql, "card "+number, simcard.SeedMerchant(0))
	hits := 0
	for where, b := range s.remains() {
		if strings.HasPrefix(where, "street.db") {
			hits += len(c.find(b))
		}
	}
	if hits == 0 {
		t.Error("a number in the database is not found")
	}
}
