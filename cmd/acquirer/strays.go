package main

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/journal"
	"acquirer/routing"
)

// strays writes down the messages of issuers that found no caller: in the log,
// and with the transaction whose RRN they name. A line's reader hands them over
// and does not wait.
type strays struct {
	journal *journal.Journal
	log     *slog.Logger
	came    chan stray
	missed  atomic.Int64 // came while too many waited
	done    sync.WaitGroup
}

// stray is one of them with what is logged and not kept.
type stray struct {
	journal.Stray
	stan, rrn, terminal string
}

func watchStrays(j *journal.Journal, log *slog.Logger) *strays {
	s := &strays{journal: j, log: log, came: make(chan stray, 1024)}
	s.done.Go(func() {
		for one := range s.came {
			s.write(one)
			if n := s.missed.Swap(0); n > 0 {
				s.log.Error("issuers sent more messages without caller than could be written down", "missed", n)
			}
		}
	})
	return s
}

// observe is routing.Config.Observe.
func (s *strays) observe(m routing.Stray) {
	one := stray{journal.Stray{At: time.Now(), Issuer: m.Issuer, Line: m.Line, Kind: string(m.Kind), MTI: m.Message.MTI().String(), Code: m.Message.Text(39)},
		m.Message.Text(11), m.Message.Text(37), m.Message.Text(41)}
	select {
	case s.came <- one:
	default:
		s.missed.Add(1)
	}
}

func (s *strays) write(one stray) {
	level, text := slog.LevelWarn, "a message of the issuer found no caller"
	switch routing.StrayKind(one.Kind) {
	case routing.Mismatch, routing.BadMAC:
		level, text = slog.LevelError, "an answer of the issuer is wrong and was not taken"
	}
	kept := false
	if id, ok := idOfRRN(one.rrn); ok {
		one.Txn = id
		var err error
		if kept, err = s.journal.NoteStray(context.Background(), one.Stray); err != nil {
			s.log.Error("it could not be kept with its transaction", "rrn", one.rrn, "error", err.Error())
		}
	}
	s.log.Log(context.Background(), level, text, "kind", one.Kind, "issuer", one.Issuer, "line", one.Line, "mti", one.MTI, "rc", one.Code,
		"stan", one.stan, "rrn", one.rrn, "terminal", one.terminal, "kept", kept)
}

// close writes down what has come. No line is left that could hand more over.
func (s *strays) close() {
	close(s.came)
	s.done.Wait()
}

// idOfRRN gives the id of the transaction that an RRN of this house names.
func idOfRRN(rrn string) (int64, bool) {
	if len(rrn) != 12 || rrn != strings.ToUpper(rrn) {
		return 0, false
	}
	id, err := strconv.ParseInt(rrn, 36, 64)
	return id, err == nil && id > 0
}
