package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"acquirer/merchant"
	"acquirer/store"
)

// newSpeedCmd is `acquirer settle speed`.
func newSpeedCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "speed MID T1|D1|D0|S0",
		Short: "Pay a merchant at another speed from its next sale on, as it has asked",
		Long: `speed gives a merchant the settlement speed that it has asked for, at the price of its
plan (acquirer fees list --merchant MID). It counts for what is booked from now on; what waits
to be paid stays at the speed it was sold at. The plan must offer the speed. Early payment
(D0, S0) of a merchant that has never sold begins behind its first sale, unless that is enabled
(acquirer settle fast). Who did it is in the operators' log (acquirer audit list).`,
		Example: `  acquirer settle speed 898110058120001 S0 --why "asked on the hotline, ticket 4711"`,
		Args:    cobra.ExactArgs(2),
	}
	addConfigFlags(cmd)
	why := cmd.Flags().String("why", "", "who asked, for the people who read it later")
	return termsRun(cmd, func(args []string) (termsCall, error) {
		c := termsCall{Do: "speed", Merchant: args[0], Speed: args[1], Reason: *why}
		if len(c.Merchant) != 15 || strings.TrimSpace(c.Reason) == "" {
			return c, usageError{errors.New("a speed needs a MID of 15 characters and --why")}
		}
		if _, err := merchant.ParseSpeed(c.Speed); err != nil {
			return c, usageError{err}
		}
		return c, nil
	})
}

// setSpeed gives the merchant its speed and says what it costs.
func (c *termsCall) setSpeed(ctx context.Context, db *store.DB, cfg Config, who string) (string, error) {
	reg, err := merchant.OpenRegistry(ctx, db)
	if err != nil {
		return "", err
	}
	today, err := pricedDate(ctx, db, cfg)
	if err != nil {
		return "", err
	}
	if err := reg.SetSpeed(ctx, c.Merchant, merchant.Speed(c.Speed), today, c.record(who)); err != nil {
		return "", err
	}
	m, _ := reg.Merchant([]byte(c.Merchant))
	plan, err := reg.PlanOf(m, today)
	if err != nil {
		return "", err
	}
	return "merchant " + c.Merchant + " is paid " + c.Speed + " for what is booked from now on: " + plan.Summary(), nil
}
