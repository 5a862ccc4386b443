package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"acquirer/money"
	"acquirer/simulate/card"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	switching "acquirer/switch"
)

// till is the person at the terminal.
type till struct {
	out    io.Writer
	term   *terminal.Terminal
	json   bool
	amount money.Amount
	entry  terminal.Entry
	card   string
	noPIN  bool
	noTTK  bool // nothing to unwrap a new master key with

	named    map[string]terminal.Key  // transactions by their names
	cards    map[string]*simcard.Card // by the names they are called, so that their counters go up
	signedIn bool
	writeErr error
}

// done is what became of an action.
type done struct {
	Action   string       `json:"action"`
	STAN     int          `json:"stan,omitempty"`
	Amount   money.Amount `json:"amount,omitempty"`
	Code     string       `json:"code,omitempty"` // DE 39
	Approved bool         `json:"approved"`
	RRN      string       `json:"rrn,omitempty"`
	AuthCode string       `json:"auth_code,omitempty"`
	Voucher  string       `json:"voucher,omitempty"` // of a payment by code

	Balance *money.Amount `json:"balance,omitempty"`
	Settled *settled      `json:"settled,omitempty"`
	Error   string        `json:"error,omitempty"`
}

// settled is how a batch was closed. The flags are 1 for balanced and 2 for not.
type settled struct {
	Batch    int          `json:"batch"`
	Domestic spec.Balance `json:"domestic"`
	Foreign  spec.Balance `json:"foreign"`
	Debit    money.Amount `json:"debit"` // of both together
	Credit   money.Amount `json:"credit"`
	Uploaded int          `json:"uploaded"`
	Next     int          `json:"next_batch"`
}

// errNotApproved makes the exit status 1; what happened has been printed.
var errNotApproved = errors.New("not every action was approved")

func (p *till) run(ctx context.Context, actions []string, stdin io.Reader) error {
	bad := 0
	do := func(text string) {
		act, err := p.parse(text)
		if err != nil {
			p.print(&done{Action: text, Error: err.Error()})
			bad++
			return
		}
		if d := p.do(ctx, act); !d.Approved {
			bad++
		}
	}
	if len(actions) > 0 {
		for _, a := range actions {
			do(a)
		}
	} else {
		lines := bufio.NewScanner(stdin)
		for ctx.Err() == nil && lines.Scan() {
			if text := strings.TrimSpace(lines.Text()); text != "" {
				do(text)
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("reading actions: %w", err)
		}
	}
	if p.term.Pending() && ctx.Err() == nil {
		if d := p.do(ctx, action{name: "reverse"}); !d.Approved {
			bad++
		}
	}
	if p.term.Waiting() > 0 && ctx.Err() == nil {
		if d := p.do(ctx, action{name: "deliver"}); !d.Approved {
			bad++
		}
	}
	if p.writeErr != nil {
		return p.writeErr
	}
	if bad > 0 {
		return errNotApproved
	}
	return nil
}

// action is one parsed line.
type action struct {
	name   string
	x      terminal.Transaction
	sum    bool   // an amount was given
	ref    string // the name of the transaction that it is about, or last
	as     string // what it will be called
	reason terminal.Reason
	image  []byte
}

// parse reads one line. It knows the words; whether a name stands for a
// transaction is seen when the action is done.
func (p *till) parse(text string) (action, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return action{}, errors.New("an empty action")
	}
	a := action{name: words[0]}
	switch words = words[1:]; a.name {
	case "echo", "sign-in", "sign-off", "settle", "deliver", "tmk":
		switch {
		case len(words) > 0:
			return a, fmt.Errorf("%s takes nothing", a.name)
		case a.name == "tmk" && p.noTTK:
			return a, errors.New("tmk needs the key that a new master key comes under: --ttk-file")
		}
		return a, nil
	case "reverse":
		return a, a.parseReason(words)
	case "sign":
		return a, a.parseSignature(words)
	}
	kind, err := terminal.ParseKind(kindName(a.name))
	if err != nil {
		return a, fmt.Errorf("%q is no action: sale, void, refund, qr, settle, reverse, echo... (see --help)", a.name)
	}
	a.x.Kind = kind
	if err := p.parseTransaction(&a, words); err != nil {
		return a, fmt.Errorf("%s: %w", a.name, err)
	}
	return a, nil
}

// kindName is what a kind is called in full.
func kindName(word string) string {
	switch word {
	case "complete":
		return "completion"
	case "qr":
		return "qr_sale"
	}
	return strings.ReplaceAll(word, "-", "_")
}

func (a *action) parseReason(words []string) error {
	if len(words) > 1 {
		return errors.New("reverse takes one reason")
	}
	if len(words) == 1 {
		a.reason = terminal.Reason(words[0])
		if a.reason != terminal.ReasonTimeout && a.reason != terminal.ReasonMAC && a.reason != terminal.ReasonOther {
			return fmt.Errorf("reverse %s: the reason is 98, A0 or 06", words[0])
		}
	}
	return nil
}

func (a *action) parseSignature(words []string) (err error) {
	if len(words) < 1 || len(words) > 2 {
		return errors.New("sign takes a file and perhaps the name of a transaction")
	}
	if a.ref = last; len(words) == 2 {
		a.ref = words[1]
	}
	if a.image, err = os.ReadFile(words[0]); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

// last names the last transaction that was approved.
const last = "last"

// contactlessPINAbove is the amount above which a contactless sale asks for a
// PIN (protocol.md 3.6).
var contactlessPINAbove = money.Yuan(1000)

// parseTransaction reads the words behind a kind's name.
func (p *till) parseTransaction(a *action, words []string) error {
	x := &a.x
	x.Amount, x.Entry = p.amount, p.entry
	name, noPIN, read := p.card, p.noPIN, false
	if x.Kind == terminal.KindOfflineSale { // it was authorised without the card: the number is typed
		x.Entry = terminal.Keyed
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		key, value, _ := strings.Cut(w, ":")
		if w == "as" && i+1 < len(words) {
			i++
			a.as = words[i]
		} else if w == "nopin" {
			noPIN = true
		} else if w == "partial" {
			x.Partial = true
		} else if w == "addon" {
			x.AddOn = true
		} else if w == "later" {
			x.Later = true
		} else if key == "auth" {
			x.AuthCode = value
		} else if key == "text" {
			x.Text = value
		} else if code, ok := payCode(w); ok && x.Kind == terminal.KindQRSale {
			x.PayCode = code
		} else if e, err := terminal.ParseEntry(w); err == nil {
			x.Entry, read = e, true
		} else if amount, err := money.Parse(w); err == nil {
			x.Amount, a.sum = amount, true
		} else if _, err := simcard.ParseCard(w); err == nil {
			name, read = w, true
		} else if about(x) && a.ref == "" && w != "as" {
			a.ref = w
		} else {
			return fmt.Errorf("%q is no amount, entry, card or word of it", w)
		}
	}
	if x.Amount <= 0 {
		return fmt.Errorf("%s is not above zero", x.Amount)
	}
	if x.Kind.NeedsOriginal() && a.ref == "" {
		a.ref = last
	}
	switch x.Kind {
	case terminal.KindQRSale:
		if x.PayCode == "" {
			return errors.New("it wants a payment code: 16 to 24 digits, or wechat:1")
		}
	case terminal.KindTip:
		if !a.sum {
			return errors.New("it wants an amount")
		}
		x.Tip, x.Amount = x.Amount, 0
	}
	if !x.Kind.NeedsCard() || a.ref != "" && !read && !x.Kind.NeedsChip() {
		return nil
	}
	return p.takeCard(x, name, noPIN)
}

// about reports whether a transaction may name an earlier one.
func about(x *terminal.Transaction) bool {
	return x.Kind.NeedsOriginal() || x.Kind == terminal.KindRefund || x.Kind == terminal.KindPreauth && x.AddOn
}

// hand is the card of a name; it stays the same one, whose chip counts on.
func (p *till) hand(name string) (*simcard.Card, error) {
	if c := p.cards[name]; c != nil {
		return c, nil
	}
	pan, err := simcard.ParseCard(name)
	if err != nil {
		return nil, err
	}
	c, err := simcard.New(pan)
	if err != nil {
		return nil, err
	}
	c.SetATC(uint16(time.Now().Unix() / 2 % 60000)) // ahead of what earlier runs used
	if p.cards == nil {
		p.cards = map[string]*simcard.Card{}
	}
	p.cards[name] = c
	return c, nil
}

// takeCard puts a card into the terminal and has its PIN typed.
func (p *till) takeCard(x *terminal.Transaction, name string, noPIN bool) (err error) {
	if x.Card, err = p.hand(name); err != nil {
		return err
	}
	if chip := x.Entry == terminal.Chip || x.Entry == terminal.Contactless; chip && !x.Card.HasChip {
		return fmt.Errorf("the card %s has no chip; take another, or stripe", name)
	}
	if x.Kind.TakesPIN() && !noPIN && x.Entry != terminal.Keyed && (x.Entry != terminal.Contactless || x.Amount > contactlessPINAbove) {
		x.PIN = x.Card.PIN
	}
	return nil
}

// payCode reads a payment code: its digits, or the wallet that shows it and a
// number, whose prefixes and lengths are those of protocol.md 11.1.
func payCode(word string) (string, bool) {
	if wallet, number, ok := strings.Cut(word, ":"); ok {
		prefix, digits := map[string]string{"wechat": "13", "alipay": "28", "unionpay": "62"}[wallet], 18
		if wallet == "unionpay" {
			digits = 19
		}
		n, err := strconv.ParseUint(number, 10, 48)
		if prefix == "" || err != nil {
			return "", false
		}
		return fmt.Sprintf("%s%0*d", prefix, digits-len(prefix), n), true
	}
	return word, len(word) >= 16 && len(word) <= 24 && strings.Trim(word, "0123456789") == ""
}

// find is the slip that a name stands for.
func (p *till) find(name string) (*terminal.Slip, error) {
	if name == last {
		if s, ok := p.term.LastSlip(); ok {
			return &s, nil
		}
		return nil, errors.New("nothing has been approved yet")
	}
	key, ok := p.named[name]
	if ok {
		var s terminal.Slip
		if s, ok = p.term.Slip(key.STAN); ok && s.Key == key {
			return &s, nil
		}
	}
	return nil, fmt.Errorf("no transaction of this batch is called %q (\"as %s\" behind one does that)", name, name)
}

// do does one action, after signing in when that has not been done.
func (p *till) do(ctx context.Context, a action) done {
	if !p.signedIn && a.name != "sign-in" && a.name != "echo" && a.name != "tmk" {
		if d := p.do(ctx, action{name: "sign-in"}); !d.Approved {
			return d
		}
	}
	d := done{Action: a.name}
	var err error
	var res terminal.Result
	managed := true
	switch a.name {
	case "sign-in":
		err = p.term.SignIn(ctx)
		p.signedIn = err == nil
	case "sign-off":
		err = p.term.SignOff(ctx)
		p.signedIn = p.signedIn && err != nil
	case "echo":
		err = p.term.Echo(ctx)
	case "deliver":
		err = p.term.Deliver(ctx)
	case "tmk":
		err = p.term.DownloadTMK(ctx)
		p.signedIn = err == nil
	case "settle":
		d.Settled, err = p.settle(ctx)
	case "sign":
		var s *terminal.Slip
		if s, err = p.find(a.ref); err == nil {
			_, err = p.term.Sign(ctx, *s, a.image)
		}
	case "reverse":
		managed = false
		res, err = p.term.Reverse(ctx, terminal.Reversal{Reason: a.reason})
		d.Approved = err == nil
	default:
		managed = false
		res, err = p.transact(ctx, &a)
		d.Amount = a.x.Amount
		d.Approved = err == nil && (res.Approved() || a.x.Later)
	}
	if !managed {
		d.STAN, d.Code, d.RRN, d.AuthCode = res.STAN, res.Code, res.RRN, res.AuthCode
		d.Voucher, d.Balance = res.Voucher, res.Balance
	}
	var refused *terminal.Refusal
	switch {
	case errors.As(err, &refused):
		d.Code = refused.Code
	case err == nil && managed:
		d.Code, d.Approved = "00", true
	}
	if err != nil {
		d.Error = err.Error()
	}
	p.print(&d)
	return d
}

// transact does a transaction, after finding the one that it is about.
func (p *till) transact(ctx context.Context, a *action) (terminal.Result, error) {
	if a.ref != "" {
		o, err := p.find(a.ref)
		if err != nil {
			a.x.Amount = 0
			return terminal.Result{}, fmt.Errorf("nothing was sent: %w", err)
		}
		a.x.Original = o
		switch {
		case a.x.Kind == terminal.KindTip:
			a.x.Amount = o.Amount + a.x.Tip
		case !a.sum:
			a.x.Amount = o.Due()
		}
	}
	if !a.x.Kind.NeedsAmount() {
		a.x.Amount = 0
	}
	res, err := p.term.Transact(ctx, a.x)
	if s, ok := p.term.LastSlip(); ok && err == nil && a.as != "" && s.STAN == res.STAN {
		if p.named == nil {
			p.named = map[string]terminal.Key{}
		}
		p.named[a.as] = s.Key
	}
	return res, err
}

func (p *till) settle(ctx context.Context) (*settled, error) {
	r, err := p.term.Settle(ctx)
	if err != nil {
		return nil, err
	}
	return &settled{
		Batch: r.Batch, Domestic: r.Domestic, Foreign: r.Foreign, Uploaded: r.Uploaded, Next: r.Next,
		Debit:  money.Amount(r.Totals.Domestic.Debit.Fen + r.Totals.Foreign.Debit.Fen),
		Credit: money.Amount(r.Totals.Domestic.Credit.Fen + r.Totals.Foreign.Credit.Fen),
	}, nil
}

func (p *till) print(d *done) {
	if p.json {
		b, err := json.Marshal(d)
		p.write(string(b)+"\n", err)
		return
	}
	var b strings.Builder
	b.WriteString(d.Action)
	if d.Amount != 0 {
		fmt.Fprintf(&b, " %s", d.Amount)
	}
	if d.STAN != 0 {
		fmt.Fprintf(&b, ", trace number %06d", d.STAN)
	}
	if d.Code != "" {
		code := switching.ResponseCode(d.Code)
		fmt.Fprintf(&b, ": %s %s, %s", d.Code, code.Chinese(), code.English())
	}
	if d.RRN != "" {
		fmt.Fprintf(&b, ", reference %s", d.RRN)
	}
	if d.AuthCode != "" {
		fmt.Fprintf(&b, ", authorisation %s", d.AuthCode)
	}
	if d.Voucher != "" {
		fmt.Fprintf(&b, ", voucher %s", d.Voucher)
	}
	if d.Balance != nil {
		fmt.Fprintf(&b, ", balance %s", *d.Balance)
	}
	switch s := d.Settled; {
	case s == nil:
	case s.Batch == 0: // a terminal without batches
		fmt.Fprintf(&b, ", the host's debit %s, credit %s, %s", s.Debit, s.Credit, balanceWord(s.Domestic))
	default:
		fmt.Fprintf(&b, ", batch %06d: debit %s, credit %s, domestic %s, foreign %s, %d records uploaded; next %06d",
			s.Batch, s.Debit, s.Credit, balanceWord(s.Domestic), balanceWord(s.Foreign), s.Uploaded, s.Next)
	}
	switch {
	case d.Error != "" && b.String() == d.Action:
		fmt.Fprintf(&b, ": %s", d.Error)
	case d.Error != "":
		fmt.Fprintf(&b, "; %s", d.Error)
	}
	b.WriteString("\n\n")
	p.write(b.String(), nil)
}

func balanceWord(b spec.Balance) string {
	switch b {
	case spec.Balanced:
		return "balanced"
	case spec.NotBalanced:
		return "not balanced"
	}
	return "not compared"
}

func (p *till) write(text string, err error) {
	if err == nil {
		_, err = io.WriteString(p.out, text)
	}
	if p.writeErr == nil {
		p.writeErr = err
	}
}

// show prints one frame, masked.
func (p *till) show(tr terminal.Traffic) {
	if p.json {
		return
	}
	var b strings.Builder
	arrow := "<--"
	if tr.Sent {
		arrow = "-->"
	}
	fmt.Fprintf(&b, "%s %s %d bytes\n", arrow, tr.At.Format("15:04:05.000"), len(tr.Bytes))
	f, err := spec.ParsePOSFrame(tr.Bytes[2:])
	var m spec.Message
	if err == nil {
		err = spec.UnionPayPOS.Parse(&m, f.Body)
	}
	if err != nil {
		fmt.Fprintf(&b, "    %v\n", err)
	} else {
		fmt.Fprintf(&b, "    mti %s %s\n", m.MTI(), m.MTI().Title())
		writeItems(&b, spec.Describe(&m), "    ")
	}
	p.write(b.String(), nil)
}
