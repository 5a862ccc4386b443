package street

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"acquirer/routing"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/store"
)

// The kinds of line.
const (
	terminalLine = "terminal"
	issuerLine   = "issuer"
	walletLine   = "wallet"
)

// kinds are all faults of the street. Every seed has some of them on, drawn by
// its dice (a swarm: what never happens together with everything else happens
// together with little). A run of many seeds fails when one never fired.
var kinds = []string{
	"terminal message lost", "terminal message late", "terminal message doubled", "terminal message overtaken", "terminal line breaks", "terminal refuses a line",
	"issuer message lost", "issuer message late", "issuer message doubled", "issuer message overtaken", "issuer line breaks", "issuer refuses a line",
	"wallet message lost", "wallet message late", "wallet message doubled", "wallet message overtaken", "wallet line breaks", "wallet refuses a line",
	"issuer silent", "issuer slow", "issuer flaps", "issuer drops its lines", "issuer loses reversals", "issuer rolls its keys", "issuer forgets early reversals", "amount that asks for trouble",
	"terminal signs in again", "terminal loses its power", "terminal idles", "wrong MAC", "no MAC", "request sent twice", "hangs up before the answer", "answer dropped", "request behind its reversal",
	"frame replayed", "house killed", "house restarted", "clock set back", "night", "cut-off",
}

// swarm is which faults a seed has, and how much of each.
type swarm map[string]float64

func drawSwarm(rng *rand.Rand) swarm {
	s := swarm{}
	for _, k := range kinds {
		if rng.IntN(2) == 0 {
			s[k] = 0.3 + 0.7*rng.Float64()
		}
	}
	return s
}

// has casts the dice for a fault that comes with probability p at its worst,
// and counts it.
func (w *world) has(rng *rand.Rand, fault string, p float64) bool {
	if rng.Float64() >= w.swarm[fault]*p {
		return false
	}
	w.faults.fired(fault)
	return true
}

// weatherOf draws the next weather of one kind of line.
func (w *world) weatherOf(rng *rand.Rand, line string, delay time.Duration) weather {
	share := func(fault string, worst float64) float64 { return w.swarm[line+" "+fault] * worst * rng.Float64() }
	// A message may outlive its terminal's patience; one to an issuer not the
	// time after which the house takes a 25 for final (journal.Grace).
	late := 100 * time.Second
	if line == issuerLine {
		late = time.Minute
	}
	return weather{delay: delay, jitter: 3 * delay, lost: share("message lost", 0.06), late: share("message late", 0.06), twice: share("message doubled", 0.15),
		overtaken: share("message overtaken", 0.10), drops: share("line breaks", 0.03), refused: share("refuses a line", 0.4), lateness: late}
}

// storm changes the weather of lines and issuers, and kills or restarts the
// house, until a time.
func (w *world) storm(until time.Time) {
	rng := w.rng
	restarts := 0
	for time.Now().Before(until) {
		w.net.set(terminalLine, w.weatherOf(rng, terminalLine, 40*time.Millisecond))
		w.net.set(issuerLine, w.weatherOf(rng, issuerLine, 15*time.Millisecond))
		w.net.set(walletLine, w.weatherOf(rng, walletLine, 30*time.Millisecond))
		for _, is := range simcard.Issuers {
			w.trouble(rng, w.issuers[is.Name])
		}
		time.Sleep(time.Duration(20+rng.IntN(160)) * time.Second)
		if restarts > 3 {
			continue
		}
		switch {
		case w.has(rng, "house killed", 0.25):
			w.close(false)
		case w.has(rng, "house restarted", 0.12):
			w.close(true)
		default:
			continue
		}
		restarts++
		if w.has(rng, "clock set back", 0.4) {
			w.setBack(5 * time.Minute)
		}
		pause := time.Duration(rng.IntN(90)) * time.Second
		if w.has(rng, "night", 0.3) {
			pause = time.Duration(2+rng.IntN(9)) * time.Hour
			until = until.Add(pause)
		}
		time.Sleep(pause)
		w.start()
	}
	w.net.calm()
	for _, host := range w.issuers {
		w.must(host.SetWeather(issuer.Weather{}))
	}
}

// trouble draws what one issuer does next.
func (w *world) trouble(rng *rand.Rand, host *issuer.Host) {
	var next issuer.Weather
	if w.has(rng, "issuer silent", 0.15) {
		next.Silent, next.Lost = 0.5*rng.Float64(), 0.5*rng.Float64()
	}
	if w.has(rng, "issuer slow", 0.2) {
		next.Delay, next.Jitter = 2*time.Second, time.Duration(1+rng.IntN(40))*time.Second
	}
	if w.has(rng, "issuer loses reversals", 0.4) {
		next.LostReversals, next.DeafReversals = 0.5*rng.Float64(), 0.5*rng.Float64()
	}
	if w.has(rng, "issuer flaps", 0.1) {
		next.Closed = true
	}
	w.must(host.SetWeather(next))
	if w.has(rng, "issuer drops its lines", 0.1) {
		host.DropLines()
	}
	if w.has(rng, "issuer rolls its keys", 0.3) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = host.RollKey(ctx, []routing.KeyUse{routing.ZPK, routing.ZAK}[rng.IntN(2)]) // with its lines down it fails
		cancel()
	}
}

// setBack makes the closed house open as on a clock that was set back: its ids
// were made on one that was ahead by d.
func (w *world) setBack(d time.Duration) {
	ctx := context.Background()
	db, err := store.Open(ctx, "sqlite:"+w.file)
	w.must(err)
	w.must(db.Write(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("update store_mark set tick = tick + $1 where node >= 0", int64(d/time.Millisecond)<<14)
		if err == nil && n == 0 {
			err = fmt.Errorf("no mark to move")
		}
		return err
	}))
	w.must(db.Close())
}
