package wallet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the collectors of all wallets; register it once. Their
// labels come from the configuration alone.
type Metrics struct {
	seconds  *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

// NewMetrics makes the collectors.
func NewMetrics() *Metrics {
	return &Metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "acquirer_wallet_seconds",
			Help:    "Time from a question to a wallet to its answer, by question: pay, query, cancel, refund, refund_query, bill.",
			Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"wallet", "question"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_wallet_failures_total",
			Help: "Questions to a wallet without an answer: unreachable (nothing left the house) or unanswered (a payment is owed a cancel)."}, []string{"wallet", "outcome"}),
	}
}

// Describe makes Metrics a prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.seconds.Describe(ch)
	m.failures.Describe(ch)
}

// Collect makes Metrics a prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.seconds.Collect(ch)
	m.failures.Collect(ch)
}

// walletMetrics are one wallet's children. The zero value counts nothing.
type walletMetrics struct {
	seconds                 prometheus.ObserverVec
	unreachable, unanswered prometheus.Counter
}

func (m *Metrics) of(name string) walletMetrics {
	if m == nil {
		return walletMetrics{}
	}
	return walletMetrics{seconds: m.seconds.MustCurryWith(prometheus.Labels{"wallet": name}),
		unreachable: m.failures.WithLabelValues(name, "unreachable"), unanswered: m.failures.WithLabelValues(name, "unanswered")}
}

func (m walletMetrics) answered(question string, d time.Duration) {
	if m.seconds != nil {
		m.seconds.WithLabelValues(question).Observe(d.Seconds())
	}
}

func (m walletMetrics) failed(left bool) {
	switch {
	case m.seconds == nil:
	case left:
		m.unanswered.Inc()
	default:
		m.unreachable.Inc()
	}
}
