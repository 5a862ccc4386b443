package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// trouble keeps a loop that meets the same error every few seconds, for every
// payout of a day, from filling the log with it.
type trouble struct {
	log  *slog.Logger
	said string
	at   time.Time
}

// troubleEvery is how often the same trouble is logged; troubleLines how much of
// it.
const (
	troubleEvery = time.Minute
	troubleLines = 20
)

// met logs an error when it is another one than the last time, or after a minute.
// Without an error the next one is new.
func (t *trouble) met(message string, err error) {
	if err == nil {
		t.said = ""
		return
	}
	text := inShort(err)
	if text == t.said && time.Since(t.at) < troubleEvery {
		return
	}
	t.said, t.at = text, time.Now()
	t.log.Error(message, "error", text)
}

// inShort is what joined errors say, each once, and at most twenty of them.
func inShort(err error) string {
	var lines []string
	times := map[string]int{}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if times[line]++; times[line] == 1 {
			lines = append(lines, line)
		}
	}
	more := len(lines) - troubleLines
	lines = lines[:min(len(lines), troubleLines)]
	for i, line := range lines {
		if n := times[line]; n > 1 {
			lines[i] = fmt.Sprintf("%s (%d times)", line, n)
		}
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}
