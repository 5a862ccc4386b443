package wallet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"acquirer/calendar"
	"acquirer/routing"
)

// ErrNoBill says that the wallet has no bill of that day: nothing was paid or
// went back.
var ErrNoBill = errors.New("wallet: there is no bill of that day")

// NotYetError says that a bill is not ready before From.
type NotYetError struct {
	Wallet string
	Date   calendar.Date
	From   time.Time
}

func (e *NotYetError) Error() string {
	return fmt.Sprintf("wallet: %s has its bill of %s from %s on; ask again then", e.Wallet, e.Date, e.From.In(calendar.Beijing).Format(time.DateTime))
}

// billTimeout is for the download of a whole bill.
const billTimeout = 10 * time.Minute

// FetchBill writes the bill of a wallet's day (midnight to midnight, Beijing)
// to to, as the wallet gives it: what ReadBill takes. Before its time it asks
// nothing and answers *NotYetError; a day without one is ErrNoBill; any other
// error is a *routing.SendError or to's own, and what was written is worthless.
func (w *Wallet) FetchBill(ctx context.Context, date calendar.Date, to io.Writer) error {
	now := time.Now()
	if from := date.AddDays(1).Time().Add(w.cfg.BillFrom); now.Before(from) {
		return &NotYetError{w.cfg.Name, date, from}
	}
	ctx, cancel := context.WithTimeout(ctx, billTimeout)
	defer cancel()
	err := w.cfg.Wire.bill(ctx, w, &question{verb: bill, date: date, at: now}, to)
	if e := (*routing.SendError)(nil); errors.As(err, &e) {
		return w.failed(err)
	}
	if err == nil || errors.Is(err, ErrNoBill) {
		w.met.answered(string(bill), time.Since(now))
	}
	return err
}

// copy passes a bill on, at most maxBill bytes.
func (w *Wallet) copy(ctx context.Context, to io.Writer, from io.Reader) error {
	out := &kept{to: to}
	n, err := io.Copy(out, io.LimitReader(from, maxBill+1))
	switch {
	case out.err != nil:
		return fmt.Errorf("wallet: the bill of %s cannot be kept: %w", w.cfg.Name, out.err)
	case err != nil:
		return w.lost(ctx, ctx, true, err)
	case n > maxBill:
		return w.fail(true, Distrusted, fmt.Errorf("a bill of more than %d bytes", int64(maxBill)))
	}
	return nil
}

// kept tells an error of the writer from one of the wallet.
type kept struct {
	to  io.Writer
	err error
}

func (k *kept) Write(p []byte) (int, error) {
	n, err := k.to.Write(p)
	k.err = err
	return n, err
}

// billError is a wallet's word, or what cannot be trusted, as a SendError.
func (w *Wallet) billError(err error) error {
	var s *said
	switch {
	case errors.Is(err, ErrNoBill):
		return err
	case errors.As(err, &s):
		return w.fail(true, s.why, errors.New(s.text))
	}
	return w.fail(true, Distrusted, err)
}
