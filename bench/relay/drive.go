package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"acquirer/spec"
)

// Result is what Drive saw.
type Result struct {
	Connections int     `json:"connections"`
	Sent        int64   `json:"sent"`
	Seconds     float64 `json:"seconds"`
	TPS         float64 `json:"tps"`
	P50Millis   float64 `json:"p50_ms"`
	P99Millis   float64 `json:"p99_ms"`
	MaxMillis   float64 `json:"max_ms"`
}

// Drive sends purchases over connections in a closed loop, each the next when
// it has its answer, and measures for duration after warmup. Every answer is
// looked at: an echo must be the same bytes, anything else an approval of the
// same STAN.
func Drive(ctx context.Context, addr string, connections int, warmup, duration time.Duration) (Result, error) {
	purchase, err := Purchase()
	if err != nil {
		return Result{}, err
	}
	trace := bytes.Index(purchase, purchaseSTAN[:])
	ctx, cancel := context.WithTimeout(ctx, warmup+duration)
	defer cancel()
	begin := time.Now().Add(warmup)
	all := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
	var mu sync.Mutex
	var failed error
	var work sync.WaitGroup
	for k := range connections {
		work.Go(func() {
			h := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
			err := driveOne(ctx, addr, bytes.Clone(purchase), trace, k, begin, h)
			mu.Lock()
			defer mu.Unlock()
			all.Merge(h)
			if err != nil && failed == nil {
				failed = fmt.Errorf("bench: connection %d: %w", k, err)
				cancel()
			}
		})
	}
	work.Wait()
	if failed != nil {
		return Result{}, failed
	}
	millis := func(v int64) float64 { return float64(v) / 1000 }
	return Result{
		Connections: connections, Sent: all.TotalCount(), Seconds: duration.Seconds(),
		TPS: float64(all.TotalCount()) / duration.Seconds(), P50Millis: millis(all.ValueAtQuantile(50)),
		P99Millis: millis(all.ValueAtQuantile(99)), MaxMillis: millis(all.Max()),
	}, nil
}

// driveOne drives one connection until ctx ends.
func driveOne(ctx context.Context, addr string, frame []byte, trace, k int, begin time.Time, h *hdrhistogram.Histogram) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end.Add(5 * time.Second)); err != nil {
			return err
		}
	}
	r := bufio.NewReader(c)
	answer := make([]byte, 2+maxFrame)
	var m spec.Message
	for n := k; ctx.Err() == nil; n++ {
		stan := n % 1000000
		frame[trace], frame[trace+1], frame[trace+2] = bcd(stan/10000), bcd(stan/100%100), bcd(stan%100)
		sent := time.Now()
		if _, err := c.Write(frame); err != nil {
			return err
		}
		if _, err := io.ReadFull(r, answer[:2]); err != nil {
			return err
		}
		length := 2 + (int(answer[0])<<8 | int(answer[1]))
		if length > len(answer) {
			return errors.New("an answer longer than 4 KB")
		}
		if _, err := io.ReadFull(r, answer[2:length]); err != nil {
			return err
		}
		took := time.Since(sent)
		if !bytes.Equal(answer[:length], frame) {
			if err := approval(&m, answer[:length], frame[trace:trace+3]); err != nil {
				return err
			}
		}
		if sent.After(begin) {
			if err := h.RecordValue(max(1, took.Microseconds())); err != nil {
				return err
			}
		}
	}
	return nil
}

func approval(m *spec.Message, frame, stan []byte) error {
	if err := spec.UnionPayPOS.Parse(m, spec.FrameBody(frame)); err != nil {
		return err
	}
	if m.MTI() != 0x0210 || !bytes.Equal(m.Bytes(11), stan) || m.Text(39) != "00" {
		return fmt.Errorf("the answer is %v %s, STAN %s", m.MTI(), m.Text(39), m.Text(11))
	}
	return nil
}

func bcd(v int) byte { return byte(v/10<<4 | v%10) }
