package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/audit"
	"acquirer/fault"
	"acquirer/store"
)

// ErrDecide says that people may not decide what became of a payout, or not so.
var ErrDecide = errors.New("settlement: not to be decided")

// Decide says in the bank's place what became of a payout whose fate the bank does
// not tell any more: it is gone, or has lost the order. The first person says
// whether it was paid, a second one who says the same decides (audit.Ask); done
// reports that.
// It is refused before NotFoundAfter, while the bank may still answer, and for a
// payout that is not on its way; decided again the same way it has no effect. What
// the bank says later is heard as always. Whatever also writes is written with it.
func (e *Engine) Decide(ctx context.Context, ref string, paid bool, by string, now time.Time, also ...func(tx store.Tx) error) (done bool, err error) {
	if by == "" {
		return false, fmt.Errorf("%w: say who you are", ErrDecide)
	}
	word, status := "failed", Rejected
	if paid {
		word, status = "paid", Succeeded
	}
	fault.Hit("payout.decide.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		done = false
		if _, err := e.bookOn(tx, now); err != nil { // first, as everybody who books
			return err
		}
		p, err := lockPayout(tx, ref)
		if err != nil {
			return err
		}
		var ask audit.Ask
		var asked, decided int64
		err = tx.QueryRow("select word, asked_by, asked, done from settlement_decided where ref = $1 for update", ref).Scan(&ask.What, &ask.By, &asked, &decided)
		switch {
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return err
		case decided > 0 && ask.What == word:
			done = true
			return nil
		case p.state != Submitted && p.state != InProcess && p.state != Unknown:
			return fmt.Errorf("%w: it is %s", ErrDecide, p.state)
		case now.Sub(time.UnixMicro(p.submitted)) < e.cfg.NotFoundAfter:
			return fmt.Errorf("%w: it was sent %s ago, and the bank may still say what became of it; people may from %s after its sending on", ErrDecide,
				now.Sub(time.UnixMicro(p.submitted)).Round(time.Second), e.cfg.NotFoundAfter)
		}
		ask.At = store.Instant(asked)
		if done, err = ask.Second(word, by, now); err != nil {
			return err
		}
		if !done {
			if _, err := tx.Exec(`insert into settlement_decided (ref, word, asked_by, asked, done_by, done) values ($1,$2,$3,$4,'',0)
				on conflict (ref) do update set word = excluded.word, asked_by = excluded.asked_by, asked = excluded.asked`, ref, word, by, now.UnixMicro()); err != nil {
				return err
			}
			return all(tx, also)
		}
		if _, err := tx.Exec("update settlement_decided set done_by = $1, done = $2 where ref = $3", by, now.UnixMicro(), ref); err != nil {
			return err
		}
		if _, _, err := e.moveTx(tx, Answer{Reference: ref, Status: status, Amount: p.amount, Reason: "decided by " + ask.By + " and " + by}, now); err != nil {
			return err
		}
		return all(tx, also)
	})
	fault.Hit("payout.decide.after")
	if err != nil {
		return false, fmt.Errorf("settlement: deciding payout %.64q: %w", ref, err)
	}
	return done, nil
}

// NotFoundAfter is Config.NotFoundAfter: from when on people may decide.
func (e *Engine) NotFoundAfter() time.Duration { return e.cfg.NotFoundAfter }
