package relay

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type result struct {
	report Report
	err    error
}

// begin runs a server of this package on a free port; the function ends it.
func begin(t *testing.T, run func(ctx context.Context, ln net.Listener) (Report, error)) (addr string, end func() Report) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan result, 1)
	go func() {
		r, err := run(ctx, ln)
		done <- result{r, err}
	}()
	return ln.Addr().String(), func() Report {
		cancel()
		r := <-done
		if r.err != nil {
			t.Error(r.err)
		}
		return r.report
	}
}

func TestPurchase(t *testing.T) {
	b, err := Purchase()
	if err != nil {
		t.Fatal(err)
	}
	var m spec.Message
	if err := spec.UnionPayPOS.Parse(&m, spec.FrameBody(b)); err != nil {
		t.Fatal(err)
	}
	fields := 0
	for n := 2; n <= 64; n++ {
		if m.Has(n) {
			fields++
		}
	}
	if fields != 20 || len(b) < 270 || len(b) > 330 {
		t.Errorf("%d fields, %d bytes", fields, len(b))
	}
}

func TestEachWay(t *testing.T) {
	issuer, endIssuer := begin(t, ServeCheapIssuer)
	for _, c := range []struct {
		what string
		run  func(context.Context, net.Listener) (Report, error)
	}{
		{"echo", ServeEcho},
		{"relay", func(ctx context.Context, ln net.Listener) (Report, error) { return ServeRelay(ctx, ln, issuer, 2) }},
		{"relay-moov", func(ctx context.Context, ln net.Listener) (Report, error) { return ServeMoovRelay(ctx, ln, issuer, 2) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			addr, end := begin(t, c.run)
			r, err := Drive(t.Context(), addr, 8, 0, 200*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			report := end()
			if r.Sent == 0 || report.Transactions < r.Sent || report.CPUMicros <= 0 || report.What != c.what || r.P50Millis <= 0 || r.P99Millis < r.P50Millis {
				t.Errorf("%+v %+v", r, report)
			}
		})
	}
	if r := endIssuer(); r.Transactions == 0 {
		t.Errorf("the issuer: %+v", r)
	}
}

func TestNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Drive(t.Context(), gone, 2, 0, time.Second); err == nil {
		t.Error("drove against nobody")
	}
	ln, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := ServeRelay(ctx, ln, gone, 1); err == nil {
		t.Error("relayed to nobody")
	}
	if _, err := ServeMoovRelay(t.Context(), ln, gone, 1); err == nil {
		t.Error("relayed to nobody")
	}
}
