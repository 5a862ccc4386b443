package payshield

import "github.com/prometheus/client_golang/prometheus"

// clientMetrics answer an operator's questions about the devices: do they
// answer, how fast, does anybody wait for them.
type clientMetrics struct {
	seconds   *prometheus.HistogramVec
	failed    *prometheus.CounterVec
	failovers prometheus.Counter
}

func newClientMetrics() *clientMetrics {
	return &clientMetrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "acquirer_payshield_command_seconds", Help: "From a command's leaving to its answer, by device and command.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 11),
		}, []string{"device", "command"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acquirer_payshield_unanswered_total", Help: "Commands that a device did not answer.",
		}, []string{"device", "command"}),
		failovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acquirer_payshield_failovers_total", Help: "Commands that were asked of another device after one failed.",
		}),
	}
}

var (
	upDesc       = prometheus.NewDesc("acquirer_payshield_up", "1 when the device answers its health check and has the right LMK.", []string{"device"}, nil)
	queueDesc    = prometheus.NewDesc("acquirer_payshield_queue", "Callers that wait because of the limit of calls per second.", []string{"device"}, nil)
	inFlightDesc = prometheus.NewDesc("acquirer_payshield_in_flight", "Commands that the device has not answered yet.", []string{"device"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Client) Describe(ch chan<- *prometheus.Desc) {
	c.metrics.seconds.Describe(ch)
	c.metrics.failed.Describe(ch)
	c.metrics.failovers.Describe(ch)
	ch <- upDesc
	ch <- queueDesc
	ch <- inFlightDesc
}

// Collect implements prometheus.Collector.
func (c *Client) Collect(ch chan<- prometheus.Metric) {
	c.metrics.seconds.Collect(ch)
	c.metrics.failed.Collect(ch)
	c.metrics.failovers.Collect(ch)
	for _, d := range c.devices {
		up := 0.0
		if d.up() {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, up, d.addr)
		ch <- prometheus.MustNewConstMetric(queueDesc, prometheus.GaugeValue, float64(d.pace.waiting.Load()), d.addr)
		ch <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(d.inFlight()), d.addr)
	}
}
