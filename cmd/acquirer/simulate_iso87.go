package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/iso87"
	"acquirer/simulate/terminal"
	"acquirer/spec"
)

// newSimulateISO87Cmd is `acquirer simulate iso87`: one terminal of another
// make, by script or by hand.
func newSimulateISO87Cmd() *cobra.Command {
	var (
		line             lineFlags
		cfg              iso87.Config
		dialect, tmkFile string
		amount, entry    string
		p                otherTill
		asJSON           bool
	)
	cmd := &cobra.Command{
		Use:   "iso87 [ACTION...]",
		Short: "One terminal that speaks ISO 8583:1987: sells, reverses, reconciles, and shows every message masked",
		Long: `iso87 exchanges keys and does its actions in order, each an argument; without
arguments it reads them from standard input, a line each:

  sale [AMOUNT] [ENTRY] [CARD] [nopin]   ENTRY: chip contactless stripe keyed fallback
  balance, preauth                       as sale
  offline_sale AMOUNT CARD auth:123456   authorised by telephone
  chip_offline_sale [AMOUNT] [CARD]      approved by the chip
  void, preauth_void, completion, completion_void, completion_notice
                                         [last|NAME] [AMOUNT]
  refund [last|NAME] [AMOUNT] CARD       without last or NAME it is not linked
  more, less [last|NAME] AMOUNT          an adjustment by AMOUNT
  reverse [last|NAME] [0400|0420] [17]   the last that can be reversed; DE 39
  settle                                 the totals since the last time (0500)
  keys, sign-on, sign-off, echo

"as NAME" behind a transaction names it for later ones; last is the last that
was approved. The dialect is one of acquirer spec list or a file of your own
(docs/dialects.md); the address is one of the host's terminals.dialects. CARD is
a simulated card: north, south:17, east:lost. The exit status is 0 when every
action was answered and approved.

The terminal's key is the TEST key of its TID in the seeded world, or the one in
--tmk-file (32 hex digits).`,
		Example: `  acquirer simulate iso87 --addr 127.0.0.1:8584 "sale 12.34 chip north as lunch" "void lunch"
  acquirer simulate iso87 --addr 127.0.0.1:8585 --dialect iso87-bcd --mac cmac "preauth 500.00" "completion last 432.10" settle`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.out, p.json = cmd.OutOrStdout(), asJSON
			var err error
			if cfg.Dialect, err = loadDialect(dialect); err != nil {
				return err
			}
			if cfg.Dial, err = line.dialer(cmd.Context()); err != nil {
				return err
			}
			if p.usual.Amount, err = money.Parse(amount); err != nil {
				return usageError{fmt.Errorf("--amount: %w", err)}
			}
			if p.usual.Entry, err = terminal.ParseEntry(entry); err != nil {
				return usageError{fmt.Errorf("--entry: %w", err)}
			}
			if cfg.TMK, err = terminalKey(cfg.TID, tmkFile); err != nil {
				return usageError{err}
			}
			cfg.Timeout, cfg.Observe = line.timeout, func(sent bool, frame []byte) { p.showMessage(cfg.Dialect, sent, frame) }
			if cfg.STAN == 0 {
				cfg.STAN = time.Now().Nanosecond() / 1001 // a script may call twice within a second
			} else {
				cfg.STAN-- // the flag names the first, the terminal counts the last used
			}
			if p.term, err = iso87.New(cfg); err != nil {
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
	f.StringVar(&dialect, "dialect", "iso87-ascii", "dialect: iso87-ascii, iso87-bcd or a dialect file")
	f.StringVar(&cfg.TID, "tid", tid, "terminal (DE 41)")
	f.StringVar(&cfg.MID, "mid", mid, "merchant (DE 42)")
	f.StringVar(&tmkFile, "tmk-file", "", "file with the terminal's TEST master key as 32 hex digits")
	f.StringVar(&cfg.MAC, "mac", "", "MAC: x919 or cmac (default what the dialect says)")
	f.StringVar(&cfg.KSN, "ksn", "", "PINs go under DUKPT with a published test base key: the key serial number before the first, like FFFF9876543210E00000 (TDES) or 123456789012345600000000 (AES)")
	f.StringVar(&amount, "amount", "1.00", "amount of a sale, in yuan")
	f.StringVar(&entry, "entry", "chip", "how the card is read: chip, contactless, stripe, keyed, fallback")
	f.StringVar(&p.card, "card", "north", "the card: north, south:17, east:lost, ...")
	f.BoolVar(&p.noPIN, "no-pin", false, "type no PIN")
	f.IntVar(&cfg.STAN, "stan", 0, "first trace number (default by the clock)")
	f.BoolVar(&asJSON, "json", false, "print one JSON object per action instead of the messages")
	return cmd
}

// otherTill is the person at a terminal of another dialect.
type otherTill struct {
	till
	term  *iso87.Terminal
	usual iso87.Transaction // what a sale leaves out
	slips map[string]*iso87.Slip
	keyed bool
}

// otherAction is one parsed line.
type otherAction struct {
	name    string
	x       iso87.Transaction
	reverse iso87.Reversal
	ref, as string
}

// parse reads one line; whether a name stands for a transaction is seen when
// the action is done.
func (p *otherTill) parse(text string) (a otherAction, err error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return a, errors.New("an empty action")
	}
	a.name, words = words[0], words[1:]
	switch {
	case a.name == "reverse":
		return a, a.parseReverse(words)
	case a.name == "settle", a.name == "keys", a.name == "sign-on", a.name == "sign-off", a.name == "echo":
		if len(words) > 0 {
			err = fmt.Errorf("%s takes nothing", a.name)
		}
		return a, err
	case !iso87.Known(a.name):
		return a, fmt.Errorf("%q is no action: sale, void, refund, preauth, reverse, settle... (see --help)", a.name)
	}
	if err = p.parseWords(&a, words); err != nil {
		return a, fmt.Errorf("%s: %w", a.name, err)
	}
	return a, nil
}

func (a *otherAction) parseReverse(words []string) error {
	for _, w := range words {
		switch {
		case w == "0400" || w == "0401" || w == "0420" || w == "0421":
			v, err := strconv.ParseUint(w, 16, 16)
			if err != nil {
				return err
			}
			a.reverse.MTI = spec.MTI(v)
		case len(w) == 2:
			a.reverse.Reason = w
		case a.ref == "":
			a.ref = w
		default:
			return fmt.Errorf("reverse: %q is no name, message type or reason", w)
		}
	}
	return nil
}

func (p *otherTill) parseWords(a *otherAction, words []string) (err error) {
	x := &a.x
	*x = p.usual
	x.Kind = a.name
	about := iso87.Follows(a.name)
	card, noPIN, told := p.card, p.noPIN, false
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "as" && i+1 < len(words) {
			i++
			a.as = words[i]
		} else if w == "nopin" {
			noPIN = true
		} else if auth, ok := strings.CutPrefix(w, "auth:"); ok {
			x.AuthCode = auth
		} else if e, err := terminal.ParseEntry(w); err == nil {
			x.Entry = e
		} else if amount, err := money.Parse(w); err == nil {
			x.Amount, told = amount, true
		} else if _, err := simcard.ParseCard(w); err == nil {
			card = w
		} else if about && a.ref == "" {
			a.ref = w
		} else {
			return fmt.Errorf("%q is no amount, entry, card or word of it", w)
		}
	}
	if about && !told || a.name == "balance" {
		x.Amount = 0 // the original's, or none
	}
	if about && a.ref == "" && a.name != "refund" {
		a.ref = last
	}
	if about && a.name != "refund" {
		return nil
	}
	if x.Card, err = p.hand(card); err != nil {
		return err
	}
	switch {
	case a.name == "refund", a.name == "offline_sale":
		x.Entry, noPIN = terminal.Keyed, true
	case a.name == "chip_offline_sale":
		x.Entry, noPIN = terminal.Chip, true
	}
	if chip := x.Entry == terminal.Chip || x.Entry == terminal.Contactless; chip && !x.Card.HasChip {
		return fmt.Errorf("the card %s has no chip; take another, or stripe", card)
	}
	if !noPIN && x.Entry != terminal.Keyed && (x.Entry != terminal.Contactless || x.Amount > contactlessPINAbove) {
		x.PIN = x.Card.PIN
	}
	return nil
}

func (p *otherTill) run(ctx context.Context, actions []string, stdin io.Reader) error {
	bad := 0
	do := func(text string) {
		if d := p.act(ctx, text); !d.Approved {
			bad++
		}
	}
	for _, a := range actions {
		do(a)
	}
	if len(actions) == 0 {
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
		do("reverse 0420")
	}
	if p.writeErr != nil {
		return p.writeErr
	}
	if bad > 0 {
		return errNotApproved
	}
	return nil
}

// act does one line and prints what became of it.
func (p *otherTill) act(ctx context.Context, text string) done {
	a, err := p.parse(text)
	d := done{Action: a.name, Amount: a.x.Amount}
	if err == nil && !p.keyed && a.name != "echo" && a.name != "keys" && a.name != "sign-on" && a.name != "sign-off" {
		if err = p.term.ExchangeKeys(ctx); err == nil {
			p.keyed = true
		}
	}
	if err == nil {
		err = p.do(ctx, &a, &d)
	}
	if err != nil {
		d.Action, d.Approved, d.Error = text, false, err.Error()
	}
	p.print(&d)
	return d
}

func (p *otherTill) do(ctx context.Context, a *otherAction, d *done) error {
	manage := map[string]func(context.Context) error{"keys": p.term.ExchangeKeys, "sign-on": p.term.SignOn, "sign-off": p.term.SignOff, "echo": p.term.Echo}
	if do := manage[a.name]; do != nil {
		err := do(ctx)
		d.Approved = err == nil
		p.keyed = p.keyed || a.name == "keys" && err == nil
		var refused *terminal.Refusal
		if errors.As(err, &refused) {
			d.Code = refused.Code
		}
		return err
	}
	if a.name == "settle" {
		r, err := p.term.Reconcile(ctx)
		if err != nil {
			return err
		}
		balance := spec.Balanced
		if !r.Balanced {
			balance = spec.NotBalanced
		}
		d.Approved, d.Settled = r.Balanced, &settled{Domestic: balance, Debit: money.Amount(r.Debit.Fen), Credit: money.Amount(r.Credit.Fen)}
		return nil
	}
	if a.ref != "" {
		slip := p.slips[a.ref]
		if slip == nil {
			return fmt.Errorf("nothing is called %q", a.ref)
		}
		a.x.Original, a.reverse.Of = slip, slip
		if a.x.Amount == 0 {
			a.x.Amount = slip.Amount
		}
		d.Amount = a.x.Amount
	}
	var answer *iso87.Answer
	var err error
	if a.name == "reverse" {
		answer, err = p.term.Reverse(ctx, a.reverse)
	} else {
		var slip *iso87.Slip
		answer, slip, err = p.term.Transact(ctx, a.x)
		if err == nil && answer.Approved() {
			p.remember(a.as, slip)
		}
	}
	if err != nil {
		return err
	}
	d.STAN, d.Code, d.RRN, d.AuthCode, d.Balance, d.Approved = answer.STAN, answer.Code, answer.RRN, answer.AuthCode, answer.Balance, answer.Approved()
	return nil
}

func (p *otherTill) remember(name string, slip *iso87.Slip) {
	if p.slips == nil {
		p.slips = map[string]*iso87.Slip{}
	}
	p.slips[last] = slip
	if name != "" {
		p.slips[name] = slip
	}
}

// showMessage prints one message, masked.
func (p *otherTill) showMessage(d *spec.Dialect, sent bool, b []byte) {
	if p.json {
		return
	}
	arrow, body := "<--", b
	if sent {
		arrow, body = "-->", d.FrameBody(b)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s %d bytes\n", arrow, time.Now().Format("15:04:05.000"), len(b))
	var m spec.Message
	if err := d.Parse(&m, body); err != nil {
		fmt.Fprintf(&out, "    %v\n", err)
	} else {
		fmt.Fprintf(&out, "    mti %s %s\n", m.MTI(), m.MTI().Title())
		writeItems(&out, spec.Describe(&m), "    ")
	}
	p.write(out.String(), nil)
}
