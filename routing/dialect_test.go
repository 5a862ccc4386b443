package routing

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"acquirer/spec"
)

// plain gives a dialect by name, or iso87-ascii with changes as an operator's
// file would have them.
func plain(t testing.TB, name string, changes ...string) *spec.Dialect {
	t.Helper()
	d, err := spec.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	if changes == nil {
		return d
	}
	text := string(d.File())
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("%s has no %s", name, changes[i])
		}
		if changes[i] == noRules {
			text = text[:strings.Index(text, noRules)] + "\n}"
			continue
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	if d, err = spec.ReadDialect("own.json", []byte(text)); err != nil {
		t.Fatal(err)
	}
	return d
}

// noRules, changed to anything, takes the presence rules away, which are behind
// everything else.
const noRules = ",\n  \"presence\""

// own is a dialect that only a file has: other framing, bitmap and MAC.
func own(t testing.TB) *spec.Dialect {
	return plain(t, "iso87-ascii", `"iso87-ascii"`, `"own"`, `"bitmap": "binary"`, `"bitmap": "hex"`, `"alg": "x919", "fields": [64, 128]`, `"alg": "cmac", "fields": [128]`,
		`{"length_bytes": 2, "length_encoding": "binary", "tpdu": false, "header": 0}`, `{"length_bytes": 4, "length_encoding": "ascii", "tpdu": true, "header": 3}`)
}

// Every dialect: sign-on, keys, an answer with another RRN and the right one, a
// new key and an echo of the issuer's, and an answer under the new key.
func TestLinesInEveryDialect(t *testing.T) {
	for _, d := range []*spec.Dialect{spec.CUPS, plain(t, "iso87-ascii"), plain(t, "iso87-bcd"), own(t)} {
		t.Run(d.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key2 := func(b []byte) [8]byte { return fakeMAC(2, b) }
				var managed []int64
				i, seen := house(t, func(c *Config) { c.Dialect, c.Keys = d, &fakeKeys{} }, func(p *peer) {
					first, err := p.welcome(func(info int64) { managed = append(managed, info) })
					if err != nil {
						return
					}
					other := answerTo(first, "00")
					other.Set(37, "NOBODYSRRN00")
					_ = p.write(other, key1)
					_ = p.write(answerTo(first, "05"), key1)
					if err := p.write(keyMessage(d, 9, "2600000000000000", cryptogram(16, 2)), key2); err != nil {
						return
					}
					a, err := p.read()
					if err != nil || a.MTI() != 0x0810 || a.Text(39) != "00" || a.Text(11) != "000009" {
						t.Errorf("answer to a key: %v, %v %s", err, a.MTI(), a.Text(39))
						return
					}
					echo := new(spec.Message)
					echo.Reset(d, managementMTI(d))
					echo.SetInt(11, 12)
					echo.SetInt(70, echoTest)
					_ = p.write(echo, nil)
					if a, err := p.read(); err != nil || a.MTI() != managementMTI(d).Response() || a.Text(39) != "00" || a.Text(70) != "301" {
						t.Errorf("answer to an echo: %v, %v", err, a.MTI())
					}
					for {
						m, err := p.welcome(nil)
						if err != nil || p.write(answerTo(m, "00"), key2) != nil {
							return
						}
					}
				})
				up(t, i)
				var ans spec.Message
				if err := i.Send(t.Context(), requestIn(d, 1), &ans); err != nil || ans.Text(39) != "05" {
					t.Errorf("%v, answered %s", err, ans.Text(39))
				}
				synctest.Wait()
				if err := i.Send(t.Context(), requestIn(d, 2), &ans); err != nil || ans.Text(39) != "00" {
					t.Errorf("under the new key: %v, answered %s", err, ans.Text(39))
				}
				if seen.count(Mismatch) != 1 || seen.total() != 1 {
					t.Errorf("strays %v", seen.seen)
				}
				if len(managed) != 3 || managed[0] != signOn || managed[1] != keyReset || managed[2] != keyReset {
					t.Errorf("network management %v", managed)
				}
			})
		})
	}
}

// What stands before a message is configured; what an answer has there is its
// sender's matter.
func TestHeadOfAFrame(t *testing.T) {
	d := own(t)
	head, _ := hex.DecodeString("6000030000" + "414243")
	synctest.Test(t, func(t *testing.T) {
		got := make([]byte, 4+8)
		i, _ := house(t, func(c *Config) {
			c.Dialect, c.Head = d, head
		}, func(p *peer) {
			b, err := p.r.Peek(len(got))
			if err != nil {
				return
			}
			copy(got, b)
			honest(p)
		})
		up(t, i)
		if string(got[4:]) != string(head) {
			t.Errorf("a frame begins %x, want its length and %x", got, head)
		}
	})
	for _, c := range []struct {
		d    *spec.Dialect
		head []byte
		want string
	}{{d, head[:7], "a head of 7 bytes"}, {plain(t, "iso87-ascii"), head, "has 0"}, {spec.CUPS, head, "without the header of CUPS"}} {
		_, err := NewIssuer(Config{Name: "north", Addrs: []string{"x"}, Dialect: c.d, Head: c.head})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with head %x: %v, want %s", c.d.Name(), c.head, err, c.want)
		}
	}
}

// A dialect that cannot carry what goes to an issuer says so, all of it, before
// a line is dialled.
func TestDialectsThatCannotBeSpoken(t *testing.T) {
	for _, d := range []*spec.Dialect{spec.CUPS, plain(t, "iso87-ascii"), plain(t, "iso87-bcd"), own(t)} {
		if err := CheckDialect(d); err != nil {
			t.Error(err)
		}
	}
	const rrn = "\n    " + `{"field": 37, "name": "Retrieval reference number", "kind": "an", "length": 12},`
	for _, c := range []struct {
		name    string
		changes []string
		want    []string
	}{
		{"a field is missing", []string{rrn, "", noRules, ""}, []string{"DE 37 is not declared: the RRN"}},
		{"two are", []string{rrn, "", `{"field": 90, "name": "Original data elements", "kind": "n", "length": 42},`, "", noRules, ""}, []string{"DE 37 is not declared", "DE 90 is not declared: the original"}},
		{"no keys", []string{`"keys": {"field": 48},`, ""}, []string{"keys does not say which field carries zone keys"}},
		{"the MAC of terminals", []string{`"alg": "x919"`, `"alg": "unionpay"`}, []string{"want x919 or cmac"}},
		{"a MAC before the end", []string{`"fields": [64, 128]}`, `"fields": [64]}`}, []string{"behind DE 70 and 90"}},
		{"too short", []string{`"name": "Card acceptor identification code", "kind": "ans", "length": 15`, `"name": "Card acceptor identification code", "kind": "ans", "length": 8`}, []string{"a sale cannot be written", "DE 42"}},
		{"an unknown kind", []string{`{"message": "completion_notice", "mti": "0220", "processing": "00", "condition": "06"`, `{"message": "completion_notice", "mti": "0220", "processing": "99", "condition": "06"`}, []string{"a completion_notice (0220, DE 3 000000, DE 25 06) is, by its presence rules, "}},
		{"a rule that asks for more", []string{`"mti": "0620", "mac": true,` + "\n     " + `"mandatory": [11,`, `"mti": "0620", "mac": true,` + "\n     " + `"mandatory": [11, 24,`}, []string{"a script_result is sent with what it has, and the rule is: DE 24 is missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := CheckDialect(plain(t, "iso87-ascii", c.changes...))
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant %s", err, want)
				}
			}
		})
	}
	if err := CheckDialect(spec.UnionPayPOS); err == nil || !strings.Contains(err.Error(), "UnionPay's terminals") {
		t.Errorf("unionpay-pos: %v", err)
	}
}

// FuzzInboundPlain is FuzzInbound over a dialect without the header of CUPS.
func FuzzInboundPlain(f *testing.F) {
	d := own(f)
	good := frame(answerTo(requestIn(d, 7), "00"), func(b []byte) [8]byte { return fakeMAC(2, b) })
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append(bytes.Clone(good), good...))
	f.Add(frame(keyMessage(d, 1, "2600000000000000", cryptogram(16, 2)), key1))
	f.Add([]byte("0000"))
	f.Add([]byte("9999"))
	f.Add([]byte("0008\x60\x00\x00\x00\x00ABC"))
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			i, _ := house(t, func(c *Config) { c.Dialect, c.Timeout = d, time.Second }, func(p *peer) {
				if _, err := p.welcome(nil); err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, p.r) }()
				_, _ = p.nc.Write(b)
			})
			up(t, i)
			var ans spec.Message
			if err := i.Send(t.Context(), requestIn(d, 7), &ans); !errors.Is(err, ErrUnanswered) {
				t.Errorf("%v after %x", err, b)
			}
		})
	})
}

// Many callers share a line of a dialect with other framing.
func TestBatchesInAPlainDialect(t *testing.T) {
	d := own(t)
	synctest.Test(t, func(t *testing.T) {
		i, seen := house(t, func(c *Config) { c.Dialect = d }, honest)
		up(t, i)
		var callers sync.WaitGroup
		for n := range uint32(50) {
			callers.Go(func() {
				var ans spec.Message
				if err := i.Send(context.Background(), requestIn(d, n+1), &ans); err != nil || ans.Text(11) == "" {
					t.Errorf("request %d: %v", n, err)
				}
			})
		}
		callers.Wait()
		if seen.total() != 0 {
			t.Errorf("strays %v", seen.seen)
		}
	})
}
