package relay

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// Row is one measurement of Compare.
type Row struct {
	What string `json:"what"` // echo, relay-moov, relay
	Result
	CPUMicros float64 `json:"cpu_us_per_txn"` // of the relay's process
	MaxRSSKB  int64   `json:"max_rss_kb"`
}

// Compare runs the echo and both relays, each as a process of its own with a
// driver and an issuer beside it, at every number of connections. bin is the
// acquirer binary; told hears of each row as it is there, nil hears nothing.
func Compare(ctx context.Context, bin string, connections []int, lines int, duration time.Duration, told func(Row)) ([]Row, error) {
	var rows []Row
	for _, n := range connections {
		for _, what := range []string{"echo", "relay-moov", "relay"} {
			row, err := measure(ctx, bin, what, n, lines, duration)
			if err != nil {
				return rows, fmt.Errorf("bench: %s at %d connections: %w", what, n, err)
			}
			rows = append(rows, row)
			if told != nil {
				told(row)
			}
		}
	}
	return rows, nil
}

func measure(ctx context.Context, bin, what string, connections, lines int, duration time.Duration) (row Row, err error) {
	bound := (duration + 30*time.Second).String()
	args := []string{"bench", what, "--for", bound}
	if what != "echo" {
		issuer, err := Start(ctx, bin, "bench", "cheap-issuer", "--for", bound)
		if err != nil {
			return row, err
		}
		defer func() {
			_, stopErr := issuer.Stop()
			err = errors.Join(err, stopErr)
		}()
		args = append(args, "--issuer", issuer.Addr, "--lines", strconv.Itoa(lines))
	}
	p, err := Start(ctx, bin, args...)
	if err != nil {
		return row, err
	}
	drive := exec.CommandContext(ctx, bin, "bench", "drive", "--addr", p.Addr, "--connections", strconv.Itoa(connections), "--duration", duration.String())
	drive.Stderr = os.Stderr
	out, err := drive.Output()
	report, stopErr := p.Stop()
	if err = errors.Join(err, stopErr); err != nil {
		return row, err
	}
	row = Row{What: what, CPUMicros: report.CPUMicros, MaxRSSKB: report.MaxRSSKB}
	return row, json.Unmarshal(out, &row.Result)
}

// Process is a bench command that listens.
type Process struct {
	Addr string
	cmd  *exec.Cmd
	out  *bufio.Reader
}

// Start runs a bench command and waits until it listens: its first line of
// output is {"listening":"ADDRESS"}.
func Start(ctx context.Context, bin string, args ...string) (*Process, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, out: bufio.NewReader(pipe)}
	var first struct {
		Listening string `json:"listening"`
	}
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &first)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%v did not say where it listens: %w", args, err), cmd.Process.Kill(), cmd.Wait())
	}
	p.Addr = first.Listening
	return p, nil
}

// Stop ends the command and returns what it reports.
func (p *Process) Stop() (Report, error) {
	var r Report
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	if line, readErr := p.out.ReadBytes('\n'); readErr == nil {
		err = errors.Join(err, json.Unmarshal(line, &r))
	} else {
		err = errors.Join(err, readErr)
	}
	return r, errors.Join(err, p.cmd.Wait())
}
