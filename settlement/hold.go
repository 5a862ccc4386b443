package settlement

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// HoldState is where a hold stands.
type HoldState uint8

// A hold keeps the money back from the moment it is asked for; a second person
// confirms or refuses it, and one that nobody confirms lapses.
const (
	HoldAsked HoldState = iota + 1
	HoldSure
	HoldRefused
	HoldLapsed
	HoldFreed // released, or used up by a chargeback
)

var holdStates = [...]string{"none", "asked for", "held", "refused", "lapsed", "released"}

func (s HoldState) String() string {
	if int(s) < len(holdStates) {
		return holdStates[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// UnmarshalText reads what MarshalText wrote.
func (s *HoldState) UnmarshalText(text []byte) error {
	for i, name := range holdStates {
		if name == string(text) {
			*s = HoldState(i)
			return nil
		}
	}
	return fmt.Errorf("settlement: %.40q is no state of a hold", text)
}

// MarshalText writes String.
func (s HoldState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Hold is money of a merchant that is kept out of payouts, by two people: one
// asks, another confirms; one asks for the release, another releases.
type Hold struct {
	Key      string       `json:"key"` // names it for ever
	Merchant string       `json:"merchant"`
	Amount   money.Amount `json:"amount"`
	Remains  money.Amount `json:"remains"` // neither released nor used
	Reason   string       `json:"reason"`
	State    HoldState    `json:"state"`
	AskedBy  string       `json:"asked_by"`
	Asked    time.Time    `json:"asked"`
	Lapses   time.Time    `json:"lapses,omitzero"` // when it ends if nobody confirms it
	SureBy   string       `json:"sure_by,omitempty"`
	Sure     time.Time    `json:"sure,omitzero"`
	FreeBy   string       `json:"free_by,omitempty"` // who asked for its release
	Free     time.Time    `json:"free,omitzero"`
	FreedBy  string       `json:"freed_by,omitempty"`
	Freed    time.Time    `json:"freed,omitzero"`
}

// ErrHold says that a hold does not exist or is past what is asked of it.
var ErrHold = errors.New("settlement: no such hold")

// AskHold keeps h.Amount of a merchant's money back from now on; h needs a key,
// a merchant, an amount, a reason and who asks. What waits to be settled is
// taken first, then payouts that were not sent yet are cut. ledger.ErrInsufficient
// when the merchant is owed less. The same hold again has no effect. Here and
// below, whatever also writes is written with it.
func (e *Engine) AskHold(ctx context.Context, h Hold, now time.Time, also ...func(tx store.Tx) error) error {
	h.Lapses = now.Add(audit.Lapses)
	return e.hold(ctx, h, now, also)
}

// HoldForCaseTx holds at once and in the caller's write, for a case of the
// network's that needs no second person, up to h.Amount: of what the merchant is
// owed and of its payouts that were not sent yet. It returns how much that is; 0,
// and no hold, when there is nothing. h.AskedBy names the case's keeper;
// ReleaseForCaseTx gives it back.
func (e *Engine) HoldForCaseTx(tx store.Tx, h Hold, now time.Time) (money.Amount, error) {
	return e.holdForCase(tx, h, false, now)
}

// CutForCaseTx is HoldForCaseTx where payouts that were not sent yet have to be
// cut for the amount, and nothing where what waits to be settled is enough.
func (e *Engine) CutForCaseTx(tx store.Tx, h Hold, now time.Time) (money.Amount, error) {
	return e.holdForCase(tx, h, true, now)
}

func (e *Engine) holdForCase(tx store.Tx, h Hold, cutting bool, now time.Time) (money.Amount, error) {
	h.Lapses, h.SureBy = time.Time{}, h.AskedBy
	if _, err := e.lockBooks(tx, now); err != nil {
		return 0, err
	}
	balance, err := ledger.BalanceTx(tx, ledger.MerchantPayable, h.Merchant)
	if err != nil {
		return 0, err
	}
	unsent, err := unsentPayouts(tx, h.Merchant)
	if err != nil {
		return 0, err
	}
	there := balance.Available(ledger.MerchantPayable)
	if there < 0 || cutting && (there >= h.Amount || len(unsent) == 0) {
		return 0, nil
	}
	for i := range unsent {
		there += unsent[i].amount
	}
	if h.Amount = min(h.Amount, there); h.Amount == 0 {
		return 0, nil
	}
	if _, err := e.holdTx(tx, h, now); err != nil {
		return 0, fmt.Errorf("settlement: hold %s: %w", h.Key, err)
	}
	return h.Amount, nil
}

func (e *Engine) hold(ctx context.Context, h Hold, now time.Time, also []func(tx store.Tx) error) error {
	fault.Hit("hold.ask.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		fresh, err := e.holdTx(tx, h, now)
		if err != nil || !fresh {
			return err
		}
		return all(tx, also)
	})
	fault.Hit("hold.ask.after")
	if err != nil {
		return fmt.Errorf("settlement: hold %s: %w", h.Key, err)
	}
	return nil
}

// holdTx is a hold's first half, and its second when h.SureBy is known. False
// when the hold was there before.
func (e *Engine) holdTx(tx store.Tx, h Hold, now time.Time) (fresh bool, err error) {
	if h.Key == "" || h.Merchant == "" || h.Amount <= 0 || h.Reason == "" || h.AskedBy == "" {
		return false, fmt.Errorf("it is of merchant %q over %s: want a key, a merchant, an amount above zero, a reason and who asks", h.Merchant, h.Amount)
	}
	date, err := e.lockBooks(tx, now)
	if err != nil {
		return false, err
	}
	switch was, err := readHold(tx, h.Key); {
	case err == nil && was.Merchant == h.Merchant && was.Amount == h.Amount:
		return false, nil
	case err == nil:
		return false, fmt.Errorf("%w: it holds %s of merchant %s already", ledger.ErrConflict, was.Amount, was.Merchant)
	case !errors.Is(err, ErrHold):
		return false, err
	}
	balance, err := ledger.BalanceTx(tx, ledger.MerchantPayable, h.Merchant)
	if err != nil {
		return false, err
	}
	unsent, err := unsentPayouts(tx, h.Merchant)
	if err != nil {
		return false, err
	}
	most := balance.Available(ledger.MerchantPayable)
	for i := range unsent {
		most += unsent[i].amount
	}
	if h.Amount > most {
		return false, fmt.Errorf("%w: merchant %s is owed %s that was not sent to the bank; hold no more than that", ledger.ErrInsufficient, h.Merchant, most)
	}
	waits := max(0, min(h.Amount, balance.Available(ledger.MerchantPayable)))
	if err := e.cutPayouts(tx, &h, h.Amount-waits, date, now); err != nil {
		return false, err
	}
	for _, it := range []item{
		{key: "hold/" + h.Key, amount: -waits},
		{key: "hold/" + h.Key + "/cut", amount: waits - h.Amount, run: itemCut},
	} {
		if it.amount == 0 {
			continue
		}
		it.merchant, it.date, it.text = h.Merchant, date, h.Reason
		if _, err := addItem(tx, &it, now); err != nil {
			return false, err
		}
	}
	book := ledger.Hold{Key: h.Key, Date: date, Merchant: h.Merchant, Amount: h.Amount}
	transfers := []ledger.Transfer{book.Ask()}
	h.State, h.Remains, h.Asked = HoldAsked, h.Amount, now
	if h.SureBy != "" {
		h.State, h.Sure = HoldSure, now
		transfers = append(transfers, book.Confirm())
	}
	if _, err := ledger.PostTx(tx, transfers); err != nil {
		return false, err
	}
	return true, h.insert(tx)
}

// unsentPayouts locks a merchant's payouts that were not sent yet, the last due
// first.
func unsentPayouts(tx store.Tx, mid string) ([]payout, error) {
	rows, err := tx.Query("select "+payoutColumns+" from settlement_payout where state = $1 and merchant = $2 and reissue = 0 order by due desc, ref for update", Created, mid)
	return store.All(rows, err, scanPayout)
}

// cutPayouts takes an amount out of payouts that were not sent yet, the last
// due first: each is given up and replaced by one of what is left of it.
func (e *Engine) cutPayouts(tx store.Tx, h *Hold, amount money.Amount, date calendar.Date, now time.Time) error {
	if amount == 0 {
		return nil
	}
	payouts, err := unsentPayouts(tx, h.Merchant)
	if err != nil {
		return err
	}
	for i := range payouts {
		if amount == 0 {
			break
		}
		p := &payouts[i]
		cut := min(amount, p.amount)
		amount -= cut
		p.state, p.reason, p.finished, p.child = Failed, "cut by "+cut.String()+" for hold "+h.Key, now.UnixMicro(), nextRef(p.ref)
		transfers := p.booking(date, 0).Failed()
		n := *p
		n.ref, n.parent, n.child, n.amount, n.state, n.reason, n.finished = p.child, p.ref, "", p.amount-cut, Created, "", 0
		if n.amount == 0 {
			p.child = noChild
		} else {
			if err := n.insert(tx); err != nil {
				return err
			}
			transfers = append(transfers, n.booking(date, 0).Reserve()...)
		}
		if err := p.save(tx); err != nil {
			return err
		}
		if _, err := ledger.PostTx(tx, transfers); err != nil {
			return err
		}
	}
	return nil // what is missing is the ledger's to refuse
}

// ConfirmHold makes a hold that another person asked for sure; again it has no
// effect.
func (e *Engine) ConfirmHold(ctx context.Context, key, by string, now time.Time, also ...func(tx store.Tx) error) error {
	return e.moveHold(ctx, key, by, now, also, func(h *Hold, book *ledger.Hold) ([]ledger.Transfer, money.Amount, error) {
		switch {
		case h.State == HoldSure:
			return nil, 0, nil
		case h.State != HoldAsked:
			return nil, 0, fmt.Errorf("%w: it is %s", ErrHold, h.State)
		case audit.SamePerson(h.AskedBy, by):
			return nil, 0, fmt.Errorf("%w: %s asked for the hold", audit.ErrTwoPeople, h.AskedBy)
		}
		h.State, h.SureBy, h.Sure = HoldSure, by, now
		return []ledger.Transfer{book.Confirm()}, 0, nil
	})
}

// RefuseHold gives back what a person asked to hold. Whoever asked may take it
// back too.
func (e *Engine) RefuseHold(ctx context.Context, key, by string, now time.Time, also ...func(tx store.Tx) error) error {
	return e.moveHold(ctx, key, by, now, also, func(h *Hold, book *ledger.Hold) ([]ledger.Transfer, money.Amount, error) {
		switch h.State {
		case HoldRefused:
			return nil, 0, nil
		case HoldAsked:
			h.State, h.SureBy, h.Sure, h.Remains = HoldRefused, by, now, 0
			return []ledger.Transfer{book.Refuse()}, h.Amount, nil
		}
		return nil, 0, fmt.Errorf("%w: it is %s; ask for its release", ErrHold, h.State)
	})
}

// releaseAsked reports whether somebody asked that what remains is given back, not
// too long ago.
func (h *Hold) releaseAsked(now time.Time) bool {
	return audit.Ask{By: h.FreeBy, At: h.Free}.Waits(now)
}

// AskRelease asks that what remains of a hold is given back.
func (e *Engine) AskRelease(ctx context.Context, key, by string, now time.Time, also ...func(tx store.Tx) error) error {
	return e.moveHold(ctx, key, by, now, also, func(h *Hold, _ *ledger.Hold) ([]ledger.Transfer, money.Amount, error) {
		if h.State != HoldSure {
			return nil, 0, fmt.Errorf("%w: it is %s", ErrHold, h.State)
		}
		if !h.releaseAsked(now) {
			h.FreeBy, h.Free = by, now
		}
		return nil, 0, nil
	})
}

// Release gives back what remains of a hold whose release another person asked
// for; again it has no effect.
func (e *Engine) Release(ctx context.Context, key, by string, now time.Time, also ...func(tx store.Tx) error) error {
	return e.moveHold(ctx, key, by, now, also, func(h *Hold, book *ledger.Hold) ([]ledger.Transfer, money.Amount, error) {
		switch {
		case h.State == HoldFreed:
			return nil, 0, nil
		case h.State != HoldSure || !h.releaseAsked(now):
			return nil, 0, fmt.Errorf("%w: nobody asked for its release; it is %s", ErrHold, h.State)
		case audit.SamePerson(h.FreeBy, by):
			return nil, 0, fmt.Errorf("%w: %s asked for the release", audit.ErrTwoPeople, h.FreeBy)
		}
		return h.release(book, by, now)
	})
}

// ReleaseForCaseTx gives back, in the caller's write, what remains of a hold made
// by HoldForCaseTx.
func (e *Engine) ReleaseForCaseTx(tx store.Tx, key, by string, now time.Time) error {
	err := e.moveHoldTx(tx, key, now, func(h *Hold, book *ledger.Hold) ([]ledger.Transfer, money.Amount, error) {
		switch {
		case h.State == HoldFreed:
			return nil, 0, nil
		case h.State != HoldSure || h.SureBy != h.AskedBy:
			return nil, 0, fmt.Errorf("%w: it is %s and was made by people; ask for its release", ErrHold, h.State)
		}
		return h.release(book, by, now)
	})
	if err != nil {
		return fmt.Errorf("settlement: hold %s: %w", key, err)
	}
	return nil
}

func (h *Hold) release(book *ledger.Hold, by string, now time.Time) ([]ledger.Transfer, money.Amount, error) {
	back := h.Remains
	h.State, h.FreedBy, h.Freed, h.Remains = HoldFreed, by, now, 0
	return []ledger.Transfer{book.Release("", back)}, back, nil
}

// lapse ends the holds that nobody confirmed in time.
func (e *Engine) lapse(ctx context.Context, now time.Time) error {
	var keys []string
	err := e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select key from settlement_hold where state in (1, 2) and state = $1 and lapses <= $2 order by key", HoldAsked, now.UnixMicro())
		keys, err = store.All(rows, err, func(r *store.Rows, key *string) error { return r.Scan(key) })
		return err
	})
	if err != nil {
		return fmt.Errorf("settlement: looking for holds nobody confirmed: %w", err)
	}
	for _, key := range keys {
		if err := e.moveHold(ctx, key, "", now, nil, func(h *Hold, book *ledger.Hold) ([]ledger.Transfer, money.Amount, error) {
			if h.State != HoldAsked {
				return nil, 0, nil
			}
			h.State, h.Remains = HoldLapsed, 0
			return []ledger.Transfer{book.Lapse()}, h.Amount, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// moveHold moves a hold in a write of its own.
func (e *Engine) moveHold(ctx context.Context, key, by string, now time.Time, also []func(tx store.Tx) error, do func(*Hold, *ledger.Hold) ([]ledger.Transfer, money.Amount, error)) error {
	fault.Hit("hold.move.before")
	err := e.db.Write(ctx, func(tx store.Tx) error {
		if err := e.moveHoldTx(tx, key, now, do); err != nil {
			return err
		}
		return all(tx, also)
	})
	fault.Hit("hold.move.after")
	if err != nil {
		return fmt.Errorf("settlement: hold %s, by %q: %w", key, by, err)
	}
	return nil
}

// moveHoldTx is the one place where holds change: do says what is booked and what
// of it the merchant gets back.
func (e *Engine) moveHoldTx(tx store.Tx, key string, now time.Time, do func(*Hold, *ledger.Hold) ([]ledger.Transfer, money.Amount, error)) error {
	date, err := e.lockBooks(tx, now)
	if err != nil {
		return err
	}
	h, err := readHold(tx, key)
	if err != nil {
		return err
	}
	transfers, back, err := do(&h, &ledger.Hold{Key: key, Date: date, Merchant: h.Merchant, Amount: h.Amount})
	if err != nil {
		return err
	}
	if back > 0 {
		it := item{key: "release/" + key, merchant: h.Merchant, date: date, amount: back, text: h.State.String()}
		if _, err := addItem(tx, &it, now); err != nil {
			return err
		}
	}
	if _, err := ledger.PostTx(tx, transfers); err != nil {
		return err
	}
	return h.save(tx)
}

// useHold takes up to amount out of a hold and returns how much that was.
func useHold(tx store.Tx, key, mid string, amount money.Amount, now time.Time) (money.Amount, error) {
	if key == "" {
		return 0, nil
	}
	h, err := readHold(tx, key)
	if err != nil {
		return 0, err
	}
	if h.Merchant != mid || h.State != HoldSure {
		return 0, fmt.Errorf("%w: %s is %s and of merchant %s", ErrHold, key, h.State, h.Merchant)
	}
	used := min(amount, h.Remains)
	h.FreeBy, h.Free = "", time.Time{} // who asked for its release asked for more than there is now
	if h.Remains -= used; h.Remains == 0 {
		h.State, h.FreedBy, h.Freed = HoldFreed, "chargeback", now
	}
	return used, h.save(tx)
}

const holdColumns = `key, merchant, amount, remains, reason, state, asked_by, asked, lapses, sure_by, sure, free_by, free, freed_by, freed`

func (h *Hold) insert(tx store.Tx) error {
	_, err := tx.Exec("insert into settlement_hold ("+holdColumns+") values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15)",
		h.Key, h.Merchant, h.Amount, h.Remains, h.Reason, h.State, h.AskedBy, store.Micros(h.Asked), store.Micros(h.Lapses), h.SureBy, store.Micros(h.Sure), h.FreeBy, store.Micros(h.Free), h.FreedBy, store.Micros(h.Freed))
	return err
}

func (h *Hold) save(tx store.Tx) error {
	_, err := tx.Exec(`update settlement_hold set remains = $1, state = $2, sure_by = $3, sure = $4, free_by = $5, free = $6, freed_by = $7, freed = $8 where key = $9`,
		h.Remains, h.State, h.SureBy, store.Micros(h.Sure), h.FreeBy, store.Micros(h.Free), h.FreedBy, store.Micros(h.Freed), h.Key)
	return err
}

func scanHold(r *store.Rows, h *Hold) error {
	var at [5]int64
	err := r.Scan(&h.Key, &h.Merchant, &h.Amount, &h.Remains, &h.Reason, &h.State, &h.AskedBy, &at[0], &at[1], &h.SureBy, &at[2], &h.FreeBy, &at[3], &h.FreedBy, &at[4])
	for i, t := range []*time.Time{&h.Asked, &h.Lapses, &h.Sure, &h.Free, &h.Freed} {
		*t = store.Instant(at[i])
	}
	return err
}

func readHold(tx store.Tx, key string) (Hold, error) {
	rows, err := tx.Query("select "+holdColumns+" from settlement_hold where key = $1 for update", key)
	all, err := store.All(rows, err, scanHold)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: %q", ErrHold, key)
	}
	if err != nil {
		return Hold{}, err
	}
	return all[0], nil
}

// Holds lists the holds of a merchant, or of all with "", the newest first: the
// open ones, or with all also those that ended.
func (e *Engine) Holds(ctx context.Context, mid string, all bool, limit int) (holds []Hold, err error) {
	last := HoldSure
	if all {
		last = HoldFreed
	}
	err = e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select "+holdColumns+" from settlement_hold where (merchant = $1 or $1 = '') and state <= $2 order by asked desc, key limit $3", mid, last, limit)
		holds, err = store.All(rows, err, scanHold)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settlement: listing holds: %w", err)
	}
	return holds, nil
}
