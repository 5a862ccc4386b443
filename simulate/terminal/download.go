package terminal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"acquirer/money"
	"acquirer/spec"
)

// ErrDownload: what the host gave for download is not what a terminal can use.
const ErrDownload Failure = "download"

// mostPages is how often a terminal asks for one more page.
const mostPages = 1000

// fetch exchanges one management message of a download without a trace number
// (docs/fields.md) and gives DE 62 of its answer, valid until the next call.
func (t *Terminal) fetch(ctx context.Context, mti spec.MTI, code string, de62 []byte, what string) ([]byte, error) {
	m := t.begin(mti)
	t.set60(m, "00", code, false, false, false)
	if de62 != nil {
		m.SetBytes(62, de62)
	}
	if _, err := t.manage(ctx, m, what); err != nil {
		return nil, err
	}
	return t.ans.Bytes(62), nil
}

// end tells the host that a download is complete. What was demanded counts as
// done from here on, so that a demand in the answer is a new one.
func (t *Terminal) end(ctx context.Context, code string, d spec.Demand, what string) error {
	t.demands &^= 1 << d
	_, err := t.fetch(ctx, 0x0800, code, nil, what+" end")
	return err
}

func (t *Terminal) unusable(mti spec.MTI, err error) error { return t.failure(ErrDownload, mti, err) }

// DownloadParameters fetches the terminal's parameters (360, 361): their texts
// by their tags of two digits.
func (t *Terminal) DownloadParameters(ctx context.Context) (map[string]string, error) {
	b, err := t.fetch(ctx, 0x0800, "360", nil, "parameter download")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for e, err := range spec.WalkParameters(b) {
		if err != nil {
			return nil, t.unusable(0x0800, err)
		}
		out[e.Tag] = spec.ParameterText(e)
	}
	return out, t.end(ctx, "361", spec.DemandParameters, "parameter download")
}

// DownloadCAPKs asks which CA keys there are, page by page (372), fetches each
// (370), compares its hash with what it must be, and ends (371). A key that is
// not right ends the download without its end, so that the host does not take
// it for done.
func (t *Terminal) DownloadCAPKs(ctx context.Context) ([]spec.CAKey, error) {
	refs, err := list(ctx, t, "372", "CA key query", spec.ParseCAKeyRefs)
	if err != nil {
		return nil, err
	}
	var out []spec.CAKey
	for _, ref := range refs {
		b, err := t.fetch(ctx, 0x0800, "370", spec.AppendCAKeyID(nil, ref.CAKeyID), "CA key download")
		if err != nil {
			return nil, err
		}
		flag, objects, err := spec.CutPage(b)
		if err == nil && flag != spec.PageLast {
			err = errors.New("the host does not have it")
		}
		var k spec.CAKey
		if err == nil {
			k, err = spec.ParseCAKey(objects)
		}
		if err == nil && k.CAKeyID != ref.CAKeyID {
			err = errors.New("it is another")
		}
		if err == nil && k.Digest() != k.CheckHash {
			err = errors.New("its hash is wrong")
		}
		if err != nil {
			return nil, t.unusable(0x0800, fmt.Errorf("CA key %s: %w", ref, err))
		}
		out = append(out, k)
	}
	return out, t.end(ctx, "371", spec.DemandCAPK, "CA key download")
}

// DownloadAIDs asks which applications there are (382), fetches each (380),
// and ends (381).
func (t *Terminal) DownloadAIDs(ctx context.Context) ([]spec.Application, error) {
	aids, err := list(ctx, t, "382", "application query", spec.ParseAIDs)
	if err != nil {
		return nil, err
	}
	var out []spec.Application
	for _, aid := range aids {
		b, err := t.fetch(ctx, 0x0800, "380", spec.AppendAID(nil, aid), "application download")
		if err != nil {
			return nil, err
		}
		flag, objects, err := spec.CutPage(b)
		if err == nil && flag != spec.PageLast {
			err = errors.New("the host does not have it")
		}
		var a spec.Application
		if err == nil {
			a, err = spec.ParseApplication(objects)
		}
		if err == nil && !slices.Equal(a.AID, aid) {
			err = errors.New("it is another")
		}
		if err != nil {
			return nil, t.unusable(0x0800, fmt.Errorf("application %X: %w", aid, err))
		}
		out = append(out, a)
	}
	return out, t.end(ctx, "381", spec.DemandICParameters, "application download")
}

// list asks for pages of entries until the last one. The next page begins
// behind what was received.
func list[T any](ctx context.Context, t *Terminal, code, what string, parse func([]byte) ([]T, error)) ([]T, error) {
	var out []T
	for range mostPages {
		b, err := t.fetch(ctx, 0x0820, code, spec.AppendOffset(nil, len(out)), what)
		if err != nil {
			return nil, err
		}
		flag, entries, err := spec.CutPage(b)
		if err != nil {
			return nil, t.unusable(0x0820, err)
		}
		page, err := parse(entries)
		if err == nil && len(page) == 0 && flag == spec.PageMore {
			err = errors.New("an empty page, and more to follow")
		}
		if err != nil {
			return nil, t.unusable(0x0820, err)
		}
		out = append(out, page...)
		if flag != spec.PageMore {
			return out, nil
		}
	}
	return nil, t.unusable(0x0820, fmt.Errorf("%s: no last page after %d", what, mostPages))
}

// DownloadBlackList fetches the black list page by page (390) and ends (391).
// The entries are beginnings of card numbers and card numbers: they belong
// into the terminal's memory, not into a log.
func (t *Terminal) DownloadBlackList(ctx context.Context) ([]string, error) {
	var out []string
	for number := range mostPages {
		b, err := t.fetch(ctx, 0x0800, "390", spec.AppendOffset(nil, number), "black list download")
		if err != nil {
			return nil, err
		}
		flag, entries, err := spec.ParseBlackList(b)
		if err == nil && len(entries) == 0 && flag == spec.PageMore {
			err = errors.New("an empty page, and more to follow")
		}
		if err != nil {
			return nil, t.unusable(0x0800, err)
		}
		out = append(out, entries...)
		if flag != spec.PageMore {
			return out, t.end(ctx, "391", spec.DemandBlackList, "black list download")
		}
	}
	return nil, t.unusable(0x0800, fmt.Errorf("black list: no last page after %d", mostPages))
}

// SmallAmounts are what a contactless sale may be without a PIN, and without a
// signature.
type SmallAmounts struct{ NoPIN, NoSignature money.Amount }

// DownloadLimits fetches the contactless limits (394, 395).
func (t *Terminal) DownloadLimits(ctx context.Context) (SmallAmounts, error) {
	b, err := t.fetch(ctx, 0x0800, "394", nil, "limits download")
	if err != nil {
		return SmallAmounts{}, err
	}
	var out SmallAmounts
	for e, err := range spec.WalkLimits(b) {
		if err != nil {
			return SmallAmounts{}, t.unusable(0x0800, err)
		}
		to := map[string]*money.Amount{spec.LimitNoPIN: &out.NoPIN, spec.LimitNoSignature: &out.NoSignature}[e.Tag]
		if to == nil {
			continue
		}
		fen, err := strconv.ParseInt(string(e.Value), 10, 64)
		if err != nil || len(e.Value) != 12 {
			return SmallAmounts{}, t.unusable(0x0800, fmt.Errorf("limit %s is not twelve digits", e.Tag))
		}
		*to = money.Amount(fen)
	}
	return out, t.end(ctx, "395", spec.DemandNothing, "limits download")
}

// UploadStatus tells the host about the terminal (362): pairs of a tag and a
// text, as spec.AppendParameter takes them; none is what this terminal has to
// say.
func (t *Terminal) UploadStatus(ctx context.Context, status ...[2]string) error {
	if len(status) == 0 {
		status = [][2]string{{"11", "60"}, {"12", fmt.Sprintf("%02.0f", min(t.cfg.Timeout.Seconds(), 99))}, {"23", strconv.Itoa(t.cfg.Profile.Tries % 10)}, {"51", "000000000000"}}
	}
	var b []byte
	for _, s := range status {
		var err error
		if b, err = spec.AppendParameter(b, s[0], s[1]); err != nil {
			return fmt.Errorf("terminal %s: its status: %w", t.cfg.TID, err)
		}
	}
	t.demands &^= 1 << spec.DemandStatus
	_, err := t.fetch(ctx, 0x0820, "362", b, "status upload")
	return err
}

// told remembers what the host asked for in the header of an answer.
func (t *Terminal) told(d spec.Demand) {
	if d > spec.DemandNothing && d <= spec.DemandBlackList {
		t.demands |= 1 << d
	}
}

// Demands are what the host asked for and the terminal has not done yet.
func (t *Terminal) Demands() []spec.Demand {
	var out []spec.Demand
	for d := spec.DemandParameters; d <= spec.DemandBlackList; d++ {
		if t.demands&(1<<d) != 0 {
			out = append(out, d)
		}
	}
	return out
}

// Obey does what the host asks for until it asks for nothing, and returns what
// it did in that order. A terminal without a TMS passes over its demand.
func (t *Terminal) Obey(ctx context.Context) ([]spec.Demand, error) {
	var done []spec.Demand
	for range 3 * int(spec.DemandBlackList) {
		now := t.Demands()
		if len(now) == 0 {
			return done, nil
		}
		if err := t.obey(ctx, now[0]); err != nil {
			return done, err
		}
		done = append(done, now[0])
	}
	return done, fmt.Errorf("terminal %s: the host still asks after %v", t.cfg.TID, done)
}

func (t *Terminal) obey(ctx context.Context, d spec.Demand) error {
	var err error
	switch d {
	case spec.DemandParameters:
		_, err = t.DownloadParameters(ctx)
	case spec.DemandStatus:
		err = t.UploadStatus(ctx)
	case spec.DemandSignIn:
		err = t.SignIn(ctx)
	case spec.DemandCAPK:
		_, err = t.DownloadCAPKs(ctx)
	case spec.DemandICParameters:
		if _, err = t.DownloadAIDs(ctx); err == nil {
			_, err = t.DownloadLimits(ctx)
		}
	case spec.DemandBlackList:
		_, err = t.DownloadBlackList(ctx)
	default:
		t.demands &^= 1 << d
	}
	if err != nil {
		t.demands |= 1 << d
	}
	return err
}
