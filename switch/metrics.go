package switching

import (
	"github.com/prometheus/client_golang/prometheus"

	"acquirer/journal"
	"acquirer/routing"
)

// metrics answers an operator's questions: what is sold, how long each step
// takes, what is owed, and whether anything impossible happened. Labels come
// from configuration and from closed lists, never from a message.
type metrics struct {
	transactions *prometheus.CounterVec   // type, reason, issuer
	seconds      *prometheus.HistogramVec // type
	steps        *prometheus.HistogramVec // step
	connections  prometheus.Gauge
	refused      *prometheus.CounterVec // why
	frames       *prometheus.CounterVec // why a frame ended its connection
	macFailures  prometheus.Counter
	signIns      *prometheus.CounterVec // result
	owed         *prometheus.GaugeVec   // state
	owedOldest   prometheus.Gauge
	owedAttempts *prometheus.CounterVec // issuer, result
	undelivered  prometheus.Counter
	late         *prometheus.CounterVec // kind
	panics       prometheus.Counter
	replays      prometheus.Counter
	breaks       *prometheus.CounterVec // what
	failOvers    *prometheus.CounterVec // first, issuer
	standIn      *prometheus.CounterVec // issuer, result
}

var latencyBuckets = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_transactions_total",
			Help: "Transactions finished, by type, reason and issuer."}, []string{"type", "reason", "issuer"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "acquirer_transaction_seconds",
			Help: "From the first byte of the request to the last of the answer.", Buckets: latencyBuckets}, []string{"type"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "acquirer_step_seconds",
			Help: "One step of a transaction: check, open, issuer, close, write.", Buckets: latencyBuckets}, []string{"step"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "acquirer_terminal_connections",
			Help: "Terminal connections open now."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_terminal_refused_total",
			Help: "Connections closed at accept."}, []string{"why"}),
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_terminal_closed_total",
			Help: "Terminal connections closed, by cause."}, []string{"why"}),
		macFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: "acquirer_mac_failures_total",
			Help: "Messages of terminals whose MAC was wrong or missing."}),
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_signins_total",
			Help: "Terminal sign-ins by DE 39."}, []string{"code"}),
		owed: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "acquirer_owed",
			Help: "Reversals and advices owed to issuers: due and not acknowledged, or left to a person."}, []string{"state"}),
		owedOldest: prometheus.NewGauge(prometheus.GaugeOpts{Name: "acquirer_owed_oldest_seconds",
			Help: "Age of the oldest reversal or advice that is still owed; 0 when none is."}),
		owedAttempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_owed_attempts_total",
			Help: "Reversals and advices sent to issuers by what came back."}, []string{"issuer", "result"}),
		undelivered: prometheus.NewCounter(prometheus.CounterOpts{Name: "acquirer_undelivered_total",
			Help: "Approvals whose answer could not be written and which are reversed."}),
		late: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_lost_close_total",
			Help: "Outcomes that came after another had closed the transaction, by what they said."}, []string{"said"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "acquirer_handler_panics_total",
			Help: "Messages whose handling panicked and was answered 96."}),
		replays: prometheus.NewCounter(prometheus.CounterOpts{Name: "acquirer_chip_replays_total",
			Help: "Transactions of chips whose counter (9F36) was not above the last one seen."}),
		breaks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_batch_breaks_total",
			Help: "Differences between what terminals uploaded and the journal, by what they are."}, []string{"what"}),
		failOvers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_route_failovers_total",
			Help: "Transactions for whose first issuer nothing could leave the house, and which went to another."}, []string{"first", "issuer"}),
		standIn: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "acquirer_stand_in_total",
			Help: "Sales for issuers that could not be told: approved by the house, refused by the rule, above the card's share, or failed."}, []string{"issuer", "result"}),
	}
	reg.MustRegister(m.transactions, m.seconds, m.steps, m.connections, m.refused, m.frames, m.macFailures,
		m.signIns, m.owed, m.owedOldest, m.owedAttempts, m.undelivered, m.late, m.panics, m.replays, m.breaks, m.failOvers, m.standIn)
	for _, state := range []string{"due", "manual"} {
		m.owed.WithLabelValues(state).Set(0)
	}
	for _, d := range journal.Differences { // from 0 on, so that the first one is an increase
		m.breaks.WithLabelValues(string(d))
	}
	return m
}

// breakerMetrics show an issuer's breaker.
func breakerMetrics(issuer string, b *routing.Breaker) []prometheus.Collector {
	labels := prometheus.Labels{"issuer": issuer}
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "acquirer_route_breaker_state", ConstLabels: labels,
			Help: "The issuer's breaker: 0 closed, 1 half-open, 2 open."}, func() float64 { return float64(b.State()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "acquirer_route_breaker_opened_total", ConstLabels: labels,
			Help: "How often the issuer's breaker has opened."}, func() float64 { return float64(b.View().Opened) }),
	}
}
