package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// passphraseVariable may hold the passphrase of the master key. A flag may
// not: other users of the machine can read the arguments of a process.
const passphraseVariable = "ACQUIRER_HSM_PASSPHRASE"

func newHSMCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hsm",
		Short: "The software HSM: its master key and who keeps it, its process, its log, its algorithms; and a payShield in software",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newHSMInitCmd(), newHSMFormCmd(), newHSMCheckCmd(), newHSMLMKCmd())
	cmd.AddCommand(newHSMComponentsCmd(), newHSMServeCmd(), newHSMUnsealCmd(), newHSMSealCmd(), newHSMStatusCmd(),
		newHSMRotateCmd(), newHSMKeysCmd(), newHSMInjectCmd(), newHSMAuditCmd())
	return cmd
}

// readPassphrase takes the passphrase from a file, or from the environment
// when no file is named.
func readPassphrase(file string) ([]byte, error) {
	if file == "" {
		text, ok := os.LookupEnv(passphraseVariable)
		if !ok || text == "" {
			return nil, usageError{fmt.Errorf("no passphrase: name a file with --passphrase-file, or set %s", passphraseVariable)}
		}
		return []byte(text), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(text, "\r\n") {
		clear(text)
		return nil, fmt.Errorf("passphrase: %s has more than one line", file)
	}
	return text, nil
}
