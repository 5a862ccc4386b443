package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"acquirer/hsm"
	"acquirer/hsm/audit"
	"acquirer/hsm/remote"
)

// newHSMFormCmd is `acquirer hsm form`: components in, a key block out.
func newHSMFormCmd() *cobra.Command {
	var path, passphraseFile, use, cipher string
	var socket, logFile string
	var components, custodians []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "form",
		Short: "Form a terminal or zone master key from its custodians' components",
		Long: `form puts a key into the HSM the way a key ceremony does: two to nine
components of 32 hex digits, each in a file of its own that one custodian wrote,
are combined inside (XOR). What comes out is the key block that a seed file
carries as "tmk" of a terminal, "zmk" of an issuer or "bdk" of base_keys, and the check value that
the custodians compare. Terminals that sign in with SM4 keys (DE 60.3 = 005)
have an SM4 master key: --cipher SM4. Components are never printed; destroy the
files.

Two different people stand by. A component's file is named after its custodian,
or --custodian says whose it is; the audit log has their names. With --socket the
key is formed in the HSM's process (hsm serve).`,
		Example: `  acquirer hsm form --file data/hsm.key --passphrase-file pass --use TMK --component alice.txt --component bob.txt`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			uses := map[string]hsm.Use{"TMK": hsm.UseTMK, "TTK": hsm.UseTTK, "ZMK": hsm.UseZMK, "KBPK": hsm.UseKBPK, "BDK": hsm.UseBDK}
			ciphers := map[string]hsm.Alg{"TDES": hsm.TDES16, "SM4": hsm.SM4, "AES": hsm.AES16}
			want, ok := uses[strings.ToUpper(use)]
			if !ok {
				return usageError{fmt.Errorf("--use %q is none of TMK, TTK, ZMK, BDK and KBPK", use)}
			}
			alg, ok := ciphers[strings.ToUpper(cipher)]
			if !ok {
				return usageError{fmt.Errorf("--cipher %q is none of TDES, SM4 and AES", cipher)}
			}
			if len(components) < 2 || len(components) > 9 {
				return usageError{errors.New("a key is formed from 2 to 9 components: name a file for each with --component")}
			}
			names, err := pairs(custodians, components)
			if err != nil {
				return err
			}
			h, end, err := formIn(cmd.Context(), socket, path, passphraseFile, logFile)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, end()) }()
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
			key, kcv, err := h.FormKey(audit.WithCustodians(cmd.Context(), names), want, alg, parts...)
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
	f.StringVar(&socket, "socket", "", "socket of acquirer hsm serve, instead of --file")
	f.StringVar(&logFile, "audit", "", "log of what is done with keys; --file with .audit at its end when it is not given")
	f.StringVar(&use, "use", "", "TMK, a terminal's master key, TTK, the one it was delivered with, ZMK, one shared with an issuer, BDK, the base key of DUKPT terminals, or KBPK, one shared with who loads devices")
	f.StringVar(&cipher, "cipher", "TDES", "TDES, double length, SM4, or AES (128 bits, for a KBPK)")
	f.StringArrayVar(&custodians, "custodian", nil, "whose the components are, in their order")
	f.StringArrayVar(&components, "component", nil, "file with one component, 32 hex digits; once for each custodian")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	if err := cmd.MarkFlagRequired("use"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// formIn opens the HSM that a key is to be formed in.
func formIn(ctx context.Context, socket, path, passphraseFile, logFile string) (h hsm.Keeper, end func() error, err error) {
	if socket != "" {
		if err := served(ctx, socket); err != nil {
			return nil, nil, err
		}
		c := remote.Dial(remote.DialConfig{Socket: socket, Connections: 1})
		return c, c.Close, nil
	}
	passphrase, err := readPassphrase(passphraseFile)
	if err != nil {
		return nil, nil, err
	}
	defer clear(passphrase)
	k, err := hsm.ReadKeyFile(path)
	if err != nil {
		return nil, nil, err
	}
	if k.Custodians != nil {
		return nil, nil, fmt.Errorf("hsm: %s: %w (%s): form the key in the HSM's process, with --socket", path, hsm.ErrCustodians, k.Custodians)
	}
	r, err := k.Open(passphrase)
	if err != nil {
		return nil, nil, err
	}
	defer r.Wipe()
	own, err := openRing(r, auditFile(path, logFile))
	if err != nil {
		return nil, nil, err
	}
	return own, own.Close, nil
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
