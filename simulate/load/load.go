// Package load drives many simulated terminals against a switch and measures
// what they see. Every terminal does one transaction at a time, as in a shop.
//
// With a rate the load is open: transactions are due at fixed moments whether
// or not the switch keeps up, and a latency begins when the transaction was
// due. Without one it is closed: a fixed number of terminals sell one thing
// after the other.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/money"
	simcard "acquirer/simulate/card"
	"acquirer/simulate/terminal"
)

// Config says what to drive, how hard and for how long.
type Config struct {
	Devices     []Device
	Dial        terminal.Dialer
	Rate        float64 // transactions per second; 0 is closed loop
	Concurrency int     // closed loop: terminals busy at once; 0 is all
	Duration    time.Duration
	Timeout     time.Duration // for one answer; 0 is terminal.DefaultTimeout
	Mix         Mix
	Min, Max    money.Amount // purchases are drawn between them
	// Weather is the share, 0 to 1, of purchases of an amount out of Storms,
	// by which issuers are asked to misbehave. Stormy tells such amounts; the
	// others are drawn so that it does not hold.
	Weather float64
	Storms  []money.Amount
	Stormy  func(money.Amount) bool
	Issuers []simcard.Issuer // whose cards are used; nil is all
	Cards   int              // how many cards are in use; 0 is 64 per terminal, at least 4096
	Seed    uint64           // of the draws; the same seed draws the same for the same terminals
	// Progress, when given, is called a few times a second until the end.
	Progress func(Snapshot)
	// Observe and Book are given to every terminal.
	Observe func(terminal.Traffic)
	Book    *terminal.Book
}

func (c *Config) check() error {
	switch {
	case len(c.Devices) == 0:
		return errors.New("load: no terminals")
	case c.Duration <= 0:
		return errors.New("load: the duration must be above zero")
	case c.Rate < 0 || c.Concurrency < 0:
		return errors.New("load: rate and concurrency cannot be negative")
	case c.Rate > 0 && c.Concurrency > 0:
		return errors.New("load: a rate and a concurrency exclude each other")
	case c.Rate > 1e6:
		return errors.New("load: a rate above 1000000 a second")
	case c.Concurrency > len(c.Devices):
		return fmt.Errorf("load: concurrency %d with %d terminals: a terminal does one transaction at a time", c.Concurrency, len(c.Devices))
	case len(c.Mix.kinds) == 0:
		return errors.New("load: no mix")
	case c.Min <= 0 || c.Max < c.Min || c.Max >= 1e12:
		return fmt.Errorf("load: amounts from %s to %s", c.Min, c.Max)
	case c.Weather < 0 || c.Weather > 1:
		return fmt.Errorf("load: weather %v is not a share from 0 to 1", c.Weather)
	case c.Weather > 0 && len(c.Storms) == 0:
		return errors.New("load: weather without amounts that ask for it")
	}
	return nil
}

// Run signs the terminals in, drives them for the duration, and reports. It
// ends by itself: nothing is begun after the duration, and what is under way
// then ends by its own time-outs. A cancelled context ends it early with what
// was seen so far and no error. An error means that the load never began.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, tally: newTally()}
	if err := r.makeWorkers(); err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.signIn(ctx); err != nil {
		return nil, err
	}
	return r.drive(ctx), nil
}

type run struct {
	cfg     Config
	tally   *tally
	workers []*worker

	start, end time.Time
	slot       atomic.Int64 // rate mode: the next transaction's number
}

// makeWorkers deals terminals and cards to the workers: one each in rate mode,
// else as many workers as are to be busy at once, each with its share.
func (r *run) makeWorkers() error {
	n := len(r.cfg.Devices)
	if r.cfg.Rate == 0 && r.cfg.Concurrency > 0 {
		n = r.cfg.Concurrency
	}
	for i := range n {
		r.workers = append(r.workers, &worker{run: r, rng: rand.New(rand.NewPCG(r.cfg.Seed, uint64(i)))})
	}
	started := time.Now().Unix()
	for i := range r.cfg.Devices {
		d := &r.cfg.Devices[i]
		cfg, err := d.config()
		if err != nil {
			return err
		}
		cfg.Dial, cfg.Timeout, cfg.Observe, cfg.Book = r.cfg.Dial, r.cfg.Timeout, r.cfg.Observe, r.cfg.Book
		// A host remembers batch and trace numbers: each run takes new ones, by
		// the clock, so that its purchases are not repeats of an earlier run's.
		cfg.State.Batch = int(started%999999) + 1
		cfg.State.STAN = int(started*300%999999) + 1
		t, err := terminal.New(cfg)
		if err != nil {
			return err
		}
		w := r.workers[i%n]
		w.terminals = append(w.terminals, t)
	}
	return r.dealCards()
}

// dealCards gives every worker cards of its own, of all issuers in turn, for a
// card is in one terminal at a time. The first are dealt until each worker has
// one with and, when the mix wants it, one without a chip.
func (r *run) dealCards() error {
	total := r.cfg.Cards
	if total == 0 {
		total = max(4096, 64*len(r.cfg.Devices))
	}
	issuers := r.cfg.Issuers
	if len(issuers) == 0 {
		issuers = simcard.Issuers
	}
	each := max(1, total/len(r.workers))
	for i, w := range r.workers {
		for k := 0; k < each || len(w.chip) == 0 || len(w.plain) == 0; k++ {
			n := i + k*len(r.workers)
			is := issuers[k%len(issuers)]
			c, err := simcard.New(is.PAN(n))
			if err != nil {
				return err
			}
			w.all = append(w.all, c)
			if c.HasChip {
				w.chip = append(w.chip, c)
			} else {
				w.plain = append(w.plain, c)
			}
		}
	}
	return nil
}

// signInAtOnce is how many terminals sign in at the same time.
const signInAtOnce = 16

func (r *run) signIn(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	places := make(chan struct{}, signInAtOnce)
	for _, w := range r.workers {
		for _, t := range w.terminals {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				if ctx.Err() != nil {
					return
				}
				if err := t.SignIn(ctx); err != nil {
					cancel(err)
				}
			})
		}
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

// progressEvery is the time between two calls of Config.Progress.
const progressEvery = 200 * time.Millisecond

func (r *run) drive(ctx context.Context) *Report {
	r.start = time.Now()
	r.end = r.start.Add(r.cfg.Duration)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work, watch sync.WaitGroup
	for _, w := range r.workers {
		work.Go(func() {
			if r.cfg.Rate > 0 {
				w.open(ctx)
			} else {
				w.closed(ctx)
			}
		})
	}
	over := make(chan struct{})
	if r.cfg.Progress != nil {
		watch.Go(func() {
			tick := time.NewTicker(progressEvery)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					r.cfg.Progress(r.tally.snapshot(time.Since(r.start), r.cfg.Duration))
				case <-over:
					return
				}
			}
		})
	}
	work.Wait()
	close(over)
	watch.Wait()

	lasted := r.cfg.Duration
	if ctx.Err() != nil {
		lasted = min(time.Since(r.start), lasted)
	} else if r.cfg.Rate > 0 {
		due := int64(r.cfg.Rate * r.cfg.Duration.Seconds())
		if left := due - r.slot.Load(); left > 0 {
			r.tally.errors[errUnsent] += left
		}
	}
	return r.tally.report(lasted)
}

func (r *run) close() {
	for _, w := range r.workers {
		for _, t := range w.terminals {
			// A line that does not close cleanly has been counted when it failed.
			_ = t.Close()
		}
	}
}

// due is when the k-th transaction of a rate should be sent.
func (r *run) due(k int64) time.Time {
	return r.start.Add(time.Duration(float64(k) / r.cfg.Rate * float64(time.Second)))
}
