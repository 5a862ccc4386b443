package terminal

import (
	"context"
	"fmt"

	"acquirer/hsm/algo"
	"acquirer/spec"
)

// SignIn asks for working keys (0800, DE 60.3 by the profile), checks their
// check values and puts them in force, and takes over the host's batch
// number. On any error the terminal keeps the keys it had. An answer other
// than 00 is a *Refusal.
func (t *Terminal) SignIn(ctx context.Context) error {
	res, err := t.manage(ctx, t.buildSignIn(), "sign-in")
	if err != nil {
		return err
	}
	keys, err := algo.ParseDE62(t.tmk, t.ans.Bytes(62))
	if err != nil {
		return t.failure(ErrKeys, 0x0800, err)
	}
	if want := t.cfg.Profile.KeySet; (want == 4) != (keys.TDK != nil) || (want == 1) != (keys.PIK.Len() == 8) {
		return t.failure(ErrKeys, 0x0800, fmt.Errorf("DE 62 of %d bytes is not set %03d", len(t.ans.Bytes(62)), want))
	}
	t.keys, t.resign = keys, res.Demand == spec.DemandSignIn
	if batch := batchOf(&t.ans); batch > 0 {
		t.state.Batch = batch
	}
	if err := t.save(); err != nil {
		return t.failure(ErrState, 0x0800, err)
	}
	return nil
}

// SignOff ends the day (0820, DE 60.3 002). The terminal forgets its working
// keys.
func (t *Terminal) SignOff(ctx context.Context) error {
	if _, err := t.manage(ctx, t.buildSignOff(), "sign-off"); err != nil {
		return err
	}
	t.keys = algo.SignInKeys{}
	return nil
}

// Echo tests the line (0820, DE 60.3 301).
func (t *Terminal) Echo(ctx context.Context) error {
	_, err := t.manage(ctx, t.buildEcho(), "echo")
	return err
}

// manage exchanges a management message and demands 00.
func (t *Terminal) manage(ctx context.Context, req *spec.Message, what string) (Result, error) {
	res, err := t.Exchange(ctx, req)
	if err != nil {
		return res, err
	}
	if res.Code != "00" {
		return res, &Refusal{TID: t.cfg.TID, What: what, Code: res.Code}
	}
	return res, nil
}
