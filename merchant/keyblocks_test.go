package merchant

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"acquirer/store"
)

// Key blocks are listed in pages and by what changed, and replaced only where
// they are still the ones that were read.
func TestKeyBlocks(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "a.db"), Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	r, err := OpenRegistry(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	seed := Seed{Merchants: []SeedMerchant{{Merchant: Merchant{MID: "898110058120001", Name: "shop", MCC: "5411"}}}}
	for _, tid := range []string{"10000001", "10000002", "10000003"} {
		seed.Terminals = append(seed.Terminals, SeedTerminal{Terminal: Terminal{TID: tid, MID: "898110058120001"}, TMK: "tmk of " + tid})
	}
	if err := r.Import(ctx, &seed, func(string) ([]byte, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	now := time.UnixMicro(1_700_000_000_000_000)
	for _, tak := range []string{"old tak", "tak"} {
		if _, err := r.SignIn(ctx, "10000002", Keys{TPK: "tpk", TAK: tak}, now); err != nil {
			t.Fatal(err)
		}
	}
	var all []KeyBlock
	pages, newest := 0, int64(0)
	for after := ""; ; pages++ {
		some, last, v, err := KeyBlocks(ctx, db, after, 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		all, newest = append(all, some...), max(newest, v)
		if after = last; last == "" {
			break
		}
	}
	if len(all) != 3+4 || pages != 1 || all[0] != (KeyBlock{"10000001", "tmk", "tmk of 10000001", 0}) {
		t.Errorf("%d pages, %+v", pages+1, all)
	}
	slots := map[string]KeyBlock{}
	for _, b := range all {
		if b.TID == "10000002" {
			slots[b.Slot] = b
		}
	}
	if slots["tak"].Block != "tak" || slots["old_tak"].Block != "old tak" || slots["tak"].Since != now.UnixMicro() || slots["old_tak"].Since != now.UnixMicro() {
		t.Errorf("%+v", slots)
	}
	if some, _, _, err := KeyBlocks(ctx, db, "", 10, newest); err != nil || len(some) != 0 {
		t.Errorf("nothing changed: %+v, %v", some, err)
	}

	// One of the two was changed meanwhile.
	if _, err := r.SetTMK(ctx, "10000003", "another"); err != nil {
		t.Fatal(err)
	}
	n, err := ReplaceKeyBlocks(ctx, db, []NewKeyBlock{{slots["tak"], "tak under the new"}, {KeyBlock{"10000003", "tmk", "tmk of 10000003", 0}, "too late"}}, nil)
	if err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := r.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if a, _ := r.Terminal([]byte("10000002")); a.Keys.TAK != "tak under the new" || a.Previous.TAK != "old tak" {
		t.Errorf("%+v", a)
	}
	if c, _ := r.Terminal([]byte("10000003")); c.TMK != "another" {
		t.Errorf("%+v", c)
	}
	if changed, _, _, err := KeyBlocks(ctx, db, "", 10, newest); err != nil || len(changed) != 6 {
		t.Errorf("%+v, %v", changed, err)
	}
	// All or none, with what belongs in the same write.
	stop := errors.New("stop")
	if _, err := ReplaceKeyBlocks(ctx, db, []NewKeyBlock{{KeyBlock{"10000003", "tmk", "another", 0}, "x"}}, func(store.Tx, int64) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if _, err := ReplaceKeyBlocks(ctx, db, []NewKeyBlock{{KeyBlock{"10000003", "mid", "898110058120001", 0}, "x"}}, nil); err == nil {
		t.Error("another column was replaced")
	}
	if err := r.SetTMKs(ctx, map[string]string{"10000002": "new", "19999999": "new"}); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if a, _ := r.Terminal([]byte("10000002")); a.TMK == "new" {
		t.Error("one of two was stored")
	}
	if err := r.SetTMKs(ctx, map[string]string{"10000002": "new", "10000001": "new"}); err != nil {
		t.Fatal(err)
	}
	if a, _ := r.Terminal([]byte("10000002")); a.TMK != "new" || a.SignedIn() || !a.Previous.None() || a.Keys.Generation != 2 {
		t.Errorf("%+v", a)
	}
	if c, _ := r.Terminal([]byte("10000003")); c.TMK != "another" {
		t.Errorf("%+v", c)
	}
}
