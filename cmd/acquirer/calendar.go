package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"acquirer/calendar"
)

func newCalendarCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "calendar",
		Short: "Business dates and the days on which merchants are paid",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSettleDateCmd())
	return cmd
}

func newSettleDateCmd() *cobra.Command {
	var (
		asJSON, noMakeUp bool
		cutoff           time.Duration
		years            []string
	)
	cmd := &cobra.Command{
		Use:   "settle-date TIMESTAMP",
		Short: "The day on which a sale made at a moment is paid at T+1",
		Long: `settle-date finds the business date of a moment (it ends at the cut-off, 23:00 in
Beijing) and the next working day after it, make-up weekends counted as working
days. The holidays of 2025 and 2026 are built in; a later year is imported from
the State Council's notice in the JSON layout of holiday-cn.`,
		Example: `  acquirer calendar settle-date 2026-02-13T22:59:59+08:00
  acquirer calendar settle-date --calendar 2027.json --json 2026-12-31T10:00:00+08:00`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			moment, err := time.Parse(time.RFC3339, args[0])
			if err != nil {
				return usageError{fmt.Errorf("%q is not a timestamp with a time zone; write it like 2026-02-13T22:59:59+08:00", args[0])}
			}
			if cutoff < 0 || cutoff > 24*time.Hour {
				return usageError{fmt.Errorf("cut-off %s is not a time of day; write it like 23h or 22h30m", cutoff)}
			}
			days, err := withCalendars(years)
			if err != nil {
				return err
			}
			if noMakeUp {
				days = days.WithoutMakeUp()
			}
			business := calendar.BusinessDate(moment, cutoff)
			settle, err := days.SettleDate(business)
			if err != nil {
				return err
			}
			if !asJSON {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), settle)
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
				Timestamp    string        `json:"timestamp"`
				BusinessDate calendar.Date `json:"business_date"`
				SettleDate   calendar.Date `json:"settle_date"`
			}{moment.In(calendar.Beijing).Format(time.RFC3339), business, settle})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print timestamp, business_date and settle_date as JSON")
	cmd.Flags().BoolVar(&noMakeUp, "no-make-up", false, "make-up working days do not settle")
	cmd.Flags().DurationVar(&cutoff, "cut-off", calendar.CardCutoff, "time of day, Beijing, at which the business date advances")
	cmd.Flags().StringArrayVar(&years, "calendar", nil, "JSON file with the holidays of one more year; may be repeated")
	return cmd
}

// minuteOf writes a moment as everybody in the house does: in Beijing.
func minuteOf(t time.Time) string { return t.In(calendar.Beijing).Format("2006-01-02 15:04") }

// withCalendars returns the calendar in use with the years in files added.
func withCalendars(files []string) (*calendar.Calendar, error) {
	days := calendar.Chinese()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("calendar file: %w", err)
		}
		more, err := days.With(f)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		days = more
	}
	return days, nil
}
