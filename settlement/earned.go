package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// What a business date earned belongs to the house when two people have signed
// that the date agrees with the files of the others. It is then carried from the
// accounts of income and costs to what CLIENT owes OWN (2501), and paid to our
// own account when the network's and the wallets' money of the date has come.
// Closed dates never change, so both are booked on the open one.

// EarnedState says where the income of a signed date stands.
type EarnedState int

// The states.
const (
	EarnedSigned  EarnedState = iota + 1 // waits for the date's close
	EarnedCarried                        // in 2501, waits for the money
	EarnedSwept                          // in our own account; or there was nothing to pay
)

var earnedStates = [...]string{"none", "signed", "carried", "swept"}

func (s EarnedState) String() string {
	if s < 0 || int(s) >= len(earnedStates) {
		return fmt.Sprintf("state %d", int(s))
	}
	return earnedStates[s]
}

// MarshalText writes String; UnmarshalText reads it.
func (s EarnedState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *EarnedState) UnmarshalText(text []byte) error {
	for i, name := range earnedStates {
		if name == string(text) {
			*s = EarnedState(i)
			return nil
		}
	}
	return fmt.Errorf("settlement: %.40q is no state of a day's income", text)
}

// Earned is the income of a signed business date.
type Earned struct {
	Day   calendar.Date `json:"day"`
	State EarnedState   `json:"state"`
	Net   money.Amount  `json:"net"` // what was carried: income less costs; below zero a loss
}

// SignedTx says, in the write of the second signature, that a business date
// agrees with the files of the others. Its income is carried and swept in this
// write too as far as it can be, and else by Earn.
func SignedTx(tx store.Tx, day calendar.Date, now time.Time) error {
	open, err := openDateTx(tx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec("insert into settlement_earned (day, state, net, signed) values ($1,$2,0,$3) on conflict (day) do nothing", day, int(EarnedSigned), now.UnixMicro()); err != nil {
		return fmt.Errorf("settlement: income of %s: %w", day, err)
	}
	return earnTx(tx, day, max(open, calendar.DateOf(now)))
}

// EarnedTx reads how the income of a business date stands; ErrNotFound of store
// when nobody has signed it.
func EarnedTx(tx store.Tx, day calendar.Date) (Earned, error) {
	d := Earned{Day: day}
	err := tx.QueryRow("select state, net from settlement_earned where day = $1", day).Scan(&d.State, &d.Net)
	return d, err
}

// Earn carries and sweeps the income of the signed dates that wait for it.
// CloseDay and Receive end with it.
func (e *Engine) Earn(ctx context.Context, now time.Time) error {
	var days []calendar.Date
	err := e.db.Read(ctx, func(tx store.Tx) (err error) {
		rows, err := tx.Query("select day from settlement_earned where state < 3 order by day")
		days, err = store.All(rows, err, func(r *store.Rows, d *calendar.Date) error { return r.Scan(d) })
		return err
	})
	if err != nil {
		return fmt.Errorf("settlement: looking for income to carry: %w", err)
	}
	for _, day := range days {
		fault.Hit("settlement.earn.before")
		err := e.db.Write(ctx, func(tx store.Tx) error {
			date, err := e.lockBooks(tx, now)
			if err != nil {
				return err
			}
			return earnTx(tx, day, date)
		})
		fault.Hit("settlement.earn.after")
		if err != nil {
			return fmt.Errorf("settlement: income of %s: %w", day, err)
		}
		if err := e.step("earned"); err != nil {
			return err
		}
	}
	return nil
}

// earnTx does what is due for a signed date: carry when its close is through,
// sweep when its money has come. The caller has locked the books.
func earnTx(tx store.Tx, day, date calendar.Date) error {
	d, err := EarnedTx(tx, day)
	if err != nil {
		return err
	}
	was := d
	if d.State == EarnedSigned {
		if err := d.carry(tx, date); err != nil {
			return err
		}
	}
	if d.State == EarnedCarried {
		if err := d.sweep(tx, date); err != nil {
			return err
		}
	}
	if d == was {
		return nil
	}
	_, err = tx.Exec("update settlement_earned set state = $1, net = $2 where day = $3", int(d.State), d.Net, day)
	return err
}

// carry books the daily close once all runs of the day are through: until then
// fees for speed may come. What belongs to held lines is no income yet and is
// left to the close of a day by which they are held no more.
func (d *Earned) carry(tx store.Tx, date calendar.Date) error {
	var closed int
	if err := tx.QueryRow("select count(*) from settlement_run where date = $1 and seq = $2 and state = $3", d.Day, seqClose, runClosed).Scan(&closed); err != nil || closed == 0 {
		return err
	}
	if err := leaveApart(tx, d.Day); err != nil {
		return fmt.Errorf("settlement: leaving out what is held: %w", err)
	}
	income, err := dayEarned(tx, d.Day)
	if err != nil {
		return err
	}
	if t, any := ledger.DailyClose(d.Day, date, &income); any {
		if _, err := ledger.PostTx(tx, []ledger.Transfer{t}); err != nil {
			return err
		}
	}
	d.State, d.Net = EarnedCarried, income.Net()
	return nil
}

// leaveApart writes down what of a day's income belongs to lines that are held,
// and gives the day what was held on earlier ones and is no more.
func leaveApart(tx store.Tx, day calendar.Date) error {
	if _, err := tx.Exec(`insert into settlement_apart (line, day, rate, fixed, issuer, network, carried)
		select id, $1, fee_rate, fee_fixed, issuer_fee, network_fee, 0 from settlement_line where run = -3 and date = $1 on conflict (line) do nothing`, day); err != nil {
		return err
	}
	_, err := tx.Exec(`update settlement_apart set carried = $1 where carried = 0 and day <> $1
		and not exists (select 1 from settlement_line l where l.id = settlement_apart.line and l.run = -3)`, day)
	return err
}

// dayEarned is what the close of a day carries: what its movements earned, less
// what it left apart, and what it took over from earlier days.
func dayEarned(tx store.Tx, day calendar.Date) (ledger.Income, error) {
	i, err := ledger.DayIncomeTx(tx, day)
	if err != nil {
		return i, err
	}
	for _, part := range []struct {
		column string
		sign   money.Amount
	}{{"day", -1}, {"carried", 1}} {
		var p ledger.Income
		if err := tx.QueryRow(`select cast(coalesce(sum(rate), 0) as BIGINT), cast(coalesce(sum(fixed), 0) as BIGINT), cast(coalesce(sum(issuer), 0) as BIGINT),
			cast(coalesce(sum(network), 0) as BIGINT) from settlement_apart where `+part.column+" = $1", day).Scan(&p.Rate, &p.Fixed, &p.Issuer, &p.Network); err != nil {
			return i, err
		}
		i.Rate, i.Fixed, i.Issuer, i.Network = i.Rate+part.sign*p.Rate, i.Fixed+part.sign*p.Fixed, i.Issuer+part.sign*p.Issuer, i.Network+part.sign*p.Network
	}
	return i, nil
}

// sweep pays what the day earned to our own account. It waits while a network or
// a wallet has not paid the day, and while merchants' money would be touched. A
// loss is not paid; it makes the sweep of a later day smaller.
func (d *Earned) sweep(tx store.Tx, date calendar.Date) error {
	if waits, err := moneyWaits(tx, d.Day); err != nil || waits {
		return err
	}
	due, err := ledger.BalanceTx(tx, ledger.DueToOwnIncome, "")
	if err != nil {
		return err
	}
	amount := min(d.Net, due.Net(ledger.DueToOwnIncome))
	if amount > 0 {
		bank, err := ledger.BalanceTx(tx, ledger.ClientBank, "")
		if err != nil {
			return err
		}
		surplus, err := ledger.SurplusTx(tx)
		if err != nil || amount > min(surplus, bank.Available(ledger.ClientBank)) {
			return err
		}
		if _, err := ledger.PostTx(tx, []ledger.Transfer{ledger.Sweep(d.Day, date, amount)}); err != nil {
			return err
		}
	}
	d.State = EarnedSwept
	return nil
}

// payersOf are those, "" for the card network, who owe something for a date.
const payersOf = `select l.wallet from settlement_line l join settlement_run r on r.id = l.run where l.run > 0 and r.date = $1
		union select i.wallet from settlement_item i join settlement_run r on r.id = i.run where i.run > 0 and r.date = $1
		union select wallet from settlement_expected where date = $1`

// moneyWaits reports that somebody owes money for a closed day. Where the day
// comes to nothing, or less, none will come.
func moneyWaits(tx store.Tx, day calendar.Date) (bool, error) {
	rows, err := tx.Query(`select wallet from (`+payersOf+`) w
		where not exists (select 1 from settlement_receipt p where p.date = $1 and p.wallet = w.wallet)`, day)
	owing, err := store.All(rows, err, func(r *store.Rows, w *string) error { return r.Scan(w) })
	if err != nil {
		return false, err
	}
	for _, wallet := range owing {
		if sum, err := expected(tx, day, wallet); err != nil || sum > 0 {
			return true, err
		}
	}
	return false, nil
}

// checkEarned computes the income of every signed date again and holds the
// transfers against it: each date was carried once, with what it earned, and
// nothing was swept that was not carried.
func checkEarned(tx store.Tx) (problems []string, err error) {
	rows, err := tx.Query("select day, state, net from settlement_earned order by day")
	days, err := store.All(rows, err, func(r *store.Rows, d *Earned) error { return r.Scan(&d.Day, &d.State, &d.Net) })
	if err != nil {
		return nil, err
	}
	var carried, swept, transfers int
	var sum money.Amount // what should stand on 2501
	for _, d := range days {
		income := ledger.Income{}
		if d.State >= EarnedCarried {
			if income, err = dayEarned(tx, d.Day); err != nil {
				return nil, err
			}
		}
		booked, found, err := netOf(tx, ledger.CloseKey(d.Day))
		if err != nil {
			return nil, err
		}
		if found {
			carried++
			sum += booked
		}
		if income.Net() != d.Net || booked != d.Net {
			problems = append(problems, fmt.Sprintf("daily close of %s: it earned %s, %s is noted and %s was carried", d.Day, income.Net(), d.Net, booked))
		}
		paid, found, err := netOf(tx, ledger.SweepKey(d.Day))
		if err != nil {
			return nil, err
		}
		if found {
			swept++
			sum += paid
		}
		if -paid > max(0, d.Net) || found && d.State != EarnedSwept {
			problems = append(problems, fmt.Sprintf("sweep of %s: %s was swept of %s; its income is %s", d.Day, -paid, d.Net, d.State))
		}
	}
	if err := tx.QueryRow("select count(*) from ledger_transfer where event in ($1, $2)", ledger.EventClose, ledger.EventSweep).Scan(&transfers); err != nil {
		return nil, err
	}
	if transfers != carried+swept {
		problems = append(problems, fmt.Sprintf("daily closes and sweeps: the ledger has %d and the signed dates account for %d", transfers, carried+swept))
	}
	due, err := ledger.BalanceTx(tx, ledger.DueToOwnIncome, "")
	if err == nil && due.Net(ledger.DueToOwnIncome) != sum {
		problems = append(problems, fmt.Sprintf("income not swept: the account has %s and closes less sweeps are %s", due.Net(ledger.DueToOwnIncome), sum))
	}
	return problems, err
}

// netOf is what the transfer with a key moves to what CLIENT owes OWN, below
// zero where it takes it away.
func netOf(tx store.Tx, key string) (net money.Amount, found bool, err error) {
	legs, err := ledger.LegsTx(tx, key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, false, nil
	}
	for _, l := range legs {
		switch {
		case l.Account != ledger.DueToOwnIncome:
		case l.Side == ledger.Credit:
			net += l.Amount
		default:
			net -= l.Amount
		}
	}
	return net, err == nil, err
}
