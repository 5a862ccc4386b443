package issuer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"acquirer/money"
	"acquirer/routing"
)

// TestMoneyUnderWeather is the sentence of the whole line: after any weather,
// dropped lines and rolled keys, once every unanswered purchase has been
// reversed until its reversal was answered, what the acquirer takes for
// approved is exactly what the issuer has approved, to the fen.
func TestMoneyUnderWeather(t *testing.T) {
	inFakeTime(t, func(c *Config, r *routing.Config) {
		c.Seed, c.CalmAmounts, c.Late = 11, true, 80*time.Millisecond
		r.Addrs = append(r.Addrs, r.Addrs[0], r.Addrs[0])
		r.Timeout = 60 * time.Millisecond
	}, moneyUnderWeather)
}

func moneyUnderWeather(t *testing.T, tw *town) {
	if err := tw.host.SetWeather(Weather{
		Jitter: 2 * time.Millisecond, Drop: 0.02, Lost: 0.05, Silent: 0.05, Late: 0.05, Twice: 0.05, Declined: 0.1,
		LostReversals: 0.3, DeafReversals: 0.3,
	}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(40 * time.Millisecond):
			}
			if n%2 == 0 {
				tw.host.DropLines()
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			_ = tw.host.RollKey(ctx, routing.ZAK) // it may fall on a moment without a line
			cancel()
		}
	})
	var mu sync.Mutex
	outcomes := map[string]int{}
	approved := map[string]money.Amount{} // by RRN, what the acquirer believes
	unreachable := map[string]bool{}
	var work sync.WaitGroup
	for w := range 16 {
		rng := rand.New(rand.NewPCG(5, uint64(w)))
		work.Go(func() {
			for range 60 {
				tw.awaitUp()
				p := tw.purchase(w*100+rng.IntN(20), money.Amount(1+rng.Int64N(100000)))
				code, _, err := tw.send(p)
				outcome := code
				switch {
				case errors.Is(err, routing.ErrUnreachable):
					outcome = "unreachable"
				case err != nil:
					outcome = "unanswered"
					for {
						tw.awaitUp()
						back, err := tw.reverse(p, true)
						if err == nil && (back == "00" || back == "25") {
							break
						}
						if err == nil && back != "A0" {
							t.Errorf("a reversal was answered %s", back)
							break
						}
					}
				}
				mu.Lock()
				outcomes[outcome]++
				if outcome == "00" {
					approved[p.RRN] = p.Amount
				}
				if outcome == "unreachable" {
					unreachable[p.RRN] = true
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	close(stop)
	chaos.Wait()
	time.Sleep(100 * time.Millisecond) // late answers come, and change nothing
	t.Log(outcomes)
	var ours, theirs money.Amount
	for _, a := range approved {
		ours += a
	}
	for _, e := range tw.host.Books() {
		amount, believed := approved[e.RRN]
		if (e.State == Approved) != believed || believed && e.Amount != amount {
			t.Errorf("%s is %s at the issuer, approved here: %v", e.RRN, e.State, believed)
		}
		if unreachable[e.RRN] {
			t.Errorf("%s was called unreachable and is in the books: %+v", e.RRN, e)
		}
		if e.State == Approved {
			theirs += e.Amount
		}
	}
	if ours != theirs || ours == 0 {
		t.Errorf("approved here %s, there %s", ours, theirs)
	}
	if outcomes["00"] == 0 || outcomes["unanswered"] == 0 || outcomes["05"] == 0 {
		t.Errorf("too little weather: %v", outcomes)
	}
}
