package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"acquirer/journal"
	"acquirer/ledger"
	"acquirer/merchant"
	"acquirer/money"
	"acquirer/simulate/card"
	"acquirer/simulate/issuer"
	"acquirer/simulate/terminal"
	"acquirer/simulate/wallet"
	"acquirer/spec/jbig"
	"acquirer/store"
	"acquirer/store/storetest"
)

// TestCrash kills the running program with kill -9 under load, again and
// again, and starts it on the database it left. When everything has come to
// rest, terminals, journal and issuers must agree on every transaction.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		name     string
		database func(t *testing.T) string
		kills    int
	}{
		{"sqlite", func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "crash.db") }, 10},
		{"postgres", func(t *testing.T) string { return storetest.PostgresURL(t) }, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			kills := c.kills
			if testing.Short() {
				kills = 2
			}
			crash(t, c.database(t), kills)
		})
	}
}

// badWallets is what the wallets have meanwhile.
var badWallets = simwallet.Weather{Delay: time.Millisecond, Jitter: 25 * time.Millisecond, Drop: 0.02, Lost: 0.02, Silent: 0.02, Failed: 0.05, LostCancels: 0.05, DeafCancels: 0.05}

// badWeather is what the issuers have while the house crashes.
var badWeather = issuer.Weather{Delay: time.Millisecond, Jitter: 25 * time.Millisecond, Drop: 0.003, Lost: 0.006, Silent: 0.012, Late: 0.006, Twice: 0.03, Declined: 0.05,
	LostReversals: 0.05, DeafReversals: 0.05}

const (
	crashTerminals     = 24
	crashIssuerTimeout = time.Second
	crashTimeout       = 4 * time.Minute // for anything to happen at all
)

// crashSeed is from the clock, or from ACQUIRER_TEST_SEED to have a run's
// random choices again (not its timing).
func crashSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ACQUIRER_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("ACQUIRER_TEST_SEED: %v", err)
		}
	}
	t.Logf("seed %d", seed)
	return seed
}

func crash(t *testing.T, database string, kills int) {
	seed := crashSeed(t)
	s := openStreet(t, streetOf{database: database, seed: seed, limit: crashTimeout})
	defer s.close()
	rng := rand.New(rand.NewPCG(seed, 1))
	var inFlight []int64
	var took time.Duration // of the last start
	for i := range kills {
		p, began := s.start(), time.Now()
		s.awaitListening(p)
		took = time.Since(began)
		// Somewhere in the next sales, and somewhere within one.
		s.awaitSales(int64(crashTerminals + rng.IntN(6*crashTerminals)))
		<-time.After(upTo(rng, 30*time.Millisecond))
		inFlight = append(inFlight, s.crash(p))
		if i != kills/2 {
			continue
		}
		// The next start does not get far either: it dies while it recovers
		// what this one left, before or just after it listens.
		for range 3 {
			p := s.start()
			select {
			case <-p.ended:
				t.Fatalf("it ended by itself: %v\n%s", p.err, p.stderr.tail(20))
			case <-time.After(upTo(rng, took+took/4)):
			}
			inFlight = append(inFlight, s.crash(p))
		}
	}
	p := s.start()
	s.awaitListening(p)
	s.awaitSales(crashTerminals)
	s.calm()
	s.awaitNothingOwed(p)
	if status := p.stop(t); status != 0 {
		t.Errorf("told to stop, it ended with status %d:\n%s", status, p.stderr.tail(20))
	}

	e, v := s.evidence()
	count := s.book.Count()
	t.Logf("%d kills, in flight at each %v; %d transactions at the terminals: %v; %d in the journal", len(inFlight), inFlight, len(e.told), count, len(e.journal))
	for _, status := range []terminal.Status{terminal.Approved, terminal.Declined, terminal.Reversed} {
		if count[status] == 0 {
			t.Errorf("nothing was %s: the test proves less than it should", status)
		}
	}
	endings := map[string]int{}
	for _, j := range e.journal {
		if j.Outcome != nil {
			endings[j.Outcome.Reason.String()]++
		}
	}
	t.Logf("in the journal's words: %v", endings)
	if endings[journal.Interrupted.String()] == 0 {
		t.Error("no kill met a transaction between open and close: the test proves less than it should")
	}
	e.holds(t, v, s.database)
	s.plantInCopy(e, v)
	if t.Failed() {
		t.Logf("the last of the log:\n%s", p.stderr.tail(40))
	}
}

// crashStreet is the world around a house that keeps crashing: issuers and
// terminals stay.
type crashStreet struct {
	t        *testing.T
	database string
	args     []string
	metrics  string // URL
	terminal string // address
	issuers  map[string]*issuer.Host
	wallets  *simwallet.Wallets
	codes    atomic.Int64 // payment codes that were shown
	stop     []func()

	book     terminal.Book
	sales    atomic.Int64 // begun
	inSale   atomic.Int64
	progress chan struct{} // a sale was begun

	mu      sync.Mutex
	open    chan struct{} // closed while the house listens, as far as anybody knows
	closing chan struct{} // closed when the terminals should come to rest
	working sync.WaitGroup
	ctx     context.Context
}

// streetOf is what a street is made of. Everything must be over within limit.
type streetOf struct {
	database string
	seed     uint64
	limit    time.Duration
	weather  *issuer.Weather                // badWeather when nil
	via      func(name, addr string) string // where the house finds an issuer that listens on addr; there when nil
	routes   string                         // the routing file; every card to its own issuer alone when empty
}

// openStreet starts four issuers, the wallets and the terminals; nobody serves
// them yet.
func openStreet(t *testing.T, of streetOf) *crashStreet {
	t.Helper()
	database, seed := of.database, of.seed
	if of.weather == nil {
		of.weather = &badWeather
	}
	ctx, cancel := context.WithTimeout(context.Background(), of.limit)
	s := &crashStreet{t: t, database: database, terminal: freeAddr(t), issuers: map[string]*issuer.Host{}, progress: make(chan struct{}, 1),
		open: make(chan struct{}), closing: make(chan struct{}), ctx: ctx, stop: []func(){cancel}}
	key, pass := masterKey(t)
	admin := freeAddr(t)
	s.metrics = "http://" + admin + "/metrics"
	s.args = []string{"serve", "--seed", "demo", "--database", database, "--hsm-file", key, "--hsm-passphrase-file", pass,
		"--terminals-listen", s.terminal, "--admin-listen", admin, "--console-listen", "",
		"--switch-issuer-timeout", crashIssuerTimeout.String(), "--owed-backoff", "100ms", "--owed-backoff-max", "1s", "--owed-max-attempts", "1000"}
	if of.routes != "" {
		file := filepath.Join(t.TempDir(), "routes.json")
		if err := os.WriteFile(file, []byte(of.routes), 0o600); err != nil {
			t.Fatal(err)
		}
		s.args = append(s.args, "--routing-rules", file)
	}
	for i, is := range simcard.Issuers {
		host, err := issuer.New(issuer.Config{Name: is.Name, Weather: *of.weather, Late: crashIssuerTimeout * 3 / 2, CalmAmounts: true, Seed: seed + uint64(i), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s.issuers[is.Name] = host
		addr := l.Addr().String()
		if of.via != nil {
			addr = of.via(is.Name, addr)
		}
		s.args = append(s.args, "--issuer", is.Name+"="+addr)
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := host.Serve(l); err != nil {
				t.Errorf("issuer %s: %v", is.Name, err)
			}
		})
		s.stop = append(s.stop, func() { host.Close(); serving.Wait() })
	}
	var err error
	if s.wallets, err = simwallet.Start("127.0.0.1:0", simwallet.Config{CalmAmounts: true, Weather: badWallets, Silence: 10 * time.Second, Seed: seed}); err != nil {
		t.Fatal(err)
	}
	s.stop = append(s.stop, func() {
		if err := s.wallets.Close(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("closing the wallets: %v", err)
		}
	})
	for _, name := range s.wallets.Names() {
		s.args = append(s.args, "--wallet", name+"="+s.wallets.URL(name))
	}
	for i := range crashTerminals {
		s.working.Go(func() { s.work(i, rand.New(rand.NewPCG(seed, uint64(100+i)))) })
	}
	s.stop = append(s.stop, func() { s.working.Wait() })
	return s
}

func (s *crashStreet) close() {
	for _, f := range s.stop { // first of all the context ends
		f()
	}
}

// start starts the house on its database.
func (s *crashStreet) start(env ...string) *process { return spawn(s.t, env, s.args...) }

// startUnder starts it under a tracer.
func (s *crashStreet) startUnder(tracer string, args ...string) *process {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	return spawned(s.t, nil, exec.Command(tracer, append(append(args, exe), s.args...)...))
}

// outlives waits until a process has ended by itself, and kills it when it has
// not within some time; meanwhile it may have served.
func (s *crashStreet) outlives(p *process, within time.Duration) {
	s.t.Helper()
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		if _, ok := p.stderr.await(s.ctx, `"msg":"listening"`); ok {
			s.opened()
		}
	}()
	select {
	case <-p.ended:
	case <-time.After(within):
		p.kill()
	}
	<-listening // the text has ended, if not before
	s.shut()
}

// crash kills it and returns how many terminals were waiting for an answer.
func (s *crashStreet) crash(p *process) (inFlight int64) {
	s.shut()
	inFlight = s.inSale.Load()
	p.kill()
	return inFlight
}

// shut says that nobody listens any more.
func (s *crashStreet) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.open:
		s.open = make(chan struct{})
	default:
	}
}

func (s *crashStreet) awaitListening(p *process) {
	s.t.Helper()
	if _, ok := p.stderr.await(s.ctx, `"msg":"listening"`); !ok {
		s.t.Fatalf("it does not listen:\n%s", p.stderr.tail(20))
	}
	s.opened()
}

// opened says that it listens.
func (s *crashStreet) opened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.open)
}

// awaitSales waits until n more sales have begun.
func (s *crashStreet) awaitSales(n int64) {
	s.t.Helper()
	for until := s.sales.Load() + n; s.sales.Load() < until; {
		select {
		case <-s.progress:
		case <-s.ctx.Done():
			s.t.Fatalf("no more sales: %v", s.ctx.Err())
		}
	}
}

// awaitOpen waits until the house listens, and reports whether to go on.
func (s *crashStreet) awaitOpen() bool {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	select {
	case <-open:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// work is one terminal's life. The state that would survive a power cut is all
// that passes from one terminal.Terminal to the next.
func (s *crashStreet) work(i int, rng *rand.Rand) {
	tid, mid := simcard.SeedTerminal(i)
	var cards []*simcard.Card
	for j, is := range simcard.Issuers {
		c, err := simcard.New(is.PAN(i*10 + j))
		if err != nil {
			s.t.Error(err)
			return
		}
		cards = append(cards, c)
	}
	var kept terminal.State
	for s.awaitOpen() {
		term, err := terminal.New(terminal.Config{TID: tid, MID: mid, TMK: simcard.TestTMK(tid), Dial: abrupt(terminal.DialTCP(s.terminal, nil)),
			Timeout: 20 * time.Second, KeepSlips: true, State: kept, Save: func(st terminal.State) error { kept = st; return nil }, Book: &s.book})
		if err != nil {
			s.t.Error(err)
			return
		}
		rest := s.shift(term, cards, rng)
		if err := term.Close(); err != nil {
			s.t.Errorf("terminal %s: %v", tid, err)
		}
		if rest {
			return
		}
	}
	s.t.Errorf("terminal %s did not come to rest", tid)
}

// abrupt makes a line that ends at once when its terminal hangs up, so that the
// house knows that its answer did not arrive.
func abrupt(dial terminal.Dialer) terminal.Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if c, ok := conn.(*net.TCPConn); ok && err == nil {
			err = c.SetLinger(0)
		}
		return conn, err
	}
}

// shift signs in, reverses what an earlier shift left pending and sells, until
// the house is gone or the day is over and nothing is pending. After a crash
// some terminals only dial again, others lose their power too.
func (s *crashStreet) shift(term *terminal.Terminal, cards []*simcard.Card, rng *rand.Rand) (rest bool) {
	if err := term.SignIn(s.ctx); err != nil {
		return false
	}
	for {
		select {
		case <-s.closing:
			if !term.Pending() {
				return true
			}
			if _, err := term.Reverse(s.ctx, terminal.Reversal{}); err == nil {
				return true
			}
			return false
		case <-s.ctx.Done():
			return false
		default:
		}
		var err error
		switch rng.IntN(50) {
		case 0:
			_, err = term.Settle(s.ctx)
		case 1:
			_, err = term.DownloadParameters(s.ctx)
		default:
			err = s.sell(term, cards[rng.IntN(len(cards))], rng)
		}
		switch {
		case err == nil:
		case errors.Is(err, terminal.ErrDial):
			return false
		case errors.Is(err, terminal.ErrLine) && rng.IntN(2) == 0:
			return false // a power cut
		case errors.Is(err, terminal.ErrLine):
			if !s.awaitOpen() {
				return false
			}
		}
	}
}

// sell asks for one transaction: mostly a sale with a card, now and then of an
// amount that comes up against the day's limits, or with a payment code; and
// now and then the terminal does something wrong.
func (s *crashStreet) sell(term *terminal.Terminal, c *simcard.Card, rng *rand.Rand) error {
	x := terminal.Transaction{Kind: terminal.KindSale, Card: c, Amount: money.Amount(500 + rng.IntN(40_000)), Entry: terminal.Stripe, PIN: c.PIN}
	if simcard.HasChip(c.PAN.Reveal()) {
		x.Entry = terminal.Chip
	}
	switch rng.IntN(10) {
	case 0:
		wallets := s.wallets.Names()
		x = terminal.Transaction{Kind: terminal.KindQRSale, Amount: money.Amount(100 + rng.IntN(4_000))}
		n := int(s.codes.Add(1))
		x.PayCode = terminal.PayCode(wallets[n%len(wallets)], n)
	case 1:
		x.Amount = money.Yuan(int64(10_000 + rng.IntN(39_000)))
	}
	switch rng.IntN(60) {
	case 0:
		x.Fault = &terminal.Fault{DropAnswer: true}
	case 1, 2, 3:
		x.Fault = &terminal.Fault{HangUp: true}
	case 4:
		x.Fault = &terminal.Fault{WrongMAC: true}
	case 5:
		x.Fault = &terminal.Fault{NoMAC: true}
	}
	s.inSale.Add(1)
	defer s.inSale.Add(-1)
	s.sales.Add(1)
	select {
	case s.progress <- struct{}{}:
	default:
	}
	res, err := term.Transact(s.ctx, x)
	if slips := term.Slips(); err == nil && res.Code == "00" && x.Card != nil && len(slips) > 0 && rng.IntN(20) == 0 {
		_, err = term.Sign(s.ctx, slips[len(slips)-1], autograph)
		if refused := (*terminal.Refusal)(nil); errors.As(err, &refused) {
			err = nil // its sale was taken back meanwhile
		}
	}
	return err
}

// autograph is what cardholders sign with.
var autograph = jbig.Encode(jbig.New(64, 32), jbig.Options{TwoLine: true, Typical: true, Lines: 128})

// calm ends the storm and waits until every terminal has come to rest.
func (s *crashStreet) calm() {
	s.t.Helper()
	for _, host := range s.issuers {
		if err := host.SetWeather(issuer.Weather{}); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := s.wallets.SetWeather(simwallet.Weather{}); err != nil {
		s.t.Fatal(err)
	}
	close(s.closing)
	s.working.Wait()
}

// awaitNothingOwed looks at the metrics until nothing is in flight and nothing
// owed. The house counts what it owes every second, so it must be nothing for
// longer than that. An issuer's 25 becomes final only when nothing of the
// original can be on its way any more: half a minute passes here.
func (s *crashStreet) awaitNothingOwed(p *process) {
	s.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var since time.Time
	for {
		m, err := scrape(s.ctx, s.metrics)
		switch {
		case err != nil:
			s.t.Fatalf("%v\n%s", err, p.stderr.tail(20))
		case m[`acquirer_owed{state="manual"}`] > 0:
			s.t.Fatalf("a reversal was given up:\n%s", p.stderr.tail(20))
		case m[`acquirer_owed{state="due"}`] > 0 || m["acquirer_transactions_in_flight"] > 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > 2500*time.Millisecond:
			for name, value := range m {
				if strings.HasPrefix(name, "acquirer_invariant_violations_total") && value > 0 {
					s.t.Errorf("%s is %v", name, value)
				}
			}
			return
		}
		select {
		case <-tick.C:
		case <-p.ended:
			s.t.Fatalf("it ended by itself: %v\n%s", p.err, p.stderr.tail(20))
		case <-s.ctx.Done():
			s.t.Fatalf("%v reversals are still owed\n%s", m[`acquirer_owed{state="due"}`], p.stderr.tail(20))
		}
	}
}

// scrape reads metrics in the text format, by name and labels.
func scrape(ctx context.Context, url string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	m := map[string]float64{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("%s: line %q", url, line)
		}
		if m[line[:i]], err = strconv.ParseFloat(line[i+1:], 64); err != nil {
			return nil, fmt.Errorf("%s: line %q: %w", url, line, err)
		}
	}
	return m, lines.Err()
}

// evidence reads what the three parties have, and the house's books.
func (s *crashStreet) evidence() (evidence, *house) {
	s.t.Helper()
	v := openForReading(s.t, s.database)
	entries, err := readJournal(s.t.Context(), v.journal)
	if err != nil {
		s.t.Fatal(err)
	}
	e := evidence{told: s.book.Records(), journal: entries, issuers: map[string][]issuer.Entry{}}
	for name, host := range s.issuers {
		e.issuers[name] = host.Books()
	}
	e.addWallets(s.wallets.Orders())
	return e, v
}

// holds runs every check there is, and each on planted lies too.
func (e evidence) holds(t *testing.T, v *house, database string) {
	t.Helper()
	for _, found := range append(append(e.violations(), e.always()...), e.atRest(v.terminals)...) {
		t.Error(found)
	}
	booksAgree(t, v, e.journal)
	e.provesItself(t)
	e.provesTheRest(t, v.terminals)
	e.nothingSensitive(t, database)
}

// openForReading opens the database of a house that has stopped, without its
// HSM, its lines and its listeners.
func openForReading(t *testing.T, database string) *house {
	t.Helper()
	db, err := store.Open(t.Context(), database, schemas()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing the database: %v", err)
		}
	})
	v := &house{db: db, journal: journal.New(db, nil), ledger: ledger.New(db)}
	v.cfg.Switch.CutOff = 23 * time.Hour
	if v.terminals, err = merchant.OpenRegistry(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if v.books, err = v.openBooks(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return v
}

// plantInCopy loses one approved outcome in the database itself and looks
// whether that is seen: by the evidence, and by the journal's own check, which
// misses the ledger's source.
func (s *crashStreet) plantInCopy(e evidence, v *house) {
	s.t.Helper()
	if err := v.db.Write(s.t.Context(), func(tx store.Tx) error {
		_, entry, _, _ := e.anApproval(s.t)
		n, err := tx.Exec("delete from outcome where txn = $1", e.journal[entry].ID)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d outcomes deleted", n)
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	entries, err := readJournal(s.t.Context(), v.journal)
	if err != nil {
		s.t.Fatal(err)
	}
	e.journal = entries
	if found := strings.Join(e.violations(), "\n"); !strings.Contains(found, "I1") || !strings.Contains(found, "is open in the journal") {
		s.t.Errorf("an outcome was deleted from the database and found is only %q", found)
	}
}

// upTo is a random time, less than d.
func upTo(rng *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(d)))
}
