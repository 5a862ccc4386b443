package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"acquirer/calendar"
	"acquirer/journal"
	"acquirer/settlement/clearing"
	"acquirer/simulate/card"
	"acquirer/store"
)

// A network's error file is taken by hand while the switch runs. The file is so
// old that the last day has passed: the running switch ends the case and counts it.
func TestErrorFileBesideServe(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			database, db := houseOn(t, engine)
			today := calendar.DateOf(time.Now())
			sold, sent := today.AddDays(-50), today.AddDays(-45)
			then, id := sold.Time().Add(12*time.Hour), store.NewID()
			txn := journal.Transaction{ID: id, Key: journal.Key{Day: sold, Terminal: "10000001", Batch: 1, STAN: 1, Kind: journal.Sale},
				Merchant: "898110054110001", MTI: 0x0200, Amount: 100_00, Currency: 156, PANMasked: "621000******0002", Channel: journal.Credit, Issuer: "north",
				RRN: strings.ToUpper(strconv.FormatInt(id, 36)), Trace: 77, Transmitted: then, Opened: then, Deadline: then}
			j := journal.New(db, nil)
			if _, err := j.Open(t.Context(), &txn); err != nil {
				t.Fatal(err)
			}
			if _, err := j.Close(t.Context(), &txn, journal.Outcome{Reason: journal.Approved, Approval: "000001", Closed: then}); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			var file bytes.Buffer
			z := clearing.NewZME(&file, "01020000")
			if err := errors.Join(z.Write(clearing.ErrorItem{Kind: clearing.Chargeback, STAN: 9, Sent: sent.Time().Format("0102150405"), Amount: 100_00, Fee: 5_00, OriginalSTAN: 77,
				OriginalSent: then.In(calendar.Beijing).Format("0102150405"), OriginalRRN: txn.RRN, Reason: "4853", Merchant: txn.Merchant}), z.Close()); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(t.TempDir(), "ZME_x")
			if err := os.WriteFile(name, file.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}

			key, pass := masterKey(t)
			admin := freeAddr(t)
			args := []string{"serve", "--seed", "demo", "--database", database, "--hsm-file", key, "--hsm-passphrase-file", pass,
				"--terminals-listen", "127.0.0.1:0", "--admin-listen", admin, "--console-listen", "", "--node", "7"}
			for _, is := range simcard.Issuers {
				args = append(args, "--issuer", is.Name+"="+freeAddr(t))
			}
			p := spawn(t, nil, args...)
			if _, ok := p.stderr.await(t.Context(), `"msg":"listening"`); !ok {
				t.Fatalf("it does not listen:\n%s", p.stderr.tail(20))
			}
			for i := range 2 { // again changes nothing
				status, stdout, stderr := runs(t, "dispute", "import", name, "--source", "north", "--date", sent.String(), "--database", database, "--node", "7")
				if status != 0 || !strings.Contains(stdout, "1 items: 1 taken") {
					t.Fatalf("import %d: status %d: %s%s", i+1, status, stdout, stderr)
				}
			}
			if _, ok := p.stderr.await(t.Context(), "disputes were not answered in time"); !ok {
				t.Fatalf("the last day passed in silence:\n%s", p.stderr.tail(20))
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Close = true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil || !strings.Contains(string(text), "\nacquirer_dispute_missed_total 1\n") {
				t.Errorf("the metric does not say it: %v", err)
			}
			if status, stdout, stderr := runs(t, "dispute", "list", "--state", "lost", "--database", database, "--node", "7"); status != 0 || !strings.Contains(stdout, txn.RRN) {
				t.Errorf("the case: status %d: %s%s", status, stdout, stderr)
			}
			if status := p.stop(t); status != 0 {
				t.Errorf("it ended with %d: %s", status, p.stderr.tail(20))
			}
		})
	}
}
