package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"acquirer/spec"
)

// maxRecording is more than any message, in hexadecimal with room for spaces.
const maxRecording = 1 << 20

func newDecodeCmd() *cobra.Command {
	var dialect string
	var asJSON, reveal bool
	cmd := &cobra.Command{
		Use:   "decode [--dialect NAME|FILE] [--json] [--reveal] HEX|FILE|-",
		Short: "Read an ISO 8583 message: framing, fields, sub-fields, masked",
		Long: `decode reads one message from hexadecimal text, from a file of hexadecimal text
or bytes, or from standard input (-). It finds the framing (length, TPDU, FD
block, header) and, unless --dialect is given, which of UnionPay's two dialects
it is in. "acquirer spec list" names the others; a dialect file is one too.

Account numbers, tracks, PIN blocks, keys and payment codes are masked.
--reveal shows them: the output then is card data. The JSON of --reveal is what
"acquirer encode" turns back into the same bytes.

A wrong message is refused with the field, the offset, what was expected and
what was found, and exit status 1.`,
		Example: `  acquirer decode 003C600401000060310031000108000020000000C00012000029363239363930303233303133313030343839393030303100110000013200300003303031
  acquirer decode --json --reveal capture.bin | acquirer encode --json-in -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var d *spec.Dialect
			if dialect != "" {
				var err error
				if d, err = loadDialect(dialect); err != nil {
					return err
				}
			}
			raw, err := readRecording(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := spec.ReadCapture(raw, d)
			if err != nil {
				var ce *spec.CaptureError
				if errors.As(err, &ce) && !asJSON && len(ce.Fields) > 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "read before the error:")
					writeItems(cmd.OutOrStdout(), ce.Fields, "  ")
				}
				return err
			}
			if asJSON {
				j, err := c.JSON(reveal)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", j)
				return err
			}
			return writeCapture(cmd.OutOrStdout(), c, reveal)
		},
	}
	cmd.Flags().StringVar(&dialect, "dialect", "", "a built-in dialect or a dialect file; unionpay-pos and cups are found when it is not given")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&reveal, "reveal", false, "show card data and key cryptograms instead of masking them")
	return cmd
}

func newEncodeCmd() *cobra.Command {
	var from, dialect string
	var asBytes bool
	cmd := &cobra.Command{
		Use:   "encode --json-in FILE|- [--dialect FILE] [--binary]",
		Short: "Build an ISO 8583 message from the JSON of decode --json --reveal",
		Long: `encode builds the bytes of a message from the JSON that "acquirer decode --json
--reveal" prints: the same bytes when nothing was changed. Lengths are computed;
the bitmap may be left out. Masked JSON is refused. The JSON names its dialect;
one that is declared in a file of yours is given with --dialect.`,
		Example: `  acquirer decode --json --reveal capture.hex > message.json
  acquirer encode --json-in message.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				return usageError{errors.New("--json-in is needed: a file, or - for standard input")}
			}
			text, err := readAll(from, cmd.InOrStdin())
			if err != nil {
				return err
			}
			var own []*spec.Dialect
			if dialect != "" {
				d, err := loadDialect(dialect)
				if err != nil {
					return err
				}
				own = append(own, d)
			}
			c, err := spec.CaptureFromJSON(text, own...)
			if err != nil {
				return err
			}
			raw, err := c.Append(nil)
			if err != nil {
				return err
			}
			if !asBytes {
				raw = []byte(strings.ToUpper(hex.EncodeToString(raw)) + "\n")
			}
			_, err = cmd.OutOrStdout().Write(raw)
			return err
		},
	}
	cmd.Flags().StringVar(&from, "json-in", "", "file with the JSON, or - for standard input")
	cmd.Flags().StringVar(&dialect, "dialect", "", "the dialect file that the JSON names its dialect from")
	cmd.Flags().BoolVar(&asBytes, "binary", false, "write bytes instead of hexadecimal text")
	return cmd
}

// readRecording gives the bytes that the arguments name: a file, standard
// input, or hexadecimal text, which may come as several arguments.
func readRecording(args []string, stdin io.Reader) ([]byte, error) {
	if len(args) == 1 {
		if args[0] == "-" {
			text, err := readAll("-", stdin)
			if err != nil {
				return nil, err
			}
			return fileBytes(text)
		}
		if info, err := os.Stat(args[0]); err == nil && !info.IsDir() {
			text, err := readAll(args[0], stdin)
			if err != nil {
				return nil, err
			}
			return fileBytes(text)
		}
	}
	raw, isHex, err := parseHex([]byte(strings.Join(args, " ")))
	if !isHex {
		return nil, errors.New("the argument is neither hexadecimal text nor the name of a file")
	}
	return raw, err
}

func readAll(name string, stdin io.Reader) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	b, err := io.ReadAll(io.LimitReader(stdin, maxRecording+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxRecording {
		return nil, fmt.Errorf("the input is longer than %d bytes; a recording holds one message", maxRecording)
	}
	return b, nil
}

// fileBytes is what a file holds: the bytes of its hexadecimal text, or itself.
func fileBytes(b []byte) ([]byte, error) {
	raw, isHex, err := parseHex(bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF")))
	if !isHex {
		return b, nil
	}
	return raw, err
}

// parseHex reads hexadecimal text with spaces, line ends, commas, colons, 0x
// and \x between the digits. isHex is false when there is anything else.
func parseHex(text []byte) (raw []byte, isHex bool, err error) {
	digits := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case bytes.IndexByte([]byte(" \t\r\n,:"), c) >= 0:
		case i+1 < len(text) && text[i+1]|0x20 == 'x' && (c == '0' || c == '\\'):
			i++
		case c-'0' < 10 || c|0x20 >= 'a' && c|0x20 <= 'f':
			digits = append(digits, c)
		default:
			return nil, false, nil
		}
	}
	if len(digits) == 0 {
		return nil, len(text) > 0, errors.New("the input is empty")
	}
	if len(digits)%2 != 0 {
		return nil, true, fmt.Errorf("the hexadecimal text has %d digits; a byte is missing half", len(digits))
	}
	raw = make([]byte, len(digits)/2)
	if _, err := hex.Decode(raw, digits); err != nil {
		return nil, true, err
	}
	return raw, true, nil
}

// writeCapture prints a capture for people.
func writeCapture(w io.Writer, c *spec.Capture, reveal bool) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "dialect %s\n", c.Dialect.Name())
	writeItems(&out, c.Framing(), "")
	m := &c.Message
	if m.MTI() != 0 {
		fmt.Fprintf(&out, "mti %s %s\n", m.MTI(), m.MTI().Title())
		fmt.Fprintf(&out, "bitmap %s\n", m.Bitmap())
		items := spec.Describe(m)
		if reveal {
			items = spec.Reveal(m)
		}
		writeItems(&out, items, "  ")
	} else {
		fmt.Fprintln(&out, "no message behind the header")
	}
	_, err := w.Write(out.Bytes())
	return err
}

func writeItems(w io.Writer, items []spec.Item, indent string) {
	for _, i := range items {
		fmt.Fprintf(w, "%s%s %s: %s", indent, i.Field, i.Name, i.Value)
		if i.Note != "" {
			fmt.Fprintf(w, "  (%s)", i.Note)
		}
		fmt.Fprintln(w)
		writeItems(w, i.Sub, indent+"    ")
	}
}
