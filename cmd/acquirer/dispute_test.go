package main

import (
	"archive/zip"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/money"
	"acquirer/settlement/clearing"
	"acquirer/settlement/dispute"
	"acquirer/spec"
	"acquirer/store"
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
	// The first case is about a chip that was read.
	if chip := slices.IndexFunc(sales, func(e *journal.Entry) bool { return e.EntryMode/10 == 5 }); chip >= 0 {
		sales[0], sales[chip] = sales[chip], sales[0]
	}
	if len(sales) < 3 || sales[0].EntryMode/10 != 5 {
		t.Fatalf("%d sales, the first by %03d", len(sales), sales[0].EntryMode)
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
	// What comes by word is said by two people. The second is not this process's user.
	confirm := func(key string) {
		t.Helper()
		v := openForReading(t, database)
		_, err := (&disputeCall{Do: "confirm", Key: key}).run(t.Context(), v.db, v.cfg, "wang")
		if err := errors.Join(err, v.db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// charged is what the switch does not give back of a sale any more.
	charged := func(of *journal.Entry, want money.Amount) {
		t.Helper()
		v := openForReading(t, database)
		var got money.Amount
		err := v.db.Read(t.Context(), func(tx store.Tx) error {
			return tx.QueryRow("select coalesce(sum(amount), 0) from charged where txn = $1", of.ID).Scan(&got)
		})
		if err := errors.Join(err, v.db.Close()); err != nil || got != want {
			t.Errorf("charged back of %s: %s, %v; want %s", of.RRN, got, err, want)
		}
	}
	key := "hand/" + sales[0].Issuer + "/N-1"
	first := []string{"open", sales[0].RRN, "chargeback", "--reason", "4853", "--fee", "5.00", "--ref", "N-1"}
	if said := ask(first...); !strings.Contains(said, "acquirer dispute confirm "+key) {
		t.Errorf("asked: %s", said)
	}
	if said := ask("list"); said != "no cases\n" {
		t.Errorf("before a second person: %s", said)
	}
	if said := ask("asked"); !strings.Contains(said, sales[0].RRN) || !strings.Contains(said, "fee 5.00, reason 4853") {
		t.Errorf("what waits: %s", said)
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if status, _, stderr := runs(t, append(append([]string{"dispute"}, args...), "--database", database)...); status != 1 || !strings.Contains(stderr, want) || strings.Count(stderr, "dispute: ") > 1 {
			t.Errorf("%v: status %d, %s; want %q", args, status, stderr, want)
		}
	}
	refused("a second person must do this", "confirm", key)
	ask("refuse", key)
	refused("nothing waits", "confirm", key)
	ask(first...)
	charged(sales[0], 0)
	confirm(key)
	charged(sales[0], sales[0].Sum())
	refused("is recorded already", first...)
	if said := ask("asked"); !strings.Contains(said, "nothing waits") {
		t.Errorf("what waits: %s", said)
	}
	refused("acquirer dispute list shows the cases", "show", "12345")
	refused("disputes 999999.00", "open", sales[2].RRN, "chargeback", "--amount", "999999")
	refused("which is to come", "open", sales[2].RRN, "chargeback", "--date", "2099-01-01")
	refused("and the payment is of", "open", sales[2].RRN, "chargeback", "--date", "2020-01-01")
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
	if said := ask("import", name, "--source", "another", "--date", today); !strings.Contains(said, "1 of no payment known here") {
		t.Errorf("another network's file: %s", said)
	}
	var cases []dispute.Case
	list := func(n int) {
		t.Helper()
		if err := json.Unmarshal([]byte(ask("list", "--json")), &cases); err != nil || len(cases) != n || !slices.IsSortedFunc(cases, func(a, b dispute.Case) int { return cmp.Compare(a.Due, b.Due) }) {
			t.Fatalf("cases %+v, %v", cases, err)
		}
		slices.SortFunc(cases, func(a, b dispute.Case) int { return cmp.Compare(a.ID, b.ID) })
	}
	charged(x, 0) // a retrieval takes nothing
	list(2)
	if cases[0].RRN != sales[0].RRN || cases[1].RRN != x.RRN || cases[1].Stage != dispute.Retrieval {
		t.Fatalf("cases %+v", cases)
	}
	for filter, want := range map[string]string{"--stage retrieval": x.RRN, "--source " + sales[0].Issuer + " --stage chargeback": sales[0].RRN,
		"--merchant " + x.Merchant + " --due " + cases[1].Due.String(): x.RRN, "--due " + cases[1].Due.AddDays(-1).String(): "no cases", "--state won": "no cases"} {
		if said := ask(append([]string{"list"}, strings.Fields(filter)...)...); !strings.Contains(said, want) || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: %s", filter, said)
		}
	}
	id := func(i int) string { b, _ := json.Marshal(cases[i].ID); return string(b) }
	note := filepath.Join(t.TempDir(), "delivery.txt")
	if err := os.WriteFile(note, []byte("delivered"), 0o600); err != nil {
		t.Fatal(err)
	}
	ask("attach", id(0), note)
	export := func(id string) map[string]string {
		t.Helper()
		out := filepath.Join(t.TempDir(), "case.zip")
		ask("evidence", id, "--out", out)
		return unzipped(t, out)
	}
	found := export(id(0))
	for _, want := range []string{"manifest.json", "transaction.json", "slip.html", "delivery.txt", "location.json"} {
		if found[want] == "" {
			t.Errorf("%s is missing", want)
		}
	}
	if !strings.Contains(found["slip.html"], sales[0].RRN) || !strings.Contains(found["slip.html"], sales[0].Sum().String()) || !strings.Contains(found["slip.html"], "*") {
		t.Errorf("the slip: %s", found["slip.html"])
	}
	chipAndPlaceProved(t, sales[0], found)
	if said := ask("answer", id(0), "represent"); !strings.Contains(said, "answered") {
		t.Errorf("answered: %s", said)
	}
	if said := ask("show", id(0)); !strings.Contains(said, "evidence exported") || !strings.Contains(said, `"state": "answered"`) {
		t.Errorf("shown: %s", said)
	}
	if said := ask("close", id(1), "closed"); !strings.Contains(said, "another person") {
		t.Errorf("closed by one: %s", said)
	}
	// When its time is over what is sealed is forgotten, but not of what is in dispute.
	v = openForReading(t, database)
	v.cfg.Dispute.Keep, v.log = 400, slog.New(slog.DiscardHandler)
	if v.disputes, err = dispute.New(dispute.Config{DB: v.db, Books: v.books}); err != nil {
		t.Fatal(err)
	}
	if err := v.forgetCards(t.Context(), time.Now().AddDate(0, 0, 401)); err != nil {
		t.Fatal(err)
	}
	for i, e := range sales {
		if e, err := v.journal.Get(t.Context(), e.ID); err != nil || (e.PANSealed != nil) != (i < 2) {
			t.Errorf("sale %d: sealed %v, %v", i, e.PANSealed != nil, err)
		}
	}
	if err := v.db.Close(); err != nil {
		t.Fatal(err)
	}
	chipAndPlaceProved(t, sales[0], export(id(0)))
	ask("open", sales[2].RRN, "retrieval", "--ref", "N-3")
	confirm("hand/" + sales[2].Issuer + "/N-3")
	list(3)
	if late := export(id(2)); !strings.Contains(late["manifest.json"], "not kept any more") || strings.Contains(late["chip.json"], `"request"`) {
		t.Errorf("evidence of what was forgotten: %s, %s", late["manifest.json"], late["chip.json"])
	}
	for _, wrong := range [][]string{{"open", "nonsense", "chargeback"}, {"show", "x"}, {"list", "--state", "odd"}, {"list", "--stage", "odd"}, {"open", x.RRN, "odd"}, {"list", "--due", "odd"}, {"import", filepath.Join(filepath.Dir(name), "INN26112001ZME_x"), "--source", "north", "--date", "2026-11-21"}, {"open", x.RRN, "chargeback", "--amount", "0"}, {"open", x.RRN, "chargeback", "--fee", "-1"}, {"import", name}, {"evidence", id(0)}} {
		if status, _, stderr := runs(t, append(append([]string{"dispute"}, wrong...), "--database", database)...); status != 2 || stderr == "" {
			t.Errorf("%v: status %d, %s", wrong, status, stderr)
		}
	}
	if status, _, stderr := runs(t, "dispute", "answer", id(0), "represent", "--database", database); status != 1 || !strings.Contains(stderr, "answered") {
		t.Errorf("answered twice: status %d, %s", status, stderr)
	}
}

// unzipped reads an evidence package, by file.
func unzipped(t *testing.T, path string) map[string]string {
	t.Helper()
	r, err := zip.OpenReader(path)
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
	return found
}

// chipAndPlaceProved holds a package against a chip sale of the demo's street.
func chipAndPlaceProved(t *testing.T, e *journal.Entry, found map[string]string) {
	t.Helper()
	var place proofOfPlace
	if err := json.Unmarshal([]byte(found["location.json"]), &place); err != nil || place.Place == "" || !slices.ContainsFunc(street[:], func(s streetShop) bool { return s.place == place.Place }) ||
		!strings.HasPrefix(place.Serial, "AQ") || place.Version != "1.0.0" || place.Type != "04" {
		t.Errorf("location: %s, %v", found["location.json"], err)
	}
	var chip proofOfChip
	if err := json.Unmarshal([]byte(found["chip.json"]), &chip); err != nil || chip.Request == nil || chip.Answer == nil {
		t.Fatalf("chip: %s, %v", found["chip.json"], err)
	}
	tags := map[string]spec.Item{}
	for _, tag := range chip.Request.Tags {
		tags[tag.Field] = tag
	}
	for _, want := range []string{"55.9F26", "55.9F27", "55.9F10", "55.95", "55.9F36", "55.9F37"} { // cryptogram, CID, issuer's data, TVR, ATC, random number
		if tags[want].Name == "" || tags[want].Value == "" {
			t.Errorf("the chip's %s: %+v", want, tags[want])
		}
	}
	if sum, err := strconv.ParseInt(tags["55.9F02"].Value, 10, 64); err != nil || money.Amount(sum) != e.Amount {
		t.Errorf("the chip signed %s, of %s", tags["55.9F02"].Value, e.Amount)
	}
	for _, secret := range []string{"55.57", "55.5A", "55.5F20", "55.5F24"} {
		if _, ok := tags[secret]; ok {
			t.Errorf("the package has %s", secret)
		}
	}
	if m := found["manifest.json"]; strings.Contains(m, "location:") || strings.Contains(m, "chip:") {
		t.Errorf("missing: %s", m)
	}
}

// What paid no merchant cannot be disputed; what went back since is told.
func TestDisputedPayment(t *testing.T) {
	of := func(k journal.Kind, amount money.Amount, r journal.Reason) *journal.Entry {
		return &journal.Entry{Transaction: journal.Transaction{ID: 1, RRN: "1", Key: journal.Key{Kind: k, Day: 20261120}, Amount: amount, Issuer: "alipay"}, Outcome: &journal.Outcome{Reason: r}}
	}
	reversed := of(journal.Sale, 100_00, journal.Approved)
	reversed.Debt = &journal.Debt{}
	part := of(journal.Sale, 100_00, journal.Approved)
	part.Outcome.Part = 70_00
	code := of(journal.Sale, 100_00, journal.Approved)
	code.Channel = journal.QR
	debit, abroad := of(journal.Sale, 100_00, journal.Approved), of(journal.Sale, 100_00, journal.Approved)
	debit.Channel, abroad.Channel, abroad.Scheme = journal.Debit, journal.Debit, "VIS"
	for name, x := range map[string]struct {
		of           *journal.Entry
		followers    []*journal.Entry
		amount, gone money.Amount
		wallet, not  string
		debit        bool
	}{
		"a sale":                   {of: of(journal.Sale, 100_00, journal.Approved), amount: 100_00},
		"a completion":             {of: of(journal.Completion, 100_00, journal.Approved), amount: 100_00},
		"an offline sale":          {of: of(journal.OfflineSale, 100_00, journal.Approved), amount: 100_00},
		"approved in part":         {of: part, amount: 70_00},
		"a tip":                    {of: of(journal.Sale, 100_00, journal.Approved), followers: []*journal.Entry{of(journal.Adjustment, 5_00, journal.Approved)}, amount: 105_00},
		"refunds":                  {of: of(journal.Sale, 100_00, journal.Approved), followers: []*journal.Entry{of(journal.Refund, 30_00, journal.Approved), of(journal.Refund, 20_00, journal.Approved)}, amount: 100_00, gone: 50_00},
		"a void":                   {of: of(journal.Sale, 100_00, journal.Approved), followers: []*journal.Entry{of(journal.Void, 100_00, journal.Approved)}, amount: 100_00, gone: 100_00},
		"reversed":                 {of: reversed, amount: 100_00, gone: 100_00},
		"by a debit card":          {of: debit, amount: 100_00, debit: true},
		"by a foreign debit card":  {of: abroad, amount: 100_00}, // its scheme has its own rules
		"by code":                  {of: code, amount: 100_00, wallet: "alipay"},
		"declined":                 {of: of(journal.Sale, 100_00, journal.Declined), not: "was not approved (declined)"},
		"open":                     {of: &journal.Entry{Transaction: journal.Transaction{Key: journal.Key{Kind: journal.Sale}}}, not: "was not approved (open)"},
		"a void itself":            {of: of(journal.Void, 100_00, journal.Approved), not: "is a void, which paid no merchant"},
		"a refund itself":          {of: of(journal.Refund, 100_00, journal.Approved), not: "is a refund, which paid no merchant"},
		"a pre-authorisation":      {of: of(journal.PreAuth, 100_00, journal.Approved), not: "is a pre-authorisation, which paid no merchant"},
		"a load, which is no sale": {of: of(journal.Load, 100_00, journal.Approved), not: "is a load, which paid no merchant"},
	} {
		p, err := paymentOf(&journal.Following{Original: x.of, Followers: x.followers})
		switch {
		case x.not != "":
			if !errors.Is(err, dispute.ErrAction) || !strings.Contains(err.Error(), x.not) {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		case err != nil || p.Amount != x.amount || p.Gone != x.gone || p.Wallet != x.wallet || p.Debit != x.debit || p.Date != 20261120:
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}
