package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// termsCall is an errand about a merchant's money: holds, and early payment.
type termsCall struct {
	Do       string       `json:"do"` // list, hold, confirm, refuse, ask-release, release, fast, speed, watch, unwatch or watches
	Key      string       `json:"key,omitempty"`
	Merchant string       `json:"merchant,omitempty"`
	Amount   money.Amount `json:"amount,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Speed    string       `json:"speed,omitempty"`
	Until    time.Time    `json:"until,omitzero"` // of a watch
	All      bool         `json:"all,omitempty"`
}

// termsAnswer is what came of it.
type termsAnswer struct {
	Holds   []settlement.Hold  `json:"holds,omitempty"`
	Watches []settlement.Watch `json:"watches,omitempty"`
	Said    string             `json:"said,omitempty"`
}

const holdsShown = 10_000

func (c *termsCall) name() string { return "settle" }

func (c *termsCall) run(ctx context.Context, db *store.DB, cfg Config, who string) (any, error) {
	books, err := booksAlone(ctx, db, cfg)
	if err != nil {
		return nil, err
	}
	var a termsAnswer
	now := time.Now()
	switch c.Do {
	case "list":
		a.Holds, err = books.Holds(ctx, c.Merchant, c.All, holdsShown)
	case "hold":
		err = books.AskHold(ctx, settlement.Hold{Key: c.Key, Merchant: c.Merchant, Amount: c.Amount, Reason: c.Reason, AskedBy: who}, now, c.record(who))
		a.Said = fmt.Sprintf("%s of merchant %s is held; somebody else confirms it: acquirer settle hold confirm %s", c.Amount, c.Merchant, c.Key)
	case "confirm":
		err = books.ConfirmHold(ctx, c.Key, who, now, c.record(who))
		a.Said = "hold " + c.Key + " is confirmed"
	case "refuse":
		err = books.RefuseHold(ctx, c.Key, who, now, c.record(who))
		a.Said = "hold " + c.Key + " is refused; the merchant has its money back"
	case "ask-release":
		err = books.AskRelease(ctx, c.Key, who, now, c.record(who))
		a.Said = "somebody else releases it: acquirer settle release confirm " + c.Key
	case "release":
		err = books.Release(ctx, c.Key, who, now, c.record(who))
		a.Said = "what remained of hold " + c.Key + " is paid with the next run"
	case "fast":
		err = books.AllowFast(ctx, c.Merchant, who, now, c.record(who))
		a.Said = "merchant " + c.Merchant + " is paid early from its first sale on"
	case "speed":
		a.Said, err = c.setSpeed(ctx, db, cfg, who)
	case "watch":
		err = books.Watch(ctx, settlement.Watch{Merchant: c.Merchant, Reason: c.Reason, SetBy: who, Until: c.Until}, now, c.record(who))
		a.Said = "merchant " + c.Merchant + " is watched: it is paid T+1 until two people lift that"
	case "unwatch":
		var lifted bool
		lifted, err = books.Unwatch(ctx, c.Merchant, who, now, c.record(who))
		if a.Said = "merchant " + c.Merchant + " is watched no more"; !lifted {
			a.Said = "somebody else lifts it: acquirer settle unwatch " + c.Merchant
		}
	case "watches":
		if a.Watches, err = books.Watches(ctx, c.Merchant, c.All, now, holdsShown); len(a.Watches) == 0 {
			a.Said = "nobody is watched"
		}
	default:
		err = usageError{fmt.Errorf("%q is nothing that can be done with a merchant's money", c.Do)}
	}
	return a, err
}

// record puts what is done into the operators' log, in the same write.
func (c *termsCall) record(who string) func(tx store.Tx) error {
	subject, detail := "hold "+c.Key, c.Reason
	switch c.Do {
	case "hold":
		detail = fmt.Sprintf("%s of merchant %s: %s", c.Amount, c.Merchant, c.Reason)
	case "fast", "watch", "unwatch":
		subject = "merchant " + c.Merchant
	case "speed":
		subject, detail = "merchant "+c.Merchant, c.Speed+": "+c.Reason
	}
	return recorded(who, "settle "+c.Do, subject, detail)
}

// newHoldCmd is `acquirer settle hold`.
func newHoldCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Keep a merchant's money out of payouts, by two people: ask, confirm or refuse, list",
		Long: `hold keeps an amount of a merchant's money back from the moment that it is asked
for: out of what waits to be settled, then out of payouts that were not sent yet.
Another person confirms or refuses it; after three days without either it ends by
itself. Who does what is in the operators' log (acquirer audit list).`,
		Example: "  acquirer settle hold list",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	ask := &cobra.Command{
		Use:     "ask KEY",
		Short:   "Hold money of a merchant; KEY names the case for ever",
		Example: `  acquirer settle hold ask case-4711 --merchant 898110058120001 --amount 500.00 --reason "own card, ticket 4711"`,
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(ask)
	merchant := ask.Flags().String("merchant", "", "MID, 15 characters")
	amount := ask.Flags().String("amount", "", "in yuan, like 500.00")
	reason := ask.Flags().String("reason", "", "why, for the people who read it later")
	list := &cobra.Command{
		Use:     "list",
		Short:   "The holds that stand, the newest first",
		Example: "  acquirer settle hold list --merchant 898110058120001 --all --json",
		Args:    cobra.NoArgs,
	}
	addConfigFlags(list)
	of := list.Flags().String("merchant", "", "only this merchant's")
	all := list.Flags().Bool("all", false, "those that have ended too")
	cmd.AddCommand(
		termsRun(ask, func(args []string) (termsCall, error) {
			c := termsCall{Do: "hold", Key: args[0], Merchant: *merchant, Reason: *reason}
			var err error
			if c.Amount, err = money.Parse(*amount); err != nil || c.Amount <= 0 {
				return c, usageError{fmt.Errorf("--amount: %q is not an amount like 500.00", *amount)}
			}
			if len(c.Merchant) != 15 || strings.TrimSpace(c.Reason) == "" {
				return c, usageError{fmt.Errorf("a hold needs --merchant, 15 characters, and a --reason")}
			}
			return c, nil
		}),
		keyCmd("confirm KEY", "Confirm a hold that somebody else asked for", "  acquirer settle hold confirm case-4711", "confirm"),
		keyCmd("refuse KEY", "Give back what was asked to be held", "  acquirer settle hold refuse case-4711", "refuse"),
		termsRun(list, func([]string) (termsCall, error) { return termsCall{Do: "list", Merchant: *of, All: *all}, nil }),
	)
	return cmd
}

// newReleaseCmd is `acquirer settle release`.
func newReleaseCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "release",
		Short:   "Give held money back to its merchant, by two people: ask, confirm",
		Example: "  acquirer settle release ask case-4711",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		keyCmd("ask KEY", "Ask that what remains of a hold is released", "  acquirer settle release ask case-4711", "ask-release"),
		keyCmd("confirm KEY", "Release it, when somebody else asked", "  acquirer settle release confirm case-4711", "release"),
	)
	return cmd
}

// newFastCmd is `acquirer settle fast`.
func newFastCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fast MID",
		Short: "Enable early payment for a merchant from its first sale on",
		Long: `fast lets a merchant that has chosen D+0 or S0 be paid early from its first sale
on, which is T+1 otherwise. settlement.fast_after_days and fast_streak_days hold
for it all the same.`,
		Example: "  acquirer settle fast 898110058120001",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(cmd)
	return termsRun(cmd, func(args []string) (termsCall, error) {
		if len(args[0]) != 15 {
			return termsCall{}, usageError{fmt.Errorf("%q is not a MID of 15 characters", args[0])}
		}
		return termsCall{Do: "fast", Merchant: args[0]}, nil
	})
}

// watchCmds are `acquirer settle watch`, `unwatch` and `watches`.
func watchCmds() []*cobra.Command {
	watch := &cobra.Command{
		Use:   "watch MID",
		Short: "Pay a merchant's S0 and D+0 sales T+1 from now on",
		Long: `watch keeps a merchant from being paid before the network pays, for the reason that
stands at its sales then. One person sets it; two lift it (unwatch). Who does what
is in the operators' log (acquirer audit list).`,
		Example: `  acquirer settle watch 898110058120001 --why "many refunds to one card, ticket 4711" --until 2026-12-01`,
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(watch)
	why := watch.Flags().String("why", "", "the reason, for the people who read it later")
	until := watch.Flags().String("until", "", "last day, like 2026-12-01 (default: until it is lifted)")
	unwatch := &cobra.Command{
		Use:     "unwatch MID",
		Short:   "Lift a merchant's watch, by two people",
		Example: "  acquirer settle unwatch 898110058120001",
		Args:    cobra.ExactArgs(1),
	}
	addConfigFlags(unwatch)
	list := &cobra.Command{
		Use:     "watches",
		Short:   "The merchants that are watched, the newest first",
		Example: "  acquirer settle watches --all --json",
		Args:    cobra.NoArgs,
	}
	addConfigFlags(list)
	of := list.Flags().String("merchant", "", "only this merchant's")
	all := list.Flags().Bool("all", false, "those that have ended too")
	return []*cobra.Command{
		termsRun(watch, func(args []string) (termsCall, error) {
			c := termsCall{Do: "watch", Merchant: args[0], Reason: *why}
			if len(c.Merchant) != 15 || strings.TrimSpace(c.Reason) == "" {
				return c, usageError{errors.New("a watch needs a MID of 15 characters and --why")}
			}
			if *until != "" {
				last, err := calendar.ParseDate(*until)
				if err != nil {
					return c, usageError{fmt.Errorf("--until: %w", err)}
				}
				c.Until = last.AddDays(1).Time()
			}
			return c, nil
		}),
		termsRun(unwatch, func(args []string) (termsCall, error) {
			if len(args[0]) != 15 {
				return termsCall{}, usageError{fmt.Errorf("%q is not a MID of 15 characters", args[0])}
			}
			return termsCall{Do: "unwatch", Merchant: args[0]}, nil
		}),
		termsRun(list, func([]string) (termsCall, error) { return termsCall{Do: "watches", Merchant: *of, All: *all}, nil }),
	}
}

// keyCmd is a command that does one thing to one hold.
func keyCmd(use, short, example, do string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ExactArgs(1)}
	addConfigFlags(cmd)
	return termsRun(cmd, func(args []string) (termsCall, error) { return termsCall{Do: do, Key: args[0]}, nil })
}

// termsRun makes cmd do an errand and print its answer.
func termsRun(cmd *cobra.Command, call func(args []string) (termsCall, error)) *cobra.Command {
	return errandRun(cmd, func(args []string) (errand, error) {
		c, err := call(args)
		return &c, err
	}, (*termsAnswer).print)
}

func (a *termsAnswer) print(w io.Writer) error {
	if a.Said != "" {
		_, err := fmt.Fprintln(w, a.Said)
		return err
	}
	for _, x := range a.Watches {
		state := "stands"
		switch {
		case !x.Lifted.IsZero() && x.LiftedBy == "":
			state = "ended " + minuteOf(x.Lifted)
		case !x.Lifted.IsZero():
			state = "lifted by " + x.AskedBy + " and " + x.LiftedBy
		case x.AskedBy != "":
			state = x.AskedBy + " asks that it is lifted"
		case !x.Until.IsZero():
			state = "until " + minuteOf(x.Until)
		}
		if _, err := fmt.Fprintf(w, "%s  %s  by %s, %s: %s\n", x.Merchant, minuteOf(x.From), x.SetBy, state, x.Reason); err != nil {
			return err
		}
	}
	if len(a.Holds) == 0 && len(a.Watches) == 0 {
		_, err := fmt.Fprintln(w, "nothing is held")
		return err
	}
	for _, h := range a.Holds {
		if _, err := fmt.Fprintf(w, "%-24s %s  %-9s %12s of %12s  asked %s by %s: %s\n", h.Key, h.Merchant, h.State, h.Remains, h.Amount, minuteOf(h.Asked), h.AskedBy, h.Reason); err != nil {
			return err
		}
	}
	return nil
}
