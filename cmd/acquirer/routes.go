package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"acquirer/audit"
	"acquirer/routing"
)

// loadRouting reads the BIN table and the rules of the settings.
func loadRouting(cfg Config) (bins *routing.Table, rules *routing.Rules, err error) {
	if cfg.Routing.BINs == "" {
		bins, err = demoBINs()
	} else {
		bins, err = routing.LoadTable(cfg.Routing.BINs)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := honest(cfg, bins.Routes()); err != nil {
		return nil, nil, err
	}
	if cfg.Routing.Rules != "" {
		rules, err = routing.LoadRules(cfg.Routing.Rules)
	}
	return bins, rules, err
}

// rerouter reloads the routing of a running house: when a file has changed, on
// SIGHUP and when a command asks. A bad file changes nothing.
type rerouter struct {
	v       *house
	mu      sync.Mutex // one reload at a time
	reloads *prometheus.CounterVec
	stale   prometheus.Gauge
}

func newRerouter(v *house) *rerouter {
	r := &rerouter{v: v,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_routing_reloads_total",
			Help: "Reloads of the BIN table and the routing file: done or refused."}, []string{"result"}),
		stale: prometheus.NewGauge(prometheus.GaugeOpts{Name: "acquirer_routing_stale",
			Help: "1 while the BIN table or the routing file on disk is refused and an older one is in force."})}
	v.metrics.MustRegister(r.reloads, r.stale)
	return r
}

// reload makes what the files say now the routing of new transactions, or says
// why not. Who asked, what differs and how it ended is in the operators' log
// before it counts: what nobody could answer for is not done.
func (r *rerouter) reload(ctx context.Context, who, from string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := audit.Entry{Who: who, From: from, Op: "route reload", Subject: cmp.Or(strings.Join(r.files(), ", "), "no files"), Result: audit.Done}
	bins, rules, err := loadRouting(r.v.cfg)
	var diff []string
	if err == nil {
		diff, err = r.v.sw.Reroute(bins, rules, func(diff []string) error {
			e.Detail = briefly(diff)
			_, err := audit.Append(ctx, r.v.db, e)
			return err
		})
	}
	if err != nil {
		r.reloads.WithLabelValues("refused").Inc()
		r.stale.Set(1)
		r.v.log.Error("new routing was refused; the old one stays in force", "who", who, "from", from, "error", err.Error())
		e.Detail, e.Result = "", "refused: "+err.Error()
		if _, bad := audit.Append(ctx, r.v.db, e); bad != nil {
			err = errors.Join(err, bad)
		}
		return nil, err
	}
	r.reloads.WithLabelValues("done").Inc()
	r.stale.Set(0)
	r.v.log.Info("routing was reloaded", "who", who, "from", from, "changes", len(diff), "digest", r.v.sw.Plan().Digest())
	return diff, nil
}

// briefly is a diff as the operators' log keeps it: as many lines as it has
// room for, and how many more there were.
func briefly(diff []string) string {
	if len(diff) == 0 {
		return "nothing differs"
	}
	var b strings.Builder
	for i, line := range diff {
		if b.Len()+len(line) > audit.MaxText-64 {
			fmt.Fprintf(&b, "and %d more", len(diff)-i)
			break
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

func (r *rerouter) files() []string {
	return slices.DeleteFunc([]string{r.v.cfg.Routing.BINs, r.v.cfg.Routing.Rules}, func(s string) bool { return s == "" })
}

// run reloads on SIGHUP, and when a file has changed, until ctx ends.
func (r *rerouter) run(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	var look <-chan time.Time
	if every := r.v.cfg.Routing.Watch; every > 0 && len(r.files()) > 0 {
		tick := time.NewTicker(every)
		defer tick.Stop()
		look = tick.C
	}
	seen := r.looks()
	for {
		from := "SIGHUP"
		select {
		case <-ctx.Done():
			return
		case <-hup:
		case <-look:
			from = "change of a file"
			if r.looks() == seen {
				continue
			}
		}
		seen = r.looks()
		if _, err := r.reload(ctx, whoRuns(), from); err != nil {
			continue // it is in the log, the metrics and the operators' log
		}
	}
}

// looks is what the files look like from outside; a file that is not there
// looks like its error.
func (r *rerouter) looks() string {
	var b strings.Builder
	for _, path := range r.files() {
		if info, err := os.Stat(path); err != nil {
			fmt.Fprintf(&b, "%s: %v\n", path, err)
		} else {
			fmt.Fprintf(&b, "%s: %d bytes of %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

// routesNow is how the issuers of a running switch stand, for route explain.
type routesNow struct {
	Digest  string                 `json:"digest"` // of the table and the rules in force
	Issuers map[string]issuerStand `json:"issuers"`
}

type issuerStand struct {
	Standing routing.Standing    `json:"standing"`
	Carries  []string            `json:"carries,omitempty"`
	Breaker  routing.BreakerView `json:"breaker"`
}

func (v *house) routesNow() routesNow {
	now := routesNow{Digest: v.sw.Plan().Digest(), Issuers: map[string]issuerStand{}}
	for name, b := range v.sw.Breakers() {
		now.Issuers[name] = issuerStand{v.sw.Standing(name), v.legs[name].Carries, b}
	}
	return now
}

// routes answers how the issuers stand.
func (a *admin) routes(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(a.v.routesNow()); err != nil {
		a.v.log.Debug("whoever asked for the routes went away", "error", err.Error())
	}
}

// reroute reloads the routing for acquirer route reload and answers what is
// different now.
func (a *admin) reroute(w http.ResponseWriter, r *http.Request) {
	diff, err := a.v.routing.reload(r.Context(), whoAsks(r), "admin address, "+r.RemoteAddr)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(append([]string{}, diff...)); err != nil {
		a.v.log.Debug("whoever reloaded the routing went away", "error", err.Error())
	}
}

// issuerOrder is every configured issuer: those of the BIN table in its order,
// then the others by name.
func (v *house) issuerOrder() []string {
	names := v.sw.Plan().BINs.Issuers()
	for _, name := range slices.Sorted(maps.Keys(v.legs)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
