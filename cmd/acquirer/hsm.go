package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"acquirer/hsm"
)

// passphraseVariable may hold the passphrase of the master key. A flag may
// not: other users of the machine can read the arguments of a process.
const passphraseVariable = "ACQUIRER_HSM_PASSPHRASE"

func newHSMCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hsm",
		Short: "The software HSM: its master key, its algorithms against published vectors, and a payShield in software",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newHSMInitCmd(), newHSMFormCmd(), newHSMCheckCmd(), newHSMServeCmd(), newHSMLMKCmd())
	return cmd
}

func newHSMInitCmd() *cobra.Command {
	var path, passphraseFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a master key and seal it into a new file",
		Long: `init makes a random AES-256 master key and seals it under a passphrase (Argon2id,
AES-256-GCM) into a file that must not exist yet. Every key that the switch
stores is wrapped under this master key: keep copies of the file, and the
passphrase apart from them. Losing either loses all keys.

The passphrase has at least ` + fmt.Sprint(hsm.MinPassphrase) + ` bytes and comes from the file named by
--passphrase-file (one line) or from the environment variable
` + passphraseVariable + `.`,
		Example: `  acquirer hsm init --file master-key.json --passphrase-file passphrase.txt
  ` + passphraseVariable + `=... acquirer hsm init --file master-key.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			passphrase, err := readPassphrase(passphraseFile)
			if err != nil {
				return err
			}
			defer clear(passphrase)
			s, err := hsm.Create(path, passphrase)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"file": path, "check_value": s.MasterCheckValue().Short()})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "master key with check value %s sealed in %s\n", s.MasterCheckValue().Short(), path)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&path, "file", "", "file to write, which must not exist")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase on its only line")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // the flag is defined above
	}
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
