package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var rewriteMessages = flag.Bool("rewrite-messages", false, "write testdata/messages/*.txt anew from what decode prints")

// command runs decode or encode as the root command would.
func command(t *testing.T, cmd *cobra.Command, stdin string, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: "acquirer", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(cmd)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(append([]string{cmd.Name()}, args...))
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

// testCards are what no masked output may hold.
var testCards = []string{"6228480402564890018", "4761739001010010", "6228480402564890189", "6217850270000000004", "CVN123", "110101199001011234",
	"A1B2C3D4E5F60718", "00112233445566778899AABBCCDDEEFF", "24EDB7BEEC305B69648E03B4BC3A5A86", "30122201234500000", "5A48414E472F5341"}

// Every message of testdata/messages prints what stands beside it.
func TestDecodeMessages(t *testing.T) {
	files, err := filepath.Glob("../../testdata/messages/*.hex")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			got, err := command(t, newDecodeCmd(), "", name)
			if err != nil {
				t.Fatal(err)
			}
			j, err := command(t, newDecodeCmd(), "", "--json", name)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range testCards {
				for _, form := range []string{secret, hex.EncodeToString([]byte(secret))} {
					if strings.Contains(strings.ToUpper(got+j), strings.ToUpper(form)) {
						t.Errorf("%s is shown", secret)
					}
				}
			}
			golden := strings.TrimSuffix(name, ".hex") + ".txt"
			if *rewriteMessages {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			// Masked JSON cannot be encoded; revealed JSON is the same bytes.
			clear, err := command(t, newDecodeCmd(), "", "--json", "--reveal", name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := command(t, newEncodeCmd(), j, "--json-in", "-"); (err == nil) != (j == clear) {
				t.Errorf("masked JSON: %v", err)
			}
			back, err := command(t, newEncodeCmd(), clear, "--json-in", "-")
			if err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(back) != strings.Join(strings.Fields(string(source)), "") {
				t.Errorf("encoded\n%s", back)
			}
		})
	}
}

const signIn = "003C600401000060310031000108000020000000C00012000029363239363930303233303133313030343839393030303100110000013200300003303031"

func TestDecodeJSONShape(t *testing.T) {
	got, err := command(t, newDecodeCmd(), "", "--json", "--reveal", signIn)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"dialect":"unionpay-pos","framing":{"length":60,"tpdu":"6004010000","header":"603100310001"},"mti":"0800","bitmap":"0020000000C00012","fields":{"11":"000029","41":"62969002","42":"301310048990001","60":"00000132003","63":"001"}}` + "\n"
	if got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	got, err = command(t, newDecodeCmd(), "", "--json", signIn[26:])
	if err != nil || !strings.Contains(got, `"framing":{"length":null,"tpdu":"","header":""}`) {
		t.Errorf("%s %v", got, err)
	}
	if !json.Valid([]byte(got)) {
		t.Error("not JSON")
	}
}

// The same message, however it is given.
func TestDecodeInputs(t *testing.T) {
	want, err := command(t, newDecodeCmd(), "", "--json", signIn)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(signIn)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var dump strings.Builder
	for i, b := range raw {
		dump.WriteString("0x" + hex.EncodeToString([]byte{b}) + ",")
		if i%16 == 15 {
			dump.WriteString("\r\n")
		}
	}
	for _, c := range []struct {
		name, stdin string
		args        []string
	}{
		{"lower case", "", []string{strings.ToLower(signIn)}},
		{"0x", "", []string{"0x" + signIn}},
		{"spaces", "", []string{signIn[:10] + " " + signIn[10:] + "\n"}},
		{"several arguments", "", []string{signIn[:10], signIn[10:30], signIn[30:]}},
		{"hex file", "", []string{file("a.hex", []byte(signIn+"\n"))}},
		{"hex file with a mark", "", []string{file("bom.hex", []byte("\xEF\xBB\xBF"+signIn))}},
		{"dump file", "", []string{file("a.dump", []byte(dump.String()))}},
		{"binary file", "", []string{file("a.bin", raw)}},
		{"standard input", signIn, []string{"-"}},
		{"binary standard input", string(raw), []string{"-"}},
		{"dialect", signIn, []string{"--dialect", "unionpay-pos", "-"}},
	} {
		got, err := command(t, newDecodeCmd(), c.stdin, append([]string{"--json"}, c.args...)...)
		if err != nil || got != want {
			t.Errorf("%s: %s %v", c.name, got, err)
		}
	}
	clear, err := command(t, newDecodeCmd(), "", "--json", "--reveal", signIn)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := command(t, newEncodeCmd(), "", "--binary", "--json-in", file("m.json", []byte(clear))); err != nil || got != string(raw) {
		t.Errorf("encode --binary: %X %v", got, err)
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		cmd   *cobra.Command
		stdin string
		args  []string
		code  int
		why   string
	}{
		{"no argument", newDecodeCmd(), "", nil, 2, "at least 1"},
		{"dialect", newDecodeCmd(), "", []string{"--dialect", "visa", signIn}, 2, "want unionpay-pos, cups, iso87-ascii, iso87-bcd, or the path of a dialect file"},
		{"neither", newDecodeCmd(), "", []string{"no-such-file"}, 1, "neither hexadecimal text nor the name of a file"},
		{"half a byte", newDecodeCmd(), "", []string{signIn[1:]}, 1, "a byte is missing half"},
		{"empty", newDecodeCmd(), "", []string{"-"}, 1, "found nothing"},
		{"directory", newDecodeCmd(), "", []string{os.TempDir()}, 1, "neither"},
		{"too long", newDecodeCmd(), strings.Repeat("0", maxRecording+2), []string{"-"}, 1, "longer than"},
		{"cut", newDecodeCmd(), "", []string{signIn[26:120]}, 1, "DE 63 (自定义域 Operator, scheme, texts) at byte 46: want 3 bytes, found 1 before the end of the message"},
		{"other dialect", newDecodeCmd(), "", []string{"--dialect", "cups", signIn}, 1, "MTI at byte 0: want ASCII digits, found 00"},
		{"no file", newEncodeCmd(), "", nil, 2, "--json-in"},
		{"missing file", newEncodeCmd(), "", []string{"--json-in", "no-such-file"}, 1, "no-such-file"},
		{"no JSON", newEncodeCmd(), "hello", []string{"--json-in", "-"}, 1, "JSON"},
		{"unknown key", newEncodeCmd(), `{"dialect":"cups","fieldz":{}}`, []string{"--json-in", "-"}, 1, "fieldz"},
	} {
		out, err := command(t, c.cmd, c.stdin, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q (%s)", c.name, err, c.why, out)
			continue
		}
		if got := exitCode(err); got != c.code {
			t.Errorf("%s: exit status %d, want %d", c.name, got, c.code)
		}
	}
	// What was read before the error is shown, masked.
	out, err := command(t, newDecodeCmd(), "", "0200 7000000000000000 16 6228480402564890 000000 0000000001")
	if err == nil || !strings.Contains(out, "3 交易处理码 Processing code: 000000") || !strings.Contains(out, "622848******4890") {
		t.Errorf("%s %v", out, err)
	}
}
