package switching

import (
	"context"
	"errors"
	"time"

	"acquirer/download"
	"acquirer/hsm"
	"acquirer/spec"
)

// What terminals download and upload besides money (DE 60.3 360 to 395). All
// of it is management: without MAC, and the answer carries DE 62 and what else
// captures show (12 13 37 39 41 42 60), DE 11 only for who sent one.

// answerDownload answers with rc and, when it approves, DE 62.
func (s *Switch) answerDownload(w *work, rc ResponseCode, de62 []byte) {
	s.demand(w)
	w.rep.Reset(w.dialect, w.req.MTI().Response())
	w.rep.Copy(&w.req, 11)
	setHostTime(&w.rep, w.started)
	w.rep.Set(37, rrnOf(w.id()))
	w.rep.Set(39, string(rc))
	w.rep.Copy(&w.req, 41, 42, 60)
	if rc == RCApproved && de62 != nil {
		w.rep.SetBytes(62, de62)
	}
	w.rc = rc
	s.pack(w)
}

// demand puts into the answer's header what the terminal is to do next.
func (s *Switch) demand(w *work) {
	if w.terminal != nil && w.demand == spec.DemandNothing {
		w.demand = s.downloads.Demand(w.terminal.TID, w.terminal.MID)
	}
}

// obeyed takes an operator's demand back that the terminal has fulfilled.
func (s *Switch) obeyed(ctx context.Context, w *work, d spec.Demand) {
	step, cancel := s.storeContext(ctx)
	defer cancel()
	if err := s.downloads.Done(step, w.terminal.TID, d); err != nil {
		s.log.Error("a fulfilled demand could not be taken back; the terminal is asked again", "terminal", w.terminal.TID, "error", err.Error())
	}
}

// serveDownload answers with what find makes of DE 62. What cannot be read is
// answered 30, what the store or the HSM could not do 96.
func (s *Switch) serveDownload(ctx context.Context, w *work, find func(ctx context.Context, de62 []byte) ([]byte, error)) {
	if rc := s.mayWork(w); rc != RCApproved {
		s.answerDownload(w, rc, nil)
		return
	}
	step, cancel := s.storeContext(ctx)
	defer cancel()
	de62, err := find(step, w.req.Bytes(62))
	switch {
	case errors.Is(err, spec.ErrDownload):
		s.log.Warn("download refused", "type", w.kind, "terminal", w.terminal.TID, "why", err.Error())
		s.answerDownload(w, RCFormat, nil)
	case err != nil:
		s.log.Error("download failed; answered 96", "type", w.kind, "terminal", w.terminal.TID, "error", err.Error())
		s.answerDownload(w, RCMalfunction, nil)
	default:
		s.answerDownload(w, RCApproved, de62)
	}
}

// beginDownload remembers what the terminal begins to download.
func (s *Switch) beginDownload(ctx context.Context, w *work, k download.Kind) error {
	return s.downloads.Begin(ctx, k, w.terminal.TID, w.terminal.MID)
}

// servePage answers a query with the page that its offset names; with the
// first one the download begins.
func (s *Switch) servePage(ctx context.Context, w *work, k download.Kind, page func(ctx context.Context, offset int) ([]byte, error)) {
	s.serveDownload(ctx, w, func(ctx context.Context, de62 []byte) ([]byte, error) {
		offset, err := spec.ParseOffset(de62)
		if err != nil {
			return nil, err
		}
		if offset == 0 {
			if err := s.beginDownload(ctx, w, k); err != nil {
				return nil, err
			}
		}
		return page(ctx, offset)
	})
}

// endDownload records that the terminal has what it downloaded.
func (s *Switch) endDownload(ctx context.Context, w *work, k download.Kind) {
	s.serveDownload(ctx, w, func(ctx context.Context, _ []byte) ([]byte, error) {
		return nil, s.downloads.End(ctx, k, w.terminal.TID)
	})
}

// parameterDownload gives the terminal its parameters (0800, 360).
func (s *Switch) parameterDownload(ctx context.Context, w *work) {
	s.serveDownload(ctx, w, func(ctx context.Context, _ []byte) ([]byte, error) {
		if err := s.beginDownload(ctx, w, download.Parameters); err != nil {
			return nil, err
		}
		return s.downloads.Parameters(w.terminal.TID, w.terminal.MID, w.merchant.Name)
	})
}

// parameterEnd: the terminal has them (0800, 361).
func (s *Switch) parameterEnd(ctx context.Context, w *work) {
	s.endDownload(ctx, w, download.Parameters)
}

// statusUpload keeps what the terminal says of itself (0820, 362).
func (s *Switch) statusUpload(ctx context.Context, w *work) {
	s.serveDownload(ctx, w, func(ctx context.Context, de62 []byte) ([]byte, error) {
		return nil, s.downloads.SaveStatus(ctx, w.terminal.TID, de62, time.Now())
	})
}

// capkQuery lists the CA keys (0820, 372).
func (s *Switch) capkQuery(ctx context.Context, w *work) {
	s.servePage(ctx, w, download.CAKeys, func(_ context.Context, offset int) ([]byte, error) { return s.downloads.CAKeyPage(offset), nil })
}

// capkDownload gives one CA key (0800, 370).
func (s *Switch) capkDownload(ctx context.Context, w *work) {
	s.serveDownload(ctx, w, func(_ context.Context, de62 []byte) ([]byte, error) {
		id, err := spec.ParseCAKeyID(de62)
		if err != nil {
			return nil, err
		}
		return s.downloads.CAKey(id), nil
	})
}

// capkEnd: the terminal has them all (0800, 371).
func (s *Switch) capkEnd(ctx context.Context, w *work) { s.endDownload(ctx, w, download.CAKeys) }

// aidQuery lists the chip applications (0820, 382).
func (s *Switch) aidQuery(ctx context.Context, w *work) {
	s.servePage(ctx, w, download.Applications, func(_ context.Context, offset int) ([]byte, error) { return s.downloads.AIDPage(offset), nil })
}

// aidDownload gives one chip application (0800, 380).
func (s *Switch) aidDownload(ctx context.Context, w *work) {
	s.serveDownload(ctx, w, func(_ context.Context, de62 []byte) ([]byte, error) {
		aid, err := spec.ParseAID(de62)
		if err != nil {
			return nil, err
		}
		return s.downloads.AID(aid), nil
	})
}

// aidEnd: the terminal has them all (0800, 381).
func (s *Switch) aidEnd(ctx context.Context, w *work) { s.endDownload(ctx, w, download.Applications) }

// blackListDownload gives a page of the black list (0800, 390). The card
// numbers on it travel in the clear: terminals keep them to refuse cards
// without asking, and the line is the place to protect them (TLS).
func (s *Switch) blackListDownload(ctx context.Context, w *work) {
	s.servePage(ctx, w, download.BlackList, s.downloads.BlackList)
}

// blackListEnd: the terminal has it (0800, 391).
func (s *Switch) blackListEnd(ctx context.Context, w *work) {
	s.endDownload(ctx, w, download.BlackList)
}

// qpsDownload gives the contactless limits (0800, 394).
func (s *Switch) qpsDownload(ctx context.Context, w *work) {
	s.serveDownload(ctx, w, func(ctx context.Context, _ []byte) ([]byte, error) {
		if err := s.beginDownload(ctx, w, download.Limits); err != nil {
			return nil, err
		}
		return s.downloads.QPS(w.terminal.TID, w.terminal.MID)
	})
}

// qpsEnd: the terminal has them (0800, 395).
func (s *Switch) qpsEnd(ctx context.Context, w *work) { s.endDownload(ctx, w, download.Limits) }

// CardVault seals the card numbers of the black list under the house's data
// key and makes their tokens under its token key: the same as the journal's,
// so that one token of a card finds it in both.
type CardVault struct {
	hsm               hsm.HSM
	dataKey, tokenKey hsm.Key
}

// NewCardVault takes the keys of House.
func NewCardVault(h hsm.HSM, dataKey, tokenKey hsm.Key) *CardVault {
	return &CardVault{h, dataKey, tokenKey}
}

// Seal implements download.Vault.
func (v *CardVault) Seal(ctx context.Context, number string) (sealed []byte, token [16]byte, err error) {
	if token, err = v.hsm.Token(ctx, v.tokenKey, []byte(number)); err != nil {
		return nil, token, err
	}
	sealed, err = v.hsm.Encrypt(ctx, v.dataKey, blackListAAD(token), []byte(number))
	return sealed, token, err
}

// Open implements download.Vault.
func (v *CardVault) Open(ctx context.Context, sealed []byte, token [16]byte) (string, error) {
	clear, err := v.hsm.Decrypt(ctx, v.dataKey, blackListAAD(token), sealed)
	return string(clear), err
}

func blackListAAD(token [16]byte) []byte { return append([]byte("black list "), token[:]...) }
