package terminal

import (
	"context"
	"errors"
	"slices"
	"testing"

	"acquirer/spec"
)

// What a host gives that cannot be used ends the download before its end, so
// that the host does not take it for done.
func TestDownloadsThatCannotBeUsed(t *testing.T) {
	k := spec.CAKey{CAKeyID: spec.CAKeyID{RID: [5]byte{0xA0, 0, 0, 3, 0x33}, Index: 1}, Expires: "20351231", HashAlg: 1, KeyAlg: 1, Modulus: make([]byte, 128), Exponent: []byte{3}}
	k.CheckHash = k.Digest()
	ref := spec.AppendCAKeyRef([]byte("1"), spec.CAKeyRef{CAKeyID: k.CAKeyID, Expires: k.Expires})
	forged, other := k, k
	forged.Modulus = append([]byte{1}, k.Modulus[1:]...)
	other.Index, other.CheckHash = 2, [20]byte{}
	other.CheckHash = other.Digest()
	app := spec.Application{AID: make([]byte, 8)}
	aid := spec.AppendAID([]byte("1"), app.AID)
	keys := func(ctx context.Context, term *Terminal) error { _, err := term.DownloadCAPKs(ctx); return err }
	aids := func(ctx context.Context, term *Terminal) error { _, err := term.DownloadAIDs(ctx); return err }
	for name, c := range map[string]struct {
		answers map[int]string // DE 60.3 -> DE 62
		do      func(context.Context, *Terminal) error
		good    bool
	}{
		"a right key":                {map[int]string{372: string(ref), 370: "1" + string(k.Append(nil))}, keys, true},
		"a key with another hash":    {map[int]string{372: string(ref), 370: "1" + string(forged.Append(nil))}, keys, false},
		"another key":                {map[int]string{372: string(ref), 370: "1" + string(other.Append(nil))}, keys, false},
		"a key the host has not":     {map[int]string{372: string(ref), 370: "0"}, keys, false},
		"half a key":                 {map[int]string{372: string(ref), 370: "1" + string(k.Append(nil)[:40])}, keys, false},
		"a list without end":         {map[int]string{372: "2"}, keys, false},
		"a list that cannot be read": {map[int]string{372: "1\x9F\x06"}, keys, false},
		"a list without a flag":      {map[int]string{372: ""}, keys, false},
		"no keys":                    {map[int]string{372: "0"}, keys, true},
		"a right application":        {map[int]string{382: string(aid), 380: "1" + string(app.Append(nil))}, aids, true},
		"an application of garbage":  {map[int]string{382: string(aid), 380: "1\xFF"}, aids, false},
		"an application without":     {map[int]string{382: string(aid), 380: "0"}, aids, false},
		"parameters": {map[int]string{360: "9"}, func(ctx context.Context, term *Terminal) error {
			_, err := term.DownloadParameters(ctx)
			return err
		}, false},
		"limits": {map[int]string{394: "FF80580031x0"}, func(ctx context.Context, term *Terminal) error {
			_, err := term.DownloadLimits(ctx)
			return err
		}, false},
		"black list": {map[int]string{390: "199"}, func(ctx context.Context, term *Terminal) error {
			_, err := term.DownloadBlackList(ctx)
			return err
		}, false},
		"black list without end": {map[int]string{390: "200"}, func(ctx context.Context, term *Terminal) error {
			_, err := term.DownloadBlackList(ctx)
			return err
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			term := open(t, h, nil)
			ended := false
			h.reply = func(_ *host, req, ans *spec.Message) []byte {
				d, _ := spec.ParseDE60(req)
				ans.Reset(spec.UnionPayPOS, req.MTI().Response())
				ans.Copy(req, 41, 42, 60)
				ans.Set(39, "00")
				if text, ok := c.answers[d.NetworkCode]; ok && text != "" {
					ans.SetBytes(62, []byte(text))
				}
				ended = ended || d.NetworkCode%10 == 1 || d.NetworkCode == 395
				f := spec.POSFrame{TPDU: [5]byte{0x60}, Header: [6]byte{0x60}}
				out, err := f.AppendReply(nil, spec.DemandTMS, ans)
				if err != nil {
					t.Error(err)
				}
				return out
			}
			err := c.do(t.Context(), term)
			if c.good && (err != nil || !ended) || !c.good && (!errors.Is(err, ErrDownload) || ended) {
				t.Errorf("%v, ended %v", err, ended)
			}
			if d := term.Demands(); !slices.Equal(d, []spec.Demand{spec.DemandTMS}) {
				t.Errorf("the host asked for %v", d)
			}
			if c.good {
				done, err := term.Obey(t.Context()) // there is no TMS here, and nothing is sent
				if err != nil || len(done) != 1 || len(term.Demands()) != 0 {
					t.Errorf("obeyed %v, %v", done, err)
				}
			}
		})
	}
}

// A host that never stops asking is left.
func TestObeyEnds(t *testing.T) {
	h := newHost(t)
	term := open(t, h, nil)
	h.reply = func(_ *host, req, ans *spec.Message) []byte {
		ans.Reset(spec.UnionPayPOS, req.MTI().Response())
		ans.Copy(req, 41, 42, 60)
		ans.Set(39, "00")
		out, err := (&spec.POSFrame{TPDU: [5]byte{0x60}, Header: [6]byte{0x60}}).AppendReply(nil, spec.DemandStatus, ans)
		if err != nil {
			t.Error(err)
		}
		return out
	}
	if err := term.Echo(t.Context()); err != nil {
		t.Fatal(err)
	}
	done, err := term.Obey(t.Context())
	if err == nil || len(done) == 0 || !slices.Equal(term.Demands(), []spec.Demand{spec.DemandStatus}) {
		t.Errorf("obeyed %v, %v", done, err)
	}
	if err := term.UploadStatus(t.Context(), [2]string{"12", "x"}); err == nil {
		t.Error("a status that is none was sent")
	}
}
