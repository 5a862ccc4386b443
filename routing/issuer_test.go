package routing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"acquirer/money"
	"acquirer/spec"
)

func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, seen := house(t, nil, honest)
		up(t, i)
		var ans spec.Message
		for stan := uint32(1); stan <= 3; stan++ {
			req := request(stan)
			if err := i.Send(t.Context(), req, &ans); err != nil {
				t.Fatal(err)
			}
			if ans.MTI() != 0x0210 || ans.Text(39) != "00" || ans.Text(11) != req.Text(11) || ans.Text(37) != req.Text(37) {
				t.Errorf("answer %v %s %s", ans.MTI(), ans.Text(39), ans.Text(11))
			}
		}
		if seen.total() != 0 {
			t.Errorf("strays %v", seen.seen)
		}
		if st := i.State(); !st.Up() || st.InFlight != 0 || !st.KeysReady || st.Lines[0].LastError != "" {
			t.Errorf("state %+v", st)
		}
	})
}

// The boundary of fault 25: an answer that arrives just before the time is up,
// at that very moment, and just after it. Exactly one of answer and late holds.
func TestAnswerAroundTheTimeout(t *testing.T) {
	const wait = 10 * time.Second
	for _, off := range []time.Duration{-time.Nanosecond, 0, time.Nanosecond} {
		t.Run(off.String(), func(t *testing.T) {
			for range 50 { // at the same moment either may win
				synctest.Test(t, func(t *testing.T) {
					i, seen := house(t, func(c *Config) { c.Timeout = wait }, func(p *peer) {
						m, err := p.welcome(nil)
						if err != nil {
							return
						}
						time.Sleep(wait + off)
						if p.write(answerTo(m, "00"), key1) == nil {
							honest(p)
						}
					})
					up(t, i)
					var ans spec.Message
					err := i.Send(t.Context(), request(7), &ans)
					time.Sleep(time.Second) // fake: lets a late one be counted
					synctest.Wait()
					late := seen.count(Late)
					switch {
					case off < 0 && err != nil, off > 0 && err == nil:
						t.Errorf("off by %v: %v", off, err)
					case err == nil && (late != 0 || ans.Text(39) != "00"):
						t.Errorf("answered and %d late", late)
					case err != nil && (late != 1 || !errors.Is(err, ErrUnanswered) || errors.Is(err, ErrUnreachable)):
						t.Errorf("%v and %d late", err, late)
					}
				})
			}
		})
	}
}

// What must not be taken for the answer, each followed by the right answer,
// which must be.
func TestOnlyTheAnswerIsTheAnswer(t *testing.T) {
	wrong := func(n int, v string) func(*spec.Message) *spec.Message {
		return func(m *spec.Message) *spec.Message { a := answerTo(m, "00"); a.Set(n, v); return a }
	}
	without := func(n int) func(*spec.Message) *spec.Message {
		return func(m *spec.Message) *spec.Message { a := answerTo(m, "00"); a.Unset(n); return a }
	}
	otherMAC := func(b []byte) [8]byte { return fakeMAC(2, b) }
	for _, c := range []struct {
		name string
		bad  func(*spec.Message) *spec.Message
		mac  func([]byte) [8]byte
		kind StrayKind
	}{
		{"amount", wrong(4, "000000000101"), key1, Mismatch},
		{"no amount", without(4), key1, Mismatch},
		{"RRN", wrong(37, "R00000000008"), key1, Mismatch},
		{"no RRN", without(37), key1, Mismatch},
		{"terminal", wrong(41, "10000002"), key1, Mismatch},
		{"STAN", wrong(11, "000008"), key1, Stranger},
		{"no STAN", without(11), key1, Stranger},
		{"MTI of a reversal", func(m *spec.Message) *spec.Message { a := answerTo(m, "00"); a.SetMTI(0x0430); return a }, key1, Stranger},
		{"a request of that STAN", func(m *spec.Message) *spec.Message { a := answerTo(m, "00"); a.SetMTI(0x0200); return a }, key1, Stranger},
		{"MAC of another key", func(m *spec.Message) *spec.Message { return answerTo(m, "00") }, otherMAC, BadMAC},
		{"no MAC", func(m *spec.Message) *spec.Message { return answerTo(m, "00") }, nil, BadMAC},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i, seen := house(t, nil, func(p *peer) {
					m, err := p.welcome(nil)
					if err != nil || p.write(c.bad(m), c.mac) != nil || p.write(answerTo(m, "51"), key1) != nil {
						return
					}
					honest(p)
				})
				up(t, i)
				var ans spec.Message
				if err := i.Send(t.Context(), request(7), &ans); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if ans.Text(39) != "51" || seen.count(c.kind) != 1 || seen.total() != 1 {
					t.Errorf("answer %s, strays %v, want 51 and one %s", ans.Text(39), seen.seen, c.kind)
				}
			})
		})
	}
}

// An approval of a part answers only who asked for it: with 10, with less than
// was asked for, and with more than nothing.
func TestPartialApproval(t *testing.T) {
	for _, c := range []struct {
		name         string
		asked        bool
		code, amount string
		answers      bool
	}{
		{"a part", true, "10", "000000000060", true},
		{"all of it", true, "10", "000000000100", true},
		{"more", true, "10", "000000000101", false},
		{"nothing", true, "10", "000000000000", false},
		{"approved with another amount", true, "00", "000000000060", false},
		{"declined with another amount", true, "51", "000000000060", false},
		{"not asked for", false, "10", "000000000060", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i, seen := house(t, nil, func(p *peer) {
					m, err := p.welcome(nil)
					if err != nil {
						return
					}
					a := answerTo(m, c.code)
					a.Set(4, c.amount)
					if p.write(a, key1) != nil || p.write(answerTo(m, "51"), key1) != nil {
						return
					}
					honest(p)
				})
				up(t, i)
				r := sampleRequest(t)
				r.Amount, r.Partial, r.Terminal = 100, c.asked, "10000001"
				var req, ans spec.Message
				BuildRequest(spec.CUPS, &req, r)
				if err := i.Send(t.Context(), &req, &ans); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				want, stray := "51", Mismatch
				if c.answers {
					want, stray = c.code, Duplicate
				}
				if ans.Text(39) != want || seen.count(stray) != 1 || seen.total() != 1 {
					t.Errorf("answer %s over %s, strays %v; want %s and one %s", ans.Text(39), ans.Text(4), seen.seen, want, stray)
				}
			})
		})
	}
}

// Every type of message is answered by its own, and one without an amount by
// one with or without.
func TestEveryTypeIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, seen := house(t, nil, func(p *peer) {
			for {
				m, err := p.welcome(nil)
				if err != nil {
					return
				}
				a := answerTo(m, "00")
				if !m.Has(4) && m.Text(11) == "000002" {
					a.Set(4, "000000000007")
				}
				if p.write(a, key1) != nil {
					return
				}
			}
		})
		up(t, i)
		for n, c := range []struct {
			mti, answer spec.MTI
			repeat      bool
			amount      money.Amount
		}{
			{0x0100, 0x0110, false, 1}, {0x0200, 0x0210, false, 0}, {0x0200, 0x0210, false, 0}, {0x0200, 0x0210, true, 1},
			{0x0220, 0x0230, false, 1}, {0x0220, 0x0230, true, 1}, {0x0620, 0x0630, false, 1}, {0x0620, 0x0630, true, 1},
		} {
			r := sampleRequest(t)
			r.MTI, r.Repeat, r.Amount, r.STAN = c.mti, c.repeat, c.amount, uint32(n)
			var req, ans spec.Message
			BuildRequest(spec.CUPS, &req, r)
			if err := i.Send(t.Context(), &req, &ans); err != nil || ans.MTI() != c.answer {
				t.Errorf("%v, repeated %v: answered by %v, %v", c.mti, c.repeat, ans.MTI(), err)
			}
		}
		if seen.total() != 0 {
			t.Errorf("strays %v", seen.seen)
		}
	})
}

func TestMalformedAndRejectedFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, seen := house(t, nil, func(p *peer) {
			m, err := p.welcome(nil)
			if err != nil {
				return
			}
			good := frame(answerTo(m, "00"), key1)
			short := append([]byte(nil), good[:60]...)
			copy(short[2:6], "0060") // the frame is whole, the message in it is cut
			refused := append([]byte(nil), good...)
			copy(refused[41:46], "00123")
			for _, b := range [][]byte{short, refused, good} {
				if _, err := p.nc.Write(b); err != nil {
					return
				}
			}
			honest(p)
		})
		up(t, i)
		var ans spec.Message
		if err := i.Send(t.Context(), request(7), &ans); err != nil {
			t.Fatal(err)
		}
		if seen.count(Malformed) != 1 || seen.count(Rejected) != 1 || seen.total() != 2 {
			t.Errorf("strays %v", seen.seen)
		}
	})
}

func TestAnsweredTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, seen := house(t, nil, func(p *peer) {
			for {
				m, err := p.welcome(nil)
				if err != nil || p.write(answerTo(m, "00"), key1) != nil || p.write(answerTo(m, "51"), key1) != nil {
					return
				}
			}
		})
		up(t, i)
		var ans spec.Message
		for stan := range uint32(50) {
			if err := i.Send(t.Context(), request(stan+1), &ans); err != nil {
				t.Fatal(err)
			}
			if ans.Text(39) != "00" {
				t.Fatalf("the second answer won: %s", ans.Text(39))
			}
		}
		synctest.Wait()
		if seen.count(Duplicate) != 50 || seen.total() != 50 {
			t.Errorf("strays %v", seen.seen)
		}
	})
}

// A terminal's answer never reaches another terminal, though the issuer
// answers in any order and some answers twice.
func TestNoAnswerToAnotherCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, _ := house(t, func(c *Config) { c.Addrs = []string{"a", "b"} }, func(p *peer) {
			var held []*spec.Message
			for {
				m, err := p.welcome(nil)
				if err != nil {
					return
				}
				held = append(held, m)
				if len(held) < 5 {
					continue
				}
				for k := len(held) - 1; k >= 0; k-- {
					a := answerTo(held[k], "00")
					a.Set(38, held[k].Text(37)[6:])
					if p.write(a, key1) != nil || k%2 == 0 && p.write(a, key1) != nil {
						return
					}
				}
				held = held[:0]
			}
		})
		upWhole(t, i)
		var callers sync.WaitGroup
		for n := range uint32(100) {
			callers.Go(func() {
				var ans spec.Message
				req := request(n + 1)
				if err := i.Send(context.Background(), req, &ans); err != nil {
					t.Error(err)
				} else if ans.Text(37) != req.Text(37) || ans.Text(38) != req.Text(37)[6:] {
					t.Errorf("asked as %s, heard %s %s", req.Text(37), ans.Text(37), ans.Text(38))
				}
			})
		}
		callers.Wait()
	})
}

func TestUnreachable(t *testing.T) {
	want := func(t *testing.T, err error, why Why) {
		t.Helper()
		var se *SendError
		if !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnanswered) || !errors.As(err, &se) || se.Why != why {
			t.Errorf("%v, want unreachable because %s", err, why)
		}
	}
	t.Run("no line", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			i, _ := house(t, func(c *Config) { c.BackoffMin, c.BackoffMax = time.Hour, time.Hour }, func(p *peer) {
				m, err := p.read()
				if err == nil {
					_ = p.write(answerTo(m, "58"), nil) // the sign-on is refused
				}
			})
			synctest.Wait()
			var ans spec.Message
			want(t, i.Send(t.Context(), request(1), &ans), NoLine)
			if st := i.State(); st.Up() || !strings.Contains(st.Lines[0].LastError, `"58"`) {
				t.Errorf("state %+v", st)
			}
		})
	})
	t.Run("busy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan bool)
			i, _ := house(t, func(c *Config) { c.MaxInFlight = 3 }, func(p *peer) {
				var held []*spec.Message
				for range 3 {
					m, err := p.welcome(nil)
					if err != nil {
						return
					}
					held = append(held, m)
				}
				<-release
				for _, m := range held {
					_ = p.write(answerTo(m, "00"), key1)
				}
				honest(p)
			})
			up(t, i)
			var callers sync.WaitGroup
			for n := range uint32(3) {
				callers.Go(func() {
					var ans spec.Message
					if err := i.Send(context.Background(), request(n+1), &ans); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			var ans spec.Message
			began := time.Now()
			want(t, i.Send(t.Context(), request(4), &ans), Busy)
			if d := time.Since(began); d != i.cfg.QueueTimeout {
				t.Errorf("it waited %v for a place, want the queue's deadline of %v", d, i.cfg.QueueTimeout)
			}
			callers.Go(func() { // this one has a place as soon as there is one
				var ans spec.Message
				if err := i.Send(context.Background(), request(6), &ans); err != nil {
					t.Errorf("in the queue: %v", err)
				}
			})
			synctest.Wait()
			if st := i.State(); st.InFlight != 3 || st.Queued != 1 {
				t.Errorf("%d in flight and %d queued, want 3 and 1", st.InFlight, st.Queued)
			}
			close(release)
			callers.Wait()
			if err := i.Send(t.Context(), request(5), &ans); err != nil {
				t.Errorf("after the rush: %v", err)
			}
		})
	})
	t.Run("same request", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			met, reg := NewMetrics(), prometheus.NewPedanticRegistry()
			reg.MustRegister(met)
			release := make(chan bool)
			i, _ := house(t, func(c *Config) { c.Metrics = met }, func(p *peer) {
				m, err := p.welcome(nil)
				if err != nil {
					return
				}
				<-release
				_ = p.write(answerTo(m, "00"), key1)
				honest(p)
			})
			up(t, i)
			first := make(chan error)
			go func() {
				var ans spec.Message
				first <- i.Send(context.Background(), request(9), &ans)
			}()
			synctest.Wait()
			var ans spec.Message
			want(t, i.Send(t.Context(), request(9), &ans), SameTrace)
			if n := gather(t, reg)[`acquirer_issuer_failures_total{issuer="north",outcome="unreachable",why="duplicate"}`]; n != 1 {
				t.Errorf("duplicates counted: %v", n)
			}
			close(release)
			if err := <-first; err != nil {
				t.Errorf("the first of the two: %v", err)
			}
		})
	})
	t.Run("unsigned", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			keys := readyKeys()
			i, _ := house(t, func(c *Config) { c.Keys = keys }, honest)
			up(t, i)
			broken := errors.New("HSM is down")
			keys.mu.Lock()
			keys.failing = broken
			keys.mu.Unlock()
			var ans spec.Message
			err := i.Send(t.Context(), request(1), &ans)
			want(t, err, Unsigned)
			if !errors.Is(err, broken) {
				t.Errorf("the cause is lost: %v", err)
			}
			req := request(2)
			req.Set(3, "not digits")
			want(t, i.Send(t.Context(), req, &ans), Unsigned)
			req = request(3)
			req.Unset(11)
			want(t, i.Send(t.Context(), req, &ans), Unsigned)
		})
	})
	t.Run("closing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			i, _ := house(t, nil, honest)
			up(t, i)
			if err := i.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			var ans spec.Message
			want(t, i.Send(t.Context(), request(1), &ans), Closing)
			if err := i.Close(t.Context()); err == nil {
				t.Error("closed twice")
			}
		})
	})
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, seen := house(t, nil, func(p *peer) {
			m, err := p.welcome(nil)
			if err != nil {
				return
			}
			time.Sleep(2 * time.Second)
			_ = p.write(answerTo(m, "00"), key1)
			honest(p)
		})
		up(t, i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var ans spec.Message
		err := i.Send(ctx, request(1), &ans)
		if !errors.Is(err, ErrUnanswered) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if seen.count(Late) != 1 {
			t.Errorf("strays %v", seen.seen)
		}
	})
}

func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var infos []int64
		i, _ := house(t, nil, func(p *peer) {
			m, err := p.welcome(func(n int64) { infos = append(infos, n) })
			if err != nil {
				return
			}
			time.Sleep(3 * time.Second)
			_ = p.write(answerTo(m, "00"), key1)
			_, _ = p.welcome(func(n int64) { infos = append(infos, n) })
		})
		up(t, i)
		sent := make(chan error)
		go func() {
			var ans spec.Message
			sent <- i.Send(context.Background(), request(1), &ans)
		}()
		synctest.Wait()
		closed := make(chan error)
		began := time.Now()
		go func() { closed <- i.Close(context.Background()) }()
		if err := <-sent; err != nil {
			t.Errorf("in flight when closing: %v", err)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("closing took %v", d)
		}
		synctest.Wait()
		if fmt.Sprint(infos) != "[1 2]" {
			t.Errorf("network management %v, want sign-on and sign-off", infos)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			i, _ := house(t, nil, func(p *peer) {
				if _, err := p.welcome(nil); err == nil {
					_, _ = p.welcome(nil) // silent, but takes the sign-off
				}
			})
			up(t, i)
			sent := make(chan error, 1)
			go func() {
				var ans spec.Message
				sent <- i.Send(context.Background(), request(1), &ans)
			}()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := i.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if err := <-sent; !errors.Is(err, ErrUnanswered) {
				t.Error(err)
			}
		})
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		met := NewMetrics()
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(met)
		i, _ := house(t, func(c *Config) { c.Metrics = met; c.Timeout = time.Second }, func(p *peer) {
			for {
				m, err := p.welcome(nil)
				if err != nil {
					return
				}
				if stan, _ := m.Int(11); stan == 2 {
					continue
				}
				for range 2 {
					if p.write(answerTo(m, "00"), key1) != nil {
						return
					}
				}
			}
		})
		up(t, i)
		var ans spec.Message
		if err := i.Send(t.Context(), request(1), &ans); err != nil {
			t.Fatal(err)
		}
		if err := i.Send(t.Context(), request(2), &ans); !errors.Is(err, ErrUnanswered) {
			t.Fatal(err)
		}
		synctest.Wait()
		got := gather(t, reg)
		for name, want := range map[string]float64{
			`acquirer_issuer_line_up{issuer="north",line="1"}`:                                     1,
			`acquirer_issuer_in_flight{issuer="north"}`:                                            0,
			`acquirer_issuer_seconds{issuer="north"}`:                                              1,
			`acquirer_issuer_unmatched_total{issuer="north",kind="duplicate"}`:                     1,
			`acquirer_issuer_unmatched_total{issuer="north",kind="mismatch"}`:                      0,
			`acquirer_issuer_queued{issuer="north"}`:                                               0,
			`acquirer_issuer_line_drained{issuer="north",line="1"}`:                                0,
			`acquirer_issuer_failures_total{issuer="north",outcome="unanswered",why="timeout"}`:    1,
			`acquirer_issuer_failures_total{issuer="north",outcome="unreachable",why="duplicate"}`: 0,
			`acquirer_issuer_keys_installed_total{issuer="north",use="ZAK"}`:                       0,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s = %v (%v), want %v", name, v, ok, want)
			}
		}
		if err := i.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := gather(t, reg)[`acquirer_issuer_line_up{issuer="north",line="1"}`]; ok {
			t.Error("a closed issuer still has a line")
		}
	})
}

func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			out[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = value(m)
		}
	}
	return out
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return float64(m.Histogram.GetSampleCount())
}
