package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A loop that meets the same trouble every two seconds says it once a minute;
// another trouble at once, and the same again after it was over.
func TestTroubleIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		trouble := trouble{log: slog.New(slog.NewTextHandler(&out, nil))}
		down := errors.New("connection refused")
		for range 60 { // two minutes
			trouble.met("paying", errors.Join(down, down))
			time.Sleep(2 * time.Second)
		}
		if n := strings.Count(out.String(), "connection refused (2 times)"); n != 2 {
			t.Errorf("said %d times:\n%s", n, out.String())
		}
		out.Reset()
		for _, err := range []error{down, errors.New("another"), nil, errors.New("another")} {
			trouble.met("paying", err)
		}
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Errorf("said %d times:\n%s", n, out.String())
		}
	})
	var many []error
	for i := range 10_000 {
		many = append(many, fmt.Errorf("payout %d", i))
	}
	if text := inShort(errors.Join(many...)); strings.Count(text, "\n") != troubleLines || !strings.HasSuffix(text, "and 9980 more") {
		t.Errorf("in short: %s", text)
	}
}
