package terminal

import (
	"context"
	"errors"
	"fmt"

	"acquirer/hsm/algo"
	"acquirer/spec"
)

// SignIn asks for working keys (0800, DE 60.3 by the profile), checks their
// check values and puts them in force, and takes over the host's batch
// number. On any error the terminal keeps the keys it had. An answer other
// than 00 is a *Refusal.
//
// Answered 77, it takes over the batch number of the answer and signs in
// again, once (protocol.md 4.8).
func (t *Terminal) SignIn(ctx context.Context) error {
	t.demands &^= 1 << spec.DemandSignIn // a demand in the answer is a new one
	res, err := t.manage(ctx, t.buildSignIn(), "sign-in")
	var refused *Refusal
	if errors.As(err, &refused) && refused.Code == "77" {
		if batch := batchOf(&t.ans); batch > 0 && batch != t.state.Batch {
			t.state.Batch = batch
			res, err = t.manage(ctx, t.buildSignIn(), "sign-in")
		}
	}
	if err != nil {
		return err
	}
	keys, err := workingKeys(t.tmk, t.cfg.Profile.KeySet, t.ans.Bytes(62))
	if err != nil {
		return t.failure(ErrKeys, 0x0800, err)
	}
	t.keys, t.resign = keys, res.Demand == spec.DemandSignIn
	if batch := batchOf(&t.ans); batch > 0 && t.cfg.Profile.BatchRule == BatchOfHost {
		t.state.Batch = batch
	}
	if err := t.save(); err != nil {
		return t.failure(ErrState, 0x0800, err)
	}
	return nil
}

// downloads is DE 60.1 and 60.3 of a master key download, by Profile.Download.
var downloads = map[string][2]string{"420": {"00", "420"}, "682": {"00", "682"}, "99": {"99", "003"}}

// DownloadTMK fetches a new terminal master key under the transport key in
// Config.TTK, takes it into use and signs in with it: 0800 with DE 41, 42, 60
// and, of a device that has one, its serial number in DE 62; the answer's DE
// 62 is the key of 16 or 24 bytes and 4 bytes of check value. On an error
// before the sign-in the terminal keeps the keys it had.
func (t *Terminal) DownloadTMK(ctx context.Context) error {
	if t.ttk == nil {
		return fmt.Errorf("terminal %s: a master key can only be downloaded under a transport key: set Config.TTK", t.cfg.TID)
	}
	m := t.begin(0x0800)
	codes := downloads[t.cfg.Profile.Download]
	t.set60(m, codes[0], codes[1], false, false, false)
	if serial := t.cfg.Profile.Device.Serial; serial != "" {
		m.SetBytes(62, []byte(serial))
	}
	if _, err := t.manage(ctx, m, "master key download"); err != nil {
		return err
	}
	de62 := t.ans.Bytes(62)
	n := len(de62) - 4
	if n != 16 && n != 24 {
		return t.failure(ErrKeys, 0x0800, fmt.Errorf("DE 62 of %d bytes is no master key of 16 or 24 and its check value", len(de62)))
	}
	key := make([]byte, n)
	if err := t.ttk.DecryptECB(key, de62[:n]); err != nil {
		return t.failure(ErrKeys, 0x0800, err)
	}
	tmk, err := checkedKey(t.cfg.Profile.KeySet, key, de62[n:])
	if err != nil {
		return t.failure(ErrKeys, 0x0800, fmt.Errorf("master key: %w", err))
	}
	t.tmk, t.state.TMK = tmk, key
	if err := t.save(); err != nil {
		return t.failure(ErrState, 0x0800, err)
	}
	return t.SignIn(ctx)
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
	t.told(res.Demand)
	if res.Code != "00" {
		return res, &Refusal{TID: t.cfg.TID, What: what, Code: res.Code}
	}
	return res, nil
}
