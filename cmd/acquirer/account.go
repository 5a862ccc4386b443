package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/settlement"
	"acquirer/store"
)

// accountCall is an errand about a merchant's settlement account.
type accountCall struct {
	Do       string `json:"do"` // ask, confirm, refuse or list
	Merchant string `json:"merchant,omitempty"`
	Number   string `json:"number,omitempty"` // in the clear; it is sealed where the HSM is
	Name     string `json:"name,omitempty"`
	Bank     string `json:"bank,omitempty"`
	Class    int    `json:"class,omitempty"`
	Why      string `json:"why,omitempty"`
	Ends     string `json:"ends,omitempty"` // the last four digits, of confirm
	All      bool   `json:"all,omitempty"`
}

// accountAnswer is what came of it.
type accountAnswer struct {
	Changes []settlement.AccountChange `json:"changes,omitempty"`
	Said    string                     `json:"said,omitempty"`
}

func (c *accountCall) name() string { return "account" }

func (c *accountCall) run(ctx context.Context, db *store.DB, cfg Config, who string) (any, error) {
	var sealing []func(*settlement.Config)
	if c.Do == "ask" { // the others see no number
		h, err := openKeeper(ctx, cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		defer closeHSM(h, slog.New(slog.DiscardHandler))
		v := &house{cfg: cfg, hsm: h, db: db}
		dataKey, err := v.storedKey(ctx, "data", hsm.UseDEK, hsm.AES32)
		if err != nil {
			return nil, err
		}
		sealing = append(sealing, func(to *settlement.Config) { to.Seal, to.Unseal = v.sealAccount(dataKey), v.openAccount(dataKey) })
	}
	books, err := booksAlone(ctx, db, cfg, sealing...)
	if err != nil {
		return nil, err
	}
	var a accountAnswer
	var x settlement.AccountChange
	now := time.Now()
	switch c.Do {
	case "ask":
		number := settlement.NewNumber(c.Number)
		x = settlement.AccountChange{Merchant: c.Merchant, Account: merchant.Account{Name: c.Name, Bank: c.Bank, Class: c.Class}, Why: c.Why, AskedBy: who}
		err = books.AskAccount(ctx, x, number, now, c.record(who, fmt.Sprintf("%s at %s: %s", number, c.Bank, c.Why)))
		a.Said = fmt.Sprintf("%s at %s is asked for; somebody else, who has the last four digits from the merchant, confirms it: acquirer settle account confirm %s LAST4", number, c.Bank, c.Merchant)
	case "confirm":
		x, err = books.ConfirmAccount(ctx, c.Merchant, c.Ends, who, now, c.record(who, "the account that ends in "+c.Ends))
		a.Said = fmt.Sprintf("merchant %s is paid to %s of %s at %s, from %s on; what failed or came back is issued again: acquirer payout tasks", c.Merchant, x.Account.Masked, x.Account.Name, x.Account.Bank,
			minuteOf(now.Add(cfg.Settlement.Cooling)))
	case "refuse":
		x, err = books.RefuseAccount(ctx, c.Merchant, who, now, c.record(who, ""))
		a.Said = fmt.Sprintf("%s is refused; the account of merchant %s stays as it is", x.Account.Masked, c.Merchant)
	case "list":
		if a.Changes, err = books.AccountChanges(ctx, c.Merchant, c.All, now, holdsShown); len(a.Changes) == 0 {
			a.Said = "no change of an account waits"
		}
	default:
		err = usageError{fmt.Errorf("%q is nothing that can be done with an account", c.Do)}
	}
	return a, err
}

func (c *accountCall) record(who, detail string) func(tx store.Tx) error {
	return recorded(who, "settle account "+c.Do, "merchant "+c.Merchant, detail)
}

// newAccountCmd is `acquirer settle account`.
func newAccountCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Change a merchant's settlement account, by two people: ask, confirm or refuse, list",
		Long: `account gives a merchant another settlement account. One person asks, with the number
in a file or on standard input; it is sealed at once and shown masked. Another person,
who has the last four digits from the merchant, confirms it; after three days without
that it ends by itself. Payouts then wait for settlement.cooling, and what failed or
came back can be issued again (acquirer payout reissue). Who does what is in the
operators' log (acquirer audit list).`,
		Example: "  acquirer settle account list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAccountAskCmd())
	confirm := &cobra.Command{
		Use:     "confirm MID LAST4",
		Short:   "Confirm the account that somebody else asked for, by its last four digits",
		Example: "  acquirer settle account confirm 898110058120001 0018",
		Args:    cobra.ExactArgs(2),
	}
	addConfigFlags(confirm)
	refuse := &cobra.Command{
		Use:     "refuse MID",
		Short:   "End what was asked for; the account stays",
		Example: "  acquirer settle account refuse 898110058120001",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(refuse)
	list := &cobra.Command{
		Use:     "list",
		Short:   "The changes that wait to be confirmed, the newest first",
		Example: "  acquirer settle account list --merchant 898110058120001 --all --json",
		Args:    cobra.NoArgs,
	}
	addConfigFlags(list)
	of := list.Flags().String("merchant", "", "only this merchant's")
	all := list.Flags().Bool("all", false, "those that have ended too")
	cmd.AddCommand(
		accountRun(confirm, func(_ io.Reader, args []string) (accountCall, error) {
			return accountCall{Do: "confirm", Merchant: args[0], Ends: args[1]}, nil
		}),
		accountRun(refuse, func(_ io.Reader, args []string) (accountCall, error) {
			return accountCall{Do: "refuse", Merchant: args[0]}, nil
		}),
		accountRun(list, func(io.Reader, []string) (accountCall, error) {
			return accountCall{Do: "list", Merchant: *of, All: *all}, nil
		}),
	)
	return cmd
}

func newAccountAskCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ask MID",
		Short: "Ask that a merchant is paid to another account",
		Long: `ask reads the number from a file that holds nothing else, or with - from standard
input. As an argument others on this machine could see it. A number of 16 to 19 digits
that begins with 62 is a card's, and its check digit must be right.`,
		Example: `  acquirer settle account ask 898110058120001 --account-file number.txt --bank "中国农业银行" --why "card lost, ticket 4711"
  acquirer settle account ask 898110058120001 --account-file - --bank "中国农业银行" --class 2 --why "ticket 4711"`,
		Args: cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	file := cmd.Flags().String("account-file", "", "file with the number; - is standard input")
	bank := cmd.Flags().String("bank", "", "the bank that keeps it")
	holder := cmd.Flags().String("name", "", "its holder (default: as before)")
	class := cmd.Flags().Int("class", 1, "1, 2 or 3: a class II account takes 10,000 yuan a day, a class III account 2,000")
	why := cmd.Flags().String("why", "", "the reason, for the people who read it later")
	return accountRun(cmd, func(stdin io.Reader, args []string) (accountCall, error) {
		c := accountCall{Do: "ask", Merchant: args[0], Name: *holder, Bank: *bank, Class: *class, Why: *why}
		if len(c.Merchant) != 15 || *file == "" || strings.TrimSpace(c.Bank) == "" || strings.TrimSpace(c.Why) == "" {
			return c, usageError{errors.New("a change of an account needs a MID of 15 characters, --account-file, --bank and --why")}
		}
		text, err := readAll(*file, stdin)
		if err != nil {
			return c, fmt.Errorf("--account-file: %w", err)
		}
		c.Number = strings.ReplaceAll(strings.TrimSpace(string(text)), " ", "")
		return c, nil
	})
}

// accountRun makes cmd do an errand about an account and print its answer.
func accountRun(cmd *cobra.Command, call func(stdin io.Reader, args []string) (accountCall, error)) *cobra.Command {
	return errandRun(cmd, func(args []string) (errand, error) {
		c, err := call(cmd.InOrStdin(), args)
		return &c, err
	}, (*accountAnswer).print)
}

func (a *accountAnswer) print(w io.Writer) error {
	if a.Said != "" {
		_, err := fmt.Fprintln(w, a.Said)
		return err
	}
	for _, x := range a.Changes {
		state := "until " + minuteOf(x.Lapses)
		if !x.Done.IsZero() {
			state = strings.TrimSpace(x.DoneBy + " " + minuteOf(x.Done))
		}
		if _, err := fmt.Fprintf(w, "%s  %-20s -> %-20s %s, %s, class %d  %s %s by %s, %s: %s\n", x.Merchant, x.Before, x.Account.Masked, x.Account.Name, x.Account.Bank, x.Account.Class,
			minuteOf(x.Asked), x.State, x.AskedBy, state, x.Why); err != nil {
			return err
		}
	}
	return nil
}
