package routing

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the collectors of all issuers; register it once. Their labels
// come from the configuration alone.
type Metrics struct {
	up        *prometheus.GaugeVec
	drained   *prometheus.GaugeVec
	inFlight  *prometheus.GaugeVec
	queued    *prometheus.GaugeVec
	seconds   *prometheus.HistogramVec
	unmatched *prometheus.CounterVec
	failures  *prometheus.CounterVec
	rolls     *prometheus.CounterVec

	mu      sync.Mutex
	issuers map[*Issuer]bool
}

// NewMetrics makes the collectors.
func NewMetrics() *Metrics {
	return &Metrics{
		issuers: map[*Issuer]bool{},
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_issuer_line_up",
			Help: "1 while the line is signed on and carries traffic."}, []string{"issuer", "line"}),
		drained: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_issuer_line_drained",
			Help: "1 while the line is taken out of service on request."}, []string{"issuer", "line"}),
		queued: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_issuer_queued",
			Help: "Requests that wait for a place among those in flight."}, []string{"issuer"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_issuer_in_flight",
			Help: "Requests sent to the issuer and not yet answered."}, []string{"issuer"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "acquirer_issuer_seconds",
			Help:    "Time from handing a request to the line to its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25}}, []string{"issuer"}),
		unmatched: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_issuer_unmatched_total",
			Help: "Messages of the issuer that found no caller. mismatch and mac are alarms."}, []string{"issuer", "kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_issuer_failures_total",
			Help: "Requests without an answer: unreachable (nothing left the house) or unanswered (owed a reversal), and why."}, []string{"issuer", "outcome", "why"}),
		rolls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_issuer_keys_installed_total",
			Help: "Zone keys taken from the issuer."}, []string{"issuer", "use"}),
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.up, m.drained, m.inFlight, m.queued, m.seconds, m.unmatched, m.failures, m.rolls}
}

// Describe makes Metrics a prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect makes Metrics a prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	for i := range m.issuers {
		m.inFlight.WithLabelValues(i.cfg.Name).Set(float64(len(i.places)))
		m.queued.WithLabelValues(i.cfg.Name).Set(float64(i.queued.Load()))
	}
	m.mu.Unlock()
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

// issuerMetrics are one issuer's children, looked up once: the way of a
// message touches no map of labels. The zero value counts nothing.
type issuerMetrics struct {
	all       *Metrics
	issuer    *Issuer
	lines     []prometheus.Gauge
	drains    []prometheus.Gauge
	seconds   prometheus.Observer
	unmatched map[StrayKind]prometheus.Counter
}

func (m *Metrics) of(i *Issuer) *issuerMetrics {
	if m == nil {
		return &issuerMetrics{}
	}
	name := i.cfg.Name
	im := &issuerMetrics{
		all: m, issuer: i, seconds: m.seconds.WithLabelValues(name),
		unmatched: map[StrayKind]prometheus.Counter{},
	}
	for _, w := range [...]Why{NoLine, Drained, Busy, SameTrace, Unsigned, Unwritten} {
		m.failures.WithLabelValues(name, "unreachable", w.label())
	}
	for _, w := range [...]Why{TimedOut, Broken} {
		m.failures.WithLabelValues(name, "unanswered", w.label())
	}
	m.mu.Lock()
	m.issuers[i] = true
	m.mu.Unlock()
	for n := range i.cfg.Addrs {
		im.lines = append(im.lines, m.up.WithLabelValues(name, strconv.Itoa(n+1)))
		im.drains = append(im.drains, m.drained.WithLabelValues(name, strconv.Itoa(n+1)))
	}
	for _, k := range strayKinds {
		im.unmatched[k] = m.unmatched.WithLabelValues(name, string(k))
	}
	for _, u := range []KeyUse{ZPK, ZAK} {
		m.rolls.WithLabelValues(name, u.String())
	}
	return im
}

func (m *issuerMetrics) lineUp(n int, up bool) {
	if m.all != nil {
		m.lines[n].Set(asNumber(up))
	}
}

func (m *issuerMetrics) lineDrained(n int, out bool) {
	if m.all != nil {
		m.drains[n].Set(asNumber(out))
	}
}

func asNumber(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (m *issuerMetrics) answered(d time.Duration) {
	if m.all != nil {
		m.seconds.Observe(d.Seconds())
	}
}

func (m *issuerMetrics) failed(err error) {
	if e := (*SendError)(nil); m.all != nil && errors.As(err, &e) {
		outcome := "unreachable"
		if e.Left {
			outcome = "unanswered"
		}
		m.all.failures.WithLabelValues(m.issuer.cfg.Name, outcome, e.Why.label()).Inc()
	}
}

func (m *issuerMetrics) stray(k StrayKind) {
	if m.all != nil {
		m.unmatched[k].Inc()
	}
}

func (m *issuerMetrics) rolled(use KeyUse) {
	if m.all != nil {
		m.all.rolls.WithLabelValues(m.issuer.cfg.Name, use.String()).Inc()
	}
}

// forget takes the gauges of a closed issuer out of the page.
func (m *issuerMetrics) forget() {
	if m.all == nil {
		return
	}
	m.all.mu.Lock()
	delete(m.all.issuers, m.issuer)
	m.all.mu.Unlock()
	m.all.up.DeletePartialMatch(prometheus.Labels{"issuer": m.issuer.cfg.Name})
	m.all.drained.DeletePartialMatch(prometheus.Labels{"issuer": m.issuer.cfg.Name})
	m.all.inFlight.DeleteLabelValues(m.issuer.cfg.Name)
	m.all.queued.DeleteLabelValues(m.issuer.cfg.Name)
}
