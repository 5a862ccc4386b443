package routing

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/spec"
)

// keyHouse is an issuer that sends keys when asked for them.
func keyHouse(p *peer, requests *[]string) {
	generation := byte(1)
	for {
		m, err := p.read()
		if err != nil {
			return
		}
		if info, _ := m.Int(70); m.MTI() != 0x0820 || info != keyReset {
			if m.MTI().IsResponse() {
				*requests = append(*requests, m.MTI().String()+" "+m.Text(39))
				continue
			}
			if p.write(answerTo(m, "00"), func(b []byte) [8]byte { return fakeMAC(uint32(generation), b) }) != nil {
				return
			}
			continue
		}
		control := m.Text(53)
		*requests = append(*requests, control)
		if p.write(answerTo(m, "00"), nil) != nil {
			return
		}
		key := cryptogram(16, 1)
		if KeyUse(control[0]) == ZAK {
			key = cryptogram(8, generation)
		}
		if p.write(keyMessage(spec.CUPS, 5, control, key), func(b []byte) [8]byte { return fakeMAC(uint32(generation), b) }) != nil {
			return
		}
	}
}

func TestKeysComeBeforeTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := new(fakeKeys)
		var requests []string
		i, _ := house(t, func(c *Config) { c.Keys = keys }, func(p *peer) { keyHouse(p, &requests) })
		up(t, i)
		synctest.Wait()
		want := []string{"2000000000000000", "0810 00", "1600000000000000", "0810 00"}
		if len(requests) != 4 || requests[0] != want[0] || requests[1] != want[1] || requests[2] != want[2] || requests[3] != want[3] {
			t.Errorf("exchange was %q, want %q", requests, want)
		}
		var ans spec.Message
		if err := i.Send(t.Context(), request(1), &ans); err != nil {
			t.Error(err)
		}
		requests = nil
		if err := i.RequestKeys(t.Context(), ZPK); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(requests) != 2 || requests[0] != want[2] {
			t.Errorf("asking again: %q", requests)
		}
	})
}

func TestNoKeysNoTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, _ := house(t, func(c *Config) {
			c.Keys = new(fakeKeys)
			c.BackoffMin, c.BackoffMax = time.Hour, time.Hour
		}, func(p *peer) { // promises keys and sends none
			for {
				m, err := p.read()
				if err != nil || p.write(answerTo(m, "00"), nil) != nil {
					return
				}
			}
		})
		time.Sleep(time.Minute)
		if st := i.State(); st.Up() || st.KeysReady || st.Lines[0].LastError == "" {
			t.Errorf("%+v", st)
		}
		var ans spec.Message
		if err := i.Send(t.Context(), request(1), &ans); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
		if err := i.RequestKeys(t.Context(), ZAK); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
	})
}

// TestRollInFlight is fault 18: a request goes out under the old key, the key
// rolls, the answer comes under the old one and is good. What is sent after the
// roll is not answered under the old key.
func TestRollInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := key1, func(b []byte) [8]byte { return fakeMAC(2, b) }
		i, seen := house(t, func(c *Config) { c.Timeout = 5 * time.Second }, func(p *peer) {
			first, err := p.welcome(nil)
			if err != nil || p.write(keyMessage(spec.CUPS, 5, "2000000000000000", cryptogram(8, 2)), next) != nil {
				return
			}
			if a, err := p.read(); err != nil || a.MTI() != 0x0810 || a.Text(39) != "00" {
				t.Errorf("answer to the new key: %v %v", a, err)
				return
			} else if block, mac := spec.SignedPart(a.Raw()); string(mac) != func() string { m := next(block); return string(m[:]) }() {
				t.Error("the 0810 is not signed with the new key")
			}
			_ = p.write(answerTo(first, "00"), old)
			second, err := p.welcome(nil)
			if err != nil {
				return
			}
			_ = p.write(answerTo(second, "00"), old)
			_ = p.write(answerTo(second, "05"), next)
			for err == nil { // the wrong MAC makes the house ask for keys, which do not come
				_, err = p.read()
			}
		})
		up(t, i)
		var ans spec.Message
		if err := i.Send(t.Context(), request(1), &ans); err != nil {
			t.Errorf("in flight at the roll: %v", err)
		}
		if err := i.Send(t.Context(), request(2), &ans); err != nil || ans.Text(39) != "05" {
			t.Errorf("after the roll: %v, %s", err, ans.Text(39))
		}
		if seen.count(BadMAC) != 1 || seen.total() != 1 {
			t.Errorf("strays %v", seen.seen)
		}
	})
}

func TestRefusedKeys(t *testing.T) {
	bad := cryptogram(8, 2)
	bad[1] = 0xFF
	next := func(b []byte) [8]byte { return fakeMAC(2, b) }
	long := keyMessage(spec.CUPS, 5, "2600000000000000", cryptogram(16, 2))
	long.Unset(48)
	long.Set(48, "NK12")
	for _, c := range []struct {
		name string
		m    *spec.Message
		mac  func([]byte) [8]byte
		code string
	}{
		{"double length", keyMessage(spec.CUPS, 5, "2600000000000000", cryptogram(16, 2)), next, "00"},
		{"MAC of the old key", keyMessage(spec.CUPS, 5, "2000000000000000", cryptogram(8, 2)), key1, "A0"},
		{"no MAC", keyMessage(spec.CUPS, 5, "2000000000000000", cryptogram(8, 2)), nil, "A0"},
		{"neither PIN nor MAC key", keyMessage(spec.CUPS, 5, "3000000000000000", cryptogram(8, 2)), next, "30"},
		{"no key", long, next, "30"},
		{"HSM refuses", keyMessage(spec.CUPS, 5, "2000000000000000", bad), next, "96"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				keys := readyKeys()
				answered := make(chan string, 1)
				i, _ := house(t, func(cfg *Config) { cfg.Keys = keys }, func(p *peer) {
					m, err := p.read()
					if err != nil || p.write(answerTo(m, "00"), nil) != nil || p.write(c.m, c.mac) != nil {
						return
					}
					a, err := p.read()
					for err == nil && a.MTI() != 0x0810 { // the house asks for keys meanwhile
						a, err = p.read()
					}
					if err == nil {
						select {
						case answered <- a.MTI().String() + a.Text(39):
						default: // of a later line
						}
					}
					for err == nil { // the line stays up
						_, err = p.read()
					}
				})
				up(t, i)
				code := <-answered
				if code != "0810"+c.code {
					t.Errorf("answered %s, want 0810 %s", code, c.code)
				}
				keys.mu.Lock()
				defer keys.mu.Unlock()
				if rolled := keys.zak == 2; rolled != (c.code == "00") {
					t.Errorf("generation %d after %s", keys.zak, code)
				}
			})
		})
	}
	t.Run("without keys", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			codes := make(chan string, 1)
			i, _ := house(t, func(cfg *Config) { cfg.Keys = nil }, func(p *peer) {
				m, err := p.read()
				if err != nil || p.write(answerTo(m, "00"), nil) != nil || p.write(keyMessage(spec.CUPS, 5, "2000000000000000", cryptogram(8, 2)), next) != nil {
					return
				}
				if a, err := p.read(); err == nil {
					codes <- a.Text(39)
				}
				honest(p)
			})
			up(t, i)
			if got := <-codes; got != "40" {
				t.Errorf("answered %s", got)
			}
			if err := i.RequestKeys(t.Context(), ZPK); err == nil {
				t.Error("asked for keys without keys")
			}
			var ans spec.Message
			if err := i.Send(t.Context(), request(1), &ans); err != nil {
				t.Error(err)
			}
		})
	})
}

// An issuer that was away may have lost its keys: it is asked for new ones
// when it comes back, and not while another line stands.
func TestKeysAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := 0
		var peers []*peer
		i, _ := house(t, func(c *Config) {
			c.Addrs = []string{"a", "b"}
			c.BackoffMin, c.BackoffMax = time.Second, time.Second
		}, func(p *peer) {
			mu.Lock()
			peers = append(peers, p)
			mu.Unlock()
			_, _ = p.welcome(func(info int64) {
				mu.Lock()
				defer mu.Unlock()
				if info == keyReset {
					asked++
				}
			})
		})
		drop := func(n int) {
			mu.Lock()
			for _, p := range peers[:n] {
				_ = p.nc.Close()
			}
			peers = peers[n:]
			mu.Unlock()
			synctest.Wait()
		}
		count := func() int { mu.Lock(); defer mu.Unlock(); return asked }
		upWhole(t, i)
		if count() != 0 {
			t.Errorf("%d requests for keys that are there from the start", count())
		}
		drop(1)
		upWhole(t, i)
		if count() != 0 {
			t.Errorf("%d requests though a line stood all the time", count())
		}
		drop(2)
		upWhole(t, i)
		if count() != 2 {
			t.Errorf("%d requests after an outage, want 2", count())
		}
	})
}

// When a MAC is wrong on either side, the issuer is asked for new keys, at most
// once in a while.
func TestDoubtfulKeys(t *testing.T) {
	for name, bad := range map[string]func(p *peer, m *spec.Message) error{
		"answer with another MAC": func(p *peer, m *spec.Message) error {
			return p.write(answerTo(m, "00"), func(b []byte) [8]byte { return fakeMAC(9, b) })
		},
		"answer A0":                 func(p *peer, m *spec.Message) error { return p.write(answerTo(m, "A0"), key1) },
		"A0 of one who has no keys": func(p *peer, m *spec.Message) error { return p.write(answerTo(m, "A0"), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				asked := 0
				i, _ := house(t, func(c *Config) { c.Timeout = time.Second }, func(p *peer) {
					for {
						m, err := p.welcome(func(info int64) {
							mu.Lock()
							defer mu.Unlock()
							if info == keyReset {
								asked++
							}
						})
						if err != nil || bad(p, m) != nil {
							return
						}
					}
				})
				up(t, i)
				for stan := range uint32(5) {
					var ans spec.Message
					if err := i.Send(t.Context(), request(stan+1), &ans); err != nil && !errors.Is(err, ErrUnanswered) {
						t.Error(err)
					}
				}
				synctest.Wait()
				mu.Lock()
				if asked != 2 {
					t.Errorf("%d requests for keys, want 2", asked)
				}
				mu.Unlock()
				time.Sleep(2 * keyPause)
				mu.Lock()
				defer mu.Unlock()
				if asked != 4 {
					t.Errorf("%d requests for keys after a pause, want 4", asked)
				}
			})
		})
	}
}

// One line asks for the keys, the others wait for it.
func TestLinesShareTheirKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked := 0
		i, _ := house(t, func(c *Config) { c.Keys, c.Addrs = new(fakeKeys), []string{"a", "b", "c"} }, func(p *peer) {
			var requests []string
			keyHouse(p, &requests)
			mu.Lock()
			defer mu.Unlock()
			for _, r := range requests {
				if len(r) == 16 {
					asked++
				}
			}
		})
		upWhole(t, i)
		if err := i.Close(context.Background()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if asked != 2 {
			t.Errorf("%d key requests from three lines, want 2", asked)
		}
	})
}
