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
			some := []stray{one}
			for range len(s.came) {
				some = append(some, <-s.came)
			}
			s.write(some)
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

// write keeps and logs some of them.
func (s *strays) write(some []stray) {
	ctx := context.Background()
	var ours []journal.Stray // that name a transaction of this house
	for i := range some {
		if id, ok := idOfRRN(some[i].rrn); ok {
			some[i].Txn = id
			ours = append(ours, some[i].Stray)
		}
	}
	var kept []bool
	if len(ours) > 0 {
		var err error
		if kept, err = s.journal.NoteStrays(ctx, ours); err != nil {
			s.log.Error("messages of issuers could not be kept with their transactions; the next lines tell of them", "error", err.Error())
			kept = make([]bool, len(ours))
		}
	}
	for _, one := range some {
		level, text := slog.LevelWarn, "a message of the issuer found no caller"
		switch routing.StrayKind(one.Kind) {
		case routing.Mismatch, routing.BadMAC:
			level, text = slog.LevelError, "an answer of the issuer is wrong and was not taken"
		}
		stays := false
		if one.Txn != 0 {
			stays, kept = kept[0], kept[1:]
		}
		s.log.Log(ctx, level, text, "kind", one.Kind, "issuer", one.Issuer, "line", one.Line, "mti", one.MTI, "rc", one.Code,
			"stan", one.stan, "rrn", one.rrn, "terminal", one.terminal, "kept", stays)
	}
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
