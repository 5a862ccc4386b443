package store

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// meters are the store's own measurements.
type meters struct {
	size    *prometheus.HistogramVec
	commit  prometheus.Histogram
	doubts  prometheus.Counter
	retries prometheus.Counter
	desc    *prometheus.Desc

	mu     sync.Mutex
	depths map[string][]func() int
}

func newMeters() *meters {
	return &meters{
		size: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "acquirer_store_batch_size", Help: "Values written by one transaction, by queue.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}, []string{"queue"}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "acquirer_store_commit_seconds", Help: "Time COMMIT took, fsync included.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16),
		}),
		doubts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acquirer_store_in_doubt_total", Help: "Transactions whose COMMIT failed or was never answered.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acquirer_store_retries_total", Help: "Transactions run again after a serialization failure or deadlock.",
		}),
		desc:   prometheus.NewDesc("acquirer_store_queue_depth", "Values waiting for a writer, by queue.", []string{"queue"}, nil),
		depths: map[string][]func() int{},
	}
}

func (m *meters) add(queue string, depth func() int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.depths[queue] = append(m.depths[queue], depth)
}

func (m *meters) committed(start time.Time) { m.commit.Observe(time.Since(start).Seconds()) }

// Describe implements prometheus.Collector.
func (db *DB) Describe(ch chan<- *prometheus.Desc) {
	m := db.meters
	m.size.Describe(ch)
	m.commit.Describe(ch)
	m.doubts.Describe(ch)
	m.retries.Describe(ch)
	ch <- m.desc
}

// Collect implements prometheus.Collector.
func (db *DB) Collect(ch chan<- prometheus.Metric) {
	m := db.meters
	m.size.Collect(ch)
	m.commit.Collect(ch)
	m.doubts.Collect(ch)
	m.retries.Collect(ch)
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, depths := range m.depths {
		var n int
		for _, d := range depths {
			n += d()
		}
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, float64(n), name)
	}
}
