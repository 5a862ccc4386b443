package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/money"
	"acquirer/simulate/card"
	"acquirer/simulate/terminal"
	"acquirer/spec"
	switching "acquirer/switch"
)

// newSimulateTerminalCmd is `acquirer simulate terminal`: one terminal, by
// script or by hand.
func newSimulateTerminalCmd() *cobra.Command {
	var (
		line                        lineFlags
		cfg                         terminal.Config
		tmkFile, mac, amount, entry string
		cardName                    string
		noPIN, asJSON               bool
	)
	cmd := &cobra.Command{
		Use:   "terminal [ACTION...]",
		Short: "One terminal: signs in, sells, reverses, and shows every message masked",
		Long: `terminal signs in and does its actions in order, each an argument; without
arguments it reads them from standard input, a line each:

  sale [AMOUNT] [ENTRY] [CARD] [nopin]   ENTRY: chip contactless stripe keyed fallback
  reverse [98|A0|06]                     the last sale
  echo, sign-in, sign-off

What a sale leaves out comes from the flags. CARD is a simulated card: north,
south:17, east:lost (no-account lost stolen expired wrong-pin no-money
restricted bad-chip tried-out). The PIN is the card's own; keyed entry and
contactless sales up to 1000 yuan ask for none.

A sale without a valid answer leaves a reversal pending, which goes before the
next sale, or at the end. The exit status is 0 when every action was answered
and approved.

The terminal's key is the TEST key of its TID in the seeded world, or the one in
--tmk-file (32 hex digits).`,
		Example: `  acquirer simulate terminal sale --amount 12.34 --entry chip
  acquirer simulate terminal --tid 10000026 --mid 898110054110007 "sale 100.00 stripe north" reverse echo`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p := till{out: cmd.OutOrStdout(), json: asJSON, noPIN: noPIN}
			var err error
			if cfg.Dial, err = line.dialer(cmd.Context()); err != nil {
				return err
			}
			if p.amount, err = money.Parse(amount); err != nil {
				return usageError{fmt.Errorf("--amount: %w", err)}
			}
			if p.entry, err = terminal.ParseEntry(entry); err != nil {
				return usageError{fmt.Errorf("--entry: %w", err)}
			}
			p.card = cardName
			if _, err := simcard.ParseCard(cardName); err != nil {
				return usageError{fmt.Errorf("--card: %w", err)}
			}
			if cfg.TMK, err = terminalKey(cfg.TID, tmkFile); err != nil {
				return usageError{err}
			}
			cfg.Timeout, cfg.Profile.MAC, cfg.Observe = line.timeout, terminal.MACAlg(mac), p.show
			// A script may call twice within a second: the batch is the second, the
			// trace number a thousandth of a thousandth of it.
			now := time.Now()
			if cfg.State.Batch == 0 {
				cfg.State.Batch = int(now.Unix()%999999) + 1
			}
			if cfg.State.STAN == 0 {
				cfg.State.STAN = now.Nanosecond() / 1001
			} else {
				cfg.State.STAN-- // the flag names the first, the state the last used
			}
			if p.term, err = terminal.New(cfg); err != nil {
				return usageError{err}
			}
			for _, a := range args { // all of the script is read before any of it is done
				if _, err := p.parse(a); err != nil {
					return usageError{err}
				}
			}
			err = p.run(cmd.Context(), args, cmd.InOrStdin())
			return errors.Join(err, p.term.Close())
		},
	}
	line.add(cmd)
	f := cmd.Flags()
	tid, mid := simcard.SeedTerminal(simcard.StreetTerminals)
	f.StringVar(&cfg.TID, "tid", tid, "terminal (DE 41)")
	f.StringVar(&cfg.MID, "mid", mid, "merchant (DE 42)")
	f.StringVar(&tmkFile, "tmk-file", "", "file with the terminal's TEST master key as 32 hex digits")
	f.IntVar(&cfg.Profile.KeySet, "key-set", terminal.DefaultProfile.KeySet, "working keys at sign-in: 1, 3 or 4 (with a track key)")
	f.StringVar(&mac, "mac", string(terminal.DefaultProfile.MAC), "MAC: unionpay, x99, x919 or cmac")
	f.StringVar(&amount, "amount", "1.00", "amount of a sale, in yuan")
	f.StringVar(&entry, "entry", "chip", "how the card is read: chip, contactless, stripe, keyed, fallback")
	f.StringVar(&cardName, "card", "north", "the card: north, south:17, east:lost, ...")
	f.BoolVar(&noPIN, "no-pin", false, "type no PIN")
	f.IntVar(&cfg.State.Batch, "batch", 0, "batch number (default by the clock)")
	f.IntVar(&cfg.State.STAN, "stan", 0, "first trace number (default by the clock)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object per action instead of the messages")
	return cmd
}

// terminalKey reads a test master key from a file, or derives the seeded one.
func terminalKey(tid, file string) (key [16]byte, err error) {
	if file == "" {
		return simcard.TestTMK(tid), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return key, fmt.Errorf("--tmk-file: %w", err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != len(key) {
		return key, fmt.Errorf("--tmk-file %s: not 32 hex digits", file)
	}
	return [16]byte(b), nil
}

// till is the person at the terminal.
type till struct {
	out    io.Writer
	term   *terminal.Terminal
	json   bool
	amount money.Amount
	entry  terminal.Entry
	card   string
	noPIN  bool

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
	Error    string       `json:"error,omitempty"`
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
	sale   terminal.Sale
	reason terminal.Reason
}

func (p *till) parse(text string) (action, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return action{}, errors.New("an empty action")
	}
	a := action{name: words[0]}
	switch a.name {
	case "echo", "sign-in", "sign-off":
		if len(words) > 1 {
			return a, fmt.Errorf("%s takes nothing", a.name)
		}
		return a, nil
	case "reverse":
		if len(words) > 2 {
			return a, fmt.Errorf("reverse takes one reason")
		}
		if len(words) == 2 {
			a.reason = terminal.Reason(words[1])
			if a.reason != terminal.ReasonTimeout && a.reason != terminal.ReasonMAC && a.reason != terminal.ReasonOther {
				return a, fmt.Errorf("reverse %s: the reason is 98, A0 or 06", words[1])
			}
		}
		return a, nil
	case "sale":
		var err error
		a.sale, err = p.parseSale(words[1:])
		return a, err
	}
	return a, fmt.Errorf("%q is no action: sale, reverse, echo, sign-in, sign-off", a.name)
}

// contactlessPINAbove is the amount above which a contactless sale asks for a
// PIN (protocol.md 3.6).
var contactlessPINAbove = money.Yuan(1000)

func (p *till) parseSale(words []string) (terminal.Sale, error) {
	s := terminal.Sale{Amount: p.amount, Entry: p.entry}
	name, noPIN := p.card, p.noPIN
	for _, w := range words {
		if w == "nopin" {
			noPIN = true
		} else if e, err := terminal.ParseEntry(w); err == nil {
			s.Entry = e
		} else if amount, err := money.Parse(w); err == nil {
			s.Amount = amount
		} else if _, err := simcard.ParseCard(w); err == nil {
			name = w
		} else {
			return s, fmt.Errorf("sale: %q is no amount, entry, card or nopin", w)
		}
	}
	if s.Amount <= 0 {
		return s, fmt.Errorf("sale: %s is not above zero", s.Amount)
	}
	pan, err := simcard.ParseCard(name)
	if err != nil {
		return s, err
	}
	if s.Card, err = simcard.New(pan); err != nil {
		return s, err
	}
	s.Card.SetATC(uint16(time.Now().Unix() / 2 % 60000)) // ahead of what earlier runs used
	if chip := s.Entry == terminal.Chip || s.Entry == terminal.Contactless; chip && !s.Card.HasChip {
		return s, fmt.Errorf("sale: the card %s has no chip; take another, or stripe", name)
	}
	if !noPIN && s.Entry != terminal.Keyed && (s.Entry != terminal.Contactless || s.Amount > contactlessPINAbove) {
		s.PIN = s.Card.PIN
	}
	return s, nil
}

// do does one action, after signing in when that has not been done.
func (p *till) do(ctx context.Context, a action) done {
	if !p.signedIn && a.name != "sign-in" && a.name != "echo" {
		if d := p.do(ctx, action{name: "sign-in"}); !d.Approved {
			return d
		}
	}
	d := done{Action: a.name}
	var err error
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
	default:
		managed = false
		var res terminal.Result
		if a.name == "sale" {
			d.Amount = a.sale.Amount
			res, err = p.term.Sale(ctx, a.sale)
		} else {
			res, err = p.term.Reverse(ctx, terminal.Reversal{Reason: a.reason})
		}
		d.STAN, d.Code, d.RRN, d.AuthCode = res.STAN, res.Code, res.RRN, res.AuthCode
		d.Approved = err == nil && (res.Approved() || a.name == "reverse")
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
	if d.Error != "" {
		fmt.Fprintf(&b, "; %s", d.Error)
	}
	b.WriteString("\n\n")
	p.write(b.String(), nil)
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
