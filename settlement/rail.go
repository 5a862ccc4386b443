package settlement

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/card"
	"acquirer/money"
)

// Status is what a bank says about a payout.
type Status string

// The zero Status says nothing at all: the payout stays unknown.
const (
	Succeeded  Status = "SUCCEEDED"
	Processing Status = "PROCESSING"
	Rejected   Status = "REJECTED"  // for good, nothing was paid
	Returned   Status = "RETURNED"  // paid, and came back from the merchant's bank
	NotFound   Status = "NOT_FOUND" // the bank does not know the reference
)

// Answer is a bank's word about one payout.
type Answer struct {
	Reference string
	Status    Status
	Amount    money.Amount // as the bank has it
	BankID    string
	Reason    string
}

// Number is a bank account number. It prints masked; Reveal gives the digits.
type Number struct{ digits *string }

// NewNumber wraps an account number.
func NewNumber(digits string) Number { return Number{&digits} }

// Reveal returns the clear number, for the bank alone.
func (n Number) Reveal() string {
	if n.digits == nil {
		return ""
	}
	return *n.digits
}

// String, GoString, MarshalText and Format mask.
func (n Number) String() string                { return string(card.AppendMasked(nil, n.Reveal())) }
func (n Number) GoString() string              { return n.String() }
func (n Number) MarshalText() ([]byte, error)  { return []byte(n.String()), nil }
func (n Number) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, n.String()) }

// Instruction is an order to pay a merchant.
type Instruction struct {
	Reference string // the bank acts on a reference once
	Merchant  string // for people
	Amount    money.Amount
	Account   Number
	Name      string // of the account's holder
	Bank      string
	since     time.Time // when the account became the merchant's; zero for its first
}

// ErrNotSent says that an instruction certainly did not leave the house. Any
// other error of Send means that nobody knows.
var ErrNotSent = errors.New("settlement: the payout was not sent")

// Two reasons for ErrNotSent: the bank is closed and says so, or the order is one
// that it cannot carry, which time alone does not mend.
var (
	ErrClosed = fmt.Errorf("%w: the bank is closed", ErrNotSent)
	ErrUnfit  = fmt.Errorf("%w: the bank cannot take such an order", ErrNotSent)
)

// Rail carries payouts to a bank.
type Rail interface {
	// Send orders a payout once. An error other than ErrNotSent means that its
	// fate is unknown: ask with Query, never send again.
	Send(ctx context.Context, i Instruction) (Answer, error)
	// Flush lets what Send has gathered leave the house. A rail that sends at
	// once has nothing to do.
	Flush(ctx context.Context, now time.Time) error
	// Query asks what became of a reference. NotFound is an answer.
	Query(ctx context.Context, reference string) (Answer, error)
	// Changes lists what became of payouts since a cursor, and the next cursor;
	// "" is the beginning.
	Changes(ctx context.Context, after string) (answers []Answer, next string, err error)
	// Credits lists what others paid into the merchants' account since a cursor,
	// and the next cursor; "" is the beginning.
	Credits(ctx context.Context, after string) (credits []Credit, next string, err error)
}

// HTTPRail speaks to a bank by JSON over HTTP:
//
//	POST /v1/payouts               {"reference","amount","account","name","bank"}
//	GET  /v1/payouts/REFERENCE
//	GET  /v1/changes?after=CURSOR  {"next","changes":[...]}
//	GET  /v1/credits?after=CURSOR  {"next","credits":[...]}
//
// A payout is {"reference","status","amount","bank_id","reason"}, a credit
// {"entry","reference","account","amount","booked":"2026-11-23"}. A bank that is
// closed answers an order with HTTP 503 and status CLOSED, and has not taken it.
type HTTPRail struct {
	base   string
	client *http.Client
}

// NewHTTPRail returns the rail of a bank at a URL such as
// http://127.0.0.1:7001; timeout bounds one request, 0 is 10 seconds.
func NewHTTPRail(base string, timeout time.Duration) (*HTTPRail, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("settlement: %q is not the URL of a bank; write it like http://127.0.0.1:7001", base)
	}
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	return &HTTPRail{base: strings.TrimRight(base, "/"), client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: timeout}).DialContext,
			MaxIdleConnsPerHost: 8, MaxConnsPerHost: 16, IdleConnTimeout: time.Minute,
		},
		// A redirect would carry the order to an address nobody checked.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes idle connections.
func (r *HTTPRail) Close() { r.client.CloseIdleConnections() }

// Flush has nothing to do: orders leave at once.
func (r *HTTPRail) Flush(context.Context, time.Time) error { return nil }

// closed is the status of an order that a bank did not take because it is closed.
const closed Status = "CLOSED"

type wirePayout struct {
	Reference string       `json:"reference"`
	Status    Status       `json:"status"`
	Amount    money.Amount `json:"amount"`
	BankID    string       `json:"bank_id"`
	Reason    string       `json:"reason"`
}

func (w *wirePayout) answer() (Answer, error) {
	switch w.Status {
	case Succeeded, Processing, Rejected, Returned:
		return Answer(*w), nil
	}
	return Answer{}, fmt.Errorf("settlement: the bank answered an unknown status %.40q", w.Status)
}

// Send posts the order. The request carries no Idempotency-Key header on
// purpose: with it Go's transport would repeat the order by itself when the
// connection breaks.
func (r *HTTPRail) Send(ctx context.Context, i Instruction) (Answer, error) {
	body, err := json.Marshal(map[string]string{"reference": i.Reference, "amount": i.Amount.String(), "account": i.Account.Reveal(), "name": i.Name, "bank": i.Bank})
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	var w wirePayout
	status, err := r.call(ctx, http.MethodPost, "/v1/payouts", body, &w)
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		return Answer{}, fmt.Errorf("%w: %w", ErrNotSent, err)
	case err != nil:
		return Answer{}, fmt.Errorf("settlement: sending payout %s: %w", i.Reference, err)
	case status == http.StatusServiceUnavailable && w.Status == closed && w.Reference == i.Reference: // the bank's word, not a proxy's
		return Answer{}, fmt.Errorf("%w: %.100q", ErrClosed, w.Reason)
	case status != http.StatusOK && status != http.StatusAccepted && status != http.StatusUnprocessableEntity:
		return Answer{}, fmt.Errorf("settlement: sending payout %s: the bank answered HTTP %d", i.Reference, status)
	}
	return r.about(i.Reference, &w)
}

// Query asks for one payout.
func (r *HTTPRail) Query(ctx context.Context, reference string) (Answer, error) {
	var w wirePayout
	status, err := r.call(ctx, http.MethodGet, "/v1/payouts/"+url.PathEscape(reference), nil, &w)
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("settlement: asking for payout %s: %w", reference, err)
	case status == http.StatusNotFound && w.Status == NotFound: // the bank's word, not a proxy's
		return Answer{Reference: reference, Status: NotFound}, nil
	case status != http.StatusOK:
		return Answer{}, fmt.Errorf("settlement: asking for payout %s: the bank answered HTTP %d", reference, status)
	}
	return r.about(reference, &w)
}

func (r *HTTPRail) about(reference string, w *wirePayout) (Answer, error) {
	if w.Reference != reference {
		return Answer{}, fmt.Errorf("settlement: asked about payout %s the bank answered about %.40q", reference, w.Reference)
	}
	return w.answer()
}

// Changes reads the bank's feed.
func (r *HTTPRail) Changes(ctx context.Context, after string) ([]Answer, string, error) {
	var page struct {
		Next    string       `json:"next"`
		Changes []wirePayout `json:"changes"`
	}
	status, err := r.call(ctx, http.MethodGet, "/v1/changes?after="+url.QueryEscape(after), nil, &page)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the bank answered HTTP %d", status)
	}
	if err != nil {
		return nil, after, fmt.Errorf("settlement: reading the bank's changes: %w", err)
	}
	answers := make([]Answer, len(page.Changes))
	for i := range page.Changes {
		if answers[i], err = page.Changes[i].answer(); err != nil {
			return nil, after, err
		}
	}
	return answers, page.Next, nil
}

// Credits reads what the statement says that came in.
func (r *HTTPRail) Credits(ctx context.Context, after string) ([]Credit, string, error) {
	var page struct {
		Next    string `json:"next"`
		Credits []struct {
			Entry     string        `json:"entry"`
			Reference string        `json:"reference"`
			Account   string        `json:"account"`
			Amount    money.Amount  `json:"amount"`
			Booked    calendar.Date `json:"booked"`
		} `json:"credits"`
	}
	status, err := r.call(ctx, http.MethodGet, "/v1/credits?after="+url.QueryEscape(after), nil, &page)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the bank answered HTTP %d", status)
	}
	credits := make([]Credit, len(page.Credits))
	for i, c := range page.Credits {
		credits[i] = Credit{Entry: c.Entry, Reference: c.Reference, Account: NewNumber(c.Account), Amount: c.Amount, Booked: c.Booked}
		if err == nil {
			err = credits[i].check()
		}
	}
	if err != nil {
		return nil, after, fmt.Errorf("settlement: reading the bank's credits: %w", err)
	}
	return credits, page.Next, nil
}

// maxAnswer is the longest answer that is read.
const maxAnswer = 4 << 20

// call makes one request and reads a JSON answer.
func (r *HTTPRail) call(ctx context.Context, method, path string, body []byte, into any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 3 {
		return resp.StatusCode, fmt.Errorf("the bank sends us elsewhere with HTTP %d, which is not followed; set settlement.bank to where it really is", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return resp.StatusCode, err
	case len(text) > maxAnswer:
		return resp.StatusCode, fmt.Errorf("the bank answered HTTP %d with more than %d MB", resp.StatusCode, maxAnswer>>20)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return resp.StatusCode, fmt.Errorf("the bank answered HTTP %d without the JSON that was expected: %w", resp.StatusCode, err)
	}
	return resp.StatusCode, nil
}
