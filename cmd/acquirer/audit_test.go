package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/audit"
	"acquirer/store"
)

// The log of what operators did is listed, and verify finds that it was
// touched.
func TestAudit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.db")
	call := func(args ...string) (status int, stdout, stderr string) {
		return runs(t, append(append([]string{"audit"}, args...), "--database", "sqlite:"+file)...)
	}
	if status, _, stderr := call("list"); status != 1 || !strings.Contains(stderr, file) {
		t.Errorf("a database that is not there: status %d: %s", status, stderr)
	}
	with := func(f func(db *store.DB)) {
		t.Helper()
		db, err := store.Open(t.Context(), "sqlite:"+file, schemas()...)
		if err != nil {
			t.Fatal(err)
		}
		f(db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	with(func(db *store.DB) {
		for _, e := range []audit.Entry{byHand("owed resolve", "RRN 1", "ticket 4711\nof \x1b[31mnorth", nil), byHand("route reload", "routes.json", "", errors.New("line 3"))} {
			if _, err := audit.Append(t.Context(), db, e); err != nil {
				t.Fatal(err)
			}
		}
	})
	status, stdout, stderr := call("list")
	if status != 0 || strings.Count(stdout, "\n") != 4 || !strings.Contains(stdout, `"route reload" "routes.json": "refused: line 3"`) || strings.ContainsRune(stdout, '\x1b') {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
	status, stdout, _ = call("list", "--json", "--op", "owed resolve")
	var list []audit.Entry
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || status != 0 || len(list) != 1 || list[0].Seq != 1 || list[0].Result != audit.Done || list[0].Who != whoRuns() {
		t.Errorf("status %d, %v: %s", status, err, stdout)
	}
	if status, stdout, _ := call("list", "--json", "--op", "nothing"); status != 0 || strings.TrimSpace(stdout) != "[]" {
		t.Errorf("no entries print %q", stdout)
	}
	status, stdout, stderr = call("verify", "--json")
	var whole struct {
		Entries int64
		Head    string
	}
	if err := json.Unmarshal([]byte(stdout), &whole); err != nil || status != 0 || whole.Entries != 2 {
		t.Fatalf("status %d, %v: %s%s", status, err, stdout, stderr)
	}
	if status, stdout, stderr := call("verify", "--head", whole.Head); status != 0 || !strings.Contains(stdout, "whole: 2 entries") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
	for _, args := range [][]string{{"verify", "--head", "2:abc"}, {"list", "--limit", "0"}, {"list", "more"}} {
		if status, _, stderr := call(args...); status != 2 {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
	with(func(db *store.DB) {
		if err := db.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Exec("update audit set result = 'done' where seq = 2")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
	if status, _, stderr := call("verify"); status != 1 || !strings.Contains(stderr, "entry 2") {
		t.Errorf("a touched entry: status %d: %s", status, stderr)
	}
}
