package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"acquirer/download"
	"acquirer/hsm"
	"acquirer/money"
	"acquirer/store/storetest"
	switching "acquirer/switch"
)

// What serve takes from the setting downloads: the file over the built-in set,
// no test keys in production, and a bad file with its line.
func TestImportDownloads(t *testing.T) {
	ctx := t.Context()
	h, err := hsm.NewSoftware(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	v := &house{hsm: h, db: storetest.SQLite(t, schemas()...), log: slog.New(slog.NewTextHandler(&log, nil))}
	dataKey, err := v.storedKey(ctx, "data", hsm.UseDEK, hsm.AES32)
	if err != nil {
		t.Fatal(err)
	}
	tokenKey, err := v.storedKey(ctx, "token", hsm.UseHMAC, hsm.HMAC32)
	if err != nil {
		t.Fatal(err)
	}
	if v.downloads, err = download.Open(ctx, v.db, switching.NewCardVault(h, dataKey, tokenKey)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "downloads.json")
	run := func(environment, text string) error {
		v.cfg.Environment, v.cfg.Downloads = environment, ""
		if text != "" {
			v.cfg.Downloads = path
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return v.importDownloads(ctx)
	}
	if err := run("test", ""); err != nil || len(v.downloads.CAKeyPage(0)) != 1+4*23 {
		t.Errorf("the built-in keys: %d bytes, %v", len(v.downloads.CAKeyPage(0)), err)
	}
	if err := run("production", `{"limits": {"no_pin": "300.00"}, "black_list": ["6228480000000000002"]}`); err != nil || string(v.downloads.CAKeyPage(0)) != "0" || !strings.Contains(log.String(), "test CA keys") {
		t.Errorf("production: %q, %v, %s", v.downloads.CAKeyPage(0), err, &log)
	}
	if pin, _ := v.downloads.Limits("10000001", ""); pin != money.Yuan(300) {
		t.Errorf("limit %s", pin)
	}
	if page, err := v.downloads.BlackList(ctx, 0); err != nil || string(page) != "101196228480000000000002" {
		t.Errorf("black list: %d bytes, %v", len(page), err)
	}
	if err := run("test", "{\n\"black_list\": [\n\"62284800000000000o2\"]}"); err == nil || !strings.Contains(err.Error(), "line 3") || strings.Contains(err.Error(), "622848000") {
		t.Errorf("a bad file: %v", err)
	}
}
