package switching_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	switching "acquirer/switch"
)

// matrix is every row of the dialect's message matrix: what a terminal that is
// certified for it may send.
var matrix = strings.Fields(`
	sign_in sign_off echo
	balance sale void refund preauth preauth_void completion completion_notice completion_void
	offline_sale adjust tip chip_offline_sale
	ecash_load ecash_load_other ecash_cash_load ecash_load_void topup_check topup_cash topup_account
	qr_sale qr_void qr_refund
	reversal script_result
	settlement batch_upload batch_end notice_upload chip_upload
	parameter_download parameter_end status_upload
	capk_query capk_download capk_end aid_query aid_download aid_end
	blacklist_download blacklist_end qps_download qps_end
	tmk_download esign
	instalment points`)

// beyond are rows that are served besides: refused cleanly where no issuer's
// line carries them.
var beyond = strings.Fields(`instalment_void points_query reservation reservation_void ecash_refund purse_load cashier_sign_in`)

// acted are the rows that the stories have acted, from the house's own count
// of what it served.
var acted = struct {
	sync.Mutex
	rows map[string]int
}{rows: map[string]int{}}

// noteActed reads what a story's house has served.
func (s *street) noteActed() {
	// A message is counted after its answer has left.
	for deadline := time.Now().Add(10 * time.Second); s.sw.InFlight() > 0 && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
	families, err := s.metrics.Gather()
	must(s.t, err)
	acted.Lock()
	defer acted.Unlock()
	for _, f := range families {
		if f.GetName() != "acquirer_transactions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "type" {
					acted.rows[l.GetValue()] += int(m.GetCounter().GetValue())
				}
			}
		}
	}
}

// everyRowIsActed holds the matrix against the handlers, the presence rules
// and the stories: a row without a handler, or that no simulated terminal has
// sent in a story, fails.
func everyRowIsActed(t *testing.T) {
	t.Helper()
	served := map[string]bool{}
	for _, name := range switching.Matrix() {
		served[name] = true
	}
	ruled := map[string]bool{}
	for _, r := range spec.UnionPayPOS.Presence() {
		ruled[r.Message] = true
	}
	acted.Lock()
	defer acted.Unlock()
	for _, name := range append(slices.Clone(matrix), beyond...) {
		switch {
		case !served[name]:
			t.Errorf("%s: no handler", name)
		case acted.rows[name] == 0:
			t.Errorf("%s: no story has a terminal that sends it", name)
		case slices.Contains(matrix, name) && !ruled[name] && name != "parameter_end":
			t.Errorf("%s: no presence rule", name)
		}
		delete(served, name)
	}
	for _, name := range slices.Sorted(maps.Keys(served)) {
		t.Errorf("%s is served and stands in no matrix", name)
	}
}

// Answers carry the fields that hosts were seen to send for the same case
// (protocol.md 3.1, 13.4 to 13.7).
func TestAnswerBitmaps(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStreet(t, withAll)
	term := s.terminal(4, func(c *terminal.Config) { c.KeepSlips = true })
	must(t, term.SignIn(ctx))
	chip, stripe := chipCard(t, "north", 500), plainCard(t, "east")
	bitmap := func(r terminal.Result, err error) string {
		t.Helper()
		must(t, err)
		return fmt.Sprintf("%s %X", r.Code, r.Body[2:10])
	}
	do := func(x terminal.Transaction) string {
		t.Helper()
		r, err := term.Transact(ctx, x)
		return bitmap(r, err)
	}
	is := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	is("chip sale", do(terminal.Transaction{Kind: terminal.KindSale, Amount: 1000, Card: chip, PIN: chip.PIN}), "00 703E02810ED08213")
	rev, err := term.Reverse(ctx, terminal.Reversal{Reason: "98"})
	is("its reversal", bitmap(rev, err), "00 703A02810AD08211")
	is("stripe sale", do(terminal.Transaction{Kind: terminal.KindSale, Amount: 1000, Card: stripe, Entry: terminal.Stripe, PIN: stripe.PIN}), "00 303A00810ED08013")
	is("chip sale again", do(terminal.Transaction{Kind: terminal.KindSale, Amount: 1100, Card: chip, PIN: chip.PIN}), "00 703E02810ED08213")
	slip, ok := term.LastSlip()
	if !ok {
		t.Fatal("no slip of the sale")
	}
	is("void", do(terminal.Transaction{Kind: terminal.KindVoid, Amount: 1100, Card: chip, Original: &slip}), "00 703E02810ED08213")
	is("balance", do(terminal.Transaction{Kind: terminal.KindBalance, Card: chip, PIN: chip.PIN}), "00 603E02810AD08613")
	is("QR sale", do(terminal.Transaction{Kind: terminal.KindQRSale, Amount: 900, PayCode: terminal.PayCode("wechat", 77)}), "00 303A00810ED08033")
	settle, err := s.exchange(term, 0x0500, map[int]string{11: "000777", 48: strings.Repeat("0", 62), 49: "156", 60: "00000001201", 63: "01 "})
	is("settlement", bitmap(settle, err), " 003A000108C18010") // no DE 39: the flags in DE 48 say it
}

// exchange sends a message of given fields besides DE 41 and 42.
func (s *street) exchange(term *terminal.Terminal, mti spec.MTI, fields map[int]string) (terminal.Result, error) {
	m := &spec.Message{}
	m.Reset(spec.UnionPayPOS, mti)
	t, ok := s.registry.Terminal([]byte(term.TID()))
	if !ok {
		s.t.Fatalf("no terminal %s", term.TID())
	}
	fields[41], fields[42] = t.TID, t.MID
	for n := 2; n <= 63; n++ {
		if v := fields[n]; v != "" {
			m.Set(n, v)
		}
	}
	must(s.t, m.Err())
	return term.Exchange(context.Background(), m)
}

// plainCard is a card without a chip.
func plainCard(t testing.TB, bank string) *simcard.Card {
	t.Helper()
	is, ok := simcard.IssuerNamed(bank)
	if !ok {
		t.Fatalf("no issuer %s", bank)
	}
	i := 700
	for simcard.HasChip(is.PAN(i).Reveal()) {
		i++
	}
	c, err := simcard.New(is.PAN(i))
	must(t, err)
	return c
}
