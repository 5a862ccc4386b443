package wallet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"acquirer/fault"
	"acquirer/routing"
)

const maxAnswer = 64 << 10 // bytes

func newClient(c *Config) *http.Client {
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
		defer cancel()
		return c.Dial(ctx, addr)
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: c.TLS, TLSHandshakeTimeout: c.ConnectTimeout,
			MaxConnsPerHost: c.MaxConnections, MaxIdleConnsPerHost: c.MaxConnections, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
		},
		// A redirect would carry the payment code to an address nobody checked.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask makes one question and takes its answer, if it is one.
func (w *Wallet) ask(ctx context.Context, q *question, timeout time.Duration) (Result, error) {
	began := time.Now()
	if err := w.name(q, began); err != nil {
		return Result{}, w.failed(w.fail(false, Unsaid, err))
	}
	body, err := w.exchange(ctx, q, timeout, maxAnswer)
	if err != nil {
		return Result{}, w.failed(err)
	}
	r, err := w.cfg.Wire.answer(q, body)
	var s *said
	switch {
	case errors.As(err, &s):
		w.met.answered(string(q.verb), time.Since(began))
		return Result{}, w.fail(true, s.why, errors.New(s.text))
	case err != nil:
		return Result{}, w.failed(w.fail(true, Distrusted, err))
	case r.State == Paid && r.Amount != q.Amount:
		return Result{}, w.failed(w.fail(true, Distrusted, fmt.Errorf("asked for %s it took %s", q.Amount, r.Amount)))
	case len(r.Transaction) > 64 || r.Transaction != "" && !printable(r.Transaction):
		return Result{}, w.failed(w.fail(true, Distrusted, errors.New("its own number is too long or not ASCII")))
	}
	w.met.answered(string(q.verb), time.Since(began))
	return r, nil
}

// name fills in what every question has, and refuses what cannot be one.
func (w *Wallet) name(q *question, now time.Time) error {
	q.at = now
	if !orderNumber(q.Number) && q.verb != bill {
		return errors.New("the order number is not 1 to 32 letters and digits")
	}
	q.sub = q.Merchant
	if w.cfg.Merchants != nil && q.verb != bill {
		if q.sub = w.cfg.Merchants[q.Merchant]; q.sub == "" {
			return fmt.Errorf("merchant %s has no number at this wallet: put it among the wallet's merchants", q.Merchant)
		}
	}
	return nil
}

func (w *Wallet) failed(err error) error {
	w.met.failed(errors.Is(err, routing.ErrUnanswered))
	return err
}

// exchange posts a question and reads the whole answer.
func (w *Wallet) exchange(ctx context.Context, q *question, timeout time.Duration, most int64) ([]byte, error) {
	c, err := w.cfg.Wire.ask(w.cfg.URL, q)
	if err != nil {
		return nil, w.fail(false, Unsaid, err)
	}
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := w.send(ctx, asking, http.MethodPost, c)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, w.lost(ctx, asking, true, err)
	case int64(len(text)) > most:
		return nil, w.fail(true, Distrusted, fmt.Errorf("an answer of more than %d bytes", most))
	}
	return text, nil
}

// send makes one HTTP request; the answer's status is 200.
func (w *Wallet) send(ctx, asking context.Context, method string, c call) (*http.Response, error) {
	left := new(leaving)
	req, err := http.NewRequestWithContext(left.watch(asking), method, c.url, bytes.NewReader(c.body))
	if err != nil {
		return nil, w.fail(false, Unsaid, err)
	}
	if c.kind != "" {
		req.Header.Set("Content-Type", c.kind)
	}
	fault.Hit("wallet.ask.before")
	resp, err := w.client.Do(req)
	fault.Hit("wallet.ask.after")
	if err != nil {
		return nil, w.lost(ctx, asking, left.Load(), err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, w.fail(true, Distrusted, fmt.Errorf("HTTP %d, want 200", resp.StatusCode))
	}
	return resp, nil
}

// leaving knows whether a question may have left the house: true from the
// moment it has a connection to be written on. The transport looks for another
// connection only when nothing at all was written on the one it had, for a
// POST is not repeated otherwise.
type leaving struct{ atomic.Bool }

func (l *leaving) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { l.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { l.Store(true) },
	})
}

// lost names the reason why there is no answer. The url.Error around it would
// repeat the address in every line of the log.
func (w *Wallet) lost(ctx, asking context.Context, left bool, err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	switch {
	case ctx.Err() != nil:
		return w.fail(left, routing.Abandoned, context.Cause(ctx))
	case !left:
		return w.fail(false, Unconnected, err)
	case asking.Err() != nil:
		return w.fail(true, routing.TimedOut, context.DeadlineExceeded)
	}
	return w.fail(true, routing.Broken, err)
}
