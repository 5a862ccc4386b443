package terminal

import (
	"context"
	"net"
)

func pipe(c net.Conn) Dialer { return func(context.Context) (net.Conn, error) { return c, nil } }

func failing(err error) Dialer { return func(context.Context) (net.Conn, error) { return nil, err } }

// closingAfter dials a line that ends after n bytes were read from it.
func closingAfter(d Dialer, n int) Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := d(ctx)
		return &cutConn{Conn: c, left: n}, err
	}
}

type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}
