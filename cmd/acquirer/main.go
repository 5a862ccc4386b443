// Command acquirer is a POS acquirer in one binary: the switch, its
// simulators, settlement, and the tools around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program; the end-to-end tests call it as main does. It
// returns the exit status: 0 done, 1 failed, 2 wrong usage.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCmd()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	code := exitCode(err)
	if text := err.Error(); text != "" {
		fmt.Fprintln(stderr, "acquirer:", text)
	}
	if code == 2 {
		fmt.Fprintf(stderr, "Usage: %s. See %s --help.\n", cmd.UseLine(), cmd.CommandPath())
	}
	return code
}

// usageError is a call that can never work as written: exit status 2.
type usageError struct{ error }

func (e usageError) ExitCode() int { return 2 }
func (e usageError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	// cobra has no type for its own usage errors; these are their beginnings.
	for _, start := range []string{"unknown command", "accepts ", "requires ", "required flag", "unknown flag", "unknown shorthand", "flag needs", "invalid argument", "if any flags in the group"} {
		if strings.HasPrefix(err.Error(), start) {
			return 2
		}
	}
	return 1
}

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "acquirer",
		Short: "A POS acquirer: terminals in, issuers out, merchants paid",
		Long: `acquirer connects card terminals (UnionPay POS dialect of ISO 8583) to issuers,
journals every transaction, and pays merchants from a double-entry ledger.

Start with the demo world, which needs nothing else:

  acquirer demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	simulate := &cobra.Command{
		Use:   "simulate",
		Short: "One part of the world around the switch, alone: issuer, wallet, terminal, bank",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	simulate.AddCommand(newSimulateIssuerCmd(), newSimulateWalletCmd(), newSimulateTerminalCmd(), newSimulateISO87Cmd(), newSimulateBankCmd())
	root.AddCommand(newBenchCmd(), newDemoCmd(), newServeCmd(), newSettleCmd(), newLedgerCmd(), newReconcileCmd(), newBillCmd(), newOwedCmd(), newPayoutCmd(), newLinesCmd(), newAuditCmd(), simulate, newLoadCmd(), newDecodeCmd(), newEncodeCmd(), newSpecCmd(),
		newFeesCmd(), newReportCmd(), newCalendarCmd(), newHSMCmd(), newConfigCmd(), newVersionCmd(), newRouteCmd())
	root.AddCommand(newDisputeCmd())
	return root
}
