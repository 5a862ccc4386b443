package dispute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"acquirer/audit"
	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// Item is what the other side says of a payment.
type Item struct {
	Key     string        `json:"key"` // the item's own name, at its source: each counts once
	Source  string        `json:"source"`
	Stage   Stage         `json:"stage"`
	Payment Payment       `json:"payment"`
	Amount  money.Amount  `json:"amount"` // in dispute; 0 for all that may be
	Fee     money.Amount  `json:"fee"`    // what the network takes for it
	Reason  string        `json:"reason"` // its code
	Date    calendar.Date `json:"date"`   // when it was sent: the clock begins
	Won     bool          `json:"won"`    // of a ruling (Arbitration): for us

	saidBy string // who asked for it, when another person confirms
}

func (it *Item) check(now time.Time) error {
	if it.Key == "" || it.Source == "" || it.Payment.Merchant == "" || !it.Date.Valid() || it.Fee < 0 || it.Amount < 0 {
		return fmt.Errorf("%w: item %q of %q: want a key, a source, a payment, a date, and no amount below zero", ErrAction, it.Key, it.Source)
	}
	// After a cut-off a file may be of tomorrow's date already.
	if tomorrow := calendar.DateOf(now).AddDays(1); it.Date > tomorrow {
		return fmt.Errorf("%w: it is dated %s, which is to come", ErrAction, it.Date)
	}
	if it.Date.AddDays(1) < it.Payment.Date {
		return fmt.Errorf("%w: it is dated %s, and the payment is of %s", ErrAction, it.Date, it.Payment.Date)
	}
	return nil
}

// Take records an item and moves its payment's case on, or opens one. The same
// item again changes nothing. An item that does not fit its payment or the case's
// stage is ErrAction.
func (e *Engine) Take(ctx context.Context, it Item, who Who, now time.Time) (c Case, err error) {
	fault.Hit("dispute.move.before")
	err = e.db.Write(ctx, func(tx store.Tx) (err error) {
		c, err = e.take(tx, it, who, now)
		return err
	})
	fault.Hit("dispute.move.after")
	if err != nil {
		return Case{}, fmt.Errorf("dispute: the %s of %s: %w", it.Stage, it.Payment.RRN, err)
	}
	return c, nil
}

// Told is what a person was told otherwise than by a file, and nobody has
// confirmed yet.
type Told struct {
	Item
	AskedBy string    `json:"asked_by"`
	Asked   time.Time `json:"asked"`
	Instead string    `json:"instead,omitempty"` // who had said otherwise under this key
}

// Tell asks for an item that came otherwise than by a file, because it moves
// money: another person confirms it. One that could not be taken is refused at
// once. Another item under its key takes its place.
func (e *Engine) Tell(ctx context.Context, it Item, who Who, now time.Time) (t Told, err error) {
	if who.Name == "" {
		return t, fmt.Errorf("dispute: %w: say who you are", ErrAction)
	}
	text, err := json.Marshal(it)
	if err != nil {
		return t, fmt.Errorf("dispute: %w", err)
	}
	undone := errors.New("dispute: only tried")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		var known int
		if err := tx.QueryRow("select count(*) from dispute_event where key = $1", it.Key).Scan(&known); err != nil {
			return err
		}
		if known > 0 {
			return fmt.Errorf("%w: %s is recorded already", ErrAction, it.Key)
		}
		if _, err := e.take(tx, it, who, now); err != nil {
			return err
		}
		return undone
	})
	if !errors.Is(err, undone) {
		return t, fmt.Errorf("dispute: the %s of %s: %w", it.Stage, it.Payment.RRN, err)
	}
	t = Told{Item: it, AskedBy: who.Name, Asked: now}
	fault.Hit("dispute.tell.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		t.Instead = ""
		was, done, err := readTold(tx, it.Key)
		switch {
		case err == nil && !done && was.Item == it:
			t = was // it waits already
			return nil
		case errors.Is(err, store.ErrNotFound):
			_, err = tx.Exec("insert into dispute_told (key, item, asked_by, asked, done) values ($1,$2,$3,$4,0)", it.Key, string(text), who.Name, now.UnixMicro())
		case err == nil:
			if !done {
				t.Instead = fmt.Sprintf("%s of %s, which %s had asked for", was.Stage, was.Payment.RRN, was.AskedBy)
			}
			_, err = tx.Exec("update dispute_told set item = $1, asked_by = $2, asked = $3, done = 0 where key = $4", string(text), who.Name, now.UnixMicro(), it.Key)
		}
		if err != nil {
			return err
		}
		return told(tx, "dispute open", &t, who)
	})
	fault.Hit("dispute.tell.after")
	if err != nil {
		return t, fmt.Errorf("dispute: the %s of %s: %w", it.Stage, it.Payment.RRN, err)
	}
	return t, nil
}

// Confirm takes what another person was told, or with refuse forgets it, which
// whoever asked may do too.
func (e *Engine) Confirm(ctx context.Context, key string, refuse bool, who Who, now time.Time) (c Case, err error) {
	if who.Name == "" {
		return c, fmt.Errorf("dispute: %w: say who you are", ErrAction)
	}
	fault.Hit("dispute.tell.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		t, done, err := readTold(tx, key)
		switch {
		case errors.Is(err, store.ErrNotFound) || done:
			return fmt.Errorf("%w: nothing waits to be confirmed under this number; acquirer dispute asked shows what does", ErrAction)
		case err != nil:
			return err
		case !refuse && audit.SamePerson(t.AskedBy, who.Name):
			return fmt.Errorf("%w: %s asked for it", audit.ErrTwoPeople, t.AskedBy)
		}
		if _, err := tx.Exec("update dispute_told set done = 1 where key = $1", key); err != nil {
			return err
		}
		if refuse {
			return told(tx, "dispute refuse", &t, who)
		}
		t.saidBy = t.AskedBy
		c, err = e.take(tx, t.Item, who, now)
		return err
	})
	fault.Hit("dispute.tell.after")
	if err != nil {
		return c, fmt.Errorf("dispute: %s: %w", key, err)
	}
	return c, nil
}

// told puts what a person asked for, or refused, into the operators' log.
func told(tx store.Tx, op string, t *Told, who Who) error {
	_, err := audit.Record(tx, audit.Entry{Who: who.Name, From: who.From, Op: op, Subject: t.Payment.RRN, Result: audit.Done,
		Detail: fmt.Sprintf("%s: %s of %s, fee %s, reason %s, dated %s", t.Key, t.Stage, t.Amount, t.Fee, t.Reason, t.Date)})
	return err
}

const toldColumns = "item, asked_by, asked, done"

func readTold(tx store.Tx, key string) (t Told, done bool, err error) {
	rows, err := tx.Query("select "+toldColumns+" from dispute_told where key = $1 for update", key)
	all, err := store.All(rows, err, func(r *store.Rows, t *Told) (err error) {
		*t, done, err = scanTold(r)
		return err
	})
	if err == nil && len(all) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return t, false, err
	}
	return all[0], done, nil
}

func scanTold(r *store.Rows) (t Told, done bool, err error) {
	var text string
	var asked int64
	if err := r.Scan(&text, &t.AskedBy, &asked, &done); err != nil {
		return t, false, err
	}
	t.Asked = time.UnixMicro(asked)
	return t, done, json.Unmarshal([]byte(text), &t.Item)
}

// Asked lists what waits for a second person, the oldest first.
func (e *Engine) Asked(ctx context.Context) (all []Told, err error) {
	err = e.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select " + toldColumns + " from dispute_told where done = 0 order by asked, key limit 1000")
		all, err = store.All(rows, err, func(r *store.Rows, t *Told) (err error) {
			*t, _, err = scanTold(r)
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dispute: listing what waits for a second person: %w", err)
	}
	return all, nil
}

// take is Take in a write.
func (e *Engine) take(tx store.Tx, it Item, who Who, now time.Time) (Case, error) {
	if err := it.check(now); err != nil {
		return Case{}, err
	}
	c, known, err := e.caseOf(tx, &it, now)
	if err != nil || known {
		return c, err
	}
	if it.Amount == 0 {
		it.Amount = it.Payment.Amount
		if c.Stage != "" && it.Stage != Retrieval && it.Stage != Chargeback {
			it.Amount = c.Amount
		}
	}
	if it.Amount <= 0 || it.Payment.Amount > 0 && it.Amount > it.Payment.Amount {
		return c, fmt.Errorf("%w: item %s disputes %s of a payment of %s", ErrAction, it.Key, it.Amount, it.Payment.Amount)
	}
	unfit := func() (Case, error) {
		if c.Stage == "" {
			return c, fmt.Errorf("%w: a %s of %s, and no case is open for it", ErrAction, it.Stage, it.Payment.RRN)
		}
		return c, fmt.Errorf("%w: a %s for case %d, which is a %s, %s", ErrAction, it.Stage, c.ID, c.Stage, c.State)
	}
	t := e.terms(c.Source)
	if it.Stage != Chargeback && it.Stage != Second { // takeBack counts those
		c.round++
	}
	c.Reason, c.Reminded, c.Asked, c.AskedBy, c.AskedAt = it.Reason, 0, "", "", time.Time{}
	days, fee, text := 0, it.Fee, string(it.Stage)+" "+it.Reason
	switch it.Stage {
	case Retrieval:
		if c.Stage != "" && c.Stage != Retrieval {
			return unfit()
		}
		c.Late = c.Late && c.State != Closed
		if err := e.free(tx, &c, now); err != nil { // asked for once more
			return c, err
		}
		c.Amount, days = it.Amount, t.Retrieval
		if err := e.keep(tx, &c, "retrieval", text, now); err != nil {
			return c, err
		}
	case Chargeback:
		if c.Stage != "" && c.Stage != Retrieval || c.State == Won || c.State == Lost {
			return unfit()
		}
		c.Amount, days = it.Amount, t.Represent
		if err := e.takeBack(tx, &c, fee, text, now); err != nil {
			return c, err
		}
		fee = 0
	case Second:
		if c.Stage != Chargeback || c.State != Answered {
			return unfit()
		}
		if it.Payment.Debit {
			return c, fmt.Errorf("%w: a %s for case %d: there is none for debit cards; the issuer asks for pre-arbitration", ErrAction, it.Stage, c.ID)
		}
		if it.Amount > c.Amount {
			return c, fmt.Errorf("%w: a %s of %s for case %d, of which %s were represented", ErrAction, it.Stage, it.Amount, c.ID, c.Amount)
		}
		c.Amount, days = it.Amount, t.Arbitrate
		if err := e.takeBack(tx, &c, fee, text, now); err != nil {
			return c, err
		}
		fee = 0
	case PreArbitration, Arbitration:
		if c.State != Answered || c.Stage != Second && (c.Stage != Chargeback || it.Stage == Arbitration) && (c.Stage != PreArbitration || it.Stage == PreArbitration) {
			return unfit()
		}
		if it.Amount != c.Amount {
			return c, fmt.Errorf("%w: a %s of %s for case %d, which is about %s", ErrAction, it.Stage, it.Amount, c.ID, c.Amount)
		}
		days = t.Arbitrate
	default:
		return c, fmt.Errorf("%w: stage %q is not known: it is one of retrieval, chargeback, second_chargeback, pre_arbitration, arbitration", ErrAction, it.Stage)
	}
	if fee > 0 { // of what takes no money itself
		if err := e.cfg.Books.ChargebackTx(tx, settlement.Chargeback{Key: c.key("fee"), Merchant: c.Merchant, Txn: c.Txn, Wallet: c.Wallet, Fee: fee, Text: text}, now); err != nil {
			return c, err
		}
	}
	if c.Fee, err = money.Sum(c.Fee, it.Fee); err != nil {
		return c, err
	}
	s, said := step{key: it.Key, who: who, op: "dispute " + string(it.Stage), amount: it.Amount, turn: true}, ""
	if it.saidBy != "" {
		said = "; " + it.saidBy + " asked for it"
	}
	if it.Stage == Arbitration {
		outcome := Lost
		if it.Won {
			outcome = Won
		}
		s.what = string(outcome) + ": the network's ruling" + said
		if err := e.end(tx, &c, outcome, now); err != nil {
			return c, err
		}
		return c, write(tx, &c, &s, now)
	}
	c.Stage, c.State = it.Stage, Open
	c.start(e.calendar(), t, it.Date, days)
	s.what = "the " + string(it.Stage) + " came, " + reasonOf(it.Reason) + said
	s.task = c.told() + ": answer it until " + c.until()
	if it.Payment.Gone > 0 {
		gone := fmt.Sprintf("; %s of %s went back to the payer before", it.Payment.Gone, it.Payment.Amount)
		s.what, s.task = s.what+gone, s.task+gone
	}
	if last := it.Payment.Date.AddDays(t.Window); it.Payment.Date != 0 && it.Date > last && (it.Stage == Retrieval || it.Stage == Chargeback) {
		late := fmt.Sprintf("; it came too late: the sale is of %s and the last day was %s", it.Payment.Date, last)
		s.what, s.task = s.what+late, s.task+late
	}
	return c, write(tx, &c, &s, now)
}

// caseOf finds the case of an item, by the item itself, which is then known, or
// by its payment, or writes a new one, which has no stage yet.
func (e *Engine) caseOf(tx store.Tx, it *Item, now time.Time) (c Case, known bool, err error) {
	p := &it.Payment
	if c, known, err = caseKnows(tx, it); err != nil || known {
		return c, known, err
	}
	var id int64
	c = Case{ID: store.NewID(), Source: it.Source, Txn: p.Txn, RRN: p.RRN, Merchant: p.Merchant, Terminal: p.Terminal, Wallet: p.Wallet, PAN: p.PAN, Amount: it.Amount,
		State: Open, Began: it.Date, Opened: now, Changed: now}
	where, arg := "txn = $2 and txn <> 0", any(p.Txn)
	if p.Txn == 0 {
		where, arg = "rrn = $2 and txn = 0", p.RRN
	}
	find := func() (bool, error) {
		err := tx.QueryRow("select id from dispute_case where source = $1 and "+where+" order by id desc limit 1", c.Source, arg).Scan(&id)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		if err == nil {
			c, err = locked(tx, id)
		}
		return true, err
	}
	if there, err := find(); err != nil || there {
		return nowKnown(tx, it, c, err)
	}
	n, err := tx.Exec("insert into dispute_case ("+caseColumns+`) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24,$25,$26,$27,$28)
		on conflict do nothing`, c.args()...)
	if err == nil && n == 0 { // another node has just opened it
		_, err = find()
		return nowKnown(tx, it, c, err)
	}
	return c, false, err
}

// caseKnows finds the case that an item was taken for before.
func caseKnows(tx store.Tx, it *Item) (c Case, known bool, err error) {
	var id int64
	err = tx.QueryRow("select case_id from dispute_event where key = $1", it.Key).Scan(&id)
	if errors.Is(err, store.ErrNotFound) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if c, err = locked(tx, id); err == nil && (c.Source != it.Source || c.Txn != it.Payment.Txn || c.RRN != it.Payment.RRN) {
		err = fmt.Errorf("%w: %s names an item of case %d, which is about %s", ErrAction, it.Key, c.ID, c.RRN)
	}
	return c, true, err
}

// nowKnown looks again behind the lock of the item's case: another node may have
// taken the same item while this one waited for it.
func nowKnown(tx store.Tx, it *Item, c Case, err error) (Case, bool, error) {
	if err != nil {
		return c, false, err
	}
	if was, known, err := caseKnows(tx, it); err != nil || known {
		return was, known, err
	}
	return c, false, nil
}
