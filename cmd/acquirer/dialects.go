package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"acquirer/spec"
	switching "acquirer/switch"
)

// dialectListener is one entry of terminals.dialects: where terminals of a
// dialect connect.
type dialectListener struct {
	addr    string
	dialect *spec.Dialect
}

// parseDialects reads ADDR=NAME_OR_FILE,... and loads what it names. What is
// wrong in a file is told with its line.
func parseDialects(text string) ([]dialectListener, error) {
	var out []dialectListener
	for entry := range strings.SplitSeq(text, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		addr, name, ok := strings.Cut(entry, "=")
		if _, _, err := net.SplitHostPort(addr); !ok || err != nil {
			return nil, fmt.Errorf("%q is not HOST:PORT=DIALECT, with a dialect's name or file", entry)
		}
		d, err := spec.Load(name)
		if err == nil {
			err = switching.Servable(d)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, dialectListener{addr, d})
	}
	return out, nil
}

// listenDialects opens the listeners of terminals.dialects; it opens all of
// them or none.
func listenDialects(text string, log *slog.Logger) ([]dialectListener, []net.Listener, error) {
	entries, err := parseDialects(text)
	if err != nil {
		return nil, nil, fmt.Errorf("terminals.dialects: %w", err)
	}
	var open []net.Listener
	for _, e := range entries {
		l, err := net.Listen("tcp", e.addr)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("terminals.dialects: %w", err), closeListeners(open))
		}
		open = append(open, l)
		if names := switching.Unsigned(e.dialect); len(names) > 0 {
			log.Warn("no MAC protects some messages of a dialect: keep its terminals behind TLS or on a line of their own",
				"dialect", e.dialect.Name(), "address", l.Addr().String(), "messages", strings.Join(names, " "))
		}
	}
	return entries, open, nil
}

func closeListeners(open []net.Listener) (err error) {
	for _, l := range open {
		err = errors.Join(err, l.Close())
	}
	return err
}

// serveDialects serves each listener in the background and returns the name of
// its dialect by its address.
func serveDialects(ctx context.Context, sw *switching.Switch, entries []dialectListener, open []net.Listener, background func(string, func() error)) map[string]string {
	at := map[string]string{}
	for i, e := range entries {
		at[open[i].Addr().String()] = e.dialect.Name()
		background("terminals of "+e.dialect.Name(), func() error { return sw.ServeDialect(ctx, open[i], e.dialect) })
	}
	return at
}
