package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/money"
	"acquirer/simulate/card"
	"acquirer/simulate/terminal"
)

// newSimulateTerminalCmd is `acquirer simulate terminal`: one terminal, by
// script or by hand.
func newSimulateTerminalCmd() *cobra.Command {
	var (
		line                  lineFlags
		cfg                   terminal.Config
		tmkFile, ttkFile, pin string
		mac, amount, entry    string
		cardName              string
		noPIN, asJSON         bool
	)
	cmd := &cobra.Command{
		Use:   "terminal [ACTION...]",
		Short: "One terminal: signs in, sells, reverses, and shows every message masked",
		Long: `terminal signs in and does its actions in order, each an argument; without
arguments it reads them from standard input, a line each:

  sale [AMOUNT] [ENTRY] [CARD] [nopin]   ENTRY: chip contactless stripe keyed fallback
  balance, preauth                       as sale
  qr AMOUNT CODE                         a payment code: digits, or wechat:1 alipay:2 unionpay:3;
                                         a code pays once
  void, preauth_void, completion, completion_void, completion_notice, adjust,
  qr_void, qr_refund                     [last|NAME] [AMOUNT] [ENTRY] [CARD]
  refund                                 the same; without last or NAME it is not linked
  tip [last|NAME] AMOUNT                 AMOUNT is the tip
  offline_sale AMOUNT CARD auth:T12345   authorised by telephone, the number typed
  chip_offline_sale [AMOUNT] [CARD]      approved by the chip
  points                                 as sale
  instalment, topup_cash, topup_account, topup_check, ecash_load,
  ecash_cash_load, ecash_load_other      as sale, and text:TERMS; ecash_load_void as void.
                                         Few issuers take these: 40 is the usual answer
  reverse [98|A0|06]                     the last transaction that can be reversed
  sign FILE [last|NAME]                  the customer's signature, a JBIG image
  deliver                                script results, reversal and notices, now
  settle                                 totals, uploads, end of the batch
  tmk                                    a new master key, under --ttk-file
  echo, sign-in, sign-off

"as NAME" behind a transaction names it for later ones of the same run; last is
the last that was approved, a tip or a refund too. A void is for a sale: what
voids a pre-authorisation or a completion is preauth_void, completion_void.
Without an amount a later one takes that of the first, without a card it keys
its number. More words: partial (partial approval understood), addon (of a
preauth), later (a notice waits until after the next transaction).

What a sale leaves out comes from the flags. CARD is a simulated card: north,
south:17, east:lost (no-account lost stolen expired wrong-pin no-money
restricted bad-chip tried-out). The PIN is the card's own; keyed entry and
contactless sales up to 1000 yuan ask for none. Nearly all cards have a chip, and
their stripe is answered 45; south:5 and west:4 have none.

A transaction without a valid answer leaves a reversal pending, or a notice to
be sent again, which goes around the next one, or at the end. The exit status
is 0 when every action was answered and approved.

The terminal's key is the TEST key of its TID in the seeded world, or the one in
--tmk-file (32 hex digits).`,
		Example: `  acquirer simulate terminal sale --amount 12.34 --entry chip
  acquirer simulate terminal "sale 20.00 as lunch" "void lunch" "qr 9.00 wechat:7" settle
  acquirer simulate terminal "preauth 500.00 as room" "completion room 432.10 as bill" "completion_void bill"
  acquirer simulate terminal --tid 10000026 --mid 898110054110007 "sale 100.00 stripe south:5" reverse echo`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p := till{out: cmd.OutOrStdout(), json: asJSON, noPIN: noPIN, noTTK: ttkFile == ""}
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
			if ttkFile != "" {
				if cfg.TTK, err = keyFile("--ttk-file", ttkFile); err != nil {
					return usageError{err}
				}
			}
			cfg.Timeout, cfg.Profile.MAC, cfg.Observe = line.timeout, terminal.MACAlg(mac), p.show
			cfg.Profile.PIN, cfg.KeepSlips = terminal.PINStyle(pin), true
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
	f.StringVar(&ttkFile, "ttk-file", "", "file with the TEST key that a new master key comes under, as 32 hex digits")
	f.StringVar(&cfg.Profile.Download, "download", terminal.DefaultProfile.Download, "how tmk asks for it: 420, 682 or 99")
	f.IntVar(&cfg.Profile.KeySet, "key-set", terminal.DefaultProfile.KeySet, "working keys at sign-in: 1, 3, 4 (with a track key) or 5 (SM4)")
	f.StringVar(&mac, "mac", string(terminal.DefaultProfile.MAC), "MAC: unionpay, x99, x919, cmac or sm4")
	f.StringVar(&pin, "pin-block", string(terminal.DefaultProfile.PIN), "PIN blocks: pan (with the account number) or no-pan")
	f.StringVar(&cfg.Profile.Device.Serial, "serial", "", "serial number, told in payments by code, by tmk, and beside a place")
	f.StringVar(&cfg.Profile.Device.Place, "place", "", "where it stands, told in every transaction: +31.23037/+121.47370; not told when empty")
	f.StringVar(&cfg.Merchant, "merchant-name", "", "name of the shop in signatures")
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
	return keyFile("--tmk-file", file)
}

// keyFile reads a test key of 32 hex digits; errors do not show it.
func keyFile(flag, file string) (key [16]byte, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return key, fmt.Errorf("%s: %w", flag, err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != len(key) {
		return key, fmt.Errorf("%s %s: not 32 hex digits", flag, file)
	}
	return [16]byte(b), nil
}
