package routing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/spec"
)

// STANs come round: at one moment several requests may have the same one. Their
// answers come in another order than the requests and go to whose RRN and
// terminal they name; one that names neither belongs to nobody.
func TestSameSTANOtherRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 5
		i, seen := house(t, nil, func(p *peer) {
			var asked []*spec.Message
			for range many {
				m, err := p.welcome(nil)
				if err != nil {
					return
				}
				asked = append(asked, m)
			}
			stranger := answerTo(asked[0], "00")
			stranger.Set(37, "NOBODYSRRN00")
			answers := []*spec.Message{stranger}
			for k, m := range slices.Backward(asked) {
				answers = append(answers, answerTo(m, fmt.Sprintf("%02d", 50+k)))
			}
			for _, a := range answers {
				if p.write(a, key1) != nil {
					return
				}
			}
			honest(p)
		})
		up(t, i)
		var callers sync.WaitGroup
		for n := range many {
			callers.Go(func() {
				req := request(7)
				req.Set(37, fmt.Sprintf("RRN00000000%d", n/2)) // two share an RRN and differ in the terminal
				req.Set(41, fmt.Sprintf("1000000%d", n))
				var ans spec.Message
				if err := i.Send(context.Background(), req, &ans); err != nil || ans.Text(39) != fmt.Sprintf("%02d", 50+n) || ans.Text(41) != req.Text(41) {
					t.Errorf("request %d: %v, answered %s for terminal %s", n, err, ans.Text(39), ans.Text(41))
				}
			})
			synctest.Wait()
		}
		callers.Wait()
		if seen.count(Mismatch) != 1 || seen.total() != 1 {
			t.Errorf("strays %v, want one mismatch", seen.seen)
		}
		if len(i.pending) != 0 {
			t.Errorf("%d requests are left in the table", len(i.pending))
		}
		var ans spec.Message
		if err := i.Send(t.Context(), request(7), &ans); err != nil {
			t.Errorf("the STAN again: %v", err)
		}
	})
}

// A host behind a line may be gone while the line stands and its echoes are
// answered. After so many requests without answer it is dialled anew.
func TestSilentLineIsDialledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials, echoes := 0, 0
		i, _ := house(t, func(c *Config) {
			c.Timeout, c.TimeoutStreak, c.EchoInterval = time.Second, 4, time.Second
			c.BackoffMin, c.BackoffMax = time.Millisecond, time.Millisecond
		}, func(p *peer) {
			dials++
			life := dials
			for n := 0; ; n++ {
				m, err := p.welcome(func(info int64) {
					if info == echoTest {
						echoes++
					}
				})
				if err != nil {
					return
				}
				if life == 1 && n != 2 { // one answer in between begins the count anew
					continue
				}
				if p.write(answerTo(m, "00"), key1) != nil {
					return
				}
			}
		})
		up(t, i)
		var ans spec.Message
		for n := range uint32(7) { // two lost, one answered, four lost
			err := i.Send(t.Context(), request(n+1), &ans)
			if (n == 2) != (err == nil) || n != 2 && !errors.Is(err, ErrUnanswered) {
				t.Errorf("request %d: %v", n, err)
			}
			if n < 6 && dials != 1 {
				t.Fatalf("dialled %d times after %d requests", dials, n+1)
			}
			time.Sleep(2 * time.Second) // an echo in between
		}
		up(t, i)
		if err := i.Send(t.Context(), request(20), &ans); err != nil {
			t.Errorf("on the new line: %v", err)
		}
		if st := i.State().Lines[0]; dials != 2 || st.Drops != 1 || echoes == 0 {
			t.Errorf("dialled %d times, %d drops, %d echoes answered; want 2, 1 and some", dials, st.Drops, echoes)
		}
	})
}

// A late answer says that the line carries: an issuer that is slow is not dead.
func TestLateAnswersKeepTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, seen := house(t, func(c *Config) { c.Timeout, c.TimeoutStreak = time.Second, 3 }, func(p *peer) {
			for {
				m, err := p.welcome(nil)
				if err != nil {
					return
				}
				time.Sleep(1100 * time.Millisecond)
				if p.write(answerTo(m, "00"), key1) != nil {
					return
				}
			}
		})
		up(t, i)
		for n := range uint32(8) {
			var ans spec.Message
			if err := i.Send(t.Context(), request(n+1), &ans); !errors.Is(err, ErrUnanswered) {
				t.Errorf("request %d: %v", n, err)
			}
			time.Sleep(time.Second)
		}
		if st := i.State().Lines[0]; st.Drops != 0 || seen.count(Late) != 8 {
			t.Errorf("%d drops, %d late answers, want 0 and 8", st.Drops, seen.count(Late))
		}
	})
}

// A burst that times out at once is no dead line: its late answers come all the
// same. One of whose requests none is answered is, when that lasts.
func TestABurstIsNoStreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, seen := house(t, func(c *Config) { c.Timeout, c.TimeoutStreak = time.Second, 3 }, func(p *peer) {
			for {
				m, err := p.welcome(nil)
				if err != nil {
					return
				}
				go func() {
					time.Sleep(1100 * time.Millisecond)
					_ = p.write(answerTo(m, "00"), key1) // a line that has ended needs no answer
				}()
			}
		})
		up(t, i)
		for burst := range uint32(3) {
			var callers sync.WaitGroup
			for n := range uint32(30) {
				callers.Go(func() {
					var ans spec.Message
					if err := i.Send(context.Background(), request(100*burst+n+1), &ans); !errors.Is(err, ErrUnanswered) {
						t.Errorf("request %d: %v", n, err)
					}
				})
			}
			callers.Wait()
			time.Sleep(time.Second)
		}
		if st := i.State().Lines[0]; st.Drops != 0 || seen.count(Late) != 90 {
			t.Errorf("%d drops, %d late answers, want 0 and 90", st.Drops, seen.count(Late))
		}
	})
}

// A line that is drained ends what it has, signs off and stays down; the other
// one carries on. Resumed, it comes back.
func TestDrainAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan bool)
		var mu sync.Mutex
		told := map[string][]int64{} // network management, by line
		i, _ := house(t, func(c *Config) {
			c.Addrs = []string{"a", "b"}
		}, func(p *peer) {
			line := ""
			for {
				m, err := p.welcome(func(info int64) {
					mu.Lock()
					defer mu.Unlock()
					if line == "" {
						line = fmt.Sprint(len(told) + 1)
					}
					told[line] = append(told[line], info)
				})
				if err != nil {
					return
				}
				if m.Text(3) == "310000" {
					<-release
				}
				if p.write(answerTo(m, "00"), key1) != nil {
					return
				}
			}
		})
		up(t, i)
		upWhole(t, i)
		var ans spec.Message
		send := func(n uint32) error { return i.Send(t.Context(), request(n), &ans) }

		slow := make(chan error, 1)
		go func() {
			req := request(2) // by its STAN on line 1
			req.Set(3, "310000")
			var ans spec.Message
			slow <- i.Send(context.Background(), req, &ans)
		}()
		synctest.Wait()
		if err := i.Drain(1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := i.State(); !st.Lines[0].Drained || st.Lines[0].SignedOn || !st.Lines[0].Connected || st.Lines[0].InFlight != 1 || st.Lines[1].Drained {
			t.Errorf("while something is in flight: %+v", st)
		}
		for n := range uint32(6) { // of both parities
			if err := send(10 + n); err != nil {
				t.Errorf("the other line: %v", err)
			}
		}
		close(release)
		if err := <-slow; err != nil {
			t.Errorf("what was in flight: %v", err)
		}
		synctest.Wait()
		if st := i.State().Lines[0]; st.Connected || !st.Drained || st.Drops != 0 {
			t.Errorf("drained: %+v", st)
		}
		mu.Lock()
		offs := 0
		for _, infos := range told {
			if infos[len(infos)-1] == signOff {
				offs++
			}
		}
		mu.Unlock()
		if offs != 1 {
			t.Errorf("%d lines signed off, want one", offs)
		}
		time.Sleep(10 * time.Minute)
		if st := i.State(); st.Lines[0].Connected || !st.Lines[1].SignedOn {
			t.Errorf("ten minutes later: %+v", st)
		}

		if err := i.Drain(0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var se *SendError
		if err := send(30); !errors.As(err, &se) || se.Left || se.Why != Drained {
			t.Errorf("all lines drained: %v", err)
		}
		if err := i.Resume(2); err != nil {
			t.Fatal(err)
		}
		up(t, i)
		if err := send(31); err != nil {
			t.Errorf("line 2 again: %v", err)
		}
		if err := errors.Join(i.Resume(0), i.Resume(0)); err != nil { // twice is once
			t.Fatal(err)
		}
		upWhole(t, i)
		for n := range uint32(4) {
			if err := send(40 + n); err != nil {
				t.Errorf("both again: %v", err)
			}
		}
		if i.Drain(3) == nil || i.Resume(-1) == nil {
			t.Error("a line that is not there was drained")
		}
	})
}

// What an issuer never answers does not hold a drain up for longer than its
// time, and a drain does not hold up the end of the house.
func TestDrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, _ := house(t, func(c *Config) { c.Timeout = 10 * time.Second }, func(p *peer) {
			for {
				if _, err := p.welcome(nil); err != nil {
					return
				}
			}
		})
		up(t, i)
		go func() {
			var ans spec.Message
			_ = i.Send(context.Background(), request(1), &ans) // never answered: the test's matter is the line
		}()
		synctest.Wait()
		if err := i.Drain(1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		if !i.State().Lines[0].Connected {
			t.Error("it did not wait for what is in flight")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if i.State().Lines[0].Connected {
			t.Error("it waits for ever")
		}
		if err := i.Close(t.Context()); err != nil {
			t.Errorf("closing while drained: %v", err)
		}
	})
}
