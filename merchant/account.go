package merchant

import (
	"errors"
	"fmt"
	"time"

	"acquirer/store"
)

// ErrClosed says that a merchant is closed, for good.
var ErrClosed = errors.New("merchant: closed")

// SetAccountTx makes a the settlement account of a merchant from now on, inside
// a transaction; its number is sealed. ErrUnknown or ErrClosed when the merchant
// can have none. A Registry has it with its next Refresh.
func SetAccountTx(tx store.Tx, mid string, a Account, now time.Time) error {
	version, err := nextVersion(tx)
	if err != nil {
		return err
	}
	var status Status
	err = tx.QueryRow("select status from merchant where mid = $1 for update", mid).Scan(&status)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: merchant %.20q", ErrUnknown, mid)
	case err != nil:
		return err
	case status == Closed:
		return fmt.Errorf("%w: %s", ErrClosed, mid)
	}
	_, err = tx.Exec(`update merchant set account_sealed = $1, account_masked = $2, account_name = $3, account_bank = $4, account_class = $5,
		account_changed = $6, version = $7 where mid = $8`, a.Sealed, a.Masked, a.Name, a.Bank, a.Class, now.UnixMicro(), version, mid)
	return err
}

// HasAccountTx reports whether a merchant's settlement account is still the one
// that it became at a moment (Account.Changed).
func HasAccountTx(tx store.Tx, mid string, since time.Time) (bool, error) {
	var changed int64
	if err := tx.QueryRow("select account_changed from merchant where mid = $1 for update", mid).Scan(&changed); err != nil {
		return false, err
	}
	var now Account
	now.changed(changed)
	return now.Changed.Equal(since), nil
}
