package main

import (
	"strings"
	"testing"

	"acquirer/settlement"
)

// A file of payers is refused with its line when it says something that nobody
// can mean.
func TestPayersFile(t *testing.T) {
	good, err := readPayers([]byte("[{\"payer\": \"network\", \"account\": \"99\", \"reference\": \"NET{date}\"},\n {\"payer\": \"alipay\", \"reference\": \"*{date}\"}]\n"))
	if err != nil || len(good) != 2 || good[0] != (settlement.Payer{Account: "99", Reference: "NET{date}"}) || good[1] != (settlement.Payer{Wallet: "alipay", Reference: "*{date}"}) {
		t.Errorf("%+v, %v", good, err)
	}
	for text, wrong := range map[string]string{
		"":     "line 1",
		"{}":   "want a list",
		"[]":   "no payer",
		"[\n{": "line 2",
		"[\n{\"payer\": \"visa\", \"reference\": \"{date}\"}]":         `line 2: "visa" is none of network`,
		"[\n\n{\"payer\": \"network\", \"reference\": \"NET\"}]":       "line 3: settlement: the reference",
		"[{\"payer\": \"network\", \"ref\": \"{date}\"}]":              "unknown field",
		"[{\"payer\": \"network\", \"reference\": \"{date}\"}] more":   "line 1",
		"[{\"payer\": \"network\", \"reference\": \"{date}\"}\n":       "EOF",
		"[{\"payer\": \"network\", \"reference\": \"{date}\"}]\n[]\n ": "more behind the list",
	} {
		if _, err := readPayers([]byte(text)); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want %q", text, err, wrong)
		}
	}
}

// What is waited for follows from whether the house sees what comes.
func TestCreditOfTheSettings(t *testing.T) {
	for _, c := range []struct {
		credit  string
		payers  bool
		covered bool
		amount  string
	}{{"", false, false, "0.00"}, {"", true, true, "0.00"}, {"unlimited", true, false, "0.00"}, {"0.00", false, true, "0.00"}, {"500.00", true, true, "500.00"}} {
		cfg := Config{}
		cfg.Settlement.Credit, cfg.Settlement.RefundFee = c.credit, "keep"
		if c.payers {
			cfg.demoPayers = streetPayers()
		}
		var to settlement.Config
		if err := cfg.terms(&to); err != nil || to.Covered != c.covered || to.Credit.String() != c.amount || len(to.Payers) > 0 != c.payers {
			t.Errorf("%+v: covered %t, credit %s, %d payers, %v", c, to.Covered, to.Credit, len(to.Payers), err)
		}
	}
}
