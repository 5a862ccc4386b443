package routing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/spec"
)

// Keys are the zone keys shared with one issuer, kept in an HSM; the composition
// root implements it over hsm.HSM. All methods may be called concurrently.
//
// The nodes of a house share them: an issuer has one pair for the acquirer, and
// what one node receives is everybody's.
//
// A generation is a number that grows with every key that comes, to whichever
// node. An implementation keeps the ZAK before the current one, so that the
// answer to a request that was in flight at the roll still verifies.
type Keys interface {
	// Ready reports whether ZPK and ZAK are installed. Until it says so a line
	// asks the issuer for keys and carries no traffic.
	Ready() bool
	// Sign makes DE 128 over block, which is the message from its MTI up to
	// DE 128, under the current ZAK, in the eight bytes that go on the wire;
	// MACText is the usual form. It returns the generation that signed.
	Sign(ctx context.Context, block []byte) (mac [8]byte, generation uint32, err error)
	// Verify compares mac, in constant time, with what the current ZAK makes
	// of block, or any earlier one that is not older than generation: an
	// answer may be signed with the key of its request or a later one. It
	// returns an error that is ErrMAC when none fits.
	Verify(ctx context.Context, block, mac []byte, generation uint32) error
	// Install takes a key that the issuer sent under the zone master key, from
	// now on used for everything new. For a ZAK, reset.MAC must be right under
	// the new key itself, which proves that it arrived whole; for a ZPK, under
	// the current ZAK. Otherwise nothing changes and the error is ErrMAC.
	Install(ctx context.Context, reset KeyReset) error
	// Newest takes up keys that another node has received, and gives the
	// generation in use now, 0 before the first key.
	Newest(ctx context.Context) (generation uint32, err error)
	// Exchange calls ask, which has the issuer send new keys, unless keys newer
	// than generation known are there or come while it waits for its turn: one
	// node at a time is in ask.
	Exchange(ctx context.Context, known uint32, ask func() error) error
}

// ErrMAC says that a MAC is wrong.
var ErrMAC = errors.New("routing: MAC is wrong")

// KeyUse is which of the zone keys a key message is about, DE 53 digit 1.
type KeyUse byte

// The zone keys.
const (
	ZPK KeyUse = '1' // for PIN blocks
	ZAK KeyUse = '2' // for DE 128
)

func (u KeyUse) String() string {
	switch u {
	case ZPK:
		return "ZPK"
	case ZAK:
		return "ZAK"
	}
	return fmt.Sprintf("KeyUse(%q)", byte(u))
}

// KeyReset is a new zone key on its way in (0800, DE 70 = 101).
type KeyReset struct {
	Use        KeyUse
	Cryptogram []byte // 8 or 16 bytes, TDES ECB under the zone master key
	Block, MAC []byte // the message it came in, and its DE 128
}

// MACText is the form of DE 128 on the CUPS line: the first four bytes of the
// MAC as upper-case hexadecimal, as captured messages have it.
func MACText(mac [8]byte) (text [8]byte) {
	const hex = "0123456789ABCDEF"
	for i, b := range mac[:4] {
		text[2*i], text[2*i+1] = hex[b>>4], hex[b&15]
	}
	return text
}

// Network management information codes, DE 70.
const (
	signOn   = 1
	signOff  = 2
	keyReset = 101
	echoTest = 301
)

// RequestKeys asks the issuer for a new key (0820, DE 70 = 101) and waits
// until it has come (0800) and is installed.
func (i *Issuer) RequestKeys(ctx context.Context, use KeyUse) error {
	if i.cfg.Keys == nil {
		return errors.New("routing: issuer " + i.cfg.Name + " is configured without keys")
	}
	s := i.pick(0)
	if s == nil {
		return i.fail(false, NoLine, nil)
	}
	known, err := i.cfg.Keys.Newest(ctx)
	if err != nil {
		return err
	}
	return i.inTurn(ctx, s, func() error {
		return i.cfg.Keys.Exchange(ctx, known, func() error { return i.requestKey(ctx, s, use) })
	})
}

// inTurn is for what asks for keys: one goroutine of this node at a time.
func (i *Issuer) inTurn(ctx context.Context, s *session, do func() error) error {
	select {
	case i.keyTurn <- struct{}{}:
		defer func() { <-i.keyTurn }()
		return do()
	case <-s.gone:
		return s.cause()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (i *Issuer) requestKey(ctx context.Context, s *session, use KeyUse) error {
	installed := i.installed(use)
	if err := s.manage(ctx, keyReset, i.cfg.SignOnTimeout, use); err != nil {
		return fmt.Errorf("asking for a %s: %w", use, err)
	}
	late := time.NewTimer(i.cfg.SignOnTimeout)
	defer late.Stop()
	select {
	case <-installed:
		return nil
	case <-late.C:
		return fmt.Errorf("routing: issuer %s promised a %s and did not send it in %v", i.cfg.Name, use, i.cfg.SignOnTimeout)
	case <-s.gone:
		return s.cause()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// installed gives a channel that is closed when the next key of that use is in.
func (i *Issuer) installed(use KeyUse) <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := i.rolled[use]
	if c == nil {
		c = make(chan struct{})
		i.rolled[use] = c
	}
	return c
}

// obtainKeys brings keys over a line that has just signed on: the first ones,
// and new ones after every moment in which no line stood, since an issuer that
// was away may have lost its own. One line asks, the others wait for their turn
// and find the keys there; so do other nodes, whose keys are as good when they
// came after this line had signed on. When there are keys already and no new
// ones come, the old ones are tried.
func (s *session) obtainKeys(ctx context.Context) error {
	i := s.link.issuer
	if i.cfg.Keys == nil {
		return nil
	}
	known, unread := i.cfg.Keys.Newest(ctx)
	return i.inTurn(ctx, s, func() error {
		if i.keyed.Load() && i.cfg.Keys.Ready() {
			return nil
		}
		err := unread
		if err == nil {
			err = i.cfg.Keys.Exchange(ctx, known, func() error { return i.requestKeys(ctx, s) })
		}
		select {
		case <-s.gone:
			return s.cause()
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		if !i.cfg.Keys.Ready() {
			if err == nil {
				err = fmt.Errorf("routing: issuer %s sent its keys, and they are not complete", i.cfg.Name)
			}
			return err
		}
		if err != nil {
			i.log.Warn("no new zone keys; the old ones are tried", "line", s.link.number, "error", err)
		}
		i.keyed.Store(true)
		return nil
	})
}

// requestKeys asks for both keys; the ZAK first, since it proves the ZPK.
func (i *Issuer) requestKeys(ctx context.Context, s *session) error {
	for _, use := range []KeyUse{ZAK, ZPK} {
		if err := i.requestKey(ctx, s, use); err != nil {
			return err
		}
	}
	return nil
}

// doubtKeys says that a MAC was wrong on one side or the other, of a request
// that was signed with that generation: perhaps the issuer has other keys.
func (i *Issuer) doubtKeys(generation uint32) {
	select {
	case i.doubt <- generation:
	default:
	}
}

// keyPause is the least time between two requests for keys because of a doubt:
// wrong MACs can be made by anybody on the line.
const keyPause = 10 * time.Second

// keepKeys asks for new keys when there is a doubt about the old ones, unless
// others have come since.
func (i *Issuer) keepKeys(ctx context.Context) {
	for {
		var doubted uint32
		select {
		case doubted = <-i.doubt:
		case <-ctx.Done():
			return
		}
		asked := true
		if s := i.pick(0); s != nil {
			asked = false
			err := i.inTurn(ctx, s, func() error {
				return i.cfg.Keys.Exchange(ctx, doubted, func() error {
					asked = true
					i.log.Warn("a MAC was wrong; asking the issuer for new zone keys")
					return i.requestKeys(ctx, s)
				})
			})
			switch {
			case err != nil && ctx.Err() == nil:
				asked = true
				i.log.Error("no new zone keys", "error", err)
			case !asked:
				i.log.Info("a MAC was wrong; newer zone keys had come already")
			}
		}
		if !asked {
			continue
		}
		pause := time.NewTimer(keyPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// takeKey installs the key of an 0800. It returns what key came, 0 for none,
// and DE 39 of the 0810.
func (i *Issuer) takeKey(ctx context.Context, m *spec.Message) (came KeyUse, code string, err error) {
	if i.cfg.Keys == nil {
		return 0, "40", errors.New("a key reset for an issuer that is configured without keys")
	}
	reset := KeyReset{Cryptogram: ZoneKey(m)}
	if control := m.Text(53); control != "" {
		reset.Use = KeyUse(control[0])
	}
	if reset.Use != ZPK && reset.Use != ZAK {
		return 0, "30", errors.New("a key reset whose DE 53 names neither the PIN key nor the MAC key")
	}
	if n := len(reset.Cryptogram); n != 8 && n != 16 {
		return 0, "30", fmt.Errorf("a key reset with a %s of %d bytes; want 8 or 16, at CUPS 8 in DE 96 or 16 in DE 48 behind NK", reset.Use, n)
	}
	if !m.Has(MACField(i.speak.Dialect, m)) {
		return 0, "A0", ErrMAC
	}
	reset.Block, reset.MAC = spec.SignedPart(m.Raw())
	switch err := i.cfg.Keys.Install(ctx, reset); {
	case errors.Is(err, ErrMAC):
		return 0, "A0", fmt.Errorf("the new %s: %w", reset.Use, err)
	case err != nil:
		return 0, "96", fmt.Errorf("the new %s: %w", reset.Use, err)
	}
	i.met.rolled(reset.Use)
	i.log.Info("zone key installed", "use", reset.Use)
	return reset.Use, "00", nil
}

// keyCame tells whoever waits for a key of that use; 0 is none.
func (i *Issuer) keyCame(use KeyUse) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.rolled[use]; c != nil {
		close(c)
		delete(i.rolled, use)
	}
}
