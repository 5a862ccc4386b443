package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"acquirer/hsm"
	"acquirer/merchant"
	"acquirer/store"
)

// injection is a file of master keys for a batch of devices.
type injection struct {
	Format    string           `json:"format"`
	Version   int              `json:"version"`
	Created   time.Time        `json:"created"`
	KEK       string           `json:"kek_check_value"` // of the transport key, so that the loader knows which
	Terminals []injectedDevice `json:"terminals"`
	Manifest  string           `json:"manifest_sha256"` // of the lines "TID,serial,algorithm,check value,key block"
}

type injectedDevice struct {
	TID        string `json:"tid"`
	Serial     string `json:"serial"`
	Algorithm  string `json:"algorithm"`
	CheckValue string `json:"check_value"` // 6 hex digits
	KeyBlock   string `json:"key_block"`   // ANSI X9.143 under the transport key
}

func (d injectedDevice) fields() []string {
	return []string{d.TID, d.Serial, d.Algorithm, d.CheckValue, d.KeyBlock}
}

// manifest is the hash that goes to the loader by another way than the file.
func (i *injection) manifest() string {
	h := sha256.New()
	for _, d := range i.Terminals {
		fmt.Fprintln(h, strings.Join(d.fields(), ","))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func newHSMInjectCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inject",
		Short: "Make master keys for a batch of devices and the file that they are loaded from",
		Long: `inject makes a new TMK for each terminal, stores it in the registry, and writes
them for whoever loads the devices: key blocks of ANSI X9.143 (TR-31) under the
transport key, version D under AES, version B under TDES, each with its check
value, and the SHA-256 of the lines as a manifest. Send the manifest another way
than the file.

The transport key is a key block of the house of use KBPK (hsm form --use KBPK),
whose components the loader has too. A terminal's working keys are forgotten: it
signs in again once it has its new master key, and cannot before. The file must
not exist; it is CSV when its name ends in .csv, JSON otherwise.

It opens the database itself: an embedded one only while acquirer serve is stopped.`,
		Example: `  acquirer hsm inject --config acquirer.yaml --terminals 10000001,10000002 --kek D0144K1AB00N... --out batch-17.json`,
		Args:    cobra.NoArgs,
	}
	addConfigFlags(cmd)
	f := cmd.Flags()
	tids := f.StringSlice("terminals", nil, "TIDs, separated by commas")
	kek := f.String("kek", "", "key block of the transport key (KBPK), or a file that holds it")
	cipher := f.String("cipher", "TDES", "kind of the master keys: TDES, double length, or SM4")
	out := f.String("out", "", "file to write, which must not exist")
	asJSON := f.Bool("json", false, "print the result as JSON")
	for _, name := range []string{"terminals", "kek", "out"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flags are defined above
		}
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		alg, ok := map[string]hsm.Alg{"TDES": hsm.TDES16, "SM4": hsm.SM4}[strings.ToUpper(*cipher)]
		if !ok {
			return usageError{fmt.Errorf("--cipher %q is neither TDES nor SM4", *cipher)}
		}
		if len(*tids) == 0 {
			return usageError{errors.New("--terminals names no terminal")}
		}
		transport := *kek
		if text, err := os.ReadFile(*kek); err == nil {
			transport = strings.TrimSpace(string(text))
		}
		return withKeys(cmd, func(ctx context.Context, _ Config, k hsm.Keeper, db *store.DB) error {
			i, err := inject(ctx, k, db, hsm.Key(transport), alg, *tids, *out)
			if err != nil {
				return err
			}
			if *asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"file": *out, "terminals": len(i.Terminals), "manifest_sha256": i.Manifest, "kek_check_value": i.KEK})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d master keys under transport key %s in %s\nmanifest %s\n", len(i.Terminals), i.KEK, *out, i.Manifest)
			return err
		})
	}
	return cmd
}

// inject makes the keys, puts the file beside its place, stores the keys, and
// puts the file in its place: never a file whose keys the house does not know.
func inject(ctx context.Context, k hsm.Keeper, db *store.DB, kek hsm.Key, alg hsm.Alg, tids []string, out string) (*injection, error) {
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("%s exists; keys of another batch are not written over", out)
	}
	registry, err := merchant.OpenRegistry(ctx, db)
	if err != nil {
		return nil, err
	}
	check, err := k.CheckValue(ctx, kek)
	if err != nil {
		return nil, fmt.Errorf("--kek: %w", err)
	}
	i := &injection{Format: "acquirer-terminal-keys", Version: 1, Created: time.Now().UTC().Truncate(time.Second), KEK: check.Short()}
	tmks := map[string]string{}
	for _, tid := range tids {
		t, known := registry.Terminal([]byte(tid))
		if !known {
			return nil, fmt.Errorf("terminal %q is not registered", tid)
		}
		if tmks[tid] != "" {
			return nil, usageError{fmt.Errorf("terminal %s is named twice", tid)}
		}
		tmk, block, kcv, err := k.DeliverTMKBlock(ctx, kek, alg)
		if err != nil {
			return nil, fmt.Errorf("terminal %s: %w", tid, err)
		}
		tmks[tid] = string(tmk)
		i.Terminals = append(i.Terminals, injectedDevice{TID: tid, Serial: t.Serial, Algorithm: alg.String(), CheckValue: kcv.Short(), KeyBlock: block})
	}
	i.Manifest = i.manifest()
	text, err := i.text(strings.EqualFold(filepath.Ext(out), ".csv"))
	if err != nil {
		return nil, err
	}
	beside := out + ".part"
	if err := writeOnce(beside, text, 0o600); err != nil {
		return nil, fmt.Errorf("%w; it is left of a call that was interrupted: remove it", err)
	}
	if err := registry.SetTMKs(ctx, tmks); err != nil {
		return nil, errors.Join(err, os.Remove(beside))
	}
	if err := os.Rename(beside, out); err != nil {
		return nil, fmt.Errorf("the keys are stored and their file is %s: %w", beside, err)
	}
	return i, nil
}

func (i *injection) text(asCSV bool) ([]byte, error) {
	if !asCSV {
		text, err := json.MarshalIndent(i, "", "  ")
		return append(text, '\n'), err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s %d, %s, transport key %s, manifest sha256 %s\n", i.Format, i.Version, i.Created.Format(time.RFC3339), i.KEK, i.Manifest)
	w := csv.NewWriter(&b)
	if err := w.Write([]string{"tid", "serial", "algorithm", "check_value", "key_block"}); err != nil {
		return nil, err
	}
	for _, d := range i.Terminals {
		if err := w.Write(d.fields()); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}
