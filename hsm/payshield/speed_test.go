package payshield

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"acquirer/card"
	"acquirer/hsm"
	"acquirer/hsm/algo"
)

// BenchmarkClients is what `hsm serve` does: PIN translations (CA) of 1, 8 and
// 64 clients over loopback TCP. own: each has a connection and waits for its
// answer. shared: all are callers of one Client with four connections.
func BenchmarkClients(b *testing.B) {
	d := NewDevice(TestLMK(), false)
	addr, _ := listen(b, d, ServerConfig{HeaderLength: 4, MaxConnections: 256})
	request, err := appendFrame(nil, []byte("0000"), []byte("CA"+under(b, type002, key1)+under(b, typeZPK, key2)+"12"+sealed(b, odd(b, key1), algo.ISO0, "1234")+"0101"+account12))
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("own-%d", n), func(b *testing.B) {
			conns := make([]net.Conn, n)
			for i := range conns {
				if conns[i], err = net.Dial("tcp", addr); err != nil {
					b.Fatal(err)
				}
			}
			spread(b, n, func(i int) error {
				c, r := conns[i], bufio.NewReader(conns[i])
				return each(b, func() error {
					if _, err := c.Write(request); err != nil {
						return err
					}
					frame, err := readFrame(r, nil)
					if err == nil && string(frame[:8]) != "0000CB00" {
						err = fmt.Errorf("answered by %s", frame)
					}
					return err
				})
			})
			for _, c := range conns {
				if err := c.Close(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	c := connect(b, ClientConfig{Devices: []string{addr}, HeaderLength: 4, AllowTest: true})
	tpk, err := NewKey(hsm.UseTPK, under(b, type002, key1))
	if err != nil {
		b.Fatal(err)
	}
	zpk, err := NewKey(hsm.UseZPK, under(b, typeZPK, key2))
	if err != nil {
		b.Fatal(err)
	}
	pan, err := card.ParsePAN("6228480402564890018")
	if err != nil {
		b.Fatal(err)
	}
	pin, err := algo.ParsePIN("1234")
	if err != nil {
		b.Fatal(err)
	}
	block, err := algo.SealPIN(odd(b, key1), algo.ISO0, pin, pan.Reveal())
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("shared-%d", n), func(b *testing.B) {
			spread(b, n, func(int) error {
				return each(b, func() error {
					_, err := c.TranslatePIN(context.Background(), tpk, hsm.ISO0, block, pan, zpk, hsm.ISO0)
					return err
				})
			})
		})
	}
}

// turns are what is left of b.N, for all clients together.
var turns atomic.Int64

func each(b *testing.B, f func() error) error {
	for turns.Add(-1) >= 0 {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func spread(b *testing.B, n int, f func(i int) error) {
	turns.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

// BenchmarkDevice is one command without a wire.
func BenchmarkDevice(b *testing.B) {
	d := NewDevice(TestLMK(), false)
	for name, request := range map[string]string{
		"CA": "CA" + under(b, type002, key1) + under(b, typeZPK, key2) + "12" + sealed(b, odd(b, key1), algo.ISO0, "1234") + "0101" + account12,
		"M6": "M600011003" + under(b, typeTAK, key1) + "00100123456789ABCDEF",
		"A0": "A00001U",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if answer := d.Do(request); string(answer[2:4]) != "00" {
					b.Fatal(string(answer))
				}
			}
		})
	}
}
