package switching_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
)

// BenchmarkPurchase is a chip sale with a PIN through the whole house: TCP,
// MAC both ways, PIN, limits, two durable steps, an issuer in this process,
// one line in the log. Terminals, cards and issuers run here too, so this is
// for profiles and for comparing with itself; what the switch alone costs is
// measured by make bench.
func BenchmarkPurchase(b *testing.B) {
	for _, terminals := range []int{1, 64} {
		b.Run(fmt.Sprint(terminals), func(b *testing.B) {
			s := newStreet(b, withTerminals(terminals), withTimeout(10*time.Second), withRules(nil), withLog(slog.New(slog.NewJSONHandler(io.Discard, nil))))
			type till struct {
				term *terminal.Terminal
				card *simcard.Card
			}
			tills := make(chan till, terminals)
			for i := range terminals {
				c := chipCard(b, []string{"north", "south", "east", "west"}[i%4], 1000+i)
				term := s.terminal(i, func(c *terminal.Config) { c.Book = nil })
				must(b, term.SignIn(context.Background()))
				tills <- till{term, c}
			}
			sell := func(t till) {
				res, err := t.term.Sale(context.Background(), terminal.Sale{Amount: money.Yuan(12), Card: t.card, PIN: t.card.PIN})
				if err != nil || res.Code != "00" {
					b.Errorf("answered %q, %v", res.Code, err)
				}
			}
			b.ReportAllocs()
			b.SetParallelism(terminals) // that many goroutines for each core; the tills bound them
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					t := <-tills
					sell(t)
					tills <- t
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sales/s")
		})
	}
}
