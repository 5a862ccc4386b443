package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"acquirer/hsm"
	"acquirer/hsm/audit"
)

// custodiansFile is what components writes beside the components: who has
// them, without a secret.
const custodiansFile = "custodians.json"

func newHSMComponentsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "components",
		Short: "Make the components that open a master key file, one for each custodian",
		Long: `components makes a random key of 32 bytes in components, each in a file of its own
that only its owner may read, with its check value; hsm init then seals a new
master key under that key. Fewer custodians than --needed know nothing of it.
When all are needed the components are combined by XOR; when some are enough
they are shares of Shamir's scheme. Hand each file to its custodian, on paper or
on a medium of the custodian's own, and destroy it here; keep custodians.json.

With a single --custodian it makes that custodian's own component, on the screen
when --out is not given: everybody makes one where nobody else looks, and all are
needed (XOR). No machine ever has the key before hsm init then.`,
		Example: `  acquirer hsm components --custodian alice --custodian bob --custodian carol --needed 2 --out ceremony
  acquirer hsm components --custodian alice`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	names := f.StringArray("custodian", nil, "name of a custodian; once for each")
	needed := f.Int("needed", 0, "how many make the key; all when it is not given")
	out := f.String("out", "", "folder for the components, made when it is not there")
	asJSON := f.Bool("json", false, "print who has what, as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(*names) == 1 {
			if *needed > 1 || *asJSON {
				return usageError{errors.New("a single custodian's own component is one of all that will be needed, and is printed as text: --needed and --json are for several")}
			}
			return ownComponent(cmd.OutOrStdout(), (*names)[0], *out)
		}
		if *needed == 0 {
			*needed = len(*names)
		}
		if *out == "" {
			return usageError{errors.New("several components are not shown on one screen: name a folder with --out, or make one at a time with one --custodian")}
		}
		people, parts, key, err := hsm.NewComponents(*names, *needed)
		if err != nil {
			return usageError{err}
		}
		clear(key)
		defer func() {
			for i := range parts {
				clear(parts[i].Value[:])
			}
		}()
		if err := os.MkdirAll(*out, 0o700); err != nil {
			return err
		}
		for i := range parts {
			if err := writeComponent(*out, &parts[i]); err != nil {
				return err
			}
		}
		text, err := json.MarshalIndent(people, "", "  ")
		if err != nil {
			return err
		}
		if err := writeOnce(filepath.Join(*out, custodiansFile), append(text, '\n'), 0o644); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(people)
		}
		var b strings.Builder
		for _, p := range people.People {
			fmt.Fprintf(&b, "%-20s component with check value %s in %s\n", p.Name, p.CheckValue, filepath.Join(*out, componentFile(p.Name)))
		}
		fmt.Fprintf(&b, "together             check value %s, %d of %d needed\n", people.CheckValue, people.Needed, len(people.People))
		_, err = io.WriteString(cmd.OutOrStdout(), b.String())
		return err
	}
	return cmd
}

func ownComponent(w io.Writer, name, folder string) error {
	c := hsm.NewComponent(name, 1)
	defer clear(c.Value[:])
	if folder == "" {
		text := c.AppendText(nil)
		defer clear(text)
		_, err := w.Write(text)
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := writeComponent(folder, &c); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%-20s component with check value %s in %s\n", name, c.CheckValue().Short(), filepath.Join(folder, componentFile(name)))
	return err
}

func componentFile(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == ' ' || r == ':' {
			return '-'
		}
		return r
	}, name) + ".component"
}

func writeComponent(folder string, c *hsm.Component) error {
	text := c.AppendText(nil)
	defer clear(text)
	return writeOnce(filepath.Join(folder, componentFile(c.Custodian)), text, 0o600)
}

// writeOnce writes a file that must not be there yet, on disk when it returns.
func writeOnce(name string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// whose is the custodian of a component file when no --custodian says so: its
// name without what follows the last dot.
func whose(file string) string {
	return strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
}

// pairs puts each component to its custodian. "-" is asked for at the terminal.
func pairs(custodians, components []string) (names []string, err error) {
	switch {
	case len(custodians) == len(components):
		names = custodians
	case len(custodians) == 0:
		for _, c := range components {
			if c == "-" {
				return nil, usageError{errors.New("--component - needs --custodian to say whose it is")}
			}
			names = append(names, whose(c))
		}
	default:
		return nil, usageError{fmt.Errorf("%d --custodian for %d --component: name the custodian of each, in the same order", len(custodians), len(components))}
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[strings.ToLower(n)] {
			return nil, usageError{fmt.Errorf("custodian %s twice: two people are needed", n)}
		}
		seen[strings.ToLower(n)] = true
	}
	return names, nil
}

// readMasterComponent reads one custodian's component: a file, or the
// terminal, where it is not shown.
func readMasterComponent(cmd *cobra.Command, name, file string) (c hsm.Component, err error) {
	c.Custodian = name
	var text []byte
	if file == "-" {
		text, err = askComponent(cmd, name)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return c, fmt.Errorf("component of %s: %w", name, err)
	}
	defer clear(text)
	if c.Value, err = hsm.ParseComponent(text); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func askComponent(cmd *cobra.Command, name string) ([]byte, error) {
	fmt.Fprintf(cmd.ErrOrStderr(), "component of %s, 64 hex digits, not shown: ", name)
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		text, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return text, err
	}
	text, err := bufio.NewReaderSize(cmd.InOrStdin(), 4096).ReadSlice('\n')
	if err == io.EOF && len(text) > 0 {
		err = nil
	}
	return bytes.Clone(text), err
}

func newHSMInitCmd() *cobra.Command {
	var path, passphraseFile, custodians, logFile string
	var names, components []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a master key and seal it into a new file",
		Long: `init makes a random AES-256 master key and seals it into a file that must not
exist yet: under a passphrase (Argon2id, AES-256-GCM), or under the key that
custodians' components make (AES-256-GCM). Every key that the switch stores is
wrapped under this master key: keep copies of the file, and what opens it apart
from them. Losing either loses all keys.

The passphrase has at least ` + fmt.Sprint(hsm.MinPassphrase) + ` bytes and comes from the file named by
--passphrase-file (one line) or from the environment variable
` + passphraseVariable + `.

For custodians name the components of as many as are needed with --component,
and custodians.json of hsm components with --custodians. Without it the
components are custodians' own, and all of them will be needed. "-" is asked for
at the terminal and not shown. A component's file is named after its custodian,
or --custodian says whose it is.`,
		Example: `  acquirer hsm init --file master-key.json --passphrase-file passphrase.txt
  ` + passphraseVariable + `=... acquirer hsm init --file master-key.json
  acquirer hsm init --file master-key.json --custodians ceremony/custodians.json --component ceremony/alice.component --component ceremony/bob.component`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := map[string]any{"file": path}
			check, err := "", error(nil)
			if len(components) > 0 {
				var people *hsm.Custodians
				if people, check, err = initComponents(cmd, path, custodians, names, components, auditFile(path, logFile)); err != nil {
					return err
				}
				out["custodians"] = people
			} else {
				if custodians != "" || len(names) > 0 {
					return usageError{errors.New("custodians are named and no --component is")}
				}
				if check, err = initPassphrase(path, passphraseFile, auditFile(path, logFile)); err != nil {
					return err
				}
			}
			out["check_value"] = check
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "master key with check value %s sealed in %s\n", check, path)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&path, "file", "", "file to write, which must not exist")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase on its only line")
	f.StringVar(&custodians, "custodians", "", "custodians.json that hsm components wrote")
	f.StringArrayVar(&names, "custodian", nil, "whose the components are, in their order")
	f.StringArrayVar(&components, "component", nil, "file with one component, or - for the terminal; once for each custodian")
	f.StringVar(&logFile, "audit", "", "log of what is done with keys; --file with .audit at its end when it is not given")
	f.BoolVar(&asJSON, "json", false, "print the result as JSON")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// initPassphrase makes a master key under a passphrase.
func initPassphrase(path, passphraseFile, logFile string) (check string, err error) {
	passphrase, err := readPassphrase(passphraseFile)
	if err != nil {
		return "", err
	}
	defer clear(passphrase)
	r := hsm.NewRing()
	defer r.Wipe()
	if err := hsm.CreateKeyFile(path, r, nil, passphrase); err != nil {
		return "", err
	}
	return noteInit(r, logFile, nil)
}

// initComponents makes a master key under the key of components.
func initComponents(cmd *cobra.Command, path, set string, custodians, components []string, logFile string) (people *hsm.Custodians, check string, err error) {
	names, err := pairs(custodians, components)
	if err != nil {
		return nil, "", err
	}
	parts := make([]hsm.Component, len(components))
	defer func() {
		for i := range parts {
			clear(parts[i].Value[:])
		}
	}()
	for i := range components {
		if parts[i], err = readMasterComponent(cmd, names[i], components[i]); err != nil {
			return nil, "", err
		}
		parts[i].Index = i + 1
	}
	var key []byte
	if set == "" {
		if people, key, err = hsm.GatherComponents(parts); err != nil {
			return nil, "", usageError{err}
		}
	} else {
		text, err := os.ReadFile(set)
		if err != nil {
			return nil, "", err
		}
		people = &hsm.Custodians{}
		if err := json.Unmarshal(text, people); err != nil {
			return nil, "", fmt.Errorf("%s is not a file of hsm components: %w", set, err)
		}
		if key, err = people.Combine(parts); err != nil {
			return nil, "", err
		}
	}
	defer clear(key)
	r := hsm.NewRing()
	defer r.Wipe()
	if err := hsm.CreateKeyFile(path, r, people, key); err != nil {
		return nil, "", err
	}
	check, err = noteInit(r, logFile, names)
	return people, check, err
}

// noteInit begins the audit log of a new master key.
func noteInit(r *hsm.Ring, logFile string, custodians []string) (check string, err error) {
	check = r.Masters()[0].CheckValue[:6]
	l, err := audit.Open(logFile)
	if err != nil {
		return check, err
	}
	key := r.AuditKey()
	defer clear(key)
	l.SetKey(key)
	err = l.Append(audit.Entry{Op: "init", Who: whoRuns(), Custodians: custodians, KCV: check})
	return check, errors.Join(err, l.Close())
}
