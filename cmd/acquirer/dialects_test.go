package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	simcard "acquirer/simulate/card"
	"acquirer/spec"
)

// TestDialects runs the demo with two more listeners, one of a dialect that
// only a file has, and terminals of other makes at them.
func TestDialects(t *testing.T) {
	plain, err := spec.Load("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "harbour.json")
	own := strings.NewReplacer(`"iso87-ascii"`, `"harbour"`, `"header": 0`, `"header": 4`, `"x919"`, `"cmac"`).Replace(string(plain.File()))
	if err := os.WriteFile(file, []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDemo(t, "--terminals-dialects", "127.0.0.1:0=iso87-bcd, 127.0.0.1:0="+file)
	at := d.dialects()
	if len(at) != 2 {
		t.Fatalf("served: %v", at)
	}
	for addr, name := range at {
		if name == "harbour" {
			name = file
		}
		tid, mid := simcard.SeedTerminal(simcard.StreetTerminals) // behind the street's own, which sign in meanwhile
		if name == file {
			tid, mid = simcard.SeedTerminal(simcard.StreetTerminals + 4)
		}
		args := []string{"simulate", "iso87", "--addr", addr, "--dialect", name, "--tid", tid, "--mid", mid}
		status, stdout, stderr := runs(t, append(args, "--json",
			"echo", "keys", "sign-on", "sale 12.34 chip north:77 as lunch", "balance", "sale 20.00 stripe east:80 as tea", "void lunch", "refund tea 5.00 east:80",
			"preauth 500.00 as room", "completion room 432.10", "offline_sale 3.00 south:5 auth:123456", "more last 1.00", "reverse 0420 17", "settle", "sign-off")...)
		if status != 0 {
			t.Errorf("%s: status %d: %s%s", name, status, stdout, stderr)
		}
		var last done
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		for _, line := range lines {
			last = done{}
			if err := json.Unmarshal([]byte(line), &last); err != nil || !last.Approved {
				t.Errorf("%s: %v: %s", name, err, line)
			}
		}
		if len(lines) != 15 || last.Action != "sign-off" {
			t.Errorf("%s: %d lines, the last %+v", name, len(lines), last)
		}
		status, stdout, stderr = runs(t, append(args, "sale 12.34 chip north:77", "sale 1.00 stripe east:lost", "void nothing", "settle")...)
		if status != 1 || !strings.Contains(stdout, "sale 12.34, trace number") || !strings.Contains(stdout, ": 41 ") || !strings.Contains(stdout, `nothing is called "nothing"`) ||
			!strings.Contains(stdout, "debit 12.34") || !strings.Contains(stdout, "mti 0510") {
			t.Errorf("%s: status %d: %s%s", name, status, stdout, stderr)
		}
		pan, err := simcard.ParseCard("north:77")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(stdout, pan.Reveal()) || !strings.Contains(stdout, pan.Masked()) {
			t.Errorf("%s: the card's number is not masked", name)
		}
	}
	for text, want := range map[string]string{"sell 1.00": `"sell" is no action`, "sale": "", "sale x": `"x" is no amount`, "reverse a b": `"b" is no name`,
		"echo 1": "echo takes nothing", "": "an empty action"} {
		p := otherTill{till: till{card: "north"}}
		if _, err := p.parse(text); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if status := d.stop(); status != 0 {
		t.Errorf("the demo ended with %d", status)
	}
}

// TestBadDialects: what cannot be served stops the start, with the line where
// there is one.
func TestBadDialects(t *testing.T) {
	plain, err := spec.Load("iso87-ascii")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bad, useless := filepath.Join(dir, "bad.json"), filepath.Join(dir, "useless.json")
	for name, text := range map[string]string{bad: strings.Replace(string(plain.File()), `"bitmap": "binary"`, `"bitmap": "round"`, 1),
		useless: strings.Replace(string(plain.File()), `"keys": {"field": 48},`, "", 1)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for setting, want := range map[string]string{
		"127.0.0.1:1=" + bad:                     bad + `: line 5: bitmap "round" is none of binary, hex`,
		"127.0.0.1:1=" + useless:                 "dialect iso87-ascii: message key_exchange: keys does not say which field carries them",
		"127.0.0.1:1=cups":                       "dialect cups: its framing is of the lines between institutions",
		"127.0.0.1:1=latin":                      `dialect "latin": want unionpay-pos, cups, iso87-ascii, iso87-bcd`,
		"127.0.0.1:1=" + dir + "/no.json":        "no such file",
		"iso87-ascii":                            `"iso87-ascii" is not HOST:PORT=DIALECT`,
		"127.0.0.1:1=iso87-bcd,8584=iso87-ascii": `"8584=iso87-ascii" is not HOST:PORT=DIALECT`,
	} {
		status, _, stderr := runs(t, "config", "--check", "--terminals-dialects", setting)
		if status != 2 || !strings.Contains(stderr, "terminals.dialects (ACQUIRER_TERMINALS_DIALECTS): "+want) && !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d: %s", setting, status, stderr)
		}
	}
	if status, stdout, stderr := runs(t, "config", "--check", "--terminals-dialects", "127.0.0.1:1=iso87-ascii, [::1]:2=iso87-bcd"); status != 0 {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}

// dialects waits until the log, which is flushed ten times a second, says which
// dialects are served, and returns them by address.
func (d *openDemo) dialects() (at map[string]string) {
	d.t.Helper()
	said := regexp.MustCompile(`"dialects":(\{[^}]*\})`)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		log, err := os.ReadFile(d.log)
		if err != nil {
			d.t.Fatal(err)
		}
		if m := said.FindSubmatch(log); m != nil {
			if err := json.Unmarshal(m[1], &at); err != nil {
				d.t.Fatal(err)
			}
			return at
		}
	}
	d.t.Fatal("the log does not say where the dialects are served")
	return nil
}

// A card's chip counts on from one transaction of a run to the next.
func TestIso87ChipsCount(t *testing.T) {
	p := &otherTill{}
	first, err := p.parse("sale 1.00 chip north:3")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := p.parse("preauth 2.00 chip north:3"); err != nil || second.x.Card != first.x.Card {
		t.Errorf("another chip of the same card, %v", err)
	}
	if third, err := p.parse("sale 3.00 chip north:4"); err != nil || third.x.Card == first.x.Card {
		t.Errorf("the chip of another card, %v", err)
	}
}
