package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"acquirer/hsm"
)

// moves are the verbs that make, take in or give out a key; uses are those that
// only use one. A verb that is in neither has not been thought about.
var (
	moves = []string{"GenerateKey", "ImportKey", "ExportKey", "DeliverTMK", "WorkingKeys", "FormKey", "DeliverTMKBlock"}
	uses  = []string{"CheckValue", "TranslatePIN", "TranslateDUKPT", "VerifyPIN", "VerifyCVV", "VerifyARQC", "MAC", "VerifyMAC", "Encrypt", "Decrypt", "Token", "DecryptTrack",
		"Inspect", "Rewrap", "Masters"} // Rewrap is noted as the rotation that it is part of
)

func TestEveryVerbIsThoughtAbout(t *testing.T) {
	known := map[string]bool{}
	for _, name := range append(append([]string{}, moves...), uses...) {
		known[name] = true
	}
	keeper := reflect.TypeFor[hsm.Keeper]()
	for i := range keeper.NumMethod() {
		if name := keeper.Method(i).Name; !known[name] {
			t.Errorf("%s moves a key, or uses one: put it into moves and have Watch note it, or into uses", name)
		}
	}
}

// Every verb that moves a key leaves a line, with its check value, refused or
// not; those that use one leave none; and when the log fails nothing is given
// away.
func TestWatch(t *testing.T) {
	ctx := t.Context()
	master := make([]byte, 32)
	master[0] = 1
	h, err := hsm.NewSoftware(master)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	l.SetKey(key)
	k := WatchKeeper(h, l, "tester")
	at := int64(0)
	noted := func(what string, want ...string) {
		t.Helper()
		if l.Head().Lines != at+1 {
			t.Fatalf("%s left %d lines", what, l.Head().Lines-at)
		}
		at++
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		for _, w := range append(want, `"who":"tester"`) {
			if !strings.Contains(lines[len(lines)-1], w) {
				t.Errorf("%s: %q is missing in %s", what, w, lines[len(lines)-1])
			}
		}
	}
	a, b := make([]byte, 16), make([]byte, 16)
	for i := range a {
		a[i], b[i] = byte(i*17+3), byte(i*5+1)
	}
	both := WithCustodians(ctx, []string{"alice", "bob"})
	zmk, kcv, err := k.FormKey(both, hsm.UseZMK, hsm.TDES16, a, b)
	if err != nil {
		t.Fatal(err)
	}
	noted("form", `"op":"form"`, `"use":"ZMK"`, kcv.Short(), `["alice","bob"]`)
	tmk, _, err := k.FormKey(ctx, hsm.UseTMK, hsm.TDES16, a, b)
	if err != nil {
		t.Fatal(err)
	}
	noted("form", `"use":"TMK"`)
	zpk, zkcv, err := k.GenerateKey(ctx, hsm.UseZPK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	noted("generate", `"op":"generate"`, zkcv.Short())
	cryptogram, check, err := k.ExportKey(ctx, zmk, zpk)
	if err != nil {
		t.Fatal(err)
	}
	noted("export", `"op":"export"`, zkcv.Short(), "under "+kcv.Short())
	if _, err := k.ImportKey(ctx, zmk, hsm.UseZPK, cryptogram, check); err != nil {
		t.Fatal(err)
	}
	noted("import", `"op":"import"`, zkcv.Short())
	if _, err := k.ImportKey(ctx, zmk, hsm.UseZPK, cryptogram, []byte{1, 2, 3}); !errors.Is(err, hsm.ErrKCV) {
		t.Fatal(err)
	}
	noted("a refused import", `"error":`)
	if _, err := k.WorkingKeys(ctx, tmk, hsm.Set004, hsm.MAKDouble); err != nil {
		t.Fatal(err)
	}
	noted("working keys", `"use":"TPK TAK TDK"`)
	ttk, _, err := k.GenerateKey(ctx, hsm.UseTTK, hsm.TDES16)
	if err != nil {
		t.Fatal(err)
	}
	noted("generate")
	if _, _, _, err := k.DeliverTMK(ctx, ttk, hsm.TDES16); err != nil {
		t.Fatal(err)
	}
	noted("deliver", `"op":"deliver"`)
	kbpk, _, err := k.GenerateKey(ctx, hsm.UseKBPK, hsm.AES16)
	if err != nil {
		t.Fatal(err)
	}
	noted("generate")
	if _, _, _, err := k.DeliverTMKBlock(ctx, kbpk, hsm.TDES16); err != nil {
		t.Fatal(err)
	}
	noted("deliver", "under KBPK")
	// What uses a key leaves no line.
	if _, err := k.CheckValue(ctx, zpk); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Inspect(ctx, zpk); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Rewrap(ctx, zpk); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Masters(ctx); err != nil || l.Head().Lines != at {
		t.Errorf("%v, %d lines", err, l.Head().Lines-at)
	}
	if mac, err := Watch(h, l, "x").Token(ctx, zpk, nil); !errors.Is(err, hsm.ErrKeyUse) || l.Head().Lines != at {
		t.Errorf("%x, %v", mac, err)
	}
	if err := l.file.Close(); err != nil {
		t.Fatal(err)
	}
	none := context.Background()
	if key, _, err := k.GenerateKey(none, hsm.UseZPK, hsm.TDES16); err == nil || key != "" {
		t.Error("a key was given away that no log knows")
	}
	if key, err := k.ImportKey(none, zmk, hsm.UseZPK, cryptogram, check); err == nil || key != "" {
		t.Error("imported")
	}
	if c, _, err := k.ExportKey(none, zmk, zpk); err == nil || c != nil {
		t.Error("exported")
	}
	if w, err := k.WorkingKeys(none, tmk, hsm.Set003, hsm.MAKDouble); err == nil || w.DE62 != nil {
		t.Error("working keys")
	}
	if key, _, _, err := k.DeliverTMK(none, ttk, hsm.TDES16); err == nil || key != "" {
		t.Error("delivered")
	}
	if key, _, _, err := k.DeliverTMKBlock(none, kbpk, hsm.TDES16); err == nil || key != "" {
		t.Error("delivered as a block")
	}
	if key, _, err := k.FormKey(none, hsm.UseZMK, hsm.TDES16, a, b); err == nil || key != "" {
		t.Error("formed")
	}
}
