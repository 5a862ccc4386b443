package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin serves /metrics, /healthz and /readyz, and does the errands of
// commands.
type admin struct {
	v     *house
	token string      // of commands that ask
	ready atomic.Bool // the terminals' listener is open
}

func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.v.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { a.say(w, a.healthy()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { a.say(w, a.serving(r.Context())) })
	mux.HandleFunc("POST /report", serveReport(a.v, a.token, a.v.log))
	mux.HandleFunc("POST /errand/{errand}", doErrands(a.v.db, a.v.cfg, a.token, a.v.log))
	mux.HandleFunc("GET /issuers", behindDoor(a.token, "acquirer lines", a.issuers))
	mux.HandleFunc("POST /issuers/{name}/{order}", behindDoor(a.token, "acquirer lines", a.order))
	mux.HandleFunc("GET /routes", behindDoor(a.token, "acquirer route", a.routes))
	mux.HandleFunc("POST /routes/reload", behindDoor(a.token, "acquirer route", a.reroute))
	return mux
}

func (a *admin) say(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// healthy is whether restarting would help: not while the store is good.
func (a *admin) healthy() error {
	select {
	case <-a.v.db.Failed():
		return errors.New("the store has failed; restart")
	default:
		return nil
	}
}

// serving is whether terminals should be sent here: the listener is open, the
// store answers, the HSM's process is open, and some issuer can be reached.
func (a *admin) serving(ctx context.Context) error {
	if err := a.healthy(); err != nil {
		return err
	}
	if !a.ready.Load() {
		return errors.New("not listening for terminals")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := a.v.journal.Debts(ctx); err != nil {
		return fmt.Errorf("the store does not answer: %w", err)
	}
	if h, ok := a.v.hsm.(interface{ Ready(context.Context) error }); ok {
		if err := h.Ready(ctx); err != nil {
			return err
		}
	}
	var down []string
	for name, leg := range a.v.legs {
		if !leg.Issuer.Up() {
			down = append(down, name)
		}
	}
	if len(down) > 0 && len(down) == len(a.v.legs) {
		return fmt.Errorf("no issuer can be reached: %s", strings.Join(down, ", "))
	}
	return nil
}

// pprofHandler is the profiler's own mux: nothing registers itself on ours.
func pprofHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// serveHTTP serves h on l until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if err := srv.Shutdown(end); err != nil {
			_ = srv.Close() // what did not end in time is cut
		}
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
