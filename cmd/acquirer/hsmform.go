package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"acquirer/hsm"
)

// newHSMFormCmd is `acquirer hsm form`: components in, a key block out.
func newHSMFormCmd() *cobra.Command {
	var path, passphraseFile, use, cipher string
	var components []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "form",
		Short: "Form a terminal or zone master key from its custodians' components",
		Long: `form puts a key into the HSM the way a key ceremony does: two to nine
components of 32 hex digits, each in a file of its own that one custodian wrote,
are combined inside (XOR). What comes out is the key block that a seed file
carries as "tmk" of a terminal or "zmk" of an issuer, and the check value that
the custodians compare. Terminals that sign in with SM4 keys (DE 60.3 = 005)
have an SM4 master key: --cipher SM4. Components are never printed; destroy the
files.`,
		Example: `  acquirer hsm form --file data/hsm.key --passphrase-file pass --use TMK --component alice.txt --component bob.txt`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			uses := map[string]hsm.Use{"TMK": hsm.UseTMK, "TTK": hsm.UseTTK, "ZMK": hsm.UseZMK}
			ciphers := map[string]hsm.Alg{"TDES": hsm.TDES16, "SM4": hsm.SM4}
			want, ok := uses[strings.ToUpper(use)]
			if !ok {
				return usageError{fmt.Errorf("--use %q is none of TMK, TTK and ZMK", use)}
			}
			alg, ok := ciphers[strings.ToUpper(cipher)]
			if !ok {
				return usageError{fmt.Errorf("--cipher %q is neither TDES nor SM4", cipher)}
			}
			if len(components) < 2 || len(components) > 9 {
				return usageError{errors.New("a key is formed from 2 to 9 components: name a file for each with --component")}
			}
			passphrase, err := readPassphrase(passphraseFile)
			if err != nil {
				return err
			}
			defer clear(passphrase)
			h, err := hsm.Open(path, passphrase)
			if err != nil {
				return err
			}
			parts := make([][]byte, len(components))
			defer func() {
				for _, p := range parts {
					clear(p)
				}
			}()
			for i, name := range components {
				if parts[i], err = readComponent(name); err != nil {
					return err
				}
			}
			key, kcv, err := h.FormKey(cmd.Context(), want, alg, parts...)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"use": want.String(), "block": string(key), "check_value": kcv.Short()})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s with check value %s\n%s\n", want, kcv.Short(), key)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&path, "file", "data/hsm.key", "sealed master key")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase on its only line")
	f.StringVar(&use, "use", "", "TMK, a terminal's master key, TTK, the one it was delivered with, or ZMK, one shared with an issuer")
	f.StringVar(&cipher, "cipher", "TDES", "TDES, double length, or SM4")
	f.StringArrayVar(&components, "component", nil, "file with one component, 32 hex digits; once for each custodian")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	if err := cmd.MarkFlagRequired("use"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// readComponent reads 16 bytes in hex; an error names the file, never what
// stands in it.
func readComponent(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("component: %w", err)
	}
	defer clear(text)
	digits := bytes.Join(bytes.Fields(text), nil)
	defer clear(digits)
	out := make([]byte, 16)
	if len(digits) != 32 {
		return nil, fmt.Errorf("component: %s has %d characters, want 32 hex digits", name, len(digits))
	}
	if _, err := hex.Decode(out, digits); err != nil {
		return nil, fmt.Errorf("component: %s has a character that is no hex digit", name)
	}
	return out, nil
}
