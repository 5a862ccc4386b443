// Package simbank is the bank that pays merchants, simulated: an HTTP server
// with its own books that pays each reference once and misbehaves on request.
//
//	POST /v1/payouts               {"reference","amount","account","name","bank"}
//	GET  /v1/payouts/REFERENCE     404 with status NOT_FOUND when unknown
//	GET  /v1/changes?after=CURSOR  {"next","changes":[...]}
//	GET  /v1/credits?after=CURSOR  {"next","credits":[...]}: what others paid us
//	POST /v1/advance?days=N        moves the bank's day on
//	GET  /v1/statement             {"day","balance","paid","returned","payouts"}
//	POST /v1/receipts              {"reference","amount","account","twice"}: a network pays us
//	PUT  /v1/open?open=false       closes the counter; orders are answered 503 CLOSED
//
// A payout is {"reference","status","amount","bank_id","reason"}; the status is
// PROCESSING, SUCCEEDED, REJECTED or RETURNED; a credit is
// {"entry","reference","account","amount","booked"}, with twice in the list a
// second time. The last two digits of the
// account number choose the weather (Weather). With a folder it takes orders
// and gives answers as files too (Exchange).
package simbank

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/calendar"
	"acquirer/money"
)

// Weather is what an account's last two digits ask for.
type Weather string

// The weather. Any other digits are fair: SUCCEEDED at once.
const (
	Slow           Weather = "90" // SUCCEEDED, after Config.Slow
	Silent         Weather = "91" // paid, but the order is never answered
	Lost           Weather = "92" // the connection breaks and the order never arrived
	Late           Weather = "93" // PROCESSING; SUCCEEDED once asked for twice, or the next day
	Closed         Weather = "94" // REJECTED: the account is closed
	Bounces        Weather = "95" // SUCCEEDED, and RETURNED after Config.ReturnDays
	Repeats        Weather = "96" // SUCCEEDED, and every callback comes twice
	Breaks         Weather = "97" // paid, but the order is answered with HTTP 500
	LateNo         Weather = "98" // PROCESSING; REJECTED once asked for twice, or the next day
	Resurrects     Weather = "89" // REJECTED, and SUCCEEDED the next day after all
	SilentThenLate Weather = "99" // the order is never answered; PROCESSING until asked for twice, or the next day; then SUCCEEDED
)

// WeatherOf reads an account number.
func WeatherOf(account string) Weather {
	if len(account) < 2 {
		return ""
	}
	switch w := Weather(account[len(account)-2:]); w {
	case Resurrects, Slow, Silent, Lost, Late, Closed, Bounces, Repeats, Breaks, LateNo, SilentThenLate:
		return w
	}
	return ""
}

// Status is where a payout stands at the bank.
type Status string

// The statuses; NotFound answers an unknown reference.
const (
	Processing Status = "PROCESSING"
	Succeeded  Status = "SUCCEEDED"
	Rejected   Status = "REJECTED"
	Returned   Status = "RETURNED"
	NotFound   Status = "NOT_FOUND"
)

// Payout is one order on the bank's books.
type Payout struct {
	Reference string       `json:"reference"`
	Status    Status       `json:"status"`
	Amount    money.Amount `json:"amount"`
	BankID    string       `json:"bank_id"`
	Reason    string       `json:"reason,omitempty"`

	message             string // file that it came in; empty over HTTP
	account, name, bank string
	weather             Weather
	ordered             int // how often the order came
	asked               int // how often, while processing
	day                 int // the bank's day of its last change
}

// Account is the number that was to be paid.
func (p *Payout) Account() string { return p.account }

// Ordered is how often the order came; a careful sender sends it once.
func (p *Payout) Ordered() int { return p.ordered }

// Config of a bank.
type Config struct {
	Opening  money.Amount  // what the acquirer has on its account
	Slow     time.Duration // default 2 s
	Silence  time.Duration // longest a silent order holds its connection; default 1 minute
	Callback string        // URL that hears {"reference"} of every change; none when empty
	Secret   []byte        // signs callbacks: X-Signature t=UNIXTIME,v1=HEX, HMAC-SHA-256 of "UNIXTIME.BODY"
	// Opens and Closes are the counter's hours, times of day in Beijing; it never
	// closes when they are the same. Statuses and statements go on.
	Opens, Closes time.Duration
	ReturnDays    int    // until a payout comes back; default 1
	Folder        string // of files, with outbox and inbox as our side names them; none when empty
	OneSum        bool   // notifications in XML have a message's payouts as one sum, when none of them is in process any more
	Account       string // our account in statements; default 9999000000000001
	Limit         int    // orders the books take; default a million
}

// Bank is a running bank.
type Bank struct {
	cfg      Config
	listener net.Listener
	server   *http.Server
	quit     context.CancelFunc
	done     sync.WaitGroup
	failed   atomic.Pointer[error]
	news     chan string // references to call back about
	unheard  atomic.Int64

	mu        sync.Mutex
	day       int
	balance   money.Amount
	payouts   map[string]*Payout
	order     []*Payout
	changes   []Payout // as they were
	credits   []credit // as they are told
	opened    string   // when it did: its entries are no earlier bank's
	moves     []move   // on our account, in their order
	misstate  []Misstatement
	misstated []Misstated
	shut      bool // on request
	files     exchange
}

// move is a movement on our account.
type move struct {
	day    int
	credit bool
	amount money.Amount
	kind   string // payout, return or receipt
	ref    string
	bankID string
	reason string
	payer  string // account that a receipt came from

	message string // of a payout that came in a file
	orders  int    // above zero: the sum of so many of message
}

// Start opens a bank on an address; port 0 chooses one (Addr).
func Start(addr string, cfg Config) (*Bank, error) {
	if cfg.Slow == 0 {
		cfg.Slow = 2 * time.Second
	}
	if cfg.Silence == 0 {
		cfg.Silence = time.Minute
	}
	if cfg.Limit == 0 {
		cfg.Limit = 1_000_000
	}
	if cfg.ReturnDays == 0 {
		cfg.ReturnDays = 1
	}
	if cfg.Account == "" {
		cfg.Account = "9999000000000001"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("simbank: %w", err)
	}
	ctx, quit := context.WithCancel(context.Background())
	b := &Bank{cfg: cfg, listener: l, quit: quit, balance: cfg.Opening, opened: time.Now().In(calendar.Beijing).Format("060102150405"), payouts: map[string]*Payout{}, news: make(chan string, 1024)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/payouts", b.order1)
	mux.HandleFunc("GET /v1/payouts/{reference}", b.query)
	mux.HandleFunc("GET /v1/changes", b.feed)
	mux.HandleFunc("GET /v1/credits", b.creditFeed)
	mux.HandleFunc("POST /v1/advance", b.advance)
	mux.HandleFunc("GET /v1/statement", b.statement)
	mux.HandleFunc("POST /v1/misstate", b.misstateNext)
	mux.HandleFunc("GET /v1/misstated", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, b.Misstatements()) })
	mux.HandleFunc("POST /v1/receipts", b.receive)
	mux.HandleFunc("PUT /v1/open", b.openOrClose)
	mux.HandleFunc("POST /v1/exchange", b.exchangeNow)
	b.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx }}
	b.done.Go(func() {
		if err := b.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.failed.Store(&err)
		}
	})
	b.done.Go(func() { b.callBack(ctx) })
	return b, nil
}

// Addr is the address the bank listens on.
func (b *Bank) Addr() string { return b.listener.Addr().String() }

// URL is where its rail finds it.
func (b *Bank) URL() string { return "http://" + b.Addr() }

// Close ends the bank: silent orders are let go, the rest is answered.
func (b *Bank) Close(ctx context.Context) error {
	b.quit()
	err := b.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, b.server.Close())
	}
	b.done.Wait()
	if failed := b.failed.Load(); failed != nil {
		err = errors.Join(err, *failed)
	}
	return err
}

// Payouts copies the books, in the order of arrival.
func (b *Bank) Payouts() []Payout {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Payout, len(b.order))
	for i, p := range b.order {
		out[i] = *p
	}
	return out
}

// Balance is what the acquirer has left on its account.
func (b *Bank) Balance() money.Amount {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.balance
}

// Unheard counts the callbacks that nobody took.
func (b *Bank) Unheard() int64 { return b.unheard.Load() }

// Advance moves the bank's day on: what was processing is decided, what
// bounces comes back.
func (b *Bank) Advance(days int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range days {
		b.day++
		for _, p := range b.order {
			switch {
			case p.Status == Processing && p.day < b.day:
				b.decide(p)
			case p.Status == Succeeded && p.weather == Bounces && p.day+b.cfg.ReturnDays <= b.day:
				b.set(p, Returned, "the account does not exist")
				b.move(p, true, "return")
			case p.Status == Rejected && p.weather == Resurrects && p.day < b.day:
				b.set(p, Succeeded, "")
				b.move(p, false, "payout")
			}
		}
	}
}

// set changes a payout and tells whoever wants to know. b.mu is held.
func (b *Bank) set(p *Payout, s Status, reason string) {
	p.Status, p.Reason, p.day = s, reason, b.day
	b.changes = append(b.changes, *p)
	times := 1
	if p.weather == Repeats {
		times = 2
	}
	for range times {
		select {
		case b.news <- p.Reference:
		default:
			b.unheard.Add(1)
		}
	}
}

// move books a payout, or its coming back, on our account. b.mu is held.
func (b *Bank) move(p *Payout, credit bool, kind string) {
	m := move{day: b.day, credit: credit, amount: p.Amount, kind: kind, ref: p.Reference, bankID: p.BankID, message: p.message}
	if credit {
		b.balance += p.Amount
		m.reason = "AC01 " + p.Reason
	} else {
		b.balance -= p.Amount
	}
	b.moves = append(b.moves, m)
}

// credit is what others paid us, as the feed has it.
type credit struct {
	Entry     string        `json:"entry"`
	Reference string        `json:"reference"`
	Account   string        `json:"account"`
	Amount    money.Amount  `json:"amount"`
	Booked    calendar.Date `json:"booked"`
}

// Receive books what a network or a wallet pays us from an account, and returns the
// entry. Twice puts it into the feed a second time, as the same entry.
func (b *Bank) Receive(reference, account string, amount money.Amount, twice bool) (entry string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.balance += amount
	c := credit{fmt.Sprintf("R%s%06d", b.opened, len(b.moves)+1), reference, account, amount, calendar.DateOf(time.Now())}
	b.moves = append(b.moves, move{day: b.day, credit: true, amount: amount, kind: "receipt", ref: reference, bankID: c.Entry, payer: account})
	if b.credits = append(b.credits, c); twice {
		b.credits = append(b.credits, c)
	}
	return c.Entry
}

// Open says whether the counter takes orders, whatever the hour.
func (b *Bank) Open(open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = !open
}

// closed says why the counter takes no order now. b.mu is held.
func (b *Bank) closed(now time.Time) string {
	if b.shut {
		return "closed on request"
	}
	if b.cfg.Opens == b.cfg.Closes {
		return ""
	}
	day := calendar.DateOf(now)
	since := now.Sub(day.Time())
	if since < b.cfg.Opens || since >= b.cfg.Closes {
		return fmt.Sprintf("open from %s", day.Time().Add(b.cfg.Opens).Format("15:04"))
	}
	return ""
}

// decide ends a payout that was processing. b.mu is held.
func (b *Bank) decide(p *Payout) {
	if p.weather == LateNo {
		b.set(p, Rejected, "refused by the receiving bank")
		return
	}
	b.move(p, false, "payout")
	b.set(p, Succeeded, "")
}

// take puts an order on the books, once per reference. False when the
// reference belongs to another order.
func (b *Bank) take(in *order) (p Payout, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.payouts[in.Reference]; old != nil {
		old.ordered++
		return *old, old.Amount == in.Amount && old.account == in.Account, nil
	}
	if len(b.order) >= b.cfg.Limit {
		return Payout{}, false, errFull
	}
	if why := b.closed(time.Now()); why != "" && in.message == "" { // a file waits for the morning
		return Payout{Reason: why}, false, errClosed
	}
	n := &Payout{Reference: in.Reference, message: in.message, Amount: in.Amount, BankID: fmt.Sprintf("B%09d", len(b.order)+1),
		account: in.Account, name: in.Name, bank: in.Bank, weather: WeatherOf(in.Account), ordered: 1, day: b.day}
	b.payouts[in.Reference] = n
	b.order = append(b.order, n)
	switch n.weather {
	case Closed, Resurrects:
		b.set(n, Rejected, "the account is closed")
	case Late, LateNo, SilentThenLate:
		b.set(n, Processing, "")
	default:
		b.move(n, false, "payout")
		b.set(n, Succeeded, "")
	}
	return *n, true, nil
}

var (
	errFull   = errors.New("simbank: the books are full")
	errClosed = errors.New("simbank: the counter is closed")
)

type order struct {
	Reference string       `json:"reference"`
	Amount    money.Amount `json:"amount"`
	Account   string       `json:"account"`
	Name      string       `json:"name"`
	Bank      string       `json:"bank"`

	message string
}

func (o *order) check() error {
	if o.Reference == "" || len(o.Reference) > 64 {
		return errors.New("reference: want 1 to 64 characters")
	}
	if o.Amount <= 0 {
		return errors.New("amount: want yuan above zero, like 96.40")
	}
	if len(o.Account) < 8 || len(o.Account) > 32 {
		return errors.New("account: want 8 to 32 digits")
	}
	for i := range len(o.Account) {
		if o.Account[i] < '0' || o.Account[i] > '9' {
			return errors.New("account: want digits only")
		}
	}
	return nil
}

func (b *Bank) order1(w http.ResponseWriter, r *http.Request) {
	var in order
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	if err == nil {
		err = in.check()
	}
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	if WeatherOf(in.Account) == Lost {
		panic(http.ErrAbortHandler) // breaks the connection
	}
	p, ok, err := b.take(&in)
	switch {
	case errors.Is(err, errClosed):
		answer(w, http.StatusServiceUnavailable, &Payout{Reference: in.Reference, Status: "CLOSED", Reason: p.Reason})
		return
	case err != nil:
		answer(w, http.StatusInsufficientStorage, map[string]string{"error": err.Error()})
		return
	case !ok:
		answer(w, http.StatusConflict, map[string]string{"error": "the reference belongs to another order"})
		return
	}
	switch p.weather {
	case Silent, SilentThenLate:
		wait(r.Context(), b.cfg.Silence)
		panic(http.ErrAbortHandler)
	case Slow:
		wait(r.Context(), b.cfg.Slow)
	case Breaks:
		answer(w, http.StatusInternalServerError, map[string]string{"error": "internal error"})
		return
	}
	answer(w, http.StatusOK, &p)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (b *Bank) query(w http.ResponseWriter, r *http.Request) {
	ref := r.PathValue("reference")
	b.mu.Lock()
	p := b.payouts[ref]
	if p == nil {
		b.mu.Unlock()
		answer(w, http.StatusNotFound, map[string]string{"reference": ref, "status": string(NotFound)})
		return
	}
	if p.Status == Processing {
		if p.asked++; p.asked > 2 {
			b.decide(p)
		}
	}
	out := *p
	b.mu.Unlock()
	answer(w, http.StatusOK, &out)
}

// feedPage is how many changes one answer holds.
const feedPage = 1000

func (b *Bank) feed(w http.ResponseWriter, r *http.Request) {
	answerPage(w, r, b, "changes", &b.changes)
}

func (b *Bank) creditFeed(w http.ResponseWriter, r *http.Request) {
	answerPage(w, r, b, "credits", &b.credits)
}

// answerPage answers the part of a list behind a cursor, which is a place in it.
func answerPage[T any](w http.ResponseWriter, r *http.Request, b *Bank, name string, list *[]T) {
	after := 0
	if s := r.URL.Query().Get("after"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			answer(w, http.StatusBadRequest, map[string]string{"error": "after: want a cursor this bank gave"})
			return
		}
		after = n
	}
	b.mu.Lock()
	after = min(after, len(*list))
	page := append([]T{}, (*list)[after:min(len(*list), after+feedPage)]...)
	b.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"next": strconv.Itoa(after + len(page)), name: page})
}

func (b *Bank) advance(w http.ResponseWriter, r *http.Request) {
	days, err := strconv.Atoi(r.URL.Query().Get("days"))
	if err != nil || days < 1 || days > 366 {
		answer(w, http.StatusBadRequest, map[string]string{"error": "days: want 1 to 366"})
		return
	}
	b.Advance(days)
	b.statement(w, r)
}

func (b *Bank) statement(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Has("date") {
		b.statementFile(w, r)
		return
	}
	var paid, back money.Amount
	b.mu.Lock()
	for _, p := range b.order {
		switch p.Status {
		case Succeeded:
			paid += p.Amount
		case Returned:
			back += p.Amount
		}
	}
	out := map[string]any{"day": b.day, "balance": b.balance, "paid": paid, "returned": back, "payouts": len(b.order)}
	b.mu.Unlock()
	answer(w, http.StatusOK, out)
}

func (b *Bank) receive(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Reference string       `json:"reference"`
		Amount    money.Amount `json:"amount"`
		Account   string       `json:"account"`
		Twice     bool         `json:"twice"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&in); err != nil || in.Reference == "" || len(in.Reference) > 35 || len(in.Account) > 34 || in.Amount <= 0 {
		answer(w, http.StatusBadRequest, map[string]string{"error": `want {"reference","amount","account"} with yuan above zero and an account of at most 34 characters`})
		return
	}
	answer(w, http.StatusOK, map[string]string{"entry": b.Receive(in.Reference, in.Account, in.Amount, in.Twice)})
}

func (b *Bank) openOrClose(w http.ResponseWriter, r *http.Request) {
	open, err := strconv.ParseBool(r.URL.Query().Get("open"))
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "open: want true or false"})
		return
	}
	b.Open(open)
	answer(w, http.StatusOK, map[string]bool{"open": open})
}

func answer(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // a client that is gone asks again
}

// callBack tells the acquirer about changes, one after the other.
func (b *Bank) callBack(ctx context.Context) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return
		case ref := <-b.news:
			if b.cfg.Callback == "" {
				continue
			}
			if err := b.tell(ctx, client, ref); err != nil {
				b.unheard.Add(1)
			}
		}
	}
}

func (b *Bank) tell(ctx context.Context, client *http.Client, ref string) error {
	body, err := json.Marshal(map[string]string{"reference": ref})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.cfg.Callback, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if len(b.cfg.Secret) > 0 {
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		mac := hmac.New(sha256.New, b.cfg.Secret)
		mac.Write([]byte(stamp + "."))
		mac.Write(body)
		req.Header.Set("X-Signature", "t="+stamp+",v1="+hex.EncodeToString(mac.Sum(nil)))
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		err = errors.Join(err, fmt.Errorf("simbank: the callback was answered HTTP %d", resp.StatusCode))
	}
	return errors.Join(err, resp.Body.Close())
}
