package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"acquirer/ledger"
	"acquirer/money"
	"acquirer/store"
)

// booking is what one kind of transfer of a comparison may look like.
type booking struct {
	event    ledger.Event
	accounts []ledger.Account
	whole    bool // over all of the difference
}

// bookings are by what a transfer's key begins with; behind it stands the key of
// the difference that it is of.
var bookings = map[string]booking{
	"long":            {ledger.EventLongItem, []ledger.Account{ledger.NetworkReceivable, ledger.QRReceivable, ledger.SuspenseLong}, true},
	"long-resolved":   {ledger.EventLongResolved, []ledger.Account{ledger.NetworkReceivable, ledger.QRReceivable, ledger.SuspenseLong, ledger.MerchantPayable}, true},
	"short":           {ledger.EventShortItem, []ledger.Account{ledger.NetworkReceivable, ledger.QRReceivable, ledger.SuspenseShort}, true},
	"short-recovered": {ledger.EventShortResolved, []ledger.Account{ledger.NetworkReceivable, ledger.QRReceivable, ledger.WriteOff}, true},
	"short-resolved":  {ledger.EventShortResolved, []ledger.Account{ledger.SuspenseShort, ledger.WriteOff, ledger.MerchantPayable}, true},
	"short-found":     {ledger.EventShortResolved, []ledger.Account{ledger.NetworkReceivable, ledger.QRReceivable, ledger.SuspenseShort}, true},
	"fee-difference":  {ledger.EventFeeDifference, []ledger.Account{ledger.NetworkReceivable, ledger.QRReceivable, ledger.CostIssuer, ledger.CostNetwork, ledger.CostBrand}, false},
}

// bookingOf finds what a transfer with a key may look like, and of which
// difference it is. Sales without a price wait in suspense too and are not ours.
func bookingOf(key string) (of string, b booking, ours bool) {
	head, rest, _ := strings.Cut(key, "/")
	b, ours = bookings[head]
	return rest, b, ours && !strings.HasPrefix(rest, "unpriced-")
}

// verifyPage is how many transfers Verify looks at together.
const verifyPage = 256

// Verify holds the transfers that comparisons have booked against their
// differences, and returns in words which are of none, of another amount or
// merchant, or on accounts that such a thing does not touch.
func Verify(ctx context.Context, db *store.DB) (problems []string, err error) {
	err = db.ReadLong(ctx, func(tx store.Tx) error {
		problems = nil
		problem := func(format string, args ...any) {
			if len(problems) < 100 {
				problems = append(problems, fmt.Sprintf(format, args...))
			}
		}
		seen := 0
		for after := ""; ; {
			rows, err := tx.Query("select key from ledger_transfer where event in ($1, $2, $3, $4, $5) and key > $6 order by key limit $7", ledger.EventLongItem,
				ledger.EventLongResolved, ledger.EventShortItem, ledger.EventShortResolved, ledger.EventFeeDifference, after, verifyPage)
			keys, err := store.All(rows, err, func(r *store.Rows, key *string) error { return r.Scan(key) })
			if err != nil {
				return err
			}
			n, err := verifyKeys(tx, keys, problem)
			if err != nil {
				return err
			}
			if seen += n; len(keys) < verifyPage {
				break
			}
			after = keys[len(keys)-1]
		}
		all := 0
		if err := ledger.KeysTx(tx, func(key string) {
			if _, _, ours := bookingOf(key); ours {
				all++
			}
		}); err != nil {
			return err
		}
		if all != seen {
			problem("%d transfers have keys of reconciliation and %d are booked as something of it", all, seen)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reconcile: comparing the ledger with the differences: %w", err)
	}
	return problems, nil
}

// verifyKeys looks at the transfers with keys and returns how many were ours.
func verifyKeys(tx store.Tx, keys []string, problem func(string, ...any)) (ours int, err error) {
	have, err := ledger.TransfersTx(tx, keys)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		of, want, mine := bookingOf(key)
		if !mine {
			continue
		}
		ours++
		t := have[key]
		if t.Event != want.event || t.Kind != ledger.Posted {
			problem("%s: it is booked as %s (%s), not as %s", key, t.Event, t.Kind, want.event)
		}
		var sum money.Amount
		merchant := ""
		for _, l := range t.Legs {
			if !slices.Contains(want.accounts, l.Account) {
				problem("%s: %s of %s has no business with %s", key, l.Side, l.Amount, l.Account)
			}
			if l.Side == ledger.Debit {
				sum += l.Amount
			}
			if l.Account == ledger.MerchantPayable {
				merchant = l.Sub
			}
		}
		if strings.HasPrefix(of, "cancelled/") {
			continue // a payment and its reversal in one file: fees alone, of no difference
		}
		rows, err := tx.Query("select "+breakColumns+" from recon_break where key = $1", of)
		found, err := store.All(rows, err, scanBreak)
		if err != nil {
			return 0, err
		}
		switch {
		case len(found) == 0:
			problem("%s: %s is booked for a difference that nobody found", key, sum)
		case want.whole && sum != max(found[0].net(), -found[0].net()):
			problem("%s: it is booked with %s and the difference is %s", key, sum, found[0].net())
		case merchant != "" && merchant != found[0].Merchant:
			problem("%s: it is booked with merchant %s and the difference is of merchant %q", key, merchant, found[0].Merchant)
		}
	}
	return ours, nil
}
