package routing

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"acquirer/money"
	"acquirer/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is the other end of one connection, played by the test.
type peer struct {
	nc net.Conn
	r  *bufio.Reader
	d  *spec.Dialect
}

func newPeer(nc net.Conn) *peer { return &peer{nc, bufio.NewReader(nc), spec.CUPS} }

// read gives the next message, or an error when the line has ended.
func (p *peer) read() (*spec.Message, error) {
	if !p.d.Framing().CUPS {
		fr := p.d.Frames()
		if err := fr.Wait(p.r); err != nil {
			return nil, err
		}
		n, err := fr.Length(p.r, 4096)
		if err != nil {
			return nil, err
		}
		f, err := fr.Body(p.r, make([]byte, n))
		if err != nil {
			return nil, err
		}
		m := new(spec.Message)
		return m, p.d.Parse(m, f.Body)
	}
	head := make([]byte, spec.CUPSHeaderSize)
	if _, err := io.ReadFull(p.r, head); err != nil {
		return nil, err
	}
	h, total, err := spec.ParseCUPSHeader(head)
	if err != nil {
		return nil, err
	}
	if h.Destination != "01020000" || h.Source != "08980000" {
		return nil, fmt.Errorf("header says %q to %q", h.Source, h.Destination)
	}
	body := make([]byte, total-spec.CUPSHeaderSize)
	if _, err := io.ReadFull(p.r, body); err != nil {
		return nil, err
	}
	m := new(spec.Message)
	return m, spec.CUPS.Parse(m, body)
}

// frame packs m with its header.
func frame(m *spec.Message, mac func(block []byte) [8]byte) []byte {
	d := m.Dialect()
	if mac != nil {
		m.SetBytes(MACField(d, m), make([]byte, 8))
	}
	body, err := m.Append(nil)
	if err != nil {
		panic(err)
	}
	if mac != nil {
		block, tail := spec.SignedPart(body)
		signed := mac(block)
		copy(tail, signed[:])
	}
	if !d.Framing().CUPS {
		out, err := d.AppendFrame(nil, [5]byte{0x60}, make([]byte, d.Framing().Header), m)
		if err != nil {
			panic(err)
		}
		copy(d.FrameBody(out), body)
		return out
	}
	out, err := spec.AppendCUPSHeader(nil, spec.CUPSHeader{Source: "01020000", Destination: "08980000"}, len(body))
	if err != nil {
		panic(err)
	}
	return append(out, body...)
}

func (p *peer) write(m *spec.Message, mac func([]byte) [8]byte) error {
	_, err := p.nc.Write(frame(m, mac))
	return err
}

// answerTo makes the answer of an ordinary issuer.
func answerTo(m *spec.Message, code string) *spec.Message {
	a := new(spec.Message)
	a.Reset(m.Dialect(), m.MTI().Response())
	a.Copy(m, 2, 3, 4, 7, 11, 12, 13, 18, 25, 32, 33, 37, 41, 42, 49, 53, 70, 100)
	a.Set(39, code)
	return a
}

// welcome answers network management, and requests for keys with keys of
// generation 1, until something else comes, which it returns. told hears of
// every management message; nil hears nothing.
func (p *peer) welcome(told func(info int64)) (*spec.Message, error) {
	for {
		m, err := p.read()
		if err != nil {
			return nil, err
		}
		if m.MTI() == 0x0810 {
			continue
		}
		if m.MTI() != managementMTI(p.d) {
			return m, nil
		}
		info, _ := m.Int(70)
		if told != nil {
			told(info)
		}
		if err := p.write(answerTo(m, "00"), nil); err != nil {
			return nil, err
		}
		if info != keyReset {
			continue
		}
		key := cryptogram(16, 1)
		if control := m.Text(53); control[0] == byte(ZAK) && control[1] == '0' {
			key = key[:8]
		}
		if err := p.write(keyMessage(p.d, 5, m.Text(53), key), key1); err != nil {
			return nil, err
		}
	}
}

// fakeKeys are zone keys that are numbers: a MAC is a hash over generation and
// block. It behaves as the Keys interface says.
type fakeKeys struct {
	mu      sync.Mutex
	zak     uint32 // generation; 0 before the first
	zpk     int
	failing error // of Sign
}

func fakeMAC(generation uint32, block []byte) (mac [8]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%d:", generation)
	h.Write(block)
	var sum [8]byte
	copy(sum[:], h.Sum(nil))
	return MACText(sum)
}

func (k *fakeKeys) Ready() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.zak > 0 && k.zpk > 0
}

func (k *fakeKeys) Sign(_ context.Context, block []byte) ([8]byte, uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return fakeMAC(k.zak, block), k.zak, k.failing
}

func (k *fakeKeys) Verify(_ context.Context, block, mac []byte, since uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for g := k.zak; g >= since && g+1 >= k.zak; g-- {
		want := fakeMAC(g, block)
		if subtle.ConstantTimeCompare(want[:], mac) == 1 {
			return nil
		}
	}
	return ErrMAC
}

func (k *fakeKeys) Newest(context.Context) (uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.zak, nil
}

// Exchange is that of a house of one node.
func (k *fakeKeys) Exchange(ctx context.Context, known uint32, ask func() error) error {
	if now, _ := k.Newest(ctx); now > known {
		return nil
	}
	return ask()
}

// Install takes the cryptogram's first byte for the new generation.
func (k *fakeKeys) Install(_ context.Context, r KeyReset) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	g := k.zak
	if r.Use == ZAK {
		g = uint32(r.Cryptogram[0])
	}
	if want := fakeMAC(g, r.Block); subtle.ConstantTimeCompare(want[:], r.MAC) != 1 {
		return ErrMAC
	}
	if r.Cryptogram[1] == 0xFF {
		return errors.New("the HSM is out of order")
	}
	if r.Use == ZAK {
		k.zak = g
	} else {
		k.zpk = int(r.Cryptogram[0])
	}
	return nil
}

func readyKeys() *fakeKeys { return &fakeKeys{zak: 1, zpk: 1} }

// keyMessage is an issuer's 0800 with a new key.
func keyMessage(d *spec.Dialect, stan int64, control string, cryptogram []byte) *spec.Message {
	m := new(spec.Message)
	m.Reset(d, 0x0800)
	m.SetInt(7, 1123101010)
	m.SetInt(11, stan)
	m.Set(33, "01020000")
	m.Set(53, control)
	m.SetInt(70, keyReset)
	SetZoneKey(m, cryptogram)
	return m
}

func cryptogram(n int, first byte) []byte {
	b := make([]byte, n)
	b[0] = first
	return b
}

// request is a purchase over 1.00 with the given STAN.
func request(stan uint32) *spec.Message { return requestIn(spec.CUPS, stan) }

func requestIn(d *spec.Dialect, stan uint32) *spec.Message {
	m := new(spec.Message)
	BuildRequest(d, m, &Request{
		Processing: "000000", Amount: money.Yuan(1), Sent: time.Now(), STAN: stan, RRN: fmt.Sprintf("R%011d", stan),
		EntryMode: "012", Condition: "00", Acquirer: "08980000", Forwarder: "08980000", Receiver: "01020000",
		Terminal: "10000001", Merchant: "898110054110001", Category: "5411",
	})
	return m
}

type strays struct {
	mu   sync.Mutex
	seen map[StrayKind]int
}

func (s *strays) observe(st Stray) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[StrayKind]int{}
	}
	s.seen[st.Kind]++
}

func (s *strays) count(k StrayKind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[k]
}

func (s *strays) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, v := range s.seen {
		n += v
	}
	return n
}

// house is an issuer's lines over pipes: every dial hands the other end to
// play in a goroutine of its own.
func house(t *testing.T, change func(*Config), play func(p *peer)) (*Issuer, *strays) {
	t.Helper()
	seen := new(strays)
	var peers sync.WaitGroup
	var cfg Config
	cfg = Config{
		Name: "north", Addrs: []string{"pipe"}, Institution: "01020000", Acquirer: "08980000",
		Keys: readyKeys(), Observe: seen.observe, Log: slog.New(slog.DiscardHandler),
		Dial: func(context.Context, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			peers.Go(func() {
				defer theirs.Close()
				p := newPeer(theirs)
				if cfg.Dialect != nil {
					p.d = cfg.Dialect
				}
				play(p)
			})
			return ours, nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	i, err := NewIssuer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		i.mu.Lock()
		closed := i.closing
		i.mu.Unlock()
		if !closed {
			if err := i.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		peers.Wait()
	})
	return i, seen
}

func up(t *testing.T, i *Issuer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := i.AwaitUp(ctx); err != nil {
		t.Fatalf("%v: %+v", err, i.State())
	}
}

// upWhole waits until every line carries traffic.
func upWhole(t *testing.T, i *Issuer) {
	t.Helper()
	for _, l := range i.links {
		for l.session.Load() == nil {
			time.Sleep(time.Millisecond)
		}
	}
}

// honest answers everything with 00 until the line ends.
func honest(p *peer) {
	for {
		m, err := p.welcome(nil)
		if err != nil {
			return
		}
		if p.write(answerTo(m, "00"), func(b []byte) [8]byte { return fakeMAC(1, b) }) != nil {
			return
		}
	}
}

func key1(block []byte) [8]byte { return fakeMAC(1, block) }
