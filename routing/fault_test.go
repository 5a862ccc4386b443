package routing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/spec"
)

var errCut = errors.New("cut by the test")

// cutter is a socket that dies after a number of written bytes, like a line
// that breaks in the middle of a frame. A full write is let through to the
// other side; the writer can be held before it writes.
type cutter struct {
	net.Conn
	mu   sync.Mutex
	left int           // bytes until it breaks; below 0 never
	hold chan struct{} // not nil: every write waits for it
}

func (c *cutter) arm(left int, hold chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.hold = left, hold
}

func (c *cutter) Write(p []byte) (int, error) {
	c.mu.Lock()
	hold := c.hold
	c.mu.Unlock()
	if hold != nil {
		<-hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left < 0 {
		return c.Conn.Write(p)
	}
	n := min(c.left, len(p))
	if n > 0 {
		if m, err := c.Conn.Write(p[:n]); err != nil {
			return m, err
		}
	}
	c.left -= n
	if n == len(p) {
		return n, nil
	}
	return n, errCut
}

// TestCutAtEveryByte breaks the line at every byte of a write that carries
// three frames. A frame is unreachable exactly when not one of its bytes left
// the house.
func TestCutAtEveryByte(t *testing.T) {
	size := len(frame(signedRequest(1), key1))
	for cut := 0; cut <= 3*size; cut++ {
		synctest.Test(t, func(t *testing.T) {
			wire := &cutter{left: -1}
			var got bytes.Buffer
			i, _ := house(t, func(c *Config) {
				c.BackoffMin, c.BackoffMax = time.Hour, time.Hour
				dial := c.Dial
				c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
					if wire.Conn != nil {
						return nil, errors.New("one life is enough")
					}
					nc, err := dial(ctx, addr)
					wire.Conn = nc
					return wire, err
				}
			}, func(p *peer) {
				m, err := p.read()
				if err != nil || p.write(answerTo(m, "00"), nil) != nil {
					return
				}
				_, _ = io.Copy(&got, p.r)
			})
			up(t, i)
			hold := make(chan struct{})
			wire.arm(cut, hold)
			// the first frame occupies the writer, so that the three behind it
			// share one write
			errs := make([]error, 4)
			var callers sync.WaitGroup
			send := func(n int) {
				callers.Go(func() {
					var ans spec.Message
					errs[n] = i.Send(context.Background(), request(uint32(n+1)), &ans)
				})
				synctest.Wait()
			}
			send(0)
			for n := 1; n < 4; n++ {
				send(n)
			}
			wire.arm(cut+size, hold)
			close(hold)
			callers.Wait()
			synctest.Wait()
			for n := 1; n < 4; n++ {
				first := (n - 1) * size // offset of its first byte in the shared write
				left := cut > first
				if left != errors.Is(errs[n], ErrUnanswered) || left == errors.Is(errs[n], ErrUnreachable) {
					t.Errorf("cut after %d of %d bytes: frame %d: %v", cut, 3*size, n, errs[n])
				}
			}
			if cut < 3*size && got.Len() != cut+size {
				t.Errorf("the issuer got %d bytes, want %d", got.Len(), cut+size)
			}
		})
	}
}

// signedRequest is request with room for its MAC.
func signedRequest(stan uint32) *spec.Message {
	m := request(stan)
	m.SetBytes(128, make([]byte, 8))
	return m
}

// The answer is cut at every byte and the line ends: only the whole answer is
// one.
func TestAnswerCutAtEveryByte(t *testing.T) {
	whole := len(frame(answerTo(request(1), "00"), key1))
	for cut := 0; cut <= whole; cut++ {
		synctest.Test(t, func(t *testing.T) {
			i, seen := house(t, func(c *Config) { c.BackoffMin, c.BackoffMax = time.Hour, time.Hour }, func(p *peer) {
				m, err := p.welcome(nil)
				if err == nil {
					_, _ = p.nc.Write(frame(answerTo(m, "00"), key1)[:cut])
				}
			})
			up(t, i)
			var ans spec.Message
			err := i.Send(t.Context(), request(1), &ans)
			if cut < whole && !errors.Is(err, ErrUnanswered) || cut == whole && err != nil || seen.total() != 0 {
				t.Errorf("cut after %d of %d bytes: %v", cut, whole, err)
			}
		})
	}
}

// A reversal takes the line of its original while that line stands.
func TestReversalTakesTheSameLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		lines := map[string]int{} // RRN and MTI to the line it came on
		peers := 0
		i, _ := house(t, func(c *Config) { c.Addrs = []string{"a", "b", "c"} }, func(p *peer) {
			mu.Lock()
			peers++
			me := peers
			mu.Unlock()
			for {
				m, err := p.welcome(nil)
				if err != nil {
					return
				}
				mu.Lock()
				lines[m.Text(37)+m.MTI().String()] = me
				mu.Unlock()
				if p.write(answerTo(m, "00"), key1) != nil {
					return
				}
			}
		})
		upWhole(t, i)
		used := map[int]bool{}
		for n := uint32(1); n <= 30; n++ {
			var m, ans spec.Message
			o := Request{Processing: "200000", Amount: 100, Sent: time.Now(), STAN: n, RRN: fmt.Sprintf("R%011d", n), Acquirer: "08980000", Forwarder: "08980000", Terminal: "10000001",
				Original: &Original{STAN: n + 2000, Sent: time.Now()}} // a void goes by its own STAN, so that its reversal can follow it
			BuildRequest(spec.CUPS, &m, &o)
			if err := i.Send(t.Context(), &m, &ans); err != nil {
				t.Fatal(err)
			}
			BuildReversal(spec.CUPS, &m, &Reversal{Original: o, STAN: n + 1000, Sent: time.Now(), Reason: ReasonTimeout})
			if err := i.Send(t.Context(), &m, &ans); err != nil {
				t.Fatal(err)
			}
			if lines[o.RRN+"0200"] != lines[o.RRN+"0420"] {
				t.Errorf("%s: sent on %d, reversed on %d", o.RRN, lines[o.RRN+"0200"], lines[o.RRN+"0420"])
			}
			used[lines[o.RRN+"0200"]] = true
		}
		if len(used) != 3 {
			t.Errorf("only %d lines are used", len(used))
		}
	})
}

// A frame that never left its line goes out on the other one.
func TestOtherLineTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &cutter{left: -1}
		i, _ := house(t, func(c *Config) {
			c.Addrs = []string{"a", "b"}
			c.BackoffMin, c.BackoffMax = time.Hour, time.Hour
			dial := c.Dial
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				if addr == "b" {
					return dial(ctx, addr)
				}
				if first.Conn != nil {
					return nil, errors.New("one life is enough")
				}
				nc, err := dial(ctx, addr)
				first.Conn = nc
				return first, err
			}
		}, honest)
		upWhole(t, i)
		first.arm(0, nil) // the next write on line 1 is refused
		for stan := uint32(1); stan <= 4; stan++ {
			var ans spec.Message
			if err := i.Send(t.Context(), request(stan), &ans); err != nil || ans.Text(39) != "00" {
				t.Errorf("STAN %d: %v", stan, err)
			}
		}
		synctest.Wait() // the broken line counts its drop beside the answers
		st := i.State()
		if st.Lines[0].SignedOn || st.Lines[0].Drops != 1 || !st.Lines[1].SignedOn {
			t.Errorf("lines %+v", st.Lines)
		}
	})
}

// A frame that its caller gives up before its time, because it lay in the queue
// too long, never leaves: it would be called unanswered with most of its time left.
func TestGivenUpInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, _ := house(t, nil, honest)
		up(t, i)
		c := newCall()
		c.reset(0x0210, 1)
		c.timer.Reset(time.Millisecond)
		var ans spec.Message
		if gone, why, err := i.await(t.Context(), c, i.pick(0), time.Now().Add(time.Minute), &ans); gone || why != TimedOut {
			t.Errorf("%v %s %v", gone, why, err)
		}
		if c.state.CompareAndSwap(queued, handed) {
			t.Error("the writer can still take what its caller has given up")
		}
	})
}

// The issuer stops reading: the frame inside the socket may have left, those
// behind it are taken back, and the write deadline ends the line.
func TestStalledLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, _ := house(t, func(c *Config) {
			c.Timeout, c.WriteTimeout = 2*time.Second, 5*time.Second
			c.BackoffMin, c.BackoffMax = time.Hour, time.Hour
		}, func(p *peer) {
			m, err := p.read()
			if err != nil || p.write(answerTo(m, "00"), nil) != nil {
				return
			}
			time.Sleep(time.Minute) // reads no more
		})
		up(t, i)
		errs := make([]error, 5)
		var callers sync.WaitGroup
		for n := range errs {
			callers.Go(func() {
				var ans spec.Message
				errs[n] = i.Send(context.Background(), request(uint32(n+1)), &ans)
			})
			synctest.Wait()
		}
		began := time.Now()
		callers.Wait()
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("callers were held for %v", d)
		}
		for n, err := range errs {
			var se *SendError
			if !errors.As(err, &se) || se.Left != (n == 0) || n > 0 && se.Why != Unwritten {
				t.Errorf("frame %d: %v", n, err)
			}
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if st := i.State(); st.Up() || st.Lines[0].Connected {
			t.Errorf("the line outlived its write deadline: %+v", st)
		}
	})
}

func TestDropAfterSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, _ := house(t, nil, func(p *peer) {
			_, _ = p.welcome(nil) // reads the request and hangs up
		})
		up(t, i)
		began := time.Now()
		var ans spec.Message
		err := i.Send(t.Context(), request(1), &ans)
		var se *SendError
		if !errors.Is(err, ErrUnanswered) || !errors.As(err, &se) || se.Why != Broken || !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if time.Since(began) != 0 {
			t.Errorf("the caller waited %v for a line that was gone", time.Since(began))
		}
	})
}

// TestDropsUnderLoad breaks loaded lines 150 times. No caller hangs, none
// hears another's answer, and what is called unreachable was never seen by the
// issuer: the sentence that money hangs on.
func TestDropsUnderLoad(t *testing.T) {
	const drops, callers = 150, 64
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var seen sync.Map // RRN of every request that the issuer has read whole
	var dropped atomic.Int32
	var served sync.WaitGroup
	serve := func(nc net.Conn) {
		defer nc.Close()
		p := newPeer(nc)
		rng := rand.New(rand.NewPCG(uint64(dropped.Load()), 7))
		for life := 20 + rng.IntN(200); ; life-- {
			m, err := p.welcome(nil)
			if err != nil {
				return
			}
			seen.Store(m.Text(37), true)
			if life <= 0 && dropped.Add(1) <= drops {
				if rng.IntN(2) == 0 {
					_ = nc.(*net.TCPConn).SetLinger(0) // reset instead of a quiet end
				}
				return
			}
			if p.write(answerTo(m, "00"), key1) != nil {
				return
			}
		}
	}
	served.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() { serve(nc) })
		}
	})
	strayed := new(strays)
	addr := ln.Addr().String()
	i, err := NewIssuer(Config{
		Name: "north", Addrs: []string{addr, addr, addr}, Institution: "01020000", Acquirer: "08980000",
		Keys: readyKeys(), Observe: strayed.observe, Log: slog.New(slog.DiscardHandler),
		Timeout: 30 * time.Second, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	up(t, i)
	var stan, answered, unanswered, unreachable atomic.Int32
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			var ans spec.Message
			for dropped.Load() < drops {
				req := request(uint32(stan.Add(1)))
				err := i.Send(context.Background(), req, &ans)
				switch {
				case err == nil:
					answered.Add(1)
					if ans.Text(37) != req.Text(37) {
						t.Errorf("asked as %s, answered as %s", req.Text(37), ans.Text(37))
					}
				case errors.Is(err, ErrUnreachable):
					unreachable.Add(1)
					if _, there := seen.Load(req.Text(37)); there {
						t.Errorf("%s is called unreachable, and the issuer has it: %v", req.Text(37), err)
					}
					runtime.Gosched()
				case errors.Is(err, context.DeadlineExceeded):
					t.Errorf("a caller waited out the whole time: %v", err)
				default:
					unanswered.Add(1)
				}
			}
		})
	}
	work.Wait()
	t.Logf("%d answered, %d unanswered, %d unreachable", answered.Load(), unanswered.Load(), unreachable.Load())
	if answered.Load() < drops || unanswered.Load() == 0 {
		t.Error("the lines carried too little to show anything")
	}
	if strayed.count(Mismatch)+strayed.count(BadMAC)+strayed.count(Stranger) > 0 {
		t.Errorf("strays %v", strayed.seen)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := i.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	served.Wait()
}

func TestEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		echoes, deaf := 0, false
		i, _ := house(t, func(c *Config) {
			c.EchoInterval, c.EchoTimeout, c.EchoMisses = 30*time.Second, 10*time.Second, 3
			c.BackoffMin, c.BackoffMax = time.Nanosecond, time.Nanosecond
		}, func(p *peer) {
			for {
				m, err := p.read()
				if err != nil {
					return
				}
				info, _ := m.Int(70)
				mu.Lock()
				if info == echoTest {
					echoes++
				}
				silent := deaf && info != signOn
				mu.Unlock()
				if silent {
					continue
				}
				time.Sleep(20 * time.Millisecond)
				if p.write(answerTo(m, "00"), key1) != nil {
					return
				}
			}
		})
		up(t, i)
		count := func() int { mu.Lock(); defer mu.Unlock(); return echoes }
		time.Sleep(29 * time.Second)
		if count() != 0 {
			t.Error("an echo on a line that is not idle")
		}
		var ans spec.Message
		if err := i.Send(t.Context(), request(1), &ans); err != nil {
			t.Fatal(err)
		}
		time.Sleep(29 * time.Second)
		if count() != 0 {
			t.Error("traffic does not count as a sign of life")
		}
		time.Sleep(2 * time.Second)
		if st := i.State().Lines[0]; count() != 1 || st.LastEcho != 20*time.Millisecond || !st.SignedOn {
			t.Errorf("%d echoes, line %+v", count(), st)
		}
		mu.Lock()
		deaf = true
		mu.Unlock()
		time.Sleep(30*time.Second + 11*time.Second) // one missed
		if st := i.State().Lines[0]; st.SignedOn || st.EchoMisses != 1 || !st.Connected {
			t.Errorf("after one missed echo: %+v", st)
		}
		if err := i.Send(t.Context(), request(2), &ans); !errors.Is(err, ErrUnreachable) {
			t.Errorf("a line that missed an echo carries traffic: %v", err)
		}
		time.Sleep(5 * time.Second)
		mu.Lock()
		deaf = false // hears again before the second is missed: the third echo is answered
		mu.Unlock()
		time.Sleep(10 * time.Second)
		if st := i.State().Lines[0]; !st.SignedOn || st.EchoMisses != 0 || st.Drops != 0 {
			t.Errorf("after an answered echo: %+v", st)
		}
		mu.Lock()
		deaf = true
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		if st := i.State().Lines[0]; st.Drops == 0 {
			t.Errorf("three missed echoes and the line still stands: %+v", st)
		}
		mu.Lock()
		deaf = false
		mu.Unlock()
		time.Sleep(time.Minute)
		if !i.Up() {
			t.Errorf("the line did not come back: %+v", i.State())
		}
	})
}

func TestBackoffHasFullJitter(t *testing.T) {
	for attempt, ceiling := range []time.Duration{200, 400, 800, 1000, 1000} {
		low, high := time.Duration(1<<62), time.Duration(0)
		for range 2000 {
			d := backoff(200, 1000, attempt)
			low, high = min(low, d), max(high, d)
		}
		if high > ceiling || high < ceiling*9/10 || low > ceiling/10 {
			t.Errorf("attempt %d: %d to %d, want 0 to %d", attempt, low, high, ceiling)
		}
	}
	if d := backoff(time.Second, time.Minute, 4000); d > time.Minute {
		t.Errorf("after many attempts: %v", d)
	}
}

func TestLineComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int32
		i, _ := house(t, func(c *Config) {
			dial := c.Dial
			c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
				if dials.Add(1) <= 5 {
					return nil, errors.New("nobody listens")
				}
				return dial(ctx, addr)
			}
		}, honest)
		synctest.Wait()
		if i.Up() {
			t.Error("up without a connection")
		}
		up(t, i)
		if dials.Load() != 6 {
			t.Errorf("%d dials", dials.Load())
		}
		var ans spec.Message
		if err := i.Send(t.Context(), request(1), &ans); err != nil {
			t.Error(err)
		}
	})
}

func TestIssuerSpeaksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ask := make(chan int64)
		answers := make(chan string, 4)
		i, seen := house(t, func(c *Config) { c.BackoffMin, c.BackoffMax = time.Second, time.Second }, func(p *peer) {
			m, err := p.read()
			if err != nil || p.write(answerTo(m, "00"), nil) != nil {
				return
			}
			for info := range ask {
				m := new(spec.Message)
				m.Reset(spec.CUPS, 0x0820)
				m.SetInt(7, 1123101010)
				m.SetInt(11, 77)
				m.SetInt(70, info)
				if p.write(m, nil) != nil {
					return
				}
				if info == 999 {
					continue
				}
				a, err := p.read()
				if err != nil {
					answers <- err.Error()
					return
				}
				answers <- fmt.Sprint(a.MTI(), a.Text(11), a.Text(39), a.Text(70))
			}
		})
		up(t, i)
		ask <- echoTest
		if got := <-answers; got != "083000007700301" {
			t.Errorf("answer to an echo: %s", got)
		}
		ask <- 999
		synctest.Wait()
		if seen.count(Stranger) != 1 {
			t.Errorf("an unknown request: %v", seen.seen)
		}
		ask <- signOff
		if got := <-answers; got != "083000007700002" {
			t.Errorf("answer to a sign-off: %s", got)
		}
		close(ask)
		synctest.Wait()
		if i.Up() {
			t.Error("the issuer signed off and the line carries traffic")
		}
	})
}

// FuzzInbound throws bytes at a line that is signed on and has a request in
// flight: nothing panics, hangs or is taken for the answer.
func FuzzInbound(f *testing.F) {
	req := request(7)
	good := frame(answerTo(req, "00"), func(b []byte) [8]byte { return fakeMAC(2, b) })
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append(bytes.Clone(good), good...))
	f.Add(frame(keyMessage(spec.CUPS, 1, "2000000000000000", cryptogram(8, 2)), key1))
	f.Add([]byte{0x2E, 2, '0', '0', '4', '6'})
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			i, _ := house(t, func(c *Config) { c.Timeout = time.Second }, func(p *peer) {
				if _, err := p.welcome(nil); err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, p.r) }()
				_, _ = p.nc.Write(b)
			})
			up(t, i)
			var ans spec.Message
			if err := i.Send(t.Context(), request(7), &ans); !errors.Is(err, ErrUnanswered) {
				t.Errorf("%v after %x", err, b)
			}
		})
	})
}
