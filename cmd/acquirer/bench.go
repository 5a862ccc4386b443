package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"acquirer/bench/relay"
)

// newBenchCmd is the hidden `acquirer bench`: the bare relays that `make bench`
// holds the switch against, each a process of its own.
func newBenchCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "bench",
		Short:  "Bare relays to measure the switch against",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newBenchServerCmd("echo", "Send every frame back", false, func(ctx context.Context, ln net.Listener, _ string, _ int) (relay.Report, error) {
			return relay.ServeEcho(ctx, ln)
		}),
		newBenchServerCmd("cheap-issuer", "Approve everything on the CUPS line with little work", false, func(ctx context.Context, ln net.Listener, _ string, _ int) (relay.Report, error) {
			return relay.ServeCheapIssuer(ctx, ln)
		}),
		newBenchServerCmd("relay", "Terminal to issuer with the table codec and our lines", true, relay.ServeRelay),
		newBenchServerCmd("relay-moov", "The same with moov-io/iso8583 and its connection", true, relay.ServeMoovRelay),
		newBenchDriveCmd(),
		newBenchCompareCmd(),
	)
	return cmd
}

// newBenchServerCmd makes a command that listens, says where on its first line
// of output, and reports in JSON when it is told to end or its time is up.
func newBenchServerCmd(what, short string, toIssuer bool, serve func(context.Context, net.Listener, string, int) (relay.Report, error)) *cobra.Command {
	var (
		listen, issuer string
		lines          int
		bound          time.Duration
	)
	example := "  acquirer bench " + what + " --listen 127.0.0.1:0"
	if toIssuer {
		example += " --issuer 127.0.0.1:9501"
	}
	cmd := &cobra.Command{
		Use:     what,
		Short:   short,
		Example: example,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("bench %s: %w", what, err)
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			if err := out.Encode(map[string]string{"listening": ln.Addr().String()}); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), bound)
			defer cancel()
			report, err := serve(ctx, ln, issuer, lines)
			if err != nil {
				return fmt.Errorf("bench %s: %w", what, err)
			}
			return out.Encode(report)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on")
	f.DurationVar(&bound, "for", 10*time.Minute, "end after this time at the latest")
	if toIssuer {
		f.StringVar(&issuer, "issuer", "", "address of the issuer's CUPS line")
		f.IntVar(&lines, "lines", 1, "lines to the issuer")
		if err := cmd.MarkFlagRequired("issuer"); err != nil {
			panic(err) // the flag stands two lines above
		}
	}
	return cmd
}

func newBenchDriveCmd() *cobra.Command {
	var (
		addr             string
		connections      int
		warmup, duration time.Duration
	)
	cmd := &cobra.Command{
		Use:     "drive",
		Short:   "Send purchases in a closed loop and report as JSON",
		Example: "  acquirer bench drive --addr 127.0.0.1:9000 --connections 64 --duration 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := relay.Drive(cmd.Context(), addr, connections, warmup, duration)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&addr, "addr", "", "address of the relay")
	f.IntVar(&connections, "connections", 64, "connections, each one terminal")
	f.DurationVar(&warmup, "warmup", time.Second, "not measured")
	f.DurationVar(&duration, "duration", 5*time.Second, "measured")
	if err := cmd.MarkFlagRequired("addr"); err != nil {
		panic(err) // the flag stands above
	}
	return cmd
}

func newBenchCompareCmd() *cobra.Command {
	var (
		connections []int
		lines       int
		duration    time.Duration
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:     "compare",
		Short:   "Echo and both relays, each as its own process, in one table",
		Example: "  acquirer bench compare --connections 16,64,256 --duration 5s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bin, err := os.Executable()
			if err != nil {
				return err
			}
			told := func(r relay.Row) {
				fmt.Fprintf(cmd.OutOrStdout(), "%-11s %4d  %9.0f TPS  %7.1f us/txn  p50 %7.2f ms  p99 %7.2f ms  %6d KB\n",
					r.What, r.Connections, r.TPS, r.CPUMicros, r.P50Millis, r.P99Millis, r.MaxRSSKB)
			}
			if asJSON {
				told = nil
			}
			rows, err := relay.Compare(cmd.Context(), bin, connections, lines, duration, told)
			if err != nil || !asJSON {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(rows)
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&connections, "connections", []int{16, 64, 256}, "numbers of connections")
	f.IntVar(&lines, "lines", 1, "lines to the issuer")
	f.DurationVar(&duration, "duration", 5*time.Second, "of each measurement")
	f.BoolVar(&asJSON, "json", false, "print the rows as JSON")
	return cmd
}
