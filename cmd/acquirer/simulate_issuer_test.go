package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// watchedOutput is written by a command and read by the test while it runs.
type watchedOutput struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *watchedOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *watchedOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func TestSimulateIssuer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	books := filepath.Join(t.TempDir(), "north.json")
	cmd := newSimulateIssuerCmd()
	text := new(watchedOutput)
	cmd.SetErr(text)
	cmd.SetArgs([]string{"--name", "north", "--control", "127.0.0.1:0", "--books", books})
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	var control []string
	for end := time.Now().Add(10 * time.Second); control == nil || !strings.Contains(text.String(), "issuer north on 127.0.0.1:"); time.Sleep(time.Millisecond) {
		if control = regexp.MustCompile(`control on (http://\S+)`).FindStringSubmatch(text.String()); time.Now().After(end) {
			t.Fatal(text.String())
		}
	}
	res, err := http.Get(control[1] + "/totals")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(b), `"requests":0`) {
		t.Errorf("%v %s", err, b)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	b, err = os.ReadFile(books)
	var written struct {
		Issuer  string
		Entries []any
	}
	if err != nil || json.Unmarshal(b, &written) != nil || written.Issuer != "north" || written.Entries == nil {
		t.Errorf("%v %s", err, b)
	}
	for _, args := range [][]string{{}, {"--name", "nobody"}, {"--name", "north", "--balance", "much"}, {"--name", "x", "--bins", "12"}, {"--name", "north", "--zmk-file", books}} {
		if _, text, code := call(t, newSimulateIssuerCmd(), args...); code != 2 || text == "" {
			t.Errorf("%v: exit %d, %q", args, code, text)
		}
	}
}
