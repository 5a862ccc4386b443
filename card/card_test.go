package card

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const clear = "6228480000000000002"

func TestPANNeverPrints(t *testing.T) {
	p, err := ParsePAN(clear)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := ParseTrack2(clear + "=2912201123456789")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	type nested struct {
		card PAN
		T    Track2
	}
	n := nested{p, tr}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&log, verb+verb+verb+verb+"\n", p, tr, n, &n)
	}
	js, err := json.Marshal(map[string]any{"pan": p, "track": tr, "n": n})
	if err != nil {
		t.Fatal(err)
	}
	log.Write(js)
	l := slog.New(slog.NewJSONHandler(&log, nil))
	l.Info("m", "pan", p, "track", tr, "n", n)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "pan", p, "track", tr, "n", n)
	out := log.String()
	for _, secret := range []string{clear, clear[6:15], fmt.Sprintf("%x", clear), "123456789"} {
		if strings.Contains(out, secret) {
			t.Errorf("clear card data %q in output:\n%s", secret, out)
		}
	}
	if !strings.Contains(out, "622848*********0002") {
		t.Errorf("no masked number in output:\n%s", out)
	}
}

func TestParsePAN(t *testing.T) {
	for _, bad := range []string{"", "123456789012", "12345678901234567890", "622848000000000000A", "6228480000000 00"} {
		if _, err := ParsePAN(bad); err == nil {
			t.Errorf("ParsePAN accepted %d characters %q", len(bad), bad)
		} else if bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("the error shows the number: %v", err)
		}
	}
	p, _ := ParsePAN([]byte("4111111111111111"))
	if !p.Luhn() || p.BIN(6) != "411111" || p.LastFour() != "1111" {
		t.Errorf("Luhn %v BIN %s last %s", p.Luhn(), p.BIN(6), p.LastFour())
	}
	if q, _ := ParsePAN("4111111111111112"); q.Luhn() || q.Equal(p) {
		t.Error("a wrong check digit passed")
	}
	if (PAN{}).Luhn() || !(PAN{}).IsZero() || (PAN{}).Masked() != "" {
		t.Error("zero PAN")
	}
}

func TestTrack2(t *testing.T) {
	for _, c := range []struct {
		in       string
		ok       bool
		exp, svc string
		chip     bool
	}{
		{"6228480000000000002=29122011234", true, "2912", "201", true},
		{"6228480000000000002D29121011234", true, "2912", "101", false},
		{"6228480000000000002=2912", true, "2912", "", false},
		{"6228480000000000002=291", false, "", "", false},
		{"6228480000000000002=2913201", false, "", "", false},
		{"62284800000000000022912201", false, "", "", false},
		{"=2912201", false, "", "", false},
		{"", false, "", "", false},
	} {
		got, err := ParseTrack2(c.in)
		if (err == nil) != c.ok || string(got.Expiry) != c.exp || got.ServiceCode != c.svc || got.HasChip() != c.chip {
			t.Errorf("ParseTrack2(%s) = %s %s %v, %v", c.in, got.Expiry, got.ServiceCode, got.HasChip(), err)
		}
	}
}

func TestExpiry(t *testing.T) {
	for _, c := range []struct {
		exp, now string
		expired  bool
	}{{"2611", "2611", false}, {"2610", "2611", true}, {"2701", "2612", false}, {"9912", "2601", true}} {
		if got := Expiry(c.exp).Before(c.now); got != c.expired {
			t.Errorf("%s before %s = %v", c.exp, c.now, got)
		}
	}
	for _, bad := range []string{"", "26", "2613", "2600", "26A1"} {
		if _, err := ParseExpiry(bad); err == nil {
			t.Errorf("ParseExpiry(%q) passed", bad)
		}
	}
}
