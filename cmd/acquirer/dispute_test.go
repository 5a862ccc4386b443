package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/settlement/clearing"
	"acquirer/settlement/dispute"
)

// The commands, on a street's database: a chargeback by hand and one by file,
// the evidence of it, the answer.
func TestDisputeCommands(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "kept")
	if status, stdout, stderr := runs(t, "demo", "--transactions", "60", "--settle", "--json", "--keep", keep); status != 0 {
		t.Fatalf("status %d: %s\n%s", status, stdout, stderr)
	}
	database := "sqlite:" + filepath.Join(keep, "acquirer.db")
	v := openForReading(t, database)
	entries, err := readJournal(t.Context(), v.journal)
	if err != nil {
		t.Fatal(err)
	}
	var sales []*journal.Entry
	for _, e := range entries {
		if e.Kind == journal.Sale && e.Channel != journal.QR && e.State() == journal.StateApproved {
			sales = append(sales, e)
		}
	}
	if len(sales) < 2 {
		t.Fatalf("%d sales", len(sales))
	}
	if err := v.db.Close(); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		t.Helper()
		args = append(append([]string{"dispute"}, args...), "--database", database, "--hsm-file", filepath.Join(keep, "hsm.key"), "--hsm-passphrase-file", filepath.Join(keep, "hsm.key.pass"))
		status, stdout, stderr := runs(t, args...)
		if status != 0 {
			t.Fatalf("%v: status %d: %s%s", args, status, stdout, stderr)
		}
		return stdout
	}
	for range 2 {
		ask("open", sales[0].RRN, "chargeback", "--reason", "4853", "--fee", "5.00", "--ref", "N-1")
	}
	x := sales[1]
	var file bytes.Buffer
	z := clearing.NewZME(&file, "01020000")
	if err := z.Write(clearing.ErrorItem{Kind: clearing.Retrieval, STAN: 7, Sent: time.Now().In(calendar.Beijing).Format("0102150405"), Amount: x.Sum(), OriginalSTAN: uint32(x.Trace),
		OriginalSent: x.Transmitted.In(calendar.Beijing).Format("0102150405"), Reason: "01", Merchant: x.Merchant}); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "INNZME_x")
	if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	today := calendar.DateOf(time.Now()).String()
	if said := ask("import", name, "--source", x.Issuer, "--date", today); !strings.Contains(said, "1 items: 1 taken") {
		t.Errorf("imported: %s", said)
	}
	var cases []dispute.Case
	if err := json.Unmarshal([]byte(ask("list", "--json")), &cases); err != nil || len(cases) != 2 || cases[0].RRN != sales[0].RRN || cases[1].RRN != x.RRN || cases[1].Stage != dispute.Retrieval {
		t.Fatalf("cases %+v, %v", cases, err)
	}
	id := func(i int) string { b, _ := json.Marshal(cases[i].ID); return string(b) }
	note := filepath.Join(t.TempDir(), "delivery.txt")
	if err := os.WriteFile(note, []byte("delivered"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask("attach", id(0), note)
	out := filepath.Join(t.TempDir(), "case.zip")
	ask("evidence", id(0), "--out", out)
	r, err := zip.OpenReader(out)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	found := map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		found[f.Name] = string(b)
	}
	for _, want := range []string{"manifest.json", "transaction.json", "slip.html", "delivery.txt"} {
		if found[want] == "" {
			t.Errorf("%s is missing", want)
		}
	}
	if !strings.Contains(found["slip.html"], sales[0].RRN) || !strings.Contains(found["slip.html"], sales[0].Sum().String()) || !strings.Contains(found["slip.html"], "*") {
		t.Errorf("the slip: %s", found["slip.html"])
	}
	if said := ask("answer", id(0), "represent"); !strings.Contains(said, "answered") {
		t.Errorf("answered: %s", said)
	}
	if said := ask("show", id(0)); !strings.Contains(said, "evidence exported") || !strings.Contains(said, `"state": "answered"`) {
		t.Errorf("shown: %s", said)
	}
	if said := ask("close", id(1), "closed"); !strings.Contains(said, "another person") {
		t.Errorf("closed by one: %s", said)
	}
	for _, wrong := range [][]string{{"open", "nonsense", "chargeback"}, {"show", "x"}, {"list", "--state", "odd"}, {"import", name}, {"evidence", id(0)}} {
		if status, _, stderr := runs(t, append(append([]string{"dispute"}, wrong...), "--database", database)...); status != 2 || stderr == "" {
			t.Errorf("%v: status %d, %s", wrong, status, stderr)
		}
	}
	if status, _, stderr := runs(t, "dispute", "answer", id(0), "represent", "--database", database); status != 1 || !strings.Contains(stderr, "answered") {
		t.Errorf("answered twice: status %d, %s", status, stderr)
	}
}
