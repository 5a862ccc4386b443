package routing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestPayCodeNeverPrints(t *testing.T) {
	const clear = "134567890123456789"
	c, err := ParsePayCode(clear)
	if err != nil {
		t.Fatal(err)
	}
	type nested struct {
		code PayCode
		C    PayCode
	}
	n := nested{c, c}
	p := struct {
		Order string
		Code  PayCode
	}{"R1", c}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", c, n, &n, p)
	}
	js, err := json.Marshal(map[string]any{"code": c, "n": n, "p": p})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(js)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "code", c, "n", n, "p", p)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "code", c, "n", n, "p", p)
	for _, secret := range []string{clear, clear[6:14], fmt.Sprintf("%x", clear)} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("a clear payment code in the output:\n%s", out.String())
		}
	}
	if !strings.Contains(out.String(), "134567********6789") {
		t.Errorf("no masked code in the output:\n%s", out.String())
	}
	var none PayCode
	if !none.IsZero() || none.Reveal() != "" || none.Masked() != "" || c.IsZero() || c.Equal(none) || c.Reveal() != clear {
		t.Error("the zero code")
	}
}

func TestWalletOf(t *testing.T) {
	code := func(prefix string, n int) string { return prefix + strings.Repeat("7", n-len(prefix)) }
	for _, c := range []struct{ code, wallet string }{
		{code("09", 18), ""}, {code("10", 18), WeChat}, {code("13", 18), WeChat}, {code("15", 18), WeChat}, {code("16", 18), ""},
		{code("13", 17), ""}, {code("13", 19), ""},
		{code("24", 18), ""}, {code("25", 16), Alipay}, {code("28", 18), Alipay}, {code("30", 24), Alipay}, {code("31", 18), ""},
		{code("61", 19), ""}, {code("62", 19), UnionPayQR}, {code("63", 19), ""}, {code("62", 18), ""}, {code("62", 20), ""},
		{code("00", 24), ""}, {code("99", 16), ""},
	} {
		p, err := ParsePayCode([]byte(c.code))
		if err != nil {
			t.Errorf("%s: %v", c.code, err)
		}
		if w, ok := WalletOf(p); w != c.wallet || ok != (c.wallet != "") {
			t.Errorf("%s is %q, %v; want %q", c.code, w, ok, c.wallet)
		}
	}
	if w, ok := WalletOf(PayCode{}); ok || w != "" {
		t.Errorf("no code is %q", w)
	}
	for _, bad := range []string{"", "1", code("13", 15), code("28", 25), code("13", 17) + "x", code("13", 17) + " ", code("13", 17) + "\x00", "１３４５６７"} {
		if _, err := ParsePayCode(bad); !errors.Is(err, ErrPayCode) {
			t.Errorf("%q passed: %v", bad, err)
		} else if bad != "" && len(bad) > 1 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error shows the code: %v", err)
		}
	}
}

// Whatever is scanned: a code is 16 to 24 digits and nothing else, it never
// prints whole, and its wallet is one there is.
func FuzzPayCode(f *testing.F) {
	for _, s := range []string{"", "134567890123456789", "2812345678901234", "6212345678901234567", "13456789012345678x", "999999999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParsePayCode(s)
		good := len(s) >= 16 && len(s) <= 24 && strings.Trim(s, "0123456789") == ""
		if good != (err == nil) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil {
			if !c.IsZero() {
				t.Errorf("%q was refused and kept", s)
			}
			return
		}
		if c.Reveal() != s || len(c.Masked()) != len(s) || strings.Count(c.Masked(), "*") != len(s)-10 {
			t.Errorf("%q prints as %s", s, c)
		}
		w, ok := WalletOf(c)
		known := false
		for _, name := range Wallets {
			known = known || w == name
		}
		if ok != known || !ok && w != "" {
			t.Errorf("%s belongs to %q, %v", c, w, ok)
		}
	})
}
