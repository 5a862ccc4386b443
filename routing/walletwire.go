package routing

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
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"acquirer/fault"
	"acquirer/money"
)

// The wire of a wallet: JSON over HTTP, every question a POST.
//
//	/v1/pay     {"order","code","fen","merchant","terminal","name"}
//	/v1/query   {"order"}
//	/v1/cancel  {"order"}
//	/v1/refund  {"order","refund","fen"}
//
// An answer is {"order","refund","state","fen","refunded","transaction",
// "voucher","code","paid_at"}; amounts are in fen, times in milliseconds since
// 1970. Status 200 is an answer; 400, 401 and 409 are too, with state REFUSED:
// the question was not acted on.
//
// Both directions are signed with HMAC-SHA-256 under a shared key, in
// hexadecimal in the header Wallet-Signature. A question is signed over its
// method, path, time (header Wallet-Time, nanoseconds since 1970) and body, an
// answer over the question's signature, its status and its body, each part but
// the last followed by a line feed.
const (
	walletTimeHeader      = "Wallet-Time"
	walletSignatureHeader = "Wallet-Signature"
	maxWalletAnswer       = 64 << 10 // bytes
)

// WalletMAC makes the HMAC-SHA-256 of data under the key that is shared with a
// wallet.
type WalletMAC func(ctx context.Context, data []byte) ([]byte, error)

// WalletKey is a WalletMAC with a key in memory, of at least 16 bytes.
func WalletKey(key []byte) (WalletMAC, error) {
	if len(key) < 16 {
		return nil, fmt.Errorf("routing: a wallet's key has %d bytes, want at least 16", len(key))
	}
	key = slices.Clone(key)
	return func(_ context.Context, data []byte) ([]byte, error) {
		h := hmac.New(sha256.New, key)
		h.Write(data)
		return h.Sum(nil), nil
	}, nil
}

type walletQuestion struct {
	Order    string `json:"order"`
	Refund   string `json:"refund,omitempty"`
	Code     string `json:"code,omitempty"`
	Fen      int64  `json:"fen,omitempty"`
	Merchant string `json:"merchant,omitempty"`
	Terminal string `json:"terminal,omitempty"`
	Name     string `json:"name,omitempty"`
}

type walletAnswer struct {
	Order       string    `json:"order"`
	Refund      string    `json:"refund"`
	State       wireState `json:"state"`
	Fen         int64     `json:"fen"`
	Refunded    int64     `json:"refunded"`
	Transaction string    `json:"transaction"`
	Voucher     string    `json:"voucher"`
	Code        string    `json:"code"`
	PaidAt      int64     `json:"paid_at"`
}

type wireState string

const (
	wirePaid     wireState = "PAID"
	wireFailed   wireState = "FAILED"
	wirePaying   wireState = "PAYING"
	wireClosed   wireState = "CLOSED"
	wireRefunded wireState = "REFUNDED" // all of it
	wireReturned wireState = "RETURNED" // this refund has been made
	wireNoOrder  wireState = "NO_ORDER"
	wireUnknown  wireState = "UNKNOWN" // ask again
	wireRefused  wireState = "REFUSED" // the question was not acted on
)

var ofWire = map[wireState]WalletState{wirePaid: Paid, wireFailed: Failed, wirePaying: BuyerPaying, wireClosed: Closed, wireRefunded: Refunded, wireReturned: Refunded, wireNoOrder: NoOrder}

func newWalletClient(c *WalletConfig) *http.Client {
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
func (w *Wallet) ask(ctx context.Context, verb string, q *walletQuestion, timeout time.Duration) (*walletAnswer, error) {
	began := time.Now()
	a, err := w.exchange(ctx, verb, q, timeout)
	if err != nil {
		w.met.failed(errors.Is(err, ErrUnanswered))
		return nil, err
	}
	w.met.answered(verb, time.Since(began))
	return a, nil
}

func (w *Wallet) exchange(ctx context.Context, verb string, q *walletQuestion, timeout time.Duration) (*walletAnswer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, w.fail(false, Unsigned, err)
	}
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	left := new(leaving)
	req, err := http.NewRequestWithContext(left.watch(asking), http.MethodPost, w.cfg.URL+"/v1/"+verb, bytes.NewReader(body))
	if err != nil {
		return nil, w.fail(false, Unsigned, err)
	}
	signature, err := w.sign(asking, req, body)
	if err != nil {
		return nil, w.fail(false, Unsigned, err)
	}
	fault.Hit("wallet.ask.before")
	resp, err := w.client.Do(req)
	fault.Hit("wallet.ask.after")
	if err != nil {
		return nil, w.lost(ctx, asking, left.Load(), err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxWalletAnswer+1))
	switch {
	case err != nil:
		return nil, w.lost(ctx, asking, true, err)
	case len(text) > maxWalletAnswer:
		return nil, w.fail(true, Distrusted, fmt.Errorf("HTTP %d with more than %d bytes", resp.StatusCode, maxWalletAnswer))
	}
	return w.read(asking, q, signature, resp, text)
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

// sign sets the headers of a question and returns its signature.
func (w *Wallet) sign(ctx context.Context, req *http.Request, body []byte) (string, error) {
	at := strconv.FormatInt(time.Now().UnixNano(), 10)
	mac, err := w.cfg.MAC(ctx, slices.Concat([]byte(req.Method+"\n"+req.URL.EscapedPath()+"\n"+at+"\n"), body))
	if err != nil {
		return "", err
	}
	signature := hex.EncodeToString(mac)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(walletTimeHeader, at)
	req.Header.Set(walletSignatureHeader, signature)
	return signature, nil
}

// lost names the reason why there is no answer. The url.Error around it would
// repeat the address in every line of the log.
func (w *Wallet) lost(ctx, asking context.Context, left bool, err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	switch {
	case ctx.Err() != nil:
		return w.fail(left, Abandoned, context.Cause(ctx))
	case !left:
		return w.fail(false, Unconnected, err)
	case asking.Err() != nil:
		return w.fail(true, TimedOut, context.DeadlineExceeded)
	}
	return w.fail(true, Broken, err)
}

// read takes an answer only when it is signed, is about what was asked and
// says something.
func (w *Wallet) read(ctx context.Context, q *walletQuestion, signature string, resp *http.Response, text []byte) (*walletAnswer, error) {
	distrust := func(err error) error {
		return w.fail(true, Distrusted, fmt.Errorf("HTTP %d: %w", resp.StatusCode, err))
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusConflict:
	default:
		return nil, distrust(errors.New("want 200"))
	}
	mac, err := w.cfg.MAC(ctx, slices.Concat([]byte(signature+"\n"+strconv.Itoa(resp.StatusCode)+"\n"), text))
	if err != nil {
		return nil, distrust(err)
	}
	if got, err := hex.DecodeString(resp.Header.Get(walletSignatureHeader)); err != nil || !hmac.Equal(got, mac) {
		return nil, distrust(errors.New("its signature is missing or wrong; compare the keys of both sides"))
	}
	a := new(walletAnswer)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, distrust(errors.New("it is not the JSON that was expected"))
	}
	switch {
	case a.Order != q.Order:
		return nil, distrust(errors.New("it is about another order"))
	case (resp.StatusCode == http.StatusOK) == (a.State == wireRefused):
		return nil, distrust(errors.New("status and state contradict each other"))
	case a.Fen < 0 || a.Refunded < 0 || a.Refunded > a.Fen || a.PaidAt < 0:
		return nil, distrust(errors.New("its amounts are impossible"))
	case len(a.Voucher) > 20 || len(a.Transaction) > 32 || len(a.Code) > 32 || !printable(a.Voucher+a.Transaction+a.Code):
		return nil, distrust(errors.New("voucher, transaction or code is too long or not ASCII"))
	}
	return a, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// result is an answer in our words, when its state is one that may answer the
// question.
func (w *Wallet) result(a *walletAnswer, may ...wireState) (WalletResult, error) {
	switch a.State {
	case wireUnknown:
		return WalletResult{}, w.fail(true, Undecided, nil)
	case wireRefused:
		return WalletResult{}, w.fail(true, Refused, errors.New("code "+a.Code))
	}
	nothing := a.Fen == 0 && (a.State == wirePaid || a.State == wireRefunded || a.State == wireReturned)
	if !slices.Contains(may, a.State) || nothing || a.State == wireRefunded && a.Refunded != a.Fen {
		return WalletResult{}, w.fail(true, Distrusted, fmt.Errorf("state %.20q of %d fen, %d refunded, does not answer the question", a.State, a.Fen, a.Refunded))
	}
	r := WalletResult{State: ofWire[a.State], Order: a.Order, Amount: money.Amount(a.Fen), Refunded: money.Amount(a.Refunded), Transaction: a.Transaction, Voucher: a.Voucher, Code: a.Code}
	if a.PaidAt > 0 {
		r.PaidAt = time.UnixMilli(a.PaidAt)
	}
	return r, nil
}
