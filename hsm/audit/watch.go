package audit

import (
	"context"
	"strings"

	"acquirer/hsm"
)

// Watch puts the log between an HSM and who uses it: every verb that makes,
// takes in or gives out a key is on disk in the log before its result is
// given away, and its refusal is too. The verbs of a transaction pass by
// untouched. who is the user that the log names.
func Watch(h hsm.HSM, l *Log, who string) hsm.HSM { return &watched{h, l, who} }

// WatchKeeper is Watch for an HSM that keeps keys.
func WatchKeeper(k hsm.Keeper, l *Log, who string) hsm.Keeper {
	return &watchedKeeper{watched{k, l, who}, k}
}

type watched struct {
	hsm.HSM
	log *Log
	who string
}

type watchedKeeper struct {
	watched
	keeper hsm.Keeper
}

var _ hsm.Keeper = (*watchedKeeper)(nil)

// note writes what became of an operation, and returns its error or the log's.
func (w *watched) note(e Entry, err error) error {
	e.Who = w.who
	if err != nil {
		e.Error = err.Error()
	}
	if failed := w.log.Append(e); failed != nil {
		return failed // what was made is not given away
	}
	return err
}

// of is the check value of a key that was just made or used.
func (w *watched) of(ctx context.Context, key hsm.Key) string {
	if key == "" {
		return ""
	}
	kcv, err := w.HSM.CheckValue(ctx, key)
	if err != nil {
		return "" // it is no key of this HSM, which the error of the verb says
	}
	return kcv.Short()
}

func (w *watched) GenerateKey(ctx context.Context, use hsm.Use, alg hsm.Alg) (hsm.Key, hsm.KCV, error) {
	key, kcv, err := w.HSM.GenerateKey(ctx, use, alg)
	if err = w.note(Entry{Op: "generate", Use: use.String(), KCV: shown(kcv, err)}, err); err != nil {
		return "", hsm.KCV{}, err
	}
	return key, kcv, nil
}

func (w *watched) ImportKey(ctx context.Context, kek hsm.Key, use hsm.Use, cryptogram, kcv []byte) (hsm.Key, error) {
	key, err := w.HSM.ImportKey(ctx, kek, use, cryptogram, kcv)
	if err = w.note(Entry{Op: "import", Use: use.String(), KCV: w.of(ctx, key), Note: "under " + w.of(ctx, kek)}, err); err != nil {
		return "", err
	}
	return key, nil
}

func (w *watched) ExportKey(ctx context.Context, kek, key hsm.Key) (cryptogram, kcv []byte, err error) {
	cryptogram, kcv, err = w.HSM.ExportKey(ctx, kek, key)
	if err = w.note(Entry{Op: "export", KCV: w.of(ctx, key), Note: "under " + w.of(ctx, kek)}, err); err != nil {
		return nil, nil, err
	}
	return cryptogram, kcv, nil
}

func (w *watched) DeliverTMK(ctx context.Context, transport hsm.Key, alg hsm.Alg) (tmk hsm.Key, cryptogram, kcv []byte, err error) {
	tmk, cryptogram, kcv, err = w.HSM.DeliverTMK(ctx, transport, alg)
	if err = w.note(Entry{Op: "deliver", Use: hsm.UseTMK.String(), KCV: w.of(ctx, tmk), Note: "under TTK " + w.of(ctx, transport)}, err); err != nil {
		return "", nil, nil, err
	}
	return tmk, cryptogram, kcv, nil
}

func (w *watched) WorkingKeys(ctx context.Context, tmk hsm.Key, set hsm.KeySet, shape hsm.MAKShape) (hsm.WorkingKeys, error) {
	keys, err := w.HSM.WorkingKeys(ctx, tmk, set, shape)
	e := Entry{Op: "working keys", Note: "under TMK " + w.of(ctx, tmk)}
	if err == nil {
		uses, values := []string{"TPK", "TAK"}, []string{w.of(ctx, keys.TPK), w.of(ctx, keys.TAK)}
		if keys.TDK != "" {
			uses, values = append(uses, "TDK"), append(values, w.of(ctx, keys.TDK))
		}
		e.Use, e.KCV = strings.Join(uses, " "), strings.Join(values, " ")
	}
	if err = w.note(e, err); err != nil {
		return hsm.WorkingKeys{}, err
	}
	return keys, nil
}

func (w *watchedKeeper) FormKey(ctx context.Context, use hsm.Use, alg hsm.Alg, components ...[]byte) (hsm.Key, hsm.KCV, error) {
	key, kcv, err := w.keeper.FormKey(ctx, use, alg, components...)
	if err = w.note(Entry{Op: "form", Use: use.String(), KCV: shown(kcv, err), Custodians: Custodians(ctx)}, err); err != nil {
		return "", hsm.KCV{}, err
	}
	return key, kcv, nil
}

func (w *watchedKeeper) DeliverTMKBlock(ctx context.Context, kbpk hsm.Key, alg hsm.Alg) (tmk hsm.Key, block string, kcv hsm.KCV, err error) {
	tmk, block, kcv, err = w.keeper.DeliverTMKBlock(ctx, kbpk, alg)
	if err = w.note(Entry{Op: "deliver", Use: hsm.UseTMK.String(), KCV: shown(kcv, err), Note: "under KBPK " + w.of(ctx, kbpk)}, err); err != nil {
		return "", "", hsm.KCV{}, err
	}
	return tmk, block, kcv, nil
}

// Rewrap passes by: a rotation is one operation and notes itself as one.
func (w *watchedKeeper) Rewrap(ctx context.Context, key hsm.Key) (hsm.Key, error) {
	return w.keeper.Rewrap(ctx, key)
}

func (w *watchedKeeper) Inspect(ctx context.Context, key hsm.Key) (hsm.KeyInfo, error) {
	return w.keeper.Inspect(ctx, key)
}

func (w *watchedKeeper) Masters(ctx context.Context) ([]hsm.KCV, error) {
	return w.keeper.Masters(ctx)
}

func shown(kcv hsm.KCV, err error) string {
	if err != nil {
		return ""
	}
	return kcv.Short()
}

type custodiansKey struct{}

// WithCustodians says who stands by what ctx is given to.
func WithCustodians(ctx context.Context, names []string) context.Context {
	return context.WithValue(ctx, custodiansKey{}, names)
}

// Custodians is who stands by.
func Custodians(ctx context.Context) []string {
	names, _ := ctx.Value(custodiansKey{}).([]string)
	return names
}
